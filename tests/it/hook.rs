//! Images from git hooks: real repositories, real commits, a worker that outlives them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::common::git::GitHost;
use super::common::registry::Registry;
use super::common::{Outcome, TestEnv};

const DOCKERFILE: &str = "FROM scratch\nCOPY . /\n";

/// A repository in a place, that belongs to who runs there.
pub struct Repository<'e> {
    env: &'e TestEnv,
    pub path: PathBuf,
}

impl<'e> Repository<'e> {
    pub fn new(env: &'e TestEnv, name: &str) -> Repository<'e> {
        let path = env.path(name);
        fs::create_dir(&path).unwrap();
        env.give(&path);
        let repository = Repository { env, path };
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    fn cmd(&self, program: &str, args: &[&str]) -> super::common::command::Cmd<'e> {
        let who = [("AUTHOR", "a"), ("COMMITTER", "c")];
        let mut cmd = self.env.program(program, args).folder(&self.path);
        for (kind, name) in who {
            cmd = cmd.var(&format!("GIT_{kind}_NAME"), name).var(&format!("GIT_{kind}_EMAIL"), "x@x");
        }
        cmd.var("GIT_CONFIG_NOSYSTEM", "1")
    }

    #[track_caller]
    pub fn git(&self, args: &[&str]) -> String {
        self.cmd("git", args).ok().stdout.trim().to_owned()
    }

    #[track_caller]
    fn rbuild(&self, args: &[&str]) -> Outcome {
        self.cmd(self.env.exe().to_str().unwrap(), args).output()
    }

    pub fn write(&self, name: &str, content: &str) {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        for made in path.ancestors().take_while(|made| *made != self.path) {
            self.env.give(made);
        }
    }

    /// Writes a file and commits it; returns what the commit printed and the short name.
    #[track_caller]
    pub fn commit(&self, name: &str, content: &str) -> (Outcome, String) {
        self.write(name, content);
        self.git(&["add", "--all"]);
        let outcome = self.cmd("git", &["commit", "--quiet", "-m", content]).ok();
        (outcome, self.git(&["log", "-1", "HEAD", "--format=%h"]))
    }

    /// Waits until nothing is built and nothing waits; returns the log.
    #[track_caller]
    fn log(&self) -> String {
        self.rbuild(&["hook", "log", "-f"]).ok().stdout
    }

    fn hook(&self) -> PathBuf {
        self.path.join(".git/hooks/post-commit")
    }
}

/// The names of the images of a store.
fn images(env: &TestEnv) -> Vec<String> {
    let said = env.rbuild(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok().stdout;
    said.lines().map(str::to_owned).collect()
}

/// Returns a file of an image.
fn file_of(env: &TestEnv, image: &str, name: &str) -> Option<String> {
    let tar = env.path("image.tar");
    let told = env.rbuild(&["export", "-o", tar.to_str().unwrap(), image]).output();
    assert_eq!(told.code, Some(0), "{told}");
    let mut archive = tar::Archive::new(fs::File::open(&tar).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap() == Path::new(name) {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
            return Some(text);
        }
    }
    None
}

both! {
    fn each_commit_becomes_an_image(env) {
        let repository = Repository::new(env, "My App");
        let said = repository.rbuild(&["hook", "install"]).ok();
        said.has_all(&["installed ", ".git/hooks/post-commit", "as my-app:HASH"]);
        let (outcome, first) = repository.commit("Dockerfile", DOCKERFILE);
        outcome.has_all(&[&format!("rbuild: building my-app:{first} in the background"), ".git/rbuild/log"]);
        let log = repository.log();
        assert!(log.contains(&format!("{first}: finished")), "{log}");
        // What is not committed is not in the image, what is committed is.
        repository.write("secret", "not committed");
        repository.write("f", "two");
        repository.git(&["add", "f"]);
        repository.git(&["commit", "--quiet", "-m", "two"]);
        let second = repository.git(&["rev-parse", "--short", "HEAD"]);
        repository.log();
        let image = format!("my-app:{second}");
        assert_eq!(images(env).len(), 2);
        assert_eq!(file_of(env, &image, "f").as_deref(), Some("two"));
        assert_eq!(file_of(env, &image, "secret"), None);
        assert_eq!(file_of(env, &image, ".git/HEAD"), None);
        let status = repository.rbuild(&["hook", "status"]).ok();
        status.has_all(&["post-commit: ", "hook run --tag my-app -- .", &format!("last: {image} finished in")]);
        repository.rbuild(&["hook", "uninstall"]).ok().has("removed ");
        assert!(!repository.hook().exists());
        repository.rbuild(&["hook", "uninstall"]).exits(1).has("`rbuild hook install` installs one");
        let (outcome, _) = repository.commit("f", "three");
        outcome.lacks("rbuild");
        assert_eq!(images(env).len(), 2);
    }

    fn a_work_tree_is_built_as_it_lies(env) {
        let repository = Repository::new(env, "app");
        repository.write("sub/d/File", DOCKERFILE);
        repository.rbuild(&["hook", "install", "--work-tree", "-t", "me/app", "-f", "sub/d/File", "sub"]).ok();
        repository.write("sub/f", "not committed");
        repository.git(&["commit", "--quiet", "--allow-empty", "-m", "x"]);
        let short = repository.git(&["rev-parse", "--short", "HEAD"]);
        let log = repository.log();
        assert!(log.contains("finished"), "{log}");
        assert_eq!(file_of(env, &format!("me/app:{short}"), "f").as_deref(), Some("not committed"));
    }

    fn nothing_fails_a_commit(env) {
        let repository = Repository::new(env, "app");
        repository.rbuild(&["hook", "install"]).ok();
        let (_, short) = repository.commit("Dockerfile", "FROM nowhere.invalid/none\n");
        let log = repository.log();
        assert!(log.contains(&format!("{short}: failed")) && log.contains("nowhere.invalid"), "{log}");
        repository.rbuild(&["hook", "status"]).ok().has("failed after");
        // The program is gone.
        let text = fs::read_to_string(repository.hook()).unwrap();
        let moved = text.replace(env.exe().to_str().unwrap(), "/nowhere/rbuild");
        fs::write(repository.hook(), moved).unwrap();
        let (outcome, _) = repository.commit("f", "x");
        outcome.has("no image is built").has("/nowhere/rbuild");
        // Its folder cannot be written to.
        fs::write(repository.hook(), text).unwrap();
        fs::remove_dir_all(repository.path.join(".git/rbuild")).unwrap();
        fs::write(repository.path.join(".git/rbuild"), "in the way").unwrap();
        let (outcome, _) = repository.commit("f", "y");
        outcome.has("rbuild: no image is built of this commit").has("error: cannot make the folder");
    }

    fn a_rebase_is_built_one_by_one(env) {
        let repository = Repository::new(env, "app");
        repository.write("Dockerfile", DOCKERFILE);
        repository.commit("base", "0");
        repository.git(&["branch", "topic"]);
        repository.commit("base", "1");
        repository.git(&["checkout", "--quiet", "topic"]);
        for number in 0..12 {
            repository.commit(&format!("f{number}"), "x");
        }
        repository.rbuild(&["hook", "install"]).ok();
        let outcome = repository.cmd("git", &["cherry-pick", "main"]).ok();
        outcome.has("rbuild: building app:");
        repository.git(&["rebase", "--quiet", "--force-rebase", "main"]);
        let commits = repository.git(&["log", "--format=%h", "main..HEAD"]);
        let log = repository.log();
        let newest = commits.lines().next().unwrap();
        assert!(images(env).contains(&format!("app:{newest}")), "the last one is not lost\n{log}");
        // One at a time: between two beginnings there is an end.
        let mut under_way = 0;
        for line in log.lines().filter(|line| line.starts_with("== ")) {
            under_way += i32::from(line.contains(": building ")) - i32::from(line.contains(": finished in "));
            assert!((0..=1).contains(&under_way), "{log}");
        }
        assert_eq!(under_way, 0);
    }

    fn what_waits_behind_a_slow_build(env) {
        env.busybox();
        let repository = Repository::new(env, "app");
        repository.rbuild(&["hook", "install", "--latest-only"]).ok();
        // Only the first takes long: later ones find its step in the cache or are not wanted.
        let slow = "FROM busybox:test\nCOPY . /\nRUN sleep 1\n";
        let (_, first) = repository.commit("Dockerfile", slow);
        let shorts: Vec<String> = (0..4).map(|n| repository.commit("f", &n.to_string()).1).collect();
        let log = repository.log();
        assert!(log.contains(&format!("{}: finished", shorts[3])), "{log}");
        let built = shorts.iter().filter(|short| log.contains(&format!("{short}: building"))).count();
        let dropped = shorts.iter().filter(|short| log.contains(&format!("{short}: not built"))).count();
        assert_eq!(built + dropped, 4, "{first} {log}");
    }

    fn a_hook_that_was_there_is_kept_and_called(env) {
        let repository = Repository::new(env, "app");
        let theirs = "#!/bin/sh\necho theirs ran\nexit 3\n";
        repository.write(".git/hooks/post-commit", theirs);
        fs::set_permissions(repository.hook(), fs::Permissions::from_mode(0o755)).unwrap();
        let refused = repository.rbuild(&["hook", "install"]).exits(1);
        refused.has_all(&["a hook already that is not rbuild's", "hint: --force keeps it"]);
        assert_eq!(fs::read_to_string(repository.hook()).unwrap(), theirs);
        repository.rbuild(&["hook", "install", "--force"]).ok().has("is called first");
        repository.rbuild(&["hook", "install", "-t", "other"]).ok();
        let (outcome, _) = repository.commit("Dockerfile", DOCKERFILE);
        outcome.has("theirs ran").has("rbuild: building other:");
        repository.log();
        repository.rbuild(&["hook", "uninstall"]).ok().has("the hook that was there before is back");
        assert_eq!(fs::read_to_string(repository.hook()).unwrap(), theirs);
    }

    fn where_hooks_lie(env) {
        // In a linked work tree they are the repository's.
        let repository = Repository::new(env, "app");
        repository.commit("Dockerfile", DOCKERFILE);
        let linked = env.path("linked");
        repository.git(&["worktree", "add", "--quiet", linked.to_str().unwrap()]);
        let tree = Repository { env, path: linked };
        tree.rbuild(&["hook", "install"]).ok();
        assert!(repository.hook().exists());
        let (_, short) = tree.commit("f", "x");
        assert!(tree.log().contains(&format!("{short}: finished")));
        assert!(images(env).contains(&format!("app:{short}")), "named for the repository");
        // In a submodule they are the submodule's.
        let upper = Repository::new(env, "upper");
        let url = repository.path.to_str().unwrap();
        upper.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", url, "sub"]);
        let sub = Repository { env, path: upper.path.join("sub") };
        sub.rbuild(&["hook", "install"]).ok();
        assert!(upper.path.join(".git/modules/sub/hooks/post-commit").exists());
        let (_, short) = sub.commit("f", "y");
        assert!(sub.log().contains(&format!("{short}: finished")));
        // A folder for all repositories is left alone; one of the repository's own is good.
        let shared = env.path("hooks for all");
        repository.git(&["config", "core.hooksPath", shared.to_str().unwrap()]);
        repository.rbuild(&["hook", "install"]).exits(1).has("core.hooksPath").has("--force");
        repository.git(&["config", "core.hooksPath", ".my hooks"]);
        repository.rbuild(&["hook", "install"]).ok();
        assert!(repository.path.join(".my hooks/post-commit").exists());
        // Bare ones have no files; other folders have no repository.
        let bare = env.path("bare.git");
        repository.git(&["init", "--quiet", "--bare", bare.to_str().unwrap()]);
        repository.rbuild(&["hook", "install", bare.to_str().unwrap()]).exits(1).has_all(&["bare", "rbuild serve"]);
        repository.rbuild(&["hook", "install", env.tmp().to_str().unwrap()]).exits(1).has("no repository");
        repository.rbuild(&["hook", "install", "https://x/y.git"]).exits(2).has("no folder");
        repository.rbuild(&["hook", "install", "-t", "a:b"]).exits(2).has("leave it out");
        repository.rbuild(&["hook", "install", "--push", "A"]).exits(2).has("lowercase");
        repository.rbuild(&["hook", "install", "-f", "nothing"]).exits(2).has("cannot find the Dockerfile");
    }

    fn any_path_will_do(env) {
        let repository = Repository::new(env, "it's $(touch x) `id` \"q\" \\ #;&");
        repository.write("a 'b' $HOME/Docker file", DOCKERFILE);
        repository.rbuild(&["hook", "install", "-f", "a 'b' $HOME/Docker file", "a 'b' $HOME"]).ok();
        let (_, short) = repository.commit("a 'b' $HOME/f", "x");
        let log = repository.log();
        assert!(log.contains(&format!("{short}: finished")), "{log}");
        assert_eq!(images(env), [format!("it-s-touch-x-id-q:{short}")]);
        assert!(!repository.path.join("x").exists());
    }

    fn the_image_is_pushed(env) {
        let registry = Registry::plain();
        let repository = Repository::new(env, "app");
        let name = registry.name("team/app");
        repository.rbuild(&["hook", "install", "--push", &name]).ok().has(&format!("pushes {name}:HASH"));
        let (_, short) = repository.commit("Dockerfile", DOCKERFILE);
        let log = repository.log();
        assert!(log.contains("pushing") && log.contains(&format!("{short}: finished")), "{log}");
        let copy = format!("docker://{name}:{short}");
        let inspect = ["inspect", "--tls-verify=false", &copy];
        env.program("skopeo", &inspect).without_changing_user().ok().has("\"Layers\"");
    }

    fn the_hand_written_hook_works(env) {
        let registry = Registry::plain();
        let host = GitHost::start();
        host.repository("kit");
        host.commit("kit", &[("Dockerfile", DOCKERFILE), ("of-the-url", "x")]);
        let repository = Repository::new(env, "flask");
        let (exe, name) = (env.exe(), registry.name("flask"));
        let script = format!(
            "#!/bin/sh\nset -e\ntag=`git log -1 HEAD --format=\"%h\"`\n\
             env | grep -q ^GIT_DIR= || export GIT_DIR=.git\n\
             {exe} build -t {name}:$tag {path}\n{exe} push {name}:$tag\n\
             {exe} build -t kit:$tag '{url}'\n",
            exe = exe.display(),
            path = repository.path.display(),
            url = host.url("kit.git#main"),
        );
        repository.write(".git/hooks/post-commit", &script);
        fs::set_permissions(repository.hook(), fs::Permissions::from_mode(0o755)).unwrap();
        repository.write(".dockerignore", ".git\n");
        let (outcome, short) = repository.commit("Dockerfile", DOCKERFILE);
        outcome.has(&format!("{short}: digest: sha256:"));
        assert_eq!(file_of(env, &format!("kit:{short}"), "of-the-url").as_deref(), Some("x"));
        assert_eq!(file_of(env, &format!("{name}:{short}"), "of-the-url"), None);
        let copy = format!("docker://{name}:{short}");
        let inspect = ["inspect", "--tls-verify=false", &copy];
        env.program("skopeo", &inspect).without_changing_user().ok();
        // The repository was not touched by git's work for the address.
        assert_eq!(repository.git(&["status", "--porcelain"]), "");
        assert_eq!(repository.git(&["log", "--format=%h"]), short);
    }

    fn a_worker_that_was_killed_is_no_loss(env) {
        env.busybox();
        let repository = Repository::new(env, "app");
        repository.rbuild(&["hook", "install", "--work-tree"]).ok();
        let (_, short) = repository.commit("Dockerfile", "FROM busybox:test\nRUN sleep 600\n");
        let deadline = Instant::now() + Duration::from_secs(120);
        let worker = loop {
            let said = repository.rbuild(&["hook", "status"]).ok().stdout;
            let pid = said.split("by process ").nth(1).and_then(|rest| rest.lines().next()?.parse::<i32>().ok());
            if let (Some(pid), true) = (pid, repository.path.join(".git/rbuild/log").exists()) {
                break pid;
            }
            assert!(Instant::now() < deadline, "{said}");
        };
        let session = fs::read_to_string(format!("/proc/{worker}/stat")).unwrap();
        let session: i32 = session.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().parse().unwrap();
        assert_eq!(session, worker, "in a session of its own");
        let environment = fs::read(format!("/proc/{worker}/environ")).unwrap();
        assert!(!environment.windows(4).any(|window| window == b"GIT_"), "nothing of git's hook is left");
        let pid = rustix::process::Pid::from_raw(worker).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        for child in children_in_session(worker) {
            let _ = rustix::process::kill_process(child, rustix::process::Signal::KILL);
        }
        let status = loop {
            let status = repository.rbuild(&["hook", "status"]).ok();
            if !status.stdout.contains("building:") {
                break status;
            }
            assert!(Instant::now() < deadline, "{status}");
        };
        status.has("waiting: 1");
        // Looking builds nothing: what waits in a repository may be somebody else's.
        let looked = repository.rbuild(&["hook", "log", "-f"]).ok();
        assert!(looked.stderr.contains("1 wait, and the next commit starts them"), "{looked}");
        repository.rbuild(&["hook", "status"]).ok().has("waiting: 1");
        // The next commit has both built, with what lies in the work tree by then.
        let (_, second) = repository.commit("Dockerfile", DOCKERFILE);
        let log = repository.log();
        for short in [short, second] {
            assert!(log.contains(&format!("{short}: finished")), "{log}");
        }
    }
}

/// The processes of a session.
fn children_in_session(session: i32) -> Vec<rustix::process::Pid> {
    let numbers =
        fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok());
    numbers
        .filter(|pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let field =
                stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(3)?.parse().ok());
            field == Some(session)
        })
        .filter_map(rustix::process::Pid::from_raw)
        .collect()
}
