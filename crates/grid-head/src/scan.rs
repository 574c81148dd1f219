//! What could move: the facts from the head's agent, judged, and made into a plan.

use crate::head::{Head, fault, refused};
use grid_core::detect::{DetectContext, below, first_pass, judge, passes_below};
use grid_core::plan::{PlanInput, limit_for, make_plan};
use grid_engine::Agents;
use grid_os::clock::{boot_ms, unix_ms};
use grid_types::api::{ApiError, StayCount};
use grid_types::event::OffloadPhase;
use grid_types::exit::FaultClass;
use grid_types::facts::{ProcStat, TreeFacts};
use grid_types::plan::{Plan, Trigger, Verdict};
use grid_types::policy::{Detector, TcpPolicy};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::{Answer, Request};
use grid_types::{BoostId, NodeName, PlanId, ProcId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Two samples closer than this say too little about CPU.
const SAMPLE_GAP: Duration = Duration::from_millis(150);
/// So many trees are looked at closely at most: those with most memory first.
const LOOK_AT_MOST: usize = 200;

/// Everything that a scan saw.
pub(crate) struct Seen {
    pub(crate) scanned: u32,
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) stays: Vec<(ProcId, Reason)>,
    /// Of those that are not worth it, what a close look says all the same.
    pub(crate) closer: Vec<Verdict>,
}

/// Which leases a plan may use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Only {
    pub(crate) boost: Option<BoostId>,
    pub(crate) node: Option<NodeName>,
}

impl Head {
    pub(crate) async fn processes(&self) -> Result<(Vec<ProcStat>, DetectContext), ApiError> {
        let head = self.head_name();
        let ask = || async {
            match self.hub().ask(&head, Request::Processes).await {
                Ok(Answer::Processes { stats, own, grid_pids, tree_roots }) => Ok((stats, own, grid_pids, tree_roots)),
                Ok(other) => Err(fault(FaultClass::Internal, format!("the head's agent answered {other:?}"))),
                Err(reason) => Err(refused(&reason, "the head's agent did not list its processes")),
            }
        };
        let first = ask().await?;
        let known = first.0.iter().filter(|s| s.cpu.is_some()).count();
        let (stats, own_ns, own, roots) = if known * 2 < first.0.len() {
            tokio::time::sleep(SAMPLE_GAP).await;
            ask().await?
        } else {
            first
        };
        self.end_keeps(&stats);
        let inner = self.inner.borrow();
        let cooldown = inner.cfg.config.policy.auto_offload.cooldown;
        let ctx = DetectContext {
            own_pids: own.into_iter().collect(),
            tree_roots: roots.into_iter().collect(),
            own_ns,
            users: users_of(&stats),
            node_memory: inner.heard.get(&head).map(|h| h.facts.memory_total).unwrap_or_default(),
            away: inner.state.away().iter().map(|o| o.process.pid).collect(),
            recent: inner.state.busy(cooldown, boot_ms()).into_keys().collect(),
            kept: inner.state.kept_now(boot_ms()).map(|k| k.process.clone()).collect(),
            private_paths: self.private_paths(),
            ..DetectContext::default()
        };
        Ok((stats, ctx))
    }

    async fn trees(&self, roots: Vec<i32>) -> Result<Vec<TreeFacts>, ApiError> {
        match self.hub().ask(&self.head_name(), Request::Trees { roots }).await {
            Ok(Answer::Trees { trees }) => Ok(trees),
            Ok(other) => Err(fault(FaultClass::Internal, format!("the head's agent answered {other:?}"))),
            Err(reason) => Err(refused(&reason, "the head's agent did not look at the processes")),
        }
    }

    /// Looks at every process, and closely at those that may be worth it; `closer`: also at the others, as at one that is
    /// named.
    pub(crate) async fn look(&self, asked_by: Option<u32>, closer: bool) -> Result<Seen, ApiError> {
        let (stats, ctx) = self.processes().await?;
        let ctx = DetectContext { asked_by, ..ctx };
        let policy = self.inner.borrow().cfg.config.policy.detector.clone();
        let pass = first_pass(&stats, &ctx, &policy);
        let (mut stays, mut look, mut verdicts) = (pass.stays, pass.look, Vec::new());
        let mut seen = BTreeSet::new();
        while !look.is_empty() && verdicts.len() < LOOK_AT_MOST {
            look.retain(|pid| seen.insert(*pid));
            let mut next = Vec::new();
            for tree in self.trees(std::mem::take(&mut look)).await? {
                let verdict = judge(&tree, &ctx, &policy);
                if passes_below(&verdict) {
                    let lower = below(&stats, tree.root.stat.id.pid, &ctx, &policy);
                    next.extend(lower.look);
                    stays.extend(lower.stays);
                }
                verdicts.push(verdict);
            }
            look = next;
        }
        let mut seen = Seen { scanned: stats.len() as u32, verdicts, stays, closer: Vec::new() };
        if closer {
            let rest = unseen(&seen, &stats);
            seen.closer = self.trees(rest).await?.iter().map(|tree| judge(tree, &ctx, &policy)).collect();
        }
        Ok(seen)
    }

    /// The policy's detector; `close_tcp`: a person agreed that connections are closed.
    pub(crate) fn detector(&self, close_tcp: bool) -> Detector {
        let detector = self.inner.borrow().cfg.config.policy.detector.clone();
        let tcp_connections = if close_tcp { TcpPolicy::Close } else { detector.tcp_connections };
        Detector { tcp_connections, ..detector }
    }

