//! The making of a shadow: at the release of a tree that leaves home, its root becomes the shadow in place.
//!
//! Persist, then act: the record is there before the old program is gone. May be done again after a crash: a root that is
//! the shadow already is left alone, and one that died on the way leaves the tree without a shadow, which is said.

use super::{Record, Shadow, title};
use crate::agent::Agent;
use crate::link::tracing_line;
use crate::source::{Leaving, put_back};
use crate::streams::kind_of;
use grid_os::inplace::{Replacement, can_exec_in_place, end_others, exec_in_place};
use grid_os::terminal;
use grid_shadow::config::{HomeConfig, HomeStream, SHADOW_ENV};
use grid_types::AttemptId;
use grid_types::facts::TreeFacts;
use grid_types::fault::FaultPoint;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::streams::{ShadowTerms, Stream, StreamKind, Terminal};
use std::ffi::CString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Room for titles to come: a node with a longer name.
const ROOM: usize = 120;

impl Agent {
    /// What will stay at home for this tree; none where nothing can and nobody would miss it.
    /// `came_by` is the attempt that brought it here, where one did.
    pub(crate) fn shadow_terms(
        &self,
        attempt: &AttemptId,
        tree: &TreeFacts,
        came_by: Option<&AttemptId>,
    ) -> Result<Option<ShadowTerms>, Reason> {
        let pid = tree.root.stat.id.pid;
        if let Some(incoming) = came_by.and_then(|earlier| self.incoming.get(earlier)) {
            let Some(terms) = &incoming.record.stage.shadow else { return Ok(None) };
            let streams = incoming.record.streams.clone();
            let terminal = terminal_of(pid, &streams)?;
            return Ok(Some(ShadowTerms { generation: terms.generation + 1, streams, terminal, ..terms.clone() }));
        }
        let streams = grid_core::detect::streams(tree);
        let terminal = terminal_of(pid, &streams)?;
        match self.can_leave(pid) {
            Ok(()) => Ok(Some(ShadowTerms { shadow: attempt.clone(), generation: 1, streams, terminal })),
            Err(_) if tree.living_parent.is_none() && streams.is_empty() => Ok(None),
            Err(obstacle) => {
                let detail = format!("nothing can stand in for it at home, where it would be missed: {obstacle}");
                Err(Reason::new(ReasonCode::Parent, detail))
            }
        }
    }

    fn can_leave(&self, pid: i32) -> Result<(), String> {
        self.provide_shadow_program().map_err(|e| format!("{}: {e}", self.shadow_program().display()))?;
        can_exec_in_place(pid, &self.shadow_program()).map_err(|obstacle| obstacle.to_string())
    }

    /// The program that a shadow runs, where everybody can run it.
    fn shadow_program(&self) -> PathBuf {
        if open_to_all(&self.cfg.program) { self.cfg.program.clone() } else { self.cfg.run_dir.join("bin/grid-shadow") }
    }

    /// Makes that program, where this agent's own is closed to others.
    fn provide_shadow_program(&self) -> std::io::Result<()> {
        let program = self.shadow_program();
        if program == self.cfg.program || program.exists() {
            return Ok(());
        }
        let dir = program.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(dir)?;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
        std::fs::copy(&self.cfg.program, program.with_extension("new"))?;
        std::fs::set_permissions(program.with_extension("new"), std::fs::Permissions::from_mode(0o755))?;
        std::fs::rename(program.with_extension("new"), &program)
    }

    /// The frozen root becomes the shadow, and the rest of its tree ends. `false` where there is no shadow: the copy is
    /// still held, and is to be ended.
    pub(crate) fn leave_shadow(&mut self, leaving: &Leaving<'_>) -> bool {
        let Some(terms) = leaving.shadow.filter(|terms| terms.generation == 1) else { return false };
        match self.try_leave(leaving, terms) {
            Ok(()) => true,
            Err(e) => {
                tracing_line(&format!("{} has no shadow: {e}", leaving.title));
                self.shadow_missing(&terms.shadow);
                false
            }
        }
    }

    fn try_leave(&mut self, leaving: &Leaving<'_>, terms: &ShadowTerms) -> Result<(), String> {
        let program = self.shadow_program();
        let record = Record {
            offload: leaving.offload.clone(),
            pid: leaving.root,
            start_ticks: leaving.start_ticks,
            boot_id: self.boot_id.clone(),
            attempt: leaving.attempt.clone(),
            node: leaving.node.clone(),
            generation: terms.generation,
            command: leaving.title.to_owned(),
            listeners: listeners_among(&terms.streams),
            begun: Vec::new(),
            missing: false,
            parked: leaving.parked,
            given_up: false,
        };
        self.ledger.put_shadow(&terms.shadow, &record).map_err(|e| e.to_string())?;
        self.shadows.entry(terms.shadow.clone()).or_insert_with(|| Shadow::new(record));
        if !is_shadow(leaving.root, &program, &terms.shadow) {
            end_others(leaving.root, leaving.hold.pids()).map_err(|e| e.to_string())?;
            self.replace(leaving, terms, &program)?;
        }
        put_back(leaving.hold, Some(leaving.record));
        self.watch_shadow(&terms.shadow);
        Ok(())
    }

