//! How a running cluster's supervisor is asked to take a worker in, to let one go, or to go on as another program: a Unix
//! socket of root's own.
//!
//! ```text
//!   grid node add ──Ask──► supervisor ──Says…, Done──► grid node add
//! ```
//! One change at a time. It goes on beside what the supervisor keeps alive, whoever hangs up meanwhile; what it needs of that
//! it asks for by a [`Step`].

use super::change::Change;
use super::plan::Plan;
use super::supervise::Kept;
use super::upgrade::Runs;
use super::{UpError, failed, others};
use crate::cli::Failure;
use grid_core::config::NodeAsk;
use grid_os::cgroup::Group;
use grid_os::frames::{read_frame, write_frame};
use grid_os::peer::Peer;
use grid_types::api::{ApiError, NodeView};
use grid_types::event::Actor;
use grid_types::exit::FaultClass;
use grid_types::reason::ReasonCode;
use grid_types::{BoostId, Millis, NodeName};
use serde::{Deserialize, Serialize};
use std::future::{Future, pending};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

/// Who connects has said what it wants within this.
const ASKED_WITHIN: Duration = Duration::from_secs(5);

/// What a cluster is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Take this worker in.
    Add {
        /// As somebody typed it.
        node: NodeAsk,
        /// Only say what would happen.
        dry_run: bool,
    },
    /// Go on as this program.
    Upgrade {
        /// Whole path.
        program: PathBuf,
        /// Only say what runs, where that program could be started.
        dry_run: bool,
    },
    /// Let this one go.
    Remove {
        /// Its name.
        node: String,
        /// Also where it does not answer.
        unreachable: bool,
        /// And with what lives there.
        give_up: bool,
        /// Remove what grid has there, too.
        purge: bool,
        /// Only say what would happen.
        dry_run: bool,
    },
}

/// A worker that was taken in, or would be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeAdded {
    /// Its name.
    pub node: NodeName,
    /// Its host, as ssh knows it.
    pub host: String,
    /// What it lends at most.
    pub lends: grid_types::Resources,
    /// Where everything is that grid has there.
    pub folder: PathBuf,
    /// As the head sees it; none with `dry_run`.
    pub view: Option<NodeView>,
    /// In all.
    pub took: Millis,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// A worker that was let go, or would be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRemoved {
    /// Its name.
    pub node: NodeName,
    /// Its host, as ssh knows it.
    pub host: String,
    /// Where everything is, or was, that grid has there.
    pub folder: PathBuf,
    /// It answered.
    pub answers: bool,
    /// That folder goes too.
    pub purge: bool,
    /// The configuration's file lists it.
    pub of_file: bool,
    /// Boosts that count as lost.
    pub lost: Vec<BoostId>,
    /// What lived there and counts as lost.
    pub given_up: Vec<String>,
    /// What could not be ended or removed there.
    pub left: Option<String>,
    /// In all.
    pub took: Millis,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// What became of an [`Ask`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Changed {
    /// Of `Ask::Add`.
    Added(Box<NodeAdded>),
    /// Of `Ask::Remove`.
    Removed(NodeRemoved),
    /// Of `Ask::Upgrade`, where it is still the program of before.
    Runs(Runs),
}

/// What the supervisor answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// What goes on.
    Says(String),
    /// The end.
    Done(Box<Result<Changed, ApiError>>),
}

pub(super) fn socket(state: &Path) -> PathBuf {
    state.join("up.sock")
}

/// Asks the supervisor of this state; `says` is told what goes on meanwhile.
///
/// # Errors
/// No such cluster, no right, or why nothing was done.
pub async fn ask(state: &Path, ask: &Ask, says: impl Fn(&str)) -> Result<Changed, Failure> {
    let mut stream = connect(state).await?;
    let lost = |e: grid_os::frames::LinkError| {
        Failure::new(FaultClass::Unreachable, format!("the cluster's supervisor went away: {e}"))
            .hint("what became of it: grid node list, grid events")
    };
    write_frame(&mut stream, ask, "grid up").await.map_err(lost)?;
    loop {
        match read_frame(&mut stream, "grid up").await.map_err(lost)? {
            Word::Says(line) => says(&line),
            Word::Done(result) => return result.map_err(|error| Failure { error, raw: None, shown: false }),
        }
    }
}

/// The supervisor of this state.
pub(super) async fn connect(state: &Path) -> Result<UnixStream, Failure> {
    UnixStream::connect(socket(state)).await.map_err(|e| unheard(state, &e))
}

