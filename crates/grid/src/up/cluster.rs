//! Making the embedded cluster, keeping it, and taking it away.

use super::control::{Changes, Step};
use super::down::Ending;
use super::node::run;
use super::plan::Plan;
use super::ready::{Begun, await_ready};
use super::supervise::Kept;
use super::take_over::take_over;
use super::upgrade::become_it;
use super::worker::{Node, make_again, make_node};
use super::written::{make_state, write_configs, write_private};
use super::{Account, UpError, account, down, failed, held, others, tell};
use grid_os::cgroup::{Controller, Group, Hierarchies};
use grid_os::criu::Criu;
use grid_os::tree_init::TreeDir;
use grid_types::api::Status;
use grid_types::exit::FaultClass;
use nix::sys::signal::{SigSet, Signal};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

const BOUNDED: [Controller; 5] =
    [Controller::Cpu, Controller::CpuAcct, Controller::Memory, Controller::Freezer, Controller::Kill];

/// Starts the cluster, calls `ready` when it answers, and keeps it until it is told to end. Where one of this state lost
/// its supervisor, that one is taken over, with all that lives in it.
pub async fn up(mut plan: Plan, ready: impl FnOnce(&Plan, Duration, &Status)) -> Result<(), UpError> {
    let start = Instant::now();
    let root = root_group(&plan)?;
    check(&plan)?;
    if let Some((orphan, root)) = down::orphans(&plan.state) {
        return take_over(Plan { program: plan.program, ..orphan }, &root, ready).await;
    }
    others::can_listen(&plan)?;
    plan.avoid(&taken_blocks());
    let account = account_of(&plan)?;
    plan.daemon = Some(account);
    make_state(&plan, account)?;
    record_criu(&mut plan)?;
    write_configs(&plan, account)?;
    let mut nodes = Vec::new();
    let mut made = Ok(());
    for node in &plan.nodes {
        match make_node(&plan, node, &root) {
            Ok(n) => nodes.push(n),
            Err(e) => {
                made = Err(e);
                break;
            }
        }
    }
    let outcome = match made {
        Ok(()) => keep(&plan, &root, &mut nodes, Begun::Made, |status| ready(&plan, start.elapsed(), status)).await,
        Err(e) => Err(e),
    };
    if !matches!(outcome, Ok(Ending::Left)) {
        remove(&plan, &nodes, &root);
    }
    outcome.map(drop)
}

/// As whom the daemon of a new cluster runs.
pub(super) fn account_of(plan: &Plan) -> Result<Account, UpError> {
    account::choose(plan.config.policy.users.daemon.as_deref(), plan.tag(), &plan.head_dir())
}

/// The group below which everything of the cluster is.
pub(crate) fn root_group(plan: &Plan) -> Result<Group, UpError> {
    let hierarchies = Hierarchies::detect().map_err(failed("reading the mounted cgroups"))?;
    Ok(hierarchies.group(&plan.cgroup, &BOUNDED))
}

/// The group of the head's own daemons.
pub(super) fn daemons(plan: &Plan, root: &Group) -> Result<Group, UpError> {
    Ok(root.child(plan.head()?.as_str()).child("daemons").with(&[Controller::Freezer, Controller::Kill]))
}

/// Processes of the cluster that are not guests come home: daemons, workers and what lives in them.
pub(crate) fn left_over(plan: &Plan, root: &Group) -> Vec<i32> {
    let own = daemons(plan, root).map(|d| d.pids()).unwrap_or_default();
    let nodes = plan.nodes.iter().flat_map(|n| root.child(n.name.as_str()).pids());
    own.into_iter().chain(nodes).collect()
}

/// Whether it may be started here and now, by whoever asks.
pub(super) fn check(plan: &Plan) -> Result<(), UpError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(UpError::new(
            FaultClass::Environment,
            "the embedded cluster makes namespaces and control groups: it needs root",
        )
        .hint("sudo grid up --local 2"));
    }
    if plan.state.starts_with("/run") {
        let what = format!("state in {}: /run is each worker's own", plan.state.display());
        return Err(UpError::new(FaultClass::Usage, what).hint("--state /var/lib/grid"));
    }
    find_criu(plan)?;
    if let Some(pid) = down::supervisor(&plan.state) {
        return Err(UpError::new(FaultClass::Conflict, format!("a cluster of this state is up already (pid {pid})"))
            .hint("grid status"));
    }
    Ok(())
}

