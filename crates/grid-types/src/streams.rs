//! What ties a moved tree to home: its shadow, and the streams that the shadow carries.

use crate::ids::AttemptId;
use serde::{Deserialize, Serialize};

/// A shadow is named after the attempt that first took its tree from home; it keeps that name wherever the tree goes.
pub type ShadowId = AttemptId;

/// No tree has more streams.
pub const MAX_STREAMS: usize = 16;

/// The shadow of a tree that moves, as it is told to the destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowTerms {
    /// Which.
    pub shadow: ShadowId,
    /// Raised with each move: the far end of a lower one is refused.
    pub generation: u64,
    /// What it carries.
    pub streams: Vec<Stream>,
    /// What the tree's terminal is like, where it has one.
    #[serde(default)]
    pub terminal: Option<Terminal>,
}

/// One stream between home and the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Its number, the same wherever the tree goes.
    pub id: u32,
    /// What it is.
    pub kind: StreamKind,
    /// The tree's end as its images name it: `pipe:[4711]`, `socket:[4712]`.
    pub name: String,
}

/// What a stream is, seen from the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamKind {
    /// A pipe that it reads.
    PipeIn,
    /// A pipe that it writes.
    PipeOut,
    /// A connected Unix stream socket, both ways.
    Socket,
    /// Its terminal.
    Tty,
    /// A TCP socket on which it listens.
    Listener {
        /// The port.
        port: u16,
        /// It is of IPv6.
        v6: bool,
    },
}

/// Settings of a terminal as the kernel's `tcgetattr` lays them out, and its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// `struct termios`.
    pub settings: Vec<u8>,
    /// Rows, columns, width and height in pixels.
    pub size: [u16; 4],
}
