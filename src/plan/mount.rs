//! `RUN --mount`: its fields read, expanded and checked.
//!
//! The syntax is one line of CSV (RFC 4180) of `key=value`, as the Dockerfile reference has it under
//! "RUN --mount". Not here: the edges to what is mounted (`run`), and mounting (`worker`).

use crate::dockerfile;
use crate::dockerfile::ast::Word;
use crate::report::Diagnostic;

use super::graph::Sharing;
use super::path;

/// The types of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Type {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

const TYPES: [(&str, Type); 5] = [
    ("bind", Type::Bind),
    ("cache", Type::Cache),
    ("tmpfs", Type::Tmpfs),
    ("secret", Type::Secret),
    ("ssh", Type::Ssh),
];

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "ro",
    "readonly",
    "rw",
    "readwrite",
    "id",
    "sharing",
    "mode",
    "uid",
    "gid",
    "size",
    "required",
    "env",
];

/// A mount as its fields say it: values expanded, `from` as written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mount {
    pub(super) kind: Type,
    pub(super) from: Option<String>,
    pub(super) source: Option<String>,
    pub(super) target: Option<String>,
    /// What `ro` or `rw` said.
    pub(super) read_only: Option<bool>,
    pub(super) id: Option<String>,
    pub(super) sharing: Option<Sharing>,
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    /// In bytes.
    pub(super) size: Option<u64>,
    pub(super) required: bool,
    pub(super) env: Option<String>,
}

/// Returns what `from=` of a mount names, as written; nothing where the mount cannot be read,
/// which [`parse`] tells.
pub(super) fn from_of(word: &Word) -> Option<String> {
    let fields = split(&word.text).ok()?;
    fields.iter().rev().find_map(|field| {
        let (key, value) = field.split_once('=')?;
        key.trim().eq_ignore_ascii_case("from").then(|| value.to_owned())
    })
}

/// Reads a mount; `expand` replaces the variables of a value.
pub(super) fn parse(
    word: &Word,
    expand: &mut dyn FnMut(&str) -> Result<String, Diagnostic>,
) -> Result<Mount, Diagnostic> {
    let fail = |code, message: String| Diagnostic::error(code, word.span, message);
    let bad = |message: String| fail("invalid-mount", message);
    let mut mount = Mount::default();
    for field in split(&word.text).map_err(&bad)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        let key = key.trim().to_ascii_lowercase();
        let value = match value {
            Some(value) if key != "from" => Some(expand(value)?),
            value => value.map(str::to_owned),
        };
        let flag = |value: Option<String>| match value {
            None => Ok(true),
            Some(value) => boolean(&value).ok_or_else(|| bad(format!("invalid value for {key}: `{value}`"))),
        };
        match key.as_str() {
            "ro" | "readonly" => mount.read_only = Some(flag(value)?),
            "rw" | "readwrite" => mount.read_only = Some(!flag(value)?),
            "required" => mount.required = flag(value)?,
            _ if !KEYS.contains(&key.as_str()) => {
                let error = bad(format!("unexpected key '{key}' in '{field}'"));
                return Err(match dockerfile::nearest(&key, &KEYS) {
                    Some(near) => error.with_hint(format!("did you mean `{near}`?")),
                    None => error.with_hint(format!("the keys of a mount are {}", KEYS.join(", "))),
                });
            }
            _ => {
                let Some(value) = value else {
                    return Err(bad(format!("invalid field '{field}' must be a key=value pair")));
                };
                mount.set(&key, value).map_err(&bad)?;
            }
        }
    }
    mount.check().map_err(bad)?;
    Ok(mount)
}

