//! What a person at the terminal sees of moves: nothing. A job of the shell, with a pipe to `tee`, and a server that is
//! asked all the while.

use super::expect;
use super::place::Place;
use super::programs::Shell;
use crate::procs::{self, Detached};
use grid_types::BoostId;
use grid_types::api::{BoostView, OffloadView};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const REQUEST: [&str; 8] = ["boost", "request", "head", "--cpu", "1", "--memory", "256MiB", "--duration=2m"];

/// A lease beside the first one, for as long as this takes.
pub(super) fn run(place: &Place, shell: &Shell, first: &BoostId) -> Result<(), String> {
    place.local.say(&REQUEST)?;
    let boosts: Vec<BoostView> = place.local.ask(&["boost", "list"])?;
    let mut others = boosts.iter().map(|b| &b.boost).filter(|b| b.id != *first);
    let id = others.next().ok_or("the second boost is not there")?.id.to_string();
    job(place, shell, &id)?;
    server(place, &id)?;
    place.local.say(&["boost", "release", &id]).map(drop)
}

fn away_and_back(place: &Place, pid: i32, boost: &str, between: impl Fn() -> Result<(), String>) -> Result<(), String> {
    let pid = pid.to_string();
    place.local.say(&["offload", "execute", &pid, "--boost", boost])?;
    let views: Vec<OffloadView> = place.local.ask(&["offload", "list"])?;
    let there = views.iter().any(|v| v.record.process.pid.to_string() == pid && v.pid_there.is_some());
    expect("that it is away", &true, &there)?;
    between()?;
    place.local.say(&["offload", "recall", &pid])?;
    between()
}

/// `python3 counter.py | tee log`, typed at a prompt.
fn job(place: &Place, shell: &Shell, boost: &str) -> Result<(), String> {
    let script = place.write("bin/counter.py", include_str!("counter.py"))?;
    shell.types(&format!("/usr/bin/python3 {} | tee log\n", script.display()))?;
    shell.shows("count-10-")?;
    let pid = procs::all().into_iter().find(|pid| runs(*pid, &script)).ok_or("the job is not there")?;
    let log = place.dir.join("bash/log");
    away_and_back(place, pid, boost, || goes_on(&log))?;
    shell.types("\x03")?;
    // What is typed before its end is its own.
    let ended = || Ok((!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    procs::until(&log, SOON, "the job to end", ended).map_err(|e| e.to_string())?;
    shell.types("echo status-$?-\n")?;
    shell.shows("status-130-")?;
    let text = std::fs::read_to_string(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let counts: Vec<&str> = text.lines().collect();
    let want: Vec<String> = (0..counts.len()).map(|n| format!("count-{n}-")).collect();
    expect("what tee wrote", &want, &counts.iter().map(|c| (*c).to_owned()).collect())?;
    crate::say!("5 terminal  $ python3 counter.py | tee log      {pid} went to gpu2 and came back under the shell");
    crate::say!(
        "            {} lines, each once and in order; Ctrl-C ended both, and the shell has $? = 130",
        counts.len()
    );
    Ok(())
}

/// More lines arrive.
fn goes_on(log: &Path) -> Result<(), String> {
    let lines = || std::fs::read_to_string(log).map_or(0, |text| text.lines().count());
    let before = lines();
    let more = procs::until(log, SOON, "more lines", || Ok((lines() > before + 10).then_some(())));
    more.map_err(|e| e.to_string())
}

fn runs(pid: i32, script: &Path) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|b| *b == 0);
    words.next().is_some_and(|program| program.ends_with(b"python3"))
        && words.next() == Some(script.as_os_str().as_encoded_bytes())
}

/// `python3 -m http.server`, asked all the while.
fn server(place: &Place, boost: &str) -> Result<(), String> {
    let dir = place.folder("web")?;
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(|e| e.to_string())?.port();
    let words = ["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1"];
    let server = Detached::start(Path::new("/usr/bin/python3"), &words, &dir).map_err(|e| e.to_string())?;
    place.ends_with_us(server.pid);
    let ready = procs::until(&dir, SOON, "the server", || Ok(answers(port).then_some(())));
    ready.map_err(|e| e.to_string())?;
    let settled = AtomicBool::new(false);
    let stop = AtomicBool::new(false);
    let (asked, failed) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(port, &settled, &stop));
        let moved = away_and_back(place, server.pid, boost, || {
            settled.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(700));
            settled.store(false, Ordering::SeqCst);
            Ok(())
        });
        stop.store(true, Ordering::SeqCst);
        let counts = asking.join().map_err(|_| "the asking panicked".to_owned())?;
        moved.map(|()| counts)
    })?;
    expect("new connections that failed after a move", &0, &failed)?;
    crate::say!(
        "            http://127.0.0.1:{port}/ of {} moved too: {asked} requests there and back at home, 0 failed",
        server.pid
    );
    Ok(())
}

/// Asks whenever nothing moves: how often, and how often in vain.
fn ask(port: u16, settled: &AtomicBool, stop: &AtomicBool) -> (u32, u32) {
    let (mut asked, mut failed) = (0, 0);
    while !stop.load(Ordering::SeqCst) {
        // A request that is being answered is a connection that would be cut, and refuses the move.
        if settled.load(Ordering::SeqCst) {
            asked += 1;
            failed += u32::from(!answers(port));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    (asked, failed)
}

fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text.contains("200 OK"))
    };
    ask().unwrap_or(false)
}
