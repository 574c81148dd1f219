//! A lender's machine goes to sleep: its guests stand still before it does, and run again when their home has confirmed them.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

#[allow(dead_code)] // each file of tests uses a part of it
mod shadow;

use grid_testkit::cluster::{Cluster, Guest, LIMIT};
use grid_testkit::lab::Lab;
use grid_types::event::OffloadPhase;
use grid_types::exit::FaultClass;
use grid_types::reason::ReasonCode;
use nix::sys::signal::Signal;
use serde_json::Value;
use shadow::{Job, send};
use std::process::Command;
use std::time::Duration;

const CHILD: &str = "/usr/bin/python3 prog.py
told $?";
/// Longer than a step of any of these programs.
const WHILE: Duration = Duration::from_millis(300);

fn lend(cluster: &Cluster, word: &str) -> String {
    let said = cluster.grid(&["lend", word]);
    assert_eq!(said.code, 0, "grid lend {word}: {said:?}\n{}", cluster.logs());
    println!("{}", said.out);
    said.out
}

fn answer(cluster: &Cluster) -> Value {
    cluster.ask::<Vec<Value>>(&["lend", "status"])[0]["answer"].clone()
}

#[test]
fn its_guests_stand_still_nothing_comes_and_they_run_again_when_it_is_awake() {
    let Some(job) = Job::start(CHILD) else { return };
    let cluster = &job.cluster;
    let (_, out) = job.move_meant();
    job.goes_on();
    let dry = cluster.grid(&["lend", "sleep", "--dry-run"]);
    assert!(dry.code == 0 && dry.out.contains("1 guest would stand still"), "{dry:?}");
    job.goes_on();

    let said = lend(cluster, "sleep");
    assert!(said.starts_with("gpu1: 1 guest stands still") && said.contains("grid lend wake"), "{said}");
    let stands = || job.rests(WHILE, || job.says().0);
    let at = stands();
    let (code, error) = cluster.refused(&["boost", "request", "head", "--cpu", "1", "--memory", "64MiB"]);
    assert_eq!(code, i32::from(FaultClass::NoCapacity.code()));
    assert!(error.details.concat().contains("its machine goes to sleep"), "{error:?}");
    let (_, error) = cluster.refused(&["offload", "recall", out.record.id.as_str()]);
    assert!(error.code == Some(ReasonCode::Silent) && error.message.contains("slept"), "{error:?}");
    // What its owner says of lending meanwhile wakes nobody.
    lend(cluster, "off");
    lend(cluster, "on");
    // Nor does an agent that is started anew.
    send(cluster.agent_pid("gpu1"), Signal::SIGKILL);
    cluster.wait_heard();
    assert_eq!(stands(), at);

    // It sleeps for so long that its head misses it.
    cluster.set_asleep("gpu1", true);
    cluster.wait("the head to miss it", || {
        let out = cluster.grid(&["status"]).out;
        if out.lines().any(|l| l.starts_with("gpu1") && l.contains("silent")) { Ok(()) } else { Err(out) }
    });
    cluster.set_asleep("gpu1", false);
    cluster.wait_heard();
    assert_eq!(stands(), at);
    assert!(answer(cluster)["asleep"] == true && cluster.grid(&["lend", "status"]).out.contains("goes to sleep"));
    let said = lend(cluster, "wake");
    assert!(said.contains("1 guest runs again"), "{said}");
    job.goes_on();
    assert_eq!(answer(cluster)["standing"], 0);
    cluster.bring_home(out.record.id.as_str());
    job.go(3);
    assert_eq!(job.status(), "3");
}

#[test]
fn awake_without_its_head_it_lets_nobody_run_and_an_agent_that_is_killed_changes_nothing() {
    let Some(job) = Job::start(CHILD) else { return };
    let cluster = &job.cluster;
    job.move_meant();
    job.goes_on();
    cluster.set_link(false);
    lend(cluster, "sleep");
    let stands = || job.rests(WHILE, || job.says().0);
    let at = stands();
    lend(cluster, "wake");
    assert_eq!(stands(), at);
    send(cluster.agent_pid("gpu1"), Signal::SIGKILL);
    cluster.wait("another agent", || {
        let seen = answer(cluster);
        let waits = seen["standing"] == 1 && seen["head"] == false && seen["asleep"] == false;
        if waits { Ok(()) } else { Err(seen) }
    });
    assert_eq!(stands(), at);
    assert!(cluster.grid(&["lend", "status"]).out.contains("until the head has confirmed"));
    cluster.set_link(true);
    job.goes_on();
    job.go(3);
    assert_eq!(job.status(), "3");
}

/// Its shadow was killed meanwhile, and whoever did that may have started the work again.
#[test]
fn who_is_not_wanted_any_more_does_not_run_another_step_when_its_machine_wakes() {
    let Some(cluster) = Cluster::start(1) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let guest = Guest::reporting(&cluster, "prover", "--memory 16MiB --steps 1000000");
    let out = cluster.move_out(guest.pid());
    guest.goes_on();
    lend(&cluster, "sleep");
    let at = guest.count();
    cluster.set_link(false);
    lend(&cluster, "wake");
    send(guest.pid(), Signal::SIGKILL);
    guest.process.wait_gone(LIMIT).unwrap();
    cluster.set_link(true);
    cluster.wait("it to end there", || {
        let seen = answer(&cluster);
        if seen["leases"][0]["guests"].as_array().is_none_or(Vec::is_empty) { Ok(()) } else { Err(seen) }
    });
    assert_eq!(guest.count(), at);
    cluster.wait_phase(out.record.id.as_str(), OffloadPhase::Ended);
    assert_eq!(answer(&cluster)["standing"], 0);
}

/// Who waits for home's files keeps a kernel from sleeping; frozen between two requests nobody waits.
#[test]
fn who_reads_and_writes_home_s_files_all_the_time_stands_still_too() {
    let lab = Lab::start();
    let Some(cluster) = Cluster::configured(&lab.config("home")) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let busy =
        "import os\nf = open('log', 'a')\nfor n in range(10**9):\n    print(n, file=f, flush=True)\n    os.stat('.')";
    let guest = Guest::python(&cluster, busy);
    let lines = || guest.numbered("log");
    guest.wait_text("log", |text| text.lines().count() > 10);
    cluster.move_out(guest.pid());
    let on = |from: usize| guest.wait_text("log", move |text| text.lines().count() > from + 50);
    on(lines());
    let say = |word: &str| {
        let mut command = Command::new(cluster.program());
        let out = command.arg("--state").arg(lab.workers()).args(["lend", word]).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && !text.contains("NOT DONE"), "{out:?}\n{}", cluster.logs());
    };
    say("sleep");
    let at = lines();
    std::thread::sleep(WHILE);
    assert_eq!(lines(), at);
    say("wake");
    on(at);
}
