//! Programs under the filter without io_uring: no ring, and everything else as ever.
#![allow(unsafe_code, clippy::unwrap_used)]

use grid_os::seccomp::without_io_uring;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

/// Starts a program under the filter; for others than root new privileges must be given up.
fn filtered(program: &str) -> Command {
    let mut command = Command::new(program);
    let root = nix::unistd::geteuid().is_root();
    let install = move || {
        if !root {
            nix::sys::prctl::set_no_new_privs()?;
        }
        without_io_uring()
    };
    // SAFETY: system calls alone, on memory that is there.
    unsafe { command.pre_exec(install) };
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const CALLS: &str = r#"
import ctypes, errno, os, select, socket, subprocess, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
params = ctypes.create_string_buffer(256)
for number in (425, 426, 427):
    assert libc.syscall(number, 4, params, 0, 0, 0, 0) == -1
    assert ctypes.get_errno() == errno.ENOSYS, (number, ctypes.get_errno())
# Their neighbours: pidfd_send_signal 424 and open_tree 428 fail for their arguments.
for number in (424, 428):
    assert libc.syscall(number, -1, 0, 0, 0) == -1 and ctypes.get_errno() != errno.ENOSYS, number
a, b = socket.socketpair()
poll = select.epoll(); poll.register(a, select.EPOLLIN)
thread = threading.Thread(target=b.send, args=(b"x",)); thread.start(); thread.join()
assert poll.poll(10) and a.recv(1) == b"x"
# Inherited.
again = "import ctypes; l = ctypes.CDLL(None, use_errno=True); l.syscall(425, 4, None); print(ctypes.get_errno())"
assert subprocess.run([sys.executable, "-c", again], capture_output=True).stdout == b"38\n"
print("as ever")
"#;

#[test]
fn three_calls_are_not_there_and_everything_else_works() {
    let output = filtered("/usr/bin/python3").args(["-c", CALLS]).output().unwrap();
    assert_eq!(said(&output), "as ever\n");
}

/// `io_uring_setup(4, 0)`, then `exit(-result)`, as i386 makes them; loaded at 0x8048000.
#[test]
fn a_32_bit_program_is_not_ended_and_has_no_ring_either() {
    let code: &[u8] = b"\xb8\xa9\x01\0\0\xbb\x04\0\0\0\x31\xc9\xcd\x80\x89\xc3\xf7\xdb\xb8\x01\0\0\0\xcd\x80";
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0\x01\0\0\0".to_vec();
    // Entry, where the program's only header is, sizes of both headers, their number; then that header.
    let header = [0x0804_8054_u32, 52, 0, 0, 0x0020_0034, 1, 0];
    for word in header.into_iter().chain([1, 0, 0x0804_8000, 0, 0x100, 0x100, 5, 0x1000]) {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    elf.extend_from_slice(code);
    elf.resize(0x100, 0);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("small");
    fs::write(&path, elf).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    match Command::new(&path).status() {
        Err(e) => return println!("SKIPPED: no 32-bit program runs here: {e}"),
        // EFAULT: the call is there, and got no parameters; or the kernel has or allows none.
        Ok(status) => assert!(matches!(status.code(), Some(14 | 38 | 1)), "{status}"),
    }
    assert_eq!(filtered(path.to_str().unwrap()).status().unwrap().code(), Some(38));
}

const NODE: &str = r"
const fs = require('fs');
const rings = () => fs.readdirSync('/proc/self/fd').filter(fd => {
  try { return fs.readlinkSync('/proc/self/fd/' + fd).includes('io_uring') } catch { return false } }).length;
fs.promises.readFile('/proc/self/stat').then(text => console.log(text.length > 0, rings()));";

#[test]
fn node_opens_no_ring_and_reads_files() {
    let run = |command: &mut Command| command.env("UV_USE_IO_URING", "1").args(["-e", NODE]).output();
    match run(&mut Command::new("node")) {
        Err(e) => return println!("SKIPPED: no node here: {e}"),
        Ok(output) if said(&output) == "true 0\n" => {
            return println!("SKIPPED: this node opens no ring, asked to or not");
        }
        Ok(output) => assert!(said(&output).starts_with("true "), "{output:?}"),
    }
    assert_eq!(said(&run(&mut filtered("node")).unwrap()), "true 0\n");
}

#[test]
fn an_ordinary_user_must_give_up_new_privileges_first() {
    if !nix::unistd::geteuid().is_root() {
        return println!("SKIPPED: becoming somebody else needs root");
    }
    let mut command = Command::new("/bin/true");
    command.uid(65534).gid(65534);
    // SAFETY: system calls alone, on memory that is there.
    unsafe { command.pre_exec(without_io_uring) };
    assert_eq!(command.status().unwrap_err().raw_os_error(), Some(libc::EACCES));
    let mut command = Command::new("/bin/grep");
    command.args(["-c", "NoNewPrivs:\t1", "/proc/self/status"]).uid(65534).gid(65534);
    // SAFETY: as above.
    unsafe {
        command.pre_exec(|| {
            nix::sys::prctl::set_no_new_privs()?;
            without_io_uring()
        });
    }
    assert_eq!(said(&command.output().unwrap()), "1\n");
}
