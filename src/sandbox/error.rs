//! What can go wrong between a spec and its first instruction.
//!
//! The child's errors are values that cross two processes: an errno, not an
//! `io::Error`. Not here: how the program itself ends (`launcher::Exit`).

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use super::cgroup::CgroupError;
use super::chroot::ChrootError;

/// Why a sandbox did not start, or was lost.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("cannot start the sandbox helper `{exe}`: {source}")]
    StartHelper { exe: String, source: io::Error },
    #[error("cannot protect the sandbox helper's program `{exe}` from the sandbox: {source}")]
    ProtectHelper { exe: String, source: io::Error },
    #[error("the sandbox helper ended unexpectedly")]
    HelperGone,
    #[error("cannot hand the step to the sandbox helper: {0}")]
    Send(#[source] io::Error),
    #[error("cannot hear from the sandbox helper: {0}")]
    Receive(#[source] io::Error),
    #[error("the sandbox helper said something unknown: {0}")]
    Message(#[source] serde_json::Error),
    #[error("cannot take the source of the mount at `{target}`: {source}")]
    BindSource { target: String, source: io::Error },
    #[error(transparent)]
    Chroot(#[from] ChrootError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("where containers run in a chroot, no further process can be started in one (see `--isolation`)")]
    EnterChroot,
    #[error("cannot signal the step: {0}")]
    Signal(#[source] io::Error),
    #[error(transparent)]
    Step(#[from] StepError),
}

impl SandboxError {
    /// Returns the reason where overlayfs could not be mounted: before anything ran.
    pub fn overlay_refused(&self) -> Option<String> {
        match self {
            SandboxError::Step(StepError::Overlay(error) | StepError::OtherState { error, .. }) => {
                Some(error.to_string())
            }
            _ => None,
        }
    }

    /// Returns what kept the program itself from starting, when that is the reason.
    pub fn exec(&self) -> Option<&ExecError> {
        match self {
            SandboxError::Step(StepError::Exec(error)) => Some(error),
            _ => None,
        }
    }
}

/// An error number that can cross processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Os(pub i32);

impl fmt::Display for Os {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the number that the standard library puts behind.
        let text = io::Error::from_raw_os_error(self.0).to_string();
        f.write_str(text.split(" (os error").next().unwrap_or(&text))
    }
}

impl std::error::Error for Os {}

impl From<rustix::io::Errno> for Os {
    fn from(errno: rustix::io::Errno) -> Os {
        Os(errno.raw_os_error())
    }
}

impl From<nix::errno::Errno> for Os {
    fn from(errno: nix::errno::Errno) -> Os {
        Os(errno as i32)
    }
}

impl From<io::Error> for Os {
    fn from(error: io::Error) -> Os {
        Os(error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error()))
    }
}

/// Which step of setting up the child failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StepError {
    #[error("the sandbox helper cannot read the step: {0}")]
    Order(String),
    #[error("cannot make the process and its namespaces: {0}")]
    Clone(Os),
    #[error("cannot make the process that watches over the step: {0}")]
    Keeper(Os),
    #[error("cannot keep the step to its root (Landlock): {0}")]
    Landlock(Os),
    #[error("cannot start a session: {0}")]
    Session(Os),
    #[error("cannot make the mounts private: {0}")]
    Private(Os),
    #[error("cannot open layer `{path}`: {error}")]
    OpenLayer { path: String, error: Os },
    #[error("cannot make the scratch file system: {0}")]
    Scratch(Os),
    #[error("{0} layers are too many: the kernel merges at most 500")]
    TooManyLayers(usize),
    #[error("cannot mount the root file system (overlay): {0}")]
    Overlay(Os),
    #[error("cannot mount the root file system (a directory): {0}")]
    Root(Os),
    #[error("cannot make the mount point `{target}`: {error}")]
    MountPoint { target: String, error: Os },
    #[error("`{0}` of the image is a link; the file system that belongs there needs a directory")]
    LinkedMountPoint(String),
    #[error("cannot mount the other state for `{target}` (overlay): {error}")]
    OtherState { target: String, error: Os },
    #[error("cannot mount `{source_path}` of the other state at `{target}`: {error}")]
    NotInState { source_path: String, target: String, error: Os },
    #[error(
        "user {uid} or group {gid}, which is to own `{target}`, does not exist in this user namespace: more subordinate ids are needed (`/etc/subuid`, `/etc/subgid`)"
    )]
    UnmappedOwner { target: String, uid: u32, gid: u32 },
    #[error("cannot join the step's control group: {0}")]
    JoinCgroup(Os),
    #[error(
        "cannot use the AppArmor profile `{profile}`: {error}; it must be loaded in the kernel (`aa-status` lists those that are)"
    )]
    AppArmor { profile: String, error: Os },
    #[error("cannot open `{source_path}` to mount it at `{target}`: {error}")]
    OpenSource { source_path: String, target: String, error: Os },
    #[error("cannot mount {what} at `{target}`: {error}")]
    Mount { what: String, target: String, error: Os },
    #[error(
        "cannot mount {what} at `{target}`: {error}; the sandbox around this process hides parts of /proc, as an unprivileged container does: run it with `--security-opt systempaths=unconfined`"
    )]
    MountHidden { what: String, target: String, error: Os },
    #[error("cannot make `{target}` read-only: {error}")]
    ReadOnly { target: String, error: Os },
    #[error("`{target}` is not the {expected} file system that was mounted there")]
    NotWhatWasMounted { target: String, expected: String },
    #[error("cannot make `{target}`: {error}")]
    DeviceFile { target: String, error: Os },
    #[error("cannot set the host name `{name}`: {error}")]
    Hostname { name: String, error: Os },
    #[error("cannot set `{name}` (--sysctl): {error}")]
    Sysctl { name: String, error: Os },
    #[error("cannot start a first process (--init): {0}")]
    Init(Os),
    #[error("cannot bring up the loopback interface: {0}")]
    Loopback(Os),
    #[error("cannot enter the network namespace: {0}")]
    JoinNetwork(Os),
    #[error("cannot change the root directory ({call}): {error}")]
    ChangeRoot { call: String, error: Os },
    #[error("cannot make the terminal ({call}): {error}")]
    Terminal { call: String, error: Os },
    #[error("cannot set up standard input and output: {0}")]
    Stdio(Os),
    #[error("cannot make the working directory `{path}`: {error}")]
    MakeDirectory { path: String, error: Os },
    #[error("cannot enter the working directory `{path}`: {error}")]
    WorkingDirectory { path: String, error: Os },
    #[error("the working directory `{path}` is outside of the root")]
    OutsideRoot { path: String },
    #[error("cannot set the resource limit {kind}: {error}")]
    Limit { kind: String, error: Os },
    #[error("cannot limit the capabilities ({call}): {error}")]
    Capabilities { call: String, error: Os },
    #[error(
        "user {uid} (group {gid}) does not exist in this user namespace: more subordinate ids are needed (`/etc/subuid`, `/etc/subgid`)"
    )]
    UnmappedUser { uid: u32, gid: u32 },
    #[error("cannot become user {uid} ({call}): {error}")]
    BecomeUser { uid: u32, call: String, error: Os },
    #[error("cannot load the system call filter: {0}")]
    Seccomp(Os),
    #[error("cannot enter the namespaces of the process: {0}")]
    EnterNamespaces(Os),
    #[error("the process whose namespaces were to be entered has ended")]
    Ended,
    #[error("`{0}` is not the file system of terminals that was mounted there")]
    NoTerminals(String),
    #[error("cannot hide the process from those in the container: {0}")]
    Hide(Os),
    #[error("cannot close inherited descriptors: {0}")]
    CloseDescriptors(Os),
    #[error(transparent)]
    Exec(#[from] ExecError),
}

