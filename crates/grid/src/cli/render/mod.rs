//! What people read: pure functions from the API's types to text.
//!
//! A figure is measured or carries `~`; unknown is `-`; a cause is the real one; the last line says what changed, or that
//! nothing did, and the next command. Reads no clock and asks nobody: who calls brings [`Clock`] and names.

mod between;
mod boost;
mod cordon;
mod event;
mod explain;
mod lend;
mod lend_rule;
mod lend_sleep;
mod members;
mod nodes;
mod offload;
mod park;
mod plan;
mod reclaim;
mod rescue;
#[cfg(test)]
pub(crate) mod samples;
mod scan;
mod status;
mod table;
mod trust;

pub use between::between;
pub use boost::{boost, boost_extended, boost_granted, boost_released, boosts};
pub use cordon::{cordoned, drained};
pub use event::event;
pub use explain::{code, explain, explain_word};
pub(crate) use lend::{lend_changed, lend_status, lend_word};
pub(crate) use lend_sleep::lend_sleep;
pub use members::{added, explain_node, removed, upgraded};
pub use nodes::nodes;
pub use offload::{
    auto_set, cancelling, moved, moving, offload, offloads, phase, would_cancel, would_recall, would_resolve,
};
pub use park::{would_park, would_unpark};
pub use plan::{applied, plan, plans, would_move};
pub use reclaim::reclaimed;
pub use rescue::rescued;
pub use scan::{scan, scan_code};
pub use status::status;
pub(crate) use trust::stopped;
pub use trust::{keeps, kept, would_stop};

use grid_types::facts::Way;
use grid_types::policy::AutoMode;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::units::{BootMs, Bytes, MilliCpu, Millis, Resources, UnixMs};

/// Now, for texts that need it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Wall clock.
    pub now: UnixMs,
    /// CLOCK_BOOTTIME of this machine, which is the head.
    pub boot: BootMs,
    /// Seconds by which local time is ahead of UTC.
    pub utc_offset_s: i32,
}

impl Clock {
    /// The present.
    pub fn now() -> Self {
        let now = grid_os::clock::unix_ms();
        Self { now, boot: grid_os::clock::boot_ms(), utc_offset_s: grid_os::clock::utc_offset_s(now) }
    }

    /// `12:58:20`, with the date where it is not today.
    pub fn time(&self, at: UnixMs) -> String {
        let local = |t: UnixMs| i64::try_from(t.0 / 1000).unwrap_or(0) + i64::from(self.utc_offset_s);
        let (day, second) = (local(at).div_euclid(86_400), local(at).rem_euclid(86_400));
        let time = format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
        if day == local(self.now).div_euclid(86_400) { time } else { format!("{} {time}", date(day)) }
    }

    /// Time that is left until a moment on CLOCK_BOOTTIME.
    fn left(&self, until: BootMs) -> Option<Millis> {
        until.0.checked_sub(self.boot.0).filter(|ms| *ms > 0).map(Millis)
    }
}

/// Days since 1970 as `2026-11-23`. Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn date(days: i64) -> String {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

/// Auto-offload's mode as it is typed.
pub fn mode(mode: AutoMode) -> &'static str {
    match mode {
        AutoMode::Off => "off",
        AutoMode::Observe => "observe",
        AutoMode::On => "on",
    }
}

/// Whose it is, for the person who asks: `yours`, `alice's`.
pub fn owner(uid: u32) -> String {
    let asked_by = nix::unistd::getuid();
    if asked_by.as_raw() == uid {
        return "yours".to_owned();
    }
    grid_os::users::name_of(uid).map_or_else(|| format!("uid {uid}'s"), |name| format!("{name}'s"))
}

/// `head ws1`, or a name alone.
fn about_self(n: &grid_types::api::NodeView) -> String {
    if n.head && n.node.as_str() != "head" { format!("head {}", n.node) } else { n.node.to_string() }
}

/// `  (its owner lends 1.0 CPU 4.0 GiB at most)`; nothing where he sets no limit.
fn limited(n: &grid_types::api::NodeView) -> String {
    n.limited.as_ref().map_or_else(String::new, |limited| format!("  ({limited})"))
}

