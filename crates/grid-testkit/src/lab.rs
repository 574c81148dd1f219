//! Another machine, as far as ssh can tell: a network namespace with a real sshd in it, keys of its own, and a veth pair to
//! it. The disk and the kernel are this machine's.
//!
//! Owns the namespace, the pair and the server, and takes them away when dropped.

use crate::procs;
use crate::scratch::Scratch;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// One such machine.
#[derive(Debug)]
pub struct Lab {
    dir: Scratch,
    /// Root's alone, as a worker's folder must be: programs in it run with root's rights.
    workers: tempfile::TempDir,
    /// What ssh calls it.
    host: &'static str,
    link: String,
    address: String,
    /// An address of the head's that only this machine goes to, beside the one that ssh uses.
    direct: String,
    sshd: Child,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Lab {
    /// A machine that ssh knows as `gpu1`.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub fn start() -> Self {
        Self::named("gpu1").unwrap_or_else(|e| panic!("a machine for ssh: {e}"))
    }

    /// A machine that ssh knows by this name.
    ///
    /// # Errors
    /// It cannot be made; nothing of it is left.
    pub fn named(host: &'static str) -> io::Result<Self> {
        let dir = Scratch::new()?;
        // A name and addresses of this process's own: numbers of processes are unique while they live.
        let number = std::process::id() * 4 + COUNT.fetch_add(1, Ordering::Relaxed) % 4;
        let link = format!("gl{number}");
        let block =
            |end: u32| format!("10.{}.{}.{}", 64 + (number >> 14 & 63), number >> 6 & 255, (number & 63) * 4 + end);
        let workers = tempfile::Builder::new().prefix("grid-lab-").tempdir()?;
        fs::set_permissions(workers.path(), fs::Permissions::from_mode(0o711))?;
        let sshd = serve(&dir)?;
        let direct = format!("10.{}.{}.{}", 128 + (number >> 14 & 63), number >> 6 & 255, (number & 63) * 4 + 1);
        let mut lab = Self { host, workers, sshd, dir, link, address: block(2), direct };
        lab.await_line("ready")?;
        let peer = format!("{}w", lab.link);
        let pid = lab.sshd.id().to_string();
        run("ip", &["link", "add", &lab.link, "type", "veth", "peer", "name", &peer, "netns", &pid])?;
        run("ip", &["addr", "add", &format!("{}/30", block(1)), "dev", &lab.link])?;
        run("ip", &["link", "set", &lab.link, "up"])?;
        lab.inside(&["ip", "addr", "add", &format!("{}/30", block(2)), "dev", &peer])?;
        lab.inside(&["ip", "link", "set", &peer, "up"])?;
        lab.inside(&["ip", "link", "set", "lo", "up"])?;
        lab.inside(&["ip", "route", "add", &format!("{}/32", lab.direct), "dev", &peer])?;
        lab.set_direct(true)?;
        lab.keys(&block(2))?;
        // It goes on to be sshd.
        drop(lab.sshd.stdin.take());
        lab.await_line("Server listening")?;
        Ok(lab)
    }

