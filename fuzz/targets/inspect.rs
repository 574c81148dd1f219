//! Images as CRIU would read them, sent by somebody who decides every byte: inspected before any CRIU sees them, and
//! corrected where they are sent on. Input: the stream of images.
#![no_main]

use grid_fuzz::{Sent, scratch};
use grid_os::access::hold;
use grid_os::criu::{Announced, inspect, receive_images, send_images};
use grid_os::spawn::Owner;
use libfuzzer_sys::fuzz_target;
use std::os::fd::AsFd;

fuzz_target!(|data: &[u8]| {
    let dir = scratch();
    // What arrived before the stream broke off is looked at all the same.
    let _ = receive_images(dir.path(), &mut Sent(data));
    let root = hold("/").expect("there is a root");
    let announced = Announced {
        private_tmp: true,
        owner: Owner { uid: 65534, gid: 65534 },
        groups: &[],
        processes: 1,
        threads: 1,
        executables: &["/usr/bin/sleep".to_owned()],
        limits: &[u64::MAX; 16],
        closed: &["/dev/shm".to_owned()],
        root: root.as_fd(),
        close_tcp: data.len() % 3 == 1,
        terminal: data.len() % 2 == 1,
    };
    if let Err(e) = inspect(dir.path(), &announced) {
        assert!(e.to_string().len() < 4096, "an error as long as what it is about: {}", e.to_string().len());
    }
    let mut sent = Vec::new();
    let _ = send_images(dir.path(), false, &mut sent);
    sent.clear();
    let _ = send_images(dir.path(), true, &mut sent);
});
