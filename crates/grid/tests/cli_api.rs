//! The commands against a daemon that answers from a list: what is asked, what is printed, which exit code.
#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

/// `METHOD PATH`, status, body.
type Route = (&'static str, u16, String);

/// A daemon that knows a few answers and remembers what it was asked.
struct Daemon {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Daemon {
    fn new(routes: Vec<Route>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("head.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        // Ends with the test's process: it only waits for connections.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &routes, &log);
            }
        });
        Self { _dir: dir, socket, asked }
    }

    fn grid(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_grid"));
        command.args(args).env("GRID_SOCKET", &self.socket).env_remove("GRID_OUTPUT").output().unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(line, _)| line.clone()).collect()
    }
}

fn answer(mut stream: UnixStream, routes: &[Route], log: &Mutex<Vec<(String, Value)>>) {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    let (head, length) = loop {
        let n = stream.read(&mut buffer).unwrap();
        text.extend_from_slice(&buffer[..n]);
        let Some(end) = text.windows(4).position(|w| w == b"\r\n\r\n") else {
            assert!(n > 0);
            continue;
        };
        let head = String::from_utf8(text[..end].to_vec()).unwrap();
        let length = head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
        break (head, end + 4 + length.unwrap_or(0));
    };
    while text.len() < length {
        let n = stream.read(&mut buffer).unwrap();
        text.extend_from_slice(&buffer[..n]);
    }
    let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    let body = text.split_at(head.len() + 4).1;
    log.lock().unwrap().push((line.clone(), serde_json::from_slice(body).unwrap_or(Value::Null)));
    let (status, body) = routes
        .iter()
        .find(|r| r.0 == line)
        .map_or_else(|| (404, error("not_found", Value::Null, &format!("no route {line}"))), |r| (r.1, r.2.clone()));
    let reply = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    let _ = stream.write_all(reply.as_bytes());
}

fn ok(value: Value) -> String {
    json!({ "version": 1, "ok": value }).to_string()
}

fn error(class: &str, code: Value, message: &str) -> String {
    let error = json!({ "class": class, "code": code, "message": message, "details": ["gpu1 silent"], "hint": "wait" });
    json!({ "version": 1, "error": error }).to_string()
}

fn offload(phase: &str) -> Value {
    json!({
        "record": {
            "id": "o-19", "process": { "pid": 4711, "start_ticks": 7, "boot_id": "b" }, "title": "prover", "uid": 65534,
            "source": "head", "destination": "gpu1", "boost": "b-7k2", "plan": null, "phase": phase, "direction": "out",
            "attempt": "a-1", "attempts": 1, "needed": { "cpu": 1000, "memory": 1073741824, "gpu": 0 },
            "figures": { "downtime": 590, "total": 800, "bytes": 536870912, "processes": 1, "dumped_as_owner": true },
            "exit": null, "home": null, "home_pid": null, "since": 1, "started_at": 1,
            "reasons": [{ "code": "E-CRIU", "detail": "no memory" }],
        },
        "pid_there": null, "since": 1000,
    })
}

