//! The daemon's clockwork: nodes that fall silent, and pressure that asks for offloading.

use crate::head::Head;
use grid_core::auto_offload::{Action, SkipReason};
use grid_core::plan::Resource;
use grid_core::pressure::{Pressure, PressureKind};
use grid_core::state::NodeState;
use grid_os::clock::boot_ms;
use grid_types::boost::{Boost, BoostState, EndReason};
use grid_types::event::{Actor, Event};
use grid_types::plan::{PlanOutcome, Trigger};
use grid_types::{BoostId, Millis, NodeName};
use std::time::Duration;

/// Pauses between tries to bring home what is overdue, in milliseconds: the first, and the longest.
const RETRY_FIRST: u64 = 30_000;
const RETRY_MOST: u64 = 600_000;

impl Head {
    /// Looks once per `check_interval`, for ever.
    pub(crate) async fn keep_watch(self) {
        loop {
            let pause = self.inner.borrow().cfg.config.policy.auto_offload.check_interval;
            tokio::time::sleep(Duration::from_millis(pause.0.max(500))).await;
            self.watch_nodes();
            self.watch_overdue();
            self.watch_keeps();
            self.watch_pressure().await;
        }
    }

    fn watch_nodes(&self) {
        let stale = self.inner.borrow().cfg.config.policy.limits.stale_after;
        let names: Vec<NodeName> = self.inner.borrow().heard.keys().cloned().collect();
        for node in names.into_iter().filter(|n| self.silent_for(n).is_none_or(|age| age > stale)) {
            self.node_silent(&node);
        }
    }

    /// What stayed beyond its boost's time is tried to be brought home again, ever more rarely.
    fn watch_overdue(&self) {
        let overdue: Vec<BoostId> = {
            let mut inner = self.inner.borrow_mut();
            let live: Vec<BoostId> = inner.state.live_boosts().map(|b| b.id.clone()).collect();
            inner.retries.retain(|id, _| live.contains(id));
            let is_overdue = |b: &&Boost| matches!(b.state, BoostState::Overdue { .. });
            inner.state.live_boosts().filter(is_overdue).map(|b| b.id.clone()).collect()
        };
        let now = boot_ms();
        for id in overdue {
            let due = {
                let mut inner = self.inner.borrow_mut();
                let (next, pause) = inner.retries.entry(id.clone()).or_insert((now.0 + RETRY_FIRST, RETRY_FIRST));
                let due = now.0 >= *next;
                if due {
                    *pause = (*pause * 2).min(RETRY_MOST);
                    *next = now.0 + *pause;
                }
                due
            };
            let ending = Event::BoostEnding { boost: id.clone(), why: EndReason::Expired };
            if due && self.record(&Actor::Daemon, ending).is_ok() {
                let head = self.clone();
                tokio::task::spawn_local(async move { head.end_boost(&id).await });
            }
        }
    }

    pub(crate) fn node_seen(&self, node: &NodeName) {
        let known = matches!(self.inner.borrow().state.nodes.get(node), Some(NodeState::Seen(_)));
        if !known {
            self.note(Event::NodeSeen { node: node.clone() });
        }
    }

    pub(crate) fn node_silent(&self, node: &NodeName) {
        let seen = matches!(self.inner.borrow().state.nodes.get(node), Some(NodeState::Seen(_)));
        if seen {
            self.note(Event::NodeSilent { node: node.clone() });
        }
    }

    async fn watch_pressure(&self) {
        let head = self.head_name();
        let changes = {
            let mut inner = self.inner.borrow_mut();
            let heard = inner.heard.get(&head).cloned();
            let age = heard.as_ref().map_or(Millis(u64::MAX), |h| Millis(boot_ms().0.saturating_sub(h.at.0)));
            let policy = inner.cfg.config.policy.clone();
            inner.monitor.step(heard.as_ref().map(|h| &h.facts), age, &policy, boot_ms())
        };
        for change in changes {
            match change.kind {
                // The hold time has only begun: a spike is not an event.
                PressureKind::Rising => {}
                PressureKind::Sustained => self.pressed(change).await,
                PressureKind::Cleared => self.cleared(change.resource),
            }
        }
    }

    async fn pressed(&self, change: Pressure) {
        let (limit, act) = match self.pressure_action(change.critical) {
            Action::Run { limit } => (limit, true),
            Action::Observe { limit } => (limit, false),
            Action::Skip { reason: SkipReason::Stopped } => {
                let rule = Actor::Rule { name: "pressure".into() };
                let (detail, why) = (change.detail, SkipReason::Stopped.to_string());
                return self.note_by(&rule, Event::PressureSkipped { detail, why });
            }
            Action::Skip { .. } => return,
        };
        let before = self.inner.borrow().state.seq;
        let trigger = Trigger::Pressure { detail: change.detail };
        let rule = Actor::Rule { name: "pressure".into() };
        let _ = self.offload_round(trigger, None, limit, act, rule).await;
        let mut inner = self.inner.borrow_mut();
        let made = inner.state.observed_since(before);
        inner.observed.extend(made.map(|plan| (change.resource, plan, boot_ms())));
    }

    /// Plans that were only shown for this pressure were not needed: that is what became of them.
    fn cleared(&self, resource: Resource) {
        let made = std::mem::take(&mut self.inner.borrow_mut().observed);
        let (over, rest): (Vec<_>, Vec<_>) = made.into_iter().partition(|(of, ..)| *of == resource);
        self.inner.borrow_mut().observed = rest;
        for (_, plan, at) in over {
            let outcome = PlanOutcome::Cleared(Millis(boot_ms().0.saturating_sub(at.0)));
            self.note_by(&Actor::Rule { name: "pressure".into() }, Event::PlanSettled { plan, outcome });
        }
    }
}
