//! What agents say to fars and shadows, and hear from them: one JSON message a packet, on `SOCK_SEQPACKET` Unix sockets.
//! A connection and a snapshot travel as descriptors beside their message.
//!
//! For a far the agent connects to the socket that it made for its pid 1; for a shadow it accepts on its own socket, and
//! looks at who connected ([`grid_os::peer`]) before it believes a [`FromShadow::Hello`].

use crate::mux::Snapshot;
use grid_os::descriptors::{receive_packet, send_packet_at_once};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// No message is longer.
pub const MAX_MESSAGE: usize = 16 << 10;
/// No snapshot is longer, as JSON.
pub const MAX_SNAPSHOT: u64 = 64 << 20;

/// To a far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToFar {
    /// The tree is here now: relay. With a snapshot as descriptor where there was a far before.
    Activate,
    /// A connection to the shadow, as descriptor.
    Link {
        /// The far's own.
        generation: u64,
    },
    /// The tree is frozen: stop, and answer with [`FromFar::Snapshot`].
    Pause,
    /// The tree stays: go on.
    Resume,
    /// On these ports (of IPv6, where it says so) the tree listens as well by now, and on no others but its streams'.
    Listens {
        /// All of them.
        at: Vec<(u16, bool)>,
    },
    /// The shadow is gone: wait for no acknowledgement.
    Finish,
}

/// From a far. It answers each [`ToFar`] with one message; [`FromFar::Down`] and [`FromFar::State`] come unasked too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromFar {
    /// First on each connection, and the answer to an order that was carried out.
    State {
        /// Its number.
        generation: u64,
        /// It was activated.
        active: bool,
        /// It was paused.
        paused: bool,
        /// It has a connection to the shadow.
        linked: bool,
        /// The tree's root has ended.
        exited: bool,
    },
    /// It has no connection to the shadow, and wants one.
    Down,
    /// Answer to [`ToFar::Pause`]; the snapshot is the descriptor.
    Snapshot,
    /// An order that was not carried out.
    Refused {
        /// Why.
        why: String,
    },
}

/// To a shadow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToShadow {
    /// A connection to the tree's far, as descriptor.
    Link {
        /// Of that far.
        generation: u64,
    },
    /// Listen on this socket as well, which is the descriptor.
    Listen {
        /// [`crate::config::label`].
        listener: u32,
    },
    /// Close that one again.
    Unlisten {
        /// [`crate::config::label`].
        listener: u32,
    },
    /// What process lists show from now on.
    Title {
        /// Cut to the room that the program was started with.
        text: String,
    },
    /// The tree is gone for good: say so and leave.
    Lost {
        /// For standard error.
        message: String,
        /// To leave with.
        code: i32,
    },
}

/// From a shadow. An agent reads the first word of a connection and no more: it is the far's agent that dials anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromShadow {
    /// First on each connection.
    Hello {
        /// Who it is.
        shadow: String,
        /// The highest generation that it met.
        generation: u64,
        /// It has a connection to the far.
        linked: bool,
    },
    /// It has no connection to the far, and wants one.
    Down,
}

/// Sends a message. The other end is not waited for: it may be a process that its user has stopped.
///
/// # Errors
/// The socket; `WouldBlock` where too much waits to be read there.
pub fn send(socket: &impl AsFd, message: &impl Serialize) -> io::Result<()> {
    send_packet_at_once(socket, &serde_json::to_vec(message)?, None)
}

/// Sends a message with a descriptor.
///
/// # Errors
/// As of [`send`].
pub fn send_with(socket: &impl AsFd, message: &impl Serialize, fd: BorrowedFd<'_>) -> io::Result<()> {
    send_packet_at_once(socket, &serde_json::to_vec(message)?, Some(fd))
}

/// Receives a message and its descriptor; none where the other end closed.
///
/// # Errors
/// The socket, or what is no message of this kind; `WouldBlock` where there is none and `wait` is not asked for.
pub fn receive<T: DeserializeOwned>(socket: &impl AsFd, wait: bool) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let Some((bytes, fd)) = receive_packet(socket, MAX_MESSAGE, wait)? else { return Ok(None) };
    Ok(Some((serde_json::from_slice(&bytes)?, fd)))
}

/// Hands a far its connection to the shadow.
///
/// # Errors
/// The socket.
pub fn link_far(socket: &impl AsFd, generation: u64, connection: BorrowedFd<'_>) -> io::Result<()> {
    send_with(socket, &ToFar::Link { generation }, connection)
}

/// Hands a shadow its connection to the far of this generation.
///
/// # Errors
/// The socket.
pub fn link_shadow(socket: &impl AsFd, generation: u64, connection: BorrowedFd<'_>) -> io::Result<()> {
    send_with(socket, &ToShadow::Link { generation }, connection)
}

/// Lets a far begin, where another one stopped or with nothing.
///
/// # Errors
/// The socket, or no memory for the snapshot.
pub fn activate(socket: &impl AsFd, snapshot: Option<&Snapshot>) -> io::Result<()> {
    match snapshot {
        None => send(socket, &ToFar::Activate),
        Some(snapshot) => send_with(socket, &ToFar::Activate, pack(snapshot)?.as_fd()),
    }
}

/// A snapshot as a descriptor: too long for a packet.
///
/// # Errors
/// No memory.
pub fn pack(snapshot: &Snapshot) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"grid-snapshot", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&serde_json::to_vec(snapshot)?)?;
    file.rewind()?;
    Ok(file.into())
}

/// The snapshot that came as a descriptor.
///
/// # Errors
/// It is none, or too long.
pub fn unpack(fd: OwnedFd) -> io::Result<Snapshot> {
    let mut file = File::from(fd);
    file.rewind()?;
    let mut text = Vec::new();
    if file.take(MAX_SNAPSHOT + 1).read_to_end(&mut text)? as u64 > MAX_SNAPSHOT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a snapshot that is too long"));
    }
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::KeptChannel;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    #[test]
    fn a_snapshot_larger_than_a_packet_crosses() {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let mut snapshot = Snapshot { generation: 3, ..Snapshot::default() };
        snapshot.sent.insert(1, KeptChannel { base: 9, bytes: vec![7; 1 << 20], ended: true, broken: false });
        activate(&ours, Some(&snapshot)).unwrap();
        let (message, fd) = receive::<ToFar>(&theirs, true).unwrap().unwrap();
        assert_eq!(message, ToFar::Activate);
        assert_eq!(unpack(fd.unwrap()).unwrap(), snapshot);
        drop(ours);
        assert!(receive::<ToFar>(&theirs, true).unwrap().is_none());
    }
}
