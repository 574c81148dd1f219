//! The first byte each way of a direct connection, within TLS.
//!
//! In TLS 1.3 the dialling end is done before the other has looked at its certificate: only the answer says that it was let
//! in. Through ssh nobody asks: there is no other way left to take.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const LINK: u8 = b'L';
const PROBE: u8 = b'P';
const COME_IN: u8 = b'I';

/// What somebody knocks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knock {
    /// To be passed on to the head's agent.
    Link,
    /// To find out whether it could be.
    Probe,
}

/// Knocks, and waits to be let in.
pub(crate) async fn knock(door: &mut (impl AsyncRead + AsyncWrite + Unpin), why: Knock) -> io::Result<()> {
    let byte = if why == Knock::Link { LINK } else { PROBE };
    door.write_all(&[byte]).await?;
    door.flush().await?;
    match door.read_u8().await {
        Ok(COME_IN) => Ok(()),
        Ok(other) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("the head answered with byte {other}"))),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the head took the connection and let nobody in"))
        }
        Err(e) => Err(e),
    }
}

/// Lets in who knocked.
pub(crate) async fn let_in(who: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Knock> {
    let why = match who.read_u8().await? {
        LINK => Knock::Link,
        PROBE => Knock::Probe,
        other => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it knocked with byte {other}"))),
    };
    who.write_all(&[COME_IN]).await?;
    who.flush().await?;
    Ok(why)
}
