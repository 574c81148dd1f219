//! The content of a tree's own `/tmp` crosses whole, and a forged one does no more than its owner may.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_os::pidfd::PidFd;
use grid_os::private_tmp::{Carrier, used};
use grid_os::spawn::Owner;
use grid_types::Bytes;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};

const OWNER: Owner = Owner { uid: 65534, gid: 65534 };

/// A process in a mount namespace with such folders.
struct Place(Child);

impl Place {
    /// None where this is not root.
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: mounting takes root");
            return None;
        }
        let script = "for d in /tmp /dev/shm; do mount -t tmpfs -o mode=1777,uid=65534,gid=65534 x $d; done; echo; exec sleep 1000";
        let mut child =
            Command::new("unshare").args(["-m", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        Some(Self(child))
    }

    fn carry<T>(&self, act: impl FnOnce(&Carrier<'_>) -> T) -> T {
        let process = PidFd::open(self.0.id() as i32).unwrap();
        act(&Carrier { within: process.as_fd(), owner: OWNER, cgroup_procs: Vec::new() })
    }

    fn path(&self, path: &str) -> String {
        format!("/proc/{}/root{path}", self.0.id())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_is_there_crosses_whole() {
    let (Some(from), Some(to)) = (Place::new(), Place::new()) else { return };
    let content: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(from.path("/dev/shm/large"), &content).unwrap();
    fs::create_dir(from.path("/tmp/a folder")).unwrap();
    fs::write(from.path("/tmp/a folder/a\nfile"), "x").unwrap();
    std::os::unix::fs::chown(from.path("/tmp/a folder"), Some(OWNER.uid), Some(OWNER.gid)).unwrap();
    let mut archive = Vec::new();
    from.carry(|carrier| carrier.send(&mut archive)).unwrap();
    to.carry(|carrier| carrier.receive(&mut archive.as_slice(), Bytes(64 << 20))).unwrap();
    assert!(fs::read(to.path("/dev/shm/large")).unwrap() == content);
    assert_eq!(fs::read_to_string(to.path("/tmp/a folder/a\nfile")).unwrap(), "x");
    assert!(used(to.0.id() as i32).unwrap().0 >= content.len() as u64);
    let error = to.carry(|carrier| carrier.receive(&mut archive.as_slice(), Bytes(1 << 20))).unwrap_err();
    assert!(error.to_string().contains("admitted"), "{error}");
    let cut = to.carry(|carrier| carrier.receive(&mut &archive[..archive.len() - 4], Bytes(64 << 20))).unwrap_err();
    assert_eq!(cut.kind(), std::io::ErrorKind::UnexpectedEof, "{cut}");
}

#[test]
fn a_forged_archive_does_what_its_owner_may_and_no_more() {
    let Some(place) = Place::new() else { return };
    let forge = r"
import io, sys, tarfile
with tarfile.open(fileobj=sys.stdout.buffer, mode='w|') as tar:
    def add(name, **more):
        info = tarfile.TarInfo(name)
        info.size, info.mode = 1, 0o4755
        for key, value in more.items(): setattr(info, key, value)
        tar.addfile(info, io.BytesIO(b'x'))
    add('tmp/root')
    add('../etc/grid-forged')
    add('/etc/grid-forged')
";
    let archive = Command::new("/usr/bin/python3").args(["-c", forge]).output().unwrap().stdout;
    let mut pieces = Vec::new();
    pieces.write_all(&(archive.len() as u32).to_le_bytes()).unwrap();
    pieces.write_all(&archive).unwrap();
    pieces.write_all(&[0; 4]).unwrap();
    let error = place.carry(|carrier| carrier.receive(&mut pieces.as_slice(), Bytes(1 << 20))).unwrap_err();
    assert!(error.to_string().contains("grid-forged"), "{error}");
    assert_eq!(fs::metadata(place.path("/tmp/root")).unwrap().uid(), OWNER.uid, "not root's");
    assert!(!fs::exists("/etc/grid-forged").unwrap());
}
