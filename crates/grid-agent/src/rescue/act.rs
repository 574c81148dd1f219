//! Letting go of copies. What is written down first is durable when the next line runs.

use super::find::{Home, Node, Staged};
use crate::ledger::Ledger;
use crate::source::put_back;
use grid_types::handover::{DestinationState, SourceState};
use std::time::Duration;

const KILL_WITHIN: Duration = Duration::from_secs(5);

fn open(node: &Node) -> Result<Ledger, String> {
    Ledger::open(&node.ledger()).map_err(|e| e.to_string())
}

/// Writes `Aborted`, thaws, and puts the processes back into their groups.
pub(super) fn thaw_home(node: &Node, home: &Home, persist: bool) -> Result<(), String> {
    if let (true, Some((_, record))) = (persist, &home.row) {
        // Without a report: the agent, when it starts, tells the other end and the head.
        open(node)?.put_source(&home.attempt, SourceState::Aborted, record).map_err(|e| e.to_string())?;
    }
    home.group.set_frozen(false).map_err(|e| e.to_string())?;
    if !home.made_for_it {
        return Ok(());
    }
    put_back(&home.group, home.row.as_ref().map(|(_, record)| record));
    home.group.remove().map_err(|e| e.to_string())
}

/// Writes that the source's copy is gone, and lets this one, the only one, run.
pub(super) fn thaw_staged(node: &Node, staged: &Staged, persist: bool) -> Result<(), String> {
    if let (true, Some((state, _, record))) = (persist, &staged.row) {
        open(node)?.put_destination(&staged.attempt, *state, true, record).map_err(|e| e.to_string())?;
    }
    staged.group.set_frozen(false).map_err(|e| e.to_string())
}

/// Refuses the attempt for ever, and ends the copy that never ran. Its pid 1 ends with it.
pub(super) fn end_staged(node: &Node, staged: &Staged) -> Result<(), String> {
    if let Some((_, released, record)) = staged.row.as_ref().filter(|(s, ..)| *s != DestinationState::Refused) {
        open(node)?
            .put_destination(&staged.attempt, DestinationState::Refused, *released, record)
            .map_err(|e| e.to_string())?;
    }
    staged.group.kill(KILL_WITHIN).map_err(|e| e.to_string())
}
