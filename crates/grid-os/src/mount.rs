//! A FUSE mount that becomes the root of a mount namespace.
//!
//! Owns the mounts. Who answers the kernel, and what, is the caller's.

use crate::access;
use crate::spawn::Owner;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What of the file system stays this machine's own.
const ITS_OWN: [&str; 3] = ["proc", "dev", "sys"];

/// Mounts what answers on `device` there. The owner's rights are asked for of who answers, so everybody is let through.
///
/// # Errors
/// The kernel's.
pub fn fuse(device: &File, at: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let options = format!("fd={},rootmode=40000,user_id={uid},group_id={gid},allow_other", device.as_raw_fd());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("grid-home"), at, Some("fuse.grid"), flags, Some(options.as_str()))
        .map_err(|e| io::Error::other(format!("the mount at {}: {}", at.display(), e.desc())))
}

/// The kernel asks for so much ahead of who reads one part after the other. Asks nobody who answers.
///
/// # Errors
/// The kernel's.
pub fn read_ahead(at: &Path, kib: u32) -> io::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let device = device_of(&mounts, at).ok_or(io::ErrorKind::NotFound)?;
    std::fs::write(format!("/sys/class/bdi/{device}/read_ahead_kb"), kib.to_string())
}

/// Number of the device that is mounted there last, as `MAJOR:MINOR`.
fn device_of<'a>(mounts: &'a str, at: &Path) -> Option<&'a str> {
    let fields = mounts.lines().rev().map(|line| line.split(' '));
    fields.into_iter().find_map(|mut fields| {
        let device = fields.nth(2)?;
        (Path::new(fields.nth(1)?) == at).then_some(device)
    })
}

/// Holds these folders as this user, who gets to them by himself: which they are is another machine's word, which opens
/// nobody's doors here.
///
/// # Errors
/// Which one, and why.
pub fn reach(owner: Owner, groups: &[u32], paths: &[PathBuf]) -> io::Result<Vec<(PathBuf, OwnedFd)>> {
    let root = hold_folder("/")?;
    let held = |path: &PathBuf| {
        let folder = access::find(root.as_fd(), &path.to_string_lossy())?;
        access::allowed(folder.as_fd(), access::EXECUTE).map(|()| folder)
    };
    let reach = |path: &PathBuf| match held(path) {
        Ok(folder) => Ok((path.clone(), folder)),
        Err(e) => Err(io::Error::new(io::Error::from(e).kind(), format!("{}: {}", path.display(), e.desc()))),
    };
    access::as_owner(owner, groups, || paths.iter().map(reach).collect()).flatten()
}

/// Makes the mount at `at` the root of this mount namespace, with this machine's own `/proc`, `/dev` and `/sys` on it and
/// of the rest these folders of this machine's, which are held, each at its path. Asks who answers for the mount.
///
/// # Errors
/// Which step failed.
pub fn become_root(at: &Path, own: &[(PathBuf, OwnedFd)]) -> io::Result<()> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |e: nix::errno::Errno| io::Error::new(io::Error::from(e).kind(), format!("{what}: {}", e.desc()))
    };
    let none: Option<&str> = None;
    let mut own: Vec<(&Path, PathBuf)> =
        own.iter().map(|(path, held)| (path.as_path(), format!("/proc/self/fd/{}", held.as_raw_fd()).into())).collect();
    // What lies in another one of them is mounted after that.
    own.sort_unstable();
    for (path, from) in ITS_OWN.map(|dir| (Path::new(dir), Path::new("/").join(dir))).into_iter().chain(own) {
        let below = path.strip_prefix("/").unwrap_or(path);
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(&from), &at.join(below), none, flags, none)
            .map_err(failed(&format!("this machine's /{} on the head's files", below.display())))?;
    }
    nix::unistd::chdir(at).map_err(failed("going there"))?;
    nix::unistd::pivot_root(".", ".").map_err(failed("pivot_root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(failed("leaving this machine's files"))?;
    nix::unistd::chdir("/").map_err(failed("going to the root"))
}

/// Holds a folder, for [`read_below`].
///
/// # Errors
/// It is not there.
pub fn hold_folder(path: &str) -> io::Result<OwnedFd> {
    Ok(nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// Reads a file below a folder that is held, whatever is mounted above it.
///
/// # Errors
/// It cannot be read.
pub fn read_below(folder: &OwnedFd, path: &str) -> io::Result<String> {
    let mut text = String::new();
    File::from(openat(folder, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_s_device_is_found_by_where_it_is() {
        let mounts =
            "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:40 / /a rw - fuse x rw\n31 30 0:41 / /a rw - fuse x rw\n";
        assert_eq!(device_of(mounts, Path::new("/a")), Some("0:41"));
        assert_eq!(device_of(mounts, Path::new("/")), Some("8:1"));
        assert_eq!(device_of(mounts, Path::new("/b")), None);
    }
}
