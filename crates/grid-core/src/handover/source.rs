//! The source's side of one attempt. The source's agent is the owner until it releases, and the only committer.
//!
//! ```text
//!               Ready + Frozen                  Started
//!  Running ──► Frozen ═══ commit() ═══► Committed ──► Released       after commit(): only forward
//!     │  abort()  │                      │     │          ▲
//!     └─────┬─────┘         NeverRan, proof     │ Gone,   │ Drop
//!           ▼                  of the ledger    ▼ proof   │
//!        Aborted ◄───────────────┴─────────── InDoubt ────┘
//!                     NeverRan, AcceptRepeat
//! ```
//!
//! Invariants:
//!
//! - `Committed` is written by [`Source::commit`] and nowhere else; `Go` is never sent before it is durable.
//! - `Thaw` is never emitted before `Aborted` is durable, and after the commit only on `NeverRan` or `AcceptRepeat`.
//! - `InDoubt` means that the destination's copy is known to be gone and that it may have run. Mere silence leaves the
//!   attempt `Committed` and is reported (`Unanswered`): a copy that may still run cannot be overruled by a person.
//! - CRIU is never signalled: a cancel closes its page stream.

use super::{HomeCopy, SourceAction, SourceInput, SourceReport};
use grid_types::event::Resolution;
use grid_types::handover::{SourceState, ToDestination, ToSource};
use grid_types::ids::AttemptId;

/// The source's machine of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The attempt.
    pub attempt: AttemptId,
    /// As the ledger has it once the actions returned so far are executed.
    pub state: SourceState,
    /// What is known of the copy at home.
    pub home: HomeCopy,
    /// Signals to forward with `Released`.
    pub signals: Vec<i32>,
    ready: bool,
    killed_by: Option<i32>,
}

impl Source {
    /// A new attempt: the tree runs, nothing is written yet.
    pub fn new(attempt: AttemptId) -> Self {
        let (state, home) = (SourceState::Running, HomeCopy::Runs);
        Self { attempt, state, home, signals: Vec::new(), ready: false, killed_by: None }
    }

    /// The first actions of a new attempt. The dump may start when they are executed.
    pub fn begin(&self) -> Vec<SourceAction> {
        vec![
            SourceAction::Persist(SourceState::Running),
            SourceAction::Send(ToDestination::Stage { attempt: self.attempt.clone() }),
        ]
    }

    /// After a restart of the agent, once no CRIU of this attempt is left. `signals` are those kept in the ledger and
    /// those pending in a frozen copy.
    pub fn recover(
        attempt: AttemptId,
        ledger: SourceState,
        home: HomeCopy,
        signals: Vec<i32>,
    ) -> (Self, Vec<SourceAction>) {
        let mut source = Self { attempt, state: ledger, home, signals, ready: false, killed_by: None };
        let actions = source.resume();
        (source, actions)
    }

    fn resume(&mut self) -> Vec<SourceAction> {
        match self.state {
            // The machine rebooted while the copy was held: the staged copy is the only one, so ask and go forward.
            SourceState::Frozen if self.home == HomeCopy::Rebooted => vec![self.query()],
            SourceState::Running | SourceState::Frozen => self.abort("the agent was restarted"),
            SourceState::Committed if self.home == HomeCopy::Runs => {
                self.doubt("committed, but the copy at home was let run by somebody else")
            }
            SourceState::Committed => vec![self.go()],
            SourceState::Released => self.finish_release(),
            SourceState::Aborted => {
                let mut actions = vec![self.send_abort()];
                actions.extend(self.back_home("the agent was restarted"));
                actions
            }
            // What was held is gone as well: there is nothing left to decide.
            SourceState::InDoubt if !self.home.is_alive() => self.gone("it went with its machine while held in doubt"),
            SourceState::InDoubt => vec![self.query(), self.report_doubt("held before the agent was restarted")],
        }
    }

