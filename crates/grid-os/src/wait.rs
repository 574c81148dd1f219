//! Awaiting descriptors: the end of a process, a moment on CLOCK_BOOTTIME.
#![allow(unsafe_code)]

use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits until a descriptor is readable: a pidfd when its process has ended, a timer when it is due.
pub async fn readable(fd: OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is owned by the AsyncFd, so it stays open and the same for as long as it is registered.
    let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::other)?;
    fd.readable().await.map(|_| ())
}

/// Sleeps on CLOCK_BOOTTIME, which counts while the machine sleeps (CLOCK_MONOTONIC, the runtime's, does not).
/// Falls back to the runtime's clock where the kernel gives no timer.
pub async fn sleep_boottime(pause: Duration) {
    let set = || -> io::Result<TimerFd> {
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let pause = TimeSpec::nanoseconds(pause.as_nanos().clamp(1, i64::MAX as u128) as i64);
        timer.set(Expiration::OneShot(pause), TimerSetTimeFlags::empty())?;
        Ok(timer)
    };
    let slept = match set() {
        Ok(timer) => readable(timer.into()).await,
        Err(e) => Err(e),
    };
    if slept.is_err() {
        tokio::time::sleep(pause).await;
    }
}
