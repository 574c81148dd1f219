//! What the configuration says, as data with defaults. Reading and explaining it is `grid_core::config`.

use crate::ids::NodeName;
use crate::units::{Bytes, MilliCpu, Millis, Resources};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The whole configuration of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Name of the cluster.
    pub name: String,
    /// The nodes; exactly one is the head.
    pub nodes: Vec<NodeConfig>,
    /// How decisions are made.
    pub policy: Policy,
}

/// How workers are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// All of them are made on the head's machine, each in namespaces of its own.
    #[default]
    Local,
    /// Each is another machine, by the user's own ssh.
    Ssh,
}

/// Which files a process sees on a worker that is another machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Files {
    /// The worker's own: what it uses must be the same there.
    #[default]
    Same,
    /// The head's, under their own paths.
    Home,
}

/// How and where workers run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Engine {
    /// How they are reached.
    pub kind: EngineKind,
    /// Folder on a worker below which grid keeps what it has there.
    pub directory: String,
    /// Configuration of ssh in place of the user's own.
    pub ssh_config: Option<String>,
    /// Which files a process sees there.
    #[serde(default)]
    pub files: Files,
    /// Folders that are the same on head and workers, where the head's files are seen otherwise.
    #[serde(default)]
    pub shared_paths: Vec<String>,
    /// Folders that each worker has for itself, where the head's files are seen otherwise.
    #[serde(default)]
    pub local_paths: Vec<String>,
    /// Home being away for longer is an I/O error for who uses its files; none: they wait.
    #[serde(default)]
    pub files_patience: Option<Millis>,
    /// Bytes of memory a second that leave a machine for another at most.
    #[serde(default)]
    pub link_rate: Option<Bytes>,
    /// Address and port of the head at which its workers' connections are accepted directly, beside ssh.
    #[serde(default)]
    pub link_listen: Option<String>,
    /// What the workers dial for it, where that is another one.
    #[serde(default)]
    pub link_dial: Option<String>,
}

/// The way to the head that needs no ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectLink {
    /// Where the head listens.
    pub listen: SocketAddr,
    /// What the workers dial: host or address, and port.
    pub dial: String,
}

impl Engine {
    /// Bytes of memory a second that leave a machine at most, where what moves leaves it.
    pub fn link_limit(&self) -> Option<Bytes> {
        self.link_rate.filter(|_| self.kind == EngineKind::Ssh)
    }

    /// The direct way to the head, where there is one.
    pub fn direct_link(&self) -> Option<DirectLink> {
        let listen = self.link_listen.as_ref().filter(|_| self.kind == EngineKind::Ssh)?;
        let dial = self.link_dial.as_ref().unwrap_or(listen).clone();
        Some(DirectLink { listen: listen.parse().ok()?, dial })
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            kind: EngineKind::default(),
            directory: "/var/lib/grid/workers".to_owned(),
            ssh_config: None,
            files: Files::default(),
            shared_paths: Vec::new(),
            local_paths: Vec::new(),
            files_patience: None,
            link_rate: None,
            link_listen: None,
            link_dial: None,
        }
    }
}

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The node whose work is relieved (`master` in the original).
    Head,
    /// A node that lends.
    Worker,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeConfig {
    /// Name.
    pub name: NodeName,
    /// Host name or address.
    pub host: String,
    /// ssh port.
    pub port: u16,
    /// User to log in as.
    pub user: Option<String>,
    /// Head or worker.
    pub role: Role,
    /// CPUs as configured; detection wins and differences are shown.
    pub cpu_count: Option<u32>,
    /// Memory as configured.
    pub memory: Option<Bytes>,
    /// GPUs as configured.
    pub gpu_count: Option<u32>,
    /// Free words for placement.
    pub tags: Vec<String>,
    /// Private key for ssh.
    pub ssh_key_path: Option<String>,
    /// What it may lend.
    pub sharing: NodeSharing,
}

/// What a node may lend at most, and how gladly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeSharing {
    /// It lends at all.
    pub can_share: bool,
    /// `lending_limit`; a part that is `None` is limited by the node alone.
    pub max_cpu: Option<MilliCpu>,
    /// Memory part of the limit.
    pub max_memory: Option<Bytes>,
    /// GPU part of the limit.
    pub max_gpu: Option<u32>,
    /// Among lenders that fit equally well the higher one lends first.
    pub priority: f64,
}

impl Default for NodeSharing {
    fn default() -> Self {
        Self { can_share: true, max_cpu: None, max_memory: None, max_gpu: None, priority: 1.0 }
    }
}

