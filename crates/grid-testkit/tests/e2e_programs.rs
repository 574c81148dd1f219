//! Programs that people have, moved: a python script with open files and a child, a redis server, a shell's pipeline.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest};
use grid_types::event::{ExitStatus, OffloadPhase};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Reads a number and writes its square behind it, through one descriptor; a child counts into a file of its own.
const FILES: &str = r#"
import os, struct, sys, time
STEPS = 500
with open("numbers", "wb") as f:
    for i in range(STEPS):
        f.write(struct.pack("<qq", i, -1))
child = os.fork()
if child == 0:
    with open("child", "w") as out:
        for i in range(STEPS):
            print(i, file=out, flush=True)
            time.sleep(0.008)
    os._exit(5)
log = open("log", "a")
with open("numbers", "r+b", buffering=0) as f:
    for i in range(STEPS):
        (n,) = struct.unpack("<q", f.read(8))
        f.write(struct.pack("<q", n * n))
        print(n, file=log, flush=True)
        time.sleep(0.008)
_, status = os.waitpid(child, 0)
with open("numbers", "rb") as f:
    right = all(struct.unpack("<qq", f.read(16)) == (i, i * i) for i in range(STEPS))
print("right" if right else "wrong", os.waitstatus_to_exitcode(status), os.getcwd(), flush=True)
sys.exit(3)
"#;

fn counted(text: &str, to: u64) -> bool {
    text.lines().eq((0..to).map(|n| n.to_string()))
}

#[test]
fn a_python_script_keeps_its_open_files_and_its_child() {
    let Some(cluster) = Cluster::start(1) else { return };
    let guest = Guest::python(&cluster, FILES);
    cluster.boost("--cpu 1 --memory 1GiB --duration 2m");
    guest.wait_text("log", |text| text.lines().count() > 20);
    guest.wait_text("child", |text| text.lines().count() > 20);
    let moved = cluster.move_out(guest.pid());
    assert_eq!(moved.record.figures.as_ref().map(|f| f.processes), Some(2));
    let so_far = guest.read("log").lines().count();
    guest.wait_text("log", |text| text.lines().count() > so_far + 20);
    let home = cluster.bring_home(moved.record.id.as_str());
    assert!(guest.read("stdout").is_empty(), "it ended before it came home: {home:?}");

    let said = guest.wait_text("stdout", |text| text.ends_with('\n'));
    assert_eq!(said.trim(), format!("right 5 {}", guest.dir.display()));
    assert!(counted(&guest.read("log"), 500), "a line was lost or is there twice");
    assert!(counted(&guest.read("child"), 500), "a line was lost or is there twice");
    let ended = cluster.wait_phase(moved.record.id.as_str(), OffloadPhase::Ended);
    assert_eq!(ended.record.exit, Some(ExitStatus::Code(3)));
}

/// `redis-cli WORDS`, at home or in the network namespace of process `there`.
fn redis(port: u16, there: Option<i32>, words: &[&str]) -> Output {
    let mut command = match there {
        Some(pid) => {
            let mut command = Command::new("nsenter");
            command.args([&format!("--net=/proc/{pid}/ns/net"), "redis-cli"]);
            command
        }
        None => Command::new("redis-cli"),
    };
    command.args(["-p", &port.to_string()]).args(words).output().unwrap()
}

fn answer(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Where the server's binary really is: in Debian's redis-tools it is another name of a checker.
fn redis_server() -> Option<PathBuf> {
    Command::new("redis-cli").arg("--version").output().ok()?;
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find_map(|dir| dir.join("redis-server").canonicalize().ok())
}

#[test]
fn a_redis_server_without_connections_keeps_its_data() {
    let Some(server) = redis_server() else {
        println!("SKIPPED: no redis here");
        return;
    };
    let Some(cluster) = Cluster::start(1) else { return };
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let words = format!("--port {port} --bind 127.0.0.1 --save '' --appendonly no");
    let line = format!("exec -a redis-server {} {words}", server.display());
    let guest = Guest::start(&cluster, "/bin/bash", &["-c", &line]);
    cluster.wait("redis to answer", || match answer(&redis(port, None, &["ping"])).as_str() {
        "PONG" => Ok(()),
        other => Err(other.to_owned()),
    });
    let fill = "for i = 1, 5000 do redis.call('set', 'key' .. i, i * i) end return 1";
    assert_eq!(answer(&redis(port, None, &["eval", fill, "0"])), "1");
    let sum = "local s = 0 for i = 1, 5000 do s = s + redis.call('get', 'key' .. i) end return tostring(s)";
    let want: u64 = (1..=5000u64).map(|i| i * i).sum();

    cluster.boost("--cpu 1 --memory 1GiB --duration 2m");
    let moved = cluster.move_out(guest.pid());
    let id = moved.record.id.as_str();
    let there = cluster.node_pid("gpu1");
    assert_eq!(answer(&redis(port, Some(there), &["eval", sum, "0"])), want.to_string());
    assert_eq!(answer(&redis(port, Some(there), &["set", "written", "there"])), "OK");
    assert_eq!(answer(&redis(port, None, &["get", "written"])), "there", "who asks at home is led there");

    cluster.bring_home(id);
    assert_eq!(answer(&redis(port, None, &["get", "written"])), "there");
    assert_eq!(answer(&redis(port, None, &["eval", sum, "0"])), want.to_string());
    redis(port, None, &["shutdown", "nosave"]);
    let ended = cluster.wait_phase(id, OffloadPhase::Ended);
    assert_eq!(ended.record.exit, Some(ExitStatus::Code(0)));
}

#[test]
fn a_pipeline_of_a_shell_moves_as_one_tree_and_loses_no_line() {
    let Some(cluster) = Cluster::start(1) else { return };
    let count = r#"import time
for i in range(400): print(i, flush=True); time.sleep(0.01)"#;
    let script = format!("/usr/bin/python3 -c '{count}' | sed -u s/^/line-/ | cat >out; exit 4");
    let guest = Guest::script(&cluster, &script);
    guest.wait_text("out", |text| text.lines().count() > 20);
    cluster.boost("--cpu 1 --memory 1GiB --duration 2m");
    let moved = cluster.move_out(guest.pid());
    assert_eq!(moved.record.figures.as_ref().map(|f| f.processes), Some(4), "{moved:?}");
    assert!(guest.read("out").lines().count() < 400, "it ended before it moved");
    let ended = cluster.wait_phase(moved.record.id.as_str(), OffloadPhase::Ended);
    assert_eq!(ended.record.exit, Some(ExitStatus::Code(4)));
    assert!(guest.read("out").lines().eq((0..400).map(|n| format!("line-{n}"))), "{}", guest.read("out"));
}
