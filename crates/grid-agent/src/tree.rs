//! A moved tree's own namespaces and control group, from their making to their removal.

use crate::agent::{Agent, BOUNDED, Input};
use crate::home::shown;
use crate::streams::Ends;
use grid_os::cgroup::{Controller, Group};
use grid_os::pidfd::PidFd;
pub(crate) use grid_os::proc::{has_ended, start_ticks};
use grid_os::spawn::{Owner, Place, spawn};
use grid_os::tree_init::TreeDir;
use grid_types::wire::Stage;
use grid_types::{AttemptId, LeaseId};
use nix::libc;
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The namespaces of a tree's own.
pub(crate) const TREE_NAMESPACES: i32 = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC;

/// Pid 1 of a tree, found again after a restart by number and start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InitProcess {
    pub(crate) pid: i32,
    pub(crate) start_ticks: u64,
}

impl InitProcess {
    /// A descriptor for it, where it still lives.
    pub(crate) fn open(self) -> Option<PidFd> {
        let fd = PidFd::open(self.pid).ok()?;
        (start_ticks(self.pid) == Some(self.start_ticks)).then_some(fd)
    }
}

/// Whose tree it is.
pub(crate) fn owner_of(stage: &Stage) -> Owner {
    Owner { uid: stage.uid, gid: stage.gid }
}

/// What a process runs.
pub(crate) fn executable(pid: i32) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// Its threads.
pub(crate) fn threads(pid: i32) -> u32 {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, |tasks| tasks.count() as u32)
}

/// Where everything of one staged tree is.
#[derive(Clone, Debug)]
pub(crate) struct TreePlace {
    /// Directory with its `root` and `exit` files.
    pub(crate) dir: TreeDir,
    /// CRIU's images while it is staged.
    pub(crate) images: PathBuf,
    /// The tree's own group: what is frozen and thawed.
    pub(crate) group: Group,
    /// The group where its pid 1 lives, beside it: a frozen tree has a pid 1 that runs. (A group of its own, because on
    /// v2 a group with children holds no processes.)
    pub(crate) init_group: Group,
    /// CRIU's group for this attempt.
    pub(crate) criu: Group,
}

impl Agent {
    /// The places of an attempt's tree here; nothing is made.
    pub(crate) fn tree_place(&self, attempt: &AttemptId, lease: Option<&LeaseId>) -> TreePlace {
        let around = match lease {
            Some(lease) => self.group(lease.as_str(), &BOUNDED),
            None => self.group("home", &[Controller::Freezer, Controller::Kill]),
        };
        let dir = self.cfg.run_dir.join(format!("tree-{attempt}"));
        TreePlace {
            images: dir.join("images"),
            dir: TreeDir(dir),
            group: around.child(attempt.as_str()),
            init_group: around.child("init"),
            criu: self.group(&format!("criu/{attempt}"), &[Controller::Freezer]),
        }
    }

    /// Turns the end of a tree's pid 1 into an input.
    pub(crate) fn watch_init(&self, attempt: &AttemptId, init: InitProcess) {
        let (inputs, attempt) = (self.inputs.clone(), attempt.clone());
        tokio::spawn(async move {
            if let Some(fd) = init.open() {
                let _ = grid_os::wait::readable(fd.into()).await;
            }
            let _ = inputs.send(Input::InitEnded { attempt });
        });
    }
}

impl Agent {
    /// Turns the end of a tree's root into an input.
    pub(crate) fn watch_root(&self, attempt: &AttemptId, pid: i32) {
        let (inputs, attempt) = (self.inputs.clone(), attempt.clone());
        let Ok(fd) = PidFd::open(pid) else { return };
        tokio::spawn(async move {
            let _ = grid_os::wait::readable(fd.into()).await;
            let _ = inputs.send(Input::RootEnded { attempt, patience: 200 });
        });
    }
}

impl TreePlace {
    /// Makes the directories and groups and starts pid 1. A guest's mounts make nobody another user. It ends by itself where
    /// the lifeline is dropped, or this agent dies, before the root's file is written.
    pub(crate) fn make(
        &self,
        program: &Path,
        stage: &Stage,
        ends: Option<&Ends>,
    ) -> io::Result<(InitProcess, OwnedFd)> {
        let at_dir = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", self.dir.0.display()));
        std::fs::create_dir_all(&self.images).map_err(at_dir)?;
        // CRIU, which runs as the tree's owner, is put into the images; no other of that owner's comes to them.
        std::fs::set_permissions(&self.dir.0, std::fs::Permissions::from_mode(0o700)).map_err(at_dir)?;
        self.init_group.create().map_err(io::Error::other)?;
        self.group.create().map_err(io::Error::other)?;
        self.criu.create().map_err(io::Error::other)?;
        let (rx, tx) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let (watched, lifeline) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let dir = self.dir.0.to_string_lossy().into_owned();
        let mut argv = vec![program.to_string_lossy().into_owned(), "tree-init".to_owned(), dir];
        argv.extend(stage.lease.is_some().then(|| "--guest".to_owned()));
        argv.push(format!("--highest={}", stage.highest_pid));
        // Over the head's files it is the pump's to mount.
        let private_tmp = stage.private_tmp && !shown(stage);
        argv.extend(private_tmp.then(|| format!("--private-tmp={}:{}", stage.uid, stage.gid)));
        let mut inherit = vec![(tx.as_fd(), 3), (watched.as_fd(), 4)];
        inherit.extend(ends.iter().flat_map(|ends| ends.inherited()));
        let place = Place {
            cgroup_procs: self.init_group.procs_files(),
            unshare: TREE_NAMESPACES,
            new_session: true,
            inherit,
            ..Place::default()
        };
        let pid = spawn(&argv, &[], &place)?.pid;
        drop(tx);
        let mut ready = [0u8; 1];
        std::fs::File::from(rx).read_exact(&mut ready)?;
        let start_ticks = start_ticks(pid).ok_or_else(|| io::Error::other("the tree's pid 1 ended at once"))?;
        Ok((InitProcess { pid, start_ticks }, lifeline))
    }

    /// Ends everything of the tree and removes what was made for it.
    pub(crate) fn destroy(&self, init: Option<InitProcess>) -> Result<(), String> {
        self.group.kill(Duration::from_secs(5)).map_err(|e| e.to_string())?;
        if let Some(fd) = init.and_then(InitProcess::open) {
            let _ = fd.signal(libc::SIGKILL);
            wait_gone(&fd);
        }
        self.sweep()
    }

    /// Something of it is there.
    pub(crate) fn is_there(&self) -> bool {
        self.group.exists() || self.criu.exists() || self.dir.0.exists()
    }

    /// Removes the empty groups and the files.
    pub(crate) fn sweep(&self) -> Result<(), String> {
        let removed = self.group.remove().and_then(|()| self.criu.remove()).map_err(|e| e.to_string());
        let _ = std::fs::remove_dir_all(&self.dir.0);
        removed
    }

    /// Drops the images once the tree is restored: they are in memory (a tmpfs) and no longer needed.
    pub(crate) fn drop_images(&self) {
        let _ = std::fs::remove_dir_all(&self.images);
    }
}

/// Waits until the process of this descriptor has ended, at most five seconds.
pub(crate) fn wait_gone(fd: &PidFd) {
    let mut fds = [nix::poll::PollFd::new(fd.as_fd(), nix::poll::PollFlags::POLLIN)];
    let _ = nix::poll::poll(&mut fds, 5000u16);
}
