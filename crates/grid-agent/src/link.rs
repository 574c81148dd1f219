//! Links between daemons: frames over TCP or a Unix socket, the greeting, and dialling again.
//!
//! Owns the bytes; knows nothing of what frames mean. A frame is a little-endian `u32` length and that much JSON.

use crate::agent::Input;
use crate::home::FilesLink;
use crate::routes::Linked;
use crate::shadow::StreamLink;
use crate::tickets::HandedOut;
use grid_os::frames::{Heard, LinkError, io, read_frame, read_heard, read_hello, write_frame};
use grid_os::socket::{Address, Socket};
use grid_types::NodeName;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::{Body, Frame, Hello, MAX_FRAME, Outline, PROTOCOL, Party, Refusal, Welcome, is_understood};
use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};

/// The outgoing half of a link that is up.
pub(crate) type Outbox = mpsc::Sender<Frame>;

/// So many frames wait for who does not read them; one more is lost, with which every speaker copes.
const MOST_WAITING: usize = 4096;
/// So many of one link's wait for the agent: whoever says more is not read until some were handled.
const MOST_HEARD: usize = 64;
/// No worker's frame is longer, in bytes.
const LONGEST_OF_WORKER: usize = 16 << 20;

/// Whose frames a link may bring.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    /// Only the other end's own.
    ForItself,
    /// Also others': it is the hub, which passes them on.
    ForOthers,
}

/// Who is at the other end of a link.
struct Peer {
    party: Party,
    boot_id: Option<String>,
    /// Where it is a worker: the version of its frames.
    protocol: Option<u32>,
    speaks: Speaks,
}

/// Runs a greeted link until it breaks, or `until` is there: frames in become inputs, frames out are written. A frame in
/// another's name, or a wish of a worker's, breaks it. One that another version of grid knows is skipped, and a wish refused.
async fn pump<S: AsyncRead + AsyncWrite>(
    stream: S,
    peer: Peer,
    until: impl Future<Output = ()>,
    inputs: &mpsc::UnboundedSender<Input>,
) {
    let (mut rx, mut tx) = tokio::io::split(stream);
    let (outbox, mut outgoing) = mpsc::channel::<Frame>(MOST_WAITING);
    // Not one more of the agent's own: where it takes a newer link of the same party, this one ends.
    let link = outbox.downgrade();
    let Peer { party, boot_id, protocol, speaks } = peer;
    let linked = Linked { outbox, protocol };
    if inputs.send(Input::LinkUp { party: party.clone(), link: linked, boot_id }).is_err() {
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
    let (room, longest) = (Arc::new(Semaphore::new(MOST_HEARD)), longest_of(&party, speaks));
    let reader = async {
        while let Ok(heard) = read_heard(&mut rx, longest, &name).await {
            if let Err(what) = may_say(&party, speaks, &heard) {
                return tracing_line(&format!("{name} {what}: the link is closed"));
            }
            let sent = match heard {
                Heard::Frame(frame) => {
                    let Ok(place) = room.clone().acquire_owned().await else { return };
                    inputs.send(Input::Heard { frame, place }).is_ok()
                }
                Heard::Unknown(outline) => {
                    tracing_line(&format!("{name} says what this grid does not know ({}): skipped", outline.body.body));
                    not_understood(outline).is_none_or(|a| link.upgrade().is_some_and(|link| link.try_send(a).is_ok()))
                }
            };
            if !sent {
                break;
            }
        }
    };
    tokio::select! { () = writer => {}, () = reader => {}, () = until => {} }
    if let Some(outbox) = link.upgrade() {
        let _ = inputs.send(Input::LinkDown { party, outbox });
    }
}

fn longest_of(party: &Party, speaks: Speaks) -> usize {
    match party {
        Party::Agent(_) if speaks == Speaks::ForItself => LONGEST_OF_WORKER,
        _ => MAX_FRAME,
    }
}

/// Workers answer, report and hand over, each in its own name; only the daemon asks for something to be done.
fn may_say(party: &Party, speaks: Speaks, heard: &Heard) -> Result<(), &'static str> {
    if speaks == Speaks::ForOthers {
        return Ok(());
    }
    let (from, asks, answers) = match heard {
        Heard::Frame(Frame { from, body, .. }) => {
            (from, matches!(body, Body::Request { .. }), matches!(body, Body::Response { .. }))
        }
        Heard::Unknown(outline) => (&outline.from, outline.asks().is_some(), outline.asks().is_none()),
    };
    match party {
        _ if from != party => Err("speaks in another's name"),
        Party::Agent(_) if asks => Err("asks for what only the head's daemon may"),
        Party::Daemon if !asks && !answers => Err("hands over like an agent"),
        _ => Ok(()),
    }
}

