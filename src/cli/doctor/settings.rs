//! Facts about files of settings: each that is there can be read, and says what it may say.

use std::io;
use std::path::Path;

use serde_json::Value;

use crate::cli::{config, world};
use crate::sandbox::facts::{Fact, Group};
use crate::sys::read::read_small;

/// Reads the files of settings. What is wrong with ours is drawn on standard error.
pub fn facts() -> Vec<Fact> {
    let options = world::registry_options(None);
    let mut files: Vec<_> = options.settings.into_iter().map(|file| file.path).collect();
    files.extend(options.credentials.config_file);
    vec![
        ours().of(Group::Settings, "every command").required(),
        json(&files).of(Group::Settings, "pulls, pushes and logins"),
    ]
}

fn ours() -> Fact {
    let there: Vec<String> = world::config_files()
        .iter()
        .filter(|path| path.exists())
        .map(|path| format!("`{}`", path.display()))
        .collect();
    match config::get() {
        Ok(_) if there.is_empty() => Fact::new("configuration", true, "no file; defaults hold", ""),
        Ok(_) => Fact::new("configuration", true, there.join(", "), ""),
        Err(error) => {
            let why = if error.message.is_empty() { "wrong, as drawn above" } else { &error.message };
            Fact::new(
                "configuration",
                false,
                why,
                "repair the file; `rbuild config --default` prints one to begin with",
            )
        }
    }
}

/// docker's and our files for registries.
fn json(files: &[impl AsRef<Path>]) -> Fact {
    let (mut there, mut wrong) = (Vec::new(), Vec::new());
    for file in files.iter().map(AsRef::as_ref) {
        let problem = match read_small(file) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                continue;
            }
            Err(error) => Some(error.to_string()),
            Ok(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => None,
            // The words of the parser hold no value of a string: only where it stopped.
            Ok(bytes) => serde_json::from_slice::<Value>(&bytes).err().map(|error| error.to_string()),
        };
        there.push(format!("`{}`", file.display()));
        wrong.extend(problem.map(|why| format!("`{}`: {why}", file.display())));
    }
    let detail = match (there.is_empty(), wrong.is_empty()) {
        (true, _) => "no file".to_owned(),
        (false, true) => there.join(", "),
        (false, false) => wrong.join("; "),
    };
    Fact::new("registries' files", wrong.is_empty(), detail, "repair the file: it is to be a JSON object")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert_eq!(json(&[at("none")]).detail, "no file");
        std::fs::write(at("good"), "{}").unwrap();
        std::fs::write(at("bad"), "{\n oops").unwrap();
        assert!(json(&[at("good"), at("none")]).ok);
        let fact = json(&[at("good"), at("bad")]);
        assert!(!fact.ok && fact.detail.contains("bad`: ") && fact.detail.contains("line 2"), "{fact:?}");
    }
}
