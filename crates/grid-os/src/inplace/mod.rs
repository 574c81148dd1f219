//! A frozen process becomes another program in place: by one injected `execve`, so that its PID, parent, process group,
//! session, terminal, working directory and open descriptors stay, and not one instruction of the old program runs.
//!
//! Owns the process from the first `PTRACE_SEIZE` to the detach, or to its death. Never freezes or thaws (the caller's
//! closure does), never starts a program of its own, never waits for a process that it does not trace.
//!
//! ```text
//!  caller: freezes, dumps, forwards what is pending, SIGKILLs the others of the group (`end_others`)
//!     │
//!  frozen ── Seized ── Thawed ── Trapped ── Written ── Entered ── Executed ── detached: the new program runs
//!            every     by the    no thread  strings,   stopped    stopped before its
//!            thread    caller    ran        registers  in execve  first instruction
//!     └──────────┴─────────┴─────────┴──────────┴──────────┴──────────┴─▶ failure: SIGKILL, `InPlaceError`
//! ```
//!
//! Invariants:
//! - From `Seized` on every thread is traced with `EXITKILL`: where the tracer dies, the process dies. Before that it is
//!   frozen, and whoever takes over ends it before they thaw.
//! - After an error the process is dead, or (not thawed yet) dies when it is thawed. It never runs.
//! - All of ptrace is done by one thread, made for this: it has no children, so that its waiting for *any* child
//!   (`__WNOTHREAD`) cannot meet one of another thread. In turn nobody else in this program may wait for the process, or
//!   for any child at all (`waitpid(-1)`), meanwhile.
//! - Nothing diverts the injected calls into the old program: restartable sequences (`rseq`) are disarmed, dispatch of
//!   system calls to the program is switched off, system calls under way are not made again, and a signal that answers a
//!   call is a failure.
//!
//! What `execve(2)` keeps, the new program finds: ignored signals stay ignored, `no_new_privs`, limits, nice value, OOM
//! score, parent-death signal, record locks, umask, descriptors without close-on-exec (it closes what it does not need),
//! children (dead ones want to be reaped). Interval timers are disarmed here, and the signal mask is the one of
//! [`Replacement::hold_signals`]. Signals that were pending are taken away and told ([`Replaced::swallowed`]). A process
//! that job control had stopped is stopped again before the new program's first instruction; its parent may see it
//! continue and stop meanwhile (and one that was continued while v1's freezer held it is stopped, too).
//!
//! What cannot be undone: a signal that ends a process by default does so when it is *sent*, also to a process that v2's
//! freezer holds (v1's makes it wait). Only a tracer keeps that from happening, so from the first `PTRACE_SEIZE` on.

#[cfg(target_arch = "x86_64")]
mod inject;
#[cfg(target_arch = "x86_64")]
mod memory;
mod obstacle;
#[cfg(target_arch = "x86_64")]
mod registers;
#[cfg(target_arch = "x86_64")]
mod trace;
#[cfg(target_arch = "x86_64")]
mod watch;

pub use obstacle::{Obstacle, can_exec_in_place};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long all of it may take, the caller's thaw included. A thread that the kernel does not let go of holds it up.
pub const LIMIT: Duration = Duration::from_secs(20);

/// What becomes of a process.
#[derive(Clone, Copy, Debug)]
pub struct Replacement<'a> {
    /// Which process: frozen, and confirmed by the kernel.
    pub pid: i32,
    /// The new program, absolute, as the process sees it.
    pub program: &'a Path,
    /// Its arguments, its name first.
    pub argv: &'a [CString],
    /// Its environment, whole: `NAME=value`.
    pub env: &'a [CString],
    /// Descriptors that must survive: close-on-exec is taken from those that have it.
    pub keep: &'a [RawFd],
    /// The new program starts with every signal blocked, so that none is lost or ends it before it is ready to take
    /// them; it must unblock them. Otherwise it starts with none blocked.
    pub hold_signals: bool,
}

/// The old program is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Signals that were pending for the old program, or came until the exec, and were taken away. What the caller has
    /// not forwarded yet is among them.
    pub swallowed: BTreeSet<i32>,
    /// Job control had stopped the process; it is stopped again.
    pub stopped: bool,
}

/// How far it went. Told to the watcher of [`exec_in_place_watched`] when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// One thread is traced, others may be left.
    SeizedOne,
    /// Every thread is traced and will trap before it runs.
    Seized,
    /// The caller's thaw returned.
    Thawed,
    /// Every thread is in its trap.
    Trapped,
    /// Strings are in the process's memory; descriptors are kept, timers disarmed.
    Written,
    /// The process is stopped at the entry of its last system call.
    Entered,
    /// The new program is loaded and has not run.
    Executed,
}

