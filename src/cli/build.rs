//! `rbuild build`: the command line to a build request, events to the screen.
//!
//! Not here: building (`build`).

use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::cache_options::CacheArgs;
use super::error::{CommandError, code};
use super::isolation::IsolationArg;
use super::near_files;
use super::no_effect::{self, NoEffectArgs};
use super::on_failure::{Asker, OnFailureArgs};
use super::outputs::{OutputArgs, Outputs};
use super::progress::{self, Progress};
use super::pull_policy::PullArg;
use super::reach::ReachArgs;
use super::resources::{ConsentArgs, ResourceArgs};
use super::step_inputs::StepInputArgs;
use super::step_network::StepNetworkArgs;
use super::ui;
use super::world::World;
use super::{config, contexts, outputs, panic, targets};
use crate::build::{self, BuildError, BuildRequest, ContextFrom, DockerfileFrom, Volume};
use crate::context::{self, ContextError};
use crate::image::Reference;
use crate::plan::graph::{BuildArgs as Arguments, NetworkMode};
use crate::report::Event;

/// Build an image from a Dockerfile.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    rbuild -t flask .                          build ./Dockerfile, name the image flask:latest\n  \
    rbuild -t a/b:1 -t a/b:latest -f ci/Dockerfile .\n  \
    rbuild --build-arg VERSION=1.2 --target test .\n  \
    rbuild --target app --target test -t app=app:1 -t test=app:test .   two images of one run\n  \
    rbuild --build-context lib=../lib -t app .\n  \
    rbuild https://github.com/user/repository.git#main\n  \
    rbuild -o type=oci,dest=image.tar .        write an OCI archive\n  \
    rbuild -o out .                            write the image's files to a directory\n  \
    rbuild -t host.example/app --push .        push it to its registry\n  \
    rbuild - < Dockerfile                      no build context\n\n\
    See also: rbuild check, rbuild context, rbuild images, rbuild builds")]
pub struct BuildArgs {
    /// The build context: a directory, a URL, a Git repository, or `-` for a Dockerfile or a tar archive on
    /// standard input
    #[arg(value_name = "PATH | URL | -")]
    pub context: String,
    #[command(flatten)]
    pub source: SourceArgs,
    /// Name the image, as NAME[:TAG]; with several targets, as STAGE=NAME[:TAG]
    #[arg(short, long = "tag", value_name = "[STAGE=]NAME[:TAG]")]
    pub tags: Vec<String>,
    /// Do not build; say what is wrong with the Dockerfile: --call=check
    #[arg(long, conflicts_with = "call")]
    pub check: bool,
    /// Do not build; tell what is asked: check, outline, targets or subrequests.describe (what there
    /// is to ask), with `,format=json` behind it
    #[arg(long, value_name = "WHAT[,format=FORMAT]")]
    pub call: Option<String>,
    /// Use nothing from the cache; what is built is put in the cache
    #[arg(long)]
    pub no_cache: bool,
    /// Use nothing from the cache for the steps of these stages
    #[arg(long, value_name = "STAGE,...", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,
    /// Do not build; tell what would run and why, what is cached, and what cannot be known yet (with -q, how
    /// many steps are not known to be cached)
    #[arg(long)]
    pub dry_run: bool,
    /// Print only the image's id; if a step fails, its output
    #[arg(short, long)]
    pub quiet: bool,
    /// How to show progress; without it $BUILDKIT_PROGRESS, else auto: tty on a terminal, plain elsewhere
    #[arg(long, value_name = "HOW", value_parser = ["auto", "none", "plain", "quiet", "rawjson", "tty"])]
    pub progress: Option<String>,
    /// Bind a certificate file into RUN steps at /run/rbuild/ca.crt and point the usual programs to it
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
    #[command(flatten)]
    pub on_failure: OnFailureArgs,
    // Those with a heading of their own come last: it would stand above all that follow.
    #[command(flatten)]
    pub steps: StepInputArgs,
    #[command(flatten)]
    pub cache: CacheArgs,
    #[command(flatten)]
    pub pull: PullArg,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub resources: ResourceArgs,
    #[command(flatten)]
    pub step_network: StepNetworkArgs,
    #[command(flatten)]
    pub reach: ReachArgs,
    #[command(flatten)]
    pub isolation: IsolationArg,
    #[command(flatten)]
    pub no_effect: NoEffectArgs,
}

