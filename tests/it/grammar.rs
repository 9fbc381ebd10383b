//! The formal grammar against the parser, both ways, and as a generator of input.
//!
//! `grammar/README.md` says how the files are written. The reader here knows the part
//! of ISO 14977 that they use.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use rbuild::dockerfile::{expand, parse, parse_onbuild};
use rbuild::pattern::Ignore;
use rbuild::report::Span;

/// The right side of a production.
#[derive(Debug, Clone)]
enum Expr {
    Terminal(String),
    Name(String),
    Special(String),
    Sequence(Vec<Expr>),
    Choice(Vec<Expr>),
    Optional(Box<Expr>),
    Repeat(Box<Expr>),
}

#[derive(Debug)]
struct Production {
    /// `src/dockerfile/words.rs`
    file: String,
    function: String,
    expr: Expr,
}

type Grammar = BTreeMap<String, Production>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn grammar() -> Grammar {
    let mut grammar = Grammar::new();
    let mut files = 0;
    for entry in std::fs::read_dir(root().join("grammar")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "ebnf") {
            files += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            Reader { text: &text, at: 0, comment: "" }.productions(&mut grammar);
        }
    }
    assert!(files >= 3 && grammar.len() > 50, "the grammar is nearly empty");
    grammar
}

/// Reads a grammar file.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// The last comment passed.
    comment: &'a str,
}

impl<'a> Reader<'a> {
    fn peek(&mut self) -> Option<char> {
        loop {
            let rest = self.text[self.at..].trim_start();
            self.at = self.text.len() - rest.len();
            let Some(comment) = rest.strip_prefix("(*") else { return rest.chars().next() };
            let end = comment.find("*)").expect("a comment ends");
            self.comment = comment[..end].trim();
            self.at += end + 4;
        }
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        self.at += if found { c.len_utf8() } else { 0 };
        found
    }

    fn expect(&mut self, c: char) {
        assert!(self.eat(c), "`{c}` expected at: {:.40}", &self.text[self.at..]);
    }

    fn up_to(&mut self, end: char) -> &'a str {
        let rest = &self.text[self.at..];
        let length = rest.find(end).expect("what is opened is closed");
        self.at += length + end.len_utf8();
        &rest[..length]
    }

    fn name(&mut self) -> &'a str {
        self.peek();
        let rest = &self.text[self.at..];
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        assert!(length > 0, "a name expected at: {rest:.40}");
        self.at += length;
        &rest[..length]
    }

    fn productions(mut self, grammar: &mut Grammar) {
        while self.peek().is_some() {
            let comment = self.comment;
            let name = self.name();
            let (file, function) =
                comment.split_once(": ").unwrap_or_else(|| panic!("`{name}` names no function: {comment}"));
            self.expect('=');
            let expr = self.choice();
            self.expect(';');
            let production = Production { file: file.to_owned(), function: function.to_owned(), expr };
            assert!(grammar.insert(name.to_owned(), production).is_none(), "`{name}` twice");
        }
    }

    fn choice(&mut self) -> Expr {
        let mut parts = vec![self.sequence()];
        while self.eat('|') {
            parts.push(self.sequence());
        }
        if parts.len() == 1 { parts.remove(0) } else { Expr::Choice(parts) }
    }

    fn sequence(&mut self) -> Expr {
        let mut parts = vec![self.factor()];
        while self.eat(',') {
            parts.push(self.factor());
        }
        if parts.len() == 1 { parts.remove(0) } else { Expr::Sequence(parts) }
    }

    fn factor(&mut self) -> Expr {
        let c = self.peek().expect("more to come");
        let closed = |reader: &mut Reader<'a>, end| {
            let inner = reader.choice();
            reader.expect(end);
            inner
        };
        self.at += 1;
        match c {
            '"' | '\'' => Expr::Terminal(self.up_to(c).to_owned()),
            '?' => Expr::Special(self.up_to('?').trim().to_owned()),
            '(' => closed(self, ')'),
            '[' => Expr::Optional(Box::new(closed(self, ']'))),
            '{' => Expr::Repeat(Box::new(closed(self, '}'))),
            _ => {
                self.at -= 1;
                Expr::Name(self.name().to_owned())
            }
        }
    }
}

