mod listens;
mod onward;
mod parking;

use super::*;
use crate::auto_offload::{self, Action, Bucket, Round, StepResult};
use crate::boost::{EndStep, Room, at_end, due};
use crate::check::{LeaseNow, ProcNow, World, check};
use crate::lease::fixtures::*;
use crate::lease::{LenderView, admit, validate_request};
use crate::plan::{PlanInput, make_plan};
use grid_types::boost::{BoostRequest, BoostState, EndReason, Priority};
use grid_types::event::{
    Actor, Direction, Event, EventRecord, ExitStatus, HookOutcome, MoveFigures, OnwardTo, Resolution,
};
use grid_types::plan::{PlanOutcome, Trigger};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::{BootMs, Bytes, Millis};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

fn record(seq: u64, event: Event) -> EventRecord {
    EventRecord {
        seq,
        at: UnixMs(1_000 + seq),
        boot_at: BootMs(seq),
        boot_id: BOOT.into(),
        actor: Actor::Daemon,
        plan: None,
        event,
    }
}

pub(super) fn push(state: &mut State, event: Event) -> Result<(), ApplyError> {
    push_by(state, &Actor::Daemon, event)
}

pub(super) fn push_by(state: &mut State, actor: &Actor, event: Event) -> Result<(), ApplyError> {
    let rec = EventRecord { actor: actor.clone(), ..record(state.next_seq(), event) };
    state.apply(&rec)
}

fn granted(id: &str, lender: &str, amount: Resources) -> Event {
    Event::LeaseGranted { boost: boost(id, lender, amount, BoostState::Granting) }
}

fn activated(id: &str) -> Event {
    Event::BoostActivated { boost: id.into(), enforced: "cpu 2.0".into() }
}

pub(super) fn started(id: &str, attempt: &str, pid: i32, needed: Resources) -> Event {
    Event::OffloadStarted {
        offload: id.into(),
        attempt: attempt.into(),
        process: proc_id(pid),
        title: "job".into(),
        uid: 1000,
        source: "head".into(),
        destination: "gpu1".into(),
        boost: Some("b-1".into()),
        needed,
        plan: None,
        park: false,
    }
}

pub(super) fn moved(id: &str, attempt: &str) -> Event {
    let figures = MoveFigures { downtime: Some(Millis(100)), bytes: Some(Bytes(10)), ..MoveFigures::default() };
    Event::OffloadMoved { offload: id.into(), attempt: attempt.into(), figures }
}

fn why() -> Reason {
    Reason::new(ReasonCode::Criu, "x")
}

/// An active boost b-1 of 2 CPUs and 1,000 MiB on gpu1.
pub(super) fn with_boost() -> State {
    let mut s = State::default();
    push(&mut s, granted("b-1", "gpu1", res(2_000, 1_000, 0))).unwrap();
    push(&mut s, activated("b-1")).unwrap();
    s
}

#[test]
fn capacity_is_promised_from_the_grant_to_the_proof() {
    let mut s = State::default();
    push(&mut s, granted("b-1", "gpu1", res(2_000, 1_000, 0))).unwrap();
    assert_eq!(s.promised(&"gpu1".into()), res(2_000, 1_000, 0));
    push(&mut s, activated("b-1")).unwrap();
    push(&mut s, Event::BoostEnding { boost: "b-1".into(), why: EndReason::Released }).unwrap();
    assert_eq!(s.promised(&"gpu1".into()), res(2_000, 1_000, 0));
    push(&mut s, Event::BoostEnded { boost: "b-1".into(), why: EndReason::Released }).unwrap();
    assert_eq!(s.promised(&"gpu1".into()), Resources::default());
    assert!(s.lent_by(&"gpu1".into()).is_empty());
}

#[test]
fn b3_a_boost_is_activated_exactly_once_and_only_after_its_grant() {
    let mut s = State::default();
    assert!(matches!(push(&mut s, activated("b-1")), Err(ApplyError::UnknownBoost(_))));
    let mut s = with_boost();
    assert!(matches!(push(&mut s, activated("b-1")), Err(ApplyError::Boost { .. })));
    assert_eq!(s.metrics.activations, 1);
}

#[test]
fn b5_b8_a_boost_that_fails_is_never_active_and_leaves_nothing_behind() {
    let mut s = State::default();
    push(&mut s, granted("b-1", "gpu1", res(2_000, 1_000, 0))).unwrap();
    push(&mut s, Event::BoostFailed { boost: "b-1".into(), detail: "engine: no cgroup".into() }).unwrap();
    assert!(s.promised(&"gpu1".into()).is_zero() && s.leases_of(&"head".into()).is_empty());
    assert!(push(&mut s, activated("b-1")).is_err());
    assert_eq!((s.metrics.activations, s.metrics.boosts_failed), (0, 1));
}

