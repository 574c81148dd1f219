//! What one owner has locked of one file: pure bookkeeping.

use grid_os::file_lock::{Mode, Span};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    span: Span,
    mode: Mode,
    /// The request that locked it so.
    by: u64,
    /// How it was locked before that request.
    was: Option<Mode>,
}

/// Parts of a file that are locked, in their order; none touches another's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<Part>);

impl Ranges {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The strongest lock, where there is one.
    pub(crate) fn strongest(&self) -> Option<Mode> {
        self.0.iter().map(|part| part.mode).max()
    }

    /// The request `by` locks these bytes so, or lets go of them.
    pub(crate) fn set(&mut self, span: Span, mode: Option<Mode>, by: u64) {
        let mut all = Vec::with_capacity(self.0.len() + 2);
        // Up to here `span` is covered.
        let mut next = Some(span.start);
        let mut cover = |all: &mut Vec<Part>, to: u64, was: Option<Mode>| {
            let Some(start) = next.filter(|start| *start <= to) else { return };
            all.extend(mode.map(|mode| Part { span: Span { start, end: to }, mode, by, was }));
            next = to.checked_add(1);
        };
        let (before, rest): (Vec<Part>, Vec<Part>) =
            self.0.iter().copied().partition(|part| part.span.end < span.start);
        let (within, behind): (Vec<_>, Vec<_>) = rest.into_iter().partition(|part| part.span.start <= span.end);
        all.extend(before);
        for part in &within {
            if part.span.start < span.start {
                all.push(Part { span: Span { end: span.start - 1, ..part.span }, ..*part });
            } else if part.span.start > span.start {
                cover(&mut all, part.span.start - 1, None);
            }
            cover(&mut all, part.span.end.min(span.end), Some(part.mode));
        }
        cover(&mut all, span.end, None);
        if let Some(last) = within.last().filter(|part| part.span.end > span.end) {
            all.push(Part { span: Span { start: span.end + 1, ..last.span }, ..*last });
        }
        all.extend(behind);
        self.0 = all;
        self.join();
    }

    fn join(&mut self) {
        self.0.dedup_by(|part, before| {
            let same = (part.mode, part.by, part.was) == (before.mode, before.by, before.was);
            let joined = same && before.span.end.checked_add(1) == Some(part.span.start);
            if joined {
                before.span.end = part.span.end;
            }
            joined
        });
    }

    /// What that request locked, and no later one changed, is as it was before. Returns what that is.
    pub(crate) fn undo(&mut self, by: u64) -> Vec<(Span, Option<Mode>)> {
        let undone: Vec<(Span, Option<Mode>)> =
            self.0.iter().filter(|part| part.by == by).map(|part| (part.span, part.was)).collect();
        undone.iter().for_each(|(span, was)| self.set(*span, *was, 0));
        undone
    }

    /// It has a lock that excludes this one.
    pub(crate) fn excludes(&self, span: Span, mode: Mode) -> bool {
        let excludes = |part: &Part| part.mode == Mode::Exclusive || mode == Mode::Exclusive;
        self.0.iter().any(|p| p.span.start <= span.end && span.start <= p.span.end && excludes(p))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BYTES: u64 = 24;

    fn sets() -> impl Strategy<Value = Vec<(Span, Option<Mode>)>> {
        let mode = prop_oneof![Just(None), Just(Some(Mode::Shared)), Just(Some(Mode::Exclusive))];
        let one = (0..BYTES, 0..BYTES, mode).prop_map(|(a, b, mode)| (Span { start: a.min(b), end: a.max(b) }, mode));
        proptest::collection::vec(one, 1..40)
    }

    fn bytes(ranges: &Ranges) -> Vec<Option<Mode>> {
        let of = |byte: u64| ranges.0.iter().find(|p| p.span.start <= byte && byte <= p.span.end).map(|p| p.mode);
        (0..BYTES).map(of).collect()
    }

    proptest! {
        #[test]
        fn each_byte_is_locked_as_it_was_last_and_an_undone_request_changed_nothing(sets in sets()) {
            let mut ranges = Ranges::default();
            let mut model = vec![None; BYTES as usize];
            for (by, (span, mode)) in (1..).zip(&sets) {
                let mut tried = ranges.clone();
                tried.set(*span, *mode, by);
                if mode.is_some() {
                    tried.undo(by);
                    prop_assert_eq!(bytes(&tried), bytes(&ranges));
                }
                ranges.set(*span, *mode, by);
                model[span.start as usize..=span.end as usize].fill(*mode);
                prop_assert_eq!(&bytes(&ranges), &model);
                let apart = ranges.0.windows(2).all(|two| two[0].span.end < two[1].span.start);
                prop_assert!(apart && ranges.0.iter().all(|p| p.span.start <= p.span.end), "{ranges:?}");
                prop_assert_eq!(ranges.is_empty(), model.iter().all(Option::is_none));
                prop_assert_eq!(ranges.strongest(), model.iter().copied().max().flatten());
            }
        }
    }

    #[test]
    fn what_a_later_request_locked_is_not_undone() {
        let mut ranges = Ranges::default();
        ranges.set(Span { start: 0, end: 9 }, Some(Mode::Shared), 1);
        ranges.set(Span::WHOLE, Some(Mode::Exclusive), 2);
        ranges.set(Span { start: 5, end: 20 }, Some(Mode::Exclusive), 3);
        let undone = ranges.undo(2);
        let behind = Span { start: 21, end: grid_os::file_lock::LAST };
        assert_eq!(undone, [(Span { start: 0, end: 4 }, Some(Mode::Shared)), (behind, None)]);
        assert!(ranges.excludes(Span { start: 5, end: 5 }, Mode::Shared));
        assert!(!ranges.excludes(Span { start: 0, end: 4 }, Mode::Shared) && !ranges.excludes(behind, Mode::Exclusive));
        assert!(ranges.undo(2).is_empty());
    }
}
