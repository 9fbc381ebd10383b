//! The mounts of a sandbox: its root, and a small loop over a list of values.
//!
//! Runs in the child, in its own mount namespace, before the root is changed.
//! Targets are opened inside the new root first and mounted on by descriptor
//! (`/proc/self/fd/N` of the host's /proc), so that no link of an image leads
//! anywhere else. Nothing is ever created in an upper directory; a root that is no overlay has its
//! missing mount points made in itself (`directory`).

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::directory;
use super::error::{Os, StepError};
use super::note::Note;
use super::spec::{BindSource, Mount, Root, Spec};
use super::states::OtherStates;
use super::stub::{self, Kind};
use crate::sys::mount::{MountChange, change_mount, restrict};
use crate::sys::overlay::{self, MountWay, OverlayXattrs, Writable};

const PROC_SUPER_MAGIC: u64 = 0x9fa0;
const SYSFS_MAGIC: u64 = 0x6265_6572;
const TMPFS_MAGIC: u64 = 0x0102_1994;
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

/// The devices of a sandbox: the harmless ones.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// What a device bound from the host is limited to. The node is the host's own: without this the
/// root of a step could change its mode, owner and times for the whole machine. A read-only mount
/// keeps them, and nobody from writing through a device: mount(2), `MS_RDONLY`; open(2), `EROFS`.
const HOST_DEVICE: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
/// The links of `/dev`.
const DEV_LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Mounts everything and returns the root, not yet entered.
///
/// With it, what is not as it was asked for.
pub(super) fn mount_all(spec: &mut Spec) -> Result<(OwnedFd, Vec<Note>), StepError> {
    let mounts = std::mem::take(&mut spec.mounts);
    // First: whether one is a file or a directory decides which mount point it needs.
    let open = |mounts: Vec<Mount>, scratch: &OwnedFd| {
        let mut states = OtherStates::new(scratch, spec.mount_way);
        mounts.into_iter().map(|mount| states.open(mount)).collect::<Result<Vec<_>, _>>()
    };
    let (root, scratch, mounts) = match &mut spec.root {
        Root::Overlay { lowers, upper, work, xattrs, durable } => {
            let mut base = Base::open(lowers, upper, work, *xattrs, spec.mount_way)?;
            base.durable = *durable;
            let mounts = open(mounts, &base.scratch)?;
            (base.mount(&mounts, spec.view.take())?, base.scratch, mounts)
        }
        Root::Directory { path, mount, scratch, points } => {
            let mount = mount.take().map_or_else(|| directory::bind(path), Ok)?;
            let scratch = scratch_over(scratch)?;
            let mounts = open(mounts, &scratch)?;
            let root = directory::attach(mount, &scratch)?;
            directory::make_points(&root, &missing(&mounts, &root)?, points)?;
            (root, scratch, mounts)
        }
    };
    let mut table = Table {
        root,
        scratch,
        files: 0,
        open_to_points: Vec::new(),
        null: None,
        nothing: None,
        notes: Vec::new(),
    };
    for mount in mounts {
        table.mount(mount)?;
    }
    if spec.make_cwd {
        table.make_directory(&spec.cwd)?;
    }
    if spec.read_only_root {
        restrict(&table.root, libc::MOUNT_ATTR_RDONLY, false)
            .map_err(|error| StepError::ReadOnly { target: "/".into(), error: error.into() })?;
    }
    Ok((table.root, table.notes))
}

/// Mounts a scratch file system over a directory, in this namespace alone, with a place for the root.
fn scratch_over(directory: &Path) -> Result<OwnedFd, StepError> {
    (|| {
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        rustix::mount::mount("tmpfs", directory, "tmpfs", flags, c"mode=0755")?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let scratch = rustix::fs::open(directory, flags, Mode::empty())?;
        rustix::fs::mkdirat(&scratch, "root", Mode::from_raw_mode(0o755))?;
        Ok(scratch)
    })()
    .map_err(|errno: Errno| StepError::Scratch(errno.into()))
}

/// The open layers, and a scratch file system that only this namespace sees.
struct Base {
    lowers: Vec<OwnedFd>,
    upper: OwnedFd,
    work: OwnedFd,
    scratch: OwnedFd,
    xattrs: OverlayXattrs,
    way: MountWay,
    /// See [`Writable`].
    durable: bool,
}

