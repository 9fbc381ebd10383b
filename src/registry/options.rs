//! What the caller says about how registries are reached.
//!
//! Not here: reading the files that are named.

use crate::net::{ProxySettings, RetryPolicy};

/// How registries are reached; nothing of it is read before it is needed.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// The environment's.
    pub proxies: ProxySettings,
    pub retry: RetryPolicy,
}
