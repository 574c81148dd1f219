//! The source's shell: holds a tree, dumps it down a stream, and carries out what `grid_core::handover::Source`
//! decides.

use crate::AgentError;
use crate::agent::{Agent, Input};
use crate::data::{self, Dial};
use crate::destination::wait_for_criu;
use crate::link::tracing_line;
use crate::tree::{TREE_NAMESPACES, TreePlace, start_ticks};
use grid_core::handover::{
    GoneProof, HomeCopy, Source, SourceAction, SourceInput, SourceReport, answer_unknown_at_source,
};
use grid_os::cgroup::{Controller, Group};
use grid_os::criu::{Criu, CriuError, DumpJob, Where, send_images};
use grid_os::pidfd::PidFd;
use grid_os::spawn::Owner;
use grid_types::event::{MoveFigures, Resolution};
use grid_types::facts::TreeFacts;
use grid_types::handover::{SourceState, ToDestination, ToSource};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::{Answer, AttemptHolding, Body, MoveOrder, MoveReport, Notice, Party, Stage};
use grid_types::{AttemptId, Bytes, Millis, NodeName};
use serde::{Deserialize, Serialize};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// A destination that is not ready to receive within this is given up; nothing is frozen yet.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// What is recorded of a tree that leaves, or was to leave.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    order: MoveOrder,
    boot_id: String,
    destination_boot: Option<String>,
    members: Vec<Member>,
    /// Attempt that had brought the tree here, where it is in namespaces of its own.
    came_by: Option<AttemptId>,
    hold: String,
    stage: Stage,
    signals: Vec<i32>,
    report: Option<MoveReport>,
}

/// A member of the tree and the group that it was taken from.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Member {
    pid: i32,
    start_ticks: u64,
    group: Option<String>,
}

/// One attempt of which this agent is the source.
pub(crate) struct Outgoing {
    machine: Source,
    record: Record,
    hold: Group,
    stream: Option<TcpStream>,
    dumping: bool,
    begun: Instant,
    frozen_at: Option<Instant>,
    figures: MoveFigures,
    armed: u64,
    cancelled: bool,
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
    /// Its outcome is open.
    pub(crate) fn is_moving(&self) -> bool {
        self.dumping
            || matches!(
                self.machine.state,
                SourceState::Running | SourceState::Frozen | SourceState::Committed | SourceState::InDoubt
            )
    }

    pub(crate) fn holds(&self, pid: i32) -> bool {
        self.record.members.iter().any(|m| m.pid == pid)
    }
}

impl Agent {
    pub(crate) fn start_move(&mut self, order: MoveOrder) -> Result<Answer, Reason> {
        if self.sources.contains_key(&order.attempt) {
            return Ok(Answer::Done);
        }
        let tree = self.preflight(&order)?;
        let attempt = order.attempt.clone();
        let root = tree.root.stat.id.pid;
        let came_by = self.incoming.iter().find(|(_, i)| i.living_root() == Some(root)).map(|(a, _)| a.clone());
        let hold = self.hold_group(&attempt, root, came_by.as_ref());
        let record = Record {
            boot_id: self.boot_id.clone(),
            destination_boot: self.peer_boots.get(&order.destination).cloned(),
            members: self.members(&tree),
            came_by,
            hold: hold.path().to_owned(),
            stage: stage_of(&order, &tree),
            signals: Vec::new(),
            report: None,
            order,
        };
        let now = Instant::now();
        let machine = Source::new(attempt.clone());
        let actions = machine.begin();
        let figures = MoveFigures { processes: record.stage.processes, ..MoveFigures::default() };
        let outgoing = Outgoing {
            machine,
            record,
            hold,
            stream: None,
            dumping: false,
            begun: now,
            frozen_at: None,
            figures,
            armed: 0,
            cancelled: false,
            last_word: now,
        };
        self.sources.insert(attempt.clone(), outgoing);
        self.do_source(&attempt, actions);
        self.arm_deadline(&attempt, READY_WITHIN);
        if let Some(dial) = Dial::of(&self.cfg) {
            match dial.connect(&attempt) {
                Ok(stream) => self.start_dump(&attempt, stream),
                Err(e) => {
                    let detail = format!("the page stream could not be opened: {e}");
                    self.step_source(&attempt, SourceInput::DumpFailed { detail });
                }
            }
        }
        Ok(Answer::Done)
    }

