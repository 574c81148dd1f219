//! One case for each reason, each a single change to a process that otherwise may move; then the passes and the rules.

use super::testkit::*;
use super::*;
use grid_types::facts::{FdKind, ProcFacts, SharedWith, TreeFacts};
use grid_types::plan::Complexity;
use grid_types::policy::{ProcessKind, ProcessRule, RuleAction};
use grid_types::units::{MilliCpu, Millis};

fn codes(reasons: &[Reason]) -> Vec<&'static str> {
    reasons.iter().map(|r| r.code.as_str()).collect()
}

fn judged(change: impl FnOnce(&mut TreeFacts, &mut DetectContext)) -> Verdict {
    let (mut t, mut ctx) = (tree(process(4711, 1)), context());
    change(&mut t, &mut ctx);
    judge(&t, &ctx, &Detector::default())
}

fn with_fd(kind: FdKind) -> Verdict {
    judged(|t, _| t.root.deep.as_mut().unwrap().fds.push(fd(19, kind)))
}

fn with_deep(change: impl FnOnce(&mut grid_types::facts::ProcDeep)) -> Verdict {
    judged(|t, _| change(t.root.deep.as_mut().unwrap()))
}

fn with_stat(change: impl FnOnce(&mut grid_types::facts::ProcStat)) -> Verdict {
    judged(|t, _| change(&mut t.root.stat))
}

fn as_program(exe: &str, argv: &[&str]) -> Verdict {
    judged(|t, _| t.root = with_exe(t.root.clone(), exe, argv))
}

#[track_caller]
fn cannot(verdict: Verdict, code: &str, detail: &str) {
    let reasons = verdict.cannot.as_deref().unwrap();
    assert_eq!(codes(reasons), [code], "{reasons:?}");
    assert_eq!(reasons[0].detail, detail);
    assert_eq!((verdict.confidence, verdict.can.as_str()), (0.0, ""));
}

#[track_caller]
fn not_worth(verdict: Verdict, code: &str, detail: &str) {
    assert_eq!(codes(&verdict.not_worth), [code], "{:?}", verdict.not_worth);
    assert_eq!(verdict.not_worth[0].detail, detail);
    assert!(verdict.worth.is_empty());
}

#[test]
fn an_ordinary_process_is_a_candidate_with_its_reasons() {
    let v = judged(|_, _| {});
    assert!(v.is_candidate(), "{v:?}");
    assert_eq!(
        (v.title.as_str(), v.kind, v.complexity, v.confidence),
        ("solver", ProcessKind::Batch, Complexity::Low, 0.95)
    );
    assert_eq!(v.worth, ["batch: no terminal", "2.0 GiB of memory, 6 % of this node's", "1.0 CPU"]);
    assert_eq!(v.can, "1 process, 1 thread, 1 file; no socket, no device");
    assert!(v.notices.is_empty());
}

#[test]
fn each_descriptor_that_cannot_move_is_named() {
    cannot(with_fd(FdKind::Tty { path: "/dev/ptmx".into() }), "E-TTY", "holds terminal /dev/ptmx");
    let tcp = || FdKind::TcpEstablished { local: "10.0.0.1:5".into(), remote: "10.0.0.7:5432".into() };
    cannot(with_fd(tcp()), "E-TCP", "a connection to 10.0.0.7:5432 would be cut");
    let two = with_deep(|d| d.fds.extend([fd(4, tcp()), fd(5, tcp())]));
    cannot(two, "E-TCP", "2 connections to 10.0.0.7:5432 would be cut");
    cannot(with_fd(FdKind::Udp { local: "0.0.0.0:53".into() }), "E-UDP", "fd 19 is a UDP socket at 0.0.0.0:53");
    cannot(with_fd(FdKind::IoUring), "E-URING", "fd 19 is an io_uring; CRIU cannot save it");
    cannot(with_fd(FdKind::Device { path: "/dev/fuse".into() }), "E-DEV", "fd 19 is /dev/fuse");
    cannot(with_fd(FdKind::Device { path: "/dev/nvidia0".into() }), "E-GPU", "fd 19 is /dev/nvidia0");
    cannot(with_fd(FdKind::OtherSocket { what: "netlink".into() }), "E-SOCK", "fd 19 is a socket: netlink");
    let perf = FdKind::AnonOther { what: "[perf_event]".into() };
    cannot(with_fd(perf), "E-FD", "fd 19 is [perf_event]; CRIU cannot save it");
    let what = "fd 19, /dev/shm/a, is under /dev/shm, which each node has for itself";
    cannot(with_fd(file("/dev/shm/a")), "E-FILE", what);
    cannot(with_fd(FdKind::Unknown { target: "?".into() }), "E-UNKNOWN", "fd 19 is ?, of an unknown kind");
    let unix = |bound: Option<&str>, peer| FdKind::Unix {
        inode: 7,
        bound: bound.map(str::to_owned),
        peer,
        listening: false,
        nameless: false,
    };
    cannot(with_fd(unix(Some("/run/x.sock"), None)), "E-UNIX", "fd 19 is a Unix socket bound to /run/x.sock");
    cannot(with_fd(unix(None, Some(8))), "E-UNIX", "fd 19 is connected to socket:[8], which stays");
    let packet = with_deep(|d| {
        d.fds.push(fd(5, FdKind::Pipe { inode: 9 }));
        d.fds.last_mut().unwrap().flags = Some(if cfg!(target_arch = "aarch64") { 0o200_001 } else { 0o40_001 });
    });
    cannot(packet, "E-FD", "fd 5 is a packet-mode pipe; CRIU cannot save it");
    let stray = with_deep(|d| d.fds[0].foreign_mount = true);
    cannot(stray, "E-NS", "fd 0 was opened in another mount namespace");
}

