//! What the tests of `grid_os::inplace` share: real processes in a freezer's group, held, replaced, and gone at the end.

use grid_os::cgroup::{Controller, Group, Hierarchies};
use grid_os::inplace::{InPlaceError, Replaced, Replacement, Step, end_others, exec_in_place_watched};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What the new program is, mostly: it says so when it runs, and ends with 7 when its standard input does.
pub(crate) const SEVEN: &str = "echo new; read line; exit 7";

/// The freezers of this machine; none, and `SKIPPED: why` on stdout, where a process cannot be frozen or traced.
pub(crate) fn freezers() -> Vec<Hierarchies> {
    let skip = |why: &str| {
        println!("SKIPPED: {why}");
        vec![]
    };
    if !cfg!(target_arch = "x86_64") {
        return skip("replacing in place needs x86-64");
    }
    if !nix::unistd::geteuid().is_root() {
        return skip("freezing needs root");
    }
    if program().is_none() {
        return skip("there is no C compiler (cc) to make the programs with");
    }
    let all = Hierarchies::detect().map(|h| h.by_freezer()).unwrap_or_default();
    let usable = |h: &Hierarchies| {
        let group = h.group(&format!("grid-inplace-look-{}", std::process::id()), &[Controller::Freezer]);
        group.create().is_ok() && group.set_frozen(false).is_ok() && group.remove().is_ok()
    };
    let found: Vec<Hierarchies> = all.into_iter().filter(usable).collect();
    if found.is_empty() { skip("no freezer is mounted") } else { found }
}

/// The subjects of `subject.c`, compiled once for all tests of this run.
pub(crate) fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let make = || {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (mine, all) = (place.join(format!("subject-{}", std::process::id())), place.join("inplace-subject"));
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inplace/subject.c");
        let compiled = Command::new("cc").args(["-O1", "-pthread", "-o"]).arg(&mine).arg(from).status();
        // In one step: another run of these tests may use the old one.
        (compiled.is_ok_and(|s| s.success()) && fs::rename(&mine, &all).is_ok()).then_some(all)
    };
    PROGRAM.get_or_init(make).as_deref()
}

/// A process in a group of its own. Ends with everything in the group.
pub(crate) struct Subject {
    pub(crate) pid: i32,
    pub(crate) group: Group,
    /// The child that was started: the subject, or what started it.
    pub(crate) child: Child,
    out: BufReader<ChildStdout>,
    counters: PathBuf,
    _dir: tempfile::TempDir,
}

impl Subject {
    /// `MODE` of `subject.c`, as a child of this process.
    pub(crate) fn start(freezer: &Hierarchies, mode: &str) -> Self {
        Self::start_as(freezer, &[], mode)
    }

    /// The same by way of a program that becomes it, such as `setpriv`.
    pub(crate) fn start_as(freezer: &Hierarchies, prefix: &[&str], mode: &str) -> Self {
        let exe = program().unwrap().to_str().unwrap();
        Self::start_argv(freezer, &[prefix, &[exe, mode]].concat())
    }

