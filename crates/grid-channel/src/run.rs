//! Accepting, dialling and passing bytes on, until the process is ended.

use crate::greeting::Purpose;
use crate::identity::{Identity, IdentityError, NAME, Pin};
use crate::known::Known;
use crate::pump::{Limit, Outward, inward};
use crate::{ChannelConfig, Side, pinned};
use grid_os::socket::Address;
use rustls::pki_types::ServerName;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A peer that has not shown who it is within this is sent away.
const GREETED_WITHIN: Duration = Duration::from_secs(10);
/// So many peers may be showing who they are at a time; more wait in the kernel's queue.
const STRANGERS: usize = 64;
/// An accepting that failed, for want of descriptors most likely, is tried again after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

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
}

/// Runs one end for ever.
pub async fn run(config: ChannelConfig) -> Result<(), ChannelError> {
    let own = Identity::open(&config.identity)?;
    let limit = config.memory_rate.map(|rate| Limit::of(rate.0));
    match config.side {
        Side::Head { listen, hub, workers } => {
            let workers = Known::Workers(workers);
            let tls = TlsAcceptor::from(Arc::new(pinned::server(own, workers.clone())?));
            let door = Door { tls, workers, hub: hub.into(), strangers: Arc::new(Semaphore::new(STRANGERS)), limit };
            let mut listeners = Vec::new();
            for at in &listen {
                // Who comes has to show a certificate anyway, and ssh comes as the user who started the cluster.
                listeners
                    .push(bind(at, 0o666).await.map_err(|source| ChannelError::Listen { at: at.to_string(), source })?);
            }
            for listener in listeners {
                tokio::spawn(door.clone().serve(listener));
            }
            std::future::pending().await
        }
        Side::Worker { listen, head, pin } => {
            let way = Way { tls: TlsConnector::from(Arc::new(pinned::client(own, pin)?)), head: Arc::new(head), limit };
            let at = Address::Unix(listen);
            let listener =
                bind(&at, 0o600).await.map_err(|source| ChannelError::Listen { at: at.to_string(), source })?;
            loop {
                let agent = listener.accept().await;
                tokio::spawn(way.clone().carry(agent));
            }
        }
    }
}

/// One line of debug text on standard error.
fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "grid channel: {text}");
}

/// The head's end.
#[derive(Clone)]
struct Door {
    tls: TlsAcceptor,
    workers: Known,
    hub: Arc<Path>,
    strangers: Arc<Semaphore>,
    limit: Option<Limit>,
}

impl Door {
    async fn serve(self, listener: Listener) {
        loop {
            let Ok(stranger) = self.strangers.clone().acquire_owned().await else { return };
            let peer = listener.accept().await;
            tokio::spawn(self.clone().admit(peer, stranger));
        }
    }

    async fn admit(self, (peer, from): (Box<dyn Duplex>, String), stranger: OwnedSemaphorePermit) {
        let greeted = tokio::time::timeout(GREETED_WITHIN, self.tls.accept(peer)).await;
        drop(stranger);
        let tls = match greeted {
            Ok(Ok(tls)) => tls,
            Ok(Err(e)) => return say(&format!("{from} was refused: {e}")),
            Err(_) => return say(&format!("{from} was refused: it did not say who it is within {GREETED_WITHIN:?}")),
        };
        let shown = tls.get_ref().1.peer_certificates().and_then(|shown| shown.first());
        let Some(name) = shown.and_then(|certificate| self.workers.worker(Pin::of(certificate))) else {
            return say(&format!("{from} was refused: its certificate is no worker's"));
        };
        match UnixStream::connect(&self.hub).await {
            Ok(hub) => {
                let pieces = pinned::pieces(tls.get_ref().1.alpn_protocol());
                pass(tls, hub, pieces, self.limit.as_ref()).await;
            }
            Err(e) => say(&format!("{name} waits: the head's agent at {}: {e}", self.hub.display())),
        }
    }
}

/// A worker's end.
#[derive(Clone)]
struct Way {
    tls: TlsConnector,
    head: Arc<Address>,
    limit: Option<Limit>,
}

impl Way {
    async fn carry(self, (agent, _): (Box<dyn Duplex>, String)) {
        match tokio::time::timeout(GREETED_WITHIN, self.dial()).await {
            Ok(Ok(head)) => {
                let pieces = pinned::pieces(head.get_ref().1.alpn_protocol());
                pass(head, agent, pieces, self.limit.as_ref()).await;
            }
            Ok(Err(e)) => say(&format!("the head at {}: {e}", self.head)),
            Err(_) => say(&format!("the head at {} did not answer within {GREETED_WITHIN:?}", self.head)),
        }
    }

    async fn dial(&self) -> io::Result<TlsStream<Box<dyn Duplex>>> {
        let stream: Box<dyn Duplex> = match &*self.head {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
        };
        self.tls.connect(ServerName::try_from(NAME).map_err(io::Error::other)?, stream).await
    }
}

/// A connection, whatever it crosses.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// Both ways until each has ended. An end that was not said (a cut connection, a record of TLS that was changed on the way)
/// ends both at once: neither agent takes it for the other's last word, because all that they say has a length.
async fn pass(
    tls: impl AsyncRead + AsyncWrite,
    plain: impl AsyncRead + AsyncWrite,
    pieces: bool,
    limit: Option<&Limit>,
) {
    let ((from_far, to_far), (from_near, to_near)) = (tokio::io::split(tls), tokio::io::split(plain));
    let purpose = Purpose::default();
    let out = Outward { to: to_far, pieces, limit, purpose: &purpose };
    let _ = tokio::try_join!(out.carry(from_near), inward(from_far, to_near, pieces, &purpose));
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Listens; a Unix socket with this mode.
async fn bind(at: &Address, mode: u32) -> io::Result<Listener> {
    match at {
        Address::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
        Address::Unix(path) => bind_unix(path, mode).map(Listener::Unix),
    }
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    Ok(listener)
}

impl Listener {
    async fn accept(&self) -> (Box<dyn Duplex>, String) {
        loop {
            let accepted = match self {
                Self::Tcp(listener) => listener.accept().await.map(|(stream, peer)| {
                    let _ = stream.set_nodelay(true);
                    (Box::new(stream) as Box<dyn Duplex>, peer.to_string())
                }),
                Self::Unix(listener) => listener
                    .accept()
                    .await
                    .map(|(stream, _)| (Box::new(stream) as Box<dyn Duplex>, "a local peer".to_owned())),
            };
            match accepted {
                Ok(accepted) => return accepted,
                Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
            }
        }
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
