//! The `/tmp` and the `/dev/shm` that a tree of `grid run --private` has for itself: file systems in memory, in its own mount
//! namespace, whose content goes wherever the tree goes.
//!
//! Owns mounting, measuring, and the two programs that carry the content: `tar` there and here, as the tree's owner and in
//! its mount namespace, so that what an archive can do is what its owner may do there. Sockets are left out, CRIU makes
//! them anew; a file without a name is CRIU's, too.

use crate::spawn::{Owner, Place, Spawned, spawn};
use grid_types::Bytes;
use grid_types::facts::PRIVATE_TMP;
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

/// Where every distribution with GNU tar has it.
const TAR: &str = "/bin/tar";
/// One piece of the archive as it crosses: its length, then so many bytes. A piece of no bytes is the end.
const PIECE: usize = 1 << 18;
/// Of what tar says where it fails.
const WORDS: u64 = 1000;

/// Mounts the folders, empty and this owner's, in the mount namespace of the caller.
///
/// # Errors
/// The kernel's, with the folder.
pub fn mount_all(owner: Owner) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = format!("mode=1777,uid={},gid={}", owner.uid, owner.gid);
    for dir in PRIVATE_TMP {
        mount(Some("grid-private"), dir, Some("tmpfs"), flags, Some(options.as_str()))
            .map_err(|e| io::Error::new(io::Error::from(e).kind(), format!("a {dir} of its own: {}", e.desc())))?;
    }
    Ok(())
}

/// What the folders of the tree of this process hold.
///
/// # Errors
/// They cannot be looked at.
pub fn used(pid: i32) -> io::Result<Bytes> {
    let one = |dir: &str| -> io::Result<u64> {
        let found = nix::sys::statvfs::statvfs(format!("/proc/{pid}/root{dir}").as_str())?;
        Ok((found.blocks() - found.blocks_free()) * found.fragment_size())
    };
    Ok(Bytes(PRIVATE_TMP.into_iter().map(one).sum::<io::Result<u64>>()?))
}

/// Whose folders they are, and who carries them.
pub struct Carrier<'a> {
    /// A process in the tree's mount namespace.
    pub within: BorrowedFd<'a>,
    /// The tree's owner.
    pub owner: Owner,
    /// Control groups of the program that carries.
    pub cgroup_procs: Vec<PathBuf>,
}

impl Carrier<'_> {
    /// Writes the content in pieces. The tree stands still meanwhile.
    ///
    /// # Errors
    /// What could not be read or written.
    pub fn send(&self, to: &mut impl Write) -> io::Result<u64> {
        let [tmp, shm] = PRIVATE_TMP.map(|dir| dir.trim_start_matches('/'));
        let words =
            ["--create", "--file=-", "--format=posix", "--sparse", "--numeric-owner", "--directory=/", tmp, shm];
        let (out, theirs) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let tar = self.start(&words, [None, Some(theirs.as_fd())])?;
        drop(theirs);
        let sent = in_pieces(&mut std::fs::File::from(out), to);
        let ended = tar.end();
        let total = sent?;
        // The end is said only of a whole archive: without it the other side fails.
        ended?;
        to.write_all(&0u32.to_le_bytes())?;
        to.flush()?;
        Ok(total)
    }

    /// Takes what [`Carrier::send`] wrote, at most `limit` bytes of it.
    ///
    /// # Errors
    /// What of it could not be taken; some of it may be there.
    pub fn receive(&self, from: &mut impl Read, limit: Bytes) -> io::Result<u64> {
        let words = ["--extract", "--file=-", "--preserve-permissions", "--numeric-owner", "--directory=/"];
        let (theirs, into) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let tar = self.start(&words, [Some(theirs.as_fd()), None])?;
        drop(theirs);
        let mut into = std::fs::File::from(into);
        let taken = each_piece(from, limit, |piece| into.write_all(piece));
        drop(into);
        let ended = tar.end();
        match taken {
            // A tar that ended early: its words say more.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => ended.and(Err(e)),
            Err(e) => Err(e),
            Ok(total) => ended.map(|()| total),
        }
    }

    fn start(&self, words: &[&str], [input, output]: [Option<BorrowedFd<'_>>; 2]) -> io::Result<Tar> {
        let (said, theirs) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let argv: Vec<String> = std::iter::once(&TAR).chain(words).map(|word| (*word).to_owned()).collect();
        let place = Place {
            cgroup_procs: self.cgroup_procs.clone(),
            join: Some((self.within, CloneFlags::CLONE_NEWNS.bits())),
            become_owner: Some(self.owner),
            new_session: true,
            stdio: [input, output, Some(theirs.as_fd())],
            ..Place::default()
        };
        let spawned = spawn(&argv, &[], &place)?;
        let words = std::thread::spawn(move || {
            let mut text = String::new();
            let mut said = std::fs::File::from(said);
            let _ = (&mut said).take(WORDS).read_to_string(&mut text);
            let _ = io::copy(&mut said, &mut io::sink());
            text
        });
        Ok(Tar { spawned, words })
    }
}

struct Tar {
    spawned: Spawned,
    words: std::thread::JoinHandle<String>,
}

impl Tar {
    fn end(self) -> io::Result<()> {
        let code = self.spawned.exit_code();
        let words = self.words.join().unwrap_or_default();
        match code {
            Some(0) => Ok(()),
            _ => Err(io::Error::other(format!("{TAR} failed: {}", words.trim()))),
        }
    }
}

fn in_pieces(from: &mut impl Read, to: &mut impl Write) -> io::Result<u64> {
    let (mut piece, mut total) = (vec![0; PIECE], 0);
    loop {
        let n = from.read(&mut piece)?;
        if n == 0 {
            return Ok(total);
        }
        to.write_all(&(n as u32).to_le_bytes())?;
        to.write_all(&piece[..n])?;
        total += n as u64;
    }
}

fn each_piece(from: &mut impl Read, limit: Bytes, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
    let (mut piece, mut total) = (vec![0; PIECE], 0u64);
    loop {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length == 0 {
            return Ok(total);
        }
        let into = piece.get_mut(..length).ok_or_else(|| io::Error::other("a piece is longer than pieces are"))?;
        total += length as u64;
        if total > limit.0 {
            return Err(io::Error::other(format!("its own /tmp holds more than {limit}, which were admitted")));
        }
        from.read_exact(into)?;
        take(into)?;
    }
}

/// Reads past what [`Carrier::send`] wrote.
///
/// # Errors
/// As [`Carrier::receive`].
pub fn skip(from: &mut impl Read, limit: Bytes) -> io::Result<u64> {
    each_piece(from, limit, |_| Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_arrive_whole_and_no_more_than_is_admitted() {
        let content: Vec<u8> = (0..PIECE * 2 + 7).map(|n| (n % 251) as u8).collect();
        let mut sent = Vec::new();
        assert_eq!(in_pieces(&mut &content[..], &mut sent).unwrap(), content.len() as u64);
        let cut = each_piece(&mut &sent[..], Bytes(1 << 30), |_| Ok(())).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof, "without its end it is not whole");
        sent.extend(0u32.to_le_bytes());
        let mut taken = Vec::new();
        let limit = Bytes(content.len() as u64);
        each_piece(&mut &sent[..], limit, |piece| taken.write_all(piece)).unwrap();
        assert!(taken == content);
        assert!(skip(&mut &sent[..], Bytes(limit.0 - 1)).unwrap_err().to_string().contains("admitted"));
        assert!(skip(&mut &u32::MAX.to_le_bytes()[..], Bytes(u64::MAX)).is_err(), "a length past all reason");
    }
}
