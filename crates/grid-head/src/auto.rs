//! Offloading that nobody asked for by name: the built-in hook of boosts, and rounds of pressure.

use crate::head::{Head, log};
use crate::scan::Only;
use grid_core::auto_offload::{Action, Report, Round, SkipReason, StepResult};
use grid_os::clock::boot_ms;
use grid_types::BoostId;
use grid_types::boost::Boost;
use grid_types::event::{Actor, Event};
use grid_types::plan::{PlanOutcome, Trigger};
use grid_types::reason::{Reason, ReasonCode};

impl Head {
    /// The built-in hook: offloads from the head into a boost that has just become active.
    pub(crate) async fn auto_offload(&self, boost: &Boost) -> Result<String, String> {
        if self.standing_stop().is_some() {
            return Ok(format!("skipped: {}", SkipReason::Stopped));
        }
        let head = self.head_name();
        let mode = self.auto_mode();
        let action = {
            let mut inner = self.inner.borrow_mut();
            let policy = inner.cfg.config.policy.auto_offload.clone();
            grid_core::auto_offload::decide(boost, &head, mode, &mut inner.bucket, &policy, boot_ms())
        };
        let (limit, act) = match action {
            Action::Skip { reason } => return Ok(format!("skipped: {reason}")),
            Action::Run { limit } => (limit, true),
            Action::Observe { limit } => (limit, false),
        };
        let trigger = Trigger::BoostActivated { boost: boost.id.clone() };
        let rule = Actor::Rule { name: "auto-offload".into() };
        self.offload_round(trigger, Some(boost.id.clone()), limit, act, rule).await
    }

    /// Scans, plans, and does it or only says so. One failure is logged and the next is tried.
    pub(crate) async fn offload_round(
        &self,
        trigger: Trigger,
        boost: Option<BoostId>,
        limit: u32,
        act: bool,
        rule: Actor,
    ) -> Result<String, String> {
        let seen = match self.look(None, false).await {
            Ok(seen) => seen,
            Err(e) => return Err(Report::of_failed_scan(boost, e.message).lines().join("\n")),
        };
        let plan = self.plan_for(trigger, &seen.verdicts, &Only::default(), None, Some(limit));
        let id = plan.id.clone();
        let mut round = Round::new(boost.clone(), &plan, seen.scanned as usize);
        if boost.is_none() && plan.steps.is_empty() {
            // Pressure asks again and again; a round that finds nothing is no event.
            return Ok(round.report().lines().join("\n"));
        }
        self.record(&rule, Event::PlanMade { plan: plan.clone() }).map_err(|e| e.message)?;
        if !act {
            self.note_by(&rule, Event::PlanSettled { plan: id, outcome: PlanOutcome::Observed });
            return Ok(format!("observed: would move {} of {} processes", plan.steps.len(), seen.scanned));
        }
        if !plan.steps.is_empty() {
            self.checked(&plan, &seen.verdicts, None, &rule).map_err(|e| e.message)?;
        }
        while let Some(step) = round.next_step() {
            let moved = self.execute(&step, Some(&id), rule.clone(), false).await;
            round.done(match moved {
                Ok(offload) => match self.settled(&offload).await {
                    Ok(record) if record.figures.is_some() => StepResult::Moved(offload),
                    Ok(record) => {
                        StepResult::Failed(record.reasons.last().cloned().unwrap_or_else(|| unknown("it did not move")))
                    }
                    Err(e) => StepResult::Failed(unknown(&e.message)),
                },
                Err(e) => StepResult::Failed(unknown(&e.message)),
            });
        }
        self.note_by(&rule, Event::PlanSettled { plan: id, outcome: PlanOutcome::Applied });
        let lines = round.report().lines();
        lines.iter().for_each(|l| log(l));
        Ok(lines.join("\n"))
    }

    /// What automatic offloading does about pressure now.
    pub(crate) fn pressure_action(&self, critical: bool) -> Action {
        if self.standing_stop().is_some() {
            return Action::Skip { reason: SkipReason::Stopped };
        }
        let (head, mode) = (self.head_name(), self.auto_mode());
        let inner = self.inner.borrow();
        let leases = inner.state.leases_of(&head);
        grid_core::auto_offload::on_pressure(critical, mode, &leases, &inner.cfg.config.policy.auto_offload)
    }
}

fn unknown(detail: &str) -> Reason {
    Reason::new(ReasonCode::Unknown, detail)
}
