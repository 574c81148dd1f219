use super::fixtures::*;
use super::*;
use grid_types::boost::{BoostRequest, BoostState, Priority};
use grid_types::exit::FaultClass;
use grid_types::policy::{AtEnd, SharingPolicy};
use grid_types::reason::ReasonCode;
use grid_types::{Bytes, MilliCpu};
use proptest::prelude::*;

fn request(amount: Resources) -> BoostRequest {
    BoostRequest {
        borrower: "head".into(),
        amount,
        priority: Priority::Normal,
        duration: None,
        from: None,
        at_end: None,
    }
}

fn nodes() -> Vec<NodeName> {
    ["head", "gpu1", "gpu2"].map(NodeName::from).to_vec()
}

#[test]
fn the_better_fit_lends_and_says_why() {
    let lenders = [
        lender("gpu1", res(16_000, 65_536, 0), res(0, 0, 0)),
        lender("gpu2", res(8_000, 32_768, 0), res(400, 2_048, 0)),
    ];
    let grant = admit(&terms(res(2_000, 8_192, 0)), &lenders, &policy(), 0).unwrap();
    assert_eq!(grant.lender, "gpu2".into());
    assert_eq!(grant.chosen, "gpu2 best fit, 6.0 CPU 23.6 GiB lendable before; gpu1 has 12.8 CPU 51.2 GiB");
}

#[test]
fn priority_breaks_a_tie_then_the_name() {
    let mut lenders =
        [lender("b", res(4_000, 4_096, 0), res(0, 0, 0)), lender("a", res(4_000, 4_096, 0), res(0, 0, 0))];
    let want = terms(res(1_000, 512, 0));
    assert_eq!(admit(&want, &lenders, &policy(), 0).unwrap().lender, "a".into());
    lenders[0].sharing.priority = 2.0;
    assert_eq!(admit(&want, &lenders, &policy(), 0).unwrap().lender, "b".into());
}

#[test]
fn a_refusal_names_exact_figures_for_each_node() {
    let mut gpu1 = lender("gpu1", res(6_000, 16_384, 0), res(1_900, 7_680, 0));
    gpu1.sharing.max_cpu = Some(MilliCpu(4_000));
    gpu1.sharing.max_memory = Some(Bytes(8 << 30));
    gpu1.leases.push(lent("b-3aa", res(1_900, 7_680, 0)));
    gpu1.lease_use = res(1_900, 7_680, 0);
    let mut gpu2 = lender("gpu2", res(8_000, 32_768, 0), res(0, 0, 0));
    gpu2.silent_for = Some(Millis(35 * 60_000));
    let refusal = admit(&terms(res(6_000, 40_960, 0)), &[gpu1, gpu2], &policy(), 0).unwrap_err();
    assert_eq!(
        refusal.reasons[0].1.detail,
        "2.1 of 4.0 CPU, 512 MiB of 8.0 GiB free; 1.9 CPU 7.5 GiB lent as b-3aa until 12:40"
    );
    assert_eq!(refusal.reasons[1].1.to_string(), "E-SILENT silent 35m00s");
    assert_eq!(refusal.nearest, Some(Nearest { amount: res(2_100, 512, 0), node: "gpu1".into() }));
    assert_eq!(refusal.class(), FaultClass::NoCapacity);
    assert_eq!(refusal.to_string(), "no lender has 6.0 CPU 40.0 GiB together. Nothing was reserved.");
}

#[test]
fn its_own_work_and_the_reserve_are_named_where_they_are_what_is_short() {
    let gpu1 = lender("gpu1", res(4_000, 8_192, 0), res(3_000, 1_024, 0));
    let refusal = admit(&terms(res(1_000, 512, 0)), &[gpu1], &policy(), 0).unwrap_err();
    assert_eq!(
        refusal.reasons[0].1.detail,
        "0.2 of 4.0 CPU, 5.4 GiB of 8.0 GiB free; its own work uses 3.0 CPU 1.0 GiB, 0.8 CPU 1.6 GiB kept free"
    );
}

#[test]
fn unknown_use_lends_nothing_and_neither_does_the_borrower() {
    let mut blind = lender("gpu1", res(4_000, 4_096, 0), res(0, 0, 0));
    blind.used = None;
    let own = lender("head", res(4_000, 4_096, 0), res(0, 0, 0));
    let mut shut = own.clone();
    shut.node = "gpu2".into();
    shut.sharing.can_share = false;
    let refusal = admit(&terms(res(100, 1, 0)), &[blind, own, shut], &policy(), 0).unwrap_err();
    let codes: Vec<_> = refusal.reasons.iter().map(|r| r.1.code).collect();
    assert_eq!(codes, [ReasonCode::Silent, ReasonCode::Self_, ReasonCode::NoLend]);
    assert_eq!(refusal.nearest, None);
}

