//! `--chmod`: octal, or symbolic as chmod(1) has it.
//!
//! Without `u`, `g`, `o` or `a` a clause means all but what a umask of 022 keeps back
//! (`+w` is for the owner), as in BuildKit and as `RUN chmod` has it.

/// A mode to be, or a change of a mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chmod(Change);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Absolute(u32),
    Symbolic(Vec<Clause>),
}

/// Says what is wrong with a mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no mode: use octal digits up to 7777, or letters like `u=rwX,go=rX`")]
pub struct BadMode {
    pub text: String,
}

const UMASK: u32 = 0o022;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Clause {
    /// Which of the three groups of bits: shifts 6, 3 and 0.
    who: Vec<u32>,
    /// The bits it may give or take.
    mask: u32,
    operator: u8,
    permissions: Permissions,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Permissions {
    Letters {
        bits: u32,
        /// `X`: x where it is a directory or anybody may execute it.
        conditional: bool,
        set_id: bool,
        sticky: bool,
    },
    /// `g=u`: what another group has; its shift.
    Copied(u32),
}

impl Chmod {
    /// Reads a mode.
    pub fn parse(text: &str) -> Result<Chmod, BadMode> {
        let bad = || BadMode { text: text.to_owned() };
        if text.bytes().next().is_some_and(|b| b.is_ascii_digit()) {
            let octal = text.bytes().all(|b| (b'0'..=b'7').contains(&b)) && text.len() <= 16;
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o7777);
            return mode.map(|mode| Chmod(Change::Absolute(mode))).ok_or_else(bad);
        }
        let mut clauses = Vec::new();
        for clause in text.split(',') {
            parse_clause(clause.as_bytes(), &mut clauses).ok_or_else(bad)?;
        }
        Ok(Chmod(Change::Symbolic(clauses)))
    }

    /// Returns the mode a file that had `mode` gets.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match &self.0 {
            Change::Absolute(absolute) => *absolute,
            Change::Symbolic(clauses) => {
                clauses.iter().fold(mode & 0o7777, |mode, clause| clause.apply(mode, is_dir))
            }
        }
    }
}

/// Reads `[ugoa]*([-+=]([rwxXst]*|[ugo]))+`.
fn parse_clause(text: &[u8], out: &mut Vec<Clause>) -> Option<()> {
    let end = text.iter().position(|b| !b"ugoa".contains(b))?;
    let mut who = Vec::new();
    for letter in &text[..end] {
        match letter {
            b'u' => who.push(6),
            b'g' => who.push(3),
            b'o' => who.push(0),
            _ => who.extend([6, 3, 0]),
        }
    }
    let mask = if who.is_empty() { !UMASK & 0o7777 } else { 0o7777 };
    if who.is_empty() {
        who.extend([6, 3, 0]);
    }
    let mut rest = &text[end..];
    while let Some((operator, after)) = rest.split_first() {
        if !b"+-=".contains(operator) {
            return None;
        }
        let length = after.iter().position(|b| b"+-=".contains(b)).unwrap_or(after.len());
        let permissions = parse_permissions(&after[..length])?;
        out.push(Clause { who: who.clone(), mask, operator: *operator, permissions });
        rest = &after[length..];
    }
    Some(())
}

fn parse_permissions(letters: &[u8]) -> Option<Permissions> {
    match letters {
        b"u" => return Some(Permissions::Copied(6)),
        b"g" => return Some(Permissions::Copied(3)),
        b"o" => return Some(Permissions::Copied(0)),
        _ => {}
    }
    let (mut bits, mut conditional, mut set_id, mut sticky) = (0, false, false, false);
    for letter in letters {
        match letter {
            b'r' => bits |= 4,
            b'w' => bits |= 2,
            b'x' => bits |= 1,
            b'X' => conditional = true,
            b's' => set_id = true,
            b't' => sticky = true,
            _ => return None,
        }
    }
    Some(Permissions::Letters { bits, conditional, set_id, sticky })
}

