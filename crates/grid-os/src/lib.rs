//! The kernel and CRIU: procfs, PSI, cgroups, namespaces, NVML. The only home of `unsafe`.

pub mod cgroup;
pub mod clock;
pub mod criu;
pub mod frames;
pub mod gpu;
pub mod node;
pub mod pidfd;
pub mod proc;
pub mod spawn;
pub mod tree_init;
pub mod wait;
