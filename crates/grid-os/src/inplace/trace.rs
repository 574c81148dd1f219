//! Every thread of one process, traced. Owns seizing, trapping, running one of them from stop to stop, and letting go;
//! never changes registers or memory.
//!
//! Signals: a traced thread stops before it takes one, and goes on here without it. None reaches the old program but a
//! SIGKILL. Which were taken is kept.
//!
//! Invariant: a thread is resumed only by [`Tracees::go_on`], and only the one that executes.
#![allow(unsafe_code)]

use super::{InPlaceError, Step, registers};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;

/// What a thread told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// At the entry or the exit of a system call.
    Call,
    /// The new program is loaded.
    Executed,
    /// In the trap that was asked for, or by job control.
    Trap,
    /// About to take this signal.
    Signal(i32),
    /// It is gone; the status of `wait(2)`.
    Ended(i32),
}

impl Event {
    /// `WSTOPSIG`, `PTRACE_O_TRACESYSGOOD` and the event in the bits above, as ptrace(2) describes them.
    fn of(status: i32) -> Self {
        let signal = libc::WSTOPSIG(status);
        match status >> 16 {
            _ if !libc::WIFSTOPPED(status) => Event::Ended(status),
            libc::PTRACE_EVENT_EXEC => Event::Executed,
            0 if signal == libc::SIGTRAP | 0x80 => Event::Call,
            0 => Event::Signal(signal),
            _ => Event::Trap,
        }
    }
}

/// The threads.
pub(super) struct Tracees {
    /// Their process.
    pub(super) pid: i32,
    /// The one that will execute: the first, or where that has ended another one.
    pub(super) tid: i32,
    /// Signals that were taken.
    pub(super) swallowed: BTreeSet<i32>,
    /// Job control had stopped the process when it was seized.
    pub(super) stopped: bool,
    /// A SIGCONT that comes out is the one that was sent here.
    own_continue: bool,
    tids: BTreeSet<i32>,
}

impl Tracees {
    /// Seizes every thread of a frozen process and has each trap before it runs.
    pub(super) fn seize(pid: i32, note: &mut dyn FnMut(Step)) -> Result<Self, InPlaceError> {
        let mut tracees = Self {
            pid,
            tid: pid,
            swallowed: BTreeSet::new(),
            stopped: false,
            own_continue: false,
            tids: BTreeSet::new(),
        };
        tracees.look_at_job_control();
        loop {
            let new: Vec<i32> = threads(pid)?.into_iter().filter(|tid| !tracees.tids.contains(tid)).collect();
            let mut found = false;
            for tid in new {
                found |= tracees.seize_one(tid)?;
                note(Step::SeizedOne);
            }
            if !found {
                break;
            }
        }
        let first = *tracees.tids.first().ok_or(InPlaceError::Ended { pid, status: None })?;
        tracees.tid = if tracees.tids.contains(&pid) { pid } else { first };
        Ok(tracees)
    }

