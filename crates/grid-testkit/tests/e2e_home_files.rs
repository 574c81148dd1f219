//! `execution.files: home`: on a machine that ssh reaches a process sees the head's files. The machine's own are others: the
//! folder in which everything of the test is, is empty there, and `/etc/hostname` is another.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_os::packets;
use grid_testkit::cluster::{Cluster, Guest};
use grid_testkit::home::{answer, apart, apart_with, job, more};
use grid_testkit::lab::Lab;
use grid_testkit::procs;
use grid_types::api::OffloadView;
use grid_types::event::OffloadPhase;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// A data base in which two connections write.
const BASE: &str = r#"
import sqlite3
one, other = (sqlite3.connect('base', timeout=20) for _ in range(2))
print(one.execute('pragma journal_mode=wal').fetchone()[0], end=' ')
one.execute('create table t(n)')
for n in range(100):
    for base in one, other:
        with base:
            base.execute('insert into t values(?)', (n,))
print(*one.execute('select count(*) from t').fetchone(), *other.execute('pragma integrity_check').fetchone())
"#;

/// The server of home's files.
fn server_of(cluster: &Cluster) -> Option<i32> {
    let run = format!("/run/{}/", cluster.group());
    let is_it = |pid: &i32| {
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split('\0').nth(1) == Some("home-serve") && words.contains(&run)
    };
    procs::all().into_iter().find(is_it)
}

/// The process where it lives now; all machines are this one.
fn away(guest: &Guest) -> Option<i32> {
    let is_it = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.ends_with(b"job.py\0"))
            && std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == *guest.dir)
    };
    procs::all().into_iter().find(is_it)
}

#[test]
fn a_process_works_on_with_the_head_s_files_and_comes_home() {
    let lab = Lab::start();
    let Some(cluster) = apart(&lab) else { return };
    let guest = job(&cluster);
    let out = cluster.move_out(guest.pid());
    more(&guest);
    let hostname = std::fs::read_to_string("/etc/hostname").unwrap();
    assert_eq!(answer(&guest, "cat /etc/hostname"), hostname);
    // A program that is nowhere but in this folder at home.
    std::fs::write(guest.dir.join("program"), "#!/bin/sh\necho here; pwd; id -u").unwrap();
    std::fs::set_permissions(guest.dir.join("program"), Permissions::from_mode(0o755)).unwrap();
    assert_eq!(answer(&guest, "./program"), format!("here\n{}\n65534\n", guest.dir.display()));
    more(&guest);
    cluster.bring_home(out.record.id.as_str());
    more(&guest);
    assert_eq!(answer(&guest, "cat /etc/hostname"), hostname);
    cluster.wait("the server of its files to end", || server_of(&cluster).map_or(Ok(()), Err));
}

#[test]
fn with_files_of_its_own_there_it_stays_where_it_is() {
    let lab = Lab::start();
    let Some(cluster) = apart_with(&lab, "same") else { return };
    let guest = job(&cluster);
    let said = cluster.grid(&["offload", "execute", &guest.pid().to_string()]);
    assert!(said.code == 4 && (said.out.clone() + &said.err).contains("E-FILE"), "{said:?}");
    more(&guest);
}

#[test]
fn ssh_breaks_and_agents_die_while_it_writes_and_no_line_is_lost_or_doubled() {
    let lab = Lab::start();
    let Some(cluster) = apart(&lab) else { return };
    let guest = job(&cluster);
    let out = cluster.move_out(guest.pid());
    for round in 0..3 {
        more(&guest);
        assert!(lab.drop_connections() > 0);
        cluster.wait("ssh to be there again", || {
            let text = std::fs::read_to_string(cluster.state().join("log/reach-gpu1.log")).unwrap_or_default();
            if text.matches("is reached at").count() > round + 1 { Ok(()) } else { Err(text) }
        });
    }
    more(&guest);
    // Pump and server go on without agents, and are joined again by the next ones.
    cluster.kill9(cluster.agent_pid("hub"));
    cluster.kill9(lab.daemon("agent").unwrap());
    more(&guest);
    lab.drop_connections();
    more(&guest);
    cluster.wait_heard();
    assert_eq!(answer(&guest, "echo still"), "still\n");
    cluster.bring_home(out.record.id.as_str());
    more(&guest);
}

