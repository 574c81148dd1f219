//! What agents say to pumps and servers: on `SOCK_SEQPACKET` Unix sockets of the agents' own. The agent connects; whoever
//! came last is listened to.

use crate::locks::Lock;
use grid_os::descriptors::{receive_packet, send_packet, send_packet_at_once};
use grid_os::packets;
use grid_os::socket::Socket;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Number under which a pump or a server has the socket to which its agent comes.
pub const CONTROL_FD: i32 = 4;
/// Number under which a pump says that the mount is there.
pub const READY_FD: i32 = 3;
/// Number under which a pump has the socket on which it says which locks its tree has.
pub const LOCKS_FD: i32 = 5;
/// A pump says that at once.
const PATIENCE: Duration = Duration::from_secs(2);
/// Behind the last lock.
const NO_MORE: &[u8] = b".";

/// What a pump says of its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It has no connection and wants one.
    Down,
    /// It has one.
    Up,
    /// No connection helps any more: the mount is given up.
    Over,
}

impl Word {
    fn byte(self) -> u8 {
        match self {
            Self::Down => b'd',
            Self::Up => b'u',
            Self::Over => b'o',
        }
    }
}

/// Says a word to the agent.
///
/// # Errors
/// The socket.
pub fn say(to: &impl AsFd, word: Word) -> io::Result<()> {
    send_packet(to, &[word.byte()], None)
}

/// The next word of a pump; none where it is gone.
///
/// # Errors
/// The socket, or what is no word.
pub fn hear(from: &impl AsFd) -> io::Result<Option<Word>> {
    let Some((bytes, _)) = receive_packet(from, 8, true)? else { return Ok(None) };
    let word = [Word::Down, Word::Up, Word::Over].into_iter().find(|word| bytes == [word.byte()]);
    word.map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a word that is none"))
}

/// Hands a connection to a pump or a server, which is not waited for: a server's user may have stopped it.
///
/// # Errors
/// The socket; `WouldBlock` where too much waits for it already.
pub fn hand_over(to: &impl AsFd, connection: &impl AsFd) -> io::Result<()> {
    send_packet_at_once(to, b"l", Some(connection.as_fd()))
}

/// Hands a connection to whoever listens there, without waiting for it.
///
/// # Errors
/// Nobody does; `WouldBlock` where it takes none of those that came before.
pub fn hand_to(path: &Path, connection: &impl AsFd) -> io::Result<()> {
    hand_over(&packets::connect_at_once(path)?, connection)
}

/// Which locks on home's files the tree has: of the pump that listens there.
///
/// # Errors
/// It does not say so, or not all.
pub fn locks(path: &Path) -> io::Result<Vec<Lock>> {
    let pump = packets::connect_at_once(path)?;
    packets::set_patience(&pump, PATIENCE)?;
    let mut all = Vec::new();
    loop {
        let Some((bytes, _)) = receive_packet(&pump, 256, true)? else {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "not all locks were said"));
        };
        if bytes == NO_MORE {
            return Ok(all);
        }
        all.push(serde_json::from_slice(&bytes)?);
    }
}

/// Says them.
pub(crate) fn say_locks(to: &impl AsFd, locks: impl IntoIterator<Item = Lock>) -> io::Result<()> {
    for lock in locks {
        send_packet(to, &serde_json::to_vec(&lock)?, None)?;
    }
    send_packet(to, NO_MORE, None)
}

/// The next connection that the agent hands over; none where the agent is gone.
pub(crate) fn next_connection(from: &impl AsFd) -> io::Result<Option<Socket>> {
    loop {
        match receive_packet(from, 8, true)? {
            None => return Ok(None),
            Some((_, Some(fd))) => return socket(fd).map(Some),
            Some((_, None)) => {}
        }
    }
}

/// Of either kind: nothing but its family is different.
fn socket(fd: OwnedFd) -> io::Result<Socket> {
    use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};
    use std::os::fd::AsRawFd;
    let name: SockaddrStorage = getsockname(fd.as_raw_fd())?;
    Ok(match name.family() {
        Some(AddressFamily::Unix) => UnixStream::from(fd).into(),
        _ => std::net::TcpStream::from(fd).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without that the agent would wait here for a server that its user has stopped, and nobody's words would be heard.
    #[test]
    fn a_connection_is_not_handed_to_a_server_that_takes_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server");
        let door = packets::listen(&path, 0o600).unwrap();
        let (connection, _far) = UnixStream::pair().unwrap();
        let busy = (0..1000).find_map(|_| hand_to(&path, &connection).err()).unwrap();
        assert_eq!(busy.kind(), io::ErrorKind::WouldBlock);
        // It goes on: what waits for it is there, and there is room again.
        assert!(next_connection(&packets::accept(&door).unwrap()).unwrap().is_some());
        hand_to(&path, &connection).unwrap();
    }

    #[test]
    fn locks_are_said_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks");
        let door = packets::listen(&path, 0o600).unwrap();
        let all: Vec<Lock> =
            (0..1000).map(|pid| Lock { pid, inode: 7, exclusive: pid % 2 == 0, flock: false }).collect();
        let said = all.clone();
        let pump = std::thread::spawn(move || {
            say_locks(&packets::accept(&door).unwrap(), said).unwrap();
            // This one dies before it has said all.
            send_packet(&packets::accept(&door).unwrap(), &serde_json::to_vec(&all[0]).unwrap(), None).unwrap();
            all
        });
        let heard = locks(&path).unwrap();
        assert_eq!(locks(&path).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(heard, pump.join().unwrap());
    }
}
