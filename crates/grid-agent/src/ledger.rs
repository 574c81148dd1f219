//! The agent's durable ledger of handovers and leases: SQLite, WAL, full sync, because promises hang on it.
//!
//! Owns the file. Persist, then speak: every method returns after the commit. A corrupt or newer file is refused
//! with what to do, never overwritten. On a full disk what is under way can still be written down: room is held for it.

use grid_os::ballast::Ballast;
use grid_types::handover::{DestinationState, SourceState};
use grid_types::streams::ShadowId;
use grid_types::{AttemptId, LeaseId};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Raised with each change of the tables.
const SCHEMA: i64 = 5;
/// The one record of its table.
const THIS_MACHINE: &str = "this machine";

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// SQLite.
    #[error(
        "ledger {path}: {source}; nothing was overwritten. Stop grid and move the file aside; what is held frozen then: grid rescue"
    )]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file cannot be made or kept private.
    #[error("ledger {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// Written by a later version.
    #[error(
        "ledger {path} has schema {found}, this grid knows {SCHEMA}: install the newer grid again; nothing was changed"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
    },
    /// A record that cannot be read.
    #[error("ledger {path}: record {record} cannot be read: {detail}")]
    Record {
        /// The file.
        path: PathBuf,
        /// Which.
        record: String,
        /// What is wrong.
        detail: String,
    },
}

/// A side of a handover as it was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<S, D> {
    /// Which attempt.
    pub attempt: AttemptId,
    /// Its state.
    pub state: S,
    /// The owner's answer came (destination only).
    pub released: bool,
    /// Everything that is needed to go on after a restart.
    pub detail: D,
}

/// The open ledger.
#[derive(Debug)]
pub struct Ledger {
    db: Connection,
    path: PathBuf,
    ballast: Ballast,
}

