//! What was observed. A fact can be unknown (`None`); unknown never means zero.

use crate::ids::{NodeName, ProcId};
use crate::lend::Lending;
use crate::units::{BootMs, Bytes, MilliCpu, Millis, Resources};
use serde::{Deserialize, Serialize};

/// Linux pressure stall information of one resource: percent of wall time lost, averaged over ten seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Psi {
    /// Some task waited.
    pub some_avg10: f64,
    /// Every task waited.
    pub full_avg10: f64,
}

/// One GPU as the driver reports it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GpuFacts {
    /// Index of the device.
    pub index: u32,
    /// Product name.
    pub name: String,
    /// Whole memory.
    pub memory_total: Bytes,
    /// Memory in use.
    pub memory_used: Bytes,
    /// Percent of time in which a kernel ran, 0 to 100.
    pub utilization_percent: u32,
}

/// GPUs of a node: none is an answer, and not the same as unknown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gpus {
    /// No driver is present.
    #[default]
    None,
    /// A driver is present and did not answer; the text says how it failed.
    Unknown(String),
    /// The devices.
    Present(Vec<GpuFacts>),
}

/// One node at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// The node.
    pub node: NodeName,
    /// Its boot.
    pub boot_id: String,
    /// When it was measured, on the node's own clock.
    pub at: BootMs,
    /// CPUs that the node may use: those online, or its cgroup's limit where that is less.
    pub cpu_total: MilliCpu,
    /// CPU in use between the last two samples; unknown at the first.
    pub cpu_used: Option<MilliCpu>,
    /// Load average over one minute.
    pub load1: Option<f64>,
    /// Memory that the node may use.
    pub memory_total: Bytes,
    /// Memory that new work could have without swapping (`MemAvailable`, or what the cgroup's limit leaves).
    pub memory_available: Bytes,
    /// Swap in all.
    pub swap_total: Bytes,
    /// Swap in use.
    pub swap_used: Bytes,
    /// CPU pressure.
    pub psi_cpu: Option<Psi>,
    /// Memory pressure.
    pub psi_memory: Option<Psi>,
    /// I/O pressure.
    pub psi_io: Option<Psi>,
    /// GPUs.
    pub gpus: Gpus,
    /// What it lends, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lending: Option<Lending>,
    /// How its connections reach the head, where it was told a direct address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkFacts>,
}

/// How a worker reaches its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// At the head's own address and port.
    Direct,
    /// Through the socket that ssh forwards.
    Ssh,
}

/// The way that a worker's connections to its head take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkFacts {
    /// It.
    pub way: Way,
    /// The direct address, as it is dialled.
    pub address: String,
    /// Why not the direct one, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A file without a name may occupy so much: its content travels among the small images, in memory.
pub const UNNAMED_FILE_LIMIT: Bytes = Bytes(16 << 20);

/// What a file descriptor refers to, by kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FdKind {
    /// A regular file or directory; `deleted` where its name is gone.
    File {
        /// Path as the process sees it.
        path: String,
        /// The name is gone.
        deleted: bool,
    },
    /// `/dev/null`, `/dev/zero`, `/dev/full`, `/dev/random`, `/dev/urandom`.
    HarmlessDevice {
        /// Path.
        path: String,
    },
    /// A terminal.
    Tty {
        /// Path, `/dev/pts/3`.
        path: String,
    },
    /// Any other device.
    Device {
        /// Path, `/dev/nvidia0`.
        path: String,
    },
    /// A pipe or FIFO; both ends of one pipe have the same inode.
    Pipe {
        /// Inode.
        inode: u64,
    },
    /// A named pipe in the file system.
    Fifo {
        /// Path.
        path: String,
    },
    /// A TCP socket that listens.
    TcpListen {
        /// `127.0.0.1:6379`.
        local: String,
        /// Inode; 0 where it is not known.
        #[serde(default)]
        inode: u64,
    },
    /// A TCP socket that is connected, or closing.
    TcpEstablished {
        /// Own end.
        local: String,
        /// Other end.
        remote: String,
    },
    /// A UDP socket.
    Udp {
        /// Own end.
        local: String,
    },
    /// A Unix socket.
    Unix {
        /// Inode of this end.
        inode: u64,
        /// Path, or `@name`, where it is bound.
        bound: Option<String>,
        /// Inode of the other end, where it can be told.
        peer: Option<u64>,
        /// It listens.
        listening: bool,
        /// A connected stream socket without a name of its own: as `socketpair(2)` makes it, or one who dialled.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        nameless: bool,
    },
    /// Any other socket (netlink, packet, raw, …).
    OtherSocket {
        /// What it is, as far as it can be told.
        what: String,
    },
    /// An io_uring, which CRIU cannot save.
    IoUring,
    /// eventfd, epoll, timerfd, signalfd, inotify: CRIU saves them.
    AnonSaveable {
        /// `[eventpoll]`.
        what: String,
    },
    /// Any other anonymous inode (perf_event, bpf, kvm, …).
    AnonOther {
        /// `[perf_event]`.
        what: String,
    },
    /// Memory file that has no name.
    MemFd,
    /// Could not be told.
    Unknown {
        /// Target of the link.
        target: String,
    },
}

