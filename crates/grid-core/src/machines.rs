//! May a process that was started on one machine run on another? Row by row, before anything is frozen.
//!
//! Owns the comparison. `here` is its home: what was started there has looked at home's CPU, and went on with what it found.
//! So it may go wherever all of that is, and home always. What a machine has more is no obstacle on the way out; what is
//! started *there* by the process may use it, and that is said. What cannot be read is no obstacle: CRIU refuses what it
//! cannot restore, and the process goes on at home.

use grid_types::machine::{MachineFacts, MachineRow, Match, Skew, UserHere};
use grid_types::reason::{Reason, ReasonCode};
use std::collections::BTreeSet;

/// Clocks that differ by more are worth knowing: files seem to be of the future, timers and tokens are off.
pub const SKEW_LIMIT_MS: i64 = 1_000;
/// Without this of CRIU's features a freeze is longer, and that is all.
const SHORTENS: &str = "mem_dirty_track";
/// So many features are named.
const NAMED: usize = 6;

/// Names of `/proc/cpuinfo` that programs choose their instructions by, by their beginnings; the others tell of the kernel,
/// of power, of virtualisation or of weaknesses.
const INSTRUCTIONS: [&str; 58] = [
    // x86
    "3dnow",
    "abm",
    "adx",
    "aes",
    "amx",
    "avx",
    "bmi",
    "cldemote",
    "clflush",
    "clwb",
    "clzero",
    "cmov",
    "cmpccxadd",
    "cx16",
    "cx8",
    "enqcmd",
    "erms",
    "f16c",
    "fma",
    "fsgsbase",
    "fsrm",
    "fxsr",
    "gfni",
    "hle",
    "lahf_lm",
    "lzcnt",
    "mmx",
    "movbe",
    "movdir",
    "mwaitx",
    "ospke",
    "pclmulqdq",
    "pku",
    "pni",
    "popcnt",
    "prefetchw",
    "rdpid",
    "rdrand",
    "rdseed",
    "rdtscp",
    "rtm",
    "serialize",
    "sha",
    "sm3",
    "sse",
    "ssse3",
    "tbm",
    "vaes",
    "vpclmulqdq",
    "waitpkg",
    "xop",
    "xsave",
    // ARM64
    "asimd",
    "atomics",
    "crc32",
    "fp",
    "pmull",
    "sve",
];

/// Everything in which the two are compared. `user`: whose process, where one is meant.
pub fn compare(here: &MachineFacts, there: &MachineFacts, skew: Skew, user: Option<&UserHere>) -> Vec<MachineRow> {
    let mut rows = vec![arch(here, there), criu(here, there), criu_features(here, there), cpu(here, there)];
    rows.extend([kernel(here, there), clock(skew)]);
    rows.extend(user.map(|user| account(user, there)));
    rows
}

/// The first row that refuses, as a reason.
pub fn refusal(rows: &[MachineRow], there: &grid_types::NodeName) -> Option<Reason> {
    let row = rows.iter().find(|row| row.verdict == Match::Refuse)?;
    let fix = row.fix.as_ref().map_or(String::new(), |fix| format!("; {fix}"));
    let MachineRow { what, here, there: is, .. } = row;
    Some(Reason::new(ReasonCode::Machine, format!("{what}: {here} at home, {is} on {there}{fix}")))
}

fn row(what: &str, here: impl Into<String>, there: impl Into<String>, found: (Match, Option<String>)) -> MachineRow {
    MachineRow { what: what.to_owned(), here: here.into(), there: there.into(), verdict: found.0, fix: found.1 }
}

fn same(is: bool, otherwise: Match, fix: &str) -> (Match, Option<String>) {
    if is { (Match::Ok, None) } else { (otherwise, Some(fix.to_owned())) }
}

fn arch(here: &MachineFacts, there: &MachineFacts) -> MachineRow {
    let found = same(here.arch == there.arch, Match::Refuse, "take a machine of the same kind");
    row("architecture", &here.arch, &there.arch, found)
}

fn criu(here: &MachineFacts, there: &MachineFacts) -> MachineRow {
    let fix = "grid up brings its own CRIU to workers: take GRID_CRIU off there, and grid up again";
    row("criu", &here.criu, &there.criu, same(here.criu == there.criu, Match::Refuse, fix))
}

/// What CRIU can do at home and not there, of what it was asked for on both.
fn criu_features(here: &MachineFacts, there: &MachineFacts) -> MachineRow {
    let lacks: BTreeSet<_> =
        here.criu_has.difference(&there.criu_has).filter(|f| there.criu_asked.contains(*f)).collect();
    let text = |m: &MachineFacts| if m.criu_has.is_empty() { "none".to_owned() } else { join(m.criu_has.iter()) };
    let verdict = if lacks.iter().all(|f| *f == SHORTENS) { Match::Warn } else { Match::Refuse };
    let fix = format!("a kernel there that has it, as at home: {}", join(lacks.iter().copied()));
    row("criu's features", text(here), text(there), same(lacks.is_empty(), verdict, &fix))
}

