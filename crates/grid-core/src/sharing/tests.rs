use super::*;
use crate::lease::fixtures::*;
use grid_types::boost::{BoostState, EndReason};
use grid_types::policy::{Mode, ProcessKind, Thresholds};
use proptest::prelude::*;

fn lease(id: &str, free: Resources) -> LeaseView {
    LeaseView { lease: id.into(), boost: id.into(), node: format!("n-{id}").as_str().into(), amount: free, free }
}

fn boosted(amount: Resources) -> Boosted {
    Boosted { sum: amount, boosts: vec![("b-7k2".into(), amount)], unread: None }
}

fn situation(boosted: &Boosted, free: Resources, mean: Option<f64>) -> Situation<'_> {
    Situation {
        head_total: res(8_000, 32_768, 0),
        head_free: Some(free),
        boosted,
        mean_pressure: mean,
        thresholds: Thresholds::default(),
    }
}

#[test]
fn d1_active_boosts_of_the_head_are_summed_and_named() {
    let mut other = boost("b-3", "gpu1", res(9_000, 9, 9), BoostState::Active);
    other.borrower = "gpu2".into();
    let boosts = [
        boost("b-1", "gpu1", res(2_000, 1_024, 0), BoostState::Active),
        boost("b-2", "gpu2", res(1_000, 1_024, 1), BoostState::Active),
        other,
        boost("b-4", "gpu2", res(9_000, 9, 9), BoostState::Ending { why: EndReason::Expired }),
    ];
    let sum = Boosted::of(&boosts, &"head".into());
    assert_eq!(sum.sum, res(3_000, 2_048, 1));
    let why =
        decide(Mode::DynamicBalancing, &res(100, 10, 0), true, &situation(&sum, res(1, 20_000, 0), Some(0.1))).why;
    assert!(why.contains("b-1 2.0 CPU 1.0 GiB, b-2 1.0 CPU 1.0 GiB 1 GPU"), "{why}");
}

#[test]
fn d2_fits_is_free_plus_boosted_for_all_three_at_once() {
    let (free, more) = (res(1_000, 1_000, 0), res(1_000, 1_000, 1));
    assert!(fits_capacity(&res(2_000, 2_000, 1), &free, &more));
    for need in [res(2_200, 2_000, 1), res(2_000, 2_001, 1), res(2_000, 2_000, 2)] {
        assert!(!fits_capacity(&need, &free, &more), "{need}");
    }
}

#[test]
fn d2_what_the_boosted_head_holds_runs_in_the_lease() {
    let leases = [lease("b-1", res(2_000, 4_096, 0)), lease("b-2", res(2_000, 2_048, 0))];
    let head = res(8_000, 8_192, 0);
    assert_eq!(fits_whole(&res(1_000, 1_024, 0), Some(&head), &leases), Whole::Lease(&leases[1]));
    assert_eq!(fits_whole(&res(1_000, 5_000, 0), Some(&head), &leases), Whole::Head);
    assert_eq!(fits_whole(&res(1_000, 9_000, 0), Some(&head), &leases), Whole::Split);
    assert_eq!(fits_whole(&res(1_000, 90_000, 0), Some(&head), &leases), Whole::Nowhere);
    assert_eq!(fits_whole(&res(1_000, 9_000, 0), None, &leases), Whole::Nowhere);
}

#[test]
fn two_busy_threads_fit_a_lease_of_two_cpus() {
    let leases = [lease("b-1", res(2_000, 1_024, 0))];
    assert_eq!(fits_whole(&res(2_060, 100, 0), None, &leases), Whole::Lease(&leases[0]));
    assert_eq!(fits_whole(&res(2_200, 100, 0), None, &leases), Whole::Nowhere);
}

#[test]
fn d3_offload_only_is_always_the_worker() {
    let none = Boosted::default();
    let s = situation(&none, res(8_000, 30_000, 0), Some(0.0));
    assert_eq!(decide(Mode::OffloadOnly, &res(1, 1, 0), true, &s).keep, Keep::Worker);
}

#[test]
fn d3_share_and_offload_is_the_head_if_it_fits_and_may_share() {
    let none = Boosted::default();
    let s = situation(&none, res(1_000, 1_000, 0), Some(0.99));
    let keep = |need, share| decide(Mode::ShareAndOffload, &need, share, &s).keep;
    assert_eq!(keep(res(500, 500, 0), true), Keep::Head);
    assert_eq!(keep(res(500, 500, 0), false), Keep::Worker);
    assert_eq!(keep(res(500, 5_000, 0), true), Keep::Worker);
}

