//! The parts of a fault scenario: how a step is reached, what is done at it, and what must hold afterwards.

use grid_testkit::cluster::{Armed, Cluster, Guest};
use grid_testkit::procs;
use grid_types::api::{BoostView, OffloadView};
use grid_types::event::OffloadPhase;
use grid_types::fault::{Effect, FaultPoint, Side};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Child;

/// Past the fence, past `max_frozen` of [`CONFIG`], past the tick.
const LONG: std::time::Duration = std::time::Duration::from_millis(3200);

const CONFIG: &str = "
name: faults
nodes:
  - {name: head, role: head, resource_sharing: {can_share: false}}
  - {name: gpu1, role: worker, resource_sharing: {can_share: true, max_share_cpu: 8, max_share_memory_gb: 2}}
limits:
  max_frozen: 2s
";

/// What happens around the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// The step itself fails.
    Fail,
    KillSource,
    KillDestination,
    KillDaemon,
    /// Pid 1 of the worker, and so its whole machine.
    KillWorker,
    KillAll,
    /// Packets get lost for longer than every deadline.
    CutLink,
    /// The worker's machine sleeps for longer than every deadline; its clocks run on.
    Sleep,
}

/// How a step is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// By a move that goes straight.
    Move,
    /// By one that leaves home for the first time.
    Leave,
    /// By one that the destination refuses when it is restored.
    Refused,
    /// By one whose memory cannot be received.
    Broken,
    /// By one during whose freeze a signal arrives.
    Signals,
    /// By a source that does not answer within the fence.
    Fence,
    /// By a destination that is slow to say that it is ready.
    Asked,
    /// By a destination that loses its running copy and its agent.
    Doubt,
    /// By the end of the process where it went.
    End,
    /// By parking it: by no move.
    Park,
    /// By unparking it: by no move.
    Unpark,
}

pub(crate) fn reach(point: FaultPoint) -> Reach {
    use FaultPoint as P;
    match point {
        P::SourcePersistRunning | P::SendStage | P::DestinationPersistEmpty | P::OpenStream | P::MakeTree => {
            Reach::Move
        }
        P::MakeRoom | P::SayReady | P::TakeHold | P::PrepareImages | P::AwaitReady | P::StartDump => Reach::Move,
        P::FreezeSource | P::ReceivePages | P::SendManifest | P::ReceiveManifest | P::SendImages => Reach::Move,
        P::ReceiveImages | P::InspectImages | P::PersistFrozen | P::StartRestore | P::FreezeStaged | P::FindRoot => {
            Reach::Move
        }
        P::Gate | P::WriteRoot | P::PersistStaged | P::SendReady | P::PersistCommitted | P::SendGo => Reach::Move,
        P::DestinationPersistRunning | P::ArmFence | P::ThawStaged | P::SendStarted => Reach::Move,
        P::PersistReleased | P::SendReleased | P::DiscardCopy | P::SourceReport | P::DisarmFence => Reach::Move,
        P::DestinationPersistReleased | P::DestinationReport => Reach::Move,
        P::MakeShadow => Reach::Leave,
        P::PersistAborted | P::SendAbort | P::ThawHome => Reach::Refused,
        P::PersistRefused | P::DiscardStaged | P::SendRefusal => Reach::Refused,
        P::CloseStream => Reach::Broken,
        P::KeepSignals | P::DeliverSignals => Reach::Signals,
        P::Refreeze => Reach::Fence,
        P::SendQuery => Reach::Asked,
        P::DestinationPersistLost | P::SendGone | P::PersistInDoubt => Reach::Doubt,
        P::DestinationPersistEnded => Reach::End,
        P::OpenParked | P::SealParked => Reach::Park,
        P::CheckParked | P::SendParked | P::DropParked => Reach::Unpark,
    }
}

/// Which way the process goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the head to the worker.
    Out,
    /// Back.
    Home,
    /// From the head onto the worker's disk.
    Park,
    /// From that disk home.
    Unpark,
}

