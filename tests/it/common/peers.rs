//! Other engines that the tests load and save images with: podman and docker.

use rustix::process::Signal;

use super::command::{Cmd, Job, Outcome};
use super::env::TestEnv;

/// A podman with a store of its own, as who runs the suite.
///
/// With runc, since crun wants one kind of cgroups.
pub struct Podman<'e> {
    env: &'e TestEnv,
    root: String,
    driver: &'static str,
}

impl<'e> Podman<'e> {
    pub fn new(env: &'e TestEnv) -> Podman<'e> {
        Podman { env, root: env.path_str("podman"), driver: "vfs" }
    }

    /// Does the same, with another way to keep layers.
    pub fn with_storage(env: &'e TestEnv, driver: &'static str) -> Podman<'e> {
        Podman { driver, ..Podman::new(env) }
    }

    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Outcome {
        let (root, run) = (self.root.as_str(), format!("{}-run", self.root));
        let own = ["--root", root, "--runroot", &run, "--storage-driver", self.driver];
        let runtime = ["--cgroup-manager", "cgroupfs", "--runtime", "runc"];
        self.env.program("podman", &[&own[..], &runtime, args].concat()).without_changing_user().output()
    }
}

/// A Docker engine that was started for the test, and is stopped by it.
pub struct Docker<'e> {
    env: &'e TestEnv,
    host: String,
    daemon: Job,
}

impl<'e> Docker<'e> {
    /// Starts an engine without networks; an error says why that cannot be.
    pub fn start(env: &'e TestEnv) -> Result<Docker<'e>, String> {
        Docker::with_storage(env, "vfs")
    }

    /// Does the same, with another way to keep layers: `overlay2`, as engines mostly have it.
    pub fn with_storage(env: &'e TestEnv, driver: &str) -> Result<Docker<'e>, String> {
        for tool in ["dockerd", "docker"] {
            if env.program("sh", &["-c", &format!("command -v {tool}")]).output().code != Some(0) {
                return Err(format!("{tool} is not installed"));
            }
        }
        let base = env.path_str("docker");
        std::fs::create_dir(&base).unwrap();
        let host = format!("unix://{base}/sock");
        let places = [
            format!("--data-root={base}/data"),
            format!("--exec-root={base}/exec"),
            format!("--pidfile={base}/pid"),
        ];
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let own = ["-H", &host, "--bridge=none", "--iptables=false", "--ip6tables=false"];
        let daemon = env
            .program("dockerd", &[&places[..], &own, &[&format!("--storage-driver={driver}")]].concat())
            // Own mount namespace: what the engine leaves mounted goes with it.
            .behind(&["unshare", "--mount", "--propagation", "private"])
            .spawn();
        daemon.wait_for("API listen on");
        Ok(Docker { env, host, daemon })
    }

    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Outcome {
        self.command(args).output()
    }

    /// A command of the engine's client, to be run.
    pub fn command(&self, args: &[&str]) -> Cmd<'e> {
        self.env.program("docker", &[&["-H", &self.host], args].concat())
    }

    /// The major number of the engine's version.
    pub fn version(&self) -> u32 {
        let version = self.run(&["version", "-f", "{{.Server.Version}}"]).ok().stdout;
        version.split('.').next().unwrap().parse().unwrap()
    }

    pub fn stop(self) {
        self.daemon.signal(Signal::TERM);
        self.daemon.finish();
    }
}
