//! The deep look at one process: everything that decides whether it can move.
//!
//! A fact that cannot be read goes into `unreadable` with its reason, and the look goes on.

use super::fds::Fds;
use super::{ProcError, ProcRoot, locks, maps, oomd, vanished};
use crate::seccomp;
use grid_types::facts::{Namespaces, ProcDeep};
use grid_types::units::Bytes;
use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

/// Facts of one process, and what only the search among other processes needs.
pub(super) struct Look {
    pub(super) deep: ProcDeep,
    pub(super) memfds: Vec<u64>,
}

/// Mounts that a process sees.
struct Mounts {
    ids: HashSet<i32>,
    huge: Vec<String>,
}

/// So often it is looked again, some milliseconds later, whether a process is closed or begins a program.
const BEGINNING: u64 = 2;

/// One that ends has none.
fn has_memory(status: &str) -> bool {
    status.lines().any(|line| line.starts_with("VmSize:"))
}

impl ProcRoot {
    /// Everything known about one process. Fails only where it is gone.
    pub fn deep(&self, pid: i32) -> Result<ProcDeep, ProcError> {
        Ok(self.look(pid)?.deep)
    }

    pub(super) fn look(&self, pid: i32) -> Result<Look, ProcError> {
        let status = self.text(&format!("{pid}/status")).map_err(|e| match &e {
            ProcError::Read { source, .. } if vanished(source) => ProcError::Gone { pid },
            _ => e,
        })?;
        let mut deep = ProcDeep::default();
        self.read_status(&status, &mut deep);
        deep.claims_run = deep.filters == 1 && self.claims_run(pid);
        deep.closed = self.is_closed(pid, deep.uids[1]);
        self.read_links(pid, &mut deep);
        self.read_namespaces(pid, &mut deep);
        let mounts = keep(self.mounts(pid), "mounts", &mut deep.unreadable);
        let Fds { facts, locks, memfds, unnamed, unreadable } = self.fds(pid, mounts.as_ref().map(|m| &m.ids));
        deep.fds = facts;
        deep.unnamed_files = unnamed;
        deep.locks = self.with_posix_locks(pid, locks, &mut deep.unreadable);
        deep.unreadable.extend(unreadable);
        self.read_memory(pid, &status, mounts.map_or(Vec::new(), |m| m.huge), &mut deep);
        self.read_cgroups(pid, &mut deep);
        if !self.exists(pid) {
            return Err(ProcError::Gone { pid });
        }
        Ok(Look { deep, memfds })
    }

