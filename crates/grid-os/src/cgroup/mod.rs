//! Control groups, v2 first, v1 where a controller lives there.
//!
//! Owns: finding the hierarchies, making and removing groups, limits, membership, freezing, killing. Never decides
//! anything. A group is one path below every hierarchy that it needs; on pure v2 these fall together into one
//! directory.
//!
//! Invariants: a freeze or thaw counts only when the kernel confirms it; a group is removed only when it is empty.

mod freeze;
mod hierarchy;
mod limits;

pub use hierarchy::{Controller, Hierarchies};

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What can fail with a control group; the path is always named.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No hierarchy offers a controller that is needed.
    #[error("no cgroup hierarchy offers {0}; mount one, or boot with cgroup v2")]
    NoController(&'static str),
    /// A file of the hierarchy could not be read or written.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel did not confirm in time.
    #[error("{path}: the kernel did not confirm {what} within {waited:?}")]
    NotConfirmed {
        /// Which group.
        path: PathBuf,
        /// `frozen`, `thawed`, `empty`.
        what: &'static str,
        /// How long was waited.
        waited: Duration,
    },
}

pub(crate) fn io_err(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError::Io { action, path, source }
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), CgroupError> {
    fs::write(path, text).map_err(io_err("write", path))
}

pub(crate) fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(io_err("read", path))
}

/// One group: the same relative path below each hierarchy that it was made in.
#[derive(Clone, Debug)]
pub struct Group {
    hierarchies: Hierarchies,
    controllers: Vec<Controller>,
    path: String,
}

impl Hierarchies {
    /// The group of this relative path (`grid-c1/gpu1/b-7k2`) in the hierarchies of these controllers.
    /// Makes nothing yet.
    pub fn group(&self, path: &str, controllers: &[Controller]) -> Group {
        Group { hierarchies: self.clone(), controllers: controllers.to_vec(), path: path.trim_matches('/').to_owned() }
    }
}

impl Group {
    /// The relative path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A group below this one, with the same controllers.
    pub fn child(&self, name: &str) -> Group {
        Group { path: format!("{}/{name}", self.path), ..self.clone() }
    }

    /// The distinct directories of the group.
    pub fn dirs(&self) -> Vec<PathBuf> {
        let set: BTreeSet<PathBuf> = self.controllers.iter().filter_map(|c| self.dir(*c)).collect();
        set.into_iter().collect()
    }

    /// The directory in the hierarchy of this controller.
    pub fn dir(&self, controller: Controller) -> Option<PathBuf> {
        self.hierarchies.mount(controller).map(|m| m.join(&self.path))
    }

    /// The group that this one is in; none where that is the root of its hierarchies.
    pub fn parent(&self) -> Option<Group> {
        self.path.rsplit_once('/').map(|(above, _)| self.sibling(above))
    }

    /// Another group of the same hierarchies, by its path from their roots.
    pub fn sibling(&self, path: &str) -> Group {
        Group { path: path.trim_matches('/').to_owned(), ..self.clone() }
    }

    /// Its freezer is v2's.
    pub fn freezes_by_v2(&self) -> bool {
        self.is_v2(Controller::Freezer)
    }

    /// The same path for other controllers.
    pub fn with(&self, controllers: &[Controller]) -> Group {
        Group { controllers: controllers.to_vec(), ..self.clone() }
    }

    pub(crate) fn need(&self, controller: Controller) -> Result<PathBuf, CgroupError> {
        self.dir(controller).ok_or(CgroupError::NoController(controller.name()))
    }

    pub(crate) fn is_v2(&self, controller: Controller) -> bool {
        self.hierarchies.is_v2(controller)
    }

    /// The files to which a process writes its number to join.
    pub fn procs_files(&self) -> Vec<PathBuf> {
        self.dirs().into_iter().map(|d| d.join("cgroup.procs")).collect()
    }

    /// True where any directory of the group exists.
    pub fn exists(&self) -> bool {
        self.dirs().iter().any(|d| d.is_dir())
    }

    /// Makes the group, and its parents, in every hierarchy. On v2 the controllers are enabled on the way down.
    pub fn create(&self) -> Result<(), CgroupError> {
        for dir in self.dirs() {
            fs::create_dir_all(&dir).map_err(io_err("create", &dir))?;
        }
        self.enable_v2_controllers()
    }

