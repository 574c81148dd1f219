//! The agent's one task: takes inputs in order, owns all state, answers requests.

use crate::destination::{Incoming, StageOutcome};
use crate::faults::Faults;
use crate::lease::Lease;
use crate::ledger::Ledger;
use crate::lend::OwnersWord;
use crate::link::Outbox;
use crate::lock::AgentLock;
use crate::routes::Linked;
use crate::shadow::{Shadow, StreamLink};
use crate::source::{DumpOutcome, Heeded, Outgoing, leaving};
use crate::tickets::{HandedOut, Held};
use crate::{AgentConfig, AgentError};
use grid_core::handover::{SourceAction, SourceInput};
use grid_core::sleep::Sleep;
use grid_os::cgroup::{Controller, Group, Hierarchies};
use grid_os::criu::Criu;
use grid_os::gpu::GpuReader;
use grid_os::node::{NodeCgroup, NodeReader};
use grid_os::proc::{ProcRoot, Sample};
use grid_os::socket::Socket;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::streams::ShadowId;
use grid_types::wire::{Answer, Body, Frame, Party, Passage, Refusal, Request};
use grid_types::{AttemptId, LeaseId, NodeName};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::Signal;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// What lives here is joined with its shadow within this, before the agent ends.
const JOINED_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks at that.
const LOOK: Duration = Duration::from_millis(10);

/// Controllers of a group that bounds work; a hold needs the freezer alone.
pub(crate) const BOUNDED: [Controller; 5] =
    [Controller::Cpu, Controller::CpuAcct, Controller::Memory, Controller::Freezer, Controller::Kill];

/// Everything that can happen to an agent.
pub(crate) enum Input {
    LinkUp {
        party: Party,
        link: Linked,
        boot_id: Option<String>,
    },
    LinkDown {
        party: Party,
        outbox: Outbox,
    },
    /// This agent's own, to itself.
    Frame(Frame),
    /// A link's, which is read on when this is done.
    Heard {
        frame: Frame,
        place: OwnedSemaphorePermit,
    },
    DataLink {
        attempt: AttemptId,
        from: NodeName,
        stream: Socket,
    },
    Dumped {
        attempt: AttemptId,
        outcome: DumpOutcome,
    },
    StageEnded {
        attempt: AttemptId,
        outcome: StageOutcome,
    },
    /// The files of a tree that is to come.
    Looked {
        attempt: AttemptId,
        result: Result<(), Reason>,
    },
    DumpFailed {
        attempt: AttemptId,
        detail: String,
    },
    ParkedChecked {
        attempt: AttemptId,
        stage_it: Vec<SourceAction>,
        result: Result<(), String>,
    },
    ParkedSent {
        attempt: AttemptId,
        result: Result<(), String>,
    },
    Deadline {
        attempt: AttemptId,
        armed: u64,
    },
    FenceExpired {
        attempt: AttemptId,
        armed: u64,
    },
    StreamLink(StreamLink),
    /// The files of a tree that is away.
    FilesLink(crate::home::FilesLink),
    ShadowCame {
        shadow: ShadowId,
        control: Arc<OwnedFd>,
    },
    ShadowEnded {
        shadow: ShadowId,
    },
    InitEnded {
        attempt: AttemptId,
    },
    RootEnded {
        attempt: AttemptId,
        patience: u32,
    },
    LeaseTimer {
        lease: LeaseId,
        epoch: u64,
    },
    StopChanged,
    LendChanged,
    Tick,
}

/// The agent's state.
pub(crate) struct Agent {
    pub(crate) cfg: AgentConfig,
    pub(crate) boot_id: String,
    pub(crate) hierarchies: Hierarchies,
    pub(crate) criu: Criu,
    pub(crate) ledger: Ledger,
    _lock: AgentLock,
    /// What CRIU has of what it is asked for; none before somebody asked.
    pub(crate) criu_has: Option<std::collections::BTreeSet<String>>,
    pub(crate) faults: Faults,
    pub(crate) proc: ProcRoot,
    pub(crate) sample: Option<Sample>,
    pub(crate) node: NodeReader,
    pub(crate) gpu: GpuReader,
    pub(crate) links: HashMap<Party, Linked>,
    pub(crate) peer_boots: HashMap<NodeName, String>,
    pub(crate) sources: BTreeMap<AttemptId, Outgoing>,
    pub(crate) incoming: BTreeMap<AttemptId, Incoming>,
    pub(crate) leases: BTreeMap<LeaseId, Lease>,
    pub(crate) shadows: BTreeMap<ShadowId, Shadow>,
    /// Nodes that somebody gave up, with what lived there.
    pub(crate) lost_nodes: BTreeSet<NodeName>,
    /// When the head was told of this node last; none: it is to be told at once.
    pub(crate) told_facts: Option<Instant>,
    /// What this machine's owner says of lending it.
    pub(crate) word: OwnersWord,
    /// Whether it sleeps, and who stands still for that.
    pub(crate) sleep: Sleep,
    /// The order to stop that stands, and what became of it here.
    pub(crate) heeded: Option<Heeded>,
    /// The head's own order that stands, by its mark, where the head is another machine.
    pub(crate) stop_of_head: Option<String>,
    /// Data connections that came before the frame that explains them.
    pub(crate) early: HashMap<AttemptId, (NodeName, Socket)>,
    /// How many attempts of which nothing was known were asked about by each, and are remembered.
    pub(crate) unknown_of: BTreeMap<NodeName, u32>,
    /// Attempts that may pass from one worker to another (the hub's).
    pub(crate) passages: BTreeMap<AttemptId, Passage>,
    /// Leave to carry memory that was given to workers (the hub's).
    pub(crate) handed_out: HandedOut,
    /// The same, as it came here (a worker's).
    pub(crate) held: Held,
    pub(crate) inputs: mpsc::UnboundedSender<Input>,
}

