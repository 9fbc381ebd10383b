//! COPY, ADD and WORKDIR: writes selected files straight into an overlay upper directory.
//!
//! Nothing is mounted for writing. The merged view of the base is only read: it
//! says where links in the destination lead, and what the directories that are
//! needed in the upper look like (an upper directory without the opaque mark
//! merges with the one below it). `place` makes directories, `write` single files,
//! `unpack` archives, `mode` reads `--chmod`, `earlier` takes unchanged files from the layer
//! that the same COPY made before. What is finished is announced to who digests it
//! (`layer::Follower`), if somebody does. Not here: finding and hashing the files
//! (`context`), layers and digests (`layer`).
//!
//! Where docker's builders settle what a text leaves open, this follows BuildKit:
//! the destination's links are followed, its last one too; a destination directory
//! that exists keeps its metadata and one that is made gets 0755, while directories
//! inside the copied one take the source's; a directory never replaces anything
//! else, a link to a directory included, and nothing replaces a directory.

mod announce;
mod earlier;
mod mode;
mod place;
mod unpack;
mod write;

use std::collections::HashMap;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::context::ContextError;
use crate::context::Entry;
use crate::context::EntryKind;
use crate::context::SelectOptions;
use crate::context::Selected;
use crate::context::Selection;
use crate::context::Tree;
use crate::context::show;
use crate::layer::Follower;
use crate::layer::LayerError;
use crate::layer::inherit_root;
use crate::plan::graph::CopyOp;
use crate::store::CopiedFiles;
use crate::store::EarlierCopy;
use crate::sys::OverlayXattrs;
use crate::sys::RootDir;
use crate::sys::Stat;
use crate::sys::copy::Cloner;
use crate::sys::root_dir::Escape;
use crate::sys::root_dir::open_no_follow;
use crate::sys::users::Owner;
use crate::sys::users::UserError;
use crate::sys::users::lookup_owner;

use announce::keeps_base;
pub use mode::BadMode;
pub use mode::Chmod;
use place::Came;
use place::NewDirectory;
use place::Place;
use write::Origin;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// What a copy did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CopyDone {
    /// Whether anything was selected: when not, the layer is empty.
    pub written: bool,
    /// Entries that are no directories.
    pub files: u64,
    pub bytes: u64,
    /// Files whose owner the user namespace does not know; they are 0:0.
    pub left_out_owners: u64,
    /// Devices that may not be made here.
    pub left_out_devices: u64,
    /// Attributes that may not be set here.
    pub left_out_xattrs: u64,
}

