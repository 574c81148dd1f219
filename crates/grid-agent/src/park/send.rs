//! The way from the disk: a parked copy is looked at, and then sent as a dump would be. Nothing is frozen, and nothing is
//! deleted before it runs elsewhere.

use crate::agent::{Agent, Input};
use crate::data;
use crate::faults::Steps;
use crate::link::tracing_line;
use crate::probe::lay;
use crate::source::{Record, refuse_when_stopped};
use grid_core::handover::{Source, SourceAction, SourceInput};
use grid_os::cgroup::Controller;
use grid_os::criu::seal_of;
use grid_os::socket::Socket;
use grid_types::AttemptId;
use grid_types::fault::FaultPoint;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::streams::ShadowTerms;
use grid_types::wire::{Answer, MoveOrder, Stage};
use std::fs::File;
use std::io;
use std::time::Duration;

/// A large copy is read as fast as its disk gives it, and is silent meanwhile.
const CHECKED_WITHIN: Duration = Duration::from_secs(600);

impl Agent {
    /// Begins to take the copy from here. What can be said without reading it is said now; its hash is compared before the
    /// destination hears of it.
    pub(crate) fn start_unpark(&mut self, order: MoveOrder, parked: &AttemptId) -> Result<Answer, Reason> {
        refuse_when_stopped(&self.cfg.stop)?;
        if !self.reaches(&order.destination) && order.destination != self.cfg.node {
            return Err(Reason::new(ReasonCode::Silent, format!("no link to {}", order.destination)));
        }
        self.has_room()?;
        if let Some(way) = self.unparking(parked) {
            return Err(Reason::new(ReasonCode::Away, format!("it is being unparked already, by attempt {way}")));
        }
        let attempt = order.attempt.clone();
        let incoming = self.parked(parked)?;
        let (mut stage, copy) = (stage_of(&order, &incoming.record.stage), incoming.parked().cloned());
        let copy = copy.ok_or_else(|| Reason::new(ReasonCode::Parked, "its record is incomplete"))?;
        let apart = stage.home_files && !self.is_hub();
        let probes = lay(&attempt, &mut stage, !self.is_hub())?;
        let boot = self.peer_boots.get(&order.destination).cloned();
        let record =
            Record::of_parked(order, &self.boot_id, boot, self.hold_name(&attempt), stage, copy.signals.clone());
        let hold = self.hierarchies.group(&record.hold, &[Controller::Freezer]);
        let machine = Source::new(attempt.clone());
        let mut actions = machine.begin();
        let stage_it = actions.split_off(1);
        self.add_source(&attempt, machine, record, hold, probes);
        self.do_source(&attempt, actions);
        self.step_source(&attempt, SourceInput::SignalsPending(copy.signals.clone()));
        self.arm_deadline(&attempt, CHECKED_WITHIN);
        let (place, faults, inputs) = (self.parked_place(parked), self.faults.clone(), self.inputs.clone());
        std::thread::spawn(move || {
            let mut steps = Steps::new(&faults);
            let result = steps.run(FaultPoint::CheckParked, || check(&place, &copy, apart));
            let _ = inputs.send(Input::ParkedChecked { attempt, stage_it, result });
        });
        Ok(Answer::Done)
    }

    /// The copy is whole, and its files are as they were: the destination is asked to stage.
    pub(crate) fn parked_checked(
        &mut self,
        attempt: &AttemptId,
        stage_it: Vec<SourceAction>,
        result: Result<(), String>,
    ) {
        if self.sources.get(attempt).is_none_or(|s| !s.waits_to_stage()) {
            return;
        }
        if let Err(detail) = result {
            return self.step_source(attempt, SourceInput::DumpFailed { detail });
        }
        match self.data_for(attempt) {
            Err(e) => {
                let detail = format!("the page stream could not be opened: {e}");
                self.step_source(attempt, SourceInput::DumpFailed { detail });
            }
            Ok(stream) => {
                self.do_source(attempt, stage_it);
                self.arm_ready(attempt);
                if let Some(stream) = stream {
                    self.send_parked(attempt, stream);
                }
            }
        }
    }

    /// The stream is there: a thread sends the copy down it.
    pub(crate) fn send_parked(&mut self, attempt: &AttemptId, stream: Socket) {
        let state_dir = self.cfg.state_dir.clone();
        let Some(outgoing) = self.sources.get_mut(attempt) else { return };
        let Some(place) = outgoing.begin_to_send(&stream, &state_dir) else { return };
        let (faults, inputs, id) = (self.faults.clone(), self.inputs.clone(), attempt.clone());
        std::thread::spawn(move || {
            let mut steps = Steps::new(&faults);
            let ready = || data::await_ready(&stream).map_err(|e| format!("the destination was not ready: {e}"));
            let send = || send(&place, &stream).map_err(|e| format!("the page stream: {e}"));
            let result =
                steps.run(FaultPoint::AwaitReady, ready).and_then(|()| steps.run(FaultPoint::SendParked, send));
            tracing_line(&format!("attempt {id}: {}", steps.text()));
            let _ = inputs.send(Input::ParkedSent { attempt: id, result });
        });
        self.arm_sending(attempt);
    }
}

/// Whose files are another machine's, that machine looks at them.
fn check(place: &super::ParkedPlace, copy: &super::ParkedCopy, apart: bool) -> Result<(), String> {
    let kept = "nothing was started, and what is parked was left as it is";
    let found = seal_of(&place.file)
        .map_err(|e| format!("E-PARKED its copy {} cannot be read ({e}); {kept}", place.file.display()))?;
    if found != copy.seal() {
        let what = match found.size == copy.size {
            true => "does not have the hash that it was written with".to_owned(),
            false => format!("has {} bytes and was written with {}", found.size, copy.size),
        };
        return Err(format!("E-PARKED its copy {} {what}: its disk changed it; {kept}", place.file.display()));
    }
    let files = if apart { &[][..] } else { &copy.files };
    super::changed("", files).map_or(Ok(()), |what| Err(format!("{what}; {kept}")))
}

/// The destination's answers to the page stream are few and are left unread: the connection stays open until all is over.
fn send(place: &super::ParkedPlace, mut stream: &Socket) -> io::Result<()> {
    let mut file = File::open(&place.file)?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(()),
            n => io::Write::write_all(&mut stream, &buffer[..n])?,
        }
    }
}

/// As the tree was parked, on its way to where the order says. Its streams are known under the names that its images have.
fn stage_of(order: &MoveOrder, parked: &Stage) -> Stage {
    let shadow = parked.shadow.clone().map(|terms| ShadowTerms { generation: terms.generation + 1, ..terms });
    let private_tmp = parked.private_tmp || order.private_tmp;
    let (lease, admitted, probes) = (order.lease.clone(), order.admitted, Vec::new());
    Stage { lease, admitted, shadow, park: false, private_tmp, probes, ..parked.clone() }
}
