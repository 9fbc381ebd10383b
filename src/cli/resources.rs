//! Options of `build` that say what RUN steps may use and do: limits, names of hosts, rights.
//!
//! The words are docker's. None of them is in a cache key, save the names of `--add-host`. Not here:
//! secrets and agents (`step_inputs`), putting limits in force (`sandbox`).

use std::net::IpAddr;
use std::path::Path;

use clap::Args;

use super::error::CommandError;
use crate::build::StepOptions;
use crate::plan::Entitlements;
use crate::sandbox::network::host_address;
use crate::sandbox::size::{parse_bytes, parse_bytes_or_unlimited};
use crate::sandbox::{CgroupLimits, DEFAULT_CAPABILITIES, Limit, SecurityOptions};

/// What a Dockerfile may ask for: shared with `graph`.
#[derive(Debug, Default, Args)]
pub struct ConsentArgs {
    /// Let RUN steps have what they ask for: network.host, security.insecure; let an output delete files
    /// outside of the working directory: buildx.local.delete
    #[arg(long, value_name = "RIGHT,...", value_delimiter = ',')]
    pub allow: Vec<String>,
    /// Put a name and its address in the /etc/hosts of RUN steps; `host-gateway` is this machine
    #[arg(long = "add-host", value_name = "NAME=ADDRESS")]
    pub hosts: Vec<String>,
}

/// What RUN steps may use.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Limits of RUN steps")]
pub struct ResourceArgs {
    /// The size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<String>,
    /// A resource limit of processes, as in nofile=1024:2048
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub ulimits: Vec<String>,
    /// How much memory a step may use
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// How much memory and swap together; -1 is no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// The period of the CPU limit, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_period: Option<String>,
    /// How much CPU time a step may use in each period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub cpu_quota: Option<String>,
    /// The weight of a step's CPU time, relative to 1024
    #[arg(short, long, value_name = "SHARES")]
    pub cpu_shares: Option<String>,
    /// The CPUs a step may use, as in 0-2,7
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// The memory nodes a step may use
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// The control group to make those of the steps in
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// One of these limits by its name: memory, memswap, cpu-period, cpu-quota, cpu-shares, cpuset-cpus,
    /// cpuset-mems
    #[arg(long = "resource", value_name = "NAME=VALUE")]
    pub resources: Vec<String>,
    /// A security option: seccomp=FILE|unconfined|builtin, no-new-privileges, apparmor=PROFILE, label=disable,
    /// systempaths=unconfined
    #[arg(long = "security-opt", value_name = "OPTION")]
    pub security: Vec<String>,
}

/// The rights there are.
const RIGHTS: &str = "network.host, security.insecure, buildx.local.delete";

/// The right that lets an output delete files anywhere; `outputs` looks for it.
pub const LOCAL_DELETE: &str = "buildx.local.delete";

impl ConsentArgs {
    /// Reads `--allow`.
    pub fn entitlements(&self) -> Result<Entitlements, CommandError> {
        let mut entitlements = Entitlements::default();
        for right in &self.allow {
            match right.trim() {
                "network.host" => entitlements.network_host = true,
                "security.insecure" => entitlements.security_insecure = true,
                LOCAL_DELETE => {}
                other => {
                    return Err(CommandError::usage(format!("invalid --allow `{other}`"))
                        .hint(format!("the rights that can be given are {RIGHTS}")));
                }
            }
        }
        Ok(entitlements)
    }

    /// Reads `--add-host`: names with their addresses.
    pub fn extra_hosts(&self) -> Result<Vec<(String, String)>, CommandError> {
        self.hosts.iter().map(|text| parse_host(text, &host_address)).collect()
    }
}

fn parse_host(text: &str, own: &dyn Fn() -> Option<IpAddr>) -> Result<(String, String), CommandError> {
    let bad = |why: &str| {
        CommandError::usage(format!("invalid --add-host `{text}`: {why}"))
            .hint("a host is written NAME=ADDRESS, as in `--add-host db=10.0.0.5`")
    };
    let (name, address) =
        text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(|| bad("it has no address"))?;
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(bad("its name is none"));
    }
    if address == "host-gateway" {
        let own = own().ok_or_else(|| {
            bad("this machine has no address that steps could reach it by").hint("write the address itself")
        })?;
        return Ok((name.to_owned(), own.to_string()));
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    let address: IpAddr = bare.parse().map_err(|_| bad(&format!("`{address}` is no IP address")))?;
    Ok((name.to_owned(), address.to_string()))
}

