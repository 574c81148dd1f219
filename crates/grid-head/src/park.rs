//! Onto a node's disk, and back from there. Each is checked before anything is frozen or read.

use crate::head::{Head, fault, refused};
use crate::privacy::others;
use crate::recall::To;
use grid_engine::Agents;
use grid_types::api::{ApiError, ParkAsk, ParkReply};
use grid_types::event::{Actor, Event, OffloadPhase, OffloadRecord, OnwardTo, ParkedAt};
use grid_types::exit::FaultClass;
use grid_types::plan::Verdict;
use grid_types::policy::Role;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::{MoveOrder, Passage, Request};
use grid_types::{AttemptId, Millis, NodeName, OffloadId};

/// Whoever parks a process means it to stand still: it may be frozen for as long as a disk takes.
const WRITTEN_WITHIN: Millis = Millis(600_000);
const RUNS_ON: &str = "it was not parked; it runs on where it is";
const KEPT: &str = "it was not unparked; its parked copy is kept";

/// Who is to be parked.
enum Who {
    /// Runs at home, and no offload of it is open.
    AtHome(Box<Verdict>),
    /// Away.
    Away(OffloadId),
}

impl Head {
    /// Parks a process that a person named by its number or by its offload.
    pub(crate) async fn park(&self, ask: ParkAsk, uid: u32, actor: Actor) -> Result<ParkReply, ApiError> {
        self.not_stopped(RUNS_ON)?;
        let who = self.who(&ask.what, uid).await?;
        let away = match &who {
            Who::Away(id) => Some(self.away_as(id).await?),
            Who::AtHome(_) => None,
        };
        let lender = away.as_ref().map(|(record, _)| record.destination.clone());
        let node = self.store(ask.on.as_deref(), lender.as_ref())?;
        let (process, title, used) = match (&who, &away) {
            (Who::AtHome(v), _) => (self.known_as(&v.id), v.title.clone(), v.used),
            (_, Some((r, _))) => (r.process.clone(), r.title.clone(), r.needed),
            (Who::Away(id), None) => return Err(fault(FaultClass::NotFound, format!("no offload {id}"))),
        };
        let from = lender.unwrap_or_else(|| self.head_name());
        let reply = ParkReply { process, title, memory: used.memory, from, node, offload: None };
        if ask.dry_run {
            return Ok(reply);
        }
        let id = match who {
            Who::AtHome(verdict) => self.park_from_home(&verdict, &reply.node, actor).await?,
            Who::Away(id) => {
                self.park_from_lender(&id, &reply.node, actor).await?;
                id
            }
        };
        Ok(ParkReply { offload: Some(self.offload_view(&id)?), ..reply })
    }

    async fn who(&self, what: &str, uid: u32) -> Result<Who, ApiError> {
        let reader = crate::privacy::Reader::of(uid);
        let known = self.offload_id(what, reader).and_then(|id| self.offload_record(&id));
        let number = what.parse::<i32>().ok();
        let pid = match (known, number) {
            (Ok(record), _) if record.phase.is_guest() => {
                return if reader.sees(record.uid) { Ok(Who::Away(record.id)) } else { Err(others(what)) };
            }
            (_, Some(pid)) => pid,
            (Ok(record), None) if record.phase == OffloadPhase::Home => record.process.pid,
            (Ok(record), None) => {
                let what = format!("offload {} is {}, not running. Nothing was changed.", record.id, record.phase);
                return Err(fault(FaultClass::Conflict, what));
            }
            (Err(e), None) => return Err(e),
        };
        let verdict = self.look_at(pid, Some(uid), false).await?;
        let kept = verdict.not_worth.iter().filter(|r| matches!(r.code, ReasonCode::Keep | ReasonCode::Owner));
        let stays: Vec<Reason> = verdict.cannot.iter().flatten().chain(kept).cloned().collect();
        match stays.first() {
            None => Ok(Who::AtHome(Box::new(verdict))),
            Some(first) => {
                let details = stays.iter().map(ToString::to_string).collect();
                let what = format!("{pid} {} stays; nothing was changed", verdict.title);
                Err(ApiError { details, ..refused(first, &what) })
            }
        }
    }

    /// Whose disk: as asked, else that of its lender, else that of a worker that is reached.
    fn store(&self, on: Option<&str>, lender: Option<&NodeName>) -> Result<NodeName, ApiError> {
        let named = on.map(|name| self.node_named(name)).transpose()?;
        if let Some(node) = &named {
            self.not_cordoned(node, RUNS_ON)?;
        }
        if let Some(node) = named.as_ref().or(lender) {
            self.can_reach(node)?;
            return Ok(node.clone());
        }
        let inner = self.inner.borrow();
        let reached = |n: &&grid_types::policy::NodeConfig| {
            n.role == Role::Worker
                && inner.links.get(&n.name).copied().unwrap_or(false)
                && !inner.state.cordoned.contains_key(&n.name)
                && !inner.older.contains_key(&n.name)
        };
        inner.cfg.config.nodes.iter().find(reached).map(|n| n.name.clone()).ok_or_else(|| {
            let reason = Reason::new(ReasonCode::Silent, "no worker has a link to the head");
            ApiError { hint: Some("park it on the head's own disk: --on head".into()), ..refused(&reason, RUNS_ON) }
        })
    }

