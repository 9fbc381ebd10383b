//! What this machine has of what sandboxes need, and how to get what is missing.
//!
//! For people: `rbuild doctor` shows the list. Each fact is tried where trying is
//! harmless, rather than guessed from a version. Not here: deciding anything by
//! it (whoever needs a thing tries it), networks in use (`network`).

mod container;

pub use container::around;

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::mount::FsOpenFlags;

use super::cgroup::{Cgroup, CgroupLimits};
use super::network::NetworkPool;
use crate::sys::mount::unshare_for_this_thread;
use crate::sys::overlay::{self, MountWay, Writable};
use crate::sys::userns::{self, Identity, UsernsError};

/// The oldest kernel that rbuild runs on.
const OLDEST_KERNEL: (u32, u32) = (5, 11);
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// What a fact is about; `doctor` shows them in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Kernel,
    User,
    Store,
    Network,
    Programs,
    Settings,
}

impl Group {
    /// All, in the order they are shown in.
    pub const ALL: [Group; 6] =
        [Group::Kernel, Group::User, Group::Store, Group::Network, Group::Programs, Group::Settings];

    /// Returns the name, as `doctor` writes it.
    pub fn name(self) -> &'static str {
        match self {
            Group::Kernel => "kernel",
            Group::User => "user",
            Group::Store => "store",
            Group::Network => "network",
            Group::Programs => "programs",
            Group::Settings => "settings",
        }
    }
}

/// One thing that a sandbox needs or can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub group: Group,
    pub name: &'static str,
    pub ok: bool,
    /// Nothing can be built without it.
    pub required: bool,
    /// What it is for, as the end of "needed for"; empty where the name says so.
    pub purpose: &'static str,
    /// What was found.
    pub detail: String,
    /// How to get it; empty when it is there.
    pub fix: String,
}

impl Fact {
    /// Makes a fact about the kernel that builds can do without; the fix is dropped where nothing is wrong.
    pub fn new(name: &'static str, ok: bool, detail: impl Into<String>, fix: impl Into<String>) -> Fact {
        let fix = if ok { String::new() } else { fix.into() };
        Fact { group: Group::Kernel, name, ok, required: false, purpose: "", detail: detail.into(), fix }
    }

    /// Says what the fact is about, and what it is needed for.
    pub fn of(self, group: Group, purpose: &'static str) -> Fact {
        Fact { group, purpose, ..self }
    }

    /// Says that nothing can be built without it.
    pub fn required(self) -> Fact {
        Fact { required: true, ..self }
    }
}

/// Looks at the machine.
///
/// `identity` is what `enter_if_needed` returned. `scratch` is an existing directory on
/// the file system of the store, where a layer or two may be made for a moment;
/// `program_path` is the PATH that programs are looked for in.
pub fn inspect(identity: &Identity, scratch: &Path, program_path: &str) -> Vec<Fact> {
    vec![
        kernel().of(Group::Kernel, "everything").required(),
        overlayfs(identity, scratch).of(Group::Kernel, "steps that start fast: it merges the layers beneath"),
        mount_calls().of(Group::Kernel, "fewer system calls per mount; mount(2) does the rest"),
        seccomp().of(Group::Kernel, "the filter of system calls around RUN steps"),
        control_groups().of(Group::Kernel, "limits of RUN steps: --memory, --cpu-quota, --cpuset-cpus"),
        foreign_programs().of(Group::Kernel, "images of other platforms"),
        user_namespaces(identity).of(Group::User, "builds of ordinary users").required(),
        id_programs(identity).of(Group::User, "builds with files of more than one user"),
        id_ranges(identity).of(Group::User, "builds with files of more than one user"),
        network_program(program_path)
            .of(Group::Network, "a network of their own for RUN steps and containers"),
        tun_device().of(Group::Network, "the same: slirp4netns makes an interface with it"),
    ]
}

