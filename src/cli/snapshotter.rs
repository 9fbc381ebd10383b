//! `--snapshotter`: how layers are merged for the steps of a build and for containers.

use clap::Args;

use super::error::CommandError;
use crate::sys::Snapshotter;

/// The option, of every command that may merge layers.
#[derive(Debug, Clone, Args)]
pub struct SnapshotterOption {
    /// How layers are merged: overlay, fuse-overlayfs, copy; or auto
    ///
    /// Without it: $RBUILD_SNAPSHOTTER; else auto, which takes the first that works. See `rbuild doctor`.
    #[arg(long, global = true, value_name = "NAME", help_heading = "Global options")]
    pub snapshotter: Option<String>,
}

impl SnapshotterOption {
    /// Returns what is asked for, here or else by `variable`; `None` is whichever works.
    pub fn wish(&self, variable: Option<String>) -> Result<Option<Snapshotter>, CommandError> {
        let word = self.snapshotter.clone().or(variable.filter(|word| !word.is_empty()));
        word.map_or(Ok(None), |word| read(&word))
    }
}

fn read(word: &str) -> Result<Option<Snapshotter>, CommandError> {
    if word == "auto" {
        return Ok(None);
    }
    Snapshotter::parse(word).map(Some).ok_or_else(|| {
        let known: Vec<&str> = Snapshotter::ALL.iter().map(|snapshotter| snapshotter.as_str()).collect();
        CommandError::new(format!("unknown snapshotter `{word}`"))
            .hint(format!("there are {}, and auto", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(read("auto").unwrap(), None);
        assert_eq!(read("copy").unwrap(), Some(Snapshotter::Copy));
        assert!(read("zfs").is_err());
    }
}
