//! `grid explain`.

use super::{REASONS_SHOWN, about, more, reasons};
use grid_types::api::ExplainReply;
use grid_types::plan::{PlanStep, Stay, Verdict};
use grid_types::reason::{Reason, ReasonCode};
use std::fmt::Write;

/// Where the reasons of a process begin.
const COLUMN: usize = 18;

/// Everything about one process: worth it, possible, where it fits, and what it would notice.
pub fn explain(e: &ExplainReply, owner: &str) -> String {
    let v = &e.verdict;
    let step = e.plan.steps.first();
    let mut out = head(e, owner);
    out.push_str(&line("worth it", &worth(v)));
    out.push_str(&movable(v));
    match step {
        Some(step) => out.push_str(&acceptance(v, step)),
        None => out.push_str(&fits(e)),
    }
    if let Some(offload) = &e.offload {
        let r = &offload.record;
        let text = format!("{} {} {}, since {}", r.id, super::phase(r.phase), r.destination, offload.since);
        out.push_str(&line("offload", &text));
    }
    match step {
        Some(_) => out + &format!("Nothing was changed.  Move it: grid offload execute {}\n", v.id),
        None => out + &format!("Facts {} old.  Nothing was changed.\n", seconds(e)),
    }
}

fn seconds(e: &ExplainReply) -> String {
    format!("{:.1} s", e.age.0 as f64 / 1000.0)
}

/// One word: `moves` or `stays`.
pub fn explain_word(e: &ExplainReply) -> &'static str {
    if e.plan.steps.is_empty() { "stays" } else { "moves" }
}

fn head(e: &ExplainReply, owner: &str) -> String {
    let v = &e.verdict;
    let fate = match e.plan.steps.first() {
        Some(step) => format!("can move to {}", step.destination),
        None if e.offload.as_ref().is_some_and(|o| o.record.phase.is_guest()) => "is under way or away".to_owned(),
        None => "stays on head".to_owned(),
    };
    format!("{} {} {fate} ({owner}, up {}, {} CPU, {})\n", v.id, v.title, v.age, v.used.cpu, v.used.memory)
}

fn line(label: &str, text: &str) -> String {
    format!("  {label:<9}  {text}\n")
}

fn worth(v: &Verdict) -> String {
    match v.not_worth.as_slice() {
        [] => format!("yes   {}", if v.worth.is_empty() { v.kind_why.clone() } else { v.worth.join("; ") }),
        not => format!("no    {}", reasons(not)),
    }
}

fn movable(v: &Verdict) -> String {
    match v.cannot.as_deref() {
        None => line("can move", "-     not looked at closely"),
        Some([]) => line("can move", &format!("yes   {}", v.can)),
        Some(cannot) => line("can move", &format!("no    {}", each(cannot))),
    }
}

/// Code, detail and fix of each, one below the other.
fn each(all: &[Reason]) -> String {
    let width = all.iter().map(|r| r.code.as_str().len()).max().unwrap_or(0);
    let indent = " ".repeat(COLUMN + 1);
    let one = |r: &Reason| format!("{:width$}  {}\n{indent}{:width$}  fix: {}", r.code, r.detail, "", r.code.fix());
    let mut texts: Vec<_> = all.iter().take(REASONS_SHOWN).map(one).collect();
    texts.extend(more(all));
    texts.join(&format!("\n{indent}"))
}

fn fits(e: &ExplainReply) -> String {
    let indent = format!("\n{}", " ".repeat(COLUMN + 1));
    let room = e.plan.stays.first().map(|s| capacity(s)).unwrap_or_default();
    match (room.as_slice(), e.fits.as_slice()) {
        ([], []) => String::new(),
        ([], lines) => line("fits", &lines.join(&format!("\n{}", " ".repeat(13)))),
        (reasons, lines) => {
            let mut texts: Vec<_> = reasons.iter().map(|r| format!("{}  {}", r.code, r.detail)).collect();
            // The same figures are not said twice.
            texts.extend(lines.iter().filter(|l| !reasons.iter().any(|r| r.detail.contains(*l))).cloned());
            line("fits", &format!("no    {}", texts.join(&indent)))
        }
    }
}

/// Reasons of a stay that are about room, and not about the process.
fn capacity(stay: &Stay) -> Vec<&Reason> {
    use ReasonCode::{Expired, Frozen10, Limit, NoFit, NoLend, Silent, Split};
    stay.reasons
        .iter()
        .filter(|r| matches!(r.code, NoFit | Split | Silent | NoLend | Expired | Limit | Frozen10))
        .collect()
}

fn acceptance(v: &Verdict, step: &PlanStep) -> String {
    let frozen = match step.frozen {
        Some(_) => format!("{} for {}, at the rate measured on this link", about(step.frozen), step.memory),
        None => "-     no move was measured yet".to_owned(),
    };
    let jump =
        step.frozen.map_or_else(|| "wall clock jumps by the freeze".to_owned(), |f| format!("wall clock jumps ~{f}"));
    let mut notices = vec![jump];
    notices.extend(v.notices.iter().cloned());
    if v.notices.is_empty() {
        notices.push("nothing else was found".to_owned());
    }
    let back = step.frozen.map_or_else(String::new, |f| format!(", ~{f}"));
    [
        line("fits", &format!("whole in {}: needs {}, has {}", step.lease, step.needed, step.available)),
        line("frozen", &frozen),
        line("undo", &format!("before commit: thawed at once; after: grid offload recall {}{back}", v.id)),
        line("notices", &notices.join("; ")),
    ]
    .concat()
}

/// One reason code.
pub fn code(code: ReasonCode) -> String {
    let mut out = format!("{code}  {}\n", code.cause());
    let _ = writeln!(out, "  fix: {}", code.fix());
    let _ = writeln!(out, "  docs/reasons.md#{}", code.as_str().to_ascii_lowercase());
    out
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_refusal() {
        insta::assert_snapshot!(explain(&samples::refused(), "yours"));
    }

    #[test]
    fn hundreds_of_reasons_are_counted() {
        let mut e = samples::refused();
        let code = |n| if n % 3 == 0 { ReasonCode::File } else { ReasonCode::Pipe };
        let many = (0..300).map(|n| Reason::new(code(n), format!("pid {n}: fd 1 stays")));
        e.verdict.cannot = Some(many.collect());
        insta::assert_snapshot!(explain(&e, "root's"));
    }

    #[test]
    fn an_acceptance() {
        insta::assert_snapshot!(explain(&samples::accepted(), "yours"));
    }

    #[test]
    fn room_is_what_is_missing() {
        let mut e = samples::accepted();
        let step = e.plan.steps.remove(0);
        let reason = Reason::new(ReasonCode::NoFit, "needs 1.0 CPU 3.4 GiB; b-7k2 on gpu2 has 1.0 CPU 1.0 GiB left");
        e.plan.stays.push(Stay {
            process: step.process,
            title: step.title,
            used: e.verdict.used,
            reasons: vec![reason],
        });
        e.fits = vec!["b-7k2 on gpu2 has 1.0 CPU 1.0 GiB left".into(), "gpu1 silent 41 min".into()];
        insta::assert_snapshot!(explain(&e, "uid 65534's"));
    }

    #[test]
    fn nothing_measured_is_not_a_figure() {
        let mut e = samples::accepted();
        e.plan.steps[0].frozen = None;
        insta::assert_snapshot!(explain(&e, "yours"));
    }
}
