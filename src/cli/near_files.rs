//! Which Dockerfile may have been meant, where the one that was named is not there.
//!
//! Not here: files of the build context that COPY names (`context`).

use std::fs;
use std::path::{Path, PathBuf};

use crate::remote::nearest;

/// So many names of a directory are looked at.
const MOST_NAMES: usize = 4096;

/// Returns the hint for `-f FILE` (`file`), or for the Dockerfile of a context that has none.
pub fn hint(file: Option<&str>, context: &str) -> Option<String> {
    let found = match file {
        Some(file) => {
            let path = Path::new(file);
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let name = near(directory.unwrap_or(Path::new(".")), path.file_name()?.to_str()?)?;
            directory.map_or_else(|| PathBuf::from(&name), |directory| directory.join(&name))
        }
        None => dockerfile_in(Path::new(context))?,
    };
    Some(format!("did you mean `-f {}`?", found.display()))
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().take(MOST_NAMES).flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

fn near(directory: &Path, name: &str) -> Option<String> {
    let names = names(directory);
    let files = names.iter().map(String::as_str).filter(|name| directory.join(name).is_file());
    nearest(name, files).map(str::to_owned)
}

/// Finds a file that looks like a Dockerfile: in the directory, else in one of those in it.
fn dockerfile_in(directory: &Path) -> Option<PathBuf> {
    let looks_so = |name: &str| {
        let lower = name.to_ascii_lowercase();
        ["dockerfile", "containerfile"].iter().any(|word| {
            lower == *word || lower.starts_with(&format!("{word}.")) || lower.ends_with(&format!(".{word}"))
        }) && !lower.ends_with(".dockerignore")
    };
    let of = |directory: &Path| {
        let found: Vec<String> = names(directory).into_iter().filter(|name| looks_so(name)).collect();
        found.into_iter().map(|name| directory.join(name)).find(|path| path.is_file())
    };
    let below = || names(directory).into_iter().find_map(|name| of(&directory.join(name)));
    let found = of(directory).or_else(below)?;
    Some(found.strip_prefix(".").map(Path::to_path_buf).unwrap_or(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_files_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let check = |file: Option<&str>, expect: Option<&str>| {
            let file = file.map(&at);
            let expect = expect.map(|name| format!("did you mean `-f {}`?", at(name)));
            assert_eq!(
                hint(file.as_deref(), &at("")),
                expect.map(|text| text.replace("//", "/")),
                "{file:?}"
            );
        };
        check(None, None);
        fs::create_dir(at("docker")).unwrap();
        fs::write(at("docker/Dockerfile"), "").unwrap();
        check(None, Some("docker/Dockerfile"));
        fs::write(at("Dockerfile.dockerignore"), "").unwrap();
        check(None, Some("docker/Dockerfile"));
        fs::write(at("app.Dockerfile"), "").unwrap();
        check(None, Some("app.Dockerfile"));
        check(Some("app.dockrfile"), Some("app.Dockerfile"));
        check(Some("docker/Dokerfile"), Some("docker/Dockerfile"));
        check(Some("other"), None);
        check(Some("no/such"), None);
    }
}
