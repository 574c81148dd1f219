//! `grid doctor --between`.

use super::table::Table;
use grid_types::machine::{MachineReply, Match};

/// Each row: what, here, there, what follows, what to do.
pub fn between(r: &MachineReply) -> String {
    let mut table = Table::new(&["", "WHAT", &r.here.to_string(), &r.there.to_string(), "DO"]);
    for row in &r.rows {
        let verdict = match row.verdict {
            Match::Ok => "ok",
            Match::Warn => "note",
            Match::Refuse => "REFUSED",
        };
        let cells = [verdict.to_owned(), row.what.clone(), row.here.clone(), row.there.clone()];
        table.row(cells.into_iter().chain([row.fix.clone().unwrap_or_default()]));
    }
    let count = |verdict| r.rows.iter().filter(|row| row.verdict == verdict).count();
    let end = match (r.one, count(Match::Refuse), count(Match::Warn)) {
        (true, ..) => "Both are one machine: nothing of this refuses a move.".to_owned(),
        (false, 0, 0) => "What runs here can run there.".to_owned(),
        (false, 0, n) => format!("What runs here can run there; {} to know.", super::count(n, "thing", "things")),
        (false, ..) => format!("What runs on {} is not moved to {} [E-MACHINE].", r.here, r.there),
    };
    format!("{}{end}\nNothing was changed.\n", table.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use grid_types::machine::MachineRow;

    #[test]
    fn two_machines_row_by_row() {
        let row = |what: &str, here: &str, there: &str, verdict, fix: Option<&str>| MachineRow {
            what: what.into(),
            here: here.into(),
            there: there.into(),
            verdict,
            fix: fix.map(str::to_owned),
        };
        let rows = vec![
            row("architecture", "x86_64", "x86_64", Match::Ok, None),
            row("cpu features", "40, avx512f alone", "39", Match::Refuse, Some("take a machine with all of them")),
            row("clock", "0 ms", "5000 ms ahead, within 2 ms", Match::Warn, Some("keep both by NTP")),
        ];
        let reply = |one, rows| MachineReply { here: "head".into(), there: "gpu1".into(), one, rows };
        let text = [
            between(&reply(false, rows.clone())),
            between(&reply(true, rows.clone())),
            between(&reply(false, vec![rows[0].clone(), rows[2].clone()])),
            between(&reply(false, vec![rows[0].clone()])),
        ];
        insta::assert_snapshot!(text.join("\n"));
    }
}
