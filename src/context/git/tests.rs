//! Tests against real repositories behind a real server.

use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use super::test_server::TIME;
use super::test_server::World;
use super::test_server::address;
use super::test_server::git;
use super::test_server::read;
use super::*;

#[test]
fn checks_out_what_a_name_stands_for() {
    let world = World::new();
    let (old, new) = (world.id("kit", "light"), world.id("kit", "main"));
    let check = |rest: &str, commit: &str, file: &str| {
        let tree = world.checkout(&format!("kit.git{rest}")).unwrap_or_else(|e| panic!("{rest}: {e}"));
        assert_eq!(
            (tree.commit.as_str(), tree.commit_time, tree.name.as_str()),
            (commit, TIME, "kit"),
            "{rest}"
        );
        assert_eq!(read(&tree, "sub/dir/file"), file, "{rest}");
    };
    check("", &new, "new");
    check("#main", &new, "new");
    check("?branch=main", &new, "new");
    check("#refs/heads/main", &new, "new");
    check("#light", &old, "old");
    check("?tag=v1.0", &old, "old");
    check("#v1.0", &old, "old");
    check("#both", &new, "new");
    check("?tag=both", &old, "old");
    check(&format!("#{old}"), &old, "old");
    check(&format!("?checksum={old}"), &old, "old");
    check(&format!("?ref=v1.0&checksum={}", &old[..7]), &old, "old");
    check(&format!("?ref=v1.0&checksum={}", &world.id("kit", "v1.0")[..9]), &old, "old");
    check(&format!("?ref=gone&checksum={old}&fetch-by-commit=1"), &old, "old");
    check(&format!("#{}", world.id("kit", "v1.0")), &old, "old");
}

