//! A worker that comes to a cluster that runs, or goes.
//!
//! What counts is `conf/plan.json`: with its renaming a worker is one of the cluster's, or none. Before that, all is as it
//! was; behind it, whatever is killed, the next supervisor and the next daemon read the same.

use super::control::{Ask, Changed, NodeAdded, NodeRemoved, Step};
use super::plan::{Plan, RemotePlan};
use super::supervise::Kept;
use super::upgrade::{self, Runs};
use super::written::{token, write_private, written};
use super::{UpError, others, ready};
use crate::cli::{Client, Failure};
use grid_agent::{AgentConfig, AgentRole};
use grid_core::config::NodeAsk;
use grid_os::cgroup::Group;
use grid_types::api::{ApiError, LeaveReply, NodeGone, NodeJoin, NodeLeave, NodeView};
use grid_types::event::Actor;
use grid_types::exit::FaultClass;
use grid_types::policy::{NodeConfig, Role};
use grid_types::{Millis, NodeName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// A daemon that was just killed is there again within this.
const TOLD_WITHIN: Duration = Duration::from_secs(15);
/// A worker that was reached is heard of, and its use is known, within this.
const HEARD_WITHIN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

type Says = mpsc::UnboundedSender<String>;

/// One change, and what it needs.
pub(super) struct Change {
    /// The cluster as it is; behind the change, as it is then.
    pub(super) plan: Plan,
    /// The group of the head's daemons.
    pub(super) group: Group,
    /// Who wants it.
    pub(super) by: Actor,
    pub(super) steps: mpsc::UnboundedSender<Step>,
}

impl Change {
    pub(super) async fn carry_out(&mut self, ask: &Ask, says: &Says) -> Result<Changed, ApiError> {
        match ask {
            Ask::Add { node, dry_run } => {
                self.add(node, *dry_run, says).await.map(|added| Changed::Added(Box::new(added)))
            }
            Ask::Upgrade { program, dry_run } => self.hand_over(program, *dry_run).await.map(Changed::Runs),
            Ask::Remove { node, unreachable, give_up, purge, dry_run } => {
                let (unreachable, give_up, dry_run) = (*unreachable, *give_up, *dry_run);
                let leave = NodeLeave { unreachable, give_up, dry_run, by: self.by.clone() };
                self.remove(node, leave, *purge).await.map(Changed::Removed)
            }
        }
    }

    /// Returns only where this program goes on.
    async fn hand_over(&self, program: &Path, dry_run: bool) -> Result<Runs, ApiError> {
        upgrade::tried(program).await.map_err(|failure| failure.error)?;
        if dry_run {
            return Ok(upgrade::runs());
        }
        let (failed, error) = oneshot::channel();
        self.step(Step::Become(program.to_owned(), failed));
        let why = error.await.map_or_else(|_| "it ends".to_owned(), |e| e.to_string());
        let what = format!("{}: {why}. Nothing was changed.", program.display());
        Err(Failure::new(FaultClass::Environment, what).error)
    }

    async fn add(&mut self, ask: &NodeAsk, dry_run: bool, says: &Says) -> Result<NodeAdded, ApiError> {
        let begun = Instant::now();
        let node = self.plan.members.admit(&self.plan.config, ask).map_err(|e| {
            let failure = Failure::usage(format!("{}. Nothing was changed.", e.message));
            e.hint.map_or(failure.clone(), |hint| failure.hint(hint)).error
        })?;
        let (next, worker) = self.plan.with(node.clone(), ask.sudo);
        let mut added = NodeAdded {
            node: worker.name.clone(),
            host: worker.host.clone(),
            lends: worker.lends,
            folder: next.folder_of(&worker),
            view: None,
            took: Millis(0),
            dry_run,
        };
        if dry_run {
            return Ok(added);
        }
        let token = token().map_err(told)?;
        // Of one of this name that did not answer when it was removed.
        if let Err(e) = others::end_stray(&self.plan, &others::reach_file(&self.plan, &worker)).await {
            let _ = says.send(format!("what an earlier {} left could not be ended: {e}", worker.name));
        }
        let kept = match self.arrive(&next, &worker, &token, says).await {
            Ok(kept) => kept,
            Err(e) => {
                others::forget(&next, &worker);
                return Err(told(e));
            }
        };
        self.commit(next).map_err(told)?;
        self.step(Step::Keep(Box::new(kept)));
        let name = &worker.name;
        self.introduce(node, token)
            .await
            .map_err(|e| behind(&format!("{name} was added, and not all know it yet"), e))?;
        added.view = Some(self.heard(name).await?);
        added.took = since(begun);
        Ok(added)
    }

    /// The daemon knows the worker from now on, and the head's agent lets it in.
    async fn introduce(&self, node: NodeConfig, token: String) -> Result<(), ApiError> {
        let name = node.name.clone();
        self.write_head().map_err(told)?;
        let _: NodeView = self.tell("nodes", &NodeJoin { node, by: self.by.clone() }).await?;
        self.write_tokens(|all| drop(all.insert(name, token))).map_err(told)
    }

    /// The worker runs, and its certificate is known; what keeps ssh to it.
    async fn arrive(&self, next: &Plan, worker: &RemotePlan, token: &str, says: &Says) -> Result<Kept, UpError> {
        others::write_worker(next, worker, token.to_owned())?;
        let mut reach = others::reaching(next, worker, &self.group);
        let mut log = Tail::of(&reach);
        reach.start().map_err(super::failed("what reaches the worker"))?;
        let deadline = Instant::now() + ready::REACHED_WITHIN;
        while !others::pin_file(next, worker).exists() {
            for line in log.lines() {
                let _ = says.send(line);
            }
            if let Some(status) = reach.ended() {
                return Err(ready::ended_as(&format!("{} was not added", worker.name), status, &reach.last_words()));
            }
            if Instant::now() > deadline {
                reach.stop().await;
                let what = format!(
                    "{} was not added: it was not reached within {} s",
                    worker.name,
                    ready::REACHED_WITHIN.as_secs()
                );
                return Err(UpError::new(FaultClass::Unreachable, what));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(reach)
    }

    async fn remove(&mut self, name: &str, ask: NodeLeave, purge: bool) -> Result<NodeRemoved, ApiError> {
        let begun = Instant::now();
        let known = self.plan.remote.iter().find(|worker| worker.name.as_str() == name).cloned();
        let worker = known.ok_or_else(|| self.no_such(name))?;
        let left: LeaveReply = self.tell(&format!("nodes/{name}/leave"), &ask).await?;
        let next = self.plan.without(&worker.name);
        let mut removed = NodeRemoved {
            node: worker.name.clone(),
            host: worker.host.clone(),
            folder: self.plan.folder_of(&worker),
            answers: left.answers,
            purge,
            of_file: next.members.left_out.iter().any(|n| n.name == worker.name),
            lost: left.lost,
            given_up: left.given_up,
            left: None,
            took: Millis(0),
            dry_run: ask.dry_run,
        };
        if ask.dry_run {
            return Ok(removed);
        }
        self.commit(next).map_err(told)?;
        let left = self.send_away(&worker, purge).await;
        removed.left = left.map_err(|e| behind(&format!("{name} was removed, and not all know it yet"), e))?;
        removed.took = since(begun);
        Ok(removed)
    }

    /// The worker is let in no more, its daemons end, and the daemon forgets it. What could not be ended is returned.
    async fn send_away(&self, worker: &RemotePlan, purge: bool) -> Result<Option<String>, ApiError> {
        others::unpin(&self.plan, worker);
        self.write_tokens(|all| drop(all.remove(&worker.name))).map_err(told)?;
        self.write_head().map_err(told)?;
        let left = self.end(worker, purge).await;
        let gone = NodeGone { left: left.clone(), by: self.by.clone() };
        let _: bool = self.tell(&format!("nodes/{}/gone", worker.name), &gone).await?;
        Ok(left)
    }

    fn no_such(&self, name: &str) -> ApiError {
        let nodes = &self.plan.config.nodes;
        let is = |role| nodes.iter().any(|n| n.name.as_str() == name && n.role == role);
        let what = match is(Role::Worker) {
            true => format!("{name} is made of this machine, with the cluster. Nothing was changed."),
            false if is(Role::Head) => {
                format!("{name} is the head: without it there is no cluster. Nothing was changed.")
            }
            false => {
                let what = format!("no node {name:?}. Nothing was changed.");
                return Failure::new(FaultClass::NotFound, what).hint("grid node list").error;
            }
        };
        Failure::usage(what).hint("grid down").error
    }

    /// Ends the worker's daemons; returns what could not be done. What reached it is known as long as something may be there:
    /// the next `grid up` tries again.
    async fn end(&self, worker: &RemotePlan, purge: bool) -> Option<String> {
        let file = others::reach_file(&self.plan, worker);
        let (hand, handed) = oneshot::channel();
        self.step(Step::Take(file.clone(), hand));
        let ended = match handed.await {
            Ok(Some(mut reach)) => match reach.stop().await {
                true => true,
                // It has tried already.
                false => return Some(ready::ended_with("", 1, &reach.last_words()).message),
            },
            _ => false,
        };
        if !ended || purge {
            let mut leave = tokio::process::Command::from(others::leaving(&self.plan, &file, purge));
            let out = leave.kill_on_drop(true).output().await;
            let said = match out {
                Ok(out) if out.status.success() => None,
                Ok(out) => Some(String::from_utf8_lossy(&out.stderr).into_owned()),
                Err(e) => Some(e.to_string()),
            };
            if let Some(said) = said {
                return Some(ready::ended_with("", 1, &said).message);
            }
        }
        others::forget(&self.plan, worker);
        None
    }

    fn commit(&mut self, next: Plan) -> Result<(), UpError> {
        write_private(&self.plan.state.join("conf/plan.json"), &next, None)?;
        self.plan = next;
        Ok(())
    }

    fn write_head(&self) -> Result<(), UpError> {
        let readers = self.plan.daemon.map(|account| account.gid);
        write_private(&self.plan.state.join("conf/head.json"), &self.plan.head_config(), readers)
    }

    /// Writes who the workers are, and has the head's agent read it.
    fn write_tokens(
        &self,
        alter: impl FnOnce(&mut std::collections::BTreeMap<NodeName, String>),
    ) -> Result<(), UpError> {
        let file = self.plan.state.join("conf/hub.json");
        let mut hub: AgentConfig = written(&self.plan.state, "hub.json")
            .ok_or_else(|| UpError::new(FaultClass::State, format!("{} cannot be read", file.display())))?;
        if let AgentRole::Hub { tokens, .. } = &mut hub.role {
            alter(tokens);
        }
        write_private(&file, &hub, None)?;
        self.step(Step::Reread);
        Ok(())
    }

    fn step(&self, step: Step) {
        let _ = self.steps.send(step);
    }

    /// Tells the daemon; one that was killed meanwhile is told again.
    async fn tell<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ApiError> {
        let client = Client::new(self.plan.socket());
        let deadline = Instant::now() + TOLD_WITHIN;
        loop {
            match client.post(&format!("/v1/{path}"), body).await {
                Ok(answer) => return Ok(answer.ok),
                // Its own refusals come as a reply.
                Err(e) if e.raw.is_some() || Instant::now() > deadline => return Err(e.error),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Waits until the worker can lend; what is known of it then.
    async fn heard(&self, name: &NodeName) -> Result<NodeView, ApiError> {
        let client = Client::new(self.plan.socket());
        let deadline = Instant::now() + HEARD_WITHIN;
        loop {
            let asked = client.get::<Vec<NodeView>>("/v1/nodes").await;
            let view = asked.ok().and_then(|all| all.ok.into_iter().find(|n| n.node == *name));
            match view {
                Some(view) if ready::measured(&view) => return Ok(view),
                _ if Instant::now() > deadline => {
                    let what =
                        format!("{name} was added, and runs, but has not spoken within {} s", HEARD_WITHIN.as_secs());
                    let worker = self.plan.remote.iter().find(|worker| worker.name == *name);
                    let folder = worker.map(|worker| self.plan.folder_of(worker)).unwrap_or_default();
                    let hint = format!("grid node list; what it says is in {}/log there", folder.display());
                    return Err(Failure::new(FaultClass::Unreachable, what).hint(hint).error);
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

fn told(e: UpError) -> ApiError {
    ApiError { class: e.class, code: None, message: e.message, details: Vec::new(), hint: e.hint }
}

/// An error that came when the change counted already.
fn behind(what: &str, e: ApiError) -> ApiError {
    let hint = "whoever does not know it yet reads it when it is started again; grid node list".to_owned();
    ApiError { message: format!("{what}: {}", e.message), hint: Some(hint), ..e }
}

fn since(begun: Instant) -> Millis {
    Millis(begun.elapsed().as_millis() as u64)
}

/// What a program says from now on.
struct Tail {
    path: std::path::PathBuf,
    read: usize,
}

impl Tail {
    fn of(kept: &Kept) -> Self {
        let path = kept.log().to_owned();
        let read = std::fs::read(&path).map_or(0, |text| text.len());
        Self { path, read }
    }

    /// Whole lines that came since.
    fn lines(&mut self) -> Vec<String> {
        let text = std::fs::read(&self.path).unwrap_or_default();
        let new = text.get(self.read..).unwrap_or_default();
        let Some(end) = new.iter().rposition(|b| *b == b'\n') else { return Vec::new() };
        self.read += end + 1;
        String::from_utf8_lossy(&new[..end]).lines().map(str::to_owned).collect()
    }
}
