//! What the owner of a machine does on it, beside the guests: the CPU of their own processes, and the use of terminals.
//!
//! Owns no decision. Guests count for nothing here, of whichever head they are: every group `grid-…/NODE` is left out, but
//! for what came home. CPU in use is the difference between two readings, so it is unknown at the first.

use crate::cgroup::{Controller, Hierarchies, subdirs};
use crate::clock;
use crate::desktops::Desktops;
use crate::node::{NodeCgroup, NodeError, own_work_ns};
use grid_types::units::{MilliCpu, UnixMs};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The kernel counts the machine's CPU in ticks: over less than this a figure would be one of ticks.
const SHORTEST_NS: u64 = 500_000_000;
/// Groups of a node that hold what is at home.
const AT_HOME: [&str; 3] = ["daemons", "hold", "home"];
/// Those that bring guests: a terminal may be theirs before it is a guest's. Their first three descriptors are whatever they were
/// started with.
const BRINGING: [&str; 3] = ["agent", "criu", "files"];

/// Looks again and again.
#[derive(Debug)]
pub struct Activity {
    proc: PathBuf,
    dev: PathBuf,
    hierarchies: Hierarchies,
    last: Option<Reading>,
    load: Option<MilliCpu>,
    terminals: BTreeMap<String, Used>,
    desktops: Desktops,
}

#[derive(Debug)]
struct Reading {
    at_ns: u64,
    whole_ns: u64,
    /// Of grid's groups, by their directories.
    groups: BTreeMap<PathBuf, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Used {
    at: UnixMs,
    /// A guest has it open.
    guest: bool,
}

impl Activity {
    /// Of this machine.
    pub fn new(hierarchies: Hierarchies) -> Self {
        let (proc, dev) = (PathBuf::from("/proc"), PathBuf::from("/dev"));
        Self { proc, dev, hierarchies, last: None, load: None, terminals: BTreeMap::new(), desktops: Desktops::new() }
    }

    /// CPU in use by what is not grid's. With `only`, what is in that control group is all that the machine does.
    ///
    /// # Errors
    /// A file that could not be read, or not be understood.
    pub fn load(&mut self, only: Option<&str>) -> Result<Option<MilliCpu>, NodeError> {
        let at_ns = clock::boot_ns();
        if self.last.as_ref().is_some_and(|last| at_ns.saturating_sub(last.at_ns) < SHORTEST_NS) {
            return Ok(self.load);
        }
        let now = match only {
            Some(group) => Reading { at_ns, whole_ns: self.used_by(group)?, groups: BTreeMap::new() },
            None => Reading { at_ns, whole_ns: own_work_ns(&self.proc)?, groups: self.of_grid() },
        };
        self.load = self.last.as_ref().map(|last| between(last, &now));
        self.last = Some(now);
        Ok(self.load)
    }

    fn used_by(&self, group: &str) -> Result<u64, NodeError> {
        let dir = self.hierarchies.mount(Controller::CpuAcct).map(|mount| mount.join(group)).unwrap_or_default();
        NodeCgroup::unified(dir).cpu_used_ns()
    }

    /// What each of grid's groups has used so far. One that goes meanwhile is left out.
    fn of_grid(&self) -> BTreeMap<PathBuf, u64> {
        let Some(mount) = self.hierarchies.mount(Controller::CpuAcct) else { return BTreeMap::new() };
        let used = |dir: &Path| NodeCgroup::unified(dir).cpu_used_ns().ok();
        let guests = |dir: &PathBuf| Some(used(dir)?.saturating_sub(used(&dir.join("home")).unwrap_or(0)));
        nodes(mount).into_iter().filter_map(|dir| Some((dir.clone(), guests(&dir)?))).collect()
    }

    /// Terminals that no guest has, and when each was used last: by the time at which its input was read, as `w` tells how
    /// long somebody has been idle. Output is no use of a terminal.
    ///
    /// # Errors
    /// The devices cannot be listed.
    pub fn terminals(&mut self) -> io::Result<Vec<(String, UnixMs)>> {
        let mut guests: Option<BTreeSet<PathBuf>> = None;
        let mut seen = BTreeMap::new();
        for name in self.names()? {
            let Ok(meta) = std::fs::metadata(self.dev.join(&name)) else { continue };
            let at = UnixMs((meta.atime().max(0) as u64) * 1000 + meta.atime_nsec().max(0) as u64 / 1_000_000);
            let used = match self.terminals.get(&name) {
                Some(known) if known.at == at => *known,
                // Whose it is may have changed, and only now does it matter.
                _ => {
                    let guests = guests.get_or_insert_with(|| self.of_guests());
                    Used { at, guest: guests.contains(&Path::new("/dev").join(&name)) }
                }
            };
            seen.insert(name, used);
        }
        self.terminals = seen;
        let own = self.terminals.iter().filter(|(_, used)| !used.guest);
        Ok(own.map(|(name, used)| (name.clone(), used.at)).collect())
    }

