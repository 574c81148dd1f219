use super::messages::*;
use super::*;
use crate::access::hold;
use std::os::fd::{AsFd, OwnedFd};

const COMMON: u32 = 0x5456_4319;
const OWNER: Owner = Owner { uid: 65534, gid: 65534 };

/// A tree of one process with one thread, in images as a dump writes them.
struct Made {
    dir: tempfile::TempDir,
    root: OwnedFd,
    core: Core,
    files: Vec<File>,
    close_tcp: bool,
    private_tmp: bool,
}

fn regular(id: u32, name: &str, flags: u32) -> File {
    let reg = RegFile { flags, name: name.into(), ext: None };
    File { kind: 1, id, reg: Some(reg), inet: None, unix: None }
}

impl Made {
    fn new() -> Self {
        let creds = Creds {
            uid: 65534,
            gid: 65534,
            euid: 65534,
            egid: 65534,
            suid: 65534,
            sgid: 65534,
            fsuid: 65534,
            fsgid: 65534,
            groups: vec![9],
            cap_inh: vec![0, 0],
            ..Creds::default()
        };
        let rlimits = Some(Rlimits { rlimits: vec![Rlimit { cur: 5, max: 10 }] });
        Self {
            dir: tempfile::tempdir().unwrap(),
            root: hold("/").unwrap(),
            core: Core {
                task: Some(TaskCore { state: 1, rlimits, oom_score_adj: Some(0) }),
                thread: Some(ThreadCore { nice: Some(0), policy: Some(0), creds: Some(creds) }),
            },
            files: vec![regular(1, "/bin/sh", 0), regular(2, "/", 0)],
            close_tcp: false,
            private_tmp: false,
        }
    }

    fn creds(&mut self) -> &mut Creds {
        self.core.thread.as_mut().unwrap().creds.as_mut().unwrap()
    }

    fn task(&mut self) -> &mut TaskCore {
        self.core.task.as_mut().unwrap()
    }

    fn put<M: Message>(&self, name: &str, magic: &[u32], messages: &[M]) {
        let mut bytes: Vec<u8> = magic.iter().flat_map(|w| w.to_le_bytes()).collect();
        for message in messages {
            let encoded = message.encode_to_vec();
            bytes.extend((encoded.len() as u32).to_le_bytes());
            bytes.extend(encoded);
        }
        std::fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    /// What the inspection says of it.
    fn inspect(&self) -> Result<(), String> {
        self.put("inventory.img", &[0x5831_3116], &[Inventory { version: 2, plugins: None }]);
        self.put("pstree.img", &[COMMON, 0x5027_3030], &[PsTree { pid: 7, ppid: 0, threads: vec![7] }]);
        self.put("core-7.img", &[COMMON, 0x5505_3847], std::slice::from_ref(&self.core));
        self.put("mm-7.img", &[COMMON, 0x5749_2820], &[Mm { exe_file_id: 1 }]);
        self.put("fs-7.img", &[COMMON, 0x5140_3912], &[Fs { cwd_id: 2, root_id: 2 }]);
        self.put("files.img", &[COMMON, 0x5630_3138], &self.files);
        let announced = Announced {
            private_tmp: self.private_tmp,
            owner: OWNER,
            groups: &[9],
            processes: 1,
            threads: 1,
            executables: &["/bin/sh".into()],
            terminal: false,
            close_tcp: self.close_tcp,
            limits: &[10],
            closed: &["/run/grid".into()],
            root: self.root.as_fd(),
        };
        inspect(self.dir.path(), &announced).map_err(|e| e.to_string())
    }
}

fn refused(change: impl FnOnce(&mut Made)) -> String {
    let mut made = Made::new();
    change(&mut made);
    made.inspect().unwrap_err()
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("SKIPPED: needs root");
    }
    root
}

#[test]
fn what_was_announced_passes() {
    if is_root() {
        assert_eq!(Made::new().inspect(), Ok(()));
    }
}

