//! Onto a disk and back: what is parked holds no memory, and runs on from where it stood, as if nothing had been.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

#[allow(dead_code)] // each file of tests uses a part of it
mod shadow;

use grid_testkit::cluster::{Cluster, Guest};
use grid_testkit::procs::NOBODY;
use grid_types::api::{BoostView, OffloadView};
use grid_types::boost::BoostState;
use grid_types::event::{ExitStatus, OffloadPhase};
use grid_types::exit::FaultClass;
use grid_types::fault::{Effect, FaultPoint};
use grid_types::reason::ReasonCode;
use nix::sys::signal::Signal;
use shadow::{Job, is_stopped, send};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

const STREAM: &str = "/usr/bin/python3 lines.py 300 0.01 | (meant; exec /usr/bin/python3 seen.py) >out
told ${PIPESTATUS[@]}";

const CHILD: &str = "/usr/bin/python3 prog.py
told $?";
const READER: &str = "echo one >data
(meant; exec /usr/bin/python3 prog.py) 3<data
told $?";
const SMALL: &str = "
name: park
nodes:
  - {name: head, role: head, resource_sharing: {can_share: false}}
  - {name: gpu1, role: worker, resource_sharing: {can_share: true, max_share_cpu: 8, max_share_memory_gb: 2}}
";

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
    let Some(job) = Job::start(&STREAM.replace("300", "900")) else { return };
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
    // What came home is parked from there as from anywhere.
    let again: OffloadView = job.cluster.ask(&["offload", "park", &pid.to_string(), "--on", "gpu1"]);
    assert_ne!(again.record.id, parked.record.id);
    job.wait_title(pid, "parked @gpu1");
    unpark(&job, &pid.to_string(), &[]);
    job.wait_title(pid, "@head");
    assert_eq!(job.status(), "0 5");
    job.all_came(900);
}

#[test]
fn a_stream_is_whole_over_the_heads_own_disk() {
    let Some(job) = Job::start(&STREAM.replace("300", "900")) else { return };
    job.flows(20);
    let (pid, _) = park(&job, "head");
    assert_eq!((job.copies("seen.py").len(), copies_on(&job, "head").len()), (0, 1));
    // Into a lease from there, and home.
    let away = unpark(&job, &pid.to_string(), &["--to", "gpu1"]);
    assert_eq!((away.record.phase, away.record.destination.as_str()), (OffloadPhase::Away, "gpu1"), "{away:?}");
    job.wait_title(pid, "@gpu1");
    job.flows(20);
    job.cluster.bring_home(away.record.id.as_str());
    job.wait_title(pid, "@head");
    assert_eq!(copies_on(&job, "head"), Vec::<PathBuf>::new());
    assert_eq!(job.status(), "0 5");
    job.all_came(900);
}

/// From a lease onto its lender's own disk, back into the lease, onto the other worker's disk, and home.
#[test]
fn a_stream_is_whole_from_lease_to_disk_and_back() {
    let Some(job) = Job::start_on_two(&STREAM.replace("300", "2000")) else { return };
    let (pid, out) = job.move_meant();
    let id = out.record.id.as_str();
    job.flows(20);
    let parked: OffloadView = job.cluster.ask(&["offload", "park", id]);
    assert_eq!((parked.record.phase, parked.record.destination.as_str()), (OffloadPhase::Parked, "gpu1"));
    assert_eq!(parked.record.boost, None, "the lease has its room again");
    job.wait_title(pid, "parked @gpu1");
    let away = unpark(&job, id, &["--to", "gpu1"]);
    assert_eq!((away.record.phase, away.record.boost), (OffloadPhase::Away, out.record.boost.clone()));
    job.wait_title(pid, "@gpu1");
    job.flows(20);
    let other: OffloadView = job.cluster.ask(&["offload", "park", &pid.to_string(), "--on", "gpu2"]);
    assert_eq!(other.record.destination.as_str(), "gpu2");
    job.wait_title(pid, "parked @gpu2");
    assert_eq!((copies_on(&job, "gpu1").len(), copies_on(&job, "gpu2").len()), (0, 1));
    unpark(&job, id, &[]);
    job.wait_title(pid, "@head");
    job.flows(20);
    // And onto its lender's and the head's disk from a lease, as another offload.
    let out = job.cluster.move_out(pid);
    job.wait_title(pid, "@gpu1");
    job.cluster.ask::<OffloadView>(&["offload", "park", &pid.to_string()]);
    job.wait_title(pid, "parked @gpu1");
    unpark(&job, out.record.id.as_str(), &["--to", "gpu1"]);
    job.wait_title(pid, "@gpu1");
    job.flows(5);
    job.cluster.ask::<OffloadView>(&["offload", "park", &pid.to_string(), "--on", "head"]);
    job.wait_title(pid, "parked @head");
    unpark(&job, &pid.to_string(), &[]);
    assert_eq!(job.status(), "0 5");
    job.all_came(2000);
}

