//! Users and rights: the daemon has none of root's, agents no more than their table says; several people use one
//! cluster at once, each sees and touches their own processes only; a group boosts, root sets policy.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_os::rights::{AGENT, Rights, TREE_INIT, names, set_of};
use grid_testkit::cluster::{Cluster, Guest, Said, own_programs, undisturbed};
use grid_testkit::procs::{self, NOBODY};
use grid_types::api::{AutoView, BoostReply, OffloadView, ScanReply};
use grid_types::event::{Actor, Event, ExitStatus, OffloadPhase};
use grid_types::exit::FaultClass;
use grid_types::reason::ReasonCode;
use grid_types::wire::{Hello, PROTOCOL, Welcome};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::fs::{MetadataExt, lchown};
use std::process::Command;

/// Two ordinary people, and a group that may boost; none of them has a name on this machine.
const ALICE: u32 = NOBODY;
const BOB: u32 = 65533;
const BOOSTERS: u32 = 64242;
const PERMISSION: i32 = 6;
/// Clock ticks in a second, sysconf(_SC_CLK_TCK), as the kernel shows them to programs.
const TICKS: f64 = 100.0;

const CONFIG: &str = "
name: users
nodes:
  - {name: head, role: head, resource_sharing: {can_share: false}}
  - {name: gpu1, role: worker, resource_sharing: {can_share: true, max_share_cpu: 8, max_share_memory_gb: 3}}
users: {boost_group: '64242'}
";

fn read(cluster: &Cluster, name: &str) -> String {
    std::fs::read_to_string(cluster.state().join(name)).unwrap()
}

/// Owner, group and mode.
fn owner(cluster: &Cluster, name: &str) -> (u32, u32, u32) {
    let meta = std::fs::symlink_metadata(cluster.state().join(name)).unwrap();
    (meta.uid(), meta.gid(), meta.mode() & 0o777)
}

fn unprivileged(pid: i32) -> Rights {
    let rights = Rights::of(pid).unwrap();
    assert!(rights.are_none() && rights.gid != 0 && rights.groups.is_empty(), "{rights:?}");
    rights
}

#[test]
fn the_daemon_has_no_right_of_roots_and_what_it_needs_is_its_own() {
    let Some(cluster) = Cluster::start(1) else { return };
    let first = cluster.daemon_pid();
    let daemon = unprivileged(first);
    let (uid, gid) = (daemon.uid, daemon.gid);
    assert_eq!(owner(&cluster, "head"), (uid, gid, 0o700));
    assert_eq!(owner(&cluster, "head/journal.db"), (uid, gid, 0o600));
    assert_eq!(owner(&cluster, "agent.sock"), (uid, 0, 0o600));
    // What it reads it cannot write; what holds the token it cannot read.
    assert_eq!(owner(&cluster, "conf/head.json"), (0, gid, 0o640));
    for secret in ["conf/hub.json", "conf/gpu1.json", "conf/plan.json"] {
        assert_eq!(owner(&cluster, secret), (0, 0, 0o600), "{secret}");
    }
    let hub: serde_json::Value = serde_json::from_str(&read(&cluster, "conf/hub.json")).unwrap();
    let token = hub["role"]["Hub"]["tokens"]["gpu1"].as_str().unwrap();
    assert!(token.len() >= 32 && !read(&cluster, "conf/head.json").contains(token));
    let environment = std::fs::read(format!("/proc/{first}/environ")).unwrap();
    assert!(environment.starts_with(b"PATH=") && environment.split(|b| *b == 0).count() == 2, "nothing of root's");

    // The socket outlives it: it is the supervisor's, and what is asked meanwhile is answered by the next one.
    let socket = std::fs::metadata(cluster.state().join("head.sock")).unwrap().ino();
    // (One that ends at once after its start is another matter: then nobody shall wait for it.)
    cluster.wait("it to be older than a second", || {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let (up, start): (f64, u64) =
            (uptime.split(' ').next().unwrap().parse().unwrap(), procs::start_ticks(first).unwrap());
        let age = up - start as f64 / TICKS;
        if age > 1.1 { Ok(()) } else { Err(age) }
    });
    cluster.kill9(first);
    assert!(cluster.status().is_ok());
    assert_eq!(unprivileged(cluster.daemon_pid()).uid, uid);
    assert_eq!(std::fs::metadata(cluster.state().join("head.sock")).unwrap().ino(), socket);
}

