//! The thread that stages: namespaces, memory off the stream, CRIU's restore, the freeze, the gate.

use super::{Root, StageOutcome};
use crate::data::{DataStream, receive_manifest};
use crate::gate;
use crate::link::tracing_line;
use crate::tree::{InitProcess, TREE_NAMESPACES, TreePlace, start_ticks, wait_gone};
use grid_os::cgroup::Controller;
use grid_os::criu::{Arena, Criu, RestoreJob, Where, receive_images, receive_pages};
use grid_os::spawn::Owner;
use grid_types::wire::Stage;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Everything a staging thread needs.
pub(super) struct Staging {
    pub(super) criu: Criu,
    pub(super) place: TreePlace,
    pub(super) stage: Stage,
    pub(super) program: PathBuf,
    pub(super) stream: TcpStream,
}

impl Staging {
    pub(super) fn run(mut self) -> StageOutcome {
        let outcome = self.stage();
        if outcome.is_err() {
            // Whatever was restored never ran: it is frozen or still CRIU's.
            let _ = self.place.group.kill(Duration::from_secs(5));
        }
        outcome
    }

    fn stage(&mut self) -> StageOutcome {
        let place = self.place.clone();
        let made = place.make(&self.program).map_err(|e| format!("the tree's namespaces: {e}"))?;
        // Held until the root's file is written.
        let (init, _lifeline) = made;
        let outcome = self.receive_and_restore(init);
        if outcome.is_err()
            && let Some(fd) = init.open()
        {
            let _ = place.group.kill(Duration::from_secs(5));
            let _ = fd.signal(nix::libc::SIGKILL);
            wait_gone(&fd);
        }
        outcome.map(|root| (init, root))
    }

    fn receive_and_restore(&mut self, init: InitProcess) -> Result<Root, String> {
        let text = |e: grid_os::criu::CriuError| e.to_string();
        let mut laps = Laps::start();
        let arena = Arena::with_room(self.stage.expected.0).map_err(text)?;
        let mut data = DataStream::new(&self.stream);
        laps.lap("room");
        data.say_ready().map_err(|e| format!("the page stream: {e}"))?;
        let pages = receive_pages(&mut data, &self.place.images, arena, self.stage.admitted.0).map_err(text)?;
        laps.lap("pages");
        let manifest = receive_manifest(&mut data).map_err(|e| format!("the page stream: {e}"))?;
        receive_images(&self.place.images, &mut data).map_err(text)?;
        laps.lap("images");
        let init_fd = init.open().ok_or("the tree's pid 1 ended")?;
        let job = RestoreJob {
            images: &self.place.images,
            owner: Owner { uid: self.stage.uid, gid: self.stage.gid },
            groups: &self.stage.groups,
            shell_job: self.stage.shell_job,
            place: Where {
                cgroup_procs: self.place.group.procs_files(),
                join: Some((init_fd.as_fd(), TREE_NAMESPACES)),
            },
        };
        let place = &self.place;
        let inside = self.criu.restore(&job, &pages, &mut || hold_staged(place)).map_err(text)?;
        laps.lap("restore");
        drop(pages);
        self.place.drop_images();
        let root = self.find_root(inside)?;
        gate::inspect(&self.place.group, &self.stage, &manifest)?;
        laps.lap("gate");
        tracing_line(&format!("staged {} of {}: {}", self.stage.title, self.stage.offload, laps.text()));
        let dir = &self.place.dir;
        grid_os::tree_init::write_durably(&dir.root_file(), &inside.to_string()).map_err(|e| e.to_string())?;
        Ok(root)
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

/// How long each part of staging took, for the log and for benches.
struct Laps(Instant, Vec<String>);

impl Laps {
    fn start() -> Self {
        Self(Instant::now(), Vec::new())
    }
    fn lap(&mut self, name: &str) {
        self.1.push(format!("{name} {} ms", self.0.elapsed().as_millis()));
        self.0 = Instant::now();
    }
    fn text(&self) -> String {
        self.1.join(", ")
    }
}

/// In CRIU's pre-resume notification: CRIU itself leaves the tree's group, which is then frozen and confirmed.
fn hold_staged(place: &TreePlace) -> Result<(), String> {
    let freezer = place.group.with(&[Controller::Freezer]);
    for pid in freezer.pids() {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if comm.trim() == "criu" {
            place.criu.add(pid).map_err(|e| e.to_string())?;
        }
    }
    freezer.set_frozen(true).map_err(|e| e.to_string())
}
