//! Real processes, recorded: the facts are those that grid-os reads from its saved `/proc` trees.

use super::*;
use grid_types::plan::Complexity;
use grid_types::policy::ProcessKind;

fn verdict(json: &str, named: bool) -> Verdict {
    let tree: TreeFacts = serde_json::from_str(json).unwrap();
    let own_ns = tree.root.deep.as_ref().unwrap().ns.clone();
    let users = [(65534, "nobody".to_owned())].into();
    let private_paths = vec!["/dev/shm".into(), "/run".into()];
    judge(&tree, &DetectContext { own_ns, named, users, private_paths, ..Default::default() }, &Detector::default())
}

fn codes(reasons: &[Reason]) -> Vec<&'static str> {
    reasons.iter().map(|r| r.code.as_str()).collect()
}

#[test]
fn python_with_a_child_can_move_and_is_new_and_small() {
    let v = verdict(include_str!("../../../grid-os/tests/data/python-with-child.json"), false);
    assert_eq!((v.cannot.as_deref(), v.title.as_str()), (Some(&[][..]), "python3.11 kid.py"));
    assert_eq!(v.can, "2 processes, 2 threads, 2 files; no socket, no device");
    assert_eq!((codes(&v.not_worth), v.complexity), (vec!["E-NEW", "E-UNKNOWN"], Complexity::Medium));
}

#[test]
fn redis_stays_by_itself_and_moves_when_named() {
    let json = include_str!("../../../grid-os/tests/data/redis.json");
    let v = verdict(json, false);
    assert_eq!((v.kind, v.title.as_str()), (ProcessKind::Daemon, "redis-server"));
    assert!(codes(&v.not_worth).contains(&"E-DATABASE") && v.can_move(), "{v:?}");
    let v = verdict(json, true);
    assert!(v.is_candidate() && v.notices.iter().any(|n| n.contains("0.0.0.0:7391")), "{v:?}");
}

#[test]
fn a_shell_in_a_terminal_stays_with_its_terminal_named() {
    let v = verdict(include_str!("../../../grid-os/tests/data/shell-in-a-terminal.json"), true);
    let cannot = v.cannot.unwrap();
    assert!(
        cannot.iter().any(|r| r.code == ReasonCode::Tty && r.detail.contains("holds terminal /dev/pts/0")),
        "{cannot:?}"
    );
    assert!(cannot.iter().any(|r| r.code == ReasonCode::Root));
}
