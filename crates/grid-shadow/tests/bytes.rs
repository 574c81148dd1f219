//! Bytes between a shadow and a tree: all of them, once, in order, whatever happens to the connection and to the far.
#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

mod kit;

use kit::*;
use std::io::{Read, Write};

const MIB: usize = 1 << 20;

fn cat() -> Vec<String> {
    vec!["cat".to_owned()]
}

#[test]
fn everything_crosses_over_connections_that_break() {
    if skipped() {
        return;
    }
    let far = Far::start(1, pipes(PIPE), &cat());
    far.activate(None);
    let mut home = Home::start();
    let (into, from) = (home.stdin.take().unwrap(), home.stdout.take().unwrap());
    let reader = std::thread::spawn(move || check(from));
    let writer = std::thread::spawn(move || produce(into, 200 * MIB));
    let mut budget = 300_000;
    let mut cuts = 0;
    loop {
        home.join_for(&far, budget);
        // Ever longer, by odd steps: cuts fall everywhere, and it comes to an end.
        budget = budget * 9 / 7 + 12_345;
        if !home.wait_down() {
            break;
        }
        cuts += 1;
    }
    writer.join().unwrap();
    assert_eq!(reader.join().unwrap(), 200 * MIB);
    assert_eq!(home.shadow.wait().unwrap().code(), Some(0));
    assert!(cuts > 5, "{cuts} cuts");
    far.wait();
}

#[test]
fn a_reader_that_sleeps_stops_the_writer_and_memory_stays_small() {
    if skipped() {
        return;
    }
    let far = Far::start(1, pipes(PIPE), &sh("head -c 64M /dev/zero"));
    far.activate(None);
    let mut home = Home::start();
    home.join(&far);
    let mut from = home.stdout.take().unwrap();
    from.read_exact(&mut [0; 1000]).unwrap();
    // The pipe at home, the windows, the tree's pipe: then nothing moves.
    wait_for(|| grid_os::descriptors::unread(&from).unwrap() > PIPE as u64 / 2);
    let (shadow, init) = (home.pid(), far.init.pid);
    for pid in [shadow, init] {
        assert!(status_kib(pid, "VmHWM:") < 16 << 10, "{} KiB", status_kib(pid, "VmHWM:"));
    }
    assert_eq!(state(far.root()), 'S');
    let mut rest = 0;
    let mut buffer = vec![0; MIB];
    loop {
        match from.read(&mut buffer).unwrap() {
            0 => break,
            n => rest += n,
        }
    }
    assert_eq!(rest + 1000, 64 * MIB);
}

#[test]
fn a_handover_loses_nothing_that_was_left_in_pipes() {
    if skipped() {
        return;
    }
    // The first tree reads a part and no more, as one that is frozen; the next one goes on where it stopped.
    let part = sh("dd bs=1000 count=700 iflag=fullblock status=none; exec sleep 1000");
    let first = Far::start(1, pipes(PIPE), &part);
    first.activate(None);
    let mut home = Home::start();
    home.join(&first);
    let (into, from) = (home.stdin.take().unwrap(), home.stdout.take().unwrap());
    let reader = std::thread::spawn(move || check(from));
    let writer = std::thread::spawn(move || produce(into, 20 * MIB));
    // What the tree does not read fills its pipe: this much is to be asked for again.
    wait_for(|| fs_comm(first.root()) == "sleep");
    wait_for(|| pipe_of(first.root()) > PIPE as u64 / 2);
    first.pause();
    // It is aborted once, and comes to be the second time.
    assert!(matches!(first.ask(&grid_shadow::control::ToFar::Resume), grid_shadow::control::FromFar::State { .. }));
    let snapshot = first.pause();
    assert_eq!(snapshot.read[&STDIN].consumed, 700_000);
    let next = Far::start(2, pipes(PIPE), &cat());
    next.activate(Some(&snapshot));
    home.join(&next);
    drop(first);
    writer.join().unwrap();
    assert_eq!(reader.join().unwrap(), 20 * MIB);
    assert_eq!(home.shadow.wait().unwrap().code(), Some(0));
}