#[test]
fn agents_hold_no_more_than_their_table_says_and_a_trees_pid_1_less() {
    let Some(cluster) = Cluster::start(1) else { return };
    let allowed = set_of(&AGENT);
    for node in ["head", "gpu1"] {
        let agent = Rights::of(cluster.agent_pid(node)).unwrap();
        let more = (agent.permitted | agent.bounding) & !allowed;
        assert_eq!((names(more), agent.handed_on), (vec![], 0), "{node}");
        assert_ne!(agent.permitted, 0);
    }
    let node_init = Rights::of(cluster.node_pid("gpu1")).unwrap();
    assert_eq!((node_init.permitted, node_init.handed_on, node_init.bounding & !allowed), (0, 0, 0));

    // `doctor` says the same, to anybody.
    let said = cluster.grid_as(BOB, &[], &["-o", "json", "doctor"]);
    let found: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let told: Vec<(&str, usize, bool)> = found["ok"]["running"]
        .as_array()
        .unwrap_or_else(|| panic!("{said:?}"))
        .iter()
        .map(|r| (r["program"].as_str().unwrap(), r["keeps"].as_array().unwrap().len(), r["for_good"] == true))
        .collect();
    let held = |node: &str| names(Rights::of(cluster.agent_pid(node)).unwrap().permitted).len();
    for program in [
        ("the head's daemon", 0, true),
        ("agent of the head", held("head"), true),
        ("agent of gpu1", held("gpu1"), true),
        ("pid 1 of gpu1", 0, false),
    ] {
        assert!(told.contains(&program), "{program:?}: {told:?}");
    }

    let guest = Guest::reporting(&cluster, "prover", "--memory 16MiB --steps 4000");
    cluster.boost("--cpu 1 --memory 1GiB --duration 2m");
    cluster.move_out(guest.pid());
    let inits: Vec<i32> = procs::all().into_iter().filter(|pid| is_tree_init(&cluster, *pid)).collect();
    assert_eq!(inits.len(), 1);
    let init = Rights::of(inits[0]).unwrap();
    assert_eq!((init.permitted | init.bounding | init.handed_on) & !set_of(&TREE_INIT), 0, "{init:?}");
    assert_eq!(guest.wait_done().digest, undisturbed("--memory 16MiB --steps 4000").digest);
}

/// A file that was deleted is made again with its mode, though the agent has given up most of root's rights.
#[test]
fn a_deleted_private_file_goes_along_and_what_came_home_has_a_smaller_bounding_set() {
    let Some(cluster) = Cluster::start(1) else { return };
    let guest = Guest::python(
        &cluster,
        "
import os, time
kept = open('kept', 'w+')
os.fchmod(kept.fileno(), 0o600)
kept.write('as it was')
kept.flush()
os.unlink('kept')
count = 0
while True:
    count += 1
    kept.seek(0)
    mode = oct(os.fstat(kept.fileno()).st_mode & 0o777)
    with open('says.new', 'w') as says: says.write(f'{count} {mode} {kept.read()}')
    os.rename('says.new', 'says')
    time.sleep(0.01)",
    );
    let count = |text: &str| text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let says = || {
        let now = count(&guest.read("says"));
        let text = guest.wait_text("says", |text| count(text) > now + 3);
        text.split_once(' ').unwrap().1.to_owned()
    };
    assert_eq!(says(), "0o600 as it was");
    cluster.boost("--cpu 1 --memory 1GiB --duration 2m");
    let moved = cluster.move_out(guest.pid());
    assert_eq!(says(), "0o600 as it was");
    let home = cluster.bring_home(moved.record.id.as_str());
    assert_eq!(says(), "0o600 as it was");
    // It came home without what no agent has: no program that it starts can have that again.
    let rights = Rights::of(home.record.home_pid.unwrap()).unwrap();
    assert_eq!((rights.uid, rights.permitted, rights.bounding & !set_of(&AGENT)), (ALICE, 0, 0));
    kill(Pid::from_raw(home.record.home_pid.unwrap()), Signal::SIGKILL).unwrap();
    cluster.wait_phase(moved.record.id.as_str(), OffloadPhase::Home);
}

fn is_tree_init(cluster: &Cluster, pid: i32) -> bool {
    let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let group = cluster.group();
    read("comm").starts_with(b"grid-tree-init") && String::from_utf8_lossy(&read("cgroup")).contains(group)
}

