//! A stop that nobody can catch: a shadow that gets SIGSTOP cannot pass it on, so its agent looks now and then.
//!
//! Owns the way there alone. The way back is the shadow's own: SIGCONT wakes it, and it passes that on.

use crate::agent::Agent;
use crate::link::tracing_line;
use grid_os::proc::is_stopped;
use grid_types::wire::ShadowWord;
use grid_types::{AttemptId, NodeName};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

impl Agent {
    /// Who was stopped since the last look, or whose tree came to where it lives since, stops its tree, too. Said once: what is
    /// said late would stop what goes on.
    pub(super) fn look_for_stops(&mut self) {
        let mut new: Vec<(NodeName, AttemptId)> = Vec::new();
        for shadow in self.shadows.values_mut() {
            let stopped = shadow.lives(&self.boot_id) && is_stopped(shadow.record.pid);
            if stopped && !std::mem::replace(&mut shadow.stopped, stopped) {
                new.push((shadow.record.node.clone(), shadow.record.attempt.clone()));
            }
            shadow.stopped = stopped;
        }
        for (node, attempt) in new {
            self.say_of_shadow(&node, attempt, ShadowWord::Stopped);
        }
    }

    /// The shadow of a tree that lives here was stopped. It may be the tree that stopped first.
    pub(super) fn shadow_stopped(&self, attempt: &AttemptId) {
        let root = self.incoming.get(attempt).and_then(|incoming| incoming.living_root());
        let Some(root) = root.filter(|root| !is_stopped(*root)) else { return };
        if let Err(e) = kill(Pid::from_raw(root), Signal::SIGSTOP) {
            tracing_line(&format!("attempt {attempt}: SIGSTOP: {e}"));
        }
    }
}
