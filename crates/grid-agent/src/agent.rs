//! The agent's one task: takes inputs in order, owns all state, answers requests.

use crate::destination::{Incoming, StageOutcome};
use crate::faults::Faults;
use crate::lease::Lease;
use crate::ledger::Ledger;
use crate::lend::OwnersWord;
use crate::link::{Greeter, Outbox, Tokens, bind_unix, keep_dialling, serve_unix, serve_workers, tracing_line};
use crate::lock::AgentLock;
use crate::preflight::foresee;
use crate::shadow::{Shadow, StreamLink};
use crate::source::{DumpOutcome, Heeded, Outgoing, leaving};
use crate::tickets::{HandedOut, Held};
use crate::{AgentConfig, AgentError, AgentRole};
use grid_core::handover::{SourceAction, SourceInput};
use grid_core::sleep::Sleep;
use grid_os::cgroup::{Controller, Group, Hierarchies};
use grid_os::criu::Criu;
use grid_os::gpu::GpuReader;
use grid_os::node::{NodeCgroup, NodeReader};
use grid_os::proc::{ProcRoot, Sample};
use grid_os::socket::Socket;
use grid_types::facts::{Namespaces, TreeFacts};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::streams::ShadowId;
use grid_types::wire::{Answer, Body, Frame, Notice, Party, Passage, Refusal, Request};
use grid_types::{AttemptId, LeaseId, NodeName};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind};
use tokio::sync::{mpsc, watch};

/// What lives here is joined with its shadow within this, before the agent ends.
const JOINED_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks at that.
const LOOK: Duration = Duration::from_millis(10);
/// Less than between two ticks.
const TICK_JITTER: Duration = Duration::from_millis(300);

/// Controllers of a group that bounds work; a hold needs the freezer alone.
pub(crate) const BOUNDED: [Controller; 5] =
    [Controller::Cpu, Controller::CpuAcct, Controller::Memory, Controller::Freezer, Controller::Kill];

/// Everything that can happen to an agent.
pub(crate) enum Input {
    LinkUp {
        party: Party,
        outbox: Outbox,
        boot_id: Option<String>,
        /// What the other end speaks, where it is a worker's.
        protocol: Option<u32>,
    },
    LinkDown {
        party: Party,
        outbox: Outbox,
    },
    Frame(Frame),
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
    sample: Option<Sample>,
    pub(crate) node: NodeReader,
    gpu: GpuReader,
    links: HashMap<Party, Outbox>,
    pub(crate) peer_boots: HashMap<NodeName, String>,
    /// What the agents of workers speak (the hub's).
    protocols: HashMap<NodeName, u32>,
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
    /// Attempts that may pass from one worker to another (the hub's).
    pub(crate) passages: BTreeMap<AttemptId, Passage>,
    /// Leave to carry memory that was given to workers (the hub's).
    handed_out: HandedOut,
    /// The same, as it came here (a worker's).
    pub(crate) held: Held,
    pub(crate) inputs: mpsc::UnboundedSender<Input>,
}

/// Runs an agent until its process is ended. Told SIGHUP, a hub reads anew from `file`, where its configuration is, who its
/// workers are.
pub async fn run(cfg: AgentConfig, file: PathBuf) -> Result<(), AgentError> {
    let hangup = signal(SignalKind::hangup(), "SIGHUP")?;
    let (inputs, rx) = mpsc::unbounded_channel();
    let mut agent = Agent::new(cfg, inputs.clone())?;
    agent.recover()?;
    agent.watch_stop();
    agent.watch_lend();
    let (tokens, workers) = watch::channel(agent.cfg.tokens());
    tokio::spawn(read_anew(hangup, file, tokens));
    let greeter = Greeter {
        tokens: workers,
        node: agent.cfg.node.clone(),
        boot_id: agent.boot_id.clone(),
        handed_out: agent.handed_out.clone(),
        inputs: inputs.clone(),
    };
    match agent.cfg.role.clone() {
        AgentRole::Hub { listen, socket, daemon_uid, .. } => {
            for address in listen {
                serve_workers(&address, greeter.clone(), daemon_uid).await?;
            }
            tokio::spawn(serve_unix(bind_unix(&socket, daemon_uid)?, greeter, daemon_uid));
        }
        AgentRole::Spoke { hub, .. } => {
            tokio::spawn(keep_dialling(hub, greeter));
        }
    }
    tokio::spawn(async move {
        // A second sample soon, so that the use of CPU is known from the start.
        for pause in [0, 250] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if inputs.send(Input::Tick).is_err() {
                return;
            }
        }
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            if inputs.send(Input::Tick).is_err() {
                return;
            }
        }
    });
    agent.serve(rx, signal(SignalKind::terminate(), "SIGTERM")?).await;
    Ok(())
}

fn signal(kind: SignalKind, name: &'static str) -> Result<Signal, AgentError> {
    let waits = tokio::signal::unix::signal(kind);
    waits.map_err(|source| AgentError::Io { action: "wait for", path: name.into(), source })
}

