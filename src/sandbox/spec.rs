//! What to run and what it sees, as plain data.
//!
//! A [`Spec`] crosses from the caller to the helper process, its descriptors
//! beside it: `F` is what stands for one, an `OwnedFd` on both ends and a number
//! on the way. Not here: what a build step sees (`step`), doing it (`child`).

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cgroup::CgroupLimits;
use super::limit::Limit;
use super::seccomp::Profile;
use super::sysctl::Sysctl;
use super::tmpfs::TmpfsOptions;
use crate::sys::overlay::{MountWay, OverlayXattrs};
use crate::sys::snapshotter::RootPlan;
pub use crate::sys::terminal::Size as TerminalSize;

/// The capabilities of a container that asks for none: what Docker gives, bit by number.
///
/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE,
/// NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP: linux/capability.h.
pub const DEFAULT_CAPABILITIES: u64 = 0xa804_25fb;

/// One process to run, and all it sees.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spec<F = OwnedFd> {
    pub root: Root<F>,
    /// A read-only view of the root's layers merged, where its upper directory has nothing that they
    /// lack: looked at instead of mounting one more.
    pub view: Option<F>,
    /// In this order, over `root`.
    pub mounts: Vec<Mount<F>>,
    pub hostname: String,
    /// The program and its arguments; at least one. Without a `/` it is looked up in the PATH of `env`.
    #[serde(with = "bytes::list")]
    pub args: Vec<OsString>,
    /// The whole environment, `KEY=value`.
    #[serde(with = "bytes::list")]
    pub env: Vec<OsString>,
    /// Absolute; must exist, unless `make_cwd`.
    #[serde(with = "bytes")]
    pub cwd: PathBuf,
    /// Whether `cwd` and what is missing above it are made, root's and of mode 755, in what is mounted there.
    pub make_cwd: bool,
    pub user: User,
    /// The bounding set, and for root all else but the inheritable set, which stays empty.
    pub capabilities: u64,
    pub no_new_privs: bool,
    pub seccomp: Seccomp,
    pub network: Network<F>,
    pub read_only_root: bool,
    /// A terminal of the sandbox's own instead of the caller's pipes.
    pub terminal: Option<TerminalSize>,
    /// Applied where the caller may; a limit that may not be raised stays, which [`Running::notes`] tells.
    ///
    /// [`Running::notes`]: super::Running::notes
    pub limits: Vec<Limit>,
    /// The control group to make for it, and to remove after it.
    pub cgroup: Option<CgroupLimits>,
    /// The `cgroup.procs` files to join by; filled in on the way to the helper.
    pub cgroup_procs: Vec<F>,
    /// Settings of the kernel in the namespaces of the sandbox.
    pub sysctls: Vec<Sysctl>,
    /// Whether the program is not the first process but the child of one that reaps and passes signals on.
    pub init: bool,
    /// The AppArmor profile to start the program with; `None` keeps the caller's.
    pub apparmor: Option<String>,
    pub mount_way: MountWay,
}

/// Where the root file system comes from.
#[derive(Debug, Serialize, Deserialize)]
pub enum Root<F = OwnedFd> {
    Overlay {
        /// Topmost first.
        #[serde(with = "bytes::list")]
        lowers: Vec<PathBuf>,
        /// Gets the changes.
        #[serde(with = "bytes")]
        upper: PathBuf,
        /// Empty, beside `upper`, new for every run.
        #[serde(with = "bytes")]
        work: PathBuf,
        xattrs: OverlayXattrs,
        /// Whether what its programs sync reaches the disk.
        durable: bool,
    },
    /// A directory that shows everything already, and is written to; see [`RootPlan`].
    ///
    /// Mount points that are missing are made in it, and listed for the caller to take off again.
    Directory {
        #[serde(with = "bytes")]
        path: PathBuf,
        /// A mount of it, attached nowhere; without one the path is bound.
        mount: Option<F>,
        /// Empty; covered in the mount namespace of the sandbox alone.
        #[serde(with = "bytes")]
        scratch: PathBuf,
        /// The file for [`write_points`](crate::sys::snapshotter::write_points).
        #[serde(with = "bytes")]
        points: PathBuf,
    },
}

