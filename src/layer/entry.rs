//! One file of a layer as a value, and who takes such values.

use crate::image::FileDigest;

use super::LayerError;

/// The prefix of a deleted file's name in a layer's tar (OCI image-spec, layer.md, "Whiteouts").
pub(super) const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// The name that hides all that lower layers have in its directory (layer.md, "Opaque Whiteout").
pub(super) const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

/// What kind of change an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    /// A further name of a file that came before in the same layer.
    HardLink,
    CharDevice,
    BlockDevice,
    Fifo,
    /// A file of a lower layer is deleted.
    Whiteout,
    /// All that lower layers have in this directory is deleted.
    Opaque,
}

/// One entry of a layer. Whiteouts and opaque marks have a path and nothing else.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    pub kind: Kind,
    /// Without leading or trailing `/`; the layer's top directory is `.`.
    pub path: &'a [u8],
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime_seconds: i64,
    pub mtime_nanos: u32,
    /// In bytes; 0 for all but regular files.
    pub size: u64,
    /// The target of a symbolic link, or the path of the first name of a hard link.
    pub link: &'a [u8],
    pub major: u32,
    pub minor: u32,
    /// Sorted by name; without overlayfs's own and the host's.
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

impl<'a> Entry<'a> {
    /// Returns an entry that has only a kind and a path.
    pub fn bare(kind: Kind, path: &'a [u8]) -> Entry<'a> {
        Entry {
            kind,
            path,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime_seconds: 0,
            mtime_nanos: 0,
            size: 0,
            link: b"",
            major: 0,
            minor: 0,
            xattrs: &[],
        }
    }
}

/// Takes a layer's entries in their order.
pub(super) trait Sink {
    /// Takes the next entry; a regular file's bytes follow, `size` of them.
    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), LayerError>;

    /// Takes a regular file whose digest is known; its bytes follow all the same.
    fn known_file(&mut self, entry: &Entry<'_>, _digest: &FileDigest) -> Result<(), LayerError> {
        self.entry(entry)
    }

    /// Takes the next bytes of the current regular file.
    fn data(&mut self, bytes: &[u8]) -> Result<(), LayerError>;
}
