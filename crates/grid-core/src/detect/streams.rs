//! Which of the things that tie a tree to processes at home its shadow can carry: its terminal, pipes of which the tree
//! holds one end only, Unix sockets that are its standard streams, and sockets on which it listens. It must hold them by its
//! root, which becomes the shadow.
//!
//! Owns the choice and the numbers of streams; who makes and joins them is the agents'.

use super::movable::O_DIRECT;
use grid_types::facts::{FdFacts, FdKind, TreeFacts};
use grid_types::streams::{MAX_STREAMS, Stream, StreamKind};
use std::net::SocketAddr;

/// Standard input, output and error.
const STANDARD: [i32; 3] = [0, 1, 2];
const O_ACCMODE: u32 = 3;
const O_RDONLY: u32 = 0;
const O_WRONLY: u32 = 1;

/// The streams of a tree that leaves home, in the order in which its root holds them.
pub fn streams(tree: &TreeFacts) -> Vec<Stream> {
    let shared = |name: &String| tree.shared_with.iter().any(|s| s.what == *name);
    let terminal = terminal(tree).map(|path| (path.to_owned(), StreamKind::Tty));
    let pipes = root_fds(tree).iter().filter_map(pipe).filter(shared);
    let pipes = pipes.filter_map(|name| direction(tree, &name).map(|kind| (name, kind)));
    let sockets = root_fds(tree).iter().filter_map(|fd| socket(tree, fd));
    let sockets = sockets.map(|(inode, _)| (named(inode), StreamKind::Socket));
    let listeners = root_fds(tree).iter().filter_map(listener);
    let mut all: Vec<Stream> = Vec::new();
    for (name, kind) in terminal.into_iter().chain(pipes).chain(sockets).chain(listeners) {
        if all.len() < MAX_STREAMS && !all.iter().any(|s| s.name == name) {
            all.push(Stream { id: all.len() as u32 + 1, kind, name });
        }
    }
    all
}

/// The terminal of a tree, where it has one, and one only, that its root holds, and no member leads its session. Under
/// the name `/dev/tty` nobody can tell which it is.
pub(super) fn terminal(tree: &TreeFacts) -> Option<&str> {
    let first = root_fds(tree).iter().find_map(tty)?;
    let mut all = tree.all().filter_map(|p| p.deep.as_ref()).flat_map(|d| &d.fds).filter_map(tty);
    let led = tree.all().any(|p| p.stat.tty_nr != 0 && p.stat.sid == p.stat.id.pid);
    (first.starts_with("/dev/pts/") && first != "/dev/pts/ptmx" && !led && all.all(|path| path == first))
        .then_some(first)
}

/// Every node has this address: it is a loopback's, or all of the node's.
pub(super) fn is_everywhere(local: &str) -> bool {
    local.parse::<SocketAddr>().is_ok_and(|at| at.ip().is_loopback() || at.ip().is_unspecified())
}

/// Of the sockets on which a tree listens while it is away, those at which its shadow is to listen as well: at addresses that
/// every node has, one for each port and family, and not those that it left with.
pub fn begun(listens: &[SocketAddr], streams: &[Stream]) -> Vec<SocketAddr> {
    let left_with = |at: &SocketAddr| {
        let kind = StreamKind::Listener { port: at.port(), v6: at.is_ipv6() };
        streams.iter().any(|s| s.kind == kind)
    };
    let mut all: Vec<SocketAddr> = Vec::new();
    for at in listens.iter().filter(|at| (at.ip().is_loopback() || at.ip().is_unspecified()) && !left_with(at)) {
        let known = all.iter().any(|known| known.port() == at.port() && known.is_ipv6() == at.is_ipv6());
        if all.len() < MAX_STREAMS && !known {
            all.push(*at);
        }
    }
    all
}

fn listener(fd: &FdFacts) -> Option<(String, StreamKind)> {
    match &fd.kind {
        FdKind::TcpListen { local, inode } if *inode != 0 && is_everywhere(local) => {
            let at: SocketAddr = local.parse().ok()?;
            Some((named(*inode), StreamKind::Listener { port: at.port(), v6: at.is_ipv6() }))
        }
        _ => None,
    }
}

fn tty(fd: &FdFacts) -> Option<&str> {
    match &fd.kind {
        FdKind::Tty { path } => Some(path),
        _ => None,
    }
}

/// The shadow carries what is shared under this name: that, or a socket of which it is the other end.
pub(super) fn carried(tree: &TreeFacts, what: &str) -> bool {
    let streams = streams(tree);
    let has = |name: &str| streams.iter().any(|s| s.name == name);
    let mut sockets = root_fds(tree).iter().filter_map(|fd| socket(tree, fd));
    has(what) || sockets.any(|(inode, peer)| named(peer) == what && has(&named(inode)))
}

