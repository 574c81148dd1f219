//! A thousand moves of one program, back and forth: nothing is lost, nothing is done twice, and the daemons are as they
//! were. `make test-long` runs it.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest};
use grid_types::api::OffloadView;
use grid_types::event::OffloadPhase;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;

/// Before what the daemons hold is noted: their caches are filled.
const WARM_UP: usize = 40;
const MOVES: usize = 1000;

/// What a process holds.
#[derive(Debug)]
struct Holds {
    who: &'static str,
    descriptors: usize,
    threads: u64,
    anonymous_kib: u64,
}

fn holds(who: &'static str, pid: i32) -> Holds {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let descriptors = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).unwrap().count();
    Holds { who, descriptors, threads: field("Threads:"), anonymous_kib: field("RssAnon:") }
}

fn daemons(cluster: &Cluster) -> Vec<Holds> {
    let agents = [("head's agent", cluster.agent_pid("head")), ("gpu1's agent", cluster.agent_pid("gpu1"))];
    agents.into_iter().chain([("daemon", cluster.daemon_pid())]).map(|(who, pid)| holds(who, pid)).collect()
}

/// One move out or home; its downtime in milliseconds.
fn hop(cluster: &Cluster, words: [&str; 3], phase: OffloadPhase) -> (OffloadView, u64) {
    let view: OffloadView = cluster.ask(&words);
    assert_eq!(view.record.phase, phase, "{view:?}");
    let figures = view.record.figures.clone().unwrap();
    (view, figures.downtime.unwrap().0)
}

#[test]
#[ignore = "minutes: make test-long"]
fn a_thousand_moves_back_and_forth_lose_repeat_and_leak_nothing() {
    let Some(cluster) = Cluster::start(1) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 2h");
    let guest = Guest::reporting(&cluster, "prover", "--memory 16MiB --steps 100000000");
    let (mut pid, mut took, mut before) = (guest.pid(), Vec::new(), None);
    while took.len() < MOVES {
        if took.len() == WARM_UP {
            before = Some((daemons(&cluster), cluster.namespaces()));
        }
        let (away, out) = hop(&cluster, ["offload", "execute", &pid.to_string()], OffloadPhase::Away);
        let (home, back) = hop(&cluster, ["offload", "recall", away.record.id.as_str()], OffloadPhase::Home);
        pid = home.record.home_pid.unwrap();
        took.extend([out, back]);
    }
    guest.goes_on();
    guest.never_went_back();
    let (before, after) = (before.unwrap(), (daemons(&cluster), cluster.namespaces()));
    took.sort_unstable();
    let at = |share: usize| took[took.len() * share / 100];
    println!("{} moves: downtime p50 {} ms, p90 {} ms, p99 {} ms", took.len(), at(50), at(90), at(99));
    for (old, new) in before.0.iter().zip(&after.0) {
        println!("{}: {old:?} -> {new:?}", new.who);
        assert!(new.descriptors <= old.descriptors + 2, "{old:?} {new:?}");
        assert!(new.threads <= old.threads + 2, "{old:?} {new:?}");
        assert!(new.anonymous_kib <= old.anonymous_kib + 8 * 1024, "{old:?} {new:?}");
    }
    assert_eq!(before.1, after.1, "namespaces of the cluster's");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}
