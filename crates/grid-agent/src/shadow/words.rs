//! What agents say to each other about a shadow and its tree: the shadow has ended, the tree is gone.

use super::{Record, Shadow};
use crate::agent::Agent;
use crate::link::tracing_line;
use crate::streams;
use grid_shadow::control::{ToFar, ToShadow};
use grid_types::event::ExitStatus;
use grid_types::exit::TREE_LOST;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::streams::ShadowId;
use grid_types::wire::{Answer, Body, Party, ShadowWord};
use grid_types::{AttemptId, NodeName};
use std::time::{Duration, Instant};

/// A shadow whose tree was lost leaves with this.
const LOST: i32 = TREE_LOST as i32;
/// What is not answered is said again after so long.
const AGAIN: Duration = Duration::from_secs(1);

impl Agent {
    /// A shadow of this node's has ended: by the end of its tree, which has told it, or by somebody's SIGKILL.
    pub(crate) fn shadow_ended(&mut self, id: &ShadowId) {
        let Some(shadow) = self.shadows.get_mut(id) else { return };
        shadow.control = None;
        shadow.waiting = None;
        shadow.told_end = Some(None);
        self.tell_end(id);
    }

    /// What was to become a shadow of this node's died on the way: the tree's end must not wait for it.
    pub(super) fn shadow_missing(&mut self, id: &ShadowId) {
        let Some(shadow) = self.shadows.get_mut(id) else { return };
        shadow.record.missing = true;
        if let Err(e) = self.ledger.put_shadow(id, &shadow.record) {
            tracing_line(&e.to_string());
        }
        self.shadow_ended(id);
    }

    /// A tree of which nothing runs: its shadow's agent is told where it is, since no stream comes from there.
    pub(crate) fn say_parked(&mut self, attempt: &AttemptId) {
        let terms = self.incoming.get(attempt).and_then(|i| i.record.stage.shadow.clone());
        let (Some(terms), Some(home)) = (terms, self.home_node()) else { return };
        self.say_of_shadow(&home, attempt.clone(), ShadowWord::Parked { generation: terms.generation });
    }

    fn tree_parked(&mut self, from: &NodeName, attempt: &AttemptId, generation: u64) {
        let own = self.incoming.get(attempt).and_then(|i| i.record.stage.shadow.as_ref()).map(|t| t.shadow.clone());
        let is = |(id, _): &(&ShadowId, &Shadow)| match *from == self.cfg.node {
            true => own.as_ref() == Some(*id),
            false => self.carries(attempt, from, id),
        };
        let found = self.shadows.iter().find(is).map(|(id, s)| (id.clone(), s.record.clone()));
        let Some((id, before)) = found else { return };
        if generation <= before.generation {
            return;
        }
        let offload = self.offload_by(attempt).unwrap_or(before.offload);
        let (attempt, node) = (attempt.clone(), from.clone());
        let record = Record { offload, attempt, node, generation, parked: true, ..before };
        if let Err(e) = self.ledger.put_shadow(&id, &record) {
            return tracing_line(&e.to_string());
        }
        self.shadows.entry(id.clone()).and_modify(|s| s.record = record);
        self.say_where(&id);
    }

    fn tell_end(&mut self, id: &ShadowId) {
        let Some(shadow) = self.shadows.get_mut(id) else { return };
        shadow.told_end = Some(Some(Instant::now()));
        let Record { attempt, node, missing, parked, given_up, boot_id, .. } = shadow.record.clone();
        // Kept until that node is here again, and has ended what it has of the tree.
        if self.lost_nodes.contains(&node) {
            return;
        }
        // A reboot of home took it, and nobody meant the copy that waits on a disk.
        let rebooted = parked && !given_up && boot_id != self.boot_id;
        self.say_of_shadow(&node, attempt, if missing || rebooted { ShadowWord::Missing } else { ShadowWord::Ended });
    }

    /// Says it to the other agent, which may be this one.
    pub(crate) fn say_of_shadow(&mut self, node: &NodeName, attempt: AttemptId, word: ShadowWord) {
        if *node == self.cfg.node {
            let own = self.cfg.node.clone();
            self.heed_shadow_word(own, attempt, word);
        } else {
            self.say(Party::Agent(node.clone()), Body::Shadow { attempt, word });
        }
    }

    pub(crate) fn heed_shadow_word(&mut self, from: NodeName, attempt: AttemptId, word: ShadowWord) {
        match word {
            ShadowWord::TreeGone { status } => self.tree_gone(&from, &attempt, status),
            ShadowWord::Stopped => self.shadow_stopped(&attempt),
            ShadowWord::Parked { generation } => self.tree_parked(&from, &attempt, generation),
            ShadowWord::Awake { epoch, shadow } => self.heed_awake(&from, attempt, epoch, shadow),
            ShadowWord::MayRun { epoch } => self.heed_may_run(&from, attempt, epoch),
            ShadowWord::Ended | ShadowWord::Missing | ShadowWord::Ask => {
                if let Some(incoming) = self.incoming.get_mut(&attempt).filter(|i| !i.is_lost()) {
                    let park = incoming.record.stage.park;
                    let alone = word != ShadowWord::Ask && !std::mem::replace(&mut incoming.alone, true);
                    if !park && (alone || word == ShadowWord::Ended) {
                        // Nobody is left who could hear how it ended.
                        streams::tell(&streams::control_path(incoming.tree().0), &ToFar::Finish);
                    }
                    if park {
                        if word == ShadowWord::Ended {
                            self.end_parked(&attempt);
                        }
                        return;
                    }
                    if word == ShadowWord::Ended && incoming.living_root().is_some() {
                        tracing_line(&format!("attempt {attempt}: its shadow was killed at home, so it ends here"));
                        incoming.end_tree();
                    }
                    // Its end is told when it is seen.
                    return;
                }
                // It lives on elsewhere; from there its streams are joined with its shadow, which then asks there.
                if !self.has_left(&attempt) {
                    let status = self.ended_with(&attempt);
                    self.say_of_shadow(&from, attempt, ShadowWord::TreeGone { status });
                }
            }
        }
    }