impl Way {
    fn source(self) -> &'static str {
        match self {
            Way::Out | Way::Park => "head",
            Way::Home | Way::Unpark => "gpu1",
        }
    }

    fn destination(self) -> &'static str {
        match self {
            Way::Out | Way::Park => "gpu1",
            Way::Home | Way::Unpark => "head",
        }
    }

    /// This step lies on it, reached so on the way out.
    pub(crate) fn passes(self, point: FaultPoint, ways: &[Reach]) -> bool {
        use FaultPoint as P;
        let restores = matches!(
            point,
            P::MakeTree
                | P::MakeRoom
                | P::InspectImages
                | P::StartRestore
                | P::FreezeStaged
                | P::FindRoot
                | P::Gate
                | P::WriteRoot
        );
        let dumps = matches!(
            point,
            P::TakeHold | P::PrepareImages | P::StartDump | P::FreezeSource | P::SendManifest | P::SendImages
        );
        let own = reach(point);
        match self {
            Way::Park if ways.contains(&Reach::Move) => own == Reach::Park || (own == Reach::Move && !restores),
            Way::Unpark if ways.contains(&Reach::Move) => own == Reach::Unpark || (own == Reach::Move && !dumps),
            _ => ways.contains(&own),
        }
    }

    fn node_of(self, point: FaultPoint) -> &'static str {
        match point.side() {
            // The one who dials is always the worker.
            _ if point == FaultPoint::OpenStream => "gpu1",
            Side::Source => self.source(),
            Side::Destination => self.destination(),
        }
    }
}

/// A cluster with a boost on which scenarios are played.
pub(crate) struct Stage {
    cluster: Cluster,
    boost: String,
    way: Way,
}

impl Stage {
    pub(crate) fn set(boost: &str, way: Way) -> Option<Self> {
        let cluster = Cluster::faulty(CONFIG)?;
        let boost = cluster.boost(boost).boost.id;
        Some(Self { cluster, boost: boost.to_string(), way })
    }

    /// The lender holds the lease: again, where its machine was gone.
    fn wait_lease(&self) {
        self.cluster.wait("the lease to be held", || {
            let view: BoostView = self.cluster.ask(&["boost", "show", &self.boost]);
            view.processes.ok_or(view.boost.state)
        });
    }

    fn arm(&self, point: FaultPoint, effect: Effect) -> Armed {
        self.cluster.arm(self.way.node_of(point), point, effect)
    }

    fn wait_hit(&self, armed: &Armed) {
        self.cluster.wait("the step", || armed.is_hit());
    }

    /// Plays one scenario and looks after it.
    pub(crate) fn play(&self, point: FaultPoint, reach: Reach, damage: Damage) {
        println!("{} {reach:?} {damage:?} {:?}", point.as_str(), self.way);
        self.wait_lease();
        let guest = Guest::reporting(&self.cluster, "prover", "--memory 8MiB --steps 1000000");
        let there = (self.way == Way::Home).then(|| self.cluster.move_out(guest.pid()));
        if self.way == Way::Unpark {
            self.cluster.ask::<OffloadView>(&["offload", "park", &guest.pid().to_string()]);
        }
        let effect = if damage == Damage::Fail { Effect::Fail } else { Effect::Hang };
        let mut armed = self.arm(point, effect);
        let mut command = match there {
            Some(away) => self.cluster.begin(&["offload", "recall", away.record.id.as_str()]),
            None => match self.way {
                Way::Park => self.cluster.begin(&["offload", "park", &guest.pid().to_string()]),
                Way::Unpark => self.cluster.begin(&["offload", "unpark", &guest.pid().to_string()]),
                _ => self.set_off(&guest, reach),
            },
        };
        self.wait_hit(&armed);
        self.hurt(damage, &mut armed);
        let _ = command.wait();
        self.cluster.wait_heard();
        self.settled(&guest);
        if reach == Reach::Signals {
            let waits = |copy: &Copy| signal_waits(copy.pid, Signal::SIGUSR1);
            self.cluster
                .wait("the signal", || if self.copies(&guest).iter().all(waits) { Ok(()) } else { Err("lost") });
        }
        self.end(&guest);
    }

