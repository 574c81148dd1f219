//! A cluster for one measurement, gone when dropped.

use crate::lab::Lab;
use crate::local::Local;
use crate::scratch::Scratch;
use grid_types::NodeName;
use std::fs;
use std::path::PathBuf;

const CONFIG: &str = "\
name: bench
nodes:
  - {name: head, host: head, role: head, resource_sharing: {can_share: false}}
  - {name: gpu1, host: gpu1, role: worker, resource_sharing: {can_share: true, max_share_cpu: 2, max_share_memory_gb: 4}}
  - {name: gpu2, host: gpu2, role: worker, resource_sharing: {can_share: true, max_share_cpu: 2, max_share_memory_gb: 4}}
execution:
  resource_sharing:
    thresholds: {excess_threshold: 0.05}
    auto_offload: {mode: off}
";

/// The cluster and its folder.
pub(super) struct Cluster {
    pub(super) local: Local,
    /// Its one worker, where that is another machine.
    pub(super) lab: Option<Lab>,
    _dir: Scratch,
}

impl Cluster {
    /// Starts a head and two workers that move nothing by themselves.
    pub(super) fn up() -> Result<Self, String> {
        Self::configured(CONFIG, None)
    }

    /// Starts a head and a worker that is reached by ssh; `files`: which a process sees there.
    pub(super) fn over_ssh(files: &str) -> Result<Self, String> {
        let lab = Lab::named("gpu1").map_err(|e| format!("a machine for ssh: {e}"))?;
        // Over a slow link a large process is silent for longer than anybody allows by default.
        let config = lab.config(files) + "limits: {max_frozen: 60s}\n";
        Self::configured(&config, Some(lab))
    }

    /// The same, where the worker also goes to the head directly, and does so first.
    pub(super) fn beside_ssh(files: &str) -> Result<Self, String> {
        let lab = Lab::named("gpu1").map_err(|e| format!("a machine for ssh: {e}"))?;
        let config = lab.config_direct(files).0 + "limits: {max_frozen: 60s}\n";
        Self::configured(&config, Some(lab))
    }

    fn configured(yaml: &str, lab: Option<Lab>) -> Result<Self, String> {
        let dir = Scratch::new().map_err(|e| e.to_string())?;
        let config = dir.join("cluster.yaml");
        fs::write(&config, yaml).map_err(|e| format!("{}: {e}", config.display()))?;
        let cluster = Self { local: Local::of(&dir.join("state"))?, lab, _dir: dir };
        cluster.local.say(&["up", "--config", &config.to_string_lossy(), "--detach"])?;
        Ok(cluster)
    }

    /// Where the agent of this worker says what it did.
    pub(super) fn log_of(&self, worker: &NodeName) -> PathBuf {
        match self.lab.as_ref().map(Lab::workers).and_then(|folder| fs::read_dir(folder).ok()?.flatten().next()) {
            Some(own) => own.path().join("log/agent.log"),
            None => self.local.state.join(format!("log/{worker}.log")),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(e) = self.local.down() {
            crate::warn!("{e}");
        }
    }
}
