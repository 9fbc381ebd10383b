//! The command line: which words mean which command.
//!
//! A first word equal to a command is the command; anything else, and anything
//! that starts with `-`, means `build`. Not here: what the commands do.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use super::error::CommandError;
use super::guess;
use super::help;
use super::late::Late;
use super::world::Global;
use super::{
    attach, build, builds, cache_mounts, check, commit, completion, config, context, cp, diff, doctor, du,
    exec, expand, export, graph, groups, history, hook, image_import, images, inspect, layers, load, login,
    logout, look, man, parse, pause, prune, pull, push, registry, report, reset, rm, rmi, run, save, search,
    serve, shell, start, stats, stop, system_df, tag, top, volume, why,
};

/// Builds container images from Dockerfiles: no daemon, no root needed.
///
/// `rbuild [OPTIONS] PATH` is short for `rbuild build [OPTIONS] PATH`.
#[derive(Debug, Parser)]
#[command(
    name = "rbuild",
    version,
    disable_help_subcommand = true,
    after_help = "Examples:\n  \
        mmdebstrap --variant=minbase bookworm - | rbuild import - debian:bookworm\n  \
        rbuild -t flask .\n  \
        rbuild run --rm -p 5000:5000 flask\n\n\
        `rbuild COMMAND --help` says more about a command, `rbuild help exit-codes` what it ends with;\n\
        a directory that is named like a command is `./NAME`."
)]
pub struct CommandLine {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: Global,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an image from a Dockerfile
    Build(Box<build::BuildArgs>),
    /// Show what a Dockerfile's instructions depend on, and which are cached
    Graph(graph::GraphArgs),
    /// Tell what a build would run and why, without building
    Why(why::WhyArgs),
    /// Show what a build can see of a directory, and what .dockerignore leaves out
    Context(context::ContextArgs),
    /// Check a Dockerfile without building it
    Check(check::CheckArgs),
    /// Print a Dockerfile's syntax tree
    Parse(parse::ParseArgs),
    /// Print what a word with variables expands to
    Expand(expand::ExpandArgs),
    /// Make an image from the files of a tar archive, a directory or a URL
    Import(image_import::ImportArgs),
    /// Search a registry for images
    Search(search::SearchArgs),
    /// Fetch an image from a registry
    Pull(pull::PullArgs),
    /// Write the files of a container, an image or a build step as a tar
    Export(export::ExportArgs),
    /// Load images from an archive or a directory
    Load(load::LoadArgs),
    /// Save images to an archive
    Save(save::SaveArgs),
    /// List images
    Images(images::ImagesArgs),
    /// Give an image one more name
    Tag(tag::TagArgs),
    /// Push an image to the registry of its name
    Push(push::PushArgs),
    /// Remove names of images, and images that have none left
    Rmi(rmi::RmiArgs),
    /// Show all that is known of a container, an image, a build step or a volume
    Inspect(inspect::InspectArgs),
    /// Show how an image was made
    History(history::HistoryArgs),
    /// Show what a container has changed, or how two images differ
    Diff(diff::DiffArgs),
    /// Show what takes space in an image, by layer and folder, and which bytes are wasted
    Layers(layers::LayersArgs),
    /// List past builds; show, log, open or remove one
    Builds(builds::BuildsArgs),
    /// Write a page about a build: graph, timeline, cache, layers, warnings, output
    Report(report::ReportArgs),
    /// Show what takes space in the build cache
    Du(Late<du::DuArgs>),
    /// Remove build cache that nobody needs
    Prune(Late<prune::CachePruneArgs>),
    /// Manage the caches of `RUN --mount=type=cache`: `mounts` lists, writes, reads and removes them
    Cache(Late<cache_mounts::CacheGroup>),
    /// Manage images: list, inspect, tag, remove, prune
    Image(Late<groups::ImageGroup>),
    /// Manage the store: `df` shows what takes space, `prune` makes room
    System(Late<groups::SystemGroup>),
    /// Manage builds: `prune` removes the build cache
    Builder(Late<groups::BuilderGroup>),
    #[command(skip)]
    ContainerPrune(look::ContainerPruneArgs),
    #[command(skip)]
    ImagePrune(prune::ImagePruneArgs),
    #[command(skip)]
    SystemPrune(prune::SystemPruneArgs),
    #[command(skip)]
    SystemReset(reset::ResetArgs),
    #[command(skip)]
    SystemDf(system_df::DfArgs),
    /// Log in to a registry
    Login(login::LoginArgs),
    /// Forget the credentials for a registry
    Logout(logout::LogoutArgs),
    /// Serve a registry of images: push to it, pull from it
    Registry(Late<registry::RegistryArgs>),
    /// Run a command in a new container from an image
    Run(Late<run::RunArgs>),
    /// List containers
    Ps(look::PsArgs),
    /// Print what a container wrote
    Logs(look::LogsArgs),
    /// Show where the ports of a container are published
    Port(look::PortArgs),
    /// Give a container another name
    Rename(look::RenameArgs),
    /// Make a container without starting it
    Create(Late<run::CreateArgs>),
    /// Start containers that were made or have ended
    Start(Late<start::StartArgs>),
    /// Stop containers and start them again
    Restart(Late<stop::RestartArgs>),
    /// Stop containers that run
    Stop(Late<stop::StopArgs>),
    /// Send a signal to containers that run
    Kill(Late<stop::KillArgs>),
    /// Wait until containers have ended, and print their exit codes
    Wait(Late<stop::WaitArgs>),
    /// Hold all processes of containers still
    Pause(Late<pause::PauseArgs>),
    /// Let containers go on that are held still
    Unpause(Late<pause::UnpauseArgs>),
    /// Take part in the streams of a container that runs
    Attach(Late<attach::AttachArgs>),
    /// Run a command in a container that runs
    Exec(Late<exec::ExecArgs>),
    /// Show the processes of a container that runs
    Top(Late<top::TopArgs>),
    /// Show what containers use of processors, memory and the network
    Stats(Late<stats::StatsArgs>),
    /// Remove containers
    Rm(Late<rm::RmArgs>),
    /// Make an image of a container's changes
    Commit(Late<commit::CommitArgs>),
    /// Copy files between a container and this machine
    Cp(Late<cp::CpArgs>),
    /// Manage volumes: make, list, show, remove
    Volume(Late<volume::VolumeGroup>),
    /// Manage containers
    Container(Late<groups::ContainerGroup>),
    /// Open a shell at any point of a build
    Shell(Box<Late<shell::ShellArgs>>),
    /// Build an image from each commit, by a git hook
    Hook(Late<hook::HookGroup>),
    /// Build images when a repository is pushed to: triggers over HTTP, a queue, a status page
    Serve(Late<serve::ServeArgs>),
    /// Say what this machine has, what it lacks, and how to get it
    Doctor(doctor::DoctorArgs),
    /// Show the settings in force, and where each comes from
    Config(config::ConfigArgs),
    /// Print the script that makes a shell complete rbuild's commands, options and names
    Completion(completion::CompletionArgs),
    /// Write the manual pages
    Man(man::ManArgs),
}

