//! Extended attributes (xattr(7)) by descriptor, or by directory and name without following a link.
//!
//! The calls that take a path are given `/proc/self/fd/N/name`, which names
//! the one entry of the open directory: it works for links and device nodes,
//! for O_PATH descriptors and inside user namespaces. Not here: which
//! attributes belong into a layer (`layer`).

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// The most bytes a list of names or a value can have (xattr(7): XATTR_LIST_MAX, XATTR_SIZE_MAX).
const MAX: usize = 64 * 1024;

/// What the attributes are of.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// An open file (not O_PATH).
    Fd(BorrowedFd<'a>),
    /// A file opened with O_PATH, other than a symbolic link.
    Path(BorrowedFd<'a>),
    /// The entry of a directory (O_PATH will do); a link stands for itself.
    Name(BorrowedFd<'a>, &'a OsStr),
}

impl Target<'_> {
    fn proc_path(&self) -> PathBuf {
        match self {
            Target::Fd(fd) | Target::Path(fd) => PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())),
            Target::Name(dir, name) => {
                let mut path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
                path.push(name);
                path
            }
        }
    }
}

/// Returns the names of a file's attributes, sorted; empty where the filesystem has none.
pub fn list(target: Target<'_>) -> io::Result<Vec<Vec<u8>>> {
    // Most files have no attribute, and most lists are short.
    let mut small = [0u8; 512];
    let mut names = match list_into(target, &mut small) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Ok(length) => split_names(&small[..length]),
        Err(Errno::RANGE) => {
            let mut large = vec![0u8; MAX];
            let length = list_into(target, &mut large)?;
            split_names(&large[..length])
        }
        Err(e) => return Err(e.into()),
    };
    names.sort_unstable();
    Ok(names)
}

fn list_into(target: Target<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    match target {
        Target::Fd(fd) => rustix::fs::flistxattr(fd, buffer),
        Target::Path(_) => rustix::fs::listxattr(target.proc_path(), buffer),
        Target::Name(..) => rustix::fs::llistxattr(target.proc_path(), buffer),
    }
}

fn split_names(list: &[u8]) -> Vec<Vec<u8>> {
    list.split(|&b| b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}

/// Returns the value of an attribute, `None` where the file has none of that name.
pub fn get(target: Target<'_>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0u8; 512];
    loop {
        match get_into(target, name, &mut value) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(Errno::RANGE) if value.len() < MAX => value.resize(MAX, 0),
            Err(e) => return Err(e.into()),
        }
    }
}

fn get_into(target: Target<'_>, name: &[u8], buffer: &mut [u8]) -> Result<usize, Errno> {
    let name = OsStr::from_bytes(name);
    match target {
        Target::Fd(fd) => rustix::fs::fgetxattr(fd, name, buffer),
        Target::Path(_) => rustix::fs::getxattr(target.proc_path(), name, buffer),
        Target::Name(..) => rustix::fs::lgetxattr(target.proc_path(), name, buffer),
    }
}

/// Sets an attribute, replacing one of the same name.
pub fn set(target: Target<'_>, name: &[u8], value: &[u8]) -> io::Result<()> {
    let name = OsStr::from_bytes(name);
    let flags = XattrFlags::empty();
    match target {
        Target::Fd(fd) => rustix::fs::fsetxattr(fd, name, value, flags)?,
        Target::Path(_) => rustix::fs::setxattr(target.proc_path(), name, value, flags)?,
        Target::Name(..) => rustix::fs::lsetxattr(target.proc_path(), name, value, flags)?,
    }
    Ok(())
}

