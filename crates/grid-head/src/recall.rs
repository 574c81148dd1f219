//! The way home of what is away, and the way on to another lender. Each is checked before anything is frozen.

use crate::head::{Head, fault, refused};
use grid_core::sharing::LeaseView;
use grid_engine::Agents;
use grid_types::api::{ApiError, OffloadView};
use grid_types::event::{Actor, Event, OffloadPhase, OffloadRecord, OnwardTo};
use grid_types::exit::FaultClass;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::{MoveOrder, Passage, Request};
use grid_types::{AttemptId, Millis, NodeName, OffloadId, ProcId};

const RUNS_ON: &str = "it stays where it is and runs on";

/// Where a recalled process goes.
#[derive(Clone, Debug)]
pub(crate) enum To {
    Home,
    /// To another lender, which has this lease of the head's.
    Lease(LeaseView),
}

impl Head {
    /// Where `--to` leads. `from` is where the process is.
    pub(crate) fn recall_to(&self, id: &OffloadId, to: Option<&str>) -> Result<To, ApiError> {
        let record = self.offload_record(id)?;
        let Some(node) = to.map(|name| self.node_named(name)).transpose()?.filter(|node| *node != record.source) else {
            return Ok(To::Home);
        };
        if node == record.destination {
            let what = format!("{} {} is on {node} already. Nothing was changed.", record.process, record.title);
            return Err(fault(FaultClass::Conflict, what));
        }
        self.lease_for(&record, &node, RUNS_ON).map(To::Lease)
    }

    /// The fullest lease on that node in which it fits whole.
    pub(crate) fn lease_for(&self, record: &OffloadRecord, node: &NodeName, so: &str) -> Result<LeaseView, ApiError> {
        self.not_cordoned(node, so)?;
        let leases = self.leases_on(node);
        let fitting = leases.iter().filter(|lease| record.needed.fits_in(&lease.free)).min_by_key(|l| l.free.memory);
        fitting.cloned().ok_or_else(|| no_room(record, node, &leases, so))
    }

    fn leases_on(&self, node: &NodeName) -> Vec<LeaseView> {
        let leases = self.inner.borrow().state.leases_of(&self.head_name());
        leases.into_iter().filter(|lease| lease.node == *node).collect()
    }

    /// It is away, may be frozen, and its number there is known. (The word about that can still be on its way, or lost: it
    /// is asked for.) Nothing is awaited behind the checks, so what they saw still holds for the caller.
    pub(crate) async fn away_as(&self, id: &OffloadId) -> Result<(OffloadRecord, ProcId), ApiError> {
        let unheard = !self.inner.borrow().there.contains_key(id);
        if let (true, Ok(record)) = (unheard, self.offload_record(id)) {
            self.reconcile(&record.destination).await;
        }
        self.not_stopped("it stays where it is and runs on")?;
        let record = self.offload_record(id)?;
        if record.phase != OffloadPhase::Away {
            let what = format!("offload {id} is {}, not away. Nothing was changed.", record.phase);
            let parked = (record.phase == OffloadPhase::Parked).then(|| format!("grid offload unpark {id}"));
            return Err(ApiError { hint: parked, ..fault(FaultClass::Conflict, what) });
        }
        let process = self.inner.borrow().there.get(id).cloned();
        let silent = || format!("{} has not said yet which process {id} is there", record.destination);
        let process = process.ok_or_else(|| fault(FaultClass::Unreachable, silent()))?;
        Ok((record, process))
    }

    /// Everything that can be said about the way without freezing anything.
    pub(crate) async fn way(&self, id: &OffloadId, to: &To) -> Result<(OffloadRecord, ProcId), ApiError> {
        let (record, process) = self.away_as(id).await?;
        match to {
            To::Home => {
                self.fits_at_home(&record, "it stays where it is")?;
                ports_are_free(&record)?;
            }
            To::Lease(lease) => self.can_reach(&lease.node)?,
        }
        Ok((record, process))
    }

    /// Home holds its memory.
    pub(crate) fn fits_at_home(&self, record: &OffloadRecord, so: &str) -> Result<(), ApiError> {
        let (_, free) = self.head_room();
        let Some(free) = free.filter(|f| f.memory < record.needed.memory) else { return Ok(()) };
        let detail = format!("it needs {}, {} has {} free", record.needed.memory, record.source, free.memory);
        Err(refused(&Reason::new(ReasonCode::NoFit, detail), so))
    }

    /// As it would be under way.
    pub(crate) fn would_go(&self, record: OffloadRecord, to: &To) -> OffloadView {
        let onward = match to {
            To::Home => None,
            To::Lease(lease) => Some(OnwardTo { node: lease.node.clone(), boost: lease.boost.clone() }),
        };
        let pid_there = self.inner.borrow().there.get(&record.id).map(|p| p.pid);
        OffloadView { record: OffloadRecord { onward, ..record }, pid_there, since: Millis(0), frozen: false }
    }

