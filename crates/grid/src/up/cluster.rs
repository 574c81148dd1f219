//! Making the embedded cluster, keeping it, and taking it away.

use super::node::run;
use super::plan::{NodePlan, Plan};
use super::supervise::Kept;
use super::{Account, UpError, account, down, failed, held, tell};
use grid_os::cgroup::{Controller, Group, Hierarchies};
use grid_os::criu::Criu;
use grid_os::pidfd::PidFd;
use grid_os::spawn::{Place, spawn};
use grid_types::NodeName;
use grid_types::api::{NodeView, Status};
use grid_types::exit::FaultClass;
use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Namespaces of a worker.
const NODE_NAMESPACES: i32 =
    libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
const BOUNDED: [Controller; 5] =
    [Controller::Cpu, Controller::CpuAcct, Controller::Memory, Controller::Freezer, Controller::Kill];
/// The cluster answers within this, or it is said why not.
const READY_WITHIN: Duration = Duration::from_secs(15);

/// How often it is looked whether a worker's pid 1 is about to end.
const LOOK_AT_NODE: Duration = Duration::from_secs(2);

/// A worker that was made.
#[derive(Clone)]
pub(crate) struct Node {
    init: i32,
}

impl Node {
    /// The error where its pid 1 has ended already: only an agent that cannot use its state makes it do so.
    fn ended(&self, plan: &Plan, node: &NodePlan) -> Option<UpError> {
        if self.lives() {
            return None;
        }
        let said = std::fs::read_to_string(plan.state.join(format!("log/{}.log", node.name))).unwrap_or_default();
        Some(not_started(&node.name, FaultClass::State, &said))
    }
}

impl Node {
    /// Its pid 1 is there. (Not its directory tells: that stays until it is reaped.)
    fn lives(&self) -> bool {
        Path::new(&format!("/proc/{}/ns/net", self.init)).exists()
    }

