//! Facts for tests: an ordinary process that may move, to be changed in one point.

use super::DetectContext;
use grid_types::facts::{FdFacts, FdKind, Namespaces, ProcDeep, ProcFacts, ProcStat, TreeFacts};
use grid_types::ids::ProcId;
use grid_types::units::{Bytes, MilliCpu, Millis};

pub(super) fn stat(pid: i32, ppid: i32) -> ProcStat {
    ProcStat {
        id: ProcId { pid, start_ticks: 1000 + pid as u64, boot_id: "boot".into() },
        ppid,
        pgid: pid,
        sid: pid,
        tty_nr: 0,
        state: 'S',
        comm: "solver".into(),
        uid: 1000,
        threads: 1,
        rss: Bytes(2 << 30),
        cpu_time: Millis(100_000),
        cpu: Some(MilliCpu(1000)),
        age: Millis(600_000),
        kernel: false,
    }
}

pub(super) fn namespaces() -> Namespaces {
    Namespaces { pid: Some(1), mnt: Some(2), net: Some(3), ipc: Some(4), uts: Some(5), user: Some(6) }
}

pub(super) fn fd(fd: i32, kind: FdKind) -> FdFacts {
    FdFacts { fd, kind, mount_id: Some(24), foreign_mount: false, flags: Some(1) }
}

pub(super) fn file(path: &str) -> FdKind {
    FdKind::File { path: path.into(), deleted: false }
}

pub(super) fn process(pid: i32, ppid: i32) -> ProcFacts {
    let deep = ProcDeep {
        exe: Some("/usr/local/bin/solver".into()),
        argv: vec!["solver".into()],
        cwd: Some("/home/alice".into()),
        pss: Some(Bytes(2 << 30)),
        fds: vec![fd(0, FdKind::HarmlessDevice { path: "/dev/null".into() }), fd(1, file("/home/alice/out"))],
        ns: namespaces(),
        ns_pids: vec![pid],
        uids: [1000; 4],
        ..ProcDeep::default()
    };
    ProcFacts { stat: stat(pid, ppid), deep: Some(deep) }
}

pub(super) fn with_exe(mut p: ProcFacts, exe: &str, argv: &[&str]) -> ProcFacts {
    if let Some(deep) = p.deep.as_mut() {
        deep.exe = Some(exe.into());
        deep.argv = argv.iter().map(|a| (*a).to_owned()).collect();
    }
    p.stat.comm = exe.rsplit('/').next().unwrap_or(exe).chars().take(15).collect();
    p
}

pub(super) fn tree(root: ProcFacts) -> TreeFacts {
    TreeFacts {
        root,
        descendants: Vec::new(),
        living_parent: None,
        shared_with: Vec::new(),
        session_outsiders: Vec::new(),
        foreseen: None,
        private_tmp: None,
    }
}

pub(super) fn context() -> DetectContext {
    DetectContext {
        own_ns: namespaces(),
        own_pids: [900].into(),
        own_cgroups: vec!["/grid/".into()],
        users: [(1000, "alice".into()), (1001, "bob".into()), (101, "messagebus".into())].into(),
        node_memory: Bytes(32 << 30),
        private_paths: vec!["/dev/shm".into(), "/run".into()],
        ..DetectContext::default()
    }
}