/// One who can open the agent's socket is asked by the kernel's word who he is.
#[test]
fn the_agent_lets_only_the_daemons_user_in() {
    let Some(cluster) = Cluster::start(1) else { return };
    let socket = cluster.state().join("agent.sock");
    let daemon = Rights::of(cluster.daemon_pid()).unwrap().uid;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&socket, open).unwrap();
    let hello = serde_json::to_string(&Hello::Daemon { protocol: PROTOCOL }).unwrap();
    let code = "
import socket, struct, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); h = sys.argv[2].encode()
s.sendall(struct.pack('<I', len(h)) + h)
n = struct.unpack('<I', s.recv(4, socket.MSG_WAITALL))[0]
print(s.recv(n, socket.MSG_WAITALL).decode())";
    let greeted = |uid: u32| {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".into()]);
        let out = command.args(["/usr/bin/python3", "-c", code]).arg(&socket).arg(&hello).output().unwrap();
        serde_json::from_slice::<Welcome>(&out.stdout).unwrap_or_else(|e| panic!("{e}: {out:?}"))
    };
    for stranger in [ALICE, daemon + 1] {
        assert!(matches!(greeted(stranger), Welcome::Refused { .. }), "{stranger}");
    }
    assert!(matches!(greeted(daemon), Welcome::Ok { .. }));
}

#[test]
fn what_an_older_daemon_of_roots_left_is_taken_over_and_what_is_anothers_is_refused() {
    let Some(mut cluster) = Cluster::start(1) else { return };
    let boost = cluster.boost("--cpu 1 --memory 1GiB --duration 5m").boost.id;
    assert_eq!(cluster.grid(&["down"]).code, 0);
    let give = |uid: u32| {
        let dir = cluster.state().join("head");
        let inside = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path());
        inside.chain([dir.clone()]).for_each(|path| lchown(path, Some(uid), Some(uid)).unwrap());
    };
    give(0);
    lchown(cluster.state().join("head/journal.db"), Some(1), Some(1)).unwrap();
    let said = cluster.grid(&["up", "--local", "1"]);
    assert_eq!(said.code, 10, "{said:?}");
    assert!(said.err.contains("journal.db") && said.err.contains("uid 1") && said.err.contains("chown"), "{said:?}");
    assert_eq!(owner(&cluster, "head/journal.db").0, 1);
    give(0);
    cluster.up_again(&["--local", "1", "--daemon-user", "61999"]);
    assert_eq!(unprivileged(cluster.daemon_pid()).uid, 61999);
    assert_eq!((owner(&cluster, "head").0, owner(&cluster, "head/journal.db").0), (61999, 61999));
    assert!(cluster.events().iter().any(|e| matches!(&e.event, Event::LeaseGranted { boost: b } if b.id == boost)));

    assert_eq!(cluster.grid(&["down"]).code, 0);
    for (name, code, word) in [("root", 2, "without root"), ("no-such-user-here", 9, "no user")] {
        let said = cluster.grid(&["up", "--local", "1", "--daemon-user", name]);
        assert!(said.code == code && said.err.contains(word), "{name}: {said:?}");
    }
}

/// All that a person can be shown of a cluster.
fn everything_shown(cluster: &Cluster, user: u32, pid: i32) -> String {
    let pid = pid.to_string();
    let asked: [&[&str]; 9] = [
        &["status"],
        &["offload", "scan"],
        &["offload", "scan", "--all"],
        &["offload", "list"],
        &["events"],
        &["plan", "list"],
        &["boost", "list"],
        &["explain", &pid],
        &["node", "list"],
    ];
    let mut text = String::new();
    for words in asked {
        for said in [cluster.grid_as(user, &[], words), cluster.grid_as(user, &[], &[&["-o", "json"], words].concat())]
        {
            text += &format!("{words:?}\n{}\n{}\n", said.out, said.err);
        }
    }
    text
}

fn refused_as_anothers(cluster: &Cluster, user: u32, words: &[&str]) {
    let (exit, error) = cluster.refused_to(user, &[], words);
    assert_eq!((exit, error.code), (PERMISSION, Some(ReasonCode::Owner)), "{words:?}: {error:?}");
    assert!(error.message.to_lowercase().contains("nothing was changed") && error.hint.is_some(), "{error:?}");
}

/// A person with a process of theirs.
struct Person {
    uid: u32,
    guest: Guest,
    name: &'static str,
}

