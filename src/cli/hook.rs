//! `rbuild hook`: an image of each commit, from a hook of git's.
//!
//! Not here: the queue and the work (`service::hook`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};

use super::error::{CommandError, code};
use super::ui;
use super::world::{self, Global};
use crate::image::Reference;
use crate::service::ServiceError;
use crate::service::hook::{self, Follow, Found, Hook, HookState, Kind, Moment, Order, Place, Queue, Word};

/// How long `log -f` waits for the worker that a commit has just started.
const NO_WORKER: Duration = Duration::from_secs(3);

/// Build an image from each commit, by a git hook.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rbuild hook install\n  rbuild hook install --push registry.lan:5000/team/flask\n  \
    rbuild hook status\n  rbuild hook log -f\n\nSee also: rbuild build, rbuild serve"
)]
pub struct HookGroup {
    #[command(subcommand)]
    pub command: HookCommand,
}

/// The words of `rbuild hook`.
#[derive(Debug, Subcommand)]
pub enum HookCommand {
    /// Write the hook into a repository
    Install(InstallArgs),
    /// Take the hook away; one that was there before comes back
    Uninstall(UninstallArgs),
    /// Show which hooks there are, what waits, and what came of the last commit
    Status(PlaceArgs),
    /// Print what the builds of the hook said
    Log(LogArgs),
    /// What the hook calls: hand over the newest commit, and return at once
    Run(RunArgs),
    /// Builds what waits.
    #[command(hide = true)]
    Work {
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

/// Which hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HookName {
    PostCommit,
    PostMerge,
}

impl HookName {
    fn kind(self) -> Kind {
        match self {
            HookName::PostCommit => Kind::PostCommit,
            HookName::PostMerge => Kind::PostMerge,
        }
    }
}

/// How commits are built.
#[derive(Debug, Args)]
pub struct HowArgs {
    /// Push each image to this repository too, as REGISTRY/NAME:COMMIT
    #[arg(long, value_name = "REGISTRY/NAME")]
    pub push: Option<String>,
    /// The images' name; without it that of --push, else the folder's
    #[arg(long, short = 't', value_name = "NAME")]
    pub tag: Option<String>,
    /// The Dockerfile; without it CONTEXT/Dockerfile
    #[arg(long, short = 'f', value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Build the files of the commit (what happens anyway)
    #[arg(long, conflicts_with = "work_tree")]
    pub commit: bool,
    /// Build the files as they lie in the work tree, with all that is not committed
    #[arg(long)]
    pub work_tree: bool,
    /// Of commits that wait build the newest alone
    #[arg(long)]
    pub latest_only: bool,
}

/// Write the hook into a repository.
///
/// Each commit is then built as NAME:SHORT-HASH by a process in the background, one commit after another; the
/// commit neither waits for it nor fails with it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild hook install\n  \
    rbuild hook install --push registry.lan:5000/team/flask -f docker/Dockerfile .\n  \
    rbuild hook install --hook post-merge --latest-only\n\nSee also: rbuild hook uninstall, rbuild hook log")]
pub struct InstallArgs {
    #[command(flatten)]
    pub how: HowArgs,
    /// When images are made: after each commit, or after each merge and pull
    #[arg(long, value_enum, default_value = "post-commit", value_name = "HOOK")]
    pub hook: HookName,
    /// Keep a hook that is there already beside ours, and call it first
    #[arg(long)]
    pub force: bool,
    /// The build context: a folder of the repository
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub context: PathBuf,
}

/// Take the hook away.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild hook uninstall\n  rbuild hook uninstall ~/src/flask\n\n\
    See also: rbuild hook install, rbuild hook status")]
pub struct UninstallArgs {
    /// A folder of the repository
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
}

/// Show what the hooks of a repository do.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild hook status\n  rbuild hook status ~/src/flask\n\n\
    See also: rbuild hook log, rbuild builds")]
pub struct PlaceArgs {
    /// A folder of the repository
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
}

/// Print what the builds of the hook said.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild hook log\n  rbuild hook log -f\n\n\
    See also: rbuild hook status, rbuild builds logs")]
pub struct LogArgs {
    /// Go on until nothing is built any more and nothing waits
    #[arg(long, short = 'f')]
    pub follow: bool,
    /// A folder of the repository
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
}

/// What the hook calls.
///
/// Hands the newest commit over to a process in the background and returns at once, always with exit code 0:
/// what is wrong is said, and no commit fails with it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rbuild hook run -t flask\n  rbuild hook run -t flask --work-tree src\n\n\
    See also: rbuild hook install, rbuild hook log"
)]
pub struct RunArgs {
    #[command(flatten)]
    pub how: HowArgs,
    /// The build context, from the top of the repository
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub context: PathBuf,
}

/// Makes an error for people of one of the room's.
pub fn told(error: ServiceError) -> CommandError {
    let hint = error.hint();
    let mut told = CommandError::from(error);
    told.hints.extend(hint);
    told
}