    fn replace(&self, leaving: &Leaving<'_>, terms: &ShadowTerms, program: &Path) -> Result<(), String> {
        let streams = home_streams(leaving.root, &terms.streams)?;
        let keep: Vec<i32> = streams.iter().flat_map(|s| s.fds.clone()).collect();
        let title = title(leaving.title, leaving.node, leaving.parked);
        let config = HomeConfig { socket: self.shadow_socket(), shadow: terms.shadow.to_string(), streams };
        let config = serde_json::to_string(&config).map_err(|e| e.to_string())?;
        let text = |s: String| CString::new(s).map_err(|e| e.to_string());
        let argv = [text(format!("{title:ROOM$}"))?];
        let env = [text(format!("{SHADOW_ENV}={config}"))?];
        let replacement =
            Replacement { pid: leaving.root, program, argv: &argv, env: &env, keep: &keep, hold_signals: true };
        let hold = leaving.hold.clone();
        let mut thaw = || {
            self.faults.at(FaultPoint::MakeShadow).map_err(std::io::Error::other)?;
            hold.set_frozen(false).map_err(std::io::Error::other)
        };
        let replaced = exec_in_place(replacement, &mut thaw).map_err(|e| e.to_string())?;
        if !replaced.swallowed.is_empty() {
            tracing_line(&format!("{}: {:?} came while it became the shadow", leaving.title, replaced.swallowed));
        }
        Ok(())
    }
}

/// The descriptors of the root's own by which it holds each stream.
fn home_streams(root: i32, streams: &[Stream]) -> Result<Vec<HomeStream>, String> {
    let held = held_by(root).map_err(|e| format!("/proc/{root}/fd: {e}"))?;
    let fds = |stream: &Stream| held.iter().filter(|(_, link)| *link == stream.name).map(|(fd, _)| *fd).collect();
    Ok(streams.iter().map(|s| HomeStream { id: s.id, kind: kind_of(s.kind), fds: fds(s) }).collect())
}

fn listeners_among(streams: &[Stream]) -> Vec<String> {
    let listens = |s: &&Stream| matches!(s.kind, StreamKind::Listener { .. });
    streams.iter().filter(listens).map(|s| s.name.clone()).collect()
}

/// Numbers of the open descriptors of a process, and what they lead to.
pub(super) fn held_by(pid: i32) -> std::io::Result<Vec<(i32, String)>> {
    let mut held = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let link = std::fs::read_link(entry.path()).unwrap_or_default();
        let number = entry.file_name().to_string_lossy().parse();
        held.extend(number.map(|fd| (fd, link.to_string_lossy().into_owned())));
    }
    Ok(held)
}

/// What the terminal among these streams is like.
fn terminal_of(pid: i32, streams: &[Stream]) -> Result<Option<Terminal>, Reason> {
    let Some(stream) = streams.iter().find(|s| s.kind == StreamKind::Tty) else { return Ok(None) };
    let look = || -> std::io::Result<Terminal> {
        let fd = held_by(pid)?.into_iter().find(|(_, link)| *link == stream.name);
        let (fd, _) = fd.ok_or_else(|| std::io::Error::other("it is not held any more"))?;
        let terminal = terminal::read(&terminal::of_process(pid, fd)?)?;
        Ok(Terminal { settings: terminal::external(&terminal.settings, false)?, ..terminal })
    };
    let unread = |e| Reason::new(ReasonCode::Tty, format!("its terminal {} could not be read: {e}", stream.name));
    look().map(Some).map_err(unread)
}

/// The process is that shadow already. Its program alone is no proof: what waits in a command's place for `grid run --private`
/// runs the same one.
fn is_shadow(pid: i32, program: &Path, id: &AttemptId) -> bool {
    let runs = std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program);
    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    runs && grid_shadow::config::shadow_among(&environ).is_some_and(|shadow| shadow == id.as_str())
}

/// Everybody may run it, and come to it.
fn open_to_all(program: &Path) -> bool {
    let has = |path: &Path, bits: u32| std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & bits == bits);
    has(program, 0o005) && program.ancestors().skip(1).all(|dir| has(dir, 0o001))
}