#[test]
fn signals_wait_and_an_end_is_told_after_days_as_before() {
    let Some(job) = Job::start(CHILD) else { return };
    let (pid, _) = park(&job, "gpu1");
    send(pid, Signal::SIGUSR1);
    let at = job.rests(Duration::from_millis(500), || job.says());
    assert_eq!(at.1, 0);
    unpark(&job, &pid.to_string(), &[]);
    job.cluster.wait("the signal", || if job.says().1 == 1 { Ok(()) } else { Err(job.says()) });
    job.go(7);
    assert_eq!(job.status(), "7");
}

#[test]
fn what_was_stopped_while_it_was_parked_is_stopped_when_it_is_back() {
    let Some(job) = Job::start(CHILD) else { return };
    let (pid, _) = park(&job, "gpu1");
    send(pid, Signal::SIGSTOP);
    job.cluster.wait("its shadow to stop", || is_stopped(pid));
    unpark(&job, &pid.to_string(), &[]);
    let tree = job.cluster.wait("its return", || job.copies("prog.py").first().copied().ok_or("not there"));
    job.cluster.wait("it to stop there", || is_stopped(tree));
    send(pid, Signal::SIGCONT);
    job.goes_on();
    job.go(5);
    assert_eq!(job.status(), "5");
}

#[test]
fn a_signal_in_the_freeze_is_kept_with_the_copy() {
    let Some(job) = Job::start(CHILD) else { return };
    let pid = job.meant();
    let mut armed = job.cluster.arm("gpu1", FaultPoint::SealParked, Effect::Hang);
    let mut command = job.cluster.begin(&["offload", "park", &pid.to_string(), "--on", "gpu1"]);
    job.cluster.wait("the step", || armed.is_hit());
    send(pid, Signal::SIGUSR1);
    armed.lift();
    assert!(command.wait().unwrap().success());
    // The agent that keeps it for it dies in between.
    send(job.cluster.agent_pid("gpu1"), Signal::SIGKILL);
    job.cluster.wait_heard();
    unpark(&job, &pid.to_string(), &[]);
    job.cluster.wait("the signal", || if job.says().1 == 1 { Ok(()) } else { Err(job.says()) });
    job.go(0);
    assert_eq!(job.status(), "0");
}

#[test]
fn a_copy_outlives_agents_the_daemon_and_a_reboot_of_its_machine() {
    let Some(job) = Job::start(STREAM) else { return };
    job.flows(20);
    let (pid, view) = park(&job, "gpu1");
    for node in ["head", "gpu1"] {
        job.cluster.kill9(job.cluster.agent_pid(node));
    }
    job.cluster.kill9(job.cluster.daemon_pid());
    job.cluster.wait_heard();
    job.cluster.cut_power("gpu1");
    job.cluster.wait_heard();
    job.wait_title(pid, "parked @gpu1");
    let still = job.cluster.wait_phase(view.record.id.as_str(), OffloadPhase::Parked);
    assert_eq!(still.record.parked, view.record.parked);
    unpark(&job, &pid.to_string(), &[]);
    assert_eq!(job.status(), "0 5");
    job.all_came(300);
}