#[test]
fn b6_a_hook_that_fails_is_counted_and_the_boost_stands() {
    let mut s = with_boost();
    for outcome in [HookOutcome::Panicked, HookOutcome::TimedOut, HookOutcome::Failed { detail: "x".into() }] {
        let event = Event::HookFinished { boost: "b-1".into(), hook: "auto_offload".into(), outcome, took: Millis(5) };
        push(&mut s, event).unwrap();
    }
    assert_eq!(s.boosts[&"b-1".into()].state, BoostState::Active);
    assert_eq!((s.metrics.hooks["panicked"], s.metrics.hooks["timed_out"], s.metrics.hook_time), (1, 1, Millis(15)));
}

#[test]
fn a_lease_is_never_over_committed_and_a_process_is_in_one_offload() {
    let mut s = with_boost();
    push(&mut s, started("o-1", "a-1", 1, res(500, 700, 0))).unwrap();
    assert_eq!(s.lease_free(&"b-1".into()), Some(res(1_500, 300, 0)));
    let before = s.clone();
    assert!(matches!(push(&mut s, started("o-2", "a-2", 2, res(1, 301, 0))), Err(ApplyError::OverCommitted { .. })));
    assert!(matches!(push(&mut s, started("o-2", "a-2", 1, res(1, 1, 0))), Err(ApplyError::ProcessBusy { .. })));
    assert_eq!(s, before);
}

#[test]
fn o7_a_second_boost_a_moment_later_does_not_take_the_same_again() {
    let mut s = with_boost();
    push(&mut s, started("o-1", "a-1", 1, res(500, 700, 0))).unwrap();
    push(&mut s, started("o-2", "a-2", 2, res(5, 7, 0))).unwrap();
    push(&mut s, moved("o-1", "a-1")).unwrap();
    push(&mut s, Event::OffloadFailed { offload: "o-2".into(), attempt: "a-2".into(), reason: why() }).unwrap();
    let busy = s.busy(Millis(30_000), BootMs(100));
    assert_eq!(busy[&proc_id(1)], crate::plan::Busy::Away("o-1".into()));
    assert!(matches!(busy[&proc_id(2)], crate::plan::Busy::Cooldown(_)));
    assert_eq!(s.busy(Millis(30_000), BootMs(60_000)).len(), 1);
}

#[test]
fn a_failed_offload_is_tried_again_under_its_id_with_a_new_attempt() {
    let mut s = with_boost();
    push(&mut s, started("o-1", "a-1", 1, res(500, 700, 0))).unwrap();
    push(&mut s, Event::OffloadFailed { offload: "o-1".into(), attempt: "a-1".into(), reason: why() }).unwrap();
    push(&mut s, started("o-1", "a-2", 1, res(500, 700, 0))).unwrap();
    assert!(matches!(push(&mut s, moved("o-1", "a-1")), Err(ApplyError::StaleAttempt { .. })));
    push(&mut s, moved("o-1", "a-2")).unwrap();
    assert_eq!((s.offloads[&"o-1".into()].attempts, s.away().len()), (2, 1));
}

#[test]
fn capacity_waits_for_guests_and_they_go_home_or_are_reported() {
    let mut s = with_boost();
    push(&mut s, started("o-1", "a-1", 1, res(500, 700, 0))).unwrap();
    push(&mut s, moved("o-1", "a-1")).unwrap();
    assert_eq!(due(s.boosts.values(), &clock(10_000)), ["b-1".into()]);
    push(&mut s, Event::BoostEnding { boost: "b-1".into(), why: EndReason::Expired }).unwrap();
    let room = Room { home: Some(res(9_000, 9_000, 0)), others: Vec::new() };
    let end = |s: &State| at_end(&s.boosts[&"b-1".into()], &s.guests_at_end(&"b-1".into()), &room);
    assert_eq!(end(&s), EndStep::RecallHome { offloads: vec!["o-1".into()] });
    push(&mut s, Event::RecallStarted { offload: "o-1".into(), attempt: "a-2".into() }).unwrap();
    assert_eq!(end(&s), EndStep::Wait { offloads: vec!["o-1".into()] });
    push(&mut s, Event::RecallFailed { offload: "o-1".into(), attempt: "a-2".into(), reason: why() }).unwrap();
    assert!(matches!(end(&s), EndStep::StayOverdue { .. }));
    let ended = Event::BoostEnded { boost: "b-1".into(), why: EndReason::Expired };
    assert!(matches!(push(&mut s, ended.clone()), Err(ApplyError::GuestsInside { .. })));
    push(&mut s, Event::BoostOverdue { boost: "b-1".into(), detail: "o-1".into() }).unwrap();
    push(&mut s, Event::BoostEnding { boost: "b-1".into(), why: EndReason::Released }).unwrap();
    assert!(matches!(end(&s), EndStep::RecallHome { .. }), "a new end tries again");
    let status = Some(ExitStatus::Code(0));
    push(&mut s, Event::ProcessEnded { offload: "o-1".into(), status }).unwrap();
    assert_eq!(end(&s), EndStep::Close);
    push(&mut s, ended).unwrap();
    assert_eq!(s.offloads[&"o-1".into()].exit, status);
}