/// A Unix socket that is a standard stream, as parents make them for a child and systemd for a service (whose other end is
/// the journal's), and its other end: that is outside, and the tree alone holds this one. (Whoever else held it would lose it: the shadow shuts it down when the tree has closed its own.)
fn socket(tree: &TreeFacts, fd: &FdFacts) -> Option<(u64, u64)> {
    let FdKind::Unix { inode, peer: Some(peer), nameless: true, .. } = fd.kind else { return None };
    let fds = tree.all().filter_map(|p| p.deep.as_ref()).flat_map(|deep| &deep.fds);
    let inside = fds.filter(|fd| matches!(fd.kind, FdKind::Unix { inode, .. } if inode == peer)).count() > 0;
    let others = tree.shared_with.iter().any(|s| s.what == named(inode));
    (STANDARD.contains(&fd.fd) && !inside && !others).then_some((inode, peer))
}

fn named(inode: u64) -> String {
    format!("socket:[{inode}]")
}

fn root_fds(tree: &TreeFacts) -> &[FdFacts] {
    tree.root.deep.as_ref().map_or(&[][..], |deep| &deep.fds)
}

fn pipe(fd: &FdFacts) -> Option<String> {
    match fd.kind {
        FdKind::Pipe { inode } => Some(format!("pipe:[{inode}]")),
        _ => None,
    }
}