impl BuildArgs {
    /// Tells whether something is asked about the Dockerfile rather than built from it.
    pub fn is_call(&self) -> bool {
        self.check || self.call.as_deref().is_some_and(|call| call != "build")
    }
}

/// What decides the instruction graph: shared with `graph`.
#[derive(Debug, Default, Args)]
pub struct SourceArgs {
    /// The Dockerfile, when it is not PATH/Dockerfile: a file, a URL, or `-` for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<String>,
    /// Set a build argument; without a value, take it from the environment
    #[arg(long = "build-arg", value_name = "KEY[=VALUE]")]
    pub build_args: Vec<String>,
    /// Build this stage instead of the last one; may be given several times, for an image of each
    #[arg(long = "target", value_name = "STAGE")]
    pub targets: Vec<String>,
    /// The platform the image is for
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Give a name to more files or an image: a directory, a URL, a Git repository,
    /// docker-image://REFERENCE or oci-layout://PATH[:TAG|@DIGEST]
    #[arg(long = "build-context", value_name = "NAME=VALUE")]
    pub contexts: Vec<String>,
    /// Put a label on the image
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// The network of RUN steps
    #[arg(long, value_name = "MODE", default_value = "default", value_parser = ["default", "none", "host"])]
    pub network: String,
    /// Bind a directory or file of this machine into RUN steps; it is never in a layer
    #[arg(short, long = "volume", value_name = "HOST:DEST[:ro]")]
    pub volumes: Vec<String>,
    #[command(flatten)]
    pub consent: ConsentArgs,
}

impl BuildArgs {
    /// Reads what is to be written; to be done before the process enters a user namespace.
    pub fn read_outputs(&self) -> Result<Outputs, CommandError> {
        let wanted = targets::wanted(&self.source.targets, &self.tags)?;
        let platform = self.source.platform.as_deref();
        outputs::read(&self.output, &self.source.consent.allow, platform, &wanted)
    }

    /// Makes the request of all that was asked for but outputs, and what there is to note.
    pub fn request(
        &self,
        world: &World,
        wanted: Vec<build::Wanted>,
    ) -> Result<(BuildRequest, Vec<String>), CommandError> {
        let mut request = request(&self.context, &self.source)?;
        self.steps.apply(&mut request.step)?;
        let mut notes = self.resources.apply(&mut request.step)?;
        notes.extend(self.step_network.apply(&mut request.step, request.network)?);
        let (proxies, note) = self.reach.apply(world)?;
        request.proxies = proxies;
        notes.extend(note);
        request.wanted = wanted;
        request.no_cache = self.no_cache;
        request.pull = self.pull.policy()?;
        request.no_cache_filter = self.no_cache_filter.clone();
        (request.cache_from, request.cache_to) = self.cache.parse(&request.build_args)?;
        request.ca_cert = ca_cert(self.ca_cert.as_deref())?;
        Ok((request, notes))
    }
}

/// Runs the command.
pub fn build(world: &World, mut args: BuildArgs, outputs: Outputs) -> Result<(), CommandError> {
    let mode = progress::mode(args.progress.as_deref(), args.quiet)?;
    args.on_failure.complete(mode)?;
    let progress = Progress::new(mode, outputs.to_stdout);
    let progress = Arc::new(progress);
    let shows = Arc::downgrade(&progress);
    world.show_retries(move |line| {
        if let Some(progress) = shows.upgrade() {
            progress.reporter().event(Event::Note { text: line.to_owned() });
        }
    });
    shown(world, args, outputs, &progress).map_err(|error| progress.error(error))
}

