//! How progress is shown: chosen by `--progress`, the environment and where standard error goes.
//!
//! A build has a [`Progress`]; a pull, a push, a load and the pull of a run have [`Bars`]. Not here: what is
//! shown (`report`), reading the environment (`world`).

use std::io::{self, Write};
use std::sync::Arc;

use super::error::CommandError;
use super::world::World;
use super::{find, ui, units, world};
use crate::build::{BuildError, BuildResult, Findings};
use crate::dockerfile::rules;
use crate::report::view::{Screen, Signs, Size, Style, View, seconds};
use crate::report::{Event, Plain, Quiet, RawJson, Reporter, Silent, Transfer};
use crate::store::Store;
use crate::sys::terminal;

/// How a build shows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A view on the terminal at standard error.
    Tty,
    /// The classic lines.
    Plain,
    /// BuildKit's events on standard error.
    RawJson,
    /// The image's id only.
    Quiet,
    /// Nothing.
    None,
}

/// Chooses a mode: what is asked for, else what BUILDKIT_PROGRESS says, else what fits standard error.
pub fn mode(asked: Option<&str>, quiet: bool) -> Result<Mode, CommandError> {
    if quiet {
        return Ok(Mode::Quiet);
    }
    let setting = world::progress_setting().filter(|_| asked.is_none());
    let (word, who) = match &setting {
        Some((word, who)) => (word.as_str(), *who),
        None => (asked.unwrap_or("auto"), "--progress"),
    };
    choose(word, who, ui::err_is_terminal(), world::terminal_is_dumb())
}

fn choose(word: &str, who: &str, is_terminal: bool, is_dumb: bool) -> Result<Mode, CommandError> {
    match word {
        "auto" if is_terminal && !is_dumb => Ok(Mode::Tty),
        "auto" | "plain" => Ok(Mode::Plain),
        "tty" if is_terminal => Ok(Mode::Tty),
        "tty" => Err(CommandError::usage(format!("{who}=tty: standard error is not a terminal"))
            .hint("leave --progress out, and what fits is chosen")),
        "rawjson" => Ok(Mode::RawJson),
        "quiet" => Ok(Mode::Quiet),
        "none" => Ok(Mode::None),
        other => Err(CommandError::usage(format!(
            "{who} is `{other}`, which is none of auto, none, plain, quiet, rawjson and tty"
        ))),
    }
}

/// The terminal at standard error.
struct Terminal;

impl Screen for Terminal {
    fn size(&self) -> Option<Size> {
        let size = terminal::size(io::stderr()).ok()?;
        Some(Size { columns: size.columns.into(), rows: size.rows.into() })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::stderr().lock().write_all(bytes)
    }
}

fn view() -> View {
    let signs = if world::locale_is_utf8() { Signs::Unicode } else { Signs::Ascii };
    View::new(Box::new(Terminal), Style { colour: world::colours_are_wanted(), signs })
}

fn raw_json() -> RawJson<io::Stderr> {
    RawJson::new(io::stderr()).pages(|code| rules::rule(code)?.url())
}

/// Tells a program of an error that came before there was anything to show; returns what is left to print.
pub fn early(asked: Option<&str>, quiet: bool, error: CommandError) -> CommandError {
    match mode(asked, quiet) {
        Ok(Mode::RawJson) => Progress::RawJson(raw_json()).error(error),
        _ => error,
    }
}

type Out = Box<dyn Write + Send>;

/// Shows a build.
pub enum Progress {
    View(View),
    Plain(Plain<Out>),
    RawJson(RawJson<io::Stderr>),
    Quiet(Quiet<Out>),
    None,
}

impl Progress {
    /// Begins to show; `data_to_stdout`: standard output is for something else.
    pub fn new(mode: Mode, data_to_stdout: bool) -> Progress {
        match mode {
            Mode::Tty => Progress::View(view()),
            Mode::Plain => {
                let (out, terminal): (Out, bool) = match data_to_stdout {
                    true => (Box::new(io::stderr()), ui::err_is_terminal()),
                    false => (Box::new(io::stdout()), ui::out_is_terminal()),
                };
                let colour = terminal && world::colours_are_wanted();
                Progress::Plain(Plain::new(out, terminal).colour(colour))
            }
            Mode::RawJson => Progress::RawJson(raw_json()),
            Mode::Quiet => Progress::Quiet(Quiet::new(Box::new(io::stderr()), ui::err_is_terminal())),
            Mode::None => Progress::None,
        }
    }

