//! What a container has mounted besides its root, as the command line says it: text -> requests.
//!
//! The words and the errors are those of `docker run`: `-v` (docs.docker.com, "Volumes", "Bind mounts"),
//! `--mount` (`syntax`). Pure: no path is looked at. What an image's VOLUME and other containers
//! add, and which targets clash, is decided here, too ([`merge`]). Not here: making any of it (`ready`).

mod describe;
mod ready;
mod syntax;

pub use describe::{MountPoint, describe};
pub use ready::{MountsError, ReadyMounts, make, name_volumes, ready, refuse_copies, remove_anonymous};

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Says what is wrong with a mount, in docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MountError(pub String);

/// One mount of a container; what its record keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerMount {
    pub kind: MountKind,
    /// Absolute, without `.`, `..` and a slash at its end.
    pub target: String,
    pub read_only: bool,
    /// As `-v` had it: `ro`, `z`; for who asks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mode: String,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum MountKind {
    /// A file or directory of this machine.
    Bind {
        /// Absolute.
        source: PathBuf,
        /// Whether a missing one is made, as a directory (`-v`); `--mount` refuses it.
        make: bool,
        /// Whether what is mounted beneath it comes along.
        recursive: bool,
    },
    /// A volume of the store.
    Volume {
        /// `None` until it is made: then its name is 64 random digits.
        name: Option<String>,
        /// Whether nobody gave it a name.
        anonymous: bool,
        /// Whether an empty one gets what the image has at the target.
        copy: bool,
        /// A path in it that is mounted instead of all of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
        /// For a new one.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        options: BTreeMap<String, String>,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// In bytes; 0 is half of the memory.
        size: u64,
        mode: u32,
    },
}

impl ContainerMount {
    /// Returns the name of the volume that it shows.
    pub fn volume(&self) -> Option<&str> {
        match &self.kind {
            MountKind::Volume { name, .. } => name.as_deref(),
            MountKind::Bind { .. } | MountKind::Tmpfs { .. } => None,
        }
    }

    fn anonymous(target: String) -> ContainerMount {
        let kind = MountKind::Volume {
            name: None,
            anonymous: true,
            copy: true,
            subpath: None,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
        };
        ContainerMount { kind, target, read_only: false, mode: String::new() }
    }
}

/// What the command line asks for, as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountWishes {
    /// `-v`.
    pub volumes: Vec<String>,
    /// `--mount`.
    pub mounts: Vec<String>,
    /// Where others mount something, as `--tmpfs` does.
    pub taken: Vec<String>,
}

impl MountWishes {
    /// Reads all of it; `here` is the directory that relative paths of `-v` start at.
    ///
    /// Errors: what is wrong with one; two with the same target.
    pub fn read(&self, here: &Path) -> Result<Vec<ContainerMount>, MountError> {
        let mut mounts = Vec::new();
        for text in &self.volumes {
            mounts.push(volume(text, here)?);
        }
        for text in &self.mounts {
            mounts.push(syntax::mount(text)?);
        }
        let mut targets: BTreeSet<&str> = self.taken.iter().map(String::as_str).collect();
        for mount in &mounts {
            if !targets.insert(mount.target.as_str()) {
                return Err(MountError(format!("Duplicate mount point: {}", mount.target)));
            }
        }
        Ok(mounts)
    }
}

/// Reads what `--volumes-from` says: a container, and whether its mounts become read-only.
pub fn volumes_from(text: &str) -> Result<(&str, bool), MountError> {
    match text.split_once(':') {
        _ if text.is_empty() => Err(MountError("malformed volumes-from specification: empty".to_owned())),
        None => Ok((text, false)),
        Some((container, "ro")) => Ok((container, true)),
        Some((container, "rw" | "z" | "Z")) => Ok((container, false)),
        Some((_, mode)) => Err(MountError(format!("invalid mode: {mode}"))),
    }
}

/// Puts together what a container mounts: its own wishes, then those of other containers, then the volumes
/// of its image; of equal targets the first one counts, as with docker.
pub fn merge<'a>(
    own: Vec<ContainerMount>,
    of_others: impl IntoIterator<Item = ContainerMount>,
    of_image: impl IntoIterator<Item = &'a String>,
) -> Vec<ContainerMount> {
    let mut merged = own;
    let add = |merged: &mut Vec<ContainerMount>, mount: ContainerMount| {
        if merged.iter().all(|there| there.target != mount.target) {
            merged.push(mount);
        }
    };
    for mount in of_others {
        add(&mut merged, mount);
    }
    for path in of_image {
        // What an image names is not the user's fault: one that cannot be is left out.
        if let Ok(target) = clean_target(path) {
            add(&mut merged, ContainerMount::anonymous(target));
        }
    }
    merged
}

