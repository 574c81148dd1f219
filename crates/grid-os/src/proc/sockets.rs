//! What a socket's inode stands for, from the tables under `/proc/PID/net`.
//!
//! The tables are those of the process's own network namespace and can be long: each is read only while an inode of the
//! process is still unexplained.

use super::{ProcError, ProcRoot, sock_diag, vanished};
use grid_types::facts::FdKind;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `TCP_LISTEN` of `include/net/tcp_states.h`.
const TCP_LISTEN: &str = "0A";
/// `SS_CONNECTED` of `include/uapi/linux/net.h`.
const SS_CONNECTED: &str = "03";
/// `SOCK_STREAM`, as the table shows it.
const SOCK_STREAM: &str = "0001";
/// `__SO_ACCEPTCON`: the Unix socket listens.
const SO_ACCEPTCON: u32 = 0x0001_0000;

/// Sockets of one process by inode, and what could not be read about them.
#[derive(Default)]
pub(super) struct Sockets {
    pub(super) kinds: HashMap<u64, FdKind>,
    pub(super) unreadable: Vec<String>,
}

/// A reader of one line of a table: inode and kind.
type Line = fn(&str) -> Option<(u64, FdKind)>;

/// Tables in the order in which they are asked. A kernel without a protocol has no such file.
const TABLES: &[(&str, Line)] = &[
    ("tcp", tcp_line),
    ("tcp6", tcp_line),
    ("unix", unix_line),
    ("udp", udp_line),
    ("udp6", udp_line),
    ("netlink", netlink_line),
    ("packet", packet_line),
    ("raw", raw_line),
    ("raw6", raw_line),
];

/// Explains these inodes of this process.
pub(super) fn resolve(root: &ProcRoot, pid: i32, inodes: &HashSet<u64>) -> Sockets {
    let mut found = Sockets::default();
    let mut connected = HashSet::new();
    for (table, line) in TABLES {
        if found.kinds.len() == inodes.len() {
            break;
        }
        let text = match root.text(&format!("{pid}/net/{table}")) {
            Ok(text) => text,
            Err(ProcError::Read { source, .. }) if vanished(&source) => continue,
            Err(e) => {
                found.unreadable.push(format!("sockets: {e}"));
                continue;
            }
        };
        for row in text.lines().skip(1) {
            let Some((inode, kind)) = line(row).filter(|(inode, _)| inodes.contains(inode)) else { continue };
            if *table == "unix" && row.split_ascii_whitespace().nth(5) == Some(SS_CONNECTED) {
                connected.insert(inode);
            }
            found.kinds.insert(inode, kind);
        }
    }
    if !connected.is_empty() {
        add_peers(root, &connected, &mut found);
    }
    found
}

/// The other ends of the connections among these sockets of a process, those that are closing included. A connection that
/// could not be read about is an error.
pub(super) fn connections(root: &ProcRoot, pid: i32, inodes: &HashSet<u64>) -> Result<Vec<String>, ProcError> {
    let mut ends = Vec::new();
    for table in ["tcp", "tcp6"].iter().filter(|_| !inodes.is_empty()) {
        let text = match root.text(&format!("{pid}/net/{table}")) {
            Err(ProcError::Read { source, .. }) if vanished(&source) => continue,
            other => other?,
        };
        let theirs = text.lines().skip(1).filter_map(tcp_line).filter(|(inode, _)| inodes.contains(inode));
        ends.extend(theirs.filter_map(|(_, kind)| match kind {
            FdKind::TcpEstablished { remote, .. } => Some(remote),
            _ => None,
        }));
    }
    Ok(ends)
}

impl ProcRoot {
    /// Every TCP socket that listens in the network namespace of this process, by inode, in order.
    pub fn listening_beside(&self, pid: i32) -> Result<Vec<(u64, SocketAddr)>, ProcError> {
        let mut all = Vec::new();
        for table in ["tcp", "tcp6"] {
            let text = match self.text(&format!("{pid}/net/{table}")) {
                Err(ProcError::Read { source, .. }) if vanished(&source) => continue,
                other => other?,
            };
            all.extend(text.lines().skip(1).filter_map(tcp_line).filter_map(|(inode, kind)| match kind {
                FdKind::TcpListen { local, .. } => Some((inode, local.parse().ok()?)),
                _ => None,
            }));
        }
        all.sort_unstable();
        Ok(all)
    }

    /// The addresses of those of these sockets that these processes hold, in order. Who ends meanwhile holds none.
    pub fn held_among(&self, pids: &BTreeSet<i32>, sockets: &[(u64, SocketAddr)]) -> Vec<SocketAddr> {
        let links = |pid: &i32| {
            let fds = self.fd_numbers(*pid).unwrap_or_default();
            fds.into_iter().filter_map(|fd| self.link(&format!("{pid}/fd/{fd}")).ok()).collect::<Vec<_>>()
        };
        let held: HashSet<String> = pids.iter().flat_map(links).collect();
        let is_held = |inode: u64| held.contains(&format!("socket:[{inode}]"));
        sockets.iter().filter(|(inode, _)| is_held(*inode)).map(|(_, at)| *at).collect()
    }
}

