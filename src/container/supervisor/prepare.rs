//! What a supervisor does before it knows its container: the sandbox's helper and a network take milliseconds to
//! start, and start beside each other while the client makes the container.
//!
//! Not here: what is done with them (`launch`, `connection`).

use std::path::PathBuf;
use std::sync::Arc;

use super::Preparation;
use super::clients::thread;
use crate::sandbox::network::{NetworkError, NoNetwork, StartingNetwork};
use crate::sandbox::{Isolation, LazyLauncher, LazyNetworks};

/// What is there, or on its way.
pub(super) struct Prepared {
    /// A PATH value.
    pub path: String,
    pub launcher: Arc<LazyLauncher>,
    pub networks: LazyNetworks,
    /// A network that nobody has yet, or why it could not be made.
    pub network: Option<Result<StartingNetwork, NetworkError>>,
}

impl Prepared {
    /// Begins with what is asked for. What fails is told when it is needed.
    pub fn begin(preparation: Preparation) -> Prepared {
        let Preparation { path, chroot, network } = preparation;
        let launcher = LazyLauncher::new(PathBuf::from("/proc/self/exe"));
        let (launcher, networks) = match chroot {
            true => (launcher.isolated(Isolation::Chroot), LazyNetworks::without(NoNetwork::NoNamespaces)),
            false => (launcher, LazyNetworks::new(path.clone())),
        };
        let launcher = Arc::new(launcher);
        let beside = launcher.clone();
        // Where no thread is left, it starts when it is needed.
        let _ = thread(move || drop(beside.get()));
        let begun = || networks.get().ok().map(|pool| pool.begin());
        let network = network.then(begun).flatten();
        Prepared { path, launcher, networks, network }
    }
}
