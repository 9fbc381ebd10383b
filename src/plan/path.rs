//! Paths inside an image: joined and cleaned as text, links unseen.

/// Joins a path to a working directory and cleans the result: absolute, without
/// `.`, `..` and doubled or trailing slashes. `..` does not leave the root.
pub(super) fn join(workdir: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let start = if path.starts_with('/') { "" } else { workdir };
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Tells whether a destination says by its form that it is a directory.
pub(super) fn is_directory(path: &str) -> bool {
    path.is_empty() || path.ends_with('/') || matches!(path.rsplit('/').next(), Some("." | ".."))
}

/// Joins a destination to a working directory; one that means a directory keeps its slash.
pub(super) fn destination(workdir: &str, path: &str) -> String {
    let mut joined = join(workdir, path);
    if is_directory(path) && !joined.ends_with('/') {
        joined.push('/');
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_and_cleans() {
        for (workdir, path, joined, copied) in [
            ("/", "a", "/a", "/a"),
            ("", "a", "/a", "/a"),
            ("/w", "a/", "/w/a", "/w/a/"),
            ("/w", "/a//b/../c", "/a/c", "/a/c"),
            ("/w", "../../../x", "/x", "/x"),
            ("/w", ".", "/w", "/w/"),
            ("/w", "./", "/w", "/w/"),
            ("/w", "", "/w", "/w/"),
            ("/w/v", "..", "/w", "/w/"),
            ("/w", "/", "/", "/"),
            ("/w", "a/.", "/w/a", "/w/a/"),
        ] {
            assert_eq!(join(workdir, path), joined, "{workdir} {path}");
            assert_eq!(destination(workdir, path), copied, "{workdir} {path}");
        }
    }
}
