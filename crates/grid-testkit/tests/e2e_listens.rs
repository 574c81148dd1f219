//! A program that begins to listen while it is away is reached at home, at the same address, for as long as it listens; and where
//! nobody can listen for it there, that is said.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

#[allow(dead_code)] // each file of tests uses a part of it
mod shadow;

use grid_types::api::OffloadView;
use grid_types::event::{Event, Listens};
use grid_types::reason::ReasonCode;
use shadow::Job;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Listens at the port that the file `port` says, while it says one, and answers a line with its count.
const SERVER: &str = r#"
cat >serve.py <<'E'
import os, socket
def write(name, text):
    with open(name + ".tmp", "w") as f: f.write(text)
    os.rename(name + ".tmp", name)
def wanted():
    try: return int(open("port").read())
    except (OSError, ValueError): return None
write("meant", str(os.getpid()))
count, server, port = 0, None, None
while not os.path.exists("go"):
    if wanted() != port:
        if server: server.close()
        server, port = None, wanted()
        if port:
            server = socket.create_server(("127.0.0.1", port))
            server.settimeout(0.05)
        write("at", str(port))
    try:
        conn, _ = server.accept() if server else (None, None)
    except TimeoutError:
        continue
    if not conn:
        import time
        time.sleep(0.02)
        continue
    count += 1
    conn.settimeout(5)
    line = conn.makefile().readline()
    conn.sendall(f"{count} {line}".encode())
    conn.close()
E
/usr/bin/python3 serve.py
told $?
"#;

/// A port that is free, for now.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn ask(at: SocketAddr) -> std::io::Result<String> {
    let stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    (&stream).write_all(b"hello\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    if line.is_empty() { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(line) }
}

/// It is to listen there, or nowhere, and does so where it is.
fn listen(job: &Job, port: Option<u16>) {
    let text = port.map_or_else(String::new, |port| port.to_string());
    fs::write(job.guest.dir.join("port.new"), &text).unwrap();
    fs::rename(job.guest.dir.join("port.new"), job.guest.dir.join("port")).unwrap();
    let want = port.map_or_else(|| "None".to_owned(), |port| port.to_string());
    job.guest.wait_text("at", |at| at == want);
}

/// It is served there, by the process that has served so many. Whoever connects just when it moves may be counted, and cut off.
fn is_served(job: &Job, at: SocketAddr, count: u32) {
    let said = job.cluster.wait("it to be served", || ask(at));
    let (number, line) = said.split_once(' ').unwrap();
    assert!(line == "hello\n" && number.parse::<u32>().unwrap() >= count, "{said}");
}

fn shown(job: &Job, id: &str) -> Vec<Listens> {
    job.cluster.ask::<OffloadView>(&["offload", "show", id]).record.listens
}

fn is_shown(job: &Job, id: &str, at: SocketAddr) {
    job.cluster.wait("it to be shown", || {
        let now = shown(job, id);
        if now == [Listens { at, refused: None }] { Ok(()) } else { Err(now) }
    });
}

#[test]
fn it_is_reached_at_home_while_it_listens_and_after_it_came_home() {
    let Some(job) = Job::start(SERVER) else { return };
    let (pid, out) = job.move_meant();
    let id = out.record.id.to_string();
    let at = free_port();
    assert_eq!(ask(at).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    listen(&job, Some(at.port()));
    is_served(&job, at, 1);
    is_served(&job, at, 2);
    assert_eq!(shown(&job, &id), [Listens { at, refused: None }]);
    let said = job.cluster.grid(&["offload", "show", &id]).out;
    assert!(said.contains(&format!("listens    at {at}, and so does its shadow at home")), "{said}");

    // It stops to: so does its shadow.
    listen(&job, None);
    job.cluster.wait("nobody to listen at home", gone_at(at));
    job.cluster.wait("nothing to be shown", || if shown(&job, &id).is_empty() { Ok(()) } else { Err(()) });

    // Elsewhere, home, and out again.
    let at = free_port();
    listen(&job, Some(at.port()));
    is_served(&job, at, 3);
    let home = job.cluster.bring_home(&id);
    job.wait_title(pid, "@head");
    is_served(&job, at, 4);
    job.cluster.move_out(home.record.home_pid.unwrap());
    job.wait_title(pid, "@gpu1");
    is_served(&job, at, 5);
    job.go(0);
    assert_eq!(job.status(), "0");
    job.cluster.wait("nobody to listen at home", gone_at(at));
}

fn gone_at(at: SocketAddr) -> impl FnMut() -> Result<(), String> {
    move || match ask(at) {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn a_port_that_is_taken_at_home_is_said_and_taken_up_when_it_is_free() {
    let Some(job) = Job::start(SERVER) else { return };
    let (_, out) = job.move_meant();
    let id = out.record.id.to_string();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    listen(&job, Some(at.port()));
    let refused = job.cluster.wait("the refusal", || shown(&job, &id).pop().and_then(|l| l.refused).ok_or("none"));
    assert!(refused.contains("in use"), "{refused}");
    let said = job.cluster.grid(&["offload", "show", &id]).out;
    assert!(said.contains(&format!("at {at}, and nobody at home: {refused}")), "{said}");
    let told = |e: &Event| matches!(e, Event::OffloadListens { all, .. } if all[0].refused.is_some());
    assert!(job.cluster.events().iter().any(|e| told(&e.event)));

    // An agent that dies meanwhile forgets nothing that it does not see again.
    job.cluster.kill9(job.cluster.agent_pid("gpu1"));
    job.cluster.kill9(job.cluster.agent_pid("head"));
    job.cluster.wait_ready();
    drop(taken);
    is_served(&job, at, 1);
    is_shown(&job, &id, at);
    job.go(0);
    assert_eq!(job.status(), "0");
}

/// It cannot come home to a port that is another's there: that is said before anything is frozen, and it comes once the port is
/// free.
#[test]
fn a_recall_to_a_port_that_is_taken_is_refused() {
    let Some(job) = Job::start(SERVER) else { return };
    let (_, out) = job.move_meant();
    let id = out.record.id.to_string();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = other.local_addr().unwrap();
    listen(&job, Some(at.port()));
    job.cluster.wait("the refusal", || shown(&job, &id).pop().and_then(|l| l.refused).ok_or("none"));
    let (_, error) = job.cluster.refused(&["offload", "recall", &id]);
    assert!(error.code == Some(ReasonCode::Sock) && error.message.contains(&at.to_string()), "{error:?}");
    assert!(!job.cluster.events().iter().any(|e| matches!(e.event, Event::RecallStarted { .. })));
    drop(other);
    is_served(&job, at, 1);
    is_shown(&job, &id, at);
    job.cluster.bring_home(&id);
    is_served(&job, at, 2);
    job.go(0);
    assert_eq!(job.status(), "0");
}