    /// A thread that job control stopped and v1's freezer holds cannot be seized: `PTRACE_SEIZE` waits until it has moved
    /// from one stop to the other, which it does only when thawed. A SIGCONT takes the stop from it; the freezer keeps
    /// holding it. (Under v2 a stopped thread is stopped as ever, and can be seized.) Either way it is stopped anew later.
    fn look_at_job_control(&mut self) {
        let held_by_v1 = |tid| state(self.pid, tid) == Some('D');
        let tids = threads(self.pid).unwrap_or_default();
        let stopped = |tid: &i32| wait_channel(self.pid, *tid) == "do_signal_stop";
        // One is enough: the freezer may have come between the first thread and the last.
        self.stopped = tids.iter().any(|tid| state(self.pid, *tid) == Some('T') || stopped(tid));
        if tids.iter().any(|tid| held_by_v1(*tid)) {
            self.own_continue = !is_pending(self.pid, libc::SIGCONT);
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGCONT);
        }
    }

    /// False where the thread has ended meanwhile.
    fn seize_one(&mut self, tid: i32) -> Result<bool, InPlaceError> {
        let options = Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESYSGOOD;
        let thread = Pid::from_raw(tid);
        let seized = ptrace::seize(thread, options).and_then(|()| {
            self.tids.insert(tid);
            ptrace::interrupt(thread)
        });
        match seized {
            Ok(()) => Ok(true),
            Err(_) if matches!(state(self.pid, tid), None | Some('Z' | 'X')) => Ok(false),
            Err(e) => Err(InPlaceError::Seize { tid, source: e.into() }),
        }
    }

    /// Waits until every thread is in its trap. The trap comes before any signal is taken and before user code.
    pub(super) fn await_traps(&mut self) -> Result<(), InPlaceError> {
        let mut left = self.tids.clone();
        while !left.is_empty() {
            let (tid, event) = self.next()?;
            self.swallow(event);
            left.remove(&tid);
        }
        Ok(())
    }

    /// Takes a signal away, and keeps which.
    fn swallow(&mut self, event: Event) {
        match event {
            Event::Signal(libc::SIGCONT) if self.own_continue => self.own_continue = false,
            Event::Signal(signal) => drop(self.swallowed.insert(signal)),
            _ => {}
        }
    }

    /// The next event of any thread. The end of the one that executes, or of the process, is an error.
    fn next(&mut self) -> Result<(i32, Event), InPlaceError> {
        let (tid, status) = wait_for_any(self.pid).map_err(|e| match e {
            // No thread was left to trace: it died before it could be seized.
            Errno::ECHILD => InPlaceError::Ended { pid: self.pid, status: None },
            e => InPlaceError::Wait { pid: self.pid, source: e.into() },
        })?;
        let event = Event::of(status);
        if matches!(event, Event::Ended(_)) {
            self.tids.remove(&tid);
            if tid == self.tid || self.tids.is_empty() {
                return Err(InPlaceError::Ended { pid: self.pid, status: Some(status) });
            }
        }
        Ok((tid, event))
    }

    /// Lets the executing thread go on to the entry or the exit of a system call, or to its exec, past every signal.
    /// One that comes when it is no longer at the instruction where it makes its calls (`at`) is the kernel's answer to
    /// that call: it will not be made, and what comes after is the old program.
    pub(super) fn go_on(&mut self, at: u64) -> Result<Event, InPlaceError> {
        self.resume()?;
        loop {
            match self.next()? {
                // Executed: told under the number of the process, whichever thread did it.
                (tid, Event::Executed) => {
                    self.tid = tid;
                    return Ok(Event::Executed);
                }
                (tid, Event::Call) if tid == self.tid => return Ok(Event::Call),
                (tid, event) if tid == self.tid => {
                    let there = registers::is_at(self.tid, at).map_err(self.control("read the registers of"))?;
                    if matches!(event, Event::Signal(_)) && !there {
                        return Err(self.control("make a system call in")(Errno::ENOSYS));
                    }
                    self.swallow(event);
                    self.resume()?;
                }
                // Another thread that ends, as the exec makes it.
                _ => {}
            }
        }
    }

    fn resume(&self) -> Result<(), InPlaceError> {
        ptrace::syscall(Pid::from_raw(self.tid), None).map_err(self.control("continue"))
    }

    /// An error of ptrace about the executing thread.
    pub(super) fn control(&self, action: &'static str) -> impl Fn(Errno) -> InPlaceError + use<> {
        let tid = self.tid;
        move |e| InPlaceError::Control { action, tid, source: e.into() }
    }

    /// Blocks every signal for the executing thread, or none.
    pub(super) fn block_signals(&self, all: bool) -> Result<(), InPlaceError> {
        let mask: u64 = if all { !0 } else { 0 };
        // SAFETY: reads as many bytes as it is told from a live local.
        let set = unsafe { libc::ptrace(PTRACE_SETSIGMASK, self.tid, size_of_val(&mask), &raw const mask) };
        Errno::result(set).map(drop).map_err(self.control("set the signal mask of"))
    }

    /// Takes from the executing thread what would lead it away from its call: dispatch of system calls to the program
    /// itself (`PR_SET_SYSCALL_USER_DISPATCH`). Gives where the critical section of its restartable sequence is noted
    /// (`rseq(2)`): armed for where the call is made, the kernel would jump to the old program's code.
    pub(super) fn undivert(&self) -> Option<u64> {
        // `struct ptrace_sud_config`: mode (off), selector, offset, length; `struct ptrace_rseq_configuration`: where the
        // `struct rseq` is, size and signature, flags.
        let (off, mut rseq) = ([0_u64; 4], [0_u64; 3]);
        // SAFETY: both read or fill as many bytes as they are told, of live locals. Older kernels refuse.
        unsafe {
            libc::ptrace(PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG, self.tid, size_of_val(&off), &raw const off);
            libc::ptrace(PTRACE_GET_RSEQ_CONFIGURATION, self.tid, size_of_val(&rseq), &raw mut rseq);
        }
        // `rseq_cs` follows two 32-bit numbers of the CPU.
        (rseq[0] != 0).then(|| rseq[0].wrapping_add(8))
    }

    /// Lets go of the new program, which runs from here on; one that was stopped is stopped before.
    pub(super) fn let_go(&self) -> Result<(), InPlaceError> {
        if self.stopped {
            kill(Pid::from_raw(self.pid), Signal::SIGSTOP).map_err(self.control("stop"))?;
        }
        ptrace::detach(Pid::from_raw(self.tid), None).map_err(self.control("let go of"))
    }
}