/// Why the program itself could not be started; words and codes as container engines use them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("exec: \"{program}\": {failure}")]
pub struct ExecError {
    /// As the caller gave it.
    pub program: String,
    pub failure: ExecFailure,
}

/// The kinds of [`ExecError`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ExecFailure {
    #[error("executable file not found in $PATH")]
    NotInPath,
    #[error("stat {0}: no such file or directory")]
    NotFound(String),
    #[error("permission denied")]
    PermissionDenied,
    #[error("is a directory: permission denied")]
    IsDirectory,
    #[error("exec format error")]
    NotExecutable,
    #[error("its interpreter `{0}` does not exist")]
    MissingInterpreter(String),
    #[error("argument list too long")]
    TooLong,
    #[error("an argument or variable holds a NUL byte")]
    NulByte,
    #[error("{0}")]
    Other(Os),
}

impl ExecError {
    /// Returns what a shell and `docker run` exit with: 127 not found, 126 not executable.
    pub fn exit_code(&self) -> u8 {
        match self.failure {
            ExecFailure::NotInPath | ExecFailure::NotFound(_) | ExecFailure::MissingInterpreter(_) => 127,
            _ => 126,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_cross_as_text_and_read_well() {
        let error = StepError::Mount { what: "tmpfs".into(), target: "/x".into(), error: Os(13) };
        let text = serde_json::to_string(&error).unwrap();
        assert_eq!(serde_json::from_str::<StepError>(&text).unwrap(), error);
        assert_eq!(error.to_string(), "cannot mount tmpfs at `/x`: Permission denied");
    }

    #[test]
    fn exec_errors_have_the_words_and_codes_of_container_engines() {
        let error = |failure| ExecError { program: "foo".into(), failure };
        let missing = error(ExecFailure::NotInPath);
        assert_eq!(missing.to_string(), "exec: \"foo\": executable file not found in $PATH");
        assert_eq!(missing.exit_code(), 127);
        assert_eq!(error(ExecFailure::PermissionDenied).exit_code(), 126);
    }
}
