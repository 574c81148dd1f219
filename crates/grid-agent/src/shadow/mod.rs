//! Shadows of this node's own: what the processes that left from here have become.
//!
//! Owns their records, the socket to which they come, and the joining of a shadow with its tree: the agent of the node
//! where the tree lives dials, and the connection is handed to the shadow. No byte of a stream passes through an agent.
//! Never decides where a tree runs.
//!
//! ```text
//!  tree's pid 1 ◄── its agent dials ──► this agent ── hands the connection over ──► shadow
//!  shadow ends ──► `Ended` to the tree's agent, again until `TreeGone` comes back ──► the record goes
//!  worker lost ──► `Ask` ──► `TreeGone` ──► the shadow is told, and leaves with what is known
//! ```

mod begun;
mod door;
mod leave;
mod ports;
mod stops;
mod words;

pub(crate) use self::ports::Listeners;

use self::begun::Begun;
use self::door::{Door, say_of_strangers};

use crate::AgentError;
use crate::agent::{Agent, Input};
use crate::link::tracing_line;
use crate::tree::start_ticks;
use grid_os::packets;
use grid_os::peer::Peer;
use grid_os::pidfd::PidFd;
use grid_shadow::control::{ToShadow, send, send_with};
use grid_types::streams::ShadowId;
use grid_types::{AttemptId, NodeName, OffloadId};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// What is recorded of a shadow, before it is made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) offload: OffloadId,
    /// Its number here: the one that the process always had.
    pub(crate) pid: i32,
    start_ticks: u64,
    boot_id: String,
    /// The attempt that brought the tree to where it lives, and that node.
    attempt: AttemptId,
    node: NodeName,
    /// Of the tree's far end there.
    generation: u64,
    /// What it stands in for, for people.
    command: String,
    /// Names of the sockets on which it listens.
    listeners: Vec<String>,
    /// Those on which the tree began to listen while it is away.
    #[serde(default)]
    begun: Vec<Begun>,
    /// It was to be made, and the process died on the way. Kept until the tree has ended, which is told so.
    #[serde(default)]
    missing: bool,
    /// The tree is parked there.
    #[serde(default)]
    parked: bool,
    /// Somebody gave its node up, and the tree with it: should that node come back, it is to end what it has of it.
    #[serde(default)]
    given_up: bool,
}

/// A connection for a shadow that has not come yet.
struct Waiting {
    generation: u64,
    end: OwnedFd,
}

/// A shadow of this node's.
pub(crate) struct Shadow {
    pub(crate) record: Record,
    control: Option<OwnedFd>,
    waiting: Option<Waiting>,
    /// It has ended, and the tree's agent was told then.
    told_end: Option<Option<Instant>>,
    /// It was stopped when it was looked at last.
    stopped: bool,
    /// Its tree is gone, which it is told until it leaves.
    gone: Option<ToShadow>,
}

impl Shadow {
    fn new(record: Record) -> Self {
        Self { record, control: None, waiting: None, told_end: None, stopped: false, gone: None }
    }

    /// The process with its number is the one that was there.
    fn lives(&self, boot_id: &str) -> bool {
        self.record.boot_id == boot_id && start_ticks(self.record.pid) == Some(self.record.start_ticks)
    }

    /// Says it, where it is here and listens. It is the user's own process, who may have stopped it: nobody waits for it. One
    /// that reads nothing is let go; it comes again when it goes on, and hears all then.
    fn say(&mut self, word: &ToShadow, with: Option<BorrowedFd<'_>>) -> bool {
        let Some(control) = &self.control else { return false };
        let said = match with {
            Some(fd) => send_with(control, word, fd),
            None => send(control, word),
        };
        if said.is_err() {
            self.control = None;
        }
        said.is_ok()
    }
}

