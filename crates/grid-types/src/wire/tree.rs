//! What agents and the daemon tell each other of leases and of trees that move.

use super::MoveReport;
use crate::event::ExitStatus;
use crate::handover::{DestinationState, SourceState};
use crate::ids::{AttemptId, LeaseId, NodeName, OffloadId, ProcId};
use crate::lend::TakenBack;
use crate::policy::{AtEnd, Detector};
use crate::streams::ShadowTerms;
use crate::units::{Bytes, Millis, Resources};
use serde::{Deserialize, Serialize};

/// The terms of a lease as its lender must know them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTerms {
    /// Which.
    pub lease: LeaseId,
    /// How much.
    pub amount: Resources,
    /// From now.
    pub remaining: Millis,
    /// Raised with each change.
    pub epoch: u64,
    /// What happens with guests at the end.
    pub at_end: AtEnd,
}

/// A lease as the lender sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseHolding {
    /// Which.
    pub lease: LeaseId,
    /// How much.
    pub amount: Resources,
    /// Until its end; zero where it is past.
    pub remaining: Millis,
    /// Its epoch.
    pub epoch: u64,
    /// Memory charged to it.
    pub memory_used: Bytes,
    /// Processes in it.
    pub processes: u32,
    /// The owner of the machine took it back, himself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_back: Option<TakenBack>,
}

/// A tree that came to a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TreeHolding {
    /// Which move brought it.
    pub attempt: AttemptId,
    /// Whose.
    pub offload: OffloadId,
    /// Lease it lives in; none = home again.
    pub lease: Option<LeaseId>,
    /// Its state.
    pub state: DestinationState,
    /// Its root on this node, while it lives.
    pub process: Option<ProcId>,
    /// How it ended.
    pub exit: Option<ExitStatus>,
}

/// An attempt that left, or tried to leave, a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptHolding {
    /// Which.
    pub attempt: AttemptId,
    /// Whose.
    pub offload: OffloadId,
    /// Where to.
    pub destination: NodeName,
    /// Its state.
    pub state: SourceState,
    /// What was last reported.
    pub report: Option<MoveReport>,
}

/// An order to move a tree: leaves no choice to who executes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MoveOrder {
    /// Whose.
    pub offload: OffloadId,
    /// This try.
    pub attempt: AttemptId,
    /// The root, as the agent that gets the order sees it.
    pub process: ProcId,
    /// Where to.
    pub destination: NodeName,
    /// Into this lease; none = home.
    pub lease: Option<LeaseId>,
    /// Memory admitted at the destination for what arrives.
    pub admitted: Bytes,
    /// An overrun of the freeze before the commit aborts.
    pub max_frozen: Millis,
    /// Bytes of memory a second that may leave the source, where there is a limit.
    #[serde(default)]
    pub link_limit: Option<Bytes>,
    /// Rules for the last look before the freeze.
    pub detector: Detector,
    /// Path prefixes that are private to the destination.
    pub private_paths: Vec<String>,
    /// The destination is another machine: its files are looked at before anything is frozen.
    #[serde(default)]
    pub apart: bool,
    /// On a worker it sees the head's files.
    #[serde(default)]
    pub home_files: bool,
    /// It waits for them no longer than this while home is away.
    #[serde(default)]
    pub files_patience: Option<Millis>,
    /// But not there.
    #[serde(default)]
    pub own_paths: OwnPaths,
    /// The destination keeps it on its disk and does not restore it.
    #[serde(default)]
    pub park: bool,
    /// The tree is parked at the source, by this attempt: `process` is who it was, and nothing of it runs.
    #[serde(default)]
    pub parked: Option<AttemptId>,
    /// From now on it has a `/tmp` and a `/dev/shm` of its own.
    #[serde(default)]
    pub private_tmp: bool,
}

