//! Pid 1 of a worker of the embedded cluster: its private places, and its agent, started again when it ends.

use grid_agent::AgentConfig;
use grid_types::exit::FaultClass;
use nix::mount::{MsFlags, mount};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// An agent that ends sooner than this is started again only after a pause.
const TOO_SOON: Duration = Duration::from_secs(1);

/// Body of `grid node-init NAME AGENT-CONFIG`. Returns only with an error.
pub fn node_init(name: &str, agent_config: &Path) -> io::Result<()> {
    nix::sys::prctl::set_name(c"grid-node-init")?;
    nix::unistd::sethostname(name)?;
    private_places()?;
    run("ip", &["link", "set", "lo", "up"])?;
    // Loopback is up and everything is in its place: the supervisor may go on.
    nix::unistd::write(io::stdout(), b"ready\n")?;
    // From here on it only starts its agent and reaps: it holds nothing, and its agent no more than the table says.
    grid_os::rights::hold_none_hand_on(&grid_os::rights::AGENT)?;
    let mut program = std::env::current_exe()?;
    let mut first = true;
    loop {
        let started = Instant::now();
        // Another grid may have taken the cluster over.
        program = program_of(agent_config).unwrap_or(program);
        let agent = Command::new(&program).arg("agent").arg("--config").arg(agent_config).spawn()?;
        let code = reap_until(agent.id() as i32)?;
        // Its ledger cannot be used. Nothing lives here yet; later this process stays whatever its agent does, because
        // all that lives here would end with it.
        if first && code == Some(i32::from(FaultClass::State.code())) {
            std::process::exit(i32::from(FaultClass::State.code())); // the agent has said why
        }
        first = false;
        if started.elapsed() < TOO_SOON {
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

/// The program that is to be the agent now.
fn program_of(agent_config: &Path) -> Option<PathBuf> {
    let config: AgentConfig = serde_json::from_str(&std::fs::read_to_string(agent_config).ok()?).ok()?;
    Some(config.program).filter(|program| program.exists())
}

/// Its own `/proc`, `/dev/shm`, `/run` and terminals. The disk is the machine's, and declared so.
fn private_places() -> io::Result<()> {
    let none: Option<&str> = None;
    let guarded = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("proc"), "/proc", Some("proc"), guarded | MsFlags::MS_NOEXEC, none)?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), guarded, Some("mode=755"))?;
    if Path::new("/dev/shm").is_dir() {
        mount(Some("tmpfs"), "/dev/shm", Some("tmpfs"), guarded, Some("mode=1777"))?;
    }
    if Path::new("/dev/pts").is_dir() {
        let options = "newinstance,ptmxmode=0666,mode=0620";
        mount(Some("devpts"), "/dev/pts", Some("devpts"), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, Some(options))?;
    }
    Ok(())
}

/// Reaps everything until this child has ended; its exit code, where it has one.
fn reap_until(child: i32) -> io::Result<Option<i32>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::empty())) {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == child => return Ok(Some(code)),
            Ok(status) if status.pid().map(nix::unistd::Pid::as_raw) == Some(child) => return Ok(None),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Runs a tool and turns its failure into an error that says what it said.
pub(crate) fn run(program: &str, args: &[&str]) -> io::Result<()> {
    let out = Command::new(program).args(args).output().map_err(|e| io::Error::other(format!("{program}: {e}")))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    Err(io::Error::other(format!("{program} {}: {}", args.join(" "), said.trim())))
}
