//! The head: its state, the one function that records an event, and who waits for what.

use crate::hooks::Hooks;
use crate::hub::Hub;
use crate::journal::{Journal, JournalError};
use grid_core::auto_offload::Bucket;
use grid_core::boost::Clock;
use grid_core::pressure::Monitor;
use grid_core::state::State;
use grid_engine::Local;
use grid_os::clock::{boot_ms, unix_ms};
use grid_types::api::ApiError;
use grid_types::event::{Actor, Event, EventRecord};
use grid_types::exit::FaultClass;
use grid_types::facts::NodeFacts;
use grid_types::policy::{AutoMode, Config, NodeConfig, Role};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::stop::StopPlace;
use grid_types::wire::LeaseHolding;
use grid_types::{BoostId, BootMs, Millis, NodeName, OffloadId, ProcId, Resources};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use tokio::sync::{Notify, broadcast};

/// How the daemon is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeadConfig {
    /// The cluster's configuration.
    pub config: Config,
    /// Durable state: the journal.
    pub state_dir: PathBuf,
    /// The API's socket.
    pub socket: PathBuf,
    /// The head's agent.
    pub agent: PathBuf,
    /// The nodes share one machine: what the workers use is not the head's use.
    pub embedded: bool,
    /// Where orders to stop are looked for.
    #[serde(default)]
    pub stop: StopPlace,
}

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A file of its own.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The configuration names no head.
    #[error("the configuration names no node with role head (or master)")]
    NoHead,
}

/// What an agent last told of its node.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) at: BootMs,
    pub(crate) facts: NodeFacts,
    pub(crate) leases: Vec<LeaseHolding>,
}

pub(crate) struct Inner {
    pub(crate) cfg: HeadConfig,
    pub(crate) boot_id: String,
    pub(crate) journal: Journal,
    pub(crate) state: State,
    pub(crate) heard: HashMap<NodeName, Heard>,
    pub(crate) links: HashMap<NodeName, bool>,
    /// Nodes whose grid is an older one, and what that means for what is new.
    pub(crate) older: HashMap<NodeName, Reason>,
    /// Root of each moved tree on the node where it lives.
    pub(crate) there: HashMap<OffloadId, ProcId>,
    pub(crate) bucket: Bucket,
    pub(crate) monitor: Monitor,
    /// Bytes per second of the last large move; none before the first.
    pub(crate) rate: Option<u64>,
    pub(crate) ending: std::collections::HashSet<BoostId>,
    /// Attempts whose order is on its way to its agent.
    pub(crate) ordering: std::collections::HashSet<grid_types::AttemptId>,
    /// Offloads in doubt about which a person's decision is being carried out: it is recorded as theirs, not as a report.
    pub(crate) resolving: std::collections::HashSet<OffloadId>,
    /// Who cancelled attempts whose end is not reported yet.
    pub(crate) cancelled: HashMap<grid_types::AttemptId, Actor>,
    /// Orders to stop that came (or that one went) and are not recorded yet, in their order.
    pub(crate) orders: Vec<Option<grid_types::stop::Stop>>,
    /// The last that was recorded since the daemon started.
    pub(crate) noted_stop: Option<grid_types::stop::Stop>,
    /// Plans that pressure of a resource made while grid only observed, and when: what becomes of it is recorded.
    pub(crate) observed: Vec<(grid_core::plan::Resource, grid_types::PlanId, BootMs)>,
    /// Overdue boosts: when to try again, and the pause before that.
    pub(crate) retries: HashMap<BoostId, (u64, u64)>,
}

/// The head's daemon. A handle; clones are the same head.
#[derive(Clone)]
pub struct Head {
    pub(crate) inner: Rc<RefCell<Inner>>,
    pub(crate) engine: Rc<Local<Hub>>,
    pub(crate) hooks: Hooks,
    pub(crate) events: broadcast::Sender<EventRecord>,
    /// Something was recorded.
    pub(crate) changed: Rc<Notify>,
    /// The next deadline may be another one.
    pub(crate) deadlines: Rc<Notify>,
}

