//! Faults that a test makes in a cluster: a step of an agent that fails or hangs, a machine that sleeps, a cut link, a
//! worker that loses its power.

use super::Cluster;
use crate::procs;
use grid_types::fault::{Effect, FaultPoint};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An armed fault. Dropped, a hanging step goes on, and one that was not reached is disarmed.
#[derive(Debug)]
pub struct Armed {
    point: FaultPoint,
    armed: PathBuf,
    hit: PathBuf,
    lock: Option<Flock<File>>,
}

impl Armed {
    fn new(dir: &Path, point: FaultPoint, effect: Effect) -> std::io::Result<Self> {
        let (armed, hit, new) = (dir.join(point.armed_file()), dir.join(point.hit_file()), dir.join("fault.new"));
        std::fs::write(&new, serde_json::to_vec(&effect)?)?;
        // Held before the file has its name, so that whoever finds it finds it locked.
        let lock = Flock::lock(File::open(&new)?, FlockArg::LockExclusive).map_err(|(_, e)| e)?;
        std::fs::rename(&new, &armed)?;
        Ok(Self { point, armed, hit, lock: Some(lock) })
    }

    /// The step was reached.
    pub fn is_hit(&self) -> Result<(), String> {
        if self.hit.exists() { Ok(()) } else { Err(format!("{} was not reached", self.point.as_str())) }
    }

    /// Lets a step that hangs go on.
    pub fn lift(&mut self) {
        self.lock = None;
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        for file in [&self.armed, &self.hit] {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// A disk that is soon full.
#[derive(Debug)]
pub(super) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(super) fn mount(at: &Path) -> Self {
        use nix::mount::{MsFlags, mount};
        std::fs::create_dir_all(at).unwrap_or_else(|e| panic!("{}: {e}", at.display()));
        let options = Some("size=16m,mode=700");
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, options)
            .unwrap_or_else(|e| panic!("a tmpfs on {}: {e}", at.display()));
        Self(at.to_owned())
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount(&self.0);
    }
}

impl Cluster {
    /// This node says from now on that it has so many bytes of memory, all free; with none, what it really has. (Of
    /// clusters that look for faults.)
    ///
    /// # Panics
    /// Where the file cannot be written.
    pub fn pretend_memory(&self, node: &str, bytes: Option<u64>) {
        let file = self.state.join("nodes").join(node).join(grid_types::fault::MEMORY_FILE);
        let done = match bytes {
            Some(bytes) => std::fs::write(&file, bytes.to_string()),
            None => std::fs::remove_file(&file),
        };
        done.unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        self.wait_heard();
        self.wait_heard();
    }

    /// Takes all the room that is left on the small disk.
    pub fn fill_disk(&self) {
        let disk = self.disk.as_ref().unwrap_or_else(|| panic!("Cluster::with_small_disk has one"));
        let mut file = File::create(disk.filler()).unwrap_or_else(|e| panic!("{e}"));
        for size in [1 << 16, 1 << 12, 1] {
            while std::io::Write::write_all(&mut file, &vec![0; size]).is_ok() {}
        }
    }

    /// Gives that room back.
    pub fn empty_disk(&self) {
        let disk = self.disk.as_ref().unwrap_or_else(|| panic!("Cluster::with_small_disk has one"));
        std::fs::remove_file(disk.filler()).unwrap_or_else(|e| panic!("{e}"));
    }

    /// Limits the memory of a lease below what was granted: the kernel enforces it at once.
    pub fn squeeze(&self, node: &str, lease: &str, bytes: u64) {
        let file = format!("/sys/fs/cgroup/memory/{}/{node}/{lease}/memory.limit_in_bytes", self.group);
        std::fs::write(&file, bytes.to_string()).unwrap_or_else(|e| panic!("{file}: {e}"));
    }

    /// Makes a step of this node's agent fail or hang, once.
    ///
    /// # Panics
    /// Where the cluster was not started with [`Cluster::faulty`].
    pub fn arm(&self, node: &str, point: FaultPoint, effect: Effect) -> Armed {
        assert!(self.faulty, "Cluster::faulty makes one whose agents look for faults");
        let dir = self.state().join("nodes").join(node);
        Armed::new(&dir, point, effect).unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
    }

    /// The images of the one dump that is held at home.
    ///
    /// # Panics
    /// Where there is none.
    pub fn images_at_home(&self) -> PathBuf {
        let node = Path::new("/run").join(&self.group).join("head");
        let trees = std::fs::read_dir(&node).into_iter().flatten().flatten().map(|e| e.path().join("images"));
        let found = trees.into_iter().find(|dir| dir.join("inventory.img").exists());
        found.unwrap_or_else(|| panic!("no images in {}", node.display()))
    }

