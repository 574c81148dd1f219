//! `grid upgrade`: a cluster that is up is handed over to this program, with what is away.
//!
//! ```text
//!   grid upgrade ──Ask::Upgrade──► supervisor (the grid of before)
//!                                      │ execve, same process       all of the head's daemons are killed, and started anew
//!                                      ▼                            by this one; workers that it reaches get this one too
//!                                  supervisor (this grid) ── takes over as from one that was killed
//! ```
//! The supervisor's process stays, with its number, its terminal and its place in systemd. Its connection ends with the
//! program of before: whether this one runs is read from the process itself.

use super::control::{Ask, Changed, connect};
use super::down;
use crate::cli::{Cli, Client, Failure};
use grid_os::frames::{read_frame, write_frame};
use grid_types::api::Status;
use grid_types::exit::FaultClass;
use grid_types::{Millis, NodeName};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A supervisor that was told runs the new program within this, or it is one that does not know how.
const BECOMES_WITHIN: Duration = Duration::from_secs(10);
/// The cluster answers again within this.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// A cluster that is this grid's now, or would be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Upgraded {
    /// The version of the grid before.
    pub from: String,
    /// Of this one.
    pub to: String,
    /// It was this program already: nothing was changed.
    pub same: bool,
    /// What is away, by its id.
    pub away: Vec<String>,
    /// Workers that were not heard of yet.
    pub late: Vec<NodeName>,
    /// In all.
    pub took: Millis,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// What the supervisor says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Runs {
    /// Its version.
    pub version: String,
}

pub(super) fn runs() -> Runs {
    Runs { version: env!("CARGO_PKG_VERSION").to_owned() }
}

/// The program can be started, is a grid, and can read the file with which this one was started.
///
/// # Errors
/// Why not.
pub(super) async fn tried(program: &Path) -> Result<(), Failure> {
    let said = run(program, &["--version"]).await?;
    if !said.status.success() || !said.stdout.starts_with(b"grid ") {
        return Err(unfit(program, "it is no grid"));
    }
    let Some(file) = config_file() else { return Ok(()) };
    let said = run(program, &["config", "check", &file.to_string_lossy()]).await?;
    if said.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&said.stderr).into_owned();
    let mut failure = unfit(program, &format!("it refuses {}", file.display()));
    failure.error.details = why.lines().map(|line| line.trim().to_owned()).collect();
    Err(failure.hint(format!("{} config check {}", program.display(), file.display())))
}

async fn run(program: &Path, words: &[&str]) -> Result<std::process::Output, Failure> {
    let out = tokio::process::Command::new(program).args(words).kill_on_drop(true).output();
    let out = tokio::time::timeout(BECOMES_WITHIN, out).await;
    out.map_err(|_| unfit(program, "it does not answer"))?.map_err(|e| unfit(program, &e.to_string()))
}

fn unfit(program: &Path, why: &str) -> Failure {
    Failure::new(FaultClass::Usage, format!("{}: {why}. Nothing was changed.", program.display()))
}

/// As this process was told.
fn config_file() -> Option<PathBuf> {
    match Cli::read(std::env::args_os()).ok()?.command {
        crate::cli::Command::Up(words) => words.config,
        _ => None,
    }
}

/// Goes on as this program, with the same words. Returns only with an error.
pub(super) fn become_it(program: &Path) -> std::io::Error {
    Command::new(program).args(std::env::args_os().skip(1)).exec()
}

