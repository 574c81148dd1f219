//! `grid lend`, on the machine that lends: asks nobody. The owner's word is a file in the node's own folder; its agent
//! heeds it, and answers beside it.

use super::failure::Failure;
use super::lend_args::{LendCommand, LendOffArgs, LimitArgs, SleepArgs, WhichNode};
use super::lend_rule::{self, Has};
use super::may;
use super::output::Printed;
use super::render::{self, Clock};
use grid_os::cgroup::{Controller, Hierarchies};
use grid_os::clock::unix_ms;
use grid_os::node::NodeCgroup;
use grid_types::exit::FaultClass;
use grid_types::lend::{LendAnswer, LendLimits, LendOrder, LendPlace};
use grid_types::reason::ReasonCode;
use grid_types::{Bytes, LeaseId, MilliCpu, Millis};
use serde::Serialize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An agent that has not heeded the word within this is said to be silent.
const HEEDED_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// CPU in use is measured over this.
const MEASURED_OVER: Duration = Duration::from_millis(250);

/// A node of grid's on this machine.
struct Node {
    name: String,
    /// Its agent's folder.
    state: PathBuf,
    place: LendPlace,
}

/// What `grid lend status` says of one node.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LendStatus {
    /// Its name.
    pub node: String,
    /// The owner's word; none where none is said.
    pub order: Option<LendOrder>,
    /// How it could not be read.
    pub unreadable: Option<String>,
    /// Whose file that is.
    pub by: Option<String>,
    /// Its agent runs; none where only root can tell.
    pub running: Option<bool>,
    /// The agent's answer is to this word.
    pub heeded: bool,
    /// It.
    pub answer: Option<LendAnswer>,
    /// What each lease uses now.
    pub used: Vec<LeaseUse>,
}

/// What a lease uses now, by the kernel's count.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LeaseUse {
    /// Which.
    pub lease: LeaseId,
    /// CPU.
    pub cpu: Option<MilliCpu>,
    /// Memory.
    pub memory: Option<Bytes>,
}

/// What a change came to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LendChange {
    /// The node.
    pub node: String,
    /// What its owner says now, or would say.
    pub order: LendOrder,
    /// Nothing was changed.
    pub dry_run: bool,
    /// The agent's first answer to it; for a dry run, its last word. None where it does not answer.
    pub answer: Option<LendAnswer>,
    /// What was still lent when the guests' time to leave was over; none where none was set.
    pub after: Option<LendAnswer>,
    /// From the word to that.
    pub waited: Millis,
}

pub(super) async fn run(state: &Path, command: &LendCommand) -> Result<Printed, Failure> {
    let nodes = found(state)?;
    match command {
        LendCommand::Status { which } => status(state, nodes, which).await,
        LendCommand::On { which, dry_run } => {
            let node = one(state, nodes, which)?;
            let on = |order: &mut LendOrder| {
                (order.on, order.reclaim) = (true, false);
                Ok(())
            };
            printed(&change(&node, |_| true, on, *dry_run, None).await?, None)
        }
        LendCommand::Off(LendOffArgs { reclaim, by, which, dry_run }) => {
            let node = one(state, nodes, which)?;
            // What is being taken back is given back by `on` alone.
            let off = |order: &mut LendOrder| {
                (order.on, order.reclaim) = (false, order.reclaim || *reclaim);
                Ok(())
            };
            let by = reclaim.then_some(*by);
            printed(&change(&node, |_| true, off, *dry_run, by).await?, by)
        }
        LendCommand::Limit(args) => {
            let node = one(state, nodes, &args.which)?;
            let limit = |order: &mut LendOrder| {
                limit(&mut order.limits, args);
                Ok(())
            };
            printed(&change(&node, Result::is_ok, limit, args.dry_run, None).await?, None)
        }
        LendCommand::Rule(args) => {
            let node = one(state, nodes, &args.which)?;
            let rule = |order: &mut LendOrder| lend_rule::change(order, args, Has::here());
            printed(&change(&node, Result::is_ok, rule, args.dry_run, None).await?, None)
        }
        LendCommand::Sleep(args) => sleep(state, nodes, args, Some(boot()?)).await,
        LendCommand::Wake(args) => sleep(state, nodes, args, None).await,
    }
}

/// What is not named stays as it is.
fn limit(limits: &mut LendLimits, args: &LimitArgs) {
    if args.none {
        *limits = LendLimits::default();
        return;
    }
    limits.cpu = args.cpu.or(limits.cpu);
    limits.memory = args.memory.or(limits.memory);
    limits.keep_memory = args.reserve_memory.or(limits.keep_memory);
    limits.hours = args.hours.or(limits.hours);
}

