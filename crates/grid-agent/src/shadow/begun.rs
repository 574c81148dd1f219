//! Home's part where a tree begins to listen while it is away: its shadow listens there, too.
//!
//! The lender says where; it is believed no further than an ordinary user at home could have done the same: so many, at
//! addresses that every node has, at ports that are no system's. What could be
//! done of it is told to the daemon, as a whole, each time.

use super::{Agent, Shadow};
use crate::link::tracing_line;
use grid_core::detect::begun;
use grid_os::listen::listen_at;
use grid_shadow::config::label;
use grid_shadow::control::ToShadow;
use grid_types::event::Listens;
use grid_types::streams::ShadowId;
use grid_types::wire::Notice;
use grid_types::{AttemptId, NodeName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

/// Below it an ordinary user may not listen.
const FIRST_PORT: u16 = 1024;

/// A socket on which a shadow listens that its process never had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    at: SocketAddr,
    /// As the shadow holds it: `socket:[4711]`.
    pub(super) name: String,
}

impl Begun {
    fn label(&self) -> u32 {
        label(self.at.port(), self.at.is_ipv6())
    }
}

impl Agent {
    /// A tree of this node's listens at these addresses now, beside those that it left with.
    pub(crate) fn heed_listens(&mut self, from: &NodeName, attempt: &AttemptId, at: &[SocketAddr]) {
        let is = |s: &&Shadow| s.record.attempt == *attempt && s.record.node == *from && s.told_end.is_none();
        let found = self.shadows.iter().find(|(_, s)| is(s)).map(|(id, s)| (id.clone(), s.record.offload.clone()));
        let Some((id, offload)) = found else { return };
        let at = begun(at, &[]);
        let Some(refused) = self.listen_for(&id, &at) else { return };
        let all = at.iter().map(|at| Listens { at: *at, refused: refused.get(at).cloned() }).collect();
        self.notice(Notice::Listens { offload, all });
    }

    /// Lets the shadow listen there and nowhere else; why it does not where it cannot. Nothing where it is not there to
    /// be told: this is said again.
    fn listen_for(&mut self, id: &ShadowId, at: &[SocketAddr]) -> Option<BTreeMap<SocketAddr, String>> {
        let shadow = self.shadows.get_mut(id)?;
        shadow.control.as_ref()?;
        let before = shadow.record.begun.clone();
        let refused = shadow.listen_only(at);
        if shadow.record.begun != before
            && let Err(e) = self.ledger.put_shadow(id, &shadow.record)
        {
            tracing_line(&e.to_string());
        }
        // One that heard not all of it comes again, and this is said again.
        shadow.control.as_ref().map(|_| refused)
    }
}

impl Shadow {
    /// Has it listen there and nowhere else; why it does not where it cannot. It is recorded what it was told.
    fn listen_only(&mut self, at: &[SocketAddr]) -> BTreeMap<SocketAddr, String> {
        let held = super::leave::held_by(self.record.pid).unwrap_or_default();
        let before = std::mem::take(&mut self.record.begun);
        let (keep, closed): (Vec<Begun>, Vec<Begun>) = before.into_iter().partition(|b| at.contains(&b.at));
        // What it could not be told it is told again.
        let still = closed.into_iter().filter(|b| !self.say(&ToShadow::Unlisten { listener: b.label() }, None));
        let mut now: Vec<Begun> = still.collect();
        // What was handed over and never arrived is made anew.
        now.extend(keep.into_iter().filter(|b| held.iter().any(|(_, link)| *link == b.name)));
        let mut refused = BTreeMap::new();
        for at in at {
            if now.iter().any(|b| b.at == *at) {
                continue;
            }
            match listen(*at) {
                Err(why) => drop(refused.insert(*at, why)),
                Ok((socket, name)) => {
                    let begun = Begun { at: *at, name };
                    let told = self.say(&ToShadow::Listen { listener: begun.label() }, Some(socket.as_fd()));
                    now.extend(told.then_some(begun));
                }
            }
        }
        self.record.begun = now;
        refused
    }
}

/// A socket that listens there, and its name.
fn listen(at: SocketAddr) -> Result<(std::os::fd::OwnedFd, String), String> {
    if at.port() < FIRST_PORT {
        return Err(format!("port {} is not an ordinary user's", at.port()));
    }
    let socket = listen_at(at).map_err(|e| e.to_string())?;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).map_err(|e| e.to_string())?;
    Ok((socket, link.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shadow::tests::{deaf, stopped};

    /// What a stopped shadow did not hear counts as not said: it listens where it is to, and nowhere else, once it goes on.
    #[test]
    fn what_a_stopped_shadow_cannot_be_told_is_told_again() {
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (old, new) = (free(), free());
        let (mut shadow, _reads_nothing) = stopped();
        assert!(shadow.listen_only(&[old]).is_empty());
        let told = shadow.record.begun.clone();
        assert!(matches!(told[..], [Begun { at, .. }] if at == old));
        deaf(&mut shadow);
        assert!(shadow.listen_only(&[new]).is_empty());
        assert!(shadow.control.is_none(), "it is let go");
        assert_eq!(shadow.record.begun, told);
    }

    #[test]
    fn a_port_of_the_systems_is_nobodys_to_ask_for() {
        let why = listen(([127, 0, 0, 1], 80).into()).unwrap_err();
        assert_eq!(why, "port 80 is not an ordinary user's");
        assert!(listen(([127, 0, 0, 1], 0).into()).is_err(), "nor is port 0, which is any");
    }
}
