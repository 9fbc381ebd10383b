//! One pattern of whole paths, in which `**` crosses directories.
//!
//! As the rules of `.dockerignore` and the sources of `COPY --parents` have it,
//! quirks included: `**foo` means every path that ends so. A pattern is compiled to
//! a small automaton that reads a path once, seeing on the way whether a parent
//! matched; literal ones are plain comparisons. Not here: rules (`ignore`), names
//! of one component (`glob`).

use super::glob::{self, Atom, Pattern};

/// A pattern of paths below a directory.
#[derive(Debug, Clone)]
pub struct PathPattern(Matcher);

impl PathPattern {
    /// Compiles a pattern: relative, separated by `/`, without `.` and `..`.
    pub fn new(pattern: &str) -> Result<PathPattern, super::BadPattern> {
        Pattern::new(pattern)?;
        Matcher::new(pattern).map(PathPattern)
    }

    /// Tells whether a path or a directory it is in matches.
    pub fn matches(&self, path: &str) -> bool {
        self.0.matches_path_or_parent(path)
    }

    /// Tells whether something below a directory may match.
    pub fn may_match_below(&self, directory: &str) -> bool {
        self.0.may_match_below(&format!("{directory}/"))
    }
}

/// How a pattern is matched. All but the automaton are only faster ways.
#[derive(Debug, Clone)]
pub(super) enum Matcher {
    /// This path.
    Exact(String),
    /// Any path that begins so (`abc/**`).
    Prefix(String),
    /// Any path that ends so (`**foo`), or, when it begins with `/`, is the rest (`**/foo`).
    Suffix(String),
    /// Any path in which a component matches (`**/*.o`).
    Component(Pattern),
    /// `needs` stands in every path that matches: a quick way to say no.
    Automaton { states: Vec<State>, needs: String },
}

/// One state of the automaton: what may be read there.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// One character, then the next state.
    One(Atom),
    /// `*`: any number that are no `/`; or nothing.
    Star,
    /// `**/`: into the next state, or past it.
    Directories,
    /// Any number of characters, leaving by a `/`.
    UpToSlash,
    /// `**` at the end: anything.
    Rest,
}