/// `/proc/net/unix` does not name the other end of a connection; the kernel's socket diagnostics do.
fn add_peers(root: &ProcRoot, connected: &HashSet<u64>, found: &mut Sockets) {
    let peers = if root.live { sock_diag::unix_peers() } else { root.saved_peers() };
    match peers {
        Ok(peers) => {
            for (inode, kind) in &mut found.kinds {
                if let FdKind::Unix { peer, .. } = kind {
                    *peer = peers.get(inode).copied();
                }
            }
            // Connected here and unknown there: another network namespace, or a peer that is closing.
            let silent = connected.iter().filter(|inode| !peers.contains_key(inode));
            found.unreadable.extend(
                silent.map(|inode| format!("other end of socket:[{inode}]: not known to the kernel's diagnostics")),
            );
        }
        Err(e) => found.unreadable.push(format!("other ends of unix sockets: {e}")),
    }
}

impl ProcRoot {
    /// Peers of a saved tree: `net/unix.peers`, lines of `inode peer`.
    fn saved_peers(&self) -> std::io::Result<HashMap<u64, u64>> {
        let text = std::fs::read_to_string(self.path("net/unix.peers"))?;
        Ok(text
            .lines()
            .filter_map(|l| l.split_once(' '))
            .filter_map(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)))
            .collect())
    }
}

fn field(line: &str, n: usize) -> Option<&str> {
    line.split_ascii_whitespace().nth(n)
}

fn tcp_line(line: &str) -> Option<(u64, FdKind)> {
    let inode = field(line, 9)?.parse().ok()?;
    let local = address(field(line, 1)?)?.to_string();
    if field(line, 3)? == TCP_LISTEN {
        return Some((inode, FdKind::TcpListen { local, inode }));
    }
    Some((inode, FdKind::TcpEstablished { local, remote: address(field(line, 2)?)?.to_string() }))
}

fn udp_line(line: &str) -> Option<(u64, FdKind)> {
    Some((field(line, 9)?.parse().ok()?, FdKind::Udp { local: address(field(line, 1)?)?.to_string() }))
}

fn unix_line(line: &str) -> Option<(u64, FdKind)> {
    let inode = field(line, 6)?.parse().ok()?;
    let flags = u32::from_str_radix(field(line, 3)?, 16).ok()?;
    let bound = field(line, 7).map(str::to_owned);
    let nameless = bound.is_none() && field(line, 4)? == SOCK_STREAM && field(line, 5)? == SS_CONNECTED;
    Some((inode, FdKind::Unix { inode, bound, peer: None, listening: flags & SO_ACCEPTCON != 0, nameless }))
}

fn netlink_line(line: &str) -> Option<(u64, FdKind)> {
    Some((field(line, 9)?.parse().ok()?, FdKind::OtherSocket { what: "netlink".into() }))
}

fn packet_line(line: &str) -> Option<(u64, FdKind)> {
    Some((field(line, 8)?.parse().ok()?, FdKind::OtherSocket { what: "packet".into() }))
}

fn raw_line(line: &str) -> Option<(u64, FdKind)> {
    Some((field(line, 9)?.parse().ok()?, FdKind::OtherSocket { what: "raw".into() }))
}

/// `0100007F:1F90` or the IPv6 form: 32-bit words in the machine's order, the port as it is read.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |i: usize| Some(u32::from_str_radix(ip.get(i * 8..i * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0u8; 16];
            for i in 0..4 {
                bytes[i * 4..i * 4 + 4].copy_from_slice(&word(i)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_the_machines_order() {
        assert_eq!(address("0100007F:18EB").unwrap().to_string(), "127.0.0.1:6379");
        assert_eq!(address("00000000000000000000000001000000:0050").unwrap().to_string(), "[::1]:80");
        assert!(address("01:1").is_none());
    }

    #[test]
    fn lines_of_each_table_are_read() {
        let listen =
            "   0: 00000000:18EB 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 551 1 0 100 0 0 10 0";
        assert_eq!(tcp_line(listen), Some((551, FdKind::TcpListen { local: "0.0.0.0:6379".into(), inode: 551 })));
        let unix = "0000000045daaba2: 00000002 00000000 00010000 0001 01  1146 /run/x.sock";
        let want = FdKind::Unix {
            inode: 1146,
            bound: Some("/run/x.sock".into()),
            peer: None,
            listening: true,
            nameless: false,
        };
        assert_eq!(unix_line(unix), Some((1146, want)));
        let nameless = |end: &str| match unix_line(&format!("0000000045daaba2: 00000003 00000000 00000000 {end}")) {
            Some((1147, FdKind::Unix { nameless, .. })) => nameless,
            other => panic!("{other:?}"),
        };
        let (stream, datagram, dialling, accepted) =
            ("0001 03  1147", "0002 03  1147", "0001 02  1147", "0001 03  1147 /x");
        assert_eq!([stream, datagram, dialling, accepted].map(nameless), [true, false, false, false]);
        assert!(tcp_line("nonsense").is_none());
    }
}
