//! Open descriptors: what each is, how it was opened, and the locks held through it.

use super::{ProcError, ProcRoot, sockets, vanished};
use grid_types::facts::{FdFacts, FdKind};
use grid_types::units::Bytes;
use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};
use std::collections::HashSet;

/// Major numbers of `Documentation/admin-guide/devices.txt`.
const MEM_MAJOR: u32 = 1;
const TTY_MAJORS: [u32; 2] = [4, 5];
const PTS_MAJORS: std::ops::RangeInclusive<u32> = 128..=143;
/// `/dev/` names that are terminals.
const TTY_NAMES: [&str; 5] = ["pts/", "tty", "console", "ptmx", "hvc"];
/// Devices that hold nothing: reading and writing them means the same on every node.
const HARMLESS: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
/// Anonymous inodes that CRIU saves.
const SAVEABLE: [&str; 6] = ["[eventpoll]", "[eventfd]", "[timerfd]", "[signalfd]", "inotify", "[inotify]"];

/// Clocks by their numbers (clock_gettime(2)).
const CLOCK_REALTIME: i32 = 0;
const CLOCK_MONOTONIC: i32 = 1;

/// The descriptors of a process and what came to light with them.
#[derive(Default)]
pub(super) struct Fds {
    pub(super) facts: Vec<FdFacts>,
    /// Inodes of files on which a lock is held through some descriptor.
    pub(super) locks: Vec<u64>,
    /// Inodes of memory files, by which another holder is found.
    pub(super) memfds: Vec<u64>,
    /// Files whose names are gone, and what they occupy.
    pub(super) unnamed: Vec<(String, Bytes)>,
    pub(super) unreadable: Vec<String>,
}

/// One `fdinfo` file.
#[derive(Default)]
struct Info {
    flags: Option<u32>,
    mount_id: Option<i32>,
    inode: Option<u64>,
    locks: Vec<u64>,
    /// Clock of a timerfd.
    clock: Option<i32>,
}

