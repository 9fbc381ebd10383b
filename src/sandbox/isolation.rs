//! How steps are kept apart from the machine, and how that is chosen.
//!
//! In namespaces, if in any way they can be had. Inside of a container that gives none, and nowhere
//! else, in a chroot. Never weaker without a word: on a machine of one's own that lacks namespaces
//! the answer is an error. Not here: doing either (`child`, `chroot`).

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use rustix::thread::CapabilitySet;

/// What is around a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Namespaces of its own: mounts, processes, network, names, IPC.
    #[default]
    Namespaces,
    /// A root of its own alone: processes, network and limits are those of the container around it.
    Chroot,
}

/// What `--isolation` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WantedIsolation {
    /// Namespaces; a chroot inside of a container that allows none.
    #[default]
    Default,
    Namespaces,
    Chroot,
}

/// The words of `--isolation`: docker's, and buildah's where they fit.
pub const WORDS: &str = "default, namespaces (or oci, rootless), chroot";

impl FromStr for WantedIsolation {
    type Err = String;

    fn from_str(word: &str) -> Result<WantedIsolation, String> {
        match word {
            "" | "default" => Ok(WantedIsolation::Default),
            "namespaces" | "oci" | "rootless" => Ok(WantedIsolation::Namespaces),
            "chroot" => Ok(WantedIsolation::Chroot),
            _ => Err(format!("the isolation `{word}` does not exist on Linux; there are {WORDS}")),
        }
    }
}

/// What a process can tell of where it runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// What shows that this is inside of a container: a file or a variable.
    pub container: Option<String>,
    /// Whether this is the container's root, with the capabilities that a chroot takes.
    pub root: bool,
    /// Those of them that are missing.
    pub missing: Vec<&'static str>,
}

/// What a chroot and its files take, beside root.
const NEEDED: [(&str, CapabilitySet); 7] = [
    ("SYS_CHROOT", CapabilitySet::SYS_CHROOT),
    ("MKNOD", CapabilitySet::MKNOD),
    ("CHOWN", CapabilitySet::CHOWN),
    ("DAC_OVERRIDE", CapabilitySet::DAC_OVERRIDE),
    ("FOWNER", CapabilitySet::FOWNER),
    ("SETUID", CapabilitySet::SETUID),
    ("SETGID", CapabilitySet::SETGID),
];
/// What container engines leave in a container: a file (docker, podman) or a variable
/// (systemd's convention, Kubernetes).
const FILES: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];
const VARIABLES: [&str; 2] = ["container", "KUBERNETES_SERVICE_HOST"];
/// Where runtimes name the container in the path of its control group or of its root's mount.
const HINTS: [&str; 6] =
    ["/docker/", "/kubepods", "/containerd/", "/libpod-", "/crio-", "/io.containerd.snapshotter"];

impl Surroundings {
    /// Looks around; `variable` reads the environment.
    pub fn look(variable: impl Fn(&str) -> Option<String>) -> Surroundings {
        let file = FILES.iter().find(|file| Path::new(file).exists()).map(|file| format!("`{file}`"));
        let variable = || {
            let set = |name: &&&str| variable(name).is_some_and(|value| !value.is_empty());
            VARIABLES.iter().find(set).map(|name| format!("the variable `{name}`"))
        };
        let hint = || {
            let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
            (hints_at_container(&read("/proc/self/cgroup")).then(|| "`/proc/self/cgroup`".to_owned()))
                .or_else(|| root_hints(&read("/proc/self/mountinfo")).then(|| "the mount at `/`".to_owned()))
        };
        let has =
            rustix::thread::capabilities(None).map(|sets| sets.effective).unwrap_or(CapabilitySet::empty());
        let missing: Vec<_> =
            NEEDED.iter().filter(|(_, set)| !has.contains(*set)).map(|(name, _)| *name).collect();
        let root = rustix::process::geteuid().is_root();
        Surroundings { container: file.or_else(variable).or_else(hint), root, missing }
    }
}

fn hints_at_container(text: &str) -> bool {
    HINTS.iter().any(|hint| text.contains(hint))
}

/// Tells whether the root is one that a container engine mounted.
fn root_hints(mountinfo: &str) -> bool {
    let root = mountinfo.lines().find(|line| line.split(' ').nth(4) == Some("/"));
    root.is_some_and(|line| {
        line.contains(" - overlay ") && (line.contains("/overlay2/") || hints_at_container(line))
    })
}

/// Why steps cannot be isolated as they are to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoIsolation {
    /// Not in a container, or namespaces were asked for.
    #[error("{0}")]
    NoNamespaces(String),
    #[error("{why}; and only root can have steps run in a chroot")]
    NotRoot { why: String },
    #[error("{why}; and a chroot takes capabilities that this process lacks: {}", .missing.join(", "))]
    Capabilities { why: String, missing: Vec<&'static str> },
}

