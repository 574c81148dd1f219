//! Onto a disk and back: what is parked holds no memory, and runs on from where it stood, as if nothing had been.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

#[allow(dead_code)] // each file of tests uses a part of it
mod shadow;

use grid_types::api::OffloadView;
use grid_types::event::OffloadPhase;
use shadow::Job;
use std::path::PathBuf;

const STREAM: &str = "/usr/bin/python3 lines.py 300 0.01 | (meant; exec /usr/bin/python3 seen.py) >out
told ${PIPESTATUS[@]}";

/// Parks who is meant, from home, and waits for its shadow.
fn park(job: &Job, on: &str) -> (i32, OffloadView) {
    let pid = job.meant();
    let view: OffloadView = job.cluster.ask(&["offload", "park", &pid.to_string(), "--on", on]);
    assert_eq!((view.record.phase, view.record.destination.as_str()), (OffloadPhase::Parked, on), "{view:?}");
    job.wait_title(pid, &format!("parked @{on}"));
    (pid, view)
}

fn unpark(job: &Job, id: &str, words: &[&str]) -> OffloadView {
    job.cluster.ask(&[&["offload", "unpark", id], words].concat())
}

/// Files of parked copies on this node.
fn copies_on(job: &Job, node: &str) -> Vec<PathBuf> {
    let dir = job.cluster.state().join("nodes").join(node).join("parked");
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect()
}

#[test]
fn a_stream_is_whole_over_a_workers_disk() {
    let Some(job) = Job::start(STREAM) else { return };
    job.flows(20);
    let (pid, parked) = park(&job, "gpu1");
    assert_eq!(job.copies("seen.py"), Vec::<i32>::new(), "nothing of it runs");
    assert_eq!(copies_on(&job, "gpu1").len(), 1);
    let status = job.cluster.grid(&["status"]).out;
    assert!(status.contains("PARKED") && status.contains(&format!("grid offload unpark {pid}")), "{status}");
    let lines = job.rests(std::time::Duration::from_secs(1), || job.lines());
    let home = unpark(&job, &pid.to_string(), &[]);
    assert_eq!(home.record.phase, OffloadPhase::Home, "{home:?}");
    job.wait_title(pid, "@head");
    job.flows(20);
    assert!(job.lines() > lines);
    assert_eq!(copies_on(&job, "gpu1"), Vec::<PathBuf>::new());
    assert_eq!(home.record.id, parked.record.id);
    assert_eq!(job.status(), "0 5");
    job.all_came(300);
}
