//! ADD of a local archive: unpacked beside, then moved into place.
//!
//! The archive is first unpacked into a directory of its own inside the upper, by
//! the reader that nothing in an archive can lead out of (`layer::unpack`); then
//! its files are renamed into the destination, and merged with the directories that
//! exist there. A link of the image in the way of a directory is followed inside the
//! root: an archive with `lib/` must not replace the `lib -> usr/lib` of its base.
//! A directory that the archive only implies changes nothing of one that exists.
//! As with docker an archive always goes into a directory, `--chmod` does not apply
//! to it, and a compressed file that holds no tar is copied as it is.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::context::BLOCK;
use crate::context::Entry;
use crate::context::EntryKind;
use crate::context::Kind;
use crate::context::same_content;
use crate::context::sniff;
use crate::layer::EntryKind as TarKind;
use crate::layer::LayerError;
use crate::layer::Limits;
use crate::layer::TarReader;
use crate::layer::UnpackOptions;
use crate::layer::decompress;
use crate::layer::is_tar_header;
use crate::layer::unpack;
use crate::sys::RootDir;
use crate::sys::copy::set_times;
use crate::sys::dir::read_dir;
use crate::sys::dir::remove_tree;
use crate::sys::root_dir::Escape;
use crate::sys::root_dir::fstat;
use crate::sys::root_dir::open_no_follow;
use crate::sys::root_dir::stat_at;
use crate::sys::users::Owner;
use crate::sys::xattr;

use super::Copier;
use super::CopyError;
use super::DIRECTORY;
use super::Destination;
use super::check_name;
use super::place::Place;

/// The name of the directory to unpack into, in the upper; gone when the copy is done.
const SCRATCH: &str = ".rbuild-unpack";

/// An archive being merged into the destination.
struct Archive<'a> {
    file: &'a File,
    origin: &'a Path,
    /// Directories that the archive itself describes; read when one meets a directory that exists.
    explicit: Option<HashSet<PathBuf>>,
}

