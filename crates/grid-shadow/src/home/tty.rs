//! Home's terminal as the shadow uses it: read only in the foreground and only when the tree wants input, so that what is
//! typed ahead is left for the shell; set as the tree sets its own.
//!
//! Echo, editing and the signals of keys are this terminal's, so Ctrl-C reaches the whole job at home.

use crate::mux::{Mux, Order};
use crate::relay::Port;
use grid_os::poll::PollSet;
use grid_os::terminal;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::termios::{LocalFlags, SpecialCharacterIndices, tcgetattr};
use nix::unistd::{getpgrp, tcgetpgrp};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::TTY;
use crate::relay::Name;

/// Nobody tells that a shell puts a running job into the foreground: it is looked at so often, while that matters.
const LOOK: Duration = Duration::from_millis(300);
/// One line, or what a raw terminal has at once.
const READ: usize = 4096;

/// The terminal and what is to be done with it.
#[derive(Debug)]
pub(super) struct Tty {
    pub(super) channel: u32,
    port: Port,
    /// The tree has read all that it was given.
    hungry: bool,
    /// What the tree set last, and whether this terminal has it.
    settings: Option<(Vec<u8>, bool)>,
    size: Option<[u16; 4]>,
    /// The terminal was hung up, and the far is to be told.
    gone: Option<bool>,
}

impl Tty {
    pub(super) fn new(channel: u32, fd: BorrowedFd<'_>) -> std::io::Result<Self> {
        let port = Port::shared(fd, false)?;
        Ok(Self { channel, port, hungry: false, settings: None, size: None, gone: None })
    }

    /// Job control lets us read and set it. Where it is not our controlling terminal there is no job control.
    fn in_foreground(&self) -> bool {
        tcgetpgrp(&self.port).is_ok_and(|group| group == getpgrp()) || tcgetpgrp(&self.port) == Err(Errno::ENOTTY)
    }

    fn is_wanted(&self) -> bool {
        self.gone.is_none() && (self.hungry || self.settings.as_ref().is_some_and(|(_, set)| !set))
    }

    pub(super) fn register(&self, mux: &Mux, set: &mut PollSet<Name>) {
        if self.gone.is_none() {
            let reads = self.hungry && mux.room(self.channel, 0) > 0 && self.in_foreground();
            set.add(TTY, &self.port, if reads { PollFlags::POLLIN } else { PollFlags::empty() });
        }
    }

    /// When to look again whether this job is in the foreground.
    pub(super) fn due_in(&self) -> Option<Duration> {
        (self.is_wanted() && !self.in_foreground()).then_some(LOOK)
    }

    /// There is input, or the terminal is gone.
    pub(super) fn happened(&mut self, mux: &mut Mux, flags: PollFlags) {
        if flags.contains(PollFlags::POLLIN) && self.hungry && self.in_foreground() {
            let space = mux.write_space(self.channel, READ, 0);
            match self.port.read(space) {
                Ok(0) if !flags.contains(PollFlags::POLLHUP) => self.end_of_file(mux),
                Ok(n @ 1..) => {
                    mux.wrote(self.channel, n);
                    self.hungry = false;
                    return;
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                _ => self.gone = Some(false),
            }
        }
        if flags.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
            self.gone = Some(false);
        }
    }

    /// Ctrl-D on an empty line is nothing that lasts: the tree's terminal makes the same of the character.
    fn end_of_file(&mut self, mux: &mut Mux) {
        let Ok(termios) = tcgetattr(&self.port) else {
            self.gone = Some(false);
            return;
        };
        let character = termios.control_chars[SpecialCharacterIndices::VEOF as usize];
        if let Some(first) = mux.write_space(self.channel, 1, 0).first_mut() {
            *first = if termios.local_flags.contains(LocalFlags::ICANON) { character } else { 0 };
            // A raw read of nothing (VMIN is 0) is no input.
            let canonical = termios.local_flags.contains(LocalFlags::ICANON);
            mux.wrote(self.channel, usize::from(canonical));
            self.hungry = !canonical;
        }
    }

    pub(super) fn wants_input(&mut self) {
        self.hungry = true;
    }

    /// The tree set its terminal.
    pub(super) fn set(&mut self, settings: Vec<u8>) {
        self.settings = Some((settings, false));
    }

    /// The job goes on: the shell may have set the terminal meanwhile, and the window may have changed.
    pub(super) fn goes_on(&mut self) {
        if let Some((_, set)) = &mut self.settings {
            *set = false;
        }
        self.size = None;
    }

    /// The window changed.
    pub(super) fn resized(&mut self) {
        self.size = None;
    }

    /// Does what waits for the foreground, and says what the far does not know yet.
    pub(super) fn settle(&mut self, mux: &mut Mux) {
        if self.gone == Some(false) && mux.say(&Order::Hangup) {
            self.gone = Some(true);
        }
        if self.gone.is_some() {
            return;
        }
        if self.size.is_none()
            && let Ok(size) = terminal::size(&self.port)
            && mux.say(&Order::Resize { size })
        {
            self.size = Some(size);
        }
        if self.settings.as_ref().is_some_and(|(_, set)| !set) && self.in_foreground() {
            let (settings, set) = self.settings.as_mut().expect("it was looked at");
            // What it refuses it refuses the next time, too.
            let _ = terminal::set_settings(&self.port.as_fd(), settings);
            *set = true;
        }
    }
}
