//! The shipped machines, each state of them under a number, and each step taken once and remembered.

use crate::Rules;
use crate::world::told;
use grid_core::handover::{
    Destination, DestinationAction, DestinationInput, GoneProof, HomeCopy, Source, SourceAction, SourceInput,
    SourceReport, TreeCopy, answer_unknown,
};
use grid_types::event::Resolution;
use grid_types::handover::{DestinationState, SourceState, ToDestination, ToSource};
use grid_types::ids::AttemptId;
use std::collections::HashMap;

/// SIGKILL: the signal with which the model kills the held copy.
pub(crate) const KILL: i32 = 9;

/// Messages to the destination, by the bit that stands for them. Twelve bits, six an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Down {
    Stage,
    Go,
    Abort,
    Released,
    ReleasedKill,
    Query,
}
pub(crate) const DOWN: [Down; 6] =
    [Down::Stage, Down::Go, Down::Abort, Down::Released, Down::ReleasedKill, Down::Query];

/// Messages to the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Up {
    Ready,
    StageFailed,
    Started,
    NeverRan,
    Gone,
}
pub(crate) const UP: [Up; 5] = [Up::Ready, Up::StageFailed, Up::Started, Up::NeverRan, Up::Gone];

impl Down {
    pub(crate) fn bit(self, k: usize) -> u32 {
        1 << (k * 6 + self as usize)
    }
    fn message(self, k: usize) -> ToDestination {
        let attempt = attempt(k);
        match self {
            Down::Stage => ToDestination::Stage { attempt },
            Down::Go => ToDestination::Go { attempt },
            Down::Abort => ToDestination::Abort { attempt },
            Down::Released => ToDestination::Released { attempt, signals: Vec::new() },
            Down::ReleasedKill => ToDestination::Released { attempt, signals: vec![KILL] },
            Down::Query => ToDestination::Query { attempt },
        }
    }
    fn of(message: &ToDestination) -> Down {
        match message {
            ToDestination::Stage { .. } => Down::Stage,
            ToDestination::Go { .. } => Down::Go,
            ToDestination::Abort { .. } => Down::Abort,
            ToDestination::Released { signals, .. } if signals.is_empty() => Down::Released,
            ToDestination::Released { .. } => Down::ReleasedKill,
            ToDestination::Query { .. } => Down::Query,
        }
    }
}

impl Up {
    pub(crate) fn bit(self, k: usize) -> u32 {
        1 << (16 + k * 5 + self as usize)
    }
    fn message(self, k: usize) -> ToSource {
        let attempt = attempt(k);
        match self {
            Up::Ready => ToSource::Ready { attempt },
            Up::StageFailed => ToSource::StageFailed { attempt, detail: "the gate refused".to_owned() },
            Up::Started => ToSource::Started { attempt },
            Up::NeverRan => ToSource::NeverRan { attempt },
            Up::Gone => ToSource::Gone { attempt },
        }
    }
    fn of(message: &ToSource) -> Up {
        match message {
            ToSource::Ready { .. } => Up::Ready,
            ToSource::StageFailed { .. } => Up::StageFailed,
            ToSource::Started { .. } => Up::Started,
            ToSource::NeverRan { .. } => Up::NeverRan,
            ToSource::Gone { .. } => Up::Gone,
        }
    }
}

/// Inputs of the source, small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SourceIn {
    Frozen,
    DumpFailed,
    Heard(Up),
    Cancel,
    Deadline,
    LinkLost,
    Killed,
    Tick,
    AcceptRepeat,
    Drop,
    DestinationGone,
}

/// Inputs of the destination, small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum DestinationIn {
    Staged,
    StageFailed,
    Heard(Down),
    LinkLost,
    Tick,
    FenceExpired,
    TreeEnded,
    StagedCopyDied,
}

/// Actions of the source, small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceDo {
    Persist(SourceState),
    KeepKill,
    Send(u32),
    CloseStream,
    Thaw,
    DiscardCopy,
    Report(u8),
}

/// Actions of the destination, small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DestinationDo {
    Persist(DestinationState),
    PersistReleased,
    Send(u32),
    Thaw,
    Refreeze,
    Discard,
    Kill,
    ArmFence,
    DisarmFence,
}

