//! Meeting a server's demand for credentials, and to whom they may go.
//!
//! A password goes to the registry it is for, or, for a token, to the host that the registry names, if
//! both belong to the same people (`domain`) and TLS protects it. Tokens go to the registry alone.
//! Not here: where credentials are kept (`credentials`), sending requests (`transport`).

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use super::answer;
use super::challenge::Challenge;
use super::domain::same_owner;
use super::error::RegistryError;
use super::host::Endpoint;
use super::registries::{Registries, locked};
use super::secret::Secret;
use super::transport::{protocol, refused};
use crate::net::{Answers, Body, Credentials, Method, Request};

/// The longest answer of a token server that is read.
const LONGEST_TOKEN: u64 = 1024 * 1024;
/// How long a token counts where the server does not say, and at least (as docker has it).
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// How long before its end a token is no longer used.
const SLACK: Duration = Duration::from_secs(10);
const CLIENT: &str = "rbuild";

/// What is known about credentials so far; threads share it.
#[derive(Default)]
pub struct Auth {
    /// What a server wanted, by `host[:port]`.
    challenges: Mutex<HashMap<String, Challenge>>,
    /// Credentials that were looked up, by `host[:port]`.
    secrets: Mutex<HashMap<String, Option<Secret>>>,
    /// By `host[:port]` and scopes.
    tokens: Mutex<HashMap<(String, String), Token>>,
    /// An identity token that came when a login asked for one.
    identity: Mutex<Option<String>>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auth(***)")
    }
}

#[derive(Clone)]
struct Token {
    value: String,
    until: Instant,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
}

/// What a request needs to be allowed.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// `repository:NAME:pull,push` and the like; sorted.
    pub scopes: Vec<String>,
    /// Whether an identity token is asked for, to be kept.
    pub identity: bool,
}

impl Auth {
    /// Uses these credentials for a server, whatever is kept.
    pub fn give(&self, endpoint: &Endpoint, secret: Secret) {
        locked(&self.secrets).insert(endpoint.host.clone(), Some(secret));
    }

    /// Returns the identity token that came, if one did.
    pub fn take_identity(&self) -> Option<String> {
        locked(&self.identity).take()
    }
}

