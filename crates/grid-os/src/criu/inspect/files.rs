//! The files that images would open, make or link, and whether the tree's owner may.

use super::messages::{File, Fs, Ghost, InetSocket, RegFile, Remap};
use super::{Announced, Images};
use crate::access::{EXECUTE, WRITE, allowed, as_owner, find, wanted_by};
use grid_types::facts::in_private_tmp;
use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::fstat;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;

/// `fd_types` of CRIU's `fdinfo.proto` that a guest may hold.
const REGULAR: i32 = 1;
const INET: i32 = 4;
const UNIX: i32 = 5;
/// Only where a terminal is announced.
const TERMINAL: i32 = 11;
const KINDS: [i32; 12] = [REGULAR, 2, 3, INET, UNIX, 6, 7, 8, 9, TERMINAL, 17, 18];
/// `remap_type`: a link that the dump made, a deleted file that comes along.
const REMAPS: [i32; 2] = [0, 1];

/// `IPPROTO_TCP`.
const TCP: u32 = 6;
/// `TCP_LISTEN` and `TCP_CLOSE` of `include/net/tcp_states.h`: there is no other end.
const ALONE: [u32; 2] = [10, 7];

/// `null`, `zero`, `full`, `random`, `urandom`.
const HARMLESS: [(u32, u32); 5] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9)];

/// A socket in a `/tmp` of the tree's own, where nobody else can come to it. CRIU keeps the zero at the end of a path.
fn is_its_own(name: &[u8], announced: &Announced<'_>) -> bool {
    let path = std::str::from_utf8(name.strip_suffix(b"\0").unwrap_or(name)).unwrap_or_default();
    announced.private_tmp && in_private_tmp(path) && path.split('/').all(|part| part != "..")
}

pub(super) struct Files {
    regular: BTreeMap<u32, RegFile>,
    /// Files whose names are gone: they come along, or under another name.
    nameless: BTreeSet<u32>,
    roots: BTreeSet<u32>,
    ghosts: Vec<(String, Ghost)>,
}

impl Files {
    pub(super) fn of(images: &Images, announced: &Announced<'_>) -> Result<Self, String> {
        let mut regular = BTreeMap::new();
        for file in images.all::<File>("files.img")? {
            if !KINDS.contains(&file.kind) || file.kind == TERMINAL && !announced.terminal {
                return Err(format!("file {} is of kind {}, which no guest holds", file.id, file.kind));
            }
            if let Some(name) =
                file.unix.map(|s| s.name).filter(|name| !name.is_empty() && !is_its_own(name, announced))
            {
                return Err(format!("a Unix socket bound to {:?}", String::from_utf8_lossy(&name)));
            }
            if file.inet.as_ref().is_some_and(is_connected) && !announced.close_tcp {
                return Err(format!("file {} is a TCP connection, and nobody agreed that it is closed", file.id));
            }
            if let (REGULAR, None) | (UNIX | INET, Some(_)) = (file.kind, &file.reg) {
                return Err(format!("file {} is not what CRIU writes", file.id));
            }
            if let Some(reg) = file.reg
                && regular.insert(file.id, reg).is_some()
            {
                return Err(format!("file {} twice", file.id));
            }
        }
        let remaps: Vec<Remap> = images.all("remap-fpath.img")?;
        if let Some(odd) = remaps.iter().find(|r| !REMAPS.contains(&r.kind.unwrap_or(0))) {
            return Err(format!("file {} is remapped in a way that no guest needs", odd.orig_id));
        }
        let fs = |name: &String| images.one::<Fs>(name).map(|fs| fs.root_id);
        let roots = images.names("fs-").map(fs).collect::<Result<_, _>>()?;
        let ghost = |name: &String| images.one(name).map(|ghost| (name.clone(), ghost));
        let ghosts = images.names("ghost-file-").map(ghost).collect::<Result<_, String>>()?;
        Ok(Self { regular, nameless: remaps.iter().map(|r| r.orig_id).collect(), roots, ghosts })
    }