    /// Where the tree is held: its own group where it came by an earlier move; else a group of its own (v1), or a
    /// child of its present group without controllers (v2), so that its limits and its accounting stay as they are.
    fn hold_group(&self, attempt: &AttemptId, root: i32, came_by: Option<&AttemptId>) -> Group {
        if let Some(group) = came_by.and_then(|a| self.incoming.get(a)).map(|i| i.tree().0.group.clone()) {
            return group.with(&[Controller::Freezer]);
        }
        let own = self.hierarchies.group_of(root, Controller::Freezer);
        match own.filter(|_| self.hierarchies.is_v2(Controller::Freezer)) {
            Some(own) => self.hierarchies.group(&format!("{own}/grid-hold-{attempt}"), &[Controller::Freezer]),
            None => self.group(&format!("hold/{attempt}"), &[Controller::Freezer]),
        }
    }

    fn members(&self, tree: &TreeFacts) -> Vec<Member> {
        let member = |p: &grid_types::facts::ProcFacts| Member {
            pid: p.stat.id.pid,
            start_ticks: p.stat.id.start_ticks,
            group: self.hierarchies.group_of(p.stat.id.pid, Controller::Freezer),
        };
        tree.all().map(member).collect()
    }

    fn arm_deadline(&mut self, attempt: &AttemptId, pause: Duration) {
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

    /// The stream to the destination is there: the tree is taken into its hold, and a thread dumps it.
    pub(crate) fn start_dump(&mut self, attempt: &AttemptId, stream: TcpStream) {
        let place = self.tree_place(attempt, None);
        let Some(outgoing) = self.sources.get_mut(attempt) else { return };
        if outgoing.machine.state != SourceState::Running || outgoing.dumping {
            return;
        }
        let prepared = take_hold(outgoing).and_then(|()| prepare_images(&place, &outgoing.record.stage));
        if let Err(detail) = prepared {
            return self.step_source(attempt, SourceInput::DumpFailed { detail });
        }
        outgoing.stream = stream.try_clone().ok();
        outgoing.dumping = true;
        let came_by = outgoing.record.came_by.clone();
        let (hold, stage) = (outgoing.hold.clone(), outgoing.record.stage.clone());
        let max_frozen = Duration::from_millis(outgoing.record.order.max_frozen.0);
        let root = outgoing.record.members[0].pid;
        let inside = came_by.and_then(|a| self.incoming.get(&a)).and_then(|i| i.tree().1).map(|r| r.inside);
        let work = Dump { criu: self.criu.clone(), place, hold, stage, root, inside, stream, as_owner: true };
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
        outgoing.dumping = false;
        outgoing.stream = None;
        outgoing.frozen_at = Some(outcome.frozen_at);
        outgoing.figures.bytes = Bytes(outcome.bytes);
        outgoing.figures.dumped_as_owner = outcome.as_owner;
        outgoing.figures.dump = Millis(outcome.frozen_at.elapsed().as_millis() as u64);
        let _ = place.sweep();
        let spent = outcome.frozen_at.elapsed();
        let left = Duration::from_millis(outgoing.record.order.max_frozen.0).saturating_sub(spent);
        match outcome.result {
            Ok(()) => {
                self.arm_deadline(attempt, left);
                self.step_source(attempt, SourceInput::Frozen);
            }
            Err(detail) => self.step_source(attempt, SourceInput::DumpFailed { detail }),
        }
    }

    pub(crate) fn cancel_move(&mut self, attempt: &AttemptId) -> Result<Answer, Reason> {
        let outgoing = self.sources.get_mut(attempt).ok_or_else(|| unknown(attempt))?;
        let committed = !matches!(outgoing.machine.state, SourceState::Running | SourceState::Frozen);
        if committed {
            return Err(Reason::new(ReasonCode::Changed, "it is past the commit; use `grid offload recall`"));
        }
        outgoing.cancelled = true;
        self.step_source(attempt, SourceInput::CancelRequested);
        Ok(Answer::Done)
    }

    pub(crate) fn resolve_move(&mut self, attempt: &AttemptId, decision: Resolution) -> Result<Answer, Reason> {
        let outgoing = self.sources.get_mut(attempt).ok_or_else(|| unknown(attempt))?;
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
    pub(crate) fn heed_destination(&mut self, message: ToSource) {
        let attempt = message.attempt().clone();
        if !self.sources.contains_key(&attempt) {
            for action in answer_unknown_at_source(&message) {
                tracing_line(&format!("{action:?}"));
            }
            return;
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
        if let Some(at) = outgoing.frozen_at {
            outgoing.figures.downtime = Millis(at.elapsed().as_millis() as u64);
        }
        outgoing.figures.total = Millis(outgoing.begun.elapsed().as_millis() as u64);
        let pending = outgoing.record.members.iter().flat_map(|m| pending_signals(m.pid)).collect::<Vec<_>>();
        if !pending.is_empty() {
            self.step_source(attempt, SourceInput::SignalsPending(pending));
        }
    }

    pub(crate) fn step_source(&mut self, attempt: &AttemptId, input: SourceInput) {
        let Some(outgoing) = self.sources.get_mut(attempt) else { return };
        let actions = outgoing.machine.step(input);
        self.do_source(attempt, actions);
    }

    /// Carries actions out in order. Where one fails that others rest on, the agent ends itself and recovers from the
    /// ledger, as after a crash.
    fn do_source(&mut self, attempt: &AttemptId, actions: Vec<SourceAction>) {
        for action in actions {
            if let Err(e) = self.do_one_source(attempt, action) {
                tracing_line(&format!("attempt {attempt}: {e}; restarting to recover from the ledger"));
                std::process::exit(1);
            }
        }
    }

    fn do_one_source(&mut self, attempt: &AttemptId, action: SourceAction) -> Result<(), String> {
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
                self.say(to, Body::Down { message, stage });
            }
            SourceAction::CloseStream => {
                if let Some(stream) = outgoing.stream.take() {
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                }
            }
            SourceAction::Thaw => thaw_home(outgoing)?,
            SourceAction::DiscardCopy => {
                if outgoing.hold.exists() {
                    outgoing.hold.kill(Duration::from_secs(5)).map_err(|e| e.to_string())?;
                }
                match outgoing.record.came_by.clone() {
                    Some(earlier) => self.tree_left(&earlier),
                    None => outgoing.hold.remove().map_err(|e| e.to_string())?,
                }
            }
            SourceAction::Report(report) => self.report_source(attempt, report),
        }
        Ok(())
    }

    fn report_source(&mut self, attempt: &AttemptId, report: SourceReport) {
        let Some(outgoing) = self.sources.get_mut(attempt) else { return };
        let failed = |code, detail: String| MoveReport::Failed { reason: Reason::new(code, detail) };
        let report = match report {
            SourceReport::Moved => MoveReport::Moved { figures: outgoing.figures.clone() },
            SourceReport::Failed { .. } if outgoing.cancelled => {
                failed(ReasonCode::Cancelled, "cancelled before the commit; it runs where it was".into())
            }
            SourceReport::Failed { detail } => failed(code_of(&detail), detail),
            SourceReport::InDoubt { detail } => MoveReport::InDoubt { detail },
            SourceReport::DiedFrozen { signal } => MoveReport::DiedFrozen { signal },
            SourceReport::Lost { detail } => MoveReport::InDoubt { detail },
            SourceReport::Unanswered { detail } | SourceReport::ResolveRefused { detail } => {
                return tracing_line(&format!("attempt {attempt}: {detail}"));
            }
            SourceReport::Resolved(Resolution::AcceptRepeat) => {
                failed(ReasonCode::Doubt, "resolved: the copy at home runs on; work may be repeated".into())
            }
            SourceReport::Resolved(Resolution::Drop)
            | SourceReport::CancelTooLate
            | SourceReport::UnknownAttempt(_) => {
                return;
            }
        };
        outgoing.record.report = Some(report.clone());
        if let Err(e) = self.ledger.put_source(attempt, outgoing.machine.state, &outgoing.record) {
            tracing_line(&e.to_string());
        }
        let offload = outgoing.record.order.offload.clone();
        self.notice(Notice::Report { attempt: attempt.clone(), offload, report });
    }

    pub(crate) fn recover_sources(&mut self) -> Result<(), AgentError> {
        for row in self.ledger.sources::<Record>()? {
            let done = matches!(row.state, SourceState::Released | SourceState::Aborted);
            let hold = self.hierarchies.group(&row.detail.hold, &[Controller::Freezer]);
            if done && row.detail.report.is_some() && !(row.detail.came_by.is_none() && hold.exists()) {
                continue;
            }
            wait_for_criu(&self.tree_place(&row.attempt, None));
            let home = home_copy(&row.detail, &hold, &self.boot_id);
            let mut signals = row.detail.signals.clone();
            if home == HomeCopy::Frozen {
                signals.extend(row.detail.members.iter().flat_map(|m| pending_signals(m.pid)));
                signals.sort_unstable();
                signals.dedup();
            }
            let (machine, actions) = Source::recover(row.attempt.clone(), row.state, home, signals);
            let figures = MoveFigures { processes: row.detail.stage.processes, ..MoveFigures::default() };
            let now = Instant::now();
            let outgoing = Outgoing {
                machine,
                record: row.detail,
                hold,
                stream: None,
                dumping: false,
                begun: now,
                frozen_at: None,
                figures,
                armed: 0,
                cancelled: false,
                last_word: now,
            };
            self.sources.insert(row.attempt.clone(), outgoing);
            self.do_source(&row.attempt, actions);
            let _ = self.tree_place(&row.attempt, None).sweep();
        }
        Ok(())
    }

    pub(crate) fn tick_sources(&mut self) {
        let due: Vec<AttemptId> = self
            .sources
            .iter()
            .filter(|(_, s)| {
                matches!(s.machine.state, SourceState::Committed | SourceState::InDoubt | SourceState::Frozen)
            })
            .filter(|(_, s)| s.last_word.elapsed() >= Duration::from_secs(1))
            .map(|(a, _)| a.clone())
            .collect();
        for attempt in due {
            self.watch_frozen(&attempt);
            self.step_source(&attempt, SourceInput::Tick);
        }
    }

    /// The frozen copy can be killed from outside.
    fn watch_frozen(&mut self, attempt: &AttemptId) {
        let Some(outgoing) = self.sources.get(attempt) else { return };
        let root = &outgoing.record.members[0];
        if outgoing.machine.home == HomeCopy::Frozen && start_ticks(root.pid) != Some(root.start_ticks) {
            self.step_source(attempt, SourceInput::FrozenCopyDied { signal: None });
        }
    }

    /// A node's link is up (again); `rebooted` where its boot id is another than before.
    pub(crate) fn peer_up(&mut self, node: &NodeName, rebooted: bool) {
        let proof = GoneProof::BootChanged;
        for attempt in self.sources_to(node) {
            let staged_under = self.sources.get(&attempt).and_then(|s| s.record.destination_boot.clone());
            let now = self.peer_boots.get(node).cloned();
            if staged_under.is_some() && now.is_some() && staged_under != now {
                self.step_source(&attempt, SourceInput::DestinationGone { proof });
            }
            self.step_source(&attempt, SourceInput::LinkUp);
        }
        for attempt in self.destinations_from(node) {
            use grid_core::handover::DestinationInput;
            let input = if rebooted { DestinationInput::SourceRebooted } else { DestinationInput::LinkUp };
            self.step_destination(&attempt, input);
        }
    }

    pub(crate) fn peer_lost(&mut self, node: &NodeName) {
        for attempt in self.sources_to(node) {
            self.step_source(&attempt, SourceInput::LinkLost);
        }
        for attempt in self.destinations_from(node) {
            self.step_destination(&attempt, grid_core::handover::DestinationInput::LinkLost);
        }
    }

    /// Attempts to this node. A spoke's only link is to its hub, through which every node is reached.
    fn sources_to(&self, node: &NodeName) -> Vec<AttemptId> {
        let to = |s: &Outgoing| s.record.order.destination == *node || !self.is_hub();
        self.sources.iter().filter(|(_, s)| to(s)).map(|(a, _)| a.clone()).collect()
    }

    pub(crate) fn attempt_holdings(&self) -> Vec<AttemptHolding> {
        let Ok(rows) = self.ledger.sources::<Record>() else { return Vec::new() };
        rows.into_iter()
            .map(|row| AttemptHolding {
                attempt: row.attempt,
                offload: row.detail.order.offload.clone(),
                destination: row.detail.order.destination.clone(),
                state: row.state,
                report: row.detail.report,
            })
            .collect()
    }
}

fn unknown(attempt: &AttemptId) -> Reason {
    Reason::new(ReasonCode::Changed, format!("no attempt {attempt} leaves from here"))
}

/// The reason code of a failure that came back as text from the other end, or from CRIU.
fn code_of(detail: &str) -> ReasonCode {
    let known = detail.split_once(' ').map_or(detail, |(first, _)| first);
    if let Some(code) = ReasonCode::ALL.iter().find(|c| c.as_str() == known) {
        return *code;
    }
    match detail {
        d if d.contains("gate") => ReasonCode::Gate,
        d if d.contains("link") || d.contains("restarted") => ReasonCode::Link,
        d if d.contains("longer than allowed") => ReasonCode::Frozen10,
        _ => ReasonCode::Criu,
    }
}

fn stage_of(order: &MoveOrder, tree: &TreeFacts) -> Stage {
    let root = &tree.root;
    let session_inside = tree.all().any(|p| p.stat.id.pid == root.stat.sid);
    let executables = tree.all().filter_map(|p| p.deep.as_ref()?.exe.clone()).collect();
    Stage {
        offload: order.offload.clone(),
        title: grid_core::detect::title(root, false),
        uid: root.stat.uid,
        gid: group_id(root.stat.id.pid).unwrap_or(root.stat.uid),
        lease: order.lease.clone(),
        // Copy-on-write sharing between members does not survive the move: each brings its own pages.
        expected: Bytes(tree.all().map(|p| p.stat.rss.0).sum()),
        admitted: order.admitted,
        processes: tree.all().count() as u32,
        shell_job: !session_inside,
        executables,
    }
}

fn group_id(pid: i32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix("Gid:"))?.split_whitespace().next()?.parse().ok()
}

