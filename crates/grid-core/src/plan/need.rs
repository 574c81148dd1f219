//! What a tree needs at its destination, and how long it would be frozen.

use crate::link::expected_rate;
use grid_types::plan::Verdict;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::{Bytes, MilliCpu, Millis, Resources};

/// Headroom on memory: a tenth of what is used, and at least this. The restore and the next allocations need it.
pub const HEADROOM_LEAST: Bytes = Bytes(32 << 20);
/// Least CPU that a tree is counted with: an idle one wakes up.
pub const CPU_LEAST: MilliCpu = MilliCpu(50);

/// What a tree needs in a lease: memory used plus headroom, CPU measured and at least [`CPU_LEAST`], its GPUs.
pub fn needed(v: &Verdict) -> Resources {
    let headroom = HEADROOM_LEAST.0.max(v.used.memory.0 / 10);
    Resources {
        cpu: v.used.cpu.max(CPU_LEAST),
        memory: Bytes(v.used.memory.0.saturating_add(headroom)),
        gpu: v.used.gpu,
    }
}

/// How long a move of `memory` would freeze, where that is known, or why it would be too long. `rate`: bytes a second that
/// were measured; `limit`: that may leave a machine at most, as `execution.link_rate_limit` says. What compresses may take
/// less: nobody knows that before.
pub fn freeze_within(
    memory: Bytes,
    rate: Option<u64>,
    limit: Option<Bytes>,
    most: Millis,
) -> Result<Option<Millis>, Reason> {
    let frozen = predicted_freeze(memory, expected_rate(rate, limit.map(|l| l.0)));
    let Some(too_long) = frozen.filter(|f| *f > most) else { return Ok(frozen) };
    // Faster moves would not help where the limit alone is too low.
    let limit = limit.filter(|l| predicted_freeze(memory, Some(l.0)).is_some_and(|f| f > most));
    let so = limit.map_or(String::new(), |l| format!("; execution.link_rate_limit is {l}/s"));
    Err(Reason::new(ReasonCode::Frozen10, format!("it would be silent ~{too_long}, at most {most} is allowed{so}")))
}

/// Time to stream `memory` at `rate` bytes a second; none where no rate was measured.
pub fn predicted_freeze(memory: Bytes, rate: Option<u64>) -> Option<Millis> {
    let rate = rate.filter(|r| *r > 0)?;
    let ms = (u128::from(memory.0) * 1_000).div_ceil(u128::from(rate));
    Some(Millis(u64::try_from(ms).unwrap_or(u64::MAX)))
}