    fn keys(&self, address: &str) -> io::Result<()> {
        for key in ["host", "user"] {
            let file = self.path(key);
            run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &file.to_string_lossy()])?;
        }
        let dir = self.dir.display();
        fs::copy(self.path("user.pub"), self.path("authorized"))?;
        let server = format!(
            "Port 22\nListenAddress {address}\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/authorized\nPidFile none\n\
             Subsystem sftp internal-sftp\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        );
        fs::write(self.path("sshd_config"), server)?;
        let host = self.host;
        let client = format!(
            "Host {host}\n  HostName {address}\n  HostKeyAlias {host}\n  User root\n  IdentityFile {dir}/user\n  \
             IdentitiesOnly yes\n  UserKnownHostsFile {dir}/known\n"
        );
        fs::write(self.path("ssh_config"), client)?;
        self.know(&fs::read_to_string(self.path("host.pub"))?)
    }

    /// ssh takes this public key for the machine's own.
    pub fn know(&self, key: &str) -> io::Result<()> {
        fs::write(self.path("known"), format!("{} {key}", self.host))
    }

    /// Waits until its log says this.
    fn await_line(&mut self, line: &str) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let said = fs::read_to_string(self.path("sshd.log")).unwrap_or_default();
            if said.contains(line) {
                return Ok(());
            }
            let ended = self.sshd.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                return Err(io::Error::other(format!("sshd: {ended:?} {said}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A file of the machine's own: `ssh_config`, `known`, `authorized`, `sshd.log`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where grid may keep what it has on this machine.
    pub fn workers(&self) -> &Path {
        self.workers.path()
    }

    /// Configuration of a head whose one worker this is; `files`: which a process sees there.
    pub fn config(&self, files: &str) -> String {
        format!(
            "
name: lab
nodes:
  - {{name: head, role: head, resource_sharing: {{can_share: false}}}}
  - {{name: {host}, host: {host}, role: worker, resource_sharing: {{max_share_cpu: 8, max_share_memory_gb: 2}}}}
execution: {{engine: ssh, ssh_config: {ssh}, worker_directory: {workers}, files: {files}}}
",
            host = self.host,
            ssh = self.path("ssh_config").display(),
            workers = self.workers().display(),
        )
    }

    /// The same, where the head also listens at an address that ssh does not use. Returns what it listens at, too.
    pub fn config_direct(&self, files: &str) -> (String, String) {
        let free = std::net::TcpListener::bind((self.direct.as_str(), 0)).and_then(|listener| listener.local_addr());
        let at = free.unwrap_or_else(|e| panic!("{}: {e}", self.direct)).to_string();
        let config = self.config(files);
        (config.replace("engine: ssh,", &format!("engine: ssh, link_listen: \"{at}\",")), at)
    }

    /// The head's address that ssh does not use is one of this machine's, or none: what is sent there is lost, silently.
    pub fn set_direct(&self, up: bool) -> io::Result<()> {
        run("ip", &["addr", if up { "add" } else { "del" }, &format!("{}/32", self.direct), "dev", &self.link])
    }

    /// Bytes that its sshd has passed on, both ways.
    pub fn carried_by_ssh(&self) -> u64 {
        let children = |pid: &str| {
            let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let (mut below, mut all) = (children(&self.sshd.id().to_string()), 0);
        while let Some(pid) = below.pop() {
            let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
            // What the sessions run there is no sshd's.
            if fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("sshd")) {
                let written = io.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse::<u64>().ok());
                all += written.unwrap_or(0);
                below.extend(children(&pid));
            }
        }
        all
    }

    /// Whether its sshd lets anybody in from now on; connections that are there stay.
    pub fn set_ssh(&self, open: bool) -> io::Result<()> {
        let key = if open { fs::read_to_string(self.path("user.pub"))? } else { String::new() };
        fs::write(self.path("authorized"), key)
    }

    /// The process of grid's there that runs this subcommand.
    pub fn daemon(&self, subcommand: &str) -> Option<i32> {
        let folder = self.workers().display().to_string();
        let is_it = |pid: &i32| {
            let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.contains(&folder) && words.split('\0').nth(1) == Some(subcommand)
        };
        procs::all().into_iter().find(is_it)
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs a command in the machine's network.
    pub fn inside(&self, words: &[&str]) -> io::Result<()> {
        run("nsenter", &[&[self.network().as_str(), "--"], words].concat())
    }

    /// A command in the machine's network, to be started.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(self.network()).arg("--").args(words);
        command
    }

    fn network(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.sshd.id())
    }

    /// What ssh calls it.
    pub fn host(&self) -> &str {
        self.host
    }

    /// Its address, on the link to it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// On that machine `path` is this file from now on.
    pub fn bind(&self, file: &Path, path: &Path) -> io::Result<()> {
        let (file, path) = (file.to_string_lossy(), path.to_string_lossy());
        let mounts = format!("--mount=/proc/{}/ns/mnt", self.sshd.id());
        run("nsenter", &[&mounts, "--", "mount", "--bind", &file, &path])
    }

    /// On that machine this folder is there and empty from now on.
    pub fn hide(&self, folder: &Path) -> io::Result<()> {
        let mounts = format!("--mount=/proc/{}/ns/mnt", self.sshd.id());
        run("nsenter", &[&mounts, "--", "mount", "-t", "tmpfs", "-o", "mode=755", "hidden", &folder.to_string_lossy()])
    }

    /// A path of that machine's, from here.
    pub fn seen_there(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.sshd.id(), path.display()))
    }

    /// Ends every connection to its sshd, as where a laptop sleeps or a router forgets. Returns how many there were.
    pub fn drop_connections(&self) -> usize {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.sshd.id())).unwrap_or_default();
        let kill = |pid: &str| {
            let pid = nix::unistd::Pid::from_raw(pid.parse().ok()?);
            nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).ok()
        };
        children.split_whitespace().filter_map(kill).count()
    }

    /// It carries so many bytes a second from now on, each way.
    pub fn set_rate(&self, bytes: u64) -> io::Result<()> {
        let rate = format!("{}bit", bytes * 8);
        let limit = |dev| {
            ["tc", "qdisc", "replace", "dev", dev, "root", "tbf", "rate", &rate, "burst", "64kb", "latency", "50ms"]
        };
        run("tc", &limit(self.link.as_str())[1..])?;
        self.inside(&limit(&format!("{}w", self.link)))
    }

    /// Bytes that this machine sent to it, and got from it.
    pub fn carried(&self) -> io::Result<(u64, u64)> {
        let count = |name: &str| {
            let text = fs::read_to_string(format!("/sys/class/net/{}/statistics/{name}_bytes", self.link))?;
            text.trim().parse().map_err(io::Error::other)
        };
        Ok((count("tx")?, count("rx")?))
    }

    /// Nothing passes to it and from it any more, or again.
    pub fn set_link(&self, up: bool) -> io::Result<()> {
        run("ip", &["link", "set", &self.link, if up { "up" } else { "down" }])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
            let logs = entries(self.workers.path()).flat_map(|worker| entries(&worker.join("log")));
            eprintln!("what was said on {}:\n{}", self.host, crate::cluster::tails(logs));
        }
        self.drop_connections();
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
        // The pair goes with the namespace, where nothing else holds that.
        let _ = run("ip", &["link", "del", &self.link]);
    }
}

