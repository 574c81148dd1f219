//! Boosts from request to end.

use crate::head::{Head, fault, log, refused, total_of, unknown, used_of};
use crate::recall::To;
use grid_core::auto_offload::SkipReason;
use grid_core::boost::{EndStep, OtherLease, Room, at_end, due, next_deadline};
use grid_core::lease::{
    LenderView, Refusal, Terms, admit, complete_amount, lendable, validate_extension, validate_request,
};
use grid_core::plan::{needed, ranked};
use grid_core::sharing::LeaseView;
use grid_engine::{Agents, Engine};
use grid_os::clock::{boot_ms, unix_ms};
use grid_types::api::{ApiError, BoostAsk, BoostReply, BoostView, ExtendAsk, ReleaseAsk};
use grid_types::boost::{Boost, BoostRequest, BoostState, EndReason};
use grid_types::event::{Actor, Event};
use grid_types::exit::FaultClass;
use grid_types::policy::Role;
use grid_types::wire::{LeaseTerms, Request};
use grid_types::{BoostId, BootMs, Millis, NodeName, OffloadId, Resources, UnixMs};
use std::time::{Duration, Instant};

impl Head {
    /// What each node could lend now.
    pub(crate) fn lenders(&self) -> Vec<LenderView> {
        let inner = self.inner.borrow();
        let stale = inner.cfg.config.policy.limits.stale_after;
        let view = |n: &grid_types::policy::NodeConfig| {
            let heard = inner.heard.get(&n.name);
            let age = heard.map(|h| Millis(boot_ms().0.saturating_sub(h.at.0)));
            let linked = inner.links.get(&n.name).copied().unwrap_or(false);
            let fresh = linked && age.is_some_and(|a| a <= stale);
            let memory = heard.map_or(0, |h| h.leases.iter().map(|l| l.memory_used.0).sum());
            let leases = inner.state.lent_by(&n.name);
            let promised_cpu = leases.iter().map(|l| l.amount.cpu.0).sum();
            let used = heard.filter(|_| fresh).and_then(|h| used_of(&h.facts));
            // CPU that guests use is theirs up to what they were promised; the group counts it with the node's.
            let guest_cpu = used.map_or(0, |u: Resources| u.cpu.0.min(promised_cpu));
            LenderView {
                node: n.name.clone(),
                total: heard.map(|h| total_of(&h.facts)).unwrap_or_default(),
                used,
                sharing: n.sharing.clone(),
                leases,
                lease_use: Resources {
                    cpu: grid_types::MilliCpu(guest_cpu),
                    memory: grid_types::Bytes(memory),
                    gpu: 0,
                },
                cordoned: inner.state.cordoned.contains_key(&n.name),
                older: inner.older.get(&n.name).cloned(),
                says: heard.and_then(|h| h.facts.lending.clone()),
                silent_for: if fresh { None } else { Some(age.unwrap_or_default()) },
            }
        };
        inner.cfg.config.nodes.iter().filter(|n| n.role == Role::Worker).map(view).collect()
    }

    /// A boost: admitted, written down, held by the lender, recorded; then the hooks are told. The request returns
    /// without waiting for them.
    pub(crate) async fn boost_request(&self, ask: BoostAsk, actor: Actor) -> Result<BoostReply, ApiError> {
        let start = Instant::now();
        let mut terms = self.validate(&ask)?;
        if terms.amount.memory.0 == 0 || terms.amount.cpu.0 == 0 {
            terms.amount = self.completed(terms.amount).await;
        }
        let boost = match self.admitted(&terms) {
            Ok(boost) => boost,
            Err(refusal) => return Err(self.boost_refused(&terms, refusal, &actor, ask.dry_run)),
        };
        if ask.dry_run {
            let boost = self.view_of(&boost);
            return Ok(BoostReply { boost, took: since(start), auto: self.auto_mode(), dry_run: true });
        }
        let (id, lender) = (boost.id.clone(), boost.lender.clone());
        let lease = lease_terms(&boost, Millis(boost.until.0.saturating_sub(boot_ms().0)));
        self.record(&actor, Event::LeaseGranted { boost })?;
        match self.engine.start(&lender, lease).await {
            Ok(enforced) => {
                self.record(&actor, Event::BoostActivated { boost: id.clone(), enforced })?;
            }
            Err(reason) => {
                let lease = grid_types::LeaseId::new(id.as_str());
                let _ = self.engine.stop(&lender, &lease, true).await;
                self.note(Event::BoostFailed { boost: id.clone(), detail: reason.to_string() });
                let what = format!("{lender} could not hold boost {id}; nothing is left of it");
                return Err(ApiError { details: vec![reason.to_string()], ..refused(&reason, &what) });
            }
        }
        self.deadlines.notify_one();
        let boost = self.boost(&id)?;
        self.run_hooks(&boost);
        Ok(BoostReply { boost: self.view_of(&boost), took: since(start), auto: self.auto_mode(), dry_run: false })
    }

