//! Trees that are written over others.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use rustix::fs::FileType;

use super::*;
use crate::store::{SnapshotKind, SnapshotMeta, testing};

/// A store with one layer that `fill` made.
fn layer(store: &Store, fill: impl FnOnce(&Path)) -> SnapshotId {
    let draft = store.draft().unwrap();
    fill(&draft.dir);
    store.commit(draft, SnapshotMeta::new(SnapshotKind::Run, jiff::Timestamp::UNIX_EPOCH)).unwrap()
}

fn write(store: &Store, layers: &[SnapshotId], dest: &Path, options: LocalOptions) -> LocalResult {
    write_local(store, layers, dest, options, &|| false).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let all = fs::read_dir(directory).unwrap();
    let mut all: Vec<String> = all.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

#[test]
fn files_keep_all_but_their_owner() {
    let directory = tempfile::tempdir().unwrap();
    let store = testing::open(&directory.path().join("store"));
    let id = layer(&store, |dir| {
        fs::create_dir(dir.join("d")).unwrap();
        fs::write(dir.join("d/file"), vec![7; 300_000]).unwrap();
        fs::set_permissions(dir.join("d/file"), PermissionsExt::from_mode(0o4750)).unwrap();
        fs::hard_link(dir.join("d/file"), dir.join("hard")).unwrap();
        symlink("/etc/passwd", dir.join("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, dir.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        fs::write(dir.join("empty"), "").unwrap();
        let time =
            fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(99));
        fs::File::options().write(true).open(dir.join("empty")).unwrap().set_times(time).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(dir.join("empty"), Some(5), Some(6)).unwrap();
        }
        fs::set_permissions(dir.join("d"), PermissionsExt::from_mode(0o711)).unwrap();
    });
    let dest = directory.path().join("a/b");
    let done = write(&store, &[id], &dest, LocalOptions::default());
    assert_eq!((done.files, done.bytes, done.left_out_devices), (5, 300_000, 0));
    let file = fs::metadata(dest.join("d/file")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.len(), file.nlink()), (0o4750, 300_000, 2));
    assert_eq!(fs::metadata(dest.join("hard")).unwrap().ino(), file.ino());
    assert_eq!(fs::read_link(dest.join("link")).unwrap(), Path::new("/etc/passwd"));
    assert!(fs::symlink_metadata(dest.join("fifo")).unwrap().file_type().is_fifo());
    let empty = fs::metadata(dest.join("empty")).unwrap();
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    assert_eq!(((empty.uid(), empty.gid()), empty.mtime()), (own, 99));
    assert_eq!(fs::metadata(dest.join("d")).unwrap().mode() & 0o7777, 0o711);
}

/// A program that ran as `man` in the image would be one that runs as root.
#[test]
fn what_ran_as_another_does_not_run_as_the_new_owner() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let store = testing::open(&directory.path().join("store"));
    let files =
        [("both", 6, 7, 0o755), ("user", 6, 0, 0o2755), ("group", 0, 7, 0o4755), ("own", 0, 0, 0o6755)];
    let id = layer(&store, |dir| {
        for (name, uid, gid, _) in files {
            fs::write(dir.join(name), name).unwrap();
            std::os::unix::fs::chown(dir.join(name), Some(uid), Some(gid)).unwrap();
            fs::set_permissions(dir.join(name), PermissionsExt::from_mode(0o6755)).unwrap();
        }
    });
    let dest = directory.path().join("dest");
    write(&store, &[id], &dest, LocalOptions::default());
    for (name, _, _, mode) in files {
        assert_eq!(fs::metadata(dest.join(name)).unwrap().mode() & 0o7777, mode, "{name}");
    }
}

