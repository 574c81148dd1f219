//! The source's side where the copy is not a tree that runs but one that is parked here (`crate::park`).

use super::set_out::READY_WITHIN;
use super::{Outgoing, Record};
use crate::agent::Agent;
use crate::park::ParkedPlace;
use crate::probe::Probe;
use grid_core::handover::{HomeCopy, Source, SourceInput, TreeCopy};
use grid_os::cgroup::Group;
use grid_os::socket::Socket;
use grid_types::event::MoveFigures;
use grid_types::handover::SourceState;
use grid_types::wire::{MoveOrder, Stage};
use grid_types::{AttemptId, Bytes, Millis};
use std::path::Path;
use std::time::{Duration, Instant};

impl Record {
    /// `hold` is the name of a group that is never made: nothing is frozen.
    pub(crate) fn of_parked(
        order: MoveOrder,
        boot_id: &str,
        destination_boot: Option<String>,
        hold: String,
        stage: Stage,
        signals: Vec<i32>,
    ) -> Self {
        let (figures, report) = (MoveFigures::default(), None);
        let (members, came_by, boot_id) = (Vec::new(), None, boot_id.to_owned());
        Self { order, boot_id, destination_boot, members, came_by, hold, stage, signals, figures, report }
    }
}

impl Outgoing {
    /// The attempt that parked here what this one takes away.
    pub(crate) fn parked(&self) -> Option<&AttemptId> {
        self.record.order.parked.as_ref()
    }

    /// It is known, and the destination was not asked yet.
    pub(crate) fn waits_to_stage(&self) -> bool {
        self.machine.state == SourceState::Running && !self.dumping
    }

    /// Where the copy is that goes down this stream; `None` where it is not to go any more.
    pub(crate) fn begin_to_send(&mut self, stream: &Socket, state_dir: &Path) -> Option<ParkedPlace> {
        let parked = self.parked()?.clone();
        if !self.waits_to_stage() {
            return None;
        }
        self.stream = stream.try_clone().ok();
        self.dumping = true;
        self.frozen_at = Some(Instant::now());
        Some(ParkedPlace::of(state_dir, &parked))
    }
}

impl Agent {
    pub(crate) fn hold_name(&self, attempt: &AttemptId) -> String {
        self.group(&format!("hold/{attempt}"), &[grid_os::cgroup::Controller::Freezer]).path().to_owned()
    }

    pub(crate) fn add_source(
        &mut self,
        attempt: &AttemptId,
        machine: Source,
        record: Record,
        hold: Group,
        probes: Vec<Probe>,
    ) {
        self.sources.insert(attempt.clone(), Outgoing { probes, ..Outgoing::new(machine, record, hold) });
    }

    /// The destination says that it is ready within the usual time.
    pub(crate) fn arm_ready(&mut self, attempt: &AttemptId) {
        self.arm_deadline(attempt, READY_WITHIN);
    }

    /// All of it is there, restored and inspected, within the time that the order gives.
    pub(crate) fn arm_sending(&mut self, attempt: &AttemptId) {
        let Some(most) = self.sources.get(attempt).map(|s| s.record.order.max_frozen) else { return };
        self.arm_deadline(attempt, READY_WITHIN + Duration::from_millis(most.0));
    }

    /// The thread has sent the copy. To the machine it is frozen, as it was all the time.
    pub(crate) fn parked_sent(&mut self, attempt: &AttemptId, result: Result<(), String>) {
        let memory = self.sources.get(attempt).and_then(Outgoing::parked).and_then(|parked| self.parked_memory(parked));
        let Some(outgoing) = self.sources.get_mut(attempt) else { return };
        outgoing.dumping = false;
        outgoing.probes.clear();
        outgoing.record.figures.bytes = memory;
        outgoing.record.figures.dump = outgoing.frozen_at.map(|at| Millis(at.elapsed().as_millis() as u64));
        self.step_source(
            attempt,
            match result {
                Ok(()) => SourceInput::Frozen,
                Err(detail) => SourceInput::DumpFailed { detail },
            },
        );
    }

    fn parked_memory(&self, parked: &AttemptId) -> Option<Bytes> {
        Some(self.incoming.get(parked)?.parked()?.memory)
    }

    /// What a restarted agent finds of a copy that an attempt takes away: it survives reboots, and never runs.
    pub(super) fn parked_home(&self, parked: &AttemptId) -> HomeCopy {
        let copy = self.incoming.get(parked).and_then(|i| i.parked());
        match self.parked_place(parked).copy(copy) {
            TreeCopy::Frozen => HomeCopy::Frozen,
            _ => HomeCopy::Gone,
        }
    }
}
