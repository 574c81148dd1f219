//! What the destination decided is carried out, one short action each.

use super::FENCE;
use crate::agent::{Agent, Input};
use crate::faults;
use crate::link::tracing_line;
use crate::park::ParkedPlace;
use crate::tree::start_ticks;
use grid_core::handover::DestinationAction;
use grid_os::pidfd::PidFd;
use grid_types::AttemptId;
use grid_types::wire::{Body, Party};
use std::time::{Duration, Instant};

impl Agent {
    /// Carries actions out in order. Where one fails that others rest on, the rest is not done: the agent ends itself
    /// and recovers from the ledger, as after a crash.
    pub(super) fn do_destination(&mut self, attempt: &AttemptId, actions: Vec<DestinationAction>) {
        for action in actions {
            if let Err(e) = self.do_one(attempt, action) {
                tracing_line(&format!("attempt {attempt}: {e}; restarting to recover from the ledger"));
                std::process::exit(1);
            }
        }
    }

    fn do_one(&mut self, attempt: &AttemptId, action: DestinationAction) -> Result<(), String> {
        if let Err(fault) = self.faults.at(faults::of_destination(&action)) {
            // What is said can get lost; what is done cannot.
            let said = matches!(action, DestinationAction::Send(_) | DestinationAction::Report(_));
            return if said { Ok(()) } else { Err(fault) };
        }
        let Some(incoming) = self.incoming.get_mut(attempt) else { return Ok(()) };
        let released = incoming.machine.released;
        match action {
            DestinationAction::Persist(state) => {
                self.ledger.put_destination(attempt, state, released, &incoming.record).map_err(|e| e.to_string())?
            }
            DestinationAction::PersistReleased => self
                .ledger
                .put_destination(attempt, incoming.machine.state, true, &incoming.record)
                .map_err(|e| e.to_string())?,
            DestinationAction::Send(message) => {
                incoming.last_word = Instant::now();
                let to = Party::Agent(incoming.record.from.clone());
                self.say(to, Body::Up { message });
            }
            DestinationAction::Thaw if incoming.record.stage.park => self.say_parked(attempt),
            DestinationAction::Refreeze if incoming.record.stage.park => {}
            DestinationAction::DeliverSignals(signals) if incoming.record.stage.park => {
                // Written down with what follows, and given to it when it runs again.
                incoming.record.parked.iter_mut().for_each(|copy| copy.signals.clone_from(&signals));
            }
            DestinationAction::Thaw => {
                let group = incoming.place.group.clone();
                if !self.waits_for_waking(attempt)? {
                    group.set_frozen(false).map_err(|e| e.to_string())?;
                    self.freeze_if_held(Some(attempt))?;
                }
                self.join_streams(attempt);
            }
            DestinationAction::Refreeze => incoming.place.group.set_frozen(true).map_err(|e| e.to_string())?,
            DestinationAction::Discard => self.discard(attempt),
            DestinationAction::DeliverSignals(signals) => {
                let root = incoming.record.root.filter(|r| start_ticks(r.pid) == Some(r.start_ticks));
                if let Some(fd) = root.and_then(|r| PidFd::open(r.pid).ok()) {
                    signals.iter().for_each(|s| drop(fd.signal(*s)));
                }
            }
            DestinationAction::ArmFence => {
                incoming.armed += 1;
                let armed = incoming.armed;
                self.after(FENCE, Input::FenceExpired { attempt: attempt.clone(), armed });
            }
            DestinationAction::DisarmFence => incoming.armed += 1,
            DestinationAction::Report(report) => self.report_destination(attempt, &report),
        }
        Ok(())
    }

    pub(super) fn discard(&mut self, attempt: &AttemptId) {
        let Some(incoming) = self.incoming.get_mut(attempt) else { return };
        if let Some(stream) = incoming.stream.take() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        let destroyed = match incoming.record.stage.park {
            // Whoever stages it tidies up when that is over: at once, and not when all its files were found on a slow link.
            park if incoming.staging => {
                let _ = (!park).then(|| incoming.place.group.kill(Duration::ZERO));
                Ok(())
            }
            true => ParkedPlace::of(&self.cfg.state_dir, attempt).drop(),
            false => incoming.place.destroy(incoming.record.init),
        };
        if let Err(e) = destroyed {
            tracing_line(&format!("attempt {attempt}: {e}"));
        }
        let shadow = incoming.record.stage.shadow.as_ref().map(|terms| terms.shadow.clone());
        if let Some(shadow) = shadow {
            self.wake_listeners(&shadow);
        }
    }
}