/// Signals that wait in a frozen process, for itself or for its leader thread.
fn pending_signals(pid: i32) -> Vec<i32> {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return Vec::new() };
    let mask = |name: &str| {
        let hex = status.lines().find_map(|l| l.strip_prefix(name));
        hex.and_then(|h| u64::from_str_radix(h.trim(), 16).ok()).unwrap_or(0)
    };
    let pending = mask("ShdPnd:") | mask("SigPnd:");
    (1..=64).filter(|s| pending & (1 << (s - 1)) != 0).collect()
}

fn home_copy(record: &Record, hold: &Group, boot_id: &str) -> HomeCopy {
    if record.boot_id != boot_id {
        return HomeCopy::Rebooted;
    }
    let alive = record.members.iter().any(|m| start_ticks(m.pid) == Some(m.start_ticks));
    match (alive, hold.exists() && hold.is_frozen().unwrap_or(false)) {
        (false, _) => HomeCopy::Gone,
        (true, true) => HomeCopy::Frozen,
        (true, false) => HomeCopy::Runs,
    }
}

/// Takes the running tree into its hold. Members that appear meanwhile are children of held ones and are there.
fn take_hold(outgoing: &Outgoing) -> Result<(), String> {
    if outgoing.record.came_by.is_some() {
        return Ok(());
    }
    outgoing.hold.create().map_err(|e| e.to_string())?;
    for member in &outgoing.record.members {
        match outgoing.hold.add(member.pid) {
            Ok(()) => {}
            Err(_) if start_ticks(member.pid) != Some(member.start_ticks) => {}
            Err(e) => return Err(e.to_string()),
        }
    }
    Ok(())
}

