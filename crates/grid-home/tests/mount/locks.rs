//! Locks: home's processes and those of the mount see each other's.

use super::*;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};

/// `LOCKER KIND FILE WORD`: takes a lock, and says so; has it until its input ends.
const LOCKER: &str = r#"
import fcntl, signal, struct, sys
kind, path, word = sys.argv[1:]
f = open(path, 'r+b', buffering=0)
def lock(wait):
    if kind == 'flock': fcntl.flock(f, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    if kind == 'posix': fcntl.lockf(f, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    if kind == 'ofd': fcntl.fcntl(f, 38 if wait else 37, struct.pack('hhqqi', fcntl.F_WRLCK, 0, 0, 0, 0))
def signalled(*_): raise InterruptedError
try:
    if word == 'ask':
        way = struct.unpack('hhqqi4x', fcntl.fcntl(f, fcntl.F_GETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0)))
        print(way, flush=True)
        sys.exit()
    if word == 'wait': print('waits', flush=True)
    if word == 'alarm':
        signal.signal(signal.SIGALRM, signalled)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
    lock(word in ('wait', 'alarm'))
    print('has it', flush=True)
except InterruptedError: print('signal', flush=True)
except BlockingIOError: print('busy', flush=True)
sys.stdin.read()
"#;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Where {
    Home,
    There,
}
use Where::{Home, There};

/// Ends as its input does.
struct Locker {
    child: Child,
    input: Option<ChildStdin>,
    says: BufReader<ChildStdout>,
}

impl Locker {
    fn says(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn end(mut self) {
        drop(self.input.take());
        self.child.wait().unwrap();
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, says) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, says }
    }

    fn sleeps(&self, lab: &Lab) {
        sleeps(lab, self.child.id() as i32);
    }
}

/// It waits for home, or in it.
fn sleeps(lab: &Lab, pid: i32) {
    let wchan = || std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    lab.until("it to wait", || ["request_wait", "lock", "setlk"].iter().any(|in_it| wchan().contains(in_it)));
}

impl Lab {
    fn home(&self, script: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--clear-groups", &format!("--reuid={OWNER}"), &format!("--regid={OWNER}"), "sh", "-c", script]);
        command.env("D", self.dir.path().join("data")).stdin(Stdio::null());
        command
    }

    fn command(&self, at: Where, script: &str) -> Command {
        if at == Home { self.home(script) } else { self.there(script) }
    }

    fn locker(&self, at: Where, kind: &str, word: &str) -> Locker {
        let program = self.dir.path().join("data/locker.py");
        if !program.exists() {
            std::fs::write(&program, LOCKER).unwrap();
        }
        Locker::start(self.command(at, &format!("exec /usr/bin/python3 $D/locker.py {kind} $D/base {word}")))
    }

    fn try_one(&self, at: Where, kind: &str) -> String {
        let mut locker = self.locker(at, kind, if kind == "ask" { "ask" } else { "try" });
        let said = locker.says();
        locker.end();
        said
    }

    fn locks(&self) -> usize {
        locks(&self.dir.path().join("pump/locks")).unwrap().len()
    }
}

/// With a file that may be locked.
fn lab_with_base() -> Option<Lab> {
    let lab = lab()?;
    std::fs::write(lab.dir.path().join("data/base"), "").unwrap();
    chown(lab.dir.path().join("data/base"), Some(OWNER), Some(OWNER)).unwrap();
    Some(lab)
}

