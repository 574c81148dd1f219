//! The destination's shell: stages what a source sends, and carries out what `grid_core::handover::Destination`
//! decides.
//!
//! Staging runs on a thread of its own and comes back as one input. Everything else is one short action each.

mod act;
mod admit;
mod ends;
mod parked;
mod recover;
mod staging;

pub(crate) use self::recover::wait_for_criu;

use self::staging::Staging;

use crate::agent::{Agent, Input};
use crate::data;
use crate::home::Linked;
use crate::listens::Heard;
use crate::park::{Keeping, ParkedCopy, ParkedPlace};
use crate::source::{not_its_attempt, refuse_when_stopped};
use crate::tree::{InitProcess, TreePlace, start_ticks, wait_gone};
use grid_core::handover::{Destination, DestinationInput, TreeCopy};
use grid_os::cgroup::Controller;
use grid_os::socket::Socket;
use grid_types::event::ExitStatus;
use grid_types::handover::{DestinationState, ToDestination};
use grid_types::reason::Reason;
use grid_types::streams::Stream;
use grid_types::wire::Stage;
use grid_types::{AttemptId, LeaseId, NodeName, ProcId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// A `Started` that is not answered within this is taken back until the owner has spoken.
const FENCE: Duration = Duration::from_secs(2);

/// What is recorded of a tree that came, or was to come, here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) stage: Stage,
    from: NodeName,
    boot_id: String,
    pub(crate) init: Option<InitProcess>,
    /// The root's number in the tree's own PID namespace, and here.
    pub(crate) root: Option<Root>,
    exit: Option<ExitStatus>,
    /// Its streams, under the names that they have here.
    #[serde(default)]
    pub(crate) streams: Vec<Stream>,
    /// It left again by a later attempt.
    pub(crate) left: bool,
    /// It is kept on the disk, and nothing of it runs.
    #[serde(default)]
    parked: Option<ParkedCopy>,
}

impl Record {
    /// The node whose agent owns the attempt.
    pub(crate) fn from(&self) -> &NodeName {
        &self.from
    }

    fn process(&self) -> Option<ProcId> {
        let root = self.root?;
        Some(ProcId { pid: root.pid, start_ticks: root.start_ticks, boot_id: self.boot_id.clone() })
    }
}

/// The root of a restored tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Root {
    pub(crate) inside: i32,
    pub(crate) pid: i32,
    pub(crate) start_ticks: u64,
}

/// One attempt of which this agent is the destination.
pub(crate) struct Incoming {
    machine: Destination,
    pub(crate) record: Record,
    place: TreePlace,
    stream: Option<Socket>,
    staging: bool,
    /// What is to be looked at before a stream is opened was found right.
    looked: bool,
    /// Its streams are being kept joined with its shadow: whether they are now.
    pub(crate) joined: Option<Arc<AtomicBool>>,
    /// It was told that nobody is at the other end.
    pub(crate) alone: bool,
    /// It sees the head's files: whether they are reached now.
    pub(crate) files: Option<Linked>,
    /// Where it listens that it began to while it is here.
    pub(crate) heard: Heard,
    armed: u64,
    last_word: Instant,
}

/// What is staged: a copy that waits for the word of its owner.
pub(crate) enum Staged {
    /// Restored and frozen.
    Tree { init: InitProcess, root: Root, streams: Vec<Stream> },
    /// On the disk.
    Parked(ParkedCopy),
}

/// What a staging thread brings back.
pub(crate) type StageOutcome = Result<Staged, String>;

impl Incoming {
    /// Its root lives, in this lease.
    pub(crate) fn lives_in(&self, lease: &LeaseId) -> bool {
        let state = self.machine.state;
        self.record.stage.lease.as_ref() == Some(lease)
            && !self.record.left
            && (self.staging
                || matches!(state, DestinationState::Staged | DestinationState::Running) && self.root_lives())
    }