/// Hands the cluster of this state over to this program.
///
/// # Errors
/// No such cluster, no right, or why it is as it was.
pub async fn upgrade(state: &Path, socket: PathBuf, dry_run: bool) -> Result<Upgraded, Failure> {
    let begun = Instant::now();
    let program = std::env::current_exe()?;
    let client = Client::new(socket);
    let supervisor = down::supervisor(state);
    let same = supervisor.is_some_and(|pid| super::runs(pid, &program));
    let from = match ask(state, &Ask::Upgrade { program: program.clone(), dry_run: true }).await? {
        Some(runs) => runs.version,
        None => return Err(too_old(supervisor)),
    };
    let status: Status = client.get("/v1/status").await?.ok;
    let away = status.away.iter().map(|o| o.record.id.to_string()).collect();
    let to = env!("CARGO_PKG_VERSION").to_owned();
    let mut upgraded = Upgraded { from, to, same, away, late: Vec::new(), took: Millis(0), dry_run };
    if dry_run || same {
        return Ok(upgraded);
    }
    let before = listens(state);
    // It answers only where it stays what it is.
    ask(state, &Ask::Upgrade { program: program.clone(), dry_run: false }).await?;
    let began = || listens(state) != before || down::supervisor(state).is_none();
    if !until(BECOMES_WITHIN, || supervisor.is_some_and(|pid| super::runs(pid, &program))).await {
        return Err(if down::supervisor(state).is_some() { too_old(supervisor) } else { lost("it ended") });
    }
    // Until then it is the daemon of before that answers.
    until(ANSWERS_WITHIN, began).await;
    upgraded.late = answers(state, &client).await?;
    upgraded.took = Millis(begun.elapsed().as_millis() as u64);
    Ok(upgraded)
}

/// What it says of itself; none where it hung up, as one does that becomes another program, or does not know the question.
async fn ask(state: &Path, ask: &Ask) -> Result<Option<Runs>, Failure> {
    let mut stream = connect(state).await?;
    let lost = |e: grid_os::frames::LinkError| Failure::new(FaultClass::Unreachable, e.to_string());
    write_frame(&mut stream, ask, "grid up").await.map_err(lost)?;
    match read_frame(&mut stream, "grid up").await {
        Ok(super::control::Word::Done(result)) => match *result {
            Ok(Changed::Runs(runs)) => Ok(Some(runs)),
            Ok(_) => {
                Err(Failure::new(FaultClass::Internal, "the supervisor answered something else than it was asked"))
            }
            Err(error) => Err(Failure { error, raw: None, shown: false }),
        },
        Ok(super::control::Word::Says(_)) | Err(_) => Ok(None),
    }
}

/// Waits for the daemon; which workers are not heard of then.
async fn answers(state: &Path, client: &Client) -> Result<Vec<NodeName>, Failure> {
    let begun = Instant::now();
    loop {
        let status = client.get::<Status>("/v1/status").await;
        let late = |status: &Status| -> Vec<NodeName> {
            status.nodes.iter().filter(|n| n.state != "ready").map(|n| n.node.clone()).collect()
        };
        match status {
            Ok(status) if late(&status.ok).is_empty() => return Ok(Vec::new()),
            Ok(status) if begun.elapsed() > BECOMES_WITHIN => return Ok(late(&status.ok)),
            Err(e) if begun.elapsed() > ANSWERS_WITHIN || down::supervisor(state).is_none() => {
                return Err(lost(&e.error.message));
            }
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}

/// Whether it came to be so in that time.
async fn until(within: Duration, so: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !so() {
        if begun.elapsed() > within {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

/// The socket at which the supervisor listens: another one each time that it begins, behind its daemons.
fn listens(state: &Path) -> Option<(u64, i64, i64)> {
    std::fs::metadata(super::control::socket(state)).ok().map(|meta| (meta.ino(), meta.ctime(), meta.ctime_nsec()))
}

fn lost(why: &str) -> Failure {
    let what = format!("the cluster does not answer as this grid: {why}. What lives on its workers goes on.");
    Failure::new(FaultClass::Unreachable, what).hint("grid up, as before: it takes the cluster over")
}

fn too_old(supervisor: Option<i32>) -> Failure {
    let what = "the grid that is up cannot hand over. Nothing was changed.";
    let kill = supervisor.map_or_else(|| "end its supervisor".to_owned(), |pid| format!("sudo kill -9 {pid}"));
    let hint = format!("{kill}, then grid up as before (a service does that itself): what is away goes on meanwhile");
    Failure::new(FaultClass::Conflict, what).hint(hint)
}
