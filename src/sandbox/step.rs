//! What a build step (RUN) sees: the spec of one, as container engines have it.
//!
//! Not here: which layers, which environment and which user (`worker`).

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::cgroup::CgroupLimits;
use super::limit::Limit;
use super::security::Security;
use super::spec::{
    BindSource, DEFAULT_CAPABILITIES, Mount, Network, Root, Seccomp, Spec, State, TerminalSize, User,
};
use super::sysctl::Sysctl;
use super::tmpfs::TmpfsOptions;
use crate::sys::overlay::MountWay;

/// The host name of a build step, the one BuildKit gives: programs that write it down give the same layer.
pub const HOSTNAME: &str = "buildkitsandbox";
/// Where a private certificate authority is seen.
pub const CA_PATH: &str = "/run/rbuild/ca.crt";
/// The variables by which programs are told of it.
pub const CA_VARIABLES: [&str; 6] = [
    "SSL_CERT_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
];
/// The size of `/dev/shm` in bytes where nobody asks for another.
pub const DEFAULT_SHM_SIZE: u64 = 64 << 20;

/// What of `/proc` and `/sys` tells about the host, and is hidden.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/interrupts",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// What of `/proc` changes the host.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What differs between steps.
#[derive(Debug)]
pub struct StepEnvironment {
    pub root: Root,
    /// See [`Spec::view`].
    pub view: Option<OwnedFd>,
    /// The program and its arguments.
    pub args: Vec<OsString>,
    /// `KEY=value`: PATH, the image's ENV, the ARGs. Nothing of the builder's own comes in.
    pub env: Vec<OsString>,
    /// Becomes HOME where `env` has none.
    pub home: String,
    /// Absolute.
    pub cwd: PathBuf,
    /// See [`Spec::make_cwd`].
    pub make_cwd: bool,
    pub user: User,
    pub network: Network,
    /// [`HOSTNAME`] for a build step.
    pub hostname: String,
    /// The content of `/etc/hosts`; see [`hosts_file`].
    pub hosts: Vec<u8>,
    /// Names and their addresses, for the end of `/etc/hosts`.
    pub extra_hosts: Vec<(String, String)>,
    /// The content of `/etc/resolv.conf`.
    pub resolv_conf: Vec<u8>,
    pub volumes: Vec<Volume>,
    /// Go over volumes; of mounts and volumes those of fewer names come first, else in this order.
    pub mounts: Vec<StepMount>,
    /// The size of `/dev/shm` in bytes.
    pub shm_size: u64,
    /// A heredoc that is a program: its name below `/dev/pipes`, and its text.
    pub script: Option<(String, Vec<u8>)>,
    /// A file of certificates to trust, seen at [`CA_PATH`].
    pub ca_cert: Option<PathBuf>,
    /// [`Security::Insecure`] overrides this and the next.
    pub capabilities: u64,
    pub seccomp: Seccomp,
    pub security: Security,
    pub no_new_privs: bool,
    pub apparmor: Option<String>,
    pub system_paths_unconfined: bool,
    pub read_only_root: bool,
    pub terminal: Option<TerminalSize>,
    pub limits: Vec<Limit>,
    pub cgroup: Option<CgroupLimits>,
    /// Devices of the host, and where they are seen.
    pub devices: Vec<(PathBuf, PathBuf)>,
    pub sysctls: Vec<Sysctl>,
    /// See [`Spec::init`].
    pub init: bool,
    pub mount_way: MountWay,
}

/// What `RUN --mount` adds.
#[derive(Debug)]
pub struct StepMount {
    /// Absolute.
    pub target: PathBuf,
    pub source: MountSource,
}

/// What a [`StepMount`] shows.
#[derive(Debug)]
pub enum MountSource {
    /// A file, directory or socket of the host, without what is mounted beneath it.
    Bind {
        source: BindSource<OwnedFd>,
        read_only: bool,
        /// Whether mount points of inner mounts may be made in it, and stay: a cache.
        make_points: bool,
    },
    /// A file or directory of another state.
    State {
        state: State,
        /// Absolute in the state, or relative to its root.
        path: PathBuf,
        read_only: bool,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// In bytes; 0 is half of the memory.
        size: u64,
        mode: u32,
    },
    /// The same with options of mount(8).
    TmpfsWith(TmpfsOptions),
    /// A read-only file that is in memory only: a secret.
    File {
        content: Vec<u8>,
        mode: u32,
        /// In ids of the sandbox.
        uid: u32,
        gid: u32,
    },
}