    fn validate(&self, ask: &BoostAsk) -> Result<Terms, ApiError> {
        let borrower = self.node_named(&ask.borrower)?;
        let from = ask.from.as_deref().map(|n| self.node_named(n)).transpose()?;
        let amount = Resources {
            cpu: ask.cpu.unwrap_or_default(),
            memory: ask.memory.unwrap_or_default(),
            gpu: ask.gpu.unwrap_or(0),
        };
        let request =
            BoostRequest { borrower, amount, priority: ask.priority, duration: ask.duration, from, at_end: ask.at_end };
        let inner = self.inner.borrow();
        let names: Vec<NodeName> = inner.cfg.config.nodes.iter().map(|n| n.name.clone()).collect();
        validate_request(&request, &names, &inner.cfg.config.policy)
            .map_err(|e| ApiError { code: e.code(), ..fault(e.class(), format!("{e}. Nothing was reserved.")) })
    }

    /// What the plan would need, for a request that named only a part (the original's `request NODE cpu 2`).
    async fn completed(&self, asked: Resources) -> Resources {
        let seen = self.look(None, false).await.map(|s| s.verdicts).unwrap_or_default();
        let candidates: Vec<_> = seen.into_iter().filter(|v| v.is_candidate()).collect();
        let (total, _) = self.head_room();
        let needs: Vec<Resources> = ranked(&candidates, None, total).into_iter().map(needed).collect();
        let policy = self.inner.borrow().cfg.config.policy.clone();
        let lenders = self.lenders();
        let room = lenders.iter().filter_map(|l| lendable(l, &policy).ok()).map(|l| l.amount).max_by_key(|r| r.memory);
        complete_amount(asked, &needs, policy.auto_offload.per_boost, room)
    }

    fn admitted(&self, terms: &Terms) -> Result<Boost, Refusal> {
        let policy = self.inner.borrow().cfg.config.policy.clone();
        let grant = admit(terms, &self.lenders(), &policy, grid_os::clock::utc_offset_s(unix_ms()))?;
        let inner = self.inner.borrow();
        let id = fresh_id(|id| inner.state.boosts.contains_key(&BoostId::new(id)));
        let now = unix_ms();
        Ok(Boost {
            lease: grid_types::LeaseId::new(&id),
            id: BoostId(id),
            borrower: terms.borrower.clone(),
            lender: grant.lender,
            amount: grant.amount,
            priority: terms.priority,
            granted_at: now,
            until: BootMs(boot_ms().0 + terms.duration.0),
            boot_id: inner.boot_id.clone(),
            until_unix: UnixMs(now.0 + terms.duration.0),
            epoch: 1,
            at_end: terms.at_end,
            chosen: grant.chosen,
            state: BoostState::Granting,
        })
    }

    fn boost_refused(&self, terms: &Terms, refusal: Refusal, actor: &Actor, dry_run: bool) -> ApiError {
        let details = refusal.reasons.iter().map(|(node, reason)| format!("{node}  {}", reason.detail)).collect();
        if !dry_run {
            let (borrower, amount) = (terms.borrower.clone(), refusal.asked);
            let _ = self.record(actor, Event::BoostRefused { borrower, amount, reasons: refusal.journal_reasons() });
        }
        let who = terms.from.as_ref().map_or("no lender has".to_owned(), |n| format!("{n} has not"));
        let nearest = refusal.nearest.as_ref();
        let hint = nearest.map(|n| {
            let gpu = if n.amount.gpu > 0 { format!(" --gpu {}", n.amount.gpu) } else { String::new() };
            format!("nearest now: --cpu {} --memory {}{gpu} --from {}", n.amount.cpu, typed(n.amount.memory), n.node)
        });
        ApiError {
            code: Some(refusal.code()),
            details,
            hint,
            ..fault(refusal.class(), format!("{who} {} together. Nothing was reserved.", refusal.asked))
        }
    }

