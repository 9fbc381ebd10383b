//! A step without namespaces: what would be mounted over its root is put into it, and taken out after.
//!
//! `covers` puts and takes, `devices` refuses, `tree` copies, `keeper` is the process that watches over a step. Nothing
//! of it enters the layer. Not here: which isolation a build has (`isolation`), making the root (`store`).

mod covers;
mod devices;
pub(super) mod keeper;
mod tree;

use std::io;
use std::path::Path;

pub(super) use covers::Covers;
use covers::New;

use super::note::Note;
use super::spec::{BindSource, Mount, Network, Root, Spec};
use super::step::HOSTNAME;
use crate::sys::RootDir;

/// CAP_SYS_CHROOT and CAP_MKNOD: with the first a step could leave its root, with the second it could
/// reach the machine's devices.
const NEVER: u64 = (1 << 18) | (1 << 27);

/// Why a step cannot run in a chroot.
#[derive(Debug, thiserror::Error)]
pub enum ChrootError {
    #[error("{0} cannot be had where steps run in a chroot (see `--isolation`)")]
    Impossible(String),
    #[error("cannot put {what} at `{target}` of the step's root: {source}")]
    Put { what: &'static str, target: String, source: io::Error },
    #[error(
        "cannot make the device `/dev/{name}` for the step: {source}; a container needs CAP_MKNOD for that, and a store that is not mounted with `nodev`"
    )]
    Device { name: &'static str, source: io::Error },
    #[error(
        "the device `{path}` ({major}:{minor}) is among the step's files: in a chroot the step could open it, and with it the machine's own; remove it, or allow namespaces (see `--isolation`)"
    )]
    Foreign { path: String, major: u32, minor: u32 },
    #[error("cannot take what was put at `{target}` out of the step's root: {source}")]
    Take { target: String, source: io::Error },
    #[error("cannot open the step's root: {0}")]
    Root(#[source] io::Error),
}

/// Makes a spec one for a chroot: puts into its root what was to be mounted, and takes rights away.
///
/// Returns what has to be taken out after the step, and what of the spec has no effect.
pub(super) fn prepare(spec: &mut Spec) -> Result<(Covers, Vec<Note>), ChrootError> {
    let impossible = |what: &str| Err(ChrootError::Impossible(what.to_owned()));
    let Root::Directory { path, mount: None, scratch: aside, points } = &spec.root else {
        return impossible("a root that is mounted");
    };
    match spec.network {
        Network::Host => {}
        Network::None | Network::Join(_) => return impossible("a network of its own, or none,"),
    }
    if spec.capabilities == u64::MAX {
        return impossible("`--security=insecure`");
    }
    if spec.read_only_root {
        return impossible("a read-only root");
    }
    let mut notes = Vec::new();
    if spec.hostname != HOSTNAME {
        notes.push(Note::new("the host name of a step", "in a chroot it is that of the container"));
    }
    if !spec.sysctls.is_empty() {
        return impossible("a setting of the kernel (`--sysctl`)");
    }
    if std::mem::take(&mut spec.init) {
        notes.push(Note::new(
            "--init",
            "in a chroot the processes are the container's, whose first one reaps",
        ));
    }
    spec.capabilities &= !NEVER;
    spec.no_new_privs = true;
    spec.view = None;
    let root = RootDir::open(path).map_err(ChrootError::Root)?;
    let whole = RootDir::open(path).map_err(ChrootError::Root)?;
    let mut covers = Covers::new(root, aside, points).map_err(ChrootError::Root)?;
    for mount in std::mem::take(&mut spec.mounts) {
        put(&mut covers, mount, &mut notes)?;
    }
    if spec.make_cwd {
        let failed = |source| {
            let target = spec.cwd.display().to_string();
            ChrootError::Put { what: "the working directory", target, source }
        };
        whole.create_dir_all(&spec.cwd, 0o755).map_err(failed)?;
    }
    // What was put is looked at, too: a cache can hold anything. What lies beneath it is out of reach.
    devices::refuse(&whole)?;
    covers.list().map_err(ChrootError::Root)?;
    Ok((covers, notes))
}

fn put(covers: &mut Covers, mount: Mount, notes: &mut Vec<Note>) -> Result<(), ChrootError> {
    match mount {
        Mount::Proc => covers.put(Path::new("/proc"), New::Directory { mode: 0o555 }),
        Mount::Sysfs { .. } => covers.put(Path::new("/sys"), New::Directory { mode: 0o555 }),
        // Below /sys, of which there is nothing; and nothing of /proc is there to be hidden.
        Mount::Cgroup { .. } | Mount::Mask { .. } | Mount::ReadOnly { .. } => Ok(()),
        Mount::Dev { .. } => {
            covers.put(Path::new("/dev"), New::Directory { mode: 0o755 })?;
            covers.devices()
        }
        Mount::File { target, content, mode, uid, gid } => {
            covers.put(&target, New::File { content, mode, uid, gid })
        }
        Mount::Tmpfs { target, mode, size } => {
            if size > 0 {
                notes.push(Note::new("the size of a tmpfs", "in a chroot it is a directory of the store"));
            }
            covers.put(&target, New::Directory { mode })
        }
        Mount::TmpfsWith { target, .. } => {
            let why = "in a chroot it is a directory of the store";
            notes.push(Note::new("the options of a tmpfs", why));
            covers.put(&target, New::Directory { mode: 0o1777 })
        }
        Mount::Device { source, .. } => {
            Err(ChrootError::Impossible(format!("the device `{}`", source.display())))
        }
        // A cache: what is written stays, or is not to be.
        Mount::Bind {
            source: BindSource::Fd(fd),
            target,
            read_only: false,
            recursive: false,
            make_points: true,
        } => covers.put(&target, New::Moved(fd)),
        Mount::Bind { source, target, read_only, recursive, .. } => {
            // A container's volume: moved here, it would be missing where others look for it.
            if recursive && !read_only && matches!(source, BindSource::Fd(_)) {
                let what = format!("what is written to the volume at `{}`", target.display());
                notes.push(Note::new(&what, "in a chroot it is a copy, which is thrown away"));
            }
            let fd = match source {
                BindSource::Fd(fd) => fd,
                BindSource::Path(path) if read_only => open(&path, &target)?,
                BindSource::Path(_) => return Err(volume(&target)),
            };
            covers.put(&target, New::Copy(fd))
        }
        Mount::Overlay { target, .. } => {
            Err(ChrootError::Impossible(format!("the mount of another state at `{}`", target.display())))
        }
    }
}

/// Refuses what would be written to a copy, and lost.
fn volume(target: &Path) -> ChrootError {
    ChrootError::Impossible(format!("the volume at `{}`, unless it is read-only (`:ro`),", target.display()))
}

fn open(path: &Path, target: &Path) -> Result<std::os::fd::OwnedFd, ChrootError> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| ChrootError::Put {
        what: "a copy of what is to be mounted",
        target: target.display().to_string(),
        source: errno.into(),
    })
}
