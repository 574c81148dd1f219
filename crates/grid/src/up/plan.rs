//! What an embedded cluster consists of: names, addresses, limits, paths. Decided here, made elsewhere.

use super::{Account, UpError};
use grid_agent::{AgentConfig, AgentRole};
use grid_core::config::Members;
use grid_head::HeadConfig;
use grid_os::socket::Address;
use grid_types::exit::FaultClass;
use grid_types::policy::{Config, EngineKind, NodeConfig, Role};
use grid_types::stop::StopPlace;
use grid_types::{Bytes, MilliCpu, NodeName, Resources};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Port of the head's agent on its end of each veth pair.
const HUB_PORT: u16 = 7420;
/// The port that ssh takes where none is said: left to the user's own configuration.
const SSH_PORT: u16 = 22;
/// What a worker's own agent needs beside what it lends.
const AGENT_ROOM: Resources = Resources { cpu: MilliCpu(1000), memory: Bytes(1 << 30), gpu: 0 };
/// Part of a worker that is kept free; small, because what it lends is already less than what it has.
const EXCESS: f64 = 0.05;

/// Sizes of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalSize {
    /// What each worker lends at most.
    pub lends: Resources,
    /// What the head has: the machine.
    pub head: Resources,
}

impl LocalSize {
    /// Each worker lends as many CPUs as the machine has, and a quarter of its memory in whole GiB.
    pub fn of_machine(cpus: u32, memory: Bytes) -> Self {
        let gib = 1u64 << 30;
        let lent = (memory.0 / 4 / gib).max(1) * gib;
        let cpu = MilliCpu(cpus.max(1) * 1000);
        Self { lends: Resources { cpu, memory: Bytes(lent), gpu: 0 }, head: Resources { cpu, memory, gpu: 0 } }
    }
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodePlan {
    /// Its name.
    pub name: NodeName,
    /// What it lends in all.
    pub lends: Resources,
    /// Limits of the node's control group: that, and room for its agent.
    pub limits: Resources,
    /// Name of the head's end of its veth pair.
    pub veth_head: String,
    /// Name of the other end, in the worker's network namespace.
    pub veth_node: String,
    /// Address of the head's end.
    pub address_head: Ipv4Addr,
    /// Address of the other end.
    pub address_node: Ipv4Addr,
}

/// One worker that is another machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RemotePlan {
    /// Its name.
    pub name: NodeName,
    /// What it lends in all.
    pub lends: Resources,
    /// Its host, as the user's ssh knows it.
    pub host: String,
    /// Its port, where it is not ssh's own choice.
    pub port: Option<u16>,
    /// The user to log in as, where it is not ssh's own choice.
    pub user: Option<String>,
    /// The private key, where it is not ssh's own choice.
    pub key: Option<PathBuf>,
    /// sudo may be used there.
    pub sudo: bool,
}

/// What a node that lends this may use: its agent needs room too.
pub(super) fn with_room(lends: &Resources) -> Resources {
    lends.saturating_add(&AGENT_ROOM)
}

/// The cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Its configuration.
    pub config: Config,
    /// Relative path of its control groups.
    pub cgroup: String,
    /// The workers that are made on this machine.
    pub nodes: Vec<NodePlan>,
    /// The workers that are machines of their own.
    #[serde(default)]
    pub remote: Vec<RemotePlan>,
    /// Its state's directory.
    pub state: PathBuf,
    /// CRIU's program.
    pub criu: PathBuf,
    /// This program.
    pub program: PathBuf,
    /// What was said of its nodes beside its configuration's file; already in `config` and `remote`.
    #[serde(default)]
    pub members: Members,
    /// As whom the head's daemon runs; chosen when the cluster starts.
    #[serde(default)]
    pub daemon: Option<Account>,
}

impl Plan {
    /// A cluster of `workers` on this machine.
    pub fn local(workers: u32, size: LocalSize, state: &Path, criu: PathBuf, program: PathBuf) -> Self {
        let mut config = grid_core::config::local(workers, "head", size.head, size.lends);
        config.policy.thresholds.excess = EXCESS;
        Self::of(config, state, criu, program)
    }

    /// A cluster of this configuration, all on this machine.
    pub fn of(config: Config, state: &Path, criu: PathBuf, program: PathBuf) -> Self {
        let tag = tag(state);
        if config.policy.engine.kind == EngineKind::Ssh {
            let remote = config.nodes.iter().filter(|n| n.role == Role::Worker).map(remote).collect();
            return Self {
                config,
                cgroup: cgroup(state),
                nodes: Vec::new(),
                remote,
                state: state.to_owned(),
                criu,
                program,
                members: Members::default(),
                daemon: None,
            };
        }
        let workers = config.nodes.iter().filter(|n| n.role == Role::Worker);
        let nodes = workers
            .zip(0u8..)
            .map(|(n, i)| {
                let total = Resources {
                    cpu: n.sharing.max_cpu.unwrap_or(MilliCpu(1000)),
                    memory: n.sharing.max_memory.unwrap_or(Bytes(1 << 30)),
                    gpu: 0,
                };
                NodePlan {
                    name: n.name.clone(),
                    lends: total,
                    limits: with_room(&total),
                    veth_head: format!("g{tag:04x}h{i}"),
                    veth_node: format!("g{tag:04x}n{i}"),
                    address_head: address(tag, i, 1),
                    address_node: address(tag, i, 2),
                }
            })
            .collect();
        Self {
            config,
            cgroup: cgroup(state),
            nodes,
            remote: Vec::new(),
            state: state.to_owned(),
            criu,
            program,
            members: Members::default(),
            daemon: None,
        }
    }

