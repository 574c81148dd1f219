//! The relay beside a moved tree, driven by the loop of its pid 1.
//!
//! ```text
//! dormant ── Activate ──► active ── Pause ──► paused ── Resume ──► active
//!                           └── the root ended: outputs drained, Exit said ── acknowledged, or Finish ──► done
//! ```
//!
//! Owns: the far ends of the streams, the control socket. Never waits, never dials home. Believes nothing of what the
//! shadow sends but its bytes; signals go to the tree's root and its group alone.

mod connector;
mod control;
mod orders;
pub(crate) mod root;
mod streams;
mod tty;

use crate::config::{CONTROL_FD, FIRST_STREAM_FD, FarConfig, STREAMS_FILE, StreamKind, check_ids, label};
use crate::control::{FromFar, ToFar, pack, unpack};
use crate::mux::{CONTROL, DRAINED, Mux, Report, Snapshot};
use crate::relay::{Connections, Name, Relay};
use connector::Connector;
use control::{CONNECTED, Control, LISTENING};
use grid_os::descriptors::inherited;
use grid_os::poll::PollSet;
use grid_os::tree_init::TreeDir;
use grid_types::event::ExitStatus;
use root::Root;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use streams::Streams;
use tty::Tty;

/// Reports that wait for room; orders are not heard while there are more.
const MOST_REPORTS: usize = 600;
/// The tree took input from its terminal.
const TTY_READS: Name = Name::Own(12);
/// Read at once while a frozen tree is drained.
const DRAIN: usize = 256 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Far {
    generation: u64,
    relay: Relay,
    control: Control,
    streams: Streams,
    /// Where the tree began to listen while it is here.
    begun: BTreeMap<u32, (u16, bool)>,
    tty: Option<Tty>,
    connector: Connector,
    root: Root,
    active: bool,
    paused: bool,
    /// The agent knows whether there is a connection.
    linked: bool,
    /// There was a connection once.
    joined: bool,
    /// SIGCONT orders that reached the root.
    continues: u64,
    exit: Option<ExitStatus>,
    exit_said: bool,
    finished: bool,
    /// By its agent, since nobody is left at home.
    dismissed: bool,
    reports: VecDeque<Report>,
}

impl Far {
    /// Of a tree that has streams: takes over the descriptors that this process was started with.
    ///
    /// # Errors
    /// Streams that cannot be, or descriptors that are missing.
    pub(crate) fn inherit(dir: &TreeDir) -> io::Result<Option<Self>> {
        let text = match fs::read(dir.0.join(STREAMS_FILE)) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let config: FarConfig = serde_json::from_slice(&text)?;
        let mut number = FIRST_STREAM_FD;
        let mut fds = Vec::new();
        for stream in &config.streams {
            let taken = stream.fd.is_some().then(|| inherited(number)).transpose()?;
            number += i32::from(taken.is_some());
            fds.push(taken);
        }
        Self::new(config, inherited(CONTROL_FD)?, fds, dir.clone()).map(Some)
    }

    fn new(config: FarConfig, control: OwnedFd, fds: Vec<Option<OwnedFd>>, dir: TreeDir) -> io::Result<Self> {
        check_ids(config.streams.iter().map(|s| s.id)).map_err(io::Error::other)?;
        let mut relay = Relay::new(Mux::new(config.generation));
        relay.still = true;
        let streams = Streams::new(&config.streams, fds, &mut relay)?;
        let of_tty = config.streams.iter().find(|s| s.kind == StreamKind::Tty);
        let master = of_tty.and_then(|s| Some((s.id, relay.ends.get(&s.id)?.sink.clone()?)));
        let mut far = Self {
            tty: master.map(|(id, port)| Tty::new(id, port)).transpose()?,
            generation: config.generation,
            relay,
            control: Control::new(control),
            streams,
            begun: BTreeMap::new(),
            connector: Connector::default(),
            root: Root::new(dir),
            active: false,
            paused: false,
            linked: false,
            joined: false,
            continues: 0,
            exit: None,
            exit_said: false,
            finished: false,
            dismissed: false,
            reports: VecDeque::new(),
        };
        if let Some(snapshot) = &config.snapshot {
            far.adopt(snapshot).map_err(io::Error::other)?;
        }
        Ok(far)
    }

