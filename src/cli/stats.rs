//! `rbuild stats`: what containers use of processors, memory, network and disks, again and again.
//!
//! Docker's table and fields. Not here: counting (`container::usage`).

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::containers::ask;
use super::error::CommandError;
use super::world::World;
use super::{rows, ui, units};
use crate::container::State;
use crate::container::control::{Connection, Reply, Request};
use crate::container::usage::Usage;
use crate::store::{KeptContainer, Store};

/// The time between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// The columns.
const COLUMNS: [(&str, &str); 8] = [
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

/// Show what containers use of processors, memory and the network.
#[derive(Debug, Args)]
#[command(after_help = "Fields: Container, ID, Name, CPUPerc, MemUsage, MemPerc, NetIO, BlockIO, PIDs\n\n\
    100 % is one processor. The limit is that of --memory, or what the machine has. Disks: of the processes that \
    run now.\n\n\
    Examples:\n  rbuild stats\n  rbuild stats --no-stream web db\n  \
    rbuild stats --no-stream --format '{{.Name}} {{.MemUsage}}'\n\n\
    See also: rbuild top, rbuild ps")]
pub struct StatsArgs {
    /// Show all containers, not only those that run
    #[arg(short, long)]
    pub all: bool,
    /// Print through a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Print once, and end
    #[arg(long)]
    pub no_stream: bool,
    /// Show whole ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Names or ids; all that run without any
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// A container, and what it used at a time.
struct Look {
    kept: KeptContainer,
    /// What the user called it.
    called: String,
    at: Instant,
    usage: Option<Usage>,
}

/// Prints what containers use, for as long as the user wants.
pub fn stats(world: &World, args: StatsArgs) -> Result<(), CommandError> {
    let store = world.open_store()?;
    let machine = machine_memory();
    let mut before = look(&store, &args)?;
    let mut first = true;
    loop {
        // What is used of processors is known only of a time.
        if before.iter().any(|look| look.usage.is_some()) || !args.no_stream {
            std::thread::sleep(PAUSE);
        }
        let now = look(&store, &args)?;
        let rows: Vec<Value> = now.iter().map(|look| row(look, &before, machine, args.no_trunc)).collect();
        let moves = ui::out_is_terminal() && !args.no_stream;
        if moves {
            ui::out(if first { "\x1b[2J\x1b[H" } else { "\x1b[H\x1b[J" });
        }
        rows::print(&rows, args.format.as_deref(), &COLUMNS)?;
        if args.no_stream || ui::lost().is_some() {
            return Ok(());
        }
        (before, first) = (now, false);
    }
}

fn look(store: &Store, args: &StatsArgs) -> Result<Vec<Look>, CommandError> {
    let mut looks = Vec::new();
    if args.containers.is_empty() {
        for seen in super::look::all(store)? {
            if args.all || seen.state.is_alive() {
                let called = seen.kept.id.short().to_owned();
                looks.push(one(store, seen.kept, called)?);
            }
        }
        return Ok(looks);
    }
    for name in &args.containers {
        looks.push(one(store, store.find_container(name)?, name.clone())?);
    }
    Ok(looks)
}

fn one(store: &Store, kept: KeptContainer, called: String) -> Result<Look, CommandError> {
    let mut usage = None;
    if State::of(store, &kept.id)?.is_alive()
        && let Some(connection) = Connection::open(&store.container_dir(&kept.id))?
        // One that ends meanwhile uses nothing.
        && let Ok(Some(Reply::Usage(used))) = ask(&connection, &Request::Usage)
    {
        usage = Some(used);
    }
    Ok(Look { kept, called, at: Instant::now(), usage })
}

fn row(look: &Look, before: &[Look], machine: u64, whole: bool) -> Value {
    let earlier = before.iter().find(|earlier| earlier.kept.id == look.kept.id);
    let busy = match (&look.usage, earlier.map(|earlier| (&earlier.usage, earlier.at))) {
        (Some(now), Some((Some(then), at))) => {
            let used = now.processors.saturating_sub(then.processors);
            used.as_secs_f64() * 100.0 / look.at.duration_since(at).as_secs_f64().max(0.001)
        }
        _ => 0.0,
    };
    let usage = look.usage.clone().unwrap_or_default();
    let limit = match look.usage {
        Some(_) => usage.memory_limit.unwrap_or(machine).min(machine),
        None => 0,
    };
    let part = if limit == 0 { 0.0 } else { usage.memory as f64 * 100.0 / limit as f64 };
    let both = |(to, from): (u64, u64)| format!("{} / {}", units::size(to), units::size(from));
    json!({
        "Container": look.called,
        "ID": if whole { look.kept.id.as_str() } else { look.kept.id.short() },
        "Name": look.kept.name,
        "CPUPerc": format!("{busy:.2}%"),
        "MemUsage": format!("{} / {}", binary(usage.memory), binary(limit)),
        "MemPerc": format!("{part:.2}%"),
        "NetIO": both(usage.network.unwrap_or_default()),
        "BlockIO": both(usage.disks),
        "PIDs": usage.processes.to_string(),
    })
}

/// Returns the memory of this machine in bytes; 0 where it does not tell.
fn machine_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let count: Option<u64> = line.split_whitespace().next().and_then(|word| word.parse().ok());
    count.unwrap_or(0).saturating_mul(1024)
}

/// Writes bytes in powers of 1024 with four digits, as docker does here: `1.945GiB`, `604KiB`, `0B`.
fn binary(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    let digits = if value >= 999.5 {
        0
    } else if value >= 99.95 {
        1
    } else if value >= 9.995 {
        2
    } else {
        3
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_docker_has_them() {
        let check = |bytes: u64, expect: &str| assert_eq!(binary(bytes), expect);
        check(0, "0B");
        check(1023, "1023B");
        check(1024, "1KiB");
        check(604 << 10, "604KiB");
        check(1536 << 10, "1.5MiB");
        check(2_088_338_227, "1.945GiB");
        check(12_345_678, "11.77MiB");
        check(123_456_789, "117.7MiB");
        check(u64::MAX, "16EiB");
    }
}
