//! `grid lend sleep` and `wake`.

use super::count;
use crate::cli::lend::LendChange;
use grid_types::lend::LendAnswer;

/// What it came to, or would. `stood`: so many guests stood still before.
pub(crate) fn lend_sleep(c: &LendChange, stood: u32) -> String {
    let node = &c.node;
    let here = |answer: &LendAnswer| answer.leases.iter().map(|lease| lease.guests.len() as u64).sum::<u64>();
    let trouble = c.answer.as_ref().and_then(|answer| answer.trouble.as_ref()).filter(|_| !c.dry_run);
    if let Some(trouble) = trouble {
        return format!("{node}: NOT DONE: {trouble}\n");
    }
    let Some(answer) = &c.answer else {
        return format!("{node}: its agent does not answer: it heeds that as soon as it runs.\n");
    };
    match (c.order.asleep.is_some(), c.dry_run) {
        (true, true) => format!("{node}: {} would stand still, and nothing would come.\n", guests(here(answer))),
        (true, false) => format!(
            "{node}: {} still ({} ms), and nothing comes. When this machine is awake: grid lend wake\n",
            do_it(answer.standing, "stands", "stand"),
            c.waited.0
        ),
        (false, true) => format!("{node}: {}\n", waking(stood, stood, ["would run", "would run"])),
        (false, false) => format!("{node}: {}\n", waking(stood, answer.standing, ["runs", "run"])),
    }
}

fn guests(n: u64) -> String {
    count(n as usize, "guest", "guests")
}

fn do_it(n: u32, one: &str, many: &str) -> String {
    format!("{} {}", guests(n.into()), if n == 1 { one } else { many })
}

fn waking(stood: u32, standing: u32, [one, many]: [&str; 2]) -> String {
    match (stood, standing) {
        (0, _) => "nobody's processes stand still.".to_owned(),
        // The head was faster than this command.
        (n, 0) => format!("{} again.", do_it(n, one, many)),
        (n, _) => format!("{} again as soon as the head has confirmed that it still wants that.", do_it(n, one, many)),
    }
}

/// For `grid lend status`.
pub(super) fn standing(answer: &LendAnswer) -> Option<String> {
    let stand = do_it(answer.standing, "stands", "stand");
    match (answer.asleep, answer.standing) {
        (false, 0) => None,
        (false, _) => Some(format!("{stand} still until the head has confirmed that it still wants that")),
        (true, _) => Some(format!("{stand} still; when this machine is awake: grid lend wake")),
    }
}
