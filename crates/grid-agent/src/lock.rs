//! One agent a node, and none while `grid rescue` decides in its place: a lock that the kernel gives back when its holder
//! ends, however it ends.

use crate::AgentError;
use grid_types::NodeName;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A rescue takes seconds at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// Held for as long as this lives.
#[derive(Debug)]
pub(crate) struct AgentLock {
    _file: Option<Flock<File>>,
}

fn file_of(dir: &Path) -> PathBuf {
    dir.join("agent.lock")
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(create).truncate(false).mode(0o600).open(path)
}

/// Takes the lock of the node with this directory; none where somebody has it. Without `create` a node that never had an
/// agent is left as it is.
pub(crate) fn try_take(dir: &Path, create: bool) -> io::Result<Option<AgentLock>> {
    let file = match open(&file_of(dir), create) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound && !create => return Ok(Some(AgentLock { _file: None })),
        Err(e) => return Err(e),
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(held) => Ok(Some(AgentLock { _file: Some(held) })),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, e)) => Err(e.into()),
    }
}

/// An agent's own way: waits for a rescue, or for the end of the agent before it.
pub(crate) fn take(dir: &Path) -> Result<AgentLock, AgentError> {
    let path = file_of(dir);
    let failed = |source| AgentError::Io { action: "lock", path: path.clone(), source };
    let begun = Instant::now();
    loop {
        match try_take(dir, true).map_err(failed)? {
            Some(lock) => return Ok(lock),
            None if begun.elapsed() > PATIENCE => {
                return Err(failed(io::Error::other("another agent of this node runs, or grid rescue does")));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// An agent with this folder runs.
///
/// # Errors
/// Only root may look.
pub fn runs(dir: &Path) -> io::Result<bool> {
    Ok(try_take(dir, false)?.is_none())
}

/// Nodes of this state whose agents run.
///
/// # Errors
/// Only root may look.
pub fn running(state: &Path) -> io::Result<Vec<NodeName>> {
    let mut nodes = Vec::new();
    for entry in std::fs::read_dir(state.join("nodes"))? {
        let entry = entry?;
        if entry.path().is_dir() && runs(&entry.path())? {
            nodes.push(NodeName::new(entry.file_name().to_string_lossy()));
        }
    }
    nodes.sort();
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_looking_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("nodes/gpu1");
        std::fs::create_dir_all(&node).unwrap();
        assert_eq!(running(dir.path()).unwrap(), []);
        assert!(!file_of(&node).exists());
        let held = take(&node).unwrap();
        assert!(try_take(&node, true).unwrap().is_none());
        assert_eq!(running(dir.path()).unwrap(), [NodeName::from("gpu1")]);
        drop(held);
        assert!(try_take(&node, false).unwrap().is_some());
    }
}
