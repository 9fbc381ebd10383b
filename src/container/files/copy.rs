//! `cp`: files between a container and the host, by docker's rules (`place`).
//!
//! What is copied goes through a tar in memory: one side writes it, never following a link, the other unpacks it
//! beneath one open directory and nowhere else (`layer::unpack`), so that it does not matter what a container
//! does with its names meanwhile: a copy can fail, but neither reads nor writes anything elsewhere. What comes
//! out of a container brings no rights along (devices, set-user-ID) unless the owners are to be kept.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufWriter, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::ContainerFiles;
use super::place::{CopyRule, place, split};
use crate::layer::{
    Existing, LayerError, LeftOut, Subtree, SubtreeOptions, UnpackOptions, decompress, unpack, write_subtree,
};
use crate::sys::root_dir::stat_at;
use crate::sys::users::Owner;
use crate::sys::{OverlayXattrs, RootDir, Stat};

/// How many links of the host's destination are followed, as docker does.
const MOST_LINKS: usize = 10;

/// Says why nothing, or not all, was copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("No such container:path: {container}:{path}")]
    NoPath { container: String, path: String },
    #[error("cannot open {container}:{path}")]
    InContainer { container: String, path: String, source: io::Error },
    #[error("cannot open `{}`", path.display())]
    OnHost { path: PathBuf, source: io::Error },
    #[error("invalid output path: directory \"{}\" does not exist", .0.display())]
    NoDirectory(PathBuf),
    #[error("destination \"{container}:{path}\" must be a directory")]
    MustBeDirectory { container: String, path: String },
    #[error("destination \"{container}:{path}\" must be a directory or a regular file")]
    Special { container: String, path: String },
    #[error(transparent)]
    Rule(#[from] CopyRule),
    #[error("{0}")]
    ReadOnly(&'static str),
    #[error("cannot read what is copied")]
    Read(#[source] LayerError),
    #[error("cannot write the copy")]
    Write(#[source] LayerError),
    #[error("cannot make a pipe")]
    Pipe(#[source] io::Error),
}

/// How to copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// `-a`: owners stay as they are; else what comes in is root's, what goes out the caller's.
    pub keep_owners: bool,
    /// `-L`: of a link as the source, what it leads to is copied.
    pub follow: bool,
}

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    pub files: Subtree,
    pub left_out: LeftOut,
}

/// The container's end of a copy.
pub struct End<'a> {
    pub files: &'a ContainerFiles,
    /// What the user calls the container.
    pub container: &'a str,
    pub path: &'a OsStr,
}

/// What is copied: a name in an open directory.
struct Source {
    dir: OwnedFd,
    name: OsString,
    stat: Stat,
    empty: Vec<Vec<u8>>,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

impl End<'_> {
    fn shown(&self) -> (String, String) {
        (self.container.to_owned(), self.path.to_string_lossy().into_owned())
    }

    /// Makes an error of one that met a path in the container.
    fn failed(&self, source: io::Error) -> CopyError {
        let (container, path) = self.shown();
        match source.kind() {
            io::ErrorKind::NotFound => CopyError::NoPath { container, path },
            _ => CopyError::InContainer { container, path, source },
        }
    }

    fn source(&self, follow: bool) -> Result<Source, CopyError> {
        let failed = |error| self.failed(error);
        let (above, name) = split(self.path);
        let whole = Path::new(&above).join(&name);
        let is_directory = name == ".";
        let mut located = self
            .files
            .locate(if is_directory { Path::new(&above) } else { &whole }, is_directory)
            .map_err(failed)?;
        let link = || located.root.stat(&located.path, false).is_ok_and(|stat| stat.is_symlink());
        if follow && !is_directory && link() {
            located = self.files.locate(&whole, true).map_err(failed)?;
        }
        let empty = self.files.hidden_below(&located.path).into_iter();
        let empty = empty.map(|path| path.into_os_string().into_vec()).collect();
        let path = &located.path;
        let (dir, name) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) if !is_directory => {
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                (located.root.open_at(parent, flags, Mode::empty()), name.to_owned())
            }
            _ => (located.root.open_at(path, DIRECTORY, Mode::empty()), OsString::from(".")),
        };
        let dir = dir.map_err(failed)?;
        let stat = stat_at(&dir, name.as_os_str()).map_err(failed)?;
        Ok(Source { dir, name, stat, empty })
    }
}

/// Opens a source on the host.
fn host_source(path: &OsStr, follow: bool) -> Result<Source, CopyError> {
    let failed = |source| CopyError::OnHost { path: PathBuf::from(path), source };
    let mut real = path.to_owned();
    if follow && split(path).1 != "." && std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink()) {
        real = std::fs::canonicalize(path).map_err(failed)?.into_os_string();
    }
    let (above, name) = split(&real);
    let flags = if name == "." { DIRECTORY } else { OFlags::PATH | OFlags::DIRECTORY };
    let dir =
        rustix::fs::open(&above, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|e| failed(e.into()))?;
    let stat = stat_at(&dir, name.as_os_str()).map_err(failed)?;
    Ok(Source { dir, name, stat, empty: Vec::new() })
}

