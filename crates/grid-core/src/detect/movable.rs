//! Can it move: every obstacle in the tree's real state. None of them is a matter of policy.

use super::{DetectContext, filter, streams};
use grid_types::facts::{
    FdFacts, FdKind, Namespaces, ProcDeep, ProcFacts, TreeFacts, UNNAMED_FILE_LIMIT, in_private_tmp,
};
use grid_types::policy::TcpPolicy;
use grid_types::reason::{Reason, ReasonCode};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// `O_DIRECT`, which on a pipe means packet mode. The value is that of x86; on arm64 it is another.
#[cfg(not(any(target_arch = "aarch64", target_arch = "arm")))]
pub(super) const O_DIRECT: u32 = 0o40_000;
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
pub(super) const O_DIRECT: u32 = 0o200_000;

/// Collects reasons in the order found, each once.
struct Obstacles<'a> {
    tree: &'a TreeFacts,
    ctx: &'a DetectContext,
    found: Vec<Reason>,
}

/// Every reason why the tree cannot be moved; empty where it can.
pub(super) fn reasons(tree: &TreeFacts, ctx: &DetectContext, tcp: TcpPolicy) -> Vec<Reason> {
    let mut o = Obstacles { tree, ctx, found: Vec::new() };
    for p in tree.all() {
        match &p.deep {
            // A child that has ended and was not waited for goes along with its exit status.
            _ if matches!(p.stat.state, 'Z' | 'X') && p.stat.id != tree.root.stat.id => {}
            _ if matches!(p.stat.state, 'Z' | 'X') => {
                o.add(p, ReasonCode::Zombie, "has ended and waits for its parent")
            }
            None => o.add(p, ReasonCode::Unknown, "was not looked at"),
            Some(deep) => o.process(p, deep),
        }
    }
    o.sessions();
    if tcp == TcpPolicy::Refuse {
        o.connections();
    }
    o.shared();
    o.gate();
    o.found
}

