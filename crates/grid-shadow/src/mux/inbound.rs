//! What comes in: headers through a small buffer, payload straight into its channel.

use super::wire::{HEADER, Header, Hello, Kind};
use super::{CONNECTIONS, Link, Mux, ProtocolError};

/// Room for headers and short payload.
const SCRATCH: usize = 4 << 10;

/// The state of the parser.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    scratch: Vec<u8>,
    filled: usize,
    payload: Payload,
}

/// What follows a header that was taken.
#[derive(Clone, Copy, Debug, Default)]
enum Payload {
    #[default]
    None,
    Data {
        channel: u32,
        left: usize,
    },
    Skip {
        left: usize,
    },
    Hello {
        len: usize,
    },
}

impl Inbound {
    /// The rest of a frame of this channel goes nowhere; how much that is.
    pub(super) fn forget(&mut self, channel: u32) -> usize {
        match self.payload {
            Payload::Data { channel: c, left } if c == channel => {
                self.payload = Payload::Skip { left };
                left
            }
            _ => 0,
        }
    }

    pub(super) fn shrink(&mut self) {
        if self.filled == 0 {
            self.scratch = Vec::new();
        }
    }

    fn rest(&mut self) -> &mut [u8] {
        let room = match self.payload {
            Payload::Hello { len } => len.max(SCRATCH),
            _ => SCRATCH,
        };
        if self.scratch.len() < room {
            self.scratch.resize(room, 0);
        }
        &mut self.scratch[self.filled..]
    }
}

impl Mux {
    /// Where the next bytes of the connection go; followed by [`Self::filled`]. Empty without a connection.
    pub fn space(&mut self) -> &mut [u8] {
        let Some(link) = &mut self.link else { return &mut [] };
        if let Payload::Data { channel, left } = link.inbound.payload {
            return self.receivers.get_mut(&channel).map_or(&mut [], |r| r.space(left));
        }
        link.inbound.rest()
    }

    /// That many bytes were read into the slice.
    ///
    /// # Errors
    /// What the other end sent cannot be: this connection is over.
    pub fn filled(&mut self, n: usize) -> Result<(), ProtocolError> {
        let Some(mut link) = self.link.take() else { return Ok(()) };
        let taken = self.take_in(&mut link, n);
        self.link = Some(link);
        taken
    }

    fn take_in(&mut self, link: &mut Link, n: usize) -> Result<(), ProtocolError> {
        if let Payload::Data { channel, left } = link.inbound.payload {
            if let Some(receiver) = self.receivers.get_mut(&channel) {
                receiver.filled(n);
            }
            link.inbound.payload = if left > n { Payload::Data { channel, left: left - n } } else { Payload::None };
            return Ok(());
        }
        link.inbound.filled += n;
        let scratch = std::mem::take(&mut link.inbound.scratch);
        let used = self.parse(link, &scratch);
        link.inbound.scratch = scratch;
        let used = used?;
        let inbound = &mut link.inbound;
        inbound.scratch.copy_within(used..inbound.filled, 0);
        inbound.filled -= used;
        Ok(())
    }

    /// Takes what is there of `scratch`, and says how much that was.
    fn parse(&mut self, link: &mut Link, scratch: &[u8]) -> Result<usize, ProtocolError> {
        let (mut at, end) = (0, link.inbound.filled);
        loop {
            let rest = &scratch[at..end];
            match link.inbound.payload {
                Payload::None => {
                    let Some(header) = rest.first_chunk::<HEADER>() else { return Ok(at) };
                    let header = Header::parse(header)?;
                    at += HEADER;
                    link.inbound.payload = self.begin(link, &header)?;
                }
                Payload::Hello { len } => {
                    let Some(payload) = rest.get(..len) else { return Ok(at) };
                    self.greeted(link, &Hello::parse(payload)?)?;
                    at += len;
                    link.inbound.payload = Payload::None;
                }
                Payload::Data { channel, left } => {
                    let n = rest.len().min(left);
                    if let Some(receiver) = self.receivers.get_mut(&channel) {
                        receiver.take(&rest[..n]);
                    }
                    at += n;
                    link.inbound.payload =
                        if left > n { Payload::Data { channel, left: left - n } } else { Payload::None };
                    if left > n {
                        return Ok(at);
                    }
                }
                Payload::Skip { left } => {
                    let n = rest.len().min(left);
                    at += n;
                    link.inbound.payload = if left > n { Payload::Skip { left: left - n } } else { Payload::None };
                    if left > n {
                        return Ok(at);
                    }
                }
            }
        }
    }

    /// A channel that was closed, and whose frames were on their way.
    fn was_closed(&self, channel: u32) -> bool {
        (CONNECTIONS..=self.highest).contains(&channel)
    }

    fn begin(&mut self, link: &Link, header: &Header) -> Result<Payload, ProtocolError> {
        let Header { kind, channel, offset, len } = *header;
        if link.greeted == (kind == Kind::Hello) {
            return Err(ProtocolError::Hello);
        }
        let closed = self.was_closed(channel);
        match kind {
            Kind::Hello => return Ok(Payload::Hello { len }),
            Kind::Data | Kind::End => match self.receivers.get_mut(&channel) {
                Some(receiver) if kind == Kind::End => receiver.ends(offset)?,
                Some(receiver) => {
                    receiver.expects(offset, len)?;
                    if receiver.broken {
                        receiver.pass_over(len);
                        return Ok(Payload::Skip { left: len });
                    }
                    return Ok(Payload::Data { channel, left: len });
                }
                None if closed => return Ok(Payload::Skip { left: len }),
                None => return Err(ProtocolError::Channel(channel)),
            },
            Kind::Ack | Kind::Broken => match self.senders.get_mut(&channel) {
                Some(sender) if kind == Kind::Ack => sender.ack(offset)?,
                Some(_) => self.reader_gone(link, channel),
                None if closed => {}
                None => return Err(ProtocolError::Channel(channel)),
            },
        }
        Ok(if len > 0 { Payload::Skip { left: len } } else { Payload::None })
    }

    fn reader_gone(&mut self, link: &Link, channel: u32) {
        if let Some(sender) = self.senders.get_mut(&channel) {
            sender.broken = true;
            if !link.outbound.keeps(channel) {
                sender.forget();
            }
        }
    }

    /// Goes on from where the other end's receivers stand.
    fn greeted(&mut self, link: &mut Link, hello: &Hello) -> Result<(), ProtocolError> {
        if hello.generation != link.expected || hello.generation < self.generation {
            return Err(ProtocolError::Generation(hello.generation));
        }
        let moved = hello.generation > self.generation;
        for at in &hello.positions {
            match self.senders.get_mut(&at.channel) {
                Some(sender) if at.broken => {
                    sender.broken = true;
                    sender.forget();
                }
                Some(sender) => sender.resume(at, moved)?,
                // One that is not open here yet, or not any more.
                None if at.channel >= CONNECTIONS => {}
                None => return Err(ProtocolError::Channel(at.channel)),
            }
        }
        self.generation = hello.generation;
        link.greeted = true;
        Ok(())
    }
}
