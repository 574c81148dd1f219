//! Who is at the other end of a Unix socket: what the kernel noted when the connection was made.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// A peer's identity. Its groups are those that the process had, not those that a database says its user has: they
/// hold for numbers without a name, and a new member logs in again first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The process that connected; none where it lives in a PID namespace that is not seen from here.
    pub pid: Option<i32>,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl Peer {
    /// Of this connection.
    ///
    /// # Errors
    /// It is no connected Unix socket.
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        let credentials = getsockopt(&socket.as_fd(), sockopt::PeerCredentials)?;
        let groups = peer_groups(socket)?;
        let pid = Some(credentials.pid()).filter(|pid| *pid > 0);
        Ok(Self { pid, uid: credentials.uid(), gid: credentials.gid(), groups })
    }

    /// Its controlling terminal, by the kernel's word: `pts/3`. What it says of itself is not asked.
    pub fn terminal(&self) -> Option<String> {
        let path = crate::proc::terminal_of(self.pid?)?;
        Some(path.strip_prefix("/dev/").map_or(path.clone(), str::to_owned))
    }

    /// It is in this group.
    pub fn is_in(&self, group: u32) -> bool {
        self.gid == group || self.groups.contains(&group)
    }
}

/// SO_PEERGROUPS (Linux 4.13), unix(7): says with ERANGE how much room it wants.
fn peer_groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let fd = socket.as_fd();
    let mut groups = vec![0u32; 64];
    loop {
        let mut bytes = (groups.len() * size_of::<u32>()) as libc::socklen_t;
        // SAFETY: the kernel writes at most `bytes` bytes into a live buffer of that size, and how many it were.
        let result = unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        match Errno::result(result) {
            Ok(_) => {
                groups.truncate(bytes as usize / size_of::<u32>());
                return Ok(groups);
            }
            Err(Errno::ERANGE) if bytes as usize > groups.len() * size_of::<u32>() => {
                groups.resize(bytes as usize / size_of::<u32>(), 0);
            }
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_kernel_names_the_peer_and_its_groups() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = Peer::of(&ours).unwrap();
        let mut groups: Vec<u32> = nix::unistd::getgroups().unwrap().into_iter().map(|g| g.as_raw()).collect();
        assert_eq!((peer.uid, peer.gid), (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
        assert_eq!(peer.pid, Some(std::process::id() as i32));
        let mut seen = peer.groups.clone();
        groups.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, groups);
        assert!(peer.is_in(peer.gid));
    }

    #[test]
    fn what_is_no_unix_socket_has_no_peer() {
        assert!(Peer::of(&std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