/// Removes an attribute; one that is not there is no error.
pub fn remove(target: Target<'_>, name: &[u8]) -> io::Result<()> {
    let name = OsStr::from_bytes(name);
    let removed = match target {
        Target::Fd(fd) => rustix::fs::fremovexattr(fd, name),
        Target::Path(_) => rustix::fs::removexattr(target.proc_path(), name),
        Target::Name(..) => rustix::fs::lremovexattr(target.proc_path(), name),
    };
    match removed {
        Ok(()) | Err(Errno::NODATA) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Tells whether an attribute is overlayfs's own (`trusted.overlay.*`, `user.overlay.*`), fuse-overlayfs's own
/// (`user.fuseoverlayfs.*`), or stands for one of those where overlayfs itself is below (`user.rbuild.overlay.*`).
///
/// Such a name must never come from outside: it could hide files of lower layers.
pub fn is_overlay(name: &[u8]) -> bool {
    [&b"trusted.overlay."[..], b"user.overlay.", b"user.rbuild.overlay.", b"user.fuseoverlayfs."]
        .iter()
        .any(|own| name.starts_with(own))
}

/// Tells whether an attribute describes the machine or filesystem rather than the file.
///
/// SELinux labels and integrity measurements are the host's; attributes of
/// other namespaces than xattr(7)'s (`btrfs.*`, `system.nfs4_acl`) are the filesystem's.
pub fn is_of_host(name: &[u8]) -> bool {
    let portable = name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || name.starts_with(b"security.")
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default";
    let label = name == b"security.selinux" || name == b"security.ima" || name == b"security.evm";
    !portable || label
}

/// Copies all attributes but overlayfs's own and the host's; returns how many could not be set.
///
/// What the target's filesystem or user namespace does not permit is counted,
/// not an error. The file's data must be written before: a write removes
/// `security.capability`.
pub fn copy_xattrs(from: Target<'_>, to: Target<'_>) -> io::Result<u64> {
    let mut left_out = 0;
    for name in list(from)? {
        if is_overlay(&name) || is_of_host(&name) {
            continue;
        }
        let Some(value) = get(from, &name)? else { continue };
        left_out += u64::from(!try_set(to, &name, &value)?);
    }
    Ok(left_out)
}

/// Sets an attribute; false where the user namespace or the filesystem does not permit it.
pub fn try_set(target: Target<'_>, name: &[u8], value: &[u8]) -> io::Result<bool> {
    match set(target, name, value) {
        Ok(()) => Ok(true),
        Err(e) => match e.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::INVAL) => Ok(false),
            _ => Err(e),
        },
    }
}

/// Returns a target for an open file.
pub fn of(fd: &impl AsFd) -> Target<'_> {
    Target::Fd(fd.as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::RootDir;
    use rustix::fs::Mode;
    use rustix::fs::OFlags;
    use std::path::Path;

    #[test]
    fn reads_and_writes_all_kinds_of_targets() {
        let outer = tempfile::tempdir().unwrap();
        let root = RootDir::open(outer.path()).unwrap();
        let file = root.create_file(Path::new("f"), 0o644).unwrap();
        let big = vec![7u8; 3000];
        set(of(&file), b"user.b", &big).unwrap();
        set(Target::Name(root.fd(), OsStr::new("f")), b"user.a", b"1\n2").unwrap();
        let path = root.open_at(Path::new("f"), OFlags::PATH, Mode::empty()).unwrap();
        for target in [of(&file), Target::Path(path.as_fd()), Target::Name(root.fd(), OsStr::new("f"))] {
            assert_eq!(list(target).unwrap(), [b"user.a".to_vec(), b"user.b".to_vec()]);
            assert_eq!(get(target, b"user.a").unwrap().as_deref(), Some(&b"1\n2"[..]));
            assert_eq!(get(target, b"user.b").unwrap(), Some(big.clone()));
            assert_eq!(get(target, b"user.c").unwrap(), None);
        }
        // A link stands for itself: it does not show its target's attributes.
        root.symlink(OsStr::new("f"), Path::new("l")).unwrap();
        let link = Target::Name(root.fd(), OsStr::new("l"));
        assert_eq!(list(link).unwrap(), Vec::<Vec<u8>>::new());
        assert!(!try_set(link, b"user.a", b"x").unwrap());
        let copy = root.create_file(Path::new("copy"), 0o644).unwrap();
        set(of(&file), b"user.overlay.opaque", b"y").unwrap();
        assert_eq!(copy_xattrs(of(&file), of(&copy)).unwrap(), 0);
        assert_eq!(list(of(&copy)).unwrap(), [b"user.a".to_vec(), b"user.b".to_vec()]);
        remove(of(&copy), b"user.a").unwrap();
        remove(of(&copy), b"user.a").unwrap();
        assert_eq!(list(of(&copy)).unwrap(), [b"user.b".to_vec()]);
    }
}
