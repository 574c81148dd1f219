//! What the agents' actions, a crash and a reboot do to a world.

use crate::machines::{DestinationDo, Down, SourceDo};
use crate::world::{ATTEMPTS, Dump, Home, Image, Queue, Staged, World};
use grid_types::handover::{DestinationState, SourceState};

pub(crate) fn do_source(to: &mut World, k: usize, action: SourceDo) -> Result<(), &'static str> {
    match action {
        SourceDo::Persist(state) => to.source[k].ledger = Some(state),
        SourceDo::KeepKill => to.source[k].kept_kill = true,
        SourceDo::Send(bit) => to.net |= bit,
        SourceDo::CloseStream if to.source[k].dump == Dump::Running => {
            to.source[k].dump = Dump::Failed;
            to.destination[k].image = Image::Broken;
        }
        SourceDo::CloseStream => {}
        SourceDo::Thaw => return to.thaw_home(k),
        SourceDo::DiscardCopy => match to.home {
            Home::Frozen(by) if usize::from(by) == k => to.home = Home::Gone,
            Home::Running => return Err("a running copy was discarded"),
            _ => {}
        },
        SourceDo::Report(report) => to.source[k].reports |= report,
    }
    Ok(())
}

pub(crate) fn do_destination(to: &mut World, k: usize, action: DestinationDo) -> Result<(), &'static str> {
    let d = &mut to.destination[k];
    match action {
        DestinationDo::Persist(state) => d.ledger = Some(state),
        DestinationDo::PersistReleased => d.released = true,
        DestinationDo::Send(bit) => to.net |= bit,
        DestinationDo::Thaw => return to.thaw_staged(k),
        DestinationDo::Refreeze if d.copy == Staged::Running => d.copy = Staged::Frozen,
        DestinationDo::Refreeze => {}
        DestinationDo::Discard => {
            if matches!(d.copy, Staged::Frozen | Staged::Running) {
                d.copy = Staged::Dead;
            }
            d.image = Image::Broken;
        }
        DestinationDo::Kill => {
            if matches!(d.copy, Staged::Frozen | Staged::Running) {
                d.copy = Staged::Dead;
            }
            to.excused = true;
        }
        DestinationDo::ArmFence => d.fence = true,
        DestinationDo::DisarmFence => d.fence = false,
    }
    Ok(())
}

pub(crate) fn is_doomed(state: Option<DestinationState>) -> bool {
    matches!(state, Some(DestinationState::Refused | DestinationState::Lost))
}

pub(crate) fn crash_source(to: &mut World) {
    to.source_up = false;
    for s in &mut to.source {
        (s.machine, s.queue) = (None, Queue::EMPTY);
        if s.dump == Dump::Starting {
            s.dump = Dump::Known;
        }
    }
}

pub(crate) fn crash_destination(to: &mut World) {
    to.destination_up = false;
    for d in &mut to.destination {
        (d.machine, d.queue, d.fence) = (None, Queue::EMPTY, false);
        d.doomed = is_doomed(d.ledger);
        if d.ledger.is_some() && matches!(d.image, Image::Streaming | Image::Complete) {
            d.image = Image::Broken;
        }
    }
}

/// What is sent from a disk is sent by the agent itself, and not by a CRIU that outlives it.
pub(crate) fn break_sending(to: &mut World) {
    for k in 0..ATTEMPTS {
        if to.source[k].dump == Dump::Running {
            to.source[k].dump = Dump::Known;
            to.destination[k].image = Image::Broken;
        }
    }
}

/// A restarted agent finds what it keeps on its disk as it was before it was given the word.
pub(crate) fn hold_parked(to: &mut World) {
    for d in to.destination.iter_mut().filter(|d| d.copy == Staged::Running) {
        d.copy = Staged::Frozen;
    }
}

pub(crate) fn reboot_source(to: &mut World) {
    // Where the ledger says `Running`, the home copy may have run on after its image was taken; where it says
    // `Aborted`, it may have been thawed. So neither image may go forward, and the process ends with its machine.
    if let Home::Frozen(k) = to.home {
        let ledger = to.source[usize::from(k)].ledger;
        to.excused |= matches!(ledger, Some(SourceState::Running | SourceState::Aborted));
    }
    crash_source(to);
    if to.home_alive() {
        to.home = Home::Rebooted;
    }
    for k in 0..ATTEMPTS {
        if to.source[k].dump == Dump::Running {
            to.source[k].dump = Dump::Known;
            to.destination[k].image = Image::Broken;
        }
    }
}

pub(crate) fn reboot_destination(to: &mut World) {
    crash_destination(to);
    for d in &mut to.destination {
        if matches!(d.copy, Staged::Frozen | Staged::Running) {
            d.copy = Staged::Dead;
            // Lost with the machine that ran it: that is not the protocol's doing.
            to.excused |= d.ledger == Some(DestinationState::Running);
        }
    }
}

pub(crate) fn reimage_destination(to: &mut World) {
    reboot_destination(to);
    for k in 0..ATTEMPTS {
        // `Stage` travels on the connection that carries the pages, and that one is gone.
        to.net &= !Down::Stage.bit(k);
        (to.destination[k].ledger, to.destination[k].released) = (None, false);
    }
}
