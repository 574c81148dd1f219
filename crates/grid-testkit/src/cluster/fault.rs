//! Faults that a test makes in a cluster: a step of an agent that fails or hangs, a machine that sleeps, a cut link, a
//! worker that loses its power.

use super::Cluster;
use grid_types::fault::{Effect, FaultPoint};
use nix::fcntl::{Flock, FlockArg};
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

impl Cluster {
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
