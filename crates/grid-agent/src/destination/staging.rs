//! The thread that stages: namespaces, memory off the stream, CRIU's restore, the freeze, the gate.

use super::{Root, StageOutcome, Staged};
use crate::data::{DataStream, receive_manifest};
use crate::faults::{Faults, Steps};
use crate::gate::{Gate, Own};
use crate::home::{View, carried, shown};
use crate::link::tracing_line;
use crate::shadow::Listeners;
use crate::streams::{Ends, keep_snapshot};
use crate::tree::{InitProcess, TREE_NAMESPACES, TreePlace, executable, owner_of, start_ticks, wait_gone};
use grid_os::cgroup::{Controller, Group};
use grid_os::criu::{Arena, Criu, CriuError, ReceivedPages, RestoreJob, Where, receive_images, receive_pages};
use grid_os::private_tmp::Carrier;
use grid_os::socket::Socket;
use grid_os::spawn::Keeper;
use grid_types::fault::FaultPoint;
use grid_types::wire::{Manifest, Stage};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

/// Everything a staging thread needs.
pub(super) struct Staging {
    pub(super) criu: Criu,
    pub(super) faults: Faults,
    pub(super) place: TreePlace,
    pub(super) stage: Stage,
    pub(super) program: PathBuf,
    pub(super) own: Own,
    /// Of the tree's shadow, where it is this node's: the tree listens itself from now on.
    pub(super) listeners: Option<Listeners>,
    pub(super) stream: Socket,
    /// Of the head's files, where it is to see those.
    pub(super) view: Option<View>,
}

impl Staging {
    pub(super) fn run(mut self) -> StageOutcome {
        let outcome = self.stage();
        if outcome.is_err() {
            self.listeners.iter().for_each(Listeners::wake);
            // Whatever was restored never ran: it is frozen or still CRIU's.
            let _ = self.place.group.kill(Duration::from_secs(5));
        }
        outcome
    }

    fn stage(&mut self) -> StageOutcome {
        let place = self.place.clone();
        let mut steps = Steps::new(&self.faults);
        let owner = owner_of(&self.stage);
        let ends = self
            .stage
            .shadow
            .as_ref()
            .map(|terms| Ends::make(&place, terms, owner, self.stage.lease.is_some()))
            .transpose();
        let mut ends = ends.map_err(|e| format!("the ends of its streams: {e}"))?;
        let make = || {
            let made = place.make(&self.program, &self.stage, ends.as_ref());
            made.map_err(|e| format!("the tree's namespaces: {e}"))
        };
        // The lifeline is held until the root's file is written.
        let (init, _lifeline) = steps.run(FaultPoint::MakeTree, make)?;
        ends.iter_mut().for_each(Ends::given_to_init);
        let view = self.view.take();
        let seen_by = view.map_or(Ok(init), |view| view.mount(&place, &self.program, init, &self.stage));
        let outcome = seen_by.and_then(|viewer| self.receive_and_restore(viewer, ends.as_ref(), &mut steps));
        if outcome.is_err()
            && let Some(fd) = init.open()
        {
            let _ = place.group.kill(Duration::from_secs(5));
            let _ = fd.signal(nix::libc::SIGKILL);
            wait_gone(&fd);
        }
        tracing_line(&format!("staged {} of {}: {}", self.stage.title, self.stage.offload, steps.text()));
        let streams = ends.map_or_else(Vec::new, |ends| ends.here);
        outcome.map(|root| Staged::Tree { init, root, streams })
    }

    /// `viewer` is in the tree's namespaces, and sees the files that the tree will see.
    fn receive_and_restore(
        &mut self,
        viewer: InitProcess,
        ends: Option<&Ends>,
        steps: &mut Steps,
    ) -> Result<Root, String> {
        let gate = Gate::before(&self.place, &self.stage, &self.own, viewer, ends.and_then(Ends::terminal_device))?;
        let mut data = DataStream::new(&self.stream);
        let (pages, manifest) = self.receive(&mut data, steps)?;
        // Of what was parked, on this node's view of its files.
        let root = if shown(&self.stage) { format!("/proc/{}/root", viewer.pid) } else { String::new() };
        crate::park::changed(&root, &manifest.files).map_or(Ok(()), Err)?;
        steps.run(FaultPoint::InspectImages, || gate.inspect_images(&manifest))?;
        self.receive_private_tmp(viewer, &mut data, &manifest)?;
        if let Some(snapshot) = &manifest.streams {
            keep_snapshot(&self.place, snapshot)?;
        }
        self.listeners.as_ref().map_or(Ok(()), Listeners::rest)?;
        let inside = steps.run(FaultPoint::StartRestore, || self.restore(viewer, ends, &pages))?;
        drop(pages);
        self.place.drop_images();
        let root = steps.run(FaultPoint::FindRoot, || self.find_root(inside))?;
        steps.run(FaultPoint::Gate, || gate.inspect(&manifest))?;
        let dir = &self.place.dir;
        steps.run(FaultPoint::WriteRoot, || {
            grid_os::tree_init::write_durably(&dir.root_file(), &inside.to_string()).map_err(|e| e.to_string())
        })?;
        Ok(root)
    }