    /// Takes one input. Messages of another attempt are ignored.
    pub fn step(&mut self, input: SourceInput) -> Vec<SourceAction> {
        match input {
            SourceInput::Received(message) if message.attempt() != &self.attempt => Vec::new(),
            SourceInput::Received(message) => self.receive(message),
            SourceInput::SignalsPending(signals) => self.note_signals(&signals),
            SourceInput::FrozenCopyDied { signal } => self.copy_died(signal),
            input => match self.state {
                SourceState::Running | SourceState::Frozen => self.step_before_commit(input),
                SourceState::Committed => self.step_committed(input),
                SourceState::InDoubt => self.step_in_doubt(input),
                SourceState::Aborted => self.step_aborted(input),
                SourceState::Released => self.refuse_person(input),
            },
        }
    }

    fn step_before_commit(&mut self, input: SourceInput) -> Vec<SourceAction> {
        // With the home copy lost to a reboot, the staged copy is the only one: nothing but its own end undoes it.
        let only_copy_is_staged = self.home == HomeCopy::Rebooted;
        match input {
            SourceInput::Frozen if self.state == SourceState::Running => self.frozen(),
            SourceInput::DumpFailed { detail } if self.state == SourceState::Running => self.abort(&detail),
            SourceInput::DestinationGone { proof } => self.abort(&format!("the destination is gone: {proof:?}")),
            // `Ready` or a refusal may have got lost: do not hold it until the deadline.
            SourceInput::LinkUp | SourceInput::Tick if self.state == SourceState::Frozen => vec![self.query()],
            SourceInput::CancelRequested | SourceInput::DeadlineReached | SourceInput::LinkLost
                if only_copy_is_staged =>
            {
                vec![unanswered("the source's machine rebooted; the staged copy is the only one and goes forward")]
            }
            SourceInput::CancelRequested => self.abort("cancelled"),
            SourceInput::DeadlineReached => self.abort("it took longer than allowed"),
            SourceInput::LinkLost => self.abort("the link to the destination broke"),
            input => self.refuse_person(input),
        }
    }

    fn step_committed(&mut self, input: SourceInput) -> Vec<SourceAction> {
        match input {
            SourceInput::Tick | SourceInput::LinkUp => vec![self.go()],
            SourceInput::DestinationGone { proof } => {
                let mut actions = self.gone(&format!("the destination's copy is gone ({proof:?}) and may have run"));
                actions.push(self.query());
                actions
            }
            SourceInput::DeadlineReached => vec![unanswered("the destination has not answered in time")],
            SourceInput::LinkLost => vec![unanswered("the link to the destination broke after the commit")],
            input => self.refuse_person(input),
        }
    }

    fn step_in_doubt(&mut self, input: SourceInput) -> Vec<SourceAction> {
        match input {
            SourceInput::Tick | SourceInput::LinkUp => vec![self.query()],
            SourceInput::Resolve(Resolution::AcceptRepeat) => self.accept_repeat(),
            SourceInput::Resolve(Resolution::Drop) => self.drop_copy(),
            SourceInput::CancelRequested => vec![SourceAction::Report(SourceReport::CancelTooLate)],
            _ => Vec::new(),
        }
    }

    fn step_aborted(&mut self, input: SourceInput) -> Vec<SourceAction> {
        match input {
            // The dump that was being cancelled has ended; its hook may have frozen the tree after the first thaw.
            SourceInput::Frozen | SourceInput::DumpFailed { .. } if self.home.is_alive() => vec![SourceAction::Thaw],
            input => self.refuse_person(input),
        }
    }

    /// A person's wish that has no place in this state is answered, never dropped.
    fn refuse_person(&self, input: SourceInput) -> Vec<SourceAction> {
        let committed = matches!(self.state, SourceState::Committed | SourceState::Released);
        match input {
            SourceInput::CancelRequested if committed => vec![SourceAction::Report(SourceReport::CancelTooLate)],
            SourceInput::Resolve(_) => {
                let detail = match self.state {
                    SourceState::Committed => {
                        "the destination's copy may still run; prove first that it is gone (boot id, empty cgroup, or \
                         your word that the machine is off)"
                    }
                    _ => "it is not in doubt",
                };
                vec![SourceAction::Report(SourceReport::ResolveRefused { detail: detail.to_owned() })]
            }
            _ => Vec::new(),
        }
    }