#[test]
fn whoever_would_be_another_or_more_than_announced_is_refused() {
    type Change = fn(&mut Made);
    let cases: [(Change, &str); 14] = [
        (|m| m.creds().euid = 0, "uid 0"),
        (|m| m.creds().fsgid = 0, "gid 0"),
        (|m| m.creds().groups = vec![9, 27], "groups [9, 27]"),
        (|m| m.creds().cap_inh = vec![1, 0], "inheritable"),
        (|m| m.creds().cap_prm = vec![0, 1], "permitted"),
        (|m| m.creds().cap_eff = vec![2], "effective"),
        (|m| m.creds().cap_amb = vec![4], "ambient"),
        (|m| m.creds().secbits = 1, "securebits"),
        (|m| m.task().oom_score_adj = Some(-5), "oom_score_adj -5"),
        (|m| m.task().rlimits.as_mut().unwrap().rlimits[0].max = 11, "resource limit 0"),
        (|m| m.core.thread.as_mut().unwrap().nice = Some(-1), "nice -1"),
        (|m| m.core.thread.as_mut().unwrap().policy = Some(1), "scheduling policy 1"),
        (|m| m.core.thread = None, "no thread"),
        (|m| m.put("core-8.img", &[COMMON, 0x5505_3847], &[Core::default()]), "process 8 has no thread"),
    ];
    for (change, word) in cases {
        let why = refused(change);
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn files_that_are_not_the_owners_to_open_are_refused() {
    type Change = fn(&mut Made);
    let cases: [(Change, &str); 9] = [
        (|m| m.files[0] = regular(1, "/bin/su", 0), "/bin/su, which was not announced"),
        (|m| m.files[1] = regular(2, "/tmp", 0), "root at /tmp"),
        (|m| m.files.push(regular(3, "/a/../etc", 0)), "a file named"),
        (|m| m.files.push(regular(3, "etc", 0)), "a file named"),
        (|m| m.files.push(regular(3, "/run/grid/x", 0)), "no guest opens what is in /run/grid"),
        (|m| m.files.push(File { kind: 14, id: 3, reg: None, inet: None, unix: None }), "kind 14"),
        (|m| m.files.push(File { kind: 1, id: 3, reg: None, inet: None, unix: None }), "not what CRIU writes"),
        (|m| m.files.push(regular(1, "/x", 0)), "twice"),
        (
            |m| {
                let unix = Some(UnixSocket { name: b"/tmp/s".to_vec(), ..UnixSocket::default() });
                m.files.push(File { kind: 5, id: 3, reg: None, inet: None, unix });
            },
            "bound to",
        ),
    ];
    for (change, word) in cases {
        let why = refused(change);
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn a_connection_comes_only_where_it_is_agreed_that_it_is_closed() {
    let with = |proto, state, dst_port, close_tcp| {
        let mut made = Made::new();
        let inet = Some(InetSocket { proto, state, dst_port });
        made.files.push(File { kind: 4, id: 3, reg: None, inet, unix: None });
        made.close_tcp = close_tcp;
        made.inspect()
    };
    for (state, port) in [(1, 5432), (8, 5432), (7, 5432), (2, 0)] {
        let why = with(6, state, port, false).unwrap_err();
        assert!(why.contains("file 3 is a TCP connection, and nobody agreed"), "{why}");
    }
    if is_root() {
        let fine = [with(6, 1, 5432, true), with(6, 10, 0, false), with(6, 7, 0, false), with(17, 1, 53, false)];
        assert_eq!(fine, [const { Ok(()) }; 4]);
    }
}

#[test]
fn it_is_told_how_a_socket_was_set() {
    let mut made = Made::new();
    let socket = |ino, flags, shutdown| UnixSocket { ino, flags, name: Vec::new(), shutdown };
    let file = |id, unix| File { kind: 5, id, reg: None, inet: None, unix: Some(unix) };
    let nonblocking = nix::libc::O_NONBLOCK as u32;
    // Its other end sends no more: that comes by the stream, behind what it had sent.
    made.files.extend([file(3, socket(70, 2, Some(1))), file(4, socket(71, 2 | nonblocking, Some(3)))]);
    made.put("files.img", &[COMMON, 0x5630_3138], &made.files);
    let state = |inode| socket_state(made.dir.path(), inode).unwrap();
    assert_eq!(state(70), Some(SocketState { nonblocking: false, sends_no_more: false }));
    assert_eq!(state(71), Some(SocketState { nonblocking: true, sends_no_more: true }));
    assert_eq!(state(72), None);
}

#[test]
fn the_kernel_is_asked_what_the_owner_may_open() {
    if !is_root() {
        return;
    }
    assert!(
        refused(|m| m.files.push(regular(3, "/etc/shadow", 0))).contains("/etc/shadow, which uid 65534 may not open")
    );
    let why = refused(|m| m.files.push(regular(3, "/etc/passwd", 1)));
    assert!(why.contains("may not open for writing"), "{why}");
    // A deleted file comes along; it may lie only where its owner could make one.
    let remap = Remap { orig_id: 3, remap_id: 1, kind: Some(1) };
    let why = refused(|m| {
        m.files.push(regular(3, "/etc/gone", 2));
        m.put("remap-fpath.img", &[COMMON, 0x5913_3954], &[remap]);
    });
    assert!(why.contains("/etc, which uid 65534 may not make a file in"), "{why}");
}

#[test]
fn a_ghost_is_a_plain_file_of_the_owners() {
    let ghost =
        |uid, mode| refused(|m| m.put("ghost-file-1.img", &[COMMON, 0x5258_3605], &[Ghost { uid, gid: 65534, mode }]));
    assert!(ghost(65534, 0o020_666).contains("mode 20666"));
    assert!(ghost(65534, 0o104_755).contains("set-id"));
    assert!(ghost(0, 0o100_644).contains("uid 0"));
}

#[test]
fn garbage_is_refused_and_harms_nobody() {
    let why = refused(|m| std::fs::write(m.dir.path().join("mountpoints-12.img"), [0; 99]).unwrap());
    assert!(why.contains("of a kind that no guest brings: mountpoints-12.img"), "{why}");
    let made = Made::new();
    made.put("remap-fpath.img", &[COMMON, 0x5913_3954, 1 << 30], &[] as &[Remap]);
    assert!(made.inspect().unwrap_err().contains("not what CRIU writes"));
}

#[test]
fn a_bound_socket_comes_only_in_a_tmp_of_its_own() {
    let bound = |name: &[u8], private_tmp| {
        let mut made = Made::new();
        made.private_tmp = private_tmp;
        let unix = Some(UnixSocket { name: name.to_vec(), ..UnixSocket::default() });
        made.files.push(File { kind: 5, id: 3, reg: None, inet: None, unix });
        made.inspect()
    };
    if is_root() {
        assert_eq!(bound(b"/tmp/a/s\0", true), Ok(()));
        assert_eq!(bound(b"/dev/shm/s", true), Ok(()));
    }
    for name in [&b"/tmp/../etc/s"[..], b"/tmpx/s", b"/run/s", b"s", b"\0abstract", b"/tmp/\xff"] {
        let why = bound(name, true).unwrap_err();
        assert!(why.contains("bound to"), "{why}");
    }
    assert!(bound(b"/tmp/s", false).unwrap_err().contains("bound to"));
}
