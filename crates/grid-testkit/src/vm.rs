//! Virtual machines with a kernel and a disk of their own (`scripts/install-vm`), in qemu's software emulation. Owns their
//! start, what is run in them, the link between two, and their end.
//!
//! Each has a small Debian with systemd and pure cgroup v2. What they write goes to a layer of their own, which stays over a
//! power cut and is gone with the machine.

use crate::coverage::list::project;
use crate::scratch::Scratch;
use std::io::{self, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Emulated, on a busy machine, it takes a minute or two until sshd answers.
const BOOTS_WITHIN: Duration = Duration::from_secs(300);
const MEMORY_MIB: &str = "1536";
/// The cable between machines: they are numbered from one.
const LINK: &str = "10.9.0";

/// Two ports of this machine, between which a cable is laid.
pub struct Cable([u16; 2]);

impl Cable {
    /// A free one.
    pub fn new() -> io::Result<Self> {
        Ok(Self([free_port()?, free_port()?]))
    }
}

/// A machine.
pub struct Vm {
    number: usize,
    dir: Scratch,
    port: u16,
    qemu: Child,
    words: Vec<String>,
}

impl Vm {
    /// Where `make test-vm` was not asked for there is no disk: says so, and what to do.
    pub fn disk() -> Result<PathBuf, String> {
        let disk = project().join(".grid/vm/disk.img");
        if disk.exists() { Ok(disk) } else { Err("no disk of virtual machines: make test-vm".into()) }
    }

    /// Starts machine 1 or 2, on its end of the cable. It ends with the thread that started it.
    pub fn start(number: usize, cable: &Cable) -> Result<Self, String> {
        let place = Self::disk()?.with_file_name("");
        let dir = Scratch::within(Path::new("/var/tmp")).map_err(|e| e.to_string())?;
        let port = free_port().map_err(|e| e.to_string())?;
        let layer = dir.join("layer.qcow2");
        let base = place.join("disk.img").canonicalize().map_err(|e| e.to_string())?;
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .args([&base, &layer])
            .status()
            .map_err(|e| format!("qemu-img: {e}"))?;
        if !made.success() {
            return Err("qemu-img could not make a layer".into());
        }
        let words = words(number, port, &place, &layer, cable);
        let qemu = start(&words, &dir)?;
        Ok(Self { number, dir, port, qemu, words })
    }

    /// Its address on the cable.
    pub fn address(number: usize) -> String {
        format!("{LINK}.{number}")
    }

    /// As when the plug is pulled: nothing is written or told any more.
    pub fn power_cut(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        let _ = self.ssh().args(["-O", "exit"]).stderr(Stdio::null()).status();
    }

    /// Starts it again, with what it had written to its disk.
    pub fn boot_again(&mut self) -> Result<(), String> {
        self.qemu = start(&self.words, &self.dir)?;
        self.wait_up()
    }

    /// Runs a script in it as root, and returns what it printed; else everything that it said.
    pub fn run(&self, script: &str) -> Result<String, String> {
        let mut child = self
            .ssh()
            .args(["sh", "-s"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("ssh: {e}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(script.as_bytes());
        }
        let output = child.wait_with_output().map_err(|e| format!("ssh: {e}"))?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(out.into_owned()) } else { Err(format!("machine {}: {out}{err}", self.number)) }
    }

    /// Waits until a script succeeds there; its last words where it never does.
    pub fn wait(&self, what: &str, limit: Duration, script: &str) -> Result<String, String> {
        let end = Instant::now() + limit;
        loop {
            match self.run(script) {
                Err(e) if Instant::now() > end => return Err(format!("waiting for {what}: {e}")),
                Err(_) => std::thread::sleep(Duration::from_millis(300)),
                done => return done,
            }
        }
    }

    /// Lays programs into a folder there.
    pub fn put(&self, files: &[&Path], folder: &str) -> Result<(), String> {
        self.run(&format!("mkdir -p {folder}"))?;
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let from = std::fs::File::open(file).map_err(|e| format!("{}: {e}", file.display()))?;
            let mut ssh = self.ssh();
            ssh.arg(format!("cat >{folder}/{name} && chmod 755 {folder}/{name}")).stdin(from);
            let done = ssh.status().map_err(|e| format!("ssh: {e}"))?;
            if !done.success() {
                return Err(format!("{name} could not be laid into machine {}", self.number));
            }
        }
        Ok(())
    }

    /// Waits until it can be spoken to, also over the cable.
    pub fn wait_up(&mut self) -> Result<(), String> {
        let end = Instant::now() + BOOTS_WITHIN;
        let number = self.number;
        // The cable's interface goes by the hardware address that it was given.
        let link = format!(
            "for n in /sys/class/net/*; do grep -q {} $n/address && d=${{n##*/}}; done; ip link set $d up && \
             {{ ip -4 addr show dev $d | grep -q {LINK} || ip addr add {LINK}.{number}/24 dev $d; }}; \
             hostname machine{number}",
            hardware(number)
        );
        loop {
            if let Ok(Some(status)) = self.qemu.try_wait() {
                return Err(format!("machine {number} ended: {status}; {}", self.console()));
            }
            match self.run(&link) {
                Ok(_) => return Ok(()),
                Err(e) if Instant::now() > end => return Err(format!("{e}; {}", self.console())),
                Err(_) => std::thread::sleep(Duration::from_secs(1)),
            }
        }
    }

    fn console(&self) -> String {
        let text = std::fs::read(self.dir.join("console")).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]).into_owned()
    }

    fn ssh(&self) -> Command {
        let mut ssh = Command::new("ssh");
        // It is ours and a moment old: there is no key of it that anybody could know.
        let fixed = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=20"];
        ssh.args(fixed.iter().flat_map(|o| ["-o", o])).args(["-F", "none", "-o", "ControlMaster=auto"]);
        ssh.arg("-o").arg(format!("ControlPath={}", self.dir.join("ssh").display())).args(["-o", "ControlPersist=600"]);
        ssh.arg("-i").arg(project().join(".grid/vm/key")).args(["-p", &self.port.to_string(), "root@127.0.0.1"]);
        ssh.stdin(Stdio::null());
        ssh
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.power_cut();
    }
}

