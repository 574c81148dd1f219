//! Every message of the configuration, in its words; and no text makes it panic.

use grid_core::config::{ConfigErrors, parse, show};
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("data/cluster.yaml");
const TWO: &str =
    "name: c\nnodes:\n  - {name: h, role: head, cpu_count: 4}\n  - {name: w, cpu_count: 4, memory_gb: 8}\n";

fn errors(text: &str) -> ConfigErrors {
    match parse(text) {
        Err(e) => e,
        Ok(p) => panic!("loads: {text}\n{p:?}"),
    }
}

fn said(text: &str) -> String {
    errors(text).at("c.yaml").to_string()
}

/// The messages for what follows the valid cluster, which ends with line 4.
fn more(text: &str) -> String {
    said(&format!("{TWO}{text}"))
}

/// The messages for a cluster whose third node is this, on line 5.
fn node(text: &str) -> String {
    said(&format!("{TWO}  - {text}\n"))
}

fn sharing(text: &str) -> String {
    more(&format!("execution:\n  resource_sharing:\n    {text}\n"))
}

#[test]
fn unknown_keys() {
    insta::assert_snapshot!(said(&EXAMPLE.replacen("max_share_cpu: 4, max_share_memory_gb: 8", "max_share_cpus: 4", 1)), @r#"c.yaml:25:41: unknown key "max_share_cpus" in nodes[1].resource_sharing; did you mean "max_share_cpu"?"#);
    insta::assert_snapshot!(more("detecter: {}\nzzz: 1\nthresholds: {}\n\"a\\nb\": 1\n5: 6\n"), @r##"
    c.yaml:5:1: unknown key "detecter"; did you mean "detector"?
    c.yaml:6:1: unknown key "zzz"; known here: name, nodes, execution, detector, limits, users, logging
    c.yaml:7:1: unknown key "thresholds"; it belongs in execution.resource_sharing
    c.yaml:8:1: unknown key "a\nb"; known here: name, nodes, execution, detector, limits, users, logging
    c.yaml:9:1: unknown key "5"; known here: name, nodes, execution, detector, limits, users, logging
    "##);
}

#[test]
fn missing_keys_and_wrong_kinds() {
    insta::assert_snapshot!(said("nodes:\n"), @r##"
    c.yaml:1:1: missing key "name"; name of the cluster
    c.yaml:1:1: missing key "nodes"; the machines; exactly one is the head
    "##);
    insta::assert_snapshot!(said("name: c\nnodes: []\n"), @r#"c.yaml:2:1: nodes: none is the head; give the node whose work is to be relieved "role: head""#);
    insta::assert_snapshot!(said("name: c\nnodes: {name: x}\n"), @r#"c.yaml:2:8: nodes: expected a list, found a mapping; begin each item with "- ""#);
    insta::assert_snapshot!(said("hello"), @r#"c.yaml:1:1: the configuration: expected a mapping, found "hello""#);
    insta::assert_snapshot!(said("- a\n"), @r#"c.yaml:1:1: the configuration: expected a mapping, found a list"#);
    insta::assert_snapshot!(said("name: c\nnodes: [h, ~]\n"), @r##"
    c.yaml:2:9: nodes[0]: expected a mapping, found "h"
    c.yaml:2:12: nodes[1]: expected a mapping, found nothing
    "##);
    insta::assert_snapshot!(node("{host: x, tags: gpu, port: [22], resource_sharing: yes}"), @r##"
    c.yaml:5:5: missing key "name" in nodes[2]; what the node is called everywhere
    c.yaml:5:21: nodes[2].tags: expected a list, found "gpu"; write [gpu]
    c.yaml:5:32: nodes[2].port: expected a whole number from 1 to 65535, found a list
    c.yaml:5:56: nodes[2].resource_sharing: expected a mapping, found "yes"
    "##);
    insta::assert_snapshot!(node("{name: x, tags: [a, {b: c}, \"\"], ray_start_params: secret}"), @r##"
    c.yaml:5:25: nodes[2].tags[1]: expected text, found a mapping
    c.yaml:5:33: nodes[2].tags[2]: expected text, found nothing
    c.yaml:5:56: nodes[2].ray_start_params: expected a mapping, found text
    "##);
    insta::assert_snapshot!(more("execution: {environment: {A: [secret], \"B=\": 1}}"), @r##"
    c.yaml:5:30: execution.environment.A: expected text, found a list
    c.yaml:5:40: execution.environment."B=": "B=" is no name of a variable
    "##);
}

#[test]
fn numbers() {
    insta::assert_snapshot!(node("{name: x, port: 0, cpu_count: 1.5, gpu_count: -1, memory_gb: 16GB}"), @r##"
    c.yaml:5:21: nodes[2].port: expected a whole number from 1 to 65535, found 0
    c.yaml:5:35: nodes[2].cpu_count: expected a whole number from 1 to 100000, found 1.5
    c.yaml:5:51: nodes[2].gpu_count: expected a whole number from 0 to 1024, found -1
    c.yaml:5:66: nodes[2].memory_gb: expected a number of GiB from 0.001 to 1048576, found "16GB"; write 16
    "##);
    insta::assert_snapshot!(node("{name: x, port: 65536, cpu_count: many, memory_gb: .nan, resource_sharing: {max_share_cpu: -2, max_share_memory_gb: inf, max_share_gpu: 0.5, priority: -0.1}}"), @r##"
    c.yaml:5:21: nodes[2].port: expected a whole number from 1 to 65535, found 65536
    c.yaml:5:39: nodes[2].cpu_count: expected a whole number from 1 to 100000, found "many"
    c.yaml:5:56: nodes[2].memory_gb: expected a number of GiB from 0.001 to 1048576, found ".nan"
    c.yaml:5:96: nodes[2].resource_sharing.max_share_cpu: expected a number of CPUs from 0 to 100000, found -2
    c.yaml:5:121: nodes[2].resource_sharing.max_share_memory_gb: expected a number of GiB from 0 to 1048576, found inf
    c.yaml:5:141: nodes[2].resource_sharing.max_share_gpu: expected a whole number from 0 to 1024, found 0.5
    c.yaml:5:156: nodes[2].resource_sharing.priority: expected a number from 0 to 1000000, found -0.1
    "##);
    insta::assert_snapshot!(sharing("thresholds: {cpu_pressure_high: 80, memory_pressure_high: 80%, gpu_pressure_low: NaN, excess_threshold: 1}"), @r##"
    c.yaml:7:37: execution.resource_sharing.thresholds.cpu_pressure_high: expected a fraction from 0 to 1, found 80; write 0.8
    c.yaml:7:63: execution.resource_sharing.thresholds.memory_pressure_high: expected a fraction from 0 to 1, found "80%"; write 0.8
    c.yaml:7:86: execution.resource_sharing.thresholds.gpu_pressure_low: expected a fraction from 0 to 1, found NaN
    c.yaml:7:109: execution.resource_sharing.thresholds.excess_threshold: expected a fraction from 0 to 0.9, found 1
    "##);
    insta::assert_snapshot!(sharing("auto_offload: {cpu_threshold: 0.8, memory_threshold: 70%, gpu_threshold: 101, check_interval_seconds: 5s, cooldown_seconds: -1, burst: 0}"), @r##"
    c.yaml:7:35: execution.resource_sharing.auto_offload.cpu_threshold: expected a percentage from 1 to 100, found 0.8; write 80
    c.yaml:7:58: execution.resource_sharing.auto_offload.memory_threshold: expected a percentage from 1 to 100, found "70%"; write 70
    c.yaml:7:78: execution.resource_sharing.auto_offload.gpu_threshold: expected a percentage from 1 to 100, found 101
    c.yaml:7:107: execution.resource_sharing.auto_offload.check_interval_seconds: expected a number of seconds from 0.1 to 86400, found "5s"; write 5
    c.yaml:7:129: execution.resource_sharing.auto_offload.cooldown_seconds: expected a number of seconds from 0 to 86400, found -1
    c.yaml:7:140: execution.resource_sharing.auto_offload.burst: expected a whole number from 1 to 1000, found 0
    "##);
    insta::assert_snapshot!(sharing("allocation_timeout_minutes: 1h"), @r#"c.yaml:7:33: execution.resource_sharing.allocation_timeout_minutes: expected a number of minutes from 0.01 to 525600, found "1h"; write 60"#);
}

#[test]
fn units() {
    insta::assert_snapshot!(more("limits: {boost_duration: 60, max_frozen: 0s, plan_validity: soon, history: -1}\ndetector: {min_age: -1s, min_memory: 10 apples, worth_cpu: 5%}"), @r##"
    c.yaml:5:26: limits.boost_duration: "60" is not a duration such as 90s, 2m or 1h30m; with its unit: 60s
    c.yaml:5:42: limits.max_frozen: "0s" is out of range: it must be more than zero
    c.yaml:5:61: limits.plan_validity: "soon" is not a duration such as 90s, 2m or 1h30m
    c.yaml:5:76: limits.history: expected a whole number from 0 to 1000000, found -1
    c.yaml:6:21: detector.min_age: "-1s" is out of range: it must be more than zero
    c.yaml:6:38: detector.min_memory: "10 apples" is not a size such as 512MiB or 1.5GiB
    c.yaml:6:60: detector.worth_cpu: "5%" is not a number of CPUs such as 2, 0.5 or 1500m
    "##);
}

#[test]
fn words() {
    insta::assert_snapshot!(node("{name: x, role: wroker}"), @r#"c.yaml:5:21: nodes[2].role: expected one of head, worker, found "wroker"; did you mean "worker"?"#);
    insta::assert_snapshot!(sharing("{mode: balanced, policy: agressive, enabled: maybe, auto_offload: maybe}"), @r##"
    c.yaml:7:12: execution.resource_sharing.mode: expected one of offload_only, share_and_offload, dynamic_balancing, found "balanced"
    c.yaml:7:30: execution.resource_sharing.policy: expected one of conservative, balanced, aggressive, predictive, found "agressive"; did you mean "aggressive"?
    c.yaml:7:50: execution.resource_sharing.enabled: expected true or false, found "maybe"
    c.yaml:7:71: execution.resource_sharing.auto_offload: expected one of off, observe, on, found "maybe"
    "##);
    insta::assert_snapshot!(more("limits: {at_end: kill}\nlogging: {level: LOUD}"), @r##"
    c.yaml:5:18: limits.at_end: expected one of recall, stay, park, end, found "kill"
    c.yaml:6:18: logging.level: expected one of DEBUG, INFO, WARNING, ERROR, CRITICAL, found "LOUD"
    "##);
}

#[test]
fn names_and_addresses() {
    insta::assert_snapshot!(node("{name: a/b, host: -oProxyCommand=x, user: \"-l root\"}"), @r##"
    c.yaml:5:12: nodes[2].name: "a/b" is no name for a node; letters, digits, ".", "_" and "-", at most 63, a letter or digit first
    c.yaml:5:23: nodes[2].host: "-oProxyCommand=x" is no host name or address
    c.yaml:5:47: nodes[2].user: "-l root" is no user name or number
    "##);
    insta::assert_snapshot!(node("{name: \"\", host: bob@gpu1, ssh_key_path: \"a\\nb\"}"), @r##"
    c.yaml:5:12: nodes[2].name: expected text, found nothing
    c.yaml:5:22: nodes[2].host: "bob@gpu1" is no host name or address; the user goes under "user"
    c.yaml:5:46: nodes[2].ssh_key_path: "a\nb" is not one plain line of text
    "##);
}

#[test]
fn nodes_together() {
    insta::assert_snapshot!(node("{name: w, host: other}"), @r#"c.yaml:5:6: nodes[2].name: "w" is already the name of nodes[1] (line 4); every node has a name of its own"#);
    insta::assert_snapshot!(node("{name: x, host: W}"), @r#"c.yaml:5:15: nodes[2].host: W port 22 is already nodes[1] (w); list a machine once: it would lend the same capacity twice"#);
    insta::assert_snapshot!(node("{name: x, role: master}"), @r#"c.yaml:5:15: nodes[2].role: a second head; nodes[0] (h) is the head already; write "role: worker""#);
    insta::assert_snapshot!(said("name: c\nnodes:\n  - {name: h}\n"), @r#"c.yaml:2:1: nodes: none is the head; give the node whose work is to be relieved "role: head""#);
    insta::assert_snapshot!(node("{name: x, cpu_count: 4, memory_gb: 8, gpu_count: 0, resource_sharing: {max_share_cpu: 4.5, max_share_memory_gb: 9, max_share_gpu: 1}}"), @r##"
    c.yaml:5:76: nodes[2].resource_sharing.max_share_cpu: 4.5 is more than the node's cpu_count (4); lower one or raise the other
    c.yaml:5:96: nodes[2].resource_sharing.max_share_memory_gb: 9 is more than the node's memory_gb (8); lower one or raise the other
    c.yaml:5:120: nodes[2].resource_sharing.max_share_gpu: 1 is more than the node's gpu_count (0); lower one or raise the other
    "##);
    insta::assert_snapshot!(node("{name: x, resource_sharing: {can_share: true, max_share_cpu: 0, max_share_memory_gb: 0, max_share_gpu: 0}}"), @r#"c.yaml:5:34: nodes[2].resource_sharing.can_share: the node lends, but every max_share of it is 0; write "can_share: false", or raise one"#);
}

#[test]
fn contradictions() {
    insta::assert_snapshot!(sharing("thresholds: {cpu_pressure_high: 0.2, cpu_pressure_low: 0.3, memory_pressure_low: 0.9, gpu_pressure_low: 0.8}"), @r##"
    c.yaml:7:42: execution.resource_sharing.thresholds.cpu_pressure_low: 0.3 is not below cpu_pressure_high (0.2); between the two lies the span in which nothing changes
    c.yaml:7:65: execution.resource_sharing.thresholds.memory_pressure_low: 0.9 is not below memory_pressure_high (0.8, the default); between the two lies the span in which nothing changes
    c.yaml:7:91: execution.resource_sharing.thresholds.gpu_pressure_low: 0.8 is not below gpu_pressure_high (0.8, the default); between the two lies the span in which nothing changes
    "##);
    insta::assert_snapshot!(sharing("auto_offload: {enabled: true, mode: observe}"), @r#"c.yaml:7:20: execution.resource_sharing.auto_offload.enabled: true contradicts mode observe; keep mode, leave enabled out"#);
    insta::assert_snapshot!(sharing("{enabled: false, auto_offload: on}"), @r#"c.yaml:7:22: execution.resource_sharing.auto_offload.mode: on, but execution.resource_sharing.enabled is false: no node lends; switch sharing on, or auto_offload off"#);
    insta::assert_snapshot!(sharing("auto_offload: {critical_threshold: 60, per_critical_round: 1}"), @r##"
    c.yaml:7:20: execution.resource_sharing.auto_offload.critical_threshold: 60 is below memory_threshold (70); critical is beyond what triggers
    c.yaml:7:44: execution.resource_sharing.auto_offload.per_critical_round: 1 is less than per_round (2); a critical round may move at least as many
    "##);
    insta::assert_snapshot!(more("limits: {boost_duration: 8d}"), @r#"c.yaml:5:10: limits.boost_duration: 8d00h is longer than max_boost_duration (7d00h); shorten one or raise the other"#);
    insta::assert_snapshot!(more("detector:\n  rules:\n    - {action: allow}\n    - {comm: x}\n"), @r##"
    c.yaml:7:7: detector.rules[0]: matches every process; say which: exe, comm, arg or user
    c.yaml:8:7: detector.rules[1]: does nothing; say what: kind or action
    "##);
}

#[test]
fn not_yaml() {
    insta::assert_snapshot!(said(""), @r#"c.yaml:1:1: the configuration is empty; `grid init` writes one for this machine"#);
    insta::assert_snapshot!(said("# nothing\n"), @r#"c.yaml:1:1: the configuration is empty; `grid init` writes one for this machine"#);
    insta::assert_snapshot!(said("name: c\nnodes: [\n"), @r#"c.yaml:2:8: not valid YAML: unclosed bracket '['"#);
    insta::assert_snapshot!(said("name: c\n\tnodes: 1\n"), @r#"c.yaml:1:7: not valid YAML: while scanning a plain scalar, found a tab; indent with spaces"#);
    insta::assert_snapshot!(said("name: \"c\n"), @r#"c.yaml:1:7: not valid YAML: unclosed quote"#);
    insta::assert_snapshot!(said("name: c\nnodes: []\n---\nname: d\n"), @r#"c.yaml:3:1: a second YAML document begins here; a configuration is one document; remove the ---"#);
    insta::assert_snapshot!(more("detector: {rules: [{exe: */python3, action: allow}]}"), @r#"c.yaml:5:26: not valid YAML: while parsing node, found unknown anchor; a value that begins with * needs quotes: "*/python3""#);
    insta::assert_snapshot!(more("name: d\nlimits: {history: 1, history: 2}\n"), @r##"
    c.yaml:5:1: duplicate key "name"; it is already on line 1; keep one of them
    c.yaml:6:22: duplicate key "history" in limits; it is already on line 6; keep one of them
    "##);
    insta::assert_snapshot!(said("name: !!str c\nnodes: &a [*a]\n"), @r##"
    c.yaml:1:13: YAML tags (!…) are not used in a configuration; write the value plainly
    c.yaml:2:12: this alias stands inside what it names
    "##);
    insta::assert_snapshot!(said("? [a, b]\n: 1\n"), @r##"
    c.yaml:1:1: missing key "name"; name of the cluster
    c.yaml:1:1: missing key "nodes"; the machines; exactly one is the head
    c.yaml:1:3: a key must be one word; braces in a value need quotes
    "##);
    insta::assert_snapshot!(said("name: c\n<<: 5\nnodes: []\n"), @r##"
    c.yaml:2:5: "<<" takes a mapping or a list of mappings
    c.yaml:3:1: nodes: none is the head; give the node whose work is to be relieved "role: head"
    "##);
    insta::assert_snapshot!(said(&"[".repeat(1000)), @r#"c.yaml:1:256: not valid YAML: recursion limit exceeded"#);
    insta::assert_snapshot!(said(&"#".repeat(2 << 20)), @r#"c.yaml:1:1: the file is larger than 1 MiB; that is no configuration"#);
}

#[test]
fn texts_that_would_take_everything_are_refused_soon() {
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    let mut deep = "a0: &a0 [x]\n".to_owned();
    for i in 1..200 {
        let p = i - 1;
        laughs.push_str(&format!("a{i}: &a{i} [*a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}]\n"));
        deep.push_str(&format!("a{i}: &a{i} [*a{p}]\n"));
    }
    let keys: String = (0..100_000).map(|i| format!("k{i}: 1\n")).collect();
    for text in [laughs, deep, keys] {
        assert_eq!(errors(&text).0.len(), 1, "{}", &text[..40]);
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*|([a-z<>*&!{}\\[\\]:,'\"#|~. \n\t-]){0,80}") {
        let _ = parse(&text);
    }

    /// Nearly right is where the interesting faults are: one stretch of the example replaced.
    #[test]
    fn no_damaged_file_panics(at in 0..EXAMPLE.len(), len in 0usize..40, put in "[ -~\n\u{e9}]{0,12}") {
        let (Some(before), Some(after)) = (EXAMPLE.get(..at), EXAMPLE.get((at + len).min(EXAMPLE.len())..)) else {
            return Ok(());
        };
        match parse(&format!("{before}{put}{after}")) {
            Ok(p) => prop_assert_eq!(parse(&show(&p)).map(|q| q.config), Ok(p.config)),
            Err(e) => {
                prop_assert!(!e.0.is_empty());
                prop_assert!(e.0.iter().all(|e| e.line > 0 && e.column > 0 && !e.message.contains('\n')));
            }
        }
    }

    /// Any value in any place is read or refused, and what is read comes back.
    #[test]
    fn values_come_back(key in "min_age|min_memory|worth_cpu|worth_memory|protected_users", value in "[0-9.]{1,6}(ms|s|m|h|d|k|MiB|GiB|)|[\\[\\]a-z, ]{0,9}") {
        if let Ok(p) = parse(&format!("{TWO}detector: {{{key}: {value}}}\n")) {
            prop_assert_eq!(parse(&show(&p)).map(|q| q.config), Ok(p.config));
        }
    }

    #[test]
    fn texts_come_back(name in "\\PC{1,20}", tag in "\\PC{1,20}") {
        let quote = |t: &str| serde_json::to_string(t).unwrap();
        if let Ok(p) = parse(&format!("name: {}\nnodes:\n  - {{name: h, role: head, tags: [{}]}}\n", quote(&name), quote(&tag))) {
            prop_assert_eq!(&p.config.name, &name);
            prop_assert_eq!(parse(&show(&p)).map(|q| q.config), Ok(p.config));
        }
    }
}

#[test]
fn facts_come_in_time_to_be_known() {
    let limits = |text: &str| more(&format!("limits: {{{text}}}\n"));
    insta::assert_snapshot!(limits("facts_every: 500ms"), @"c.yaml:5:10: limits.facts_every: 500 ms is more often than agents look; 1s or more");
    insta::assert_snapshot!(limits("facts_every: 10s"), @"c.yaml:5:10: limits.facts_every: nodes that speak every 10 s are unknown after 5.0 s; make stale_after at least twice as long");
    parse(&format!("{TWO}limits: {{facts_every: 10s, stale_after: 30s}}\n")).unwrap();
}

#[test]
fn folders_that_are_the_workers_own() {
    let paths = |text: &str| more(&format!("execution:\n  {text}\n"));
    insta::assert_snapshot!(paths("shared_paths: [/data]"), @"c.yaml:6:3: execution.shared_paths: without files: home every folder of a worker is its own; add files: home, or leave it out");
    insta::assert_snapshot!(paths("files_patience: 10m"), @"c.yaml:6:3: execution.files_patience: without files: home nobody on a worker waits for the head's files; add files: home, or leave it out");
    insta::assert_snapshot!(paths("files: home\n  files_patience: 0s"), @r#"c.yaml:7:19: execution.files_patience: "0s" is out of range: it must be more than zero"#);
    insta::assert_snapshot!(paths("files: home\n  shared_paths: [/data, data, /a/../b]"), @r#"
    c.yaml:7:25: execution.shared_paths[1]: "data" is no folder's path; an absolute path of letters, digits and . _ - /, as /var/lib/grid
    c.yaml:7:31: execution.shared_paths[2]: "/a/../b" is no folder's path; an absolute path of letters, digits and . _ - /, as /var/lib/grid
    "#);
    insta::assert_snapshot!(paths("files: home\n  shared_paths: [/data, /]\n  local_paths: [/data]"), @r"
    c.yaml:7:3: execution.shared_paths: / cannot be a folder of its own; a folder by its plain path, as /data; not /, /proc, /dev or /sys
    c.yaml:8:3: execution.local_paths: /data is named twice; name it once, as shared or as local
    ");
    for odd in ["/x//y", "/scratch/", "/a/./b", "/dev"] {
        assert!(
            paths(&format!("files: home\n  local_paths: [{odd}]")).contains("cannot be a folder of its own"),
            "{odd}"
        );
    }
    parse(&format!("{TWO}execution:\n  files: home\n  shared_paths: [/data]\n  local_paths: [/data/mine]\n")).unwrap();
}

#[test]
fn direct_links_that_cannot_be() {
    let execution = |text: &str| more(&format!("execution: {{{text}}}\n"));
    insta::assert_snapshot!(execution("engine: ssh, link_listen: \"head:7443\""), @r#"c.yaml:5:39: execution.link_listen: "head:7443" is no address of this machine with a port; as 192.0.2.1:7443 or "[2001:db8::1]:7443"; a name goes under link_dial"#);
    insta::assert_snapshot!(execution("engine: ssh, link_listen: \"192.0.2.1:0\""), @r#"c.yaml:5:39: execution.link_listen: port 0 would be another one at each start, and workers and firewalls know it beforehand; a fixed one, as 7443"#);
    insta::assert_snapshot!(execution("engine: ssh, link_listen: \"0.0.0.0:7443\""), @r#"c.yaml:5:26: execution.link_listen: 0.0.0.0:7443 is nothing that another machine can dial; say what the workers dial, too: link_dial: head.example:7443"#);
    insta::assert_snapshot!(execution("engine: ssh, link_listen: \"127.0.0.1:7443\""), @r#"c.yaml:5:26: execution.link_listen: 127.0.0.1:7443 is nothing that another machine can dial; say what the workers dial, too: link_dial: head.example:7443"#);
    insta::assert_snapshot!(execution("link_listen: \"192.0.2.1:7443\""), @r#"c.yaml:5:13: execution.link_listen: the workers of the local engine are made on this machine, and dial nothing else; add engine: ssh, or leave it out"#);
    insta::assert_snapshot!(execution("engine: ssh, link_dial: \"head:7443\""), @r#"c.yaml:5:26: execution.link_dial: nothing listens for it; say where the head listens, too: link_listen: 192.0.2.1:7443"#);
    insta::assert_snapshot!(execution("engine: ssh, link_listen: \"192.0.2.1:7443\", link_dial: head"), @r#"c.yaml:5:68: execution.link_dial: "head" is no host with a port; as head.example:7443, 192.0.2.1:7443 or "[2001:db8::1]:7443""#);
}
