//! Fuzzes the reader and unpacker of layers: foreign bytes, decompressed first where they are compressed.
//!
//! A finding is a panic, memory without bound, or a file outside the root. The
//! first byte chooses between an image layer and any other archive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbuild::layer::{Limits, UnpackOptions, decompress, unpack};
use rbuild::sys::{OverlayXattrs, RootDir};

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, archive)) = bytes.split_first() else { return };
    let outer = tempfile::tempdir().expect("a temporary directory");
    let inner = outer.path().join("root");
    std::fs::create_dir(&inner).expect("a directory in it");
    let root = RootDir::open(&inner).expect("the directory just made");
    let base = match choice & 1 {
        0 => UnpackOptions::layer(OverlayXattrs::User),
        _ => UnpackOptions::files(OverlayXattrs::User),
    };
    let limits = Limits { entries: 1000, bytes: 1 << 24, hole_bytes: 1 << 24 };
    if let Ok((_, reader)) = decompress(archive) {
        let _ = unpack(reader, &root, &UnpackOptions { limits, ..base });
    }
    let left = std::fs::read_dir(outer.path()).expect("the directory is there").count();
    assert_eq!(left, 1, "a file outside the root");
});