fn names(expr: &Expr, found: &mut BTreeSet<String>) {
    match expr {
        Expr::Terminal(_) | Expr::Special(_) => {}
        Expr::Name(name) => {
            found.insert(name.clone());
        }
        Expr::Sequence(parts) | Expr::Choice(parts) => parts.iter().for_each(|part| names(part, found)),
        Expr::Optional(inner) | Expr::Repeat(inner) => names(inner, found),
    }
}

#[test]
fn productions_name_functions_that_exist() {
    let mut sources: HashMap<String, String> = HashMap::new();
    for (name, production) in grammar() {
        let source = sources.entry(production.file.clone()).or_insert_with(|| {
            std::fs::read_to_string(root().join(&production.file))
                .unwrap_or_else(|error| panic!("`{name}` names {}: {error}", production.file))
        });
        let declared =
            ["(", "<"].iter().any(|end| source.contains(&format!("fn {}{end}", production.function)));
        assert!(declared, "`{name}`: {} has no function `{}`", production.file, production.function);
    }
}

#[test]
fn used_productions_exist() {
    let grammar = grammar();
    for (name, production) in &grammar {
        let mut used = BTreeSet::new();
        names(&production.expr, &mut used);
        for other in used {
            assert!(grammar.contains_key(&other), "`{name}` uses `{other}`, which is not there");
        }
    }
}

/// Every `/// Grammar: production` in the sources stands above the function that the
/// production names.
#[test]
fn functions_name_productions_that_exist() {
    let grammar = grammar();
    let mut marks = 0;
    for room in ["src/dockerfile", "src/pattern"] {
        for path in source_files(&root().join(room)) {
            let file = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            for (index, line) in lines.iter().enumerate() {
                let Some(name) = line.strip_prefix("/// Grammar: ") else { continue };
                marks += 1;
                let declaration =
                    lines[index..].iter().find(|line| line.contains("fn ")).expect("a function");
                let (_, after) = declaration.split_once("fn ").unwrap();
                let function: String =
                    after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let production = grammar
                    .get(name)
                    .unwrap_or_else(|| panic!("{file}: `{function}` reads `{name}`: unknown"));
                assert_eq!(
                    (&production.file, &production.function),
                    (&file, &function),
                    "`{name}` is said to be read elsewhere"
                );
            }
        }
    }
    assert!(marks > 30, "only {marks} functions are marked");
}

fn source_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Makes texts of a grammar.
struct Generator<'a> {
    grammar: &'a Grammar,
    /// The least depth at which each production ends.
    least: BTreeMap<&'a str, usize>,
    random: u64,
    out: String,
    line_end: &'static str,
    heredoc: String,
}

const DEEPEST: usize = 24;

impl<'a> Generator<'a> {
    fn new(grammar: &'a Grammar) -> Generator<'a> {
        let mut least = BTreeMap::new();
        loop {
            let before = least.len();
            for (name, production) in grammar {
                if let Some(depth) = least_depth(&production.expr, &least) {
                    least.entry(name.as_str()).or_insert(depth + 1);
                }
            }
            if least.len() == before {
                break;
            }
        }
        assert_eq!(least.len(), grammar.len(), "a production has no end");
        Generator { grammar, least, random: 0, out: String::new(), line_end: "\n", heredoc: String::new() }
    }

    /// Makes one text; the same seed gives the same text.
    fn make(&mut self, start: &str, seed: u64) -> String {
        self.random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        self.out.clear();
        self.line_end = if self.below(4) == 0 { "\r\n" } else { "\n" };
        self.expr(&Expr::Name(start.to_owned()), 0);
        std::mem::take(&mut self.out)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) as usize % limit
    }

