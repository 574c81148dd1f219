//! Folders that two machines are said to share: proven by a file that one writes and the other reads, before anything is
//! frozen. What people believe of mounts is often so, and a wrong one would show a process somebody else's file.

use crate::tree::owner_of;
use grid_os::access::as_owner;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::{ProbeFile, Stage};
use grid_types::{AttemptId, NodeName};
use nix::libc;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What is written is 37 bytes.
const LONGEST: u64 = 64;

/// A file of an attempt's in a shared folder. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Probe(PathBuf);

impl Drop for Probe {
    fn drop(&mut self) {
        forget(&self.0);
    }
}

/// Where the folder is gone, or is another's now, nothing is left to be removed.
pub(crate) fn forget(path: &Path) {
    let _ = std::fs::remove_file(path);
}

/// Writes one into each folder that the tree of this stage is to find there, and notes them in it. On a lender (`guest`) as
/// nobody but the tree's owner: which folders is the head's word.
pub(crate) fn lay(attempt: &AttemptId, stage: &mut Stage, guest: bool) -> Result<Vec<Probe>, Reason> {
    let mut laid = Vec::new();
    for folder in &stage.own_paths.shared {
        let content = std::fs::read_to_string("/proc/sys/kernel/random/uuid");
        let path = Path::new(folder).join(format!(".grid-probe-{attempt}"));
        let made = content.and_then(|content| write(&path, &content, stage, guest).map(|()| content));
        let content = made.map_err(|e| {
            let what = format!("{folder} is to be shared, which could not be proven: {}: {e}", path.display());
            Reason::new(ReasonCode::File, what)
        })?;
        stage.probes.push(ProbeFile { path: path.to_string_lossy().into_owned(), content });
        laid.push(Probe(path));
    }
    Ok(laid)
}

/// As the tree's owner, whom a server of files knows; else as who the agent is, in a folder that is not the owner's to write.
fn write(path: &Path, content: &str, stage: &Stage, guest: bool) -> io::Result<()> {
    let new = || -> io::Result<()> {
        // What an attempt before this one's agent left, with the same number, is not believed.
        let mut file = File::options().write(true).create_new(true).mode(0o644).open(path)?;
        file.write_all(content.as_bytes())?;
        // Another machine asks the server, not this one's memory.
        file.sync_all()
    };
    let owner = owner_of(stage);
    match as_owner(owner, &stage.groups, new).flatten() {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied && !guest => new(),
        other => other,
    }
}

/// Each folder that is said to be shared with the sender is.
pub(crate) fn shares(node: &NodeName, stage: &Stage) -> Result<(), Reason> {
    let owner = owner_of(stage);
    for probe in &stage.probes {
        let seen = as_owner(owner, &stage.groups, || read(Path::new(&probe.path))).flatten();
        if !seen.is_ok_and(|seen| seen == probe.content.as_bytes()) {
            let folder = Path::new(&probe.path).parent().unwrap_or(Path::new("/"));
            let what = format!(
                "{node}: {} is another folder here (execution.shared_paths says that it is shared)",
                folder.display()
            );
            return Err(Reason::new(ReasonCode::File, what));
        }
    }
    Ok(())
}

/// Where it is, and what, is the sender's word: a plain file, and no more of it than a probe is long.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file =
        File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut content = Vec::new();
    file.take(LONGEST).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_there_until_it_is_dropped_and_is_not_written_over_another() {
        let dir = tempfile::tempdir().unwrap();
        let own = nix::unistd::geteuid().as_raw();
        let mut stage = crate::gate::tests::stage(own, nix::unistd::getegid().as_raw(), &[]);
        stage.own_paths.shared = vec![dir.path().display().to_string()];
        let attempt = AttemptId::new("o-1.1");
        if own != 0 {
            // Only root takes another's identity.
            return println!("SKIPPED: this is not root");
        }
        let laid = lay(&attempt, &mut stage, false).unwrap();
        let [probe] = stage.probes.as_slice() else { panic!("{:?}", stage.probes) };
        assert_eq!(std::fs::read_to_string(&probe.path).unwrap(), probe.content);
        let again = lay(&attempt, &mut stage.clone(), false).unwrap_err();
        assert!(again.detail.contains("could not be proven"), "{again:?}");
        let node = NodeName::from("n");
        assert_eq!(shares(&node, &stage), Ok(()));
        let mut other = stage.clone();
        for (path, content) in [("/dev/zero", "\0".repeat(LONGEST as usize)), ("/dev/null", String::new())] {
            other.probes = vec![ProbeFile { path: path.into(), content }];
            assert_eq!(shares(&node, &other).unwrap_err().code, ReasonCode::File, "{path}");
        }
        drop(laid);
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
        stage.own_paths.shared = vec!["/nonexistent/folder".into()];
        assert_eq!(lay(&attempt, &mut stage, true).unwrap_err().code, ReasonCode::File);
    }
}
