//! The owner of a lender says what it lends, on the lender: heeded without the head, and known to it.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

#[allow(dead_code)] // each file of tests uses a part of it
mod shadow;

use grid_testkit::cluster::{Cluster, Guest, Said};
use grid_testkit::lab::Lab;
use grid_testkit::procs::{NOBODY, nearly_all_memory};
use grid_types::boost::{BoostState, EndReason};
use grid_types::event::{Actor, Event, OffloadPhase};
use grid_types::exit::FaultClass;
use grid_types::reason::ReasonCode;
use nix::sys::signal::Signal;
use serde_json::Value;
use shadow::{Job, send};
use std::time::Duration;

const CHILD: &str = "/usr/bin/python3 prog.py
told $?";

/// `grid lend WORDS` as root on the machine that lends; what it says.
fn lend(cluster: &Cluster, words: &[&str]) -> String {
    let said = cluster.grid(&[&["lend"], words].concat());
    assert_eq!(said.code, 0, "grid lend {words:?}: {said:?}\n{}", cluster.logs());
    said.out
}

/// `grid lend status`, as JSON, of the only node or the one that is named.
fn status(cluster: &Cluster, words: &[&str]) -> Value {
    let all: Vec<Value> = cluster.ask(&[&["lend", "status"], words].concat());
    assert_eq!(all.len(), 1, "{all:?}");
    all.into_iter().next().unwrap()
}

/// The head's own row of this node says so.
fn head_says(cluster: &Cluster, node: &str, text: &str) {
    cluster.wait(&format!("the head to say {text:?} of {node}"), || {
        let out = cluster.grid(&["status"]).out;
        let row = |line: &&str| line.starts_with(node) && line.contains(text);
        out.lines().find(row).map(drop).ok_or(out.clone())
    });
}

/// A boost is refused, and why on this node.
fn refused(cluster: &Cluster, options: &[&str]) -> (i32, String) {
    let (code, error) = cluster.refused(&[&["boost", "request", "head"], options].concat());
    (code, error.details.join("; "))
}

#[test]
fn off_lends_nothing_new_and_what_is_there_stays_to_its_end() {
    let Some(job) = Job::start(CHILD) else { return };
    let cluster = &job.cluster;
    let (_, out) = job.move_meant();
    let boost = out.record.boost.unwrap().to_string();
    let dry = lend(cluster, &["off", "--dry-run"]);
    assert!(dry.contains("Nothing was changed") && status(cluster, &[])["order"].is_null(), "{dry}");

    let said = lend(cluster, &["off"]);
    assert!(said.contains("gpu1 lends nothing new") && said.contains(&boost) && said.contains("1 guest"), "{said}");
    job.goes_on();
    head_says(cluster, "gpu1", "its owner switched lending off");
    let (code, why) = refused(cluster, &["--cpu", "1", "--memory", "64MiB"]);
    assert_eq!(code, i32::from(FaultClass::NoCapacity.code()));
    assert_eq!(why, "gpu1  its owner switched lending off");
    let (_, error) = cluster.refused(&["boost", "extend", &boost, "--by", "1m"]);
    assert_eq!(error.code, Some(ReasonCode::NoLend), "{error:?}");

    // His word outlives the agent, and needs none to be given.
    send(cluster.agent_pid("gpu1"), Signal::SIGKILL);
    cluster.wait_heard();
    head_says(cluster, "gpu1", "its owner switched lending off");
    let seen = status(cluster, &[]);
    let lease = &seen["answer"]["leases"][0];
    assert_eq!((lease["lease"].as_str(), lease["guests"][0]["uid"].as_u64()), (Some(&*boost), Some(u64::from(NOBODY))));
    assert!(lease["guests"][0]["pid"].is_number() && lease["guests"][0]["since"].is_number(), "{lease}");
    assert!(seen["used"][0]["memory"].as_u64().unwrap() > 1 << 20 && seen["used"][0]["cpu"].is_number(), "{seen}");
    let human = lend(cluster, &["status"]);
    assert!(human.contains("lends nothing new since") && human.contains(" of nobody since "), "{human}");

    let said = lend(cluster, &["on"]);
    assert!(said.contains("gpu1 lends: as it is configured"), "{said}");
    cluster.boost("--cpu 1 --memory 64MiB --duration 1m");
    cluster.bring_home(out.record.id.as_str());
    job.go(3);
    assert_eq!(job.status(), "3");
}

