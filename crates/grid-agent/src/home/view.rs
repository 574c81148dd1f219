//! On the lender: the pump beside a tree, and its connection home.

use crate::agent::Agent;
use crate::data::Dial;
use crate::link::tracing_line;
use crate::redial::Redial;
use crate::tree::{InitProcess, TREE_NAMESPACES, TreePlace, start_ticks};
use grid_home::control::{CONTROL_FD, LOCKS_FD, READY_FD, Word, hand_over, hear};
use grid_os::packets;
use grid_os::spawn::{Place, spawn};
use grid_types::AttemptId;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::Stage;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The mount is there within this, or the tree does not come: nothing is frozen yet.
const MOUNTED_WITHIN: u16 = 15_000;
/// A pump that listens to somebody else is gone to again after this.
const ASIDE: Duration = Duration::from_millis(300);

/// Whether home is reached now.
pub(crate) type Linked = Arc<AtomicBool>;

/// What makes a tree's view of home, and keeps it joined with home for as long as its pump lives.
pub(crate) struct View {
    attempt: AttemptId,
    dial: Dial,
    control: PathBuf,
    linked: Linked,
}

fn control_path(place: &TreePlace) -> PathBuf {
    place.dir.0.join("files.sock")
}

/// Where its pump says which locks the tree has.
pub(super) fn locks_path(place: &TreePlace) -> PathBuf {
    place.dir.0.join("locks.sock")
}

impl View {
    /// Mounts the head's files as the root of a mount namespace of the tree's, in its other namespaces. Who lives in it is
    /// returned: nobody of the tree's.
    pub(crate) fn mount(
        self,
        place: &TreePlace,
        program: &Path,
        init: InitProcess,
        stage: &Stage,
    ) -> Result<InitProcess, String> {
        let code = ReasonCode::File.as_str();
        let failed = |e: io::Error| format!("{code} the head's files: {e}");
        let (pump, ready) = self.start(place, program, init, stage).map_err(failed)?;
        std::thread::spawn(move || self.keep_joined());
        match said(ready).map_err(failed)?.as_str() {
            "r" => Ok(pump),
            "" => Err(failed(io::Error::other("home did not answer in time"))),
            why => Err(failed(io::Error::other(why))),
        }
    }

    fn start(
        &self,
        place: &TreePlace,
        program: &Path,
        init: InitProcess,
        stage: &Stage,
    ) -> io::Result<(InitProcess, OwnedFd)> {
        let door = packets::listen(&self.control, 0o600)?;
        let locks = packets::listen(&locks_path(place), 0o600)?;
        let init = init.open().ok_or_else(|| io::Error::other("the tree's pid 1 ended"))?;
        let (rx, tx) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (uid, gid) = (stage.uid.to_string(), stage.gid.to_string());
        let mut argv =
            vec![text(program), "home-pump".to_owned(), text(&place.dir.0), self.attempt.to_string(), uid, gid];
        argv.extend(stage.groups.iter().map(|group| format!("--group={group}")));
        argv.extend(stage.private_tmp.then(|| "--private-tmp".to_owned()));
        argv.extend(stage.files_patience.map(|patience| format!("--patience-ms={}", patience.0)));
        argv.extend(stage.own_paths.all().map(|path| format!("--own={path}")));
        let how = Place {
            cgroup_procs: place.init_group.procs_files(),
            join: Some((init.as_fd(), TREE_NAMESPACES)),
            unshare: libc::CLONE_NEWNS,
            new_session: true,
            inherit: vec![(tx.as_fd(), READY_FD), (door.as_fd(), CONTROL_FD), (locks.as_fd(), LOCKS_FD)],
            ..Place::default()
        };
        let pid = spawn(&argv, &[], &how)?.pid;
        let start_ticks = start_ticks(pid).ok_or_else(|| io::Error::other("the pump ended at once"))?;
        Ok((InitProcess { pid, start_ticks }, rx))
    }

    /// A pump listens to whoever came last.
    fn keep_joined(&self) {
        while let Ok(pump) = packets::connect(&self.control) {
            if let Err(e) = self.serve(&pump) {
                tracing_line(&format!("the files of {}: {e}", self.attempt));
            }
            self.linked.store(false, Ordering::Relaxed);
            std::thread::sleep(ASIDE);
        }
    }

    fn serve(&self, pump: &OwnedFd) -> io::Result<()> {
        let mut redial = Redial::new();
        while let Some(word) = hear(pump)? {
            self.linked.store(word == Word::Up, Ordering::Relaxed);
            match word {
                Word::Up => continue,
                Word::Over => {
                    return Err(io::Error::other("who served them at home is gone, and what was open with it"));
                }
                Word::Down => {}
            }
            let connection = redial.join(|| self.dial.files(&self.attempt), || self.control.exists())?;
            hand_over(pump, &connection)?;
        }
        Ok(())
    }
}

/// What the pump says of its mount; nothing where it says nothing in time.
fn said(ready: OwnedFd) -> io::Result<String> {
    let mut fds = [PollFd::new(ready.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, PollTimeout::from(MOUNTED_WITHIN))? == 0 {
        return Ok(String::new());
    }
    let mut text = String::new();
    File::from(ready).take(4096).read_to_string(&mut text)?;
    Ok(text)
}

impl Agent {
    /// For a tree that comes here, or lives here already: none where it sees this machine's files.
    pub(crate) fn view_of(&mut self, attempt: &AttemptId) -> Option<View> {
        let dial = Dial::of(&self.cfg)?;
        let incoming = self.incoming.get_mut(attempt).filter(|i| super::shown(&i.record.stage))?;
        let linked = incoming.files.insert(Linked::default()).clone();
        Some(View { attempt: attempt.clone(), dial, control: control_path(incoming.tree().0), linked })
    }

    /// After a restart: its pump is told of connections again.
    pub(crate) fn join_files(&mut self, attempt: &AttemptId) {
        if let Some(view) = self.view_of(attempt) {
            std::thread::spawn(move || view.keep_joined());
        }
    }

    /// What waits for home cannot be frozen: it is not begun.
    pub(crate) fn home_answers(&self, came_by: Option<&AttemptId>) -> Result<(), Reason> {
        let away = |linked: &Linked| !linked.load(Ordering::Relaxed);
        let waits = came_by.and_then(|a| self.incoming.get(a)).and_then(|i| i.files.as_ref()).is_some_and(away);
        if waits {
            let detail = "it sees the head's files, and the head does not answer for them now; it waits where it is";
            return Err(Reason::new(ReasonCode::Silent, detail));
        }
        Ok(())
    }
}