/// Copies a file or directory of a container to the host.
pub fn copy_out(end: &End<'_>, destination: &OsStr, options: CopyOptions) -> Result<Copied, CopyError> {
    let source = end.source(options.follow)?;
    let (destination, there) = host_destination(destination)?;
    let target = place(end.path, source.stat.is_dir(), &destination, there)?;
    let on_host = |source| CopyError::OnHost { path: PathBuf::from(&target.directory), source };
    let into = RootDir::open(Path::new(&target.directory)).map_err(on_host)?;
    let existing = Existing::DirectoriesKept;
    pass(&source, &target.name, &into, options, existing)
}

/// Copies a file or directory of the host into a container.
pub fn copy_in(source: &OsStr, end: &End<'_>, options: CopyOptions) -> Result<Copied, CopyError> {
    let from = host_source(source, options.follow)?;
    let located = end.files.locate(Path::new(end.path), true).map_err(|error| end.failed(error))?;
    let there = located.root.try_stat(&located.path, true).map_err(|error| end.failed(error))?;
    if there.is_some_and(|stat| !stat.is_dir() && !stat.is_file()) {
        let (container, path) = end.shown();
        return Err(CopyError::Special { container, path });
    }
    // As it is inside the root that it is in, and asserting what the user asserts.
    let mut inside = OsString::from("/");
    inside.push(&located.path);
    if split(end.path).1 == "." {
        if there.is_some_and(|stat| !stat.is_dir()) {
            return Err(end.failed(io::ErrorKind::NotADirectory.into()));
        }
        inside.push("/");
    }
    let target = place(source, from.stat.is_dir(), &inside, there.map(|stat| stat.is_dir()))?;
    let into = located.root.open_dir(Path::new(&target.directory)).map_err(|error| end.failed(error))?;
    if let Some(why) = located.read_only {
        return Err(CopyError::ReadOnly(why));
    }
    pass(&from, &target.name, &into, options, Existing::SameKind)
}

/// Writes a file or directory of a container as a tar.
pub fn tar_out(end: &End<'_>, follow: bool, out: &mut impl Write) -> Result<Copied, CopyError> {
    let source = end.source(follow)?;
    // The name that the user gave, also where the link of that name was followed.
    let name = match place(end.path, source.stat.is_dir(), OsStr::new("."), Some(true)) {
        Ok(target) => target.name,
        Err(_) => source.name.clone(),
    };
    let options = SubtreeOptions { harmless: false, empty: source.empty.clone() };
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let files = write_subtree(&source.dir, &source.name, name.as_bytes(), &options, &mut out)
        .and_then(|files| out.flush().map(|()| files).map_err(|source| LayerError::Write { source }))
        .map_err(CopyError::Read)?;
    Ok(Copied { files, left_out: LeftOut::default() })
}

/// Unpacks a tar, also a compressed one, into a directory of a container; owners are those of the tar.
pub fn tar_in(reader: impl Read, end: &End<'_>) -> Result<Copied, CopyError> {
    let located = end.files.locate(Path::new(end.path), true).map_err(|error| end.failed(error))?;
    let there = located.root.try_stat(&located.path, true).map_err(|error| end.failed(error))?;
    match there {
        None => return Err(end.failed(io::ErrorKind::NotFound.into())),
        Some(stat) if !stat.is_dir() => {
            let (container, path) = end.shown();
            return Err(CopyError::MustBeDirectory { container, path });
        }
        Some(_) => {}
    }
    if let Some(why) = located.read_only {
        return Err(CopyError::ReadOnly(why));
    }
    let into = located.root.open_dir(&located.path).map_err(|error| end.failed(error))?;
    // Bytes, not a program: nothing outside of this process ever decompresses.
    let (_, plain) = decompress(reader).map_err(CopyError::Read)?;
    let options =
        UnpackOptions { existing: Existing::SameKind, ..UnpackOptions::files(OverlayXattrs::Trusted) };
    let done = unpack(plain, &into, &options).map_err(CopyError::Write)?;
    let files = Subtree { bytes: done.bytes, devices: 0 };
    Ok(Copied { files, left_out: done.left_out })
}

