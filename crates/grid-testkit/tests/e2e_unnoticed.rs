//! Nobody at home notices: a person in a terminal does and sees the same with a job that stayed, one that moved away, and
//! one that came home again. Twelve checks, each as the text that it gives.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest};
use grid_testkit::procs::NOBODY;
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Repeats what it is told, and does what it is told by `end N`, `many` and `serve PORT`.
const JOB: &str = r#"
import os, signal, socket, sys
signal.signal(signal.SIGWINCH, lambda *_: print("size", *os.get_terminal_size(0), flush=True))
def say_ready():
    with open("ready.new", "w") as f: f.write(str(os.getpid()))
    os.rename("ready.new", "ready")
if sys.argv[1:2] == ["serve"]:
    server = socket.create_server(("127.0.0.1", int(sys.argv[2])))
    say_ready()
    while True:
        asks, _ = server.accept()
        asks.sendall(b"hello from the port\n")
        asks.close()
say_ready()
try:
    for line in sys.stdin:
        words = line.split()
        if words[:1] == ["end"]: sys.exit(int(words[1]))
        if words[:1] == ["many"]:
            for n in range(100): print("line", n)
        print("heard", *words, flush=True)
    print("end of file", flush=True)
except KeyboardInterrupt:
    print("\ninterrupted", flush=True)
    sys.exit(130)
"#;

/// Where the job is while it is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Stayed,
    Moved,
    CameHome,
}

/// A shell in a terminal of tmux's.
struct Desk<'a> {
    cluster: &'a Cluster,
    guest: Guest,
    place: Place,
    /// What each check gave.
    texts: Vec<String>,
}

impl<'a> Desk<'a> {
    fn open(cluster: &'a Cluster, place: Place) -> Self {
        let guest = Guest::start(cluster, "/usr/bin/tmux", &["-S", "tmux", "-f", "/dev/null", "-D"]);
        fs::write(guest.dir.join("job.py"), JOB).unwrap();
        let desk = Self { cluster, guest, place, texts: Vec::new() };
        let shell = "exec env -i PATH=/usr/bin:/bin HOME=/ LC_ALL=C TERM=screen PS1='$ ' bash --norc --noprofile";
        cluster.wait("the terminal", || desk.tmux(&["new-session", "-d", "-x", "80", "-y", "24", shell]));
        desk.shows("$ ");
        desk
    }

    fn tmux(&self, words: &[&str]) -> Result<String, String> {
        let mut command = Command::new("tmux");
        command.current_dir(&*self.guest.dir).uid(NOBODY).gid(NOBODY).args(["-S", "tmux"]).args(words);
        let output = command.output().map_err(|e| e.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Presses these keys, in tmux's names.
    fn press(&self, keys: &str) {
        self.tmux(&["send-keys", keys]).unwrap();
    }

    fn types(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]).unwrap();
        self.press("Enter");
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-S", "-"]).unwrap().trim_end().to_owned()
    }

    /// Waits until a line of the screen begins so.
    fn shows(&self, line: &str) {
        self.cluster.wait(line, || {
            let screen = self.screen();
            if screen.lines().any(|l| format!("{l} ").starts_with(line)) { Ok(()) } else { Err(screen) }
        });
    }

    /// The screen and its history are empty.
    fn clears(&self) {
        self.press("C-l");
        // What was there goes into the history.
        self.cluster.wait("an empty screen", || match self.tmux(&["capture-pane", "-p"])?.trim() {
            "$" => Ok(()),
            screen => Err(screen.to_owned()),
        });
        self.tmux(&["clear-history"]).unwrap();
    }

    /// Types a command line with a job in it, and takes the job to where it is meant to be: its number.
    fn starts(&self, line: &str) -> i32 {
        self.clears();
        let _ = fs::remove_file(self.guest.dir.join("ready"));
        self.types(line);
        let pid = self.guest.wait_text("ready", |text| !text.is_empty()).parse().unwrap();
        if self.place != Place::Stayed {
            let out = self.cluster.move_out(pid);
            if self.place == Place::CameHome {
                self.cluster.bring_home(out.record.id.as_str());
            }
        }
        pid
    }

    /// At the prompt types it, and waits for `= STATUS` of `echo`.
    fn asks(&self, line: &str) {
        self.cluster.wait("the prompt", || {
            let screen = self.screen();
            if screen.lines().last() == Some("$") { Ok(()) } else { Err(screen) }
        });
        self.types(line);
        self.shows("= ");
    }

    /// Keeps what the check gave, by the numbers of the pass.
    fn keep(&mut self, check: &str, text: &str, pid: i32) {
        let told = text.replace(&pid.to_string(), "PID").replace(&self.guest.dir.display().to_string(), "DIR");
        self.texts.push(format!("== {check}\n{told}"));
    }

