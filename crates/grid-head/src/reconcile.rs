//! What agents tell, and what they hold when the daemon comes (back): both become the same events.

use crate::boosts::lease_terms;
use crate::head::{Head, Heard, log};
use grid_engine::{Agents, Engine};
use grid_os::clock::boot_ms;
use grid_types::boost::{Boost, BoostState, EndReason};
use grid_types::event::{Actor, Direction, Event, MoveFigures, OffloadPhase, OffloadRecord};
use grid_types::handover::DestinationState;
use grid_types::reason::ReasonCode;
use grid_types::wire::{Answer, AttemptHolding, LeaseHolding, MoveReport, Notice, Request, TreeHolding, older};
use grid_types::{AttemptId, BoostId, NodeName, OffloadId};
use std::collections::BTreeSet;
use std::time::Duration;

/// What is under way for so long without a word is asked about.
const ASK_AFTER: Duration = Duration::from_secs(3);
/// Moves of less memory say nothing about the rate of a link.
const RATE_FROM: u64 = 32 << 20;

/// The node whose agent owns the attempt that is under way: where the tree lives, or is parked.
fn owner(o: &OffloadRecord) -> Option<&NodeName> {
    match o.phase {
        OffloadPhase::Moving => Some(&o.source),
        OffloadPhase::Parking if o.boost.is_none() => Some(&o.source),
        phase if phase.is_under_way() => Some(&o.destination),
        _ => None,
    }
}

/// A node that this offload has come to, or is to come to.
fn has_part(o: &OffloadRecord, node: &NodeName) -> bool {
    let onward = o.onward.as_ref().map(|onward| &onward.node);
    let parked = o.parked.as_ref().map(|parked| &parked.node);
    [Some(&o.source), Some(&o.destination), onward, parked].contains(&Some(node))
}

impl Head {
    pub(crate) fn hub_found(&self) {
        let (head, own) = (self.clone(), self.head_name());
        self.inner.borrow_mut().links.insert(own.clone(), true);
        tokio::task::spawn_local(async move { head.reconcile(&own).await });
    }

    pub(crate) fn hub_lost(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.links.clear();
        inner.older.clear();
    }

    /// Nobody speaks of what is another node's: of an attempt under way its owner, of an offload a node that it came to, of
    /// a lease its lender, of links and ports the head's own agent.
    fn may_tell(&self, from: &NodeName, notice: &Notice) -> bool {
        let part = |id: &OffloadId| self.offload_record(id).is_ok_and(|o| has_part(&o, from));
        match notice {
            Notice::Facts { .. } => true,
            Notice::Report { offload, .. } => {
                let of = |o: &OffloadRecord| owner(o).map_or_else(|| has_part(o, from), |owner| owner == from);
                self.offload_record(offload).is_ok_and(|o| of(&o))
            }
            Notice::Ended { offload, .. } | Notice::Arrived { offload, .. } => part(offload),
            Notice::LeaseEnded { lease } => {
                self.boost(&BoostId::new(lease.as_str())).is_ok_and(|boost| boost.lender == *from)
            }
            Notice::Listens { .. } | Notice::Link { .. } => *from == self.head_name(),
        }
    }

