//! Reads one configuration file. Not here: which keys there are (`keys`).

use std::io;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{KEYS, Key, SECTIONS};
use super::{Config, world};
use crate::cli::error::{CommandError, code};
use crate::dockerfile::nearest;
use crate::report::{Diagnostic, Span, excerpt};
use crate::sys::read::read_small;

/// What is wrong with a file.
#[derive(Debug)]
pub enum Wrong {
    /// It cannot be read, and why.
    Unreadable(String),
    /// A place in it.
    Place { path: PathBuf, text: String, finding: Box<Diagnostic> },
}

impl Wrong {
    /// Draws the place; nothing where there is none.
    pub fn drawn(&self, colour: bool) -> String {
        match self {
            Wrong::Unreadable(_) => String::new(),
            Wrong::Place { path, text, finding } => {
                format!("{}\n", excerpt::render(finding, &path.display().to_string(), text, colour))
            }
        }
    }

    /// Returns the error to end with; what was drawn is not said again.
    pub fn error(&self) -> CommandError {
        match self {
            Wrong::Unreadable(why) => CommandError::usage(why),
            Wrong::Place { .. } => CommandError::silent(code::USAGE),
        }
    }
}

/// Reads a file over what is there already; one that does not exist says nothing.
pub fn read(path: &Path, config: &mut Config) -> Result<(), Wrong> {
    let failed = |why: &dyn std::fmt::Display| {
        Wrong::Unreadable(format!("cannot read the configuration file `{}`: {why}", path.display()))
    };
    let bytes = match read_small(path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(failed(&error)),
    };
    let text = String::from_utf8(bytes).map_err(|_| failed(&"it is not UTF-8"))?;
    apply(&text, path, config).map_err(|finding| Wrong::Place {
        path: path.to_owned(),
        text,
        finding: Box::new(finding),
    })
}

/// Takes over what a text says.
fn apply(text: &str, path: &Path, config: &mut Config) -> Result<(), Diagnostic> {
    let root = DeTable::parse(text).map_err(|error| {
        let span = error.span().map_or(Span::new(0, 0), |span| Span::new(span.start, span.end));
        Diagnostic::error("config", span, format!("this is no TOML: {}", error.message()))
    })?;
    for (section, value) in root.get_ref() {
        let name = section.get_ref().as_ref();
        if !SECTIONS.contains(&name) {
            // A key of a section, written above all of them.
            let homeless = KEYS.iter().find(|key| key.name == name);
            let hint = match homeless {
                Some(key) => Some(format!("`{name}` belongs under `[{}]`", key.section)),
                None => nearest(name, &SECTIONS).map(|near| format!("did you mean `[{near}]`?")),
            };
            return Err(unknown(section, format!("unknown section `{name}`"), hint, &SECTIONS));
        }
        let DeValue::Table(table) = value.get_ref() else {
            return Err(wrong(section, format!("`{name}` is a section: write `[{name}]`")));
        };
        for (word, value) in table {
            let key = find(name, word)?;
            let home = world::home();
            (key.set)(config, value.get_ref(), home.as_deref()).map_err(|why| {
                wrong(value, format!("bad value of `{}`: {why}", key.path()))
                    .with_hint(format!("as in `{} = {}`", key.name, key.example))
            })?;
            config.origins.insert(key.path(), path.to_owned());
        }
    }
    Ok(())
}

