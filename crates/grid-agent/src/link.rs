//! Links between daemons: frames over TCP or a Unix socket, the greeting, and dialling again.
//!
//! Owns the bytes; knows nothing of what frames mean. A frame is a little-endian `u32` length and that much JSON.

use crate::agent::Input;
use grid_os::frames::{LinkError, io, read_frame, write_frame};
use grid_types::NodeName;
use grid_types::wire::{Frame, Hello, PROTOCOL, Party, Welcome};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;

/// The outgoing half of a link that is up.
pub(crate) type Outbox = mpsc::UnboundedSender<Frame>;

/// Runs a greeted link until it breaks: frames in become inputs, frames out are written.
async fn pump<S: AsyncRead + AsyncWrite>(
    stream: S,
    party: Party,
    boot_id: Option<String>,
    inputs: &mpsc::UnboundedSender<Input>,
) {
    let (mut rx, mut tx) = tokio::io::split(stream);
    let (outbox, mut outgoing) = mpsc::unbounded_channel::<Frame>();
    let link = outbox.clone();
    if inputs.send(Input::LinkUp { party: party.clone(), outbox, boot_id }).is_err() {
        return;
    }
    let name = format!("{party:?}");
    let writer = async {
        while let Some(frame) = outgoing.recv().await {
            if write_frame(&mut tx, &frame, &name).await.is_err() {
                break;
            }
        }
    };
    let reader = async {
        while let Ok(frame) = read_frame::<Frame>(&mut rx, &name).await {
            if inputs.send(Input::Frame(frame)).is_err() {
                break;
            }
        }
    };
    tokio::select! { () = writer => {}, () = reader => {} }
    let _ = inputs.send(Input::LinkDown { party, outbox: link });
}

/// What an accepted connection needs to know.
#[derive(Clone)]
pub(crate) struct Greeter {
    pub(crate) token: String,
    pub(crate) node: NodeName,
    pub(crate) boot_id: String,
    pub(crate) inputs: mpsc::UnboundedSender<Input>,
}

impl Greeter {
    fn welcome(&self) -> Welcome {
        Welcome::Ok { node: self.node.clone(), boot_id: self.boot_id.clone() }
    }

    fn check(&self, protocol: u32, token: &str) -> Result<(), String> {
        if protocol != PROTOCOL {
            return Err(format!("it speaks protocol {protocol}, this is {PROTOCOL}; install the same grid on both"));
        }
        // Every byte is compared, so that the time taken tells nothing.
        let same = token.len() == self.token.len()
            && token.bytes().zip(self.token.bytes()).fold(0, |d, (a, b)| d | (a ^ b)) == 0;
        if same { Ok(()) } else { Err("its token is not this cluster's".to_owned()) }
    }

    async fn greet_tcp(self, mut stream: TcpStream, peer: String) -> Result<(), LinkError> {
        let _ = stream.set_nodelay(true);
        let hello: Hello = read_frame(&mut stream, &peer).await?;
        let checked = match &hello {
            Hello::Agent { protocol, token, .. } | Hello::Data { protocol, token, .. } => self.check(*protocol, token),
            Hello::Daemon { .. } => Err("the head's daemon comes through the Unix socket".to_owned()),
        };
        if let Err(detail) = checked {
            return write_frame(&mut stream, &Welcome::Refused { detail }, &peer).await;
        }
        write_frame(&mut stream, &self.welcome(), &peer).await?;
        match hello {
            Hello::Agent { node, boot_id, .. } => {
                pump(stream, Party::Agent(node), Some(boot_id), &self.inputs).await;
            }
            Hello::Data { attempt, .. } => {
                let stream = stream.into_std().map_err(io(&peer))?;
                stream.set_nonblocking(false).map_err(io(&peer))?;
                let _ = self.inputs.send(Input::DataLink { attempt, stream });
            }
            Hello::Daemon { .. } => {}
        }
        Ok(())
    }
}

/// Accepts worker agents and data connections for ever.
pub(crate) async fn serve_tcp(listener: TcpListener, greeter: Greeter) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let greeter = greeter.clone();
        tokio::spawn(async move {
            if let Err(e) = greeter.greet_tcp(stream, peer.to_string()).await {
                tracing_line(&e.to_string());
            }
        });
    }
}

/// Accepts the head's daemon for ever: the kernel names the peer, and only the daemon's own user, and root, may come.
pub(crate) async fn serve_unix(listener: UnixListener, greeter: Greeter, daemon_uid: u32) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let allowed = stream.peer_cred().is_ok_and(|c| c.uid() == 0 || c.uid() == daemon_uid);
        let greeter = greeter.clone();
        tokio::spawn(async move {
            let hello = read_frame::<Hello>(&mut stream, "daemon").await;
            let welcome = match hello {
                Ok(Hello::Daemon { protocol: PROTOCOL }) if allowed => greeter.welcome(),
                _ => Welcome::Refused { detail: "only this machine's grid daemon may come here".into() },
            };
            let refused = matches!(welcome, Welcome::Refused { .. });
            if write_frame(&mut stream, &welcome, "daemon").await.is_ok() && !refused {
                pump(stream, Party::Daemon, None, &greeter.inputs).await;
            }
        });
    }
}

/// Keeps a spoke's link to its hub: dials, greets, runs, and dials again after a pause that grows to a second.
pub(crate) async fn keep_dialling(hub: SocketAddr, greeter: Greeter) {
    let mut pause = Duration::from_millis(20);
    loop {
        match dial(hub, &greeter).await {
            Ok((stream, node, boot_id)) => {
                pause = Duration::from_millis(20);
                pump(stream, Party::Agent(node), Some(boot_id), &greeter.inputs).await;
            }
            Err(e) => tracing_line(&e.to_string()),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

async fn dial(hub: SocketAddr, greeter: &Greeter) -> Result<(TcpStream, NodeName, String), LinkError> {
    let peer = hub.to_string();
    let mut stream = TcpStream::connect(hub).await.map_err(io(&peer))?;
    let _ = stream.set_nodelay(true);
    let hello = Hello::Agent {
        protocol: PROTOCOL,
        token: greeter.token.clone(),
        node: greeter.node.clone(),
        boot_id: greeter.boot_id.clone(),
    };
    write_frame(&mut stream, &hello, &peer).await?;
    match read_frame(&mut stream, &peer).await? {
        Welcome::Ok { node, boot_id } => Ok((stream, node, boot_id)),
        Welcome::Refused { detail } => Err(LinkError::Refused { peer, detail }),
    }
}

/// Listens on a Unix socket of mode 0600, owned by this user, in place of a stale one.
pub(crate) fn bind_unix(path: &Path, owner: u32) -> Result<UnixListener, LinkError> {
    let peer = path.display().to_string();
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(io(&peer))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, mode).map_err(io(&peer))?;
    std::os::unix::fs::lchown(path, Some(owner), None).map_err(io(&peer))?;
    Ok(listener)
}

/// One line of debug text on standard error; the journal is elsewhere.
pub(crate) fn tracing_line(text: &str) {
    eprintln!("grid agent: {text}");
}
