//! TLS of the server: a certificate and its key from files, read again when they change.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::ServerError;

/// How long the files are believed not to have changed.
const BELIEVED: Duration = Duration::from_secs(1);

/// The files, both PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What a file looked like.
type Stamp = (u64, u64, i64, i64);

struct Loaded {
    config: Arc<ServerConfig>,
    stamps: Option<(Stamp, Stamp)>,
    looked: Instant,
}

/// How TLS is spoken now.
pub struct Tls {
    files: TlsFiles,
    loaded: Mutex<Loaded>,
}

impl Tls {
    /// Reads the files.
    pub fn open(files: TlsFiles) -> Result<Tls, ServerError> {
        let stamps = files.stamps();
        let config = Arc::new(files.load()?);
        let loaded = Loaded { config, stamps, looked: Instant::now() };
        Ok(Tls { files, loaded: Mutex::new(loaded) })
    }

    /// Returns how the next connection speaks it; with an error where changed files cannot be used, and the
    /// old ones still are.
    pub fn config(&self) -> (Arc<ServerConfig>, Option<ServerError>) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fault = None;
        if loaded.looked.elapsed() >= BELIEVED {
            loaded.looked = Instant::now();
            let stamps = self.files.stamps();
            if stamps.is_some() && stamps != loaded.stamps {
                match self.files.load() {
                    Ok(config) => loaded.config = Arc::new(config),
                    Err(error) => fault = Some(error),
                }
                // One fault is told once.
                loaded.stamps = stamps;
            }
        }
        (loaded.config.clone(), fault)
    }
}

impl TlsFiles {
    fn stamps(&self) -> Option<(Stamp, Stamp)> {
        let stamp = |path: &Path| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
        };
        Some((stamp(&self.certificate)?, stamp(&self.key)?))
    }

    fn load(&self) -> Result<ServerConfig, ServerError> {
        let failed = |path: &Path, why: String| ServerError::Tls { path: path.to_owned(), why };
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect)
            .map_err(|e| failed(&self.certificate, e.to_string()))?;
        if certificates.is_empty() {
            return Err(failed(&self.certificate, "there is no certificate in it".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|e| failed(&self.key, e.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| failed(&self.certificate, e.to_string()))?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(|e| failed(&self.certificate, e.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Tells what a failed handshake is worth in a log.
pub fn handshake_error(error: &io::Error) -> String {
    format!("TLS: {error}")
}
