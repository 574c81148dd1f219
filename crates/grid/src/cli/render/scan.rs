//! `grid offload scan`.

use super::table::{Table, wrap};
use super::{about, count, reasons};
use grid_types::Bytes;
use grid_types::api::{ScanReply, StayCount};
use grid_types::plan::{Complexity, Plan, PlanStep, Stay, Verdict};
use grid_types::reason::ReasonCode;
use grid_types::units::{BootMs, Millis, Resources};
use std::fmt::Write;

/// Codes that people know by a word, in the order in which they are named where counts are equal.
const WORDS: [(&str, &[ReasonCode]); 8] = [
    ("not yours", &[ReasonCode::Owner]),
    ("desktop/editor/browser", &[ReasonCode::Desktop]),
    ("small or new", &[ReasonCode::Small, ReasonCode::New]),
    ("services", &[ReasonCode::Service, ReasonCode::Database]),
    ("shells", &[ReasonCode::Shell]),
    ("kernel", &[ReasonCode::Kernel]),
    ("grid's own", &[ReasonCode::Grid]),
    ("away already", &[ReasonCode::Away]),
];

/// Lines of one code that are shown.
const LINES_SHOWN: usize = 40;

/// What could move now, what stays and why. `all` names every process that was looked at closely.
pub fn scan(s: &ScanReply, all: bool, now: BootMs) -> String {
    let mut out = headline(s);
    out.push_str(&movable(s));
    out.push_str(&stays(&s.stays));
    if all {
        out.push_str(&closely(&s.verdicts));
    }
    out + &last_line(s, now)
}

fn headline(s: &ScanReply) -> String {
    let steps = &s.plan.steps;
    let scanned = count(s.scanned as usize, "process", "processes");
    if steps.is_empty() {
        return format!("0 of {scanned} can move now.\n");
    }
    let sum = steps
        .iter()
        .fold(Resources::default(), |sum, p| sum.saturating_add(&Resources { cpu: p.cpu, memory: p.memory, gpu: 0 }));
    format!("{} of {scanned} can move now: {}, {} cores.\n", steps.len(), sum.memory, sum.cpu)
}

/// Candidates of the plan: those that move, and those that would if there were room.
fn movable(s: &ScanReply) -> String {
    let mut table = Table::new(&["PID", "COMMAND", "CPU", "MEM", "TO", "FROZEN", "RISK"]);
    s.plan.steps.iter().for_each(|step| table.row(step_cells(step)));
    for stay in roomless(s) {
        let why = format!(
            "none: {}",
            stay.reasons.iter().map(|r| format!("{} [{}]", r.detail, r.code)).collect::<Vec<_>>().join("; ")
        );
        let (cpu, memory) = (stay.used.cpu.to_string(), stay.used.memory.to_string());
        table.row([stay.process.pid.to_string(), stay.title.clone(), cpu, memory, why]);
    }
    table.text()
}

/// A step's cells, for the tables of scans and plans.
pub(super) fn step_cells(step: &PlanStep) -> [String; 7] {
    [
        step.process.pid.to_string(),
        step.title.clone(),
        step.cpu.to_string(),
        step.memory.to_string(),
        format!("{} {}", step.destination, step.lease),
        about(step.frozen),
        risk(step.complexity).to_owned(),
    ]
}

pub(super) fn risk(complexity: Complexity) -> &'static str {
    match complexity {
        Complexity::Low => "low",
        Complexity::Medium => "medium",
        Complexity::High => "high",
    }
}

/// What the detector would choose and the plan leaves, for want of room or by a limit.
fn roomless(s: &ScanReply) -> impl Iterator<Item = &Stay> {
    s.plan.stays.iter().filter(|stay| s.verdicts.iter().any(|v| v.id == stay.process && v.is_candidate()))
}

fn stays(stays: &[StayCount]) -> String {
    let total: u32 = stays.iter().map(|s| s.count).sum();
    if total == 0 {
        return String::new();
    }
    let of = |codes: &[ReasonCode]| stays.iter().filter(|s| codes.contains(&s.code)).map(|s| s.count).sum::<u32>();
    let mut words: Vec<(u32, &str)> =
        WORDS.iter().map(|(word, codes)| (of(codes), *word)).filter(|w| w.0 > 0).collect();
    words.sort_by_key(|w| std::cmp::Reverse(w.0));
    let mut codes: Vec<&StayCount> =
        stays.iter().filter(|s| s.count > 0 && !WORDS.iter().any(|(_, all)| all.contains(&s.code))).collect();
    codes.sort_by_key(|s| std::cmp::Reverse(s.count));
    let named = words.iter().map(|(n, word)| format!("{n} {word}"));
    let parts: Vec<_> = named.chain(codes.iter().map(|s| format!("{} {}", s.count, s.code))).collect();
    let stay = if total == 1 { "stays" } else { "stay" };
    let text = wrap(&format!("{total} {stay}:"), &parts, 10);
    format!("{}          (grid explain PID | grid offload scan --code E-TCP)\n", text)
}

