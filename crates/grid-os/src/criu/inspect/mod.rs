//! Images are looked at before CRIU, a C program with capabilities, reads them: their kinds, and what they would make of
//! the processes. Whoever sent them decides every byte; nothing of them is believed, and everything that is restored is
//! looked at again afterwards (`grid_core::gate`).
//!
//! Owns what the images say. Never restores, never repairs an image: one that is not as announced is refused with the
//! reason.
//!
//! ```text
//! names ──► messages ──► tasks (who, with what rights) ──► files (which paths, may the owner open them)
//! ```

mod files;
mod messages;
mod names;
mod tasks;
#[cfg(test)]
mod tests;

use super::CriuError;
use crate::spawn::Owner;
use prost::Message;
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// What was announced of a tree, and where its files are looked for.
#[derive(Clone, Copy, Debug)]
pub struct Announced<'a> {
    /// Whose it is.
    pub owner: Owner,
    /// The owner's supplementary groups.
    pub groups: &'a [u32],
    /// Processes that live.
    pub processes: u32,
    /// Their threads, in all.
    pub threads: u32,
    /// Their executables.
    pub executables: &'a [String],
    /// A terminal comes along.
    pub terminal: bool,
    /// Its TCP connections come along closed.
    pub close_tcp: bool,
    /// It has a `/tmp` and a `/dev/shm` of its own.
    pub private_tmp: bool,
    /// Hard limits of this agent's own, in the kernel's order: nobody's are higher.
    pub limits: &'a [u64],
    /// Paths that no guest opens, with what is below them.
    pub closed: &'a [String],
    /// The root directory that the tree will have.
    pub root: BorrowedFd<'a>,
}

/// No honest image other than a file's own content is larger.
const MAX_IMAGE: u64 = 64 << 20;
/// Of `sk_shutdown` in CRIU's `sk-opts.proto`.
const SHUTDOWN_WRITE: u32 = 2;
/// Images whose size is that of data: what lay in pipes and sockets, deleted files, shared memory.
const DATA: [&str; 6] = ["ghost-file-", "pipes-data", "fifo-data", "sk-queues", "ipcns-shm-", "memfd"];

/// Refuses images that are not what was announced, or that ask for more than a guest may have.
///
/// # Errors
/// [`CriuError::Refusal`] with what was wrong; [`CriuError::Images`] where they cannot be read.
pub fn inspect(dir: &Path, announced: &Announced<'_>) -> Result<(), CriuError> {
    let images = Images::read(dir)?;
    let look = || {
        if let Some(name) = images.names(names::TERMINALS).next().filter(|_| !announced.terminal) {
            return Err(format!("{name}, and no terminal was announced"));
        }
        let files = files::Files::of(&images, announced)?;
        tasks::check(&images, &files, announced)?;
        files.check(announced)
    };
    look().map_err(CriuError::Refusal)
}

/// How a Unix socket was set when it was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketState {
    /// Calls on it do not wait (`O_NONBLOCK`).
    pub nonblocking: bool,
    /// Nothing more is sent on it.
    pub sends_no_more: bool,
}

/// That of the socket with this inode where it was saved; none where no such socket is among the images.
///
/// # Errors
/// [`CriuError::Refusal`] where the images are not what CRIU writes; [`CriuError::Images`] where they cannot be read.
pub fn socket_state(dir: &Path, inode: u64) -> Result<Option<SocketState>, CriuError> {
    let bytes = read_head(&dir.join("files.img"), MAX_IMAGE).map_err(|e| CriuError::Images(dir.to_owned(), e))?;
    let files: Vec<messages::File> = messages_of("files.img", &bytes, usize::MAX).map_err(CriuError::Refusal)?;
    let socket = files.into_iter().filter_map(|file| file.unix).find(|unix| u64::from(unix.ino) == inode);
    Ok(socket.map(|unix| SocketState {
        nonblocking: unix.flags & nix::libc::O_NONBLOCK as u32 != 0,
        sends_no_more: unix.shutdown.unwrap_or(0) & SHUTDOWN_WRITE != 0,
    }))
}

/// The images by name, those of data without their content.
struct Images(BTreeMap<String, Vec<u8>>);

impl Images {
    fn read(dir: &Path) -> Result<Self, CriuError> {
        let io = |e| CriuError::Images(dir.to_owned(), e);
        let mut images = BTreeMap::new();
        for entry in std::fs::read_dir(dir).map_err(io)? {
            let entry = entry.map_err(io)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // Made by the receiver of the stream.
            if name.starts_with("pages-") || name.starts_with("pagemap-") {
                continue;
            }
            let size = entry.metadata().map_err(io)?.len();
            let data = DATA.iter().any(|stem| name.starts_with(stem));
            if size > MAX_IMAGE && !data {
                return Err(CriuError::Refusal(format!("{name} is {size} bytes long")));
            }
            let bytes = read_head(&entry.path(), if data { 1 << 16 } else { MAX_IMAGE }).map_err(io)?;
            names::head_of(&name, &bytes).map_err(CriuError::Refusal)?;
            images.insert(name, bytes);
        }
        Ok(Self(images))
    }

    /// Every message of an image of this name; none where there is no such image.
    fn all<M: Message + Default>(&self, name: &str) -> Result<Vec<M>, String> {
        let Some(bytes) = self.0.get(name) else { return Ok(Vec::new()) };
        messages_of(name, bytes, usize::MAX)
    }

    /// The first message of an image, which it must have.
    fn one<M: Message + Default>(&self, name: &str) -> Result<M, String> {
        let bytes = self.0.get(name).ok_or_else(|| format!("{name} is missing"))?;
        messages_of(name, bytes, 1)?.pop().ok_or_else(|| format!("{name} is empty"))
    }

    fn names<'a>(&'a self, stem: &'a str) -> impl Iterator<Item = &'a String> {
        self.0.keys().filter(move |name| name.starts_with(stem))
    }
}

fn read_head(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn messages_of<M: Message + Default>(name: &str, bytes: &[u8], most: usize) -> Result<Vec<M>, String> {
    let broken = || format!("{name} is not what CRIU writes");
    let mut rest = bytes.get(names::head_of(name, bytes)?..).ok_or_else(broken)?;
    let mut all = Vec::new();
    while !rest.is_empty() && all.len() < most {
        let (len, tail) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
        let len = u32::from_le_bytes(*len) as usize;
        let message = tail.get(..len).ok_or_else(broken)?;
        all.push(M::decode(message).map_err(|e| format!("{name} is not what CRIU writes: {e}"))?);
        rest = &tail[len..];
    }
    Ok(all)
}
