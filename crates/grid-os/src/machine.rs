//! What of this machine a process notices: its kernel, its CPUs, its users.

use crate::users;
use grid_types::machine::{UserHere, UserThere};
use std::collections::BTreeSet;

/// Architecture and release of the kernel.
pub fn kernel() -> (String, String) {
    let text = |s: &std::ffi::OsStr| s.to_string_lossy().into_owned();
    nix::sys::utsname::uname().map_or_else(
        |_| (std::env::consts::ARCH.to_owned(), String::new()),
        |uts| (text(uts.machine()), text(uts.release())),
    )
}

/// Features that every CPU has; none where they cannot be read.
pub fn cpu_features() -> BTreeSet<String> {
    features(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
}

/// `flags` on x86, `Features` on ARM: of each CPU a line.
fn features(cpuinfo: &str) -> BTreeSet<String> {
    let lines = cpuinfo.lines().filter(|l| l.starts_with("flags") || l.starts_with("Features"));
    let sets = lines.filter_map(|l| Some(l.split_once(':')?.1.split_whitespace().map(str::to_owned).collect()));
    sets.reduce(|all: BTreeSet<String>, cpu| all.intersection(&cpu).cloned().collect()).unwrap_or_default()
}

/// Who this user of another machine is here.
pub fn user(user: &UserHere) -> UserThere {
    let by_name = user.name.as_ref().and_then(|name| users::user_named(name).ok().flatten());
    UserThere { name: users::name_of(user.uid), uid: by_name.as_ref().map(|u| u.uid), gid: by_name.map(|u| u.gid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_counts_where_every_cpu_has_it() {
        let of = |text| features(text).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(of("flags\t\t: fpu avx2 sse\nbugs\t: x\nflags\t\t: sse fpu\n"), "fpu sse");
        assert_eq!(of("Features\t: fp asimd\n"), "asimd fp");
        assert_eq!(of("model name : x\n"), "");
    }

    #[test]
    fn this_machine_is_known() {
        let (arch, release) = kernel();
        assert!(!arch.is_empty() && release.contains('.'), "{arch} {release}");
        let root = user(&UserHere { uid: 0, gid: 0, name: Some("root".into()) });
        assert_eq!(root, UserThere { name: Some("root".into()), uid: Some(0), gid: Some(0) });
    }
}
