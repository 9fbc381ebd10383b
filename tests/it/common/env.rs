//! A hermetic place for one test: own store, own home, own temporary folder,
//! cleared environment, and the person who runs `rbuild` in it.
//!
//! All places of one run of the suite lie in one folder of the system's
//! temporary folder, readable by the ordinary user. It is locked while the
//! suite runs; the next run removes the ones whose run has ended.

use std::fs;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use super::command::Cmd;
use super::command::Outcome;
use super::context::Context;

/// The ordinary user that `scripts/test-user` makes; `RBUILD_TEST_USER` names another.
const USER: &str = "rbuild-test";

/// Who runs `rbuild` in a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Root,
    /// An ordinary user with subordinate ids.
    User,
}

/// A user and group id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
}

/// A hermetic place; removed when dropped, unless `RBUILD_TEST_KEEP` is set.
pub struct TestEnv {
    pub who: Who,
    dir: PathBuf,
    store: PathBuf,
    /// Whom to become; `None` to stay who runs the suite.
    become_ids: Option<Ids>,
    next: AtomicUsize,
}

/// Runs one test as `who`, or says why it cannot.
pub fn run_as(who: Who, test: fn(&TestEnv)) {
    match TestEnv::new(who) {
        Ok(env) => test(&env),
        Err(why) => skip(&why),
    }
}

/// Says why the current test does not run; a failure where `RBUILD_TEST_NO_SKIP=1`.
///
/// What no package could make possible here is no skip: see [`not_here`].
#[track_caller]
pub fn skip(why: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    // Not `eprintln!`: libtest swallows that of a test which passes.
    let _ = writeln!(std::io::stderr(), "skipped {name}: {why}");
    if std::env::var_os("RBUILD_TEST_NO_SKIP").is_some_and(|v| v == "1") && !why.starts_with(NOT_HERE) {
        panic!("skipped, and RBUILD_TEST_NO_SKIP=1: {why}");
    }
}

const NOT_HERE: &str = "not here";

/// Says that a test makes no sense on this machine or in this mode; never a failure.
pub fn not_here(why: &str) {
    skip(&format!("{NOT_HERE}: {why}"));
}

fn running_as_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whom to become to run as `who`, or why that cannot be.
fn identity(who: Who) -> Result<Option<Ids>, String> {
    let mode = match who {
        Who::Root => "root",
        Who::User => "user",
    };
    if let Ok(modes) = std::env::var("RBUILD_TEST_MODES")
        && !modes.split(',').any(|m| m == mode)
    {
        return Err(format!("{NOT_HERE}: RBUILD_TEST_MODES={modes}"));
    }
    match (who, running_as_root()) {
        (Who::Root, true) | (Who::User, false) => Ok(None),
        (Who::Root, false) => Err("the suite runs as an ordinary user".to_owned()),
        (Who::User, true) => ordinary_user().map(Some),
    }
}

fn ordinary_user() -> Result<Ids, String> {
    let name = std::env::var("RBUILD_TEST_USER").unwrap_or(USER.to_owned());
    let hint = "run `scripts/test-user add` (as root), or `make test`";
    let passwd = fs::read_to_string("/etc/passwd").map_err(|e| format!("/etc/passwd: {e}"))?;
    let row = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|row| row.first() == Some(&name.as_str()))
        .ok_or_else(|| format!("there is no user `{name}`: {hint}"))?;
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        if !text.lines().any(|line| line.starts_with(&format!("{name}:"))) {
            return Err(format!("`{name}` has no range in {file}: {hint}"));
        }
    }
    let id = |column: usize| row[column].parse().map_err(|_| format!("/etc/passwd: bad row of `{name}`"));
    Ok(Ids { uid: id(2)?, gid: id(3)? })
}

/// The folder of this run of the suite.
fn run_dir() -> &'static Path {
    static RUN: OnceLock<(PathBuf, File)> = OnceLock::new();
    let (path, _lock) = RUN.get_or_init(|| {
        // Stores with a whole Debian take long to remove; what is cut short, the next run goes on with.
        std::thread::spawn(remove_ended_runs);
        let path = std::env::temp_dir().join(format!("rbuild-it.{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let lock = File::open(&path).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared).unwrap();
        let exe = path.join("rbuild");
        fs::copy(env!("CARGO_BIN_EXE_rbuild"), &exe).unwrap();
        fs::set_permissions(&exe, fs::Permissions::from_mode(0o755)).unwrap();
        (path, lock)
    });
    path
}

fn remove_ended_runs() {
    let own = format!("rbuild-it.{}", std::process::id());
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    let is_other = |name: &str| name.starts_with("rbuild-it.") && name != own;
    for entry in entries.filter(|e| is_other(&e.file_name().to_string_lossy())) {
        let Ok(lock) = File::open(entry.path()) else { continue };
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = remove_tree(&entry.path());
        }
    }
}

/// Removes a tree; a rootless store's files belong to subordinate ids, which
/// an ordinary user can remove only inside a user namespace.
fn remove_tree(path: &Path) -> std::io::Result<()> {
    let Err(error) = fs::remove_dir_all(path) else { return Ok(()) };
    if running_as_root() {
        return Err(error);
    }
    let done = Command::new("unshare")
        .args(["--user", "--map-root-user", "--map-auto", "rm", "-rf"])
        .arg(path)
        .status()?
        .success();
    if done { Ok(()) } else { Err(error) }
}

