//! Workers on other machines, as the supervisor of a cluster sees them: what is written for each, the head's end of the
//! channel, and the programs that keep ssh to them.

use super::plan::{Plan, RemotePlan};
use super::supervise::Kept;
use super::written::write_private;
use super::{Account, UpError, failed};
use crate::remote::{AGENT_SOCKET, ReachConfig, RemoteNode};
use grid_agent::AgentRole;
use grid_channel::{ChannelConfig, Identity, LINK_FILE, Pin, Side};
use grid_os::cgroup::Group;
use grid_os::socket::Address;
use grid_types::NodeName;
use grid_types::exit::FaultClass;
use grid_types::stop::StopPlace;
use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::pin::Pin as Pinned;
use std::task::Poll;
use std::time::Duration;

/// Ending what lives on a worker takes ssh this long at most.
pub(super) const LEFT_WITHIN: Duration = Duration::from_secs(30);

/// Folder of the head's end of the channel.
fn folder(plan: &Plan) -> PathBuf {
    plan.state.join("channel")
}

/// Where ssh brings the workers' ends, in that folder.
const DOOR: &str = "door.sock";

fn door(plan: &Plan) -> PathBuf {
    folder(plan).join(DOOR)
}

fn pins(plan: &Plan) -> PathBuf {
    plan.state.join("workers")
}

pub(super) fn pin_file(plan: &Plan, worker: &RemotePlan) -> PathBuf {
    pins(plan).join(worker.name.as_str())
}

/// In `/run`: the path of a socket must be short.
fn control(plan: &Plan, worker: &RemotePlan) -> PathBuf {
    plan.run_dir().join(format!("ssh-{}", worker.name))
}

pub(super) fn reach_file(plan: &Plan, worker: &RemotePlan) -> PathBuf {
    plan.state.join(format!("conf/reach-{}.json", worker.name))
}

/// The user who started this, where that was through sudo: ssh is that user's own.
pub(super) fn caller() -> Option<Account> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok().filter(|n| *n != 0);
    Some(Account { uid: number("SUDO_UID")?, gid: number("SUDO_GID")? })
}

/// What the channel, and the program that reaches each worker, need to know. `secret`: a worker's, by its place.
pub(super) fn write(plan: &Plan, account: Account, secret: impl Fn(&RemotePlan) -> String) -> Result<(), UpError> {
    if !plan.over_ssh() {
        return Ok(());
    }
    let pin = identity(&folder(plan), account)?;
    let what = pins(plan).display().to_string();
    let _ = std::fs::remove_dir_all(pins(plan));
    std::fs::DirBuilder::new().mode(0o755).create(pins(plan)).map_err(failed(&what))?;
    let direct = plan.config.policy.engine.direct_link().map(|link| link.listen);
    let (listen, hub) = (vec![Address::Unix(door(plan))], plan.workers_socket());
    let side = Side::Head { listen, direct, hub, workers: pins(plan) };
    let memory_rate = plan.config.policy.engine.link_limit();
    let channel = ChannelConfig { identity: folder(plan), memory_rate, side };
    write_private(&plan.state.join("conf/channel.json"), &channel, Some(account.gid))?;
    let caller = caller();
    if let Some(user) = caller {
        chown(pins(plan), Some(user.uid), Some(user.gid)).map_err(failed(&what))?;
    }
    plan.remote.iter().try_for_each(|worker| write_reach(plan, worker, pin, secret(worker)))
}

/// The same for a worker that comes to a cluster that runs. It counts as not reached yet.
pub(super) fn write_worker(plan: &Plan, worker: &RemotePlan, token: String) -> Result<(), UpError> {
    let own = Identity::open(&folder(plan)).map_err(|e| UpError::new(FaultClass::Environment, e.to_string()))?;
    let _ = std::fs::remove_file(pin_file(plan, worker));
    write_reach(plan, worker, own.pin(), token)
}

fn write_reach(plan: &Plan, worker: &RemotePlan, pin: Pin, token: String) -> Result<(), UpError> {
    let caller = caller();
    let file = reach_file(plan, worker);
    // Its token is for the user alone, as whom ssh runs, not for who shares his group.
    write_private(&file, &reach(plan, worker, pin, token), None)?;
    let control = control(plan, worker);
    let what = control.display().to_string();
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(plan.run_dir());
    made.and_then(|()| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&control))
        .map_err(failed(&what))?;
    if let Some(user) = caller {
        chown(&control, Some(user.uid), Some(user.gid)).map_err(failed(&what))?;
        chown(&file, Some(user.uid), None).map_err(failed(&file.display().to_string()))?;
    }
    Ok(())
}

