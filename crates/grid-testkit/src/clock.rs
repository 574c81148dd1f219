//! The two clocks that the programs look at. Owns reading them; decides nothing.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

fn read(clock: ClockId) -> u64 {
    // Fails only for a clock that the kernel does not have; these two it always has.
    clock_gettime(clock).map_or(0, |t| Duration::from(t).as_nanos() as u64)
}

/// `CLOCK_REALTIME` in nanoseconds since 1970: goes on while a process is frozen, so it shows a program its own downtime.
pub fn realtime_ns() -> u64 {
    read(ClockId::CLOCK_REALTIME)
}

/// `CLOCK_MONOTONIC` in nanoseconds: CRIU restores it through a time namespace, so it must never jump back.
pub fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}
