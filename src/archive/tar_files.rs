//! The files of a tar that is not compressed, read where they lie.
//!
//! The tar is gone through once for the names; nothing of it is copied, and several threads read it at
//! once. An archive of images has regular files, directories and links among them: anything else in it,
//! and any name that leads out, is refused before anything is used. Not here: how it is decompressed
//! (`source`).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use crate::layer::{EntryKind, LayerError, Limits, TarEntry, TarReader};

use super::ArchiveError;
use super::files::{Files, Opened, bad, clean_name};

/// The most files an archive of images may have.
const MOST_ENTRIES: usize = 100_000;
/// The most links that lead to each other.
const MOST_LINKS: usize = 16;
/// What the reader of the tar keeps to: headers of long names count as entries there.
const LIMITS: Limits = Limits { entries: 4 * MOST_ENTRIES as u64, bytes: u64::MAX, hole_bytes: 0 };

/// A tar and where its files are.
#[derive(Debug)]
pub struct TarFiles {
    file: File,
    nodes: HashMap<String, Node>,
}

#[derive(Debug)]
enum Node {
    File {
        offset: u64,
        size: u64,
    },
    Directory,
    /// A link, with the cleaned name it leads to.
    Link(String),
}

impl TarFiles {
    /// Goes through a tar, from the start of the file to its end.
    pub fn index(mut file: File) -> Result<TarFiles, ArchiveError> {
        let length = file.seek(SeekFrom::End(0)).map_err(ArchiveError::Read)?;
        file.rewind().map_err(ArchiveError::Read)?;
        let mut tar = TarReader::new(&file, LIMITS);
        let mut nodes = HashMap::new();
        while let Some(entry) = tar.next_entry().map_err(of_tar)? {
            let offset = tar.position();
            let (name, node) = node(&entry, offset, length)?;
            if let Node::File { .. } = node {
                tar.seek_past_data().map_err(of_tar)?;
            }
            add(&mut nodes, name, node)?;
        }
        Ok(TarFiles { file, nodes })
    }

    /// Returns the names of the regular files, with where each begins and how long it is.
    pub fn regular_files(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        self.nodes.iter().filter_map(|(name, node)| match node {
            Node::File { offset, size } => Some((name.as_str(), *offset, *size)),
            _ => None,
        })
    }
}

fn of_tar(error: LayerError) -> ArchiveError {
    match error {
        LayerError::Limit { what: "entries", .. } => too_many(),
        error => ArchiveError::Unpack(error),
    }
}

fn too_many() -> ArchiveError {
    bad(format!("it has more than {MOST_ENTRIES} files"))
}

fn add(nodes: &mut HashMap<String, Node>, name: String, node: Node) -> Result<(), ArchiveError> {
    if name.is_empty() {
        return match node {
            Node::Directory => Ok(()),
            _ => Err(bad("it has a file without a name")),
        };
    }
    if nodes.len() >= MOST_ENTRIES {
        return Err(too_many());
    }
    match (nodes.get(&name), &node) {
        // Programs disagree on which of two counts.
        (Some(there), _) if !matches!((there, &node), (Node::Directory, Node::Directory)) => {
            Err(bad(format!("it has the file `{name}` twice")))
        }
        _ => {
            nodes.insert(name, node);
            Ok(())
        }
    }
}

fn node(entry: &TarEntry, offset: u64, length: u64) -> Result<(String, Node), ArchiveError> {
    let text = |bytes: &[u8]| {
        let shown = || bytes.escape_ascii().to_string();
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| bad(format!("bad name `{}`", shown())))
    };
    let name = clean_name(&text(&entry.name)?)?;
    let node = match entry.kind {
        EntryKind::File if entry.sparse.is_some() => {
            return Err(bad(format!("its file `{name}` is sparse; such a tar cannot be read in place")));
        }
        EntryKind::File => {
            let size = entry.size;
            if offset.checked_add(size).is_none_or(|end| end > length) {
                return Err(bad(format!("it is truncated: its file `{name}` ends beyond its end")));
            }
            Node::File { offset, size }
        }
        EntryKind::Directory => Node::Directory,
        EntryKind::Symlink => Node::Link(link_target(&name, &text(&entry.link)?)?),
        EntryKind::HardLink => Node::Link(clean_name(&text(&entry.link)?)?),
        EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
            return Err(bad(format!(
                "its entry `{name}` is a device or a pipe: it is no archive of images (`rbuild import` takes the \
                 files of a system)"
            )));
        }
    };
    Ok((name, node))
}