/// From now on this worker's certificate counts no more.
pub(super) fn unpin(plan: &Plan, worker: &RemotePlan) {
    let _ = std::fs::remove_file(pin_file(plan, worker));
}

/// Nothing is known any more of how this worker was reached.
pub(super) fn forget(plan: &Plan, worker: &RemotePlan) {
    unpin(plan, worker);
    let _ = std::fs::remove_file(reach_file(plan, worker));
    let _ = std::fs::remove_dir_all(control(plan, worker));
}

/// The address at which workers may come directly can be listened at, here and now.
pub(super) fn can_listen(plan: &Plan) -> Result<(), UpError> {
    let Some(link) = plan.config.policy.engine.direct_link() else { return Ok(()) };
    let Err(e) = std::net::TcpListener::bind(link.listen) else { return Ok(()) };
    let (what, hint) = match e.kind() {
        ErrorKind::AddrNotAvailable => ("it is no address of this machine".to_owned(), "ip -brief address".to_owned()),
        ErrorKind::AddrInUse => {
            let port = link.listen.port();
            let hint = format!("another port, or end who has it: ss -ltnp 'sport = :{port}'");
            (format!("port {port} is taken"), hint)
        }
        _ => (e.to_string(), "another address, or none: workers come through ssh then".to_owned()),
    };
    let what = format!("execution.link_listen {}: {what}; nothing was started", link.listen);
    Err(UpError::new(FaultClass::Environment, what).hint(hint))
}

/// The head's key and certificate, the account's own; its folder is the way to the door.
fn identity(folder: &Path, account: Account) -> Result<Pin, UpError> {
    let what = folder.display().to_string();
    // A socket is nothing that could be handed over.
    let _ = std::fs::remove_file(folder.join(DOOR));
    super::account::hand_over(folder, account)?;
    let made = Identity::open(folder).map_err(|e| UpError::new(FaultClass::Environment, e.to_string()))?;
    super::account::hand_over(folder, account)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).map_err(failed(&what))?;
    Ok(made.pin())
}

fn reach(plan: &Plan, worker: &RemotePlan, pin: Pin, token: String) -> ReachConfig {
    let directory = plan.folder_of(worker);
    let socket = directory.join("channel").join(AGENT_SOCKET);
    let role = AgentRole::Spoke { hub: Address::Unix(socket.clone()), token };
    let mut agent = plan.agent_config(&worker.name, role, Some(worker.lends));
    agent.state_dir = directory.join("state");
    agent.criu = directory.join("bin/criu");
    agent.program = directory.join("bin/grid");
    agent.stop = StopPlace::of_worker(&directory);
    let head = Address::Unix(directory.join("ssh/head.sock"));
    let direct = plan.config.policy.engine.direct_link().map(|link| link.dial);
    agent.link = direct.as_ref().map(|_| directory.join("channel").join(LINK_FILE));
    let node = RemoteNode {
        name: worker.name.clone(),
        head: pin.to_string(),
        limits: super::plan::with_room(&worker.lends),
        agent,
        channel: ChannelConfig {
            identity: directory.join("channel"),
            memory_rate: plan.config.policy.engine.link_limit(),
            side: Side::Worker { listen: socket, head, direct, pin },
        },
        directory,
    };
    ReachConfig {
        host: worker.host.clone(),
        port: worker.port,
        user: worker.user.clone(),
        key: worker.key.clone(),
        ssh_config: plan.config.policy.engine.ssh_config.clone().map(PathBuf::from),
        sudo: worker.sudo,
        node,
        program: plan.program.clone(),
        criu: plan.criu.clone(),
        channel: door(plan),
        pin: pin_file(plan, worker),
        control: control(plan, worker),
    }
}

/// The head's end of the channel, and what keeps ssh to each worker.
pub(super) fn daemons(plan: &Plan, group: &Group) -> Vec<Kept> {
    if !plan.over_ssh() {
        return Vec::new();
    }
    let log = |name: &str| plan.state.join("log").join(name);
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let account = plan.daemon.map(|a| a.to_string()).unwrap_or_default();
    let config = text(&plan.state.join("conf/channel.json"));
    let argv = ["channel", "--config", &config, "--run-as", &account];
    let channel = Kept::new(&plan.program, &argv, &log("channel.log"), group);
    let reaches = plan.remote.iter().map(|worker| reaching(plan, worker, group));
    std::iter::once(channel).chain(reaches).collect()
}

