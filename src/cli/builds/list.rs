//! `rbuild builds ls`: the builds, newest first.

use std::path::Path;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::error::CommandError;
use super::super::{filter, rows, ui, units};
use crate::report::clean::clean_text;
use crate::report::record::BuildRecord;
use crate::store::{BuildState, KeptBuild, Store};

/// List builds, newest first.
#[derive(Debug, Args)]
#[command(after_help = "Filters: status=running|completed|failed|canceled|cut short\n\
    Fields: ID, Name, Status, CreatedSince, CreatedAt, Duration, Steps, Cached, Image, Tags, Context, Dockerfile\n\n\
    Examples:\n  rbuild builds ls --filter status=failed\n  rbuild builds ls --format '{{.ID}} {{.Duration}}'\n\n\
    See also: rbuild builds show, rbuild builds logs")]
pub struct ListArgs {
    /// Print only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Only builds for which this holds
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
    /// Print through a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
}

/// Runs the command.
pub fn list(store: &Store, args: &ListArgs) -> Result<(), CommandError> {
    let filters = filter::parse(&args.filters, &["status"])?;
    let wanted = |build: &KeptBuild| {
        let status = super::status(build);
        filters.is_empty() || filters.iter().any(|filter| (filter.value == status) != filter.negated)
    };
    let rows: Vec<Value> = store.builds()?.iter().filter(|build| wanted(build)).map(row).collect();
    if args.quiet && args.format.is_none() {
        rows.iter().for_each(|row| ui::line(row["ID"].as_str().unwrap_or_default()));
        return Ok(());
    }
    let columns = [
        ("ID", "BUILD ID"),
        ("Name", "NAME"),
        ("Status", "STATUS"),
        ("CreatedSince", "CREATED"),
        ("Duration", "DURATION"),
        ("Steps", "STEPS"),
        ("Image", "IMAGE"),
    ];
    rows::print(&rows, args.format.as_deref(), &columns)
}

fn row(build: &KeptBuild) -> Value {
    let record = match &build.state {
        BuildState::Ended(bytes) => BuildRecord::from_bytes(bytes).ok(),
        BuildState::Running | BuildState::CutShort => None,
    };
    let began = record.as_ref().and_then(|record| Timestamp::from_millisecond(record.started_unix_ms).ok());
    let began = began.unwrap_or(build.started);
    let seconds = Timestamp::now().as_second() - began.as_second();
    let (mut steps, mut cached, mut duration) = (String::new(), String::new(), String::new());
    if let Some(record) = &record {
        let (all, of_cache) = record.counts();
        cached = of_cache.to_string();
        steps = match of_cache {
            0 => all.to_string(),
            _ => format!("{all} ({of_cache} cached)"),
        };
        duration = super::time(record.elapsed_ms);
    }
    let record = record.unwrap_or_default();
    let images: Vec<&str> = record.images.iter().map(|image| short(&image.id)).collect();
    let tags: Vec<&str> =
        record.images.iter().flat_map(|image| image.tags.iter().map(String::as_str)).collect();
    json!({
        "ID": build.id,
        "Name": name(&record),
        "Status": super::status(build),
        "CreatedSince": units::ago(seconds),
        "CreatedAt": began.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        "Duration": duration,
        "Steps": steps,
        "Cached": cached,
        "Image": images.join(","),
        "Tags": tags.join(","),
        "Context": one_line(&record.context),
        "Dockerfile": one_line(&record.dockerfile),
    })
}

/// Names a build by its context and targets, as buildx does.
fn name(record: &BuildRecord) -> String {
    let last = Path::new(&record.context).file_name().map(|name| name.to_string_lossy().into_owned());
    let mut name = last.unwrap_or_else(|| record.context.clone());
    for (_, target) in record.options.iter().filter(|(option, _)| option == "--target") {
        name.push('/');
        name.push_str(target);
    }
    one_line(&name)
}

/// Makes words of elsewhere fit for a cell.
fn one_line(text: &str) -> String {
    clean_text(text).replace(['\n', '\r', '\t'], " ")
}

fn short(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_have_names() {
        let check = |context: &str, targets: &[&str], expect: &str| {
            let options =
                targets.iter().map(|target| ("--target".to_owned(), (*target).to_owned())).collect();
            let record = BuildRecord { context: context.into(), options, ..BuildRecord::default() };
            assert_eq!(name(&record), expect);
        };
        check("/src/app", &[], "app");
        check("/src/app", &["a", "b"], "app/a/b");
        check("-", &[], "-");
        check("/", &["x"], "//x");
        check("https://host/user/repo.git#main", &[], "repo.git#main");
        check("/src/a\nb\x1b[2J", &[], "a b");
    }

    #[test]
    fn ids_are_short() {
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short("x"), "x");
    }
}