    /// Takes one notice of an agent.
    pub(crate) fn heed(&self, from: &NodeName, notice: Notice) {
        if !self.may_tell(from, &notice) {
            return log(&format!("{from} tells of what is not its own; not heeded"));
        }
        match notice {
            Notice::Facts { facts, leases } => {
                let heard = Heard { at: boot_ms(), facts: *facts, leases };
                let (leases, lending) = (heard.leases.clone(), heard.facts.lending.clone());
                self.inner.borrow_mut().heard.insert(from.clone(), heard);
                self.node_seen(from);
                lending.iter().for_each(|lending| self.heed_lending(from, lending));
                self.heed_owner(from, &leases);
            }
            Notice::Report { attempt, offload, report } => self.reported(&attempt, &offload, report),
            Notice::Ended { offload, status, .. } => {
                // Told when the root ends, and again when nothing is left of its tree.
                if self.offload_record(&offload).is_ok_and(|known| known.phase != OffloadPhase::Ended) {
                    self.note(Event::ProcessEnded { offload, status });
                }
            }
            Notice::Arrived { offload, process, .. } => {
                self.inner.borrow_mut().there.insert(offload, process);
            }
            Notice::Listens { offload, all } => {
                let away = |known: &OffloadRecord| known.phase.is_guest() && known.listens != all;
                if self.offload_record(&offload).is_ok_and(|known| away(&known)) {
                    self.note(Event::OffloadListens { offload, all });
                }
            }
            Notice::LeaseEnded { lease } => self.lease_ended(&BoostId::new(lease.as_str())),
            Notice::Link { node, up, protocol } => {
                let mut inner = self.inner.borrow_mut();
                inner.links.insert(node.clone(), up);
                inner.older.remove(&node);
                protocol.and_then(older).and_then(|reason| inner.older.insert(node.clone(), reason));
                drop(inner);
                if up {
                    let head = self.clone();
                    tokio::task::spawn_local(async move { head.reconcile(&node).await });
                } else {
                    self.node_silent(&node);
                }
            }
        }
    }

    /// The end of an attempt. Which event it is hangs on the way that the attempt went.
    fn reported(&self, attempt: &AttemptId, offload: &OffloadId, report: MoveReport) {
        let Ok(record) = self.offload_record(offload) else { return };
        if record.attempt != *attempt || self.inner.borrow().resolving.contains(offload) {
            return;
        }
        let (offload, attempt) = (offload.clone(), attempt.clone());
        let by = self.behind(&offload, &attempt, &report);
        match report {
            MoveReport::Moved { figures } => {
                self.measure(&figures);
                if record.direction == Direction::Park {
                    self.inner.borrow_mut().there.remove(&offload);
                    self.note_by(&by, Event::Parked { offload, attempt, figures });
                } else if record.direction == Direction::Unpark {
                    let process = match record.onward {
                        Some(_) => None,
                        None => self.inner.borrow_mut().there.remove(&offload),
                    };
                    self.note_by(&by, Event::Unparked { offload, attempt, process, figures });
                } else if record.direction == Direction::Onward {
                    self.note_by(&by, Event::OnwardMoved { offload, attempt, figures });
                } else if record.direction == Direction::Back {
                    let process = self.inner.borrow_mut().there.remove(&offload);
                    let pid = process.as_ref().map_or(0, |p| p.pid);
                    self.note_by(&by, Event::Recalled { offload, attempt, pid, process, figures });
                } else {
                    self.note_by(&by, Event::OffloadMoved { offload, attempt, figures });
                }
            }
            MoveReport::Failed { reason } => {
                let failed = match record.direction {
                    Direction::Out => Event::OffloadFailed { offload, attempt, reason },
                    Direction::Back => Event::RecallFailed { offload, attempt, reason },
                    Direction::Onward => Event::OnwardFailed { offload, attempt, reason },
                    Direction::Park => Event::ParkFailed { offload, attempt, reason },
                    Direction::Unpark => Event::UnparkFailed { offload, attempt, reason },
                };
                self.note_by(&by, failed);
            }
            MoveReport::DiedFrozen { signal } => {
                let status = signal.map(grid_types::event::ExitStatus::Signal);
                self.note(Event::ProcessEnded { offload, status });
            }
            MoveReport::InDoubt { detail } => self.note(Event::OffloadInDoubt { offload, attempt, detail }),
        }
    }

    /// A word of an agent's can get lost. What is under way since the last look is asked about; what is away, now and
    /// then.
    pub(crate) async fn keep_asking(self) {
        let mut before = BTreeSet::new();
        for look in 1u32.. {
            tokio::time::sleep(ASK_AFTER).await;
            let now = self.under_way();
            let mut nodes: BTreeSet<NodeName> = now.intersection(&before).map(|(_, node)| node.clone()).collect();
            if look.is_multiple_of(10) {
                nodes.extend(self.hosts());
            }
            for node in &nodes {
                self.reconcile(node).await;
            }
            before = now;
        }
    }

