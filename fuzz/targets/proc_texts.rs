//! `/proc` and the control groups of a process whose owner means ill: its name, arguments, links, maps, sockets, and
//! what the kernel's own tables hold. What is read is judged, as everywhere.
#![no_main]

use grid_core::detect::{DetectContext, judge};
use grid_fuzz::{lay_out, scratch};
use grid_os::cgroup::Hierarchies;
use grid_os::node::NodeCgroup;
use grid_os::proc::ProcRoot;
use grid_types::policy::Detector;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    grid_os::proc::fuzzing_peers(data);
    let _ = Hierarchies::parse(&String::from_utf8_lossy(data));
    let dir = scratch();
    lay_out(dir.path(), data);
    let group = NodeCgroup::unified(dir.path().join("sys/fs/cgroup"));
    let _ = (group.cpu_limit(), group.cpu_used_ns(), group.memory_limit(), group.memory_used());
    let root = ProcRoot::saved(dir.path());
    let Ok(first) = root.all_stats(None) else { return };
    let Ok(sample) = root.all_stats(Some(&first)) else { return };
    for process in sample.procs.iter().take(4) {
        let _ = (root.guest(process.id.pid), root.mount_table(process.id.pid));
        let Ok(tree) = root.tree(&sample, process.id.pid) else { continue };
        for named in [false, true] {
            let context = DetectContext { named, private_paths: vec!["/dev/shm".into()], ..Default::default() };
            let verdict = judge(&tree, &context, &Detector::default());
            assert!(
                !verdict.title.contains(['\n', '\u{1b}']),
                "a title that writes on a terminal: {:?}",
                verdict.title
            );
        }
    }
});
