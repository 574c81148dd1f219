//! What a connection is for: its first frame says it, which a worker's agent writes and both ends see pass.

use grid_os::socket::cut_when_silent;
use grid_types::wire::Hello;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::time::Duration;

/// A greeting is not longer (`grid_os::frames` takes no longer one).
const MOST: usize = 16 << 10;
/// The length of a frame, before it.
const HEAD: usize = 4;

/// An agent's own link, and streams that have windows of their own, never wait for their reader: a network that lets nothing
/// pass is found out as soon as by ssh.
const PROMPT_SILENCE: Duration = Duration::from_secs(8);
/// The reader of anything else may be slow for a while.
const SILENCE: Duration = Duration::from_secs(15);

/// Whether a connection carries memory, once that is known.
#[derive(Debug, Default)]
pub(crate) struct Purpose {
    memory: OnceLock<bool>,
    /// What it crosses, where nobody else looks whether that still carries.
    tcp: Option<OwnedFd>,
}

impl Purpose {
    /// Of a connection that crosses this.
    pub(crate) fn over(tcp: Option<OwnedFd>) -> Self {
        let purpose = Self { memory: OnceLock::new(), tcp };
        purpose.cut_after(SILENCE);
        purpose
    }

    /// It is known to carry memory.
    pub(crate) fn is_memory(&self) -> bool {
        self.memory.get() == Some(&true)
    }

    fn is(&self, hello: Option<&Hello>) {
        let _ = self.memory.set(matches!(hello, Some(Hello::Data { .. })));
        if matches!(hello, Some(Hello::Agent { .. } | Hello::Streams { .. })) {
            self.cut_after(PROMPT_SILENCE);
        }
    }

    fn cut_after(&self, silence: Duration) {
        // Where the kernel refuses, its own patience is what there is.
        let _ = self.tcp.as_ref().map(|tcp| cut_when_silent(tcp, silence));
    }
}

/// Reads along until the first frame is whole.
pub(crate) struct Listener<'a> {
    purpose: &'a Purpose,
    seen: Option<Vec<u8>>,
}

impl<'a> Listener<'a> {
    pub(crate) fn of(purpose: &'a Purpose) -> Self {
        Self { purpose, seen: Some(Vec::new()) }
    }

    /// These bytes pass now.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        let Some(seen) = &mut self.seen else { return };
        seen.extend_from_slice(&bytes[..bytes.len().min(HEAD + MOST - seen.len())]);
        let Some((len, rest)) = seen.split_first_chunk::<HEAD>() else { return };
        let len = u32::from_le_bytes(*len) as usize;
        if len > MOST || rest.len() >= len {
            let said = rest.get(..len).and_then(|frame| serde_json::from_slice(frame).ok());
            self.purpose.is(said.as_ref());
            self.seen = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grid_types::wire::PROTOCOL;

    fn frame(hello: &Hello) -> Vec<u8> {
        let json = serde_json::to_vec(hello).unwrap();
        [&(json.len() as u32).to_le_bytes()[..], &json].concat()
    }

    fn data() -> Vec<u8> {
        frame(&Hello::Data {
            protocol: PROTOCOL,
            token: "t".repeat(64),
            attempt: "o-1.1".into(),
            ticket: "u".repeat(64),
        })
    }

    fn heard(pieces: &[&[u8]]) -> bool {
        let purpose = Purpose::default();
        let mut listener = Listener::of(&purpose);
        pieces.iter().for_each(|piece| listener.hear(piece));
        purpose.is_memory()
    }

    #[test]
    fn memory_is_known_by_its_greeting_however_that_arrives() {
        let hello = data();
        assert!(heard(&[&hello]));
        assert!(heard(&hello.chunks(1).collect::<Vec<_>>()));
        assert!(heard(&[&[hello, vec![0; 1 << 20]].concat()]));
    }

    #[test]
    fn nothing_else_is_taken_for_memory() {
        let files = frame(&Hello::Files { protocol: PROTOCOL, token: "t".into(), attempt: "o-1.1".into() });
        assert!(!heard(&[&files, &data()]));
        assert!(!heard(&[&data()[..20]]));
        assert!(!heard(&[&u32::MAX.to_le_bytes(), &data()]));
        assert!(!heard(&[b"\x04\0\0\0null"]));
    }
}