    /// Desktops that somebody is logged in to, and when each was used last.
    ///
    /// # Errors
    /// There are sessions, and logind's client cannot be started or does not answer.
    pub fn desktops(&mut self) -> io::Result<Vec<(String, UnixMs)>> {
        self.desktops.used()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let listed = |dir: &Path| -> io::Result<Vec<String>> {
            Ok(std::fs::read_dir(dir)?.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        };
        let mut names = listed(&self.dev)?;
        names.retain(|name| is_console(name));
        let pts = listed(&self.dev.join("pts")).unwrap_or_default();
        names.extend(
            pts.iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit())).map(|name| format!("pts/{name}")),
        );
        Ok(names)
    }

    /// What guests, and who brings them, have open below `/dev`.
    fn of_guests(&self) -> BTreeSet<PathBuf> {
        let Some(mount) = self.hierarchies.mount(Controller::Freezer) else { return BTreeSet::new() };
        let mut open = BTreeSet::new();
        for group in nodes(mount).into_iter().flat_map(|node| subdirs(&node)) {
            let is = |names: &[&str]| names.iter().any(|name| group.file_name().is_some_and(|own| own == *name));
            let first = match (is(&AT_HOME), is(&BRINGING)) {
                (true, _) => continue,
                (_, true) => 3,
                (_, false) => 0,
            };
            for pid in crate::cgroup::pids_below(&group) {
                open.extend(self.open_devices(pid, first));
            }
        }
        open
    }

    /// From this descriptor on.
    fn open_devices(&self, pid: i32, first: u32) -> Vec<PathBuf> {
        let Ok(fds) = std::fs::read_dir(self.proc.join(pid.to_string()).join("fd")) else { return Vec::new() };
        let counts = |path: &PathBuf| {
            path.file_name().and_then(|n| n.to_str()?.parse::<u32>().ok()).is_some_and(|number| number >= first)
        };
        let links = fds.flatten().map(|fd| fd.path()).filter(counts).filter_map(|fd| std::fs::read_link(fd).ok());
        links.filter(|path| path.starts_with("/dev")).collect()
    }
}

/// Groups of nodes of grid's, of every cluster: `grid-TAG/NODE`.
fn nodes(mount: &Path) -> Vec<PathBuf> {
    let of_grid = |dir: &PathBuf| dir.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"grid-"));
    subdirs(mount).into_iter().filter(of_grid).flat_map(|dir| subdirs(&dir)).collect()
}

/// `tty1`, `ttyS0`, `hvc0`: where somebody may sit.
fn is_console(name: &str) -> bool {
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    ["tty", "ttyS", "hvc"].into_iter().any(numbered)
}

