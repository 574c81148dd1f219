//! The last look before a freeze: what the plan assumed is checked against the tree as it is now.

use crate::agent::Agent;
use crate::gate;
use crate::source::refuse_when_stopped;
use grid_core::detect::{DetectContext, judge};
use grid_core::gate as judge;
use grid_core::plan::freeze_within;
use grid_os::access::hold;
use grid_os::proc::ProcRoot;
use grid_types::Bytes;
use grid_types::facts::TreeFacts;
use grid_types::gate::{Guest, Terms};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::MoveOrder;
use std::os::fd::AsFd;

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
        if !self.is_hub() && !self.tree_roots().contains(&order.process.pid) {
            let detail =
                format!("process {} is {}'s own: only guests leave a lender", order.process.pid, self.cfg.node);
            return Err(Reason::new(ReasonCode::Owner, detail));
        }
        if !self.reaches(&order.destination) && order.destination != self.cfg.node {
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
        // Frozen by its own lender, who wants it gone.
        let came_by = self.came_by(order.process.pid);
        self.not_asleep(came_by.as_ref())?;
        let taken_back = self.reclaimed(came_by.as_ref()).is_some();
        let counts = |reason: &Reason| !(taken_back && reason.code == ReasonCode::Frozen);
        if let Some(reason) = verdict.cannot.unwrap_or_default().into_iter().find(counts) {
            return Err(reason);
        }
        // The plan of a way home, or on, forecasts nothing.
        let limit = order.link_limit.filter(|_| order.destination != self.cfg.node);
        freeze_within(
            Bytes(resident(&tree).0 + tree.private_tmp.unwrap_or_default().0),
            None,
            limit,
            order.max_frozen,
        )?;
        Ok(tree)
    }
}

/// Memory of a tree, each member's own count: copy-on-write sharing does not survive a move.
pub(crate) fn resident(tree: &TreeFacts) -> Bytes {
    Bytes(tree.all().map(|p| p.stat.rss.0).sum())
}

/// What the gate there would refuse, looked for here, where nothing is frozen yet. It is one of the facts of a tree, so that
/// whoever asks beforehand is told the same. What is root's is refused for that.
pub(crate) fn foresee(tree: &TreeFacts) -> Result<(), String> {
    if tree.root.stat.uid == 0 || tree.root.deep.is_none() {
        return Ok(());
    }
    let proc = ProcRoot::new("/proc");
    // They run: what one opens and closes meanwhile cannot be read at once. What cannot be foreseen the gate sees.
    let look = |pid: i32| (0..3).find_map(|_| proc.guest(pid).ok());
    let guests: Vec<Guest> = tree.all().filter_map(|p| look(p.stat.id.pid)).collect();
    let Some(root) = guests.first().and_then(|g| g.threads.first()) else { return Ok(()) };
    let (uid, gid) = (tree.root.stat.uid, root.gids.first().copied().unwrap_or(0));
    let terms = Terms { uid, gid, groups: root.groups.clone(), ..Terms::default() };
    for guest in &guests {
        judge::foresee(guest, &terms).map_err(|what| format!("process {} {what}", guest.pid))?;
    }
    let place =
        hold(&format!("/proc/{}/root", tree.root.stat.id.pid)).map_err(|e| format!("its root directory: {e}"))?;
    gate::check_rights(&guests, &terms, place.as_fd())
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