    /// What is to be waited for.
    pub(crate) fn register(&self, set: &mut PollSet<Name>) {
        self.control.register(set);
        self.connector.register(set);
        self.relay.register(set);
        if let Some(tty) = self.tty.as_ref().filter(|_| !self.relay.still) {
            tty.register(&self.relay.mux, set);
        }
    }

    /// Acts on what was waited for, and on everything that follows from it.
    pub(crate) fn handle(&mut self, set: &PollSet<Name>) {
        let mut at = 0;
        while let Some((name, flags)) = set.happened(at) {
            at += 1;
            if flags.is_empty() {
                continue;
            }
            match name {
                LISTENING => {
                    if self.control.accept().is_ok() {
                        self.say_state();
                    }
                }
                CONNECTED => {
                    while let Some((order, fd)) = self.control.hear() {
                        self.heed(order, fd);
                    }
                }
                Name::Connecting(channel) => {
                    let report = self.connector.happened(&mut self.relay, channel);
                    self.reports.extend(report);
                }
                TTY_READS => self.tty.iter().for_each(Tty::took),
                Name::Source(channel) if self.tty.as_ref().is_some_and(|t| t.channel == channel) => {
                    self.take_output(channel, 0);
                }
                name => self.relay.happened(name, flags),
            }
        }
        // Remembered, for when nobody can be asked any more.
        let _ = self.root.pid();
        self.settle();
        self.joined |= self.relay.has_link();
    }

    /// Something is to be looked at again soon that nobody tells of.
    pub(crate) fn looks(&self) -> bool {
        !self.paused && self.streams.any_late()
    }

