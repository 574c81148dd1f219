//! The step for one process, or why there is none.

use super::need::{freeze_within, needed};
use super::{PlanInput, stay};
use crate::sharing::{self, Decision, Keep, LeaseView, Situation, Whole};
use grid_types::plan::{PlanStep, Trigger, Verdict};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::{Millis, Resources};

/// Decides for `v`; takes what the step needs out of `room`.
pub(super) fn step_for(
    v: &Verdict,
    input: &PlanInput<'_>,
    room: &mut [LeaseView],
    taken: usize,
) -> Result<PlanStep, Vec<Reason>> {
    let own = stay::own_reasons(v, input);
    if !own.is_empty() {
        return Err(own);
    }
    let (limit, most) = (input.policy.engine.link_limit(), input.policy.limits.max_frozen);
    let frozen = freeze_within(v.used.memory, input.rate, limit, most).map_err(|why| vec![why])?;
    let need = needed(v);
    let decision = decide(v, &need, input);
    let lease = destination(&need, &decision, input, room)?;
    if taken >= usize::try_from(input.limit).unwrap_or(usize::MAX) {
        return Err(vec![Reason::new(ReasonCode::Limit, format!("{taken} of at most {} are taken", input.limit))]);
    }
    let lease = room.iter_mut().find(|l| l.lease == lease).ok_or_else(|| vec![no_lease()])?;
    Ok(take(v, need, frozen, &decision, lease, input))
}

fn decide(v: &Verdict, need: &Resources, input: &PlanInput<'_>) -> Decision {
    if let Trigger::Named { .. } = input.trigger {
        return Decision { keep: Keep::Worker, why: "named by hand".to_owned() };
    }
    let situation = Situation {
        head_total: input.head_total,
        head_free: input.head_free,
        boosted: input.boosted,
        mean_pressure: input.mean_pressure,
        thresholds: input.policy.thresholds,
    };
    sharing::decide(input.policy.mode, need, sharing::may_share(v), &situation)
}

/// The lease that takes it whole. After a boost's activation that boost's lease comes first; the others only where the
/// mode says "worker".
fn destination(
    need: &Resources,
    decision: &Decision,
    input: &PlanInput<'_>,
    room: &[LeaseView],
) -> Result<grid_types::LeaseId, Vec<Reason>> {
    let head_free = input.head_free.as_ref();
    if let Trigger::BoostActivated { boost } = &input.trigger {
        if let Whole::Lease(l) = sharing::fits_whole(need, None, room.iter().filter(|l| l.boost == *boost)) {
            return Ok(l.lease.clone());
        }
        if decision.keep != Keep::Worker {
            return Err(vec![no_fit(need, head_free, room.iter().filter(|l| l.boost == *boost))]);
        }
    }
    match sharing::fits_whole(need, head_free, room) {
        Whole::Lease(l) => Ok(l.lease.clone()),
        _ => Err(vec![no_fit(need, head_free, room)]),
    }
}

/// "needs 1.9 CPU 770 MiB; b-7k2 on gpu2 has 0.0 CPU 2.1 GiB left": `E-SPLIT` where the sum would do, else `E-NOFIT`.
fn no_fit<'a>(
    need: &Resources,
    head_free: Option<&Resources>,
    leases: impl IntoIterator<Item = &'a LeaseView>,
) -> Reason {
    let leases: Vec<_> = leases.into_iter().collect();
    if leases.is_empty() {
        return Reason::new(ReasonCode::NoFit, format!("{need} needs a lease, and there is none"));
    }
    let left: Vec<_> = leases.iter().map(|l| format!("{} on {} has {} left", l.boost, l.node, l.free)).collect();
    let split = matches!(sharing::fits_whole(need, head_free, leases.iter().copied()), Whole::Split);
    let (code, what) = match head_free {
        Some(free) if split => (ReasonCode::Split, format!(", head {free} free: only their sum would hold it")),
        _ => (ReasonCode::NoFit, String::new()),
    };
    Reason::new(code, format!("needs {need}; {}{what}", left.join(", ")))
}

fn no_lease() -> Reason {
    Reason::new(ReasonCode::NoFit, "there is no lease")
}

fn take(
    v: &Verdict,
    need: Resources,
    frozen: Option<Millis>,
    decision: &Decision,
    lease: &mut LeaseView,
    input: &PlanInput<'_>,
) -> PlanStep {
    let available = lease.free;
    // Two busy threads can read 2.03 CPUs: what is taken is never more than the lease has.
    let need = Resources { cpu: need.cpu.min(available.cpu), ..need };
    lease.free = available.saturating_sub(&need);
    PlanStep {
        process: v.id.clone(),
        title: v.title.clone(),
        uid: v.uid,
        source: input.head.clone(),
        destination: lease.node.clone(),
        lease: lease.lease.clone(),
        needed: need,
        available,
        memory: v.used.memory,
        cpu: v.used.cpu,
        frozen,
        confidence: v.confidence,
        complexity: v.complexity,
        reason: format!("relieves {} of {}; whole in {}: {}", input.head, v.used, lease.boost, decision.why),
    }
}