/// Lets the copy at home run and puts its processes back where they were.
fn thaw_home(outgoing: &Outgoing) -> Result<(), String> {
    if !outgoing.hold.exists() {
        return Ok(());
    }
    outgoing.hold.set_frozen(false).map_err(|e| e.to_string())?;
    if outgoing.dumping || outgoing.record.came_by.is_some() {
        return Ok(());
    }
    for pid in outgoing.hold.pids() {
        let home = outgoing.record.members.iter().find(|m| m.pid == pid).or(outgoing.record.members.first());
        let path = home.and_then(|m| m.group.clone()).unwrap_or_default();
        let _ = outgoing.hold.sibling(&path).add(pid);
    }
    outgoing.hold.remove().map_err(|e| e.to_string())
}

fn prepare_images(place: &TreePlace, stage: &Stage) -> Result<(), String> {
    let make = || -> std::io::Result<()> {
        std::fs::create_dir_all(&place.images)?;
        std::os::unix::fs::chown(&place.images, Some(stage.uid), Some(stage.gid))
    };
    make().map_err(|e| format!("{}: {e}", place.images.display()))?;
    place.criu.create().map_err(|e| e.to_string())
}

/// Everything a dump thread needs.
struct Dump {
    criu: Criu,
    place: TreePlace,
    hold: Group,
    stage: Stage,
    root: i32,
    /// The root's number in the tree's own PID namespace, where it has one.
    inside: Option<i32>,
    stream: TcpStream,
    as_owner: bool,
}