/// A connection between a tree and its shadow, as it comes from the tree's agent.
pub(crate) struct StreamLink {
    pub(crate) attempt: AttemptId,
    pub(crate) from: NodeName,
    pub(crate) shadow: ShadowId,
    pub(crate) generation: u64,
    pub(crate) end: OwnedFd,
}

impl Agent {
    /// Where shadows come: everybody may connect, and only a shadow is heard.
    pub(crate) fn shadow_socket(&self) -> PathBuf {
        self.cfg.run_dir.join("shadow.sock")
    }

    /// Picks up the shadows that the ledger knows, and opens the door to them.
    pub(crate) fn recover_shadows(&mut self) -> Result<(), AgentError> {
        if !self.is_hub() {
            return Ok(());
        }
        for (id, record) in self.ledger.shadows::<Record>()? {
            self.shadows.insert(id.clone(), Shadow::new(record));
            self.watch_shadow(&id);
        }
        let path = self.shadow_socket();
        let failed = |source| AgentError::Io { action: "listen on", path: path.clone(), source };
        let listener = packets::listen(&path, 0o666).map_err(failed)?;
        let door = Door::new(self.inputs.clone());
        std::thread::spawn(move || door.serve(&listener));
        Ok(())
    }

    /// Turns the end of a shadow into an input; at once where it is not there any more.
    fn watch_shadow(&self, id: &ShadowId) {
        let Some(shadow) = self.shadows.get(id) else { return };
        let fd = PidFd::open(shadow.record.pid).ok().filter(|_| shadow.lives(&self.boot_id));
        let (inputs, id) = (self.inputs.clone(), id.clone());
        tokio::spawn(async move {
            if let Some(fd) = fd {
                let _ = grid_os::wait::readable(fd.into()).await;
            }
            let _ = inputs.send(Input::ShadowEnded { shadow: id });
        });
    }

    /// Somebody says on the shadows' socket that it is a shadow: it is believed where the kernel says that it is that
    /// process.
    pub(crate) fn shadow_came(&mut self, id: &ShadowId, control: Arc<OwnedFd>) {
        let Some(control) = Arc::into_inner(control) else { return };
        let peer = Peer::of(&control).ok().and_then(|peer| peer.pid);
        let Some(shadow) = self.shadows.get_mut(id).filter(|s| peer == Some(s.record.pid)) else {
            // In its own words, which anybody may choose: short, and on one line.
            let said = format!("{id:.64}");
            return say_of_strangers(&format!("{peer:?} came as the shadow {said:?}, which it is not; closed"));
        };
        shadow.control = Some(control);
        if let Some(Waiting { generation, end }) = shadow.waiting.take() {
            self.join(id, generation, end);
        }
        self.say_where(id);
        let shadow = self.shadows.get_mut(id);
        if let Some((shadow, word)) = shadow.and_then(|s| s.gone.clone().map(|word| (s, word))) {
            shadow.say(&word, None);
        }
    }

    /// The tree's agent has dialled: the connection goes to the shadow, or waits for it.
    pub(crate) fn stream_link(&mut self, link: StreamLink) {
        let StreamLink { attempt, from, shadow: id, generation, end } = link;
        if !self.carries(&attempt, &from, &id) {
            return tracing_line(&format!("{from} offers streams of {id}, which is not with it; closed"));
        }
        let offload = self.offload_by(&attempt);
        let Some(shadow) = self.shadows.get_mut(&id) else {
            // The process here is frozen still: it becomes the shadow when it is released. Its agent dials again.
            return;
        };
        if generation < shadow.record.generation {
            return tracing_line(&format!("{from} offers streams of {id} as they were before; closed"));
        }
        if generation > shadow.record.generation {
            let before = shadow.record.clone();
            // One that came home and left again did so as another offload.
            let offload = offload.unwrap_or(before.offload);
            shadow.record = Record { offload, attempt, node: from, generation, parked: false, ..before };
            if let Err(e) = self.ledger.put_shadow(&id, &shadow.record) {
                return tracing_line(&e.to_string());
            }
            // Stopped while it was parked, say: where it lives now that is not known.
            (shadow.stopped, shadow.gone) = (false, None);
        }
        self.join(&id, generation, end);
        self.say_where(&id);
    }