    /// Something moved since it was asked last: then buffers are in use.
    pub(crate) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.relay.moved)
    }

    /// Gives back memory in a quiet moment.
    pub(crate) fn shrink(&mut self) {
        self.relay.mux.shrink();
    }

    /// The root was stopped.
    pub(crate) fn child_stopped(&mut self, signo: i32) {
        self.reports.push_back(Report::Stopped { signo, continues: self.continues });
    }

    /// The root goes on.
    pub(crate) fn child_continued(&mut self) {
        self.reports.push_back(Report::Continued);
    }

    /// The root ended.
    pub(crate) fn child_exited(&mut self, status: ExitStatus) {
        self.exit = Some(status);
    }

    /// Home knows how the root ended and has all of its output, or nobody is there to know.
    pub(crate) fn done(&self) -> bool {
        self.finished
    }

    /// How the root ended was heard at home.
    pub(crate) fn heard(&self) -> bool {
        self.finished && !self.dismissed
    }

    /// Nobody is at the other end now.
    pub(crate) fn is_alone(&self) -> bool {
        !self.relay.has_link()
    }

    /// Somebody was.
    pub(crate) fn was_joined(&self) -> bool {
        self.joined
    }

    fn say_state(&mut self) {
        self.linked = self.relay.has_link();
        self.control.say(&FromFar::State {
            generation: self.generation,
            active: self.active,
            paused: self.paused,
            linked: self.linked,
            exited: self.exit.is_some(),
        });
    }

    fn heed(&mut self, order: ToFar, fd: Option<OwnedFd>) {
        match self.carry_out(order, fd) {
            Ok(None) => self.say_state(),
            Ok(Some(snapshot)) => self.control.say_with(&FromFar::Snapshot, Some(snapshot.as_fd())),
            Err(why) => self.control.say(&FromFar::Refused { why }),
        }
    }

    fn carry_out(&mut self, order: ToFar, fd: Option<OwnedFd>) -> Result<Option<OwnedFd>, String> {
        let text = |e: io::Error| e.to_string();
        match order {
            // Twice is once: an agent that was started again says it again.
            ToFar::Activate => {
                if !self.active {
                    fd.map(|fd| self.adopt(&unpack(fd).map_err(text)?)).transpose()?;
                    (self.active, self.relay.still) = (true, self.paused);
                }
            }
            ToFar::Link { generation } if !self.active || generation != self.generation => {
                return Err(format!("generation {} takes no such connection now", self.generation));
            }
            ToFar::Link { generation } => {
                let fd = fd.ok_or("no connection came with it")?;
                self.relay.connect(fd, generation).map_err(text)?;
            }
            ToFar::Pause => return pack(&self.pause()).map(Some).map_err(text),
            ToFar::Listens { at } => {
                self.begun = at.into_iter().map(|(port, v6)| (label(port, v6), (port, v6))).collect()
            }
            ToFar::Resume => (self.paused, self.relay.still) = (false, !self.active),
            ToFar::Finish => {
                self.dismissed = true;
                self.finish();
            }
        }
        Ok(None)
    }

    fn adopt(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        let kinds = &self.streams;
        self.relay.mux.adopt(snapshot, |channel| kinds.bounds(channel)).map_err(|e| e.to_string())?;
        self.continues = snapshot.continues;
        self.streams.take_up(&mut self.relay);
        Ok(())
    }

    /// The tree is frozen: what it has written is taken, what it has not read is left to the next far.
    fn pause(&mut self) -> Snapshot {
        (self.paused, self.relay.still) = (true, true);
        for channel in self.streams.outputs() {
            self.take_output(channel, DRAINED);
        }
        self.say_reports();
        let mut snapshot = self.relay.mux.snapshot(|channel| self.streams.unread(&self.relay, channel));
        snapshot.continues = self.continues;
        snapshot
    }

    fn finish(&mut self) {
        self.finished = true;
        self.relay.disconnect();
        // Whoever still writes of the tree sees that nobody reads.
        self.relay.ends.clear();
        self.tty = None;
        self.streams.close();
    }

    fn settle(&mut self) {
        if self.finished {
            return;
        }
        // Before the output that came after them: home pauses for a report where it has to.
        self.say_reports();
        self.relay.pump();
        self.take_news();
        if self.active && !self.paused {
            self.streams.end_late(&mut self.relay);
            self.take_orders();
            let hungry = self.tty.as_mut().and_then(|tty| tty.ask(&self.relay.mux));
            self.reports.extend(hungry);
            self.say_exit();
        }
        self.say_reports();
        // Also what was said and delivered just now.
        self.relay.pump();
        self.take_news();
        Connections::sweep(&mut self.relay);
        if self.exit_said && self.reports.is_empty() && self.relay.mux.all_acknowledged(CONTROL) {
            self.finish();
        } else if self.linked != self.relay.has_link() {
            self.linked = !self.linked;
            if !self.linked {
                self.control.say(&FromFar::Down);
            }
        }
    }

    fn say_reports(&mut self) {
        while self.reports.front().is_some_and(|report| self.relay.mux.say(report)) {
            self.reports.pop_front();
        }
    }

    /// Takes what the tree wrote, `more` than the window where it may be. True where there is no more now.
    fn take_output(&mut self, channel: u32, more: usize) -> bool {
        if let Some(tty) = self.tty.as_mut().filter(|t| t.channel == channel) {
            self.relay.moved = true;
            let all = tty.read(&mut self.relay.mux, more, &mut self.reports);
            if !tty.is_open() {
                self.relay.mux.end(channel);
            }
            return all;
        }
        while self.relay.read(channel, DRAIN, more) {}
        // No room: what is there is taken when home has taken some.
        let open = self.relay.ends.get(&channel).is_some_and(|e| e.source.is_some());
        !open || self.relay.mux.room(channel, more) > 0
    }

    fn take_news(&mut self) {
        for news in std::mem::take(&mut self.relay.news) {
            self.streams.tend(&mut self.relay, news);
            if let Some(channel) = Connections::tend(&mut self.relay, news) {
                self.reports.push_back(Report::Closed { channel });
            }
        }
    }

    /// Once the root has ended: takes what is left in its pipes, and says how it ended.
    fn say_exit(&mut self) {
        let (Some(status), false) = (self.exit, self.exit_said) else { return };
        for channel in self.streams.outputs() {
            if !self.take_output(channel, 0) {
                return;
            }
        }
        let ends = self.streams.outputs().map(|channel| (channel, self.relay.mux.written(channel))).collect();
        self.reports.push_back(Report::Exit { status, ends });
        self.exit_said = true;
    }
}