impl Ledger {
    /// Opens or makes the ledger. On a full disk the room that was held for it is let go.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let ballast = Ballast::of(path);
        match Self::open_once(path) {
            Err(LedgerError::Sqlite { source, .. }) if is_full(&source) && ballast.let_go() => Self::open_once(path),
            other => other,
        }
    }

    /// Opens a copy of the ledger, so that reading it changes nothing: not even its write-ahead log is merged. The copy is
    /// in memory (`/run`) and gone when this returns.
    ///
    /// # Errors
    /// In words: it is not there, cannot be copied, or cannot be opened.
    pub fn open_copy(path: &Path) -> Result<Self, String> {
        let at = |what: &Path, e: std::io::Error| format!("{}: {e}", what.display());
        let dir = Path::new("/run").join(format!("grid-rescue-{}", std::process::id()));
        std::fs::metadata(path).map_err(|e| at(path, e))?;
        std::fs::DirBuilder::new().mode(0o700).create(&dir).map_err(|e| at(&dir, e))?;
        let opened = copy_into(path, &dir).and_then(|copy| Self::open_once(&copy).map_err(|e| e.to_string()));
        // What is open stays readable.
        let _ = std::fs::remove_dir_all(&dir);
        opened
    }

    fn open_once(path: &Path) -> Result<Self, LedgerError> {
        let err = |source| LedgerError::Sqlite { path: path.to_owned(), source };
        grid_os::private_file(path).map_err(|source| LedgerError::Io { path: path.to_owned(), source })?;
        let db = Connection::open(path).map_err(err)?;
        db.pragma_update(None, "journal_mode", "WAL").map_err(err)?;
        db.pragma_update(None, "synchronous", "FULL").map_err(err)?;
        let found: i64 = db.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(err)?;
        if found > SCHEMA {
            return Err(LedgerError::Newer { path: path.to_owned(), found });
        }
        if found < 1 {
            db.execute_batch(
                "BEGIN;
                 CREATE TABLE source (attempt TEXT PRIMARY KEY, state TEXT NOT NULL, detail TEXT NOT NULL);
                 CREATE TABLE destination (attempt TEXT PRIMARY KEY, state TEXT NOT NULL, released INTEGER NOT NULL,
                                           detail TEXT NOT NULL);
                 CREATE TABLE lease (lease TEXT PRIMARY KEY, detail TEXT NOT NULL);
                 PRAGMA user_version = 1;
                 COMMIT;",
            )
            .map_err(err)?;
        }
        if found < 2 {
            add_table(&db, "shadow", 2).map_err(err)?;
        }
        if found < 3 {
            add_table(&db, "passage", 3).map_err(err)?;
        }
        if found < 4 {
            // The tables are the same, with rows of parked copies: a grid that does not know these would call them lost.
            db.pragma_update(None, "user_version", 4).map_err(err)?;
        }
        if found < 5 {
            add_table(&db, "sleep", 5).map_err(err)?;
        }
        Ok(Self { db, path: path.to_owned(), ballast: Ballast::of(path) })
    }

    /// Holds room for the end of whatever is begun next.
    ///
    /// # Errors
    /// Where the disk is full: nothing must be begun.
    pub fn hold_room(&self) -> Result<(), LedgerError> {
        self.ballast.hold().map_err(|source| LedgerError::Io { path: self.path.clone(), source })
    }

    /// Writes; where the disk is full, once more in the room that was held.
    fn write(&self, run: impl Fn(&Connection) -> rusqlite::Result<usize>) -> Result<(), LedgerError> {
        let done = match run(&self.db) {
            Err(e) if is_full(&e) && self.ballast.let_go() => run(&self.db),
            other => other,
        };
        done.map(|_| ()).map_err(self.err())
    }

    fn err(&self) -> impl Fn(rusqlite::Error) -> LedgerError + '_ {
        |source| LedgerError::Sqlite { path: self.path.clone(), source }
    }

    fn decode<T: DeserializeOwned>(&self, record: &str, json: &str) -> Result<T, LedgerError> {
        serde_json::from_str(json).map_err(|e| LedgerError::Record {
            path: self.path.clone(),
            record: record.to_owned(),
            detail: e.to_string(),
        })
    }

    fn encode<T: Serialize>(&self, record: &str, value: &T) -> Result<String, LedgerError> {
        serde_json::to_string(value).map_err(|e| LedgerError::Record {
            path: self.path.clone(),
            record: record.to_owned(),
            detail: e.to_string(),
        })
    }

    /// Records the source's side of an attempt.
    pub fn put_source<D: Serialize>(
        &self,
        attempt: &AttemptId,
        state: SourceState,
        detail: &D,
    ) -> Result<(), LedgerError> {
        let (state, detail) = (self.encode("source", &state)?, self.encode("source", detail)?);
        let sql = "INSERT OR REPLACE INTO source VALUES (?1, ?2, ?3)";
        self.write(|db| db.prepare_cached(sql)?.execute(params![attempt.as_str(), state, detail]))
    }

    /// Records the destination's side of an attempt.
    pub fn put_destination<D: Serialize>(
        &self,
        attempt: &AttemptId,
        state: DestinationState,
        released: bool,
        detail: &D,
    ) -> Result<(), LedgerError> {
        let (state, detail) = (self.encode("destination", &state)?, self.encode("destination", detail)?);
        let sql = "INSERT OR REPLACE INTO destination VALUES (?1, ?2, ?3, ?4)";
        self.write(|db| db.prepare_cached(sql)?.execute(params![attempt.as_str(), state, released, detail]))
    }

    /// Every recorded source's side.
    pub fn sources<D: DeserializeOwned>(&self) -> Result<Vec<Row<SourceState, D>>, LedgerError> {
        self.newest_sources(u32::MAX)
    }

    /// The source's sides that were written last, at most so many, in the order of writing.
    pub fn newest_sources<D: DeserializeOwned>(&self, most: u32) -> Result<Vec<Row<SourceState, D>>, LedgerError> {
        self.newest("SELECT attempt, state, 0, detail FROM source ORDER BY rowid DESC LIMIT ?1", most)
    }

    /// Every recorded destination's side.
    pub fn destinations<D: DeserializeOwned>(&self) -> Result<Vec<Row<DestinationState, D>>, LedgerError> {
        self.newest_destinations(u32::MAX)
    }

    /// The destination's sides that were written last, at most so many, in the order of writing.
    pub fn newest_destinations<D: DeserializeOwned>(
        &self,
        most: u32,
    ) -> Result<Vec<Row<DestinationState, D>>, LedgerError> {
        self.newest("SELECT attempt, state, released, detail FROM destination ORDER BY rowid DESC LIMIT ?1", most)
    }

    fn newest<S: DeserializeOwned, D: DeserializeOwned>(
        &self,
        sql: &str,
        most: u32,
    ) -> Result<Vec<Row<S, D>>, LedgerError> {
        let mut statement = self.db.prepare_cached(sql).map_err(self.err())?;
        let read = |r: &rusqlite::Row<'_>| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?));
        let rows = statement.query_map([most], read).map_err(self.err())?;
        let mut rows: Vec<_> = rows.collect::<Result<_, _>>().map_err(self.err())?;
        rows.reverse();
        rows.into_iter().map(|r| self.row(r)).collect()
    }

    fn row<S: DeserializeOwned, D: DeserializeOwned>(
        &self,
        (attempt, state, released, detail): (String, String, bool, String),
    ) -> Result<Row<S, D>, LedgerError> {
        let state = self.decode(&attempt, &state)?;
        let detail = self.decode(&attempt, &detail)?;
        Ok(Row { attempt: AttemptId(attempt), state, released, detail })
    }

    /// One recorded source's side, where there is one.
    pub fn source<D: DeserializeOwned>(&self, attempt: &AttemptId) -> Result<Option<Row<SourceState, D>>, LedgerError> {
        self.one("SELECT attempt, state, 0, detail FROM source WHERE attempt = ?1", attempt)
    }

    /// One recorded destination's side, where there is one.
    pub fn destination<D: DeserializeOwned>(
        &self,
        attempt: &AttemptId,
    ) -> Result<Option<Row<DestinationState, D>>, LedgerError> {
        self.one("SELECT attempt, state, released, detail FROM destination WHERE attempt = ?1", attempt)
    }

    fn one<S: DeserializeOwned, D: DeserializeOwned>(
        &self,
        sql: &str,
        attempt: &AttemptId,
    ) -> Result<Option<Row<S, D>>, LedgerError> {
        let row = self
            .db
            .query_row(sql, [attempt.as_str()], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))
            .optional()
            .map_err(self.err())?;
        row.map(|r| self.row(r)).transpose()
    }

    /// Records a lease.
    pub fn put_lease<D: Serialize>(&self, lease: &LeaseId, detail: &D) -> Result<(), LedgerError> {
        self.put_named("lease", lease.as_str(), detail)
    }

    /// Forgets a lease whose control group is gone.
    pub fn drop_lease(&self, lease: &LeaseId) -> Result<(), LedgerError> {
        self.drop_named("lease", lease.as_str())
    }

    /// Every recorded lease.
    pub fn leases<D: DeserializeOwned>(&self) -> Result<Vec<(LeaseId, D)>, LedgerError> {
        Ok(self.named("lease")?.into_iter().map(|(id, detail)| (LeaseId(id), detail)).collect())
    }

    /// Records a shadow of this node's.
    pub fn put_shadow<D: Serialize>(&self, shadow: &ShadowId, detail: &D) -> Result<(), LedgerError> {
        self.put_named("shadow", shadow.as_str(), detail)
    }

    /// Forgets a shadow that has ended, and whose tree has.
    pub fn drop_shadow(&self, shadow: &ShadowId) -> Result<(), LedgerError> {
        self.drop_named("shadow", shadow.as_str())
    }

    /// Every recorded shadow.
    pub fn shadows<D: DeserializeOwned>(&self) -> Result<Vec<(ShadowId, D)>, LedgerError> {
        Ok(self.named("shadow")?.into_iter().map(|(id, detail)| (AttemptId(id), detail)).collect())
    }

    /// Records that the tree of this attempt may pass from one worker to another.
    pub fn put_passage<D: Serialize>(&self, attempt: &AttemptId, detail: &D) -> Result<(), LedgerError> {
        self.put_named("passage", attempt.as_str(), detail)
    }

    /// Every recorded passage.
    pub fn passages<D: DeserializeOwned>(&self) -> Result<Vec<(AttemptId, D)>, LedgerError> {
        Ok(self.named("passage")?.into_iter().map(|(id, detail)| (AttemptId(id), detail)).collect())
    }

    /// Records what is known of this machine's sleep, in the place of what was known.
    pub fn put_sleep<D: Serialize>(&self, detail: &D) -> Result<(), LedgerError> {
        self.put_named("sleep", THIS_MACHINE, detail)
    }

    /// It; none where it never slept.
    pub fn sleep<D: DeserializeOwned>(&self) -> Result<Option<D>, LedgerError> {
        Ok(self.named("sleep")?.pop().map(|(_, detail)| detail))
    }

    /// In these tables a record's key is named as the table is.
    fn put_named<D: Serialize>(&self, table: &str, id: &str, detail: &D) -> Result<(), LedgerError> {
        let detail = self.encode(id, detail)?;
        let sql = format!("INSERT OR REPLACE INTO {table} VALUES (?1, ?2)");
        self.write(|db| db.prepare_cached(&sql)?.execute(params![id, detail]))
    }

    fn drop_named(&self, table: &str, id: &str) -> Result<(), LedgerError> {
        self.write(|db| db.execute(&format!("DELETE FROM {table} WHERE {table} = ?1"), [id]))
    }

    fn named<D: DeserializeOwned>(&self, table: &str) -> Result<Vec<(String, D)>, LedgerError> {
        let sql = format!("SELECT {table}, detail FROM {table}");
        let mut statement = self.db.prepare(&sql).map_err(self.err())?;
        let rows = statement.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?)));
        let rows = rows.and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(self.err())?;
        rows.into_iter().map(|(id, json)| self.decode(&id, &json).map(|detail| (id.clone(), detail))).collect()
    }
}

