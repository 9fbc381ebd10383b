//! File systems in memory with options, as `--tmpfs /run:size=64m,exec` writes them: mount(8), tmpfs(5).
//!
//! Not here: mounting them (`mounts`).

use std::fmt;
use std::path::PathBuf;

use rustix::mount::MountFlags;
use serde::{Deserialize, Serialize};

/// Options that were checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsOptions {
    read_only: bool,
    exec: bool,
    suid: bool,
    no_access_times: bool,
    /// What the file system itself is told.
    data: String,
}

/// Why a text is no `--tmpfs`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TmpfsError {
    #[error("invalid tmpfs mount `{0}`: the mount path must be absolute, and not /")]
    Path(String),
    #[error("Invalid tmpfs option \"{0}\"")]
    Option(String),
}

impl TmpfsOptions {
    /// Reads `PATH[:OPTION,...]`. Without options: `noexec,nosuid,nodev`, as docker has it, open to everybody.
    pub fn parse(text: &str) -> Result<(PathBuf, TmpfsOptions), TmpfsError> {
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        if !path.starts_with('/') || path.trim_matches('/').is_empty() || path.split('/').any(|p| p == "..") {
            return Err(TmpfsError::Path(path.to_owned()));
        }
        let mut parsed = TmpfsOptions {
            read_only: false,
            exec: false,
            suid: false,
            no_access_times: false,
            data: String::new(),
        };
        let mut data: Vec<String> = Vec::new();
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let invalid = || TmpfsError::Option(option.to_owned());
            match option {
                "ro" => parsed.read_only = true,
                "rw" => parsed.read_only = false,
                "exec" => parsed.exec = true,
                "noexec" => parsed.exec = false,
                "suid" => parsed.suid = true,
                "nosuid" => parsed.suid = false,
                "noatime" => parsed.no_access_times = true,
                // What they are without a word.
                "nodev" | "relatime" | "async" | "defaults" => {}
                _ => match option.split_once('=') {
                    Some((name, value)) if fits(name, value) => data.push(option.to_owned()),
                    _ => return Err(invalid()),
                },
            }
        }
        if !data.iter().any(|option| option.starts_with("mode=")) {
            data.push("mode=1777".to_owned());
        }
        parsed.data = data.join(",");
        Ok((PathBuf::from(path), parsed))
    }

    pub(super) fn flags(&self) -> MountFlags {
        let mut flags = MountFlags::NODEV;
        flags.set(MountFlags::NOSUID, !self.suid);
        flags.set(MountFlags::NOEXEC, !self.exec);
        flags.set(MountFlags::RDONLY, self.read_only);
        flags.set(MountFlags::NOATIME, self.no_access_times);
        flags
    }

    pub(super) fn data(&self) -> &str {
        &self.data
    }

    pub(super) fn read_only(&self) -> bool {
        self.read_only
    }
}

/// Writes the options as `--tmpfs` has them; those that hold without a word are left out.
impl fmt::Display for TmpfsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = [
            (self.read_only, "ro"),
            (self.exec, "exec"),
            (self.suid, "suid"),
            (self.no_access_times, "noatime"),
        ];
        let flags = flags.iter().filter(|(set, _)| *set).map(|(_, word)| *word);
        let words: Vec<&str> = flags
            .chain(self.data.split(',').filter(|word| *word != "mode=1777" && !word.is_empty()))
            .collect();
        f.write_str(&words.join(","))
    }
}

fn fits(name: &str, value: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match name {
        "mode" => value.len() <= 5 && !value.is_empty() && value.bytes().all(|b| (b'0'..=b'7').contains(&b)),
        "uid" | "gid" => digits(value),
        "size" | "nr_inodes" | "nr_blocks" => {
            digits(value.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G', '%']))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let check = |text: &str, data: &str, flags: MountFlags| {
            let (path, options) = TmpfsOptions::parse(text).unwrap();
            assert_eq!(path, PathBuf::from("/run"), "{text}");
            assert_eq!((options.data(), options.flags()), (data, flags), "{text}");
        };
        let usual = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
        check("/run", "mode=1777", usual);
        for text in ["", "size=64m,mode=755", "ro,exec,suid,noatime,uid=5"] {
            assert_eq!(TmpfsOptions::parse(&format!("/run:{text}")).unwrap().1.to_string(), text);
        }
        check("/run:", "mode=1777", usual);
        check("/run:rw,size=64m,mode=755,uid=5", "size=64m,mode=755,uid=5", usual);
        check("/run:exec,suid,nodev", "mode=1777", MountFlags::NODEV);
        check(
            "/run:ro,noatime,size=50%",
            "size=50%,mode=1777",
            usual | MountFlags::RDONLY | MountFlags::NOATIME,
        );
        for bad in ["/run:dev", "/run:size=", "/run:size=1x", "/run:mode=9", "/run:a", "/run:huge=always"] {
            let error = TmpfsOptions::parse(bad).unwrap_err().to_string();
            assert!(error.starts_with("Invalid tmpfs option"), "{bad}: {error}");
        }
        for bad in ["", "run", "/", "//", "/a/../.."] {
            assert!(matches!(TmpfsOptions::parse(bad), Err(TmpfsError::Path(_))), "{bad}");
        }
    }
}
