//! Debian's `docker-registry` (distribution) on a free port of the loopback, its storage in a folder of
//! its own; it ends when dropped.
//!
//! [`TokenServer`] gives the tokens that one may want. Uses nothing of rbuild.

#![allow(dead_code)]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use super::tokens::{ISSUER, SERVICE, TokenServer};

/// How long it may take to start.
const START: Duration = Duration::from_secs(60);

/// Whom a registry with basic authentication knows.
pub const USER: &str = "me";
pub const PASSWORD: &str = "secret";
/// The same for `htpasswd -B`.
const HTPASSWD: &str = "me:$2b$04$InY1N2vm44gqpTgZq7pLHelQR7.ImY6U03NW7.Vm/fGr2OJnNg7r6\n";

/// How a registry is started.
#[derive(Default)]
pub struct Setup<'a> {
    /// With TLS, and a certificate for these names and addresses.
    pub tls: Option<&'a [&'a str]>,
    /// Clients must show a certificate of this authority (PEM).
    pub client_ca: Option<&'a str>,
    pub basic: bool,
    /// Clients must show a token of this server.
    pub tokens: Option<&'a TokenServer>,
}

/// A certificate of an authority made for it; all PEM.
pub struct Issued {
    pub authority: String,
    pub certificate: String,
    pub key: String,
}

impl Issued {
    /// Makes a certificate for names and addresses.
    pub fn new(names: &[&str]) -> Issued {
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        // Authorities of one name would be taken for each other.
        let subject = format!("authority for {names:?}");
        authority.distinguished_name.push(rcgen::DnType::CommonName, subject);
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = rcgen::CertifiedIssuer::self_signed(authority, key).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        // One that clients show, too.
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &authority).unwrap();
        Issued { authority: authority.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// A running registry.
pub struct Registry {
    /// The authority to believe (PEM), of one with TLS.
    pub ca_pem: Option<String>,
    child: Child,
    host: String,
    folder: tempfile::TempDir,
    log: Arc<Mutex<String>>,
}

impl Registry {
    /// Starts one without TLS and without credentials.
    pub fn plain() -> Registry {
        Registry::start(&Setup::default())
    }

    /// Starts one that wants [`USER`] and [`PASSWORD`].
    pub fn basic() -> Registry {
        Registry::start(&Setup { basic: true, ..Setup::default() })
    }

    /// Starts one.
    pub fn start(setup: &Setup<'_>) -> Registry {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (mut http, mut more, mut ca_pem) = (String::new(), String::new(), None);
        if let Some(names) = setup.tls {
            let issued = Issued::new(names);
            let (certificate, key) = (put("tls.crt", &issued.certificate), put("tls.key", &issued.key));
            http += &format!("  tls:\n    certificate: {certificate}\n    key: {key}\n");
            if let Some(client_ca) = setup.client_ca {
                http += &format!("    clientcas: [{}]\n", put("client-ca.crt", client_ca));
            }
            ca_pem = Some(issued.authority);
        }
        if setup.basic {
            let file = put("htpasswd", HTPASSWD);
            more += &format!("auth:\n  htpasswd: {{realm: test, path: {file}}}\n");
        }
        if let Some(tokens) = setup.tokens {
            let bundle = put("tokens.crt", &tokens.certificate_pem);
            more += &format!(
                "auth:\n  token: {{realm: \"{}\", service: {SERVICE}, issuer: {ISSUER}, rootcertbundle: {bundle}}}\n",
                tokens.realm()
            );
        }
        let storage = folder.path().join("storage");
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  \
             delete: {{enabled: true}}\nhttp:\n  addr: 127.0.0.1:0\n  secret: x\n{http}{more}",
            storage.display()
        );
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("docker-registry (package docker-registry) cannot be started: {e}"));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let (send, listening) = channel();
        let kept = log.clone();
        // Reads for as long as it runs, since it would wait for a full pipe.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("msg=\"listening on ") {
                    let end = rest.find(['"', ',']).unwrap_or(rest.len());
                    let _ = send.send(rest[..end].to_owned());
                }
                *kept.lock().unwrap() += &format!("{line}\n");
            }
        });
        let host = match listening.recv_timeout(START) {
            Ok(host) => host,
            Err(why) => {
                let _ = child.kill();
                let late = why == RecvTimeoutError::Timeout;
                panic!("docker-registry does not listen (late: {late}):\n{}", log.lock().unwrap());
            }
        };
        Registry { ca_pem, child, host, folder, log }
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns a name in it: `127.0.0.1:PORT/NAME`.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// Returns the folder that it keeps everything in.
    pub fn storage(&self) -> PathBuf {
        self.folder.path().join("storage")
    }

    /// Returns what it has said so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has said something.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        let started = Instant::now();
        while !self.log().contains(text) {
            assert!(started.elapsed() < START, "it does not say `{text}`:\n{}", self.log());
            std::thread::yield_now();
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
