//! `--memory`, `--cpus`, `--pids-limit`, `--ulimit`, `--shm-size` and the like.

use clap::Args;

use crate::cli::error::{CommandError, chain};
use crate::cli::resources::set;
use crate::container::options::Resources;
use crate::sandbox::size::parse_bytes;
use crate::sandbox::{CgroupLimits, Limit};

/// The least memory that docker lets a container have.
const LEAST_MEMORY: i64 = 6 << 20;
/// The period that `--cpus` is counted in, in microseconds.
const PERIOD: u64 = 100_000;

/// The options.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// How much memory the container may use
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,
    /// How much memory and swap together; -1 is no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// How many processors' time it may use, as in 1.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,
    /// The period of the CPU limit, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<String>,
    /// How much CPU time it may use in each period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<String>,
    /// The weight of its CPU time, relative to 1024
    #[arg(short, long, value_name = "SHARES")]
    cpu_shares: Option<String>,
    /// The CPUs it may use, as in 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// The memory nodes it may use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// How many processes it may have; -1 is no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// The control group to make its own in
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
    /// The size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,
    /// A resource limit of processes, as in nofile=1024:2048
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    ulimits: Vec<String>,
    /// Has no effect: the kernel ends what has no memory left
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    oom_kill_disable: Option<bool>,
}

impl LimitArgs {
    /// Reads them.
    pub fn read(&self, notes: &mut Vec<String>) -> Result<Resources, CommandError> {
        let ulimits = self.ulimits.iter().map(|text| Limit::parse(text)).collect::<Result<_, _>>();
        let shm_size = self.shm_size.as_ref().map(|text| parse_bytes(text)).transpose();
        let shm_size = shm_size.map_err(|error| CommandError::usage(format!("--shm-size: {error}")))?;
        if self.oom_kill_disable == Some(true) {
            notes.push(
                "note: --oom-kill-disable has no effect: control groups of version 2 have no such thing, and a container \
                 that waits for memory for ever is of no use"
                    .to_owned(),
            );
        }
        Ok(Resources {
            cgroup: self.cgroup()?,
            ulimits: ulimits.map_err(|error| CommandError::usage(chain(&error)))?,
            shm_size: shm_size.filter(|size| *size > 0),
        })
    }

    fn cgroup(&self) -> Result<Option<CgroupLimits>, CommandError> {
        let mut limits = CgroupLimits { parent: self.cgroup_parent.clone(), ..CgroupLimits::default() };
        for (name, value) in [
            ("memory", &self.memory),
            ("memory-swap", &self.memory_swap),
            ("cpu-period", &self.cpu_period),
            ("cpu-quota", &self.cpu_quota),
            ("cpu-shares", &self.cpu_shares),
            ("cpuset-cpus", &self.cpuset_cpus),
            ("cpuset-mems", &self.cpuset_mems),
        ] {
            if let Some(value) = value {
                set(&mut limits, &format!("--{name}"), name, value)?;
            }
        }
        if let Some(text) = &self.cpus {
            for (given, what) in [(&self.cpu_period, "CPU Period"), (&self.cpu_quota, "CPU Quota")] {
                if given.is_some() {
                    return Err(CommandError::usage(format!(
                        "Conflicting options: Nano CPUs and {what} cannot both be set."
                    )));
                }
            }
            let available = std::thread::available_parallelism().map_or(1, usize::from);
            limits.cpu_period = Some(PERIOD);
            limits.cpu_quota = Some(quota(text, available)?);
        }
        // 0 is docker's word for no limit, too.
        limits.pids = self.pids_limit.filter(|&most| most != 0);
        if limits.memory.is_some_and(|memory| memory > 0 && memory < LEAST_MEMORY) {
            return Err(CommandError::usage("Minimum memory limit allowed is 6MB"));
        }
        limits.check().map_err(|error| CommandError::usage(error.to_string()))?;
        Ok((limits != CgroupLimits::default()).then_some(limits))
    }
}

/// Reads a number of processors; returns the quota of one period.
fn quota(text: &str, available: usize) -> Result<i64, CommandError> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number = text.parse::<f64>().ok().filter(|number| plain && number.is_finite());
    let number = number.ok_or_else(|| {
        CommandError::usage(format!("failed to parse {text} as a rational number (--cpus)"))
    })?;
    if number < 0.01 || number > available as f64 {
        return Err(CommandError::usage(format!(
            "Range of CPUs is from 0.01 to {available}.00, as there are only {available} CPUs available"
        )));
    }
    Ok((number * PERIOD as f64).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors() {
        let check = |text: &str, expect: i64| assert_eq!(quota(text, 2).ok(), Some(expect), "{text}");
        check("1", 100_000);
        check("1.5", 150_000);
        check(".5", 50_000);
        check("0.01", 1000);
        for bad in ["", "x", "-1", "0", "2.01", "inf", "1e1", "nan"] {
            assert!(quota(bad, 2).is_err(), "{bad}");
        }
    }
}
