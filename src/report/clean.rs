//! Makes a step's output safe for a terminal.
//!
//! Colours and line ends stay; everything else that a terminal would obey
//! (cursor movement, titles, clipboard, device queries) is removed, since a
//! Dockerfile from outside must not be able to type on the user's screen.

/// Removes what a terminal would obey, across the pieces in which output comes.
#[derive(Debug, Clone, Default)]
pub struct Cleaner {
    state: State,
    /// The escape sequence being read, from ESC on.
    pending: Vec<u8>,
    /// How many bytes the UTF-8 character being read still has.
    following: u8,
    /// Its first byte was C2: the next says whether it is a letter or a C1 control.
    after_c2: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    /// `ESC [`: parameters, then one final byte (ECMA-48).
    Control,
    /// `ESC ]`, `P`, `X`, `^`, `_`: a string up to BEL or `ESC \`.
    String,
    Terminator,
}

/// Longer sequences are dropped whole.
const LONGEST_SEQUENCE: usize = 64;

impl Cleaner {
    /// Returns the piece with all but text, tabs, line ends and colours removed.
    pub fn clean(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(piece.len());
        for &byte in piece {
            let Some(byte) = self.seven_bits(byte, &mut out) else { continue };
            match self.state {
                State::Text => match byte {
                    0x1b => {
                        self.state = State::Escape;
                        self.pending.clear();
                        self.pending.push(byte);
                    }
                    b'\n' | b'\r' | b'\t' => out.push(byte),
                    0..=0x1f | 0x7f => {}
                    _ => out.push(byte),
                },
                State::Escape => match byte {
                    b'[' => {
                        self.pending.push(byte);
                        self.state = State::Control;
                    }
                    b']' | b'P' | b'X' | b'^' | b'_' => self.state = State::String,
                    0x20..=0x2f => {}
                    0x1b => {}
                    _ => self.state = State::Text,
                },
                State::Control => {
                    if self.pending.len() < LONGEST_SEQUENCE {
                        self.pending.push(byte);
                    }
                    match byte {
                        0x40..=0x7e => {
                            let parameters = &self.pending[2..self.pending.len() - 1];
                            let plain = parameters.iter().all(|b| b.is_ascii_digit() || b";:".contains(b));
                            if byte == b'm' && plain && self.pending.len() < LONGEST_SEQUENCE {
                                out.extend_from_slice(&self.pending);
                            }
                            self.state = State::Text;
                        }
                        0x1b => {
                            self.pending.clear();
                            self.pending.push(byte);
                            self.state = State::Escape;
                        }
                        _ => {}
                    }
                }
                State::String => match byte {
                    0x07 => self.state = State::Text,
                    0x1b => self.state = State::Terminator,
                    _ => {}
                },
                State::Terminator => {
                    self.state = match byte {
                        b'\\' => State::Text,
                        0x1b => State::Terminator,
                        _ => State::String,
                    }
                }
            }
        }
        out
    }

    /// Decodes what has eight bits in text: characters are passed on, C1 controls become what they
    /// stand for, `ESC` and a byte 0x40 less (ECMA-48, 5.3), whether written in UTF-8 or raw.
    ///
    /// Returns the byte that the state machine is to see, if any.
    fn seven_bits(&mut self, byte: u8, out: &mut Vec<u8>) -> Option<u8> {
        if self.state != State::Text {
            return Some(byte);
        }
        let after_c2 = std::mem::take(&mut self.after_c2);
        let following = std::mem::take(&mut self.following);
        match byte {
            0x80..=0xbf if following > 0 => {
                self.following = following - 1;
                out.push(byte);
                None
            }
            0x80..=0x9f => {
                self.state = State::Escape;
                self.pending.clear();
                self.pending.push(0x1b);
                Some(byte - 0x40)
            }
            0xa0..=0xbf if after_c2 => {
                out.extend_from_slice(&[0xc2, byte]);
                None
            }
            0xc2 => {
                self.after_c2 = true;
                None
            }
            0xc3..=0xf4 => {
                self.following = 1 + u8::from(byte >= 0xe0) + u8::from(byte >= 0xf0);
                out.push(byte);
                None
            }
            // Two bytes for one of seven bits, which some read as that one.
            0xc0 | 0xc1 => None,
            _ => Some(byte),
        }
    }
}

