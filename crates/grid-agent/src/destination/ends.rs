//! How trees that came here end, or leave again, and what is told of them.

use super::Record;
use crate::agent::{Agent, Input};
use crate::link::tracing_line;
use crate::tree::{InitProcess, wait_gone};
use grid_core::handover::{DestinationInput, DestinationReport};
use grid_types::AttemptId;
use grid_types::event::ExitStatus;
use grid_types::handover::DestinationState;
use grid_types::wire::{Notice, TreeHolding};
use std::time::Duration;

/// So many of the newest trees are told of to a daemon that comes back.
const HOLDINGS: u32 = 500;

impl Agent {
    /// The root of a tree has ended: its status is told now. What it left behind lives on, for as long as the lease does.
    pub(crate) fn root_ended(&mut self, attempt: &AttemptId, patience: u32) {
        let Some(incoming) = self.incoming.get_mut(attempt) else { return };
        if incoming.record.left || incoming.record.exit.is_some() || incoming.machine.state != DestinationState::Running
        {
            return;
        }
        let Some(exit) = incoming.place.dir.exit() else {
            // Pid 1 writes it as soon as it has reaped the root.
            if patience > 0 {
                let input = Input::RootEnded { attempt: attempt.clone(), patience: patience - 1 };
                self.after(Duration::from_millis(10), input);
            }
            return;
        };
        incoming.record.exit = Some(exit);
        let (state, released, record) = (incoming.machine.state, incoming.machine.released, incoming.record.clone());
        if let Err(e) = self.ledger.put_destination(attempt, state, released, &record) {
            tracing_line(&e.to_string());
        }
        let offload = record.stage.offload;
        self.notice(Notice::Ended { attempt: attempt.clone(), offload, status: Some(exit) });
    }

    /// Pid 1 of a tree has ended, and so everything in its PID namespace.
    pub(crate) fn init_ended(&mut self, attempt: &AttemptId) {
        let Some(incoming) = self.incoming.get_mut(attempt) else { return };
        if incoming.record.left {
            let _ = incoming.place.sweep();
            return;
        }
        // It may have begun to end while the cluster was down, and have noted that elsewhere.
        let noted = || incoming.place.dir.take_up(&self.cfg.state_dir.join(crate::ENDED));
        incoming.record.exit = incoming.record.exit.or_else(|| incoming.place.dir.exit()).or_else(noted);
        let input = match incoming.machine.state {
            DestinationState::Running => DestinationInput::TreeEnded,
            _ => DestinationInput::StagedCopyDied,
        };
        self.step_destination(attempt, input);
    }

    /// How the root of a tree that is over here ended.
    pub(crate) fn ended_with(&self, attempt: &AttemptId) -> Option<ExitStatus> {
        self.ledger.destination::<Record>(attempt).ok()??.detail.exit
    }

    /// The tree that this attempt brought here has left for good.
    pub(crate) fn has_left(&self, attempt: &AttemptId) -> bool {
        self.ledger.destination::<Record>(attempt).ok().flatten().is_some_and(|row| row.detail.left)
    }

    /// A machine of this agent let a tree go that had come here: it left for good.
    pub(crate) fn tree_left(&mut self, attempt: &AttemptId) {
        let Some(incoming) = self.incoming.get_mut(attempt) else { return };
        incoming.record.left = true;
        if let Some(fd) = incoming.record.init.and_then(InitProcess::open) {
            let _ = fd.signal(nix::libc::SIGKILL);
            wait_gone(&fd);
        }
        let (place, record) = (incoming.place.clone(), incoming.record.clone());
        if let Err(e) = place.sweep() {
            tracing_line(&e);
        }
        if let Err(e) = self.ledger.put_destination(attempt, DestinationState::Ended, true, &record) {
            tracing_line(&e.to_string());
        }
        self.incoming.remove(attempt);
    }

    pub(super) fn report_destination(&mut self, attempt: &AttemptId, report: &DestinationReport) {
        let Some(incoming) = self.incoming.get(attempt) else { return };
        let offload = incoming.record.stage.offload.clone();
        let attempt_id = attempt.clone();
        match report {
            DestinationReport::Started | DestinationReport::Released => {
                if let Some(process) = incoming.record.process() {
                    self.notice(Notice::Arrived { attempt: attempt_id, offload, process });
                }
            }
            DestinationReport::Ended => {
                let status = incoming.record.exit;
                let (place, parked) = (incoming.place.clone(), incoming.record.stage.park);
                self.notice(Notice::Ended { attempt: attempt_id, offload, status });
                let gone = if parked { self.parked_place(attempt).drop() } else { place.destroy(None) };
                gone.unwrap_or_else(|e| tracing_line(&e));
                self.incoming.remove(attempt);
            }
            DestinationReport::Lost { detail } => {
                tracing_line(&format!("attempt {attempt}: {detail}"));
                if let Err(e) = incoming.place.sweep() {
                    tracing_line(&e);
                }
                self.say_tree_is_lost(attempt);
            }
            DestinationReport::Held { detail } | DestinationReport::Refused { detail } => {
                tracing_line(&format!("attempt {attempt}: {detail}"));
            }
            DestinationReport::Staged => {}
        }
    }

    pub(crate) fn tree_holdings(&self) -> Vec<TreeHolding> {
        let live = self.incoming.iter().map(|(attempt, i)| holding(attempt, i.machine.state, &i.record));
        let mut all: Vec<TreeHolding> = live.collect();
        // Those that ended, or got lost, before the last restart are only in the ledger.
        if let Ok(rows) = self.ledger.newest_destinations::<Record>(HOLDINGS) {
            let over = |s: DestinationState| matches!(s, DestinationState::Ended | DestinationState::Lost);
            let past = rows.into_iter().filter(|r| over(r.state) && !r.detail.left);
            all.extend(
                past.filter(|r| !self.incoming.contains_key(&r.attempt))
                    .map(|r| holding(&r.attempt, r.state, &r.detail)),
            );
        }
        all
    }
}

fn holding(attempt: &AttemptId, state: DestinationState, record: &Record) -> TreeHolding {
    TreeHolding {
        attempt: attempt.clone(),
        offload: record.stage.offload.clone(),
        lease: record.stage.lease.clone(),
        state,
        process: record
            .process()
            .filter(|_| state == DestinationState::Running && !record.left && record.exit.is_none()),
        exit: record.exit,
    }
}
