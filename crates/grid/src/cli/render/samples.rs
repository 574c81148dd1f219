//! Hand-made data for snapshots: the transcripts of the design, as the API's types.

use super::Clock;
use grid_types::api::{AutoView, BoostView, ExplainReply, NodeView, OffloadView, ScanReply, Status, StayCount};
use grid_types::boost::{Boost, BoostState, Priority};
use grid_types::event::{Direction, MoveFigures, OffloadPhase, OffloadRecord};
use grid_types::facts::{Gpus, NodeFacts, Psi};
use grid_types::plan::{Complexity, Plan, PlanOutcome, PlanStep, Stay, Trigger, Verdict};
use grid_types::policy::{AtEnd, AutoMode, ProcessKind};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::units::{BootMs, Bytes, MilliCpu, Millis, Resources, UnixMs};
use grid_types::{NodeName, ProcId};

const GIB: f64 = 1_073_741_824.0;

pub(crate) fn clock() -> Clock {
    Clock { now: UnixMs(1_795_003_100_000), boot: BootMs(1_000), utc_offset_s: 0 }
}

fn res(cpu: u32, gib: f64) -> Resources {
    Resources { cpu: MilliCpu(cpu), memory: Bytes((gib * GIB) as u64), gpu: 0 }
}

fn proc(pid: i32) -> ProcId {
    ProcId { pid, start_ticks: 7, boot_id: "boot".into() }
}

fn facts(node: &str, cpus: u32, used: u32, gib: f64, available: f64) -> NodeFacts {
    NodeFacts {
        node: node.into(),
        boot_id: "boot".into(),
        at: BootMs(1_000),
        cpu_total: MilliCpu(cpus * 1000),
        cpu_used: Some(MilliCpu(used)),
        load1: Some(1.0),
        memory_total: res(0, gib).memory,
        memory_available: res(0, available).memory,
        swap_total: Bytes(0),
        swap_used: Bytes(0),
        psi_cpu: None,
        psi_memory: Some(Psi { some_avg10: 4.1, full_avg10: 0.6 }),
        psi_io: None,
        gpus: Gpus::None,
        lending: None,
        link: None,
    }
}

fn node(name: &str, state: &str, seen: u64) -> NodeView {
    NodeView {
        added: None,
        node: NodeName::new(name),
        head: false,
        state: state.into(),
        seen: Some(Millis(seen)),
        facts: None,
        lendable: None,
        lent: Resources::default(),
        why: None,
        limited: None,
        cordoned: None,
    }
}

pub(crate) fn boost() -> BoostView {
    BoostView {
        boost: Boost {
            id: "b-7k2".into(),
            lease: "b-7k2".into(),
            borrower: "ws1".into(),
            lender: "gpu2".into(),
            amount: res(2000, 8.0),
            priority: Priority::Normal,
            granted_at: clock().now,
            until: BootMs(3_601_000),
            boot_id: "boot".into(),
            until_unix: UnixMs(clock().now.0 + 3_600_000),
            epoch: 1,
            at_end: AtEnd::Recall,
            chosen: "gpu2 best fit, 6.0 CPU 16.0 GiB lendable before; gpu1 silent 35m00s".into(),
            state: BoostState::Active,
        },
        ends_in: Millis(3_229_000),
        promised: res(1000, 3.4),
        memory_used: Some(res(0, 3.2).memory),
        processes: Some(2),
        guests: vec!["o-19".into()],
        enforced: Some("gpu2 cgroup grid/b-7k2 reads cpu 2.0, memory 8.0 GiB".into()),
    }
}

pub(crate) fn away() -> OffloadView {
    let figures = MoveFigures {
        closed_connections: 0,
        dump: Some(Millis(0)),
        downtime: Some(Millis(3_400)),
        total: Some(Millis(4_100)),
        bytes: Some(res(0, 3.2).memory),
        processes: 1,
        dumped_as_owner: Some(true),
    };
    OffloadView {
        record: OffloadRecord {
            id: "o-19".into(),
            process: proc(4711),
            title: "python3 prep.py".into(),
            uid: 65_534,
            source: "ws1".into(),
            destination: "gpu2".into(),
            boost: Some("b-7k2".into()),
            onward: None,
            parked: None,
            plan: Some("p-52".into()),
            phase: OffloadPhase::Away,
            direction: Direction::Out,
            attempt: "a-1".into(),
            attempts: 1,
            needed: res(1000, 3.4),
            figures: Some(figures),
            listens: Vec::new(),
            exit: None,
            home: None,
            home_pid: None,
            since: clock().now,
            started_at: clock().now,
            reasons: Vec::new(),
        },
        frozen: false,
        pid_there: Some(812),
        since: Millis(363_000),
    }
}

