//! The switch that makes a step of a handover fail or hang, for tests: armed by a file in the agent's own state
//! directory, which only root writes, and looked at only where `GRID_FAULTS=1`.
//!
//! Owns the mapping from the state machines' actions to [`FaultPoint`]s: an action without one does not compile.

use crate::link::tracing_line;
use grid_core::handover::{DestinationAction, SourceAction};
use grid_types::Bytes;
use grid_types::facts::NodeFacts;
use grid_types::fault::{CPU_FILE, Effect, FaultPoint, MEMORY_FILE, OWNER_FILE, VARIABLE};
use grid_types::handover::{DestinationState, SourceState, ToDestination, ToSource};
use grid_types::machine::MachineFacts;
use nix::fcntl::{Flock, FlockArg};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The switch of one agent.
#[derive(Clone, Debug)]
pub(crate) struct Faults(Option<PathBuf>);

impl Faults {
    pub(crate) fn of(state_dir: &Path) -> Self {
        Self(std::env::var(VARIABLE).is_ok_and(|v| v == "1").then(|| state_dir.to_owned()))
    }

    /// A node of as much memory as a test wants.
    pub(crate) fn alter(&self, facts: &mut NodeFacts) {
        let text = self.0.as_ref().and_then(|dir| std::fs::read_to_string(dir.join(MEMORY_FILE)).ok());
        if let Some(bytes) = text.and_then(|text| text.parse().ok()) {
            (facts.memory_total, facts.memory_available) = (Bytes(bytes), Bytes(bytes));
        }
    }

    /// A machine whose CPUs have one feature more than they have.
    pub(crate) fn alter_machine(&self, facts: &mut MachineFacts) {
        let text = self.0.as_ref().and_then(|dir| std::fs::read_to_string(dir.join(CPU_FILE)).ok());
        facts.cpu.extend(text.map(|text| text.trim().to_owned()));
    }

    /// The control group of all that the owner of the machine does: a test does not own the machine on which it runs.
    pub(crate) fn owner_group(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.0.as_ref()?.join(OWNER_FILE)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Passes, fails or hangs.
    pub(crate) fn at(&self, point: FaultPoint) -> Result<(), String> {
        let Some(dir) = &self.0 else { return Ok(()) };
        let (armed, hit) = (dir.join(point.armed_file()), dir.join(point.hit_file()));
        let Some(effect) = std::fs::read(&armed).ok().and_then(|json| serde_json::from_slice(&json).ok()) else {
            return Ok(());
        };
        std::fs::rename(&armed, &hit).map_err(|e| format!("{}: {e}", hit.display()))?;
        tracing_line(&format!("fault: {} {effect:?}", point.as_str()));
        match effect {
            Effect::Fail => Err(format!("a test made {} fail", point.as_str())),
            Effect::Hang => {
                let file = std::fs::File::open(&hit).map_err(|e| format!("{}: {e}", hit.display()))?;
                let _lock =
                    Flock::lock(file, FlockArg::LockShared).map_err(|(_, e)| format!("{}: {e}", hit.display()))?;
                Ok(())
            }
        }
    }
}

/// The steps of a thread, one after the other: each has its fault, and is timed.
pub(crate) struct Steps {
    faults: Faults,
    last: Instant,
    took: Vec<String>,
}

impl Steps {
    pub(crate) fn new(faults: &Faults) -> Self {
        Self { faults: faults.clone(), last: Instant::now(), took: Vec::new() }
    }

    pub(crate) fn run<T>(&mut self, point: FaultPoint, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        self.faults.at(point)?;
        let result = work();
        self.took.push(format!("{} {} ms", point.as_str(), self.last.elapsed().as_millis()));
        self.last = Instant::now();
        result
    }

    /// How long each took, for the log.
    pub(crate) fn text(&self) -> String {
        self.took.join(", ")
    }
}

pub(crate) fn of_source(action: &SourceAction) -> FaultPoint {
    match action {
        SourceAction::Persist(state) => match state {
            SourceState::Running => FaultPoint::SourcePersistRunning,
            SourceState::Frozen => FaultPoint::PersistFrozen,
            SourceState::Committed => FaultPoint::PersistCommitted,
            SourceState::Released => FaultPoint::PersistReleased,
            SourceState::Aborted => FaultPoint::PersistAborted,
            SourceState::InDoubt => FaultPoint::PersistInDoubt,
        },
        SourceAction::KeepSignals(_) => FaultPoint::KeepSignals,
        SourceAction::Send(message) => match message {
            ToDestination::Stage { .. } => FaultPoint::SendStage,
            ToDestination::Go { .. } => FaultPoint::SendGo,
            ToDestination::Abort { .. } => FaultPoint::SendAbort,
            ToDestination::Released { .. } => FaultPoint::SendReleased,
            ToDestination::Query { .. } => FaultPoint::SendQuery,
        },
        SourceAction::CloseStream => FaultPoint::CloseStream,
        SourceAction::Thaw => FaultPoint::ThawHome,
        SourceAction::DiscardCopy { .. } => FaultPoint::DiscardCopy,
        SourceAction::Report(_) => FaultPoint::SourceReport,
    }
}

pub(crate) fn of_destination(action: &DestinationAction) -> FaultPoint {
    match action {
        DestinationAction::Persist(state) => match state {
            DestinationState::Empty => FaultPoint::DestinationPersistEmpty,
            DestinationState::Staged => FaultPoint::PersistStaged,
            DestinationState::Running => FaultPoint::DestinationPersistRunning,
            DestinationState::Ended => FaultPoint::DestinationPersistEnded,
            DestinationState::Lost => FaultPoint::DestinationPersistLost,
            DestinationState::Refused => FaultPoint::PersistRefused,
        },
        DestinationAction::PersistReleased => FaultPoint::DestinationPersistReleased,
        DestinationAction::Send(message) => match message {
            ToSource::Ready { .. } => FaultPoint::SendReady,
            ToSource::StageFailed { .. } | ToSource::NeverRan { .. } => FaultPoint::SendRefusal,
            ToSource::Started { .. } => FaultPoint::SendStarted,
            ToSource::Gone { .. } => FaultPoint::SendGone,
        },
        DestinationAction::Thaw => FaultPoint::ThawStaged,
        DestinationAction::Refreeze => FaultPoint::Refreeze,
        DestinationAction::Discard => FaultPoint::DiscardStaged,
        DestinationAction::DeliverSignals(_) => FaultPoint::DeliverSignals,
        DestinationAction::ArmFence => FaultPoint::ArmFence,
        DestinationAction::DisarmFence => FaultPoint::DisarmFence,
        DestinationAction::Report(_) => FaultPoint::DestinationReport,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_happens_once_at_its_point_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults(Some(dir.path().to_owned()));
        assert_eq!(faults.at(FaultPoint::SendGo), Ok(()), "nothing is armed");
        let armed = dir.path().join(FaultPoint::SendGo.armed_file());
        std::fs::write(armed, serde_json::to_vec(&Effect::Fail).unwrap()).unwrap();
        assert_eq!(faults.at(FaultPoint::SendReady), Ok(()));
        assert!(faults.at(FaultPoint::SendGo).is_err());
        assert!(dir.path().join(FaultPoint::SendGo.hit_file()).exists());
        assert_eq!(faults.at(FaultPoint::SendGo), Ok(()));
        assert_eq!(Faults(None).at(FaultPoint::SendGo), Ok(()));
    }
}