    /// Returns what hears the build.
    pub fn reporter(&self) -> &dyn Reporter {
        match self {
            Progress::View(view) => view,
            Progress::Plain(plain) => plain,
            Progress::RawJson(sink) => sink,
            Progress::Quiet(quiet) => quiet,
            Progress::None => &Silent,
        }
    }

    /// Says something worth knowing that is no error.
    pub fn note(&self, text: &str) {
        match self {
            Progress::Plain(_) => ui::note(&format!("{text}\n")),
            Progress::Quiet(_) | Progress::None => {}
            Progress::View(_) | Progress::RawJson(_) => {
                self.reporter().event(Event::Note { text: text.to_owned() });
            }
        }
    }

    /// Leaves the terminal to others for a while.
    pub fn pause(&self) {
        if let Progress::View(view) = self {
            view.pause();
        }
    }

    /// Goes on after [`Progress::pause`].
    pub fn resume(&self) {
        if let Progress::View(view) = self {
            view.resume();
        }
    }

    /// Ends what is shown of a build that was done for a look inside: its warnings.
    pub fn looked(&self, warnings: &Findings) {
        if let Progress::View(view) = self {
            view.end();
        }
        match self {
            Progress::View(_) | Progress::Plain(_) if !warnings.diagnostics.is_empty() => {
                ui::note(&warnings.render(ui::err_in_colour()));
            }
            Progress::RawJson(sink) => {
                tell(sink, warnings);
                sink.end(Ok(&[]));
            }
            _ => {}
        }
    }

    /// Ends what is shown of a build that was built: its warnings, and what was made.
    pub fn built(&self, result: &BuildResult, store: &Store, data_to_stdout: bool) {
        let ended = match self {
            Progress::View(view) => Some(view.end()),
            _ => None,
        };
        match self {
            Progress::View(_) | Progress::Plain(_) if !result.warnings.diagnostics.is_empty() => {
                ui::note(&result.warnings.render(ui::err_in_colour()));
            }
            Progress::RawJson(sink) => {
                tell(sink, &result.warnings);
                let mut made = Vec::new();
                for image in &result.images {
                    made.push(format!("writing image {}", image.image));
                    made.extend(image.output.names.iter().map(|name| format!("naming to {name}")));
                }
                sink.end(Ok(&made));
            }
            _ => {}
        }
        let say =
            |text: String| if data_to_stdout { ui::note(&format!("{text}\n")) } else { ui::line(&text) };
        for made in &result.images {
            match self {
                Progress::None => {}
                // Nothing but JSON on standard error; the events say it, too.
                Progress::RawJson(_) if data_to_stdout => {}
                Progress::Quiet(_) => say(made.image.to_string()),
                _ => {
                    say(format!("Successfully built {}", made.image.short()));
                    made.tags.iter().for_each(|tag| say(format!("Successfully tagged {tag}")));
                }
            }
        }
        if let Some((counts, took)) = ended {
            let size = |image: &crate::build::BuiltImage| {
                Some(units::size(find::size(store, &store.image(&image.image).ok()?.layers)))
            };
            let sizes: Vec<String> = result.images.iter().filter_map(size).collect();
            let (run, cached, took) = (units::count(counts.run, "step"), counts.cached, seconds(took));
            ui::note(&format!("{run} run, {cached} cached, {}, {took}\n", sizes.join(" + ")));
        }
    }

    /// Takes the last lines of a step that failed out of its error, where they stand right above it.
    pub fn leave_out_what_is_shown(&self, error: &mut BuildError) {
        let BuildError::Step(findings) = error else { return };
        let Some(failure) = &mut findings.failure else { return };
        let is_shown = match self {
            Progress::View(_) | Progress::Quiet(_) | Progress::RawJson(_) => true,
            Progress::Plain(_) => !failure.mixed,
            Progress::None => false,
        };
        if is_shown {
            failure.last.clear();
        }
    }

