//! Which files a log is: `log` is written, `log.1` is the one before it, and so on.
//!
//! A new file takes the place of `log` in one rename, so that there is one at every moment. Not here: what is
//! in them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The most files that are looked for: nobody keeps so many.
const MOST: u32 = 10_000;

/// Opens the file that is written; makes it where it is missing.
pub(super) fn open_to_write(log: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(log)
}

/// Begins a new file: the ones before move up by one, and those beyond `count` go.
pub(super) fn turn_over(log: &Path, count: u32) -> io::Result<File> {
    let fresh = with_suffix(log, "new");
    let file = OpenOptions::new().append(true).create(true).truncate(false).mode(0o600).open(&fresh)?;
    file.set_len(0)?;
    for number in (1..count.saturating_sub(1)).rev() {
        allow_missing(fs::rename(numbered(log, number), numbered(log, number + 1)))?;
    }
    if count > 1 {
        let first = numbered(log, 1);
        allow_missing(fs::remove_file(&first))?;
        allow_missing(fs::hard_link(log, &first))?;
    }
    fs::rename(&fresh, log)?;
    Ok(file)
}

/// Opens the files that there are, oldest first.
pub(super) fn open_all(log: &Path) -> io::Result<Vec<File>> {
    for _ in 0..ATTEMPTS {
        let files = scan(log)?;
        // A file that is begun meanwhile would stand in the wrong place.
        let newest = files.first().map(|(_, identity)| *identity);
        let written = written(log)?;
        if written.is_none() || newest == written {
            return Ok(files.into_iter().rev().map(|(file, _)| file).collect());
        }
    }
    Err(io::Error::other("the files of the log are turned over faster than they can be opened"))
}

/// How often the files are opened again that were turned over meanwhile.
const ATTEMPTS: u32 = 1000;

/// Which file it is, whatever it is called: its device and inode.
type Identity = (u64, u64);

/// Opens the files, newest first: as they move up, one that moves meanwhile is met twice or where it went to.
fn scan(log: &Path) -> io::Result<Vec<(File, Identity)>> {
    let mut files: Vec<(File, Identity)> = Vec::new();
    let mut missing = 0;
    for number in 0..MOST {
        match File::open(numbered(log, number)) {
            Ok(file) => {
                let identity = identity(&file)?;
                if files.iter().all(|(_, known)| *known != identity) {
                    files.push((file, identity));
                }
                missing = 0;
            }
            // Where one just moved from there is none.
            Err(error) if error.kind() == ErrorKind::NotFound && missing == 0 => missing = 1,
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

/// Says which file is written; `None` where there is none.
fn written(log: &Path) -> io::Result<Option<Identity>> {
    match fs::metadata(log) {
        Ok(meta) => Ok(Some((meta.dev(), meta.ino()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the files after the one that is open, oldest first: none where it is the one that is written.
///
/// Where it is no more among them, all there are came after it.
pub(super) fn after(log: &Path, open: &File) -> io::Result<Vec<File>> {
    let wanted = identity(open)?;
    if written(log)?.is_none_or(|written| written == wanted) {
        return Ok(Vec::new());
    }
    let mut all = open_all(log)?;
    let mut at = None;
    for (index, file) in all.iter().enumerate() {
        if identity(file)? == wanted {
            at = Some(index);
        }
    }
    Ok(at.map_or(0, |at| at + 1)).map(|first| all.split_off(first))
}

fn identity(file: &File) -> io::Result<Identity> {
    let meta = file.metadata()?;
    Ok((meta.dev(), meta.ino()))
}

fn numbered(log: &Path, number: u32) -> PathBuf {
    match number {
        0 => log.to_owned(),
        number => with_suffix(log, &number.to_string()),
    }
}

fn with_suffix(log: &Path, suffix: &str) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn allow_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn texts(files: Vec<File>) -> Vec<String> {
        let read = |mut file: File| {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            text
        };
        files.into_iter().map(read).collect()
    }

    #[test]
    fn files_are_turned_over() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut file = open_to_write(&log).unwrap();
        let first = File::open(&log).unwrap();
        for n in 0..5 {
            write!(file, "{n}").unwrap();
            file = turn_over(&log, 3).unwrap();
        }
        assert_eq!(texts(open_all(&log).unwrap()), ["3", "4", ""]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
        // What was lost is not waited for.
        assert_eq!(texts(after(&log, &first).unwrap()), ["3", "4", ""]);
        let third = File::open(numbered(&log, 2)).unwrap();
        assert_eq!(texts(after(&log, &third).unwrap()), ["4", ""]);
        assert!(after(&log, &file).unwrap().is_empty());
    }

    #[test]
    fn one_file_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut file = open_to_write(&log).unwrap();
        write!(file, "old").unwrap();
        let mut file = turn_over(&log, 1).unwrap();
        write!(file, "new").unwrap();
        assert_eq!(texts(open_all(&log).unwrap()), ["new"]);
        assert!(texts(open_all(&directory.path().join("none")).unwrap()).is_empty());
    }
}
