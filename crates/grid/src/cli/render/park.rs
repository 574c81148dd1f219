//! `grid offload park|unpark`, and what lies on disks.

use super::table::Table;
use super::{held, known, offload::back_with};
use grid_types::api::{OffloadView, ParkReply};
use grid_types::event::{OffloadPhase, OffloadRecord};

/// What parking would do.
pub fn would_park(p: &ParkReply, on: Option<&str>) -> String {
    let option = on.map_or_else(String::new, |node| format!(" --on {node}"));
    format!(
        "{} {} would be parked on {}'s disk, from {}: about {} of memory would be free.\nNothing was changed.  Do it: grid offload park {}{option}\n",
        p.process, p.title, p.node, p.from, p.memory, p.process
    )
}

/// What unparking would do.
pub fn would_unpark(v: &OffloadView) -> String {
    let r = &v.record;
    let (way, option) = match &r.onward {
        None => ("at home".to_owned(), String::new()),
        Some(to) => (format!("on {} in {}", to.node, to.boost), format!(" --to {}", to.node)),
    };
    format!(
        "{} {} {} would run again {way}, from {}'s disk: needs {}.\nNothing was changed.  Do it: grid offload unpark {}{option}\n",
        r.id,
        r.process,
        r.title,
        r.destination,
        held(&r.needed),
        r.process
    )
}

/// How parking ended well: what it freed, and the way back.
pub(super) fn parked(v: &OffloadView) -> String {
    let r = &v.record;
    format!(
        "{} {} {} is parked on {}: {} of memory is free.\nIt runs on from there: grid offload unpark {}     Give it up: kill -9 {}\n",
        r.id,
        r.process,
        r.title,
        r.destination,
        size(r),
        r.process,
        r.process
    )
}

/// What lies on disks, with its age and size.
pub(super) fn parked_table(all: &[OffloadView]) -> String {
    let mut table = Table::new(&["PARKED", "PID", "COMMAND", "ON", "SIZE", "AGE", "BACK WITH"]);
    for v in all.iter().filter(|v| v.record.phase == OffloadPhase::Parked) {
        let r = &v.record;
        table.row([
            r.id.to_string(),
            r.process.to_string(),
            r.title.clone(),
            r.destination.to_string(),
            size(r),
            v.since.to_string(),
            back_with(v),
        ]);
    }
    table.text()
}

/// Memory that is parked.
pub(super) fn size(r: &OffloadRecord) -> String {
    known(r.parked.as_ref().and_then(|p| p.bytes))
}

#[cfg(test)]
mod tests {
    use super::super::{moved, offloads, samples};
    use super::*;
    use grid_types::UnixMs;
    use grid_types::event::{Direction, OnwardTo, ParkedAt};
    use grid_types::reason::{Reason, ReasonCode};
    use grid_types::units::Bytes;

    fn sample(phase: OffloadPhase, direction: Direction) -> OffloadView {
        let mut v = samples::away();
        let at = ParkedAt {
            node: "gpu2".into(),
            attempt: "o-19.2".into(),
            since: Some(UnixMs(1)),
            bytes: Some(Bytes(3 << 30)),
        };
        (v.record.phase, v.record.direction, v.record.boost) = (phase, direction, None);
        v.record.parked = Some(at);
        v
    }

    #[test]
    fn on_the_way_there_and_back() {
        let parked = sample(OffloadPhase::Parked, Direction::Park);
        let mut damaged = sample(OffloadPhase::Parked, Direction::Unpark);
        let what = "its copy /s/parked/o-19.2 does not have the hash that it was written with: its disk changed it; \
                    nothing was started, and what is parked was left as it is";
        damaged.record.reasons = vec![Reason::new(ReasonCode::Parked, what)];
        let mut full = sample(OffloadPhase::Failed, Direction::Park);
        full.record.reasons =
            vec![Reason::new(ReasonCode::Disk, "a parked copy takes about 3.4 GiB, and its disk has 1.0 GiB free")];
        let mut lease = sample(OffloadPhase::Parked, Direction::Park);
        lease.record.onward = Some(OnwardTo { node: "gpu1".into(), boost: "b-7k2".into() });
        let reply = ParkReply {
            process: parked.record.process.clone(),
            title: parked.record.title.clone(),
            memory: Bytes(3 << 30),
            from: "ws1".into(),
            node: "gpu2".into(),
            offload: None,
        };
        let text = [
            would_park(&reply, Some("gpu2")),
            moved(&parked),
            would_unpark(&parked),
            would_unpark(&lease),
            moved(&damaged),
            moved(&full),
            offloads(&[samples::away(), parked.clone()]),
            offloads(&[parked]),
        ];
        insta::assert_snapshot!(text.join("--\n"));
    }
}