impl Mount {
    fn set(&mut self, key: &str, value: String) -> Result<(), String> {
        match key {
            "type" => self.kind = type_of(&value)?,
            "from" => self.from = Some(value),
            "source" | "src" => self.source = Some(value),
            "target" | "dst" | "destination" => self.target = Some(value),
            "id" => self.id = Some(value),
            "env" => self.env = Some(value),
            "sharing" => {
                self.sharing = Some(match value.as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    _ => {
                        let known = ["shared", "private", "locked"];
                        let near = dockerfile::nearest(&value, &known).map(str::to_owned);
                        let near = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
                        return Err(format!("unsupported sharing value \"{value}\"{near}"));
                    }
                });
            }
            "mode" => {
                let mode = u32::from_str_radix(&value, 8).ok().filter(|mode| *mode <= 0o7777);
                self.mode = Some(mode.ok_or_else(|| format!("invalid value {value} for mode"))?);
            }
            "uid" | "gid" => {
                // The last number is no id: to chown(2) it means "leave it".
                let id = value.parse::<u32>().ok().filter(|id| *id != u32::MAX);
                let id = id.ok_or_else(|| format!("invalid value {value} for {key}"))?;
                *(if key == "uid" { &mut self.uid } else { &mut self.gid }) = Some(id);
            }
            _ => {
                let size = bytes(&value).ok_or_else(|| format!("invalid value for size: {value}"))?;
                self.size = Some(size);
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let name = TYPES.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(name, _)| name);
        let kind = self.kind;
        let has_files = matches!(kind, Type::Bind | Type::Cache);
        let has_owner = matches!(kind, Type::Cache | Type::Secret | Type::Ssh);
        let not_allowed = [
            ("mode", self.mode.is_some() && !has_owner),
            ("uid", self.uid.is_some() && !has_owner),
            ("gid", self.gid.is_some() && !has_owner),
            ("from", self.from.is_some() && !has_files),
            ("source", self.source.is_some() && kind == Type::Tmpfs),
            ("size", self.size.is_some() && kind != Type::Tmpfs),
            ("sharing", self.sharing.is_some() && kind != Type::Cache),
            ("id", self.id.is_some() && !has_owner),
            ("required", self.required && !matches!(kind, Type::Secret | Type::Ssh)),
            ("env", self.env.is_some() && kind != Type::Secret),
        ];
        if let Some((key, _)) = not_allowed.iter().find(|(_, wrong)| *wrong) {
            return Err(format!("{key} not allowed for {name} type mounts"));
        }
        if self.target.as_ref().is_none_or(String::is_empty)
            && matches!(kind, Type::Bind | Type::Cache | Type::Tmpfs)
        {
            return Err(format!("a {name} mount needs a target"));
        }
        if kind == Type::Secret {
            if self.source.is_some() && self.id.is_some() {
                return Err("both source and id can't be set".to_owned());
            }
            if self.source.is_none() && self.id.is_none() && self.target.is_none() {
                return Err("invalid secret mount. one of id, source, target required".to_owned());
            }
            if self.env.as_ref().is_some_and(|env| env.is_empty() || env.contains(['=', '\0'])) {
                return Err("a secret's env must be the name of a variable".to_owned());
            }
        }
        Ok(())
    }

    /// Returns the absolute target in a working directory; `None` for the root, which nothing may cover.
    pub(super) fn target_in(&self, workdir: &str) -> Option<String> {
        let target = path::join(workdir, self.target.as_deref().unwrap_or_default());
        (target != "/").then_some(target)
    }

    /// Returns the source, cleaned, without a leading slash.
    pub(super) fn source_path(&self) -> String {
        path::join("/", self.source.as_deref().unwrap_or_default())[1..].to_owned()
    }
}

fn type_of(value: &str) -> Result<Type, String> {
    if let Some((_, kind)) = TYPES.iter().find(|(name, _)| value.eq_ignore_ascii_case(name)) {
        return Ok(*kind);
    }
    let names = TYPES.map(|(name, _)| name);
    let near = dockerfile::nearest(value, &names).map(|near| format!(" (did you mean {near}?)"));
    Err(format!("unsupported mount type \"{value}\"{}", near.unwrap_or_default()))
}

/// Reads a truth value as Go's strconv.ParseBool does.
fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Reads a number of bytes with docker's suffixes: powers of 1024, fractions allowed.
fn bytes(value: &str) -> Option<u64> {
    let lower = value.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = lower[digits.len()..].trim_end_matches("ib").trim_end_matches('b');
    let power = match suffix {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let number: f64 = digits.trim().parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)?;
    let size = number * 1024f64.powi(power);
    (size < 2f64.powi(63)).then_some(size as u64)
}