impl Base {
    fn open(
        lowers: &[PathBuf],
        upper: &Path,
        work: &Path,
        xattrs: OverlayXattrs,
        way: MountWay,
    ) -> Result<Base, StepError> {
        // One above and two below may be added.
        if lowers.len() + 3 > overlay::MAX_LOWERS {
            return Err(StepError::TooManyLayers(lowers.len()));
        }
        let open = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| StepError::OpenLayer {
                path: path.display().to_string(),
                error: errno.into(),
            })
        };
        let open_lowers = lowers.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
        let (open_upper, open_work) = (open(upper)?, open(work)?);
        // It covers the upper directory, which is open.
        let scratch = scratch_over(upper)?;
        Ok(Base {
            lowers: open_lowers,
            upper: open_upper,
            work: open_work,
            scratch,
            xattrs,
            way,
            durable: false,
        })
    }

    /// Makes an empty directory on the scratch file system.
    fn layer(&self, name: &str) -> Result<OwnedFd, StepError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::mkdirat(&self.scratch, name, Mode::from_raw_mode(0o755))
            .and_then(|()| rustix::fs::openat(&self.scratch, name, flags, Mode::empty()))
            .map_err(|e| StepError::Scratch(e.into()))
    }

    /// Makes the missing mount points and mounts the root file system.
    fn mount(&self, mounts: &[Mount], given: Option<OwnedFd>) -> Result<OwnedFd, StepError> {
        let view = match given {
            Some(fd) => View { fd, base: None },
            None => self.view()?,
        };
        let missing = missing(mounts, &view.fd)?;
        let below = self.layer("below")?;
        for (path, kind) in &missing {
            stub::make(below.as_fd(), path, *kind, None).map_err(|errno| mount_point(path, errno))?;
        }
        let root = self.attach(None, &below, self.work.as_fd())?;
        // Standard directories and files are seldom missing, and then seldom hidden by what is over them.
        let mut hidden = Vec::new();
        for (path, kind) in missing {
            if !stub::exists(root.as_fd(), &path).map_err(|errno| mount_point(&path, errno))? {
                hidden.push((path, kind));
            }
        }
        if hidden.is_empty() {
            return Ok(root);
        }
        let above = self.layer("above")?;
        for (path, kind) in &hidden {
            stub::make(above.as_fd(), path, *kind, Some(root.as_fd()))
                .map_err(|errno| mount_point(path, errno))?;
        }
        drop(root);
        let scratch = |errno: Errno| StepError::Scratch(errno.into());
        rustix::process::fchdir(&self.scratch).map_err(scratch)?;
        rustix::mount::unmount("root", UnmountFlags::DETACH).map_err(scratch)?;
        // A work directory serves one volatile mount.
        rustix::fs::mkdirat(&self.work, "again", Mode::RWXU).map_err(scratch)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let work = rustix::fs::openat(&self.work, "again", flags, Mode::empty()).map_err(scratch)?;
        self.attach(Some(&above), &below, work.as_fd())
    }

    /// Mounts the root file system with mount points above and below all layers.
    fn attach(
        &self,
        above: Option<&OwnedFd>,
        below: &OwnedFd,
        work: BorrowedFd<'_>,
    ) -> Result<OwnedFd, StepError> {
        let all = above.into_iter().chain(&self.lowers).chain([below]);
        let lowers: Vec<BorrowedFd<'_>> = all.map(AsFd::as_fd).collect();
        let (xattrs, durable) = (self.xattrs, self.durable);
        let writable = Writable { lowers: &lowers, upper: self.upper.as_fd(), work, xattrs, durable };
        overlay::attach_writable(&writable, self.scratch.as_fd(), "root", self.way)
            .map_err(|error| StepError::Overlay(error.into()))
    }

    /// Mounts what the root will be, read-only: the upper directory too has a say in what exists.
    fn view(&self) -> Result<View<'_>, StepError> {
        let empty = self.layer("empty")?;
        self.layer("view")?;
        let all = [&self.upper].into_iter().chain(&self.lowers).chain([&empty]);
        let layers: Vec<BorrowedFd<'_>> = all.map(AsFd::as_fd).collect();
        let fd = overlay::attach_read_only(&layers, self.xattrs, self.scratch.as_fd(), "view", self.way)
            .map_err(|error| StepError::Overlay(error.into()))?;
        Ok(View { fd, base: Some(self) })
    }
}

/// A view that is gone when it is dropped.
struct View<'a> {
    fd: OwnedFd,
    /// Who mounted it; `None` for one that was given.
    base: Option<&'a Base>,
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        // Only the old way attaches it; otherwise there is nothing to find here.
        if let Some(base) = self.base
            && rustix::process::fchdir(&base.scratch).is_ok()
        {
            let _ = rustix::mount::unmount("view", UnmountFlags::DETACH);
        }
    }
}

