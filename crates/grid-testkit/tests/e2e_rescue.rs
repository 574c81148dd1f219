//! `grid rescue` after `kill -9` of everything in mid-move: what was not committed runs on, what was stays held, and in
//! the end there was one copy all the time.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest, undisturbed};
use grid_types::event::OffloadPhase;
use grid_types::fault::{Effect, FaultPoint};

const PROGRAM: &str = "--memory 64MiB --steps 12000";
/// Its dump takes long enough to be hit in the middle.
const LARGE: &str = "--memory 768MiB --steps 14000";
const BOOST: &str = "--cpu 1 --memory 3GiB --duration 10m";
const HELD: i32 = 11;

const CONFIG: &str = "
name: rescue
nodes:
  - {name: head, role: head, resource_sharing: {can_share: false}}
  - {name: gpu1, role: worker, resource_sharing: {can_share: true, max_share_cpu: 4, max_share_memory_gb: 4}}
execution:
  resource_sharing:
    thresholds: {excess_threshold: 0.05}
    auto_offload: off
";

/// Copies as `grid rescue` lists them: node, fate, and the words of its reason.
fn rescue(cluster: &Cluster, options: &[&str]) -> (i32, Vec<(String, String, String)>) {
    let said = cluster.grid(&[&["-o", "json", "rescue"], options].concat());
    let reply: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    let copies = reply["ok"]["copies"].as_array().unwrap_or_else(|| panic!("{said:?}")).clone();
    let text = |c: &serde_json::Value, key: &str| c[key].as_str().unwrap().to_owned();
    (said.code, copies.iter().map(|c| (text(c, "node"), text(c, "fate"), text(c, "why"))).collect())
}

fn is_held(pid: i32) -> bool {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    groups.contains("/hold/") || groups.contains("grid-hold-")
}

fn ends_right(guest: &Guest, args: &str) {
    let (last, want) = (guest.wait_done(), undisturbed(args));
    assert_eq!((last.count, last.digest), (want.count, want.digest), "{}", guest.process.stderr().unwrap());
}

/// In the middle of a dump everything is killed; then it is thawed, and the cluster that comes up knows.
fn before_the_commit(mut cluster: Cluster, words: &[&str]) {
    let guest = Guest::reporting(&cluster, "prover", LARGE);
    cluster.boost(BOOST);
    let (view, mut command) = cluster.begin_move(guest.pid());
    cluster.kill_everything();
    command.wait().unwrap();
    assert!(is_held(guest.pid()), "it was hit in the middle");
    let (code, would) = rescue(&cluster, &["--dry-run"]);
    assert!(code == 0 && would.len() == 1 && is_held(guest.pid()), "a dry run changes nothing: {would:?}");
    let (code, did) = rescue(&cluster, &[]);
    // Its CRIU ended with the agent, before anything was frozen: it runs, and that is what is said of it.
    assert_eq!((code, did[0].0.as_str(), did[0].1.as_str()), (0, "head", "put_back"), "{did:?}");
    assert!(did[0].2.contains("not committed"), "{did:?}");
    assert!(!is_held(guest.pid()), "back in its own group");
    guest.goes_on();
    assert_eq!(rescue(&cluster, &[]), (0, vec![]), "nothing is left to do");
    cluster.up_again(words);
    cluster.wait_phase(view.record.id.as_str(), OffloadPhase::Failed);
    // And it can go, once all is well again.
    cluster.wait_ready();
    cluster.move_out(guest.pid());
    ends_right(&guest, LARGE);
}

#[test]
fn what_was_not_committed_runs_on_without_any_agent() {
    let Some(cluster) = Cluster::start(1) else { return };
    before_the_commit(cluster, &["--local", "1"]);
}

#[test]
fn what_v2_holds_is_found_and_thawed_as_well() {
    let Some(cluster) = Cluster::frozen_by_v2(1) else { return };
    before_the_commit(cluster, &["--local", "1"]);
}

#[test]
fn what_was_frozen_and_not_committed_is_thawed() {
    let Some(mut cluster) = Cluster::faulty(CONFIG) else { return };
    let guest = Guest::reporting(&cluster, "prover", PROGRAM);
    cluster.boost(BOOST);
    let armed = cluster.arm("head", FaultPoint::PersistFrozen, Effect::Hang);
    let mut command = cluster.begin(&["offload", "execute", &guest.pid().to_string()]);
    cluster.wait("the freeze", || armed.is_hit());
    cluster.kill_everything();
    drop(armed);
    command.wait().unwrap();
    let (code, did) = rescue(&cluster, &[]);
    let home = did.iter().find(|c| c.0 == "head").unwrap();
    assert!(code == 0 && home.1 == "thawed" && home.2.contains("not committed"), "{did:?}");
    guest.goes_on();
    ends_right(&guest, PROGRAM);
    cluster.up_again(&["--config", &config(&cluster)]);
}

