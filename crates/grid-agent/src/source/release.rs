//! The release of a tree that lives on elsewhere: its copy here goes for good, or becomes its shadow.

use super::Record;
use crate::agent::Agent;
use crate::streams;
use grid_os::cgroup::Group;
use grid_types::streams::ShadowTerms;
use grid_types::{AttemptId, NodeName, OffloadId};
use std::path::PathBuf;
use std::time::Duration;

impl Agent {
    /// The copy here goes for good. Where the tree lives on and leaves home, its root becomes the shadow.
    pub(super) fn discard_copy(&mut self, attempt: &AttemptId, lives_on: bool) -> Result<(), String> {
        let Some(outgoing) = self.sources.get(attempt) else { return Ok(()) };
        if let Some(parked) = outgoing.parked().cloned() {
            let shadow = outgoing.record.stage.shadow.clone();
            self.parked_left(&parked)?;
            shadow.iter().for_each(|terms| self.wake_listeners(&terms.shadow));
            return Ok(());
        }
        let (hold, record, here) = (outgoing.hold.clone(), outgoing.record.clone(), outgoing.holds_where_it_lives());
        if hold.exists() {
            let stays = lives_on && self.leave_shadow(&Leaving::of(&record, &hold));
            if !stays {
                hold.kill(Duration::from_secs(5)).map_err(|e| e.to_string())?;
            }
        }
        if !here {
            hold.remove().map_err(|e| e.to_string())?;
        }
        if let Some(earlier) = record.came_by {
            // First of all: who connects is refused until the shadow listens again.
            let shadow = record.stage.shadow.filter(|_| lives_on);
            shadow.iter().for_each(|terms| self.wake_listeners(&terms.shadow));
            self.tree_left(&earlier);
        }
        Ok(())
    }

    /// Where the far end of the tree's streams is spoken to, of a tree that lives here.
    pub(super) fn far_of(&self, attempt: &AttemptId) -> Option<PathBuf> {
        let came_by = self.sources.get(attempt)?.record.came_by.as_ref()?;
        let incoming = self.incoming.get(came_by).filter(|i| i.record.stage.shadow.is_some())?;
        Some(streams::control_path(incoming.tree().0))
    }
}

/// A tree that leaves home, as its shadow has to know it.
pub(crate) struct Leaving<'a> {
    pub(crate) attempt: &'a AttemptId,
    pub(crate) offload: &'a OffloadId,
    pub(crate) node: &'a NodeName,
    pub(crate) title: &'a str,
    pub(crate) shadow: Option<&'a ShadowTerms>,
    /// It is kept there on the disk.
    pub(crate) parked: bool,
    pub(crate) root: i32,
    pub(crate) start_ticks: u64,
    pub(crate) hold: &'a Group,
    pub(crate) record: &'a Record,
}

impl<'a> Leaving<'a> {
    fn of(record: &'a Record, hold: &'a Group) -> Self {
        Self {
            attempt: &record.order.attempt,
            offload: &record.order.offload,
            node: &record.order.destination,
            title: &record.stage.title,
            shadow: record.stage.shadow.as_ref(),
            parked: record.order.park,
            root: record.members[0].pid,
            start_ticks: record.members[0].start_ticks,
            hold,
            record,
        }
    }
}