#[test]
fn doubt_is_resolved_by_proof_or_by_a_person_in_the_direction_of_the_move() {
    let doubt = |o: &str, a: &str| Event::OffloadInDoubt { offload: o.into(), attempt: a.into(), detail: "x".into() };
    let resolve = |decision| Event::OffloadResolved { offload: "o-1".into(), decision };
    let mut out = with_boost();
    push(&mut out, started("o-1", "a-1", 1, res(1, 1, 0))).unwrap();
    push(&mut out, doubt("o-1", "a-1")).unwrap();
    let phase = |s: &State| s.offloads[&"o-1".into()].phase;
    let mut s = out.clone();
    push(&mut s, moved("o-1", "a-1")).unwrap();
    assert_eq!(phase(&s), OffloadPhase::Away);
    let mut s = out.clone();
    push(&mut s, resolve(Resolution::AcceptRepeat)).unwrap();
    assert_eq!(phase(&s), OffloadPhase::Home);
    push(&mut out, resolve(Resolution::Drop)).unwrap();
    assert_eq!(phase(&out), OffloadPhase::Lost);
    let mut back = with_boost();
    push(&mut back, started("o-1", "a-1", 1, res(1, 1, 0))).unwrap();
    push(&mut back, moved("o-1", "a-1")).unwrap();
    push(&mut back, Event::RecallStarted { offload: "o-1".into(), attempt: "a-2".into() }).unwrap();
    push(&mut back, doubt("o-1", "a-2")).unwrap();
    push(&mut back, resolve(Resolution::AcceptRepeat)).unwrap();
    assert_eq!(phase(&back), OffloadPhase::Away);
}

#[test]
fn the_journal_has_no_holes_and_extensions_follow_their_epoch() {
    let mut s = with_boost();
    let rec = record(9, Event::DaemonStarted { version: "1".into() });
    assert_eq!(s.apply(&rec), Err(ApplyError::Sequence { last: 2, got: 9 }));
    let longer = |epoch| Event::BoostExtended { boost: "b-1".into(), until: BootMs(9), until_unix: UnixMs(9), epoch };
    assert!(matches!(push(&mut s, longer(3)), Err(ApplyError::Epoch { last: 1, got: 3, .. })));
    push(&mut s, longer(2)).unwrap();
    assert_eq!((s.boosts[&"b-1".into()].epoch, s.boosts[&"b-1".into()].until), (2, BootMs(9)));
}

#[test]
fn history_is_bounded_and_keeps_what_lives() {
    let mut s = State::new(3);
    push(&mut s, granted("b-1", "gpu1", res(2_000, 1_000, 0))).unwrap();
    push(&mut s, activated("b-1")).unwrap();
    push(&mut s, started("o-0", "a-0", 99, res(1, 1, 0))).unwrap();
    for n in 1..20 {
        let (o, a) = (format!("o-{n}"), format!("a-{n}"));
        push(&mut s, started(&o, &a, n, res(1, 1, 0))).unwrap();
        push(&mut s, Event::OffloadFailed { offload: o.as_str().into(), attempt: a.as_str().into(), reason: why() })
            .unwrap();
    }
    assert_eq!(s.offloads.len(), 4);
    assert!(s.offloads.contains_key(&"o-0".into()) && s.offloads.contains_key(&"o-19".into()));
    assert_eq!(s.metrics.failed[&ReasonCode::Criu], 19);
}

