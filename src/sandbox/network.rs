//! Private networks for steps and containers: a namespace with slirp4netns as its way out.
//!
//! Namespaces come from a pool, one per running step, since starting
//! slirp4netns costs more than the step's own set-up; one goes back only when
//! no socket is left in it. Without slirp4netns there is no private network and
//! the caller decides. Not here: joining a namespace (the launcher does).

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use crate::sys::{netns, spawn};

/// Says why a private network could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("cannot make a network namespace")]
    Namespace(#[source] io::Error),
    #[error("cannot start `{program}`")]
    Start { program: PathBuf, source: io::Error },
    #[error("`{program}` did not set up the network: {message}")]
    Setup { program: PathBuf, message: String },
}

/// Says why this machine can make no private networks.
#[derive(Debug, thiserror::Error)]
pub enum NoNetwork {
    #[error("slirp4netns is not installed")]
    NotInstalled,
    #[error("/dev/net/tun cannot be opened: {0}")]
    Device(#[source] io::Error),
    #[error("no namespaces can be made in this container")]
    NoNamespaces,
}

impl NoNetwork {
    /// Returns what to do about it.
    pub fn fix(&self) -> &'static str {
        match self {
            NoNetwork::NotInstalled => "install the package `slirp4netns`",
            NoNetwork::NoNamespaces => crate::sandbox::isolation::ALLOW,
            NoNetwork::Device(_) => {
                "load the kernel's module `tun`, and let users open the device, as udev does: `chmod 666 /dev/net/tun`"
            }
        }
    }
}

