//! Whatever is cut, delayed, split or handed over: every byte once and in order, ends and breaks once, records once, and
//! no more memory than the windows.

use super::*;
use proptest::prelude::*;

const BOUNDS: Bounds = Bounds { window: 3000, retain: 1000 };
/// What a frozen reader can have left in its pipe.
const PIPE: u64 = 1000;
const IN: u32 = 1;
const OUT: u32 = 2;

#[derive(Clone, Debug)]
enum Step {
    /// Writes at home, or at the far.
    Write(bool, usize),
    End(bool),
    Say(bool),
    /// Carries so many bytes from home, or from the far.
    Carry(bool, usize),
    /// Delivers so many bytes at the far, or at home; the tree reads so many.
    Deliver(bool, usize, usize),
    /// The reader at home, or of the tree, goes away.
    Break(bool),
    Cut,
    /// Pause, snapshot, the next far; or only a pause and on.
    Handover(bool),
    Shrink,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), 0usize..2500).prop_map(|(h, n)| Step::Write(h, n)),
        1 => any::<bool>().prop_map(Step::End),
        3 => any::<bool>().prop_map(Step::Say),
        12 => (any::<bool>(), 1usize..4000).prop_map(|(h, n)| Step::Carry(h, n)),
        8 => (any::<bool>(), 0usize..3000, 0usize..2000).prop_map(|(h, n, m)| Step::Deliver(h, n, m)),
        1 => any::<bool>().prop_map(Step::Break),
        2 => Just(Step::Cut),
        2 => any::<bool>().prop_map(Step::Handover),
        1 => Just(Step::Shrink),
    ]
}

/// The whole way, and what each end should see.
struct World {
    home: Mux,
    far: Mux,
    written: [u64; 2],
    ended: [bool; 2],
    /// Delivered bytes that the tree has not read: the pipe.
    pipe: Vec<u8>,
    read: [u64; 2],
    end_seen: [bool; 2],
    broken_off: [bool; 2],
    breaks_seen: [u32; 2],
    said: [u64; 2],
    heard: [u64; 2],
    generation: u64,
}

fn byte(at: u64) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)) as u8
}

fn far(generation: u64) -> Mux {
    let mut far = Mux::new(generation);
    far.add_receiver(IN, BOUNDS.window);
    far.add_sender(OUT, Bounds { retain: 0, ..BOUNDS });
    far
}

impl World {
    fn new() -> Self {
        let mut home = Mux::new(0);
        home.add_sender(IN, BOUNDS);
        home.add_receiver(OUT, BOUNDS.window);
        let mut world = Self {
            home,
            far: far(1),
            written: [0; 2],
            ended: [false; 2],
            pipe: Vec::new(),
            read: [0; 2],
            end_seen: [false; 2],
            broken_off: [false; 2],
            breaks_seen: [0; 2],
            said: [0; 2],
            heard: [0; 2],
            generation: 1,
        };
        world.cut();
        world
    }

    fn cut(&mut self) {
        self.home.connect(self.generation);
        self.far.connect(self.generation);
    }

    fn carry(&mut self, from_home: bool, most: usize) -> usize {
        let (from, to) = if from_home { (&mut self.home, &mut self.far) } else { (&mut self.far, &mut self.home) };
        let bytes = from.output().concat();
        let n = bytes.len().min(most);
        from.sent(n);
        let mut rest = &bytes[..n];
        while !rest.is_empty() {
            let space = to.space();
            let n = space.len().min(rest.len());
            space[..n].copy_from_slice(&rest[..n]);
            to.filled(n).expect("an honest peer");
            rest = &rest[n..];
        }
        n
    }

    fn write(&mut self, home: bool, n: usize) {
        let (mux, channel, i) = if home { (&mut self.home, IN, 0) } else { (&mut self.far, OUT, 1) };
        let space = mux.write_space(channel, n, 0);
        let n = space.len();
        for (k, b) in space.iter_mut().enumerate() {
            *b = byte(self.written[i] + k as u64);
        }
        mux.wrote(channel, n);
        self.written[i] += n as u64;
    }

