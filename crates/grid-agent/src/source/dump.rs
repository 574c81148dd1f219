//! The thread that dumps: CRIU down the stream, the tree frozen in its notification, the small images behind.

use super::DumpOutcome;
use super::hold::manifest;
use super::stop::refuse;
use crate::data;
use crate::faults::{Faults, Steps};
use crate::home::none_is_held;
use crate::link::tracing_line;
use crate::streams::left_behind;
use crate::tree::{TREE_NAMESPACES, TreePlace, owner_of};
use grid_os::cgroup::Group;
use grid_os::criu::{Criu, CriuError, DumpJob, Where, send_images};
use grid_os::pidfd::PidFd;
use grid_os::private_tmp::Carrier;
use grid_os::socket::Socket;
use grid_types::fault::FaultPoint;
use grid_types::stop::StopPlace;
use grid_types::wire::Stage;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub(super) fn prepare_images(place: &TreePlace, stage: &Stage) -> Result<(), String> {
    let make = || -> std::io::Result<()> {
        std::fs::create_dir_all(&place.images)?;
        std::os::unix::fs::chown(&place.images, Some(stage.uid), Some(stage.gid))
    };
    make().map_err(|e| format!("{}: {e}", place.images.display()))?;
    place.criu.create().map_err(|e| e.to_string())
}

/// Everything a dump thread needs.
pub(super) struct Dump {
    pub(super) criu: Criu,
    pub(super) faults: Faults,
    /// Looked at once more before the freeze.
    pub(super) stop: StopPlace,
    pub(super) place: TreePlace,
    pub(super) hold: Group,
    pub(super) stage: Stage,
    pub(super) root: i32,
    /// The root's number in the tree's own PID namespace, where it has one.
    pub(super) inside: Option<i32>,
    pub(super) stream: Socket,
    pub(super) as_owner: bool,
    /// Where the far end of its streams is spoken to, where it has one here.
    pub(super) far: Option<PathBuf>,
    /// It sees the head's files, on a lender.
    pub(super) carried: bool,
    /// Where its locks on the head's files are asked for, where it sees those on a lender.
    pub(super) locks: Option<PathBuf>,
    /// It has a `/tmp` of its own already, whose content goes along.
    pub(super) private_tmp: bool,
    /// Its lender froze it: CRIU can seize only what runs.
    pub(super) thaw: bool,
}

impl Dump {
    pub(super) fn run(mut self) -> DumpOutcome {
        let mut steps = Steps::new(&self.faults);
        let ready = || data::await_ready(&self.stream).map_err(|e| format!("the destination was not ready: {e}"));
        let waited = steps.run(FaultPoint::AwaitReady, ready);
        let frozen_at = Instant::now();
        let allowed = waited.and_then(|()| refuse(&self.stop).map_err(|reason| reason.to_string()));
        let result = allowed.and_then(|()| self.dump(&mut steps));
        tracing_line(&format!("dumped {} of {}: {}", self.stage.title, self.stage.offload, steps.text()));
        let bytes = written_bytes(&self.place.images);
        DumpOutcome { frozen_at, bytes, as_owner: self.as_owner, result }
    }

    fn dump(&mut self, steps: &mut Steps) -> Result<(), String> {
        steps.run(FaultPoint::StartDump, || self.freeze_and_read())?;
        self.locks.as_deref().map_or(Ok(()), none_is_held)?;
        let streams = self.far.as_deref().map(crate::streams::pause).transpose()?;
        let manifest = manifest(&self.hold, streams, self.stage.park, self.private_tmp);
        let sent = || data::send_manifest(&mut self.stream, &manifest).map_err(|e| format!("the page stream: {e}"));
        steps.run(FaultPoint::SendManifest, sent)?;
        steps.run(FaultPoint::SendImages, || {
            send_images(&self.place.images, self.stage.filtered, &mut self.stream)
                .map(|_| ())
                .map_err(|e| e.to_string())
        })?;
        if self.private_tmp { self.send_private_tmp() } else { Ok(()) }
    }

    /// The tree stands still, so that what its own `/tmp` holds does too.
    fn send_private_tmp(&mut self) -> Result<(), String> {
        let root = PidFd::open(self.root).map_err(|e| format!("process {}: {e}", self.root))?;
        let owner = owner_of(&self.stage);
        let carrier = Carrier { within: root.as_fd(), owner, cgroup_procs: Vec::new() };
        let sent = carrier.send(&mut self.stream);
        sent.map(drop).map_err(|e| format!("the content of its own /tmp: {e}"))
    }

    fn freeze_and_read(&mut self) -> Result<(), String> {
        // Through the root itself: CRIU must be in its time namespace too, which it may not enter by itself when it runs
        // as the owner.
        let root = match self.inside {
            Some(_) => Some(PidFd::open(self.root).map_err(|e| format!("process {}: {e}", self.root))?),
            None => None,
        };
        let job = DumpJob {
            pid: self.inside.unwrap_or(self.root),
            images: &self.place.images,
            pages: self.stream.as_fd(),
            owner: Some(owner_of(&self.stage)),
            shell_job: self.stage.shell_job,
            filtered: self.stage.filtered,
            close_tcp: self.stage.close_tcp,
            external: self.stage.shadow.as_ref().map_or_else(Vec::new, |terms| left_behind(&terms.streams)),
            place: Where {
                cgroup_procs: self.place.criu.procs_files(),
                join: root.as_ref().map(|fd| (fd.as_fd(), TREE_NAMESPACES | nix::libc::CLONE_NEWTIME)),
                carried: self.carried,
            },
        };
        let (hold, faults, stop) = (self.hold.clone(), self.faults.clone(), self.stop.clone());
        if self.thaw {
            self.hold.set_frozen(false).map_err(|e| e.to_string())?;
        }
        let mut freeze = || {
            refuse(&stop).map_err(|reason| reason.to_string())?;
            faults.at(FaultPoint::FreezeSource)?;
            hold.set_frozen(true).map_err(|e| e.to_string())
        };
        match self.criu.dump(&job, &mut freeze) {
            // The owner cannot start CRIU (its folder is closed to others, say): dump as whoever the agent is.
            Err(CriuError::Start(_)) if !self.carried => {
                self.as_owner = false;
                self.criu.dump(&DumpJob { owner: None, ..job }, &mut freeze).map_err(|e| e.to_string())
            }
            other => other.map_err(|e| e.to_string()),
        }
    }
}

/// Memory that CRIU wrote, from its statistics.
fn written_bytes(images: &Path) -> u64 {
    grid_os::criu::pages_written(images).unwrap_or(0) * 4096
}
