//! What daemons say to each other: length-prefixed JSON frames over the agents' links.
//!
//! The head's agent is the hub. Worker agents dial it over TCP, the head's daemon over a Unix socket; a frame for
//! another node is passed on. Memory never travels here: it has a connection of its own ([`Hello::Data`]).

use crate::event::{ExitStatus, MoveFigures, Resolution};
use crate::facts::{NodeFacts, ProcStat, TreeFacts};
use crate::handover::{DestinationState, SourceState, ToDestination, ToSource};
use crate::ids::{AttemptId, LeaseId, NodeName, OffloadId, ProcId};
use crate::policy::{AtEnd, Detector};
use crate::reason::Reason;
use crate::streams::{ShadowId, ShadowTerms};
use crate::units::{Bytes, Millis, Resources};
use serde::{Deserialize, Serialize};

/// Raised when a frame changes its meaning; both ends must speak the same.
pub const PROTOCOL: u32 = 4;
/// No frame is longer.
pub const MAX_FRAME: usize = 64 << 20;

/// First frame on a connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "hello", rename_all = "snake_case")]
pub enum Hello {
    /// A node's agent.
    Agent {
        /// [`PROTOCOL`].
        protocol: u32,
        /// The node's secret.
        token: String,
        /// Which node.
        node: NodeName,
        /// Its boot.
        boot_id: String,
    },
    /// The head's daemon (Unix socket only: the kernel vouches for the peer).
    Daemon {
        /// [`PROTOCOL`].
        protocol: u32,
    },
    /// The streams between a shadow and its tree follow; what comes after this frame is not framed.
    Streams {
        /// [`PROTOCOL`].
        protocol: u32,
        /// The node's secret.
        token: String,
        /// The attempt that brought the tree to that node.
        attempt: AttemptId,
        /// The tree's shadow.
        shadow: ShadowId,
        /// Of the tree's far end.
        generation: u64,
    },
    /// The memory of one attempt follows; what comes after this frame is not framed.
    Data {
        /// [`PROTOCOL`].
        protocol: u32,
        /// The node's secret.
        token: String,
        /// Which attempt.
        attempt: AttemptId,
    },
}

/// Answer to a `Hello`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "welcome", rename_all = "snake_case")]
pub enum Welcome {
    /// Go on.
    Ok {
        /// The hub's node.
        node: NodeName,
        /// Its boot.
        boot_id: String,
    },
    /// Refused, with the reason.
    Refused {
        /// Why.
        detail: String,
    },
}

/// Where a frame goes or comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// The head's daemon.
    Daemon,
    /// A node's agent.
    Agent(NodeName),
}

/// Everything on a link after the greeting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Frame {
    /// Who says it.
    pub from: Party,
    /// To whom.
    pub to: Party,
    /// What.
    pub body: Body,
}

/// What a frame says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "body", rename_all = "snake_case")]
pub enum Body {
    /// Please do; answered by a `Response` of the same number.
    Request {
        /// Number, the asker's.
        id: u64,
        /// What.
        request: Box<Request>,
    },
    /// Answer to a request.
    Response {
        /// The request's number.
        id: u64,
        /// The answer.
        result: Result<Box<Answer>, Refusal>,
    },
    /// Something happened; not answered.
    Notice {
        /// What.
        notice: Box<Notice>,
    },
    /// Handover, source to destination.
    Down {
        /// The message.
        message: ToDestination,
        /// With `Stage` only.
        stage: Option<Box<Stage>>,
    },
    /// Handover, destination to source.
    Up {
        /// The message.
        message: ToSource,
    },
    /// About a shadow and its tree, between the agent of its home and the one where the tree lives.
    Shadow {
        /// The attempt that brought the tree to where it lives.
        attempt: AttemptId,
        /// What.
        word: ShadowWord,
    },
}

/// What agents say of shadows. Each may be said again, and is answered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "snake_case")]
pub enum ShadowWord {
    /// From home: the shadow has ended. Where the tree's root lives, it is to end too.
    Ended,
    /// From home: the process died while it became the shadow. The tree lives on, and nobody is at the other end of its
    /// streams.
    Missing,
    /// From home: does the tree still live there?
    Ask,
    /// From home: the shadow was stopped by a signal that it could not pass on.
    Stopped,
    /// To home: nothing of the tree is here any more that could speak to the shadow itself.
    TreeGone {
        /// How its root ended, where that is known.
        status: Option<ExitStatus>,
    },
}

/// A refusal that crosses a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why, with its code.
    pub reason: Reason,
}

