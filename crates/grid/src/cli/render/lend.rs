//! `grid lend`.

use super::table::Table;
use super::{Clock, count, cpus, held, known, lend_rule, lend_sleep};
use crate::cli::lend::{LendChange, LendStatus};
use grid_core::lend::above;
use grid_types::lend::{Closed, GuestHeld, LeaseHeld, LendAnswer, LendLimits, LendOrder};
use grid_types::units::{Millis, Resources};
use std::fmt::Write;

/// `on`, `off`, `reclaim`, or `unreadable`, which counts as off.
pub(crate) fn lend_word(s: &LendStatus) -> &'static str {
    match (&s.unreadable, &s.order) {
        (Some(_), _) => "unreadable",
        (None, Some(LendOrder { on: false, reclaim: true, .. })) => "reclaim",
        (None, Some(LendOrder { on: false, .. })) => "off",
        _ => "on",
    }
}

/// Each node of this machine: whether it lends, its limits, and who is here.
pub(crate) fn lend_status(all: &[LendStatus], clock: Clock) -> String {
    let mut out: Vec<String> = all.iter().map(|s| one(s, clock)).collect();
    out.push(
        "Nothing was changed.  Lend nothing more: grid lend off   less: grid lend limit --cpu 1   \
             by what you do here: grid lend rule --when-load 1.5\n"
            .to_owned(),
    );
    out.join("\n")
}

fn one(s: &LendStatus, clock: Clock) -> String {
    let by = s.by.as_ref().map_or(String::new(), |by| format!(" ({by})"));
    let since = s.order.as_ref().map_or(String::new(), |o| format!(" since {}", clock.time(o.since)));
    let answer = s.answer.as_ref();
    let limit = answer.map_or_else(|| "-".to_owned(), |a| held(&a.limit));
    let node = &s.node;
    let mut out = match (lend_word(s), answer.and_then(|a| a.closed.as_ref())) {
        ("on", Some(Closed::Rule { state })) => format!("{node} {}.\n", lend_rule::does(state, &by)),
        ("on", Some(Closed::Hours { hours })) => format!("{node} lends nothing new now: only at {hours}{by}.\n"),
        ("on", Some(Closed::Asleep)) => format!("{node} lends nothing new: it goes to sleep{by}.\n"),
        ("on", _) => format!("{node} lends {limit} at most.\n"),
        ("off", _) => format!("{node} lends nothing new{since}{by}.\n"),
        ("reclaim", _) => format!("{node} lends nothing{since}{by}, and takes back what it had lent.\n"),
        _ => format!("{node} lends nothing: what its owner said cannot be read: {}\n", known(s.unreadable.as_ref())),
    };
    let limits = s.order.as_ref().map(|o| limits(&o.limits)).unwrap_or_default();
    if !limits.is_empty() {
        let configured = known(answer.map(|a| held(&a.configured)));
        let _ = writeln!(out, "  limits   {limits}{by}; configured: {configured}");
    }
    out.push_str(&lend_rule::rules(s, clock));
    if let Some(standing) = answer.and_then(lend_sleep::standing) {
        let _ = writeln!(out, "  asleep   {standing}");
    }
    if let Some(trouble) = answer.and_then(|a| a.trouble.as_ref()) {
        let _ = writeln!(out, "  TROUBLE  {trouble}");
    }
    match (s.running, answer.map(|a| a.head)) {
        (Some(false), _) => out.push_str("  agent    does not run: what is here is as it was left\n"),
        (_, None) => out.push_str("  agent    has said nothing yet\n"),
        (_, Some(false)) => out.push_str("  head     is not reached\n"),
        (_, Some(true)) => {}
    }
    if !s.heeded && s.running != Some(false) {
        out.push_str("  agent    has not heeded that yet\n");
    }
    out + &leases(s, clock)
}

