//! A program of an ordinary user's, in a folder of its own within the cluster's.

use super::{Cluster, LIMIT};
use crate::procs::{self, Detached, NOBODY, program};
use crate::report::{self, Line};
use crate::scratch::Scratch;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Counts without an end.
const COUNTER: &str = "
import itertools, time
for n in itertools.count():
    print(n, flush=True)
    time.sleep(0.002)
";

/// A running program. Dropped, it is ended where it is still at home, and its folder is removed.
#[derive(Debug)]
pub struct Guest {
    /// The process as it was started.
    pub process: Detached,
    /// Its folder and cwd.
    pub dir: Scratch,
}

impl Guest {
    /// Starts `program` with `args` (split at spaces).
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start(cluster: &Cluster, program: &str, args: &[&str]) -> Self {
        let dir = Scratch::within(cluster.dir()).unwrap_or_else(|e| panic!("a folder: {e}"));
        let process = Detached::start(Path::new(program), args, &dir).unwrap_or_else(|e| panic!("{program}: {e}"));
        Self { process, dir }
    }

    /// A shell's script.
    pub fn script(cluster: &Cluster, script: &str) -> Self {
        Self::start(cluster, "/bin/sh", &["-c", script])
    }

    /// A python program. Debian's own interpreter: a user's wrapper script is another process tree.
    pub fn python(cluster: &Cluster, code: &str) -> Self {
        Self::start(cluster, "/usr/bin/python3", &["-c", code])
    }

    /// A shell with a counter whose output is a pipe, which another process at home writes to the file `out`. Returns the
    /// counter's number, too; the shell's own is in the file `shell`, the other process's in `cat`.
    ///
    /// # Panics
    /// Where it does not count.
    pub fn counting(cluster: &Cluster) -> (Self, i32) {
        let script = format!(
            "echo '{COUNTER}' >count.py; {{ echo $$; }} >shell; \
             {{ exec /usr/bin/python3 count.py; }} | cat >out & echo $! >cat; wait"
        );
        let guest = Self::script(cluster, &script);
        guest.wait_text("out", |text| text.lines().count() > 20);
        let counter = |pid: &i32| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.ends_with(b"count.py\0"))
                && std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == *guest.dir)
        };
        let pid = procs::all().into_iter().find(counter).unwrap_or_else(|| panic!("no counter"));
        (guest, pid)
    }

    /// Waits for a hundred numbers more of a counter; all are there once, in their order.
    pub fn writes_on(&self) {
        let from = self.numbered("out");
        self.wait_text("out", |text| text.lines().count() > from + 100);
        self.numbered("out");
    }

    /// A program of ours that reports to the file `report`, running when this returns.
    pub fn reporting(cluster: &Cluster, name: &str, args: &str) -> Self {
        Self::reporting_of(NOBODY, cluster, name, name, args)
    }

    /// As [`Guest::reporting`], of this user and under another name.
    pub fn reporting_of(user: u32, cluster: &Cluster, name: &str, shown: &str, args: &str) -> Self {
        let dir = Scratch::within_of(user, cluster.dir()).unwrap_or_else(|e| panic!("a folder: {e}"));
        let copied = dir.join(shown);
        program(name).and_then(|p| copy(&p, &copied)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let args: Vec<&str> = args.split_whitespace().chain(["--report", "report"]).collect();
        let process = Detached::start_as(user, &copied, &args, &dir).unwrap_or_else(|e| panic!("{name}: {e}"));
        let guest = Self { process, dir };
        guest.wait_count(1);
        guest
    }

    /// Its number at home, as it was started.
    pub fn pid(&self) -> i32 {
        self.process.pid
    }

    /// The file with what it reports.
    pub fn report(&self) -> PathBuf {
        self.dir.join("report")
    }

    /// How far it says it is.
    pub fn count(&self) -> u64 {
        report::last(&self.report()).ok().flatten().map_or(0, |line| line.count)
    }

    /// Waits until it has come so far.
    pub fn wait_count(&self, count: u64) -> Line {
        procs::wait_count(&self.report(), count, LIMIT).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Waits until it goes on from where it is now.
    pub fn goes_on(&self) {
        self.wait_count(self.count() + 50);
    }

    /// Waits for its last report.
    ///
    /// # Panics
    /// Also where the report shows that something was done twice: it was written by two, or one went back.
    pub fn wait_done(&self) -> Line {
        let last = procs::wait_done(&self.report(), LIMIT).unwrap_or_else(|e| panic!("{e}"));
        self.never_went_back();
        let all = report::lines(&self.report()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(all.iter().filter(|line| line.done).count(), 1, "done twice: {all:#?}");
        last
    }

    /// Its report goes forward only: nothing was done by two, and no older copy came after a newer one.
    ///
    /// # Panics
    /// Where it went back.
    pub fn never_went_back(&self) {
        let all = report::lines(&self.report()).unwrap_or_else(|e| panic!("{e}"));
        let back = all.windows(2).find(|w| w[0].count > w[1].count || w[0].mono_ns >= w[1].mono_ns);
        assert!(back.is_none(), "it went back: {back:#?}");
    }

    /// Text of a file in its folder; empty where there is none.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    /// Whole lines of a file in its folder, which are numbers from 0 on; how many.
    ///
    /// # Panics
    /// Where one is missing, there twice or out of its order.
    pub fn numbered(&self, name: &str) -> usize {
        let text = self.read(name);
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for (n, line) in whole.lines().enumerate() {
            assert_eq!(line, n.to_string(), "line {n} of {name}");
        }
        whole.lines().count()
    }

    /// Waits until a file in its folder satisfies `want`, and returns its text.
    pub fn wait_text(&self, name: &str, want: impl Fn(&str) -> bool) -> String {
        let look = || Ok(Some(self.read(name)).filter(|text| want(text)));
        procs::until(&self.dir, LIMIT, &format!("{name} of process {}", self.pid()), look)
            .unwrap_or_else(|e| panic!("{e}; it is {:?}", self.read(name)))
    }
}

/// Last line of a prover that was never moved.
///
/// # Panics
/// Where it fails.
pub(super) fn undisturbed(args: &str) -> Line {
    let dir = Scratch::new().unwrap_or_else(|e| panic!("a folder: {e}"));
    let prover = program("prover").unwrap_or_else(|e| panic!("{e}"));
    let mut command = Command::new(prover);
    command.args(args.split_whitespace()).args(["--pace-us", "0", "--report", "report"]).current_dir(&*dir);
    let out = command.output().unwrap_or_else(|e| panic!("prover: {e}"));
    assert!(out.status.success(), "{out:?}");
    report::last(&dir.join("report")).ok().flatten().unwrap_or_else(|| panic!("prover said nothing"))
}

/// A copy that everybody may execute.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::copy(from, to)?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755))
}
