//! The grammar of `--mount`: `type=bind,source=/src,target=/app,readonly`, a line of CSV.
//!
//! As docker's command line reads it, errors included (docker/cli, `opts/mount.go`; docs.docker.com, "docker
//! run --mount"). Pure.

use std::path::Path;

use super::{ContainerMount, MountError, MountKind, check_volume_name, clean, clean_target, not_passed_on};

/// What was said, before it is known to fit together.
#[derive(Default)]
struct Said {
    kind: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: bool,
    /// Options of binds, volumes and tmpfs mounts that were given, by their names.
    of_bind: Option<String>,
    of_volume: Option<String>,
    of_tmpfs: Option<String>,
    not_recursive: bool,
    no_copy: bool,
    subpath: Option<String>,
    labels: std::collections::BTreeMap<String, String>,
    options: std::collections::BTreeMap<String, String>,
    size: u64,
    mode: Option<u32>,
}

/// Reads one `--mount`.
pub(super) fn mount(text: &str) -> Result<ContainerMount, MountError> {
    let wrong = |why: String| MountError(format!("invalid argument \"{text}\" for \"--mount\" flag: {why}"));
    let fields = fields(text).ok_or_else(|| wrong("a quote is not closed".to_owned()))?;
    let mut said = Said::default();
    for field in &fields {
        said.field(field).map_err(wrong)?;
    }
    said.finish().map_err(|why| match why {
        Why::Words(why) => wrong(why),
        Why::Config(kind, why) => MountError(format!("invalid mount config for type \"{kind}\": {why}")),
    })
}

