//! The daemon of every node, head included: owns the processes of its node, drives CRIU, keeps the ledger of
//! handovers.
//!
//! ```text
//!   Unix socket / TCP ──► link ──frames──► agent (one task, one order) ──► source, destination, leases
//!                                            ▲ inputs                        │ threads: dump, restore
//!                                            └───────────────────────────────┘
//! ```
//! One task owns all state; blocking work runs on threads and comes back as an input. What may run is decided by
//! `grid_core::handover`; this crate carries the decisions out and says what it did.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))] // they panic where the reader has gone

mod activity;
mod agent;
mod data;
mod destination;
mod faults;
mod files;
mod gate;
mod home;
mod lease;
mod ledger;
mod lend;
mod link;
mod listens;
mod lock;
mod looks;
mod machine;
mod park;
mod passage;
mod preflight;
mod probe;
mod reclaim;
mod redial;
mod rescue;
mod routes;
mod run;
mod shadow;
mod sleep;
mod source;
mod streams;
mod tickets;
mod tree;

pub use ledger::{Ledger, LedgerError};
pub use lock::{running, runs};
pub use park::PARKED;
pub use run::run;

/// Below a node's state: how trees ended while the cluster was down.
pub const ENDED: &str = "ended";
pub use rescue::{Fate, Found, RescueAsk, Rescued, Side, rescue};

use grid_os::socket::Address;
use grid_types::stop::StopPlace;
use grid_types::{NodeName, Resources};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How an agent is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentConfig {
    /// Its node.
    pub node: NodeName,
    /// Its place on the links.
    pub role: AgentRole,
    /// Durable state: the ledger.
    pub state_dir: PathBuf,
    /// Volatile state on memory: images of moves under way.
    pub run_dir: PathBuf,
    /// CRIU's program.
    pub criu: PathBuf,
    /// Relative path below which all control groups of this node are made.
    pub cgroup: String,
    /// What this node lends in all; the node is that group then, and its facts are the group's. A head that wants more is
    /// refused. None where it lends nothing.
    pub lends: Option<Resources>,
    /// The head is told of this node so often; none: each second.
    #[serde(default)]
    pub facts_every: Option<grid_types::Millis>,
    /// Where orders to stop are looked for.
    #[serde(default)]
    pub stop: StopPlace,
    /// This program, started again as `tree-init`.
    pub program: PathBuf,
    /// Where the channel says which way its connections take, where it has two.
    #[serde(default)]
    pub link: Option<PathBuf>,
}

impl AgentConfig {
    /// The secrets by which links are known: of each worker, or its own.
    pub fn tokens(&self) -> BTreeMap<NodeName, String> {
        match &self.role {
            AgentRole::Hub { tokens, .. } => tokens.clone(),
            AgentRole::Spoke { token, .. } => [(self.node.clone(), token.clone())].into(),
        }
    }
}

/// Hub or spoke.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum AgentRole {
    /// The head's agent.
    Hub {
        /// Where workers dial.
        listen: Vec<Address>,
        /// Where the head's daemon comes.
        socket: PathBuf,
        /// Whose that socket is, and a Unix socket among `listen`: who comes there as anybody else but root is refused.
        daemon_uid: u32,
        /// The secret of each worker: who shows it is that worker, and no other.
        tokens: BTreeMap<NodeName, String>,
    },
    /// A worker's agent.
    Spoke {
        /// The hub.
        hub: Address,
        /// Its own secret.
        token: String,
    },
}

/// Why an agent could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A link.
    #[error(transparent)]
    Link(#[from] grid_os::frames::LinkError),
    /// CRIU.
    #[error(transparent)]
    Criu(#[from] grid_os::criu::CriuError),
    /// A control group.
    #[error(transparent)]
    Cgroup(#[from] grid_os::cgroup::CgroupError),
    /// A file or directory of its own.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
}
