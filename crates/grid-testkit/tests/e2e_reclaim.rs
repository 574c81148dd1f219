//! A lender takes his machine back: what he lent to is frozen at once, and leaves; nothing is ended unasked.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

#[allow(dead_code)] // each file of tests uses a part of it
mod shadow;

use grid_types::api::{BoostView, OffloadView, ReclaimReply};
use grid_types::boost::{BoostState, EndReason};
use grid_types::event::{Event, ExitStatus, OffloadPhase};
use grid_types::exit::FaultClass;
use nix::sys::signal::Signal;
use shadow::{Job, send};
use std::time::Duration;

const STREAM: &str = "/usr/bin/python3 lines.py 300 0.01 | (meant; exec /usr/bin/python3 seen.py) >out
told ${PIPESTATUS[@]}";
const CHILD: &str = "/usr/bin/python3 prog.py
told $?";

fn reclaim(job: &Job, words: &[&str]) -> ReclaimReply {
    job.cluster.ask(&[&["boost", "reclaim"], words].concat())
}

/// Away, with no room for it at home.
fn stuck() -> Option<(Job, i32, OffloadView)> {
    let job = Job::start_on_two(CHILD)?;
    let (pid, out) = job.move_meant();
    job.goes_on();
    job.cluster.pretend_memory("head", Some(1 << 20));
    Some((job, pid, out))
}

#[test]
fn its_guests_go_home_and_it_has_everything_back() {
    let Some(job) = Job::start(STREAM) else { return };
    let (pid, out) = job.move_meant();
    job.flows(20);
    let boost = out.record.boost.unwrap().to_string();
    let dry = reclaim(&job, &[&boost, "--dry-run"]);
    assert_eq!((dry.frozen, dry.boost.boost.state), (None, BoostState::Active));
    let reply = reclaim(&job, &[&boost, "--within", "30s"]);
    println!("frozen within {:?}, all in {}", reply.frozen, reply.took);
    assert!(reply.frozen.is_some());
    assert!(matches!(reply.boost.boost.state, BoostState::Ended { why: EndReason::Reclaimed, .. }), "{reply:?}");
    job.wait_title(pid, "@head");
    let home = job.cluster.wait_phase(out.record.id.as_str(), OffloadPhase::Home);
    assert_eq!(home.record.reasons, Vec::new());
    assert_eq!(job.status(), "0 5");
    job.all_came(300);
    let (code, _) = job.cluster.refused(&["boost", "reclaim", &boost]);
    assert_eq!(code, i32::from(FaultClass::Conflict.code()));
}

#[test]
fn its_guests_go_to_another_lender_where_home_has_no_room() {
    let Some((job, pid, out)) = stuck() else { return };
    job.cluster.boost("--cpu 1 --memory 1GiB --duration 5m --from gpu2");
    let reply = reclaim(&job, &[out.record.boost.unwrap().as_str()]);
    assert!(matches!(reply.boost.boost.state, BoostState::Ended { why: EndReason::Reclaimed, .. }), "{reply:?}");
    job.wait_title(pid, "@gpu2");
    job.goes_on();
    job.go(3);
    assert_eq!(job.status(), "3");
}

#[test]
fn what_cannot_leave_stays_frozen_and_nothing_ends_it() {
    let Some((job, _, out)) = stuck() else { return };
    let (id, boost) = (out.record.id.as_str(), out.record.boost.clone().unwrap().to_string());
    let frozen = |job: &Job| job.rests(Duration::from_millis(500), || job.says().0);
    let reply = reclaim(&job, &[&boost, "--within", "2s"]);
    let BoostState::Overdue { detail } = &reply.boost.boost.state else { panic!("{reply:?}") };
    assert!(detail.starts_with("frozen there: ") && detail.contains("1 MiB free there"), "{detail}");
    let at = frozen(&job);
    assert!(job.cluster.grid(&["status"]).out.contains("gpu1: FROZEN"));
    // So it stays when its lender's agent dies, and more time is not had of him.
    send(job.cluster.agent_pid("gpu1"), Signal::SIGKILL);
    job.cluster.wait_heard();
    assert_eq!(frozen(&job), at);
    let (_, error) = job.cluster.refused(&["boost", "extend", &boost, "--by", "1m"]);
    assert!(error.message.contains("took"), "{error:?}");
    assert!(job.cluster.events().iter().any(|e| matches!(e.event, Event::GuestsFrozen { guests: 1, .. })));
    // He may let it run again, and take it back again.
    reclaim(&job, &[&boost, "--lift"]);
    job.goes_on();
    reclaim(&job, &[&boost, "--within", "1s"]);
    frozen(&job);
    // It leaves as soon as there is room for it.
    job.cluster.pretend_memory("head", None);
    job.cluster.bring_home(id);
    job.goes_on();
    job.go(3);
    assert_eq!(job.status(), "3");
}

#[test]
fn past_the_deadline_it_is_ended_only_where_that_was_asked_for() {
    let Some((job, _, out)) = stuck() else { return };
    let boost = out.record.boost.unwrap().to_string();
    let reply = reclaim(&job, &[&boost, "--within", "1s", "--end"]);
    assert!(matches!(reply.boost.boost.state, BoostState::Ended { .. }), "{reply:?}");
    assert_eq!(job.status(), "137");
    let ended = job.cluster.wait_phase(out.record.id.as_str(), OffloadPhase::Ended);
    assert_eq!(ended.record.exit, Some(ExitStatus::Signal(9)));
    let view: BoostView = job.cluster.ask(&["boost", "show", &boost]);
    assert_eq!(view.guests, Vec::new());
}
