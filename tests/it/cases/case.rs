//! The files of the corpus: one case from text, and back. `testdata/cases/README.md` tells the format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::path::PathBuf;

/// One case as its file tells it.
pub struct Case {
    /// `TOPIC/NAME`.
    pub name: String,
    pub path: PathBuf,
    /// Words of the head: `args`, `base`, `modes`; `peers` may be there several times.
    head: BTreeMap<String, String>,
    /// What `build` reads, in the order of the file.
    pub context: Vec<Piece>,
    /// By title: `config`, `history`, `files`, `deleted`, or `error`.
    pub expected: BTreeMap<String, String>,
    /// The file up to the first expectation.
    input: String,
}

/// A `-- KIND ... --` section.
pub struct Piece {
    pub kind: String,
    pub words: Vec<String>,
    pub body: Vec<u8>,
}

/// The titles of expectations, in the order in which they are written.
pub const TITLES: [&str; 5] = ["config", "history", "files", "deleted", "error"];

impl Case {
    /// Reads a file of the corpus; a bad one fails the test.
    pub fn read(root: &Path, path: &Path) -> Case {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let name = path.strip_prefix(root).unwrap().with_extension("").to_str().unwrap().to_owned();
        let mut case = Case {
            name,
            path: path.to_owned(),
            head: BTreeMap::new(),
            context: Vec::new(),
            expected: BTreeMap::new(),
            input: String::new(),
        };
        let mut sections: Vec<(String, String)> = vec![(String::new(), String::new())];
        for line in text.split_inclusive('\n') {
            let title = line.trim_end();
            let is =
                |mark: &str| title.starts_with(&format!("{mark} ")) && title.ends_with(&format!(" {mark}"));
            if is("--") || is("==") {
                sections.push((title.to_owned(), String::new()));
            } else if let Some((_, body)) = sections.last_mut() {
                body.push_str(line);
            }
        }
        for (title, body) in sections {
            let inner = title.get(3..title.len().max(6) - 3).unwrap_or_default();
            if let Some(name) = title.strip_prefix("==") {
                let name = name.trim_end_matches('=').trim();
                assert!(TITLES.contains(&name), "{}: no expectation is called `{name}`", case.path.display());
                case.expected.insert(name.to_owned(), body);
                continue;
            }
            if title.is_empty() {
                case.read_head(&body);
            } else {
                case.context.push(Piece::new(inner, &body));
                case.input.push_str(&format!("{title}\n"));
            }
            case.input.push_str(&body);
        }
        case
    }

    fn read_head(&mut self, text: &str) {
        let mut told = false;
        for line in text.lines() {
            if line.starts_with('#') || line.is_empty() {
                told |= line.len() > 12;
                continue;
            }
            let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("{}: `{line}`", self.name));
            assert!(["args", "base", "modes", "peers"].contains(&key), "{}: `{key}:`", self.path.display());
            self.head.insert(key.to_owned(), value.to_owned());
        }
        assert!(told, "{}: the head says what the case shows", self.path.display());
    }

    /// Words for the command line.
    pub fn args(&self) -> Vec<&str> {
        self.head.get("args").map(|args| args.split_whitespace().collect()).unwrap_or_default()
    }

    /// Tells whether what is expected is beside `busybox:test`; else beside nothing.
    pub fn on_busybox(&self) -> bool {
        match self.head.get("base").map(String::as_str) {
            Some("busybox") => true,
            Some("none") | None => false,
            Some(other) => panic!("{}: `base: {other}`", self.name),
        }
    }

    /// Why the case runs as root only, where it does.
    pub fn root_only(&self) -> bool {
        self.head.get("modes").is_some_and(|modes| modes.starts_with("root"))
    }

    /// Tells whether the build must fail.
    pub fn fails(&self) -> bool {
        self.expected.contains_key("error")
    }

    /// Writes the file anew, with other expectations.
    pub fn rewrite(&self, found: &BTreeMap<String, String>) {
        let mut text = self.input.clone();
        for title in TITLES {
            if let Some(body) = found.get(title) {
                write!(text, "== {title} ==\n{body}").unwrap();
            }
        }
        std::fs::write(&self.path, text).unwrap();
    }
}

impl Piece {
    fn new(title: &str, body: &str) -> Piece {
        let mut words: Vec<String> = title.split(' ').map(|w| unescape(w, true)).collect();
        let kind = words.remove(0);
        let mut flag = |name: &str| {
            let place = words.iter().position(|w| w == name);
            place.map(|at| words.remove(at)).is_some()
        };
        let escaped = flag("escaped");
        let body = if flag("nonl") { body.strip_suffix('\n').unwrap_or(body) } else { body };
        let body = if escaped { unescape_bytes(body) } else { body.as_bytes().to_vec() };
        Piece { kind, words, body }
    }

    /// A word as an octal number, or the default.
    pub fn mode(&self, index: usize, default: u32) -> u32 {
        self.words.iter().skip(index).find_map(|word| u32::from_str_radix(word, 8).ok()).unwrap_or(default)
    }

    /// The word `@SECONDS` as a time; else one long past.
    pub fn time(&self) -> u64 {
        let given = self.words.iter().find_map(|word| word.strip_prefix('@')?.parse().ok());
        given.unwrap_or(super::listing::OLD)
    }
}

/// Replaces `\n`, `\r`, `\t`, `\0`, `\s` (a space), `\\` and `\xHH`.
pub fn unescape_bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next() {
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(b's') => b' ',
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            other => panic!("unknown escape {other:?} in `{text}`"),
        });
    }
    out
}

/// As [`unescape_bytes`], for what is text; leaves it alone when `lenient` and nothing is escaped.
fn unescape(text: &str, lenient: bool) -> String {
    if lenient && !text.contains('\\') {
        return text.to_owned();
    }
    String::from_utf8(unescape_bytes(text)).unwrap()
}