    /// Looks at one process that a person named, who may have agreed that its connections are closed.
    pub(crate) async fn look_at(&self, pid: i32, asked_by: Option<u32>, close_tcp: bool) -> Result<Verdict, ApiError> {
        let (_, ctx) = self.processes().await?;
        let ctx = DetectContext { asked_by, named: true, ..ctx };
        let policy = self.detector(close_tcp);
        let pid = self.behind_shadow(pid);
        let tree = self.trees(vec![pid]).await?.into_iter().next().ok_or_else(|| ApiError {
            hint: Some("grid offload scan".into()),
            ..fault(FaultClass::NotFound, format!("no process {pid} on {}. Nothing was changed.", self.head_name()))
        })?;
        Ok(judge(&tree, &ctx, &policy))
    }

    /// A tree that came home runs behind its shadow, which has the number that people know.
    fn behind_shadow(&self, pid: i32) -> i32 {
        let inner = self.inner.borrow();
        let newest = inner.state.newest_of(pid).filter(|o| o.phase == OffloadPhase::Home);
        newest.and_then(|o| o.home.as_ref()).map_or(pid, |process| process.pid)
    }

    /// The process as people know it: the shadow of a tree that came home, else itself.
    pub(crate) fn known_as(&self, process: &ProcId) -> ProcId {
        let inner = self.inner.borrow();
        let mut home = inner.state.offloads.values().filter(|o| o.phase == OffloadPhase::Home);
        home.find(|o| o.home.as_ref() == Some(process)).map_or_else(|| process.clone(), |o| o.process.clone())
    }

    /// Makes a plan for these verdicts. Records nothing.
    pub(crate) fn plan_for(
        &self,
        trigger: Trigger,
        verdicts: &[Verdict],
        only: &Only,
        asked_by: Option<u32>,
        limit: Option<u32>,
    ) -> Plan {
        let head = self.head_name();
        let (head_total, head_free) = self.head_room();
        let inner = self.inner.borrow();
        let policy = &inner.cfg.config.policy;
        let active = |l: &grid_core::sharing::LeaseView| {
            only.boost.as_ref().is_none_or(|b| *b == l.boost) && only.node.as_ref().is_none_or(|n| *n == l.node)
        };
        let leases: Vec<_> = inner.state.leases_of(&head).into_iter().filter(active).collect();
        let boosted = inner.state.boosted(&head);
        let busy: BTreeMap<_, _> = inner.state.busy(policy.auto_offload.cooldown, boot_ms());
        let levels: Vec<_> =
            inner.heard.get(&head).map(|h| grid_core::pressure::levels(&h.facts)).into_iter().collect();
        make_plan(&PlanInput {
            id: PlanId::new(format!("p-{}", inner.state.next_seq())),
            limit: limit.unwrap_or_else(|| limit_for(&trigger, false, policy)),
            trigger,
            verdicts,
            head,
            head_total,
            head_free,
            leases: &leases,
            boosted: &boosted,
            mean_pressure: grid_core::pressure::mean(&levels),
            pressed: None,
            policy,
            busy: &busy,
            asked_by,
            rate: inner.rate,
            now: boot_ms(),
            made_at: unix_ms(),
        })
    }
}

/// Processes that were passed over as not worth a close look, those with most memory first. Whatever a look would find, the
/// kernel's, grid's and other users' stay.
fn unseen(seen: &Seen, stats: &[ProcStat]) -> Vec<i32> {
    let never = |code| matches!(code, ReasonCode::Kernel | ReasonCode::Grid | ReasonCode::Owner);
    let passed: BTreeSet<i32> = seen.stays.iter().filter(|(_, r)| !never(r.code)).map(|(id, _)| id.pid).collect();
    let known: BTreeSet<i32> = seen.verdicts.iter().map(|v| v.id.pid).collect();
    let mut rest: Vec<&ProcStat> = stats.iter().filter(|s| passed.contains(&s.id.pid)).collect();
    rest.retain(|s| !known.contains(&s.id.pid));
    rest.sort_by_key(|s| std::cmp::Reverse(s.rss));
    rest.into_iter().take(LOOK_AT_MOST).map(|s| s.id.pid).collect()
}

/// Directories that each node has for itself, of the embedded cluster's too.
const PRIVATE: [&str; 3] = ["/dev/shm", "/run", "/dev/pts"];

impl Head {
    /// Who uses a file in one of these stays where it is.
    pub(crate) fn private_paths(&self) -> Vec<String> {
        let inner = self.inner.borrow();
        PRIVATE
            .map(str::to_owned)
            .into_iter()
            .chain(inner.cfg.config.policy.engine.local_paths.iter().cloned())
            .collect()
    }
}

fn users_of(stats: &[ProcStat]) -> BTreeMap<u32, String> {
    let uids: BTreeSet<u32> = stats.iter().map(|s| s.uid).collect();
    let name = |uid: u32| grid_os::users::name_of(uid).map(|name| (uid, name));
    uids.into_iter().filter_map(name).collect()
}

/// Processes that stay, counted by their first reason.
pub(crate) fn count_stays(seen: &Seen) -> Vec<StayCount> {
    let mut counts: BTreeMap<ReasonCode, u32> = BTreeMap::new();
    for (_, reason) in &seen.stays {
        *counts.entry(reason.code).or_default() += 1;
    }
    for verdict in seen.verdicts.iter().filter(|v| !v.is_candidate()) {
        let first = verdict.cannot.iter().flatten().chain(&verdict.not_worth).next();
        if let Some(reason) = first {
            *counts.entry(reason.code).or_default() += 1;
        }
    }
    let mut list: Vec<StayCount> = counts.into_iter().map(|(code, count)| StayCount { code, count }).collect();
    list.sort_by_key(|s| std::cmp::Reverse(s.count));
    list
}