    fn expr(&mut self, expr: &Expr, depth: usize) {
        match expr {
            Expr::Terminal(text) => self.terminal(text),
            Expr::Special(what) => match what.as_str() {
                "line end" => self.out.push_str(self.line_end),
                "tab" => self.out.push('\t'),
                "escape character" => self.out.push('\\'),
                "heredoc name" => self.out.push_str(&self.heredoc.clone()),
                other => panic!("unknown special sequence `{other}`"),
            },
            Expr::Name(name) => {
                let start = self.out.len();
                self.expr(&self.grammar[name].expr, depth + 1);
                if name == "heredoc_name" {
                    self.heredoc = self.out[start..].replace(['\'', '"', '\\'], "");
                }
            }
            Expr::Sequence(parts) => parts.iter().for_each(|part| self.expr(part, depth)),
            Expr::Choice(parts) => {
                let ends: Vec<&Expr> = parts.iter().filter(|part| self.fits(part, depth)).collect();
                let shortest = || parts.iter().min_by_key(|part| least_depth(part, &self.least)).unwrap();
                let part = if ends.is_empty() { shortest() } else { ends[self.below(ends.len())] };
                self.expr(part, depth);
            }
            Expr::Optional(inner) => {
                if self.below(2) == 0 && self.fits(inner, depth) {
                    self.expr(inner, depth);
                }
            }
            Expr::Repeat(inner) => self.repeat(inner, depth),
        }
    }

    fn repeat(&mut self, inner: &Expr, depth: usize) {
        if !self.fits(inner, depth) {
            return;
        }
        let (once, rest) = match inner {
            Expr::Name(name) => (name, &[][..]),
            Expr::Sequence(parts) => match &parts[0] {
                Expr::Name(name) => (name, &parts[1..]),
                _ => return self.repeat_freely(inner, depth),
            },
            _ => return self.repeat_freely(inner, depth),
        };
        if !once.ends_with("_flag") && !once.ends_with("_directive") {
            return self.repeat_freely(inner, depth);
        }
        let mut left: Vec<&Expr> = match &self.grammar[once].expr {
            Expr::Choice(parts) => parts.iter().collect(),
            single => vec![single],
        };
        while !left.is_empty() && self.below(3) == 0 {
            let part = left.remove(self.below(left.len()));
            self.expr(part, depth + 1);
            rest.iter().for_each(|part| self.expr(part, depth));
        }
    }

    fn repeat_freely(&mut self, inner: &Expr, depth: usize) {
        for _ in 0..self.below(4) {
            self.expr(inner, depth);
        }
    }

    fn fits(&self, expr: &Expr, depth: usize) -> bool {
        least_depth(expr, &self.least).is_some_and(|least| depth + least <= DEEPEST)
    }

    /// A word of capitals in any case; anything else as it is.
    fn terminal(&mut self, text: &str) {
        if text.len() < 2 || !text.chars().all(|c| c.is_ascii_uppercase()) {
            return self.out.push_str(text);
        }
        match self.below(4) {
            0 => self.out.push_str(&text.to_lowercase()),
            1 => {
                for (index, c) in text.chars().enumerate() {
                    self.out.push(if index % 2 == 0 { c } else { c.to_ascii_lowercase() });
                }
            }
            _ => self.out.push_str(text),
        }
    }
}

/// How deep an expression goes at least; `None` while that is not known.
fn least_depth(expr: &Expr, least: &BTreeMap<&str, usize>) -> Option<usize> {
    match expr {
        Expr::Terminal(_) | Expr::Special(_) | Expr::Optional(_) | Expr::Repeat(_) => Some(0),
        Expr::Name(name) => least.get(name.as_str()).copied(),
        Expr::Sequence(parts) => {
            parts.iter().map(|part| least_depth(part, least)).try_fold(0, |most, d| Some(most.max(d?)))
        }
        Expr::Choice(parts) => parts.iter().filter_map(|part| least_depth(part, least)).min(),
    }
}

const SEEDS: std::ops::Range<u64> = 1..600;

