//! How hard a move is, how sure the detector is, and what the process may notice.

use grid_types::facts::{FdKind, ProcDeep, TreeFacts};
use grid_types::plan::Complexity;
use grid_types::policy::ProcessKind;
use grid_types::reason::Reason;
use grid_types::units::Bytes;

/// From here on a move is medium …
const MEDIUM_MEMORY: Bytes = Bytes(4 << 30);
/// … and from here on high.
const HIGH_MEMORY: Bytes = Bytes(32 << 30);
/// More members than this are high.
const HIGH_PROCESSES: usize = 16;

fn deeps(tree: &TreeFacts) -> impl Iterator<Item = &ProcDeep> {
    tree.all().filter_map(|p| p.deep.as_ref())
}

/// Low: one process, plain files. High: a GPU, a crowd, very much memory.
pub(super) fn complexity(tree: &TreeFacts, memory: Bytes) -> Complexity {
    let processes = tree.all().count();
    let high = |d: &ProcDeep| d.gpu_memory.is_some();
    let medium_fd = |k: &FdKind| {
        use FdKind::{Fifo, File, MemFd, TcpListen, Unix};
        matches!(k, Fifo { .. } | MemFd | TcpListen { .. } | Unix { .. } | File { deleted: true, .. })
    };
    let medium = |d: &ProcDeep| {
        d.fds.iter().any(|f| medium_fd(&f.kind))
            || d.mapped_files.iter().any(|f| is_deleted(Some(f)))
            || !d.shared_maps.is_empty()
            || is_deleted(d.exe.as_deref())
            || d.ns_pids.len() > 1
    };
    if deeps(tree).any(high) || processes > HIGH_PROCESSES || memory >= HIGH_MEMORY {
        Complexity::High
    } else if processes > 1 || memory >= MEDIUM_MEMORY || deeps(tree).any(medium) {
        Complexity::Medium
    } else {
        Complexity::Low
    }
}

fn is_deleted(path: Option<&str>) -> bool {
    path.is_some_and(|p| p.ends_with(" (deleted)"))
}

/// 0 where it cannot move. Else by complexity, less for kinds that gain less from a move, and less while CPU is unknown.
pub(super) fn confidence(
    tree: &TreeFacts,
    kind: ProcessKind,
    complexity: Complexity,
    cannot: Option<&[Reason]>,
) -> f64 {
    if cannot.is_none_or(|r| !r.is_empty()) {
        return 0.0;
    }
    let by_complexity = match complexity {
        Complexity::Low => 0.95,
        Complexity::Medium => 0.8,
        Complexity::High => 0.6,
    };
    let kind_costs = match kind {
        ProcessKind::Training | ProcessKind::Compute | ProcessKind::Batch | ProcessKind::DataProcessing => 0.0,
        ProcessKind::Inference => 0.1,
        // Its files stay where they are, so it would read and write over the network.
        ProcessKind::Io => 0.15,
        ProcessKind::Daemon => 0.2,
        ProcessKind::Interactive => 0.4,
    };
    let unknown_cpu = if tree.root.stat.cpu.is_none() { 0.1 } else { 0.0 };
    ((by_complexity - kind_costs - unknown_cpu) * 100.0_f64).round().max(0.0) / 100.0
}

/// What the process may notice beyond the general promises.
pub(super) fn notices(tree: &TreeFacts) -> Vec<String> {
    let mut all = Vec::new();
    for p in tree.all() {
        let Some(d) = &p.deep else { continue };
        let pid = &p.stat.id;
        for fd in &d.fds {
            match &fd.kind {
                FdKind::TcpListen { local, .. } => {
                    let whom =
                        "whoever connects comes from the other node's loopback, and a return refuses for a moment";
                    all.push(format!("stays reachable at {local}; {whom}"));
                }
                FdKind::File { path, deleted: true } => {
                    all.push(format!("fd {} of {pid} is {path}, whose name is gone: its content moves along", fd.fd))
                }
                FdKind::Fifo { path } => {
                    all.push(format!("the FIFO {path} moves along; writers at home would not reach it"))
                }
                _ => {}
            }
        }
        if is_deleted(d.exe.as_deref()) {
            all.push(format!("the executable of {pid} was replaced since it started: its old file moves along"));
        }
        if let Some(cpus) = &d.affinity {
            let list: Vec<String> = cpus.iter().map(u32::to_string).collect();
            all.push(format!("{pid} is bound to CPU {} here", list.join(",")));
        }
    }
    all.sort();
    all.dedup();
    all
}

/// "2 processes, 4 threads, 6 files; no socket, no device".
pub(super) fn inventory(tree: &TreeFacts) -> String {
    let (mut files, mut sockets, mut devices) = (0u32, 0u32, 0u32);
    for fd in deeps(tree).flat_map(|d| &d.fds) {
        match &fd.kind {
            FdKind::File { .. } | FdKind::Fifo { .. } | FdKind::MemFd => files += 1,
            FdKind::TcpListen { .. } | FdKind::Unix { .. } => sockets += 1,
            FdKind::Device { .. } => devices += 1,
            _ => {}
        }
    }
    let count = |n: u32, one: &str, many: &str| match n {
        0 => format!("no {one}"),
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    };
    let threads = tree.all().map(|p| p.stat.threads).sum();
    format!(
        "{}, {}, {}; {}, {}",
        count(tree.all().count() as u32, "process", "processes"),
        count(threads, "thread", "threads"),
        count(files, "file", "files"),
        count(sockets, "socket", "sockets"),
        count(devices, "device", "devices")
    )
}