/// Lists the mount points that the root will lack, as paths without links.
fn missing(mounts: &[Mount], view: &OwnedFd) -> Result<Vec<(PathBuf, Kind)>, StepError> {
    let mut missing = Vec::new();
    let mut covered: Vec<PathBuf> = Vec::new();
    for mount in mounts {
        let Some((target, kind)) = needs(mount)? else { continue };
        // Beneath another mount: that one has it, or it is made there.
        if covered.iter().any(|covered| target.starts_with(covered)) {
            continue;
        }
        match stub::open_inside(view, &target, OFlags::PATH) {
            Ok(_) => {}
            Err(Errno::NOENT) => {
                let path = stub::real_path(view.as_fd(), &target);
                missing.push((path.map_err(|errno| mount_point(&target, errno))?, kind));
            }
            Err(errno) => return Err(mount_point(&target, errno)),
        }
        if kind == Kind::Directory {
            covered.push(target);
        }
    }
    Ok(missing)
}

pub(super) fn mount_point(path: &Path, errno: Errno) -> StepError {
    StepError::MountPoint { target: Path::new("/").join(path).display().to_string(), error: errno.into() }
}

/// Tells what mount point a mount needs; `None` for one that takes what is there.
fn needs(mount: &Mount) -> Result<Option<(PathBuf, Kind)>, StepError> {
    Ok(match mount {
        Mount::Bind { source, target, .. } => Some((target.clone(), source_kind(source, target)?)),
        Mount::File { target, .. } => Some((target.clone(), Kind::File)),
        Mount::Proc => Some(("/proc".into(), Kind::Directory)),
        Mount::Sysfs { .. } => Some(("/sys".into(), Kind::Directory)),
        Mount::Dev { .. } => Some(("/dev".into(), Kind::Directory)),
        Mount::Tmpfs { target, .. } => Some((target.clone(), Kind::Directory)),
        Mount::TmpfsWith { target, .. } => Some((target.clone(), Kind::Directory)),
        Mount::Device { target, .. } => Some((target.clone(), Kind::File)),
        Mount::Cgroup { .. } | Mount::Mask { .. } | Mount::ReadOnly { .. } => None,
        // Made a bind mount before anything asks.
        Mount::Overlay { .. } => None,
    })
}

fn source_kind(source: &BindSource, target: &Path) -> Result<Kind, StepError> {
    let (stat, name) = match source {
        BindSource::Path(path) => (rustix::fs::stat(path), path.display().to_string()),
        BindSource::Fd(fd) => (rustix::fs::fstat(fd), "the open file".to_owned()),
    };
    let stat = stat.map_err(|errno| StepError::OpenSource {
        source_path: name,
        target: target.display().to_string(),
        error: errno.into(),
    })?;
    let directory = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
    Ok(if directory { Kind::Directory } else { Kind::File })
}

/// The loop's state.
struct Table {
    root: OwnedFd,
    notes: Vec<Note>,
    scratch: OwnedFd,
    /// How many files were made on the scratch file system.
    files: usize,
    /// The mounts in which missing mount points may be made, by the kernel's numbers of them.
    open_to_points: Vec<u64>,
    /// The host's null device as the sandbox has it, to hide files with.
    null: Option<OwnedFd>,
    /// An empty file system that nobody can write to, to hide directories with.
    nothing: Option<OwnedFd>,
}

/// Makes a mount of its own of what is open, attached nowhere.
fn clone_mount(of: impl AsFd, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(of, "", flags)
}

/// Attaches a mount over an open file or directory.
fn attach_mount(mount: &OwnedFd, at: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", at, "", flags)
}

/// Returns the number of the mount that an open file is on: statx(2), Linux 5.8.
fn mount_id(fd: &OwnedFd) -> Result<u64, Errno> {
    let flags = rustix::fs::AtFlags::EMPTY_PATH;
    Ok(rustix::fs::statx(fd, "", flags, rustix::fs::StatxFlags::MNT_ID)?.stx_mnt_id)
}

