//! CPU and memory limits, and what the kernel reports of them and of the use.

use super::{CgroupError, Controller, Group, read, write};
use grid_types::{Bytes, MilliCpu, Resources};

/// Period of the CPU limit in microseconds: the kernel's default.
const PERIOD_US: u64 = 100_000;

impl Group {
    /// Limits CPU time and memory (swap is not to be had beyond it, where the kernel accounts for swap).
    pub fn set_limits(&self, limits: &Resources) -> Result<(), CgroupError> {
        let cpu = self.need(Controller::Cpu)?;
        let quota = (u64::from(limits.cpu.0) * PERIOD_US / 1000).max(1000);
        if self.is_v2(Controller::Cpu) {
            write(&cpu.join("cpu.max"), &format!("{quota} {PERIOD_US}"))?;
        } else {
            write(&cpu.join("cpu.cfs_period_us"), &PERIOD_US.to_string())?;
            write(&cpu.join("cpu.cfs_quota_us"), &quota.to_string())?;
        }
        let memory = self.need(Controller::Memory)?;
        let bytes = limits.memory.0.to_string();
        if self.is_v2(Controller::Memory) {
            write(&memory.join("memory.max"), &bytes)?;
            let swap = memory.join("memory.swap.max");
            return if swap.exists() { write(&swap, "0") } else { Ok(()) };
        }
        let (plain, with_swap) = (memory.join("memory.limit_in_bytes"), memory.join("memory.memsw.limit_in_bytes"));
        // The limit with swap must never be below the plain one: widen it first, narrow it last.
        if with_swap.exists() {
            let _ = write(&with_swap, &bytes);
        }
        write(&plain, &bytes)?;
        if with_swap.exists() { write(&with_swap, &bytes) } else { Ok(()) }
    }

    /// The limits as the kernel reports them; `None` where there is none.
    pub fn limits(&self) -> Result<(Option<MilliCpu>, Option<Bytes>), CgroupError> {
        let cpu = self.need(Controller::Cpu)?;
        let memory = self.need(Controller::Memory)?;
        let cpu = if self.is_v2(Controller::Cpu) {
            quota(&read(&cpu.join("cpu.max"))?)
        } else {
            quota(&format!("{} {}", read(&cpu.join("cpu.cfs_quota_us"))?.trim(), read(&cpu.join("cpu.cfs_period_us"))?))
        };
        let name = if self.is_v2(Controller::Memory) { "memory.max" } else { "memory.limit_in_bytes" };
        let memory = read(&memory.join(name))?.trim().parse().ok().filter(|b| *b < 1 << 60).map(Bytes);
        Ok((cpu, memory))
    }

    /// CPU time used by the group so far in microseconds, and memory charged to it now less clean file cache.
    pub fn usage(&self) -> Result<(Option<u64>, Bytes), CgroupError> {
        let cpu = self.need(Controller::Cpu)?;
        let cpu_us =
            if self.is_v2(Controller::Cpu) { field(&read(&cpu.join("cpu.stat"))?, "usage_usec") } else { None };
        let memory = self.need(Controller::Memory)?;
        let v2 = self.is_v2(Controller::Memory);
        let used = read(&memory.join(if v2 { "memory.current" } else { "memory.usage_in_bytes" }))?;
        let stat = read(&memory.join("memory.stat"))?;
        let cache = field(&stat, if v2 { "inactive_file" } else { "total_inactive_file" }).unwrap_or(0);
        Ok((cpu_us, Bytes(used.trim().parse::<u64>().unwrap_or(0).saturating_sub(cache))))
    }

    /// How often the kernel ended a member for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let Some(dir) = self.dir(Controller::Memory) else { return 0 };
        let name = if self.is_v2(Controller::Memory) { "memory.events" } else { "memory.oom_control" };
        read(&dir.join(name)).ok().and_then(|t| field(&t, "oom_kill")).unwrap_or(0)
    }

    /// `cpu 2.0, memory 1.0 GiB`, as the kernel reports it.
    pub fn describe_limits(&self) -> Result<String, CgroupError> {
        let (cpu, memory) = self.limits()?;
        let cpu = cpu.map_or("unlimited".to_owned(), |c| c.to_string());
        let memory = memory.map_or("unlimited".to_owned(), |m| m.to_string());
        Ok(format!("cpu {cpu}, memory {memory}"))
    }
}

fn quota(text: &str) -> Option<MilliCpu> {
    let mut parts = text.split_whitespace();
    let quota: i64 = parts.next()?.parse().ok()?;
    let period: i64 = parts.next()?.parse().ok()?;
    (quota > 0 && period > 0).then(|| MilliCpu(u32::try_from(quota.saturating_mul(1000) / period).unwrap_or(u32::MAX)))
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_read_in_both_forms() {
        assert_eq!(quota("200000 100000"), Some(MilliCpu(2000)));
        assert_eq!(quota("max 100000"), None);
        assert_eq!(quota("-1 100000"), None);
        assert_eq!(quota(&format!("{} 1", i64::MAX)), Some(MilliCpu(u32::MAX)));
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        assert_eq!(field("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), Some(3));
        assert_eq!(field("usage_usec 17\nuser_usec 9", "usage_usec"), Some(17));
    }
}
