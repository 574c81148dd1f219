//! What is seen of a staged tree from outside, for the lender's gate. Read by `grid-os`, judged by `grid_core::gate`.

use std::collections::BTreeMap;

/// One thread's identity and rights, from its `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Its number.
    pub tid: i32,
    /// Real, effective, saved, file system.
    pub uids: Vec<u32>,
    /// Real, effective, saved, file system.
    pub gids: Vec<u32>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// `CapInh`, `CapPrm`, `CapEff`, `CapAmb`, by name.
    pub capabilities: BTreeMap<String, u64>,
    /// Who traces it; 0 = nobody.
    pub tracer: i32,
    /// Filters of system calls that it is under.
    pub filters: u32,
    /// Session and process group as its own PID namespace numbers them; 0 = from outside.
    pub session: i32,
    /// Process group.
    pub group: i32,
}

/// What an open descriptor or a mapping leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// `fd 3`, `a mapping`, `the working directory`.
    pub what: String,
    /// As the kernel names it: a path, `pipe:[1]`, `anon_inode:[eventfd]`.
    pub target: String,
    /// Number of the mount it is on, where that is known.
    pub mount: Option<i32>,
    /// How a descriptor was opened (`O_*`).
    pub flags: u32,
    /// Major and minor of a device file.
    pub device: Option<(u32, u32)>,
}

/// One staged process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guest {
    /// Its number here.
    pub pid: i32,
    /// Its name.
    pub comm: String,
    /// Its threads.
    pub threads: Vec<Rights>,
    /// Namespaces by name, `pid:[4026531836]`.
    pub namespaces: BTreeMap<String, String>,
    /// Lines of its `cgroup`, without the hierarchies' numbers.
    pub cgroups: Vec<String>,
    /// Executable.
    pub exe: String,
    /// Root directory.
    pub root: String,
    /// Everything else that it holds open.
    pub open: Vec<OpenFile>,
    /// The other ends of TCP connections that it has.
    pub connections: Vec<String>,
    /// Hard limits by name; `None` = without.
    pub limits: BTreeMap<String, Option<u64>>,
    /// `oom_score_adj`.
    pub oom_score_adj: i32,
    /// Nice value.
    pub nice: i32,
    /// Scheduling policy.
    pub policy: u32,
}

/// A mount, from `mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number.
    pub id: i32,
    /// Where.
    pub point: String,
    /// Its options of its own: `rw,nosuid`.
    pub options: String,
    /// Kind of file system.
    pub fstype: String,
    /// The whole line, to compare.
    pub line: String,
}

/// What this node allows, and what it made before anything was restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Processes announced.
    pub processes: u32,
    /// Threads announced, in all.
    pub threads: u32,
    /// Executables announced.
    pub executables: Vec<String>,
    /// Filters of system calls that each thread is under; none where that is not looked at.
    pub filters: Option<u32>,
    /// Namespaces of the tree's pid 1.
    pub namespaces: BTreeMap<String, String>,
    /// Groups of a member of the tree.
    pub cgroups: Vec<String>,
    /// The tree's mounts before the restore.
    pub mounts: Vec<Mount>,
    /// This agent's own hard limits.
    pub limits: BTreeMap<String, Option<u64>>,
    /// Paths that no guest holds open.
    pub closed: Vec<String>,
    /// The terminal that was made for it: its device.
    pub terminal: Option<(u32, u32)>,
    /// It is a guest here, not at home.
    pub guest: bool,
}