#[test]
fn each_state_that_cannot_move_is_named() {
    cannot(with_deep(|d| d.tracer = 7), "E-PTRACE", "traced by pid 7");
    cannot(with_deep(|d| d.frozen = true), "E-FROZEN", "its cgroup is frozen");
    cannot(with_deep(|d| d.locks = vec![12, 13]), "E-LOCK", "holds a lock on the file of inode 12, 13");
    cannot(with_deep(|d| d.hugetlb = true), "E-HUGETLB", "maps huge pages");
    cannot(with_deep(|d| d.odd_maps = vec!["/[aio] (deleted)".into()]), "E-MAP", "maps /[aio] (deleted)");
    let ring = with_deep(|d| d.odd_maps = vec!["anon_inode:[io_uring]".into()]);
    cannot(ring, "E-URING", "maps an io_uring; CRIU cannot save it");
    cannot(with_deep(|d| d.gpu_memory = Some(Bytes(1 << 30))), "E-GPU", "uses a GPU, 1.0 GiB of its memory");
    cannot(with_deep(|d| d.cap_eff = 0x400), "E-ROOT", "has capabilities (400)");
    cannot(with_deep(|d| d.uids = [1000, 0, 0, 0]), "E-ROOT", "runs as root");
    cannot(with_deep(|d| d.uids = [1000, 1001, 1001, 1001]), "E-ROOT", "has the rights of two users, 1000 and 1001");
    cannot(with_deep(|d| d.ns.pid = Some(99)), "E-NS", "lives in other namespaces: pid");
    cannot(with_deep(|d| d.unreadable.push("maps: denied".into())), "E-UNKNOWN", "maps: denied");
    cannot(with_stat(|s| s.state = 'T'), "E-STOPPED", "is stopped");
    cannot(with_stat(|s| s.state = 'Z'), "E-ZOMBIE", "has ended and waits for its parent");
    // A leader of its terminal's session; a job of such a leader takes its terminal along.
    let controlled = judged(|t, _| {
        t.root.stat.tty_nr = 34819;
        t.root.deep.as_mut().unwrap().tty = Some("/dev/pts/3".into());
    });
    cannot(controlled, "E-TTY", "holds terminal /dev/pts/3");
}

#[test]
fn what_ties_a_tree_to_others_is_named() {
    let shares = |what: &str| {
        let shared = SharedWith { what: what.into(), inside: 4711, outside: 4712 };
        judged(|t, _| {
            // Both ends are inside, and one of them outside, too.
            let both = [
                grid_types::facts::FdFacts { flags: Some(0), ..fd(5, FdKind::Pipe { inode: 9 }) },
                fd(6, FdKind::Pipe { inode: 9 }),
            ];
            t.root.deep.as_mut().unwrap().fds.extend(both);
            t.shared_with.push(shared);
        })
    };
    cannot(shares("pipe:[9]"), "E-PIPE", "fd 5 shares pipe:[9] with pid 4712, which stays");
    cannot(shares("shm 00:01:44"), "E-SHM", "pid 4711 shares shm 00:01:44 with pid 4712, which stays");
    cannot(shares("socket:[3]"), "E-UNIX", "pid 4711 shares socket:[3] with pid 4712, which stays");
}