#[test]
fn asks_no_more_than_it_must() {
    let world = World::new();
    let old = world.id("kit", "light");
    world.checkout("kit.git#main").unwrap();
    assert!(world.asked().len() > 2);
    world.checkout("kit.git#main").unwrap();
    let asked = world.asked();
    assert!(asked.len() <= 2 && asked.iter().all(|a| !a.contains("receive")), "only ls-remote: {asked:?}");
    world.checkout("kit.git#main:sub").unwrap();
    assert_eq!(world.asked().len(), asked.len(), "another directory is no other checkout");
    world.checkout(&format!("kit.git#{old}")).unwrap();
    world.asked();
    world.checkout(&format!("kit.git#{old}")).unwrap();
    assert_eq!(world.asked(), [""; 0], "a whole commit needs nobody");
    // Other options, same commit: the objects are here.
    world.checkout(&format!("kit.git?mtime=commit#{old}")).unwrap();
    assert_eq!(world.asked(), [""; 0]);
    let left = std::fs::read_dir(world.options().folder.join("staging")).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn takes_all_where_a_server_gives_names_only() {
    let world = World::new();
    world.speak_old_protocol();
    let first = world.id("kit", "light");
    git(&world.outer.path().join("served/kit.git"), &["tag", "-d", "light", "v1.0", "both"]);
    assert_eq!(read(&world.checkout(&format!("kit.git#{first}")).unwrap(), "sub/dir/file"), "old");
    // In a repository that was fetched without history.
    let second = world.commit("kit");
    world.checkout("kit.git").unwrap();
    world.commit("kit");
    assert_eq!(world.checkout(&format!("kit.git#{second}")).unwrap().commit, second);
    let nowhere = "1234567890".repeat(4);
    let error = world.fails(&format!("kit.git#{nowhere}"));
    assert!(error.contains(&format!("has no commit {nowhere}")), "{error}");
}

#[test]
fn follows_a_branch_that_moves_and_one_that_was_forced() {
    let world = World::new();
    let kit = world.outer.path().join("served/kit.git");
    world.checkout("kit.git#main").unwrap();
    world.write("kit", &[("sub/dir/file", "newer")]);
    world.commit("kit");
    assert_eq!(read(&world.checkout("kit.git#main").unwrap(), "sub/dir/file"), "newer");
    git(&kit, &["reset", "--quiet", "--hard", "light"]);
    assert_eq!(read(&world.checkout("kit.git#main").unwrap(), "sub/dir/file"), "old");
    // It moves between the question and the fetch: what was resolved is what comes.
    let (git_, address) = (Git::new(world.options()), world.address("kit.git#main"));
    let access = GitAccess { secret: &|_| None, cancelled: &|| false };
    world.write("kit", &[("sub/dir/file", "seen")]);
    world.commit("kit");
    let seen = git_.resolve(&address, access).unwrap();
    world.write("kit", &[("sub/dir/file", "unseen")]);
    world.commit("kit");
    assert_eq!(read(&git_.checkout(&address, &seen, access).unwrap(), "sub/dir/file"), "seen");
    // A branch becomes a directory of branches.
    git(&kit, &["checkout", "--quiet", "--detach"]);
    git(&kit, &["branch", "-D", "both"]);
    git(&kit, &["branch", "both/inner"]);
    world.checkout("kit.git#both/inner").unwrap();
}

#[test]
fn holds_commits_against_checksums() {
    let world = World::new();
    let (old, new) = (world.id("kit", "light"), world.id("kit", "main"));
    let check = |rest: &str, found: &str, expected: &str| {
        let error = world.fails(&format!("kit.git{rest}"));
        assert!(error.contains(found) && error.contains(expected), "{error}");
    };
    check(&format!("?ref=main&checksum={old}"), &new, &old);
    check("?ref=main&checksum=abc", &new, "abc is required");
    check(&format!("?ref={old}&commit={}", &new[..8]), &old, &new[..8]);
}

#[test]
fn opens_directories_inside_only() {
    let world = World::new();
    let kit = world.outer.path().join("served/kit.git");
    for (target, name) in [("../../..", "up"), ("/usr", "etc"), ("sub/dir", "in"), ("../..", "sub/out")] {
        std::os::unix::fs::symlink(target, kit.join(name)).unwrap();
        git(&kit, &["add", name]);
    }
    world.commit("kit");
    let file = |subdir: &str| read(&world.checkout(&format!("kit.git#main:{subdir}")).unwrap(), "file");
    assert_eq!(file("sub/dir"), "new");
    assert_eq!(file("/sub/./dir/"), "new");
    assert_eq!(file("in"), "new");
    let check = |subdir: &str, expect: &str| {
        let error = world.fails(&format!("kit.git#main:{subdir}"));
        assert!(error.contains(expect), "{error}");
    };
    check("none", "`none` of http");
    check("none", "does not exist");
    check("Dockerfile", "is not a directory");
    check("up", "leads out of the repository");
    check("sub/out", "leads out of the repository");
    // An absolute link starts at the repository's root, where there is no such directory.
    check("etc", "does not exist");
}

#[test]
fn brings_submodules_and_theirs() {
    let world = World::new();
    for (name, inside) in [("leaf", None), ("branch", Some("leaf")), ("tree", Some("branch"))] {
        let path = world.repository(name);
        world.write(name, &[("name", name)]);
        if let Some(inside) = inside {
            let url = format!("../{inside}.git");
            let from = world.outer.path().join("served").join(format!("{inside}.git"));
            git(&path, &["submodule", "--quiet", "add", "--name", "it", from.to_str().unwrap(), "module"]);
            git(&path, &["config", "--file", ".gitmodules", "submodule.it.url", &url]);
            git(&path, &["add", ".gitmodules"]);
        }
        world.commit(name);
    }
    let check = |query: &str, all: bool, dot_git: bool| {
        let tree = world.checkout(&format!("tree.git{query}")).unwrap();
        assert_eq!(read(&tree, "name"), "tree");
        assert_eq!(tree.path.join("module/module/name").exists(), all, "{query}");
        for place in ["module/.git", "module/module/.git"] {
            assert_eq!(tree.path.join(place).exists(), dot_git, "{query} {place}");
        }
        if dot_git {
            git(&tree.path.join("module/module"), &["status"]);
            assert_self_contained(&world, &tree.path);
        }
    };
    check("", true, false);
    check("?submodules=true", true, false);
    check("?submodules=false", false, false);
    check("?keep-git-dir=true", true, true);
    // A commit that its branch has left behind, from a server that gives names only.
    world.commit("leaf");
    world.speak_old_protocol();
    std::fs::remove_dir_all(world.options().folder).unwrap();
    check("", true, false);
    // The token of a host is for all its repositories.
    std::fs::remove_dir_all(world.options().folder).unwrap();
    world.want_authorization("Basic eC1hY2Nlc3MtdG9rZW46dA==");
    let token = |name: &str| (name == "GIT_AUTH_TOKEN").then(|| b"t".to_vec());
    let tree = world.checkout_with("tree.git", &token).unwrap();
    assert!(tree.path.join("module/module/name").exists());
}

/// Checks that nothing in a repository's files leads back to us.
fn assert_self_contained(world: &World, files: &Path) {
    let ours = world.options().folder.to_string_lossy().into_owned();
    for entry in walkdir::WalkDir::new(files.join(".git")) {
        let entry = entry.unwrap();
        assert!(!entry.path().ends_with("objects/info/alternates"), "{entry:?}");
        if entry.file_type().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            assert!(!bytes.windows(ours.len()).any(|w| w == ours.as_bytes()), "{}", entry.path().display());
        }
    }
}

