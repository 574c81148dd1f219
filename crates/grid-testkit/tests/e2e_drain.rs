//! A node is taken out of use: nothing new comes to it, and what lives there goes elsewhere, or stays and is said to.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

#[allow(dead_code)] // each file of tests uses a part of it
mod shadow;

use grid_types::api::{DrainReply, NodeView};
use grid_types::boost::{BoostState, EndReason};
use grid_types::event::OffloadPhase;
use grid_types::exit::FaultClass;
use grid_types::reason::ReasonCode;
use shadow::Job;

const CHILD: &str = "/usr/bin/python3 prog.py
told $?";

fn code(class: FaultClass) -> i32 {
    i32::from(class.code())
}

fn row(job: &Job, node: &str) -> String {
    let out = job.cluster.grid(&["status"]).out;
    out.lines().find(|line| line.starts_with(node)).unwrap_or(&out).to_owned()
}

#[test]
fn a_cordoned_node_takes_nothing_new_also_after_a_restart() {
    let Some(job) = Job::start_on_two(CHILD) else { return };
    let cluster = &job.cluster;
    let (refused, _) = cluster.refused_to_user(&["node", "cordon", "gpu1"]);
    assert_eq!(refused, code(FaultClass::Permission));
    let dry: NodeView = cluster.ask(&["node", "cordon", "gpu1", "--dry-run"]);
    assert_eq!(dry.cordoned, None);
    let said = cluster.grid(&["node", "cordon", "gpu1"]);
    assert!(said.out.contains("gpu1 takes nothing new; 1 CPU 1.0 GiB stay lent there"), "{said:?}");
    assert!(cluster.ask::<NodeView>(&["node", "cordon", "gpu1"]).cordoned.is_some(), "twice is no fault");

    cluster.kill9(cluster.daemon_pid());
    cluster.wait_ready();
    assert!(row(&job, "gpu1").contains("(cordoned by root"), "{}", row(&job, "gpu1"));
    let (refused, error) =
        cluster.refused(&["boost", "request", "head", "--cpu", "1", "--memory", "64MiB", "--from", "gpu1"]);
    assert_eq!((refused, error.details), (code(FaultClass::NoCapacity), vec!["gpu1  it is cordoned".to_owned()]));
    // Nor does a process, into what is lent there already: by its node, by its boost, by itself, or onto its disk.
    let pid = job.meant().to_string();
    for words in [
        &["offload", "execute", &pid, "--to", "gpu1"][..],
        &["offload", "execute", &pid, "--boost", "last"],
        &["offload", "park", &pid, "--on", "gpu1"],
    ] {
        let (_, error) = cluster.refused(words);
        assert_eq!(error.code, Some(ReasonCode::Cordon), "{words:?}: {error:?}");
    }
    let (_, error) = cluster.refused(&["offload", "execute", &pid]);
    assert_ne!(error.code, Some(ReasonCode::Cordon), "{error:?}");
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m --from gpu2");
    let moved = cluster.move_out(pid.parse().unwrap());
    assert_eq!(moved.record.destination.as_str(), "gpu2");
    let (_, error) = cluster.refused(&["offload", "recall", &pid, "--to", "gpu1"]);
    assert_eq!(error.code, Some(ReasonCode::Cordon), "{error:?}");

    assert_eq!(cluster.grid(&["node", "uncordon", "gpu1"]).code, 0);
    cluster.boost("--cpu 1 --memory 64MiB --duration 1m --from gpu1");
    job.wait_title(pid.parse().unwrap(), "@gpu2");
    job.go(3);
    assert_eq!(job.status(), "3");
    let (refused, _) = cluster.refused(&["node", "cordon", "head"]);
    assert_eq!(refused, code(FaultClass::Usage));
    let (refused, _) = cluster.refused(&["node", "drain", "gpu9"]);
    assert_eq!(refused, code(FaultClass::NotFound));
}

#[test]
fn what_lives_on_a_drained_node_goes_home() {
    let Some(job) = Job::start(CHILD) else { return };
    let cluster = &job.cluster;
    let (_, out) = job.move_meant();
    let (id, boost) = (out.record.id.as_str(), out.record.boost.clone().unwrap());
    let dry: DrainReply = cluster.ask(&["node", "drain", "gpu1", "--dry-run"]);
    assert_eq!((dry.steps.len(), dry.steps[0].what.as_str()), (1, format!("{id} home").as_str()));
    job.goes_on();
    let said = cluster.grid(&["node", "drain", "gpu1", "--by", "40s"]);
    println!("{}", said.out);
    assert!(said.out.contains(&format!("{boost} 1 CPU 1.0 GiB: went back")), "{said:?}");
    assert!(said.out.contains("Nobody's processes run on gpu1"), "{said:?}");
    cluster.wait_phase(id, OffloadPhase::Home);
    let view: grid_types::api::BoostView = cluster.ask(&["boost", "show", boost.as_str()]);
    assert!(matches!(view.boost.state, BoostState::Ended { why: EndReason::Drained, .. }), "{view:?}");
    assert!(row(&job, "gpu1").contains("(cordoned by root"));
    job.goes_on();
    job.go(3);
    assert_eq!(job.status(), "3");
}

#[test]
fn what_has_room_nowhere_stays_and_what_its_boost_would_end_is_not_ended() {
    let Some(job) = Job::start_on_two(CHILD) else { return };
    let cluster = &job.cluster;
    // The boost in which it goes asks for its guests' end.
    let release: Vec<String> = cluster.status().unwrap().boosts.iter().map(|b| b.boost.id.to_string()).collect();
    for id in release {
        assert_eq!(cluster.grid(&["boost", "release", &id]).code, 0);
    }
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m --from gpu1 --at-end end");
    let (pid, out) = job.move_meant();
    job.goes_on();
    cluster.pretend_memory("head", Some(1 << 20));
    let reply: DrainReply = cluster.ask(&["node", "drain", "gpu1", "--by", "20s"]);
    let BoostState::Overdue { detail } = &reply.boosts[0].boost.state else { panic!("{reply:?}") };
    assert!(detail.contains("1 MiB free there"), "{detail}");
    job.goes_on();
    // There is room elsewhere: again.
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m --from gpu2");
    let reply: DrainReply = cluster.ask(&["node", "drain", "gpu1", "--by", "40s"]);
    assert!(matches!(reply.boosts[0].boost.state, BoostState::Ended { .. }), "{reply:?}");
    job.wait_title(pid, "@gpu2");
    job.goes_on();
    cluster.pretend_memory("head", None);
    cluster.bring_home(out.record.id.as_str());
    job.go(3);
    assert_eq!(job.status(), "3");
}
