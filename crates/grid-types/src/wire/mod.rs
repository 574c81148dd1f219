//! What daemons say to each other: length-prefixed JSON frames over the agents' links.
//!
//! The head's agent is the hub. Worker agents dial it over TCP, the head's daemon over a Unix socket; a frame for
//! another node is passed on. Memory never travels here: it has a connection of its own ([`Hello::Data`]).

mod hello;
mod tree;
mod version;

pub use hello::*;
pub use tree::*;
pub use version::*;

use crate::event::{ExitStatus, Listens, MoveFigures, Resolution};
use crate::facts::{NodeFacts, ProcStat, TreeFacts};
use crate::handover::{ToDestination, ToSource};
use crate::ids::{AttemptId, LeaseId, NodeName, OffloadId, ProcId};
use crate::machine::{MachineFacts, UserHere};
use crate::reason::Reason;
use crate::stop::{Stop, StopAnswer};
use crate::units::Millis;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// No frame is longer.
pub const MAX_FRAME: usize = 64 << 20;

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
        /// With it, the hub's leave to open the connection that its memory crosses: good once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ticket: Option<String>,
    },
    /// Handover, destination to source.
    Up {
        /// The message.
        message: ToSource,
    },
    /// To the agent of its home: where a tree listens that began to do so while it is away, all of it. Said again.
    Listens {
        /// The attempt that brought the tree to where it lives.
        attempt: AttemptId,
        /// Loopback addresses, or all of its node's.
        at: Vec<SocketAddr>,
    },
    /// About the files that a tree sees from home, between the agent of its home and the one where it lives.
    Files {
        /// The attempt that brought the tree to where it lives.
        attempt: AttemptId,
        /// What.
        word: FilesWord,
    },
    /// From the head's agent: the order to stop that stands there, or none.
    Stop {
        /// It.
        stop: Option<Stop>,
    },
    /// To the head's agent: what became of its order.
    StopHeeded {
        /// In the order's terms.
        answer: StopAnswer,
    },
    /// About a shadow and its tree, between the agent of its home and the one where the tree lives.
    Shadow {
        /// The attempt that brought the tree to where it lives.
        attempt: AttemptId,
        /// What.
        word: ShadowWord,
    },
}

/// What agents say of the files that a tree sees from home. Each may be said again, and is answered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilesWord {
    /// From home: is that tree still there?
    Ask,
    /// To home: nothing of it is here.
    Gone,
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
    /// To home: the tree is parked here; its shadow waits for it.
    Parked {
        /// Of the tree's far end to come: what is known under a lower one is older.
        generation: u64,
    },
    /// To home: this machine has slept, and the tree stands still. May it run on? Said again until it is answered.
    Awake {
        /// Of this sleep.
        epoch: u64,
        /// The tree has a shadow at home.
        shadow: bool,
    },
    /// From home: it may.
    MayRun {
        /// Of the sleep that was asked about.
        epoch: u64,
    },
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
    /// What of this machine a process notices, and who this user is here.
    Machine {
        /// Whose process is meant.
        user: Option<UserHere>,
    },
    /// What is held here.
    Holdings,
    /// Move a tree that lives here.
    StartMove {
        /// Terms.
        order: Box<MoveOrder>,
        /// The hub's leave to open the connection that its memory crosses: good once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ticket: Option<String>,
    },
    /// Of the hub: let the memory of this attempt pass from one worker to another, and take the streams of its tree
    /// from there.
    PassOn {
        /// The attempt that may.
        attempt: AttemptId,
        /// On which terms.
        passage: Passage,
    },
    /// Of the hub: somebody gave this node up, and what lives there with it.
    LoseNode {
        /// Which.
        node: NodeName,
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
    /// To `Machine`.
    Machine {
        /// It.
        facts: Box<MachineFacts>,
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
    /// From its home: where a tree listens that began to do so while it is away, all of it, and what home does about it.
    Listens {
        /// Whose.
        offload: OffloadId,
        /// All of it.
        all: Vec<Listens>,
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
        /// What the node's agent speaks, where it came with the link.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        protocol: Option<u32>,
    },
}