#[test]
fn he_takes_it_back_and_its_guests_go_home() {
    let Some(job) = Job::start(CHILD) else { return };
    let cluster = &job.cluster;
    let (_, out) = job.move_meant();
    let boost = out.record.boost.unwrap().to_string();
    job.goes_on();
    let said = lend(cluster, &["off", "--reclaim", "--by", "40s"]);
    println!("{said}");
    assert!(said.contains(&format!("{boost}: 1 guest frozen within ")) && said.contains("is back after"), "{said}");
    cluster.wait_phase(out.record.id.as_str(), OffloadPhase::Home);
    job.goes_on();
    let by_owner = |e: &grid_types::event::EventRecord| {
        matches!(&e.actor, Actor::Lender { node } if node.as_str() == "gpu1")
            && matches!(e.event, Event::GuestsFrozen { guests: 1, .. })
    };
    assert_eq!(cluster.events().iter().filter(|e| by_owner(e)).count(), 1);
    let view: grid_types::api::BoostView = cluster.ask(&["boost", "show", &boost]);
    assert!(matches!(view.boost.state, BoostState::Ended { why: EndReason::Reclaimed, .. }), "{view:?}");
    head_says(cluster, "gpu1", "its owner took it back");
    job.go(3);
    assert_eq!(job.status(), "3");
}

#[test]
fn what_cannot_leave_stays_frozen_until_he_gives_it_back_and_the_head_cannot() {
    let Some(job) = Job::start(CHILD) else { return };
    let cluster = &job.cluster;
    let (_, out) = job.move_meant();
    let boost = out.record.boost.unwrap().to_string();
    job.goes_on();
    cluster.pretend_memory("head", Some(1 << 20));
    // The head is dead at that moment: his machine is his all the same.
    let daemon = cluster.daemon_pid();
    send(daemon, Signal::SIGSTOP);
    let said = lend(cluster, &["off", "--reclaim", "--by", "1s"]);
    assert!(said.contains("1 guest STAYS FROZEN after 1"), "{said}");
    let frozen = || job.rests(Duration::from_millis(300), || job.says().0);
    let at = frozen();
    send(daemon, Signal::SIGCONT);
    cluster.wait("the head to hear of it", || {
        let view: grid_types::api::BoostView = cluster.ask(&["boost", "show", &boost]);
        let overdue = matches!(&view.boost.state, BoostState::Overdue { detail } if detail.starts_with("frozen there"));
        if overdue { Ok(()) } else { Err(view.boost.state) }
    });
    send(cluster.agent_pid("gpu1"), Signal::SIGKILL);
    cluster.wait_heard();
    let (code, error) = cluster.refused(&["boost", "reclaim", &boost, "--lift"]);
    assert_eq!((code, error.code), (i32::from(FaultClass::Permission.code()), Some(ReasonCode::Owner)), "{error:?}");
    assert!(error.message.contains("grid lend on"), "{error:?}");
    assert_eq!(frozen(), at);
    let human = lend(cluster, &["status"]);
    assert!(human.contains("FROZEN") && human.contains("takes back"), "{human}");
    // Off alone does not give back what is being taken.
    lend(cluster, &["off"]);
    assert_eq!(frozen(), at);
    lend(cluster, &["on"]);
    job.goes_on();
    cluster.wait("the head to know", || {
        let thawed =
            |e: &grid_types::event::EventRecord| matches!(e.event, Event::GuestsThawed { guests: 1, took: None, .. });
        if cluster.events().iter().any(thawed) { Ok(()) } else { Err("no such event") }
    });
    cluster.pretend_memory("head", None);
    cluster.bring_home(out.record.id.as_str());
    job.go(3);
    assert_eq!(job.status(), "3");
}