/// Why what was said does not fit together.
enum Why {
    /// The command line's own words.
    Words(String),
    /// Those of the engine, for a kind of mount.
    Config(&'static str, String),
}

impl Said {
    fn field(&mut self, field: &str) -> Result<(), String> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        let Some(value) = value else {
            match key.as_str() {
                "readonly" | "ro" => self.read_only = true,
                "volume-nocopy" => {
                    self.no_copy = true;
                    self.of_volume = Some(key);
                }
                "bind-nonrecursive" => {
                    self.not_recursive = true;
                    self.of_bind = Some(key);
                }
                _ => return Err(format!("invalid field '{field}' must be a key=value pair")),
            }
            return Ok(());
        };
        let invalid = || format!("invalid value for {key}: {value}");
        let pair = || {
            let (name, value) = value.split_once('=').unwrap_or((value, ""));
            (name.to_owned(), value.to_owned())
        };
        match key.as_str() {
            "type" => self.kind = Some(value.to_ascii_lowercase()),
            "source" | "src" => self.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => self.target = Some(value.to_owned()),
            "readonly" | "ro" => self.read_only = truth(value).ok_or_else(invalid)?,
            "consistency" if matches!(value, "default" | "consistent" | "cached" | "delegated") => {}
            "bind-propagation" => match value {
                "private" | "rprivate" | "" => self.of_bind = Some(key),
                "shared" | "rshared" | "slave" | "rslave" => return Err(not_passed_on(value)),
                _ => return Err(invalid()),
            },
            "bind-nonrecursive" => {
                self.not_recursive = truth(value).ok_or_else(invalid)?;
                self.of_bind = Some(key);
            }
            "volume-nocopy" => {
                self.no_copy = truth(value).ok_or_else(invalid)?;
                self.of_volume = Some(key);
            }
            "volume-subpath" => {
                self.subpath = Some(value.to_owned());
                self.of_volume = Some(key);
            }
            "volume-driver" if value == "local" || value.is_empty() => self.of_volume = Some(key),
            "volume-driver" => {
                return Err(format!(
                    "the volume driver \"{value}\" is not there: this program has `local` alone"
                ));
            }
            "volume-label" => {
                self.labels.extend([pair()]);
                self.of_volume = Some(key);
            }
            "volume-opt" => {
                self.options.extend([pair()]);
                self.of_volume = Some(key);
            }
            "tmpfs-size" => {
                self.size = bytes(value).ok_or_else(invalid)?;
                self.of_tmpfs = Some(key);
            }
            "tmpfs-mode" => {
                self.mode = Some(octal(value).ok_or_else(invalid)?);
                self.of_tmpfs = Some(key);
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
        Ok(())
    }

    fn finish(self) -> Result<ContainerMount, Why> {
        let kind = match self.kind.as_deref() {
            None | Some("volume" | "") => "volume",
            Some("bind") => "bind",
            Some("tmpfs") => "tmpfs",
            Some(other) => {
                return Err(Why::Words(format!(
                    "the mount type \"{other}\" is unknown: the types are bind, volume and tmpfs"
                )));
            }
        };
        let Some(target) = self.target.as_deref().filter(|target| !target.is_empty()) else {
            return Err(Why::Words("target is required".to_owned()));
        };
        for (given, of) in [(&self.of_bind, "bind"), (&self.of_volume, "volume"), (&self.of_tmpfs, "tmpfs")] {
            if given.is_some() && of != kind {
                return Err(Why::Words(format!("cannot mix '{of}-*' options with mount type '{kind}'")));
            }
        }
        let config = |why: String| Why::Config(kind, why);
        let target = clean_target(target).map_err(|MountError(why)| config(why))?;
        let source = self.source.filter(|source| !source.is_empty());
        let kind = match (kind, source) {
            ("bind", None) => return Err(config("field Source must not be empty".to_owned())),
            ("bind", Some(source)) if !source.starts_with('/') => {
                let why = format!("invalid mount path: '{source}' mount path must be absolute");
                return Err(config(why));
            }
            ("bind", Some(source)) => MountKind::Bind {
                source: clean(Path::new(&source)),
                make: false,
                recursive: !self.not_recursive,
            },
            ("tmpfs", Some(_)) => return Err(config("field Source must not be specified".to_owned())),
            ("tmpfs", None) if self.read_only => {
                return Err(config(
                    "a tmpfs that is read-only would stay empty; leave out readonly".to_owned(),
                ));
            }
            ("tmpfs", None) => MountKind::Tmpfs { size: self.size, mode: self.mode.unwrap_or(0o1777) },
            (_, name) => {
                if let Some(name) = &name {
                    check_volume_name(name).map_err(|MountError(why)| config(why))?;
                }
                if name.is_none() && self.read_only {
                    let why = "must not set ReadOnly mode when using anonymous volumes";
                    return Err(config(why.to_owned()));
                }
                let (anonymous, copy) = (name.is_none(), !self.no_copy);
                let subpath = self.subpath.filter(|path| !path.is_empty());
                if subpath.as_deref().is_some_and(leads_out) {
                    let why = "the subpath must be relative and stay in the volume";
                    return Err(config(why.to_owned()));
                }
                MountKind::Volume {
                    name,
                    anonymous,
                    copy,
                    subpath,
                    labels: self.labels,
                    options: self.options,
                }
            }
        };
        Ok(ContainerMount { kind, target, read_only: self.read_only, mode: String::new() })
    }
}

fn leads_out(path: &str) -> bool {
    path.starts_with('/') || path.split('/').any(|part| part == "..")
}

/// Reads a truth value as Go's `strconv.ParseBool` does.
fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Reads a size: a number of bytes, with a unit of 1024 as `64m`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match &lower[number.len()..] {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    number.trim().parse::<u64>().ok()?.checked_mul(factor)
}

/// Reads permission bits.
pub(super) fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)
}

/// Takes a line of CSV (RFC 4180) apart; `None` where a quote is not closed.
fn fields(text: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.trim().chars().peekable();
    while let Some(c) = chars.next() {
        let last = fields.last_mut()?;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => last.extend(chars.next()),
            '"' if quoted || last.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => last.push(c),
        }
    }
    (!quoted).then_some(fields)
}