impl Head {
    /// Opens the journal and replays it.
    pub fn open(cfg: HeadConfig) -> Result<Self, HeadError> {
        let io = |action, path: &PathBuf| {
            let path = path.clone();
            move |source| HeadError::Io { action, path, source }
        };
        cfg.config.nodes.iter().find(|n| n.role == Role::Head).ok_or(HeadError::NoHead)?;
        std::fs::create_dir_all(&cfg.state_dir).map_err(io("create", &cfg.state_dir))?;
        let journal = Journal::open(&cfg.state_dir.join("journal.db"))?;
        let state = replay(&journal, cfg.config.policy.limits.history)?;
        let boot = PathBuf::from("/proc/sys/kernel/random/boot_id");
        let boot_id = grid_os::clock::boot_id().map_err(|e| io("read", &boot)(std::io::Error::other(e)))?;
        let bucket = Bucket::of(&cfg.config.policy.auto_offload, boot_ms());
        let inner = Inner {
            cfg,
            boot_id,
            journal,
            state,
            heard: HashMap::new(),
            links: HashMap::new(),
            older: HashMap::new(),
            there: HashMap::new(),
            bucket,
            monitor: Monitor::new(),
            rate: None,
            ending: std::collections::HashSet::new(),
            ordering: std::collections::HashSet::new(),
            resolving: std::collections::HashSet::new(),
            cancelled: HashMap::new(),
            orders: Vec::new(),
            noted_stop: None,
            observed: Vec::new(),
            retries: HashMap::new(),
        };
        Ok(Self {
            inner: Rc::new(RefCell::new(inner)),
            engine: Rc::new(Local(Hub::default())),
            hooks: Hooks::default(),
            events: broadcast::channel(1024).0,
            changed: Rc::new(Notify::new()),
            deadlines: Rc::new(Notify::new()),
        })
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.engine.0
    }

    /// Records that something happened: refused where it cannot have (nothing is changed then), else durable before
    /// this returns.
    pub(crate) fn record(&self, actor: &Actor, event: Event) -> Result<(), ApiError> {
        let record = {
            let mut inner = self.inner.borrow_mut();
            let record = EventRecord {
                seq: inner.state.next_seq(),
                at: unix_ms(),
                boot_at: boot_ms(),
                boot_id: inner.boot_id.clone(),
                actor: actor.clone(),
                plan: inner.state.plan_of(&event),
                event,
            };
            let mut next = inner.state.clone();
            next.apply(&record).map_err(|e| fault(FaultClass::Conflict, e.to_string()))?;
            inner.journal.append(&record).map_err(|e| fault(FaultClass::State, e.to_string()))?;
            inner.state = next;
            record
        };
        let _ = self.events.send(record);
        self.changed.notify_waiters();
        Ok(())
    }

    /// Records what an agent or a timer reported; an event that is no longer legal is a repetition and is dropped.
    pub(crate) fn note(&self, event: Event) {
        self.note_by(&Actor::Daemon, event);
    }

    /// The same for what somebody's order came to.
    pub(crate) fn note_by(&self, actor: &Actor, event: Event) {
        if let Err(e) = self.record(actor, event) {
            log(&format!("not recorded: {}", e.message));
        }
    }

    /// Waits for a change, or for `most`.
    pub(crate) async fn await_change(&self, most: std::time::Duration) {
        let _ = tokio::time::timeout(most, self.changed.notified()).await;
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock { boot: boot_ms(), boot_id: self.inner.borrow().boot_id.clone(), unix: unix_ms() }
    }

    pub(crate) fn head_name(&self) -> NodeName {
        let inner = self.inner.borrow();
        inner.cfg.config.nodes.iter().find(|n| n.role == Role::Head).map_or_else(|| "head".into(), |n| n.name.clone())
    }

    /// A node by the name that a person typed; `head` and `master` mean the head.
    pub(crate) fn node_named(&self, name: &str) -> Result<NodeName, ApiError> {
        let inner = self.inner.borrow();
        let nodes = &inner.cfg.config.nodes;
        let by_role = |n: &&NodeConfig| n.role == Role::Head && (name == "head" || name == "master");
        let known = || nodes.iter().map(|n| n.name.to_string()).collect::<Vec<_>>().join(", ");
        nodes
            .iter()
            .find(|n| n.name.as_str() == name)
            .or_else(|| nodes.iter().find(by_role))
            .map(|n| n.name.clone())
            .ok_or_else(|| ApiError {
                hint: Some("grid node list".into()),
                ..fault(FaultClass::NotFound, format!("no node {name:?}; there are {}. Nothing was changed.", known()))
            })
    }

