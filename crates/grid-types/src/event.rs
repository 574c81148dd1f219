//! The journal's events. State is the fold over them: `grid_core::state`.

use crate::boost::{Boost, EndReason};
use crate::ids::{AttemptId, BoostId, NodeName, OffloadId, PlanId, ProcId};
use crate::plan::Plan;
use crate::policy::AutoMode;
use crate::reason::Reason;
use crate::stop::Stop;
use crate::units::{BootMs, Bytes, Millis, Resources, UnixMs};
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

/// Where an offload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OffloadPhase {
    /// Under way, not committed: can be cancelled.
    Moving,
    /// Lives at the destination.
    Away,
    /// Under way home.
    Returning,
    /// Under way from one lender to another.
    Onward,
    /// Lives at home again.
    Home,
    /// Ended; the exit status is known.
    Ended,
    /// Did not happen: lives at home, unharmed.
    Failed,
    /// Held; a person must decide.
    InDoubt,
    /// Lost with the machine that ran it.
    Lost,
}

impl std::fmt::Display for OffloadPhase {
    /// As it stands in a sentence: "o-19 is away".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            OffloadPhase::Moving => "moving",
            OffloadPhase::Away => "away",
            OffloadPhase::Returning => "on its way home",
            OffloadPhase::Onward => "on its way to another lease",
            OffloadPhase::Home => "at home",
            OffloadPhase::Ended => "ended",
            OffloadPhase::Failed => "not moved",
            OffloadPhase::InDoubt => "in doubt",
            OffloadPhase::Lost => "lost",
        })
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Figures of one move: measured, or absent. What an agent that was started again in between did not see is not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MoveFigures {
    /// Freeze to thaw, on the source's clock from the freeze to the arrival of `Started`.
    pub downtime: Option<Millis>,
    /// Part of the downtime in which the source dumped: memory crossed, the rest of the images followed.
    pub dump: Option<Millis>,
    /// From the request to `Started`.
    pub total: Option<Millis>,
    /// Bytes of memory that crossed.
    pub bytes: Option<Bytes>,
    /// Processes moved.
    pub processes: u32,
    /// The dump ran as the owner (`true`) or as root.
    pub dumped_as_owner: Option<bool>,
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
    },
    /// They run there again.
    GuestsThawed {
        /// Which.
        boost: BoostId,
        /// How many guests.
        guests: u32,
        /// Until the kernel had confirmed it.
        took: Millis,
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

/// A process that its owner keeps where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// Which.
    pub process: ProcId,
    /// For people.
    pub title: String,
    /// Owner.
    pub uid: u32,
    /// Until then on the head's CLOCK_BOOTTIME; none = until it ends.
    pub until: Option<BootMs>,
    /// Since then, wall clock.
    pub since: UnixMs,
}

impl Keep {
    /// It holds at this moment.
    pub fn holds(&self, now: BootMs) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// Why a process is kept no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepEnd {
    /// A person let it go.
    Dropped,
    /// Its time is over.
    Expired,
    /// The process ended.
    Ended,
}

/// Which way a move goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From home to the destination.
    #[default]
    Out,
    /// From the destination home.
    Back,
    /// From one lender to another.
    Onward,
}

/// Where a process is on its way to from one lender: it counts against both leases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnwardTo {
    /// The other lender.
    pub node: NodeName,
    /// In this boost's lease.
    pub boost: BoostId,
}

/// All that is known of one offload: a view of the journal, folded by `grid_core::state`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OffloadRecord {
    /// Its id.
    pub id: OffloadId,
    /// What, by its identity at home when it was first moved.
    pub process: ProcId,
    /// For people.
    pub title: String,
    /// Owner.
    pub uid: u32,
    /// Its home.
    pub source: NodeName,
    /// Where it went.
    pub destination: NodeName,
    /// In this boost's lease.
    pub boost: Option<BoostId>,
    /// Where it is on its way to from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onward: Option<OnwardTo>,
    /// By this plan.
    pub plan: Option<PlanId>,
    /// Where it is.
    pub phase: OffloadPhase,
    /// Which way its last move went.
    pub direction: Direction,
    /// Its last attempt; messages of others are stale.
    pub attempt: AttemptId,
    /// How many there were.
    pub attempts: u32,
    /// Needed at the destination, and counted against the lease while it is a guest.
    pub needed: Resources,
    /// Figures of its last move.
    pub figures: Option<MoveFigures>,
    /// How it ended.
    pub exit: Option<ExitStatus>,
    /// Its identity at home after it came back.
    pub home: Option<ProcId>,
    /// Its number at home after it came back.
    pub home_pid: Option<i32>,
    /// When its present phase began.
    pub since: UnixMs,
    /// When its first move began.
    pub started_at: UnixMs,
    /// Why its moves failed or are in doubt, the latest last.
    pub reasons: Vec<Reason>,
}

impl OffloadPhase {
    /// It counts against its lease: on its way, there, or nobody knows.
    pub fn is_guest(self) -> bool {
        use OffloadPhase::{Away, InDoubt, Moving, Onward, Returning};
        matches!(self, Moving | Away | Returning | Onward | InDoubt)
    }

    /// A handover is under way.
    pub fn is_under_way(self) -> bool {
        matches!(self, OffloadPhase::Moving | OffloadPhase::Returning | OffloadPhase::Onward)
    }
}

impl OffloadRecord {
    /// Lives, or may live, in the lease of this boost, or is on its way there.
    pub fn counts_against(&self, boost: &BoostId) -> bool {
        let onward = self.onward.as_ref().map(|to| &to.boost);
        self.phase.is_guest() && (self.boost.as_ref() == Some(boost) || onward == Some(boost))
    }
}

/// What a person decides about a move in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// Thaw the copy at home, though work may be done twice.
    AcceptRepeat,
    /// Let the copy at home go.
    Drop,
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