/// One open descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdFacts {
    /// Number.
    pub fd: i32,
    /// What it is.
    #[serde(flatten)]
    pub kind: FdKind,
    /// Mount id from `fdinfo`; a descriptor opened in another mount namespace has one that the process cannot see.
    pub mount_id: Option<i32>,
    /// That mount is not among those that the process sees: it was opened in another mount namespace.
    #[serde(default)]
    pub foreign_mount: bool,
    /// Open flags (`O_*`) from `fdinfo`: which end of a pipe it is, and whether the pipe is in packet mode.
    #[serde(default)]
    pub flags: Option<u32>,
}

/// Namespaces of a process, by inode of `/proc/PID/ns/*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// `pid`.
    pub pid: Option<u64>,
    /// `mnt`.
    pub mnt: Option<u64>,
    /// `net`.
    pub net: Option<u64>,
    /// `ipc`.
    pub ipc: Option<u64>,
    /// `uts`.
    pub uts: Option<u64>,
    /// `user`.
    pub user: Option<u64>,
}

/// The cheap facts of one process, read for all of them at each pass (`/proc/PID/stat` and the owner of the directory).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcStat {
    /// Identity.
    pub id: ProcId,
    /// Parent.
    pub ppid: i32,
    /// Process group.
    pub pgid: i32,
    /// Session.
    pub sid: i32,
    /// Controlling terminal's device number, 0 for none.
    pub tty_nr: i32,
    /// State letter: R S D T t Z X.
    pub state: char,
    /// Short name (`comm`), at most 15 bytes. A title, not a command: it can lie.
    pub comm: String,
    /// Owner (real uid).
    pub uid: u32,
    /// Threads.
    pub threads: u32,
    /// Resident memory.
    pub rss: Bytes,
    /// CPU time used so far, own threads only.
    pub cpu_time: Millis,
    /// CPU in use between two samples; unknown at the first.
    pub cpu: Option<MilliCpu>,
    /// Time since its start.
    pub age: Millis,
    /// It is a kernel thread.
    pub kernel: bool,
}