/// Returns the name that a symbolic link leads to, from the directory it is in.
fn link_target(name: &str, target: &str) -> Result<String, ArchiveError> {
    let out = || bad(format!("its link `{name}` leads out of it, to `{}`", target.escape_debug()));
    if target.starts_with('/') || target.contains('\0') {
        return Err(out());
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or_else(out)?),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

impl Files for TarFiles {
    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, ArchiveError> {
        let mut at = name;
        for _ in 0..=MOST_LINKS {
            match self.nodes.get(at) {
                None if at == name => return Ok(None),
                None => return Err(bad(format!("its link `{name}` leads to `{at}`, which it has not"))),
                Some(Node::Directory) => return Err(bad(format!("its file `{name}` is a directory"))),
                Some(Node::Link(target)) => at = target,
                Some(Node::File { offset, size }) => {
                    let reader = Section { file: &self.file, offset: *offset, left: *size };
                    return Ok(Some(Opened { reader: Box::new(reader), size: *size }));
                }
            }
        }
        Err(bad(format!("its link `{name}` leads through too many links")))
    }
}

/// A part of a file, read without moving the file's own place.
struct Section<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..want], self.offset)?;
        if count == 0 && want > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive got shorter"));
        }
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Makes a tar of `(name, type, link or content)`.
    fn tar_of(entries: &[(&str, u8, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for &(name, kind, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::new(kind));
            header.set_mode(0o644);
            // The crate refuses such names, and so does not write them.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            let content = if kind == b'0' { text } else { "" };
            if kind != b'0' {
                header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
            }
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn index(bytes: &[u8]) -> Result<TarFiles, ArchiveError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        TarFiles::index(file)
    }

    #[test]
    fn files_are_found_through_links() {
        let files = index(&tar_of(&[
            ("./", b'5', ""),
            ("a/", b'5', ""),
            ("a/layer.tar", b'0', "content"),
            ("b/layer.tar", b'2', "../a/layer.tar"),
            ("c/layer.tar", b'2', "../b/./layer.tar"),
            ("hard", b'1', "a/layer.tar"),
            ("./dot", b'0', "dot"),
            ("nowhere", b'2', "nothing"),
            ("loop", b'2', "pool"),
            ("pool", b'2', "loop"),
            ("empty", b'0', ""),
        ]))
        .unwrap();
        let files: &dyn Files = &files;
        for (name, expect) in [
            ("a/layer.tar", "content"),
            ("b/layer.tar", "content"),
            ("c/layer.tar", "content"),
            ("hard", "content"),
            ("dot", "dot"),
            ("empty", ""),
        ] {
            assert_eq!(files.small(name, 100).unwrap().unwrap(), expect.as_bytes(), "{name}");
        }
        assert!(files.small("no", 100).unwrap().is_none());
        for (name, expect) in
            [("a", "directory"), ("nowhere", "which it has not"), ("loop", "too many links")]
        {
            assert!(files.small(name, 100).unwrap_err().to_string().contains(expect), "{name}");
        }
    }

    #[test]
    fn what_two_programs_could_read_differently_is_refused() {
        let check = |entries: &[(&str, u8, &str)], expect: &str| {
            let error = index(&tar_of(entries)).unwrap_err();
            let text = crate::report::chain(&error);
            assert!(text.contains(expect), "{entries:?}: {text}");
        };
        check(&[("../a", b'0', "")], "outside");
        check(&[("a/../../b", b'0', "")], "outside");
        check(&[("/etc/passwd", b'0', "")], "outside");
        check(&[("l", b'2', "/etc/passwd")], "leads out");
        check(&[("a/l", b'2', "../../x")], "leads out");
        check(&[("l", b'1', "../x")], "outside");
        check(&[("a", b'0', "1"), ("./a", b'0', "2")], "twice");
        check(&[("a", b'0', "1"), ("a", b'2', "b")], "twice");
        check(&[("a", b'5', ""), ("a", b'0', "2")], "twice");
        for kind in *b"346" {
            check(&[("d", kind, "")], "device");
        }
        check(&[("x", b'M', "")], "not supported");
    }

    #[test]
    fn what_is_cut_is_refused() {
        let whole = tar_of(&[("a", b'0', "content"), ("b", b'0', "other")]);
        index(&whole).unwrap();
        for length in [0, 100, 512, 600, 1100, 1536, 2048] {
            assert!(index(&whole[..length]).is_err(), "{length}");
        }
        // A size that ends beyond the end, or nowhere.
        for size in [1u64 << 40, u64::MAX >> 1] {
            let mut header = tar::Header::new_gnu();
            header.set_path("a").unwrap();
            header.set_size(size);
            header.set_cksum();
            let bytes = [header.as_bytes().as_slice(), &[0; 2048]].concat();
            let error = index(&bytes).unwrap_err().to_string();
            assert!(error.contains("truncated"), "{size}: {error}");
        }
    }

    #[test]
    fn the_number_of_files_is_bounded() {
        let mut bytes = Vec::new();
        for number in 0..=MOST_ENTRIES {
            let mut header = tar::Header::new_ustar();
            header.set_path(number.to_string()).unwrap();
            header.set_size(0);
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
        }
        bytes.resize(bytes.len() + 1024, 0);
        assert!(index(&bytes).unwrap_err().to_string().contains("more than 100000 files"));
    }
}
