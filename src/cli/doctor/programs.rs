//! Facts about other programs that some builds need: git, and the keepers of credentials.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::find_in;
use crate::cli::world;
use crate::sandbox::facts::{Fact, Group};
use crate::sys::read::read_small;

/// Looks for the programs; `path` is the PATH.
pub fn facts(path: &str) -> Vec<Fact> {
    let config = world::registry_options(None).credentials.config_file;
    vec![
        git(path).of(Group::Programs, "build contexts and ADD from Git repositories"),
        helpers(path, config.as_deref()).of(Group::Programs, "logins to registries"),
    ]
}

fn git(path: &str) -> Fact {
    match find_in(path, "git") {
        Some(file) => Fact::new("git", true, file.display().to_string(), ""),
        None => Fact::new("git", false, "not in PATH", "install the package `git`"),
    }
}

/// Whether the programs that docker's `config.json` names for credentials are there.
fn helpers(path: &str, config: Option<&Path>) -> Fact {
    let name = "credential helpers";
    let Some(config) = config else { return Fact::new(name, true, "none named", "") };
    let text = read_small(config).unwrap_or_default();
    // A file that is no JSON is told with the settings.
    let file: Value = serde_json::from_slice(&text).unwrap_or_default();
    let named = file["credHelpers"].as_object().into_iter().flat_map(|all| all.values());
    let mut named: Vec<String> = named
        .chain([&file["credsStore"]])
        .filter_map(|name| name.as_str().filter(|name| !name.is_empty() && !name.contains('/')))
        .map(|name| format!("docker-credential-{name}"))
        .collect();
    named.sort();
    named.dedup();
    if named.is_empty() {
        return Fact::new(name, true, format!("none named in `{}`", config.display()), "");
    }
    let found: Vec<Option<PathBuf>> = named.iter().map(|name| find_in(path, name)).collect();
    let lacking: Vec<&str> =
        named.iter().zip(&found).filter(|(_, file)| file.is_none()).map(|(name, _)| name.as_str()).collect();
    if lacking.is_empty() {
        return Fact::new(name, true, named.join(", "), "");
    }
    let detail = format!("`{}` names {}, not in PATH", config.display(), lacking.join(", "));
    let fix = "install them, or take them out of `credHelpers` and `credsStore`";
    Fact::new(name, false, detail, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_that_are_named_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.json");
        let check = |text: &str, ok: bool, detail: &str| {
            std::fs::write(&config, text).unwrap();
            let fact = helpers("/usr/bin:/bin", Some(&config));
            assert!(fact.ok == ok && fact.detail.contains(detail), "{text}: {fact:?}");
        };
        check(
            r#"{"credHelpers":{"r.example.com":"nowhere"}}"#,
            false,
            "names docker-credential-nowhere, not in PATH",
        );
        check(r#"{"credsStore":"nothing"}"#, false, "docker-credential-nothing");
        check(r#"{"credsStore":""}"#, true, "none named");
        check("not json", true, "none named");
        assert!(helpers("/bin", None).ok);
    }
}
