//! Workers that dial the head directly beside ssh (`execution.link_listen`), with a real sshd in a network of its own: moves
//! that ssh carries nothing of, the address taken down in the middle, ssh gone, strangers at the port.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest, LIMIT, undisturbed};
use grid_testkit::lab::Lab;
use grid_testkit::procs::{self, program};
use grid_types::event::OffloadPhase;
use grid_types::facts::{LinkFacts, Way};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// How connections of this worker go now, as its agent says.
fn link(cluster: &Cluster, name: &str) -> Option<LinkFacts> {
    let node = cluster.status().ok()?.nodes.into_iter().find(|n| n.node.as_str() == name && n.state == "ready")?;
    node.facts?.link
}

fn wait_way(cluster: &Cluster, way: Way) -> LinkFacts {
    cluster.wait(&format!("its link to be {way:?}"), || match link(cluster, "gpu1") {
        Some(link) if link.way == way => Ok(link),
        other => Err(other),
    })
}

/// What ssh carried of this.
fn by_ssh<T>(lab: &Lab, what: impl FnOnce() -> T) -> (T, u64) {
    let before = lab.carried_by_ssh();
    let out = what();
    (out, lab.carried_by_ssh().saturating_sub(before))
}

/// A process of a cluster's, by a word of its command line.
fn named(word: &str) -> i32 {
    let is_it = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|w| w.contains(word));
    procs::all().into_iter().filter(is_it).min().unwrap()
}

fn head_channel(cluster: &Cluster) -> i32 {
    named(&cluster.state().join("conf/channel.json").to_string_lossy())
}

#[test]
fn a_process_moves_and_comes_home_directly_and_needs_no_ssh_for_it() {
    let lab = Lab::start();
    let (config, at) = lab.config_direct("same");
    let Some(cluster) = Cluster::configured(&config) else { return };
    assert_eq!(wait_way(&cluster, Way::Direct), LinkFacts { way: Way::Direct, address: at, why: None });
    let said = cluster.grid(&["status"]).out;
    assert!(said.contains("(link direct)"), "{said}");
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let guest = Guest::reporting(&cluster, "prover", "--memory 64MiB --steps 1000000");
    let (out, carried) = by_ssh(&lab, || cluster.move_out(guest.pid()));
    guest.goes_on();
    let id = out.record.id.as_str();
    let (_, carried_home) = by_ssh(&lab, || cluster.bring_home(id));
    guest.goes_on();
    println!("ssh carried {carried} bytes of the move, and {carried_home} of the way home");
    assert!(carried < 4 << 20 && carried_home < 4 << 20, "{carried}, {carried_home}");

    // ssh breaks, and does not come back: nothing that lives there, or moves, notices.
    lab.set_ssh(false).unwrap();
    assert!(lab.drop_connections() > 0);
    let again = cluster.move_out(guest.pid());
    guest.goes_on();
    cluster.bring_home(again.record.id.as_str());
    guest.goes_on();
    // Nor do these need it: both agents, and the head's end of the channel, killed.
    let again = cluster.move_out(guest.pid());
    cluster.kill9(head_channel(&cluster));
    cluster.kill9(cluster.agent_pid("head"));
    cluster.kill9(lab.daemon("agent").unwrap());
    cluster.wait_heard();
    wait_way(&cluster, Way::Direct);
    guest.goes_on();
    cluster.bring_home(again.record.id.as_str());
    guest.goes_on();
    // It comes back: what runs there goes on as it was, its agent too.
    let agent = lab.daemon("agent").unwrap();
    ssh_is_back(&lab, &cluster);
    assert_eq!(lab.daemon("agent").unwrap(), agent, "it was started anew");
    guest.never_went_back();
}

fn ssh_is_back(lab: &Lab, cluster: &Cluster) {
    let reached = || cluster.log("reach-gpu1").matches("is reached at").count();
    let before = reached();
    lab.set_ssh(true).unwrap();
    cluster.wait("ssh to be there again", || if reached() > before { Ok(()) } else { Err(cluster.log("reach-gpu1")) });
}

#[test]
fn a_process_ends_there_as_it_would_have_at_home() {
    let lab = Lab::start();
    let (config, _) = lab.config_direct("same");
    let Some(cluster) = Cluster::configured(&config) else { return };
    wait_way(&cluster, Way::Direct);
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let args = "--memory 64MiB --steps 6000";
    let guest = Guest::reporting(&cluster, "prover", args);
    let out = cluster.move_out(guest.pid());
    assert_eq!(guest.wait_done().digest, undisturbed(args).digest);
    cluster.wait_phase(out.record.id.as_str(), OffloadPhase::Ended);
    guest.process.wait_gone(LIMIT).unwrap();
}

