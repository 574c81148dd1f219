//! What this node has and uses: CPU, load, memory, swap, pressure.
//!
//! A node is the machine, or the control group that bounds it: where a group is given, its limits and its use are the
//! node's. CPU in use is the difference between two readings, so it is unknown at the first. It decides nothing.

mod group;

pub use group::NodeCgroup;

use crate::clock;
use grid_types::facts::{Gpus, NodeFacts, Psi};
use grid_types::ids::NodeName;
use grid_types::units::{BootMs, Bytes, MilliCpu};
use std::path::{Path, PathBuf};

/// A fact about the node that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// File.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file was read and not understood.
    #[error("cannot make sense of {path}: {what}")]
    Parse {
        /// File.
        path: PathBuf,
        /// What was expected.
        what: &'static str,
    },
    /// The boot could not be told.
    #[error(transparent)]
    Clock(#[from] clock::ClockError),
}

/// Reads the facts of a node again and again.
#[derive(Debug)]
pub struct NodeReader {
    proc: PathBuf,
    group: Option<NodeCgroup>,
    boot_id: String,
    last: Option<CpuReading>,
}

/// CPU time used so far, and when.
#[derive(Clone, Copy, Debug)]
struct CpuReading {
    at_ns: u64,
    used_ns: u64,
}

/// `/proc/stat`.
struct CpuTimes {
    cpus: u32,
    used_ns: u64,
}

impl NodeReader {
    /// A reader of the whole machine, or of the control group that bounds the node.
    pub fn new(group: Option<NodeCgroup>) -> Result<Self, NodeError> {
        Self::under("/proc", group)
    }

    /// [`NodeReader::new`] with another root than `/proc`.
    pub fn under(proc: impl Into<PathBuf>, group: Option<NodeCgroup>) -> Result<Self, NodeError> {
        let proc = proc.into();
        let boot_id = clock::boot_id_under(&proc)?;
        Ok(Self { proc, group, boot_id, last: None })
    }

    /// The facts now. `gpus` come from [`GpuReader::read`](crate::gpu::GpuReader::read).
    pub fn read(&mut self, node: &NodeName, gpus: Gpus) -> Result<NodeFacts, NodeError> {
        let at_ns = clock::boot_ns();
        let times = self.cpu_times()?;
        let all = MilliCpu(times.cpus * 1000);
        let used_ns = match &self.group {
            Some(group) => group.cpu_used_ns()?,
            None => times.used_ns,
        };
        let limit = self.group.as_ref().map_or(Ok(None), NodeCgroup::cpu_limit)?;
        let memory = self.memory()?;
        let facts = NodeFacts {
            node: node.clone(),
            boot_id: self.boot_id.clone(),
            at: BootMs(at_ns / 1_000_000),
            // A group may be given more than is online: then that is the node's size, and its CPUs are shared.
            cpu_total: limit.unwrap_or(all),
            cpu_used: self.last.and_then(|last| used_since(last, CpuReading { at_ns, used_ns })),
            load1: self.load1(),
            memory_total: memory.total,
            memory_available: memory.available,
            swap_total: memory.swap_total,
            swap_used: memory.swap_used,
            psi_cpu: self.psi("cpu"),
            psi_memory: self.psi("memory"),
            psi_io: self.psi("io"),
            gpus,
            lending: None,
            link: None,
        };
        self.last = Some(CpuReading { at_ns, used_ns });
        Ok(facts)
    }

    fn cpu_times(&self) -> Result<CpuTimes, NodeError> {
        let path = self.proc.join("stat");
        let text = read(&path)?;
        let times = parse_stat(&text, ns_per_tick());
        times.ok_or(NodeError::Parse { path, what: "a line of CPU times" })
    }

    fn load1(&self) -> Option<f64> {
        read(&self.proc.join("loadavg")).ok()?.split(' ').next()?.parse().ok()
    }

    fn psi(&self, resource: &str) -> Option<Psi> {
        parse_psi(&read(&self.proc.join("pressure").join(resource)).ok()?)
    }

    /// What new work on the whole machine could have without swapping, whatever bounds the node.
    pub fn machine_available(&self) -> Result<Bytes, NodeError> {
        self.machine().map(|memory| memory.available)
    }

    fn machine(&self) -> Result<Memory, NodeError> {
        let path = self.proc.join("meminfo");
        parse_meminfo(&read(&path)?).ok_or(NodeError::Parse { path, what: "MemTotal and MemAvailable" })
    }

