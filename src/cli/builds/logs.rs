//! `rbuild builds logs`: what a build said, all of it or that of one step.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::time::Duration;

use clap::Args;

use super::super::error::CommandError;
use super::super::ui;
use crate::report::record::{BuildRecord, StepRecord};
use crate::store::{BuildState, KeptBuild, Store};

/// Print what a build said.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rbuild builds logs\n  rbuild builds logs 3f2a\n  rbuild builds logs --step 4 ^1\n\n\
    See also: rbuild builds show, rbuild report"
)]
pub struct LogsArgs {
    /// Which build; the last one where none is named
    #[arg(value_name = "BUILD")]
    pub build: Option<String>,
    /// Only the output of the step of this number
    #[arg(long, value_name = "NUMBER")]
    pub step: Option<usize>,
    /// Go on until a build that runs has ended
    #[arg(short, long, conflicts_with = "step")]
    pub follow: bool,
}

/// How often a log is looked at that is followed.
const EVERY: Duration = Duration::from_millis(100);

/// Runs the command.
pub fn logs(store: &Store, args: &LogsArgs) -> Result<(), CommandError> {
    let build = super::find(store, args.build.as_deref())?;
    if args.follow {
        return follow(store, &build);
    }
    let Some(number) = args.step else {
        return print(&build, &[(0, u64::MAX)]);
    };
    let record = super::record(&build)?;
    let step = step(&record, number)?;
    if step.more_output {
        ui::note(
            "note: the output is in too many places of the log to tell them all: some of its middle is missing\n",
        );
    }
    print(&build, &step.output)
}

/// Prints what a build said, and where it is followed what it says until its end.
pub fn print_log(store: &Store, build: &str, follow: bool) -> Result<(), CommandError> {
    logs(store, &LogsArgs { build: Some(build.to_owned()), step: None, follow })
}

/// Prints a build's log, and what comes, until the build has ended.
fn follow(store: &Store, build: &KeptBuild) -> Result<(), CommandError> {
    let failed =
        |error: io::Error| CommandError::new(format!("cannot read `{}`: {error}", build.log.display()));
    let mut log = File::open(&build.log).map_err(failed)?;
    loop {
        // Asked first: what was written before it ended is read after that.
        let runs = store.find_build(&build.id)?.is_some_and(|build| build.state == BuildState::Running);
        ui::copy(&mut log).and_then(|()| io::stdout().flush()).map_err(failed)?;
        if !runs {
            return Ok(());
        }
        std::thread::sleep(EVERY);
    }
}

fn step(record: &BuildRecord, number: usize) -> Result<&StepRecord, CommandError> {
    record.steps.iter().find(|step| step.number == number).ok_or_else(|| {
        CommandError::new(format!("build {} has no step {number}", record.id))
            .hint(format!("`rbuild builds show {}` lists its steps", record.id))
    })
}

/// Prints these places of a build's log.
fn print(build: &KeptBuild, places: &[(u64, u64)]) -> Result<(), CommandError> {
    let failed =
        |error: io::Error| CommandError::new(format!("cannot read `{}`: {error}", build.log.display()));
    let mut log = File::open(&build.log).map_err(failed)?;
    for (from, to) in places {
        log.seek(SeekFrom::Start(*from)).map_err(failed)?;
        ui::copy((&log).take(to.saturating_sub(*from))).map_err(failed)?;
    }
    Ok(())
}

/// Reads the output of a step from its build's log: at most `head` bytes of its start and `tail` of its end.
///
/// Returns both, and how many bytes lie between them.
pub fn output_of(
    log: &mut File,
    places: &[(u64, u64)],
    head: u64,
    tail: u64,
) -> io::Result<(Vec<u8>, u64, Vec<u8>)> {
    // A record may tell of places that are in no log.
    let end = log.metadata()?.len();
    let places: Vec<(u64, u64)> = places.iter().map(|(from, to)| (*from.min(&end), *to.min(&end))).collect();
    let length = places.iter().map(|(from, to)| to.saturating_sub(*from)).fold(0, u64::saturating_add);
    let mut read = |skip: u64, count: u64| -> io::Result<Vec<u8>> {
        let (mut bytes, mut skip, mut left) = (Vec::new(), skip, count);
        for (from, to) in &places {
            let size = to.saturating_sub(*from);
            let passed = skip.min(size);
            skip -= passed;
            let take = left.min(size - passed);
            if take > 0 {
                log.seek(SeekFrom::Start(from + passed))?;
                Read::by_ref(log).take(take).read_to_end(&mut bytes)?;
                left -= take;
            }
        }
        Ok(bytes)
    };
    if length <= head.saturating_add(tail) {
        return Ok((read(0, length)?, 0, Vec::new()));
    }
    Ok((read(0, head)?, length - head - tail, read(length - tail, tail)?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn output_is_gathered_and_cut_in_the_middle() {
        let mut log = tempfile::tempfile().unwrap();
        log.write_all(b"0123456789abcdef").unwrap();
        let mut check = |places: &[(u64, u64)], head, tail, expect: (&str, u64, &str)| {
            let (start, between, end) = output_of(&mut log, places, head, tail).unwrap();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            assert_eq!((text(start).as_str(), between, text(end).as_str()), expect);
        };
        check(&[(2, 4), (6, 9)], 10, 10, ("23678", 0, ""));
        check(&[(2, 4), (6, 9)], 3, 1, ("236", 1, "8"));
        check(&[(0, 16)], 1, 2, ("0", 13, "ef"));
        check(&[(1, u64::MAX), (14, u64::MAX), (u64::MAX - 1, u64::MAX)], 1, 2, ("1", 14, "ef"));
        check(&[], 1, 1, ("", 0, ""));
        // What the log does not have is not there.
        check(&[(14, 99)], 100, 100, ("ef", 0, ""));
    }
}
