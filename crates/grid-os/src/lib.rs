//! The kernel and CRIU: procfs, PSI, cgroups, namespaces, NVML. The only home of `unsafe`.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))] // they panic where the reader has gone

pub mod access;
pub mod activity;
pub mod ballast;
pub mod cgroup;
pub mod clock;
pub mod criu;
pub mod descriptors;
mod desktops;
pub mod file_lock;
pub mod file_seen;
pub mod frames;
pub mod getent;
pub mod gpu;
pub mod inplace;
pub mod launch;
pub mod lend;
pub mod link;
pub mod listen;
pub mod machine;
pub mod mount;
pub mod node;
pub mod order;
pub mod packets;
pub mod peer;
pub mod pidfd;
pub mod poll;
pub mod private_tmp;
pub mod proc;
pub mod random;
pub mod rights;
pub mod seccomp;
pub mod signals;
pub mod socket;
pub mod spawn;
pub mod stop;
pub mod terminal;
pub mod tree_init;
pub mod users;
pub mod wait;
pub mod watched;

/// Makes a file that only its owner may read, or takes the others' rights from it. Its content stays as it is.
pub fn private_file(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}
