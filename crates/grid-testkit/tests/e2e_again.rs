//! A process that moves again: after a try that came to nothing, and after the cluster was down; and what those hear at home who
//! wait for one that ended with the cluster.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

#[allow(dead_code)] // each file of tests uses a part of it
mod shadow;

use grid_testkit::cluster::{Cluster, Guest};
use grid_testkit::procs;
use grid_types::api::OffloadView;
use grid_types::event::{ExitStatus, OffloadPhase};
use grid_types::fault::{Effect, FaultPoint};
use grid_types::reason::ReasonCode;
use nix::sys::signal::Signal;
use shadow::{Job, send};

const CHILD: &str = "/usr/bin/python3 prog.py
told $?";

/// Its number at home is its shadow's, which has descriptors and connections of its own: none of them is the reason.
#[test]
fn what_is_away_or_parked_is_named_as_what_it_is_and_its_offload_names_it_when_it_is_home() {
    let Some(job) = Job::start(CHILD) else { return };
    let (pid, out) = job.move_meant();
    let (id, pid_given) = (out.record.id.to_string(), pid.to_string());
    for (given, state, next) in [(&pid_given, "away", "recall"), (&id, "away", "recall"), (&id, "parked", "unpark")] {
        if state == "parked" {
            job.cluster.ask::<OffloadView>(&["offload", "park", &id]);
        }
        let (_, error) = job.cluster.refused(&["offload", "execute", given]);
        assert_eq!(error.code, Some(ReasonCode::Away));
        let want = format!("{pid} python3 prog.py stays as it is; nothing was changed: it is {state} on gpu1 as {id}");
        assert_eq!((error.message, error.details), (want, vec![]));
        assert!(error.hint.unwrap().contains(&format!("grid offload {next} {pid}")));
    }
    job.cluster.ask::<OffloadView>(&["offload", "unpark", &id, "--to", "head"]);
    let again: OffloadView = job.cluster.ask(&["offload", "execute", &id]);
    assert_eq!((again.record.process.pid, again.record.phase), (pid, OffloadPhase::Away));
    job.goes_on();
    job.go(0);
    assert_eq!(job.status(), "0");
    let (code, error) = job.cluster.refused(&["offload", "execute", again.record.id.as_str()]);
    assert!(code == 12 && error.message.contains("which process is meant?"), "{code} {error:?}");
}

#[test]
fn after_a_move_that_failed_what_came_home_moves_as_before() {
    let Some(job) = Job::start(CHILD) else { return };
    let (pid, out) = job.move_meant();
    job.cluster.bring_home(out.record.id.as_str());
    let armed = job.cluster.arm("head", FaultPoint::StartDump, Effect::Fail);
    let said = job.cluster.grid(&["offload", "execute", &pid.to_string()]);
    assert_eq!(said.code, 4, "{said:?}");
    drop(armed);
    job.goes_on();
    // The one that failed is not where it is.
    let (_, error) = job.cluster.refused(&["offload", "recall", &pid.to_string()]);
    assert!(error.message.contains("is at home, not away"), "{error:?}");
    let again = job.cluster.move_out(pid);
    job.goes_on();
    let parked: OffloadView = job.cluster.ask(&["offload", "park", &pid.to_string()]);
    assert_eq!(parked.record.id, again.record.id);
    job.cluster.ask::<OffloadView>(&["offload", "unpark", &pid.to_string()]);
    job.goes_on();
    job.go(7);
    assert_eq!(job.status(), "7");
}

