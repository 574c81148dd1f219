//! Driving CRIU: one `criu swrk` for each dump or restore, its page stream, its images and its lazy pages.
//!
//! Owns: CRIU's process and everything that speaks its protocols. Never decides who may run; never signals CRIU (a
//! signal at the wrong moment kills or wedges the source): a dump is cancelled by closing its page stream.
//!
//! ```text
//!   source                                  destination
//!   criu swrk DUMP ──page-server protocol──► receive_pages ──► arena (memory), pages-*.img (the few others)
//!   post-dump: hold cgroup frozen            receive_images
//!   send_images ────────same stream────────►  criu swrk RESTORE (lazy) ◄── uffd::fill_all
//!                                             pre-resume: tree cgroup frozen
//! ```

mod arena;
mod corrected;
mod filter;
#[cfg(fuzzing)]
pub mod fuzzing;
mod images;
mod inspect;
mod open_files;
mod origin;
mod pages;
mod parked;
mod rpc;
mod session;
mod timens;
mod uffd;

pub use arena::{Arena, available_memory};
pub use images::{pages_written, receive_images, send_images};
pub use inspect::{Announced, SocketState, inspect, socket_state};
pub use origin::{Origin, pinned_version};
pub use pages::{ReceivedPages, Run, receive_pages};
pub use parked::{Recorder, Seal, seal_of};
pub use session::{Criu, DumpJob, RestoreJob, Where};

use grid_types::ReasonCode;
use std::io;
use std::path::PathBuf;

/// What can fail with CRIU.
#[derive(Debug, thiserror::Error)]
pub enum CriuError {
    /// No usable CRIU.
    #[error("no usable CRIU at {path}: {detail}; run `grid doctor`")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// What was wrong.
        detail: String,
    },
    /// Somebody else could change the program that runs with privileges.
    #[error(
        "{} {} can be changed by {who}: CRIU runs with privileges, so only root may. Nothing was started. {}",
        ReasonCode::Writable, .path.display(), ReasonCode::Writable.fix()
    )]
    Writable {
        /// The program, or a directory above it.
        path: PathBuf,
        /// By whom.
        who: String,
    },
    /// CRIU could not be started.
    #[error("CRIU could not be started: {0}")]
    Start(#[source] io::Error),
    /// CRIU went away in the middle.
    #[error("CRIU ended before it answered: {0}")]
    Lost(#[source] io::Error),
    /// CRIU said no; the lines are from its log.
    #[error("CRIU could not {action}: {detail}")]
    Refused {
        /// `dump` or `restore`.
        action: &'static str,
        /// The errors of its log.
        detail: String,
    },
    /// What we do in CRIU's notifications failed.
    #[error("the tree could not be held: {0}")]
    Hold(String),
    /// The stream of pages broke off: this is also how a dump is cancelled.
    #[error("the page stream broke off: {0}")]
    PageStream(#[source] io::Error),
    /// What was thought to be under the filter of `grid run` is not, or not under it alone.
    #[error("it is under another seccomp filter than that of `grid run`, or not all of it under that one")]
    ForeignFilter,
    /// An image of ours that is not as CRIU writes it.
    #[error("a {image} image is not as CRIU writes it: {what}")]
    Unclear {
        /// Of which kind.
        image: &'static str,
        /// What is not understood.
        what: &'static str,
    },
    /// An image directory.
    #[error("{}: {}", .0.display(), .1)]
    Images(PathBuf, #[source] io::Error),
    /// What arrived is not what CRIU sends.
    #[error("the lender's gate refused the stream: {0}")]
    Hostile(String),
    /// The images ask for what a guest may not have.
    #[error("the lender's gate refused the images: {0}")]
    Refusal(String),
    /// More memory than was announced and admitted.
    #[error("the tree brings more memory than the {limit} bytes that were admitted")]
    TooMuchMemory {
        /// Admitted bytes.
        limit: u64,
    },
    /// No memory for the arena.
    #[error("no memory for the pages that arrive: {0}")]
    Arena(#[source] io::Error),
    /// The userfaultfd side of the restore.
    #[error("filling the restored memory: {0}")]
    Uffd(#[source] io::Error),
    /// One copy into the restored process.
    #[error("filling the restored memory at {address:#x}: {source}")]
    Fill {
        /// Where.
        address: u64,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Takes the cork off a TCP socket; what is queued goes out now.
#[allow(unsafe_code)]
fn uncork(socket: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let off: libc::c_int = 0;
    // SAFETY: passes a live local of the size that is named.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CORK,
            (&raw const off).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
