//! Variables, quotes and escapes in a word, as a POSIX shell has them.
//!
//! `$v ${v} ${v:-w} ${v-w} ${v:+w} ${v+w} ${v:?m} ${v?m} ${v#p} ${v##p} ${v%p} ${v%%p}
//! ${v/p/r} ${v//p/r}`, nested. Two things differ from a shell because Docker has them
//! so: a pattern knows `*` and `?` but no brackets, and quotes inside a pattern do not
//! make it literal. Words of branches not taken have no effect, as in a shell. Names
//! are ASCII letters, digits and `_`; the shell's special parameters are never set.
//!
//! Time is linear in the word, but for patterns: at most pattern times value. Results
//! and nesting are bounded. Not here: where the values come from.

use std::borrow::Cow;
use std::collections::HashSet;

mod glob;

/// No word expands to more bytes than this, nor, where it is itself longer, than its
/// own length.
const MAX_RESULT: usize = 4 << 20;

/// `${a:-${b:-...}}` may nest so deep.
const MAX_DEPTH: usize = 64;

/// What a word became.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    pub text: String,
    /// Names that were used though they are not set, in order, each once. A form that
    /// provides for that (`-`, `+`, `?`) is no such use.
    pub unset: Vec<String>,
}

/// What a word became when it may become several.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExpandedWords {
    pub words: Vec<String>,
    /// As [`Expanded::unset`].
    pub unset: Vec<String>,
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process `{word}`: {problem}")]
pub struct ExpandError {
    /// The word as written, cut when long.
    pub word: String,
    pub problem: Problem,
}

/// What is wrong in a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("unexpected end of statement while looking for matching {0}")]
    Unterminated(&'static str),
    #[error("syntax error: missing '{0}' in ${{}}")]
    Missing(char),
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    #[error("unsupported modifier ({0}) in substitution")]
    UnsupportedModifier(String),
    #[error("invalid pattern `{0}` in substitution")]
    BadPattern(String),
    /// `${v:?message}`.
    #[error("{name}: {message}")]
    Required { name: String, message: String },
    #[error("the result is longer than {MAX_RESULT} bytes")]
    TooLong,
    #[error("more than {MAX_DEPTH} substitutions inside one another")]
    TooDeep,
    #[error("pattern and value are too long to be matched")]
    TooCostly,
}

/// Where values come from: the value of a variable, `None` when it is not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands a word and removes its quotes; `escape` is the file's escape character.
pub fn expand(word: &str, escape: char, lookup: Lookup<'_>) -> Result<Expanded, ExpandError> {
    run(word, escape, Quotes::Remove, true, lookup).map(|(text, _, unset)| Expanded { text, unset })
}

/// Expands a word and splits the result at blanks that were not quoted (EXPOSE).
pub fn expand_words(word: &str, escape: char, lookup: Lookup<'_>) -> Result<ExpandedWords, ExpandError> {
    run(word, escape, Quotes::Remove, true, lookup).map(|(_, words, unset)| ExpandedWords { words, unset })
}

/// Expands text in which quotes mean nothing: the body of a heredoc in COPY and ADD.
/// The escape character is the backslash; it makes any character after it literal.
pub fn expand_text(text: &str, lookup: Lookup<'_>) -> Result<Expanded, ExpandError> {
    run(text, '\\', Quotes::Literal, true, lookup).map(|(text, _, unset)| Expanded { text, unset })
}

/// Expands a word in which quotes mean nothing and blanks belong to it: one that came
/// from a JSON list.
pub fn expand_json(word: &str, escape: char, lookup: Lookup<'_>) -> Result<Expanded, ExpandError> {
    run(word, escape, Quotes::Literal, true, lookup).map(|(text, _, unset)| Expanded { text, unset })
}

/// Removes quotes and escapes; `$` means nothing.
pub fn unquote(word: &str, escape: char) -> Result<String, ExpandError> {
    run(word, escape, Quotes::Remove, false, &|_| None).map(|(text, _, _)| text)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Remove,
    Literal,
}

fn run(
    word: &str,
    escape: char,
    quotes: Quotes,
    variables: bool,
    lookup: Lookup<'_>,
) -> Result<(String, Vec<String>, Vec<String>), ExpandError> {
    let mut expander = Expander {
        word,
        position: 0,
        escape,
        quotes,
        variables,
        lookup,
        unset: Vec::new(),
        noted: HashSet::new(),
        limit: MAX_RESULT.max(word.len()),
        depth: 0,
    };
    match expander.until(None, Mode { raw: false, live: true }) {
        Ok(out) => {
            let words = out.split.finish();
            Ok((out.text, words, expander.unset))
        }
        Err(problem) => {
            const SHOWN: usize = 80;
            let mut shown: String = word.chars().take(SHOWN).collect();
            if shown.len() < word.len() {
                shown.push_str("...");
            }
            Err(ExpandError { word: shown, problem })
        }
    }
}

