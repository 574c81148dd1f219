//! Messages and records of the handover (design section 5). The machines are `grid_core::handover`.

use crate::ids::AttemptId;
use serde::{Deserialize, Serialize};

/// What the source's agent says to the destination's. Every message carries the attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "msg", rename_all = "snake_case")]
pub enum ToDestination {
    /// Prepare to stage.
    Stage {
        /// Attempt.
        attempt: AttemptId,
    },
    /// Commit: you own it now, let it run.
    Go {
        /// Attempt.
        attempt: AttemptId,
    },
    /// Discard what you staged and refuse this attempt for ever.
    Abort {
        /// Attempt.
        attempt: AttemptId,
    },
    /// Answer to `Started`: the source's copy is gone; the fence is lifted. Carries signals that arrived in the freeze.
    Released {
        /// Attempt.
        attempt: AttemptId,
        /// Signal numbers to deliver.
        signals: Vec<i32>,
    },
    /// What do you know of this attempt?
    Query {
        /// Attempt.
        attempt: AttemptId,
    },
}

/// What the destination's agent says to the source's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "msg", rename_all = "snake_case")]
pub enum ToSource {
    /// Restored, frozen, inspected at the gate.
    Ready {
        /// Attempt.
        attempt: AttemptId,
    },
    /// Could not stage, or the gate refused; nothing of it is left.
    StageFailed {
        /// Attempt.
        attempt: AttemptId,
        /// Why.
        detail: String,
    },
    /// It runs here.
    Started {
        /// Attempt.
        attempt: AttemptId,
    },
    /// Proof that it never ran here: the ledger says staged or less, the cgroup is empty, and it is refused for ever.
    NeverRan {
        /// Attempt.
        attempt: AttemptId,
    },
    /// It is not here, it may have run here, and nobody can know how far: the machine rebooted while it ran, or this
    /// ledger does not know an attempt that the owner calls committed. A tree whose end was *seen* here says `Started`.
    Gone {
        /// Attempt.
        attempt: AttemptId,
    },
}

impl ToDestination {
    /// The attempt.
    pub fn attempt(&self) -> &AttemptId {
        match self {
            ToDestination::Stage { attempt }
            | ToDestination::Go { attempt }
            | ToDestination::Abort { attempt }
            | ToDestination::Released { attempt, .. }
            | ToDestination::Query { attempt } => attempt,
        }
    }
}

impl ToSource {
    /// The attempt.
    pub fn attempt(&self) -> &AttemptId {
        match self {
            ToSource::Ready { attempt }
            | ToSource::StageFailed { attempt, .. }
            | ToSource::Started { attempt }
            | ToSource::NeverRan { attempt }
            | ToSource::Gone { attempt } => attempt,
        }
    }
}

/// State of the source's side, as the ledger keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceState {
    /// Runs at the source; the attempt is known and nothing is frozen yet, or a dump is under way.
    Running,
    /// Held by the freezer, confirmed.
    Frozen,
    /// Point of no return passed: the destination may run it.
    Committed,
    /// The source's copy is gone.
    Released,
    /// Never moved; runs at the source.
    Aborted,
    /// Held: nobody can know whether the destination ran it.
    InDoubt,
}

/// State of the destination's side, as the ledger keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DestinationState {
    /// Nothing is here.
    Empty,
    /// Restored and frozen.
    Staged,
    /// Runs here. `released` comes with the source's answer.
    Running,
    /// Ended here after it ran; its end was seen.
    Ended,
    /// Gone from here unseen; it may have run, and nobody can know how far.
    Lost,
    /// Refused for ever.
    Refused,
}
