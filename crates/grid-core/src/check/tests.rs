use super::*;
use crate::lease::fixtures::*;
use crate::plan::tests::{Case, any_case, case, lease};
use proptest::prelude::*;

/// The world that the case's plan was made from.
fn world(c: &Case) -> World {
    World {
        leases: c
            .leases
            .iter()
            .map(|l| (l.lease.clone(), LeaseNow { node: l.node.clone(), active: true, free: l.free }))
            .collect(),
        processes: c
            .verdicts
            .iter()
            .map(|v| {
                let cannot = v.cannot.clone().unwrap_or_default();
                let busy = c.busy.contains_key(&v.id);
                (v.id.clone(), ProcNow { node: "head".into(), uid: v.uid, used: v.used, cannot, busy })
            })
            .collect(),
        now: BootMs(2_000),
        limit: c.limit,
        max_frozen: c.policy.limits.max_frozen,
        asked_by: c.asked_by,
    }
}

fn good() -> (Plan, World) {
    let c = case(
        vec![verdict(1, res(1_000, 500, 0)), verdict(2, res(500, 200, 0))],
        vec![lease("b-1", "gpu1", res(2_000, 1_024, 0))],
    );
    let plan = c.plan();
    assert_eq!(plan.steps.len(), 2);
    let w = world(&c);
    assert_eq!(check(&plan, &w), []);
    (plan, w)
}

fn codes(plan: &Plan, world: &World) -> Vec<ReasonCode> {
    check(plan, world).into_iter().map(|v| v.reason.code).collect()
}

/// A change of plan or world, and the code that the checker answers with.
type Mutation = (&'static str, ReasonCode, fn(&mut Plan, &mut World));

const MUTATIONS: &[Mutation] = &[
    ("late", ReasonCode::Expired, |p, w| w.now = BootMs(p.valid_until.0 + 1)),
    ("applied before", ReasonCode::Changed, |p, _| p.outcome = PlanOutcome::Applied),
    ("refused before", ReasonCode::Changed, |p, _| p.outcome = PlanOutcome::Refused("x".into())),
    ("limit", ReasonCode::Limit, |_, w| w.limit = 0),
    ("twice", ReasonCode::Away, |p, _| p.steps.push(p.steps[0].clone())),
    ("to itself", ReasonCode::Self_, |p, _| p.steps[0].source = p.steps[0].destination.clone()),
    ("no such lease", ReasonCode::NoFit, |p, _| p.steps[0].lease = "b-9".into()),
    ("lease ended", ReasonCode::Expired, |_, w| w.leases.values_mut().for_each(|l| l.active = false)),
    ("lease elsewhere", ReasonCode::Changed, |_, w| w.leases.values_mut().for_each(|l| l.node = "gpu9".into())),
    ("pid reused", ReasonCode::Changed, |p, _| p.steps[0].process.start_ticks += 1),
    ("process moved", ReasonCode::Changed, |_, w| w.processes.values_mut().for_each(|q| q.node = "gpu2".into())),
    ("in flight", ReasonCode::Away, |_, w| w.processes.values_mut().for_each(|q| q.busy = true)),
    ("setuid", ReasonCode::Changed, |_, w| w.processes.values_mut().for_each(|q| q.uid = 7)),
    ("another's", ReasonCode::Owner, |_, w| w.asked_by = Some(42)),
    ("terminal since", ReasonCode::Tty, |_, w| {
        w.processes.values_mut().for_each(|q| q.cannot.push(Reason::new(ReasonCode::Tty, "pts")));
    }),
    ("grown", ReasonCode::Changed, |p, w| {
        w.processes.values_mut().for_each(|q| q.used.memory.0 = p.steps[0].needed.memory.0 + 1);
    }),
    ("more GPUs", ReasonCode::Changed, |_, w| w.processes.values_mut().for_each(|q| q.used.gpu = 99)),
    ("needs nothing", ReasonCode::NoFit, |p, _| p.steps[0].needed = Resources::default()),
    ("memory in sum", ReasonCode::NoFit, |_, w| w.leases.values_mut().for_each(|l| l.free.memory.0 /= 2)),
    ("cpu in sum", ReasonCode::NoFit, |_, w| w.leases.values_mut().for_each(|l| l.free.cpu.0 = 1_499)),
    ("huge", ReasonCode::NoFit, |p, _| p.steps.iter_mut().for_each(|s| s.needed.memory.0 = u64::MAX)),
    ("too long", ReasonCode::Frozen10, |p, w| p.steps[0].frozen = Some(Millis(w.max_frozen.0 + 1))),
];

#[test]
fn every_mutation_is_found() {
    for (name, code, mutate) in MUTATIONS {
        let (mut plan, mut w) = good();
        mutate(&mut plan, &mut w);
        assert!(codes(&plan, &w).contains(code), "{name}: {:?}", check(&plan, &w));
    }
}

#[test]
fn a_violation_names_its_step() {
    let (mut plan, w) = good();
    plan.steps[1].process.start_ticks += 1;
    let found = check(&plan, &w);
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().starts_with("step 2: E-CHANGED "), "{}", found[0]);
}

#[test]
fn an_observed_plan_may_be_applied_by_its_owner_or_root() {
    let (mut plan, mut w) = good();
    plan.outcome = PlanOutcome::Observed;
    for asker in [None, Some(0), Some(1000)] {
        w.asked_by = asker;
        assert_eq!(check(&plan, &w), []);
    }
}

proptest! {
    #[test]
    fn what_the_planner_makes_passes(c in any_case()) {
        let mut c = c;
        c.verdicts.sort_by(|a, b| a.id.cmp(&b.id));
        c.verdicts.dedup_by(|a, b| a.id == b.id);
        prop_assert_eq!(check(&c.plan(), &world(&c)), []);
    }

    #[test]
    fn what_was_mutated_does_not(c in any_case(), n in 0..MUTATIONS.len()) {
        let mut c = c;
        c.verdicts.sort_by(|a, b| a.id.cmp(&b.id));
        c.verdicts.dedup_by(|a, b| a.id == b.id);
        let (mut plan, mut w) = (c.plan(), world(&c));
        prop_assume!(!plan.steps.is_empty());
        let (name, code, mutate) = &MUTATIONS[n];
        // These two change amounts by a fixed figure, which a small random plan may still satisfy.
        prop_assume!(!["memory in sum", "cpu in sum"].contains(name));
        mutate(&mut plan, &mut w);
        prop_assert!(codes(&plan, &w).contains(code), "{}", name);
    }
}