impl From<RootPlan> for Root {
    fn from(plan: RootPlan) -> Root {
        match plan {
            RootPlan::Overlay { lowers, upper, work, xattrs, durable } => {
                Root::Overlay { lowers, upper, work, xattrs, durable }
            }
            RootPlan::Directory { path, mount, scratch, points } => {
                Root::Directory { path, mount, scratch, points }
            }
        }
    }
}

impl<F> Root<F> {
    fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<Root<G>, E> {
        Ok(match self {
            Root::Overlay { lowers, upper, work, xattrs, durable } => {
                Root::Overlay { lowers, upper, work, xattrs, durable }
            }
            Root::Directory { path, mount, scratch, points } => {
                Root::Directory { path, mount: mount.map(map).transpose()?, scratch, points }
            }
        })
    }
}

/// One thing to mount. Targets are absolute, and resolve inside the root whatever links stand there.
///
/// A target that is missing is made on a throw-away layer, never in the upper directory.
#[derive(Debug, Serialize, Deserialize)]
pub enum Mount<F = OwnedFd> {
    /// A file or directory of the host. Devices beneath it cannot be opened.
    Bind {
        source: BindSource<F>,
        #[serde(with = "bytes")]
        target: PathBuf,
        read_only: bool,
        /// Whether mounts beneath the source come along.
        recursive: bool,
        /// Whether mount points of later mounts that are missing in it may be made there, and stay.
        make_points: bool,
    },
    /// A file or directory of another state: of layers merged, seen here alone.
    Overlay {
        state: State,
        /// What to show of it; its links never lead out of the state.
        #[serde(with = "bytes")]
        source: PathBuf,
        #[serde(with = "bytes")]
        target: PathBuf,
        read_only: bool,
    },
    /// A read-only file of this content, which is kept in memory only.
    File {
        #[serde(with = "bytes")]
        target: PathBuf,
        #[serde(with = "bytes")]
        content: Vec<u8>,
        mode: u32,
        /// In ids of the sandbox.
        uid: u32,
        gid: u32,
    },
    /// The processes of the sandbox, at `/proc`.
    Proc,
    /// `/sys`.
    Sysfs { read_only: bool },
    /// `/sys/fs/cgroup`, as far as the kernel lets us.
    Cgroup { read_only: bool },
    /// `/dev`: the harmless devices, `pts`, `mqueue`, `shm` of so many bytes, and a console with a terminal.
    ///
    /// With `host_devices` those of the host too, as far as the caller has any rights to them, and
    /// device nodes work wherever the kernel lets them.
    Dev { shm_size: u64, host_devices: bool },
    /// An empty file system in memory.
    Tmpfs {
        #[serde(with = "bytes")]
        target: PathBuf,
        /// In bytes; 0 is the kernel's default, half of the memory.
        size: u64,
        mode: u32,
    },
    /// The same with options of mount(8).
    TmpfsWith {
        #[serde(with = "bytes")]
        target: PathBuf,
        options: TmpfsOptions,
    },
    /// A device of the host, which can be opened. After `Dev`.
    Device {
        #[serde(with = "bytes")]
        source: PathBuf,
        #[serde(with = "bytes")]
        target: PathBuf,
    },
    /// Hides a directory or file, where it exists.
    Mask {
        #[serde(with = "bytes")]
        target: PathBuf,
    },
    /// Makes what is there read-only, where it exists.
    ReadOnly {
        #[serde(with = "bytes")]
        target: PathBuf,
    },
}

/// A state of an image: its layers, and where what is written to it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Topmost first; none is an empty state.
    #[serde(with = "bytes::list")]
    pub lowers: Vec<PathBuf>,
    /// Where writes go, and an empty directory beside it, both the caller's to throw away.
    pub upper: Option<Upper>,
    pub xattrs: OverlayXattrs,
}

