//! Which registries may be spoken to without TLS, and which stand in for docker.io.
//!
//! Read from files of docker's form (`daemon.json`): docker's own, and rbuild's `registries.json`,
//! which has a few of the same keys. Not here: credentials (`config_file`), certificates (`certs`).

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

use super::error::RegistryError;
use super::host::{is_loopback, name_of};
use crate::net::ProxySettings;

/// What the files say together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    insecure: Vec<Insecure>,
    /// In the order in which they are asked.
    pub mirrors: Vec<Mirror>,
    /// For each registry's host the other hosts that may see its credentials for tokens.
    token_hosts: BTreeMap<String, Vec<String>>,
    /// docker's `proxies`, for its daemon.
    pub proxies: ProxySettings,
}

/// A server that may have what docker.io has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// `host[:port]`.
    pub host: String,
    /// Whether its address says http.
    pub plain: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Insecure {
    /// `host[:port]`, as it stands in references.
    Host(String),
    Network(IpAddr, u32),
}

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsFile {
    pub path: PathBuf,
    /// Whether it is docker's, whose other keys are no concern of ours.
    pub is_dockers: bool,
    /// Whether it must be there.
    pub required: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DaemonJson {
    #[serde(rename = "insecure-registries")]
    insecure: Vec<String>,
    #[serde(rename = "registry-mirrors")]
    mirrors: Vec<String>,
    proxies: DaemonProxies,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct DaemonProxies {
    http_proxy: Option<String>,
    https_proxy: Option<String>,
    no_proxy: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct RegistriesJson {
    insecure_registries: Vec<String>,
    registry_mirrors: Vec<String>,
    token_hosts: BTreeMap<String, Vec<String>>,
}

impl Settings {
    /// Reads the files; what each says is added to what those before it say.
    pub fn read(files: &[SettingsFile]) -> Result<Settings, RegistryError> {
        let mut settings = Settings::default();
        for file in files {
            let fail = |why: String| RegistryError::Settings { path: file.path.clone(), why };
            match read_optional(&file.path) {
                Ok(Some(text)) => settings.add(&text, file.is_dockers).map_err(fail)?,
                Ok(None) if file.required => return Err(fail("it is not there".to_owned())),
                Ok(None) => {}
                // Who may not read docker's own settings does not speak for docker.
                Err(error)
                    if error.kind() == io::ErrorKind::PermissionDenied
                        && file.is_dockers
                        && !file.required => {}
                Err(error) => return Err(fail(error.to_string())),
            }
        }
        Ok(settings)
    }

    /// Lets more registries be insecure, written as in `insecure-registries`.
    pub fn allow_insecure(&mut self, entries: &[String]) -> Result<(), String> {
        for entry in entries {
            self.insecure.push(Insecure::read(entry)?);
        }
        Ok(())
    }

    fn add(&mut self, text: &str, is_dockers: bool) -> Result<(), String> {
        // docker takes an empty file for `{}`.
        let text = if text.trim().is_empty() { "{}" } else { text };
        let (insecure, mirrors) = if is_dockers {
            let read: DaemonJson = serde_json::from_str(text).map_err(|e| e.to_string())?;
            let DaemonProxies { http_proxy, https_proxy, no_proxy } = read.proxies;
            self.proxies = ProxySettings { http: http_proxy, https: https_proxy, all: None, no_proxy };
            (read.insecure, read.mirrors)
        } else {
            let read: RegistriesJson = serde_json::from_str(text).map_err(|e| e.to_string())?;
            for (registry, hosts) in read.token_hosts {
                self.token_hosts.entry(registry).or_default().extend(hosts);
            }
            (read.insecure_registries, read.registry_mirrors)
        };
        self.allow_insecure(&insecure)?;
        for entry in &mirrors {
            let mirror = Mirror::read(entry)?;
            if !self.mirrors.contains(&mirror) {
                self.mirrors.push(mirror);
            }
        }
        Ok(())
    }

    /// Tells whether a `host[:port]` may be spoken to by http, and with any certificate.
    ///
    /// This machine always may. A network covers the addresses in it, not names that lead there: who
    /// answers for the name could otherwise switch TLS off.
    pub fn is_insecure(&self, host: &str) -> bool {
        let address = name_of(host).parse::<IpAddr>().ok();
        is_loopback(host)
            || self.insecure.iter().any(|rule| match rule {
                Insecure::Host(own) => own.eq_ignore_ascii_case(host),
                Insecure::Network(network, length) => {
                    address.is_some_and(|address| is_within(address, *network, *length))
                }
            })
    }

    /// Tells whether a registry's credentials may also be shown to a host, for tokens.
    pub fn is_token_host(&self, registry: &str, host: &str) -> bool {
        let hosts = self.token_hosts.get(registry);
        hosts.is_some_and(|hosts| hosts.iter().any(|own| own.eq_ignore_ascii_case(host)))
    }
}

impl Insecure {
    fn read(text: &str) -> Result<Insecure, String> {
        let bare = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let bare = bare.unwrap_or(text);
        if let Some((network, length)) = bare.split_once('/')
            && let (Ok(network), Ok(length)) = (network.parse::<IpAddr>(), length.parse::<u32>())
            && length <= if network.is_ipv4() { 32 } else { 128 }
        {
            return Ok(Insecure::Network(network, length));
        }
        match is_host(bare) {
            true => Ok(Insecure::Host(bare.to_owned())),
            false => Err(format!("insecure-registries: `{text}` is neither host[:port] nor a network")),
        }
    }
}

impl Mirror {
    fn read(text: &str) -> Result<Mirror, String> {
        let refuse =
            || format!("registry-mirrors: `{}` is not http(s)://host[:port]", crate::net::show_url(text));
        let url = Url::parse(text).map_err(|_| refuse())?;
        let bare = url.username().is_empty() && url.password().is_none();
        let whole = url.query().is_none() && url.fragment().is_none() && url.path() == "/";
        if !matches!(url.scheme(), "http" | "https") || !bare || !whole {
            return Err(refuse());
        }
        Ok(Mirror { host: host_of(&url), plain: url.scheme() == "http" })
    }
}

/// Returns `host[:port]` of a URL.
pub fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Tells whether a text is `host[:port]` and nothing else.
pub fn is_host(text: &str) -> bool {
    let Ok(url) = Url::parse(&format!("https://{text}/")) else { return false };
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b));
    plain && !text.is_empty() && url.path() == "/" && url.has_host()
}

/// Reads a small file; `None` where it is not there.
pub fn read_optional(path: &Path) -> io::Result<Option<String>> {
    use std::io::Read;
    const MOST: u64 = 4 * 1024 * 1024;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    let mut text = String::new();
    file.take(MOST + 1).read_to_string(&mut text)?;
    match text.len() as u64 > MOST {
        true => Err(io::Error::other("it is too large for what it should be")),
        false => Ok(Some(text)),
    }
}

fn is_within(address: IpAddr, network: IpAddr, length: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            (a.to_bits() ^ n.to_bits()).checked_shr(32 - length).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            (a.to_bits() ^ n.to_bits()).checked_shr(128 - length).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dockers(text: &str) -> Result<Settings, String> {
        let mut settings = Settings::default();
        settings.add(text, true).map(|()| settings)
    }

    #[test]
    fn insecure_registries_are_named_or_in_a_network() {
        let settings = dockers(
            r#"{"insecure-registries":["reg.example.com:5000","http://other","10.0.0.0/8","fd00::/8"],"debug":true}"#,
        )
        .unwrap();
        for host in [
            "reg.example.com:5000",
            "REG.example.com:5000",
            "other",
            "10.1.2.3",
            "10.1.2.3:80",
            "[fd00::1]:5000",
            "localhost:5000",
            "127.0.0.9",
        ] {
            assert!(settings.is_insecure(host), "{host}");
        }
        for host in
            ["reg.example.com", "reg.example.com:5001", "other:80", "11.1.2.3", "[fe80::1]", "10.example.com"]
        {
            assert!(!settings.is_insecure(host), "{host}");
        }
        assert!(!Settings::default().is_insecure("10.0.0.1"));
    }

    #[test]
    fn mirrors_keep_their_order() {
        let settings =
            dockers(r#"{"registry-mirrors":["https://b","http://a:5000/","https://b/"]}"#).unwrap();
        let mirror = |host: &str, plain| Mirror { host: host.to_owned(), plain };
        assert_eq!(settings.mirrors, [mirror("b", false), mirror("a:5000", true)]);
    }

    #[test]
    fn says_what_is_wrong() {
        let check = |text: &str, is_dockers: bool, expect: &str| {
            let why = Settings::default().add(text, is_dockers).unwrap_err();
            assert!(why.contains(expect) && !why.contains("pw"), "{why}");
        };
        check(r#"{"insecure-registries":["a/b"]}"#, true, "`a/b`");
        check(r#"{"insecure-registries":["10.0.0.0/33"]}"#, true, "10.0.0.0/33");
        check(r#"{"insecure-registries":[""]}"#, true, "neither");
        check(r#"{"registry-mirrors":["b"]}"#, true, "registry-mirrors");
        check(r#"{"registry-mirrors":["https://b/path"]}"#, true, "b/path");
        check(r#"{"registry-mirrors":["https://u:pw@b/"]}"#, true, "https://b/");
        check("{", true, "EOF");
        check(r#"{"insecure_registries":[]}"#, false, "unknown field");
        assert_eq!(dockers(" \n"), Ok(Settings::default()));
    }

    #[test]
    fn token_hosts_are_for_one_registry() {
        let mut settings = Settings::default();
        settings.add(r#"{"token-hosts":{"reg.example.com":["auth.other.net"]}}"#, false).unwrap();
        assert!(settings.is_token_host("reg.example.com", "Auth.other.net"));
        assert!(!settings.is_token_host("reg.example.com", "other.net"));
        assert!(!settings.is_token_host("other.example.com", "auth.other.net"));
    }

    #[test]
    fn files_add_up() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: Option<&str>, is_dockers: bool, required: bool| {
            let path = folder.path().join(name);
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            SettingsFile { path, is_dockers, required }
        };
        let files = [
            file("registries.json", Some(r#"{"insecure-registries":["a"]}"#), false, false),
            file(
                "daemon.json",
                Some(r#"{"insecure-registries":["b"],"proxies":{"http-proxy":"p"}}"#),
                true,
                true,
            ),
            file("missing", None, true, false),
        ];
        let settings = Settings::read(&files).unwrap();
        assert!(settings.is_insecure("a") && settings.is_insecure("b"));
        assert_eq!(settings.proxies.http.as_deref(), Some("p"));
        let missing = SettingsFile { required: true, ..files[2].clone() };
        let error = Settings::read(&[missing]).unwrap_err().to_string();
        assert!(error.contains("missing` cannot be used: it is not there"), "{error}");
    }
}
