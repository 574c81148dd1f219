//! Which trees deserve the deep look, from the cheap facts alone.
//!
//! Walks from init downwards. What is left alone by owner or by name (a shell, a desktop, a service) is passed, and its
//! children are considered; the first process that may be chosen becomes the root of a tree, counted with all its
//! descendants, and nothing inside it is listed again. Every process that stays has one reason.

use super::{DetectContext, names, rules, worth};
use grid_types::facts::ProcStat;
use grid_types::ids::ProcId;
use grid_types::policy::{Detector, RuleAction};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::units::{Bytes, MilliCpu, Resources};
use std::collections::HashMap;

/// The outcome: what to look at, and what stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FirstPass {
    /// Roots of trees that deserve the deep look, those with most memory first.
    pub look: Vec<i32>,
    /// What stays, with the first reason found.
    pub stays: Vec<(ProcId, Reason)>,
}

/// All processes of the node.
pub fn first_pass(stats: &[ProcStat], ctx: &DetectContext, policy: &Detector) -> FirstPass {
    let forest = Forest::new(stats);
    let tops = (0..stats.len()).filter(|i| forest.parent[*i].is_none()).collect();
    forest.walk(tops, ctx, policy)
}

/// Everything below one process, which itself is left alone.
pub fn below(stats: &[ProcStat], pid: i32, ctx: &DetectContext, policy: &Detector) -> FirstPass {
    let forest = Forest::new(stats);
    let tops = (0..stats.len()).filter(|i| stats[*i].ppid == pid).collect();
    forest.walk(tops, ctx, policy)
}

/// What became of a process, as its children see it.
#[derive(Clone)]
enum Fate {
    /// Left alone for itself: the children are considered.
    Passed,
    /// Part of a tree that is looked at.
    Inside,
    /// Stays with everything below it.
    Stays(Reason),
}

struct Forest<'a> {
    stats: &'a [ProcStat],
    parent: Vec<Option<usize>>,
    children: Vec<Vec<usize>>,
    /// Parents before children.
    order: Vec<usize>,
    memory: Vec<Bytes>,
    cpu: Vec<Option<MilliCpu>>,
    /// Processes outside the leader's tree that live in its session.
    session_outsiders: HashMap<i32, u32>,
}

impl<'a> Forest<'a> {
    fn new(stats: &'a [ProcStat]) -> Self {
        let by_pid: HashMap<i32, usize> = stats.iter().enumerate().map(|(i, p)| (p.id.pid, i)).collect();
        let parent: Vec<Option<usize>> = stats.iter().map(|p| by_pid.get(&p.ppid).copied()).collect();
        let mut children = vec![Vec::new(); stats.len()];
        parent.iter().enumerate().for_each(|(i, p)| p.iter().for_each(|p: &usize| children[*p].push(i)));
        let mut order: Vec<usize> = (0..stats.len()).filter(|i| parent[*i].is_none()).collect();
        let mut next = 0;
        while let Some(i) = order.get(next).copied() {
            order.extend(&children[i]);
            next += 1;
        }
        let mut forest = Self {
            memory: stats.iter().map(|p| p.rss).collect(),
            cpu: stats.iter().map(|p| p.cpu).collect(),
            session_outsiders: HashMap::new(),
            stats,
            parent,
            children,
            order,
        };
        forest.sum_up();
        forest.count_sessions();
        forest
    }

    /// Adds each process's use to its parent's. A tree's CPU is unknown where its root's is.
    fn sum_up(&mut self) {
        for i in self.order.iter().rev() {
            let Some(parent) = self.parent[*i] else { continue };
            self.memory[parent].0 = self.memory[parent].0.saturating_add(self.memory[*i].0);
            let own = self.cpu[*i].map_or(0, |c| c.0);
            self.cpu[parent] = self.cpu[parent].map(|c| MilliCpu(c.0.saturating_add(own)));
        }
    }

    fn count_sessions(&mut self) {
        for (i, p) in self.stats.iter().enumerate() {
            let mut up = Some(i);
            // Bounded: a torn reading could make a ring of parents.
            for _ in 0..self.stats.len() {
                match up {
                    Some(u) if self.stats[u].id.pid == p.sid => break,
                    Some(u) => up = self.parent[u],
                    None => break,
                }
            }
            if up.is_none() {
                *self.session_outsiders.entry(p.sid).or_default() += 1;
            }
        }
    }

