//! Frames on a byte stream: a little-endian `u32` length and that much JSON. Knows nothing of what they mean.
//!
//! What arrives is not believed: a length is bounded before anything is read, memory is taken as bytes come and not as
//! they are announced, and who has not said who he is gets a short while and few bytes to do so.

use grid_types::wire::{Frame, Hello, MAX_FRAME, Outline};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{Read, Write};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// No greeting is longer, and none takes longer.
const MAX_HELLO: usize = 16 << 10;
const HELLO_WITHIN: Duration = Duration::from_secs(5);

/// What can fail on a link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The socket.
    #[error("link to {peer}: {source}")]
    Io {
        /// The other end.
        peer: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// Bytes that are not a frame.
    #[error("link to {peer}: not a frame of grid: {detail}")]
    Garbled {
        /// The other end.
        peer: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The other end said no.
    #[error("{peer} refuses this agent: {detail}")]
    Refused {
        /// The other end.
        peer: String,
        /// Why.
        detail: String,
    },
}

/// Names the peer in an I/O error.
pub fn io(peer: &str) -> impl FnOnce(std::io::Error) -> LinkError {
    let peer = peer.to_owned();
    move |source| LinkError::Io { peer, source }
}

/// Reads one frame.
pub async fn read_frame<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin), peer: &str) -> Result<T, LinkError> {
    read_within(from, MAX_FRAME, peer).await
}

/// What a link brought.
#[derive(Debug)]
pub enum Heard {
    /// A frame.
    Frame(Frame),
    /// One that another version of grid knows, and this one does not.
    Unknown(Outline),
}

/// Reads one frame of a link between daemons, of at most so many bytes.
///
/// # Errors
/// The link broke, or these bytes are no frame of any version.
pub async fn read_heard(from: &mut (impl AsyncRead + Unpin), most: usize, peer: &str) -> Result<Heard, LinkError> {
    let bytes = bytes_within(from, most, peer).await?;
    match parsed(&bytes, peer) {
        Ok(frame) => Ok(Heard::Frame(frame)),
        Err(e) => serde_json::from_slice(&bytes).map(Heard::Unknown).map_err(|_| e),
    }
}

/// Reads the first frame of a connection whose other end nobody knows yet.
pub async fn read_hello(from: &mut (impl AsyncRead + Unpin), peer: &str) -> Result<Hello, LinkError> {
    match tokio::time::timeout(HELLO_WITHIN, read_within(from, MAX_HELLO, peer)).await {
        Ok(hello) => hello,
        Err(_) => Err(io(peer)(std::io::Error::new(std::io::ErrorKind::TimedOut, "it did not say who it is"))),
    }
}

async fn read_within<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
    most: usize,
    peer: &str,
) -> Result<T, LinkError> {
    parsed(&bytes_within(from, most, peer).await?, peer)
}

async fn bytes_within(from: &mut (impl AsyncRead + Unpin), most: usize, peer: &str) -> Result<Vec<u8>, LinkError> {
    let len = from.read_u32_le().await.map_err(io(peer))? as usize;
    if len > most {
        return Err(LinkError::Garbled { peer: peer.to_owned(), detail: format!("{len} bytes announced") });
    }
    let mut bytes = Vec::new();
    if from.take(len as u64).read_to_end(&mut bytes).await.map_err(io(peer))? < len {
        return Err(io(peer)(std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(bytes)
}

fn parsed<T: DeserializeOwned>(bytes: &[u8], peer: &str) -> Result<T, LinkError> {
    serde_json::from_slice(bytes).map_err(|e| LinkError::Garbled { peer: peer.to_owned(), detail: e.to_string() })
}

/// Sends one frame on a blocking stream.
pub fn send<T: Serialize>(to: &mut impl Write, frame: &T) -> std::io::Result<()> {
    let json = serde_json::to_vec(frame)?;
    to.write_all(&(json.len() as u32).to_le_bytes())?;
    to.write_all(&json)
}

/// Takes what [`send`] sends, where it is at most `most` bytes.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read, most: usize) -> std::io::Result<T> {
    let mut len = [0u8; 4];
    from.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len) as usize;
    if len > most {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{len} bytes announced")));
    }
    let mut json = Vec::new();
    if from.take(len as u64).read_to_end(&mut json)? < len {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&json)?)
}

