//! What is written where for a set of limits, in both versions of control groups. Pure.
//!
//! Sources: the kernel's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst, and docs.docker.com
//! for what the options mean. Not here: finding and making the groups (`places`, the parent).

use super::CgroupLimits;

/// A part of the kernel that limits one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Cpu,
    Cpuset,
    Memory,
    Pids,
}

impl Controller {
    pub const ALL: [Controller; 4] =
        [Controller::Cpu, Controller::Cpuset, Controller::Memory, Controller::Pids];

    pub fn name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Cpuset => "cpuset",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
        }
    }
}

/// One file of a group and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub controller: Controller,
    pub file: &'static str,
    pub content: String,
    /// The wish behind it, for people; `None` for one that nobody asked for: its failure is not told.
    pub wish: Option<&'static str>,
}

/// Says what `value` means where -1 is no limit.
fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// What memory and swap together may be: twice the memory where nothing was said.
fn memory_and_swap(limits: &CgroupLimits) -> Option<(i64, Option<&'static str>)> {
    let asked = limits.memory_swap.filter(|&swap| swap != 0).map(|swap| (swap, Some("the swap limit")));
    let memory = limits.memory.filter(|&memory| memory > 0);
    asked.or_else(|| memory.map(|memory| (memory.saturating_mul(2), None)))
}

/// The files of version 1, in the order they must be written.
pub(super) fn v1(limits: &CgroupLimits) -> Vec<Write> {
    let mut writes = Vec::new();
    let mut push = |controller, file, content: Option<String>, wish| {
        writes.extend(content.map(|content| Write { controller, file, content, wish }));
    };
    use Controller::{Cpu, Cpuset, Memory, Pids};
    let text = |value: Option<i64>| value.filter(|&value| value != 0).map(|value| value.to_string());
    push(Memory, "memory.limit_in_bytes", text(limits.memory), Some("the memory limit"));
    if let Some((total, wish)) = memory_and_swap(limits) {
        push(Memory, "memory.memsw.limit_in_bytes", Some(total.to_string()), wish);
    }
    push(Cpu, "cpu.shares", shares(limits).map(|s| s.to_string()), Some("the share of CPU time"));
    let period = limits.cpu_period.filter(|&period| period != 0).map(|period| period.to_string());
    push(Cpu, "cpu.cfs_period_us", period, Some("the CPU period"));
    push(Cpu, "cpu.cfs_quota_us", text(limits.cpu_quota), Some("the CPU quota"));
    push(Cpuset, "cpuset.cpus", limits.cpuset_cpus.clone(), Some("the set of CPUs"));
    push(Cpuset, "cpuset.mems", limits.cpuset_mems.clone(), Some("the set of memory nodes"));
    let pids = limits.pids.filter(|&pids| pids != 0);
    push(Pids, "pids.max", pids.map(or_max), Some("the limit of processes"));
    writes
}

/// The files of version 2, in the order they must be written.
pub(super) fn v2(limits: &CgroupLimits) -> Vec<Write> {
    let mut writes = Vec::new();
    let mut push = |controller, file, content: Option<String>, wish| {
        writes.extend(content.map(|content| Write { controller, file, content, wish }));
    };
    use Controller::{Cpu, Cpuset, Memory, Pids};
    let memory = limits.memory.filter(|&memory| memory != 0);
    push(Memory, "memory.max", memory.map(or_max), Some("the memory limit"));
    if let Some((total, wish)) = memory_and_swap(limits) {
        // Here swap is counted alone.
        let swap = if total < 0 { total } else { total.saturating_sub(memory.unwrap_or(0).max(0)) };
        push(Memory, "memory.swap.max", Some(or_max(swap)), wish);
    }
    push(Cpu, "cpu.weight", shares(limits).map(|s| weight(s).to_string()), Some("the share of CPU time"));
    let (quota, period) = (limits.cpu_quota.unwrap_or(0), limits.cpu_period.unwrap_or(0));
    if quota != 0 || period != 0 {
        let quota = if quota > 0 { quota.to_string() } else { "max".to_owned() };
        let content = if period != 0 { format!("{quota} {period}") } else { quota };
        push(Cpu, "cpu.max", Some(content), Some("the CPU quota"));
    }
    push(Cpuset, "cpuset.cpus", limits.cpuset_cpus.clone(), Some("the set of CPUs"));
    push(Cpuset, "cpuset.mems", limits.cpuset_mems.clone(), Some("the set of memory nodes"));
    let pids = limits.pids.filter(|&pids| pids != 0);
    push(Pids, "pids.max", pids.map(or_max), Some("the limit of processes"));
    writes
}

