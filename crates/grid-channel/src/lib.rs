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
//! Where the head listens at an address of its own too, the worker's end goes there first, and through ssh's forward where
//! that fails: the same TLS, the same certificates, the same greeting.
//!
//! Invariant: not one byte of a peer whose certificate is not pinned reaches an agent, and none of an agent's reaches it.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))] // they panic where the reader has gone

mod carrier;
mod door;
mod greeting;
mod identity;
mod knock;
mod known;
mod piece;
mod pinned;
mod pump;
mod run;
mod way;

pub use identity::{Identity, IdentityError, Pin};
pub use run::{ChannelError, run};

use grid_os::socket::Address;
use grid_types::Bytes;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// In the folder of a worker's end: which way its connections take (`grid_types::facts::LinkFacts`).
pub const LINK_FILE: &str = "link.json";

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
        /// Where workers' ends dial, brought there by ssh.
        listen: Vec<Address>,
        /// Where they dial directly, and anybody else may.
        #[serde(default)]
        direct: Option<SocketAddr>,
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
        /// The head's end, as ssh brings it here.
        head: Address,
        /// The head's own address, by name or number, with its port: tried first.
        #[serde(default)]
        direct: Option<String>,
        /// The head's certificate.
        pin: Pin,
    },
}
