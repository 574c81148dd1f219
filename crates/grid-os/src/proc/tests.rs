//! The readers on the live `/proc` and on saved trees.

use super::*;
use grid_types::facts::FdKind;
use std::process::{Child, Command, Stdio};

struct Kill(Child);
impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(command: &mut Command) -> Kill {
    Kill(command.spawn().unwrap())
}

fn me() -> i32 {
    std::process::id() as i32
}

#[test]
fn the_live_proc_holds_this_test() {
    let root = ProcRoot::new("/proc");
    let first = root.all_stats(None).unwrap();
    let mine = first.get(me()).expect("this process is listed");
    assert_eq!((mine.uid, mine.cpu), (nix::unistd::geteuid().as_raw(), None));
    assert!(mine.rss.0 > 0 && mine.threads >= 1 && !mine.kernel);
    std::thread::sleep(std::time::Duration::from_millis(120));
    let second = root.all_stats(Some(&first)).unwrap();
    assert!(second.get(me()).unwrap().cpu.is_some());
    assert_eq!(second.get(1).unwrap().id.pid, 1);
}

#[test]
fn a_listing_that_fails_is_an_error_and_not_nothing_found() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("proc/sys/kernel/random")).unwrap();
    std::fs::write(dir.path().join("proc/sys/kernel/random/boot_id"), "b\n").unwrap();
    std::fs::write(dir.path().join("proc/uptime"), "1.0 1.0\n").unwrap();
    let root = ProcRoot::saved(dir.path());
    assert_eq!(root.all_stats(None).unwrap().procs.len(), 0);
    let root = ProcRoot::saved("/nonexistent");
    root.boot_id.set("b".into()).unwrap();
    let missing = root.all_stats(None).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/proc"), "{missing}");
    std::fs::create_dir(dir.path().join("proc/7")).unwrap();
    std::fs::write(dir.path().join("proc/7/stat"), "7 (x) S 1").unwrap();
    let broken = ProcRoot::saved(dir.path()).all_stats(None).unwrap_err();
    assert!(matches!(broken, ProcError::Parse { .. }), "{broken}");
}

#[test]
fn the_deep_look_at_a_process_reads_everything() {
    let root = ProcRoot::new("/proc");
    // A child: this test's own descriptors come and go with the tests beside it.
    let child =
        spawn(Command::new("sleep").arg("60").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()));
    let deep = loop {
        let deep = root.deep(child.0.id() as i32).unwrap();
        if deep.argv.first().is_some_and(|a| a == "sleep") {
            break deep;
        }
    };
    assert_eq!(deep.unreadable, Vec::<String>::new());
    assert!(deep.exe.is_some() && deep.pss.is_some() && deep.ns.mnt.is_some());
    assert!(deep.fds.iter().any(|f| matches!(f.kind, FdKind::Pipe { .. }) && f.flags.is_some()));
    assert!(deep.fds.iter().all(|f| !f.foreign_mount), "{:?}", deep.fds);
    assert!(!deep.ns_pids.is_empty() && !deep.cgroups.is_empty() && !deep.mapped_files.is_empty());
}

#[test]
fn a_process_that_is_gone_is_gone() {
    let root = ProcRoot::new("/proc");
    assert!(matches!(root.deep(i32::MAX), Err(ProcError::Gone { .. })));
    let sample = root.all_stats(None).unwrap();
    assert!(matches!(root.tree(&sample, i32::MAX), Err(ProcError::Gone { .. })));
}

#[test]
fn a_pipe_to_this_test_shows_in_the_childs_tree_with_its_living_parent() {
    let root = ProcRoot::new("/proc");
    let child =
        spawn(Command::new("sleep").arg("60").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()));
    let pid = child.0.id() as i32;
    let tree = root.tree(&root.all_stats(None).unwrap(), pid).unwrap();
    assert_eq!(tree.living_parent.as_ref().map(|p| p.id.pid), Some(me()));
    let shared: Vec<_> = tree.shared_with.iter().filter(|s| s.what.starts_with("pipe:[")).collect();
    assert!(shared.iter().any(|s| s.inside == pid && s.outside == me()), "{shared:?}");
}

#[test]
fn fifos_files_and_locks_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let both = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let file = std::fs::File::create(dir.path().join("file")).unwrap();
    file.lock().unwrap();
    let deep = ProcRoot::new("/proc").deep(me()).unwrap();
    assert!(deep.fds.iter().any(|f| matches!(&f.kind, FdKind::Fifo { path } if path.ends_with("/fifo"))));
    assert!(deep.fds.iter().any(|f| matches!(&f.kind, FdKind::File { path, .. } if path.ends_with("/file"))));
    assert!(!deep.locks.is_empty());
    drop(both);
}

#[test]
fn sockets_are_named_with_their_ends() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let local = listener.local_addr().unwrap().to_string();
    let _client = std::net::TcpStream::connect(&local).unwrap();
    let (_a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
    let deep = ProcRoot::new("/proc").deep(me()).unwrap();
    let has = |want: &dyn Fn(&FdKind) -> bool| deep.fds.iter().any(|f| want(&f.kind));
    assert!(has(&|k| matches!(k, FdKind::TcpListen { local: l, .. } if *l == local)));
    assert!(has(&|k| matches!(k, FdKind::TcpEstablished { remote, .. } if *remote == local)));
    assert!(has(&|k| matches!(k, FdKind::Unix { peer: Some(p), .. } if *p != 0)));
}
