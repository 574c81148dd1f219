//! The head's files on a worker. A pump beside the moved tree reads the kernel's FUSE messages and sends them home as they
//! are; a server at home, the process's owner and nobody else, answers.
//!
//! ```text
//!  tree ── kernel ── /dev/fuse ── pump ══ line ══ server ── the head's files
//!                                  ▲ agent dials      ▲ agent hands the connection over
//! ```
//!
//! Owns the wire ([`frame`]), what makes each message arrive once whatever breaks ([`once`]), and the bodies of both
//! processes. Never decides where a tree runs, and never mounts by itself: that is `grid_os::mount`.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))] // they panic where the reader has gone

use std::sync::{Mutex, MutexGuard, PoisonError};

pub mod control;
pub mod frame;
pub mod fuse;
pub mod line;
pub mod locks;
mod nameless;
mod near;
pub mod notices;
pub mod once;
pub mod pump;
mod queue;
mod reopen;
pub mod serve;
pub mod watch;

/// Both ends speak the same.
pub const VERSION: u32 = 2;

/// Whether or not a thread panicked with it.
pub(crate) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