/// What failed. The process has got a SIGKILL.
#[derive(Debug, thiserror::Error)]
pub enum InPlaceError {
    /// Only x86-64 is known.
    #[error("replacing a program in place is unsupported on this architecture")]
    Unsupported,
    /// There is no such process.
    #[error("open process {pid}: {source}")]
    Open {
        /// Which.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The thread that traces could not be made, or ended badly.
    #[error("the tracing thread: {0}")]
    Tracer(io::Error),
    /// The threads could not be listed.
    #[error("list the threads of process {pid}: {source}")]
    Threads {
        /// Of which process.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
    /// A thread could not be taken.
    #[error("seize thread {tid}: {source}")]
    Seize {
        /// Which.
        tid: i32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The caller's thaw failed.
    #[error("thaw: {0}")]
    Thaw(io::Error),
    /// An event of the process could not be awaited.
    #[error("wait for process {pid}: {source}")]
    Wait {
        /// Which.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
    /// It died on the way: by somebody else's SIGKILL, or by a signal that ended it when it came, while it was frozen.
    #[error("process {pid} ended before the exec{}", status.map(|s| format!(" (wait status {s:#x})")).unwrap_or_default())]
    Ended {
        /// Which.
        pid: i32,
        /// As `wait(2)` tells it, where the tracer saw it.
        status: Option<i32>,
    },
    /// Its memory could not be read or written.
    #[error("{action} the memory of process {pid}: {source}")]
    Memory {
        /// What was tried.
        action: &'static str,
        /// Of which process.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
    /// No private mapping has a `syscall` instruction.
    #[error("process {pid} has no system call instruction in its private mappings")]
    NoInstruction {
        /// Which.
        pid: i32,
    },
    /// No private writable mapping is large enough for arguments and environment.
    #[error("process {pid} has no writable private mapping of {needed} bytes")]
    NoRoom {
        /// Which.
        pid: i32,
        /// What arguments and environment take.
        needed: usize,
    },
    /// Registers or the signal mask could not be read or set, or the thread did not go on.
    #[error("{action} thread {tid}: {source}")]
    Control {
        /// What was tried.
        action: &'static str,
        /// With which thread.
        tid: i32,
        /// What the kernel said.
        source: io::Error,
    },
    /// It runs a 32-bit program.
    #[error("process {pid} does not run 64-bit code")]
    NotSixtyFour {
        /// Which.
        pid: i32,
    },
    /// A system call before the exec failed.
    #[error("{call} in process {pid}: {source}")]
    Call {
        /// Which.
        call: &'static str,
        /// In which process.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
    /// A descriptor that is to be kept is not there.
    #[error("keep descriptor {fd} of process {pid}: {source}")]
    Keep {
        /// Which.
        fd: RawFd,
        /// Of which process.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
    /// A path or an argument has a NUL byte, or the path is not absolute.
    #[error("{0} is no absolute path of a program")]
    Program(PathBuf),
    /// The kernel refused the exec.
    #[error("execute {program} in process {pid}: {source}")]
    Exec {
        /// Which program.
        program: PathBuf,
        /// In which process.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
    /// It took too long.
    #[error("process {pid} was not replaced within {LIMIT:?}; the last step done was {last:?}")]
    TimedOut {
        /// Which.
        pid: i32,
        /// How far it went.
        last: Option<Step>,
    },
}

/// Turns a frozen process into another program. `thaw` thaws its group, once, when every thread is traced; whatever else
/// is in the group has been ended ([`end_others`]) and dies then.
///
/// # Errors
/// What failed first. The process has got a SIGKILL then: it is dead, or dies when the caller thaws it.
pub fn exec_in_place(
    replacement: Replacement<'_>,
    thaw: &mut dyn FnMut() -> io::Result<()>,
) -> Result<Replaced, InPlaceError> {
    exec_in_place_watched(replacement, thaw, &mut |_| {})
}

/// The same, told of each step on the thread that traces. For tests that stop in the middle.
///
/// # Errors
/// As [`exec_in_place`].
pub fn exec_in_place_watched(
    replacement: Replacement<'_>,
    thaw: &mut dyn FnMut() -> io::Result<()>,
    watcher: &mut (dyn FnMut(Step) + Send),
) -> Result<Replaced, InPlaceError> {
    #[cfg(target_arch = "x86_64")]
    return watch::run(replacement, thaw, watcher);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (thaw, watcher);
        // Nobody replaces it, and it must not run.
        let _ = kill(Pid::from_raw(replacement.pid), Signal::SIGKILL);
        Err(InPlaceError::Unsupported)
    }
}

/// SIGKILL for every process of a frozen group but the one that stays: they die at the thaw, before they run.
///
/// # Errors
/// Where one that lives may not be signalled.
pub fn end_others(stays: i32, group: impl IntoIterator<Item = i32>) -> io::Result<()> {
    for pid in group.into_iter().filter(|pid| *pid != stays && *pid > 0) {
        match kill(Pid::from_raw(pid), Signal::SIGKILL) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