    fn receive(&mut self, message: ToSource) -> Vec<SourceAction> {
        match self.state {
            SourceState::Running | SourceState::Frozen => self.receive_before_commit(message),
            SourceState::Committed => match message {
                ToSource::Started { .. } => self.release(),
                ToSource::NeverRan { .. } => self.never_ran(),
                ToSource::Gone { .. } => self.gone("the destination lost its copy, and nobody can know how far it ran"),
                // Not a proof by itself; `Go` makes the destination answer from its ledger.
                ToSource::Ready { .. } | ToSource::StageFailed { .. } => vec![self.go()],
            },
            SourceState::InDoubt => match message {
                ToSource::NeverRan { .. } => self.never_ran(),
                // It ran and is gone: `Started` says nothing new. The home copy may be all that is left of it.
                _ => Vec::new(),
            },
            SourceState::Aborted => match message {
                ToSource::Ready { .. } | ToSource::Started { .. } => vec![self.send_abort()],
                _ => Vec::new(),
            },
            SourceState::Released => match message {
                ToSource::Started { .. } => vec![self.send_released()],
                ToSource::Ready { .. } => vec![self.go()],
                _ => Vec::new(),
            },
        }
    }

    fn receive_before_commit(&mut self, message: ToSource) -> Vec<SourceAction> {
        match message {
            ToSource::Ready { .. } => {
                self.ready = true;
                self.commit_if_ready()
            }
            ToSource::StageFailed { detail, .. } => self.abort(&detail),
            ToSource::NeverRan { .. } => self.abort("the destination refused"),
            ToSource::Gone { .. } => self.abort("the destination lost the staged copy"),
            ToSource::Started { .. } => self.abort("the destination let its copy run before the commit"),
        }
    }

    fn frozen(&mut self) -> Vec<SourceAction> {
        self.state = SourceState::Frozen;
        self.home = HomeCopy::Frozen;
        let mut actions = vec![SourceAction::Persist(SourceState::Frozen)];
        actions.extend(self.commit_if_ready());
        actions
    }

    fn commit_if_ready(&mut self) -> Vec<SourceAction> {
        if self.state == SourceState::Frozen && self.ready { self.commit() } else { Vec::new() }
    }

    /// POINT OF NO RETURN. The only function that writes `Committed`. Once the write is durable the destination may
    /// let its copy run, and the copy at home may not.
    fn commit(&mut self) -> Vec<SourceAction> {
        self.state = SourceState::Committed;
        vec![SourceAction::Persist(SourceState::Committed), self.go()]
    }

    /// The way back before the commit: written down, then thawed, then said.
    fn abort(&mut self, why: &str) -> Vec<SourceAction> {
        let dumping = self.state == SourceState::Running;
        self.state = SourceState::Aborted;
        let mut actions = vec![SourceAction::Persist(SourceState::Aborted)];
        if dumping {
            actions.push(SourceAction::CloseStream);
        }
        actions.push(self.send_abort());
        actions.extend(self.back_home(why));
        actions
    }

    /// The destination's ledger says that it never ran, and never will: the one proof that undoes a commit.
    fn never_ran(&mut self) -> Vec<SourceAction> {
        self.state = SourceState::Aborted;
        let mut actions = vec![SourceAction::Persist(SourceState::Aborted)];
        actions.extend(self.back_home("the destination refused after the commit; it never ran there"));
        actions
    }

    fn back_home(&mut self, why: &str) -> Vec<SourceAction> {
        let detail = why.to_owned();
        match self.home {
            HomeCopy::Runs | HomeCopy::Frozen => {
                self.home = HomeCopy::Runs;
                vec![SourceAction::Thaw, SourceAction::Report(SourceReport::Failed { detail })]
            }
            HomeCopy::Gone => vec![SourceAction::Report(SourceReport::DiedFrozen { signal: self.killed_by })],
            HomeCopy::Rebooted => vec![SourceAction::Report(SourceReport::Lost { detail })],
        }
    }

    fn release(&mut self) -> Vec<SourceAction> {
        let mut actions = Vec::new();
        if !self.signals.is_empty() {
            actions.push(SourceAction::KeepSignals(self.signals.clone()));
        }
        self.state = SourceState::Released;
        actions.push(SourceAction::Persist(SourceState::Released));
        actions.extend(self.finish_release());
        actions
    }

