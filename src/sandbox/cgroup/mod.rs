//! Control groups of steps: what a step may use of memory, processors and processes.
//!
//! Each step with limits gets a group of its own, in every hierarchy that limits something
//! (version 1), in the unified one (version 2), or both, as machines have them. What cannot be
//! done here is a [`Note`] and no error. `writes` says what is written, `places` where the
//! groups are. Not here: joining a group (the child does, before anything else).

mod places;
mod writes;

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::places::{Hierarchies, Hierarchy};
use self::writes::{Controller, Write};
use super::note::Note;

/// What a step may use; `None` and 0 are no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupLimits {
    /// The group to make the step's own in, from the top of each hierarchy; made where it is
    /// missing. `None` is the group of this process, or above it where that one may have no other.
    pub parent: Option<String>,
    /// Bytes.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1 is no limit, `None` is twice the memory.
    pub memory_swap: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds in each period.
    pub cpu_quota: Option<i64>,
    /// Relative to 1024.
    pub cpu_shares: Option<u64>,
    /// `0-2,7`.
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// How many processes; -1 is no limit.
    pub pids: Option<i64>,
}

/// Limits that contradict themselves or that the kernel refuses.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("a limit of memory and swap needs a memory limit too")]
    SwapAlone,
    #[error(
        "the limit of memory and swap ({swap}) is below the memory limit ({memory}), which is part of it"
    )]
    SwapBelowMemory { memory: i64, swap: i64 },
    #[error("the parent control group `{0}` is no plain path")]
    Parent(String),
    #[error("the kernel refuses `{content}` for {wish} (`{file}`): {source}")]
    Refused { wish: &'static str, file: PathBuf, content: String, source: io::Error },
    #[error("cannot open `{file}`: {source}")]
    Open { file: PathBuf, source: io::Error },
}

/// The groups of one step. They are removed with this value, when nothing runs in them.
#[derive(Debug)]
pub struct Cgroup {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    path: PathBuf,
    unified: bool,
}

impl CgroupLimits {
    /// Checks what can be told without a machine; the rules are Docker's.
    pub fn check(&self) -> Result<(), CgroupError> {
        let memory = self.memory.filter(|&memory| memory != 0);
        let swap = self.memory_swap.filter(|&swap| swap != 0);
        match (memory, swap) {
            (None, Some(swap)) if swap > 0 => return Err(CgroupError::SwapAlone),
            (Some(memory), Some(swap)) if swap > 0 && swap < memory => {
                return Err(CgroupError::SwapBelowMemory { memory, swap });
            }
            _ => {}
        }
        match &self.parent {
            Some(parent) if !places::plain(Path::new(parent)) => Err(CgroupError::Parent(parent.clone())),
            _ => Ok(()),
        }
    }
}

impl Cgroup {
    /// Makes groups with these limits, and says what of them has no effect here.
    ///
    /// # Errors
    /// Limits that make no sense. That this machine or this user cannot have them is no error.
    pub fn create(limits: &CgroupLimits) -> Result<(Cgroup, Vec<Note>), CgroupError> {
        Cgroup::create_in(limits, &Hierarchies::find())
    }

    fn create_in(limits: &CgroupLimits, machine: &Hierarchies) -> Result<(Cgroup, Vec<Note>), CgroupError> {
        limits.check()?;
        let mut notes = Vec::new();
        let mut cgroup = Cgroup { groups: Vec::new() };
        let (old, new) = (writes::v1(limits), writes::v2(limits));
        let mut for_unified = Vec::new();
        for controller in Controller::ALL {
            let mut writes = old.iter().filter(|write| write.controller == controller).peekable();
            if writes.peek().is_none() && limits.parent.is_none() {
                continue;
            }
            match machine.old(controller) {
                None => for_unified.push(controller),
                Some(hierarchy) => match make_old(hierarchy, controller, limits) {
                    Ok(path) => {
                        cgroup.groups.push(Group { path: path.clone(), unified: false });
                        apply(&path, writes, &mut notes)?;
                    }
                    Err(error) => not_made(writes, &error.to_string(), &mut notes),
                },
            }
        }
        if for_unified.is_empty() {
            return Ok((cgroup, notes));
        }
        let writes = new.iter().filter(|write| for_unified.contains(&write.controller));
        let wanted: Vec<Controller> =
            for_unified.iter().copied().filter(|&c| new.iter().any(|write| write.controller == c)).collect();
        match &machine.unified {
            None if wanted.is_empty() => {}
            None => not_made(writes, "this machine has no control group for it", &mut notes),
            Some(hierarchy) => match make_unified(hierarchy, &wanted, limits) {
                Ok(path) => {
                    cgroup.groups.push(Group { path: path.clone(), unified: true });
                    apply(&path, writes, &mut notes)?;
                }
                Err(why) => not_made(writes, &why, &mut notes),
            },
        }
        Ok((cgroup, notes))
    }

