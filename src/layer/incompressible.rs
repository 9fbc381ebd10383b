//! Which parts of a stream deflate cannot make smaller: those that are compressed or encrypted already.
//!
//! Deflate looks longest for what is not there. A piece whose bytes are all about as frequent gains nothing
//! from Huffman's codes, and one without repeats nothing from back-references. It is an estimate in whole
//! numbers of the bytes alone, so that it is the same everywhere. Not here: compression (`gzip`).

/// How many bytes are looked at together, counted from the start of a member.
pub const PIECE: usize = 8 * 1024;

/// How many first bytes of a piece show mostly that it is text or code.
const START: usize = 1024;

/// The sequence of four bytes at each so many bytes is remembered: a repeat that is a little longer has one.
const EACH: usize = 32;
/// How many sequences are remembered, by a power of two: those of 64 KiB, twice as far as deflate looks back.
const SEEN_BITS: u32 = 11;
/// How many sequences may be there again.
const FEW: usize = 3;

/// Looks at the pieces of a member, in their order.
pub struct Estimate {
    seen: Vec<u32>,
}

impl Estimate {
    /// Makes one for a member of which nothing was seen.
    pub fn new() -> Estimate {
        Estimate { seen: vec![0; 1 << SEEN_BITS] }
    }

    /// Tells whether deflate would not make the piece smaller, or by about a hundredth at most.
    pub fn is_incompressible(&mut self, piece: &[u8]) -> bool {
        // What is shorter may be even by chance, and costs little.
        piece.len() == PIECE
            && is_even(&piece[..START], START / 2)
            && is_even(piece, PIECE / 16)
            && self.repeats(piece) <= FEW
    }

    /// Counts the sequences that are remembered, and remembers those of the piece.
    fn repeats(&mut self, piece: &[u8]) -> usize {
        let mut count = 0;
        for (at, four) in piece.windows(4).enumerate() {
            let word = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
            let seen = &mut self.seen[(word.wrapping_mul(0x9e37_79b1) >> (u32::BITS - SEEN_BITS)) as usize];
            count += usize::from(*seen == word);
            if at % EACH == 0 {
                *seen = word;
            }
        }
        count
    }
}

/// Tells whether no byte is much more frequent than others.
///
/// The sum of the squares of the frequencies is least where all are equal: the square of the length by 256.
/// Of random bytes it is larger by about the length. `tolerance` is how much larger still it may be,
/// in 256ths of the length: with a 16th of the length the entropy is 7.9 bits of 8 or more.
fn is_even(bytes: &[u8], tolerance: usize) -> bool {
    let mut counts = [[0u32; 256]; 2];
    for pair in bytes.chunks_exact(2) {
        counts[0][usize::from(pair[0])] += 1;
        counts[1][usize::from(pair[1])] += 1;
    }
    let (even, odd) = (&counts[0], &counts[1]);
    let squares: u64 = even.iter().zip(odd).map(|(a, b)| u64::from(a + b).pow(2)).sum();
    let length = bytes.len() as u64;
    squares * 256 <= length * (length + 256 + tolerance as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize, mut state: u64) -> Vec<u8> {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    fn is_incompressible(bytes: &[u8]) -> Vec<bool> {
        let mut estimate = Estimate::new();
        bytes.chunks(PIECE).map(|piece| estimate.is_incompressible(piece)).collect()
    }

    #[test]
    fn noise_is_incompressible() {
        assert_eq!(is_incompressible(&noise(64 * PIECE, 1)), [true; 64]);
        // What deflate made once it does not make smaller.
        let words: Vec<&str> = include_str!("incompressible.rs").split_inclusive(' ').collect();
        let text: String = noise(600_000, 7)
            .chunks(2)
            .map(|two| words[usize::from(two[0]) * usize::from(two[1]) % words.len()])
            .collect();
        let mut packed = Vec::new();
        super::super::gzip::Packer::new(9).pack(text.as_bytes(), &mut packed).unwrap();
        let pieces = is_incompressible(&packed[..packed.len() / PIECE * PIECE]);
        let found = pieces.iter().filter(|is| **is).count();
        assert!(found * 10 >= pieces.len() * 9, "{found} of {}", pieces.len());
    }

    #[test]
    fn whatever_can_be_made_smaller_is_not() {
        let check = |what: &str, bytes: &[u8], fresh: usize| {
            // Of the first there is nothing yet to repeat.
            let all = is_incompressible(bytes).split_off(fresh);
            assert!(!all.contains(&true), "{what}: {all:?}");
        };
        check("zeros", &[0; 4 * PIECE], 0);
        check("text", "some words and others ".repeat(10_000).as_bytes(), 0);
        check("hex", noise(PIECE, 2).iter().map(|b| format!("{b:02x}")).collect::<String>().as_bytes(), 0);
        let sixty_four: Vec<u8> = noise(4 * PIECE, 3).iter().map(|b| b & 63).collect();
        check("six bits", &sixty_four, 0);
        let half: Vec<u8> = noise(4 * PIECE, 4).iter().map(|b| b & 0x7f).collect();
        check("seven bits", &half, 0);
        check("counting", &(0..4 * PIECE).map(|n| n as u8).collect::<Vec<_>>(), 0);
        for length in [1000, 5000, 8000, 8192, 30_000] {
            let again: Vec<u8> = noise(length, 5).iter().copied().cycle().take(5 * PIECE).collect();
            check(&format!("noise again after {length}"), &again, length.div_ceil(PIECE));
        }
        check("the end of noise", &noise(PIECE - 1, 6), 0);
    }
}