fn start(words: &[String], dir: &Path) -> Result<Child, String> {
    let console = std::fs::File::create(dir.join("console")).map_err(|e| e.to_string())?;
    let again = console.try_clone().map_err(|e| e.to_string())?;
    // Its end is the test's end, also where that is killed.
    let mut qemu = Command::new("setpriv");
    qemu.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]).args(words);
    qemu.stdin(Stdio::null()).stdout(console).stderr(again).spawn().map_err(|e| format!("qemu: {e}"))
}

fn words(number: usize, port: u16, place: &Path, layer: &Path, cable: &Cable) -> Vec<String> {
    let (ours, other) = (cable.0[number - 1], cable.0[2 - number]);
    let append = "root=/dev/vda rw console=ttyS0 quiet mitigations=off psi=1 systemd.unified_cgroup_hierarchy=1";
    let fixed = "-accel tcg,thread=multi -cpu max -smp 2 -nographic -monitor none -no-reboot -device virtio-rng-pci -m";
    let mut words: Vec<String> = fixed.split(' ').map(str::to_owned).collect();
    words.push(MEMORY_MIB.into());
    for (option, value) in [
        ("-kernel", place.join("kernel").display().to_string()),
        ("-initrd", place.join("initrd").display().to_string()),
        ("-append", append.into()),
        ("-drive", format!("file={},if=virtio,format=qcow2,cache=unsafe", layer.display())),
        ("-netdev", format!("user,id=control,hostfwd=tcp:127.0.0.1:{port}-:22")),
        ("-device", "virtio-net-pci,netdev=control".into()),
        ("-netdev", format!("socket,id=cable,udp=127.0.0.1:{other},localaddr=127.0.0.1:{ours}")),
        ("-device", format!("virtio-net-pci,netdev=cable,mac={}", hardware(number))),
    ] {
        words.extend([option.to_owned(), value]);
    }
    words
}

/// Hardware address of the cable's end.
fn hardware(number: usize) -> String {
    format!("52:54:00:09:00:{number:02x}")
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