/// The writable layer of a [`State`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upper {
    #[serde(with = "bytes")]
    pub upper: PathBuf,
    /// Empty, on the same file system, new for every mount.
    #[serde(with = "bytes")]
    pub work: PathBuf,
}

/// What a bind mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BindSource<F = OwnedFd> {
    /// A path of the host, its links followed on the host.
    Path(#[serde(with = "bytes")] PathBuf),
    /// An open file or directory: what was checked is what is mounted.
    Fd(F),
}

/// Which network it sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network<F = OwnedFd> {
    /// The caller's.
    Host,
    /// Loopback only.
    None,
    /// An existing network namespace.
    Join(F),
}

/// Who it runs as, in ids of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// The supplementary groups, all of them.
    pub groups: Vec<u32>,
}

/// Which system calls it may make.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Seccomp {
    #[default]
    Default,
    Unconfined,
    /// What a profile in Docker's format allows.
    Profile(Profile),
}

impl<F> Spec<F> {
    /// Changes what stands for a descriptor; stops at the first error.
    pub(super) fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<Spec<G>, E> {
        let mounts = self.mounts.into_iter().map(|mount| mount.map_fds(map)).collect::<Result<_, E>>()?;
        let view = self.view.map(&mut *map).transpose()?;
        let root = self.root.map_fds(map)?;
        let network = match self.network {
            Network::Host => Network::Host,
            Network::None => Network::None,
            Network::Join(fd) => Network::Join(map(fd)?),
        };
        Ok(Spec {
            root,
            view,
            mounts,
            hostname: self.hostname,
            args: self.args,
            env: self.env,
            cwd: self.cwd,
            make_cwd: self.make_cwd,
            user: self.user,
            capabilities: self.capabilities,
            no_new_privs: self.no_new_privs,
            seccomp: self.seccomp,
            network,
            read_only_root: self.read_only_root,
            terminal: self.terminal,
            limits: self.limits,
            cgroup: self.cgroup,
            cgroup_procs: self.cgroup_procs.into_iter().map(map).collect::<Result<_, E>>()?,
            sysctls: self.sysctls,
            init: self.init,
            apparmor: self.apparmor,
            mount_way: self.mount_way,
        })
    }
}

impl<F> Mount<F> {
    fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<Mount<G>, E> {
        Ok(match self {
            Mount::Bind { source, target, read_only, recursive, make_points } => {
                let source = match source {
                    BindSource::Path(path) => BindSource::Path(path),
                    BindSource::Fd(fd) => BindSource::Fd(map(fd)?),
                };
                Mount::Bind { source, target, read_only, recursive, make_points }
            }
            Mount::Overlay { state, source, target, read_only } => {
                Mount::Overlay { state, source, target, read_only }
            }
            Mount::File { target, content, mode, uid, gid } => {
                Mount::File { target, content, mode, uid, gid }
            }
            Mount::Proc => Mount::Proc,
            Mount::Sysfs { read_only } => Mount::Sysfs { read_only },
            Mount::Cgroup { read_only } => Mount::Cgroup { read_only },
            Mount::Dev { shm_size, host_devices } => Mount::Dev { shm_size, host_devices },
            Mount::Tmpfs { target, size, mode } => Mount::Tmpfs { target, size, mode },
            Mount::TmpfsWith { target, options } => Mount::TmpfsWith { target, options },
            Mount::Device { source, target } => Mount::Device { source, target },
            Mount::Mask { target } => Mount::Mask { target },
            Mount::ReadOnly { target } => Mount::ReadOnly { target },
        })
    }
}

