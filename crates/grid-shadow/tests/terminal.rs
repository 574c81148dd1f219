//! Terminals: a shell at home with a tree whose terminal is a stand-in elsewhere. What a person types and sees is as if
//! the tree were here.
#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

mod kit;

use grid_os::poll::PollSet;
use grid_os::terminal;
use grid_shadow::config::{FarStream, HomeStream, StreamKind};
use kit::*;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::PollFlags;
use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};
use std::fs::File;
use std::io::{PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

const TTY: u32 = 5;

/// The person's side of a terminal.
struct Screen {
    master: File,
    slave: OwnedFd,
    path: String,
    seen: Arc<Mutex<String>>,
    reader: Option<(PipeWriter, JoinHandle<()>)>,
}

impl Screen {
    fn new() -> Self {
        let pty = openpty(None, None).unwrap();
        for fd in [&pty.master, &pty.slave] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        terminal::set_size(&pty.slave, [24, 80, 0, 0]).unwrap();
        let path = nix::unistd::ttyname(&pty.slave).unwrap().to_str().unwrap().to_owned();
        let (master, seen) = (File::from(pty.master), Arc::new(Mutex::new(String::new())));
        let (mut reader, shown) = (master.try_clone().unwrap(), seen.clone());
        let (stopped, stop) = std::io::pipe().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut buffer, mut set) = ([0; 4096], PollSet::default());
            loop {
                set.clear();
                set.add('s', &stopped, PollFlags::POLLIN);
                set.add('m', &reader, PollFlags::POLLIN);
                set.wait(None).unwrap();
                if set.happened(0).is_some_and(|(_, flags)| !flags.is_empty()) {
                    return;
                }
                let Ok(n @ 1..) = reader.read(&mut buffer) else { return };
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        Self { master, slave: pty.slave, path, seen, reader: Some((stop, thread)) }
    }

    /// Closes the window: nobody has the master any more.
    fn close(mut self) {
        let (stop, thread) = self.reader.take().unwrap();
        drop(stop);
        thread.join().unwrap();
    }

    fn write(&self, text: &str) {
        (&self.master).write_all(text.as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    /// Until this was shown since the last look; what was shown up to there is forgotten, and given back.
    fn see(&self, text: &str) -> String {
        let mut before = String::new();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            {
                let mut seen = self.seen.lock().unwrap();
                if let Some(at) = seen.find(text) {
                    before.push_str(&seen[..at]);
                    *seen = seen[at + text.len()..].to_owned();
                    return before;
                }
            }
            assert!(std::time::Instant::now() < until, "never shown: {text:?}, but {:?}", self.text());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    fn is_canonical(&self) -> bool {
        tcgetattr(&self.slave).unwrap().local_flags.contains(LocalFlags::ICANON)
    }
}

/// A tree that leads a session on a stand-in for this terminal.
fn far_on(like: &Screen, generation: u64, command: &[&str], further: Vec<Given>) -> Far {
    let (slave, master) = terminal::stand_in(&terminal::read(&like.slave).unwrap()).unwrap();
    let path = nix::unistd::ttyname(&slave).unwrap().to_str().unwrap().to_owned();
    let stream = FarStream { id: TTY, kind: StreamKind::Tty, fd: Some(0) };
    let mut given = vec![Given { stream, far: Some(master), tree: vec![] }];
    given.extend(further);
    let all = [&[KIT, "on-terminal", &path][..], command].concat();
    let far = Far::start(generation, given, &all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
    far.activate(None);
    far
}

fn tty(fds: &[i32]) -> HomeStream {
    HomeStream { id: TTY, kind: StreamKind::Tty, fds: fds.to_vec() }
}

/// A shell that was asked to start the shadow in the foreground.
fn typed(screen: &Screen) -> Home {
    let home = Home::on_terminal(vec![tty(&[0, 1, 2])], &screen.path, || {
        screen.see("$ ");
        screen.write("GRID_SHADOW=$SHADOW $KIT; echo status=$?\n");
    });
    screen.see("status=$?\r\n");
    home
}

#[test]
fn lines_are_echoed_once_and_ctrl_d_ends_them() {
    if skipped() {
        return;
    }
    let screen = Screen::new();
    let far = far_on(&screen, 1, &["cat"], vec![]);
    let home = typed(&screen);
    home.join(&far);
    for line in ["hello", "again"] {
        screen.write(&format!("{line}\n"));
        assert_eq!(screen.see(&format!("{line}\r\n{line}\r\n")), "");
    }
    screen.write("\x04");
    assert_eq!(screen.see("status=0\r\n"), "");
}

#[test]
fn keys_that_are_signals_reach_the_tree() {
    if skipped() {
        return;
    }
    let screen = Screen::new();
    let far = far_on(&screen, 1, &["sleep", "1000"], vec![]);
    let home = typed(&screen);
    home.join(&far);
    // Stopped and continued by the shell, then ended.
    wait_for(|| state(far.root()) == 'S');
    screen.write("\x1a");
    screen.see("Stopped");
    screen.see("$ ");
    assert_eq!(state(far.root()), 'T');
    screen.write("fg\n");
    wait_for(|| state(far.root()) == 'S');
    screen.write("\x03");
    screen.see("^C");
    screen.see("$ ");
    screen.write("echo and=$?\n");
    screen.see("and=130\r\n");
}

const RAW: &str = "
import os, tty, termios
input()
old = termios.tcgetattr(0)
tty.setraw(0)
os.write(1, b'raw\\r\\n')
seen = b''
while len(seen) < 3: seen += os.read(0, 100)
termios.tcsetattr(0, termios.TCSADRAIN, old)
print(seen, os.isatty(1), os.get_terminal_size(), flush=True)
input()
print('two\\r\\nlines\\rover', end='', flush=True)
";

#[test]
fn raw_mode_reaches_home_and_goes_again() {
    if skipped() {
        return;
    }
    let screen = Screen::new();
    let far = far_on(&screen, 1, &["python3", "-c", RAW], vec![]);
    let home = typed(&screen);
    home.join(&far);
    screen.write("\n");
    assert_eq!(screen.see("raw\r\n"), "\r\n");
    wait_for(|| !screen.is_canonical());
    screen.write("a\x03\x04");
    assert_eq!(screen.see("b'a\\x03\\x04' True os.terminal_size(columns=80, lines=24)\r\n"), "");
    wait_for(|| screen.is_canonical());
    screen.write("\n");
    screen.see("\r\n");
    screen.see("two\r\r\nlines\rover");
    screen.see("status=0\r\n");
}

const SIZES: &str = "
import os, signal
signal.signal(signal.SIGWINCH, lambda *_: os.write(1, b'%d x %d\\n' % tuple(os.get_terminal_size())))
os.write(1, b'ready\\n')
while True: signal.pause()
";

#[test]
fn the_size_of_the_window_and_its_end_reach_the_tree() {
    if skipped() {
        return;
    }
    let screen = Screen::new();
    let far = far_on(&screen, 1, &["python3", "-c", SIZES], vec![]);
    let home = typed(&screen);
    home.join(&far);
    screen.see("ready\r\n");
    terminal::set_size(&screen.master, [50, 132, 0, 0]).unwrap();
    screen.see("132 x 50\r\n");
    let exit = far.dir.path().join("exit");
    assert!(!exit.exists());
    // The window is closed: the shell's session is hung up, and so is the tree's.
    let shadow = children(home.pid())[0];
    screen.close();
    wait_for(|| exit.exists());
    wait_for(|| !std::path::Path::new(&format!("/proc/{shadow}")).exists());
    assert_eq!(std::fs::read_to_string(exit).unwrap(), "signal 1");
}

#[test]
fn what_is_typed_ahead_is_the_shells_but_for_a_line() {
    if skipped() {
        return;
    }
    let screen = Screen::new();
    let far = far_on(&screen, 1, &["sh", "-c", "read a; echo got $a; sleep 1"], vec![]);
    let home = typed(&screen);
    home.join(&far);
    screen.write("one\n");
    screen.see("got one\r\n");
    // Whether a tree that has no input wants some cannot be seen: one line goes to it, the rest does not.
    screen.write("lost\necho the-shell-has-it-$((1+1))\n");
    screen.see("status=0\r\n");
    screen.see("the-shell-has-it-2\r\n");
}

#[test]
fn the_whole_job_at_home_is_interrupted() {
    if skipped() {
        return;
    }
    let screen = Screen::new();
    let far = far_on(&screen, 1, &["sleep", "1000"], vec![stdout_pipe(PIPE)]);
    let streams =
        vec![tty(&[0, 2]), HomeStream { id: STDOUT, kind: StreamKind::PipeOut { capacity: PIPE }, fds: vec![1] }];
    // The kernel sends the signal and throws away what waits to be shown, in this order: hence the pause.
    let home = Home::on_terminal(streams, &screen.path, || {
        screen.see("$ ");
        screen.write("GRID_SHADOW=$SHADOW $KIT | bash -c 'trap \"sleep 0.2; echo reader too >&2; exit 5\" INT; echo up >&2; cat'\n");
    });
    home.join(&far);
    screen.see("up\r\n");
    wait_for(|| state(far.root()) == 'S');
    screen.write("\x03");
    screen.see("^C");
    screen.see("reader too\r\n");
    wait_for(|| far.dir.path().join("exit").exists());
    screen.see("$ ");
}
