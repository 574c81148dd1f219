//! The connection that memory crosses: dialled by the worker in either direction, greeted like any other, then raw.
//!
//! The destination says one byte when it is ready to receive, so that nothing is frozen before that.

use crate::agent::Agent;
use crate::faults::Faults;
use crate::{AgentConfig, AgentRole};
use grid_os::frames;
use grid_os::socket::{Address, Socket};
use grid_types::fault::FaultPoint;
use grid_types::streams::ShadowTerms;
use grid_types::wire::{Hello, Manifest, PROTOCOL, Welcome};
use grid_types::{AttemptId, NodeName};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const READY: u8 = b'R';
/// Nothing may stay silent for longer while data is expected.
const SILENCE: Duration = Duration::from_secs(30);
const BUFFER: usize = 1 << 18;
/// So many data connections wait for their frames at most.
const MOST_EARLY: usize = 64;
/// With the bytes of its streams that nobody at home has taken yet.
const MAX_MANIFEST: usize = 64 << 20;
const MAX_WELCOME: usize = 1 << 16;

/// How a spoke reaches its hub for data.
pub(crate) struct Dial {
    hub: Address,
    token: String,
}

impl Dial {
    /// Only spokes dial.
    pub(crate) fn of(cfg: &AgentConfig) -> Option<Self> {
        match &cfg.role {
            AgentRole::Spoke { hub, token } => Some(Self { hub: hub.clone(), token: token.clone() }),
            AgentRole::Hub { .. } => None,
        }
    }

    /// Connects and greets, with the hub's leave.
    pub(crate) fn connect(&self, attempt: &AttemptId, ticket: String, faults: &Faults) -> io::Result<Socket> {
        faults.at(FaultPoint::OpenStream).map_err(io::Error::other)?;
        let (token, attempt) = (self.token.clone(), attempt.clone());
        self.greeted(&Hello::Data { protocol: PROTOCOL, token, attempt, ticket })
    }

    /// Connects for the streams of a tree that this attempt brought here.
    pub(crate) fn streams(&self, attempt: &AttemptId, terms: &ShadowTerms) -> io::Result<Socket> {
        self.greeted(&Hello::Streams {
            protocol: PROTOCOL,
            token: self.token.clone(),
            attempt: attempt.clone(),
            shadow: terms.shadow.clone(),
            generation: terms.generation,
        })
    }

    /// Connects for the files of home that a tree sees which this attempt brings.
    pub(crate) fn files(&self, attempt: &AttemptId) -> io::Result<Socket> {
        self.greeted(&Hello::Files { protocol: PROTOCOL, token: self.token.clone(), attempt: attempt.clone() })
    }

    fn greeted(&self, hello: &Hello) -> io::Result<Socket> {
        let mut stream = Socket::connect(&self.hub, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        frames::send(&mut stream, hello)?;
        match frames::receive(&mut stream, MAX_WELCOME)? {
            Welcome::Ok { .. } => Ok(stream),
            Welcome::Refused { detail } => Err(io::Error::new(io::ErrorKind::PermissionDenied, detail)),
        }
    }
}

/// The receiving end, read through a large buffer for headers and straight into its place for pages.
pub(crate) struct DataStream<'a> {
    stream: &'a Socket,
    buffer: io::BufReader<&'a Socket>,
}

impl<'a> DataStream<'a> {
    pub(crate) fn new(stream: &'a Socket) -> Self {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_read_timeout(Some(SILENCE));
        Self { stream, buffer: io::BufReader::with_capacity(BUFFER, stream) }
    }

    /// Tells the source that it may freeze.
    pub(crate) fn say_ready(&mut self) -> io::Result<()> {
        let mut stream = self.stream;
        stream.write_all(&[READY])
    }
}

impl Read for DataStream<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.buffer.read(into)
    }
}

impl Write for DataStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stream = self.stream;
        stream.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends what was frozen, behind the memory and before the images.
pub(crate) fn send_manifest(to: &mut impl Write, manifest: &Manifest) -> io::Result<()> {
    frames::send(to, manifest)
}

/// Takes what [`send_manifest`] sends.
pub(crate) fn receive_manifest(from: &mut impl Read) -> io::Result<Manifest> {
    frames::receive(from, MAX_MANIFEST)
}

/// Waits until the destination is ready.
pub(crate) fn await_ready(mut stream: &Socket) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    let mut byte = [0u8; 1];
    stream.read_exact(&mut byte)?;
    if byte[0] == READY { Ok(()) } else { Err(io::Error::other("the destination said something else than ready")) }
}

impl Agent {
    pub(crate) fn is_hub(&self) -> bool {
        matches!(self.cfg.role, AgentRole::Hub { .. })
    }

    /// A data connection of this node's was accepted: it belongs to an attempt that leaves from here to that node, or
    /// comes here from it. Another's is closed.
    pub(crate) fn data_link(&mut self, attempt: &AttemptId, from: NodeName, stream: Socket) {
        if let Some(outgoing) = self.sources.get(attempt) {
            if outgoing.goes_to(&from) {
                self.start_dump(attempt, stream);
            }
        } else if let Some(incoming) = self.incoming.get(attempt) {
            match incoming.is_looked_at() {
                _ if !incoming.comes_from(&from) => {}
                true => drop(self.early.insert(attempt.clone(), (from, stream))),
                false => self.start_staging(attempt, Some(stream)),
            }
        } else if let Some(stream) = self.passage_link(attempt, from.clone(), stream)
            && self.early.len() < MOST_EARLY
        {
            // It came before the frame that explains it.
            self.early.insert(attempt.clone(), (from, stream));
        }
    }

    /// The stream for an attempt that leaves from here; `None` where the other end dials. An attempt from this node to
    /// itself has both ends here.
    pub(crate) fn data_for(&mut self, attempt: &AttemptId) -> io::Result<Option<Socket>> {
        if self.sources.get(attempt).is_some_and(|s| s.goes_to(&self.cfg.node)) {
            self.faults.at(FaultPoint::OpenStream).map_err(io::Error::other)?;
            let (ours, theirs) = UnixStream::pair()?;
            self.early.insert(attempt.clone(), (self.cfg.node.clone(), theirs.into()));
            return Ok(Some(ours.into()));
        }
        let ticket = self.held.take(attempt);
        Dial::of(&self.cfg).map(|dial| dial.connect(attempt, ticket, &self.faults)).transpose()
    }

    /// The data connection of an attempt from this node, where it came early.
    pub(crate) fn take_data(&mut self, attempt: &AttemptId, from: &NodeName) -> Option<Socket> {
        self.early.remove(attempt).filter(|(node, _)| node == from).map(|(_, stream)| stream)
    }
}