    pub(crate) fn boost(&self, id: &BoostId) -> Result<Boost, ApiError> {
        let inner = self.inner.borrow();
        inner.state.boosts.get(id).cloned().ok_or_else(|| unknown(format!("no boost {id}"), "grid boost list"))
    }

    pub(crate) async fn boost_extend(&self, id: &BoostId, ask: ExtendAsk, actor: Actor) -> Result<BoostView, ApiError> {
        let ExtendAsk { by, dry_run } = ask;
        let boost = self.boost(id)?;
        let policy = self.inner.borrow().cfg.config.policy.clone();
        let (until, until_unix, epoch) = validate_extension(&boost, by, &policy, &self.clock())
            .map_err(|e| ApiError { code: e.code(), ..fault(e.class(), format!("{e}. Nothing was changed.")) })?;
        let remaining = Millis(until.0.saturating_sub(boot_ms().0));
        if dry_run {
            return Ok(BoostView { ends_in: remaining, ..self.view_of(&Boost { until, until_unix, epoch, ..boost }) });
        }
        let request = Request::ExtendLease { lease: boost.lease.clone(), remaining, epoch };
        self.hub().ask(&boost.lender, request).await.map_err(|r| refused(&r, "it was not extended"))?;
        self.record(&actor, Event::BoostExtended { boost: id.clone(), until, until_unix, epoch })?;
        self.deadlines.notify_one();
        Ok(self.view_of(&self.boost(id)?))
    }

    pub(crate) async fn boost_release(
        &self,
        id: &BoostId,
        ask: ReleaseAsk,
        actor: Actor,
    ) -> Result<BoostView, ApiError> {
        let boost = self.boost(id)?;
        if ask.dry_run || matches!(boost.state, BoostState::Ended { .. }) {
            return Ok(self.view_of(&boost));
        }
        if matches!(boost.state, BoostState::Failed { .. }) {
            return Err(fault(
                FaultClass::Conflict,
                format!("boost {id} failed and holds nothing. Nothing was changed."),
            ));
        }
        self.record(&actor, Event::BoostEnding { boost: id.clone(), why: EndReason::Released })?;
        if ask.end {
            self.end_guests(&boost).await;
        }
        self.end_boost(id).await;
        Ok(self.view_of(&self.boost(id)?))
    }

    /// Ends boosts at their time, for ever. Sleeps until the next deadline on CLOCK_BOOTTIME.
    pub(crate) async fn keep_deadlines(self) {
        loop {
            let clock = self.clock();
            let (expired, next) = {
                let inner = self.inner.borrow();
                let live: Vec<&Boost> = inner.state.live_boosts().collect();
                (due(live.iter().copied(), &clock), next_deadline(live.iter().copied(), &clock))
            };
            for id in expired {
                if self
                    .record(&Actor::Daemon, Event::BoostEnding { boost: id.clone(), why: EndReason::Expired })
                    .is_ok()
                {
                    let head = self.clone();
                    tokio::task::spawn_local(async move { head.end_boost(&id).await });
                }
            }
            let pause = next.map_or(Duration::from_secs(3600), |m| Duration::from_millis(m.0.max(1)));
            tokio::select! {
                () = grid_os::wait::sleep_boottime(pause) => {}
                () = self.deadlines.notified() => {}
            }
        }
    }

    /// Carries the end of a boost through: guests home, or overdue; then the lease is stopped, which succeeds only
    /// when its group was empty.
    pub(crate) async fn end_boost(&self, id: &BoostId) {
        if !self.inner.borrow_mut().ending.insert(id.clone()) {
            return;
        }
        self.end_steps(id).await;
        self.inner.borrow_mut().ending.remove(id);
    }

