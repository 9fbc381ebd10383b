//! A tree written as tar and unpacked again is the same tree.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};

use crate::image::Digest;
use crate::sys::RootDir;
use crate::sys::copy::set_times_at;
use crate::sys::xattr::{self, Target};

use super::test_archive::{is_root, is_user_0, marks};
use super::{
    DigestOptions, LayerDigests, Times, UnpackOptions, digest_layer, inherit_root, unpack, write_layer,
};

fn new_root() -> (tempfile::TempDir, RootDir) {
    let dir = tempfile::tempdir().unwrap();
    let root = RootDir::open(dir.path()).unwrap();
    if is_user_0() {
        inherit_root(None, &root, marks()).unwrap();
    } else {
        rustix::fs::fchmod(&root, Mode::from_raw_mode(0o755)).unwrap();
    }
    (dir, root)
}

/// All times count: none is as late as this.
const EXACT: Times = Times::Now { from: (i64::MAX, 0), until: (i64::MAX, 0) };

fn digest(root: &RootDir, times: Times) -> LayerDigests {
    digest_layer(root, &DigestOptions { xattrs: marks(), times, below: None }).unwrap()
}

fn tar_of(root: &RootDir) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_layer(root, marks(), &mut bytes).unwrap();
    bytes
}

#[derive(Debug, Clone)]
enum Make {
    File(Vec<u8>),
    Sparse(u64),
    Dir { opaque: bool },
    Symlink(Vec<u8>),
    HardLink(usize),
    Fifo,
    Device(u32, u32),
    Whiteout,
    Socket,
}

#[derive(Debug, Clone)]
struct Spec {
    /// Which earlier directory it goes into.
    parent: usize,
    name: Vec<u8>,
    make: Make,
    mode: u32,
    owner: (u32, u32),
    mtime: i64,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

fn spec() -> impl Strategy<Value = Spec> {
    let byte = any::<u8>().prop_map(|b| if b == 0 || b == b'/' { b'_' } else { b });
    let name = prop_oneof![
        "[a-c]{1,2}".prop_map(String::into_bytes),
        proptest::collection::vec(byte, 1..12),
        "[x]{90,255}".prop_map(String::into_bytes),
    ];
    let name = name.prop_filter("no name", |n| n != b"." && n != b".." && !n.starts_with(b".wh."));
    let make = prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..1500).prop_map(Make::File),
        1 => (1u64..400_000).prop_map(Make::Sparse),
        4 => any::<bool>().prop_map(|opaque| Make::Dir { opaque }),
        2 => "[a-z/.]{1,150}".prop_map(|t| Make::Symlink(t.into_bytes())),
        2 => any::<usize>().prop_map(Make::HardLink),
        1 => Just(Make::Fifo),
        1 => (1u32..4096, 0u32..1 << 20).prop_map(|(a, b)| Make::Device(a, b)),
        1 => Just(Make::Whiteout),
        1 => Just(Make::Socket),
    ];
    let id = prop_oneof![Just(0u32), 0..100_000u32, Just(u32::MAX - 1)];
    let mtime = prop_oneof![Just(0i64), 0..2_000_000_000i64, -1000..0i64, Just(9_000_000_000)];
    let value = proptest::collection::vec(any::<u8>(), 0..40);
    let xattrs = proptest::collection::vec(("user\\.[a-z]{1,8}".prop_map(String::into_bytes), value), 0..3);
    let mode = 0u32..0o10000;
    (any::<usize>(), name, make, mode, (id.clone(), id), mtime, xattrs).prop_map(
        |(parent, name, make, mode, owner, mtime, xattrs)| Spec {
            parent,
            name,
            make,
            mode,
            owner,
            mtime,
            xattrs,
        },
    )
}

