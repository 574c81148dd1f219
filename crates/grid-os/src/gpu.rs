//! GPUs through NVIDIA's management library, loaded at run time.
//!
//! No driver is an answer ([`Gpus::None`]); a driver that does not answer is [`Gpus::Unknown`], never "idle". It never
//! changes anything on a device.

use grid_types::facts::{GpuFacts, Gpus, TreeFacts};
use grid_types::units::Bytes;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

/// The library as drivers install it; the name without a number comes with development packages only.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// Present while the kernel module is loaded.
const MODULE: &str = "/proc/driver/nvidia/version";

/// A connection to the driver, kept open: opening it costs far more than a reading.
#[derive(Debug)]
pub struct GpuReader(Driver);

#[derive(Debug)]
enum Driver {
    Absent,
    Failing(String),
    Open(Box<Nvml>),
}

impl GpuReader {
    /// Looks for a driver.
    pub fn open() -> Self {
        Self(match Nvml::builder().lib_path(OsStr::new(LIBRARY)).init() {
            Ok(nvml) => Driver::Open(Box::new(nvml)),
            Err(e) => of_error(&e, Path::new(MODULE).exists()),
        })
    }

    /// The devices now.
    pub fn read(&self) -> Gpus {
        match &self.0 {
            Driver::Absent => Gpus::None,
            Driver::Failing(why) => Gpus::Unknown(why.clone()),
            Driver::Open(nvml) => devices(nvml).map_or_else(|e| Gpus::Unknown(e.to_string()), Gpus::Present),
        }
    }

    /// GPU memory of each process, over all devices; empty without a driver. A process whose memory the driver does not
    /// tell is there with 0: it uses a GPU. An error means unknown.
    pub fn processes(&self) -> Result<BTreeMap<i32, Bytes>, String> {
        match &self.0 {
            Driver::Absent => Ok(BTreeMap::new()),
            Driver::Failing(why) => Err(why.clone()),
            Driver::Open(nvml) => users(nvml).map_err(|e| e.to_string()),
        }
    }
}

/// Notes the GPU memory of each member of a tree.
pub fn attribute(tree: &mut TreeFacts, processes: &BTreeMap<i32, Bytes>) {
    for member in std::iter::once(&mut tree.root).chain(tree.descendants.iter_mut()) {
        if let Some(deep) = member.deep.as_mut() {
            deep.gpu_memory = processes.get(&member.stat.id.pid).copied();
        }
    }
}

/// What a failed start means: without the kernel's module there simply is no driver.
fn of_error(error: &NvmlError, module_loaded: bool) -> Driver {
    match error {
        NvmlError::DriverNotLoaded => Driver::Absent,
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound if !module_loaded => Driver::Absent,
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => {
            Driver::Failing(format!("the NVIDIA module is loaded and {LIBRARY} is not found"))
        }
        other => Driver::Failing(other.to_string()),
    }
}

fn devices(nvml: &Nvml) -> Result<Vec<GpuFacts>, NvmlError> {
    (0..nvml.device_count()?).map(|index| facts(index, &nvml.device_by_index(index)?)).collect()
}

fn facts(index: u32, device: &Device<'_>) -> Result<GpuFacts, NvmlError> {
    let memory = device.memory_info()?;
    Ok(GpuFacts {
        index,
        name: device.name()?,
        memory_total: Bytes(memory.total),
        memory_used: Bytes(memory.used),
        utilization_percent: device.utilization_rates()?.gpu,
    })
}

fn users(nvml: &Nvml) -> Result<BTreeMap<i32, Bytes>, NvmlError> {
    let mut all = BTreeMap::<i32, Bytes>::new();
    for index in 0..nvml.device_count()? {
        let device = nvml.device_by_index(index)?;
        // A process that both computes and draws is in both lists with the same figure.
        let mut here = BTreeMap::<i32, u64>::new();
        for p in device.running_compute_processes()?.into_iter().chain(device.running_graphics_processes()?) {
            let bytes = match p.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => bytes,
                UsedGpuMemory::Unavailable => 0,
            };
            let seen = here.entry(i32::try_from(p.pid).unwrap_or(0)).or_default();
            *seen = bytes.max(*seen);
        }
        here.into_iter().for_each(|(pid, bytes)| all.entry(pid).or_default().0 += bytes);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_driver_is_none_and_a_failing_one_is_unknown() {
        let read = |driver| GpuReader(driver).read();
        assert_eq!(read(of_error(&NvmlError::DriverNotLoaded, false)), Gpus::None);
        assert_eq!(read(of_error(&NvmlError::LibraryNotFound, false)), Gpus::None);
        assert!(matches!(read(of_error(&NvmlError::LibraryNotFound, true)), Gpus::Unknown(_)));
        assert!(matches!(read(of_error(&NvmlError::GpuLost, true)), Gpus::Unknown(_)));
        assert!(GpuReader(of_error(&NvmlError::GpuLost, true)).processes().is_err());
        assert_eq!(GpuReader(Driver::Absent).processes(), Ok(BTreeMap::new()));
    }

    #[test]
    fn this_machine_gives_some_answer() {
        let reader = GpuReader::open();
        assert_eq!(matches!(reader.read(), Gpus::None), !Path::new(MODULE).exists());
    }
}
