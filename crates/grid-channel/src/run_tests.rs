use super::*;
use crate::identity::NAME;
use grid_types::Bytes;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio_rustls::client::TlsStream;

/// A head's end, its agent's listener, and a worker's end that speaks for itself.
struct Raw {
    _dir: tempfile::TempDir,
    hub: UnixListener,
    far: TlsStream<UnixStream>,
}

impl Raw {
    /// `how`: what the worker's end says of itself.
    async fn start(how: impl FnOnce(&mut ClientConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["head", "worker", "workers"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        let (of_head, of_worker) = (Identity::open(&at("head")).unwrap().pin(), Identity::open(&at("worker")).unwrap());
        std::fs::write(at("workers/gpu1"), of_worker.pin().to_string()).unwrap();
        let hub = UnixListener::bind(at("hub.sock")).unwrap();
        let side = Side::Head {
            listen: vec![Address::Unix(at("door.sock"))],
            direct: None,
            hub: at("hub.sock"),
            workers: at("workers"),
        };
        tokio::spawn(run(ChannelConfig { identity: at("head"), memory_rate: Some(Bytes(1 << 30)), side }));
        let mut config = pinned::client(of_worker, of_head).unwrap();
        how(&mut config);
        let stream = loop {
            match UnixStream::connect(at("door.sock")).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        };
        let name = ServerName::try_from(NAME).unwrap();
        let far = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        Self { _dir: dir, hub, far }
    }
}

/// An end of the version before knows no pieces: it is spoken to as it speaks, and nothing crosses but what was said.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_knows_no_pieces_gets_none() {
    let Raw { hub, far: mut old, _dir } = Raw::start(|config| config.alpn_protocols.clear()).await;
    old.write_all(b"hello").await.unwrap();
    let (mut near, _) = hub.accept().await.unwrap();
    let mut heard = [0; 5];
    near.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
    let said = vec![7; 1 << 20];
    let answer = said.clone();
    tokio::spawn(async move { near.write_all(&answer).await });
    let mut got = Vec::new();
    let _ = old.read_to_end(&mut got).await;
    assert!(got == said);
}

/// A worker's end that never says its last word holds nothing here once the agent has closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_far_end_that_stays_silent_is_dropped_soon_after_the_agent_has_closed() {
    let Raw { hub, mut far, _dir } = Raw::start(|_| {}).await;
    drop(hub.accept().await.unwrap());
    assert_eq!(far.read(&mut [0; 9]).await.unwrap(), 0);
    // What TLS crosses is closed, too.
    let (raw, _) = far.get_mut();
    let end = timeout(Duration::from_secs(60), raw.read(&mut [0; 9])).await;
    assert!(matches!(end, Ok(Ok(0) | Err(_))), "{end:?}");
}

/// Nor does a user's process at home that reads and writes nothing, once its tree's end has closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_near_end_that_stays_silent_is_dropped_soon_after_the_far_one_has_closed() {
    let Raw { hub, mut far, _dir } = Raw::start(|_| {}).await;
    let (near, _) = hub.accept().await.unwrap();
    far.shutdown().await.unwrap();
    let gone = async {
        while !near.ready(Interest::WRITABLE).await.unwrap().is_write_closed() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(60), gone).await.unwrap();
}
