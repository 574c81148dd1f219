//! The cluster's own programs: found, killed, and waited for.

use super::Cluster;
use crate::procs::{self, start_ticks};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

impl Cluster {
    /// Number of a node's agent, as root's `ps` shows it.
    pub fn agent_pid(&self, node: &str) -> i32 {
        let name = if node == "head" { "hub" } else { node };
        self.wait(&format!("the agent of {node}"), || self.daemon_with(&format!("conf/{name}.json"), "agent"))
    }

    /// Number of its supervisor.
    ///
    /// # Panics
    /// Where it was killed.
    pub fn supervisor_pid(&self) -> i32 {
        self.supervisor.as_ref().map_or_else(|| panic!("it has none"), |(child, _)| child.id() as i32)
    }

    /// Waits until its supervisor has ended by itself.
    ///
    /// # Panics
    /// Where it was killed before.
    pub fn supervisor_ended(&mut self) {
        let (mut child, _) = self.supervisor.take().unwrap_or_else(|| panic!("it has none"));
        self.wait("its supervisor to end", || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(other),
        });
    }

    /// Number of the head's daemon.
    pub fn daemon_pid(&self) -> i32 {
        self.wait("the head's daemon", || self.daemon_with("conf/head.json", "daemon"))
    }

    /// Number of a worker's pid 1.
    pub fn node_pid(&self, node: &str) -> i32 {
        self.wait(&format!("pid 1 of {node}"), || self.daemon_with(&format!("conf/{node}.json"), "node-init"))
    }

    fn daemon_with(&self, config: &str, word: &str) -> Result<i32, String> {
        let config = self.state.join(config).to_string_lossy().into_owned();
        let is_it = |pid: &i32| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = arguments.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
            words.get(1).is_some_and(|w| *w == word) && words.iter().any(|w| *w == config)
        };
        // A child between fork and exec looks like its parent: the oldest is meant.
        let found = procs::all().into_iter().filter(is_it).min_by_key(|pid| start_ticks(*pid));
        found.ok_or_else(|| format!("no grid {word} with {config}"))
    }

    /// Ends this process of the cluster's at once.
    pub fn kill9(&self, pid: i32) {
        let start = start_ticks(pid);
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap_or_else(|e| panic!("kill -9 {pid}: {e}"));
        self.wait(&format!("{pid} to end"), || if start_ticks(pid) == start { Err("it lives") } else { Ok(()) });
    }

    /// Does a CRIU of this node's agent run now?
    pub fn criu_runs_on(&self, node: &str) -> Result<(), String> {
        let group = format!("/{}/{node}/", self.group);
        let is_it = |pid: &i32| {
            let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            read("comm").trim() == "criu" && read("cgroup").contains(&group)
        };
        procs::all().iter().any(is_it).then_some(()).ok_or_else(|| format!("no criu on {node}"))
    }
}