impl TestEnv {
    /// Makes a place, or says why `who` cannot run here.
    pub fn new(who: Who) -> Result<TestEnv, String> {
        TestEnv::make(who, identity(who)?)
    }

    fn make(who: Who, become_ids: Option<Ids>) -> Result<TestEnv, String> {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let dir = run_dir().join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
        let env = TestEnv { who, store: dir.join("store"), dir, become_ids, next: AtomicUsize::new(1) };
        for folder in ["", "home", "tmp"] {
            fs::create_dir_all(env.dir.join(folder)).unwrap();
            env.give(&env.dir.join(folder));
        }
        Ok(env)
    }

    /// Makes a place for an ordinary user of any id; an error says why that cannot be.
    pub fn with_ids(ids: Ids) -> Result<TestEnv, String> {
        if !running_as_root() {
            return Err("only root can become anybody".to_owned());
        }
        TestEnv::make(Who::User, Some(ids))
    }

    /// Makes another place that shares this one's store.
    pub fn sharing_store(&self) -> TestEnv {
        let mut other = TestEnv::new(self.who).expect("this one was made");
        other.store = self.store.clone();
        other
    }

    /// The place's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The store's folder; there only once a command has made it.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// The temporary folder that commands get.
    pub fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// The binary, where the ordinary user can read it.
    pub fn exe(&self) -> PathBuf {
        run_dir().join("rbuild")
    }

    /// Whom commands become; `None` to stay who runs the suite.
    pub fn ids(&self) -> Option<Ids> {
        self.become_ids
    }

    /// A path in this place that nothing has used; nothing is there yet.
    pub fn path(&self, name: &str) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let folder = self.dir.join(format!("p{number}"));
        fs::create_dir(&folder).unwrap();
        self.give(&folder);
        folder.join(name)
    }

    /// As [`TestEnv::path`], for an argument.
    pub fn path_str(&self, name: &str) -> String {
        self.path(name).to_str().expect("made of ASCII").to_owned()
    }

    /// Makes a file or folder belong to who runs in this place.
    pub fn give(&self, path: &Path) {
        if let Some(ids) = self.become_ids {
            std::os::unix::fs::lchown(path, Some(ids.uid), Some(ids.gid)).unwrap();
        }
    }

    /// An empty build context.
    pub fn context(&self) -> Context<'_> {
        Context::new(self)
    }

    /// A build context with a Dockerfile alone.
    pub fn dockerfile(&self, text: &str) -> Context<'_> {
        self.context().file("Dockerfile", text)
    }

    /// A run of `rbuild` with these arguments.
    pub fn rbuild(&self, args: &[&str]) -> Cmd<'_> {
        let exe = self.exe();
        Cmd::new(self, exe.to_str().expect("made of ASCII")).args(args)
    }

    /// A run of any other program, in this place and as this person.
    pub fn program(&self, name: &str, args: &[&str]) -> Cmd<'_> {
        Cmd::new(self, name).args(args)
    }

    /// Builds a context; fails the test when the build fails.
    #[track_caller]
    pub fn build(&self, context: &Context, args: &[&str]) -> Outcome {
        self.try_build(context, args).ok()
    }

    /// Builds a context.
    #[track_caller]
    pub fn try_build(&self, context: &Context, args: &[&str]) -> Outcome {
        self.rbuild(&["build"]).args(args).args(&[context.path()]).output()
    }

    /// Builds a context and returns the image's ID, `sha256:<64 hex>`.
    #[track_caller]
    pub fn build_id(&self, context: &Context, args: &[&str]) -> String {
        let outcome = self.build(context, &[&["-q"], args].concat());
        let id = outcome.stdout.trim_end().to_owned();
        assert!(is_id(&id), "`build -q` prints the image's ID alone\n{outcome}");
        id
    }

    /// Runs a container of an image to its end; `args` may hold options before the image.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Outcome {
        self.rbuild(&["run", "--rm"]).args(args).output()
    }

    /// What `rbuild inspect` says of one image.
    #[track_caller]
    pub fn inspect(&self, image: &str) -> serde_json::Value {
        let outcome = self.rbuild(&["inspect", image]).ok();
        let all: serde_json::Value = serde_json::from_str(&outcome.stdout)
            .unwrap_or_else(|e| panic!("`inspect` prints JSON: {e}\n{outcome}"));
        assert_eq!(all.as_array().map(Vec::len), Some(1), "one name, one element\n{outcome}");
        all[0].clone()
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        if std::env::var_os("RBUILD_TEST_KEEP").is_some() {
            let _ = writeln!(std::io::stderr(), "kept {}", self.dir.display());
            return;
        }
        // What a test leaves running, or one that failed.
        for folder in std::fs::read_dir(self.store().join("v1/containers")).into_iter().flatten().flatten() {
            let id = folder.file_name().into_string().unwrap_or_default();
            let _ = self.rbuild(&["rm", "-f", &id]).output();
        }
        if let Err(error) = remove_tree(&self.dir)
            && !std::thread::panicking()
        {
            panic!("{} cannot be removed, is something left in it? {error}", self.dir.display());
        }
    }
}

/// Tells whether a text is `sha256:` and 64 lower-case hex digits.
pub fn is_id(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| is_hex(hex, 64))
}

/// Tells whether a text is so many lower-case hex digits.
pub fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
