use super::*;
use crate::identity::NAME;
use grid_types::Bytes;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// An end of the version before knows no pieces: it is spoken to as it speaks, and nothing crosses but what was said.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_knows_no_pieces_gets_none() {
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
    config.alpn_protocols.clear();
    let stream = loop {
        match UnixStream::connect(at("door.sock")).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    };
    let name = ServerName::try_from(NAME).unwrap();
    let mut old = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
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
