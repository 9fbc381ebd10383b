//! What can go wrong with a context, and how names from outside are shown.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::image::Digest;
use crate::net::NetError;
use crate::store::StoreError;

/// Says why a context could not be opened, or files could not be selected from it.
///
/// A path in backticks is the host's own or relative to the context's root.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    #[error("the build context `{}` does not exist", show(.0))]
    Missing(PathBuf),
    #[error("the build context `{}` is a file: it must be a directory (name a Dockerfile with `-f`)", show(.0))]
    IsFile(PathBuf),
    #[error("cannot open the build context `{}`", show(.path))]
    Open { path: PathBuf, source: io::Error },
    /// As docker says it; `hint` says what to do next.
    #[error("\"/{}\": not found", show(.path))]
    NotFound { path: PathBuf, hint: Option<String> },
    #[error("cannot read `{}`", show(.path))]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` changes while it is read: exclude it in .dockerignore, or build again", show(.0))]
    Changing(PathBuf),
    #[error("`{}` is a {kind}, which cannot be copied from a build context", show(.path))]
    Special { path: PathBuf, kind: &'static str },
    #[error("`{}` lies more than {MAX_DEPTH} directories deep", show(.0))]
    TooDeep(PathBuf),
    #[error("bad pattern `{pattern}`: {why}")]
    Pattern { pattern: String, why: String },
    #[error("bad rule in {file}: {why}")]
    Ignore { file: String, why: String },
    #[error("{file} is a link that leads nowhere inside the build context")]
    IgnoreLink { file: String },
    #[error("cannot read {file}")]
    ReadIgnore { file: String, source: io::Error },
    #[error("the Dockerfile `{}` does not exist{}", show(.path), match .link {
        true => " inside the build context: it is a link that leads out of it, or nowhere",
        false => "",
    })]
    DockerfileMissing { path: PathBuf, link: bool },
    #[error("the Dockerfile came by standard input and can be read only once")]
    DockerfileFromInput,
    #[error("cannot read the Dockerfile `{}`", show(.path))]
    Dockerfile { path: PathBuf, source: io::Error },
    #[error("cannot unpack the build context")]
    Unpack(#[source] crate::layer::LayerError),
    #[error("cannot make a directory for the build context in `{}`", show(.path))]
    Temporary { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Net(NetError),
    #[error("the checksum of `{url}` is {got}, not {expected} as it should be")]
    Checksum { url: String, expected: Digest, got: Digest },
    #[error("`{url}` cannot be saved as `{}`: that is no name for a file", show(Path::new(.name)))]
    DownloadName { url: String, name: String },
    #[error("cannot keep or read a download in `{}`", show(.path))]
    Download { path: PathBuf, source: io::Error },
    #[error("`{0}` is neither an archive nor the text of a Dockerfile")]
    NoContext(String),
    #[error(transparent)]
    Store(StoreError),
}

/// Directories that a selection may be nested; deeper trees are attacks or accidents.
pub const MAX_DEPTH: usize = 256;

impl ContextError {
    /// Returns what to do next, where that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            ContextError::NotFound { hint, .. } => hint.as_deref(),
            ContextError::Net(error) => error.hint(),
            ContextError::Checksum { .. } => Some(
                "the file at that address is another now, or the checksum was never its own: see what changed before \
                 you write the new one",
            ),
            _ => None,
        }
    }
}

/// Returns a path for people: control characters (a name may hold terminal commands) are escaped.
pub fn show(path: &Path) -> String {
    let text = path.to_string_lossy();
    if !text.chars().any(char::is_control) {
        return text.into_owned();
    }
    text.chars().fold(String::new(), |mut out, c| {
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
        out
    })
}
