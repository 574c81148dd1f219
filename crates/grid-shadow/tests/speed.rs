//! What the way through a shadow and a far costs against a plain pipe, in the same run. `cargo test --release -p grid-shadow
//! --test speed -- --ignored --nocapture`
#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

mod kit;

use kit::*;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

const GIB: usize = 1 << 30;
const LINES: usize = 3000;

/// Writes zeros and reads them back; what the two ends do is the same for both ways.
fn pump(mut into: impl Write + Send + 'static, mut from: impl Read, bytes: usize) -> f64 {
    let begun = Instant::now();
    let writer = std::thread::spawn(move || {
        let block = vec![0; 256 << 10];
        (0..bytes / block.len()).for_each(|_| into.write_all(&block).unwrap());
    });
    let (mut buffer, mut all) = (vec![0; 256 << 10], 0);
    loop {
        match from.read(&mut buffer).unwrap() {
            0 => break,
            n => all += n,
        }
    }
    writer.join().unwrap();
    assert_eq!(all, bytes);
    bytes as f64 / GIB as f64 / begun.elapsed().as_secs_f64()
}

/// User and system time.
fn cpu_s(pid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    [fields[11], fields[12]].map(|f| f.parse::<f64>().unwrap()).iter().sum::<f64>() / 100.0
}

/// Microseconds for a line there and back: the median, and the slowest of a hundred.
fn round_trips(mut into: impl Write, mut from: impl Read) -> (f64, f64) {
    let (mut line, mut taken) = ([b'x'; 40], Vec::with_capacity(LINES));
    line[39] = b'\n';
    for _ in 0..LINES {
        let begun = Instant::now();
        into.write_all(&line).unwrap();
        let mut got = [0; 40];
        from.read_exact(&mut got).unwrap();
        taken.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    taken.sort_by(f64::total_cmp);
    (taken[LINES / 2], taken[LINES * 99 / 100])
}

fn plain() -> (std::process::Child, std::process::ChildStdin, std::process::ChildStdout) {
    let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (into, from) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
    (cat, into, from)
}

fn relayed(command: &[String]) -> (Far, Home) {
    let far = Far::start(1, pipes(1 << 20), command);
    far.activate(None);
    let home = Home::start();
    home.join(&far);
    (far, home)
}

#[test]
#[ignore = "a measurement"]
fn a_relayed_stream_against_a_plain_pipe() {
    if skipped() {
        return;
    }
    let cat = vec!["cat".to_owned()];
    let (mut child, into, from) = plain();
    println!("plain pipe, through cat      {:.2} GiB/s", pump(into, from, 4 * GIB));
    child.wait().unwrap();
    let (_far, mut home) = relayed(&cat);
    println!(
        "relayed both ways, cat       {:.2} GiB/s",
        pump(home.stdin.take().unwrap(), home.stdout.take().unwrap(), 2 * GIB)
    );

    let (rx, tx) = std::io::pipe().unwrap();
    println!("plain pipe, one way          {:.2} GiB/s", pump(tx, rx, 8 * GIB));
    let (far, mut home) = relayed(&sh("head -c 4G /dev/zero; exec sleep 1000"));
    let mut from = home.stdout.take().unwrap();
    let mut buffer = vec![0; 256 << 10];
    let (begun, mut got) = (Instant::now(), 0);
    while got < 4 * GIB {
        got += from.read(&mut buffer).unwrap();
    }
    println!("relayed one way, head        {:.2} GiB/s", got as f64 / GIB as f64 / begun.elapsed().as_secs_f64());
    // What it costs does not hang on what else this machine does.
    for (name, pid) in [("shadow", home.pid()), ("far", far.init.pid)] {
        println!("  {name:<6} {:.2} s of a core for a GiB", cpu_s(pid) / 4.0);
    }
}

#[test]
#[ignore = "a measurement"]
fn a_relayed_line_against_a_plain_pipe() {
    if skipped() {
        return;
    }
    let (mut child, into, from) = plain();
    let (median, slow) = round_trips(into, from);
    println!("plain pipe, line there and back   median {median:.0} us, 99 % below {slow:.0} us");
    child.wait().unwrap();
    let (far, mut home) = relayed(&["cat".to_owned()]);
    let (into, from) = (home.stdin.take().unwrap(), home.stdout.take().unwrap());
    let (median, slow) = round_trips(&into, &from);
    println!("relayed, line there and back      median {median:.0} us, 99 % below {slow:.0} us");
    let rss = |pid| (status_kib(pid, "VmRSS:"), status_kib(pid, "RssAnon:"), status_kib(pid, "VmHWM:"));
    println!("shadow  resident, of it anonymous, most: {:?} KiB", rss(home.pid()));
    println!("far     resident, of it anonymous, most: {:?} KiB", rss(far.init.pid));
}
