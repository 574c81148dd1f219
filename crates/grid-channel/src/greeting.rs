//! What a connection is for: its first frame says it, which a worker's agent writes and both ends see pass.

use grid_types::wire::Hello;
use std::sync::OnceLock;

/// A greeting is not longer (`grid_os::frames` takes no longer one).
const MOST: usize = 16 << 10;
/// The length of a frame, before it.
const HEAD: usize = 4;

/// Whether a connection carries memory, once that is known.
#[derive(Debug, Default)]
pub(crate) struct Purpose(OnceLock<bool>);

impl Purpose {
    /// It is known to carry memory.
    pub(crate) fn is_memory(&self) -> bool {
        self.0.get() == Some(&true)
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
            let _ = self.purpose.0.set(matches!(said, Some(Hello::Data { .. })));
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
        frame(&Hello::Data { protocol: PROTOCOL, token: "t".repeat(64), attempt: "o-1.1".into() })
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
