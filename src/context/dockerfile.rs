//! The Dockerfile's bytes and the ignore rules that go with it.
//!
//! Inside a build context nothing is trusted: a Dockerfile or .dockerignore that
//! is a link resolves inside the context, so that `Dockerfile -> /etc/shadow`
//! shows nothing. A Dockerfile outside the context is a path that the user
//! typed, and is read as such. Not here: parsing (`dockerfile`).

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use super::error::ContextError;
use super::error::show;
use super::filter::Filter;
use super::tree::Tree;

/// The most bytes of a Dockerfile or ignore file.
const MAX_BYTES: usize = 16 << 20;

/// Where a Dockerfile is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerfilePlace {
    /// Relative to the context's root.
    Inside(PathBuf),
    /// A path of the host, as the user wrote it.
    Outside(PathBuf),
    /// It came by standard input.
    Input,
}

/// Finds out whether `file` (as given with `-f`, from the working directory) is inside a context directory.
///
/// Only directories are resolved: a Dockerfile that is itself a link is inside when the link is.
pub fn locate_dockerfile(context: &Path, file: &Path) -> DockerfilePlace {
    let parent = match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return DockerfilePlace::Outside(file.to_owned()),
    };
    let (Ok(context), Ok(parent), Some(name)) =
        (context.canonicalize(), parent.canonicalize(), file.file_name())
    else {
        return DockerfilePlace::Outside(file.to_owned());
    };
    match parent.strip_prefix(&context) {
        Ok(inside) => DockerfilePlace::Inside(inside.join(name)),
        Err(_) => DockerfilePlace::Outside(file.to_owned()),
    }
}

/// Reads a Dockerfile; what .dockerignore says of it does not matter.
///
/// [`DockerfilePlace::Input`] is the caller's to read.
pub fn read_dockerfile(tree: &Tree, place: &DockerfilePlace) -> Result<Vec<u8>, ContextError> {
    match place {
        DockerfilePlace::Inside(path) => {
            tree.root.read_small(path, MAX_BYTES).map_err(|source| match missing(&source) {
                true => {
                    let link = tree.root.stat(path, false).is_ok();
                    ContextError::DockerfileMissing { path: path.clone(), link }
                }
                false => ContextError::Dockerfile { path: path.clone(), source },
            })
        }
        DockerfilePlace::Outside(path) => read_host(path).map_err(|source| match missing(&source) {
            true => ContextError::DockerfileMissing { path: path.clone(), link: false },
            false => ContextError::Dockerfile { path: path.clone(), source },
        }),
        DockerfilePlace::Input => Err(ContextError::DockerfileFromInput),
    }
}

impl Tree {
    /// Applies the ignore rules of a Dockerfile: `<Dockerfile>.dockerignore` beside it, else the
    /// context's `.dockerignore`, else none.
    pub fn with_ignore(mut self, place: &DockerfilePlace) -> Result<Tree, ContextError> {
        let beside = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(".dockerignore");
            PathBuf::from(name)
        };
        let mut found = None;
        match place {
            DockerfilePlace::Inside(path) => found = self.read_ignore(&beside(path))?,
            DockerfilePlace::Outside(path) => {
                let path = beside(path);
                match read_host(&path) {
                    Ok(bytes) => found = Some((show(&path), bytes)),
                    Err(e) if missing(&e) => {}
                    Err(source) => return Err(ContextError::ReadIgnore { file: show(&path), source }),
                }
            }
            DockerfilePlace::Input => {}
        }
        if found.is_none() {
            found = self.read_ignore(Path::new(".dockerignore"))?;
        }
        self.ignore = match found {
            Some((file, bytes)) => Some(Filter::of_file(file, &bytes)?),
            None => None,
        };
        Ok(self)
    }

    fn read_ignore(&self, path: &Path) -> Result<Option<(String, Vec<u8>)>, ContextError> {
        let file = show(path);
        match self.root.read_small(path, MAX_BYTES) {
            Ok(bytes) => Ok(Some((file, bytes))),
            // Rules that are there but cannot be had must not be passed over: they may hide secrets.
            Err(e) if missing(&e) => match self.root.stat(path, false) {
                Ok(_) => Err(ContextError::IgnoreLink { file }),
                Err(_) => Ok(None),
            },
            Err(source) => Err(ContextError::ReadIgnore { file, source }),
        }
    }
}

