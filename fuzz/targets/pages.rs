//! CRIU's page-server protocol from a hostile source: what is kept is what was admitted, at addresses that a process has.
#![no_main]

use grid_fuzz::{Sent, scratch};
use grid_os::criu::{Arena, receive_pages};
use libfuzzer_sys::fuzz_target;

const LIMIT: u64 = 64 << 10;

fuzz_target!(|data: &[u8]| {
    let outer = scratch();
    let dir = outer.path().join("images");
    std::fs::create_dir(&dir).expect("fresh");
    let got = receive_pages(&mut Sent(data), &dir, Arena::with_room(0).expect("nothing"), LIMIT);
    assert_eq!(std::fs::read_dir(outer.path()).expect("there").count(), 1, "something lies beside the images");
    let mut files = 0;
    for entry in std::fs::read_dir(&dir).expect("there") {
        let entry = entry.expect("there");
        let name = entry.file_name().into_string().expect("plain names only");
        assert!(name.starts_with("pages-") || name.starts_with("pagemap-"), "{name}");
        if name.starts_with("pages-") {
            files += entry.metadata().expect("there").len();
        }
    }
    assert!(files <= LIMIT, "{files} bytes in files");
    let Ok(got) = got else { return };
    let runs = got.runs.values().flatten();
    let kept: u64 = runs.clone().map(|r| r.len).sum();
    assert!(got.bytes <= LIMIT && kept + files == got.bytes, "{kept} + {files} of {}", got.bytes);
    for run in runs {
        assert!(run.len > 0 && run.vaddr.checked_add(run.len).is_some() && run.vaddr % 4096 == 0, "{run:?}");
    }
    assert!(got.runs.keys().all(|pid| *pid > 0));
});
