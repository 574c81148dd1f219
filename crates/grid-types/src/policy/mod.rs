//! What the configuration says, as data with defaults. Reading and explaining it is `grid_core::config`.

mod detector;
mod engine;

pub use detector::{Detector, ProcessKind, ProcessRule, RuleAction, TcpPolicy};
pub use engine::{DirectLink, Engine, EngineKind, Files};

use crate::ids::NodeName;
use crate::units::{Bytes, MilliCpu, Millis, Resources};
use serde::{Deserialize, Serialize};

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
    /// CPUs as configured; nothing compares them with the machine's.
    pub cpu_count: Option<u32>,
    /// Memory as configured.
    pub memory: Option<Bytes>,
    /// GPUs as configured.
    pub gpu_count: Option<u32>,
    /// Free words, accepted and not used.
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
    /// Accepted; the same as balanced.
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
    /// Accepted, not used: only processes of the head move by themselves.
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