    fn deliver(&mut self, at_far: bool, n: usize, tree: usize) {
        let (mux, channel, i) = if at_far { (&mut self.far, IN, 0) } else { (&mut self.home, OUT, 1) };
        let (a, b) = mux.pending(channel);
        let room = if at_far { PIPE as usize - self.pipe.len() } else { usize::MAX };
        let bytes: Vec<u8> = a.iter().chain(b).take(n.min(room)).copied().collect();
        mux.delivered(channel, bytes.len());
        if mux.end_is_due(channel) {
            mux.delivered_end(channel);
        }
        self.end_seen[i] = mux.is_done(channel);
        let consumed = if at_far {
            self.pipe.extend(bytes);
            let n = tree.min(self.pipe.len());
            self.pipe.drain(..n).collect()
        } else {
            bytes
        };
        for b in &consumed {
            assert_eq!(*b, byte(self.read[i]), "at {}", self.read[i]);
            self.read[i] += 1;
        }
        self.hear(at_far);
    }

    fn hear(&mut self, at_far: bool) {
        let (mux, i) = if at_far { (&mut self.far, 0) } else { (&mut self.home, 1) };
        while let Some((n, len)) = mux.next_record::<u64>().expect("an honest peer") {
            assert_eq!(n, self.heard[i]);
            self.heard[i] += 1;
            mux.heard(len);
        }
        // Home is told of a break once in all; each far, of its own.
        self.breaks_seen[1 - i] += u32::from(mux.newly_broken().is_some());
    }

    fn say(&mut self, home: bool) {
        let (mux, i) = if home { (&mut self.home, 0) } else { (&mut self.far, 1) };
        if mux.say(&self.said[i]) {
            self.said[i] += 1;
        }
    }

    fn handover(&mut self, on: bool) {
        let snapshot = self.far.snapshot(|_| self.pipe.len() as u64);
        if !on {
            return;
        }
        self.generation += 1;
        let mut next = far(self.generation);
        next.adopt(&snapshot, |c| if c == OUT { Bounds { retain: 0, ..BOUNDS } } else { BOUNDS }).expect("its own");
        self.far = next;
        // The pipe's rest stays behind; so does a break that the old far was told of.
        self.pipe.clear();
        self.breaks_seen[1] = 0;
        self.end_seen[0] = false;
        self.cut();
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Write(home, n) if !self.ended[usize::from(!home)] => self.write(home, n),
            Step::End(home) => {
                self.ended[usize::from(!home)] = true;
                let (mux, channel) = if home { (&mut self.home, IN) } else { (&mut self.far, OUT) };
                mux.end(channel);
            }
            Step::Say(home) => self.say(home),
            Step::Carry(home, n) => {
                self.carry(home, n);
            }
            Step::Deliver(far, n, tree) => self.deliver(far, n, tree),
            Step::Break(tree) => {
                let (mux, channel, i) = if tree { (&mut self.far, IN, 0) } else { (&mut self.home, OUT, 1) };
                if !mux.is_done(channel) {
                    mux.break_off(channel);
                    self.broken_off[i] = true;
                    if tree {
                        self.pipe.clear();
                    }
                }
            }
            Step::Cut => self.cut(),
            Step::Handover(on) => self.handover(on),
            Step::Shrink => {
                self.home.shrink();
                self.far.shrink();
            }
            Step::Write(..) => {}
        }
        let most = (BOUNDS.window + BOUNDS.retain) * 2 + CONTROL_BOUNDS.window * 2 + (16 << 10);
        assert!(self.home.memory().max(self.far.memory()) <= most);
    }

    /// Lets everything flow, and looks at what came of it.
    fn finish(&mut self) {
        for _ in 0..200 {
            self.carry(true, usize::MAX);
            self.carry(false, usize::MAX);
            self.deliver(true, usize::MAX, usize::MAX);
            self.deliver(false, usize::MAX, usize::MAX);
        }
        assert_eq!(self.said, self.heard);
        for i in 0..2 {
            if self.broken_off[i] {
                assert_eq!(self.breaks_seen[i], 1);
            } else {
                assert_eq!((self.read[i], self.breaks_seen[i]), (self.written[i], 0));
                assert_eq!(self.end_seen[i], self.ended[i]);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_schedule_delivers_everything_once(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.finish();
    }

    #[test]
    fn no_bytes_make_it_panic_or_grow(bytes in prop::collection::vec(any::<u8>(), 0..2000), good in any::<bool>()) {
        let mut mux = far(1);
        mux.connect(1);
        let mut all = if good { wire::Hello { generation: 1, positions: vec![] }.frame() } else { vec![] };
        all.extend(bytes);
        let mut rest = &all[..];
        while !rest.is_empty() {
            let space = mux.space();
            let n = space.len().min(rest.len());
            space[..n].copy_from_slice(&rest[..n]);
            if mux.filled(n).is_err() { break; }
            rest = &rest[n..];
        }
        prop_assert!(mux.memory() <= 2 * BOUNDS.window);
    }
}
