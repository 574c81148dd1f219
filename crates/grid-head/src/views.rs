//! What the API shows: made from the state and from what was heard, never kept.

use crate::head::{Head, fault};
use crate::privacy::Reader;
use grid_core::lease::lendable;
use grid_core::lend;
use grid_os::clock::unix_ms;
use grid_types::api::{ApiError, AutoView, BoostView, NodeView, OffloadView, Status};
use grid_types::boost::{Boost, BoostState};
use grid_types::event::OffloadPhase;
use grid_types::exit::FaultClass;
use grid_types::plan::Plan;
use grid_types::policy::Role;
use grid_types::{BoostId, Millis, OffloadId, PlanId, Resources};

impl Head {
    pub(crate) fn node_views(&self) -> Vec<NodeView> {
        let lenders = self.lenders();
        let inner = self.inner.borrow();
        let policy = &inner.cfg.config.policy;
        let view = |n: &grid_types::policy::NodeConfig| {
            let heard = inner.heard.get(&n.name);
            let seen = heard.map(|h| Millis(grid_os::clock::boot_ms().0.saturating_sub(h.at.0)));
            let fresh = seen.is_some_and(|s| s <= policy.limits.stale_after);
            let lender = lenders.iter().find(|l| l.node == n.name).map(|l| lendable(l, policy));
            let (lendable, why) = match lender {
                Some(Ok(l)) => (Some(l.amount), None),
                Some(Err(reason)) => (None, Some(reason.detail)),
                None => (None, None),
            };
            let state = match (fresh, seen) {
                (true, _) => "ready",
                (false, Some(_)) => "silent",
                (false, None) => "unknown",
            };
            NodeView {
                node: n.name.clone(),
                head: n.role == Role::Head,
                state: state.to_owned(),
                seen,
                facts: heard.map(|h| h.facts.clone()),
                lendable,
                lent: inner.state.promised(&n.name),
                limited: heard.and_then(|h| lend::limited(h.facts.lending.as_ref()?)).filter(|_| why.is_none()),
                why,
                cordoned: inner.state.cordoned.get(&n.name).cloned(),
                added: inner.state.added.get(&n.name).cloned(),
            }
        };
        let mut views: Vec<NodeView> = inner.cfg.config.nodes.iter().map(view).collect();
        views.sort_by_key(|v| !v.head);
        views
    }

    pub(crate) fn view_of(&self, boost: &Boost) -> BoostView {
        let ends_in = self.clock().left(boost);
        let inner = self.inner.borrow();
        let guests = inner.state.guests(&boost.id);
        let promised = guests.iter().fold(Resources::default(), |sum, g| sum.saturating_add(&g.needed));
        let guests: Vec<OffloadId> = guests.iter().map(|g| g.id.clone()).collect();
        let held = inner.heard.get(&boost.lender).and_then(|h| h.leases.iter().find(|l| l.lease == boost.lease));
        BoostView {
            ends_in,
            promised,
            memory_used: held.map(|l| l.memory_used),
            // The pid 1 of each guest's tree is grid's.
            processes: held.map(|l| l.processes.saturating_sub(guests.len() as u32)),
            guests,
            enforced: inner.state.enforced(&boost.id).cloned(),
            boost: boost.clone(),
        }
    }

    pub(crate) fn boost_views(&self) -> Vec<BoostView> {
        let boosts: Vec<Boost> = self.inner.borrow().state.boosts.values().cloned().collect();
        boosts.iter().map(|b| self.view_of(b)).collect()
    }

    /// In the order in which they began.
    pub(crate) fn offload_views(&self) -> Vec<OffloadView> {
        let ids: Vec<OffloadId> = self.inner.borrow().state.offloads.keys().cloned().collect();
        let mut views: Vec<OffloadView> = ids.iter().filter_map(|id| self.offload_view(id).ok()).collect();
        views.sort_by_key(|v| v.record.started_at);
        views
    }

    pub(crate) fn auto_view(&self) -> AutoView {
        let metrics = self.inner.borrow().state.metrics.clone();
        AutoView { mode: self.auto_mode(), would_have_moved: metrics.observed, moved: metrics.offloaded_by_itself }
    }

