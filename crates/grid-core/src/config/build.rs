//! Checked values into a [`Config`]. What was not written has its default, and a default gives way to what was
//! written, so that an old file with one changed number still holds together.

use super::check::Checked;
use super::fields::{Field, NODE, POLICY, RULE, sharing};
use super::value::{Held, Value};
use grid_types::ids::NodeName;
use grid_types::policy::{AutoMode, Config, NodeConfig, NodeSharing, Policy, ProcessRule, Role};

/// The node's ssh port where none is written.
const SSH_PORT: u16 = 22;

/// Builds the configuration; wrong values count as not written.
pub(super) fn build(checked: &Checked) -> Config {
    let count = |path: &str| checked.counts.get(path).copied().unwrap_or(0);
    let nodes = (0..count("nodes")).map(|i| node(checked, i)).collect();
    let mut policy = Policy::default();
    fill(&mut policy, POLICY, checked, "");
    policy.detector.rules = (0..count("detector.rules")).map(|i| rule(checked, i)).collect();
    switch(&mut policy, checked);
    give_way(&mut policy, checked);
    Config { name: get(checked, "name").unwrap_or_default(), nodes, policy }
}

/// The value at a path, if it was written, is right, and is of this type.
pub(super) fn get<T: Held>(checked: &Checked, path: &str) -> Option<T> {
    checked.values.get(path).and_then(T::take)
}

fn fill<T>(into: &mut T, fields: &[Field<T>], checked: &Checked, prefix: &str) {
    for field in fields {
        if let Some(value) = checked.values.get(&format!("{prefix}{}", field.path)) {
            (field.set)(into, value);
        }
    }
}

/// A worker of this name with nothing else said.
pub(super) fn bare_node(name: &str) -> NodeConfig {
    NodeConfig {
        name: NodeName::new(name),
        host: name.to_owned(),
        port: SSH_PORT,
        user: None,
        role: Role::Worker,
        cpu_count: None,
        memory: None,
        gpu_count: None,
        tags: Vec::new(),
        ssh_key_path: None,
        sharing: NodeSharing::default(),
    }
}

fn node(checked: &Checked, i: usize) -> NodeConfig {
    let prefix = format!("nodes[{i}].");
    let name: String = get(checked, &format!("{prefix}name")).unwrap_or_default();
    let mut node = bare_node(&name);
    let role: Option<Role> = get(checked, &format!("{prefix}role"));
    // The head is there to be relieved: it lends only where the file says so.
    node.sharing.can_share = role != Some(Role::Head);
    fill(&mut node, NODE, checked, &prefix);
    node
}

fn rule(checked: &Checked, i: usize) -> ProcessRule {
    let mut rule = ProcessRule { name: format!("rule {}", i + 1), ..ProcessRule::default() };
    fill(&mut rule, RULE, checked, &format!("detector.rules[{i}]."));
    rule
}

/// The original's `enabled` where no mode is written.
fn switch(policy: &mut Policy, checked: &Checked) {
    if get::<AutoMode>(checked, sharing!("auto_offload.mode")).is_none()
        && let Some(enabled) = get(checked, sharing!("auto_offload.enabled"))
    {
        policy.auto_offload.mode = if enabled { AutoMode::On } else { AutoMode::Off };
    }
}

fn give_way(policy: &mut Policy, checked: &Checked) {
    let written = |path: &str| checked.values.get(path).map(|_: &Value| ()).is_some();
    let (t, auto, limits) = (&mut policy.thresholds, &mut policy.auto_offload, &mut policy.limits);
    if !written(sharing!("auto_offload.critical_threshold")) {
        auto.critical_percent = auto.critical_percent.max(auto.memory_percent);
    }
    if !written(sharing!("auto_offload.per_critical_round")) {
        auto.per_critical_round = auto.per_critical_round.max(auto.per_round);
    }
    if !written("limits.boost_duration") {
        limits.boost_duration = limits.boost_duration.min(limits.max_boost_duration);
    }
    for (low, high, path) in [
        (&mut t.cpu_low, t.cpu_high, sharing!("thresholds.cpu_pressure_low")),
        (&mut t.memory_low, t.memory_high, sharing!("thresholds.memory_pressure_low")),
        (&mut t.gpu_low, t.gpu_high, sharing!("thresholds.gpu_pressure_low")),
    ] {
        if !written(path) && *low >= high {
            *low = high / 2.0;
        }
    }
}