impl ResourceArgs {
    /// Puts the limits and rights into the options of steps; returns what has no effect here.
    pub fn apply(&self, step: &mut StepOptions) -> Result<Vec<String>, CommandError> {
        let usage = |error: &dyn std::error::Error| CommandError::usage(super::error::chain(error));
        if let Some(text) = &self.shm_size {
            let size = parse_bytes(text).map_err(|e| CommandError::usage(format!("--shm-size: {e}")))?;
            step.shm_size = (size > 0).then_some(size);
        }
        step.limits = self
            .ulimits
            .iter()
            .map(|text| Limit::parse(text))
            .collect::<Result<_, _>>()
            .map_err(|e| usage(&e))?;
        step.cgroup = self.cgroup()?;
        let (security, notes) =
            SecurityOptions::parse(&self.security, DEFAULT_CAPABILITIES, |file: &Path| std::fs::read(file))
                .map_err(|e| usage(&e))?;
        step.security = security;
        Ok(notes.iter().map(|note| format!("warning: {note}")).collect())
    }

    fn cgroup(&self) -> Result<Option<CgroupLimits>, CommandError> {
        let mut limits = CgroupLimits { parent: self.cgroup_parent.clone(), ..CgroupLimits::default() };
        let options = [
            ("memory", &self.memory),
            ("memory-swap", &self.memory_swap),
            ("cpu-period", &self.cpu_period),
            ("cpu-quota", &self.cpu_quota),
            ("cpu-shares", &self.cpu_shares),
            ("cpuset-cpus", &self.cpuset_cpus),
            ("cpuset-mems", &self.cpuset_mems),
        ];
        // The list first: an option of its own is the plainer word.
        for text in &self.resources {
            let (name, value) = text.split_once('=').ok_or_else(|| {
                CommandError::usage(format!("invalid --resource `{text}`: it has no value"))
                    .hint("a resource is written NAME=VALUE, as in `--resource memory=512m`")
            })?;
            let name = if name == "memswap" { "memory-swap" } else { name };
            if !options.iter().any(|(known, _)| *known == name) {
                return Err(CommandError::usage(format!("invalid --resource `{text}`: there is no `{name}`")).hint(
                    "there are memory, memswap, cpu-period, cpu-quota, cpu-shares, cpuset-cpus and cpuset-mems",
                ));
            }
            set(&mut limits, "--resource", name, value)?;
        }
        for (name, value) in options {
            if let Some(value) = value {
                set(&mut limits, &format!("--{name}"), name, value)?;
            }
        }
        limits.check().map_err(|error| CommandError::usage(error.to_string()))?;
        Ok((limits != CgroupLimits::default()).then_some(limits))
    }
}

/// Sets the limit of this name; `option` is what the user typed, for errors.
pub(super) fn set(
    limits: &mut CgroupLimits,
    option: &str,
    name: &str,
    value: &str,
) -> Result<(), CommandError> {
    let bad = |why: String| CommandError::usage(format!("invalid {option} `{value}`: {why}"));
    let number = || value.parse::<u64>().map_err(|_| bad("a number is expected".to_owned()));
    let size = |text| parse_bytes(text).map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    match name {
        "memory" => limits.memory = Some(size(value).map_err(|e| bad(e.to_string()))?),
        "memory-swap" => {
            limits.memory_swap = Some(parse_bytes_or_unlimited(value).map_err(|e| bad(e.to_string()))?);
        }
        "cpu-period" => limits.cpu_period = Some(number()?),
        "cpu-quota" => {
            let quota = value.parse::<i64>().map_err(|_| bad("a number is expected".to_owned()))?;
            limits.cpu_quota = Some(quota);
        }
        "cpu-shares" => limits.cpu_shares = Some(number()?),
        "cpuset-cpus" => limits.cpuset_cpus = Some(list(value).ok_or_else(|| bad(LIST.to_owned()))?),
        _ => limits.cpuset_mems = Some(list(value).ok_or_else(|| bad(LIST.to_owned()))?),
    }
    Ok(())
}

