//! The second checker: judges a plan against the world as it is now, before anything is executed.
//!
//! Written apart from the planner and sharing none of its code: it adds up for itself, in wide integers, and trusts no
//! figure of a plan that the world can tell. Never repairs a plan; a plan with a violation is refused whole.

#[cfg(test)]
mod tests;

use grid_types::plan::{Plan, PlanOutcome, PlanStep};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::{BootMs, LeaseId, Millis, NodeName, ProcId, Resources};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A lease now.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseNow {
    /// Its lender.
    pub node: NodeName,
    /// Active: neither granting, ending, overdue nor over.
    pub active: bool,
    /// Of it not needed by processes inside or on their way.
    pub free: Resources,
}

/// A process now, read again for this check.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcNow {
    /// Where it lives.
    pub node: NodeName,
    /// Owner.
    pub uid: u32,
    /// Memory and CPU in use.
    pub used: Resources,
    /// The detector's second look: why it cannot be moved now; empty = it can.
    pub cannot: Vec<Reason>,
    /// Set where it is in flight or away.
    pub busy: bool,
}

/// What a plan is judged against.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// Every lease that is known.
    pub leases: BTreeMap<LeaseId, LeaseNow>,
    /// The processes of the plan's steps that still exist with exactly that identity.
    pub processes: BTreeMap<ProcId, ProcNow>,
    /// CLOCK_BOOTTIME of the head.
    pub now: BootMs,
    /// At most so many steps.
    pub limit: u32,
    /// Longest predicted freeze.
    pub max_frozen: Millis,
    /// Who asks; `None` for grid itself. Only root moves what is another's.
    pub asked_by: Option<u32>,
}

/// What is wrong with a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// Place of the step, from 0; `None` where it is the plan.
    pub step: Option<usize>,
    /// What.
    pub reason: Reason,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Some(step) => write!(f, "step {}: {}", step + 1, self.reason),
            None => write!(f, "{}", self.reason),
        }
    }
}

/// Everything that is wrong with `plan` in `world`; empty where it may be executed.
pub fn check(plan: &Plan, world: &World) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    of_plan(plan, world, &mut |code, detail| found.push(Violation { step: None, reason: Reason::new(code, detail) }));
    for (n, step) in plan.steps.iter().enumerate() {
        let mut fault = |code, detail: String| {
            found.push(Violation { step: Some(n), reason: Reason::new(code, detail) });
        };
        if !seen.insert(&step.process) {
            fault(ReasonCode::Away, format!("{} is in the plan twice", step.process));
        }
        of_route(step, world, &mut fault);
        of_process(step, world, &mut fault);
    }
    sums(plan, world, &mut found);
    found
}

type Fault<'a> = &'a mut dyn FnMut(ReasonCode, String);

fn of_plan(plan: &Plan, world: &World, fault: Fault<'_>) {
    if world.now > plan.valid_until {
        let past = Millis(world.now.0 - plan.valid_until.0);
        fault(ReasonCode::Expired, format!("{} is past its time by {past}", plan.id));
    }
    match &plan.outcome {
        PlanOutcome::Made | PlanOutcome::Observed | PlanOutcome::Cleared(_) => {}
        PlanOutcome::Applied => fault(ReasonCode::Changed, format!("{} was applied already", plan.id)),
        PlanOutcome::Refused(why) => fault(ReasonCode::Changed, format!("{} was refused: {why}", plan.id)),
    }
    if plan.steps.len() as u64 > u64::from(world.limit) {
        fault(ReasonCode::Limit, format!("{} steps, at most {} are allowed", plan.steps.len(), world.limit));
    }
}

fn of_route(step: &PlanStep, world: &World, fault: Fault<'_>) {
    if step.source == step.destination {
        fault(ReasonCode::Self_, format!("source and destination are both {}", step.source));
    }
    if step.frozen.is_some_and(|f| f > world.max_frozen) {
        fault(ReasonCode::Frozen10, format!("it would be silent longer than {}", world.max_frozen));
    }
    match world.leases.get(&step.lease) {
        None => fault(ReasonCode::NoFit, format!("there is no lease {}", step.lease)),
        Some(lease) if !lease.active => {
            fault(ReasonCode::Expired, format!("lease {} is not active any more", step.lease));
        }
        Some(lease) if lease.node != step.destination => {
            fault(ReasonCode::Changed, format!("lease {} is on {}, not {}", step.lease, lease.node, step.destination));
        }
        Some(_) => {}
    }
}

fn of_process(step: &PlanStep, world: &World, fault: Fault<'_>) {
    let Some(now) = world.processes.get(&step.process) else {
        return fault(ReasonCode::Changed, format!("{} is gone, or its number belongs to another now", step.process));
    };
    if now.node != step.source {
        fault(ReasonCode::Changed, format!("{} lives on {}, not {}", step.process, now.node, step.source));
    }
    if now.busy {
        fault(ReasonCode::Away, format!("{} is being moved or away", step.process));
    }
    if now.uid != step.uid {
        fault(ReasonCode::Changed, format!("it belongs to uid {} now, not {}", now.uid, step.uid));
    }
    if world.asked_by.is_some_and(|asker| asker != 0 && asker != now.uid) {
        fault(ReasonCode::Owner, format!("it belongs to uid {}", now.uid));
    }
    for reason in &now.cannot {
        fault(reason.code, reason.detail.clone());
    }
    if now.used.memory > step.needed.memory {
        let detail = format!("it uses {} by now, {} were planned", now.used.memory, step.needed.memory);
        fault(ReasonCode::Changed, detail);
    }
    if now.used.gpu > step.needed.gpu {
        fault(ReasonCode::Changed, format!("it uses {} GPUs by now, {} planned", now.used.gpu, step.needed.gpu));
    }
    if step.needed.cpu.0 == 0 || step.needed.memory.0 == 0 {
        fault(ReasonCode::NoFit, "a process needs some CPU and some memory".to_owned());
    }
}

/// No lease is over-committed by the steps in sum.
fn sums(plan: &Plan, world: &World, found: &mut Vec<Violation>) {
    let mut totals: BTreeMap<&LeaseId, [u128; 3]> = BTreeMap::new();
    for step in &plan.steps {
        let t = totals.entry(&step.lease).or_default();
        t[0] += u128::from(step.needed.cpu.0);
        t[1] += u128::from(step.needed.memory.0);
        t[2] += u128::from(step.needed.gpu);
    }
    for (id, total) in totals {
        let Some(lease) = world.leases.get(id) else { continue };
        let free = [u128::from(lease.free.cpu.0), u128::from(lease.free.memory.0), u128::from(lease.free.gpu)];
        for (what, (need, has)) in ["thousandths of a CPU", "bytes", "GPUs"].iter().zip(total.iter().zip(free)) {
            if *need > has {
                let detail = format!("lease {id}: the steps need {need} {what}, {has} are free");
                found.push(Violation { step: None, reason: Reason::new(ReasonCode::NoFit, detail) });
            }
        }
    }
}