fn cpu(here: &MachineFacts, there: &MachineFacts) -> MachineRow {
    let of = |m: &MachineFacts| -> BTreeSet<String> {
        m.cpu.iter().filter(|f| INSTRUCTIONS.iter().any(|start| f.starts_with(start))).cloned().collect()
    };
    let (mine, theirs) = (of(here), of(there));
    if mine.is_empty() || theirs.is_empty() {
        let known = |set: &BTreeSet<String>| if set.is_empty() { "-" } else { "known" }.to_owned();
        let fix = "they cannot be read: what is started at home may end by SIGILL there".to_owned();
        return row("cpu features", known(&mine), known(&theirs), (Match::Warn, Some(fix)));
    }
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| named(&a.difference(b).cloned().collect::<Vec<_>>());
    let (lacks, more) = (mine.difference(&theirs).count(), theirs.difference(&mine).count());
    let (here, there) = (only(&mine, &theirs), only(&theirs, &mine));
    let text = |n: usize, list: String, all: usize| match n {
        0 => format!("{all}"),
        _ => format!("{all}, {list} alone"),
    };
    let found = match (lacks, more) {
        (0, 0) => (Match::Ok, None),
        (0, _) => (Match::Warn, Some("what a guest starts there may use those, and not go on at home".to_owned())),
        _ => (
            Match::Refuse,
            Some("programs chose their instructions at home: take a machine with all of them".to_owned()),
        ),
    };
    row("cpu features", text(lacks, here, mine.len()), text(more, there, theirs.len()), found)
}

/// An older kernel there may lack a call that the process uses already.
fn kernel(here: &MachineFacts, there: &MachineFacts) -> MachineRow {
    let found = match (release(&here.kernel), release(&there.kernel)) {
        (Some(a), Some(b)) if b < a => (Match::Warn, Some("an older kernel may lack a call that runs here".to_owned())),
        _ => (Match::Ok, None),
    };
    row("kernel", &here.kernel, &there.kernel, found)
}

/// `6.8` of `6.8.0-45-generic`.
fn release(kernel: &str) -> Option<(u32, u32)> {
    let mut numbers = kernel.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

fn clock(skew: Skew) -> MachineRow {
    let away = skew.ahead_ms.abs() - skew.within.0 as i64;
    let found = same(away <= SKEW_LIMIT_MS, Match::Warn, "keep both by NTP: the wall clock jumps in each move");
    let way = if skew.ahead_ms < 0 { "behind" } else { "ahead" };
    row("clock", "0 ms", format!("{} ms {way}, within {}", skew.ahead_ms.abs(), skew.within), found)
}

/// Files are opened by number.
fn account(user: &UserHere, there: &MachineFacts) -> MachineRow {
    let known = there.user.clone().unwrap_or_default();
    let text = |name: &Option<String>| name.clone().unwrap_or_else(|| "nobody".to_owned());
    let here = format!("{} {}:{}", text(&user.name), user.uid, user.gid);
    let moved = known.uid.is_some_and(|uid| uid != user.uid) || known.gid.is_some_and(|gid| gid != user.gid);
    let (is, found) = match (&user.name, &known.name) {
        _ if moved => {
            let is = format!("{} {}:{}", text(&user.name), number(known.uid), number(known.gid));
            (is, Some("it keeps its numbers there: shared files are its own by number, not by name"))
        }
        (Some(name), Some(other)) if name != other => (
            format!("{other} {}", user.uid),
            Some("that number is another user there, who may signal it and read its memory"),
        ),
        (_, name) => (format!("{} {}", text(name), user.uid), None),
    };
    let verdict = if found.is_some() { Match::Warn } else { Match::Ok };
    row("user", here, is, (verdict, found.map(str::to_owned)))
}

fn number(n: Option<u32>) -> String {
    n.map_or_else(|| "-".to_owned(), |n| n.to_string())
}

fn join<'a>(all: impl Iterator<Item = &'a String>) -> String {
    all.cloned().collect::<Vec<_>>().join(", ")
}

