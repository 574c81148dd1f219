//! The shadow's program: what a process at home is turned into while its tree is elsewhere. Same number, parent, session,
//! terminal and descriptors; the tree's streams, signals and end pass through it.
//!
//! Owns: the descriptors that the original process had. Never starts a thread or another process, never changes a flag of
//! a descriptor that others share, waits in one place only. Ends as the tree's root ended.

mod agent;
mod listeners;
mod orders;
mod streams;
mod title;
mod tty;

use crate::config::{HomeConfig, SHADOW_ENV, StreamKind, check_ids};
use crate::control::{FromShadow, ToShadow};
use crate::mux::{Mux, Report};
use crate::relay::{Connections, Name, News, Relay};
use agent::Agent;
use grid_os::poll::PollSet;
use grid_os::signals;
use grid_types::event::ExitStatus;
use listeners::Listeners;
use nix::poll::PollFlags;
use orders::Orders;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;
use streams::Stream;
use tty::Tty;

/// Name under which `ps -o comm` shows it.
pub const COMM: &str = "grid-shadow";
/// Of a shadow that could not begin.
const CANNOT: i32 = grid_types::exit::NO_SHADOW as i32;
/// Buffers are given back after so long a pause.
const QUIET: Duration = Duration::from_secs(1);
/// The far closes the connection when it knows that its word of the end was heard; longer nobody waits for that.
const PARTING: Duration = Duration::from_secs(1);

const SIGNALS: Name = Name::Own(0);
const AGENT: Name = Name::Own(1);
const TTY: Name = Name::Own(2);

/// Where the environment says so this program is a shadow, and does not return. To be called first of all in `main`,
/// before there is a second thread.
pub fn run_if_asked() {
    let Ok(text) = std::env::var(SHADOW_ENV) else { return };
    let shadow = serde_json::from_str(&text).map_err(io::Error::from).and_then(Shadow::new);
    let outcome = shadow.and_then(|mut shadow| shadow.run());
    match outcome {
        Ok(ExitStatus::Code(code)) => std::process::exit(code),
        Ok(ExitStatus::Signal(signo)) => signals::die_by(signo),
        Err(e) => {
            let _ = writeln!(io::stderr(), "grid: the shadow cannot go on: {e}");
            std::process::exit(CANNOT)
        }
    }
}

struct Shadow {
    name: String,
    relay: Relay,
    streams: BTreeMap<u32, Stream>,
    listeners: Listeners,
    tty: Option<Tty>,
    agent: Agent,
    orders: Orders,
    /// The agent knows whether there is a connection to the far.
    linked: bool,
    /// What the far says cannot be understood: it is not asked again.
    garbled: Option<u64>,
    /// The agent said how to end.
    lost: Option<ExitStatus>,
}