    async fn end_steps(&self, id: &BoostId) {
        loop {
            let Ok(boost) = self.boost(id) else { return };
            let BoostState::Ending { why } = boost.state else { return };
            let guests = self.inner.borrow().state.guests_at_end(id);
            match at_end(&boost, &guests, &self.room_elsewhere(&boost)) {
                EndStep::Wait { offloads } => {
                    for offload in offloads {
                        let rule = Actor::Rule { name: "boost-end".into() };
                        let _ = self.cancel(&offload, rule, false).await;
                    }
                    self.await_change(Duration::from_millis(500)).await;
                }
                // A recall freezes: until the order is lifted they stay, and that is said.
                EndStep::RecallHome { .. } | EndStep::MoveOn { .. } | EndStep::Park { .. }
                    if self.standing_stop().is_some() =>
                {
                    let detail = format!("its guests stay: {}", SkipReason::Stopped);
                    return self.note(Event::BoostOverdue { boost: id.clone(), detail });
                }
                EndStep::RecallHome { offloads } => {
                    for offload in offloads {
                        self.bring(&offload, &To::Home).await;
                    }
                }
                EndStep::MoveOn { moves } => {
                    for (offload, boost) in moves {
                        let leases = self.inner.borrow().state.leases_of(&self.head_name());
                        // It may have ended meanwhile: then the next look finds another way.
                        if let Some(lease) = leases.into_iter().find(|lease| lease.boost == boost) {
                            self.bring(&offload, &To::Lease(lease)).await;
                        }
                    }
                }
                EndStep::Park { offloads } => {
                    for offload in offloads {
                        let rule = Actor::Rule { name: "boost-end".into() };
                        let begun = self.park_from_lender(&offload, &boost.lender, rule).await;
                        let _ = self.settled(&offload).await;
                        if begun.is_err() {
                            self.await_change(Duration::from_millis(500)).await;
                        }
                    }
                }
                EndStep::StayOverdue { detail } => {
                    let frozen = self.inner.borrow().state.frozen.contains(id);
                    let detail = if frozen { format!("frozen there: {detail}") } else { detail };
                    log(&format!("boost {id} is overdue: {detail}"));
                    return self.note(Event::BoostOverdue { boost: id.clone(), detail });
                }
                EndStep::EndGuests { .. } => self.end_guests(&boost).await,
                EndStep::Close => match self.engine.stop(&boost.lender, &boost.lease, false).await {
                    Ok(()) => return self.note(Event::BoostEnded { boost: id.clone(), why }),
                    Err(reason) => {
                        log(&format!("boost {id} could not be closed: {reason}"));
                        self.await_change(Duration::from_millis(500)).await;
                    }
                },
            }
        }
    }

    async fn bring(&self, offload: &OffloadId, to: &To) {
        let _ = self.recall(offload, to, Actor::Rule { name: "boost-end".into() }, false).await;
        let _ = self.settled(offload).await;
    }

    /// What is free for the guests of this boost at home and in the borrower's leases on other lenders that are reached.
    pub(crate) fn room_elsewhere(&self, boost: &Boost) -> Room {
        // As for a recall that a person asks for: at home CPU is shared, and a busy one keeps nobody away; a boost is
        // asked for because it is busy.
        let (home, free) = self.head_room();
        let inner = self.inner.borrow();
        let reached = |l: &LeaseView| l.node != boost.lender && inner.links.get(&l.node).copied().unwrap_or(false);
        let leases = inner.state.leases_of(&boost.borrower).into_iter().filter(reached);
        Room {
            home: free.map(|free| Resources { cpu: home.cpu, ..free }),
            others: leases.map(|l| OtherLease { boost: l.boost, free: l.free }).collect(),
        }
    }

    /// Ends every guest of a boost by force and waits until the journal knows their end.
    pub(crate) async fn end_guests(&self, boost: &Boost) {
        let _ = self.engine.stop(&boost.lender, &boost.lease, true).await;
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.inner.borrow().state.guests(&boost.id).is_empty() && Instant::now() < deadline {
            self.await_change(Duration::from_millis(200)).await;
        }
    }
}

/// A size as a person would type it.
fn typed(size: grid_types::Bytes) -> String {
    match size.0 {
        b if b % (1 << 30) == 0 => format!("{}GiB", b >> 30),
        b => format!("{}MiB", b >> 20),
    }
}

fn since(start: Instant) -> Millis {
    Millis(start.elapsed().as_millis() as u64)
}

pub(crate) fn lease_terms(boost: &Boost, remaining: Millis) -> LeaseTerms {
    LeaseTerms { lease: boost.lease.clone(), amount: boost.amount, remaining, epoch: boost.epoch, at_end: boost.at_end }
}

/// `b-7k2m`: four characters that nobody confuses, not in use.
fn fresh_id(taken: impl Fn(&str) -> bool) -> String {
    const LETTERS: &[u8; 32] = b"23456789abcdefghjkmnpqrstuvwxyz0";
    loop {
        let bytes = grid_os::random::bytes().unwrap_or_else(|_| (unix_ms().0 as u32).to_le_bytes());
        let text: String = bytes.iter().map(|b| LETTERS[usize::from(b % 32)] as char).collect();
        let id = format!("b-{text}");
        if !taken(&id) {
            return id;
        }
    }
}