    fn root_lives(&self) -> bool {
        self.record.root.is_some_and(|r| start_ticks(r.pid) == Some(r.start_ticks)) && self.place.dir.exit().is_none()
    }

    pub(crate) fn comes_from(&self, node: &NodeName) -> bool {
        self.record.from == *node
    }

    /// Ends the tree by force and waits until its pid 1 has written how, and has ended.
    pub(crate) fn end_tree(&self) {
        let group = self.place.group.with(&[Controller::Freezer]);
        let init = self.record.init.and_then(InitProcess::open);
        let ended = group.kill(Duration::from_secs(if self.record.stage.home_files { 2 } else { 5 }));
        // One that waits for home's files as it ends is let go with its namespace: the pump is in that, and with it the mount.
        let ended = match (ended, &init) {
            (Err(_), Some(init)) if self.record.stage.home_files => {
                let _ = init.signal(nix::libc::SIGKILL);
                group.kill(Duration::from_secs(2))
            }
            (ended, _) => ended,
        };
        if let (Ok(()), Some(init)) = (ended, init) {
            wait_gone(&init);
        }
    }

    /// The root of a tree that runs here now.
    pub(crate) fn living_root(&self) -> Option<i32> {
        let here = self.machine.state == DestinationState::Running && !self.record.left && self.root_lives();
        self.record.root.map(|r| r.pid).filter(|_| here)
    }

    /// Something of it was let run here, in a lease, and has not left.
    pub(crate) fn is_guest(&self) -> bool {
        let Record { stage, left, .. } = &self.record;
        self.machine.state == DestinationState::Running && stage.lease.is_some() && !stage.park && !left
    }

    /// The owner of the attempt has heard that it runs here.
    pub(crate) fn is_released(&self) -> bool {
        self.machine.released
    }

    /// Nothing of it is here, and how it ended nobody saw.
    pub(crate) fn is_lost(&self) -> bool {
        self.machine.state == DestinationState::Lost
    }

    /// A stream that comes for it is kept until its files were looked at.
    pub(crate) fn is_looked_at(&self) -> bool {
        self.staging && !self.looked
    }

    pub(crate) fn tree(&self) -> (&TreePlace, Option<Root>) {
        (&self.place, self.record.root)
    }
}

impl Agent {
    fn incoming_of(&self, attempt: &AttemptId, from: NodeName, stage: Stage) -> Incoming {
        let place = self.tree_place(attempt, stage.lease.as_ref());
        let boot_id = self.boot_id.clone();
        let streams = Vec::new();
        let record =
            Record { stage, from, boot_id, init: None, root: None, exit: None, streams, left: false, parked: None };
        Incoming {
            machine: Destination::new(attempt.clone()),
            record,
            place,
            stream: None,
            staging: false,
            looked: false,
            joined: None,
            alone: false,
            files: None,
            heard: Heard::default(),
            armed: 0,
            last_word: Instant::now(),
        }
    }

    /// A message from the agent that owns the attempt.
    pub(crate) fn heed_source(&mut self, from: NodeName, message: ToDestination, stage: Option<Stage>) {
        let attempt = message.attempt().clone();
        if let Some(incoming) = self.incoming.get(&attempt) {
            if !incoming.comes_from(&from) {
                return not_its_attempt(&attempt, &from);
            }
            // A staged copy that was killed meanwhile must not be called running.
            let vanished = incoming.machine.state == DestinationState::Staged && !incoming.copy_lives();
            if vanished && matches!(message, ToDestination::Go { .. }) {
                self.step_destination(&attempt, DestinationInput::StagedCopyDied);
            }
            return self.step_destination(&attempt, DestinationInput::Received(message));
        }
        if self.answer_from_ledger(&attempt, &from, &message) {
            return;
        }
        match (message, stage) {
            (ToDestination::Stage { .. }, Some(stage)) => self.begin_staging(attempt, from, stage),
            (message, _) => self.answer_as_unknown(&attempt, &from, &message),
        }
    }

