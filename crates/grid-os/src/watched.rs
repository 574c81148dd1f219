//! Folders in which changes are told by the kernel (fanotify), as any user may (Linux 5.13). Each change comes with who made
//! it only as far as that: this process, or another.
#![allow(unsafe_code)]

use nix::fcntl::AT_FDCWD;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use nix::sys::statfs::fstatfs;
use nix::sys::statvfs::fstatvfs;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// File systems on which every change goes through this kernel. On others (network, FUSE, `/proc`) some make no event.
const TOLD: [u32; 9] = [
    0xef53,      // ext2 to ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0x0102_1994, // tmpfs
    0xf2f5_2010, // F2FS
    0x794c_7630, // overlayfs
    0xca45_1a4e, // bcachefs
    0x2fc1_2fc1, // ZFS
    0x8584_58f6, // ramfs
];
/// The one of them that asks another, which may be of any kind, when a file is closed.
const ASKS_ANOTHER: u32 = 0x794c_7630;
const LARGEST_HANDLE: usize = 128;
/// What fits is read at once.
const ROOM: usize = 64 << 10;

/// By what the kernel names a folder in what it tells: its file system and its handle.
pub type Id = Box<[u8]>;

/// A folder that is watched, or may be.
#[derive(Debug)]
pub struct Folder {
    fd: File,
    id: Id,
}

impl Folder {
    /// Finds the folder, not through a symbolic link.
    ///
    /// # Errors
    /// It is none, or its file system has no handles.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let fd = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let mut id = fstatvfs(&fd)?.filesystem_id().to_ne_bytes().to_vec();
        id.extend(handle(fd.as_fd())?);
        Ok(Self { fd, id: id.into() })
    }

    /// How changes in it name it.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// What it is.
    ///
    /// # Errors
    /// The file system.
    pub fn metadata(&self) -> io::Result<std::fs::Metadata> {
        self.fd.metadata()
    }

    /// Every change in it goes through this kernel.
    fn is_told(&self) -> io::Result<bool> {
        Ok(TOLD.contains(&self.kind()?))
    }

    /// Who closes a file in it hears no error of its file system, which had said so to who wrote.
    pub fn closes_quietly(&self) -> bool {
        self.kind().is_ok_and(|kind| kind != ASKS_ANOTHER && TOLD.contains(&kind))
    }

    fn kind(&self) -> io::Result<u32> {
        Ok(fstatfs(&self.fd)?.filesystem_type().0 as u32)
    }

    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }
}

/// Type and bytes of the handle.
fn handle(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    #[repr(C)]
    struct Handle {
        head: libc::file_handle,
        bytes: [u8; LARGEST_HANDLE],
    }
    let head = libc::file_handle { handle_bytes: LARGEST_HANDLE as u32, handle_type: 0, f_handle: [] };
    let (mut handle, mut mount) = (Handle { head, bytes: [0; LARGEST_HANDLE] }, 0);
    let asked = |handle: &mut Handle, mount: &mut i32, flags| {
        // SAFETY: the handle has room for as many bytes as its head says; the path is an empty string.
        unsafe { libc::name_to_handle_at(fd.as_raw_fd(), c"".as_ptr(), (&raw mut *handle).cast(), mount, flags) }
    };
    // The first where nothing can be opened by handles either (Linux 6.5: overlayfs).
    let found = asked(&mut handle, &mut mount, libc::AT_EMPTY_PATH | libc::AT_HANDLE_FID) == 0
        || asked(&mut handle, &mut mount, libc::AT_EMPTY_PATH) == 0;
    if !found {
        return Err(io::Error::last_os_error());
    }
    let length = (handle.head.handle_bytes as usize).min(LARGEST_HANDLE);
    Ok([&handle.head.handle_type.to_ne_bytes(), &handle.bytes[..length]].concat())
}

/// A change, or several that the kernel told as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The folder.
    pub folder: Id,
    /// The name in it; `.` for the folder itself.
    pub name: Box<[u8]>,
    /// The name leads elsewhere, or nowhere.
    pub is_of_name: bool,
    /// The file has other content, or who could write to it has closed it.
    pub is_of_content: bool,
    /// By this process.
    pub is_own: bool,
}

/// What the kernel tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Something changed.
    Changed(Change),
    /// More than could be kept: it is not known what.
    Lost,
}

/// Watches folders.
#[derive(Debug)]
pub struct Watcher {
    group: Fanotify,
}

const NAMES: MaskFlags =
    MaskFlags::FAN_CREATE.union(MaskFlags::FAN_DELETE).union(MaskFlags::FAN_MOVED_FROM).union(MaskFlags::FAN_MOVED_TO);

/// Closing tells of what was stored through a mapping, which nothing else does.
const MASK: MaskFlags = NAMES
    .union(MaskFlags::FAN_MODIFY)
    .union(MaskFlags::FAN_ATTRIB)
    .union(MaskFlags::FAN_CLOSE_WRITE)
    .union(MaskFlags::FAN_ONDIR)
    .union(MaskFlags::FAN_EVENT_ON_CHILD);

impl Watcher {
    /// One that watches nothing yet.
    ///
    /// # Errors
    /// This kernel does not let this user.
    pub fn new() -> io::Result<Self> {
        let flags = InitFlags::from_bits_retain(libc::FAN_REPORT_DFID_NAME | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK);
        Ok(Self { group: Fanotify::init(flags, EventFFlags::O_RDONLY)? })
    }

