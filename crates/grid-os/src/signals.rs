//! Signals by their numbers, the real-time ones among them: sending, ending and stopping oneself by one, and what became
//! of children.
#![allow(unsafe_code)]

use grid_types::event::ExitStatus;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, raise};
use std::time::{Duration, Instant};

/// Takes every signal that can be taken: none is delivered any more, all wait to be read from a signalfd.
///
/// # Errors
/// The system call.
pub fn block_all() -> std::io::Result<SigSet> {
    let all = SigSet::all();
    all.thread_block()?;
    Ok(all)
}

/// Waits for a signal that is blocked; false where it did not come within that time. What else interrupts the wait does not
/// end it.
///
/// # Errors
/// The system call.
pub fn await_one(signal: Signal, within: Duration) -> std::io::Result<bool> {
    let mut set = SigSet::empty();
    set.add(signal);
    let deadline = Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = libc::timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        // SAFETY: plain system call on live locals.
        let got = unsafe { libc::sigtimedwait(set.as_ref(), std::ptr::null_mut(), &raw const left) };
        match Errno::result(got) {
            Ok(_) => return Ok(true),
            Err(Errno::EAGAIN) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Ends this process by a signal's default action, without a core; with 128 and its number where that does not end it.
pub fn die_by(signo: i32) -> ! {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain system calls on live locals; the process ends here and runs no handler of ours again.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::signal(signo, libc::SIG_DFL);
        let mut only = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut only);
        libc::sigaddset(&raw mut only, signo);
        libc::raise(signo);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const only, std::ptr::null_mut());
        libc::_exit(128 + signo)
    }
}

/// Stops this process, whatever it blocks; returns when it goes on.
///
/// # Errors
/// The system call.
pub fn stop_self() -> std::io::Result<()> {
    Ok(raise(Signal::SIGSTOP)?)
}

/// Sends a signal to a process, or with a negative number to a group; never to all.
///
/// # Errors
/// The system call; `EINVAL` for a number that does not name one process or one group.
pub fn send(target: i32, signo: i32) -> std::io::Result<()> {
    if matches!(target, -1..=0) {
        return Err(Errno::EINVAL.into());
    }
    // SAFETY: plain system call.
    Errno::result(unsafe { libc::kill(target, signo) })?;
    Ok(())
}

/// What happened to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It ended and is reaped.
    Ended(ExitStatus),
    /// It was stopped by this signal.
    Stopped(i32),
    /// It goes on.
    Continued,
}

/// The next news of a child, without waiting; none where there is none now.
///
/// # Errors
/// `ECHILD` where there are no children.
pub fn next_change() -> Result<Option<(i32, Change)>, Errno> {
    let mut status = 0;
    // SAFETY: the kernel writes one int into a live one.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::WUNTRACED | libc::WCONTINUED) };
    let change = match Errno::result(pid)? {
        0 => return Ok(None),
        _ if libc::WIFEXITED(status) => Change::Ended(ExitStatus::Code(libc::WEXITSTATUS(status))),
        _ if libc::WIFSIGNALED(status) => Change::Ended(ExitStatus::Signal(libc::WTERMSIG(status))),
        _ if libc::WIFSTOPPED(status) => Change::Stopped(libc::WSTOPSIG(status)),
        _ => Change::Continued,
    };
    Ok(Some((pid, change)))
}