/// Which way a pipe leads, where the whole tree holds one end of it. Unknown flags are no direction.
fn direction(tree: &TreeFacts, name: &str) -> Option<StreamKind> {
    let fds = tree.all().filter_map(|p| p.deep.as_ref()).flat_map(|deep| &deep.fds);
    let mut modes = fds.filter(|fd| pipe(fd).as_deref() == Some(name)).map(|fd| fd.flags);
    let one = |flags: Option<u32>| match flags? & (O_ACCMODE | O_DIRECT) {
        O_RDONLY => Some(StreamKind::PipeIn),
        O_WRONLY => Some(StreamKind::PipeOut),
        _ => None,
    };
    let first = one(modes.next()?)?;
    modes.all(|flags| one(flags) == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use grid_types::facts::SharedWith;

    const READ: Option<u32> = Some(0);
    const WRITE: Option<u32> = Some(1);

    fn end(n: i32, inode: u64, flags: Option<u32>) -> FdFacts {
        FdFacts { flags, ..fd(n, FdKind::Pipe { inode }) }
    }

    fn shared(inode: u64) -> SharedWith {
        SharedWith { what: format!("pipe:[{inode}]"), inside: 4711, outside: 4712 }
    }

    /// A tree whose root holds these, all of them shared with others.
    fn holding(fds: Vec<FdFacts>) -> TreeFacts {
        let mut t = tree(process(4711, 4000));
        t.shared_with =
            fds.iter().filter_map(pipe).map(|what| SharedWith { what, inside: 4711, outside: 4712 }).collect();
        if let Some(deep) = t.root.deep.as_mut() {
            deep.fds = fds;
        }
        t
    }

    fn kinds(t: &TreeFacts) -> Vec<(u32, StreamKind, String)> {
        streams(t).into_iter().map(|s| (s.id, s.kind, s.name)).collect()
    }

    #[test]
    fn the_middle_of_a_pipeline_has_two_streams_whatever_their_numbers() {
        let t = holding(vec![end(0, 7, READ), end(1, 8, WRITE), end(2, 8, WRITE)]);
        let want = [(1, StreamKind::PipeIn, "pipe:[7]".to_owned()), (2, StreamKind::PipeOut, "pipe:[8]".to_owned())];
        assert_eq!(kinds(&t), want);
        assert!(carried(&t, "pipe:[8]") && !carried(&t, "pipe:[9]"));
    }

    #[test]
    fn a_pipe_that_leads_both_ways_or_nobody_knows_where_is_none() {
        for flags in [None, Some(2), Some(O_DIRECT | 1)] {
            assert!(kinds(&holding(vec![end(3, 7, flags)])).is_empty(), "{flags:?}");
        }
        assert!(kinds(&holding(vec![end(3, 7, READ), end(4, 7, WRITE)])).is_empty());
    }

    #[test]
    fn a_pipe_that_the_root_does_not_hold_is_none() {
        let mut t = tree(process(4711, 1));
        t.descendants = vec![process(4712, 4711)];
        t.descendants[0].deep.as_mut().unwrap().fds.push(end(5, 7, WRITE));
        t.shared_with.push(shared(7));
        assert!(kinds(&t).is_empty());
        t.root.deep.as_mut().unwrap().fds.push(end(9, 7, WRITE));
        assert_eq!(kinds(&t).len(), 1);
        t.descendants[0].deep.as_mut().unwrap().fds.push(end(6, 7, READ));
        assert!(kinds(&t).is_empty(), "a member reads what another writes");
    }

    #[test]
    fn a_pipe_within_the_tree_is_no_stream() {
        let mut t = holding(vec![end(3, 7, READ)]);
        t.shared_with.clear();
        assert!(kinds(&t).is_empty());
    }

    #[test]
    fn a_job_of_a_shell_takes_its_terminal_along() {
        let pts = |n: i32, path: &str| fd(n, FdKind::Tty { path: path.into() });
        let mut t = holding(vec![pts(0, "/dev/pts/3"), end(1, 8, WRITE), pts(2, "/dev/pts/3")]);
        t.root.stat.tty_nr = 34819;
        t.root.stat.sid = 4000;
        let want = [(1, StreamKind::Tty, "/dev/pts/3".to_owned()), (2, StreamKind::PipeOut, "pipe:[8]".to_owned())];
        assert_eq!(kinds(&t), want);
        let mut leads = t.clone();
        leads.root.stat.sid = 4711;
        assert_eq!(terminal(&leads), None);
        for other in ["/dev/pts/4", "/dev/tty", "/dev/ptmx"] {
            let mut two = t.clone();
            two.root.deep.as_mut().unwrap().fds.push(pts(5, other));
            assert_eq!(terminal(&two), None, "{other}");
        }
        assert_eq!(terminal(&holding(vec![pts(5, "/dev/ptmx")])), None);
    }

    #[test]
    fn a_socket_that_listens_everywhere_is_carried_once() {
        let at = |n: i32, local: &str| fd(n, FdKind::TcpListen { local: local.into(), inode: 5 });
        let t = holding(vec![at(3, "[::]:8080"), at(4, "[::]:8080")]);
        assert_eq!(kinds(&t), [(1, StreamKind::Listener { port: 8080, v6: true }, "socket:[5]".to_owned())]);
        assert!(kinds(&holding(vec![at(3, "10.0.0.5:80")])).is_empty());
    }

    fn pair(n: i32, inode: u64, nameless: bool) -> FdFacts {
        fd(n, FdKind::Unix { inode, bound: None, peer: Some(inode + 1), listening: false, nameless })
    }

    #[test]
    fn a_socket_that_is_a_standard_stream_is_carried_once_however_many_it_is() {
        let mut t = holding(vec![pair(0, 10, true), pair(1, 10, true), pair(2, 20, true), pair(3, 30, true)]);
        t.shared_with = [11, 21, 31].map(|n| SharedWith { what: named(n), inside: 4711, outside: 4000 }).to_vec();
        let want = [(1, StreamKind::Socket, named(10)), (2, StreamKind::Socket, named(20))];
        assert_eq!(kinds(&t), want);
        let is = |n| carried(&t, &named(n));
        assert_eq!([10, 11, 20, 21, 30, 31].map(is), [true, true, true, true, false, false]);
    }

    #[test]
    fn a_socket_that_others_hold_or_that_has_a_name_or_whose_other_end_is_inside_is_none() {
        let mut t = holding(vec![pair(0, 10, true)]);
        assert_eq!(kinds(&t).len(), 1);
        t.shared_with = vec![SharedWith { what: named(10), inside: 4711, outside: 4000 }];
        assert!(kinds(&t).is_empty());
        assert!(kinds(&holding(vec![pair(0, 10, false)])).is_empty());
        assert!(kinds(&holding(vec![pair(0, 10, true), pair(5, 11, true)])).is_empty());
    }

    #[test]
    fn what_began_to_listen_away_counts_where_home_can_do_the_same() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let left = [Stream { id: 1, kind: StreamKind::Listener { port: 80, v6: false }, name: named(5) }];
        let listens = ["127.0.0.1:80", "[::]:80", "10.0.0.5:81", "0.0.0.0:82", "127.0.0.1:82", "127.0.0.1:83"].map(at);
        assert_eq!(begun(&listens, &left), ["[::]:80", "0.0.0.0:82", "127.0.0.1:83"].map(at));
        let many: Vec<SocketAddr> = (1..99).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        assert_eq!(begun(&many, &[]).len(), MAX_STREAMS);
    }

    #[test]
    fn there_are_at_most_so_many() {
        let t = holding((0..40).map(|n| end(n, n as u64 + 1, READ)).collect());
        assert_eq!(kinds(&t).len(), MAX_STREAMS);
    }
}
