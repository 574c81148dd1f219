//! At home: one server for each attempt that took a tree away which sees home's files. It is the owner's process, in a
//! control group of this agent's by which it is found again, and outlives agents and connections.
//!
//! A server is begun once for each attempt. It ends when the node there says that the tree is not there any more.

use crate::agent::Agent;
use crate::link::tracing_line;
use grid_home::control::{CONTROL_FD, hand_to};
use grid_os::cgroup::{Controller, Group};
use grid_os::packets;
use grid_os::spawn::{Place, spawn};
use grid_types::wire::{Body, FilesWord, Party, Stage};
use grid_types::{AttemptId, NodeName};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A connection from beside a tree that is away.
pub(crate) struct FilesLink {
    pub(crate) attempt: AttemptId,
    pub(crate) from: NodeName,
    pub(crate) end: OwnedFd,
}

/// Where a server is.
struct Server {
    /// Kept until the cluster is down: no second one is begun for the attempt.
    once: PathBuf,
    group: Group,
}

impl Server {
    /// Gone where it is to end.
    fn live(&self) -> PathBuf {
        self.once.join("live")
    }
    fn control(&self) -> PathBuf {
        self.live().join("control.sock")
    }
    /// Where the tree is.
    fn node(&self) -> PathBuf {
        self.live().join("node")
    }

    fn runs(&self) -> bool {
        !self.group.pids().is_empty()
    }

    fn start(&self, program: &Path, attempt: &AttemptId, node: &NodeName, owner: &Stage) -> io::Result<()> {
        std::fs::create_dir_all(self.live())?;
        std::fs::write(self.node(), node.as_str())?;
        self.group.create().map_err(io::Error::other)?;
        let door = packets::listen(&self.control(), 0o600)?;
        let mut argv = vec![
            program.to_string_lossy().into_owned(),
            "home-serve".to_owned(),
            self.live().to_string_lossy().into_owned(),
            attempt.to_string(),
            owner.uid.to_string(),
            owner.gid.to_string(),
        ];
        let groups: Vec<String> = owner.groups.iter().map(u32::to_string).collect();
        argv.extend((!groups.is_empty()).then(|| format!("--groups={}", groups.join(","))));
        let place = Place {
            cgroup_procs: self.group.procs_files(),
            new_session: true,
            inherit: vec![(door.as_fd(), CONTROL_FD)],
            ..Place::default()
        };
        let started = spawn(&argv, &[], &place)?;
        std::thread::spawn(move || started.reap());
        Ok(())
    }

    fn end(&self) -> Result<(), String> {
        let _ = std::fs::remove_dir_all(self.live());
        self.group.kill(Duration::from_secs(1)).map_err(|e| e.to_string())?;
        self.group.remove().map_err(|e| e.to_string())
    }
}

impl Agent {
    fn files_dir(&self) -> PathBuf {
        self.cfg.run_dir.join("files")
    }

    fn server(&self, attempt: &AttemptId) -> Server {
        let group = self.group(&format!("files/{attempt}"), &[Controller::Freezer, Controller::Kill]);
        Server { once: self.files_dir().join(attempt.as_str()), group }
    }

    /// From beside a tree that is away, or on its way: the connection goes to its server.
    pub(crate) fn files_link(&mut self, link: FilesLink) {
        let FilesLink { attempt, from, end } = link;
        let server = self.server(&attempt);
        // One that died took what was open with it: who takes its place says so.
        let begun = server.once.exists();
        if begun && !server.live().exists() {
            return tracing_line(&format!("{from} asks for the files of {attempt}, which is over; closed"));
        }
        let Some(owner) = self.files_owner(&attempt, &from, begun) else {
            return tracing_line(&format!("{from} asks for the files of {attempt}, which did not go there; closed"));
        };
        let started = if server.runs() { Ok(()) } else { server.start(&self.cfg.program, &attempt, &from, &owner) };
        match started.and_then(|()| hand_to(&server.control(), &end)) {
            Ok(()) => {}
            // It is a process of the user's. The connection is closed, and the pump dials again for as long as it takes.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                tracing_line(&format!("the files of {attempt}: their server takes no connection; it may be stopped"));
            }
            Err(e) => tracing_line(&format!("the files of {attempt}: {e}")),
        }
    }

    /// The tree that this attempt takes, or took, to that node, where it is to see home's files.
    fn files_owner(&self, attempt: &AttemptId, to: &NodeName, begun: bool) -> Option<Stage> {
        if let Some(passage) = self.passages.get(attempt).filter(|p| p.to == *to) {
            return self.stage_that_left(&passage.offload).filter(|stage| stage.home_files);
        }
        self.source_stage(attempt, to, begun).filter(|stage| stage.home_files)
    }

    /// Each node that has trees which see home's files is asked whether it still has them.
    pub(crate) fn tick_files(&mut self) {
        let Ok(entries) = std::fs::read_dir(self.files_dir()) else { return };
        for entry in entries.flatten() {
            let attempt = AttemptId(entry.file_name().to_string_lossy().into_owned());
            if let Ok(node) = std::fs::read_to_string(self.server(&attempt).node()) {
                self.say(Party::Agent(NodeName(node)), Body::Files { attempt, word: FilesWord::Ask });
            }
        }
    }

    pub(crate) fn heed_files_word(&mut self, from: &NodeName, attempt: AttemptId, word: FilesWord) {
        match word {
            FilesWord::Ask => {
                let here = self.incoming.get(&attempt).is_some_and(|i| !i.record.left && !i.is_lost());
                if !here {
                    self.say(Party::Agent(from.clone()), Body::Files { attempt, word: FilesWord::Gone });
                }
            }
            FilesWord::Gone => {
                let server = self.server(&attempt);
                if std::fs::read_to_string(server.node()).is_ok_and(|node| node == from.as_str()) {
                    server.end().unwrap_or_else(|e| tracing_line(&format!("the files of {attempt}: {e}")));
                }
            }
        }
    }
}
