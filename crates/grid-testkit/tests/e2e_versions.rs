//! A cluster of the grid of one version back is taken over by this one, with processes away: what was started by the older
//! program lives on beside the newer one. `make test-upgrade` builds the older one and runs this.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest, LIMIT};
use grid_testkit::lab::Lab;
use grid_types::event::OffloadPhase;
use grid_types::facts::Way;
use grid_types::reason::ReasonCode;
use std::io::Read;
use std::net::TcpStream;

/// This grid in place of the older one. One that cannot hand over is killed, supervisor, agent and daemon.
fn take_over(cluster: &mut Cluster) {
    cluster.by_the_tested();
    let said = cluster.grid(&["upgrade"]);
    println!("{}{}", said.out, said.err);
    if said.code != 0 {
        cluster.behead();
        let file = cluster.dir().join("cluster.yaml").to_string_lossy().into_owned();
        cluster.up_as_it_is(&["--config", &file]);
    }
    cluster.wait_heard();
}

/// Whether this process runs the older program.
fn is_older(pid: i32) -> bool {
    let old = std::fs::read(std::env::var("GRID_OLD").unwrap()).unwrap();
    std::fs::read(format!("/proc/{pid}/exe")).is_ok_and(|program| program == old)
}

const SERVER: &str = "
import os, socket
s = socket.create_server(('127.0.0.1', 0))
open('port', 'w').write(str(s.getsockname()[1]))
n = 0
while True:
    c, _ = s.accept()
    n += 1
    with open('served', 'a') as f: f.write(f'{n}\\n')
    c.sendall(f'{n}'.encode())
    c.close()
";

/// What a server that counts its visitors answers.
fn visit(cluster: &Cluster, server: &Guest) -> u32 {
    let port: u16 = server.wait_text("port", |text| !text.is_empty()).parse().unwrap();
    cluster.wait("the server to answer", || {
        let mut text = String::new();
        TcpStream::connect(("127.0.0.1", port))
            .and_then(|mut c| c.read_to_string(&mut text))
            .map_err(|e| e.to_string())?;
        text.parse().map_err(|_| text)
    })
}

#[test]
#[ignore = "needs the grid of one version back: make test-upgrade"]
fn what_an_older_grid_moved_parked_and_began_goes_on_and_comes_home_to_this_one() {
    let lab = Lab::start();
    let Some(mut cluster) = Cluster::one_version_back(&lab.config("home")) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let (guest, pid) = Guest::counting(&cluster);
    let server = Guest::python(&cluster, SERVER);
    let prover = Guest::reporting(&cluster, "prover", "--memory 64MiB --steps 1000000");
    let parked = Guest::reporting(&cluster, "prover", "--memory 16MiB --steps 1000000");
    assert_eq!(visit(&cluster, &server), 1);
    let away = [pid, server.pid(), prover.pid()].map(|pid| cluster.move_out(pid).record.id);
    let said = cluster.grid(&["offload", "park", &parked.pid().to_string(), "--on", "gpu1"]);
    assert_eq!(said.code, 0, "{said:?}");
    let before = parked.count();
    take_over(&mut cluster);
    let agent = || lab.daemon("agent").unwrap_or(0);
    cluster.wait("the worker's agent to be the newer one", || if is_older(agent()) { Err(()) } else { Ok(()) });
    cluster.wait_heard();
    assert!(is_older(lab.daemon("tree-init").unwrap()), "what lives there has another pid 1");

    // Their files, streams and visitors come and go through what the older program began.
    guest.writes_on();
    prover.goes_on();
    assert_eq!(visit(&cluster, &server), 2);
    for id in &away {
        cluster.bring_home(id.as_str());
    }
    guest.writes_on();
    prover.goes_on();
    assert_eq!(visit(&cluster, &server), 3);
    assert_eq!(server.read("served"), "1\n2\n3\n");
    let said = cluster.grid(&["offload", "unpark", &parked.pid().to_string()]);
    assert_eq!(said.code, 0, "{said:?}");
    parked.wait_count(before + 10);

    // Its shadows of before take them away again, and one ends there.
    let again = cluster.move_out(pid);
    cluster.move_out(server.pid());
    guest.writes_on();
    assert_eq!(visit(&cluster, &server), 4);
    cluster.bring_home(again.record.id.as_str());
    for guest in [prover, parked] {
        guest.never_went_back();
    }
}