    /// From now on changes in the folder are told.
    ///
    /// # Errors
    /// The user may not read it, or watches too many; or its file system does not tell all.
    pub fn watch(&self, folder: &Folder) -> io::Result<()> {
        if !folder.is_told()? {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_ONLYDIR;
        Ok(self.group.mark(flags, MASK, AT_FDCWD, Some(folder.path().as_str()))?)
    }

    /// From now on they are not.
    pub fn unwatch(&self, folder: &Folder) {
        let _ = self.group.mark(MarkFlags::FAN_MARK_REMOVE, MASK, AT_FDCWD, Some(folder.path().as_str()));
    }

    /// What changed since; empty where nothing did. Does not wait.
    ///
    /// # Errors
    /// The kernel.
    pub fn told(&self) -> io::Result<Vec<Told>> {
        let mut room = vec![0; ROOM];
        match nix::unistd::read(&self.group, &mut room) {
            Ok(length) => Ok(read(&room[..length], std::process::id() as i32)),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => Ok(Vec::new()),
            Err(e) => Err(e.into()),
        }
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

/// Records of fanotify(7): a head, then what names the folder: its file system, its handle, and the name.
fn read(mut bytes: &[u8], own: i32) -> Vec<Told> {
    let mut all = Vec::new();
    while let Some(length) = word(bytes, 0).map(|n| n as usize).filter(|n| (24..=bytes.len()).contains(n)) {
        let (record, rest) = bytes.split_at(length);
        bytes = rest;
        // One that is not understood may tell of anything.
        all.push(one(record, own).map_or(Told::Lost, Told::Changed));
    }
    all
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn one(record: &[u8], own: i32) -> Option<Change> {
    let mask = u64::from(word(record, 8)?) | u64::from(word(record, 12)?) << 32;
    let mask = MaskFlags::from_bits_truncate(mask);
    if mask.contains(MaskFlags::FAN_Q_OVERFLOW) {
        return None;
    }
    let head = usize::from(u16::from_ne_bytes(record.get(6..8)?.try_into().ok()?));
    let named = record.get(head..).filter(|named| named.first() == Some(&libc::FAN_EVENT_INFO_TYPE_DFID_NAME))?;
    let length = word(named, 12)? as usize;
    let (system, handle) = (named.get(4..12)?, named.get(16..20 + length)?);
    let name = named.get(20 + length..)?.split(|byte| *byte == 0).next()?;
    Some(Change {
        folder: [system, handle].concat().into(),
        name: name.into(),
        is_of_name: mask.intersects(NAMES),
        is_of_content: mask.intersects(MaskFlags::FAN_MODIFY | MaskFlags::FAN_CLOSE_WRITE),
        is_own: word(record, 20)? as i32 == own,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn changes(watcher: &Watcher) -> Vec<Change> {
        let changed = |told| match told {
            Told::Changed(change) => change,
            Told::Lost => unreachable!("three changes fit"),
        };
        watcher.told().unwrap().into_iter().map(changed).collect()
    }

    #[test]
    fn changes_name_their_folder_and_whether_they_are_this_process_s() {
        let dir = tempfile::tempdir().unwrap();
        let (watcher, folder) = (Watcher::new().unwrap(), Folder::open(dir.path()).unwrap());
        if watcher.watch(&folder).is_err_and(|e| e.kind() == io::ErrorKind::Unsupported) {
            println!("SKIPPED: on this file system not all changes are told");
            return;
        }
        std::fs::write(dir.path().join("own"), "x").unwrap();
        let name = |change: &Change| String::from_utf8(change.name.to_vec()).unwrap();
        let told = changes(&watcher);
        assert!(!told.is_empty() && told.iter().all(|c| c.is_own && name(c) == "own" && c.folder == *folder.id()));
        assert!(told.iter().any(|c| c.is_of_name) && told.iter().any(|c| c.is_of_content));
        let script = "chmod 600 own; mv own other; chmod 755 .";
        assert!(Command::new("sh").current_dir(dir.path()).args(["-c", script]).status().unwrap().success());
        let told = changes(&watcher);
        let seen: Vec<_> = told.iter().map(|c| (name(c), c.is_of_name, c.is_of_content, c.is_own)).collect();
        let others = |name: &str, of_name| (name.to_owned(), of_name, false, false);
        let wanted = [("own", false), ("own", true), ("other", true), (".", false)];
        assert_eq!(seen, wanted.map(|(name, of_name)| others(name, of_name)));
        watcher.unwatch(&folder);
        std::fs::write(dir.path().join("later"), "x").unwrap();
        assert_eq!(watcher.told().unwrap(), []);
    }

    #[test]
    fn where_changes_are_not_told_or_it_is_no_folder_nothing_is_watched() {
        let watcher = Watcher::new().unwrap();
        let proc = Folder::open(Path::new("/proc/self"));
        assert!(proc.and_then(|folder| watcher.watch(&folder)).is_err());
        assert!(Folder::open(Path::new("/proc/self/stat")).is_err());
    }

    #[test]
    fn what_is_not_understood_may_be_anything() {
        let mut record = [0u8; 24];
        record[0] = 24;
        record[6] = 24;
        assert_eq!(read(&record, 1), [Told::Lost]);
        record[8..16].copy_from_slice(&MaskFlags::FAN_Q_OVERFLOW.bits().to_ne_bytes());
        assert_eq!(read(&[record, record].concat(), 1), [Told::Lost, Told::Lost]);
        assert_eq!(read(&record[..23], 1), []);
    }
}