    fn begin_staging(&mut self, attempt: AttemptId, from: NodeName, stage: Stage) {
        self.give_up_earlier(&from, &stage);
        let mut incoming = self.incoming_of(&attempt, from, stage);
        let asked = &mut incoming.record;
        let room = refuse_when_stopped(&self.cfg.stop)
            .and_then(|()| self.has_room())
            .and_then(|()| self.admit(&attempt, &asked.from, &mut asked.stage))
            .and_then(|()| self.files_of(&asked.from, &asked.stage));
        incoming.staging = room.is_ok();
        self.incoming.insert(attempt.clone(), incoming);
        self.step_destination(&attempt, DestinationInput::StageRequested);
        match room {
            Ok(files) => {
                let (inputs, attempt) = (self.inputs.clone(), attempt.clone());
                // A file system that does not answer holds up this attempt alone.
                std::thread::spawn(move || {
                    let _ = inputs.send(Input::Looked { attempt, result: files.are_the_same() });
                });
            }
            Err(reason) => self.looked(&attempt, Err(reason)),
        }
    }

    /// A source tries one attempt after the other: what it began before, and brought nothing for, is over.
    fn give_up_earlier(&mut self, from: &NodeName, stage: &Stage) {
        let same = |i: &Incoming| i.comes_from(from) && i.record.stage.offload == stage.offload;
        let waits = |i: &Incoming| i.machine.state == DestinationState::Empty && i.stream.is_none();
        let earlier = self.incoming.iter().filter(|(_, i)| same(i) && waits(i)).map(|(a, _)| a.clone());
        for attempt in earlier.collect::<Vec<_>>() {
            let detail = "a later attempt came in its place".to_owned();
            if let Some(incoming) = self.incoming.get_mut(&attempt) {
                incoming.staging = false;
            }
            self.step_destination(&attempt, DestinationInput::StageFailed { detail });
        }
    }

    /// Its files were looked at: a stream may be opened, or it is refused.
    pub(crate) fn looked(&mut self, attempt: &AttemptId, result: Result<(), Reason>) {
        let Some(incoming) = self.incoming.get_mut(attempt) else { return };
        let wanted = incoming.machine.state == DestinationState::Empty;
        incoming.looked = wanted && result.is_ok();
        incoming.staging = incoming.looked;
        let source = incoming.record.from.clone();
        let stream = self.take_data(attempt, &source);
        match result {
            // Refused meanwhile.
            _ if !wanted => self.forget_refused(attempt),
            Ok(()) if stream.is_some() || !self.is_hub() => self.start_staging(attempt, stream),
            Ok(()) => {}
            Err(reason) => {
                self.step_destination(attempt, DestinationInput::StageFailed { detail: reason.to_string() });
            }
        }
    }

    /// Starts the thread that stages; `stream` is there already where the source dialled.
    pub(crate) fn start_staging(&mut self, attempt: &AttemptId, stream: Option<Socket>) {
        let dial = data::Dial::of(&self.cfg);
        let own = self.own();
        let shadow = self.incoming.get(attempt).and_then(|i| i.record.stage.shadow.as_ref()).map(|s| s.shadow.clone());
        let listeners = shadow.map(|id| self.listeners_of(&id));
        let ticket = self.held.take(attempt);
        let Some(incoming) = self.incoming.get_mut(attempt) else { return };
        let stream = match stream.map(Ok).or_else(|| dial.map(|d| d.connect(attempt, ticket, &self.faults))) {
            Some(Ok(stream)) => stream,
            Some(Err(e)) => {
                incoming.staging = false;
                let detail = format!("the page stream could not be opened: {e}");
                return self.step_destination(attempt, DestinationInput::StageFailed { detail });
            }
            None => return,
        };
        incoming.stream = stream.try_clone().ok();
        if incoming.record.stage.park {
            let (faults, stage) = (self.faults.clone(), incoming.record.stage.clone());
            let work = Keeping { faults, place: ParkedPlace::of(&self.cfg.state_dir, attempt), stage, stream };
            return self.stage_by(attempt, move || work.run());
        }
        let view = self.view_of(attempt);
        let Some(incoming) = self.incoming.get(attempt) else { return };
        let work = Staging {
            view,
            listeners,
            criu: self.criu.clone(),
            faults: self.faults.clone(),
            place: incoming.place.clone(),
            stage: incoming.record.stage.clone(),
            program: self.cfg.program.clone(),
            own,
            stream,
        };
        self.stage_by(attempt, move || work.run());
    }