/// Makes the tree; names that are taken are left out.
fn build(root: &RootDir, specs: &[Spec]) {
    let mut dirs = vec![PathBuf::new()];
    let mut files: Vec<PathBuf> = Vec::new();
    let mut made: Vec<(PathBuf, &Spec)> = Vec::new();
    for spec in specs {
        let path = dirs[spec.parent % dirs.len()].join(OsStr::from_bytes(&spec.name));
        let result = match &spec.make {
            Make::File(bytes) => {
                root.create_file(&path, 0o600).map(|fd| crate::sys::copy::write_all(fd, bytes).unwrap())
            }
            Make::Sparse(size) => root.create_file(&path, 0o600).map(|fd| {
                rustix::fs::ftruncate(&fd, *size).unwrap();
                crate::sys::copy::write_all(fd, b"start").unwrap();
            }),
            Make::Dir { .. } => root.create_dir(&path, 0o700),
            Make::Symlink(target) => root.symlink(OsStr::from_bytes(target), &path),
            Make::HardLink(_) if files.is_empty() => continue,
            Make::HardLink(i) => {
                // It has the first name's metadata.
                let _ = root.hard_link(&files[i % files.len()], &path);
                continue;
            }
            Make::Fifo => root.make_node(&path, FileType::Fifo, 0o600, 0),
            Make::Device(..) if !is_root() => continue,
            Make::Device(a, b) => {
                root.make_node(&path, FileType::CharacterDevice, 0o600, rustix::fs::makedev(*a, *b))
            }
            Make::Whiteout => {
                let _ = root.make_node(&path, FileType::CharacterDevice, 0, 0);
                continue;
            }
            Make::Socket => {
                let _ = root.make_node(&path, FileType::Socket, 0o600, 0);
                continue;
            }
        };
        if result.is_err() {
            continue;
        }
        match spec.make {
            Make::Dir { opaque } => {
                if opaque {
                    let fd = root.open_dir(&path).unwrap();
                    xattr::set(xattr::of(&fd), marks().opaque().as_bytes(), b"y").unwrap();
                }
                dirs.push(path.clone());
            }
            _ => files.push(path.clone()),
        }
        made.push((path, spec));
    }
    // Children first: making them changes their directory's time, and a closed one lets nobody in.
    for (path, spec) in made.iter().rev() {
        let (parent, name) = root.parent_and_name(path).unwrap();
        if is_root() {
            let (uid, gid) = (Uid::from_raw(spec.owner.0), Gid::from_raw(spec.owner.1));
            rustix::fs::chownat(&parent, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
        for (key, value) in &spec.xattrs {
            xattr::try_set(Target::Name(parent.as_fd(), &name), key, value).unwrap();
        }
        if !matches!(spec.make, Make::Symlink(_)) {
            // An ordinary user must be able to read the tree again.
            let mode = if is_root() { spec.mode } else { spec.mode & 0o1777 | 0o700 };
            rustix::fs::chmodat(&parent, &name, Mode::from_raw_mode(mode), AtFlags::empty()).unwrap();
        }
        set_times_at(&parent, &name, spec.mtime, 0).unwrap();
    }
    set_times_at(root.fd(), ".", 1_000_000_000, 0).unwrap();
}

fn check_round_trip(specs: &[Spec]) {
    let (_one, root) = new_root();
    build(&root, specs);
    let before = digest(&root, EXACT);
    let tar = tar_of(&root);
    assert_eq!(Digest::of(&tar), before.diff_id.0);
    assert_eq!(tar.len() as u64, before.tar_size);
    let (_two, copy) = new_root();
    let done = unpack(&tar[..], &copy, &UnpackOptions::layer(marks())).unwrap();
    assert_eq!(done.left_out.devices, 0);
    assert_eq!(done.bytes, before.file_bytes);
    set_times_at(copy.fd(), ".", 1_000_000_000, 0).unwrap();
    assert_eq!(digest(&copy, EXACT), before);
    // An independent reader sees the same names (where its own rules let it).
    let mut archive = tar::Archive::new(&tar[..]);
    assert!(archive.entries().unwrap().all(|entry| entry.is_ok()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn trees_survive(specs in proptest::collection::vec(spec(), 0..25)) {
        check_round_trip(&specs);
    }
}

fn file(parent: usize, name: &str, make: Make, mode: u32) -> Spec {
    Spec {
        parent,
        name: name.into(),
        make,
        mode,
        owner: (1000, 50),
        mtime: 1_500_000_000,
        xattrs: Vec::new(),
    }
}

fn sample() -> Vec<Spec> {
    vec![
        file(0, "etc", Make::Dir { opaque: true }, 0o755),
        file(1, "passwd", Make::File(b"root:x:0:0::/:\n".to_vec()), 0o644),
        file(1, "hard", Make::HardLink(0), 0),
        file(1, "gone", Make::Whiteout, 0),
        file(0, "link", Make::Symlink(b"/etc/passwd".to_vec()), 0o777),
        file(0, &"n".repeat(120), Make::File(vec![9; 1000]), 0o4755),
        file(0, "line\nbreak \u{e4}", Make::File(Vec::new()), 0o600),
        file(0, "pipe", Make::Fifo, 0o622),
        Spec {
            xattrs: vec![(b"user.note".to_vec(), b"a\nb\0c".to_vec())],
            ..file(0, "noted", Make::File(b"x".to_vec()), 0o600)
        },
    ]
}

/// The DiffID of a fixed tree: images are named by it, so it must never change.
#[test]
fn a_fixed_tree_has_a_fixed_diff_id() {
    if !is_root() {
        eprintln!("skipped: only root can give files away");
        return;
    }
    let (_dir, root) = new_root();
    build(&root, &sample());
    let digests = digest(&root, Times::Now { from: (1_500_000_001, 0), until: (i64::MAX, 0) });
    assert_eq!(
        digests.diff_id.to_string(),
        "sha256:be8301e92b2d3d26b285c5720dc40dac24dcfd69a1d24b43e68a17e9c95d379b"
    );
    assert_eq!(
        digests.content.to_string(),
        "sha256:4530c2c72a5c56691c0fa96e755d7ab22e47be1c7f78d377ba2a6088c5bab4a1"
    );
    assert_eq!((digests.entries, digests.file_bytes), (10, 1016));
}

/// What tar(1) lists, type, size and name of each entry.
#[test]
fn tar_reads_what_is_written() {
    let (dir, root) = new_root();
    build(&root, &sample());
    let path = dir.path().join("out.tar");
    let bytes = tar_of(&root);
    fs::write(&path, bytes).unwrap();
    let listed =
        Command::new("tar").arg("--numeric-owner").arg("-tvf").arg(&path).env("LC_ALL", "C").output();
    let listed = listed.expect("tar(1) is part of every system");
    assert!(listed.status.success() && listed.stderr.is_empty(), "{listed:?}");
    let text = String::from_utf8(listed.stdout).unwrap();
    for words in [
        "etc/",
        ".wh..wh..opq",
        "etc/.wh.gone",
        "etc/passwd link to etc/hard",
        "line\\nbreak",
        "link -> /etc/passwd",
    ] {
        assert!(text.contains(words), "`{words}` is not in\n{text}");
    }
    // The directory of an ordinary user does not belong to root, which is a change.
    assert_eq!(text.lines().count(), 10 + usize::from(!is_user_0()));
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let (_one, first) = new_root();
    let (_two, second) = new_root();
    build(&first, &sample());
    build(&second, &sample());
    assert!(tar_of(&first) == tar_of(&second));
    // Sockets are no part of a layer; a name that means a deleted file is refused.
    first.make_node(Path::new("socket"), FileType::Socket, 0o600, 0).unwrap();
    set_times_at(first.fd(), ".", 1_000_000_000, 0).unwrap();
    assert!(tar_of(&first) == tar_of(&second));
    first.create_file(Path::new("etc/.wh.x"), 0o600).unwrap();
    let error = write_layer(&first, marks(), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("`etc/.wh.x`"), "{error}");
}

/// The top directory is written only where it is not what the layer started with.
#[test]
fn the_top_is_written_when_it_changed() {
    let empty = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    if !is_user_0() {
        eprintln!("skipped: only root has a root directory that belongs to root");
        return;
    }
    let (_base, base) = new_root();
    assert_eq!(digest(&base, EXACT).diff_id.to_string(), empty);
    rustix::fs::fchmod(&base, Mode::from_raw_mode(0o700)).unwrap();
    xattr::set(xattr::of(&base), b"user.x", b"1").unwrap();
    assert_eq!(digest(&base, EXACT).entries, 1);
    let dir = tempfile::tempdir().unwrap();
    let upper = RootDir::open(dir.path()).unwrap();
    inherit_root(Some(&base), &upper, marks()).unwrap();
    assert_eq!(upper.stat(Path::new(""), true).unwrap().mode, 0o700);
    assert_eq!(digest(&upper, EXACT).diff_id.to_string(), empty);
    // Back to what would be usual is a change here.
    rustix::fs::fchmod(&upper, Mode::from_raw_mode(0o755)).unwrap();
    assert_eq!(digest(&upper, EXACT).entries, 1);
}

#[test]
fn attributes_of_overlay_and_host_are_left_out() {
    let (_dir, root) = new_root();
    let fd = root.create_file(Path::new("f"), 0o644).unwrap();
    let plain = digest(&root, Times::Ignore).content;
    xattr::set(xattr::of(&fd), b"user.overlay.origin", b"x").unwrap();
    assert_eq!(digest(&root, Times::Ignore).content, plain);
    if is_root() {
        xattr::set(xattr::of(&fd), b"trusted.overlay.opaque", b"y").unwrap();
        assert_eq!(digest(&root, Times::Ignore).content, plain);
    }
    xattr::set(xattr::of(&fd), b"user.mine", b"x").unwrap();
    assert_ne!(digest(&root, Times::Ignore).content, plain);
}

/// Directories deeper than PATH_MAX and than the limit of open files.
#[test]
fn deep_trees_are_walked() {
    let (_dir, root) = new_root();
    let mut at = root.try_clone().unwrap();
    for _ in 0..2200 {
        at.create_dir(Path::new("dd"), 0o755).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        at = RootDir::from_fd(
            crate::sys::root_dir::open_no_follow(at.fd(), "dd", flags, Mode::empty()).unwrap(),
        );
    }
    let digests = digest(&root, Times::Ignore);
    assert_eq!(digests.entries, 2200 + u64::from(!is_user_0()));
    // Such a tree cannot be unpacked by anyone: that is said, not tried.
    let (_copy, copy) = new_root();
    let error = unpack(&tar_of(&root)[..], &copy, &UnpackOptions::layer(marks())).unwrap_err();
    assert!(error.to_string().contains("4095"), "{error}");
    root.remove_all(Path::new("dd")).unwrap();
}

#[test]
fn capabilities_come_through() {
    if !is_user_0() {
        eprintln!("skipped: only root can set file capabilities");
        return;
    }
    let (_dir, root) = new_root();
    let fd = root.create_file(Path::new("ping"), 0o755).unwrap();
    let mut value = 0x0200_0001u32.to_le_bytes().to_vec();
    value.extend([0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    xattr::set(xattr::of(&fd), b"security.capability", &value).unwrap();
    let (_copy, copy) = new_root();
    unpack(&tar_of(&root)[..], &copy, &UnpackOptions::layer(marks())).unwrap();
    let read = copy.open_at(Path::new("ping"), OFlags::RDONLY, Mode::empty()).unwrap();
    assert_eq!(xattr::get(xattr::of(&read), b"security.capability").unwrap(), Some(value));
}

/// What the kernel shows of an unpacked layer: the whiteouts work.
#[test]
fn overlayfs_understands_an_unpacked_layer() {
    if !is_root() {
        eprintln!("skipped: only root mounts without a user namespace");
        return;
    }
    let (lower_dir, lower) = new_root();
    for (dir, file) in [("a", "a/x"), ("b", "b/y"), ("c", "c/z")] {
        lower.create_dir(Path::new(dir), 0o755).unwrap();
        lower.create_file(Path::new(file), 0o644).unwrap();
    }
    let (upper_dir, upper) = new_root();
    let tar = super::test_archive::Archive::new()
        .file(".wh.a", b"")
        .file("b/new", b"")
        .file("b/.wh..wh..opq", b"")
        .file("c/.wh.z", b"")
        .file(".wh.c2", b"")
        .end();
    unpack(&tar[..], &upper, &UnpackOptions::layer(marks())).unwrap();
    let layers = [upper_dir.path().to_owned(), lower_dir.path().to_owned()];
    let view = RootDir::from_fd(crate::sys::overlay::mount_view(&layers, marks()).unwrap());
    let names = |path: &str| -> Vec<_> {
        view.entries(Path::new(path)).unwrap().into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(""), ["b", "c"]);
    assert_eq!(names("b"), ["new"]);
    assert!(names("c").is_empty());
    // And what was unpacked is written again as the same changes.
    let again = tar_of(&upper);
    let (_copy, copy) = new_root();
    unpack(&again[..], &copy, &UnpackOptions::layer(marks())).unwrap();
    assert_eq!(digest(&copy, Times::Ignore).content, digest(&upper, Times::Ignore).content);
}

/// Each form tar(1) writes gives the same tree, sparse files included.
#[test]
fn what_tar_writes_is_read() {
    let (source_dir, source) = new_root();
    let (name, dir) = ("n".repeat(180), "d".repeat(150));
    source.create_dir(Path::new(&dir), 0o755).unwrap();
    source.create_file(&Path::new(&dir).join(&name), 0o640).unwrap();
    let sparse = source.create_file(Path::new("sparse"), 0o600).unwrap();
    rustix::fs::ftruncate(&sparse, 5 << 20).unwrap();
    rustix::fs::seek(&sparse, rustix::fs::SeekFrom::Start(3 << 20)).unwrap();
    crate::sys::copy::write_all(&sparse, b"data").unwrap();
    source.hard_link(Path::new("sparse"), Path::new("twin")).unwrap();
    source.symlink(OsStr::new(&name), Path::new("link")).unwrap();
    source.make_node(Path::new("fifo"), FileType::Fifo, 0o600, 0).unwrap();
    let expect = digest(&source, Times::Ignore);
    for format in [
        &["--format=gnu"][..],
        &["--format=oldgnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let made = Command::new("tar")
            .args(["-C".as_ref(), source_dir.path().as_os_str()])
            .args(format)
            .args(["-S", "-c", "."])
            .output();
        let made = made.expect("tar(1) is part of every system");
        let (_dir, copy) = new_root();
        unpack(&made.stdout[..], &copy, &UnpackOptions::files(marks())).unwrap();
        assert_eq!(digest(&copy, Times::Ignore).content, expect.content, "{format:?}");
        let copied = copy.stat(Path::new("sparse"), false).unwrap();
        assert!(copied.blocks * 512 < 1 << 20, "{format:?}: the hole was filled");
    }
}
