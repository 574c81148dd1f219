//! Hooks that run when a boost becomes active (`on_boost_activated`), and the built-in one: offload.
//!
//! A hook runs beside the request that activated the boost, never in front of it. One that fails, panics or hangs is
//! journalled and counted; the boost stands.

use crate::head::{Head, log};
use grid_types::Millis;
use grid_types::boost::Boost;
use grid_types::event::{Actor, Event, HookOutcome};
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
            let (name, own) = (hook.name(), boost.clone());
            // Called within the task, so that a panic of the call itself is caught too.
            self.run_hook(name, boost, Box::pin(async move { hook.on_boost_activated(own).await }));
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
            let by = Actor::Rule { name: format!("hook {name}") };
            head.note_by(&by, Event::HookFinished { boost, hook: name, outcome, took });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::HeadConfig;
    use grid_types::boost::{BoostState, Priority};
    use grid_types::policy::AtEnd;
    use grid_types::{Bytes, MilliCpu, NodeName, Resources};
    use std::cell::Cell;

    struct Hook(&'static str, Rc<Cell<u32>>);

    impl ActivationHook for Hook {
        fn name(&self) -> String {
            self.0.to_owned()
        }
        fn on_boost_activated(&self, boost: Boost) -> HookFuture {
            self.1.set(self.1.get() + 1);
            let kind = self.0;
            Box::pin(async move {
                match kind {
                    "fails" => Err("no luck".to_owned()),
                    "panics" => panic!("a hook's own fault"),
                    "hangs" => std::future::pending().await,
                    _ => Ok(format!("saw {} on {}", boost.id, boost.lender)),
                }
            })
        }
    }

    fn head(dir: &std::path::Path) -> Head {
        let size = Resources { cpu: MilliCpu(4000), memory: Bytes(8 << 30), gpu: 0 };
        let config = grid_core::config::local(2, "head", size, size);
        let (state_dir, socket, agent) = (dir.join("state"), dir.join("api.sock"), dir.join("agent.sock"));
        Head::open(HeadConfig { config, state_dir, socket, agent, embedded: true, stop: Default::default() }).unwrap()
    }

    /// A boost of this borrower that was granted and is active.
    fn activated(head: &Head, borrower: &str) -> Boost {
        let boost = Boost {
            id: "b-1".into(),
            lease: "b-1".into(),
            borrower: NodeName::from(borrower),
            lender: "gpu1".into(),
            amount: Resources { cpu: MilliCpu(1000), memory: Bytes(1 << 30), gpu: 0 },
            priority: Priority::Normal,
            granted_at: grid_os::clock::unix_ms(),
            until: grid_types::BootMs(u64::MAX / 2),
            boot_id: "this".into(),
            until_unix: grid_types::UnixMs(u64::MAX / 2),
            epoch: 1,
            at_end: AtEnd::Recall,
            chosen: String::new(),
            state: BoostState::Granting,
        };
        head.record(&Actor::Daemon, Event::LeaseGranted { boost: boost.clone() }).unwrap();
        let enforced = "cpu 1.0".to_owned();
        head.record(&Actor::Daemon, Event::BoostActivated { boost: boost.id.clone(), enforced }).unwrap();
        head.boost(&boost.id).unwrap()
    }

    /// Runs the hooks for a boost of `borrower` and returns what the journal says of each, by name.
    async fn outcomes(
        borrower: &str,
        kinds: &[&'static str],
        expect: usize,
    ) -> (Vec<(String, HookOutcome)>, u32, BoostState) {
        let dir = tempfile::tempdir().unwrap();
        let head = head(dir.path());
        let calls = Rc::new(Cell::new(0));
        kinds.iter().for_each(|k| head.add_hook(Rc::new(Hook(k, calls.clone()))));
        let boost = activated(&head, borrower);
        let before = std::time::Instant::now();
        head.run_hooks(&boost);
        assert!(before.elapsed() < Duration::from_secs(5), "B7: running hooks waits for none of them");
        let finished = |head: &Head| -> Vec<(String, HookOutcome)> {
            let entries = head.inner.borrow().journal.after(0, 100).unwrap();
            entries
                .into_iter()
                .filter_map(|e| match e.event {
                    Event::HookFinished { hook, outcome, .. } => Some((hook, outcome)),
                    _ => None,
                })
                .collect()
        };
        while finished(&head).len() < expect {
            head.await_change(Duration::from_secs(600)).await;
        }
        (finished(&head), calls.get(), head.boost(&boost.id).unwrap().state)
    }

    fn of<'a>(all: &'a [(String, HookOutcome)], name: &str) -> &'a HookOutcome {
        &all.iter().find(|(n, _)| n == name).unwrap().1
    }

    #[tokio::test(start_paused = true)]
    async fn b2_b3_a_hook_gets_the_whole_boost_exactly_once() {
        let local = tokio::task::LocalSet::new();
        let (all, calls, _) = local.run_until(outcomes("head", &["works"], 2)).await;
        assert_eq!(calls, 1);
        assert_eq!(of(&all, "works"), &HookOutcome::Done { detail: "saw b-1 on gpu1".into() });
    }

    #[tokio::test(start_paused = true)]
    async fn b6_hooks_that_fail_panic_or_hang_are_journalled_and_the_boost_stands() {
        let local = tokio::task::LocalSet::new();
        let (all, _, state) = local.run_until(outcomes("head", &["fails", "panics", "hangs", "works"], 5)).await;
        assert_eq!(of(&all, "fails"), &HookOutcome::Failed { detail: "no luck".into() });
        assert_eq!(of(&all, "panics"), &HookOutcome::Panicked);
        assert_eq!(of(&all, "hangs"), &HookOutcome::TimedOut);
        assert!(matches!(of(&all, "works"), HookOutcome::Done { .. }));
        assert_eq!(state, BoostState::Active);
    }

    #[tokio::test(start_paused = true)]
    async fn o4_a_scan_that_fails_is_journalled_and_goes_no_further() {
        let local = tokio::task::LocalSet::new();
        // No agent is there to list processes.
        let (all, _, state) = local.run_until(outcomes("head", &[], 1)).await;
        assert!(matches!(of(&all, "auto-offload"), HookOutcome::Failed { .. }), "{all:?}");
        assert_eq!(state, BoostState::Active);
    }

    #[tokio::test(start_paused = true)]
    async fn b4_a_boost_of_another_node_calls_no_hook() {
        let local = tokio::task::LocalSet::new();
        let (all, calls, _) = local.run_until(outcomes("gpu2", &["works"], 0)).await;
        assert!(all.is_empty());
        assert_eq!(calls, 0);
    }
}