/// The nodes of this machine that lend: of a cluster that is all here, or workers of other heads.
fn found(state: &Path) -> Result<Vec<Node>, Failure> {
    let state = std::path::absolute(state).unwrap_or_else(|_| state.to_owned());
    let below = |dir: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(dir).map_or(Vec::new(), |all| all.flatten().map(|entry| entry.path()).collect())
    };
    let embedded = below(&state.join("nodes"));
    let folders = [vec![state.clone()], below(&state), below(&state.join("workers"))].concat();
    let remote = folders.into_iter().filter(|dir| dir.join("node.json").is_file()).map(|dir| dir.join("state"));
    let mut nodes: Vec<Node> = embedded.into_iter().chain(remote).filter_map(node).collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(nodes)
}

fn node(state: PathBuf) -> Option<Node> {
    let place = LendPlace::of(&state);
    place.order.parent().filter(|dir| dir.is_dir())?;
    let name = grid_os::lend::answer(&place).map(|answer| answer.node.to_string());
    let folder = || state.file_name().map(|name| name.to_string_lossy().into_owned());
    Some(Node { name: name.or_else(folder)?, state, place })
}

/// The one that is meant.
fn one(state: &Path, mut nodes: Vec<Node>, which: &WhichNode) -> Result<Node, Failure> {
    if let Some(name) = &which.node {
        return named(state, nodes, name);
    }
    match nodes.len() {
        0 => Err(none_here(state)),
        1 => Ok(nodes.remove(0)),
        _ => {
            let names: Vec<_> = nodes.iter().map(|n| n.name.as_str()).collect();
            let what = format!("this machine has several nodes: {}. Nothing was changed.", names.join(", "));
            Err(Failure::usage(what).hint(format!("say which: --node {}", names[0])))
        }
    }
}

fn named(state: &Path, nodes: Vec<Node>, name: &str) -> Result<Node, Failure> {
    // Whoever may not list the folder may know the name.
    let is_one = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && !name.starts_with('.');
    let unlisted = || is_one.then(|| node(state.join("nodes").join(name))).flatten();
    let known: Vec<String> = nodes.iter().map(|n| n.name.clone()).collect();
    let hit = nodes.into_iter().find(|n| n.name == name || n.state.parent().is_some_and(|dir| dir.ends_with(name)));
    hit.or_else(unlisted).ok_or_else(|| match known.is_empty() {
        true => none_here(state),
        false => {
            let what = format!("no node {name:?} lends on this machine; there are {}.", known.join(", "));
            Failure::new(FaultClass::NotFound, what + " Nothing was changed.")
        }
    })
}

fn none_here(state: &Path) -> Failure {
    let what = format!("no node of this machine lends: none is in {}. Nothing was changed.", state.display());
    Failure::new(FaultClass::NotFound, what).hint(
        "on a lender, as root; its folder, where the head's worker_directory is another: --state FOLDER; \
         one that you may not list: --node NAME",
    )
}

async fn status(state: &Path, nodes: Vec<Node>, which: &WhichNode) -> Result<Printed, Failure> {
    let nodes = match &which.node {
        Some(_) => vec![one(state, nodes, which)?],
        None if nodes.is_empty() => return Err(none_here(state)),
        None => nodes,
    };
    let mut all = Vec::new();
    for node in &nodes {
        all.push(status_of(node).await);
    }
    let words: Vec<_> = all.iter().map(|s| format!("{} {}", s.node, render::lend_word(s))).collect();
    Printed::local(&all, render::lend_status(&all, Clock::now()), words.join("\n"))
}

async fn status_of(node: &Node) -> LendStatus {
    let said = grid_os::lend::read(&node.place);
    let answer = grid_os::lend::answer(&node.place);
    let owner = std::fs::symlink_metadata(&node.place.order).ok().map(|meta| meta.uid());
    let used = match &answer {
        Some(answer) => used(answer).await,
        None => Vec::new(),
    };
    LendStatus {
        node: node.name.clone(),
        unreadable: said.order.as_ref().err().cloned(),
        order: said.mark.as_ref().and(said.order.ok()),
        by: owner.map(|uid| grid_os::users::name_of(uid).unwrap_or_else(|| format!("uid {uid}"))),
        running: grid_agent::runs(&node.state).ok(),
        heeded: answer.as_ref().is_some_and(|answer| answer.mark == said.mark),
        answer,
        used,
    }
}

