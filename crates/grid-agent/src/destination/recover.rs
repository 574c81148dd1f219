//! What is left of earlier runs of the agent: attempts that are picked up from the ledger, and words about attempts that
//! are over or unknown.

use super::{Record, TreeCopy};
use crate::AgentError;
use crate::agent::Agent;
use crate::link::tracing_line;
use crate::source::not_its_attempt;
use crate::tree::TreePlace;
use grid_core::handover::{Destination, DestinationAction, DestinationInput, answer_unknown};
use grid_types::handover::{DestinationState, ToDestination};
use grid_types::wire::{Body, Party, Stage};
use grid_types::{AttemptId, Bytes, NodeName};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// So many attempts that it knows nothing of an agent remembers for each node, in its life.
const MOST_UNKNOWN: u32 = 1_000;

impl Agent {
    /// `leaving`: attempts whose trees a later attempt holds.
    pub(crate) fn recover_destinations(&mut self, leaving: &BTreeSet<AttemptId>) -> Result<(), AgentError> {
        for row in self.ledger.destinations::<Record>()? {
            let mut incoming = self.incoming_of(&row.attempt, row.detail.from.clone(), row.detail.stage.clone());
            if is_over(row.state) {
                // Its end was written down, and perhaps not tidied up. Who asks is answered from the ledger.
                let parked = self.parked_place(&row.attempt);
                if row.detail.stage.park && parked.is_there() {
                    parked.drop().unwrap_or_else(|e| tracing_line(&e));
                } else if !row.detail.stage.park && incoming.place.is_there() {
                    incoming.place.destroy(row.detail.init).unwrap_or_else(|e| tracing_line(&e));
                }
                continue;
            }
            incoming.record = row.detail;
            if incoming.record.stage.park {
                let copy = self.parked_copy(&row.attempt, row.state, incoming.record.parked.as_ref());
                let (machine, actions) = Destination::recover(row.attempt.clone(), row.state, row.released, copy);
                incoming.machine = machine;
                self.incoming.insert(row.attempt.clone(), incoming);
                self.do_destination(&row.attempt, actions);
                continue;
            }
            wait_for_criu(&incoming.place);
            // Noted by a pid 1 that is over, though nobody may have reaped it yet.
            let noted = incoming.place.dir.take_up(&self.cfg.state_dir.join(crate::ENDED));
            incoming.record.exit = incoming.record.exit.or(noted);
            let same_boot = incoming.record.boot_id == self.boot_id;
            let alive = same_boot && incoming.record.init.is_some_and(|i| i.open().is_some());
            let copy = match alive {
                // What another attempt holds on its way from here is frozen by that one, and only that one thaws it.
                true if leaving.contains(&row.attempt) => TreeCopy::Runs,
                // What its lender froze stays so: to let it run for a moment would be to break his word.
                true if row.released && self.is_taken(incoming.record.stage.lease.as_ref()) => TreeCopy::Runs,
                true if row.released && self.sleep.holds(&row.attempt) => TreeCopy::Runs,
                true if incoming.place.group.is_frozen().unwrap_or(false) => TreeCopy::Frozen,
                true => TreeCopy::Runs,
                false => {
                    incoming.record.exit = incoming.record.exit.or_else(|| incoming.place.dir.exit());
                    if incoming.record.exit.is_some() { TreeCopy::Ended } else { TreeCopy::Gone }
                }
            };
            let (machine, actions) = Destination::recover(row.attempt.clone(), row.state, row.released, copy);
            incoming.machine = machine;
            if let (true, Some(init)) = (alive, incoming.record.init) {
                self.watch_init(&row.attempt, init);
                incoming.record.root.iter().for_each(|root| self.watch_root(&row.attempt, root.pid));
            }
            self.incoming.insert(row.attempt.clone(), incoming);
            self.do_destination(&row.attempt, actions);
            if alive && row.state == DestinationState::Running {
                self.join_streams(&row.attempt);
                self.join_files(&row.attempt);
            }
        }
        Ok(())
    }

    /// An attempt that is over is in the ledger alone; its machine is made again for as long as it takes to answer.
    pub(super) fn answer_from_ledger(&mut self, attempt: &AttemptId, from: &NodeName, message: &ToDestination) -> bool {
        let row = match self.ledger.destination::<Record>(attempt) {
            Ok(Some(row)) => row,
            Ok(None) => return false,
            Err(e) => {
                // What cannot be read must not be answered as if it were unknown.
                tracing_line(&e.to_string());
                return true;
            }
        };
        if row.detail.from != *from {
            not_its_attempt(attempt, from);
            return true;
        }
        let mut incoming = self.incoming_of(attempt, row.detail.from.clone(), row.detail.stage.clone());
        incoming.record = row.detail;
        (incoming.machine, _) = Destination::recover(attempt.clone(), row.state, row.released, TreeCopy::Gone);
        self.incoming.insert(attempt.clone(), incoming);
        self.step_destination(attempt, DestinationInput::Received(message.clone()));
        self.incoming.remove(attempt);
        true
    }

    /// Nothing is known of it: answered, and the answer is remembered.
    pub(super) fn answer_as_unknown(&mut self, attempt: &AttemptId, from: &NodeName, message: &ToDestination) {
        for action in answer_unknown(message) {
            match action {
                DestinationAction::Persist(state) => {
                    // Each is a row for ever: who asks about that many makes them up, and hears nothing.
                    let asked = self.unknown_of.entry(from.clone()).or_default();
                    if *asked >= MOST_UNKNOWN {
                        return;
                    }
                    *asked += 1;
                    let record = nothing(from.clone(), &self.boot_id);
                    if let Err(e) = self.ledger.put_destination(attempt, state, false, &record) {
                        return tracing_line(&e.to_string());
                    }
                }
                DestinationAction::Send(word) => {
                    self.say(Party::Agent(from.clone()), Body::Up { message: word });
                }
                _ => {}
            }
        }
    }
}

/// Nothing that happens later changes it.
fn is_over(state: DestinationState) -> bool {
    matches!(state, DestinationState::Ended | DestinationState::Refused | DestinationState::Lost)
}

/// The record of an attempt of which only its number is known.
fn nothing(from: NodeName, boot_id: &str) -> Record {
    let stage = Stage {
        offload: "-".into(),
        title: String::new(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        lease: None,
        expected: Bytes(0),
        admitted: Bytes(0),
        processes: 0,
        shell_job: false,
        filtered: false,
        close_tcp: false,
        shadow: None,
        files: Vec::new(),
        home_files: false,
        files_patience: None,
        park: false,
        private_tmp: false,
        own_paths: Default::default(),
        probes: Vec::new(),
        highest_pid: 0,
    };
    let boot_id = boot_id.to_owned();
    Record { stage, from, boot_id, init: None, root: None, exit: None, streams: Vec::new(), left: false, parked: None }
}

/// After a restart nothing is decided before CRIU, which is never signalled, has ended by itself.
pub(crate) fn wait_for_criu(place: &TreePlace) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !place.criu.pids().is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}