/// Takes one line of CSV apart.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut field = String::new();
            let mut chars = quoted.char_indices().peekable();
            let mut end = None;
            while let Some((at, c)) = chars.next() {
                match (c, chars.peek()) {
                    ('"', Some((_, '"'))) => {
                        field.push('"');
                        chars.next();
                    }
                    ('"', _) => {
                        end = Some(at + 1);
                        break;
                    }
                    _ => field.push(c),
                }
            }
            let after =
                end.map(|end| &quoted[end..]).ok_or_else(|| format!("unterminated `\"` in `{text}`"))?;
            fields.push(field);
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None if after.is_empty() => return Ok(fields),
                None => return Err(format!("a comma is missing after a quoted field in `{text}`")),
            }
        } else {
            match rest.split_once(',') {
                Some((field, next)) => {
                    fields.push(field.to_owned());
                    rest = next;
                }
                None => {
                    fields.push(rest.to_owned());
                    return Ok(fields);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Span;

    fn read(text: &str) -> Result<Mount, String> {
        let word = Word { text: text.to_owned(), span: Span::default() };
        let mut expand = |value: &str| Ok(value.replace("$v", "value"));
        parse(&word, &mut expand).map_err(|e| match e.hint {
            Some(hint) => format!("{}; {hint}", e.message),
            None => e.message,
        })
    }

    #[test]
    fn reads_fields() {
        let mount = read("type=cache,TARGET=/a/$v,id=x,sharing=locked,mode=0700,uid=1,gid=2,ro").unwrap();
        assert_eq!(mount.kind, Type::Cache);
        assert_eq!((mount.target_in("/"), mount.id.as_deref()), (Some("/a/value".to_owned()), Some("x")));
        assert_eq!((mount.sharing, mount.mode), (Some(Sharing::Locked), Some(0o700)));
        assert_eq!((mount.uid, mount.gid, mount.read_only), (Some(1), Some(2), Some(true)));
        let mount = read("target=b,source=../x//y/,rw,from=$v").unwrap();
        assert_eq!((mount.kind, mount.from.as_deref()), (Type::Bind, Some("$v")));
        assert_eq!((mount.target_in("/w"), mount.source_path()), (Some("/w/b".to_owned()), "x/y".to_owned()));
        assert_eq!(mount.read_only, Some(false));
        assert_eq!(read("\"target=/a,b\",ro=false").unwrap().target.as_deref(), Some("/a,b"));
        assert_eq!(read("type=tmpfs,dst=/t,size=1.5k").unwrap().size, Some(1536));
        assert_eq!(read("dst=/").unwrap().target_in("/w"), None);
        assert_eq!(read("dst=..").unwrap().target_in("/w"), None);
        let secret = read("type=secret,id=s,env=S,required").unwrap();
        assert!(secret.required && secret.env.as_deref() == Some("S"));
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, expect) in [
            ("type=cach,target=/x", "unsupported mount type \"cach\" (did you mean cache?)"),
            ("type=cache,target=/x,sharing=lock", "unsupported sharing value \"lock\""),
            ("type=bind,target=/x,mode=0700", "mode not allowed for bind type mounts"),
            ("type=bind,targt=/x", "unexpected key 'targt' in 'targt=/x'; did you mean `target`?"),
            ("type=bind,bind-propagation=shared,target=/x", "unexpected key 'bind-propagation'"),
            ("target", "must be a key=value pair"),
            ("type=bind", "needs a target"),
            ("type=cache,target=", "needs a target"),
            ("type=secret", "one of id, source, target required"),
            ("type=secret,id=a,src=b", "both source and id can't be set"),
            ("type=secret,id=a,from=b", "from not allowed for secret type mounts"),
            ("type=secret,id=a,env=A=B", "name of a variable"),
            ("type=tmpfs,target=/x,size=big", "invalid value for size: big"),
            ("type=cache,target=/x,mode=9", "invalid value 9 for mode"),
            ("type=cache,target=/x,uid=-1", "invalid value -1 for uid"),
            ("type=secret,id=x,gid=4294967295", "invalid value 4294967295 for gid"),
            ("target=/x,ro=perhaps", "invalid value for ro: `perhaps`"),
            ("\"target=/x", "unterminated"),
            ("\"target=/x\"y", "a comma is missing"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expect), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_are_dockers() {
        for (text, expect) in [
            ("10", Some(10)),
            ("1k", Some(1024)),
            ("2MB", Some(2 << 20)),
            ("3GiB", Some(3 << 30)),
            ("0.5m", Some(1 << 19)),
            ("", None),
            ("k", None),
            ("1x", None),
            ("-1", None),
            ("99999999p", None),
        ] {
            assert_eq!(bytes(text), expect, "{text}");
        }
    }
}