fn shown(
    world: &World,
    args: BuildArgs,
    mut outputs: Outputs,
    progress: &Progress,
) -> Result<(), CommandError> {
    let wanted = targets::wanted(&args.source.targets, &args.tags)?;
    let mut notes = args.no_effect.notes()?;
    notes.extend(no_effect::arguments(&args.source.build_args));
    notes.append(&mut outputs.notes);
    world.allow_insecure(outputs.insecure_hosts(&wanted));
    let (mut request, more) = args.request(world, wanted)?;
    notes.extend(more);
    request.outputs = std::mem::take(&mut outputs.list);
    notes.iter().for_each(|line| progress.note(line));
    let store = world.open_store()?;
    let cancel = world.cancel_on_signals()?;
    let watching = panic::Watching(progress.reporter());
    let engine = world.engine(&store, &watching, &cancel)?;
    let people = |error| failed(world, &args.context, &args.source, error);
    let show = |mut error| {
        progress.leave_out_what_is_shown(&mut error);
        drop(people(error));
    };
    let asker = Asker::new(world, progress, &cancel, &show);
    let result = build::build_or_ask(&engine, request, args.on_failure.asks().then_some(&asker as _));
    let people = |error| args.on_failure.ended(&asker, error, people);
    let result = result.map_err(|error| progress.failed(error, people))?;
    outputs::write_files(&args.output, &outputs, &result)?;
    progress.built(&result, &store, outputs.to_stdout);
    Ok(())
}

/// Finds the file of `--ca-cert`, else that of the configuration files.
pub fn ca_cert(option: Option<&Path>) -> Result<Option<PathBuf>, CommandError> {
    if let Some(file) = option {
        return certificates(file).map(Some);
    }
    let config = config::get()?;
    let file = config.build.ca_cert.as_deref().map(certificates).transpose();
    file.map_err(|error| match config.origin("build.ca_cert") {
        Some(from) => error.hint(format!("it is `ca_cert` of `[build]` in `{}`", from.display())),
        None => error,
    })
}

fn certificates(file: &Path) -> Result<PathBuf, CommandError> {
    let readable = std::fs::File::open(file).and_then(|f| f.metadata());
    let metadata = readable.map_err(|e| {
        CommandError::usage(format!("cannot read the certificate file `{}`: {e}", file.display()))
    })?;
    if !metadata.is_file() {
        return Err(CommandError::usage(format!("`{}` of --ca-cert is not a file", file.display())));
    }
    Ok(std::path::absolute(file)?)
}

/// Makes an error of a build one for people; findings are drawn at once.
pub fn failed(world: &World, context: &str, args: &SourceArgs, error: BuildError) -> CommandError {
    match error {
        BuildError::Dockerfile(findings) => {
            ui::note(&findings.render(ui::err_in_colour()));
            CommandError::silent(code::USAGE)
        }
        BuildError::Step(findings) => {
            ui::note(&findings.render_failed(ui::err_in_colour()));
            CommandError::silent(code::FAILED)
        }
        BuildError::Cancelled => world.interrupted(),
        BuildError::Push { name, error } => {
            let hint = error.hint();
            let mut error = CommandError::from(BuildError::Push { name, error });
            error.hints.extend(hint.map(str::to_owned));
            error
        }
        BuildError::Context(ContextError::DockerfileMissing { path, link: false }) => {
            let hint = match &args.file {
                Some(file) if context != "-" && Path::new(context).join(file).is_file() => {
                    let inside = Path::new(context).join(file);
                    format!(
                        "did you mean `-f {}`? The path starts here, not at the build context",
                        inside.display()
                    )
                }
                Some(_) if context == "-" => "the path is one in the archive on standard input".to_owned(),
                file if context != "-" && near_files::hint(file.as_deref(), context).is_some() => {
                    near_files::hint(file.as_deref(), context).unwrap_or_default()
                }
                Some(_) => "the path starts here, not at the build context".to_owned(),
                None => "name another file with `-f FILE`, or another build context".to_owned(),
            };
            CommandError::from(ContextError::DockerfileMissing { path, link: false }).hint(hint)
        }
        BuildError::Store(error) => {
            let hint = error.hint();
            let mut error = CommandError::from(BuildError::Store(error));
            error.hints.extend(hint);
            error
        }
        error => error.into(),
    }
}