    fn read_status(&self, status: &str, deep: &mut ProcDeep) {
        let value = |key: &str| status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':')).map(str::trim);
        let number = |key| value(key).and_then(|v| v.parse::<i64>().ok());
        let mut need = |key, found: bool| {
            if !found {
                deep.unreadable.push(format!("{key}: not in status"));
            }
        };
        let ids = |key| -> Option<[u32; 4]> {
            let all: Vec<u32> = value(key)?.split_whitespace().filter_map(|w| w.parse().ok()).collect();
            all.try_into().ok()
        };
        let (uids, gids) = (ids("Uid"), ids("Gid"));
        let bits = |key| value(key).and_then(|v| u64::from_str_radix(v, 16).ok());
        let (cap_eff, cap_prm) = (bits("CapEff"), bits("CapPrm"));
        let tracer = number("TracerPid");
        need("Uid", uids.is_some());
        need("Gid", gids.is_some());
        need("CapEff", cap_eff.is_some());
        need("CapPrm", cap_prm.is_some());
        need("TracerPid", tracer.is_some());
        deep.uids = uids.unwrap_or_default();
        deep.gids = gids.unwrap_or_default();
        deep.cap_eff = cap_eff.unwrap_or_default();
        deep.cap_prm = cap_prm.unwrap_or_default();
        deep.tracer = tracer.unwrap_or_default() as i32;
        deep.seccomp = number("Seccomp").unwrap_or_default() as u32;
        deep.filters = seccomp::count(status);
        deep.ns_pids = value("NSpid").unwrap_or("").split_whitespace().filter_map(|w| w.parse().ok()).collect();
        deep.affinity = value("Cpus_allowed_list").and_then(cpu_list).and_then(|allowed| self.narrowed(&allowed));
    }

    /// The CPUs that are allowed and online, where those are fewer than are online.
    fn narrowed(&self, allowed: &BTreeSet<u32>) -> Option<Vec<u32>> {
        let online = self.online();
        let both: Vec<u32> = online.intersection(allowed).copied().collect();
        (both.len() < online.len()).then_some(both)
    }

    /// Only a claim: the filter itself is seen where it is dumped. What cannot be read claims nothing.
    fn claims_run(&self, pid: i32) -> bool {
        std::fs::read(self.path(&format!("{pid}/environ"))).is_ok_and(|environment| seccomp::is_claimed(&environment))
    }

    /// The kernel gives files of a process that is not "dumpable" to root (proc(5)); for a moment also those of one that
    /// begins a program, and those of one that ends.
    fn is_closed(&self, pid: i32, owner: u32) -> bool {
        let path = self.path(&format!("{pid}/fd"));
        let held_by = || std::fs::metadata(&path).map(|m| std::os::unix::fs::MetadataExt::uid(&m));
        let is_others = || held_by().is_ok_and(|uid| uid != owner);
        let lives = || self.text(&format!("{pid}/status")).is_ok_and(|status| has_memory(&status));
        let mut looks = 0..=BEGINNING;
        let is_closed = |after| {
            std::thread::sleep(Duration::from_millis(after));
            is_others() && lives()
        };
        self.live && owner != 0 && looks.all(is_closed)
    }

    fn read_links(&self, pid: i32, deep: &mut ProcDeep) {
        deep.exe = keep(self.link(&format!("{pid}/exe")), "executable", &mut deep.unreadable);
        deep.cwd = keep(self.link(&format!("{pid}/cwd")), "working directory", &mut deep.unreadable);
        let argv = keep(self.text(&format!("{pid}/cmdline")), "arguments", &mut deep.unreadable).unwrap_or_default();
        deep.argv = argv.strip_suffix('\0').unwrap_or(&argv).split('\0').map(str::to_owned).collect();
        if deep.argv.iter().all(String::is_empty) {
            deep.argv.clear();
        }
        let adj = keep(self.text(&format!("{pid}/oom_score_adj")), "oom_score_adj", &mut deep.unreadable);
        deep.oom_score_adj = adj.and_then(|t| t.trim().parse().ok()).unwrap_or(0);
        let stat = keep(self.text(&format!("{pid}/stat")), "terminal", &mut deep.unreadable);
        deep.tty = stat.and_then(|s| tty_name(s.rsplit_once(')')?.1.split_ascii_whitespace().nth(4)?.parse().ok()?));
    }

    fn read_namespaces(&self, pid: i32, deep: &mut ProcDeep) {
        let mut of = |kind: &str| {
            let link =
                keep(self.link(&format!("{pid}/ns/{kind}")), &format!("{kind} namespace"), &mut deep.unreadable)?;
            link.strip_suffix(']')?.rsplit_once('[')?.1.parse().ok()
        };
        deep.ns = Namespaces {
            pid: of("pid"),
            mnt: of("mnt"),
            net: of("net"),
            ipc: of("ipc"),
            uts: of("uts"),
            user: of("user"),
        };
    }

    fn mounts(&self, pid: i32) -> Result<Mounts, ProcError> {
        let text = self.text(&format!("{pid}/mountinfo"))?;
        let ids = text.lines().filter_map(|l| l.split(' ').next()?.parse().ok()).collect();
        let huge = text
            .lines()
            .filter(|l| l.contains(" - hugetlbfs "))
            .filter_map(|l| l.split(' ').nth(4).map(|p| format!("{p}/")))
            .collect();
        Ok(Mounts { ids, huge })
    }

    /// `fdinfo` names the locks that are held through a descriptor; `/proc/locks` those of the process as such.
    fn with_posix_locks(&self, pid: i32, mut locks: Vec<u64>, unreadable: &mut Vec<String>) -> Vec<u64> {
        let text = keep(self.text("locks"), "locks", unreadable).unwrap_or_default();
        locks.extend(locks::held_by(pid, &text, || self.text(&format!("{pid}/maps")).unwrap_or_default()));
        locks.sort_unstable();
        locks.dedup();
        locks
    }

    fn read_memory(&self, pid: i32, status: &str, huge_mounts: Vec<String>, deep: &mut ProcDeep) {
        let text = keep(self.text(&format!("{pid}/maps")), "maps", &mut deep.unreadable).unwrap_or_default();
        let found = maps::parse(&text, &huge_mounts);
        deep.hugetlb = found.hugetlb || maps::kib(status, "HugetlbPages").is_some_and(|b| b.0 > 0);
        deep.odd_maps = found.odd.into_iter().collect();
        deep.mapped_files = found.files.into_iter().collect();
        for (name, range) in found.unnamed {
            let occupied = self.occupied(&format!("{pid}/map_files/{range}"));
            deep.unnamed_files.extend(occupied.map(|bytes| (name, bytes)));
        }
        deep.unnamed_files.sort_unstable();
        deep.unnamed_files.dedup();
        deep.shared_maps = found.shared.into_iter().collect::<Vec<(String, Bytes)>>();
        // Only a measure: where it cannot be read, the resident size stands in, so it makes nothing unknown.
        let rollup = self.text(&format!("{pid}/smaps_rollup")).unwrap_or_default();
        deep.pss = maps::kib(&rollup, "Pss");
        deep.swap = maps::kib(status, "VmSwap");
    }

    fn read_cgroups(&self, pid: i32, deep: &mut ProcDeep) {
        let text =
            keep(self.text(&format!("{pid}/cgroup")), "control groups", &mut deep.unreadable).unwrap_or_default();
        for line in text.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
            deep.cgroups.push(format!("{controllers}:{path}"));
            deep.frozen |= self.is_frozen(controllers, path, &mut deep.unreadable);
            // The unit's group is the same path in systemd's hierarchy of v1, and in v2, which is mounted in one of two places.
            let mounts: &[&str] = match controllers {
                "" => &["unified", ""],
                "name=systemd" => &["systemd"],
                _ => &[],
            };
            let set = || mounts.iter().find_map(|mount| oomd::preference(&self.cgroup.join(mount), path));
            deep.oom_preference = deep.oom_preference.take().or_else(set);
        }
    }

    /// v1 says so in `freezer.state`, v2 in `cgroup.events`; a root group has neither and cannot be frozen.
    fn is_frozen(&self, controllers: &str, path: &str, unreadable: &mut Vec<String>) -> bool {
        let path = path.trim_start_matches('/');
        let candidates: &[(&str, &str)] = match controllers {
            "" => &[("unified", "cgroup.events"), ("", "cgroup.events")],
            c if c.split(',').any(|c| c == "freezer") => &[("freezer", "freezer.state")],
            _ => return false,
        };
        for (mount, file) in candidates {
            let file = self.cgroup.join(mount).join(path).join(file);
            match std::fs::read_to_string(&file) {
                Ok(text) => return text.lines().any(|l| matches!(l, "FROZEN" | "FREEZING" | "frozen 1")),
                Err(e) if vanished(&e) => {}
                Err(e) => unreadable.push(format!("frozen: cannot read {}: {e}", file.display())),
            }
        }
        false
    }
}

