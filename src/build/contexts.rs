//! The contexts of a build opened: directories, archives, what is fetched; and the times they are of.
//!
//! Not here: the Dockerfile in them (`prepare`), images that stand for contexts (`bases`).

use std::path::PathBuf;

use super::error::BuildError;
use super::request::{ContextFrom, DockerfileFrom, Engine, NamedContextFrom};
use crate::context::{self, ContextError, DockerfilePlace, HttpContext, Tree};
use crate::plan::EpochNeed;
use crate::plan::graph::HttpOp;
use crate::remote::{self, Address};
use crate::store::TempDir;
use crate::sys::RootDir;
use crate::worker::Sources;

/// A context, without its ignore rules.
pub struct Opened {
    pub tree: Tree,
    /// The directory it is, where it is one of this machine.
    pub root: Option<PathBuf>,
    /// In seconds since 1970, where it has one as a whole.
    pub time: Option<i64>,
    /// What was found in place of a context.
    pub dockerfile: Option<DockerfileFrom>,
    /// Where it was unpacked; to be removed after the tree.
    pub unpacked: Option<TempDir>,
}

impl Opened {
    fn of(tree: Tree) -> Opened {
        Opened { tree, root: None, time: None, dockerfile: None, unpacked: None }
    }
}

/// Opens the main context.
pub fn open(
    engine: &Engine,
    sources: &Sources<'_>,
    from: ContextFrom,
    keep_git_dir: bool,
) -> Result<Opened, BuildError> {
    match from {
        ContextFrom::Directory(path) => {
            let tree = context::open_directory(&path, Some(engine.store.stat_cache_dir()))?;
            Ok(Opened { root: Some(path), ..Opened::of(tree) })
        }
        ContextFrom::Tar(file) => {
            let folder = engine.store.temp_dir()?;
            let tree = context::from_tar(file, folder.path())?;
            Ok(Opened { unpacked: Some(folder), ..Opened::of(tree) })
        }
        ContextFrom::Remote(address) => fetch(engine, sources, &address, keep_git_dir),
        ContextFrom::Nothing => Ok(Opened::of(nothing(engine)?)),
    }
}

fn nothing(engine: &Engine) -> Result<Tree, BuildError> {
    let path = engine.store.empty_dir();
    let empty = RootDir::open(path).map_err(|source| BuildError::Output { path: path.to_owned(), source })?;
    Ok(Tree::context(empty))
}

/// Opens a named context of files, with its ignore rules, and adds it to the sources, once.
pub fn open_named(
    engine: &Engine,
    sources: &Sources<'_>,
    name: &str,
    from: &NamedContextFrom,
    keep_git_dir: bool,
) -> Result<Option<TempDir>, BuildError> {
    if sources.get(name).is_some() {
        return Ok(None);
    }
    let opened = match from {
        NamedContextFrom::Directory(path) => {
            Opened::of(context::open_directory(path, Some(engine.store.stat_cache_dir()))?)
        }
        NamedContextFrom::Remote(address) => fetch(engine, sources, address, keep_git_dir)?,
        NamedContextFrom::Image(_) | NamedContextFrom::OciLayout { .. } => return Ok(None),
    };
    let tree = opened.tree.with_ignore(&DockerfilePlace::Input)?;
    sources.insert(name, tree, opened.time);
    Ok(opened.unpacked)
}

fn fetch(
    engine: &Engine,
    sources: &Sources<'_>,
    address: &str,
    keep_git_dir: bool,
) -> Result<Opened, BuildError> {
    let fetcher = sources.fetcher();
    match remote::parse_context(address) {
        None => Err(BuildError::Address(format!("`{}` is no URL", remote::redact(address)))),
        Some(Err(error)) => Err(BuildError::Address(error.to_string())),
        Some(Ok(Address::Git(address))) => {
            let found = fetcher.git(&address.with_default_keep_git_dir(keep_git_dir), engine.cancel)?;
            Ok(Opened { time: Some(found.commit_time), ..Opened::of(found.tree) })
        }
        Some(Ok(Address::Http(http))) => {
            let file_name = http.file_name().to_owned();
            let op = HttpOp { url: address.to_owned(), file_name, checksum: None };
            let file = fetcher.http(&op, engine.cancel)?;
            let folder = engine.store.temp_dir()?;
            let time = file.time();
            match context::http_context(&file, folder.path())? {
                HttpContext::Tree(tree) => Ok(Opened { time, unpacked: Some(folder), ..Opened::of(*tree) }),
                HttpContext::Dockerfile(bytes) => {
                    let dockerfile = Some(DockerfileFrom::Bytes { name: http.file_name().to_owned(), bytes });
                    Ok(Opened { time, dockerfile, ..Opened::of(nothing(engine)?) })
                }
            }
        }
    }
}

/// Fetches a Dockerfile; returns its name for people, and its bytes.
pub fn fetch_dockerfile(
    engine: &Engine,
    sources: &Sources<'_>,
    url: &str,
) -> Result<(String, Vec<u8>), BuildError> {
    let op = HttpOp { url: url.to_owned(), file_name: "Dockerfile".to_owned(), checksum: None };
    let file = sources.fetcher().http_within(&op, super::MAX_DOCKERFILE_BYTES, engine.cancel)?;
    let name = PathBuf::from(&file.name);
    let bytes = file.tree.root().read_small(&name, super::MAX_DOCKERFILE_BYTES as usize);
    let bytes = bytes.map_err(|source| ContextError::Dockerfile { path: file.url.clone().into(), source })?;
    Ok((file.url, bytes))
}

/// Returns the time that SOURCE_DATE_EPOCH names; `None` for what has none, as a directory here.
pub fn epoch(engine: &Engine, sources: &Sources<'_>, need: &EpochNeed) -> Result<Option<i64>, BuildError> {
    match need {
        EpochNeed::Context(name) => Ok(sources.time(name)),
        EpochNeed::Source(op) => {
            sources.fetch(op, engine.cancel)?;
            Ok(sources.time(&op.source_name().unwrap_or_default()))
        }
    }
}
