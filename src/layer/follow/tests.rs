//! Layers written in every way that a copy writes them: what was followed is what is read afterwards,
//! and what does not fit has no result.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::layer::{DigestOptions, digest_layer};
use crate::sys::copy::set_times_at;

const MARKS: OverlayXattrs = OverlayXattrs::User;
const TIME: (i64, u32) = (1_000, 7);

/// A layer in the making, followed.
struct Written {
    directory: tempfile::TempDir,
    follower: Option<Follower>,
}

impl Written {
    fn new() -> Written {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let upper = RootDir::open(directory.path()).unwrap();
        crate::layer::inherit_root(None, &upper, MARKS).unwrap();
        let follower = Some(Follower::start(&upper, MARKS, Times::Ignore).unwrap());
        Written { directory, follower }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join(path)
    }

    fn split(path: &str) -> (&Path, &OsStr) {
        let path = Path::new(path);
        (path.parent().unwrap(), path.file_name().unwrap())
    }

    fn follower(&mut self) -> &mut Follower {
        self.follower.as_mut().unwrap()
    }

    fn make_directory(&mut self, path: &str) {
        fs::create_dir(self.path(path)).unwrap();
        let (parent, name) = Written::split(path);
        self.follower().directory(parent, name, Becomes { mtime: TIME, rest: None });
    }

    fn announce(&mut self, path: &str, kind: FileType, several: bool) {
        let (parent, name) = Written::split(path);
        self.follower().file(parent, name, Announced { kind, several, size: 0, digest: None });
    }

    fn file(&mut self, path: &str, content: &str) {
        fs::write(self.path(path), content).unwrap();
        self.announce(path, FileType::RegularFile, false);
    }

    /// Ends it; directories get the time that was announced.
    fn finish(&mut self, directories: &[&str]) -> Option<LayerDigests> {
        for path in directories {
            set_times_at(rustix::fs::CWD, self.path(path), TIME.0, TIME.1).unwrap();
        }
        let found = self.follower.take().unwrap().finish();
        let upper = RootDir::open(self.directory.path()).unwrap();
        let read = digest_layer(&upper, &DigestOptions { xattrs: MARKS, times: Times::Ignore, below: None });
        if let Some(found) = &found {
            assert_eq!(*found, read.unwrap());
        }
        found
    }
}

fn check(follows: bool, directories: &[&str], write: impl FnOnce(&mut Written)) {
    let mut written = Written::new();
    write(&mut written);
    assert_eq!(written.finish(directories).is_some(), follows);
}

#[test]
fn what_was_followed_is_what_is_read() {
    check(true, &[], |_| {});
    check(true, &["a", "a/b", "c"], |w| {
        w.make_directory("a");
        w.file("a/0", "zero");
        w.make_directory("a/b");
        w.file("a/b/deep", "");
        w.file("a/c", "after");
        symlink("nowhere", w.path("b")).unwrap();
        w.announce("b", FileType::Symlink, false);
        w.make_directory("c");
    });
    check(true, &[], |w| {
        // More than fits into one message, and bytes above the walk's buffer.
        for number in 0..300 {
            w.file(&format!("f{number:03}"), &"x".repeat(number * 10));
        }
        w.file("g", &"y".repeat(1 << 20));
    });
}

#[test]
fn hard_links_are_known_although_the_first_name_was_alone() {
    check(true, &[], |w| {
        fs::write(w.path("a"), "x").unwrap();
        w.announce("a", FileType::RegularFile, true);
        for number in 0..BATCH {
            w.file(&format!("b{number:03}"), "");
        }
        fs::hard_link(w.path("a"), w.path("c")).unwrap();
        w.announce("c", FileType::RegularFile, true);
    });
}

#[test]
fn what_does_not_fit_has_no_result() {
    check(false, &[], |w| {
        w.file("b", "");
        w.file("a", "out of order");
    });
    check(false, &[], |w| {
        w.file("a", "");
        w.file("a", "twice");
    });
    check(false, &[], |w| {
        w.file("a", "");
        fs::write(w.path("b"), "never announced").unwrap();
    });
    check(false, &["a"], |w| {
        w.make_directory("a");
        fs::write(w.path("a/b"), "never announced").unwrap();
    });
    check(false, &[], |w| w.make_directory("a"));
    check(false, &["a"], |w| {
        // It was to become something else than it is in the end.
        fs::create_dir(w.path("a")).unwrap();
        let rest = Some(Metadata { mode: 0o1234, uid: 0, gid: 0, xattrs: Vec::new() });
        w.follower().directory(Path::new(""), OsStr::new("a"), Becomes { mtime: TIME, rest });
    });
    check(false, &["a", "b"], |w| {
        w.make_directory("a");
        w.make_directory("b");
        w.file("a/f", "into a directory that was left");
    });
    check(false, &[], |w| w.announce("gone", FileType::RegularFile, false));
    check(false, &[], |w| fs::set_permissions(w.path(""), fs::Permissions::from_mode(0o700)).unwrap());
    check(false, &[], |w| w.follower().give_up());
}

fn large(content: &[u8], write: impl FnOnce(&Path, Writing)) -> bool {
    let mut written = Written::new();
    let path = written.path("large");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let rest = Some(Metadata { mode: 0o640, uid, gid, xattrs: Vec::new() });
    let size = content.len() as u64;
    let file = Announced {
        kind: FileType::RegularFile,
        several: false,
        size,
        digest: Some(FileDigest::of(content)),
    };
    let becomes = Becomes { mtime: TIME, rest };
    let writing = written.follower().large(Path::new(""), OsStr::new("large"), file, becomes).unwrap();
    write(&path, writing);
    written.finish(&[]).is_some()
}

#[test]
fn a_large_file_is_read_while_it_is_written() {
    let content: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let complete = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        set_times_at(rustix::fs::CWD, path, TIME.0, TIME.1).unwrap();
    };
    let write = |path: &Path, writing: &Writing| {
        let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
        let mut there = 0;
        for piece in content.chunks(700_000) {
            std::io::Write::write_all(&mut file, piece).unwrap();
            there += piece.len() as u64;
            writing.written(there);
        }
    };
    assert!(large(&content, |path, writing| {
        write(path, &writing);
        complete(path, 0o640);
        writing.complete();
    }));
    assert!(!large(&content, |path, writing| {
        write(path, &writing);
        complete(path, 0o600);
        writing.complete();
    }));
    assert!(!large(&content, |path, writing| {
        write(path, &writing);
        complete(path, 0o640);
    }));
    assert!(!large(&content, |path, writing| {
        fs::write(path, &content[1..]).unwrap();
        writing.written(content.len() as u64 - 1);
        complete(path, 0o640);
        writing.complete();
    }));
    assert!(!large(&content, |_, writing| writing.written(content.len() as u64 + 1)));
}

#[test]
fn one_that_is_dropped_ends() {
    let mut written = Written::new();
    written.file("a", "x");
    drop(written.follower.take());
}