fn closely(verdicts: &[Verdict]) -> String {
    let mut out = String::from("Looked at closely:\n");
    for v in verdicts {
        let why = match &v.cannot {
            _ if v.is_candidate() => format!("can move: {}", v.can),
            Some(cannot) => reasons(&[v.not_worth.as_slice(), cannot.as_slice()].concat()),
            None => reasons(&v.not_worth),
        };
        let _ = writeln!(out, "  {} {}  {} CPU {}  {why}", v.id, v.title, v.used.cpu, v.used.memory);
    }
    out
}

fn last_line(s: &ScanReply, now: BootMs) -> String {
    if !s.plan.steps.is_empty() {
        return format!(
            "Nothing was changed.  Do exactly this: grid plan apply {}   ({})\n",
            s.plan.id,
            valid(&s.plan, now)
        );
    }
    let want = roomless(s).fold(Resources::default(), |sum, stay| sum.saturating_add(&stay.used));
    if want.is_zero() {
        return "Nothing was changed.  Why one stays: grid explain PID\n".to_owned();
    }
    // Whole CPUs and GiB above what they use now.
    let (cpu, memory) =
        (want.cpu.0.div_ceil(1000).max(1), (want.memory.0 + (want.memory.0 >> 3)).div_ceil(1 << 30).max(1));
    format!("Nothing was changed.  Room for them: grid boost request head --cpu {cpu} --memory {memory}GiB\n")
}

/// `valid 60 s`, or that it is past its time.
pub(super) fn valid(plan: &Plan, now: BootMs) -> String {
    match plan.valid_until.0.checked_sub(now.0).filter(|left| *left > 0) {
        Some(left) if left <= 120_000 => format!("valid {} s", left.div_ceil(1000)),
        Some(left) => format!("valid {}", Millis(left)),
        None => "past its time".to_owned(),
    }
}

/// One code: what it means, and who has it.
pub fn scan_code(s: &ScanReply, code: ReasonCode) -> String {
    let mut out = super::code(code);
    let counted: u32 = s.stays.iter().filter(|c| c.code == code).map(|c| c.count).sum();
    let _ = writeln!(
        out,
        "{} for it first; those that were looked at closely:",
        match counted {
            1 => "1 process stays".to_owned(),
            n => format!("{n} processes stay"),
        }
    );
    let has = |v: &Verdict| {
        let all = v.not_worth.iter().chain(v.cannot.iter().flatten());
        all.filter(|r| r.code == code).map(|r| format!("  {} {}  {}\n", v.id, v.title, r.detail)).collect::<Vec<_>>()
    };
    let lines: Vec<String> = s.verdicts.iter().flat_map(has).collect();
    out.extend(lines.iter().take(LINES_SHOWN).map(String::as_str));
    if lines.len() > LINES_SHOWN {
        let _ = writeln!(out, "  and {} more (grid -o json offload scan --code {code})", lines.len() - LINES_SHOWN);
    }
    out + "Nothing was changed.  All about one: grid explain PID\n"
}

/// Bytes that all steps move.
pub(super) fn moved_bytes(plan: &Plan) -> Bytes {
    Bytes(plan.steps.iter().map(|s| s.memory.0).sum())
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn two_move_one_lacks_room() {
        insta::assert_snapshot!(scan(&samples::scan(), false, BootMs(1_000)));
    }

    #[test]
    fn without_a_boost_it_says_how_much_to_ask_for() {
        let mut s = samples::scan();
        s.plan.steps.clear();
        insta::assert_snapshot!(scan(&s, true, BootMs(1_000)));
    }

    #[test]
    fn one_code() {
        insta::assert_snapshot!(scan_code(&samples::scan(), ReasonCode::Uring));
    }

    #[test]
    fn a_plan_past_its_time_is_not_offered_as_valid() {
        assert_eq!(valid(&samples::scan().plan, BootMs(99_000)), "past its time");
    }
}