    /// Opens the files that a process joins by: it writes `0` to each.
    pub fn open_procs(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        let open = |group: &Group| {
            let file = group.path.join("cgroup.procs");
            match File::options().write(true).open(&file) {
                Ok(opened) => Ok(opened.into()),
                Err(source) => Err(CgroupError::Open { file, source }),
            }
        };
        self.groups.iter().map(open).collect()
    }

    /// Returns the directories of the groups.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.groups.iter().map(|group| group.path.as_path())
    }

    /// Tells whether the kernel has killed a process in them for want of memory; `None` where no
    /// group of this step counts that.
    pub fn oom_killed(&self) -> Option<bool> {
        self.groups.iter().find_map(|group| {
            let file = if group.unified { "memory.events" } else { "memory.oom_control" };
            let text = fs::read_to_string(group.path.join(file)).ok()?;
            let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
            Some(count.trim() != "0")
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for group in &self.groups {
            // Processes that are killed leave their group a moment after they are seen dead. One that
            // stays, since something runs in it, goes with the next group that is made beside it.
            for _ in 0..100 {
                match fs::remove_dir(&group.path) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    _ => break,
                }
            }
        }
    }
}

fn not_made<'a>(writes: impl Iterator<Item = &'a Write>, why: &str, notes: &mut Vec<Note>) {
    notes.extend(writes.filter_map(|write| write.wish).map(|wish| Note::new(wish, why)));
}

/// Writes what the limits say. A file that is missing is a kernel without that feature.
fn apply<'a>(
    group: &Path,
    writes: impl Iterator<Item = &'a Write>,
    notes: &mut Vec<Note>,
) -> Result<(), CgroupError> {
    for Write { file, content, wish, .. } in writes {
        let file = group.join(file);
        let written = File::options().write(true).open(&file).and_then(|mut opened| {
            // In one call, as such files want it.
            io::Write::write_all(&mut opened, content.as_bytes())
        });
        let (Err(source), Some(wish)) = (written, *wish) else { continue };
        match source.kind() {
            io::ErrorKind::NotFound => {
                notes.push(Note::new(wish, format!("this kernel has no `{}`", file.display())));
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                notes.push(Note::new(wish, format!("`{}`: {source}", file.display())));
            }
            _ => return Err(CgroupError::Refused { wish, file, content: content.clone(), source }),
        }
    }
    Ok(())
}

/// Tells what processes of this process namespace start the names of their groups with.
fn prefix() -> String {
    let namespace =
        fs::metadata("/proc/self/ns/pid").map_or(0, |data| std::os::unix::fs::MetadataExt::ino(&data));
    format!("rbuild-{namespace}-")
}

/// Makes a new group in a parent, and removes those that dead processes have left there.
fn make_child(parent: &Path) -> io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let prefix = prefix();
    for entry in fs::read_dir(parent)?.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(&prefix)?.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // One in which something runs stays: it is busy.
            let _ = fs::remove_dir(entry.path());
        }
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = parent.join(format!("{prefix}{}-{number}", std::process::id()));
    match fs::create_dir(&path) {
        Ok(()) => Ok(path),
        Err(error) => Err(io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))),
    }
}

fn parent_in(hierarchy: &Hierarchy, parent: &str) -> PathBuf {
    hierarchy.top.join(parent.trim_start_matches('/'))
}

/// Makes a group of version 1.
fn make_old(hierarchy: &Hierarchy, controller: Controller, limits: &CgroupLimits) -> io::Result<PathBuf> {
    let parent = match &limits.parent {
        Some(parent) => parent_in(hierarchy, parent),
        None => hierarchy.own.clone(),
    };
    fs::create_dir_all(&parent)
        .map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", parent.display())))?;
    let path = make_child(&parent)?;
    if controller == Controller::Cpuset {
        inherit_cpuset(&hierarchy.top, &path);
    }
    Ok(path)
}