#[test]
fn keeps_the_git_directory_when_asked() {
    let world = World::new();
    let check = |rest: &str, reference: Option<&str>| {
        let with_user = format!("http://joe:pass@127.0.0.1:{}/kit.git{rest}", world.port);
        let (git_, address) = (Git::new(world.options()), address(&with_user));
        let access = GitAccess { secret: &|_| None, cancelled: &|| false };
        let commit = git_.resolve(&address, access).unwrap();
        let tree = git_.checkout(&address, &commit, access).unwrap();
        assert_eq!(git(&tree.path, &["rev-parse", "HEAD"]), tree.commit);
        assert_eq!(git(&tree.path, &["status", "--porcelain"]), "");
        let origin = git(&tree.path, &["config", "remote.origin.url"]);
        assert_eq!(origin, format!("http://127.0.0.1:{}/kit.git", world.port));
        let names = git(&tree.path, &["for-each-ref", "--format=%(refname)"]);
        assert_eq!(names, reference.unwrap_or_default(), "{rest}");
        git(&tree.path, &["fsck", "--strict"]);
        for name in ["hooks", "logs", "FETCH_HEAD"] {
            assert!(!tree.path.join(".git").join(name).exists(), "{name}");
        }
        assert_self_contained(&world, &tree.path);
    };
    check("?keep-git-dir=true", Some("refs/heads/main"));
    check("?keep-git-dir=true&tag=v1.0", Some("refs/tags/v1.0"));
    check(&format!("?keep-git-dir=true#{}", world.id("kit", "light")), None);
    assert!(!world.checkout("kit.git").unwrap().path.join(".git").exists());
    let inner = world.checkout("kit.git?keep-git-dir=true#:sub").unwrap();
    assert!(!inner.path.join(".git").exists() && !inner.path.join("../.git").exists());
}

#[test]
fn modes_and_times_are_the_same_everywhere() {
    let world = World::new();
    std::os::unix::fs::symlink("nowhere", world.outer.path().join("served/kit.git/link")).unwrap();
    git(&world.outer.path().join("served/kit.git"), &["add", "link"]);
    world.commit("kit");
    let tree = world.checkout("kit.git?mtime=commit").unwrap();
    let about = |name: &str| {
        let about = std::fs::symlink_metadata(tree.path.join(name)).unwrap();
        (about.permissions().mode() & 0o7777, about.mtime())
    };
    assert_eq!(about(""), (0o755, TIME));
    assert_eq!(about("Dockerfile"), (0o644, TIME));
    assert_eq!(about("run"), (0o755, TIME));
    assert_eq!(about("sub/dir"), (0o755, TIME));
    assert_eq!(about("link"), (0o777, TIME));
    let other = world.checkout("kit.git?mtime=checkout").unwrap();
    assert!(std::fs::metadata(other.path.join("run")).unwrap().mtime() > TIME);
    assert_ne!(tree.path, other.path);
    let folder = std::fs::metadata(world.options().folder).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
}

#[test]
fn logs_in_and_leaves_no_trace_of_it() {
    let world = World::new();
    // A git that tells what it was given as arguments.
    let (bin, log) = (world.outer.path().join("bin"), world.outer.path().join("log"));
    std::fs::create_dir(&bin).unwrap();
    let real = command::find_git(&world.options().path).unwrap();
    let script = format!("#!/bin/sh\necho \"$@\" >>{}\nexec {} \"$@\"\n", log.display(), real.display());
    std::fs::write(bin.join("git"), script).unwrap();
    std::fs::set_permissions(bin.join("git"), PermissionsExt::from_mode(0o755)).unwrap();
    let mut options = world.options();
    options.path =
        std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&options.path))).unwrap();

    let try_with = |user: &str, secrets: &[(&str, &str)]| {
        let text = format!("http://{user}127.0.0.1:{}/kit.git?keep-git-dir=1", world.port);
        let (git, address) = (Git::new(options.clone()), address(&text));
        let secret =
            |name: &str| secrets.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_bytes().to_vec());
        let access = GitAccess { secret: &secret, cancelled: &|| false };
        let result = git.resolve(&address, access).and_then(|c| git.checkout(&address, &c, access));
        for entry in walkdir::WalkDir::new(&options.folder).into_iter().chain(walkdir::WalkDir::new(&log)) {
            let entry = entry.unwrap();
            if entry.file_type().is_file() {
                let text = String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned();
                for secret in ["s3cret", "joe", "am9lOnMzY3JldA", "eC1hY2Nlc3MtdG9rZW46czNjcmV0"] {
                    assert!(!text.contains(secret), "{secret} is in {}", entry.path().display());
                }
            }
        }
        let _ = std::fs::remove_dir_all(&options.folder);
        result.map(|tree| tree.commit)
    };
    let host = format!("GIT_AUTH_TOKEN.127.0.0.1:{}", world.port);
    world.want_authorization("Basic am9lOnMzY3JldA==");
    try_with("joe:s3cret@", &[]).unwrap();
    let error = try_with("joe:wrong@", &[]).unwrap_err();
    assert!(matches!(error, GitError::Authentication { .. }), "{error}");
    assert!(error.hint().unwrap().contains(&host), "{:?}", error.hint());
    assert!(!format!("{error:?}").contains("wrong"));
    world.want_authorization("Basic eC1hY2Nlc3MtdG9rZW46czNjcmV0");
    try_with("", &[("GIT_AUTH_TOKEN", "s3cret\n")]).unwrap();
    try_with("joe:s3cret@", &[(&host, "s3cret"), ("GIT_AUTH_TOKEN", "other")]).unwrap();
    assert!(try_with("", &[]).is_err());
    world.want_authorization("Bearer s3cret");
    try_with("", &[("GIT_AUTH_HEADER", "Bearer s3cret")]).unwrap();
    assert!(std::fs::read_to_string(&log).unwrap().contains("ls-remote"), "the script was used");
}