    /// Its workers are machines of their own.
    pub fn over_ssh(&self) -> bool {
        self.config.policy.engine.kind == EngineKind::Ssh
    }

    /// With what was said of its nodes while a cluster of this state ran; returns what its owner should know.
    pub fn join(&mut self, members: Members) -> Vec<String> {
        if !self.over_ssh() {
            // Of another cluster of this state, which may come back.
            self.members = members;
            return Vec::new();
        }
        let (config, members, notes) = members.join(self.config.clone());
        let before = std::mem::take(&mut self.remote);
        let sudo = |name: &NodeName| before.iter().any(|w| w.name == *name && w.sudo);
        let added = |name: &NodeName| members.added.iter().any(|a| a.node.name == *name && a.sudo);
        let workers = config.nodes.iter().filter(|n| n.role == Role::Worker);
        self.remote = workers.map(|n| RemotePlan { sudo: sudo(&n.name) || added(&n.name), ..remote(n) }).collect();
        (self.config, self.members) = (config, members);
        notes
    }

    /// The same with one worker more.
    pub fn with(&self, node: NodeConfig, sudo: bool) -> (Self, RemotePlan) {
        let (mut plan, worker) = (self.clone(), RemotePlan { sudo, ..remote(&node) });
        plan.config.nodes.push(node.clone());
        plan.remote.push(worker.clone());
        plan.members.add(node, sudo);
        (plan, worker)
    }

    /// The same without this worker.
    pub fn without(&self, name: &NodeName) -> Self {
        let mut plan = self.clone();
        if let Some(place) = plan.config.nodes.iter().position(|n| n.name == *name) {
            let node = plan.config.nodes.remove(place);
            plan.members.remove(&node);
        }
        plan.remote.retain(|worker| worker.name != *name);
        plan
    }

    /// Where everything is that grid has on this worker.
    pub fn folder_of(&self, worker: &RemotePlan) -> PathBuf {
        PathBuf::from(&self.config.policy.engine.directory).join(format!("{}-{}", self.cgroup, worker.name))
    }

    /// Takes other addresses where those that its tag gives are another cluster's on this machine. `taken`: the third
    /// bytes of 169.254.x.y that are in use.
    pub fn avoid(&mut self, taken: &std::collections::BTreeSet<u8>) {
        let own = self.nodes.first().map_or(1, |n| n.address_head.octets()[2]);
        let Some(free) = (own..=254).chain(1..own).find(|block| !taken.contains(block)) else { return };
        for node in &mut self.nodes {
            let moved = |a: Ipv4Addr| Ipv4Addr::new(169, 254, free, a.octets()[3]);
            (node.address_head, node.address_node) = (moved(node.address_head), moved(node.address_node));
        }
    }

    /// Sixteen bits that tell this cluster from others of the machine.
    pub fn tag(&self) -> u16 {
        tag(&self.state)
    }

    /// The daemon's own directory, with the journal.
    pub fn head_dir(&self) -> PathBuf {
        self.state.join("head")
    }

    /// The name of the head.
    pub fn head(&self) -> Result<NodeName, UpError> {
        let head = self.config.nodes.iter().find(|n| n.role == Role::Head);
        head.map(|n| n.name.clone()).ok_or_else(|| UpError::new(FaultClass::Config, "no node has the role head"))
    }

