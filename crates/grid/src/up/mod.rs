//! `grid up` and `grid down`: the embedded cluster, from its namespaces to its last removed control group.
//!
//! ```text
//!   grid up (supervisor) ─┬─ grid agent   (head: hub)        node gpu1: PID, mount, network, IPC, UTS namespaces
//!                         ├─ grid daemon  (head)               grid node-init (pid 1) ── grid agent (spoke)
//!                         └─ veth pair for each worker ───────────────────┘
//! ```
//! The head's daemon runs without any right of root's; the agents keep what [`grid_os::rights::AGENT`] lists.
//! Owns what it makes and takes it away again. A daemon that dies is started again; moved processes do not notice.

mod account;
mod change;
mod cluster;
mod control;
mod detach;
mod down;
mod dry_run;
mod held;
mod node;
mod others;
mod plan;
mod ready;
mod supervise;
mod take_over;
mod upgrade;
mod worker;
mod written;

pub use account::Account;
pub use cluster::up;
pub use control::{Ask, Changed, NodeAdded, NodeRemoved, ask};
pub use detach::detached;
pub use down::{StillAway, down, living_on, still_held, was_left};
pub use dry_run::{would_start, would_stop};
pub use node::node_init;
pub use others::{purge, workers_elsewhere};
pub use plan::{LocalSize, Plan, cgroup, run_dir};
pub(crate) use supervise::Kept;
pub use upgrade::{Runs, Upgraded, upgrade};
pub use written::recall_members;
pub(crate) use written::write_private;

use grid_types::exit::FaultClass;

/// Why the cluster could not be started or stopped.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct UpError {
    /// Its class, which is the exit code.
    pub class: FaultClass,
    /// What failed.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl UpError {
    pub(crate) fn new(class: FaultClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), hint: None }
    }
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// Whether this process runs the program that is at this path now: not one that was there before.
pub(crate) fn runs(pid: i32, program: &std::path::Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let file = |path: &std::path::Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    let running = file(format!("/proc/{pid}/exe").as_ref());
    running.is_some() && running == file(program)
}

pub(crate) fn failed(what: &str) -> impl Fn(std::io::Error) -> UpError + '_ {
    move |e| UpError::new(FaultClass::Internal, format!("{what}: {e}"))
}

/// Tells whoever still listens: a detached supervisor's standard error goes to a pipe that nobody reads, and must not
/// end it.
pub(crate) fn tell(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}
