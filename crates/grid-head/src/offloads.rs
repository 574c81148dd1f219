//! Moves from order to end: out, back, cancelled, resolved.

use crate::head::{Head, fault, refused, unknown};
use crate::privacy::Reader;
use crate::scan::Only;
use grid_core::check::{LeaseNow, ProcNow, World, check};
use grid_core::plan::limit_for;
use grid_engine::Agents;
use grid_os::clock::{boot_ms, unix_ms};
use grid_types::api::{ApiError, OffloadAsk, OffloadReply, OffloadView, ResolveAsk};
use grid_types::boost::BoostState;
use grid_types::event::{Actor, Direction, Event, OffloadPhase, OffloadRecord};
use grid_types::exit::FaultClass;
use grid_types::plan::{Plan, PlanOutcome, PlanStep, Trigger, Verdict};
use grid_types::policy::Files;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::{Answer, MoveOrder, OwnPaths, Request};
use grid_types::{AttemptId, Bytes, LeaseId, Millis, NodeName, OffloadId, PlanId, ProcId};
use std::collections::BTreeMap;
use std::time::Duration;

/// A tree of many processes can have hundreds; the first ones say what there is to do.
const REASONS_SHOWN: usize = 8;

impl Head {
    /// Moves a process that a person named.
    pub(crate) async fn offload(&self, ask: OffloadAsk, uid: u32, actor: Actor) -> Result<OffloadReply, ApiError> {
        let only = Only {
            boost: ask.boost.as_deref().map(|b| self.boost_id(b)).transpose()?,
            node: ask.to.as_deref().map(|n| self.node_named(n)).transpose()?,
        };
        self.not_stopped("it was not moved; nothing was changed")?;
        let into = only.boost.as_ref().and_then(|boost| self.boost(boost).ok()).map(|boost| boost.lender);
        for node in only.node.iter().chain(&into) {
            self.not_cordoned(node, "it was not moved; nothing was changed")?;
        }
        let verdict = self.look_at(ask.pid, Some(uid), ask.close_tcp).await?;
        let plan = self.plan_for(
            Trigger::Named { pid: verdict.id.pid },
            std::slice::from_ref(&verdict),
            &only,
            Some(uid),
            None,
        );
        let Some(step) = plan.steps.first().cloned() else {
            let away = self.not_at_home(&verdict.id, Reader::of(uid));
            return Err(away.unwrap_or_else(|| stays(&plan, ask.pid)));
        };
        if ask.dry_run {
            return Ok(OffloadReply { plan, offload: None });
        }
        let id = plan.id.clone();
        self.record(&actor, Event::PlanMade { plan: plan.clone() })?;
        self.checked(&plan, &[verdict], Some(uid), &actor)?;
        let started = self.execute(&step, Some(&id), actor.clone(), ask.close_tcp).await;
        self.note_by(&actor, Event::PlanSettled { plan: id, outcome: PlanOutcome::Applied });
        let offload = self.offload_view(&started?)?;
        Ok(OffloadReply { plan, offload: Some(offload) })
    }

    /// What lives elsewhere is named as what it is: at home its number is a shadow's.
    fn not_at_home(&self, process: &ProcId, reader: Reader) -> Option<ApiError> {
        let inner = self.inner.borrow();
        let guest = |o: &&OffloadRecord| o.process == *process && o.phase.is_guest() && reader.sees(o.uid);
        let o = inner.state.offloads.values().find(guest)?;
        let (id, pid, on) = (&o.id, process.pid, &o.destination);
        let (where_it_is, next) = match o.phase {
            OffloadPhase::Away => (
                format!("it is away on {on} as {id}"),
                format!("grid offload recall {pid} --to NODE moves it on, without --to it comes home"),
            ),
            OffloadPhase::Parked => {
                (format!("it is parked on {on} as {id}"), format!("grid offload unpark {pid} --to NODE"))
            }
            phase => (format!("it is {phase} as {id}"), format!("grid offload show {id}")),
        };
        let what = format!("{pid} {} stays as it is; nothing was changed", o.title);
        let refusal = refused(&Reason::new(ReasonCode::Away, where_it_is), &what);
        Some(ApiError { hint: Some(next), ..refusal })
    }

