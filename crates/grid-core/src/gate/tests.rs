use super::*;
use grid_types::gate::{OpenFile, Rights};
use std::collections::BTreeMap;

fn mount(id: i32, point: &str, fstype: &str, options: &str) -> Mount {
    let (point, fstype, options) = (point.to_owned(), fstype.to_owned(), options.to_owned());
    Mount { id, line: format!("{id} {point}"), point, options, fstype }
}

fn open(what: &str, target: &str) -> OpenFile {
    OpenFile { what: what.into(), target: target.into(), mount: None, flags: 0, device: None }
}

fn map<V: Clone>(pairs: &[(&str, V)]) -> BTreeMap<String, V> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect()
}

fn terms() -> Terms {
    Terms {
        uid: 7,
        gid: 8,
        groups: vec![8, 9],
        processes: 1,
        threads: 1,
        executables: vec!["/bin/sh".into()],
        namespaces: map(&[("pid", "pid:[1]".to_owned()), ("time", "time:[1]".to_owned())]),
        cgroups: vec!["freezer:/l/a".into(), "memory:/l/a".into()],
        mounts: vec![
            mount(1, "/", "ext4", "rw,nosuid"),
            mount(2, "/proc", "proc", "rw,nosuid"),
            mount(3, "/sys", "sysfs", "rw,nosuid"),
            mount(4, "/proc", "proc", "rw,nosuid"),
        ],
        limits: map(&[("Max open files", Some(10)), ("Max cpu time", None)]),
        filters: Some(1),
        closed: vec!["/run/grid".into()],
        terminal: Some((136, 5)),
        guest: true,
    }
}

fn guest() -> Guest {
    let thread = Rights {
        tid: 5,
        uids: vec![7; 4],
        gids: vec![8; 4],
        groups: vec![8, 9],
        capabilities: map(&[("CapInh", 0), ("CapPrm", 0), ("CapEff", 0), ("CapAmb", 0)]),
        tracer: 0,
        filters: 1,
        session: 3,
        group: 3,
    };
    Guest {
        pid: 5,
        comm: "sh".into(),
        threads: vec![thread],
        namespaces: map(&[("pid", "pid:[1]".to_owned()), ("time", "time:[2]".to_owned())]),
        cgroups: terms().cgroups,
        exe: "/bin/sh".into(),
        root: "/".into(),
        open: vec![
            OpenFile { mount: Some(1), ..open("fd 1", "/home/x") },
            OpenFile { mount: Some(4), ..open("fd 2", "/proc/5/stat") },
            OpenFile { device: Some((1, 3)), ..open("fd 0", "/dev/null") },
            OpenFile { device: Some((136, 5)), ..open("fd 6", "/dev/pts/5") },
            open("fd 3", "pipe:[4]"),
            open("fd 4", "anon_inode:[eventfd]"),
            open("fd 5", "/memfd:x (deleted)"),
        ],
        limits: map(&[("Max open files", Some(10)), ("Max cpu time", Some(3))]),
        connections: Vec::new(),
        oom_score_adj: 0,
        nice: 0,
        policy: 0,
    }
}

#[test]
fn what_was_announced_passes() {
    assert_eq!(judge(&[guest()], &terms().mounts, &terms()), Ok(()));
}

