//! What a build asks for beside the file, and what is known of its base images.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::image::ImageConfig;
use crate::image::ImageId;
use crate::image::Platform;

use super::graph::BuildArgs;
use super::graph::NetworkMode;

/// The arguments of a build, as far as they change what there is to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// `--build-arg`, each with its value. The proxy variables are among them.
    pub build_args: BuildArgs,
    /// `--target`, each once; none is the last stage.
    pub targets: Vec<String>,
    /// The platform the image is for.
    pub platform: Platform,
    /// The platform the build runs on.
    pub build_platform: Platform,
    /// `--label`, in order; they come after the file's own.
    pub labels: Vec<(String, String)>,
    /// `--network`: what a RUN gets that does not say otherwise. `Host` is also the
    /// consent that `RUN --network=host` needs.
    pub network: NetworkMode,
    /// `--allow`.
    pub entitlements: Entitlements,
    /// `--build-context`, by name.
    pub contexts: BTreeMap<String, NamedContext>,
    /// The names of `--add-host`.
    pub extra_hosts: Vec<String>,
    /// `--volume`: destination and whether it is read-only.
    pub volumes: Vec<(String, bool)>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--no-cache-filter`: names of stages.
    pub no_cache_filter: Vec<String>,
}

impl Request {
    /// Makes a request that asks for nothing special, built on and for one platform.
    pub fn new(platform: Platform) -> Request {
        Request {
            build_args: BuildArgs::new(),
            targets: Vec::new(),
            build_platform: platform.clone(),
            platform,
            labels: Vec::new(),
            network: NetworkMode::Default,
            entitlements: Entitlements::default(),
            contexts: BTreeMap::new(),
            extra_hosts: Vec::new(),
            volumes: Vec::new(),
            no_cache: false,
            no_cache_filter: Vec::new(),
        }
    }

    /// Tells whether the steps of a stage must not be answered from the cache.
    pub(super) fn ignores_cache(&self, stage: Option<&str>) -> bool {
        self.no_cache
            || stage.is_some_and(|name| self.no_cache_filter.iter().any(|f| f.eq_ignore_ascii_case(name)))
    }
}

/// What the command line consents to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Entitlements {
    /// `network.host`: a RUN may use the network of the machine.
    pub network_host: bool,
    /// `security.insecure`: a RUN may do all that the caller may.
    pub security_insecure: bool,
}

/// What a named context stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// Files, which a vertex [`super::graph::ContextOp`] of its name brings.
    Files,
    /// An image, by the reference that [`Bases`] knows it by.
    Image(String),
}

/// A base image that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Base {
    pub image: ImageId,
    pub config: Arc<ImageConfig>,
}

/// The base images found so far, by the reference as the file says it (expanded) and platform.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bases(BTreeMap<(String, Platform), Base>);

impl Bases {
    /// Makes an empty map.
    pub fn new() -> Bases {
        Bases::default()
    }

    /// Adds what [`super::ImageNeed`] asked for, under the same reference and platform.
    pub fn insert(&mut self, reference: &str, platform: &Platform, base: Base) {
        self.0.insert((reference.to_owned(), platform.clone()), base);
    }

    /// Returns the image found for a reference.
    pub fn get(&self, reference: &str, platform: &Platform) -> Option<&Base> {
        self.0.get(&(reference.to_owned(), platform.clone()))
    }
}
