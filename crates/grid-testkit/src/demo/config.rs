//! The demo's configuration: what `grid up --local 2` decides, with automatic offloading on, young processes allowed,
//! and everything protected that is not the demo's own.

use std::path::Path;

/// The file's text. `dir` is the demo's folder: programs from there, and scripts in there, may be moved, nothing else.
pub(super) fn text(dir: &Path) -> String {
    let quoted = |path: &str| serde_json::to_string(&dir.join(path).to_string_lossy()).unwrap_or_default();
    let worker = |name: &str| {
        format!(
            "  - {{name: {name}, host: {name}, role: worker, \
             resource_sharing: {{can_share: true, max_share_cpu: 2, max_share_memory_gb: 2}}}}\n"
        )
    };
    format!(
        "# Written by make demo.\n\
         name: demo\n\
         nodes:\n  \
         - {{name: head, host: head, role: head, resource_sharing: {{can_share: false}}}}\n\
         {}{}\
         execution:\n  \
         resource_sharing:\n    \
         thresholds: {{excess_threshold: 0.05}}\n    \
         auto_offload: {{mode: on}}\n\
         detector:\n  \
         min_age: 1s   # the demo's programs are young\n  \
         worth_memory: 256MiB\n  \
         rules:\n    \
         - {{name: a program of the demo, exe: {}, action: allow}}\n    \
         - {{name: a script of the demo, arg: {}, action: allow}}\n    \
         - {{name: the demo moves only its own programs, comm: \"*\", action: protect}}\n",
        worker("gpu1"),
        worker("gpu2"),
        quoted("bin/*"),
        quoted("bin/*.py"),
    )
}