    fn keep_screen(&mut self, check: &str, pid: i32) {
        let screen = self.screen();
        self.keep(check, &screen, pid);
    }
}

/// What `ps` tells of who it is, but for the numbers of this terminal and its shell.
fn ps(pid: i32) -> String {
    let ask = |what: &str| {
        let output = Command::new("ps").args(["-o", what, "-p", &pid.to_string()]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let shell = ask("ppid=");
    let (group, session, terminal) = (ask("pgid="), ask("sess="), ask("tty="));
    let own = |number: String| if number == shell { "shell's".to_owned() } else { number };
    let has_terminal = terminal.starts_with("pts/");
    format!("group {} session {} terminal {has_terminal} user {}", own(group), own(session), ask("user="))
}

fn foreground(desk: &mut Desk<'_>) {
    let pid = desk.starts("python3 job.py");
    desk.keep("ps", &ps(pid), pid);
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    desk.keep("/proc/PID/cwd", &cwd.display().to_string(), pid);
    desk.types("one two");
    desk.shows("heard one two");
    desk.types("end 7");
    desk.asks("echo = $?");
    desk.keep_screen("$?", pid);
}

fn control_c(desk: &mut Desk<'_>) {
    let pid = desk.starts("python3 job.py");
    desk.press("C-c");
    desk.shows("interrupted");
    desk.asks("echo = $?");
    desk.keep_screen("Ctrl-C", pid);
}

fn control_z(desk: &mut Desk<'_>) {
    let pid = desk.starts("python3 job.py");
    desk.press("C-z");
    desk.shows("[1]+  Stopped");
    desk.types("fg");
    desk.shows("python3 job.py");
    desk.types("again");
    desk.shows("heard again");
    desk.press("C-d");
    desk.shows("end of file");
    desk.asks("echo = $?");
    desk.keep_screen("Ctrl-Z, fg and Ctrl-D", pid);
}

fn pipes(desk: &mut Desk<'_>) {
    let line = "(echo first; until [ -e more ]; do sleep 0.05; done; seq 3) | python3 job.py | sed s/^/it-/";
    let pid = desk.starts(line);
    fs::write(desk.guest.dir.join("more"), "").unwrap();
    desk.shows("it-end of file");
    desk.asks("echo = ${PIPESTATUS[@]}");
    desk.keep_screen("a pipe on each side", pid);
}

fn size(desk: &mut Desk<'_>) {
    let pid = desk.starts("python3 job.py");
    desk.tmux(&["resize-window", "-x", "100", "-y", "30"]).unwrap();
    desk.shows("size 100 30");
    desk.tmux(&["resize-window", "-x", "80", "-y", "24"]).unwrap();
    desk.shows("size 80 24");
    desk.types("end 0");
    desk.asks("echo = $?");
    desk.keep_screen("terminal size", pid);
}

fn timeout(desk: &mut Desk<'_>) {
    let pid = desk.starts("timeout --foreground 8 python3 job.py; echo = $?");
    desk.shows("= ");
    desk.keep_screen("timeout", pid);
}

fn wait(desk: &mut Desk<'_>) {
    let pid = desk.starts("mkfifo f; (exec 3<>f; exec python3 job.py <&3 3<&-) & echo $! >bg");
    desk.types("kill -0 $(cat bg); echo alive $?");
    desk.shows("alive ");
    desk.types("echo end 9 >f; wait $(cat bg); echo = $?");
    desk.shows("= ");
    let screen = desk.screen();
    // When the shell tells of a job's end is a matter of moments.
    let of_checks = screen.lines().filter(|l| l.starts_with("alive") || l.starts_with('='));
    let told: Vec<&str> = of_checks.collect();
    desk.keep("kill -0 and wait", &told.join("\n"), pid);
}

fn port(desk: &mut Desk<'_>) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let pid = desk.starts(&format!("python3 job.py serve {port} & sleep 0"));
    desk.asks(&format!("cat </dev/tcp/127.0.0.1/{port}; kill %1; wait %1; echo = $?"));
    let screen = desk.screen();
    let told: Vec<&str> = screen.lines().filter(|l| l.starts_with("hello") || l.starts_with('=')).collect();
    desk.keep("the port", &told.join("\n"), pid);
}

fn scrollback(desk: &mut Desk<'_>) {
    let pid = desk.starts("python3 job.py");
    desk.types("many");
    desk.shows("heard many");
    desk.types("end 0");
    desk.asks("echo = $?");
    desk.keep_screen("tmux scrollback", pid);
}

fn looks(cluster: &Cluster, place: Place) -> Vec<String> {
    let mut desk = Desk::open(cluster, place);
    for check in [foreground, control_c, control_z, pipes, size, timeout, wait, port, scrollback] {
        check(&mut desk);
    }
    std::mem::take(&mut desk.texts)
}

#[test]
fn nobody_at_home_notices() {
    let Some(cluster) = Cluster::start(1) else { return };
    cluster.boost("--cpu 1 --memory 2GiB --duration 5m");
    let stayed = looks(&cluster, Place::Stayed);
    println!("{}", stayed.join("\n"));
    for place in [Place::Moved, Place::CameHome] {
        let told = looks(&cluster, place);
        for (text, was) in told.iter().zip(&stayed) {
            assert_eq!(text, was, "{place:?}");
        }
        assert_eq!(told.len(), stayed.len());
    }
}

/// Says in a file by which signals it was told that its terminal is gone, and what it can still do with it.
const HUNG_UP: &str = r#"
import os, signal, time
def hung_up(number, _):
    try:
        os.write(1, b"somebody there?\n")
        left = "written"
    except OSError as e:
        left = type(e).__name__
    with open("told.new", "a") as f: f.write(f"signal {number} {left}\n")
    os.rename("told.new", "told")
    os._exit(3)
signal.signal(signal.SIGHUP, hung_up)
with open("ready.new", "w") as f: f.write(str(os.getpid()))
os.rename("ready.new", "ready")
while True: time.sleep(0.05)
"#;

fn hangs_up(cluster: &Cluster, place: Place) -> String {
    let desk = Desk::open(cluster, place);
    fs::write(desk.guest.dir.join("hung.py"), HUNG_UP).unwrap();
    desk.starts("python3 hung.py");
    desk.tmux(&["kill-session"]).unwrap();
    desk.guest.wait_text("told", |text| text.ends_with('\n'))
}

#[test]
fn a_terminal_that_is_closed_hangs_up_a_job_wherever_it_is() {
    let Some(cluster) = Cluster::start(1) else { return };
    cluster.boost("--cpu 1 --memory 2GiB --duration 5m");
    assert_eq!(hangs_up(&cluster, Place::Stayed), "signal 1 OSError\n");
    assert_eq!(hangs_up(&cluster, Place::Moved), "signal 1 OSError\n");
    assert_eq!(hangs_up(&cluster, Place::CameHome), "signal 1 OSError\n");
}

/// Nor does the owner of the machine where the job is.
#[test]
fn what_is_typed_to_a_job_that_is_away_is_no_input_of_its_lender_s_owner() {
    let Some(cluster) = Cluster::start(1) else { return };
    cluster.boost("--cpu 1 --memory 2GiB --duration 5m");
    assert_eq!(cluster.grid(&["lend", "rule", "--when-input", "10m"]).code, 0);
    let is = || {
        // Looked at since.
        cluster.wait_heard();
        cluster.wait_heard();
        let all: Vec<serde_json::Value> = cluster.ask(&["lend", "status"]);
        let answer = &all[0]["answer"];
        assert!(answer["trouble"].is_null(), "{answer}");
        answer["rules"][0]["phase"]["is"].as_str().unwrap().to_owned()
    };
    assert_eq!(is(), "calm", "nobody may sit at this machine's consoles");
    let desk = Desk::open(&cluster, Place::Moved);
    desk.starts("python3 job.py");
    for word in ["hello", "again"] {
        desk.types(word);
        desk.shows(&format!("heard {word}"));
        assert_eq!(is(), "calm", "{word}");
    }
    desk.types("end 0");
    desk.asks("echo = $?");
    desk.shows("= 0");
}

/// What `script` of util-linux wrote down of a session with the job in it.
fn records(cluster: &Cluster, place: Place) -> String {
    let desk = Desk::open(cluster, place);
    let pid = desk.starts("script -qec 'python3 job.py; exit $?' typescript");
    desk.types("many");
    desk.shows("heard many");
    desk.types("end 4");
    desk.asks("echo = $?");
    desk.shows("= 4");
    let text = desk.guest.read("typescript").replace(&pid.to_string(), "PID");
    // Its first and last lines hold the time. The terminal's "\r" stays.
    let lines: Vec<&str> = text.trim_end().split('\n').collect();
    lines[1..lines.len() - 1].join("\n")
}

#[test]
fn script_records_the_same_of_a_job_wherever_it_is() {
    let Some(cluster) = Cluster::start(1) else { return };
    cluster.boost("--cpu 1 --memory 2GiB --duration 5m");
    let stayed = records(&cluster, Place::Stayed);
    assert!(stayed.contains("line 99\r\nheard many"), "{stayed:?}");
    assert_eq!(records(&cluster, Place::Moved), stayed);
    assert_eq!(records(&cluster, Place::CameHome), stayed);
}
