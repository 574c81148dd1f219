//! Sockets on which a tree begins to listen while it is away: its agent notices them and tells its far end and home, whose
//! shadow then listens at the same address and passes on whoever connects.
//!
//! Owns the look on the lender's side. What home does is `shadow/begun.rs`; which sockets count is
//! `grid_core::detect::begun`. Said again now and then, as everything between agents is: any word may be lost.

use crate::agent::Agent;
use crate::destination::Incoming;
use crate::link::tracing_line;
use crate::streams::{control_path, tell};
use grid_core::detect::begun;
use grid_os::cgroup::Controller;
use grid_shadow::control::ToFar;
use grid_types::AttemptId;
use grid_types::wire::{Body, Party};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What is unchanged is said again after so long.
const AGAIN: Duration = Duration::from_secs(5);

/// What was seen and said of one tree.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Every socket that listened in its network namespace when it was looked at closely.
    sockets: Vec<(u64, SocketAddr)>,
    /// Those of its own that count.
    at: Vec<SocketAddr>,
    said: Option<Instant>,
}

impl Agent {
    /// Looks at the trees that live here away from home.
    pub(crate) fn tick_listens(&mut self) {
        let Some(home) = self.home_node() else { return };
        let away = |i: &Incoming| i.record.stage.lease.is_some() && i.record.stage.shadow.is_some();
        let all: Vec<(AttemptId, i32)> = self
            .incoming
            .iter()
            .filter(|(_, i)| away(i))
            .filter_map(|(a, i)| Some((a.clone(), i.living_root()?)))
            .collect();
        for (attempt, root) in all {
            match self.look_for_listeners(&attempt, root) {
                Ok(Some(at)) => self.say(Party::Agent(home.clone()), Body::Listens { attempt, at }),
                Ok(None) => {}
                Err(e) => tracing_line(&format!("where {attempt} listens: {e}")),
            }
        }
    }

    /// What is to be said now, where something is.
    fn look_for_listeners(&mut self, attempt: &AttemptId, root: i32) -> Result<Option<Vec<SocketAddr>>, String> {
        let text = |e: grid_os::proc::ProcError| e.to_string();
        let sockets = self.proc.listening_beside(root).map_err(text)?;
        let Some(incoming) = self.incoming.get(attempt) else { return Ok(None) };
        let mut at = incoming.heard.at.clone();
        if sockets != incoming.heard.sockets {
            let members = incoming.tree().0.group.with(&[Controller::Freezer]).pids();
            let own = self.proc.held_among(&members, &sockets);
            at = begun(&own, &incoming.record.streams);
        }
        let changed = at != incoming.heard.at;
        let control = control_path(incoming.tree().0);
        if changed {
            tell(&control, &ToFar::Listens { at: at.iter().map(|at| (at.port(), at.is_ipv6())).collect() });
        }
        let Some(incoming) = self.incoming.get_mut(attempt) else { return Ok(None) };
        // Also at first, and where it is nowhere: home may believe something else, from before.
        let due = incoming.heard.said.is_none_or(|said| said.elapsed() >= AGAIN);
        let said = if changed || due { Some(Instant::now()) } else { incoming.heard.said };
        incoming.heard = Heard { sockets, at: at.clone(), said };
        Ok((changed || due).then_some(at))
    }
}