impl Person {
    fn of(cluster: &Cluster, uid: u32, name: &'static str) -> Self {
        Self { uid, guest: Guest::reporting_of(uid, cluster, "prover", name, ARGS), name }
    }
    fn pid(&self) -> String {
        self.guest.pid().to_string()
    }
    /// What must not be shown to anybody else: the name of the program, its folder (an argument and its path).
    fn marks(&self) -> [String; 2] {
        [self.name.to_owned(), self.guest.dir.file_name().unwrap().to_string_lossy().into_owned()]
    }
}

const ARGS: &str = "--memory 48MiB --steps 9000";

#[test]
fn two_peoples_moves_at_once_do_not_see_each_other() {
    let Some(cluster) = Cluster::configured(&own_programs(CONFIG, "off")) else { return };
    cluster.boost("--cpu 2 --memory 2GiB --duration 5m");
    let people = [Person::of(&cluster, ALICE, "alices-own"), Person::of(&cluster, BOB, "bobs-work")];
    let pairs = [(&people[0], &people[1]), (&people[1], &people[0])];
    for (own, other) in pairs {
        for words in [["offload", "execute"].as_slice(), &["explain"], &["offload", "execute", "--dry-run"]] {
            refused_as_anothers(&cluster, own.uid, &[words, &[&other.pid()]].concat());
        }
        // A plan of theirs: what another tries with it does not even spoil it.
        let scan: ScanReply = cluster.ask_as(own.uid, &[], &["offload", "scan"]);
        let plan = scan.plan.id.to_string();
        assert_eq!(scan.plan.steps.iter().map(|s| s.uid).collect::<Vec<_>>(), [own.uid], "{scan:?}");
        for words in [["plan", "show", &plan], ["plan", "apply", &plan]] {
            refused_as_anothers(&cluster, other.uid, &words);
        }
        let shown = cluster.grid_as(own.uid, &[], &["plan", "show", "last"]);
        assert!(shown.code == 0 && shown.out.contains(&plan), "{shown:?}");
    }

    // Both go at the same time.
    std::thread::scope(|scope| {
        let moves = people.each_ref().map(|person| {
            let words = || -> OffloadView { cluster.ask_as(person.uid, &[], &["offload", "execute", &person.pid()]) };
            scope.spawn(words)
        });
        for (moved, person) in moves.into_iter().zip(&people) {
            let view = moved.join().unwrap();
            assert_eq!((view.record.phase, view.record.uid), (OffloadPhase::Away, person.uid));
        }
    });
    for (own, other) in pairs {
        let shown = everything_shown(&cluster, own.uid, own.guest.pid());
        assert!(shown.contains(own.name), "{shown}");
        for mark in other.marks() {
            assert!(!shown.contains(&mark), "{} is shown {mark:?} of another's: {shown}", own.name);
        }
        let theirs = cluster.offloads().into_iter().find(|o| o.record.uid == other.uid).unwrap();
        let (id, pid) = (theirs.record.id.to_string(), other.pid());
        for words in [["recall"].as_slice(), &["cancel"], &["show"], &["resolve", "--drop"]] {
            refused_as_anothers(&cluster, own.uid, &[&["offload", words[0], &id], &words[1..]].concat());
            // By its number at home it is not even there.
            let (exit, error) = cluster.refused_to(own.uid, &[], &[&["offload", words[0], &pid], &words[1..]].concat());
            assert_eq!((exit, error.class), (3, FaultClass::NotFound), "{words:?}: {error:?}");
        }
        // `last` is one's own last.
        let last: OffloadView = cluster.ask_as(own.uid, &[], &["offload", "show", "last"]);
        assert_eq!(last.record.uid, own.uid);
    }
    for person in &people {
        assert_eq!(person.guest.wait_done().digest, undisturbed(ARGS).digest);
        let id = cluster.offloads().into_iter().find(|o| o.record.uid == person.uid).unwrap().record.id;
        assert_eq!(cluster.wait_phase(id.as_str(), OffloadPhase::Ended).record.exit, Some(ExitStatus::Code(0)));
    }
}