/// Who the workers are, each time somebody says that it may have changed.
async fn read_anew(mut hangup: Signal, file: PathBuf, tokens: watch::Sender<Tokens>) {
    loop {
        // The first time too: what was said before somebody listened may have gone unheard.
        let text = std::fs::read_to_string(&file).map_err(|e| e.to_string());
        match text.and_then(|text| serde_json::from_str::<AgentConfig>(&text).map_err(|e| e.to_string())) {
            Ok(config) => drop(tokens.send_replace(config.tokens())),
            Err(e) => tracing_line(&format!("{}: {e}; its workers are those from before", file.display())),
        }
        if hangup.recv().await.is_none() {
            return;
        }
    }
}

impl Agent {
    /// Until it is told to end, and every tree that lives here is joined with its shadow: then the two need no agent.
    async fn serve(&mut self, mut inputs: mpsc::UnboundedReceiver<Input>, mut told: Signal) {
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

    fn new(cfg: AgentConfig, inputs: mpsc::UnboundedSender<Input>) -> Result<Self, AgentError> {
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
            protocols: HashMap::new(),
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
    fn recover(&mut self) -> Result<(), AgentError> {
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
            Input::LinkUp { party, outbox, boot_id, protocol } => self.link_up(party, outbox, boot_id, protocol),
            Input::LinkDown { party, outbox } => self.link_down(&party, &outbox),
            Input::Frame(frame) => self.route(frame),
            Input::DataLink { attempt, from, stream } => self.data_link(&attempt, from, stream),
            Input::Dumped { attempt, outcome } => self.dumped(&attempt, outcome),
            Input::StageEnded { attempt, outcome } => self.stage_ended(&attempt, outcome),
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

    fn link_up(&mut self, party: Party, outbox: Outbox, boot_id: Option<String>, protocol: Option<u32>) {
        self.links.insert(party.clone(), outbox);
        self.told_facts = None;
        let Party::Agent(node) = party else {
            let nodes: Vec<NodeName> = self.agents_up().cloned().collect();
            for node in nodes {
                let protocol = self.protocols.get(&node).copied();
                self.notice(Notice::Link { node, up: true, protocol });
            }
            return;
        };
        self.lost_nodes.remove(&node);
        let before = boot_id.clone().and_then(|b| self.peer_boots.insert(node.clone(), b));
        let rebooted = before.is_some() && before != boot_id;
        protocol.and_then(|spoken| self.protocols.insert(node.clone(), spoken));
        self.notice(Notice::Link { node: node.clone(), up: true, protocol });
        self.tell_stop(Some(&node));
        self.peer_up(&node, rebooted);
    }

    pub(crate) fn agents_up(&self) -> impl Iterator<Item = &NodeName> {
        self.links.keys().filter_map(|p| match p {
            Party::Agent(node) => Some(node),
            Party::Daemon => None,
        })
    }

    fn link_down(&mut self, party: &Party, outbox: &Outbox) {
        // A newer link of the same party may be up already.
        if self.links.get(party).is_some_and(|o| o.same_channel(outbox)) {
            self.links.remove(party);
            if let Party::Agent(node) = party {
                self.notice(Notice::Link { node: node.clone(), up: false, protocol: None });
                self.peer_lost(node);
            }
        }
    }

    /// Frames for others are passed on (the hub's work); ours are handled.
    fn route(&mut self, frame: Frame) {
        let me = Party::Agent(self.cfg.node.clone());
        if frame.to == me {
            return self.receive(frame);
        }
        if let (Err(Body::Request { id, .. }), from) = (self.deliver(frame.to.clone(), frame.clone()), frame.from) {
            let detail = match &frame.to {
                Party::Agent(node) => format!("{node} has no link to this hub"),
                Party::Daemon => "the daemon has no link".to_owned(),
            };
            let refusal = Refusal { reason: Reason::new(ReasonCode::Silent, detail) };
            self.say(from, Body::Response { id, result: Err(refusal) });
        }
    }

    /// Hands a frame to the link that leads to `to`; a spoke's only link leads everywhere.
    fn deliver(&self, to: Party, mut frame: Frame) -> Result<(), Body> {
        // Both ends of an attempt can be here: what is parked on the disk of the node where it lives.
        if to == Party::Agent(self.cfg.node.clone()) {
            let _ = self.inputs.send(Input::Frame(frame));
            return Ok(());
        }
        let link = match self.cfg.role {
            AgentRole::Hub { .. } => self.links.get(&to),
            AgentRole::Spoke { .. } => self.links.values().next(),
        };
        if let (true, Party::Agent(node)) = (self.is_hub(), &to) {
            self.handed_out.put_into(&mut frame, node);
        }
        match link {
            Some(outbox) => outbox.send(frame).map_err(|e| e.0.body),
            None => Err(frame.body),
        }
    }

    /// Says something; it may get lost, and every speaker copes with that.
    pub(crate) fn say(&self, to: Party, body: Body) {
        let from = Party::Agent(self.cfg.node.clone());
        let _ = self.deliver(to.clone(), Frame { from, to, body });
    }

    pub(crate) fn notice(&self, notice: Notice) {
        self.say(Party::Daemon, Body::Notice { notice: Box::new(notice) });
    }

    /// The node where shadows are: the hub, which is this one or at the other end of the only link.
    pub(crate) fn home_node(&self) -> Option<NodeName> {
        if self.is_hub() { Some(self.cfg.node.clone()) } else { self.agents_up().next().cloned() }
    }

    pub(crate) fn knows(&self, party: &Party) -> bool {
        self.links.contains_key(party)
    }

    /// A link to this node's agent is there.
    pub(crate) fn reaches(&self, node: &NodeName) -> bool {
        match self.cfg.role {
            AgentRole::Hub { .. } => self.links.contains_key(&Party::Agent(node.clone())),
            AgentRole::Spoke { .. } => !self.links.is_empty(),
        }
    }

    fn receive(&mut self, frame: Frame) {
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

    fn processes(&mut self) -> Result<Answer, Reason> {
        self.resample()?;
        let stats = self.sample.as_ref().map(|s| s.procs.clone()).unwrap_or_default();
        let tree_roots = self.tree_roots().into_iter().collect();
        Ok(Answer::Processes { stats, own: self.own_namespaces(), grid_pids: self.grid_pids(), tree_roots })
    }

    pub(crate) fn own_namespaces(&self) -> Namespaces {
        self.proc.deep(std::process::id() as i32).map(|d| d.ns).unwrap_or_default()
    }

    /// Roots of the trees that came here and live here.
    pub(crate) fn tree_roots(&self) -> std::collections::BTreeSet<i32> {
        self.incoming.values().filter_map(Incoming::living_root).collect()
    }

    /// Processes that run grid's own program.
    pub(crate) fn grid_pids(&self) -> Vec<i32> {
        let Some(sample) = &self.sample else { return Vec::new() };
        let candidates = sample.procs.iter().filter(|p| p.comm.starts_with("grid") || p.comm == "criu");
        candidates.map(|p| p.id.pid).collect()
    }

    fn resample(&mut self) -> Result<(), Reason> {
        let sample = self.proc.all_stats(self.sample.as_ref());
        self.sample = Some(sample.map_err(|e| Reason::new(ReasonCode::Unknown, e.to_string()))?);
        Ok(())
    }

    fn trees(&mut self, roots: &[i32]) -> Result<Answer, Reason> {
        self.resample()?;
        Ok(Answer::Trees { trees: roots.iter().filter_map(|pid| self.tree(*pid).ok()).collect() })
    }

    /// The tree under this process as it is in the last sample, with its GPU memory.
    fn tree(&self, pid: i32) -> Result<TreeFacts, Reason> {
        let unknown = |e: String| Reason::new(ReasonCode::Unknown, e);
        let sample = self.sample.as_ref().ok_or_else(|| unknown("nothing was sampled yet".into()))?;
        let mut tree = self.proc.tree(sample, pid).map_err(|e| unknown(e.to_string()))?;
        if let Ok(users) = self.gpu.processes() {
            grid_os::gpu::attribute(&mut tree, &users);
        }
        tree.foreseen = foresee(&tree).err();
        let Some((came_by, stage)) =
            self.came_by(pid).and_then(|a| self.incoming.get_key_value(&a)).map(|(a, i)| (a, &i.record.stage))
        else {
            return Ok(tree);
        };
        self.add_locks(came_by, &mut tree);
        // The images that brought it showed its filter: what it made of its environment since does not matter.
        tree.root.deep.iter_mut().for_each(|deep| deep.claims_run |= stage.filtered);
        if stage.private_tmp {
            tree.private_tmp =
                Some(grid_os::private_tmp::used(pid).map_err(|e| unknown(format!("its own /tmp: {e}")))?);
        }
        Ok(tree)
    }

    /// A fresh look at one tree.
    pub(crate) fn fresh_tree(&mut self, pid: i32) -> Result<TreeFacts, Reason> {
        self.resample()?;
        self.tree(pid)
    }

    fn tick(&mut self) {
        self.look_at_owner();
        self.carry_out_word();
        let linked = self.links.contains_key(&Party::Daemon) || matches!(self.cfg.role, AgentRole::Spoke { .. });
        if linked && self.facts_are_due() {
            match self.node.read(&self.cfg.node, self.gpu.read()) {
                Ok(mut facts) => {
                    self.faults.alter(&mut facts);
                    facts.lending = self.cfg.lends.map(|_| self.lending());
                    // Use is known from the second look on, which is soon after the first.
                    self.told_facts = facts.cpu_used.map(|_| Instant::now());
                    facts.link = self.cfg.link.as_deref().and_then(grid_os::link::read);
                    let leases = self.lease_holdings();
                    self.notice(Notice::Facts { facts: Box::new(facts), leases });
                }
                Err(e) => tracing_line(&e.to_string()),
            }
        }
        self.tick_sources();
        self.tick_destinations();
        self.tick_shadows();
        self.tick_listens();
        self.tick_files();
        self.tick_sleep();
    }

    fn facts_are_due(&self) -> bool {
        let every = Duration::from_millis(self.cfg.facts_every.map_or(0, |every| every.0));
        // Ticks come a little late now and then.
        self.told_facts.is_none_or(|told| told.elapsed() + TICK_JITTER >= every)
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
