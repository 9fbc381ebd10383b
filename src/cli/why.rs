//! `rbuild why` and `rbuild build --dry-run`: what a build would run and why, without building.
//!
//! Not here: finding it out (`build::explain`).

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::build::{BuildArgs, SourceArgs, failed, request};
use super::error::CommandError;
use super::reach::ReachArgs;
use super::world::World;
use super::{no_effect, targets, ui, units};
use crate::build::{self, Explained, ExplainedStep};
use crate::report::Plain;
use crate::report::clean::{clean_text, without_codes};
use crate::solve::{Difference, Explanation, How, Verdict};

/// Tell what a build would run and why, without building.
#[derive(Debug, Args)]
#[command(
    after_help = "Nothing is run, pulled, written or tagged. docs/why.md says what each step is compared with.\n\n\
    Examples:\n  \
    rbuild why                                 what would run, and all that differs\n  \
    rbuild why --step 4 .                      of one step, by its number\n  \
    rbuild why --line 12 --build-arg V=2 .     of one step, by its line in the Dockerfile\n  \
    rbuild why --format json . | jq '.steps[] | select(.state == \"runs\") | .why'\n\n\
    See also: rbuild build, rbuild builds, rbuild graph"
)]
pub struct WhyArgs {
    /// The build context, as for `build`
    #[arg(value_name = "PATH | URL | -", default_value = ".")]
    pub context: String,
    /// Only this step, by its number
    #[arg(long, value_name = "N", conflicts_with = "line")]
    pub step: Option<usize>,
    /// Only the step on this line of the Dockerfile
    #[arg(long, value_name = "L")]
    pub line: Option<usize>,
    /// As a build with the same option would
    #[arg(long)]
    pub no_cache: bool,
    /// As a build with the same option would
    #[arg(long, value_name = "STAGE,...", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,
    /// How to write it
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
    #[command(flatten)]
    pub source: SourceArgs,
}

/// Runs `why`.
pub fn why(world: &World, args: WhyArgs) -> Result<(), CommandError> {
    let mut request = request(&args.context, &args.source)?;
    request.no_cache = args.no_cache;
    request.no_cache_filter.clone_from(&args.no_cache_filter);
    // What lies elsewhere is fetched as a build without these options would.
    if let (_, Some(note)) = ReachArgs::default().apply(world)? {
        ui::note(&note);
    }
    let mut explained = explained(world, &args.context, &args.source, request)?;
    let total = explained.steps.len();
    let asked = match (args.step, args.line) {
        (None, None) => None,
        (Some(number), _) => {
            explained.steps.retain(|step| step.number == number);
            Some(format!("there is no step {number}: the build has {total} steps"))
        }
        (None, Some(line)) => {
            explained.steps.retain(|step| step.line > 0 && (step.line..=step.last_line).contains(&line));
            Some(format!("no step of this build is on line {line} of {}", explained.dockerfile))
        }
    };
    if let Some(text) = asked.filter(|_| explained.steps.is_empty()) {
        return Err(CommandError::usage(text).hint("`rbuild why` shows all steps with their numbers"));
    }
    if args.format == "json" {
        ui::line(&serde_json::to_string_pretty(&to_json(&explained, total))?);
        return Ok(());
    }
    let now = Timestamp::now();
    let mut out = String::new();
    for step in &explained.steps {
        out.push_str(&shown(step, total, Some(now)));
    }
    if args.step.is_none() && args.line.is_none() {
        out.push_str(&format!("{}\n", Counts::of(&explained).text("")));
    }
    ui::out(&out);
    Ok(())
}