#[test]
fn what_waits_for_home_is_not_frozen_and_ends_where_it_is_killed() {
    let lab = Lab::start();
    let Some(cluster) = apart(&lab) else { return };
    let guest = job(&cluster);
    let out = cluster.move_out(guest.pid());
    more(&guest);
    // Connected, and silent.
    let server = server_of(&cluster).unwrap();
    kill(Pid::from_raw(server), Signal::SIGSTOP).unwrap();
    let pid = away(&guest).unwrap();
    let wchan = || std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    // For an answer, or for a page that was asked for.
    let waits = || ["request_wait", "folio_wait"].iter().any(|wait| wchan().contains(wait));
    cluster.wait("it to wait for home", || if waits() { Ok(()) } else { Err(wchan()) });
    cluster.wait("a recall to be refused", || {
        let said = cluster.grid(&["offload", "recall", out.record.id.as_str()]);
        if (said.out.clone() + &said.err).contains("does not answer for them") { Ok(()) } else { Err(said) }
    });
    assert!(waits() && procs::is_shadow(guest.pid()));
    kill(Pid::from_raw(guest.pid()), Signal::SIGKILL).unwrap();
    cluster.wait("its copy there to end", || if away(&guest).is_none() { Ok(()) } else { Err(wchan()) });
    cluster.wait("its server to end", || server_of(&cluster).map_or(Ok(()), Err));
}

/// Its server is a process of the user's own. One that takes no connection any more is no reason to wait for anybody but who
/// sees its files.
#[test]
fn a_server_that_its_user_stops_holds_up_nobody_else() {
    let lab = Lab::start();
    let Some(cluster) = apart(&lab) else { return };
    let guest = job(&cluster);
    let out = cluster.move_out(guest.pid());
    more(&guest);
    let server = server_of(&cluster).unwrap();
    let words = std::fs::read_to_string(format!("/proc/{server}/cmdline")).unwrap();
    let door = Path::new(words.split('\0').nth(2).unwrap()).join("control.sock");
    kill(Pid::from_raw(server), Signal::SIGSTOP).unwrap();
    // As after an hour of it: all the room there is for who dials is taken.
    let mut came = Vec::new();
    while let Ok(one) = packets::connect_at_once(&door) {
        came.push(one);
    }
    let turned_away = || cluster.log("agent").contains("their server takes no connection");
    cluster.wait("a connection to be turned away", || if turned_away() { Ok(()) } else { Err(came.len()) });
    let other = job(&cluster);
    let there = cluster.move_out(other.pid());
    more(&other);
    cluster.bring_home(there.record.id.as_str());
    drop(came);
    kill(Pid::from_raw(server), Signal::SIGCONT).unwrap();
    more(&guest);
    cluster.bring_home(out.record.id.as_str());
    more(&guest);
}

/// Adds to its log, goes on after errors, and calls itself as the last one is called. What it needs for that it uses all the
/// time: a page of a program that could not be read would be its end.
const PATIENT: &str = r#"
import ctypes, errno, os, time
prctl, last = ctypes.CDLL(None).prctl, b'none'
def write(path, text):
    try:
        out = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(out, text)
        os.close(out)
    except OSError as e:
        return errno.errorcode[e.errno].encode()
for n in range(10**9):
    write('nothing', b'')
    last = write('log', b'%d\n' % n) or last
    prctl(15, last)
    time.sleep(0.01)
"#;

#[test]
fn home_s_being_away_for_longer_than_the_user_allows_is_an_error_and_then_it_goes_on() {
    let lab = Lab::start();
    let config = lab.config("home").replace("files: home", "files: home, files_patience: 2s");
    let Some(cluster) = Cluster::configured(&config) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let guest =
        Guest::script(&cluster, &format!("cat >job.py <<'E'\n{PATIENT}\nE\n>log; exec /usr/bin/python3 job.py"));
    let added = |text: &str, from: usize| text.lines().count() > from + 20;
    let more = || {
        let from = guest.read("log").lines().count();
        guest.wait_text("log", |text| added(text, from));
    };
    guest.wait_text("log", |text| added(text, 0));
    let out = cluster.move_out(guest.pid());
    more();
    let pid = away(&guest).unwrap();
    let called = || std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim().to_owned();
    assert_eq!(called(), "none");
    let server = server_of(&cluster).unwrap();
    kill(Pid::from_raw(server), Signal::SIGSTOP).unwrap();
    cluster.wait("it to get an error", || if called() == "EIO" { Ok(()) } else { Err(called()) });
    kill(Pid::from_raw(server), Signal::SIGCONT).unwrap();
    more();
    cluster.bring_home(out.record.id.as_str());
    more();
}

