//! Signals, stops and the end: what is done to the shadow happens to the tree, and the tree's end is the shadow's.
#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

mod kit;

use kit::*;
use nix::libc;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;

fn started(script: &str) -> (Far, Home) {
    started_with(&sh(script))
}

fn started_with(command: &[String]) -> (Far, Home) {
    let far = Far::start(1, pipes(PIPE), command);
    far.activate(None);
    let home = Home::start();
    home.join(&far);
    (far, home)
}

const HANDLER: &str = "
import os, signal
say = lambda word: lambda *_: os.write(1, word)
signal.signal(signal.SIGUSR1, say(b'usr1\\n'))
signal.signal(signal.SIGHUP, say(b'hup\\n'))
def end(*_):
    os.write(1, b'end\\n')
    os._exit(7)
signal.signal(signal.SIGTERM, end)
os.write(1, b'ready\\n')
while True:
    signal.pause()
";

#[test]
fn each_signal_arrives_once_also_over_a_connection_that_breaks() {
    if skipped() {
        return;
    }
    let (far, mut home) = started_with(&["python3", "-c", HANDLER].map(str::to_owned));
    let mut lines = BufReader::new(home.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "ready");
    for (signo, word) in [(libc::SIGUSR1, "usr1"), (libc::SIGHUP, "hup"), (libc::SIGUSR1, "usr1")] {
        home.signal(signo);
        assert_eq!(lines.next().unwrap(), word);
        // The next one finds no connection, and waits for this.
        home.join_for(&far, 1);
        home.signal(signo);
        home.join(&far);
        assert_eq!(lines.next().unwrap(), word);
    }
    home.signal(libc::SIGTERM);
    assert_eq!(lines.collect::<Vec<_>>(), ["end"]);
    assert_eq!(home.shadow.wait().unwrap().code(), Some(7));
    far.wait();
}

#[test]
fn a_death_by_a_signal_is_the_shadows_too() {
    if skipped() {
        return;
    }
    // SIGTERM by home, a real-time signal by the tree itself, one that would leave a core.
    for (script, by_home, want) in [
        ("echo ready; exec sleep 1000", Some(libc::SIGTERM), libc::SIGTERM),
        ("echo ready; kill -40 $$; sleep 1000", None, 40),
        ("echo ready; kill -SEGV $$; sleep 1000", None, libc::SIGSEGV),
    ] {
        let (_far, mut home) = started(script);
        let mut line = String::new();
        BufReader::new(home.stdout.take().unwrap()).read_line(&mut line).unwrap();
        by_home.into_iter().for_each(|signo| home.signal(signo));
        let status = home.shadow.wait().unwrap();
        assert_eq!((status.signal(), status.core_dumped(), line.as_str()), (Some(want), false, "ready\n"));
    }
}

#[test]
fn a_stop_and_its_end_are_mirrored() {
    if skipped() {
        return;
    }
    let (far, home) = started("exec sleep 1000");
    wait_for(|| state(far.root()) == 'S');
    for _ in 0..3 {
        home.signal(libc::SIGTSTP);
        wait_for(|| state(far.root()) == 'T' && state(home.pid()) == 'T');
        home.signal(libc::SIGCONT);
        wait_for(|| state(far.root()) == 'S' && state(home.pid()) == 'S');
    }
    // A stop and its end in one breath never leave the shadow stopped.
    for _ in 0..50 {
        home.signal(libc::SIGTSTP);
        home.signal(libc::SIGCONT);
    }
    wait_for(|| state(far.root()) == 'S' && state(home.pid()) == 'S');
    // Once more in turn: then nothing of all that is under way any more.
    home.signal(libc::SIGTSTP);
    wait_for(|| state(far.root()) == 'T' && state(home.pid()) == 'T');
    home.signal(libc::SIGCONT);
    wait_for(|| state(far.root()) == 'S' && state(home.pid()) == 'S');
    // The tree stops itself.
    grid_os::signals::send(far.root(), libc::SIGSTOP).unwrap();
    wait_for(|| state(home.pid()) == 'T');
    home.signal(libc::SIGCONT);
    wait_for(|| state(far.root()) == 'S' && state(home.pid()) == 'S');
}

#[test]
fn all_output_comes_before_the_end_and_the_agent_can_end_the_wait() {
    if skipped() {
        return;
    }
    let far = Far::start(1, pipes(PIPE), &sh("head -c 60000 /dev/zero; exit 3"));
    far.activate(None);
    // Nobody is at home yet: pid 1 keeps what was written, and how it ended.
    wait_for(|| path_of(&far, "exit").exists());
    let mut home = Home::start();
    home.join(&far);
    let got = std::io::copy(&mut home.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
    assert_eq!((got, home.shadow.wait().unwrap().code()), (60_000, Some(3)));
    far.wait();

    let far = Far::start(1, pipes(PIPE), &sh("exit 3"));
    far.activate(None);
    wait_for(|| path_of(&far, "exit").exists());
    assert_ne!(state(far.init.pid), '-');
    far.ask(&grid_shadow::control::ToFar::Finish);
    far.wait();
}

#[test]
fn a_tree_that_is_lost_ends_the_shadow_as_its_agent_says() {
    if skipped() {
        return;
    }
    let (_far, mut home) = started("exec sleep 1000");
    home.say(&grid_shadow::control::ToShadow::Title { text: "grid-shadow: moved".into() });
    wait_for(|| {
        std::fs::read(format!("/proc/{}/cmdline", home.pid())).is_ok_and(|c| c.starts_with(b"grid-shadow: moved"))
    });
    home.say(&grid_shadow::control::ToShadow::Lost { message: "(expected) lost".into(), code: 99 });
    assert_eq!(home.shadow.wait().unwrap().code(), Some(99));
}