/// The CRIU that the agents will run, where it is one that they may.
fn find_criu(plan: &Plan) -> Result<Criu, UpError> {
    Criu::find(&plan.criu).map_err(|e| UpError::new(FaultClass::Environment, e.to_string()).hint("grid doctor"))
}

/// Writes down which CRIU this cluster runs, for whoever asks later what it was.
fn record_criu(plan: &mut Plan) -> Result<(), UpError> {
    let criu = find_criu(plan)?;
    let origin = criu.origin().map_err(failed(&criu.path.display().to_string()))?;
    if !origin.pinned {
        tell(&format!("grid: CRIU is {} ({})", origin.build, origin.path.display()));
    }
    plan.criu = criu.path;
    write_private(&plan.state.join("conf/criu.json"), &origin, None)
}

/// Third bytes of the link-local addresses that this machine has.
fn taken_blocks() -> std::collections::BTreeSet<u8> {
    let listed = std::process::Command::new("ip").args(["-4", "-o", "addr", "show"]).output();
    let text = listed.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    let addresses = text.split_whitespace().filter_map(|word| word.strip_prefix("169.254."));
    addresses.filter_map(|rest| rest.split('.').next()?.parse().ok()).collect()
}

/// Runs the head's agent and daemon, and the workers, until somebody ends the cluster.
///
/// # Errors
/// Why it never answered: on workers that ssh reaches nothing was ended then that lives there.
pub(super) async fn keep(
    plan: &Plan,
    root: &Group,
    nodes: &mut [Node],
    begun: Begun,
    ready: impl FnOnce(&Status),
) -> Result<Ending, UpError> {
    let conf = |name: &str| plan.state.join("conf").join(name).to_string_lossy().into_owned();
    let log = |name: &str| plan.state.join("log").join(name);
    let (hub, head) = (conf("hub.json"), conf("head.json"));
    let group = daemons(plan, root)?;
    group.create().map_err(|e| UpError::new(FaultClass::Environment, e.to_string()))?;
    let account = plan.daemon.map(|a| a.to_string()).unwrap_or_default();
    let run_daemon = ["daemon", "run", "--config", &head, "--run-as", &account];
    let mut agent = Kept::new(&plan.program, &["agent", "--config", &hub], &log("agent.log"), &group);
    let mut daemon = Kept::new(&plan.program, &run_daemon, &log("daemon.log"), &group).serving(plan.socket());
    agent.start().map_err(failed("the head's agent"))?;
    daemon.start().map_err(failed("the head's daemon"))?;
    let mut others = others::daemons(plan, &group);
    for other in &mut others {
        other.start().map_err(failed("what reaches the workers"))?;
    }
    let mut signals = Signals::new()?;
    let mut changes = Changes::listen(plan, &group)?;
    let outcome = match await_ready(plan, nodes, begun, &mut agent, &mut daemon, &mut others).await {
        Ok(status) => {
            ready(&status);
            let (ends, mut ended) = tokio::sync::mpsc::unbounded_channel();
            nodes.iter().enumerate().for_each(|(i, node)| node.watch(i, &ends));
            let ending = loop {
                tokio::select! {
                    () = agent.keep() => {}
                    () = daemon.keep() => {}
                    () = others::keep(&mut others) => {}
                    step = changes.next() => carry_out(step, &agent, &mut others),
                    Some(i) = ended.recv() => {
                        // Whatever comes of it, it is looked at again: signals are heard in between.
                        match make_again(plan, &plan.nodes[i], root) {
                            Ok(made) => nodes[i] = made,
                            Err(e) => tell(&format!("grid: {} cannot be made again: {e}", plan.nodes[i].name)),
                        }
                        nodes[i].watch(i, &ends);
                    }
                    () = signals.next() => {
                        // What cannot come home keeps this waiting, but not from being told to give it up.
                        let told = async {
                            while !down::given_up(plan) {
                                signals.next().await;
                            }
                        };
                        let ends = tokio::select! {
                            ends = down::may_end(plan) => ends,
                            () = told => Some(Ending::Whole),
                        };
                        if let Some(ending) = ends {
                            break ending;
                        }
                    }
                }
            };
            match ending {
                Ending::Whole => {
                    down::end_shadows(plan).await;
                    Ok(ending)
                }
                Ending::Left => {
                    down::note_left(&plan.state, true).map_err(failed("noting what is left")).map(|()| ending)
                }
            }
        }
        Err(e) => Err(e),
    };
    let rest = async {
        while let Some(step) = changes.rest().await {
            carry_out(step, &agent, &mut others);
        }
    };
    // Half of a change is told by the next `grid up`, and undone.
    let _ = tokio::time::timeout(others::LEFT_WITHIN, rest).await;
    // The channel comes first among them, and goes last.
    let whole = matches!(outcome, Ok(Ending::Whole));
    for other in others.iter_mut().rev() {
        let ended = if whole { other.stop().await } else { other.give_up().await };
        if let Some(worker) = plan.remote.iter().find(|w| whole && !ended && other.is_of(&others::reach_file(plan, w)))
        {
            down::note_not_ended(&plan.state, worker, &other.last_words());
        }
    }
    daemon.stop().await;
    agent.stop().await;
    outcome
}

