//! A shell text cut into simple commands, well enough for checks.
//!
//! Quotes, escapes, comments and the operators between commands are understood; what
//! expands, and compound commands, are not: `if`, `do` and the like are just left off in
//! front of a command. Not here: what the checks look for (`run`).

/// A command and its words, quotes removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Simple {
    pub words: Vec<String>,
    /// Whether a pipe brings its input.
    pub piped: bool,
    /// Whether it stands alone: a line end or `;` before it, not `&&`, `||` or a pipe.
    pub begins: bool,
}

/// Words that stand in front of a command without being one.
const PREFIXES: [&str; 16] = [
    "if", "then", "else", "elif", "do", "while", "until", "{", "(", "!", "time", "exec", "sudo", "command",
    "env", "nice",
];

impl Simple {
    /// Returns the command's name and its arguments; prefixes and assignments are left off.
    pub fn command(&self) -> Option<(&str, &[String])> {
        let is_assignment = |word: &str| {
            word.split_once('=').is_some_and(|(name, _)| {
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            })
        };
        let mut words = self.words.as_slice();
        while let Some((first, rest)) = words.split_first() {
            if PREFIXES.contains(&first.as_str()) || is_assignment(first) {
                words = rest;
                continue;
            }
            return Some((first.rsplit('/').next().unwrap_or(first), rest));
        }
        None
    }
}

/// Cuts a text into its commands.
pub(super) fn commands(text: &str) -> Vec<Simple> {
    let mut cut = Cut { begins: true, ..Cut::default() };
    let mut chars = text.chars().peekable();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => {
                quote = Some(c);
                cut.open = true;
            }
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => cut.word.push(c),
            (_, '\\') => match chars.next() {
                Some('\n') | None => {}
                Some(next) => {
                    cut.open = true;
                    cut.word.push(next);
                }
            },
            (Some(_), c) => cut.word.push(c),
            (None, '\n' | ';') => cut.end(true, false),
            (None, '&') if cut.word.ends_with('>') || chars.peek() == Some(&'>') => cut.word.push('&'),
            (None, '&') => {
                let both = chars.next_if_eq(&'&').is_some();
                cut.end(!both, false);
            }
            (None, '|') => {
                let or = chars.next_if_eq(&'|').is_some();
                chars.next_if_eq(&'&');
                cut.end(false, !or);
            }
            (None, '(' | ')') => cut.end(true, false),
            (None, '#') if cut.word.is_empty() && !cut.open => {
                while chars.next_if(|&c| c != '\n').is_some() {}
            }
            (None, c) if c.is_whitespace() => cut.end_word(),
            (None, c) => {
                cut.open = true;
                cut.word.push(c);
            }
        }
    }
    cut.end(true, false);
    cut.done
}

/// The state of the cutting.
#[derive(Debug, Default)]
struct Cut {
    done: Vec<Simple>,
    words: Vec<String>,
    word: String,
    /// Whether a word has begun, though it may be empty (`''`).
    open: bool,
    begins: bool,
    piped: bool,
}

impl Cut {
    fn end_word(&mut self) {
        if self.open || !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
        self.open = false;
    }

    /// Ends a command; says what the operator means for the next one.
    fn end(&mut self, begins: bool, piped: bool) {
        self.end_word();
        if !self.words.is_empty() {
            let words = std::mem::take(&mut self.words);
            self.done.push(Simple { words, piped: self.piped, begins: self.begins });
        } else if !begins {
            // `&& \n`: an operator goes on over line ends.
        } else if !self.begins {
            return;
        }
        self.begins = begins;
        self.piped = piped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts() {
        let check = |text: &str, expect: &[&str]| {
            let found: Vec<String> = commands(text)
                .iter()
                .map(|c| {
                    let begins = if c.begins { "" } else { "+" };
                    let piped = if c.piped { "|" } else { "" };
                    format!("{begins}{piped}{}", c.words.join(","))
                })
                .collect();
            assert_eq!(found, expect, "{text:?}");
        };
        check("", &[]);
        check("a b", &["a,b"]);
        check("a && b || c; d & e", &["a", "+b", "+c", "d", "e"]);
        check("a | b", &["a", "+|b"]);
        check("a 'b c' \"d;e\" f\\ g", &["a,b c,d;e,f g"]);
        check("a \\\n b &&\n  c\nd", &["a,b", "+c", "d"]);
        check("# no\na # b\nc", &["a", "c"]);
        check("a#b ''", &["a#b,"]);
        check("a 2>&1 &>x", &["a,2>&1,&>x"]);
        check("(a; b)", &["a", "b"]);
    }

    #[test]
    fn finds_the_command() {
        let check = |text: &str, expect: &str| {
            let found = commands(text);
            let (name, rest) = found[0].command().unwrap();
            assert_eq!(format!("{name} {}", rest.join(" ")), expect, "{text}");
        };
        check("apt-get update", "apt-get update");
        check("DEBIAN_FRONTEND=noninteractive sudo /usr/bin/apt-get install x", "apt-get install x");
        check("if ! a b", "a b");
        assert_eq!(commands("A=1")[0].command(), None);
    }
}