    pub(super) fn path(&self, id: u32) -> Option<&str> {
        self.regular.get(&id).map(|file| file.name.as_str())
    }

    pub(super) fn check(&self, announced: &Announced<'_>) -> Result<(), String> {
        if let Some(root) = self.roots.iter().find_map(|id| self.path(*id).filter(|path| *path != "/")) {
            return Err(format!("a process would have its root at {root}"));
        }
        self.ghosts.iter().try_for_each(|(name, ghost)| check_ghost(name, ghost, announced))?;
        self.regular.values().try_for_each(|file| check_path(file, announced.closed))?;
        let rights = || self.regular.iter().try_for_each(|(id, file)| self.check_rights(*id, file, announced));
        as_owner(announced.owner, announced.groups, rights)
            .map_err(|e| format!("the rights to its files could not be looked at: {e}"))?
    }

    /// On the owner's thread.
    fn check_rights(&self, id: u32, file: &RegFile, announced: &Announced<'_>) -> Result<(), String> {
        let uid = announced.owner.uid;
        // Where its terminal was. CRIU takes the one that it is given; the gate looks whether it has no other.
        if announced.terminal && file.name.starts_with("/dev/pts/") {
            return Ok(());
        }
        let (path, want, doing) = if self.nameless.contains(&id) {
            let parent = file.name.rsplit_once('/').map_or("/", |(parent, _)| parent);
            (parent, WRITE | EXECUTE, "make a file in")
        } else {
            let want = wanted_by(file.flags);
            (file.name.as_str(), want, if want & WRITE != 0 { "open for writing" } else { "open" })
        };
        let looked = find(announced.root, path).and_then(|found| {
            allowed(found.as_fd(), want)?;
            fstat(&found)
        });
        match looked {
            Ok(found) if is_odd_device(found.st_mode, found.st_rdev) => Err(format!("device {path}")),
            // CRIU itself says what is missing.
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
            Err(e) => Err(format!("{path}, which uid {uid} may not {doing} ({})", e.desc())),
        }
    }
}

/// CRIU would restore it as a connection: it goes by the other end's port.
fn is_connected(socket: &InetSocket) -> bool {
    socket.proto == TCP && (socket.dst_port != 0 || !ALONE.contains(&socket.state))
}

/// Neither a file nor one of the devices that hold nothing.
fn is_odd_device(mode: u32, device: u64) -> bool {
    let kind = mode & libc::S_IFMT;
    let harmless = HARMLESS.contains(&(libc::major(device), libc::minor(device)));
    kind == libc::S_IFBLK || kind == libc::S_IFCHR && !harmless
}

/// A deleted file is made anew: as a plain one of the owner's.
fn check_ghost(name: &str, ghost: &Ghost, announced: &Announced<'_>) -> Result<(), String> {
    let kind = ghost.mode & libc::S_IFMT;
    if kind != libc::S_IFREG && kind != libc::S_IFIFO && kind != libc::S_IFDIR {
        return Err(format!("{name} would make a file of mode {:o}", ghost.mode));
    }
    if ghost.mode & (libc::S_ISUID | libc::S_ISGID) != 0 {
        return Err(format!("{name} would make a set-id file, mode {:o}", ghost.mode));
    }
    if ghost.uid != announced.owner.uid {
        return Err(format!("{name} would make a file of uid {}, {} was announced", ghost.uid, announced.owner.uid));
    }
    Ok(())
}

fn check_path(file: &RegFile, closed: &[String]) -> Result<(), String> {
    let path = &file.name;
    if file.ext == Some(true) {
        return Err(format!("{path}, which would come from CRIU's plugins"));
    }
    if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(format!("a file named {path:?}"));
    }
    let under = |dir: &&String| path.strip_prefix(dir.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'));
    match closed.iter().find(under) {
        Some(dir) => Err(format!("{path}: no guest opens what is in {dir}")),
        None => Ok(()),
    }
}