#[test]
#[ignore = "needs the grid of one version back: make test-upgrade"]
fn what_an_older_embedded_cluster_moved_ends_where_it_is() {
    let Some(mut cluster) = Cluster::one_version_back(EMBEDDED) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let guest = Guest::start(&cluster, "/bin/sh", &["-c", "while [ ! -e end ]; do sleep 0.1; done; exit 7"]);
    let (counter, pid) = Guest::counting(&cluster);
    let out = cluster.move_out(guest.pid());
    let counted = cluster.move_out(pid);
    take_over(&mut cluster);
    let agent = || cluster.agent_pid("gpu1");
    cluster.wait("its agent to be the newer one", || if is_older(agent()) { Err(()) } else { Ok(()) });
    assert!(is_older(cluster.node_pid("gpu1")), "all that lives there would have ended with its pid 1");
    cluster.wait_heard();
    counter.writes_on();
    cluster.bring_home(counted.record.id.as_str());
    counter.writes_on();
    std::fs::write(guest.dir.join("end"), "").unwrap();
    cluster.wait_phase(out.record.id.as_str(), OffloadPhase::Ended);
    guest.process.wait_gone(LIMIT).unwrap();
}

/// The worker cannot be brought the newer program: ssh is gone. It goes on dialling the head directly, as what it is.
#[test]
#[ignore = "needs the grid of one version back: make test-upgrade"]
fn a_worker_that_ssh_does_not_reach_speaks_the_older_version_until_it_does() {
    let lab = Lab::start();
    let (config, _) = lab.config_direct("home");
    let Some(mut cluster) = Cluster::one_version_back(&config) else { return };
    let node =
        |cluster: &Cluster| cluster.status().unwrap().nodes.into_iter().find(|n| n.node.as_str() == "gpu1").unwrap();
    cluster.wait("a direct link", || match node(&cluster).facts.and_then(|facts| facts.link) {
        Some(link) if link.way == Way::Direct => Ok(()),
        other => Err(other),
    });
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let (guest, pid) = Guest::counting(&cluster);
    let prover = Guest::reporting(&cluster, "prover", "--memory 64MiB --steps 1000000");
    let (out, proven) = (cluster.move_out(pid), cluster.move_out(prover.pid()));
    guest.writes_on();
    lab.set_ssh(false).unwrap();
    take_over(&mut cluster);
    println!("{}", cluster.grid(&["node", "list"]).out);
    assert!(is_older(lab.daemon("agent").unwrap()));
    guest.writes_on();
    prover.goes_on();
    let (_, error) = cluster.refused(&["boost", "request", "head", "--cpu", "1", "--from", "gpu1", "--duration", "1m"]);
    assert!(error.details.concat().contains("an older one"), "{error:?}");
    cluster.bring_home(out.record.id.as_str());
    guest.writes_on();
    let (_, error) = cluster.refused(&["offload", "execute", &pid.to_string()]);
    assert_eq!(error.code, Some(ReasonCode::Version), "{error:?}");
    guest.writes_on();

    // ssh is there again: it becomes this grid, and what lives there goes on.
    lab.set_ssh(true).unwrap();
    cluster.wait("the newer agent", || if is_older(lab.daemon("agent").unwrap_or(0)) { Err(()) } else { Ok(()) });
    cluster.wait("it to lend", || node(&cluster).why.map_or(Ok(()), Err));
    prover.goes_on();
    let again = cluster.move_out(pid);
    guest.writes_on();
    for id in [again.record.id, proven.record.id] {
        cluster.bring_home(id.as_str());
    }
    guest.writes_on();
    prover.goes_on();
    prover.never_went_back();
}

const EMBEDDED: &str = "
name: lab
nodes:
  - {name: head, role: head, resource_sharing: {can_share: false}}
  - {name: gpu1, role: worker, resource_sharing: {max_share_cpu: 8, max_share_memory_gb: 2}}
";
