//! The direct way to the head beside the one that ssh brings: which is taken, what is said of it, and strangers at the door.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_channel::{ChannelConfig, Identity, LINK_FILE, Pin, Side, run};
use grid_os::socket::Address;
use grid_types::facts::{LinkFacts, Way};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

/// Nothing here takes so long but a hang.
const LIMIT: Duration = Duration::from_secs(30);

struct Ends {
    dir: tempfile::TempDir,
    hub: UnixListener,
}

impl Ends {
    /// A worker's end that is told this address, and the way through ssh; `known`: what the head takes for its certificate.
    async fn start(direct: impl ToString, known: impl Fn(Pin) -> Pin) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let pin = |name: &str| {
            std::fs::create_dir(at(name)).unwrap();
            Identity::open(&at(name)).unwrap().pin()
        };
        let (of_head, of_worker) = (pin("head"), pin("worker"));
        std::fs::create_dir(at("workers")).unwrap();
        std::fs::write(at("workers/gpu1"), known(of_worker).to_string()).unwrap();
        let hub = UnixListener::bind(at("hub.sock")).unwrap();
        let side = Side::Worker {
            listen: at("worker.sock"),
            head: Address::Unix(at("door.sock")),
            direct: Some(direct.to_string()),
            pin: of_head,
        };
        tokio::spawn(run(ChannelConfig { identity: at("worker"), memory_rate: None, side }));
        until(|| at("worker.sock").exists()).await;
        Self { dir, hub }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The head's end, at the socket that stands for ssh's and at this address.
    async fn head(&self, direct: Option<SocketAddr>) {
        let side = Side::Head {
            listen: vec![Address::Unix(self.at("door.sock"))],
            direct,
            hub: self.at("hub.sock"),
            workers: self.at("workers"),
        };
        tokio::spawn(run(ChannelConfig { identity: self.at("head"), memory_rate: None, side }));
        until(|| self.at("door.sock").exists()).await;
    }

    async fn agent(&self) -> UnixStream {
        UnixStream::connect(self.at("worker.sock")).await.unwrap()
    }

    /// A word crosses to the hub, and one back.
    async fn passes(&self) {
        let mut agent = self.agent().await;
        agent.write_all(b"hello").await.unwrap();
        let (mut hub, _) = self.hub.accept().await.unwrap();
        let mut heard = [0; 5];
        hub.read_exact(&mut heard).await.unwrap();
        hub.write_all(b"world").await.unwrap();
        let mut answer = [0; 5];
        agent.read_exact(&mut answer).await.unwrap();
        assert_eq!((&heard, &answer), (b"hello", b"world"));
    }

    fn said(&self) -> Option<LinkFacts> {
        serde_json::from_slice(&std::fs::read(self.at("worker").join(LINK_FILE)).ok()?).ok()
    }

    fn way(&self) -> Option<Way> {
        self.said().map(|said| said.way)
    }

