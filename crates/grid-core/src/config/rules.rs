//! Faults that no key has alone: two heads, one machine twice, limits that contradict each other.

use super::check::Checked;
use super::fields::sharing;
use super::read::GIB;
use grid_types::policy::{AutoMode, Config, EngineKind, Files, Limits, NodeConfig, ProcessRule, Role};
use grid_types::units::{Bytes, MilliCpu, Millis};
use std::collections::BTreeMap;

/// Checks a configuration across its keys. Says nothing about keys that are wrong in themselves.
pub(super) fn check(config: &Config, checked: &mut Checked) {
    names(config, checked);
    machines(config, checked);
    head(config, checked);
    for (i, node) in config.nodes.iter().enumerate() {
        lending(i, node, checked);
    }
    thresholds(config, checked);
    auto_mode(config, checked);
    auto_limits(config, checked);
    durations(config, checked);
    own_paths(config, checked);
    direct_link(config, checked);
    for (i, rule) in config.policy.detector.rules.iter().enumerate() {
        process_rule(i, rule, checked);
    }
}

impl Checked {
    /// None of these paths is wrong in itself.
    fn sound(&self, paths: &[&str]) -> bool {
        !paths.iter().any(|p| self.wrong.contains(*p))
    }

    /// One fault about several paths; the first that was written carries it.
    fn across(&mut self, paths: &[&str], message: String, hint: &str) {
        if !self.sound(paths) {
            return;
        }
        let place = self.place_of(paths);
        let path = paths.iter().find(|p| self.places.contains_key(**p)).or(paths.first()).copied().unwrap_or_default();
        self.fault(place, path, message, Some(hint.to_owned()));
    }
}

fn names(config: &Config, checked: &mut Checked) {
    let mut seen = BTreeMap::new();
    for (i, node) in config.nodes.iter().enumerate() {
        let path = format!("nodes[{i}].name");
        if !checked.values.contains_key(&path) {
            continue;
        }
        if let Some(first) = seen.insert(node.name.as_str(), i) {
            let line = checked.place_of(&[&format!("nodes[{first}].name")]).line;
            let message = format!("{path}: \"{}\" is already the name of nodes[{first}] (line {line})", node.name);
            checked.across(&[&path], message, "every node has a name of its own");
        }
    }
}

/// A machine that is listed twice would lend its capacity twice.
fn machines(config: &Config, checked: &mut Checked) {
    let mut seen: BTreeMap<(String, u16), usize> = BTreeMap::new();
    for (i, node) in config.nodes.iter().enumerate() {
        let (host, port, name) = (format!("nodes[{i}].host"), format!("nodes[{i}].port"), format!("nodes[{i}].name"));
        if !checked.values.contains_key(&host) && !checked.values.contains_key(&name) || !checked.sound(&[&host, &port])
        {
            continue;
        }
        let first = *seen.entry((node.host.to_lowercase(), node.port)).or_insert(i);
        // The same name twice is one fault, not two.
        if first == i || config.nodes[first].name == node.name {
            continue;
        }
        let other = &config.nodes[first].name;
        let message = format!("{host}: {} port {} is already nodes[{first}] ({other})", node.host, node.port);
        checked.across(&[&host, &name], message, "list a machine once: it would lend the same capacity twice");
    }
}

fn head(config: &Config, checked: &mut Checked) {
    let role = |i: usize| format!("nodes[{i}].role");
    let unsure = checked.wrong.iter().any(|p| p == "nodes" || p.starts_with("nodes[") && p.ends_with(".role"))
        || checked.wrong.iter().any(|p| p.starts_with("nodes[") && p.ends_with(']'));
    let heads: Vec<usize> = (0..config.nodes.len()).filter(|i| config.nodes[*i].role == Role::Head).collect();
    match heads.as_slice() {
        [] if unsure || !checked.places.contains_key("nodes") => {}
        [] => checked.across(
            &["nodes"],
            "nodes: none is the head".to_owned(),
            "give the node whose work is to be relieved \"role: head\"",
        ),
        [first, others @ ..] => {
            for i in others {
                let message = format!(
                    "{}: a second head; nodes[{first}] ({}) is the head already",
                    role(*i),
                    config.nodes[*first].name
                );
                checked.across(&[&role(*i)], message, "write \"role: worker\"");
            }
        }
    }
}