/// Writes the tar on a thread, and unpacks it here.
fn pass(
    source: &Source,
    name: &OsStr,
    into: &RootDir,
    options: CopyOptions,
    existing: Existing,
) -> Result<Copied, CopyError> {
    let goes_out = existing == Existing::DirectoriesKept;
    let of_tar = SubtreeOptions { harmless: goes_out && !options.keep_owners, empty: source.empty.clone() };
    let root = Owner { uid: 0, gid: 0 };
    // The caller is root where we are: of this machine, or of the user namespace.
    let owner = (!options.keep_owners).then_some(root);
    let of_files = UnpackOptions { existing, owner, ..UnpackOptions::files(OverlayXattrs::Trusted) };
    let (reader, writer) = io::pipe().map_err(CopyError::Pipe)?;
    std::thread::scope(|scope| {
        let written = scope.spawn(|| -> Result<Subtree, LayerError> {
            let mut out = BufWriter::with_capacity(1 << 16, writer);
            let done = write_subtree(&source.dir, &source.name, name.as_bytes(), &of_tar, &mut out)?;
            let end = out.into_inner().map(|_: PipeWriter| ());
            end.map(|()| done).map_err(|error| LayerError::Write { source: error.into_error() })
        });
        let unpacked = unpack(reader, into, &of_files);
        match (written.join(), unpacked) {
            (Ok(Ok(files)), Ok(done)) => Ok(Copied { files, left_out: done.left_out }),
            // The cause is at the other end of the pipe.
            (Ok(Err(LayerError::Write { .. }) | Ok(_)), Err(error)) => Err(CopyError::Write(error)),
            (Ok(Err(error)), _) => Err(CopyError::Read(error)),
            (Err(_), _) => Err(CopyError::Pipe(io::Error::other("the thread that reads panicked"))),
        }
    })
}