pub(crate) fn status() -> Status {
    let head = NodeView { head: true, facts: Some(facts("ws1", 8, 5900, 32.0, 3.9)), ..node("ws1", "ready", 100) };
    let gpu2 = NodeView {
        facts: Some(facts("gpu2", 8, 3000, 32.0, 20.0)),
        lendable: Some(res(4000, 8.0)),
        lent: res(2000, 8.0),
        ..node("gpu2", "ready", 400)
    };
    Status {
        cluster: "grid".into(),
        now: clock().now,
        nodes: vec![head, node("gpu1", "silent", 2_460_000), gpu2],
        auto: AutoView { mode: AutoMode::Observe, would_have_moved: 2, moved: 0 },
        boosts: vec![boost()],
        away: vec![away()],
        warnings: vec!["gpu1 silent; nothing of yours is there".into()],
        stopped: None,
    }
}

fn verdict(pid: i32, title: &str, used: Resources) -> Verdict {
    Verdict {
        id: proc(pid),
        title: title.into(),
        uid: 1000,
        kind: ProcessKind::Batch,
        kind_why: "no terminal".into(),
        processes: 1,
        threads: 4,
        used,
        age: Millis(2_280_000),
        not_worth: Vec::new(),
        cannot: Some(Vec::new()),
        worth: vec!["batch".into(), "11 % of the memory in use on head".into(), "no terminal".into()],
        can: "1 process, 4 threads, 6 files; no socket, no device".into(),
        complexity: Complexity::Low,
        confidence: 0.95,
        notices: Vec::new(),
    }
}

fn step(pid: i32, title: &str, used: Resources, frozen: u64) -> PlanStep {
    PlanStep {
        process: proc(pid),
        title: title.into(),
        uid: 1000,
        source: "ws1".into(),
        destination: "gpu2".into(),
        lease: "b-7k2".into(),
        needed: Resources { memory: Bytes(used.memory.0 / 16 * 17), ..used },
        available: res(2000, 8.0),
        memory: used.memory,
        cpu: used.cpu,
        frozen: Some(Millis(frozen)),
        confidence: 0.95,
        complexity: Complexity::Low,
        reason: "relieves ws1; whole in b-7k2: memory is short".into(),
    }
}

fn plan(steps: Vec<PlanStep>, stays: Vec<Stay>) -> Plan {
    Plan {
        id: "p-52".into(),
        trigger: Trigger::Scan,
        made_at: clock().now,
        valid_until: BootMs(61_000),
        steps,
        stays,
        outcome: PlanOutcome::Made,
    }
}

pub(crate) fn scan() -> ScanReply {
    let steps = vec![
        step(4711, "python3 prep.py", res(1000, 3.2), 3_400),
        step(4955, "python3 sweep.py", res(1000, 2.1), 2_200),
    ];
    let why = Reason::new(ReasonCode::NoFit, "needs 1.9 CPU 0.8 GiB; b-7k2 on gpu2 has 0.0 CPU 2.7 GiB left");
    let xz = Stay { process: proc(4802), title: "xz -T2 dump.tar".into(), used: res(1900, 0.7), reasons: vec![why] };
    let stay = |code, count| StayCount { code, count };
    ScanReply {
        scanned: 214,
        plan: plan(steps, vec![xz]),
        verdicts: vec![
            verdict(4711, "python3 prep.py", res(1000, 3.2)),
            verdict(4955, "python3 sweep.py", res(1000, 2.1)),
            verdict(4802, "xz -T2 dump.tar", res(1900, 0.7)),
            refused().verdict,
        ],
        stays: vec![
            stay(ReasonCode::Uring, 6),
            stay(ReasonCode::Owner, 92),
            stay(ReasonCode::Small, 20),
            stay(ReasonCode::New, 11),
            stay(ReasonCode::Desktop, 41),
            stay(ReasonCode::Service, 19),
            stay(ReasonCode::Tcp, 14),
            stay(ReasonCode::Gpu, 8),
        ],
    }
}

pub(crate) fn refused() -> ExplainReply {
    let mut v = verdict(5120, "node server.js", res(400, 0.6));
    v.age = Millis(7_860_000);
    v.worth = vec!["610 MiB".into()];
    let cannot = vec![
        Reason::new(ReasonCode::Uring, "fd 19 is an io_uring; CRIU cannot save it"),
        Reason::new(ReasonCode::Tcp, "2 connections to 10.0.0.7:5432 would be cut"),
    ];
    v.cannot = Some(cannot.clone());
    let stay = Stay { process: v.id.clone(), title: v.title.clone(), used: v.used, reasons: cannot };
    let fits = vec!["yes   whole on gpu2 (gpu1 silent 41 min)".into()];
    ExplainReply { verdict: v, fits, plan: plan(Vec::new(), vec![stay]), age: Millis(300), offload: None }
}

pub(crate) fn accepted() -> ExplainReply {
    let used = res(1000, 3.2);
    ExplainReply {
        verdict: verdict(4711, "python3 prep.py", used),
        fits: Vec::new(),
        plan: plan(vec![step(4711, "python3 prep.py", used, 3_400)], Vec::new()),
        age: Millis(300),
        offload: None,
    }
}
