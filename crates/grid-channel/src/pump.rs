//! Passing one way of a connection on: out to the other end in pieces, or in from it.

use crate::greeting::{Listener, Purpose};
use crate::piece::{self, HEAD, Head, PIECE, Packer};
use grid_core::link::{Bucket, Pace};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// What all memory streams that leave this end may take together.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    bucket: Arc<Mutex<Bucket>>,
    start: Instant,
}

impl Limit {
    /// Bytes a second.
    pub(crate) fn of(rate: u64) -> Self {
        Self { bucket: Arc::new(Mutex::new(Bucket::of(rate))), start: Instant::now() }
    }

    fn take(&self, bytes: usize) -> Duration {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.take(self.start.elapsed(), bytes as u64)
    }
}

/// The way out.
pub(crate) struct Outward<'a, W> {
    pub(crate) to: W,
    /// In pieces; else as it is, for an end that knows none.
    pub(crate) pieces: bool,
    pub(crate) limit: Option<&'a Limit>,
    pub(crate) purpose: &'a Purpose,
}

impl<W: AsyncWrite + Unpin> Outward<'_, W> {
    /// Passes everything on, and its end.
    pub(crate) async fn carry(mut self, mut from: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut listener = Listener::of(self.purpose);
        let (mut buffer, mut packer, mut pace) = (vec![0; HEAD + PIECE], Packer::default(), Pace::default());
        let start = Instant::now();
        loop {
            let (len, waited) = read(&mut from, &mut buffer[HEAD..]).await?;
            if len == 0 {
                return self.to.shutdown().await;
            }
            if waited {
                pace.idle();
            }
            listener.hear(&buffer[HEAD..HEAD + len]);
            let piece = &buffer[HEAD..HEAD + len];
            let packed = (self.pieces && pace.compress(len)).then(|| {
                let began = Instant::now();
                let packed = packer.pack(piece);
                pace.compressed(began.elapsed(), len, packed.map_or(len, <[u8]>::len));
                packed
            });
            // In one go with its head: each write becomes a record, and a packet.
            let bytes = match packed.flatten() {
                Some(packed) => packed,
                None if self.pieces => {
                    buffer[..HEAD].copy_from_slice(&Packer::plain(len));
                    &buffer[..HEAD + len]
                }
                None => piece,
            };
            let limit = self.limit.filter(|_| self.purpose.is_memory());
            let held = hold_back(limit, bytes.len(), start).await;
            let full = self.write(bytes, start).await?;
            pace.sent(bytes.len(), held.or(full));
        }
    }

    /// Hands all of it over. Says when the output took no more, if it did not take all at once, and how much it had then.
    async fn write(&mut self, bytes: &[u8], start: Instant) -> io::Result<Option<(Duration, usize)>> {
        let (mut done, mut full) = (0, None);
        poll_fn(|cx| {
            loop {
                let polled = match done {
                    done if done == bytes.len() => Pin::new(&mut self.to).poll_flush(cx).map_ok(|()| 0),
                    done => Pin::new(&mut self.to).poll_write(cx, &bytes[done..]),
                };
                if polled.is_pending() {
                    full.get_or_insert((start.elapsed(), done));
                }
                match ready!(polled)? {
                    0 if done == bytes.len() => return Poll::Ready(Ok(())),
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    n => done += n,
                }
            }
        })
        .await
        .map(|()| full)
    }
}

/// Waits for its turn, where there is a limit: when that began, since it is as if the link were full.
async fn hold_back(limit: Option<&Limit>, bytes: usize, start: Instant) -> Option<(Duration, usize)> {
    let wait = limit?.take(bytes);
    let now = start.elapsed();
    tokio::time::sleep(wait).await;
    (!wait.is_zero()).then_some((now, 0))
}

/// Reads what there is, and says whether that had to be waited for.
async fn read(from: &mut (impl AsyncRead + Unpin), into: &mut [u8]) -> io::Result<(usize, bool)> {
    let mut waited = false;
    let mut into = ReadBuf::new(into);
    poll_fn(|cx| {
        loop {
            let before = into.filled().len();
            let polled = Pin::new(&mut *from).poll_read(cx, &mut into);
            waited |= polled.is_pending() && before == 0;
            match polled {
                // TLS gives one record a time, and whoever reads what is passed on is woken by each piece of it.
                Poll::Ready(Ok(())) if into.filled().len() > before && into.remaining() > 0 => {}
                Poll::Pending if before > 0 => return Poll::Ready(Ok(())),
                polled => return polled,
            }
        }
    })
    .await?;
    Ok((into.filled().len(), waited))
}

/// The way in: passes everything on, and its end.
pub(crate) async fn inward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    pieces: bool,
    purpose: &Purpose,
) -> io::Result<()> {
    let mut listener = Listener::of(purpose);
    let mut buffer = vec![0; PIECE];
    let mut packed = Vec::new();
    loop {
        let head = if pieces { next_head(&mut from).await? } else { Some(Head::Plain(usize::MAX)) };
        match head {
            None => return to.shutdown().await,
            Some(Head::Plain(mut left)) => {
                // As it comes: the rest of a piece may take its time.
                while left > 0 {
                    let some = left.min(PIECE);
                    match read(&mut from, &mut buffer[..some]).await?.0 {
                        0 if !pieces => return to.shutdown().await,
                        0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                        n => {
                            listener.hear(&buffer[..n]);
                            to.write_all(&buffer[..n]).await?;
                            left -= n;
                        }
                    }
                }
            }
            Some(Head::Packed(len)) => {
                packed.resize(len, 0);
                from.read_exact(&mut packed).await?;
                let piece = piece::open(&packed, &mut buffer)?;
                listener.hear(piece);
                to.write_all(piece).await?;
            }
        }
    }
}

/// The next head; none where the other end has said all.
async fn next_head(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Head>> {
    let mut bytes = [0; HEAD];
    if from.read(&mut bytes[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut bytes[1..]).await?;
    piece::head(bytes).map(Some)
}
