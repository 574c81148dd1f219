//! Hooks that run when a boost becomes active (`on_boost_activated`), and the built-in one: offload.
//!
//! A hook runs beside the request that activated the boost, never in front of it. One that fails, panics or hangs is
//! journalled and counted; the boost stands.

use crate::head::{Head, log};
use grid_types::Millis;
use grid_types::boost::Boost;
use grid_types::event::{Event, HookOutcome};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A hook that has not returned after this is left behind.
const HOOK_WITHIN: Duration = Duration::from_secs(120);

/// What a hook returns: a line of what it did, or of what failed.
pub type HookFuture = Pin<Box<dyn Future<Output = Result<String, String>>>>;

/// Something to be told of each boost that becomes active.
pub trait ActivationHook {
    /// Its name in the journal.
    fn name(&self) -> String;
    /// Called exactly once for each boost of the head, after it was granted, held and recorded.
    fn on_boost_activated(&self, boost: Boost) -> HookFuture;
}

/// The registered hooks.
#[derive(Clone, Default)]
pub(crate) struct Hooks(Rc<RefCell<Vec<Rc<dyn ActivationHook>>>>);

impl Head {
    /// Registers a hook; it is told of boosts that become active from now on.
    pub fn add_hook(&self, hook: Rc<dyn ActivationHook>) {
        self.hooks.0.borrow_mut().push(hook);
    }

    /// Starts every hook for a boost and returns at once.
    pub(crate) fn run_hooks(&self, boost: &Boost) {
        if boost.borrower != self.head_name() {
            return;
        }
        let (head, own) = (self.clone(), boost.clone());
        self.run_hook("auto-offload".to_owned(), boost, Box::pin(async move { head.auto_offload(&own).await }));
        let hooks: Vec<_> = self.hooks.0.borrow().clone();
        for hook in hooks {
            // Called inside its own task: it may panic before it returns its future, too.
            let own = boost.clone();
            self.run_hook(hook.name(), boost, Box::pin(async move { hook.on_boost_activated(own).await }));
        }
    }

    fn run_hook(&self, name: String, boost: &Boost, work: HookFuture) {
        let (head, boost) = (self.clone(), boost.id.clone());
        tokio::task::spawn_local(async move {
            let start = Instant::now();
            // A task of its own, so that a panic ends that task alone.
            let mut task = tokio::task::spawn_local(work);
            let outcome = match tokio::time::timeout(HOOK_WITHIN, &mut task).await {
                Ok(Ok(Ok(detail))) => match detail.strip_prefix("skipped: ") {
                    Some(why) => HookOutcome::Skipped { detail: why.to_owned() },
                    None => HookOutcome::Done { detail },
                },
                Ok(Ok(Err(detail))) => HookOutcome::Failed { detail },
                Ok(Err(_)) => HookOutcome::Panicked,
                Err(_) => {
                    task.abort();
                    HookOutcome::TimedOut
                }
            };
            let took = Millis(start.elapsed().as_millis() as u64);
            log(&format!("hook {name} for {boost}: {outcome:?}"));
            head.note(Event::HookFinished { boost, hook: name, outcome, took });
        });
    }
}

#[cfg(test)]
#[path = "hooks_tests.rs"]
mod tests;
