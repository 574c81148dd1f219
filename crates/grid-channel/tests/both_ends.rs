//! Both ends of a channel on real sockets: what crosses it, and who does not.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_channel::{ChannelConfig, Identity, Pin, Side, run};
use grid_os::socket::Address;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Nothing here takes so long but a hang.
const LIMIT: Duration = Duration::from_secs(30);

struct Ends {
    dir: tempfile::TempDir,
    head: SocketAddr,
    hub: UnixListener,
}

impl Ends {
    /// Both ends run. `known`: what the head is told to be the worker's certificate; `believed`: the worker, the head's.
    async fn start(known: impl Fn(Pin) -> Pin, believed: impl Fn(Pin) -> Pin) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pin = |name: &str| {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            Identity::open(&dir.path().join(name)).unwrap().pin()
        };
        let (of_head, of_worker) = (pin("head"), pin("worker"));
        std::fs::create_dir(dir.path().join("workers")).unwrap();
        std::fs::write(dir.path().join("workers/gpu1"), known(of_worker).to_string()).unwrap();
        let hub = UnixListener::bind(dir.path().join("hub.sock")).unwrap();
        let head = free_address().await;
        let side = Side::Head {
            listen: vec![Address::Tcp(head)],
            direct: None,
            hub: dir.path().join("hub.sock"),
            workers: dir.path().join("workers"),
        };
        tokio::spawn(run(ChannelConfig { identity: dir.path().join("head"), memory_rate: None, side }));
        let side = Side::Worker {
            listen: dir.path().join("worker.sock"),
            head: Address::Tcp(head),
            direct: None,
            pin: believed(of_head),
        };
        tokio::spawn(run(ChannelConfig { identity: dir.path().join("worker"), memory_rate: None, side }));
        let ends = Self { dir, head, hub };
        ends.until_up().await;
        ends
    }

    async fn until_up(&self) {
        while TcpStream::connect(self.head).await.is_err() || !self.socket().exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("worker.sock")
    }

    async fn agent(&self) -> UnixStream {
        UnixStream::connect(self.socket()).await.unwrap()
    }

    /// Another worker, and the socket of its end.
    async fn second(&self) -> PathBuf {
        let (identity, listen) = (self.dir.path().join("worker2"), self.dir.path().join("worker2.sock"));
        std::fs::create_dir(&identity).unwrap();
        std::fs::write(self.dir.path().join("workers/gpu2"), pin_in(&identity).to_string()).unwrap();
        let pin = pin_in(&self.dir.path().join("head"));
        let side = Side::Worker { listen: listen.clone(), head: Address::Tcp(self.head), direct: None, pin };
        tokio::spawn(run(ChannelConfig { identity, memory_rate: None, side }));
        while !listen.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        listen
    }

    /// Both ends of a new connection of this worker's, where it passes.
    async fn passes(&self, worker: &Path) -> Option<(UnixStream, UnixStream)> {
        let mut agent = UnixStream::connect(worker).await.unwrap();
        let mut byte = [0];
        tokio::select! {
            hub = self.hub.accept() => Some((agent, hub.unwrap().0)),
            _ = agent.read(&mut byte) => None,
        }
    }

    /// The agent's end of a connection is closed without a byte, and the hub never hears of it.
    async fn is_refused(&self, mut agent: impl AsyncReadExt + AsyncWriteExt + Unpin) {
        let _ = agent.write_all(b"hello").await;
        let mut said = Vec::new();
        let _ = agent.read_to_end(&mut said).await;
        assert!(!said.windows(5).any(|w| w == b"hello"));
        let heard = tokio::time::timeout(Duration::from_millis(200), self.hub.accept()).await;
        assert!(heard.is_err(), "the hub heard of it");
    }
}

async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// The pin of somebody else.
fn another(_: Pin) -> Pin {
    let dir = tempfile::tempdir().unwrap();
    Identity::open(dir.path()).unwrap().pin()
}

