//! What the kernel itself says of the demo's cluster: limits of a lease, who lives in it, what is left at the end.

use crate::cost;
use crate::leaks::{self, Marks, Snapshot};
use crate::local::Local;
use crate::procs;
use grid_types::{Bytes, MilliCpu, Resources};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is there after this is left.
const LEFT_WITHIN: Duration = Duration::from_secs(10);

/// The limits of the control group at `path` below the mounted hierarchies, and the files that say so.
pub(super) fn limits(path: &str) -> Result<(Resources, String), String> {
    let read = |file: &str| hierarchies().iter().find_map(|root| fs::read_to_string(root.join(path).join(file)).ok());
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let (cpu, cpu_said) = match (read("cpu.max"), read("cpu.cfs_quota_us"), read("cpu.cfs_period_us")) {
        (Some(max), _, _) => {
            let (quota, period) = max.trim().split_once(' ').unwrap_or_default();
            (number(quota).zip(number(period)), format!("cpu.max {}", max.trim()))
        }
        (None, Some(quota), Some(period)) => {
            let said = format!("cpu.cfs_quota_us {} of {}", quota.trim(), period.trim());
            (number(&quota).zip(number(&period)), said)
        }
        _ => return Err(format!("no control group {path} has a CPU limit")),
    };
    let (memory, file) = match read("memory.max") {
        Some(max) => (max, "memory.max"),
        None => (read("memory.limit_in_bytes").unwrap_or_default(), "memory.limit_in_bytes"),
    };
    let (quota, period) = cpu.ok_or_else(|| format!("control group {path}: {cpu_said}"))?;
    let bytes = memory.trim().parse().map_err(|_| format!("control group {path}: {file} {memory:?}"))?;
    let limits = Resources { cpu: MilliCpu((quota * 1000.0 / period).round() as u32), memory: Bytes(bytes), gpu: 0 };
    Ok((limits, format!("{cpu_said}, {file} {}", memory.trim())))
}

fn hierarchies() -> Vec<PathBuf> {
    leaks::cgroup_roots().into_iter().map(PathBuf::from).collect()
}

/// Numbers, as seen here, of the processes in control groups below `path`.
pub(super) fn members(path: &str) -> Vec<i32> {
    let lives_there = |pid: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        text.lines().filter_map(|l| l.splitn(3, ':').nth(2)).any(|at| at.trim_start_matches('/').starts_with(path))
    };
    cost::pids().into_iter().filter(lives_there).collect()
}

/// A process of a control group that runs with this argument.
pub(super) fn lives_in(path: &str, argument: &Path) -> Option<i32> {
    let argument = argument.to_string_lossy();
    members(path).into_iter().find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|b| *b == 0).any(|word| word == argument.as_bytes())
    })
}

/// A namespace, as `/proc/PID/ns` names it: `mnt:[4026532337]`.
type Namespace = String;

/// The namespaces that these processes live in and we do not.
fn namespaces(pids: &[i32]) -> BTreeSet<Namespace> {
    let own: BTreeSet<Namespace> = of_process("self").collect();
    pids.iter().flat_map(|pid| of_process(&pid.to_string())).filter(|ns| !own.contains(ns)).collect()
}

fn of_process(pid: &str) -> impl Iterator<Item = Namespace> + use<> {
    let entries = fs::read_dir(format!("/proc/{pid}/ns")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
}

/// What is left of the cluster.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// Everything, in words.
    pub(super) what: Vec<String>,
    /// How many of it are processes, namespaces, mounts, control groups, links.
    pub(super) counts: [usize; 5],
}

/// What carries the cluster's names or its folder, and which of its namespaces still have a process.
///
/// The kernel gives a namespace's number to the next one that is made, so a process that began after the cluster's end
/// says nothing about the cluster's namespaces.
pub(super) struct Trace {
    marks: Marks,
    namespaces: BTreeSet<Namespace>,
}

/// Processes at one moment, by number and start time.
pub(super) type Census = BTreeSet<(i32, u64)>;

/// All processes of the machine.
pub(super) fn census() -> Census {
    cost::pids().into_iter().filter_map(|pid| Some((pid, procs::start_ticks(pid)?))).collect()
}

impl Trace {
    /// Notes what is to be looked for, while the cluster is up.
    pub(super) fn note(local: &Local, dir: &Path) -> Result<Self, String> {
        let names = local.names()?;
        let dir = dir.to_string_lossy().into_owned();
        let namespaces = namespaces(&members(&names.cgroup));
        let mut named = names.links;
        named.extend([names.cgroup, dir.clone()]);
        Ok(Self { marks: Marks { names: named, programs: vec![], arguments: vec![dir] }, namespaces })
    }

    /// Notes the namespaces of these processes too.
    pub(super) fn add_namespaces(&mut self, pids: &[i32]) {
        self.namespaces.extend(namespaces(pids));
    }

    /// Looks until nothing is left, or some seconds have passed: the workers' first processes are the machine's init's
    /// to reap, which may take its time. `before` are the processes before the cluster's end.
    pub(super) fn left(&self, before: &Census) -> Left {
        let start = Instant::now();
        let mut what = self.seen(before);
        while !what.is_empty() && start.elapsed() < LEFT_WITHIN {
            std::thread::sleep(Duration::from_millis(50));
            what = self.seen(before);
        }
        let count = |kinds: &[&str]| what.iter().filter(|w| kinds.iter().any(|kind| w.starts_with(kind))).count();
        let counts = [
            count(&["process "]),
            count(&["namespace ", "network namespace "]),
            count(&["mount "]),
            count(&["cgroup "]),
            count(&["network link "]),
        ];
        Left { what, counts }
    }

    fn seen(&self, before: &Census) -> Vec<String> {
        let mut what = Snapshot::take(&self.marks).since(&Snapshot::default()).0;
        for (pid, _) in census().intersection(before) {
            let held = namespaces(&[*pid]);
            let who = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let held = held.intersection(&self.namespaces);
            what.extend(held.map(|ns| format!("namespace {ns}, in which {pid} ({}) lives", who.trim())));
        }
        what
    }

    /// How many namespaces were noted.
    pub(super) fn namespaces(&self) -> usize {
        self.namespaces.len()
    }
}