fn limits(l: &LendLimits) -> String {
    let parts = [
        l.cpu.map(|cpu| format!("{} CPU", cpus(cpu))),
        l.memory.map(|memory| memory.to_string()),
        l.keep_memory.map(|keep| format!("{keep} of the machine kept free")),
        l.hours.map(|hours| format!("only at {hours}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn leases(s: &LendStatus, clock: Clock) -> String {
    let Some(answer) = &s.answer else { return String::new() };
    if answer.leases.is_empty() {
        return "Nothing is lent, and nobody's processes are here.\n".to_owned();
    }
    let mut table = Table::new(&["BOOST", "HOLDS", "UNTIL", "CPU NOW", "MEMORY NOW", "GUESTS"]);
    for l in &answer.leases {
        let used = s.used.iter().find(|u| u.lease == l.lease);
        let guests: Vec<_> = l.guests.iter().map(|g| guest(g, clock)).collect();
        let guests = if guests.is_empty() { "none".to_owned() } else { guests.join(", ") };
        table.row([
            l.lease.to_string(),
            held(&l.amount),
            clock.time(l.until),
            known(used.and_then(|u| u.cpu)),
            known(used.and_then(|u| u.memory)),
            if l.frozen { format!("FROZEN: {guests}") } else { guests },
        ]);
    }
    table.text()
}

/// `4711 of alice since 12:05:10`.
fn guest(g: &GuestHeld, clock: Clock) -> String {
    let who = grid_os::users::name_of(g.uid).unwrap_or_else(|| format!("uid {}", g.uid));
    let pid = g.pid.map_or_else(|| "one on its way".to_owned(), |pid| pid.to_string());
    format!("{pid} of {who}{}", g.since.map_or(String::new(), |at| format!(" since {}", clock.time(at))))
}

/// What a change came to, or would.
pub(crate) fn lend_changed(c: &LendChange, by: Option<Millis>, clock: Clock) -> String {
    let would = if c.dry_run { "would lend" } else { "lends" };
    let node = &c.node;
    let mut out = match (c.order.on, c.order.reclaim) {
        (true, _) => on(c, would),
        (false, false) => format!("{node} {would} nothing new.\n"),
        (false, true) => format!("{node} {would} nothing, and {}.\n", taking(c.dry_run)),
    };
    match &c.answer {
        None => out.push_str("Its agent does not answer: it heeds that as soon as it runs.\n"),
        Some(answer) => out.push_str(&about_leases(c, answer, by, clock)),
    }
    out.push_str(&lend_rule::changed(c));
    out + &next(c)
}

fn taking(dry_run: bool) -> &'static str {
    if dry_run { "would take back what it has lent" } else { "takes back what it had lent" }
}

fn on(c: &LendChange, would: &str) -> String {
    let limits = limits(&c.order.limits);
    let limits = if limits.is_empty() { "as it is configured".to_owned() } else { limits };
    let configured = c.answer.as_ref().map_or(String::new(), |a| format!(" (configured: {})", held(&a.configured)));
    let mut out = format!("{} {would}: {limits}{configured}.\n", c.node);
    if let (Some(Closed::Hours { .. }), false) = (c.answer.as_ref().and_then(|a| a.closed.as_ref()), c.dry_run) {
        out.push_str("Now is not within these hours: nothing new is lent, and what is lent stays.\n");
    }
    out
}

fn about_leases(c: &LendChange, answer: &LendAnswer, by: Option<Millis>, clock: Clock) -> String {
    let mut out = answer.trouble.as_ref().filter(|_| !c.dry_run).map_or(String::new(), |t| format!("NOT DONE: {t}\n"));
    let stay = |l: &LeaseHeld| format!("{} {} until {} ({})", l.lease, held(&l.amount), clock.time(l.until), guests(l));
    let all = answer.leases.iter().map(stay).collect::<Vec<_>>().join(", ");
    match (c.order.on, c.order.reclaim, answer.leases.is_empty()) {
        (false, _, true) => out.push_str("Nothing was lent, and nobody's processes are here.\n"),
        (false, false, false) => {
            let _ = writeln!(out, "What is lent stays to its end, and gets no more time: {all}");
        }
        (false, true, false) if c.dry_run => {
            let by = by.unwrap_or_default();
            let _ = writeln!(
                out,
                "Frozen at once, and told to leave: {all}\nThis command would wait {by} for that; what is there then stays frozen."
            );
        }
        (false, true, false) => out.push_str(&taken(c, answer)),
        (true, _, _) => {
            let lent = answer.leases.iter().fold(Resources::default(), |sum, l| sum.saturating_add(&l.amount));
            if let Some(above) = above(&lent, &limit(c, answer)) {
                let _ = writeln!(out, "{} is lent above that, and stays until it ends: {all}", held(&above));
            }
        }
    }
    out
}

/// What it lends by this word.
fn limit(c: &LendChange, answer: &LendAnswer) -> Resources {
    let (l, all) = (&c.order.limits, answer.configured);
    Resources {
        cpu: l.cpu.unwrap_or(all.cpu).min(all.cpu),
        memory: l.memory.unwrap_or(all.memory).min(all.memory),
        gpu: 0,
    }
}

fn guests(l: &LeaseHeld) -> String {
    count(l.guests.len(), "guest", "guests")
}

/// Lease by lease: frozen, and gone or not.
fn taken(c: &LendChange, answer: &LendAnswer) -> String {
    let mut out = String::new();
    for l in &answer.leases {
        if let Some(taken) = &l.taken_back {
            let guests = count(taken.guests as usize, "guest", "guests");
            let _ = writeln!(out, "{}: {guests} frozen within {}", l.lease, taken.took);
        }
        let Some(after) = &c.after else { continue };
        let _ = match after.leases.iter().find(|still| still.lease == l.lease) {
            None => writeln!(
                out,
                "{}: {} is back after {}; its control group was empty",
                l.lease,
                held(&l.amount),
                c.waited
            ),
            Some(still) if still.guests.is_empty() => {
                writeln!(out, "{}: nobody is in it any more; the head has not given it back yet", l.lease)
            }
            Some(still) => writeln!(
                out,
                "{}: {} {} FROZEN after {}: {} has their CPU, and not their memory",
                l.lease,
                guests(still),
                if still.guests.len() == 1 { "STAYS" } else { "STAY" },
                c.waited,
                c.node
            ),
        };
    }
    if c.after.as_ref().is_some_and(|after| !after.head && !after.leases.is_empty()) {
        out.push_str("The head is not reached; it hears of it when it is, and has them leave then.\n");
    }
    out
}

fn next(c: &LendChange) -> String {
    let node = format!(" --node {}", c.node);
    match (c.dry_run, c.order.on, c.order.reclaim) {
        (true, ..) => "Nothing was changed.\n".to_owned(),
        (_, false, true) => format!("Let it lend, and its guests run, again: grid lend on{node}\n"),
        (_, false, false) => {
            format!("Take back what is lent: grid lend off --reclaim{node}   lend again: grid lend on{node}\n")
        }
        (_, true, _) => format!("Who is here: grid lend status{node}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::lend_sleep::lend_sleep;
    use super::*;
    use crate::cli::lend::LeaseUse;
    use grid_core::activity;
    use grid_types::lend::TakenBack;
    use grid_types::lend_rule::{LendRule, RulePhase, RuleState, Seen, Then, When};
    use grid_types::units::{Bytes, MilliCpu, UnixMs};

    fn res(cpu: u32, gib: u64) -> Resources {
        Resources { cpu: MilliCpu(cpu), memory: Bytes(gib << 30), gpu: 0 }
    }

    fn answer() -> LendAnswer {
        let now = samples::clock().now;
        let guest = GuestHeld { attempt: "o-19.1".into(), pid: Some(4711), uid: 0, since: Some(now) };
        LendAnswer {
            node: "gpu1".into(),
            mark: Some("1".into()),
            configured: res(8000, 16),
            limit: res(8000, 16),
            closed: None,
            rules: Vec::new(),
            trouble: None,
            asleep: false,
            standing: 0,
            head: true,
            group: "grid-1/gpu1".into(),
            leases: vec![LeaseHeld {
                lease: "b-7k2".into(),
                amount: res(2000, 8),
                until: UnixMs(now.0 + 3_600_000),
                frozen: false,
                taken_back: None,
                guests: vec![guest],
            }],
        }
    }

    fn status(order: Option<LendOrder>, answer: LendAnswer) -> LendStatus {
        let used = LeaseUse { lease: "b-7k2".into(), cpu: Some(MilliCpu(1000)), memory: Some(Bytes(3 << 30)) };
        let by = order.as_ref().map(|_| "root".to_owned());
        LendStatus {
            node: "gpu1".into(),
            order,
            unreadable: None,
            by,
            running: Some(true),
            heeded: true,
            answer: Some(answer),
            used: vec![used],
        }
    }

    fn off(reclaim: bool) -> LendOrder {
        LendOrder { on: false, since: samples::clock().now, reclaim, ..LendOrder::default() }
    }

    fn rule(when: When, then: Then) -> LendRule {
        LendRule { when, then, hold: Millis(30_000), quiet: Millis(300_000) }
    }

    /// Rules that are calm, rising, in force, and in force and over.
    fn ruled() -> (LendOrder, LendAnswer) {
        let at = |ago: u64| UnixMs(samples::clock().now.0 - ago);
        let (load, memory) =
            (rule(When::Load(MilliCpu(1500)), Then::Reclaim), rule(When::Memory(Bytes(2 << 30)), Then::Off));
        let input = LendRule { hold: Millis(0), ..rule(When::Input, Then::Off) };
        let state = |rule, phase, seen| RuleState { rule, phase, seen };
        let used = Seen::Input { terminal: "pts/3".into(), at: at(40_000) };
        let rules = vec![
            state(input, RulePhase::InForce { since: at(90_000), over: Some(at(40_000)) }, Some(used)),
            state(load, RulePhase::InForce { since: at(15_000), over: None }, Some(Seen::Load(MilliCpu(3200)))),
            state(memory, RulePhase::Rising { since: at(4_000) }, Some(Seen::Memory(Bytes(1 << 30)))),
        ];
        let closed = activity::in_force(&rules).map(|state| Closed::Rule { state: state.clone() });
        let order = LendOrder { rules: vec![input, load, memory], ..LendOrder::default() };
        (order, LendAnswer { rules, closed, ..answer() })
    }

    fn asleep() -> LendOrder {
        LendOrder { asleep: Some("boot".into()), ..LendOrder::default() }
    }

    fn limited() -> LendOrder {
        let hours = "18:00-08:00".parse().ok();
        let limits = LendLimits { cpu: Some(MilliCpu(1000)), memory: None, keep_memory: Some(Bytes(4 << 30)), hours };
        LendOrder { limits, ..LendOrder::default() }
    }

    #[test]
    fn what_a_machine_lends_and_who_is_there() {
        let frozen = {
            let mut answer =
                LendAnswer { trouble: Some("b-7k2: E-STOP grid is stopped".into()), head: false, ..answer() };
            answer.leases[0].frozen = true;
            answer
        };
        let limits = LendAnswer { limit: res(1000, 16), ..answer() };
        let empty = LendAnswer { leases: Vec::new(), ..answer() };
        let (rules, in_force) = ruled();
        let calm = LendAnswer { rules: Vec::new(), ..answer() };
        let all = [
            status(None, answer()),
            status(Some(rules.clone()), in_force),
            status(Some(rules), calm),
            status(Some(limited()), limits),
            status(Some(asleep()), LendAnswer { asleep: true, standing: 1, closed: Some(Closed::Asleep), ..answer() }),
            status(Some(LendOrder::default()), LendAnswer { standing: 1, ..answer() }),
            status(Some(off(false)), empty.clone()),
            status(Some(off(true)), frozen),
            LendStatus { running: Some(false), heeded: false, ..status(Some(off(false)), empty) },
            LendStatus { unreadable: Some("no JSON".into()), answer: None, running: None, ..status(None, answer()) },
        ];
        insta::assert_snapshot!(lend_status(&all, samples::clock()));
    }

    #[test]
    fn what_a_change_came_to() {
        let change = |order, answer| LendChange {
            node: "gpu1".into(),
            order,
            dry_run: false,
            answer,
            after: None,
            waited: Millis(2_100),
        };
        let taken = {
            let mut answer = answer();
            answer.leases[0].taken_back = Some(TakenBack { guests: 1, took: Millis(3), why: None });
            answer
        };
        let by = Some(Millis(30_000));
        let gone = LendAnswer { leases: Vec::new(), ..answer() };
        let (rules, in_force) = ruled();
        let text = [
            lend_changed(&change(rules.clone(), Some(in_force)), None, samples::clock()),
            lend_changed(&LendChange { dry_run: true, ..change(rules, Some(answer())) }, None, samples::clock()),
            lend_changed(&change(LendOrder::default(), Some(answer())), None, samples::clock()),
            lend_changed(&change(limited(), Some(answer())), None, samples::clock()),
            lend_changed(&change(off(false), Some(answer())), None, samples::clock()),
            lend_changed(&LendChange { dry_run: true, ..change(off(true), Some(answer())) }, by, samples::clock()),
            lend_changed(
                &LendChange { after: Some(gone), ..change(off(true), Some(taken.clone())) },
                by,
                samples::clock(),
            ),
            lend_changed(
                &LendChange {
                    after: Some(LendAnswer { head: false, ..taken.clone() }),
                    ..change(off(true), Some(taken))
                },
                by,
                samples::clock(),
            ),
            lend_changed(&change(off(false), None), None, samples::clock()),
            lend_sleep(&change(asleep(), Some(LendAnswer { standing: 1, ..answer() })), 0),
            lend_sleep(&LendChange { dry_run: true, ..change(asleep(), Some(answer())) }, 0),
            lend_sleep(&change(LendOrder::default(), Some(LendAnswer { standing: 2, ..answer() })), 2),
            lend_sleep(&change(LendOrder::default(), Some(answer())), 2),
            lend_sleep(&change(LendOrder::default(), Some(answer())), 0),
        ];
        insta::assert_snapshot!(text.join("\n"));
    }
}
