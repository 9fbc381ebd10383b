//! Where control groups are: the hierarchies that are mounted, and the groups this process is in.
//!
//! Sources: cgroups(7), proc_pid_mountinfo(5). Not here: making groups (the parent).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::writes::Controller;

/// One hierarchy: where it is mounted, and the directory of the group this process is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub top: PathBuf,
    pub own: PathBuf,
}

/// The hierarchies of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hierarchies {
    /// Version 1, by the names of their controllers.
    pub old: BTreeMap<String, Hierarchy>,
    pub unified: Option<Hierarchy>,
}

impl Hierarchies {
    pub fn find() -> Hierarchies {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Hierarchies::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
    }

    /// Reads a `mountinfo` and a `cgroup` file of `/proc`.
    pub fn parse(mounts: &str, groups: &str) -> Hierarchies {
        let mut found = Hierarchies::default();
        for mount in mounts.lines().filter_map(Mount::parse) {
            for line in groups.lines() {
                let mut fields = line.splitn(3, ':').skip(1);
                let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
                let unified = controllers.is_empty();
                if unified != (mount.kind == "cgroup2") {
                    continue;
                }
                let Some(own) = below(mount.root, path) else { continue };
                let hierarchy = Hierarchy { top: mount.point.clone(), own: mount.point.join(own) };
                if unified {
                    found.unified.get_or_insert(hierarchy);
                    continue;
                }
                for controller in controllers.split(',') {
                    if mount.options.split(',').any(|option| option == controller) {
                        found.old.entry(controller.to_owned()).or_insert_with(|| hierarchy.clone());
                    }
                }
            }
        }
        found
    }

    /// Returns the hierarchy of version 1 that has a controller.
    pub fn old(&self, controller: Controller) -> Option<&Hierarchy> {
        self.old.get(controller.name())
    }
}

/// What is known of a mounted hierarchy.
struct Mount<'a> {
    root: &'a str,
    point: PathBuf,
    kind: &'a str,
    options: &'a str,
}

impl Mount<'_> {
    fn parse(line: &str) -> Option<Mount<'_>> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let kind = after.next()?;
        if kind != "cgroup" && kind != "cgroup2" {
            return None;
        }
        let options = after.nth(1).unwrap_or_default();
        // Blanks and the like are written as octal numbers; nobody mounts control groups there.
        (!point.contains('\\')).then(|| Mount { root, point: point.into(), kind, options })
    }
}

/// Returns the path of a group below the group that is mounted; `None` for one that is not below it.
fn below<'a>(root: &str, path: &'a str) -> Option<&'a Path> {
    let rest = Path::new(path).strip_prefix(root).ok()?;
    plain(rest).then_some(rest)
}

/// Tells whether a path has no `..`.
pub(super) fn plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::RootDir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found() {
        let mounts = "\
            20 1 0:18 / /sys rw - sysfs sysfs rw\n\
            21 20 0:20 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct\n\
            22 20 0:21 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            23 20 0:22 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
            24 20 0:23 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            25 20 0:24 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let groups = "4:memory:/docker/x/y\n3:pids:/../up\n2:cpu,cpuacct:/a\n1:name=systemd:/\n0::/u/v\n";
        let found = Hierarchies::parse(mounts, groups);
        let check = |controller, expect: Option<(&str, &str)>| {
            let expect = expect.map(|(top, own)| Hierarchy { top: top.into(), own: own.into() });
            assert_eq!(found.old(controller).cloned(), expect, "{controller:?}");
        };
        check(Controller::Cpu, Some(("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/a")));
        check(Controller::Memory, Some(("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/y")));
        check(Controller::Pids, None);
        check(Controller::Cpuset, None);
        let unified = found.unified.clone().unwrap();
        assert_eq!(unified.own, Path::new("/sys/fs/cgroup/unified/u/v"));
        assert_eq!(Hierarchies::parse("", ""), Hierarchies::default());
    }
}