fn between(last: &Reading, now: &Reading) -> MilliCpu {
    let guests = now.groups.iter().map(|(dir, used)| used.saturating_sub(last.groups.get(dir).copied().unwrap_or(0)));
    let own = now.whole_ns.saturating_sub(last.whole_ns).saturating_sub(guests.sum());
    let span = u128::from(now.at_ns.saturating_sub(last.at_ns).max(1));
    MilliCpu(u32::try_from(u128::from(own) * 1000 / span).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Group;
    use nix::pty::openpty;
    use std::io::{Read, Write};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    fn reading(at_ns: u64, whole_ns: u64, groups: &[(&str, u64)]) -> Reading {
        Reading { at_ns, whole_ns, groups: groups.iter().map(|(dir, ns)| (PathBuf::from(dir), *ns)).collect() }
    }

    #[test]
    fn own_use_is_the_machine_s_less_that_of_groups_that_may_come_and_go() {
        let last = reading(0, 100, &[("a", 50), ("gone", 1_000)]);
        let now = reading(1_000, 100 + 3_500, &[("a", 550), ("new", 1_000)]);
        assert_eq!(between(&last, &now), MilliCpu(2_000));
        assert_eq!(between(&now, &reading(2_000, 3_600, &[("a", 9_000)])), MilliCpu(0), "never below nothing");
    }

    #[test]
    fn consoles_are_known_by_their_names() {
        let all = ["tty", "tty0", "tty63", "ttyS1", "hvc0", "ttyUSB0", "ttyprintk", "console", "ptmx", "tty1a"];
        assert_eq!(all.map(is_console), [false, true, true, true, true, false, false, false, false, false]);
    }

    /// A program in a group of grid's, with a terminal, that is busy from the first line on.
    struct Busy {
        group: Group,
        master: std::fs::File,
        terminal: String,
        child: Child,
    }

    impl Busy {
        fn start(hierarchies: &Hierarchies) -> Option<Self> {
            let path = format!("grid-test-{}/gpu1/b-1", std::process::id());
            let group = hierarchies.group(&path, &[Controller::CpuAcct, Controller::Freezer]);
            if !nix::unistd::geteuid().is_root() || group.create().is_err() {
                return None;
            }
            let pty = openpty(None, None).unwrap();
            for fd in [&pty.master, &pty.slave] {
                nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)).unwrap();
            }
            let terminal = name(&pty.slave);
            let loop_it = "read go; while :; do :; done";
            let child = Command::new("sh").args(["-c", loop_it]).stdin(Stdio::from(pty.slave)).spawn().unwrap();
            let busy = Self { group, master: pty.master.into(), terminal, child };
            busy.move_to(&busy.group);
            Some(busy)
        }

        fn move_to(&self, group: &Group) {
            for file in group.procs_files() {
                std::fs::write(file, self.child.id().to_string()).unwrap();
            }
        }
    }

    impl Drop for Busy {
        fn drop(&mut self) {
            self.child.kill().and_then(|()| self.child.wait()).unwrap();
            let node = self.group.parent().unwrap();
            for group in [self.group.clone(), node.child("agent"), node.clone(), node.parent().unwrap()] {
                group.remove().unwrap();
            }
        }
    }

    fn name(slave: &impl std::os::fd::AsFd) -> String {
        nix::unistd::ttyname(slave).unwrap().strip_prefix("/dev").unwrap().to_string_lossy().into_owned()
    }

    /// The rest of the machine does what it likes meanwhile, so only what was left out can be compared.
    #[test]
    fn what_a_guest_does_is_left_out() {
        let hierarchies = Hierarchies::detect().unwrap();
        let Some(mut busy) = Busy::start(&hierarchies) else {
            return eprintln!("SKIPPED: needs root, and control groups that count CPU");
        };
        let mut activity = Activity::new(hierarchies);
        let node = busy.group.parent().unwrap();
        let used = |activity: &Activity| {
            let own = activity.of_grid().into_iter().find(|(dir, _)| dir.ends_with(node.path()));
            own.map(|(_, ns)| ns).unwrap()
        };
        let before = used(&activity);
        busy.master.write_all(b"go\n").unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while used(&activity) < before + 50_000_000 {
            assert!(Instant::now() < deadline, "what it uses is not counted as a guest's");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut listed = || activity.terminals().unwrap().iter().any(|(own, _)| *own == busy.terminal);
        assert!(!listed() && !listed(), "a guest's terminal, also where nothing changed");
        // What an agent was started with is no guest's.
        node.child("agent").create().unwrap();
        busy.move_to(&node.child("agent"));
        assert!(!listed(), "nothing was typed since");
        set_used(&busy.terminal, 1_000_000);
        assert!(listed());
    }

    fn set_used(terminal: &str, at: i64) {
        let at = nix::sys::time::TimeSpec::new(at, 0);
        let (path, follow) = (Path::new("/dev").join(terminal), nix::sys::stat::UtimensatFlags::FollowSymlink);
        nix::sys::stat::utimensat(nix::fcntl::AT_FDCWD, &path, &at, &at, follow).unwrap();
    }

    /// A look each second is to be nothing that its owner sees: far below a hundredth of a CPU, unoptimized, too.
    #[test]
    fn a_look_costs_next_to_nothing() {
        const LOOKS: u32 = 100;
        let mut activity = Activity::new(Hierarchies::detect().unwrap());
        let cpu = || {
            let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_THREAD).unwrap();
            let of = |time: nix::sys::time::TimeVal| {
                Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()) as u64)
            };
            of(usage.user_time()) + of(usage.system_time())
        };
        let before = cpu();
        for _ in 0..LOOKS {
            activity.last = None; // so that it is measured each time
            activity.load(None).unwrap();
            activity.terminals().unwrap();
            activity.desktops().unwrap();
        }
        let each = (cpu() - before) / LOOKS;
        println!("a look takes {each:?} of a CPU");
        assert!(each < Duration::from_millis(10), "{each:?}");
    }

    #[test]
    fn a_terminal_is_told_with_the_time_of_its_last_input() {
        let Ok(pty) = openpty(None, None) else { return eprintln!("SKIPPED: no terminals here") };
        let name =
            nix::unistd::ttyname(&pty.slave).unwrap().strip_prefix("/dev").unwrap().to_string_lossy().into_owned();
        let mut activity = Activity::new(Hierarchies::detect().unwrap());
        let mut at = || activity.terminals().unwrap().into_iter().find(|(own, _)| *own == name).map(|(_, at)| at);
        let opened = at().unwrap();
        set_used(&name, 1_000_000);
        assert_eq!(at(), Some(UnixMs(1_000_000_000)));
        let (mut master, mut slave) = (std::fs::File::from(pty.master), std::fs::File::from(pty.slave));
        slave.write_all(b"output\n").unwrap();
        assert_eq!(at(), Some(UnixMs(1_000_000_000)), "output is no input");
        master.write_all(b"input\n").unwrap();
        let mut line = [0; 6];
        slave.read_exact(&mut line).unwrap();
        assert!(at().unwrap() >= UnixMs(opened.0 / 1000 * 1000), "{opened:?}");
    }
}
