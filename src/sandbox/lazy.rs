//! A launcher that starts, and networks that are looked for, when the first process needs them: a cached
//! build never pays for it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::network::{NetworkPool, NoNetwork};
use super::{Isolation, Launcher, SandboxError};

/// Starts a [`Launcher`] on first use.
#[derive(Debug)]
pub struct LazyLauncher {
    exe: PathBuf,
    isolation: Isolation,
    started: Mutex<Option<Arc<Launcher>>>,
}

impl LazyLauncher {
    /// Makes a launcher that will run `exe`, this very program.
    pub fn new(exe: PathBuf) -> LazyLauncher {
        LazyLauncher { exe, isolation: Isolation::Namespaces, started: Mutex::new(None) }
    }

    /// Returns one for steps of this isolation.
    pub fn isolated(self, isolation: Isolation) -> LazyLauncher {
        LazyLauncher { isolation, ..self }
    }

    /// Returns how its steps are isolated.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Returns the launcher, starting it where that was not done yet.
    pub fn get(&self) -> Result<Arc<Launcher>, SandboxError> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        match &*started {
            Some(launcher) => Ok(launcher.clone()),
            None => {
                let launcher = Arc::new(Launcher::start_with(&self.exe, self.isolation)?);
                *started = Some(launcher.clone());
                Ok(launcher)
            }
        }
    }

    /// [Ends](Launcher::end) the launcher, where it was started: for a process that ends soon.
    pub fn end(&self) {
        if let Some(launcher) = &*self.started.lock().unwrap_or_else(PoisonError::into_inner) {
            launcher.end();
        }
    }
}

/// Finds out on first use whether this machine can make private networks.
pub struct LazyNetworks {
    /// A PATH value.
    path: String,
    found: OnceLock<Result<NetworkPool, NoNetwork>>,
}

impl LazyNetworks {
    /// Will look for the program in `path`, a PATH value.
    pub fn new(path: String) -> LazyNetworks {
        LazyNetworks { path, found: OnceLock::new() }
    }

    /// Has none, for this reason.
    pub fn without(why: NoNetwork) -> LazyNetworks {
        LazyNetworks { path: String::new(), found: OnceLock::from(Err(why)) }
    }

    /// Returns where private networks come from, or why there are none.
    pub fn get(&self) -> Result<&NetworkPool, &NoNetwork> {
        self.found.get_or_init(|| NetworkPool::find(&self.path)).as_ref()
    }
}
