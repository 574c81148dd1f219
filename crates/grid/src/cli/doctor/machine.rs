//! Rights, kernel, control groups, network, GPUs, the state directory.

use super::{About, Check, program};
use grid_os::cgroup::{Controller, Hierarchies};
use grid_os::gpu::GpuReader;
use grid_types::facts::Gpus;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: About = About::needed("root", "everything that moves or limits processes", "run grid with sudo");
/// The user's rights.
pub(super) fn rights() -> Vec<Check> {
    let uid = nix::unistd::geteuid();
    vec![ROOT.is_for_root(uid.is_root(), format!("uid {uid}"))]
}

/// What the kernel offers.
pub(super) fn kernel() -> Vec<Check> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let known = |there: bool| if there { "there" } else { "not there" };
    let mut all = vec![];
    let exists = |about: About, path: &str| about.is(Path::new(path).exists(), known(Path::new(path).exists()));
    let uffd = About::needed("userfaultfd", "filling a moved process's memory", "a kernel with CONFIG_USERFAULTFD");
    // The switch for ordinary users is of no consequence for root; that it exists says that the kernel has the call.
    all.push(exists(uffd, "/proc/sys/vm/unprivileged_userfaultfd"));
    let pidfd = About::needed("pidfd", "signals and waits that cannot hit another process", "Linux 5.3 or newer");
    let open = grid_os::pidfd::PidFd::open(nix::unistd::getpid().as_raw());
    all.push(pidfd.is(open.is_ok(), format!("Linux {}", release.trim())));
    let time = About::needed(
        "time namespaces",
        "a monotonic clock that goes on after a move",
        "Linux 5.6 with CONFIG_TIME_NS",
    );
    all.push(exists(time, "/proc/self/ns/time"));
    let spaces = ["pid", "mnt", "net", "ipc"].map(|n| format!("/proc/self/ns/{n}"));
    let spaces = spaces.iter().all(|p| Path::new(p).exists());
    let about =
        About::needed("namespaces", "workers and trees with numbers of their own", "a kernel with CONFIG_NAMESPACES");
    all.push(about.is(spaces, format!("pid mnt net ipc {}", known(spaces))));
    all.push(psi());
    all.push(pid_max());
    all
}

fn psi() -> Check {
    let about = About::wanted("PSI", "seeing a shortage as it begins", "boot with psi=1 (CONFIG_PSI)");
    match fs::read_to_string("/proc/pressure/memory") {
        Ok(text) => about.is(true, text.split(" avg60").next().unwrap_or_default().to_owned()),
        Err(e) => about.is(false, format!("/proc/pressure/memory: {e}")),
    }
}

/// CRIU's helpers start above a million, so that they never take a number that the moved tree needs.
fn pid_max() -> Check {
    const NEEDED: u64 = 1_048_576;
    let about =
        About::wanted("pid_max", "numbers of moved processes that do not collide", "sysctl kernel.pid_max=4194304");
    let value = fs::read_to_string("/proc/sys/kernel/pid_max").ok().and_then(|t| t.trim().parse::<u64>().ok());
    about.is(value.is_some_and(|v| v >= NEEDED), value.map_or_else(|| "-".to_owned(), |v| v.to_string()))
}

/// Control groups, v1 or v2.
pub(super) fn cgroups() -> Vec<Check> {
    const GET: &str = "mount cgroup2 at /sys/fs/cgroup with this controller enabled";
    let all = [
        (Controller::Cpu, About::needed("cgroup cpu", "a lease's CPUs", GET)),
        (Controller::Memory, About::needed("cgroup memory", "a lease's memory", GET)),
        (Controller::Freezer, About::needed("cgroup freezer", "holding a copy that must not run", GET)),
    ];
    let found = Hierarchies::detect();
    let check = |(controller, about): (Controller, About)| match &found {
        Err(e) => about.is(false, format!("/proc/self/mountinfo: {e}")),
        Ok(h) => match h.mount(controller) {
            None => about.is(false, "not mounted"),
            Some(at) => {
                let version = if h.is_v2(controller) { "v2" } else { "v1" };
                about.is(true, format!("{version} {}", at.display()))
            }
        },
    };
    all.into_iter().map(check).collect()
}

/// Network tools, GPUs, the state directory.
pub(super) fn rest(state_dir: &Path) -> Vec<Check> {
    vec![ip(), veth(), gpus(), state(state_dir)]
}

fn ip() -> Check {
    let about = About::needed("ip", "networks of local workers (grid up --local)", "install iproute2");
    let path = program("ip");
    about.is(path.is_some(), path.map_or_else(|| "not in PATH".to_owned(), |p| p.display().to_string()))
}

fn veth() -> Check {
    let about = About::wanted("veth", "networks of local workers (grid up --local)", "modprobe veth");
    let loaded = Path::new("/sys/module/veth").exists();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let modules = PathBuf::from("/lib/modules").join(release.trim());
    let listed = |file: &str| fs::read_to_string(modules.join(file)).is_ok_and(|t| t.contains("/veth.ko"));
    let symbol = || fs::read_to_string("/proc/kallsyms").is_ok_and(|t| t.contains(" veth_newlink"));
    match (loaded, listed("modules.builtin"), listed("modules.dep")) {
        (true, ..) => about.is(true, "loaded"),
        (_, true, _) => about.is(true, "built in"),
        (_, _, true) => about.is(true, "a module; loaded when it is used"),
        _ if symbol() => about.is(true, "built in"),
        // A kernel without modules tells nothing; whether it works shows when a worker starts.
        _ => about.is(false, "- (the kernel does not tell)"),
    }
}

fn gpus() -> Check {
    let about = About::wanted("GPUs", "lending GPUs", "a driver with NVML; without a GPU there is nothing to do");
    match GpuReader::open().read() {
        Gpus::None => about.is(false, "none"),
        Gpus::Unknown(why) => about.is(false, format!("- ({why})")),
        Gpus::Present(all) => {
            let names: Vec<_> = all.iter().map(|g| g.name.as_str()).collect();
            about.is(true, format!("{}: {}", names.len(), names.join(", ")))
        }
    }
}

/// The directory, or the nearest one above it that exists, can be written.
fn state(dir: &Path) -> Check {
    use nix::unistd::{AccessFlags, access};
    let about =
        About::needed("state directory", "what survives a restart", "run as root, or choose another: --state DIR");
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let Some(there) = absolute.ancestors().find(|p| p.exists()) else { return about.is(false, "-") };
    let well = there.is_dir() && access(there, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
    let made = if there == absolute { "" } else { ", made at the first start" };
    let found =
        if well { format!("{}{made}", dir.display()) } else { format!("{} cannot be written", there.display()) };
    about.is_for_root(well, found)
}