/// Two looks at the groups of the leases: anybody may, and no agent is needed.
async fn used(answer: &LendAnswer) -> Vec<LeaseUse> {
    let Ok(hierarchies) = Hierarchies::detect() else { return Vec::new() };
    let controllers = [Controller::Cpu, Controller::CpuAcct, Controller::Memory];
    let group = |lease: &LeaseId| hierarchies.group(&format!("{}/{lease}", answer.group), &controllers);
    let cpu = |lease: &LeaseId| {
        let group = group(lease);
        let dir = |controller| group.dir(controller);
        let (cpu, cpuacct) = (dir(Controller::Cpu)?, dir(Controller::CpuAcct)?);
        NodeCgroup { cpu, cpuacct, memory: dir(Controller::Memory)? }.cpu_used_ns().ok()
    };
    let before: Vec<_> = answer.leases.iter().map(|held| (cpu(&held.lease), Instant::now())).collect();
    tokio::time::sleep(MEASURED_OVER).await;
    let measured = answer.leases.iter().zip(before).map(|(held, (before, at))| {
        let ns = cpu(&held.lease).zip(before).map(|(now, before)| now.saturating_sub(before));
        let milli = |ns: u64| u128::from(ns) * 1000 / at.elapsed().as_nanos().max(1);
        LeaseUse {
            lease: held.lease.clone(),
            cpu: ns.map(|ns| MilliCpu(milli(ns) as u32)),
            memory: group(&held.lease).usage().ok().map(|used| used.1),
        }
    });
    measured.collect()
}

/// Says another word, and waits until it is heeded; with a time to leave, also until the guests have left.
async fn change(
    node: &Node,
    may_build_on: impl FnOnce(&Result<LendOrder, String>) -> bool,
    alter: impl FnOnce(&mut LendOrder) -> Result<(), Failure>,
    dry_run: bool,
    leave_by: Option<Millis>,
) -> Result<LendChange, Failure> {
    let said = grid_os::lend::read(&node.place).order;
    if !may_build_on(&said) {
        let what = format!("{}: {}", node.place.order.display(), said.err().unwrap_or_default());
        return Err(Failure::new(FaultClass::State, what + ". Nothing was changed.")
            .hint("grid lend on, or grid lend off: that writes it anew, without limits and rules"));
    }
    let mut order = said.unwrap_or_default();
    let was_on = order.on;
    alter(&mut order)?;
    if was_on != order.on {
        order.since = unix_ms();
    }
    let dir = node.place.order.parent().unwrap_or(&node.state);
    let mut changed = LendChange {
        node: node.name.clone(),
        order,
        dry_run,
        answer: grid_os::lend::answer(&node.place),
        after: None,
        waited: Millis(0),
    };
    if dry_run {
        may::write_in(dir).map_err(|e| refused(&e, &node.name))?;
    } else {
        let begun = Instant::now();
        let mark = grid_os::lend::say(&node.place, &changed.order).map_err(|e| refused(&e, &node.name))?;
        changed.answer = heeded(&node.place, &mark).await;
        if let (Some(by), Some(_)) = (leave_by, &changed.answer) {
            changed.after = Some(left(&node.place, begun + Duration::from_millis(by.0)).await);
        }
        changed.waited = Millis(begun.elapsed().as_millis() as u64);
    }
    Ok(changed)
}

fn printed(changed: &LendChange, leave_by: Option<Millis>) -> Result<Printed, Failure> {
    Printed::local(changed, render::lend_changed(changed, leave_by, Clock::now()), changed.node.clone())
}

/// The machine sleeps since this boot of it, or is awake.
async fn sleep(state: &Path, nodes: Vec<Node>, args: &SleepArgs, asleep: Option<String>) -> Result<Printed, Failure> {
    let node = one(state, nodes, &args.which)?;
    let say = |order: &mut LendOrder| {
        order.asleep = asleep;
        Ok(())
    };
    let stood = grid_os::lend::answer(&node.place).map_or(0, |answer| answer.standing);
    let changed = change(&node, Result::is_ok, say, args.dry_run, None).await?;
    Printed::local(&changed, render::lend_sleep(&changed, stood), changed.node.clone())
}

fn boot() -> Result<String, Failure> {
    grid_os::clock::boot_id().map_err(|e| Failure::new(FaultClass::Environment, format!("{e}. Nothing was changed.")))
}

async fn heeded(place: &LendPlace, mark: &str) -> Option<LendAnswer> {
    let deadline = Instant::now() + HEEDED_WITHIN;
    loop {
        match grid_os::lend::answer(place) {
            Some(answer) if answer.mark.as_deref() == Some(mark) => return Some(answer),
            _ if Instant::now() > deadline => return None,
            _ => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// What is still lent at the deadline, or earlier, where that is nothing.
async fn left(place: &LendPlace, deadline: Instant) -> LendAnswer {
    loop {
        if let Some(answer) = grid_os::lend::answer(place)
            && (answer.leases.is_empty() || Instant::now() > deadline)
        {
            return answer;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn refused(e: &std::io::Error, node: &str) -> Failure {
    if e.kind() != std::io::ErrorKind::PermissionDenied {
        return Failure::new(FaultClass::Environment, format!("what {node} lends: {e}. Nothing was changed."));
    }
    let mut failure =
        Failure::new(FaultClass::Permission, format!("only root says what {node} lends. Nothing was changed."))
            .hint("run it with sudo; root may let you: chown YOU STATE/lend of that node's folder");
    failure.error.code = Some(ReasonCode::Right);
    failure
}