    /// A tree that was here is lost: whoever keeps its shadow need not ask.
    pub(crate) fn say_tree_is_lost(&mut self, attempt: &AttemptId) {
        let with_shadow = self.incoming.get(attempt).filter(|i| i.record.stage.shadow.is_some());
        let Some(home) = with_shadow.and_then(|_| self.home_node()) else { return };
        let status = self.ended_with(attempt);
        self.say_of_shadow(&home, attempt.clone(), ShadowWord::TreeGone { status });
    }

    /// Its shadow waits here, and what it has there is nobody else's.
    pub(crate) fn is_still_there(&self, attempt: &AttemptId, node: &NodeName) -> bool {
        let is = |s: &Shadow| {
            let known = s.record.attempt == *attempt && s.record.node == *node;
            known || self.passed_to(attempt, &s.record.offload, node)
        };
        let waits = |s: &Shadow| s.told_end.is_none() && s.gone.is_none() && !s.record.given_up;
        !self.lost_nodes.contains(node) && self.shadows.values().any(|s| is(s) && waits(s))
    }

    fn tree_gone(&mut self, from: &NodeName, attempt: &AttemptId, status: Option<ExitStatus>) {
        let is = |s: &&Shadow| {
            let known = s.record.attempt == *attempt && s.record.node == *from;
            // It passed there from another worker, and was lost before its streams were joined again.
            known || self.passed_to(attempt, &s.record.offload, from)
        };
        let Some(id) = self.shadows.iter().find(|(_, s)| is(s)).map(|(id, _)| id.clone()) else { return };
        if let Some(shadow) = self.shadows.get_mut(&id).filter(|s| s.told_end.is_none()) {
            // One that is not here now is told when it comes.
            let word = lost(from, status);
            shadow.gone = Some(word.clone());
            shadow.say(&word, None);
            return;
        }
        self.shadows.remove(&id);
        if let Err(e) = self.ledger.drop_shadow(&id) {
            tracing_line(&e.to_string());
        }
    }

    /// A node is given up: the shadows of what lived there leave, since nobody will ever say how it ended.
    pub(crate) fn lose_node(&mut self, node: NodeName) -> Result<Answer, Reason> {
        if !self.is_hub() || node == self.cfg.node {
            return Err(Reason::new(ReasonCode::Unknown, format!("{} keeps no shadows of {node}", self.cfg.node)));
        }
        for (id, shadow) in self.shadows.iter_mut().filter(|(_, s)| s.record.node == node) {
            shadow.record.given_up = true;
            if let Err(e) = self.ledger.put_shadow(id, &shadow.record) {
                tracing_line(&e.to_string());
            }
        }
        self.lost_nodes.insert(node);
        self.tell_lost();
        Ok(Answer::Done)
    }

    fn tell_lost(&mut self) {
        let lost = |s: &&Shadow| s.told_end.is_none() && self.lost_nodes.contains(&s.record.node);
        let told: Vec<(NodeName, AttemptId)> =
            self.shadows.values().filter(lost).map(|s| (s.record.node.clone(), s.record.attempt.clone())).collect();
        for (node, attempt) in told {
            self.tree_gone(&node, &attempt, None);
        }
    }

    /// A node is reached again: whatever of it is thought to live there is asked for.
    pub(crate) fn ask_for_trees(&mut self, node: &NodeName) {
        let there: Vec<AttemptId> =
            self.shadows.values().filter(|s| s.record.node == *node).map(|s| s.record.attempt.clone()).collect();
        for attempt in there {
            self.say_of_shadow(node, attempt, ShadowWord::Ask);
        }
    }

    pub(crate) fn tick_shadows(&mut self) {
        self.look_for_stops();
        self.tell_lost();
        let due = |s: &Shadow| s.told_end.is_some_and(|told| told.is_none_or(|at| at.elapsed() >= AGAIN));
        let all: Vec<ShadowId> = self.shadows.iter().filter(|(_, s)| due(s)).map(|(id, _)| id.clone()).collect();
        for id in all {
            self.tell_end(&id);
        }
    }
}

/// What a shadow is to say and to leave with where its tree is gone without having told it itself.
fn lost(node: &NodeName, status: Option<ExitStatus>) -> ToShadow {
    let (code, how) = match status {
        Some(ExitStatus::Code(code)) => (code, format!("ended there with exit status {code}")),
        Some(ExitStatus::Signal(signal)) => (128 + signal, format!("ended there by signal {signal}")),
        None => (LOST, format!("is lost, and with it how far it came; exit status {LOST}")),
    };
    ToShadow::Lost { message: format!("grid: {node} does not answer for this process any more: it {how}"), code }
}