/// Killed when `Committed` is written and `Go` is about to be said.
fn committed(cluster: &mut Cluster) -> (Guest, String) {
    let guest = Guest::reporting(cluster, "prover", PROGRAM);
    cluster.boost(BOOST);
    let armed = cluster.arm("head", FaultPoint::SendGo, Effect::Hang);
    let mut command = cluster.begin(&["offload", "execute", &guest.pid().to_string()]);
    cluster.wait("the commit", || armed.is_hit());
    let id = cluster.offloads()[0].record.id.to_string();
    cluster.kill_everything();
    command.wait().unwrap();
    (guest, id)
}

fn config(cluster: &Cluster) -> String {
    cluster.dir().join("cluster.yaml").to_string_lossy().into_owned()
}

#[test]
fn what_was_committed_stays_held_until_a_person_accepts_repeated_work() {
    let Some(mut cluster) = Cluster::faulty(CONFIG) else { return };
    let (guest, id) = committed(&mut cluster);
    let (code, held) = rescue(&cluster, &[]);
    let home = held.iter().find(|c| c.0 == "head").unwrap();
    assert_eq!((code, home.1.as_str()), (HELD, "held"), "{held:?}");
    assert!(home.2.contains("past its commit") && is_held(guest.pid()), "{held:?}");
    let (code, did) = rescue(&cluster, &["--accept-repeat", &format!("{id}.1")]);
    assert!(code == 0 && did.iter().any(|c| c.1 == "thawed" && c.2.contains("accepted")), "{did:?}");
    guest.goes_on();
    // The agents that come up heed what was written: the other copy, if it is there, is never let run.
    cluster.up_again(&["--config", &config(&cluster)]);
    cluster.wait_phase(&id, OffloadPhase::Failed);
    ends_right(&guest, PROGRAM);
}

#[test]
fn what_was_committed_is_decided_by_the_agents_when_they_are_back() {
    let Some(mut cluster) = Cluster::faulty(CONFIG) else { return };
    let (guest, id) = committed(&mut cluster);
    let (code, held) = rescue(&cluster, &[]);
    assert_eq!(code, HELD, "{held:?}");
    cluster.up_again(&["--config", &config(&cluster)]);
    // The worker was killed with the staged copy: its ledger proves that it never ran.
    cluster.wait_phase(&id, OffloadPhase::Failed);
    guest.goes_on();
    ends_right(&guest, PROGRAM);
}

#[test]
fn with_an_unreadable_ledger_nothing_is_thawed_unasked() {
    let Some(mut cluster) = Cluster::start(1) else { return };
    let guest = Guest::reporting(&cluster, "prover", LARGE);
    cluster.boost(BOOST);
    let (view, mut command) = cluster.begin_move(guest.pid());
    cluster.kill_everything();
    command.wait().unwrap();
    let dir = cluster.state().join("nodes/head");
    for name in ["ledger.db-wal", "ledger.db-shm"] {
        let _ = std::fs::remove_file(dir.join(name));
    }
    std::fs::write(dir.join("ledger.db"), "not a database, but long enough to be read as one").unwrap();
    let (code, held) = rescue(&cluster, &[]);
    assert_eq!((code, held[0].1.as_str()), (HELD, "runs"), "{held:?}");
    assert!(held[0].2.contains("cannot be read") && is_held(guest.pid()), "{held:?}");
    let attempt = format!("{}.1", view.record.id);
    let (code, did) = rescue(&cluster, &["--accept-repeat", &attempt]);
    assert_eq!((code, did[0].1.as_str()), (0, "put_back"), "{did:?}");
    guest.goes_on();
    std::fs::remove_file(dir.join("ledger.db")).unwrap();
    cluster.up_again(&["--local", "1"]);
    ends_right(&guest, LARGE);
}

#[test]
fn what_a_running_agent_owns_is_left_to_it() {
    let Some(cluster) = Cluster::start(1) else { return };
    let guest = Guest::reporting(&cluster, "prover", LARGE);
    cluster.boost(BOOST);
    let (view, mut command) = cluster.begin_move(guest.pid());
    let (code, left) = rescue(&cluster, &[]);
    assert!(code == 0 && left.iter().all(|c| c.1 == "left"), "{left:?}");
    command.wait().unwrap();
    cluster.wait_phase(view.record.id.as_str(), OffloadPhase::Away);
    ends_right(&guest, LARGE);
    let said = cluster.grid_as_user(&["rescue"]);
    assert!(said.code == 6 && said.err.contains("only root"), "{said:?}");
}
