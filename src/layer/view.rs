//! What layers look like together, as one tar: no whiteouts, nothing hidden.
//!
//! The same walk and the same form of tar as a layer's, over a merged view, with what the disk lacks put
//! in its place (`missing`). Not here: mounting the view (`store`).

use std::collections::BTreeMap;
use std::io::Write;
use std::iter::Peekable;

use crate::sys::{OverlayXattrs, RootDir};

use super::LayerError;
use super::entry::{Entry, Kind, Sink};
use super::missing::{Fix, Missing, key_of, path_of};
use super::tar_write::TarSink;
use super::walk::walk_with;

/// How a view is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ViewOptions {
    /// The latest time a file may have, in seconds since 1970; later ones become it.
    pub latest: Option<i64>,
    /// Whether somebody writes to the files meanwhile: what goes is left out.
    pub changing: bool,
}

/// Writes the files of a merged view as a tar.
///
/// Sorted, owners as numbers, whole seconds, hard links where a file of one layer has several names; the
/// top directory has an entry only where it is not 0755 0:0. Equal views are equal bytes.
pub fn write_view(
    view: &RootDir,
    marks: OverlayXattrs,
    missing: &Missing,
    options: ViewOptions,
    out: &mut impl Write,
) -> Result<(), LayerError> {
    let fixes = missing.fixes();
    let rest = fixes.iter().peekable();
    let mut whole =
        Whole { tar: TarSink::new(out), fixes, rest, latest: options.latest, passed: Passed::Nothing };
    walk_with(view, marks, options.changing, &mut whole)?;
    whole.up_to(None)?;
    whole.tar.finish()?;
    Ok(())
}

/// What of the walk something else stands for.
enum Passed {
    Nothing,
    Data,
    /// All beneath a path, by its place in the order.
    Beneath(Vec<u8>),
}

/// Writes the entries of a walk, each with what is missing of it, and before it those that are missing.
struct Whole<'m, W> {
    tar: TarSink<W>,
    fixes: &'m BTreeMap<Vec<u8>, Fix>,
    rest: Peekable<std::collections::btree_map::Iter<'m, Vec<u8>, Fix>>,
    latest: Option<i64>,
    passed: Passed,
}

impl<W: Write> Whole<'_, W> {
    fn put(&mut self, mut entry: Entry<'_>) -> Result<(), LayerError> {
        if let Some(latest) = self.latest
            && entry.mtime_seconds >= latest
        {
            (entry.mtime_seconds, entry.mtime_nanos) = (latest, 0);
        }
        self.tar.entry(&entry)
    }

    /// Writes the missing files that come before a place; `None` is the end.
    fn up_to(&mut self, place: Option<&[u8]>) -> Result<(), LayerError> {
        while let Some((key, fix)) =
            self.rest.next_if(|(key, _)| place.is_none_or(|place| key.as_slice() < place))
        {
            // The walk passes over the top directory where the disk has nothing to tell of it.
            if fix.is_missing || key.is_empty() {
                self.put(fix.entry(&path_of(key)))?;
            }
        }
        Ok(())
    }
}