#[test]
fn the_address_goes_down_in_the_middle_of_a_move_and_the_next_one_goes_by_ssh() {
    let lab = Lab::start();
    let (config, at) = lab.config_direct("same");
    let Some(cluster) = Cluster::configured(&config) else { return };
    wait_way(&cluster, Way::Direct);
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let guest = Guest::reporting(&cluster, "prover", "--memory 512MiB --steps 1000000");
    let (_, mut command) = cluster.begin_move(guest.pid());
    lab.set_direct(false).unwrap();
    let _ = command.wait();
    guest.goes_on();
    let why = wait_way(&cluster, Way::Ssh).why.unwrap();
    println!("{at}: {why}");
    let said = cluster.grid(&["node", "list"]).out;
    assert!(said.contains(&format!("(link by ssh; {at}: {why})")), "{said}");
    cluster.wait_heard();
    let (out, carried) = by_ssh(&lab, || cluster.move_out(guest.pid()));
    assert!(carried > 512 << 20, "{carried}");
    guest.goes_on();
    guest.never_went_back();

    // It is there again: what is dialled next goes directly, the way home too.
    lab.set_direct(true).unwrap();
    wait_way(&cluster, Way::Direct);
    let (_, carried) = by_ssh(&lab, || cluster.bring_home(out.record.id.as_str()));
    assert!(carried < 4 << 20, "{carried}");
    guest.goes_on();
    guest.never_went_back();
}

#[test]
fn output_is_whole_while_the_address_goes_down_and_up_and_ssh_breaks() {
    let lab = Lab::start();
    let (config, _) = lab.config_direct("same");
    let Some(cluster) = Cluster::configured(&config) else { return };
    wait_way(&cluster, Way::Direct);
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let (guest, pid) = Guest::counting(&cluster);
    let out = cluster.move_out(pid);
    guest.writes_on();
    lab.set_direct(false).unwrap();
    wait_way(&cluster, Way::Ssh);
    guest.writes_on();
    lab.set_direct(true).unwrap();
    wait_way(&cluster, Way::Direct);
    // Its streams went over to ssh, and find the direct way when that breaks.
    lab.set_ssh(false).unwrap();
    lab.drop_connections();
    guest.writes_on();
    cluster.wait_heard();
    cluster.bring_home(out.record.id.as_str());
    guest.writes_on();
    // To end what runs there, grid needs ssh.
    ssh_is_back(&lab, &cluster);
}