impl Shadow {
    fn new(config: HomeConfig) -> io::Result<Self> {
        check_ids(config.streams.iter().map(|s| s.id)).map_err(io::Error::other)?;
        nix::sys::prctl::set_name(c"grid-shadow")?;
        let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_CORE)?;
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, hard)?;
        streams::close_others(&config)?;
        let streams = streams::take_over(&config)?;
        let of_tty = streams.iter().find(|(_, s)| s.kind == StreamKind::Tty);
        let tty = of_tty.map(|(id, stream)| Tty::new(*id, stream.fd())).transpose()?;
        let orders = Orders::new(signals::block_all()?, tty.is_some())?;
        let (mut relay, mut listeners) = (Relay::new(Mux::new(0)), Listeners::default());
        for (id, stream) in &streams {
            if let StreamKind::Listener { .. } = stream.kind {
                listeners.listening.insert(*id, stream.listener()?);
                continue;
            }
            if stream.kind.goes_in() {
                relay.mux.add_sender(*id, stream.kind.bounds_in());
            }
            if stream.kind.goes_out() {
                relay.mux.add_receiver(*id, stream.kind.bounds_out().window);
            }
            relay.ends.insert(*id, stream.end()?);
        }
        let agent = Agent::new(&config.socket);
        let name = config.shadow;
        Ok(Self { name, relay, streams, listeners, tty, agent, orders, linked: false, garbled: None, lost: None })
    }

    /// Until the tree's root has ended, or is lost.
    fn run(&mut self) -> io::Result<ExitStatus> {
        let mut set = PollSet::default();
        loop {
            let hello = FromShadow::Hello {
                shadow: self.name.clone(),
                generation: self.relay.mux.generation(),
                linked: self.relay.has_link(),
            };
            self.agent.reach(|| hello);
            self.register(&mut set);
            let quiet = std::mem::take(&mut self.relay.moved).then_some(QUIET);
            let due = [quiet, self.agent.due_in(), self.tty.as_ref().and_then(Tty::due_in)].into_iter().flatten().min();
            set.wait(due.map(|d| d.as_millis() as u32 + 1))?;
            if self.handle(&set) == 0 && quiet.is_some() {
                self.relay.mux.shrink();
                self.relay.moved = false;
            }
            if let Some(status) = self.lost.or(self.settle()?) {
                return Ok(status);
            }
        }
    }

    fn register(&self, set: &mut PollSet<Name>) {
        set.clear();
        if self.orders.can_take() {
            set.add(SIGNALS, &self.orders.signals, PollFlags::POLLIN);
        }
        if let Some(socket) = &self.agent.socket {
            set.add(AGENT, socket, PollFlags::POLLIN);
        }
        if self.listeners.has_room(&self.relay) {
            for (id, listener) in self.listeners.awake() {
                set.add(Name::Listener(*id), listener, PollFlags::POLLIN);
            }
        }
        if let Some(tty) = &self.tty {
            tty.register(&self.relay.mux, set);
        }
        self.relay.register(set);
    }

    /// How many descriptors had something.
    fn handle(&mut self, set: &PollSet<Name>) -> usize {
        let mut count = 0;
        let mut at = 0;
        while let Some((name, flags)) = set.happened(at) {
            at += 1;
            if flags.is_empty() {
                continue;
            }
            count += 1;
            match name {
                SIGNALS => self.orders.take_signals(),
                AGENT => {
                    while let Some((message, fd)) = self.agent.hear() {
                        self.heed(message, fd);
                    }
                }
                TTY => {
                    self.relay.moved = true;
                    self.tty.iter_mut().for_each(|tty| tty.happened(&mut self.relay.mux, flags));
                }
                Name::Listener(id) => self.listeners.accept(&mut self.relay, id),
                name => self.receive(name, flags),
            }
        }
        count
    }

    /// A greeting of a later far ends what hung on the one before.
    fn receive(&mut self, name: Name, flags: PollFlags) {
        let before = self.relay.mux.generation();
        self.relay.happened(name, flags);
        if self.relay.mux.generation() != before {
            self.listeners.drop_all(&mut self.relay);
        }
    }

    fn heed(&mut self, message: ToShadow, fd: Option<OwnedFd>) {
        self.listeners.wake();
        match (message, fd) {
            (ToShadow::Link { generation }, Some(fd)) => {
                let stale = generation < self.relay.mux.generation() || self.garbled.is_some_and(|g| g >= generation);
                if !stale && self.relay.connect(fd, generation).is_ok() {
                    self.linked = true;
                }
            }
            (ToShadow::Title { text }, _) => {
                // Nothing hangs on it.
                let _ = title::show(&text);
            }
            (ToShadow::Lost { message, code }, _) => {
                let _ = writeln!(io::stderr(), "{message}");
                self.lost = Some(ExitStatus::Code(code));
            }
            (ToShadow::Listen { listener }, Some(fd)) => self.listeners.begin(listener, fd),
            (ToShadow::Unlisten { listener }, _) => self.listeners.end(listener),
            (ToShadow::Link { .. } | ToShadow::Listen { .. }, None) => {}
        }
    }

    /// Acts on what arrived until nothing is left to do; how the root ended, where it has.
    fn settle(&mut self) -> io::Result<Option<ExitStatus>> {
        self.orders.say(&mut self.relay.mux);
        let ended = loop {
            // Reports first: one says where output is to pause until the terminal is set.
            let ended = self.take_reports()?;
            self.tend_tty();
            self.relay.pump();
            self.take_news();
            if ended.is_some() || !self.can_go_on() {
                break ended;
            }
        };
        Connections::sweep(&mut self.relay);
        if let Some(status) = ended {
            self.part()?;
            return Ok(Some(status));
        }
        if self.linked && !self.relay.has_link() {
            self.linked = false;
            if self.garbled.is_none() {
                self.agent.say(&FromShadow::Down);
            }
        }
        Ok(None)
    }

    fn pause_output(&mut self, at: Option<u64>) {
        let channel = self.tty.as_ref().map(|tty| tty.channel);
        if let Some(end) = channel.and_then(|channel| self.relay.ends.get_mut(&channel)) {
            end.until = at;
        }
    }

    /// A report waited for bytes that are delivered now.
    fn can_go_on(&self) -> bool {
        match self.relay.mux.next_record() {
            Ok(Some((Report::Exit { ends, .. }, _))) => self.is_delivered(&ends),
            Ok(Some((Report::Termios { at, .. }, _))) => self.is_shown(at),
            _ => false,
        }
    }

    /// So much of the tree's output to its terminal is on ours.
    fn is_shown(&self, at: u64) -> bool {
        self.tty.as_ref().is_none_or(|tty| self.is_delivered(&[(tty.channel, at)]))
    }

    fn tend_tty(&mut self) {
        let Some(tty) = &mut self.tty else { return };
        if std::mem::take(&mut self.orders.resized) {
            tty.resized();
        }
        tty.settle(&mut self.relay.mux);
    }

    fn take_news(&mut self) {
        for news in std::mem::take(&mut self.relay.news) {
            if let Some(channel) = Connections::tend(&mut self.relay, news) {
                self.orders.close(channel);
            }
            let (News::Ended(id) | News::Unwanted(id)) = news else { continue };
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            if let News::Ended(id) = news {
                self.relay.half_close(id);
            }
            let one_way = !(stream.kind.goes_in() && stream.kind.goes_out());
            if one_way || self.relay.mux.is_settled(id) {
                // The tree closed it, so nothing of it stays open here.
                self.relay.ends.remove(&id);
                stream.close();
            }
        }
    }

    fn take_reports(&mut self) -> io::Result<Option<ExitStatus>> {
        loop {
            let (report, len) = match self.relay.mux.next_record() {
                Ok(Some(next)) => next,
                Ok(None) => return Ok(None),
                Err(e) => {
                    self.garbled = Some(self.relay.mux.generation());
                    self.relay.give_up(e);
                    return Ok(None);
                }
            };
            if let Report::Exit { ends, .. } = &report
                && !self.is_delivered(ends)
            {
                return Ok(None);
            }
            if let Report::Termios { at, .. } = &report
                && !self.is_shown(*at)
            {
                self.pause_output(Some(*at));
                return Ok(None);
            }
            self.relay.mux.heard(len);
            match report {
                Report::Exit { status, .. } => return Ok(Some(status)),
                Report::Stopped { continues, .. } => self.stop(continues)?,
                Report::Opened { channel } => self.listeners.opened(&mut self.relay, channel),
                Report::Closed { channel } => self.listeners.closed(&mut self.relay, channel),
                Report::Termios { settings, .. } => {
                    self.pause_output(None);
                    self.tty.iter_mut().for_each(|tty| tty.set(settings.clone()));
                    self.tend_tty();
                }
                Report::Hungry => self.tty.iter_mut().for_each(Tty::wants_input),
                Report::Continued => {}
            }
        }
    }

    /// The tree was stopped, so this is. Not where it was told to go on since, or says that it does.
    fn stop(&mut self, continues: u64) -> io::Result<()> {
        self.orders.take_signals();
        self.orders.say(&mut self.relay.mux);
        let goes_on = matches!(self.relay.mux.next_record(), Ok(Some((Report::Continued, _))));
        if continues == self.orders.continues && !goes_on {
            self.relay.pump();
            signals::stop_self()?;
            self.tty.iter_mut().for_each(Tty::goes_on);
        }
        Ok(())
    }

    /// All of the tree's output is where it belongs, or nobody wants it.
    fn is_delivered(&self, ends: &[(u32, u64)]) -> bool {
        let mux = &self.relay.mux;
        ends.iter().all(|(channel, end)| mux.is_broken_off(*channel) || mux.delivered_so_far(*channel) >= *end)
    }

    /// The far is told that the end was heard, and closes the connection when it knows.
    fn part(&mut self) -> io::Result<()> {
        let (mut set, until) = (PollSet::default(), std::time::Instant::now() + PARTING);
        self.relay.still = true;
        while self.relay.has_link() {
            self.relay.flush();
            let left = until.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                break;
            }
            set.clear();
            self.relay.register(&mut set);
            set.wait(Some(left.as_millis() as u32 + 1))?;
            if let Some((name, flags)) = set.happened(0) {
                self.relay.happened(name, flags);
            }
        }
        Ok(())
    }
}
