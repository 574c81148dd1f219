//! The source's shell: holds a tree, dumps it down a stream, and carries out what `grid_core::handover::Source`
//! decides.

mod dump;
mod head_stop;
mod hold;
mod parked;
mod release;
mod report;
mod set_out;
mod stop;

pub(crate) use self::hold::{hold_prefix, put_back};
pub(crate) use self::release::Leaving;
pub(crate) use self::report::leaving;
pub(crate) use self::stop::{Heeded, refuse as refuse_when_stopped};

use self::hold::{pending_signals, thaw_home};

use crate::agent::{Agent, Input};
use crate::faults;
use crate::link::tracing_line;
use crate::probe::Probe;
use crate::streams;
use grid_core::handover::{GoneProof, Source, SourceAction, SourceInput};
use grid_os::cgroup::Group;
use grid_os::socket::Socket;
use grid_shadow::control::ToFar;
use grid_types::event::{MoveFigures, Resolution};
use grid_types::handover::{SourceState, ToDestination, ToSource};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::{Answer, Body, MoveOrder, MoveReport, Party, Stage};
use grid_types::{AttemptId, Millis, NodeName};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// What is recorded of a tree that leaves, or was to leave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    order: MoveOrder,
    boot_id: String,
    destination_boot: Option<String>,
    members: Vec<Member>,
    /// Attempt that had brought the tree here, where it is in namespaces of its own.
    came_by: Option<AttemptId>,
    pub(crate) hold: String,
    pub(crate) stage: Stage,
    signals: Vec<i32>,
    /// What is measured of the move so far.
    #[serde(default)]
    figures: MoveFigures,
    report: Option<MoveReport>,
}

/// A member of the tree and the group that it was taken from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Member {
    pid: i32,
    start_ticks: u64,
    group: Option<String>,
}

/// One attempt of which this agent is the source.
pub(crate) struct Outgoing {
    machine: Source,
    record: Record,
    hold: Group,
    stream: Option<Socket>,
    dumping: bool,
    begun: Instant,
    frozen_at: Option<Instant>,
    /// Its lender had frozen it before.
    frozen_before: Option<Instant>,
    armed: u64,
    /// Until the destination has looked at them.
    probes: Vec<Probe>,
    /// A person, or an order to stop, undid it: the reason that is reported.
    undone_by: Option<Reason>,
    last_word: Instant,
}

/// What a dump thread brings back.
pub(crate) struct DumpOutcome {
    frozen_at: Instant,
    bytes: u64,
    as_owner: bool,
    result: Result<(), String>,
}

impl Outgoing {
    fn new(machine: Source, record: Record, hold: Group) -> Self {
        let now = Instant::now();
        let figures = MoveFigures { processes: record.stage.processes, ..record.figures };
        Self {
            machine,
            record: Record { figures, ..record },
            hold,
            stream: None,
            dumping: false,
            begun: now,
            frozen_at: None,
            frozen_before: None,
            armed: 0,
            probes: Vec::new(),
            undone_by: None,
            last_word: now,
        }
    }

    /// The hold is the group in which the tree lives, not one that was made for this attempt.
    fn holds_where_it_lives(&self) -> bool {
        self.record.members.first().and_then(|m| m.group.as_deref()) == Some(self.record.hold.as_str())
    }

    /// Its outcome is open.
    pub(crate) fn is_moving(&self) -> bool {
        self.dumping
            || matches!(
                self.machine.state,
                SourceState::Running | SourceState::Frozen | SourceState::Committed | SourceState::InDoubt
            )
    }

    /// Nothing is left to be done for it, and what became of it is written down.
    fn is_over(&self) -> bool {
        !self.is_moving() && self.record.report.is_some()
    }

    /// CRIU reads, or is about to read, the tree that this attempt brought here.
    pub(crate) fn is_read_of(&self, came_by: &AttemptId) -> bool {
        self.dumping && self.record.came_by.as_ref() == Some(came_by)
    }

    pub(crate) fn goes_to(&self, node: &NodeName) -> bool {
        self.record.order.destination == *node
    }

