//! `--label`, `--label-file`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::error::CommandError;

/// The most bytes of a file.
const LIMIT: u64 = 4 << 20;

/// The options.
#[derive(Debug, Default, Args)]
pub struct TextArgs {
    /// A label of the container
    #[arg(short, long = "label", value_name = "KEY[=VALUE]")]
    labels: Vec<String>,
    /// A file of labels, one a line
    #[arg(long = "label-file", value_name = "FILE")]
    label_files: Vec<PathBuf>,
}

impl TextArgs {
    /// Reads the labels; those of the command line go over those of files.
    pub fn labels(&self) -> Result<BTreeMap<String, String>, CommandError> {
        let mut all = Vec::new();
        for file in &self.label_files {
            all.extend(lines(file)?);
        }
        all.extend(self.labels.iter().cloned());
        let pair = |text: String| match text.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (text, String::new()),
        };
        let labels: BTreeMap<String, String> = all.into_iter().map(pair).collect();
        match labels.contains_key("") {
            true => Err(CommandError::usage("invalid label: it has no name")),
            false => Ok(labels),
        }
    }
}

/// Reads the lines of a file that say something.
fn lines(file: &Path) -> Result<Vec<String>, CommandError> {
    let failed = |why: String| CommandError::new(format!("cannot read `{}`: {why}", file.display()));
    // It may be a pipe: `--label-file <(...)`.
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes));
    read.map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > LIMIT {
        return Err(failed("it is longer than 4 MiB".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8".to_owned()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}
