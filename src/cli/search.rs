//! `rbuild search`: repositories of a registry, or of docker.io, by a word.
//!
//! Not here: asking for them (`registry`).

use clap::Args;
use serde_json::{Value, json};

use super::error::CommandError;
use super::filter::{self, Filter};
use super::world::{Global, cancel_on_signals, interrupted, registry_options};
use super::{rows, ui};
use crate::registry::{FoundRepository, Registries, RegistryError, SearchTerm};
use crate::report::clean::clean_text;
use crate::report::{Ink, Line};

/// How many columns of a description are shown, as docker has it.
const WIDTH: usize = 45;
/// How many are asked for, and how many can be: docker's numbers.
const DEFAULT: usize = 25;
const MOST: usize = 100;

/// Search a registry for images; without HOST, Docker Hub.
#[derive(Debug, Args)]
#[command(
    after_help = "What stands before the first `/` is a registry if it has a dot or a colon, or is `localhost`; it is\n\
    asked for /v1/search, which docker.io and `rbuild registry` answer.\n\n\
    Filters: is-official=BOOL, is-automated=BOOL, stars=N\n\
    Fields: Name, Description, StarCount, IsOfficial, IsAutomated\n\n\
    Examples:\n  \
    rbuild search debian\n  \
    rbuild search --filter stars=3 --no-trunc busybox\n  \
    rbuild search localhost:5000/flask\n\n\
    See also: rbuild pull, rbuild login"
)]
pub struct SearchArgs {
    /// What is searched for
    #[arg(value_name = "[HOST/]TERM")]
    pub term: String,
    /// Only images for which this holds
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
    /// Print through a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Ask for so many at most, 1 to 100
    #[arg(long, value_name = "N", default_value_t = DEFAULT as i64, allow_negative_numbers = true)]
    pub limit: i64,
    /// Show whole descriptions
    #[arg(long)]
    pub no_trunc: bool,
    /// As `--filter is-automated=true`
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub automated: Option<bool>,
    /// As `--filter stars=N`
    #[arg(short, long, value_name = "N", hide = true)]
    pub stars: Option<u32>,
}

/// Runs the command.
pub fn search(global: &Global, args: SearchArgs) -> Result<(), CommandError> {
    if args.automated.is_some() {
        ui::note("Flag --automated has been deprecated, use --filter=is-automated=true instead\n");
    }
    if args.stars.is_some() {
        ui::note("Flag --stars has been deprecated, use --filter=stars=3 instead\n");
    }
    let wanted = Wanted::read(&args)?;
    let limit = match usize::try_from(args.limit) {
        Ok(0) => DEFAULT,
        Ok(limit @ 1..=MOST) => limit,
        _ => {
            return Err(CommandError::usage(format!(
                "Limit {} is outside the range of [1, {MOST}]",
                args.limit
            )));
        }
    };
    if args.term.contains("://") {
        return Err(CommandError::usage(format!(
            "invalid repository name: repository name ({}) should not have a scheme",
            args.term
        )));
    }
    let term = SearchTerm::read(&args.term)?;
    let cancel = cancel_on_signals()?;
    let registries = Registries::new(registry_options(global.daemon_json.as_deref()));
    let mut found = registries.search(&term, limit, &|| cancel.is_cancelled()).map_err(failed)?;
    found.retain(|repository| wanted.takes(repository));
    found.sort_by_key(|repository| std::cmp::Reverse(repository.star_count));
    let json = args.format.as_deref().is_some_and(|format| format == "json" || format.contains("json "));
    let rows: Vec<Value> = found.iter().map(|one| row(one, args.no_trunc, json)).collect();
    let columns = [
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("StarCount", "STARS"),
        ("IsOfficial", "OFFICIAL"),
        ("IsAutomated", "AUTOMATED"),
    ];
    rows::print(&rows, args.format.as_deref(), &columns)
}

/// Makes a row; nothing that a server sends controls the terminal.
fn row(found: &FoundRepository, whole: bool, json: bool) -> Value {
    let mark = |yes: bool| match (yes, json) {
        (true, true) => "true",
        (false, true) => "false",
        (true, false) => "[OK]",
        (false, false) => "",
    };
    let tame = |text: &str| clean_text(text).replace(['\n', '\r', '\t'], " ");
    let description = Line::new().with(Ink::Plain, &tame(&found.description));
    let description = if whole { description } else { description.cut(WIDTH, '…') };
    json!({
        "Name": Line::new().with(Ink::Plain, &tame(&found.name)).text(),
        "Description": description.text(),
        "StarCount": found.star_count.to_string(),
        "IsOfficial": mark(found.is_official),
        "IsAutomated": mark(found.is_automated),
    })
}

/// What of the found is shown.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    stars: i64,
    official: Option<bool>,
    automated: Option<bool>,
}

impl Wanted {
    fn read(args: &SearchArgs) -> Result<Wanted, CommandError> {
        let mut wanted = Wanted {
            stars: i64::from(args.stars.unwrap_or_default()),
            automated: args.automated.filter(|only| *only),
            ..Wanted::default()
        };
        for filter in filter::parse(&args.filters, &["is-official", "is-automated", "stars"])? {
            match filter.key.as_str() {
                "is-official" => wanted.official = Some(filter::boolean(&filter)?),
                "is-automated" => wanted.automated = Some(filter::boolean(&filter)?),
                _ => wanted.stars = wanted.stars.max(stars(&filter)?),
            }
        }
        Ok(wanted)
    }

    fn takes(&self, found: &FoundRepository) -> bool {
        found.star_count >= self.stars
            && self.official.is_none_or(|wanted| found.is_official == wanted)
            && self.automated.is_none_or(|wanted| found.is_automated == wanted)
    }
}

fn stars(filter: &Filter) -> Result<i64, CommandError> {
    filter.value.parse().ok().filter(|_| !filter.negated).ok_or_else(|| {
        CommandError::usage(format!("invalid value `{}` of filter `stars`", filter.value))
            .hint("it is the least number of stars")
    })
}

fn failed(error: RegistryError) -> CommandError {
    if error.is_cancelled() {
        return interrupted();
    }
    let hint = match error.is_not_found() {
        true => Some("not every registry can be searched; `rbuild registry` and docker.io can"),
        false => error.hint(),
    };
    let hint = hint.map(str::to_owned);
    let mut error = CommandError::from(error);
    error.hints.extend(hint);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_cut_as_dockers_are() {
        let check = |text: &str, whole: bool, expect: &str| {
            let found = FoundRepository { description: text.to_owned(), ..FoundRepository::default() };
            assert_eq!(row(&found, whole, false)["Description"], expect, "{text:?}");
        };
        check("short", false, "short");
        check(&"x".repeat(45), false, &"x".repeat(45));
        check(&"x".repeat(46), false, &format!("{}…", "x".repeat(44)));
        check(&"x".repeat(46), true, &"x".repeat(46));
        check(&"世".repeat(30), false, &format!("{}…", "世".repeat(22)));
        check("two\nlines\r\nand\ttabs", true, "two lines  and tabs");
        check("a\x1b]0;title\x07b\x1b[2Jc\x1b[31md", true, "abc␛[31md");
    }
}
