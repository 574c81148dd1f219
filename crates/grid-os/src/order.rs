//! Files that are orders: telling one from the next, and noticing at once that one comes, changes or goes.
//!
//! Owns no decision, and reads no content.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::fs::Metadata;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Looked at so often also where no change was told: a watch can be lost with its folder.
const LOOK_AGAIN_MS: u16 = 1000;
/// Without inotify.
const POLL: Duration = Duration::from_millis(100);

/// Tells an order from another one in the same place.
pub fn mark(meta: &Metadata) -> String {
    format!("{}.{}.{}", meta.ino(), meta.mtime(), meta.mtime_nsec())
}

/// Calls `look` from a thread of its own at once and whenever something may have changed beside one of `files`, until it
/// says false.
pub(crate) fn watch(files: Vec<PathBuf>, mut look: impl FnMut() -> bool + Send + 'static) {
    std::thread::spawn(move || {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok();
        loop {
            // Armed before the look: what changes between the two is told.
            inotify.iter().for_each(|i| arm(i, &files));
            if !look() {
                return;
            }
            match &inotify {
                Some(inotify) => {
                    let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
                    let _ = poll(&mut fds, PollTimeout::from(LOOK_AGAIN_MS));
                    let _ = inotify.read_events();
                }
                None => std::thread::sleep(POLL),
            }
        }
    });
}

/// Watches the folder of each file, or the nearest above it that there is.
fn arm(inotify: &Inotify, files: &[PathBuf]) {
    let flags = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_CLOSE_WRITE;
    for file in files {
        if let Some(dir) = file.ancestors().skip(1).find(|dir| dir.is_dir()) {
            let _ = inotify.add_watch::<Path>(dir, flags);
        }
    }
}
