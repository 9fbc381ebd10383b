//! Archives: told by their first bytes, and unpacked to be a build context.
//!
//! Not here: reading them (`layer`), ADD (`worker::copy`).

use std::fs::Permissions;
use std::io;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::layer::Compression;
use crate::layer::Packing;
use crate::layer::UnpackOptions;
use crate::layer::decompress;
use crate::layer::is_tar_header;
use crate::layer::unpack;
use crate::sys::OverlayXattrs;
use crate::sys::RootDir;

use super::error::ContextError;
use super::tree::Tree;

/// The size of a tar header (POSIX.1, pax, "ustar Interchange Format"): what [`sniff`] needs.
pub const BLOCK: usize = 512;

/// Tells whether standard input begins as an archive rather than as the text of a Dockerfile.
///
/// 512 bytes are enough.
pub fn is_archive(head: &[u8]) -> bool {
    sniff(head) != Kind::Other
}

/// What the first bytes of a file say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tar,
    /// Compressed: whether it holds a tar is seen only inside.
    Compressed,
    Other,
}

/// Tells what a file is by its first bytes; 512 are enough.
pub fn sniff(head: &[u8]) -> Kind {
    match Packing::sniff(head) {
        Packing::Layer(Compression::None) if is_tar_header(head) => Kind::Tar,
        Packing::Layer(Compression::None) => Kind::Other,
        _ => Kind::Compressed,
    }
}

/// Unpacks a build context into a directory of its own below `folder`.
///
/// Names and links in the archive stay inside it. The directory is removed with the tree.
pub fn from_tar(reader: impl Read, folder: &Path) -> Result<Tree, ContextError> {
    let fail = |source: io::Error| ContextError::Temporary { path: folder.to_owned(), source };
    let builder = tempfile::Builder::new()
        .prefix("context-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(folder)
        .map_err(fail)?;
    let root = RootDir::open(builder.path()).map_err(fail)?;
    let (_, content) = decompress(reader).map_err(ContextError::Unpack)?;
    // The directory is never a layer, so it does not matter which attributes would be overlayfs's.
    unpack(content, &root, &UnpackOptions::files(OverlayXattrs::User)).map_err(ContextError::Unpack)?;
    let mut tree = Tree::context(root);
    tree.temporary = Some(builder);
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tar_header() -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_path("a").unwrap();
        header.set_size(0);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    #[test]
    fn sniffs() {
        let check = |head: &[u8], expect: Kind| assert_eq!(sniff(head), expect, "{head:?}");
        check(&tar_header(), Kind::Tar);
        check(&tar_header()[..511], Kind::Other);
        check(&[0; 512], Kind::Other);
        check(b"\x1f\x8b\x08\x00", Kind::Compressed);
        check(b"\x28\xb5\x2f\xfd\x00", Kind::Compressed);
        check(b"\xfd7zXZ\0", Kind::Compressed);
        check(b"BZh91AY&SY", Kind::Compressed);
        check(b"BZh9 is a fine first line", Kind::Other);
        check(b"FROM scratch\n", Kind::Other);
        check(b"", Kind::Other);
    }

    fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
                header.as_gnu_mut().unwrap().linkname[..content.len()].copy_from_slice(content.as_bytes());
                header.set_size(0);
                header.set_cksum();
                builder.append(&header, io::empty()).unwrap();
            } else {
                header.set_size(content.len() as u64);
                header.set_cksum();
                builder.append(&header, content.as_bytes()).unwrap();
            }
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_context_from_an_archive_stays_inside() {
        use tar::EntryType::{Link, Regular, Symlink};
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("tmp");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(outer.path().join("secret"), "secret").unwrap();
        let good = archive(&[
            ("Dockerfile", Regular, "FROM scratch"),
            ("../outside", Regular, "x"),
            ("/absolute", Regular, "x"),
            ("a/../../b", Regular, "x"),
            ("up", Symlink, "../../secret"),
        ]);
        let tree = from_tar(&good[..], &folder).unwrap();
        assert_eq!(tree.root().read_small(Path::new("Dockerfile"), 100).unwrap(), b"FROM scratch");
        assert!(tree.root().read_small(Path::new("up"), 100).is_err());
        drop(tree);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "removed with the tree");
        for bad in [
            archive(&[("l", Symlink, "../../.."), ("l/EVIL", Regular, "x")]),
            archive(&[("h", Link, "../../secret")]),
            archive(&[(".wh.x", Regular, "")]),
            b"FROM scratch".to_vec(),
            b"\xfd7zXZ\0 and more".to_vec(),
        ] {
            let error = from_tar(&bad[..], &folder).unwrap_err();
            assert!(matches!(error, ContextError::Unpack(_)), "{error}");
        }
        let names: Vec<_> =
            std::fs::read_dir(outer.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }

    proptest! {
        #[test]
        fn sniffs_anything(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            sniff(&bytes);
        }
    }
}