    /// Any program that takes the file of counters as its last argument and says `ready`.
    pub(crate) fn start_argv(freezer: &Hierarchies, argv: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let counters = dir.path().join("counters");
        fs::write(&counters, [0; 4096]).unwrap();
        fs::set_permissions(&counters, fs::Permissions::from_mode(0o666)).unwrap();
        let mut command = Command::new(argv[0]);
        command.args(&argv[1..]).arg(&counters).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let name = format!("grid-inplace-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let group = freezer.group(&name, &[Controller::Freezer]);
        group.create().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut subject = Self { pid: child.id() as i32, group, child, out, counters, _dir: dir };
        assert_eq!(subject.line(), "ready");
        subject.gather();
        subject
    }

    /// The next line of its standard output, whichever program writes it.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Everything that the old program did, so far.
    pub(crate) fn counted(&self) -> Vec<u64> {
        let bytes = fs::read(&self.counters).unwrap();
        bytes.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect()
    }

    /// Puts it and its descendants into the group, with which they end.
    fn gather(&self) {
        for pid in descendants(self.pid) {
            self.group.add(pid).unwrap();
        }
    }

    /// Freezes it, and says what had been counted until then.
    pub(crate) fn freeze(&self) -> Vec<u64> {
        self.group.set_frozen(true).unwrap();
        self.counted()
    }

    /// Frozen → `/bin/sh -c SCRIPT`.
    pub(crate) fn become_shell(&self, script: &str) -> Result<Replaced, InPlaceError> {
        self.become_it("/bin/sh", &["sh", "-c", script], &[], &mut |_| {})
    }

    pub(crate) fn become_it(
        &self,
        program: &str,
        argv: &[&str],
        keep: &[i32],
        watcher: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Replaced, InPlaceError> {
        end_others(self.pid, self.group.pids()).unwrap();
        replace(self.pid, &self.group, program, argv, keep, watcher)
    }

    /// The rest of its life: standard input ends, and it says how it ended.
    pub(crate) fn finish(&mut self) -> ExitStatus {
        drop(self.child.stdin.take());
        self.child.wait().unwrap()
    }

    /// Became the shell, and nothing of the old program ran since `before`.
    pub(crate) fn assert_replaced(&mut self, before: &[u64]) {
        assert_eq!(self.line(), "new");
        assert_eq!(self.counted(), before, "the old program ran");
        assert_eq!(self.finish().code(), Some(7));
    }

    /// Died by SIGKILL, and nothing of the old program ran since `before`.
    pub(crate) fn assert_dead(&mut self, before: &[u64]) {
        let status = self.child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
        assert_eq!(self.line(), "", "nothing else was said");
        assert_eq!(self.counted(), before, "the old program ran");
    }

    pub(crate) fn signal(&self, signal: i32) {
        // By number: real-time signals have no name.
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(self.pid.to_string()).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.group.kill(Duration::from_secs(5));
        let _ = self.child.kill();
        let _ = self.child.wait();
        let removed = self.group.remove();
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

pub(crate) fn replace(
    pid: i32,
    group: &Group,
    program: &str,
    argv: &[&str],
    keep: &[i32],
    watcher: &mut (dyn FnMut(Step) + Send),
) -> Result<Replaced, InPlaceError> {
    let argv: Vec<CString> = argv.iter().map(|s| CString::new(*s).unwrap()).collect();
    let env = [c"PATH=/usr/bin:/bin".to_owned(), c"NEW=yes".to_owned()];
    let replacement =
        Replacement { pid, program: Path::new(program), argv: &argv, env: &env, keep, hold_signals: false };
    exec_in_place_watched(replacement, &mut || group.set_frozen(false).map_err(io::Error::other), watcher)
}

/// A process and all below it.
pub(crate) fn descendants(pid: i32) -> Vec<i32> {
    let mut all = vec![pid];
    let mut at = 0;
    while at < all.len() {
        let tasks = fs::read_dir(format!("/proc/{}/task", all[at])).into_iter().flatten().flatten();
        for task in tasks {
            let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(text.split_whitespace().filter_map(|p| p.parse::<i32>().ok()));
        }
        at += 1;
    }
    all
}

/// What must stay: identity, job control, place and descriptors.
pub(crate) fn identity(pid: i32) -> BTreeMap<String, String> {
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).unwrap().to_string_lossy().into_owned();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // ppid, pgrp, session, tty_nr, tpgid
    let words: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').skip(1).take(5).collect();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let keys = ["Uid:", "Gid:", "NoNewPrivs:", "Umask:", "NSpid:"];
    let mut facts: BTreeMap<String, String> = status
        .lines()
        .filter(|l| keys.iter().any(|k| l.starts_with(k)))
        .map(|l| (l.to_owned(), String::new()))
        .collect();
    facts.insert("stat".into(), words.join(" "));
    for name in ["cwd", "root", "fd/0", "fd/1", "fd/2"] {
        facts.insert(name.into(), link(name));
    }
    facts
}
