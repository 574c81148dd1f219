//! What goes wrong in a world, and the restarts that follow.

use crate::machines::{DOWN, UP};
use crate::moves::{Kind, Moves};
use crate::physics::{
    break_sending, crash_destination, crash_source, hold_parked, reboot_destination, reboot_source, reimage_destination,
};
use crate::world::{ATTEMPTS, Dump, Home, Queue, Staged};
use grid_core::handover::{HomeCopy, TreeCopy};
use grid_types::handover::DestinationState;

impl Moves<'_> {
    pub(crate) fn lose_messages(&mut self, k: usize) {
        let down = DOWN.iter().map(|down| down.bit(k));
        for bit in down.chain(UP.iter().map(|up| up.bit(k))) {
            if self.from.net & bit != 0 {
                let mut to = self.from;
                to.net &= !bit;
                self.push(Kind::Fault, &|| format!("message {bit:#x} is lost"), Ok(to));
            }
        }
    }

    pub(crate) fn crashes(&mut self) {
        if self.from.source_up {
            let mut to = self.from;
            crash_source(&mut to);
            if self.rules.unparks {
                break_sending(&mut to);
            }
            self.push(Kind::Fault, &|| "the source's agent crashes".to_owned(), Ok(to));
        }
        if self.from.destination_up {
            let mut to = self.from;
            crash_destination(&mut to);
            if self.rules.parks {
                hold_parked(&mut to);
            }
            self.push(Kind::Fault, &|| "the destination's agent crashes".to_owned(), Ok(to));
        }
        // To what is on a disk a reboot is a crash of its agent.
        if self.from.home != Home::Rebooted && !self.rules.unparks {
            let mut to = self.from;
            reboot_source(&mut to);
            self.push(Kind::Fault, &|| "the source's machine reboots".to_owned(), Ok(to));
        }
        let mut to = self.from;
        if !self.rules.parks {
            reboot_destination(&mut to);
            self.push(Kind::Fault, &|| "the destination's machine reboots".to_owned(), Ok(to));
        }
        to = self.from;
        reimage_destination(&mut to);
        self.push(Kind::Fault, &|| "the destination's machine is re-imaged".to_owned(), Ok(to));
    }

    pub(crate) fn restarts(&mut self) {
        let from = self.from;
        if !from.source_up && from.source.iter().all(|s| s.dump != Dump::Running) {
            let mut to = from;
            to.source_up = true;
            for k in 0..ATTEMPTS {
                let Some(ledger) = from.source[k].ledger else { continue };
                let home = match from.home_of(k) {
                    HomeCopy::Runs if self.rules.unparks => HomeCopy::Frozen,
                    home => home,
                };
                let s = &mut to.source[k];
                let (id, list) = self.machines.recover_source(k, ledger, home, s.kept_kill);
                (s.machine, s.queue, s.dump) = (Some(id), Queue { list, next: 0 }, Dump::Known);
            }
            self.push(Kind::Fair, &|| "the source's agent restarts".to_owned(), Ok(to));
        }
        if !from.destination_up {
            // Of a copy that is not there, its pid 1 may have written down how it ended.
            for absent in [TreeCopy::Gone, TreeCopy::Ended] {
                let mut to = from;
                to.destination_up = true;
                for k in 0..ATTEMPTS {
                    let d = from.destination[k];
                    let Some(ledger) = d.ledger else { continue };
                    let copy = match d.copy {
                        Staged::Running => TreeCopy::Runs,
                        Staged::Frozen => TreeCopy::Frozen,
                        Staged::Dead => absent,
                        Staged::None => TreeCopy::Gone,
                    };
                    let (id, list) = self.machines.recover_destination(k, ledger, d.released, copy);
                    self.settle_destination(&mut to, k, id, list);
                }
                let what = || format!("the destination's agent restarts; what died is {absent:?}");
                self.push(Kind::Fair, &what, Ok(to));
            }
        }
    }

    pub(crate) fn kills(&mut self) {
        if matches!(self.from.home, Home::Frozen(_)) && !self.rules.unparks {
            let mut to = self.from;
            to.home = Home::Gone;
            to.excused = true;
            self.push(Kind::Fault, &|| "the held copy is killed".to_owned(), Ok(to));
        }
        for k in 0..ATTEMPTS {
            if matches!(self.from.destination[k].copy, Staged::Frozen | Staged::Running) && !self.rules.parks {
                let mut to = self.from;
                to.destination[k].copy = Staged::Dead;
                // Killed while it is let run, or after: the process was killed.
                let running = Some(DestinationState::Running);
                to.excused |= self.destination_state(k) == running || to.destination[k].ledger == running;
                self.push(Kind::Fault, &|| format!("the copy {k} at the destination ends"), Ok(to));
            }
        }
    }
}