#[test]
fn while_grid_is_stopped_nothing_is_frozen_and_that_is_said() {
    let Some(job) = Job::start(CHILD) else { return };
    let cluster = &job.cluster;
    job.move_meant();
    assert_eq!(cluster.grid(&["stop"]).code, 0);
    let said = lend(cluster, &["off", "--reclaim", "--by", "1s"]);
    assert!(said.contains("NOT DONE") && said.contains("E-STOP"), "{said}");
    job.goes_on();
    assert_eq!(cluster.grid(&["stop", "--lift"]).code, 0);
    cluster.wait("it to be carried out then", || {
        let seen = status(cluster, &[]);
        if seen["answer"]["leases"].as_array().unwrap().is_empty() { Ok(()) } else { Err(seen) }
    });
    job.go(3);
    assert_eq!(job.status(), "3");
}

const TWO: &str = "
name: lend
nodes:
  - {name: head, role: head, resource_sharing: {can_share: false}}
  - {name: gpu1, role: worker, resource_sharing: {can_share: true, max_share_cpu: 8, max_share_memory_gb: 4}}
  - {name: gpu2, role: worker, resource_sharing: {can_share: true, max_share_cpu: 8, max_share_memory_gb: 4}}
";

#[test]
fn limits_lower_what_is_lent_anew_and_what_is_lent_above_them_stays() {
    let Some(cluster) = Cluster::configured(TWO) else { return };
    let held = cluster.boost("--cpu 2 --memory 1GiB --duration 5m --from gpu1").boost.id.to_string();
    let several = cluster.grid(&["lend", "off"]);
    assert_eq!(several.code, i32::from(FaultClass::Usage.code()), "{several:?}");
    assert!(several.err.contains("gpu1, gpu2") && several.err.contains("--node"), "{several:?}");

    let said = lend(&cluster, &["limit", "--cpu", "1", "--memory", "2GiB", "--node", "gpu1"]);
    assert!(said.contains("1 CPU is lent above that") && said.contains(&held), "{said}");
    head_says(&cluster, "gpu1", "its owner lends 1.0 CPU 2.0 GiB at most");
    let (code, why) = refused(&cluster, &["--cpu", "1", "--memory", "64MiB", "--from", "gpu1"]);
    assert_eq!(code, i32::from(FaultClass::NoCapacity.code()));
    assert!(why.contains("its owner lends 1.0 CPU 2.0 GiB at most"), "{why}");
    assert_eq!(cluster.grid(&["boost", "release", &held]).code, 0);
    cluster.boost("--cpu 1 --memory 2GiB --duration 1m --from gpu1");

    // One part at a time, and no limit at all.
    lend(&cluster, &["limit", "--reserve-memory", "900GiB", "--node", "gpu2"]);
    head_says(&cluster, "gpu2", "keeps memory free");
    let (_, why) = refused(&cluster, &["--cpu", "1", "--memory", "64MiB", "--from", "gpu2"]);
    assert!(why.contains("0 B are spare"), "{why}");
    lend(&cluster, &["limit", "--none", "--node", "gpu2"]);
    cluster.boost("--cpu 4 --memory 1GiB --duration 1m --from gpu2");
    let seen = status(&cluster, &["--node", "gpu1"]);
    assert_eq!((seen["order"]["limits"]["cpu"].as_u64(), seen["heeded"].as_bool()), (Some(1000), Some(true)), "{seen}");

    // What he said and nobody understands is a no.
    std::fs::write(cluster.state().join("nodes/gpu2/lend/order.json"), "on").unwrap();
    head_says(&cluster, "gpu2", "cannot be read");
    let said = cluster.grid(&["lend", "limit", "--cpu", "1", "--node", "gpu2"]);
    assert_eq!(said.code, i32::from(FaultClass::State.code()), "{said:?}");
    lend(&cluster, &["on", "--node", "gpu2"]);
}

