//! Ending the embedded cluster: nothing that is away is ended unasked.

use super::plan::{Plan, RemotePlan};
use super::{UpError, cluster};
use crate::cli::{Answer, Client};
use grid_os::cgroup::Group;
use grid_os::pidfd::PidFd;
use grid_shadow::SHADOW_COMM;
use grid_types::api::{DryRun, OffloadView, Status};
use grid_types::event::OffloadPhase;
use grid_types::exit::FaultClass;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A daemon that is there answers within this.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// How the supervisor was told to end.
const RECALL: &str = "recall";
const FORCE: &str = "force";
const LEAVE: &str = "leave";
/// The state's note that what was away runs on without a supervisor.
const LEFT: &str = "left";
/// The state's list of workers that did not end.
const NOT_ENDED: &str = "not-ended";

/// Number of the supervisor of this state, where it runs.
pub(crate) fn supervisor(state: &Path) -> Option<i32> {
    let text = std::fs::read_to_string(state.join("up.pid")).ok()?;
    let (pid, start) = text.trim().split_once(' ')?;
    // This one itself, where it was another grid before.
    let pid = pid.parse().ok().filter(|pid| *pid != std::process::id() as i32)?;
    (start_ticks(pid)? == start).then_some(pid)
}

/// Writes down who supervises: number and start time.
pub(crate) fn write_pid(state: &Path) -> std::io::Result<()> {
    let pid = std::process::id() as i32;
    std::fs::write(state.join("up.pid"), format!("{pid} {}\n", start_ticks(pid).unwrap_or_default()))
}

/// Start time of a process that runs; a zombie does not.
fn start_ticks(pid: i32) -> Option<String> {
    let start = grid_os::proc::start_ticks(pid).filter(|_| !grid_os::proc::has_ended(pid))?;
    Some(start.to_string())
}

/// The daemon's view of everything.
pub(crate) async fn status(plan: &Plan) -> Result<Status, String> {
    Client::new(plan.socket()).get("/v1/status").await.map(|a| a.ok).map_err(|e| e.to_string())
}

/// What there is to end: its supervisor, or what one that was killed left.
pub(super) struct ToEnd {
    pid: Option<i32>,
    leftovers: Option<(Plan, Group)>,
}

/// Looks for the cluster of this state, where whoever asks may end it.
pub(super) fn found(state: &Path) -> Result<ToEnd, UpError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(UpError::new(FaultClass::Permission, "only root ends the cluster. Nothing was changed.")
            .hint("sudo grid down"));
    }
    let found = ToEnd { pid: supervisor(state), leftovers: orphans(state) };
    if found.pid.is_none() && found.leftovers.is_none() {
        let what = format!("no cluster of {} is up. Nothing was changed.", state.display());
        return Err(UpError::new(FaultClass::NotFound, what));
    }
    Ok(found)
}

/// What becomes of what is away, and does not come home.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum StillAway {
    /// The cluster stays up.
    Refuses,
    /// It ends with the cluster.
    Ends,
    /// It runs on where it is, and the next `grid up` takes it over.
    IsLeft,
}

/// How a cluster came to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing of it is left.
    Whole,
    /// What is away runs on, and the head's own daemons do not.
    Left,
}

/// What would end with the cluster: refused, unless somebody said that it may.
pub(super) fn to_end(
    known: Result<Vec<OffloadView>, String>,
    may: bool,
    found: &ToEnd,
) -> Result<Vec<OffloadView>, UpError> {
    let left = known.map_err(|e| {
        let what = format!("it cannot be told what is still away: {e}. Nothing was changed.");
        let hint = match found.pid {
            None => "grid up takes the cluster over, with what lives in it; grid down --yes ends both",
            Some(_) => "grid down --yes ends it and what lives in it",
        };
        UpError::new(FaultClass::Unreachable, what).hint(hint)
    })?;
    if left.is_empty() || may {
        return Ok(left);
    }
    let list = left.iter().map(|o| format!("{} {} on {}", o.record.process.pid, o.record.title, o.record.destination));
    let what =
        format!("still away: {}. Stopping would end them; nothing was changed.", list.collect::<Vec<_>>().join(", "));
    Err(UpError::new(FaultClass::Conflict, what)
        .hint("grid down --recall-first; or --leave, and they run on there; or --yes to end them"))
}