    fn finish_release(&mut self) -> Vec<SourceAction> {
        let mut actions = vec![self.send_released()];
        actions.extend(self.discard(true));
        actions.push(SourceAction::Report(SourceReport::Moved));
        actions
    }

    fn discard(&mut self, lives_on: bool) -> Option<SourceAction> {
        let alive = self.home.is_alive();
        if alive {
            self.home = HomeCopy::Gone;
        }
        alive.then_some(SourceAction::DiscardCopy { lives_on })
    }

    /// After the commit: the destination's copy is gone and may have run. With a copy at home that is a doubt.
    fn gone(&mut self, what: &str) -> Vec<SourceAction> {
        if self.home.is_alive() {
            return self.doubt(what);
        }
        self.state = SourceState::Released;
        let report = match self.home {
            HomeCopy::Rebooted => SourceReport::Lost { detail: what.to_owned() },
            _ => SourceReport::DiedFrozen { signal: self.killed_by },
        };
        vec![SourceAction::Persist(SourceState::Released), SourceAction::Report(report)]
    }

    fn doubt(&mut self, what: &str) -> Vec<SourceAction> {
        self.state = SourceState::InDoubt;
        vec![SourceAction::Persist(SourceState::InDoubt), self.report_doubt(what)]
    }

    fn accept_repeat(&mut self) -> Vec<SourceAction> {
        self.state = SourceState::Aborted;
        self.home = HomeCopy::Runs;
        vec![
            SourceAction::Persist(SourceState::Aborted),
            SourceAction::Thaw,
            SourceAction::Report(SourceReport::Resolved(Resolution::AcceptRepeat)),
        ]
    }

    fn drop_copy(&mut self) -> Vec<SourceAction> {
        self.state = SourceState::Released;
        let mut actions = vec![SourceAction::Persist(SourceState::Released)];
        actions.extend(self.discard(false));
        actions.push(SourceAction::Report(SourceReport::Resolved(Resolution::Drop)));
        actions
    }

    /// The held copy was killed from outside. Before the commit that is its end; after, its signal goes after it.
    fn copy_died(&mut self, signal: Option<i32>) -> Vec<SourceAction> {
        if matches!(self.state, SourceState::Released | SourceState::Aborted) || !self.home.is_alive() {
            return Vec::new();
        }
        self.home = HomeCopy::Gone;
        self.killed_by = signal;
        match self.state {
            SourceState::Running | SourceState::Frozen => self.abort("it was killed while it was held"),
            SourceState::Committed => {
                self.note_signals(signal.as_slice());
                signal.map(|_| SourceAction::KeepSignals(self.signals.clone())).into_iter().collect()
            }
            _ => self.gone("it was killed while it was held in doubt"),
        }
    }

    fn note_signals(&mut self, signals: &[i32]) -> Vec<SourceAction> {
        for signal in signals {
            if !self.signals.contains(signal) {
                self.signals.push(*signal);
            }
        }
        Vec::new()
    }

    fn go(&self) -> SourceAction {
        SourceAction::Send(ToDestination::Go { attempt: self.attempt.clone() })
    }
    fn query(&self) -> SourceAction {
        SourceAction::Send(ToDestination::Query { attempt: self.attempt.clone() })
    }
    fn send_abort(&self) -> SourceAction {
        SourceAction::Send(ToDestination::Abort { attempt: self.attempt.clone() })
    }
    fn send_released(&self) -> SourceAction {
        let (attempt, signals) = (self.attempt.clone(), self.signals.clone());
        SourceAction::Send(ToDestination::Released { attempt, signals })
    }
    fn report_doubt(&self, what: &str) -> SourceAction {
        SourceAction::Report(SourceReport::InDoubt { detail: what.to_owned() })
    }
}

/// A message for an attempt that the source's ledger does not know. `begin` writes the attempt down before it speaks,
/// so the ledger was lost, and with it who owns the process: nothing is answered, and it is reported. A guess could
/// discard the only copy.
pub fn answer_unknown_at_source(message: &ToSource) -> Vec<SourceAction> {
    vec![SourceAction::Report(SourceReport::UnknownAttempt(message.attempt().clone()))]
}

fn unanswered(what: &str) -> SourceAction {
    SourceAction::Report(SourceReport::Unanswered { detail: what.to_owned() })
}