    /// Workers whose host is another machine by the configuration, and that are made here all the same.
    pub fn nodes_elsewhere(&self) -> Vec<String> {
        let here = |host: &str| matches!(host, "localhost" | "::1") || host.starts_with("127.");
        let workers = self.config.nodes.iter().filter(|n| n.role == Role::Worker && !self.over_ssh());
        workers
            .filter(|n| n.host != n.name.as_str() && !here(&n.host))
            .map(|n| format!("{} ({})", n.name, n.host))
            .collect()
    }

    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.state.join("head.sock")
    }

    /// The socket of the head's agent.
    pub fn agent_socket(&self) -> PathBuf {
        self.state.join("agent.sock")
    }

    /// Where the head's agent listens for workers that come through the channel.
    pub fn workers_socket(&self) -> PathBuf {
        self.state.join("workers.sock")
    }

    /// Volatile state of the head's agent; each worker has a `/run` of its own.
    pub fn run_dir(&self) -> PathBuf {
        run_dir(&self.state)
    }

    /// How the head's daemon is started.
    pub fn head_config(&self) -> HeadConfig {
        HeadConfig {
            config: self.config.clone(),
            state_dir: self.head_dir(),
            socket: self.socket(),
            agent: self.agent_socket(),
            embedded: !self.over_ssh(),
            stop: StopPlace::of(&self.state),
        }
    }

    /// How the head's agent is started.
    pub fn hub_config(&self, head: &NodeName, tokens: &BTreeMap<NodeName, String>) -> AgentConfig {
        let daemon_uid = self.daemon.map_or(0, |d| d.uid);
        let mut listen: Vec<Address> =
            self.nodes.iter().map(|n| Address::Tcp((n.address_head, HUB_PORT).into())).collect();
        listen.extend(self.over_ssh().then(|| Address::Unix(self.workers_socket())));
        let role = AgentRole::Hub { listen, socket: self.agent_socket(), daemon_uid, tokens: tokens.clone() };
        self.agent_config(head, role, None)
    }

    /// How a worker's agent is started.
    pub fn spoke_config(&self, node: &NodePlan, token: &str) -> AgentConfig {
        let hub = Address::Tcp((node.address_head, HUB_PORT).into());
        let role = AgentRole::Spoke { hub, token: token.to_owned() };
        self.agent_config(&node.name, role, Some(node.lends))
    }

    pub(super) fn agent_config(&self, node: &NodeName, role: AgentRole, lends: Option<Resources>) -> AgentConfig {
        AgentConfig {
            node: node.clone(),
            role,
            state_dir: self.state.join("nodes").join(node.as_str()),
            run_dir: self.run_dir().join(node.as_str()),
            criu: self.criu.clone(),
            cgroup: format!("{}/{node}", self.cgroup),
            lends,
            facts_every: Some(self.config.policy.limits.facts_every),
            stop: StopPlace::of(&self.state),
            program: self.program.clone(),
            link: None,
        }
    }
}

/// A worker that is another machine: it lends what the file says, else what the file says that it has.
fn remote(node: &NodeConfig) -> RemotePlan {
    let cpu = node.sharing.max_cpu.or(node.cpu_count.map(|n| MilliCpu(n * 1000))).unwrap_or(MilliCpu(1000));
    let memory = node.sharing.max_memory.or(node.memory).unwrap_or(Bytes(1 << 30));
    RemotePlan {
        name: node.name.clone(),
        lends: Resources { cpu, memory, gpu: 0 },
        host: node.host.clone(),
        port: (node.port != SSH_PORT).then_some(node.port),
        user: node.user.clone(),
        key: node.ssh_key_path.as_deref().map(PathBuf::from),
        sudo: false,
    }
}

/// Name of the control groups of the cluster of this state.
pub fn cgroup(state: &Path) -> String {
    format!("grid-{:04x}", tag(state))
}

/// Volatile state of the cluster of this state.
pub fn run_dir(state: &Path) -> PathBuf {
    Path::new("/run").join(cgroup(state))
}

/// Sixteen bits that tell clusters on one machine apart, from the path of their state (FNV-1a, folded).
pub(super) fn tag(state: &Path) -> u16 {
    let hash = state
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    (hash >> 16) as u16 ^ hash as u16
}

/// Link-local addresses (RFC 3927), a /30 for each pair: nothing routes them anywhere.
fn address(tag: u16, node: u8, end: u8) -> Ipv4Addr {
    Ipv4Addr::new(169, 254, (tag % 254) as u8 + 1, node * 4 + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_of_different_state_do_not_meet() {
        let size = LocalSize::of_machine(2, Bytes(24 << 30));
        let plan = |dir: &str| Plan::local(2, size, Path::new(dir), "/criu".into(), "/grid".into());
        let (a, b) = (plan("/var/lib/grid"), plan("/tmp/other"));
        assert_ne!(a.cgroup, b.cgroup);
        assert_ne!(a.nodes[0].veth_head, b.nodes[0].veth_head);
        assert!(a.nodes.iter().all(|n| n.veth_head.len() <= 15 && n.veth_node.len() <= 15));
        assert_ne!(a.nodes[0].address_node, a.nodes[1].address_node);
    }

    #[test]
    fn addresses_of_another_cluster_are_not_taken_again() {
        let size = LocalSize::of_machine(2, Bytes(24 << 30));
        let mut plan = Plan::local(2, size, Path::new("/x"), "/criu".into(), "/grid".into());
        let own = plan.nodes[0].address_head.octets();
        plan.avoid(&[1, 2, 254].into());
        assert_eq!(plan.nodes[0].address_head.octets(), own);
        plan.avoid(&(own[2]..=254).collect());
        let [_, _, block, last] = plan.nodes[1].address_node.octets();
        assert_eq!((block < own[2], last), (true, 6));
    }

    #[test]
    fn a_worker_has_more_than_it_lends() {
        let size = LocalSize::of_machine(2, Bytes(24 << 30));
        let plan = Plan::local(1, size, Path::new("/x"), "/criu".into(), "/grid".into());
        assert!(size.lends.fits_in(&plan.nodes[0].limits));
        assert_eq!(size.lends.memory, Bytes(6 << 30));
    }
}