impl Obstacles<'_> {
    /// Adds a reason; a member that is not the root is named.
    fn add(&mut self, p: &ProcFacts, code: ReasonCode, detail: impl AsRef<str>) {
        let detail = detail.as_ref();
        let own = p.stat.id.pid == self.tree.root.stat.id.pid;
        let text = if own { detail.to_owned() } else { format!("pid {}: {detail}", p.stat.id) };
        self.push(Reason::new(code, text));
    }

    fn push(&mut self, reason: Reason) {
        if !self.found.contains(&reason) {
            self.found.push(reason);
        }
    }

    /// What the lender's gate would refuse; rights and tracers that are named already are not said twice.
    fn gate(&mut self) {
        let named = self.found.iter().any(|r| matches!(r.code, ReasonCode::Root | ReasonCode::Ptrace));
        if let Some(what) = self.tree.foreseen.as_ref().filter(|_| !named) {
            self.push(Reason::new(ReasonCode::Gate, what));
        }
    }

    fn process(&mut self, p: &ProcFacts, deep: &ProcDeep) {
        self.state(p, deep);
        self.rights(p, deep);
        self.namespaces(p, deep);
        self.terminals(p, deep);
        deep.fds.iter().filter(|fd| !matches!(fd.kind, FdKind::Tty { .. })).for_each(|fd| self.descriptor(p, fd));
        self.memory(p, deep);
        self.places(p, deep);
        deep.unreadable.iter().for_each(|what| self.add(p, ReasonCode::Unknown, what));
    }

    /// The one terminal that the root holds goes along, unless a member leads its session: that one is its shell.
    fn terminals(&mut self, p: &ProcFacts, deep: &ProcDeep) {
        let carried = streams::terminal(self.tree);
        let others = deep.fds.iter().filter_map(|fd| match &fd.kind {
            FdKind::Tty { path } if Some(path.as_str()) != carried => Some(path.as_str()),
            _ => None,
        });
        let led = deep.tty.as_deref().filter(|_| p.stat.tty_nr != 0 && p.stat.sid == p.stat.id.pid);
        let terminals: BTreeSet<&str> = others.chain(led).collect();
        terminals.iter().for_each(|t| self.add(p, ReasonCode::Tty, format!("holds terminal {t}")));
    }

    fn state(&mut self, p: &ProcFacts, deep: &ProcDeep) {
        if deep.tracer != 0 {
            self.add(p, ReasonCode::Ptrace, format!("traced by pid {}", deep.tracer));
        }
        match p.stat.state {
            'T' => self.add(p, ReasonCode::Stopped, "is stopped"),
            't' if deep.tracer == 0 => self.add(p, ReasonCode::Ptrace, "is stopped by a tracer"),
            _ => {}
        }
        if deep.closed {
            self.add(p, ReasonCode::Closed, "is closed to its owner (not dumpable)");
        }
        if let Some(why) = filter::obstacle(self.tree, p) {
            self.add(p, ReasonCode::Seccomp, why);
        }
        if deep.frozen {
            self.add(p, ReasonCode::Frozen, "its cgroup is frozen");
        }
        if !deep.locks.is_empty() {
            let inodes: Vec<String> = deep.locks.iter().map(u64::to_string).collect();
            self.add(p, ReasonCode::Lock, format!("holds a lock on the file of inode {}", inodes.join(", ")));
        }
    }

    /// CRIU puts a member into the session of a leader that has ended by way of a helper process, whose end makes the
    /// member a child of init: it would no longer belong to the tree. The root's own session is restored otherwise.
    fn sessions(&mut self) {
        let tree = self.tree;
        let pids: HashSet<i32> = tree.all().map(|p| p.stat.id.pid).collect();
        for p in tree.descendants.iter().filter(|p| p.stat.sid != tree.root.stat.sid && !pids.contains(&p.stat.sid)) {
            self.add(p, ReasonCode::Session, format!("is in session {}, whose leader has ended", p.stat.sid));
        }
    }

    fn rights(&mut self, p: &ProcFacts, deep: &ProcDeep) {
        let owner = self.tree.root.stat.uid;
        if deep.uids.contains(&0) {
            self.add(p, ReasonCode::Root, "runs as root");
        } else if let Some(other) = deep.uids.iter().find(|uid| **uid != owner) {
            self.add(p, ReasonCode::Root, format!("has the rights of two users, {owner} and {other}"));
        }
        let group = self.tree.root.deep.as_ref().map_or(deep.gids[0], |d| d.gids[0]);
        if let Some(other) = deep.gids.iter().find(|gid| **gid != group) {
            self.add(p, ReasonCode::Root, format!("has the rights of two groups, {group} and {other}"));
        }
        let held = deep.cap_eff | deep.cap_prm;
        if held != 0 && !deep.uids.contains(&0) {
            self.add(p, ReasonCode::Root, format!("has capabilities ({held:x})"));
        }
    }

    fn namespaces(&mut self, p: &ProcFacts, deep: &ProcDeep) {
        if self.ctx.tree_roots.contains(&self.tree.root.stat.id.pid) {
            return;
        }
        let foreign = differing(&deep.ns, &self.ctx.own_ns);
        if !foreign.is_empty() {
            self.add(p, ReasonCode::Ns, format!("lives in other namespaces: {}", foreign.join(", ")));
        }
    }

    fn descriptor(&mut self, p: &ProcFacts, fd: &FdFacts) {
        let n = fd.fd;
        match &fd.kind {
            FdKind::Device { path } => self.device(p, path, &format!("fd {n} is {path}")),
            FdKind::Pipe { .. } if fd.flags.is_some_and(|f| f & O_DIRECT != 0) => {
                self.add(p, ReasonCode::Fd, format!("fd {n} is a packet-mode pipe; CRIU cannot save it"));
            }
            FdKind::Udp { local } => self.add(p, ReasonCode::Udp, format!("fd {n} is a UDP socket at {local}")),
            // Nobody else can come to one in a /tmp of its own.
            FdKind::Unix { bound: Some(name), .. } if self.tree.private_tmp.is_some() && in_private_tmp(name) => {}
            FdKind::Unix { bound: Some(name), .. } => {
                self.add(p, ReasonCode::Unix, format!("fd {n} is a Unix socket bound to {name}"));
            }
            FdKind::TcpListen { local, .. } if !streams::is_everywhere(local) => {
                let what = "an address that the destination does not have";
                self.add(p, ReasonCode::Sock, format!("fd {n} listens at {local}, {what}"));
            }
            FdKind::OtherSocket { what } => self.add(p, ReasonCode::Sock, format!("fd {n} is a socket: {what}")),
            FdKind::AnonSaveable { what } if what.contains("inotify") => {
                self.add(p, ReasonCode::Watch, format!("fd {n} watches files (inotify)"));
            }
            FdKind::IoUring => self.add(p, ReasonCode::Uring, format!("fd {n} is an io_uring; CRIU cannot save it")),
            FdKind::AnonOther { what } => self.add(p, ReasonCode::Fd, format!("fd {n} is {what}; CRIU cannot save it")),
            FdKind::Unknown { target } => {
                self.add(p, ReasonCode::Unknown, format!("fd {n} is {target}, of an unknown kind"))
            }
            FdKind::File { path, deleted: false } | FdKind::Fifo { path } => self.place(p, path, &format!("fd {n}")),
            _ => {}
        }
        if fd.foreign_mount {
            self.add(p, ReasonCode::Ns, format!("fd {n} was opened in another mount namespace"));
        }
    }

    fn device(&mut self, p: &ProcFacts, path: &str, detail: &str) {
        let nvidia = path.starts_with("/dev/nvidia");
        if nvidia && self.ctx.gpu_checkpoint {
            return;
        }
        let gpu = nvidia || path.starts_with("/dev/dri/") || path.starts_with("/dev/kfd");
        self.add(p, if gpu { ReasonCode::Gpu } else { ReasonCode::Dev }, detail);
    }

    fn memory(&mut self, p: &ProcFacts, deep: &ProcDeep) {
        for map in &deep.odd_maps {
            match map.as_str() {
                m if m.contains("io_uring") => self.add(p, ReasonCode::Uring, "maps an io_uring; CRIU cannot save it"),
                // A tree's IPC namespace begins empty, and CRIU saves such memory only with the whole namespace.
                m if m.starts_with("/SYSV") => self.add(p, ReasonCode::Shm, "maps System V shared memory"),
                m if m.starts_with("/dev/") => self.device(p, m, &format!("maps {m}")),
                m => self.add(p, ReasonCode::Map, format!("maps {m}")),
            }
        }
        if deep.hugetlb {
            self.add(p, ReasonCode::Hugetlb, "maps huge pages");
        }
        if let Some(memory) = deep.gpu_memory.filter(|_| !self.ctx.gpu_checkpoint) {
            self.add(p, ReasonCode::Gpu, format!("uses a GPU, {memory} of its memory"));
        }
    }

    /// Files that are each node's own.
    fn places(&mut self, p: &ProcFacts, deep: &ProcDeep) {
        deep.exe.iter().for_each(|path| self.place(p, path, "its executable"));
        if let Some(gone) = deep.exe.as_deref().and_then(|path| path.strip_suffix(" (deleted)")) {
            // Restored it would run from a file of CRIU's making, and the lender's gate goes by executables' paths.
            self.add(p, ReasonCode::File, format!("its executable, {gone}, was removed or replaced since it started"));
        }
        deep.cwd.iter().for_each(|path| self.place(p, path, "its working directory"));
        deep.mapped_files.iter().for_each(|path| self.place(p, path, "a file that it maps"));
        for (path, bytes) in deep.unnamed_files.iter().filter(|(_, bytes)| *bytes > UNNAMED_FILE_LIMIT) {
            let detail = format!("{path} has no name any more and occupies {bytes}, more than {UNNAMED_FILE_LIMIT}");
            self.add(p, ReasonCode::File, detail);
        }
    }

    /// A file whose name is gone is no matter of place: its content moves along. Nor is one in a `/tmp` of the tree's own.
    fn place(&mut self, p: &ProcFacts, path: &str, what: &str) {
        if path.ends_with(" (deleted)") || self.tree.private_tmp.is_some() && in_private_tmp(path) {
            return;
        }
        let under = |d: &&String| {
            path.strip_prefix(d.trim_end_matches('/')).is_some_and(|r| r.is_empty() || r.starts_with('/'))
        };
        if let Some(dir) = self.ctx.private_paths.iter().find(under) {
            self.add(p, ReasonCode::File, format!("{what}, {path}, is under {dir}, which each node has for itself"));
        }
    }

    /// Established connections, counted by their other end.
    fn connections(&mut self) {
        for what in connections_by_end(self.tree) {
            self.push(Reason::new(ReasonCode::Tcp, format!("{what} would be cut")));
        }
    }

    /// What processes outside hold too, and Unix sockets whose other end is not inside.
    fn shared(&mut self) {
        let mut named: HashSet<u64> = HashSet::new();
        for s in &self.tree.shared_with {
            let (what, outside) = (&s.what, s.outside);
            if streams::carried(self.tree, what) {
                continue;
            }
            let code = match what {
                w if w.starts_with("socket:[") => ReasonCode::Unix,
                w if w.starts_with("shm ") => ReasonCode::Shm,
                _ => ReasonCode::Pipe,
            };
            if let Some(inode) = what.strip_prefix("socket:[").and_then(|w| w.strip_suffix(']')) {
                named.extend(inode.parse::<u64>());
            }
            let by = self.holder(what).unwrap_or_else(|| format!("pid {}", s.inside));
            self.push(Reason::new(code, format!("{by} shares {what} with pid {outside}, which stays")));
        }
        let ends = |p: &ProcFacts| {
            let fds = p.deep.as_ref().map_or(&[][..], |d| &d.fds);
            fds.iter()
                .filter_map(|f| {
                    if let FdKind::Unix { inode, peer, .. } = f.kind { Some((f.fd, inode, peer)) } else { None }
                })
                .collect::<Vec<_>>()
        };
        let inside: HashSet<u64> = self.tree.all().flat_map(ends).map(|(_, inode, _)| inode).collect();
        for p in self.tree.all() {
            for (fd, _, peer) in ends(p) {
                // 0: the other end is closed.
                let apart = |e: &u64| *e != 0 && !inside.contains(e) && !named.contains(e);
                let carried = |e: &u64| streams::carried(self.tree, &format!("socket:[{e}]"));
                if let Some(peer) = peer.filter(apart).filter(|e| !carried(e)) {
                    self.add(p, ReasonCode::Unix, format!("fd {fd} is connected to socket:[{peer}], which stays"));
                }
            }
        }
    }

    /// "fd 1", or "fd 1 of pid 5", by which a member holds this.
    fn holder(&self, what: &str) -> Option<String> {
        let is = |f: &&FdFacts| match &f.kind {
            FdKind::Pipe { inode } => format!("pipe:[{inode}]") == what,
            FdKind::Fifo { path } => path == what,
            FdKind::Unix { inode, peer, .. } => {
                format!("socket:[{inode}]") == what || peer.is_some_and(|p| format!("socket:[{p}]") == what)
            }
            _ => false,
        };
        self.tree.all().find_map(|p| {
            let fd = p.deep.as_ref()?.fds.iter().find(is)?.fd;
            let root = p.stat.id.pid == self.tree.root.stat.id.pid;
            Some(if root { format!("fd {fd}") } else { format!("fd {fd} of pid {}", p.stat.id) })
        })
    }
}