#[test]
fn a_damaged_copy_is_refused_before_anything_is_started_and_is_kept() {
    let Some(job) = Job::start(CHILD) else { return };
    let (pid, view) = park(&job, "gpu1");
    let file = copies_on(&job, "gpu1").remove(0);
    let whole = fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    for content in [damaged, whole[..whole.len() - 1].to_vec()] {
        fs::write(&file, content).unwrap();
        let said = job.cluster.grid(&["offload", "unpark", &pid.to_string()]);
        assert_ne!(said.code, 0, "{said:?}");
        for word in ["E-PARKED", "nothing was started", "is parked on gpu1 as before"] {
            assert!(said.out.contains(word), "{word}: {said:?}");
        }
        assert_eq!(job.copies("prog.py"), Vec::<i32>::new());
        job.cluster.wait_phase(view.record.id.as_str(), OffloadPhase::Parked);
    }
    fs::remove_file(&file).unwrap();
    assert!(job.cluster.grid(&["offload", "unpark", &pid.to_string()]).out.contains("E-PARKED"));
    // Put back, it runs on.
    fs::write(&file, whole).unwrap();
    unpark(&job, &pid.to_string(), &[]);
    job.goes_on();
    job.go(3);
    assert_eq!(job.status(), "3");
}

#[test]
fn a_file_that_is_not_as_it_was_is_named_and_nothing_is_started() {
    let Some(job) = Job::start(READER) else { return };
    job.says();
    let (pid, _) = park(&job, "gpu1");
    let data = job.guest.dir.join("data");
    let before = fs::metadata(&data).unwrap().modified().unwrap();
    fs::write(&data, "one, and more").unwrap();
    let said = job.cluster.grid(&["offload", "unpark", &pid.to_string()]);
    assert!(
        said.code != 0 && said.out.contains("E-FILE") && said.out.contains("/data had 4 bytes and has 13"),
        "{said:?}"
    );
    assert_eq!(job.copies("prog.py"), Vec::<i32>::new());
    fs::write(&data, "one\n").unwrap();
    fs::File::options().write(true).open(&data).unwrap().set_modified(before).unwrap();
    unpark(&job, &pid.to_string(), &[]);
    job.goes_on();
    job.go(0);
    assert_eq!(job.status(), "0");
}

#[test]
fn a_killed_shadow_gives_the_parked_copy_up() {
    for from_lender in [false, true] {
        let Some(job) = Job::start(CHILD) else { return };
        let pid = job.meant();
        if from_lender {
            job.move_meant();
        }
        let view: OffloadView = job.cluster.ask(&["offload", "park", &pid.to_string(), "--on", "gpu1"]);
        job.wait_title(pid, "parked @gpu1");
        send(pid, Signal::SIGKILL);
        assert_eq!(job.status(), "137");
        let ended = job.cluster.wait_phase(view.record.id.as_str(), OffloadPhase::Ended);
        assert_eq!(ended.record.exit, Some(ExitStatus::Signal(9)));
        let gone = || Some(copies_on(&job, "gpu1")).filter(|left| !left.is_empty()).map_or(Ok(()), Err);
        job.cluster.wait("the copy to be deleted", gone);
    }
}

#[test]
fn a_copy_is_its_owners_and_roots() {
    let Some(job) = Job::start(CHILD) else { return };
    let pid = job.meant();
    let text = pid.to_string();
    let other = 61_998;
    assert_eq!(job.cluster.refused_to(other, &[], &["offload", "park", &text]).1.class, FaultClass::Permission);
    job.goes_on();
    // The owner may; nobody else reads the copy, brings it back, or is told of it.
    let view: OffloadView = job.cluster.ask_as(NOBODY, &[], &["offload", "park", &text]);
    assert_eq!(view.record.phase, OffloadPhase::Parked);
    let file = copies_on(&job, "gpu1").remove(0);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    for user in [NOBODY, other] {
        let read = std::process::Command::new("setpriv")
            .args([format!("--reuid={user}"), "--clear-groups".into(), "cat".into()])
            .arg(&file)
            .output()
            .unwrap();
        assert!(!read.status.success() && read.stdout.is_empty(), "{read:?}");
    }
    for words in [["offload", "unpark", &text], ["offload", "unpark", view.record.id.as_str()]] {
        assert_ne!(job.cluster.grid_as(other, &[], &words).code, 0, "{words:?}");
    }
    assert!(!job.cluster.grid_as(other, &[], &["status"]).out.contains("PARKED"));
    assert!(job.cluster.grid_as(NOBODY, &[], &["status"]).out.contains("PARKED"));
    let home: OffloadView = job.cluster.ask_as(NOBODY, &[], &["offload", "unpark", &text]);
    assert_eq!(home.record.phase, OffloadPhase::Home);
    job.go(0);
    assert_eq!(job.status(), "0");
}