/// Says why files could not be copied. Paths are those of the image unless said otherwise.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("bad `--chown`")]
    Chown(#[source] UserError),
    #[error("bad `--chmod`")]
    Chmod(#[source] BadMode),
    #[error("bad owner {uid}:{gid} for `{}`: the user namespace does not map it", show(.path))]
    Owner { path: PathBuf, uid: u32, gid: u32, source: io::Error },
    #[error("several files match, so the destination `{0}` must be a directory and end with `/`")]
    SeveralToOne(String),
    #[error("cannot copy a directory to `{}`: it is no directory", show(.0))]
    NotADirectory(PathBuf),
    #[error("cannot replace the directory `{}` with a file", show(.0))]
    IsADirectory(PathBuf),
    #[error("cannot copy `{}`: a name that starts with `.wh.` would delete files in an image", show(.0))]
    ReservedName(PathBuf),
    #[error("cannot copy `{}`: a character device 0:0 would delete files in an image", show(.0))]
    Whiteout(PathBuf),
    #[error("`{}` changed while it was copied: exclude it in .dockerignore, or build again", show(.0))]
    Changed(PathBuf),
    /// The path is the source's.
    #[error("cannot read `{}`", show(.path))]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot {action} `{}`", show(.path))]
    Write { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot find the destination `{path}`")]
    Destination { path: String, source: io::Error },
    #[error("cannot start the layer")]
    Start(#[source] LayerError),
    /// The path is the source's.
    #[error("cannot unpack `{}`", show(.path))]
    Unpack { path: PathBuf, source: LayerError },
    #[error(transparent)]
    Context(#[from] ContextError),
}

/// Returns how `context::select` is to read the sources of an operation.
pub fn select_options(op: &CopyOp) -> SelectOptions {
    SelectOptions { exclude: op.exclude.clone(), parents: op.parents }
}

/// What was selected of one tree.
pub struct Part<'a> {
    pub selection: &'a Selection,
    pub tree: &'a Tree,
    /// Whether archives among the files are unpacked.
    pub unpack: bool,
}

/// What makes a copy faster, and what it leaves for the next one.
#[derive(Debug, Default)]
pub struct Aids {
    /// The layer that the same COPY made before: files that are the same there are linked from it.
    pub earlier: Option<EarlierCopy>,
    /// Who digests the layer meanwhile.
    pub follower: Option<Follower>,
    /// The files that were written or linked, for the next COPY like this one.
    pub files: CopiedFiles,
}

/// Writes selections, one after the other, into `upper`, a new and empty layer above `base`.
///
/// `base` is the merged view below (an empty directory for `scratch`); with
/// `--link` it is asked only for the names of `--chown`. Files that changed since
/// they were selected are an error. On an error the upper is to be thrown away. With
/// SOURCE_DATE_EPOCH nothing that is copied becomes newer than that.
pub fn copy(
    parts: &[Part<'_>],
    op: &CopyOp,
    base: &RootDir,
    upper: &RootDir,
    xattrs: OverlayXattrs,
    aids: &mut Aids,
) -> Result<CopyDone, CopyError> {
    let chown = match &op.chown {
        Some(spec) => Some(lookup_owner(base, spec).map_err(CopyError::Chown)?),
        None => None,
    };
    let chmod = match &op.chmod {
        Some(spec) => Some(Chmod::parse(spec).map_err(CopyError::Chmod)?),
        None => None,
    };
    let new_directory = NewDirectory {
        mode: chmod.as_ref().map_or(0o755, |chmod| chmod.apply(0o755, true)),
        owner: chown.unwrap_or(Owner { uid: 0, gid: 0 }),
    };
    let mut copier = Copier {
        tree: None,
        base: (!op.link).then_some(base),
        upper,
        xattrs,
        chown,
        chmod,
        keep_owners: false,
        began: (0, 0),
        new_directory,
        epoch: op.source_date_epoch,
        several: several_names(parts),
        links: HashMap::new(),
        restore: Vec::new(),
        cloner: Cloner::default(),
        aids,
        done: CopyDone { written: false, ..CopyDone::default() },
    };
    inherit_root(copier.base, upper, xattrs).map_err(CopyError::Start)?;
    let count = parts.iter().map(|part| part.selection.sources.len()).sum();
    if count == 0 {
        return Ok(copier.done);
    }
    copier.done.written = true;
    let destination = copier.destination(&op.destination)?;
    for part in parts {
        copier.tree = Some(part.tree);
        copier.keep_owners = part.selection.owners;
        copier.began = part.selection.began;
        for source in &part.selection.sources {
            match source {
                Selected::Directory { root, entries } => copier.directory(root, entries, &destination)?,
                Selected::File { origin, entry } => {
                    if part.unpack && copier.unpack(origin, entry, &destination)? {
                        continue;
                    }
                    let (mut place, name) = copier.landing(&destination, entry.path.as_os_str(), count)?;
                    copier.file(origin, entry, &mut place, &name)?;
                }
                Selected::Inline { name, data } => {
                    let (mut place, name) = copier.landing(&destination, OsStr::new(name), count)?;
                    copier.inline(data.as_bytes(), &mut place, &name)?;
                }
            }
        }
    }
    copier.finish()
}

/// Finds the files that are selected by more than one of their names.
fn several_names(parts: &[Part<'_>]) -> HashSet<(u64, u64)> {
    let (mut seen, mut several) = (HashSet::new(), HashSet::new());
    let mut look = |entry: &Entry| {
        let key = (entry.stat.dev, entry.stat.ino);
        if entry.stat.nlink > 1 && entry.stat.is_file() && !seen.insert(key) {
            several.insert(key);
        }
    };
    for source in parts.iter().flat_map(|part| &part.selection.sources) {
        match source {
            Selected::Directory { entries, .. } => entries.iter().for_each(&mut look),
            Selected::File { entry, .. } => look(entry),
            Selected::Inline { .. } => {}
        }
    }
    several
}

/// Makes the directory of a WORKDIR and its missing parents, 0755 and owned by the user.
///
/// `path` is absolute; links in it are followed inside the root. Returns whether
/// anything was made; the upper is a valid layer in both cases.
pub fn make_directory(
    base: &RootDir,
    upper: &RootDir,
    path: &str,
    owner: Owner,
    xattrs: OverlayXattrs,
) -> Result<bool, CopyError> {
    let mut copier = Copier {
        tree: None,
        base: Some(base),
        upper,
        xattrs,
        chown: Some(owner),
        chmod: None,
        keep_owners: false,
        began: (0, 0),
        new_directory: NewDirectory { mode: 0o755, owner },
        epoch: None,
        several: HashSet::new(),
        links: HashMap::new(),
        restore: Vec::new(),
        cloner: Cloner::default(),
        aids: &mut Aids::default(),
        done: CopyDone::default(),
    };
    inherit_root(copier.base, upper, xattrs).map_err(CopyError::Start)?;
    let destination = copier.destination(path)?;
    if copier.is_directory(&destination.path)? {
        return Ok(false);
    }
    copier.place(&destination.path)?;
    copier.finish()?;
    Ok(true)
}

/// What one COPY knows and remembers.
struct Copier<'a> {
    /// Where files come from; a WORKDIR has none.
    tree: Option<&'a Tree>,
    /// The merged view below; `None` with `--link`.
    base: Option<&'a RootDir>,
    upper: &'a RootDir,
    xattrs: OverlayXattrs,
    chown: Option<Owner>,
    chmod: Option<Chmod>,
    keep_owners: bool,
    /// When the files were about to be hashed that are copied now.
    began: (i64, u32),
    new_directory: NewDirectory,
    /// No time is later, in seconds since 1970.
    epoch: Option<i64>,
    /// Files that several selected names stand for: device and inode of the source.
    several: HashSet<(u64, u64)>,
    /// What they became: device and inode of the source, path in the upper.
    links: HashMap<(u64, u64), PathBuf>,
    /// Directories whose time is set at the end, after all that is written into them: those of the
    /// base that are in the upper only for what is below them, and those that were made.
    restore: Vec<(PathBuf, (i64, u32))>,
    cloner: Cloner,
    aids: &'a mut Aids,
    done: CopyDone,
}

/// Where a COPY goes, links followed.
struct Destination {
    /// As written, for messages.
    written: String,
    /// Relative to the root.
    path: PathBuf,
    /// Whether it was written as a directory.
    slash: bool,
}

impl Copier<'_> {
    fn destination(&self, written: &str) -> Result<Destination, CopyError> {
        let slash = written.ends_with('/') || written.ends_with("/.") || written.ends_with("/..");
        let path = match self.base {
            Some(base) => base
                .resolve(Path::new(written), Escape::Clamp)
                .map_err(|source| CopyError::Destination { path: written.to_owned(), source })?,
            None => lexical(Path::new(written)),
        };
        Ok(Destination { written: written.to_owned(), path, slash })
    }

    /// Tells whether a path (without links) is a directory in the upper or below.
    fn is_directory(&self, path: &Path) -> Result<bool, CopyError> {
        let fail = |source| CopyError::Read { path: path.to_owned(), source };
        if let Some(stat) = self.upper.try_stat(path, false).map_err(fail)? {
            return Ok(stat.is_dir());
        }
        let below = match self.base {
            Some(base) => base.try_stat(path, false).map_err(fail)?,
            None => None,
        };
        Ok(below.is_some_and(|stat| stat.is_dir()))
    }

    /// Finds the directory and the name a file of `name` gets; makes the directory.
    fn landing(
        &mut self,
        destination: &Destination,
        name: &OsStr,
        sources: usize,
    ) -> Result<(Place, std::ffi::OsString), CopyError> {
        if destination.slash || self.is_directory(&destination.path)? {
            return Ok((self.place(&destination.path)?, name.to_owned()));
        }
        if sources > 1 {
            return Err(CopyError::SeveralToOne(destination.written.clone()));
        }
        let (Some(parent), Some(own)) = (destination.path.parent(), destination.path.file_name()) else {
            return Ok((self.place(Path::new(""))?, name.to_owned()));
        };
        Ok((self.place(parent)?, own.to_owned()))
    }

    fn tree(&self) -> &RootDir {
        self.tree.expect("only a WORKDIR has no tree, and it copies no files").root()
    }

    /// Copies the contents of a directory into the destination.
    fn directory(
        &mut self,
        root: &Path,
        entries: &[Entry],
        destination: &Destination,
    ) -> Result<(), CopyError> {
        let read = |path: &Path| {
            let path = root.join(path);
            move |source| CopyError::Read { path, source }
        };
        let source = self.tree().open_at(root, DIRECTORY, Mode::empty()).map_err(read(Path::new("")))?;
        let place = self.place(&destination.path)?;
        let mut open = vec![Open { source, place, entry: None }];
        for entry in entries {
            // An entry's parent is one of the directories that are open: what is in a
            // directory follows it without a gap.
            let slashes = entry.path.as_os_str().as_bytes().iter().filter(|&&b| b == b'/').count();
            while open.len() > slashes + 1 {
                self.close(open.pop().expect("more than one is open"))?;
            }
            let Some(top) = open.last_mut() else { break };
            let name = last_name(&entry.path);
            if entry.kind == EntryKind::Directory {
                let source =
                    open_no_follow(&top.source, name, DIRECTORY, Mode::empty()).map_err(read(&entry.path))?;
                let (place, came) = self.step(&top.place, name)?;
                if came != Came::Existed {
                    self.announce_directory(&top.place, name, &place, Some(entry));
                }
                open.push(Open { source, place, entry: Some(entry) });
            } else {
                let origin = Origin { dir: &top.source, name, root, path: &entry.path };
                self.entry(&origin, entry, &mut top.place, name)?;
            }
        }
        while let Some(last) = open.pop() {
            self.close(last)?;
        }
        Ok(())
    }

    /// Gives a copied directory its metadata, once nothing more is written into it.
    fn close(&mut self, directory: Open<'_>) -> Result<(), CopyError> {
        let Some(entry) = directory.entry else { return Ok(()) };
        let path = &directory.place.path;
        if keeps_base(entry, &directory.place) {
            // As in BuildKit: a directory that only leads to what is copied gets the source's
            // mode, and keeps all else that it has in the base, its owner above all.
            return rustix::fs::fchmod(&directory.place.upper, Mode::from_raw_mode(entry.stat.mode)).map_err(
                |e| CopyError::Write { action: "change the mode of", path: path.clone(), source: e.into() },
            );
        }
        self.restore.retain(|(restored, _)| restored != path);
        self.metadata(&directory.place.upper, || path.clone(), &entry.stat, &entry.xattrs, None).map(drop)
    }

    /// Returns the time that a copy of something gets.
    fn time_of(&self, stat: &Stat) -> (i64, u32) {
        self.clamped((stat.mtime_seconds, stat.mtime_nanos))
    }

    fn clamped(&self, time: (i64, u32)) -> (i64, u32) {
        self.epoch.map_or(time, |epoch| time.min((epoch, 0)))
    }

    /// Copies one file that a source names.
    fn file(
        &mut self,
        origin: &Path,
        entry: &Entry,
        place: &mut Place,
        name: &OsStr,
    ) -> Result<(), CopyError> {
        let (parent, own) = self
            .tree()
            .parent_and_name(origin)
            .map_err(|source| CopyError::Read { path: origin.to_owned(), source })?;
        let origin = Origin { dir: &parent, name: &own, root: origin, path: Path::new("") };
        self.entry(&origin, entry, place, name)
    }

    /// Gives the directories that only stand in for those below their times back.
    fn finish(self) -> Result<CopyDone, CopyError> {
        for (path, time) in self.restore.iter().rev() {
            let (seconds, nanos) = self.clamped(*time);
            let set = match path.as_os_str().is_empty() {
                true => crate::sys::copy::set_times(self.upper.fd(), seconds, nanos),
                false => crate::sys::copy::set_times_at(self.upper.fd(), path.as_path(), seconds, nanos),
            };
            set.map_err(|source| CopyError::Write { action: "set the time of", path: path.clone(), source })?;
        }
        Ok(self.done)
    }
}

/// Returns what follows the last slash.
fn last_name(path: &Path) -> &OsStr {
    let bytes = path.as_os_str().as_bytes();
    let start = bytes.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
    OsStr::from_bytes(&bytes[start..])
}

/// A directory whose entries are being copied.
struct Open<'e> {
    source: OwnedFd,
    place: Place,
    /// `None` for the destination itself, which keeps its metadata.
    entry: Option<&'e Entry>,
}

/// Cleans a path without looking at any file: what `--link` does with a destination.
fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
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

/// Refuses names that mean "deleted" in a layer's tar (OCI image-spec, layer.md, "Whiteouts").
fn check_name(place: &Path, name: &OsStr) -> Result<(), CopyError> {
    match name.as_bytes().starts_with(b".wh.") {
        true => Err(CopyError::ReservedName(place.join(name))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