impl Agent {
    /// Until it is told to end, and every tree that lives here is joined with its shadow: then the two need no agent.
    pub(crate) async fn serve(&mut self, mut inputs: mpsc::UnboundedReceiver<Input>, mut told: Signal) {
        let mut ends_by = None;
        while ends_by.is_none_or(|by| Instant::now() < by && !(inputs.is_empty() && self.all_joined())) {
            tokio::select! {
                Some(input) = inputs.recv() => self.handle(input),
                _ = told.recv() => ends_by = Some(Instant::now() + JOINED_WITHIN),
                () = tokio::time::sleep(LOOK), if ends_by.is_some() => {}
                else => return,
            }
        }
    }

    pub(crate) fn new(cfg: AgentConfig, inputs: mpsc::UnboundedSender<Input>) -> Result<Self, AgentError> {
        for dir in [&cfg.state_dir, &cfg.run_dir] {
            make_private_dir(dir)?;
        }
        let clock = |source| AgentError::Io { action: "read", path: "/proc/sys/kernel/random/boot_id".into(), source };
        let boot_id = grid_os::clock::boot_id().map_err(|e| clock(std::io::Error::other(e)))?;
        let hierarchies = Hierarchies::detect().map_err(|source| AgentError::Io {
            action: "read",
            path: "/proc/self/mountinfo".into(),
            source,
        })?;
        let criu = Criu::find(&cfg.criu)?;
        let lock = crate::lock::take(&cfg.state_dir)?;
        let ledger = Ledger::open(&cfg.state_dir.join("ledger.db"))?;
        let group = hierarchies.group(&cfg.cgroup, &BOUNDED);
        let bounds = cfg.lends.and_then(|_| node_cgroup(&group));
        let faults = Faults::of(&cfg.state_dir);
        let node = NodeReader::new(bounds).map_err(|e| clock(std::io::Error::other(e)))?;
        Ok(Self {
            proc: ProcRoot::new("/proc"),
            sample: None,
            gpu: GpuReader::open(),
            links: HashMap::new(),
            peer_boots: HashMap::new(),
            sources: BTreeMap::new(),
            incoming: BTreeMap::new(),
            leases: BTreeMap::new(),
            shadows: BTreeMap::new(),
            lost_nodes: BTreeSet::new(),
            told_facts: None,
            word: OwnersWord::of(&cfg.state_dir),
            sleep: ledger.sleep()?.unwrap_or_default(),
            heeded: None,
            stop_of_head: None,
            criu_has: None,
            early: HashMap::new(),
            unknown_of: BTreeMap::new(),
            passages: BTreeMap::new(),
            handed_out: HandedOut::default(),
            held: Held::default(),
            cfg,
            boot_id,
            hierarchies,
            criu,
            ledger,
            _lock: lock,
            faults,
            node,
            inputs,
        })
    }

