//! A script of bash's at home of which one process moves: what its shell, its parent and its neighbours see of that.

use grid_testkit::cluster::{Cluster, Guest};
use grid_testkit::procs;
use grid_types::api::OffloadView;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::time::{Duration, Instant};

const CONFIG: &str = "
name: shadow
nodes:
  - {name: head, role: head, resource_sharing: {can_share: false}}
  - {name: gpu1, role: worker, resource_sharing: {can_share: true, max_share_cpu: 8, max_share_memory_gb: 4}}
";

const SECOND_LENDER: &str =
    "  - {name: gpu2, role: worker, resource_sharing: {can_share: true, max_share_cpu: 8, max_share_memory_gb: 4}}\n";

/// What scripts are made of. `meant` writes down the shell's number: who moves. `told STATUS...` says how it all ended.
///
/// `prog.py` is meant itself, counts in the file `says` (`COUNT SIGUSR1s`), and ends as the file `go` says: with this
/// exit status, or `-N` by signal N. `lines.py COUNT PAUSE` prints numbers, `seen.py` passes lines on and ends with 5.
const PRELUDE: &str = r#"
meant() { echo $BASHPID >meant.new; mv meant.new meant; }
told() { echo "$@" >status.new; mv status.new status; }
cat >prog.py <<'E'
import os, signal, sys, time
def write(name, text):
    with open(name + ".tmp", "w") as f: f.write(text)
    os.rename(name + ".tmp", name)
usr1 = 0
def on_usr1(*_):
    global usr1
    usr1 += 1
signal.signal(signal.SIGUSR1, on_usr1)
if not os.path.exists("meant"): write("meant", str(os.getpid()))
n = 0
while not os.path.exists("go"):
    n += 1
    write("says", f"{n} {usr1}")
    time.sleep(0.01)
write("says", f"{n} {usr1}")
how = int(open("go").read())
if how < 0: os.kill(os.getpid(), -how)
sys.exit(how)
E
cat >lines.py <<'E'
import sys, time
for i in range(int(sys.argv[1])):
    print(i, flush=True)
    time.sleep(float(sys.argv[2]))
E
cat >seen.py <<'E'
import sys
for line in sys.stdin: print(line.strip(), "seen", flush=True)
sys.exit(5)
E
"#;

/// A running script, and the cluster on which a part of it moves. The script ends first.
pub(crate) struct Job {
    pub(crate) guest: Guest,
    pub(crate) cluster: Cluster,
}

impl Job {
    /// Starts the cluster, with a boost, and the script.
    pub(crate) fn start(script: &str) -> Option<Self> {
        Self::start_with(CONFIG, script)
    }

    /// The same with a second lender, gpu2; the boost is gpu1's.
    pub(crate) fn start_on_two(script: &str) -> Option<Self> {
        Self::start_with(&format!("{CONFIG}{SECOND_LENDER}"), script)
    }

    fn start_with(config: &str, script: &str) -> Option<Self> {
        let cluster = Cluster::faulty(config)?;
        cluster.boost("--cpu 1 --memory 1GiB --duration 5m --from gpu1");
        let guest = Guest::start(&cluster, "/bin/bash", &["-c", &format!("{PRELUDE}{script}")]);
        Some(Self { guest, cluster })
    }

    /// The cluster is up again, after it was down.
    pub(crate) fn up_again(&mut self) {
        let file = self.cluster.dir().join("cluster.yaml").to_string_lossy().into_owned();
        self.cluster.up_again(&["--config", &file]);
    }

    /// Who is meant to move.
    pub(crate) fn meant(&self) -> i32 {
        self.guest.wait_text("meant", |text| !text.trim().is_empty()).trim().parse().unwrap()
    }

    /// Moves who is meant, and waits for its shadow.
    pub(crate) fn move_meant(&self) -> (i32, OffloadView) {
        let pid = self.meant();
        let moved = self.cluster.move_out(pid);
        self.wait_title(pid, "@gpu1");
        (pid, moved)
    }

    /// It is a shadow, and says this.
    pub(crate) fn wait_title(&self, pid: i32, text: &str) {
        self.cluster.wait("the shadow", || {
            if procs::is_shadow(pid) && title(pid).contains(text) { Ok(()) } else { Err(title(pid)) }
        });
    }

