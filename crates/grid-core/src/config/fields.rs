//! Which field of the configuration each path of the file is: the one mapping, used for reading and for showing.

use super::value::{Held, Value};
use grid_types::policy::{Config, NodeConfig, Policy, ProcessRule};

/// One path (relative to `T`) and its field.
pub(super) struct Field<T> {
    pub(super) path: &'static str,
    pub(super) get: fn(&T) -> Option<Value>,
    pub(super) set: fn(&mut T, &Value),
}

macro_rules! fields {
    ($type:ty: $($path:expr => $($field:ident).+;)*) => {
        &[$(Field::<$type> {
            path: $path,
            get: |t| Held::put(&t.$($field).+),
            set: |t, v| if let Some(v) = Held::take(v) { t.$($field).+ = v; },
        }),*]
    };
}

/// Where sharing is configured.
macro_rules! sharing {
    ($rest:literal) => {
        concat!("execution.resource_sharing.", $rest)
    };
}
pub(super) use sharing;

pub(super) const NODE: &[Field<NodeConfig>] = fields! { NodeConfig:
    "name" => name;
    "host" => host;
    "port" => port;
    "user" => user;
    "role" => role;
    "cpu_count" => cpu_count;
    "gpu_count" => gpu_count;
    "memory_gb" => memory;
    "tags" => tags;
    "ssh_key_path" => ssh_key_path;
    "resource_sharing.can_share" => sharing.can_share;
    "resource_sharing.max_share_cpu" => sharing.max_cpu;
    "resource_sharing.max_share_memory_gb" => sharing.max_memory;
    "resource_sharing.max_share_gpu" => sharing.max_gpu;
    "resource_sharing.priority" => sharing.priority;
};

pub(super) const RULE: &[Field<ProcessRule>] = fields! { ProcessRule:
    "name" => name;
    "exe" => exe;
    "comm" => comm;
    "arg" => arg;
    "user" => user;
    "kind" => kind;
    "action" => action;
};

pub(super) const POLICY: &[Field<Policy>] = fields! { Policy:
    sharing!("enabled") => sharing_enabled;
    sharing!("mode") => mode;
    sharing!("policy") => sharing;
    sharing!("thresholds.cpu_pressure_high") => thresholds.cpu_high;
    sharing!("thresholds.cpu_pressure_low") => thresholds.cpu_low;
    sharing!("thresholds.memory_pressure_high") => thresholds.memory_high;
    sharing!("thresholds.memory_pressure_low") => thresholds.memory_low;
    sharing!("thresholds.gpu_pressure_high") => thresholds.gpu_high;
    sharing!("thresholds.gpu_pressure_low") => thresholds.gpu_low;
    sharing!("thresholds.excess_threshold") => thresholds.excess;
    sharing!("auto_offload.mode") => auto_offload.mode;
    sharing!("auto_offload.head_only_mode") => auto_offload.head_only;
    sharing!("auto_offload.cpu_threshold") => auto_offload.cpu_percent;
    sharing!("auto_offload.memory_threshold") => auto_offload.memory_percent;
    sharing!("auto_offload.gpu_threshold") => auto_offload.gpu_percent;
    sharing!("auto_offload.critical_threshold") => auto_offload.critical_percent;
    sharing!("auto_offload.check_interval_seconds") => auto_offload.check_interval;
    sharing!("auto_offload.cooldown_seconds") => auto_offload.cooldown;
    sharing!("auto_offload.per_boost") => auto_offload.per_boost;
    sharing!("auto_offload.per_round") => auto_offload.per_round;
    sharing!("auto_offload.per_critical_round") => auto_offload.per_critical_round;
    sharing!("auto_offload.burst") => auto_offload.burst;
    sharing!("auto_offload.refill_seconds") => auto_offload.refill;
    "detector.min_age" => detector.min_age;
    "detector.min_memory" => detector.min_memory;
    "detector.worth_cpu" => detector.worth_cpu;
    "detector.worth_memory" => detector.worth_memory;
    "detector.protected_users" => detector.protected_users;
    "detector.tcp_connections" => detector.tcp_connections;
    "limits.boost_duration" => limits.boost_duration;
    "limits.max_boost_duration" => limits.max_boost_duration;
    "limits.max_frozen" => limits.max_frozen;
    "limits.plan_validity" => limits.plan_validity;
    "limits.facts_every" => limits.facts_every;
    "limits.stale_after" => limits.stale_after;
    "limits.at_end" => limits.at_end;
    "limits.history" => limits.history;
    "users.daemon" => users.daemon;
    "users.boost_group" => users.boost_group;
    "execution.engine" => engine.kind;
    "execution.worker_directory" => engine.directory;
    "execution.ssh_config" => engine.ssh_config;
    "execution.files" => engine.files;
    "execution.shared_paths" => engine.shared_paths;
    "execution.local_paths" => engine.local_paths;
    "execution.files_patience" => engine.files_patience;
    "execution.link_rate_limit" => engine.link_rate;
    "execution.link_listen" => engine.link_listen;
    "execution.link_dial" => engine.link_dial;
};

/// Every value of a configuration with its path, indices included.
pub(super) fn values(config: &Config) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    if let Some(name) = config.name.put() {
        all.push(("name".to_owned(), name));
    }
    for (i, node) in config.nodes.iter().enumerate() {
        collect(NODE, node, &format!("nodes[{i}]."), &mut all);
    }
    collect(POLICY, &config.policy, "", &mut all);
    for (i, rule) in config.policy.detector.rules.iter().enumerate() {
        collect(RULE, rule, &format!("detector.rules[{i}]."), &mut all);
    }
    all
}

fn collect<T>(fields: &[Field<T>], from: &T, prefix: &str, all: &mut Vec<(String, Value)>) {
    for field in fields {
        if let Some(value) = (field.get)(from) {
            all.push((format!("{prefix}{}", field.path), value));
        }
    }
}
