//! A launcher that starts when the first process needs it: a cached build never pays for it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Launcher, SandboxError};

/// Starts a [`Launcher`] on first use.
#[derive(Debug)]
pub struct LazyLauncher {
    exe: PathBuf,
    started: Mutex<Option<Arc<Launcher>>>,
}

impl LazyLauncher {
    /// Makes a launcher that will run `exe`, this very program.
    pub fn new(exe: PathBuf) -> LazyLauncher {
        LazyLauncher { exe, started: Mutex::new(None) }
    }

    /// Returns the launcher, starting it where that was not done yet.
    pub fn get(&self) -> Result<Arc<Launcher>, SandboxError> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        match &*started {
            Some(launcher) => Ok(launcher.clone()),
            None => {
                let launcher = Arc::new(Launcher::start(&self.exe)?);
                *started = Some(launcher.clone());
                Ok(launcher)
            }
        }
    }
}
