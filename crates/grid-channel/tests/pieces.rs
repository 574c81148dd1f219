//! What crosses between both ends of a channel: fewer bytes where the link is slow, no more of memory than its limit allows,
//! and never other bytes than were sent.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_channel::{ChannelConfig, Identity, Side, run};
use grid_os::socket::Address;
use grid_types::Bytes;
use grid_types::wire::{Hello, PROTOCOL};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Nothing here takes so long but a hang.
const LIMIT: Duration = Duration::from_secs(60);

/// Both ends, and somebody in the middle who counts what the worker's end says to the head's.
struct Ends {
    dir: tempfile::TempDir,
    hub: UnixListener,
    wire: Arc<AtomicUsize>,
}

impl Ends {
    /// `rate`: the limit of memory at both. `spoiled`: which byte on the wire is changed.
    async fn start(rate: Option<u64>, spoiled: Option<usize>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["head", "worker", "workers"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        let pin = |name: &str| Identity::open(&at(name)).unwrap().pin();
        let of_head = pin("head");
        std::fs::write(at("workers/gpu1"), pin("worker").to_string()).unwrap();
        let (hub, wire) = (UnixListener::bind(at("hub.sock")).unwrap(), Arc::new(AtomicUsize::new(0)));
        let head = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let side =
            Side::Head { listen: vec![Address::Tcp(head)], direct: None, hub: at("hub.sock"), workers: at("workers") };
        let memory_rate = rate.map(Bytes);
        tokio::spawn(run(ChannelConfig { identity: at("head"), memory_rate, side }));
        let middle = middle(head, wire.clone(), spoiled).await;
        let side = Side::Worker { listen: at("worker.sock"), head: Address::Tcp(middle), direct: None, pin: of_head };
        tokio::spawn(run(ChannelConfig { identity: at("worker"), memory_rate, side }));
        while TcpStream::connect(head).await.is_err() || !at("worker.sock").exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Self { dir, hub, wire }
    }

    /// The agent's end and the hub's of one connection.
    async fn connection(&self) -> (UnixStream, UnixStream) {
        let agent = UnixStream::connect(self.dir.path().join("worker.sock")).await.unwrap();
        (agent, self.hub.accept().await.unwrap().0)
    }

    /// The agent says all of this, and its end: what the hub heard, and how long that took.
    async fn upward(&self, said: Vec<u8>) -> (Vec<u8>, Duration) {
        let (mut agent, mut hub) = self.connection().await;
        let began = Instant::now();
        let sender = tokio::spawn(async move {
            // Its end may be cut off before it has said all.
            let _ = agent.write_all(&said).await;
            let _ = agent.shutdown().await;
            agent
        });
        let mut heard = Vec::new();
        let _ = hub.read_to_end(&mut heard).await;
        drop(hub);
        drop(sender.await.unwrap());
        (heard, began.elapsed())
    }
}

async fn middle(head: SocketAddr, wire: Arc<AtomicUsize>, spoiled: Option<usize>) -> SocketAddr {
    let middle = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = middle.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (worker, _) = middle.accept().await.unwrap();
            let (mut from, mut back) = worker.into_split();
            let (mut answers, mut to) = TcpStream::connect(head).await.unwrap().into_split();
            tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
            let wire = wire.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(n) = from.read(&mut buffer).await {
                    let before = wire.fetch_add(n, Ordering::SeqCst);
                    if let Some(byte) = spoiled.and_then(|at| at.checked_sub(before)).filter(|at| *at < n) {
                        buffer[byte] ^= 1;
                    }
                    if n == 0 || to.write_all(&buffer[..n]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

fn greeted(hello: &Hello, rest: &[u8]) -> Vec<u8> {
    let json = serde_json::to_vec(hello).unwrap();
    [&(json.len() as u32).to_le_bytes(), &json[..], rest].concat()
}

fn memory(rest: &[u8]) -> Vec<u8> {
    greeted(
        &Hello::Data { protocol: PROTOCOL, token: "t".repeat(64), attempt: "o-1.1".into(), ticket: "u".repeat(64) },
        rest,
    )
}

/// Numbers in a row: a quarter of their bytes changes.
fn counted(bytes: usize) -> Vec<u8> {
    (0..bytes as u64 / 8).flat_map(|n| n.to_le_bytes()).collect()
}

fn random(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..bytes / 8).flat_map(|_| next().to_le_bytes()).collect()
}

async fn limited(work: impl Future<Output = ()>) {
    tokio::time::timeout(LIMIT, work).await.unwrap();
}

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_does_not_compress_takes_its_time_and_other_streams_none() {
    limited(async {
        let ends = Ends::start(Some(4 << 20), None).await;
        let said = memory(&random(6 * MIB));
        let (heard, took) = ends.upward(said.clone()).await;
        assert!(heard == said);
        assert!((1.3..2.5).contains(&took.as_secs_f64()), "6 MiB at 4 MiB/s took {took:?}");
        let files = Hello::Files { protocol: PROTOCOL, token: "t".into(), attempt: "o-1.1".into() };
        let (heard, took) = ends.upward(greeted(&files, &random(6 * MIB))).await;
        assert!(heard.len() > 6 * MIB && took < Duration::from_secs(1), "no memory, and took {took:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_streams_of_memory_share_one_limit_both_ways() {
    limited(async {
        let ends = Ends::start(Some(4 << 20), None).await;
        let began = Instant::now();
        let (one, other) = tokio::join!(ends.upward(memory(&random(3 * MIB))), ends.upward(memory(&random(3 * MIB))));
        assert!(one.0.len() > 3 * MIB && other.0.len() > 3 * MIB);
        let took = began.elapsed().as_secs_f64();
        assert!((1.3..2.5).contains(&took), "6 MiB at 4 MiB/s took {took}");
        // From the head: its end limits what it sends itself.
        let (mut agent, mut hub) = ends.connection().await;
        let hello = memory(&[]);
        agent.write_all(&hello).await.unwrap();
        let mut heard = vec![0; hello.len()];
        hub.read_exact(&mut heard).await.unwrap();
        let began = Instant::now();
        let sender = tokio::spawn(async move { hub.write_all(&random(4 * MIB)).await.map(|()| hub) });
        let mut got = vec![0; 4 * MIB];
        agent.read_exact(&mut got).await.unwrap();
        let took = began.elapsed().as_secs_f64();
        assert!(got == random(4 * MIB) && (0.8..2.0).contains(&took), "4 MiB at 4 MiB/s took {took}");
        drop(sender.await.unwrap());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_link_carries_what_compresses_in_fewer_bytes_and_sooner() {
    limited(async {
        let ends = Ends::start(Some(4 << 20), None).await;
        let said = memory(&counted(32 * MIB));
        let (heard, took) = ends.upward(said.clone()).await;
        assert!(heard == said);
        let wire = ends.wire.load(Ordering::SeqCst);
        assert!(wire < said.len() * 6 / 10, "{wire} bytes for {}", said.len());
        assert!(took < Duration::from_secs(6), "8 s at the limit as it is, and took {took:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_and_its_answer_do_not_wait_for_more() {
    limited(async {
        let ends = Ends::start(Some(64 << 20), None).await;
        let (mut agent, mut hub) = ends.connection().await;
        let mut byte = [0];
        let began = Instant::now();
        for n in 0..500u32 {
            agent.write_all(&[n as u8]).await.unwrap();
            hub.read_exact(&mut byte).await.unwrap();
            hub.write_all(&byte).await.unwrap();
            agent.read_exact(&mut byte).await.unwrap();
            assert_eq!(byte, [n as u8]);
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?} for 500", began.elapsed());
    })
    .await;
}

/// What a changed byte leaves of it: the beginning, or nothing.
async fn spoiled(rate: Option<u64>, said: Vec<u8>, at: usize) {
    let ends = Ends::start(rate, Some(at)).await;
    let (heard, _) = ends.upward(said.clone()).await;
    assert!(heard.len() < said.len(), "all of it arrived");
    assert!(said.starts_with(&heard), "other bytes arrived");
    assert!(heard.len() + 4 * MIB > at, "it broke off long before: {} bytes", heard.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_is_changed_on_the_way_ends_the_stream_and_never_arrives() {
    limited(async {
        spoiled(None, memory(&random(8 * MIB)), 5 * MIB).await;
        spoiled(Some(8 << 20), memory(&counted(16 * MIB)), 2 * MIB).await;
    })
    .await;
}

#[test]
fn what_is_written_of_an_end_is_read_as_before_the_limit_too() {
    let config = ChannelConfig {
        identity: Path::new("/x").into(),
        memory_rate: Some(Bytes(5 << 20)),
        side: Side::Worker {
            listen: "/x/agent.sock".into(),
            head: Address::Unix("/x/head.sock".into()),
            direct: None,
            pin: Identity::open(tempfile::tempdir().unwrap().path()).unwrap().pin(),
        },
    };
    let mut json = serde_json::to_value(&config).unwrap();
    let again: ChannelConfig = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(again.memory_rate, Some(Bytes(5 << 20)));
    // As the version before wrote it.
    json.as_object_mut().unwrap().remove("memory_rate");
    let again: ChannelConfig = serde_json::from_value(json).unwrap();
    assert_eq!(again.memory_rate, None);
}
