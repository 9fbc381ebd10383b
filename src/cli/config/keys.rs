//! Every key of the configuration files: its type, its default, what it stands in for.

use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::Config;
use crate::cli::{units, when};

/// The sections.
pub const SECTIONS: [&str; 3] = ["build", "proxy", "store"];

/// A key.
pub struct Key {
    pub section: &'static str,
    pub name: &'static str,
    /// What it does, in one sentence.
    pub about: &'static str,
    /// What holds where nothing is said.
    pub default: &'static str,
    /// A value as TOML.
    pub example: &'static str,
    /// The option over it; empty where there is none.
    pub option: &'static str,
    /// The variables over it, the first that is set counts.
    pub variables: &'static [&'static str],
    /// Takes a value; the path is that of the home directory. The error says why it cannot be.
    pub set: fn(&mut Config, &DeValue, Option<&Path>) -> Result<(), String>,
    /// Returns the value as text.
    pub get: fn(&Config) -> Option<String>,
}

impl Key {
    /// Returns `section.key`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }
}

/// All keys, by section.
pub const KEYS: &[Key] = &[
    Key {
        section: "build",
        name: "progress",
        about: "How builds show progress: auto, none, plain, quiet, rawjson or tty.",
        default: "auto",
        example: "\"plain\"",
        option: "--progress",
        variables: &["BUILDKIT_PROGRESS"],
        set: |config, value, _| {
            one_of(value, &["auto", "none", "plain", "quiet", "rawjson", "tty"])
                .map(|v| config.build.progress = v)
        },
        get: |config| config.build.progress.clone(),
    },
    Key {
        section: "build",
        name: "isolation",
        about: "How RUN steps are kept apart from this machine.",
        default: "default",
        example: "\"default\"",
        option: "--isolation",
        variables: &["RBUILD_ISOLATION"],
        set: |config, value, _| {
            one_of(value, &["default", "namespaces", "oci", "rootless", "chroot"])
                .map(|v| config.build.isolation = v)
        },
        get: |config| config.build.isolation.clone(),
    },
    Key {
        section: "build",
        name: "dns",
        about: "The name servers of RUN steps.",
        default: "those of /etc/resolv.conf",
        example: "[\"192.0.2.53\"]",
        option: "--dns",
        variables: &[],
        set: |config, value, _| addresses(value).map(|v| config.build.dns = v),
        get: |config| config.build.dns.as_ref().map(|list| list.join(", ")),
    },
    Key {
        section: "build",
        name: "retry",
        about: "How often what is fetched from elsewhere is tried again.",
        default: "3",
        example: "5",
        option: "--retry",
        variables: &[],
        set: |config, value, _| number(value).map(|v| config.build.retry = v),
        get: |config| config.build.retry.map(|v| v.to_string()),
    },
    Key {
        section: "build",
        name: "retry_delay",
        about: "How long to wait before the first new try.",
        default: "500ms",
        example: "\"2s\"",
        option: "--retry-delay",
        variables: &[],
        set: |config, value, _| duration(value).map(|v| config.build.retry_delay = v),
        get: |config| config.build.retry_delay.clone(),
    },
    Key {
        section: "build",
        name: "step_timeout",
        about: "How long a RUN step may take before it is ended.",
        default: "no limit",
        example: "\"30m\"",
        option: "--step-timeout",
        variables: &[],
        set: |config, value, _| duration(value).map(|v| config.build.step_timeout = v),
        get: |config| config.build.step_timeout.clone(),
    },
    Key {
        section: "build",
        name: "on_failure",
        about: "What to do when a RUN step fails on a terminal: abort, or a shell in it.",
        default: "abort",
        example: "\"shell\"",
        option: "--on-failure",
        variables: &["RBUILD_ON_FAILURE"],
        set: |config, value, _| one_of(value, &["abort", "shell"]).map(|v| config.build.on_failure = v),
        get: |config| config.build.on_failure.clone(),
    },
    Key {
        section: "build",
        name: "ca_cert",
        about: "A certificate file that RUN steps are to trust, too.",
        default: "none",
        example: "\"/etc/ssl/certs/company.pem\"",
        option: "--ca-cert",
        variables: &[],
        set: |config, value, home| path(value, home).map(|v| config.build.ca_cert = v),
        get: |config| config.build.ca_cert.as_ref().map(|v| v.display().to_string()),
    },
    Key {
        section: "proxy",
        name: "http",
        about: "The proxy for http:// addresses.",
        default: "none",
        example: "\"http://proxy.example.com:3128\"",
        option: "",
        variables: &["http_proxy", "HTTP_PROXY"],
        set: |config, value, _| text(value).map(|v| config.proxy.http = v),
        get: |config| config.proxy.http.clone(),
    },
    Key {
        section: "proxy",
        name: "https",
        about: "The proxy for https:// addresses.",
        default: "none",
        example: "\"http://proxy.example.com:3128\"",
        option: "",
        variables: &["https_proxy", "HTTPS_PROXY"],
        set: |config, value, _| text(value).map(|v| config.proxy.https = v),
        get: |config| config.proxy.https.clone(),
    },
    Key {
        section: "proxy",
        name: "no",
        about: "Hosts that are reached without a proxy: names, addresses and networks, by commas.",
        default: "none",
        example: "\"localhost,.example.com,10.0.0.0/8\"",
        option: "",
        variables: &["no_proxy", "NO_PROXY"],
        set: |config, value, _| list(value).map(|v| config.proxy.no = v.map(|list| list.join(","))),
        get: |config| config.proxy.no.clone(),
    },
    Key {
        section: "store",
        name: "root",
        about: "Where images, layers and the cache are kept.",
        default: "/var/lib/rbuild for root, ~/.local/share/rbuild for others",
        example: "\"/srv/rbuild\"",
        option: "--root",
        variables: &["RBUILD_ROOT"],
        set: |config, value, home| path(value, home).map(|v| config.store.root = v),
        get: |config| config.store.root.as_ref().map(|v| v.display().to_string()),
    },
    Key {
        section: "store",
        name: "snapshotter",
        about: "How layers become one tree.",
        default: "auto",
        example: "\"copy\"",
        option: "--snapshotter",
        variables: &["RBUILD_SNAPSHOTTER"],
        set: |config, value, _| {
            one_of(value, &["auto", "overlay", "fuse-overlayfs", "copy"])
                .map(|v| config.store.snapshotter = v)
        },
        get: |config| config.store.snapshotter.clone(),
    },
    Key {
        section: "store",
        name: "max_used_space",
        about: "The store is kept below this, as far as the build cache can make room; else a step fails early.",
        default: "no limit",
        example: "\"50GB\"",
        option: "",
        variables: &["RBUILD_MAX_USED_SPACE"],
        set: |config, value, _| size(value).map(|v| config.store.max_used_space = v),
        get: |config| config.store.max_used_space.map(units::whole_size),
    },
    Key {
        section: "store",
        name: "min_free_space",
        about: "This much of the file system is kept free, as far as the build cache can make room.",
        default: "no limit; 64MiB for a step to start",
        example: "\"10GB\"",
        option: "",
        variables: &["RBUILD_MIN_FREE_SPACE"],
        set: |config, value, _| size(value).map(|v| config.store.min_free_space = v),
        get: |config| config.store.min_free_space.map(units::whole_size),
    },
    Key {
        section: "store",
        name: "reserved_space",
        about: "This much of the build cache always stays.",
        default: "0",
        example: "\"5GB\"",
        option: "",
        variables: &["RBUILD_RESERVED_SPACE"],
        set: |config, value, _| size(value).map(|v| config.store.reserved_space = v),
        get: |config| config.store.reserved_space.map(units::whole_size),
    },
    Key {
        section: "store",
        name: "min_free_inodes",
        about: "This many inodes of the file system are kept free.",
        default: "no limit; 1000 for a step to start",
        example: "100000",
        option: "",
        variables: &["RBUILD_MIN_FREE_INODES"],
        set: |config, value, _| number(value).map(|v| config.store.min_free_inodes = v),
        get: |config| config.store.min_free_inodes.map(|v| v.to_string()),
    },
    Key {
        section: "store",
        name: "keep_days",
        about: "What of the build cache was not used for so many days may go.",
        default: "no limit",
        example: "30",
        option: "",
        variables: &["RBUILD_KEEP_DAYS"],
        set: |config, value, _| number(value).map(|v| config.store.keep_days = v),
        get: |config| config.store.keep_days.map(|v| v.to_string()),
    },
];

