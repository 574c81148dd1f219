//! Frames on a byte stream: a little-endian `u32` length and that much JSON. Knows nothing of what they mean.

use grid_types::wire::MAX_FRAME;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

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
    let len = from.read_u32_le().await.map_err(io(peer))? as usize;
    if len > MAX_FRAME {
        return Err(LinkError::Garbled { peer: peer.to_owned(), detail: format!("{len} bytes announced") });
    }
    let mut bytes = vec![0u8; len];
    from.read_exact(&mut bytes).await.map_err(io(peer))?;
    serde_json::from_slice(&bytes).map_err(|e| LinkError::Garbled { peer: peer.to_owned(), detail: e.to_string() })
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