    /// Begins a move and does what makes it take this way.
    fn set_off(&self, guest: &Guest, reach: Reach) -> Child {
        let pid = guest.pid().to_string();
        let begin = || self.cluster.begin(&["offload", "execute", &pid]);
        match reach {
            Reach::Move | Reach::Leave => begin(),
            // Of ways of their own.
            Reach::Park | Reach::Unpark => begin(),
            Reach::Refused => self.with(FaultPoint::Gate, Effect::Fail, begin, || {}),
            Reach::Broken => self.with(FaultPoint::ReceivePages, Effect::Fail, begin, || {}),
            Reach::Signals => self.with(FaultPoint::SendManifest, Effect::Hang, begin, || {
                kill(Pid::from_raw(guest.pid()), Signal::SIGUSR1).unwrap();
            }),
            Reach::Fence => self.with(FaultPoint::PersistReleased, Effect::Hang, begin, || std::thread::sleep(LONG)),
            Reach::Asked => self.with(FaultPoint::StartRestore, Effect::Hang, begin, || std::thread::sleep(LONG)),
            Reach::Doubt => self.with(FaultPoint::SendStarted, Effect::Hang, begin, || {
                // The agent first, and then the tree's pid 1, before the agent is started again: nobody sees the end.
                let send = |pid: i32, signal| kill(Pid::from_raw(pid), signal).unwrap();
                let node = self.cluster.node_pid("gpu1");
                send(node, Signal::SIGSTOP);
                send(self.cluster.agent_pid("gpu1"), Signal::SIGKILL);
                self.running(guest).for_each(|c| send(parent(c.pid), Signal::SIGKILL));
                self.cluster.wait("it to end", || match self.running(guest).next() {
                    None => Ok(()),
                    Some(copy) => Err(copy),
                });
                send(node, Signal::SIGCONT);
            }),
            Reach::End => {
                let command = begin();
                self.cluster.wait("it to be away", || self.phase(guest).filter(|p| *p == OffloadPhase::Away).ok_or(""));
                self.copies(guest).iter().for_each(|c| kill(Pid::from_raw(c.pid), Signal::SIGKILL).unwrap());
                command
            }
        }
    }

    fn with(&self, point: FaultPoint, effect: Effect, begin: impl Fn() -> Child, then: impl Fn()) -> Child {
        let armed = self.arm(point, effect);
        let command = begin();
        self.wait_hit(&armed);
        then();
        command
    }

    fn hurt(&self, damage: Damage, armed: &mut Armed) {
        let agent = |node: &str| self.cluster.kill9(self.cluster.agent_pid(node));
        match damage {
            Damage::Fail => {}
            Damage::KillSource => agent(self.way.source()),
            Damage::KillDestination => agent(self.way.destination()),
            Damage::KillDaemon => self.cluster.kill9(self.cluster.daemon_pid()),
            Damage::KillWorker => self.cluster.cut_power("gpu1"),
            Damage::KillAll => {
                agent("gpu1");
                agent("head");
                self.cluster.kill9(self.cluster.daemon_pid());
            }
            Damage::CutLink => {
                self.cluster.set_link(false);
                armed.lift();
                std::thread::sleep(LONG);
                self.cluster.set_link(true);
            }
            Damage::Sleep => {
                self.cluster.set_asleep("gpu1", true);
                armed.lift();
                std::thread::sleep(LONG);
                self.cluster.set_asleep("gpu1", false);
            }
        }
        armed.lift();
    }

    fn view(&self, guest: &Guest) -> Option<OffloadView> {
        self.cluster.offloads().into_iter().find(|o| o.record.process.pid == guest.pid())
    }

    fn phase(&self, guest: &Guest) -> Option<OffloadPhase> {
        self.view(guest).map(|v| v.record.phase)
    }