#[test]
fn a_lock_excludes_the_others_here_and_there_until_it_is_let_go_of() {
    let Some(lab) = lab_with_base() else { return };
    for kind in ["flock", "posix", "ofd"] {
        for (holds, tries) in [(There, Home), (Home, There), (There, There)] {
            let mut holder = lab.locker(holds, kind, "try");
            assert_eq!(holder.says(), "has it");
            assert_eq!(lab.locks(), usize::from(holds == There));
            assert_eq!(lab.try_one(tries, kind), "busy", "{kind} {holds:?} {tries:?}");
            let other = if kind == "flock" { "posix" } else { "flock" };
            assert_eq!(lab.try_one(tries, other), "has it", "the kinds know nothing of each other");
            holder.end();
            // A description is closed a little later than its last descriptor.
            lab.until("the lock", || lab.try_one(tries, kind) == "has it");
        }
    }
    let mut holder = lab.locker(There, "posix", "try");
    assert_eq!((holder.says().as_str(), lab.try_one(Home, "ofd").as_str()), ("has it", "busy"));
    // Type, where it is counted from, start, length, and the process; -1 is a description at home.
    let pid = holder.child.id();
    let asked = [There, Home].map(|at| lab.try_one(at, "ask"));
    assert_eq!(asked, [format!("(1, 0, 0, 0, {pid})"), "(1, 0, 0, 0, -1)".to_owned()]);
    holder.kill();
    assert_eq!(lab.try_one(Home, "ofd"), "has it");
    let mut holder = lab.locker(Home, "posix", "try");
    assert_eq!((holder.says().as_str(), lab.try_one(There, "ask").as_str()), ("has it", "(1, 0, 0, 0, 0)"));
    holder.end();
    lab.until("no lock", || lab.locks() == 0);
}

#[test]
fn who_waits_for_a_lock_gets_it_or_a_signal_and_who_is_killed_leaves_nothing() {
    let Some(mut lab) = lab_with_base() else { return };
    for kind in ["flock", "posix", "ofd"] {
        for (holds, waits) in [(Home, There), (There, Home), (There, There)] {
            let mut holder = lab.locker(holds, kind, "try");
            assert_eq!(holder.says(), "has it");
            let mut waiter = lab.locker(waits, kind, "wait");
            assert_eq!(waiter.says(), "waits");
            waiter.sleeps(&lab);
            holder.end();
            assert_eq!(waiter.says(), "has it", "{kind} {holds:?} {waits:?}");
            waiter.end();
            lab.until("the lock", || lab.try_one(Home, kind) == "has it");
        }
        let mut holder = lab.locker(Home, kind, "try");
        assert_eq!(holder.says(), "has it");
        assert_eq!(lab.locker(There, kind, "alarm").says(), "signal");
        for cut in [false, true] {
            let mut killed = lab.locker(There, kind, "wait");
            assert_eq!(killed.says(), "waits");
            killed.sleeps(&lab);
            if cut {
                lab.cut();
            }
            killed.kill();
        }
        // It is free before home hears that nobody waits any more.
        holder.end();
        lab.connect();
        lab.until("the lock", || lab.try_one(Home, kind) == "has it");
        assert_eq!(lab.try_one(There, kind), "has it");
        lab.until("no lock", || lab.locks() == 0);
    }
}

/// The description is its parent's, too, which lives on: nothing that is closed makes good for a lock of which nobody hears.
#[test]
fn a_child_that_is_killed_while_it_waits_and_home_is_away_leaves_its_parent_no_lock() {
    let Some(mut lab) = lab_with_base() else { return };
    let script = "import fcntl, os, sys\nf = open(os.environ['D'] + '/base', 'r+b')\nchild = os.fork()\n\
                  if child == 0:\n    fcntl.flock(f, 2)\n    os._exit(0)\n\
                  print(child, flush=True)\nprint(os.waitpid(child, 0)[1], flush=True)\nsys.stdin.read()\n";
    std::fs::write(lab.dir.path().join("data/script.py"), script).unwrap();
    let mut holder = lab.locker(Home, "flock", "try");
    assert_eq!(holder.says(), "has it");
    let mut parent = Locker::start(lab.there("exec /usr/bin/python3 $D/script.py"));
    let child: i32 = parent.says().parse().unwrap();
    sleeps(&lab, child);
    lab.cut();
    PidFd::open(child).unwrap().signal(libc::SIGKILL).unwrap();
    assert_eq!(parent.says(), "9");
    holder.end();
    lab.connect();
    lab.until("the lock", || lab.try_one(Home, "flock") == "has it");
    assert_eq!(lab.locks(), 0);
    parent.end();
}