/// The next event of any tracee of this thread, which has no children, and does not look at those of other threads. The
/// end of the process itself is left to whoever is its parent: that can be this program.
fn wait_for_any(pid: i32) -> Result<(i32, i32), Errno> {
    let flags = libc::__WALL | libc::__WNOTHREAD;
    loop {
        // SAFETY: a zeroed siginfo_t is valid; the call fills it, and where it succeeds it told of a child.
        let (waited, info, tid, end) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let any = flags | libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT;
            let waited = Errno::result(libc::waitid(libc::P_ALL, 0, &raw mut info, any));
            (waited, info, info.si_pid(), info.si_status())
        };
        let status = match (waited, info.si_code) {
            (Err(Errno::EINTR), _) => continue,
            (Err(e), _) => return Err(e),
            (Ok(_), libc::CLD_EXITED) if tid == pid => return Ok((tid, end << 8)),
            (Ok(_), libc::CLD_KILLED | libc::CLD_DUMPED) if tid == pid => return Ok((tid, end)),
            (Ok(_), _) => take(tid, flags),
        };
        match status {
            Ok(status) => return Ok((tid, status)),
            // It went on, to its end.
            Err(Errno::EINTR | Errno::ECHILD) => {}
            Err(e) => return Err(e),
        }
    }
}

/// The event of this thread, which is there.
fn take(tid: i32, flags: i32) -> Result<i32, Errno> {
    let mut status = 0;
    // SAFETY: plain system call that fills a live local.
    Errno::result(unsafe { libc::waitpid(tid, &raw mut status, flags) }).map(|_| status)
}

/// Of `linux/ptrace.h`.
const PTRACE_SETSIGMASK: libc::c_uint = 0x420b;
const PTRACE_GET_RSEQ_CONFIGURATION: libc::c_uint = 0x420f;
const PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG: libc::c_uint = 0x4210;

pub(super) fn threads(pid: i32) -> Result<Vec<i32>, InPlaceError> {
    let listed = fs::read_dir(format!("/proc/{pid}/task"))
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect());
    listed.map_err(|source| InPlaceError::Threads { pid, source })
}

/// The letter of `/proc/PID/task/TID/stat`. A task that v1's freezer holds shows `D`, one that v2's holds what it was.
pub(super) fn state(pid: i32, tid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// For the process or its first thread.
fn is_pending(pid: i32, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = |line: &str| u64::from_str_radix(line.split_once("Pnd:")?.1.trim(), 16).ok();
    status.lines().filter_map(pending).any(|set| set >> (signal - 1) & 1 == 1)
}

fn wait_channel(pid: i32, tid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/task/{tid}/wchan")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wait_tells_is_read_as_ptrace_means_it() {
        let stopped = |signal: i32, event: i32| (event << 16) | (signal << 8) | 0x7f;
        assert_eq!(Event::of(stopped(libc::SIGTRAP | 0x80, 0)), Event::Call);
        assert_eq!(Event::of(stopped(libc::SIGTRAP, 4)), Event::Executed);
        assert_eq!(Event::of(stopped(libc::SIGTRAP, 128)), Event::Trap);
        assert_eq!(Event::of(stopped(libc::SIGTSTP, 128)), Event::Trap, "a stop by job control");
        assert_eq!(Event::of(stopped(libc::SIGTERM, 0)), Event::Signal(libc::SIGTERM));
        assert_eq!(Event::of(stopped(40, 0)), Event::Signal(40), "real-time signals have no name");
        assert_eq!(Event::of(9), Event::Ended(9));
    }
}
