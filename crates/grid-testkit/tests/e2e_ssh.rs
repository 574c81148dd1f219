//! Workers reached by a real ssh: in a network of their own, with a real sshd; the disk is shared. What is moved there uses
//! pipes, so that its bytes cross the channel.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_os::cgroup::{Controller, Hierarchies};
use grid_testkit::cluster::{Cluster, Guest, LIMIT, undisturbed};
use grid_testkit::lab::Lab;
use grid_testkit::procs::{self, program};
use grid_types::event::OffloadPhase;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

#[test]
fn a_process_moves_over_ssh_and_home_and_to_its_end() {
    let lab = Lab::start();
    let Some(cluster) = Cluster::configured(&lab.config("same")) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 2m");
    let args = "--memory 64MiB --steps 6000";
    let guest = Guest::reporting(&cluster, "prover", args);
    let out = cluster.move_out(guest.pid());
    guest.goes_on();
    cluster.bring_home(out.record.id.as_str());
    guest.goes_on();
    let again = cluster.move_out(guest.pid());
    let last = guest.wait_done();
    assert_eq!(last.digest, undisturbed(args).digest);
    cluster.wait_phase(again.record.id.as_str(), OffloadPhase::Ended);
    guest.process.wait_gone(LIMIT).unwrap();
}

#[test]
fn ssh_breaks_while_a_process_is_away_and_its_output_is_whole() {
    let lab = Lab::start();
    let Some(cluster) = Cluster::configured(&lab.config("same")) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let (guest, pid) = Guest::counting(&cluster);
    let out = cluster.move_out(pid);
    guest.writes_on();

    assert!(lab.drop_connections() > 0);
    cluster.wait("ssh to be there again", || {
        let text = std::fs::read_to_string(cluster.state().join("log/reach-gpu1.log")).unwrap_or_default();
        if text.matches("is reached at").count() > 1 { Ok(()) } else { Err(text) }
    });
    guest.writes_on();
    // Whoever keeps ssh is killed, and both ends of the channel. The worker's daemons are started anew where ssh is dialled
    // again, so that they may be gone for a moment.
    let there = |word: &str| cluster.wait("the worker's daemons", || lab.daemon(word).ok_or("none"));
    let of_head = |word: &str| {
        let name = cluster.state().join("conf").join(word).display().to_string();
        let is_it =
            |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|w| w.contains(&name));
        procs::all().into_iter().filter(is_it).min().unwrap()
    };
    cluster.kill9(of_head("reach-gpu1.json"));
    cluster.kill9(of_head("channel.json"));
    cluster.kill9(there("channel"));
    guest.writes_on();
    // The worker's agent, and its supervisor with it: the process is nobody's child there.
    cluster.kill9(there("agent"));
    guest.writes_on();
    cluster.wait_heard();
    cluster.bring_home(out.record.id.as_str());
    guest.writes_on();
}

#[test]
fn the_worker_s_supervisor_is_killed_and_the_next_one_takes_over_what_lives_there() {
    let lab = Lab::start();
    let Some(cluster) = Cluster::configured(&lab.config("same")) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let (guest, pid) = Guest::counting(&cluster);
    let out = cluster.move_out(pid);
    cluster.kill9(lab.daemon("node-run").unwrap());
    // Found out where ssh is dialled again, which starts it.
    lab.drop_connections();
    cluster.wait("a supervisor", || lab.daemon("node-run").ok_or("none"));
    cluster.wait_heard();
    guest.writes_on();
    cluster.bring_home(out.record.id.as_str());
    guest.writes_on();
}