/// What a daemon asks of an agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// The cheap facts of every process.
    Processes,
    /// The dear facts of these trees.
    Trees {
        /// Roots.
        roots: Vec<i32>,
    },
    /// Hold this capacity.
    OpenLease {
        /// The lease.
        lease: LeaseTerms,
    },
    /// Longer, shorter.
    ExtendLease {
        /// Which.
        lease: LeaseId,
        /// From now.
        remaining: Millis,
        /// Higher than before.
        epoch: u64,
    },
    /// End it. Refused with the guests where it is not empty, unless `force`.
    CloseLease {
        /// Which.
        lease: LeaseId,
        /// End the guests.
        force: bool,
    },
    /// Its lender takes it back, or lets its guests run again.
    ReclaimLease {
        /// Which.
        lease: LeaseId,
        /// Freeze its guests; else thaw them.
        freeze: bool,
    },
    /// What is held here.
    Holdings,
    /// Move a tree that lives here.
    StartMove {
        /// Terms.
        order: Box<MoveOrder>,
    },
    /// Of the hub: let the memory of this attempt pass from one worker to another, and take the streams of its tree
    /// from there.
    PassOn {
        /// The attempt that may.
        attempt: AttemptId,
        /// On which terms.
        passage: Passage,
    },
    /// Cancel before the commit.
    CancelMove {
        /// Which.
        attempt: AttemptId,
    },
    /// A person's decision about an attempt in doubt.
    ResolveMove {
        /// Which.
        attempt: AttemptId,
        /// What.
        decision: Resolution,
    },
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// Done, or begun.
    Done,
    /// To `Processes`.
    Processes {
        /// All of them.
        stats: Vec<ProcStat>,
        /// The agent's own namespaces.
        own: crate::facts::Namespaces,
        /// Processes of grid's own.
        grid_pids: Vec<i32>,
        /// Roots of trees that came to this node.
        tree_roots: Vec<i32>,
    },
    /// To `Trees`: those that still live.
    Trees {
        /// The trees.
        trees: Vec<TreeFacts>,
    },
    /// To `OpenLease`.
    LeaseOpen {
        /// What the kernel reports of its limits.
        enforced: String,
    },
    /// To `ReclaimLease`, when the kernel has confirmed it.
    GuestsSet {
        /// How many.
        guests: u32,
        /// From the request to that.
        took: Millis,
    },
    /// To `Holdings`.
    Holdings {
        /// Leases and what lives in them.
        leases: Vec<LeaseHolding>,
        /// Trees that came here, in leases or home again.
        trees: Vec<TreeHolding>,
        /// Attempts of which this agent is the source.
        attempts: Vec<AttemptHolding>,
    },
}

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
    /// Rules for the last look before the freeze.
    pub detector: Detector,
    /// Path prefixes that are private to the destination.
    pub private_paths: Vec<String>,
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
    /// What stays at home for it; none where nothing does.
    #[serde(default)]
    pub shadow: Option<ShadowTerms>,
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
}

/// How a move went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum MoveReport {
    /// It runs at the destination.
    Moved {
        /// Measured.
        figures: MoveFigures,
    },
    /// It runs where it was.
    Failed {
        /// Why.
        reason: Reason,
    },
    /// Its frozen copy was ended from outside while it was held, before the commit.
    DiedFrozen {
        /// By this signal.
        signal: Option<i32>,
    },
    /// Held: nobody can know.
    InDoubt {
        /// What is known.
        detail: String,
    },
}

/// What an agent tells by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum Notice {
    /// The node's facts.
    Facts {
        /// They.
        facts: Box<NodeFacts>,
        /// Leases.
        leases: Vec<LeaseHolding>,
    },
    /// An attempt of which the sender is the source has come to an end.
    Report {
        /// Which.
        attempt: AttemptId,
        /// Whose.
        offload: OffloadId,
        /// How.
        report: MoveReport,
    },
    /// A tree that had come to the sender's node has ended.
    Ended {
        /// Which attempt brought it.
        attempt: AttemptId,
        /// Whose.
        offload: OffloadId,
        /// How.
        status: Option<ExitStatus>,
    },
    /// A tree that came here runs here as this process.
    Arrived {
        /// Which attempt brought it.
        attempt: AttemptId,
        /// Whose.
        offload: OffloadId,
        /// Its root on this node.
        process: ProcId,
    },
    /// A lease ended by the lender's own timer.
    LeaseEnded {
        /// Which.
        lease: LeaseId,
    },
    /// A link of the hub went up or down.
    Link {
        /// Which node.
        node: NodeName,
        /// Up.
        up: bool,
    },
}