/// A restore finds its files at home, one after the other. Where home falls silent in the middle of it, the process goes on at
/// home, and nothing that was to be it stays on the worker until home speaks again; nor does its server at home.
#[test]
fn a_restore_that_home_s_files_hold_up_is_undone_on_both_sides() {
    let lab = Lab::start();
    let config = lab.config("home") + "limits: {max_frozen: 2s}\n";
    let Some(cluster) = Cluster::configured(&config) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let guest = job(&cluster);
    let begun = std::time::Instant::now();
    let server = loop {
        assert!(begun.elapsed().as_secs() < 60, "no restore was held up");
        let server = std::thread::scope(|threads| {
            let stop = threads.spawn(|| {
                cluster.wait("a restore there", || lab.daemon("--unprivileged").map_or(Err(()), |_| Ok(())));
                let server = server_of(&cluster);
                server.iter().for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGSTOP).unwrap());
                server
            });
            let said = cluster.grid(&["offload", "execute", &guest.pid().to_string()]);
            let server = stop.join().unwrap();
            if said.code == 0 {
                // It was faster.
                server.iter().for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGCONT).unwrap());
                cluster.bring_home(&cluster.offloads().last().unwrap().record.id.to_string());
                return None;
            }
            assert!(said.out.contains("E-MAXFROZEN"), "{said:?}");
            server
        });
        if let Some(server) = server {
            break server;
        }
    };
    more(&guest);
    cluster.wait("nothing of it to be there", || {
        let left = ["--unprivileged", "tree-init", "home-pump"].map(|word| lab.daemon(word));
        if left == [None; 3] { Ok(()) } else { Err(left) }
    });
    kill(Pid::from_raw(server), Signal::SIGCONT).unwrap();
    cluster.wait("its server to end", || server_of(&cluster).map_or(Ok(()), Err));
    more(&guest);
}

#[test]
fn programs_that_need_more_of_a_file_system_find_it_there() {
    let lab = Lab::start();
    let Some(cluster) = apart(&lab) else { return };
    let guest = job(&cluster);
    let out = cluster.move_out(guest.pid());
    let write = |name: &str, text: &str| {
        std::fs::write(guest.dir.join(name), text).unwrap();
        std::fs::set_permissions(guest.dir.join(name), Permissions::from_mode(0o755)).unwrap();
    };
    write("base.py", BASE);
    assert_eq!(answer(&guest, "/usr/bin/python3 base.py"), "wal 200 ok\n");
    write("main.c", "#include <stdio.h>\nint main(void) { puts(\"compiled there\"); return 0; }\n");
    if Path::new("/usr/bin/cc").exists() {
        write("make.sh", "cc main.c -o main && ./main");
        assert_eq!(answer(&guest, "sh make.sh"), "compiled there\n");
        assert!(guest.dir.join("main").exists(), "it was made at home");
    }
    more(&guest);
    cluster.bring_home(out.record.id.as_str());
    more(&guest);
}

#[test]
fn what_is_parked_there_finds_the_head_s_files_when_it_runs_again() {
    let lab = Lab::start();
    let Some(cluster) = apart(&lab) else { return };
    let guest = job(&cluster);
    let out = cluster.move_out(guest.pid());
    let id = out.record.id.as_str();
    for (park, back) in [
        (&["offload", "park", id, "--on", "gpu1"][..], &["offload", "unpark", id, "--to", "gpu1"][..]),
        (&["offload", "park", id, "--on", "gpu1"], &["offload", "unpark", id]),
    ] {
        more(&guest);
        let parked: OffloadView = cluster.ask(park);
        assert_eq!(parked.record.phase, OffloadPhase::Parked, "{parked:?}");
        cluster.wait("its server to end", || server_of(&cluster).map_or(Ok(()), Err));
        let _: OffloadView = cluster.ask(back);
    }
    more(&guest);
}

#[test]
fn from_one_worker_to_the_next_they_are_the_head_s_files_still() {
    let labs = [Lab::named("gpu1").unwrap(), Lab::named("gpu2").unwrap()];
    let both = labs.each_ref().map(|lab| std::fs::read_to_string(lab.path("ssh_config")).unwrap());
    std::fs::write(labs[0].path("ssh_config"), both.concat()).unwrap();
    let second =
        "  - {name: gpu2, host: gpu2, role: worker, resource_sharing: {max_share_cpu: 8, max_share_memory_gb: 2}}";
    let config = labs[0].config("home").replace("execution:", &format!("{second}\nexecution:"));
    let Some(cluster) = Cluster::configured(&config) else { return };
    labs.iter().for_each(|lab| lab.hide(cluster.dir()).unwrap());
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m --from gpu1");
    let guest = job(&cluster);
    let out = cluster.move_out(guest.pid());
    more(&guest);
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m --from gpu2");
    let said = cluster.grid(&["offload", "recall", out.record.id.as_str(), "--to", "gpu2"]);
    assert_eq!(said.code, 0, "{said:?}");
    more(&guest);
    assert_eq!(answer(&guest, "echo there"), "there\n");
    cluster.bring_home(out.record.id.as_str());
    more(&guest);
    cluster.wait("its servers to end", || server_of(&cluster).map_or(Ok(()), Err));
}

