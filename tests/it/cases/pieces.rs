//! The context of a case, made from the sections of its file.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::SystemTime;

use super::case::Case;
use super::case::Piece;
use super::case::unescape_bytes;
use super::listing::OLD;
use crate::common::Context;
use crate::common::TestEnv;

/// Adds what one section describes.
pub fn add<'e>(env: &TestEnv, context: Context<'e>, piece: &Piece, case: &Case) -> Context<'e> {
    let word = |index: usize| {
        piece
            .words
            .get(index)
            .map(String::as_str)
            .unwrap_or_else(|| panic!("{}: -- {} ?", case.name, piece.kind))
    };
    match piece.kind.as_str() {
        "Dockerfile" => context.file("Dockerfile", &piece.body),
        "file" => {
            let context = context.file_with_mode(word(0), piece.mode(1, 0o644), &piece.body);
            set_time(&context.at(word(0)), piece.time());
            context
        }
        "dir" => context.dir_with_mode(word(0), piece.mode(1, 0o755)),
        "link" => context.link(word(0), word(2)),
        "hardlink" => context.hard_link(word(0), word(2)),
        "fifo" => context.fifo(word(0)),
        "socket" => context.socket(word(0)),
        "xattr" => {
            let (name, value) = word(1).split_once('=').expect("NAME=VALUE");
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(context.at(word(0)), name, value.as_bytes(), flags)
                .unwrap_or_else(|e| panic!("{}: setxattr {name}: {e}", case.name));
            context
        }
        "tar" => {
            let packed = pack(&tar(piece, case), piece.words.get(1).map(String::as_str));
            context.file(word(0), packed)
        }
        other => panic!("{}: no section is called `{other}` ({})", case.name, env.dir().display()),
    }
}

/// Gives all links and files that have no time of their own an old one: what the build makes is newer.
pub fn age(context: &Context) {
    for entry in walkdir::WalkDir::new(context.path()).contents_first(true) {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        let recent = meta.modified().unwrap() > SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        if recent {
            set_time(entry.path().to_str().unwrap(), OLD);
        }
    }
}

fn set_time(path: &str, seconds: u64) {
    let time = rustix::fs::Timespec { tv_sec: i64::try_from(seconds).unwrap(), tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).unwrap();
}

/// An archive from lines: `KIND NAME [MODE] [UID:GID] ["CONTENT"]`, `link NAME -> TARGET`,
/// `hardlink NAME = EXISTING [MODE] [UID:GID]`, `xattr KEY=VALUE` for the entry that follows.
fn tar(piece: &Piece, case: &Case) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for line in String::from_utf8(piece.body.clone()).unwrap().lines() {
        let (line, content) = match line.split_once(" \"") {
            Some((line, content)) => {
                (line, unescape_bytes(content.strip_suffix('"').expect("a quote at the end")))
            }
            None => (line, Vec::new()),
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        if words[0] == "xattr" {
            let (name, value) = words[1].split_once('=').expect("NAME=VALUE");
            let record = format!("SCHILY.xattr.{name}");
            builder.append_pax_extensions([(record.as_str(), value.as_bytes())]).unwrap();
            continue;
        }
        let kind = match words[0] {
            "dir" => tar::EntryType::Directory,
            "file" => tar::EntryType::Regular,
            "link" => tar::EntryType::Symlink,
            "hardlink" => tar::EntryType::Link,
            "fifo" => tar::EntryType::Fifo,
            "char" => tar::EntryType::Char,
            other => panic!("{}: a tar has no `{other}`", case.name),
        };
        let ids = words.iter().skip(2).find_map(|w| w.split_once(':'));
        let (uid, gid) = ids.map_or((0, 0), |(u, g)| (u.parse().unwrap(), g.parse().unwrap()));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        let is_mode = |w: &&&str| w.len() >= 3 && w.bytes().all(|b| (b'0'..b'8').contains(&b));
        let mode = words.iter().skip(2).find(is_mode).and_then(|w| u32::from_str_radix(w, 8).ok());
        header.set_mode(mode.unwrap_or(0o644));
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_mtime(OLD);
        header.set_size(content.len() as u64);
        let old = header.as_old_mut();
        old.name[..words[1].len()].copy_from_slice(words[1].as_bytes());
        if matches!(words[0], "link" | "hardlink") {
            old.linkname[..words[3].len()].copy_from_slice(words[3].as_bytes());
        }
        header.set_cksum();
        builder.append(&header, content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn pack(bytes: &[u8], how: Option<&str>) -> Vec<u8> {
    let program: &[&str] = match how {
        None => return bytes.to_vec(),
        Some("gz") => &["gzip", "-nc"],
        Some("bz2") => &["bzip2", "-c"],
        Some("xz") => &["xz", "-c"],
        Some("zst") => &["zstd", "-qc"],
        Some(other) => panic!("no packer is called `{other}`"),
    };
    let mut child = Command::new(program[0])
        .args(&program[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", program[0]));
    // The archives are smaller than a pipe's buffer.
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success() && Path::new(program[0]).is_relative());
    done.stdout
}
