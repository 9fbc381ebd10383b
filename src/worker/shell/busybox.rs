//! A static busybox of this machine, which stands in for the shell that an image lacks.
//!
//! Not here: where the environment says it is (`cli`), how a shell gets it (`tools`).

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where distributions put it: `busybox-static` of Debian and of Alpine, `busybox` of Fedora.
const PLACES: [&str; 6] = [
    "/bin/busybox",
    "/usr/bin/busybox",
    "/bin/busybox.static",
    "/usr/bin/busybox.static",
    "/sbin/busybox",
    "/usr/sbin/busybox",
];

/// The most bytes of its list of commands that are read; that of version 1.36 has 3 kB.
const MAX_LIST: u64 = 64 << 10;
/// The most program headers that are looked at; elf(5) has a sixteen bit number of them.
const MAX_HEADERS: u16 = 128;
/// The program headers that say: this one is run by another program.
const PT_INTERP: u32 = 3;

/// A program that was found to be static, and the names of its commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busybox {
    pub path: PathBuf,
    /// Without itself; `sh` is among them.
    pub commands: Vec<String>,
}

/// There is no shell in the image, and nothing to stand in for it on this machine.
#[derive(Debug, thiserror::Error)]
#[error("the image has no shell, and this machine has no static busybox to stand in for it")]
pub struct NoBusybox;

impl NoBusybox {
    /// What to do next.
    pub const HINT: &str = "install the package `busybox-static` (`busybox` on Fedora), or name a statically linked busybox with RBUILD_BUSYBOX";
}

/// Says why a program that was named cannot stand in for a shell.
#[derive(Debug, thiserror::Error)]
pub enum BadBusybox {
    #[error("cannot read `{}`", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    #[error("`{}` is not a statically linked program for this processor", .0.display())]
    NotStatic(PathBuf),
    #[error("`{} --list` does not name `sh`: it is no busybox", .0.display())]
    NoShell(PathBuf),
}

impl Busybox {
    /// Finds one where distributions put it; `None` where there is none that is static.
    pub fn find() -> Option<Busybox> {
        PLACES.iter().find_map(|place| Busybox::at(Path::new(place)).ok())
    }

    /// Looks at one that was named.
    pub fn at(path: &Path) -> Result<Busybox, BadBusybox> {
        let failed = |error| BadBusybox::Read(path.to_owned(), error);
        let file = File::open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() || !is_static(&file) {
            return Err(BadBusybox::NotStatic(path.to_owned()));
        }
        let commands = list(path).map_err(failed)?;
        match commands.iter().any(|name| name == "sh") {
            true => Ok(Busybox { path: path.to_owned(), commands }),
            false => Err(BadBusybox::NoShell(path.to_owned())),
        }
    }
}

fn list(path: &Path) -> std::io::Result<Vec<String>> {
    let mut command = Command::new(path);
    command.arg("--list").env_clear().stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut text = Vec::new();
    let read = child.stdout.take().map_or(Ok(0), |out| out.take(MAX_LIST).read_to_end(&mut text));
    let _ = child.kill();
    child.wait()?;
    read?;
    let text = String::from_utf8_lossy(&text);
    let is_plain = |name: &&str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"[-_.".contains(&b))
    };
    Ok(text
        .lines()
        .filter(is_plain)
        .filter(|name| !matches!(*name, "busybox" | "." | ".."))
        .map(str::to_owned)
        .collect())
}

/// Tells whether a file is a program of 64 bits for this machine that needs no other to run: elf(5).
fn is_static(file: &File) -> bool {
    let mut head = [0u8; 64];
    let mut own = [0u8; 64];
    let ours = File::open("/proc/self/exe").and_then(|file| file.read_exact_at(&mut own, 0));
    if file.read_exact_at(&mut head, 0).is_err() || ours.is_err() {
        return false;
    }
    // Magic, class and byte order, and the processor.
    if &head[..4] != b"\x7fELF" || head[4] != 2 || head[4..6] != own[4..6] || head[18..20] != own[18..20] {
        return false;
    }
    let offset = u64::from_ne_bytes(head[32..40].try_into().unwrap_or_default());
    let size = u16::from_ne_bytes([head[54], head[55]]);
    let count = u16::from_ne_bytes([head[56], head[57]]);
    if size < 4 || count == 0 || count > MAX_HEADERS {
        return false;
    }
    (0..u64::from(count)).all(|number| {
        let mut kind = [0u8; 4];
        let at = offset.checked_add(number * u64::from(size));
        at.is_some_and(|at| file.read_exact_at(&mut kind, at).is_ok())
            && u32::from_ne_bytes(kind) != PT_INTERP
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file of so many program headers of these kinds.
    fn elf(kinds: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        let own = std::fs::read("/proc/self/exe").unwrap();
        bytes[..20].copy_from_slice(&own[..20]);
        bytes[32..40].copy_from_slice(&64u64.to_ne_bytes());
        bytes[54..56].copy_from_slice(&56u16.to_ne_bytes());
        bytes[56..58].copy_from_slice(&(kinds.len() as u16).to_ne_bytes());
        for kind in kinds {
            bytes.extend(kind.to_ne_bytes());
            bytes.resize(bytes.len() + 52, 0);
        }
        bytes
    }

    #[track_caller]
    fn check(bytes: &[u8], expect: bool) {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        assert_eq!(is_static(&file), expect);
    }

    #[test]
    fn static_programs_are_told_from_others() {
        check(&elf(&[1, 1, 6]), true);
        check(&elf(&[1, PT_INTERP, 1]), false);
        check(&elf(&[]), false);
        check(b"#!/bin/sh\n", false);
        check(b"", false);
        let mut torn = elf(&[1, 1]);
        torn.truncate(80);
        check(&torn, false);
        let mut other = elf(&[1]);
        other[18] ^= 0x55;
        check(&other, false);
        let mut far = elf(&[1]);
        far[32..40].copy_from_slice(&u64::MAX.to_ne_bytes());
        check(&far, false);
    }

    #[test]
    fn what_is_named_is_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let refused = |path: &Path| Busybox::at(path).unwrap_err().to_string();
        assert!(refused(&directory.path().join("none")).contains("cannot read"));
        assert!(refused(directory.path()).contains("not a statically linked program"));
        assert!(refused(Path::new("/etc/passwd")).contains("not a statically linked program"));
        // The tests need one, too: the package busybox-static.
        let found = Busybox::find().unwrap();
        assert!(
            found.commands.iter().any(|name| name == "ls") && !found.commands.contains(&"busybox".to_owned())
        );
    }
}
