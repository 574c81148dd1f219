//! Starting one end, and passing bytes on until the process is ended.

use crate::carrier::Listener;
use crate::door::Door;
use crate::greeting::Purpose;
use crate::identity::{Identity, IdentityError};
use crate::known::Known;
use crate::pump::{Limit, Outward, inward};
use crate::way::Worker;
use crate::{ChannelConfig, Side, pinned};
use grid_os::descriptors::allow_all;
use grid_os::socket::Address;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A peer that has not shown who it is within this is sent away.
pub(crate) const GREETED_WITHIN: Duration = Duration::from_secs(10);
/// One way has ended: the other has ended within this, too, or nobody is left who ends it. Agents close both at once.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why a channel could not start.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Its key and certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// They are of no use to TLS.
    #[error("the key and certificate of this channel: {0}")]
    Tls(#[from] rustls::Error),
    /// It cannot listen.
    #[error("listening at {at}: {source}")]
    Listen {
        /// Where.
        at: String,
        /// What went wrong.
        source: io::Error,
    },
    /// It cannot be told that ssh came anew.
    #[error("waiting for signals: {0}")]
    Signal(io::Error),
}

/// Runs one end for ever. A worker's that is told SIGHUP drops what crosses ssh: that came anew, and an older forward may look
/// alive for long.
pub async fn run(config: ChannelConfig) -> Result<(), ChannelError> {
    // Where it may not have more than it has, it goes on with those.
    let _ = allow_all();
    let own = Identity::open(&config.identity)?;
    let limit = config.memory_rate.map(|rate| Limit::of(rate.0));
    match config.side {
        Side::Head { listen, direct, hub, workers } => {
            let workers = Known::Workers(workers);
            let tls = TlsAcceptor::from(Arc::new(pinned::server(own, workers.clone())?));
            let door = Door::new(tls, workers, hub.into(), limit);
            let mut listeners = Vec::new();
            for at in &listen {
                // Who comes has to show a certificate anyway, and ssh comes as the user who started the cluster.
                listeners.push(listener(at, 0o666).await?);
            }
            for listener in listeners {
                tokio::spawn(door.clone().serve(listener));
            }
            if let Some(at) = direct {
                tokio::spawn(door.serve_direct(at));
            }
            std::future::pending().await
        }
        Side::Worker { listen, head, direct, pin } => {
            let mut hangup = signal(SignalKind::hangup()).map_err(ChannelError::Signal)?;
            let (turn, anew) = watch::channel(0);
            let tls = TlsConnector::from(Arc::new(pinned::client(own, pin)?));
            let worker = Worker::new(tls, head, direct, &config.identity, limit, anew);
            let listener = listener(&Address::Unix(listen), 0o600).await?;
            loop {
                tokio::select! {
                    agent = listener.accept() => drop(tokio::spawn(worker.clone().carry(agent))),
                    _ = hangup.recv() => turn.send_modify(|times| *times += 1),
                }
            }
        }
    }
}

async fn listener(at: &Address, mode: u32) -> Result<Listener, ChannelError> {
    Listener::bind(at, mode).await.map_err(|source| ChannelError::Listen { at: at.to_string(), source })
}

/// One line of debug text on standard error.
pub(crate) fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "grid channel: {text}");
}

/// Both ways until each has ended, the second soon after the first. An end that was not said (a cut connection, a record of
/// TLS that was changed on the way) ends both at once: neither agent takes it for the other's last word, because all that
/// they say has a length.
pub(crate) async fn pass(
    tls: impl AsyncRead + AsyncWrite,
    plain: impl AsyncRead + AsyncWrite,
    pieces: bool,
    limit: Option<&Limit>,
    purpose: Purpose,
) {
    let ((from_far, to_far), (from_near, to_near)) = (tokio::io::split(tls), tokio::io::split(plain));
    let out = Outward { to: to_far, pieces, limit, purpose: &purpose };
    let (mut out, mut back) = (pin!(out.carry(from_near)), pin!(inward(from_far, to_near, pieces, &purpose)));
    tokio::select! {
        ended = &mut out => if ended.is_ok() { let _ = timeout(LAST_WORDS, back).await; },
        ended = &mut back => if ended.is_ok() { let _ = timeout(LAST_WORDS, out).await; },
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
