//! The filling end of a lazy restore: stands where CRIU's own lazy-pages daemon would and copies every received page
//! straight into the restored processes (`UFFDIO_COPY`) before anything may run.
//!
//! The protocol is CRIU's (`criu/uffd.c`): over a Unix socket the restore sends for each process its number and then
//! its userfaultfd, and, when every process has registered its ranges and is stopped, a word that says so. A zombie
//! is announced with a negative number and no descriptor. Until that word single faults are served; after it
//! everything is filled.
#![allow(unsafe_code)]

use super::CriuError;
use super::pages::{PAGE, ReceivedPages, Run};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Name of the socket in the restore's working directory.
pub(crate) const SOCKET: &str = "lazy-pages.socket";
/// "Every process is restored."
const FINISHED: i32 = 0x5253_5446;

#[repr(C)]
struct UffdioCopy {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    copy: i64,
}

#[repr(C)]
struct UffdioZeropage {
    start: u64,
    len: u64,
    mode: u64,
    zeropage: i64,
}

// _IOWR(0xAA, 0x03, struct uffdio_copy) and _IOWR(0xAA, 0x04, struct uffdio_zeropage).
const UFFDIO_COPY: libc::c_ulong = 0xc028_aa03;
const UFFDIO_ZEROPAGE: libc::c_ulong = 0xc020_aa04;
const EVENT_PAGEFAULT: u8 = 0x12;
/// Pages copied by one call: large enough to be cheap, small enough to give the arena back as we go.
const STEP: u64 = 2 << 20;

/// Accepts the restore's connection, serves faults until all is restored, then fills every process. Runs on a thread
/// of its own while CRIU restores.
pub(crate) fn fill_all(listener: &UnixListener, pages: &ReceivedPages) -> Result<(), CriuError> {
    fill(listener.accept().map_err(CriuError::Uffd)?.0, pages)
}

pub(super) fn fill(mut stream: UnixStream, pages: &ReceivedPages) -> Result<(), CriuError> {
    let mut uffds: BTreeMap<i32, OwnedFd> = BTreeMap::new();
    while serve_one(&mut stream, &mut uffds, pages)? {}
    if let Some(pid) = pages.runs.keys().find(|p| !uffds.contains_key(p)) {
        return Err(CriuError::Uffd(io::Error::other(format!("no userfaultfd came for process {pid}"))));
    }
    fill_parallel(&uffds, pages)
    // The descriptors close here: their ranges are unregistered, and what was never sent is zero, as the kernel gives it.
}