/// Says how user namespaces become possible, for who could not make one.
pub fn enabling(error: &UsernsError) -> Vec<String> {
    let mut hints = Vec::new();
    match error {
        UsernsError::SwitchedOff { fix, .. } => {
            let setting = fix.trim_start_matches("sysctl -w ");
            hints.push(format!(
                "to keep it after the next start: `echo {setting} > /etc/sysctl.d/60-userns.conf`, as root"
            ));
        }
        UsernsError::Unshare(_) | UsernsError::WriteMap { .. } | UsernsError::Private(_) => hints.push(
            "inside a container its runtime forbids them: docker needs `--security-opt seccomp=unconfined \
             --security-opt apparmor=unconfined --security-opt systempaths=unconfined`, podman `--security-opt \
             unmask=ALL`; or run rbuild as root of a container with CAP_SYS_ADMIN"
                .to_owned(),
        ),
        UsernsError::Start(_) => {}
    }
    hints.push("`rbuild doctor` says what this machine lacks".to_owned());
    hints
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn kernel() -> Fact {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let (major, minor) = OLDEST_KERNEL;
    let ok = version(&release).is_some_and(|version| version >= OLDEST_KERNEL);
    Fact::new(
        "kernel",
        ok,
        format!("Linux {release}"),
        format!("rbuild needs Linux {major}.{minor} or newer"),
    )
}

/// Reads the first two numbers of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|char: char| !char.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn user_namespaces(identity: &Identity) -> Fact {
    let name = "user namespaces";
    let entered = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN));
    if identity.rootless && !entered {
        return Fact::new(name, true, "none entered: steps run in a chroot", "");
    }
    if identity.rootless {
        return Fact::new(name, true, format!("in one: root here is user {} outside", identity.uid), "");
    }
    match userns::switched_off() {
        None => Fact::new(name, true, "not needed as root; ordinary users may make them", ""),
        Some(reason) => Fact::new(name, true, format!("not needed as root; for others: {reason}"), ""),
    }
}

fn id_programs(identity: &Identity) -> Fact {
    let found: Vec<_> = ["newuidmap", "newgidmap"].into_iter().filter_map(userns::find_program).collect();
    let detail: Vec<_> = found.iter().map(|path| path.display().to_string()).collect();
    let detail = if detail.is_empty() { "missing".to_owned() } else { detail.join(", ") };
    let ok = found.len() == 2 || !identity.rootless || !identity.ids.single;
    Fact::new("newuidmap, newgidmap", ok, detail, "install the package `uidmap` (Debian) or `shadow-utils`")
}

fn id_ranges(identity: &Identity) -> Fact {
    let name = "subordinate ids";
    if !identity.rootless {
        return Fact::new(name, true, "not needed as root", "");
    }
    let count = |ranges: &[userns::IdRange]| ranges.iter().map(|range| u64::from(range.count)).sum::<u64>();
    let detail = format!("{} user ids, {} group ids", count(&identity.ids.uids), count(&identity.ids.gids));
    Fact::new(name, !identity.ids.single, detail, identity.ids.why.as_str())
}

/// Mounts a small writable overlay, in the mount namespace of a thread.
fn overlayfs(identity: &Identity, scratch: &Path) -> Fact {
    let name = "overlayfs";
    let xattrs = identity.xattrs;
    let attempt = || -> std::io::Result<()> {
        let directory = tempfile::Builder::new().prefix("doctor-").tempdir_in(scratch)?;
        let at = |name: &str| directory.path().join(name);
        for name in ["lower", "upper", "work", "root"] {
            fs::create_dir(at(name))?;
        }
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| -> std::io::Result<()> {
                let flags = rustix::thread::UnshareFlags::NEWNS | rustix::thread::UnshareFlags::FS;
                unshare_for_this_thread(flags)?;
                let private =
                    rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
                rustix::mount::mount_change("/", private)?;
                let lowers = [overlay::open_layer(&at("lower"))?];
                let (upper, work) = (overlay::open_layer(&at("upper"))?, overlay::open_layer(&at("work"))?);
                let directory = fs::File::open(directory.path())?;
                let writable = Writable {
                    lowers: &overlay::borrowed(&lowers),
                    upper: upper.as_fd(),
                    work: work.as_fd(),
                    xattrs,
                    durable: false,
                };
                overlay::attach_writable(&writable, directory.as_fd(), "root", MountWay::Auto).map(drop)
            });
            thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the thread panicked")))
        })
    };
    let fix = "the store must be on a local file system such as ext4, xfs, btrfs or tmpfs (`--root`), and the \
               module `overlay` must be there; inside a container, put the store on a volume";
    match attempt() {
        Ok(()) => Fact::new(name, true, format!("works on `{}`", scratch.display()), ""),
        Err(error) => Fact::new(name, false, format!("fails on `{}`: {error}", scratch.display()), fix),
    }
}

fn mount_calls() -> Fact {
    let name = "new mount calls";
    match rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(_) => Fact::new(name, true, "fsopen works", ""),
        Err(errno) => {
            Fact::new(name, false, format!("fsopen: {errno}; mount(2) is used"), "a newer kernel, or nothing")
        }
    }
}

fn seccomp() -> Fact {
    let actions = read("/proc/sys/kernel/seccomp/actions_avail");
    let ok = actions.as_deref().is_some_and(|text| text.split_whitespace().any(|action| action == "errno"));
    let detail = actions.map_or("missing".to_owned(), |actions| format!("actions: {actions}"));
    Fact::new("seccomp", ok, detail, "a kernel with CONFIG_SECCOMP_FILTER")
}

