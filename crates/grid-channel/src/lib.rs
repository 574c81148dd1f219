//! What carries the links of agents between machines: TLS 1.3 in which each end knows the other by its certificate's
//! fingerprint, and by nothing else.
//!
//! ```text
//!   worker: agent ──Unix socket──► channel ══TLS, TCP or ssh's forward══► channel ──Unix socket──► agent :head
//! ```
//! A process of its own on each machine, without any right of root's: what parses bytes of the network holds nothing, and
//! streams that cross it live on while an agent is started again. The worker's end always dials. Who the worker is, its
//! agent proves once more by its token; the channel keeps everybody else from asking.
//!
//! Where the link is the slower part, what crosses it is compressed, whatever it is; of streams of memory no more leaves than
//! a limit allows.
//!
//! Invariant: not one byte of a peer whose certificate is not pinned reaches an agent, and none of an agent's reaches it.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))] // they panic where the reader has gone

mod greeting;
mod identity;
mod known;
mod piece;
mod pinned;
mod pump;
mod run;

pub use identity::{Identity, IdentityError, Pin};
pub use run::{ChannelError, run};

use grid_os::socket::Address;
use grid_types::Bytes;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How a channel's end is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChannelConfig {
    /// Folder of its key and certificate, made where they are not there yet.
    pub identity: PathBuf,
    /// Bytes of memory a second that leave this end at most, all streams together.
    #[serde(default)]
    pub memory_rate: Option<Bytes>,
    /// Which end it is.
    pub side: Side,
}

/// One of the two ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Side {
    /// The head's: TLS comes in, and goes on to the hub.
    Head {
        /// Where workers' ends dial.
        listen: Vec<Address>,
        /// Where the head's agent listens for workers.
        hub: PathBuf,
        /// Folder of the workers' fingerprints, a file for each under its name: looked at for each peer, so that a worker
        /// comes and goes while the channel runs.
        workers: PathBuf,
    },
    /// A worker's: its agent comes in, and TLS goes out.
    Worker {
        /// Where the worker's agent dials.
        listen: PathBuf,
        /// The head's end.
        head: Address,
        /// The head's certificate.
        pin: Pin,
    },
}