impl ProcRoot {
    /// Numbers of the open descriptors. A failed listing is an error.
    pub(super) fn fd_numbers(&self, pid: i32) -> Result<Vec<i32>, ProcError> {
        let path = self.path(&format!("{pid}/fd"));
        let list = |source: std::io::Error| {
            if vanished(&source) { ProcError::Gone { pid } } else { ProcError::List { path: path.clone(), source } }
        };
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(list)? {
            numbers.extend(entry.map_err(list)?.file_name().to_str().and_then(|n| n.parse::<i32>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// All descriptors of a process. `mounts` are the mounts that it sees, where those could be read.
    pub(super) fn fds(&self, pid: i32, mounts: Option<&HashSet<i32>>) -> Fds {
        let mut all = Fds::default();
        let numbers = match self.fd_numbers(pid) {
            Ok(numbers) => numbers,
            Err(e) => {
                all.unreadable.push(format!("descriptors: {e}"));
                return all;
            }
        };
        for fd in numbers {
            if let Err(e) = self.one_fd(pid, fd, mounts, &mut all) {
                all.unreadable.push(format!("fd {fd}: {e}"));
            }
        }
        self.name_sockets(pid, &mut all);
        all
    }

    fn one_fd(&self, pid: i32, fd: i32, mounts: Option<&HashSet<i32>>, all: &mut Fds) -> Result<(), ProcError> {
        let relative = format!("{pid}/fd/{fd}");
        let closed = |e: &ProcError| matches!(e, ProcError::Read { source, .. } if vanished(source));
        let target = match self.link(&relative) {
            Ok(target) => target,
            Err(e) if closed(&e) => return Ok(()),
            Err(e) => return Err(e),
        };
        let info = match self.text(&format!("{pid}/fdinfo/{fd}")) {
            Ok(text) => info(&text),
            Err(e) if closed(&e) => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut kind = self.kind(&relative, &target);
        // CRIU restores timers of these two clocks only.
        if let Some(clock) = info.clock.filter(|clock| ![CLOCK_REALTIME, CLOCK_MONOTONIC].contains(clock)) {
            kind = FdKind::AnonOther { what: format!("[timerfd] of clock {clock}") };
        }
        if let FdKind::File { path, deleted: true } = &kind {
            all.unnamed.extend(self.occupied(&relative).map(|bytes| (path.clone(), bytes)));
        }
        if kind == FdKind::MemFd {
            all.memfds.extend(info.inode);
        }
        // Pipes, sockets and anonymous inodes live on mounts of the kernel's own, which nobody sees.
        let foreign_mount =
            has_a_place(&kind) && info.mount_id.zip(mounts).is_some_and(|(mount, visible)| !visible.contains(&mount));
        all.locks.extend(info.locks);
        all.facts.push(FdFacts { fd, kind, mount_id: info.mount_id, foreign_mount, flags: info.flags });
        Ok(())
    }

    /// What the file behind a link of `/proc` occupies, by the kernel's own knowledge; `None` in a saved tree, which
    /// has no such files, and where it is gone.
    pub(super) fn occupied(&self, relative: &str) -> Option<Bytes> {
        if !self.live {
            return None;
        }
        let stat = statx(CWD, self.path(relative), AtFlags::STATX_DONT_SYNC, StatxFlags::BLOCKS).ok()?;
        // stx_blocks counts units of 512 bytes, whatever the file system's own (statx(2)).
        Some(Bytes(stat.stx_blocks * 512))
    }

    fn kind(&self, relative: &str, target: &str) -> FdKind {
        if let Some(inode) = bracketed(target, "pipe:[") {
            return FdKind::Pipe { inode };
        }
        if bracketed(target, "socket:[").is_some() {
            return FdKind::Unknown { target: target.to_owned() };
        }
        if let Some(what) = target.strip_prefix("anon_inode:") {
            return anonymous(what);
        }
        if target.starts_with("/memfd:") {
            return FdKind::MemFd;
        }
        if !target.starts_with('/') {
            return FdKind::AnonOther { what: target.to_owned() };
        }
        let by_type = if self.live { by_type(&self.path(relative), target) } else { None };
        by_type.unwrap_or_else(|| by_name(target))
    }

    fn name_sockets(&self, pid: i32, all: &mut Fds) {
        let inode_of = |kind: &FdKind| match kind {
            FdKind::Unknown { target } => bracketed(target, "socket:["),
            _ => None,
        };
        let inodes: HashSet<u64> = all.facts.iter().filter_map(|f| inode_of(&f.kind)).collect();
        if inodes.is_empty() {
            return;
        }
        let mut found = sockets::resolve(self, pid, &inodes);
        // One that was closed before the tables were read is in none of them, and in nobody's way.
        let is_open = |fd: i32, inode: u64| {
            self.link(&format!("{pid}/fd/{fd}")).is_ok_and(|target| bracketed(&target, "socket:[") == Some(inode))
        };
        let listed = |inode: u64| found.kinds.contains_key(&inode);
        all.facts.retain(|fact| inode_of(&fact.kind).is_none_or(|inode| listed(inode) || is_open(fact.fd, inode)));
        for fact in &mut all.facts {
            if let Some(inode) = inode_of(&fact.kind) {
                let unlisted = || FdKind::OtherSocket {
                    what: format!("socket:[{inode}], in no table: unbound, or of a rare kind"),
                };
                fact.kind = found.kinds.get(&inode).cloned().unwrap_or_else(unlisted);
            }
        }
        all.unreadable.append(&mut found.unreadable);
    }
}

/// `pipe:[123]` → 123.
pub(super) fn bracketed(target: &str, prefix: &str) -> Option<u64> {
    target.strip_prefix(prefix)?.strip_suffix(']')?.parse().ok()
}

fn has_a_place(kind: &FdKind) -> bool {
    use FdKind::{Device, Fifo, File, HarmlessDevice, Tty};
    matches!(kind, File { .. } | HarmlessDevice { .. } | Tty { .. } | Device { .. } | Fifo { .. })
}

fn anonymous(what: &str) -> FdKind {
    match what {
        "[io_uring]" => FdKind::IoUring,
        _ if SAVEABLE.contains(&what) => FdKind::AnonSaveable { what: what.to_owned() },
        _ => FdKind::AnonOther { what: what.to_owned() },
    }
}

fn file(target: &str) -> FdKind {
    match target.strip_suffix(" (deleted)") {
        Some(path) => FdKind::File { path: path.to_owned(), deleted: true },
        None => FdKind::File { path: target.to_owned(), deleted: false },
    }
}

/// By what the kernel says of the open file, without asking a file server again (a hung one would hang us).
fn by_type(link: &std::path::Path, target: &str) -> Option<FdKind> {
    let stat = statx(CWD, link, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE).ok()?;
    let path = target.to_owned();
    Some(match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
        FileType::Fifo => FdKind::Fifo { path },
        FileType::BlockDevice => FdKind::Device { path },
        FileType::CharacterDevice => match stat.stx_rdev_major {
            MEM_MAJOR if HARMLESS.contains(&target) => FdKind::HarmlessDevice { path },
            major if TTY_MAJORS.contains(&major) || PTS_MAJORS.contains(&major) => FdKind::Tty { path },
            _ => by_name(target),
        },
        FileType::RegularFile | FileType::Directory | FileType::Symlink => file(target),
        _ => FdKind::Unknown { target: path },
    })
}

/// By the name alone, as in a saved tree.
fn by_name(target: &str) -> FdKind {
    let path = target.to_owned();
    match target.strip_prefix("/dev/") {
        _ if HARMLESS.contains(&target) => FdKind::HarmlessDevice { path },
        Some(name) if TTY_NAMES.iter().any(|t| name.starts_with(t)) => FdKind::Tty { path },
        Some(name) if !name.starts_with("shm/") && !name.starts_with("mqueue/") => FdKind::Device { path },
        _ => file(target),
    }
}

fn info(text: &str) -> Info {
    let mut info = Info::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match key {
            "flags" => info.flags = u32::from_str_radix(value, 8).ok(),
            "mnt_id" => info.mount_id = value.parse().ok(),
            "ino" => info.inode = value.parse().ok(),
            "clockid" => info.clock = value.parse().ok(),
            "lock" => info.locks.extend(locked_inode(value)),
            _ => {}
        }
    }
    info
}

/// `1: FLOCK  ADVISORY  WRITE 4711 fe:00:123 0 EOF` → 123. A waiting request (`->`) holds nothing.
fn locked_inode(line: &str) -> Option<u64> {
    if line.contains("->") {
        return None;
    }
    line.split_ascii_whitespace().find(|w| w.matches(':').count() == 2)?.rsplit(':').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_is_closed_meanwhile_is_none() {
        let stop = std::sync::atomic::AtomicBool::new(false);
        let own = std::process::id() as i32;
        let odd = std::thread::scope(|threads| {
            threads.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    drop(std::os::unix::net::UnixStream::pair());
                }
            });
            let look = |_| ProcRoot::new("/proc").fds(own, None).facts;
            let odd = (0..300).flat_map(look).find(|fact| matches!(fact.kind, FdKind::OtherSocket { .. }));
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            odd
        });
        assert_eq!(odd, None);
    }