#[test]
fn from_considers_that_node_only_and_nearest_looks_at_all() {
    let lenders =
        [lender("gpu1", res(1_000, 1_024, 0), res(0, 0, 0)), lender("gpu2", res(8_000, 8_192, 0), res(0, 0, 0))];
    let mut want = terms(res(2_000, 512, 0));
    want.from = Some("gpu1".into());
    let refusal = admit(&want, &lenders, &policy(), 0).unwrap_err();
    assert_eq!(refusal.reasons.len(), 1);
    assert_eq!(refusal.nearest, Some(Nearest { amount: res(2_000, 512, 0), node: "gpu2".into() }));
}

#[test]
fn guests_beyond_their_lease_count_as_own_use() {
    let mut l = lender("gpu1", res(4_000, 4_000, 0), res(3_000, 2_000, 0));
    l.leases.push(lent("b-1", res(1_000, 1_000, 0)));
    l.lease_use = res(3_000, 2_000, 0);
    let answer = lendable(&l, &policy()).unwrap();
    assert_eq!(answer.own_use, res(2_000, 1_000, 0));
    assert_eq!(answer.amount, res(200, 1_200, 0));
}

#[test]
fn the_sharing_policy_sets_the_reserve() {
    let total = res(10_000, 1_000, 4);
    for (sharing, cpu) in [(SharingPolicy::Conservative, 4_000), (SharingPolicy::Aggressive, 1_000)] {
        let p = grid_types::policy::Policy { sharing, ..policy() };
        assert_eq!(reserve(total, &p).cpu, MilliCpu(cpu));
        assert_eq!(reserve(total, &p).gpu, 0);
    }
}

#[test]
fn bad_requests_are_refused_before_any_lender_is_asked() {
    let p = policy();
    let good = request(res(1_000, 1, 0));
    let with = |f: &dyn Fn(&mut BoostRequest)| {
        let mut r = good.clone();
        f(&mut r);
        validate_request(&r, &nodes(), &p).unwrap_err()
    };
    assert_eq!(with(&|r| r.borrower = "hed".into()).class(), FaultClass::NotFound);
    assert_eq!(with(&|r| r.from = Some("x".into())).class(), FaultClass::NotFound);
    assert_eq!(with(&|r| r.from = Some("head".into())).code(), Some(ReasonCode::Self_));
    assert_eq!(with(&|r| r.amount = Resources::default()), RequestFault::AmountZero);
    assert_eq!(with(&|r| r.amount.memory = Bytes(u64::MAX)).class(), FaultClass::Usage);
    assert_eq!(with(&|r| r.duration = Some(Millis(0))).class(), FaultClass::Usage);
    assert_eq!(with(&|r| r.duration = Some(Millis(u64::MAX))).class(), FaultClass::Refused);
}

#[test]
fn defaults_are_filled_in_and_end_is_never_a_default() {
    let mut p = policy();
    p.limits.at_end = AtEnd::End;
    let t = validate_request(&request(res(1_000, 1, 0)), &nodes(), &p).unwrap();
    assert_eq!((t.duration, t.at_end), (Millis(3_600_000), AtEnd::Recall));
    let asked = BoostRequest { at_end: Some(AtEnd::End), ..request(res(1, 1, 0)) };
    assert_eq!(validate_request(&asked, &nodes(), &p).unwrap().at_end, AtEnd::End);
}

#[test]
fn an_extension_counts_from_the_present_end() {
    let b = boost("b-1", "gpu1", res(1, 1, 0), BoostState::Active);
    let (until, unix, epoch) = validate_extension(&b, Millis(5_000), &policy(), &clock(4_000)).unwrap();
    assert_eq!((until.0, unix.0, epoch), (15_000, 1_015_000, 2));
    let over = boost("b-1", "gpu1", res(1, 1, 0), BoostState::Overdue { detail: String::new() });
    assert_eq!(validate_extension(&over, Millis(5_000), &policy(), &clock(60_000)).unwrap().0.0, 65_000);
    assert!(validate_extension(&b, Millis(8 * 86_400_000), &policy(), &clock(0)).is_err());
    let ending = boost("b-1", "gpu1", res(1, 1, 0), BoostState::Granting);
    assert_eq!(
        validate_extension(&ending, Millis(5_000), &policy(), &clock(0)).unwrap_err().class(),
        FaultClass::Conflict
    );
}

