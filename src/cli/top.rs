//! `rbuild top`: the processes of a container.
//!
//! Docker's table, which is that of `ps -ef`; with options of its own, ps itself is asked.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::containers::connect;
use super::error::CommandError;
use super::world::World;
use super::{table, ui};
use crate::container::control::{Reply, Request};
use crate::container::processes::{Process, describe};
use crate::report::clean::clean_text;

/// The columns, as `ps -ef` has them.
const TITLES: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];

/// Show the processes of a container that runs.
#[derive(Debug, Args)]
#[command(
    override_usage = "rbuild top CONTAINER [PS OPTIONS]",
    after_help = "Examples:\n  rbuild top web\n  rbuild top web -eo pid,rss,args\n\n\
    Numbers are those of this machine. With options, the machine's own `ps` is asked; it must show the column\n\
    PID.\n\n\
    See also: rbuild exec, rbuild attach"
)]
pub struct TopArgs {
    /// A name or an id; then options of ps
    #[arg(value_name = "CONTAINER", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub container_and_options: Vec<String>,
}

/// Prints the table.
pub fn top(world: &World, args: TopArgs) -> Result<(), CommandError> {
    let Some((container, options)) = args.container_and_options.split_first() else {
        return Err(CommandError::usage("a container is needed"));
    };
    let store = world.open_store()?;
    let kept = store.find_container(container)?;
    let connection = connect(&store, &kept)?;
    drop(store);
    connection.send(&Request::Processes, &[])?;
    let pids = match connection.receive::<Reply>()? {
        Some((Reply::Processes(pids), _)) => pids,
        _ => return Err(CommandError::new(format!("Container {} is not running", kept.id))),
    };
    let rows = match options {
        [] => own(&pids),
        [option] if option == "-ef" => own(&pids),
        options => asked(&pids, options)?,
    };
    ui::out(&table::wide(&rows));
    Ok(())
}

fn own(pids: &[u32]) -> Vec<Vec<String>> {
    let names = names();
    let now = Timestamp::now().to_zoned(TimeZone::system());
    let mut rows = vec![TITLES.map(str::to_owned).to_vec()];
    rows.extend(pids.iter().filter_map(|&pid| describe(pid)).map(|process| row(&process, &names, &now)));
    rows
}

fn row(process: &Process, names: &HashMap<u32, String>, now: &Zoned) -> Vec<String> {
    vec![
        names.get(&process.uid).cloned().unwrap_or_else(|| process.uid.to_string()),
        process.pid.to_string(),
        process.parent.to_string(),
        share(process, now.timestamp()).to_string(),
        started(&process.started.to_zoned(now.time_zone().clone()), now),
        process.terminal.clone().unwrap_or_else(|| "?".to_owned()),
        used(process.used),
        plain(&process.command),
    ]
}

/// Makes a cell of one line of what a process calls itself.
fn plain(text: &str) -> String {
    clean_text(text).replace(['\n', '\t'], " ")
}

/// What of its life it spent on processors, in percent.
fn share(process: &Process, now: Timestamp) -> u64 {
    let life = now.duration_since(process.started).as_secs().max(0).unsigned_abs();
    (process.used.as_secs() * 100).checked_div(life).unwrap_or(0).min(99)
}

/// The hour, or for what is older the day, or the year.
fn started(start: &Zoned, now: &Zoned) -> String {
    let format = match (start.date() == now.date(), start.year() == now.year()) {
        (true, _) => "%H:%M",
        (false, true) => "%b%d",
        (false, false) => "%Y",
    };
    start.strftime(format).to_string()
}

fn used(used: Duration) -> String {
    let seconds = used.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let rest = format!("{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    if days > 0 { format!("{days}-{rest}") } else { rest }
}

/// The names of this machine's users.
fn names() -> HashMap<u32, String> {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(uid))) = (fields.next(), fields.nth(1).map(str::parse)) {
            names.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    names
}

/// Asks ps, and leaves out all but the container's.
fn asked(pids: &[u32], options: &[String]) -> Result<Vec<Vec<String>>, CommandError> {
    let said = Command::new("ps").args(options).output().map_err(|error| {
        CommandError::new(format!("error running ps: {error}"))
            .hint("options of ps need the program ps (package procps); without options it is not needed")
    })?;
    if !said.status.success() {
        let why = String::from_utf8_lossy(&said.stderr);
        return Err(CommandError::new(format!("error running ps: {}", why.trim())));
    }
    filter(&String::from_utf8_lossy(&said.stdout), pids)
}

fn filter(text: &str, pids: &[u32]) -> Result<Vec<Vec<String>>, CommandError> {
    let mut lines = text.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let Some(at) = titles.iter().position(|title| title == "PID") else {
        return Err(CommandError::new("Couldn't find PID field in ps output"));
    };
    let last = titles.len() - 1;
    let mut rows = vec![titles];
    for line in lines {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let Some(Ok(pid)) = fields.get(at).map(|field| field.parse::<u32>()) else { continue };
        if pids.contains(&pid) {
            let mut row: Vec<String> = fields.iter().take(last).map(|&field| plain(field)).collect();
            row.push(plain(&fields[last.min(fields.len())..].join(" ")));
            rows.push(row);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_are_left() {
        let text = "  PID   RSS COMMAND\n    1  100 init\n   42  200 sleep 1000  x\n   43  - [z]\n";
        let rows = filter(text, &[42, 43]).unwrap();
        assert_eq!(rows, [["PID", "RSS", "COMMAND"], ["42", "200", "sleep 1000 x"], ["43", "-", "[z]"]]);
        assert_eq!(filter("RSS\n1\n", &[1]).unwrap_err().message, "Couldn't find PID field in ps output");
    }

    #[test]
    fn times_as_ps_has_them() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap().to_zoned(TimeZone::UTC);
        let now = at("2024-05-06T20:00:00Z");
        for (start, expect) in [
            ("2024-05-06T01:02:03Z", "01:02"),
            ("2024-05-05T23:59:00Z", "May05"),
            ("2023-12-31T00:00:00Z", "2023"),
        ] {
            assert_eq!(started(&at(start), &now), expect);
        }
        assert_eq!(used(Duration::from_secs(3_723)), "01:02:03");
        assert_eq!(used(Duration::from_secs(90_000)), "1-01:00:00");
        let process = Process {
            pid: 7,
            parent: 1,
            uid: 0,
            started: at("2024-05-06T19:58:20Z").timestamp(),
            used: Duration::from_secs(25),
            terminal: None,
            command: "a\x1bb".into(),
        };
        let row = row(&process, &HashMap::from([(0, "root".to_owned())]), &now);
        assert_eq!(row[..7], ["root", "7", "1", "25", "19:58", "?", "00:00:25"]);
        assert!(!row[7].contains('\x1b'));
    }
}