    fn join(&mut self, id: &ShadowId, generation: u64, end: OwnedFd) {
        let Some(shadow) = self.shadows.get_mut(id) else { return };
        if !shadow.say(&ToShadow::Link { generation }, Some(end.as_fd())) {
            shadow.waiting = Some(Waiting { generation, end });
        }
    }

    /// Its title names the node.
    pub(super) fn say_where(&mut self, id: &ShadowId) {
        let Some(shadow) = self.shadows.get_mut(id) else { return };
        let Record { command, node, parked, .. } = &shadow.record;
        let text = title(command, node, *parked);
        shadow.say(&ToShadow::Title { text }, None);
    }

    /// The offload to which an attempt belongs that left from here, or past here.
    fn offload_by(&self, attempt: &AttemptId) -> Option<OffloadId> {
        let passed = self.passages.get(attempt).map(|p| p.offload.clone());
        passed.or_else(|| self.source_offload(attempt))
    }

    /// The attempt went to that node, or lives here, and carries this shadow.
    pub(super) fn carries(&self, attempt: &AttemptId, from: &NodeName, shadow: &ShadowId) -> bool {
        if *from == self.cfg.node {
            return true;
        }
        let offload = self.shadows.get(shadow).map(|s| &s.record.offload);
        if offload.is_some_and(|offload| self.passed_to(attempt, offload, from)) {
            return true;
        }
        let terms = self.source_terms(attempt, from);
        terms.is_some_and(|terms| terms.shadow == *shadow)
    }
}

/// How `ps` shows a shadow.
pub(super) fn title(command: &str, node: &NodeName, parked: bool) -> String {
    let parked = if parked { "parked " } else { "" };
    format!("grid-shadow: {command} {parked}@{node}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use grid_shadow::control::receive;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    /// A shadow whose user has stopped it, and its end of the connection to it.
    pub(super) fn stopped() -> (Shadow, OwnedFd) {
        let record = serde_json::json!({
            "offload": "o-1", "pid": std::process::id(), "start_ticks": 1, "boot_id": "b", "attempt": "o-1.1",
            "node": "gpu1", "generation": 1, "command": "job", "listeners": [],
        });
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let mut shadow = Shadow::new(serde_json::from_value(record).unwrap());
        shadow.control = Some(ours);
        (shadow, theirs)
    }

    /// So much is said to it that no more of it fits.
    pub(super) fn deaf(shadow: &mut Shadow) {
        let control = shadow.control.as_ref().unwrap();
        while send(control, &ToShadow::Title { text: "t".repeat(9_000) }).is_ok() {}
        while send(control, &ToShadow::Unlisten { listener: 1 }).is_ok() {}
    }

    /// Where it was waited for, this hangs, as the agent did for everybody.
    #[test]
    fn a_shadow_that_reads_nothing_is_let_go_and_hears_what_was_said_before() {
        let (mut shadow, theirs) = stopped();
        assert!(shadow.say(&ToShadow::Link { generation: 1 }, Some(std::io::stdin().as_fd())));
        while shadow.say(&lost(), None) {}
        assert!(shadow.control.is_none() && !shadow.say(&lost(), None));
        // It goes on.
        let (first, fd) = receive::<ToShadow>(&theirs, true).unwrap().unwrap();
        assert!(fd.is_some() && first == ToShadow::Link { generation: 1 });
        let mut heard = 0;
        while let Ok(Some((word, _))) = receive::<ToShadow>(&theirs, true) {
            assert_eq!(word, lost());
            heard += 1;
        }
        assert!(heard > 10, "{heard}");
    }

    fn lost() -> ToShadow {
        ToShadow::Lost { message: "lost".to_owned(), code: 113 }
    }
}