fn lending(i: usize, node: &NodeConfig, checked: &mut Checked) {
    let path = |key: &str| format!("nodes[{i}].resource_sharing.{key}");
    let (cpu, memory, gpu, can) =
        (path("max_share_cpu"), path("max_share_memory_gb"), path("max_share_gpu"), path("can_share"));
    let s = &node.sharing;
    let cpus = |m: MilliCpu| f64::from(m.0) / 1e3;
    let gib = |b: Bytes| b.0 as f64 / GIB;
    for (limit, key, most, size) in [
        (&cpu, "cpu_count", s.max_cpu.map(cpus), node.cpu_count.map(f64::from)),
        (&memory, "memory_gb", s.max_memory.map(gib), node.memory.map(gib)),
        (&gpu, "gpu_count", s.max_gpu.map(f64::from), node.gpu_count.map(f64::from)),
    ] {
        if let (Some(most), Some(size)) = (most, size)
            && most > size
        {
            let message = format!("{limit}: {most} is more than the node's {key} ({size})");
            checked.across(&[limit, &format!("nodes[{i}].{key}")], message, "lower one or raise the other");
        }
    }
    let nothing = s.max_cpu.is_some_and(|c| c.0 == 0) && s.max_memory.is_some_and(|m| m.0 == 0);
    if s.can_share && nothing && s.max_gpu == Some(0) {
        let message = format!("{can}: the node lends, but every max_share of it is 0");
        checked.across(&[&can, &cpu, &memory, &gpu], message, "write \"can_share: false\", or raise one");
    }
}

fn thresholds(config: &Config, checked: &mut Checked) {
    let t = &config.policy.thresholds;
    for (low, high, low_path, high_path) in [
        (t.cpu_low, t.cpu_high, sharing!("thresholds.cpu_pressure_low"), sharing!("thresholds.cpu_pressure_high")),
        (
            t.memory_low,
            t.memory_high,
            sharing!("thresholds.memory_pressure_low"),
            sharing!("thresholds.memory_pressure_high"),
        ),
        (t.gpu_low, t.gpu_high, sharing!("thresholds.gpu_pressure_low"), sharing!("thresholds.gpu_pressure_high")),
    ] {
        if low >= high {
            let name = high_path.rsplit('.').next().unwrap_or(high_path);
            let default = if checked.places.contains_key(high_path) { "" } else { ", the default" };
            let message = format!("{low_path}: {low} is not below {name} ({high}{default})");
            checked.across(&[low_path, high_path], message, "between the two lies the span in which nothing changes");
        }
    }
}

fn auto_mode(config: &Config, checked: &mut Checked) {
    const ENABLED: &str = sharing!("auto_offload.enabled");
    const MODE: &str = sharing!("auto_offload.mode");
    let mode = config.policy.auto_offload.mode;
    let enabled: Option<bool> = super::build::get(checked, ENABLED);
    if let (Some(enabled), true) = (enabled, checked.values.contains_key(MODE))
        && enabled != (mode == AutoMode::On)
    {
        let word = format!("{mode:?}").to_lowercase();
        let message = format!("{ENABLED}: {enabled} contradicts mode {word}");
        checked.across(&[ENABLED, MODE], message, "keep mode, leave enabled out");
    } else if mode == AutoMode::On && !config.policy.sharing_enabled {
        let message = format!("{MODE}: on, but {} is false: no node lends", sharing!("enabled"));
        checked.across(&[MODE, ENABLED, sharing!("enabled")], message, "switch sharing on, or auto_offload off");
    }
}

fn auto_limits(config: &Config, checked: &mut Checked) {
    let auto = &config.policy.auto_offload;
    if auto.memory_percent > auto.critical_percent {
        let path = sharing!("auto_offload.critical_threshold");
        let message = format!("{path}: {} is below memory_threshold ({})", auto.critical_percent, auto.memory_percent);
        checked.across(&[path, sharing!("auto_offload.memory_threshold")], message, "critical is beyond what triggers");
    }
    if auto.per_round > auto.per_critical_round {
        let path = sharing!("auto_offload.per_critical_round");
        let message = format!("{path}: {} is less than per_round ({})", auto.per_critical_round, auto.per_round);
        checked.across(
            &[path, sharing!("auto_offload.per_round")],
            message,
            "a critical round may move at least as many",
        );
    }
}

