//! `rbuild logs`: what a container wrote. Where no container has the name, what the build of that id said.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::Seen;
use crate::cli::error::CommandError;
use crate::cli::ui::Streams;
use crate::cli::world::World;
use crate::cli::{builds, ui, when};
use crate::container::State;
use crate::container::control::Connection;
use crate::container::log::{Entry, LogDriver, LogReader, Period, Stream, Tail};
use crate::store::{Store, StoreError};
use crate::sys::watch::{self, Watch};

/// Print what a container wrote.
///
/// What it wrote to standard output goes to standard output, the rest to standard error. Where no container has
/// the name or id, the build of this id is meant: that is `rbuild builds logs`.
#[derive(Debug, Args)]
#[command(
    after_help = "A TIME is a duration as `10m` (that long ago), a time as `2026-01-31T12:00:00` (UTC unless \
    it names a zone), or seconds since 1970.\n\n\
    Examples:\n  rbuild logs -f web\n  rbuild logs --tail 20 -t web\n  rbuild logs --since 10m web\n\n\
    See also: rbuild ps, rbuild attach, rbuild builds logs"
)]
pub struct LogsArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Show the attributes that --log-opt labels and env put beside every line
    #[arg(long)]
    pub details: bool,
    /// Go on until the container has ended
    #[arg(short, long)]
    pub follow: bool,
    /// Only what was written since
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    pub since: Option<Timestamp>,
    /// Only this many lines, the last; `all` for all
    #[arg(short = 'n', long, value_name = "NUMBER", allow_hyphen_values = true, default_value = "all", value_parser = tail)]
    pub tail: Tail,
    /// Show the time of every line
    #[arg(short, long)]
    pub timestamps: bool,
    /// Only what was written before
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    pub until: Option<Timestamp>,
}

fn time(text: &str) -> Result<Timestamp, String> {
    when::parse(text, Timestamp::now())
        .ok_or_else(|| format!("`{text}` is no time, as `10m` or `2026-01-31T12:00:00`"))
}

fn tail(text: &str) -> Result<Tail, String> {
    match text.parse::<i64>() {
        _ if text == "all" => Ok(Tail::All),
        Ok(number) => Ok(u64::try_from(number).map_or(Tail::All, Tail::Last)),
        Err(_) => Err(format!("`{text}` is no number of lines, nor `all`")),
    }
}

/// Runs the command.
pub fn logs(world: &World, args: LogsArgs) -> Result<(), CommandError> {
    let store = world.open_store()?;
    let seen = match store.find_container(&args.container) {
        Ok(kept) => Seen::of(&store, kept)?,
        Err(StoreError::NoContainer(name)) => {
            return of_build(&store, &args, StoreError::NoContainer(name).into());
        }
        Err(error) => return Err(error.into()),
    };
    if seen.settings.log.driver != LogDriver::JsonFile {
        return Err(CommandError::new("configured logging driver does not support reading")
            .hint("the container was made with `--log-driver none`: its output goes to who is attached"));
    }
    print(&store, &seen, &args)
}

/// Prints what a build said, where one has this id; `none` says that there is no container.
fn of_build(store: &Store, args: &LogsArgs, none: CommandError) -> Result<(), CommandError> {
    if !matches!(store.find_build(&args.container), Ok(Some(_))) {
        return Err(none);
    }
    let plain = args.tail == Tail::All
        && args.since.is_none()
        && args.until.is_none()
        && !args.timestamps
        && !args.details;
    if !plain {
        return Err(CommandError::usage(format!(
            "`{}` is a build: of its options it has --follow alone",
            args.container
        ))
        .hint("`rbuild builds logs --help` says what there is for builds"));
    }
    builds::print_log(store, &args.container, args.follow)
}

/// How long a wait lasts that nothing ends, where nobody would tell of the container's end.
const UNTOLD: Duration = Duration::from_secs(1);

/// How often the log is looked at where changes are not told of: all watches of inotify are taken.
const UNWATCHED: Duration = Duration::from_millis(250);

