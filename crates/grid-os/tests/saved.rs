//! Saved `/proc` trees, read as the live one is. Each has the facts that it must give beside it, as JSON; the detector's
//! tests judge the same files. `UPDATE=1` writes them anew, to be looked at before they are committed.

#![allow(clippy::unwrap_used)] // a test: its helpers may panic too

use grid_os::proc::ProcRoot;
use grid_types::facts::{FdKind, TreeFacts};
use std::path::PathBuf;

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Reads the tree whose root has the lowest number, and compares it with its JSON.
fn tree(name: &str) -> TreeFacts {
    let root = ProcRoot::saved(data(name));
    let sample = root.all_stats(None).unwrap();
    let tree = root.tree(&sample, sample.procs[0].id.pid).unwrap();
    let (json, text) = (data(&format!("{name}.json")), serde_json::to_string_pretty(&tree).unwrap() + "\n");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&json, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&json).unwrap(), text, "{name}");
    tree
}

#[test]
fn python_with_a_child_and_an_open_file() {
    let tree = tree("python-with-child");
    assert_eq!((tree.descendants.len(), tree.root.stat.uid), (1, 65534));
    for deep in tree.all().filter_map(|p| p.deep.as_ref()) {
        assert_eq!(deep.unreadable, Vec::<String>::new());
        assert_eq!(deep.argv, ["/usr/bin/python3.11", "kid.py"]);
        assert!(deep.fds.iter().any(|f| f.kind == FdKind::File { path: "/tmp/kid-out.log".into(), deleted: false }));
    }
}

#[test]
fn redis_listens_and_holds_pipes_of_its_own() {
    let tree = tree("redis");
    let deep = tree.root.deep.as_ref().unwrap();
    assert_eq!(deep.unreadable, Vec::<String>::new());
    assert_eq!(deep.argv[0], "redis-server *:7391");
    assert!(deep.fds.iter().any(|f| matches!(&f.kind, FdKind::TcpListen { local, .. } if local == "0.0.0.0:7391")));
    assert_eq!(deep.fds.iter().filter(|f| matches!(f.kind, FdKind::Pipe { .. })).count(), 2);
    assert!(tree.shared_with.is_empty() && tree.root.stat.threads > 1);
}

#[test]
fn a_shell_in_a_terminal_below_script() {
    let tree = tree("shell-in-a-terminal");
    assert_eq!(tree.root.stat.comm, "script");
    let shell = tree.descendants[0].deep.as_ref().unwrap();
    assert_eq!(shell.tty.as_deref(), Some("/dev/pts/0"));
    assert!(shell.fds.iter().any(|f| f.kind == FdKind::Tty { path: "/dev/pts/0".into() }));
}
