//! The built-in hook: what a boost's activation, or pressure, sets in motion.
//!
//! Owns whether grid acts by itself, how often, and how a round goes on after a failure. Never moves anything: the shell
//! asks [`Round`] for the next step and tells it what became of it. A boost stands whatever happens here.
//!
//! ```text
//! boost active ──► decide ──► Run{limit} ──► scan, plan, check ──► Round: step, step, … ──► report
//!                     ├─────► Observe{limit}: the plan is journalled, nothing moves
//!                     └─────► Skip{why}
//! ```

mod bucket;
mod cooldown;
mod metrics;
mod round;
#[cfg(test)]
mod tests;

pub use bucket::Bucket;
pub use cooldown::Cooldowns;
pub use metrics::Metrics;
pub use round::{Report, Round, StepResult};

use crate::sharing::LeaseView;
use grid_types::boost::{Boost, BoostState};
use grid_types::policy::{AutoMode, AutoOffload};
use grid_types::{BootMs, Millis, NodeName};
use std::fmt;

/// What grid does by itself now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Scan, plan, check, move at most so many.
    Run {
        /// At most so many.
        limit: u32,
    },
    /// The same without moving: the plan is journalled as observed.
    Observe {
        /// At most so many.
        limit: u32,
    },
    /// Nothing.
    Skip {
        /// Why.
        reason: SkipReason,
    },
}

/// Why nothing is done for an activation or for pressure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// B4: the boost is for another node.
    NotHead {
        /// Which.
        borrower: NodeName,
    },
    /// It is not active (any more).
    NotActive,
    /// Somebody stopped grid.
    Stopped,
    /// O8: switched off.
    Off,
    /// O10: too many activations; the next may run after so long.
    RateLimited {
        /// So long.
        wait: Millis,
    },
    /// D7: pressure, and no boost of the head has room; a boost would help.
    NoLease,
}

impl SkipReason {
    /// Key of the counter in the metrics.
    pub fn key(&self) -> &'static str {
        match self {
            SkipReason::NotHead { .. } => "not_head",
            SkipReason::NotActive => "not_active",
            SkipReason::Stopped => "stopped",
            SkipReason::Off => "off",
            SkipReason::RateLimited { .. } => "rate_limited",
            SkipReason::NoLease => "no_lease",
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SkipReason::NotHead { borrower } => write!(f, "the boost is for {borrower}, not for the head"),
            SkipReason::NotActive => f.write_str("the boost is not active"),
            SkipReason::Stopped => f.write_str("grid is stopped: grid stop --lift"),
            SkipReason::Off => f.write_str("auto-offload is off: grid offload auto on"),
            SkipReason::RateLimited { wait } => write!(f, "too many activations; the next may run in {wait}"),
            SkipReason::NoLease => f.write_str("no boost of the head has room: grid boost request"),
        }
    }
}

/// What the activation of `boost` sets in motion. Takes a token out of `bucket` only where something runs or is
/// observed. `mode` is the state's (`grid offload auto`), which may differ from the configured one.
pub fn decide(
    boost: &Boost,
    head: &NodeName,
    mode: AutoMode,
    bucket: &mut Bucket,
    policy: &AutoOffload,
    now: BootMs,
) -> Action {
    let skip = |reason| Action::Skip { reason };
    if boost.borrower != *head {
        return skip(SkipReason::NotHead { borrower: boost.borrower.clone() });
    }
    if boost.state != BoostState::Active {
        return skip(SkipReason::NotActive);
    }
    if mode == AutoMode::Off {
        return skip(SkipReason::Off);
    }
    match bucket.take(now) {
        Ok(()) => by_mode(mode, policy.per_boost),
        Err(wait) => skip(SkipReason::RateLimited { wait }),
    }
}

/// D7: what sustained pressure sets in motion. Boosts are looked at first: without room in a lease of the head nothing
/// is scanned. Rounds are spaced by the pressure monitor's cool-down.
pub fn on_pressure(critical: bool, mode: AutoMode, leases: &[LeaseView], policy: &AutoOffload) -> Action {
    if mode == AutoMode::Off {
        return Action::Skip { reason: SkipReason::Off };
    }
    if !leases.iter().any(|l| l.free.cpu.0 > 0 && l.free.memory.0 > 0) {
        return Action::Skip { reason: SkipReason::NoLease };
    }
    by_mode(mode, if critical { policy.per_critical_round } else { policy.per_round })
}

fn by_mode(mode: AutoMode, limit: u32) -> Action {
    if mode == AutoMode::On { Action::Run { limit } } else { Action::Observe { limit } }
}
