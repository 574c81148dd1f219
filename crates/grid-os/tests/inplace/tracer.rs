//! The tracer dies, its thaw fails, somebody else is in the way: then the process is dead, and never ran.

use crate::fixture::{SEVEN, Subject, freezers, replace};
use grid_os::cgroup::{Controller, Hierarchies};
use grid_os::inplace::{InPlaceError, Replacement, Step, exec_in_place};
use nix::sys::ptrace;
use nix::unistd::Pid;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, io};

const ROLE: &str = "GRID_INPLACE_TRACER";

const STEPS: [Step; 7] =
    [Step::SeizedOne, Step::Seized, Step::Thawed, Step::Trapped, Step::Written, Step::Entered, Step::Executed];

/// Not a test by itself: the next one starts this program anew, and it plays the tracer that kills itself at a step.
#[test]
fn tracer_role() {
    let Ok(role) = env::var(ROLE) else { return };
    let words: Vec<&str> = role.split(' ').collect();
    let (pid, path, step) = (words[0].parse().unwrap(), words[1], STEPS[words[2].parse::<usize>().unwrap()]);
    let group = Hierarchies::detect().unwrap().group(path, &[Controller::Freezer]);
    let result = replace(pid, &group, "/bin/sh", &["sh", "-c", SEVEN], &[], &mut |now| {
        if now == step {
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
        }
    });
    panic!("it was to die at {step:?}: {result:?}");
}

#[test]
fn a_tracer_that_dies_takes_the_process_with_it_at_every_step() {
    for freezer in freezers() {
        for (number, mode) in (0..STEPS.len()).flat_map(|n| [(n, "spin"), (n, "odd")]) {
            let mut subject = Subject::start(&freezer, mode);
            let before = subject.freeze();
            let mut tracer = Command::new(env::current_exe().unwrap());
            tracer.args(["--exact", "tracer::tracer_role", "--nocapture"]).stdout(Stdio::null());
            tracer.env(ROLE, format!("{} {} {number}", subject.pid, subject.group.path()));
            if subject.group.freezes_by_v2() {
                tracer.env("GRID_FREEZER", "v2");
            }
            assert_eq!(tracer.status().unwrap().signal(), Some(9));
            // As whoever takes over would, at worst.
            subject.group.set_frozen(false).unwrap();
            subject.assert_dead(&before);
        }
    }
}

#[test]
fn where_the_thaw_fails_the_process_is_dead_when_it_is_thawed() {
    for freezer in freezers() {
        let mut subject = Subject::start(&freezer, "spin");
        let before = subject.freeze();
        let replacement = Replacement {
            pid: subject.pid,
            program: Path::new("/bin/sh"),
            argv: &[],
            env: &[],
            keep: &[],
            hold_signals: false,
        };
        let error = exec_in_place(replacement, &mut || Err(io::Error::other("no"))).unwrap_err();
        assert_eq!(error.to_string(), "thaw: no");
        subject.group.set_frozen(false).unwrap();
        subject.assert_dead(&before);
    }
}

#[test]
fn a_thaw_that_panics_ends_the_process() {
    for freezer in freezers() {
        let mut subject = Subject::start(&freezer, "spin");
        let before = subject.freeze();
        let replacement = Replacement {
            pid: subject.pid,
            program: Path::new("/bin/sh"),
            argv: &[],
            env: &[],
            keep: &[],
            hold_signals: false,
        };
        catch_unwind(AssertUnwindSafe(|| exec_in_place(replacement, &mut || panic!("by the test")))).unwrap_err();
        subject.group.set_frozen(false).unwrap();
        subject.assert_dead(&before);
    }
}

#[test]
fn a_process_that_somebody_traces_is_ended_and_not_replaced() {
    for freezer in freezers() {
        let mut subject = Subject::start(&freezer, "spin");
        let before = subject.freeze();
        ptrace::seize(Pid::from_raw(subject.pid), ptrace::Options::empty()).unwrap();
        let error = subject.become_shell(SEVEN).unwrap_err();
        assert!(matches!(error, InPlaceError::Seize { .. }), "{error}");
        subject.group.set_frozen(false).unwrap();
        subject.assert_dead(&before);
    }
}

/// A process that CRIU restored has its instruction pointer *on* the call that it makes again.
#[test]
fn an_instruction_pointer_on_the_call_does_not_matter() {
    for freezer in freezers().into_iter().filter(|f| f.group("x", &[Controller::Freezer]).freezes_by_v2()) {
        let mut subject = Subject::start(&freezer, "odd");
        let before = subject.freeze();
        let pid = Pid::from_raw(subject.pid);
        ptrace::seize(pid, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(pid).unwrap();
        nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::__WALL)).unwrap();
        let mut registers = ptrace::getregs(pid).unwrap();
        registers.rip -= 2;
        registers.rax = registers.orig_rax;
        registers.orig_rax = u64::MAX;
        ptrace::setregs(pid, registers).unwrap();
        ptrace::detach(pid, None).unwrap();
        subject.become_shell(SEVEN).unwrap();
        subject.assert_replaced(&before);
    }
}

/// Other children of this process can be waited for while one of them is replaced, and are not waited for by it.
#[test]
fn other_children_are_left_alone() {
    for freezer in freezers() {
        let mut ended = Command::new("/bin/sh").args(["-c", "exit 3"]).spawn().unwrap();
        let mut subject = Subject::start(&freezer, "odd");
        let before = subject.freeze();
        subject.become_shell(SEVEN).unwrap();
        assert_eq!(ended.wait().unwrap().code(), Some(3));
        subject.assert_replaced(&before);
    }
}