async fn limited(work: impl Future<Output = ()>) {
    tokio::time::timeout(LIMIT, work).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_cross_both_ways_and_an_end_is_passed_on() {
    limited(async {
        let ends = Ends::start(|pin| pin, |pin| pin).await;
        let mut agent = ends.agent().await;
        let (mut hub, _) = ends.hub.accept().await.unwrap();
        let sent: Vec<u8> = (0..5_000_000u32).map(|n| (n * 7) as u8).collect();
        let expected = sent.clone();
        let sender = tokio::spawn(async move {
            agent.write_all(&sent).await.unwrap();
            agent.shutdown().await.unwrap();
            agent
        });
        let mut got = Vec::new();
        hub.read_to_end(&mut got).await.unwrap();
        assert!(got == expected, "{} of {} bytes", got.len(), expected.len());
        // The other way is open still.
        hub.write_all(b"welcome").await.unwrap();
        drop(hub);
        let mut agent = sender.await.unwrap();
        let mut answer = String::new();
        agent.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "welcome");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_certificate_is_foreign_is_refused() {
    limited(async {
        let ends = Ends::start(another, |pin| pin).await;
        ends.is_refused(ends.agent().await).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_says_nothing_to_a_head_whose_certificate_is_foreign() {
    limited(async {
        let ends = Ends::start(|pin| pin, another).await;
        ends.is_refused(ends.agent().await).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_speak_tls_is_refused_and_others_are_served_meanwhile() {
    limited(async {
        let ends = Ends::start(|pin| pin, |pin| pin).await;
        // Strangers that say nothing, and one that says too much.
        let mut silent = Vec::new();
        for _ in 0..40 {
            silent.push(TcpStream::connect(ends.head).await.unwrap());
        }
        let stranger = TcpStream::connect(ends.head).await.unwrap();
        ends.is_refused(stranger).await;
        let mut agent = ends.agent().await;
        let (mut hub, _) = ends.hub.accept().await.unwrap();
        agent.write_all(b"hello").await.unwrap();
        let mut said = [0; 5];
        hub.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_crosses_is_not_readable_on_the_way() {
    limited(async {
        let ends = Ends::start(|pin| pin, |pin| pin).await;
        // Somebody in the middle, who passes on and keeps what it sees.
        let middle = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let side = Side::Worker {
            listen: ends.dir.path().join("past-middle.sock"),
            head: Address::Tcp(middle.local_addr().unwrap()),
            direct: None,
            pin: pin_in(&ends.dir.path().join("head")),
        };
        tokio::spawn(run(ChannelConfig { identity: ends.dir.path().join("worker"), memory_rate: None, side }));
        let head = ends.head;
        let seen = tokio::spawn(async move {
            let (mut from, _) = middle.accept().await.unwrap();
            let mut to = TcpStream::connect(head).await.unwrap();
            let mut seen = Vec::new();
            let (mut buffer, mut back) = (vec![0; 4096], vec![0; 4096]);
            loop {
                tokio::select! {
                    n = from.read(&mut buffer) => {
                        let n = n.unwrap_or(0);
                        if n == 0 { return seen; }
                        seen.extend_from_slice(&buffer[..n]);
                        to.write_all(&buffer[..n]).await.unwrap();
                    }
                    n = to.read(&mut back) => {
                        let n = n.unwrap_or(0);
                        if n == 0 { return seen; }
                        from.write_all(&back[..n]).await.unwrap();
                    }
                }
            }
        });
        let path = ends.dir.path().join("past-middle.sock");
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut agent = UnixStream::connect(path).await.unwrap();
        agent.write_all(b"a secret token").await.unwrap();
        agent.shutdown().await.unwrap();
        let (mut hub, _) = ends.hub.accept().await.unwrap();
        let mut said = String::new();
        hub.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "a secret token");
        drop((hub, agent));
        let seen = seen.await.unwrap();
        assert!(seen.len() > 100 && !seen.windows(6).any(|w| w == b"secret"));
    })
    .await;
}

fn pin_in(dir: &Path) -> Pin {
    Identity::open(dir).unwrap().pin()
}

/// Each of its connections says who it is, and nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn one_worker_cannot_take_the_room_of_all() {
    limited(async {
        let ends = Ends::start(|pin| pin, |pin| pin).await;
        let (first, second) = (ends.socket(), ends.second().await);
        let mut passing = Vec::new();
        while let Some(both) = ends.passes(&first).await {
            passing.push(both);
            assert!(passing.len() < 1000, "no end of them");
        }
        assert!(passing.len() >= 100, "{}", passing.len());
        assert!(ends.passes(&second).await.is_some());
        assert!(ends.passes(&first).await.is_none());
        // One that ends makes room.
        passing.pop();
        while ends.passes(&first).await.is_none() {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_taken_off_the_list_comes_no_more() {
    limited(async {
        let ends = Ends::start(|pin| pin, |pin| pin).await;
        let mut agent = ends.agent().await;
        agent.write_all(b"hello").await.unwrap();
        drop(ends.hub.accept().await.unwrap());
        std::fs::remove_file(ends.dir.path().join("workers/gpu1")).unwrap();
        ends.is_refused(ends.agent().await).await;
    })
    .await;
}
