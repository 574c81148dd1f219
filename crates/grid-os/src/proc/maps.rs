//! Memory mappings: files for classification, shared memory for outsiders, and what CRIU cannot save.

use grid_types::units::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// What `/proc/PID/maps` told.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Maps {
    /// Files mapped, each once.
    pub(super) files: BTreeSet<String>,
    /// Devices, rings and other mappings that are no plain memory.
    pub(super) odd: BTreeSet<String>,
    /// Shared memory objects by `device:inode`, bytes mapped.
    pub(super) shared: BTreeMap<String, Bytes>,
    /// Files mapped whose names are gone, by one of the ranges where they are: a name in `map_files`.
    pub(super) unnamed: BTreeMap<String, String>,
    /// Some mapping is of huge pages.
    pub(super) hugetlb: bool,
}

/// One line: `start-end perms offset dev inode path`.
struct Line<'a> {
    range: &'a str,
    bytes: u64,
    shared: bool,
    device: &'a str,
    inode: &'a str,
    path: &'a str,
}

fn line(text: &str) -> Option<Line<'_>> {
    let mut rest = text;
    let mut next = || {
        rest = rest.trim_start_matches(' ');
        let (word, tail) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = tail;
        Some(word).filter(|w| !w.is_empty())
    };
    let (range, permissions, _offset, device, inode) = (next()?, next()?, next()?, next()?, next()?);
    let (start, end) = range.split_once('-')?;
    let number = |s| u64::from_str_radix(s, 16).ok();
    let bytes = number(end)?.saturating_sub(number(start)?);
    Some(Line { range, bytes, shared: permissions.ends_with('s'), device, inode, path: rest.trim_start_matches(' ') })
}

/// Shared memory without a place in a file system that both nodes could share.
fn is_shared_memory(path: &str) -> bool {
    ["/dev/zero", "/memfd:", "/SYSV", "/dev/shm/"].iter().any(|p| path.starts_with(p))
}

/// A path of the file system, not one of the kernel's names for memory.
fn is_a_file(path: &str) -> bool {
    let memory = ["/dev/zero", "/memfd:", "/SYSV", "/anon_hugepage", "/[aio]"];
    path.starts_with('/') && !memory.iter().any(|p| path.starts_with(p))
}

/// Shared memory objects alone, for the search among other processes.
pub(super) fn shared_keys(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines()
        .filter_map(line)
        .filter(|l| l.shared && is_shared_memory(l.path))
        .map(|l| format!("{}:{}", l.device, l.inode))
}

/// This file is mapped.
pub(super) fn has(text: &str, device: &str, inode: &str) -> bool {
    text.lines().filter_map(line).any(|l| (l.device, l.inode) == (device, inode))
}

/// Reads a whole `maps`. `huge_mounts` are the mount points of hugetlbfs.
pub(super) fn parse(text: &str, huge_mounts: &[String]) -> Maps {
    let mut maps = Maps::default();
    for l in text.lines().filter_map(line) {
        let path = l.path;
        if let Some(name) = path.strip_suffix(" (deleted)").filter(|name| is_a_file(name)) {
            maps.unnamed.entry(name.to_owned()).or_insert_with(|| l.range.to_owned());
        }
        if path.starts_with("/anon_hugepage") || huge_mounts.iter().any(|m| path.starts_with(m.as_str())) {
            maps.hugetlb = true;
        } else if is_shared_memory(path) {
            if l.shared {
                let mapped = maps.shared.entry(format!("{}:{}", l.device, l.inode)).or_default();
                mapped.0 = mapped.0.saturating_add(l.bytes);
            }
            if path.starts_with("/SYSV") {
                maps.odd.insert(path.to_owned());
            }
            if path.starts_with("/dev/shm/") {
                maps.files.insert(path.to_owned());
            }
        } else if path.starts_with("anon_inode:")
            || path.starts_with("/dev/")
            || path.starts_with("/[aio]")
            || path.starts_with("socket:")
        {
            maps.odd.insert(path.to_owned());
        } else if path.starts_with('/') {
            maps.files.insert(path.to_owned());
        }
    }
    maps
}

/// `Pss:   381 kB` of `smaps_rollup` or `VmSwap:` of `status`, in bytes.
pub(super) fn kib(text: &str, key: &str) -> Option<Bytes> {
    let value = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
    Some(Bytes(value.split_ascii_whitespace().next()?.parse::<u64>().ok()?.saturating_mul(1024)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55e0-55f0 r-xp 00000000 fe:00 41 /usr/bin/python3.11
7f00-7f10 rw-s 00000000 00:01 1024 /dev/zero (deleted)
7f10-7f20 rw-s 00000000 00:01 1024 /dev/zero (deleted)
7f20-7f30 rw-s 00000000 00:0e 99 anon_inode:[io_uring]
7f30-7f40 rw-p 00000000 00:0f 12 /anon_hugepage (deleted)
7f40-7f50 rw-s 00000000 00:05 7 /dev/nvidia0
7f50-7f60 rw-s 00000000 00:18 8 /dev/shm/a b
7f58-7f60 rw-s 00000000 00:01 5 /SYSV0000002a (deleted)
7f60-7f70 rw-p 00000000 00:00 0 [heap]
7f70-7f80 rw-p 00000000 00:00 0
7f80-7f90 r-xp 00000000 fe:00 43 /usr/lib/old.so (deleted)
7f90-7fa0 rw-p 00010000 fe:00 43 /usr/lib/old.so (deleted)
";

    #[test]
    fn mappings_are_sorted_by_what_they_mean_for_a_move() {
        let maps = parse(MAPS, &[]);
        assert!(maps.hugetlb);
        assert_eq!(
            maps.odd.iter().collect::<Vec<_>>(),
            ["/SYSV0000002a (deleted)", "/dev/nvidia0", "anon_inode:[io_uring]"]
        );
        assert_eq!(
            maps.files.iter().collect::<Vec<_>>(),
            ["/dev/shm/a b", "/usr/bin/python3.11", "/usr/lib/old.so (deleted)"]
        );
        assert_eq!(maps.unnamed, BTreeMap::from([("/usr/lib/old.so".into(), "7f80-7f90".into())]));
        assert_eq!(
            maps.shared,
            BTreeMap::from([
                ("00:01:1024".into(), Bytes(0x20)),
                ("00:01:5".into(), Bytes(8)),
                ("00:18:8".into(), Bytes(0x10))
            ])
        );
        assert_eq!(shared_keys(MAPS).count(), 4);
    }

    #[test]
    fn a_hugetlbfs_mount_is_known_by_its_place() {
        assert!(parse("1000-2000 rw-s 0 00:30 5 /mnt/huge/x\n", &["/mnt/huge/".into()]).hugetlb);
    }

    #[test]
    fn kibibytes_are_read_by_name() {
        assert_eq!(kib("Rss: 4 kB\nPss:  381 kB\nPss_Anon: 1 kB\n", "Pss"), Some(Bytes(381 * 1024)));
        assert_eq!(kib("", "Pss"), None);
        assert_eq!(kib(&format!("Pss: {} kB", u64::MAX), "Pss"), Some(Bytes(u64::MAX)));
        let twice = "0-ffffffffffffffff rw-s 0 00:01 5 /dev/zero\n".repeat(2);
        assert_eq!(parse(&twice, &[]).shared["00:01:5"], Bytes(u64::MAX));
    }
}
