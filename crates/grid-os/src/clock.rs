//! The clocks of this node. Owns nothing; it never decides, and it is the only place of this crate that asks for the time.
//!
//! Deadlines and ages hang on `CLOCK_BOOTTIME`, which goes on counting while the machine sleeps; the wall clock is for
//! people.

use grid_types::units::{BootMs, UnixMs};
use nix::time::{ClockId, clock_gettime};
use std::path::{Path, PathBuf};

/// The node's boot could not be told.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {source}")]
pub struct ClockError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

/// Nanoseconds on a clock; 0 where the kernel does not know it, which no supported kernel does.
fn nanos(clock: ClockId) -> u64 {
    let Ok(t) = clock_gettime(clock) else { return 0 };
    u64::try_from(t.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec()).unwrap_or(0)
}

/// Nanoseconds since boot, sleep included.
pub(crate) fn boot_ns() -> u64 {
    nanos(ClockId::CLOCK_BOOTTIME)
}

/// Milliseconds since boot, sleep included (`CLOCK_BOOTTIME`).
pub fn boot_ms() -> BootMs {
    BootMs(boot_ns() / 1_000_000)
}

/// The wall clock, milliseconds since 1970.
pub fn unix_ms() -> UnixMs {
    UnixMs(nanos(ClockId::CLOCK_REALTIME) / 1_000_000)
}

/// Seconds by which local time is ahead of UTC at this moment; 0 where the C library does not know. For printing only.
#[allow(unsafe_code)]
pub fn utc_offset_s(at: UnixMs) -> i32 {
    let seconds = libc::time_t::try_from(at.0 / 1000).unwrap_or(0);
    // SAFETY: all-zero bytes are a valid `tm`: numbers and a null pointer.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live locals, and `localtime_r` writes only the second.
    let known = unsafe { !libc::localtime_r(&raw const seconds, &raw mut local).is_null() };
    if known { i32::try_from(local.tm_gmtoff).unwrap_or(0) } else { 0 }
}

/// The id that the kernel drew at this boot.
pub fn boot_id() -> Result<String, ClockError> {
    boot_id_under(Path::new("/proc"))
}

/// [`boot_id`] from another root than `/proc`.
pub(crate) fn boot_id_under(proc: &Path) -> Result<String, ClockError> {
    let path = proc.join("sys/kernel/random/boot_id");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(source) => Err(ClockError { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_count_and_the_boot_has_an_id() {
        let before = boot_ms();
        assert!(before.0 > 0 && boot_ms() >= before);
        assert!(unix_ms().0 > 1_700_000_000_000);
        assert_eq!(boot_id().unwrap().len(), 36);
    }

    #[test]
    fn a_missing_boot_id_is_an_error_that_names_the_file() {
        let error = boot_id_under(Path::new("/nonexistent")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/sys/kernel/random/boot_id"), "{error}");
    }
}
