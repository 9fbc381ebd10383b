//! Bytes read as decisions, so that a fuzzer's or proptest's bytes can grow a tree.
//!
//! When no byte is left every decision is the first one: generators put there what ends.

/// Decisions still to be taken.
pub struct Choices<'a>(std::slice::Iter<'a, u8>);

impl<'a> Choices<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Choices<'a> {
        Choices(bytes.iter())
    }

    /// Chooses a number below `limit`, which is from 1 to 256.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % limit
    }

    /// Says yes once in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    /// Chooses one of several.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Makes a text of up to `most` characters.
    pub fn text(&mut self, alphabet: &[char], most: usize) -> String {
        (0..self.below(most + 1)).map(|_| self.of(alphabet)).collect()
    }
}
