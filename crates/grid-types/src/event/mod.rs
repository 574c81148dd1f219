//! The journal's events. State is the fold over them: `grid_core::state`.

mod offload;

pub use offload::*;

use crate::boost::{Boost, EndReason};
use crate::ids::{AttemptId, BoostId, NodeName, OffloadId, PlanId, ProcId};
use crate::lend::Closed;
use crate::plan::Plan;
use crate::policy::AutoMode;
use crate::reason::Reason;
use crate::stop::Stop;
use crate::units::{BootMs, Millis, Resources, UnixMs};
use serde::{Deserialize, Serialize};

/// Who caused an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Actor {
    /// A person, through the API's socket.
    User {
        /// Uid of the peer.
        uid: u32,
        /// Name, where it is known.
        name: Option<String>,
        /// Terminal, where there is one.
        tty: Option<String>,
    },
    /// A rule or hook of grid's own.
    Rule {
        /// Which.
        name: String,
    },
    /// The owner of a lender, on the lender.
    Lender {
        /// Which.
        node: NodeName,
    },
    /// The daemon itself (restart, expiry).
    Daemon,
}

/// A journal entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Place in the journal, from 1.
    pub seq: u64,
    /// Wall clock.
    pub at: UnixMs,
    /// CLOCK_BOOTTIME of the head.
    pub boot_at: BootMs,
    /// Boot of the head.
    pub boot_id: String,
    /// Who.
    pub actor: Actor,
    /// By which plan, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanId>,
    /// What.
    pub event: Event,
}