    /// Picks up what the ledger knows.
    pub(crate) fn recover(&mut self) -> Result<(), AgentError> {
        self.recover_leases()?;
        self.recover_passages()?;
        let sources = self.source_rows()?;
        self.recover_destinations(&leaving(&sources))?;
        self.recover_sources(sources);
        self.recover_reclaimed();
        self.recover_shadows()?;
        Ok(())
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::LinkUp { party, link, boot_id } => self.link_up(party, link, boot_id),
            Input::LinkDown { party, outbox } => self.link_down(&party, &outbox),
            Input::Frame(frame) => self.route(frame),
            Input::Heard { frame, place } => {
                self.route(frame);
                drop(place);
            }
            Input::DataLink { attempt, from, stream } => self.data_link(&attempt, from, stream),
            Input::Dumped { attempt, outcome } => self.dumped(&attempt, outcome),
            Input::StageEnded { attempt, outcome } => self.stage_ended(&attempt, outcome),
            Input::Looked { attempt, result } => self.looked(&attempt, result),
            Input::DumpFailed { attempt, detail } => self.step_source(&attempt, SourceInput::DumpFailed { detail }),
            Input::ParkedChecked { attempt, stage_it, result } => self.parked_checked(&attempt, stage_it, result),
            Input::ParkedSent { attempt, result } => self.parked_sent(&attempt, result),
            Input::Deadline { attempt, armed } => self.deadline(&attempt, armed),
            Input::FenceExpired { attempt, armed } => self.fence_expired(&attempt, armed),
            Input::StreamLink(link) => self.stream_link(link),
            Input::FilesLink(link) => self.files_link(link),
            Input::ShadowCame { shadow, control } => self.shadow_came(&shadow, control),
            Input::ShadowEnded { shadow } => self.shadow_ended(&shadow),
            Input::InitEnded { attempt } => self.init_ended(&attempt),
            Input::RootEnded { attempt, patience } => self.root_ended(&attempt, patience),
            Input::LeaseTimer { lease, epoch } => self.lease_timer(&lease, epoch),
            Input::StopChanged => self.stop_changed(),
            Input::LendChanged => self.lend_changed(),
            Input::Tick => self.tick(),
        }
        self.stop_settled();
        self.answer_owner();
    }

    pub(crate) fn receive(&mut self, frame: Frame) {
        match (frame.body, frame.from) {
            (Body::Request { id, request }, Party::Daemon) => {
                let result = self.answer(*request).map(Box::new).map_err(|reason| Refusal { reason });
                self.say(Party::Daemon, Body::Response { id, result });
            }
            (Body::Down { message, stage, ticket }, Party::Agent(from)) => {
                self.hold_ticket(message.attempt(), ticket);
                self.heed_source(from, message, stage.map(|s| *s));
            }
            (Body::Up { message }, Party::Agent(from)) => self.heed_destination(&from, message),
            (Body::Stop { stop }, Party::Agent(from)) => self.heed_head_stop(&from, stop),
            (Body::StopHeeded { answer }, Party::Agent(from)) => self.stop_heeded_by(&from, &answer),
            (Body::Listens { attempt, at }, Party::Agent(from)) => self.heed_listens(&from, &attempt, &at),
            (Body::Files { attempt, word }, Party::Agent(from)) => self.heed_files_word(&from, attempt, word),
            (Body::Shadow { attempt, word }, Party::Agent(from)) => self.heed_shadow_word(from, attempt, word),
            _ => {}
        }
    }

    fn answer(&mut self, request: Request) -> Result<Answer, Reason> {
        match request {
            Request::Processes | Request::Trees { .. } if !self.is_hub() => {
                // A head asks for its own node's; a lender's processes are nobody's business.
                Err(Reason::new(ReasonCode::Owner, format!("the processes of {} are its own", self.cfg.node)))
            }
            Request::Processes => self.processes(),
            Request::Trees { roots } => self.trees(&roots),
            Request::OpenLease { lease } => self.open_lease(lease),
            Request::ExtendLease { lease, remaining, epoch } => self.extend_lease(&lease, remaining, epoch),
            Request::CloseLease { lease, force } => self.close_lease(&lease, force),
            Request::ReclaimLease { lease, freeze } => self.reclaim_lease(&lease, freeze),
            Request::Machine { user } => Ok(Answer::Machine { facts: Box::new(self.machine(user.as_ref())) }),
            Request::Holdings => Ok(Answer::Holdings {
                leases: self.lease_holdings(),
                trees: self.tree_holdings(),
                attempts: self.attempt_holdings(),
            }),
            Request::StartMove { order, ticket } => {
                self.hold_ticket(&order.attempt, ticket);
                self.start_move(*order)
            }
            Request::PassOn { attempt, passage } => self.pass_on(attempt, passage),
            Request::LoseNode { node } => self.lose_node(node),
            Request::CancelMove { attempt } => self.cancel_move(&attempt),
            Request::ResolveMove { attempt, decision } => self.resolve_move(&attempt, decision),
        }
    }

    fn tick(&mut self) {
        self.look_at_owner();
        self.carry_out_word();
        self.tell_facts();
        self.tick_sources();
        self.tick_destinations();
        self.tick_shadows();
        self.tick_listens();
        self.tick_files();
        self.tick_sleep();
    }

    pub(crate) fn group(&self, below: &str, controllers: &[Controller]) -> Group {
        self.hierarchies.group(&format!("{}/{below}", self.cfg.cgroup), controllers)
    }

    /// Runs `input` through the queue after a pause on CLOCK_BOOTTIME, which counts while the machine sleeps.
    pub(crate) fn after(&self, pause: Duration, input: Input) {
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            grid_os::wait::sleep_boottime(pause).await;
            let _ = inputs.send(input);
        });
    }
}

fn node_cgroup(group: &Group) -> Option<NodeCgroup> {
    Some(NodeCgroup {
        cpu: group.dir(Controller::Cpu)?,
        cpuacct: group.dir(Controller::CpuAcct)?,
        memory: group.dir(Controller::Memory)?,
    })
}

pub(crate) fn make_private_dir(path: &Path) -> Result<(), AgentError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(path).map_err(|source| AgentError::Io {
        action: "create",
        path: path.to_owned(),
        source,
    })
}
