//! Hostile images against the lender's gate: the images of a real dump are edited between the dump and the sending, each
//! time in another way. Each is refused before `Go`, with its reason at both ends; the program goes on at home, and
//! nothing is left on the lender.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest};
use grid_testkit::images::{Image, Message};
use grid_testkit::procs;
use grid_types::api::ExplainReply;
use grid_types::event::OffloadPhase;
use grid_types::fault::{Effect, FaultPoint};
use grid_types::reason::ReasonCode;
use std::path::{Path, PathBuf};

const YAML: &str = "name: gate\nnodes:\n- {name: head, role: head}\n- {name: gpu1}\n";
/// Fields of CRIU's messages (`images/*.proto`).
const TASK: u32 = 3;
const THREAD: u32 = 5;
const CREDS: u32 = 10;
/// Of a `files.img` entry: the regular file in it; of that its flags, its name.
const REG: u32 = 3;
const FLAGS: u32 = 2;
const NAME: u32 = 6;

/// The images of one dump, open to the attacker.
struct Target {
    dir: PathBuf,
    pid: i32,
}

impl Target {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<Message>)) {
        let mut image = Image::read(&self.path(name)).unwrap();
        change(&mut image.messages);
        image.write(&self.path(name)).unwrap();
    }

    fn core(&self, path: &[u32], value: u64) {
        self.edit(&format!("core-{}.img", self.pid), |core| core[0].set(path, value));
    }

    fn cred(&self, field: u32, value: u64) {
        self.core(&[THREAD, CREDS, field], value);
    }

    fn replace(&self, name: &str, by: &str) {
        std::fs::copy(self.path(by), self.path(name)).unwrap();
    }

    /// The number of the file with this name.
    fn file_id(&self, name: &str) -> u64 {
        let files = Image::read(&self.path("files.img")).unwrap().messages;
        let named = |f: &&Message| f.inner(REG).is_some_and(|reg| reg.get(NAME) == Some(&name.into()));
        files.iter().find(named).unwrap_or_else(|| panic!("no {name}")).number(2)
    }

    fn file(&self, id: u64, change: impl FnOnce(&mut Message)) {
        self.edit("files.img", |files| change(files.iter_mut().find(|f| f.number(2) == id).unwrap()));
    }

    /// Standard input leads somewhere else.
    fn stdin(&self, path: &str, flags: u64) {
        self.file(self.file_id("/dev/null"), |file| {
            file.set(&[REG, NAME], path);
            file.set(&[REG, FLAGS], flags);
        });
    }

    /// Standard input is a deleted file that comes along.
    fn ghost(&self, path: &str, mode: u64) {
        let id = self.file_id("/dev/null");
        self.stdin(path, 2);
        let remap = Message::of(&[(1, id), (2, 1), (3, 1)]);
        Image::new(0x5913_3954, vec![remap]).write(&self.path("remap-fpath.img")).unwrap();
        let ghost = Message::of(&[(1, 65534), (2, 65534), (3, mode), (4, 0), (5, 1)]);
        Image::new(0x5258_3605, vec![ghost]).write(&self.path("ghost-file-1.img")).unwrap();
    }

    /// Standard input is a file that anybody may read, and through which the node is ruled.
    fn switch(&self) {
        let id = self.file_id("/dev/null");
        self.stdin("/sys/kernel/mm/ksm/run", 0);
        self.file(id, |file| {
            file.set(&[REG, 8], 4096);
            file.set(&[REG, 10], 0o100_644);
        });
    }

    /// No resource has a limit.
    fn unlimited(&self) {
        self.edit(&format!("core-{}.img", self.pid), |core| {
            let mut limits = core[0].inner(TASK).unwrap().inner(8).unwrap();
            for (_, limit) in &mut limits.0 {
                *limit = Message::of(&[(1, u64::MAX), (2, u64::MAX)]).into();
            }
            core[0].set(&[TASK, 8], limits);
        });
    }

    fn executable(&self) -> u64 {
        Image::read(&self.path(&format!("mm-{}.img", self.pid))).unwrap().messages[0].number(12)
    }

    fn directories(&self) -> (u64, u64) {
        let fs = &Image::read(&self.path(&format!("fs-{}.img", self.pid))).unwrap().messages[0];
        (fs.number(1), fs.number(2))
    }

    /// A second process like the first.
    fn twin(&self) {
        let other = self.pid as u64 + 1;
        for kind in ["core", "mm", "fs", "ids"] {
            let (from, to) =
                (self.path(&format!("{kind}-{}.img", self.pid)), self.path(&format!("{kind}-{other}.img")));
            std::fs::copy(from, to).unwrap();
        }
        self.edit("pstree.img", |tree| {
            let mut twin = tree[0].clone();
            for (field, value) in [(1, other), (2, self.pid as u64), (5, other)] {
                twin.set(&[field], value);
            }
            tree.push(twin);
        });
    }
}

/// What is done to the images, and what the lender says of it.
type Attack = (&'static str, fn(&Target), &'static str);

