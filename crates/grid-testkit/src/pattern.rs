//! Memory that can be proven: every word of every page follows from a seed, the page's number and its generation. Owns
//! filling, checking and rewriting, and the digest that depends on every step. Reads no clock and no file: the same
//! seed, size and number of steps give the same digest, wherever and however often the process was moved.
//!
//! The words do not repeat and do not compress, so moving the memory costs what its size says; of [`Memory::sparse`] only
//! some bits do so.

use std::fmt;

const WORDS: usize = 512;
/// Bytes of a page.
pub const PAGE: usize = WORDS * 8;
/// One step in so many gives its page a new generation.
const REWRITE_EVERY: u64 = 4;

/// A word that is not what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongPage {
    /// Which page, from 0.
    pub page: usize,
    /// Which 8-byte word in it, from 0.
    pub word: usize,
    /// What it must hold.
    pub expected: u64,
    /// What it holds.
    pub found: u64,
}

impl fmt::Display for WrongPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { page, word, expected, found } = self;
        write!(f, "page {page} word {word} holds {found:016x}, must hold {expected:016x}")
    }
}

/// SplitMix64's finalizer: a bijection of 64 bits that scatters them (Steele, Lea, Flood: "Fast splittable
/// pseudorandom number generators", 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The memory, what it must hold, and the digest so far.
pub struct Memory {
    seed: u64,
    /// Bits of a word that are not zero.
    mask: u64,
    words: Vec<u64>,
    generations: Vec<u32>,
    count: u64,
    digest: u64,
}

impl Memory {
    /// Fills `bytes` (rounded up to pages, at least one) with generation 0 of `seed`'s pattern.
    pub fn fill(bytes: usize, seed: u64) -> Self {
        Self::sparse(bytes, seed, u64::BITS)
    }

    /// As [`Memory::fill`], with only so many bits of each word in use.
    pub fn sparse(bytes: usize, seed: u64, bits: u32) -> Self {
        let pages = bytes.div_ceil(PAGE).max(1);
        let mask = u64::MAX >> u64::BITS.saturating_sub(bits).min(u64::BITS - 1);
        let mut memory = Self {
            seed,
            mask,
            words: vec![0; pages * WORDS],
            generations: vec![0; pages],
            count: 0,
            digest: mix(seed),
        };
        (0..pages).for_each(|page| memory.write(page));
        memory
    }

    /// Steps done.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// One step: checks a page chosen by the seed and the count, folds what it holds into the digest, and on one step
    /// in four gives it a new generation.
    pub fn step(&mut self) -> Result<(), WrongPage> {
        let choice = mix(self.seed ^ self.count.wrapping_mul(GOLDEN));
        let page = (choice % self.generations.len() as u64) as usize;
        let held = self.check(page)?;
        self.digest = mix(self.digest ^ held).wrapping_add(self.count);
        if self.count.is_multiple_of(REWRITE_EVERY) {
            self.generations[page] = self.generations[page].wrapping_add(1);
            self.write(page);
        }
        self.count += 1;
        Ok(())
    }

    /// Checks every page and returns the digest: of all steps, and of all that the memory holds now.
    pub fn finish(&self) -> Result<u64, WrongPage> {
        let mut digest = self.digest;
        for page in 0..self.generations.len() {
            digest = mix(digest ^ self.check(page)?);
        }
        Ok(mix(digest ^ self.count))
    }

    fn base(&self, page: usize) -> u64 {
        mix(self.seed ^ mix(((page as u64) << 32) | u64::from(self.generations[page])))
    }

    fn write(&mut self, page: usize) {
        let (base, mask) = (self.base(page), self.mask);
        for (j, word) in self.words[page * WORDS..][..WORDS].iter_mut().enumerate() {
            *word = mix(base.wrapping_add((j as u64).wrapping_mul(GOLDEN))) & mask;
        }
    }

    /// The page's hash, made from what memory holds, if that is what it must hold.
    fn check(&self, page: usize) -> Result<u64, WrongPage> {
        let base = self.base(page);
        let mut hash = 0u64;
        for (word, found) in self.words[page * WORDS..][..WORDS].iter().copied().enumerate() {
            let expected = mix(base.wrapping_add((word as u64).wrapping_mul(GOLDEN))) & self.mask;
            if found != expected {
                return Err(WrongPage { page, word, expected, found });
            }
            hash = hash.rotate_left(5).wrapping_add(found).wrapping_mul(GOLDEN);
        }
        Ok(hash)
    }

    /// For tests of those who must notice: spoils one word.
    pub fn spoil(&mut self, page: usize, word: usize) {
        self.words[page * WORDS + word] ^= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bytes: usize, seed: u64, steps: u64) -> u64 {
        let mut memory = Memory::fill(bytes, seed);
        (0..steps).for_each(|_| memory.step().unwrap());
        assert_eq!(memory.count(), steps);
        memory.finish().unwrap()
    }

    #[test]
    fn the_digest_follows_from_the_arguments_alone() {
        let want = run(1 << 20, 42, 5_000);
        assert_eq!(run(1 << 20, 42, 5_000), want);
        // Any other argument, another digest.
        assert_ne!(run(1 << 20, 43, 5_000), want);
        assert_ne!(run(1 << 20, 42, 5_001), want);
        assert_ne!(run((1 << 20) + 1, 42, 5_000), want);
    }

    /// Kept as a number: a change of the pattern would make digests of two versions of the program differ.
    #[test]
    fn the_digest_is_the_same_in_every_build() {
        assert_eq!(format!("{:016x}", run(64 << 10, 1, 1_000)), "07e803e925efd690");
    }

    #[test]
    fn one_wrong_bit_anywhere_is_found() {
        for (page, word) in [(0, 0), (7, 511), (15, 3)] {
            let mut memory = Memory::fill(16 * PAGE, 9);
            memory.spoil(page, word);
            let wrong = memory.finish().unwrap_err();
            assert_eq!((wrong.page, wrong.word, wrong.found), (page, word, wrong.expected ^ 1));
            // Steps come by it too, sooner or later.
            assert!((0..1_000).any(|_| memory.step().is_err()));
        }
    }
}
