use super::*;
use crate::lease::fixtures::*;
use crate::plan::tests::{case, lease};
use grid_types::boost::EndReason;
use grid_types::reason::{Reason, ReasonCode};
use proptest::prelude::*;

fn bucket() -> Bucket {
    Bucket::of(&AutoOffload::default(), BootMs(0))
}

fn run(b: &Boost, mode: AutoMode, bucket: &mut Bucket, now: u64) -> Action {
    decide(b, &"head".into(), mode, bucket, &AutoOffload::default(), BootMs(now))
}

fn active() -> Boost {
    boost("b-1", "gpu1", res(1, 1, 0), BoostState::Active)
}

#[test]
fn o1_an_activation_runs_at_most_five() {
    assert_eq!(run(&active(), AutoMode::On, &mut bucket(), 0), Action::Run { limit: 5 });
    assert_eq!(run(&active(), AutoMode::Observe, &mut bucket(), 0), Action::Observe { limit: 5 });
}

#[test]
fn b4_a_boost_for_another_node_sets_nothing_in_motion() {
    let b = Boost { borrower: "gpu2".into(), ..active() };
    let mut full = bucket();
    assert!(matches!(run(&b, AutoMode::On, &mut full, 0), Action::Skip { reason: SkipReason::NotHead { .. } }));
    assert_eq!(full.tokens(BootMs(0)), 3);
}

#[test]
fn b5_a_boost_that_is_not_active_sets_nothing_in_motion() {
    for state in [
        BoostState::Granting,
        BoostState::Failed { detail: String::new() },
        BoostState::Ending { why: EndReason::Released },
    ] {
        let b = Boost { state, ..active() };
        assert_eq!(run(&b, AutoMode::On, &mut bucket(), 0), Action::Skip { reason: SkipReason::NotActive });
    }
}

#[test]
fn o8_the_switch_switches_it_off() {
    assert_eq!(run(&active(), AutoMode::Off, &mut bucket(), 0), Action::Skip { reason: SkipReason::Off });
}

#[test]
fn o10_frequent_boosts_are_rate_limited() {
    let mut b = bucket();
    for _ in 0..3 {
        assert_eq!(run(&active(), AutoMode::On, &mut b, 1_000), Action::Run { limit: 5 });
    }
    let refused = run(&active(), AutoMode::On, &mut b, 4_000);
    assert_eq!(refused, Action::Skip { reason: SkipReason::RateLimited { wait: Millis(7_000) } });
    assert_eq!(run(&active(), AutoMode::On, &mut b, 11_000), Action::Run { limit: 5 });
}

#[test]
fn o10_failures_in_a_row_back_off() {
    let mut c = Cooldowns::default();
    let base = Millis(1_000);
    c.failed(&proc_id(1), BootMs(0));
    assert_eq!(c.left(&proc_id(1), base, BootMs(400)), Some(Millis(600)));
    c.failed(&proc_id(1), BootMs(1_000));
    assert_eq!(c.left(&proc_id(1), base, BootMs(2_500)), Some(Millis(500)));
    for _ in 0..99 {
        c.failed(&proc_id(1), BootMs(0));
    }
    assert_eq!(c.left(&proc_id(1), base, BootMs(0)), Some(Millis(32_000)));
    c.moved(&proc_id(1), BootMs(0));
    assert_eq!(c.left(&proc_id(1), base, BootMs(1_000)), None);
    c.moved(&proc_id(2), BootMs(5));
    c.trim(1);
    assert_eq!(c.cooling(base, BootMs(5)).map(|(p, _)| p.pid).collect::<Vec<_>>(), [2]);
}

#[test]
fn d7_pressure_looks_at_boosts_before_it_offloads() {
    let p = AutoOffload::default();
    assert_eq!(on_pressure(false, AutoMode::On, &[], &p), Action::Skip { reason: SkipReason::NoLease });
    let full = [LeaseView { free: res(0, 0, 0), ..lease("b-1", "gpu1", res(1_000, 1_000, 0)) }];
    assert_eq!(on_pressure(false, AutoMode::On, &full, &p), Action::Skip { reason: SkipReason::NoLease });
    let room = [lease("b-1", "gpu1", res(1_000, 1_000, 0))];
    assert_eq!(on_pressure(false, AutoMode::On, &room, &p), Action::Run { limit: 2 });
    assert_eq!(on_pressure(true, AutoMode::Observe, &room, &p), Action::Observe { limit: 5 });
}

fn round_of(n: i32) -> Round {
    let verdicts = (1..=n).map(|p| verdict(p, res(100, 100, 0))).collect();
    let plan = case(verdicts, vec![lease("b-1", "gpu1", res(8_000, 8_000, 0))]).plan();
    Round::new(Some("b-1".into()), &plan, n as usize)
}

#[test]
fn o2_one_failure_is_logged_and_the_next_is_tried() {
    let mut round = round_of(3);
    let mut n = 0;
    while let Some(step) = round.next_step() {
        n += 1;
        round.done(if step.process.pid == 2 {
            StepResult::Failed(Reason::new(ReasonCode::Criu, "dump failed"))
        } else {
            StepResult::Moved(format!("o-{n}").as_str().into())
        });
    }
    assert_eq!((round.report().moved.len(), round.report().failed.len()), (2, 1));
}

#[test]
fn o3_none_found_says_so() {
    assert_eq!(round_of(0).report().lines(), ["b-1: no process of 0 can move now"]);
}

#[test]
fn o4_a_failing_scan_is_a_report_and_propagates_nowhere() {
    let report = Report::of_failed_scan(Some("b-1".into()), "/proc: permission denied");
    assert_eq!(report.lines(), ["b-1: scan failed, nothing was moved: /proc: permission denied"]);
}

#[test]
fn o5_the_log_has_boost_number_destination_id_and_each_reason() {
    let mut round = round_of(2);
    round.next_step();
    round.done(StepResult::Moved("o-1".into()));
    round.next_step();
    round.done(StepResult::Failed(Reason::new(ReasonCode::Link, "gpu1 closed the connection")));
    assert_eq!(
        round.report().lines(),
        [
            "b-1: 2 of 2 processes to move",
            "b-1: 1 moved to gpu1 as o-1",
            "b-1: 2 stays: E-LINK gpu1 closed the connection",
        ]
    );
}

proptest! {
    #[test]
    fn a_bucket_never_gives_more_than_burst_and_refills(
        burst in 0u32..5, refill in 1u64..1_000, waits in proptest::collection::vec(0u64..500, 1..60),
    ) {
        let mut b = Bucket::new(burst, Millis(refill), BootMs(0));
        let (mut now, mut given) = (0, 0u64);
        for wait in waits {
            now += wait;
            match b.take(BootMs(now)) {
                Ok(()) => given += 1,
                Err(wait) if burst > 0 => prop_assert!(b.clone().take(BootMs(now + wait.0)).is_ok()),
                Err(_) => {}
            }
            prop_assert!(given <= u64::from(burst) + now / refill);
        }
    }
}

#[test]
fn o9_metrics_are_read_by_prometheus() {
    let mut metrics = Metrics { activations: 2, ..Metrics::default() };
    metrics.failed.insert(ReasonCode::Criu, 3);
    metrics.downtime = Millis(1500);
    let text = metrics.prometheus();
    for line in [
        "grid_boosts_activated_total 2",
        "grid_offload_failed_total{code=\"E-CRIU\"} 3",
        "grid_downtime_seconds_total 1.500",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(text.lines().all(|l| l.starts_with("# ") || l.split(' ').count() == 2));
}
