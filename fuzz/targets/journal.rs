//! The head's journal: any lines, folded. An event is applied or refused whole; nobody who asks the state afterwards
//! panics.
#![no_main]

use grid_core::state::State;
use grid_types::event::EventRecord;
use grid_types::{BootMs, Millis, NodeName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut state = State::new(4);
    for line in data.split(|b| *b == b'\n').take(64) {
        let Ok(mut record) = serde_json::from_slice::<EventRecord>(line) else { continue };
        // Numbers in order are what a journal has; keeping them so lets the events themselves be reached.
        if record.seq % 16 != 0 {
            record.seq = state.next_seq();
        }
        let before = state.clone();
        match state.apply(&record) {
            Ok(()) => ask(&state),
            Err(e) => {
                assert_eq!(before, state, "refused ({e}) and yet changed");
            }
        }
    }
});

fn ask(state: &State) {
    for node in state.boosts.values().flat_map(|b| [&b.lender, &b.borrower]).chain([&NodeName::from("head")]) {
        let _ = (state.lent_by(node), state.promised(node), state.leases_of(node), state.boosted(node));
    }
    for boost in state.boosts.keys() {
        let _ = (state.lease_free(boost), state.guests_at_end(boost));
    }
    let _ = (state.away(), state.busy(Millis(30_000), BootMs(u64::MAX)), state.busy(Millis(u64::MAX), BootMs(0)));
    let _ = state.metrics.prometheus();
}
