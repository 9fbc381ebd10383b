//! The environment that a container or a process in one gets: `-e` and `--env-file`.

use std::path::{Path, PathBuf};

use super::error::CommandError;

/// Merges files and single entries, which come last. A name without a value takes that of this process's
/// environment; where it has none, a file's is left out, and a single one stays a bare name.
pub fn environment(entries: &[String], files: &[PathBuf]) -> Result<Vec<String>, CommandError> {
    let own = |name: &str| std::env::var(name).ok();
    let mut all = Vec::new();
    for file in files {
        let bytes = std::fs::read(file)
            .map_err(|error| CommandError::new(format!("open {}: {error}", file.display())))?;
        all.extend(parse(file, &bytes, own)?);
    }
    for entry in entries {
        match entry.split_once('=') {
            Some(("", _)) => {
                return Err(CommandError::usage(format!("invalid environment variable: {entry}")));
            }
            None if !entry.is_empty() => {
                all.push(own(entry).map_or(entry.clone(), |value| format!("{entry}={value}")));
            }
            _ => all.push(entry.clone()),
        }
    }
    Ok(all)
}

/// Reads a file: a variable on each line, as it stands; `#` starts a comment at the start of a line.
fn parse(
    file: &Path,
    bytes: &[u8],
    own: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, CommandError> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        CommandError::usage(format!("env file {} contains invalid utf8 bytes", file.display()))
    })?;
    let mut entries = Vec::new();
    for line in text.strip_prefix('\u{feff}').unwrap_or(text).lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value)));
        if name.contains(char::is_whitespace) {
            return Err(CommandError::usage(format!(
                "poorly formatted environment: variable '{name}' contains whitespaces"
            )));
        }
        if name.is_empty() {
            return Err(CommandError::usage(format!(
                "poorly formatted environment: no variable name on line '{line}'"
            )));
        }
        match value {
            Some(_) => entries.push(line.to_owned()),
            None => entries.extend(own(name).map(|value| format!("{name}={value}"))),
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_docker_does() {
        let own = |name: &str| (name == "HAVE").then(|| "x".to_owned());
        let read = |text: &[u8]| parse(Path::new("f"), text, own);
        let entries = read(b"\xef\xbb\xbfA=1\n# no\n\n  B=a b # kept \nHAVE\nHAVE_NOT\nC=\r\n").unwrap();
        assert_eq!(entries, ["A=1", "B=a b # kept ", "HAVE=x", "C="]);
        let fails = |text: &[u8], expect: &str| {
            let error = read(text).unwrap_err().message;
            assert!(error.contains(expect), "{error}");
        };
        fails(b"A B=1", "variable 'A B' contains whitespaces");
        fails(b"=1", "no variable name on line '=1'");
        fails(b"A=\xff", "invalid utf8");
    }

    #[test]
    fn single_entries_come_last() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("env");
        std::fs::write(&file, "A=1\n").unwrap();
        let entries = ["A=2".to_owned(), "RBUILD_NO_SUCH_VARIABLE".to_owned()];
        let all = environment(&entries, std::slice::from_ref(&file)).unwrap();
        assert_eq!(all, ["A=1", "A=2", "RBUILD_NO_SUCH_VARIABLE"]);
        assert!(environment(&["=x".to_owned()], &[]).is_err());
        assert!(environment(&[], &[directory.path().join("none")]).is_err());
    }
}
