//! Docker's groups of commands: `image`, `system`, `builder`.
//!
//! A word of a group is a command of its own under another name: a line in the group's table below says
//! which. Those that have no other name (`image prune`) are hidden variants of [`Command`].

use clap::{Args, Subcommand};

use super::command_line::Command;
use super::late::Late;
use super::{
    attach, build, commit, cp, diff, exec, export, history, image_import, images, inspect, load, look, pause,
    prune, pull, push, reset, rm, rmi, run, save, start, stats, stop, system_df, tag, top,
};

/// Manage images.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild image ls\n  rbuild image prune -a\n\n\
    See also: rbuild images, rbuild system df")]
pub struct ImageGroup {
    #[command(subcommand)]
    pub command: ImageCommand,
}

/// The words of `rbuild image`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Build an image from a Dockerfile
    Build(Box<build::BuildArgs>),
    /// Show how an image was made
    History(history::HistoryArgs),
    /// Make an image from the files of a tar archive, a directory or a URL
    Import(image_import::ImportArgs),
    /// Show all that is known of an image
    Inspect(inspect::InspectArgs),
    /// Load images from an archive or a directory
    Load(load::LoadArgs),
    /// List images
    #[command(visible_alias = "list")]
    Ls(images::ImagesArgs),
    /// Remove images without a name; with -a all that no container runs from
    Prune(prune::ImagePruneArgs),
    /// Fetch an image from a registry
    Pull(pull::PullArgs),
    /// Push an image to the registry of its name
    Push(push::PushArgs),
    /// Remove names of images, and images that have none left
    #[command(visible_alias = "remove")]
    Rm(rmi::RmiArgs),
    /// Save images to an archive
    Save(save::SaveArgs),
    /// Give an image one more name
    Tag(tag::TagArgs),
}

/// Manage containers.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild container ls -a\n  rbuild container prune -f\n\n\
    See also: rbuild run, rbuild ps, rbuild rm")]
pub struct ContainerGroup {
    #[command(subcommand)]
    pub command: ContainerCommand,
}

/// The words of `rbuild container`.
#[derive(Debug, Subcommand)]
pub enum ContainerCommand {
    /// Take part in the streams of a container that runs
    Attach(attach::AttachArgs),
    /// Make an image of a container's changes
    Commit(commit::CommitArgs),
    /// Copy files between a container and this machine
    Cp(cp::CpArgs),
    /// Show what a container has changed
    Diff(diff::DiffArgs),
    /// Write the files of a container as a tar
    Export(export::ExportArgs),
    /// Make a container without starting it
    Create(Box<run::CreateArgs>),
    /// Run a command in a container that runs
    Exec(exec::ExecArgs),
    /// Show all that is known of a container
    Inspect(inspect::InspectArgs),
    /// Send a signal to containers that run
    Kill(stop::KillArgs),
    /// Print what a container wrote
    Logs(look::LogsArgs),
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(look::PsArgs),
    /// Hold all processes of containers still
    Pause(pause::PauseArgs),
    /// Show where the ports of a container are published
    Port(look::PortArgs),
    /// Remove all containers that do not run
    Prune(look::ContainerPruneArgs),
    /// Give a container another name
    Rename(look::RenameArgs),
    /// Stop containers and start them again
    Restart(stop::RestartArgs),
    /// Remove containers
    #[command(visible_alias = "remove")]
    Rm(rm::RmArgs),
    /// Run a command in a new container from an image
    Run(Box<run::RunArgs>),
    /// Start containers that were made or have ended
    Start(start::StartArgs),
    /// Show what containers use of processors, memory and the network
    Stats(stats::StatsArgs),
    /// Stop containers that run
    Stop(stop::StopArgs),
    /// Show the processes of a container that runs
    Top(top::TopArgs),
    /// Let containers go on that are held still
    Unpause(pause::UnpauseArgs),
    /// Wait until containers have ended, and print their exit codes
    Wait(stop::WaitArgs),
}

/// Manage the store.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild system df\n  rbuild system prune\n\n\
    See also: rbuild doctor, rbuild images")]
pub struct SystemGroup {
    #[command(subcommand)]
    pub command: SystemCommand,
}

