//! Checks of COPY and ADD: CopyIgnoredFile, and ours, CopyChmodParents.
//!
//! They look at the graph, in which variables are replaced and paths are absolute. What
//! ONBUILD of a base brought has no place in the file and is not checked.

use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::ast::Instruction;
use crate::dockerfile::ast::Kind;
use crate::dockerfile::ast::Transfer;
use crate::pattern::Ignore;
use crate::report::Diagnostic;

use super::super::graph::CopyOp;
use super::super::graph::CopySource;
use super::super::graph::Op;
use super::super::graph::Vertex;

/// CopyIgnoredFile: a source that .dockerignore leaves out.
///
/// With rules that take something back it is not told: a directory that is left out may
/// have files in it that are not.
pub(super) fn ignored(file: &Dockerfile, vertices: &[Vertex], ignore: Option<&Ignore>) -> Vec<Diagnostic> {
    let Some(ignore) = ignore.filter(|ignore| !ignore.is_empty() && !ignore.has_negated()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for vertex in vertices {
        let Op::Copy(copy) = &vertex.op else { continue };
        let Some((instruction, transfer)) = written(file, vertex) else { continue };
        if transfer.from.is_some() {
            continue;
        }
        for source in &copy.sources {
            let CopySource::Path { path, .. } = source else { continue };
            let path = clean(path);
            let rule = match path.as_str() {
                "." => ignore.rules().find(|rule| matches!(rule.text.as_str(), "*" | "**" | "**/*")),
                path => Some(ignore.excluded(path)).filter(|d| d.excluded).and_then(|d| d.rule),
            };
            let Some(rule) = rule else { continue };
            let keyword = instruction.kind.keyword().unwrap_or("COPY");
            found.push(
                Diagnostic::warning(
                    "CopyIgnoredFile",
                    instruction.span,
                    format!("attempting to {keyword} file `{path}` that is excluded by .dockerignore"),
                )
                .with_hint(format!("line {} of it leaves it out: `{}`", rule.line, rule.text)),
            );
        }
    }
    found
}

/// CopyChmodParents: a mode without execute permission, for directories that COPY makes.
///
/// Told only where nothing shows that they are there: no WORKDIR, COPY or RUN above
/// names them, and they are none of those that every system has.
pub(super) fn untraversable(file: &Dockerfile, vertices: &[Vertex]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for vertex in vertices {
        let Op::Copy(copy) = &vertex.op else { continue };
        let Some(mode) = &copy.chmod else { continue };
        if !forbids_entry(mode) {
            continue;
        }
        let Some((instruction, transfer)) = written(file, vertex) else { continue };
        let Some(parent) = parent(copy) else { continue };
        if is_usual(&parent) || is_named_above(vertices, vertex, &parent) {
            continue;
        }
        let keyword = instruction.kind.keyword().unwrap_or("COPY");
        let span = transfer.chmod.as_ref().map_or(instruction.span, |word| word.span);
        found.push(
            Diagnostic::warning(
                "CopyChmodParents",
                span,
                format!("{keyword} --chmod={mode} makes a missing `{parent}` with that mode too, so that none but root can enter it"),
            )
            .with_hint(format!(
                "make it first, for example with `WORKDIR {parent}`, or write the mode with `X`, which only \
                 directories and programs get: `--chmod=u=rwX,go=rX`"
            )),
        );
    }
    found
}

/// Returns the instruction that a vertex is for.
fn written<'a>(file: &'a Dockerfile, vertex: &Vertex) -> Option<(&'a Instruction, &'a Transfer)> {
    if vertex.line == 0 {
        return None;
    }
    let at = file.instructions.binary_search_by_key(&vertex.span.start, |i| i.span.start).ok()?;
    let instruction = &file.instructions[at];
    match &instruction.kind {
        Kind::Copy(transfer) | Kind::Add(transfer) => Some((instruction, transfer)),
        _ => None,
    }
}

/// Cleans a path of the context as Go's `filepath.Clean` does; the root is `.`.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// Tells whether an octal mode lets nobody but root into a directory.
fn forbids_entry(mode: &str) -> bool {
    u32::from_str_radix(mode, 8).is_ok_and(|mode| mode & 0o111 == 0)
}

/// Returns the directory that files go to, without a slash at its end.
fn parent(copy: &CopyOp) -> Option<String> {
    let (parent, _) = copy.destination.rsplit_once('/')?;
    Some(parent.trim_end_matches('/').to_owned())
}

/// Tells whether a directory is one that base images have.
fn is_usual(directory: &str) -> bool {
    const USUAL: [&str; 30] = [
        "",
        "/bin",
        "/boot",
        "/dev",
        "/etc",
        "/home",
        "/lib",
        "/media",
        "/mnt",
        "/opt",
        "/proc",
        "/root",
        "/run",
        "/sbin",
        "/srv",
        "/sys",
        "/tmp",
        "/usr",
        "/var",
        "/usr/bin",
        "/usr/lib",
        "/usr/local",
        "/usr/sbin",
        "/usr/share",
        "/usr/local/bin",
        "/usr/local/lib",
        "/usr/local/sbin",
        "/var/lib",
        "/var/log",
        "/var/tmp",
    ];
    // What packages bring below /etc cannot be known here.
    USUAL.contains(&directory) || directory.starts_with("/etc/")
}

/// Tells whether an instruction that the vertex builds on may have made a directory.
fn is_named_above(vertices: &[Vertex], vertex: &Vertex, directory: &str) -> bool {
    let below = format!("{directory}/");
    let mut above = vertex.inputs.first().and_then(|input| input.from);
    while let Some(vertex) = above.and_then(|id| vertices.get(id.0)) {
        let named = match &vertex.op {
            Op::Workdir(workdir) => workdir.path == directory || workdir.path.starts_with(&below),
            Op::Copy(copy) => copy.destination == directory || copy.destination.starts_with(&below),
            // One that makes users makes their homes.
            Op::Run(run) => run.args.iter().any(|text| text.contains(directory) || text.contains("useradd")),
            _ => false,
        };
        if named {
            return true;
        }
        above = vertex.inputs.first().and_then(|input| input.from);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans() {
        for (path, expect) in [
            ("a", "a"),
            ("/a//b/", "a/b"),
            ("./a", "a"),
            (".", "."),
            ("/", "."),
            ("a/../../b", "b"),
            ("", "."),
        ] {
            assert_eq!(clean(path), expect, "{path}");
        }
    }

    #[test]
    fn modes() {
        for (mode, forbids) in
            [("640", true), ("0644", true), ("755", false), ("711", false), ("u=rw", false)]
        {
            assert_eq!(forbids_entry(mode), forbids, "{mode}");
        }
    }
}