impl Dump {
    fn run(mut self) -> DumpOutcome {
        let waited = data::await_ready(&self.stream).map_err(|e| format!("the destination was not ready: {e}"));
        let frozen_at = Instant::now();
        let result = waited.and_then(|()| self.dump());
        let bytes = written_bytes(&self.place.images);
        DumpOutcome { frozen_at, bytes, as_owner: self.as_owner, result }
    }

    fn dump(&mut self) -> Result<(), String> {
        // Through the root itself: CRIU must be in its time namespace too, which it may not enter by itself when it runs
        // as the owner.
        let root = match self.inside {
            Some(_) => Some(PidFd::open(self.root).map_err(|e| format!("process {}: {e}", self.root))?),
            None => None,
        };
        let job = DumpJob {
            pid: self.inside.unwrap_or(self.root),
            images: &self.place.images,
            pages: self.stream.as_fd(),
            owner: Some(Owner { uid: self.stage.uid, gid: self.stage.gid }),
            shell_job: self.stage.shell_job,
            place: Where {
                cgroup_procs: self.place.criu.procs_files(),
                join: root.as_ref().map(|fd| (fd.as_fd(), TREE_NAMESPACES | nix::libc::CLONE_NEWTIME)),
            },
        };
        let hold = self.hold.clone();
        let mut freeze = || hold.set_frozen(true).map_err(|e| e.to_string());
        match self.criu.dump(&job, &mut freeze) {
            // The owner cannot start CRIU (its folder is closed to others, say): dump as whoever the agent is.
            Err(CriuError::Start(_)) => {
                self.as_owner = false;
                self.criu.dump(&DumpJob { owner: None, ..job }, &mut freeze).map_err(|e| e.to_string())?;
            }
            other => other.map_err(|e| e.to_string())?,
        }
        send_images(&self.place.images, &mut self.stream).map(|_| ()).map_err(|e| e.to_string())
    }
}

/// Memory that CRIU wrote, from its statistics.
fn written_bytes(images: &Path) -> u64 {
    grid_os::criu::pages_written(images).unwrap_or(0) * 4096
}
