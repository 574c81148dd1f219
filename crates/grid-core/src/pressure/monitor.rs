//! Hysteresis, hold times and cool-down over the levels.

use super::formula::{Levels, levels};
use crate::plan::Resource;
use grid_types::facts::NodeFacts;
use grid_types::policy::Policy;
use grid_types::{BootMs, Millis};

/// A level must stay at its trigger for so long before it counts.
pub const HOLD: Millis = Millis(30_000);
/// … and for so long where memory is critical.
pub const CRITICAL_HOLD: Millis = Millis(5_000);
/// It must stay below its release for so long before it is cleared.
pub const CLEAR_HOLD: Millis = Millis(10_000);
/// The release is so far below the trigger (and never below the configured "low").
pub const HYSTERESIS: f64 = 0.10;

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PressureKind {
    /// At the trigger; the hold time begins.
    Rising,
    /// Held: something should be done, and again after each cool-down while it lasts.
    Sustained,
    /// Over.
    Cleared,
}

/// An event of one resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Pressure {
    /// What.
    pub kind: PressureKind,
    /// Of which resource.
    pub resource: Resource,
    /// Memory is at the critical percentage.
    pub critical: bool,
    /// The level, 0 to 1.
    pub level: f64,
    /// For people: "memory 88 %, held 30 s".
    pub detail: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Phase {
    #[default]
    Calm,
    /// Known time at the trigger so far.
    Rising(Millis),
    /// Known time below the release so far, and when it was said last.
    Sustained { below: Millis, said: BootMs },
}

/// The monitor of one node. Feed it each sample, also those that are missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Monitor {
    phases: [Phase; 3],
    /// When a known sample was last seen, and which levels it knew.
    last: Option<(BootMs, Levels)>,
}

const RESOURCES: [Resource; 3] = [Resource::Memory, Resource::Cpu, Resource::Gpu];

impl Monitor {
    /// A calm monitor.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a sample of age `age` (`None`: there is none) and says what changed, memory first.
    pub fn step(&mut self, facts: Option<&NodeFacts>, age: Millis, policy: &Policy, now: BootMs) -> Vec<Pressure> {
        let fresh = facts.filter(|_| age <= policy.limits.stale_after).map(levels);
        let Some(now_levels) = fresh else {
            self.last = None; // the gap counts neither as pressure nor as calm
            return Vec::new();
        };
        let since = self.last.as_ref().map(|(at, _)| Millis(now.0.saturating_sub(at.0)));
        let gap = since.filter(|g| g.0 <= policy.limits.stale_after.0.max(2 * policy.auto_offload.check_interval.0));
        let mut said = Vec::new();
        for (phase, resource) in self.phases.iter_mut().zip(RESOURCES) {
            let known_before = self.last.as_ref().is_some_and(|(_, l)| l.of(resource).is_some());
            let Some(level) = now_levels.of(resource) else { continue };
            let elapsed = gap.filter(|_| known_before).unwrap_or_default();
            let sample = Sample { resource, level, critical: critical(resource, &now_levels, policy), elapsed, now };
            let kind;
            (*phase, kind) = advance(*phase, &sample, policy);
            said.extend(kind.map(|kind| sample.event(kind, phase)));
        }
        self.last = Some((now, now_levels));
        said
    }
}

struct Sample {
    resource: Resource,
    level: f64,
    critical: bool,
    /// Known time since the last sample.
    elapsed: Millis,
    now: BootMs,
}

impl Sample {
    fn event(&self, kind: PressureKind, phase: &Phase) -> Pressure {
        let name = match self.resource {
            Resource::Cpu => "cpu",
            Resource::Memory => "memory",
            Resource::Gpu => "gpu",
        };
        let percent = (self.level * 100.0).round();
        let detail = match (kind, phase) {
            (PressureKind::Cleared, _) => format!("{name} {percent} %, cleared"),
            (_, Phase::Rising(held)) => format!("{name} {percent} %, held {held} of {}", self.hold()),
            _ if self.critical => format!("{name} {percent} %, critical"),
            _ => format!("{name} {percent} %, held {}", self.hold()),
        };
        Pressure { kind, resource: self.resource, critical: self.critical, level: self.level, detail }
    }

    fn hold(&self) -> Millis {
        if self.critical { CRITICAL_HOLD } else { HOLD }
    }
}

fn trigger(resource: Resource, policy: &Policy) -> (f64, f64) {
    let (percent, low) = match resource {
        Resource::Cpu => (policy.auto_offload.cpu_percent, policy.thresholds.cpu_low),
        Resource::Memory => (policy.auto_offload.memory_percent, policy.thresholds.memory_low),
        Resource::Gpu => (policy.auto_offload.gpu_percent, policy.thresholds.gpu_low),
    };
    let high = percent / 100.0;
    (high, (high - HYSTERESIS).max(low).min(high))
}

fn critical(resource: Resource, levels: &Levels, policy: &Policy) -> bool {
    resource == Resource::Memory
        && levels.memory_used.is_some_and(|used| used >= policy.auto_offload.critical_percent / 100.0)
}

fn advance(phase: Phase, s: &Sample, policy: &Policy) -> (Phase, Option<PressureKind>) {
    let (high, release) = trigger(s.resource, policy);
    match phase {
        Phase::Calm if s.level >= high => (Phase::Rising(Millis(0)), Some(PressureKind::Rising)),
        Phase::Calm => (Phase::Calm, None),
        Phase::Rising(_) if s.level < high => (Phase::Calm, None),
        Phase::Rising(held) => {
            let held = Millis(held.0.saturating_add(s.elapsed.0));
            if held >= s.hold() {
                return (Phase::Sustained { below: Millis(0), said: s.now }, Some(PressureKind::Sustained));
            }
            (Phase::Rising(held), None)
        }
        Phase::Sustained { below, said } => sustained(below, said, s, high, release, policy),
    }
}

fn sustained(
    below: Millis,
    said: BootMs,
    s: &Sample,
    high: f64,
    release: f64,
    policy: &Policy,
) -> (Phase, Option<PressureKind>) {
    let below = if s.level < release { Millis(below.0.saturating_add(s.elapsed.0)) } else { Millis(0) };
    if below >= CLEAR_HOLD {
        return (Phase::Calm, Some(PressureKind::Cleared));
    }
    let again = s.level >= high && s.now.0.saturating_sub(said.0) >= policy.auto_offload.cooldown.0;
    let said = if again { s.now } else { said };
    (Phase::Sustained { below, said }, again.then_some(PressureKind::Sustained))
}