const ATTACKS: &[Attack] = &[
    ("uid 0", |t| t.cred(3, 0), "would have uid 0, 65534 was announced"),
    ("gid 0", |t| t.cred(4, 0), "would have gid 0, 65534 was announced"),
    ("root's group besides", |t| t.cred(14, 0), "would have the groups [0], [] were announced"),
    ("capabilities permitted", |t| t.cred(10, 1 << 21), "would have permitted capabilities"),
    ("capabilities in effect", |t| t.cred(11, 1 << 21), "would have effective capabilities"),
    ("capabilities handed on", |t| t.cred(9, 1 << 21), "would have inheritable capabilities"),
    ("ambient capabilities", |t| t.cred(19, 1 << 21), "would have ambient capabilities"),
    ("securebits", |t| t.cred(13, 4), "would have securebits 0x4"),
    ("nice", |t| t.core(&[THREAD, 3], 19), "would have nice -10"),
    ("real time", |t| t.core(&[THREAD, 4], 1), "would have scheduling policy 1"),
    ("kept from the kernel's killer", |t| t.core(&[TASK, 14], -500i64 as u64), "would have oom_score_adj -500"),
    ("resource limits", Target::unlimited, "would have resource limit "),
    (
        "another program",
        |t| t.file(t.executable(), |f| f.set(&[REG, NAME], "/bin/cat")),
        "would run /bin/cat, which was not",
    ),
    (
        "a set-uid program",
        |t| t.file(t.executable(), |f| f.set(&[REG, NAME], "/usr/bin/passwd")),
        "would run /usr/bin/passwd",
    ),
    ("more processes", Target::twin, "2 processes with"),
    ("root's file, read", |t| t.stdin("/etc/shadow", 0), "/etc/shadow, which uid 65534 may not open"),
    ("root's file, written", |t| t.stdin("/etc/passwd", 2), "/etc/passwd, which uid 65534 may not open for writing"),
    ("a device", |t| t.stdin("/dev/kmsg", 0), "device /dev/kmsg"),
    (
        "the node's pid 1",
        |t| t.stdin("/proc/1/root/etc/shadow", 0),
        "/proc/1/root/etc/shadow, which uid 65534 may not open",
    ),
    ("a way around", |t| t.stdin("/tmp/../etc/passwd", 0), "a file named \"/tmp/../etc/passwd\""),
    (
        "the agent's own files",
        |t| t.stdin(&format!("{}/x", agents(t).display()), 0),
        "no guest opens what is in /run/grid-",
    ),
    ("the node's switches", Target::switch, "holds fd 0: /sys/kernel/mm/ksm/run, in the node's sysfs"),
    (
        "root's home",
        |t| t.file(t.directories().0, |f| f.set(&[REG, NAME], "/root")),
        "/root, which uid 65534 may not open",
    ),
    (
        "another root directory",
        |t| t.edit(&format!("fs-{}.img", t.pid), |fs| fs[0].set(&[2], t.directories().0)),
        "would have its root at",
    ),
    ("a file made among root's", |t| t.ghost("/etc/made", 0o100_644), "/etc, which uid 65534 may not make a file in"),
    ("a device made", |t| t.ghost("/tmp/made", 0o020_666), "would make a file of mode 20666"),
    ("a set-uid file made", |t| t.ghost("/tmp/made", 0o104_755), "would make a set-id file"),
    (
        "a namespace held open",
        |t| t.file(t.file_id("/dev/null"), |f| f.set(&[1], 14)),
        "of kind 14, which no guest holds",
    ),
    ("mounts", |t| kind(t, "mountpoints-12.img"), "of a kind that no guest brings: mountpoints-12.img"),
    ("control groups", |t| kind(t, "cgroup.img"), "of a kind that no guest brings: cgroup.img"),
    ("a network", |t| kind(t, "netns-9.img"), "of a kind that no guest brings: netns-9.img"),
    ("users of its own", |t| kind(t, "userns-10.img"), "of a kind that no guest brings: userns-10.img"),
    ("a kind unheard of", |t| kind(t, "evil.img"), "of a kind that no guest brings: evil.img"),
    (
        "an endless image",
        |t| std::fs::File::create(t.path("fdinfo-99.img")).unwrap().set_len(65 << 20).unwrap(),
        "fdinfo-99.img is 68157440 bytes long",
    ),
    (
        "garbage",
        |t| std::fs::write(t.path("files.img"), [0x19, 0x43, 0x56, 0x54, 0x38, 0x31, 0x30, 0x56, 9, 0]).unwrap(),
        "files.img is not what CRIU writes",
    ),
    (
        "another kind's magic",
        |t| t.replace("files.img", "pstree.img"),
        "files.img does not begin as an image of its kind",
    ),
    (
        "a plugin",
        |t| t.edit("inventory.img", |i| i[0].set(&[12], Message(vec![(12, "evil".into())]))),
        "CRIU's plugin \"evil\"",
    ),
];

