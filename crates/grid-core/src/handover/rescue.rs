//! What may be done for a held copy when no agent is there to decide: `grid rescue`.
//!
//! The same rules as the machines', asked from outside: a copy at home is thawed where the ledger proves that no `Go` was
//! ever sent; a staged one is ended where its own ledger proves that it never ran and its owner's that it never will. What
//! cannot be proved stays held. Whoever asks holds the agent's lock, so that no agent starts meanwhile, and writes
//! [`Rescue::Thaw`]'s `persist` down, durably, before it thaws.

use super::{HomeCopy, TreeCopy};
use grid_types::handover::{DestinationState, SourceState};
use std::fmt;

/// What a ledger says of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row<S> {
    /// The ledger cannot be read, or nobody looked because its agent runs.
    Unreadable,
    /// It is read and does not know the attempt.
    Unknown,
    /// Its last state.
    State(S),
}

/// Facts of a copy at its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HomeFacts {
    /// The source's ledger.
    pub row: Row<SourceState>,
    /// Its agent runs.
    pub agent_runs: bool,
    /// A CRIU of this attempt runs.
    pub criu_runs: bool,
    /// The copy.
    pub copy: HomeCopy,
    /// The destination's copy is seen to run.
    pub runs_elsewhere: bool,
    /// A person accepts that its work may be done twice.
    pub accept_repeat: bool,
}

/// Facts of a copy at its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagedFacts {
    /// The destination's ledger, and whether it says that the source's copy is gone.
    pub row: Row<(DestinationState, bool)>,
    /// Its agent runs.
    pub agent_runs: bool,
    /// A CRIU of this attempt runs.
    pub criu_runs: bool,
    /// The copy.
    pub copy: TreeCopy,
    /// The source's ledger, as it is after the source's copy was rescued.
    pub source: Row<SourceState>,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rescue {
    /// Left to a program that runs.
    Leave(Why),
    /// There is nothing to do.
    Nothing,
    /// Let it run where it is, and put its processes back into their groups. `persist`: `Aborted` is written first (at a
    /// destination: that the source's copy is gone).
    Thaw {
        /// Something has to be written down first.
        persist: bool,
        /// The proof.
        why: Why,
    },
    /// Ended: `Refused` is written first.
    End(Why),
    /// Stays as it is.
    Hold(Why),
}

/// The reason, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The agent runs and decides.
    AgentRuns,
    /// CRIU runs, and is never signalled.
    CriuRuns,
    /// The ledger says that it was not committed.
    NotCommitted,
    /// The ledger says that it was aborted.
    Aborted,
    /// A person accepted that work may be repeated.
    Accepted,
    /// Past the commit: the other copy may run, or be about to.
    Committed,
    /// Past the commit, and nobody can know how far the other copy ran.
    InDoubt,
    /// It lives at the destination; this is the rest.
    MovedOn,
    /// The other copy is seen to run.
    RunsElsewhere,
    /// The ledger cannot be read.
    LedgerUnreadable,
    /// The ledger does not know the attempt: it is another one than the ledger that began it.
    AttemptUnknown,
    /// Staged, and its owner has not decided.
    WaitsForOwner,
    /// Staged, and its owner let the copy at home run.
    OwnerAborted,
    /// It refused the attempt for ever.
    Refused,
    /// It is the only copy: the owner's ledger says that it let its own go.
    OwnerReleased,
    /// It may have run, and the owner let the copy at home run.
    OwnersCopyRuns,
    /// It may have run here.
    MayHaveRun,
    /// It was let run by somebody else while it was staged.
    LetRun,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::AgentRuns => "its agent runs and decides",
            Why::CriuRuns => "CRIU is still at work on it and is never interrupted",
            Why::NotCommitted => "its ledger proves that it was not committed: no other copy ever ran",
            Why::Aborted => "its ledger says that the move was undone",
            Why::Accepted => "you accepted that work may be done twice",
            Why::Committed => "it is past its commit: the copy at the destination may run",
            Why::InDoubt => "it is in doubt: nobody can know how far the copy at the destination ran",
            Why::MovedOn => "its ledger says that it lives at the destination; this is the old copy",
            Why::RunsElsewhere => "its other copy runs at this moment",
            Why::LedgerUnreadable => "the ledger that knows whether it was committed cannot be read",
            Why::AttemptUnknown => "the ledger does not know it: it is not the one that began this move",
            Why::WaitsForOwner => "it is staged, never ran, and waits for the word of its owner",
            Why::OwnerAborted => "it is staged, its ledger proves that it never ran, and the copy at home runs",
            Why::Refused => "its ledger proves that it never ran and never will",
            Why::OwnerReleased => "its owner let the copy at home go: this is the only one",
            Why::OwnersCopyRuns => "it may have run here, and its owner let the copy at home run",
            Why::MayHaveRun => "it may have run here",
            Why::LetRun => "it was only staged, and somebody let it run",
        })
    }
}