/// Who waits for an answer gets one.
fn not_understood(outline: Outline) -> Option<Frame> {
    let id = outline.asks()?;
    let detail = format!("this grid does not know that request; it speaks protocol {PROTOCOL}");
    let refusal = Refusal { reason: Reason::new(ReasonCode::Version, detail) };
    Some(Frame { from: outline.to, to: outline.from, body: Body::Response { id, result: Err(refusal) } })
}

/// The secret of each worker, by its name.
pub(crate) type Tokens = BTreeMap<NodeName, String>;

/// What an accepted connection needs to know.
#[derive(Clone)]
pub(crate) struct Greeter {
    /// The secret of each worker; a worker's own, where this is one.
    pub(crate) tokens: watch::Receiver<Tokens>,
    pub(crate) node: NodeName,
    pub(crate) boot_id: String,
    /// Leave to carry memory, as it was given to workers.
    pub(crate) handed_out: HandedOut,
    pub(crate) inputs: mpsc::UnboundedSender<Input>,
}

impl Greeter {
    fn welcome(&self) -> Welcome {
        Welcome::Ok { node: self.node.clone(), boot_id: self.boot_id.clone() }
    }

    /// The worker whose secret this is.
    fn check(&self, protocol: u32, token: &str) -> Result<NodeName, String> {
        if !is_understood(protocol) {
            return Err(format!("it speaks protocol {protocol}, this is {PROTOCOL}; install the same grid on both"));
        }
        // All of them, and every byte, are compared, so that the time taken tells nothing.
        let same = |own: &str| {
            token.len() == own.len() && token.bytes().zip(own.bytes()).fold(0, |d, (a, b)| d | (a ^ b)) == 0
        };
        let tokens = self.tokens.borrow();
        let found = tokens.iter().fold(None, |found, (node, own)| if same(own) { Some(node) } else { found });
        found.cloned().ok_or_else(|| "its token is not this cluster's".to_owned())
    }

    async fn greet(self, mut stream: impl Plain, peer: String) -> Result<(), LinkError> {
        let hello = read_hello(&mut stream, &peer).await?;
        let checked = match &hello {
            Hello::Agent { protocol, token, node, .. } => match self.check(*protocol, token) {
                Ok(owner) if owner != *node => Err(format!("its token is {owner}'s, not {node}'s")),
                checked => checked,
            },
            Hello::Data { protocol, token, attempt, ticket } => self.check(*protocol, token).and_then(|from| {
                self.handed_out.spend(attempt, &from, ticket)?;
                Ok(from)
            }),
            Hello::Streams { protocol, token, .. } | Hello::Files { protocol, token, .. } => {
                self.check(*protocol, token)
            }
            Hello::Daemon { .. } => Err("the head's daemon comes through the Unix socket".to_owned()),
        };
        let from = match checked {
            Ok(from) => from,
            Err(detail) => {
                tracing_line(&format!("{peer} was refused: {detail}"));
                return write_frame(&mut stream, &Welcome::Refused { detail }, &peer).await;
            }
        };
        write_frame(&mut stream, &self.welcome(), &peer).await?;
        match hello {
            Hello::Agent { protocol, boot_id, token, .. } => {
                let until = taken_off(self.tokens, from.clone(), token);
                let (boot_id, protocol) = (Some(boot_id), Some(protocol));
                let peer = Peer { party: Party::Agent(from), boot_id, protocol, speaks: Speaks::ForItself };
                pump(stream, peer, until, &self.inputs).await;
            }
            Hello::Data { attempt, .. } => {
                let stream = stream.into_socket().map_err(io(&peer))?;
                stream.set_nonblocking(false).map_err(io(&peer))?;
                let _ = self.inputs.send(Input::DataLink { attempt, from, stream });
            }
            Hello::Streams { attempt, shadow, generation, .. } => {
                let stream = stream.into_socket().map_err(io(&peer))?;
                let link = StreamLink { attempt, from, shadow, generation, end: stream.into() };
                let _ = self.inputs.send(Input::StreamLink(link));
            }
            Hello::Files { attempt, .. } => {
                let end = stream.into_socket().map_err(io(&peer))?.into();
                let _ = self.inputs.send(Input::FilesLink(FilesLink { attempt, from, end }));
            }
            Hello::Daemon { .. } => {}
        }
        Ok(())
    }
}