#[test]
fn what_came_home_moves_on_after_the_cluster_was_down_and_its_end_is_known() {
    let Some(mut job) = Job::start(CHILD) else { return };
    let (pid, out) = job.move_meant();
    job.cluster.bring_home(out.record.id.as_str());
    assert_eq!(job.cluster.grid(&["down", "--yes"]).code, 0);
    job.goes_on();
    job.up_again();
    let again = job.cluster.move_out(pid);
    job.goes_on();
    let id = again.record.id.to_string();
    job.cluster.bring_home(&id);
    assert_eq!(job.cluster.grid(&["down", "--yes"]).code, 0);
    // It ends while nobody looks.
    job.go(7);
    assert_eq!(job.status(), "7");
    job.up_again();
    let ended = job.cluster.wait_phase(&id, OffloadPhase::Ended);
    assert_eq!(ended.record.exit, Some(ExitStatus::Code(7)));
}

#[test]
fn who_waits_for_what_ends_with_the_cluster_hears_of_it() {
    let Some(job) = Job::start(CHILD) else { return };
    let (pid, _) = job.move_meant();
    let said = job.cluster.grid(&["down", "--yes"]);
    assert!(said.code == 0 && said.out.contains(&format!("{pid} python3 prog.py ends with gpu1")), "{said:?}");
    assert_eq!(job.status(), "137", "as by SIGKILL");
    assert!(job.copies("prog.py").is_empty() && !procs::is_shadow(pid));
}

#[test]
fn who_waits_for_what_was_lost_with_the_cluster_hears_of_it_at_the_next_start() {
    let Some(mut job) = Job::start(CHILD) else { return };
    let (pid, out) = job.move_meant();
    job.cluster.kill_everything();
    job.up_again();
    assert_eq!(job.status(), "113");
    job.cluster.wait_phase(out.record.id.as_str(), OffloadPhase::Lost);
    assert!(!procs::is_shadow(pid));
    assert!(job.guest.process.stderr().unwrap().contains("does not answer for this process any more"));
    let (_, error) = job.cluster.refused(&["offload", "execute", &pid.to_string()]);
    assert_ne!(error.code, Some(ReasonCode::Unix), "{error:?}");
}

/// As at home, where a shell's background job outlives it.
#[test]
fn what_a_root_left_behind_at_home_outlives_the_cluster() {
    let Some(cluster) = Cluster::start(1) else { return };
    let script = "(while [ ! -e stop ]; do echo >>ticks; sleep 0.05; done) & exec sleep 1000";
    let guest = Guest::script(&cluster, script);
    let ticks = || guest.read("ticks").lines().count();
    let goes_on = || {
        let from = ticks();
        guest.wait_text("ticks", |text| text.lines().count() > from + 5);
    };
    goes_on();
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let out = cluster.move_out(guest.pid());
    cluster.bring_home(out.record.id.as_str());
    send(guest.pid(), Signal::SIGTERM);
    cluster.wait_phase(out.record.id.as_str(), OffloadPhase::Ended);
    goes_on();
    let said = cluster.grid(&["down"]);
    assert!(said.code == 0 && said.out.contains("1 that came home live on"), "{said:?}");
    // So long that who looks for it once a second would have found it.
    let from = ticks();
    guest.wait_text("ticks", |text| text.lines().count() > from + 50);
    std::fs::write(guest.dir.join("stop"), "").unwrap();
    let words = |pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    cluster.wait("its pid 1 to end", || match procs::all().into_iter().find(|p| words(*p).contains(cluster.group())) {
        Some(pid) => Err(words(pid)),
        None => Ok(()),
    });
}

/// Whoever kills the shadow means the tree, whether or not somebody else is there to hear it.
#[test]
fn what_came_home_ends_with_its_shadow_while_the_cluster_is_down() {
    let Some(job) = Job::start(CHILD) else { return };
    let (pid, out) = job.move_meant();
    job.cluster.bring_home(out.record.id.as_str());
    assert_eq!(job.cluster.grid(&["down", "--yes"]).code, 0);
    job.goes_on();
    send(pid, Signal::SIGKILL);
    assert_eq!(job.status(), "137");
    let gone = || if job.copies("prog.py").is_empty() { Ok(()) } else { Err(job.copies("prog.py")) };
    job.cluster.wait("the tree to end", gone);
}
