//! `grid stop` and `grid keep`.
//!
//! To stop is to make a file, so that it works without a daemon: the folder's rights say who may. Agents heed the file
//! and answer beside it; the daemon is told, so that the journal knows who it was.

use super::args::{KeepArgs, StopArgs};
use super::client::{Answer, Client};
use super::commands::{lines, printed};
use super::failure::Failure;
use super::may;
use super::output::Printed;
use super::render::{self, Clock};
use grid_types::api::{KeepAsk, KeepView, Status, StopNoted};
use grid_types::event::OffloadPhase;
use grid_types::exit::FaultClass;
use grid_types::reason::ReasonCode;
use grid_types::stop::{Stop, StopPlace, StopView};
use grid_types::{Millis, NodeName};
use serde::Serialize;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Agents that have not answered within this are named as silent.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The daemon is not waited for longer: it may be what is broken.
const DAEMON_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What stopping came to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Stopped {
    /// The order, and the agents' answers.
    #[serde(flatten)]
    pub view: StopView,
    /// Agents that run and have not answered.
    pub silent: Vec<NodeName>,
    /// From making the file to the last answer, by the command's clock; none where it stood already.
    pub waited: Option<Millis>,
    /// The daemon has recorded it.
    pub recorded: bool,
}

/// `grid stop`.
pub(super) async fn stop(state: &Path, client: &Client, args: &StopArgs) -> Result<Printed, Failure> {
    let state = std::path::absolute(state).unwrap_or_else(|_| state.to_owned());
    let place = StopPlace::of(&state);
    match (args.lift, args.dry_run) {
        (_, true) => would_stop(&place, client, args.lift).await,
        (true, false) => lift(&place, client).await,
        (false, false) => stop_now(&state, &place, client).await,
    }
}

async fn stop_now(state: &Path, place: &StopPlace, client: &Client) -> Result<Printed, Failure> {
    let begun = Instant::now();
    let new = make(place)?;
    let heeded = async {
        let expected = expected(state, client).await;
        let (view, silent) = await_answers(place, &expected, begun).await?;
        Ok::<_, Failure>((view, silent, new.then(|| Millis(begun.elapsed().as_millis() as u64))))
    };
    // At once: who it was is known from this alone, and the daemon records by itself that it happened.
    let (told, heeded) = tokio::join!(tell(client), heeded);
    let ((view, silent, waited), recorded) = (heeded?, told.is_ok());
    let stopped = Stopped { view, silent, waited, recorded };
    let printed = Printed::local(&stopped, render::stopped(&stopped, Clock::now()), "stopped".to_owned())?;
    Ok(printed)
}

/// Makes the file; true where it is new.
fn make(place: &StopPlace) -> Result<bool, Failure> {
    let file = place.own();
    let Some(dir) = file.parent() else { return Err(Failure::usage("a state directory is needed")) };
    if !dir.exists() && nix::unistd::geteuid().is_root() && dir.parent().is_some_and(Path::exists) {
        std::fs::create_dir(dir)?;
    }
    match std::fs::OpenOptions::new().write(true).create_new(true).open(&file) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(refused(&e, dir)),
    }
}

fn refused(e: &std::io::Error, dir: &Path) -> Failure {
    match e.kind() {
        ErrorKind::PermissionDenied => {
            let gid = std::fs::metadata(dir).ok().filter(|m| m.mode() & 0o020 != 0).map(|m| m.gid());
            let group = gid.and_then(|gid| grid_os::users::group_of(gid).ok().flatten());
            let who = group.map_or("root".to_owned(), |g| format!("root and the group {g}"));
            let mut failure =
                Failure::new(FaultClass::Permission, format!("only {who} may stop grid. Nothing was changed."))
                    .hint("run it with sudo; yours alone: grid keep PID, grid offload cancel ID");
            failure.error.code = Some(ReasonCode::Right);
            failure
        }
        ErrorKind::NotFound => Failure::new(FaultClass::NotFound, format!("no grid at {}: {e}", dir.display()))
            .hint("name it: grid --state DIR stop; every grid of this machine: touch /etc/grid/stop"),
        _ => Failure::new(FaultClass::Environment, format!("cannot stop grid in {}: {e}", dir.display()))
            .hint("every grid of this machine: touch /etc/grid/stop"),
    }
}

/// Agents of this machine that run, by their locks, and workers on other machines: root may look. Else what the daemon says.
async fn expected(state: &Path, client: &Client) -> Vec<NodeName> {
    if let Ok(mut nodes) = grid_agent::running(state) {
        // Where none runs here, nobody tells the others.
        let told = !nodes.is_empty();
        nodes.extend(crate::up::workers_elsewhere(state).into_iter().filter(|_| told));
        return nodes;
    }
    let Ok(Ok(status)) = tokio::time::timeout(DAEMON_WITHIN, client.get::<Status>("/v1/status")).await else {
        return Vec::new();
    };
    status.ok.nodes.into_iter().filter(|n| n.state == "ready").map(|n| n.node).collect()
}

