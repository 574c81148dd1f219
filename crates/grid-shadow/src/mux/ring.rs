//! Bytes in the order they came: a ring that grows up to a bound, lends its free room and its content as slices, and
//! gives memory back when told to. Never copies what it holds but to grow or shrink.

/// The least room that is taken at once.
const LEAST: usize = 4 << 10;

/// A bounded first-in-first-out buffer of bytes.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    room: Box<[u8]>,
    head: usize,
    len: usize,
}

impl Ring {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory held.
    pub(crate) fn capacity(&self) -> usize {
        self.room.len()
    }

    /// A free slice of at most `want` bytes, where the ring may hold `most` in all. Empty where it is full.
    pub(crate) fn space(&mut self, want: usize, most: usize) -> &mut [u8] {
        let want = want.min(most.saturating_sub(self.len));
        if self.room.len() < most && self.len + want > self.room.len() {
            self.resize((self.len + want).next_power_of_two().clamp(LEAST, most.max(LEAST)));
        }
        let want = want.min(self.room.len() - self.len);
        let tail = self.wrap(self.head + self.len);
        let end = self.room.len().min(tail + want);
        &mut self.room[tail..end]
    }

    /// `n` bytes of the slice that [`Self::space`] lent are content now.
    pub(crate) fn filled(&mut self, n: usize) {
        assert!(n <= self.room.len() - self.len, "more than was lent");
        self.len += n;
    }

    /// Appends what fits within `most`, and says how much that was.
    pub(crate) fn push(&mut self, mut bytes: &[u8], most: usize) -> usize {
        let mut taken = 0;
        while !bytes.is_empty() {
            let space = self.space(bytes.len(), most);
            let n = space.len();
            if n == 0 {
                break;
            }
            space.copy_from_slice(&bytes[..n]);
            self.filled(n);
            bytes = &bytes[n..];
            taken += n;
        }
        taken
    }

    /// The content from `from` on, at most `most` bytes of it, in up to two slices.
    pub(crate) fn slices(&self, from: usize, most: usize) -> (&[u8], &[u8]) {
        let count = most.min(self.len.saturating_sub(from));
        if count == 0 {
            return (&[], &[]);
        }
        let start = self.wrap(self.head + from);
        let first = count.min(self.room.len() - start);
        (&self.room[start..start + first], &self.room[..count - first])
    }

    /// Forgets the first `n` bytes.
    pub(crate) fn drop_front(&mut self, n: usize) {
        assert!(n <= self.len, "more than is held");
        self.len -= n;
        self.head = if self.len == 0 { 0 } else { self.wrap(self.head + n) };
    }

    /// Forgets everything and gives the memory back.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Gives back the memory that the content does not need.
    pub(crate) fn shrink(&mut self) {
        let need = if self.len == 0 { 0 } else { self.len.next_power_of_two().max(LEAST) };
        if need < self.room.len() {
            self.resize(need);
        }
    }

    pub(crate) fn to_vec(&self, from: usize) -> Vec<u8> {
        let (a, b) = self.slices(from, self.len);
        [a, b].concat()
    }

    fn wrap(&self, at: usize) -> usize {
        if at >= self.room.len() { at - self.room.len() } else { at }
    }

    fn resize(&mut self, capacity: usize) {
        let mut room = vec![0u8; capacity].into_boxed_slice();
        let (a, b) = self.slices(0, self.len);
        room[..a.len()].copy_from_slice(a);
        room[a.len()..a.len() + b.len()].copy_from_slice(b);
        self.room = room;
        self.head = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn a_ring_is_a_queue_within_its_bound(steps in prop::collection::vec((any::<bool>(), 0usize..9000), 1..80)) {
            const MOST: usize = 20_000;
            let (mut ring, mut model, mut next) = (Ring::default(), VecDeque::new(), 0u8);
            for (push, n) in steps {
                if push {
                    let bytes: Vec<u8> = (0..n).map(|i| next.wrapping_add(i as u8)).collect();
                    let taken = ring.push(&bytes, MOST);
                    prop_assert_eq!(taken, n.min(MOST - model.len()));
                    model.extend(&bytes[..taken]);
                    next = next.wrapping_add(taken as u8);
                } else {
                    let n = n.min(model.len());
                    ring.drop_front(n);
                    model.drain(..n);
                    if n % 3 == 0 { ring.shrink(); }
                }
                prop_assert!(ring.capacity() <= MOST.max(LEAST));
                prop_assert_eq!(ring.to_vec(0), model.iter().copied().collect::<Vec<u8>>());
            }
        }
    }
}