    /// Cuts, or mends, the link of the first worker: packets get lost, connections stay.
    pub fn set_link(&self, up: bool) {
        let plan = std::fs::read_to_string(self.state().join("conf/plan.json")).unwrap_or_default();
        let plan: serde_json::Value = serde_json::from_str(&plan).unwrap_or_default();
        let veth = plan["nodes"][0]["veth_head"].as_str().unwrap_or_default();
        let done = Command::new("ip").args(["link", "set", veth, if up { "up" } else { "down" }]).status();
        assert!(done.is_ok_and(|s| s.success()), "ip link set {veth}");
    }

    /// Ends a worker with all that lives there, and waits until it was started again.
    pub fn cut_power(&self, node: &str) {
        let before = self.node_pid(node);
        kill(Pid::from_raw(before), Signal::SIGKILL).unwrap_or_else(|e| panic!("kill -9 {before}: {e}"));
        self.wait("the worker to come back", || {
            let now = self.node_pid(node);
            if now == before { Err(format!("{now} is there")) } else { Ok(()) }
        });
    }

    /// How many namespaces the cluster's processes live in.
    pub fn namespaces(&self) -> usize {
        let group = format!("/{}", self.group);
        let own =
            |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(&group));
        let of = |pid: i32| {
            let dir = std::fs::read_dir(format!("/proc/{pid}/ns")).into_iter().flatten().flatten();
            dir.filter_map(|e| std::fs::read_link(e.path()).ok()).collect::<Vec<_>>()
        };
        let all: std::collections::BTreeSet<_> = procs::all().into_iter().filter(own).flat_map(of).collect();
        all.len()
    }

    /// Ends, at once, everything that could act: the supervisor, the head's daemon and agent. Workers and guests live on.
    pub fn behead(&mut self) {
        let (agent, daemon) = (self.agent_pid("head"), self.daemon_pid());
        if let Some((mut supervisor, _)) = self.supervisor.take() {
            let _ = supervisor.kill();
            let _ = supervisor.wait();
        }
        self.kill9(agent);
        self.kill9(daemon);
    }

    /// Control groups of attempts that are not over, or were not tidied up.
    pub fn attempt_groups(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![PathBuf::from(format!("/sys/fs/cgroup/freezer/{}", self.group))];
        while let Some(dir) = open.pop() {
            let below = std::fs::read_dir(&dir).into_iter().flatten().flatten();
            open.extend(below.map(|e| e.path()).filter(|p| p.is_dir()));
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("o-") && name.contains('.') {
                found.push(dir.display().to_string());
            }
        }
        found
    }

    /// Puts everything of a worker to sleep, or wakes it; its clocks run on.
    pub fn set_asleep(&self, node: &str, asleep: bool) {
        let v1 = PathBuf::from(format!("/sys/fs/cgroup/freezer/{}/{node}/freezer.state", self.group));
        let said = if asleep { "FROZEN" } else { "THAWED" };
        std::fs::write(&v1, said).unwrap_or_else(|e| panic!("{}: {e}", v1.display()));
        self.wait("the worker to follow", || {
            let state = std::fs::read_to_string(&v1).unwrap_or_default();
            if state.trim() == said { Ok(()) } else { Err(state) }
        });
    }
}

impl Cluster {
    /// `kill -9` of everything that is grid's, at once: supervisor, daemon, agents, workers. CRIU ends by itself.
    pub fn kill_everything(&mut self) {
        let nodes = std::fs::read_dir(self.state().join("nodes")).into_iter().flatten().flatten();
        let names: Vec<String> = nodes.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        let (mut child, _) = self.supervisor.take().unwrap_or_else(|| panic!("it is up"));
        let mut all = vec![child.id() as i32, self.daemon_pid(), self.agent_pid("head")];
        for node in names.iter().filter(|n| *n != "head") {
            all.extend([self.node_pid(node), self.agent_pid(node)]);
        }
        for pid in &all {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        let _ = child.wait();
        // Not their directories: those stay until they are reaped, and a pid 1 is reaped behind what is frozen below it.
        let lives = |pid: &&i32| Path::new(&format!("/proc/{pid}/ns/net")).exists();
        self.wait("all of them to end", || all.iter().find(lives).map_or(Ok(()), |pid| Err(format!("{pid} lives"))));
        // A thread of an agent that was writing ends with its write, and its lock with it.
        let dirs: Vec<PathBuf> = names.iter().map(|n| self.state().join("nodes").join(n).join("agent.lock")).collect();
        let is_free = |path: &PathBuf| match File::open(path) {
            Ok(file) => Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok(),
            Err(_) => true,
        };
        self.wait("the agents' locks", || if dirs.iter().all(is_free) { Ok(()) } else { Err("one is held") });
    }
}
