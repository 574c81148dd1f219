//! What stays at home of a process that moves: its number and all that hangs on it, the signals that reach it, its end.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

#[allow(dead_code)] // each file of tests uses a part of it
mod shadow;

use grid_types::event::{ExitStatus, OffloadPhase};
use grid_types::fault::{Effect, FaultPoint};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shadow::{Job, field, is_stopped, send, title};
use std::fs;

/// `prog.py` as a child that its shell waits for.
const CHILD: &str = "/usr/bin/python3 prog.py
told $?";

/// A parent in C's manner: it tells how `wait(2)` says that its child ended.
const PARENT: &str = r#"
cat >parent.py <<'E'
import os, subprocess
child = subprocess.Popen(["/usr/bin/python3", "prog.py"])
_, status = os.waitpid(child.pid, 0)
print("signaled" if os.WIFSIGNALED(status) else "exited", abs(os.waitstatus_to_exitcode(status)))
E
told $(/usr/bin/python3 parent.py)
"#;

/// All that people and programs at home know it by.
fn identity(pid: i32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // After the state: parent, group, session, terminal; and when it started.
    let numbers: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let mut all: Vec<String> = numbers[1..5].iter().chain(&numbers[19..20]).map(ToString::to_string).collect();
    all.extend(["Uid", "Gid", "Groups"].map(|name| field(pid, name)));
    all.extend(["cwd", "root", "fd/0", "fd/1", "fd/2"].map(|name| {
        let link = fs::read_link(format!("/proc/{pid}/{name}")).unwrap();
        format!("{name} {}", link.display())
    }));
    all
}

#[test]
fn all_that_it_is_known_by_at_home_stays() {
    let script = "(exec 3<prog.py; exec /usr/bin/python3 prog.py) 2>errors | cat >out
         told ${PIPESTATUS[@]}";
    let Some(job) = Job::start(script) else { return };
    let before = identity(job.meant());
    let (pid, out) = job.move_meant();
    assert_eq!(identity(pid), before);
    assert_eq!(title(pid), "grid-shadow: python3 prog.py @gpu1");
    assert_eq!(kill(Pid::from_raw(pid), None), Ok(()));
    // Nothing else of it stays open, so that nobody waits for an end of file in vain.
    let held = shadow::links(pid);
    let known = ["pipe:", "socket:", "anon_inode:", "/dev/null"];
    let is_known = |link: &String| known.iter().any(|k| link.starts_with(k)) || link.ends_with("/errors");
    assert!(held.iter().all(is_known), "{held:?}");
    job.goes_on();
    job.cluster.bring_home(out.record.id.as_str());
    job.goes_on();
    assert_eq!(identity(pid), before);
    assert_eq!(kill(Pid::from_raw(pid), None), Ok(()));
    job.go(3);
    assert_eq!(job.status(), "3 0");
}

fn ends(how: i32, told: &str, exit: ExitStatus) {
    let Some(job) = Job::start(PARENT) else { return };
    let (_, out) = job.move_meant();
    job.goes_on();
    job.go(how);
    assert_eq!(job.status(), told);
    let ended = job.cluster.wait_phase(out.record.id.as_str(), OffloadPhase::Ended);
    assert_eq!(ended.record.exit, Some(exit));
}

#[test]
fn its_parent_gets_its_exit_status() {
    ends(7, "exited 7", ExitStatus::Code(7));
}

#[test]
fn its_parent_sees_by_which_signal_it_died() {
    ends(-11, "signaled 11", ExitStatus::Signal(11));
}

#[test]
fn a_timeout_ends_it_where_it_is() {
    let Some(job) = Job::start("timeout 9 /usr/bin/python3 prog.py\ntold $?") else { return };
    let (_, out) = job.move_meant();
    assert_eq!(job.status(), "124");
    let ended = job.cluster.wait_phase(out.record.id.as_str(), OffloadPhase::Ended);
    assert_eq!(ended.record.exit, Some(ExitStatus::Signal(15)));
}

#[test]
fn nohup_holds_for_what_moved() {
    let Some(job) = Job::start("nohup /usr/bin/python3 prog.py\ntold $?") else { return };
    let (pid, _) = job.move_meant();
    send(pid, Signal::SIGHUP);
    // One after the other: where this arrived, that has.
    send(pid, Signal::SIGUSR1);
    job.cluster.wait("the signal", || if job.says().1 == 1 { Ok(()) } else { Err(job.says()) });
    job.goes_on();
    job.go(3);
    assert_eq!(job.status(), "3");
}

