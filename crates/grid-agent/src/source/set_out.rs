//! A tree sets out: it is looked at, taken into its hold, and dumped down the stream to its destination.

use super::dump::{Dump, prepare_images};
use super::hold::{hold_prefix, stage_of, take_hold};
use super::{DumpOutcome, Member, Outgoing, Record, refuse_when_stopped};
use crate::agent::{Agent, Input};
use crate::home::carried;
use crate::link::tracing_line;
use crate::probe;
use grid_core::detect::connections;
use grid_core::handover::{Source, SourceInput};
use grid_os::cgroup::{Controller, Group};
use grid_os::socket::Socket;
use grid_types::event::MoveFigures;
use grid_types::facts::{ProcFacts, TreeFacts};
use grid_types::fault::FaultPoint;
use grid_types::handover::SourceState;
use grid_types::reason::Reason;
use grid_types::wire::{Answer, MoveOrder, OwnPaths, Stage};
use grid_types::{AttemptId, Bytes, Millis};
use std::time::Duration;

/// A destination that is not ready to receive within this is given up; nothing is frozen yet.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(20);

/// The reason of a disk's agent comes within this, or CRIU's is told.
const WORD_WITHIN: Duration = Duration::from_millis(500);

impl Agent {
    pub(crate) fn start_move(&mut self, order: MoveOrder) -> Result<Answer, Reason> {
        if self.sources.contains_key(&order.attempt) {
            return Ok(Answer::Done);
        }
        if let Some(parked) = order.parked.clone() {
            return self.start_unpark(order, &parked);
        }
        self.home_answers(self.came_by(order.process.pid).as_ref())?;
        let tree = self.preflight(&order)?;
        let attempt = order.attempt.clone();
        let root = tree.root.stat.id.pid;
        let came_by = self.came_by(root);
        // Where it is a guest it goes on to see what it sees.
        let guest = came_by.as_ref().and_then(|a| self.incoming.get(a)).filter(|i| i.record.stage.lease.is_some());
        let home_files = guest.map_or(order.home_files, |i| i.record.stage.home_files);
        let private_tmp = order.private_tmp || came_by.as_ref().is_some_and(|a| self.has_private_tmp(a));
        let files = if order.apart && !home_files { crate::files::used(&tree)? } else { Vec::new() };
        let shadow = self.shadow_terms(&attempt, &tree, came_by.as_ref())?;
        let hold = self.hold_group(&attempt, root, came_by.as_ref());
        let own_paths = guest.map_or(&order.own_paths, |i| &i.record.stage.own_paths);
        let own_paths = if home_files { own_paths.clone() } else { OwnPaths::default() };
        let mut stage = Stage { home_files, private_tmp, own_paths, ..stage_of(&order, &tree, shadow, files) };
        let probes = if stage.park { Vec::new() } else { probe::lay(&attempt, &mut stage, !self.is_hub())? };
        let record = Record {
            boot_id: self.boot_id.clone(),
            // What is kept on a disk outlives a reboot of its machine: that is no proof that it is gone.
            destination_boot: self.peer_boots.get(&order.destination).filter(|_| !order.park).cloned(),
            members: self.members(&tree),
            came_by,
            hold: hold.path().to_owned(),
            stage,
            signals: Vec::new(),
            figures: MoveFigures { closed_connections: connections(&tree), ..MoveFigures::default() },
            report: None,
            order,
        };
        let machine = Source::new(attempt.clone());
        let actions = machine.begin();
        self.sources.insert(attempt.clone(), Outgoing { probes, ..Outgoing::new(machine, record, hold) });
        self.do_source(&attempt, actions);
        self.arm_deadline(&attempt, READY_WITHIN);
        match self.data_for(&attempt) {
            Ok(None) => {}
            Ok(Some(stream)) => self.start_dump(&attempt, stream),
            Err(e) => {
                let detail = format!("the page stream could not be opened: {e}");
                self.step_source(&attempt, SourceInput::DumpFailed { detail });
            }
        }
        Ok(Answer::Done)
    }

    /// Where the tree is held: its own group where it came by an earlier move; else a group of its own (v1), or a
    /// child of its present group without controllers (v2), so that its limits and its accounting stay as they are.
    fn hold_group(&self, attempt: &AttemptId, root: i32, came_by: Option<&AttemptId>) -> Group {
        let came = came_by.and_then(|a| self.incoming.get(a)).map(|i| i.tree().0.group.with(&[Controller::Freezer]));
        if let Some(group) = came.filter(|g| g.pids().contains(&root)) {
            return group;
        }
        let own = self.hierarchies.group_of(root, Controller::Freezer);
        match own.filter(|_| self.hierarchies.is_v2(Controller::Freezer)) {
            Some(own) => self
                .hierarchies
                .group(&format!("{own}/{}{attempt}", hold_prefix(&self.cfg.cgroup)), &[Controller::Freezer]),
            None => self.group(&format!("hold/{attempt}"), &[Controller::Freezer]),
        }
    }