fn fs_comm(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

fn pipe_of(pid: i32) -> u64 {
    std::fs::File::open(format!("/proc/{pid}/fd/0")).and_then(|f| grid_os::descriptors::unread(&f)).unwrap_or(0)
}

#[test]
fn an_end_and_what_was_not_read_before_it_cross_a_handover() {
    if !skipped() {
        end_crosses(pipes(PIPE), true);
    }
}

/// Pid 1 cannot look into such a pipe any more once it has let go of it.
#[test]
fn an_end_crosses_a_handover_in_pipes_of_the_trees_owner() {
    if skipped() {
        return;
    }
    let mut given = pipes(PIPE);
    let nobody = 65_534;
    for one in &mut given {
        let far = one.far.as_ref().unwrap();
        nix::unistd::fchown(far, Some(nobody.into()), Some(nobody.into())).unwrap();
    }
    end_crosses(given, false);
}

fn end_crosses(given: Vec<Given>, at_once: bool) {
    let first = Far::start(1, given, &sh("dd bs=10 count=1 iflag=fullblock status=none; exec sleep 1000"));
    first.activate(None);
    let mut home = Home::start();
    home.join(&first);
    let mut into = home.stdin.take().unwrap();
    into.write_all(b"0123456789the rest").unwrap();
    drop(into);
    wait_for(|| fs_comm(first.root()) == "sleep" && pipe_of(first.root()) == 8);
    // The end is behind those eight bytes when nobody writes into the pipe any more.
    if at_once {
        wait_for(|| !writers(first.init.pid, first.root()));
    }
    let snapshot = first.pause();
    assert_eq!(snapshot.read[&STDIN].consumed, 10);
    let next = Far::start(2, pipes(PIPE), &cat());
    next.activate(Some(&snapshot));
    home.join(&next);
    let mut text = String::new();
    home.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "0123456789the rest");
    assert_eq!(home.shadow.wait().unwrap().code(), Some(0));
}

/// Pid 1 holds a writing end of the pipe that is the root's standard input.
fn writers(init: i32, root: i32) -> bool {
    let pipe = std::fs::read_link(format!("/proc/{root}/fd/0")).unwrap();
    std::fs::read_dir(format!("/proc/{init}/fd")).unwrap().flatten().any(|fd| {
        let flags = std::fs::read_to_string(format!("/proc/{init}/fdinfo/{}", fd.file_name().to_str().unwrap()));
        std::fs::read_link(fd.path()).is_ok_and(|link| link == pipe)
            && flags.is_ok_and(|f| f.lines().any(|l| l.starts_with("flags:") && l.trim_end().ends_with('1')))
    })
}

#[test]
fn whoever_reads_at_home_and_leaves_is_missed_by_the_tree() {
    if skipped() {
        return;
    }
    let far = Far::start(1, pipes(PIPE), &["yes".to_owned()]);
    far.activate(None);
    let mut home = Home::start();
    home.join(&far);
    let mut from = home.stdout.take().unwrap();
    from.read_exact(&mut [0; 10]).unwrap();
    drop(from);
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(home.shadow.wait().unwrap().signal(), Some(nix::libc::SIGPIPE));
}

#[test]
fn a_tree_that_closes_its_streams_is_seen_at_home() {
    if skipped() {
        return;
    }
    let far = Far::start(1, pipes(PIPE), &sh("echo last; exec 0<&- 1>&-; exec sleep 1000"));
    far.activate(None);
    let mut home = Home::start();
    home.join(&far);
    let mut text = String::new();
    home.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "last\n");
    let mut into = home.stdin.take().unwrap();
    wait_for(|| into.write_all(b"x").is_err_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe));
    wait_for(|| state(home.pid()) == 'S');
}
