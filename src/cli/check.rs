//! `rbuild check`: what is wrong with a Dockerfile, without building it.
//!
//! No store, no namespaces, no images: base images are assumed to be as wanted. Not
//! here: the checks (`plan::check`), how findings are written (`findings`).

use clap::Args;

use super::build::{SourceArgs, request};
use super::error::{CommandError, code};
use super::findings::{self, Format};
use super::ui;
use crate::build::{BuildError, Findings, Source};
use crate::context::ContextError;
use crate::image::Platform;
use crate::plan::{Bases, Checked};
use crate::report::Diagnostic;

/// Check a Dockerfile without building it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    rbuild check .\n  \
    rbuild check -f ci/Dockerfile --format sarif . > findings.sarif\n  \
    rbuild check - < Dockerfile\n\n\
    The exit code is 0 when nothing was found, 1 when something was, 2 when the Dockerfile cannot be\n\
    built. `# check=skip=RULE` at the top of the file, or above an instruction, silences a check.\n\n\
    See also: rbuild parse, rbuild context")]
pub struct CheckArgs {
    /// The build context: a directory, or `-` for a Dockerfile or a tar archive on standard input
    #[arg(value_name = "PATH | -", default_value = ".")]
    pub context: String,
    /// The Dockerfile, when it is not PATH/Dockerfile; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<String>,
    /// Set a build argument; without a value, take it from the environment
    #[arg(long = "build-arg", value_name = "KEY[=VALUE]")]
    pub build_args: Vec<String>,
    /// Check what this stage needs instead of all stages
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Check as for an image of this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// How to write what was found
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Runs the command; gives its exit code.
pub fn check(args: CheckArgs) -> Result<u8, CommandError> {
    let source = SourceArgs {
        file: args.file,
        build_args: args.build_args,
        targets: args.target.into_iter().collect(),
        ..SourceArgs::default()
    };
    let mut source = Source::read(request(&args.context, &source)?).map_err(unreadable)?;
    if let Some(platform) = args.platform {
        source.request.platform = platform;
    }
    let checked = source.check(&Bases::new());
    Ok(show(&source, &checked, args.format))
}

/// Prints what was found; gives the exit code: 0 nothing, 1 something, 2 it cannot be built.
pub fn show(source: &Source, checked: &Checked, format: Format) -> u8 {
    let text = &source.parsed.source;
    ui::out(&findings::render(&source.file, text, checked, format));
    if format == Format::Text {
        let errors: Vec<Diagnostic> = checked.errors.iter().chain(&checked.violation).cloned().collect();
        let errors =
            Findings { file: source.file.clone(), source: text.clone(), diagnostics: errors, failure: None };
        ui::note(&errors.render(ui::err_in_colour()));
        if !checked.unknown.is_empty() {
            let mut names: Vec<String> =
                checked.unknown.iter().map(|need| format!("`{}`", need.reference)).collect();
            names.dedup();
            ui::note(&format!(
                "note: images are not looked at: what the variables and the platform of {} decide was not checked\n",
                names.join(", ")
            ));
        }
    }
    match (checked.errors.is_empty(), checked.findings.is_empty()) {
        (false, _) => code::USAGE,
        (true, false) => code::FAILED,
        (true, true) => 0,
    }
}

/// Makes an error of reading one for people.
pub fn unreadable(error: BuildError) -> CommandError {
    let missing = matches!(error, BuildError::Context(ContextError::DockerfileMissing { .. }));
    let error = CommandError::from(error);
    if missing { error.hint("name a file with `-f FILE`, or another build context") } else { error }
}
