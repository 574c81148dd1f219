//! Who may let a moving process run (design section 5): two pure state machines, one for each end of an attempt.
//!
//! This module owns the decision. It never reads a clock, a file or a socket: the agent's shell feeds inputs, executes
//! the returned actions in order, and is told by an input what became of them.
//!
//! ```text
//!  source       Running ──► Frozen ══ commit ══► Committed ──► Released        ══ the point of no return
//!                  └──► Aborted ◄──┘                │  └─ NeverRan (proof) ──► Aborted
//!                          ▲                        └──► InDoubt ──► Released (drop)
//!                          └── accept repeat, NeverRan ─────┘
//!
//!  destination  Empty ──► Staged ── Go ──► Running ──► Running, released ──► Ended
//!                 └──► Refused ◄──┘           └──────────► Lost ◄──┘
//! ```
//!
//! Invariants, held by `tests/handover_search.rs` in every state that it can reach:
//!
//! 1. Never two runnable copies. After the commit the home copy is thawed only on proof that the destination never let
//!    its copy run, or by a person, once the destination's copy is known to be gone.
//! 2. No work is repeated (unless a person accepted that), and no image is thawed that the home copy has outrun.
//! 3. Nothing is lost by the protocol itself: a copy is let go only when the other one is the owner's.
//! 4. Every state has a way on without further faults: to one running copy, or to a copy held and reported.
//!
//! What the shell owes:
//!
//! - It executes a list of actions in order. A `Persist` is durable before the next action starts. Where one fails,
//!   the shell drops the machine and recovers it from the ledger, as after a crash.
//! - It routes by attempt. The hold cgroup and the tree's cgroup are named after the attempt, so that "frozen" is said
//!   of this attempt's copy and not of another's. Where a tree leaves again, its own cgroup is the hold of the later
//!   attempt: until that one is over, what is frozen there is said of it, and the earlier one recovers it as `Runs`.
//! - Before it hands `Go` to a destination, it looks whether the staged tree is still whole (its cgroup is populated),
//!   and says `StagedCopyDied` first where it is not: after `Started` the source lets the other copy go.
//! - `Stage` is sent once, on the connection that carries the pages, so it cannot outlive the destination's ledger.
//! - Reports are repeated after a restart; whoever reads them treats a repeated one as the same fact.
//! - It keeps the row of an attempt for as long as the other side may speak of it.
//! - No input says "the engine reports it ended": an engine's word is not proof, so it cannot be said here.

mod destination;
mod rescue;
mod source;
mod source_words;

pub use destination::{Destination, DestinationAction, DestinationInput, DestinationReport, answer_unknown};
pub use rescue::{HomeFacts, Rescue, Row, StagedFacts, Why, rescue_home, rescue_staged};
pub use source::{Source, answer_unknown_at_source};
pub use source_words::{SourceAction, SourceInput, SourceReport};

/// What is known of the copy at home. The shell reads it from the kernel when it recovers an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HomeCopy {
    /// Not frozen by this attempt.
    Runs,
    /// Held by this attempt's freezer, confirmed.
    Frozen,
    /// Killed, or let go by us; the machine has not rebooted since the attempt began.
    Gone,
    /// The machine's boot id is not the one that the attempt began under.
    Rebooted,
}

impl HomeCopy {
    /// True where a copy is there that could run.
    pub fn is_alive(self) -> bool {
        matches!(self, HomeCopy::Runs | HomeCopy::Frozen)
    }
}

/// What is known of a copy at the destination. The shell reads it from the kernel when it recovers an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TreeCopy {
    /// There, and not frozen.
    Runs,
    /// There, held by the freezer, confirmed.
    Frozen,
    /// Not there: the tree's pid 1 wrote down how its root ended.
    Ended,
    /// Not there, and nobody saw its end.
    Gone,
}

/// What proves that the destination's copy is gone. That it *never ran* only the destination's ledger can prove
/// (`ToSource::NeverRan`). There is no variant for an engine's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GoneProof {
    /// The destination's machine has another boot id than the attempt was staged under.
    BootChanged,
    /// The destination's agent has read the tree's cgroup after the commit, and it is empty.
    CgroupEmpty,
    /// A person says that the machine is off and will not come back with the copy.
    Person,
}