/// O6: request → boost → hook → detect → plan → check → execute, over the pure parts.
#[test]
fn o6_o9_the_whole_flow_and_its_counters() {
    let mut s = State::default();
    let p = policy();
    let request = BoostRequest {
        borrower: "head".into(),
        amount: res(2_000, 1_024, 0),
        priority: Priority::Normal,
        duration: None,
        from: None,
        at_end: None,
    };
    let terms = validate_request(&request, &["head".into(), "gpu1".into()], &p).unwrap();
    let view = LenderView { leases: s.lent_by(&"gpu1".into()), ..lender("gpu1", res(4_000, 8_192, 0), res(0, 0, 0)) };
    let grant = admit(&terms, &[view], &p, 0).unwrap();
    push(&mut s, granted("b-1", grant.lender.as_str(), grant.amount)).unwrap();
    push(&mut s, activated("b-1")).unwrap();
    let mut bucket = Bucket::of(&p.auto_offload, BootMs(0));
    let b = s.boosts[&"b-1".into()].clone();
    let mode = s.mode(grid_types::policy::AutoMode::On);
    let action = auto_offload::decide(&b, &"head".into(), mode, &mut bucket, &p.auto_offload, BootMs(0));
    let Action::Run { limit } = action else { panic!("{action:?}") };
    let verdicts = [verdict(1, res(1_000, 512, 0)), verdict(2, res(900, 38, 0)), verdict(3, res(0, 9_000, 0))];
    let (leases, boosted, busy) =
        (s.leases_of(&"head".into()), s.boosted(&"head".into()), s.busy(p.auto_offload.cooldown, BootMs(0)));
    let plan = make_plan(&PlanInput {
        id: "p-1".into(),
        trigger: Trigger::BoostActivated { boost: "b-1".into() },
        verdicts: &verdicts,
        head: "head".into(),
        head_total: res(4_000, 16_384, 0),
        head_free: Some(res(100, 1_000, 0)),
        leases: &leases,
        boosted: &boosted,
        mean_pressure: Some(0.5),
        pressed: None,
        policy: &p,
        limit,
        busy: &busy,
        asked_by: None,
        rate: None,
        now: BootMs(0),
        made_at: UnixMs(0),
    });
    let world = World {
        leases: leases
            .iter()
            .map(|l| (l.lease.clone(), LeaseNow { node: l.node.clone(), active: true, free: l.free }))
            .collect(),
        processes: verdicts
            .iter()
            .map(|v| {
                let now = ProcNow { node: "head".into(), uid: 1000, used: v.used, cannot: vec![], busy: false };
                (v.id.clone(), now)
            })
            .collect(),
        now: BootMs(1),
        limit,
        max_frozen: p.limits.max_frozen,
        asked_by: None,
    };
    assert_eq!(check(&plan, &world), []);
    push(&mut s, Event::PlanMade { plan: plan.clone() }).unwrap();
    let mut round = Round::new(Some("b-1".into()), &plan, plan.steps.len());
    while let Some(step) = round.next_step() {
        let id = format!("o-{}", step.process.pid);
        push(&mut s, started(&id, &id, step.process.pid, step.needed)).unwrap();
        push(&mut s, moved(&id, &id)).unwrap();
        round.done(StepResult::Moved(id.as_str().into()));
    }
    push(&mut s, Event::PlanSettled { plan: "p-1".into(), outcome: PlanOutcome::Applied }).unwrap();
    assert!(push(&mut s, Event::PlanSettled { plan: "p-1".into(), outcome: PlanOutcome::Applied }).is_err());
    let m = &s.metrics;
    assert_eq!((m.activations, m.scanned, m.offloaded, m.skipped[&ReasonCode::NoFit]), (1, 3, 2, 1));
    assert_eq!((m.downtime, m.downtime_longest, m.bytes), (Millis(200), Millis(100), Bytes(20)));
    assert_eq!(s.guests(&"b-1".into()).len(), 2);
}