/// Of POSIX's locks all of a process are gone where it closes any descriptor of the file; flock's are the description's.
#[test]
fn locks_are_let_go_of_as_the_kernel_would() {
    let Some(lab) = lab_with_base() else { return };
    let script = |kind: &str, then: &str| {
        let lock = if kind == "flock" { "fcntl.flock(f, 2)" } else { "fcntl.lockf(f, 2)" };
        let text = format!(
            "import fcntl, os, sys, time\np = os.environ['D'] + '/base'\nf = open(p, 'r+b')\n{lock}\n{then}\n\
             print('done', flush=True)\nsys.stdin.read()\n"
        );
        std::fs::write(lab.dir.path().join("data/script.py"), text).unwrap();
        let mut locker = Locker::start(lab.there("exec /usr/bin/python3 $D/script.py"));
        assert_eq!(locker.says(), "done");
        locker
    };
    let another = "open(p).close()";
    let child = "if os.fork() == 0: os._exit(0)\nos.wait()";
    let gone = "if os.fork(): os._exit(0)\nos.setsid()";
    let unlocked = "fcntl.lockf(f, 8)";
    let deleted = "os.unlink(p)\ng = os.fdopen(os.open(p, os.O_CREAT | os.O_RDWR, 0o600), 'r+b')\nfcntl.lockf(g, 2)";
    let late = "os.unlink(p)\nfcntl.lockf(f, 8)\nfcntl.lockf(f, 2)\nopen(p, 'x').close()";
    for (kind, then, said, held) in [
        ("posix", another, "has it", 0),
        ("flock", another, "busy", 1),
        ("posix", child, "busy", 1),
        ("flock", child, "busy", 1),
        ("flock", gone, "busy", 1),
        ("posix", unlocked, "has it", 0),
        ("posix", "fcntl.lockf(f, 8, 10)", "busy", 1),
        ("posix", deleted, "busy", 2),
        ("posix", late, "has it", 1),
    ] {
        let holder = script(kind, then);
        assert_eq!(lab.try_one(Home, kind), said, "{kind} {then}");
        assert_eq!(lab.locks(), held, "{kind} {then}");
        holder.end();
        lab.until("no lock", || lab.locks() == 0);
    }
}

/// Reads what it has read before, under a lock, whenever it is asked to.
const READER: &str = r#"
import fcntl, os, sys
kind, path = sys.argv[1:]
f = open(path, 'r+b', buffering=0)
for line in sys.stdin:
    if kind == 'flock': fcntl.flock(f, fcntl.LOCK_SH)
    else: fcntl.lockf(f, fcntl.LOCK_SH)
    print(os.pread(f.fileno(), 100, 0).decode(), os.fstat(f.fileno()).st_size, flush=True)
    if kind == 'flock': fcntl.flock(f, fcntl.LOCK_UN)
    else: fcntl.lockf(f, fcntl.LOCK_UN)
"#;

/// The worker's kernel would believe what it has for a second.
#[test]
fn who_has_a_lock_sees_what_was_written_before_he_got_it() {
    let Some(lab) = lab_with_base() else { return };
    std::fs::write(lab.dir.path().join("data/reader.py"), READER).unwrap();
    for kind in ["flock", "posix"] {
        let mut reader = Locker::start(lab.there(&format!("exec /usr/bin/python3 $D/reader.py {kind} $D/base")));
        for round in 0..30 {
            let content = "x".repeat(round % 3) + &round.to_string();
            std::fs::write(lab.dir.path().join("data/base"), &content).unwrap();
            reader.input.as_mut().unwrap().write_all(b"\n").unwrap();
            assert_eq!(reader.says(), format!("{content} {}", content.len()), "{kind}");
        }
        reader.end();
    }
}

/// Says under the lock what is there.
const LOOKER: &str = r#"
import fcntl, os, sys
os.chdir(os.environ['D'])
f = open('base', 'r+b', buffering=0)
for line in sys.stdin:
    print('waits', flush=True)
    fcntl.flock(f, fcntl.LOCK_EX)
    print(os.path.exists('made'), os.stat('other').st_size, open('other').read(), flush=True)
    fcntl.flock(f, fcntl.LOCK_UN)
"#;