    fn stage_by(&self, attempt: &AttemptId, work: impl FnOnce() -> StageOutcome + Send + 'static) {
        let (inputs, attempt) = (self.inputs.clone(), attempt.clone());
        std::thread::spawn(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
                .unwrap_or_else(|_| Err("staging panicked".to_owned()));
            let _ = inputs.send(Input::StageEnded { attempt, outcome });
        });
    }

    pub(crate) fn stage_ended(&mut self, attempt: &AttemptId, outcome: StageOutcome) {
        let Some(incoming) = self.incoming.get_mut(attempt) else { return };
        incoming.staging = false;
        incoming.stream = None;
        match outcome {
            Ok(Staged::Parked(copy)) => self.parked_staged(attempt, copy),
            Ok(Staged::Tree { init, root, streams }) => {
                incoming.record.streams = streams;
                incoming.record.init = Some(init);
                incoming.record.root = Some(root);
                let wanted = incoming.machine.state == DestinationState::Empty;
                if wanted {
                    self.watch_init(attempt, init);
                    self.watch_root(attempt, root.pid);
                    self.step_destination(attempt, DestinationInput::Staged);
                } else {
                    // Refused meanwhile.
                    self.discard(attempt);
                    self.forget_refused(attempt);
                }
            }
            Err(detail) => {
                self.discard(attempt);
                self.step_destination(attempt, DestinationInput::StageFailed { detail });
            }
        }
    }

    pub(crate) fn fence_expired(&mut self, attempt: &AttemptId, armed: u64) {
        if self.incoming.get(attempt).is_some_and(|i| i.armed == armed) {
            self.step_destination(attempt, DestinationInput::FenceExpired);
        }
    }

    pub(crate) fn tick_destinations(&mut self) {
        let due = |i: &Incoming| {
            let unanswered = matches!(i.machine.state, DestinationState::Staged)
                || (i.machine.state == DestinationState::Running && !i.machine.released);
            unanswered && i.last_word.elapsed() >= Duration::from_secs(1)
        };
        let attempts: Vec<AttemptId> = self.incoming.iter().filter(|(_, i)| due(i)).map(|(a, _)| a.clone()).collect();
        for attempt in attempts {
            self.step_destination(&attempt, DestinationInput::Tick);
        }
    }

    pub(crate) fn destinations_from(&self, node: &NodeName) -> Vec<AttemptId> {
        // A spoke's only link is to its hub, through which every source is reached.
        let from = |i: &Incoming| i.record.from == *node || !self.is_hub();
        self.incoming.iter().filter(|(_, i)| from(i)).map(|(a, _)| a.clone()).collect()
    }

    pub(crate) fn step_destination(&mut self, attempt: &AttemptId, input: DestinationInput) {
        let Some(incoming) = self.incoming.get_mut(attempt) else { return };
        let actions = incoming.machine.step(input);
        self.do_destination(attempt, actions);
        self.forget_refused(attempt);
    }

    /// What was refused is in the ledger, which answers for it.
    fn forget_refused(&mut self, attempt: &AttemptId) {
        let over = |i: &Incoming| i.machine.state == DestinationState::Refused && !i.staging;
        if self.incoming.get(attempt).is_some_and(over) {
            self.incoming.remove(attempt);
        }
    }
}