    fn walk(&self, tops: Vec<usize>, ctx: &DetectContext, policy: &Detector) -> FirstPass {
        let mut out = FirstPass::default();
        let mut queue: Vec<(usize, Fate)> = tops.into_iter().map(|i| (i, Fate::Passed)).collect();
        let (mut next, mut look) = (0, Vec::new());
        while let Some((i, above)) = queue.get(next).cloned() {
            next += 1;
            let id = &self.stats[i].id;
            let fate = match above {
                Fate::Inside => Fate::Inside,
                // A tree that grid brought back lives below grid's processes and may move again.
                Fate::Stays(reason) if reason.code != ReasonCode::Grid || !ctx.tree_roots.contains(&id.pid) => {
                    out.stays.push((id.clone(), reason.clone()));
                    Fate::Stays(reason)
                }
                _ => match self.decide(i, ctx, policy) {
                    None => {
                        look.push(i);
                        Fate::Inside
                    }
                    Some((reason, fate)) => {
                        out.stays.push((id.clone(), reason));
                        fate
                    }
                },
            };
            queue.extend(self.children[i].iter().map(|c| (*c, fate.clone())));
        }
        look.sort_by_key(|i| std::cmp::Reverse(self.memory[*i]));
        out.look = look.into_iter().map(|i| self.stats[i].id.pid).collect();
        out
    }

    /// None makes it the root of a tree to look at; else why it stays, and what that means for its children.
    fn decide(&self, i: usize, ctx: &DetectContext, policy: &Detector) -> Option<(Reason, Fate)> {
        let p = &self.stats[i];
        let passed = |reason: Reason| Some((reason, Fate::Passed));
        let all_stay = |reason: Reason| Some((reason.clone(), Fate::Stays(reason)));
        if ctx.own_pids.contains(&p.id.pid) {
            return all_stay(Reason::new(ReasonCode::Grid, "it belongs to grid"));
        }
        if ctx.away.contains(&p.id.pid) {
            return all_stay(Reason::new(ReasonCode::Away, "it is being moved, or is away already"));
        }
        if let Some(reason) = worth::owner(p, ctx, policy) {
            return passed(reason);
        }
        if let Some(reason) = self.protections(p, ctx, policy) {
            return passed(reason);
        }
        if ctx.kept.contains(&p.id) {
            return all_stay(Reason::new(ReasonCode::Keep, "kept here by grid keep"));
        }
        if ctx.recent.contains(&p.id) {
            return all_stay(Reason::new(ReasonCode::Cooldown, "it was moved or refused a moment ago"));
        }
        let used = Resources { cpu: self.cpu[i].unwrap_or_default(), memory: self.memory[i], gpu: 0 };
        worth::too_new(p, policy).or_else(|| worth::too_small(used, self.cpu[i], policy)).and_then(all_stay)
    }

    /// Protections by rule, name, system user and session, so far as the cheap facts tell.
    fn protections(&self, p: &ProcStat, ctx: &DetectContext, policy: &Detector) -> Option<Reason> {
        if p.state == 'Z' {
            return Some(Reason::new(ReasonCode::Zombie, "it has ended and waits for its parent"));
        }
        match rules::early(policy, ctx, p) {
            rules::Early::Sure(rule) if rule.action == Some(RuleAction::Protect) => {
                return Some(Reason::new(ReasonCode::Protected, format!("rule \"{}\"", rule.name)));
            }
            rules::Early::Sure(rule) if rule.action == Some(RuleAction::Allow) => return None,
            rules::Early::MayAllow => return None,
            _ => {}
        }
        // Detached and without a terminal it may be a script: the deep look tells.
        let maybe_script = names::is_shell(&p.comm) && p.ppid == 1 && p.tty_nr == 0;
        let outsiders = self.session_outsiders.get(&p.id.pid).copied().unwrap_or(0);
        worth::system_user(p, ctx)
            .or_else(|| worth::protected_name([p.comm.as_str()]).filter(|_| !maybe_script))
            .or_else(|| {
                (outsiders > 0).then(|| {
                    Reason::new(ReasonCode::Leader, format!("it leads a session in which {outsiders} others live"))
                })
            })
    }
}
