//! A worker that is another machine and sees the head's files, and a job that works on them.

#![allow(clippy::unwrap_used)] // of tests alone

use crate::cluster::{Cluster, Guest};
use crate::lab::Lab;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A cluster whose one worker sees the head's files, is another machine by ssh, and has a lease. None where this machine lacks
/// what moves need.
///
/// # Panics
/// Where it does not come up.
pub fn apart(lab: &Lab) -> Option<Cluster> {
    apart_with(lab, "home")
}

/// As [`apart`], with these words for `execution.files`.
///
/// # Panics
/// Where it does not come up.
pub fn apart_with(lab: &Lab, files: &str) -> Option<Cluster> {
    let cluster = Cluster::configured(&lab.config(files))?;
    lab.hide(cluster.dir()).unwrap();
    let hostname = lab.path("hostname");
    std::fs::write(&hostname, "the worker's\n").unwrap();
    lab.bind(&hostname, Path::new("/etc/hostname")).unwrap();
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    Some(cluster)
}

/// Logs, works on a file that it has open, reads by path and by folder, and does what it is asked to by files.
const JOB: &str = r#"
import os, time
log = open('log', 'a', buffering=1)
data = open('data', 'r+b', buffering=0)
for n in range(10**9):
    print(n, file=log)
    assert data.read(4) == n.to_bytes(4, 'little')
    data.write((n + 1).to_bytes(4, 'little'))
    data.seek(-4, os.SEEK_CUR)
    if n % 64 == 63:
        data.seek(0)
        data.truncate(0)
        data.write((n + 1).to_bytes(4, 'little'))
        data.seek(0)
    if os.path.exists('ask'):
        import later
        later.answer()
    time.sleep(0.002)
"#;

const LATER: &str = r#"
import os, subprocess
def answer():
    words = open('ask').read().split()
    os.unlink('ask')
    out = subprocess.run(words, capture_output=True, text=True)
    with open('new', 'w') as f:
        f.write(out.stdout + out.stderr)
    os.rename('new', 'answer')
"#;

/// A job that works on files: it logs, and answers ([`answer`]).
///
/// # Panics
/// Where it does not begin.
pub fn job(cluster: &Cluster) -> Guest {
    let script = format!(
        "cat >job.py <<'E'\n{JOB}\nE\ncat >later.py <<'E'\n{LATER}\nE\n\
         printf '\\0\\0\\0\\0' >data; PYTHONPATH=. exec /usr/bin/python3 job.py"
    );
    let guest = Guest::script(cluster, &script);
    more(&guest);
    guest
}

/// Lines that it logged, each once and in order.
pub fn lines(guest: &Guest) -> usize {
    guest.numbered("log")
}

/// Waits until it has gone on.
///
/// # Panics
/// Where it does not.
pub fn more(guest: &Guest) {
    let from = lines(guest);
    guest.wait_text("log", |text| text.lines().count() > from + 50);
    lines(guest);
}

/// What this command says where the job is.
///
/// # Panics
/// Where it does not answer.
pub fn answer(guest: &Guest, ask: &str) -> String {
    let _ = std::fs::remove_file(guest.dir.join("answer"));
    std::fs::write(guest.dir.join("asking"), ask).unwrap();
    std::fs::set_permissions(guest.dir.join("asking"), Permissions::from_mode(0o644)).unwrap();
    std::fs::rename(guest.dir.join("asking"), guest.dir.join("ask")).unwrap();
    // It may be there only since it was read.
    guest.wait_text("answer", |_| guest.dir.join("answer").exists());
    guest.read("answer")
}