/// A table whose key is named as itself, and with it the next schema.
fn add_table(db: &Connection, table: &str, schema: i64) -> rusqlite::Result<()> {
    db.execute_batch(&format!(
        "BEGIN;
         CREATE TABLE {table} ({table} TEXT PRIMARY KEY, detail TEXT NOT NULL);
         PRAGMA user_version = {schema};
         COMMIT;"
    ))
}

/// No room on the disk; SQLite says so in several ways.
fn is_full(e: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, DiskFull, SystemIoFailure};
    matches!(e.sqlite_error_code(), Some(DiskFull | SystemIoFailure | CannotOpen))
}

/// The database and its write-ahead log; what is only there while it is open is made anew.
fn copy_into(path: &Path, dir: &Path) -> Result<PathBuf, String> {
    let copy = dir.join("ledger.db");
    let wal = |of: &Path| PathBuf::from(format!("{}-wal", of.display()));
    let failed = |e: std::io::Error| format!("copying {}: {e}", path.display());
    std::fs::copy(path, &copy).map_err(failed)?;
    if wal(path).exists() {
        std::fs::copy(wal(path), wal(&copy)).map_err(failed)?;
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let attempt = AttemptId::from("a-1");
        let ledger = Ledger::open(&path).unwrap();
        ledger.put_source(&attempt, SourceState::Running, &"d").unwrap();
        ledger.put_source(&attempt, SourceState::Committed, &"d2").unwrap();
        ledger.put_destination(&attempt, DestinationState::Refused, false, &"x").unwrap();
        drop(ledger);
        let ledger = Ledger::open(&path).unwrap();
        let rows = ledger.sources::<String>().unwrap();
        assert_eq!((rows.len(), rows[0].state, rows[0].detail.as_str()), (1, SourceState::Committed, "d2"));
        let row = ledger.destination::<String>(&attempt).unwrap().unwrap();
        assert_eq!((row.state, row.detail.as_str()), (DestinationState::Refused, "x"));
        assert_eq!(ledger.destination::<String>(&"a-2".into()).unwrap(), None);
    }

    #[test]
    fn a_newer_ledger_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        drop(Ledger::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(Ledger::open(&path), Err(LedgerError::Newer { found: 99, .. })));
    }

    #[test]
    fn a_corrupt_ledger_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        std::fs::write(&path, b"this is not a database, it is a text of some length").unwrap();
        assert!(matches!(Ledger::open(&path), Err(LedgerError::Sqlite { .. })));
        assert!(std::fs::read(&path).unwrap().starts_with(b"this is not"));
    }
}
