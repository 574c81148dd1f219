//! A real embedded cluster for one test: `grid up` in a folder of its own, asked through the command line and the API,
//! hurt by `kill -9`, and always taken down again. What it leaves behind fails the test.
//!
//! Owns the cluster's life. Every wait has a deadline and an error that says what was seen last.

mod api;
mod asked;
mod fault;
mod guest;
mod private;
mod programs;
mod teardown;

pub use asked::Said;
pub use fault::Armed;
use fault::SmallDisk;
pub use guest::Guest;
pub use private::{PRIVATE_JOB, private_folder};

use crate::criu;
use crate::leaks::{Marks, Snapshot};
use crate::procs::program;
use crate::scratch::Scratch;
use grid_types::api::{NodeView, OffloadView};
use grid_types::event::OffloadPhase;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing that a test waits for takes longer on a machine that works.
pub const LIMIT: Duration = Duration::from_secs(40);
/// A running cluster. Taken down, and looked after, when dropped.
#[derive(Debug)]
pub struct Cluster {
    state: PathBuf,
    grid: PathBuf,
    /// Name of its control groups.
    group: String,
    marks: Marks,
    before: Snapshot,
    supervisor: Option<(Child, Option<BufReader<ChildStdout>>)>,
    dir: Scratch,
    /// Held by cgroup v2's freezer also where v1 has one.
    freezer_v2: bool,
    /// Its agents look for faults.
    faulty: bool,
    /// A disk of its own for the state of one node.
    disk: Option<SmallDisk>,
}

/// How a cluster is started.
#[derive(Clone, Copy, Debug, Default)]
struct How {
    freezer_v2: bool,
    faulty: bool,
    /// The state of this node is on a disk of a few MiB.
    small_disk_of: Option<&'static str>,
    /// By another program than the one that is tested.
    by: Option<&'static str>,
}

impl Cluster {
    /// A head and so many workers; none, and `SKIPPED: why` on stdout, where moves cannot be tested.
    ///
    /// # Panics
    /// Where the cluster does not come up.
    pub fn start(workers: u32) -> Option<Self> {
        Self::up(How::default(), |_| vec!["--local".into(), workers.to_string()])
    }

    /// As [`Cluster::start`], with everything held by cgroup v2's freezer, also where v1 has one.
    pub fn frozen_by_v2(workers: u32) -> Option<Self> {
        Self::up(How { freezer_v2: true, ..How::default() }, |_| vec!["--local".into(), workers.to_string()])
    }

    /// As [`Cluster::start`], with a configuration file of this text. `DIR` in it becomes the test's folder.
    pub fn configured(yaml: &str) -> Option<Self> {
        Self::up(How::default(), |dir| config_file(dir, yaml))
    }

    /// As [`Cluster::configured`], with agents that look for faults ([`Cluster::arm`]).
    pub fn faulty(yaml: &str) -> Option<Self> {
        Self::up(How { faulty: true, ..How::default() }, |dir| config_file(dir, yaml))
    }

    /// As [`Cluster::configured`], by the grid of one version back, which `make test-upgrade` builds and names in `GRID_OLD`.
    pub fn one_version_back(yaml: &str) -> Option<Self> {
        let Some(old) = std::env::var("GRID_OLD").ok().filter(|path| !path.is_empty()) else {
            println!("SKIPPED: GRID_OLD names no older grid: make test-upgrade");
            return None;
        };
        Self::up(How { by: Some(old.leak()), ..How::default() }, |dir| config_file(dir, yaml))
    }

    /// As [`Cluster::faulty`], with the state of this node on a disk of a few MiB ([`Cluster::fill_disk`]).
    pub fn with_small_disk(yaml: &str, node: &'static str) -> Option<Self> {
        let how = How { faulty: true, small_disk_of: Some(node), ..How::default() };
        Self::up(how, |dir| config_file(dir, yaml))
    }

    fn up(how: How, words: impl FnOnce(&Path) -> Vec<String>) -> Option<Self> {
        if !criu::usable_or_skip() {
            return None;
        }
        let dir = Scratch::new().unwrap_or_else(|e| panic!("a folder for the test: {e}"));
        let grid = match how.by {
            None => program("grid").unwrap_or_else(|e| panic!("{e}")),
            Some(other) => installed(Path::new(other), &dir),
        };
        let words = words(&dir);
        let (state, marks) = (dir.join("state"), Marks::tagged(&dir.to_string_lossy()));
        let (before, How { freezer_v2, faulty, small_disk_of, .. }) = (Snapshot::default(), how);
        let disk = small_disk_of.map(|node| SmallDisk::mount(&state.join("nodes").join(node)));
        let (group, supervisor) = (String::new(), None);
        let mut cluster = Self { state, grid, group, marks, before, supervisor, dir, freezer_v2, faulty, disk };
        cluster.up_again(&words.iter().map(String::as_str).collect::<Vec<_>>());
        Some(cluster)
    }