/// `  (link direct)`, or why it goes by ssh; nothing where there is one way only, or it is not heard of.
fn link(n: &grid_types::api::NodeView) -> String {
    let link = n.facts.as_ref().and_then(|f| f.link.as_ref()).filter(|_| n.state == "ready");
    link.map_or_else(String::new, |link| match (link.way, &link.why) {
        (Way::Direct, _) => "  (link direct)".to_owned(),
        (Way::Ssh, None) => "  (link by ssh)".to_owned(),
        (Way::Ssh, Some(why)) => format!("  (link by ssh; {}: {why})", link.address),
    })
}

/// CPUs as they were asked for: `2`, `0.5`.
fn cpus(cpu: MilliCpu) -> String {
    if cpu.0.is_multiple_of(1000) { (cpu.0 / 1000).to_string() } else { cpu.to_string() }
}

/// An amount as it was asked for: only what there is of it, `2 CPU 8.0 GiB`.
fn held(r: &Resources) -> String {
    let mut parts = Vec::new();
    if r.cpu.0 > 0 {
        parts.push(format!("{} CPU", cpus(r.cpu)));
    }
    if r.memory.0 > 0 {
        parts.push(r.memory.to_string());
    }
    if r.gpu > 0 {
        parts.push(format!("{} GPU", r.gpu));
    }
    if parts.is_empty() { "0".to_owned() } else { parts.join(" ") }
}

/// `28.1 of 32.0 GiB`: the unit once where it is the same.
fn used_of(used: Bytes, total: Bytes) -> String {
    let (used, total) = (used.to_string(), total.to_string());
    match (used.split_once(' '), total.split_once(' ')) {
        (Some((number, unit)), Some((_, same))) if unit == same => format!("{number} of {total}"),
        _ => format!("{used} of {total}"),
    }
}

/// Something unknown is `-`.
fn known<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

/// A prediction carries `~`.
fn about(value: Option<Millis>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("~{v}"))
}

/// `0.4 s ago`, `41 min ago`.
fn ago(span: Millis) -> String {
    match span.0 {
        ms if ms < 60_000 => format!("{:.1} s ago", ms as f64 / 1000.0),
        ms if ms < 3_600_000 => format!("{} min ago", ms / 60_000),
        _ => format!("{span} ago"),
    }
}

/// More reasons than these are counted: a tree of many processes can have hundreds.
const REASONS_SHOWN: usize = 8;

/// `fd 19 is an io_uring [E-URING]; …`.
fn reasons(all: &[Reason]) -> String {
    let mut texts: Vec<_> = all.iter().take(REASONS_SHOWN).map(|r| format!("{} [{}]", r.detail, r.code)).collect();
    texts.extend(more(all));
    texts.join("; ")
}

/// `and 292 more: 200 E-PIPE, 92 E-FILE`; nothing where all are shown.
fn more(all: &[Reason]) -> Option<String> {
    let rest = all.get(REASONS_SHOWN..).filter(|rest| !rest.is_empty())?;
    let mut counts: Vec<(usize, ReasonCode)> = Vec::new();
    for reason in rest {
        match counts.iter_mut().find(|(_, code)| *code == reason.code) {
            Some((n, _)) => *n += 1,
            None => counts.push((1, reason.code)),
        }
    }
    counts.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    let codes: Vec<_> = counts.iter().map(|(n, code)| format!("{n} {code}")).collect();
    Some(format!("and {} more: {}", rest.len(), codes.join(", ")))
}

/// `1 process`, `3 processes`.
fn count(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_another_day_have_their_date() {
        let clock = Clock { now: UnixMs(1_795_000_000_000), utc_offset_s: 3600, ..Clock::default() };
        assert_eq!(clock.time(UnixMs(1_795_000_000_000)), "12:06:40");
        assert_eq!(clock.time(UnixMs(1_795_086_400_000)), "2026-11-19 12:06:40");
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
    }

    #[test]
    fn amounts_show_only_what_there_is() {
        let r = |cpu, memory, gpu| Resources { cpu: MilliCpu(cpu), memory: Bytes(memory), gpu };
        assert_eq!(held(&r(2000, 8 << 30, 0)), "2 CPU 8.0 GiB");
        assert_eq!(held(&r(500, 0, 1)), "0.5 CPU 1 GPU");
        assert_eq!(held(&r(0, 0, 0)), "0");
    }

    #[test]
    fn ages_are_short() {
        assert_eq!(ago(Millis(400)), "0.4 s ago");
        assert_eq!(ago(Millis(2_460_000)), "41 min ago");
        assert_eq!(ago(Millis(7_300_000)), "2h01m ago");
    }
}