#[test]
fn a_dry_run_changes_nothing_and_what_cannot_be_done_is_refused_before_a_freeze() {
    let Some(job) = Job::start(CHILD) else { return };
    let text = job.meant().to_string();
    job.goes_on();
    let dry = job.cluster.grid(&["offload", "park", &text, "--dry-run"]);
    assert!(dry.code == 0 && dry.out.contains("would be parked on gpu1's disk"), "{dry:?}");
    assert_eq!(job.cluster.offloads(), Vec::new());
    let (code, _) = job.cluster.refused(&["offload", "park", &text, "--on", "gpu7"]);
    assert_eq!(code, i32::from(FaultClass::NotFound.code()));
    let (code, _) = job.cluster.refused(&["offload", "unpark", &text]);
    assert_eq!(code, i32::from(FaultClass::NotFound.code()));
    let (pid, view) = park(&job, "gpu1");
    let dry = job.cluster.grid(&["offload", "unpark", &text, "--dry-run"]);
    assert!(dry.code == 0 && dry.out.contains("would run again at home, from gpu1's disk"), "{dry:?}");
    let (code, _) = job.cluster.refused(&["offload", "park", &text]);
    assert_eq!(code, i32::from(FaultClass::Conflict.code()));
    job.cluster.pretend_memory("head", Some(1 << 20));
    let (_, error) = job.cluster.refused(&["offload", "unpark", &text]);
    assert!(error.code == Some(ReasonCode::NoFit) && error.message.contains("its parked copy is kept"), "{error:?}");
    job.cluster.pretend_memory("head", None);
    job.cluster.wait_phase(view.record.id.as_str(), OffloadPhase::Parked);
    unpark(&job, &pid.to_string(), &[]);
    job.go(0);
    assert_eq!(job.status(), "0");
}

#[test]
fn at_its_boosts_end_it_is_parked_where_that_was_asked_for() {
    // Released by its borrower, and taken back by its lender, who freezes it first.
    for end in ["release", "reclaim"] {
        let Some(job) = Job::start(STREAM) else { return };
        let boost = job.cluster.boost("--cpu 1 --memory 900MiB --duration 5m --from gpu1 --at-end park").boost;
        let pid = job.meant();
        job.flows(20);
        let out: OffloadView = job.cluster.ask(&["offload", "execute", &pid.to_string(), "--boost", boost.id.as_str()]);
        job.wait_title(pid, "@gpu1");
        job.flows(5);
        let said = job.cluster.grid(&["boost", end, boost.id.as_str()]);
        assert_eq!(said.code, 0, "{said:?}");
        let parked = job.cluster.wait_phase(out.record.id.as_str(), OffloadPhase::Parked);
        assert_eq!(parked.record.destination.as_str(), "gpu1");
        let ended: BoostView = job.cluster.ask(&["boost", "show", boost.id.as_str()]);
        assert!(matches!(ended.boost.state, BoostState::Ended { .. }), "{ended:?}");
        job.wait_title(pid, "parked @gpu1");
        unpark(&job, &pid.to_string(), &[]);
        assert_eq!(job.status(), "0 5");
        job.all_came(300);
    }
}

#[test]
fn both_ways_can_be_cancelled_before_their_commit() {
    let Some(job) = Job::start(CHILD) else { return };
    let (pid, cluster) = (job.meant(), &job.cluster);
    let hung = |point: FaultPoint, words: &[&str]| {
        let armed = cluster.arm("gpu1", point, Effect::Hang);
        let command = cluster.begin(words);
        cluster.wait("the step", || armed.is_hit());
        (armed, command)
    };
    let text = pid.to_string();
    let (mut armed, mut command) = hung(FaultPoint::SealParked, &["offload", "park", &text]);
    assert_eq!(cluster.grid(&["offload", "cancel", &text]).code, 0);
    armed.lift();
    command.wait().unwrap();
    job.goes_on();
    cluster.wait("the half copy to go", || {
        Some(copies_on(&job, "gpu1")).filter(|left| !left.is_empty()).map_or(Ok(()), Err)
    });
    park(&job, "gpu1");
    let (mut armed, mut command) = hung(FaultPoint::SendParked, &["offload", "unpark", &text]);
    let said = cluster.grid(&["offload", "cancel", &text]);
    assert!(said.code == 0 && said.out.contains("is parked on gpu1 as before"), "{said:?}");
    armed.lift();
    command.wait().unwrap();
    assert_eq!((job.copies("prog.py").len(), copies_on(&job, "gpu1").len()), (0, 1));
    // Its shadow is killed while it is on its way: that undoes the way, and gives the copy up.
    let (mut armed, mut command) = hung(FaultPoint::SendParked, &["offload", "unpark", &text]);
    send(pid, Signal::SIGKILL);
    assert_eq!(job.status(), "137");
    armed.lift();
    command.wait().unwrap();
    let id = cluster.offloads().last().unwrap().record.id.clone();
    cluster.wait_phase(id.as_str(), OffloadPhase::Ended);
    cluster
        .wait("the copy to go", || Some(copies_on(&job, "gpu1")).filter(|left| !left.is_empty()).map_or(Ok(()), Err));
    assert_eq!(job.copies("prog.py"), Vec::<i32>::new());
}

