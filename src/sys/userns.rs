//! Entering a user namespace: how an ordinary user becomes root over its own files.
//!
//! Done once, at the very start of main, while there is one thread. From then on
//! the process has every capability over its own user and mount namespace, and
//! the rest of rbuild does not care. Not here: the namespaces of build steps
//! (`sandbox`). Sources: user_namespaces(7), newuidmap(1), subuid(5).
#![allow(unsafe_code)]

use std::ffi::{CString, OsStr};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, Uid, User};
use rustix::mount::MountPropagationFlags;
use rustix::pipe::PipeFlags;
use rustix::thread::{CapabilitySet, UnshareFlags};

use super::overlay::OverlayXattrs;

/// Where `newuidmap` and `newgidmap` are looked for; they are set-user-ID programs.
const PROGRAM_DIRECTORIES: [&str; 6] =
    ["/usr/bin", "/bin", "/run/wrappers/bin", "/usr/local/bin", "/usr/sbin", "/sbin"];
/// The most lines the kernel takes in an id map.
const MAX_RANGES: usize = 340;

/// Who this process is, seen from inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Whether root here is an ordinary user outside.
    pub rootless: bool,
    /// The name space overlayfs can use.
    pub xattrs: OverlayXattrs,
    /// The user and group outside of this process's root.
    pub uid: u32,
    pub gid: u32,
    pub ids: IdMap,
}

/// Which user and group ids exist here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap {
    pub uids: Vec<IdRange>,
    pub gids: Vec<IdRange>,
    /// Whether there is but one user id, or but one group id.
    pub single: bool,
    /// Why there is but one, and how to get more; empty otherwise.
    pub why: String,
}

/// A range of ids that are the same people inside and outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

impl IdMap {
    /// The map of a process that is in no user namespace of its own.
    pub fn full() -> IdMap {
        let all = IdRange { inside: 0, outside: 0, count: u32::MAX };
        IdMap { uids: vec![all], gids: vec![all], single: false, why: String::new() }
    }
}

/// Why no user namespace could be entered.
#[derive(Debug, thiserror::Error)]
pub enum UsernsError {
    #[error("user namespaces are switched off for ordinary users by `{file}`; as root: `{fix}`")]
    SwitchedOff { file: &'static str, fix: &'static str },
    #[error("cannot make a user namespace: {0}; a chroot or the sandbox around this process may forbid it")]
    Unshare(#[source] io::Error),
    #[error("cannot write `{path}`: {source}")]
    WriteMap { path: &'static str, source: io::Error },
    #[error("cannot make the mounts of the new namespace private: {0}")]
    Private(#[source] io::Error),
    #[error("cannot start the program that maps ids: {0}")]
    Start(#[source] io::Error),
}

/// Enters a user namespace and a mount namespace, unless this process may mount already.
///
/// Must be called while the process has one thread. Root with CAP_SYS_ADMIN stays where
/// it is. Inside a user namespace where it is root already, only the mounts become its
/// own. Anybody else gets 0 mapped to themselves and 1 onwards to their subordinate ids
/// (`/etc/subuid`, `/etc/subgid`) through newuidmap and newgidmap, or a single id when
/// those are missing, which [`IdMap`] tells.
pub fn enter_if_needed() -> Result<Identity, UsernsError> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let may_mount = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
    if uid == 0 && may_mount {
        let uids = read_map("/proc/self/uid_map");
        if uids.is_empty() || uids.iter().any(|range| range.count == u32::MAX) {
            let ids = IdMap::full();
            return Ok(Identity { rootless: false, xattrs: OverlayXattrs::Trusted, uid, gid, ids });
        }
        // Somebody (podman unshare, an outer build) entered one for us.
        super::mount::unshare_for_this_thread(UnshareFlags::NEWNS).map_err(UsernsError::Unshare)?;
        make_private()?;
        let gids = read_map("/proc/self/gid_map");
        let count = |ranges: &[IdRange]| ranges.iter().map(|range| u64::from(range.count)).sum::<u64>();
        let single = count(&uids) <= 1 || count(&gids) <= 1;
        let why = if single {
            "the user namespace around this process has a single id".into()
        } else {
            String::new()
        };
        let outside =
            |ranges: &[IdRange]| ranges.iter().find(|range| range.inside == 0).map_or(0, |r| r.outside);
        let (uid, gid) = (outside(&uids), outside(&gids));
        let ids = IdMap { uids, gids, single, why };
        return Ok(Identity { rootless: true, xattrs: OverlayXattrs::User, uid, gid, ids });
    }
    if uid == 0 {
        try_in_child()?;
    }
    let ids = enter(uid, gid)?;
    Ok(Identity { rootless: true, xattrs: OverlayXattrs::User, uid, gid, ids })
}

/// Enters nothing: who this process is where it works without namespaces.
///
/// Layers on disk are those of an ordinary user unless this is root with all its rights.
pub fn stay() -> Identity {
    let may_mount = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
    let xattrs = if may_mount { OverlayXattrs::Trusted } else { OverlayXattrs::User };
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    Identity { rootless: !may_mount, xattrs, uid, gid, ids: IdMap::full() }
}

fn make_private() -> Result<(), UsernsError> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).map_err(|errno| private_failed(errno.into()))
}

fn private_failed(error: io::Error) -> UsernsError {
    // Such a kernel lets anybody make the namespace, and then gives no rights in it.
    if reads_as("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        return UsernsError::SwitchedOff {
            file: "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            fix: "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        };
    }
    UsernsError::Private(error)
}

