//! What home changes is seen by who has looked there before, long before the kernel would ask again.

use super::{Lab, Ordering, lab, lab_with, libc};
use grid_os::pidfd::PidFd;
use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Less than what is watched is believed for: ten seconds.
const SOON: Duration = Duration::from_secs(5);

/// A process on the mount that looks when it is asked to, and remembers nothing itself.
pub(super) struct Looker {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

const LOOKER: &str = r#"cd $D && exec python3 -c "
import os, random, sys
file = os.open('file', os.O_RDWR)
names = 'abcdef'
def fill(name, how, size):
    with open(name, how) as f: f.write(random.choice('xyz') * size)
def has_capabilities():
    try: return len(os.getxattr('file', 'security.capability')) > 0
    except OSError: return False
def churn(seed):
    random.seed(seed)
    for _ in range(200):
        one, other, size = random.choice(names), random.choice(names), random.randrange(4)
        try: random.choice([
            lambda: fill(one, 'w', size), lambda: fill(one, 'a', size), lambda: os.unlink(one),
            lambda: os.rename(one, other), lambda: os.link(one, other), lambda: os.chmod(one, 0o600 + size),
            lambda: os.mkdir(one), lambda: os.rmdir(one), lambda: os.stat(one), lambda: open(one).read(), view])()
        except OSError: pass
def view():
    def of(name):
        if os.path.isdir(name): return (name, os.listdir(name))
        if not os.path.exists(name): return (name, None)
        at = os.stat(name)
        return (name, at.st_mode, at.st_nlink, at.st_size, at.st_mtime_ns, open(name).read())
    return [of(name) for name in names]
for line in sys.stdin:
    print(repr(eval(line)), flush=True)
""#;

impl Looker {
    pub(super) fn start(lab: &Lab) -> Self {
        Self::of(lab, lab.there(LOOKER))
    }

    fn at_home(lab: &Lab) -> Self {
        Self::of(lab, lab.by_owner(Command::new("setpriv"), LOOKER))
    }

    fn of(lab: &Lab, mut command: Command) -> Self {
        std::os::unix::fs::chown(lab.path("file"), Some(super::OWNER), Some(super::OWNER)).unwrap();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (ask, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, ask, answers }
    }

    pub(super) fn sees(&mut self, expression: &str) -> String {
        self.begin(expression);
        self.end()
    }

    fn begin(&mut self, expression: &str) {
        writeln!(self.ask, "{expression}").unwrap();
    }