/// D1–D8: where a process goes that shall be relieved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Always the recommended worker.
    OffloadOnly,
    /// The head's own or boosted capacity if it fits and the process may share, else a worker.
    ShareAndOffload,
    /// By memory rule, fit and mean pressure.
    #[default]
    DynamicBalancing,
}

/// How carefully nodes lend: sets the reserve that a lender keeps free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SharingPolicy {
    /// Twice the reserve.
    Conservative,
    /// The configured reserve.
    #[default]
    Balanced,
    /// Half the reserve.
    Aggressive,
    /// The configured reserve, on the peak of recent use in place of the last sample.
    Predictive,
}

/// Whether grid moves by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoMode {
    /// Never looks.
    Off,
    /// Says what it would do and does nothing.
    #[default]
    Observe,
    /// Does it.
    On,
}

/// Fractions (0 to 1) between which pressure is high or low.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// CPU, high.
    pub cpu_high: f64,
    /// CPU, low.
    pub cpu_low: f64,
    /// Memory, high.
    pub memory_high: f64,
    /// Memory, low.
    pub memory_low: f64,
    /// GPU, high.
    pub gpu_high: f64,
    /// GPU, low.
    pub gpu_low: f64,
    /// Part of a lender's capacity that is kept free.
    pub excess: f64,
}

/// Automatic offloading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AutoOffload {
    /// Whether.
    pub mode: AutoMode,
    /// Only processes of the head.
    pub head_only: bool,
    /// Trigger, percent of the head's CPU.
    pub cpu_percent: f64,
    /// Trigger, percent of the head's memory.
    pub memory_percent: f64,
    /// Trigger, percent of a GPU.
    pub gpu_percent: f64,
    /// Beyond this percentage of memory it is critical.
    pub critical_percent: f64,
    /// How often to look.
    pub check_interval: Millis,
    /// A process that was moved or refused is left alone for so long.
    pub cooldown: Millis,
    /// At most so many for each activation of a boost.
    pub per_boost: u32,
    /// At most so many for each round of pressure.
    pub per_round: u32,
    /// At most so many for a critical round.
    pub per_critical_round: u32,
    /// Token bucket over activations: so many at once …
    pub burst: u32,
    /// … and one more after each such span.
    pub refill: Millis,
}

/// A rule of the user's about processes, first match wins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessRule {
    /// Name of the rule, shown in reasons.
    pub name: String,
    /// Matches where the executable's path matches this glob (`*` any run, `?` any one).
    pub exe: Option<String>,
    /// … and the short name.
    pub comm: Option<String>,
    /// … and some argument.
    pub arg: Option<String>,
    /// … and the owner's name or number.
    pub user: Option<String>,
    /// What it is, in place of the built-in classification.
    pub kind: Option<ProcessKind>,
    /// `allow`: grid may choose it though a default protects it. `protect`: never.
    pub action: Option<RuleAction>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleAction {
    /// grid may choose it by itself.
    Allow,
    /// grid never chooses it by itself.
    Protect,
}

/// What a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessKind {
    /// Trains a model.
    Training,
    /// Serves a model.
    Inference,
    /// Transforms data.
    DataProcessing,
    /// Computes.
    Compute,
    /// Mostly reads and writes.
    Io,
    /// Batch work without a terminal that is none of the above.
    Batch,
    /// Talks with a person.
    Interactive,
    /// Serves others and never ends.
    Daemon,
}

/// What becomes of the TCP connections of a process that moves: no other node has its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TcpPolicy {
    /// It stays while it has one.
    #[default]
    Refuse,
    /// They are closed, and the process sees that at its next call.
    Close,
}

/// What the detector leaves alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    /// Younger than this.
    pub min_age: Millis,
    /// Smaller than this, whatever its CPU.
    pub min_memory: Bytes,
    /// Less CPU than this and less memory than `worth_memory`.
    pub worth_cpu: MilliCpu,
    /// See `worth_cpu`.
    pub worth_memory: Bytes,
    /// Users whose processes are never chosen, by name or number.
    pub protected_users: Vec<String>,
    /// Established TCP connections.
    #[serde(default)]
    pub tcp_connections: TcpPolicy,
    /// Rules in order.
    pub rules: Vec<ProcessRule>,
}

