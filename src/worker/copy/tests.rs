//! Tests of `copy`: what COPY, ADD and WORKDIR write, against real directories.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;

use proptest::prelude::*;
use rustix::fs::FileType;

use crate::context::DockerfilePlace;
use crate::context::open_directory;
use crate::context::select;
use crate::plan::graph::CopySource;
use crate::sys::overlay::mount_view;
use crate::worker::parts::groups;

use super::*;

/// Tells whether owners can be set; says so when not.
fn can_chown(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("{test}: not tested, only root may change owners");
    }
    root
}

/// Returns where an upper's marks can be kept: `trusted.*` is root's.
fn marks() -> OverlayXattrs {
    match rustix::process::geteuid().is_root() {
        true => OverlayXattrs::Trusted,
        false => OverlayXattrs::User,
    }
}

/// Makes files from text, a line each: `dir/`, `link -> target`, `file = content`, `file`;
/// in front a mode (`0600 `) or a mode and an owner (`0600 7:8 `).
fn make(root: &Path, files: &str) {
    for line in files.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut line = line;
        let (mut mode, mut owner) = (None, None);
        if let Some((first, rest)) = line.split_once(' ')
            && let Ok(bits) = u32::from_str_radix(first, 8)
        {
            (mode, line) = (Some(bits), rest);
            if let Some((first, rest)) = line.split_once(' ')
                && let Some((uid, gid)) = first.split_once(':')
            {
                (owner, line) = (Some((uid.parse().unwrap(), gid.parse().unwrap())), rest);
            }
        }
        let name = line.split([' ', '=']).next().unwrap();
        let path = root.join(name.trim_end_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if name.ends_with('/') {
            fs::create_dir_all(&path).unwrap();
        } else if let Some((_, target)) = line.split_once(" -> ") {
            symlink(target, &path).unwrap();
        } else {
            fs::write(&path, line.split_once(" = ").map_or("", |(_, content)| content)).unwrap();
        }
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::lchown(&path, Some(uid), Some(gid)).unwrap();
        }
        if let Some(mode) = mode {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

/// Lists a tree as [`make`] reads it, owners that are 0:0 left out, without modes of links.
fn list(root: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name() {
        let entry = entry.unwrap();
        let meta = entry.path().symlink_metadata().unwrap();
        let name = entry.path().strip_prefix(root).unwrap().display().to_string();
        let owner = match (meta.uid(), meta.gid()) {
            (0, 0) => String::new(),
            (uid, gid) => format!("{uid}:{gid} "),
        };
        let mode = meta.mode() & 0o7777;
        let kind = meta.file_type();
        out.push(if kind.is_dir() {
            format!("{mode:o} {owner}{name}/")
        } else if kind.is_symlink() {
            format!("{owner}{name} -> {}", fs::read_link(entry.path()).unwrap().display())
        } else if kind.is_file() {
            format!("{mode:o} {owner}{name} = {}", String::from_utf8_lossy(&fs::read(entry.path()).unwrap()))
        } else if kind.is_fifo() {
            format!("{mode:o} {owner}{name} fifo")
        } else {
            format!("{mode:o} {owner}{name} {kind:?} {}", meta.rdev())
        });
    }
    out
}

struct World {
    outer: tempfile::TempDir,
}

impl World {
    fn new(context: &str, base: &str) -> World {
        let outer = tempfile::tempdir().unwrap();
        for name in ["context", "base", "upper", "host"] {
            fs::create_dir(outer.path().join(name)).unwrap();
        }
        fs::set_permissions(outer.path().join("base"), fs::Permissions::from_mode(0o755)).unwrap();
        make(&outer.path().join("context"), context);
        make(&outer.path().join("base"), base);
        World { outer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.outer.path().join(name)
    }

    fn root(&self, name: &str) -> RootDir {
        RootDir::open(&self.path(name)).unwrap()
    }

    fn context(&self) -> Tree {
        open_directory(&self.path("context"), None).unwrap().with_ignore(&DockerfilePlace::Input).unwrap()
    }

    fn copy_from(&self, tree: &Tree, op: &CopyOp) -> Result<CopyDone, CopyError> {
        let group = groups(op).remove(0);
        let selection = select(tree, &group.sources, &select_options(op))?;
        let part = Part { selection: &selection, tree, unpack: group.unpack };
        copy(&[part], op, &self.root("base"), &self.root("upper"), marks(), &mut Aids::default())
    }

    fn copy(&self, op: &CopyOp) -> Result<CopyDone, CopyError> {
        self.copy_from(&self.context(), op)
    }
}

fn op(sources: &[&str], destination: &str) -> CopyOp {
    CopyOp {
        add: false,
        sources: sources.iter().map(|s| CopySource::Path { input: 1, path: (*s).to_owned() }).collect(),
        destination: destination.to_owned(),
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        exclude: Vec::new(),
        unpack: None,
        source_date_epoch: None,
    }
}

/// Copies and compares what is in the upper.
fn check(context: &str, base: &str, op: CopyOp, expect: &str) {
    let world = World::new(context, base);
    let found = match world.copy(&op) {
        Ok(_) => list(&world.path("upper")),
        Err(e) => {
            let source = std::error::Error::source(&e).map_or(String::new(), |s| format!(": {s}"));
            vec![format!("error: {e}{source}")]
        }
    };
    let expect: Vec<&str> = expect.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    assert_eq!(found, expect, "{op:?}");
    assert_eq!(list(&world.path("host")), [""; 0]);
}

#[test]
fn files_go_where_they_are_sent() {
    if !can_chown("files_go_where_they_are_sent") {
        return;
    }
    let context = "
        0644 1000:1000 a.txt = a
        0600 b = b
        4755 1000:100 tool = x
        0750 d/
        0640 d/one = 1
        0700 d/sub/
        0644 d/sub/two = 2
        d/link -> ../a.txt
    ";
    let check = |base: &str, op: CopyOp, expect: &str| check(context, base, op, expect);
    check("", op(&["a.txt"], "/x"), "644 x = a");
    check("", op(&["a.txt"], "/x/"), "755 x/\n644 x/a.txt = a");
    check("", op(&["a.txt"], "/p/q/x"), "755 p/\n755 p/q/\n644 p/q/x = a");
    check("", op(&["a.txt", "b"], "/x/"), "755 x/\n644 x/a.txt = a\n600 x/b = b");
    check("", op(&["tool"], "/"), "4755 tool = x");
    check("0700 7:8 x/", op(&["a.txt"], "/x"), "700 7:8 x/\n644 x/a.txt = a");
    check("1777 tmp/", op(&["a.txt"], "/tmp/new/x"), "1777 tmp/\n755 tmp/new/\n644 tmp/new/x = a");
    check("0600 x = old", op(&["a.txt"], "/x"), "644 x = a");
    check("", op(&["nomatch*"], "/p/x/"), "");
    // A directory is its contents; the destination that is made gets 0755.
    let sorted = "x/link -> ../a.txt\n640 x/one = 1\n700 x/sub/\n644 x/sub/two = 2";
    check("", op(&["d"], "/x"), &format!("755 x/\n{sorted}"));
    check("", op(&["d"], "/x/"), &format!("755 x/\n{sorted}"));
    check("", op(&["d/"], "/x"), &format!("755 x/\n{sorted}"));
    check("", op(&["d"], "/"), "link -> ../a.txt\n640 one = 1\n700 sub/\n644 sub/two = 2");
    // One that exists keeps its mode and owner; those inside take the source's.
    check(
        "0711 5:6 x/\n0777 5:6 x/sub/\n0644 x/sub/old = o\n0644 x/other/z = z",
        op(&["d"], "/x"),
        &format!("711 5:6 x/\n{sorted}"),
    );
    check(
        "",
        op(&["a.txt*", "[b]"], "/x"),
        "error: several files match, so the destination `/x` must be a directory and end with `/`",
    );
    check("0644 x = f", op(&["d"], "/x"), "error: cannot copy a directory to `x`: it is no directory");
    check("0644 x = f", op(&["a.txt"], "/x/"), "error: cannot copy a directory to `x`: it is no directory");
    check(
        "0644 x = f",
        op(&["a.txt"], "/x/y/z"),
        "error: cannot copy a directory to `x`: it is no directory",
    );
    check("x/a.txt/", op(&["a.txt"], "/x/"), "error: cannot replace the directory `x/a.txt` with a file");
    check("x/one/", op(&["d"], "/x/"), "error: cannot replace the directory `x/one` with a file");
    check(
        "0644 x/sub = f",
        op(&["d"], "/x/"),
        "error: cannot copy a directory to `x/sub`: it is no directory",
    );
    // A directory does not replace a link to one, as BuildKit has it.
    check(
        "x/sub -> /y\ny/",
        op(&["d"], "/x/"),
        "error: cannot copy a directory to `x/sub`: it is no directory",
    );
    // A file replaces a link of its name.
    check("x/a.txt -> /y\n0644 y = old", op(&["a.txt"], "/x/"), "755 x/\n644 x/a.txt = a");
    // Later sources of one COPY go over earlier ones.
    check("", op(&["d/one", "b", "d/one"], "/x/"), "755 x/\n600 x/b = b\n640 x/one = 1");
}

#[test]
fn links_in_the_destination_stay_inside() {
    let base = "
        sl -> /tmp
        tmp/
        deep -> ../../../../host
        self -> .
        hole -> /made/here
        file -> /etc/real
        etc/real = old
        loop -> loop
    ";
    let names = |op: CopyOp| {
        let world = World::new("a = a", base);
        let result = world.copy(&op);
        assert_eq!(list(&world.path("host")), [""; 0]);
        match result {
            Ok(_) => walkdir::WalkDir::new(world.path("upper"))
                .min_depth(1)
                .sort_by_file_name()
                .into_iter()
                .map(|e| e.unwrap().path().strip_prefix(world.path("upper")).unwrap().display().to_string())
                .collect::<Vec<_>>()
                .join(" "),
            Err(e) => format!("error: {e}"),
        }
    };
    assert_eq!(names(op(&["a"], "/sl/")), "tmp tmp/a");
    assert_eq!(names(op(&["a"], "/sl/x/y")), "tmp tmp/x tmp/x/y");
    assert_eq!(names(op(&["a"], "/deep/")), "host host/a");
    assert_eq!(names(op(&["a"], "/deep/../x")), "x");
    assert_eq!(names(op(&["a"], "/self/self/x")), "x");
    assert_eq!(names(op(&["a"], "/hole")), "made made/here");
    assert_eq!(names(op(&["a"], "/hole/")), "made made/here made/here/a");
    assert_eq!(names(op(&["a"], "/file")), "etc etc/real");
    assert_eq!(names(op(&["a"], "/../../x")), "x");
    assert!(names(op(&["a"], "/loop/x")).starts_with("error: cannot find the destination `/loop/x`"));
    if !can_chown("--link, whose root is 0:0") {
        return;
    }
    // With --link nothing of the base counts.
    assert_eq!(names(CopyOp { link: true, ..op(&["a"], "/sl/") }), "sl sl/a");
    assert_eq!(names(CopyOp { link: true, ..op(&["a"], "/x/../sl/y") }), "sl sl/y");
}

#[test]
fn owners_and_modes() {
    if !can_chown("owners_and_modes") {
        return;
    }
    let context = "0644 1000:1000 a = a\n0700 d/\n0755 d/run = r\n0644 d/f = f\nd/l -> f";
    let base = "etc/passwd = root:x:0:0::/:\nfoo:x:1000:1001::/:\netc/group = grp:x:77:";
    let base = base.replace("/:\nfoo", "/:@foo");
    let flags =
        |chown: Option<&str>, chmod: Option<&str>, sources: &[&str], destination: &str, expect: &str| {
            let world = World::new(context, &base);
            let passwd = world.path("base/etc/passwd");
            fs::write(&passwd, fs::read_to_string(&passwd).unwrap().replace('@', "\n")).unwrap();
            let op = CopyOp {
                chown: chown.map(str::to_owned),
                chmod: chmod.map(str::to_owned),
                ..op(sources, destination)
            };
            let found = match world.copy(&op) {
                Ok(_) => list(&world.path("upper")).join("\n"),
                Err(e) => format!("error: {e}: {}", std::error::Error::source(&e).unwrap()),
            };
            assert_eq!(found, expect, "{op:?}");
        };
    flags(Some("foo"), None, &["a"], "/x", "644 1000:1001 x = a");
    flags(Some("foo:grp"), None, &["a"], "/x", "644 1000:77 x = a");
    flags(Some("1234"), None, &["a"], "/x", "644 1234:1234 x = a");
    flags(Some("5:6"), None, &["a"], "/x", "644 5:6 x = a");
    flags(
        Some("nosuch"),
        None,
        &["a"],
        "/x",
        "error: bad `--chown`: unable to find user `nosuch`: no matching entries in passwd file",
    );
    // Flags hold for the directories that are made, verbatim.
    flags(Some("foo"), Some("640"), &["a"], "/own/a", "640 1000:1001 own/\n640 1000:1001 own/a = a");
    flags(
        Some("5:6"),
        Some("u=rwX,go=rX"),
        &["d"],
        "/x",
        "755 5:6 x/\n644 5:6 x/f = f\n5:6 x/l -> f\n755 5:6 x/run = r",
    );
    flags(None, Some("+x"), &["a"], "/x", "755 x = a");
    flags(
        None,
        Some("9"),
        &["a"],
        "/x",
        "error: bad `--chmod`: `9` is no mode: use octal digits up to 7777, or letters like `u=rwX,go=rX`",
    );
    let world = World::new(context, "");
    let mut inline = op(&[], "/x");
    inline.sources.push(CopySource::Inline { name: "EOF".into(), data: "text\n".into() });
    world.copy(&inline).unwrap();
    assert_eq!(list(&world.path("upper")), ["644 x = text\n"]);
    let world = World::new("", "");
    inline.destination = "/d/".into();
    inline.chmod = Some("0755".into());
    inline.chown = Some("3:4".into());
    world.copy(&inline).unwrap();
    assert_eq!(list(&world.path("upper")), ["755 3:4 d/", "755 3:4 d/EOF = text\n"]);
}

#[test]
fn another_stage_keeps_owners_and_devices() {
    if !can_chown("another_stage_keeps_owners_and_devices") {
        return;
    }
    let world = World::new("0640 7:8 d/f = f\n0750 9:10 d/s/\n7:8 d/l -> f", "");
    let d = world.root("context/d");
    std::os::unix::fs::lchown(world.path("context/d/l"), Some(7), Some(8)).ok();
    let device = d.make_node(Path::new("null"), FileType::CharacterDevice, 0o666, rustix::fs::makedev(1, 3));
    let tree = Tree::state(world.root("context"));
    world.copy_from(&tree, &op(&["d"], "/x")).unwrap();
    let mut expect = vec!["755 x/".to_owned(), "640 7:8 x/f = f".into(), "750 9:10 x/s/".into()];
    if device.is_ok() {
        let rdev = rustix::fs::makedev(1, 3);
        let mode = fs::metadata(world.path("context/d/null")).unwrap().mode() & 0o7777;
        let kind = fs::metadata(world.path("context/d/null")).unwrap().file_type();
        expect.insert(2, format!("{mode:o} x/null {kind:?} {rdev}"));
    }
    let mut found = list(&world.path("upper"));
    found.retain(|line| !line.contains(" -> "));
    assert_eq!(found, expect);
}

#[test]
fn keeps_times_links_holes_and_attributes() {
    let world = World::new("d/a = one\nd/s/c = x", "0755 x/old = o");
    let context = world.path("context");
    fs::hard_link(context.join("d/a"), context.join("d/b")).unwrap();
    fs::hard_link(context.join("d/a"), context.join("e")).unwrap();
    let sparse = fs::File::create(context.join("d/sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    let has_xattrs = xattr_set(&context.join("d/a"), "user.note", b"hello");
    let time = |name: &str, seconds: i64| {
        crate::sys::copy::set_times_at(rustix::fs::CWD, context.join(name), seconds, 5).unwrap();
    };
    time("d/a", 1_000_000);
    time("d/s/c", -7);
    time("d/s", 3_000_000);
    crate::sys::copy::set_times_at(rustix::fs::CWD, world.path("base/x"), 42, 7).unwrap();
    crate::sys::copy::set_times_at(rustix::fs::CWD, world.path("base"), 43, 8).unwrap();
    let done = world.copy(&op(&["d", "e"], "/x/")).unwrap();
    assert!(done.written);
    let meta = |name: &str| fs::symlink_metadata(world.path("upper").join(name)).unwrap();
    let mtime = |name: &str| (meta(name).mtime(), meta(name).mtime_nsec());
    assert_eq!(mtime("x/a"), (1_000_000, 5));
    assert_eq!(mtime("x/s/c"), (-7, 5));
    assert_eq!(mtime("x/s"), (3_000_000, 5));
    assert_eq!(mtime("x"), (42, 7), "a directory of the base looks as before");
    assert_eq!(mtime(""), (43, 8), "and so does the root");
    assert_eq!(meta("x/a").ino(), meta("x/b").ino());
    assert_eq!(meta("x/a").ino(), meta("x/e").ino());
    assert_eq!(meta("x/a").nlink(), 3);
    assert_ne!(meta("x/a").ino(), meta("x/s/c").ino());
    assert_eq!(meta("x/sparse").len(), 64 << 20);
    assert!(meta("x/sparse").blocks() < 100, "{}", meta("x/sparse").blocks());
    match has_xattrs {
        true => {
            let file = fs::File::open(world.path("upper/x/a")).unwrap();
            let note = crate::sys::xattr::get(crate::sys::xattr::of(&file), b"user.note").unwrap();
            assert_eq!(note.as_deref(), Some(&b"hello"[..]));
        }
        false => println!("attributes not tested: the file system has none"),
    }
}

fn xattr_set(path: &Path, name: &str, value: &[u8]) -> bool {
    let file = fs::File::open(path).unwrap();
    crate::sys::xattr::set(crate::sys::xattr::of(&file), name.as_bytes(), value).is_ok()
}

#[test]
fn replacing_a_linked_file_does_not_link_the_new_one() {
    let world = World::new("d/a = linked\nz/a = other", "");
    fs::hard_link(world.path("context/d/a"), world.path("context/late")).unwrap();
    world.copy(&op(&["d", "z/a", "late"], "/x/")).unwrap();
    let read = |name: &str| fs::read_to_string(world.path("upper").join(name)).unwrap();
    assert_eq!((read("x/a").as_str(), read("x/late").as_str()), ("other", "linked"));
}

#[test]
fn nothing_deletes_files_of_the_base() {
    let reserved = |context: &str, sources: &[&str], destination: &str| {
        let world = World::new(context, "dd/file = x");
        let error = world.copy(&op(sources, destination)).unwrap_err();
        assert!(matches!(error, CopyError::ReservedName(_)), "{error}");
    };
    reserved(".wh.dd = x", &[".wh.dd"], "/");
    reserved("d/.wh..wh..opq = x", &["d"], "/dd/");
    reserved("d/.wh.sub/f = x", &["d"], "/dd/");
    reserved("a = x", &["a"], "/dd/.wh.file");
    reserved("a = x", &["a"], "/.wh.dd/a");
    reserved("l -> a\nd/.wh.l -> a", &["d"], "/");
    if !can_chown("overlay attributes and devices") {
        return;
    }
    let world = World::new("d/sub/f = x", "dd/sub/file = x");
    for (file, name, value) in [
        ("context/d/sub", "trusted.overlay.opaque", &b"y"[..]),
        ("context/d/sub", "user.overlay.opaque", b"y"),
        ("context/d/sub/f", "user.overlay.metacopy", b""),
        ("context/d/sub/f", "trusted.overlay.redirect", b"/etc"),
        ("base/dd", "user.overlay.opaque", b"y"),
    ] {
        if !xattr_set(&world.path(file), name, value) {
            println!("{name} not tested: it cannot be set here");
        }
    }
    world.copy(&op(&["d"], "/dd/")).unwrap();
    for file in ["upper/dd", "upper/dd/sub", "upper/dd/sub/f"] {
        let fd = fs::File::open(world.path(file)).unwrap();
        let names = crate::sys::xattr::list(crate::sys::xattr::of(&fd)).unwrap();
        assert!(names.iter().all(|name| !crate::sys::xattr::is_overlay(name)), "{file}: {names:?}");
    }
    match world.root("context/d").make_node(Path::new("gone"), FileType::CharacterDevice, 0o600, 0) {
        Ok(()) => {
            fs::remove_dir_all(world.path("upper")).unwrap();
            fs::create_dir(world.path("upper")).unwrap();
            let error = world.copy_from(&Tree::state(world.root("context")), &op(&["d"], "/")).unwrap_err();
            assert!(matches!(error, CopyError::Whiteout(_)), "{error}");
        }
        Err(e) => println!("devices not tested: mknod: {e}"),
    }
}

#[test]
fn a_file_that_changes_is_an_error() {
    let world = World::new("d/a = one", "");
    let tree = world.context();
    let op = op(&["d"], "/x");
    let selection = select(&tree, &groups(&op).remove(0).sources, &select_options(&op)).unwrap();
    let part = || Part { selection: &selection, tree: &tree, unpack: false };
    let run =
        || copy(&[part()], &op, &world.root("base"), &world.root("upper"), marks(), &mut Aids::default());
    fs::write(world.path("context/d/a"), "longer").unwrap();
    assert!(matches!(run().unwrap_err(), CopyError::Changed(path) if path == Path::new("d/a")));
    // What it left goes with the upper.
    fs::remove_file(world.path("upper/x/a")).unwrap();
    // Swapped for a link to the host: not followed.
    fs::remove_file(world.path("context/d/a")).unwrap();
    symlink("/etc/passwd", world.path("context/d/a")).unwrap();
    assert!(matches!(run().unwrap_err(), CopyError::Read { .. }));
    fs::remove_dir_all(world.path("context/d")).unwrap();
    symlink("/etc", world.path("context/d")).unwrap();
    run().unwrap_err();
    assert!(!world.path("upper/x/a").exists());
}

/// The times of a file that changes in the tick of the clock in which it was hashed say nothing.
#[test]
fn a_file_that_changes_unseen_is_an_error() {
    let world = World::new("d/a = one\nd/b = two", "");
    let tree = world.context();
    let op = op(&["d"], "/x");
    let groups = groups(&op);
    let selected = || select(&tree, &groups[0].sources, &select_options(&op)).unwrap();
    let run = |selection: &Selection| {
        fs::remove_dir_all(world.path("upper")).unwrap();
        fs::create_dir(world.path("upper")).unwrap();
        let part = Part { selection, tree: &tree, unpack: false };
        let mut aids = Aids::default();
        copy(&[part], &op, &world.root("base"), &world.root("upper"), marks(), &mut aids)
    };
    // Nothing changed: whether the file is younger than the look at it does not matter.
    let mut selection = selected();
    for began in [(0, 0), selection.began, (i64::MAX, 0)] {
        selection.began = began;
        run(&selection).unwrap();
    }
    // Other bytes under the same times, as a change within the tick leaves them.
    let mut selection = selected();
    let now = world.path("context/d/a");
    fs::write(&now, "uno").unwrap();
    let again = selected();
    let (Selected::Directory { entries: old, .. }, Selected::Directory { entries: new, .. }) =
        (&mut selection.sources[0], &again.sources[0])
    else {
        panic!("a directory");
    };
    assert_ne!(old[0].kind, new[0].kind);
    old[0].stat = new[0].stat;
    selection.began = (new[0].stat.ctime_seconds, new[0].stat.ctime_nanos);
    let error = run(&selection).unwrap_err();
    assert!(matches!(&error, CopyError::Changed(path) if path == Path::new("d/a")), "{error}");
    // Another file of the same size and times in its place, as where directories change names.
    selection.began = (i64::MAX, 0);
    let Selected::Directory { entries, .. } = &mut selection.sources[0] else { panic!("a directory") };
    entries[0].stat.ino += 1;
    assert!(matches!(run(&selection).unwrap_err(), CopyError::Changed(_)));
}

#[test]
fn a_file_that_changes_unseen_is_not_unpacked() {
    let world = World::new("", "");
    let archive = |content: &[u8]| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, "f", content).unwrap();
        fs::write(world.path("context/a.tar"), tar.into_inner().unwrap()).unwrap();
    };
    let tree = world.context();
    let op = op(&["a.tar"], "/x");
    let groups = groups(&op);
    let selected = || select(&tree, &groups[0].sources, &select_options(&op)).unwrap();
    archive(b"one");
    let mut selection = selected();
    archive(b"two");
    let again = selected();
    let (Selected::File { entry: old, .. }, Selected::File { entry: new, .. }) =
        (&mut selection.sources[0], &again.sources[0])
    else {
        panic!("a file");
    };
    (old.stat, selection.began) = (new.stat, (new.stat.ctime_seconds, new.stat.ctime_nanos));
    let part = Part { selection: &selection, tree: &tree, unpack: true };
    let mut aids = Aids::default();
    let error =
        copy(&[part], &op, &world.root("base"), &world.root("upper"), marks(), &mut aids).unwrap_err();
    assert!(matches!(error, CopyError::Changed(_)), "{error}");
}

#[test]
fn copies_a_fifo_as_a_fifo() {
    let world = World::new("d/x = x", "");
    world.root("context/d").make_node(Path::new("pipe"), FileType::Fifo, 0o600, 0).unwrap();
    world.copy(&op(&["d"], "/")).unwrap();
    assert!(fs::symlink_metadata(world.path("upper/pipe")).unwrap().file_type().is_fifo());
}

#[test]
fn keeps_parents() {
    if !can_chown("keeps_parents") {
        return;
    }
    let context = "0700 a/\n0750 a/b/\n0644 a/b/f = f\n0644 a/g = g";
    let parents = |sources: &[&str]| CopyOp { parents: true, ..op(sources, "/x/") };
    check(context, "", parents(&["a/b/f"]), "755 x/\n700 x/a/\n750 x/a/b/\n644 x/a/b/f = f");
    check(
        context,
        "",
        parents(&["a/./b/f", "a/g"]),
        "755 x/\n700 x/a/\n644 x/a/g = g\n750 x/b/\n644 x/b/f = f",
    );
    // Those that exist keep their owner, and take the mode.
    let all = CopyOp { chown: Some("3:4".into()), chmod: Some("600".into()), ..parents(&["a/b/f"]) };
    check(context, "0777 5:6 x/a/", all, "755 x/\n700 5:6 x/a/\n600 3:4 x/a/b/\n600 3:4 x/a/b/f = f");
    // One that a source names is copied like any other.
    check(context, "0777 5:6 x/a/b/", parents(&["a/b"]), "755 x/\n700 x/a/\n750 x/a/b/\n644 x/a/b/f = f");
}

/// Writes a tar: directories end in `/`, `name -> target` is a link, `name => target` a hard link.
fn tar_of(entries: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, mode, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000);
        header.set_size(0);
        let (name, kind, link) = match (name.split_once(" -> "), name.split_once(" => ")) {
            (Some((name, target)), _) => (name, tar::EntryType::Symlink, target),
            (_, Some((name, target))) => (name, tar::EntryType::Link, target),
            _ if name.ends_with('/') => (*name, tar::EntryType::Directory, ""),
            _ => (*name, tar::EntryType::Regular, ""),
        };
        header.set_entry_type(kind);
        let fields = header.as_gnu_mut().unwrap();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(0);
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn add(destination: &str) -> CopyOp {
    CopyOp { add: true, ..op(&["archive"], destination) }
}

fn added(archive: &[u8], base: &str, op: &CopyOp) -> String {
    let world = World::new("", base);
    fs::write(world.path("context/archive"), archive).unwrap();
    let found = match world.copy(op) {
        Ok(_) => list(&world.path("upper")).join("\n"),
        Err(e) => format!("error: {e}"),
    };
    assert_eq!(list(&world.path("host")), [""; 0]);
    let outside: Vec<_> = fs::read_dir(world.outer.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(outside.len(), 4, "{outside:?}");
    found
}

#[test]
fn a_directory_that_an_archive_only_implies_keeps_the_time_an_earlier_source_gave_it() {
    let world = World::new("d/s/f = x", "");
    let archive = |name: &str, entries: &[(&str, u32, &str)]| {
        fs::write(world.path(&format!("context/{name}")), tar_of(entries)).unwrap();
    };
    archive("implied", &[("s/g", 0o644, "y")]);
    let time = |path: &str| fs::metadata(world.path(path)).unwrap().mtime();
    crate::sys::copy::set_times_at(rustix::fs::CWD, world.path("context/d/s"), 2_000_000, 0).unwrap();
    world.copy(&CopyOp { add: true, ..op(&["d", "implied"], "/x/") }).unwrap();
    assert_eq!(list(&world.path("upper/x/s")), ["644 f = x", "644 7:8 g = y"]);
    assert_eq!(time("upper/x/s"), 2_000_000);
    archive("told", &[("s/", 0o755, ""), ("s/g", 0o644, "z")]);
    fs::remove_dir_all(world.path("upper/x")).unwrap();
    world.copy(&CopyOp { add: true, ..op(&["d", "told"], "/x/") }).unwrap();
    assert_eq!(time("upper/x/s"), 1_000_000);
}

#[test]
fn add_unpacks_archives() {
    if !can_chown("add_unpacks_archives") {
        return;
    }
    let plain =
        tar_of(&[("d/", 0o750, ""), ("d/f", 0o640, "text"), ("d/l -> f", 0, ""), ("d/h => d/f", 0, "")]);
    let unpacked = "750 7:8 x/d/\n640 7:8 x/d/f = text\n640 7:8 x/d/h = text\n7:8 x/d/l -> f";
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for archive in [&plain, &gzip(&plain), &zstd, &bzip2(&plain), &xz(&plain)] {
        assert_eq!(added(archive, "", &add("/x")), format!("755 x/\n{unpacked}"));
        assert_eq!(added(archive, "0711 5:6 x/", &add("/x/")), format!("711 5:6 x/\n{unpacked}"));
    }
    let chown = CopyOp { chown: Some("3:4".into()), ..add("/x/") };
    assert_eq!(added(&plain, "", &chown), format!("755 3:4 x/\n{unpacked}").replace("7:8", "3:4"));
    // Not unpacked: by flag, by instruction, and what holds no tar.
    let mode = "644 x = ";
    assert!(added(&plain, "", &CopyOp { unpack: Some(false), ..add("/x") }).starts_with(mode));
    assert!(added(&plain, "", &op(&["archive"], "/x")).starts_with(mode));
    for other in
        [gzip(b"no tar"), b"\x1f\x8b\x08 not even gzip".to_vec(), vec![0; 1024], b"BZh9 text".to_vec()]
    {
        assert!(added(&other, "", &add("/x")).starts_with(mode));
    }
    for packed in [bzip2(b"no tar"), xz(b"no tar"), b"\xfd7zXZ\0...".to_vec(), b"BZh91AY&SY...".to_vec()] {
        assert!(added(&packed, "", &add("/x")).starts_with(mode));
        assert!(added(&packed, "", &CopyOp { unpack: Some(false), ..add("/x") }).starts_with(mode));
    }
    // Several streams are one archive, wherever one ends and the next begins.
    for pack in [gzip, bzip2, xz] {
        let (first, second) = plain.split_at(700);
        let found = added(&[pack(first), pack(second)].concat(), "", &add("/x"));
        assert_eq!(found, format!("755 x/\n{unpacked}"));
        let whole = pack(&plain);
        let cut = added(&whole[..whole.len() - 9], "", &add("/x"));
        assert_eq!(cut, "error: cannot unpack `archive`");
    }
    // `--chmod` is neither for what is in an archive nor for the directory it goes to.
    let chmod = CopyOp { chmod: Some("600".into()), ..add("/x/") };
    assert_eq!(added(&plain, "", &chmod), format!("755 x/\n{unpacked}"));
    assert_eq!(
        added(&plain, "0644 x = f", &add("/x")),
        "error: cannot copy a directory to `x`: it is no directory"
    );
    let cut = added(&plain[..700], "", &add("/x"));
    assert_eq!(cut, "error: cannot unpack `archive`");
}

#[test]
fn an_archive_merges_with_the_base() {
    if !can_chown("an_archive_merges_with_the_base") {
        return;
    }
    let base = "1777 tmp/\n0700 5:6 opt/\n0644 opt/old = o\nlib -> usr/lib\n0755 usr/lib/\nbin -> ../../../host\n0644 f = f";
    let check = |entries: &[(&str, u32, &str)], expect: &str| {
        assert_eq!(added(&tar_of(entries), base, &add("/")), expect, "{entries:?}");
    };
    // A directory the archive only implies changes nothing; one it describes does.
    check(&[("tmp/x", 0o644, "x")], "1777 tmp/\n644 7:8 tmp/x = x");
    check(&[("opt/", 0o755, ""), ("opt/new", 0o600, "n")], "755 7:8 opt/\n600 7:8 opt/new = n");
    check(&[("./", 0o700, ""), ("./opt/", 0o711, "")], "711 7:8 opt/");
    // A link of the base is followed where the archive has a directory.
    check(
        &[("lib/", 0o755, ""), ("lib/so", 0o644, "s")],
        "755 usr/\n755 7:8 usr/lib/\n644 7:8 usr/lib/so = s",
    );
    check(&[("bin/EVIL", 0o644, "x")], "error: cannot copy a directory to `bin`: it is no directory");
    check(&[("f", 0o600, "new")], "600 7:8 f = new");
    check(&[("lib -> tmp", 0, "")], "7:8 lib -> tmp");
    check(&[("f/", 0o755, "")], "error: cannot copy a directory to `f`: it is no directory");
    check(&[("opt", 0o644, "x")], "error: cannot replace the directory `opt` with a file");
}

#[test]
fn no_archive_leads_out_of_the_root() {
    let check = |entries: &[(&str, u32, &str)], expect: &str| {
        let found = added(&tar_of(entries), "dd/x = x", &add("/"));
        let names: Vec<&str> = found.split('\n').map(|line| line.split(' ').next_back().unwrap()).collect();
        match expect {
            "error" => assert!(found.starts_with("error: cannot unpack `archive`"), "{entries:?}: {found}"),
            _ => assert_eq!(found.split('\n').count(), expect.split(' ').count(), "{entries:?}: {names:?}"),
        }
    };
    check(&[("l -> ../../..", 0, ""), ("l/EVIL", 0o644, "x")], "error");
    check(&[("l -> /", 0, ""), ("l/../../EVIL", 0o644, "x")], "l EVIL");
    check(&[("h => ../../host/secret", 0, "")], "error");
    check(&[("h => /etc/passwd", 0, "")], "error");
    check(&[("/absolute", 0o644, "x")], "absolute");
    check(&[("../../up", 0o644, "x")], "up");
    check(&[("dd/.wh.x", 0o644, "")], "error");
    check(&[("dd/.wh..wh..opq", 0o644, "")], "error");
}

#[test]
fn workdir_makes_what_is_missing() {
    if !can_chown("workdir_makes_what_is_missing") {
        return;
    }
    let check = |base: &str, path: &str, expect: &str| {
        let world = World::new("", base);
        let owner = Owner { uid: 7, gid: 8 };
        let made =
            make_directory(&world.root("base"), &world.root("upper"), path, owner, OverlayXattrs::Trusted);
        let found = match made {
            Ok(made) => format!("{made}: {}", list(&world.path("upper")).join(", ")),
            Err(e) => e.to_string(),
        };
        assert_eq!(found, expect, "{path}");
        assert_eq!(list(&world.path("host")), [""; 0]);
    };
    check("", "/app", "true: 755 7:8 app/");
    check("", "/a/b/c", "true: 755 7:8 a/, 755 7:8 a/b/, 755 7:8 a/b/c/");
    check("0711 a/", "/a/b", "true: 711 a/, 755 7:8 a/b/");
    check("0711 a/", "/a", "false: ");
    check("0711 a/\nl -> a", "/l", "false: ");
    check("0711 a/\nl -> ../../a", "/l/b", "true: 711 a/, 755 7:8 a/b/");
    check("l -> ../../host", "/l", "true: 755 7:8 host/");
    check("0644 f = x", "/f", "cannot copy a directory to `f`: it is no directory");
    check("0644 f = x", "/f/g", "cannot copy a directory to `f`: it is no directory");
}

#[test]
fn the_merged_view_is_what_was_meant() {
    if !can_chown("the_merged_view_is_what_was_meant") {
        return;
    }
    let world = World::new(
        "0644 d/new = n\n0644 d/old = replaced\n0755 d/sub/f = f",
        "1777 tmp/\n0644 etc/old = o\n0600 etc/kept = k\n0644 etc/sub/other = s\netc/link -> kept",
    );
    world.copy(&op(&["d"], "/etc/")).unwrap();
    let layers = [world.path("upper"), world.path("base")];
    let view = match mount_view(&layers, OverlayXattrs::Trusted) {
        Ok(view) => RootDir::from_fd(view),
        Err(e) => return println!("not tested: no overlay here: {e}"),
    };
    let names = |path: &str| {
        let entries = view.entries(Path::new(path)).unwrap();
        entries.into_iter().map(|(name, _)| name.into_string().unwrap()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(""), "etc tmp");
    assert_eq!(names("etc"), "kept link new old sub");
    assert_eq!(names("etc/sub"), "f other");
    assert_eq!(view.read_small(Path::new("etc/old"), 100).unwrap(), b"replaced");
    assert_eq!(view.stat(Path::new("tmp"), true).unwrap().mode, 0o1777);
}

/// A random tree: path to mode and what is there (`None` a directory).
fn arbitrary_tree() -> impl Strategy<Value = BTreeMap<String, (u32, Option<Vec<u8>>)>> {
    let name = "[a-c]{1,2}";
    let path = proptest::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"));
    let content = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..64));
    // The owner must be able to read, or a tree cannot be made below it by an ordinary user.
    let node = (0u32..=0o777, content).prop_map(|(mode, content)| (mode | 0o700, content));
    proptest::collection::btree_map(path, node, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn copies_as_cp_does(tree in arbitrary_tree()) {
        let world = World::new("", "");
        let from = world.path("context");
        for (path, (mode, content)) in &tree {
            let path = from.join(path);
            if path.ancestors().skip(1).take_while(|p| *p != from).any(|p| p.is_file()) || path.exists() {
                continue;
            }
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match content {
                Some(content) => fs::write(&path, content).unwrap(),
                None => fs::create_dir(&path).unwrap(),
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        world.copy(&op(&["."], "/")).unwrap();
        let expect = world.path("host");
        let status = std::process::Command::new("cp")
            .args(["-a", "--no-preserve=ownership"])
            .arg(from.join("."))
            .arg(&expect)
            .status()
            .unwrap();
        prop_assert!(status.success());
        prop_assert_eq!(list(&world.path("upper")), list(&expect));
        let times = |root: &Path| -> Vec<i64> {
            let all = walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name();
            all.into_iter().map(|e| e.unwrap().metadata().unwrap()).map(|m| {
                use std::os::unix::fs::MetadataExt;
                m.mtime_nsec()
            }).collect()
        };
        prop_assert_eq!(times(&world.path("upper")), times(&expect));
    }
}
