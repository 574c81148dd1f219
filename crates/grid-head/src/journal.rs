//! The head's journal: SQLite, WAL, full sync; one row an event, JSON that people can read with `sqlite3`.

use grid_types::event::EventRecord;
use rusqlite::{Connection, params};
use std::path::{Path, PathBuf};

const SCHEMA: i64 = 1;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// SQLite.
    #[error("journal {path}: {source}; nothing was overwritten. Stop grid and move the file aside to begin a new one")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file cannot be made or kept private.
    #[error(
        "journal {path}: {source}; nothing was changed. It and its directory must belong to the daemon's user: \
         grid up sees to that, else chown them"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// Written by a later version.
    #[error(
        "journal {path} has schema {found}, this grid knows {SCHEMA}: install the newer grid again; nothing was changed"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
    },
    /// An entry that cannot be read, or does not follow from those before it.
    #[error("journal {path}: entry {seq} {detail}; nothing was overwritten")]
    Entry {
        /// The file.
        path: PathBuf,
        /// Which.
        seq: u64,
        /// What is wrong.
        detail: String,
    },
}

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    db: Connection,
    path: PathBuf,
}

impl Journal {
    /// Opens or makes it.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let err = |source| JournalError::Sqlite { path: path.to_owned(), source };
        grid_os::private_file(path).map_err(|source| JournalError::Io { path: path.to_owned(), source })?;
        let db = Connection::open(path).map_err(err)?;
        db.pragma_update(None, "journal_mode", "WAL").map_err(err)?;
        db.pragma_update(None, "synchronous", "FULL").map_err(err)?;
        let found: i64 = db.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(err)?;
        if found > SCHEMA {
            return Err(JournalError::Newer { path: path.to_owned(), found });
        }
        if found == 0 {
            db.execute_batch(
                "BEGIN; CREATE TABLE event (seq INTEGER PRIMARY KEY, record TEXT NOT NULL);
                 PRAGMA user_version = 1; COMMIT;",
            )
            .map_err(err)?;
        }
        Ok(Self { db, path: path.to_owned() })
    }

    fn err(&self) -> impl Fn(rusqlite::Error) -> JournalError + '_ {
        |source| JournalError::Sqlite { path: self.path.clone(), source }
    }

    /// An entry that does not fit.
    pub fn bad_entry(&self, seq: u64, detail: impl ToString) -> JournalError {
        JournalError::Entry { path: self.path.clone(), seq, detail: detail.to_string() }
    }

    /// Appends durably.
    pub fn append(&self, record: &EventRecord) -> Result<(), JournalError> {
        let json = serde_json::to_string(record).map_err(|e| self.bad_entry(record.seq, e))?;
        self.db
            .prepare_cached("INSERT INTO event VALUES (?1, ?2)")
            .and_then(|mut s| s.execute(params![record.seq, json]))
            .map_err(self.err())?;
        Ok(())
    }

    /// Entries after this one, at most so many, in order.
    pub fn after(&self, seq: u64, most: u32) -> Result<Vec<EventRecord>, JournalError> {
        let mut statement = self
            .db
            .prepare_cached("SELECT seq, record FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2")
            .map_err(self.err())?;
        let rows = statement
            .query_map(params![seq, most], |r| Ok((r.get::<_, u64>(0)?, r.get::<_, String>(1)?)))
            .map_err(self.err())?;
        rows.map(|row| {
            let (seq, json) = row.map_err(self.err())?;
            serde_json::from_str(&json).map_err(|e| self.bad_entry(seq, e))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grid_types::event::{Actor, Event};
    use grid_types::units::{BootMs, UnixMs};

    fn record(seq: u64) -> EventRecord {
        EventRecord {
            seq,
            at: UnixMs(1),
            boot_at: BootMs(1),
            boot_id: "b".into(),
            actor: Actor::Daemon,
            plan: None,
            event: Event::DaemonStarted { version: "0".into() },
        }
    }

    #[test]
    fn entries_come_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(&dir.path().join("j.db")).unwrap();
        (1..=5).for_each(|i| journal.append(&record(i)).unwrap());
        assert_eq!(journal.after(2, 2).unwrap(), vec![record(3), record(4)]);
        assert!(journal.append(&record(5)).is_err(), "a number is never used twice");
    }

    #[test]
    fn a_newer_or_corrupt_journal_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.db");
        drop(Journal::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 7).unwrap();
        assert!(matches!(Journal::open(&path), Err(JournalError::Newer { found: 7, .. })));
        let bad = dir.path().join("bad.db");
        std::fs::write(&bad, "not a database at all, but long enough to be read").unwrap();
        assert!(matches!(Journal::open(&bad), Err(JournalError::Sqlite { .. })));
    }
}
