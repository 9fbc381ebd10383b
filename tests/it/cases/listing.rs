//! What an image is, as text: its config, its history, and its files beside those of its base.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;
use sha2::Digest;
use sha2::Sha256;
use tar::EntryType;

use crate::common::Exported;
use crate::common::archive::Entry;

/// The time of everything in a context and in the base that has no other: not listed.
pub const OLD: u64 = 1_000_000_000;

/// A time from here on is that of the build: not listed either. Where only times differ, what
/// an earlier build made is as good, so that one cannot tell whose time a file has.
const NEW: u64 = 1_700_000_000;

/// A path of a root file system; names of one file have the same number.
#[derive(Clone)]
struct Node {
    entry: Entry,
    inode: usize,
}

/// A root file system, layer laid on layer.
#[derive(Default)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
    inodes: usize,
}

impl Tree {
    /// Lays these layers on each other.
    pub fn of(image: &Exported) -> Tree {
        let mut tree = Tree::default();
        for layer in 0..image.layers.len() {
            tree.lay(image.entries(layer));
        }
        tree
    }

    fn lay(&mut self, entries: Vec<Entry>) {
        for entry in &entries {
            let (folder, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
            let inside =
                |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            if name == ".wh..wh..opq" {
                self.remove_below(folder);
            } else if let Some(name) = name.strip_prefix(".wh.") {
                self.remove_below(&inside(name));
                self.nodes.remove(&inside(name));
            }
        }
        for entry in entries {
            let name = entry.path.rsplit('/').next().unwrap_or_default();
            if name.starts_with(".wh.") {
                continue;
            }
            if entry.kind != EntryType::Directory {
                self.remove_below(&entry.path);
            }
            let path = entry.path.clone();
            let node = match (entry.kind, &entry.link) {
                (EntryType::Link, Some(target)) => {
                    let target = target.trim_start_matches("./").trim_matches('/');
                    self.nodes
                        .get(target)
                        .unwrap_or_else(|| panic!("`{path}` links to `{target}`, not there"))
                        .clone()
                }
                _ => {
                    self.inodes += 1;
                    Node { entry, inode: self.inodes }
                }
            };
            self.nodes.insert(path, node);
        }
    }

    fn remove_below(&mut self, folder: &str) {
        let start = format!("{folder}/");
        self.nodes.retain(|path, _| !(folder.is_empty() && !path.is_empty() || path.starts_with(&start)));
    }

    /// The lines of what is not the same in `base`.
    pub fn beside(&self, base: &Tree) -> String {
        let mut first: BTreeMap<usize, &str> = BTreeMap::new();
        for (path, node) in &self.nodes {
            first.entry(node.inode).or_insert(path);
        }
        let mut text = String::new();
        for (path, node) in &self.nodes {
            let line = describe(path, node, first[&node.inode]);
            let unchanged = match base.nodes.get(path) {
                Some(old) => describe(path, old, path) == line,
                None => path.is_empty() && line == "0755 0:0 dir  /",
            };
            if !unchanged {
                writeln!(text, "{line}").unwrap();
            }
        }
        text
    }

    /// The lines of what `base` has and this has not.
    pub fn gone(&self, base: &Tree) -> String {
        let here: BTreeSet<&String> = self.nodes.keys().collect();
        base.nodes
            .keys()
            .filter(|path| !here.contains(path))
            .map(|path| format!("/{}\n", quoted(path)))
            .collect()
    }
}

/// `MODE UID:GID TYPE PATH ...`, as the corpus writes it.
fn describe(path: &str, node: &Node, first: &str) -> String {
    let Node { entry, .. } = node;
    let kind = match entry.kind {
        EntryType::Directory => "dir ",
        EntryType::Symlink => "link",
        EntryType::Fifo => "fifo",
        EntryType::Char => "char",
        EntryType::Block => "blk ",
        _ => "file",
    };
    let mut line = format!("{:04o} {}:{} {kind} /{}", entry.mode, entry.uid, entry.gid, quoted(path));
    if path != first {
        write!(line, " = /{}", quoted(first)).unwrap();
        return line;
    }
    if kind == "link" {
        write!(line, " -> {}", quoted(entry.link.as_deref().unwrap_or_default())).unwrap();
    }
    if kind == "file" {
        write!(line, " {}", content(&entry.content)).unwrap();
    }
    for (name, value) in &entry.xattrs {
        write!(line, " {{{name}={}}}", escaped(value)).unwrap();
    }
    match entry.mtime {
        _ if kind == "dir " => {}
        OLD | NEW.. => {}
        other => write!(line, " @{other}").unwrap(),
    }
    line
}

fn content(bytes: &[u8]) -> String {
    let plain = |b: &u8| (0x20..0x7f).contains(b) || *b == b'\n' || *b == b'\t';
    if bytes.len() <= 200 && bytes.iter().all(plain) {
        return format!("\"{}\"", escaped(bytes));
    }
    let digest: String = Sha256::digest(bytes).iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("{} bytes sha256:{digest}", bytes.len())
}

/// A path whose odd bytes are told as escapes.
fn quoted(path: &str) -> String {
    escaped(path.as_bytes()).replace(' ', "\\s")
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'\r' => text.push_str("\\r"),
            b'\\' => text.push_str("\\\\"),
            0x20..0x7f => text.push(char::from(*byte)),
            other => write!(text, "\\x{other:02x}").unwrap(),
        }
    }
    text
}

/// The config for containers, and the author where there is one.
pub fn config(image: &Exported) -> String {
    let mut all = image.config["config"].clone();
    if let (Value::Object(all), Some(author)) = (&mut all, image.config.get("author")) {
        all.insert("author".to_owned(), author.clone());
    }
    format!("{}\n", serde_json::to_string_pretty(&all).unwrap())
}

/// A line for each entry beyond those of the base: `+` for one with a layer, `-` without.
pub fn history(image: &Exported) -> String {
    let mut text = String::new();
    for entry in image.config["history"].as_array().into_iter().flatten() {
        let Some(created_by) = entry["created_by"].as_str() else { continue };
        let mark = if entry["empty_layer"] == Value::Bool(true) { '-' } else { '+' };
        writeln!(text, "{mark} {}", escaped_text(created_by)).unwrap();
    }
    text
}

fn escaped_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r")
}
