//! What the source's machine is told, and what it tells the shell to do. The machine is in `source.rs`.

use super::GoneProof;
use grid_types::event::Resolution;
use grid_types::handover::{SourceState, ToDestination, ToSource};
use grid_types::ids::AttemptId;

/// What happened at the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceInput {
    /// The hold cgroup is confirmed frozen, CRIU is gone, the image stream is complete.
    Frozen,
    /// The dump failed before `Frozen`; CRIU is gone. The tree runs or is frozen: the `Thaw` that follows covers both.
    DumpFailed {
        /// Why.
        detail: String,
    },
    /// The destination's agent said something.
    Received(ToSource),
    /// A person wants it back.
    CancelRequested,
    /// The attempt took too long. Before the commit it ends it; after, it is only reported.
    DeadlineReached,
    /// The link to the destination broke.
    LinkLost,
    /// There is a link to the destination (again).
    LinkUp,
    /// The frozen copy was killed from outside. `signal` only where somebody meant the process to end: give `None`
    /// for an OOM kill, or the moved copy is killed too.
    FrozenCopyDied {
        /// By which signal.
        signal: Option<i32>,
    },
    /// Signals that wait in the frozen copy (ShdPnd, SigPnd). The shell says it right before it hands in `Started`.
    SignalsPending(Vec<i32>),
    /// Time to ask again (each second or so while frozen or committed).
    Tick,
    /// A person decides; heeded only in `InDoubt`.
    Resolve(Resolution),
    /// The destination's copy is proven to be gone.
    DestinationGone {
        /// By what.
        proof: GoneProof,
    },
}

/// What the shell at the source does, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceAction {
    /// Writes the state to the ledger, durably, before any later action of the same list.
    Persist(SourceState),
    /// Writes the signals to forward to the attempt's row, durably; `recover` wants them back.
    KeepSignals(Vec<i32>),
    /// Sends; it may get lost.
    Send(ToDestination),
    /// Closes CRIU's page stream. CRIU is never signalled.
    CloseStream,
    /// Lets the copy at home run. Does nothing where it is not frozen.
    Thaw,
    /// Lets the frozen copy go: it never runs again. It is killed, or replaced in place by its shadow.
    DiscardCopy {
        /// The tree runs at the destination: what stands in for it here may stay.
        lives_on: bool,
    },
    /// Tells the head.
    Report(SourceReport),
}

/// What the head, and through it the user, learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceReport {
    /// It lives at the destination.
    Moved,
    /// It did not move and runs at home.
    Failed {
        /// Why.
        detail: String,
    },
    /// It is held at home; a person must decide.
    InDoubt {
        /// What is known.
        detail: String,
    },
    /// Committed and no answer yet; it is held at home and asked about.
    Unanswered {
        /// What is known.
        detail: String,
    },
    /// It was killed at home while it was held, and runs nowhere.
    DiedFrozen {
        /// By which signal, where it is known.
        signal: Option<i32>,
    },
    /// It is gone with the machine that held it.
    Lost {
        /// What is known.
        detail: String,
    },
    /// A person decided, and it is done.
    Resolved(Resolution),
    /// A cancel came after the commit.
    CancelTooLate,
    /// A decision that cannot be taken now.
    ResolveRefused {
        /// Why not, and what to do.
        detail: String,
    },
    /// The destination speaks of an attempt that this ledger does not know. Nothing is answered.
    UnknownAttempt(AttemptId),
}