    #[test]
    fn names_tell_the_kind_where_nothing_else_does() {
        let kind = |target: &str| ProcRoot::saved("/nonexistent").kind("1/fd/0", target);
        assert!(matches!(kind("/dev/null"), FdKind::HarmlessDevice { .. }));
        assert!(matches!(kind("/dev/pts/3"), FdKind::Tty { .. }));
        assert!(matches!(kind("/dev/nvidia0"), FdKind::Device { .. }));
        assert!(matches!(kind("/dev/shm/x"), FdKind::File { deleted: false, .. }));
        assert_eq!(kind("/tmp/a (deleted)"), FdKind::File { path: "/tmp/a".into(), deleted: true });
        assert_eq!(kind("pipe:[12]"), FdKind::Pipe { inode: 12 });
        assert_eq!(kind("anon_inode:[io_uring]"), FdKind::IoUring);
        assert!(matches!(kind("anon_inode:[eventpoll]"), FdKind::AnonSaveable { .. }));
        assert!(matches!(kind("anon_inode:[perf_event]"), FdKind::AnonOther { .. }));
        assert!(matches!(kind("mnt:[4026531832]"), FdKind::AnonOther { .. }));
        assert_eq!(kind("/memfd:x (deleted)"), FdKind::MemFd);
    }

    #[test]
    fn fdinfo_gives_flags_mount_inode_and_locks() {
        let text = "pos:\t0\nflags:\t0140001\nmnt_id:\t24\nino:\t3\nlock:\t1: OFDLCK ADVISORY  WRITE -1 fe:00:131 0 EOF\nlock:\t2: -> POSIX ADVISORY WRITE 7 fe:00:132 0 EOF\n";
        let info = info(text);
        assert_eq!(
            (info.flags, info.mount_id, info.inode, info.locks),
            (Some(0o140_001), Some(24), Some(3), vec![131])
        );
    }
}
