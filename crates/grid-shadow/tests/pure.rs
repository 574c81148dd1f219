//! The protocol decides and does nothing else. `clippy.toml` holds for a whole crate; this holds for `src/mux`.

use std::path::Path;

const FORBIDDEN: [&str; 8] =
    ["std::fs", "std::net", "std::os", "std::process", "std::thread", "std::time", "nix::", "grid_os"];

#[test]
fn the_protocol_touches_no_descriptor_clock_or_thread() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/mux");
    let mut files = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for word in FORBIDDEN {
            assert!(!text.contains(word), "{} names {word}", path.display());
        }
        files += 1;
    }
    assert!(files >= 8);
}