fn control_groups() -> Fact {
    let name = "control groups";
    let unified =
        rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|stat| stat.f_type as u64 == CGROUP2_SUPER_MAGIC);
    let hybrid = Path::new("/sys/fs/cgroup/unified").is_dir();
    let version = match (unified, hybrid) {
        (true, _) => "version 2",
        (false, true) => "version 1 with an unused version 2",
        (false, false) if Path::new("/sys/fs/cgroup/memory").is_dir() => "version 1",
        (false, false) => "none",
    };
    // Tried with a group that limits next to nothing; it goes away at once.
    let limits = CgroupLimits { memory: Some(1 << 40), cpu_shares: Some(1024), ..CgroupLimits::default() };
    match Cgroup::create(&limits) {
        Ok((_, notes)) if notes.is_empty() => {
            Fact::new(name, true, format!("{version}; limits can be set"), "")
        }
        Ok((_, notes)) => {
            let why: Vec<String> = notes.iter().map(ToString::to_string).collect();
            Fact::new(name, false, format!("{version}; {}", why.join("; ")), DELEGATE)
        }
        Err(error) => Fact::new(name, false, format!("{version}; no group can be made: {error}"), DELEGATE),
    }
}

/// How to get what `control_groups` tries.
const DELEGATE: &str = "as an ordinary user start builds with `systemd-run --user --scope -p Delegate=yes rbuild ...` \
    on a machine with version 2; in a container, one whose /sys/fs/cgroup can be written. Without it limits are \
    not kept, and a build that asks for them says so";

/// Opens the device that a private network's interface is made with.
fn tun_device() -> Fact {
    let (name, path) = ("/dev/net/tun", "/dev/net/tun");
    match fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Fact::new(name, true, "can be opened", ""),
        Err(error) => {
            let fix = match error.kind() {
                std::io::ErrorKind::PermissionDenied => "`sudo chmod 666 /dev/net/tun`",
                _ => {
                    "`sudo modprobe tun`; in a container, start it with `--device /dev/net/tun`; without it RUN steps \
                      have the network of this machine"
                }
            };
            Fact::new(name, false, format!("cannot be opened: {error}"), fix)
        }
    }
}

fn network_program(path: &str) -> Fact {
    match NetworkPool::find(path) {
        Ok(pool) => Fact::new("private network", true, pool.program().display().to_string(), ""),
        Err(why) => {
            let detail = format!("none, so steps use the network of this machine: {why}");
            Fact::new("private network", false, detail, why.fix())
        }
    }
}

/// Lists the processors that the kernel can run programs of through an interpreter.
fn foreign_programs() -> Fact {
    let directory = fs::read_dir("/proc/sys/fs/binfmt_misc");
    let mut names: Vec<String> = directory
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("qemu-").map(str::to_owned))
        .collect();
    names.sort();
    let detail = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    // Only images of other platforms need one.
    Fact::new("programs of other processors", true, detail, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::overlay::OverlayXattrs;
    use crate::sys::userns::IdMap;

    #[test]
    fn what_is_switched_off_can_be_switched_on() {
        let off =
            UsernsError::SwitchedOff { file: "/proc/x", fix: "sysctl -w user.max_user_namespaces=15000" };
        let hints = enabling(&off);
        assert!(hints[0].contains("`echo user.max_user_namespaces=15000 > /etc/sysctl.d/"), "{hints:?}");
        let hints = enabling(&UsernsError::Unshare(std::io::Error::from_raw_os_error(1)));
        assert!(hints[0].contains("seccomp=unconfined") && hints[1].contains("rbuild doctor"), "{hints:?}");
    }

    #[test]
    fn kernel_versions() {
        let check = |release: &str, expect: Option<(u32, u32)>| assert_eq!(version(release), expect);
        check("6.12.41+deb13-amd64", Some((6, 12)));
        check("5.11", Some((5, 11)));
        check("5.4.0-1-amd64", Some((5, 4)));
        check("weird", None);
    }

    #[test]
    fn what_is_missing_comes_with_a_fix() {
        let ids = IdMap { uids: vec![], gids: vec![], single: true, why: "get more".into() };
        let identity = Identity { rootless: true, xattrs: OverlayXattrs::User, uid: 7, gid: 7, ids };
        let facts = inspect(&identity, Path::new("/no/such/directory"), "/no/such/path");
        let fact = |name: &str| facts.iter().find(|fact| fact.name == name).unwrap();
        assert!(fact("kernel").ok);
        for name in ["subordinate ids", "overlayfs"] {
            assert!(!fact(name).ok && !fact(name).fix.is_empty(), "{:?}", fact(name));
        }
        assert_eq!(fact("subordinate ids").fix, "get more");
        assert!(facts.iter().all(|fact| fact.ok == fact.fix.is_empty()), "{facts:?}");
    }
}