    /// What must hold after every scenario, within the fixture's limit.
    fn settled(&self, guest: &Guest) {
        let phase = self.cluster.wait("one copy, where the head says that it is", || {
            let (phase, copies) = (self.phase(guest), self.copies(guest));
            let running = copies.iter().filter(|c| !c.frozen).count();
            let right = match phase {
                None | Some(OffloadPhase::Failed | OffloadPhase::Away | OffloadPhase::Home) => {
                    (running, copies.len()) == (1, 1)
                }
                Some(OffloadPhase::InDoubt) => (running, copies.len()) == (0, 1),
                Some(OffloadPhase::Ended | OffloadPhase::Lost) => copies.is_empty(),
                Some(OffloadPhase::Parked) => copies.is_empty(),
                Some(under_way) => {
                    assert!(under_way.is_under_way(), "{under_way:?}");
                    false
                }
            };
            if right { Ok(phase) } else { Err(format!("{phase:?} {copies:?}")) }
        });
        println!("  {phase:?}");
        match phase {
            None | Some(OffloadPhase::Failed | OffloadPhase::Away | OffloadPhase::Home) => guest.goes_on(),
            // The person accepts that work is repeated.
            Some(OffloadPhase::InDoubt) => return self.resolve(guest),
            // Whatever happened to it there, it runs on from where it stood.
            Some(OffloadPhase::Parked) => {
                self.cluster.wait_ready();
                let pid = guest.pid().to_string();
                // The agent that keeps it may not have heard yet that it is the owner.
                let unpark = || match self.cluster.grid(&["offload", "unpark", &pid]) {
                    said if said.code == 0 => Ok(()),
                    said if said.out.contains("E-FILE") => panic!("it ran on, and was parked again: {said:?}"),
                    said => Err(said),
                };
                self.cluster.wait("it to be unparked", unpark);
                return self.settled(guest);
            }
            _ => {}
        }
        guest.never_went_back();
    }

    /// Held, reported, and a person's word lets it run on.
    fn resolve(&self, guest: &Guest) {
        let id = self.view(guest).unwrap().record.id;
        let status = self.cluster.grid(&["status"]);
        assert!(status.out.contains(id.as_str()) && status.out.contains("resolve"), "{status:?}");
        let _: OffloadView = self.cluster.ask(&["offload", "resolve", id.as_str(), "--accept-repeat"]);
        guest.goes_on();
    }

    fn end(&self, guest: &Guest) {
        let away = self.phase(guest) == Some(OffloadPhase::Away);
        for copy in self.copies(guest) {
            let _ = kill(Pid::from_raw(copy.pid), Signal::SIGKILL);
        }
        self.cluster.wait("its end", || if self.copies(guest).is_empty() { Ok(()) } else { Err("it lives") });
        if away {
            let over = |p: &OffloadPhase| matches!(p, OffloadPhase::Ended | OffloadPhase::Lost);
            self.cluster.wait("its end to be known", || self.phase(guest).filter(over).ok_or("away"));
        }
        self.cluster.wait("nothing to be left of it", || match self.cluster.attempt_groups() {
            left if left.is_empty() => Ok(()),
            left => Err(left),
        });
    }

    fn running(&self, guest: &Guest) -> impl Iterator<Item = Copy> {
        self.copies(guest).into_iter().filter(|c| !c.frozen)
    }

    /// Every process that runs this guest's program, on whichever node.
    fn copies(&self, guest: &Guest) -> Vec<Copy> {
        let program = guest.dir.join("prover");
        let runs_it = |pid: &i32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program);
        procs::all().into_iter().filter(runs_it).map(|pid| Copy { pid, frozen: frozen(pid) }).collect()
    }
}

/// One copy of a guest.
#[derive(Debug)]
struct Copy {
    pid: i32,
    frozen: bool,
}

fn parent(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

/// It was sent, and not yet delivered.
fn signal_waits(pid: i32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("ShdPnd:")).map_or("", str::trim);
    u64::from_str_radix(mask, 16).is_ok_and(|mask| mask & (1 << (signal as u64 - 1)) != 0)
}

/// The kernel holds it: by the v1 freezer, itself or a group above.
fn frozen(pid: i32) -> bool {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let path = groups.lines().find_map(|l| l.split_once(":freezer:")).map_or("", |(_, path)| path);
    let state = std::fs::read_to_string(format!("/sys/fs/cgroup/freezer{path}/freezer.state"));
    state.is_ok_and(|s| s.trim() == "FROZEN")
}
