//! The configuration file: what loads, what is refused and in which words, what comes back.

use grid_core::config::{Parsed, Source, explain, parse, show};
use grid_types::policy::*;
use grid_types::units::{Bytes, MilliCpu, Millis};

const EXAMPLE: &str = include_str!("data/cluster.yaml");
const TWO: &str =
    "name: c\nnodes:\n  - {name: h, role: head, cpu_count: 4}\n  - {name: w, cpu_count: 4, memory_gb: 8}\n";

fn good(text: &str) -> Parsed {
    parse(text).unwrap_or_else(|e| panic!("{}\n{text}", e.at("cluster.yaml")))
}

/// The valid cluster with this after it.
fn with(more: &str) -> Config {
    good(&format!("{TWO}{more}")).config
}

#[test]
fn the_originals_file_loads_unchanged() {
    let c = good(EXAMPLE).config;
    assert_eq!((c.name.as_str(), c.nodes.len()), ("my-cluster", 3));
    let (head, gpu1) = (&c.nodes[0], &c.nodes[1]);
    assert_eq!((head.role, head.port, head.sharing.can_share), (Role::Head, 22, false));
    assert_eq!((gpu1.role, gpu1.host.as_str(), gpu1.user.as_deref()), (Role::Worker, "192.168.1.101", Some("bob")));
    assert_eq!((gpu1.cpu_count, gpu1.memory, gpu1.gpu_count), (Some(6), Some(Bytes(16 << 30)), Some(1)));
    assert_eq!(gpu1.tags, ["gpu", "cuda", "worker"]);
    assert_eq!(gpu1.ssh_key_path.as_deref(), Some("~/.ssh/id_ed25519"));
    let lends = NodeSharing {
        can_share: true,
        max_cpu: Some(MilliCpu(4000)),
        max_memory: Some(Bytes(8 << 30)),
        max_gpu: Some(1),
        priority: 0.8,
    };
    assert_eq!(gpu1.sharing, lends);
    let t = c.policy.thresholds;
    assert_eq!((t.cpu_high, t.memory_high, t.gpu_low, t.excess), (0.8, 0.7, 0.3, 0.2));
    let auto = c.policy.auto_offload;
    assert_eq!((auto.mode, auto.cpu_percent, auto.memory_percent), (AutoMode::Off, 80.0, 70.0));
    assert_eq!((auto.check_interval, auto.cooldown), (Millis(5_000), Millis(30_000)));
}

#[test]
fn what_is_not_written_has_its_default() {
    let c = with("");
    assert_eq!(c.policy, Policy::default());
    assert_eq!(c.policy.auto_offload.mode, AutoMode::Observe);
    assert_eq!((c.nodes[1].host.as_str(), c.nodes[1].port), ("w", 22));
    assert!(!c.nodes[0].sharing.can_share && c.nodes[1].sharing.can_share);
    let empty = with("execution:\ndetector: {}\nlimits: ~\nlogging:\n");
    assert_eq!(empty, c);
}

#[test]
fn automatic_offloading_in_every_spelling() {
    for (text, want) in [
        ("{enabled: true}", AutoMode::On),
        ("{enabled: yes}", AutoMode::On),
        ("{enabled: false}", AutoMode::Off),
        ("{cpu_threshold: 50}", AutoMode::Observe),
        ("{mode: on}", AutoMode::On),
        ("{mode: observe}", AutoMode::Observe),
        ("{enabled: true, mode: on}", AutoMode::On),
        ("{enabled: false, mode: observe}", AutoMode::Observe),
        ("observe", AutoMode::Observe),
        ("off", AutoMode::Off),
        ("\"on\"", AutoMode::On),
        ("true", AutoMode::On),
    ] {
        let c = with(&format!("execution: {{resource_sharing: {{auto_offload: {text}}}}}"));
        assert_eq!(c.policy.auto_offload.mode, want, "{text}");
    }
}

#[test]
fn the_limit_of_a_link_holds_where_there_is_a_link() {
    let limit = |text: &str| with(text).policy.engine.link_limit();
    assert_eq!(limit("execution: {engine: ssh, link_rate_limit: 50MiB}"), Some(grid_types::Bytes(50 << 20)));
    assert_eq!(limit("execution: {link_rate_limit: 50MiB}"), None);
    assert_eq!(limit("execution: {engine: ssh}"), None);
}

#[test]
fn a_direct_link_is_what_the_file_says_and_only_where_ssh_reaches_workers() {
    let link = |text: &str| with(text).policy.engine.direct_link().map(|l| (l.listen.to_string(), l.dial));
    let same = "execution: {engine: ssh, link_listen: \"192.0.2.1:7443\"}";
    assert_eq!(link(same), Some(("192.0.2.1:7443".into(), "192.0.2.1:7443".into())));
    let other = "execution: {engine: ssh, link_listen: \"[::]:7443\", link_dial: \"head.lab:443\"}";
    assert_eq!(link(other), Some(("[::]:7443".into(), "head.lab:443".into())));
    assert_eq!(link("execution: {engine: ssh}"), None);
}