/// Gives every group on the way the processors and memory nodes of the one above where it has
/// none: no process can join a group without.
fn inherit_cpuset(top: &Path, group: &Path) {
    let mut way: Vec<&Path> = group.ancestors().take_while(|path| *path != top).collect();
    way.reverse();
    for path in way {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let empty =
                |path: &Path| fs::read_to_string(path.join(file)).is_ok_and(|text| text.trim().is_empty());
            if let Some(above) = path.parent()
                && empty(path)
                && let Ok(text) = fs::read_to_string(above.join(file))
            {
                // Refused where this user may not: joining then tells.
                let _ = fs::write(path.join(file), text.trim());
            }
        }
    }
}

/// Makes a group of version 2 with these controllers, or says why there can be none.
fn make_unified(
    hierarchy: &Hierarchy,
    controllers: &[Controller],
    limits: &CgroupLimits,
) -> Result<PathBuf, String> {
    if let Some(parent) = &limits.parent {
        let parent = parent_in(hierarchy, parent);
        fs::create_dir_all(&parent).map_err(|error| format!("`{}`: {error}", parent.display()))?;
        let mut way: Vec<&Path> = parent.ancestors().take_while(|path| *path != hierarchy.top).collect();
        way.push(&hierarchy.top);
        way.reverse();
        for path in way {
            enable(path, controllers)?;
        }
        return make_child(&parent).map_err(|error| error.to_string());
    }
    // A group that has processes of its own can hand out no controllers, save the topmost one: that
    // of this process has at least one, so it is one above which the step's is made in.
    let mut reason = None;
    for group in hierarchy.own.ancestors() {
        let made = enable(group, controllers)
            .and_then(|()| make_child(group).map_err(|error| error.to_string()))
            .and_then(|path| match File::options().write(true).open(path.join("cgroup.procs")) {
                Ok(_) => Ok(path),
                Err(error) => {
                    let _ = fs::remove_dir(&path);
                    Err(format!("`{}`: {error}", path.display()))
                }
            });
        match made {
            Ok(path) => return Ok(path),
            Err(why) => reason.get_or_insert(why),
        };
        if group == hierarchy.top {
            break;
        }
    }
    Err(reason.unwrap_or_else(|| "there is no control group to make one in".to_owned()))
}

