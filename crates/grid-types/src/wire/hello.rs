//! Who speaks on a connection, and what for.

use crate::ids::{AttemptId, NodeName};
use crate::streams::ShadowId;
use serde::{Deserialize, Serialize};

/// First frame on a connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "hello", rename_all = "snake_case")]
pub enum Hello {
    /// A node's agent.
    Agent {
        /// [`super::PROTOCOL`].
        protocol: u32,
        /// The node's secret.
        token: String,
        /// Which node.
        node: NodeName,
        /// Its boot.
        boot_id: String,
    },
    /// The head's daemon (Unix socket only: the kernel vouches for the peer).
    Daemon {
        /// [`super::PROTOCOL`].
        protocol: u32,
    },
    /// The streams between a shadow and its tree follow; what comes after this frame is not framed.
    Streams {
        /// [`super::PROTOCOL`].
        protocol: u32,
        /// The node's secret.
        token: String,
        /// The attempt that brought the tree to that node.
        attempt: AttemptId,
        /// The tree's shadow.
        shadow: ShadowId,
        /// Of the tree's far end.
        generation: u64,
    },
    /// FUSE messages between a tree and its home follow; what comes after this frame is not framed so.
    Files {
        /// [`super::PROTOCOL`].
        protocol: u32,
        /// The node's secret.
        token: String,
        /// The attempt that brings the tree to that node.
        attempt: AttemptId,
    },
    /// The memory of one attempt follows; what comes after this frame is not framed.
    Data {
        /// [`super::PROTOCOL`].
        protocol: u32,
        /// The node's secret.
        token: String,
        /// Which attempt.
        attempt: AttemptId,
        /// The hub's leave for it, as it came with the frame that had this node dial; spent by this.
        #[serde(default)]
        ticket: String,
    },
}

/// Answer to a `Hello`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "welcome", rename_all = "snake_case")]
pub enum Welcome {
    /// Go on.
    Ok {
        /// The hub's node.
        node: NodeName,
        /// Its boot.
        boot_id: String,
    },
    /// Refused, with the reason.
    Refused {
        /// Why.
        detail: String,
    },
}

/// Where a frame goes or comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// The head's daemon.
    Daemon,
    /// A node's agent.
    Agent(NodeName),
}
