//! What is recorded of a process that moves, or may not.

use super::Actor;
use crate::ids::{AttemptId, BoostId, NodeName, OffloadId, PlanId, ProcId};
use crate::reason::Reason;
use crate::units::{BootMs, Bytes, Millis, Resources, UnixMs};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

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
    /// Under way onto a disk.
    Parking,
    /// Kept on a disk; nothing of it runs, nothing of it is in memory.
    Parked,
    /// Under way from the disk.
    Unparking,
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
            OffloadPhase::Parking => "being parked",
            OffloadPhase::Parked => "parked",
            OffloadPhase::Unparking => "being unparked",
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
    /// Established TCP connections that it had when the order came, and that were closed.
    #[serde(default)]
    pub closed_connections: u32,
}

/// An address at which a process listens that began to do so while it was away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listens {
    /// Where.
    pub at: SocketAddr,
    /// Why nobody listens there at home; none where its shadow does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// That a node takes nothing new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cordon {
    /// Since then, wall clock.
    pub since: UnixMs,
    /// Who said so.
    pub by: Actor,
}

/// That a node was added to the cluster while it ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedNode {
    /// Its host, as ssh knows it.
    pub host: String,
    /// Since then, wall clock.
    pub since: UnixMs,
    /// Who said so.
    pub by: Actor,
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
    /// Onto a disk.
    Park,
    /// From the disk.
    Unpark,
}

/// Where a process is parked, or is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedAt {
    /// The node whose disk keeps it.
    pub node: NodeName,
    /// By this attempt, after which the copy is named.
    pub attempt: AttemptId,
    /// Since then, wall clock; none while it is on its way there.
    pub since: Option<UnixMs>,
    /// Memory that it frees, and takes on that disk.
    pub bytes: Option<Bytes>,
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
    /// Where it is parked, or is being parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<ParkedAt>,
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
    /// Where it listens that it began to while it is away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listens: Vec<Listens>,
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
    /// It is not at home and not over: on its way, there, parked, or nobody knows. In a lease it counts against that.
    pub fn is_guest(self) -> bool {
        use OffloadPhase::{Away, InDoubt, Moving, Onward, Parked, Parking, Returning, Unparking};
        matches!(self, Moving | Away | Returning | Onward | Parking | Parked | Unparking | InDoubt)
    }

    /// A handover is under way.
    pub fn is_under_way(self) -> bool {
        use OffloadPhase::{Moving, Onward, Parking, Returning, Unparking};
        matches!(self, Moving | Returning | Onward | Parking | Unparking)
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
