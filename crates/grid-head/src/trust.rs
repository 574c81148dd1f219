//! What people hold grid back with: the order to stop, and processes that are kept where they are.
//!
//! The order is a file that agents heed by themselves. Here it is only shown, recorded, and answered with instead of
//! beginning what would be refused anyway.

use crate::head::{Head, fault, log, refused};
use crate::privacy::{Reader, others};
use grid_os::clock::{boot_ms, unix_ms};
use grid_types::api::{ApiError, KeepAsk, KeepView};
use grid_types::event::{Actor, Event, Keep, KeepEnd};
use grid_types::exit::FaultClass;
use grid_types::facts::ProcStat;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::stop::{Stop, StopView};
use grid_types::{BootMs, Millis, ProcId};
use std::time::Duration;

/// `grid stop` says within this who gave the order, where it was `grid stop`.
const SAYS_WITHIN: Duration = Duration::from_secs(1);

impl Head {
    /// The order to stop that stands now.
    pub(crate) fn standing_stop(&self) -> Option<Stop> {
        grid_os::stop::standing(&self.inner.borrow().cfg.stop)
    }

    /// Nothing that freezes is begun while an order to stop stands.
    pub(crate) fn not_stopped(&self, what: &str) -> Result<(), ApiError> {
        match self.standing_stop() {
            Some(stop) => Err(refused(&stopped(&stop), what)),
            None => Ok(()),
        }
    }

    /// The order that stands, with what agents say became of it.
    pub(crate) fn stop_view(&self) -> Option<StopView> {
        let stop = self.standing_stop()?;
        let answers = grid_os::stop::answers(&self.inner.borrow().cfg.stop, &stop);
        Some(StopView { by: grid_os::users::name_of(stop.uid), stop, answers })
    }

