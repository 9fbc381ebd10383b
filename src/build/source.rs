//! A Dockerfile read and parsed for a look at it: no store, no images, nothing built.
//!
//! What `check`, `parse` and the calls of `build --call` start from. Not here: the looks
//! themselves (`plan`), and how a build reads its file (`prepare`).

use std::path::Path;

use super::error::BuildError;
use super::prepare::{plan_request, read_dockerfile};
use super::request::{BuildRequest, ContextFrom, DockerfileFrom, MAX_DOCKERFILE_BYTES};
use crate::context::{self, Tree};
use crate::dockerfile::{self, Parsed};
use crate::pattern::Ignore;
use crate::plan::{self, Bases, Checked, Request};
use crate::remote;
use crate::report::{Diagnostic, Span};

/// A Dockerfile with what a build of it would know at its start.
#[derive(Debug)]
pub struct Source {
    /// The Dockerfile's name, as the user knows it.
    pub file: String,
    pub parsed: Parsed,
    pub request: Request,
    /// The rules of the context's .dockerignore.
    pub ignore: Option<Ignore>,
}

impl Source {
    /// Reads the Dockerfile of a request, and the ignore rules of its context.
    pub fn read(request: BuildRequest) -> Result<Source, BuildError> {
        let asked = plan_request(&request);
        let (tree, root) = match request.context {
            ContextFrom::Directory(path) => (Some(context::open_directory(&path, None)?), Some(path)),
            ContextFrom::Tar(file) => {
                let folder = tempfile::tempdir()
                    .map_err(|source| BuildError::Output { path: std::env::temp_dir(), source })?;
                (Some(context::from_tar(file, folder.path())?), None)
            }
            ContextFrom::Remote(address) => {
                let what = format!("a look at the remote build context `{}`", remote::redact(&address));
                return Err(BuildError::Unsupported(what));
            }
            ContextFrom::Nothing => (None, None),
        };
        let (file, bytes, ignore) = match (tree, request.dockerfile) {
            (Some(tree), from) => read_in(tree, root.as_deref(), &from)?,
            (None, DockerfileFrom::Bytes { name, bytes }) => (name, bytes, None),
            (None, from) => {
                // A path in no context starts where the user is; no ignore rules go with it.
                let empty = tempfile::tempdir()
                    .map_err(|source| BuildError::Output { path: std::env::temp_dir(), source })?;
                let tree = context::open_directory(empty.path(), None)?;
                let (file, _, bytes) = read_dockerfile(&tree, None, &from)?;
                (file, bytes, None)
            }
        };
        Ok(Source { parsed: parse(&bytes, &asked), file, request: asked, ignore })
    }

    /// Checks it; see [`plan::check()`].
    pub fn check(&self, bases: &Bases) -> Checked {
        plan::check(&self.parsed, &self.request, bases, self.ignore.as_ref())
    }
}

/// Parses the bytes of a Dockerfile; a file that is too large is an error among others.
pub fn parse(bytes: &[u8], request: &Request) -> Parsed {
    let frontend = request.build_args.get("BUILDKIT_SYNTAX").map(String::as_str);
    if bytes.len() as u64 <= MAX_DOCKERFILE_BYTES {
        return dockerfile::parse_as(bytes, frontend);
    }
    let mut parsed = dockerfile::parse(b"");
    let message = format!("the Dockerfile is larger than {} MiB", MAX_DOCKERFILE_BYTES >> 20);
    parsed.diagnostics = vec![Diagnostic::error("too-large", Span::default(), message)];
    parsed
}

fn read_in(
    tree: Tree,
    root: Option<&Path>,
    from: &DockerfileFrom,
) -> Result<(String, Vec<u8>, Option<Ignore>), BuildError> {
    let (file, place, bytes) = read_dockerfile(&tree, root, from)?;
    let tree = tree.with_ignore(&place)?;
    Ok((file, bytes, tree.ignore_rules().cloned()))
}