    fn memory(&self) -> Result<Memory, NodeError> {
        let whole = self.machine()?;
        let Some(group) = &self.group else { return Ok(whole) };
        let Some(limit) = group.memory_limit()?.filter(|l| *l < whole.total) else { return Ok(whole) };
        let left = Bytes(limit.0.saturating_sub(group.memory_used()?.0));
        Ok(Memory { total: limit, available: left.min(whole.available), ..whole })
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Memory {
    total: Bytes,
    available: Bytes,
    swap_total: Bytes,
    swap_used: Bytes,
}

/// Reads a kernel file as text.
fn read(path: &Path) -> Result<String, NodeError> {
    std::fs::read_to_string(path).map_err(|source| NodeError::Read { path: path.to_owned(), source })
}

fn ns_per_tick() -> u64 {
    use nix::unistd::{SysconfVar, sysconf};
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|n| u64::try_from(n).ok());
    1_000_000_000 / ticks.filter(|t| *t > 0).unwrap_or(100)
}

/// Everything but idle and iowait, proc_stat(5); guests are within user and nice already.
fn parse_stat(text: &str, ns_per_tick: u64) -> Option<CpuTimes> {
    let sum = text.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = sum.split_ascii_whitespace().filter_map(|w| w.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = fields[..] else { return None };
    let cpus = text.lines().filter(|l| l.starts_with("cpu") && !l.starts_with("cpu ")).count();
    // Stolen time is not ours to use, so it counts as used.
    Some(CpuTimes { cpus: cpus as u32, used_ns: (user + nice + system + irq + softirq + steal) * ns_per_tick })
}

/// CPU time of processes, in nanoseconds: interrupts and what a hypervisor took are nobody's work.
pub(crate) fn own_work_ns(proc: &Path) -> Result<u64, NodeError> {
    let path = proc.join("stat");
    parse_work(&read(&path)?, ns_per_tick()).ok_or(NodeError::Parse { path, what: "a line of CPU times" })
}

fn parse_work(text: &str, ns_per_tick: u64) -> Option<u64> {
    let mut fields = text.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let mut next = || fields.next()?.parse::<u64>().ok();
    let (user, nice, system) = (next()?, next()?, next()?);
    Some((user + nice + system) * ns_per_tick)
}

fn used_since(last: CpuReading, now: CpuReading) -> Option<MilliCpu> {
    let span = now.at_ns.checked_sub(last.at_ns).filter(|s| *s > 0)?;
    let used = u128::from(now.used_ns.saturating_sub(last.used_ns));
    Some(MilliCpu(u32::try_from(used * 1000 / u128::from(span)).unwrap_or(u32::MAX)))
}

fn parse_meminfo(text: &str) -> Option<Memory> {
    let kib = |key: &str| {
        let value = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
        Some(value.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    let (swap_total, swap_free) = (kib("SwapTotal").unwrap_or(0), kib("SwapFree").unwrap_or(0));
    Some(Memory {
        total: Bytes(kib("MemTotal")?),
        available: Bytes(kib("MemAvailable")?),
        swap_total: Bytes(swap_total),
        swap_used: Bytes(swap_total.saturating_sub(swap_free)),
    })
}

/// `some avg10=0.50 …` and, but for CPU on older kernels, `full avg10=…`.
fn parse_psi(text: &str) -> Option<Psi> {
    let avg10 = |kind: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(kind))?;
        line.split_ascii_whitespace().find_map(|w| w.strip_prefix("avg10="))?.parse::<f64>().ok()
    };
    Some(Psi { some_avg10: avg10("some ")?, full_avg10: avg10("full ").unwrap_or(0.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_cpus_memory_and_at_the_second_reading_use() {
        let mut reader = NodeReader::new(None).unwrap();
        let node = NodeName::new("n");
        let first = reader.read(&node, Gpus::None).unwrap();
        assert!(first.cpu_used.is_none() && first.cpu_total.0 >= 1000);
        assert!(first.memory_total > first.memory_available && first.load1.is_some());
        std::thread::sleep(std::time::Duration::from_millis(50));
        let second = reader.read(&node, Gpus::None).unwrap();
        assert!(second.cpu_used.unwrap().0 <= second.cpu_total.0 + 500, "{:?}", second.cpu_used);
    }

    #[test]
    fn idle_time_is_not_used_and_cpus_are_counted() {
        let times = parse_stat("cpu  10 1 5 1000 50 1 1 2 7 0\ncpu0 1\ncpu1 1\nintr 5\n", 10_000_000).unwrap();
        assert_eq!((times.cpus, times.used_ns), (2, 20 * 10_000_000));
        assert!(parse_stat("intr 5\n", 1).is_none());
    }

    #[test]
    fn interrupts_are_no_work_of_processes() {
        assert_eq!(parse_work("cpu  10 1 5 1000 50 1 1 2 7 0\ncpu0 1\n", 10), Some(160));
        assert_eq!(parse_work("cpu  10 1\n", 10), None);
    }

    #[test]
    fn pressure_may_lack_its_full_line() {
        let psi = parse_psi("some avg10=1.50 avg60=0.53 avg300=0.39 total=6\n").unwrap();
        assert_eq!((psi.some_avg10, psi.full_avg10), (1.5, 0.0));
        assert_eq!(parse_psi(""), None);
    }

    #[test]
    fn memory_needs_its_two_lines() {
        let memory = parse_meminfo("MemTotal: 100 kB\nMemAvailable: 40 kB\nSwapTotal: 8 kB\nSwapFree: 2 kB\n").unwrap();
        assert_eq!((memory.available, memory.swap_used), (Bytes(40 * 1024), Bytes(6 * 1024)));
        assert!(parse_meminfo("MemTotal: 100 kB\n").is_none());
    }
}