fn durations(config: &Config, checked: &mut Checked) {
    let limits = &config.policy.limits;
    facts_rate(limits, checked);
    if limits.boost_duration > limits.max_boost_duration {
        let message = format!(
            "limits.boost_duration: {} is longer than max_boost_duration ({})",
            limits.boost_duration, limits.max_boost_duration
        );
        checked.across(
            &["limits.boost_duration", "limits.max_boost_duration"],
            message,
            "shorten one or raise the other",
        );
    }
}

fn direct_link(config: &Config, checked: &mut Checked) {
    let (listen, dial) = ("execution.link_listen", "execution.link_dial");
    let engine = &config.policy.engine;
    let Some(address) = &engine.link_listen else {
        if engine.link_dial.is_some() {
            let message = format!("{dial}: nothing listens for it");
            checked.across(&[dial, listen], message, "say where the head listens, too: link_listen: 192.0.2.1:7443");
        }
        return;
    };
    if engine.kind != EngineKind::Ssh {
        let message =
            format!("{listen}: the workers of the local engine are made on this machine, and dial nothing else");
        checked.across(&[listen, "execution.engine"], message, "add engine: ssh, or leave it out");
    } else if engine.link_dial.is_none() && super::address::nobody_dials(address) {
        let message = format!("{listen}: {address} is nothing that another machine can dial");
        checked.across(&[listen, dial], message, "say what the workers dial, too: link_dial: head.example:7443");
    }
}

/// An agent looks once a second, and one message that is late is no silence.
fn facts_rate(limits: &Limits, checked: &mut Checked) {
    let (every, stale) = ("limits.facts_every", "limits.stale_after");
    if limits.facts_every < Millis(1_000) {
        let message = format!("{every}: {} is more often than agents look", limits.facts_every);
        checked.across(&[every], message, "1s or more");
    } else if limits.facts_every.0.saturating_mul(2) > limits.stale_after.0 {
        let Limits { facts_every, stale_after, .. } = limits;
        let message = format!("{every}: nodes that speak every {facts_every} are unknown after {stale_after}");
        checked.across(&[every, stale], message, "make stale_after at least twice as long");
    }
}

/// Of the machine's own these are on every machine already, and the root is what the rest is an exception from.
const NO_OWN_PATHS: [&str; 4] = ["/", "/proc", "/dev", "/sys"];

fn own_paths(config: &Config, checked: &mut Checked) {
    let engine = &config.policy.engine;
    let (shared, local) = ("execution.shared_paths", "execution.local_paths");
    if engine.files_patience.is_some() && engine.files != Files::Home {
        let patience = "execution.files_patience";
        let message = format!("{patience}: without files: home nobody on a worker waits for the head's files");
        checked.across(&[patience, "execution.files"], message, "add files: home, or leave it out");
    }
    let all: Vec<(&str, &String)> = engine.shared_paths.iter().map(|path| (shared, path)).collect::<Vec<_>>();
    let all = [all, engine.local_paths.iter().map(|path| (local, path)).collect()].concat();
    let Some(first) = all.first().map(|(key, _)| *key) else { return };
    if engine.files != Files::Home {
        let message = format!("{first}: without files: home every folder of a worker is its own");
        checked.across(&[first, "execution.files"], message, "add files: home, or leave it out");
    }
    for (n, (key, path)) in all.iter().enumerate() {
        let plain = !path.contains("//")
            && !path.contains("/./")
            && !path.ends_with("/.")
            && (!path.ends_with('/') || path.len() == 1);
        if !plain || NO_OWN_PATHS.contains(&path.as_str()) {
            let message = format!("{key}: {path} cannot be a folder of its own");
            checked.across(&[key], message, "a folder by its plain path, as /data; not /, /proc, /dev or /sys");
        } else if all[..n].iter().any(|(_, other)| other == path) {
            checked.across(&[key], format!("{key}: {path} is named twice"), "name it once, as shared or as local");
        }
    }
}

fn process_rule(i: usize, rule: &ProcessRule, checked: &mut Checked) {
    let path = format!("detector.rules[{i}]");
    if checked.wrong.iter().any(|p| p.starts_with(&path)) {
        return;
    }
    if rule.exe.is_none() && rule.comm.is_none() && rule.arg.is_none() && rule.user.is_none() {
        checked.across(&[&path], format!("{path}: matches every process"), "say which: exe, comm, arg or user");
    } else if rule.kind.is_none() && rule.action.is_none() {
        checked.across(&[&path], format!("{path}: does nothing"), "say what: kind or action");
    }
}