    /// Nodes where something is away.
    fn hosts(&self) -> BTreeSet<NodeName> {
        let inner = self.inner.borrow();
        let away =
            inner.state.offloads.values().filter(|o| matches!(o.phase, OffloadPhase::Away | OffloadPhase::Parked));
        away.map(|o| o.destination.clone()).collect()
    }

    /// Attempts whose outcome is not known yet, and who knows it.
    fn under_way(&self) -> BTreeSet<(AttemptId, NodeName)> {
        let from = |o: &OffloadRecord| owner(o).map(|node| (o.attempt.clone(), node.clone()));
        self.inner.borrow().state.offloads.values().filter_map(from).collect()
    }

    /// Who stands behind what an order came to: whoever gave it, or undid it.
    fn behind(&self, offload: &OffloadId, attempt: &AttemptId, report: &MoveReport) -> Actor {
        let cancelled = self.inner.borrow_mut().cancelled.remove(attempt);
        let undone = match report {
            MoveReport::Failed { reason } if reason.code == ReasonCode::Stop => self.stopper(),
            MoveReport::Failed { reason } if reason.code == ReasonCode::Cancelled => cancelled,
            _ => None,
        };
        undone.unwrap_or_else(|| self.inner.borrow().state.cause(offload))
    }

    fn measure(&self, figures: &MoveFigures) {
        let (Some(bytes), Some(downtime)) = (figures.bytes, figures.downtime) else { return };
        if bytes.0 >= RATE_FROM && downtime.0 > 0 {
            self.inner.borrow_mut().rate = Some(bytes.0 * 1000 / downtime.0);
        }
    }

    /// The lender's own timer ended a lease that the head had not ended.
    fn lease_ended(&self, id: &BoostId) {
        let Ok(boost) = self.boost(id) else { return };
        if matches!(boost.state, BoostState::Active | BoostState::Overdue { .. }) {
            self.note(Event::BoostEnding { boost: id.clone(), why: EndReason::Expired });
        }
        if let Ok(Boost { state: BoostState::Ending { why }, .. }) = self.boost(id) {
            self.note(Event::BoostEnded { boost: id.clone(), why });
        }
    }

    /// Compares the journal with what an agent holds, and records what happened meanwhile.
    pub(crate) async fn reconcile(&self, node: &NodeName) {
        let holdings = match self.hub().ask(node, Request::Holdings).await {
            Ok(Answer::Holdings { leases, trees, attempts }) => (leases, trees, attempts),
            Ok(_) => return,
            Err(reason) => return log(&format!("{node} did not say what it holds: {reason}")),
        };
        self.node_seen(node);
        self.reconcile_attempts(node, holdings.2);
        self.reconcile_trees(node, holdings.1);
        self.reconcile_leases(node, &holdings.0).await;
    }

    fn reconcile_attempts(&self, node: &NodeName, attempts: Vec<AttemptHolding>) {
        let open = |held: &&AttemptHolding| {
            let phase = self.offload_record(&held.offload).map(|o| o.phase);
            phase.is_ok_and(|phase| phase.is_under_way() || phase == OffloadPhase::InDoubt)
        };
        for held in attempts.iter().filter(open) {
            if let Some(report) = held.report.clone() {
                self.reported(&held.attempt, &held.offload, report);
            }
        }
        // An order that never reached its agent: the journal says moving, the agent knows nothing of it.
        let orphans: Vec<_> = {
            let inner = self.inner.borrow();
            let from = |o: &OffloadRecord| owner(o) == Some(node);
            let unknown = |o: &&OffloadRecord| {
                !attempts.iter().any(|a| a.attempt == o.attempt) && !inner.ordering.contains(&o.attempt)
            };
            inner
                .state
                .offloads
                .values()
                .filter(|o| from(o))
                .filter(unknown)
                .map(|o| (o.id.clone(), o.attempt.clone()))
                .collect()
        };
        for (offload, attempt) in orphans {
            let reason = grid_types::Reason::new(grid_types::ReasonCode::Link, "the order never reached the agent");
            self.reported(&attempt, &offload, MoveReport::Failed { reason });
        }
    }

