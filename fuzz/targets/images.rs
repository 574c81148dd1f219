//! The small images of a checkpoint, as a hostile source sends them: they land in their directory, under CRIU's names.
#![no_main]

use grid_fuzz::{Sent, scratch};
use grid_os::criu::{pages_written, receive_images};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let outer = scratch();
    let dir = outer.path().join("images");
    std::fs::create_dir(&dir).expect("fresh");
    let got = receive_images(&dir, &mut Sent(data));
    let outside = std::fs::read_dir(outer.path()).expect("there").count();
    assert_eq!(outside, 1, "something lies beside the directory of the images");
    let mut total = 0;
    for entry in std::fs::read_dir(&dir).expect("there") {
        let entry = entry.expect("there");
        let name = entry.file_name().into_string().expect("plain names only");
        assert!(name.ends_with(".img") || name == "stats-dump", "{name}");
        assert!(!name.starts_with("pages-") && !name.starts_with("pagemap-"), "{name}");
        total += entry.metadata().expect("there").len();
    }
    assert!(total <= data.len() as u64, "{total} bytes out of {}", data.len());
    if let Ok(said) = got {
        assert_eq!(said, total);
    }
    let _ = pages_written(&dir);
});
