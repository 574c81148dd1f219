//! Looks at what runs on this node, for its own decisions and for the head.

use crate::agent::Agent;
use crate::destination::Incoming;
use crate::link::tracing_line;
use crate::preflight::foresee;
use grid_types::facts::{Namespaces, TreeFacts};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::{Answer, Notice, Party};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Less than between two ticks.
const TICK_JITTER: Duration = Duration::from_millis(300);

impl Agent {
    pub(crate) fn processes(&mut self) -> Result<Answer, Reason> {
        self.resample()?;
        let stats = self.sample.as_ref().map(|s| s.procs.clone()).unwrap_or_default();
        let tree_roots = self.tree_roots().into_iter().collect();
        Ok(Answer::Processes { stats, own: self.own_namespaces(), grid_pids: self.grid_pids(), tree_roots })
    }

    pub(crate) fn own_namespaces(&self) -> Namespaces {
        self.proc.deep(std::process::id() as i32).map(|d| d.ns).unwrap_or_default()
    }

    /// Roots of the trees that came here and live here.
    pub(crate) fn tree_roots(&self) -> BTreeSet<i32> {
        self.incoming.values().filter_map(Incoming::living_root).collect()
    }

    /// Processes that run grid's own program.
    pub(crate) fn grid_pids(&self) -> Vec<i32> {
        let Some(sample) = &self.sample else { return Vec::new() };
        let candidates = sample.procs.iter().filter(|p| p.comm.starts_with("grid") || p.comm == "criu");
        candidates.map(|p| p.id.pid).collect()
    }

    fn resample(&mut self) -> Result<(), Reason> {
        let sample = self.proc.all_stats(self.sample.as_ref());
        self.sample = Some(sample.map_err(|e| Reason::new(ReasonCode::Unknown, e.to_string()))?);
        Ok(())
    }

    pub(crate) fn trees(&mut self, roots: &[i32]) -> Result<Answer, Reason> {
        self.resample()?;
        Ok(Answer::Trees { trees: roots.iter().filter_map(|pid| self.tree(*pid).ok()).collect() })
    }

    /// The tree under this process as it is in the last sample, with its GPU memory.
    fn tree(&self, pid: i32) -> Result<TreeFacts, Reason> {
        let unknown = |e: String| Reason::new(ReasonCode::Unknown, e);
        let sample = self.sample.as_ref().ok_or_else(|| unknown("nothing was sampled yet".into()))?;
        let mut tree = self.proc.tree(sample, pid).map_err(|e| unknown(e.to_string()))?;
        if let Ok(users) = self.gpu.processes() {
            grid_os::gpu::attribute(&mut tree, &users);
        }
        tree.foreseen = foresee(&tree).err();
        let Some((came_by, stage)) =
            self.came_by(pid).and_then(|a| self.incoming.get_key_value(&a)).map(|(a, i)| (a, &i.record.stage))
        else {
            return Ok(tree);
        };
        self.add_locks(came_by, &mut tree);
        // The images that brought it showed its filter: what it made of its environment since does not matter.
        tree.root.deep.iter_mut().for_each(|deep| deep.claims_run |= stage.filtered);
        if stage.private_tmp {
            tree.private_tmp =
                Some(grid_os::private_tmp::used(pid).map_err(|e| unknown(format!("its own /tmp: {e}")))?);
        }
        Ok(tree)
    }

    /// A fresh look at one tree.
    pub(crate) fn fresh_tree(&mut self, pid: i32) -> Result<TreeFacts, Reason> {
        self.resample()?;
        self.tree(pid)
    }

    /// Tells the head of this node, where that is due.
    pub(crate) fn tell_facts(&mut self) {
        let linked = self.knows(&Party::Daemon) || !self.is_hub();
        if !linked || !self.facts_are_due() {
            return;
        }
        match self.node.read(&self.cfg.node, self.gpu.read()) {
            Ok(mut facts) => {
                self.faults.alter(&mut facts);
                facts.lending = self.cfg.lends.map(|_| self.lending());
                // Use is known from the second look on, which is soon after the first.
                self.told_facts = facts.cpu_used.map(|_| Instant::now());
                facts.link = self.cfg.link.as_deref().and_then(grid_os::link::read);
                let leases = self.lease_holdings();
                self.notice(Notice::Facts { facts: Box::new(facts), leases });
            }
            Err(e) => tracing_line(&e.to_string()),
        }
    }

    fn facts_are_due(&self) -> bool {
        let every = Duration::from_millis(self.cfg.facts_every.map_or(0, |every| every.0));
        // Ticks come a little late now and then.
        self.told_facts.is_none_or(|told| told.elapsed() + TICK_JITTER >= every)
    }
}