type Read<T> = Result<Option<T>, String>;

fn text(value: &DeValue) -> Read<String> {
    match value.as_str() {
        Some("") => Err("it is empty".to_owned()),
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(format!("it is no text, but of type {}", value.type_str())),
    }
}

fn one_of(value: &DeValue, words: &[&str]) -> Read<String> {
    match text(value)? {
        Some(word) if !words.contains(&word.as_str()) => Err(format!("it is none of {}", words.join(", "))),
        word => Ok(word),
    }
}

fn list(value: &DeValue) -> Read<Vec<String>> {
    let Some(array) = value.as_array() else { return Ok(text(value)?.map(|text| vec![text])) };
    let items: Result<Vec<Option<String>>, String> = array.iter().map(|item| text(item.get_ref())).collect();
    Ok(Some(items?.into_iter().flatten().collect()))
}

fn addresses(value: &DeValue) -> Read<Vec<String>> {
    let list = list(value)?;
    match list.iter().flatten().find(|address| address.parse::<std::net::IpAddr>().is_err()) {
        Some(bad) => Err(format!("`{bad}` is no IP address")),
        None => Ok(list),
    }
}

fn number(value: &DeValue) -> Read<u64> {
    let number =
        value.as_integer().and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
    number.map(Some).ok_or_else(|| "it is no whole number from 0 up".to_owned())
}

fn size(value: &DeValue) -> Read<u64> {
    match value.as_str() {
        Some(text) => units::parse_size(text).map(Some).ok_or_else(|| "it is no size".to_owned()),
        None => number(value).map_err(|_| "it is no size".to_owned()),
    }
}

fn duration(value: &DeValue) -> Read<String> {
    let text = text(value)?;
    match text.as_deref().and_then(when::duration).is_some_and(|nanos| nanos > 0) {
        true => Ok(text),
        false => Err("it is no duration".to_owned()),
    }
}

/// An absolute path, or one that starts with `~/`.
fn path(value: &DeValue, home: Option<&Path>) -> Read<PathBuf> {
    let text = text(value)?.unwrap_or_default();
    match (text.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => Ok(Some(home.join(rest))),
        (Some(_), None) => Err("HOME is not set".to_owned()),
        (None, _) if text.starts_with('/') => Ok(Some(PathBuf::from(text))),
        (None, _) => Err("the path must be absolute, or start with ~/".to_owned()),
    }
}
