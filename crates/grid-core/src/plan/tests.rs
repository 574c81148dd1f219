use super::*;
use crate::lease::fixtures::*;
use grid_types::plan::PlanStep;
use grid_types::policy::{Mode, ProcessKind};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::{Bytes, MilliCpu};
use proptest::prelude::*;

/// An input that owns its parts, so that tests can change one thing.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) trigger: Trigger,
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) head_free: Option<Resources>,
    pub(crate) leases: Vec<LeaseView>,
    pub(crate) policy: Policy,
    pub(crate) limit: u32,
    pub(crate) busy: BTreeMap<ProcId, Busy>,
    pub(crate) asked_by: Option<u32>,
    pub(crate) rate: Option<u64>,
    pub(crate) mean: Option<f64>,
    pub(crate) pressed: Option<Resource>,
}

pub(crate) fn lease(id: &str, node: &str, amount: Resources) -> LeaseView {
    LeaseView { lease: id.into(), boost: id.into(), node: node.into(), amount, free: amount }
}

pub(crate) fn case(verdicts: Vec<Verdict>, leases: Vec<LeaseView>) -> Case {
    Case {
        trigger: Trigger::BoostActivated { boost: "b-1".into() },
        verdicts,
        head_free: Some(res(500, 1_000, 0)),
        leases,
        policy: Policy::default(),
        limit: 5,
        busy: BTreeMap::new(),
        asked_by: None,
        rate: Some(1 << 30),
        mean: Some(0.5),
        pressed: None,
    }
}

impl Case {
    pub(crate) fn plan(&self) -> Plan {
        let boosted = Boosted::default();
        make_plan(&PlanInput {
            id: "p-1".into(),
            trigger: self.trigger.clone(),
            verdicts: &self.verdicts,
            head: "head".into(),
            head_total: res(8_000, 32_768, 2),
            head_free: self.head_free,
            leases: &self.leases,
            boosted: &boosted,
            mean_pressure: self.mean,
            pressed: self.pressed,
            policy: &self.policy,
            limit: self.limit,
            busy: &self.busy,
            asked_by: self.asked_by,
            rate: self.rate,
            now: BootMs(1_000),
            made_at: UnixMs(5),
        })
    }
}

fn pids(plan: &Plan) -> Vec<i32> {
    plan.steps.iter().map(|s| s.process.pid).collect()
}

fn why(plan: &Plan, pid: i32) -> Vec<ReasonCode> {
    plan.stays.iter().filter(|s| s.process.pid == pid).flat_map(|s| s.reasons.iter().map(|r| r.code)).collect()
}

#[test]
fn o1_at_most_five_best_first_and_the_rest_says_limit() {
    let verdicts = (1..=8).map(|n| verdict(n, res(100, u64::from(n as u32) * 100, 0))).collect();
    let plan = case(verdicts, vec![lease("b-1", "gpu1", res(8_000, 32_768, 0))]).plan();
    assert_eq!(pids(&plan), [8, 7, 6, 5, 4]);
    assert_eq!(why(&plan, 3), [ReasonCode::Limit]);
    assert_eq!(plan.valid_until, BootMs(61_000));
}

#[test]
fn needs_have_headroom_and_a_least_cpu() {
    assert_eq!(needed(&verdict(1, res(0, 100, 0))), res(50, 132, 0));
    assert_eq!(needed(&verdict(1, res(2_000, 1_000, 1))), res(2_000, 1_100, 1));
    assert_eq!(predicted_freeze(Bytes(3 << 30), Some(1 << 30)), Some(Millis(3_000)));
    assert_eq!(predicted_freeze(Bytes(3), None), None);
}

#[test]
fn two_busy_threads_fill_a_lease_of_two_cpus_and_no_more() {
    let verdicts = vec![verdict(1, res(2_040, 500, 0)), verdict(2, res(10, 10, 0))];
    let plan = case(verdicts, vec![lease("b-1", "gpu1", res(2_000, 1_024, 0))]).plan();
    assert_eq!(pids(&plan), [1]);
    assert_eq!(plan.steps[0].needed, res(2_000, 550, 0));
    assert_eq!(
        plan.stays[0].reasons[0].to_string(),
        "E-NOFIT needs 0.1 CPU 42 MiB; b-1 on gpu1 has 0.0 CPU 474 MiB left"
    );
}

#[test]
fn the_boosts_own_lease_comes_first_and_others_only_for_a_worker() {
    let leases = vec![lease("b-0", "gpu2", res(9_000, 9_000, 0)), lease("b-1", "gpu1", res(1_000, 1_000, 0))];
    let small = verdict(1, res(100, 100, 0));
    let big = verdict(2, res(100, 5_000, 0));
    let mut c = case(vec![small, big], leases);
    c.head_free = Some(res(8_000, 30_000, 0));
    let plan = c.plan();
    assert_eq!((pids(&plan), plan.steps[0].destination.as_str()), (vec![1], "gpu1"));
    assert_eq!(why(&plan, 2), [ReasonCode::NoFit]);
    c.policy.mode = Mode::OffloadOnly;
    assert_eq!(pids(&c.plan()), [2, 1]);
}

