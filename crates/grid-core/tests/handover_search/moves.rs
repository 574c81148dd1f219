//! What can happen next in a world: the agents' actions, the network, the machines, people, and faults.

use crate::Rules;
use crate::machines::{DOWN, DestinationIn, Down, Machines, SourceIn, UP, Up};
use crate::physics::{do_destination, do_source, is_doomed};
use crate::world::{ATTEMPTS, Dump, Home, Image, Queue, Staged, World};
use grid_types::handover::{DestinationState, SourceState};

/// How an edge counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Happens by itself when nothing goes wrong: only these count as "the way on".
    Fair,
    /// May happen, costs nothing: a person's wish, a deadline, a proof.
    Choice,
    /// Goes wrong; their number on one path is bounded.
    Fault,
}

/// One edge of the graph.
pub(crate) struct Move {
    pub(crate) label: String,
    pub(crate) kind: Kind,
    pub(crate) to: Result<World, &'static str>,
}

/// Collects the moves out of one world.
pub(crate) struct Moves<'a> {
    pub(crate) machines: &'a mut Machines,
    pub(crate) rules: Rules,
    pub(crate) attempts: usize,
    pub(crate) from: World,
    pub(crate) out: Vec<Move>,
    /// Labels cost time and are wanted only for a trace.
    pub(crate) labelled: bool,
}