    pub(crate) fn holds(&self, pid: i32) -> bool {
        self.record.members.iter().any(|m| m.pid == pid)
    }
}

impl Agent {
    /// The attempt that brought the tree of this root here, where one did.
    pub(crate) fn came_by(&self, root: i32) -> Option<AttemptId> {
        self.incoming.iter().find(|(_, i)| i.living_root() == Some(root)).map(|(a, _)| a.clone())
    }

    /// The tree that this attempt brought has a `/tmp` of its own.
    pub(crate) fn has_private_tmp(&self, came_by: &AttemptId) -> bool {
        self.incoming.get(came_by).is_some_and(|i| i.record.stage.private_tmp)
    }

    pub(crate) fn arm_deadline(&mut self, attempt: &AttemptId, pause: Duration) {
        if let Some(outgoing) = self.sources.get_mut(attempt) {
            outgoing.armed += 1;
            let armed = outgoing.armed;
            self.after(pause, Input::Deadline { attempt: attempt.clone(), armed });
        }
    }

    pub(crate) fn deadline(&mut self, attempt: &AttemptId, armed: u64) {
        if self.sources.get(attempt).is_some_and(|s| s.armed == armed) {
            self.step_source(attempt, SourceInput::DeadlineReached);
        }
    }

    fn came_by_of(&self, attempt: &AttemptId) -> Option<AttemptId> {
        self.sources.get(attempt)?.record.came_by.clone()
    }

    pub(crate) fn cancel_move(&mut self, attempt: &AttemptId) -> Result<Answer, Reason> {
        let outgoing = self.sources.get_mut(attempt).ok_or_else(|| unknown(attempt))?;
        let committed = !matches!(outgoing.machine.state, SourceState::Running | SourceState::Frozen);
        if committed {
            return Err(Reason::new(ReasonCode::Changed, "it is past the commit; use `grid offload recall`"));
        }
        let by_hand = "cancelled before the commit; it runs where it was";
        outgoing.undone_by = Some(Reason::new(ReasonCode::Cancelled, by_hand));
        self.step_source(attempt, SourceInput::CancelRequested);
        Ok(Answer::Done)
    }

    pub(crate) fn resolve_move(&mut self, attempt: &AttemptId, decision: Resolution) -> Result<Answer, Reason> {
        let outgoing = self.sources.get_mut(attempt).ok_or_else(|| unknown(attempt))?;
        if !matches!(outgoing.machine.state, SourceState::Committed | SourceState::InDoubt) {
            return Err(Reason::new(ReasonCode::Changed, "it is not past the commit; use `grid offload cancel`"));
        }
        if outgoing.machine.state == SourceState::Committed {
            // A person's word that the destination is gone is the proof that lets the attempt be doubted.
            self.step_source(attempt, SourceInput::DestinationGone { proof: GoneProof::Person });
        }
        self.step_source(attempt, SourceInput::Resolve(decision));
        match self.sources.get(attempt).map(|s| s.machine.state) {
            Some(SourceState::InDoubt | SourceState::Committed) => {
                Err(Reason::new(ReasonCode::Doubt, "it could not be resolved; see `grid events`"))
            }
            _ => Ok(Answer::Done),
        }
    }

    /// A message from the agent to which an attempt was sent.
    pub(crate) fn heed_destination(&mut self, from: &NodeName, message: ToSource) {
        let attempt = message.attempt().clone();
        match self.sources.get(&attempt) {
            None => return self.answer_from_source_ledger(&attempt, from, message),
            Some(outgoing) if !outgoing.goes_to(from) => return not_its_attempt(&attempt, from),
            Some(_) => {}
        }
        if matches!(message, ToSource::Started { .. }) {
            self.note_arrival(&attempt);
        }
        self.step_source(&attempt, SourceInput::Received(message));
    }