/// What was tried has come to this: it is not what to do next.
fn tried(e: UpError, said: &[String]) -> UpError {
    if said.is_empty() {
        return e;
    }
    let hint = "mend what stands in the way; or --leave, and they run on there; or --yes to end them";
    UpError { message: format!("{} {}", e.message, said.join("; ")), ..e }.hint(hint)
}

/// Ends the cluster of this state. Refused while something is away, unless it is recalled first or given up.
pub async fn down(state: &Path, recall_first: bool, still_away: StillAway) -> Result<Vec<String>, UpError> {
    let found = found(state)?;
    let may = still_away != StillAway::Refuses;
    let client = Client::new(state.join("head.sock"));
    let mut said = Vec::new();
    if recall_first {
        said = recall_all(&client).await;
    }
    let known = try_away(&client).await;
    let known = if may { Ok(known.unwrap_or_default()) } else { known };
    let left = to_end(known, may, &found).map_err(|e| tried(e, &said))?;
    let fate = if still_away == StillAway::IsLeft { "runs on at" } else { "ends with" };
    said.extend(
        left.iter().map(|o| format!("{} {} {fate} {}", o.record.process.pid, o.record.title, o.record.destination)),
    );
    if found.leftovers.is_some() && still_away == StillAway::IsLeft {
        said.push("It lost its supervisor before: what lives in it runs on. grid up takes it over".to_owned());
        return Ok(said);
    }
    if let Some((plan, root)) = found.leftovers {
        said.extend(super::others::leave(&plan, false));
        cluster::remove(&plan, &[], &root);
        return Ok(said);
    }
    let Some(pid) = found.pid else { return Ok(said) };
    let mode = match still_away {
        StillAway::Refuses => RECALL,
        StillAway::Ends => FORCE,
        StillAway::IsLeft => LEAVE,
    };
    std::fs::write(state.join("down"), mode).map_err(super::failed("telling the supervisor"))?;
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM);
    let deadline = Instant::now() + Duration::from_secs(60);
    while supervisor(state).is_some() {
        if Instant::now() > deadline {
            return Err(UpError::new(
                FaultClass::Unreachable,
                format!("the supervisor (pid {pid}) did not end within 60 s"),
            ));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let not_ended = state.join(NOT_ENDED);
    said.extend(std::fs::read_to_string(&not_ended).unwrap_or_default().lines().map(str::to_owned));
    let _ = std::fs::remove_file(not_ended);
    Ok(said)
}

/// A worker that did not say that its part has ended: for whoever ends the cluster to read.
pub(super) fn note_not_ended(state: &Path, worker: &RemotePlan, why: &str) {
    let line = format!(
        "{} was not ended, and what grid has there may go on until the next grid up ends it: {why}",
        worker.name
    );
    super::tell(&format!("grid: {line}"));
    let file = std::fs::OpenOptions::new().create(true).append(true).open(state.join(NOT_ENDED));
    let _ = file.and_then(|mut file| writeln!(file, "{line}"));
}

/// Copies that stay held frozen though the cluster is down: nobody can prove yet that they may run, or that they are not
/// the only ones.
pub fn still_held(state: &Path) -> usize {
    let json = std::fs::read_to_string(state.join("conf/plan.json")).unwrap_or_default();
    let Ok(plan) = serde_json::from_str::<Plan>(&json) else { return 0 };
    let ask = grid_agent::RescueAsk { dry_run: true, ..Default::default() };
    grid_agent::rescue(state, &plan.cgroup, &ask).map_or(0, |found| found.copies.len())
}

/// Trees that came home and live on though the cluster is down.
pub fn living_on(state: &Path) -> usize {
    let json = std::fs::read_to_string(state.join("conf/plan.json")).unwrap_or_default();
    serde_json::from_str::<Plan>(&json).map_or(0, |plan| living_trees(&plan).len())
}

/// Folders of the trees of this cluster that live: each has a pid 1 of its own that names its folder.
pub(super) fn living_trees(plan: &Plan) -> BTreeSet<PathBuf> {
    grid_os::tree_init::living(&plan.run_dir())
}

/// A cluster whose supervisor was killed: its plan is in its state.
pub(super) fn orphans(state: &Path) -> Option<(Plan, Group)> {
    if supervisor(state).is_some() {
        return None;
    }
    let json = std::fs::read_to_string(state.join("conf/plan.json")).ok()?;
    let plan: Plan = serde_json::from_str(&json).ok()?;
    let root = cluster::root_group(&plan).ok()?;
    (was_left(state) || !cluster::left_over(&plan, &root).is_empty()).then_some((plan, root))
}

pub(super) async fn try_away(client: &Client) -> Result<Vec<OffloadView>, String> {
    let status: Result<Answer<Status>, _> = client.get("/v1/status").await;
    // What is parked is on a disk, and is found there when the cluster is up again.
    let lives = |o: &OffloadView| o.record.phase != OffloadPhase::Parked;
    status.map(|s| s.ok.away.into_iter().filter(lives).collect()).map_err(|e| e.to_string())
}

async fn away(client: &Client) -> Vec<OffloadView> {
    try_away(client).await.unwrap_or_default()
}

/// Brings home what can come.
async fn recall_all(client: &Client) -> Vec<String> {
    let mut said = Vec::new();
    for offload in away(client).await {
        let id = &offload.record.id;
        if offload.record.phase == OffloadPhase::Moving {
            let _: Result<Answer<OffloadView>, _> =
                client.post(&format!("/v1/offloads/{id}/cancel"), &DryRun::default()).await;
        }
        let told: Result<Answer<OffloadView>, _> =
            client.post(&format!("/v1/offloads/{id}/recall"), &DryRun::default()).await;
        let after: Result<Answer<OffloadView>, _> = client.wait(&format!("/v1/offloads/{id}?settled")).await;
        match (told, after) {
            (_, Ok(view)) if view.ok.record.phase == OffloadPhase::Home => {
                said.push(format!("{} {} is home", offload.record.process.pid, offload.record.title));
            }
            (Err(e), _) => said.push(format!("{id} stays: {e}")),
            (_, Ok(view)) => said.push(format!("{id} stays: {:?}", view.ok.record.phase)),
            (_, Err(e)) => said.push(format!("{id}: {e}")),
        }
    }
    said
}

/// Somebody said that what is away may end with the cluster.
pub(crate) fn given_up(plan: &Plan) -> bool {
    std::fs::read_to_string(plan.state.join("down")).is_ok_and(|told| told == FORCE)
}

/// What is away ends with the cluster; who waits for it at home is to hear of that, by the same SIGKILL. (Where the daemon does
/// not answer, they hear of it when the cluster is up again.)
pub(crate) async fn end_shadows(plan: &Plan) {
    let client = Client::new(plan.socket());
    let away = tokio::time::timeout(ANSWERS_WITHIN, away(&client)).await.unwrap_or_default();
    for process in away.iter().map(|o| &o.record.process) {
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", process.pid)).unwrap_or_default();
        let is_it =
            || grid_os::proc::start_ticks(process.pid) == Some(process.start_ticks) && comm.trim() == SHADOW_COMM;
        if let Some(fd) = PidFd::open(process.pid).ok().filter(|_| is_it()) {
            let _ = fd.signal(nix::libc::SIGKILL);
        }
    }
}

/// Its supervisor left what is away running, since this machine started.
pub fn was_left(state: &Path) -> bool {
    let boot_id = grid_os::clock::boot_id().unwrap_or_default();
    std::fs::read_to_string(state.join(LEFT)).is_ok_and(|text| text == boot_id)
}

/// Written down, or, where a cluster is up, forgotten.
pub(super) fn note_left(state: &Path, left: bool) -> std::io::Result<()> {
    let file = state.join(LEFT);
    match (left, std::fs::remove_file(&file)) {
        (true, _) => std::fs::write(file, grid_os::clock::boot_id().map_err(std::io::Error::other)?),
        (false, Err(e)) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        (false, _) => Ok(()),
    }
}

/// Whether, and how, the supervisor ends now. A first Ctrl-C brings everything home; what cannot come keeps the cluster up,
/// until a second one.
pub(super) async fn may_end(plan: &Plan) -> Option<Ending> {
    let told = std::fs::read_to_string(plan.state.join("down")).unwrap_or_default();
    let _ = std::fs::remove_file(plan.state.join("down"));
    let client = Client::new(plan.socket());
    if told == FORCE {
        return Some(Ending::Whole);
    }
    if told == LEAVE {
        // Where nobody can tell, something may be.
        let none = try_away(&client).await.is_ok_and(|away| away.is_empty());
        return Some(if none { Ending::Whole } else { Ending::Left });
    }
    for line in recall_all(&client).await {
        super::tell(&line);
    }
    let left = away(&client).await;
    if left.is_empty() {
        return Some(Ending::Whole);
    }
    let _ = std::fs::write(plan.state.join("down"), FORCE);
    super::tell(&format!("{} processes are still away and would end: interrupt again to end them", left.len()));
    None
}