/// How a part of a word is read.
#[derive(Debug, Clone, Copy)]
struct Mode {
    /// Escape characters stay in the result: it is a pattern.
    raw: bool,
    /// Whether the part counts; in one that does not, nothing is unset or required.
    live: bool,
}

/// A result, whole and in words.
#[derive(Debug, Default)]
struct Out {
    text: String,
    split: Split,
}

/// Collects the words of a result.
#[derive(Debug, Default)]
struct Split {
    words: Vec<String>,
    word: String,
}

impl Split {
    fn blank(&mut self) {
        if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn finish(mut self) -> Vec<String> {
        self.blank();
        self.words
    }
}

impl Out {
    /// Adds text whose blanks separate words.
    fn push_plain(&mut self, text: &str) {
        self.text.push_str(text);
        for c in text.chars() {
            if c.is_whitespace() {
                self.split.blank();
            } else {
                self.split.word.push(c);
            }
        }
    }

    /// Adds text that was quoted.
    fn push_quoted(&mut self, text: &str) {
        self.text.push_str(text);
        self.split.word.push_str(text);
    }

    fn push_char(&mut self, c: char, quoted: bool) {
        let mut buffer = [0; 4];
        let text = c.encode_utf8(&mut buffer);
        if quoted { self.push_quoted(text) } else { self.push_plain(text) }
    }
}

/// The state of one expansion.
struct Expander<'a> {
    word: &'a str,
    position: usize,
    escape: char,
    quotes: Quotes,
    variables: bool,
    lookup: Lookup<'a>,
    unset: Vec<String>,
    /// The same names, to be found quickly.
    noted: HashSet<&'a str>,
    limit: usize,
    depth: usize,
}

impl<'a> Expander<'a> {
    fn peek(&self) -> Option<char> {
        self.word[self.position..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.position += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, expected: char) -> bool {
        let found = self.peek() == Some(expected);
        if found {
            self.position += expected.len_utf8();
        }
        found
    }

    /// Reads to the end, or to `stop`, which is taken too.
    ///
    /// Grammar: expandable
    fn until(&mut self, stop: Option<char>, mode: Mode) -> Result<Out, Problem> {
        let mut out = Out::default();
        while let Some(c) = self.next() {
            match c {
                c if Some(c) == stop => return Ok(out),
                '\'' if self.quotes == Quotes::Remove => out.push_quoted(self.single_quoted()?),
                '"' if self.quotes == Quotes::Remove => out.push_quoted(&self.double_quoted(mode)?),
                '$' if self.variables => out.push_plain(&self.dollar(mode)?),
                c if c == self.escape => {
                    if mode.raw {
                        out.push_char(c, true);
                    }
                    if let Some(next) = self.next() {
                        out.push_char(next, true);
                    }
                }
                c => out.push_char(c, false),
            }
            if out.text.len() > self.limit {
                return Err(Problem::TooLong);
            }
        }
        match stop {
            Some(stop) => Err(Problem::Missing(stop)),
            None => Ok(out),
        }
    }

    /// Reads the rest of `'...'`.
    ///
    /// Grammar: single_quoted
    fn single_quoted(&mut self) -> Result<&'a str, Problem> {
        let rest = &self.word[self.position..];
        let length = rest.find('\'').ok_or(Problem::Unterminated("single-quote"))?;
        self.position += length + 1;
        Ok(&rest[..length])
    }

    /// Reads the rest of `"..."`: only `"`, `$` and the escape character can be escaped.
    ///
    /// Grammar: double_quoted
    fn double_quoted(&mut self, mode: Mode) -> Result<String, Problem> {
        let mut text = String::new();
        loop {
            match self.next().ok_or(Problem::Unterminated("double-quote"))? {
                '"' => return Ok(text),
                '$' if self.variables => text.push_str(&self.dollar(mode)?),
                c if c == self.escape => match self.peek() {
                    Some(next) if next == '"' || next == '$' || next == self.escape => {
                        if mode.raw {
                            text.push(c);
                        }
                        text.push(next);
                        self.next();
                    }
                    _ => text.push(c),
                },
                c => text.push(c),
            }
            if text.len() > self.limit {
                return Err(Problem::TooLong);
            }
        }
    }

