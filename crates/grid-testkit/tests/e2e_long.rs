//! Many moves of one program, back and forth: nothing is lost, nothing is done twice, and the daemons and the shadow are
//! as they were. `make test-long` runs them.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest};
use grid_types::api::OffloadView;
use grid_types::event::OffloadPhase;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;

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
    // A timer stays until it fires, some seconds after what it guarded is over.
    let timer = |link: std::path::PathBuf| link.to_string_lossy().contains("timerfd");
    let fds = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).unwrap().flatten();
    let descriptors = fds.filter(|e| !std::fs::read_link(e.path()).is_ok_and(timer)).count();
    Holds { who, descriptors, threads: field("Threads:"), anonymous_kib: field("RssAnon:") }
}

fn everybody(cluster: &Cluster, shadow: i32) -> Vec<Holds> {
    let agents = [("head's agent", cluster.agent_pid("head")), ("gpu1's agent", cluster.agent_pid("gpu1"))];
    let others = [("daemon", cluster.daemon_pid()), ("shadow", shadow)];
    agents.into_iter().chain(others).map(|(who, pid)| holds(who, pid)).collect()
}

/// One move out or home; its downtime in milliseconds.
fn hop(cluster: &Cluster, words: [&str; 3], phase: OffloadPhase) -> (OffloadView, u64) {
    let view: OffloadView = cluster.ask(&words);
    assert_eq!(view.record.phase, phase, "{view:?}");
    let figures = view.record.figures.clone().unwrap();
    (view, figures.downtime.unwrap().0)
}

/// Moves a prover of so much memory that often, by the number that it always had at home.
fn back_and_forth(memory: &str, moves: usize, warm_up: usize) {
    let Some(cluster) = Cluster::start(1) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 2h");
    let guest = Guest::reporting(&cluster, "prover", &format!("--memory {memory} --steps 100000000"));
    let pid = guest.pid();
    let (mut took, mut before) = (Vec::new(), None);
    while took.len() < moves {
        if took.len() == warm_up {
            before = Some((everybody(&cluster, pid), cluster.namespaces()));
        }
        let (away, out) = hop(&cluster, ["offload", "execute", &pid.to_string()], OffloadPhase::Away);
        let (_, back) = hop(&cluster, ["offload", "recall", away.record.id.as_str()], OffloadPhase::Home);
        took.extend([out, back]);
    }
    guest.goes_on();
    guest.never_went_back();
    let (before, after) = (before.unwrap(), (everybody(&cluster, pid), cluster.namespaces()));
    let (first, last) = (&took[..moves / 5], &took[moves * 4 / 5..]);
    println!("{memory}: downtime p50 of the first fifth {} ms, of the last {} ms", at(first, 50), at(last, 50));
    println!("{moves} moves: p50 {} ms, p90 {} ms, p99 {} ms", at(&took, 50), at(&took, 90), at(&took, 99));
    for (old, new) in before.0.iter().zip(&after.0) {
        println!("{}: {old:?} -> {new:?}", new.who);
        assert!(new.descriptors <= old.descriptors + 2, "{old:?} {new:?}");
        assert!(new.threads <= old.threads + 2, "{old:?} {new:?}");
        assert!(new.anonymous_kib <= old.anonymous_kib + 8 * 1024, "{old:?} {new:?}");
    }
    assert_eq!(before.1, after.1, "namespaces of the cluster's");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// The value below which this share of them lies, in percent.
fn at(took: &[u64], share: usize) -> u64 {
    let mut sorted = took.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() * share / 100]
}

#[test]
#[ignore = "minutes: make test-long"]
fn a_thousand_moves_back_and_forth_lose_repeat_and_leak_nothing() {
    back_and_forth("16MiB", 1000, 40);
}

#[test]
#[ignore = "a minute: make test-long"]
fn fifty_moves_of_256_mib_lose_repeat_and_leak_nothing() {
    back_and_forth("256MiB", 50, 10);
}
