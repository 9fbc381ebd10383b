//! Foreign archives: nothing outside the root, nothing beyond the limits, and what was
//! unpacked can be written and unpacked again without a change.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rbuild::context;
use rbuild::layer::{EntryKind, Limits, TarReader, UnpackOptions, decompress, unpack, write_layer};
use rbuild::sys::{OverlayXattrs, RootDir};

/// No fuzzer needs more, and a hole costs nothing in the archive but all when it is written.
const LIMITS: Limits = Limits { entries: 200, bytes: 1 << 20, hole_bytes: 1 << 20 };

/// The size of everything in an archive.
const BLOCK: usize = 512;

/// Reads the first byte's bits: an image layer or any other archive; checksums to be put
/// right (a fuzzer guesses none); an end marker to be added; a build context.
pub fn check(bytes: &[u8]) {
    let Some((&choice, archive)) = bytes.split_first() else { return };
    let mut archive = archive.to_vec();
    if choice & 2 != 0 {
        seal(&mut archive);
    }
    if choice & 4 != 0 {
        archive.resize(archive.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    }
    let _ = context::sniff(&archive);
    let Ok((_, reader)) = decompress(&archive[..]) else { return };
    let entries = read(reader);
    let Ok((_, reader)) = decompress(&archive[..]) else { return };

    let outer = tempfile::tempdir().expect("a temporary directory");
    let inner = outer.path().join("root");
    std::fs::create_dir(&inner).expect("a directory in it");
    let root = RootDir::open(&inner).expect("the directory just made");
    // rbuild itself is always user 0, if only of a user namespace: it can remove anything.
    let is_user_0 = std::fs::metadata(&inner).expect("it is there").uid() == 0;
    let base = match choice & 1 {
        0 => UnpackOptions::layer(OverlayXattrs::User),
        _ => UnpackOptions::files(OverlayXattrs::User),
    };
    let options = UnpackOptions { limits: LIMITS, ..base };
    if let Ok(done) = unpack(reader, &root, &options) {
        assert_eq!(Some(done.entries), entries, "not all that is in the archive was unpacked");
        assert!(done.entries <= LIMITS.entries && done.bytes <= LIMITS.bytes, "{done:?}");
        if !done.opaque_root {
            same_again(&root, outer.path());
        }
    }
    // The default limits of a context are a machine's; the entries above keep within ours.
    if choice & 8 != 0 && entries.is_some() {
        let folder = outer.path().join("contexts");
        std::fs::create_dir(&folder).expect("a directory in it");
        drop(context::from_tar(&archive[..], &folder));
        assert!(names(&folder).is_empty() || !is_user_0, "a context's directory was left");
    }
    let expected = |name: &String| ["root", "again", "contexts"].contains(&name.as_str());
    assert!(names(outer.path()).iter().all(expected), "a file outside the root");
    if !is_user_0 {
        open_up(outer.path());
    }
}

/// Reads all entries and their data; `None` after an error.
fn read(reader: impl std::io::Read) -> Option<u64> {
    let mut tar = TarReader::new(reader, LIMITS);
    let mut buffer = [0; 4096];
    let (mut entries, mut bytes) = (0, 0);
    while let Some(entry) = tar.next_entry().ok()? {
        entries += 1;
        bytes += entry.size;
        assert!(entries <= LIMITS.entries && bytes <= LIMITS.bytes, "beyond the limits at {entry:?}");
        let parts = entry.sparse.clone().unwrap_or_else(|| vec![(0, entry.size)]);
        let mut end = 0;
        for &(offset, length) in &parts {
            assert!(offset >= end && offset + length <= entry.size, "{entry:?}");
            end = offset + length;
        }
        let stored: u64 = parts.iter().map(|(_, length)| length).sum();
        let mut found = 0;
        loop {
            match tar.read_data(&mut buffer).ok()? {
                0 => break,
                n => found += n as u64,
            }
        }
        // Old archives mark a directory by its name alone; what data it has is skipped.
        assert!(found == stored || entry.kind == EntryKind::Directory, "{found} bytes of {entry:?}");
    }
    assert!(matches!(tar.next_entry(), Ok(None)), "after the end is the end");
    Some(entries)
}

/// Writes a tree as a layer and unpacks that: the same layer.
fn same_again(root: &RootDir, outer: &Path) {
    let tar_of = |root: &RootDir| {
        let mut bytes = Vec::new();
        // An ordinary user cannot read all that one may unpack.
        write_layer(root, OverlayXattrs::User, &mut bytes).ok().map(|()| bytes)
    };
    let Some(first) = tar_of(root) else { return };
    let again = outer.join("again");
    std::fs::create_dir(&again).expect("a directory in it");
    let again = RootDir::open(&again).expect("the directory just made");
    let done = unpack(&first[..], &again, &UnpackOptions::layer(OverlayXattrs::User));
    let done = done.unwrap_or_else(|error| panic!("a layer we wrote cannot be read: {error}"));
    assert!(!done.opaque_root, "the layer hides what is below it, and did not before");
    assert!(tar_of(&again).as_ref() == Some(&first), "the layer changed on its way");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the directory is there");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// Makes directories such that an ordinary user can remove what is in them.
fn open_up(folder: &Path) {
    std::fs::set_permissions(folder, Permissions::from_mode(0o700)).expect("it is ours");
    for entry in std::fs::read_dir(folder).expect("it can be read now") {
        let entry = entry.expect("an entry");
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// Gives every header block its checksum, going from one to the next by the sizes they name.
pub fn seal(archive: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = archive.get_mut(at..at + BLOCK) {
        if block.iter().any(|&byte| byte != 0) {
            block[148..156].fill(b' ');
            let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let digits = block[124..136].iter().take_while(|byte| (b'0'..=b'7').contains(*byte));
        let size = digits.fold(0usize, |size, digit| (size << 3 | usize::from(digit - b'0')) & 0xff_ffff);
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
}
