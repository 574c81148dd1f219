//! Where each controller lives: read from `/proc/self/mountinfo`, once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What a group is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// CPU time.
    Cpu,
    /// CPU time used: a hierarchy of its own on v1, a part of `cpu` on v2.
    CpuAcct,
    /// Memory.
    Memory,
    /// Stop and continue by the kernel. On v2 a part of the core.
    Freezer,
    /// `cgroup.kill`: v2 only, a part of the core.
    Kill,
}

impl Controller {
    /// The kernel's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::CpuAcct => "cpuacct",
            Controller::Memory => "memory",
            Controller::Freezer => "freezer",
            Controller::Kill => "cgroup2",
        }
    }
    /// It must be enabled in `cgroup.subtree_control` on v2.
    pub fn is_resource(self) -> bool {
        matches!(self, Controller::Cpu | Controller::Memory)
    }
}

/// The mounted hierarchies of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies {
    v1: BTreeMap<String, PathBuf>,
    v2: Option<PathBuf>,
    v2_controllers: Vec<String>,
}

impl Hierarchies {
    /// Reads what is mounted here.
    pub fn detect() -> std::io::Result<Self> {
        let mut found = Self::parse(&fs::read_to_string("/proc/self/mountinfo")?);
        found.read_v2_controllers();
        if std::env::var_os("GRID_FREEZER").is_some_and(|v| v == "v2") {
            found.v1.remove("freezer");
        }
        Ok(found)
    }

    /// These, and the same with v2's freezer in place of v1's: a process may be held by either.
    pub fn by_freezer(&self) -> Vec<Self> {
        let mut v2 = self.clone();
        match (v2.v1.remove("freezer"), &v2.v2) {
            (Some(_), Some(_)) => vec![self.clone(), v2],
            _ => vec![self.clone()],
        }
    }

    fn read_v2_controllers(&mut self) {
        if let Some(root) = &self.v2 {
            let text = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
            self.v2_controllers = text.split_whitespace().map(str::to_owned).collect();
        }
    }

    /// Reads a `mountinfo` text: the file system type and the super options after ` - ` name the controllers.
    pub fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(mount) = left.split(' ').nth(4) else { continue };
            let mut right = right.split(' ');
            match right.next() {
                Some("cgroup2") => {
                    found.v2.get_or_insert_with(|| PathBuf::from(mount));
                }
                Some("cgroup") => {
                    for option in right.nth(1).unwrap_or_default().split(',') {
                        found.v1.entry(option.to_owned()).or_insert_with(|| PathBuf::from(mount));
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Mount point of the hierarchy that offers this, v1 where the controller lives there.
    pub fn mount(&self, controller: Controller) -> Option<&Path> {
        match controller {
            Controller::Kill => self.v2.as_deref(),
            Controller::Freezer => self.v1.get("freezer").or(self.v2.as_ref()).map(PathBuf::as_path),
            Controller::CpuAcct => match self.v1.get("cpuacct") {
                Some(mount) => Some(mount),
                None => self.mount(Controller::Cpu),
            },
            Controller::Cpu | Controller::Memory => {
                let name = controller.name();
                let v2 = self.v2_controllers.iter().any(|c| c == name).then_some(self.v2.as_ref()).flatten();
                self.v1.get(name).or(v2).map(PathBuf::as_path)
            }
        }
    }

    /// The controller is served by v2.
    pub fn is_v2(&self, controller: Controller) -> bool {
        self.mount(controller).is_some_and(|m| Some(m) == self.v2.as_deref())
    }

    /// Mount point of v2.
    pub fn v2_root(&self) -> Option<&Path> {
        self.v2.as_deref()
    }

    /// The group of a process in the hierarchy of this controller, relative to the mount point.
    pub fn group_of(&self, pid: i32, controller: Controller) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let v2 = self.is_v2(controller);
        text.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, list, path) = (parts.next()?, parts.next()?, parts.next()?);
            let hit = if v2 { list.is_empty() } else { list.split(',').any(|c| c == controller.name()) };
            hit.then(|| path.trim_start_matches('/').to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
24 23 0:21 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
25 24 0:22 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
26 24 0:23 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
27 24 0:24 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
28 24 0:25 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
";
    const PURE: &str = "30 20 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn hybrid_machines_keep_their_controllers_in_v1() {
        let h = Hierarchies::parse(HYBRID);
        assert_eq!(h.mount(Controller::Cpu), Some(Path::new("/sys/fs/cgroup/cpu")));
        assert_eq!(h.mount(Controller::Freezer), Some(Path::new("/sys/fs/cgroup/freezer")));
        assert_eq!(h.mount(Controller::Kill), Some(Path::new("/sys/fs/cgroup/unified")));
        assert!(!h.is_v2(Controller::Memory));
    }

    #[test]
    fn on_pure_v2_all_fall_together() {
        let mut h = Hierarchies::parse(PURE);
        h.v2_controllers = vec!["cpu".into(), "memory".into()];
        for c in [Controller::Cpu, Controller::Memory, Controller::Freezer, Controller::Kill] {
            assert_eq!(h.mount(c), Some(Path::new("/sys/fs/cgroup")), "{c:?}");
            assert!(h.is_v2(c));
        }
        let group = h.group("grid-x/gpu1", &[Controller::Cpu, Controller::Memory, Controller::Freezer]);
        assert_eq!(group.dirs(), vec![PathBuf::from("/sys/fs/cgroup/grid-x/gpu1")]);
    }

    #[test]
    fn a_controller_that_v2_does_not_offer_is_missing() {
        assert_eq!(Hierarchies::parse(PURE).mount(Controller::Memory), None);
    }
}
