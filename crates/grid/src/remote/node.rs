//! `grid node-run` on a worker: its control group, its agent and its end of the channel, started again when they end.
//!
//! Owns the group of the worker's daemons. Told SIGHUP, it reads anew what the head wrote and starts both with it: guests do
//! not notice. SIGUSR1 says that only ssh came anew: the channel drops what crossed the forward before. SIGTERM ends everything that lives here.

use super::RemoteNode;
use crate::up::{Account, Kept, UpError, failed, tell, write_private};
use grid_channel::Identity;
use grid_os::cgroup::{Controller, Group, Hierarchies};
use grid_os::criu::Criu;
use grid_types::exit::FaultClass;
use std::fs::{File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, lchown};
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

const BOUNDED: [Controller; 5] =
    [Controller::Cpu, Controller::CpuAcct, Controller::Memory, Controller::Freezer, Controller::Kill];
/// Who is killed has gone within this.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// Daemons that could not be started anew are tried again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Runs until it is told to end.
pub async fn node_run(config: &Path) -> Result<(), UpError> {
    let mut node = read(config)?;
    let _only = hold(&node.directory)?;
    let on = |kind| signal(kind).map_err(failed("waiting for signals"));
    let (mut hangup, mut terminate) = (on(SignalKind::hangup())?, on(SignalKind::terminate())?);
    let mut ssh_anew = on(SignalKind::user_defined1())?;
    Criu::find(&node.agent.criu).map_err(environment)?;
    let (mut group, mut kept) = begin(&node)?;
    loop {
        let again = loop {
            let [agent, channel] = &mut kept;
            tokio::select! {
                () = agent.keep() => {}
                () = channel.keep() => {}
                _ = hangup.recv() => break true,
                _ = ssh_anew.recv() => channel.hang_up(),
                _ = terminate.recv() => break false,
            }
        };
        for one in &mut kept {
            one.stop().await;
        }
        if !again {
            return tidy(&node, &group);
        }
        (node, group, kept) = loop {
            // What lives here outlives a start that failed, and the head takes it for reached.
            match read(config).and_then(|node| begin(&node).map(|(group, kept)| (node, group, kept))) {
                Ok(begun) => break begun,
                Err(e) => tell(&format!("error: {e}; again in a moment")),
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN_AFTER) => {}
                _ = terminate.recv() => return tidy(&node, &group),
            }
        };
    }
}

/// Makes its groups where they are not there, with the limits that count now, and starts its daemons.
fn begin(node: &RemoteNode) -> Result<(Group, [Kept; 2]), UpError> {
    let group = groups(node)?;
    let daemons = group.child("agent");
    // Of a supervisor that was killed; guests are in other groups.
    daemons.kill(GONE_WITHIN).map_err(environment)?;
    let kept = start(node, &daemons)?;
    Ok((group, kept))
}

/// What the head wrote.
pub(super) fn read(config: &Path) -> Result<RemoteNode, UpError> {
    let what = config.display().to_string();
    let text = std::fs::read_to_string(config).map_err(failed(&what))?;
    serde_json::from_str(&text).map_err(|e| UpError::new(FaultClass::Config, format!("{what}: {e}")))
}

fn environment(e: impl std::fmt::Display) -> UpError {
    UpError::new(FaultClass::Environment, e.to_string())
}

/// One at a time runs for a folder. The number of the one that does is in the file.
fn hold(directory: &Path) -> Result<File, UpError> {
    use std::io::Write;
    let path = directory.join("node.pid");
    let what = path.display().to_string();
    let mut file = File::options().create(true).write(true).truncate(false).open(&path).map_err(failed(&what))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(UpError::new(FaultClass::Conflict, format!("{what}: this worker runs already")));
        }
        Err(TryLockError::Error(e)) => return Err(failed(&what)(e)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed(&what))?;
    Ok(file)
}

/// The worker's control group, with the limits that its lender set.
fn groups(node: &RemoteNode) -> Result<Group, UpError> {
    let hierarchies = Hierarchies::detect().map_err(failed("reading the mounted cgroups"))?;
    let group = hierarchies.group(&node.agent.cgroup, &BOUNDED);
    let made =
        group.create().and_then(|()| group.child("agent").create()).and_then(|()| group.set_limits(&node.limits));
    made.map_err(environment)?;
    Ok(group)
}

fn start(node: &RemoteNode, daemons: &Group) -> Result<[Kept; 2], UpError> {
    let dir = |path: &Path, mode| {
        let what = path.display().to_string();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)))
            .map_err(failed(&what))
    };
    for private in ["log", "conf"] {
        dir(&node.directory.join(private), 0o700)?;
    }
    for open in ["control", "stopped"] {
        dir(&node.directory.join(open), 0o755)?;
    }
    let log = |name: &str| node.directory.join("log").join(name);
    let agent_file = node.directory.join("conf/agent.json");
    write_private(&agent_file, &node.agent, None)?;
    let (account, channel_file) = channel_files(node)?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let program = &node.agent.program;
    let mut agent = Kept::new(program, &["agent", "--config", &text(&agent_file)], &log("agent.log"), daemons);
    let run_channel = ["channel", "--config", &text(&channel_file), "--run-as", &account.to_string()];
    let mut channel = Kept::new(program, &run_channel, &log("channel.log"), daemons);
    channel.start().map_err(failed("the channel"))?;
    agent.start().map_err(failed("the agent"))?;
    Ok([agent, channel])
}

/// The channel's own folder and file, and its fingerprint where the head's ssh reads it.
fn channel_files(node: &RemoteNode) -> Result<(Account, std::path::PathBuf), UpError> {
    let folder = &node.channel.identity;
    // Of a channel that was killed: a socket cannot be handed over.
    let _ = std::fs::remove_file(folder.join(super::AGENT_SOCKET));
    let account = Account::unprivileged(folder)?;
    let what = folder.display().to_string();
    let file = folder.join("channel.json");
    write_private(&file, &node.channel, Some(account.gid))?;
    let pin = Identity::open(folder).map_err(environment)?.pin();
    for entry in std::fs::read_dir(folder).map_err(failed(&what))?.flatten() {
        lchown(entry.path(), Some(account.uid), Some(account.gid)).map_err(failed(&what))?;
    }
    std::fs::write(node.pin(), format!("{pin}\n")).map_err(failed(&what))?;
    Ok((account, file))
}

/// Ends what lives here without a supervisor, and leaves nothing of it but the folder.
pub(super) fn end_orphans(node: &RemoteNode) -> Result<(), UpError> {
    let hierarchies = Hierarchies::detect().map_err(failed("reading the mounted cgroups"))?;
    let group = hierarchies.group(&node.agent.cgroup, &BOUNDED);
    if group.exists() { tidy(node, &group) } else { Ok(()) }
}

/// Nothing of this worker is left but its folder.
fn tidy(node: &RemoteNode, group: &Group) -> Result<(), UpError> {
    group.kill(GONE_WITHIN).and_then(|()| group.remove()).map_err(environment)?;
    let _ = std::fs::remove_dir_all(&node.agent.run_dir);
    // Its parents are the cluster's: they go where nothing else is in them.
    if let Some(cluster) = node.agent.run_dir.parent() {
        let _ = std::fs::remove_dir(cluster);
    }
    if let Some(parent) = group.parent() {
        parent.remove_where_empty();
    }
    Ok(())
}
