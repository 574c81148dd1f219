//! The measurements of `bench/` that need a cluster: `grid-bench` runs one a time. Owns measuring and printing; asserts
//! nothing, since other load on the machine shows in every figure.

mod cluster;
mod downtime;
mod files;
mod idle;
mod link;
mod request;
mod stop;

use std::time::Duration;

/// Runs the measurement of this name; its further arguments are its own.
pub fn run(args: &[String]) -> Result<(), String> {
    crate::criu::usable()?;
    match args.split_first().map(|(name, rest)| (name.as_str(), rest)) {
        Some(("downtime", memory)) => downtime::run(memory),
        Some(("link", memory)) => link::run(memory),
        Some(("files", [])) => files::run(),
        Some(("request", [])) => request::run(20),
        Some(("stop", [])) => stop::run("1GiB", 5),
        Some(("idle", [])) => idle::run(Duration::from_secs(20)),
        Some(("idle", [ssh])) if ssh == "ssh" => idle::over_ssh(Duration::from_secs(20)),
        _ => Err("grid-bench downtime [MEMORY...] | link [MEMORY...] | files | request | stop | idle [ssh]".to_owned()),
    }
}

/// How often each move is made.
fn runs() -> usize {
    std::env::var("RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(3).max(1)
}

/// The value of which so much is not greater: 0.5 the median, 0.95 the 95th percentile (nearest rank).
fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!([0.5, 0.95, 1.0].map(|part| quantile(&values, part)), [2.0, 4.0, 4.0]);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