#[test]
fn open_memory_is_what_the_plan_needs() {
    let needs = [res(1_000, 600, 0), res(1_500, 9_000, 0), res(1_000, 400, 0)];
    assert_eq!(complete_amount(res(2_000, 0, 0), &needs, 5, None), res(2_000, 1_000, 0));
    assert_eq!(complete_amount(res(2_000, 0, 0), &[], 5, None), res(2_000, 256, 0));
    assert_eq!(complete_amount(res(0, 2_000, 0), &needs, 1, None), res(1_000, 2_000, 0));
    assert_eq!(complete_amount(res(9_000, 0, 0), &needs, 5, Some(res(9_000, 700, 0))), res(9_000, 600, 0));
}

fn amount() -> impl Strategy<Value = Resources> {
    (0u32..6_000, 0u64..6_000, 0u32..3).prop_map(|(c, m, g)| res(c, m, g))
}

fn lender_strategy(name: &'static str) -> impl Strategy<Value = LenderView> {
    (amount(), amount(), proptest::option::of(0u32..5_000), any::<bool>()).prop_map(move |(total, used, cap, known)| {
        let mut l = lender(name, total, used.min(&total));
        l.sharing.max_cpu = cap.map(MilliCpu);
        if !known {
            l.used = None;
        }
        l
    })
}

#[derive(Clone, Debug)]
enum Op {
    Admit(Resources),
    Release(usize),
    /// The lender's own use changes.
    Use(usize, Resources),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => amount().prop_map(Op::Admit),
        1 => any::<usize>().prop_map(Op::Release),
        1 => (0usize..3, amount()).prop_map(|(i, u)| Op::Use(i, u)),
    ]
}

/// Straight from the words of the promise, not from the code: each part within limit, and within what was free.
fn within_promise(l: &LenderView, taken: &Resources) -> bool {
    let all = l.promised().saturating_add(taken);
    let own = l.used.unwrap_or(l.total);
    let kept = reserve(l.total, &policy());
    all.fits_in(&l.sharing.lending_limit(l.total))
        && (taken.cpu.0 == 0
            || u64::from(all.cpu.0) + u64::from(own.cpu.0) + u64::from(kept.cpu.0) <= l.total.cpu.0.into())
        && (taken.memory.0 == 0 || all.memory.0 + own.memory.0 + kept.memory.0 <= l.total.memory.0)
        && (taken.gpu == 0 || all.gpu + own.gpu <= l.total.gpu)
}

proptest! {
    #[test]
    fn no_sequence_over_commits_a_lender(
        mut lenders in (lender_strategy("a"), lender_strategy("b"), lender_strategy("c")).prop_map(|(a, b, c)| vec![a, b, c]),
        ops in proptest::collection::vec(op(), 1..40),
    ) {
        for (n, op) in ops.into_iter().enumerate() {
            match op {
                Op::Use(i, used) => lenders[i].used = Some(used.min(&lenders[i].total)),
                Op::Release(i) => {
                    let l = &mut lenders[i % 3];
                    if !l.leases.is_empty() { l.leases.remove(i % l.leases.len()); }
                }
                Op::Admit(asked) if asked.is_zero() => {}
                Op::Admit(asked) => match admit(&terms(asked), &lenders, &policy(), 0) {
                    Ok(grant) => {
                        let l = lenders.iter_mut().find(|l| l.node == grant.lender).unwrap();
                        prop_assert!(l.used.is_some());
                        prop_assert!(within_promise(l, &grant.amount));
                        l.leases.push(lent(&format!("b-{n}"), grant.amount));
                    }
                    Err(refusal) => {
                        prop_assert_eq!(refusal.reasons.len(), lenders.len());
                        prop_assert!(lenders.iter().all(|l| l.used.is_none() || !within_promise(l, &asked) || l.sharing.lending_limit(l.total).is_zero()));
                        if let Some(near) = refusal.nearest {
                            prop_assert!(admit(&terms(near.amount), &lenders, &policy(), 0).is_ok());
                        }
                    }
                },
            }
        }
    }

    #[test]
    fn the_best_fit_is_chosen(totals in proptest::collection::vec(1u32..9_000, 1..5), asked in 1u32..4_000) {
        // One resource alone makes "best" plain: the least lendable that still holds it.
        let lenders: Vec<_> = totals.iter().enumerate()
            .map(|(i, cpu)| lender(&format!("n{i}"), res(*cpu, 0, 0), res(0, 0, 0))).collect();
        let room = |l: &LenderView| lendable(l, &policy()).map_or(0, |a| a.amount.cpu.0);
        let want = lenders.iter().map(room).filter(|c| *c >= asked).min();
        let got = admit(&terms(res(asked, 0, 0)), &lenders, &policy(), 0).ok()
            .and_then(|g| lenders.iter().find(|l| l.node == g.lender)).map(room);
        prop_assert_eq!(got, want);
    }
}
