//! Tests of `select`: what is chosen, in which order, and what a link or a bad path does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;

use crate::image::FileDigest;
use crate::sys::RootDir;

use super::super::DigestCache;
use super::super::DockerfilePlace;
use super::super::error::MAX_DEPTH;
use super::super::hash::LARGE;
use super::super::open_directory;
use super::*;

/// Makes files from text: `dir/`, `link -> target`, `file = content`, a line each; `file` alone is empty.
fn make(root: &Path, files: &str) {
    for line in files.lines().map(str::trim).filter(|line| !line.is_empty()) {
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
    }
}

fn context(files: &str) -> (tempfile::TempDir, Tree) {
    let outer = tempfile::tempdir().unwrap();
    fs::write(outer.path().join("secret"), "host").unwrap();
    let root = outer.path().join("context");
    fs::create_dir(&root).unwrap();
    make(&root, files);
    let tree = open_directory(&root, None).unwrap();
    let tree = tree.with_ignore(&DockerfilePlace::Inside("Dockerfile".into())).unwrap();
    (outer, tree)
}

fn paths(sources: &[&str]) -> Vec<Source> {
    sources.iter().map(|s| Source::Path((*s).to_owned())).collect()
}

/// Shows a selection: `root{a b/c}` for a directory, the landing name for a file.
fn show_all(selection: &Selection) -> String {
    let shown = selection.sources.iter().map(|source| match source {
        Selected::Directory { root, entries } => {
            let names: Vec<String> = entries.iter().map(|e| e.path.display().to_string()).collect();
            format!("{}{{{}}}", root.display(), names.join(" "))
        }
        Selected::File { origin, entry } => match origin.file_name() == entry.path.file_name() {
            true => entry.path.display().to_string(),
            false => format!("{}={}", entry.path.display(), origin.display()),
        },
        Selected::Inline { name, .. } => format!("<<{name}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn select_in(files: &str, sources: &[&str], options: &SelectOptions) -> String {
    let (_outer, tree) = context(files);
    match select(&tree, &paths(sources), options) {
        Ok(selection) => show_all(&selection),
        Err(e) => format!("error: {e}{}", e.hint().map_or(String::new(), |hint| format!("; {hint}"))),
    }
}

#[test]
fn finds_what_sources_name() {
    let files = "
        a.txt = a
        b.md = b
        [x].txt = x
        d/one = 1
        d/sub/two = 2
        d/up -> ../a.txt
        to_file -> a.txt
        to_dir -> d
        to_abs -> /d/sub
        out -> ../secret
        hole -> nowhere
        loop -> loop
    ";
    let check = |sources: &[&str], expect: &str| {
        assert_eq!(select_in(files, sources, &SelectOptions::default()), expect, "{sources:?}");
    };
    check(&["a.txt"], "a.txt");
    check(&["/a.txt"], "a.txt");
    check(&["../../a.txt"], "a.txt");
    check(&["d/../a.txt"], "a.txt");
    check(&["d"], "d{one sub sub/two up}");
    check(&["d/"], "d{one sub sub/two up}");
    check(&["d/sub/two", "b.md"], "two, b.md");
    // Patterns may match nothing, names may not.
    check(&["nomatch*", "a.tx[t]"], "a.txt");
    check(&["nomatch*"], "");
    check(&["missing.txt"], "error: \"/missing.txt\": not found");
    check(&["missing/*"], "error: \"/missing\": not found");
    check(&["a.txt/x"], "error: \"/a.txt/x\": not found");
    check(&["*.md", "*.txt"], "b.md, [x].txt, a.txt");
    check(&["[[]x].txt"], "[x].txt");
    check(&[r"\[x\].txt"], "[x].txt");
    check(&["[a"], "error: bad pattern `[a`: syntax error in pattern `[a`");
    check(&["*/t*"], "");
    check(&["*/*/t?o"], "two");
    check(&["d*"], "d{one sub sub/two up}");
    check(&["nope/../*/one"], "one");
    // A link that a source names is followed inside the root and keeps its name.
    check(&["to_file"], "to_file=a.txt");
    check(&["to_dir"], "d{one sub sub/two up}");
    check(&["to_dir/sub"], "d/sub{two}");
    check(&["to_abs/two"], "two");
    check(&["to_abs*"], "d/sub{two}");
    check(&["out"], "error: \"/out\": not found; `out` is a link that leads nowhere inside the root");
    check(&["out*"], "error: \"/out\": not found; `out` is a link that leads nowhere inside the root");
    check(&["hole"], "error: \"/hole\": not found; `hole` is a link that leads nowhere inside the root");
    let looping = select_in(files, &["loop"], &SelectOptions::default());
    assert!(looping.starts_with("error: cannot read `loop`"), "{looping}");
}

#[test]
fn leaves_out_what_the_rules_say() {
    let files = "
        .dockerignore = PLACEHOLDER
        keep/a
        keep/b.log
        deep/x/keep
        deep/x/drop
        deep/y/drop
        gone/a
        link -> gone/a
    ";
    let check = |rules: &[&str], sources: &[&str], expect: &str| {
        let outer = tempfile::tempdir().unwrap();
        make(outer.path(), files);
        fs::write(outer.path().join(".dockerignore"), rules.join("\n")).unwrap();
        let tree = open_directory(outer.path(), None).unwrap().with_ignore(&DockerfilePlace::Input).unwrap();
        let found = match select(&tree, &paths(sources), &SelectOptions::default()) {
            Ok(selection) => show_all(&selection),
            Err(e) => format!("{e}; {}", e.hint().unwrap_or_default()),
        };
        assert_eq!(found, expect, "{rules:?} {sources:?}");
    };
    check(&["gone", "**/*.log"], &["keep"], "keep{a}");
    check(&["*", "!deep/x/keep"], &["."], "{deep deep/x deep/x/keep}");
    check(&["*", "!deep/x/keep"], &["deep"], "deep{x x/keep}");
    check(&["*", "!deep/x/keep"], &["deep/y"], "\"/deep/y\": not found; .dockerignore:1 leaves it out: `*`");
    check(&["gone"], &["gone"], "\"/gone\": not found; .dockerignore:1 leaves it out: `gone`");
    check(&["# c", "go*"], &["gone/a"], "\"/gone/a\": not found; .dockerignore:2 leaves it out: `go*`");
    // What a link leads to counts as much as the link.
    check(&["gone"], &["link"], "\"/link\": not found; .dockerignore:1 leaves it out: `gone`");
    check(&["gone"], &["g*/a"], "");
    check(&["gone"], &["missing"], "\"/missing\": not found; ");
}

#[test]
fn excludes_below_each_source() {
    let files = "
        d/a.txt
        d/b.md
        d/sub/c.txt
        d/sub/d.md
        e/a.txt
        top.txt
    ";
    let check = |exclude: &[&str], sources: &[&str], expect: &str| {
        let exclude = exclude.iter().map(|p| (*p).to_owned()).collect();
        let options = SelectOptions { exclude, parents: false };
        assert_eq!(select_in(files, sources, &options), expect, "{sources:?}");
    };
    check(&["*.txt"], &["d"], "d{b.md sub sub/c.txt sub/d.md}");
    check(&["**/*.txt"], &["d", "e"], "d{b.md sub sub/d.md}, e{}");
    check(&["*.txt"], &["top*", "d/b.md"], "b.md");
    check(&["sub", "!sub/d.md"], &["d"], "d{a.txt b.md sub sub/d.md}");
    check(&["[", "a"], &["d"], "error: bad pattern `[`: syntax error in pattern `[`");
}

#[test]
fn keeps_parents() {
    let files = "
        a/b/c.txt
        a/b/d.md
        a/e/f.txt
        a/g/
        top.txt
        link -> a
    ";
    let check = |sources: &[&str], expect: &str| {
        let options = SelectOptions { exclude: Vec::new(), parents: true };
        assert_eq!(select_in(files, sources, &options), expect, "{sources:?}");
    };
    check(&["a/b/c.txt"], "{a a/b a/b/c.txt}");
    check(&["./a/./b/c.txt"], "a{b b/c.txt}");
    check(&["a/b/./c.txt", "top.txt"], "a/b{c.txt}, {top.txt}");
    check(&["a/b"], "{a a/b a/b/c.txt a/b/d.md}");
    check(&["**/*.txt"], "{a a/b a/b/c.txt a/e a/e/f.txt top.txt}");
    check(&["a/**"], "{a a/b a/b/c.txt a/b/d.md a/e a/e/f.txt a/g}");
    check(&["a/**/f.txt"], "{a a/e a/e/f.txt}");
    check(&["*/./*/*.txt"], "a{b b/c.txt e e/f.txt}");
    check(&["a/nothing*"], "");
    check(&["a/b/missing"], "error: \"/a/b/missing\": not found");
    check(&["a/./missing"], "error: \"/a/missing\": not found");
    // `**` beside other characters stands for directories, as in .dockerignore; first, for anything.
    check(&["**.txt"], "{a a/b a/b/c.txt a/e a/e/f.txt top.txt}");
    check(&["a**c.txt"], "{a a/b a/b/c.txt}");
    check(&["a/**.md"], "");
    check(&[r"to\p.txt"], "{top.txt}");
    check(&["a/[be]/?.txt"], "{a a/b a/b/c.txt a/e a/e/f.txt}");
    check(&["../a/./../top.txt"], "error: \"/a/top.txt\": not found; did you mean `top.txt`?");
    check(&["a/[", "top.txt"], "error: bad pattern `a/[`: syntax error in pattern `a/[`");
    // Links on the way are not followed behind the pivot.
    check(&["link/b/c.txt"], "error: \"/link/b/c.txt\": not found; did you mean `a/b/c.txt`?");
    check(&["link/./b/c.txt"], "a{b b/c.txt}");
}

#[test]
fn excludes_with_parents() {
    let files = "
        a/b/c.txt
        a/b/d.md
        a/e/f.txt
        top.txt
    ";
    let check = |exclude: &[&str], sources: &[&str], expect: &str| {
        let exclude = exclude.iter().map(|p| (*p).to_owned()).collect();
        let options = SelectOptions { exclude, parents: true };
        assert_eq!(
            select_in(files, sources, &options),
            expect,
            "{exclude:?} {sources:?}",
            exclude = options.exclude
        );
    };
    // Relative to what is copied: the root, or the pivot.
    check(&["a/b"], &["**/*.txt"], "{a a/e a/e/f.txt top.txt}");
    check(&["b"], &["a/./**/*.txt"], "a{e e/f.txt}");
    check(&["**/*.md"], &["a/b"], "{a a/b a/b/c.txt}");
    check(&["a", "!a/b/c.txt"], &["a"], "{a a/b a/b/c.txt}");
    // What is left out is still there; what is not there is missed.
    check(&["top.txt"], &["top.txt"], "");
    check(&["*.md"], &["missing"], "error: \"/missing\": not found");
}

#[test]
fn never_opens_what_is_no_file() {
    let (outer, tree) = context("d/file = x");
    let d = RootDir::open(&outer.path().join("context/d")).unwrap();
    d.make_node(Path::new("fifo"), FileType::Fifo, 0o640, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(outer.path().join("context/d/socket")).unwrap();
    let of = |sources: &[&str]| select(&tree, &paths(sources), &SelectOptions::default());
    let selection = of(&["d"]).unwrap();
    assert_eq!(show_all(&selection), "d{fifo file}");
    assert_eq!(selection.sockets, [PathBuf::from("d/socket")]);
    for (source, kind) in [("d/fifo", "FIFO"), ("d/socket", "socket"), ("d/f*o", "FIFO")] {
        let error = of(&[source]).unwrap_err().to_string();
        assert!(error.contains(&format!("is a {kind}, which cannot be copied")), "{error}");
    }
    match d.make_node(Path::new("null"), FileType::CharacterDevice, 0o666, rustix::fs::makedev(1, 3)) {
        Ok(()) => {
            let error = of(&["d"]).unwrap_err().to_string();
            assert!(error.contains("`d/null` is a device"), "{error}");
            let state = Tree::state(RootDir::open(&outer.path().join("context")).unwrap());
            let selection = select(&state, &paths(&["d"]), &SelectOptions::default()).unwrap();
            assert_eq!(show_all(&selection), "d{fifo file null}");
        }
        Err(e) => println!("devices not tested: mknod: {e}"),
    }
}

#[test]
fn names_an_unreadable_file() {
    if rustix::process::geteuid().is_root() {
        println!("not tested: root reads every file");
        return;
    }
    let (outer, tree) = context("d/closed = x\nd/shut/x = y");
    let of = |source: &str| select(&tree, &paths(&[source]), &SelectOptions::default());
    fs::set_permissions(outer.path().join("context/d/closed"), fs::Permissions::from_mode(0o000)).unwrap();
    assert!(of("d").unwrap_err().to_string().contains("cannot read `d/closed`"));
    fs::set_permissions(outer.path().join("context/d/shut"), fs::Permissions::from_mode(0o000)).unwrap();
    assert!(of("d").unwrap_err().to_string().contains("cannot read `d/shut`"));
    fs::set_permissions(outer.path().join("context/d/shut"), fs::Permissions::from_mode(0o700)).unwrap();
}

/// Deep and wide enough for all threads to have a part of it, over and over.
#[test]
fn what_is_found_does_not_depend_on_threads() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path();
    let mut expect = Vec::new();
    let mut file = |path: String| {
        fs::write(root.join(&path), path.as_bytes()).unwrap();
        expect.push(path);
    };
    for top in 0..12 {
        for middle in 0..8 {
            fs::create_dir_all(root.join(format!("{top}/{middle}/left/out"))).unwrap();
            (0..25).for_each(|low| file(format!("{top}/{middle}/{low}")));
        }
        (0..120).for_each(|low| file(format!("{top}/wide-{low}")));
    }
    (0..1000).for_each(|low| file(format!("wide-{low}")));
    let big: Vec<u8> = (0..LARGE as usize * 2).map(|i| (i % 251) as u8).collect();
    fs::write(root.join("5/wide-60"), &big).unwrap();
    make(root, ".dockerignore = */*/left");
    expect.push(".dockerignore".to_owned());
    // In the order of a directory's names, component by component.
    expect.sort_by(|a, b| a.split('/').cmp(b.split('/')));
    let tree = || {
        open_directory(root, None)
            .unwrap()
            .with_ignore(&DockerfilePlace::Inside("Dockerfile".into()))
            .unwrap()
    };
    let mut digests = Vec::new();
    for round in 0..5 {
        let selection = select(&tree(), &paths(&["."]), &SelectOptions::default()).unwrap();
        digests.push(selection.digest);
        let Selected::Directory { entries, .. } = &selection.sources[0] else { panic!("a directory") };
        let files: Vec<String> = entries
            .iter()
            .filter(|entry| !entry.stat.is_dir())
            .map(|entry| entry.path.display().to_string())
            .collect();
        assert_eq!(files, expect, "round {round}");
        for entry in entries.iter().filter(|entry| !entry.stat.is_dir()) {
            let content = fs::read(root.join(&entry.path)).unwrap();
            assert_eq!(entry.kind, EntryKind::File(FileDigest::of(content)), "{}", entry.path.display());
        }
        for (before, entry) in entries.iter().zip(&entries[1..]) {
            let parent = entry.path.parent().unwrap();
            let follows = before.path == parent || before.path.starts_with(parent);
            assert!(follows, "{} after {}", entry.path.display(), before.path.display());
        }
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
    // An error is found wherever it is.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let device = rustix::fs::makedev(1, 3);
    RootDir::open(root)
        .unwrap()
        .make_node(Path::new("7/3/zero"), FileType::CharacterDevice, 0o600, device)
        .unwrap();
    let error = select(&tree(), &paths(&["."]), &SelectOptions::default()).unwrap_err();
    assert!(error.to_string().contains("7/3/zero"), "{error}");
}

#[test]
fn what_a_source_cannot_reach_is_not_looked_at() {
    // A directory nobody may read would be an error, were it entered; root may, so depth does it too.
    let (outer, tree) = context(".dockerignore = ignored\nsmall/a = x");
    for top in ["big", "ignored", "small/ignored"] {
        let mut deep = outer.path().join("context").join(top);
        for _ in 0..=MAX_DEPTH + 1 {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
    }
    let of = |sources: &[&str]| {
        let options = SelectOptions { exclude: vec!["ignored".to_owned()], parents: false };
        select(&tree, &paths(sources), &options).map(|selection| show_all(&selection))
    };
    assert_eq!(of(&["small", "sm*l", "small/a*"]).unwrap(), "small{a}, small{a}, a");
    assert!(matches!(of(&["big"]), Err(ContextError::TooDeep(_))));
    assert!(matches!(of(&["."]), Err(ContextError::TooDeep(_))));
    assert!(matches!(of(&["ignored"]), Err(ContextError::NotFound { .. })));
}

#[test]
fn times_and_owners_do_not_matter_but_content_and_mode_do() {
    let (outer, tree) = context("d/a = one\nd/b = two");
    let digest = || select(&tree, &paths(&["d"]), &SelectOptions::default()).unwrap().digest;
    let file = outer.path().join("context/d/a");
    let before = digest();
    let touched = fs::File::options().write(true).open(&file).unwrap();
    touched.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(digest(), before);
    match std::os::unix::fs::chown(&file, Some(1234), Some(5678)) {
        Ok(()) => {
            assert_eq!(digest(), before);
            let state = |_: ()| Tree::state(RootDir::open(&outer.path().join("context")).unwrap());
            let owned = |tree: Tree| select(&tree, &paths(&["d"]), &SelectOptions::default()).unwrap().digest;
            let first = owned(state(()));
            std::os::unix::fs::chown(&file, Some(0), Some(0)).unwrap();
            assert_ne!(owned(state(())), first);
        }
        Err(e) => println!("owners not tested: chown: {e}"),
    }
    fs::write(&file, "eno").unwrap();
    assert_ne!(digest(), before);
    fs::write(&file, "one").unwrap();
    assert_eq!(digest(), before);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(digest(), before);
}

#[test]
fn a_second_build_hashes_nothing_and_writes_nothing() {
    let (outer, _) = context("d/a = one\nd/b = two");
    let folder = outer.path().join("cache");
    fs::create_dir(&folder).unwrap();
    let root = outer.path().join("context");
    let open = || open_directory(&root, Some(&folder)).unwrap();
    let digest = |tree: &Tree| select(tree, &paths(&["d"]), &SelectOptions::default()).unwrap().digest;
    // The files are as old as the cache can tell: wait for the file system's clock to go on.
    let probe = || {
        fs::metadata(tempfile::NamedTempFile::new_in(&folder).unwrap().path()).unwrap().modified().unwrap()
    };
    let start = probe();
    while probe() <= start {}
    let first = open();
    let expect = digest(&first);
    assert!(first.save_digests().unwrap());
    let second = open();
    assert_eq!(digest(&second), expect);
    assert!(!second.save_digests().unwrap());
    // Same size, same mtime: only ctime and content differ.
    let file = root.join("d/a");
    let mtime = fs::metadata(&file).unwrap().modified().unwrap();
    fs::write(&file, "eno").unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(mtime).unwrap();
    assert_ne!(digest(&open()), expect);
    // Another file under the name, by rename.
    fs::write(root.join("new"), "one").unwrap();
    fs::rename(root.join("new"), &file).unwrap();
    assert_eq!(digest(&open()), expect);
    assert_eq!(DigestCache::open(&folder, &root).save().ok(), Some(false));
}

#[test]
fn heredocs_stand_where_they_were_written() {
    let (_outer, tree) = context("a = x");
    let sources = [Source::Inline { name: "EOF".into(), data: "text".into() }, Source::Path("a".to_owned())];
    let selection = select(&tree, &sources, &SelectOptions::default()).unwrap();
    assert_eq!(show_all(&selection), "<<EOF, a");
}