/// `grid up` with this configuration: what it says when it gives up.
fn refused_up(lab: &Lab, dir: &Path) -> String {
    std::fs::write(dir.join("cluster.yaml"), lab.config("same")).unwrap();
    let mut command = Command::new("timeout");
    command.arg("60").arg(program("grid").unwrap()).arg("--state").arg(dir.join("state"));
    command.args(["up", "--config"]).arg(dir.join("cluster.yaml")).env("GRID_CRIU", grid_testkit::criu::path());
    let out = command.output().unwrap();
    assert_eq!(out.status.code(), Some(7), "{out:?}");
    assert!(std::fs::read_dir(lab.workers()).unwrap().next().is_none(), "something was brought there");
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn a_machine_that_is_not_who_ssh_knows_is_not_gone_to() {
    if !grid_testkit::criu::usable_or_skip() {
        return;
    }
    let lab = Lab::start();
    let dir = grid_testkit::scratch::Scratch::new().unwrap();
    // Another's key under its name; then none.
    lab.know(&std::fs::read_to_string(lab.path("user.pub")).unwrap()).unwrap();
    let said = refused_up(&lab, &dir);
    assert!(said.contains("gpu1") && said.contains("compare the fingerprint"), "{said}");
    std::fs::write(lab.path("known"), "").unwrap();
    let said = refused_up(&lab, &dir);
    assert!(said.contains("compare the fingerprint"), "{said}");
}

#[test]
fn a_key_that_the_machine_does_not_take_is_said() {
    if !grid_testkit::criu::usable_or_skip() {
        return;
    }
    let lab = Lab::start();
    std::fs::write(lab.path("authorized"), "").unwrap();
    let dir = grid_testkit::scratch::Scratch::new().unwrap();
    let said = refused_up(&lab, &dir);
    assert!(said.contains("Permission denied") && said.contains("ssh-copy-id"), "{said}");
}

#[test]
fn a_second_head_does_not_get_a_worker_that_works_for_the_first() {
    let lab = Lab::start();
    let Some(cluster) = Cluster::configured(&lab.config("same")) else { return };
    let folder = std::fs::read_dir(lab.workers()).unwrap().next().unwrap().unwrap().path();
    let own = std::fs::read_to_string(folder.join("node.json")).unwrap();
    let mut other: serde_json::Value = serde_json::from_str(&own).unwrap();
    other["head"] = "0".repeat(64).into();
    std::fs::write(cluster.dir().join("other.json"), other.to_string()).unwrap();
    let input = std::fs::File::open(cluster.dir().join("other.json")).unwrap();
    let out = Command::new(cluster.program()).arg("node-start").stdin(input).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.contains("works for another head"), "{said}");
    assert_eq!(std::fs::read_to_string(folder.join("node.json")).unwrap(), own);
    cluster.wait_heard();
}

#[test]
fn a_link_that_is_down_in_the_middle_of_a_move_leaves_the_process_at_home() {
    let lab = Lab::start();
    let Some(cluster) = Cluster::configured(&lab.config("same")) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let guest = Guest::reporting(&cluster, "prover", "--memory 512MiB --steps 1000000");
    let (_, mut command) = cluster.begin_move(guest.pid());
    lab.set_link(false).unwrap();
    let began = Instant::now();
    guest.goes_on();
    println!("it goes on at home {} ms after the link went down", began.elapsed().as_millis());
    let _ = command.wait();
    lab.set_link(true).unwrap();
    cluster.wait_heard();
    guest.never_went_back();
}

/// Reads a file slowly and says what it read: whoever reads another file says another thing.
const READER: &str = r#"
import time
data = open("data")
first = data.readline()
open("ready", "w").write("yes")
while True:
    data.seek(0)
    print(data.readline(), end="", flush=True)
    time.sleep(0.01)
"#;

#[test]
fn a_file_that_differs_there_is_seen_before_anything_is_frozen() {
    let lab = Lab::start();
    let Some(cluster) = Cluster::configured(&lab.config("same")) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let script = format!("echo mine >data; echo '{READER}' >read.py; exec /usr/bin/python3 read.py | cat >out");
    let guest = Guest::script(&cluster, &script);
    guest.wait_text("ready", |text| text == "yes");
    let runs = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.ends_with(b"read.py\0"))
            && std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == *guest.dir)
    };
    let pid = procs::all().into_iter().find(runs).unwrap();
    let other = |name: &str, text: &str| {
        std::fs::write(lab.path(name), text).unwrap();
        lab.bind(&lab.path(name), &guest.dir.join("data")).unwrap();
    };
    other("another", "evil\n");
    let refused = || {
        let said = cluster.grid(&["offload", "execute", &pid.to_string()]);
        assert_eq!(said.code, 4, "{said:?}");
        said.out + &said.err
    };
    let said = refused();
    assert!(said.contains("E-FILE") && said.contains("data differs there"), "{said}");
    assert!(std::fs::read_link(format!("/proc/{pid}/exe")).unwrap().to_string_lossy().contains("python3"));
    other("longer", "another length\n");
    let said = refused();
    assert!(said.contains("5 bytes, and 15 there"), "{said}");
    // A copy of the same bytes is the same file.
    other("copy", "mine\n");
    let out = cluster.move_out(pid);
    guest.wait_text("out", |text| text.lines().count() > 200);
    cluster.bring_home(out.record.id.as_str());
    guest.wait_text("out", |text| text.lines().count() > 300);
    assert!(guest.read("out").lines().all(|line| line == "mine"));
}