/// The dear facts of one process, read only for candidates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcDeep {
    /// Executable, from `/proc/PID/exe`. ` (deleted)` where it is gone.
    pub exe: Option<String>,
    /// Arguments as an array, never joined.
    pub argv: Vec<String>,
    /// Working directory.
    pub cwd: Option<String>,
    /// Terminal's path, where it has one.
    pub tty: Option<String>,
    /// Proportional set size: shared pages divided among those that share them.
    pub pss: Option<Bytes>,
    /// Swapped out.
    pub swap: Option<Bytes>,
    /// Descriptors.
    pub fds: Vec<FdFacts>,
    /// Namespaces.
    pub ns: Namespaces,
    /// Its pid in each PID namespace, outermost first (`NSpid`).
    pub ns_pids: Vec<i32>,
    /// Control groups, `controller-list:path` lines of `/proc/PID/cgroup`.
    pub cgroups: Vec<String>,
    /// Pid of the tracer, 0 for none.
    pub tracer: i32,
    /// Seccomp mode: 0 none, 1 strict, 2 filter.
    pub seccomp: u32,
    /// How many filters of system calls it is under.
    #[serde(default)]
    pub filters: u32,
    /// Its environment says that its only filter is that of `grid run`.
    #[serde(default)]
    pub claims_run: bool,
    /// Its owner may not look into it: it made itself so, or its executable cannot be read.
    #[serde(default)]
    pub closed: bool,
    /// Effective capabilities, bits.
    pub cap_eff: u64,
    /// Permitted capabilities, bits: those it could take at any time. Ambient ones are among them.
    #[serde(default)]
    pub cap_prm: u64,
    /// Owner uids: real, effective, saved, file system.
    pub uids: [u32; 4],
    /// Owner gids: real, effective, saved, file system.
    #[serde(default)]
    pub gids: [u32; 4],
    /// `oom_score_adj`.
    pub oom_score_adj: i32,
    /// It holds POSIX, OFD or flock locks (inode numbers from `/proc/locks`).
    pub locks: Vec<u64>,
    /// `ManagedOOMPreference=` of its unit: `avoid` or `omit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_preference: Option<String>,
    /// Its cgroup is frozen.
    pub frozen: bool,
    /// Mapped files that are neither executable code nor plain files: devices, `SYSV…`, `io_uring`, `aio`.
    pub odd_maps: Vec<String>,
    /// Names of shared libraries and files mapped, for classification (`libcudart.so`, `libtorch.so`).
    pub mapped_files: Vec<String>,
    /// Files without a name that it holds open or maps, and what they occupy: their content travels with the process.
    #[serde(default)]
    pub unnamed_files: Vec<(String, Bytes)>,
    /// Shared anonymous mappings: `(device:inode, bytes)` of shmem objects that it maps shared.
    pub shared_maps: Vec<(String, Bytes)>,
    /// Uses huge pages (`MAP_HUGETLB`).
    pub hugetlb: bool,
    /// GPU memory that the driver attributes to it.
    pub gpu_memory: Option<Bytes>,
    /// CPUs it may run on, where that is fewer than the node's.
    pub affinity: Option<Vec<u32>>,
    /// Facts that could not be read, with the reason: a listing that failed is never taken for an empty one.
    pub unreadable: Vec<String>,
}

/// One process as far as it is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcFacts {
    /// The cheap facts.
    pub stat: ProcStat,
    /// The dear ones, where they were read.
    pub deep: Option<ProcDeep>,
}

/// A process and all its descendants: the unit that moves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TreeFacts {
    /// The process that was named or chosen.
    pub root: ProcFacts,
    /// Its descendants, parents before children.
    pub descendants: Vec<ProcFacts>,
    /// The root's parent, where it still lives (`None` for init or a subreaper that adopts).
    pub living_parent: Option<ProcStat>,
    /// Inodes of pipes and sockets and shared mappings that some process outside the tree holds too, with that pid.
    pub shared_with: Vec<SharedWith>,
    /// Processes outside the tree that live in a session which the root leads.
    #[serde(default)]
    pub session_outsiders: Vec<i32>,
    /// What a lender's gate would refuse, as far as it can be known here; none where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreseen: Option<String>,
    /// It has a `/tmp` and a `/dev/shm` of its own (`grid run --private`), which travel with it: what they occupy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_tmp: Option<Bytes>,
}

/// Folders that a tree of `grid run --private` has for itself.
pub const PRIVATE_TMP: [&str; 2] = ["/tmp", "/dev/shm"];

/// The path is one of those folders, or below one.
pub fn in_private_tmp(path: &str) -> bool {
    let below = |dir: &str| path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    PRIVATE_TMP.into_iter().any(below)
}

/// Something that a tree shares with a process outside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedWith {
    /// `pipe:[123]`, `socket:[77]`, `shm 00:01:4711`.
    pub what: String,
    /// Member of the tree.
    pub inside: i32,
    /// Process outside.
    pub outside: i32,
}

impl TreeFacts {
    /// Root and descendants.
    pub fn all(&self) -> impl Iterator<Item = &ProcFacts> {
        std::iter::once(&self.root).chain(self.descendants.iter())
    }
    /// What the tree uses, measured: CPU between samples, PSS where known and else RSS, and what its own `/tmp` holds, which
    /// is memory.
    pub fn used(&self) -> Resources {
        let held = Resources { memory: self.private_tmp.unwrap_or_default(), ..Resources::default() };
        self.all().fold(held, |sum, p| {
            let memory = p.deep.as_ref().and_then(|d| d.pss).unwrap_or(p.stat.rss);
            sum.saturating_add(&Resources { cpu: p.stat.cpu.unwrap_or_default(), memory, gpu: 0 })
        })
    }
}
