//! Hooks that fail in every way: none of them touches the boost, each is journalled.

use super::*;
use crate::HeadConfig;
use grid_os::clock::{boot_ms, unix_ms};
use grid_types::boost::{BoostState, Priority};
use grid_types::event::Actor;
use grid_types::policy::AtEnd;
use grid_types::{BootMs, Bytes, MilliCpu, Resources, UnixMs};

const AMOUNT: Resources = Resources { cpu: MilliCpu(1000), memory: Bytes(1 << 30), gpu: 0 };

fn boost() -> Boost {
    Boost {
        id: "b-1".into(),
        lease: "b-1".into(),
        borrower: "head".into(),
        lender: "gpu1".into(),
        amount: AMOUNT,
        priority: Priority::Normal,
        granted_at: unix_ms(),
        until: BootMs(boot_ms().0 + 3_600_000),
        boot_id: "boot-1".into(),
        until_unix: UnixMs(unix_ms().0 + 3_600_000),
        epoch: 1,
        at_end: AtEnd::Recall,
        chosen: "the only one".into(),
        state: BoostState::Granting,
    }
}

/// A head without any agent, so that the built-in hook fails.
fn head(dir: &std::path::Path) -> Head {
    let config = HeadConfig {
        config: grid_core::config::local(1, "head", AMOUNT, AMOUNT),
        state_dir: dir.to_owned(),
        socket: dir.join("head.sock"),
        agent: dir.join("agent.sock"),
        embedded: true,
    };
    Head::open(config).unwrap()
}

enum Fate {
    Works,
    Fails,
    Panics,
    PanicsAtOnce,
    Hangs,
}

impl ActivationHook for Fate {
    fn name(&self) -> String {
        let name = match self {
            Fate::Works => "works",
            Fate::Fails => "fails",
            Fate::Panics => "panics",
            Fate::PanicsAtOnce => "panics at once",
            Fate::Hangs => "hangs",
        };
        name.to_owned()
    }
    fn on_boost_activated(&self, boost: Boost) -> HookFuture {
        match self {
            Fate::Works => Box::pin(async move { Ok(format!("saw {} from {}", boost.id, boost.lender)) }),
            Fate::Fails => Box::pin(async { Err("no luck".to_owned()) }),
            Fate::Panics => Box::pin(async {
                tokio::task::yield_now().await;
                panic!("in the future")
            }),
            Fate::PanicsAtOnce => panic!("before the future"),
            Fate::Hangs => Box::pin(std::future::pending()),
        }
    }
}

fn activated(head: &Head) -> Boost {
    head.record(&Actor::Daemon, Event::LeaseGranted { boost: boost() }).unwrap();
    head.record(&Actor::Daemon, Event::BoostActivated { boost: "b-1".into(), enforced: String::new() }).unwrap();
    head.boost(&"b-1".into()).unwrap()
}

fn finished(head: &Head) -> Vec<(String, HookOutcome)> {
    let of = |event| match event {
        Event::HookFinished { hook, outcome, .. } => Some((hook, outcome)),
        _ => None,
    };
    head.inner.borrow().journal.after(0, 100).unwrap().into_iter().filter_map(|r| of(r.event)).collect()
}

#[tokio::test(start_paused = true)]
async fn no_hook_can_harm_the_boost_or_another_hook() {
    let dir = tempfile::tempdir().unwrap();
    let test = async {
        let head = head(dir.path());
        for fate in [Fate::Hangs, Fate::PanicsAtOnce, Fate::Panics, Fate::Fails, Fate::Works] {
            head.add_hook(Rc::new(fate));
        }
        let boost = activated(&head);
        head.run_hooks(&boost);
        assert_eq!(finished(&head), [], "the request does not wait for hooks");

        let begun = tokio::time::Instant::now();
        while finished(&head).len() < 5 {
            head.await_change(Duration::from_secs(1)).await;
        }
        assert!(begun.elapsed() < HOOK_WITHIN, "those that end do not wait for the one that hangs");
        let outcome = |name: &str| finished(&head).into_iter().find(|(n, _)| n == name).map(|(_, outcome)| outcome);
        assert_eq!(outcome("works"), Some(HookOutcome::Done { detail: "saw b-1 from gpu1".into() }));
        assert_eq!(outcome("fails"), Some(HookOutcome::Failed { detail: "no luck".into() }));
        assert_eq!(outcome("panics"), Some(HookOutcome::Panicked));
        assert_eq!(outcome("panics at once"), Some(HookOutcome::Panicked));
        assert!(outcome("auto-offload").is_some());
        assert_eq!(outcome("hangs"), None);

        while finished(&head).len() < 6 {
            head.await_change(Duration::from_secs(200)).await;
        }
        assert_eq!(outcome("hangs"), Some(HookOutcome::TimedOut));
        assert_eq!(head.boost(&"b-1".into()).unwrap().state, BoostState::Active);
        assert_eq!(finished(&head).len(), 6, "each once");
    };
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_boost_of_another_borrower_calls_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let test = async {
        let head = head(dir.path());
        head.add_hook(Rc::new(Fate::Works));
        let boost = Boost { borrower: "gpu1".into(), ..activated(&head) };
        head.run_hooks(&boost);
        tokio::task::yield_now().await;
        assert_eq!(finished(&head), []);
    };
    tokio::task::LocalSet::new().run_until(test).await;
}
