//! What a build is asked for, what it needs of its surroundings, and what it answers.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use super::error::Findings;
use super::output::{Output, OutputResult};
use crate::image::{ImageId, Platform, Reference};
use crate::plan::Entitlements;
use crate::plan::graph::{BuildArgs, NetworkMode};
use crate::registry::Registries;
use crate::remote_cache::{Export, ImportFrom};
use crate::report::Reporter;
use crate::sandbox::{LazyLauncher, LazyNetworks};
use crate::solve::Cancel;
use crate::store::Store;
use crate::worker::{FetchOptions, StepOptions, Volume};

/// The largest Dockerfile that is read.
pub const MAX_DOCKERFILE_BYTES: u64 = 16 << 20;

/// What the engine works with; one value serves many builds.
pub struct Engine<'a> {
    pub store: &'a Store,
    /// Starts the processes of RUN steps.
    pub launcher: &'a LazyLauncher,
    /// Where private networks come from.
    pub networks: &'a LazyNetworks,
    /// The host's /etc/resolv.conf, as text.
    pub resolv_conf: String,
    /// How to reach the world, for what is fetched.
    pub fetch: FetchOptions,
    /// Where images come from that are not in the store, and where they go to.
    pub registries: &'a Registries,
    /// Why only one user id can be had, if so, and how to get more.
    pub single_id: Option<String>,
    pub reporter: &'a dyn Reporter,
    pub cancel: &'a Cancel,
}

impl Engine<'_> {
    /// Returns the same with another reporter.
    pub fn telling<'a>(&'a self, reporter: &'a dyn Reporter) -> Engine<'a> {
        Engine {
            resolv_conf: self.resolv_conf.clone(),
            fetch: self.fetch.clone(),
            single_id: self.single_id.clone(),
            reporter,
            ..*self
        }
    }
}

/// When an image that a build needs is asked for at its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Where the store has none of that name for the platform.
    #[default]
    Missing,
    /// Always: a registry that cannot be asked is an error.
    Always,
    /// Always; what the store has will do where the registry cannot be asked or has none.
    Newer,
    Never,
}

/// Where the Dockerfile is read from.
#[derive(Debug)]
pub enum DockerfileFrom {
    /// A path in the context; `None` is `Dockerfile`, or `dockerfile` where that is missing.
    Context(Option<String>),
    /// A file of the user's own choice, inside the context or not.
    File(PathBuf),
    Bytes {
        name: String,
        bytes: Vec<u8>,
    },
    /// A URL.
    Remote(String),
}

/// What a named context stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContextFrom {
    Directory(PathBuf),
    /// A URL or the address of a Git repository.
    Remote(String),
    /// A reference.
    Image(String),
    /// An image in a directory of the OCI image layout; the reference is a tag, a digest, or empty.
    OciLayout {
        path: PathBuf,
        reference: String,
    },
}

/// One image that a build is to make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The stage; `None` is the last one.
    pub target: Option<String>,
    pub tags: Vec<Reference>,
}

/// Where COPY and ADD read from.
#[derive(Debug)]
pub enum ContextFrom {
    Directory(PathBuf),
    /// A tar archive, possibly compressed.
    Tar(File),
    /// A URL or the address of a Git repository.
    Remote(String),
    /// No files at all.
    Nothing,
}

/// A build.
#[derive(Debug)]
pub struct BuildRequest {
    pub context: ContextFrom,
    pub dockerfile: DockerfileFrom,
    /// At least one; with more, each has a target.
    pub wanted: Vec<Wanted>,
    /// Named contexts.
    pub contexts: BTreeMap<String, NamedContextFrom>,
    /// The platform the image is for; `None` is that of this machine.
    pub platform: Option<Platform>,
    pub entitlements: Entitlements,
    pub build_args: BuildArgs,
    /// Proxies of RUN steps by their upper-case names, as build arguments that were not given; what was
    /// given counts for both spellings.
    pub proxies: Vec<(&'static str, String)>,
    pub labels: Vec<(String, String)>,
    pub network: NetworkMode,
    pub volumes: Vec<Volume>,
    pub ca_cert: Option<PathBuf>,
    /// Secrets, agents, limits and rights of RUN steps.
    pub step: StepOptions,
    pub no_cache: bool,
    /// Stages whose steps the cache must not answer.
    pub no_cache_filter: Vec<String>,
    /// Caches of elsewhere that answer where the store does not.
    pub cache_from: Vec<ImportFrom>,
    /// Caches to write.
    pub cache_to: Vec<Export>,
    pub pull: PullPolicy,
    /// What is written of all images, in this order; with several, none that holds but one.
    pub outputs: Vec<Output>,
}

impl BuildRequest {
    /// Makes a request that asks for nothing special.
    pub fn new(context: ContextFrom, dockerfile: DockerfileFrom) -> BuildRequest {
        BuildRequest {
            context,
            dockerfile,
            wanted: vec![Wanted::default()],
            contexts: BTreeMap::new(),
            platform: None,
            entitlements: Entitlements::default(),
            build_args: BuildArgs::new(),
            proxies: Vec::new(),
            labels: Vec::new(),
            network: NetworkMode::Default,
            volumes: Vec::new(),
            ca_cert: None,
            step: StepOptions::default(),
            no_cache: false,
            no_cache_filter: Vec::new(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            pull: PullPolicy::default(),
            outputs: Vec::new(),
        }
    }
}

/// What a build made.
#[derive(Debug, Clone)]
pub struct BuildResult {
    /// One for each that was wanted, in that order.
    pub images: Vec<BuiltImage>,
    /// What there is to say about the Dockerfile; none is an error.
    pub warnings: Findings,
    /// The id of the build, by which its log is kept.
    pub id: String,
}

/// One image that was made.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    pub target: Option<String>,
    pub image: ImageId,
    pub tags: Vec<Reference>,
    pub output: OutputResult,
}
