//! Starting and stopping: what is away is never ended unasked, and state that cannot be read is left as it is.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest, undisturbed};
use grid_testkit::procs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::Connection;
use std::path::Path;

const PROVER: &str = "--memory 32MiB --steps 5000";

#[test]
fn down_refuses_while_something_is_away_and_recalls_it_first_if_asked() {
    let Some(cluster) = Cluster::start(1) else { return };
    let guest = Guest::reporting(&cluster, "prover", PROVER);
    cluster.boost("--cpu 1 --memory 1GiB --duration 2m");
    let moved = cluster.move_out(guest.pid());
    let said = cluster.grid(&["down"]);
    assert_eq!(said.code, 12, "{said:?}");
    assert!(said.err.contains(&guest.pid().to_string()) && said.err.contains("--recall-first"), "{said:?}");
    let would = cluster.grid(&["down", "--dry-run"]);
    assert_eq!((would.code, would.err), (said.code, said.err), "a dry run is refused as the act is");
    let would = cluster.grid(&["down", "--recall-first", "--dry-run"]);
    assert!(would.code == 0 && would.out.contains("would come home first"), "{would:?}");
    assert_eq!(cluster.grid(&["up", "--local", "1", "--dry-run"]).code, 12, "it is up");
    guest.goes_on();
    let still = cluster.status().unwrap();
    assert_eq!(still.away.first().map(|o| &o.record.id), Some(&moved.record.id));

    let said = cluster.grid(&["down", "--recall-first"]);
    assert!(said.code == 0 && said.out.contains("is home"), "{said:?}");
    assert!(cluster.status().is_err());
    // It lives on without any cluster, and ends as it should.
    assert_eq!(guest.wait_done().digest, undisturbed(PROVER).digest);
}

#[test]
fn a_detached_cluster_that_is_told_to_end_brings_everything_home() {
    let Some(cluster) = Cluster::start(1) else { return };
    assert_eq!(cluster.grid(&["down"]).code, 0);
    let said = cluster.grid(&["up", "--local", "1", "--detach"]);
    assert!(said.code == 0 && said.out.contains("grid down"), "{said:?}");
    assert_eq!(cluster.grid(&["down"]).code, 0);
    // `grid up --detach | head -0`: nobody reads, and all the same it comes up.
    let said = cluster.grid_unread(&["up", "--local", "1", "--detach"]);
    assert!(said.code == 0 && said.err.is_empty() && cluster.status().is_ok(), "{said:?}");
    let said = cluster.grid(&["up", "--local", "1", "--detach"]);
    assert_eq!(said.code, 12, "one at a time: {said:?}");
    let guest = Guest::reporting(&cluster, "prover", PROVER);
    cluster.boost("--cpu 1 --memory 1GiB --duration 2m");
    cluster.move_out(guest.pid());

    let text = std::fs::read_to_string(cluster.state().join("up.pid")).unwrap();
    let supervisor: i32 = text.split(' ').next().unwrap().parse().unwrap();
    kill(Pid::from_raw(supervisor), Signal::SIGTERM).unwrap();
    cluster.wait("the supervisor to end", || match procs::start_ticks(supervisor) {
        Some(_) if cluster.state().join("up.pid").exists() => Err("it is there"),
        _ => Ok(()),
    });
    assert_eq!(guest.wait_done().digest, undisturbed(PROVER).digest);
    assert_eq!(cluster.left_behind().to_string(), "");
}

/// The supervisor brings home what it can before it ends; who gives up what cannot come is not kept waiting for it.
#[test]
fn an_end_that_waits_for_a_recall_that_hangs_can_still_be_forced() {
    let Some(cluster) = Cluster::start(1) else { return };
    let guest = Guest::reporting(&cluster, "prover", "--memory 512MiB --steps 100000");
    cluster.boost("--cpu 1 --memory 2GiB --duration 5m");
    let moved = cluster.move_out(guest.pid());
    let mut recall = cluster.begin(&["offload", "recall", moved.record.id.as_str()]);
    cluster.wait("CRIU to dump on the lender", || cluster.criu_runs_on("gpu1"));
    kill(Pid::from_raw(cluster.agent_pid("gpu1")), Signal::SIGSTOP).unwrap();

    let (told, up) = (cluster.state().join("down"), cluster.state().join("up.pid"));
    let supervisor: i32 = std::fs::read_to_string(&up).unwrap().split(' ').next().unwrap().parse().unwrap();
    std::fs::write(&told, "recall").unwrap();
    kill(Pid::from_raw(supervisor), Signal::SIGTERM).unwrap();
    cluster.wait("the supervisor to begin", || {
        if told.exists() { Err("it has not read what it was told") } else { Ok(()) }
    });
    let said = cluster.grid(&["down", "--yes"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!up.exists());
    recall.wait().unwrap();
}

fn garbage(path: &Path) {
    std::fs::write(path, "this is no database, however long one reads; ".repeat(100)).unwrap();
}

fn newer(path: &Path) {
    Connection::open(path).unwrap().pragma_update(None, "user_version", 99).unwrap();
}

#[test]
fn state_that_is_corrupt_or_newer_is_refused_and_left_as_it_is() {
    let Some(mut cluster) = Cluster::start(1) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 2m");
    assert_eq!(cluster.grid(&["down"]).code, 0);
    let files = ["head/journal.db", "nodes/head/ledger.db", "nodes/gpu1/ledger.db"];
    for (spoil, word) in [(garbage as fn(&Path), "not a database"), (newer, "schema 99")] {
        for name in files {
            let path = cluster.state().join(name);
            // What is in its log goes into the file; then there is one file to keep.
            drop(Connection::open(&path).unwrap().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
            let sound = std::fs::read(&path).unwrap();
            spoil(&path);
            let spoilt = std::fs::read(&path).unwrap();
            assert_ne!(sound, spoilt);
            let said = cluster.grid(&["up", "--local", "1"]);
            assert_eq!(said.code, 10, "{name}: {said:?}\n{}", cluster.logs());
            assert!(said.err.contains("ledger.db") || said.err.contains("journal.db"), "{name}: {said:?}");
            assert!(said.err.contains(word), "{name}: {said:?}");
            assert_eq!(std::fs::read(&path).unwrap(), spoilt, "{name} was changed");
            std::fs::write(&path, sound).unwrap();
        }
    }
    // Nothing else was harmed: with its files as they were it comes up and knows its past.
    cluster.up_again(&["--local", "1"]);
    assert!(!cluster.events().is_empty());
}
