//! What the owner of a lender does on it takes it back for him, by a rule of his, and gives it back when that is over.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

#[allow(dead_code)] // each file of tests uses a part of it
mod shadow;

use grid_testkit::cluster::Cluster;
use grid_testkit::procs::nearly_all_memory;
use grid_types::api::BoostView;
use grid_types::boost::{BoostState, EndReason};
use grid_types::event::{Actor, Event, EventRecord, OffloadPhase};
use grid_types::exit::FaultClass;
use grid_types::fault::OWNER_FILE;
use grid_types::lend::Closed;
use grid_types::reason::ReasonCode;
use nix::sys::signal::Signal;
use serde_json::Value;
use shadow::{Job, send};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const CHILD: &str = "/usr/bin/python3 prog.py
told $?";

/// What the owner of gpu1 does: real processes, in a control group of their own. The rest of this machine is not his, and has
/// its own troubles.
struct Owner {
    groups: Vec<PathBuf>,
    busy: Vec<Child>,
}

impl Owner {
    fn of(cluster: &Cluster, node: &str) -> Self {
        let name = format!("owner-{}", cluster.group());
        let mounts = ["/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup"].map(Path::new);
        let counts = |mount: &&&Path| mount.join("cgroup.procs").exists();
        let dir = mounts.iter().find(counts).unwrap().join(&name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(cluster.state().join("nodes").join(node).join(OWNER_FILE), &name).unwrap();
        Self { groups: vec![dir], busy: Vec::new() }
    }

    /// Begins to be busy.
    fn works(&mut self) {
        let join = format!("echo $$ >{}/cgroup.procs; while :; do :; done", self.groups[0].display());
        self.busy.push(Command::new("sh").args(["-c", &join]).spawn().unwrap());
    }

    fn rests(&mut self) {
        for mut child in self.busy.drain(..) {
            child.kill().and_then(|()| child.wait()).unwrap();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.rests();
        for dir in &self.groups {
            let _ = std::fs::remove_dir(dir);
        }
    }
}

/// `grid lend WORDS` as root on the machine that lends; what it says.
fn lend(cluster: &Cluster, words: &[&str]) -> String {
    let said = cluster.grid(&[&["lend"], words].concat());
    assert_eq!(said.code, 0, "grid lend {words:?}: {said:?}\n{}", cluster.logs());
    said.out
}

/// The state of the only rule.
fn rule(cluster: &Cluster) -> Value {
    let all: Vec<Value> = cluster.ask(&["lend", "status"]);
    all[0]["answer"]["rules"][0].clone()
}

fn wait_in_force(cluster: &Cluster, is: bool) {
    cluster.wait("the rule", || {
        let rule = rule(cluster);
        if (rule["phase"]["is"] == "in_force") == is { Ok(()) } else { Err(rule) }
    });
}

/// The head's row of gpu1 says so, or does not.
fn head_says(cluster: &Cluster, text: &str, says: bool) {
    cluster.wait(&format!("the head to say {text:?} of gpu1: {says}"), || {
        let out = cluster.grid(&["status"]).out;
        let row = |line: &&str| line.starts_with("gpu1") && line.contains(text);
        if out.lines().any(|line| row(&line)) == says { Ok(()) } else { Err(out) }
    });
}

/// What the journal has of gpu1's lending: a letter for each end of it, and each new beginning.
fn lending(cluster: &Cluster) -> String {
    let letter = |e: EventRecord| match e.event {
        Event::LendingClosed { closed: Closed::Rule { .. }, .. } => Some('c'),
        Event::LendingOpen { .. } => Some('o'),
        _ => None,
    };
    cluster.events().into_iter().filter_map(letter).collect()
}

/// Where guests were frozen by the lender's owner, and why.
fn taken(cluster: &Cluster) -> Vec<String> {
    let why = |e: EventRecord| match (e.actor, e.event) {
        (Actor::Lender { .. }, Event::GuestsFrozen { why, guests: 1, .. }) => why,
        _ => None,
    };
    cluster.events().into_iter().filter_map(why).collect()
}

#[test]
fn his_own_load_takes_the_machine_back_and_when_it_is_over_it_lends_again() {
    let Some(job) = Job::start(CHILD) else { return };
    let cluster = &job.cluster;
    let (_, out) = job.move_meant();
    let boost = out.record.boost.unwrap().to_string();
    job.goes_on();
    let mut owner = Owner::of(cluster, "gpu1");
    let said = lend(cluster, &["rule", "--when-load", "0.2", "--for", "2s", "--quiet", "4s"]);
    assert!(said.contains("load of 0.2 CPU for 2.0 s: takes back, lends again 4.0 s after"), "{said}");
    wait_in_force(cluster, false);
    assert_eq!(taken(cluster), Vec::<String>::new());
    job.goes_on();

    owner.works();
    cluster.wait_phase(out.record.id.as_str(), OffloadPhase::Home);
    job.goes_on();
    let why = taken(cluster);
    assert!(why.len() == 1 && why[0].starts_with("its own processes use ") && why[0].contains("rule: 0.2"), "{why:?}");
    head_says(cluster, "its own processes use ", true);
    cluster.wait("the boost to end", || {
        let view: BoostView = cluster.ask(&["boost", "show", &boost]);
        let ended = matches!(view.boost.state, BoostState::Ended { why: EndReason::Reclaimed, .. });
        if ended { Ok(()) } else { Err(view.boost.state) }
    });
    let (code, error) = cluster.refused(&["boost", "request", "head", "--cpu", "1", "--memory", "64MiB"]);
    assert_eq!(code, i32::from(FaultClass::NoCapacity.code()));
    assert!(error.details.join("; ").contains("gpu1  its own processes use "), "{error:?}");
    let human = lend(cluster, &["status"]);
    assert!(human.contains("lends nothing now, by a rule (root)") && human.contains("IN FORCE since"), "{human}");
    assert!(human.contains("your own processes use "), "{human}");

    // It is in force for the next agent, too.
    let before = rule(cluster);
    send(cluster.agent_pid("gpu1"), Signal::SIGKILL);
    cluster.wait_heard();
    head_says(cluster, "its own processes use ", true);
    assert_eq!(rule(cluster)["phase"]["is"], "in_force", "{before}");

    owner.rests();
    wait_in_force(cluster, false);
    head_says(cluster, "its own processes use ", false);
    cluster.boost("--cpu 1 --memory 64MiB --duration 5m");
    let (_, again) = job.move_meant();
    job.goes_on();
    assert_eq!((taken(cluster).len(), lending(cluster).as_str()), (1, "co"));
    cluster.bring_home(again.record.id.as_str());
    job.go(3);
    assert_eq!(job.status(), "3");
}

#[test]
fn short_memory_lends_nothing_new_or_takes_back_as_he_says() {
    let Some(job) = Job::start(CHILD) else { return };
    let cluster = &job.cluster;
    let (_, out) = job.move_meant();
    let boost = out.record.boost.unwrap().to_string();
    let short = nearly_all_memory();
    lend(cluster, &["rule", "--when-memory", &short, "--for", "1s", "--quiet", "2s", "--then", "off"]);
    head_says(cluster, "of its memory are available", true);
    job.goes_on();
    let (_, error) = cluster.refused(&["boost", "extend", &boost, "--by", "1m"]);
    assert_eq!(error.code, Some(ReasonCode::NoLend), "{error:?}");
    assert!(error.message.contains("of its memory are available"), "{error:?}");
    lend(cluster, &["rule", "--remove", "memory"]);
    head_says(cluster, "of its memory are available", false);

    // There is no room for it at home: it stays, frozen, until that is over.
    cluster.pretend_memory("head", Some(1 << 20));
    lend(cluster, &["rule", "--when-memory", &short, "--for", "1s", "--quiet", "2s"]);
    cluster.wait("the guest to be frozen, and stay", || {
        let view: BoostView = cluster.ask(&["boost", "show", &boost]);
        let overdue = matches!(&view.boost.state, BoostState::Overdue { detail } if detail.starts_with("frozen there"));
        if overdue { Ok(()) } else { Err(view.boost.state) }
    });
    let at = job.rests(Duration::from_millis(300), || job.says().0);
    let (code, error) = cluster.refused(&["boost", "reclaim", &boost, "--lift"]);
    assert_eq!((code, error.code), (i32::from(FaultClass::Permission.code()), Some(ReasonCode::Owner)), "{error:?}");
    assert!(error.message.contains("grid lend rule --remove memory"), "{error:?}");
    // `on` is no word against a rule.
    let said = lend(cluster, &["on"]);
    assert!(said.contains("Now a rule is in force"), "{said}");
    assert_eq!(job.rests(Duration::from_millis(300), || job.says().0), at);
    lend(cluster, &["rule", "--when-memory", "1MiB"]);
    wait_in_force(cluster, false);
    job.goes_on();
    cluster.pretend_memory("head", None);
    cluster.bring_home(out.record.id.as_str());
    job.go(3);
    assert_eq!(job.status(), "3");
}

/// Somebody at a terminal of gpu1: types at once and whenever told to.
const TYPIST: &str = "
import os, pty, sys
master, slave = pty.openpty()
while True:
    os.write(master, b'x\\n')
    os.read(slave, 9)
    print(os.ttyname(slave), flush=True)
    if not sys.stdin.readline(): break
";

#[test]
fn who_types_there_is_known_until_it_has_been_quiet() {
    let Some(cluster) = Cluster::configured(
        "
name: owner
nodes:
  - {name: head, role: head, resource_sharing: {can_share: false}}
  - {name: gpu1, role: worker, resource_sharing: {can_share: true, max_share_cpu: 8, max_share_memory_gb: 4}}
",
    ) else {
        return;
    };
    lend(&cluster, &["rule", "--when-input", "10s"]);
    wait_in_force(&cluster, false);
    let node = cluster.agent_pid("gpu1").to_string();
    let mut nsenter = Command::new("nsenter");
    let mut typist = nsenter
        .args(["-t", &node, "-m", "python3", "-c", TYPIST])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut terminal = String::new();
    let mut typed = BufReader::new(typist.stdout.take().unwrap());
    typed.read_line(&mut terminal).unwrap();
    let terminal = terminal.trim().trim_start_matches("/dev/").to_owned();
    head_says(&cluster, &format!("somebody uses it (input on {terminal}): it lends nothing new"), true);
    let human = lend(&cluster, &["status"]);
    assert!(human.contains(&format!(" ago on {terminal}; lends again at ")), "{human}");
    wait_in_force(&cluster, false);
    head_says(&cluster, "somebody uses it", false);
    typist.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    wait_in_force(&cluster, true);
    drop(typist.stdin.take());
    typist.wait().unwrap();
    lend(&cluster, &["rule", "--none"]);
    head_says(&cluster, "somebody uses it", false);
    assert_eq!(lending(&cluster), "coco");
    cluster.boost("--cpu 1 --memory 64MiB --duration 1m");
}
