//! Established TCP connections: a tree that has one stays, unless who moves it agrees that they are closed. Then each end sees
//! the end of it, and whoever connects afterwards is served, there and at home again.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest};
use grid_types::event::Event;
use grid_types::exit::FaultClass;
use grid_types::fault::{Effect, FaultPoint};
use grid_types::reason::ReasonCode;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const CONFIG: &str = "
name: connections
nodes:
  - {name: head, role: head, resource_sharing: {can_share: false}}
  - {name: gpu1, role: worker, resource_sharing: {can_share: true, max_share_cpu: 8, max_share_memory_gb: 4}}
";

/// Answers each line with `COUNT LINE`, a thread for each connection, and notes how each ended.
const SERVER: &str = r#"
import os, socket, threading
server = socket.create_server(("127.0.0.1", 0))
count = 0
def serve(conn):
    global count
    try:
        for line in conn.makefile("rb"):
            count += 1
            conn.sendall(b"%d %s" % (count, line))
        how = "end of file"
    except OSError as e:
        how = type(e).__name__
    with open("ends", "a") as f: f.write(how + "\n")
open("port.new", "w").write(str(server.getsockname()[1]))
os.rename("port.new", "port")
while True:
    threading.Thread(target=serve, args=server.accept()[:1], daemon=True).start()
"#;

struct Served {
    guest: Guest,
    cluster: Cluster,
    at: SocketAddr,
}

/// A client that stays.
struct Client(BufReader<TcpStream>);

impl Served {
    fn start() -> Option<Self> {
        Self::start_with("")
    }

    fn start_with(policy: &str) -> Option<Self> {
        let cluster = Cluster::faulty(&format!("{CONFIG}{policy}"))?;
        cluster.boost("--cpu 1 --memory 1GiB --duration 5m --from gpu1");
        let guest = Guest::python(&cluster, SERVER);
        let port: u16 = guest.wait_text("port", |text| !text.is_empty()).parse().unwrap();
        Some(Self { guest, cluster, at: ([127, 0, 0, 1], port).into() })
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect_timeout(&self.at, Duration::from_secs(5)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client(BufReader::new(stream))
    }

    /// Whoever connects is served, by the process that has served so many: at a return it refuses for a moment.
    fn serves(&self, count: u32) {
        let said = self.cluster.wait("it to serve", || -> std::io::Result<String> {
            let stream = TcpStream::connect(self.at)?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            Client(BufReader::new(stream)).asks("new")
        });
        let (number, line) = said.split_once(' ').unwrap();
        assert!(line == "new\n" && number.parse::<u32>().unwrap() >= count, "{said}");
    }
}

impl Client {
    fn asks(&mut self, what: &str) -> std::io::Result<String> {
        writeln!(self.0.get_mut(), "{what}")?;
        let mut line = String::new();
        match self.0.read_line(&mut line)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line),
        }
    }

    /// It asks this, and is answered as the one of this number.
    fn is_served(&mut self, count: u32, what: &str) {
        assert_eq!(self.asks(what).unwrap(), format!("{count} {what}\n"));
    }

    /// It sees the end of its connection.
    fn ends(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let read = self.0.read_to_end(&mut rest);
        let ended = read.as_ref().map_or_else(|e| e.kind() == std::io::ErrorKind::ConnectionReset, |_| true);
        assert!(ended && rest.is_empty(), "{read:?} {rest:?}");
    }
}

#[test]
fn they_are_closed_where_that_is_agreed_on_and_new_ones_are_served() {
    let Some(served) = Served::start() else { return };
    let mut old = served.connect();
    old.is_served(1, "old");
    let pid = served.guest.pid().to_string();

    // Not agreed: nothing begins.
    let (exit, error) = served.cluster.refused(&["offload", "execute", &pid]);
    assert_eq!((exit, error.class, error.code), (4, FaultClass::Refused, Some(ReasonCode::Tcp)), "{error:?}");
    assert!(error.hint.as_deref().unwrap_or_default().contains("--close-tcp"), "{error:?}");
    let begun = |e: &grid_types::event::EventRecord| matches!(e.event, Event::OffloadStarted { .. });
    assert!(!served.cluster.events().iter().any(begun));
    let would = served.cluster.grid(&["offload", "execute", &pid, "--close-tcp", "--dry-run"]);
    assert_eq!(would.code, 0, "{would:?}");
    old.is_served(2, "old");

    let said = served.cluster.grid(&["offload", "execute", &pid, "--close-tcp"]);
    println!("{}", said.out);
    assert!(said.code == 0 && said.out.contains("1 connection closed"), "{said:?}");
    old.ends();
    // The tree sees the end, too.
    served.guest.wait_text("ends", |text| text == "end of file\n");
    served.serves(3);

    // The way home: who was served through the relay is connected there.
    let mut there = served.connect();
    there.is_served(4, "there");
    let (exit, error) = served.cluster.refused(&["offload", "recall", &pid]);
    assert_eq!((exit, error.code), (4, Some(ReasonCode::Tcp)), "{error:?}");
    there.is_served(5, "there");
    let said = served.cluster.grid(&["offload", "recall", &pid, "--close-tcp"]);
    println!("{}", said.out);
    assert_eq!(said.code, 0, "{said:?}");
    there.ends();
    served.serves(6);
}

#[test]
fn a_move_that_fails_before_its_commit_leaves_them_as_they_are() {
    let Some(served) = Served::start() else { return };
    let mut old = served.connect();
    old.is_served(1, "old");
    let armed = served.cluster.arm("gpu1", FaultPoint::Gate, Effect::Fail);
    let said = served.cluster.grid(&["offload", "execute", &served.guest.pid().to_string(), "--close-tcp"]);
    assert_ne!(said.code, 0, "{said:?}");
    drop(armed);
    old.is_served(2, "old");
    served.serves(3);
}

#[test]
fn they_are_closed_without_a_word_where_the_policy_says_so() {
    let Some(served) = Served::start_with("detector:\n  tcp_connections: close\n") else { return };
    let mut old = served.connect();
    old.is_served(1, "old");
    let explained = served.cluster.grid(&["explain", &served.guest.pid().to_string()]).out;
    assert!(explained.contains("a connection to 127.0.0.1:") && explained.contains("will be closed"), "{explained}");
    let out = served.cluster.move_out(served.guest.pid());
    old.ends();
    served.serves(2);
    served.cluster.bring_home(out.record.id.as_str());
    served.serves(3);
}