/// What happens with guests when a lease ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtEnd {
    /// Home if it fits whole there, else it stays and the lease is overdue.
    #[default]
    Recall,
    /// Stays; the lease is overdue.
    Stay,
    /// Parked on its lender's disk; where that fails it stays and the lease is overdue.
    Park,
    /// Ended by force.
    End,
}

/// Limits of boosts and moves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Duration of a boost that names none.
    pub boost_duration: Millis,
    /// Longest duration.
    pub max_boost_duration: Millis,
    /// Longest predicted freeze of a move.
    pub max_frozen: Millis,
    /// A plan is valid for so long.
    pub plan_validity: Millis,
    /// Each agent tells the head of its node so often.
    #[serde(default = "every_second")]
    pub facts_every: Millis,
    /// Facts older than this are unknown.
    pub stale_after: Millis,
    /// Default of `--at-end`.
    pub at_end: AtEnd,
    /// Kept records of ended boosts and offloads.
    pub history: u32,
}

fn every_second() -> Millis {
    Millis(1_000)
}

/// Who may do what, and as whom the head's daemon runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    /// User of the head's daemon, by name or number; none: the system user `grid` where there is one, else a number
    /// that nobody uses.
    pub daemon: Option<String>,
    /// Members of this group, by name or number, may request, extend and release boosts.
    pub boost_group: String,
}

/// Everything that steers decisions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Sharing is on.
    pub sharing_enabled: bool,
    /// Where relieved processes go.
    pub mode: Mode,
    /// How carefully nodes lend.
    pub sharing: SharingPolicy,
    /// Pressure.
    pub thresholds: Thresholds,
    /// Automatic offloading.
    pub auto_offload: AutoOffload,
    /// Detector.
    pub detector: Detector,
    /// Limits.
    pub limits: Limits,
    /// Users and groups.
    #[serde(default)]
    pub users: Users,
    /// How workers are reached.
    #[serde(default)]
    pub engine: Engine,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            cpu_high: 0.8,
            cpu_low: 0.3,
            memory_high: 0.8,
            memory_low: 0.3,
            gpu_high: 0.8,
            gpu_low: 0.3,
            excess: 0.2,
        }
    }
}

impl Default for AutoOffload {
    fn default() -> Self {
        Self {
            mode: AutoMode::Observe,
            head_only: true,
            cpu_percent: 80.0,
            memory_percent: 70.0,
            gpu_percent: 90.0,
            critical_percent: 95.0,
            check_interval: Millis(5_000),
            cooldown: Millis(30_000),
            per_boost: 5,
            per_round: 2,
            per_critical_round: 5,
            burst: 3,
            refill: Millis(10_000),
        }
    }
}

impl Default for Detector {
    fn default() -> Self {
        Self {
            min_age: Millis(60_000),
            min_memory: Bytes(10 << 20),
            worth_cpu: MilliCpu(50),
            worth_memory: Bytes(1 << 30),
            protected_users: Vec::new(),
            tcp_connections: TcpPolicy::Refuse,
            rules: Vec::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            boost_duration: Millis(3_600_000),
            max_boost_duration: Millis(7 * 86_400_000),
            max_frozen: Millis(10_000),
            plan_validity: Millis(60_000),
            facts_every: every_second(),
            stale_after: Millis(5_000),
            at_end: AtEnd::Recall,
            history: 100,
        }
    }
}

impl Default for Users {
    fn default() -> Self {
        Self { daemon: None, boost_group: "grid".to_owned() }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            sharing_enabled: true,
            mode: Mode::default(),
            sharing: SharingPolicy::default(),
            thresholds: Thresholds::default(),
            auto_offload: AutoOffload::default(),
            detector: Detector::default(),
            limits: Limits::default(),
            users: Users::default(),
            engine: Engine::default(),
        }
    }
}

impl SharingPolicy {
    /// The factor on the reserve that a lender keeps free.
    pub fn reserve_factor(self) -> f64 {
        match self {
            SharingPolicy::Conservative => 2.0,
            SharingPolicy::Balanced | SharingPolicy::Predictive => 1.0,
            SharingPolicy::Aggressive => 0.5,
        }
    }
}

impl NodeSharing {
    /// The lending limit on a node of this size.
    pub fn lending_limit(&self, total: Resources) -> Resources {
        if !self.can_share {
            return Resources::default();
        }
        Resources {
            cpu: self.max_cpu.unwrap_or(total.cpu).min(total.cpu),
            memory: self.max_memory.unwrap_or(total.memory).min(total.memory),
            gpu: self.max_gpu.unwrap_or(total.gpu).min(total.gpu),
        }
    }
}