#[test]
fn what_stays_inside_the_tree_ties_it_to_nobody() {
    let v = judged(|t, _| {
        let pair = |inode, peer| {
            fd(7, FdKind::Unix { inode, bound: None, peer: Some(peer), listening: false, nameless: false })
        };
        let mut child = process(4712, 4711);
        child.deep.as_mut().unwrap().fds.extend([pair(8, 7), fd(8, FdKind::Pipe { inode: 9 })]);
        t.root.deep.as_mut().unwrap().fds.extend([pair(7, 8), fd(8, FdKind::Pipe { inode: 9 })]);
        t.descendants.push(child);
    });
    assert!(v.is_candidate(), "{v:?}");
    assert_eq!((v.processes, v.complexity), (2, Complexity::Medium));
    assert_eq!(v.can, "2 processes, 2 threads, 2 files; 2 sockets, no device");
}

#[test]
fn files_without_a_name_move_along_wherever_they_were() {
    let v = with_deep(|d| {
        d.mapped_files.push("/dev/shm/sem.x (deleted)".into());
        d.fds.push(fd(7, FdKind::File { path: "/dev/shm/y".into(), deleted: true }));
    });
    assert!(v.is_candidate() && v.complexity == Complexity::Medium, "{v:?}");
}

#[test]
fn a_tree_is_as_large_as_its_members_together() {
    let v = judged(|t, _| {
        let mut child = process(4712, 4711);
        child.deep.as_mut().unwrap().pss = Some(Bytes(50 << 20));
        (t.root.stat.cpu, t.root.deep.as_mut().unwrap().pss) = (Some(MilliCpu(0)), Some(Bytes(20 << 20)));
        t.descendants.push(child);
    });
    assert!(v.is_candidate() && v.used.cpu == MilliCpu(1000), "{v:?}");
}

#[test]
fn a_member_is_named_by_its_pid_and_one_not_looked_at_is_unknown() {
    let v = judged(|t, _| {
        let mut child = process(4712, 4711);
        child.deep.as_mut().unwrap().tracer = 3;
        t.descendants.push(child);
    });
    cannot(v, "E-PTRACE", "pid 4712: traced by pid 3");
    let v = judged(|t, _| t.descendants.push(ProcFacts { stat: stat(4712, 4711), deep: None }));
    cannot(v, "E-UNKNOWN", "pid 4712: was not looked at");
    let v = judged(|t, _| t.root.deep = None);
    assert!(v.cannot.is_none() && !v.is_candidate());
}

#[test]
fn gpus_move_where_the_driver_can_checkpoint_and_trees_of_ours_move_again() {
    let gpu = judged(|t, ctx| {
        ctx.gpu_checkpoint = true;
        let deep = t.root.deep.as_mut().unwrap();
        deep.gpu_memory = Some(Bytes(1));
        deep.fds.push(fd(9, FdKind::Device { path: "/dev/nvidia0".into() }));
    });
    assert!(gpu.can_move() && gpu.complexity == Complexity::High, "{gpu:?}");
    let back = judged(|t, ctx| {
        ctx.tree_roots.insert(4711);
        let deep = t.root.deep.as_mut().unwrap();
        deep.ns.pid = Some(99);
        deep.cgroups.push(":/grid/home/x".into());
    });
    assert!(back.is_candidate(), "{back:?}");
}