/// Waits for one thing and does it; false after the last word.
fn serve_one(
    stream: &mut UnixStream,
    uffds: &mut BTreeMap<i32, OwnedFd>,
    pages: &ReceivedPages,
) -> Result<bool, CriuError> {
    let ready: Vec<bool> = {
        let mut fds = vec![PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        fds.extend(uffds.values().map(|u| PollFd::new(u.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => return Ok(true),
            other => other.map_err(|e| CriuError::Uffd(e.into()))?,
        };
        fds.iter().map(|f| f.revents().is_some_and(|r| r.contains(PollFlags::POLLIN))).collect()
    };
    for ((pid, uffd), _) in uffds.iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
        serve_fault(*pid, uffd, pages)?;
    }
    if !ready[0] {
        return Ok(true);
    }
    let mut word = [0u8; 4];
    stream.read_exact(&mut word).map_err(CriuError::Uffd)?;
    match i32::from_ne_bytes(word) {
        FINISHED => Ok(false),
        pid if pid < 0 => Ok(true),
        pid => {
            uffds.insert(pid, receive_fd(stream)?);
            Ok(true)
        }
    }
}

fn receive_fd(stream: &UnixStream) -> Result<OwnedFd, CriuError> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let mut byte = [0u8; 1];
    let mut iov = [io::IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([libc::c_int; 1]);
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
        .map_err(|e| CriuError::Uffd(e.into()))?;
    for control in message.cmsgs().map_err(|e| CriuError::Uffd(e.into()))? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            // SAFETY: the kernel has just made this descriptor for us.
            return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    Err(CriuError::Uffd(io::Error::other("a process was announced without its userfaultfd")))
}

/// The restorer itself touched a page that is still in the arena: gives it that page, or a zero page.
fn serve_fault(pid: i32, uffd: &OwnedFd, pages: &ReceivedPages) -> Result<(), CriuError> {
    let mut message = [0u8; 32];
    match nix::unistd::read(uffd, &mut message) {
        Ok(32) if message[0] == EVENT_PAGEFAULT => {}
        Ok(_) | Err(nix::errno::Errno::EAGAIN) => return Ok(()),
        Err(e) => return Err(CriuError::Uffd(e.into())),
    }
    let address = u64::from_ne_bytes(message[16..24].try_into().unwrap_or_default()) & !(PAGE - 1);
    let runs = pages.runs.get(&pid).map(Vec::as_slice).unwrap_or_default();
    match runs.iter().find(|r| r.vaddr <= address && address < r.vaddr + r.len) {
        Some(run) => {
            let source = pages.arena.address(run.offset + (address - run.vaddr), PAGE);
            copy(uffd, address, source, PAGE)
        }
        None => zero(uffd, address),
    }
}

fn zero(uffd: &OwnedFd, address: u64) -> Result<(), CriuError> {
    let mut call = UffdioZeropage { start: address, len: PAGE, mode: 0, zeropage: 0 };
    // SAFETY: the structure is the kernel's.
    let result = unsafe { libc::ioctl(uffd.as_raw_fd(), UFFDIO_ZEROPAGE, &mut call) };
    let error = io::Error::last_os_error();
    if result == 0 || error.raw_os_error() == Some(libc::EEXIST) {
        Ok(())
    } else {
        Err(CriuError::Fill { address, source: error })
    }
}

/// Fills every process, the runs cut into steps and shared among a few threads.
fn fill_parallel(uffds: &BTreeMap<i32, OwnedFd>, pages: &ReceivedPages) -> Result<(), CriuError> {
    let mut steps: Vec<(&OwnedFd, Run)> = Vec::new();
    for (pid, runs) in &pages.runs {
        for run in runs {
            for done in (0..run.len).step_by(STEP as usize) {
                let len = STEP.min(run.len - done);
                steps.push((&uffds[pid], Run { vaddr: run.vaddr + done, len, offset: run.offset + done }));
            }
        }
    }
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).clamp(1, 4).min(steps.len().max(1));
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || -> Result<(), CriuError> {
            while let Some((uffd, run)) = steps.get(next.fetch_add(1, Ordering::Relaxed)) {
                copy(uffd, run.vaddr, pages.arena.address(run.offset, run.len), run.len)?;
                pages.arena.forget(run.offset, run.len);
            }
            Ok(())
        };
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut result = work();
        for other in others {
            let theirs = other.join().unwrap_or_else(|_| Err(CriuError::Uffd(io::Error::other("a filler panicked"))));
            result = result.and(theirs);
        }
        result
    })
}

/// Copies `len` bytes to `dst` in the restored process. A run may cross from one mapping into the next, which the
/// kernel refuses in one call, and single pages may be there already because a fault was served.
fn copy(uffd: &OwnedFd, dst: u64, src: u64, len: u64) -> Result<(), CriuError> {
    let mut done = 0;
    let mut span = len;
    while done < len {
        let want = span.min(len - done);
        let mut call = UffdioCopy { dst: dst + done, src: src + done, len: want, mode: 0, copy: 0 };
        // SAFETY: the structure is the kernel's, `src` is a live range of the arena.
        let result = unsafe { libc::ioctl(uffd.as_raw_fd(), UFFDIO_COPY, &mut call) };
        let error = io::Error::last_os_error();
        if call.copy > 0 {
            done += call.copy as u64;
        }
        if result == 0 {
            span = len;
            continue;
        }
        match error.raw_os_error() {
            Some(libc::EEXIST) => done += PAGE,
            // Part of it was done.
            Some(libc::EAGAIN) if call.copy > 0 => {}
            // The range ends in another mapping: halve it.
            Some(libc::ENOENT) if want > PAGE => span = (want / 2).next_multiple_of(PAGE).min(want - PAGE),
            _ => return Err(CriuError::Fill { address: dst + done, source: error }),
        }
    }
    Ok(())
}