    /// Notices at once what comes and goes, so that nothing is missed, and records it a moment later: `grid stop` says
    /// meanwhile who it was, and from which terminal.
    pub(crate) async fn keep_stops(self) {
        let (seen, mut changes) = tokio::sync::mpsc::unbounded_channel();
        let (place, known) = (self.inner.borrow().cfg.stop.clone(), self.inner.borrow().state.stopped.clone());
        grid_os::stop::watch(place, known, move |now| seen.send(now).is_ok());
        while let Some(now) = changes.recv().await {
            self.inner.borrow_mut().orders.push(now);
            let head = self.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(SAYS_WITHIN).await;
                if let Err(e) = head.note_stop(None) {
                    log(&format!("not recorded: {}", e.message));
                }
            });
        }
    }

    /// Records the orders that came and went. `by`: whoever says so of the last; else the owner of the file, or nobody.
    pub(crate) fn note_stop(&self, by: Option<&Actor>) -> Result<(), ApiError> {
        let mut orders = std::mem::take(&mut self.inner.borrow_mut().orders);
        let last = self.standing_stop();
        orders.retain(|o| *o != last);
        for order in orders {
            self.note_order(order, None)?;
        }
        self.note_order(last, by)
    }

    fn note_order(&self, now: Option<Stop>, by: Option<&Actor>) -> Result<(), ApiError> {
        let (recorded, noted) = (self.inner.borrow().state.stopped.clone(), self.inner.borrow().noted_stop.clone());
        match now {
            // Told by `grid stop`, and lifted, before it was heard of here.
            Some(stop) if recorded.is_none() && noted.as_ref() == Some(&stop) => Ok(()),
            Some(stop) if recorded.as_ref() != Some(&stop) => {
                self.inner.borrow_mut().noted_stop = Some(stop.clone());
                // Who says it must be whose file it is; another one's order stays that one's.
                let owner = owner_of(&stop);
                let by = by.filter(|a| matches!(a, Actor::User { uid, .. } if *uid == stop.uid)).unwrap_or(&owner);
                self.record(by, Event::Stopped { stop })
            }
            None if recorded.is_some() => self.record(by.unwrap_or(&Actor::Daemon), Event::StopLifted {}),
            _ => Ok(()),
        }
    }

    /// Who stands behind what became of a move for this reason.
    pub(crate) fn stopper(&self) -> Option<Actor> {
        let recorded = self.inner.borrow().state.stopped.clone();
        recorded.or_else(|| self.standing_stop()).map(|stop| owner_of(&stop))
    }

    /// Keeps whose time is over.
    pub(crate) fn watch_keeps(&self) {
        let over: Vec<ProcId> = {
            let inner = self.inner.borrow();
            inner.state.kept.values().filter(|k| !k.holds(boot_ms())).map(|k| k.process.clone()).collect()
        };
        for process in over {
            self.note(Event::KeepDropped { process, why: KeepEnd::Expired });
        }
    }

    /// Keeps of processes that are not among these have ended with them.
    pub(crate) fn end_keeps(&self, stats: &[ProcStat]) {
        let gone: Vec<ProcId> = {
            let inner = self.inner.borrow();
            let lives = |p: &ProcId| stats.iter().any(|s| s.id == *p);
            inner.state.kept.keys().filter(|p| !lives(p)).cloned().collect()
        };
        for process in gone {
            self.note(Event::KeepDropped { process, why: KeepEnd::Ended });
        }
    }

    /// What is kept, of what the reader may see.
    pub(crate) async fn keeps(&self, reader: Reader) -> Result<Vec<KeepView>, ApiError> {
        // Looking at what runs ends the keeps of what does not.
        self.processes().await?;
        let now = boot_ms();
        let inner = self.inner.borrow();
        Ok(inner.state.kept_now(now).filter(|k| reader.sees(k.uid)).map(|k| view(k, now)).collect())
    }

    /// Keeps a process where it is, or lets it go.
    pub(crate) async fn keep(&self, ask: KeepAsk, uid: u32, actor: &Actor) -> Result<KeepView, ApiError> {
        if ask.drop { self.drop_keep(ask, uid, actor) } else { self.set_keep(ask, uid, actor).await }
    }

    async fn set_keep(&self, ask: KeepAsk, uid: u32, actor: &Actor) -> Result<KeepView, ApiError> {
        let verdict = self.look_at(ask.pid, Some(uid), false).await?;
        if !Reader::of(uid).sees(verdict.uid) {
            return Err(others(&format!("process {}", ask.pid)));
        }
        let now = boot_ms();
        let until = ask.span.map(|span| BootMs(now.0.saturating_add(span.0)));
        let (process, title) = (verdict.id, verdict.title);
        let keep = Keep { process, title, uid: verdict.uid, until, since: unix_ms() };
        if !ask.dry_run {
            self.record(actor, Event::KeepSet { keep: keep.clone() })?;
        }
        Ok(view(&keep, now))
    }

    fn drop_keep(&self, ask: KeepAsk, uid: u32, actor: &Actor) -> Result<KeepView, ApiError> {
        let keep = {
            let inner = self.inner.borrow();
            inner.state.kept_pid(ask.pid).and_then(|p| inner.state.kept.get(p)).cloned()
        };
        let keep = keep.ok_or_else(|| ApiError {
            hint: Some("what is kept: grid keep --list".into()),
            ..fault(FaultClass::NotFound, format!("process {} is not kept. Nothing was changed.", ask.pid))
        })?;
        if !Reader::of(uid).sees(keep.uid) {
            return Err(others(&format!("process {}", ask.pid)));
        }
        if !ask.dry_run {
            self.record(actor, Event::KeepDropped { process: keep.process.clone(), why: KeepEnd::Dropped })?;
        }
        Ok(view(&keep, boot_ms()))
    }
}

fn view(keep: &Keep, now: BootMs) -> KeepView {
    KeepView { keep: keep.clone(), ends_in: keep.until.map(|until| Millis(until.0.saturating_sub(now.0))) }
}

fn stopped(stop: &Stop) -> Reason {
    let who = grid_os::users::name_of(stop.uid).unwrap_or_else(|| format!("uid {}", stop.uid));
    Reason::new(ReasonCode::Stop, format!("grid was stopped by {who} ({})", stop.file.display()))
}

/// The file's owner is all that is known of who gave the order.
fn owner_of(stop: &Stop) -> Actor {
    Actor::User { uid: stop.uid, name: grid_os::users::name_of(stop.uid), tty: None }
}