/// Says whether it has a terminal, and what is in a file that it opens then, and ends with 7.
const TYPED: &str = r#"
import os, sys, time
with open('started', 'w') as f: f.write(str(os.getpid()))
os.rename('started', 'ready')
while not os.path.exists('go'): time.sleep(0.01)
print(os.isatty(1), open('word').read(), flush=True)
sys.exit(7)
"#;

#[test]
fn a_job_in_a_terminal_keeps_it_and_one_that_ends_there_leaves_nothing() {
    let lab = Lab::start();
    let Some(cluster) = apart(&lab) else { return };
    let guest = Guest::start(&cluster, "/usr/bin/tmux", &["-S", "tmux", "-f", "/dev/null", "-D"]);
    let write = |name: &str, text: &str| {
        std::fs::write(guest.dir.join(name), text).unwrap();
        std::fs::set_permissions(guest.dir.join(name), Permissions::from_mode(0o644)).unwrap();
    };
    write("end.py", TYPED);
    let tmux = |words: &[&str]| {
        let mut command = Command::new("tmux");
        command.current_dir(&*guest.dir).uid(procs::NOBODY).gid(procs::NOBODY).args(["-S", "tmux"]).args(words);
        let out = command.output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        if out.status.success() { Ok(text) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
    };
    let shell = "exec env -i PATH=/usr/bin:/bin HOME=/ LC_ALL=C TERM=screen PS1='$ ' bash --norc --noprofile";
    cluster.wait("the terminal", || tmux(&["new-session", "-d", "-x", "80", "-y", "24", shell]));
    tmux(&["send-keys", "-l", "/usr/bin/python3 end.py; echo = $?"]).unwrap();
    tmux(&["send-keys", "Enter"]).unwrap();
    let pid = guest.wait_text("ready", |text| !text.is_empty()).parse().unwrap();
    cluster.move_out(pid);
    write("word", "of home");
    write("go", "");
    cluster.wait("its end", || {
        let screen = tmux(&["capture-pane", "-p"])?;
        if screen.contains("\nTrue of home\n= 7\n") { Ok(()) } else { Err(screen) }
    });
    cluster.wait("its server to end", || server_of(&cluster).map_or(Ok(()), Err));
}

/// A `/tmp` of its own lies over the head's.
#[test]
fn a_private_tmp_goes_along() {
    let lab = Lab::start();
    let Some(cluster) = apart(&lab) else { return };
    let guest = Guest::private(&cluster, "", "/usr/bin/python3 job.py");
    guest.counts_on();
    for _ in 0..2 {
        let away = cluster.move_out(guest.meant());
        guest.counts_on();
        cluster.bring_home(away.record.id.as_str());
        guest.counts_on();
    }
    guest.private_ends();
}

/// Keeps its state in a shared mapping of a file: counts in all of its pages.
const MAPPED: &str = r#"
import ctypes, mmap, os
pages, size = 256, 4096
with open('mapped', 'wb') as f: f.truncate(pages * size)
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
# No descriptor of it is left, whose closing would write back what is in the mapping.
with open('mapped', 'r+b') as f:
    start = libc.mmap(None, ctypes.c_size_t(pages * size), 3, mmap.MAP_SHARED, f.fileno(), ctypes.c_long(0))
m = memoryview((ctypes.c_uint64 * (pages * size // 8)).from_address(start)).cast('B').cast('Q')
log, n = open('log', 'a', buffering=1), 0
while not os.path.exists('go'):
    for page in range(0, len(m), size // 8):
        assert m[page] == n, (n, page, m[page])
        m[page] = n + 1
    print(n, file=log)
    n += 1
print('done', n)
"#;

/// What was written to a mapping there is in the head's file before it goes on at home.
#[test]
fn a_shared_mapping_of_a_file_is_the_same_on_both_sides() {
    let lab = Lab::start();
    let Some(cluster) = apart(&lab) else { return };
    let guest = Guest::script(&cluster, &format!("cat >map.py <<'E'\n{MAPPED}\nE\nexec /usr/bin/python3 map.py"));
    more(&guest);
    for _ in 0..2 {
        let out = cluster.move_out(guest.pid());
        more(&guest);
        cluster.bring_home(out.record.id.as_str());
        more(&guest);
    }
    std::fs::write(guest.dir.join("go"), "").unwrap();
    guest.process.wait_gone(std::time::Duration::from_secs(20)).unwrap();
    assert_eq!(guest.process.stderr().unwrap(), "");
    assert!(guest.read("stdout").starts_with("done "), "{}", guest.read("stdout"));
}