    /// How far `prog.py` is, and how many SIGUSR1 it has had.
    pub(crate) fn says(&self) -> (u64, u64) {
        let text = self.guest.wait_text("says", |text| text.split(' ').count() == 2);
        let numbers: Vec<u64> = text.split(' ').map(|n| n.trim().parse().unwrap()).collect();
        (numbers[0], numbers[1])
    }

    /// `prog.py` works on.
    pub(crate) fn goes_on(&self) {
        let before = self.says().0;
        self.cluster.wait("it to go on", || if self.says().0 > before + 5 { Ok(()) } else { Err(self.says()) });
    }

    /// Ends `prog.py` with this status, or by the signal of this negative number.
    pub(crate) fn go(&self, how: i32) {
        fs::write(self.guest.dir.join("go.new"), how.to_string()).unwrap();
        fs::rename(self.guest.dir.join("go.new"), self.guest.dir.join("go")).unwrap();
    }

    /// What the script told in the end.
    pub(crate) fn status(&self) -> String {
        self.guest.wait_text("status", |text| text.ends_with('\n')).trim().to_owned()
    }

    /// So many more lines arrive in `out`.
    pub(crate) fn flows(&self, lines: usize) {
        let before = self.lines();
        self.guest.wait_text("out", |text| text.lines().count() > before + lines);
    }

    pub(crate) fn lines(&self) -> usize {
        self.guest.read("out").lines().count()
    }

    /// Every number to `count` came through `seen.py`, once and in order.
    pub(crate) fn all_came(&self, count: usize) {
        self.starts_right();
        assert_eq!(self.lines(), count);
    }

    /// What came is a beginning of that.
    pub(crate) fn starts_right(&self) {
        let out = self.guest.read("out");
        // The last line may be on its way.
        let whole = &out[..out.rfind('\n').map_or(0, |end| end + 1)];
        let wrong = whole.lines().enumerate().find(|(n, line)| *line != format!("{n} seen"));
        assert_eq!(wrong, None, "lines were lost, repeated or reordered");
    }

    /// The processes of the tree that moved, wherever they are by now: they work in the script's folder, and run this.
    pub(crate) fn copies(&self, of: &str) -> Vec<i32> {
        let runs = |pid: &i32| title(*pid).contains(of) && !procs::is_shadow(*pid) && !title(*pid).contains("meant()");
        let here = |pid: &i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == *self.guest.dir);
        procs::all().into_iter().filter(here).filter(runs).collect()
    }

    /// Waits until this value has not changed for so long, and returns it.
    pub(crate) fn rests<T: PartialEq + std::fmt::Debug + Clone>(&self, of: Duration, look: impl Fn() -> T) -> T {
        let mut seen = (look(), Instant::now());
        self.cluster.wait("it to rest", || {
            let now = look();
            if now != seen.0 {
                seen = (now, Instant::now());
            }
            if seen.1.elapsed() > of { Ok(seen.0.clone()) } else { Err(seen.0.clone()) }
        })
    }
}

pub(crate) fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap_or_else(|e| panic!("{signal} to {pid}: {e}"));
}

/// How `ps` shows it.
pub(crate) fn title(pid: i32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ").trim().to_owned()
}

/// The process is stopped, as by SIGSTOP.
pub(crate) fn is_stopped(pid: i32) -> Result<(), String> {
    let state = field(pid, "State");
    if state.starts_with('T') { Ok(()) } else { Err(state) }
}

/// A line of its `status`.
pub(crate) fn field(pid: i32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// Memory of its own, in KiB.
pub(crate) fn anonymous_kib(pid: i32) -> u64 {
    field(pid, "RssAnon").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// How many descriptors it holds, but for timers: those run out by themselves.
pub(crate) fn descriptors(pid: i32) -> usize {
    links(pid).iter().filter(|link| *link != "anon_inode:[timerfd]").count()
}

/// What its descriptors lead to.
pub(crate) fn links(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|e| fs::read_link(e.path()).ok()).map(|link| link.display().to_string()).collect()
}
