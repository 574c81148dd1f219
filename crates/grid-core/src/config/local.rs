//! The configuration of `grid up --local N`: a head and workers on one machine, nothing to write down.

use super::build::bare_node;
use super::read;
use super::schema::TextRule;
use grid_types::policy::{Config, NodeConfig, NodeSharing, Policy, Role};
use grid_types::units::Resources;

/// A head and `workers` workers `gpu1` … `gpuN`. Every worker has the size `worker` and lends all of it; the head,
/// of the size `head`, lends nothing. The head is called `head_name` where that can be a node's name and is no
/// worker's, else `head`. Everything else has its default.
pub fn local(workers: u32, head_name: &str, head: Resources, worker: Resources) -> Config {
    let names: Vec<String> = (1..=workers).map(|i| format!("gpu{i}")).collect();
    let head_name = if node_name(head_name) && !names.iter().any(|n| n == head_name) { head_name } else { "head" };
    let head = NodeConfig {
        role: Role::Head,
        sharing: NodeSharing { can_share: false, ..NodeSharing::default() },
        ..sized(head_name, head)
    };
    let lent = NodeSharing {
        can_share: true,
        max_cpu: Some(worker.cpu),
        max_memory: Some(worker.memory),
        max_gpu: Some(worker.gpu),
        ..NodeSharing::default()
    };
    let workers = names.iter().map(|name| NodeConfig { sharing: lent.clone(), ..sized(name, worker) });
    Config {
        name: "local".to_owned(),
        nodes: std::iter::once(head).chain(workers).collect(),
        policy: Policy::default(),
    }
}

/// Whether this can be the name of a node.
pub(super) fn node_name(name: &str) -> bool {
    read::text(TextRule::Name, name).is_ok()
}

fn sized(name: &str, size: Resources) -> NodeConfig {
    NodeConfig {
        cpu_count: Some(size.cpu.0.div_ceil(1000).max(1)),
        memory: Some(size.memory),
        gpu_count: Some(size.gpu),
        ..bare_node(name)
    }
}