/// Tries in a child what cannot be undone: root of a container goes on without namespaces where it fails.
fn try_in_child() -> Result<(), UsernsError> {
    let (errors, child_errors) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|errno| UsernsError::Unshare(errno.into()))?;
    // SAFETY: the process has one thread, so the child may do anything.
    match unsafe { nix::unistd::fork() }.map_err(|errno| UsernsError::Unshare(errno.into()))? {
        ForkResult::Child => {
            let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNS;
            let result =
                super::mount::unshare_for_this_thread(flags).map_err(|error| (0, error)).and_then(|()| {
                    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                    rustix::mount::mount_change("/", private).map_err(|errno| (1, errno.into()))
                });
            if let Err((step, error)) = result {
                let errno = u8::try_from(error.raw_os_error().unwrap_or(0)).unwrap_or(0);
                let _ = fs::File::from(child_errors).write_all(&[step, errno]);
            }
            super::process::exit_now(0)
        }
        ForkResult::Parent { child } => {
            drop(child_errors);
            let mut said = Vec::new();
            let _ = fs::File::from(errors).read_to_end(&mut said);
            let _ = waitpid(child, None);
            match said[..] {
                [] => Ok(()),
                [0, errno] => {
                    let error = io::Error::from_raw_os_error(errno.into());
                    Err(switched_off().unwrap_or(UsernsError::Unshare(error)))
                }
                [_, errno, ..] => Err(private_failed(io::Error::from_raw_os_error(errno.into()))),
                [_] => Err(UsernsError::Unshare(io::ErrorKind::Other.into())),
            }
        }
    }
}

fn enter(uid: u32, gid: u32) -> Result<IdMap, UsernsError> {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
    let plan = |program: &'static str,
                file: &'static str,
                id: u32|
     -> Result<(PathBuf, Vec<IdRange>), String> {
        let path = find_program(program).ok_or_else(|| {
            format!("`{program}` is missing: install the package `uidmap` (or `shadow-utils`)")
        })?;
        let text = fs::read_to_string(file).unwrap_or_default();
        let ranges = subordinate(&text, user.as_deref(), uid, id);
        if ranges.len() < 2 {
            let name = user.clone().unwrap_or_else(|| uid.to_string());
            return Err(format!(
                "`{file}` has no range for `{name}`: as root, `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}`"
            ));
        }
        Ok((path, ranges))
    };
    // Root of a container may map all the ids it has; nobody needs to be asked for them.
    let own = if uid == 0 && may_map() { own_ids() } else { None };
    let (uids, gids) = match &own {
        Some((uids, gids)) => {
            let writer = |ranges: &Vec<IdRange>| Ok((PathBuf::new(), ranges.clone()));
            (writer(uids), writer(gids))
        }
        None => (plan("newuidmap", "/etc/subuid", uid), plan("newgidmap", "/etc/subgid", gid)),
    };

    // Both programs must be outside of the new namespace, so they are forked off before.
    let mut mappers = Vec::new();
    let mut why = String::new();
    if own.is_some()
        && let (Ok((_, uids)), Ok((_, gids))) = (&uids, &gids)
    {
        mappers.push((Mapper::fork_writer("uid_map", uids).map_err(UsernsError::Start)?, uids));
        mappers.push((Mapper::fork_writer("gid_map", gids).map_err(UsernsError::Start)?, gids));
    } else if let (Ok((uid_program, uid_ranges)), Ok((gid_program, gid_ranges))) = (&uids, &gids) {
        mappers.push((Mapper::fork(uid_program, uid_ranges).map_err(UsernsError::Start)?, uid_ranges));
        mappers.push((Mapper::fork(gid_program, gid_ranges).map_err(UsernsError::Start)?, gid_ranges));
    } else if let Err(reason) = uids.as_ref().map(drop).and(gids.as_ref().map(drop)) {
        why = reason.clone();
    }
    super::mount::unshare_for_this_thread(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)
        .map_err(|error| switched_off().unwrap_or(UsernsError::Unshare(error)))?;
    for (mapper, _) in &mut mappers {
        mapper.go();
    }
    let mut mapped = Vec::new();
    for (mapper, ranges) in mappers {
        match mapper.finish() {
            Ok(()) => mapped.push(Some(ranges.clone())),
            Err(reason) => {
                mapped.push(None);
                why = reason;
            }
        }
    }
    let mut mapped = mapped.into_iter();
    let one = |id: u32| vec![IdRange { inside: 0, outside: id, count: 1 }];
    let uids = match mapped.next().flatten() {
        Some(ranges) => ranges,
        None => {
            write_map("/proc/self/uid_map", &format!("0 {uid} 1\n"))?;
            one(uid)
        }
    };
    let gids = match mapped.next().flatten() {
        Some(ranges) => ranges,
        None => {
            // Without this an ordinary user may not map a group: user_namespaces(7).
            write_map("/proc/self/setgroups", "deny")?;
            write_map("/proc/self/gid_map", &format!("0 {gid} 1\n"))?;
            one(gid)
        }
    };
    make_private()?;
    let count = |ranges: &[IdRange]| ranges.iter().map(|range| u64::from(range.count)).sum::<u64>();
    let single = count(&uids) <= 1 || count(&gids) <= 1;
    Ok(IdMap { uids, gids, single, why })
}

