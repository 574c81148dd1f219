//! `grid stop` on the head, heeded on other machines: the head's agent tells each worker, and again whenever its link is
//! there anew. A worker that shares the head's disk sees the head's own file.
//!
//! On the worker the order is a file again, so that it holds also while nobody is there to say it. Only the head makes and
//! removes that file, and only its word is taken for it.

use crate::agent::Agent;
use crate::link::tracing_line;
use grid_types::NodeName;
use grid_types::stop::{Stop, StopAnswer};
use grid_types::wire::{Body, Party};
use std::io;
use std::path::Path;

impl Agent {
    /// Says what stands to this worker, or to all that are reached.
    pub(crate) fn tell_stop(&self, only: Option<&NodeName>) {
        if !self.is_hub() {
            return;
        }
        let stop = grid_os::stop::standing(&self.cfg.stop);
        let all: Vec<NodeName> = self.agents_up().filter(|node| only.is_none_or(|o| o == *node)).cloned().collect();
        for node in all {
            self.say(Party::Agent(node), Body::Stop { stop: stop.clone() });
        }
    }

    /// The head's order came or went.
    pub(crate) fn heed_head_stop(&mut self, from: &NodeName, stop: Option<Stop>) {
        let Some(file) = self.cfg.stop.of_head.clone() else { return };
        if self.is_hub() || self.home_node().as_ref() != Some(from) {
            return;
        }
        if let Err(e) = put(&file, stop.is_some()) {
            return tracing_line(&format!(
                "{}: {e}: the head's order to stop is not heeded as it should be",
                file.display()
            ));
        }
        self.stop_of_head = stop.map(|stop| stop.mark);
        self.stop_changed();
        self.answer_head();
    }

    /// Tells the head what became of its order, in its own terms.
    pub(crate) fn answer_head(&self) {
        if let (Some(mark), Some(heeded), Some(home)) = (&self.stop_of_head, &self.heeded, self.home_node()) {
            let answer = StopAnswer { mark: mark.clone(), ..heeded.answer().clone() };
            self.say(Party::Agent(home), Body::StopHeeded { answer });
        }
    }

    /// A worker's answer is put where those of this machine are, if it is about the order that stands.
    pub(crate) fn stop_heeded_by(&self, from: &NodeName, answer: &StopAnswer) {
        let stands = grid_os::stop::standing(&self.cfg.stop).is_some_and(|stop| stop.mark == answer.mark);
        if !self.is_hub() || !stands || answer.node != *from {
            return;
        }
        if let Err(e) = grid_os::stop::answer(&self.cfg.stop, answer) {
            tracing_line(&format!("the answer of {from} to the order to stop: {e}"));
        }
    }
}

/// The file is there, or is not. One that is there stays the same order.
fn put(file: &Path, there: bool) -> io::Result<()> {
    let done = match there {
        true => std::fs::OpenOptions::new().write(true).create_new(true).open(file).map(drop),
        false => std::fs::remove_file(file),
    };
    match done {
        Err(e)
            if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) && there == file.exists() =>
        {
            Ok(())
        }
        done => done,
    }
}