    pub(crate) fn auto_mode(&self) -> AutoMode {
        let inner = self.inner.borrow();
        inner.state.mode(inner.cfg.config.policy.auto_offload.mode)
    }

    /// Time since a node was heard of.
    pub(crate) fn silent_for(&self, node: &NodeName) -> Option<Millis> {
        self.inner.borrow().heard.get(node).map(|h| Millis(boot_ms().0.saturating_sub(h.at.0)))
    }

    /// What the head has, and has free, of its own: with an embedded cluster what the workers use is not the head's.
    pub(crate) fn head_room(&self) -> (Resources, Option<Resources>) {
        let head = self.head_name();
        let inner = self.inner.borrow();
        let Some(heard) = inner.heard.get(&head) else { return (Resources::default(), None) };
        let facts = &heard.facts;
        let total = total_of(facts);
        let mut used = used_of(facts);
        if inner.cfg.embedded {
            let others = inner.heard.iter().filter(|(n, _)| **n != head).filter_map(|(_, h)| used_of(&h.facts));
            let theirs = others.fold(Resources::default(), |sum, u| sum.saturating_add(&u));
            used = used.map(|u| u.saturating_sub(&theirs));
        }
        (total, used.map(|u| total.saturating_sub(&u)))
    }
}

/// Everything of a node.
pub(crate) fn total_of(facts: &NodeFacts) -> Resources {
    let gpu = match &facts.gpus {
        grid_types::facts::Gpus::Present(list) => list.len() as u32,
        _ => 0,
    };
    Resources { cpu: facts.cpu_total, memory: facts.memory_total, gpu }
}

/// What is in use on a node; unknown before the second sample.
pub(crate) fn used_of(facts: &NodeFacts) -> Option<Resources> {
    let memory = grid_types::Bytes(facts.memory_total.0.saturating_sub(facts.memory_available.0));
    facts.cpu_used.map(|cpu| Resources { cpu, memory, gpu: 0 })
}

fn replay(journal: &Journal, history: u32) -> Result<State, JournalError> {
    let mut state = State::new(history);
    loop {
        let batch = journal.after(state.seq, 500)?;
        if batch.is_empty() {
            return Ok(state);
        }
        for record in batch {
            state.apply(&record).map_err(|e| journal.bad_entry(record.seq, e))?;
        }
    }
}

/// An error with its class and nothing else yet.
pub(crate) fn fault(class: FaultClass, message: impl Into<String>) -> ApiError {
    ApiError { class, code: None, message: message.into(), details: Vec::new(), hint: None }
}

/// Nothing of that name; where to look for those that there are.
pub(crate) fn unknown(what: String, look: &str) -> ApiError {
    ApiError { hint: Some(look.to_owned()), ..fault(FaultClass::NotFound, what) }
}

/// A refusal by a reason.
pub(crate) fn refused(reason: &Reason, what: &str) -> ApiError {
    let class = match reason.code {
        ReasonCode::NoFit | ReasonCode::Split | ReasonCode::NoLend | ReasonCode::Cordon => FaultClass::NoCapacity,
        ReasonCode::Silent | ReasonCode::Link => FaultClass::Unreachable,
        ReasonCode::Owner => FaultClass::Permission,
        ReasonCode::Changed | ReasonCode::Expired => FaultClass::Conflict,
        ReasonCode::Doubt => FaultClass::InDoubt,
        _ => FaultClass::Refused,
    };
    ApiError {
        class,
        code: Some(reason.code),
        message: format!("{what}: {}", reason.detail),
        details: Vec::new(),
        hint: Some(reason.code.fix().to_owned()),
    }
}

/// One line of debug text; the journal is elsewhere. Where it cannot be written (a full disk), work goes on.
pub(crate) fn log(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "grid daemon: {text}");
}