/// What keeps a boost is its owner's to see: anybody sees the boost, and that something keeps it.
#[test]
fn a_boost_that_anothers_process_keeps_names_no_process() {
    let Some(cluster) = Cluster::configured(&own_programs(CONFIG, "off")) else { return };
    let boost = cluster.boost("--cpu 1 --memory 1GiB --duration 5m --at-end stay").boost.id.to_string();
    let alice = Person::of(&cluster, ALICE, "alices-own");
    cluster.move_out(alice.guest.pid());
    let said = cluster.grid(&["boost", "release", &boost]);
    cluster.wait("the boost to be overdue", || {
        let status = cluster.status().map_err(|e| e.to_string())?;
        let told = status.warnings.iter().any(|w| w.contains("overdue") && w.contains("alices-own"));
        if told { Ok(()) } else { Err(format!("{said:?} {:?}", status.warnings)) }
    });
    for words in [["status"].as_slice(), &["boost", "list"], &["boost", "show", &boost], &["events"]] {
        for form in ["human", "json"] {
            let said = cluster.grid_as(BOB, &[], &[&["-o", form], words].concat());
            assert!(said.code == 0 && said.out.contains(&boost), "{words:?}: {said:?}");
            assert!(!said.out.contains("alices-own") && !said.err.contains("alices-own"), "{words:?}: {said:?}");
        }
    }
    assert_eq!(alice.guest.wait_done().digest, undisturbed(ARGS).digest);
}

#[test]
fn a_plan_with_a_process_of_anothers_is_roots_to_apply() {
    let Some(cluster) = Cluster::configured(&own_programs(CONFIG, "off")) else { return };
    cluster.boost("--cpu 2 --memory 2GiB --duration 5m");
    let people = [Person::of(&cluster, ALICE, "alices-own"), Person::of(&cluster, BOB, "bobs-work")];
    let scan: ScanReply = cluster.ask(&["offload", "scan"]);
    assert_eq!(scan.plan.steps.len(), 2, "{scan:?}");
    let plan = scan.plan.id.to_string();
    for person in &people {
        refused_as_anothers(&cluster, person.uid, &["plan", "apply", &plan]);
    }
    let said = cluster.grid(&["plan", "apply", &plan]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(cluster.status().unwrap().away.len(), 2);
    for person in &people {
        assert_eq!(person.guest.wait_done().digest, undisturbed(ARGS).digest);
    }
}

fn assert_no_right(said: (i32, grid_types::api::ApiError), who: &str) {
    let (exit, error) = said;
    assert_eq!((exit, error.code), (PERMISSION, Some(ReasonCode::Right)), "{error:?}");
    assert!(error.message.contains(who) && error.message.contains("Nothing was changed"), "{error:?}");
}

#[test]
fn a_group_boosts_and_root_alone_sets_policy() {
    let Some(cluster) = Cluster::configured(&own_programs(CONFIG, "off")) else { return };
    let request = ["boost", "request", "head", "--cpu", "1", "--memory", "1GiB", "--duration", "2m"];
    assert_no_right(cluster.refused_to(BOB, &[], &request), "64242");
    assert_no_right(cluster.refused_to(BOB, &[BOOSTERS + 1], &request), "64242");
    let granted: BoostReply = cluster.ask_as(BOB, &[7, BOOSTERS], &request);
    let id = granted.boost.boost.id.to_string();
    assert_no_right(cluster.refused_to(BOB, &[], &["boost", "release", &id]), "64242");
    assert_no_right(cluster.refused_to(BOB, &[], &["boost", "extend", &id, "--by", "1m"]), "64242");
    let human: Said = cluster.grid_as(BOB, &[], &request);
    assert!(human.code == PERMISSION && human.err.contains("E-RIGHT"), "{human:?}");

    // A member boosts, and is no more than anybody else for it.
    let alices = Person::of(&cluster, ALICE, "alices-own");
    let (exit, error) = cluster.refused_to(BOB, &[BOOSTERS], &["offload", "execute", &alices.pid()]);
    assert_eq!((exit, error.code), (PERMISSION, Some(ReasonCode::Owner)), "{error:?}");
    for groups in [[].as_slice(), &[BOOSTERS]] {
        assert_no_right(cluster.refused_to(BOB, groups, &["offload", "auto", "on"]), "root");
    }
    let auto: AutoView = cluster.ask(&["offload", "auto", "observe"]);
    assert_eq!(auto.mode, grid_types::policy::AutoMode::Observe);

    let said = cluster.grid_as(BOB, &[BOOSTERS], &["boost", "release", &id]);
    assert_eq!(said.code, 0, "{said:?}");
    let by_bob = |e: &grid_types::event::EventRecord| {
        matches!(e.event, Event::LeaseGranted { .. }) && matches!(e.actor, Actor::User { uid: BOB, .. })
    };
    assert!(cluster.events().iter().any(by_bob), "who asked is in the journal");
    drop(alices);
}
