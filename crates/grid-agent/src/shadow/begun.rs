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
use grid_shadow::control::{ToShadow, send_with};
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
        let control = shadow.control.clone()?;
        let before = shadow.record.begun.clone();
        let held = super::leave::held_by(shadow.record.pid).unwrap_or_default();
        let (keep, closed): (Vec<Begun>, Vec<Begun>) = before.iter().cloned().partition(|b| at.contains(&b.at));
        for begun in closed {
            let listener = label(begun.at.port(), begun.at.is_ipv6());
            let _ = grid_shadow::control::send(&control, &ToShadow::Unlisten { listener });
        }
        // What was handed over and never arrived is made anew.
        let mut now: Vec<Begun> = keep.into_iter().filter(|b| held.iter().any(|(_, link)| *link == b.name)).collect();
        let mut refused = BTreeMap::new();
        for at in at {
            if now.iter().any(|b| b.at == *at) {
                continue;
            }
            let made = listen(*at).and_then(|(socket, name)| {
                let listener = label(at.port(), at.is_ipv6());
                send_with(&control, &ToShadow::Listen { listener }, socket.as_fd()).map_err(|e| e.to_string())?;
                Ok(Begun { at: *at, name })
            });
            match made {
                Ok(begun) => now.push(begun),
                Err(why) => drop(refused.insert(*at, why)),
            }
        }
        if now != before {
            shadow.record.begun = now;
            if let Err(e) = self.ledger.put_shadow(id, &shadow.record) {
                tracing_line(&e.to_string());
            }
        }
        Some(refused)
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

    #[test]
    fn a_port_of_the_systems_is_nobodys_to_ask_for() {
        let why = listen(([127, 0, 0, 1], 80).into()).unwrap_err();
        assert_eq!(why, "port 80 is not an ordinary user's");
        assert!(listen(([127, 0, 0, 1], 0).into()).is_err(), "nor is port 0, which is any");
    }
}