/// Cleans a whole text at once, for messages that quote untrusted words.
pub fn clean_text(text: &str) -> String {
    let cleaned = Cleaner::default().clean(text.as_bytes());
    String::from_utf8_lossy(&cleaned).into_owned()
}

/// Takes out the error numbers that Rust puts behind the words of the C library:
/// `Permission denied (os error 13)` says no more with them.
pub fn without_codes(text: &str) -> String {
    const OPEN: &str = " (os error ";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(OPEN) {
        let after = &rest[at + OPEN.len()..];
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 && after[digits..].starts_with(')') {
            out.push_str(&rest[..at]);
            rest = &after[digits + 1..];
        } else {
            out.push_str(&rest[..at + OPEN.len()]);
            rest = after;
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &[u8], expect: &[u8]) {
        let whole = Cleaner::default().clean(input);
        assert_eq!(String::from_utf8_lossy(&whole), String::from_utf8_lossy(expect));
        let mut cleaner = Cleaner::default();
        let pieces: Vec<u8> = input.iter().flat_map(|b| cleaner.clean(&[*b])).collect();
        assert_eq!(pieces, whole, "the same however it is cut");
    }

    #[test]
    fn keeps_text_and_colours_only() {
        check(b"plain\ttext\r\n", b"plain\ttext\r\n");
        check("g\u{fc}n \u{1f600}".as_bytes(), "g\u{fc}n \u{1f600}".as_bytes());
        check(b"\x1b[1;31mred\x1b[0m", b"\x1b[1;31mred\x1b[0m");
        check(b"a\x1b[2Jb\x1b[10;10Hc\x1b[?25ld", b"abcd");
        check(b"a\x1b]0;title\x07b\x1b]52;c;ZXZpbA==\x1b\\c", b"abc");
        check(b"a\x1bcb\x1b(0c\x08\x07\x00d", b"abcd");
        check(b"\x1b[>0m\x1b[31;1\x1b[0mx", b"\x1b[0mx");
        check(b"\x1bPq\x1b\x1b\\x", b"x");
        check(&[b"\x1b[".as_slice(), &b"1;".repeat(100), b"mz"].concat(), b"z");
    }

    #[test]
    fn controls_of_eight_bits_are_those_of_seven() {
        check(b"a\xc2\x9b2Jb", b"ab");
        check(b"a\x9b2Jb\x9b1;31mc", b"ab\x1b[1;31mc");
        check(b"a\x9d0;title\x07b\x90q\x1b\\c\xc2\x9d52;c;x\x07d", b"abcd");
        check(b"a\xc2\x85b\x84c", b"abc");
        check(
            "\u{a0}\u{e0}\u{20ac}\u{1f600}\u{bf}".as_bytes(),
            "\u{a0}\u{e0}\u{20ac}\u{1f600}\u{bf}".as_bytes(),
        );
        // A character cut short does not hide what follows it.
        check(b"\xe2\x1b[2Jx\xc2\x1b[2Jy\xf0\x9f\x9f\x9f\x9b2Jz", b"\xe2x\x79\xf0\x9f\x9f\x9fz");
        check(b"\xc1\x9b2Jx", b"x");
    }

    #[test]
    fn cleans_messages() {
        assert_eq!(clean_text("a\u{9b}2Jb\x1b[2Jc"), "abc");
    }

    #[test]
    fn error_numbers_go() {
        let check = |text: &str, expect: &str| assert_eq!(without_codes(text), expect);
        check("a: No such file (os error 2): b (os error 13)", "a: No such file: b");
        check("(os error x) (os error ) (os error 2", "(os error x) (os error ) (os error 2");
        check("", "");
    }
}