impl NoIsolation {
    /// Returns what to do next, a line each.
    pub fn hints(&self, surroundings: &Surroundings) -> Vec<String> {
        let mut hints = Vec::new();
        if surroundings.container.is_some() {
            hints.push(ALLOW.to_owned());
        }
        match self {
            NoIsolation::NotRoot { .. } => {
                hints.push("or run it as the container's root: then steps run in a chroot".to_owned());
            }
            NoIsolation::Capabilities { missing, .. } => {
                let add: Vec<String> = missing.iter().map(|name| format!("--cap-add {name}")).collect();
                hints.push(format!(
                    "or give the container these capabilities, which are docker's own: {}",
                    add.join(" ")
                ));
            }
            NoIsolation::NoNamespaces(_) if surroundings.container.is_some() => {
                hints.push("or leave the choice to rbuild (`--isolation default`)".to_owned());
            }
            NoIsolation::NoNamespaces(_) => {}
        }
        hints
    }
}

/// How a container is made to allow namespaces.
pub const ALLOW: &str = "to allow namespaces in the container: `docker run --security-opt seccomp=unconfined \
    --security-opt apparmor=unconfined`; in Kubernetes `hostUsers: false` and a seccomp profile that has unshare \
    and mount";

/// Chooses; `namespaces` says why none can be had, if so.
pub fn choose(
    wanted: WantedIsolation,
    namespaces: Result<(), String>,
    surroundings: &Surroundings,
) -> Result<Isolation, NoIsolation> {
    let why = match (wanted, namespaces) {
        (WantedIsolation::Chroot, namespaces) => namespaces.err().unwrap_or_default(),
        (_, Ok(())) => return Ok(Isolation::Namespaces),
        (WantedIsolation::Namespaces, Err(why)) => return Err(NoIsolation::NoNamespaces(why)),
        (WantedIsolation::Default, Err(why)) if surroundings.container.is_none() => {
            return Err(NoIsolation::NoNamespaces(why));
        }
        (WantedIsolation::Default, Err(why)) => why,
    };
    let why = match why.is_empty() {
        true => "a chroot was asked for".to_owned(),
        false => why,
    };
    if !surroundings.root {
        return Err(NoIsolation::NotRoot { why });
    }
    if !surroundings.missing.is_empty() {
        return Err(NoIsolation::Capabilities { why, missing: surroundings.missing.clone() });
    }
    Ok(Isolation::Chroot)
}

/// The one line that `rbuild run` says in a chroot.
pub const CHROOT_CONTAINER_WARNING: &str = "warning: no namespaces are used here, so the container is but a chroot: it \
    shares processes, network and limits with what is around it, and has no /proc";

/// The one line that a build in a chroot says.
pub const CHROOT_WARNING: &str = "warning: no namespaces are used here, so RUN steps run in a chroot: they share \
    processes, network and limits with what is around them, and have no /proc; build only what you trust \
    (`rbuild doctor` says how to allow namespaces)";

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isolation::Namespaces => "namespaces",
            Isolation::Chroot => "chroot",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside() -> Surroundings {
        Surroundings { container: Some("`/.dockerenv`".into()), root: true, missing: vec![] }
    }

    fn check(wanted: &str, namespaces: bool, at: &Surroundings, expect: Result<Isolation, &str>) {
        let found = if namespaces { Ok(()) } else { Err("no namespaces".to_owned()) };
        let chosen = choose(wanted.parse().unwrap(), found, at);
        match (chosen, expect) {
            (Ok(chosen), Ok(expect)) => assert_eq!(chosen, expect),
            (Err(error), Err(expect)) => assert!(error.to_string().contains(expect), "{error}"),
            (chosen, expect) => panic!("{chosen:?}, and not {expect:?}"),
        }
    }

    #[test]
    fn namespaces_where_they_can_be_had() {
        for at in [Surroundings::default(), inside()] {
            for word in ["", "default", "namespaces", "oci", "rootless"] {
                check(word, true, &at, Ok(Isolation::Namespaces));
            }
        }
        check("chroot", true, &inside(), Ok(Isolation::Chroot));
    }

    #[test]
    fn a_chroot_only_inside_a_container() {
        check("default", false, &inside(), Ok(Isolation::Chroot));
        check("default", false, &Surroundings { container: None, ..inside() }, Err("no namespaces"));
        check("namespaces", false, &inside(), Err("no namespaces"));
        check("default", false, &Surroundings { root: false, ..inside() }, Err("only root"));
        check("default", false, &Surroundings { missing: vec!["MKNOD"], ..inside() }, Err("lacks: MKNOD"));
        check("chroot", true, &Surroundings { root: false, ..inside() }, Err("a chroot was asked for; and"));
    }

    #[test]
    fn words() {
        assert!("hyperv".parse::<WantedIsolation>().unwrap_err().contains("does not exist on Linux"));
    }

    #[test]
    fn containers_by_their_traces() {
        let check = |text: &str, expect: bool| assert_eq!(hints_at_container(text), expect, "{text}");
        check("5:devices:/docker/2ff83a\n", true);
        check("0::/kubepods.slice/pod7.slice/cri-containerd-9.scope\n", true);
        check("0::/\n", false);
        check("0::/system.slice/docker.service\n", false);
        let root = |text: &str| root_hints(&format!("1 2 0:39 / /proc rw - proc proc rw\n{text}\n"));
        assert!(root(
            "96 71 0:39 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A"
        ));
        assert!(!root("22 1 254:0 / / rw,relatime - ext4 /dev/vda rw"));
        assert!(!root("22 1 0:9 / / rw - overlay overlay rw,lowerdir=/run/live/rootfs"));
    }
}