/// An event near to what is legal: ids of a small set, mostly the present attempt.
fn event(s: &State, op: u8, x: u8, fresh: u64) -> Event {
    let b = format!("b-{}", x % 2 + 1);
    let boost: BoostId = b.as_str().into();
    let offload: OffloadId = format!("o-{}", x % 5).as_str().into();
    let attempt = match s.offloads.get(&offload) {
        Some(o) if x < 230 => o.attempt.clone(),
        _ => format!("a-{fresh}").as_str().into(),
    };
    let figures = MoveFigures::default();
    let needed = res(u32::from(x) * 5, u64::from(x) * 2, 0);
    match op {
        0 => granted(&b, "gpu1", res(2_000, 1_000, 0)),
        1..=3 => activated(&b),
        4 => Event::BoostFailed { boost, detail: "x".into() },
        5 => Event::BoostEnding { boost, why: EndReason::Released },
        6 => Event::BoostOverdue { boost, detail: "x".into() },
        7 => Event::BoostEnded { boost, why: EndReason::Released },
        8 => Event::BoostExtended { boost, until: BootMs(1), until_unix: UnixMs(1), epoch: u64::from(x % 4) },
        9..=12 => started(offload.as_str(), &format!("a-{fresh}"), i32::from(x % 7), needed),
        13..=15 => Event::OffloadMoved { offload, attempt, figures },
        16 => Event::OffloadFailed { offload, attempt, reason: why() },
        17..=18 => Event::RecallStarted { offload, attempt: format!("a-{fresh}").as_str().into() },
        19 => Event::Recalled { offload, attempt, pid: 5, process: Some(proc_id(5)), figures },
        20 => Event::RecallFailed { offload, attempt, reason: why() },
        24 => Event::OnwardStarted {
            offload,
            attempt: format!("a-{fresh}").as_str().into(),
            destination: "gpu1".into(),
            boost,
        },
        25 => Event::OnwardMoved { offload, attempt, figures },
        26 => Event::OnwardFailed { offload, attempt, reason: why() },
        21 => Event::ProcessEnded { offload, status: x.is_multiple_of(2).then_some(ExitStatus::Code(0)) },
        22 => Event::OffloadInDoubt { offload, attempt, detail: "x".into() },
        23 => Event::OffloadResolved {
            offload,
            decision: if x.is_multiple_of(2) { Resolution::Drop } else { Resolution::AcceptRepeat },
        },
        28..=29 => Event::ParkStarted { offload, attempt: format!("a-{fresh}").as_str().into(), node: "gpu2".into() },
        30..=31 => Event::Parked { offload, attempt, figures },
        32 => Event::ParkFailed { offload, attempt, reason: why() },
        33..=35 => {
            let to = x.is_multiple_of(2).then(|| OnwardTo { node: "gpu1".into(), boost });
            Event::UnparkStarted { offload, attempt: format!("a-{fresh}").as_str().into(), to }
        }
        36..=37 => Event::Unparked { offload, attempt, process: Some(proc_id(5)), figures },
        38 => Event::UnparkFailed { offload, attempt, reason: why() },
        _ => Event::NodeSeen { node: "gpu1".into() },
    }
}

/// The random sequences mean something only if they get everywhere.
#[test]
fn the_random_sequences_reach_every_phase_and_every_boost_state() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let ops = proptest::collection::vec((0u8..40, any::<u8>()), 120);
    let (mut phases, mut states) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..400 {
        let mut s = State::new(4);
        for (fresh, (op, x)) in ops.new_tree(&mut runner).unwrap().current().into_iter().enumerate() {
            let next = event(&s, op, x, fresh as u64);
            let _ = push(&mut s, next);
            phases.extend(s.offloads.values().map(|o| format!("{:?}", o.phase)));
            states.extend(s.boosts.values().map(|b| crate::boost::state_name(&b.state)));
        }
    }
    assert_eq!((phases.len(), states.len()), (12, 6), "{phases:?} {states:?}");
}

fn invariants(s: &State) {
    for o in s.offloads.values().filter(|o| o.phase.is_guest()) {
        let same = s.offloads.values().filter(|p| p.phase.is_guest() && p.process == o.process).count();
        assert_eq!(same, 1, "one live offload a process");
        if o.phase != OffloadPhase::InDoubt
            && let Some(b) = &o.boost
        {
            assert!(s.boosts[b].state.holds_capacity(), "no guest outlives the capacity of its lease");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_replayed_journal_is_the_live_state(ops in proptest::collection::vec((0u8..40, any::<u8>()), 1..120)) {
        let mut live = State::new(4);
        let mut journal = Vec::new();
        for (fresh, (op, x)) in ops.into_iter().enumerate() {
            let rec = record(live.next_seq(), event(&live, op, x, fresh as u64));
            let before = live.clone();
            match live.apply(&rec) {
                Ok(()) => journal.push(rec),
                Err(_) => prop_assert_eq!(&live, &before, "a refused event changes nothing"),
            }
            invariants(&live);
        }
        let mut replayed = State::new(4);
        for rec in &journal {
            let json = serde_json::to_string(rec).unwrap();
            prop_assert_eq!(replayed.apply(&serde_json::from_str(&json).unwrap()), Ok(()));
        }
        prop_assert_eq!(replayed, live);
    }
}