#[test]
fn a_script_and_its_running_child_move_as_one() {
    let script = r#"
cat >job.sh <<'E'
echo $$ >meant.new; mv meant.new meant
/usr/bin/python3 prog.py
echo $? >child
exit 9
E
bash job.sh
told $?"#;
    let Some(job) = Job::start(script) else { return };
    job.goes_on();
    let (_, out) = job.move_meant();
    assert_eq!(out.record.figures.map(|f| f.processes), Some(2));
    job.goes_on();
    job.go(4);
    assert_eq!(job.status(), "9");
    assert_eq!(job.guest.read("child").trim(), "4");
}

#[test]
fn a_signal_reaches_its_handler_once_wherever_it_runs() {
    let Some(job) = Job::start(CHILD) else { return };
    let (pid, out) = job.move_meant();
    let heard = |count: u64| {
        job.cluster.wait("the signal", || if job.says().1 == count { Ok(()) } else { Err(job.says()) });
    };
    send(pid, Signal::SIGUSR1);
    heard(1);
    job.cluster.bring_home(out.record.id.as_str());
    send(pid, Signal::SIGUSR1);
    heard(2);
    job.goes_on();
    job.go(0);
    assert_eq!((job.status().as_str(), job.says().1), ("0", 2));
}

/// It is sent to who is frozen at home, before anybody can be its shadow, and once more on the way back.
#[test]
fn a_signal_during_the_freeze_arrives_once() {
    let Some(job) = Job::start(CHILD) else { return };
    let pid = job.meant();
    job.goes_on();
    let mut armed = job.cluster.arm("head", FaultPoint::SendManifest, Effect::Hang);
    let mut command = job.cluster.begin(&["offload", "execute", &pid.to_string()]);
    job.cluster.wait("the freeze", || armed.is_hit());
    send(pid, Signal::SIGUSR1);
    armed.lift();
    assert!(command.wait().unwrap().success());
    drop(armed);
    job.wait_title(pid, "@gpu1");
    job.goes_on();
    job.cluster.wait("the signal", || if job.says().1 == 1 { Ok(()) } else { Err(job.says()) });

    let mut armed = job.cluster.arm("gpu1", FaultPoint::SendManifest, Effect::Hang);
    let id = job.cluster.offloads().remove(0).record.id.to_string();
    let mut command = job.cluster.begin(&["offload", "recall", &id]);
    job.cluster.wait("the freeze", || armed.is_hit());
    send(pid, Signal::SIGUSR1);
    armed.lift();
    assert!(command.wait().unwrap().success());
    job.wait_title(pid, "@head");
    job.goes_on();
    job.cluster.wait("the signal", || if job.says().1 == 2 { Ok(()) } else { Err(job.says()) });
    job.go(0);
    assert_eq!((job.status().as_str(), job.says().1), ("0", 2));
}

fn stops_and_continues(signal: Signal) {
    let Some(job) = Job::start(CHILD) else { return };
    let (pid, _) = job.move_meant();
    job.goes_on();
    let tree = job.copies("prog.py")[0];
    send(pid, signal);
    job.cluster.wait("it to stop there", || is_stopped(tree));
    job.cluster.wait("its shadow to stop", || is_stopped(pid));
    send(pid, Signal::SIGCONT);
    job.cluster.wait("its shadow to go on", || is_stopped(pid).err().ok_or("stopped"));
    job.goes_on();
    job.go(3);
    assert_eq!(job.status(), "3");
}

#[test]
fn a_stop_from_the_keyboard_stops_both_and_a_continue_continues_both() {
    stops_and_continues(Signal::SIGTSTP);
}

#[test]
fn a_stop_that_nobody_can_catch_stops_both() {
    stops_and_continues(Signal::SIGSTOP);
}

#[test]
fn the_end_of_the_shadow_ends_the_tree() {
    let Some(job) = Job::start(CHILD) else { return };
    let (pid, out) = job.move_meant();
    job.goes_on();
    send(pid, Signal::SIGKILL);
    assert_eq!(job.status(), "137");
    let ended = job.cluster.wait_phase(out.record.id.as_str(), OffloadPhase::Ended);
    assert_eq!(ended.record.exit, Some(ExitStatus::Signal(9)));
    assert_eq!(job.copies("prog.py"), Vec::<i32>::new());
}