#[test]
fn d3_dynamic_balancing_follows_memory_fit_and_mean_pressure() {
    let none = Boosted::default();
    let keep = |free, share, mean| {
        let d = decide(Mode::DynamicBalancing, &res(1_000, 1_000, 0), share, &situation(&none, free, mean));
        (d.keep, d.why)
    };
    let roomy = res(4_000, 16_000, 0);
    let no_cpu = res(0, 16_000, 0);
    assert_eq!(keep(roomy, false, Some(0.69)).0, Keep::Head);
    assert_eq!(keep(roomy, true, Some(0.7)).0, Keep::HeadShared);
    assert_eq!(keep(no_cpu, true, Some(0.1)).0, Keep::HeadShared);
    assert_eq!(keep(roomy, true, Some(0.9)), (Keep::Worker, "high cluster pressure 0.90".into()));
    assert_eq!(keep(roomy, false, Some(0.8)).0, Keep::Worker);
    assert_eq!(keep(res(4_000, 2_000, 0), true, Some(0.1)), (Keep::Worker, "memory is short, boosts counted".into()));
    assert_eq!(keep(roomy, true, None).0, Keep::Worker);
}

#[test]
fn d4_memory_rule_counts_boosts() {
    let need = res(1_000, 3_000, 0);
    let free = res(4_000, 2_000, 0);
    let none = Boosted::default();
    assert!(memory_rule_says_away(&need, &situation(&none, free, Some(0.1))));
    let more = boosted(res(0, 16_384, 0));
    assert!(!memory_rule_says_away(&need, &situation(&more, free, Some(0.1))));
    assert_eq!(decide(Mode::DynamicBalancing, &need, false, &situation(&more, free, Some(0.1))).keep, Keep::Head);
}

#[test]
fn d5_eligibility_and_choice_count_boosts() {
    let node = |name: &str, free, boosted| SchedNode { node: name.into(), free, boosted };
    let need = res(2_000, 2_000, 0);
    let nodes = [
        node("head", Some(res(1_000, 1_000, 0)), res(1_500, 1_500, 0)),
        node("gpu1", Some(res(9_000, 9_000, 0)), Resources::default()),
        node("gpu2", None, res(9_000, 9_000, 0)),
    ];
    let names: Vec<_> = eligible(&nodes, &need).iter().map(|n| n.node.as_str().to_owned()).collect();
    assert_eq!(names, ["head", "gpu1"]);
}

#[test]
fn d6_unreadable_boosts_count_as_none_and_that_is_said() {
    let b = Boosted::unreadable("journal is locked");
    assert!(b.sum.is_zero());
    let s = situation(&b, res(4_000, 16_000, 0), Some(0.1));
    let d = decide(Mode::DynamicBalancing, &res(1, 1, 0), true, &s);
    assert!(d.why.ends_with("boosts unreadable, counted as none: journal is locked"), "{}", d.why);
}

#[test]
fn d8_no_boost_manager_at_all_works() {
    let none = Boosted::default();
    assert_eq!(none.text(), None);
    let d = decide(Mode::ShareAndOffload, &res(1, 1, 0), true, &situation(&none, res(9, 9, 0), None));
    assert_eq!(d.why, "fits the head with its boosts and may share");
    assert_eq!(fits_whole(&res(1, 1, 0), Some(&res(9, 9, 0)), &[]), Whole::Head);
}

#[test]
fn what_talks_with_a_person_does_not_share() {
    let mut v = verdict(1, res(1, 1, 0));
    assert!(may_share(&v));
    v.kind = ProcessKind::Interactive;
    assert!(!may_share(&v));
}

proptest! {
    #[test]
    fn where_it_fits_whole_it_fits_the_sum(n in 0u32..4_000, m in 0u64..4_000, h in 0u32..4_000, l in 0u64..4_000) {
        let need = res(n, m, 0);
        let head = res(h, m / 2, 0);
        let leases = [lease("b-1", res(n / 2, l, 0)), lease("b-2", res(h, m, 0))];
        let sum = leases.iter().fold(Resources::default(), |s, v| s.saturating_add(&v.free));
        match fits_whole(&need, Some(&head), &leases) {
            Whole::Nowhere => prop_assert!(!fits_capacity(&need, &head, &sum)),
            _ => prop_assert!(fits_capacity(&need, &head, &sum)),
        }
    }
}