/// Run directory of the lender's agent, beside the head's.
fn agents(target: &Target) -> PathBuf {
    target.dir.ancestors().nth(3).map_or_else(|| PathBuf::from("/"), |run| run.join("gpu1"))
}

fn kind(target: &Target, name: &str) {
    std::fs::write(target.path(name), [0; 64]).unwrap();
}

/// What is on the lender that is not its own.
fn guests(cluster: &Cluster) -> Vec<String> {
    let pid = cluster.node_pid("gpu1");
    let run = PathBuf::from(format!("/proc/{pid}/root/run"));
    let under = |dir: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect()
    };
    let nodes = under(&run).into_iter().filter(|d| d.to_string_lossy().contains("/grid-"));
    let trees = nodes.flat_map(|tag| under(&tag)).flat_map(|node| under(&node));
    trees.filter(|d| d.to_string_lossy().contains("/tree-")).map(|d| d.display().to_string()).collect()
}

fn refused(cluster: &Cluster, guest: &Guest, (name, attack, says): &Attack) {
    let mut held = cluster.arm("head", FaultPoint::SendImages, Effect::Hang);
    let before = cluster.offloads().len();
    let mut command = cluster.begin(&["offload", "execute", &guest.pid().to_string()]);
    cluster.wait("the images to be ready", || held.is_hit());
    attack(&Target { dir: cluster.images_at_home(), pid: guest.pid() });
    held.lift();
    let code = command.wait().unwrap().code();
    assert_ne!(code, Some(0), "{name}");
    let view = cluster.offloads().into_iter().nth(before).unwrap();
    let failed = cluster.wait_phase(view.record.id.as_str(), OffloadPhase::Failed);
    let reason = failed.record.reasons.last().unwrap();
    println!("{name}: {reason}");
    assert_eq!(reason.code, ReasonCode::Gate, "{name}: {reason}");
    assert!(reason.detail.contains(says), "{name}: {reason}");
    let log = std::fs::read_to_string(cluster.state().join("log/gpu1.log")).unwrap();
    assert!(log.contains(&reason.detail), "{name}: the lender's log has it too: {log}");
    assert!(guest.process.runs_here(), "{name}");
    guest.goes_on();
    cluster.wait("the lender to be rid of it", || match guests(cluster) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
}

#[test]
fn hostile_images_are_refused_before_go_and_the_program_goes_on_at_home() {
    let Some(cluster) = Cluster::faulty(YAML) else { return };
    let guest = Guest::reporting(&cluster, "prover", "--memory 4MiB --steps 1000000");
    cluster.boost("--cpu 1 --memory 1GiB --duration 9m");
    let start = procs::start_ticks(guest.pid());
    for attack in ATTACKS {
        refused(&cluster, &guest, attack);
    }
    assert_eq!(procs::start_ticks(guest.pid()), start);
    println!("crafted images tried and refused: {}", ATTACKS.len());
    // And what was not tampered with goes.
    cluster.move_out(guest.pid());
    guest.goes_on();
    let log = std::fs::read_to_string(cluster.state().join("log/gpu1.log")).unwrap();
    println!("{}", log.lines().rfind(|line| line.contains("staged")).unwrap());
}

#[test]
fn a_file_that_its_owner_may_not_open_is_refused_before_anything_is_frozen() {
    let Some(cluster) = Cluster::faulty(YAML) else { return };
    let guest = Guest::reporting(&cluster, "prover", "--memory 4MiB --steps 1000000");
    cluster.boost("--cpu 1 --memory 1GiB --duration 2m");
    // As where root's shell opened it for the user.
    let held = guest.dir.join("stdout");
    std::os::unix::fs::chown(&held, Some(0), Some(0)).unwrap();
    let held_text = held.display().to_string();
    let armed = cluster.arm("head", FaultPoint::TakeHold, Effect::Fail);
    let (_, error) = cluster.refused(&["offload", "execute", &guest.pid().to_string()]);
    assert_eq!(error.code, Some(ReasonCode::Gate), "{error:?}");
    assert!(error.message.contains(&format!("holds fd 1: {held_text}, which uid 65534 may not open")), "{error:?}");
    assert!(armed.is_hit().is_err(), "it was never held");
    // Whoever asks beforehand is told the same.
    let pid = guest.pid().to_string();
    let (code, would) = cluster.refused(&["offload", "execute", &pid, "--dry-run"]);
    assert_eq!((code, would.code), (4, Some(ReasonCode::Gate)), "{would:?}");
    let explained: ExplainReply = cluster.ask(&["explain", &pid]);
    let cannot = explained.verdict.cannot.unwrap();
    assert!(cannot.iter().any(|r| r.code == ReasonCode::Gate && r.detail.contains(&held_text)), "{cannot:?}");
    assert!(explained.plan.steps.is_empty());
    guest.goes_on();
    drop(armed);
    std::os::unix::fs::chown(&held, Some(65534), Some(65534)).unwrap();
    cluster.move_out(guest.pid());
}