    /// Executes exactly a plan that was shown, or refuses with what has changed since.
    pub(crate) async fn apply_plan(
        &self,
        id: &PlanId,
        uid: u32,
        actor: Actor,
        dry_run: bool,
    ) -> Result<Vec<OffloadView>, ApiError> {
        let plan = self.inner.borrow().state.plan(id).cloned();
        let plan = plan.ok_or_else(|| unknown(format!("no plan {id}"), "grid plan list"))?;
        Reader::of(uid).whole_plan(&plan)?;
        if !matches!(plan.outcome, PlanOutcome::Made | PlanOutcome::Observed | PlanOutcome::Cleared(_)) {
            return Err(fault(FaultClass::Conflict, format!("plan {id} was settled before: {:?}", plan.outcome)));
        }
        self.not_stopped(&format!("plan {id} was not executed; nothing was moved"))?;
        let mut verdicts = Vec::new();
        for step in &plan.steps {
            verdicts.extend(self.look_at(step.process.pid, Some(uid), false).await.ok());
        }
        if dry_run {
            return self.violations(&plan, &verdicts, Some(uid)).map_or(Ok(Vec::new()), Err);
        }
        self.checked(&plan, &verdicts, Some(uid), &actor)?;
        let mut views = Vec::new();
        for step in &plan.steps {
            let offload = self.execute(step, Some(id), actor.clone(), false).await?;
            let _ = self.settled(&offload).await;
            views.push(self.offload_view(&offload)?);
        }
        if matches!(plan.outcome, PlanOutcome::Made) {
            self.note_by(&actor, Event::PlanSettled { plan: id.clone(), outcome: PlanOutcome::Applied });
        }
        Ok(views)
    }

    /// The second, independent look at a plan, right before it is executed.
    pub(crate) fn checked(
        &self,
        plan: &Plan,
        verdicts: &[Verdict],
        asked_by: Option<u32>,
        actor: &Actor,
    ) -> Result<(), ApiError> {
        let Some(error) = self.violations(plan, verdicts, asked_by) else { return Ok(()) };
        let outcome = PlanOutcome::Refused(error.details.join("; "));
        self.note_by(actor, Event::PlanSettled { plan: plan.id.clone(), outcome });
        Err(error)
    }

    /// What speaks against executing a plan now.
    fn violations(&self, plan: &Plan, verdicts: &[Verdict], asked_by: Option<u32>) -> Option<ApiError> {
        let world = self.world(plan, verdicts, asked_by);
        let violations = check(plan, &world);
        let first = violations.first()?;
        let text = violations.iter().map(ToString::to_string).collect::<Vec<_>>();
        let what = format!("plan {} was not executed; nothing was moved", plan.id);
        Some(ApiError {
            class: FaultClass::Conflict,
            details: text,
            hint: Some("grid offload scan".into()),
            ..refused(&first.reason, &what)
        })
    }

    fn world(&self, plan: &Plan, verdicts: &[Verdict], asked_by: Option<u32>) -> World {
        let head = self.head_name();
        let inner = self.inner.borrow();
        let policy = &inner.cfg.config.policy;
        let leases = inner.state.leases_of(&head).into_iter().map(|l| {
            let active = inner.state.boosts.get(&l.boost).is_some_and(|b| b.state == BoostState::Active);
            (l.lease, LeaseNow { node: l.node, active, free: l.free })
        });
        let busy = inner.state.busy(Millis(0), boot_ms());
        let now = |v: &Verdict| {
            let mut cannot = v.cannot.clone().unwrap_or_default();
            // Kept since the plan was made: nobody's plan overrules that.
            cannot.extend(v.not_worth.iter().filter(|r| r.code == ReasonCode::Keep).cloned());
            let busy = busy.contains_key(&v.id);
            (v.id.clone(), ProcNow { node: head.clone(), uid: v.uid, used: v.used, cannot, busy })
        };
        World {
            leases: leases.collect(),
            processes: verdicts.iter().map(now).collect::<BTreeMap<_, _>>(),
            now: boot_ms(),
            limit: limit_for(&plan.trigger, false, policy).max(plan.steps.len() as u32),
            max_frozen: policy.limits.max_frozen,
            asked_by,
        }
    }