/// Of other files than the one that is locked, too: names and content that the kernel was told it may believe.
#[test]
fn who_waited_for_a_lock_is_told_first_what_was_done_under_it() {
    let Some(lab) = lab_with_base() else { return };
    let data = lab.dir.path().join("data");
    std::fs::write(data.join("looker.py"), LOOKER).unwrap();
    std::fs::write(data.join("other"), "0").unwrap();
    let mut looker = Locker::start(lab.there("exec /usr/bin/python3 $D/looker.py"));
    for round in 0..40 {
        let base = std::fs::File::open(data.join("base")).unwrap();
        let held = nix::fcntl::Flock::lock(base, nix::fcntl::FlockArg::LockExclusive).unwrap();
        looker.input.as_mut().unwrap().write_all(b"\n").unwrap();
        assert_eq!(looker.says(), "waits");
        looker.sleeps(&lab);
        let is_made = round % 2 == 0;
        let content = "x".repeat(round % 3) + &round.to_string();
        std::fs::write(data.join("other"), &content).unwrap();
        if is_made {
            std::fs::write(data.join("made"), "").unwrap();
        } else {
            std::fs::remove_file(data.join("made")).unwrap();
        }
        drop(held);
        let made = if is_made { "True" } else { "False" };
        assert_eq!(looker.says(), format!("{made} {} {content}", content.len()), "round {round}");
    }
    looker.end();
}

/// Adds one to the number in a file, so many times, each under the file's lock.
const COUNTER: &str = r#"
import fcntl, sys
f = open(sys.argv[1], 'r+b', buffering=0)
for n in range(int(sys.argv[2])):
    if n % 2: fcntl.lockf(f, fcntl.LOCK_EX)
    else:
        while True:
            try: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB); break
            except BlockingIOError: pass
    f.seek(0)
    now = int(f.read() or 0)
    f.seek(0)
    f.write(str(now + 1).encode())
    fcntl.lockf(f, fcntl.LOCK_UN)
"#;

/// The same in a data base with a rollback journal.
const BASE: &str = r#"
import sqlite3, sys
base = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
try:
    for n in range(int(sys.argv[2])):
        base.execute('begin immediate')
        now, = base.execute('select n from t').fetchone()
        base.execute('update t set n = ?', (now + 1,))
        base.execute('commit')
except sqlite3.Error as e: sys.exit(f'{e} {e.sqlite_errorname} {n}')
"#;

#[test]
fn what_is_counted_under_a_lock_here_and_there_is_all_counted_whatever_breaks() {
    let Some(mut lab) = lab_with_base() else { return };
    let data = lab.dir.path().join("data");
    std::fs::write(data.join("counter.py"), COUNTER).unwrap();
    std::fs::write(data.join("sql.py"), BASE).unwrap();
    let sql = |lab: &Lab, what: &str| {
        let out = lab.home(&format!("sqlite3 -cmd '.timeout 20000' $D/sql '{what}'")).output().unwrap();
        assert!(out.status.success(), "{}", text(&out));
        text(&out)
    };
    sql(&lab, "pragma journal_mode=delete; create table t(n); insert into t values(0)");
    let counted = |lab: &Lab, script: &str| match script {
        "counter.py $D/base" => lab.data("base"),
        _ => sql(lab, "select n from t"),
    };
    for (script, times) in [("counter.py $D/base", 600), ("sql.py $D/sql", 120)] {
        let start = |at| {
            let mut command = lab.command(at, &format!("exec /usr/bin/python3 $D/{script} {times}"));
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let all = [Home, There, There].map(start);
        for round in 1..=8 {
            let number = || counted(&lab, script).trim().parse::<usize>().unwrap_or(0);
            lab.until(&format!("{script} to count in round {round}"), || number() > round * times / 4);
            lab.cut();
            lab.connect();
        }
        for child in all {
            let out = child.wait_with_output().unwrap();
            assert!(out.status.success(), "{script}: {}", text(&out));
        }
        assert_eq!(counted(&lab, script).trim(), (3 * times).to_string(), "{script}");
    }
    assert_eq!(sql(&lab, "pragma integrity_check"), "ok\n");
    lab.until("no lock", || lab.locks() == 0);
}
