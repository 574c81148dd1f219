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
        "{} {} {} would run on {way}, from {}'s disk: needs {}.\nNothing was changed.  Do it: grid offload unpark {}{option}\n",
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
