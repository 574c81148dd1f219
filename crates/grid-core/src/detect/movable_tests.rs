//! Obstacles that real programs of `tests/coverage.toml` brought to light: each would have failed after the freeze.

use super::testkit::*;
use super::*;
use grid_types::facts::{FdKind, ProcDeep, TreeFacts, UNNAMED_FILE_LIMIT};
use grid_types::policy::TcpPolicy;

fn reasons(change: impl FnOnce(&mut TreeFacts)) -> Vec<String> {
    let mut t = tree(process(4711, 1));
    change(&mut t);
    let verdict = judge(&t, &context(), &Detector::default());
    verdict.cannot.unwrap().iter().map(ToString::to_string).collect()
}

fn with(change: impl FnOnce(&mut ProcDeep)) -> Vec<String> {
    reasons(|t| change(t.root.deep.as_mut().unwrap()))
}

#[test]
fn what_its_owner_may_not_save_is_refused() {
    let inotify = FdKind::AnonSaveable { what: "inotify".into() };
    assert_eq!(with(|d| d.fds.push(fd(4, inotify))), ["E-WATCH fd 4 watches files (inotify)"]);
    let timer = FdKind::AnonSaveable { what: "[timerfd]".into() };
    assert!(with(|d| d.fds.push(fd(4, timer))).is_empty());
    assert_eq!(with(|d| d.seccomp = 2), ["E-SECCOMP runs under a seccomp filter"]);
    assert_eq!(with(|d| d.closed = true), ["E-CLOSED is closed to its owner (not dumpable)"]);
}

#[test]
fn only_the_filter_of_grid_run_goes_along_and_over_the_whole_tree() {
    let under = |claims| move |d: &mut ProcDeep| (d.seccomp, d.filters, d.claims_run) = (2, 1, claims);
    assert!(with(under(true)).is_empty());
    assert_eq!(with(under(false)), ["E-SECCOMP runs under a seccomp filter"]);
    let two = with(|d| (d.seccomp, d.filters, d.claims_run) = (2, 2, true));
    assert_eq!(two, ["E-SECCOMP runs under a seccomp filter"]);
    // A child inherits it, and may have cleaned its environment.
    let family = |root: bool, child: Option<bool>| {
        reasons(|t| {
            let mut p = process(4712, 4711);
            child.into_iter().for_each(|claims| under(claims)(p.deep.as_mut().unwrap()));
            t.descendants.push(p);
            if root {
                under(true)(t.root.deep.as_mut().unwrap());
            }
        })
    };
    assert!(family(true, Some(false)).is_empty());
    let mixed = "is not under the filter of `grid run`, as others of its tree are";
    assert_eq!(family(true, None), [format!("E-SECCOMP pid 4712: {mixed}")]);
    assert_eq!(family(false, Some(true)), [format!("E-SECCOMP {mixed}")]);
    assert_eq!(family(false, Some(false)), ["E-SECCOMP pid 4712: runs under a seccomp filter"]);
}

#[test]
fn what_the_gate_would_refuse_is_refused_before() {
    assert_eq!(with(|d| d.gids = [7, 8, 8, 8]), ["E-ROOT has the rights of two groups, 7 and 8"]);
    assert!(with(|d| d.gids = [7; 4]).is_empty());
    assert_eq!(with(|d| d.cap_prm = 0x2000), ["E-ROOT has capabilities (2000)"]);
    let gone = with(|d| d.exe = Some("/usr/bin/solver (deleted)".into()));
    assert_eq!(gone, ["E-FILE its executable, /usr/bin/solver, was removed or replaced since it started"]);
    // What only the agent can see, it has looked for.
    let seen = reasons(|t| t.foreseen = Some("holds fd 1: /root/out, which uid 1000 may not open".into()));
    assert_eq!(seen, ["E-GATE holds fd 1: /root/out, which uid 1000 may not open"]);
    let twice = reasons(|t| {
        t.foreseen = Some("has capabilities".into());
        t.root.deep.as_mut().unwrap().cap_prm = 0x2000;
    });
    assert_eq!(twice, ["E-ROOT has capabilities (2000)"]);
}

#[test]
fn a_file_without_a_name_moves_only_while_it_is_small() {
    let file = |bytes: Bytes| with(|d| d.unnamed_files.push(("/tmp/x".into(), bytes)));
    assert!(file(UNNAMED_FILE_LIMIT).is_empty());
    let refused = file(Bytes(UNNAMED_FILE_LIMIT.0 + 1));
    assert!(
        refused[0].starts_with("E-FILE /tmp/x has no name any more and occupies 17 MiB, more than 16 MiB"),
        "{refused:?}"
    );
}

#[test]
fn system_v_memory_stays_in_its_ipc_namespace() {
    let refused = with(|d| d.odd_maps.push("/SYSV0000002a (deleted)".into()));
    assert_eq!(refused, ["E-SHM maps System V shared memory"]);
}

#[test]
fn a_child_that_has_ended_goes_along_and_the_root_does_not() {
    let child = |t: &mut TreeFacts| {
        t.descendants.push(process(4712, 4711));
        t.descendants[0].stat.sid = 4711;
        t.descendants[0].stat.state = 'Z';
        t.descendants[0].deep = None;
    };
    assert!(reasons(child).is_empty());
    assert_eq!(reasons(|t| t.root.stat.state = 'Z'), ["E-ZOMBIE has ended and waits for its parent"]);
}

#[test]
fn a_member_of_a_session_without_its_leader_stays() {
    let in_session = |sid: i32| {
        reasons(|t| {
            t.descendants = vec![process(4712, 4711), process(4713, 4711)];
            t.descendants[0].stat.sid = 4712;
            t.descendants[1].stat.sid = sid;
        })
    };
    assert!(in_session(4712).is_empty() && in_session(4711).is_empty());
    assert_eq!(in_session(4600), ["E-SESSION pid 4713: is in session 4600, whose leader has ended"]);
}

#[test]
fn connections_stay_no_obstacle_where_they_may_be_closed() {
    let tcp = |n, local: &str| fd(n, FdKind::TcpEstablished { local: local.into(), remote: "10.0.0.7:5432".into() });
    let mut t = tree(process(4711, 1));
    // Two descriptors of one connection, and another one.
    let fds = [tcp(3, "10.0.0.5:40001"), tcp(4, "10.0.0.5:40001"), tcp(5, "10.0.0.5:40002")];
    t.root.deep.as_mut().unwrap().fds.extend(fds);
    assert_eq!(connections(&t), 2);
    let close = Detector { tcp_connections: TcpPolicy::Close, ..Detector::default() };
    let (refused, agreed) = (judge(&t, &context(), &Detector::default()), judge(&t, &context(), &close));
    assert_eq!(refused.cannot.unwrap().first().map(|r| r.code), Some(ReasonCode::Tcp));
    assert_eq!(agreed.cannot, Some(Vec::new()));
    assert!(agreed.notices.contains(&"3 connections to 10.0.0.7:5432 will be closed".to_owned()), "{agreed:?}");
}
