//! Waiting for several descriptors at once, without an allocation for each wait: poll(2).
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::poll::PollFlags;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Descriptors that are waited for, each with what its owner calls it. Filled anew for each wait; its memory stays.
#[derive(Debug)]
pub struct PollSet<T> {
    waited: Vec<libc::pollfd>,
    names: Vec<T>,
}

impl<T> Default for PollSet<T> {
    fn default() -> Self {
        Self { waited: Vec::new(), names: Vec::new() }
    }
}

impl<T: Copy> PollSet<T> {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.waited.clear();
        self.names.clear();
    }

    /// Waits for these events of the descriptor, too; errors and hang-ups are always told.
    pub fn add(&mut self, name: T, fd: &impl AsFd, events: PollFlags) {
        self.waited.push(libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: events.bits(), revents: 0 });
        self.names.push(name);
    }

    /// Waits until something happened, or so many milliseconds (for ever without). A signal ends it early.
    ///
    /// # Errors
    /// The system call; not `EINTR`.
    pub fn wait(&mut self, timeout_ms: Option<u32>) -> io::Result<()> {
        let timeout = timeout_ms.map_or(-1, |ms| i32::try_from(ms).unwrap_or(i32::MAX));
        // SAFETY: the kernel writes into a live array of the length that is named. A number that is closed by now is
        // answered with POLLNVAL.
        let result = unsafe { libc::poll(self.waited.as_mut_ptr(), self.waited.len() as libc::nfds_t, timeout) };
        match Errno::result(result) {
            Ok(_) => Ok(()),
            Err(Errno::EINTR) => {
                self.waited.iter_mut().for_each(|w| w.revents = 0);
                Ok(())
            }
            Err(e) => Err(e.into()),
        }
    }

    /// The `at`th descriptor's name and what happened to it; none behind the last one.
    pub fn happened(&self, at: usize) -> Option<(T, PollFlags)> {
        Some((*self.names.get(at)?, PollFlags::from_bits_truncate(self.waited[at].revents)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_ready_is_told_by_its_name() {
        let ((reader, mut writer), (silent, _kept)) = (io::pipe().unwrap(), io::pipe().unwrap());
        writer.write_all(b"x").unwrap();
        let mut set = PollSet::default();
        set.add('s', &silent, PollFlags::POLLIN);
        set.add('r', &reader, PollFlags::POLLIN);
        set.wait(None).unwrap();
        assert_eq!(set.happened(0), Some(('s', PollFlags::empty())));
        assert_eq!(set.happened(1), Some(('r', PollFlags::POLLIN)));
        assert_eq!(set.happened(2), None);
    }
}
