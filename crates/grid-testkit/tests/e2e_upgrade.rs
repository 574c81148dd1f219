//! Another grid in the place of the one that is up, with processes away: by `grid upgrade`, by one that cannot begin, and by
//! one that does not reach every worker. (Of one version back: `e2e_versions`.)

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_os::frames;
use grid_testkit::cluster::{Cluster, Guest};
use grid_testkit::lab::Lab;
use grid_testkit::procs;
use grid_types::api::NodeView;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

fn runs(pid: i32, program: &[u8]) -> bool {
    std::fs::read(format!("/proc/{pid}/exe")).is_ok_and(|bytes| bytes == program)
}

fn node(cluster: &Cluster, name: &str) -> NodeView {
    cluster.status().unwrap().nodes.into_iter().find(|n| n.node.as_str() == name).unwrap()
}

fn wait_newer(cluster: &Cluster, what: &str, newer: &[u8], pid: impl Fn() -> i32) {
    cluster.wait(&format!("{what} to be the newer one"), || match pid() {
        pid if runs(pid, newer) => Ok(()),
        pid => Err(pid),
    });
}

/// The version that its daemons have for a journal that they cannot read.
fn spoil(journal: &Path, spoilt: bool) {
    let db = Connection::open(journal).unwrap();
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    db.pragma_update(None, "user_version", if spoilt { version + 90 } else { version - 90 }).unwrap();
}

#[test]
fn a_cluster_is_handed_over_with_what_is_away_and_its_supervisor_stays_the_process_that_it_was() {
    let Some(mut cluster) = Cluster::start(1) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let (guest, pid) = Guest::counting(&cluster);
    let out = cluster.move_out(pid);
    let said = cluster.grid(&["upgrade"]);
    assert!(said.code == 0 && said.out.contains("is this grid") && said.out.contains("already"), "{said:?}");
    let (supervisor, daemon) = (cluster.supervisor_pid(), cluster.daemon_pid());
    let newer = cluster.newer();
    let said = cluster.grid(&["upgrade", "--dry-run"]);
    assert!(said.code == 0 && said.out.contains("would be") && said.out.contains("1 process is away"), "{said:?}");
    let (code, error) = cluster.refused_to_user(&["upgrade"]);
    assert!(code == 6 && error.message.contains("only root"), "{code}: {error:?}");
    assert_eq!(cluster.daemon_pid(), daemon, "something was changed");

    let said: Value = cluster.ask(&["upgrade"]);
    println!("{said}");
    assert_eq!((&said["same"], &said["away"], &said["late"]), (&json!(false), &json!([out.record.id]), &json!([])));
    assert_eq!(cluster.supervisor_pid(), supervisor);
    assert!(runs(supervisor, &newer));
    wait_newer(&cluster, "the daemon", &newer, || cluster.daemon_pid());
    wait_newer(&cluster, "the head's agent", &newer, || cluster.agent_pid("head"));
    wait_newer(&cluster, "the worker's agent", &newer, || cluster.agent_pid("gpu1"));
    let of_it = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(&format!("Z {supervisor} ")))
    };
    assert_eq!(procs::all().into_iter().find(of_it), None, "it does not reap what it kept before");
    guest.writes_on();
    cluster.bring_home(out.record.id.as_str());
    guest.writes_on();
    let again = cluster.move_out(pid);
    guest.writes_on();
    cluster.bring_home(again.record.id.as_str());
}

