//! What the processes of a container use, as the kernel counts it for each: proc_pid_stat(5), proc_pid_io(5).
//!
//! Not from control groups: most containers have none of their own. Not here: rates, words (`cli`).

use std::fs;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::processes;

/// What a container uses; from its start, where it is not for now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Of its processes, and of those that they have waited for.
    pub processors: Duration,
    /// In bytes, now; what processes share counts once.
    pub memory: u64,
    /// In bytes, where it has a limit of its own that is in force.
    pub memory_limit: Option<u64>,
    /// Bytes received and sent by its network, without those to itself; `None` without one of its own.
    pub network: Option<(u64, u64)>,
    /// Bytes that its processes, those that run now, read from disks and wrote to them.
    pub disks: (u64, u64),
    pub processes: u64,
}

impl Usage {
    /// Adds up what the processes of the container use whose first this is.
    pub fn of(first: u32, own_network: bool) -> io::Result<Usage> {
        let pids = processes::of(first)?;
        let network = own_network.then(|| read(first, "net/dev")).flatten();
        let mut usage = Usage { network: network.map(|text| devices(&text)), ..Usage::default() };
        for pid in pids {
            // One that has ended meanwhile uses nothing; what it used its parent has.
            let Some(used) = processes::used(pid) else { continue };
            usage.processes += 1;
            usage.processors += used;
            let rollup = read(pid, "smaps_rollup").and_then(|text| kilobytes(&text, "Pss:"));
            let resident = || read(pid, "status").and_then(|text| kilobytes(&text, "VmRSS:"));
            usage.memory += rollup.or_else(resident).unwrap_or(0);
            if let Some(text) = read(pid, "io") {
                usage.disks.0 += number(&text, "read_bytes:").unwrap_or(0);
                usage.disks.1 += number(&text, "write_bytes:").unwrap_or(0);
            }
        }
        Ok(usage)
    }
}

fn read(pid: u32, file: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).ok()
}

fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    number(text, name).map(|count| count.saturating_mul(1024))
}

/// Adds up what devices but the loopback received and sent: proc_pid_net(5), `dev`.
fn devices(text: &str) -> (u64, u64) {
    let mut sum = (0, 0);
    for line in text.lines() {
        let Some((name, numbers)) = line.split_once(':') else { continue };
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        if let (false, Some(received), Some(sent)) = (name.trim() == "lo", numbers.first(), numbers.get(8)) {
            sum = (sum.0 + received, sum.1 + sent);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_added_up() {
        let text = "Inter-|   Receive     |  Transmit\n face |bytes    packets errs\n    \
                    lo: 77 1 0 0 0 0 0 0 77 1 0 0 0 0 0 0\n  tap0: 100 2 0 0 0 0 0 0 30 1 0 0 0 0 0 0\n  \
                    eth1:5 2 0 0 0 0 0 0 6 1 0 0 0 0 0 0\n";
        assert_eq!(devices(text), (105, 36));
        assert_eq!(devices("no such thing"), (0, 0));
    }

    #[test]
    fn numbers_are_found() {
        assert_eq!(kilobytes("Rss:  9 kB\nPss:    12 kB\n", "Pss:"), Some(12 << 10));
        assert_eq!(number("rchar: 1\nread_bytes: 4096\n", "read_bytes:"), Some(4096));
        assert_eq!(number("read_bytes: x\n", "read_bytes:"), None);
    }

    #[test]
    fn our_own_is_added_up() {
        let usage = Usage::of(std::process::id(), false).unwrap();
        assert!(usage.processes >= 1 && usage.memory > 100_000, "{usage:?}");
        assert_eq!(usage.network, None);
    }
}