    fn reconcile_trees(&self, node: &NodeName, trees: Vec<TreeHolding>) {
        for tree in trees {
            let Ok(record) = self.offload_record(&tree.offload) else { continue };
            if let Some(process) = tree.process {
                self.inner.borrow_mut().there.insert(tree.offload.clone(), process);
            }
            let settled = matches!(record.phase, OffloadPhase::Ended | OffloadPhase::Failed | OffloadPhase::Lost);
            // The root's end counts; others of its tree may live on until the lease ends. One that the source let go,
            // and that is lost there, is over too.
            let lost = tree.state == DestinationState::Lost && record.phase == OffloadPhase::Away;
            let over = tree.state == DestinationState::Ended || tree.exit.is_some() || lost;
            // By its node and not by its attempt: a recall that failed has a later number than the tree that it left.
            let lives_here = match record.phase {
                OffloadPhase::Home => record.source == *node,
                _ => record.destination == *node,
            };
            if over && lives_here && !settled {
                self.note(Event::ProcessEnded { offload: tree.offload, status: tree.exit });
            }
        }
    }

    async fn reconcile_leases(&self, node: &NodeName, held: &[LeaseHolding]) {
        let of_node = |b: &&Boost| b.lender == *node;
        let live: Vec<Boost> = self.inner.borrow().state.live_boosts().filter(of_node).cloned().collect();
        for boost in &live {
            let is_held = held.iter().any(|l| l.lease == boost.lease);
            match (&boost.state, is_held) {
                (BoostState::Granting, true) => {
                    let enforced = format!("found held by {node} after a restart");
                    self.note(Event::BoostActivated { boost: boost.id.clone(), enforced });
                }
                (BoostState::Granting, false) => {
                    // The request that asked for it may still be waiting for the lender's answer.
                    let age = grid_os::clock::unix_ms().0.saturating_sub(boost.granted_at.0);
                    if age > 20_000 || boost.boot_id != self.inner.borrow().boot_id || self.is_new() {
                        let detail = "the daemon was restarted before the lender held it".to_owned();
                        self.note(Event::BoostFailed { boost: boost.id.clone(), detail });
                    }
                }
                (BoostState::Active, false) => self.hold_again(node, boost).await,
                (BoostState::Ending { .. }, _) => {
                    let (head, id) = (self.clone(), boost.id.clone());
                    tokio::task::spawn_local(async move { head.end_boost(&id).await });
                }
                _ => {}
            }
        }
        for lease in held.iter().filter(|l| !live.iter().any(|b| b.lease == l.lease)) {
            if let Err(reason) = self.engine.stop(node, &lease.lease, false).await {
                log(&format!("{node} holds {} that the journal ended: {reason}", lease.lease));
            }
        }
        self.deadlines.notify_one();
    }

    /// The lender rebooted and lost the lease: what lived in it is gone with it; the capacity is held again.
    async fn hold_again(&self, node: &NodeName, boost: &Boost) {
        let lost: Vec<OffloadId> = self
            .inner
            .borrow()
            .state
            .guests(&boost.id)
            .iter()
            .filter(|o| o.phase == OffloadPhase::Away)
            .map(|o| o.id.clone())
            .collect();
        for offload in lost {
            self.note(Event::ProcessEnded { offload, status: None });
        }
        let left = self.clock().left(boost);
        if let Err(reason) = self.engine.start(node, lease_terms(boost, left)).await {
            log(&format!("{node} could not hold {} again: {reason}", boost.id));
        }
    }

    /// The daemon has just started: no request can be waiting.
    fn is_new(&self) -> bool {
        self.inner.borrow().heard.is_empty()
    }
}