/// Runs `build --dry-run`.
pub fn dry_run(world: &World, args: BuildArgs) -> Result<(), CommandError> {
    let wanted = targets::wanted(&args.source.targets, &args.tags)?;
    let (request, mut notes) = args.request(world, wanted)?;
    notes.extend(args.no_effect.notes()?);
    notes.extend(no_effect::arguments(&args.source.build_args));
    notes.iter().for_each(|note| ui::note(note));
    let explained = explained(world, &args.context, &args.source, request)?;
    if !explained.warnings.diagnostics.is_empty() {
        ui::note(explained.warnings.render(ui::err_in_colour()).trim_end());
    }
    let counts = Counts::of(&explained);
    if args.quiet {
        ui::line(&(counts.runs + counts.unknown).to_string());
        return Ok(());
    }
    let mut out = String::new();
    for step in &explained.steps {
        out.push_str(&shown(step, explained.steps.len(), None));
    }
    out.push_str(&format!("{}\n", counts.text("Dry run: ")));
    ui::out(&out);
    Ok(())
}

fn explained(
    world: &World,
    context: &str,
    source: &SourceArgs,
    request: build::BuildRequest,
) -> Result<Explained, CommandError> {
    let sink = Plain::new(std::io::stderr(), ui::err_is_terminal()).colour(ui::err_in_colour());
    let store = world.open_store()?;
    let cancel = world.cancel_on_signals()?;
    let engine = world.engine(&store, &sink, &cancel)?;
    build::explain(&engine, request).map_err(|error| failed(world, context, source, error))
}

/// How many steps there are of each sort; those that only change the config count in none.
#[derive(Default)]
struct Counts {
    cached: usize,
    runs: usize,
    unknown: usize,
    absent: Vec<String>,
}

impl Counts {
    fn of(explained: &Explained) -> Counts {
        let mut counts = Counts { absent: explained.absent.clone(), ..Counts::default() };
        for step in &explained.steps {
            match &step.verdict {
                Some(Verdict::Cached) => counts.cached += 1,
                Some(Verdict::Runs(_)) => counts.runs += 1,
                Some(Verdict::Unknown { .. }) => counts.unknown += 1,
                Some(Verdict::Here | Verdict::Fetched) | None => {}
            }
        }
        counts
    }

    fn text(&self, before: &str) -> String {
        let steps = |count: usize| if count == 1 { "1 step".to_owned() } else { format!("{count} steps") };
        let mut words = vec![format!("{} would run", steps(self.runs)), format!("{} cached", self.cached)];
        if self.unknown > 0 {
            words.push(format!("{} not known yet", self.unknown));
        }
        if !self.absent.is_empty() {
            words.push(format!("to be pulled: {}", self.absent.join(", ")));
        }
        format!("{before}{}", words.join(", "))
    }
}

/// Draws a step; with the time, all that differs, too.
fn shown(step: &ExplainedStep, total: usize, now: Option<Timestamp>) -> String {
    let prefix = step.stage.as_ref().map(|stage| format!("[{stage}] ")).unwrap_or_default();
    let mut out = format!("{prefix}Step {}/{total} : {}\n", step.number, one_line(&step.text));
    let mut say = |text: &str| out.push_str(&format!("{prefix} ---> {}\n", one_line(text)));
    let explanation = match &step.verdict {
        None => return out,
        Some(Verdict::Here) => return out,
        Some(Verdict::Fetched) => {
            say("Would be pulled");
            return out;
        }
        Some(Verdict::Cached) => {
            say("Using cache");
            return out;
        }
        Some(Verdict::Runs(explanation)) => {
            say(&format!("Would run: {}", explanation.line));
            explanation
        }
        Some(Verdict::Unknown { explanation, .. }) => {
            say(&unknown(step, explanation));
            explanation
        }
    };
    if let Some(now) = now {
        out.push_str(&details(explanation, now));
    }
    out
}

/// Says for what an unknown step waits, and what is known of it.
fn unknown(step: &ExplainedStep, explanation: &Explanation) -> String {
    let mut awaited: Vec<String> = step.fetched.iter().map(|name| format!("{name} is here")).collect();
    awaited.extend(step.after.iter().map(|number| format!("step {number} ran")));
    let own = match explanation.line.as_str() {
        "" => String::new(),
        line => format!("; {line}"),
    };
    match awaited.is_empty() {
        true => format!("Not known: what it reads cannot be read{own}"),
        false => format!("Not known until {}{own}", awaited.join(" and ")),
    }
}