/// The words of `rbuild system`.
#[derive(Debug, Subcommand)]
pub enum SystemCommand {
    /// Show what takes space
    Df(system_df::DfArgs),
    /// Remove images without a name, and the build cache
    Prune(prune::SystemPruneArgs),
    /// Remove the whole store: images, cache, logs, all of it
    Reset(reset::ResetArgs),
}

/// Manage builds.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rbuild builder prune --keep-storage 10GB\n  rbuild builder build -t flask .\n\n\
    See also: rbuild build, rbuild system prune"
)]
pub struct BuilderGroup {
    #[command(subcommand)]
    pub command: BuilderCommand,
}

/// The words of `rbuild builder`.
#[derive(Debug, Subcommand)]
pub enum BuilderCommand {
    /// Build an image from a Dockerfile
    Build(Box<build::BuildArgs>),
    /// Remove the build cache
    Prune(prune::CachePruneArgs),
}

/// The groups' names: alone on a command line they ask for help.
pub const NAMES: [&str; 7] = ["image", "container", "system", "builder", "cache", "hook", "volume"];

impl Command {
    /// Turns a word of a group into the command it is.
    pub fn ungrouped(self) -> Command {
        match self {
            Command::Image(Late(group)) => match group.command {
                ImageCommand::Build(args) => Command::Build(args),
                ImageCommand::History(args) => Command::History(args),
                ImageCommand::Import(args) => Command::Import(args),
                ImageCommand::Inspect(args) => Command::Inspect(args.of_image()),
                ImageCommand::Load(args) => Command::Load(args),
                ImageCommand::Save(args) => Command::Save(args),
                ImageCommand::Ls(args) => Command::Images(args),
                ImageCommand::Prune(args) => Command::ImagePrune(args),
                ImageCommand::Pull(args) => Command::Pull(args),
                ImageCommand::Push(args) => Command::Push(args),
                ImageCommand::Rm(args) => Command::Rmi(args),
                ImageCommand::Tag(args) => Command::Tag(args),
            },
            Command::Container(Late(group)) => match group.command {
                ContainerCommand::Attach(args) => Command::Attach(Late(args)),
                ContainerCommand::Commit(args) => Command::Commit(Late(args)),
                ContainerCommand::Cp(args) => Command::Cp(Late(args)),
                ContainerCommand::Diff(args) => Command::Diff(args),
                ContainerCommand::Export(args) => Command::Export(args),
                ContainerCommand::Create(args) => Command::Create(Late(*args)),
                ContainerCommand::Exec(args) => Command::Exec(Late(args)),
                ContainerCommand::Top(args) => Command::Top(Late(args)),
                ContainerCommand::Inspect(args) => Command::Inspect(args.of_container()),
                ContainerCommand::Logs(args) => Command::Logs(args),
                ContainerCommand::Ls(args) => Command::Ps(args),
                ContainerCommand::Port(args) => Command::Port(args),
                ContainerCommand::Pause(args) => Command::Pause(Late(args)),
                ContainerCommand::Unpause(args) => Command::Unpause(Late(args)),
                ContainerCommand::Stats(args) => Command::Stats(Late(args)),
                ContainerCommand::Prune(args) => Command::ContainerPrune(args),
                ContainerCommand::Rename(args) => Command::Rename(args),
                ContainerCommand::Kill(args) => Command::Kill(Late(args)),
                ContainerCommand::Restart(args) => Command::Restart(Late(args)),
                ContainerCommand::Rm(args) => Command::Rm(Late(args)),
                ContainerCommand::Run(args) => Command::Run(Late(*args)),
                ContainerCommand::Start(args) => Command::Start(Late(args)),
                ContainerCommand::Stop(args) => Command::Stop(Late(args)),
                ContainerCommand::Wait(args) => Command::Wait(Late(args)),
            },
            Command::System(Late(group)) => match group.command {
                SystemCommand::Df(args) => Command::SystemDf(args),
                SystemCommand::Prune(args) => Command::SystemPrune(args),
                SystemCommand::Reset(args) => Command::SystemReset(args),
            },
            Command::Builder(Late(group)) => match group.command {
                BuilderCommand::Build(args) => Command::Build(args),
                BuilderCommand::Prune(args) => Command::Prune(Late(args)),
            },
            other => other,
        }
    }
}
