//! What a connection crosses, and listening for one.

use grid_os::socket::Address;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// An accepting that failed, for want of descriptors most likely, is tried again after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Bytes both ways, whatever they cross.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// A connection.
pub(crate) struct Carrier {
    pub(crate) stream: Box<dyn Duplex>,
    /// The socket, where it is one of TCP.
    pub(crate) tcp: Option<OwnedFd>,
    /// Who is at the other end, as far as that can be told.
    pub(crate) peer: String,
    pub(crate) ip: Option<IpAddr>,
}

impl Carrier {
    pub(crate) fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        let tcp = stream.as_fd().try_clone_to_owned()?;
        Ok(Self { stream: Box::new(stream), tcp: Some(tcp), peer: peer.to_string(), ip: Some(peer.ip()) })
    }

    fn unix(stream: UnixStream) -> Self {
        Self { stream: Box::new(stream), tcp: None, peer: "a local peer".to_owned(), ip: None }
    }

    pub(crate) async fn dial(to: &Address) -> io::Result<Self> {
        match to {
            Address::Tcp(address) => Self::tcp(TcpStream::connect(address).await?),
            Address::Unix(path) => UnixStream::connect(path).await.map(Self::unix),
        }
    }
}

pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens; a Unix socket with this mode.
    pub(crate) async fn bind(at: &Address, mode: u32) -> io::Result<Self> {
        match at {
            Address::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            Address::Unix(path) => bind_unix(path, mode).map(Self::Unix),
        }
    }

    pub(crate) async fn accept(&self) -> Carrier {
        loop {
            let accepted = match self {
                Self::Tcp(listener) => listener.accept().await.and_then(|(stream, _)| Carrier::tcp(stream)),
                Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Carrier::unix(stream)),
            };
            match accepted {
                Ok(accepted) => return accepted,
                // Gone before it was looked at: the next one waits.
                Err(e) if e.kind() == io::ErrorKind::NotConnected => {}
                Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
            }
        }
    }
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    Ok(listener)
}
