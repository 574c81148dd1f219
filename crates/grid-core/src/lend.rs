//! What a node lends by its configuration and by its owner's word together, and what that refuses.
//!
//! Owns the answer, on the node itself: its agent refuses by it whatever a head believes. The head plans by the same
//! answer, which it is told with the node's facts. What cannot be understood is taken for a no.

use crate::activity;
use grid_types::lend::{Closed, LendOrder, Lending};
use grid_types::lend_rule::{RuleState, Then};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::{Bytes, MilliCpu, NodeName, Resources};

/// The machine's memory, as its agent sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What new work could have without swapping.
    pub available: Bytes,
    /// What live leases were promised and do not use yet.
    pub unused_promise: Bytes,
}

/// What becomes of leases that are held. Nothing here ends one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// What is not taken back yet is.
    Take,
    /// What was taken back runs on.
    Give,
    /// All stays as it is.
    Leave,
}

/// What the owner's word, and the rule of his that is in force, make of what is lent. A word that cannot be read changes nothing.
pub fn handling(order: &Result<LendOrder, String>, rule: Option<&RuleState>) -> Handling {
    let Ok(order) = order else { return Handling::Leave };
    let by_word = !order.on && order.reclaim;
    let by_rule = rule.is_some_and(|state| state.in_force() && state.rule.then == Then::Reclaim);
    if by_word || by_rule { Handling::Take } else { Handling::Give }
}

/// What a node lends now. `configured`: by its configuration. `order`: its owner's word, or how it could not be read.
/// `rule`: of his, that is in force. `minute`: of its local day. Where the owner keeps memory free and how much there is cannot be told, there is none.
pub fn lending(
    configured: Resources,
    order: &Result<LendOrder, String>,
    rule: Option<&RuleState>,
    minute: u16,
    memory: Option<Memory>,
) -> Lending {
    let order = match order {
        Ok(order) => order,
        Err(detail) => {
            let closed = Some(Closed::Unreadable { detail: detail.clone() });
            return Lending { limit: configured, closed, ..Lending::default() };
        }
    };
    let limits = &order.limits;
    let limit = Resources {
        cpu: limits.cpu.map_or(configured.cpu, |cpu| cpu.min(configured.cpu)),
        memory: limits.memory.map_or(configured.memory, |memory| memory.min(configured.memory)),
        ..configured
    };
    let closed = match (order.on, limits.hours) {
        _ if order.asleep.is_some() => Some(Closed::Asleep),
        (false, _) if order.reclaim => Some(Closed::Reclaimed),
        (false, _) => Some(Closed::Owner),
        _ if rule.is_some() => rule.map(|state| Closed::Rule { state: state.clone() }),
        (true, Some(hours)) if !hours.contains(minute) => Some(Closed::Hours { hours }),
        _ => None,
    };
    let spare = |keep: Bytes| {
        let free = memory.map_or(0, |m| m.available.0.saturating_sub(m.unused_promise.0));
        Bytes(free.saturating_sub(keep.0))
    };
    Lending { limit, lowered: limit != configured, spare_memory: limits.keep_memory.map(spare), closed }
}

/// May this amount be lent beside what is lent already?
///
/// # Errors
/// `E-NOLEND` where nothing new is lent, `E-NOFIT` with the figures where it is too much.
pub fn admits(lending: &Lending, node: &NodeName, lent: &Resources, asked: &Resources) -> Result<(), Reason> {
    if let Some(why) = &lending.closed {
        let Reason { code, detail } = closed(why);
        return Err(Reason::new(code, format!("{node}: {detail}")));
    }
    let (limit, wanted) = (lending.limit, lent.saturating_add(asked));
    // GPUs are not bounded by the group; the head counts them.
    if wanted.cpu > limit.cpu || wanted.memory > limit.memory {
        let detail = format!("{node} lends {limit} in all and has lent {lent}: {asked} is too much");
        return Err(Reason::new(ReasonCode::NoFit, detail));
    }
    match lending.spare_memory {
        Some(spare) if asked.memory > spare => {
            let detail = format!("{node} keeps memory free for its owner, and lends {spare} now");
            Err(Reason::new(ReasonCode::NoFit, detail))
        }
        _ => Ok(()),
    }
}

/// Why nothing new is lent: "its owner switched lending off".
pub fn closed(why: &Closed) -> Reason {
    let text = match why {
        Closed::Owner => "its owner switched lending off".to_owned(),
        Closed::Reclaimed => "its owner took it back".to_owned(),
        Closed::Asleep => "its machine goes to sleep".to_owned(),
        Closed::Hours { hours } => format!("its owner lends only at {hours}"),
        Closed::Rule { state } => activity::why(state),
        Closed::Unreadable { detail } => format!("what its owner said of lending cannot be read: {detail}"),
    };
    Reason::new(ReasonCode::NoLend, text)
}

