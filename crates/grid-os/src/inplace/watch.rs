//! The caller's side: makes the tracing thread, thaws when it asks, keeps the time, and ends the process where something
//! failed. Owns the pidfd; never calls ptrace.
//!
//! ```text
//!  caller's thread                     tracing thread
//!  waits, at most LIMIT  ◀── thaw? ──  every thread seized
//!  thaw()                ── result ─▶  traps, exec, detach
//!  joins                 ◀── ends ───  (or SIGKILL and an error)
//! ```

use super::trace::Tracees;
use super::{InPlaceError, LIMIT, Replaced, Replacement, Step, inject};
use crate::pidfd::PidFd;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

/// How long a process that was ended may take to be gone, before the caller gets its error all the same.
const DEATH_MS: u16 = 5_000;

pub(super) fn run(
    replacement: Replacement<'_>,
    thaw: &mut dyn FnMut() -> io::Result<()>,
    watcher: &mut (dyn FnMut(Step) + Send),
) -> Result<Replaced, InPlaceError> {
    let pid = replacement.pid;
    let pidfd = PidFd::open(pid).map_err(|source| InPlaceError::Open { pid, source })?;
    let last = Mutex::new(None);
    let mut note = |step| {
        *last.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(step);
        watcher(step);
    };
    let (result, in_time) = side_by_side(replacement, &pidfd, thaw, &mut note);
    let last = *last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let result = if in_time { result } else { result.map_err(|_| InPlaceError::TimedOut { pid, last }) };
    result.inspect_err(|_| end(&pidfd, last >= Some(Step::Thawed)))
}

/// SIGKILL, and where the process is thawed its end is awaited, so that an error means that it is over.
fn end(pidfd: &PidFd, thawed: bool) {
    let _ = pidfd.signal(libc::SIGKILL);
    if thawed {
        let _ = poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::from(DEATH_MS));
    }
}

/// Both threads, and whether the time was enough.
fn side_by_side(
    replacement: Replacement<'_>,
    pidfd: &PidFd,
    thaw: &mut dyn FnMut() -> io::Result<()>,
    note: &mut (dyn FnMut(Step) + Send),
) -> (Result<Replaced, InPlaceError>, bool) {
    let (ask, asked) = channel();
    let (answer, answered) = channel();
    std::thread::scope(|scope| {
        // Moved in here, so that a panic in `thaw` closes it and the tracing thread learns of it.
        let answer = answer;
        let body = move || {
            let result = trace(replacement, &ask, &answered, note);
            // Before this thread ends, and its tracees with it, or are let go.
            if result.is_err() {
                let _ = pidfd.signal(libc::SIGKILL);
            }
            result
        };
        match std::thread::Builder::new().name("in-place".into()).spawn_scoped(scope, body) {
            Err(e) => (Err(InPlaceError::Tracer(e)), true),
            Ok(tracer) => {
                let in_time = serve(pidfd, &asked, &answer, thaw);
                let panicked = |_| Err(InPlaceError::Tracer(io::Error::other("it panicked")));
                (tracer.join().unwrap_or_else(panicked), in_time)
            }
        }
    })
}

/// Thaws when asked, until the tracing thread is done. Past the time the process is ended, which ends all waiting for it.
fn serve(
    pidfd: &PidFd,
    asked: &Receiver<()>,
    answer: &Sender<io::Result<()>>,
    thaw: &mut dyn FnMut() -> io::Result<()>,
) -> bool {
    let deadline = Instant::now() + LIMIT;
    let mut in_time = true;
    loop {
        let word = if in_time {
            asked.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        } else {
            asked.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match word {
            // Nobody is there to hear it where the tracing thread has ended.
            Ok(()) => drop(answer.send(thaw())),
            Err(RecvTimeoutError::Disconnected) => return in_time,
            Err(RecvTimeoutError::Timeout) => {
                in_time = false;
                let _ = pidfd.signal(libc::SIGKILL);
            }
        }
    }
}

/// The whole sequence, on the tracing thread.
fn trace(
    replacement: Replacement<'_>,
    ask: &Sender<()>,
    answered: &Receiver<io::Result<()>>,
    note: &mut dyn FnMut(Step),
) -> Result<Replaced, InPlaceError> {
    let mut tracees = Tracees::seize(replacement.pid, note)?;
    note(Step::Seized);
    let gone = || InPlaceError::Thaw(io::Error::other("the caller is gone"));
    ask.send(()).map_err(|_| gone())?;
    answered.recv().map_err(|_| gone())?.map_err(InPlaceError::Thaw)?;
    note(Step::Thawed);
    tracees.await_traps()?;
    note(Step::Trapped);
    inject::replace(&mut tracees, &replacement, note)
}