/// Waits until this worker has another secret, or none: it is no worker of this cluster any more, whatever it shows.
async fn taken_off(mut tokens: watch::Receiver<Tokens>, node: NodeName, token: String) {
    if tokens.wait_for(|all| all.get(&node) != Some(&token)).await.is_err() {
        pending().await
    }
}

/// A connection that frames cross first, and that becomes a plain socket afterwards.
trait Plain: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    fn into_socket(self) -> std::io::Result<Socket>;
}

impl Plain for TcpStream {
    fn into_socket(self) -> std::io::Result<Socket> {
        self.into_std().map(Socket::from)
    }
}

impl Plain for UnixStream {
    fn into_socket(self) -> std::io::Result<Socket> {
        self.into_std().map(Socket::from)
    }
}

/// Listens where workers dial; a Unix socket is the channel's alone.
pub(crate) async fn serve_workers(at: &Address, greeter: Greeter, channel_uid: u32) -> Result<(), LinkError> {
    match at {
        Address::Tcp(address) => {
            let listener = TcpListener::bind(address).await.map_err(io(&at.to_string()))?;
            tokio::spawn(accept_tcp(listener, greeter));
        }
        Address::Unix(path) => {
            let listener = bind_unix(path, channel_uid)?;
            tokio::spawn(accept_unix(listener, greeter));
        }
    }
    Ok(())
}

/// An accepting that failed, for want of descriptors most likely, is tried again after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

async fn accept_tcp(listener: TcpListener, greeter: Greeter) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                tokio::spawn(greeted(greeter.clone(), stream, peer.to_string()));
            }
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

async fn accept_unix(listener: UnixListener, greeter: Greeter) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(greeted(greeter.clone(), stream, "the channel".to_owned()))),
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

async fn greeted(greeter: Greeter, stream: impl Plain, peer: String) {
    if let Err(e) = greeter.greet(stream, peer).await {
        tracing_line(&e.to_string());
    }
}

/// Accepts the head's daemon for ever: the kernel names the peer, and only the daemon's own user, and root, may come.
pub(crate) async fn serve_unix(listener: UnixListener, greeter: Greeter, daemon_uid: u32) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let allowed = stream.peer_cred().is_ok_and(|c| c.uid() == 0 || c.uid() == daemon_uid);
        let greeter = greeter.clone();
        tokio::spawn(async move {
            let hello = read_hello(&mut stream, "daemon").await;
            let welcome = match hello {
                Ok(Hello::Daemon { protocol: PROTOCOL }) if allowed => greeter.welcome(),
                _ => Welcome::Refused { detail: "only this machine's grid daemon may come here".into() },
            };
            let refused = matches!(welcome, Welcome::Refused { .. });
            if write_frame(&mut stream, &welcome, "daemon").await.is_ok() && !refused {
                let peer = Peer { party: Party::Daemon, boot_id: None, protocol: None, speaks: Speaks::ForItself };
                pump(stream, peer, pending(), &greeter.inputs).await;
            }
        });
    }
}

/// Keeps a spoke's link to its hub: dials, greets, runs, and dials again after a pause that grows to a second.
pub(crate) async fn keep_dialling(hub: Address, greeter: Greeter) {
    let mut pause = Duration::from_millis(20);
    loop {
        match dial(&hub, &greeter).await {
            Ok((stream, node, boot_id)) => {
                pause = Duration::from_millis(20);
                let (party, boot_id) = (Party::Agent(node), Some(boot_id));
                let peer = Peer { party, boot_id, protocol: None, speaks: Speaks::ForOthers };
                pump(stream, peer, pending(), &greeter.inputs).await;
            }
            Err(e) => tracing_line(&e.to_string()),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// A link's bytes, whatever they cross.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

async fn dial(hub: &Address, greeter: &Greeter) -> Result<(Box<dyn Duplex>, NodeName, String), LinkError> {
    let peer = hub.to_string();
    let mut stream: Box<dyn Duplex> = match hub {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(io(&peer))?;
            let _ = stream.set_nodelay(true);
            Box::new(stream)
        }
        Address::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(io(&peer))?),
    };
    let hello = Hello::Agent {
        protocol: PROTOCOL,
        token: greeter.tokens.borrow().get(&greeter.node).cloned().unwrap_or_default(),
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

/// One line of debug text on standard error; the journal is elsewhere. Where it cannot be written (a full disk), work
/// goes on.
pub(crate) fn tracing_line(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "grid agent: {text}");
}

#[cfg(test)]
mod tests;