impl Registries {
    /// Returns what to send with a request at once, by what the server wanted before.
    pub(super) fn remembered(
        &self,
        endpoint: &Endpoint,
        wanted: &Wanted,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Option<Credentials>, RegistryError> {
        let challenge = locked(&self.auth.challenges).get(&endpoint.host).cloned();
        match challenge {
            Some(challenge) => self.authorize(endpoint, &challenge, wanted, cancel),
            None => Ok(None),
        }
    }

    /// Forgets the token that a server did not take.
    pub(super) fn forget(&self, endpoint: &Endpoint, wanted: &Wanted) {
        locked(&self.auth.tokens).remove(&token_key(endpoint, wanted));
    }

    /// Meets a demand; `None` where there is nothing to meet it with.
    ///
    /// The caller has made sure that the registry itself may see its credentials.
    pub(super) fn authorize(
        &self,
        endpoint: &Endpoint,
        challenge: &Challenge,
        wanted: &Wanted,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Option<Credentials>, RegistryError> {
        let remember = || {
            locked(&self.auth.challenges).insert(endpoint.host.clone(), challenge.clone());
        };
        match (challenge, self.secret(endpoint)?) {
            (_, Some(Secret::Registry(token))) => {
                remember();
                Ok(Some(bearer(&token)))
            }
            (Challenge::Basic, Some(Secret::Password { user, password })) => {
                remember();
                Ok(Some(Credentials::Basic { user, password }))
            }
            (Challenge::Basic, _) => Ok(None),
            (Challenge::Bearer { realm, service }, secret) => {
                let key = token_key(endpoint, wanted);
                let kept = locked(&self.auth.tokens).get(&key).cloned();
                if let Some(token) = kept.filter(|token| Instant::now() < token.until) {
                    return Ok(Some(bearer(&token.value)));
                }
                let service = service.as_deref();
                let Some(token) = self.fetch_token(endpoint, realm, service, secret, wanted, cancel)? else {
                    return Ok(None);
                };
                remember();
                let credentials = bearer(&token.value);
                locked(&self.auth.tokens).insert(key, token);
                Ok(Some(credentials))
            }
        }
    }

    fn secret(&self, endpoint: &Endpoint) -> Result<Option<Secret>, RegistryError> {
        if let Some(secret) = locked(&self.auth.secrets).get(&endpoint.host) {
            return Ok(secret.clone());
        }
        let secret = self.options.credentials.find(&endpoint.host)?;
        locked(&self.auth.secrets).insert(endpoint.host.clone(), secret.clone());
        Ok(secret)
    }

    /// Asks a token server; `None` where it says no to somebody it does not know.
    fn fetch_token(
        &self,
        endpoint: &Endpoint,
        realm: &str,
        service: Option<&str>,
        secret: Option<Secret>,
        wanted: &Wanted,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Option<Token>, RegistryError> {
        let mut url = self.realm(endpoint, realm, secret.is_some())?;
        let known = secret.is_some();
        let mut body = Body::None;
        let mut request = Request::new(Method::Get, "");
        match secret {
            Some(Secret::Identity(token)) => {
                let mut form = Serializer::new(String::new());
                form.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT);
                form.append_pair("service", service.unwrap_or_default());
                form.append_pair("scope", &wanted.scopes.join(" ")).append_pair("refresh_token", &token);
                body = Body::Bytes(form.finish().into_bytes());
                request.method = Method::Post;
                request = request.header("Content-Type", "application/x-www-form-urlencoded");
            }
            secret => {
                let mut query = url.query_pairs_mut();
                if let Some(service) = service {
                    query.append_pair("service", service);
                }
                for scope in &wanted.scopes {
                    query.append_pair("scope", scope);
                }
                if let Some(Secret::Password { user, password }) = secret {
                    query.append_pair("account", &user);
                    if wanted.identity {
                        query.append_pair("offline_token", "true").append_pair("client_id", CLIENT);
                    }
                    let pair = STANDARD.encode(format!("{user}:{password}"));
                    request.credentials = Some(Credentials::Header(format!("Basic {pair}").into_bytes()));
                }
            }
        }
        request.url = url.to_string();
        request.answers = Answers::Any;
        let server = Endpoint::of_url(&url, &self.known()?.settings);
        let reply = self.client(&server)?.send_body(&request, body, cancel)?;
        match reply.status() {
            200..=299 => {}
            401 if known => {
                let errors = answer::read(&reply.bytes_up_to(answer::LONGEST_BODY, cancel));
                let (host, login) = (endpoint.host.clone(), endpoint.login());
                return Err(RegistryError::BadCredentials { host, login, errors });
            }
            401 | 403 => return Ok(None),
            _ => return Err(refused(&server, "", "a token", reply, cancel)),
        }
        // What came may hold a token, so that no word of it is repeated.
        let bytes = reply.bytes(LONGEST_TOKEN, cancel)?;
        let bad = || protocol(&server, "its answer holds no token");
        let answer: TokenAnswer = serde_json::from_slice(&bytes).map_err(|_| bad())?;
        if wanted.identity {
            *locked(&self.auth.identity) = answer.refresh_token.filter(|token| !token.is_empty());
        }
        let value = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
        let value = value.filter(|token| !token.is_empty()).ok_or_else(bad)?;
        let life = answer.expires_in.map_or(SHORTEST_LIFE, Duration::from_secs).max(SHORTEST_LIFE);
        // A life beyond all clocks is none that ends.
        let until = Instant::now().checked_add(life.saturating_sub(SLACK));
        let until = until.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        Ok(Some(Token { value, until }))
    }

    /// Checks where a registry wants credentials sent.
    fn realm(&self, endpoint: &Endpoint, realm: &str, known: bool) -> Result<Url, RegistryError> {
        let bad = |why: &str| protocol(endpoint, why);
        let url = Url::parse(realm).map_err(|_| bad("it names a token server that is not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() {
            return Err(bad("it names a token server that is not a plain address of http or https"));
        }
        let (name, settings) = (url.host_str().unwrap_or_default(), &self.known()?.settings);
        let refuse = |why| RegistryError::Realm {
            host: endpoint.host.clone(),
            realm: answer::show(&crate::net::show_url(realm)),
            realm_host: name.to_owned(),
            why,
        };
        let own = super::host::name_of(&endpoint.host);
        let trusted = same_owner(own, name) || settings.is_token_host(&endpoint.host, name);
        if known && !trusted {
            return Err(refuse("a host of another domain"));
        }
        let plain = endpoint.may_lead_to_plain(&Endpoint::of_url(&url, settings));
        if url.scheme() == "http" && !plain && !(endpoint.insecure && trusted) {
            let (host, to) = (endpoint.host.clone(), answer::show(&crate::net::show_url(realm)));
            return Err(RegistryError::Downgrade { host, to });
        }
        Ok(url)
    }
}

fn token_key(endpoint: &Endpoint, wanted: &Wanted) -> (String, String) {
    (endpoint.host.clone(), wanted.scopes.join(" "))
}

fn bearer(token: &str) -> Credentials {
    Credentials::Header(format!("Bearer {token}").into_bytes())
}
