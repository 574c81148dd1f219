//! The destination's side where what arrives is kept on the disk (`crate::park`): nothing of it runs here.

use super::{Incoming, Record};
use crate::agent::Agent;
use crate::park::ParkedCopy;
use grid_core::handover::DestinationInput;
use grid_types::AttemptId;
use grid_types::event::ExitStatus;
use grid_types::handover::DestinationState;

impl Record {
    /// Nothing of it was running: it ended so.
    pub(crate) fn end_by(&mut self, status: ExitStatus) {
        self.exit = Some(status);
    }
}

impl Incoming {
    /// What is parked of it, where it is kept on the disk.
    pub(crate) fn parked(&self) -> Option<&ParkedCopy> {
        self.record.parked.as_ref().filter(|_| self.record.stage.park)
    }

    /// The source's copy is gone: this one is the only one.
    pub(crate) fn is_owned(&self) -> bool {
        self.machine.state == DestinationState::Running && self.machine.released && !self.record.left
    }

    /// What is staged is still there.
    pub(super) fn copy_lives(&self) -> bool {
        self.record.stage.park || self.root_lives()
    }
}

impl Agent {
    /// It is on the disk for good.
    pub(super) fn parked_staged(&mut self, attempt: &AttemptId, copy: ParkedCopy) {
        let Some(incoming) = self.incoming.get_mut(attempt) else { return };
        incoming.record.parked = Some(copy);
        match incoming.machine.state {
            DestinationState::Empty => self.step_destination(attempt, DestinationInput::Staged),
            // Refused meanwhile.
            _ => self.discard(attempt),
        }
    }
}
