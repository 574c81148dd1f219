//! Planning: from verdicts, leases and a trigger to an immutable [`Plan`].
//!
//! Owns the choice of what moves where, in which order. Deterministic: the same input makes the same plan. Never moves
//! anything and never trusts itself: `grid_core::check` judges its plans with arithmetic of its own. Invariants: at most
//! `limit` steps; the steps together fit their leases; every verdict that is not a step is a stay with reasons.

mod choose;
mod need;
mod rank;
mod stay;
#[cfg(test)]
pub(crate) mod tests;

pub use need::{CPU_LEAST, HEADROOM_LEAST, freeze_within, needed, predicted_freeze};
pub use rank::ranked;

use crate::sharing::{Boosted, LeaseView};
use grid_types::plan::{Plan, PlanOutcome, Trigger, Verdict};
use grid_types::policy::Policy;
use grid_types::{BootMs, Millis, NodeName, OffloadId, PlanId, ProcId, Resources, UnixMs};
use std::collections::BTreeMap;

/// A resource, where one of them is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Processor time.
    Cpu,
    /// Memory.
    Memory,
    /// GPUs.
    Gpu,
}

/// Why a process is not to be taken now.
#[derive(Clone, Debug, PartialEq)]
pub enum Busy {
    /// On its way: `E-AWAY`.
    Moving(OffloadId),
    /// Lives elsewhere, is returning, or is in doubt: `E-AWAY`.
    Away(OffloadId),
    /// Moved or refused a moment ago; so long to go: `E-COOLDOWN`.
    Cooldown(Millis),
}

/// Everything a plan follows from.
#[derive(Clone, Debug)]
pub struct PlanInput<'a> {
    /// Id of the plan to make.
    pub id: PlanId,
    /// What asks for it.
    pub trigger: Trigger,
    /// What the detector found, in any order.
    pub verdicts: &'a [Verdict],
    /// The head's name: the source of every step.
    pub head: NodeName,
    /// All of the head.
    pub head_total: Resources,
    /// Free on the head; `None` where unknown.
    pub head_free: Option<Resources>,
    /// Leases that processes may go to: the active ones of the head. For a named process with `--to` or `--boost`, only
    /// those that were named.
    pub leases: &'a [LeaseView],
    /// Capacity of the head's active boosts, named in the reasons.
    pub boosted: &'a Boosted,
    /// Mean pressure of the cluster, where known.
    pub mean_pressure: Option<f64>,
    /// What is short, where that asked.
    pub pressed: Option<Resource>,
    /// Policy.
    pub policy: &'a Policy,
    /// At most so many steps.
    pub limit: u32,
    /// In flight, away, cooling down.
    pub busy: &'a BTreeMap<ProcId, Busy>,
    /// Who asked by name; `None` for grid itself. A user other than root moves only what is theirs.
    pub asked_by: Option<u32>,
    /// Measured rate of moves in bytes a second, where one was measured.
    pub rate: Option<u64>,
    /// CLOCK_BOOTTIME of the head.
    pub now: BootMs,
    /// Wall clock.
    pub made_at: UnixMs,
}

/// Makes the plan. Steps are best first; stays keep the same order. With a named process only that one is considered.
pub fn make_plan(input: &PlanInput<'_>) -> Plan {
    let mut room: Vec<LeaseView> = input.leases.to_vec();
    let mut plan = Plan {
        id: input.id.clone(),
        trigger: input.trigger.clone(),
        made_at: input.made_at,
        valid_until: BootMs(input.now.0.saturating_add(input.policy.limits.plan_validity.0)),
        steps: Vec::new(),
        stays: Vec::new(),
        outcome: PlanOutcome::Made,
    };
    for verdict in ranked(input.verdicts, input.pressed, input.head_total) {
        if matches!(input.trigger, Trigger::Named { pid } if pid != verdict.id.pid) {
            continue;
        }
        // A tree that is listed twice is considered once.
        if plan.steps.iter().any(|s| s.process == verdict.id) || plan.stays.iter().any(|s| s.process == verdict.id) {
            continue;
        }
        match choose::step_for(verdict, input, &mut room, plan.steps.len()) {
            Ok(step) => plan.steps.push(step),
            Err(reasons) => plan.stays.push(stay::stay(verdict, reasons)),
        }
    }
    plan
}

/// The limit that goes with a trigger: per boost, per round of pressure, per critical round; one that a person named.
pub fn limit_for(trigger: &Trigger, critical: bool, policy: &Policy) -> u32 {
    let auto = &policy.auto_offload;
    match trigger {
        Trigger::BoostActivated { .. } => auto.per_boost,
        Trigger::Pressure { .. } if critical => auto.per_critical_round,
        Trigger::Pressure { .. } => auto.per_round,
        Trigger::Scan => u32::MAX,
        Trigger::Named { .. } => 1,
    }
}