fn plan() -> Value {
    json!({
        "id": "p-1", "trigger": { "trigger": "named", "pid": 4711 }, "made_at": 1, "valid_until": 1, "steps": [],
        "stays": [], "outcome": "made",
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn json_is_the_reply_as_it_came() {
    let reply = r#"{"version":1,"ok":[], "added_later": true}"#.to_owned();
    let daemon = Daemon::new(vec![("GET /v1/nodes", 200, reply.clone())]);
    let out = daemon.grid(&["-o", "json", "node", "list"]);
    assert_eq!((text(&out.stdout).trim(), out.status.code()), (reply.as_str(), Some(0)));
}

#[test]
fn a_refusal_has_its_class_as_exit_code() {
    for class in grid_types::exit::FaultClass::ALL {
        let name = serde_json::to_value(class).unwrap();
        let refusal = error(name.as_str().unwrap(), json!("E-NOFIT"), "no lender has that");
        let daemon = Daemon::new(vec![("POST /v1/boosts", 409, refusal.clone())]);
        let out = daemon.grid(&["boost", "request", "head", "cpu", "6"]);
        assert_eq!(out.status.code(), Some(class.code().into()));
        assert!(out.stdout.is_empty());
        assert!(text(&out.stderr).starts_with("error E-NOFIT: no lender has that\n  gpu1 silent\nwait\nexit code "));
        let out = daemon.grid(&["-o", "json", "boost", "request", "head", "cpu", "6"]);
        assert_eq!((text(&out.stdout).trim(), out.status.code()), (refusal.as_str(), Some(class.code().into())));
    }
}

#[test]
fn the_originals_form_of_a_request_reaches_the_daemon() {
    let daemon = Daemon::new(vec![("POST /v1/boosts", 409, error("refused", Value::Null, "x"))]);
    let _ = daemon.grid(&["resource-sharing", "request", "head", "cpu", "2", "memory", "8", "--duration", "2m"]);
    let asked = daemon.asked.lock().unwrap();
    let body = &asked[0].1;
    assert_eq!((&body["borrower"], &body["cpu"], &body["memory"]), (&json!("head"), &json!(2000), &json!(8u64 << 30)));
    assert_eq!((&body["duration"], &body["dry_run"], &body["gpu"]), (&json!(120_000), &json!(false), &Value::Null));
}

#[test]
fn a_move_is_waited_for() {
    let begun = ok(json!({ "plan": plan(), "offload": offload("moving") }));
    let daemon = Daemon::new(vec![
        ("POST /v1/offloads", 200, begun.clone()),
        ("GET /v1/offloads/o-19?settled", 200, ok(offload("away"))),
    ]);
    let out = daemon.grid(&["offload", "execute", "4711", "--to", "gpu1"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let said = text(&out.stdout);
    assert!(said.contains("o-19 4711 prover moved to gpu1: 512 MiB in 1 process, silent for 590 ms"), "{said}");
    assert!(said.ends_with("Bring it home: grid offload recall 4711\n"), "{said}");
    assert_eq!(daemon.asked(), ["POST /v1/offloads", "GET /v1/offloads/o-19?settled"]);
}

#[test]
fn a_move_that_did_not_happen_is_no_success() {
    let begun = ok(json!({ "plan": plan(), "offload": offload("moving") }));
    for (phase, code) in [("failed", 4), ("in_doubt", 11), ("lost", 7)] {
        let daemon = Daemon::new(vec![
            ("POST /v1/offloads", 200, begun.clone()),
            ("GET /v1/offloads/o-19?settled", 200, ok(offload(phase))),
        ]);
        let out = daemon.grid(&["offload", "execute", "4711"]);
        assert_eq!(out.status.code(), Some(code), "{phase}");
        assert!(text(&out.stdout).contains("no memory [E-CRIU]"), "{phase}");
        let out = daemon.grid(&["-o", "json", "offload", "execute", "4711"]);
        let reply: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!((&reply["ok"]["record"]["phase"], out.status.code()), (&json!(phase), Some(code)));
    }
}

#[test]
fn a_process_may_be_named_by_its_number() {
    let daemon = Daemon::new(vec![
        ("GET /v1/offloads", 200, ok(json!([offload("away")]))),
        ("POST /v1/offloads/o-19/recall", 200, ok(offload("returning"))),
        ("GET /v1/offloads/o-19?settled", 200, ok(offload("home"))),
    ]);
    let out = daemon.grid(&["offload", "recall", "4711"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("is home"));
    let out = daemon.grid(&["offload", "recall", "4712"]);
    assert_eq!(out.status.code(), Some(3));
    let out = daemon.grid(&["-o", "quiet", "offload", "list"]);
    assert_eq!(text(&out.stdout), "o-19\n");
}

#[test]
fn a_dry_run_waits_for_nothing() {
    let daemon = Daemon::new(vec![("POST /v1/offloads", 200, ok(json!({ "plan": plan(), "offload": null })))]);
    let out = daemon.grid(&["offload", "execute", "4711", "--dry-run"]);
    assert_eq!(out.status.code(), Some(0));
    assert!(text(&out.stdout).contains("Nothing was changed."));
    assert_eq!(daemon.asked.lock().unwrap()[0].1["dry_run"], true);
}

#[test]
fn events_come_one_a_line() {
    let one = |seq: u32| {
        let event = json!({ "type": "node_silent", "node": "gpu1" });
        json!({ "seq": seq, "at": 1, "boot_at": 1, "boot_id": "b", "actor": { "by": "daemon" }, "event": event })
            .to_string()
    };
    let body = format!("{}\n{}\n", one(8), one(9));
    let daemon = Daemon::new(vec![("GET /v1/events?after=7", 200, body.clone())]);
    let out = daemon.grid(&["events", "--after", "7"]);
    let lines = text(&out.stdout);
    assert_eq!(lines.lines().filter(|l| l.ends_with("gpu1 is silent  [daemon]")).count(), 2, "{lines}");
    assert_eq!(text(&daemon.grid(&["-o", "json", "events", "--after", "7"]).stdout), body);
    assert_eq!(daemon.grid(&["events", "--after", "1"]).status.code(), Some(3));
}

#[test]
fn an_answer_that_is_none_is_an_internal_error() {
    for (body, says) in
        [("<html>", "not understood"), (r#"{"version":2,"ok":[]}"#, "version 2"), (r#"{"version":1}"#, "neither")]
    {
        let daemon = Daemon::new(vec![("GET /v1/nodes", 200, body.to_owned())]);
        let out = daemon.grid(&["node", "list"]);
        assert_eq!(out.status.code(), Some(1), "{body}");
        assert!(text(&out.stderr).contains(says) && out.stdout.is_empty(), "{}", text(&out.stderr));
    }
}

#[test]
fn a_socket_of_somebody_else_is_a_matter_of_permission() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("SKIPPED: needs root to become somebody else");
    }
    let daemon = Daemon::new(Vec::new());
    // The program may lie where others cannot reach it.
    let copy = tempfile::tempdir().unwrap();
    let program = copy.path().join("grid");
    // By another process: a descriptor open for writing, inherited by another test's child, would make it "busy".
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_grid")).arg(&program).status().unwrap().success());
    std::fs::set_permissions(copy.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(daemon.socket.parent().unwrap(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&daemon.socket, PermissionsExt::from_mode(0o600)).unwrap();
    let mut command = Command::new(program);
    let out = command
        .arg("status")
        .env("GRID_SOCKET", &daemon.socket)
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(6), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("no permission for"));
}