fn unheard(state: &Path, e: &std::io::Error) -> Failure {
    if e.kind() == ErrorKind::PermissionDenied {
        let what = "only root changes a cluster that is up. Nothing was changed.";
        let mut failure = Failure::new(FaultClass::Permission, what).hint("run it with sudo");
        failure.error.code = Some(ReasonCode::Right);
        return failure;
    }
    let what = format!("no cluster of {} is up ({e}). Nothing was changed.", state.display());
    Failure::new(FaultClass::Unreachable, what).hint("sudo grid up --config FILE")
}

/// What a change needs of whoever keeps the daemons.
pub(super) enum Step {
    /// To be kept from now on.
    Keep(Box<Kept>),
    /// What is started with this file: it is the change's from now on.
    Take(PathBuf, oneshot::Sender<Option<Kept>>),
    /// The head's agent is to read anew who its workers are.
    Reread,
    /// Go on as this program: nothing comes back but an error.
    Become(PathBuf, oneshot::Sender<std::io::Error>),
}

type Running = Pin<Box<dyn Future<Output = Option<Plan>>>>;

/// The socket, and the change that is under way.
pub(super) struct Changes {
    listener: UnixListener,
    plan: Plan,
    group: Group,
    running: Option<Running>,
    steps: (mpsc::UnboundedSender<Step>, mpsc::UnboundedReceiver<Step>),
}

impl Changes {
    pub(super) fn listen(plan: &Plan, group: &Group) -> Result<Self, UpError> {
        let path = socket(&plan.state);
        let what = path.display().to_string();
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(failed(&what))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed(&what))?;
        let (plan, group) = (plan.clone(), group.clone());
        // What an earlier change left comes first: it may be of a worker that shall come again.
        let strays = others::end_strays(plan.clone());
        let running: Option<Running> = Some(Box::pin(async {
            strays.await;
            None
        }));
        Ok(Self { listener, plan, group, running, steps: mpsc::unbounded_channel() })
    }

    /// The next thing that a change needs.
    pub(super) async fn next(&mut self) -> Step {
        loop {
            tokio::select! {
                Some(step) = self.steps.1.recv() => return step,
                plan = under_way(&mut self.running) => self.over(plan),
                Ok((stream, _)) = self.listener.accept() => self.accept(stream),
            }
        }
    }

    /// The same, until the change that is under way is over: none then.
    pub(super) async fn rest(&mut self) -> Option<Step> {
        loop {
            if let Ok(step) = self.steps.1.try_recv() {
                return Some(step);
            }
            self.running.as_ref()?;
            tokio::select! {
                Some(step) = self.steps.1.recv() => return Some(step),
                plan = under_way(&mut self.running) => self.over(plan),
            }
        }
    }

    fn over(&mut self, plan: Option<Plan>) {
        self.running = None;
        self.plan = plan.unwrap_or_else(|| self.plan.clone());
    }

    fn accept(&mut self, mut stream: UnixStream) {
        let Some(by) = actor(&stream) else { return };
        if self.running.is_some() {
            let what = "something else of the cluster is being changed at this moment. Nothing was changed.";
            let busy = Failure::new(FaultClass::Conflict, what).hint("again, in a moment").error;
            tokio::spawn(async move {
                let _ = tokio::time::timeout(ASKED_WITHIN, read_frame::<Ask>(&mut stream, "grid node")).await;
                let _ = write_frame(&mut stream, &Word::Done(Box::new(Err(busy))), "grid node").await;
            });
            return;
        }
        let change = Change { plan: self.plan.clone(), group: self.group.clone(), by, steps: self.steps.0.clone() };
        self.running = Some(Box::pin(converse(stream, change)));
    }
}

async fn under_way(running: &mut Option<Running>) -> Option<Plan> {
    match running {
        Some(change) => change.await,
        None => pending().await,
    }
}

/// Who asks, by the kernel's word: root alone may.
fn actor(stream: &UnixStream) -> Option<Actor> {
    let peer = Peer::of(stream).ok().filter(|peer| peer.uid == 0)?;
    Some(Actor::User { uid: peer.uid, name: Some("root".to_owned()), tty: peer.terminal() })
}

/// Hears what is wanted and does it; returns the plan that counts then, where it is another. What is begun is done, whether
/// or not somebody still listens.
async fn converse(mut stream: UnixStream, mut change: Change) -> Option<Plan> {
    let heard = tokio::time::timeout(ASKED_WITHIN, read_frame::<Ask>(&mut stream, "grid node")).await;
    let Ok(Ok(ask)) = heard else { return None };
    let (says, mut lines) = mpsc::unbounded_channel();
    let result = {
        let work = change.carry_out(&ask, &says);
        tokio::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => break result,
                Some(line) = lines.recv() => {
                    let _ = write_frame(&mut stream, &Word::Says(line), "grid node").await;
                }
            }
        }
    };
    let _ = write_frame(&mut stream, &Word::Done(Box::new(result)), "grid node").await;
    Some(change.plan)
}
