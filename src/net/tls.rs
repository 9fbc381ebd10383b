//! Which certificates are believed.
//!
//! The system's, found as OpenSSL finds them, and those of one more file. Not here: when a
//! certificate is good (rustls).

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// How TLS is spoken, and why it will not work if that is known before.
pub struct Tls {
    pub config: ClientConfig,
    pub missing: Option<String>,
}

/// Reads the certificates; errors show when a URL with https is wanted.
pub fn load(extra: Option<&Path>) -> Result<Tls, rustls::Error> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Old certificates in a system's store that rustls does not take are nobody's fault.
    roots.add_parsable_certificates(found.certs);
    let mut missing = None;
    if let Some(path) = extra
        && let Err(why) = add_file(&mut roots, path)
    {
        missing = Some(format!("the certificates in `{}` cannot be used: {why}", path.display()));
    }
    if roots.is_empty() && missing.is_none() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        missing = Some(format!("no trusted certificates were found{why}"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Tls { config, missing })
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let mut count = 0;
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| e.to_string())? {
        let certificate = certificate.map_err(|e| e.to_string())?;
        roots.add(certificate).map_err(|e| e.to_string())?;
        count += 1;
    }
    match count {
        0 => Err("it holds no certificate (PEM)".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong_with_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let check = |content: Option<&str>, expect: &str| {
            let path = directory.path().join("ca.pem");
            match content {
                Some(content) => std::fs::write(&path, content).unwrap(),
                None => drop(std::fs::remove_file(&path)),
            }
            let missing = load(Some(&path)).unwrap().missing.unwrap();
            assert!(missing.contains("ca.pem") && missing.contains(expect), "{missing}");
        };
        check(None, "No such file");
        check(Some("nothing"), "no certificate");
        check(Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "cannot be used");
    }
}
