//! Seeded mutations, for runs without a fuzzer: the same seed gives the same inputs on every machine.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// Maximum bytes of an input.
const BYTES_MAX: usize = 8 * 1024;
/// Numbers at which encodings or types change.
const EDGES: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];

/// Makes inputs out of a corpus.
pub struct Mutator<'c> {
    rng: StdRng,
    corpus: &'c [Vec<u8>],
    words: &'c [&'static [u8]],
}

impl<'c> Mutator<'c> {
    /// A mutator of a corpus that is not empty.
    #[must_use]
    pub fn new(seed: u64, corpus: &'c [Vec<u8>], words: &'c [&'static [u8]]) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), corpus, words }
    }

    /// The next input: one of the corpus, changed in a few places.
    pub fn input(&mut self) -> Vec<u8> {
        let mut input = self.pick().to_vec();
        for _ in 0..self.rng.random_range(1..8) {
            self.change(&mut input);
        }
        input.truncate(BYTES_MAX);
        input
    }

    fn pick(&mut self) -> &'c [u8] {
        &self.corpus[self.rng.random_range(0..self.corpus.len())]
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.rng.random_range(0..=input.len());
        let end = (at + self.rng.random_range(1..32)).min(input.len());
        match self.rng.random_range(0..10) {
            0 if at < input.len() => input[at] ^= 1 << self.rng.random_range(0..8),
            1 if at < input.len() => input[at] = self.rng.random_range(0..=255) as u8,
            2 => drop(input.drain(at..end)),
            3 => insert(input, at, &[self.rng.random_range(0..=255) as u8]),
            4 => {
                let range = input[at..end].to_vec();
                (0..self.rng.random_range(1..20)).for_each(|_| insert(input, at, &range));
            }
            5 => self.write_edge(input, at),
            6 => {
                let other = self.pick();
                let from = self.rng.random_range(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            7 => input.truncate(at),
            8 | 9 if !self.words.is_empty() => {
                let word = self.words[self.rng.random_range(0..self.words.len())];
                insert(input, at, word);
            }
            _ => {
                let mut noise = vec![0; end - at];
                self.rng.fill_bytes(&mut noise);
                input[at..end].copy_from_slice(&noise);
            }
        }
    }

    fn write_edge(&mut self, input: &mut [u8], at: usize) {
        let edge = EDGES[self.rng.random_range(0..EDGES.len())];
        let width = 1 << self.rng.random_range(0..4);
        let bytes = if self.rng.random_bool(0.5) {
            edge.to_be_bytes()[8 - width..].to_vec()
        } else {
            edge.to_le_bytes()[..width].to_vec()
        };
        for (byte, edge) in input[at..].iter_mut().zip(bytes) {
            *byte = edge;
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if input.len() + bytes.len() <= BYTES_MAX {
        input.splice(at..at, bytes.iter().copied());
    }
}
