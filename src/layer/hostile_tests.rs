//! Archives that try to get out, to hide files, to hang or to fill the machine.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::sys::RootDir;
use crate::sys::xattr;

use super::test_archive::{Archive, Header, is_root, marks, seal};
use super::{Limits, UnpackOptions, Unpacked, unpack};

/// A directory to unpack into, with a file next to it that must stay as it is.
struct Cell {
    outer: tempfile::TempDir,
}

impl Cell {
    fn new() -> Cell {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir_all(outer.path().join("x/y/root")).unwrap();
        fs::write(outer.path().join("EVIL"), "untouched").unwrap();
        fs::write(outer.path().join("secret"), "secret").unwrap();
        Cell { outer }
    }

    fn root(&self) -> PathBuf {
        self.outer.path().join("x/y/root")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    fn unpack(&self, bytes: &[u8], options: &UnpackOptions) -> Result<Unpacked, String> {
        let into = RootDir::open(&self.root()).unwrap();
        let result = unpack(bytes, &into, options).map_err(|e| e.to_string());
        self.assert_nothing_outside();
        result
    }

    fn layer(&self, bytes: &[u8]) -> Result<Unpacked, String> {
        self.unpack(bytes, &UnpackOptions::layer(marks()))
    }

    fn files(&self, bytes: &[u8]) -> Result<Unpacked, String> {
        self.unpack(bytes, &UnpackOptions::files(marks()))
    }

    fn assert_nothing_outside(&self) {
        let names = |path: &Path| {
            let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(self.outer.path()), ["EVIL", "secret", "x"]);
        assert_eq!(names(&self.outer.path().join("x")), ["y"]);
        assert_eq!(names(&self.outer.path().join("x/y")), ["root"]);
        assert_eq!(fs::read(self.outer.path().join("EVIL")).unwrap(), b"untouched");
        assert_eq!(fs::metadata(self.outer.path().join("secret")).unwrap().nlink(), 1);
    }
}

fn fails_with(result: Result<Unpacked, String>, words: &str) {
    let error = result.expect_err(words);
    assert!(error.contains(words), "`{error}` does not say `{words}`");
}

/// CVE-2026-28406 and the like: names that climb are clamped, as in a chroot.
#[test]
fn names_are_clamped_inside() {
    for name in ["../EVIL", "../../../EVIL", "/EVIL", "a/../../b/../../EVIL", "//..//./EVIL", "./EVIL"] {
        let cell = Cell::new();
        cell.layer(&Archive::new().file(name, b"x").end()).unwrap();
        assert_eq!(fs::read(cell.path("EVIL")).unwrap(), b"x", "{name}");
    }
}

/// CVE-2026-17106 and the like: a link, then a file through it.
#[test]
fn files_do_not_go_through_links_that_lead_out() {
    let through = |target: &str, name: &str| Archive::new().symlink("l", target).file(name, b"x").end();
    for (target, name) in
        [("../../..", "l/EVIL"), ("..", "l/EVIL"), ("../../../x", "l/y/EVIL"), ("a/../../..", "l/EVIL")]
    {
        let cell = Cell::new();
        // Below a directory, so that the link's climb starts deeper.
        fs::create_dir(cell.path("a")).unwrap();
        fails_with(cell.layer(&through(target, name)), "link that leads out");
    }
    // An absolute link starts at the root: inside.
    let cell = Cell::new();
    cell.layer(&through("/run", "l/file")).unwrap();
    assert_eq!(fs::read(cell.path("run/file")).unwrap(), b"x");
    // Two links that only together lead out.
    let cell = Cell::new();
    let chain = Archive::new()
        .dir("d/")
        .symlink("d/up", "..")
        .symlink("d/out", "up/d/up/..")
        .file("d/out/EVIL", b"x");
    fails_with(cell.layer(&chain.end()), "link that leads out");
    // A link in the place of a file is replaced, not followed.
    let cell = Cell::new();
    cell.layer(&through("../../../EVIL", "l")).unwrap();
    assert!(fs::symlink_metadata(cell.path("l")).unwrap().is_file());
    // The same for directories and their metadata.
    let cell = Cell::new();
    cell.layer(&Archive::new().symlink("l", "../../..").dir("l/").file("l/EVIL", b"x").end()).unwrap();
    assert_eq!(fs::read(cell.path("l/EVIL")).unwrap(), b"x");
    // A loop is an error.
    let cell = Cell::new();
    assert!(cell.layer(&Archive::new().symlink("l", "l").file("l/x", b"x").end()).is_err());
}

#[test]
fn hard_links_stay_inside() {
    let cell = Cell::new();
    for target in ["../../../secret", "../secret"] {
        fails_with(cell.layer(&Archive::new().hard_link("h", target).end()), "is outside the archive");
    }
    let outside = cell.outer.path().join("secret");
    fails_with(
        cell.layer(&Archive::new().hard_link("h", outside.to_str().unwrap()).end()),
        "does not come before",
    );
    let through = Archive::new().symlink("l", "../../..").hard_link("h", "l/secret").end();
    fails_with(cell.layer(&through), "is outside the archive");
    // A hard link to a link is a second name of the link.
    let cell = Cell::new();
    cell.layer(&Archive::new().symlink("l", "../../../secret").hard_link("h", "l").end()).unwrap();
    assert!(fs::symlink_metadata(cell.path("h")).unwrap().is_symlink());
    let cell = Cell::new();
    fails_with(cell.layer(&Archive::new().hard_link("h", "lost").end()), "does not come before");
    fails_with(cell.layer(&Archive::new().dir("d").hard_link("h", "d").end()), "is a directory");
    fails_with(cell.layer(&Archive::new().file(".wh.w", b"").hard_link("h", "w").end()), "is a deleted file");
    // Absolute names of targets start at the root; a link to itself changes nothing.
    let cell = Cell::new();
    let same =
        Archive::new().file("f", b"x").hard_link("h", "/f").hard_link("f", "f").hard_link("h", "./f").end();
    cell.layer(&same).unwrap();
    assert_eq!(fs::metadata(cell.path("f")).unwrap().nlink(), 2);
}

/// CVE-2021-29136: the top of an archive is no link and no file.
#[test]
fn the_top_is_a_directory() {
    for name in [".", "./", "/", "a/.."] {
        let cell = Cell::new();
        fails_with(cell.layer(&Archive::new().symlink(name, "/etc").end()), "can only be a directory");
    }
    let cell = Cell::new();
    let top = Header { name: b"./", flag: b'5', mode: 0o700, ..Header::default() };
    cell.layer(&Archive::new().header(top).end()).unwrap();
    assert_eq!(fs::metadata(cell.root()).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(fs::metadata(cell.root()).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn whiteouts_in_layers_take_overlays_form() {
    let cell = Cell::new();
    let tar = Archive::new()
        .dir("d/")
        .file("d/.wh.gone", b"")
        .file("d/.wh..wh..opq", b"")
        .file(".wh.replaced", b"")
        .dir("replaced/")
        .file("replaced/f", b"x")
        .file(".wh.implied", b"")
        .file("implied/sub/f", b"x")
        .dir("kept/")
        .file("kept/f", b"x")
        .file(".wh.kept", b"")
        .file("stays", b"x")
        .file(".wh.stays", b"")
        .file(".wh..wh.plnk/1.2", b"")
        .end();
    assert!(!cell.layer(&tar).unwrap().opaque_root);
    let gone = fs::symlink_metadata(cell.path("d/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let root = RootDir::open(&cell.root()).unwrap();
    for (dir, opaque) in
        [("d", true), ("replaced", true), ("implied", true), ("implied/sub", false), ("kept", true)]
    {
        let fd = root.open_dir(Path::new(dir)).unwrap();
        let mark = xattr::get(xattr::of(&fd), marks().opaque().as_bytes()).unwrap();
        assert_eq!(mark.as_deref() == Some(b"y"), opaque, "{dir}");
    }
    assert_eq!(fs::read(cell.path("stays")).unwrap(), b"x");
    assert!(!cell.path(".wh..wh.plnk").exists());
    assert!(cell.layer(&Archive::new().file(".wh..wh..opq", b"").end()).unwrap().opaque_root);
    for bad in [".wh.", ".wh..", ".wh...", "d/.wh."] {
        fails_with(cell.layer(&Archive::new().file(bad, b"").end()), "names no file");
    }
    fails_with(cell.layer(&Archive::new().file(".wh.x/y", b"").end()), "holds no files");
}

/// An ADDed archive with such names would delete files once its layer is unpacked.
#[test]
fn whiteouts_elsewhere_are_refused() {
    for name in [".wh.dd", "a/.wh.dd", ".wh.", "a/.wh..wh..opq", ".wh.x/y", "b/../.wh.c"] {
        let cell = Cell::new();
        fails_with(cell.files(&Archive::new().dir("dd/").file(name, b"").end()), "deleted files");
    }
    let cell = Cell::new();
    cell.files(&Archive::new().file("x.wh.y", b"").end()).unwrap();
}

#[test]
fn overlays_own_marks_do_not_come_from_outside() {
    for options in [UnpackOptions::layer(marks()), UnpackOptions::files(marks())] {
        let cell = Cell::new();
        let tar = Archive::new().char_device("dd", 0, 0).end();
        fails_with(cell.unpack(&tar, &options), "0:0");
        let records: [(&str, &[u8]); 5] = [
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.fuseoverlayfs.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.whiteout", b""),
            ("SCHILY.xattr.user.kept", b"1"),
        ];
        cell.unpack(&Archive::new().pax(&records).dir("d/").end(), &options).unwrap();
        let dir = RootDir::open(&cell.path("d")).unwrap();
        assert_eq!(xattr::list(xattr::of(&dir)).unwrap(), [b"user.kept".to_vec()]);
    }
}

/// CVE-2025-58183 and bombs of other kinds: bounded, and said so.
#[test]
fn bombs_are_refused() {
    let cell = Cell::new();
    let limits = Limits { entries: 10, bytes: 1000, hole_bytes: 100 };
    let options = UnpackOptions { limits, ..UnpackOptions::files(marks()) };
    let mut many = Archive::new();
    for i in 0..11 {
        many = many.file(&format!("f{i}"), b"");
    }
    fails_with(cell.unpack(&many.end(), &options), "more than 10 entries");
    fails_with(cell.unpack(&Archive::new().file("f", &[0; 1001]).end(), &options), "more than 1000 bytes");
    let sparse: [(&str, &[u8]); 2] = [("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"102")];
    let bomb = Archive::new().pax(&sparse).file("f", b"x").end();
    fails_with(cell.unpack(&bomb, &options), "more than 100 bytes of holes");
    // Sizes that no file has.
    let huge = Header { name: b"f", size: 0o777_7777_7777, ..Header::default() };
    fails_with(cell.files(&Archive::new().header(huge).end()), "truncated");
    let huge: [(&str, &[u8]); 1] = [("size", b"18446744073709551615")];
    fails_with(cell.files(&Archive::new().pax(&huge).file("f", b"").end()), "more than");
    // A long name or pax header without end takes no memory.
    for flag in [b'L', b'K', b'x', b'g'] {
        let long = Header { name: b"e", flag, size: 1 << 32, ..Header::default() };
        fails_with(cell.files(&Archive::new().header(long).end()), "are allowed");
    }
    fails_with(cell.files(&Archive::new().extension(b'L', &[b'a'; 5000]).file("f", b"").end()), "4095");
    let deep = "d/".repeat(2047) + "f";
    cell.files(&Archive::new().extension(b'L', deep.as_bytes()).file("f", b"x").end()).unwrap();
    assert_eq!(fs::metadata(cell.path(&"d/".repeat(1500))).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn damage_is_named() {
    let good = Archive::new().dir("d/").file("d/f", &[7; 1000]).end();
    let check = |bytes: &[u8], words: &str| fails_with(Cell::new().files(bytes), words);
    check(b"", "is empty");
    check(b"hello", "not a tar");
    check(&[b'x'; 2000], "not a tar");
    check(&good[..512], "no end marker");
    check(&good[..700], "truncated: it ends at byte 700, inside a header");
    check(&good[..1024], "inside `d/f`");
    check(&good[..1500], "inside `d/f`");
    check(&good[..good.len() - 1024], "no end marker");
    check(&[&good[..], b"garbage"].concat(), "after its end marker, at byte 3072");
    check(&[&good[..], &good[..]].concat(), "after its end marker");
    let mut bad = good.clone();
    bad[512] ^= 1;
    check(&bad, "the checksum is wrong");
    for (archive, words) in [
        (Archive::new().extension(b'x', b"7 a=b\n"), "wrong length"),
        (Archive::new().pax(&[("a", b"b")]), "not followed by an entry"),
        (Archive::new().extension(b'L', b"a").extension(b'L', b"b").file("f", b""), "two long names"),
        (Archive::new().pax(&[("a", b"b")]).pax(&[("a", b"b")]).file("f", b""), "two pax headers"),
        (Archive::new().pax(&[("path", b"a\0b")]).file("f", b""), "NUL"),
        (Archive::new().pax(&[("mtime", b"soon")]).file("f", b""), "is no time"),
        (Archive::new().pax(&[("uid", b"4294967295")]).file("f", b""), "no user or group number"),
        (Archive::new().symlink("l", ""), "has no target"),
        (Archive::new().file("", b""), "has no name"),
        (Archive::new().header(Header { name: b"f", flag: b'M', ..Header::default() }), "type `M`"),
        (Archive::new().file("f", b"").file("f/g", b""), "a file is where its directory should be"),
        (Archive::new().char_device("c", 4096, 0), "too large"),
    ] {
        check(&archive.end(), words);
    }
    // Trailing blocks of zeros fill up to a record; one block of zeros alone is forgiven.
    Cell::new().files(&[&good[..], &[0; 10240]].concat()).unwrap();
    Cell::new().files(&good[..good.len() - 512]).unwrap();
}

#[test]
fn later_entries_replace_earlier_ones() {
    let cell = Cell::new();
    let tar = Archive::new()
        .dir("a/")
        .file("a/f", b"1")
        .symlink("a2", "a")
        .file("a", b"2")
        .file("b", b"3")
        .dir("b/")
        .file("b/f", b"4")
        .dir("c/")
        .file("c/f", b"5")
        .symlink("c", "b")
        .file("c/g", b"6")
        .end();
    cell.files(&tar).unwrap();
    assert_eq!(fs::read(cell.path("a")).unwrap(), b"2");
    assert_eq!(fs::read(cell.path("b/f")).unwrap(), b"4");
    assert_eq!(fs::read(cell.path("b/g")).unwrap(), b"6");
    assert!(fs::symlink_metadata(cell.path("c")).unwrap().is_symlink());
    // A directory that is there stays, with what is in it.
    cell.files(
        &Archive::new().header(Header { name: b"b", flag: b'5', mode: 0o711, ..Header::default() }).end(),
    )
    .unwrap();
    assert_eq!(fs::read(cell.path("b/f")).unwrap(), b"4");
    assert_eq!(fs::metadata(cell.path("b")).unwrap().permissions().mode() & 0o7777, 0o711);
}

#[test]
fn reads_long_names_sparse_files_and_odd_numbers() {
    let cell = Cell::new();
    let long = format!("{}/{}", "d".repeat(200), "n".repeat(200));
    let mut big_uid = Header { name: b"base256", mtime: 0, ..Header::default() }.block();
    big_uid[136..148].copy_from_slice(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xf9");
    seal(&mut big_uid);
    let mut old_sparse = Header { name: b"sparse-old", flag: b'S', size: 513, ..Header::default() }.block();
    old_sparse[257..265].copy_from_slice(b"ustar  \0");
    old_sparse[329..512].fill(0);
    for (at, value) in [(386, 0u64), (398, 512), (410, 4096), (422, 1), (483, 10_000)] {
        old_sparse[at..at + 11].copy_from_slice(format!("{value:011o}").as_bytes());
    }
    seal(&mut old_sparse);
    let mut v7 = Header { name: b"v7dir/", flag: 0, ..Header::default() }.block();
    v7[257..].fill(0);
    seal(&mut v7);
    let data = [[1u8; 512].as_slice(), b"x"].concat();
    let map = [b"2\n0\n512\n4096\n1\n".as_slice(), &[0; 512 - 15], &data].concat();
    let new_sparse: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse-new"),
        ("GNU.sparse.realsize", b"10000"),
    ];
    let tar = Archive::new()
        .extension(b'g', b"11 path=no\n")
        .extension(b'L', format!("{long}\0").as_bytes())
        .file("short", b"long")
        .pax(&[("path", b"new\nline"), ("mtime", b"5.25"), ("SCHILY.xattr.user.x", b"a\nb")])
        .file("short", b"pax")
        .raw(&big_uid)
        .raw(&old_sparse)
        .data(&data)
        .pax(&new_sparse)
        .file("GNUSparseFile.0/x", &map)
        .raw(&v7)
        .header(Header { name: b"dir-with-size", flag: b'5', mode: 0o755, size: 99, ..Header::default() })
        .file("last", b"end")
        .end();
    cell.files(&tar).unwrap();
    assert_eq!(fs::read(cell.path(&long)).unwrap(), b"long");
    let pax = fs::metadata(cell.path("new\nline")).unwrap();
    assert_eq!((pax.mtime(), pax.mtime_nsec()), (5, 250_000_000));
    assert_eq!(fs::metadata(cell.path("base256")).unwrap().mtime(), -7);
    let mut expect = vec![0u8; 10_000];
    expect[..512].fill(1);
    expect[4096] = b'x';
    assert!(fs::read(cell.path("sparse-old")).unwrap() == expect);
    assert!(fs::read(cell.path("sparse-new")).unwrap() == expect);
    assert!(fs::metadata(cell.path("v7dir")).unwrap().is_dir());
    assert!(!cell.path("no").exists());
    assert_eq!(fs::read(cell.path("last")).unwrap(), b"end");
}

#[test]
fn modes_and_owners_are_exact() {
    let cell = Cell::new();
    let tar = Archive::new()
        .header(Header { name: b"su", mode: 0o6755, uid: 12, gid: 34, ..Header::default() })
        .header(Header { name: b"fifo", flag: b'6', mode: 0o622, ..Header::default() })
        .header(Header { name: b"closed/", flag: b'5', mode: 0o000, ..Header::default() })
        .header(Header { name: b"sticky/", flag: b'5', mode: 0o1777, ..Header::default() })
        .end();
    let done = cell.files(&tar).unwrap();
    let mode = |name: &str| fs::metadata(cell.path(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("fifo"), mode("closed"), mode("sticky")), (0o622, 0, 0o1777));
    let su = fs::metadata(cell.path("su")).unwrap();
    if done.left_out.owners == 0 {
        assert_eq!((su.uid(), su.gid(), mode("su")), (12, 34, 0o6755));
    } else {
        // Not the owner it was meant to run as: no set-user-ID either.
        assert!(!is_root());
        assert_eq!((su.uid(), mode("su")), (rustix::process::geteuid().as_raw(), 0o755));
    }
}

#[test]
fn an_archive_whose_digest_is_known_may_just_end() {
    let good = Archive::new().dir("d/").file("d/f", &[1; 100]).end();
    let unpacked = |bytes: &[u8]| {
        let directory = tempfile::tempdir().unwrap();
        let into = RootDir::open(directory.path()).unwrap();
        let options =
            UnpackOptions { end_marker: false, ..UnpackOptions::layer(crate::sys::OverlayXattrs::Trusted) };
        unpack(bytes, &into, &options).map(|done| done.entries).map_err(|error| error.to_string())
    };
    assert_eq!(unpacked(&good), Ok(2));
    assert_eq!(unpacked(&good[..good.len() - 1024]), Ok(2));
    assert_eq!(unpacked(&good[..good.len() - 512]), unpacked(&good));
    assert_eq!(unpacked(b""), Ok(0));
    // But not inside of an entry.
    assert!(unpacked(&good[..good.len() - 1025]).unwrap_err().contains("truncated"));
    assert!(unpacked(&good[..100]).is_err());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever the bytes are: no panic, and nothing outside.
    #[test]
    fn damaged_archives_stay_inside(changes in proptest::collection::vec((0usize..20_000, proptest::num::u8::ANY), 0..20)) {
        let mut bytes = Archive::new()
            .dir("d/")
            .symlink("d/l", "../../..")
            .pax(&[("path", b"d/long"), ("SCHILY.xattr.user.a", b"b")])
            .file("d/f", b"data")
            .hard_link("h", "d/long")
            .extension(b'L', b"d/../../EVIL")
            .file("x", &[3; 700])
            .file(".wh.gone", b"")
            .end();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        // Headers stay headers: otherwise every change only breaks a checksum.
        for start in (0..bytes.len() - 1024).step_by(512) {
            if &bytes[start + 257..start + 262] == b"ustar" {
                seal(&mut bytes[start..start + 512]);
            }
        }
        let cell = Cell::new();
        let _ = cell.layer(&bytes);
    }
}