const LIST: &str = "a list such as `0-2,7` is expected";

/// Returns a list of numbers and ranges as the kernel takes it: cpuset(7), "List format".
fn list(text: &str) -> Option<String> {
    let number = |text: &str| text.parse::<u32>().ok();
    let good = text.split(',').all(|part| match part.split_once('-') {
        Some((from, to)) => number(from).zip(number(to)).is_some_and(|(from, to)| from <= to),
        None => number(part).is_some(),
    });
    good.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Result<(String, String), String> {
        let own = || Some(IpAddr::from([198, 51, 100, 7]));
        parse_host(text, &own).map_err(|error| error.text())
    }

    #[test]
    fn hosts() {
        let check = |text: &str, name: &str, address: &str| {
            assert_eq!(host(text), Ok((name.to_owned(), address.to_owned())), "{text}");
        };
        check("db=10.0.0.5", "db", "10.0.0.5");
        check("db:10.0.0.5", "db", "10.0.0.5");
        check("db=::1", "db", "::1");
        check("db=[fe80::1]", "db", "fe80::1");
        check("db:::1", "db", "::1");
        check("gw=host-gateway", "gw", "198.51.100.7");
        for bad in ["", "db", "db=", "db=x", "=1.2.3.4", "a b=1.2.3.4", "a\nb=1.2.3.4", "db=1.2.3.4\n::1 x"] {
            assert!(host(bad).unwrap_err().contains("--add-host"), "{bad}");
        }
        let none = parse_host("gw=host-gateway", &|| None).unwrap_err();
        assert!(none.text().contains("no address that steps could reach"), "{}", none.text());
    }

    #[test]
    fn rights() {
        let read = |allow: &[&str]| {
            let allow = allow.iter().map(|&a| a.to_owned()).collect();
            ConsentArgs { allow, hosts: Vec::new() }.entitlements()
        };
        assert_eq!(read(&[]).unwrap(), Entitlements::default());
        let both = read(&["network.host", "security.insecure"]).unwrap();
        assert!(both.network_host && both.security_insecure);
        let error = read(&["security"]).unwrap_err().text();
        assert!(error.contains("invalid --allow `security`") && error.contains(RIGHTS), "{error}");
    }

    fn limits(change: impl FnOnce(&mut ResourceArgs)) -> Result<Option<CgroupLimits>, String> {
        let mut args = ResourceArgs::default();
        change(&mut args);
        args.cgroup().map_err(|error| error.text())
    }

    #[test]
    fn limits_of_memory_and_processors() {
        assert_eq!(limits(|_| ()), Ok(None));
        let found = limits(|args| {
            args.memory = Some("64m".into());
            args.memory_swap = Some("-1".into());
            args.resources = ["memory=1g", "cpu-quota=50000", "cpuset-cpus=0,2-3", "cpu-shares=512"]
                .map(String::from)
                .into();
        });
        let found = found.unwrap().unwrap();
        assert_eq!((found.memory, found.memory_swap), (Some(64 << 20), Some(-1)));
        assert_eq!((found.cpu_quota, found.cpu_shares), (Some(50000), Some(512)));
        assert_eq!(found.cpuset_cpus.as_deref(), Some("0,2-3"));
        let swap = limits(|args| args.resources = vec!["memory=1k".into(), "memswap=2k".into()]);
        assert_eq!(swap.unwrap().unwrap().memory_swap, Some(2048));
        let check = |resource: &str, expect: &str| {
            let error = limits(|args| args.resources = vec![resource.to_owned()]).unwrap_err();
            assert!(error.contains(expect), "{resource}: {error}");
        };
        check("memory", "it has no value");
        check("memory=x", "invalid size");
        check("cpu=1", "there is no `cpu`");
        check("cpu-period=-1", "a number is expected");
        check("cpuset-cpus=2-1", "a list such as");
        check("cpuset-mems=a", "a list such as");
        check("memswap=1g", "needs a memory limit too");
    }
}