/// A file or directory of the host that a step sees.
#[derive(Debug)]
pub struct Volume {
    pub source: BindSource<OwnedFd>,
    /// Absolute.
    pub target: PathBuf,
    pub read_only: bool,
    /// Whether mount points of inner mounts may be made in it, and stay.
    pub make_points: bool,
}

impl StepEnvironment {
    /// Makes the environment of a build step with nothing special.
    pub fn new(root: Root, args: Vec<OsString>) -> StepEnvironment {
        StepEnvironment {
            root,
            view: None,
            args,
            env: Vec::new(),
            home: "/root".into(),
            cwd: "/".into(),
            make_cwd: false,
            user: User::default(),
            network: Network::None,
            hostname: HOSTNAME.into(),
            hosts: hosts_file(HOSTNAME),
            extra_hosts: Vec::new(),
            resolv_conf: Vec::new(),
            volumes: Vec::new(),
            mounts: Vec::new(),
            shm_size: DEFAULT_SHM_SIZE,
            script: None,
            ca_cert: None,
            capabilities: DEFAULT_CAPABILITIES,
            seccomp: Seccomp::Default,
            security: Security::Sandbox,
            no_new_privs: false,
            apparmor: None,
            system_paths_unconfined: false,
            read_only_root: false,
            terminal: None,
            limits: Vec::new(),
            cgroup: None,
            devices: Vec::new(),
            sysctls: Vec::new(),
            init: false,
            mount_way: MountWay::Auto,
        }
    }
}

/// Returns the `/etc/hosts` of a sandbox without a network of its own.
pub fn hosts_file(hostname: &str) -> Vec<u8> {
    format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n").into_bytes()
}

/// Makes the spec of a step.
pub fn step_spec(step: StepEnvironment) -> Spec {
    let path = PathBuf::from;
    let insecure = step.security == Security::Insecure;
    let read_only = !insecure;
    let file = |target, content, mode| Mount::File { target, content, mode, uid: 0, gid: 0 };
    let mut mounts = vec![
        Mount::Proc,
        Mount::Dev { shm_size: step.shm_size, host_devices: insecure },
        Mount::Sysfs { read_only },
        Mount::Cgroup { read_only },
    ];
    let mut hosts = step.hosts;
    for (name, address) in &step.extra_hosts {
        hosts.extend(format!("{address}\t{name}\n").into_bytes());
    }
    mounts.push(file(path("/etc/hosts"), hosts, 0o644));
    mounts.push(file(path("/etc/resolv.conf"), step.resolv_conf, 0o644));
    let mut env = step.env;
    let has = |env: &[OsString], name: &str| {
        let start = format!("{name}=");
        env.iter().any(|entry| entry.as_encoded_bytes().starts_with(start.as_bytes()))
    };
    if let Some(source) = step.ca_cert {
        let source = BindSource::Path(source);
        let target = path(CA_PATH);
        mounts.push(Mount::Bind { source, target, read_only: true, recursive: false, make_points: false });
        for name in CA_VARIABLES {
            if !has(&env, name) {
                env.push(format!("{name}={CA_PATH}").into());
            }
        }
    }
    if !has(&env, "HOME") {
        env.push(format!("HOME={}", step.home).into());
    }
    if let Some((name, content)) = step.script {
        mounts.push(file(path("/dev/pipes").join(name), content, 0o755));
    }
    let volume = |volume: Volume| {
        let Volume { source, target, read_only, make_points } = volume;
        (target.clone(), Mount::Bind { source, target, read_only, recursive: true, make_points })
    };
    let mut asked: Vec<(PathBuf, Mount)> = step.volumes.into_iter().map(volume).collect();
    let device = |(source, target): (PathBuf, PathBuf)| (target.clone(), Mount::Device { source, target });
    asked.extend(step.devices.into_iter().map(device));
    asked.extend(step.mounts.into_iter().map(|mount| (mount.target.clone(), mount.into())));
    // One inside another goes over it, however they were listed.
    asked.sort_by_key(|(target, _)| target.components().count());
    mounts.extend(asked.into_iter().map(|(_, mount)| mount));
    if !insecure && !step.system_paths_unconfined {
        // Last: nothing mounted before may bring back what these take away.
        mounts.extend(READ_ONLY.map(|target| Mount::ReadOnly { target: path(target) }));
        mounts.extend(MASKED.map(|target| Mount::Mask { target: path(target) }));
    }
    Spec {
        root: step.root,
        view: step.view,
        mounts,
        hostname: step.hostname,
        args: step.args,
        env,
        cwd: step.cwd,
        make_cwd: step.make_cwd,
        user: step.user,
        capabilities: if insecure { u64::MAX } else { step.capabilities },
        no_new_privs: step.no_new_privs,
        seccomp: if insecure { Seccomp::Unconfined } else { step.seccomp },
        network: step.network,
        read_only_root: step.read_only_root,
        terminal: step.terminal,
        limits: step.limits,
        cgroup: step.cgroup,
        cgroup_procs: Vec::new(),
        sysctls: step.sysctls,
        init: step.init,
        apparmor: step.apparmor,
        mount_way: step.mount_way,
    }
}

