//! Best first: relief of the pressed resource, then of memory and CPU together, then confidence, then the pid.

use super::Resource;
use grid_types::Resources;
use grid_types::plan::Verdict;

/// The verdicts, best first. Relief counts as parts of the head's total, so that a GiB and a CPU can be added.
pub fn ranked(verdicts: &[Verdict], pressed: Option<Resource>, head_total: Resources) -> Vec<&Verdict> {
    let mut order: Vec<&Verdict> = verdicts.iter().collect();
    order.sort_by(|a, b| {
        pressed_relief(b, pressed)
            .cmp(&pressed_relief(a, pressed))
            .then(relief(b, &head_total).total_cmp(&relief(a, &head_total)))
            .then(b.confidence.total_cmp(&a.confidence))
            .then(a.id.cmp(&b.id))
    });
    order
}

fn pressed_relief(v: &Verdict, pressed: Option<Resource>) -> u64 {
    match pressed {
        None => 0,
        Some(Resource::Cpu) => v.used.cpu.0.into(),
        Some(Resource::Memory) => v.used.memory.0,
        Some(Resource::Gpu) => v.used.gpu.into(),
    }
}

fn relief(v: &Verdict, total: &Resources) -> f64 {
    let part = |x: f64, of: f64| if of > 0.0 { x / of } else { 0.0 };
    part(v.used.memory.0 as f64, total.memory.0 as f64) + part(v.used.cpu.0.into(), total.cpu.0.into())
}