    fn members(&self, tree: &TreeFacts) -> Vec<Member> {
        let member = |p: &ProcFacts| Member {
            pid: p.stat.id.pid,
            start_ticks: p.stat.id.start_ticks,
            group: self.hierarchies.group_of(p.stat.id.pid, Controller::Freezer),
        };
        tree.all().map(member).collect()
    }

    /// The stream to the destination is there: the tree is taken into its hold, and a thread dumps it.
    pub(crate) fn start_dump(&mut self, attempt: &AttemptId, stream: Socket) {
        if self.sources.get(attempt).is_some_and(|s| s.parked().is_some()) {
            return self.send_parked(attempt, stream);
        }
        let place = self.tree_place(attempt, None);
        let far = self.far_of(attempt);
        let came_by = self.came_by_of(attempt);
        let awake = self.not_asleep(came_by.as_ref());
        let taken_back = self.reclaimed(came_by.as_ref());
        let locks = self.locks_of(came_by.as_ref());
        let Some(outgoing) = self.sources.get_mut(attempt) else { return };
        if outgoing.machine.state != SourceState::Running || outgoing.dumping {
            return;
        }
        let faults = &self.faults;
        let prepared = refuse_when_stopped(&self.cfg.stop)
            .and(awake)
            .map_err(|reason| reason.to_string())
            .and_then(|()| faults.at(FaultPoint::TakeHold))
            .and_then(|()| take_hold(outgoing))
            .and_then(|()| faults.at(FaultPoint::PrepareImages))
            .and_then(|()| prepare_images(&place, &outgoing.record.stage));
        if let Err(detail) = prepared {
            return self.step_source(attempt, SourceInput::DumpFailed { detail });
        }
        outgoing.stream = stream.try_clone().ok();
        outgoing.dumping = true;
        outgoing.frozen_before = taken_back;
        let thaw = taken_back.is_some();
        let came_by = outgoing.record.came_by.clone();
        let (hold, stage) = (outgoing.hold.clone(), outgoing.record.stage.clone());
        let max_frozen = Duration::from_millis(outgoing.record.order.max_frozen.0);
        let root = outgoing.record.members[0].pid;
        let inside = came_by.as_ref().and_then(|a| self.incoming.get(a)).and_then(|i| i.tree().1).map(|r| r.inside);
        let (criu, faults) = (self.criu.clone(), self.faults.clone());
        let stop = self.cfg.stop.clone();
        let private_tmp = came_by.as_ref().is_some_and(|a| self.has_private_tmp(a));
        let carried = came_by.as_ref().and_then(|a| self.incoming.get(a)).is_some_and(|i| carried(&i.record.stage));
        let work = Dump {
            carried,
            locks,
            private_tmp,
            criu,
            faults,
            stop,
            place,
            hold,
            stage,
            root,
            inside,
            stream,
            as_owner: true,
            far,
            thaw,
        };
        let (inputs, id) = (self.inputs.clone(), attempt.clone());
        std::thread::spawn(move || {
            let outcome = work.run();
            let _ = inputs.send(Input::Dumped { attempt: id, outcome });
        });
        self.arm_deadline(attempt, READY_WITHIN + max_frozen);
    }

    pub(crate) fn dumped(&mut self, attempt: &AttemptId, outcome: DumpOutcome) {
        let place = self.tree_place(attempt, None);
        let Some(outgoing) = self.sources.get_mut(attempt) else { return };
        let (came_by, before) = (outgoing.record.came_by.clone(), outgoing.machine.state);
        outgoing.dumping = false;
        outgoing.stream = None;
        outgoing.probes.clear();
        outgoing.frozen_at = Some(outgoing.frozen_before.unwrap_or(outcome.frozen_at));
        outgoing.record.figures.bytes = Some(Bytes(outcome.bytes));
        outgoing.record.figures.dumped_as_owner = Some(outcome.as_owner);
        outgoing.record.figures.dump = Some(Millis(outcome.frozen_at.elapsed().as_millis() as u64));
        let _ = place.sweep();
        let spent = outcome.frozen_at.elapsed();
        let left = Duration::from_millis(outgoing.record.order.max_frozen.0).saturating_sub(spent);
        match outcome.result {
            Ok(()) => {
                self.arm_deadline(attempt, left);
                self.step_source(attempt, SourceInput::Frozen);
            }
            // A disk that is full breaks the stream, and its agent's word about that is on its way. It runs meanwhile.
            Err(detail) if outgoing.record.order.park && before == SourceState::Running => {
                self.after(WORD_WITHIN, Input::DumpFailed { attempt: attempt.clone(), detail });
            }
            Err(detail) => self.step_source(attempt, SourceInput::DumpFailed { detail }),
        }
        // One that was undone meanwhile was thawed while CRIU had it.
        if before == SourceState::Aborted {
            self.freeze_if_held(came_by.as_ref()).unwrap_or_else(|e| tracing_line(&e));
        }
    }
}