#[test]
fn what_only_the_sum_would_hold_stays_split() {
    let mut c = case(vec![verdict(1, res(100, 1_500, 0))], vec![lease("b-1", "gpu1", res(2_000, 1_024, 0))]);
    c.head_free = Some(res(500, 1_000, 0));
    let plan = c.plan();
    assert_eq!(why(&plan, 1), [ReasonCode::Split]);
    assert!(plan.stays[0].reasons[0].detail.contains("needs 0.1 CPU 1.6 GiB; b-1 on gpu1 has 2.0 CPU 1.0 GiB left"));
    c.head_free = None;
    assert_eq!(why(&c.plan(), 1), [ReasonCode::NoFit]);
}

#[test]
fn o7_what_is_away_or_was_moved_a_moment_ago_is_not_taken_again() {
    let mut c =
        case((1..=3).map(|n| verdict(n, res(100, 100, 0))).collect(), vec![lease("b-1", "gpu1", res(8_000, 8_000, 0))]);
    c.busy.insert(proc_id(1), Busy::Moving("o-1".into()));
    c.busy.insert(proc_id(2), Busy::Away("o-2".into()));
    c.busy.insert(proc_id(3), Busy::Cooldown(Millis(12_000)));
    let plan = c.plan();
    assert!(plan.steps.is_empty());
    assert_eq!(
        [why(&plan, 1), why(&plan, 2), why(&plan, 3)].concat(),
        [ReasonCode::Away, ReasonCode::Away, ReasonCode::Cooldown]
    );
    c.trigger = Trigger::Named { pid: 3 };
    assert_eq!(pids(&c.plan()), [3]);
}

#[test]
fn a_named_process_needs_only_to_be_movable_and_its_owners() {
    let mut v = verdict(7, res(100, 100, 0));
    v.not_worth.push(Reason::new(ReasonCode::Small, "small"));
    let mut c = case(vec![v, verdict(8, res(1, 1, 0))], vec![lease("b-1", "gpu1", res(8_000, 8_000, 0))]);
    assert_eq!(why(&c.plan(), 7), [ReasonCode::Small]);
    c.trigger = Trigger::Named { pid: 7 };
    c.asked_by = Some(1000);
    let plan = c.plan();
    assert_eq!((pids(&plan), plan.stays.len()), (vec![7], 0));
    c.asked_by = Some(1001);
    assert_eq!(why(&c.plan(), 7), [ReasonCode::Owner]);
    c.asked_by = Some(0);
    c.verdicts[0].cannot = Some(vec![Reason::new(ReasonCode::Tty, "holds terminal /dev/pts/3")]);
    assert_eq!(why(&c.plan(), 7), [ReasonCode::Tty]);
    c.verdicts[0].cannot = None;
    assert_eq!(why(&c.plan(), 7), [ReasonCode::Unknown]);
}

#[test]
fn a_freeze_longer_than_allowed_is_refused_where_a_rate_is_known() {
    let mut c = case(vec![verdict(1, res(100, 20_480, 0))], vec![lease("b-1", "gpu1", res(8_000, 65_536, 0))]);
    assert_eq!(why(&c.plan(), 1), [ReasonCode::Frozen10]);
    c.rate = None;
    assert_eq!(c.plan().steps[0].frozen, None);
}

#[test]
fn a_freeze_longer_than_the_limit_of_the_link_allows_is_refused_before_any_rate_is_known() {
    let mut c = case(vec![verdict(1, res(100, 700, 0))], vec![lease("b-1", "gpu1", res(8_000, 65_536, 0))]);
    c.policy.engine.link_rate = Some(Bytes(16 << 20));
    assert_eq!(c.plan().steps.len(), 1, "no link is crossed on one machine");
    c.policy.engine.kind = grid_types::policy::EngineKind::Ssh;
    for rate in [None, Some(1 << 30)] {
        c.rate = rate;
        let plan = c.plan();
        assert_eq!(why(&plan, 1), [ReasonCode::Frozen10]);
        assert_eq!(
            plan.stays[0].reasons[0].detail,
            "it would be silent ~43 s, at most 10 s is allowed; execution.link_rate_limit is 16 MiB/s"
        );
    }
    // What was measured is slower still.
    c.rate = Some(8 << 20);
    c.policy.engine.link_rate = Some(Bytes(128 << 20));
    assert_eq!(c.plan().stays[0].reasons[0].detail, "it would be silent ~1m27s, at most 10 s is allowed");
    c.policy.engine.link_rate = Some(Bytes(128 << 20));
    c.rate = None;
    assert_eq!(c.plan().steps[0].frozen, Some(Millis(5_469)));
}

#[test]
fn no_lease_at_all_is_said() {
    let mut c = case(vec![verdict(1, res(1_900, 700, 0))], vec![]);
    c.trigger = Trigger::Scan;
    assert_eq!(c.plan().stays[0].reasons[0].detail, "1.9 CPU 770 MiB needs a lease, and there is none");
}