/// Draws all that differs, and from what.
fn details(explanation: &Explanation, now: Timestamp) -> String {
    let mut out = String::new();
    let Some(nearest) = &explanation.nearest else { return out };
    if explanation.differences.is_empty() {
        return out;
    }
    let mut compared = match &nearest.build {
        Some(build) => format!("compared with build {build}"),
        None => "compared with the nearest result of another build".to_owned(),
    };
    if let Some(made) = nearest.created_unix_ms {
        compared.push_str(&format!(
            ", made {}",
            units::ago(now.as_second() - made.div_euclid(1000)).to_lowercase()
        ));
    }
    out.push_str(&format!("      {compared}\n"));
    for difference in &explanation.differences {
        if difference.before.is_none() && difference.now.is_none() && difference.files.is_empty() {
            out.push_str(&format!("      {}\n", one_line(&difference.line)));
            continue;
        }
        out.push_str(&format!("      {}\n", one_line(&difference.name)));
        for (sign, value) in [('-', &difference.before), ('+', &difference.now)] {
            for line in value.iter().flat_map(|value| value.split('\n')) {
                out.push_str(&format!("        {sign} {}\n", one_line(line)));
            }
        }
        for file in &difference.files {
            let path = one_line(&file.path);
            out.push_str(&match &file.how {
                How::Added => format!("        + {path}\n"),
                How::Removed => format!("        - {path}\n"),
                How::Changed(what) => format!("        ~ {path} ({what})\n"),
            });
        }
    }
    out
}

fn to_json(explained: &Explained, total: usize) -> Value {
    let steps: Vec<Value> = explained.steps.iter().map(step_json).collect();
    json!({"dockerfile": explained.dockerfile, "total": total, "toBePulled": explained.absent, "steps": steps})
}

fn step_json(step: &ExplainedStep) -> Value {
    let (state, explanation) = match &step.verdict {
        None => ("nothing", None),
        Some(Verdict::Here) => ("here", None),
        Some(Verdict::Fetched) => ("pulled", None),
        Some(Verdict::Cached) => ("cached", None),
        Some(Verdict::Runs(explanation)) => ("runs", Some(explanation)),
        Some(Verdict::Unknown { explanation, .. }) => ("unknown", Some(explanation)),
    };
    let mut value = json!({"number": step.number, "line": step.line, "text": step.text, "state": state});
    if let Some(stage) = &step.stage {
        value["stage"] = json!(stage);
    }
    if state == "unknown" {
        value["after"] = json!({"steps": step.after, "fetched": step.fetched});
    }
    let Some(explanation) = explanation else { return value };
    if !explanation.line.is_empty() {
        value["why"] = json!(explanation.line);
    }
    value["differences"] = explanation.differences.iter().map(difference_json).collect();
    if let Some(nearest) = &explanation.nearest {
        let made = nearest.created_unix_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        value["comparedWith"] = json!({
            "build": nearest.build, "text": nearest.text, "made": made.map(|made| made.to_string()),
        });
    }
    value
}

fn difference_json(difference: &Difference) -> Value {
    let file = |file: &crate::solve::FileChange| match &file.how {
        How::Added => json!({"path": file.path, "change": "added"}),
        How::Removed => json!({"path": file.path, "change": "removed"}),
        How::Changed(what) => json!({"path": file.path, "change": "changed", "what": what}),
    };
    let mut value = json!({"name": difference.name, "before": difference.before, "now": difference.now});
    if !difference.files.is_empty() {
        value["files"] = difference.files.iter().map(file).collect();
    }
    value
}

fn one_line(text: &str) -> String {
    without_codes(&clean_text(text)).replace(['\n', '\r', '\t'], " ")
}
