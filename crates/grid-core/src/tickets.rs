//! Tickets: who may open the connection that carries the memory of one attempt, once.
//!
//! The hub hands one to each worker that an attempt names, with the frame that tells it to dial; the worker shows it when it
//! dials, and it is spent. They live in memory alone: whoever restarts has none open, and an attempt that had not its
//! connection by then has no commit either.

use grid_types::{AttemptId, NodeName};
use std::collections::BTreeMap;

/// So many may be open: the oldest goes. Each is of a move that was ordered and did not dial.
const MOST: usize = 1024;

/// Why one is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// None is open for that attempt and node: it was never handed out, or is spent.
    #[error("no ticket of this attempt's is open: it was used, or never given")]
    NoneOpen,
    /// It is not the one that is open, which stays so.
    #[error("its ticket is not the one that was given")]
    Another,
}

/// Those that were handed out and are not spent.
#[derive(Clone, Debug, Default)]
pub struct Tickets {
    open: BTreeMap<(AttemptId, NodeName), (u64, String)>,
    handed_out: u64,
}

impl Tickets {
    /// The one of this attempt for this node: the same until it is spent, so that a frame may be said again. `fresh` must be
    /// nothing that anybody can guess.
    pub fn hand_out(&mut self, attempt: &AttemptId, node: &NodeName, fresh: String) -> String {
        let place = (attempt.clone(), node.clone());
        if let Some((_, open)) = self.open.get(&place) {
            return open.clone();
        }
        if self.open.len() >= MOST {
            let oldest = self.open.iter().min_by_key(|(_, (number, _))| *number).map(|(place, _)| place.clone());
            oldest.map(|place| self.open.remove(&place));
        }
        self.handed_out += 1;
        self.open.insert(place, (self.handed_out, fresh.clone()));
        fresh
    }

    /// It is shown, and counts no more from now on.
    ///
    /// # Errors
    /// It does not count.
    pub fn spend(&mut self, attempt: &AttemptId, node: &NodeName, shown: &str) -> Result<(), Refused> {
        let place = (attempt.clone(), node.clone());
        let (_, open) = self.open.get(&place).ok_or(Refused::NoneOpen)?;
        // Every byte is compared, so that the time taken tells nothing.
        let same = shown.len() == open.len()
            && !open.is_empty()
            && shown.bytes().zip(open.bytes()).fold(0, |d, (a, b)| d | (a ^ b)) == 0;
        if !same {
            return Err(Refused::Another);
        }
        self.open.remove(&place);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(attempt: &str, node: &str) -> (AttemptId, NodeName) {
        (attempt.into(), node.into())
    }

    #[test]
    fn one_is_good_once_for_its_attempt_and_its_node() {
        let mut tickets = Tickets::default();
        let (a, n) = of("o-1.1", "gpu1");
        assert_eq!(tickets.hand_out(&a, &n, "x1".into()), "x1");
        assert_eq!(tickets.hand_out(&a, &n, "x2".into()), "x1", "said again");
        let (b, m) = of("o-1.2", "gpu2");
        assert_eq!(tickets.spend(&a, &m, "x1"), Err(Refused::NoneOpen));
        assert_eq!(tickets.spend(&b, &n, "x1"), Err(Refused::NoneOpen));
        for wrong in ["", "x", "x2", "x11"] {
            assert_eq!(tickets.spend(&a, &n, wrong), Err(Refused::Another), "{wrong}");
        }
        assert_eq!(tickets.spend(&a, &n, "x1"), Ok(()));
        assert_eq!(tickets.spend(&a, &n, "x1"), Err(Refused::NoneOpen), "replayed");
        // A worker whose agent was killed is told again, and gets another.
        assert_eq!(tickets.hand_out(&a, &n, "x3".into()), "x3");
        assert_eq!(tickets.spend(&a, &n, "x1"), Err(Refused::Another));
        assert_eq!(tickets.spend(&a, &n, "x3"), Ok(()));
    }

    #[test]
    fn an_empty_one_opens_nothing() {
        let mut tickets = Tickets::default();
        let (a, n) = of("o-1.1", "gpu1");
        tickets.hand_out(&a, &n, String::new());
        assert_eq!(tickets.spend(&a, &n, ""), Err(Refused::Another));
    }

    #[test]
    fn those_that_nobody_used_are_bounded() {
        let mut tickets = Tickets::default();
        let all: Vec<_> = (0..3 * MOST).map(|n| of(&format!("o-{n}.1"), "gpu1")).collect();
        all.iter().for_each(|(a, n)| drop(tickets.hand_out(a, n, a.to_string())));
        assert_eq!(tickets.open.len(), MOST);
        let (first, last) = (&all[0], &all[3 * MOST - 1]);
        assert_eq!(tickets.spend(&first.0, &first.1, "o-0.1"), Err(Refused::NoneOpen));
        assert_eq!(tickets.spend(&last.0, &last.1, last.0.as_str()), Ok(()));
    }
}