/// Runs the command; for a process that has entered no user namespace.
pub fn hook(global: &Global, group: HookGroup) -> Result<(), CommandError> {
    match group.command {
        HookCommand::Install(args) => install(global, &args),
        HookCommand::Uninstall(args) => uninstall(&args.folder),
        HookCommand::Status(args) => status(&args.folder),
        HookCommand::Log(args) => log(&args),
        HookCommand::Run(args) => {
            match run(global, &args) {
                Ok(said) => ui::note(&said),
                Err(error) => {
                    ui::note(&format!("rbuild: no image is built of this commit\n{}", error.text()))
                }
            }
            Ok(())
        }
        HookCommand::Work { folder } => {
            // Files of a commit are to have the same rights whoever commits.
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
            let queue = Queue { folder };
            hook::work(&queue, &world::own_program()?, &world::git_variables()).map_err(told)
        }
    }
}

fn install(global: &Global, args: &InstallArgs) -> Result<(), CommandError> {
    let context = &args.context;
    let text = context.to_string_lossy();
    if !context.is_dir() {
        let error = match text.contains("://") {
            true => {
                CommandError::usage(format!("`{text}` is no folder: a hook builds what is committed here"))
            }
            false => CommandError::usage(format!("there is no folder `{text}`")),
        };
        return Err(error.hint("CONTEXT is a folder of the repository; without it, this one"));
    }
    let place = Place::find(context, &world::git_variables()).map_err(told)?;
    let push = args.how.push.as_deref().map(|name| repository("--push", name)).transpose()?;
    let name = match (&args.how.tag, &push) {
        (Some(name), _) => repository("--tag", name)?,
        (None, Some(push)) => push.clone(),
        (None, None) => place.image_name(),
    };
    let mut words: Vec<OsString> = global_words(global)?;
    words.extend(["hook".into(), "run".into()]);
    for (option, given) in [("--work-tree", args.how.work_tree), ("--latest-only", args.how.latest_only)] {
        words.extend(given.then(|| option.into()));
    }
    words.extend(["--tag".into(), name.clone().into()]);
    if let Some(push) = &push {
        words.extend(["--push".into(), push.into()]);
    }
    if let Some(file) = &args.how.file {
        let mut word = OsString::from("--file=");
        word.push(dockerfile(file, &place)?);
        words.push(word);
    }
    let prefix = if place.prefix.as_os_str().is_empty() { Path::new(".") } else { &place.prefix };
    words.extend(["--".into(), prefix.into()]);
    let kind = args.hook.kind();
    let hook = Hook { kind, program: world::own_program()?, arguments: words };
    let kept = hook::install(&place, &hook, args.force).map_err(told)?;
    ui::line(&format!("installed {}", place.hooks.join(kind.as_str()).display()));
    if let Some(kept) = kept {
        ui::line(&format!("the hook that was there is called first: {}", kept.display()));
    }
    let what = if args.how.work_tree { "the files at the time of each commit" } else { "each commit" };
    let pushed = push.map(|name| format!(", and pushes {name}:HASH")).unwrap_or_default();
    ui::line(&format!("it builds {what} as {name}:HASH in the background{pushed}"));
    ui::line("`rbuild hook log -f` shows what it says");
    Ok(())
}

/// Reads a name without a tag.
fn repository(option: &str, name: &str) -> Result<String, CommandError> {
    let wrong = |why: String| CommandError::usage(format!("bad {option} `{name}`: {why}"));
    let reference: Reference = name.parse().map_err(|error| wrong(format!("{error}")))?;
    if reference.tag().is_some() || reference.digest().is_some() {
        return Err(wrong("the tag is the commit's hash: leave it out".to_owned()));
    }
    Ok(reference.familiar_name())
}

/// Returns a Dockerfile's path as the hook has it: from the top of the repository where it lies there.
fn dockerfile(file: &Path, place: &Place) -> Result<PathBuf, CommandError> {
    if file == Path::new("-") {
        return Err(CommandError::usage("a hook has no standard input to read a Dockerfile from"));
    }
    let wrong =
        |error| CommandError::usage(format!("cannot find the Dockerfile `{}`: {error}", file.display()));
    let whole = std::fs::canonicalize(file).map_err(wrong)?;
    let top = std::fs::canonicalize(&place.top).map_err(wrong)?;
    Ok(whole.strip_prefix(&top).map(Path::to_owned).unwrap_or(whole))
}

/// Returns the options of rbuild that the hook is to have too.
pub fn global_words(global: &Global) -> Result<Vec<OsString>, CommandError> {
    let mut words = Vec::new();
    for (option, path) in [("--root=", &global.root), ("--daemon-json=", &global.daemon_json)] {
        if let Some(path) = path {
            let mut word = OsString::from(option);
            word.push(std::path::absolute(path)?);
            words.push(word);
        }
    }
    words.extend(global.no_sync.then(|| "--no-sync".into()));
    Ok(words)
}