/// Numbers for machines and lists, and what each step did.
pub(crate) struct Machines {
    rules: Rules,
    sources: Vec<Source>,
    destinations: Vec<Destination>,
    source_lists: Vec<Vec<SourceDo>>,
    destination_lists: Vec<Vec<DestinationDo>>,
    source_steps: HashMap<(u8, SourceIn), (u8, u16)>,
    destination_steps: HashMap<(u8, DestinationIn), (u8, u16)>,
}

fn attempt(k: usize) -> AttemptId {
    AttemptId::new(format!("a-{k}"))
}

fn index(attempt: &AttemptId) -> usize {
    usize::from(attempt.as_str() == "a-1")
}

fn number<T: PartialEq>(all: &mut Vec<T>, one: T) -> usize {
    all.iter().position(|known| *known == one).unwrap_or_else(|| {
        all.push(one);
        all.len() - 1
    })
}

impl Machines {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            sources: Vec::new(),
            destinations: Vec::new(),
            source_lists: vec![Vec::new()],
            destination_lists: vec![Vec::new()],
            source_steps: HashMap::new(),
            destination_steps: HashMap::new(),
        }
    }

    pub(crate) fn source(&self, id: u8) -> &Source {
        &self.sources[usize::from(id)]
    }
    pub(crate) fn destination(&self, id: u8) -> &Destination {
        &self.destinations[usize::from(id)]
    }
    pub(crate) fn source_list(&self, list: u16) -> &[SourceDo] {
        &self.source_lists[usize::from(list)]
    }
    pub(crate) fn destination_list(&self, list: u16) -> &[DestinationDo] {
        &self.destination_lists[usize::from(list)]
    }

    pub(crate) fn begin(&mut self, k: usize) -> (u8, u16) {
        let source = Source::new(attempt(k));
        let actions = source.begin();
        self.know_source(source, &actions)
    }

    pub(crate) fn recover_source(&mut self, k: usize, ledger: SourceState, home: HomeCopy, kill: bool) -> (u8, u16) {
        let signals = if kill { vec![KILL] } else { Vec::new() };
        let (source, actions) = Source::recover(attempt(k), ledger, home, signals);
        self.know_source(source, &actions)
    }

    pub(crate) fn step_source(&mut self, k: usize, id: u8, input: SourceIn) -> (u8, u16) {
        if let Some(done) = self.source_steps.get(&(id, input)) {
            return *done;
        }
        let mut source = self.source(id).clone();
        let actions = source.step(source_input(k, input));
        let done = self.know_source(source, &actions);
        self.source_steps.insert((id, input), done);
        done
    }

    fn know_source(&mut self, source: Source, actions: &[SourceAction]) -> (u8, u16) {
        let id = number(&mut self.sources, source);
        let mut list: Vec<SourceDo> = actions.iter().map(source_do).collect();
        if self.rules.speak_before_persist {
            list.sort_by_key(|action| matches!(action, SourceDo::Persist(_)));
        }
        (id as u8, number(&mut self.source_lists, list) as u16)
    }

    /// A message for an attempt that the ledger does not know.
    pub(crate) fn unknown(&mut self, k: usize, message: Down) -> Option<(u8, u16)> {
        let mut actions = match message {
            Down::Stage => {
                let mut destination = Destination::new(attempt(k));
                let actions = destination.step(DestinationInput::StageRequested);
                return Some(self.know_destination(destination, &actions));
            }
            message => answer_unknown(&message.message(k)),
        };
        if self.rules.unknown_is_never_ran && !actions.is_empty() {
            actions = answer_unknown(&Down::Abort.message(k));
        }
        let DestinationAction::Persist(state) = actions.first()? else { return None };
        let (destination, _) = Destination::recover(attempt(k), *state, false, TreeCopy::Gone);
        Some(self.know_destination(destination, &actions))
    }

    pub(crate) fn recover_destination(
        &mut self,
        k: usize,
        ledger: DestinationState,
        released: bool,
        copy: TreeCopy,
    ) -> (u8, u16) {
        let (destination, actions) = Destination::recover(attempt(k), ledger, released, copy);
        self.know_destination(destination, &actions)
    }

    pub(crate) fn step_destination(&mut self, k: usize, id: u8, input: DestinationIn) -> (u8, u16) {
        if let Some(done) = self.destination_steps.get(&(id, input)) {
            return *done;
        }
        let mut destination = self.destination(id).clone();
        let actions = destination.step(destination_input(k, input));
        let done = self.know_destination(destination, &actions);
        self.destination_steps.insert((id, input), done);
        done
    }

    fn know_destination(&mut self, destination: Destination, actions: &[DestinationAction]) -> (u8, u16) {
        let id = number(&mut self.destinations, destination);
        let mut list: Vec<DestinationDo> = actions.iter().filter_map(destination_do).collect();
        if self.rules.destination_speaks_before_persist {
            list.sort_by_key(|action| matches!(action, DestinationDo::Persist(_)));
        }
        (id as u8, number(&mut self.destination_lists, list) as u16)
    }
}