/// Writes a text as a seed of a fuzz target, if `scripts/fuzz` asks for that.
fn seed_fuzzing(target: &str, seed: u64, text: &str) {
    if let Some(folder) = std::env::var_os("RBUILD_FUZZ_SEEDS") {
        let folder = Path::new(&folder).join(target);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("grammar-{seed}")), text).unwrap();
    }
}

#[test]
fn generated_dockerfiles_parse() {
    let grammar = grammar();
    let mut generator = Generator::new(&grammar);
    let mut keywords = BTreeSet::new();
    for seed in SEEDS {
        let text = generator.make("dockerfile", seed);
        seed_fuzzing("dockerfile", seed, &text);
        let parsed = parse(text.as_bytes());
        let errors: Vec<_> = parsed.diagnostics.iter().filter(|problem| problem.is_error()).collect();
        assert!(errors.is_empty(), "seed {seed}: {errors:#?}\n{text}");
        let inside =
            |span: Span| assert!(parsed.source.get(span.start..span.end).is_some(), "seed {seed}: {span:?}");
        let mut last = 0;
        for instruction in &parsed.file.instructions {
            inside(instruction.span);
            inside(instruction.keyword_span);
            instruction.flags.iter().for_each(|flag| inside(flag.span));
            assert!(instruction.span.start >= last, "seed {seed}: instructions overlap");
            last = instruction.span.end;
            keywords.insert(instruction.kind.keyword());
        }
    }
    assert_eq!(keywords.len(), 18, "not every instruction was made: {keywords:?}");
}

#[test]
fn generated_triggers_parse_again() {
    let grammar = grammar();
    let mut generator = Generator::new(&grammar);
    for seed in SEEDS {
        let text = generator.make("trigger", seed);
        let first = parse_onbuild(&text).unwrap_or_else(|error| panic!("seed {seed}: {error:?}\n{text}"));
        let second =
            parse_onbuild(&first.text()).unwrap_or_else(|error| panic!("seed {seed}: {error:?}\n{text}"));
        assert_eq!(first.text(), second.text(), "seed {seed}");
        assert_eq!(first.kind.keyword(), second.kind.keyword(), "seed {seed}");
    }
}

/// What the grammar allows does not panic either after being damaged.
#[test]
fn damaged_dockerfiles_do_not_panic() {
    let grammar = grammar();
    let mut generator = Generator::new(&grammar);
    for seed in SEEDS {
        let mut bytes = generator.make("dockerfile", seed).into_bytes();
        for _ in 0..5 {
            let at = generator.below(bytes.len());
            match generator.below(3) {
                0 => drop(bytes.remove(at)),
                1 => bytes[at] = generator.below(256) as u8,
                _ => bytes.insert(at, b"\\\"'<[$#\n"[generator.below(8)]),
            }
        }
        let parsed = parse(&bytes);
        for span in parsed.diagnostics.iter().filter_map(|problem| problem.span) {
            assert!(parsed.source.get(span.start..span.end).is_some(), "seed {seed}: {span:?}");
        }
    }
}

#[test]
fn generated_words_expand() {
    let grammar = grammar();
    let mut generator = Generator::new(&grammar);
    for seed in SEEDS {
        let word = generator.make("expandable", seed);
        seed_fuzzing("words", seed, &format!("a.b/é\n{word}"));
        let found = expand::expand(&word, '\\', &|_| Some("a.b/é".to_owned()));
        assert!(found.is_ok(), "seed {seed}: {}", found.unwrap_err());
    }
}

#[test]
fn generated_ignore_files_are_read() {
    let grammar = grammar();
    let mut generator = Generator::new(&grammar);
    for seed in SEEDS {
        let text = generator.make("ignore_file", seed);
        seed_fuzzing("ignore", seed, &format!("a/b.c/é\n{text}"));
        let ignore =
            Ignore::parse(text.as_bytes()).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
        let _ = ignore.excluded("a/b.c/é");
    }
}
