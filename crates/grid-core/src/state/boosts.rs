//! Events of boosts.

use super::{ApplyError, State};
use crate::boost::{BoostEvent, transition};
use grid_types::BoostId;
use grid_types::boost::{Boost, BoostState};
use grid_types::event::{Actor, Event, EventRecord, OffloadPhase};

impl State {
    pub(super) fn boost_event(&mut self, rec: &EventRecord) -> Result<(), ApplyError> {
        match &rec.event {
            Event::LeaseGranted { boost } => self.granted(boost),
            Event::BoostActivated { boost, enforced } => {
                self.step(boost, BoostEvent::Activated)?;
                self.enforced.insert(boost.clone(), enforced.clone());
                self.metrics.activations += 1;
                Ok(())
            }
            Event::BoostFailed { boost, detail } => {
                self.step(boost, BoostEvent::Failed { detail: detail.clone() })?;
                self.metrics.boosts_failed += 1;
                Ok(())
            }
            Event::BoostExtended { boost, until, until_unix, epoch } => {
                let b = self.boost(boost)?;
                if *epoch != b.epoch + 1 {
                    return Err(ApplyError::Epoch { boost: boost.clone(), last: b.epoch, got: *epoch });
                }
                let b = self.step(boost, BoostEvent::Extended)?;
                (b.until, b.until_unix, b.epoch) = (*until, *until_unix, *epoch);
                b.boot_id.clone_from(&rec.boot_id);
                Ok(())
            }
            Event::BoostEnding { boost, why } => {
                self.step(boost, BoostEvent::EndBegun { why: *why })?;
                let guests: Vec<_> = self.guests(boost).iter().map(|o| o.id.clone()).collect();
                self.recall_failed.retain(|id| !guests.contains(id));
                Ok(())
            }
            Event::BoostOverdue { boost, detail } => {
                self.step(boost, BoostEvent::Overdue { detail: detail.clone() }).map(drop)
            }
            Event::GuestsFrozen { boost, .. } => {
                self.holding(boost)?;
                self.frozen.insert(boost.clone());
                if matches!(rec.actor, Actor::Lender { .. }) {
                    self.taken_back.insert(boost.clone());
                }
                Ok(())
            }
            Event::GuestsThawed { boost, .. } => {
                self.taken_back.remove(boost);
                self.frozen.remove(boost).then_some(()).ok_or(ApplyError::Already("its guests are not frozen"))
            }
            Event::BoostEnded { boost, why } => {
                self.no_guests(boost)?;
                self.frozen.remove(boost);
                self.taken_back.remove(boost);
                self.step(boost, BoostEvent::LeaseEmpty { why: *why, at: rec.at }).map(drop)
            }
            _ => Ok(()),
        }
    }

    fn holding(&self, id: &BoostId) -> Result<(), ApplyError> {
        let holds = self.boost(id)?.state.holds_capacity();
        holds.then_some(()).ok_or(ApplyError::Already("it holds nothing"))
    }

    /// What the lender's kernel read back of a boost's limits; none before it was active.
    pub fn enforced(&self, boost: &BoostId) -> Option<&String> {
        self.enforced.get(boost)
    }

    fn granted(&mut self, boost: &Boost) -> Result<(), ApplyError> {
        if boost.state != BoostState::Granting {
            return Err(ApplyError::NotGranting(boost.id.clone()));
        }
        if self.boosts.contains_key(&boost.id) {
            return Err(ApplyError::Exists(boost.id.to_string()));
        }
        self.boosts.insert(boost.id.clone(), boost.clone());
        Ok(())
    }

    pub(super) fn boost(&self, id: &BoostId) -> Result<&Boost, ApplyError> {
        self.boosts.get(id).ok_or_else(|| ApplyError::UnknownBoost(id.clone()))
    }

    fn step(&mut self, id: &BoostId, event: BoostEvent) -> Result<&mut Boost, ApplyError> {
        let boost = self.boosts.get_mut(id).ok_or_else(|| ApplyError::UnknownBoost(id.clone()))?;
        boost.state =
            transition(&boost.state, event).map_err(|source| ApplyError::Boost { boost: id.clone(), source })?;
        Ok(boost)
    }

    /// A move in doubt does not hold an empty lease: the doubt is about the past.
    fn no_guests(&self, id: &BoostId) -> Result<(), ApplyError> {
        let guests: Vec<_> =
            self.guests(id).into_iter().filter(|o| o.phase != OffloadPhase::InDoubt).map(|o| o.id.clone()).collect();
        if guests.is_empty() { Ok(()) } else { Err(ApplyError::GuestsInside { boost: id.clone(), guests }) }
    }
}
