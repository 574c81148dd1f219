//! Entrances for the fuzzers (`cfg(fuzzing)`, never in what ships) to what listens to a CRIU: hand it bytes, no process.

use super::rpc::{Channel, Opts, kind};
use super::{CriuError, ReceivedPages, session, uffd};
use nix::sys::socket::{MsgFlags, send};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// A conversation in which CRIU says these datagrams and ends. Gives whether the last word was success, where there was
/// one, and the notifications; the one called `fails` fails.
pub fn answers(messages: &[&[u8]]) -> (Option<bool>, Vec<String>) {
    let (ours, theirs) = Channel::pair().expect("a socket pair");
    for message in messages {
        let _ = send(theirs.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT);
    }
    nix::sys::socket::shutdown(theirs.as_raw_fd(), nix::sys::socket::Shutdown::Write).expect("ours");
    let mut notified = Vec::new();
    let result = session::converse(&ours, kind::RESTORE, Opts::default(), &mut |script| {
        notified.push(script.to_owned());
        if script == "fails" { Err("as asked".to_owned()) } else { Ok(()) }
    });
    (result.ok().map(|response| response.success), notified)
}

/// What `criu --version` says.
pub fn version(text: &str) {
    let _ = session::parse_version(text);
}

/// What a log of CRIU says.
pub fn log_errors(text: &str) {
    let _ = session::errors_of(text);
}

/// A lazy restore that says these bytes: of each record, the first byte tells what comes with the four behind it.
///
/// # Errors
/// What the filler says.
pub fn lazy(data: &[u8], pages: &ReceivedPages) -> Result<(), CriuError> {
    let (mut ours, theirs) = UnixStream::pair().expect("a socket pair");
    ours.set_nonblocking(true).expect("ours");
    for record in data.chunks(5).take(128) {
        let (what, word) = record.split_at(1);
        let _ = ours.write_all(word);
        let sent = match what[0] % 4 {
            1 => std::fs::File::open("/dev/null").ok().map(OwnedFd::from),
            2 => faults(data),
            3 => nix::sys::eventfd::EventFd::from_value(1).ok().map(OwnedFd::from),
            _ => None,
        };
        if let Some(fd) = sent {
            pass(&ours, fd);
        }
    }
    drop(ours);
    uffd::fill(theirs, pages)
}

/// A descriptor off which the input is read, as faults are off a userfaultfd.
fn faults(data: &[u8]) -> Option<OwnedFd> {
    let (reader, writer) = nix::unistd::pipe().ok()?;
    std::fs::File::from(writer).write_all(&data[..data.len().min(4096)]).ok()?;
    Some(reader)
}

fn pass(to: &UnixStream, fd: OwnedFd) {
    use nix::sys::socket::{ControlMessage, sendmsg};
    let fds = [fd.as_fd().as_raw_fd()];
    let byte = [std::io::IoSlice::new(&[0])];
    let _ = sendmsg::<()>(to.as_raw_fd(), &byte, &[ControlMessage::ScmRights(&fds)], MsgFlags::MSG_NOSIGNAL, None);
}