#[test]
fn only_root_says_what_is_lent_and_anybody_may_look() {
    let Some(cluster) = Cluster::configured(TWO) else { return };
    for words in [&["lend", "off", "--node", "gpu1"][..], &["lend", "off", "--node", "gpu1", "--dry-run"]] {
        let (code, error) = cluster.refused_to_user(words);
        assert_eq!(
            (code, error.code),
            (i32::from(FaultClass::Permission.code()), Some(ReasonCode::Right)),
            "{error:?}"
        );
    }
    let seen: Vec<Value> = cluster.ask_as(NOBODY, &[], &["lend", "status", "--node", "gpu1"]);
    assert_eq!(
        (seen[0]["answer"]["limit"]["cpu"].as_u64(), seen[0]["running"].is_null()),
        (Some(8000), true),
        "{seen:?}"
    );
    // Root may let somebody.
    std::os::unix::fs::chown(cluster.state().join("nodes/gpu1/lend"), Some(NOBODY), None).unwrap();
    assert_eq!(cluster.grid_as_user(&["lend", "off", "--node", "gpu1"]).code, 0);
    head_says(&cluster, "gpu1", "its owner switched lending off");
    let unknown: Said = cluster.grid(&["lend", "status", "--node", "../gpu1"]);
    assert_eq!(unknown.code, i32::from(FaultClass::NotFound.code()), "{unknown:?}");
}

#[test]
fn on_another_machine_the_worker_s_owner_says_it_there() {
    let lab = Lab::start();
    let Some(cluster) = Cluster::configured(&lab.config("same")) else { return };
    let folder = std::fs::read_dir(lab.workers()).unwrap().next().unwrap().unwrap().path();
    let there = |state: &std::path::Path, words: &[&str]| {
        // By the program that was brought there.
        let mut command = std::process::Command::new(folder.join("bin/grid"));
        let out = command.arg("--state").arg(state).arg("lend").args(words).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{words:?}: {text}\n{}", cluster.logs());
        text
    };
    let said = there(lab.workers(), &["off"]);
    assert!(said.contains("gpu1 lends nothing new"), "{said}");
    head_says(&cluster, "gpu1", "its owner switched lending off");
    // ssh breaks: the word stands, and is known again.
    lab.drop_connections();
    cluster.wait_heard();
    head_says(&cluster, "gpu1", "its owner switched lending off");
    let said = there(&folder, &["status"]);
    assert!(said.contains("gpu1 lends nothing new since") && said.contains("Nothing is lent"), "{said}");
    there(&folder, &["limit", "--cpu", "1"]);
    there(&folder, &["on"]);
    head_says(&cluster, "gpu1", "its owner lends 1.0 CPU 2.0 GiB at most");
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");

    // A rule of his is carried out there also while nobody reaches the head, and the head sends its guest home when it hears
    // of that. (There is always less memory than all.)
    let guest = Guest::reporting(&cluster, "prover", "--memory 16MiB --steps 1000000");
    let id = cluster.move_out(guest.pid()).record.id;
    guest.goes_on();
    lab.set_link(false).unwrap();
    there(&folder, &["rule", "--when-memory", &nearly_all_memory(), "--for", "1s", "--quiet", "2s"]);
    cluster.wait("the guest to be frozen there", || match there(&folder, &["status"]) {
        said if said.contains("IN FORCE since") && said.contains("FROZEN") => Ok(()),
        said => Err(said),
    });
    let at = guest.count();
    lab.set_link(true).unwrap();
    cluster.wait_phase(id.as_str(), OffloadPhase::Home);
    assert!(guest.count() >= at);
    guest.goes_on();
    guest.never_went_back();
    there(&folder, &["rule", "--none"]);
    cluster.boost("--cpu 1 --memory 512MiB --duration 1m");
}
