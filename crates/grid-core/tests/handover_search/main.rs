//! The exhaustive search over the handover (design section 5): the shipped machines in every order of everything that
//! can happen to them, up to a bounded number of faults on one path.
//!
//! ```text
//!   breadth first: World ── each move ──► World      a move that breaks an invariant: violation, with its trace
//!   then backwards from the settled worlds, over fair moves only: a world that is not reached is stuck
//! ```
//!
//! Explored: messages in any order, lost, repeated (any number of times) and late from an older attempt; an agent's
//! crash between any two actions of a list; reboots of either machine; a destination that comes back with an empty
//! ledger; a dump that fails, or ends whole with its tree not held; copies killed; cancel, deadline, broken link, the
//! fence, a person's decision. Then each rule is broken on purpose, and the search has to find out.

mod machines;
mod moves;
mod search;
mod world;

use search::{Found, search};

/// Rules broken on purpose. All `false` is what is shipped.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    source_thaws_on_link_loss: bool,
    destination_ignores_attempts: bool,
    engine_word_is_proof: bool,
    speak_before_persist: bool,
    destination_speaks_before_persist: bool,
    unknown_is_never_ran: bool,
    staged_goes_on_at_reboot: bool,
    silence_can_be_overruled: bool,
    never_asks_again: bool,
}

fn violation(rules: Rules, faults: u8) -> Vec<&'static str> {
    let found = search(rules, 2, faults);
    println!("{rules:?}: {found}");
    found.violations()
}

#[test]
fn no_fault_breaks_the_handover() {
    for (attempts, faults, floor) in [(1, 0, 100), (1, 1, 100), (1, 2, 100), (1, 3, 100), (2, 0, 100), (2, 1, 100)] {
        let found = search(Rules::default(), attempts, faults);
        println!("attempts {attempts} faults {faults}: {found}");
        let Found::Clean { states, .. } = found else { panic!("{found}") };
        assert!(states >= floor, "the search has become trivial: {states} states with {faults} faults");
    }
}

#[test]
fn a_source_that_thaws_itself_runs_it_twice() {
    let rules = Rules { source_thaws_on_link_loss: true, ..Rules::default() };
    assert!(!violation(rules, 1).is_empty());
}
