//! Sockets: one that is a stream of the tree's, and listeners of which the connections go to the tree.
#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

mod kit;

use grid_shadow::config::{FarStream, HomeStream, StreamKind};
use kit::*;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

const SOCKET: u32 = 3;
const LISTENER: u32 = 4;

fn socket_stream() -> Given {
    let (far, tree) = UnixStream::pair().unwrap();
    let stream = FarStream { id: SOCKET, kind: StreamKind::Socket, fd: Some(0) };
    let tree: OwnedFd = tree.into();
    Given { stream, far: Some(far.into()), tree: vec![(0, tree.try_clone().unwrap()), (1, tree)] }
}

/// A shadow whose standard input and output are one socket, and the other end of it.
fn home_with_socket() -> (Home, UnixStream) {
    let (ours, shadows) = UnixStream::pair().unwrap();
    let shadows: OwnedFd = shadows.into();
    let streams = vec![HomeStream { id: SOCKET, kind: StreamKind::Socket, fds: vec![0, 1] }];
    (Home::with(streams, shadows.try_clone().unwrap().into(), shadows.into(), &[]), ours)
}

#[test]
fn a_socket_goes_both_ways_and_closes_one_way_at_a_time() {
    if skipped() {
        return;
    }
    let far = Far::start(1, vec![socket_stream()], &sh("cat; echo end"));
    far.activate(None);
    let (mut home, mut ours) = home_with_socket();
    home.join(&far);
    ours.write_all(b"there and back\n").unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    ours.read_to_string(&mut text).unwrap();
    assert_eq!(text, "there and back\nend\n");
    assert_eq!(home.shadow.wait().unwrap().code(), Some(0));
}

#[test]
fn what_a_tree_left_in_its_socket_crosses_a_handover() {
    if skipped() {
        return;
    }
    let part = sh("dd bs=10 count=1 iflag=fullblock status=none; exec sleep 1000");
    let first = Far::start(1, vec![socket_stream()], &part);
    first.activate(None);
    let (mut home, mut ours) = home_with_socket();
    home.join(&first);
    ours.write_all(b"0123456789the rest").unwrap();
    let mut head = [0; 10];
    ours.read_exact(&mut head).unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    // Until both the bytes and the end were passed on.
    wait_for(|| {
        first.pause().read[&SOCKET].consumed == 10 && {
            first.ask(&grid_shadow::control::ToFar::Resume);
            true
        }
    });
    let snapshot = first.pause();
    let next = Far::start(2, vec![socket_stream()], &sh("cat; echo end"));
    next.activate(Some(&snapshot));
    home.join(&next);
    let mut text = String::new();
    ours.read_to_string(&mut text).unwrap();
    assert_eq!(text, "the restend\n");
    assert_eq!(home.shadow.wait().unwrap().code(), Some(0));
}

/// Serves each connection with what it says, twice. The tree lives in this network, so it listens where home does: on
/// another port, which its stream names.
const SERVER: &str = "
import socket, sys
s = socket.socket(socket.AF_INET6 if sys.argv[1] == '6' else socket.AF_INET)
s.bind(('::1' if sys.argv[1] == '6' else '127.0.0.1', int(sys.argv[2])))
s.listen(50)
print('ready', flush=True)
while True:
    c, _ = s.accept()
    data = b''
    while part := c.recv(65536):
        data += part
    c.sendall(data + data)
    c.close()
";

fn free_port() -> u16 {
    TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port()
}

fn served(v6: bool) {
    let home_listens = TcpListener::bind(if v6 { "[::1]:0" } else { "127.0.0.1:0" }).unwrap();
    let address = home_listens.local_addr().unwrap();
    let port = free_port();
    let kind = StreamKind::Listener { port, v6 };
    let given =
        vec![stdout_pipe(PIPE), Given { stream: FarStream { id: LISTENER, kind, fd: None }, far: None, tree: vec![] }];
    let family = if v6 { "6" } else { "4" };
    let command = ["python3", "-c", SERVER, family, &port.to_string()].map(str::to_owned);
    let far = Far::start(1, given, &command);
    far.activate(None);
    let (rx, tx) = std::io::pipe().unwrap();
    let listener: OwnedFd = home_listens.into();
    let streams = vec![
        HomeStream { id: STDOUT, kind: StreamKind::PipeOut { capacity: PIPE }, fds: vec![1] },
        HomeStream { id: LISTENER, kind, fds: vec![listener.as_raw_fd()] },
    ];
    let home = Home::with(streams, Stdio::null(), tx.into(), &[&listener]);
    drop(listener);
    home.join(&far);
    let mut ready = [0; 6];
    (&rx).read_exact(&mut ready).unwrap();
    let clients: Vec<_> = (0..20u8)
        .map(|n| {
            std::thread::spawn(move || {
                let mut client = TcpStream::connect(address).unwrap();
                let question = vec![n; 100_000];
                client.write_all(&question).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).unwrap();
                assert!(answer == [n; 200_000]);
            })
        })
        .collect();
    clients.into_iter().for_each(|c| c.join().unwrap());
    // The tree is gone elsewhere: those who come are told, not left waiting.
    grid_os::signals::send(far.root(), nix::libc::SIGKILL).unwrap();
    let mut home = home;
    home.shadow.wait().unwrap();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_listener_is_relayed_over_ipv4() {
    if !skipped() {
        served(false);
    }
}

#[test]
fn a_listener_is_relayed_over_ipv6() {
    if !skipped() {
        served(true);
    }
}
