//! Private networks for steps and containers: a namespace with slirp4netns as its way out.
//!
//! Namespaces come from a pool, one per running step, since starting
//! slirp4netns costs more than the step's own set-up; one goes back only when
//! no socket is left in it. Without slirp4netns there is no private network and
//! the caller decides. Not here: joining a namespace (the launcher does).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

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
    #[error("cannot publish port {host_address}:{host_port}: {message}")]
    Publish { host_address: String, host_port: u16, message: String },
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

/// A port of the host that leads to one of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// An IPv4 address of the host; `0.0.0.0` for all.
    pub host_address: String,
    pub host_port: u16,
    pub container_port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
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
    /// The sockets of the namespace when it was new: the network card's own.
    own_sockets: u64,
    /// slirp4netns ends when this is closed, so it cannot outlive this process.
    exit: Option<OwnedFd>,
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
        PrivateNetwork::start(&self.program, &[])
    }

    /// Puts a network back for the next step, unless a socket is left in it.
    pub fn give_back(&self, network: PrivateNetwork) {
        if netns::sockets(network.namespace()).is_ok_and(|count| count == network.own_sockets) {
            self.idle.lock().unwrap_or_else(|e| e.into_inner()).push(network);
        }
    }

    /// Makes a network of its own for a container, with ports published on the host.
    pub fn dedicated(&self, ports: &[PublishedPort]) -> Result<PrivateNetwork, NetworkError> {
        PrivateNetwork::start(&self.program, ports)
    }
}

impl PrivateNetwork {
    /// Returns the network namespace.
    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    fn start(program: &Path, ports: &[PublishedPort]) -> Result<PrivateNetwork, NetworkError> {
        let fail = |source| NetworkError::Start { program: program.to_owned(), source };
        let namespace = netns::create().map_err(NetworkError::Namespace)?;
        let (ready, ready_theirs) = io::pipe().map_err(fail)?;
        let (exit_theirs, exit) = io::pipe().map_err(fail)?;
        let mut command = Command::new(program);
        command.args(["--configure", "--mtu=65520", "--disable-host-loopback"]);
        command.args(["--enable-sandbox", "--enable-seccomp", "--ready-fd=3", "--exit-fd=4"]);
        let api = match ports {
            [] => None,
            _ => Some(tempfile::Builder::new().prefix("rbuild-net-").tempdir().map_err(fail)?),
        };
        if let Some(api) = &api {
            command.arg("--api-socket").arg(api.path().join("api"));
        }
        command.args(["--netns-type=path", "/proc/self/fd/5", "tap0"]);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Numbers 3 to 5 may be taken by the very descriptors to pass on: move those out of the way.
        let high = |fd: OwnedFd| rustix::io::fcntl_dupfd_cloexec(&fd, 64).map_err(|e| fail(e.into()));
        let descriptors = vec![
            (high(ready_theirs.into())?, 3),
            (high(exit_theirs.into())?, 4),
            (high(namespace.try_clone().map_err(fail)?)?, 5),
        ];
        spawn::inherit(&mut command, descriptors);
        // Its own sandbox makes only the root of its mounts private, and then takes off all of them.
        spawn::own_mounts(&mut command);
        let mut slirp = command.spawn().map_err(fail)?;
        // The child's ends must be closed here, or its death would not be seen.
        drop(command);

        let mut byte = [0u8; 1];
        let answered = { ready }.read(&mut byte).map_err(fail)?;
        if answered == 0 || byte[0] != b'1' {
            let mut message = String::new();
            if let Some(stderr) = slirp.stderr.take() {
                let _ = stderr.take(4096).read_to_string(&mut message);
            }
            let _ = slirp.kill();
            let _ = slirp.wait();
            let lines: Vec<&str> = message.lines().filter(|l| !l.starts_with("WARNING")).collect();
            let message = if lines.is_empty() { "it ended".to_owned() } else { lines.join("; ") };
            return Err(NetworkError::Setup { program: program.to_owned(), message });
        }
        // It may write warnings for as long as it lives; nobody reads them from here on.
        if let Some(mut stderr) = slirp.stderr.take() {
            std::thread::spawn(move || io::copy(&mut stderr, &mut io::sink()));
        }
        let own_sockets = netns::sockets(namespace.as_fd()).map_err(NetworkError::Namespace)?;
        let network = PrivateNetwork { namespace, slirp, own_sockets, exit: Some(exit.into()) };
        // The socket is needed for this alone: removed right after, it cannot be left behind.
        if let Some(api) = api {
            for port in ports {
                publish(&api.path().join("api"), port)?;
            }
        }
        Ok(network)
    }
}

/// Asks slirp4netns to forward a port (slirp4netns(1), "API SOCKET").
fn publish(api: &Path, port: &PublishedPort) -> Result<(), NetworkError> {
    let fail = |message: String| NetworkError::Publish {
        host_address: port.host_address.clone(),
        host_port: port.host_port,
        message,
    };
    let request = serde_json::json!({
        "execute": "add_hostfwd",
        "arguments": {
            "proto": port.protocol,
            "host_addr": port.host_address,
            "host_port": port.host_port,
            "guest_port": port.container_port,
        },
    });
    let exchange = || -> io::Result<String> {
        let mut stream = UnixStream::connect(api)?;
        stream.write_all(request.to_string().as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        BufReader::new(stream.take(64 * 1024)).read_line(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|e| fail(e.to_string()))?;
    let answer: serde_json::Value = serde_json::from_str(&answer).map_err(|e| fail(e.to_string()))?;
    match answer["error"]["desc"].as_str() {
        Some(text) if text.contains("add_hostfwd") => Err(fail("address already in use".to_owned())),
        Some(text) => Err(fail(text.to_owned())),
        None => Ok(()),
    }
}

impl Drop for PrivateNetwork {
    fn drop(&mut self) {
        self.exit.take();
        let _ = self.slirp.kill();
        let _ = self.slirp.wait();
    }
}

impl std::fmt::Debug for PrivateNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateNetwork({})", self.namespace.as_raw_fd())
    }
}