    /// Tells of the end of its pid 1, by its place in the plan. The kernel lets a pid 1 end only behind everything of its
    /// PID namespace, and what is frozen there does not end: so it is also looked at.
    fn watch(&self, place: usize, ends: &tokio::sync::mpsc::UnboundedSender<usize>) {
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

/// A worker whose pid 1 was killed comes back as a machine that rebooted: nothing that lived there is left.
fn make_again(plan: &Plan, node: &NodePlan, root: &Group) -> Result<Node, String> {
    tell(&format!("grid: {} ended; it is made again, as after a reboot", node.name));
    let group = root.child(node.name.as_str());
    group.kill(Duration::from_secs(5)).and_then(|()| group.remove()).map_err(|e| e.to_string())?;
    let _ = run("ip", &["link", "del", &node.veth_head]);
    make_node(plan, node, root).map_err(|e| e.to_string())
}

/// Starts the cluster, calls `ready` when it answers, and keeps it until it is told to end.
pub async fn up(mut plan: Plan, ready: impl FnOnce(&Plan, Duration, &Status)) -> Result<(), UpError> {
    let start = Instant::now();
    let root = root_group(&plan)?;
    check(&plan, &root)?;
    plan.avoid(&taken_blocks());
    let named = plan.config.policy.users.daemon.clone();
    let account = account::choose(named.as_deref(), plan.tag(), &plan.head_dir())?;
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
        Ok(()) => keep(&plan, &root, &mut nodes, |status| ready(&plan, start.elapsed(), status)).await,
        Err(e) => Err(e),
    };
    remove(&plan, &nodes, &root);
    outcome
}

/// The group below which everything of the cluster is.
pub(crate) fn root_group(plan: &Plan) -> Result<Group, UpError> {
    let hierarchies = Hierarchies::detect().map_err(failed("reading the mounted cgroups"))?;
    Ok(hierarchies.group(&plan.cgroup, &BOUNDED))
}

/// The group of the head's own daemons.
fn daemons(plan: &Plan, root: &Group) -> Result<Group, UpError> {
    Ok(root.child(plan.head()?.as_str()).child("daemons").with(&[Controller::Freezer, Controller::Kill]))
}

/// Processes of the cluster that are not guests come home: daemons, workers and what lives in them.
pub(crate) fn left_over(plan: &Plan, root: &Group) -> Vec<i32> {
    let own = daemons(plan, root).map(|d| d.pids()).unwrap_or_default();
    let nodes = plan.nodes.iter().flat_map(|n| root.child(n.name.as_str()).pids());
    own.into_iter().chain(nodes).collect()
}

fn check(plan: &Plan, root: &Group) -> Result<(), UpError> {
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
    if down::supervisor(&plan.state).is_none() && !left_over(plan, root).is_empty() {
        let what = format!("a cluster of {} runs without its supervisor, with what lives in it", plan.state.display());
        return Err(UpError::new(FaultClass::Conflict, what).hint("grid down --recall-first, then grid up again"));
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

fn make_state(plan: &Plan, account: Account) -> Result<(), UpError> {
    let dir = |path: &Path, mode| {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
    };
    let what = plan.state.display().to_string();
    dir(&plan.state, 0o711).map_err(failed(&what))?;
    dir(&plan.state.join("nodes"), 0o711).map_err(failed(&what))?;
    // The daemon reads its own file in there; what holds the token is root's alone.
    dir(&plan.state.join("conf"), 0o711).map_err(failed(&what))?;
    dir(&plan.state.join("log"), 0o700).map_err(failed(&what))?;
    account::hand_over(&plan.head_dir(), account)?;
    // Who may write in `control` may stop grid; what agents answer is theirs alone.
    dir(&plan.state.join("stopped"), 0o755).map_err(failed(&what))?;
    let (control, group) = (plan.state.join("control"), account::group(&plan.config.policy.users.boost_group));
    dir(&control, 0o755).map_err(failed(&what))?;
    if group.is_some() {
        std::os::unix::fs::chown(&control, None, group).map_err(failed(&what))?;
        dir(&control, 0o775).map_err(failed(&what))?;
    }
    down::write_pid(&plan.state).map_err(failed(&what))?;
    write_private(&plan.state.join("conf/plan.json"), plan, None)
}

/// What each daemon needs to know, with a secret of this run for each worker: who knows it may speak to the head's agent
/// as that worker.
fn write_configs(plan: &Plan, account: Account) -> Result<(), UpError> {
    let tokens = plan.nodes.iter().map(|node| Ok((node.name.clone(), token()?)));
    let tokens: BTreeMap<NodeName, String> = tokens.collect::<Result<_, UpError>>()?;
    write_private(&plan.state.join("conf/hub.json"), &plan.hub_config(&plan.head()?, &tokens), None)?;
    // No token in it: the daemon's uid is what the agent goes by.
    write_private(&plan.state.join("conf/head.json"), &plan.head_config(), Some(account.gid))?;
    for node in &plan.nodes {
        let own = plan.spoke_config(node, &tokens[&node.name]);
        write_private(&plan.state.join(format!("conf/{}.json", node.name)), &own, None)?;
    }
    Ok(())
}

/// 256 bits that nobody can guess.
fn token() -> Result<String, UpError> {
    let mut bytes = [0u8; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| std::io::Read::read_exact(&mut f, &mut bytes))
        .map_err(failed("/dev/urandom"))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Writes a file that root alone may read, and this group where one is named; nobody but root may change it.
fn write_private(path: &Path, value: &impl serde::Serialize, readers: Option<u32>) -> Result<(), UpError> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
    let what = path.display().to_string();
    let json = serde_json::to_vec_pretty(value).unwrap_or_default();
    let _ = std::fs::remove_file(path);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed(&what))?;
    if readers.is_some() {
        fchown(&file, None, readers).map_err(failed(&what))?;
        file.set_permissions(std::fs::Permissions::from_mode(0o640)).map_err(failed(&what))?;
    }
    file.write_all(&json).map_err(failed(&what))
}

fn make_node(plan: &Plan, node: &NodePlan, root: &Group) -> Result<Node, UpError> {
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

/// Third bytes of the link-local addresses that this machine has.
fn taken_blocks() -> std::collections::BTreeSet<u8> {
    let listed = std::process::Command::new("ip").args(["-4", "-o", "addr", "show"]).output();
    let text = listed.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    let addresses = text.split_whitespace().filter_map(|word| word.strip_prefix("169.254."));
    addresses.filter_map(|rest| rest.split('.').next()?.parse().ok()).collect()
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

/// Runs the head's agent and daemon, and the workers, until somebody ends the cluster.
async fn keep(plan: &Plan, root: &Group, nodes: &mut [Node], ready: impl FnOnce(&Status)) -> Result<(), UpError> {
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
    let mut signals = Signals::new()?;
    let outcome = match await_ready(plan, nodes, &mut agent, &mut daemon).await {
        Ok(status) => {
            ready(&status);
            let (ends, mut ended) = tokio::sync::mpsc::unbounded_channel();
            nodes.iter().enumerate().for_each(|(i, node)| node.watch(i, &ends));
            loop {
                tokio::select! {
                    () = agent.keep() => {}
                    () = daemon.keep() => {}
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
                        let ends = tokio::select! { ends = down::may_end(plan) => ends, () = told => true };
                        if ends {
                            break;
                        }
                    }
                }
            }
            Ok(())
        }
        Err(e) => Err(e),
    };
    daemon.stop().await;
    agent.stop().await;
    outcome
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

async fn await_ready(plan: &Plan, nodes: &[Node], agent: &mut Kept, daemon: &mut Kept) -> Result<Status, UpError> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        could_start("the head's agent", agent)?;
        could_start("the head's daemon", daemon)?;
        for (node, made) in plan.nodes.iter().zip(nodes) {
            made.ended(plan, node).map_or(Ok(()), Err)?;
        }
        // The socket is there before the daemon answers on it.
        let asked = tokio::time::timeout(Duration::from_millis(500), down::status(plan)).await;
        let missing = match asked.unwrap_or_else(|_| Err("the daemon does not answer yet".to_owned())) {
            Ok(status) => match status.nodes.iter().find(|n| !measured(n)) {
                None => return Ok(status),
                Some(node) => format!("{} is {}, its use not measured yet", node.node, node.state),
            },
            Err(e) => e,
        };
        if Instant::now() > deadline {
            let said = format!("agent: {}; daemon: {}", agent.last_words(), daemon.last_words());
            let what = format!("the cluster did not answer within {} s: {missing}. {said}", READY_WITHIN.as_secs());
            return Err(UpError::new(FaultClass::Unreachable, what));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// It was heard of, and its use is known: it can lend.
fn measured(node: &NodeView) -> bool {
    node.state == "ready" && node.facts.as_ref().is_some_and(|f| f.cpu_used.is_some())
}

/// An error where this program has ended already: with its class, and what it said.
fn could_start(what: &str, kept: &mut Kept) -> Result<(), UpError> {
    let Some(code) = kept.ended() else { return Ok(()) };
    let class = FaultClass::ALL.into_iter().find(|c| i32::from(c.code()) == code).unwrap_or(FaultClass::Internal);
    Err(not_started(&what, class, &kept.last_words()))
}

fn not_started(what: &dyn std::fmt::Display, class: FaultClass, said: &str) -> UpError {
    let last = said.lines().rev().flat_map(|l| l.rsplit("; ")).find_map(|l| l.strip_prefix("error: "));
    UpError::new(class, format!("{what} could not start: {}", last.unwrap_or(said.trim())))
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
    let _ = std::fs::remove_dir_all(plan.run_dir());
    let _ = std::fs::remove_dir_all(plan.state.join("stopped"));
    for file in [plan.socket(), plan.agent_socket(), plan.state.join("up.pid"), plan.state.join("down")] {
        let _ = std::fs::remove_file(file);
    }
}
