//! The life of a boost: legal transitions, deadlines, and what happens with guests at the end.
//!
//! Owns *when* and *what next* of a boost. Never talks to an engine and never reads a clock: the moment is an input.
//! Invariant: capacity goes back (`Ended`) only by [`BoostEvent::LeaseEmpty`], which the shell says on proof (the
//! lease's cgroup is empty, or the lender's boot id changed).
//!
//! ```text
//!            Failed ◄── Granting ──► Active ◄─────────── extended ──┐
//!                          │           │                            │
//!                          └─ ending ──┴──► Ending ── overdue ──► Overdue
//!                                             │  ◄──── ending ──────┤
//!                                             └── lease empty ──► Ended
//! ```

mod at_end;
mod deadline;
#[cfg(test)]
mod tests;

pub use at_end::{EndStep, Guest, OtherLease, Room, at_end};
pub use deadline::{Clock, due, next_deadline};

use grid_types::UnixMs;
use grid_types::boost::{BoostState, EndReason};

/// What happens to a boost.
#[derive(Clone, Debug, PartialEq)]
pub enum BoostEvent {
    /// The lender holds the capacity.
    Activated,
    /// The engine failed and nothing is left of it.
    Failed {
        /// What failed.
        detail: String,
    },
    /// Longer.
    Extended,
    /// Its end begins.
    EndBegun {
        /// Why.
        why: EndReason,
    },
    /// Guests stay after its time.
    Overdue {
        /// Why.
        detail: String,
    },
    /// Proven: nothing of it runs on the lender any more. The only way to `Ended`.
    LeaseEmpty {
        /// Why it ended.
        why: EndReason,
        /// When.
        at: UnixMs,
    },
}

/// A transition that the life of a boost does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a boost that is {from} cannot become {event}")]
pub struct IllegalTransition {
    /// State before.
    pub from: &'static str,
    /// What was tried.
    pub event: &'static str,
}

/// Name of a state, for messages.
pub fn state_name(state: &BoostState) -> &'static str {
    match state {
        BoostState::Granting => "granting",
        BoostState::Active => "active",
        BoostState::Ending { .. } => "ending",
        BoostState::Overdue { .. } => "overdue",
        BoostState::Ended { .. } => "ended",
        BoostState::Failed { .. } => "failed",
    }
}

fn event_name(event: &BoostEvent) -> &'static str {
    match event {
        BoostEvent::Activated => "active",
        BoostEvent::Failed { .. } => "failed",
        BoostEvent::Extended => "longer",
        BoostEvent::EndBegun { .. } => "ending",
        BoostEvent::Overdue { .. } => "overdue",
        BoostEvent::LeaseEmpty { .. } => "ended",
    }
}

/// The one function of legal transitions, for writing and for replay.
///
/// # Errors
/// [`IllegalTransition`]; the state stays as it was.
pub fn transition(state: &BoostState, event: BoostEvent) -> Result<BoostState, IllegalTransition> {
    use BoostEvent as E;
    use BoostState as S;
    let illegal = IllegalTransition { from: state_name(state), event: event_name(&event) };
    match (state, event) {
        (S::Granting, E::Activated) | (S::Active | S::Overdue { .. }, E::Extended) => Ok(S::Active),
        (S::Granting, E::Failed { detail }) => Ok(S::Failed { detail }),
        (S::Granting | S::Active | S::Overdue { .. }, E::EndBegun { why }) => Ok(S::Ending { why }),
        // A release under way can become a stronger end, never a weaker one.
        (S::Ending { why: before }, E::EndBegun { why }) if stronger(why, *before) => Ok(S::Ending { why }),
        (S::Ending { .. }, E::Overdue { detail }) => Ok(S::Overdue { detail }),
        (S::Ending { .. } | S::Overdue { .. }, E::LeaseEmpty { why, at }) => Ok(S::Ended { why, at }),
        _ => Err(illegal),
    }
}

fn stronger(new: EndReason, old: EndReason) -> bool {
    let rank = |why| match why {
        EndReason::Expired | EndReason::Released => 0,
        EndReason::Reclaimed | EndReason::Drained => 1,
        EndReason::LenderLost => 2,
    };
    rank(new) > rank(old)
}