/// Makes the part of a request that decides the graph.
pub fn request(context: &str, args: &SourceArgs) -> Result<BuildRequest, CommandError> {
    let from_stdin = args.file.as_deref() == Some("-");
    if from_stdin && context == "-" {
        return Err(CommandError::usage(
            "standard input cannot be both the Dockerfile and the build context",
        ));
    }
    if context.is_empty() {
        return Err(CommandError::usage("the build context is empty: name a directory, as in `rbuild .`"));
    }
    let stdin_is_tar = context == "-";
    let (context, dockerfile) = if stdin_is_tar {
        stdin_context(args.file.as_deref())?
    } else {
        let dockerfile = match args.file.as_deref() {
            Some("-") => DockerfileFrom::Bytes { name: "Dockerfile".to_owned(), bytes: read_stdin()? },
            Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
                DockerfileFrom::Remote(url.to_owned())
            }
            Some(file) if is_remote(context) => DockerfileFrom::Context(Some(file.to_owned())),
            Some(file) => DockerfileFrom::File(PathBuf::from(file)),
            None => DockerfileFrom::Context(None),
        };
        let from = match is_remote(context) {
            true => ContextFrom::Remote(context.to_owned()),
            false => ContextFrom::Directory(PathBuf::from(context)),
        };
        (from, dockerfile)
    };
    let mut build_args = Arguments::new();
    for arg in &args.build_args {
        match arg.split_once('=') {
            Some(("", _)) => {
                return Err(CommandError::usage(format!("bad --build-arg `{arg}`: it has no name")));
            }
            Some((name, value)) => {
                build_args.insert(name.to_owned(), value.to_owned());
            }
            None => {
                if let Ok(value) = std::env::var(arg) {
                    build_args.insert(arg.clone(), value);
                }
            }
        }
    }
    let label = |label: &String| match label.split_once('=') {
        Some(("", _)) => Err(CommandError::usage(format!("bad --label `{label}`: it has no name"))),
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Ok((label.clone(), String::new())),
    };
    // The environment of reproducible builds: https://reproducible-builds.org/specs/source-date-epoch/
    if let Some(value) = std::env::var("SOURCE_DATE_EPOCH").ok().filter(|value| !value.is_empty()) {
        build_args.entry("SOURCE_DATE_EPOCH".to_owned()).or_insert(value);
    }
    let mut request = BuildRequest::new(context, dockerfile);
    request.build_args = build_args;
    request.wanted = targets::wanted(&args.targets, &[])?;
    request.contexts = args.contexts.iter().map(|text| contexts::parse(text)).collect::<Result<_, _>>()?;
    if let Some(text) = &args.platform {
        let platform = text.parse();
        request.platform = Some(platform.map_err(|e| CommandError::usage(format!("bad --platform: {e}")))?);
    }
    request.labels = args.labels.iter().map(label).collect::<Result<Vec<_>, _>>()?;
    request.network = match args.network.as_str() {
        "none" => NetworkMode::None,
        "host" => NetworkMode::Host,
        _ => NetworkMode::Default,
    };
    request.entitlements = args.consent.entitlements()?;
    request.step.extra_hosts = args.consent.extra_hosts()?;
    request.volumes = args.volumes.iter().map(|v| parse_volume(v)).collect::<Result<Vec<_>, _>>()?;
    Ok(request)
}

/// Parses a name for an image: no digest, not `scratch`, and `latest` where no tag is written.
pub fn parse_tag(text: &str) -> Result<Reference, CommandError> {
    let reference: Reference = text.parse().map_err(|e| {
        let error = CommandError::usage(format!("invalid argument `{text}` for a name: {e}"));
        let lower = text.to_lowercase();
        match lower != text && lower.parse::<Reference>().is_ok() {
            true => error.hint(format!("did you mean `{lower}`?")),
            false => error,
        }
    })?;
    if reference.digest().is_some() {
        return Err(CommandError::usage(format!("`{text}`: a name to give cannot contain a digest")));
    }
    if reference.familiar_name() == "scratch" {
        return Err(CommandError::usage(format!("`{text}`: the name `scratch` is reserved"))
            .hint("`FROM scratch` is the empty image; give the image another name"));
    }
    Ok(reference.with_default_tag())
}

