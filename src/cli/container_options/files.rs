//! `--read-only`, `--tmpfs`, `--device`.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::error::CommandError;
use crate::container::options::Files;
use crate::sandbox::tmpfs::TmpfsOptions;

/// The options.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Files")]
pub struct FileArgs {
    /// Make the container's root file system read-only
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    read_only: Option<bool>,
    /// Mount an empty file system in memory
    #[arg(long, value_name = "PATH[:OPTION,...]")]
    tmpfs: Vec<String>,
    /// Show a device of this machine in the container
    #[arg(long = "device", value_name = "HOST[:CONTAINER[:rwm]]")]
    devices: Vec<String>,
}

impl FileArgs {
    /// Reads them.
    pub fn read(&self) -> Result<Files, CommandError> {
        let tmpfs = |text: &String| {
            TmpfsOptions::parse(text).map_err(|error| CommandError::usage(format!("--tmpfs {text}: {error}")))
        };
        Ok(Files {
            read_only: self.read_only == Some(true),
            tmpfs: self.tmpfs.iter().map(tmpfs).collect::<Result<_, _>>()?,
            devices: self.devices.iter().map(|text| device(text)).collect::<Result<_, _>>()?,
        })
    }
}

fn device(text: &str) -> Result<(PathBuf, PathBuf), CommandError> {
    let bad = |why: &str| CommandError::usage(format!("invalid device specification: {text}: {why}"));
    let is_access = |part: &str| !part.is_empty() && part.bytes().all(|b| b"rwm".contains(&b));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, access) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, access] if is_access(access) => (source, source, access),
        [source, target] => (source, target, "rwm"),
        [source, target, access] if is_access(access) => (source, target, access),
        _ => return Err(bad("it is written HOST[:CONTAINER[:rwm]]")),
    };
    for path in [source, target] {
        if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Err(bad("its paths must be absolute"));
        }
    }
    if !(access.contains('r') && access.contains('w')) {
        return Err(bad("rbuild cannot take reading or writing away from a device")
            .hint("its owner and mode say who may do what; leave the letters out"));
    }
    // Now, and not when it is started: the error is the user's of today.
    if !Path::new(source).exists() {
        return Err(CommandError::new(format!(
            "error gathering device information while adding custom device \"{source}\": no such file or directory"
        )));
    }
    Ok((PathBuf::from(source), PathBuf::from(target)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        let check = |text: &str, source: &str, target: &str| {
            assert_eq!(device(text).map_err(|e| e.text()), Ok((source.into(), target.into())), "{text}");
        };
        check("/dev/null", "/dev/null", "/dev/null");
        check("/dev/null:/dev/x", "/dev/null", "/dev/x");
        check("/dev/null:rw", "/dev/null", "/dev/null");
        check("/dev/null:/dev/x:rwm", "/dev/null", "/dev/x");
        let bad = |text: &str, expect: &str| {
            let error = device(text).unwrap_err().text();
            assert!(error.contains(expect), "{text}: {error}");
        };
        bad("", "absolute");
        bad("null", "absolute");
        bad("/dev/null:x", "absolute");
        bad("/dev/../etc", "absolute");
        bad("/dev/null:/a:/b", "HOST[:CONTAINER[:rwm]]");
        bad("/dev/null:r", "cannot take reading or writing away");
        bad("/dev/no-such-device", "error gathering device information");
    }
}
