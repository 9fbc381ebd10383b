//! A token server (distribution, "Token Authentication Specification"): gives whom it knows a signed
//! token for what it asks for.
//!
//! Anonymous clients may pull, [`super::registry::USER`] may do all. Uses nothing of rbuild.

#![allow(dead_code)]

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::SigningKey;

use super::http::{Answer, Asked, Server};
use super::registry::{PASSWORD, USER};

pub const SERVICE: &str = "test-service";
pub const ISSUER: &str = "test-issuer";
/// The identity token that [`super::registry::USER`] gets when asking for one.
pub const IDENTITY: &str = "an-identity-token";

/// A running token server; it ends when dropped.
pub struct TokenServer {
    server: Server,
    /// What signs, for the registry's `rootcertbundle`.
    pub certificate_pem: String,
}

impl TokenServer {
    /// Starts one that knows no identity tokens.
    pub fn start() -> TokenServer {
        TokenServer::make(false)
    }

    /// Starts one that gives identity tokens to who asks for one.
    pub fn with_identities() -> TokenServer {
        TokenServer::make(true)
    }

    fn make(identities: bool) -> TokenServer {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let (certificate_pem, der) = (certificate.pem(), STANDARD.encode(certificate.der()));
        let signer = Arc::new(Mutex::new(key));
        let server = Server::start(move |asked| respond(asked, &signer.lock().unwrap(), &der, identities));
        TokenServer { server, certificate_pem }
    }

    /// Returns where tokens are asked for.
    pub fn realm(&self) -> String {
        self.server.url("/token")
    }

    /// Returns the scopes of each request so far, with whether its sender was known.
    pub fn asked(&self) -> Vec<(Vec<String>, bool)> {
        let scopes = |asked: &Asked| {
            let parameters = parameters(asked);
            let all = parameters.iter().filter(|(name, _)| name == "scope").map(|(_, value)| value.clone());
            let known = asked.header("authorization").is_some() || asked.method == "POST";
            (all.collect(), known)
        };
        self.server.asked().iter().map(scopes).collect()
    }
}

fn parameters(asked: &Asked) -> Vec<(String, String)> {
    let query = asked.target.split_once('?').map(|(_, query)| query.as_bytes()).unwrap_or_default();
    let text = if asked.method == "POST" { asked.body.as_slice() } else { query };
    url::form_urlencoded::parse(text).into_owned().collect()
}

fn respond(asked: &Asked, key: &rcgen::KeyPair, certificate: &str, identities: bool) -> Answer {
    let parameters = parameters(asked);
    let get = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let known = match (asked.method.as_str(), asked.header("authorization")) {
        ("POST", _) => {
            if !identities
                || get("refresh_token") != Some(IDENTITY)
                || get("grant_type") != Some("refresh_token")
            {
                return Answer::status(401);
            }
            true
        }
        (_, None) => false,
        (_, Some(header)) if header == basic => true,
        _ => {
            let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}"#;
            return Answer { status: 401, ..Answer::ok(body) };
        }
    };
    let scopes =
        parameters.iter().filter(|(name, _)| name == "scope").flat_map(|(_, value)| value.split(' '));
    let access: Vec<serde_json::Value> = scopes
        .filter_map(|scope| {
            let (kind, rest) = scope.split_once(':')?;
            let (name, actions) = rest.rsplit_once(':')?;
            let allowed: Vec<&str> = actions.split(',').filter(|action| known || *action == "pull").collect();
            Some(serde_json::json!({"type": kind, "name": name, "actions": allowed}))
        })
        .collect();
    let mut answer = serde_json::json!({"token": sign(&access, key, certificate), "expires_in": 300});
    if identities && known && get("offline_token") == Some("true") {
        answer["refresh_token"] = IDENTITY.into();
    }
    Answer::ok(answer.to_string()).with("Content-Type", "application/json")
}

/// Makes a JSON Web Token (RFC 7519) with ES256 and the certificate in its header.
fn sign(access: &[serde_json::Value], key: &rcgen::KeyPair, certificate: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let header = serde_json::json!({"typ": "JWT", "alg": "ES256", "x5c": [certificate]});
    let claims = serde_json::json!({
        "iss": ISSUER, "sub": USER, "aud": SERVICE, "exp": now + 300, "nbf": now - 60, "iat": now - 60,
        "jti": "1", "access": access,
    });
    let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let signature = fixed(&key.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Turns a signature in DER (RFC 3279) into the two numbers of 32 bytes that JSON Web Signatures have.
fn fixed(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut out = Vec::new();
    for _ in 0..2 {
        let length = usize::from(rest[1]);
        let number = &rest[2..2 + length];
        rest = &rest[2 + length..];
        let digits = &number[number.len().saturating_sub(32)..];
        out.extend(std::iter::repeat_n(0, 32 - digits.len()));
        out.extend(digits);
    }
    out
}
