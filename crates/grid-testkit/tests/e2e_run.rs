//! What `grid run` started moves, and is under its filter wherever it is; what is under another one stays.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest};
use grid_testkit::procs;
use grid_types::api::ApiError;
use grid_types::reason::ReasonCode;
use std::fs;
use std::path::{Path, PathBuf};

/// Counts in the file `says`, from threads and with a child that has no environment, until the file `go` is there. Another
/// filter, which allows everything, is installed with `filter`.
const COUNTER: &str = r#"
import ctypes, os, struct, subprocess, sys, threading, time
class Program(ctypes.Structure):
    _fields_ = [('count', ctypes.c_ushort), ('code', ctypes.c_char_p)]
def filter():
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.byref(Program(1, struct.pack('HBBI', 6, 0, 0, 0x7fff0000)))) == 0
def write(name, text):
    with open(name + '.tmp', 'w') as f: f.write(text)
    os.rename(name + '.tmp', name)
def main():
    threading.Thread(target=lambda: time.sleep(1000), daemon=True).start()
    child = subprocess.Popen(['/usr/bin/sleep', '1000'], env={})
    write('meant', str(os.getpid()))
    n = 0
    while not os.path.exists('go'):
        n += 1
        write('says', f'{n} counted')
        time.sleep(0.01)
    child.kill()
    sys.exit(7)
"#;

/// `grid`, where everybody may start it.
fn program(cluster: &Cluster) -> PathBuf {
    let copy = cluster.dir().join("run-grid");
    fs::copy(cluster.program(), &copy).unwrap();
    fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    copy
}

/// A boost, and a shell that starts `words` and waits for it.
fn start(words: &str, code: &str) -> Option<(Cluster, Guest, i32)> {
    let cluster = Cluster::start(1)?;
    let boost = cluster.boost("--cpu 1 --memory 1GiB --duration 2m").boost.id.to_string();
    fs::write(cluster.dir().join("counter.py"), format!("{COUNTER}{code}")).unwrap();
    let (grid, dir, state) = (program(&cluster), cluster.dir().display(), cluster.state().display());
    let words = words.replace("@GRID", &format!("{} --state {state}", grid.display())).replace("@BOOST", &boost);
    let script = format!("{}\necho $? >status.new; mv status.new status", words.replace("@DIR", &dir.to_string()));
    let guest = Guest::start(&cluster, "/bin/bash", &["-c", &script]);
    let pid = guest.wait_text("meant", |text| !text.is_empty()).trim().parse().unwrap();
    Some((cluster, guest, pid))
}

fn goes_on(guest: &Guest) {
    let count = |text: &str| text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let before = count(&guest.read("says"));
    guest.wait_text("says", |text| count(text) > before + 5);
}

/// Modes and numbers of filters of the threads of everything that works in the guest's folder and is not its shell: the
/// tree wherever it is, and its shadow.
fn filters(guest: &Guest) -> Vec<(bool, String)> {
    let here = |pid: &i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == *guest.dir);
    let status = |task: PathBuf| {
        let text = fs::read_to_string(task.join("status")).unwrap_or_default();
        let lines = text.lines().filter(|l| l.starts_with("Seccomp") || l.starts_with("NoNewPrivs"));
        lines.map(|l| l.split_whitespace().last().unwrap_or_default().to_owned()).collect::<Vec<_>>().join(" ")
    };
    let of = |pid: i32| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        tasks.map(move |task| (procs::is_shadow(pid), status(task.path()))).collect::<Vec<_>>()
    };
    procs::all().into_iter().filter(here).filter(|pid| *pid != guest.pid()).flat_map(of).collect()
}

/// Two threads, a child, and the shadow where there is one.
fn all_filtered(guest: &Guest, shadows: usize) {
    let seen = filters(guest);
    // No new privileges, a filter, one.
    assert!(seen.iter().all(|(_, status)| status == "1 2 1"), "{seen:?}");
    assert_eq!((seen.iter().filter(|(shadow, _)| *shadow).count(), seen.len()), (shadows, 3 + shadows), "{seen:?}");
}

#[test]
fn what_it_started_moves_out_and_home_under_its_filter() {
    let Some((cluster, guest, pid)) = start("@GRID run -- /usr/bin/python3 @DIR/counter.py", "main()") else { return };
    all_filtered(&guest, 0);
    for _ in 0..2 {
        let out = cluster.move_out(pid);
        goes_on(&guest);
        all_filtered(&guest, 1);
        cluster.bring_home(out.record.id.as_str());
        goes_on(&guest);
        all_filtered(&guest, 1);
    }
    fs::write(guest.dir.join("go"), "").unwrap();
    assert_eq!(guest.wait_text("status", |text| text.ends_with('\n')), "7\n");
}

#[test]
fn with_a_boost_it_is_there_at_once() {
    let words = "@GRID run --boost @BOOST -- /usr/bin/python3 @DIR/counter.py";
    let Some((cluster, guest, pid)) = start(words, "main()") else { return };
    cluster.wait("its shadow", || if procs::is_shadow(pid) { Ok(()) } else { Err(guest.process.stderr()) });
    goes_on(&guest);
    assert_eq!(guest.process.stderr().unwrap(), "");
    fs::write(guest.dir.join("go"), "").unwrap();
    assert_eq!(guest.wait_text("status", |text| text.ends_with('\n')), "7\n");
}

fn stays(words: &str, code: &str) -> Option<ApiError> {
    let (cluster, guest, pid) = start(words, code)?;
    let (_, error) = cluster.refused(&["offload", "execute", &pid.to_string()]);
    goes_on(&guest);
    assert!(!procs::is_shadow(pid));
    Some(error)
}

#[test]
fn another_filter_on_top_of_it_is_refused() {
    let words = "@GRID run -- /usr/bin/python3 @DIR/counter.py";
    let Some(error) = stays(words, "filter()\nmain()") else { return };
    assert_eq!(error.code, Some(ReasonCode::Seccomp), "{error:?}");
}

/// Whoever claims to be under it and is not: CRIU sees the filter, and it runs on at home.
#[test]
fn another_filter_that_is_said_to_be_it_does_not_leave() {
    let words = "GRID_RUN=no-io-uring /usr/bin/python3 @DIR/counter.py";
    let Some((cluster, guest, pid)) = start(words, "filter()\nmain()") else { return };
    let said = cluster.grid(&["offload", "execute", &pid.to_string()]);
    assert!(said.code == 4 && said.out.contains("E-SECCOMP"), "{said:?}");
    goes_on(&guest);
    assert!(!procs::is_shadow(pid));
}

const NODE: &str = r"
const fs = require('fs');
const rings = () => fs.readdirSync('/proc/self/fd').filter(fd => {
  try { return fs.readlinkSync('/proc/self/fd/' + fd).includes('io_uring') } catch { return false } }).length;
let n = 0;
setInterval(() => fs.promises.writeFile('says', `${++n} ${rings()}`), 20);
fs.writeFileSync('meant', `${process.pid}`);";

#[test]
fn node_that_would_use_io_uring_moves() {
    if !Path::new("/usr/bin/node").exists() {
        return println!("SKIPPED: no node here");
    }
    let script = format!("cat >work.js <<'E'\n{NODE}\nE\nUV_USE_IO_URING=1 @GRID run /usr/bin/node work.js");
    let Some((cluster, guest, pid)) = start(&script, "") else { return };
    let out = cluster.move_out(pid);
    goes_on(&guest);
    cluster.bring_home(out.record.id.as_str());
    goes_on(&guest);
    guest.wait_text("says", |text| text.ends_with(" 0"));
}