/// Tells whether this process may write id maps of several ids: user_namespaces(7).
fn may_map() -> bool {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::SETFCAP;
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// Returns all ids of the namespace around this process, each as itself; `None` where it has but one.
fn own_ids() -> Option<(Vec<IdRange>, Vec<IdRange>)> {
    let all = |path: &str| -> Option<Vec<IdRange>> {
        let ranges = read_map(path).into_iter().map(|range| IdRange { outside: range.inside, ..range });
        let ranges: Vec<IdRange> = ranges.collect();
        (ranges.iter().map(|range| u64::from(range.count)).sum::<u64>() > 1).then_some(ranges)
    };
    Some((all("/proc/self/uid_map")?, all("/proc/self/gid_map")?))
}

fn write_map(path: &'static str, text: &str) -> Result<(), UsernsError> {
    fs::write(path, text).map_err(|source| UsernsError::WriteMap { path, source })
}

/// Finds which switch of the system forbids user namespaces.
pub fn switched_off() -> Option<UsernsError> {
    let switches: [(&'static str, &str, &'static str); 2] = [
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
    ];
    switches
        .into_iter()
        .find(|(file, off, _)| reads_as(file, off))
        .map(|(file, _, fix)| UsernsError::SwitchedOff { file, fix })
}

fn reads_as(file: &str, value: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.trim() == value)
}

/// Finds one of the programs that map ids.
pub fn find_program(name: &str) -> Option<PathBuf> {
    PROGRAM_DIRECTORIES.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

/// Reads an id map of the kernel's; nothing when it cannot be read.
fn read_map(path: &str) -> Vec<IdRange> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| -> Option<IdRange> {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some(IdRange { inside, outside, count })
    };
    text.lines().filter_map(line).collect()
}