    /// Starts it again with these words after `grid up`, after it was down.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn up_again(&mut self, words: &[&str]) {
        self.up_as_it_is(words);
        self.wait_lenders();
    }

    /// As [`Cluster::up_again`], also where a worker lends nothing.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn up_as_it_is(&mut self, words: &[&str]) {
        // It ends by itself, and tidies up, where the test is killed and can do neither.
        let mut command = Command::new("setpriv");
        // Under the strictest mask that an administrator may have: what others must reach they reach all the same.
        command.args(["--pdeathsig", "TERM", "--", "/bin/sh", "-c", r#"umask 077; exec "$0" "$@""#]);
        command.arg(&self.grid).arg("--state").arg(&self.state).arg("up");
        command.args(words).env("GRID_CRIU", criu::path()).stdin(Stdio::null()).stdout(Stdio::piped());
        if self.freezer_v2 {
            command.env("GRID_FREEZER", "v2");
        }
        if self.faulty {
            command.env(grid_types::fault::VARIABLE, "1");
        }
        let said = self.dir.join("up.err");
        command.stderr(std::fs::File::create(&said).unwrap_or_else(|e| panic!("{}: {e}", said.display())));
        let mut child = command.spawn().unwrap_or_else(|e| panic!("setpriv: {e}"));
        let mut out = child.stdout.take().map(BufReader::new);
        let is_ready = |out: &mut BufReader<ChildStdout>| {
            out.by_ref().lines().map_while(Result::ok).any(|line| line.starts_with("Next:"))
        };
        let ready = out.as_mut().is_some_and(is_ready);
        self.supervisor = Some((child, out));
        // The names that it chose, before anything can fail: the teardown goes by them.
        self.group = api::group_of(&self.state).unwrap_or_default();
        self.marks.names = vec![self.dir.to_string_lossy().into_owned()];
        if let Some(tag) = self.group.strip_prefix("grid-").filter(|tag| !tag.is_empty()) {
            self.marks.names.extend([self.group.clone(), format!("g{tag}")]);
            self.marks.arguments = vec![self.dir.to_string_lossy().into_owned(), self.group.clone()];
        }
        let said = std::fs::read_to_string(&said).unwrap_or_default();
        assert!(ready, "the cluster did not come up: {said}");
    }

    /// From now on it is started by another program, whose bytes these are: the same, and a word behind its end.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub fn newer(&mut self) -> Vec<u8> {
        let newer = self.dir.join("newer");
        let bytes = [std::fs::read(&self.grid).unwrap_or_default(), b"newer".to_vec()].concat();
        std::fs::write(&newer, &bytes).unwrap_or_else(|e| panic!("{}: {e}", newer.display()));
        self.grid = installed(&newer, &self.dir);
        bytes
    }

    /// The program that is tested, in the place of the one that started it: as a package is upgraded.
    ///
    /// # Panics
    /// Where that is missing.
    pub fn by_the_tested(&mut self) {
        let tested = program("grid").unwrap_or_else(|e| panic!("{e}"));
        self.grid = installed(&tested, &self.dir);
    }

    /// The test's folder, which anybody may enter.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Name of the cluster's control groups.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The program that is tested.
    pub fn program(&self) -> &Path {
        &self.grid
    }

    /// Directory of the cluster's state.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Asks until the answer is `Ok`.
    ///
    /// # Panics
    /// Past [`LIMIT`], with the last answer that was not.
    pub fn wait<T, E: std::fmt::Debug>(&self, what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
        let begun = Instant::now();
        loop {
            match look() {
                Ok(answer) => return answer,
                Err(seen) if begun.elapsed() > LIMIT => panic!("waited for {what}; last: {seen:?}\n{}", self.logs()),
                Err(_) => std::thread::sleep(Duration::from_millis(3)),
            }
        }
    }

    /// Waits until a move is in this phase.
    pub fn wait_phase(&self, id: &str, phase: OffloadPhase) -> OffloadView {
        self.wait(&format!("{id} to be {phase:?}"), || {
            let view: OffloadView = api::get(&self.state, &format!("/v1/offloads/{id}")).map_err(|e| e.to_string())?;
            if view.record.phase == phase { Ok(view) } else { Err(format!("{view:?}")) }
        })
    }

    /// Waits until every node is there and the daemon answers.
    pub fn wait_ready(&self) {
        self.wait("all nodes to be ready", || {
            let status = self.status().map_err(|e| e.to_string())?;
            let late: Vec<_> = status.nodes.iter().filter(|n| n.state != "ready").map(|n| n.node.to_string()).collect();
            if late.is_empty() { Ok(()) } else { Err(late.join(", ")) }
        });
    }

    /// Waits until every node was heard of after this call: its agent has recovered what its ledger knows.
    pub fn wait_heard(&self) {
        let begun = Instant::now();
        self.wait("all nodes to speak", || {
            let status = self.status().map_err(|e| e.to_string())?;
            let spoke = |n: &NodeView| n.seen.is_some_and(|ago| u128::from(ago.0) < begun.elapsed().as_millis());
            let late: Vec<_> = status.nodes.iter().filter(|n| !spoke(n)).map(|n| n.node.to_string()).collect();
            if late.is_empty() { Ok(()) } else { Err(late.join(", ")) }
        });
    }

    /// Waits until each worker's use is measured (its second sample): before, it lends nothing.
    fn wait_lenders(&self) {
        self.wait("every lender to be measured", || {
            let nodes = self.status().map_err(|e| e.to_string())?.nodes;
            match nodes.into_iter().find(|n| !n.head && n.lendable.is_none()) {
                Some(late) => Err(format!("{}: {:?}", late.node, late.why)),
                None => Ok(()),
            }
        });
    }

    /// Everything that one program wrote: `agent` and `daemon` are the head's.
    pub fn log(&self, program: &str) -> String {
        std::fs::read_to_string(self.state.join(format!("log/{program}.log"))).unwrap_or_default()
    }

    /// What the cluster's programs wrote last.
    pub fn logs(&self) -> String {
        let own = [self.dir.join("up.err")];
        let logs = std::fs::read_dir(self.state.join("log")).into_iter().flatten().flatten().map(|e| e.path());
        tails(logs.chain(own))
    }
}