/// Names a descriptor for mount(2): it is reached whatever lies over it.
fn name_of(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

impl Table {
    fn mount(&mut self, mount: Mount) -> Result<(), StepError> {
        match mount {
            Mount::Bind { source, target, read_only, recursive, make_points } => {
                let mounted = self.bind(source, &target, read_only, recursive)?;
                if make_points && !read_only { self.allow_points(&mounted, &target) } else { Ok(()) }
            }
            Mount::Overlay { target, .. } => Err(mount_point(&target, Errno::INVAL)),
            Mount::File { target, content, mode, uid, gid } => self.file(&target, &content, mode, (uid, gid)),
            Mount::Proc => self.proc(),
            Mount::Sysfs { read_only } => self.sysfs(read_only),
            Mount::Cgroup { read_only } => self.cgroup(read_only),
            Mount::Dev { shm_size, host_devices } => {
                self.dev(shm_size, host_devices)?;
                if host_devices { self.allow_devices() } else { Ok(()) }
            }
            Mount::Tmpfs { target, size, mode } => {
                let options =
                    if size == 0 { format!("mode={mode:o}") } else { format!("mode={mode:o},size={size}") };
                let flags = MountFlags::NODEV | MountFlags::NOSUID;
                let at = self.point(&target, Kind::Directory)?;
                let mounted = self.fresh("tmpfs", &at, &target, flags, &options)?;
                self.allow_points(&mounted, &target)
            }
            Mount::TmpfsWith { target, options } => {
                let at = self.point(&target, Kind::Directory)?;
                let mounted = self.fresh("tmpfs", &at, &target, options.flags(), options.data())?;
                if options.read_only() { Ok(()) } else { self.allow_points(&mounted, &target) }
            }
            Mount::Device { source, target } => self.device(&source, &target),
            Mount::Mask { target } => self.mask(&target),
            Mount::ReadOnly { target } => self.read_only(&target),
        }
    }

    /// Opens a mount point, or makes it where it is missing on a file system of this sandbox's own.
    fn point(&self, target: &Path, kind: Kind) -> Result<OwnedFd, StepError> {
        let failed = |errno| mount_point(target, errno);
        match stub::open_inside(&self.root, target, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(failed),
        }
        let path = stub::real_path(self.root.as_fd(), target).map_err(failed)?;
        let deepest = path.ancestors().find_map(|at| {
            let at = if at.as_os_str().is_empty() { Path::new(".") } else { at };
            stub::open_inside(&self.root, at, OFlags::PATH).ok()
        });
        let deepest = deepest.ok_or_else(|| failed(Errno::NOENT))?;
        // Mount points of the root file system were made before it was mounted; what a build mounts of
        // the host's must not get new files either. `/dev`, caches, what a container writes to are left.
        if !self.open_to_points.contains(&mount_id(&deepest).map_err(failed)?) {
            return Err(failed(Errno::NOENT));
        }
        stub::make(self.root.as_fd(), &path, kind, None).map_err(failed)?;
        stub::open_inside(&self.root, target, OFlags::PATH).map_err(failed)
    }

    /// Makes a directory where nothing is, in the root or in what is mounted there; links lead inside.
    ///
    /// What stands there already, and cannot be one, whoever enters it will say.
    fn make_directory(&self, path: &Path) -> Result<(), StepError> {
        match stub::open_inside(&self.root, path, OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            _ => return Ok(()),
        }
        let real = stub::real_path(self.root.as_fd(), path);
        real.and_then(|real| stub::make(self.root.as_fd(), &real, Kind::Directory, None)).map_err(|errno| {
            StepError::MakeDirectory { path: path.display().to_string(), error: errno.into() }
        })
    }

    /// Opens the mount point of a file system of the kernel's, which no link may lead to.
    ///
    /// What is masked in it is named by its path: through a link a later mount could turn that path
    /// elsewhere, and leave the file system itself in sight with nothing of it masked.
    fn plain_point(&self, target: &Path) -> Result<OwnedFd, StepError> {
        self.point(target, Kind::Directory)?;
        let at = stub::open_inside(&self.root, target, OFlags::PATH | OFlags::NOFOLLOW)
            .map_err(|errno| mount_point(target, errno))?;
        let mode = rustix::fs::fstat(&at).map_err(|errno| mount_point(target, errno))?.st_mode;
        match rustix::fs::FileType::from_raw_mode(mode).is_dir() {
            true => Ok(at),
            false => Err(StepError::LinkedMountPoint(target.display().to_string())),
        }
    }

    /// Lets mount points be made in what was just mounted at a target.
    fn allow_points(&mut self, mounted: &OwnedFd, target: &Path) -> Result<(), StepError> {
        self.open_to_points.push(mount_id(mounted).map_err(|errno| mount_point(target, errno))?);
        Ok(())
    }

    /// Lets device nodes of the root file system work, where the kernel does.
    fn allow_devices(&self) -> Result<(), StepError> {
        let change = MountChange { clear: libc::MOUNT_ATTR_NODEV, ..MountChange::default() };
        // A user namespace has none, and a kernel before 5.12 does not know the call.
        let _ = change_mount(&self.root, change, false);
        Ok(())
    }

    /// Opens what was just mounted at a target, for the mount itself and not the place under it.
    fn mounted(&self, target: &Path) -> Result<OwnedFd, StepError> {
        stub::open_inside(&self.root, target, OFlags::PATH).map_err(|errno| mount_point(target, errno))
    }

    /// Mounts a new file system and opens it.
    fn fresh(
        &self,
        kind: &str,
        at: &OwnedFd,
        target: &Path,
        flags: MountFlags,
        options: &str,
    ) -> Result<OwnedFd, StepError> {
        self.mount_fresh(kind, at, target, flags, options)?;
        self.mounted(target)
    }

    /// Mounts a new file system.
    fn mount_fresh(
        &self,
        kind: &str,
        at: &OwnedFd,
        target: &Path,
        flags: MountFlags,
        options: &str,
    ) -> Result<(), StepError> {
        let failed = |errno: Errno| StepError::Mount {
            what: kind.to_owned(),
            target: target.display().to_string(),
            error: errno.into(),
        };
        let options = std::ffi::CString::new(options).map_err(|_| failed(Errno::INVAL))?;
        rustix::mount::mount(kind, name_of(at), kind, flags, options.as_c_str()).map_err(failed)
    }

    /// Makes sure that what is at a target is the file system that was asked for.
    fn verify(&self, mounted: &OwnedFd, target: &Path, expected: &str, magic: u64) -> Result<(), StepError> {
        match rustix::fs::fstatfs(mounted) {
            Ok(stat) if stat.f_type as u64 == magic => Ok(()),
            _ => Err(StepError::NotWhatWasMounted {
                target: target.display().to_string(),
                expected: expected.to_owned(),
            }),
        }
    }

    fn bind(
        &mut self,
        source: BindSource,
        target: &Path,
        read_only: bool,
        recursive: bool,
    ) -> Result<OwnedFd, StepError> {
        let kind = source_kind(&source, target)?;
        let at = self.point(target, kind)?;
        let failed = |errno: Errno| StepError::Mount {
            what: "a volume".to_owned(),
            target: target.display().to_string(),
            error: errno.into(),
        };
        let mut set = libc::MOUNT_ATTR_NODEV;
        if read_only {
            set |= libc::MOUNT_ATTR_RDONLY;
        }
        let source = match source {
            BindSource::Fd(fd) => fd,
            BindSource::Path(path) => {
                let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                if recursive {
                    flags |= OpenTreeFlags::AT_RECURSIVE;
                }
                rustix::mount::open_tree(CWD, &path, flags).map_err(failed)?
            }
        };
        attach_mount(&source, &at).map_err(failed)?;
        // By descriptor: where the target is inside another volume, somebody who writes there may
        // have made its name lead elsewhere by now, and this one would stay writable.
        restrict(&source, set, recursive).map_err(|error| StepError::ReadOnly {
            target: target.display().to_string(),
            error: error.into(),
        })?;
        Ok(source)
    }

    fn restrict(mounted: &OwnedFd, target: &Path, set: u64, recursive: bool) -> Result<(), StepError> {
        restrict(mounted, set, recursive).map_err(|error| StepError::ReadOnly {
            target: target.display().to_string(),
            error: error.into(),
        })
    }

    /// Mounts one file or directory of this namespace, and what is mounted beneath it, onto another place.
    fn bind_fd(
        &self,
        source: impl AsFd,
        at: &OwnedFd,
        what: &str,
        target: &Path,
    ) -> Result<OwnedFd, StepError> {
        let bound = clone_mount(source, true).and_then(|mount| attach_mount(&mount, at).map(|()| mount));
        bound.map_err(|errno| StepError::Mount {
            what: what.to_owned(),
            target: target.display().to_string(),
            error: errno.into(),
        })
    }

    fn file(
        &mut self,
        target: &Path,
        content: &[u8],
        mode: u32,
        (uid, gid): (u32, u32),
    ) -> Result<(), StepError> {
        let scratch = |error: Os| StepError::Scratch(error);
        self.files += 1;
        let name = format!("file{}", self.files);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&self.scratch, &name, flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| scratch(errno.into()))?;
        let mut made = fs::File::from(made);
        std::io::Write::write_all(&mut made, content).map_err(|error| scratch(error.into()))?;
        if (uid, gid) != (0, 0) {
            let owner = rustix::fs::fchown(
                &made,
                Some(rustix::fs::Uid::from_raw(uid)),
                Some(rustix::fs::Gid::from_raw(gid)),
            );
            owner.map_err(|errno| match errno {
                Errno::INVAL => StepError::UnmappedOwner { target: target.display().to_string(), uid, gid },
                errno => scratch(errno.into()),
            })?;
        }
        rustix::fs::fchmod(&made, Mode::from_raw_mode(mode & 0o7777))
            .map_err(|errno| scratch(errno.into()))?;
        let at = self.point(target, Kind::File)?;
        let mounted = self.bind_fd(&made, &at, "a file", target)?;
        let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID;
        Table::restrict(&mounted, target, set, false)
    }

    fn proc(&mut self) -> Result<(), StepError> {
        let target = Path::new("/proc");
        let at = self.plain_point(target)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let mounted = match self.fresh("proc", &at, target, flags, "") {
            // mount_namespaces(7): one's own /proc may show no more than the one around it.
            Err(StepError::Mount { what, target, error }) if error == Os::from(Errno::PERM) => {
                return self.outer_proc(&at).map_err(|_| StepError::MountHidden {
                    what,
                    target: target.clone(),
                    error,
                });
            }
            other => other?,
        };
        self.verify(&mounted, target, "proc", PROC_SUPER_MAGIC)
    }

    /// Shows the `/proc` around this process, with all that is hidden in it: the kernel keeps it so.
    ///
    /// Programs find themselves in it, under other numbers than their own. The step's rights end at
    /// processes of other user namespaces, and of more capabilities: ptrace(2).
    fn outer_proc(&mut self, at: &OwnedFd) -> Result<(), StepError> {
        let target = Path::new("/proc");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let source = rustix::fs::openat(CWD, target, flags, Mode::empty());
        let source = source.map_err(|errno| mount_point(target, errno))?;
        let mounted = self.bind_fd(&source, at, "proc", target)?;
        let set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
        Table::restrict(&mounted, target, set, true)?;
        self.verify(&mounted, target, "proc", PROC_SUPER_MAGIC)?;
        let why =
            "the container around it hides parts of /proc, so steps see the container's processes there";
        self.notes.push(Note::new("a /proc of its own for each step", why));
        Ok(())
    }

    fn sysfs(&self, read_only: bool) -> Result<(), StepError> {
        let target = Path::new("/sys");
        let at = self.plain_point(target)?;
        let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        if read_only {
            flags |= MountFlags::RDONLY;
        }
        match self.fresh("sysfs", &at, target, flags, "") {
            Ok(mounted) => self.verify(&mounted, target, "sysfs", SYSFS_MAGIC),
            // It shows a network namespace, which must belong to this user namespace; the
            // host's does not. What is mounted on the host shows the same.
            Err(StepError::Mount { error, .. }) if error == Os::from(Errno::PERM) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let source = rustix::fs::openat(CWD, "/sys", flags, Mode::empty());
                let source = source.map_err(|errno| mount_point(target, errno))?;
                let mounted = self.bind_fd(&source, &at, "sysfs", target)?;
                let mut set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
                if read_only {
                    set |= libc::MOUNT_ATTR_RDONLY;
                }
                Table::restrict(&mounted, target, set, true)
            }
            Err(error) => Err(error),
        }
    }

    /// Shows the control groups, seen from the sandbox's own. Nothing needs them: a kernel that
    /// does not let us mount them leaves an empty directory.
    fn cgroup(&self, read_only: bool) -> Result<(), StepError> {
        let target = Path::new("/sys/fs/cgroup");
        let at = match stub::open_inside(&self.root, target, OFlags::PATH) {
            Ok(at) => at,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(mount_point(target, errno)),
        };
        let writable = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let flags = if read_only { writable | MountFlags::RDONLY } else { writable };
        let unified =
            rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|s| s.f_type as u64 == CGROUP2_SUPER_MAGIC);
        if unified {
            return match self.fresh("cgroup2", &at, target, flags, "") {
                Ok(mounted) => self.verify(&mounted, target, "cgroup2", CGROUP2_SUPER_MAGIC),
                // A copy of the host's /sys brought the host's view along, read-only.
                Err(_) => Ok(()),
            };
        }
        let hierarchies = v1_hierarchies(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
        if hierarchies.is_empty() {
            return Ok(());
        }
        // Also hides what a copy of the host's /sys brought along.
        let top = self.fresh("tmpfs", &at, target, writable, "mode=755,size=64k")?;
        for (name, options) in hierarchies {
            let target = target.join(&name);
            let at = stub::make_directory(&top, name.as_ref(), OFlags::PATH)
                .map_err(|errno| mount_point(&target, errno))?;
            let kind = if options.is_empty() { "cgroup2" } else { "cgroup" };
            // One that the kernel refuses here stays an empty directory.
            let _ = self.mount_fresh(kind, &at, &target, flags, &options);
        }
        Table::restrict(&top, target, libc::MOUNT_ATTR_RDONLY, false)
    }

    fn dev(&mut self, shm_size: u64, host_devices: bool) -> Result<(), StepError> {
        let target = Path::new("/dev");
        let at = self.plain_point(target)?;
        // No device can be opened but those bound here: a node that the step makes is of no use.
        let mut flags = MountFlags::NOSUID;
        if !host_devices {
            flags |= MountFlags::NODEV;
        }
        let dev = self.fresh("tmpfs", &at, target, flags, "mode=755,size=65536k")?;
        self.verify(&dev, target, "tmpfs", TMPFS_MAGIC)?;
        self.allow_points(&dev, target)?;
        for name in DEVICES {
            let path = target.join(name);
            let failed = |errno: Errno| StepError::DeviceFile {
                target: path.display().to_string(),
                error: errno.into(),
            };
            // Bound rather than made: a user namespace may not make devices.
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
            let device = rustix::mount::open_tree(CWD, &path, flags).map_err(failed)?;
            let mode = rustix::fs::fstat(&device).map_err(failed)?.st_mode;
            if !rustix::fs::FileType::from_raw_mode(mode).is_char_device() {
                return Err(failed(Errno::NODEV));
            }
            let at = stub::make_file(&dev, name.as_ref()).map_err(failed)?;
            attach_mount(&device, &at).map_err(failed)?;
            Table::restrict(&device, &path, HOST_DEVICE, false)?;
            if name == "null" {
                self.null = Some(device);
            }
        }
        for (to, name) in DEV_LINKS {
            rustix::fs::symlinkat(to, &dev, name).map_err(|errno| StepError::DeviceFile {
                target: target.join(name).display().to_string(),
                error: errno.into(),
            })?;
        }
        let point = |name: &str| {
            let made = stub::make_directory(&dev, name.as_ref(), OFlags::PATH);
            made.map_err(|errno| mount_point(&target.join(name), errno))
        };
        let (at, mqueue, shm) = (point("pts")?, point("mqueue")?, point("shm")?);
        if host_devices {
            self.host_devices(&dev)?;
        }
        let pts = target.join("pts");
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        let options = "newinstance,ptmxmode=0666,mode=0620";
        // Group 5 is `tty` wherever there is one; with a single id it does not exist.
        let mounted = self
            .fresh("devpts", &at, &pts, flags, &format!("{options},gid=5"))
            .or_else(|_| self.fresh("devpts", &at, &pts, flags, options))?;
        self.verify(&mounted, &pts, "devpts", DEVPTS_SUPER_MAGIC)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let options = format!("mode=1777,size={shm_size}");
        self.mount_fresh("tmpfs", &shm, &target.join("shm"), flags, &options)?;
        self.mount_fresh("mqueue", &mqueue, &target.join("mqueue"), flags, "")
    }

    /// Shows the devices of the host that stand in its `/dev`, and those for disks and networks below it.
    ///
    /// A device that the caller has no rights to is left out.
    /// Shows one device of the host, which can be opened as far as its owner and mode let it.
    fn device(&self, source: &Path, target: &Path) -> Result<(), StepError> {
        let failed = |errno: Errno| StepError::OpenSource {
            source_path: source.display().to_string(),
            target: target.display().to_string(),
            error: errno.into(),
        };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let device = rustix::mount::open_tree(CWD, source, flags).map_err(failed)?;
        let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&device).map_err(failed)?.st_mode);
        if !(kind.is_char_device() || kind.is_block_device()) {
            return Err(failed(Errno::NOTBLK));
        }
        let at = self.point(target, Kind::File)?;
        attach_mount(&device, &at).map_err(failed)?;
        Table::restrict(&device, target, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC, false)
    }

    fn host_devices(&self, dev: &OwnedFd) -> Result<(), StepError> {
        let names = |folder: &str| -> Vec<String> {
            let entries = fs::read_dir(Path::new("/dev").join(folder)).into_iter().flatten().flatten();
            entries
                .filter_map(|entry| Some(Path::new(folder).join(entry.file_name()).to_str()?.to_owned()))
                .collect()
        };
        let all = ["", "net", "mapper", "dri", "vfio", "infiniband"].into_iter().flat_map(names);
        // The sandbox has a terminal of its own, and its own console.
        for name in all.filter(|name| !["ptmx", "console", "tty"].contains(&name.as_str())) {
            let path = Path::new("/dev").join(&name);
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let Ok(source) = rustix::fs::open(&path, flags, Mode::empty()) else { continue };
            let Ok(stat) = rustix::fs::fstat(&source) else { continue };
            let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
            let there = stub::exists(dev.as_fd(), Path::new(&name));
            if !(kind.is_char_device() || kind.is_block_device())
                || there.map_err(|e| mount_point(&path, e))?
            {
                continue;
            }
            if let Some((folder, _)) = name.split_once('/') {
                stub::make(dev.as_fd(), Path::new(folder), Kind::Directory, None)
                    .map_err(|errno| mount_point(&path, errno))?;
            }
            let mode = Mode::from_raw_mode(stat.st_mode);
            if rustix::fs::mknodat(dev, name.as_str(), kind, mode, stat.st_rdev).is_ok() {
                // As it is on the host, past the mask of modes.
                let owner = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
                let none = rustix::fs::AtFlags::empty();
                rustix::fs::chmodat(dev, name.as_str(), mode, none)
                    .and_then(|()| {
                        rustix::fs::chownat(dev, name.as_str(), Some(owner.0), Some(owner.1), none)
                    })
                    .map_err(|errno| mount_point(&path, errno))?;
                continue;
            }
            // A user namespace makes no devices; those that the user may use can be bound.
            let rights = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
            if rustix::fs::access(&path, rights).is_err() {
                continue;
            }
            stub::make(dev.as_fd(), Path::new(&name), Kind::File, None)
                .map_err(|errno| mount_point(&path, errno))?;
            let at = stub::open_inside(&self.root, &path, OFlags::PATH)
                .map_err(|errno| mount_point(&path, errno))?;
            self.bind_fd(&source, &at, "a device", &path)?;
        }
        Ok(())
    }

    fn mask(&mut self, target: &Path) -> Result<(), StepError> {
        let at = match stub::open_inside(&self.root, target, OFlags::PATH) {
            Ok(at) => at,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(mount_point(target, errno)),
        };
        let mode = rustix::fs::fstat(&at).map_err(|errno| mount_point(target, errno))?.st_mode;
        if rustix::fs::FileType::from_raw_mode(mode).is_dir() {
            if let Some(nothing) = &self.nothing {
                return self.bind_fd(nothing, &at, "a mask", target).map(drop);
            }
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
            self.nothing = Some(self.fresh("tmpfs", &at, target, flags, "size=4k,mode=755")?);
            return Ok(());
        }
        // The host's own null, not what an image may have put in its place (CVE-2025-31133): the one
        // bound for /dev, as it is restricted there.
        if let Some(null) = &self.null {
            return self.bind_fd(null, &at, "a mask", target).map(drop);
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, Mode::empty());
        let null = null.map_err(|errno| mount_point(target, errno))?;
        let mask = self.bind_fd(&null, &at, "a mask", target)?;
        Table::restrict(&mask, target, HOST_DEVICE, false)
    }

    fn read_only(&self, target: &Path) -> Result<(), StepError> {
        let at = match stub::open_inside(&self.root, target, OFlags::PATH) {
            Ok(at) => at,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(mount_point(target, errno)),
        };
        let mounted = self.bind_fd(&at, &at, "a read-only view", target)?;
        Table::restrict(&mounted, target, libc::MOUNT_ATTR_RDONLY, true)
    }
}

/// Reads `/proc/self/cgroup`: the directories of the old hierarchies and their mount options.
///
/// The unified one beside old ones is called `unified` and has no options: cgroups(7).
fn v1_hierarchies(text: &str) -> Vec<(String, String)> {
    let line = |line: &str| -> Option<(String, String)> {
        let controllers = line.split(':').nth(1)?;
        match controllers.strip_prefix("name=") {
            Some(name) => Some((name.to_owned(), format!("none,name={name}"))),
            None if controllers.is_empty() => Some(("unified".to_owned(), String::new())),
            None => Some((controllers.to_owned(), controllers.to_owned())),
        }
    };
    let plain = |(name, _): &(String, String)| !name.is_empty() && !name.contains(['/', '.']);
    text.lines().filter_map(line).filter(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_old_control_groups() {
        let text = "9:name=systemd:/\n2:cpu,cpuacct:/x\n0::/\n7:name=../evil:/\n";
        let expect = [("systemd", "none,name=systemd"), ("cpu,cpuacct", "cpu,cpuacct"), ("unified", "")];
        let expect = expect.map(|(name, options)| (name.to_owned(), options.to_owned()));
        assert_eq!(v1_hierarchies(text), expect);
        assert!(v1_hierarchies("").is_empty());
    }
}
