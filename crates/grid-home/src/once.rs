//! Each message once and in its order, over connections that break: pure bookkeeping of one end.
//!
//! A message has a number and is kept until the other end says that it heard it. After a break each end says up to where it
//! heard, and the other goes on from there: what had arrived is not done twice, what had not is not lost.

use std::collections::VecDeque;
use std::sync::Arc;

/// The other end contradicts what is known: it is another one, or it broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// A message came before one that it follows.
    Gap,
    /// It heard what was never said.
    Unsaid,
    /// It forgot what it had heard.
    Forgotten,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gap => "a message is missing",
            Self::Unsaid => "it heard what was never said",
            Self::Forgotten => "it forgot what it had heard",
        })
    }
}

/// One end.
#[derive(Debug, Default)]
pub struct End {
    /// Said, and not known to be heard: numbers `first..first + len`.
    kept: VecDeque<Arc<Vec<u8>>>,
    /// So many were said and heard.
    gone: u64,
    /// So many of `kept` were sent on this connection.
    sent: usize,
    /// So many of the other end's were heard.
    heard: u64,
    /// Bytes of `kept`.
    bytes: usize,
}

impl End {
    /// Says one more message.
    pub fn say(&mut self, message: Vec<u8>) {
        self.bytes += message.len();
        self.kept.push_back(Arc::new(message));
    }

    /// The next message that was not sent on this connection, with its number; from then on it counts as sent.
    pub fn next_to_send(&mut self) -> Option<(u64, Arc<Vec<u8>>)> {
        let message = self.kept.get(self.sent)?.clone();
        self.sent += 1;
        Some((self.gone + self.sent as u64, message))
    }

    /// Something waits to be sent.
    pub fn has_more(&self) -> bool {
        self.sent < self.kept.len()
    }

    /// A message came. True where it is new.
    ///
    /// # Errors
    /// One before it is missing.
    pub fn hear(&mut self, number: u64) -> Result<bool, Mismatch> {
        match number {
            n if n <= self.heard => Ok(false),
            n if n == self.heard + 1 => {
                self.heard = n;
                Ok(true)
            }
            _ => Err(Mismatch::Gap),
        }
    }

    /// The other end heard all up to this number.
    ///
    /// # Errors
    /// It was never sent.
    pub fn heard_there(&mut self, number: u64) -> Result<(), Mismatch> {
        if number > self.gone + self.sent as u64 {
            return Err(Mismatch::Unsaid);
        }
        while self.gone < number {
            self.bytes -= self.kept.pop_front().map_or(0, |message| message.len());
            self.gone += 1;
            self.sent -= 1;
        }
        Ok(())
    }

    /// A new connection, whose other end heard all up to this number: everything behind it is sent (again).
    ///
    /// # Errors
    /// It is not the end that was spoken to before.
    pub fn begin_again(&mut self, heard_there: u64) -> Result<(), Mismatch> {
        if heard_there < self.gone {
            return Err(Mismatch::Forgotten);
        }
        self.sent = self.kept.len();
        self.heard_there(heard_there)?;
        self.sent = 0;
        Ok(())
    }

    /// So many messages of the other end's were heard.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Say(bool),
        Send(bool),
        Arrive(bool),
        Break,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let side = any::<bool>();
        let step = prop_oneof![
            4 => side.prop_map(Step::Say),
            4 => side.prop_map(Step::Send),
            4 => side.prop_map(Step::Arrive),
            1 => Just(Step::Break),
        ];
        proptest::collection::vec(step, 0..300)
    }

    /// Number, message, and what its sender had heard.
    type Sent = (u64, Arc<Vec<u8>>, u64);

    /// Two ends, and what is under way to each.
    #[derive(Default)]
    struct World {
        ends: [End; 2],
        under_way: [VecDeque<Sent>; 2],
        said: [Vec<u32>; 2],
        arrived: [Vec<u32>; 2],
    }

    impl World {
        fn step(&mut self, step: &Step) {
            match step {
                Step::Say(side) => {
                    let side = usize::from(*side);
                    let n = self.said[side].len() as u32;
                    self.said[side].push(n);
                    self.ends[side].say(n.to_ne_bytes().to_vec());
                }
                Step::Send(side) => {
                    let side = usize::from(*side);
                    if let Some((number, message)) = self.ends[side].next_to_send() {
                        let heard = self.ends[side].heard();
                        self.under_way[1 - side].push_back((number, message, heard));
                    }
                }
                Step::Arrive(side) => self.arrive(usize::from(*side)),
                Step::Break => {
                    self.under_way.iter_mut().for_each(VecDeque::clear);
                    let heard = [self.ends[0].heard(), self.ends[1].heard()];
                    self.ends[0].begin_again(heard[1]).unwrap();
                    self.ends[1].begin_again(heard[0]).unwrap();
                }
            }
        }

        fn arrive(&mut self, side: usize) {
            let Some((number, message, heard)) = self.under_way[side].pop_front() else { return };
            self.ends[side].heard_there(heard).unwrap();
            if self.ends[side].hear(number).unwrap() {
                self.arrived[side].push(u32::from_ne_bytes(message.as_slice().try_into().unwrap()));
            }
        }
    }

    proptest! {
        #[test]
        fn each_arrives_once_and_in_its_order(steps in steps()) {
            let mut world = World::default();
            for step in &steps {
                world.step(step);
                for side in 0..2 {
                    let (said, arrived) = (&world.said[1 - side], &world.arrived[side]);
                    prop_assert!(said.starts_with(arrived), "{said:?} {arrived:?}");
                    prop_assert_eq!(world.ends[side].bytes(), world.ends[side].kept.len() * 4);
                }
            }
            world.step(&Step::Break);
            for _ in 0..2 * steps.len() {
                for side in [false, true] {
                    world.step(&Step::Send(side));
                    world.step(&Step::Arrive(!side));
                }
            }
            for side in 0..2 {
                prop_assert_eq!(&world.said[1 - side], &world.arrived[side]);
            }
        }
    }

    #[test]
    fn another_end_is_told_by_what_it_heard() {
        let mut end = End::default();
        end.say(vec![1]);
        end.say(vec![2]);
        assert_eq!(end.heard_there(1), Err(Mismatch::Unsaid));
        assert_eq!(end.next_to_send().map(|(number, _)| number), Some(1));
        assert_eq!(end.heard_there(1), Ok(()));
        assert_eq!(end.begin_again(0), Err(Mismatch::Forgotten));
        assert_eq!(end.begin_again(3), Err(Mismatch::Unsaid));
        assert_eq!(end.begin_again(1), Ok(()));
        assert_eq!(end.next_to_send().map(|(number, _)| number), Some(2));
        assert_eq!(end.hear(2), Err(Mismatch::Gap));
        assert_eq!((end.hear(1), end.hear(1)), (Ok(true), Ok(false)));
    }
}