impl Clause {
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        // The bits the clause speaks of, and those it may clear with `=`.
        let (mut bits, mut own) = (0, 0);
        for &shift in &self.who {
            own |= 0o7 << shift;
            match self.permissions {
                Permissions::Copied(from) => bits |= (mode >> from & 0o7) << shift,
                Permissions::Letters { bits: letters, conditional, set_id, .. } => {
                    let execute = u32::from(conditional && (is_dir || mode & 0o111 != 0));
                    bits |= (letters | execute) << shift;
                    // Set-user-ID and set-group-ID go with `u` and `g`.
                    match shift {
                        6 if set_id => bits |= 0o4000,
                        3 if set_id => bits |= 0o2000,
                        _ => {}
                    }
                }
            }
            // As chmod(1): sticky belongs to `o`, and `=` leaves the set-ID bits of directories
            // alone unless it names them.
            match shift {
                6 if !is_dir => own |= 0o4000,
                3 if !is_dir => own |= 0o2000,
                0 => {
                    own |= 0o1000;
                    if let Permissions::Letters { sticky: true, .. } = self.permissions {
                        bits |= 0o1000;
                    }
                }
                _ => {}
            }
        }
        bits &= self.mask;
        match self.operator {
            b'+' => mode | bits,
            b'-' => mode & !bits,
            _ => mode & !own | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn changes_modes_as_chmod_does() {
        let check = |text: &str, is_dir: bool, from: u32, to: u32| {
            let mode = Chmod::parse(text).unwrap().apply(from, is_dir);
            assert_eq!(mode, to, "{text}: {from:o} -> {mode:o}, not {to:o}");
        };
        check("640", false, 0o777, 0o640);
        check("0", false, 0o777, 0);
        check("07777", true, 0o755, 0o7777);
        check("u=rwX,go=rX", false, 0o600, 0o644);
        check("u=rwX,go=rX", false, 0o700, 0o755);
        check("u=rwX,go=rX", true, 0o600, 0o755);
        check("+x", false, 0o644, 0o755);
        check("-w", false, 0o666, 0o466);
        check("a-w", false, 0o666, 0o444);
        check("+w", false, 0o444, 0o644);
        check("=rw", false, 0o777, 0o644);
        check("+rwX", true, 0o700, 0o755);
        check("u+s,g=u,o-rwx", false, 0o751, 0o4770);
        check("a=r", false, 0o777, 0o444);
        check("g=u", false, 0o640, 0o660);
        check("o=g-w", false, 0o660, 0o664);
        check("u+s", false, 0o755, 0o4755);
        check("g+s,+t", true, 0o755, 0o3755);
        check("u+r-x", false, 0o300, 0o600);
        check("ug=", false, 0o6777, 0o007);
        check("go=rX", true, 0o2700, 0o2755);
        check("=", false, 0o644, 0);
        check("u=s", false, 0o755, 0o4055);
        check("g=u", false, 0o4750, 0o4770);
        check("o=t", false, 0o755, 0o1750);
        check("u+t", false, 0o755, 0o755);
        check("o=", true, 0o1777, 0o770);
        check("a=", false, 0o7777, 0);
        check("a=", true, 0o7777, 0o6000);
    }

    #[test]
    fn refuses_what_is_no_mode() {
        for bad in ["", "8", "10000", "0x1ff", "rw", "u", "u=q", "u=rw,", ",u=r", "u=ug", "+x ", "7.5", "-1"]
        {
            assert!(Chmod::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn stays_within_the_bits_of_a_mode(text in "[ugoa]{0,3}[-+=][rwxXst]{0,6}", mode in 0u32..=0o7777, dir: bool) {
            let chmod = Chmod::parse(&text).unwrap();
            prop_assert!(chmod.apply(mode, dir) <= 0o7777);
        }

        #[test]
        fn never_panics(text in "\\PC{0,12}", mode in 0u32..=0o7777) {
            if let Ok(chmod) = Chmod::parse(&text) {
                chmod.apply(mode, false);
            }
        }
    }
}
