//! Why a process stays: its own reasons first, then what grid knows about it.

use super::{Busy, PlanInput};
use grid_types::plan::{Stay, Trigger, Verdict};
use grid_types::reason::{Reason, ReasonCode};

pub(super) fn stay(v: &Verdict, reasons: Vec<Reason>) -> Stay {
    Stay { process: v.id.clone(), title: v.title.clone(), used: v.used, reasons }
}

/// Reasons that hold whatever the leases have; empty where it may be chosen.
pub(super) fn own_reasons(v: &Verdict, input: &PlanInput<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if let Some(uid) = input.asked_by
        && uid != 0
        && uid != v.uid
    {
        reasons.push(Reason::new(ReasonCode::Owner, format!("it belongs to uid {}, you are uid {uid}", v.uid)));
    }
    let by_name = matches!(input.trigger, Trigger::Named { .. });
    match input.busy.get(&v.id) {
        // Whatever else is seen of it is its shadow's.
        Some(busy @ (Busy::Moving(_) | Busy::Away(_))) => {
            reasons.extend(busy_reason(busy, by_name));
            return reasons;
        }
        Some(busy) => reasons.extend(busy_reason(busy, by_name)),
        None => {}
    }
    // What a person keeps stays also where it is named; the other protections are grid's own caution.
    reasons.extend(v.not_worth.iter().filter(|r| !by_name || r.code == ReasonCode::Keep).cloned());
    match &v.cannot {
        Some(cannot) => reasons.extend(cannot.iter().cloned()),
        None if reasons.is_empty() => {
            reasons.push(Reason::new(ReasonCode::Unknown, "it was not looked at closely enough to move it"));
        }
        None => {}
    }
    reasons
}

/// A person who names a process need not wait for its cool-down.
fn busy_reason(busy: &Busy, by_name: bool) -> Option<Reason> {
    match busy {
        Busy::Moving(id) => Some(Reason::new(ReasonCode::Away, format!("it is being moved as {id}"))),
        Busy::Away(id) => Some(Reason::new(ReasonCode::Away, format!("it is away as {id}"))),
        Busy::Cooldown(_) if by_name => None,
        Busy::Cooldown(left) => {
            Some(Reason::new(ReasonCode::Cooldown, format!("moved or refused a moment ago, {left} to go")))
        }
    }
}