/// `grid up` with this configuration: what it says when it gives up.
fn refused_up(lab: &Lab, config: &str) -> String {
    let dir = grid_testkit::scratch::Scratch::new().unwrap();
    std::fs::write(dir.join("cluster.yaml"), config).unwrap();
    let up = |dry: &[&str]| {
        let mut command = Command::new("timeout");
        command.arg("60").arg(program("grid").unwrap()).arg("--state").arg(dir.join("state"));
        command.args(["up", "--config"]).arg(dir.join("cluster.yaml")).args(dry);
        let out = command.env("GRID_CRIU", grid_testkit::criu::path()).output().unwrap();
        assert_eq!(out.status.code(), Some(9), "{out:?}");
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    let said = up(&[]);
    assert_eq!(said, up(&["--dry-run"]));
    assert!(std::fs::read_dir(lab.workers()).unwrap().next().is_none(), "something was brought there");
    assert!(!dir.join("state").exists(), "something was written down");
    said
}

#[test]
fn an_address_that_cannot_be_listened_at_is_refused_before_anything_is_started() {
    if !grid_testkit::criu::usable_or_skip() {
        return;
    }
    let lab = Lab::start();
    let (config, at) = lab.config_direct("same");
    let port = at.rsplit_once(':').unwrap().1;
    let taken = std::net::TcpListener::bind(&at).unwrap();
    let said = refused_up(&lab, &config);
    assert!(said.contains(&format!("port {port} is taken")) && said.contains("ss -ltnp"), "{said}");
    drop(taken);
    let said = refused_up(&lab, &config.replace(&at, &format!("192.0.2.1:{port}")));
    assert!(said.contains("no address of this machine") && said.contains("ip -brief address"), "{said}");
}

fn status_of(pid: i32, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn strangers_at_the_port_are_sent_away_cost_little_and_keep_no_worker_out() {
    let lab = Lab::start();
    let (config, at) = lab.config_direct("same");
    let Some(cluster) = Cluster::configured(&config) else { return };
    wait_way(&cluster, Way::Direct);
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let guest = Guest::reporting(&cluster, "prover", "--memory 64MiB --steps 1000000");
    let channel = head_channel(&cluster);
    let (threads, memory) = (status_of(channel, "Threads:"), status_of(channel, "VmRSS:"));
    let said = cluster.log("channel").lines().count();
    let heard = cluster.log("agent").lines().count();
    let stranger = || {
        let stream = TcpStream::connect(&at).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    };
    let gone = |mut stream: TcpStream| {
        let mut said = Vec::new();
        let ended = stream.read_to_end(&mut said);
        let timed_out = ended.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!timed_out && said.len() < 64, "{} bytes were said to a stranger", said.len());
    };
    // Garbage; the agents' own greeting without TLS; and hundreds that say nothing.
    for words in [&[0xff; 70_000][..], b"\x20\0\0\0{\"Agent\":{\"protocol\":1,\"token\":\"\"}}"] {
        let mut one = stranger();
        let _ = one.write_all(words);
        gone(one);
    }
    let crowd: Vec<TcpStream> = (0..500).map(|_| stranger()).collect();
    let out = cluster.move_out(guest.pid());
    guest.goes_on();
    assert_eq!(link(&cluster, "gpu1").unwrap().way, Way::Direct);
    crowd.into_iter().for_each(gone);
    cluster.bring_home(out.record.id.as_str());
    guest.goes_on();

    let now = (status_of(channel, "Threads:"), status_of(channel, "VmRSS:"));
    println!("the channel's threads and KiB: {threads}, {memory} before, {now:?} after 500 strangers");
    assert!(now.0 <= threads && now.1 < memory + 24 * 1024, "{now:?}");
    let lines = cluster.log("channel").lines().count() - said;
    assert!((2..=12).contains(&lines), "{lines} lines of 502 strangers:\n{}", cluster.log("channel"));
    let of_agent = cluster.log("agent");
    let new: Vec<&str> = of_agent.lines().skip(heard).filter(|line| line.contains("refused")).collect();
    assert!(new.is_empty(), "{new:?}");
}

/// While it has no descriptor left for who comes, they wait; it goes on when it has one.
#[test]
fn a_channel_that_ran_out_of_descriptors_lets_in_again() {
    let lab = Lab::start();
    let (config, at) = lab.config_direct("same");
    let Some(cluster) = Cluster::configured(&config) else { return };
    wait_way(&cluster, Way::Direct);
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let guest = Guest::reporting(&cluster, "prover", "--memory 64MiB --steps 1000000");
    let channel = head_channel(&cluster).to_string();
    let limit = |most: &str| {
        // As its own user: root without the right to change others' limits may not.
        let user = std::fs::metadata(format!("/proc/{channel}")).unwrap().uid();
        let mut set = Command::new("prlimit");
        set.args(["--pid", &channel, &format!("--nofile={most}:")]).uid(user).gid(user);
        assert!(set.status().unwrap().success());
    };
    limit("3");
    let mut stranger = TcpStream::connect(&at).unwrap();
    stranger.write_all(&[0xff; 100]).unwrap();
    stranger.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    // Let in, it would be sent away at once.
    assert_eq!(stranger.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    limit("1024");
    stranger.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let ended = stranger.read_to_end(&mut Vec::new());
    assert!(!ended.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock));
    let out = cluster.move_out(guest.pid());
    guest.goes_on();
    cluster.bring_home(out.record.id.as_str());
    guest.goes_on();
}

#[test]
fn a_worker_that_is_added_comes_directly_too() {
    let lab = Lab::start();
    let (config, at) = lab.config_direct("same");
    let alone: Vec<&str> = config.lines().filter(|line| !line.contains("role: worker")).collect();
    let Some(cluster) = Cluster::configured(&alone.join("\n")) else { return };
    let said = cluster.grid(&["node", "add", "gpu1", "--lend-cpu", "8", "--lend-memory", "2GiB"]);
    assert_eq!(said.code, 0, "{said:?}\n{}", cluster.logs());
    assert_eq!(wait_way(&cluster, Way::Direct).address, at);
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let guest = Guest::reporting(&cluster, "prover", "--memory 64MiB --steps 1000000");
    let (out, carried) = by_ssh(&lab, || cluster.move_out(guest.pid()));
    assert!(carried < 4 << 20, "{carried}");
    guest.goes_on();
    cluster.bring_home(out.record.id.as_str());
    // Let go, its certificate counts no more.
    let said = cluster.grid(&["node", "remove", "gpu1", "--drain"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(link(&cluster, "gpu1").is_none());
}
