//! A cluster is asked: by the command line, as root or as somebody else, and by its API.

use super::{Cluster, api, guest};
use crate::criu;
use crate::procs::NOBODY;
use grid_types::api::{ApiError, BoostReply, BoostView, OffloadView, Reply, Status};
use grid_types::event::{EventRecord, OffloadPhase};
use grid_types::exit::FaultClass;
use serde::de::DeserializeOwned;
use std::io;
use std::process::{Child, Command, Stdio};

/// A command that has not ended after so many seconds has failed.
const COMMAND_SECONDS: &str = "60";

/// What a command said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its exit code; -1 where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Cluster {
    /// `grid WORDS`, whatever comes of it.
    pub fn grid(&self, words: &[&str]) -> Said {
        self.run(Command::new("timeout").args([COMMAND_SECONDS]).arg(&self.grid), words)
    }

    /// `grid WORDS` by the unprivileged user.
    pub fn grid_as_user(&self, words: &[&str]) -> Said {
        self.grid_as(NOBODY, &[], words)
    }

    /// `grid WORDS` by this user, in the group of the same number and in these.
    pub fn grid_as(&self, user: u32, groups: &[u32], words: &[&str]) -> Said {
        // The folder of the build may be closed to that user.
        let copy = self.dir.join("grid");
        if !copy.exists() {
            guest::copy(&self.grid, &copy).unwrap_or_else(|e| panic!("{}: {e}", copy.display()));
        }
        let groups = match groups {
            [] => "--clear-groups".to_owned(),
            some => format!("--groups={}", some.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
        };
        let ids = [format!("--reuid={user}"), format!("--regid={user}"), groups];
        self.run(Command::new("timeout").args([COMMAND_SECONDS, "setpriv"]).args(ids).arg(copy), words)
    }

    /// `grid WORDS` into a pipe that nobody reads.
    pub fn grid_unread(&self, words: &[&str]) -> Said {
        let (reader, writer) = io::pipe().unwrap_or_else(|e| panic!("a pipe: {e}"));
        drop(reader);
        let mut command = Command::new("timeout");
        self.run(command.arg(COMMAND_SECONDS).arg(&self.grid).stdout(writer).stderr(Stdio::piped()), words)
    }

    fn run(&self, command: &mut Command, words: &[&str]) -> Said {
        command.arg("--state").arg(&self.state).args(words).env("GRID_CRIU", criu::path()).stdin(Stdio::null());
        let out = command.output().unwrap_or_else(|e| panic!("grid {words:?}: {e}"));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Said { code: out.status.code().unwrap_or(-1), out: text(out.stdout), err: text(out.stderr) }
    }

    /// Starts `grid WORDS` and does not wait for it.
    pub fn begin(&self, words: &[&str]) -> Child {
        let mut command = Command::new("timeout");
        command.arg(COMMAND_SECONDS).arg(&self.grid).arg("--state").arg(&self.state).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap_or_else(|e| panic!("grid {words:?}: {e}"))
    }

    /// The answer to `grid WORDS`, as JSON.
    ///
    /// # Panics
    /// Where it is an error, or is not understood.
    pub fn ask<T: DeserializeOwned>(&self, words: &[&str]) -> T {
        let said = self.grid(&[&["-o", "json"], words].concat());
        self.answer(&said, words)
    }

    fn answer<T: DeserializeOwned>(&self, said: &Said, words: &[&str]) -> T {
        let reply: Option<Reply<T>> = serde_json::from_str(&said.out).ok();
        let answer = reply.filter(|_| said.code == 0).and_then(|r| r.ok);
        answer.unwrap_or_else(|| panic!("grid {words:?}: {said:?}\n{}", self.logs()))
    }

    /// The refusal of `grid WORDS`, and its exit code.
    ///
    /// # Panics
    /// Where it was not refused.
    pub fn refused(&self, words: &[&str]) -> (i32, ApiError) {
        refusal(&self.grid(&[&["-o", "json"], words].concat()), words)
    }

    /// As [`Cluster::refused`], by this user in these groups.
    pub fn refused_to(&self, user: u32, groups: &[u32], words: &[&str]) -> (i32, ApiError) {
        refusal(&self.grid_as(user, groups, &[&["-o", "json"], words].concat()), words)
    }

    /// As [`Cluster::ask`], by this user in these groups.
    ///
    /// # Panics
    /// Where it is an error, or is not understood.
    pub fn ask_as<T: DeserializeOwned>(&self, user: u32, groups: &[u32], words: &[&str]) -> T {
        let said = self.grid_as(user, groups, &[&["-o", "json"], words].concat());
        self.answer(&said, words)
    }

    /// As [`Cluster::refused`], by the unprivileged user.
    pub fn refused_to_user(&self, words: &[&str]) -> (i32, ApiError) {
        refusal(&self.grid_as_user(&[&["-o", "json"], words].concat()), words)
    }

    /// A boost of the head with these options, once the lender has room: what it uses itself is measured, and on a busy
    /// machine that is more for a moment.
    pub fn boost(&self, options: &str) -> BoostView {
        let asked: Vec<&str> = ["boost", "request", "head"].into_iter().chain(options.split_whitespace()).collect();
        let words = [&["-o", "json"], asked.as_slice()].concat();
        let no_room = i32::from(FaultClass::NoCapacity.code());
        let said =
            self.wait("room for a boost", || Some(self.grid(&words)).filter(|s| s.code != no_room).ok_or("none"));
        self.answer::<BoostReply>(&said, &asked).boost
    }

    /// Moves a process out and waits until it is away.
    ///
    /// # Panics
    /// Where it does not move.
    pub fn move_out(&self, pid: i32) -> OffloadView {
        let view: OffloadView = self.ask(&["offload", "execute", &pid.to_string()]);
        assert_eq!(view.record.phase, OffloadPhase::Away, "{view:?}");
        view
    }

    /// Moves it home and waits until it is there.
    ///
    /// # Panics
    /// Where it does not come.
    pub fn bring_home(&self, id: &str) -> OffloadView {
        let view: OffloadView = self.ask(&["offload", "recall", id]);
        assert_eq!(view.record.phase, OffloadPhase::Home, "{view:?}");
        view
    }

    /// Begins a move in the background and returns once the source's CRIU dumps: before the commit.
    pub fn begin_move(&self, pid: i32) -> (OffloadView, Child) {
        let before = self.offloads().len();
        let child = self.begin(&["offload", "execute", &pid.to_string()]);
        self.wait("CRIU to dump at home", || self.criu_runs_on("head"));
        let view = self.wait("the offload", || self.offloads().into_iter().nth(before).ok_or("none yet"));
        (view, child)
    }

    /// Everything at a glance.
    pub fn status(&self) -> io::Result<Status> {
        api::get(&self.state, "/v1/status")
    }

    /// All moves, the oldest first.
    pub fn offloads(&self) -> Vec<OffloadView> {
        let mut all: Vec<OffloadView> = api::get(&self.state, "/v1/offloads").unwrap_or_default();
        all.sort_by_key(|o| o.record.started_at);
        all
    }

    /// The journal.
    pub fn events(&self) -> Vec<EventRecord> {
        let text = api::body(&self.state, "/v1/events?after=0").unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

fn refusal(said: &Said, words: &[&str]) -> (i32, ApiError) {
    let reply: Option<Reply<serde_json::Value>> = serde_json::from_str(&said.out).ok();
    let error = reply.filter(|_| said.code != 0).and_then(|r| r.error);
    (said.code, error.unwrap_or_else(|| panic!("grid {words:?} was not refused: {said:?}")))
}