/// Reads a user's ranges out of subuid(5) or subgid(5), with `own` as 0 in front.
///
/// Ranges stand one after the other inside, whatever they are outside. One that holds
/// `own` or overlaps another is left out: the kernel takes no id twice.
pub fn subordinate(text: &str, name: Option<&str>, uid: u32, own: u32) -> Vec<IdRange> {
    let mut ranges = vec![IdRange { inside: 0, outside: own, count: 1 }];
    let mut next = 1_u32;
    for line in text.lines() {
        let mut fields = line.trim().split(':');
        let (Some(who), Some(start), Some(count)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if Some(who) != name && who.parse() != Ok(uid) {
            continue;
        }
        let (Ok(outside), Ok(count)) = (start.parse::<u32>(), count.parse::<u32>()) else { continue };
        let Some(end) = outside.checked_add(count) else { continue };
        let Some(after) = next.checked_add(count) else { continue };
        let overlaps = |range: &IdRange| {
            u64::from(range.outside) < u64::from(end)
                && u64::from(outside) < u64::from(range.outside) + u64::from(range.count)
        };
        if count == 0 || ranges.len() == MAX_RANGES || ranges.iter().any(overlaps) {
            continue;
        }
        ranges.push(IdRange { inside: next, outside, count });
        next = after;
    }
    ranges
}

/// A child outside of the new namespace that waits and then becomes newuidmap or newgidmap.
struct Mapper {
    program: PathBuf,
    child: Pid,
    start: Option<OwnedFd>,
    errors: OwnedFd,
}

impl Mapper {
    fn fork(program: &Path, ranges: &[IdRange]) -> io::Result<Mapper> {
        let mut words = vec![program.as_os_str().to_owned(), std::process::id().to_string().into()];
        for range in ranges {
            words.extend([range.inside, range.outside, range.count].map(|id| id.to_string().into()));
        }
        let words =
            words.iter().map(|word| CString::new(OsStr::as_bytes(word))).collect::<Result<Vec<_>, _>>()?;
        let (wait, start) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (errors, child_errors) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        // SAFETY: the process has one thread, so the child may do anything.
        match unsafe { nix::unistd::fork() }? {
            ForkResult::Child => {
                drop(start);
                drop(errors);
                // End of file: the parent ended before the namespace was there.
                if !matches!(fs::File::from(wait).read(&mut [0_u8]), Ok(1)) {
                    super::process::exit_now(1);
                }
                let redirected = nix::unistd::dup2_stderr(&child_errors).is_ok()
                    && nix::unistd::dup2_stdout(&child_errors).is_ok();
                if redirected {
                    let _ = nix::unistd::execve::<_, CString>(&words[0], &words, &[]);
                }
                super::process::exit_now(127)
            }
            ForkResult::Parent { child } => {
                drop(wait);
                Ok(Mapper { program: program.to_owned(), child, start: Some(start), errors })
            }
        }
    }

    /// Makes a child that writes a map of this process itself, once it is in its namespace.
    fn fork_writer(file: &str, ranges: &[IdRange]) -> io::Result<Mapper> {
        let path = PathBuf::from(format!("/proc/{}/{file}", std::process::id()));
        let line = |range: &IdRange| format!("{} {} {}\n", range.inside, range.outside, range.count);
        let text: String = ranges.iter().map(line).collect();
        let (wait, start) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (errors, child_errors) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        // SAFETY: the process has one thread, so the child may do anything.
        match unsafe { nix::unistd::fork() }? {
            ForkResult::Child => {
                drop(start);
                drop(errors);
                // End of file: the parent ended before the namespace was there.
                if !matches!(fs::File::from(wait).read(&mut [0_u8]), Ok(1)) {
                    super::process::exit_now(1);
                }
                // In one write: the kernel takes no second one.
                if let Err(error) = fs::write(&path, text) {
                    let _ = fs::File::from(child_errors).write_all(error.to_string().as_bytes());
                    super::process::exit_now(1);
                }
                super::process::exit_now(0)
            }
            ForkResult::Parent { child } => {
                drop(wait);
                Ok(Mapper { program: path, child, start: Some(start), errors })
            }
        }
    }

    fn go(&mut self) {
        if let Some(start) = self.start.take() {
            // A child that is gone is found by `finish`.
            let _ = fs::File::from(start).write_all(&[1]);
        }
    }

    fn finish(self) -> Result<(), String> {
        let mut said = String::new();
        let _ = fs::File::from(self.errors).read_to_string(&mut said);
        match waitpid(self.child, None) {
            Ok(WaitStatus::Exited(_, 0)) => Ok(()),
            _ => Err(format!("`{}` failed: {}", self.program.display(), said.trim())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[(u32, u32, u32)]) {
        let ranges = subordinate(text, Some("ann"), 1000, 1000);
        let ranges: Vec<_> = ranges.iter().map(|range| (range.inside, range.outside, range.count)).collect();
        assert_eq!(ranges, expect, "{text:?}");
    }

    #[test]
    fn subordinate_ranges() {
        let own = (0, 1000, 1);
        check("", &[own]);
        check("bob:100000:65536\n", &[own]);
        check("ann:100000:65536\n", &[own, (1, 100_000, 65536)]);
        check("1000:100000:65536", &[own, (1, 100_000, 65536)]);
        check("ann:100000:10\nbob:1:2\n1000:5000:20\n", &[own, (1, 100_000, 10), (11, 5000, 20)]);
        check("ann:x:10\nann:100000\n:::\nann:7:0\n", &[own]);
        check("ann:900:200\n", &[own]);
        check("ann:100000:10\nann:100005:10\n", &[own, (1, 100_000, 10)]);
        check("ann:4294967295:10\n", &[own]);
    }
}