#[test]
fn says_what_is_wrong() {
    let world = World::new();
    world.repository("empty");
    let check = |rest: &str, expect: &str| {
        let error = world.fails(rest);
        assert!(error.contains(expect), "{rest}: {error}");
    };
    check("none.git", "was not found");
    check("none.git", "GIT_AUTH_TOKEN");
    check("empty.git", "it is empty");
    check("kit.git#man", "no branch, tag or other reference `man` [did you mean `main`?]");
    check("kit.git?tag=v1.1", "did you mean `v1.0`?");
    check("kit.git#something-else-entirely", "reference `something-else-entirely` []");
    check(&format!("kit.git#{}", &world.id("kit", "main")[..8]), "give all of its digits");
    check(&format!("kit.git#{}", "0123456789".repeat(4)), "has no commit 0123456789");

    let fails = |text: &str, options: GitOptions| {
        let access = GitAccess { secret: &|_| None, cancelled: &|| false };
        let error = Git::new(options).resolve(&address(text), access).unwrap_err();
        format!("{error} [{}]", error.hint().unwrap_or_default())
    };
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for scheme in ["http", "git"] {
        let error = fails(&format!("{scheme}://{nobody}/x.git"), world.options());
        assert!(error.contains("cannot be reached"), "{error}");
    }
    let error = fails("https://h/x.git", GitOptions { path: "/nonexistent".into(), ..world.options() });
    assert!(error.contains("git was not found") && error.contains("install git"), "{error}");
}

#[test]
fn many_at_once_get_the_same() {
    let world = World::new();
    let trees: Vec<GitTree> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..6)
            .map(|n| {
                let world = &world;
                scope.spawn(move || world.checkout(["kit.git#main", "kit.git#v1.0"][n % 2]).unwrap())
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for (n, tree) in trees.iter().enumerate() {
        assert_eq!(read(tree, "sub/dir/file"), ["new", "old"][n % 2]);
        assert_eq!(tree.path, trees[n % 2].path);
        let lock = tree.path.parent().unwrap().with_extension("lock");
        assert!(FileLock::try_exclusive(&lock).unwrap().is_none(), "held while the tree is read");
    }
}

#[test]
fn ends_when_it_is_cancelled() {
    let world = World::new();
    // A server that takes a request and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let cancelled = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let connection = scope.spawn(|| {
            let mut stream = silent.accept().unwrap().0;
            let mut byte = [0];
            std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
            cancelled.store(true, Ordering::SeqCst);
            // Until the other side is gone: all of its processes are.
            std::io::copy(&mut stream, &mut std::io::sink())
        });
        let asked = || cancelled.load(Ordering::SeqCst);
        let access = GitAccess { secret: &|_| None, cancelled: &asked };
        let address = address(&format!("http://127.0.0.1:{port}/x.git"));
        let error = Git::new(world.options()).resolve(&address, access).unwrap_err();
        assert!(matches!(error, GitError::Cancelled), "{error}");
        // A reset is an end too.
        let _ = connection.join().unwrap();
    });
    let always = GitAccess { secret: &|_| None, cancelled: &|| true };
    let (git, address) = (Git::new(world.options()), world.address("kit.git"));
    assert!(matches!(git.resolve(&address, always), Err(GitError::Cancelled)));
}