/// Parses `HOST:DEST[:ro|rw]`.
pub fn parse_volume(text: &str) -> Result<Volume, CommandError> {
    let bad = |why: &str| {
        CommandError::usage(format!("bad volume `{text}`: {why}")).hint("a volume is written HOST:DEST[:ro]")
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (host, destination, read_only) = match parts[..] {
        [host, destination] | [host, destination, "rw"] => (host, destination, false),
        [host, destination, "ro"] => (host, destination, true),
        [_, _, mode] => return Err(bad(&format!("the mode `{mode}` is not ro or rw"))),
        _ => return Err(bad("it needs a path of this machine and a path in the step")),
    };
    if !destination.starts_with('/') || destination.trim_matches('/').is_empty() {
        return Err(bad("the destination must be an absolute path other than /"));
    }
    if destination.split('/').any(|part| part == "..") {
        return Err(bad("the destination must not contain `..`"));
    }
    let host = std::path::absolute(host).map_err(|e| bad(&e.to_string()))?;
    if !host.exists() {
        return Err(bad(&format!("`{}` does not exist", host.display())));
    }
    Ok(Volume { host, destination: destination.to_owned(), read_only })
}

/// Tells a build context that must be fetched from a directory; one that is there is a directory.
pub fn is_remote(text: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@", "github.com/"]
        .iter()
        .any(|prefix| text.starts_with(prefix))
        && !Path::new(text).exists()
}

fn read_stdin() -> Result<Vec<u8>, CommandError> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(build::MAX_DOCKERFILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| CommandError::new(format!("cannot read standard input: {e}")))?;
    Ok(bytes)
}

/// Takes standard input as a tar archive where it is one, else as a Dockerfile.
fn stdin_context(file: Option<&str>) -> Result<(ContextFrom, DockerfileFrom), CommandError> {
    if ui::in_is_terminal() {
        return Err(CommandError::usage("the build context `-` is standard input, which is a terminal")
            .hint("pipe a Dockerfile or a tar archive into it"));
    }
    let fail = |e: io::Error| CommandError::new(format!("cannot read standard input: {e}"));
    let mut head = vec![0u8; 1024];
    let mut length = 0;
    let mut stdin = io::stdin().lock();
    while length < head.len() {
        match stdin.read(&mut head[length..]) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(fail(e)),
        }
    }
    head.truncate(length);
    if context::sniff(&head) != context::Kind::Other {
        let mut spool = tempfile::tempfile().map_err(fail)?;
        spool.write_all(&head).map_err(fail)?;
        io::copy(&mut stdin, &mut spool).map_err(fail)?;
        spool.rewind().map_err(fail)?;
        return Ok((ContextFrom::Tar(spool), DockerfileFrom::Context(file.map(str::to_owned))));
    }
    if let Some(file) = file {
        return Err(CommandError::usage(format!(
            "standard input is no tar archive, so `-f {file}` has nothing to be read from"
        )));
    }
    let mut bytes = head;
    stdin.take(build::MAX_DOCKERFILE_BYTES).read_to_end(&mut bytes).map_err(fail)?;
    Ok((ContextFrom::Nothing, DockerfileFrom::Bytes { name: "Dockerfile".to_owned(), bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_checked() {
        let volume = parse_volume("/tmp:/x:ro").unwrap();
        assert_eq!((volume.destination.as_str(), volume.read_only), ("/x", true));
        assert!(!parse_volume("/tmp:/x").unwrap().read_only);
        for bad in ["/tmp", "/tmp:x", "/tmp:/", "/tmp:/x:zz", "/tmp:/a/../b", "/no/such/dir:/x", "a:b:c:d"] {
            assert!(parse_volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_are_checked() {
        assert_eq!(parse_tag("flask").unwrap().to_string(), "flask:latest");
        assert_eq!(parse_tag("Flask").unwrap_err().hints, ["did you mean `flask`?"]);
        assert!(parse_tag("scratch").is_err() && parse_tag("docker.io/library/scratch:1").is_err());
        assert!(parse_tag("me/scratch").is_ok());
        assert!(parse_tag(&format!("a@sha256:{}", "0".repeat(64))).is_err());
    }
}