    fn enable_v2_controllers(&self) -> Result<(), CgroupError> {
        let Some(root) = self.hierarchies.v2_root() else { return Ok(()) };
        let wanted: Vec<&str> = self
            .controllers
            .iter()
            .filter(|c| c.is_resource() && self.hierarchies.is_v2(**c))
            .map(|c| c.name())
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let line: String = wanted.iter().map(|c| format!("+{c} ")).collect();
        let mut dir = root.to_owned();
        for part in Path::new(&self.path).parent().into_iter().flat_map(Path::components) {
            write(&dir.join("cgroup.subtree_control"), line.trim())?;
            dir.push(part);
        }
        write(&dir.join("cgroup.subtree_control"), line.trim())
    }

    /// Puts a process, with all its threads, into the group.
    pub fn add(&self, pid: i32) -> Result<(), CgroupError> {
        for file in self.procs_files() {
            write(&file, &pid.to_string())?;
        }
        Ok(())
    }

    /// Every process in the group and below it, in any of its hierarchies.
    pub fn pids(&self) -> BTreeSet<i32> {
        let mut pids = BTreeSet::new();
        for dir in self.dirs() {
            collect_pids(&dir, &mut pids);
        }
        pids
    }

    /// Ends every process in the group and below it by force, thawing it for that, and waits until it is empty.
    /// A process that forks meanwhile is found in the next round.
    pub fn kill(&self, within: Duration) -> Result<(), CgroupError> {
        let deadline = Instant::now() + within;
        loop {
            for dir in self.dirs() {
                if dir.join("cgroup.kill").exists() {
                    let _ = fs::write(dir.join("cgroup.kill"), "1");
                }
            }
            let pids = self.pids();
            for pid in &pids {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::SIGKILL);
            }
            // A frozen member gets its SIGKILL before it could run one instruction of its own.
            if !pids.is_empty() && self.controllers.contains(&Controller::Freezer) {
                self.thaw_with_all_below();
            }
            if pids.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let path = self.dirs().into_iter().next().unwrap_or_default();
                return Err(CgroupError::NotConfirmed { path, what: "empty", waited: within });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Removes the group itself where nothing is in it, no other group either.
    pub fn remove_where_empty(&self) {
        self.dirs().iter().filter(|_| !self.path.is_empty()).for_each(|dir| _ = fs::remove_dir(dir));
    }

    /// Removes the group and the empty groups below it. Fails where a process is left in it. The root of the hierarchies is
    /// nobody's to remove: the groups below it are everybody's.
    pub fn remove(&self) -> Result<(), CgroupError> {
        if self.path.is_empty() {
            let path = self.dirs().into_iter().next().unwrap_or_default();
            return Err(io_err("remove", &path)(io::Error::other("it is the root of the hierarchy")));
        }
        for dir in self.dirs() {
            remove_tree(&dir)?;
        }
        Ok(())
    }
}

fn collect_pids(dir: &Path, into: &mut BTreeSet<i32>) {
    if let Ok(text) = fs::read_to_string(dir.join("cgroup.procs")) {
        into.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|p| *p > 0));
    }
    for child in subdirs(dir) {
        collect_pids(&child, into);
    }
}

/// Processes of the group in this directory, and below it.
pub(crate) fn pids_below(dir: &Path) -> BTreeSet<i32> {
    let mut pids = BTreeSet::new();
    collect_pids(dir, &mut pids);
    pids
}

pub(crate) fn subdirs(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .map(|it| {
            it.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect::<Vec<_>>()
        })
        .unwrap_or_default()
}

/// `rmdir` from the leaves up. A group whose last member is still being torn down answers EBUSY for a moment.
fn remove_tree(dir: &Path) -> Result<(), CgroupError> {
    if !dir.is_dir() {
        return Ok(());
    }
    for child in subdirs(dir) {
        remove_tree(&child)?;
    }
    let deadline = Instant::now() + Duration::from_millis(500);
    loop {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.raw_os_error() == Some(nix::libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(e) => return Err(io_err("remove", dir)(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_a_hierarchy_is_not_removed() {
        let Ok(hierarchies) = Hierarchies::detect() else { return println!("SKIPPED: no cgroups here") };
        let group = hierarchies.group("grid-x/gpu1", &[Controller::Freezer]);
        let parent = group.parent().unwrap();
        assert_eq!((parent.path(), parent.parent().is_none()), ("grid-x", true));
        let root = group.sibling("");
        assert!(root.remove().unwrap_err().to_string().contains("root of the hierarchy"));
        root.remove_where_empty();
    }
}