impl Matcher {
    /// Compiles a cleaned pattern.
    pub(super) fn new(pattern: &str) -> Result<Matcher, super::BadPattern> {
        let literal = |text: &str| !text.contains(['*', '?', '[', ']', '\\']);
        if literal(pattern) {
            return Ok(Matcher::Exact(pattern.to_owned()));
        }
        if let Some(prefix) = pattern.strip_suffix("**").filter(|prefix| literal(prefix)) {
            return Ok(Matcher::Prefix(prefix.to_owned()));
        }
        // Docker matches `**foo` as a plain suffix, though only when nothing in it is special.
        if let Some(suffix) = pattern.strip_prefix("**").filter(|suffix| literal(suffix)) {
            return Ok(Matcher::Suffix(suffix.to_owned()));
        }
        // A class may match a `/`, and then spans components; `?` behind a star is a character
        // here, and a byte in a name by itself (`glob`).
        if let Some(component) =
            pattern.strip_prefix("**/").filter(|c| !c.contains(['/', '[', '?']) && !c.contains("**"))
        {
            return Ok(Matcher::Component(Pattern::new(component)?));
        }
        let bad = || super::BadPattern(pattern.to_owned());
        let mut states = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            if c != '*' {
                states.push(State::One(glob::atom(c, &mut chars).ok_or_else(bad)?));
            } else if let Some(rest) = chars.as_str().strip_prefix('*') {
                chars = rest.strip_prefix('/').unwrap_or(rest).chars();
                if chars.as_str().is_empty() {
                    states.push(State::Rest);
                } else {
                    states.extend([State::Directories, State::UpToSlash]);
                }
            } else {
                states.push(State::Star);
            }
        }
        let needs = longest_literal(&states);
        Ok(Matcher::Automaton { states, needs })
    }

    /// Tells whether the path or a directory it is in matches.
    pub(super) fn matches_path_or_parent(&self, path: &str) -> bool {
        match self {
            Matcher::Exact(own) => {
                path.strip_prefix(own.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Matcher::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Matcher::Suffix(suffix) => {
                let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
                ends.map(|end| &path[..end]).any(|path| {
                    path.ends_with(suffix.as_str())
                        || suffix.strip_prefix('/').is_some_and(|rest| rest == path)
                })
            }
            Matcher::Component(pattern) => path.split('/').any(|component| pattern.matches(component)),
            Matcher::Automaton { states, needs } => path.contains(needs.as_str()) && run(states, path).0,
        }
    }

    /// Tells whether a path that begins with `directory` (which ends in `/`) may match.
    pub(super) fn may_match_below(&self, directory: &str) -> bool {
        match self {
            Matcher::Exact(own) => own.starts_with(directory),
            Matcher::Prefix(prefix) => {
                prefix.starts_with(directory) || directory.starts_with(prefix.as_str())
            }
            Matcher::Suffix(_) | Matcher::Component(_) => true,
            Matcher::Automaton { states, .. } => {
                let (matched, alive) = run(states, directory);
                matched || alive
            }
        }
    }
}

/// Returns the longest text that is read without a choice.
fn longest_literal(states: &[State]) -> String {
    let mut longest = String::new();
    let mut current = String::new();
    for state in states {
        match state {
            State::One(Atom::Char(c)) => current.push(*c),
            _ => current.clear(),
        }
        if current.len() > longest.len() {
            longest.clone_from(&current);
        }
    }
    longest
}

/// Reads a path; tells whether it or a parent was accepted, and whether more could be read.
fn run(states: &[State], path: &str) -> (bool, bool) {
    let mut set = Set::new(states.len() + 1);
    let mut next = set.clone();
    set.enter(states, 0);
    for c in path.chars() {
        if c == '/' && set.has(states.len()) {
            return (true, true);
        }
        next.clear();
        let mut from = 0;
        while let Some(index) = set.first_from(from).filter(|&index| index < states.len()) {
            from = index + 1;
            match &states[index] {
                State::One(atom) if atom.matches(c) => next.enter(states, index + 1),
                State::Star if c != '/' => next.enter(states, index),
                State::UpToSlash => {
                    next.insert(index);
                    if c == '/' {
                        next.enter(states, index + 1);
                    }
                }
                State::Rest => next.enter(states, index),
                State::One(_) | State::Star | State::Directories => {}
            }
        }
        std::mem::swap(&mut set, &mut next);
        if set.is_empty() {
            return (false, false);
        }
    }
    (set.has(states.len()), true)
}

/// A set of states; one word for all but very long patterns.
#[derive(Debug, Clone)]
enum Set {
    Small(u128),
    Large(Vec<bool>),
}

impl Set {
    fn new(size: usize) -> Set {
        if size <= 128 { Set::Small(0) } else { Set::Large(vec![false; size]) }
    }

    fn has(&self, index: usize) -> bool {
        match self {
            Set::Small(bits) => bits & (1 << index) != 0,
            Set::Large(all) => all[index],
        }
    }

    /// Returns the first state that is in it, at or after an index.
    fn first_from(&self, index: usize) -> Option<usize> {
        match self {
            Set::Small(bits) => {
                let rest = bits & u128::MAX.checked_shl(u32::try_from(index).ok()?)?;
                (rest != 0).then_some(rest.trailing_zeros() as usize)
            }
            Set::Large(all) => (index..all.len()).find(|&index| all[index]),
        }
    }

    fn insert(&mut self, index: usize) {
        match self {
            Set::Small(bits) => *bits |= 1 << index,
            Set::Large(all) => all[index] = true,
        }
    }

    fn clear(&mut self) {
        match self {
            Set::Small(bits) => *bits = 0,
            Set::Large(all) => all.fill(false),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Set::Small(bits) => *bits == 0,
            Set::Large(all) => !all.contains(&true),
        }
    }

    /// Inserts a state and those reached from it without reading.
    fn enter(&mut self, states: &[State], index: usize) {
        let mut index = index;
        loop {
            if self.has(index) {
                return;
            }
            self.insert(index);
            match states.get(index) {
                Some(State::Star | State::Rest) => index += 1,
                Some(State::Directories) => {
                    self.insert(index + 1);
                    index += 2;
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn matches_paths() {
        let check = |pattern: &str, path: &str, expect: bool| {
            assert_eq!(PathPattern::new(pattern).unwrap().matches(path), expect, "{pattern} {path}");
        };
        check("a/b", "a/b", true);
        check("a/b", "a/b/c", true);
        check("a/b", "a", false);
        check("a/*", "a/b", true);
        check("a/*/c", "a/b/c", true);
        check("a/*/c", "a/b/d/c", false);
        check("**/c", "a/b/c", true);
        check("**/*??b", "a/日b", false);
        check("**.c", "a/b/x.c", true);
        check("a/**.c", "a/b/.c", true);
        check("a/**.c", "a/b/x.c", false);
        check("a**c", "a/b/c", true);
        check(r"\*", "*", true);
        check("!a", "!a", true);
        check("!a", "b", false);
        check(" a", " a", true);
        assert!(PathPattern::new("[").is_err());
    }

    #[test]
    fn knows_where_nothing_can_match() {
        let check = |pattern: &str, directory: &str, expect: bool| {
            let pattern = PathPattern::new(pattern).unwrap();
            assert_eq!(pattern.may_match_below(directory), expect, "{pattern:?} {directory}");
        };
        check("a/b", "a", true);
        check("a/b", "b", false);
        check("a/*/c", "a/x", true);
        check("a/*/c", "b/x", false);
        check("a/**", "a/x/y", true);
        check("**/c", "x", true);
    }

    proptest! {
        /// The faster way says what the automaton says.
        #[test]
        fn component_is_automaton(pattern in "[ab?*]{1,4}", path in "[abé日]{1,3}(/[abé日]{1,3}){0,3}") {
            prop_assume!(!pattern.contains("**"));
            let fast = Matcher::new(&format!("**/{pattern}")).unwrap();
            // The class keeps it from being seen as a component.
            let slow = Matcher::new(&format!("**/{}", pattern.replace('a', "[a]"))).unwrap();
            prop_assert_eq!(fast.matches_path_or_parent(&path), slow.matches_path_or_parent(&path));
        }
    }
}
