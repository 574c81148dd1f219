//! Amounts as people type them: with units, or as the original's `cpu 2`.

use super::args::BoostRequestArgs;
use super::failure::Failure;
use grid_types::api::BoostAsk;
use grid_types::units::{Bytes, MilliCpu};

/// More GPUs than any machine has.
const MOST_GPUS: u32 = 1024;

/// A size for `--memory`: a bare number is refused, because `--memory 8` cannot mean eight bytes.
pub(super) fn size(text: &str) -> Result<Bytes, String> {
    let bytes: Bytes = text.parse().map_err(|e: grid_types::units::UnitError| e.to_string())?;
    if text.trim().ends_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("\"{text}\" has no unit: write {0}GiB or {0}MiB", text.trim()));
    }
    Ok(bytes)
}

/// Whole GPUs.
pub(super) fn gpus(text: &str) -> Result<u32, String> {
    match text.trim().parse::<u32>() {
        Ok(n) if (1..=MOST_GPUS).contains(&n) => Ok(n),
        Ok(_) => Err(format!("\"{text}\" is out of range: 1 to {MOST_GPUS}")),
        Err(_) => Err(format!("\"{text}\" is not a number of GPUs such as 1")),
    }
}

/// What is asked for: options and the original's pairs of words, each resource once.
pub(super) fn boost_ask(args: &BoostRequestArgs) -> Result<BoostAsk, Failure> {
    let mut ask = BoostAsk {
        borrower: args.borrower.clone(),
        cpu: args.cpu,
        memory: args.memory,
        gpu: args.gpu,
        priority: args.priority.into(),
        duration: args.duration,
        from: args.from.clone(),
        at_end: args.at_end.map(Into::into),
        dry_run: args.dry_run,
    };
    for pair in args.amounts.chunks(2) {
        let [resource, amount] = pair else {
            return Err(Failure::usage(format!("{:?} has no amount", pair[0])).hint("write it as: cpu 2"));
        };
        add(&mut ask, resource, amount)?;
    }
    if ask.cpu.is_none() && ask.memory.is_none() && ask.gpu.is_none() {
        return Err(Failure::usage("nothing was asked for").hint("say how much: --cpu 2 --memory 8GiB, or --gpu 1"));
    }
    Ok(ask)
}

fn add(ask: &mut BoostAsk, resource: &str, amount: &str) -> Result<(), Failure> {
    let twice = match resource {
        "cpu" | "cpus" => {
            ask.cpu.replace(amount.parse::<MilliCpu>().map_err(|e| Failure::usage(e.to_string()))?).is_some()
        }
        "memory" | "mem" | "ram" => ask.memory.replace(gibibytes(amount)?).is_some(),
        "gpu" | "gpus" => ask.gpu.replace(gpus(amount).map_err(Failure::usage)?).is_some(),
        other => {
            let failure = Failure::usage(format!("{other:?} is not a resource"));
            return Err(failure.hint("resources are cpu, memory and gpu: grid boost request head cpu 2"));
        }
    };
    if twice { Err(Failure::usage(format!("{resource} is given twice"))) } else { Ok(()) }
}

/// The original's bare memory numbers are GiB.
fn gibibytes(amount: &str) -> Result<Bytes, Failure> {
    let bare = amount.trim().ends_with(|c: char| c.is_ascii_digit());
    let text = if bare { format!("{}GiB", amount.trim()) } else { amount.to_owned() };
    text.parse().map_err(|e: grid_types::units::UnitError| Failure::usage(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{BoostCommand, Cli, Command};

    fn ask(words: &str) -> Result<BoostAsk, Failure> {
        let line = format!("grid boost request head {words}");
        let cli = Cli::read(line.split(' ').map(Into::into)).unwrap();
        let Command::Boost(BoostCommand::Request(args)) = cli.command else { panic!("{line}") };
        boost_ask(&args)
    }

    #[test]
    fn the_originals_form_means_the_same_as_options() {
        let old = ask("cpu 2 memory 8 gpu 1").unwrap();
        let new = ask("--cpu 2 --memory 8GiB --gpu 1").unwrap();
        assert_eq!((old.cpu, old.memory, old.gpu), (new.cpu, new.memory, new.gpu));
        assert_eq!(old.memory, Some(Bytes(8 << 30)));
        assert_eq!(ask("memory 512MiB").unwrap().memory, Some(Bytes(512 << 20)));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for words in
            ["disk 2", "cpu", "cpu 0", "cpu -1", "cpu NaN", "memory 1e99", "cpu 2 cpu 3", "--cpu 2 cpu 3", "gpu 0"]
        {
            assert!(ask(words).is_err(), "{words}");
        }
        assert!(size("8").is_err() && size("4096").is_err() && size("0GiB").is_err());
    }
}