fn named(all: &[String]) -> String {
    let shown = join(all.iter().take(NAMED));
    match all.len().saturating_sub(NAMED) {
        0 => shown,
        n => format!("{shown} and {n} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grid_types::machine::UserThere;
    use grid_types::{Millis, UnixMs};
    use proptest::prelude::*;

    fn set(words: &str) -> BTreeSet<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    fn machine(cpu: &str) -> MachineFacts {
        MachineFacts {
            arch: "x86_64".into(),
            kernel: "6.8.0-45-generic".into(),
            cpu: set(cpu),
            criu: "4.2.1".into(),
            criu_has: set("uffd-noncoop mem_dirty_track"),
            criu_asked: set("uffd-noncoop mem_dirty_track"),
            user: Some(UserThere { name: Some("alice".into()), uid: Some(1000), gid: Some(1000) }),
            clock: UnixMs(1),
        }
    }

    fn alice() -> UserHere {
        UserHere { uid: 1000, gid: 1000, name: Some("alice".into()) }
    }

    const NO_SKEW: Skew = Skew { ahead_ms: 2, within: Millis(1) };

    fn verdict(here: &MachineFacts, there: &MachineFacts, what: &str) -> Match {
        let rows = compare(here, there, NO_SKEW, Some(&alice()));
        rows.iter().find(|row| row.what == what).unwrap().verdict
    }

    #[test]
    fn one_kind_of_machine_has_nothing_to_say() {
        let m = machine("avx2 sse4_2 constant_tsc");
        let rows = compare(&m, &m, NO_SKEW, Some(&alice()));
        assert!(rows.iter().all(|row| row.verdict == Match::Ok && row.fix.is_none()), "{rows:?}");
        assert_eq!((rows.len(), refusal(&rows, &"gpu1".into())), (7, None));
    }

    #[test]
    fn a_feature_that_home_has_and_the_other_lacks_refuses_and_one_more_there_is_said() {
        let (old, new) = (machine("sse4_2 avx2 constant_tsc"), machine("sse4_2 avx2 avx512f vaes"));
        assert_eq!(verdict(&new, &old, "cpu features"), Match::Refuse);
        assert_eq!(verdict(&old, &new, "cpu features"), Match::Warn);
        let rows = compare(&new, &old, NO_SKEW, None);
        let reason = refusal(&rows, &"gpu1".into()).unwrap();
        assert_eq!(reason.code, ReasonCode::Machine);
        assert_eq!(
            reason.detail,
            "cpu features: 4, avx512f, vaes alone at home, 2 on gpu1; programs chose their instructions at home: take a \
             machine with all of them"
        );
        // What tells of the kernel or of a weakness does not count; what cannot be read is said.
        assert_eq!(verdict(&machine("avx2 md_clear hypervisor"), &machine("avx2"), "cpu features"), Match::Ok);
        assert_eq!(verdict(&machine("avx2"), &machine(""), "cpu features"), Match::Warn);
    }

    #[test]
    fn what_differs_in_kind_refuses_and_what_differs_in_degree_is_said() {
        let m = machine("avx2");
        let other = |change: fn(&mut MachineFacts)| {
            let mut other = m.clone();
            change(&mut other);
            other
        };
        for (what, there, want) in [
            ("architecture", other(|o| o.arch = "aarch64".into()), Match::Refuse),
            ("criu", other(|o| o.criu = "4.1".into()), Match::Refuse),
            ("criu's features", other(|o| o.criu_has = set("mem_dirty_track")), Match::Refuse),
            ("criu's features", other(|o| o.criu_has = set("uffd-noncoop")), Match::Warn),
            ("criu's features", other(|o| (o.criu_has, o.criu_asked) = (set(""), set(""))), Match::Ok),
            ("kernel", other(|o| o.kernel = "5.15.0".into()), Match::Warn),
            ("kernel", other(|o| o.kernel = "6.12-rc1".into()), Match::Ok),
            ("kernel", other(|o| o.kernel = "odd".into()), Match::Ok),
            ("user", other(|o| o.user = Some(UserThere { uid: Some(1001), ..UserThere::default() })), Match::Warn),
            (
                "user",
                other(|o| o.user = Some(UserThere { name: Some("bob".into()), ..UserThere::default() })),
                Match::Warn,
            ),
            ("user", other(|o| o.user = None), Match::Ok),
        ] {
            assert_eq!(verdict(&m, &there, what), want, "{what}: {there:?}");
        }
    }

    #[test]
    fn a_clock_is_off_only_where_that_is_sure() {
        let at = |ahead_ms, within| clock(Skew { ahead_ms, within: Millis(within) }).verdict;
        assert_eq!([at(1_000, 0), at(-1_000, 0), at(1_500, 600)], [Match::Ok; 3]);
        assert_eq!([at(1_001, 0), at(-1_001, 0), at(5_000, 600)], [Match::Warn; 3]);
    }

    proptest! {
        /// Home may always take back what it started, and a machine with all of home's features is never refused for them.
        #[test]
        fn features_refuse_exactly_where_home_has_one_more(
            mine in proptest::collection::btree_set("(avx|sse|aes|bmi)[0-9]", 1..8),
            theirs in proptest::collection::btree_set("(avx|sse|aes|bmi)[0-9]", 1..8),
        ) {
            let (mut a, mut b) = (machine(""), machine(""));
            (a.cpu, b.cpu) = (mine.clone(), theirs.clone());
            prop_assert_eq!(verdict(&a, &b, "cpu features") == Match::Refuse, !mine.is_subset(&theirs));
            prop_assert_eq!(verdict(&a, &a, "cpu features"), Match::Ok);
        }
    }
}
