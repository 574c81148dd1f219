//! The look from outside, before a freeze.

use crate::fixture::{Subject, freezers, program};
use grid_os::inplace::{Obstacle, can_exec_in_place};
use nix::sys::ptrace;
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const SH: &str = "/bin/sh";

fn look(pid: i32, program: impl AsRef<Path>) -> Result<(), Obstacle> {
    can_exec_in_place(pid, program.as_ref())
}

#[test]
fn an_ordinary_program_has_no_obstacle_and_is_not_disturbed() {
    let Some(freezer) = freezers().pop() else { return };
    for mode in ["spin", "odd", "stack"] {
        let subject = Subject::start(&freezer, mode);
        look(subject.pid, SH).unwrap();
    }
}

#[test]
fn what_is_traced_filtered_or_gone_is_told() {
    let Some(freezer) = freezers().pop() else { return };
    let mut subject = Subject::start(&freezer, "odd");
    let pid = Pid::from_raw(subject.pid);
    ptrace::seize(pid, ptrace::Options::empty()).unwrap();
    assert!(matches!(look(subject.pid, SH), Err(Obstacle::Traced { .. })));
    subject.child.kill().unwrap();
    nix::sys::wait::waitid(
        nix::sys::wait::Id::Pid(pid),
        nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT,
    )
    .unwrap();
    assert!(matches!(look(subject.pid, SH), Err(Obstacle::Ended { .. })));

    const STRICT: &str = "import ctypes, os, sys\nprint('ready', flush=True)\n\
        libc = ctypes.CDLL(None)\nlibc.prctl(38, 1, 0, 0, 0)\nlibc.prctl(22, 1, 0, 0, 0)\nos.read(0, 1)";
    let subject = Subject::start_argv(&freezer, &["/usr/bin/python3", "-c", STRICT]);
    let filtered = || matches!(look(subject.pid, SH), Err(Obstacle::Seccomp { .. }));
    assert!((0..2000).any(|_| filtered() || {
        std::thread::sleep(std::time::Duration::from_millis(1));
        false
    }));
}

#[test]
fn a_program_is_looked_at_as_the_process_would_meet_it() {
    let Some(freezer) = freezers().pop() else { return };
    let dir = tempfile::tempdir().unwrap();
    let closed = dir.path().join("sh");
    fs::copy(SH, &closed).unwrap();
    for (path, mode) in [(closed.as_path(), 0o755), (dir.path(), 0o700)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let errno = |result: Result<(), Obstacle>| match result {
        Err(Obstacle::Program { source, .. }) => source.raw_os_error(),
        other => panic!("{other:?}"),
    };
    let root = Subject::start(&freezer, "odd");
    look(root.pid, &closed).unwrap();
    assert_eq!(errno(look(root.pid, "/etc/passwd")), Some(libc::EACCES));
    assert_eq!(errno(look(root.pid, "/nonexistent")), Some(libc::ENOENT));
    assert_eq!(errno(look(root.pid, "/etc")), Some(libc::EACCES));
    assert_eq!(errno(look(root.pid, "bin/sh")), Some(libc::EINVAL));
    let prefix = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let nobody = Subject::start_as(&freezer, &prefix, "odd");
    assert_eq!(errno(look(nobody.pid, &closed)), Some(libc::EACCES), "its folder is root's alone");
    look(nobody.pid, SH).unwrap();
}

#[test]
fn memory_of_its_parent_is_no_place_to_write() {
    let Some(freezer) = freezers().pop() else { return };
    let subject = Subject::start(&freezer, "vfork");
    let child = *crate::fixture::descendants(subject.pid).last().unwrap();
    assert!(matches!(look(child, SH), Err(Obstacle::SharedMemory { parent, .. }) if parent == subject.pid));
    look(subject.pid, SH).unwrap();
}

/// `write(1, "ready\n", 6)`, then `pause()` for ever, as i386 makes them; loaded at 0x8048000.
#[test]
fn a_32_bit_program_is_told() {
    let Some(freezer) = freezers().pop() else { return };
    let code: &[u8] = b"\xb8\x04\0\0\0\xbb\x01\0\0\0\xb9\x74\x80\x04\x08\xba\x06\0\0\0\xcd\x80\
        \xb8\x1d\0\0\0\xcd\x80\xeb\xf7\0ready\n";
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0\x01\0\0\0".to_vec();
    for word in [0x0804_8054_u32, 52, 0, 0, 0x0020_0034, 1, 1, 0, 0x0804_8000, 0, 0x100, 0x100, 5, 0x1000] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    // The header is 52 bytes with two 16-bit words that no section table needs.
    elf.splice(44..48, [1, 0, 0, 0, 0, 0, 0, 0]);
    elf.resize(0x54, 0);
    elf.extend_from_slice(code);
    elf.resize(0x100, 0);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("small");
    fs::write(&path, elf).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    if let Err(e) = std::process::Command::new(&path).stdin(std::process::Stdio::null()).spawn().map(|mut c| {
        c.kill().unwrap();
        c.wait().unwrap();
    }) {
        return println!("SKIPPED: no 32-bit program runs here: {e}");
    }
    let subject = Subject::start_argv(&freezer, &[path.to_str().unwrap()]);
    assert!(matches!(look(subject.pid, SH), Err(Obstacle::NotSixtyFour { .. })));
    assert!(program().is_some());
}
