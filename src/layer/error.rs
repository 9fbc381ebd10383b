//! What can go wrong with a layer, by step.

use std::io;

/// Says why a layer could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A call on one file of the layer's directory failed.
    #[error("cannot {action} `{path}`")]
    File { action: &'static str, path: String, source: io::Error },
    #[error("`{path}` changed while it was read")]
    Changed { path: String },
    #[error("`{path}` cannot be in a layer: a name that starts with `.wh.` means that a file was deleted")]
    ReservedName { path: String },
    #[error("`{path}` cannot be in a layer: a character device 0:0 means that a file was deleted")]
    Whiteout { path: String },
    /// The receiver of the tar or of the unpacked bytes failed.
    #[error("cannot write the layer's tar")]
    Write { source: io::Error },

    #[error("not a tar archive")]
    NotTar,
    #[error("the archive is empty")]
    Empty,
    #[error("cannot read the archive at byte {offset}")]
    Read { offset: u64, source: io::Error },
    #[error("the archive is truncated: it ends at byte {offset}, inside {inside}")]
    Truncated { offset: u64, inside: String },
    #[error("the archive has no end marker: it is truncated after byte {offset}")]
    NoEndMarker { offset: u64 },
    #[error("the archive has data after its end marker, at byte {offset}")]
    TrailingData { offset: u64 },
    #[error("bad header in the archive at byte {offset}: {why}")]
    Header { offset: u64, why: String },
    #[error("bad entry `{name}` in the archive: {why}")]
    Entry { name: String, why: String },
    #[error("the archive has more than {limit} {what}")]
    Limit { limit: u64, what: &'static str },

    #[error("a layer cannot be compressed with {kind}: only with gzip or zstd")]
    UnsupportedCompression { kind: &'static str },
    #[error("cannot start the {kind} decoder")]
    Decoder { kind: &'static str, source: io::Error },
}

impl LayerError {
    /// Returns a function that wraps an I/O error with what was done to which file.
    pub(super) fn file(action: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> LayerError {
        move |source| LayerError::File { action, path: shown(path), source }
    }

    pub(super) fn entry(name: &[u8], why: impl Into<String>) -> LayerError {
        LayerError::Entry { name: shown(name), why: why.into() }
    }
}

/// Returns a name from outside as it may stand in a message: one line, no control characters, not endless.
pub(super) fn shown(name: &[u8]) -> String {
    const MAX: usize = 300;
    let text = String::from_utf8_lossy(&name[..name.len().min(MAX)]);
    let mut out: String = text
        .chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = (!c.is_control()).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect();
    if name.len() > MAX {
        out.push_str("...");
    }
    out
}
