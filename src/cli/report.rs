//! `rbuild report`: a page about a build, in one file.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;

use super::builds::{find, output_of, record};
use super::error::CommandError;
use super::ui;
use super::world::World;
use crate::archive::{ArchiveError, write_whole};
use crate::draw::{ReportPage, StepOutput, report_page};
use crate::store::KeptBuild;

/// Write a page about a build: graph, timeline, cache, layers, warnings, output.
///
/// The page is one file that runs no scripts and loads nothing; it can be attached to an issue or kept by a CI
/// job. A build that failed has one, too.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild report -o report.html\n  rbuild report 3f2a > report.html\n\n\
    See also: rbuild builds, rbuild graph")]
pub struct ReportArgs {
    /// Which build: its id or the start of one; the last one where none is named
    #[arg(value_name = "BUILD")]
    pub build: Option<String>,
    /// Where the page goes; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// How much of a step's output stands in the page: of its start, and of its end.
const OUTPUT: (u64, u64) = (64 << 10, 192 << 10);

/// How much output of all steps stands in the page; what comes later is cut to [`FEW`].
const ALL_OUTPUT: u64 = 8 << 20;
const FEW: (u64, u64) = (2 << 10, 14 << 10);

/// Runs the command.
pub fn report(world: &World, args: ReportArgs) -> Result<(), CommandError> {
    let file = args.output.filter(|file| file.as_os_str() != "-");
    if file.is_none() && ui::out_is_terminal() {
        return Err(CommandError::usage("a page does not go to a terminal")
            .hint("name a file, as in `rbuild report -o report.html`, or `rbuild builds open`"));
    }
    let store = world.open_store()?;
    let page = page(&find(&store, args.build.as_deref())?)?;
    match file {
        Some(file) => write(&file, &page, 0o666),
        None => {
            ui::out(&page);
            Ok(())
        }
    }
}

/// Draws the page about a build that has ended.
pub fn page(build: &KeptBuild) -> Result<String, CommandError> {
    let record = record(build)?;
    let began = Timestamp::from_millisecond(record.started_unix_ms).unwrap_or(build.started);
    let mut output = Vec::new();
    // A log that is gone leaves a page without output.
    if let Ok(mut log) = File::open(&build.log) {
        let mut left = ALL_OUTPUT;
        for step in record.steps.iter().filter(|step| !step.output.is_empty()) {
            let (most_head, most_tail) = if left >= OUTPUT.0 + OUTPUT.1 { OUTPUT } else { FEW };
            let (head, left_out, tail) = output_of(&mut log, &step.output, most_head, most_tail)?;
            left = left.saturating_sub((head.len() + tail.len()) as u64);
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            output.push(StepOutput { number: step.number, head: text(head), left_out, tail: text(tail) });
        }
    }
    Ok(report_page(&ReportPage {
        record: &record,
        started: began.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        output,
        log: build.log.display().to_string(),
    }))
}

/// Writes a page whole or not at all; `mode` is the file's, less the umask.
pub fn write(path: &Path, page: &str, mode: u32) -> Result<(), CommandError> {
    let failed = |source| ArchiveError::WriteFile { path: path.to_owned(), source };
    Ok(write_whole(path, mode, false, |mut file| file.write_all(page.as_bytes()).map_err(failed))?)
}
