//! The level of each resource, 0 (idle) to 1 (all in use or stalled).
//!
//! ```text
//! cpu     max( used / total , some_avg10 )                    some: part of the time in which a task waited
//! memory  max( 1 − available / total , 4 × some_avg10 , 8 × full_avg10 )
//! gpu     max over devices of max( utilization , used / total )
//! ```
//!
//! A task that waits for memory a fifth of the time, or all tasks a tenth of it, is a machine that thrashes, whatever
//! `MemAvailable` says: hence the factors (PSI: Documentation/accounting/psi.rst). A maximum of monotonic terms is
//! monotonic; a term that is unknown is left out, and a level without any term is unknown.

use crate::plan::Resource;
use grid_types::facts::{GpuFacts, Gpus, NodeFacts};

/// Levels at one moment; `None` where nothing is known, which is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Levels {
    /// CPU.
    pub cpu: Option<f64>,
    /// Memory.
    pub memory: Option<f64>,
    /// GPUs; 0 where there is none.
    pub gpu: Option<f64>,
    /// Memory in use alone, without stalls: what "critical" is measured by.
    pub memory_used: Option<f64>,
}

impl Levels {
    /// The level of one resource.
    pub fn of(&self, resource: Resource) -> Option<f64> {
        match resource {
            Resource::Cpu => self.cpu,
            Resource::Memory => self.memory,
            Resource::Gpu => self.gpu,
        }
    }
}

/// The levels of a node's facts.
pub fn levels(f: &NodeFacts) -> Levels {
    let cpu = worst([
        f.cpu_used.and_then(|u| part(u.0.into(), f.cpu_total.0.into())),
        f.psi_cpu.map(|p| p.some_avg10 / 100.0),
    ]);
    let memory_used = part(f.memory_total.0.saturating_sub(f.memory_available.0), f.memory_total.0);
    let memory = worst([
        memory_used,
        f.psi_memory.map(|p| 4.0 * p.some_avg10 / 100.0),
        f.psi_memory.map(|p| 8.0 * p.full_avg10 / 100.0),
    ]);
    let gpu = match &f.gpus {
        Gpus::None => Some(0.0),
        Gpus::Unknown(_) => None,
        Gpus::Present(devices) => Some(devices.iter().map(device).fold(0.0, f64::max)),
    };
    Levels { cpu, memory, gpu, memory_used }
}

fn device(g: &GpuFacts) -> f64 {
    let memory = part(g.memory_used.0, g.memory_total.0);
    worst([Some(f64::from(g.utilization_percent) / 100.0), memory]).unwrap_or_default()
}

fn part(used: u64, total: u64) -> Option<f64> {
    (total > 0).then(|| used as f64 / total as f64)
}

fn worst<const N: usize>(terms: [Option<f64>; N]) -> Option<f64> {
    terms.into_iter().flatten().filter(|t| t.is_finite()).map(|t| t.clamp(0.0, 1.0)).reduce(f64::max)
}

/// D3's mean pressure: over the known CPU and memory levels of `nodes`, and GPU levels of those that have GPUs in use;
/// none where nothing is known.
pub fn mean<'a>(nodes: impl IntoIterator<Item = &'a Levels>) -> Option<f64> {
    let known: Vec<f64> =
        nodes.into_iter().flat_map(|l| [l.cpu, l.memory, l.gpu.filter(|g| *g > 0.0)]).flatten().collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}