/// Follows the links of a destination on the host; tells whether it is there, and a directory.
fn host_destination(path: &OsStr) -> Result<(OsString, Option<bool>), CopyError> {
    let failed = |source| CopyError::OnHost { path: PathBuf::from(path), source };
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                let to = std::fs::read_link(&path).map_err(failed)?;
                let above = split(&path).0;
                path = Path::new(&above).join(to).into_os_string();
            }
            Ok(found) => return Ok((path, Some(found.is_dir()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (above, _) = split(&path);
                let above = match split(&path).1 == "." {
                    // `new/`: what it is to be in.
                    true => split(&above).0,
                    false => above,
                };
                return match std::fs::metadata(&above) {
                    Ok(found) if found.is_dir() => Ok((path, None)),
                    _ => Err(CopyError::NoDirectory(PathBuf::from(above))),
                };
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(io::Error::from(rustix::io::Errno::LOOP)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    struct Place {
        outer: tempfile::TempDir,
        files: ContainerFiles,
    }

    impl Place {
        /// A container's root with some files, beside a directory of the host.
        fn new() -> Place {
            let outer = tempfile::tempdir().unwrap();
            let at = |name: &str| outer.path().join(name);
            fs::create_dir_all(at("root/d/sub")).unwrap();
            fs::create_dir_all(at("root/proc/1")).unwrap();
            fs::create_dir_all(at("host")).unwrap();
            fs::write(at("root/d/f"), "file").unwrap();
            fs::write(at("root/d/sub/g"), "deep").unwrap();
            fs::write(at("secret"), "of the host").unwrap();
            symlink("/d", at("root/link")).unwrap();
            symlink("../../../../../../secret", at("root/out")).unwrap();
            fs::set_permissions(at("root/d/f"), PermissionsExt::from_mode(0o4755)).unwrap();
            let root = RootDir::open(&at("root")).unwrap();
            Place { files: ContainerFiles::live(root, &[]), outer }
        }

        fn end<'a>(&'a self, path: &'a str) -> End<'a> {
            End { files: &self.files, container: "c", path: OsStr::new(path) }
        }

        fn host(&self, name: &str) -> String {
            self.outer.path().join(name).to_str().unwrap().to_owned()
        }

        fn out(&self, path: &str, to: &str) -> Result<Copied, String> {
            let to = self.host(to);
            let done = copy_out(&self.end(path), OsStr::new(&to), CopyOptions::default());
            done.map_err(|error| {
                crate::report::chain(&error).replace(self.outer.path().to_str().unwrap(), "")
            })
        }

        fn take(&self, from: &str, path: &str) -> Result<Copied, String> {
            let from = self.host(from);
            let done = copy_in(OsStr::new(&from), &self.end(path), CopyOptions::default());
            done.map_err(|error| {
                crate::report::chain(&error).replace(self.outer.path().to_str().unwrap(), "")
            })
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.host(name)).unwrap_or_default()
        }
    }

    #[test]
    fn out_of_a_container() {
        let place = Place::new();
        assert_eq!(place.out("/d/f", "host").unwrap().files.bytes, 4);
        assert_eq!(place.read("host/f"), "file");
        assert_eq!(fs::metadata(place.host("host/f")).unwrap().mode() & 0o7777, 0o755, "no set-user-ID");
        place.out("d/f", "host/new").unwrap();
        place.out("/d", "host").unwrap();
        place.out("/d/.", "host/copy").unwrap();
        assert_eq!(
            place.read("host/d/sub/g") + &place.read("host/copy/sub/g") + &place.read("host/new"),
            "deepdeepfile"
        );
        place.out("/link/.", "host/by-link").unwrap();
        assert_eq!(place.read("host/by-link/f"), "file");
        place.out("/link", "host").unwrap();
        assert_eq!(fs::read_link(place.host("host/link")).unwrap(), Path::new("/d"));
        let error = |path: &str, to: &str| place.out(path, to).unwrap_err();
        assert_eq!(error("/nope", "host"), "No such container:path: c:/nope");
        assert_eq!(error("/proc/1", "host"), "No such container:path: c:/proc/1");
        assert_eq!(error("/d", "host/f"), "cannot copy directory");
        assert_eq!(error("/d/f", "host/none/"), "no such directory");
        assert_eq!(error("/d/f", "none/x"), "invalid output path: directory \"/none\" does not exist");
        assert!(error("/d/f/", "host").contains("Not a directory"));
    }

    #[test]
    fn all_of_a_container_has_no_proc() {
        let place = Place::new();
        place.out("/", "host/all").unwrap();
        assert!(fs::metadata(place.host("host/all/proc")).unwrap().is_dir());
        assert!(!Path::new(&place.host("host/all/proc/1")).exists());
        assert_eq!(place.read("host/all/d/f"), "file");
    }

    #[test]
    fn into_a_container() {
        let place = Place::new();
        fs::write(place.host("host/a"), "1").unwrap();
        fs::create_dir_all(place.host("host/t/u")).unwrap();
        place.take("host/a", "/d").unwrap();
        place.take("host/a", "/link/b").unwrap();
        place.take("host/t", "/d").unwrap();
        place.take("host/t/.", "/new").unwrap();
        assert_eq!(place.read("root/d/a") + &place.read("root/d/b"), "11");
        assert!(
            Path::new(&place.host("root/d/t/u")).is_dir() && Path::new(&place.host("root/new/u")).is_dir()
        );
        let error = |from: &str, path: &str| place.take(from, path).unwrap_err();
        assert_eq!(error("host/t", "/d/f"), "cannot copy directory");
        assert_eq!(error("host/a", "/none/x"), "No such container:path: c:/none/x");
        assert_eq!(error("host/a", "/none/"), "no such directory");
        assert!(
            error("host/none", "/d").starts_with("cannot open `/host/none`"),
            "{}",
            error("host/none", "/d")
        );
        fs::create_dir(place.host("host/f")).unwrap();
        assert!(
            error("host/f", "/d").contains("cannot overwrite non-directory"),
            "{}",
            error("host/f", "/d")
        );
        fs::write(place.host("host/sub"), "").unwrap();
        assert!(
            error("host/sub", "/d").contains("cannot overwrite directory"),
            "{}",
            error("host/sub", "/d")
        );
        assert_eq!(place.read("root/d/sub/g"), "deep");
    }

    #[test]
    fn links_lead_nowhere_else() {
        let place = Place::new();
        fs::write(place.host("host/a"), "1").unwrap();
        // As in a chroot: there is no such file in the container.
        let follow = CopyOptions { follow: true, ..CopyOptions::default() };
        let to = place.host("host/x");
        assert!(copy_out(&place.end("/out"), OsStr::new(&to), follow).is_err());
        place.take("host/a", "/out").unwrap();
        assert_eq!(place.read("secret"), "of the host");
        assert_eq!(place.read("root/secret"), "1");
        // A link of the host in the way of a directory from the container is not gone through.
        fs::create_dir(place.host("host/d")).unwrap();
        fs::create_dir(place.host("elsewhere")).unwrap();
        symlink(place.host("elsewhere"), place.host("host/d/sub")).unwrap();
        assert!(place.out("/d", "host").is_err());
        assert_eq!(fs::read_dir(place.host("elsewhere")).unwrap().count(), 0);
    }

    #[test]
    fn tars_both_ways() {
        let place = Place::new();
        let mut bytes = Vec::new();
        tar_out(&place.end("/d"), false, &mut bytes).unwrap();
        fs::create_dir(place.host("root/into")).unwrap();
        assert_eq!(tar_in(&bytes[..], &place.end("/into")).unwrap().files.bytes, 8);
        assert_eq!(place.read("root/into/d/sub/g"), "deep");
        assert_eq!(fs::metadata(place.host("root/into/d/f")).unwrap().mode() & 0o7777, 0o4755);
        let error = tar_in(&bytes[..], &place.end("/d/f")).unwrap_err().to_string();
        assert_eq!(error, "destination \"c:/d/f\" must be a directory");
        assert!(tar_in(&bytes[..], &place.end("/none")).is_err());
    }
}
