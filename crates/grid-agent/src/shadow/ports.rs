//! The sockets on which a shadow listens in place of its tree. A tree that is at home listens itself, at the same address:
//! meanwhile they rest, bound and closed to the network, and the shadow waits for them to wake.
//!
//! From the moment they rest until the tree at home runs whoever connects is refused.

use super::Record;
use crate::agent::Agent;
use crate::link::tracing_line;
use grid_os::pidfd::PidFd;
use grid_types::streams::ShadowId;
use nix::sys::socket::{Backlog, Shutdown, listen, setsockopt, shutdown, sockopt};
use std::os::fd::{AsRawFd, OwnedFd};

/// Duplicates of a shadow's listening sockets.
pub(crate) struct Listeners(Vec<OwnedFd>);

impl Listeners {
    /// They stop listening and stay bound; another socket may listen at their address.
    pub(crate) fn rest(&self) -> Result<(), String> {
        let one = |socket: &OwnedFd| {
            setsockopt(socket, sockopt::ReuseAddr, &true)?;
            shutdown(socket.as_raw_fd(), Shutdown::Read)
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
    pub(crate) fn wake_listeners(&self, id: &ShadowId) {
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
