//! What grid has on this machine, and how each thing goes away. Only looks.

use super::{PACKAGED, UNIT};
use crate::up;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// One thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    /// What it is.
    pub what: String,
    /// Where.
    pub at: PathBuf,
    /// What takes it away.
    pub remove: String,
}

/// Everything, for a cluster of this state.
pub fn left(state: &Path) -> Vec<Left> {
    let mut all = Vec::new();
    let mut add = |what: &str, at: &Path, remove: String| {
        if at.exists() {
            all.push(Left { what: what.to_owned(), at: at.to_owned(), remove });
        }
    };
    let down = || "grid down --recall-first".to_owned();
    add("unit of systemd", &Path::new("/etc/systemd/system").join(UNIT), "grid service uninstall".into());
    add("unit of the package", Path::new(PACKAGED), "apt purge grid".into());
    add("sockets, images of moves under way", &up::run_dir(state), down());
    for hierarchy in ["", "freezer", "cpu", "memory", "unified"] {
        add("control groups", &Path::new("/sys/fs/cgroup").join(hierarchy).join(up::cgroup(state)), down());
    }
    for name in names(&state.join("workers")) {
        let folder = state.join("workers").join(&name);
        add(
            &format!("on {name}: programs, log and ledger there; here how it is known"),
            &folder,
            "grid down --purge".into(),
        );
    }
    for node in names(&state.join("nodes")) {
        let parked = state.join("nodes").join(&node).join("parked");
        if !names(&parked).is_empty() {
            add("parked processes, which are nowhere else", &parked, "grid offload unpark ID".into());
        }
    }
    add("journal, ledgers, logs", state, format!("rm -r {}, once the cluster is down", state.display()));
    add("configuration", Path::new("/etc/grid"), "rm -r /etc/grid".into());
    all
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_listed_with_what_takes_it_away() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert!(left(&state).iter().all(|l| !l.at.starts_with(dir.path())));
        std::fs::create_dir_all(state.join("nodes/gpu1/parked/o-1.1")).unwrap();
        std::fs::create_dir_all(state.join("nodes/gpu2/parked")).unwrap();
        std::fs::create_dir_all(state.join("workers/gpu3")).unwrap();
        let ours: Vec<_> = left(&state).into_iter().filter(|l| l.at.starts_with(dir.path())).collect();
        let at: Vec<_> = ours.iter().map(|l| l.at.strip_prefix(&state).unwrap().display().to_string()).collect();
        assert_eq!(at, ["workers/gpu3", "nodes/gpu1/parked", ""]);
        assert!(ours.iter().all(|l| !l.remove.is_empty()));
    }
}