fn shares(limits: &CgroupLimits) -> Option<u64> {
    limits.cpu_shares.filter(|&shares| shares != 0)
}

/// Turns shares (2 to 262144, 1024 by default) into a weight (1 to 10000, 100 by default).
///
/// The curve through these three points that runc, crun and youki agreed on.
fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(writes: Vec<Write>) -> Vec<String> {
        writes.into_iter().map(|write| format!("{}={}", write.file, write.content)).collect()
    }

    #[track_caller]
    fn check(limits: CgroupLimits, v1_expect: &[&str], v2_expect: &[&str]) {
        assert_eq!(texts(v1(&limits)), v1_expect);
        assert_eq!(texts(v2(&limits)), v2_expect);
    }

    fn none() -> CgroupLimits {
        CgroupLimits::default()
    }

    #[test]
    fn memory() {
        check(none(), &[], &[]);
        check(
            CgroupLimits { memory: Some(1000), ..none() },
            &["memory.limit_in_bytes=1000", "memory.memsw.limit_in_bytes=2000"],
            &["memory.max=1000", "memory.swap.max=1000"],
        );
        check(
            CgroupLimits { memory: Some(1000), memory_swap: Some(-1), ..none() },
            &["memory.limit_in_bytes=1000", "memory.memsw.limit_in_bytes=-1"],
            &["memory.max=1000", "memory.swap.max=max"],
        );
        check(
            CgroupLimits { memory: Some(1000), memory_swap: Some(1000), ..none() },
            &["memory.limit_in_bytes=1000", "memory.memsw.limit_in_bytes=1000"],
            &["memory.max=1000", "memory.swap.max=0"],
        );
        let implied = &v1(&CgroupLimits { memory: Some(1000), ..none() })[1];
        assert_eq!(implied.wish, None);
    }

    #[test]
    fn processors_and_processes() {
        check(
            CgroupLimits {
                cpu_shares: Some(512),
                cpu_period: Some(50_000),
                cpu_quota: Some(25_000),
                ..none()
            },
            &["cpu.shares=512", "cpu.cfs_period_us=50000", "cpu.cfs_quota_us=25000"],
            &["cpu.weight=59", "cpu.max=25000 50000"],
        );
        check(
            CgroupLimits { cpu_quota: Some(25_000), ..none() },
            &["cpu.cfs_quota_us=25000"],
            &["cpu.max=25000"],
        );
        check(
            CgroupLimits { cpu_period: Some(25_000), ..none() },
            &["cpu.cfs_period_us=25000"],
            &["cpu.max=max 25000"],
        );
        check(
            CgroupLimits {
                cpuset_cpus: Some("0-1".into()),
                cpuset_mems: Some("0".into()),
                pids: Some(-1),
                ..none()
            },
            &["cpuset.cpus=0-1", "cpuset.mems=0", "pids.max=max"],
            &["cpuset.cpus=0-1", "cpuset.mems=0", "pids.max=max"],
        );
    }

    #[test]
    fn shares_become_weights() {
        for (shares, expect) in [(1, 1), (2, 1), (1024, 100), (262_144, 10_000), (1 << 40, 10_000)] {
            assert_eq!(weight(shares), expect, "{shares}");
        }
        let all: Vec<u64> = (2..=262_144).step_by(97).map(weight).collect();
        assert!(all.is_sorted() && all.iter().all(|weight| (1..=10_000).contains(weight)));
    }
}