impl<W: Write> Sink for Whole<'_, W> {
    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), LayerError> {
        let key = key_of(entry.path);
        if let Passed::Beneath(directory) = &self.passed
            && key.strip_prefix(directory.as_slice()).is_some_and(|rest| rest.first() == Some(&0))
        {
            return Ok(());
        }
        self.passed = Passed::Nothing;
        self.up_to(Some(&key))?;
        let own = self.rest.next_if(|(there, _)| **there == key).map(|(_, fix)| fix);
        if let Some(fix) = own.filter(|fix| fix.is_missing) {
            self.passed = match entry.kind {
                Kind::Directory => Passed::Beneath(key),
                _ => Passed::Data,
            };
            return self.put(fix.entry(entry.path));
        }
        let fix = match entry.kind {
            Kind::HardLink => self.fixes.get(&key_of(entry.link)),
            _ => own,
        };
        match fix {
            None => self.put(*entry),
            Some(fix) if fix.is_missing => Err(LayerError::entry(
                entry.path,
                "it is a second name of a file that a device took the place of",
            )),
            Some(fix) => {
                let xattrs = if entry.kind == Kind::HardLink { &[][..] } else { &fix.xattrs };
                self.put(Entry { mode: fix.mode, uid: fix.uid, gid: fix.gid, xattrs, ..*entry })
            }
        }
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        match self.passed {
            Passed::Nothing => self.tar.data(bytes),
            Passed::Data | Passed::Beneath(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::LeftOut;
    use super::*;

    const MARKS: OverlayXattrs = OverlayXattrs::User;

    /// Makes a tar of `(name, type, uid)`; links lead to `null`.
    fn tar_of(entries: &[(&str, u8, u64)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for &(name, kind, uid) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::new(kind));
            header.set_uid(uid);
            header.set_gid(0);
            header.set_mode(0o4711);
            header.set_mtime(5000);
            header.set_size(0);
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
            if kind == b'1' {
                header.set_link_name("dev/null").unwrap();
            }
            header.set_path(name).unwrap();
            header.set_cksum();
            builder.append(&header, &b""[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn files(root: &Path, files: &[(&str, &str)]) -> RootDir {
        for (name, content) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        fs::create_dir_all(root).unwrap();
        RootDir::open(root).unwrap()
    }

    /// Writes a view; returns `name type uid content` of each entry.
    fn written(view: &RootDir, missing: &Missing, latest: Option<i64>) -> Vec<String> {
        let mut bytes = Vec::new();
        write_view(view, MARKS, missing, ViewOptions { latest, changing: false }, &mut bytes).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            std::io::Read::read_to_string(&mut entry, &mut content).unwrap();
            let header = entry.header();
            assert!(latest.is_none_or(|latest| header.mtime().unwrap() <= latest as u64));
            let kind = char::from(header.entry_type().as_byte());
            format!("{} {kind} {} {content}", entry.path().unwrap().display(), header.uid().unwrap())
        });
        entries.collect()
    }

    #[test]
    fn what_the_disk_lacks_comes_from_the_blobs() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        let left_out = LeftOut { devices: 1, ..LeftOut::default() };
        // Two layers as an ordinary user has them, and what they look like together.
        let lower = files(&place("lower"), &[("a", "a"), ("dev/x", "x"), ("gone/f", "f"), ("own", "o")]);
        let upper = files(&place("upper"), &[("gone", "now a file"), ("late", "l")]);
        let view = files(
            &place("view"),
            &[
                ("a", "a"),
                ("dev/x", "x"),
                ("gone", "now a file"),
                ("late", "l"),
                ("own", "o"),
                ("zero/y", "y"),
            ],
        );
        let own = rustix::process::geteuid().as_raw();
        let mut missing = Missing::default();
        let tar = tar_of(&[
            ("a", b'0', own.into()),
            ("dev/null", b'3', 7),
            ("dev/again", b'1', 0),
            ("gone/null", b'3', 0),
            ("own", b'0', 1_900_000),
            ("late", b'3', 0),
            ("zero", b'3', 0),
        ]);
        missing.add_layer(&lower, MARKS, left_out, Some(&tar[..])).unwrap();
        missing.add_layer(&upper, MARKS, LeftOut::default(), None::<&[u8]>).unwrap();
        let expect = [
            format!("a 0 {own} a"),
            format!("dev/ 5 {own} "),
            "dev/again 3 7 ".to_owned(),
            "dev/null 3 7 ".to_owned(),
            format!("dev/x 0 {own} x"),
            format!("gone 0 {own} now a file"),
            format!("late 0 {own} l"),
            "own 0 1900000 o".to_owned(),
            // A device took the place of a directory, and of all that was in it.
            "zero 3 0 ".to_owned(),
        ];
        assert_eq!(written(&view, &missing, Some(4000)), expect);
        assert_eq!(missing.unknown(), LeftOut::default());
    }

    #[test]
    fn what_nobody_knows_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let lower = files(directory.path(), &[("a", "a")]);
        let left_out = LeftOut { devices: 2, owners: 1, xattrs: 0 };
        let mut missing = Missing::default();
        missing.add_layer(&lower, MARKS, left_out, None::<&[u8]>).unwrap();
        assert_eq!(missing.unknown(), left_out);
        assert_eq!(written(&lower, &missing, None).len(), 1);
    }
}