/// The same reason, whatever was measured meanwhile.
pub fn same(one: &Closed, other: &Closed) -> bool {
    match (one, other) {
        (Closed::Rule { state: one }, Closed::Rule { state: other }) => {
            (one.rule.when.measure(), one.rule.then) == (other.rule.when.measure(), other.rule.then)
        }
        _ => one == other,
    }
}

/// What the owner lends at most, where that is less than the configuration's.
pub fn limited(lending: &Lending) -> Option<String> {
    let Lending { limit, lowered, spare_memory, .. } = lending;
    match (lowered, spare_memory) {
        (false, None) => None,
        (true, None) => Some(format!("its owner lends {limit} at most")),
        (false, Some(spare)) => Some(format!("its owner keeps memory free, {spare} are spare")),
        (true, Some(spare)) => {
            Some(format!("its owner lends {limit} at most, and keeps memory free, {spare} are spare"))
        }
    }
}

/// CPU and memory that are lent beyond a new limit: they stay until their leases end.
pub fn above(lent: &Resources, limit: &Resources) -> Option<Resources> {
    let above = Resources {
        cpu: MilliCpu(lent.cpu.0.saturating_sub(limit.cpu.0)),
        memory: Bytes(lent.memory.0.saturating_sub(limit.memory.0)),
        gpu: 0,
    };
    (!above.is_zero()).then_some(above)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::fixtures::{lender, policy, res, terms};
    use crate::lease::{admit, lendable};
    use grid_types::lend::LendLimits;
    use grid_types::lend_rule::{LendRule, RulePhase, Seen, When};
    use grid_types::{Millis, UnixMs};
    use proptest::prelude::*;

    const CONFIGURED: Resources = Resources { cpu: MilliCpu(4_000), memory: Bytes(8 << 30), gpu: 0 };

    fn order(limits: LendLimits) -> Result<LendOrder, String> {
        Ok(LendOrder { limits, ..LendOrder::default() })
    }

    fn rule(then: Then) -> RuleState {
        let rule = LendRule { when: When::Input, then, hold: Millis(0), quiet: Millis(60_000) };
        RuleState { rule, phase: RulePhase::InForce { since: UnixMs(0), over: None }, seen: None }
    }

    fn memory(available: u64, unused_promise: u64) -> Option<Memory> {
        Some(Memory { available: Bytes(available), unused_promise: Bytes(unused_promise) })
    }

    fn admitted(lending: &Lending, asked: &Resources) -> Result<(), ReasonCode> {
        admits(lending, &"gpu1".into(), &Resources::default(), asked).map_err(|reason| reason.code)
    }

    #[test]
    fn without_a_word_the_configuration_counts() {
        let says = lending(CONFIGURED, &Ok(LendOrder::default()), None, 0, None);
        assert_eq!(says, Lending { limit: CONFIGURED, ..Lending::default() });
        assert_eq!((limited(&says), admitted(&says, &CONFIGURED)), (None, Ok(())));
    }

    #[test]
    fn what_is_off_or_cannot_be_read_or_comes_at_another_time_lends_nothing() {
        let off = |reclaim| Ok(LendOrder { on: false, reclaim, ..LendOrder::default() });
        let night = order(LendLimits { hours: Some("18:00-08:00".parse().unwrap()), ..LendLimits::default() });
        let asleep = Ok(LendOrder { asleep: Some("boot".into()), ..LendOrder::default() });
        let used = "somebody used it: it lends nothing new until that has been over for 1m00s";
        for (order, rule, minute, want) in [
            (off(false), Some(rule(Then::Off)), 0, Some("its owner switched lending off")),
            (off(true), None, 0, Some("its owner took it back")),
            (asleep, None, 0, Some("its machine goes to sleep")),
            (night.clone(), None, 12 * 60, Some("its owner lends only at 18:00-08:00")),
            (night.clone(), None, 20 * 60, None),
            (night, Some(rule(Then::Off)), 20 * 60, Some(used)),
            (Err("no JSON".into()), None, 0, Some("what its owner said of lending cannot be read: no JSON")),
        ] {
            let says = lending(CONFIGURED, &order, rule.as_ref(), minute, None);
            let refused = admits(&says, &"gpu1".into(), &Resources::default(), &res(1, 1, 0)).err();
            assert_eq!(refused.as_ref().map(|r| r.detail.as_str()), want.map(|w| format!("gpu1: {w}")).as_deref());
            assert!(refused.is_none_or(|r| r.code == ReasonCode::NoLend));
        }
    }

    #[test]
    fn what_is_lent_is_taken_back_by_his_word_or_by_his_rule_and_given_back_when_both_are_over() {
        let word = |on, reclaim| Ok(LendOrder { on, reclaim, ..LendOrder::default() });
        let of = |word, then: Option<Then>| handling(&word, then.map(rule).as_ref());
        assert_eq!(of(word(false, true), None), Handling::Take);
        assert_eq!(of(word(false, true), Some(Then::Off)), Handling::Take);
        for on in [true, false] {
            assert_eq!(of(word(on, false), Some(Then::Reclaim)), Handling::Take);
            assert_eq!(of(word(on, false), Some(Then::Off)), Handling::Give);
            assert_eq!(of(word(on, false), None), Handling::Give);
        }
        assert_eq!(of(Err("no JSON".into()), Some(Then::Reclaim)), Handling::Leave);
        let calm = RuleState { phase: RulePhase::Calm, ..rule(Then::Reclaim) };
        assert_eq!(handling(&word(true, false), Some(&calm)), Handling::Give);
    }

    #[test]
    fn a_reason_is_the_same_whatever_is_measured() {
        let of = |then, seen| Closed::Rule { state: RuleState { seen, ..rule(then) } };
        let input = Seen::Input { terminal: "pts/3".into(), at: UnixMs(1) };
        assert!(same(&of(Then::Off, None), &of(Then::Off, Some(input))));
        assert!(!same(&of(Then::Off, None), &of(Then::Reclaim, None)));
        assert!(same(&Closed::Owner, &Closed::Owner) && !same(&Closed::Owner, &Closed::Reclaimed));
    }

    #[test]
    fn what_is_lent_above_a_new_limit_is_said() {
        assert_eq!(above(&res(3_000, 100, 1), &res(1_000, 200, 0)), Some(res(2_000, 0, 0)));
        assert_eq!(above(&res(1_000, 100, 1), &res(1_000, 200, 0)), None);
    }

    #[test]
    fn kept_memory_counts_what_leases_may_still_take_and_is_none_where_nothing_is_known() {
        let keep = order(LendLimits { keep_memory: Some(Bytes(4 << 30)), ..LendLimits::default() });
        let spare = |memory| lending(CONFIGURED, &keep, None, 0, memory).spare_memory;
        assert_eq!(spare(memory(7 << 30, 1 << 30)), Some(Bytes(2 << 30)));
        assert_eq!(spare(memory(4 << 30, 1 << 30)), Some(Bytes(0)));
        assert_eq!(spare(None), Some(Bytes(0)));
        let says = lending(CONFIGURED, &keep, None, 0, memory(7 << 30, 1 << 30));
        assert_eq!(admitted(&says, &res(100, 2 << 10, 0)), Ok(()));
        assert_eq!(admitted(&says, &res(100, (2 << 10) + 1, 0)), Err(ReasonCode::NoFit));
    }

    proptest! {
        /// The head never plans what the lender's own agent would refuse, and the owner only ever lowers.
        #[test]
        fn what_the_head_plans_the_lender_admits(
            (cpu, mib) in (0u32..5_000, 0u64..10_000),
            keep in proptest::option::of(0u64..8_000),
            (available, asked_cpu, asked_mib) in (0u64..16_000, 1u32..6_000, 1u64..10_000),
            limits in any::<(bool, bool)>(),
        ) {
            let limits = LendLimits {
                cpu: limits.0.then_some(MilliCpu(cpu)),
                memory: limits.1.then_some(Bytes(mib << 20)),
                keep_memory: keep.map(|k| Bytes(k << 20)),
                hours: None,
            };
            let says = lending(CONFIGURED, &order(limits), None, 0, memory(available << 20, 0));
            prop_assert!(says.limit.fits_in(&CONFIGURED));
            let mut view = lender("gpu1", res(64_000, 64_000, 0), res(0, 0, 0));
            view.says = Some(says.clone());
            let asked = res(asked_cpu, asked_mib, 0);
            if admit(&terms(asked), &[view.clone()], &policy(), 0).is_ok() {
                prop_assert_eq!(admitted(&says, &asked), Ok(()));
            }
            if let Ok(l) = lendable(&view, &policy()) {
                prop_assert!(admitted(&says, &l.amount).is_ok());
            }
        }
    }
}