    fn end(&mut self) -> String {
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    pub(super) fn soon_sees(&mut self, expression: &str, wanted: &str) {
        let deadline = Instant::now() + SOON;
        loop {
            let seen = self.sees(expression);
            if seen == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{expression}: {seen}, not {wanted}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

impl Lab {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("data").join(name)
    }

    fn notices(&self) -> usize {
        self.crossed.notices.load(Ordering::SeqCst)
    }

    fn looks(&self) -> usize {
        self.crossed.looks.load(Ordering::SeqCst)
    }
}

fn chmod(path: PathBuf, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

const CONTENT: &str = "os.pread(file, 20, 0)";

#[test]
fn what_home_changes_is_told() {
    let Some(lab) = lab() else { return };
    let mut looker = Looker::start(&lab);
    let file = File::options().write(true).open(lab.path("file")).unwrap();
    // What is looked at, what it is before, what is done at home, what it is then.
    let steps: [(&str, &str, &dyn Fn(), &str); 7] = [
        (CONTENT, "b'of home'", &|| file.write_all_at(b"of HOME", 0).unwrap(), "b'of HOME'"),
        ("os.fstat(file).st_size", "7", &|| file.set_len(3).unwrap(), "3"),
        (CONTENT, "b'of '", &|| file.write_all_at(b"more", 3).unwrap(), "b'of more'"),
        ("oct(os.stat('file').st_mode)", "'0o100644'", &|| chmod(lab.path("file"), 0o640), "'0o100640'"),
        (
            "open('file').read()",
            "'of more'",
            &|| {
                std::fs::write(lab.path("next"), "another").unwrap();
                chmod(lab.path("next"), 0o644);
                std::fs::rename(lab.path("next"), lab.path("file")).unwrap();
            },
            "'another'",
        ),
        (
            "os.path.exists('file')",
            "True",
            &|| std::fs::rename(lab.path("file"), lab.dir.path().join("file")).unwrap(),
            "False",
        ),
        ("os.path.exists('file')", "False", &|| std::fs::write(lab.path("file"), "").unwrap(), "True"),
    ];
    for (expression, before, change, after) in steps {
        looker.soon_sees(expression, before);
        looker.soon_sees(expression, before);
        let told = lab.notices();
        change();
        looker.soon_sees(expression, after);
        assert!(lab.notices() > told, "{expression}: it was asked for again, not told");
    }
    assert!(looker.sees("os.path.exists('file')") == "True");
    std::fs::remove_file(lab.path("file")).unwrap();
    looker.soon_sees("os.path.exists('file')", "False");
}

#[test]
fn what_the_mount_does_itself_is_not_told_back() {
    let Some(lab) = lab() else { return };
    let mut looker = Looker::start(&lab);
    std::fs::write(lab.path("other"), "").unwrap();
    let look = "len([os.stat('other') for _ in range(100)])";
    for work in [
        "[os.pwrite(file, b'x' * n, n) for n in range(100)][-1]",
        "[os.rename(*pair) for _ in range(50) for pair in (('file', 'f'), ('f', 'file'))][-1]",
        "[(open('made', 'w').write('x'), os.chmod('made', 0o600), os.unlink('made'))[0] for _ in range(50)][-1]",
        "[(os.mkdir('d'), os.rmdir('d'))[0] for _ in range(50)][-1]",
    ] {
        looker.sees(look);
        let told = lab.notices();
        assert_ne!(looker.sees(work), "", "{work}");
        let asked = lab.looks();
        looker.sees(look);
        assert_eq!((lab.notices(), lab.looks()), (told, asked), "{work}");
    }
    // A name that the mount made itself is believed, and home's change of it told.
    looker.sees("os.rename('file', 'f') or os.stat('f').st_size");
    let told = lab.notices();
    chmod(lab.path("f"), 0o640);
    looker.soon_sees("oct(os.stat('f').st_mode)", "'0o100640'");
    assert!(lab.notices() > told);
}

#[test]
fn what_was_read_or_is_not_there_is_not_asked_for_again() {
    let Some(lab) = lab() else { return };
    let mut looker = Looker::start(&lab);
    let look = "(open('file').read(), os.path.exists('missing'))";
    let asked = || (lab.looks(), lab.crossed.reads.load(Ordering::SeqCst));
    looker.soon_sees(look, "('of home', False)");
    looker.soon_sees(look, "('of home', False)");
    let before = asked();
    assert!(before.1 > 0);
    (0..20).for_each(|_| looker.soon_sees(look, "('of home', False)"));
    assert_eq!(asked(), before);
    std::fs::write(lab.path("file"), "of HOME").unwrap();
    std::fs::write(lab.path("missing"), "").unwrap();
    looker.soon_sees(look, "('of HOME', True)");
}

#[test]
fn where_both_change_the_same_names_at_once_both_see_the_same_in_the_end() {
    let Some(lab) = lab() else { return };
    let (mut there, mut home) = (Looker::start(&lab), Looker::at_home(&lab));
    for round in 0..20 {
        there.begin(&format!("churn({round})"));
        home.begin(&format!("churn({round} + 1000)"));
        assert_eq!((there.end(), home.end()), ("None".to_owned(), "None".to_owned()));
        let wanted = home.sees("view()");
        there.soon_sees("view()", &wanted);
    }
    assert!(lab.notices() > 0);
}

#[test]
fn beyond_the_limit_it_is_asked_for_again() {
    let Some(lab) = lab_with(1) else { return };
    let mut looker = Looker::start(&lab);
    looker.soon_sees("open('file').read()", "'of home'");
    let told = lab.notices();
    std::fs::write(lab.path("next"), "another").unwrap();
    std::fs::rename(lab.path("next"), lab.path("file")).unwrap();
    looker.soon_sees("open('file').read()", "'another'");
    assert_eq!(lab.notices(), told);
}

#[test]
fn where_more_changed_than_was_kept_all_is_asked_for_again() {
    let Some(mut lab) = lab() else { return };
    let kept: usize =
        std::fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events").unwrap().trim().parse().unwrap();
    if kept > 100_000 {
        println!("SKIPPED: fs.fanotify.max_queued_events is {kept}");
        return;
    }
    let mut looker = Looker::start(&lab);
    looker.soon_sees(CONTENT, "b'of home'");
    looker.sees("os.stat('file').st_size");
    let server = PidFd::open(lab.server).unwrap();
    server.signal(libc::SIGSTOP).unwrap();
    std::fs::write(lab.path("0"), "").unwrap();
    for n in 0..kept + 100 {
        std::fs::rename(lab.path(&n.to_string()), lab.path(&(n + 1).to_string())).unwrap();
    }
    std::fs::write(lab.path("file"), "changed").unwrap();
    server.signal(libc::SIGCONT).unwrap();
    // It may have been silent for too long.
    lab.connect();
    looker.soon_sees(CONTENT, "b'changed'");
}

#[test]
fn who_is_killed_while_it_waits_for_a_page_of_home_s_ends() {
    let Some(lab) = lab() else { return };
    let mut looker = Looker::start(&lab);
    looker.sees("os.fstat(file).st_size");
    lab.cut();
    looker.begin(CONTENT);
    let wchan = format!("/proc/{}/wchan", looker.child.id());
    let wchan = || std::fs::read_to_string(&wchan).unwrap_or_default();
    lab.until("a page", || wchan().contains("folio_wait"));
    looker.child.kill().unwrap();
    assert!(!looker.child.wait().unwrap().success());
}

#[test]
fn what_changes_while_home_is_away_is_told_when_it_is_there_again() {
    let Some(mut lab) = lab() else { return };
    let mut looker = Looker::start(&lab);
    looker.soon_sees(CONTENT, "b'of home'");
    looker.sees("os.stat('file').st_size");
    lab.cut();
    std::fs::write(lab.path("file"), "changed").unwrap();
    lab.connect();
    looker.soon_sees(CONTENT, "b'changed'");
}

impl Lab {
    /// In the server's mount namespace.
    fn at_home(&self, words: &[&str]) {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.server)).arg("--").args(words);
        assert!(command.arg(self.path("below")).status().unwrap().success(), "{words:?}");
    }
}

#[test]
fn what_is_mounted_at_home_is_seen() {
    let Some(lab) = lab() else { return };
    std::fs::create_dir(lab.path("below")).unwrap();
    std::fs::write(lab.path("below/under"), "").unwrap();
    let mut looker = Looker::start(&lab);
    looker.soon_sees("os.listdir('below')", "['under']");
    looker.sees("(os.stat('below').st_mode, os.stat('file'))");
    let told = lab.notices();
    lab.at_home(&["mount", "-t", "tmpfs", "-o", "mode=755", "over"]);
    looker.soon_sees("os.listdir('below')", "[]");
    // Nothing else is asked for anew.
    let asked = lab.looks();
    looker.sees("os.stat('file')");
    assert_eq!(lab.looks(), asked);
    lab.at_home(&["umount", "--lazy"]);
    looker.soon_sees("os.listdir('below')", "['under']");
    assert!(lab.notices() > told);
}
