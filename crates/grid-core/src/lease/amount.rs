//! The amount of a request that leaves a part open: `grid boost request head cpu 2` takes the memory that the plan needs.

use grid_types::{Bytes, MilliCpu, Resources};

/// Least memory of a lease whose memory grid chose: room for a worker's own start and one small process.
pub const MEMORY_FLOOR: Bytes = Bytes(256 << 20);
/// Least CPU of a lease whose CPU grid chose.
const CPU_FLOOR: MilliCpu = MilliCpu(1_000);

/// Fills in memory and CPU where `asked` has zero of them: what the first candidates of `needs` need together, that is,
/// those (best first, at most `limit`) that fit in the part that was asked for and in `room`, the most that one lender
/// can lend now. Never below a floor. Parts that were asked for are left as they are.
pub fn complete_amount(asked: Resources, needs: &[Resources], limit: u32, room: Option<Resources>) -> Resources {
    let bound = Resources {
        cpu: part(asked.cpu, room.map(|r| r.cpu), MilliCpu(u32::MAX)),
        memory: part(asked.memory, room.map(|r| r.memory), Bytes(u64::MAX)),
        gpu: u32::MAX,
    };
    let mut sum = Resources::default();
    let mut taken = 0;
    for need in needs {
        let with = sum.saturating_add(need);
        if taken < limit && with.fits_in(&bound) {
            sum = with;
            taken += 1;
        }
    }
    Resources {
        cpu: if asked.cpu == MilliCpu(0) { sum.cpu.max(CPU_FLOOR) } else { asked.cpu },
        memory: if asked.memory == Bytes(0) { sum.memory.max(MEMORY_FLOOR) } else { asked.memory },
        gpu: asked.gpu,
    }
}

fn part<T: PartialEq + Default>(asked: T, room: Option<T>, most: T) -> T {
    if asked == T::default() { room.unwrap_or(most) } else { asked }
}
