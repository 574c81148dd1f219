//! What becomes of attempts: reports, recovery after a restart, peers that come and go.

use super::hold::{home_copy, pending_signals};
use super::{Outgoing, Record, not_its_attempt};
use crate::AgentError;
use crate::agent::Agent;
use crate::destination::wait_for_criu;
use crate::ledger::Row;
use crate::link::tracing_line;
use crate::probe::forget;
use crate::tree::start_ticks;
use grid_core::handover::{
    DestinationInput, GoneProof, HomeCopy, Source, SourceInput, SourceReport, answer_unknown_at_source,
};
use grid_os::cgroup::Controller;
use grid_os::criu::CriuError;
use grid_types::event::Resolution;
use grid_types::handover::{SourceState, ToSource};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::streams::ShadowTerms;
use grid_types::wire::{AttemptHolding, MoveReport, Notice, Stage};
use grid_types::{AttemptId, NodeName, OffloadId};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// So many of the newest attempts are told to a daemon that comes back: those that can still be open there.
const HOLDINGS: u32 = 500;

/// A recorded source's side.
pub(crate) type SourceRow = Row<SourceState, Record>;

impl Agent {
    /// Writes down what became of an attempt, and returns what the head is to be told.
    pub(super) fn report_source(&mut self, attempt: &AttemptId, report: SourceReport) -> Option<Notice> {
        let outgoing = self.sources.get_mut(attempt)?;
        let failed = |code, detail: String| MoveReport::Failed { reason: Reason::new(code, detail) };
        let report = match report {
            SourceReport::Moved => MoveReport::Moved { figures: outgoing.record.figures.clone() },
            SourceReport::Failed { detail } => match outgoing.undone_by.clone() {
                Some(reason) => MoveReport::Failed { reason },
                None => {
                    let code = code_of(&detail);
                    // Said by the code already.
                    let bare = detail.strip_prefix(code.as_str()).map_or(detail.as_str(), str::trim_start);
                    failed(code, bare.to_owned())
                }
            },
            SourceReport::InDoubt { detail } => MoveReport::InDoubt { detail },
            SourceReport::DiedFrozen { signal } => MoveReport::DiedFrozen { signal },
            SourceReport::Lost { detail } => MoveReport::InDoubt { detail },
            SourceReport::Unanswered { detail } | SourceReport::ResolveRefused { detail } => {
                tracing_line(&format!("attempt {attempt}: {detail}"));
                return None;
            }
            SourceReport::Resolved(Resolution::AcceptRepeat) => {
                failed(ReasonCode::Doubt, "resolved: the copy at home runs on; work may be repeated".into())
            }
            SourceReport::Resolved(Resolution::Drop)
            | SourceReport::CancelTooLate
            | SourceReport::UnknownAttempt(_) => return None,
        };
        outgoing.record.report = Some(report.clone());
        if let Err(e) = self.ledger.put_source(attempt, outgoing.machine.state, &outgoing.record) {
            tracing_line(&e.to_string());
        }
        let offload = outgoing.record.order.offload.clone();
        Some(Notice::Report { attempt: attempt.clone(), offload, report })
    }

    /// Something of this name and owner left from here to that node, and its copy here is gone.
    pub(crate) fn went_to(&self, node: &NodeName, stage: &Stage) -> bool {
        let rows = self.ledger.sources::<Record>().unwrap_or_default();
        rows.iter().filter(|row| row.state == SourceState::Released).map(|row| &row.detail).any(|left| {
            let same = |a: &Stage, b: &Stage| (&a.offload, a.uid, a.gid) == (&b.offload, b.uid, b.gid);
            let there = left.order.destination == *node || self.may_be_with(&stage.offload, node);
            there && same(&left.stage, stage)
        })
    }

    /// What stays here for a tree that this attempt took to that node.
    pub(crate) fn source_terms(&self, attempt: &AttemptId, to: &NodeName) -> Option<ShadowTerms> {
        let record = match self.sources.get(attempt) {
            Some(outgoing) => outgoing.record.clone(),
            None => self.ledger.source::<Record>(attempt).ok()??.detail,
        };
        record.stage.shadow.filter(|_| record.order.destination == *to)
    }

    /// What this attempt takes, or took, to that node: where it is under way, and where it is over only if `over`.
    pub(crate) fn source_stage(&self, attempt: &AttemptId, to: &NodeName, over: bool) -> Option<Stage> {
        let record = match self.sources.get(attempt) {
            Some(outgoing) => outgoing.record.clone(),
            None if over => self.ledger.source::<Record>(attempt).ok()??.detail,
            None => return None,
        };
        Some(record.stage).filter(|_| record.order.destination == *to)
    }

    /// What left from here under this name.
    pub(crate) fn stage_that_left(&self, offload: &OffloadId) -> Option<Stage> {
        let rows = self.ledger.sources::<Record>().ok()?;
        let left = |row: &&SourceRow| row.state == SourceState::Released && row.detail.order.offload == *offload;
        rows.iter().find(left).map(|row| row.detail.stage.clone())
    }

    /// Whose attempt it is, where it left, or leaves, from here.
    pub(crate) fn source_offload(&self, attempt: &AttemptId) -> Option<OffloadId> {
        let kept = || Some(self.ledger.source::<Record>(attempt).ok()??.detail.order.offload);
        self.sources.get(attempt).map(|s| s.record.order.offload.clone()).or_else(kept)
    }

