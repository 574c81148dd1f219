//! The master of the tree's terminal: a stand-in for home's, which does echo, editing and signals itself.
//!
//! What the tree writes comes as packets, with every "\n" made "\r\n" where the tree's settings ask for it; home's
//! terminal does that again, so it is undone here: exactly, the "\r" before each "\n" goes. The other end of the terminal
//! is kept open to see how much the tree has not read yet.

use crate::mux::{Mux, Order, Report};
use crate::relay::Port;
use grid_os::descriptors::unread;
use grid_os::poll::PollSet;
use grid_os::terminal::{self, SETTINGS_CHANGED};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::termios::{OutputFlags, tcgetattr};
use std::io;
use std::os::fd::OwnedFd;

use crate::relay::Name;

/// `TIOCPKT_DATA`: a packet of output.
const DATA: u8 = 0;
const PACKET: usize = 16 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Tty {
    pub(super) channel: u32,
    master: Option<Port>,
    slave: OwnedFd,
    /// Told each time the tree takes input: edges of the master's readiness, which itself is always ready.
    reads: Epoll,
    buffer: Vec<u8>,
    /// A "\r" that may belong to a "\n" that is still to come.
    held: bool,
    /// Where the input stood when home was asked for more.
    asked: Option<u64>,
    /// What home was told last.
    settings: Vec<u8>,
    expands: bool,
}

impl Tty {
    pub(super) fn new(channel: u32, master: Port) -> io::Result<Self> {
        let slave = terminal::other_end(&master)?;
        let reads = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        reads.add(&master, EpollEvent::new(EpollFlags::EPOLLOUT | EpollFlags::EPOLLET, 0))?;
        let settings = terminal::external(&terminal::settings(&master)?, false)?;
        let expands = expands(&master);
        let (master, buffer) = (Some(master), vec![0; PACKET]);
        Ok(Self { channel, master, slave, reads, buffer, held: false, asked: None, settings, expands })
    }

    pub(super) fn register(&self, mux: &Mux, set: &mut PollSet<Name>) {
        if let Some(master) = &self.master {
            let events = if mux.room(self.channel, 0) > PACKET { PollFlags::POLLIN } else { PollFlags::empty() };
            set.add(Name::Source(self.channel), master, events);
            set.add(super::TTY_READS, &self.reads.0, PollFlags::POLLIN);
        }
    }

    /// Takes what the tree wrote until there is no more, or no room. True where there is no more now.
    pub(super) fn read(&mut self, mux: &mut Mux, more: usize, reports: &mut impl Extend<Report>) -> bool {
        loop {
            let Some(master) = &self.master else { return true };
            if mux.room(self.channel, more) <= PACKET {
                return false;
            }
            match master.read(&mut self.buffer) {
                Ok(n @ 1..) if self.buffer[0] == DATA => self.take(mux, n, more),
                Ok(1..) if self.buffer[0] & SETTINGS_CHANGED != 0 => {
                    self.let_go(mux, more);
                    reports.extend(self.changed(mux.written(self.channel)));
                }
                Ok(1..) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    self.let_go(mux, more);
                    return true;
                }
                Ok(0) | Err(_) => {
                    self.close();
                    return true;
                }
            }
        }
    }

    fn take(&mut self, mux: &mut Mux, n: usize, more: usize) {
        if n > 1 && self.buffer[1] != b'\n' {
            self.let_go(mux, more);
        }
        self.held = false;
        if !self.expands {
            mux.write(self.channel, &self.buffer[1..n], more);
            return;
        }
        let mut end = 0;
        for at in 1..n {
            let byte = self.buffer[at];
            let undone = byte == b'\r' && (at + 1 == n || self.buffer[at + 1] == b'\n');
            if !undone {
                self.buffer[end] = byte;
                end += 1;
            }
        }
        // Its packet ended with it: what comes next shows whose it was.
        self.held = n > 1 && self.buffer[n - 1] == b'\r';
        mux.write(self.channel, &self.buffer[..end], more);
    }

    /// Nothing followed the "\r".
    fn let_go(&mut self, mux: &mut Mux, more: usize) {
        if std::mem::take(&mut self.held) {
            mux.write(self.channel, b"\r", more);
        }
    }

    /// The tree set its terminal: home's is to be the same. It stays a stand-in.
    fn changed(&mut self, at: u64) -> Option<Report> {
        let master = self.master.as_ref()?;
        self.expands = expands(master);
        let now = terminal::settings(master).ok()?;
        let external = terminal::external(&now, true).ok()?;
        if external != now {
            let _ = terminal::set_settings(master, &external);
        }
        let settings = terminal::external(&now, false).ok()?;
        if settings == self.settings {
            return None;
        }
        self.settings.clone_from(&settings);
        Some(Report::Termios { settings, at })
    }

    /// The tree took input.
    pub(super) fn took(&self) {
        let mut events = [EpollEvent::empty()];
        let _ = self.reads.wait(&mut events, EpollTimeout::ZERO);
    }

    /// Asks home for input where the tree has none left.
    pub(super) fn ask(&mut self, mux: &Mux) -> Option<Report> {
        let here = Some(mux.delivered_so_far(self.channel));
        if self.master.is_none() || self.asked == here || !mux.pending(self.channel).0.is_empty() || self.unread() > 0 {
            return None;
        }
        self.asked = here;
        Some(Report::Hungry)
    }

    /// Input that the tree has not read.
    pub(super) fn unread(&self) -> u64 {
        // What was written a moment ago is on its way through the kernel until somebody looks.
        let mut set = PollSet::default();
        set.add((), &self.slave, PollFlags::POLLIN);
        let _ = set.wait(Some(0));
        unread(&self.slave).unwrap_or(0)
    }

    pub(super) fn order(&mut self, order: &Order) {
        match (order, &self.master) {
            (Order::Resize { size }, Some(master)) => {
                let _ = terminal::set_size(master, *size);
            }
            (Order::Hangup, _) => self.close(),
            _ => {}
        }
    }

    /// The tree's terminal is hung up once the relay has let go of the master, too.
    pub(super) fn close(&mut self) {
        self.master = None;
    }

    pub(super) fn is_open(&self) -> bool {
        self.master.is_some()
    }
}

/// The terminal makes "\r\n" of a "\n".
fn expands(master: &Port) -> bool {
    tcgetattr(master).is_ok_and(|t| t.output_flags.contains(OutputFlags::OPOST | OutputFlags::ONLCR))
}