    async fn park_from_home(&self, verdict: &Verdict, node: &NodeName, actor: Actor) -> Result<OffloadId, ApiError> {
        let offload = OffloadId::new(format!("o-{}", self.inner.borrow().state.next_seq()));
        let attempt = AttemptId::new(format!("{offload}.1"));
        let started = Event::OffloadStarted {
            offload: offload.clone(),
            attempt: attempt.clone(),
            process: self.known_as(&verdict.id),
            title: verdict.title.clone(),
            uid: verdict.uid,
            source: self.head_name(),
            destination: node.clone(),
            boost: None,
            needed: verdict.used,
            plan: None,
            park: true,
        };
        self.record(&actor, started)?;
        let order = self.order(&offload, &attempt, verdict.id.clone(), node, None, verdict.used.memory);
        let sent = self.send_order(&self.head_name(), onto_disk(order)).await;
        self.refuse_park(&offload, attempt, sent, &actor)?;
        Ok(offload)
    }

    /// What is away is parked by its lender; the hub gives leave for its way, also where that is the lender's own disk.
    pub(crate) async fn park_from_lender(&self, id: &OffloadId, node: &NodeName, actor: Actor) -> Result<(), ApiError> {
        let (record, process) = self.away_as(id).await?;
        let attempt = next_attempt(&record);
        let started = Event::ParkStarted { offload: id.clone(), attempt: attempt.clone(), node: node.clone() };
        self.record(&actor, started)?;
        let order = onto_disk(self.order(id, &attempt, process, node, None, record.needed.memory));
        let sent = self.send_by_leave(&record.destination, node, order).await;
        self.refuse_park(id, attempt, sent, &actor)
    }

    /// Gives the hub's leave where both ends are workers', and then the order.
    async fn send_by_leave(&self, from: &NodeName, to: &NodeName, order: MoveOrder) -> Result<(), Reason> {
        let (head, attempt) = (self.head_name(), order.attempt.clone());
        self.inner.borrow_mut().ordering.insert(attempt.clone());
        let passage = Passage { offload: order.offload.clone(), from: from.clone(), to: to.clone() };
        let leave = Request::PassOn { attempt: attempt.clone(), passage };
        let allowed = match *from == head || *to == head {
            true => Ok(()),
            false => self.hub().ask(&head, leave).await.map(drop),
        };
        let sent = match allowed {
            Ok(()) => self.send_order(from, order).await,
            Err(reason) => Err(reason),
        };
        self.inner.borrow_mut().ordering.remove(&attempt);
        sent
    }

    fn refuse_park(
        &self,
        offload: &OffloadId,
        attempt: AttemptId,
        sent: Result<(), Reason>,
        actor: &Actor,
    ) -> Result<(), ApiError> {
        sent.map_err(|reason| {
            self.note_by(actor, Event::ParkFailed { offload: offload.clone(), attempt, reason: reason.clone() });
            refused(&reason, RUNS_ON)
        })
    }

    /// Where `--to` leads what is parked: home, or a lease on that node in which it fits.
    pub(crate) fn unpark_to(&self, id: &OffloadId, to: Option<&str>) -> Result<To, ApiError> {
        let record = self.offload_record(id)?;
        match to.map(|name| self.node_named(name)).transpose()? {
            Some(node) if node != record.source => self.lease_for(&record, &node, KEPT).map(To::Lease),
            _ => Ok(To::Home),
        }
    }

    /// Everything that can be said without reading the copy.
    pub(crate) fn way_from_disk(&self, id: &OffloadId, to: &To) -> Result<(OffloadRecord, ParkedAt), ApiError> {
        self.not_stopped(KEPT)?;
        let record = self.offload_record(id)?;
        let parked = record.parked.clone().filter(|_| record.phase == OffloadPhase::Parked).ok_or_else(|| {
            let what = format!("offload {id} is {}, not parked. Nothing was changed.", record.phase);
            fault(FaultClass::Conflict, what)
        })?;
        self.can_reach_for(&parked.node, KEPT)?;
        match to {
            To::Home => self.fits_at_home(&record, KEPT)?,
            To::Lease(lease) => self.can_reach_for(&lease.node, KEPT)?,
        }
        Ok((record, parked))
    }

    /// Begins the way from the disk.
    pub(crate) async fn unpark(
        &self,
        id: &OffloadId,
        to: &To,
        actor: Actor,
        private_tmp: bool,
    ) -> Result<(), ApiError> {
        let (record, parked) = self.way_from_disk(id, to)?;
        let attempt = next_attempt(&record);
        let (node, lease, onward) = match to {
            To::Home => (record.source.clone(), None, None),
            To::Lease(l) => {
                let onward = OnwardTo { node: l.node.clone(), boost: l.boost.clone() };
                (l.node.clone(), Some(l.lease.clone()), Some(onward))
            }
        };
        let started = Event::UnparkStarted { offload: id.clone(), attempt: attempt.clone(), to: onward };
        self.record(&actor, started)?;
        let order = self.order(id, &attempt, record.process.clone(), &node, lease, record.needed.memory);
        let order = MoveOrder { parked: Some(parked.attempt), max_frozen: WRITTEN_WITHIN, private_tmp, ..order };
        let sent = self.send_by_leave(&parked.node, &node, order).await;
        sent.map_err(|reason| {
            self.note_by(&actor, Event::UnparkFailed { offload: id.clone(), attempt, reason: reason.clone() });
            refused(&reason, KEPT)
        })
    }
}

fn onto_disk(order: MoveOrder) -> MoveOrder {
    MoveOrder { park: true, max_frozen: WRITTEN_WITHIN, ..order }
}

fn next_attempt(record: &OffloadRecord) -> AttemptId {
    AttemptId::new(format!("{}.{}", record.id, record.attempts + 1))
}
