//! Configurations that grid makes itself: `grid init` and `grid up --local`.

use grid_core::config::{InitFacts, Parsed, Source, SshHost, explain, init_template, local, parse, show};
use grid_types::policy::{AutoMode, Policy, Role};
use grid_types::units::{Bytes, MilliCpu, Resources};
use proptest::prelude::*;

fn facts() -> InitFacts {
    let host = |name: &str| SshHost { name: name.to_owned(), ..SshHost::default() };
    InitFacts {
        hostname: "ws1".to_owned(),
        cpu_count: Some(8),
        memory: Some(Bytes(33_567_891_456)),
        gpu_count: Some(1),
        ssh_hosts: vec![
            SshHost {
                host: Some("192.168.1.101".to_owned()),
                user: Some("bob".to_owned()),
                port: Some(2222),
                ..host("gpu1")
            },
            host("*.lan"),
            host("gpu2"),
            host("gpu2"),
            host("ws1"),
        ],
    }
}

#[test]
fn the_template_reads_as_written() {
    let text = init_template(&facts());
    insta::assert_snapshot!(text, @r##"
    # grid's configuration. `grid config check` says what each value means here.
    name: ws1
    nodes:
      # The head: this machine, whose work is relieved.
      - name: ws1
        host: ws1
        role: head
        cpu_count: 8
        memory_gb: 31.2
        gpu_count: 1
        resource_sharing: {can_share: false}   # the head lends to nobody

      # Workers lend what max_share_cpu and max_share_memory_gb say, without them 1 CPU and 1 GiB.
      # These are in your ssh configuration; remove the "# " before those that may lend.
      # - name: gpu1
      #   host: "192.168.1.101"
      #   port: 2222
      #   user: bob
      #   role: worker
      #   resource_sharing: {can_share: true}   # max_share_cpu, max_share_memory_gb, max_share_gpu
      # - name: gpu2
      #   host: gpu2
      #   role: worker
      #   resource_sharing: {can_share: true}   # max_share_cpu, max_share_memory_gb, max_share_gpu

    execution:
      engine: local                    # each worker is made on this machine; ssh: each is another one, reached by your ssh
      resource_sharing:
        enabled: true
        mode: dynamic_balancing        # offload_only, share_and_offload, dynamic_balancing
        policy: balanced               # conservative, balanced, aggressive
        thresholds:
          excess_threshold: 0.2        # fraction of itself that a lender keeps free
        auto_offload:
          mode: observe                # off; observe: says what it would do; on: does it
          cpu_threshold: 80            # percent of the head
          memory_threshold: 70
          gpu_threshold: 90
          cooldown_seconds: 30         # a process that was moved or refused is left alone for so long

    limits:
      boost_duration: 1h             # of a boost that names none
      max_frozen: 10s                # a move that would freeze its process for longer is refused

    # detector:
    #   protected_users: [postgres]
    #   rules:
    #     - {name: my training, exe: "*/python3", arg: "*train*", kind: training, action: allow}
    "##);
    let c = parse(&text).unwrap_or_else(|e| panic!("{e}")).config;
    assert_eq!(c.policy, Policy::default());
    assert_eq!((c.nodes.len(), c.nodes[0].role, c.policy.auto_offload.mode), (1, Role::Head, AutoMode::Observe));
}

#[test]
fn its_suggestions_are_right_when_uncommented() {
    let text: String = init_template(&facts())
        .lines()
        .map(|l| if l.starts_with("  # -") || l.starts_with("  #   ") { l.replacen("# ", "", 1) } else { l.to_owned() } + "\n")
        .collect();
    let c = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}")).config;
    assert_eq!(c.nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["ws1", "gpu1", "gpu2"]);
    assert_eq!((c.nodes[1].port, c.nodes[1].user.as_deref()), (2222, Some("bob")));
    assert!(c.nodes[2].sharing.can_share);
}

#[test]
fn a_machine_that_says_nothing_gets_a_file_too() {
    let c = parse(&init_template(&InitFacts::default())).unwrap_or_else(|e| panic!("{e}")).config;
    assert_eq!((c.nodes[0].name.as_str(), c.nodes[0].cpu_count), ("head", None));
}

#[test]
fn a_local_cluster() {
    let head = Resources { cpu: MilliCpu(4000), memory: Bytes(8 << 30), gpu: 0 };
    let worker = Resources { cpu: MilliCpu(1500), memory: Bytes(1 << 30), gpu: 0 };
    let c = local(2, "ws1", head, worker);
    assert_eq!(c.nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["ws1", "gpu1", "gpu2"]);
    assert_eq!(c.nodes.iter().map(|n| n.sharing.can_share).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(c.nodes[1].sharing.lending_limit(worker), worker);
    for (name, want) in [("gpu2", "head"), ("gpu3", "gpu3"), ("", "head"), ("a b", "head")] {
        assert_eq!(local(2, name, head, worker).nodes[0].name.as_str(), want);
    }
    let made = Parsed::from(c.clone());
    assert!(explain(&made).iter().all(|e| e.source == Source::Default));
    assert_eq!(parse(&show(&made)).unwrap_or_else(|e| panic!("{e}")).config, c);
}

proptest! {
    #[test]
    fn whatever_is_found_the_template_loads(
        hostname in "\\PC{0,12}|[a-z-]{0,5}", cpus in any::<Option<u32>>(), memory in any::<Option<u64>>(),
        gpus in any::<Option<u32>>(), name in "\\PC{0,12}|on|5", host in proptest::option::of("\\PC{0,12}|[a-z:.]{1,9}"),
        port in any::<Option<u16>>(),
    ) {
        let ssh_hosts = vec![SshHost { name, host: host.clone(), user: host, port }];
        let facts = InitFacts { hostname, cpu_count: cpus, memory: memory.map(Bytes), gpu_count: gpus, ssh_hosts };
        let text = init_template(&facts);
        let parsed = parse(&text);
        prop_assert!(parsed.is_ok(), "{}\n{}", parsed.map(|_| ()).unwrap_err(), text);
    }
}
