//! The wire between a shadow and a far, as each distrusts the other; records, and the snapshot of another lender's far.
//! Nothing takes more memory than its windows, whatever arrives.
#![no_main]

use grid_shadow::mux::{Bounds, Mux, Order, Report, Snapshot};
use libfuzzer_sys::fuzz_target;

const BOUNDS: Bounds = Bounds { window: 4096, retain: 1024 };

fn end(generation: u64) -> Mux {
    let mut mux = Mux::new(generation);
    mux.add_sender(1, BOUNDS);
    mux.add_receiver(1, BOUNDS.window);
    mux.add_receiver(2, BOUNDS.window);
    mux.write_space(1, 3000, 0).fill(7);
    mux.wrote(1, 3000);
    let channel = mux.next_connection().expect("the first");
    mux.open(channel, BOUNDS, false).expect("the first");
    mux
}

/// Takes what arrives in pieces, answers between them, and says whether it was all understood.
fn take(mux: &mut Mux, mut rest: &[u8], piece: usize) -> bool {
    while !rest.is_empty() {
        let space = mux.space();
        assert!(!space.is_empty());
        let n = space.len().min(rest.len()).min(piece);
        space[..n].copy_from_slice(&rest[..n]);
        if mux.filled(n).is_err() {
            return false;
        }
        rest = &rest[n..];
        let out: usize = mux.output().iter().map(|s| s.len()).sum();
        mux.sent(out.min(piece));
        let pending = mux.pending(1).0.len();
        mux.delivered(1, pending / 2);
        if mux.end_is_due(1) {
            mux.delivered_end(1);
        }
        mux.newly_broken();
    }
    true
}

fn records(mux: &mut Mux) {
    while let Ok(Some((order, len))) = mux.next_record::<Order>() {
        assert!(mux.say(&order));
        mux.heard(len);
    }
    while let Ok(Some((_, len))) = mux.next_record::<Report>() {
        mux.heard(len);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let piece = usize::from(first >> 1).max(1) * 64;
    let mut far = end(1);
    far.connect(1);
    if first & 1 == 0 {
        take(&mut far, rest, piece);
    } else {
        // From an honest peer: its greeting, and what the input says as a record.
        let mut home = Mux::new(0);
        home.add_sender(1, BOUNDS);
        home.add_receiver(1, BOUNDS.window);
        home.add_sender(2, BOUNDS);
        home.connect(1);
        let hello = home.output().concat();
        assert!(take(&mut far, &hello, piece));
        let len = rest.len().min(20 << 10);
        let mut frame = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        frame.extend((len as u32).to_le_bytes());
        frame.extend(&rest[..len]);
        take(&mut far, &frame, piece);
        records(&mut far);
    }
    assert!(far.memory() <= 8 * BOUNDS.window + (128 << 10) + (64 << 10));
    far.shrink();
    if let Ok(snapshot) = serde_json::from_slice::<Snapshot>(rest) {
        let mut next = Mux::new(2);
        next.add_sender(1, BOUNDS);
        next.add_receiver(1, BOUNDS.window);
        next.add_receiver(2, BOUNDS.window);
        if next.adopt(&snapshot, |_| BOUNDS).is_ok() {
            next.connect(2);
            next.output();
            assert_eq!(next.snapshot(|_| 0).read, snapshot.read);
        }
    }
});