impl From<StepMount> for Mount {
    fn from(mount: StepMount) -> Mount {
        let target = mount.target;
        match mount.source {
            MountSource::Bind { source, read_only, make_points } => {
                Mount::Bind { source, target, read_only, recursive: false, make_points }
            }
            MountSource::State { state, path, read_only } => {
                Mount::Overlay { state, source: path, target, read_only }
            }
            MountSource::Tmpfs { size, mode } => Mount::Tmpfs { target, size, mode },
            MountSource::TmpfsWith(options) => Mount::TmpfsWith { target, options },
            MountSource::File { content, mode, uid, gid } => Mount::File { target, content, mode, uid, gid },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::overlay::OverlayXattrs;

    fn step() -> StepEnvironment {
        let root = Root::Overlay {
            lowers: vec![],
            upper: "/u".into(),
            work: "/w".into(),
            xattrs: OverlayXattrs::Trusted,
            durable: false,
        };
        StepEnvironment::new(root, vec!["true".into()])
    }

    fn check_env(env: &[&str], ca: bool, expect: &[&str]) {
        let mut step = step();
        step.env = env.iter().map(OsString::from).collect();
        step.ca_cert = ca.then(|| "/ca".into());
        let spec = step_spec(step);
        let expect: Vec<OsString> = expect.iter().map(OsString::from).collect();
        assert_eq!(spec.env, expect);
    }

    #[test]
    fn the_environment_is_what_was_given_and_home() {
        check_env(&["A=1"], false, &["A=1", "HOME=/root"]);
        check_env(&["HOME=/h", "HOMER=x"], false, &["HOME=/h", "HOMER=x"]);
        check_env(
            &["PIP_CERT=/mine", "HOME=/"],
            true,
            &[
                "PIP_CERT=/mine",
                "HOME=/",
                "SSL_CERT_FILE=/run/rbuild/ca.crt",
                "REQUESTS_CA_BUNDLE=/run/rbuild/ca.crt",
                "CURL_CA_BUNDLE=/run/rbuild/ca.crt",
                "GIT_SSL_CAINFO=/run/rbuild/ca.crt",
                "NODE_EXTRA_CA_CERTS=/run/rbuild/ca.crt",
            ],
        );
    }

    #[test]
    fn outer_volumes_come_before_inner_ones() {
        let mut step = step();
        let volume = |target: &str| Volume {
            source: BindSource::Path("/h".into()),
            target: target.into(),
            read_only: false,
            make_points: false,
        };
        let tmpfs = |target: &str| StepMount {
            target: target.into(),
            source: MountSource::Tmpfs { size: 0, mode: 0 },
        };
        step.volumes = vec![volume("/a/b"), volume("/a")];
        step.mounts = vec![tmpfs("/a/b/c"), tmpfs("/z"), tmpfs("/y")];
        let targets: Vec<_> = step_spec(step)
            .mounts
            .into_iter()
            .filter_map(|mount| match mount {
                Mount::Bind { target, .. } | Mount::Tmpfs { target, .. } => Some(target),
                _ => None,
            })
            .collect();
        assert_eq!(targets, ["/a", "/z", "/y", "/a/b", "/a/b/c"].map(PathBuf::from));
    }

    #[test]
    fn the_hosts_file() {
        let text = "127.0.0.1\tlocalhost h\n::1\tlocalhost ip6-localhost ip6-loopback\n";
        assert_eq!(hosts_file("h"), text.as_bytes());
    }
}