fn source_input(k: usize, input: SourceIn) -> SourceInput {
    match input {
        SourceIn::Frozen => SourceInput::Frozen,
        SourceIn::DumpFailed => SourceInput::DumpFailed { detail: "the dump failed".to_owned() },
        SourceIn::Heard(up) => SourceInput::Received(up.message(k)),
        SourceIn::Cancel => SourceInput::CancelRequested,
        SourceIn::Deadline => SourceInput::DeadlineReached,
        SourceIn::LinkLost => SourceInput::LinkLost,
        SourceIn::Killed => SourceInput::FrozenCopyDied { signal: Some(KILL) },
        SourceIn::Tick => SourceInput::Tick,
        SourceIn::AcceptRepeat => SourceInput::Resolve(Resolution::AcceptRepeat),
        SourceIn::Drop => SourceInput::Resolve(Resolution::Drop),
        SourceIn::DestinationGone => SourceInput::DestinationGone { proof: GoneProof::CgroupEmpty },
    }
}

fn destination_input(k: usize, input: DestinationIn) -> DestinationInput {
    match input {
        DestinationIn::Staged => DestinationInput::Staged,
        DestinationIn::StageFailed => DestinationInput::StageFailed { detail: "the gate refused".to_owned() },
        DestinationIn::Heard(down) => DestinationInput::Received(down.message(k)),
        DestinationIn::LinkLost => DestinationInput::LinkLost,
        DestinationIn::Tick => DestinationInput::Tick,
        DestinationIn::FenceExpired => DestinationInput::FenceExpired,
        DestinationIn::TreeEnded => DestinationInput::TreeEnded,
        DestinationIn::StagedCopyDied => DestinationInput::StagedCopyDied,
    }
}

fn source_do(action: &SourceAction) -> SourceDo {
    match action {
        SourceAction::Persist(state) => SourceDo::Persist(*state),
        SourceAction::KeepSignals(_) => SourceDo::KeepKill,
        SourceAction::Send(message) => SourceDo::Send(Down::of(message).bit(index(message.attempt()))),
        SourceAction::CloseStream => SourceDo::CloseStream,
        SourceAction::Thaw => SourceDo::Thaw,
        SourceAction::DiscardCopy { .. } => SourceDo::DiscardCopy,
        SourceAction::Report(report) => SourceDo::Report(match report {
            SourceReport::Moved => told::MOVED,
            SourceReport::Failed { .. } => told::FAILED,
            SourceReport::InDoubt { .. } => told::IN_DOUBT,
            SourceReport::DiedFrozen { .. } | SourceReport::Lost { .. } => told::OVER,
            SourceReport::Resolved(_) => told::RESOLVED,
            _ => 0,
        }),
    }
}

fn destination_do(action: &DestinationAction) -> Option<DestinationDo> {
    Some(match action {
        DestinationAction::Persist(state) => DestinationDo::Persist(*state),
        DestinationAction::PersistReleased => DestinationDo::PersistReleased,
        DestinationAction::Send(message) => DestinationDo::Send(Up::of(message).bit(index(message.attempt()))),
        DestinationAction::Thaw => DestinationDo::Thaw,
        DestinationAction::Refreeze => DestinationDo::Refreeze,
        DestinationAction::Discard => DestinationDo::Discard,
        DestinationAction::DeliverSignals(_) => DestinationDo::Kill,
        DestinationAction::ArmFence => DestinationDo::ArmFence,
        DestinationAction::DisarmFence => DestinationDo::DisarmFence,
        DestinationAction::Report(_) => return None,
    })
}
