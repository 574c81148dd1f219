//! `grid lend sleep` and `wake`.

use super::count;
use crate::cli::lend::LendChange;
use grid_types::lend::LendAnswer;

/// What it came to, or would. `stood`: so many guests stood still before.
pub(crate) fn lend_sleep(c: &LendChange, stood: u32) -> String {
    let node = &c.node;
    let here = |answer: &LendAnswer| answer.leases.iter().map(|lease| lease.guests.len()).sum::<usize>();
    let trouble = c.answer.as_ref().and_then(|answer| answer.trouble.as_ref()).filter(|_| !c.dry_run);
    if let Some(trouble) = trouble {
        return format!("{node}: NOT DONE: {trouble}\n");
    }
    let Some(answer) = &c.answer else {
        return format!("{node}: its agent does not answer: it heeds that as soon as it runs.\n");
    };
    match (c.order.asleep.is_some(), c.dry_run) {
        (true, true) => {
            format!("{node}: {} would stand still, and nothing would come.\n", count(here(answer), "guest", "guests"))
        }
        (true, false) => format!(
            "{node}: {} still ({} ms), and nothing comes. When this machine is awake: grid lend wake\n",
            count(answer.standing as usize, "guest stands", "guests stand"),
            c.waited.0
        ),
        (false, true) => format!("{node}: {}\n", waking(stood, stood, "guest would run", "guests would run")),
        (false, false) => format!("{node}: {}\n", waking(stood, answer.standing, "guest runs", "guests run")),
    }
}

fn waking(stood: u32, standing: u32, one: &str, many: &str) -> String {
    let run = count(stood as usize, one, many);
    match (stood, standing) {
        (0, _) => "nobody's processes stand still.".to_owned(),
        // The head was faster than this command.
        (_, 0) => format!("{run} again."),
        _ => format!("{run} again as soon as the head has confirmed that it still wants that."),
    }
}

/// For `grid lend status`.
pub(super) fn standing(answer: &LendAnswer) -> Option<String> {
    let stand = count(answer.standing as usize, "guest stands", "guests stand");
    match (answer.asleep, answer.standing) {
        (false, 0) => None,
        (false, _) => Some(format!("{stand} still until the head has confirmed that it still wants that")),
        (true, _) => Some(format!("{stand} still; when this machine is awake: grid lend wake")),
    }
}