/// Writes one frame.
pub async fn write_frame<T: Serialize>(
    to: &mut (impl AsyncWrite + Unpin),
    frame: &T,
    peer: &str,
) -> Result<(), LinkError> {
    let json =
        serde_json::to_vec(frame).map_err(|e| LinkError::Garbled { peer: peer.to_owned(), detail: e.to_string() })?;
    let mut bytes = Vec::with_capacity(json.len() + 4);
    bytes.extend((json.len() as u32).to_le_bytes());
    bytes.extend(json);
    to.write_all(&bytes).await.map_err(io(peer))?;
    to.flush().await.map_err(io(peer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use grid_types::wire::Manifest;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(work)
    }

    #[test]
    fn a_manifest_crosses_whole_and_a_huge_one_is_refused() {
        let manifest = Manifest {
            processes: 2,
            threads: 3,
            executables: vec!["/bin/sh".into()],
            streams: None,
            files: Vec::new(),
            private_tmp: true,
        };
        let mut stream = Vec::new();
        send(&mut stream, &manifest).unwrap();
        assert_eq!(receive::<Manifest>(&mut stream.as_slice(), 1 << 10).unwrap(), manifest);
        assert!(receive::<Manifest>(&mut stream.as_slice(), stream.len() - 5).is_err());
        assert!(receive::<Manifest>(&mut &stream[..stream.len() - 1], 1 << 10).is_err());
    }

    #[test]
    fn a_stranger_gets_few_bytes_and_a_short_while() {
        block_on(async {
            let long = 16_385u32.to_le_bytes();
            assert!(matches!(read_hello(&mut long.as_slice(), "x").await, Err(LinkError::Garbled { .. })));
            // Says nothing, and keeps the connection.
            let (_silent, mut ours) = tokio::io::duplex(64);
            let error = read_hello(&mut ours, "x").await.unwrap_err();
            assert!(matches!(error, LinkError::Io { source, .. } if source.kind() == std::io::ErrorKind::TimedOut));
        });
    }

    #[test]
    fn half_a_frame_is_an_end_and_no_frame() {
        block_on(async {
            let half = [8u32.to_le_bytes().as_slice(), b"\"ab"].concat();
            assert!(matches!(read_frame::<String>(&mut half.as_slice(), "x").await, Err(LinkError::Io { .. })));
            let whole = [4u32.to_le_bytes().as_slice(), b"\"ab\""].concat();
            assert_eq!(read_frame::<String>(&mut whole.as_slice(), "x").await.unwrap(), "ab");
        });
    }

    #[test]
    fn what_another_version_says_is_told_apart_from_noise() {
        let framed = |text: &str| [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
        let heard = |text: &str| block_on(async { read_heard(&mut framed(text).as_slice(), MAX_FRAME, "x").await });
        let known = r#"{"from":"daemon","to":{"agent":"gpu1"},"body":{"body":"request","id":7,"request":{"request":"holdings"},"more":1}}"#;
        assert!(matches!(heard(known).unwrap(), Heard::Frame(_)), "a field more");
        let asks = |text: &str| match heard(text) {
            Ok(Heard::Unknown(outline)) => Some(outline.asks()),
            _ => None,
        };
        assert_eq!(asks(&known.replace("holdings", "dance")), Some(Some(7)));
        assert_eq!(
            asks(r#"{"from":{"agent":"gpu1"},"to":{"agent":"head"},"body":{"body":"sing","id":7}}"#),
            Some(None)
        );
        for noise in
            ["{}", "[]", r#"{"from":"daemon","to":"daemon"}"#, r#"{"from":7,"to":"daemon","body":{"body":"sing"}}"#]
        {
            assert!(matches!(heard(noise), Err(LinkError::Garbled { .. })), "{noise}");
        }
    }
}