    /// Starts one step; `close_tcp`: its connections are closed, whatever the policy. Returns when the agent has taken the order; the move goes on by itself.
    pub(crate) async fn execute(
        &self,
        step: &PlanStep,
        plan: Option<&PlanId>,
        actor: Actor,
        close_tcp: bool,
    ) -> Result<OffloadId, ApiError> {
        let (offload, boost) = {
            let inner = self.inner.borrow();
            let boost = inner.state.boosts.values().find(|b| b.lease == step.lease).map(|b| b.id.clone());
            (OffloadId::new(format!("o-{}", inner.state.next_seq())), boost)
        };
        let attempt = AttemptId::new(format!("{offload}.1"));
        self.record(
            &actor,
            Event::OffloadStarted {
                offload: offload.clone(),
                attempt: attempt.clone(),
                process: self.known_as(&step.process),
                title: step.title.clone(),
                uid: step.uid,
                source: step.source.clone(),
                destination: step.destination.clone(),
                boost,
                needed: step.needed,
                plan: plan.cloned(),
                park: false,
            },
        )?;
        let (process, lease) = (step.process.clone(), Some(step.lease.clone()));
        let order = self.order(&offload, &attempt, process, &step.destination, lease, step.needed.memory);
        let order = MoveOrder { detector: self.detector(close_tcp), ..order };
        match self.send_order(&step.source, order).await {
            Ok(()) => Ok(offload),
            Err(reason) => {
                self.note_by(&actor, Event::OffloadFailed { offload, attempt, reason: reason.clone() });
                Err(refused(&reason, &format!("{} {} was not moved; it runs on", step.process.pid, step.title)))
            }
        }
    }