#[test]
fn our_extensions_are_read_with_units() {
    let c = with(
        "execution:\n  resource_sharing:\n    auto_offload: {mode: on, per_boost: 3, per_round: 1, per_critical_round: 4, \
         critical_threshold: 97.5, burst: 2, refill_seconds: 0.5}\n\
         detector:\n  min_age: 0s\n  min_memory: 1.5GiB\n  worth_cpu: 1500m\n  worth_memory: 2G\n  protected_users: [postgres, 33]\n\
         \x20 rules:\n    - {exe: \"*/python3\", arg: '*train*', kind: training, action: allow}\n    - {name: mine, comm: sshd, action: protect}\n\
         limits: {boost_duration: 1h30m, max_boost_duration: 2d, max_frozen: 500ms, plan_validity: 30s, facts_every: 1.5s, stale_after: 3s, at_end: stay, history: 7}\n\
         users: {daemon: gridd, boost_group: wheel}\n",
    );
    assert_eq!((c.policy.users.daemon.as_deref(), c.policy.users.boost_group.as_str()), (Some("gridd"), "wheel"));
    let (auto, det, lim) = (&c.policy.auto_offload, &c.policy.detector, &c.policy.limits);
    assert_eq!((auto.per_boost, auto.per_round, auto.per_critical_round, auto.burst), (3, 1, 4, 2));
    assert_eq!((auto.critical_percent, auto.refill), (97.5, Millis(500)));
    assert_eq!((det.min_age, det.min_memory, det.worth_cpu), (Millis(0), Bytes(3 << 29), MilliCpu(1500)));
    assert_eq!(det.protected_users, ["postgres", "33"]);
    assert_eq!(det.rules[0].name, "rule 1");
    assert_eq!((det.rules[0].kind, det.rules[1].action), (Some(ProcessKind::Training), Some(RuleAction::Protect)));
    assert_eq!((lim.boost_duration, lim.max_frozen), (Millis(5_400_000), Millis(500)));
    assert_eq!((lim.at_end, lim.history, lim.facts_every), (AtEnd::Stay, 7, Millis(1500)));
}

#[test]
fn a_default_gives_way_to_what_is_written() {
    let c = with(
        "execution: {resource_sharing: {auto_offload: {memory_threshold: 97, per_round: 9}, thresholds: {cpu_pressure_high: 0.2}}}\n\
         limits: {max_boost_duration: 30m}",
    );
    assert_eq!((c.policy.auto_offload.critical_percent, c.policy.auto_offload.per_critical_round), (97.0, 9));
    assert_eq!((c.policy.thresholds.cpu_low, c.policy.limits.boost_duration), (0.1, Millis(1_800_000)));
}

#[test]
fn anchors_and_merge_keys_work() {
    let c = good(
        "name: c\nnodes:\n  - {name: h, role: head}\n  - &w {name: a, cpu_count: 4, tags: [x]}\n  - {<<: *w, name: b, host: b}\n",
    );
    assert_eq!((c.config.nodes[2].name.as_str(), c.config.nodes[2].cpu_count), ("b", Some(4)));
}

#[test]
fn shown_is_parsed_again_as_the_same() {
    let odd = "limits: {max_frozen: 1d2h3m4s5ms}\ndetector: {min_memory: 1234567, worth_cpu: 3m, rules: [{name: \"on\", \
               arg: \"a \\\"q\\\" \\\\ \\u00e9\", action: allow}, {user: 0, kind: io}]}\nexecution: {environment: {TOKEN: s3cret}, \
               timeout_seconds: 1.5, resource_sharing: {allocation_timeout_minutes: 10, auto_offload: {enabled: true}}}\n";
    for text in [EXAMPLE.to_owned(), TWO.to_owned(), format!("{TWO}{odd}")] {
        let parsed = good(&text);
        let shown = show(&parsed);
        let again = good(&shown);
        assert_eq!(again.config, parsed.config, "{shown}");
        let told: String = shown.lines().filter(|l| !l.contains("not shown")).map(|l| format!("{l}\n")).collect();
        assert_eq!(show(&again), told);
        assert!(!shown.contains("s3cret"));
    }
}

#[test]
fn every_value_is_explained() {
    let parsed = good(EXAMPLE);
    let all = explain(&parsed);
    let one = |path: &str| all.iter().find(|e| e.path == path).unwrap_or_else(|| panic!("{path}"));
    let auto = "execution.resource_sharing.auto_offload";
    let mode = one(&format!("{auto}.mode"));
    assert_eq!((mode.value.as_str(), mode.source), ("off", Source::Configured { line: 58 }));
    assert_eq!(mode.meaning, "whether grid moves processes by itself: never looks");
    assert_eq!(one(&format!("{auto}.per_boost")).source, Source::Default);
    let unused = one("execution.timeout_seconds");
    assert_eq!(unused.value, "3600");
    assert!(unused.meaning.starts_with("kept for the Ray engine; not used"));
    assert_eq!(one("execution.environment").value, "1 not shown: CUDA_VISIBLE_DEVICES");
    assert_eq!(one("nodes[0].role").meaning, "what the node is for: its work is relieved");
    assert_eq!(
        one("nodes[0].resource_sharing.max_share_cpu").meaning,
        "most CPUs that it lends; without it, cpu_count with engine: ssh, else 1; without effect: the head lends to nobody"
    );
    assert_eq!(one("nodes[2].ssh_key_path").value, "-");
    assert_eq!(one("nodes[1].memory_gb").source, Source::Configured { line: 21 });
    assert!(all.iter().all(|e| !e.meaning.is_empty() && !e.value.is_empty()));
}