    /// Ends what is shown of a build that was not built, and makes the error for people with `people`.
    pub fn failed(
        &self,
        mut error: BuildError,
        people: impl FnOnce(BuildError) -> CommandError,
    ) -> CommandError {
        self.leave_out_what_is_shown(&mut error);
        match (self, &mut error) {
            (Progress::View(view), error) => {
                let (counts, took) = view.end();
                if counts.steps > 0 {
                    let (run, cached, took) =
                        (units::count(counts.run, "step"), counts.cached, seconds(took));
                    let left = counts.steps - counts.done;
                    // The one that the error is about.
                    let failed = usize::from(matches!(error, BuildError::Step(_)) && left > 0);
                    let word = if failed > 0 { "1 failed, " } else { "" };
                    let left = left - failed;
                    ui::note(&format!("{run} run, {cached} cached, {word}{left} not done, {took}\n"));
                }
            }
            (Progress::Quiet(_) | Progress::None, BuildError::Step(findings)) => {
                findings.diagnostics.retain(|finding| finding.is_error());
            }
            (Progress::RawJson(sink), BuildError::Dockerfile(findings)) => {
                return CommandError::usage(told(sink, findings));
            }
            (Progress::RawJson(sink), BuildError::Step(findings)) => {
                return CommandError::new(told(sink, findings));
            }
            _ => {}
        }
        people(error)
    }

    /// Tells a program of an error that was not told; returns what is left to print.
    pub fn error(&self, error: CommandError) -> CommandError {
        match self {
            Progress::RawJson(sink) => {
                let text = [&[error.message][..], &error.hints].concat().join("\n");
                sink.end(Err(&text));
                CommandError::silent(error.code)
            }
            _ => error,
        }
    }
}

fn tell(sink: &dyn Reporter, findings: &Findings) {
    for diagnostic in findings.diagnostics.iter().filter(|finding| !finding.is_error()) {
        let (file, source) = (findings.file.clone(), findings.source.clone());
        sink.event(Event::Finding { file, source, diagnostic: diagnostic.clone() });
    }
}

/// Tells a program of warnings; returns the errors as text.
fn told(sink: &dyn Reporter, findings: &mut Findings) -> String {
    tell(sink, findings);
    findings.diagnostics.retain(|finding| finding.is_error());
    findings.render_failed(false).trim_end().to_owned()
}

/// Shows bytes on their way, and lines above; without a terminal, lines only.
pub struct Bars(Option<View>);

impl Bars {
    /// Begins; `shown`: there is someone who watches.
    pub fn new(shown: bool) -> Bars {
        Bars((shown && ui::err_is_terminal() && !world::terminal_is_dumb()).then(view))
    }

    /// Shows lines about what is tried again, in a pipe on standard error.
    pub fn show_retries(bars: &Arc<Bars>, world: &World, quiet: bool) {
        let bars = Arc::downgrade(bars);
        world.show_retries(move |line| {
            if let Some(bars) = bars.upgrade().filter(|_| !quiet) {
                bars.line(line, |line| ui::note(&format!("{line}\n")));
            }
        });
    }

    /// Shows a line; `otherwise` prints it where there is no terminal.
    pub fn line(&self, text: &str, otherwise: impl FnOnce(&str)) {
        match &self.0 {
            Some(view) => view.event(Event::Pull { text: text.to_owned() }),
            None => otherwise(text),
        }
    }

    /// Shows bytes.
    pub fn transfer(&self, transfer: Transfer) {
        if let Some(view) = &self.0 {
            view.event(Event::Transfer(transfer));
        }
    }

    /// Ends a transfer.
    pub fn ended(&self, of: &Arc<str>) {
        if let Some(view) = &self.0 {
            view.event(Event::TransferEnded { of: of.clone() });
        }
    }

    /// Ends all; to be called before anything else is printed. Dropping does it, too.
    pub fn end(&self) {
        if let Some(view) = &self.0 {
            view.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_chosen() {
        let check = |word: &str, is_terminal, is_dumb, expect: Result<Mode, &str>| {
            let found =
                choose(word, "BUILDKIT_PROGRESS", is_terminal, is_dumb).map_err(|error| error.message);
            match (found, expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect, "{word}"),
                (Err(found), Err(expect)) => assert!(found.contains(expect), "{word}: {found}"),
                (found, expect) => panic!("{word}: {found:?}, {expect:?}"),
            }
        };
        check("auto", true, false, Ok(Mode::Tty));
        check("auto", true, true, Ok(Mode::Plain));
        check("auto", false, false, Ok(Mode::Plain));
        check("plain", true, false, Ok(Mode::Plain));
        check("tty", true, true, Ok(Mode::Tty));
        check("tty", false, false, Err("standard error is not a terminal"));
        check("rawjson", true, false, Ok(Mode::RawJson));
        check("quiet", true, false, Ok(Mode::Quiet));
        check("none", true, false, Ok(Mode::None));
        check("loud", true, false, Err("BUILDKIT_PROGRESS is `loud`"));
    }
}
