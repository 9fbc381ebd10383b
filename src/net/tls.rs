//! Which certificates are believed, and which one is shown.
//!
//! The system's, found as OpenSSL finds them, and those of more files; none at all are checked where the
//! caller says so. Not here: when a certificate is good (rustls).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// What TLS stands on besides the system's certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Certificates (PEM) believed besides the system's.
    pub ca_files: Vec<PathBuf>,
    /// What this side shows to a server that asks: certificates and their key (PEM).
    pub client: Option<(PathBuf, PathBuf)>,
    /// Whether any certificate of a server will do.
    pub any_certificate: bool,
}

/// How TLS is spoken, and why it will not work if that is known before.
pub struct Tls {
    pub config: ClientConfig,
    pub missing: Option<String>,
}

/// Reads the certificates; errors show when a URL with https is wanted.
pub fn load(options: &TlsOptions) -> Result<Tls, rustls::Error> {
    let mut missing = None;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = if options.any_certificate {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
    } else {
        builder.with_root_certificates(roots(&options.ca_files, &mut missing))
    };
    let config = match &options.client {
        None => builder.with_no_client_auth(),
        Some((certificates, key)) => match own(certificates, key) {
            Ok((certificates, key)) => builder.with_client_auth_cert(certificates, key)?,
            Err(why) => {
                missing.get_or_insert(why);
                builder.with_no_client_auth()
            }
        },
    };
    Ok(Tls { config, missing })
}

fn roots(files: &[PathBuf], missing: &mut Option<String>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Old certificates in a system's store that rustls does not take are nobody's fault.
    roots.add_parsable_certificates(found.certs);
    for path in files {
        if let Err(why) = add_file(&mut roots, path) {
            *missing = Some(format!("the certificates in `{}` cannot be used: {why}", path.display()));
        }
    }
    if roots.is_empty() && missing.is_none() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        *missing = Some(format!("no trusted certificates were found{why}"));
    }
    roots
}

type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn own(certificates: &Path, key: &Path) -> Result<Own, String> {
    let fail = |path: &Path, why: &dyn std::fmt::Display| {
        format!("the client's certificate or key in `{}` cannot be used: {why}", path.display())
    };
    let all = CertificateDer::pem_file_iter(certificates)
        .and_then(|all| all.collect::<Result<Vec<_>, _>>())
        .map_err(|e| fail(certificates, &e))?;
    if all.is_empty() {
        return Err(fail(certificates, &"it holds no certificate (PEM)"));
    }
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|e| fail(key, &e))?;
    Ok((all, key_der))
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

/// Believes any certificate; only that the server has its key is checked.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
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
            let missing = load(&TlsOptions { ca_files: vec![path.clone()], ..TlsOptions::default() })
                .unwrap()
                .missing
                .unwrap();
            assert!(missing.contains("ca.pem") && missing.contains(expect), "{missing}");
        };
        check(None, "No such file");
        check(Some("nothing"), "no certificate");
        check(Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "cannot be used");
    }
}
