//! The processes of a container, as the kernel tells of them: proc(5).
//!
//! Which they are only its supervisor can tell where it is an ordinary user's; what they are, everybody.
//! Not here: how they are listed (`cli`).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use jiff::Timestamp;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    /// The effective one, in ids of the caller.
    pub uid: u32,
    pub started: Timestamp,
    /// What it used of processors.
    pub used: Duration,
    /// `pts/0`; `None` without a terminal.
    pub terminal: Option<String>,
    /// With its arguments; in brackets the bare name of one that has none.
    pub command: String,
}

/// What `/proc/PID/stat` says, as far as it is of interest.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    parent: u32,
    terminal: u32,
    /// Ticks on processors, and from the start of the machine to that of the process.
    used: u64,
    /// Of those children that it has waited for.
    children: u64,
    started: u64,
}

/// Returns the numbers of the processes in the process namespace of `first` and beneath, in order.
///
/// Where `first` has none of its own: itself and its descendants.
pub fn of(first: u32) -> io::Result<Vec<u32>> {
    let namespace = |pid: &str| fs::metadata(format!("/proc/{pid}/ns/pid")).map(|is| (is.dev(), is.ino()));
    let wanted = namespace(&first.to_string())?;
    let shared = namespace("self")? == wanted;
    let mut all = Vec::new();
    let mut members = BTreeSet::from([first]);
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // One that has ended meanwhile is none.
        let Some(stat) = stat(pid) else { continue };
        all.push((pid, stat.parent));
        if !shared && namespace(&pid.to_string()).is_ok_and(|is| is == wanted) {
            members.insert(pid);
        }
    }
    // Those in a namespace that one of them made.
    loop {
        let before = members.len();
        for (pid, parent) in &all {
            if members.contains(parent) {
                members.insert(*pid);
            }
        }
        if members.len() == before {
            return Ok(members.into_iter().collect());
        }
    }
}

/// Tells what a process and those children that it has waited for used of processors; `None` where it is gone.
pub fn used(pid: u32) -> Option<Duration> {
    let stat = stat(pid)?;
    Some(time(stat.used.saturating_add(stat.children)))
}

/// Tells what a process is; `None` where it is gone.
pub fn describe(pid: u32) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let uid =
        status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?.parse().ok()?;
    let stat = stat(pid)?;
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let began: i64 = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let began = Timestamp::from_second(began).ok()?;
    let cmdline = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = cmdline.strip_suffix(b"\0").unwrap_or(&cmdline);
    let command = match words.is_empty() {
        true => format!("[{}]", stat.name),
        false => String::from_utf8_lossy(words).replace('\0', " "),
    };
    Some(Process {
        pid,
        parent: stat.parent,
        uid,
        started: began.checked_add(time(stat.started)).ok()?,
        used: time(stat.used),
        terminal: terminal(stat.terminal),
        command,
    })
}

/// How many milliseconds a tick has: the kernel's USER_HZ is 100 on all processors known here.
const TICK_MS: u64 = 10;

fn time(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(TICK_MS))
}

fn stat(pid: u32) -> Option<Stat> {
    parse(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?))
}

/// Reads the line: the name may hold anything, blanks and parentheses too.
fn parse(text: &str) -> Option<Stat> {
    let (before, after) = text.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    // From the third on.
    let fields: Vec<&str> = after.split_whitespace().collect();
    let number = |at: usize| fields.get(at - 3)?.parse::<u64>().ok();
    Some(Stat {
        name,
        parent: u32::try_from(number(4)?).ok()?,
        // Negative where the number is large.
        terminal: fields.get(7 - 3)?.parse::<i64>().ok()? as u32,
        used: number(14)?.saturating_add(number(15)?),
        children: number(16)?.saturating_add(number(17)?),
        started: number(22)?,
    })
}

/// Names a terminal by its device number.
fn terminal(number: u32) -> Option<String> {
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00));
    match major {
        // The kernel's devices.txt.
        4 if minor < 64 => Some(format!("tty{minor}")),
        4 => Some(format!("ttyS{}", minor - 64)),
        136..=143 => Some(format!("pts/{}", (major - 136) * 256 + minor)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whatever_the_name() {
        let line = "77 (a) (b c) S 5 77 77 34817 77 4194560 1 2 3 4 150 50 3 4 20 0 1 0 4200 1 2 3";
        let expect = Stat {
            name: "a) (b c".into(),
            parent: 5,
            terminal: 34817,
            used: 200,
            children: 7,
            started: 4200,
        };
        assert_eq!(parse(line), Some(expect));
        for bad in ["", "1 (x)", "1 (x) S", "1 x S 1 2 3"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn terminals_have_names() {
        for (number, expect) in
            [(0, None), (34816, Some("pts/0")), (34817, Some("pts/1")), (1025, Some("tty1"))]
        {
            assert_eq!(terminal(number).as_deref(), expect);
        }
    }

    #[test]
    fn our_own_is_found() {
        let own = std::process::id();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let found = of(own).unwrap();
        assert!(found.contains(&own) && found.contains(&child.id()) && !found.contains(&1));
        let process = describe(child.id()).unwrap();
        assert_eq!(process.parent, own);
        let age = Timestamp::now().duration_since(process.started);
        assert!(age.as_secs() < 100, "{age:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(describe(child.id()), None);
    }
}
