//! A cluster for one measurement, gone when dropped.

use crate::local::Local;
use crate::scratch::Scratch;

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
    _dir: Scratch,
}

impl Cluster {
    /// Starts a head and two workers that move nothing by themselves.
    pub(super) fn up() -> Result<Self, String> {
        let dir = Scratch::new().map_err(|e| e.to_string())?;
        let config = dir.join("cluster.yaml");
        std::fs::write(&config, CONFIG).map_err(|e| format!("{}: {e}", config.display()))?;
        let cluster = Self { local: Local::of(&dir.join("state"))?, _dir: dir };
        cluster.local.say(&["up", "--config", &config.to_string_lossy(), "--detach"])?;
        Ok(cluster)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(e) = self.local.down() {
            crate::warn!("{e}");
        }
    }
}