impl Command {
    /// Tells whether the command handles files of images, which for an ordinary user
    /// belong to the ids of a user namespace.
    pub fn needs_namespace(&self) -> bool {
        if let Command::Registry(args) = self {
            return args.0.serve.serve_local;
        }
        !matches!(
            self,
            Command::Doctor(_)
                | Command::Builds(_)
                | Command::Report(_)
                | Command::Check(_)
                | Command::Context(_)
                | Command::Parse(_)
                | Command::Expand(_)
                | Command::Login(_)
                | Command::Logout(_)
                | Command::Search(_)
        )
    }
}

/// Inserts the word `build` where the command line leaves it out, and makes `help` an option.
///
/// Errors: the first word can be neither a command nor a build context.
pub fn complete(
    parser: &clap::Command,
    words: impl IntoIterator<Item = OsString>,
) -> Result<Vec<OsString>, CommandError> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let names: Vec<String> = parser
        .get_subcommands()
        .flat_map(|c| std::iter::once(c.get_name()).chain(c.get_all_aliases()).map(str::to_owned))
        .collect();
    let at = first_word(parser, &words);
    let Some(first) = words.get(at).map(|word| word.to_string_lossy().into_owned()) else {
        return Ok(words);
    };
    if groups::NAMES.contains(&first.as_str()) && words.len() == at + 1 {
        words.push("--help".into());
    }
    if first == "help" {
        if words.get(at + 1).is_some_and(|topic| help::TOPICS.iter().any(|known| topic == known)) {
            return Ok(words);
        }
        words.remove(at);
        words.push("--help".into());
    } else if !names.contains(&first) && !matches!(first.as_str(), "-h" | "--help" | "-V" | "--version") {
        guess::check_first_word(&first, &names)?;
        words.insert(1, "build".into());
    }
    Ok(words)
}

/// Returns the place of the first word that is no global option, as docker's users write them: before
/// the command.
pub fn first_word(parser: &clap::Command, words: &[OsString]) -> usize {
    let mut at = 1;
    while let Some(word) = words.get(at).and_then(|word| word.to_str()).and_then(|w| w.strip_prefix("--")) {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let Some(option) =
            parser.get_arguments().find(|arg| arg.is_global_set() && arg.get_long() == Some(name))
        else {
            break;
        };
        at += if option.get_action().takes_values() && value.is_none() { 2 } else { 1 };
    }
    at
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn check(words: &str, expect: &str) {
        let words = words.split_whitespace().map(OsString::from);
        let done = complete(&CommandLine::command(), words).unwrap();
        let done: Vec<String> = done.iter().map(|w| w.to_string_lossy().into_owned()).collect();
        assert_eq!(done.join(" "), expect);
    }

    #[test]
    fn build_is_what_is_meant() {
        check("rbuild -t flask .", "rbuild build -t flask .");
        check("rbuild .", "rbuild build .");
        check("rbuild ./images", "rbuild build ./images");
        check("rbuild images", "rbuild images");
        check("rbuild -", "rbuild build -");
        check("rbuild --root x src", "rbuild build --root x src");
        check("rbuild --root x --no-sync images -q", "rbuild --root x --no-sync images -q");
        check("rbuild --daemon-json=x pull a", "rbuild --daemon-json=x pull a");
        check("rbuild --daemon-json x -t a .", "rbuild build --daemon-json x -t a .");
        check("rbuild --root images ./images", "rbuild build --root images ./images");
        check("rbuild -t images images", "rbuild build -t images images");
        check("rbuild --root x image", "rbuild --root x image --help");
        check("rbuild --root", "rbuild --root");
        check("rbuild --help", "rbuild --help");
        check("rbuild", "rbuild");
        check("rbuild help", "rbuild --help");
        check("rbuild help run", "rbuild run --help");
        check("rbuild help image ls", "rbuild image ls --help");
        check("rbuild help exit-codes", "rbuild help exit-codes");
        check("rbuild src", "rbuild build src");
        check("rbuild image", "rbuild image --help");
        check("rbuild image ls", "rbuild image ls");
    }

    #[test]
    fn clap_finds_no_fault() {
        CommandLine::command().debug_assert();
    }
}
