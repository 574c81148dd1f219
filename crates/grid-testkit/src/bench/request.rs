//! From `boost request` to active: by the daemon's own clock, and for a person who starts the command.

use super::cluster::Cluster;
use super::quantile;
use grid_types::api::BoostReply;
use std::time::Instant;

/// Requests and releases so many boosts.
pub(super) fn run(times: usize) -> Result<(), String> {
    let cluster = Cluster::up()?;
    let (mut took, mut wall) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let start = Instant::now();
        let reply: BoostReply = cluster.local.ask(&["boost", "request", "head", "--cpu", "1", "--memory", "1GiB"])?;
        wall.push(start.elapsed().as_secs_f64() * 1e3);
        took.push(reply.took.0 as f64);
        cluster.local.say(&["boost", "release", reply.boost.boost.id.as_str()])?;
    }
    crate::say!("== boost request to active, written down, {times} requests (ms)");
    crate::say!("{:<38} {:>8} {:>8} {:>8}", "", "median", "p95", "worst");
    for (what, values) in [("the daemon's `took` (whole ms)", took), ("the whole command `grid boost request`", wall)] {
        let [median, p95, worst] = [0.5, 0.95, 1.0].map(|part| quantile(&values, part));
        crate::say!("{what:<38} {median:>8.1} {p95:>8.1} {worst:>8.1}");
    }
    Ok(())
}