/// For a copy at its source.
pub fn rescue_home(facts: &HomeFacts) -> Rescue {
    if facts.agent_runs {
        return Rescue::Leave(Why::AgentRuns);
    }
    if !facts.copy.is_alive() {
        return Rescue::Nothing;
    }
    if facts.criu_runs {
        return Rescue::Leave(Why::CriuRuns);
    }
    let held = match facts.row {
        Row::State(SourceState::Running | SourceState::Frozen) => {
            return Rescue::Thaw { persist: true, why: Why::NotCommitted };
        }
        Row::State(SourceState::Aborted) => return Rescue::Thaw { persist: false, why: Why::Aborted },
        // It runs at the destination, or ended there: no person's word makes this one right.
        Row::State(SourceState::Released) => return Rescue::Hold(Why::MovedOn),
        Row::State(SourceState::Committed) => Why::Committed,
        Row::State(SourceState::InDoubt) => Why::InDoubt,
        Row::Unreadable => Why::LedgerUnreadable,
        Row::Unknown => Why::AttemptUnknown,
    };
    match (facts.accept_repeat, facts.runs_elsewhere) {
        (false, _) => Rescue::Hold(held),
        (true, true) => Rescue::Hold(Why::RunsElsewhere),
        (true, false) => Rescue::Thaw { persist: matches!(facts.row, Row::State(_)), why: Why::Accepted },
    }
}

/// For a copy at its destination.
pub fn rescue_staged(facts: &StagedFacts) -> Rescue {
    if facts.agent_runs {
        return Rescue::Leave(Why::AgentRuns);
    }
    if matches!(facts.copy, TreeCopy::Gone | TreeCopy::Ended) {
        return Rescue::Nothing;
    }
    if facts.criu_runs {
        return Rescue::Leave(Why::CriuRuns);
    }
    let frozen = facts.copy == TreeCopy::Frozen;
    match facts.row {
        Row::Unreadable => Rescue::Hold(Why::LedgerUnreadable),
        Row::Unknown => Rescue::Hold(Why::AttemptUnknown),
        Row::State((DestinationState::Staged, _)) if !frozen => Rescue::Hold(Why::LetRun),
        Row::State((DestinationState::Empty | DestinationState::Staged, _)) => match facts.source {
            Row::State(SourceState::Aborted) => Rescue::End(Why::OwnerAborted),
            Row::State(SourceState::Committed | SourceState::InDoubt) => Rescue::Hold(Why::Committed),
            _ => Rescue::Hold(Why::WaitsForOwner),
        },
        Row::State((DestinationState::Refused, _)) => Rescue::End(Why::Refused),
        Row::State((DestinationState::Running, _)) if !frozen => Rescue::Nothing,
        Row::State((DestinationState::Running, true)) => Rescue::Thaw { persist: false, why: Why::OwnerReleased },
        Row::State((DestinationState::Running, false)) => match facts.source {
            Row::State(SourceState::Released) => Rescue::Thaw { persist: true, why: Why::OwnerReleased },
            Row::State(SourceState::Aborted) => Rescue::Hold(Why::OwnersCopyRuns),
            _ => Rescue::Hold(Why::Committed),
        },
        Row::State((DestinationState::Lost | DestinationState::Ended, _)) => Rescue::Hold(Why::MayHaveRun),
    }
}
