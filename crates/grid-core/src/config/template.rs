//! The commented file that `grid init` writes from what it found on this machine.

use super::local::node_name;
use super::read;
use super::render;
use super::schema::TextRule;
use grid_types::policy::Policy;
use grid_types::units::Bytes;
use std::collections::BTreeSet;
use std::fmt::Write;

/// What `grid init` found on this machine. What it could not find out is `None` and becomes a comment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitFacts {
    /// The machine's own name.
    pub hostname: String,
    /// CPUs that may be used.
    pub cpu_count: Option<u32>,
    /// Memory that may be used.
    pub memory: Option<Bytes>,
    /// GPUs.
    pub gpu_count: Option<u32>,
    /// Hosts of the user's ssh configuration, offered as workers in comments.
    pub ssh_hosts: Vec<SshHost>,
}

/// A `Host` of an ssh configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SshHost {
    /// The alias.
    pub name: String,
    /// `HostName`; without one the alias is used, which ssh resolves.
    pub host: Option<String>,
    /// `User`.
    pub user: Option<String>,
    /// `Port`.
    pub port: Option<u16>,
}

/// A configuration with this machine as its head and nothing else switched on: [`super::parse`] reads it, automatic
/// offloading only observes. Aliases that cannot name a node (patterns such as `*.lan`) are left out.
pub fn init_template(facts: &InitFacts) -> String {
    let name = if node_name(&facts.hostname) { facts.hostname.as_str() } else { "head" };
    let mut out = format!(
        "# grid's configuration. `grid config check` says what each value means here.\nname: {0}\nnodes:\n\
         \x20 # The head: this machine, whose work is relieved.\n  - name: {0}\n    host: {0}\n    role: head\n",
        render::text(name)
    );
    size(&mut out, "cpu_count", facts.cpu_count.filter(|n| (1..=100_000).contains(n)).map(|n| n.to_string()));
    size(&mut out, "memory_gb", facts.memory.and_then(gib));
    size(&mut out, "gpu_count", facts.gpu_count.filter(|n| *n <= 1024).map(|n| n.to_string()));
    out.push_str("    resource_sharing: {can_share: false}   # the head lends to nobody\n");
    workers(&mut out, name, &facts.ssh_hosts);
    policy(&mut out);
    out
}

fn size(out: &mut String, key: &str, value: Option<String>) {
    let _ = match value {
        Some(value) => writeln!(out, "    {key}: {value}"),
        None => writeln!(out, "    # {key}: not found out; detected when grid starts"),
    };
}

/// Rounded down to a tenth: less than there is, never more.
fn gib(memory: Bytes) -> Option<String> {
    let tenths = (memory.0 as f64 / read::GIB * 10.0).floor() / 10.0;
    (tenths > 0.0 && tenths <= 1_048_576.0).then(|| tenths.to_string())
}

fn workers(out: &mut String, head: &str, hosts: &[SshHost]) {
    out.push_str("\n  # Workers lend what max_share_cpu and max_share_memory_gb say, without them 1 CPU and 1 GiB.\n");
    let mut seen = BTreeSet::from([head]);
    let fit: Vec<&SshHost> = hosts.iter().filter(|h| usable(h) && seen.insert(&h.name)).collect();
    if fit.is_empty() {
        let example = SshHost { name: "gpu1".to_owned(), host: Some("192.168.1.101".to_owned()), ..SshHost::default() };
        return worker(out, &example);
    }
    out.push_str("  # These are in your ssh configuration; remove the \"# \" before those that may lend.\n");
    fit.into_iter().for_each(|host| worker(out, host));
}

fn usable(host: &SshHost) -> bool {
    let sound = |rule, text: &Option<String>| text.as_ref().is_none_or(|t| read::text(rule, t).is_ok());
    node_name(&host.name)
        && sound(TextRule::Host, &host.host)
        && sound(TextRule::User, &host.user)
        && host.port != Some(0)
}

fn worker(out: &mut String, host: &SshHost) {
    let name = render::text(&host.name);
    let address = host.host.as_ref().map_or_else(|| name.clone(), |h| render::text(h));
    let _ = writeln!(out, "  # - name: {name}\n  #   host: {address}");
    if let Some(port) = host.port {
        let _ = writeln!(out, "  #   port: {port}");
    }
    if let Some(user) = &host.user {
        let _ = writeln!(out, "  #   user: {}", render::text(user));
    }
    let _ = writeln!(
        out,
        "  #   role: worker\n  #   resource_sharing: {{can_share: true}}   # max_share_cpu, max_share_memory_gb, max_share_gpu"
    );
}

fn policy(out: &mut String) {
    let Policy { auto_offload: a, thresholds: t, limits, .. } = Policy::default();
    let (cool, hour) = (a.cooldown.0 / 1000, limits.boost_duration.0 / 3_600_000);
    let _ = write!(
        out,
        "
execution:
  engine: local                    # each worker is made on this machine; ssh: each is another one, reached by your ssh
  resource_sharing:
    enabled: true
    mode: dynamic_balancing        # offload_only, share_and_offload, dynamic_balancing
    policy: balanced               # conservative, balanced, aggressive
    thresholds:
      excess_threshold: {}        # fraction of itself that a lender keeps free
    auto_offload:
      mode: observe                # off; observe: says what it would do; on: does it
      cpu_threshold: {}            # percent of the head
      memory_threshold: {}
      gpu_threshold: {}
      cooldown_seconds: {cool}         # a process that was moved or refused is left alone for so long

limits:
  boost_duration: {hour}h             # of a boost that names none
  max_frozen: {}s                # a move that would freeze its process for longer is refused

# detector:
#   protected_users: [postgres]
#   rules:
#     - {{name: my training, exe: \"*/python3\", arg: \"*train*\", kind: training, action: allow}}
",
        t.excess,
        a.cpu_percent,
        a.memory_percent,
        a.gpu_percent,
        limits.max_frozen.0 / 1000,
    );
}
