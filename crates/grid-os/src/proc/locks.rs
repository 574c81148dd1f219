//! `/proc/locks`: who holds which lock.

use super::maps;

/// Inodes of the files that this process has locked. A `flock` belongs to an open file, and the kernel goes on to name who
/// took it, whose number may be another's by now: it counts where that file is mapped. (Where it is open, `fdinfo` says so.)
pub(super) fn held_by(pid: i32, locks: &str, maps: impl Fn() -> String) -> Vec<u64> {
    let held = |line: &str| {
        // `1: POSIX  ADVISORY  WRITE 4711 fe:00:131 0 EOF`; with `->` after the number it only waits.
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let [_, kind, _, _, holder, place, ..] = words[..] else { return None };
        let (device, inode) = place.rsplit_once(':')?;
        let counts = holder.parse() == Ok(pid) && (kind != "FLOCK" || maps::has(&maps(), device, inode));
        inode.parse().ok().filter(|_| counts)
    };
    locks.lines().filter_map(held).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKS: &str = "\
1: POSIX  ADVISORY  WRITE 4711 fe:00:131 0 EOF
2: POSIX  ADVISORY  READ 4712 fe:00:132 0 EOF
3: FLOCK  ADVISORY  WRITE 4711 fe:00:133 0 EOF
4: FLOCK  ADVISORY  WRITE 4711 fe:00:134 0 EOF
4: -> POSIX  ADVISORY  WRITE 4711 fe:00:135 0 EOF
5: OFDLCK ADVISORY  WRITE -1 fe:00:136 0 EOF
6: LEASE  ACTIVE    READ 4711 fe:00:137 0 EOF
broken
";

    #[test]
    fn a_flock_of_somebody_who_had_the_same_number_is_not_its_own() {
        let maps = || "7f00-7f10 r--s 00000000 fe:00 134 /var/lib/a\n7f10-7f20 r--s 0 fe:01 133 /b\n".to_owned();
        assert_eq!(held_by(4711, LOCKS, maps), [131, 134, 137]);
        assert_eq!(held_by(4712, LOCKS, maps), [132]);
        assert!(held_by(1, LOCKS, maps).is_empty());
    }
}