fn missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Reads a file the user named: pipes (`-f <(...)`) too.
fn read_host(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() > MAX_BYTES {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::super::tree::open_directory;
    use super::*;

    fn inside(path: &str) -> DockerfilePlace {
        DockerfilePlace::Inside(path.into())
    }

    #[test]
    fn locates_dockerfiles() {
        let outer = tempfile::tempdir().unwrap();
        let context = outer.path().join("context");
        fs::create_dir_all(context.join("sub")).unwrap();
        symlink(outer.path(), context.join("up")).unwrap();
        symlink("context", outer.path().join("alias")).unwrap();
        let check = |file: PathBuf, expect: Option<&str>| {
            let expect = expect.map_or(DockerfilePlace::Outside(file.clone()), inside);
            assert_eq!(locate_dockerfile(&context, &file), expect, "{file:?}");
        };
        check(context.join("Dockerfile"), Some("Dockerfile"));
        check(context.join("sub/../sub/x"), Some("sub/x"));
        check(outer.path().join("alias/sub/x"), Some("sub/x"));
        check(outer.path().join("Dockerfile"), None);
        check(context.join("up/Dockerfile"), None);
        check(context.join("nowhere/Dockerfile"), None);
    }

    #[test]
    fn a_link_out_of_the_context_shows_nothing() {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("secret"), "root:hash").unwrap();
        let context = outer.path().join("context");
        fs::create_dir_all(context.join("etc")).unwrap();
        fs::write(context.join("etc/inside"), "FROM scratch").unwrap();
        symlink(outer.path().join("secret"), context.join("absolute")).unwrap();
        symlink("../secret", context.join("relative")).unwrap();
        symlink("/etc/inside", context.join("good")).unwrap();
        symlink(outer.path(), context.join("up")).unwrap();
        let tree = open_directory(&context, None).unwrap();
        for bad in ["absolute", "relative", "up/secret"] {
            let error = read_dockerfile(&tree, &inside(bad)).unwrap_err();
            assert!(matches!(error, ContextError::DockerfileMissing { .. }), "{bad}: {error}");
            assert!(!format!("{error:?}").contains("hash"), "{error:?}");
        }
        assert_eq!(read_dockerfile(&tree, &inside("good")).unwrap(), b"FROM scratch");
        let outside = DockerfilePlace::Outside(outer.path().join("secret"));
        assert_eq!(read_dockerfile(&tree, &outside).unwrap(), b"root:hash");
    }

    #[test]
    fn a_fifo_is_refused_at_once() {
        let outer = tempfile::tempdir().unwrap();
        let tree = open_directory(outer.path(), None).unwrap();
        tree.root.make_node(Path::new("Dockerfile"), rustix::fs::FileType::Fifo, 0o644, 0).unwrap();
        let error = read_dockerfile(&tree, &inside("Dockerfile")).unwrap_err();
        assert!(matches!(error, ContextError::Dockerfile { .. }), "{error}");
    }

    #[test]
    fn the_nearer_ignore_file_wins() {
        let outer = tempfile::tempdir().unwrap();
        let context = outer.path().join("context");
        fs::create_dir_all(&context).unwrap();
        let file = |place: &DockerfilePlace| {
            let tree = open_directory(&context, None).unwrap().with_ignore(place).unwrap();
            let reason = tree.ignore?.reason(Path::new("x"))?;
            Some(reason.strip_suffix(":1 leaves it out: `*`")?.to_owned())
        };
        assert_eq!(file(&inside("Dockerfile")), None);
        fs::write(context.join(".dockerignore"), "\u{feff}*\n").unwrap();
        assert_eq!(file(&inside("Dockerfile")).as_deref(), Some(".dockerignore"));
        assert_eq!(file(&DockerfilePlace::Input).as_deref(), Some(".dockerignore"));
        fs::write(context.join("Dockerfile.dockerignore"), "*").unwrap();
        assert_eq!(file(&inside("Dockerfile")).as_deref(), Some("Dockerfile.dockerignore"));
        let outside = outer.path().join("Other");
        assert_eq!(file(&DockerfilePlace::Outside(outside.clone())).as_deref(), Some(".dockerignore"));
        fs::write(outer.path().join("Other.dockerignore"), "*").unwrap();
        let found = file(&DockerfilePlace::Outside(outside)).unwrap();
        assert!(found.ends_with("Other.dockerignore"), "{found}");
    }

    #[test]
    fn ignore_rules_are_never_read_from_the_host() {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("rules"), "*").unwrap();
        let context = outer.path().join("context");
        fs::create_dir_all(&context).unwrap();
        symlink(outer.path().join("rules"), context.join(".dockerignore")).unwrap();
        let error = open_directory(&context, None).unwrap().with_ignore(&inside("Dockerfile")).unwrap_err();
        assert!(matches!(error, ContextError::IgnoreLink { .. }), "{error}");
    }
}
