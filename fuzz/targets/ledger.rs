//! An agent's ledger, row by row as somebody may have left it, and the handovers that go on from it with any messages.
#![no_main]

use grid_agent::Ledger;
use grid_core::handover::{Destination, DestinationInput, HomeCopy, Source, SourceInput, TreeCopy};
use grid_fuzz::{parts, scratch};
use grid_types::handover::{ToDestination, ToSource};
use libfuzzer_sys::fuzz_target;
use rusqlite::{Connection, params};
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let dir = scratch();
    let path = dir.path().join("ledger.db");
    if let Some(file) = data.strip_prefix(b"SQLite") {
        // The file itself is damaged: refused or read, never a panic.
        std::fs::write(&path, [b"SQLite".as_slice(), file].concat()).expect("a scratch file");
        let _ = Ledger::open(&path).map(|l| (l.sources::<Value>().is_ok(), l.destinations::<Value>().is_ok()));
        return;
    }
    drop(Ledger::open(&path).expect("a new one"));
    let rows = parts(data);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let db = Connection::open(&path).expect("was just made");
    let _ = db.pragma_update(None, "synchronous", "OFF");
    for (table, words, detail) in rows.iter().take(8) {
        let (attempt, state) = words.split_once(' ').unwrap_or((words, ""));
        let _ = match *table {
            "source" => db.execute("INSERT INTO source VALUES (?1, ?2, ?3)", params![attempt, state, text(detail)]),
            "destination" => {
                let sql = "INSERT INTO destination VALUES (?1, ?2, 0, ?3)";
                db.execute(sql, params![attempt, state, text(detail)])
            }
            _ => continue,
        };
    }
    drop(db);
    let ledger = Ledger::open(&path).expect("whole");
    let lines: Vec<&[u8]> = rows.iter().filter(|r| r.0 == "say").flat_map(|r| r.2.split(|b| *b == b'\n')).collect();
    for row in ledger.sources::<Value>().unwrap_or_default() {
        for home in [HomeCopy::Runs, HomeCopy::Frozen, HomeCopy::Gone, HomeCopy::Rebooted] {
            let (mut source, _) = Source::recover(row.attempt.clone(), row.state, home, vec![15]);
            for line in lines.iter().take(32) {
                let input = serde_json::from_slice::<ToSource>(line).map(SourceInput::Received);
                let _ = source.step(input.unwrap_or(SourceInput::Tick));
            }
        }
    }
    for row in ledger.destinations::<Value>().unwrap_or_default() {
        for copy in [TreeCopy::Runs, TreeCopy::Frozen, TreeCopy::Ended, TreeCopy::Gone] {
            let (mut destination, _) = Destination::recover(row.attempt.clone(), row.state, row.released, copy);
            for line in lines.iter().take(32) {
                let input = serde_json::from_slice::<ToDestination>(line).map(DestinationInput::Received);
                let _ = destination.step(input.unwrap_or(DestinationInput::Tick));
            }
        }
    }
});
