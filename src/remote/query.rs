//! What a git address wants of its repository: `#ref:subdir` and `?key=value&...`.
//!
//! As BuildKit reads them (`dfgitutil.GitRef`), but strict where it lets pass what cannot work.

use std::collections::BTreeMap;

use super::git::Mtime;
use super::git::is_commit;
use super::near::nearest;
use super::url::decode;

/// What is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub reference: Option<String>,
    /// In lower case.
    pub checksum: Option<String>,
    /// Without leading and trailing `/`, `.` and `..`.
    pub subdir: Option<String>,
    pub submodules: Option<bool>,
    pub keep_git_dir: Option<bool>,
    pub mtime: Option<Mtime>,
    /// The reference is a name only: the checksum, a whole commit, is what is fetched.
    pub fetch_by_commit: bool,
}

const KEYS: [&str; 10] = [
    "ref",
    "tag",
    "branch",
    "commit",
    "checksum",
    "subdir",
    "submodules",
    "keep-git-dir",
    "mtime",
    "fetch-by-commit",
];

/// Keys that stand for `true` when they have no value.
const SWITCHES: [&str; 3] = ["submodules", "keep-git-dir", "fetch-by-commit"];

/// Reads what follows `#` (decoded) and `?` (as written).
pub(super) fn read(fragment: Option<&str>, query: Option<&str>) -> Result<Wanted, String> {
    let (reference, subdir) =
        fragment.unwrap_or_default().split_once(':').unwrap_or((fragment.unwrap_or_default(), ""));
    let values = pairs(query.unwrap_or_default())?;
    let get = |key: &str| values.get(key).cloned();

    let reference = one("ref", not_empty(reference), get("ref"))?;
    let tag = get("tag").map(|tag| full_name("refs/tags/", &tag));
    let branch = get("branch").map(|branch| full_name("refs/heads/", &branch));
    if let (Some(tag), Some(branch)) = (&tag, &branch) {
        return Err(format!("branch conflicts with tag: `{branch}` and `{tag}`"));
    }
    let reference = one("ref", reference, tag.or(branch))?;
    if let Some(reference) = &reference {
        check_reference(reference)?;
    }

    let checksum_of = |key: &str| get(key).map(|value| checksum(&value)).transpose();
    let checksum = one("checksum", checksum_of("checksum")?, checksum_of("commit")?)?;
    let subdir = one("subdir", not_empty(subdir), get("subdir"))?;
    let subdir = subdir.map(|subdir| clean(&subdir)).transpose()?.and_then(|subdir| not_empty(&subdir));
    let switch = |key: &str| get(key).map(|value| boolean(key, &value)).transpose();
    let mtime = match get("mtime").as_deref() {
        None => None,
        Some("checkout") => Some(Mtime::Checkout),
        Some("commit") => Some(Mtime::Commit),
        Some(other) => return Err(format!("invalid mtime value `{other}` (it can be checkout or commit)")),
    };
    let fetch_by_commit = switch("fetch-by-commit")?.unwrap_or(false);
    if fetch_by_commit && !checksum.as_deref().is_some_and(is_commit) {
        return Err("fetch-by-commit needs a whole commit, 40 or 64 digits: add `checksum=COMMIT`".into());
    }
    let (submodules, keep_git_dir) = (switch("submodules")?, switch("keep-git-dir")?);
    Ok(Wanted { reference, checksum, subdir, submodules, keep_git_dir, mtime, fetch_by_commit })
}

/// Reads `key=value&key`; each key once, every one known.
fn pairs(query: &str) -> Result<BTreeMap<String, String>, String> {
    let mut values = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let read =
            |text: &str| decode(&text.replace('+', " ")).map_err(|why| format!("in query `{key}`, {why}"));
        let (key, mut value) = (read(key)?, read(value)?);
        if !KEYS.contains(&key.as_str()) {
            let near = nearest(&key, KEYS).map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
            return Err(format!("unexpected query `{key}`{near}"));
        }
        if value.is_empty() {
            match SWITCHES.contains(&key.as_str()) {
                true => value = "true".into(),
                false => return Err(format!("query `{key}` has no value")),
            }
        }
        if values.insert(key.clone(), value).is_some() {
            return Err(format!("query `{key}` has multiple values"));
        }
    }
    Ok(values)
}

/// Returns the one value of two places; an error where both have different ones.
fn one(what: &str, a: Option<String>, b: Option<String>) -> Result<Option<String>, String> {
    match (a, b) {
        (Some(a), Some(b)) if a != b => Err(format!("{what} conflicts: `{a}` and `{b}`")),
        (a, b) => Ok(a.or(b)),
    }
}

fn not_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn full_name(prefix: &str, name: &str) -> String {
    match name.starts_with(prefix) {
        true => name.to_owned(),
        false => format!("{prefix}{name}"),
    }
}

/// As Go's `strconv.ParseBool`.
fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("invalid {key} value `{value}` (it can be true or false)")),
    }
}

/// Reads the beginning of a commit.
pub(super) fn checksum(text: &str) -> Result<String, String> {
    match !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(format!("invalid checksum `{text}`: it must be the hexadecimal digits of a commit")),
    }
}

/// Refuses what is no reference (git-check-ref-format(1)) and what a command would take for more than one.
fn check_reference(reference: &str) -> Result<(), String> {
    let bad = |why: &str| Err(format!("invalid ref `{reference}`: {why}"));
    let forbidden = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    if reference.starts_with('-') {
        return bad("it begins with `-`");
    }
    if let Some(c) = reference.chars().find(|c| forbidden(*c)) {
        return bad(&format!("a ref cannot hold `{}`", c.escape_default()));
    }
    if reference.contains("..") || reference.contains("@{") || reference.contains("//") {
        return bad("a ref cannot hold `..`, `@{` or `//`");
    }
    if reference.starts_with('/') || reference.ends_with(['/', '.']) {
        return bad("a ref cannot begin with `/`, or end with `/` or `.`");
    }
    Ok(())
}

/// Cleans the path of a directory in the repository; one that leads out of it is an error.
fn clean(subdir: &str) -> Result<String, String> {
    let mut names: Vec<&str> = Vec::new();
    for name in subdir.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                if names.pop().is_none() {
                    return Err(format!("subdir `{subdir}` leads out of the repository"));
                }
            }
            _ => names.push(name),
        }
    }
    match subdir.contains(char::is_control) {
        true => Err(format!("subdir `{}` holds a control character", subdir.escape_debug())),
        false => Ok(names.join("/")),
    }
}