impl Moves<'_> {
    pub(crate) fn collect(&mut self) {
        self.crashes();
        self.kills();
        // A list under way goes first: what others do meanwhile commutes with it, and only a fault can cut it short.
        // So two agents' lists need not be interleaved, which keeps the graph small without hiding a violation.
        for k in 0..ATTEMPTS {
            if self.from.source[k].queue != Queue::EMPTY {
                return self.source_acts(k);
            }
            if self.from.destination[k].queue != Queue::EMPTY {
                return self.destination_acts(k);
            }
        }
        for k in 0..ATTEMPTS {
            self.attempt_begins(k);
            self.criu(k);
            self.source_hears(k);
            self.source_notices(k);
            self.people_and_time(k);
            self.destination_hears(k);
            self.destination_notices(k);
            self.staging(k);
            self.lose_messages(k);
        }
        self.restarts();
    }

    pub(crate) fn push(&mut self, kind: Kind, label: &dyn Fn() -> String, to: Result<World, &'static str>) {
        let mut to = to;
        if let Ok(world) = &mut to {
            if kind == Kind::Fault {
                if world.faults_left == 0 {
                    return;
                }
                world.faults_left -= 1;
                // Only the protocol may be blamed for what was there before the fault.
                world.excused |= !world.viable();
            } else if !world.viable() && !world.excused {
                to = Err("lost: the protocol let the last copy go");
            }
        }
        if let Ok(world) = &mut to {
            world.forget_idle_words();
            if *world == self.from {
                return;
            }
        }
        let label = if self.labelled { label() } else { String::new() };
        self.out.push(Move { label, kind, to });
    }

    fn step_source(&mut self, kind: Kind, k: usize, input: SourceIn, mut to: World) {
        let Some(id) = to.source[k].machine else { return };
        let (id, list) = self.machines.step_source(k, id, input);
        to.source[k].machine = Some(id);
        to.source[k].queue = Queue { list, next: 0 };
        self.push(kind, &|| format!("source {k}: {input:?}"), Ok(to));
    }

    fn step_destination(&mut self, kind: Kind, k: usize, input: DestinationIn, mut to: World) {
        let Some(id) = to.destination[k].machine else { return };
        let (id, list) = self.machines.step_destination(k, id, input);
        self.settle_destination(&mut to, k, id, list);
        self.push(kind, &|| format!("destination {k}: {input:?}"), Ok(to));
    }

    pub(crate) fn settle_destination(&self, to: &mut World, k: usize, id: u8, list: u16) {
        let d = &mut to.destination[k];
        (d.machine, d.queue) = (Some(id), Queue { list, next: 0 });
        d.doomed = is_doomed(Some(self.machines.destination(id).state));
    }

    fn source_idle(&self, k: usize) -> bool {
        let s = &self.from.source[k];
        self.from.source_up && s.machine.is_some() && s.queue == Queue::EMPTY
    }

    fn destination_idle(&self, k: usize) -> bool {
        self.from.destination_up && self.from.destination[k].queue == Queue::EMPTY
    }

    fn source_state(&self, k: usize) -> Option<SourceState> {
        self.from.source[k].machine.map(|id| self.machines.source(id).state)
    }

    pub(crate) fn destination_state(&self, k: usize) -> Option<DestinationState> {
        self.from.destination[k].machine.map(|id| self.machines.destination(id).state)
    }

    fn attempt_begins(&mut self, k: usize) {
        if k >= self.attempts {
            return;
        }
        let before = k == 0 || (self.source_idle(0) && self.source_state(0) == Some(SourceState::Aborted));
        let fresh = self.from.source[k].dump == Dump::NotBegun;
        if !(before && fresh && self.from.source_up && self.from.home == Home::Running) {
            return;
        }
        let (id, list) = self.machines.begin(k);
        let mut to = self.from;
        to.source[k].machine = Some(id);
        to.source[k].queue = Queue { list, next: 0 };
        to.source[k].dump = Dump::Starting;
        // The first attempt is where every path starts; the second is a choice.
        let kind = if k == 0 { Kind::Fair } else { Kind::Choice };
        self.push(kind, &|| format!("attempt {k} begins"), Ok(to));
    }

    fn source_acts(&mut self, k: usize) {
        let Queue { list, next } = self.from.source[k].queue;
        let actions = self.machines.source_list(list);
        let Some(action) = actions.get(usize::from(next)).copied() else { return };
        let mut to = self.from;
        let more = usize::from(next) + 1 < actions.len();
        to.source[k].queue = if more { Queue { list, next: next + 1 } } else { Queue::EMPTY };
        if !more && to.source[k].dump == Dump::Starting {
            to.source[k].dump = Dump::Running;
        }
        let done = do_source(&mut to, k, action);
        self.push(Kind::Fair, &|| format!("source {k} does {action:?}"), done.map(|()| to));
    }

    fn destination_acts(&mut self, k: usize) {
        let Queue { list, next } = self.from.destination[k].queue;
        let actions = self.machines.destination_list(list);
        let Some(action) = actions.get(usize::from(next)).copied() else { return };
        let mut to = self.from;
        let more = usize::from(next) + 1 < actions.len();
        to.destination[k].queue = if more { Queue { list, next: next + 1 } } else { Queue::EMPTY };
        let done = do_destination(&mut to, k, action);
        self.push(Kind::Fair, &|| format!("destination {k} does {action:?}"), done.map(|()| to));
    }

    /// CRIU lives in a cgroup of its own: it goes on while the agent is down.
    fn criu(&mut self, k: usize) {
        let (s, d) = (self.from.source[k], self.from.destination[k]);
        if s.dump != Dump::Running {
            return;
        }
        let mut fails = self.from;
        fails.source[k].dump = Dump::Failed;
        fails.destination[k].image = Image::Broken;
        let unheard = d.ledger.is_none() && self.from.net & Down::Stage.bit(k) == 0;
        if d.image == Image::Broken || unheard {
            return self.push(Kind::Fair, &|| format!("dump {k} ends: its stream broke"), Ok(fails));
        }
        self.push(Kind::Fault, &|| format!("dump {k} fails"), Ok(fails));
        if d.ledger != Some(DestinationState::Empty) || d.queue != Queue::EMPTY || d.copy != Staged::None {
            return;
        }
        let mut ends = self.from;
        ends.source[k].dump = Dump::Done;
        ends.destination[k].image = Image::Complete;
        let mut unheld = ends;
        ends.home = Home::Frozen(k as u8);
        self.push(Kind::Fair, &|| format!("dump {k} ends well"), Ok(ends));
        unheld.source[k].dump = Dump::Failed;
        unheld.source[k].outrun = true;
        self.push(Kind::Fault, &|| format!("dump {k} is whole, but the tree was not held"), Ok(unheld));
    }

    fn source_hears(&mut self, k: usize) {
        if !self.source_idle(k) {
            return;
        }
        let net = self.from.net;
        for up in UP.iter().filter(|up| net & up.bit(k) != 0) {
            let mut taken = self.from;
            taken.net &= !up.bit(k);
            self.step_source(Kind::Fair, k, SourceIn::Heard(*up), taken);
            self.step_source(Kind::Fault, k, SourceIn::Heard(*up), self.from); // and it will come again
        }
    }

    fn source_notices(&mut self, k: usize) {
        if !self.source_idle(k) {
            return;
        }
        let mut to = self.from;
        to.source[k].dump = Dump::Known;
        match self.from.source[k].dump {
            Dump::Done => self.step_source(Kind::Fair, k, SourceIn::Frozen, to),
            Dump::Failed => self.step_source(Kind::Fair, k, SourceIn::DumpFailed, to),
            _ => {}
        }
        let id = self.from.source[k].machine;
        let believes_alive = id.is_some_and(|id| self.machines.source(id).home.is_alive());
        let ours = !matches!(self.source_state(k), Some(SourceState::Aborted | SourceState::Released));
        if self.from.home == Home::Gone && believes_alive && ours {
            self.step_source(Kind::Fair, k, SourceIn::Killed, self.from);
        }
    }

    fn people_and_time(&mut self, k: usize) {
        if !self.source_idle(k) {
            return;
        }
        let from = self.from;
        if !self.rules.never_asks_again {
            self.step_source(Kind::Fair, k, SourceIn::Tick, from);
        }
        self.step_source(Kind::Choice, k, SourceIn::Cancel, from);
        self.step_source(Kind::Fault, k, SourceIn::LinkLost, from);
        self.step_source(Kind::Choice, k, SourceIn::Deadline, from);
        let there = from.destination[k];
        let never_again = there.copy == Staged::None && there.image == Image::Broken;
        if there.copy == Staged::Dead || never_again {
            self.step_source(Kind::Choice, k, SourceIn::DestinationGone, from);
        }
        if self.source_state(k) == Some(SourceState::InDoubt) {
            let (mut repeats, mut drops) = (from, from);
            repeats.ran_away = false;
            drops.excused = true;
            self.step_source(Kind::Choice, k, SourceIn::AcceptRepeat, repeats);
            self.step_source(Kind::Choice, k, SourceIn::Drop, drops);
        }
        self.broken_rules(k);
    }

    /// What a source would do that broke a rule.
    fn broken_rules(&mut self, k: usize) {
        if self.source_state(k) != Some(SourceState::Committed) {
            return;
        }
        if self.rules.source_thaws_on_link_loss {
            let mut to = self.from;
            let done = to.thaw_home(k);
            self.push(Kind::Fault, &|| format!("source {k} thaws: the link broke"), done.map(|()| to));
        }
        if self.rules.engine_word_is_proof && self.from.destination[k].copy == Staged::Running {
            self.step_source(Kind::Fault, k, SourceIn::Heard(Up::NeverRan), self.from);
        }
        if self.rules.silence_can_be_overruled {
            let mut to = self.from;
            to.ran_away = false;
            let done = to.thaw_home(k);
            self.push(Kind::Choice, &|| format!("a person overrules silence {k}"), done.map(|()| to));
        }
    }

    fn destination_hears(&mut self, k: usize) {
        let net = self.from.net;
        for down in DOWN.iter().filter(|down| net & down.bit(k) != 0) {
            let mut taken = self.from;
            taken.net &= !down.bit(k);
            self.deliver_down(Kind::Fair, k, *down, taken);
            self.deliver_down(Kind::Fault, k, *down, self.from);
            if self.rules.destination_ignores_attempts {
                self.deliver_down(Kind::Choice, 1 - k, *down, taken);
            }
        }
    }

    fn deliver_down(&mut self, kind: Kind, k: usize, down: Down, mut to: World) {
        if !self.destination_idle(k) {
            return;
        }
        // The shell looks at the staged tree before it hands in a message, and says first that it died.
        if to.destination[k].copy == Staged::Dead && self.destination_state(k) == Some(DestinationState::Staged) {
            return;
        }
        if to.destination[k].machine.is_some() {
            return self.step_destination(kind, k, DestinationIn::Heard(down), to);
        }
        if let Some((id, list)) = self.machines.unknown(k, down) {
            self.settle_destination(&mut to, k, id, list);
        }
        self.push(kind, &|| format!("destination {k}, unknown: {down:?}"), Ok(to));
    }

    fn destination_notices(&mut self, k: usize) {
        if !self.destination_idle(k) {
            return;
        }
        let (from, d) = (self.from, self.from.destination[k]);
        if !self.rules.never_asks_again {
            self.step_destination(Kind::Fair, k, DestinationIn::Tick, from);
        }
        if d.fence && d.copy == Staged::Running {
            let mut to = from;
            to.destination[k].fence = false;
            self.step_destination(Kind::Choice, k, DestinationIn::FenceExpired, to);
        }
        match (d.copy, self.destination_state(k)) {
            (Staged::Dead, Some(DestinationState::Staged)) => {
                self.step_destination(Kind::Fair, k, DestinationIn::StagedCopyDied, from);
            }
            (Staged::Dead, Some(DestinationState::Running)) => {
                self.step_destination(Kind::Fair, k, DestinationIn::TreeEnded, from);
            }
            _ => {}
        }
        if self.rules.staged_goes_on_at_reboot && from.home == Home::Rebooted {
            let mut to = from;
            let done = to.thaw_staged(k);
            self.push(Kind::Choice, &|| format!("destination {k} goes on by itself"), done.map(|()| to));
        }
    }

    fn staging(&mut self, k: usize) {
        let state = self.destination_state(k);
        if !self.destination_idle(k) || !matches!(state, Some(DestinationState::Empty | DestinationState::Staged)) {
            return;
        }
        let d = self.from.destination[k];
        let mut to = self.from;
        if state == Some(DestinationState::Empty) && d.image == Image::Complete {
            to.destination[k].copy = Staged::Frozen;
            to.destination[k].image = Image::Restored;
            self.step_destination(Kind::Fair, k, DestinationIn::Staged, to);
        }
        to = self.from;
        if state == Some(DestinationState::Empty) {
            to.destination[k].image = Image::Broken;
        }
        to.excused |= !to.home_alive();
        let kind = if d.image == Image::Broken { Kind::Fair } else { Kind::Fault };
        self.step_destination(kind, k, DestinationIn::StageFailed, to);
        self.step_destination(Kind::Fault, k, DestinationIn::LinkLost, to);
    }
}