/// Established connections, those that are closing included.
pub fn connections(tree: &TreeFacts) -> u32 {
    ends(tree).collect::<HashSet<_>>().len() as u32
}

/// Own and other end of each descriptor of a connection.
fn ends(tree: &TreeFacts) -> impl Iterator<Item = (&str, &str)> {
    let fds = tree.all().filter_map(|p| p.deep.as_ref()).flat_map(|d| &d.fds);
    fds.filter_map(|fd| match &fd.kind {
        FdKind::TcpEstablished { local, remote } => Some((local.as_str(), remote.as_str())),
        _ => None,
    })
}

/// "2 connections to 10.0.0.7:5432".
fn connections_by_end(tree: &TreeFacts) -> impl Iterator<Item = String> {
    let mut number: BTreeMap<&str, u32> = BTreeMap::new();
    ends(tree).for_each(|(_, remote)| *number.entry(remote).or_default() += 1);
    number.into_iter().map(|(remote, n)| match n {
        1 => format!("a connection to {remote}"),
        _ => format!("{n} connections to {remote}"),
    })
}

/// What is to be closed, for people.
pub(super) fn closing(tree: &TreeFacts, tcp: TcpPolicy) -> Vec<String> {
    match tcp {
        TcpPolicy::Refuse => Vec::new(),
        TcpPolicy::Close => connections_by_end(tree).map(|what| format!("{what} will be closed")).collect(),
    }
}

/// Namespaces of a process that are known and not those of the agent.
fn differing(theirs: &Namespaces, own: &Namespaces) -> Vec<&'static str> {
    let pairs = [
        ("pid", theirs.pid, own.pid),
        ("mnt", theirs.mnt, own.mnt),
        ("net", theirs.net, own.net),
        ("ipc", theirs.ipc, own.ipc),
        ("uts", theirs.uts, own.uts),
        ("user", theirs.user, own.user),
    ];
    let differs =
        |(name, a, b): (&'static str, Option<u64>, Option<u64>)| a.zip(b).filter(|(a, b)| a != b).map(|_| name);
    pairs.into_iter().filter_map(differs).collect()
}