/// The last lines of these files, each behind the file's name.
pub(crate) fn tails(files: impl Iterator<Item = PathBuf>) -> String {
    let mut text = String::new();
    for path in files {
        let all = std::fs::read_to_string(&path).unwrap_or_default();
        let last: Vec<&str> = all.lines().rev().take(12).collect();
        for line in last.into_iter().rev() {
            text += &format!("{}: {line}\n", path.file_name().unwrap_or_default().to_string_lossy());
        }
    }
    text
}

/// A configuration of these lines (name, nodes, what else is wanted) in which grid, in this automatic mode (a YAML value),
/// chooses the test's own programs alone: what else runs on the machine is protected. `DIR` becomes the test's folder.
pub fn own_programs(lines: &str, auto_offload: &str) -> String {
    format!("{lines}{OWN_PROGRAMS}").replace("MODE", auto_offload)
}

const OWN_PROGRAMS: &str = "\
execution:
  resource_sharing:
    mode: offload_only
    thresholds: {excess_threshold: 0.05}
    auto_offload: MODE
detector:
  min_age: 0s
  min_memory: 1MiB
  worth_cpu: 0
  rules:
    - {name: this test's, arg: 'DIR/grid-test-*', kind: compute, action: allow}
    - {name: everything else, exe: '*', action: protect}
";

/// This program as `grid` in this folder, in the place of another one, as dpkg puts it there.
fn installed(program: &Path, dir: &Path) -> PathBuf {
    let (place, new) = (dir.join("grid"), dir.join("grid.new"));
    let copied = std::fs::copy(program, &new)
        .and_then(|_| std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)))
        .and_then(|()| std::fs::rename(&new, &place));
    copied.unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    place
}

/// Writes the configuration, and says how `grid up` is told of it.
fn config_file(dir: &Path, yaml: &str) -> Vec<String> {
    let file = dir.join("cluster.yaml");
    let text = yaml.replace("DIR", &dir.to_string_lossy());
    std::fs::write(&file, text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    vec!["--config".into(), file.to_string_lossy().into_owned()]
}

/// Last line of a prover of these arguments that was never moved: what a moved one must come to.
pub fn undisturbed(args: &str) -> crate::report::Line {
    guest::undisturbed(args)
}
