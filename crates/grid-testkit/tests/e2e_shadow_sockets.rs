//! Unix sockets as standard streams, as node, inetd and their like give them to a child: they stay at home with its shadow, and
//! of what flows through them nothing is lost, repeated or reordered.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

#[allow(dead_code)] // each file of tests uses a part of it
mod shadow;

use shadow::{Job, links};
use std::process::Command;

/// A node program with a child, each of whose three streams is a socket of its own.
const NODE: &str = r#"
cat >child.py <<'E'
import sys
for n, line in enumerate(sys.stdin):
    print(line.strip(), "seen", flush=True)
    if n % 10 == 9: print(n + 1, file=sys.stderr, flush=True)
print("the end", file=sys.stderr, flush=True)
sys.exit(5)
E
cat >parent.js <<'E'
const fs = require('fs')
const child = require('child_process').spawn('/usr/bin/python3', ['child.py'], { stdio: 'pipe' })
const out = fs.openSync('out', 'w'), errors = fs.openSync('errors', 'w')
child.stdout.on('data', data => fs.writeSync(out, data))
child.stderr.on('data', data => fs.writeSync(errors, data))
let n = 0
const timer = setInterval(() => {
  child.stdin.write(`${n++}\n`)
  if (fs.existsSync('go')) { clearInterval(timer); child.stdin.end() }
}, 4)
child.on('close', (code, signal) => { fs.writeFileSync('sent', `${n}`); process.exitCode = code })
fs.writeFileSync('meant.new', `${child.pid}\n`)
fs.renameSync('meant.new', 'meant')
E
node parent.js
told $?
"#;

#[test]
fn a_child_of_node_moves_and_its_parent_notices_nothing() {
    if Command::new("node").arg("--version").output().is_err() {
        return println!("SKIPPED: needs node");
    }
    let Some(job) = Job::start(NODE) else { return };
    job.flows(20);
    let sockets = links(job.meant()).iter().filter(|link| link.starts_with("socket:")).count();
    assert_eq!(sockets, 3, "{:?}", links(job.meant()));
    let (pid, out) = job.move_meant();
    job.flows(100);
    let home = job.cluster.bring_home(out.record.id.as_str());
    job.flows(50);
    job.wait_title(pid, "@head");
    job.cluster.move_out(home.record.home_pid.unwrap());
    job.flows(50);
    job.go(0);
    assert_eq!(job.status(), "5");
    let sent: usize = job.guest.read("sent").parse().unwrap();
    job.all_came(sent);
    let errors = job.guest.read("errors");
    let want: String = (1..=sent / 10).map(|n| format!("{}\n", n * 10)).chain(["the end\n".to_owned()]).collect();
    assert_eq!(errors, want);
}

/// One socket is all three streams of a child that reads nothing before it may. What it then read it answers with a digest,
/// and after the end of its input with a last word.
const ONE: &str = r#"
cat >child.py <<'E'
import hashlib, os, sys, time
while not os.path.exists("go"): time.sleep(0.02)
h = hashlib.sha256()
while data := os.read(0, 4096): h.update(data)
os.write(1, h.hexdigest().encode() + b"\n")
os.write(2, b"the end\n")
E
cat >parent.py <<'E'
import hashlib, os, socket, subprocess, threading, time
ours, theirs = socket.socketpair()
child = subprocess.Popen(["/usr/bin/python3", "child.py"], stdin=theirs, stdout=theirs, stderr=theirs)
theirs.close()
with open("meant.new", "w") as f: f.write(f"{child.pid}\n")
os.rename("meant.new", "meant")
h, n = hashlib.sha256(), 0
while not os.path.exists("go") or n < 200:
    block = n.to_bytes(4, "big") * 1024
    h.update(block)
    ours.sendall(block)
    n += 1
    with open("sent", "w") as f: f.write(str(n))
    time.sleep(0.005)
ours.shutdown(socket.SHUT_WR)
said = ours.makefile().read()
with open("answer", "w") as f: f.write(f"{said == h.hexdigest() + chr(10) + 'the end' + chr(10)} {said}")
os._exit(child.wait())
E
/usr/bin/python3 parent.py
told $?
"#;

#[test]
fn what_a_child_has_not_read_of_its_one_socket_comes_to_it_once_wherever_it_is() {
    let Some(job) = Job::start(ONE) else { return };
    let sent = || job.guest.read("sent").trim().parse::<u32>().unwrap_or(0);
    // Some of it lies in the socket at home when it leaves, some beside the tree when it comes back.
    job.cluster.wait("something to lie there", || if sent() > 20 { Ok(()) } else { Err(sent()) });
    let (pid, out) = job.move_meant();
    job.cluster.wait("more to come", || if sent() > 60 { Ok(()) } else { Err(sent()) });
    job.cluster.bring_home(out.record.id.as_str());
    job.wait_title(pid, "@head");
    job.go(0);
    assert_eq!(job.status(), "0");
    let answer = job.guest.read("answer");
    assert!(answer.starts_with("True "), "{answer}");
}

/// As systemd starts a service: its output is a connection to the journal's named socket, of which the starter keeps nothing
/// and reads nothing.
const SERVICE: &str = r#"
cat >journal.py <<'E'
import os, socket, subprocess
door = socket.socket(socket.AF_UNIX); door.bind("journal"); door.listen()
out = socket.socket(socket.AF_UNIX); out.connect("journal"); out.shutdown(socket.SHUT_RD)
came, _ = door.accept()
child = subprocess.Popen(["/usr/bin/python3", "-u", "service.py"], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
out.close()
with open("meant.new", "w") as f: f.write(f"{child.pid}\n")
os.rename("meant.new", "meant")
with open("out", "wb", buffering=0) as kept:
    while data := came.recv(65536): kept.write(data)
os._exit(child.wait())
E
cat >service.py <<'E'
import os, time
n = 0
while not os.path.exists("go"):
    print(n, "seen"); n += 1; time.sleep(0.004)
open("sent", "w").write(str(n))
E
/usr/bin/python3 journal.py
told $?
"#;

#[test]
fn a_service_whose_output_is_the_journals_moves_and_the_journal_has_every_line() {
    let Some(job) = Job::start(SERVICE) else { return };
    job.flows(20);
    let (_, out) = job.move_meant();
    job.flows(50);
    job.cluster.bring_home(out.record.id.as_str());
    job.flows(50);
    job.go(0);
    assert_eq!(job.status(), "0");
    job.all_came(job.guest.read("sent").trim().parse().unwrap());
}
