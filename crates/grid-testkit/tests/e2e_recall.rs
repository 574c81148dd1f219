//! From a lender to another, and home again: the shadow at home notices nothing of it.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

#[allow(dead_code)] // each file of tests uses a part of it
mod shadow;

use grid_types::api::{BoostView, OffloadView};
use grid_types::boost::BoostState;
use grid_types::event::{Actor, Event, EventRecord, ExitStatus, OffloadPhase};
use grid_types::exit::FaultClass;
use grid_types::fault::{Effect, FaultPoint};
use grid_types::reason::ReasonCode;
use nix::sys::signal::Signal;
use shadow::{Job, send};

const STREAM: &str = "/usr/bin/python3 lines.py 400 0.01 | (meant; exec /usr/bin/python3 seen.py) >out
told ${PIPESTATUS[@]}";
const CHILD: &str = "/usr/bin/python3 prog.py
told $?";
/// A lease on the second lender.
const SECOND: &str = "--cpu 1 --memory 1GiB --duration 5m --from gpu2";

fn on(job: &Job, id: &str, to: &str) -> OffloadView {
    let view: OffloadView = job.cluster.ask(&["offload", "recall", id, "--to", to]);
    let record = &view.record;
    assert_eq!((record.phase, record.destination.as_str()), (OffloadPhase::Away, to), "{view:?}");
    view
}

#[test]
fn a_stream_is_whole_from_lender_to_lender_and_home() {
    let Some(job) = Job::start_on_two(STREAM) else { return };
    let (pid, out) = job.move_meant();
    let second = job.cluster.boost(SECOND);
    let id = out.record.id.as_str();
    job.flows(20);
    let there = on(&job, id, "gpu2");
    assert_eq!(there.record.boost, Some(second.boost.id));
    job.wait_title(pid, "@gpu2");
    job.flows(20);
    on(&job, id, "gpu1");
    job.wait_title(pid, "@gpu1");
    job.flows(20);
    on(&job, id, "gpu2");
    job.wait_title(pid, "@gpu2");
    job.cluster.bring_home(id);
    job.wait_title(pid, "@head");
    assert_eq!(job.status(), "0 5");
    job.all_came(400);
}

#[test]
fn signals_find_it_and_its_end_is_told_from_the_second_lender() {
    let Some(job) = Job::start_on_two(CHILD) else { return };
    let (pid, out) = job.move_meant();
    job.cluster.boost(SECOND);
    on(&job, out.record.id.as_str(), "gpu2");
    job.wait_title(pid, "@gpu2");
    job.goes_on();
    send(pid, Signal::SIGUSR1);
    job.cluster.wait("the signal", || if job.says().1 == 1 { Ok(()) } else { Err(job.says()) });
    assert_eq!(job.copies("prog.py").len(), 1);
    job.go(7);
    assert_eq!(job.status(), "7");
    let ended = job.cluster.wait_phase(out.record.id.as_str(), OffloadPhase::Ended);
    assert_eq!(ended.record.exit, Some(ExitStatus::Code(7)));
}

#[test]
fn the_agents_may_die_after_it_moved_on() {
    let Some(job) = Job::start_on_two(STREAM) else { return };
    let (pid, out) = job.move_meant();
    job.cluster.boost(SECOND);
    on(&job, out.record.id.as_str(), "gpu2");
    job.wait_title(pid, "@gpu2");
    for node in ["head", "gpu1", "gpu2"] {
        send(job.cluster.agent_pid(node), Signal::SIGKILL);
    }
    job.cluster.wait_heard();
    job.flows(20);
    job.cluster.bring_home(out.record.id.as_str());
    assert_eq!(job.status(), "0 5");
    job.all_came(400);
}

#[test]
fn what_cannot_move_on_is_refused_before_a_freeze() {
    let Some(job) = Job::start_on_two(CHILD) else { return };
    let (_, out) = job.move_meant();
    let id = out.record.id.as_str();
    let refused = |to: &str| {
        let (code, error) = job.cluster.refused(&["offload", "recall", id, "--to", to]);
        (code, error.code, error.hint.unwrap_or_default())
    };
    assert_eq!(refused("gpu7").0, i32::from(FaultClass::NotFound.code()));
    assert_eq!(refused("gpu1").0, i32::from(FaultClass::Conflict.code()));
    let (_, code, hint) = refused("gpu2");
    assert_eq!(code, Some(ReasonCode::NoFit));
    assert!(hint.contains("--from gpu2"), "{hint}");
    job.cluster.boost("--cpu 1 --memory 8MiB --duration 5m --from gpu2");
    assert_eq!(refused("gpu2").1, Some(ReasonCode::NoFit));
    let events = format!("{:?}", job.cluster.events());
    assert!(!events.contains("OnwardStarted") && !events.contains("RecallStarted"), "{events}");
    job.goes_on();
}

#[test]
fn where_the_way_on_fails_it_runs_where_it_was() {
    for (node, point) in [("gpu2", FaultPoint::StartRestore), ("gpu1", FaultPoint::SendManifest)] {
        let Some(job) = Job::start_on_two(CHILD) else { return };
        let (pid, out) = job.move_meant();
        job.cluster.boost(SECOND);
        let id = out.record.id.as_str();
        job.goes_on();
        let armed = job.cluster.arm(node, point, Effect::Fail);
        let said = job.cluster.grid(&["offload", "recall", id, "--to", "gpu2"]);
        assert!(said.code != 0 && said.out.contains("did not move on"), "{said:?}");
        drop(armed);
        job.wait_title(pid, "@gpu1");
        job.goes_on();
        assert_eq!(job.copies("prog.py").len(), 1);
        on(&job, id, "gpu2");
        job.goes_on();
        job.go(3);
        assert_eq!(job.status(), "3");
    }
}

/// Home has no room: at the end of its boost it goes on to the other lease; there it stays, overdue, where there is none.
#[test]
fn at_its_boosts_end_it_goes_to_another_lease_and_else_it_stays_and_that_is_said() {
    let Some(job) = Job::start_on_two(STREAM) else { return };
    let (pid, out) = job.move_meant();
    let id = out.record.id.as_str();
    let second = job.cluster.boost(SECOND).boost.id.to_string();
    job.cluster.pretend_memory("head", Some(1 << 20));
    let first = out.record.boost.unwrap().to_string();
    let released: BoostView = job.cluster.ask(&["boost", "release", &first]);
    assert!(matches!(released.boost.state, BoostState::Ended { .. }), "{released:?}");
    job.wait_title(pid, "@gpu2");
    let view = job.cluster.wait_phase(id, OffloadPhase::Away);
    assert_eq!((view.record.destination.as_str(), view.record.reasons), ("gpu2", Vec::new()));
    let moved_on = |e: &EventRecord| match &e.event {
        Event::OnwardStarted { boost, .. } => Some((boost.to_string(), e.actor.clone())),
        _ => None,
    };
    let by = Actor::Rule { name: "boost-end".into() };
    assert_eq!(job.cluster.events().iter().find_map(moved_on), Some((second.clone(), by)));
    job.flows(20);
    let stays: BoostView = job.cluster.ask(&["boost", "release", &second]);
    let BoostState::Overdue { detail } = &stays.boost.state else { panic!("{stays:?}") };
    assert!(detail.contains("1 MiB free there; no other lease is active"), "{detail}");
    job.flows(20);
    job.cluster.pretend_memory("head", None);
    let home: BoostView = job.cluster.ask(&["boost", "release", &second]);
    assert!(matches!(home.boost.state, BoostState::Ended { .. }), "{home:?}");
    assert_eq!(job.status(), "0 5");
    job.all_came(400);
}
