//! walk
use grid_os::cgroup::{Controller, Hierarchies};
use grid_os::criu::*;
use grid_os::spawn::*;
use std::net::*;
use std::os::fd::*;
use std::time::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    if a[1] == "tree-init" {
        grid_os::tree_init::run(&grid_os::tree_init::TreeDir(a[2].clone().into())).unwrap();
        return;
    }
    let pid: i32 = a[1].parse().unwrap();
    let criu = Criu::find(std::path::Path::new(&a[2])).unwrap();
    let h = Hierarchies::detect().unwrap();
    let hold = h.group("grid-walk/hold", &[Controller::Freezer]);
    let tree = h.group("grid-walk/tree", &[Controller::Freezer]);
    let cg = h.group("grid-walk/criu", &[Controller::Freezer]);
    for g in [&hold, &tree, &cg] { g.create().unwrap(); }
    let s = tempfile::tempdir_in("/tmp/x").unwrap();
    let d = tempfile::tempdir_in("/tmp/x").unwrap();
    let owner = Owner { uid: 65534, gid: 65534 };
    std::os::unix::fs::chown(s.path(), Some(65534), Some(65534)).unwrap();
    hold.add(pid).unwrap();
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut c = TcpStream::connect(l.local_addr().unwrap()).unwrap();
    let (mut r, _) = l.accept().unwrap();
    let arena = Arena::with_room(a[3].parse::<u64>().unwrap() << 20).unwrap();
    // tree init
    let (rx, tx) = nix::unistd::pipe().unwrap();
    let me = std::env::current_exe().unwrap().display().to_string();
    let ti = spawn(&[me, "tree-init".into(), d.path().display().to_string()], &[], &Place { unshare: libc_flags(), new_session: true, inherit: vec![(tx.as_fd(), 3)], ..Place::default() }).unwrap();
    drop(tx);
    let mut b = [0u8; 1];
    assert_eq!(nix::unistd::read(&rx, &mut b).unwrap(), 1);
    let pidfd = grid_os::pidfd::PidFd::open(ti).unwrap();
    let t0 = Instant::now();
    std::thread::scope(|sc| {
        let dd = d.path().to_owned();
        let rec = sc.spawn(move || { let p = receive_pages(&mut r, &dd, arena, 1 << 34).unwrap(); eprintln!("pages {:?} {}", t0.elapsed(), p.bytes); receive_images(&dd, &mut r).unwrap(); p });
        criu.dump(&DumpJob { pid, images: s.path(), pages: c.as_fd(), owner: Some(owner), shell_job: false, place: Where { cgroup_procs: cg.procs_files(), join: None } }, &mut || { eprintln!("postdump {:?}", t0.elapsed()); hold.set_frozen(true).map_err(|e| e.to_string()) }).unwrap();
        eprintln!("dumped {:?}", t0.elapsed());
        send_images(s.path(), &mut c).unwrap();
        let p = rec.join().unwrap();
        eprintln!("received {:?}", t0.elapsed());
        let got = criu.restore(&RestoreJob { images: d.path(), shell_job: false, place: Where { cgroup_procs: tree.procs_files(), join: Some((pidfd.as_fd(), libc_flags())) } }, &p, &mut || {
            eprintln!("filled {:?}", t0.elapsed());
            for pid in tree.pids() { if std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim() == "criu" { cg.add(pid).unwrap(); } }
            tree.set_frozen(true).map_err(|e| e.to_string())
        }).unwrap();
        eprintln!("restored {got} {:?}", t0.elapsed());
        std::fs::write(d.path().join("root"), got.to_string()).unwrap();
        hold.kill(Duration::from_secs(2)).unwrap();
        tree.set_frozen(false).unwrap();
        eprintln!("thawed {:?}", t0.elapsed());
    });
    while !std::path::Path::new(&format!("/proc/{ti}")).exists() || !d.path().join("exit").exists() { std::thread::sleep(Duration::from_millis(50)); }
    eprintln!("exit {}", std::fs::read_to_string(d.path().join("exit")).unwrap());
    for g in [&hold, &tree, &cg] { g.remove().unwrap(); }
}
fn libc_flags() -> i32 { nix::libc::CLONE_NEWPID | nix::libc::CLONE_NEWNS | nix::libc::CLONE_NEWIPC }