#[test]
fn what_is_in_the_way_goes_and_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let store = testing::open(&directory.path().join("store"));
    let id = layer(&store, |dir| {
        fs::create_dir(dir.join("d")).unwrap();
        fs::write(dir.join("d/f"), "new").unwrap();
        fs::write(dir.join("e"), "new").unwrap();
        fs::write(dir.join("g"), "new").unwrap();
        symlink("x", dir.join("h")).unwrap();
    });
    let (dest, outside) = (directory.path().join("dest"), directory.path().join("outside"));
    for folder in ["dest/e/below", "dest/h", "dest/kept", "outside"] {
        fs::create_dir_all(directory.path().join(folder)).unwrap();
    }
    fs::write(outside.join("f"), "old").unwrap();
    fs::write(outside.join("g"), "old").unwrap();
    symlink(&outside, dest.join("d")).unwrap();
    symlink(outside.join("g"), dest.join("g")).unwrap();
    for _ in 0..2 {
        write(&store, std::slice::from_ref(&id), &dest, LocalOptions::default());
        for file in ["d/f", "e", "g"] {
            assert_eq!(fs::read_to_string(dest.join(file)).unwrap(), "new", "{file}");
            assert!(fs::symlink_metadata(dest.join(file)).unwrap().is_file());
        }
        assert_eq!(fs::read_to_string(outside.join("f")).unwrap(), "old");
        assert_eq!(fs::read_to_string(outside.join("g")).unwrap(), "old");
        assert_eq!(names(&dest), ["d", "e", "g", "h", "kept"]);
    }
}

#[test]
fn only_what_the_image_has_stays_where_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let store = testing::open(&directory.path().join("store"));
    let id = layer(&store, |dir| {
        fs::create_dir(dir.join("d")).unwrap();
        fs::write(dir.join("d/f"), "new").unwrap();
    });
    let dest = directory.path().join("dest");
    let outside = directory.path().join("outside");
    fs::create_dir_all(dest.join("d/old/deep")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "").unwrap();
    symlink(&outside, dest.join("link")).unwrap();
    write(&store, &[id], &dest, LocalOptions { delete: true, latest: Some(5) });
    assert_eq!((names(&dest), names(&dest.join("d"))), (vec!["d".to_owned()], vec!["f".to_owned()]));
    assert_eq!(names(&outside), ["kept"]);
    for path in ["d", "d/f"] {
        assert_eq!(fs::metadata(dest.join(path)).unwrap().mtime(), 5, "{path}");
    }
}

#[test]
fn whiteouts_of_a_layer_alone_are_no_files_and_many_directories_are_no_matter() {
    let directory = tempfile::tempdir().unwrap();
    let store = testing::open(&directory.path().join("store"));
    let is_root = rustix::process::geteuid().is_root();
    let id = layer(&store, |dir| {
        if is_root {
            let mode = Mode::empty();
            rustix::fs::mknodat(rustix::fs::CWD, dir.join("gone"), FileType::CharacterDevice, mode, 0)
                .unwrap();
        }
        let mut deep = rustix::fs::open(dir, OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&deep, "d", Mode::RWXU).unwrap();
            deep = rustix::fs::openat(&deep, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        rustix::fs::openat(&deep, "bottom", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
    });
    let dest = directory.path().join("dest");
    let done = write(&store, &[id], &dest, LocalOptions::default());
    assert_eq!(done.files, 1);
    assert_eq!(names(&dest), ["d"]);
}

#[test]
fn a_place_that_is_none_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let store = testing::open(&directory.path().join("store"));
    let id = layer(&store, |dir| fs::write(dir.join("f"), "x").unwrap());
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = write_local(&store, std::slice::from_ref(&id), &file, LocalOptions::default(), &|| false)
        .unwrap_err();
    assert!(matches!(error, ArchiveError::WriteFile { .. }), "{error:?}");
    let dest = directory.path().join("dest");
    let stopped = write_local(&store, &[id], &dest, LocalOptions::default(), &|| true).unwrap_err();
    assert!(matches!(stopped, ArchiveError::Stopped), "{stopped:?}");
}