impl Copier<'_> {
    /// Unpacks a source that is an archive; returns false for any other, which is to be copied.
    pub(super) fn unpack(
        &mut self,
        origin: &Path,
        entry: &Entry,
        destination: &Destination,
    ) -> Result<bool, CopyError> {
        if !entry.stat.is_file() {
            return Ok(false);
        }
        let read = |source| CopyError::Read { path: origin.to_owned(), source };
        let failed = |source| CopyError::Unpack { path: origin.to_owned(), source };
        let fd =
            self.tree().open_at(origin, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty()).map_err(read)?;
        if !same_content(&fstat(&fd).map_err(read)?, &entry.stat) {
            return Err(CopyError::Changed(origin.to_owned()));
        }
        let mut file = File::from(fd);
        match sniff(&head(&mut file).map_err(read)?) {
            Kind::Tar => {}
            Kind::Compressed => {
                file.rewind().map_err(read)?;
                // What cannot be decompressed is no archive either.
                let inside = decompress(&file).ok().and_then(|(_, reader)| head(reader).ok());
                if !inside.is_some_and(|head| is_tar_header(&head)) {
                    return Ok(false);
                }
            }
            Kind::Other => return Ok(false),
        }
        // What it replaces and changes is not told.
        self.aids.files.forget();
        if let Some(follower) = &mut self.aids.follower {
            follower.give_up();
        }
        // As in BuildKit, `--chmod` is not for what an archive is unpacked into, either.
        let mode = std::mem::replace(&mut self.new_directory.mode, 0o755);
        let into = self.place(&destination.path);
        self.new_directory.mode = mode;
        let into = into?;
        let write = |action, path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| CopyError::Write { action, path, source }
        };
        let scratch = Path::new(SCRATCH);
        self.upper.create_dir(scratch, 0o700).map_err(write("make the directory", scratch))?;
        let root = self.upper.open_dir(scratch).map_err(write("open", scratch))?;
        file.rewind().map_err(read)?;
        let (_, content) = decompress(&file).map_err(failed)?;
        let options = UnpackOptions { owner: self.chown, ..UnpackOptions::files(self.xattrs) };
        let unpacked = unpack(content, &root, &options).map_err(failed)?;
        if !same_content(&fstat(&file).map_err(read)?, &entry.stat) {
            return Err(CopyError::Changed(origin.to_owned()));
        }
        if let EntryKind::File(digest) = &entry.kind {
            let (dir, name) = self.tree().parent_and_name(origin).map_err(read)?;
            let now = fstat(&file).map_err(read)?;
            self.check_unseen(&now, entry, digest, (dir.as_fd(), &name), || origin.to_owned())?;
        }
        self.done.files += unpacked.entries;
        self.done.bytes += unpacked.bytes;
        self.done.left_out_owners += unpacked.left_out.owners;
        self.done.left_out_devices += unpacked.left_out.devices;
        self.done.left_out_xattrs += unpacked.left_out.xattrs;
        let mut archive = Archive { file: &file, origin, explicit: None };
        let top = open(&root).map_err(write("open", scratch))?;
        self.merge(&top, &into, Path::new(""), &mut archive)?;
        remove_tree(self.upper.fd(), OsStr::new(SCRATCH)).map_err(write("remove", scratch))?;
        Ok(true)
    }

    /// Moves what is in a directory of the archive into a directory of the destination.
    fn merge(
        &mut self,
        from: &OwnedFd,
        into: &Place,
        inside: &Path,
        archive: &mut Archive<'_>,
    ) -> Result<(), CopyError> {
        let names = read_dir(from).map_err(|source| write_error("read", &into.path, source))?;
        for (name, kind) in names {
            let path = into.path.join(&name);
            let inside = inside.join(&name);
            check_name(&into.path, &name)?;
            let there = self.there(into, &name)?;
            match (kind, there) {
                (FileType::Directory, None) => self.take(from, into, &name)?,
                (FileType::Directory, Some(FileType::Directory)) => {
                    let (below, _) = self.step(into, &name)?;
                    self.merge_directory(from, &name, below, &inside, archive)?;
                }
                (FileType::Directory, Some(FileType::Symlink)) => {
                    let Some(real) = self.link_to_directory(&path)? else {
                        return Err(CopyError::NotADirectory(path));
                    };
                    let below = self.place(&real)?;
                    self.merge_directory(from, &name, below, &inside, archive)?;
                }
                (FileType::Directory, Some(_)) => return Err(CopyError::NotADirectory(path)),
                (_, Some(FileType::Directory)) => return Err(CopyError::IsADirectory(path)),
                (_, Some(_) | None) => {
                    self.links.retain(|_, first| *first != path);
                    self.take(from, into, &name)?;
                }
            }
        }
        Ok(())
    }

    fn merge_directory(
        &mut self,
        from: &OwnedFd,
        name: &OsStr,
        below: Place,
        inside: &Path,
        archive: &mut Archive<'_>,
    ) -> Result<(), CopyError> {
        let fail = |action| {
            let path = below.path.clone();
            move |source: io::Error| CopyError::Write { action, path, source }
        };
        let source = open_no_follow(from, name, DIRECTORY, Mode::empty()).map_err(fail("open"))?;
        let stat = fstat(&source).map_err(fail("read"))?;
        let before = fstat(&below.upper).map_err(fail("read"))?;
        self.merge(&source, &below, inside, archive)?;
        if !archive.describes(inside)? {
            // What came into it changed its time, which an earlier source gave it.
            return set_times(&below.upper, before.mtime_seconds, before.mtime_nanos)
                .map_err(fail("set the time of"));
        }
        let bits =
            self.own(&below.upper, || below.path.clone(), Owner { uid: stat.uid, gid: stat.gid }, false)?;
        xattr::copy_xattrs(xattr::of(&source), xattr::of(&below.upper))
            .map_err(fail("set an attribute of"))?;
        rustix::fs::fchmod(&below.upper, Mode::from_raw_mode(stat.mode & bits))
            .map_err(|e| fail("change the mode of")(e.into()))?;
        self.restore.retain(|(restored, _)| *restored != below.path);
        set_times(&below.upper, stat.mtime_seconds, stat.mtime_nanos).map_err(fail("set the time of"))
    }

    /// Tells what is at a name of the merged tree.
    fn there(&self, place: &Place, name: &OsStr) -> Result<Option<FileType>, CopyError> {
        for dir in [Some(&place.upper), place.base.as_ref()].into_iter().flatten() {
            match stat_at(dir, name) {
                Ok(stat) => return Ok(Some(stat.kind)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(CopyError::Read { path: place.path.join(name), source }),
            }
        }
        Ok(None)
    }

    /// Returns where a link of the base leads, if that is a directory of the base.
    fn link_to_directory(&self, path: &Path) -> Result<Option<PathBuf>, CopyError> {
        let Some(base) = self.base else { return Ok(None) };
        let fail = |source| CopyError::Read { path: path.to_owned(), source };
        let real = base.resolve(path, Escape::Clamp).map_err(fail)?;
        let stat = base.try_stat(&real, false).map_err(fail)?;
        Ok(stat.is_some_and(|stat| stat.is_dir()).then_some(real))
    }

    /// Renames a file, or a directory with all that is in it, into the destination.
    fn take(&mut self, from: &OwnedFd, into: &Place, name: &OsStr) -> Result<(), CopyError> {
        rustix::fs::renameat(from, name, into.upper.as_fd(), name)
            .map_err(|e| write_error("move into place", &into.path.join(name), e.into()))
    }
}

impl Archive<'_> {
    /// Tells whether the archive has an entry for a directory, rather than only for files in it.
    fn describes(&mut self, path: &Path) -> Result<bool, CopyError> {
        if self.explicit.is_none() {
            let failed = |source| CopyError::Unpack { path: self.origin.to_owned(), source };
            let mut file = self.file;
            file.rewind().map_err(|source| CopyError::Read { path: self.origin.to_owned(), source })?;
            self.explicit = Some(directories(file).map_err(failed)?);
        }
        Ok(self.explicit.as_ref().is_some_and(|explicit| explicit.contains(path)))
    }
}

/// Lists the directories an archive has entries for.
fn directories(file: &File) -> Result<HashSet<PathBuf>, LayerError> {
    let (_, content) = decompress(file)?;
    let mut tar = TarReader::new(content, Limits::default());
    let mut out = HashSet::new();
    while let Some(entry) = tar.next_entry()? {
        if entry.kind == TarKind::Directory {
            out.insert(clean(&entry.name));
        }
    }
    Ok(out)
}

fn clean(name: &[u8]) -> PathBuf {
    let mut out = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    out
}

fn open(root: &RootDir) -> io::Result<OwnedFd> {
    root.open_at(Path::new("."), DIRECTORY, Mode::empty())
}

/// Reads the first block, or less where there is less.
fn head(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(BLOCK);
    reader.take(BLOCK as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn write_error(action: &'static str, path: &Path, source: io::Error) -> CopyError {
    CopyError::Write { action, path: path.to_owned(), source }
}