/// Lets the groups below one have controllers.
fn enable(group: &Path, controllers: &[Controller]) -> Result<(), String> {
    let list = |file: &str| fs::read_to_string(group.join(file)).unwrap_or_default();
    let has =
        |list: &str, controller: &Controller| list.split_whitespace().any(|word| word == controller.name());
    let (there, on) = (list("cgroup.controllers"), list("cgroup.subtree_control"));
    for controller in controllers.iter().filter(|&controller| !has(&on, controller)) {
        let file = group.join("cgroup.subtree_control");
        if !has(&there, controller) {
            return Err(format!("`{}` has no controller `{}`", group.display(), controller.name()));
        }
        fs::write(&file, format!("+{}", controller.name()))
            .map_err(|error| format!("`{}`: {error}", file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> CgroupLimits {
        CgroupLimits { memory: Some(1 << 20), cpuset_cpus: Some("0".into()), ..CgroupLimits::default() }
    }

    /// A directory that looks like a hierarchy; the kernel would fill new groups with files.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        directory
    }

    fn hierarchy(top: &Path, own: &str) -> Hierarchy {
        Hierarchy { top: top.to_owned(), own: top.join(own) }
    }

    #[test]
    fn contradictions() {
        let check = |memory, memory_swap, expect: &str| {
            let limits = CgroupLimits { memory, memory_swap, ..CgroupLimits::default() };
            let said = limits.check().map_or_else(|error| error.to_string(), |()| String::new());
            assert!(said.starts_with(expect) && said.is_empty() == expect.is_empty(), "{said}");
        };
        check(None, Some(5), "a limit of memory and swap needs");
        check(Some(6), Some(5), "the limit of memory and swap (5) is below");
        check(Some(5), Some(5), "");
        check(Some(5), Some(-1), "");
        check(None, Some(-1), "");
        let limits = CgroupLimits { parent: Some("a/../../b".into()), ..CgroupLimits::default() };
        assert!(matches!(limits.check(), Err(CgroupError::Parent(_))));
    }

    #[test]
    fn a_machine_without_control_groups_only_notes() {
        let (cgroup, notes) = Cgroup::create_in(&limits(), &Hierarchies::default()).unwrap();
        assert_eq!(cgroup.paths().count(), 0);
        let texts: Vec<String> = notes.iter().map(Note::to_string).collect();
        let why = "has no effect: this machine has no control group for it";
        assert_eq!(texts, [format!("the memory limit {why}"), format!("the set of CPUs {why}")]);
    }

    #[test]
    fn version_two_is_made_where_controllers_can_be_had() {
        let directory = tree(&[
            ("cgroup.controllers", "cpu cpuset memory pids\n"),
            ("cgroup.subtree_control", "cpuset memory\n"),
            ("a/cgroup.controllers", "cpuset memory\n"),
            ("a/cgroup.subtree_control", ""),
            ("a/b/cgroup.controllers", ""),
            ("a/b/cgroup.subtree_control", ""),
        ]);
        let top = directory.path();
        let found = make_unified(&hierarchy(top, "a/b"), &[Controller::Memory], &limits());
        // The own group has nothing to hand out; the one above has, but is no real one: it lacks
        // the file to join by, and so has the topmost.
        assert!(found.unwrap_err().contains("has no controller `memory`"));
        assert_eq!(fs::read_to_string(top.join("a/cgroup.subtree_control")).unwrap(), "+memory");
        assert!(
            fs::read_dir(top.join("a"))
                .unwrap()
                .flatten()
                .all(|e| !e.file_name().to_string_lossy().starts_with("rbuild-"))
        );
        let below = CgroupLimits { parent: Some("/made/deep".into()), ..limits() };
        let why = make_unified(&hierarchy(top, "a/b"), &[Controller::Memory], &below).unwrap_err();
        assert!(why.ends_with("made` has no controller `memory`"), "{why}");
    }

    #[test]
    fn a_group_is_written_and_told_of_its_dead() {
        let directory = tree(&[("g/memory.max", "max"), ("g/memory.events", "low 0\noom 1\noom_kill 1\n")]);
        let group = directory.path().join("g");
        let mut notes = Vec::new();
        let writes = writes::v2(&CgroupLimits { memory_swap: Some(-1), ..limits() });
        apply(&group, writes.iter(), &mut notes).unwrap();
        assert_eq!(fs::read_to_string(group.join("memory.max")).unwrap(), "1048576");
        let what: Vec<&str> = notes.iter().map(|note| note.what.as_str()).collect();
        assert_eq!(what, ["the swap limit", "the set of CPUs"]);
        let killed = |file: &str, text: &str, unified| {
            fs::write(group.join(file), text).unwrap();
            Cgroup { groups: vec![Group { path: group.clone(), unified }] }.oom_killed()
        };
        assert_eq!(killed("memory.events", "oom 1\noom_kill 2\n", true), Some(true));
        assert_eq!(killed("memory.events", "oom 1\noom_kill 0\n", true), Some(false));
        assert_eq!(killed("memory.oom_control", "under_oom 0\noom_kill 1\n", false), Some(true));
        assert_eq!(killed("memory.oom_control", "under_oom 0\n", false), None);
    }

    #[test]
    fn leftovers_of_the_dead_go_and_others_stay() {
        let directory = tree(&[]);
        let name = |pid: u32| format!("{}{pid}-0", prefix());
        // No process has a number above 2^22: proc_sys_kernel(5), pid_max.
        for name in [name(5_000_000), name(1), "rbuild-1-5000000-0".into(), "other".into()] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let made = make_child(directory.path()).unwrap();
        assert!(made.exists() && !directory.path().join(name(5_000_000)).exists());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 4);
        drop(Cgroup { groups: vec![Group { path: made.clone(), unified: false }] });
        assert!(!made.exists());
    }

    #[test]
    fn processors_are_inherited() {
        let directory = tree(&[
            ("cpuset.cpus", "0-3\n"),
            ("cpuset.mems", "0\n"),
            ("a/cpuset.cpus", "1\n"),
            ("a/cpuset.mems", "\n"),
            ("a/b/cpuset.cpus", "\n"),
            ("a/b/cpuset.mems", "\n"),
        ]);
        inherit_cpuset(directory.path(), &directory.path().join("a/b"));
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap().trim().to_owned();
        assert_eq!((read("a/cpuset.cpus"), read("a/cpuset.mems")), ("1".into(), "0".into()));
        assert_eq!((read("a/b/cpuset.cpus"), read("a/b/cpuset.mems")), ("1".into(), "0".into()));
    }
}