#[test]
fn each_thing_that_a_guest_may_not_be_is_refused_by_name() {
    type Change = fn(&mut Guest);
    let cases: [(Change, &str); 30] = [
        (|g| g.threads[0].uids[1] = 0, "has uids [7, 0, 7, 7], 7 was announced"),
        (|g| g.threads[0].uids = Vec::new(), "has uids []"),
        (|g| g.threads[0].gids[3] = 0, "has gids"),
        (|g| g.threads[0].groups = vec![0, 8, 9], "has the groups [0, 8, 9]"),
        (|g| g.threads[0].groups = vec![8], "has the groups [8]"),
        (
            |g| {
                g.threads[0].capabilities.insert("CapInh".into(), 2);
            },
            "CapInh 2",
        ),
        (
            |g| {
                g.threads[0].capabilities.insert("CapPrm".into(), 2);
            },
            "CapPrm 2",
        ),
        (
            |g| {
                g.threads[0].capabilities.insert("CapEff".into(), 0x20);
            },
            "CapEff 20",
        ),
        (
            |g| {
                g.threads[0].capabilities.insert("CapAmb".into(), 2);
            },
            "CapAmb 2",
        ),
        (
            |g| {
                g.threads[0].capabilities.remove("CapAmb");
            },
            "shows no CapAmb",
        ),
        (|g| g.threads[0].tracer = 9, "is traced by 9"),
        (|g| g.threads[0].filters = 0, "is under 0 filters of system calls, 1 were announced"),
        (|g| g.threads[0].session = 0, "a session from outside"),
        (|g| g.threads[0].group = 0, "a process group from outside"),
        (
            |g| {
                g.limits.insert("Max open files".into(), Some(11));
            },
            "a higher Max open files",
        ),
        (
            |g| {
                g.limits.insert("Max open files".into(), None);
            },
            "a higher Max open files",
        ),
        (|g| g.limits.clear(), "shows no Max"),
        (|g| g.oom_score_adj = -1, "oom_score_adj -1"),
        (|g| g.nice = -1, "nice -1"),
        (|g| g.policy = 1, "scheduling policy 1"),
        (|g| drop(g.namespaces.insert("pid".into(), "pid:[9]".into())), "lives in pid:[9], the tree's is pid:[1]"),
        (|g| drop(g.namespaces.remove("pid")), "shows no pid namespace"),
        (|g| g.cgroups[1] = "memory:/".into(), "the control group memory:/"),
        (
            |g| {
                g.cgroups.pop();
            },
            "not in all of its control groups",
        ),
        (|g| g.root = "/jail".into(), "its root at /jail"),
        (|g| g.exe = "/bin/su".into(), "runs /bin/su, which was not announced"),
        (|g| g.connections.push("10.0.0.7:5432".into()), "has a TCP connection to 10.0.0.7:5432"),
        (|g| g.open[0].mount = Some(99), "on a mount of another tree"),
        (|g| g.open[0].mount = Some(3), "in the node's sysfs"),
        (|g| g.open[1].mount = Some(2), "in the node's proc"),
    ];
    for (change, word) in cases {
        let mut changed = guest();
        change(&mut changed);
        let why = judge(&[changed], &terms().mounts, &terms()).unwrap_err();
        assert!(why.starts_with("process 5 ") && why.contains(word), "{why}");
    }
}

#[test]
fn only_known_kinds_of_descriptors_pass() {
    for (target, device, word) in [
        ("/dev/mem", Some((1, 1)), "device /dev/mem (1:1)"),
        ("/dev/null", Some((1, 11)), "device /dev/null (1:11)"),
        ("/run/grid/x", None, "no guest opens what is in /run/grid"),
        ("anon_inode:[io_uring]", None, "of a kind that no guest holds"),
        ("net:[4026531840]", None, "of a kind that no guest holds"),
    ] {
        let mut changed = guest();
        changed.open.push(OpenFile { device, ..open("fd 9", target) });
        let why = judge(&[changed], &terms().mounts, &terms()).unwrap_err();
        assert!(why.contains("holds fd 9: ") && why.contains(word), "{why}");
    }
}

#[test]
fn the_mounts_are_those_that_were_made() {
    let refused = |change: fn(&mut Vec<Mount>)| {
        let mut mounts = terms().mounts;
        change(&mut mounts);
        judge(&[guest()], &mounts, &terms()).unwrap_err()
    };
    assert!(refused(|m| m.push(mount(9, "/mnt", "ext4", "rw"))).contains("a mount at /mnt appeared"));
    assert!(refused(|m| m.truncate(3)).contains("is gone or changed"));
    let mut lax = terms();
    lax.mounts[0].options = "rw".into();
    assert!(judge(&[guest()], &lax.mounts, &lax).unwrap_err().contains("the mount at / is not nosuid"));
    lax.guest = false;
    assert_eq!(judge(&[guest()], &lax.mounts, &lax), Ok(()), "at home programs may become other users as before");
}

#[test]
fn as_many_come_as_were_announced() {
    let two = [guest(), guest()];
    assert!(judge(&two, &terms().mounts, &terms()).unwrap_err().contains("2 processes arrived (5 sh, 5 sh), 1 were"));
    let mut threads = guest();
    threads.threads.push(threads.threads[0].clone());
    assert!(judge(&[threads], &terms().mounts, &terms()).unwrap_err().contains("2 threads arrived"));
}