#[test]
fn a_full_disk_leaves_it_where_it_runs() {
    let Some(cluster) = Cluster::with_small_disk(SMALL, "gpu1") else { return };
    let guest = Guest::reporting(&cluster, "prover", "--memory 64MiB --steps 1000000");
    let text = guest.pid().to_string();
    // Too large for that disk: said before a freeze.
    let said = cluster.grid(&["offload", "park", &text, "--on", "gpu1"]);
    assert!(said.code != 0 && said.out.contains("E-DISK") && said.out.contains("It runs at home"), "{said:?}");
    guest.goes_on();
    // Full in the middle of it: thawed, and the disk has its room again.
    let small = Guest::reporting(&cluster, "prover", "--memory 1MiB --steps 1000000");
    let mut armed = cluster.arm("gpu1", FaultPoint::SayReady, Effect::Hang);
    let mut command = cluster.begin(&["offload", "park", &small.pid().to_string(), "--on", "gpu1"]);
    cluster.wait("the step", || armed.is_hit());
    cluster.fill_disk();
    armed.lift();
    assert!(!command.wait().unwrap().success());
    cluster.empty_disk();
    let failed = cluster.offloads().into_iter().next_back().unwrap().record;
    assert_eq!((failed.phase, failed.reasons[0].code), (OffloadPhase::Failed, ReasonCode::Disk), "{failed:?}");
    small.goes_on();
    let dir = cluster.state().join("nodes/gpu1/parked");
    assert_eq!(fs::read_dir(dir).into_iter().flatten().count(), 0);
    // With room again it is parked, and runs on.
    cluster.ask::<OffloadView>(&["offload", "park", &small.pid().to_string(), "--on", "gpu1"]);
    cluster.ask::<OffloadView>(&["offload", "unpark", &small.pid().to_string()]);
    small.goes_on();
}

#[test]
fn a_prover_of_64_mib_is_right_after_two_parkings() {
    let Some(cluster) = Cluster::faulty(SMALL) else { return };
    let guest = Guest::reporting(&cluster, "prover", "--memory 64MiB --steps 1500");
    let text = guest.pid().to_string();
    for on in ["gpu1", "head"] {
        let view: OffloadView = cluster.ask(&["offload", "park", &text, "--on", on]);
        println!("parked on {on}: {:?}", view.record.figures);
        assert!(view.record.parked.unwrap().bytes.unwrap().0 >= 64 << 20);
        cluster.ask::<OffloadView>(&["offload", "unpark", &text]);
        guest.goes_on();
    }
    assert_eq!(guest.wait_done().digest, grid_testkit::cluster::undisturbed("--memory 64MiB --steps 1500").digest);
}

#[test]
fn a_copy_outlives_the_cluster() {
    let Some(mut cluster) = Cluster::start(1) else { return };
    let guest = Guest::reporting(&cluster, "prover", "--memory 8MiB --steps 1500");
    let text = guest.pid().to_string();
    let parked: OffloadView = cluster.ask(&["offload", "park", &text]);
    let said = cluster.grid(&["down"]);
    assert_eq!(said.code, 0, "{said:?}");
    cluster.up_again(&["--local", "1"]);
    let still = cluster.wait_phase(parked.record.id.as_str(), OffloadPhase::Parked);
    assert_eq!(still.record.parked, parked.record.parked);
    cluster.ask::<OffloadView>(&["offload", "unpark", &text]);
    guest.wait_done();
}
