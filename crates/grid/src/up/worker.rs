//! The workers of the embedded cluster: made, watched, and made again where one lost its pid 1.

use super::node::run;
use super::plan::{NodePlan, Plan};
use super::ready::not_started;
use super::{UpError, failed, tell};
use grid_os::cgroup::Group;
use grid_os::pidfd::PidFd;
use grid_os::spawn::{Place, spawn};
use grid_types::exit::FaultClass;
use nix::libc;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Namespaces of a worker.
const NODE_NAMESPACES: i32 =
    libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
/// How often it is looked whether a worker's pid 1 is about to end.
const LOOK_AT_NODE: Duration = Duration::from_secs(2);

/// A worker that was made.
#[derive(Clone)]
pub(crate) struct Node {
    pub(super) init: i32,
}

impl Node {
    /// The error where its pid 1 has ended already: only an agent that cannot use its state makes it do so.
    pub(super) fn ended(&self, plan: &Plan, node: &NodePlan) -> Option<UpError> {
        if self.lives() {
            return None;
        }
        let said = std::fs::read_to_string(plan.state.join(format!("log/{}.log", node.name))).unwrap_or_default();
        Some(not_started(&node.name, FaultClass::State, &said))
    }
}

impl Node {
    /// The worker of this name that an earlier supervisor made, where it still runs.
    pub(super) fn find(plan: &Plan, node: &NodePlan) -> Option<Self> {
        let config = plan.state.join(format!("conf/{}.json", node.name)).to_string_lossy().into_owned();
        let init = process_with(&["node-init", node.name.as_str(), &config])?;
        Some(Self { init }).filter(Self::lives)
    }

    /// Where its agent is another grid than this one, it is told to end, and its pid 1 starts this one.
    pub(super) fn renew_agent(&self, plan: &Plan, node: &NodePlan) -> Result<(), String> {
        let config = plan.state.join(format!("conf/{}.json", node.name)).to_string_lossy().into_owned();
        let Some(agent) = process_with(&["agent", "--config", &config]) else { return Ok(()) };
        if super::runs(agent, &plan.program) {
            return Ok(());
        }
        tell(&format!(
            "grid: the agent of {} is another grid's; it is started anew, and what lives there goes on",
            node.name
        ));
        let told = PidFd::open(agent).and_then(|agent| agent.signal(libc::SIGTERM));
        told.map_err(|e| format!("its agent (pid {agent}): {e}"))
    }

    /// Its pid 1 is there. (Not its directory tells: that stays until it is reaped.)
    fn lives(&self) -> bool {
        Path::new(&format!("/proc/{}/ns/net", self.init)).exists()
    }

    /// Tells of the end of its pid 1, by its place in the plan. The kernel lets a pid 1 end only behind everything of its
    /// PID namespace, and what is frozen there does not end: so it is also looked at.
    pub(super) fn watch(&self, place: usize, ends: &tokio::sync::mpsc::UnboundedSender<usize>) {
        let (ends, node) = (ends.clone(), self.clone());
        tokio::spawn(async move {
            let ended = async {
                match PidFd::open(node.init) {
                    Ok(fd) => drop(grid_os::wait::readable(fd.into()).await),
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            let dying = async {
                while node.lives() {
                    tokio::time::sleep(LOOK_AT_NODE).await;
                }
            };
            // One that cannot live is not made in a hurry.
            let started = Instant::now();
            tokio::select! { () = ended => {}, () = dying => {} }
            if started.elapsed() < LOOK_AT_NODE {
                tokio::time::sleep(LOOK_AT_NODE).await;
            }
            let _ = ends.send(place);
        });
    }
}

/// The process of grid's that was started with these three words.
fn process_with(words: &[&str; 3]) -> Option<i32> {
    let is_it = |pid: &i32| {
        let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split('\0').skip(1).take(3).eq(words.iter().copied())
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    // A child between fork and exec looks like its parent, which is older: the smaller number, but for a wrap.
    processes.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(is_it).min()
}

/// A worker whose pid 1 was killed comes back as a machine that rebooted: nothing that lived there is left.
pub(super) fn make_again(plan: &Plan, node: &NodePlan, root: &Group) -> Result<Node, String> {
    tell(&format!("grid: {} ended; it is made again, as after a reboot", node.name));
    let group = root.child(node.name.as_str());
    group.kill(Duration::from_secs(5)).and_then(|()| group.remove()).map_err(|e| e.to_string())?;
    let _ = run("ip", &["link", "del", &node.veth_head]);
    make_node(plan, node, root).map_err(|e| e.to_string())
}

pub(super) fn make_node(plan: &Plan, node: &NodePlan, root: &Group) -> Result<Node, UpError> {
    let what = format!("making {}", node.name);
    let err = failed(&what);
    let group = root.child(node.name.as_str());
    let agent = group.child("agent");
    let limited = group.create().and_then(|()| agent.create()).and_then(|()| group.set_limits(&node.limits));
    limited.map_err(|e| UpError::new(FaultClass::Environment, format!("{what}: {e}")).hint("grid doctor"))?;
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(plan.state.join(format!("log/{}.log", node.name)))
        .map_err(&err)?;
    let (rx, tx) = nix::unistd::pipe().map_err(|e| err(e.into()))?;
    let text = |p: &Path| p.to_string_lossy().into_owned();
    let config = plan.state.join(format!("conf/{}.json", node.name));
    let argv = [text(&plan.program), "node-init".to_owned(), node.name.to_string(), text(&config)];
    let mut env = vec![("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned())];
    for name in ["GRID_FREEZER", grid_types::fault::VARIABLE] {
        env.extend(std::env::var(name).map(|v| (name.to_owned(), v)));
    }
    let place = Place {
        cgroup_procs: agent.procs_files(),
        unshare: NODE_NAMESPACES,
        new_session: true,
        stdio: [None, Some(tx.as_fd()), Some(log.as_fd())],
        ..Place::default()
    };
    let init = spawn(&argv, &env, &place).map_err(&err)?.pid;
    drop(tx);
    let mut line = String::new();
    BufReader::new(std::fs::File::from(rx)).read_line(&mut line).map_err(&err)?;
    if line.trim() != "ready" {
        let said = std::fs::read_to_string(plan.state.join(format!("log/{}.log", node.name))).unwrap_or_default();
        return Err(UpError::new(
            FaultClass::Environment,
            format!("{what}: {}", said.lines().last().unwrap_or("it ended at once")),
        ));
    }
    let made = Node { init };
    wire(node, init).map_err(|e| made.ended(plan, node).unwrap_or_else(|| err(e)))?;
    Ok(made)
}

/// A veth pair between the head and the worker, and nothing else.
fn wire(node: &NodePlan, init: i32) -> std::io::Result<()> {
    let pid = init.to_string();
    run("ip", &["link", "add", &node.veth_head, "type", "veth", "peer", "name", &node.veth_node, "netns", &pid])?;
    run("ip", &["addr", "add", &format!("{}/30", node.address_head), "dev", &node.veth_head])?;
    run("ip", &["link", "set", &node.veth_head, "up"])?;
    let inside = |args: &[&str]| {
        let net = format!("--net=/proc/{pid}/ns/net");
        run("nsenter", &[&[net.as_str(), "ip"], args].concat())
    };
    inside(&["addr", "add", &format!("{}/30", node.address_node), "dev", &node.veth_node])?;
    inside(&["link", "set", &node.veth_node, "up"])
}
