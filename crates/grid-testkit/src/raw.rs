//! What real programs do and safe Rust does not: fork without exec, memory shared with a child, a signal handler; and
//! for their starter, all descriptors at once. Owns all `unsafe` of the test programs: what is tested to move must be like what people run, so
//! the rule that `unsafe` lives in grid-os has this one exception, which never ships.
#![allow(unsafe_code)]

use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{ForkResult, fork};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Words in memory that parent and child share (`MAP_SHARED | MAP_ANONYMOUS`), from before a fork. Never unmapped.
pub fn shared_words(count: usize) -> nix::Result<&'static [AtomicU64]> {
    let bytes = NonZeroUsize::new(count * size_of::<AtomicU64>()).ok_or(nix::Error::EINVAL)?;
    let (rights, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
    // SAFETY: a new mapping at an address of the kernel's choice replaces nothing; it is zeroed (a valid AtomicU64),
    // page-aligned, `bytes` long and never unmapped, so the slice is valid for the process's life.
    unsafe {
        let start = mmap_anonymous(None, bytes, rights, flags)?;
        Ok(std::slice::from_raw_parts(start.as_ptr().cast::<AtomicU64>(), count))
    }
}

/// Forks. Only while the process has one thread, else an error.
pub fn fork_alone() -> Result<ForkResult, String> {
    let threads = std::fs::read_dir("/proc/self/task").map_err(|e| format!("/proc/self/task: {e}"))?.count();
    if threads != 1 {
        return Err(format!("fork with {threads} threads"));
    }
    // SAFETY: with a single thread no lock of the allocator or of std can be held by one that the child lacks.
    unsafe { fork() }.map_err(|e| format!("fork: {e}"))
}

static ALARMS: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_alarm(_signal: libc::c_int) {
    ALARMS.fetch_add(1, Ordering::Relaxed);
}

/// Installs a handler that counts SIGALRM, with SA_RESTART.
pub fn count_alarms() -> nix::Result<()> {
    let action = SigAction::new(SigHandler::Handler(on_alarm), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler only adds to an atomic, which is async-signal-safe.
    unsafe { sigaction(Signal::SIGALRM, &action) }.map(drop)
}

/// How many SIGALRM were handled.
pub fn alarms() -> u64 {
    ALARMS.load(Ordering::Relaxed)
}

static TOLD: AtomicI32 = AtomicI32::new(0);

extern "C" fn on_told(signal: libc::c_int) {
    TOLD.store(signal, Ordering::Relaxed);
}

/// From now on these signals are noted in place of ending the process: see [`told`]. Programs that it starts have them
/// as ever (a blocked signal would be blocked in them too).
pub fn note_signals(signals: &[Signal]) -> nix::Result<()> {
    let action = SigAction::new(SigHandler::Handler(on_told), SaFlags::SA_RESTART, SigSet::empty());
    for signal in signals {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(*signal, &action) }?;
    }
    Ok(())
}

/// The last noted signal, if one came.
pub fn told() -> Option<Signal> {
    Signal::try_from(TOLD.load(Ordering::Relaxed)).ok()
}

/// Lets no descriptor above 2 of this process reach a program that it starts: shells, `make` and terminals leave some
/// open, and CRIU cannot save what belongs to another mount namespace.
pub fn keep_descriptors_here() -> nix::Result<()> {
    // SAFETY: closes nothing; sets a flag on descriptors that acts only at an exec.
    let done = unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
    nix::errno::Errno::result(done).map(drop)
}