    /// The tree runs at the destination: figures are complete, and the signals that waited are read.
    fn note_arrival(&mut self, attempt: &AttemptId) {
        let Some(outgoing) = self.sources.get_mut(attempt) else { return };
        if outgoing.machine.state != SourceState::Committed {
            return;
        }
        // Of a move that an agent before this one began, neither was seen.
        if let Some(at) = outgoing.frozen_at {
            // How long it was parked is no figure of the move.
            let silent = Some(Millis(at.elapsed().as_millis() as u64));
            outgoing.record.figures.downtime = silent.filter(|_| outgoing.record.order.parked.is_none());
            outgoing.record.figures.total = Some(Millis(outgoing.begun.elapsed().as_millis() as u64));
        }
        let pending = outgoing.record.members.iter().flat_map(|m| pending_signals(m.pid)).collect::<Vec<_>>();
        if !pending.is_empty() {
            self.step_source(attempt, SourceInput::SignalsPending(pending));
        }
    }

    pub(crate) fn step_source(&mut self, attempt: &AttemptId, input: SourceInput) {
        let Some(outgoing) = self.sources.get_mut(attempt) else { return };
        let actions = outgoing.machine.step(input);
        self.do_source(attempt, actions);
        self.forget_if_over(attempt);
    }

    /// What is over is in the ledger, which answers for it.
    fn forget_if_over(&mut self, attempt: &AttemptId) {
        if self.sources.get(attempt).is_some_and(Outgoing::is_over) {
            self.sources.remove(attempt);
        }
    }

    /// Carries actions out in order. Where one fails that others rest on, the agent ends itself and recovers from the
    /// ledger, as after a crash.
    pub(crate) fn do_source(&mut self, attempt: &AttemptId, actions: Vec<SourceAction>) {
        for action in actions {
            if let Err(e) = self.do_one_source(attempt, action) {
                tracing_line(&format!("attempt {attempt}: {e}; restarting to recover from the ledger"));
                std::process::exit(1);
            }
        }
    }

    fn do_one_source(&mut self, attempt: &AttemptId, action: SourceAction) -> Result<(), String> {
        // What is said can get lost; what is done cannot.
        let lost = match (self.faults.at(faults::of_source(&action)), &action) {
            (Err(_), SourceAction::Send(_)) => return Ok(()),
            (Err(_), SourceAction::Report(_)) => true,
            (Err(fault), _) => return Err(fault),
            (Ok(()), _) => false,
        };
        let Some(outgoing) = self.sources.get_mut(attempt) else { return Ok(()) };
        match action {
            SourceAction::Persist(state) => {
                self.ledger.put_source(attempt, state, &outgoing.record).map_err(|e| e.to_string())?;
            }
            SourceAction::KeepSignals(signals) => {
                outgoing.record.signals = signals;
                let state = outgoing.machine.state;
                self.ledger.put_source(attempt, state, &outgoing.record).map_err(|e| e.to_string())?;
            }
            SourceAction::Send(message) => {
                outgoing.last_word = Instant::now();
                let staging = matches!(message, ToDestination::Stage { .. });
                let stage = staging.then(|| Box::new(outgoing.record.stage.clone()));
                let to = Party::Agent(outgoing.record.order.destination.clone());
                self.say(to, Body::Down { message, stage, ticket: None });
            }
            SourceAction::CloseStream => {
                if let Some(stream) = outgoing.stream.take() {
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                }
            }
            SourceAction::Thaw => {
                thaw_home(outgoing)?;
                let (dumping, came_by) = (outgoing.dumping, outgoing.record.came_by.clone());
                if !dumping {
                    self.freeze_if_held(came_by.as_ref())?;
                }
                if let Some(control) = self.far_of(attempt) {
                    streams::tell(&control, &ToFar::Resume);
                }
            }
            SourceAction::DiscardCopy { lives_on } => self.discard_copy(attempt, lives_on)?,
            SourceAction::Report(report) => {
                if let Some(notice) = self.report_source(attempt, report).filter(|_| !lost) {
                    self.notice(notice);
                }
            }
        }
        Ok(())
    }
}

/// Who is no end of an attempt has no word about it.
pub(crate) fn not_its_attempt(attempt: &AttemptId, from: &NodeName) {
    tracing_line(&format!("{from} speaks of attempt {attempt}, which is not its own; ignored"));
}

fn unknown(attempt: &AttemptId) -> Reason {
    Reason::new(ReasonCode::Changed, format!("no attempt {attempt} leaves from here"))
}