/// What a worker that comes or goes needs of the daemons that are kept.
fn carry_out(step: Step, agent: &Kept, others: &mut Vec<Kept>) {
    match step {
        Step::Keep(kept) => others.push(*kept),
        Step::Take(file, to) => {
            let place = others.iter().position(|kept| kept.is_of(&file));
            let _ = to.send(place.map(|place| others.remove(place)));
        }
        Step::Reread => agent.hang_up(),
        Step::Become(program, failed) => _ = failed.send(become_it(&program)),
    }
}

/// SIGINT and SIGTERM.
struct Signals(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

impl Signals {
    fn new() -> Result<Self, UpError> {
        let on = |kind| signal(kind).map_err(failed("waiting for signals"));
        // Whoever started us may have them blocked, and that is inherited: `grid down` would not reach us.
        let ours = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
        ours.thread_unblock().map_err(|e| failed("unblocking signals")(e.into()))?;
        Ok(Self(on(SignalKind::interrupt())?, on(SignalKind::terminate())?))
    }
    async fn next(&mut self) {
        tokio::select! { _ = self.0.recv() => {}, _ = self.1.recv() => {} }
    }
}

/// Removes a folder with what is in it, but not these folders below it: what lives on is spoken to there, and writes there
/// how it ended.
fn remove_but(dir: &Path, kept: &BTreeSet<PathBuf>) {
    if kept.iter().all(|path| !path.starts_with(dir)) {
        let _ = std::fs::remove_dir_all(dir);
        return;
    }
    for path in std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        match path.is_dir() {
            _ if kept.contains(&path) => {}
            true => remove_but(&path, kept),
            false => _ = std::fs::remove_file(path),
        }
    }
}

/// Takes away what was made. What came home lives on.
pub(crate) fn remove(plan: &Plan, nodes: &[Node], root: &Group) {
    let kill = |group: &Group| {
        if let Err(e) = group.kill(Duration::from_secs(5)) {
            tell(&format!("grid: {e}"));
        }
    };
    for made in nodes {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(made.init), nix::sys::signal::SIGKILL);
    }
    for node in &plan.nodes {
        kill(&root.child(node.name.as_str()));
        // The pair goes with the worker's namespace; where that takes a moment, it is taken down by name.
        let _ = run("ip", &["link", "del", &node.veth_head]);
    }
    if let Ok(daemons) = daemons(plan, root) {
        kill(&daemons);
    }
    let held = held::let_go(plan);
    // What came home lives on, without our groups; the next `grid up` finds it by its pid 1. What is held stays where it
    // is: out of its group it would run.
    for pid in root.pids().difference(&held) {
        let _ = root.sibling("").add(*pid);
    }
    if held.is_empty()
        && let Err(e) = root.remove()
    {
        tell(&format!("grid: {e}"));
    }
    let living = super::down::living_trees(plan);
    for tree in &living {
        let node = tree.parent().and_then(Path::file_name).unwrap_or_default();
        let ended = plan.state.join("nodes").join(node).join(grid_agent::ENDED);
        if let Err(e) = TreeDir(tree.clone()).leave(&ended) {
            tell(&format!("grid: {}: {e}", tree.display()));
        }
    }
    remove_but(&plan.run_dir(), &living);
    // One that ended meanwhile has not seen that it is left.
    let still = super::down::living_trees(plan);
    living.difference(&still).for_each(|tree| TreeDir(tree.clone()).remove());
    let _ = std::fs::remove_dir_all(plan.state.join("stopped"));
    for file in [
        plan.socket(),
        plan.agent_socket(),
        plan.state.join("up.pid"),
        plan.state.join("down"),
        plan.state.join("up.sock"),
    ] {
        let _ = std::fs::remove_file(file);
    }
}
