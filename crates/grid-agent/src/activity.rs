//! What the owner of this machine does on it, looked at each second while he has rules for that, and not otherwise.
//!
//! Owns no decision: `grid_core::activity` says which rule is in force, `lend.rs` carries that out.

use crate::agent::Agent;
use crate::link::tracing_line;
use grid_core::activity::{Sample, Watch, in_force};
use grid_os::activity::Activity;
use grid_os::clock::{boot_ms, unix_ms};
use grid_types::lend_rule::{LendRule, Measure, RuleState};

/// What is known of the owner's activity.
#[derive(Default)]
pub(crate) struct OwnersActivity {
    /// Looks; there is none while there are no rules.
    looks: Option<Activity>,
    watch: Watch,
    /// What each rule comes to.
    pub(crate) rules: Vec<RuleState>,
    /// What could not be measured.
    pub(crate) blind: Option<String>,
}

impl OwnersActivity {
    /// Goes on with what the agent before this one said.
    pub(crate) fn resume(said: Vec<RuleState>) -> Self {
        Self { watch: Watch::resume(&said, boot_ms(), unix_ms()), rules: said, ..Self::default() }
    }

    /// The rule of his that counts now.
    pub(crate) fn in_force(&self) -> Option<&RuleState> {
        in_force(&self.rules)
    }
}

impl Agent {
    /// A word that cannot be read has no rules that could be heeded: all stays as it is.
    pub(crate) fn look_at_owner(&mut self) {
        let Ok(order) = self.word.order() else { return };
        let rules = order.rules.clone();
        if rules.is_empty() {
            self.word.activity = OwnersActivity::default();
            return;
        }
        let sample = self.sample_of_owner(&rules);
        let activity = &mut self.word.activity;
        let before = activity.in_force().map(|state| state.rule);
        activity.rules = activity.watch.step(&rules, &sample);
        if before != activity.in_force().map(|state| state.rule) {
            self.told_facts = None;
        }
        match activity.in_force() {
            Some(state) if before != Some(state.rule) => {
                tracing_line(&format!("a rule is in force: {}", grid_core::activity::why(state)));
            }
            None if before.is_some() => tracing_line("no rule is in force any more"),
            _ => {}
        }
    }

    /// Measures what these rules ask for.
    fn sample_of_owner(&mut self, rules: &[LendRule]) -> Sample {
        let wants = |measure: Measure| rules.iter().any(|rule| rule.when.measure() == measure);
        let only = self.faults.owner_group();
        let hierarchies = &self.hierarchies;
        let looks = self.word.activity.looks.get_or_insert_with(|| Activity::new(hierarchies.clone()));
        let mut blind = Vec::new();
        let mut told = |what: Measure, e: String| blind.push(format!("{} cannot be told: {e}", what.as_str()));
        let mut sample = Sample { at: boot_ms(), wall: unix_ms(), ..Sample::default() };
        if wants(Measure::Load) {
            let load = looks.load(only.as_deref());
            sample.load = load.unwrap_or_else(|e| (told(Measure::Load, e.to_string()), None).1);
        }
        if wants(Measure::Memory) {
            let available = self.node.machine_available().map_err(|e| told(Measure::Memory, e.to_string()));
            sample.available = available.ok();
        }
        if wants(Measure::Input) {
            let mut told = |e: std::io::Error| told(Measure::Input, e.to_string());
            sample.terminals = looks.terminals().map_err(&mut told).ok();
            let desktops = looks.desktops().unwrap_or_else(|e| (told(e), Vec::new()).1);
            sample.terminals.iter_mut().for_each(|all| all.extend(desktops.iter().cloned()));
        }
        self.word.activity.blind = (!blind.is_empty()).then(|| blind.join("; "));
        sample
    }
}