    pub(crate) fn can_reach(&self, node: &NodeName) -> Result<(), ApiError> {
        self.can_reach_for(node, RUNS_ON)
    }

    pub(crate) fn can_reach_for(&self, node: &NodeName, so: &str) -> Result<(), ApiError> {
        if self.inner.borrow().links.get(node).copied().unwrap_or(false) {
            return Ok(());
        }
        let reason = Reason::new(ReasonCode::Silent, format!("{node} has no link to the head"));
        Err(refused(&reason, so))
    }

    /// Begins the way home, or on; `close_tcp`: its connections are closed, whatever the policy.
    pub(crate) async fn recall(&self, id: &OffloadId, to: &To, actor: Actor, close_tcp: bool) -> Result<(), ApiError> {
        match to {
            To::Home => self.begin_home(id, actor, close_tcp).await,
            To::Lease(lease) => self.begin_onward(id, lease, actor, close_tcp).await,
        }
    }

    async fn begin_home(&self, id: &OffloadId, actor: Actor, close_tcp: bool) -> Result<(), ApiError> {
        let (record, process) = self.way(id, &To::Home).await?;
        let attempt = AttemptId::new(format!("{id}.{}", record.attempts + 1));
        self.record(&actor, Event::RecallStarted { offload: id.clone(), attempt: attempt.clone() })?;
        let order = self.order(id, &attempt, process, &record.source, None, record.needed.memory);
        let order = MoveOrder { detector: self.detector(close_tcp), ..order };
        if let Err(reason) = self.send_order(&record.destination, order).await {
            self.note_by(&actor, Event::RecallFailed { offload: id.clone(), attempt, reason: reason.clone() });
            // Whether it still runs there is what that node knows.
            self.reconcile(&record.destination).await;
            return Err(refused(&reason, "it was not recalled; it runs on where it is"));
        }
        Ok(())
    }

    /// The hub is given leave to pass the memory on, then the lender gets the order.
    async fn begin_onward(
        &self,
        id: &OffloadId,
        lease: &LeaseView,
        actor: Actor,
        close_tcp: bool,
    ) -> Result<(), ApiError> {
        let (record, process) = self.way(id, &To::Lease(lease.clone())).await?;
        let attempt = AttemptId::new(format!("{id}.{}", record.attempts + 1));
        let (offload, boost, destination) = (id.clone(), lease.boost.clone(), lease.node.clone());
        self.record(&actor, Event::OnwardStarted { offload, attempt: attempt.clone(), destination, boost })?;
        let passage = Passage { offload: id.clone(), from: record.destination.clone(), to: lease.node.clone() };
        let order = self.order(id, &attempt, process, &lease.node, Some(lease.lease.clone()), record.needed.memory);
        let order = MoveOrder { detector: self.detector(close_tcp), ..order };
        self.inner.borrow_mut().ordering.insert(attempt.clone());
        let leave = Request::PassOn { attempt: attempt.clone(), passage };
        let sent = match self.hub().ask(&self.head_name(), leave).await {
            Ok(_) => self.send_order(&record.destination, order).await,
            Err(reason) => Err(reason),
        };
        self.inner.borrow_mut().ordering.remove(&attempt);
        if let Err(reason) = sent {
            self.note_by(&actor, Event::OnwardFailed { offload: id.clone(), attempt, reason: reason.clone() });
            self.reconcile(&record.destination).await;
            return Err(refused(&reason, "it was not moved on; it runs on where it is"));
        }
        Ok(())
    }
}

/// It could not listen at home where somebody else does.
fn ports_are_free(record: &OffloadRecord) -> Result<(), ApiError> {
    let taken = record.listens.iter().find_map(|l| l.refused.as_ref().map(|why| (l.at, why)));
    let Some((at, why)) = taken else { return Ok(()) };
    let reason = Reason::new(ReasonCode::Sock, format!("it listens at {at}, which {} refuses: {why}", record.source));
    let hint = format!("end what listens at {at} on {}; who does: ss -ltnp", record.source);
    Err(ApiError { hint: Some(hint), ..refused(&reason, RUNS_ON) })
}

fn no_room(record: &OffloadRecord, node: &NodeName, leases: &[LeaseView], so: &str) -> ApiError {
    let needs = record.needed;
    let have = leases.iter().map(|l| format!("{} has {} free", l.boost, l.free)).collect::<Vec<_>>().join(", ");
    let have = if leases.is_empty() { format!("there is no active lease on {node}") } else { have };
    let reason = Reason::new(ReasonCode::NoFit, format!("it needs {needs}; {have}"));
    let gib = needs.memory.0.div_ceil(1 << 30).max(1);
    let cpu = needs.cpu.0.div_ceil(1000).max(1);
    let hint = format!("grid boost request head --cpu {cpu} --memory {gib}GiB --from {node}");
    ApiError { hint: Some(hint), ..refused(&reason, so) }
}