    pub(crate) fn source_rows(&self) -> Result<Vec<SourceRow>, AgentError> {
        Ok(self.ledger.sources()?)
    }

    pub(crate) fn recover_sources(&mut self, rows: Vec<SourceRow>) {
        for row in rows {
            let hold = self.hierarchies.group(&row.detail.hold, &[Controller::Freezer]);
            if is_over(&row) && !(row.detail.came_by.is_none() && hold.exists()) {
                continue;
            }
            wait_for_criu(&self.tree_place(&row.attempt, None));
            let home = match &row.detail.order.parked {
                Some(parked) => self.parked_home(parked),
                None => home_copy(&row.detail, &hold, &self.boot_id),
            };
            let mut signals = row.detail.signals.clone();
            if home == HomeCopy::Frozen {
                signals.extend(row.detail.members.iter().flat_map(|m| pending_signals(m.pid)));
                signals.sort_unstable();
                signals.dedup();
            }
            row.detail.stage.probes.iter().for_each(|probe| forget(Path::new(&probe.path)));
            let (machine, actions) = Source::recover(row.attempt.clone(), row.state, home, signals);
            self.sources.insert(row.attempt.clone(), Outgoing::new(machine, row.detail, hold));
            self.do_source(&row.attempt, actions);
            self.forget_if_over(&row.attempt);
            // A parked copy may have been restored on this very node: what has that name is the tree's.
            if !self.incoming.contains_key(&row.attempt) {
                let _ = self.tree_place(&row.attempt, None).sweep();
            }
        }
    }

    /// An attempt that is over is in the ledger alone; its machine is made again for as long as it takes to answer. (A
    /// destination that never heard of the abort holds a staged copy until it does.)
    pub(super) fn answer_from_source_ledger(&mut self, attempt: &AttemptId, from: &NodeName, message: ToSource) {
        let row = match self.ledger.source::<Record>(attempt) {
            Ok(Some(row)) => row,
            Ok(None) => {
                return answer_unknown_at_source(&message).iter().for_each(|a| tracing_line(&format!("{a:?}")));
            }
            // What cannot be read must not be answered as if it were unknown.
            Err(e) => return tracing_line(&e.to_string()),
        };
        if row.detail.order.destination != *from {
            return not_its_attempt(attempt, from);
        }
        let hold = self.hierarchies.group(&row.detail.hold, &[Controller::Freezer]);
        let signals = row.detail.signals.clone();
        let (machine, _) = Source::recover(attempt.clone(), row.state, HomeCopy::Gone, signals);
        self.sources.insert(attempt.clone(), Outgoing::new(machine, row.detail, hold));
        self.step_source(attempt, SourceInput::Received(message));
        self.sources.remove(attempt);
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
        let Some(root) = outgoing.record.members.first() else { return };
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
        self.ask_for_trees(node);
        for attempt in self.destinations_from(node) {
            let own = self.incoming.get(&attempt).is_some_and(|i| i.comes_from(node));
            let input = if rebooted && own { DestinationInput::SourceRebooted } else { DestinationInput::LinkUp };
            self.step_destination(&attempt, input);
        }
    }

    pub(crate) fn peer_lost(&mut self, node: &NodeName) {
        for attempt in self.sources_to(node) {
            self.step_source(&attempt, SourceInput::LinkLost);
        }
        for attempt in self.destinations_from(node) {
            self.step_destination(&attempt, DestinationInput::LinkLost);
        }
    }

    /// Attempts to this node. A spoke's only link is to its hub, through which every node is reached.
    fn sources_to(&self, node: &NodeName) -> Vec<AttemptId> {
        let to = |s: &Outgoing| s.record.order.destination == *node || !self.is_hub();
        self.sources.iter().filter(|(_, s)| to(s)).map(|(a, _)| a.clone()).collect()
    }

    pub(crate) fn attempt_holdings(&self) -> Vec<AttemptHolding> {
        let Ok(rows) = self.ledger.newest_sources::<Record>(HOLDINGS) else { return Vec::new() };
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

/// Attempts that brought a tree here which a later attempt, not over yet, holds on its way on.
pub(crate) fn leaving(rows: &[SourceRow]) -> BTreeSet<AttemptId> {
    rows.iter().filter(|row| !is_over(row)).filter_map(|row| row.detail.came_by.clone()).collect()
}

/// Nothing is left to be done for it, and what became of it is written down.
fn is_over(row: &SourceRow) -> bool {
    matches!(row.state, SourceState::Released | SourceState::Aborted) && row.detail.report.is_some()
}

/// The reason code of a failure that came back as text from the other end, or from CRIU.
fn code_of(detail: &str) -> ReasonCode {
    let known = detail.split_once(' ').map_or(detail, |(first, _)| first);
    if let Some(code) = ReasonCode::ALL.iter().find(|c| c.as_str() == known) {
        return *code;
    }
    match detail {
        d if d.starts_with(crate::gate::SIGN) => ReasonCode::Gate,
        // It claimed the filter of `grid run`, and CRIU saw another one.
        d if d == CriuError::ForeignFilter.to_string() => ReasonCode::Seccomp,
        d if d.contains("link") || d.contains("restarted") => ReasonCode::Link,
        d if d.contains("longer than allowed") => ReasonCode::Frozen10,
        _ => ReasonCode::Criu,
    }
}
