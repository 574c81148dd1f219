//! What the pump answers by itself: home is asked less, and all is as if it were.

use super::watch::Looker;
use super::{Lab, lab};
use grid_home::fuse::{FLUSH, GETXATTR};
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

/// `struct vfs_cap_data`: one capability, permitted.
const GIVE: &str =
    "import os,struct,sys; os.setxattr(sys.argv[1], 'security.capability', struct.pack('<5I', 2<<24, 1<<10, 0, 0, 0))";
const LOCK: &str = "import fcntl,sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)";
const HAS_CAPABILITIES: &str = "has_capabilities()";

impl Lab {
    fn asked(&self, operation: u32) -> usize {
        self.crossed.all.lock().unwrap().get(&operation).copied().unwrap_or(0)
    }

    /// Does something with the file at home.
    fn with_file(&self, script: &str) -> bool {
        let path = self.dir.path().join("data/file");
        Command::new("python3").args(["-c", script]).arg(path).output().unwrap().status.success()
    }
}

/// None where home's file system may say something to who closes a file.
fn quiet() -> Option<Lab> {
    let lab = lab()?;
    let is = grid_os::watched::Folder::open(lab.dir.path()).is_ok_and(|folder| folder.closes_quietly());
    if !is {
        println!("SKIPPED: needs a temporary folder on a file system of a disk or of memory");
    }
    is.then_some(lab)
}

#[test]
fn files_are_made_and_written_without_asking_how_they_are_closed_and_what_capabilities_they_have() {
    let Some(lab) = quiet() else { return };
    let mut looker = Looker::start(&lab);
    looker.sees("fill('first', 'w', 3)");
    let before = (lab.asked(FLUSH), lab.asked(GETXATTR));
    looker.sees("[fill(f'new{n}', 'w', 3) for n in range(50)]");
    looker.sees("[fill(f'new{n}', 'a', 3) for n in range(50)]");
    assert_eq!((lab.asked(FLUSH), lab.asked(GETXATTR)), before);
    assert_eq!((lab.data("new0").len(), lab.data("new49").len()), (6, 6));
}

#[test]
fn who_closes_a_file_lets_go_of_locks_by_whichever_descriptor_they_were_taken() {
    let Some(lab) = quiet() else { return };
    let mut looker = Looker::start(&lab);
    for _ in 0..2 {
        looker.sees("__import__('fcntl').lockf(file, 2)");
        assert!(!lab.with_file(LOCK));
        let before = lab.asked(FLUSH);
        looker.sees("os.close(os.open('file', os.O_RDWR))");
        assert_eq!(lab.asked(FLUSH), before + 1);
        assert!(lab.with_file(LOCK));
    }
}

#[test]
fn capabilities_that_home_gives_an_open_file_are_seen() {
    let Some(lab) = quiet() else { return };
    let mut looker = Looker::start(&lab);
    assert_eq!(looker.sees(HAS_CAPABILITIES), "False");
    if !lab.with_file(GIVE) {
        println!("SKIPPED: no capabilities of files here");
        return;
    }
    looker.soon_sees(HAS_CAPABILITIES, "True");
}

#[test]
fn who_writes_takes_set_id_bits_off() {
    let Some(lab) = lab() else { return };
    let mut looker = Looker::start(&lab);
    let path = lab.dir.path().join("data/file");
    for _ in 0..2 {
        std::fs::set_permissions(&path, Permissions::from_mode(0o4755)).unwrap();
        looker.soon_sees("os.stat('file').st_mode & 0o7777", "2541");
        looker.sees("os.write(file, b'x')");
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o755);
        assert_eq!(looker.sees("os.stat('file').st_mode & 0o7777"), "493");
    }
}
