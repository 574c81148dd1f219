//! What the shadow passes on to the tree beside bytes: the signals that it gets, and what became of connections.

use crate::mux::{Mux, Order};
use nix::libc;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::collections::VecDeque;
use std::io;

/// Orders that wait for the far; signals beyond them wait in the kernel.
const MOST: usize = 16;
/// `SI_KERNEL` of sigaction(2): the terminal sent it, to the whole group.
const BY_KERNEL: i32 = 0x80;

/// Signals as they come, and orders until they are said.
#[derive(Debug)]
pub(super) struct Orders {
    pub(super) signals: SignalFd,
    unsaid: VecDeque<Order>,
    /// A terminal's size is a record of its own.
    has_tty: bool,
    /// The window changed since it was looked at.
    pub(super) resized: bool,
    /// SIGCONT so far.
    pub(super) continues: u64,
}

impl Orders {
    pub(super) fn new(blocked: SigSet, has_tty: bool) -> io::Result<Self> {
        let signals = SignalFd::with_flags(&blocked, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { signals, unsaid: VecDeque::new(), has_tty, resized: false, continues: 0 })
    }

    /// There is room for more.
    pub(super) fn can_take(&self) -> bool {
        self.unsaid.len() < MOST
    }

    /// A connection was reset here.
    pub(super) fn close(&mut self, channel: u32) {
        self.unsaid.push_back(Order::Close { channel });
    }

    pub(super) fn take_signals(&mut self) {
        while self.can_take() {
            let Ok(Some(info)) = self.signals.read_signal() else { return };
            let signo = info.ssi_signo as i32;
            let own_pipe = signo == libc::SIGPIPE && info.ssi_pid == std::process::id();
            if self.has_tty && signo == libc::SIGWINCH {
                self.resized = true;
                continue;
            }
            // Children are home's own.
            if own_pipe || signo == libc::SIGCHLD {
                continue;
            }
            self.continues += u64::from(signo == libc::SIGCONT);
            // Whoever stopped the whole group makes the whole group go on, whomever a shell names.
            let group = info.ssi_code == BY_KERNEL || signo == libc::SIGCONT;
            self.unsaid.push_back(Order::Signal { signo, group });
        }
    }

    /// Says what the far has room for.
    pub(super) fn say(&mut self, mux: &mut Mux) {
        while self.unsaid.front().is_some_and(|order| mux.say(order)) {
            self.unsaid.pop_front();
        }
    }
}