fn run(global: &Global, args: &RunArgs) -> Result<String, CommandError> {
    let Moment { git_dir, common, top, commit, short } = Moment::find().map_err(told)?;
    let push = args.how.push.as_deref().map(|name| repository("--push", name)).transpose()?;
    let name = match (&args.how.tag, &push) {
        (Some(name), _) => repository("--tag", name)?,
        (None, Some(push)) => push.clone(),
        (None, None) => hook::name_of_folder(top.file_name().unwrap_or_default()),
    };
    let queue = Queue::of(&common);
    let order = Order {
        commit,
        git_dir: git_dir.as_path().into(),
        top: top.as_path().into(),
        context: args.context.as_path().into(),
        file: args.how.file.as_deref().map(Word::from),
        push,
        work_tree: args.how.work_tree,
        latest_only: args.how.latest_only,
        globals: global_words(global)?.into_iter().map(Word).collect(),
        name: name.clone(),
        short: short.clone(),
    };
    let waiting = queue.add(&order).map_err(told)?;
    hook::start(&queue, &world::own_program()?, &world::git_variables()).map_err(told)?;
    let after = match waiting {
        1 => String::new(),
        _ => format!(" ({} before it)", waiting - 1),
    };
    Ok(format!("rbuild: building {name}:{short} in the background{after}; log: {}\n", queue.log().display()))
}

fn uninstall(folder: &Path) -> Result<(), CommandError> {
    let place = Place::find(folder, &world::git_variables()).map_err(told)?;
    let mut count = 0;
    for kind in Kind::ALL {
        let Some(found) = hook::uninstall(&place, kind).map_err(told)? else { continue };
        count += 1;
        ui::line(&match found.kept {
            None => format!("removed {}", found.path.display()),
            Some(_) => format!("removed {}; the hook that was there before is back", found.path.display()),
        });
    }
    match count {
        0 => Err(none_here(&place)),
        _ => Ok(()),
    }
}

fn none_here(place: &Place) -> CommandError {
    CommandError::new(format!("no hook of rbuild's is installed in `{}`", place.top.display()))
        .hint("`rbuild hook install` installs one")
}

fn status(folder: &Path) -> Result<(), CommandError> {
    let place = Place::find(folder, &world::git_variables()).map_err(told)?;
    let mut found: Vec<Found> = Vec::new();
    for kind in Kind::ALL {
        found.push(hook::look(&place, kind).map_err(told)?);
    }
    let ours: Vec<(&Found, &String)> = found
        .iter()
        .filter_map(|found| match &found.state {
            HookState::Ours(command) => Some((found, command)),
            _ => None,
        })
        .collect();
    for (found, command) in &ours {
        ui::line(&format!("{}: {}\n  {command}", found.kind, found.path.display()));
        if let Some(kept) = &found.kept {
            ui::line(&format!("  after {}", kept.display()));
        }
    }
    let queue = Queue::of(&place.common);
    let orders = queue.orders().map_err(told)?;
    let names: Vec<String> = orders.iter().map(|(_, o)| format!("{}:{}", o.name, o.short)).collect();
    match (queue.worker(), names.split_first()) {
        (_, None) => {}
        (Some(worker), Some((first, rest))) => {
            let who = worker.map(|pid| format!(" by process {pid}")).unwrap_or_default();
            ui::line(&format!("building: {first}{who}\nwaiting: {}", rest.len()));
        }
        (None, Some(_)) => {
            ui::line(&format!("waiting: {} (the next commit starts them)", names.len()));
        }
    }
    if let Some(last) = queue.last() {
        let seconds = last.milliseconds as f64 / 1000.0;
        ui::line(&match &last.error {
            None => format!("last: {} finished in {seconds:.1} s", last.image),
            Some(error) => format!("last: {} failed after {seconds:.1} s: {error}", last.image),
        });
    }
    if queue.log().exists() {
        ui::line(&format!("log: {}", queue.log().display()));
    }
    if ours.is_empty() { Err(none_here(&place).code(code::FAILED)) } else { Ok(()) }
}

fn log(args: &LogArgs) -> Result<(), CommandError> {
    let place = Place::find(&args.folder, &world::git_variables()).map_err(told)?;
    let queue = Queue::of(&place.common);
    let mut follow = Follow::new(&queue.log());
    let mut seen = Instant::now();
    loop {
        // Asked first: what was said until then is read after it.
        let idle = queue.worker().is_none() && queue.is_empty().map_err(told)?;
        ui::out(&String::from_utf8_lossy(&follow.more()?));
        if !args.follow || idle {
            return Ok(());
        }
        if queue.worker().is_some() {
            seen = Instant::now();
        } else if seen.elapsed() > NO_WORKER {
            // Not started from here: who looks into a repository wants nothing of it built, and what waits in it
            // may be somebody else's words (folders to send, registries to send them to).
            let waiting = queue.orders().map_err(told)?.len();
            ui::note(&format!(
                "rbuild: nothing is being built; {waiting} wait, and the next commit starts them\n"
            ));
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
