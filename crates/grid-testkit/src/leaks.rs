//! What grid may leave on a machine: cgroups, network links and namespaces, mounts, processes. Owns taking a picture of
//! them and comparing two; removes nothing. A test takes one before, one after, and fails on what is new.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A picture of this machine. Each entry says what it is, so that a difference reads by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

/// What a picture looks for.
#[derive(Clone, Debug)]
pub struct Marks {
    /// Paths (of cgroups, mounts, named network namespaces) and link names count where they contain one of these.
    pub names: Vec<String>,
    /// Processes count where the file name of their executable is one of these.
    pub programs: Vec<String>,
    /// Processes count where an argument or their cwd contains one of these.
    pub arguments: Vec<String>,
}

impl Default for Marks {
    /// Everything that grid names after itself, and the programs it starts.
    fn default() -> Self {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Self {
            names: own(&["grid"]),
            programs: own(&["grid", "criu", "prover", "stamper", "family"]),
            arguments: vec![],
        }
    }
}

impl Marks {
    /// Only what carries `tag`, such as the name of a cluster's state folder: for tests that run beside others.
    pub fn tagged(tag: &str) -> Self {
        Self { names: vec![tag.into()], programs: vec![], arguments: vec![tag.into()] }
    }

    fn runs(&self, exe: &str) -> bool {
        self.programs.iter().any(|program| program == exe)
    }

    fn speaks_of(&self, text: &str) -> bool {
        self.arguments.iter().any(|mark| text.contains(mark.as_str()))
    }

    fn named(&self, text: &str) -> bool {
        self.names.iter().any(|mark| text.contains(mark.as_str()))
    }
}

impl Snapshot {
    /// Looks at the machine now.
    pub fn take(marks: &Marks) -> Self {
        let mut found = BTreeSet::new();
        mounts(marks, &mut found);
        links(marks, &mut found);
        processes(marks, &mut found);
        for root in cgroup_roots() {
            cgroups(Path::new(&root), marks, 8, &mut found);
        }
        for entry in fs::read_dir("/run").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if marks.named(&name) {
                found.insert(format!("folder /run/{name}"));
            }
        }
        for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if marks.named(&name) {
                found.insert(format!("network namespace {name}"));
            }
        }
        Self(found)
    }

    /// What is in `self` and was not in `before`.
    pub fn since(&self, before: &Snapshot) -> Leaks {
        Leaks(self.0.difference(&before.0).cloned().collect())
    }
}

/// What is new. Prints one thing a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaks(pub Vec<String>);

impl fmt::Display for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|leak| writeln!(f, "left behind: {leak}"))
    }
}

/// Compares until nothing is new (the kernel takes network namespaces down a little later) or `limit` has passed.
pub fn settle(before: &Snapshot, marks: &Marks, limit: Duration) -> Leaks {
    let start = Instant::now();
    loop {
        let leaks = Snapshot::take(marks).since(before);
        if leaks.0.is_empty() || start.elapsed() > limit {
            return leaks;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn mounts(marks: &Marks, found: &mut BTreeSet<String>) {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in text.lines() {
        if let Some(at) = line.split(' ').nth(4).filter(|at| marks.named(at)) {
            found.insert(format!("mount {at}"));
        }
    }
}

fn links(marks: &Marks, found: &mut BTreeSet<String>) {
    // `ip` rather than /sys/class/net: sysfs shows the namespace in which it was mounted, not ours.
    let Ok(out) = Command::new("ip").args(["-o", "link"]).output() else { return };
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        if let Some(name) = line.split(": ").nth(1).filter(|name| marks.named(name)) {
            found.insert(format!("network link {}", name.split('@').next().unwrap_or(name)));
        }
    }
}

fn processes(marks: &Marks, found: &mut BTreeSet<String>) {
    let own = std::process::id().to_string();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let Ok(exe) = fs::read_link(entry.path().join("exe")) else { continue };
        let name = exe.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.trim_end_matches(" (deleted)");
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let told = marks.speaks_of(&String::from_utf8_lossy(&arguments)) || marks.speaks_of(&cwd.to_string_lossy());
        if pid != own && (marks.runs(name) || told) {
            found.insert(format!("process {pid} {name}"));
        }
    }
}

/// Where control group hierarchies are mounted.
pub(crate) fn cgroup_roots() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let is_cgroup = |line: &&str| line.split(" - ").nth(1).is_some_and(|kind| kind.starts_with("cgroup"));
    text.lines().filter(is_cgroup).filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect()
}

fn cgroups(dir: &Path, marks: &Marks, depth: usize, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if depth == 0 || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        if marks.named(&path.to_string_lossy()) {
            found.insert(format!("cgroup {}", path.display()));
        }
        cgroups(&path, marks, depth - 1, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procs::Detached;
    use crate::scratch::Scratch;

    #[test]
    fn only_what_is_new_and_marked_counts() {
        let of = |items: &[&str]| Snapshot(items.iter().map(|s| (*s).to_owned()).collect());
        let leaks = of(&["mount /a", "mount /b"]).since(&of(&["mount /a", "mount /c"]));
        assert_eq!(leaks.to_string(), "left behind: mount /b\n");
    }

    #[test]
    fn a_process_left_running_is_seen_and_its_end_too() {
        let dir = Scratch::new().unwrap();
        let marks = Marks::tagged(&dir.to_string_lossy());
        let before = Snapshot::take(&marks);
        let process = Detached::start(Path::new("/bin/sleep"), &["60"], &dir).unwrap();
        let leaks = Snapshot::take(&marks).since(&before);
        assert_eq!(leaks.0, [format!("process {} sleep", process.pid)]);
        drop(process);
        assert_eq!(settle(&before, &marks, Duration::from_secs(5)).to_string(), "");
    }
}
