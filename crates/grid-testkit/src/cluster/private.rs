//! A command of `grid run --private` that knows whether its `/tmp` and `/dev/shm` are as it left them.

use super::{Cluster, Guest};
use crate::procs::Detached;
use crate::scratch::Scratch;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Python, the file `job.py`: looks around, leaves what lives on in its `/tmp` and `/dev/shm`, and then counts in the file `says` for as long as all of it is
/// as it was left, until the file `go` is there.
pub const PRIVATE_JOB: &str = r#"
import mmap, os, socket, subprocess, sys, time
def write(name, text):
    with open(name + '.new', 'w') as f: f.write(text)
    os.rename(name + '.new', name)
write('saw', repr((os.listdir('/tmp'), os.listdir('/dev/shm'), open('/proc/1/comm').read().strip(), os.getuid())))
os.makedirs('/tmp/deep/er')
with open('/tmp/deep/er/file', 'w') as f: f.write('content')
os.utime('/tmp/deep/er/file', ns=(1_600_000_000_123_456_789, 1_600_000_000_987_654_321))
os.chmod('/tmp/deep/er/file', 0o640)
os.link('/tmp/deep/er/file', '/tmp/second'); os.symlink('deep', '/tmp/link'); os.mkfifo('/tmp/fifo')
with open('/tmp/sparse', 'w') as f: f.truncate(1 << 30)
log = open('/tmp/log', 'w', buffering=1)
shared = open('/dev/shm/shared', 'w+b'); shared.truncate(1 << 20)
memory = mmap.mmap(shared.fileno(), 1 << 20)
nameless = open('/tmp/nameless', 'w+'); nameless.write('no name'); nameless.flush(); os.unlink('/tmp/nameless')
# Nobody else can come to it, so it is no obstacle.
server = socket.socket(socket.AF_UNIX); server.bind('/tmp/deep/socket'); server.listen()
# An orphan that ends: its init reaps it.
orphan = int(subprocess.check_output(['sh', '-c', 'sleep 0.05 >&- & echo $!']))
def is_orphan():
    try: return open(f'/proc/{orphan}/comm').read() == 'sleep\n'
    except FileNotFoundError: return False
# Their numbers were given in these namespaces, and they keep them in the next.
children = [subprocess.Popen(['/usr/bin/sleep', '1000']) for _ in range(8)]
def look(n):
    assert all(child.poll() is None for child in children)
    status = os.stat('/tmp/second')
    assert (status.st_nlink, status.st_mode & 0o777, status.st_mtime_ns) == (2, 0o640, 1_600_000_000_987_654_321), status
    assert open('/tmp/link/er/file').read() == 'content'
    assert os.stat('/tmp/sparse').st_size == 1 << 30 and os.stat('/tmp/sparse').st_blocks == 0
    assert os.stat('/tmp/fifo').st_mode & 0o010000
    assert len(open('/tmp/log').read().split()) == n
    assert memory[:8] == open('/dev/shm/shared', 'rb').read(8) == n.to_bytes(8, 'little')
    client = socket.socket(socket.AF_UNIX); client.connect('/tmp/deep/socket')
    taken = server.accept()[0]; client.send(b'x'); assert taken.recv(1) == b'x'; taken.close(); client.close()
    nameless.seek(0); assert nameless.read() == 'no name'
n = 0
while not os.path.exists('go'):
    look(n)
    n += 1
    print(n, file=log)
    memory[:8] = n.to_bytes(8, 'little')
    assert n < 30 or not is_orphan()
    write('says', f'{n} counted')
    time.sleep(0.01)
for child in children: child.kill()
sys.exit(7)
"#;

/// A folder that the command finds again, not below `/tmp`, with `grid` and the job in it.
///
/// # Errors
/// It could not be made.
pub fn private_folder(cluster: &Cluster) -> io::Result<Scratch> {
    let dir = Scratch::within(Path::new("/var/tmp"))?;
    fs::copy(cluster.program(), dir.join("grid"))?;
    fs::set_permissions(dir.join("grid"), fs::Permissions::from_mode(0o755))?;
    fs::write(dir.join("job.py"), PRIVATE_JOB)?;
    Ok(dir)
}

impl Guest {
    /// A shell that starts `command` privately, writes its number to `meant`, and to `status` how it ended.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn private(cluster: &Cluster, options: &str, command: &str) -> Self {
        let dir = private_folder(cluster).unwrap_or_else(|e| panic!("a folder: {e}"));
        let script = format!(
            "./grid --state {} run --private {options} -- {command} & echo $! >meant.new; mv meant.new meant\n\
             wait $!; echo $? >status.new; mv status.new status",
            cluster.state().display()
        );
        let process = Detached::start(Path::new("/bin/sh"), &["-c", &script], &dir);
        Self { process: process.unwrap_or_else(|e| panic!("{script}: {e}")), dir }
    }

    /// The number of what [`Guest::private`] started.
    pub fn meant(&self) -> i32 {
        let number = self.wait_text("meant", |text| text.ends_with('\n'));
        number.trim().parse().unwrap_or_else(|e| panic!("{number}: {e}"))
    }

    /// The private job has counted on.
    pub fn counts_on(&self) {
        let count = |text: &str| text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        let before = count(&self.read("says"));
        let ended = self.dir.join("status");
        self.wait_text("says", |text| {
            assert!(!ended.exists(), "it has ended: {}", self.status());
            count(text) > before + 5
        });
    }

    /// Status of what was started, and what it and grid said.
    pub fn status(&self) -> String {
        let status = self.wait_text("status", |text| text.ends_with('\n'));
        format!("{} {}", status.trim(), self.process.stderr().unwrap_or_default())
    }

    /// The private job is told to end, and ends with its own status.
    ///
    /// # Panics
    /// Where it ends otherwise.
    pub fn private_ends(&self) {
        fs::write(self.dir.join("go"), "").unwrap_or_else(|e| panic!("go: {e}"));
        assert_eq!(self.status(), "7 ");
    }
}
