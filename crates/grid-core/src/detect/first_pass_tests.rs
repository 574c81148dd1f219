//! The first pass: roots, what stays and why, and the walk below what is left alone.

use super::testkit::*;
use super::*;
use grid_types::facts::ProcStat;
use grid_types::policy::{ProcessRule, RuleAction};
use grid_types::units::{MilliCpu, Millis};

fn chosen(stats: &[ProcStat], ctx: &DetectContext) -> (Vec<i32>, Vec<(i32, &'static str)>) {
    let pass = first_pass(stats, ctx, &Detector::default());
    let mut stays: Vec<_> = pass.stays.iter().map(|(id, r)| (id.pid, r.code.as_str())).collect();
    stays.sort_unstable();
    (pass.look, stays)
}

fn named(pid: i32, ppid: i32, comm: &str, change: impl FnOnce(&mut ProcStat)) -> ProcStat {
    let mut s = stat(pid, ppid);
    s.comm = comm.into();
    change(&mut s);
    s
}

#[test]
fn the_first_pass_finds_roots_and_gives_everyone_else_one_reason() {
    let small = |s: &mut ProcStat| (s.rss, s.cpu) = (Bytes(20 << 20), Some(MilliCpu(20)));
    let stats = [
        named(1, 0, "systemd", |s| s.uid = 0),
        named(2, 0, "kthreadd", |s| s.kernel = true),
        named(10, 1, "bash", |s| s.tty_nr = 34816),
        named(11, 10, "python3", |s| s.sid = 10),
        named(12, 11, "python3", |s| s.sid = 10),
        named(20, 1, "supervisor", small),
        named(21, 20, "worker", |s| (s.sid, s.rss) = (20, Bytes(3 << 30))),
        named(30, 1, "tiny", small),
        named(31, 30, "tiny", |s| {
            small(s);
            s.sid = 30;
        }),
        named(40, 1, "leader", |_| ()),
        named(41, 1, "escaped", |s| s.sid = 40),
        named(50, 1, "new", |s| s.age = Millis(1)),
        named(900, 1, "grid-agent", |s| s.uid = 0),
        named(901, 900, "guest", |_| ()),
        named(902, 900, "back", |_| ()),
    ];
    let mut ctx = context();
    ctx.tree_roots.insert(902);
    let (look, stays) = chosen(&stats, &ctx);
    assert_eq!(look, [11, 20, 41, 902]);
    let want = [
        (1, "E-SERVICE"),
        (2, "E-KERNEL"),
        (10, "E-SHELL"),
        (30, "E-SMALL"),
        (31, "E-SMALL"),
        (40, "E-LEADER"),
        (50, "E-NEW"),
        (900, "E-GRID"),
        (901, "E-GRID"),
    ];
    assert_eq!(stays, want);
}

#[test]
fn below_a_protected_root_the_children_get_their_look() {
    let stats = [
        named(1, 0, "init", |s| s.uid = 0),
        named(10, 1, "node", |_| ()),
        named(11, 10, "bash", |s| s.sid = 10),
        named(12, 11, "python3", |s| s.sid = 10),
    ];
    assert_eq!(chosen(&stats, &context()).0, [10]);
    let editor = judge(
        &tree(with_exe(process(10, 1), "/usr/bin/node", &["node", "/h/.vscode-server/s.js"])),
        &context(),
        &Detector::default(),
    );
    assert!(passes_below(&editor) && !passes_below(&judge(&tree(process(4711, 1)), &context(), &Detector::default())));
    assert_eq!(below(&stats, 10, &context(), &Detector::default()).look, [12]);
}

#[test]
fn a_rule_that_needs_the_deep_look_gets_it() {
    let stats = [named(1, 0, "init", |s| s.uid = 0), named(10, 1, "mongod", |_| ())];
    let rule = |action| ProcessRule {
        name: "r".into(),
        exe: Some("*/mongod".into()),
        action: Some(action),
        ..ProcessRule::default()
    };
    let look =
        |action| first_pass(&stats, &context(), &Detector { rules: vec![rule(action)], ..Detector::default() }).look;
    assert_eq!(look(RuleAction::Allow), [10]);
    assert_eq!(look(RuleAction::Protect), Vec::<i32>::new());
}

#[test]
fn a_ring_of_parents_ends() {
    let stats = [named(5, 6, "a", |s| s.sid = 1), named(6, 5, "b", |s| s.sid = 1)];
    assert_eq!(first_pass(&stats, &context(), &Detector::default()), FirstPass::default());
}
