//! What home orders of the tree.

use super::{Far, MOST_REPORTS, Root};
use crate::config::StreamKind;
use crate::mux::{Order, Report};
use crate::relay::Connections;
use nix::libc;

impl Far {
    /// Carries out what arrived. Orders wait while the root is not known yet, or nobody hears of them.
    pub(super) fn take_orders(&mut self) {
        while self.reports.len() < MOST_REPORTS {
            let (order, len) = match self.relay.mux.next_record() {
                Ok(Some(next)) => next,
                Ok(None) => return,
                Err(e) => return self.relay.give_up(e),
            };
            let root = self.root.pid();
            if root.is_none() && matches!(order, Order::Signal { .. }) {
                return;
            }
            self.relay.mux.heard(len);
            match order {
                Order::Signal { signo, group } => self.pass_on(root, signo, group),
                Order::Open { channel, listener } => self.open(channel, listener),
                Order::Close { channel } => {
                    self.connector.forget(channel);
                    Connections::drop(&mut self.relay, channel);
                }
                Order::Resize { .. } => self.tty.iter_mut().for_each(|tty| tty.order(&order)),
                Order::Hangup => self.hang_up(),
            }
        }
    }

    fn pass_on(&mut self, root: Option<i32>, signo: i32, group: bool) {
        // Counted before it is sent: a stop that is seen afterwards came later.
        self.continues += u64::from(signo == libc::SIGCONT);
        if let (Some(pid), None) = (root, self.exit) {
            Root::signal(pid, signo, group);
        }
    }

    /// Closes the master: the kernel does to the tree what it does to a job whose terminal is gone.
    fn hang_up(&mut self) {
        if let Some(tty) = &mut self.tty {
            tty.order(&Order::Hangup);
            self.relay.mux.break_off(tty.channel);
            self.relay.mux.end(tty.channel);
            self.relay.ends.remove(&tty.channel);
        }
    }

    fn open(&mut self, channel: u32, listener: u32) {
        let at = match self.streams.kind(listener) {
            Some(StreamKind::Listener { port, v6 }) => Some((port, v6)),
            _ => self.begun.get(&listener).copied(),
        };
        let report = match at.filter(|_| self.exit.is_none()) {
            Some((port, v6)) => self.connector.open(&mut self.relay, channel, port, v6),
            None => Some(Report::Closed { channel }),
        };
        self.reports.extend(report);
    }
}
