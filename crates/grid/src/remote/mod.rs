//! Workers on other machines, reached by the user's own ssh.
//!
//! ```text
//!   head                                         ssh                        worker
//!   grid up ── grid reach (as the user) ═══ runs, copies, forwards ═══ grid node-run (root)
//!          └── grid channel ◄── a Unix socket, forwarded ◄─────────────── grid channel ◄── grid agent
//! ```
//! ssh carries the program and what it must know, and then only bytes that the channel has encrypted already. The worker's
//! daemons are no children of ssh: they go on when it breaks, and `grid reach` dials again.

mod node;
mod reach;
mod script;
mod sleep_unit;
mod start;
mod there;

pub use node::node_run;
pub use reach::{ReachConfig, reach};
pub use start::{node_spare, node_start, node_stop};

use grid_agent::AgentConfig;
use grid_channel::ChannelConfig;
use grid_types::{NodeName, Resources};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What the head writes to a worker: all that its daemons need to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RemoteNode {
    /// Its name.
    pub name: NodeName,
    /// Which head this is: another head's daemons are not taken for this one's.
    pub head: String,
    /// Folder of everything that grid keeps there, but for what is in `/run` and the control groups.
    pub directory: PathBuf,
    /// What the worker's control group may use: what it lends, and room for its agent.
    pub limits: Resources,
    /// How its agent is started.
    pub agent: AgentConfig,
    /// How its end of the channel is started.
    pub channel: ChannelConfig,
}

/// Where the worker's agent dials, in the folder of its end of the channel.
pub const AGENT_SOCKET: &str = "agent.sock";

impl RemoteNode {
    /// Where this is written down.
    pub fn file(directory: &Path) -> PathBuf {
        directory.join("node.json")
    }

    /// The fingerprint of its end of the channel, for the head.
    fn pin(&self) -> PathBuf {
        self.directory.join("pin")
    }
}