    /// Reads what follows a `$`.
    ///
    /// Grammar: variable
    fn dollar(&mut self, mode: Mode) -> Result<Cow<'static, str>, Problem> {
        if self.eat('{') {
            if self.depth >= MAX_DEPTH {
                return Err(Problem::TooDeep);
            }
            self.depth += 1;
            let value = self.braces(mode)?;
            self.depth -= 1;
            return Ok(value.into());
        }
        match self.name() {
            "" => Ok("$".into()),
            name => Ok(self.get_or_note(name, mode).into()),
        }
    }

    /// Reads what follows a `${`.
    ///
    /// Grammar: substitution
    fn braces(&mut self, mode: Mode) -> Result<String, Problem> {
        match self.peek() {
            None => return Err(Problem::Missing('}')),
            Some('{' | '}' | ':') => return Err(Problem::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        let modifier = self.next().ok_or(Problem::Missing('}'))?;
        match modifier {
            '}' => Ok(self.get_or_note(name, mode)),
            ':' => match self.next() {
                None => Err(Problem::Missing('}')),
                Some(modifier @ ('-' | '+' | '?')) => self.conditional(name, modifier, true, mode),
                Some(other) => Err(Problem::UnsupportedModifier(format!(":{other}"))),
            },
            '-' | '+' | '?' => self.conditional(name, modifier, false, mode),
            '#' | '%' => self.trim(name, modifier, mode),
            '/' => self.replace(name, mode),
            other => Err(Problem::UnsupportedModifier(other.to_string())),
        }
    }

    /// `${v-w}`, `${v+w}`, `${v?w}`; with a colon, empty counts as not set.
    fn conditional(
        &mut self,
        name: &str,
        modifier: char,
        colon: bool,
        mode: Mode,
    ) -> Result<String, Problem> {
        let value = if mode.live { (self.lookup)(name) } else { None };
        let was_set = value.is_some();
        let value = value.filter(|value| !(colon && value.is_empty()));
        let wanted = match modifier {
            '+' => value.is_some(),
            _ => value.is_none(),
        };
        let inner = Mode { raw: false, live: mode.live && wanted };
        let word = self.until(Some('}'), inner)?.text;
        match (modifier, value) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', value) => Ok(value.map(|_| word).unwrap_or_default()),
            (_, Some(value)) => Ok(value),
            (_, None) if !mode.live => Ok(String::new()),
            (_, None) => {
                let default =
                    if was_set { "is not allowed to be empty" } else { "is not allowed to be unset" };
                let message = if word.is_empty() { default.to_owned() } else { word };
                Err(Problem::Required { name: name.to_owned(), message })
            }
        }
    }

    /// `${v#p}`, `${v##p}`, `${v%p}`, `${v%%p}`.
    fn trim(&mut self, name: &'a str, modifier: char, mode: Mode) -> Result<String, Problem> {
        let longest = self.eat(modifier);
        let pattern = self.until(Some('}'), Mode { raw: true, ..mode })?.text;
        let value = self.get_or_note(name, mode);
        let pattern = self.pattern(&pattern, &value, mode)?;
        Ok(if modifier == '#' {
            pattern.trim_prefix(&value, longest).to_owned()
        } else {
            pattern.trim_suffix(&value, longest).to_owned()
        })
    }

    /// `${v/p/r}` and `${v//p/r}`.
    fn replace(&mut self, name: &'a str, mode: Mode) -> Result<String, Problem> {
        let all = self.eat('/');
        let pattern = self.until(Some('/'), Mode { raw: true, ..mode })?.text;
        let replacement = self.until(Some('}'), Mode { raw: false, ..mode })?.text;
        let value = self.get_or_note(name, mode);
        let pattern = self.pattern(&pattern, &value, mode)?;
        pattern.replace(&value, &replacement, all, self.limit).ok_or(Problem::TooLong)
    }

    fn pattern(&self, pattern: &str, value: &str, mode: Mode) -> Result<glob::Glob, Problem> {
        const MOST_WORK: usize = 1 << 28;
        if pattern.len().saturating_mul(value.len()) > MOST_WORK {
            return Err(Problem::TooCostly);
        }
        // Without the values in it a pattern may be none, where it does not count.
        let pattern = if mode.live { pattern } else { "" };
        glob::Glob::new(pattern, self.escape).ok_or_else(|| Problem::BadPattern(pattern.to_owned()))
    }

    /// Reads a name: letters, digits and `_`, or digits alone, or a special parameter.
    ///
    /// Grammar: variable_name
    fn name(&mut self) -> &'a str {
        let rest = &self.word[self.position..];
        let length = match rest.as_bytes().first() {
            Some(b'0'..=b'9') => rest.bytes().take_while(u8::is_ascii_digit).count(),
            Some(b'@' | b'*' | b'#' | b'?' | b'-' | b'$' | b'!') => 1,
            _ => rest.bytes().take_while(|&b| b.is_ascii_alphanumeric() || b == b'_').count(),
        };
        self.position += length;
        &rest[..length]
    }

    /// Returns a variable's value; when it is not set, notes its name.
    fn get_or_note(&mut self, name: &'a str, mode: Mode) -> String {
        if !mode.live {
            return String::new();
        }
        match (self.lookup)(name) {
            Some(value) => value,
            None => {
                if self.noted.insert(name) {
                    self.unset.push(name.to_owned());
                }
                String::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vars(name: &str) -> Option<String> {
        let value = match name {
            "a" => "A",
            "b" => "x y",
            "e" => "",
            "path" => "/usr/local/lib.tar.gz",
            "q" => "it's",
            "star" => "a*c",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn text(word: &str) -> String {
        match expand(word, '\\', &vars) {
            Ok(out) => out.text,
            Err(error) => format!("! {}", error.problem),
        }
    }

    #[test]
    fn expands() {
        let check = |word, expect: &str| assert_eq!(text(word), expect, "{word}");
        check("", "");
        check("$a", "A");
        check("x${a}y", "xAy");
        check("$ab", "");
        check("$a.b", "A.b");
        check("$", "$");
        check("a$ b", "a$ b");
        check("$.", "$.");
        check("$1x", "x");
        check("$12x", "x");
        check("$@$*", "");
        check("${@}", "");
        check("\\$a", "$a");
        check("'$a'", "$a");
        check("\"$a\"", "A");
        check("\"\\$a \\\" \\\\ \\n\"", "$a \" \\ \\n");
        check("\\n\\\\", "n\\");
        check("x\\", "x");
        check("'a\\'", "a\\");
        check("a'b'\"c\"d", "abcd");
        check("$q", "it's");
        check("é$a", "éA");
        check("$é", "$é");
    }

    #[test]
    fn conditions() {
        let check = |word, expect: &str| assert_eq!(text(word), expect, "{word}");
        check("${a:-w}", "A");
        check("${e:-w}", "w");
        check("${e-w}", "");
        check("${u:-w}", "w");
        check("${u-w}", "w");
        check("${u:-}", "");
        check("${a:+w}", "w");
        check("${e:+w}", "");
        check("${e+w}", "w");
        check("${u+w}", "");
        check("${u:-$a}", "A");
        check("${u:-${v:-${a}}}", "A");
        check("${u:-'$a'\"$a\"}", "$aA");
        check("${u:-\\}}", "}");
        check("${a:?m}", "A");
        check("${u:?no u}", "! u: no u");
        check("${u?}", "! u: is not allowed to be unset");
        check("${e:?}", "! e: is not allowed to be empty");
        check("${e?}", "");
        check("${a:-${u:?never}}", "A");
        check("${u:+${w:?never}}", "");
    }

    #[test]
    fn patterns() {
        let check = |word, expect: &str| assert_eq!(text(word), expect, "{word}");
        check("${path#*/}", "usr/local/lib.tar.gz");
        check("${path##*/}", "lib.tar.gz");
        check("${path%.*}", "/usr/local/lib.tar");
        check("${path%%.*}", "/usr/local/lib");
        check("${path#nope}", "/usr/local/lib.tar.gz");
        check("${path%.??}", "/usr/local/lib.tar");
        check("${path##*}", "");
        check("${path#*}", "/usr/local/lib.tar.gz");
        check("${star#a\\*}", "c");
        check("${star#a\\?}", "a*c");
        check("${path/l/L}", "/usr/Local/lib.tar.gz");
        check("${path//l/L}", "/usr/LocaL/Lib.tar.gz");
        check("${path/\\/usr\\//_}", "_local/lib.tar.gz");
        check("${path/l*a/_}", "/usr/_r.gz");
        check("${path//?/x}", "xxxxxxxxxxxxxxxxxxxxx");
        check("${path//\\//\\}}", "}usr}local}lib.tar.gz");
        check("${a/A/$b}", "x y");
        check("${a/${a}/w}", "w");
        check("${u/a/b}", "");
        check("${path//./}", "/usr/local/libtargz");
        check("${a#\\x}", "! invalid pattern `\\x` in substitution");
        check("${a:-${b#\\x}}", "A");
        check("${a:-${b%${path:-a\\\\b}}}", "A");
    }

    #[test]
    fn bad_forms() {
        let check = |word, expect: &str| assert_eq!(text(word), format!("! {expect}"), "{word}");
        check("'a", "unexpected end of statement while looking for matching single-quote");
        check("\"a", "unexpected end of statement while looking for matching double-quote");
        check("${", "syntax error: missing '}' in ${}");
        check("${a", "syntax error: missing '}' in ${}");
        check("${a:", "syntax error: missing '}' in ${}");
        check("${a:-", "syntax error: missing '}' in ${}");
        check("${a/x}", "syntax error: missing '/' in ${}");
        check("${a/x/y", "syntax error: missing '}' in ${}");
        check("${}", "syntax error: bad substitution");
        check("${:x}", "syntax error: bad substitution");
        check("${{a}}", "syntax error: bad substitution");
        check("${a:X}", "unsupported modifier (:X) in substitution");
        check("${a:=x}", "unsupported modifier (:=) in substitution");
        check("${a=x}", "unsupported modifier (=) in substitution");
        check("${a b}", "unsupported modifier ( ) in substitution");
        let error = expand("${}", '\\', &vars).unwrap_err();
        assert_eq!(error.to_string(), "failed to process `${}`: syntax error: bad substitution");
    }

    #[test]
    fn notes_unset() {
        let check = |word, expect: &[&str]| {
            assert_eq!(expand(word, '\\', &vars).unwrap().unset, expect, "{word}");
        };
        check("$a$u${w}$u", &["u", "w"]);
        check("${u:-x}${u-x}${u:+$w}${a:-$w}", &[]);
        check("${u:-$w}", &["w"]);
        check("${u#x}", &["u"]);
        check("'$u'", &[]);
    }

    #[test]
    fn splits_words() {
        let check = |word, expect: &[&str]| {
            assert_eq!(expand_words(word, '\\', &vars).unwrap().words, expect, "{word}");
        };
        check("$b", &["x", "y"]);
        check("\"$b\"", &["x y"]);
        check("p$b'z w'", &["px", "yz w"]);
        check("a\\ b c", &["a b", "c"]);
        check("$u", &[]);
        check("", &[]);
    }

    #[test]
    fn other_readings() {
        let check = |word, expect: &str| assert_eq!(expand_text(word, &vars).unwrap().text, expect, "{word}");
        check("it's \"$a\" \\$a \\\\ \\\n$b\n", "it's \"A\" $a \\ \nx y\n");
        assert_eq!(expand_json("it's $a", '\\', &vars).unwrap().text, "it's A");
        assert_eq!(unquote("'a b'\"$c\"\\ d", '\\').unwrap(), "a b$c d");
        assert!(unquote("'a", '\\').is_err());
        assert_eq!(expand("`$a\\$a", '`', &vars).unwrap().text, "$a\\A");
        assert_eq!(expand("${path#`*}", '`', &vars).unwrap().text, "/usr/local/lib.tar.gz");
    }

    #[test]
    fn is_bounded() {
        let problem = |word: &str, value: &str| {
            let value = value.to_owned();
            expand(word, '\\', &move |_| Some(value.clone())).unwrap_err().problem
        };
        assert_eq!(problem(&"${u:-".repeat(100), ""), Problem::TooDeep);
        assert_eq!(problem(&"$v".repeat(5000), &"x".repeat(1000)), Problem::TooLong);
        assert_eq!(problem("${v//x/$v}", &"x".repeat(4000)), Problem::TooLong);
        let stars = format!("${{v##{}b}}", "*a".repeat(500));
        let value = "a".repeat(100_000);
        assert_eq!(expand(&stars, '\\', &|_| Some(value.clone())).unwrap().text, value);
    }

    proptest! {
        #[test]
        fn never_panics(word in "[a-z$\\{\\}:\\-+?#%/\\\\'\"* é]{0,40}") {
            for escape in ['\\', '`'] {
                let _ = expand(&word, escape, &vars);
                let _ = expand_words(&word, escape, &vars);
                let _ = unquote(&word, escape);
            }
            let _ = expand_text(&word, &vars);
        }

        #[test]
        fn plain_text_stays(word in "[a-zA-Z0-9_./:=é -]{0,40}") {
            prop_assert_eq!(text(&word), word);
        }
    }
}
