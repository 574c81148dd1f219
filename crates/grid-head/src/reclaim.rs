//! A lender takes a lease back: its guests are frozen at once, then they leave, each as the boost's `--at-end` says; until
//! the deadline the caller waits for that. What could not leave stays frozen, and that is said; it is ended only where
//! that was asked for.

use crate::head::{Head, fault, refused};
use grid_core::lend;
use grid_engine::Agents;
use grid_types::api::{ApiError, ReclaimAsk, ReclaimReply};
use grid_types::boost::{Boost, BoostState, EndReason};
use grid_types::event::{Actor, Event};
use grid_types::exit::FaultClass;
use grid_types::lend::{Lending, TakenBack};
use grid_types::wire::{Answer, LeaseHolding, Request};
use grid_types::{BoostId, Millis, NodeName};
use std::time::{Duration, Instant};

impl Head {
    pub(crate) async fn boost_reclaim(
        &self,
        id: &BoostId,
        ask: ReclaimAsk,
        actor: Actor,
    ) -> Result<ReclaimReply, ApiError> {
        let begun = Instant::now();
        let boost = self.boost(id)?;
        self.can_reclaim(&boost, ask.lift)?;
        let frozen = if ask.dry_run { None } else { Some(self.set_guests(&boost, !ask.lift, &actor).await?) };
        if !ask.lift && !ask.dry_run {
            self.begin_end(&boost, &actor)?;
            let head = self.clone();
            let own = id.clone();
            tokio::task::spawn_local(async move { head.end_boost(&own).await });
            self.until_over(id, Duration::from_millis(ask.within.0)).await;
            if ask.end && !matches!(self.boost(id)?.state, BoostState::Ended { .. }) {
                self.end_reclaimed(&boost, &actor).await?;
            }
        }
        let took = Millis(begun.elapsed().as_millis() as u64);
        Ok(ReclaimReply { boost: self.view_of(&self.boost(id)?), frozen, took })
    }

    fn can_reclaim(&self, boost: &Boost, lift: bool) -> Result<(), ApiError> {
        let conflict = |what: String| Err(fault(FaultClass::Conflict, format!("{what}. Nothing was changed.")));
        if !boost.state.holds_capacity() || boost.state == BoostState::Granting {
            return conflict(format!("boost {} holds nothing that its lender could take back", boost.id));
        }
        if lift && !self.inner.borrow().state.frozen.contains(&boost.id) {
            return conflict(format!("boost {} was not taken back", boost.id));
        }
        if lift { Ok(()) } else { self.not_stopped("nothing was frozen or changed") }
    }

    /// The lender's agent freezes, or thaws; how long that took is its own word.
    async fn set_guests(&self, boost: &Boost, freeze: bool, actor: &Actor) -> Result<Millis, ApiError> {
        let request = Request::ReclaimLease { lease: boost.lease.clone(), freeze };
        let (guests, took) = match self.hub().ask(&boost.lender, request).await {
            Ok(Answer::GuestsSet { guests, took }) => (guests, took),
            Ok(other) => return Err(fault(FaultClass::Internal, format!("{} answered {other:?}", boost.lender))),
            Err(reason) => return Err(refused(&reason, "nothing was taken back, and nothing was changed")),
        };
        let boost = boost.id.clone();
        let event = match freeze {
            true => Event::GuestsFrozen { boost, guests, took, why: None },
            false => Event::GuestsThawed { boost, guests, took: Some(took) },
        };
        self.record(actor, event)?;
        Ok(took)
    }

    /// What the owner of a lender took back himself, or gave back, without the head: it is heard of with the lender's facts,
    /// also where that is long after.
    pub(crate) fn heed_owner(&self, node: &NodeName, leases: &[LeaseHolding]) {
        let actor = Actor::Lender { node: node.clone() };
        for holding in leases {
            let id = BoostId::new(holding.lease.as_str());
            let Ok(boost) = self.boost(&id) else { continue };
            let known = self.inner.borrow().state.taken_back.contains(&id);
            match &holding.taken_back {
                _ if boost.lender != *node || boost.state == BoostState::Granting || !boost.state.holds_capacity() => {}
                // While it is being granted its end cannot begin: the next facts say it again.
                Some(TakenBack { guests, took, why }) if !known && self.begin_end(&boost, &actor).is_ok() => {
                    let (guests, took, why) = (*guests, *took, why.clone());
                    self.note_by(&actor, Event::GuestsFrozen { boost: id.clone(), guests, took, why });
                    let head = self.clone();
                    tokio::task::spawn_local(async move { head.end_boost(&id).await });
                }
                None if known => {
                    let guests = self.inner.borrow().state.guests(&id).len() as u32;
                    self.note_by(&actor, Event::GuestsThawed { boost: id, guests, took: None });
                }
                _ => {}
            }
        }
    }

    /// Its owner, or a rule of his, says no to all that is new, or no longer does.
    pub(crate) fn heed_lending(&self, node: &NodeName, lending: &Lending) {
        let known = self.inner.borrow().state.no_lending.get(node).cloned();
        let event = match (known, &lending.closed) {
            (Some(_), None) => Event::LendingOpen { node: node.clone() },
            (Some(known), Some(closed)) if lend::same(&known, closed) => return,
            (_, Some(closed)) => Event::LendingClosed { node: node.clone(), closed: closed.clone() },
            (None, None) => return,
        };
        self.note_by(&Actor::Lender { node: node.clone() }, event);
    }

    fn begin_end(&self, boost: &Boost, actor: &Actor) -> Result<(), ApiError> {
        match self.boost(&boost.id)?.state {
            BoostState::Ending { why: EndReason::Reclaimed } => Ok(()),
            _ => self.record(actor, Event::BoostEnding { boost: boost.id.clone(), why: EndReason::Reclaimed }),
        }
    }

    /// Waits until its end is decided: it went back, or its guests stay.
    async fn until_over(&self, id: &BoostId, within: Duration) {
        let deadline = Instant::now() + within;
        let open = || self.boost(id).is_ok_and(|b| matches!(b.state, BoostState::Ending { .. }));
        while open() && Instant::now() < deadline {
            self.await_change(Duration::from_millis(100)).await;
        }
    }

    /// Its deadline has passed, and it was asked for.
    async fn end_reclaimed(&self, boost: &Boost, actor: &Actor) -> Result<(), ApiError> {
        self.begin_end(boost, actor)?;
        self.end_guests(boost).await;
        self.end_boost(&boost.id).await;
        self.until_over(&boost.id, Duration::from_secs(5)).await;
        Ok(())
    }
}
