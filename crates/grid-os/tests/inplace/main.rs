//! `grid_os::inplace` on real processes: frozen, replaced, and proven not to have run one instruction more.
#![allow(clippy::unwrap_used)]

mod fixture;
mod jobs;
mod obstacles;
mod signals;
mod tracer;

use fixture::{SEVEN, Subject, freezers, identity};
use grid_os::inplace::{InPlaceError, can_exec_in_place};
use std::path::Path;

/// One of each kind, under each freezer.
fn replaced(mode: &str) {
    for freezer in freezers() {
        let mut subject = Subject::start(&freezer, mode);
        let before = subject.freeze();
        let was = identity(subject.pid);
        subject.become_shell(SEVEN).unwrap();
        assert_eq!(identity(subject.pid), was);
        subject.assert_replaced(&before);
    }
}

#[test]
fn two_spinning_threads_do_not_count_on() {
    replaced("spin");
}

#[test]
fn threads_in_seven_system_calls_do_not_return() {
    replaced("odd");
}

#[test]
fn stacks_of_ones_own_do_not_matter() {
    replaced("stack");
}

#[test]
fn descendants_end_and_do_not_run() {
    replaced("family");
}

#[test]
fn a_first_thread_that_ended_does_not_matter() {
    for freezer in freezers() {
        let mut subject = Subject::start(&freezer, "leaderless");
        let before = subject.freeze();
        subject.become_shell(SEVEN).unwrap();
        subject.assert_replaced(&before);
    }
}

/// Both would lead the injected call back into the old program.
#[test]
fn an_armed_sequence_and_a_dispatch_of_calls_divert_nothing() {
    replaced("sequence");
    replaced("dispatch");
}

#[test]
fn a_parent_that_waits_for_its_vfork_child_is_replaced_when_that_is_dead() {
    replaced("vfork");
}

const PYTHON: &str = r#"
import mmap, os, select, sys, threading, time
m = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 4096)
r, w = os.pipe()
lock = threading.Lock(); lock.acquire()
poll = select.poll(); poll.register(r, select.POLLIN)
epoll = select.epoll(); epoll.register(r, select.EPOLLIN)
def run(slot, call):
    while True:
        call(); m[slot] = (m[slot] + 1) % 256
calls = [lock.acquire, lambda: poll.poll(3600000), lambda: time.sleep(3600), epoll.poll, lambda: os.read(r, 1)]
for n, call in enumerate(calls):
    threading.Thread(target=run, args=(8 * n, call), daemon=True).start()
print("ready", flush=True)
while True:
    time.sleep(0.0005); m[64] = (m[64] + 1) % 256
"#;

#[test]
fn a_python_with_five_threads_in_odd_calls_becomes_another_program() {
    for freezer in freezers() {
        let mut subject = Subject::start_argv(&freezer, &["/usr/bin/python3", "-c", PYTHON]);
        let before = subject.freeze();
        subject.become_shell(SEVEN).unwrap();
        assert_eq!(std::fs::read_dir(format!("/proc/{}/task", subject.pid)).unwrap().count(), 1);
        subject.assert_replaced(&before);
    }
}

#[test]
fn an_ordinary_user_without_new_privileges_is_replaced_as_itself() {
    let privileges: [&[&str]; 2] = [&[], &["--no-new-privs"]];
    for (freezer, more) in freezers().iter().flat_map(|f| privileges.map(|p| (f, p))) {
        let prefix = [&["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"], more].concat();
        let mut subject = Subject::start_as(freezer, &prefix, "spin");
        can_exec_in_place(subject.pid, Path::new("/bin/sh")).unwrap();
        let was = identity(subject.pid);
        let before = subject.freeze();
        subject.become_shell(SEVEN).unwrap();
        assert_eq!(identity(subject.pid), was);
        subject.assert_replaced(&before);
    }
}

#[test]
fn arguments_environment_and_descriptors_are_those_asked_for() {
    const SAY: &str = "import os, sys; print(sys.argv[1:], sorted(os.environ.items()), \
        [n for n in (40, 41) if os.path.exists(f'/proc/self/fd/{n}')])";
    for freezer in freezers() {
        let mut subject = Subject::start(&freezer, "kept");
        let before = subject.freeze();
        let argv = ["python3", "-S", "-c", SAY, "", "two words", "ü"];
        subject.become_it("/usr/bin/python3", &argv, &[0, 41], &mut |_| {}).unwrap();
        let said = subject.line();
        assert!(said.starts_with("['', 'two words', 'ü'] ["), "{said}");
        assert!(said.contains("('NEW', 'yes'), ('PATH', '/usr/bin:/bin')"), "{said}");
        assert!(said.ends_with("[41]"), "40 was close-on-exec and not to be kept: {said}");
        assert_eq!(subject.counted(), before);
    }
}

#[test]
fn arguments_larger_than_the_stack_lie_elsewhere() {
    let long = "x".repeat(100_000);
    for freezer in freezers() {
        let mut subject = Subject::start(&freezer, "spin");
        let before = subject.freeze();
        let argv = ["sh", "-c", SEVEN, &long, &long];
        subject.become_it("/bin/sh", &argv, &[], &mut |_| {}).unwrap();
        subject.assert_replaced(&before);
    }
}

#[test]
fn where_the_exec_is_refused_the_process_is_dead_and_never_ran() {
    for freezer in freezers() {
        for (program, errno) in [("/nonexistent", 2), ("/etc/passwd", 13), ("/etc", 13)] {
            let mut subject = Subject::start(&freezer, "spin");
            let before = subject.freeze();
            let error = subject.become_it(program, &["x"], &[], &mut |_| {}).unwrap_err();
            match &error {
                InPlaceError::Exec { source, .. } => assert_eq!(source.raw_os_error(), Some(errno), "{error}"),
                other => panic!("{other}"),
            }
            assert!(grid_os::proc::has_ended(subject.pid), "it is over when the error says so");
            subject.assert_dead(&before);
        }
    }
}

#[test]
fn a_descriptor_that_is_not_there_or_a_relative_program_ends_the_process() {
    for freezer in freezers() {
        let mut subject = Subject::start(&freezer, "spin");
        let before = subject.freeze();
        let error = subject.become_it("/bin/sh", &["sh"], &[99], &mut |_| {}).unwrap_err();
        assert!(matches!(error, InPlaceError::Keep { fd: 99, .. }), "{error}");
        subject.assert_dead(&before);
        let mut subject = Subject::start(&freezer, "spin");
        let before = subject.freeze();
        let error = subject.become_it("bin/sh", &["sh"], &[], &mut |_| {}).unwrap_err();
        assert!(matches!(error, InPlaceError::Program(_)), "{error}");
        subject.assert_dead(&before);
    }
}

#[test]
fn fifty_in_a_row_leave_nothing_behind() {
    let own = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    for freezer in freezers() {
        for round in 0..50 {
            let mut subject = Subject::start(&freezer, ["spin", "odd"][round % 2]);
            let before = subject.freeze();
            subject.become_shell(SEVEN).unwrap();
            subject.assert_replaced(&before);
        }
    }
    // Other tests run beside this one: a leak of fifty would show.
    assert!(own("fd") < 100 && own("task") < 50, "{} {}", own("fd"), own("task"));
}