/// What keeps ssh to a worker.
pub(super) fn reaching(plan: &Plan, worker: &RemotePlan, group: &Group) -> Kept {
    let config = reach_file(plan, worker).to_string_lossy().into_owned();
    let mut argv = vec!["reach", "--config", &config];
    let caller = caller().map(|user| user.to_string());
    if let Some(user) = &caller {
        argv.extend(["--run-as", user]);
    }
    let log = plan.state.join(format!("log/reach-{}.log", worker.name));
    Kept::new(&plan.program, &argv, &log, group).patient(LEFT_WITHIN)
}

/// Keeps all of them: returns each time one was started again. Never, where there are none.
pub(super) async fn keep(kept: &mut [Kept]) {
    let mut waits: Vec<Pinned<Box<dyn Future<Output = ()> + '_>>> = Vec::new();
    for one in kept {
        waits.push(Box::pin(one.keep()));
    }
    std::future::poll_fn(|cx| {
        let ready = waits.iter_mut().any(|wait| wait.as_mut().poll(cx).is_ready());
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Ends the workers of a cluster that nobody supervises. What could not be reached is named.
pub(super) fn leave(plan: &Plan, purge: bool) -> Vec<String> {
    let mut said = Vec::new();
    for worker in &plan.remote {
        match leaving(plan, &reach_file(plan, worker), purge).output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => said.push(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(e) => said.push(format!("{}: {e}", worker.name)),
        }
    }
    said
}

/// Ends what may still run on workers that are none of the cluster's any more: those that did not answer when they were
/// removed, or whose coming or going was cut off.
pub(super) async fn end_strays(plan: Plan) {
    if !plan.over_ssh() {
        return;
    }
    let ours: Vec<PathBuf> = plan.remote.iter().map(|worker| reach_file(&plan, worker)).collect();
    let is_stray = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("reach-") && name.ends_with(".json") && !ours.contains(path)
    };
    let conf = std::fs::read_dir(plan.state.join("conf")).into_iter().flatten().flatten().map(|entry| entry.path());
    for file in conf.filter(is_stray) {
        if let Err(e) = end_stray(&plan, &file).await {
            super::tell(&format!("grid: {e}"));
        }
    }
}

/// Ends what may still run where this file leads to, where there is such a file; it is gone then.
pub(super) async fn end_stray(plan: &Plan, file: &Path) -> Result<(), String> {
    if !file.exists() {
        return Ok(());
    }
    let mut leave = tokio::process::Command::from(leaving(plan, file, false));
    match leave.kill_on_drop(true).output().await {
        Ok(out) if out.status.success() => std::fs::remove_file(file).map_err(|e| format!("{}: {e}", file.display())),
        Ok(out) => Err(String::from_utf8_lossy(&out.stderr).trim().trim_start_matches("error: ").to_owned()),
        Err(e) => Err(format!("{}: {e}", file.display())),
    }
}

/// The command that ends a worker's daemons, and removes its folder where that is asked for.
pub(super) fn leaving(plan: &Plan, reach_file: &Path, purge: bool) -> std::process::Command {
    let mut command = std::process::Command::new(&plan.program);
    command.args(["reach", "--leave", "--config"]).arg(reach_file);
    command.args(purge.then_some("--purge"));
    if let Some(user) = caller() {
        command.args(["--run-as", &user.to_string()]);
    }
    command.stdin(std::process::Stdio::null());
    command
}

/// Workers of the cluster of this state that are other machines; none where that cannot be read.
pub fn workers_elsewhere(state: &Path) -> Vec<NodeName> {
    let json = std::fs::read_to_string(state.join("conf/plan.json")).unwrap_or_default();
    serde_json::from_str::<Plan>(&json).map_or(Vec::new(), |plan| plan.remote.into_iter().map(|w| w.name).collect())
}

/// Removes what grid has on the workers of the cluster of this state, which is down.
///
/// # Errors
/// What is still there, and why.
pub fn purge(state: &Path) -> Result<(), UpError> {
    let what = state.join("conf/plan.json");
    let json = std::fs::read_to_string(&what).map_err(failed(&what.display().to_string()))?;
    let plan: Plan =
        serde_json::from_str(&json).map_err(|e| UpError::new(FaultClass::State, format!("{}: {e}", what.display())))?;
    let said = leave(&plan, true);
    if said.is_empty() { Ok(()) } else { Err(UpError::new(FaultClass::Unreachable, said.join("; "))) }
}