/// Bytes as text on the way between processes: each byte is the character of that number,
/// which keeps any name whole and plain ones short.
pub(super) mod bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::PathBuf;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// What is made of bytes.
    pub trait Bytes: Sized {
        fn bytes(&self) -> &[u8];
        fn from_bytes(bytes: Vec<u8>) -> Self;
    }

    impl Bytes for PathBuf {
        fn bytes(&self) -> &[u8] {
            self.as_os_str().as_bytes()
        }
        fn from_bytes(bytes: Vec<u8>) -> PathBuf {
            OsString::from_vec(bytes).into()
        }
    }

    impl Bytes for OsString {
        fn bytes(&self) -> &[u8] {
            self.as_os_str().as_bytes()
        }
        fn from_bytes(bytes: Vec<u8>) -> OsString {
            OsString::from_vec(bytes)
        }
    }

    impl Bytes for Vec<u8> {
        fn bytes(&self) -> &[u8] {
            self
        }
        fn from_bytes(bytes: Vec<u8>) -> Vec<u8> {
            bytes
        }
    }

    fn text(value: &impl Bytes) -> String {
        value.bytes().iter().map(|&byte| char::from(byte)).collect()
    }

    fn value<T: Bytes>(text: &str) -> Option<T> {
        let bytes: Option<Vec<u8>> = text.chars().map(|char| u8::try_from(u32::from(char)).ok()).collect();
        bytes.map(T::from_bytes)
    }

    pub fn serialize<T: Bytes, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(value))
    }

    pub fn deserialize<'de, T: Bytes, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        value(&String::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("not bytes"))
    }

    pub mod list {
        use super::{Bytes, Deserialize, Deserializer, Error, Serialize, Serializer};

        pub fn serialize<T: Bytes, S: Serializer>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
            values.iter().map(super::text).collect::<Vec<_>>().serialize(serializer)
        }

        pub fn deserialize<'de, T: Bytes, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
            let texts = Vec::<String>::deserialize(deserializer)?;
            let values: Option<Vec<T>> = texts.iter().map(|text| super::value(text)).collect();
            values.ok_or_else(|| D::Error::custom("not bytes"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn a_spec_survives_the_way() {
        let odd = OsString::from_vec((1..=255).collect());
        let spec: Spec<usize> = Spec {
            root: Root::Overlay {
                lowers: vec!["/l".into(), odd.clone().into()],
                upper: "/u".into(),
                work: "/w".into(),
                xattrs: OverlayXattrs::User,
                durable: false,
            },
            view: Some(5),
            mounts: vec![
                Mount::Bind {
                    source: BindSource::Fd(7),
                    target: odd.clone().into(),
                    read_only: true,
                    recursive: false,
                    make_points: false,
                },
                Mount::File { target: "/f".into(), content: vec![0, 10, 200], mode: 0o644, uid: 1, gid: 2 },
                Mount::Overlay {
                    state: State {
                        lowers: vec!["/l".into()],
                        upper: Some(Upper { upper: odd.clone().into(), work: "/w".into() }),
                        xattrs: OverlayXattrs::User,
                    },
                    source: odd.clone().into(),
                    target: "/t".into(),
                    read_only: false,
                },
            ],
            hostname: "h".into(),
            args: vec!["a".into(), odd.clone()],
            env: vec![odd.clone()],
            cwd: odd.clone().into(),
            make_cwd: false,
            user: User::default(),
            capabilities: DEFAULT_CAPABILITIES,
            no_new_privs: false,
            seccomp: Seccomp::Default,
            network: Network::Join(3),
            read_only_root: false,
            terminal: None,
            limits: Vec::new(),
            cgroup: None,
            cgroup_procs: vec![9],
            sysctls: Vec::new(),
            init: true,
            apparmor: None,
            mount_way: MountWay::Auto,
        };
        let text = serde_json::to_string(&spec).unwrap();
        let back: Spec<usize> = serde_json::from_str(&text).unwrap();
        assert_eq!(format!("{spec:?}"), format!("{back:?}"));
        let mut seen = Vec::new();
        let mut map = |fd| {
            seen.push(fd);
            Ok::<usize, ()>(fd + 1)
        };
        let mapped = back.map_fds(&mut map).unwrap();
        assert_eq!(seen, [7, 5, 3, 9]);
        assert_eq!(mapped.view, Some(6));
        assert_eq!(mapped.network, Network::Join(4));
    }
}