/// A file or folder that a tree uses, as one machine sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSeen {
    /// Path, as the tree sees it.
    pub path: String,
    /// It is a folder.
    pub folder: bool,
    /// Number of its inode.
    pub inode: u64,
    /// Its size.
    pub bytes: u64,
    /// When it was changed last: wall clock, ns.
    pub modified_ns: i64,
    /// The tree has it open for writing.
    pub written: bool,
    /// A build id or hash; none where it is written to, a folder, or too large to read through.
    pub content: Option<String>,
}

/// Folders in which a tree that sees the head's files sees those of the machine it is on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnPaths {
    /// Said to be the same folder on both machines.
    pub shared: Vec<String>,
    /// Each machine's own.
    pub local: Vec<String>,
}

impl OwnPaths {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &String> {
        self.shared.iter().chain(&self.local)
    }
}

/// A file that was made to be looked for through another machine's mount of the same folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeFile {
    /// Where.
    pub path: String,
    /// What nobody else would have written into it.
    pub content: String,
}

/// The hub's leave for a tree to move from one worker to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// Whose.
    pub offload: OffloadId,
    /// The lender that it leaves.
    pub from: NodeName,
    /// The lender that it goes to.
    pub to: NodeName,
}

/// What a destination must know to stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Whose.
    pub offload: OffloadId,
    /// For people.
    pub title: String,
    /// Owner, user and group.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The owner's supplementary groups, as the kernel orders them.
    pub groups: Vec<u32>,
    /// Into this lease; none = home.
    pub lease: Option<LeaseId>,
    /// Memory that will arrive, about.
    pub expected: Bytes,
    /// Memory that may arrive at most.
    pub admitted: Bytes,
    /// Processes that will arrive, about: what was frozen is said by [`Manifest`].
    pub processes: u32,
    /// The tree's session leader is not in the tree.
    pub shell_job: bool,
    /// All of it is under the filter of `grid run`, and no other: it is restored under it.
    #[serde(default)]
    pub filtered: bool,
    /// Its established TCP connections are closed.
    #[serde(default)]
    pub close_tcp: bool,
    /// What stays at home for it; none where nothing does.
    #[serde(default)]
    pub shadow: Option<ShadowTerms>,
    /// What it uses of the file system, where it goes to another machine.
    #[serde(default)]
    pub files: Vec<FileSeen>,
    /// On a lender it sees the head's files.
    #[serde(default)]
    pub home_files: bool,
    /// It waits for them no longer than this while home is away.
    #[serde(default)]
    pub files_patience: Option<Millis>,
    /// But not there.
    #[serde(default)]
    pub own_paths: OwnPaths,
    /// A file in each shared one, as proof.
    #[serde(default)]
    pub probes: Vec<ProbeFile>,
    /// Kept on the destination's disk, and not restored.
    #[serde(default)]
    pub park: bool,
    /// It has a `/tmp` and a `/dev/shm` of its own.
    #[serde(default)]
    pub private_tmp: bool,
    /// The highest number that a process or thread of it has in its own PID namespace: each gets its number again.
    #[serde(default)]
    pub highest_pid: i32,
}

/// What the frozen tree consists of, sent behind its memory: the gate holds what was restored against it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Processes, those that have ended and wait for their parents not counted.
    pub processes: u32,
    /// Their threads, in all.
    pub threads: u32,
    /// Their executables.
    pub executables: Vec<String>,
    /// Where its streams stand, as the far end that leaves wrote it (JSON); none where it leaves home.
    #[serde(default)]
    pub streams: Option<String>,
    /// The files on which it depends, as they were when it was frozen, where it is parked: days may pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileMark>,
    /// The content of its own `/tmp` and `/dev/shm` follows behind the images.
    #[serde(default)]
    pub private_tmp: bool,
}

/// A file as it was at one moment. Another content with the same size and time of change is not told apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileMark {
    /// Where, as the tree sees it.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Time of its last change, in nanoseconds since 1970.
    pub changed_ns: i64,
}
