//! What a shadow and a far are started with: the streams of one tree, as JSON.

use crate::mux::{Bounds, CONNECTIONS, Snapshot};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Environment variable that makes this program a shadow: [`HomeConfig`] as JSON.
pub const SHADOW_ENV: &str = "GRID_SHADOW";
/// In the directory of a tree: [`FarConfig`] as JSON. Only where it is does pid 1 relay.
pub const STREAMS_FILE: &str = "streams.json";
/// Pid 1's listening control socket (`SOCK_SEQPACKET`).
pub const CONTROL_FD: i32 = 5;
/// Pid 1's first end of a stream; the others follow in the order of the file.
pub const FIRST_STREAM_FD: i32 = 6;

/// The largest pipe that a user may make.
const LARGEST_PIPE: usize = 1 << 20;
/// Larger ones leave the processor's caches: they cost more than they give.
const WINDOW: usize = 512 << 10;
const CONNECTION_WINDOW: usize = 256 << 10;

/// Of each connection to a listener.
pub(crate) const CONNECTION: Bounds = Bounds { window: CONNECTION_WINDOW, retain: 0 };

/// What a stream is at home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamKind {
    /// The tree reads: a pipe, or a file at home.
    PipeIn {
        /// Bytes that the tree's pipe takes: what can be left in it at a handover.
        capacity: usize,
    },
    /// The tree writes.
    PipeOut {
        /// Bytes that the tree's pipe takes.
        capacity: usize,
    },
    /// A connected stream socket, both ways.
    Socket,
    /// A terminal, both ways.
    Tty,
    /// A listening TCP socket.
    Listener {
        /// On which the tree listens, too.
        port: u16,
        /// It is of IPv6.
        v6: bool,
    },
}

impl StreamKind {
    /// Bytes go from home to the tree.
    pub fn goes_in(self) -> bool {
        matches!(self, Self::PipeIn { .. } | Self::Socket | Self::Tty)
    }

    /// Bytes go from the tree to home.
    pub fn goes_out(self) -> bool {
        matches!(self, Self::PipeOut { .. } | Self::Socket | Self::Tty)
    }

    /// Of the direction to the tree, as home keeps it.
    pub(crate) fn bounds_in(self) -> Bounds {
        let retain = match self {
            Self::PipeIn { capacity } => capacity.clamp(64 << 10, LARGEST_PIPE),
            Self::Socket => 512 << 10,
            _ => 64 << 10,
        };
        Bounds { window: WINDOW, retain }
    }

    /// Of the direction from the tree.
    pub(crate) fn bounds_out(self) -> Bounds {
        Bounds { window: WINDOW, retain: 0 }
    }
}

/// Names of listeners that a tree began to listen on while it was away begin here; those of streams are smaller.
const BEGUN: u32 = 1 << 20;

/// How home and the far call such a listener: by what it is, so that nobody has to agree on a number.
pub fn label(port: u16, v6: bool) -> u32 {
    BEGUN + u32::from(port) * 2 + u32::from(v6)
}

/// A stream at home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeStream {
    /// Its channel, from 1; the same at the far.
    pub id: u32,
    /// What it is.
    pub kind: StreamKind,
    /// Numbers of the descriptors that are one and the same.
    pub fds: Vec<i32>,
}

/// What a shadow is told by [`SHADOW_ENV`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeConfig {
    /// The agent's socket for shadows.
    pub socket: PathBuf,
    /// What the agent calls it.
    pub shadow: String,
    /// All that it keeps open.
    pub streams: Vec<HomeStream>,
}

/// The shadow that a process is, by its environment as `/proc/PID/environ` has it.
pub fn shadow_among(environ: &[u8]) -> Option<String> {
    let value = |var: &[u8]| var.strip_prefix(SHADOW_ENV.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec);
    let config: HomeConfig = serde_json::from_slice(&environ.split(|byte| *byte == 0).find_map(value)?).ok()?;
    Some(config.shadow)
}

/// A stream beside the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FarStream {
    /// Its channel, from 1; the same at home.
    pub id: u32,
    /// What it is at home.
    pub kind: StreamKind,
    /// Number of the descriptor; none of a listener.
    pub fd: Option<i32>,
}

/// What a far is told by [`STREAMS_FILE`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FarConfig {
    /// The shadow that it belongs to.
    pub shadow: String,
    /// Its number among the fars of this tree, from 1.
    pub generation: u64,
    /// The tree's streams.
    pub streams: Vec<FarStream>,
    /// Where the far before stopped, if it is known already; else it comes with the activation.
    #[serde(default)]
    pub snapshot: Option<Snapshot>,
}

/// Channels of streams are told apart and are no connections'.
pub(crate) fn check_ids(ids: impl Iterator<Item = u32>) -> Result<(), String> {
    let mut seen = std::collections::BTreeSet::new();
    for id in ids {
        if id == 0 || id >= CONNECTIONS || !seen.insert(id) {
            return Err(format!("stream {id} cannot be"));
        }
    }
    Ok(())
}