/// Reads a `-v`: `PATH`, `SOURCE:PATH` or `SOURCE:PATH:MODE`.
pub fn volume(text: &str, here: &Path) -> Result<ContainerMount, MountError> {
    let bad = |why: &str| match why {
        "" => MountError(format!("invalid volume specification: '{text}'")),
        why => MountError(format!("invalid volume specification: '{text}': {why}")),
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [target] if !target.is_empty() => ("", target, ""),
        [_, target] if target.is_empty() || Mode::read(target).is_ok() => return Err(bad("")),
        [source, target] if !source.is_empty() => (source, target, ""),
        [source, target, mode] if !source.is_empty() && !target.is_empty() => (source, target, mode),
        _ => return Err(bad("")),
    };
    let is_path = source.starts_with('/') || source.starts_with('.') || source.starts_with('~');
    let kind = if is_path { "bind" } else { "volume" };
    let invalid = |why: String| bad(&format!("invalid mount config for type \"{kind}\": {why}"));
    let parsed = Mode::read(mode).map_err(|why| match why {
        Some(why) => bad(&why),
        None => bad(&format!("invalid mode: {mode}")),
    })?;
    let target = clean_target(target).map_err(|MountError(why)| invalid(why))?;
    let kind = if source.is_empty() {
        ContainerMount::anonymous(String::new()).kind
    } else if is_path {
        if parsed.no_copy {
            return Err(bad(&format!("invalid mode: {mode}")));
        }
        // A tilde is the shell's to resolve; one that it left is a name like any other.
        let source = clean(&here.join(source));
        MountKind::Bind { source, make: true, recursive: true }
    } else {
        check_volume_name(source)?;
        let mut kind = ContainerMount::anonymous(String::new()).kind;
        if let MountKind::Volume { name, anonymous, copy, .. } = &mut kind {
            (*name, *anonymous, *copy) = (Some(source.to_owned()), false, !parsed.no_copy);
        }
        kind
    };
    Ok(ContainerMount { kind, target, read_only: parsed.read_only, mode: mode.to_owned() })
}

/// What the third part of a `-v` says.
#[derive(Debug, Default)]
struct Mode {
    read_only: bool,
    no_copy: bool,
}

impl Mode {
    /// Reads it; the error says why, where docker would take it and this program does not.
    fn read(text: &str) -> Result<Mode, Option<String>> {
        let mut mode = Mode::default();
        let mut seen = BTreeSet::new();
        for word in text.split(',').filter(|_| !text.is_empty()) {
            // Of each kind one.
            let kind = match word {
                "ro" | "rw" => "access",
                "z" | "Z" => "label",
                "nocopy" => "copy",
                "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => "propagation",
                "consistent" | "cached" | "delegated" => "consistency",
                _ => return Err(None),
            };
            if !seen.insert(kind) {
                return Err(None);
            }
            match word {
                "ro" => mode.read_only = true,
                "nocopy" => mode.no_copy = true,
                "shared" | "rshared" | "slave" | "rslave" => return Err(Some(not_passed_on(word))),
                _ => {}
            }
        }
        Ok(mode)
    }
}

/// Says why a propagation is refused.
fn not_passed_on(word: &str) -> String {
    format!(
        "the propagation `{word}` is not supported: a container never sees what is mounted after it started \
         (rprivate)"
    )
}

/// Checks the name of a volume.
pub fn check_volume_name(name: &str) -> Result<(), MountError> {
    crate::store::check_volume_name(name).map_err(|error| MountError(error.to_string()))
}

/// Makes a target plain: absolute, without `.` and `..`.
fn clean_target(target: &str) -> Result<String, MountError> {
    if target.is_empty() {
        return Err(MountError("field Target must not be empty".to_owned()));
    }
    if !target.starts_with('/') {
        return Err(MountError(format!("invalid mount path: '{target}' mount path must be absolute")));
    }
    if target.contains('\0') {
        return Err(MountError("invalid mount path: it holds a NUL".to_owned()));
    }
    match clean(Path::new(target)).to_string_lossy().into_owned() {
        root if root == "/" => Err(MountError("invalid specification: destination can't be '/'".to_owned())),
        plain => Ok(plain),
    }
}

/// Takes `.` and `..` out of an absolute path by its text, as Go's `filepath.Clean` does.
fn clean(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests;