#[test]
fn each_protection_is_named() {
    not_worth(
        judged(|_, ctx| {
            ctx.own_pids.insert(4711);
        }),
        "E-GRID",
        "it belongs to grid",
    );
    not_worth(with_deep(|d| d.cgroups.push(":/grid/b-7k2".into())), "E-GRID", "it belongs to grid");
    not_worth(with_stat(|s| s.kernel = true), "E-KERNEL", "a kernel thread");
    not_worth(judged(|_, ctx| ctx.asked_by = Some(1001)), "E-OWNER", "it belongs to alice");
    not_worth(with_stat(|s| s.uid = 0), "E-ROOT", "it belongs to root");
    not_worth(with_stat(|s| s.uid = 101), "E-SERVICE", "messagebus is a system user");
    not_worth(as_program("/usr/bin/bash", &["bash"]), "E-SHELL", "bash is a shell");
    not_worth(as_program("/usr/lib/xorg/Xorg", &["X"]), "E-DESKTOP", "Xorg is a display server or part of the desktop");
    not_worth(as_program("/usr/lib/firefox/firefox", &["f"]), "E-DESKTOP", "firefox is a browser");
    not_worth(as_program("/usr/share/code/code", &["code"]), "E-DESKTOP", "code is an editor");
    not_worth(
        as_program("/usr/bin/node", &["node", "/home/a/.vscode-server/x.js"]),
        "E-DESKTOP",
        "it is part of an editor",
    );
    not_worth(as_program("/usr/lib/postgresql/15/bin/postgres", &["p"]), "E-DATABASE", "postgres is a database");
    not_worth(
        as_program("/usr/bin/redis-check-rdb", &["redis-server *:6379"]),
        "E-DATABASE",
        "redis-check-rdb is a database",
    );
    not_worth(with_deep(|d| d.oom_score_adj = -500), "E-PROTECTED", "oom_score_adj of 4711 is -500");
    not_worth(
        with_deep(|d| d.oom_preference = Some("avoid".into())),
        "E-PROTECTED",
        "the unit of 4711 has ManagedOOMPreference=avoid",
    );
    not_worth(
        judged(|_, ctx| {
            ctx.kept.insert(stat(4711, 1).id);
        }),
        "E-KEEP",
        "kept here by grid keep",
    );
    not_worth(with_stat(|s| s.age = Millis(12_000)), "E-NEW", "12 s old, less than 1m00s");
    not_worth(with_deep(|d| d.pss = Some(Bytes(4 << 20))), "E-SMALL", "4 MiB, less than 10 MiB");
    not_worth(
        judged(|_, ctx| {
            ctx.recent.insert(stat(4711, 1).id);
        }),
        "E-COOLDOWN",
        "it was moved or refused a moment ago",
    );
    not_worth(
        judged(|_, ctx| {
            ctx.away.insert(4711);
        }),
        "E-AWAY",
        "it is being moved, or is away already",
    );
    let leader = judged(|t, _| t.session_outsiders = vec![5, 6]);
    not_worth(leader, "E-LEADER", "it leads a session in which 2 others live, 5 first");
    let idle = judged(|t, _| {
        t.root.stat.cpu = Some(MilliCpu(10));
        t.root.deep.as_mut().unwrap().pss = Some(Bytes(100 << 20));
    });
    not_worth(idle, "E-SMALL", "10m CPU and 100 MiB, less than 50m and 1.0 GiB");
    let unknown = judged(|t, _| {
        t.root.stat.cpu = None;
        t.root.deep.as_mut().unwrap().pss = Some(Bytes(100 << 20));
    });
    not_worth(unknown, "E-UNKNOWN", "its CPU use is not measured yet; look again in a second");
    let listening = with_fd(FdKind::TcpListen { local: "0.0.0.0:80".into(), inode: 7 });
    assert!(listening.can_move() && listening.notices[0].starts_with("stays reachable at 0.0.0.0:80; "));
    let bound = with_fd(FdKind::TcpListen { local: "10.0.0.5:80".into(), inode: 7 });
    cannot(bound, "E-SOCK", "fd 19 listens at 10.0.0.5:80, an address that the destination does not have");
    not_worth(listening, "E-KIND", "a daemon: it listens");
}

#[test]
fn nobody_is_an_ordinary_user_and_dynamic_users_are_services() {
    let of = |uid| {
        judged(|t, _| {
            t.root.stat.uid = uid;
            t.root.deep.as_mut().unwrap().uids = [uid; 4];
        })
    };
    assert!(of(65534).is_candidate());
    assert_eq!(codes(&of(61_200).not_worth), ["E-SERVICE"]);
}

#[test]
fn units_of_systemd_are_services_and_logins_are_not() {
    let unit = |path: &str| with_deep(|d| d.cgroups.push(format!(":{path}")));
    let service = unit("/system.slice/solver.service");
    assert_eq!(codes(&service.not_worth), ["E-SERVICE"]);
    // Its main process stays, as a shadow.
    assert!(service.can_move());
    for login in [
        "/system.slice/ssh.service",
        "/user.slice/user-1000.slice/session-2.scope",
        "/user.slice/u/user@1000.service/app.slice/vte-spawn-1.scope",
        "/",
    ] {
        assert!(unit(login).is_candidate(), "{login}");
    }
}

