//! Layers merged into a tree, changed there, and what of it becomes a layer.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::stamps::Stamps;
use super::{Become, merge_layer, write_difference};
use crate::sys::upper::{make_opaque, make_whiteout};
use crate::sys::{OverlayXattrs, RootDir};

/// The form whose marks any file system takes.
const FORM: OverlayXattrs = OverlayXattrs::Files;

fn root(path: &Path) -> RootDir {
    fs::create_dir_all(path).unwrap();
    RootDir::open(path).unwrap()
}

fn write(path: PathBuf, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Lists all paths below a directory, sorted.
fn paths(of: &Path) -> Vec<String> {
    let all = walkdir::WalkDir::new(of).min_depth(1).sort_by_file_name().into_iter();
    all.map(|e| e.unwrap().path().strip_prefix(of).unwrap().to_str().unwrap().to_owned()).collect()
}

/// Two layers, the upper of which hides some of the lower.
fn layers(at: &Path) -> [RootDir; 2] {
    let (low, high) = (at.join("low"), at.join("high"));
    for name in ["a/1", "a/2", "gone/x", "opaque/old", "keep", "twice"] {
        write(low.join(name), name);
    }
    fs::hard_link(low.join("twice"), low.join("twin")).unwrap();
    symlink("keep", low.join("link")).unwrap();
    write(high.join("a/2"), "new");
    write(high.join("opaque/new"), "n");
    fs::set_permissions(high.join("a"), PermissionsExt::from_mode(0o700)).unwrap();
    make_whiteout(root(&high), "gone".as_ref(), FORM).unwrap();
    make_opaque(&fs::File::open(high.join("opaque")).unwrap().into(), FORM).unwrap();
    [root(&low), root(&high)]
}

#[test]
fn a_tree_is_what_overlayfs_would_show() {
    for how in [Become::Links, Become::Copies] {
        let outer = tempfile::tempdir().unwrap();
        let tree = root(&outer.path().join("tree"));
        for layer in layers(outer.path()) {
            merge_layer(&layer, FORM, &tree, how).unwrap();
        }
        let at = |name: &str| outer.path().join("tree").join(name);
        let expect = ["a", "a/1", "a/2", "keep", "link", "opaque", "opaque/new", "twice", "twin"];
        assert_eq!(paths(&at("")), expect);
        assert_eq!(fs::read_to_string(at("a/2")).unwrap(), "new");
        assert_eq!(fs::metadata(at("a")).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(at("twice")).unwrap().ino(), fs::metadata(at("twin")).unwrap().ino());
        let low = fs::metadata(outer.path().join("low/keep")).unwrap();
        let keep = fs::metadata(at("keep")).unwrap();
        assert_eq!(low.ino() == keep.ino(), how == Become::Links);
        assert_eq!((low.mtime(), low.mtime_nsec()), (keep.mtime(), keep.mtime_nsec()));
    }
}

#[track_caller]
fn check(change: impl Fn(&Path), points: &[&str], expect: &[&str]) {
    let outer = tempfile::tempdir().unwrap();
    let (tree, base) = (root(&outer.path().join("tree")), root(&outer.path().join("base")));
    for layer in layers(outer.path()) {
        merge_layer(&layer, FORM, &tree, Become::Copies).unwrap();
        merge_layer(&layer, FORM, &base, Become::Links).unwrap();
    }
    let before = Stamps::read(&tree).unwrap();
    change(&outer.path().join("tree"));
    let upper = root(&outer.path().join("upper"));
    let points: Vec<PathBuf> = points.iter().map(PathBuf::from).collect();
    let now = write_difference(&tree, &before, &base, &upper, FORM, &points).unwrap();
    assert_eq!(paths(&outer.path().join("upper")), expect);
    // Nothing happened since.
    let second = root(&outer.path().join("second"));
    write_difference(&tree, &now, &base, &second, FORM, &[]).unwrap();
    assert_eq!(paths(&outer.path().join("second")), [""; 0]);
    // On top of what was there it gives the tree again.
    merge_layer(&upper, FORM, &base, Become::Links).unwrap();
    assert_eq!(paths(&outer.path().join("base")), paths(&outer.path().join("tree")));
}

#[test]
fn what_was_touched_is_in_the_layer_and_nothing_else() {
    check(|_| {}, &[], &[]);
    check(|t| fs::write(t.join("keep"), "more").unwrap(), &[], &["keep"]);
    check(
        |t| fs::set_permissions(t.join("a/1"), PermissionsExt::from_mode(0o0)).unwrap(),
        &[],
        &["a", "a/1"],
    );
    check(|t| fs::remove_file(t.join("a/1")).unwrap(), &[], &["a", "a/.wh.1"]);
    check(|t| fs::remove_dir_all(t.join("a")).unwrap(), &[], &[".wh.a"]);
    check(|t| write(t.join("n/m/o"), ""), &[], &["n", "n/m", "n/m/o"]);
    let anew = |t: &Path| {
        fs::remove_dir_all(t.join("a")).unwrap();
        write(t.join("a/1"), "a/1");
    };
    check(anew, &[], &["a", "a/.wh..wh..opq", "a/1"]);
    let moved = |t: &Path| fs::rename(t.join("a"), t.join("b")).unwrap();
    check(moved, &[], &[".wh.a", "b", "b/1", "b/2"]);
    let file_for_directory = |t: &Path| {
        fs::remove_dir_all(t.join("a")).unwrap();
        fs::write(t.join("a"), "").unwrap();
    };
    check(file_for_directory, &[], &["a"]);
}

#[test]
fn names_of_one_file() {
    check(|t| fs::remove_file(t.join("twin")).unwrap(), &[], &[".wh.twin"]);
    check(|t| fs::hard_link(t.join("keep"), t.join("kept")).unwrap(), &[], &["keep", "kept"]);
    check(|t| fs::hard_link(t.join("twin"), t.join("third")).unwrap(), &[], &["third", "twice"]);
    // Through which name cannot be told.
    check(|t| fs::write(t.join("twin"), "longer").unwrap(), &[], &["twice", "twin"]);
}

#[test]
fn mount_points_leave_nothing() {
    let made = |t: &Path| {
        let times = fs::metadata(t.join("a")).unwrap();
        fs::create_dir_all(t.join("a/p/q")).unwrap();
        let times = fs::FileTimes::new().set_modified(times.modified().unwrap());
        fs::File::open(t.join("a")).unwrap().set_times(times).unwrap();
    };
    check(made, &["a/p", "a/p/q"], &[]);
    let used = |t: &Path| write(t.join("a/p/q/file"), "");
    check(used, &["a/p", "a/p/q"], &["a", "a/p", "a/p/q", "a/p/q/file"]);
}

#[test]
fn names_of_marks_are_refused() {
    let outer = tempfile::tempdir().unwrap();
    let (tree, base, upper) =
        (root(&outer.path().join("t")), root(&outer.path().join("b")), root(&outer.path().join("u")));
    let before = Stamps::read(&tree).unwrap();
    write(outer.path().join("t/.wh.x"), "");
    let error = write_difference(&tree, &before, &base, &upper, FORM, &[]).unwrap_err();
    assert!(error.to_string().contains("`.wh.x` cannot be in a layer"), "{error}");
}