    /// What this reader sees of everything.
    pub(crate) fn status(&self, reader: Reader) -> Status {
        let live = |v: &BoostView| v.boost.state.holds_capacity();
        let boosts = self.boost_views().into_iter().filter(live).map(|b| reader.boost(b));
        let boosts: Vec<BoostView> = boosts.collect();
        let mut away = reader.offloads(self.offload_views());
        away.retain(|o| o.record.phase.is_guest());
        let nodes = self.node_views();
        let mut warnings = Vec::new();
        for node in nodes.iter().filter(|n| n.state == "silent") {
            let guests = away.iter().filter(|o| o.record.destination == node.node).count();
            let what =
                if guests == 0 { "nothing of yours is there".into() } else { format!("{guests} of yours are there") };
            warnings.push(format!("{} silent; {what}", node.node));
        }
        for boost in &boosts {
            if let BoostState::Overdue { detail } = &boost.boost.state {
                warnings.push(format!("{} overdue: {detail}", boost.boost.id));
            }
        }
        for o in away.iter().filter(|o| o.record.phase == OffloadPhase::InDoubt) {
            warnings.push(format!("{} in doubt: grid offload resolve {}", o.record.id, o.record.id));
        }
        let cluster = self.inner.borrow().cfg.config.name.clone();
        Status {
            cluster,
            now: unix_ms(),
            nodes,
            auto: self.auto_view(),
            boosts,
            away,
            warnings,
            stopped: self.stop_view(),
        }
    }

    pub(crate) fn boost_id(&self, text: &str) -> Result<BoostId, ApiError> {
        let inner = self.inner.borrow();
        let mut by_time: Vec<&Boost> = inner.state.boosts.values().collect();
        by_time.sort_by_key(|b| b.granted_at);
        let ids: Vec<&str> = by_time.iter().map(|b| b.id.as_str()).collect();
        pick(text, &ids, "boost").map(BoostId::new)
    }

    /// An offload by its id, or by the number of its process at home: the reader's own comes first. It may be another's:
    /// what may be done with it is the caller's to decide.
    pub(crate) fn offload_id(&self, text: &str, reader: Reader) -> Result<OffloadId, ApiError> {
        let inner = self.inner.borrow();
        let mut by_time: Vec<_> = inner.state.offloads.values().collect();
        by_time.sort_by_key(|o| (reader.sees(o.uid), o.started_at));
        if let Ok(pid) = text.parse::<i32>() {
            let of_pid = || by_time.iter().rev().filter(|o| o.process.pid == pid || o.home_pid == Some(pid));
            // One that failed left it where it was.
            let came_about = of_pid().find(|o| o.phase != OffloadPhase::Failed);
            if let Some(o) = came_about.or_else(|| of_pid().next()) {
                return Ok(o.id.clone());
            }
        }
        let ids: Vec<&str> = by_time.iter().map(|o| o.id.as_str()).collect();
        pick(text, &ids, "offload").map(OffloadId::new)
    }

    /// A plan by its id, the reader's own first; as [`Head::offload_id`].
    pub(crate) fn plan_id(&self, text: &str, reader: Reader) -> Result<PlanId, ApiError> {
        let inner = self.inner.borrow();
        let (own, rest): (Vec<&Plan>, Vec<_>) = inner.state.plans.iter().partition(|p| reader.sees_plan(p));
        let ids: Vec<&str> = rest.iter().chain(&own).map(|p| p.id.as_str()).collect();
        pick(text, &ids, "plan").map(PlanId::new)
    }
}

/// The id that a person means: whole, an unambiguous prefix, or `last`. `ids` in the order of their making.
fn pick(text: &str, ids: &[&str], what: &str) -> Result<String, ApiError> {
    if text == "last" {
        let last = ids.last().ok_or_else(|| fault(FaultClass::NotFound, format!("there is no {what} yet")))?;
        return Ok((*last).to_owned());
    }
    if let Some(exact) = ids.iter().find(|id| **id == text) {
        return Ok((*exact).to_owned());
    }
    let hits: Vec<&&str> = ids.iter().filter(|id| id.starts_with(text)).collect();
    match hits.as_slice() {
        [one] => Ok((**one).to_owned()),
        [] => Err(fault(FaultClass::NotFound, format!("no {what} {text:?}. Nothing was changed."))),
        many => {
            let list = many.iter().map(|m| **m).collect::<Vec<_>>().join(", ");
            Err(fault(FaultClass::Usage, format!("{text:?} can be {list}: type more of it. Nothing was changed.")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_may_be_short_where_that_is_clear() {
        let ids = ["b-7k2", "b-7xx", "b-a"];
        assert_eq!(pick("b-a", &ids, "boost"), Ok("b-a".into()));
        assert_eq!(pick("b-7k", &ids, "boost"), Ok("b-7k2".into()));
        assert_eq!(pick("last", &ids, "boost"), Ok("b-a".into()));
        assert_eq!(pick("b-7", &ids, "boost").unwrap_err().class, FaultClass::Usage);
        assert_eq!(pick("x", &ids, "boost").unwrap_err().class, FaultClass::NotFound);
    }
}
