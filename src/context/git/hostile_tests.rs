//! Tests of repositories, and of environments, that are up to no good.

use std::process::Command;

use super::test_server::World;
use super::test_server::git;
use super::test_server::read;
use super::*;

/// Adds a submodule by hand, as no git would write it.
fn bad_submodule(world: &World, name: &str, path: &str, url: &str, more: &str) -> String {
    let kit = world.outer.path().join("served/kit.git");
    let modules = format!("[submodule \"{name}\"]\n\tpath = {path}\n\turl = {url}\n{more}");
    world.write("kit", &[(".gitmodules", &modules)]);
    let link = format!("160000,{},module", world.id("kit", "light"));
    git(&kit, &["update-index", "--add", "--cacheinfo", &link]);
    world.commit("kit")
}

/// Returns all names below a folder but those of the server's and of git's own.
fn files_outside(world: &World) -> Vec<String> {
    let all = walkdir::WalkDir::new(world.outer.path()).sort_by_file_name().into_iter();
    let skip =
        |entry: &walkdir::DirEntry| !["served", "repositories"].iter().any(|n| entry.file_name() == *n);
    all.filter_entry(skip).map(|entry| entry.unwrap().path().display().to_string()).collect()
}

#[test]
fn submodules_cannot_run_or_reach_what_is_here() {
    let world = World::new();
    let mark = world.outer.path().join("mark");
    let touch = |prefix: &str| format!("{prefix}touch% {}", mark.display());
    let served = world.outer.path().join("served/kit.git").display().to_string();
    let check = |name: &str, path: &str, url: &str, more: &str| {
        bad_submodule(&world, name, path, url, more);
        let result = world.checkout("kit.git");
        assert!(!mark.exists(), "{name} {path} {url} {more}");
        assert!(files_outside(&world).iter().all(|f| !f.contains("EVIL")), "{:?}", files_outside(&world));
        result.expect_err(name).to_string()
    };
    let refused = |error: String, expect: &str| assert!(error.contains(expect), "{error}");
    refused(check("m", "module", &touch("ext::sh -c "), ""), "not allowed");
    refused(check("m", "module", &served, ""), "not allowed");
    refused(check("m", "module", &format!("file://{served}"), ""), "not allowed");
    refused(check("m", "module", &touch("--upload-pack="), ""), "gitmodulesUrl");
    refused(check("m", "module", "fd::17", ""), "not allowed");
    refused(check("../../EVIL", "module", "../kit.git", ""), "gitmodulesName");
    refused(check("m", "-EVIL", "../kit.git", ""), "gitmodulesPath");
    let command = format!("\tupdate = !touch {}\n", mark.display());
    refused(check("m", "module", "../kit.git", &command), "gitmodulesUpdate");
    refused(check("m", "../EVIL", "../kit.git", ""), "No url found");
    refused(check("m", "module", "ssh://-oProxyCommand=touch%20EVIL/x", ""), "fetch the submodules of");
}

