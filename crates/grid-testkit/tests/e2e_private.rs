//! `grid run --private`: namespaces of its own with an init that reaps, and a `/tmp` and a `/dev/shm` that nobody else sees and
//! that go wherever the command goes.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest, private_folder};
use grid_testkit::procs;
use grid_types::event::OffloadPhase;
use grid_types::exit::FaultClass;
use grid_types::fault::{Effect, FaultPoint};
use std::fs;
use std::path::Path;

const JOB: &str = "/usr/bin/python3 job.py";
const NODES: &str = "
name: private
nodes:
  - {name: head, role: head, resource_sharing: {can_share: false}}
  - {name: gpu1, role: worker, resource_sharing: {can_share: true, max_share_cpu: 8, max_share_memory_gb: 4}}
";

#[test]
fn its_files_go_out_onward_onto_a_disk_and_home() {
    let Some(cluster) = Cluster::start(2) else { return };
    let guest = Guest::private(&cluster, "", JOB);
    let pid = guest.meant();
    assert_eq!(guest.wait_text("saw", |text| !text.is_empty()), "([], [], 'grid-tree-init', 65534)");
    guest.counts_on();
    assert!(procs::is_shadow(pid) && !Path::new("/tmp/second").exists() && !Path::new("/dev/shm/shared").exists());
    let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(title.starts_with("grid-shadow: python3 job.py @head"), "{title}");
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m --from gpu1");
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m --from gpu2");
    let out = cluster.move_out(pid);
    guest.counts_on();
    let id = out.record.id.as_str();
    let other = if out.record.destination.as_str() == "gpu1" { "gpu2" } else { "gpu1" };
    cluster.ask::<serde_json::Value>(&["offload", "recall", id, "--to", other]);
    guest.counts_on();
    cluster.ask::<serde_json::Value>(&["offload", "park", id]);
    cluster.ask::<serde_json::Value>(&["offload", "unpark", id]);
    cluster.wait_phase(id, OffloadPhase::Home);
    guest.counts_on();
    guest.private_ends();
}

#[test]
fn with_a_boost_it_is_moved_there_at_once() {
    let Some(cluster) = Cluster::start(1) else { return };
    let boost = cluster.boost("--cpu 1 --memory 1GiB --duration 5m").boost.id.to_string();
    let guest = Guest::private(&cluster, &format!("--boost {boost}"), JOB);
    guest.counts_on();
    let away = || cluster.offloads().into_iter().find(|o| o.record.phase == OffloadPhase::Away).ok_or("not away");
    cluster.wait("its move", away);
    guest.counts_on();
    guest.private_ends();
}

/// What it keeps there is memory: it counts where it is to fit.
#[test]
fn what_it_keeps_there_has_to_fit() {
    let Some(cluster) = Cluster::start(1) else { return };
    cluster.boost("--cpu 1 --memory 256MiB --duration 5m");
    let fill =
        "head -c 300M /dev/zero >/dev/shm/fill; echo filled >filled; while ! [ -e go ]; do read -t 0.05; done; exit 7";
    let guest = Guest::private(&cluster, "", &format!("/bin/bash -c '{fill}'"));
    let pid = guest.meant();
    guest.wait_text("filled", |text| text == "filled\n");
    let (_, error) = cluster.refused(&["offload", "execute", &pid.to_string()]);
    assert!(error.class == FaultClass::NoCapacity && error.message.contains("needs "), "{error:?}");
    guest.private_ends();
}

#[test]
fn what_would_be_hidden_is_refused_and_nothing_is_started() {
    let Some(cluster) = Cluster::start(1) else { return };
    let dir = private_folder(&cluster).unwrap();
    let (grid, state) = (dir.join("grid"), cluster.state().display().to_string());
    let run = |state: &str, before: &str, command: &str| {
        let script = format!("{before}; exec {} --state {state} run --private -- {command}", grid.display());
        let said = std::process::Command::new("/bin/sh").args(["-c", &script]).current_dir(&*dir).output().unwrap();
        (said.status.code(), String::from_utf8(said.stderr).unwrap())
    };
    let touch = format!("touch {}/started", dir.display());
    for (before, command, what) in [
        ("cd /tmp", touch.as_str(), "the working directory is /tmp"),
        ("exec >/tmp/grid-test-out", touch.as_str(), "descriptor 1 is /tmp/grid-test-out"),
        ("true", "/tmp/some/program", "the command is /tmp/some/program"),
    ] {
        let (code, said) = run(&state, before, command);
        assert!(code == Some(125) && said.contains(what) && said.contains("Nothing was started"), "{code:?} {said}");
    }
    fs::remove_file("/tmp/grid-test-out").unwrap();
    let (code, said) = run("/var/tmp/no-such-state", "true", &touch);
    assert!(code == Some(125) && said.contains("it cannot have a /tmp of its own"), "{code:?} {said}");
    // Root's processes stay at home, and this is a move.
    let (code, said) = run(&state, "true", &touch);
    assert!(code == Some(125) && said.contains("E-ROOT"), "{code:?} {said}");
    assert!(!dir.join("started").exists());
    assert_eq!(cluster.offloads(), []);
}

#[test]
fn where_it_cannot_be_made_nothing_is_started() {
    let Some(cluster) = Cluster::faulty(NODES) else { return };
    for (point, code) in [(FaultPoint::AwaitReady, "125 "), (FaultPoint::StartRestore, "137 ")] {
        let armed = cluster.arm("head", point, Effect::Fail);
        let guest = Guest::private(&cluster, "", JOB);
        let said = guest.status();
        armed.is_hit().unwrap();
        assert!(said.starts_with(code) && said.contains("it cannot have a /tmp of its own"), "{said}");
        assert_eq!(guest.read("saw"), "");
    }
    let kept = fs::read_dir(cluster.state().join("nodes/head/parked")).into_iter().flatten().count();
    assert_eq!(kept, 0, "what waited on the disk is given up");
}

/// Its terminal would be silent for as long as the daemon is, and whoever gives up knows why it did not start.
#[test]
fn while_it_waits_long_it_says_so_and_an_end_meanwhile_needs_no_word() {
    let Some(cluster) = Cluster::faulty(NODES) else { return };
    let armed = cluster.arm("head", FaultPoint::AwaitReady, Effect::Hang);
    let guest = Guest::private(&cluster, "", JOB);
    let pid = guest.meant();
    let said = || guest.process.stderr().unwrap_or_default();
    cluster.wait("a word", || if said().contains("not started yet") { Ok(()) } else { Err(said()) });
    armed.is_hit().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
    drop(armed);
    assert!(guest.status().starts_with("143 "), "{}", guest.status());
    let helper = |pid: &i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        words.contains("run-helper") && words.contains(&*cluster.state().to_string_lossy())
    };
    cluster.wait("its helper to leave", || match procs::all().iter().find(|pid| helper(pid)) {
        None => Ok(()),
        some => Err(some.copied()),
    });
    assert_eq!(said().matches("grid run:").count(), 1, "{}", said());
    assert_eq!(guest.read("saw"), "");
}
