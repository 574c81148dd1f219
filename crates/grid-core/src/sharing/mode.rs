//! The three modes: whether the (boosted) head keeps a process or a worker takes it.

use super::{Boosted, fits_capacity};
use grid_types::Resources;
use grid_types::plan::{Complexity, Verdict};
use grid_types::policy::{Mode, ProcessKind, Thresholds};

/// D3: below this mean pressure the head keeps what fits.
pub const DIRECT_BELOW: f64 = 0.7;
/// D3: below this mean pressure the head keeps, with requested shares, what may share.
pub const SHARED_BELOW: f64 = 0.9;

/// What is known when a mode decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation<'a> {
    /// All of the head.
    pub head_total: Resources,
    /// Free on the head; `None` where unknown, and never zero pressure for that.
    pub head_free: Option<Resources>,
    /// What active boosts add.
    pub boosted: &'a Boosted,
    /// Mean of the known pressures, 0 to 1 (`grid_core::pressure::mean`).
    pub mean_pressure: Option<f64>,
    /// Configured thresholds.
    pub thresholds: Thresholds,
}

/// Who keeps a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The head with its boosts: in a boost's lease where one holds it whole, else at home.
    Head,
    /// The head with its boosts, with shares requested for it.
    HeadShared,
    /// The recommended worker.
    Worker,
}

/// The answer with its reason, boosts named.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Who.
    pub keep: Keep,
    /// Why, for people: "fits with boosts b-7k2 2.0 CPU 8.0 GiB, mean pressure 0.52".
    pub why: String,
}

/// A process may share: it is not talked with, and hard to move ones are left whole.
pub fn may_share(v: &Verdict) -> bool {
    !matches!(v.kind, ProcessKind::Interactive | ProcessKind::Daemon) && v.complexity != Complexity::High
}

/// D4: memory alone says that a process should leave the head: it does not fit in free plus boosted memory, or the
/// part in use of total plus boosted memory is at the high threshold. An unknown head says nothing.
pub fn memory_rule_says_away(need: &Resources, s: &Situation<'_>) -> bool {
    let Some(free) = s.head_free else { return false };
    let room = free.memory.0.saturating_add(s.boosted.sum.memory.0);
    let whole = s.head_total.memory.0.saturating_add(s.boosted.sum.memory.0);
    let used = s.head_total.memory.0.saturating_sub(free.memory.0);
    need.memory.0 > room || (whole > 0 && used as f64 / whole as f64 >= s.thresholds.memory_high)
}

/// D3: the decision of `mode` for a process that needs `need`.
pub fn decide(mode: Mode, need: &Resources, may_share: bool, s: &Situation<'_>) -> Decision {
    let fits = s.head_free.is_some_and(|free| fits_capacity(need, &free, &s.boosted.sum));
    let (keep, why) = match mode {
        Mode::OffloadOnly => (Keep::Worker, "offload_only: always the recommended worker".to_owned()),
        Mode::ShareAndOffload => share_and_offload(fits, may_share),
        Mode::DynamicBalancing => dynamic(need, fits, may_share, s),
    };
    let why = match s.boosted.text() {
        Some(boosts) => format!("{why}; {boosts}"),
        None => why,
    };
    Decision { keep, why }
}

fn share_and_offload(fits: bool, may_share: bool) -> (Keep, String) {
    match (fits, may_share) {
        (true, true) => (Keep::Head, "fits the head with its boosts and may share".to_owned()),
        (false, _) => (Keep::Worker, "does not fit the head with its boosts".to_owned()),
        (true, false) => (Keep::Worker, "fits, and its kind does not share".to_owned()),
    }
}

fn dynamic(need: &Resources, fits: bool, may_share: bool, s: &Situation<'_>) -> (Keep, String) {
    if memory_rule_says_away(need, s) {
        return (Keep::Worker, "memory is short, boosts counted".to_owned());
    }
    let Some(mean) = s.mean_pressure else {
        return (Keep::Worker, "cluster pressure is unknown".to_owned());
    };
    if fits && mean < DIRECT_BELOW {
        return (Keep::Head, format!("fits the head with its boosts, mean pressure {mean:.2}"));
    }
    if may_share && mean < SHARED_BELOW {
        return (Keep::HeadShared, format!("may share, mean pressure {mean:.2}"));
    }
    (Keep::Worker, format!("high cluster pressure {mean:.2}"))
}