#[test]
fn a_submodule_does_not_follow_links() {
    let world = World::new();
    let outside = world.outer.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let kit = world.outer.path().join("served/kit.git");
    std::os::unix::fs::symlink(&outside, kit.join("link")).unwrap();
    git(&kit, &["add", "link"]);
    let modules = "[submodule \"m\"]\n\tpath = link/module\n\turl = ../kit.git\n";
    world.write("kit", &[(".gitmodules", modules)]);
    world.commit("kit");
    // A tree with both the link and files below it, which only a hand-made commit has.
    let object = world.id("kit", "light");
    let inner = git_with_input(&kit, &["mktree"], &format!("160000 commit {object}\tmodule\n"));
    let listing = git(&kit, &["ls-tree", "HEAD"]);
    let tree = git_with_input(&kit, &["mktree"], &format!("{listing}\n040000 tree {inner}\tLINK\n"));
    let commit = git(&kit, &["commit-tree", "-m", "x", &tree]);
    git(&kit, &["update-ref", "refs/heads/bad", &commit]);
    let _ = world.checkout("kit.git#bad");
    let _ = world.checkout("kit.git");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

fn git_with_input(directory: &Path, arguments: &[&str], input: &str) -> String {
    let file = directory.join(".git/input");
    std::fs::write(&file, input).unwrap();
    let mut command = Command::new("git");
    command.args(arguments).current_dir(directory).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    let output = command.stdin(std::fs::File::open(&file).unwrap()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn links_stay_inside() {
    let world = World::new();
    let kit = world.outer.path().join("served/kit.git");
    std::fs::remove_file(kit.join("Dockerfile")).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", kit.join("Dockerfile")).unwrap();
    std::os::unix::fs::symlink("../../../../../../../etc/passwd", kit.join("up")).unwrap();
    git(&kit, &["add", "--all"]);
    world.commit("kit");
    let tree = world.checkout("kit.git?mtime=commit").unwrap();
    for name in ["Dockerfile", "up"] {
        let error = tree.tree.root().read_small(Path::new(name), 1 << 20).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{name}");
        assert!(std::fs::symlink_metadata(tree.path.join(name)).unwrap().is_symlink(), "{name}");
    }
    // The time was given to the links and not to where they lead.
    let passwd = std::fs::metadata("/etc/passwd").unwrap().modified().unwrap();
    assert!(passwd > std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_500_000_000));
}

#[test]
fn names_of_git_are_refused_in_trees() {
    let world = World::new();
    let kit = world.outer.path().join("served/kit.git");
    let blob = git(&kit, &["rev-parse", "HEAD:Dockerfile"]);
    for name in [".git", ".GIT", "git~1", ".."] {
        let inner = git_with_input(&kit, &["mktree"], &format!("100755 blob {blob}\tconfig\n"));
        let listing = format!("040000 tree {inner}\t{name}\n");
        let tree = git_with_input(&kit, &["mktree"], &listing);
        let commit = git(&kit, &["commit-tree", "-m", "x", &tree]);
        git(&kit, &["update-ref", "refs/heads/bad", &commit]);
        let error = world.fails("kit.git#bad");
        assert!(error.contains("git cannot"), "{name}: {error}");
    }
}

/// What the next test runs again in an environment of its own; a plain checkout here.
#[test]
fn checks_out_in_any_environment() {
    let world = World::new();
    world
        .write("kit", &[(".gitattributes", "* filter=evil diff=evil\n*.bin filter=lfs\n"), ("a.bin", "raw")]);
    world.commit("kit");
    let tree = world.checkout("kit.git?keep-git-dir=1").unwrap();
    assert_eq!(read(&tree, "a.bin"), "raw");
    assert_eq!(read(&tree, "sub/dir/file"), "new");
}

#[test]
fn nothing_of_the_callers_environment_counts() {
    let world = World::new();
    let home = world.outer.path().join("home");
    let mark = world.outer.path().join("mark");
    let hooks = home.join("template/hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    let script = format!("#!/bin/sh\ntouch {}\n", mark.display());
    for hook in ["post-checkout", "reference-transaction", "post-index-change", "evil"] {
        std::fs::write(hooks.join(hook), &script).unwrap();
        std::fs::set_permissions(hooks.join(hook), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
    }
    let (evil, template) = (hooks.join("evil"), home.join("template"));
    let settings = format!(
        "[core]\n hooksPath = {}\n fsmonitor = {evil}\n sshCommand = {evil}\n[init]\n templateDir = {}\n\
         [filter \"evil\"]\n smudge = {evil}\n required = true\n[filter \"lfs\"]\n smudge = {evil}\n\
         [credential]\n helper = {evil}\n[url \"http://127.0.0.1:1/\"]\n insteadOf = http://127.0.0.1\n",
        hooks.display(),
        template.display(),
        evil = evil.display(),
    );
    std::fs::write(home.join(".gitconfig"), settings).unwrap();
    // A hook of git's runs with these set (githooks(5)).
    let own = world.outer.path().join("served/kit.git");
    let before = git(&own, &["for-each-ref"]);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "context::git::hostile_tests::checks_out_in_any_environment"])
        .env("HOME", &home)
        .env("XDG_CONFIG_HOME", &home)
        .env("GIT_DIR", own.join(".git"))
        .env("GIT_WORK_TREE", &own)
        .env("GIT_INDEX_FILE", own.join(".git/index"))
        .env("GIT_OBJECT_DIRECTORY", "/nonexistent")
        .env("GIT_TEMPLATE_DIR", &template)
        .env("GIT_CONFIG_GLOBAL", home.join(".gitconfig"))
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "core.hooksPath")
        .env("GIT_CONFIG_VALUE_0", &hooks)
        .env("GIT_SSH_COMMAND", &evil)
        .env("GIT_ASKPASS", &evil)
        .env("GIT_EXTERNAL_DIFF", &evil)
        .env("GIT_PROXY_COMMAND", &evil)
        .env("GIT_ALLOW_PROTOCOL", "ext")
        .env("GIT_EXEC_PATH", "/nonexistent")
        .env("http_proxy", "http://127.0.0.1:1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert!(!mark.exists());
    assert_eq!(git(&own, &["for-each-ref"]), before);
    assert_eq!(git(&own, &["status", "--porcelain"]), "");
}

#[test]
fn a_server_cannot_type_on_the_terminal() {
    let world = World::new();
    let address = world.address("kit.git");
    let said = "remote: \x1b]0;owned\x07 https://joe:pass@h/\r\nfatal: \u{9b}2J no\n";
    let error = GitError::from_output("ask", &address, said);
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(['\x1b', '\x07', '\u{9b}', '\r']) && !shown.contains("pass"), "{shown}");
    let long = error::summary(&"x".repeat(1 << 20));
    assert!(long.len() < 1000, "{}", long.len());
}
