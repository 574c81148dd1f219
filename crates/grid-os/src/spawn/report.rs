//! What a child says of its start: its number, and where it failed.

use super::{Place, Spawned};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;

/// Reads the reports: `(pid, 0, _)` from the intermediate where there is one, `(0, errno, step)` where something failed. End
/// of file without an error means that the exec happened.
pub(super) fn outcome(report_rx: OwnedFd, first: i32, argv: &[String], place: &Place<'_>) -> io::Result<Spawned> {
    use std::io::Read;
    let mut file = std::fs::File::from(report_rx);
    let mut all = Vec::new();
    file.read_to_end(&mut all)?;
    let mut pid = first;
    let mut failed = None;
    for record in all.chunks_exact(12) {
        let word = |i: usize| i32::from_ne_bytes([record[i], record[i + 1], record[i + 2], record[i + 3]]);
        if word(0) != 0 {
            pid = word(0);
        }
        if word(4) != 0 {
            failed = Some((io::Error::from_raw_os_error(word(4)), word(8)));
        }
    }
    if pid != first || failed.is_some() {
        // The intermediate has exited, or the child failed: reap it.
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(first), None);
    }
    match failed {
        Some((error, step)) => Err(named(error, &step_name(step, argv, place))),
        None => Ok(Spawned { pid, child: pid == first }),
    }
}

pub(super) fn report(fd: RawFd, pid: i32, error: i32, step: i32) {
    let mut record = [0u8; 12];
    record[..4].copy_from_slice(&pid.to_ne_bytes());
    record[4..8].copy_from_slice(&error.to_ne_bytes());
    record[8..].copy_from_slice(&step.to_ne_bytes());
    // SAFETY: writes 12 bytes from a live buffer; atomic on a pipe.
    unsafe { libc::write(fd, record.as_ptr().cast(), record.len()) };
}

/// The same kind of error, with what it was about.
pub(super) fn named(error: io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// What the child was doing when it failed.
fn step_name(step: i32, argv: &[String], place: &Place<'_>) -> String {
    match step {
        STEP_CLOCKS => "setting the clocks of its time namespace".into(),
        STEP_JOIN => "joining the namespaces".into(),
        STEP_UNSHARE => "making namespaces".into(),
        STEP_SESSION => "leading a session".into(),
        STEP_DESCRIPTORS => "giving it its descriptors".into(),
        STEP_CWD => format!("entering {}", place.cwd.as_deref().unwrap_or_else(|| Path::new("/")).display()),
        STEP_OWNER => "becoming its owner".into(),
        STEP_EXEC => format!("starting {}", argv.first().map_or("", String::as_str)),
        group => match usize::try_from(group).ok().and_then(|index| place.cgroup_procs.get(index)) {
            Some(file) => format!("joining {}", file.display()),
            None => "starting".into(),
        },
    }
}

/// Steps of the child, said with its error. Those from 0 on are its groups, in their order.
pub(super) const STEP_CLOCKS: i32 = -1;
pub(super) const STEP_JOIN: i32 = -2;
pub(super) const STEP_UNSHARE: i32 = -3;
pub(super) const STEP_SESSION: i32 = -4;
pub(super) const STEP_DESCRIPTORS: i32 = -5;
pub(super) const STEP_CWD: i32 = -6;
pub(super) const STEP_OWNER: i32 = -7;
pub(super) const STEP_EXEC: i32 = -8;

/// An errno and the step that it came from.
pub(super) type Failed = (i32, i32);