#[test]
fn relief_of_what_is_pressed_comes_first() {
    let verdicts = vec![verdict(1, res(100, 9_000, 0)), verdict(2, res(2_000, 100, 0))];
    let total = res(8_000, 10_000, 0);
    let first = |p| ranked(&verdicts, p, total)[0].id.pid;
    assert_eq!((first(None), first(Some(Resource::Cpu)), first(Some(Resource::Memory))), (1, 2, 1));
    let mut sure = vec![verdict(1, res(1, 1, 0)), verdict(2, res(1, 1, 0))];
    sure[1].confidence = 0.95;
    assert_eq!(ranked(&sure, None, total)[0].id.pid, 2);
}

#[test]
fn limits_go_with_the_trigger() {
    let p = Policy::default();
    let pressure = Trigger::Pressure { detail: String::new() };
    assert_eq!(limit_for(&Trigger::BoostActivated { boost: "b".into() }, false, &p), 5);
    assert_eq!((limit_for(&pressure, false, &p), limit_for(&pressure, true, &p)), (2, 5));
    assert_eq!(limit_for(&Trigger::Named { pid: 1 }, false, &p), 1);
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    (1i32..40, 0u32..3_000, 0u64..3_000, 0u32..2, 0u32..12, any::<bool>()).prop_map(|(pid, cpu, mib, gpu, odd, ui)| {
        let mut v = verdict(pid, res(cpu, mib, gpu));
        match odd {
            0 => v.not_worth.push(Reason::new(ReasonCode::Small, "small")),
            1 => v.cannot = Some(vec![Reason::new(ReasonCode::Tcp, "tcp")]),
            2 => v.cannot = None,
            _ => {}
        }
        if ui {
            v.kind = ProcessKind::Interactive;
        }
        v
    })
}

pub(crate) fn any_case() -> impl Strategy<Value = Case> {
    let lease_size = || (0u32..6_000, 0u64..6_000, 0u32..3).prop_map(|(c, m, g)| res(c, m, g));
    let mode = prop_oneof![Just(Mode::OffloadOnly), Just(Mode::ShareAndOffload), Just(Mode::DynamicBalancing)];
    let trigger = prop_oneof![
        Just(Trigger::BoostActivated { boost: "b-1".into() }),
        Just(Trigger::Scan),
        (1i32..40).prop_map(|pid| Trigger::Named { pid }),
    ];
    let known = (
        proptest::option::of(lease_size()),
        proptest::option::of(0.0..1.2f64),
        proptest::option::of(1u64 << 20..1 << 34),
    );
    (
        proptest::collection::vec(any_verdict(), 0..20),
        (lease_size(), lease_size()),
        (mode, trigger, 0u32..7),
        known,
        proptest::collection::btree_set(1i32..40, 0..6),
    )
        .prop_map(|(verdicts, (a, b), (mode, trigger, limit), (head_free, mean, rate), busy)| {
            let mut c = case(verdicts, vec![lease("b-1", "gpu1", a), lease("b-2", "gpu2", b)]);
            (c.policy.mode, c.trigger, c.limit) = (mode, trigger, limit);
            (c.head_free, c.mean, c.rate) = (head_free, mean, rate);
            c.busy = busy.into_iter().map(|p| (proc_id(p), Busy::Away("o-1".into()))).collect();
            c
        })
}

proptest! {
    #[test]
    fn a_plan_is_complete_bounded_and_the_same_each_time(c in any_case()) {
        let plan = c.plan();
        prop_assert_eq!(&plan, &c.plan());
        prop_assert!(plan.steps.len() <= c.limit as usize);
        prop_assert!(plan.stays.iter().all(|s| !s.reasons.is_empty()));
        if !matches!(c.trigger, Trigger::Named { .. }) {
            let all: std::collections::BTreeSet<_> = c.verdicts.iter().map(|v| v.id.clone()).collect();
            prop_assert_eq!(plan.steps.len() + plan.stays.len(), all.len());
        }
    }

    #[test]
    fn a_longer_freeze_never_follows_from_less_memory(a in 0u64..1 << 40, b in 0u64..1 << 40, rate in 1u64..1 << 40) {
        let (low, high) = (a.min(b), a.max(b));
        prop_assert!(predicted_freeze(Bytes(low), Some(rate)) <= predicted_freeze(Bytes(high), Some(rate)));
    }
}

#[test]
fn step_says_what_it_relieves_and_why() {
    let plan = case(vec![verdict(1, res(1_000, 512, 0))], vec![lease("b-1", "gpu1", res(2_000, 1_024, 0))]).plan();
    let PlanStep { reason, available, cpu, .. } = &plan.steps[0];
    assert!(reason.starts_with("relieves head of 1.0 CPU 512 MiB; whole in b-1: "), "{reason}");
    assert_eq!((*available, *cpu), (res(2_000, 1_024, 0), MilliCpu(1_000)));
}