/// Becomes sshd once its standard input ends: in a network of its own, and a mount namespace where there is the user that
/// sshd wants. It ends with whoever started it.
fn serve(dir: &Path) -> io::Result<Child> {
    let users = fs::read_to_string("/etc/passwd")?;
    let has = users.lines().any(|line| line.starts_with("sshd:"));
    let sshd = if has { String::new() } else { "sshd:x:64999:65534::/nonexistent:/usr/sbin/nologin\n".to_owned() };
    fs::write(dir.join("passwd"), users + &sshd)?;
    let script = format!(
        "sshd=$(command -v sshd) || {{ echo no sshd in PATH: make deps; exit 1; }}; mount --bind {dir}/passwd /etc/passwd && mkdir -p -m 755 /run/sshd && echo ready && cat && \
         exec \"$sshd\" -D -e -f {dir}/sshd_config",
        dir = dir.display()
    );
    let log = fs::File::create(dir.join("sshd.log"))?;
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        "unshare",
        "--net",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
    ]);
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    command.env("PATH", path).stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log).spawn()
}

fn run(program: &str, words: &[&str]) -> io::Result<()> {
    let out = Command::new(program).args(words).stdin(Stdio::null()).output()?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    Err(io::Error::other(format!("{program} {}: {}", words.join(" "), said.trim())))
}
