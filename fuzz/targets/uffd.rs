//! The greeting of CRIU's lazy restore: numbers of processes, each with a descriptor, and faults that are read off it.
#![no_main]

use grid_fuzz::{Sent, scratch};
use grid_os::criu::{Arena, fuzzing, receive_pages};
use libfuzzer_sys::fuzz_target;

/// An object of process 7 with two lazy pages, and the end.
fn pages() -> Vec<u8> {
    let command = |word: u32, pages: u64, vaddr: u64, id: u64| {
        let mut bytes = word.to_ne_bytes().to_vec();
        bytes.extend([0u8; 4]);
        [pages, vaddr, id].iter().for_each(|n| bytes.extend(n.to_ne_bytes()));
        bytes
    };
    [command(4, 0, 0, 7 << 8 | 1), command(6 | 6 << 16, 2, 0x7000, 0), vec![1; 8192], command(0x1023, 0, 0, 0)].concat()
}

fuzz_target!(|data: &[u8]| {
    let dir = scratch();
    let arena = Arena::with_room(0).expect("nothing");
    let pages = receive_pages(&mut Sent(&pages()), dir.path(), arena, 8192).expect("an honest stream");
    // No descriptor here is a userfaultfd, so nothing can have been filled.
    assert!(fuzzing::lazy(data, &pages).is_err());
});