#[test]
fn down_leaves_a_worker_as_it_was_where_that_is_asked_for() {
    let lab = Lab::start();
    let Some(cluster) = Cluster::configured(&lab.config("same")) else { return };
    let said = cluster.grid(&["down", "--purge"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(std::fs::read_dir(lab.workers()).unwrap().next().is_none(), "something is left there");
    assert_eq!(lab.daemon("node-run"), None);
}

/// As a machine is shut down, or its service stopped: what cannot come home is not ended for that.
#[test]
fn what_cannot_come_home_runs_on_where_it_is_while_the_cluster_is_down_and_is_taken_over() {
    let lab = Lab::start();
    let Some(mut cluster) = Cluster::configured(&lab.config("same")) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let (guest, pid) = Guest::counting(&cluster);
    let out = cluster.move_out(pid);
    assert_eq!(cluster.grid(&["stop"]).code, 0);
    let said = cluster.grid(&["down", "--recall-first"]);
    assert!(said.code == 12 && said.err.contains("still away") && said.err.contains("nothing was changed"), "{said:?}");
    guest.writes_on();
    let said = cluster.grid(&["down", "--recall-first", "--leave"]);
    assert!(said.code == 0 && said.out.contains("runs on at gpu1") && said.out.contains("takes it over"), "{said:?}");
    cluster.supervisor_ended();
    assert!(lab.daemon("node-run").is_some());
    let said = cluster.grid(&["down", "--leave"]);
    assert!(said.code == 0 && said.out.contains("runs on"), "{said:?}");
    let config = cluster.dir().join("cluster.yaml").to_string_lossy().into_owned();
    cluster.up_again(&["--config", &config]);
    guest.writes_on();
    assert_eq!(cluster.grid(&["stop", "--lift"]).code, 0);
    cluster.bring_home(out.record.id.as_str());
    guest.writes_on();
    // Where nothing is away nothing is left.
    let said = cluster.grid(&["down", "--recall-first", "--leave"]);
    assert!(said.code == 0 && said.out.contains("The cluster is down"), "{said:?}");
    cluster.supervisor_ended();
    assert_eq!(lab.daemon("node-run"), None);
}

#[test]
fn stop_on_the_head_undoes_what_another_machine_has_not_committed_and_holds_while_ssh_is_broken() {
    let lab = Lab::start();
    let Some(cluster) = Cluster::configured(&lab.config("same")) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let guest = Guest::reporting(&cluster, "prover", "--memory 512MiB --steps 1000000");
    let out = cluster.move_out(guest.pid());
    let id = out.record.id.as_str();
    guest.goes_on();
    // The one that restored it has ended.
    cluster
        .wait("no CRIU on the worker", || if cluster.criu_runs_on("gpu1").is_err() { Ok(()) } else { Err("one runs") });
    let mut recall = cluster.begin(&["offload", "recall", id]);
    cluster.wait("CRIU to dump on the worker", || cluster.criu_runs_on("gpu1"));
    let said = cluster.grid(&["stop"]);
    assert_eq!(said.code, 0, "{said:?}");
    println!("{}", said.out);
    assert!(said.out.contains("1 move undone") && said.out.contains("heeded by  gpu1, head"), "{said:?}");
    let _ = recall.wait();
    cluster.wait_phase(id, OffloadPhase::Away);
    guest.goes_on();

    // Lifted while nobody can tell the worker: it holds until somebody can.
    let folder = std::fs::read_dir(lab.workers()).unwrap().next().unwrap().unwrap().path();
    let held = folder.join("control/stopped-by-head");
    assert!(held.exists());
    lab.set_link(false).unwrap();
    lab.drop_connections();
    assert_eq!(cluster.grid(&["stop", "--lift"]).code, 0);
    assert!(held.exists(), "the worker cannot know yet");
    lab.set_link(true).unwrap();
    // The worker's daemons are started anew where ssh is dialled again: it is told then, and moves are under way no more.
    cluster.wait("ssh to be there again", || {
        let text = std::fs::read_to_string(cluster.state().join("log/reach-gpu1.log")).unwrap_or_default();
        if text.matches("is reached at").count() > 1 { Ok(()) } else { Err(text) }
    });
    cluster.wait("the worker to know", || if held.exists() { Err("it is stopped still") } else { Ok(()) });
    cluster.wait_heard();
    cluster.bring_home(id);
    guest.goes_on();
    guest.never_went_back();
}

#[test]
fn a_machine_that_lacks_what_home_has_is_refused_before_anything_is_frozen_and_the_table_says_it() {
    let lab = Lab::start();
    let Some(cluster) = Cluster::faulty(&lab.config("same")) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let said = cluster.grid(&["doctor", "--between", "head", "gpu1"]);
    println!("{}", said.out);
    assert_eq!(said.code, 0, "{said:?}");
    for row in ["ok  architecture", "ok  criu ", "ok  cpu features", "ok  kernel", "ok  clock", "ok  user"] {
        assert!(said.out.contains(row), "{row}: {said:?}");
    }
    let guest = Guest::reporting(&cluster, "prover", "--memory 16MiB --steps 1000000");
    // Home's CPUs have one feature more from now on.
    let more = cluster.state().join("nodes/head").join(grid_types::fault::CPU_FILE);
    std::fs::write(&more, "avx99").unwrap();
    let said = cluster.grid(&["doctor", "--between", "head", "gpu1"]);
    assert!(
        said.code == 4 && said.out.contains("REFUSED  cpu features") && said.out.contains("avx99 alone"),
        "{said:?}"
    );
    let said = cluster.grid(&["offload", "execute", &guest.pid().to_string()]);
    assert!(said.code == 4 && said.err.contains("E-MACHINE") && said.err.contains("avx99"), "{said:?}");
    guest.goes_on();
    guest.never_went_back();
    assert!(cluster.criu_runs_on("head").is_err(), "nothing was frozen for it");
    std::fs::remove_file(&more).unwrap();
    let out = cluster.move_out(guest.pid());
    // Home takes back what it started, whatever it has.
    std::fs::write(&more, "avx99").unwrap();
    cluster.bring_home(out.record.id.as_str());
    guest.goes_on();
}

/// Its supervisor there was killed, and nobody has started another one: what it left goes all the same, and nothing of anybody
/// else's.
#[test]
fn down_ends_what_a_killed_supervisor_left_there_and_no_group_of_others() {
    let lab = Lab::start();
    let Some(cluster) = Cluster::configured(&lab.config("same")) else { return };
    let bystander = Hierarchies::detect().unwrap();
    let bystander = bystander.group(&format!("bystander-{}/below", std::process::id()), &[Controller::Freezer]);
    bystander.create().unwrap();
    cluster.kill9(lab.daemon("node-run").unwrap());
    assert!(lab.daemon("agent").is_some());
    assert_eq!(cluster.grid(&["down", "--yes"]).code, 0);
    let left = ["node-run", "agent", "channel"].map(|word| lab.daemon(word));
    let stayed = bystander.exists();
    bystander.parent().unwrap().remove().unwrap();
    assert!(left == [None; 3] && stayed, "{left:?}, an empty group of others stayed: {stayed}");
}

/// What the login shell does there is the worker's own: as long as there is a file `hangs` it never ends, with `prints` it
/// prints without end.
fn moody(lab: &Lab) {
    let (dir, forced) = (lab.dir().display(), lab.path("forced"));
    let script = format!(
        "#!/bin/sh\n[ -e {dir}/hangs ] && echo $$ >{dir}/hung && exec sleep 300\n[ -e {dir}/prints ] && exec yes without end\n\
         exec sh -c \"$SSH_ORIGINAL_COMMAND\"\n"
    );
    std::fs::write(&forced, script).unwrap();
    std::fs::set_permissions(&forced, std::fs::Permissions::from_mode(0o755)).unwrap();
    let key = std::fs::read_to_string(lab.path("user.pub")).unwrap();
    std::fs::write(lab.path("authorized"), format!("command=\"{}\" {key}", forced.display())).unwrap();
}

/// The most that the process which reaches the worker ever had, in KiB.
fn most_of_reach(state: &Path) -> Option<u64> {
    let state = state.display().to_string();
    let is_it = |pid: &i32| {
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split('\0').nth(1) == Some("reach") && words.contains(&state)
    };
    let status = std::fs::read_to_string(format!("/proc/{}/status", procs::all().into_iter().find(is_it)?)).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().split(' ').next()?.parse().ok())
}

#[test]
fn a_login_shell_that_prints_without_end_is_given_up_and_takes_no_memory() {
    if !grid_testkit::criu::usable_or_skip() {
        return;
    }
    let lab = Lab::start();
    moody(&lab);
    std::fs::write(lab.path("prints"), "").unwrap();
    let dir = grid_testkit::scratch::Scratch::new().unwrap();
    let (said, most) = std::thread::scope(|threads| {
        let up = threads.spawn(|| refused_up(&lab, &dir));
        let mut most = 0;
        while !up.is_finished() {
            most = most.max(most_of_reach(&dir.join("state")).unwrap_or(0));
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        (up.join().unwrap(), most)
    });
    // Of its last line as much as had come.
    let parts =
        ["did not end within 30 s", "its last line was \"w", "the last 64 were read", "what its login shell does"];
    assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    assert!((1..128 << 10).contains(&most), "{most} KiB");
}

#[test]
fn down_is_heard_while_the_worker_s_login_shell_hangs() {
    let lab = Lab::start();
    moody(&lab);
    let Some(cluster) = Cluster::configured(&lab.config("same")) else { return };
    std::fs::write(lab.path("hangs"), "").unwrap();
    lab.drop_connections();
    let hung = || std::fs::read_to_string(lab.path("hung")).ok().and_then(|pid| pid.trim().parse().ok());
    let hung = cluster.wait("ssh to be dialled again", || hung().ok_or(()));
    std::fs::remove_file(lab.path("hangs")).unwrap();
    let said = cluster.grid(&["down", "--yes"]);
    cluster.kill9(hung);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(lab.daemon("node-run").is_none(), "{said:?}");
}
