//! The sockets on which a shadow listens in place of its tree. A tree that is at home listens itself, at the same address:
//! meanwhile they rest, bound and closed to the network, and the shadow waits for them to wake.
//!
//! From the moment they rest until the tree at home runs whoever connects is refused.

use super::Record;
use crate::agent::Agent;
use crate::link::tracing_line;
use grid_os::pidfd::PidFd;
use grid_types::streams::ShadowId;
use nix::errno::Errno;
use nix::sys::socket::{Backlog, Shutdown, SockaddrStorage, bind, getsockname, listen, setsockopt, shutdown, sockopt};
use std::os::fd::{AsRawFd, OwnedFd};

/// Duplicates of a shadow's listening sockets.
pub(crate) struct Listeners(Vec<OwnedFd>);

impl Listeners {
    /// They stop listening and stay bound; another socket may listen at their address.
    pub(crate) fn rest(&self) -> Result<(), String> {
        let one = |socket: &OwnedFd| {
            let fd = socket.as_raw_fd();
            let at = getsockname::<SockaddrStorage>(fd)?;
            setsockopt(socket, sockopt::ReuseAddr, &true)?;
            shutdown(fd, Shutdown::Read)?;
            // A port that the kernel chose goes with the listening, though it is still told (tcp_set_state, inet_put_port).
            match bind(fd, &at) {
                Err(Errno::EINVAL) => Ok(()), // it is bound still
                bound => bound,
            }
        };
        self.0.iter().try_for_each(one).map_err(|e| format!("the shadow's listening socket: {}", e.desc()))
    }

    /// They listen again.
    pub(crate) fn wake(&self) {
        for socket in &self.0 {
            if let Err(e) = listen(socket, Backlog::MAXCONN) {
                tracing_line(&format!("a shadow does not listen again: {}", e.desc()));
            }
        }
    }
}

impl Agent {
    /// Those of this shadow; none where it is another node's, or has ended.
    pub(crate) fn listeners_of(&self, id: &ShadowId) -> Listeners {
        let shadow = self.shadows.get(id).filter(|s| s.lives(&self.boot_id));
        Listeners(shadow.map(|s| duplicates(&s.record)).unwrap_or_default())
    }

    /// The tree is elsewhere (again): its shadow listens.
    pub(crate) fn wake_listeners(&mut self, id: &ShadowId) {
        self.listeners_of(id).wake();
        self.say_where(id);
    }
}

fn duplicates(record: &Record) -> Vec<OwnedFd> {
    let held = super::leave::held_by(record.pid).unwrap_or_default();
    let Ok(process) = PidFd::open(record.pid) else { return Vec::new() };
    let one =
        |name: &String| held.iter().find(|(_, link)| link == name).and_then(|(fd, _)| process.duplicate(*fd).ok());
    record.listeners.iter().chain(record.begun.iter().map(|b| &b.name)).filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    /// Also one whose port the kernel chose, which is not kept with the socket as a chosen one is.
    #[test]
    fn what_rests_keeps_its_address_leaves_it_to_the_tree_and_listens_there_again() {
        for host in ["127.0.0.1", "0.0.0.0", "::1"] {
            let shadow = TcpListener::bind((host, 0)).unwrap();
            let at = shadow.local_addr().unwrap();
            let to = (if host == "::1" { host } else { "127.0.0.1" }, at.port());
            let listeners = Listeners(vec![shadow.into()]);
            for _ in 0..2 {
                listeners.rest().unwrap();
                assert!(TcpStream::connect(to).is_err(), "{host}: it listens");
                // std sets SO_REUSEADDR, as CRIU does.
                let tree = TcpListener::bind(at).unwrap();
                TcpStream::connect(to).unwrap();
                tree.accept().unwrap();
                drop(tree);
                listeners.wake();
                TcpStream::connect(to).unwrap();
            }
        }
    }
}
