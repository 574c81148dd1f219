//! What agents say to pumps and servers: on `SOCK_SEQPACKET` Unix sockets of the agents' own. The agent connects; whoever
//! came last is listened to.

use grid_os::descriptors::{receive_packet, send_packet};
use grid_os::packets;
use grid_os::socket::Socket;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Number under which a pump or a server has the socket to which its agent comes.
pub const CONTROL_FD: i32 = 4;
/// Number under which a pump says that the mount is there.
pub const READY_FD: i32 = 3;

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

/// Hands a connection to a pump or a server.
///
/// # Errors
/// The socket.
pub fn hand_over(to: &impl AsFd, connection: &impl AsFd) -> io::Result<()> {
    send_packet(to, b"l", Some(connection.as_fd()))
}

/// Hands a connection to whoever listens there.
///
/// # Errors
/// Nobody does.
pub fn hand_to(path: &Path, connection: &impl AsFd) -> io::Result<()> {
    hand_over(&packets::connect(path)?, connection)
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