    /// Connections go by ssh, for this reason.
    fn goes_by_ssh(&self, because: &str) {
        let said = self.said().unwrap();
        assert!(said.way == Way::Ssh && said.why.as_ref().unwrap().contains(because), "{said:?}");
    }
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn limited(work: impl Future<Output = ()>) {
    tokio::time::timeout(LIMIT, work).await.unwrap();
}

fn another(_: Pin) -> Pin {
    let dir = tempfile::tempdir().unwrap();
    Identity::open(dir.path()).unwrap().pin()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_direct_way_is_taken_where_it_is_open_and_needs_no_ssh() {
    limited(async {
        let at = free_address().await;
        let ends = Ends::start(at, |pin| pin).await;
        assert_eq!(ends.said(), None);
        ends.head(Some(at)).await;
        until_open(at).await;
        std::fs::remove_file(ends.at("door.sock")).unwrap();
        ends.passes().await;
        assert_eq!(ends.said(), Some(LinkFacts { way: Way::Direct, address: at.to_string(), why: None }));
    })
    .await;
}

/// The head listens at one family's address; the worker's resolver makes it of a name.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_and_an_address_of_ipv6_are_dialled_as_they_are_written() {
    limited(async {
        let Ok(listener) = TcpListener::bind("[::1]:0").await else {
            return println!("SKIPPED: this machine has no IPv6");
        };
        let six = listener.local_addr().unwrap();
        drop(listener);
        let four = free_address().await;
        for (at, dial) in [(six, six.to_string()), (four, format!("localhost:{}", four.port()))] {
            let ends = Ends::start(&dial, |pin| pin).await;
            ends.head(Some(at)).await;
            until_open(at).await;
            ends.passes().await;
            assert_eq!(ends.said(), Some(LinkFacts { way: Way::Direct, address: dial, why: None }));
        }
        let ends = Ends::start("nobody.invalid:7443", |pin| pin).await;
        ends.head(None).await;
        ends.passes().await;
        assert_eq!(ends.way(), Some(Way::Ssh), "{:?}", ends.said());
    })
    .await;
}

async fn until_open(at: SocketAddr) {
    while TcpStream::connect(at).await.is_err() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_listens_ssh_is_taken_until_something_does() {
    limited(async {
        let at = free_address().await;
        let ends = Ends::start(at, |pin| pin).await;
        // The address is somebody else's for now: the head's end goes on without it, and takes it when it is free.
        let other = TcpListener::bind(at).await.unwrap();
        ends.head(Some(at)).await;
        drop(other);
        ends.passes().await;
        ends.goes_by_ssh("refused");
        // Nobody dials meanwhile.
        until(|| ends.way() == Some(Way::Direct)).await;
        std::fs::remove_file(ends.at("door.sock")).unwrap();
        ends.passes().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_says_nothing_holds_up_one_connection_for_two_seconds() {
    limited(async {
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ends = Ends::start(mute.local_addr().unwrap(), |pin| pin).await;
        ends.head(None).await;
        let began = Instant::now();
        ends.passes().await;
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        ends.goes_by_ssh("no answer within 2 s");
        let began = Instant::now();
        ends.passes().await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_certificate_is_foreign_is_let_in_at_neither_door() {
    limited(async {
        let at = free_address().await;
        let ends = Ends::start(at, another).await;
        ends.head(Some(at)).await;
        until_open(at).await;
        let mut agent = ends.agent().await;
        let _ = agent.write_all(b"hello").await;
        assert_eq!(agent.read_to_end(&mut Vec::new()).await.unwrap_or(0), 0);
        let heard = tokio::time::timeout(Duration::from_millis(200), ends.hub.accept()).await;
        assert!(heard.is_err(), "the hub heard of it");
        assert_eq!(ends.way(), Some(Way::Ssh));
    })
    .await;
}

/// Whoever listens there knows none of the head's keys.
#[tokio::test(flavor = "multi_thread")]
async fn an_impostor_at_the_head_s_address_is_not_spoken_to() {
    limited(async {
        let at = free_address().await;
        let ends = Ends::start(at, |pin| pin).await;
        let impostor = Ends::start(free_address().await, |pin| pin).await;
        impostor.head(Some(at)).await;
        until_open(at).await;
        ends.head(None).await;
        ends.passes().await;
        ends.goes_by_ssh("certificate");
        let heard = tokio::time::timeout(Duration::from_millis(200), impostor.hub.accept()).await;
        assert!(heard.is_err(), "the impostor's hub heard of it");
    })
    .await;
}

/// A connection from another address than the worker's.
async fn stranger(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// It is closed by the other end, which says nothing of ours.
async fn closed(mut stranger: TcpStream) -> Duration {
    let began = Instant::now();
    let mut said = Vec::new();
    let _ = stranger.read_to_end(&mut said).await;
    assert!(said.len() < 64, "{} bytes were said to a stranger", said.len());
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_sent_away_and_keep_no_worker_out() {
    limited(async {
        let at = free_address().await;
        let ends = Ends::start(at, |pin| pin).await;
        ends.head(Some(at)).await;
        until_open(at).await;
        // What no TLS is: at once.
        let mut garbage = stranger(at).await;
        garbage.write_all(&[0x47; 4096]).await.unwrap();
        assert!(closed(garbage).await < Duration::from_secs(2));
        // Hundreds that say nothing: some wait, and the others are sent away as they come.
        let mut crowd = Vec::new();
        for _ in 0..300 {
            crowd.push(tokio::spawn(closed(stranger(at).await)));
        }
        ends.passes().await;
        assert_eq!(ends.way(), Some(Way::Direct));
        let mut waited = 0;
        for one in crowd {
            let held = one.await.unwrap();
            assert!(held < Duration::from_secs(8), "{held:?}");
            waited += u32::from(held > Duration::from_secs(4));
        }
        assert!((1..=32).contains(&waited), "{waited} of 300 were waited for");
        ends.passes().await;
        let heard = tokio::time::timeout(Duration::from_millis(200), ends.hub.accept()).await;
        assert!(heard.is_err(), "the hub heard of a stranger");
    })
    .await;
}

#[test]
fn an_end_that_was_told_no_direct_way_reads_as_before() {
    let dir = Path::new("/x");
    let side =
        Side::Worker { listen: dir.join("a"), head: Address::Unix(dir.join("b")), direct: None, pin: another_pin() };
    let mut json = serde_json::to_value(&side).unwrap();
    json["Worker"].as_object_mut().unwrap().remove("direct");
    assert!(matches!(serde_json::from_value(json).unwrap(), Side::Worker { direct: None, .. }));
}

fn another_pin() -> Pin {
    Identity::open(tempfile::tempdir().unwrap().path()).unwrap().pin()
}
