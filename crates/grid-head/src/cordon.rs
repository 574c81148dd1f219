//! A node that takes nothing new, and one from which everything is moved away. Both outlive the daemon: the journal knows.
//!
//! Owns no way home: what lives on a drained node leaves as at the end of its boost. Nothing is ended by a drain.

use crate::head::{Head, fault, refused};
use grid_core::boost::{EndStep, at_end};
use grid_types::api::{ApiError, BoostView, DrainAsk, DrainReply, DrainStep, NodeView};
use grid_types::boost::{Boost, BoostState, EndReason};
use grid_types::event::{Actor, Event, OffloadPhase};
use grid_types::exit::FaultClass;
use grid_types::policy::Role;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::{BoostId, Millis, NodeName};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

impl Head {
    /// Cordons a node, or lets it take something again.
    pub(crate) fn cordon(&self, name: &str, on: bool, dry_run: bool, actor: &Actor) -> Result<NodeView, ApiError> {
        let node = self.lender_named(name)?;
        let is_so = self.inner.borrow().state.cordoned.contains_key(&node) == on;
        if !dry_run && !is_so {
            let event = match on {
                true => Event::NodeCordoned { node: node.clone() },
                false => Event::NodeUncordoned { node: node.clone() },
            };
            self.record(actor, event)?;
        }
        let view = self.node_views().into_iter().find(|view| view.node == node);
        view.ok_or_else(|| fault(FaultClass::Internal, format!("{node} has no view")))
    }

    pub(crate) fn lender_named(&self, name: &str) -> Result<NodeName, ApiError> {
        let node = self.node_named(name)?;
        let inner = self.inner.borrow();
        let lends = inner.cfg.config.nodes.iter().any(|n| n.name == node && n.role == Role::Worker);
        let what = || format!("{node} is the head, which lends to nobody. Nothing was changed.");
        lends.then_some(node.clone()).ok_or_else(|| fault(FaultClass::Usage, what()))
    }

    /// Nothing new comes to a node that is cordoned.
    pub(crate) fn not_cordoned(&self, node: &NodeName, so: &str) -> Result<(), ApiError> {
        if !self.inner.borrow().state.cordoned.contains_key(node) {
            return Ok(());
        }
        let reason = Reason::new(ReasonCode::Cordon, format!("{node} is cordoned"));
        Err(ApiError { hint: Some(format!("grid node uncordon {node}")), ..refused(&reason, so) })
    }

    /// Cordons a node and ends every boost on it, so that what lives there goes home or to another lease; waits for that.
    pub(crate) async fn drain(&self, name: &str, ask: DrainAsk, actor: Actor) -> Result<DrainReply, ApiError> {
        let begun = Instant::now();
        let node = self.lender_named(name)?;
        let boosts = self.boosts_on(&node);
        if ask.dry_run {
            let steps = boosts.iter().map(|boost| self.drain_step(boost)).collect();
            return Ok(self.drained(&node, &boosts, steps, Millis(0)));
        }
        self.not_stopped("it was not drained, and nothing was changed")?;
        self.cordon(name, true, false, &actor)?;
        let mut ending = BTreeSet::new();
        while self.is_draining(&node, &mut ending, &actor)? && begun.elapsed() < Duration::from_millis(ask.within.0) {
            self.await_change(Duration::from_millis(100)).await;
        }
        Ok(self.drained(&node, &boosts, Vec::new(), Millis(begun.elapsed().as_millis() as u64)))
    }

    pub(crate) fn boosts_on(&self, node: &NodeName) -> Vec<Boost> {
        self.inner.borrow().state.live_boosts().filter(|b| b.lender == *node).cloned().collect()
    }

    /// Begins the end of each boost there once; one that is being granted has to be active first. True while any is open.
    fn is_draining(&self, node: &NodeName, ending: &mut BTreeSet<BoostId>, actor: &Actor) -> Result<bool, ApiError> {
        for boost in self.boosts_on(node) {
            let has_begun = matches!(boost.state, BoostState::Granting | BoostState::Ending { .. });
            if has_begun || !ending.insert(boost.id.clone()) {
                continue;
            }
            self.record(actor, Event::BoostEnding { boost: boost.id.clone(), why: EndReason::Drained })?;
            let head = self.clone();
            tokio::task::spawn_local(async move { head.end_boost(&boost.id).await });
        }
        Ok(self.boosts_on(node).iter().any(|b| !matches!(b.state, BoostState::Overdue { .. })))
    }

    fn drain_step(&self, boost: &Boost) -> DrainStep {
        let boost = Boost { state: BoostState::Ending { why: EndReason::Drained }, ..boost.clone() };
        let guests = self.inner.borrow().state.guests_at_end(&boost.id);
        let list = |ids: &[grid_types::OffloadId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let what = match at_end(&boost, &guests, &self.room_elsewhere(&boost)) {
            EndStep::Wait { offloads } => {
                format!("{} under way: finished, or cancelled before the commit", list(&offloads))
            }
            EndStep::RecallHome { offloads } => format!("{} home", list(&offloads)),
            EndStep::MoveOn { moves } => {
                let each: Vec<_> = moves.iter().map(|(offload, to)| format!("{offload} into {to}")).collect();
                each.join(", ")
            }
            EndStep::Park { offloads } => {
                format!("{} parked on its disk, as the boost's --at-end says", list(&offloads))
            }
            EndStep::StayOverdue { detail } => format!("STAYS: {detail}"),
            EndStep::EndGuests { offloads } => format!("{} ended", list(&offloads)),
            EndStep::Close => "nobody lives in it".to_owned(),
        };
        DrainStep { boost: boost.id, what }
    }

    fn drained(&self, node: &NodeName, before: &[Boost], steps: Vec<DrainStep>, took: Millis) -> DrainReply {
        let boosts: Vec<BoostView> =
            before.iter().filter_map(|b| self.boost(&b.id).ok()).map(|b| self.view_of(&b)).collect();
        let on_its_disk = |v: &grid_types::api::OffloadView| {
            v.record.phase == OffloadPhase::Parked && v.record.parked.as_ref().is_some_and(|at| at.node == *node)
        };
        let parked = self.offload_views().into_iter().filter(on_its_disk).collect();
        DrainReply { node: node.clone(), boosts, steps, parked, took }
    }
}
