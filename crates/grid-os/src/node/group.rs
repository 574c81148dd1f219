//! A control group that bounds a node: its limits and what it uses, in cgroup v2 or in v1's separate hierarchies.

use super::{NodeError, read};
use grid_types::units::{Bytes, MilliCpu};
use std::path::{Path, PathBuf};

/// Directories of a group, one for each controller. In v2 they are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCgroup {
    /// `cpu.max`, or v1's `cpu.cfs_quota_us`.
    pub cpu: PathBuf,
    /// `cpu.stat`, or v1's `cpuacct.usage`.
    pub cpuacct: PathBuf,
    /// `memory.max`, or v1's `memory.limit_in_bytes`.
    pub memory: PathBuf,
}

impl NodeCgroup {
    /// A group of cgroup v2.
    pub fn unified(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self { cpu: dir.clone(), cpuacct: dir.clone(), memory: dir }
    }

    /// CPU that the group may use; none without a limit.
    pub fn cpu_limit(&self) -> Result<Option<MilliCpu>, NodeError> {
        let (path, quota, period) = match v2(&self.cpu, "cpu.max") {
            Some(path) => {
                let text = read(&path)?;
                let (quota, period) = text.trim().split_once(' ').unwrap_or((text.trim(), "100000"));
                let (quota, period) = (quota.to_owned(), period.to_owned());
                (path, quota, period)
            }
            None => {
                let path = self.cpu.join("cpu.cfs_quota_us");
                (
                    path.clone(),
                    read(&path)?.trim().to_owned(),
                    read(&self.cpu.join("cpu.cfs_period_us"))?.trim().to_owned(),
                )
            }
        };
        if quota == "max" || quota.starts_with('-') {
            return Ok(None);
        }
        match (quota.parse::<u64>(), period.parse::<u64>()) {
            (Ok(quota), Ok(period)) if period > 0 => {
                Ok(Some(MilliCpu(u32::try_from(quota.saturating_mul(1000) / period).unwrap_or(u32::MAX))))
            }
            _ => Err(NodeError::Parse { path, what: "a quota and a period in microseconds" }),
        }
    }

    /// CPU time that the group has used so far, in nanoseconds.
    pub fn cpu_used_ns(&self) -> Result<u64, NodeError> {
        if let Some(path) = v2(&self.cpuacct, "cpu.stat").filter(|_| v2(&self.cpuacct, "cpuacct.usage").is_none()) {
            return keyed(&read(&path)?, "usage_usec")
                .map(|us| us.saturating_mul(1000))
                .ok_or(NodeError::Parse { path, what: "usage_usec" });
        }
        number(&self.cpuacct.join("cpuacct.usage"))
    }

    /// Memory that the group may use; none without a limit. v1's limits of the groups above count too.
    pub fn memory_limit(&self) -> Result<Option<Bytes>, NodeError> {
        if let Some(path) = v2(&self.memory, "memory.max") {
            return Ok(if read(&path)?.trim() == "max" { None } else { Some(Bytes(number(&path)?)) });
        }
        let own = number(&self.memory.join("memory.limit_in_bytes"))?;
        let above = keyed(&read(&self.memory.join("memory.stat"))?, "hierarchical_memory_limit").unwrap_or(u64::MAX);
        // "No limit" is the largest multiple of a page; whoever compares it with the machine's memory sees so.
        Ok(Some(Bytes(own.min(above))))
    }

    /// Memory in use, less file pages that the kernel would drop first.
    pub fn memory_used(&self) -> Result<Bytes, NodeError> {
        let (used, key) = match v2(&self.memory, "memory.current") {
            Some(path) => (number(&path)?, "inactive_file"),
            None => (number(&self.memory.join("memory.usage_in_bytes"))?, "total_inactive_file"),
        };
        let droppable = keyed(&read(&self.memory.join("memory.stat"))?, key).unwrap_or(0);
        Ok(Bytes(used.saturating_sub(droppable)))
    }
}

fn v2(dir: &Path, file: &str) -> Option<PathBuf> {
    Some(dir.join(file)).filter(|p| p.exists())
}

fn number(path: &Path) -> Result<u64, NodeError> {
    read(path)?.trim().parse().map_err(|_| NodeError::Parse { path: path.to_owned(), what: "a number" })
}

fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)]) -> (tempfile::TempDir, NodeCgroup) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let group = NodeCgroup::unified(dir.path());
        (dir, group)
    }

    #[test]
    fn a_v2_group_gives_limits_and_use() {
        let (_dir, g) = group(&[
            ("cpu.max", "150000 100000\n"),
            ("cpu.stat", "usage_usec 2500\nuser_usec 1\n"),
            ("memory.max", "1073741824\n"),
            ("memory.current", "600\n"),
            ("memory.stat", "anon 1\ninactive_file 100\n"),
        ]);
        assert_eq!(g.cpu_limit().unwrap(), Some(MilliCpu(1500)));
        assert_eq!(g.cpu_used_ns().unwrap(), 2_500_000);
        assert_eq!(g.memory_limit().unwrap(), Some(Bytes(1 << 30)));
        assert_eq!(g.memory_used().unwrap(), Bytes(500));
        let (_dir, free) = group(&[("cpu.max", "max 100000\n"), ("memory.max", "max\n")]);
        assert_eq!((free.cpu_limit().unwrap(), free.memory_limit().unwrap()), (None, None));
    }

    #[test]
    fn a_v1_group_gives_the_same() {
        let (_dir, g) = group(&[
            ("cpu.cfs_quota_us", "50000\n"),
            ("cpu.cfs_period_us", "100000\n"),
            ("cpuacct.usage", "77\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.usage_in_bytes", "600\n"),
            ("memory.stat", "cache 1\nhierarchical_memory_limit 1000\ntotal_inactive_file 250\n"),
        ]);
        assert_eq!(g.cpu_limit().unwrap(), Some(MilliCpu(500)));
        assert_eq!(g.cpu_used_ns().unwrap(), 77);
        assert_eq!(g.memory_limit().unwrap(), Some(Bytes(1000)));
        assert_eq!(g.memory_used().unwrap(), Bytes(350));
    }

    #[test]
    fn what_is_missing_or_nonsense_is_an_error_with_its_path() {
        let (_dir, g) = group(&[("cpu.max", "many 100000\n")]);
        assert!(g.cpu_limit().unwrap_err().to_string().contains("cpu.max"));
        assert!(g.memory_used().unwrap_err().to_string().contains("memory.usage_in_bytes"));
    }
}