fn print(store: &Store, seen: &Seen, args: &LogsArgs) -> Result<(), CommandError> {
    let directory = store.container_dir(&seen.kept.id);
    let failed = |error: std::io::Error| {
        CommandError::new(format!("cannot read the log of {}: {error}", args.container))
    };
    // Watched first: nothing that is written after the reading goes unseen.
    let watch = args.follow.then(|| Watch::of(&directory).ok()).flatten();
    let period = Period { since: args.since, until: args.until };
    let mut reader = LogReader::open(&directory.join("log"), period, args.tail).map_err(failed)?;
    let mut output = Output { streams: Streams::new(), args, is_within: [false; 2] };
    let mut supervisor = None;
    loop {
        // Asked first: what was written before the end is read after that.
        let is_alive = args.follow && State::of(store, &seen.kept.id)?.is_alive();
        if is_alive && supervisor.is_none() {
            // Where it cannot be had, its end is found out by looking.
            supervisor = Connection::open(&directory).ok().flatten();
        }
        while let Some(entry) = reader.next_entry().map_err(failed)? {
            if !output.entry(&entry) {
                return Ok(());
            }
        }
        let is_past = args.until.is_some_and(|until| until < Timestamp::now());
        if !output.streams.flush() || !is_alive || reader.is_over() || is_past {
            return Ok(());
        }
        // Its end is the end of the connection.
        let mut limit = supervisor.is_none().then_some(UNTOLD);
        if let Some(until) = args.until {
            let left = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
            let left = left + Duration::from_millis(1);
            limit = Some(limit.map_or(left, |limit| limit.min(left)));
        }
        let told = supervisor.as_ref().map(Connection::fd);
        let was_it = match &watch {
            Some(watch) => watch.wait(told, limit),
            None => watch::wait_for(told, limit.map_or(UNWATCHED, |limit| limit.min(UNWATCHED))),
        };
        let was_it = was_it.map_err(failed)?;
        if was_it && supervisor.as_ref().is_some_and(Connection::is_gone) {
            supervisor = None;
        }
    }
}

/// Prints entries, with what was asked for before each line.
struct Output<'a> {
    streams: Streams,
    args: &'a LogsArgs,
    /// Whether the last piece of a stream was the start of a line.
    is_within: [bool; 2],
}

impl Output<'_> {
    /// Prints an entry; `false` where nobody reads any more.
    fn entry(&mut self, entry: &Entry) -> bool {
        if entry.lost > 0 {
            self.streams.flush();
            ui::note(&format!(
                "warning: {} lines are missing here: the disk did not take them\n",
                entry.lost
            ));
        }
        let mut before = String::new();
        let is_within =
            std::mem::replace(&mut self.is_within[entry.stream as usize], !entry.bytes.ends_with(b"\n"));
        if !is_within && self.args.timestamps {
            before.push_str(&entry.time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ ").to_string());
        }
        if !is_within && self.args.details {
            before.push_str(&details(entry));
            before.push(' ');
        }
        match entry.stream {
            Stream::Stdout => self.streams.out(before.as_bytes()) && self.streams.out(&entry.bytes),
            Stream::Stderr => self.streams.err(before.as_bytes()) && self.streams.err(&entry.bytes),
        }
    }
}

/// Shows attributes as docker does: `a=b,c=d`, each encoded as in a query of a URL.
fn details(entry: &Entry) -> String {
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pairs: Vec<String> =
        entry.attributes.iter().map(|(key, value)| format!("{}={}", encoded(key), encoded(value))).collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_lines() {
        for (text, expect) in [
            ("all", Ok(Tail::All)),
            ("-1", Ok(Tail::All)),
            ("0", Ok(Tail::Last(0))),
            ("20", Ok(Tail::Last(20))),
        ] {
            assert_eq!(tail(text), expect);
        }
        assert!(tail("some").is_err() && tail("").is_err());
    }

    #[test]
    fn attributes_are_shown_as_docker_shows_them() {
        let attributes =
            [("b", "x y"), ("a", "1&2")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let entry = Entry {
            stream: Stream::Stdout,
            time: Timestamp::UNIX_EPOCH,
            bytes: Vec::new(),
            attributes,
            lost: 0,
        };
        assert_eq!(details(&entry), "a=1%262,b=x+y");
    }
}
