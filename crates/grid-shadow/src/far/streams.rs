//! The far ends of a tree's streams: what each is, and what the tree has not read of it.

use crate::config::{FarStream, StreamKind};
use crate::mux::Bounds;
use crate::relay::{End, News, Port, Relay};
use grid_os::descriptors::unread;
use grid_os::proc::unread_by_peer;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

#[derive(Debug)]
pub(super) struct Streams {
    kinds: BTreeMap<u32, StreamKind>,
    /// Inputs whose end was passed on: what is still unread in them is seen through these.
    ended: BTreeMap<u32, OwnedFd>,
    /// Inputs whose end waits until everything before it is read: nothing could show afterwards what was not.
    late: BTreeSet<u32>,
}

impl Streams {
    /// Takes the descriptors, in the order of the streams, and adds the channels.
    pub(super) fn new(streams: &[FarStream], fds: Vec<Option<OwnedFd>>, relay: &mut Relay) -> io::Result<Self> {
        for (stream, fd) in streams.iter().zip(fds) {
            if stream.kind.goes_in() {
                relay.mux.add_receiver(stream.id, stream.kind.bounds_in().window);
            }
            if stream.kind.goes_out() {
                relay.mux.add_sender(stream.id, stream.kind.bounds_out());
            }
            match (stream.kind, fd) {
                (StreamKind::Listener { .. }, None) => {}
                (StreamKind::Listener { .. }, Some(_)) | (_, None) => {
                    return Err(io::Error::other(format!("stream {} and its descriptor do not fit", stream.id)));
                }
                (kind, Some(fd)) => {
                    let port = Port::own(fd)?;
                    // What a terminal gives is no plain bytes: see `tty`.
                    let source = (kind.goes_out() && kind != StreamKind::Tty).then(|| port.clone());
                    let end = End::new(source, kind.goes_in().then_some(port));
                    relay.ends.insert(stream.id, end);
                }
            }
        }
        Ok(Self {
            kinds: streams.iter().map(|s| (s.id, s.kind)).collect(),
            ended: BTreeMap::new(),
            late: BTreeSet::new(),
        })
    }

    pub(super) fn kind(&self, id: u32) -> Option<StreamKind> {
        self.kinds.get(&id).copied()
    }

    pub(super) fn bounds(&self, id: u32) -> Bounds {
        // The far keeps nothing that is acknowledged, in either direction.
        self.kind(id).map_or(Bounds { window: 0, retain: 0 }, StreamKind::bounds_out)
    }

    /// Channels that the tree sends on.
    pub(super) fn outputs(&self) -> impl Iterator<Item = u32> + use<> {
        let ids: Vec<u32> = self.kinds.iter().filter(|(_, k)| k.goes_out()).map(|(id, _)| *id).collect();
        ids.into_iter()
    }

    /// What an earlier far found: streams that have ended or broken need nothing here.
    pub(super) fn take_up(&mut self, relay: &mut Relay) {
        for (id, end) in &mut relay.ends {
            if relay.mux.is_broken_off(*id) {
                end.sink = None;
            }
            if relay.mux.has_ended(*id) {
                end.source = None;
            }
        }
    }

    /// Delivered bytes that the tree has not read.
    pub(super) fn unread(&self, relay: &Relay, id: u32) -> u64 {
        let end = relay.ends.get(&id);
        let port = end.and_then(|e| e.sink.as_ref().or(e.source.as_ref()));
        let count = match (self.kind(id), self.ended.get(&id), port) {
            (Some(StreamKind::PipeIn { .. }), Some(fd), _) => unread(fd),
            (Some(StreamKind::PipeIn { .. }), None, Some(port)) => unread(port),
            (Some(StreamKind::Socket), Some(fd), _) => unread_by_peer(fd),
            (Some(StreamKind::Socket), None, Some(port)) => unread_by_peer(port),
            _ => Ok(0),
        };
        count.unwrap_or(0)
    }

    /// Passes an end on to the tree.
    pub(super) fn tend(&mut self, relay: &mut Relay, news: News) {
        match news {
            News::Ended(id) => {
                let Some(sink) = relay.ends.get(&id).and_then(|e| e.sink.as_ref()) else { return };
                match watch(self.kinds.get(&id), sink) {
                    Ok(fd) => {
                        self.ended.insert(id, fd);
                        relay.half_close(id);
                    }
                    // A pipe that belongs to the tree's owner is not ours to open again.
                    Err(_) => {
                        self.late.insert(id);
                        self.end_late(relay);
                    }
                }
            }
            // A break of an input needs nothing: its descriptor is closed, and nobody will read the rest.
            News::SinkGone(id) => {
                self.ended.remove(&id);
                self.late.remove(&id);
            }
            _ => {}
        }
    }

    /// Passes on the ends that waited, where nothing is before them any more.
    pub(super) fn end_late(&mut self, relay: &mut Relay) {
        let read: Vec<u32> = self.late.iter().copied().filter(|id| self.unread(relay, *id) == 0).collect();
        for id in read {
            self.late.remove(&id);
            relay.half_close(id);
        }
    }

    /// An end waits: nobody tells when a pipe is empty.
    pub(super) fn any_late(&self) -> bool {
        !self.late.is_empty()
    }

    pub(super) fn close(&mut self) {
        self.late.clear();
        self.ended.clear();
    }
}

/// A descriptor that shows what is unread and does not keep the reader from seeing the end.
fn watch(kind: Option<&StreamKind>, sink: &Port) -> io::Result<OwnedFd> {
    if matches!(kind, Some(StreamKind::PipeIn { .. })) {
        let path = format!("/proc/self/fd/{}", sink.as_fd().as_raw_fd());
        return Ok(open(path.as_str(), OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty())?);
    }
    sink.as_fd().try_clone_to_owned()
}
