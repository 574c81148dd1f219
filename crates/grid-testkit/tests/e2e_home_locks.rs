//! Locks on the head's files that are taken on a machine that ssh reaches: home sees them, and who has one stays.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest};
use grid_testkit::lab::Lab;
use grid_testkit::procs;
use grid_types::fault::{Effect, FaultPoint};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Does what it is told to, and says `done`; counts in the meantime.
const JOB: &str = r#"
import fcntl, os, subprocess, threading, time
def say(text):
    with open('new', 'w') as f: f.write(text)
    os.rename('new', 'answer')
f = open('base', 'r+b', buffering=0)
log = open('log', 'a', buffering=1)
for n in range(10**9):
    print(n, file=log)
    if os.path.exists('ask'):
        words = open('ask').read()
        os.unlink('ask')
        try:
            exec(words)
            say('done')
        except OSError as e: say(str(e))
    time.sleep(0.005)
"#;

fn job(cluster: &Cluster) -> Guest {
    let guest = Guest::script(cluster, &format!("cat >job.py <<'E'\n{JOB}\nE\n>base; exec /usr/bin/python3 job.py"));
    counts(&guest);
    guest
}

fn counts(guest: &Guest) {
    let from = guest.numbered("log");
    guest.wait_text("log", |text| text.lines().count() > from + 20);
}

fn ask(guest: &Guest, what: &str) {
    let _ = std::fs::remove_file(guest.dir.join("answer"));
    std::fs::write(guest.dir.join("asking"), what).unwrap();
    std::fs::rename(guest.dir.join("asking"), guest.dir.join("ask")).unwrap();
}

fn answer(guest: &Guest, what: &str) -> String {
    ask(guest, what);
    guest.wait_text("answer", |text| !text.is_empty())
}

/// Whether a process at home gets a lock on the file.
fn is_free(guest: &Guest, call: &str) -> bool {
    let code = format!("import fcntl\nf = open('base', 'r+b')\nfcntl.{call}(f, fcntl.LOCK_EX | fcntl.LOCK_NB)");
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", &code]).current_dir(&*guest.dir).uid(procs::NOBODY).gid(procs::NOBODY);
    command.output().unwrap().status.success()
}

fn stays(cluster: &Cluster, id: &str) {
    let said = cluster.grid(&["offload", "recall", id]);
    let text = said.out.clone() + &said.err;
    assert!(said.code != 0 && text.contains("E-LOCK") && text.contains("lock on the"), "{said:?}");
}

#[test]
fn a_lock_that_is_taken_there_is_home_s_and_its_holder_stays_until_it_lets_go() {
    let lab = Lab::start();
    let Some(cluster) = Cluster::faulty(&lab.config("home")) else { return };
    lab.hide(cluster.dir()).unwrap();
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let guest = job(&cluster);
    let out = cluster.move_out(guest.pid());
    let id = out.record.id.as_str();
    for call in ["lockf", "flock"] {
        assert_eq!(answer(&guest, &format!("fcntl.{call}(f, fcntl.LOCK_EX)")), "done");
        assert!(!is_free(&guest, call));
        stays(&cluster, id);
        counts(&guest);
        assert_eq!(answer(&guest, &format!("fcntl.{call}(f, fcntl.LOCK_UN)")), "done");
        assert!(is_free(&guest, call));
    }
    // Its child's is its own; and one that is taken after the first look is seen once it stands still.
    assert_eq!(answer(&guest, "child = subprocess.Popen(['flock', 'base', 'sleep', '1000'])"), "done");
    cluster.wait("its child's lock", || if is_free(&guest, "flock") { Err(()) } else { Ok(()) });
    stays(&cluster, id);
    assert_eq!(answer(&guest, "subprocess.run(['pkill', '-P', str(child.pid)])\nchild.wait()"), "done");
    let mut armed = cluster.arm("head", FaultPoint::SayReady, Effect::Hang);
    let mut recall = cluster.begin(&["offload", "recall", id]);
    cluster.wait("the way home to be begun", || armed.is_hit());
    assert_eq!(answer(&guest, "fcntl.lockf(f, fcntl.LOCK_EX)"), "done");
    armed.lift();
    assert!(!recall.wait().unwrap().success());
    drop(armed);
    let said = format!("{:?}", cluster.offloads());
    assert!(said.contains("it took a lock on the head's file"), "{said}");
    counts(&guest);
    assert!(!is_free(&guest, "lockf"));
    assert_eq!(answer(&guest, "fcntl.lockf(f, fcntl.LOCK_UN)"), "done");
    cluster.bring_home(id);
    assert_eq!(answer(&guest, "fcntl.lockf(f, fcntl.LOCK_EX)"), "done");
    assert!(!is_free(&guest, "lockf"));
}

#[test]
fn who_waits_for_a_lock_comes_home_and_gets_it_there_and_one_that_is_killed_leaves_none() {
    let lab = Lab::start();
    let Some(cluster) = Cluster::configured(&lab.config("home")) else { return };
    lab.hide(cluster.dir()).unwrap();
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let guest = job(&cluster);
    let holder = std::fs::File::open(guest.dir.join("base")).unwrap();
    let holder = nix::fcntl::Flock::lock(holder, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap();
    let out = cluster.move_out(guest.pid());
    ask(
        &guest,
        "threading.Thread(target=lambda: (fcntl.flock(f, fcntl.LOCK_EX), say('has it'))).start()\ntime.sleep(0.2)",
    );
    guest.wait_text("answer", |text| text == "done");
    counts(&guest);
    cluster.bring_home(out.record.id.as_str());
    counts(&guest);
    assert_eq!(guest.read("answer"), "done");
    drop(holder);
    guest.wait_text("answer", |text| text == "has it");
    assert_eq!(answer(&guest, "fcntl.flock(f, fcntl.LOCK_UN)"), "done");
    cluster.move_out(guest.pid());
    assert_eq!(answer(&guest, "fcntl.flock(f, fcntl.LOCK_EX)\nfcntl.lockf(f, fcntl.LOCK_EX)"), "done");
    assert!(!is_free(&guest, "flock") && !is_free(&guest, "lockf"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(guest.pid()), nix::sys::signal::Signal::SIGKILL).unwrap();
    let free = || is_free(&guest, "flock") && is_free(&guest, "lockf");
    cluster.wait("its locks to be free", || if free() { Ok(()) } else { Err("one is held") });
}