    /// Hands an order to the agent of the source. An error means that it was refused. Where the link broke before the
    /// answer, the order may be under way: what the agent holds decides, as soon as it can be asked.
    pub(crate) async fn send_order(&self, source: &NodeName, order: MoveOrder) -> Result<(), Reason> {
        let attempt = order.attempt.clone();
        self.inner.borrow_mut().ordering.insert(attempt.clone());
        let sent = match self.machines_match(&order).await {
            Ok(()) => self.hub().ask(source, Request::StartMove { order: Box::new(order), ticket: None }).await,
            // Nothing was sent: whatever it was, it is no doubt about the move.
            Err(reason) if reason.code == ReasonCode::Link => Err(Reason::new(ReasonCode::Silent, reason.detail)),
            Err(reason) => Err(reason),
        };
        self.inner.borrow_mut().ordering.remove(&attempt);
        match sent {
            Err(reason) if reason.code == ReasonCode::Link => {
                let (head, source) = (self.clone(), source.clone());
                tokio::task::spawn_local(async move { head.reconcile(&source).await });
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }

    pub(crate) fn order(
        &self,
        offload: &OffloadId,
        attempt: &AttemptId,
        process: ProcId,
        to: &NodeName,
        lease: Option<LeaseId>,
        memory: Bytes,
    ) -> MoveOrder {
        let inner = self.inner.borrow();
        let policy = &inner.cfg.config.policy;
        MoveOrder {
            offload: offload.clone(),
            attempt: attempt.clone(),
            process,
            destination: to.clone(),
            lease,
            // Copy-on-write sharing does not survive a move: what arrives can be more than what was measured.
            admitted: Bytes(memory.0.saturating_mul(2).max(64 << 20)),
            max_frozen: policy.limits.max_frozen,
            link_limit: policy.engine.link_limit(),
            detector: policy.detector.clone(),
            private_paths: self.private_paths(),
            apart: !inner.cfg.embedded,
            home_files: !inner.cfg.embedded && policy.engine.files == Files::Home,
            files_patience: policy.engine.files_patience,
            own_paths: OwnPaths {
                shared: policy.engine.shared_paths.clone(),
                local: policy.engine.local_paths.clone(),
            },
            park: false,
            parked: None,
            private_tmp: false,
        }
    }

    pub(crate) async fn cancel(&self, id: &OffloadId, actor: Actor, dry_run: bool) -> Result<(), ApiError> {
        let record = self.offload_record(id)?;
        let from = match record.phase {
            OffloadPhase::Moving => record.source,
            OffloadPhase::Parking if record.boost.is_none() => record.source,
            OffloadPhase::Returning | OffloadPhase::Onward | OffloadPhase::Parking | OffloadPhase::Unparking => {
                record.destination
            }
            phase => {
                let what = format!("offload {id} is {phase}; nothing is under way. Nothing was changed.");
                return Err(fault(FaultClass::Conflict, what));
            }
        };
        if dry_run {
            return Ok(());
        }
        let attempt = record.attempt;
        // Its end may be reported before the answer is here.
        self.inner.borrow_mut().cancelled.insert(attempt.clone(), actor);
        let answer = self.hub().ask(&from, Request::CancelMove { attempt: attempt.clone() }).await;
        answer.map(|_| ()).map_err(|reason| {
            self.inner.borrow_mut().cancelled.remove(&attempt);
            refused(&reason, "it was not cancelled")
        })
    }

    /// What is under way to a machine that does not answer: only a person can say that it never will.
    fn may_count_as_gone(&self, record: &OffloadRecord, gone: bool) -> Result<(), ApiError> {
        let OffloadRecord { id, phase, destination, .. } = record;
        let refused = |what: String| fault(FaultClass::Conflict, format!("offload {id} {what}. Nothing was changed."));
        if *phase != OffloadPhase::Moving {
            return Err(refused(format!("is {phase}, not in doubt")));
        }
        let silent = self.node_views().into_iter().any(|n| n.node == *destination && n.state != "ready");
        match (silent, gone) {
            (true, true) => Ok(()),
            (true, false) => Err(ApiError {
                hint: Some(format!("only if {destination} is off, and does not come back with its copy: --gone")),
                ..refused(format!("is {phase}, and {destination} does not answer: its copy may run there"))
            }),
            (false, _) => {
                Err(refused(format!("is {phase}, and {destination} answers: what became of it is known soon")))
            }
        }
    }

    pub(crate) async fn resolve(&self, id: &OffloadId, ask: ResolveAsk, actor: Actor) -> Result<(), ApiError> {
        let ResolveAsk { decision, gone, dry_run } = ask;
        let record = self.offload_record(id)?;
        let doubted = record.phase == OffloadPhase::InDoubt;
        if !doubted {
            self.may_count_as_gone(&record, gone)?;
        }
        if dry_run {
            return Ok(());
        }
        let holder = match record.direction {
            Direction::Out => &record.source,
            Direction::Park if record.boost.is_none() => &record.source,
            Direction::Back | Direction::Onward | Direction::Park | Direction::Unpark => &record.destination,
        };
        let request = Request::ResolveMove { attempt: record.attempt.clone(), decision };
        self.inner.borrow_mut().resolving.insert(id.clone());
        let answer = self.hub().ask(holder, request).await;
        let recorded = match answer {
            Ok(Answer::Done) => {
                if !doubted {
                    let detail = format!("{} is off and does not come back, a person says", record.destination);
                    let (offload, attempt) = (id.clone(), record.attempt);
                    self.record(&actor, Event::OffloadInDoubt { offload, attempt, detail })?;
                }
                self.record(&actor, Event::OffloadResolved { offload: id.clone(), decision })
            }
            Ok(other) => Err(fault(FaultClass::Internal, format!("{holder} answered {other:?}"))),
            Err(reason) => Err(refused(&reason, "it was not resolved")),
        };
        self.inner.borrow_mut().resolving.remove(id);
        recorded
    }

    /// Waits until nothing is under way for this offload.
    pub(crate) async fn settled(&self, id: &OffloadId) -> Result<OffloadRecord, ApiError> {
        loop {
            let record = self.offload_record(id)?;
            if !record.phase.is_under_way() {
                return Ok(record);
            }
            self.await_change(Duration::from_secs(1)).await;
        }
    }

    pub(crate) fn offload_record(&self, id: &OffloadId) -> Result<OffloadRecord, ApiError> {
        let inner = self.inner.borrow();
        inner.state.offloads.get(id).cloned().ok_or_else(|| unknown(format!("no offload {id}"), "grid offload list"))
    }

    pub(crate) fn offload_view(&self, id: &OffloadId) -> Result<OffloadView, ApiError> {
        let record = self.offload_record(id)?;
        let pid_there = self.inner.borrow().there.get(id).map(|p| p.pid);
        let taken_back = record.boost.as_ref().is_some_and(|b| self.inner.borrow().state.frozen.contains(b));
        let frozen = record.phase == OffloadPhase::Away && taken_back;
        let since = Millis(unix_ms().0.saturating_sub(record.since.0));
        Ok(OffloadView { record, pid_there, since, frozen })
    }
}

/// Why a named process stays.
fn stays(plan: &Plan, pid: i32) -> ApiError {
    let reasons = plan.stays.first().map(|s| s.reasons.clone()).unwrap_or_default();
    let title = plan.stays.first().map(|s| s.title.clone()).unwrap_or_default();
    let first = reasons.first().cloned().unwrap_or_else(|| Reason::new(ReasonCode::NoFit, "no lease is there"));
    let mut details: Vec<String> = reasons.iter().take(REASONS_SHOWN).map(ToString::to_string).collect();
    if let Some(more) = reasons.len().checked_sub(REASONS_SHOWN).filter(|n| *n > 0) {
        details.push(format!("and {more} more reasons: grid explain {pid}"));
    }
    let hint = match first.code {
        ReasonCode::NoFit => "grid boost request head --cpu N --memory SIZE".to_owned(),
        code => code.fix().to_owned(),
    };
    ApiError { details, hint: Some(hint), ..refused(&first, &format!("{pid} {title} stays; nothing was changed")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grid_types::plan::Stay;
    use grid_types::{BootMs, UnixMs};

    #[test]
    fn a_tree_with_hundreds_of_reasons_is_refused_with_a_few_and_their_number() {
        let process = ProcId { pid: 1, start_ticks: 1, boot_id: "b".into() };
        let reasons: Vec<Reason> =
            (0..300).map(|n| Reason::new(ReasonCode::Pipe, format!("fd {n} is a pipe"))).collect();
        let stay = |many: usize| Stay {
            process: process.clone(),
            title: "init".into(),
            used: Default::default(),
            reasons: reasons[..many].to_vec(),
        };
        let plan = |many| Plan {
            id: PlanId::new("p-1"),
            trigger: Trigger::Named { pid: 1 },
            made_at: UnixMs(1),
            valid_until: BootMs(1),
            steps: Vec::new(),
            stays: vec![stay(many)],
            outcome: PlanOutcome::Made,
        };
        let error = stays(&plan(300), 1);
        assert_eq!((error.code, error.details.len()), (Some(ReasonCode::Pipe), REASONS_SHOWN + 1));
        assert_eq!(error.details.last().unwrap(), "and 292 more reasons: grid explain 1");
        assert_eq!(stays(&plan(8), 1).details.len(), 8);
    }
}
