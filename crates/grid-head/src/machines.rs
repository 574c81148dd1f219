//! Two machines compared, by their agents' words: for `grid doctor --between`, and before every move to another machine.

use crate::head::{Head, fault, refused};
use grid_core::machines::{compare, refusal};
use grid_engine::Agents;
use grid_os::clock::{boot_ms, unix_ms};
use grid_types::api::ApiError;
use grid_types::exit::FaultClass;
use grid_types::machine::{MachineFacts, MachineReply, MachineRow, Skew, UserHere};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::{Answer, MoveOrder, Request};
use grid_types::{Millis, NodeName};

impl Head {
    /// What differs between two nodes, for this user's processes.
    pub(crate) async fn between(&self, here: &str, there: &str, uid: u32) -> Result<MachineReply, ApiError> {
        let (here, there) = (self.node_named(here)?, self.node_named(there)?);
        let one = here == there || self.inner.borrow().cfg.embedded;
        let rows = self.compared(&here, &there, uid).await.map_err(|r| refused(&r, "they were not compared"))?;
        Ok(MachineReply { here, there, one, rows })
    }

    /// Nothing is frozen for a machine on which what was started at home cannot run, or for an older grid. Home takes back what
    /// it started.
    pub(crate) async fn machines_match(&self, order: &MoveOrder) -> Result<(), Reason> {
        let home = self.head_name();
        if let Some(reason) = self.inner.borrow().older.get(&order.destination) {
            return Err(Reason::new(reason.code, format!("{}: {}", order.destination, reason.detail)));
        }
        if !order.apart || order.park || order.destination == home {
            return Ok(());
        }
        let uid = self.offload_record(&order.offload).map_or(0, |record| record.uid);
        let rows = self.compared(&home, &order.destination, uid).await?;
        refusal(&rows, &order.destination).map_or(Ok(()), Err)
    }

    async fn compared(&self, here: &NodeName, there: &NodeName, uid: u32) -> Result<Vec<MachineRow>, Reason> {
        let known = grid_os::users::user_of(uid).ok().flatten();
        let gid = known.as_ref().map_or(uid, |user| user.gid);
        let user = UserHere { uid, gid, name: known.map(|user| user.name) };
        let (mine, my_clock) = self.machine(here, &user).await?;
        let (theirs, their_clock) = self.machine(there, &user).await?;
        let skew = Skew {
            ahead_ms: their_clock.ahead_ms - my_clock.ahead_ms,
            within: Millis(their_clock.within.0 + my_clock.within.0),
        };
        Ok(compare(&mine, &theirs, skew, Some(&user)))
    }

    /// Its word, and how far its clock is ahead of this one: by half of the time that the question and its answer took.
    async fn machine(&self, node: &NodeName, user: &UserHere) -> Result<(MachineFacts, Skew), Reason> {
        let (asked, now) = (boot_ms(), unix_ms());
        let facts = match self.hub().ask(node, Request::Machine { user: Some(user.clone()) }).await? {
            Answer::Machine { facts } => *facts,
            other => return Err(Reason::new(ReasonCode::Unknown, format!("{node} answered {other:?}"))),
        };
        let took = boot_ms().0.saturating_sub(asked.0);
        let ahead_ms = facts.clock.0 as i64 - (now.0 + took / 2) as i64;
        Ok((facts, Skew { ahead_ms, within: Millis(took.div_ceil(2) + 1) }))
    }
}

/// Two names from a path's end.
pub(crate) fn pair<'a>(parts: &[&'a str]) -> Result<(&'a str, &'a str), ApiError> {
    match parts {
        [here, there] => Ok((here, there)),
        _ => Err(fault(FaultClass::Usage, "name two nodes")),
    }
}