/// Keeps what was read; notes what was not.
fn keep<T>(result: Result<T, ProcError>, what: &str, unreadable: &mut Vec<String>) -> Option<T> {
    result.map_err(|e| unreadable.push(format!("{what}: {e}"))).ok()
}

/// More CPUs than any kernel is built for.
const MOST_CPUS: u32 = 1 << 16;

/// `0-3,8` as a set.
fn cpu_list(text: &str) -> Option<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let last: u32 = last.parse().ok().filter(|n| *n < MOST_CPUS)?;
        all.extend(first.parse::<u32>().ok()?..=last);
    }
    Some(all)
}

/// The controlling terminal of a process of this machine.
pub fn terminal_of(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    tty_name(stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(4)?.parse().ok()?)
}

/// The path that a terminal's device number usually has (`tty_nr` of proc_pid_stat(5)).
fn tty_name(number: i32) -> Option<String> {
    let number = number as u32;
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xfff00));
    match (major, minor) {
        (0, _) => None,
        (136..=143, _) => Some(format!("/dev/pts/{}", (major - 136) * 256 + minor)),
        (4, 0..=63) => Some(format!("/dev/tty{minor}")),
        (4, _) => Some(format!("/dev/ttyS{}", minor - 64)),
        _ => Some(format!("terminal {major}:{minor}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_begins_or_ends_a_program_is_not_closed() {
        use std::os::unix::process::CommandExt;
        if !nix::unistd::geteuid().is_root() {
            return println!("SKIPPED: only root starts programs of others");
        }
        let root = ProcRoot::new("/proc");
        for _ in 0..200 {
            let mut program = std::process::Command::new("/bin/true").uid(65534).gid(65534).spawn().unwrap();
            while program.try_wait().unwrap().is_none() {
                let closed = root.deep(program.id() as i32).is_ok_and(|deep| deep.closed);
                assert!(!closed, "it ran, or was ended");
            }
        }
    }

    #[test]
    fn terminals_are_named_by_their_numbers() {
        assert_eq!(tty_name(0), None);
        assert_eq!(tty_name(136 << 8 | 3).as_deref(), Some("/dev/pts/3"));
        assert_eq!(tty_name(4 << 8 | 1).as_deref(), Some("/dev/tty1"));
        assert_eq!(tty_name(4 << 8 | 64).as_deref(), Some("/dev/ttyS0"));
    }

    #[test]
    fn cpu_lists_are_sets() {
        assert_eq!(cpu_list("0-2,8"), Some(BTreeSet::from([0, 1, 2, 8])));
        assert_eq!(cpu_list("x"), None);
        assert_eq!(cpu_list("0-4294967295"), None, "four thousand million numbers are no list");
    }
}
