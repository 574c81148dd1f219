//! Trees that pass from one worker to another. Workers dial the hub alone, so the hub joins the two connections of such an
//! attempt and passes the bytes on; nothing of the memory stays here. The frames of the handover pass as all frames do.
//!
//! Owns the hub's leave, which the head's daemon gives before the order: without it no worker's connection is joined with
//! another's, the tree's shadow takes no streams from the new lender, and the tree does not come home from there.

use crate::AgentError;
use crate::agent::Agent;
use crate::link::tracing_line;
use grid_os::socket::Socket;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::{Answer, Passage};
use grid_types::{AttemptId, NodeName, OffloadId};
use std::io;
use std::net::Shutdown;
use std::time::Duration;

/// A side that takes, or says, nothing for so long is given up: longer than either end waits for the other.
const SILENCE: Duration = Duration::from_secs(60);

impl Agent {
    pub(crate) fn recover_passages(&mut self) -> Result<(), AgentError> {
        self.passages = self.ledger.passages::<Passage>()?.into_iter().collect();
        Ok(())
    }

    /// The daemon's leave, written down before it is answered.
    pub(crate) fn pass_on(&mut self, attempt: AttemptId, passage: Passage) -> Result<Answer, Reason> {
        if !self.is_hub() {
            return Err(Reason::new(ReasonCode::Owner, "only the head's agent passes memory on"));
        }
        for node in [&passage.from, &passage.to] {
            if !self.reaches(node) {
                return Err(Reason::new(ReasonCode::Silent, format!("no link to {node}")));
            }
        }
        let written = self.ledger.put_passage(&attempt, &passage);
        written.map_err(|e| Reason::new(ReasonCode::Disk, format!("{}: {e}", self.cfg.node)))?;
        self.passages.insert(attempt, passage);
        Ok(Answer::Done)
    }

    /// This attempt may have brought that tree to that worker, past this hub.
    pub(crate) fn passed_to(&self, attempt: &AttemptId, offload: &OffloadId, node: &NodeName) -> bool {
        self.passages.get(attempt).is_some_and(|p| p.offload == *offload && p.to == *node)
    }

    /// Some attempt may have brought that tree to that worker, past this hub.
    pub(crate) fn may_be_with(&self, offload: &OffloadId, node: &NodeName) -> bool {
        self.passages.values().any(|p| p.offload == *offload && p.to == *node)
    }

    /// A worker's end of a passage: it waits for the other worker's, or is joined with it. What is neither is given back.
    pub(crate) fn passage_link(&mut self, attempt: &AttemptId, from: NodeName, end: Socket) -> Option<Socket> {
        let Some(passage) = self.passages.get(attempt) else { return Some(end) };
        let other = match &from {
            node if *node == passage.from => &passage.to,
            node if *node == passage.to => &passage.from,
            _ => {
                tracing_line(&format!("{from} has no part in attempt {attempt}; its connection is closed"));
                return None;
            }
        };
        match self.early.remove(attempt) {
            Some((node, waiting)) if node == *other => {
                if let Err(e) = join(&waiting, &end) {
                    tracing_line(&format!("attempt {attempt}: its memory is not passed on: {e}"));
                }
            }
            // It dialled again: its last connection counts.
            _ => drop(self.early.insert(attempt.clone(), (from, end))),
        }
        None
    }
}

/// Passes bytes both ways until one side has said all, or is gone.
fn join(one: &Socket, other: &Socket) -> io::Result<()> {
    for (from, to) in [(one, other), (other, one)] {
        let _ = to.set_nodelay(true);
        to.set_write_timeout(Some(SILENCE))?;
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        std::thread::spawn(move || pass(from, to));
    }
    Ok(())
}

fn pass(mut from: Socket, mut to: Socket) {
    match copy(&mut from, &mut to) {
        // The other way may still be in use.
        Ok(()) => drop(to.shutdown(Shutdown::Write)),
        Err(_) => [from, to].iter().for_each(|end| drop(end.shutdown(Shutdown::Both))),
    }
}

/// In pieces that do not make a wakeup of each packet.
fn copy(from: &mut impl io::Read, to: &mut impl io::Write) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buffer[..n])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn pair() -> (Socket, Socket) {
        let (near, far) = UnixStream::pair().unwrap();
        (near.into(), far.into())
    }

    #[test]
    fn bytes_pass_both_ways_and_an_end_is_passed_on() {
        let ((mut source, near), (mut destination, far)) = (pair(), pair());
        join(&near, &far).unwrap();
        drop((near, far));
        destination.write_all(b"R").unwrap();
        let mut ready = [0];
        source.read_exact(&mut ready).unwrap();
        let sent: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
        let expected = sent.clone();
        let sender = std::thread::spawn(move || source.write_all(&sent).map(|()| source));
        let mut got = vec![0; expected.len()];
        destination.read_exact(&mut got).unwrap();
        assert!(got == expected);
        drop(sender.join().unwrap().unwrap());
        assert_eq!(destination.read(&mut ready).unwrap(), 0);
    }
}
