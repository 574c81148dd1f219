//! The last look before a freeze: what the plan assumed is checked against the tree as it is now.

use crate::agent::Agent;
use crate::source::refuse_when_stopped;
use grid_core::detect::{DetectContext, judge};
use grid_types::facts::TreeFacts;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::MoveOrder;

impl Agent {
    /// The tree as it is now, where it may be moved by this order.
    pub(crate) fn preflight(&mut self, order: &MoveOrder) -> Result<TreeFacts, Reason> {
        refuse_when_stopped(&self.cfg.stop)?;
        if order.process.boot_id != self.boot_id {
            return Err(Reason::new(ReasonCode::Changed, format!("{} has rebooted since", self.cfg.node)));
        }
        let tree = self.fresh_tree(order.process.pid).map_err(|_| gone(order))?;
        if tree.root.stat.id != order.process {
            return Err(gone(order));
        }
        if !self.reaches(&order.destination) {
            return Err(Reason::new(ReasonCode::Silent, format!("no link to {}", order.destination)));
        }
        self.has_room()?;
        let moving = |pid: i32| self.sources.values().any(|s| s.is_moving() && s.holds(pid));
        if let Some(pid) = tree.all().map(|p| p.stat.id.pid).find(|pid| moving(*pid)) {
            return Err(Reason::new(ReasonCode::Away, format!("process {pid} is being moved already")));
        }
        let ctx = DetectContext {
            own_pids: self.grid_pids().into_iter().collect(),
            tree_roots: self.tree_roots(),
            own_ns: self.own_namespaces(),
            named: true,
            private_paths: order.private_paths.clone(),
            ..DetectContext::default()
        };
        let verdict = judge(&tree, &ctx, &order.detector);
        match verdict.cannot.unwrap_or_default().into_iter().next() {
            Some(reason) => Err(reason),
            None => Ok(tree),
        }
    }
}

impl Agent {
    /// What begins here can be written down to its end.
    pub(crate) fn has_room(&self) -> Result<(), Reason> {
        self.ledger.hold_room().map_err(|e| Reason::new(ReasonCode::Disk, format!("{}: {e}", self.cfg.node)))
    }
}

fn gone(order: &MoveOrder) -> Reason {
    Reason::new(ReasonCode::Changed, format!("process {} has ended, or its number is another's now", order.process.pid))
}