fn find(section: &str, word: &Spanned<std::borrow::Cow<'_, str>>) -> Result<&'static Key, Diagnostic> {
    let name = word.get_ref().as_ref();
    if let Some(key) = KEYS.iter().find(|key| key.section == section && key.name == name) {
        return Ok(key);
    }
    let here: Vec<&str> = KEYS.iter().filter(|key| key.section == section).map(|key| key.name).collect();
    let hint = match KEYS.iter().find(|key| key.name == name) {
        Some(key) => Some(format!("`{name}` belongs under `[{}]`", key.section)),
        None => nearest(name, &here).map(|near| format!("did you mean `{near}`?")),
    };
    Err(unknown(word, format!("unknown key `{name}` in `[{section}]`"), hint, &here))
}

fn unknown<T>(at: &Spanned<T>, message: String, hint: Option<String>, all: &[&str]) -> Diagnostic {
    wrong(at, message).with_hint(hint.unwrap_or_else(|| format!("there are: {}", all.join(", "))))
}

fn wrong<T>(at: &Spanned<T>, message: String) -> Diagnostic {
    let span = at.span();
    Diagnostic::error("config", Span::new(span.start, span.end), message)
}

#[cfg(test)]
mod tests {

    use super::*;

    fn read_text(text: &str) -> Result<Config, Diagnostic> {
        let mut config = Config::default();
        apply(text, Path::new("/c.toml"), &mut config).map(|()| config)
    }

    #[test]
    fn every_key_is_read_and_shown() {
        for key in KEYS {
            let config = read_text(&format!("[{}]\n{} = {}\n", key.section, key.name, key.example)).unwrap();
            assert!((key.get)(&config).is_some(), "{}", key.path());
            let others = KEYS.iter().filter(|other| (other.get)(&config).is_some()).count();
            assert_eq!(others, 1, "{} sets itself and nothing else", key.path());
            assert_eq!(config.said(key).unwrap().1, "/c.toml");
        }
    }

    #[test]
    fn values_have_their_units() {
        let config = read_text(
            "[build]\nstep_timeout = \"1h30m\"\ndns = [\"1.1.1.1\", \"::1\"]\n[store]\nmax_used_space = \"1GB\"\nkeep_days = 7\n",
        )
        .unwrap();
        assert_eq!(config.build.step_timeout.as_deref(), Some("1h30m"));
        assert_eq!(config.build.dns.unwrap(), ["1.1.1.1", "::1"]);
        assert_eq!(config.store.max_used_space, Some(1 << 30));
        assert_eq!(config.store.keep_days, Some(7));
    }

    #[test]
    fn the_later_file_wins_key_by_key() {
        let mut config = read_text("[build]\nprogress = \"plain\"\nretry = 3\n").unwrap();
        apply("[build]\nprogress = \"quiet\"\n", Path::new("/d.toml"), &mut config).unwrap();
        assert_eq!((config.build.progress.as_deref(), config.build.retry), (Some("quiet"), Some(3)));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let check = |text: &str, marked: &str, message: &str, hint: &str| {
            let error = read_text(text).unwrap_err();
            let span = error.span.unwrap();
            assert!(error.message.contains(message), "{text}: {error:?}");
            assert!(error.hint.clone().unwrap_or_default().contains(hint), "{text}: {error:?}");
            assert_eq!(&text[span.range(text.len())], marked, "{text}: {error:?}");
        };
        check(
            "[build]\nprogres = \"tty\"\n",
            "progres",
            "unknown key `progres` in `[build]`",
            "did you mean `progress`?",
        );
        check("[bulid]\n", "bulid", "unknown section `bulid`", "did you mean `[build]`?");
        check("progress = \"tty\"\n", "progress", "unknown section", "belongs under `[build]`");
        check("[store]\nretry = 1\n", "retry", "unknown key", "belongs under `[build]`");
        check("[build]\nzzzzzzzz = 1\n", "zzzzzzzz", "unknown key", "there are: progress");
        check("build = 3\n", "build", "is a section", "");
        check("[build]\nprogress = \"loud\"\n", "\"loud\"", "bad value of `build.progress`", "as in");
        check("[build]\nretry = \"x\"\n", "\"x\"", "bad value of `build.retry`", "as in");
        check("[build]\nca_cert = \"ca.pem\"\n", "\"ca.pem\"", "absolute", "as in");
        check("[build]\nretry = 1\nretry = 2\n", "retry", "no TOML", "");
    }
}