/// Returns the address by which other machines, and private networks, reach this one: the source address of its
/// default route.
pub fn host_address() -> Option<IpAddr> {
    // Nothing is sent: connect(2) of a datagram socket only looks the route up. The address is one
    // of those for documentation (RFC 5737).
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

/// Makes and keeps networks that have nothing but loopback.
#[derive(Default)]
pub struct EmptyNetworks {
    idle: Mutex<Vec<OwnedFd>>,
}

impl EmptyNetworks {
    /// Takes a namespace that nobody uses, or makes one.
    pub fn take(&self) -> Result<OwnedFd, NetworkError> {
        let idle = self.idle.lock().unwrap_or_else(|e| e.into_inner()).pop();
        idle.map_or_else(netns::create, Ok).map_err(NetworkError::Namespace)
    }

    /// Puts a namespace back for the next step, unless it is not as it was when it was new.
    pub fn give_back(&self, namespace: OwnedFd) {
        if netns::is_quiet(namespace.as_fd()).is_ok_and(|quiet| quiet) {
            self.idle.lock().unwrap_or_else(|e| e.into_inner()).push(namespace);
        }
    }
}

/// Makes and keeps private networks.
pub struct NetworkPool {
    program: PathBuf,
    idle: Mutex<Vec<PrivateNetwork>>,
}

/// A network namespace and the process that connects it.
pub struct PrivateNetwork {
    namespace: OwnedFd,
    slirp: Child,
    /// The sockets of the namespace when it was new, the network card's own; counted for those that go back to the pool.
    own_sockets: u64,
    /// slirp4netns ends when this is closed, so it cannot outlive this process.
    exit: Option<OwnedFd>,
    /// Whether this process ends too.
    leaving: bool,
}

/// A network that is being made. Its namespace is there; what connects it is still starting.
pub struct StartingNetwork {
    network: PrivateNetwork,
    /// Says `1` when it is configured.
    ready: io::PipeReader,
    program: PathBuf,
}

impl NetworkPool {
    /// Finds slirp4netns in `path` (a PATH value), and tries what it needs.
    pub fn find(path: &str) -> Result<NetworkPool, NoNetwork> {
        let program = std::env::split_paths(path)
            .chain(["/usr/bin", "/usr/local/bin", "/bin"].map(PathBuf::from))
            .map(|folder| folder.join("slirp4netns"))
            .find(|candidate| candidate.is_file())
            .ok_or(NoNetwork::NotInstalled)?;
        File::options().read(true).write(true).open("/dev/net/tun").map_err(NoNetwork::Device)?;
        Ok(NetworkPool { program, idle: Mutex::new(Vec::new()) })
    }

    /// Returns the program that connects the networks.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Takes a network from the pool, or makes one.
    pub fn take(&self) -> Result<PrivateNetwork, NetworkError> {
        let idle = self.idle.lock().unwrap_or_else(|e| e.into_inner()).pop();
        if let Some(mut network) = idle
            && matches!(network.slirp.try_wait(), Ok(None))
        {
            return Ok(network);
        }
        let mut network = self.begin()?.ready()?;
        network.own_sockets = netns::sockets(network.namespace()).map_err(NetworkError::Namespace)?;
        Ok(network)
    }

    /// Puts a network back for the next step, unless a socket is left in it.
    pub fn give_back(&self, network: PrivateNetwork) {
        if netns::sockets(network.namespace()).is_ok_and(|count| count == network.own_sockets) {
            self.idle.lock().unwrap_or_else(|e| e.into_inner()).push(network);
        }
    }

    /// Starts to make a network of its own for a container: other things can be done until it is
    /// [ready](StartingNetwork::ready).
    pub fn begin(&self) -> Result<StartingNetwork, NetworkError> {
        StartingNetwork::begin(&self.program)
    }
}

impl PrivateNetwork {
    /// Ends it without waiting for slirp4netns: for a process that ends right after.
    pub fn leave(mut self) {
        self.leaving = true;
    }

    /// Returns the network namespace.
    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

impl StartingNetwork {
    fn begin(program: &Path) -> Result<StartingNetwork, NetworkError> {
        let fail = |source| NetworkError::Start { program: program.to_owned(), source };
        let namespace = netns::create().map_err(NetworkError::Namespace)?;
        let (ready, ready_theirs) = io::pipe().map_err(fail)?;
        let (exit_theirs, exit) = io::pipe().map_err(fail)?;
        let mut command = Command::new(program);
        command.args(["--configure", "--mtu=65520", "--disable-host-loopback"]);
        command.args(["--enable-sandbox", "--enable-seccomp", "--ready-fd=3", "--exit-fd=4"]);
        command.args(["--netns-type=path", "/proc/self/fd/5", "tap0"]);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Numbers 3 to 5 may be taken by the very descriptors to pass on: move those out of the way.
        // No further than that: a table of more than 64 descriptors makes the kernel wait for all processors (RCU)
        // where the process has threads, which takes longer than all the rest.
        let high = |fd: OwnedFd| rustix::io::fcntl_dupfd_cloexec(&fd, 6).map_err(|e| fail(e.into()));
        let descriptors = vec![
            (high(ready_theirs.into())?, 3),
            (high(exit_theirs.into())?, 4),
            (high(namespace.try_clone().map_err(fail)?)?, 5),
        ];
        spawn::inherit(&mut command, descriptors);
        // Its own sandbox makes only the root of its mounts private, and then takes off all of them.
        spawn::own_mounts(&mut command);
        let slirp = command.spawn().map_err(fail)?;
        // The child's ends must be closed here, or its death would not be seen.
        drop(command);
        let network =
            PrivateNetwork { namespace, slirp, own_sockets: 0, exit: Some(exit.into()), leaving: false };
        Ok(StartingNetwork { network, ready, program: program.to_owned() })
    }

    /// Returns the network namespace, which may be joined already.
    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.network.namespace()
    }

    /// Waits until the network is configured.
    pub fn ready(self) -> Result<PrivateNetwork, NetworkError> {
        let StartingNetwork { mut network, mut ready, program } = self;
        let fail = |source| NetworkError::Start { program: program.clone(), source };
        let mut byte = [0u8; 1];
        let answered = ready.read(&mut byte).map_err(fail)?;
        let stderr = network.slirp.stderr.take();
        if answered == 0 || byte[0] != b'1' {
            let mut message = String::new();
            if let Some(stderr) = stderr {
                let _ = stderr.take(4096).read_to_string(&mut message);
            }
            let lines: Vec<&str> = message.lines().filter(|l| !l.starts_with("WARNING")).collect();
            let message = if lines.is_empty() { "it ended".to_owned() } else { lines.join("; ") };
            return Err(NetworkError::Setup { program, message });
        }
        // It may write warnings for as long as it lives; nobody reads them from here on.
        if let Some(mut stderr) = stderr {
            std::thread::spawn(move || io::copy(&mut stderr, &mut io::sink()));
        }
        Ok(network)
    }
}

impl Drop for PrivateNetwork {
    fn drop(&mut self) {
        self.exit.take();
        let _ = self.slirp.kill();
        if !self.leaving {
            let _ = self.slirp.wait();
        }
    }
}

impl std::fmt::Debug for StartingNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StartingNetwork({})", self.namespace().as_raw_fd())
    }
}

impl std::fmt::Debug for PrivateNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateNetwork({})", self.namespace.as_raw_fd())
    }
}
