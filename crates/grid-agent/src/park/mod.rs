//! Parked copies: checkpoints of trees of which nothing runs, on this node's disk.
//!
//! Owns the folder `parked` of the agent's state, which only root enters, and the files in it: one for each copy, named
//! after the attempt that brought it. What the copy is, its hash and the signals that wait for it are in the ledger's row
//! of that attempt. Never decides who owns a tree: parking and unparking are handovers, and a copy goes where the machines
//! say so (`grid_core::handover`): a parked copy is to them one that is frozen for ever.
//!
//! ```text
//!  page stream ──► parked/ATTEMPT.part ── fsync, read again ──► parked/ATTEMPT ──► page stream
//!      a dump's, recorded (`keep`)                              as it came (`send`)
//! ```

mod files;
mod keep;
mod send;

pub(crate) use self::files::{changed, marks};
pub(crate) use self::keep::Keeping;

use crate::agent::Agent;
use crate::destination::Incoming;
use crate::link::tracing_line;
use crate::source::Outgoing;
use grid_core::handover::{DestinationInput, SourceInput, TreeCopy};
use grid_os::criu::Seal;
use grid_types::event::ExitStatus;
use grid_types::fault::FaultPoint;
use grid_types::handover::DestinationState;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::FileMark;
use grid_types::{AttemptId, Bytes};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Folder of parked copies, in an agent's state.
pub const PARKED: &str = "parked";

/// What is recorded of a parked copy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ParkedCopy {
    size: u64,
    sha256: String,
    /// Memory in it.
    pub(crate) memory: Bytes,
    /// Files on which it depends, as they were.
    files: Vec<FileMark>,
    /// Signals that came while it was taken: it gets them when it runs again.
    #[serde(default)]
    pub(crate) signals: Vec<i32>,
}

impl ParkedCopy {
    fn seal(&self) -> Seal {
        Seal { size: self.size, sha256: self.sha256.clone() }
    }
}

/// Where the copy of one attempt is.
#[derive(Clone, Debug)]
pub(crate) struct ParkedPlace {
    dir: PathBuf,
    /// The copy, whole.
    file: PathBuf,
    /// The copy, while it comes.
    part: PathBuf,
}

impl ParkedPlace {
    pub(crate) fn of(state_dir: &Path, attempt: &AttemptId) -> Self {
        let dir = state_dir.join(PARKED);
        let (file, part) = (dir.join(attempt.as_str()), dir.join(format!("{attempt}.part")));
        Self { dir, file, part }
    }

    /// Makes the folder, for root alone.
    fn make_dir(&self) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)
    }

    /// What a restarted agent can say of it without reading it: there with its size, or not.
    pub(crate) fn copy(&self, copy: Option<&ParkedCopy>) -> TreeCopy {
        let size = std::fs::metadata(&self.file).ok().map(|m| m.len());
        if size.is_some() && size == copy.map(|c| c.size) { TreeCopy::Frozen } else { TreeCopy::Gone }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.file.exists() || self.part.exists()
    }

    /// Deletes the copy, whole or not.
    pub(crate) fn drop(&self) -> Result<(), String> {
        let one = |file: &PathBuf| match std::fs::remove_file(file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(format!("{}: {e}", file.display())),
            _ => Ok(()),
        };
        one(&self.part).and_then(|()| one(&self.file))
    }
}

impl Agent {
    pub(crate) fn parked_place(&self, attempt: &AttemptId) -> ParkedPlace {
        ParkedPlace::of(&self.cfg.state_dir, attempt)
    }

    /// The row of a copy that is parked here, and whose owner this agent is.
    fn parked(&self, attempt: &AttemptId) -> Result<&Incoming, Reason> {
        let incoming = self.incoming.get(attempt).filter(|i| i.parked().is_some()).ok_or_else(|| {
            let detail = format!("{} has no parked copy {attempt}", self.cfg.node);
            Reason::new(ReasonCode::Parked, detail)
        })?;
        if incoming.is_owned() {
            return Ok(incoming);
        }
        let detail = format!("{} has not heard yet that the copy is its own; try again in a moment", self.cfg.node);
        Err(Reason::new(ReasonCode::Changed, detail))
    }

    /// The attempt under way that takes this copy from here.
    fn unparking(&self, parked: &AttemptId) -> Option<&AttemptId> {
        let takes = |(_, s): &(&AttemptId, &Outgoing)| s.is_moving() && s.parked() == Some(parked);
        self.sources.iter().find(takes).map(|(attempt, _)| attempt)
    }

    /// The copy runs elsewhere now: it must never run from here again.
    pub(crate) fn parked_left(&mut self, parked: &AttemptId) -> Result<(), String> {
        self.faults.at(FaultPoint::DropParked)?;
        self.parked_place(parked).drop()?;
        self.tree_left(parked);
        Ok(())
    }

    /// Somebody killed its shadow at home: that ends what is parked. One that is on its way from here is stopped first;
    /// past its commit it is the other node's to end.
    pub(crate) fn end_parked(&mut self, attempt: &AttemptId) {
        if let Some(way) = self.unparking(attempt).cloned() {
            self.step_source(&way, SourceInput::CancelRequested);
            if self.unparking(attempt).is_some() {
                return;
            }
        }
        let Some(incoming) = self.incoming.get_mut(attempt) else { return };
        tracing_line(&format!("attempt {attempt}: its shadow was killed at home, so its parked copy is deleted"));
        incoming.record.end_by(ExitStatus::Signal(nix::libc::SIGKILL));
        self.step_destination(attempt, DestinationInput::TreeEnded);
    }

    /// A destination's row that is a parked copy: what is there of it.
    pub(crate) fn parked_copy(
        &self,
        attempt: &AttemptId,
        state: DestinationState,
        copy: Option<&ParkedCopy>,
    ) -> TreeCopy {
        match state {
            // Its file may be on a disk that is not there yet. Who unparks it is told; nobody ends it for that.
            DestinationState::Running => TreeCopy::Frozen,
            _ => self.parked_place(attempt).copy(copy),
        }
    }
}

/// Room on the disk for a copy that brings about so much; `None` where that is so.
pub(crate) fn lacks_room(place: &ParkedPlace, expected: Bytes) -> Option<Reason> {
    let wanted = expected.0 + expected.0 / 16 + (1 << 20);
    let free = place.make_dir().ok().and_then(|()| {
        let stat = nix::sys::statvfs::statvfs(&place.dir).ok()?;
        Some(stat.blocks_available() as u64 * stat.fragment_size() as u64)
    });
    let short = |free: Option<u64>| match free {
        Some(free) => format!("{} free", Bytes(free)),
        None => "no folder can be made".to_owned(),
    };
    (free.is_none_or(|free| free < wanted)).then(|| {
        let detail = format!("a parked copy takes about {}, and its disk has {}", Bytes(wanted), short(free));
        Reason::new(ReasonCode::Disk, detail)
    })
}