/// What can happen. Every variant is a fact that has happened, never an intention, except `LeaseGranted`, which is
/// written before the engine is called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The daemon started.
    DaemonStarted {
        /// Version of grid.
        version: String,
    },
    /// A node was heard of, or is silent since.
    NodeSeen {
        /// Which.
        node: NodeName,
    },
    /// A node has not been heard of for too long.
    NodeSilent {
        /// Which.
        node: NodeName,
    },
    /// A node is one of the cluster's since then.
    NodeAdded {
        /// Which.
        node: NodeName,
        /// Its host, as ssh knows it.
        host: String,
    },
    /// A node is none of the cluster's any more: it is not spoken with.
    NodeRemoved {
        /// Which.
        node: NodeName,
        /// What could not be ended or removed there; none where that was done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        left: Option<String>,
    },
    /// A node takes nothing new.
    NodeCordoned {
        /// Which.
        node: NodeName,
    },
    /// Its owner, or a rule of his, lends nothing new.
    LendingClosed {
        /// Which node.
        node: NodeName,
        /// Why.
        closed: Closed,
    },
    /// It lends again.
    LendingOpen {
        /// Which node.
        node: NodeName,
    },
    /// It may take something again.
    NodeUncordoned {
        /// Which.
        node: NodeName,
    },
    /// Capacity is promised and written down; the engine is called next.
    LeaseGranted {
        /// The boost in state `Granting`.
        boost: Boost,
    },
    /// The lender holds the capacity.
    BoostActivated {
        /// Which.
        boost: BoostId,
        /// What the lender's kernel reports, for people.
        enforced: String,
    },
    /// The engine failed; nothing is left of it.
    BoostFailed {
        /// Which.
        boost: BoostId,
        /// What failed.
        detail: String,
    },
    /// Longer.
    BoostExtended {
        /// Which.
        boost: BoostId,
        /// New end.
        until: BootMs,
        /// New end, wall clock.
        until_unix: UnixMs,
        /// Raised by one.
        epoch: u64,
    },
    /// Its end has begun.
    BoostEnding {
        /// Which.
        boost: BoostId,
        /// Why.
        why: EndReason,
    },
    /// Guests are still there after its time.
    BoostOverdue {
        /// Which.
        boost: BoostId,
        /// Why.
        detail: String,
    },
    /// Its lender took it back: everything in it is frozen.
    GuestsFrozen {
        /// Which.
        boost: BoostId,
        /// How many guests.
        guests: u32,
        /// Until the kernel had confirmed it.
        took: Millis,
        /// By which rule of the lender's owner, in words; none where somebody said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// They run there again.
    GuestsThawed {
        /// Which.
        boost: BoostId,
        /// How many guests.
        guests: u32,
        /// Until the kernel had confirmed it; unknown where the owner of the lender did it.
        took: Option<Millis>,
    },
    /// Over; the cgroup was empty and the capacity went back.
    BoostEnded {
        /// Which.
        boost: BoostId,
        /// Why.
        why: EndReason,
    },
    /// A boost was refused.
    BoostRefused {
        /// Borrower.
        borrower: NodeName,
        /// How much.
        amount: Resources,
        /// Why, per node.
        reasons: Vec<Reason>,
    },
    /// A hook ran for a boost, or did not.
    HookFinished {
        /// Which boost.
        boost: BoostId,
        /// Which hook.
        hook: String,
        /// What became of it.
        outcome: HookOutcome,
        /// How long it took.
        took: Millis,
    },
    /// A plan was made.
    PlanMade {
        /// The plan.
        plan: Plan,
    },
    /// A plan was executed, observed only, or refused.
    PlanSettled {
        /// Which.
        plan: PlanId,
        /// What became of it.
        outcome: crate::plan::PlanOutcome,
    },
    /// A move began.
    OffloadStarted {
        /// Which.
        offload: OffloadId,
        /// Its first attempt.
        attempt: AttemptId,
        /// What.
        process: ProcId,
        /// For people.
        title: String,
        /// Owner.
        uid: u32,
        /// From.
        source: NodeName,
        /// To.
        destination: NodeName,
        /// Into.
        boost: Option<BoostId>,
        /// Needed there.
        needed: Resources,
        /// By this plan.
        plan: Option<PlanId>,
        /// Onto the destination's disk.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        park: bool,
    },
    /// It runs at the destination.
    OffloadMoved {
        /// Which.
        offload: OffloadId,
        /// Attempt.
        attempt: AttemptId,
        /// Measured.
        figures: MoveFigures,
    },
    /// Where it listens that it began to while it is away has changed: all of it, and what home does about it.
    OffloadListens {
        /// Which.
        offload: OffloadId,
        /// All of it.
        all: Vec<Listens>,
    },
    /// It did not move; it runs where it was.
    OffloadFailed {
        /// Which.
        offload: OffloadId,
        /// Attempt.
        attempt: AttemptId,
        /// Why.
        reason: Reason,
    },
    /// The way back began.
    RecallStarted {
        /// Which.
        offload: OffloadId,
        /// Attempt.
        attempt: AttemptId,
    },
    /// It runs at home again.
    Recalled {
        /// Which.
        offload: OffloadId,
        /// Attempt.
        attempt: AttemptId,
        /// Its number at home now.
        pid: i32,
        /// Its whole identity at home now, where it is known: its cool-down starts with it.
        #[serde(default)]
        process: Option<ProcId>,
        /// Measured.
        figures: MoveFigures,
    },
    /// The way back did not happen; it runs where it was.
    RecallFailed {
        /// Which.
        offload: OffloadId,
        /// Attempt.
        attempt: AttemptId,
        /// Why.
        reason: Reason,
    },
    /// The way from its lender to another began.
    OnwardStarted {
        /// Which.
        offload: OffloadId,
        /// Attempt.
        attempt: AttemptId,
        /// To.
        destination: NodeName,
        /// Into.
        boost: BoostId,
    },
    /// It runs at the other lender.
    OnwardMoved {
        /// Which.
        offload: OffloadId,
        /// Attempt.
        attempt: AttemptId,
        /// Measured.
        figures: MoveFigures,
    },
    /// The way on did not happen; it runs where it was.
    OnwardFailed {
        /// Which.
        offload: OffloadId,
        /// Attempt.
        attempt: AttemptId,
        /// Why.
        reason: Reason,
    },
    /// A way onto a disk began, from its lender; from home it is an `OffloadStarted` that says so.
    ParkStarted {
        /// Which.
        offload: OffloadId,
        /// Attempt.
        attempt: AttemptId,
        /// Whose disk.
        node: NodeName,
    },
    /// It is on the disk, and its memory is free.
    Parked {
        /// Which.
        offload: OffloadId,
        /// Attempt.
        attempt: AttemptId,
        /// Measured.
        figures: MoveFigures,
    },
    /// It was not parked; it runs where it was.
    ParkFailed {
        /// Which.
        offload: OffloadId,
        /// Attempt.
        attempt: AttemptId,
        /// Why.
        reason: Reason,
    },
    /// The way from the disk began.
    UnparkStarted {
        /// Which.
        offload: OffloadId,
        /// Attempt.
        attempt: AttemptId,
        /// To another node's lease; none = home.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<OnwardTo>,
    },
    /// It runs again.
    Unparked {
        /// Which.
        offload: OffloadId,
        /// Attempt.
        attempt: AttemptId,
        /// Its identity at home, where it came home and that is known.
        #[serde(default)]
        process: Option<ProcId>,
        /// Measured.
        figures: MoveFigures,
    },
    /// It was not unparked; the copy on the disk is kept.
    UnparkFailed {
        /// Which.
        offload: OffloadId,
        /// Attempt.
        attempt: AttemptId,
        /// Why.
        reason: Reason,
    },
    /// It ended.
    ProcessEnded {
        /// Which.
        offload: OffloadId,
        /// How; unknown where its machine was lost.
        status: Option<ExitStatus>,
    },
    /// Nobody can know whether the destination ran it.
    OffloadInDoubt {
        /// Which.
        offload: OffloadId,
        /// Attempt.
        attempt: AttemptId,
        /// What is known.
        detail: String,
    },
    /// Somebody decided.
    OffloadResolved {
        /// Which.
        offload: OffloadId,
        /// `accept-repeat` (thawed at home) or `drop`.
        decision: Resolution,
    },
    /// Somebody stopped grid: nothing is frozen until it is lifted.
    Stopped {
        /// The order.
        stop: Stop,
    },
    /// The order to stop is gone.
    StopLifted {},
    /// Pressure asked for offloading, and nothing was done about it.
    PressureSkipped {
        /// Of what: "memory 88 %".
        detail: String,
        /// Why.
        why: String,
    },
    /// A person keeps a process where it is.
    KeepSet {
        /// What.
        keep: Keep,
    },
    /// A process is kept no longer.
    KeepDropped {
        /// Which.
        process: ProcId,
        /// Why.
        why: KeepEnd,
    },
    /// Auto-offload was switched.
    AutoModeSet {
        /// To.
        mode: AutoMode,
    },
}

/// What became of a hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookOutcome {
    /// It returned.
    Done {
        /// What it did, for people.
        detail: String,
    },
    /// It returned an error.
    Failed {
        /// Which.
        detail: String,
    },
    /// It panicked.
    Panicked,
    /// It did not return in time and was left behind.
    TimedOut,
    /// Not run: switched off, rate-limited, not the head.
    Skipped {
        /// Why.
        detail: String,
    },
}