/// A program that says that it is a grid, and is none.
#[test]
fn a_grid_that_cannot_begin_ends_nothing_that_is_away() {
    let Some(mut cluster) = Cluster::start(1) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let (guest, pid) = Guest::counting(&cluster);
    let out = cluster.move_out(pid);
    let ask = |program: &Path| {
        let mut stream = UnixStream::connect(cluster.state().join("up.sock")).unwrap();
        frames::send(&mut stream, &json!({"Upgrade": {"program": program, "dry_run": false}})).unwrap();
        frames::receive::<Value>(&mut stream, 1 << 16).map(|said| said.to_string())
    };
    // What cannot be started, and what is something else, is refused by the one that is up.
    assert!(ask(Path::new("/nowhere/grid")).unwrap().contains("Nothing was changed"));
    assert!(ask(Path::new("/bin/true")).unwrap().contains("it is no grid"));
    assert!(cluster.grid(&["status"]).code == 0);
    let bad = cluster.dir().join("bad");
    std::fs::write(&bad, "#!/bin/sh\n[ \"$1\" = --version ] && echo grid 9.9.9 && exit\nexit 3\n").unwrap();
    std::fs::set_permissions(&bad, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(ask(&bad).is_err(), "it answered as the grid that it was");
    cluster.supervisor_ended();
    guest.writes_on();
    cluster.up_again(&["--local", "1"]);
    guest.writes_on();

    // Nor one that begins, and gets no answer of its daemon.
    cluster.behead();
    let journal = cluster.state().join("head/journal.db");
    spoil(&journal, true);
    let said = cluster.grid(&["up", "--local", "1"]);
    assert!(said.code == 10 && said.err.contains("What lives on the workers goes on"), "{said:?}");
    assert!(runs(cluster.node_pid("gpu1"), &std::fs::read(cluster.program()).unwrap()));
    spoil(&journal, false);
    cluster.up_again(&["--local", "1"]);
    guest.writes_on();
    cluster.bring_home(out.record.id.as_str());
    guest.writes_on();
}

#[test]
fn a_worker_that_ssh_does_not_reach_is_upgraded_when_it_does_and_what_lives_there_goes_on() {
    let lab = Lab::start();
    let (config, _) = lab.config_direct("home");
    let Some(mut cluster) = Cluster::configured(&config) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let (guest, pid) = Guest::counting(&cluster);
    let out = cluster.move_out(pid);
    guest.writes_on();
    lab.set_link(false).unwrap();
    let newer = cluster.newer();
    // What it could not begin with is refused by the one that runs.
    let file = cluster.dir().join("cluster.yaml");
    std::fs::write(&file, format!("{config}limit: {{}}\n")).unwrap();
    for words in [&["upgrade", "--dry-run"][..], &["upgrade"]] {
        let (code, error) = cluster.refused(words);
        assert!(
            code == 2 && error.message.contains("it refuses") && error.details.concat().contains("limits"),
            "{error:?}"
        );
    }
    std::fs::write(&file, &config).unwrap();
    let said = cluster.grid(&["upgrade"]);
    println!("{}", said.out);
    assert!(said.code == 0 && said.out.contains("gpu1 is not heard of yet"), "{said:?}");
    assert!(runs(cluster.agent_pid("head"), &newer));
    let agent = lab.daemon("agent").unwrap();
    assert!(!runs(agent, &newer));
    lab.set_link(true).unwrap();
    wait_newer(&cluster, "the worker's agent", &newer, || lab.daemon("agent").unwrap_or(0));
    guest.writes_on();
    cluster.bring_home(out.record.id.as_str());
    guest.writes_on();
    cluster.wait("it to lend", || node(&cluster, "gpu1").why.map_or(Ok(()), Err));
    let again = cluster.move_out(pid);
    guest.writes_on();

    // A grid that cannot begin leaves alone what lives on a worker that it reaches.
    cluster.behead();
    let journal = cluster.state().join("head/journal.db");
    spoil(&journal, true);
    let file = cluster.dir().join("cluster.yaml").to_string_lossy().into_owned();
    let said = cluster.grid(&["up", "--config", &file]);
    assert_eq!(said.code, 10, "{said:?}");
    assert!(lab.daemon("agent").is_some());
    spoil(&journal, false);
    cluster.up_again(&["--config", &file]);
    guest.writes_on();
    cluster.bring_home(again.record.id.as_str());
    guest.writes_on();
}
