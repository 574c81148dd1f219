//! Pending signals, timers and stops of the old program.

use crate::fixture::{SEVEN, Subject, freezers};
use grid_os::inplace::{InPlaceError, Replacement, exec_in_place};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

const RT: i32 = 36;

#[test]
fn pending_signals_reach_neither_the_old_program_nor_the_new_and_are_told() {
    for freezer in freezers() {
        let mut subject = Subject::start(&freezer, "signals");
        let before = subject.freeze();
        let sent = [libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2, libc::SIGTSTP, RT];
        sent.iter().for_each(|signal| subject.signal(*signal));
        let done = subject.become_shell(SEVEN).unwrap();
        // v1 takes a pending stop away with the SIGCONT that lets the process be seized.
        let told = |signal: &i32| *signal != libc::SIGTSTP || done.swallowed.contains(signal);
        assert_eq!(done.swallowed, sent.into_iter().filter(told).collect());
        assert!(!done.stopped);
        subject.assert_replaced(&before);
    }
}

#[test]
fn a_sigstop_that_is_pending_stops_nothing() {
    for freezer in freezers() {
        let mut subject = Subject::start(&freezer, "spin");
        let before = subject.freeze();
        subject.signal(libc::SIGSTOP);
        subject.become_shell(SEVEN).unwrap();
        subject.assert_replaced(&before);
    }
}

#[test]
fn a_sigkill_that_is_pending_is_heeded() {
    for freezer in freezers() {
        let mut subject = Subject::start(&freezer, "spin");
        let before = subject.freeze();
        subject.signal(libc::SIGKILL);
        let error = subject.become_shell(SEVEN).unwrap_err();
        assert!(!matches!(error, InPlaceError::TimedOut { .. }), "{error}");
        subject.assert_dead(&before);
    }
}

/// v2: the kernel ends it when the signal is sent, frozen or not, and the caller learns. v1's freezer makes every thread
/// look as if it had a signal already: this one waits, and is taken away as any other.
#[test]
fn a_signal_that_ends_it_by_default_before_it_is_traced_ends_it_or_is_taken() {
    for freezer in freezers() {
        let mut subject = Subject::start(&freezer, "spin");
        let before = subject.freeze();
        subject.signal(libc::SIGHUP);
        match subject.become_shell(SEVEN) {
            Ok(done) => {
                assert_eq!(done.swallowed, BTreeSet::from([libc::SIGHUP]));
                subject.assert_replaced(&before);
            }
            Err(error) => {
                assert!(subject.group.freezes_by_v2(), "{error}");
                let status = subject.child.wait().unwrap();
                assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGHUP));
                assert_eq!(subject.counted(), before);
            }
        }
    }
}

/// From the first seize on such a signal is taken away as any other.
#[test]
fn a_signal_that_ends_it_by_default_does_not_when_it_is_traced() {
    for freezer in freezers() {
        let mut subject = Subject::start(&freezer, "spin");
        let before = subject.freeze();
        let pid = nix::unistd::Pid::from_raw(subject.pid);
        let mut at = |step| {
            if step < grid_os::inplace::Step::Entered {
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
            }
        };
        let done = subject.become_it("/bin/sh", &["sh", "-c", SEVEN], &[], &mut at).unwrap();
        assert_eq!(done.swallowed, BTreeSet::from([libc::SIGHUP]));
        subject.assert_replaced(&before);
    }
}

#[test]
fn alarms_of_the_old_program_do_not_end_the_new() {
    for freezer in freezers() {
        let mut subject = Subject::start(&freezer, "alarm");
        let before = subject.freeze();
        // Without its standard input's end it would live on; an alarm would have come by then.
        subject.become_shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo new; read line; exit 7").unwrap();
        subject.assert_replaced(&before);
    }
}

#[test]
fn a_process_that_was_stopped_stays_stopped_until_it_is_continued() {
    for freezer in freezers() {
        for mode in ["spin", "signals"] {
            let mut subject = Subject::start(&freezer, mode);
            subject.signal(libc::SIGSTOP);
            await_state(subject.pid, 'T');
            let before = subject.freeze();
            let done = subject.become_shell(SEVEN).unwrap();
            assert!(done.stopped);
            await_state(subject.pid, 'T');
            let args = std::fs::read_to_string(format!("/proc/{}/cmdline", subject.pid)).unwrap();
            assert!(args.starts_with("sh\0-c\0"), "{args:?}");
            subject.signal(libc::SIGCONT);
            subject.assert_replaced(&before);
        }
    }
}

#[test]
fn the_new_program_can_start_with_every_signal_blocked() {
    for freezer in freezers() {
        for (hold_signals, mask) in [(true, "fffffffffffbfeff"), (false, "0000000000000000")] {
            let mut subject = Subject::start(&freezer, "odd");
            let before = subject.freeze();
            let argv = [c"grep", c"SigBlk", c"/proc/self/status"].map(|s| s.to_owned());
            let replacement = Replacement {
                pid: subject.pid,
                program: Path::new("/bin/grep"),
                argv: &argv,
                env: &[],
                keep: &[],
                hold_signals,
            };
            let thaw = &mut || subject.group.set_frozen(false).map_err(io::Error::other);
            exec_in_place(replacement, thaw).unwrap();
            assert_eq!(subject.line(), format!("SigBlk:\t{mask}"));
            assert_eq!(subject.counted(), before);
        }
    }
}

fn await_state(pid: i32, wanted: char) {
    for _ in 0..2000 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        if stat.rsplit_once(") ").unwrap().1.starts_with(wanted) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("{pid} is not {wanted}");
}
