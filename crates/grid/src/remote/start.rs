//! `grid node-start` and `grid node-stop` on a worker, called by the head through ssh.

use super::node::{end_orphans, read};
use super::{RemoteNode, sleep_unit};
use crate::up::{UpError, failed, runs, write_private};
use grid_os::tree_init::living;
use grid_types::exit::FaultClass;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A worker's daemons are there within this, or it is said why not.
const THERE_WITHIN: Duration = Duration::from_secs(15);
/// What lives here has ended within this.
const ENDED_WITHIN: Duration = Duration::from_secs(20);

/// Writes down what standard input says, and starts the worker's daemons with it, or tells those that run. Returns the
/// fingerprint of its channel.
pub fn node_start() -> Result<String, UpError> {
    let text = std::io::read_to_string(std::io::stdin()).map_err(failed("standard input"))?;
    let node: RemoteNode =
        serde_json::from_str(&text).map_err(|e| UpError::new(FaultClass::Config, format!("standard input: {e}")))?;
    let file = RemoteNode::file(&node.directory);
    let before = read(&file).ok();
    let runs = running(&node.directory);
    if let (Some(before), Some(_)) = (&before, runs)
        && before.head != node.head
    {
        let what = format!("{} works for another head ({}); nothing was changed", node.name, before.head);
        return Err(UpError::new(FaultClass::Conflict, what).hint("grid down there, or another name for this cluster"));
    }
    if let (Some(before), Some(pid)) = (&before, runs)
        && let Some(pin) = goes_on(pid, before, &node)
    {
        // What crosses the direct way, and moves that are under way, need not notice that ssh broke.
        sleep_unit::put(&node);
        kill(pid, Signal::SIGUSR1).map_err(|e| failed("telling the worker's daemons")(e.into()))?;
        return Ok(pin);
    }
    write_private(&file, &node, None)?;
    let _ = std::fs::remove_file(node.pin());
    match runs {
        Some(pid) => kill(pid, Signal::SIGHUP).map_err(|e| failed("telling the worker's daemons")(e.into()))?,
        None => detached(&node, &file).map_err(failed("starting the worker's daemons"))?,
    }
    sleep_unit::put(&node);
    let deadline = Instant::now() + THERE_WITHIN;
    loop {
        match std::fs::read_to_string(node.pin()) {
            Ok(pin) if pin.ends_with('\n') => return Ok(pin.trim().to_owned()),
            _ if Instant::now() > deadline => {
                let said = std::fs::read_to_string(node.directory.join("node.log")).unwrap_or_default();
                if runs.is_none() {
                    let _ = node_stop(&node.directory, false);
                }
                let last =
                    said.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or("it said nothing");
                return Err(UpError::new(FaultClass::Environment, format!("{} did not start: {last}", node.name)));
            }
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// The fingerprint of a worker whose daemons run with all that the head says, and with the programs that are there now.
fn goes_on(pid: Pid, before: &RemoteNode, node: &RemoteNode) -> Option<String> {
    let json = |node: &RemoteNode| serde_json::to_value(node).ok();
    let started = std::fs::metadata(node.pin()).ok()?;
    let same_program = runs(pid.as_raw(), &node.agent.program);
    let criu_before = std::fs::metadata(&node.agent.criu).ok()?.modified().ok()? <= started.modified().ok()?;
    let pin = std::fs::read_to_string(node.pin()).ok()?;
    let all = json(before) == json(node) && same_program && criu_before && pin.ends_with('\n');
    all.then(|| pin.trim().to_owned())
}

/// As a unit of systemd's where that runs, which no end of a session touches (`KillUserProcesses`); else, or where systemd
/// will not, in a session of its own.
fn detached(node: &RemoteNode, file: &Path) -> std::io::Result<()> {
    let log = node.directory.join("node.log");
    if Path::new("/run/systemd/system").exists()
        && start(Command::new("systemd-run").args(unit(node, &log)), node, file).is_ok()
    {
        return Ok(());
    }
    let log = File::options().create(true).append(true).open(log)?;
    start(Command::new("setsid").arg("--fork").stdout(log.try_clone()?).stderr(log), node, file)
}

fn start(starter: &mut Command, node: &RemoteNode, file: &Path) -> std::io::Result<()> {
    starter.arg(&node.agent.program).arg("node-run").arg("--config").arg(file).current_dir("/");
    let status = starter.stdin(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(std::io::Error::other(format!("{:?}: {status}", starter.get_program()))) }
}

/// What systemd-run is told: a transient service, gone when it has ended. Its supervisor alone is told to stop, and ends the
/// rest itself. Under cgroup v1 guests are in the unit's own group of systemd's: none of them may end it by its memory, and
/// its count of processes is none of theirs.
fn unit(node: &RemoteNode, log: &Path) -> Vec<String> {
    let name = node.directory.file_name().unwrap_or_default().to_string_lossy();
    let fixed = ["KillMode=process", "OOMPolicy=continue", "TasksMax=infinity", "TimeoutStopSec=30"].map(str::to_owned);
    let log = ["Output", "Error"].map(|which| format!("Standard{which}=append:{}", log.display()));
    let mut words = vec!["--quiet".to_owned(), "--collect".to_owned(), format!("--unit={name}")];
    words.push(format!("--description=grid worker {}", node.name));
    words.extend(fixed.into_iter().chain(log).map(|property| format!("--property={property}")));
    words
}

/// The supervisor of this folder, where one runs: it holds its file.
fn running(directory: &Path) -> Option<Pid> {
    let path = directory.join("node.pid");
    let file = File::open(&path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let pid = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
            Some(Pid::from_raw(pid))
        }
        _ => None,
    }
}

/// Ends this folder's worker as [`node_stop`] does, but for one on which something lives: that goes on, with its daemons.
pub fn node_spare(directory: &Path) -> Result<(), UpError> {
    let living = read(&RemoteNode::file(directory)).map_or(0, |node| living(&node.agent.run_dir).len());
    if living == 0 { node_stop(directory, false) } else { Ok(()) }
}

/// Ends what lives in this folder's worker, and removes the folder where that is asked for and nothing is parked in it.
pub fn node_stop(directory: &Path, purge: bool) -> Result<(), UpError> {
    sleep_unit::remove(directory);
    if let Some(pid) = running(directory) {
        kill(pid, Signal::SIGTERM).map_err(|e| failed("ending the worker's daemons")(e.into()))?;
        let deadline = Instant::now() + ENDED_WITHIN;
        while running(directory).is_some() {
            if Instant::now() > deadline {
                let what = format!("the worker's daemons (pid {pid}) did not end within {} s", ENDED_WITHIN.as_secs());
                return Err(UpError::new(FaultClass::Unreachable, what));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    } else if let Ok(node) = read(&RemoteNode::file(directory)) {
        // What a supervisor that was killed left.
        end_orphans(&node)?;
    }
    if purge {
        let parked = directory.join("state").join(grid_agent::PARKED);
        if std::fs::read_dir(&parked).is_ok_and(|mut copies| copies.next().is_some()) {
            let what = format!("{} holds parked processes; nothing in there was removed", parked.display());
            return Err(UpError::new(FaultClass::Conflict, what)
                .hint("grid up, grid offload list, grid offload unpark ID; what was given up is deleted by hand"));
        }
        std::fs::remove_dir_all(directory).map_err(failed(&directory.display().to_string()))?;
    }
    Ok(())
}