#[test]
fn a_person_who_names_a_process_overrules_protections_only() {
    let named = |change: &dyn Fn(&mut TreeFacts, &mut DetectContext)| {
        judged(|t, ctx| {
            (ctx.named, ctx.asked_by) = (true, Some(1000));
            change(t, ctx);
        })
    };
    let database = named(&|t, _| t.root = with_exe(t.root.clone(), "/usr/bin/mongod", &["mongod"]));
    assert!(database.is_candidate());
    assert_eq!(database.notices, ["grid would not choose it by itself: mongod is a database"]);
    let anothers = named(&|t, _| t.root.stat.uid = 1001);
    assert_eq!((codes(&anothers.not_worth), anothers.title.as_str()), (vec!["E-OWNER"], "solver"));
    assert!(
        !named(&|_, ctx| {
            ctx.own_pids.insert(4711);
        })
        .is_candidate()
    );
}

#[test]
fn the_users_rules_come_first_and_are_named() {
    let rule = |name: &str, action, kind| ProcessRule {
        name: name.into(),
        exe: Some("/usr/bin/mongo?".into()),
        action,
        kind,
        ..ProcessRule::default()
    };
    let judge_with = |rules| {
        let t = tree(with_exe(process(4711, 1), "/usr/bin/mongod", &["mongod"]));
        judge(&t, &context(), &Detector { rules, ..Detector::default() })
    };
    let allowed = judge_with(vec![rule("mine", Some(RuleAction::Allow), Some(ProcessKind::Batch))]);
    assert!(allowed.is_candidate());
    assert_eq!((allowed.kind, allowed.kind_why.as_str()), (ProcessKind::Batch, "rule \"mine\""));
    let protected =
        judge_with(vec![rule("never", Some(RuleAction::Protect), None), rule("mine", Some(RuleAction::Allow), None)]);
    assert!(protected.not_worth.contains(&Reason::new(ReasonCode::Protected, "rule \"never\"")));
    let empty = judge_with(vec![ProcessRule { action: Some(RuleAction::Allow), ..ProcessRule::default() }]);
    assert_eq!(codes(&empty.not_worth), ["E-DATABASE"], "a rule without conditions applies to nothing");
    let user = Detector { protected_users: vec!["alice".into()], ..Detector::default() };
    let v = judge(&tree(process(4711, 1)), &context(), &user);
    not_worth(v, "E-PROTECTED", "alice is a protected user");
}

#[test]
fn kinds_come_from_names_words_libraries_and_behaviour() {
    use ProcessKind::*;
    let python = |argv: &[&str], maps: &[&str]| {
        judged(|t, _| {
            t.root = with_exe(t.root.clone(), "/usr/bin/python3.11", argv);
            t.root.deep.as_mut().unwrap().mapped_files = maps.iter().map(|m| (*m).to_owned()).collect();
        })
    };
    for (verdict, kind, why) in [
        (python(&["python3", "train_gpt.py"], &[]), Training, "\"train\" in its name"),
        (
            python(&["python3", "x.py", "serve"], &["/l/libtorch_cpu.so"]),
            Inference,
            "\"serve\" in its name, maps libtorch_cpu.so",
        ),
        (python(&["python3", "x.py"], &["/l/libcudart.so.12"]), Compute, "maps libcudart.so.12"),
        (python(&["python3", "constraint.py", "train.csv"], &[]), Batch, "no terminal"),
        (as_program("/usr/bin/xz", &["xz", "-T2", "dump.tar"]), DataProcessing, "known program xz"),
        (as_program("/usr/bin/rsync", &["rsync"]), Io, "known program rsync"),
        (as_program("/usr/bin/gcc", &["gcc"]), Compute, "known program gcc"),
        (as_program("/usr/bin/bash", &["bash", "/home/a/run.sh"]), Batch, "a script without a terminal"),
        (as_program("/usr/bin/vim", &["vim"]), Interactive, "vim is an editor"),
        (as_program("/usr/sbin/nginx", &["nginx"]), Daemon, "nginx is a service"),
    ] {
        assert_eq!((verdict.kind, verdict.kind_why.as_str()), (kind, why));
    }
    assert!(as_program("/usr/bin/bash", &["bash", "/home/a/run.sh"]).is_candidate());
}

#[test]
fn what_is_kept_stays_also_where_it_is_named() {
    let kept = judged(|_, ctx| {
        ctx.named = true;
        ctx.kept.insert(stat(4711, 1).id);
    });
    assert_eq!(kept.not_worth.iter().map(|r| r.code).collect::<Vec<_>>(), [ReasonCode::Keep]);
    let adjusted = judged(|t, ctx| {
        ctx.named = true;
        t.root.deep.as_mut().unwrap().oom_score_adj = -500;
    });
    assert!(adjusted.is_candidate(), "a protection that a person who names it overrules: {adjusted:?}");
}