/// Waits until everyone who is expected has nothing frozen, and names those who have not said so in time.
async fn await_answers(
    place: &StopPlace,
    expected: &[NodeName],
    begun: Instant,
) -> Result<(StopView, Vec<NodeName>), Failure> {
    loop {
        let stop = grid_os::stop::standing(place).ok_or_else(|| {
            Failure::new(FaultClass::Conflict, "somebody lifted it at this moment: nothing is stopped")
        })?;
        let answers = grid_os::stop::answers(place, &stop);
        let settled = |n: &&NodeName| answers.iter().any(|a| a.node == **n && a.took.is_some());
        let silent: Vec<NodeName> = expected.iter().filter(|n| !settled(n)).cloned().collect();
        if silent.is_empty() || begun.elapsed() > ANSWER_WITHIN {
            let by = grid_os::users::name_of(stop.uid);
            return Ok((StopView { stop, by, answers }, silent));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Has the daemon record who it was.
async fn tell(client: &Client) -> Result<(), Failure> {
    let told = client.post::<StopNoted>("/v1/stop", &());
    let slow = |_| Err(Failure::new(FaultClass::Unreachable, "the daemon does not answer"));
    tokio::time::timeout(DAEMON_WITHIN, told).await.unwrap_or_else(slow).map(|_| ())
}

async fn lift(place: &StopPlace, client: &Client) -> Result<Printed, Failure> {
    let (own, standing) = (place.own(), grid_os::stop::standing(place));
    let was = match std::fs::remove_file(&own) {
        Ok(()) => true,
        Err(e) if e.kind() == ErrorKind::NotFound => false,
        Err(e) => return Err(refused(&e, own.parent().unwrap_or(&own))),
    };
    elsewhere(grid_os::stop::standing(place))?;
    let recorded = tell(client).await.is_ok();
    let human = match (was, recorded) {
        (false, _) => "grid was not stopped. Nothing was changed.\n",
        (true, true) => "Lifted: processes may move again.  What could: grid offload scan\n",
        (true, false) => "Lifted: processes may move again. The daemon does not answer; it notes it when it does.\n",
    };
    Printed::local(
        &serde_json::json!({ "lifted": was, "recorded": recorded, "stop": standing }),
        human.into(),
        "lifted".into(),
    )
}

/// An order that is not this cluster's own is not lifted here.
fn elsewhere(other: Option<Stop>) -> Result<(), Failure> {
    let Some(other) = other else { return Ok(()) };
    let what = format!("every grid of this machine is stopped by {}", other.file.display());
    Err(Failure::new(FaultClass::Refused, what).hint(format!("root lifts it: rm {}", other.file.display())))
}

/// Refuses what [`make`] and [`lift`] would refuse, and changes nothing.
fn may_stop(place: &StopPlace, lift: bool) -> Result<(), Failure> {
    let file = place.own();
    let Some(dir) = file.parent() else { return Err(Failure::usage("a state directory is needed")) };
    // To make what is there, or remove what is not, changes nothing: anybody may.
    let changes = file.symlink_metadata().is_ok() == lift;
    let is_made = !dir.exists() && !lift && nix::unistd::geteuid().is_root() && dir.parent().is_some_and(Path::exists);
    if changes && !is_made {
        may::write_in(dir).map_err(|e| refused(&e, dir))?;
    }
    let others = StopPlace { files: place.files.iter().skip(1).cloned().collect(), ..place.clone() };
    if lift { elsewhere(grid_os::stop::standing(&others)) } else { Ok(()) }
}

async fn would_stop(place: &StopPlace, client: &Client, lift: bool) -> Result<Printed, Failure> {
    may_stop(place, lift)?;
    let standing = grid_os::stop::standing(place);
    let asked = tokio::time::timeout(DAEMON_WITHIN, client.get::<Status>("/v1/status")).await;
    let away = asked.ok().and_then(Result::ok).map(|s| s.ok.away);
    let moving = away.map(|all| {
        let under_way = OffloadPhase::is_under_way;
        all.into_iter().filter(|o| under_way(o.record.phase)).collect::<Vec<_>>()
    });
    let human = render::would_stop(standing.as_ref(), moving.as_deref(), lift, &place.own());
    let word = if standing.is_some() { "stopped" } else { "not stopped" };
    Printed::local(&serde_json::json!({ "stop": standing, "under_way": moving }), human, word.to_owned())
}

/// `grid keep`.
pub(super) async fn keep(client: &Client, args: &KeepArgs) -> Result<Printed, Failure> {
    let quiet = |k: &KeepView| k.keep.process.to_string();
    match (args.pid, args.drop) {
        (None, None) => {
            let answer: Answer<Vec<KeepView>> = client.get("/v1/keeps").await?;
            Ok(printed(answer, |all| render::keeps(all, Clock::now()), |all| lines(all, quiet)))
        }
        (pid, dropped) => {
            let ask = KeepAsk {
                pid: dropped.or(pid).unwrap_or_default(),
                span: args.span,
                drop: dropped.is_some(),
                dry_run: args.dry_run,
            };
            let answer: Answer<KeepView> = client.post("/v1/keeps", &ask).await?;
            Ok(printed(answer, |k| render::kept(k, ask.drop, ask.dry_run), quiet))
        }
    }
}