    /// What crosses before it is inspected: memory, what was frozen, the small images.
    fn receive(&self, data: &mut DataStream<'_>, steps: &mut Steps) -> Result<(ReceivedPages, Manifest), String> {
        let text = |e: CriuError| e.to_string();
        let broke = |e: std::io::Error| format!("the page stream: {e}");
        let (images, stage) = (&self.place.images, &self.stage);
        let arena = steps.run(FaultPoint::MakeRoom, || Arena::with_room(stage.expected.0).map_err(text))?;
        steps.run(FaultPoint::SayReady, || data.say_ready().map_err(broke))?;
        let pages = steps
            .run(FaultPoint::ReceivePages, || receive_pages(data, images, arena, stage.admitted.0).map_err(text))?;
        let manifest = steps.run(FaultPoint::ReceiveManifest, || receive_manifest(data).map_err(broke))?;
        steps.run(FaultPoint::ReceiveImages, || receive_images(images, data).map_err(text))?;
        Ok((pages, manifest))
    }

    /// What its own `/tmp` holds, charged to the lease: it must be there before CRIU opens files in it.
    fn receive_private_tmp(
        &self,
        viewer: InitProcess,
        data: &mut DataStream<'_>,
        manifest: &Manifest,
    ) -> Result<(), String> {
        match (manifest.private_tmp, self.stage.private_tmp) {
            (false, _) => return Ok(()),
            (true, false) => return Err("files for a /tmp of its own came, which was not announced".into()),
            (true, true) => {}
        }
        let within = viewer.open().ok_or("the tree's pid 1 ended")?;
        let carrier = Carrier {
            within: within.as_fd(),
            owner: owner_of(&self.stage),
            cgroup_procs: self.place.init_group.procs_files(),
        };
        let taken = carrier.receive(data, self.stage.admitted);
        taken.map(drop).map_err(|e| format!("the content of its own /tmp: {e}"))
    }

    fn restore(&self, viewer: InitProcess, ends: Option<&Ends>, pages: &ReceivedPages) -> Result<i32, String> {
        let viewer = viewer.open().ok_or("the tree's pid 1 ended")?;
        let carried = carried(&self.stage);
        ends.map_or(Ok(()), |ends| ends.set_sockets(&self.place.images))?;
        let job = RestoreJob {
            images: &self.place.images,
            owner: owner_of(&self.stage),
            groups: &self.stage.groups,
            shell_job: self.stage.shell_job,
            filtered: self.stage.filtered,
            close_tcp: self.stage.close_tcp,
            given: ends.map_or_else(Vec::new, Ends::given_to_tree),
            terminal: ends.and_then(Ends::terminal).map(|slave| Keeper {
                slave,
                argv: vec![self.program.to_string_lossy().into_owned(), "tree-session".to_owned()],
                cgroup_procs: self.place.init_group.procs_files(),
            }),
            place: Where {
                cgroup_procs: self.place.group.procs_files(),
                join: Some((viewer.as_fd(), TREE_NAMESPACES)),
                carried,
            },
        };
        let mut hold = |filled: Result<(), String>| {
            let held = filled
                .and_then(|()| self.faults.at(FaultPoint::FreezeStaged))
                .and_then(|()| without_criu(&self.place, &self.criu)?.set_frozen(true).map_err(|e| e.to_string()));
            // CRIU lets the tree run now, whatever it is answered: what is not held must not be there.
            held.inspect_err(|_| {
                let ended = without_criu(&self.place, &self.criu).map(|tree| tree.kill(Duration::from_secs(5)));
                tracing_line(&format!("attempt of {}: it was not held, and was ended: {ended:?}", self.stage.offload));
            })
        };
        let restored = self.criu.restore(&job, pages, &mut hold).map_err(|e| e.to_string())?;
        // CRIU may have set its settings as they were at home.
        ends.map_or(Ok(()), Ends::renew_terminal).map_err(|e| format!("its terminal: {e}"))?;
        Ok(restored)
    }

    /// The root's number here, from the numbers that each restored process has in its namespaces.
    fn find_root(&self, inside: i32) -> Result<Root, String> {
        let number_inside = |pid: i32| -> Option<i32> {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
            line.split_whitespace().last()?.parse().ok()
        };
        let members = self.place.group.with(&[Controller::Freezer]).pids();
        let pid = members.into_iter().find(|p| number_inside(*p) == Some(inside));
        let pid = pid.ok_or_else(|| format!("the restored root {inside} is not in its group"))?;
        let start_ticks = start_ticks(pid).ok_or("the restored root ended")?;
        Ok(Root { inside, pid, start_ticks })
    }
}

/// In CRIU's pre-resume notification: CRIU itself leaves the tree's group, which can then be frozen, or ended.
fn without_criu(place: &TreePlace, criu: &Criu) -> Result<Group, String> {
    let freezer = place.group.with(&[Controller::Freezer]);
    for pid in freezer.pids() {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        // One that was started by a descriptor is called by that on older kernels.
        let is_it = comm.trim() == "criu" || executable(pid).is_some_and(|exe| criu.path == std::path::Path::new(&exe));
        if is_it {
            place.criu.add(pid).map_err(|e| e.to_string())?;
        }
    }
    Ok(freezer)
}
