//! Who gets to see credentials: basic authentication, tokens, redirects, hostile servers.
//!
//! The names of hosts are those of a proxy of the tests' own, so that TLS and domains count.

use std::path::PathBuf;

use rbuild::image::{Digest, Reference};
use rbuild::net::{ProxySettings, RetryPolicy};
use rbuild::registry::{CredentialOptions, Registries, RegistryError, RegistryOptions, Secret, SettingsFile};

use super::common::http::{Answer, Asked, Server};
use super::common::proxy::Proxy;
use super::common::registry::{PASSWORD, Registry, Setup, TokenServer, USER};
use super::common::tokens::IDENTITY;

fn never() -> bool {
    false
}

/// What a client stands on, in a folder of its own.
struct Place {
    folder: tempfile::TempDir,
    options: RegistryOptions,
}

impl Place {
    fn new() -> Place {
        let retry = RetryPolicy {
            tries: 2,
            first_pause: std::time::Duration::ZERO,
            longest_pause: std::time::Duration::ZERO,
            longest_asked: std::time::Duration::ZERO,
        };
        let options = RegistryOptions { retry, ..RegistryOptions::default() };
        Place { folder: tempfile::tempdir().unwrap(), options }
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn config(mut self, text: &str) -> Place {
        self.options.credentials = CredentialOptions {
            config_file: Some(self.put("config.json", text)),
            ..CredentialOptions::default()
        };
        self
    }

    /// Knows the user of the tests' servers at a host.
    fn known_at(self, host: &str) -> Place {
        let auth = "bWU6c2VjcmV0";
        self.config(&format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#))
    }

    fn proxy(mut self, proxy: &Proxy) -> Place {
        self.options.proxies =
            ProxySettings { http: Some(proxy.url()), https: Some(proxy.url()), ..ProxySettings::default() };
        self
    }

    fn ca(mut self, pem: &[&str]) -> Place {
        self.options.ca_file = Some(self.put("ca.pem", &pem.concat()));
        self
    }

    fn settings(mut self, text: &str, is_dockers: bool) -> Place {
        let path = self.put(if is_dockers { "daemon.json" } else { "registries.json" }, text);
        self.options.settings.push(SettingsFile { path, is_dockers, required: true });
        self
    }

    fn registries(&self) -> Registries {
        Registries::new(self.options.clone())
    }
}

fn reference(name: &str) -> Reference {
    name.parse().unwrap()
}

fn has_tag(registries: &Registries, name: &str) -> Result<bool, RegistryError> {
    registries.repository(&reference(name)).head_manifest("latest", &never).map(|found| found.is_some())
}

fn upload(registries: &Registries, name: &str, bytes: &[u8]) -> Result<Digest, RegistryError> {
    let digest = Digest::of(bytes);
    let repository = registries.repository(&reference(name));
    repository.upload_blob(&digest, bytes.len() as u64, &mut |out| out.write_all(bytes), &never)?;
    Ok(digest)
}

#[track_caller]
fn fails<T>(result: Result<T, RegistryError>, expect: &[&str]) -> String {
    let error = match result {
        Ok(_) => panic!("it should have failed with {expect:?}"),
        Err(error) => error,
    };
    let all = format!("{} {error:?}", rbuild::report::chain(&error));
    for text in expect {
        assert!(all.contains(text), "`{text}` is not in: {all}");
    }
    for secret in [PASSWORD, "bWU6c2VjcmV0", IDENTITY] {
        assert!(!all.contains(secret), "{all}");
    }
    all
}

#[test]
fn basic_authentication() {
    let registry = Registry::basic();
    let (host, name) = (registry.host(), registry.name("a"));
    let login = format!("rbuild login {host}");
    fails(has_tag(&Place::new().registries(), &name), &["was denied", &login]);
    assert!(!has_tag(&Place::new().known_at(host).registries(), &name).unwrap());
    upload(&Place::new().known_at(host).registries(), &name, b"hello").unwrap();
    let wrong = format!(r#"{{"auths":{{"{host}":{{"auth":"bWU6d3Jvbmc="}}}}}}"#);
    fails(has_tag(&Place::new().config(&wrong).registries(), &name), &["was denied", &login]);
    // What is for another host, docker.io's too, is not tried.
    let hub = Place::new().known_at("https://index.docker.io/v1/");
    fails(has_tag(&hub.registries(), &name), &["was denied"]);
}

#[test]
fn tokens_are_asked_for_what_is_done() {
    let tokens = TokenServer::start();
    let registry = Registry::start(&Setup { tokens: Some(&tokens), ..Setup::default() });
    let name = registry.name("a/b");
    let anonymous = Place::new().registries();
    assert!(!has_tag(&anonymous, &name).unwrap());
    assert!(!has_tag(&anonymous, &name).unwrap());
    let scope = |text: &str| text.to_owned();
    assert_eq!(tokens.asked(), [(vec![scope("repository:a/b:pull")], false)], "one token for both");
    fails(upload(&anonymous, &name, b"x"), &["was denied", "rbuild login"]);

    let place = Place::new().known_at(registry.host());
    let known = place.registries();
    let digest = upload(&known, &name, b"hello").unwrap();
    let last = tokens.asked().pop().unwrap();
    assert_eq!(last, (vec![scope("repository:a/b:pull,push")], true));
    let other = known.repository(&reference(&registry.name("c")));
    assert!(other.mount_blob(&digest, "a/b", &never).unwrap());
    let last = tokens.asked().pop().unwrap();
    assert_eq!(last, (vec![scope("repository:a/b:pull"), scope("repository:c:pull,push")], true));
}

#[test]
fn wrong_passwords_and_identity_tokens() {
    let tokens = TokenServer::with_identities();
    let registry = Registry::start(&Setup { tokens: Some(&tokens), ..Setup::default() });
    let (host, name) = (registry.host(), registry.name("a"));
    let secret = |password: &str| Secret::Password { user: USER.into(), password: password.into() };
    let login = |password: &str| Place::new().registries().login(host, secret(password), &never);
    fails(login("wrong"), &["not accepted", "incorrect username or password"]);
    assert_eq!(login(PASSWORD).unwrap(), Secret::Identity(IDENTITY.into()));
    let config = |token: &str| format!(r#"{{"auths":{{"{host}":{{"identitytoken":"{token}"}}}}}}"#);
    upload(&Place::new().config(&config(IDENTITY)).registries(), &name, b"x").unwrap();
    fails(upload(&Place::new().config(&config("stale")).registries(), &name, b"x"), &["not accepted"]);
}

/// A registry that demands a token from a realm.
fn demanding(realm: String) -> impl Fn(&Asked) -> Answer + Send + Sync + 'static {
    move |asked| match asked.header("authorization") {
        None => {
            Answer::status(401).with("WWW-Authenticate", &format!("Bearer realm=\"{realm}\",service=\"s\""))
        }
        Some(_) => Answer::status(404),
    }
}

#[test]
fn a_realm_of_another_domain_gets_no_credentials() {
    let evil = Server::start_tls("auth.evil.test", |_| Answer::ok(r#"{"token":"t"}"#));
    let server = Server::start_tls("r.good.test", demanding("https://auth.evil.test/token".into()));
    let proxy = Proxy::start(&[("r.good.test:443", &server.host()), ("auth.evil.test:443", &evil.host())]);
    let place = || {
        let ca = [server.ca_pem.as_deref().unwrap(), evil.ca_pem.as_deref().unwrap()];
        Place::new().proxy(&proxy).ca(&ca)
    };
    let known = place().known_at("r.good.test");
    fails(
        has_tag(&known.registries(), "r.good.test/a"),
        &["auth.evil.test", "another domain", "token-hosts"],
    );
    assert_eq!(evil.count(), 0);
    // Without credentials there is nothing to steal; with the setting it is the user's word.
    assert!(!has_tag(&place().registries(), "r.good.test/a").unwrap());
    assert_eq!(evil.asked()[0].header("authorization"), None);
    let allowed = known.settings(r#"{"token-hosts":{"r.good.test":["auth.evil.test"]}}"#, false);
    assert!(!has_tag(&allowed.registries(), "r.good.test/a").unwrap());
    assert_eq!(evil.asked()[1].header("authorization"), Some("Basic bWU6c2VjcmV0"));
    assert_eq!(server.asked().last().unwrap().header("authorization"), Some("Bearer t"));
}

#[test]
fn a_realm_of_the_same_domain_needs_tls() {
    let auth = Server::start_tls("auth.good.test", |_| Answer::ok(r#"{"access_token":"t"}"#));
    let plain = Server::start(|_| Answer::ok(r#"{"token":"t"}"#));
    for (realm, good) in [("https://auth.good.test/token", true), ("http://plain.good.test/token", false)] {
        let server = Server::start_tls("r.good.test", demanding(realm.into()));
        let proxy = Proxy::start(&[
            ("r.good.test:443", &server.host()),
            ("auth.good.test:443", &auth.host()),
            ("plain.good.test:80", &plain.host()),
        ]);
        let ca = [server.ca_pem.as_deref().unwrap(), auth.ca_pem.as_deref().unwrap()];
        let place = Place::new().proxy(&proxy).ca(&ca).known_at("r.good.test");
        let found = has_tag(&place.registries(), "r.good.test/a");
        match good {
            true => assert!(!found.unwrap()),
            false => drop(fails(found, &["plain.good.test", "not protected"])),
        }
    }
    assert_eq!(auth.asked()[0].header("authorization"), Some("Basic bWU6c2VjcmV0"));
    assert_eq!(plain.count(), 0);
}

#[test]
fn redirects_and_upload_locations_carry_no_credentials_away() {
    let blob = b"hello".to_vec();
    let digest = Digest::of(&blob);
    let store = Server::start_tls("store.evil.test", |asked| match asked.method.as_str() {
        "PUT" => Answer::status(201),
        _ => Answer::ok("hello"),
    });
    let plain = Server::start(|_| Answer::ok("hello"));
    let server = Server::start_tls("r.good.test", |asked| {
        let basic = asked.header("authorization") == Some("Basic bWU6c2VjcmV0");
        match (basic, asked.method.as_str(), asked.target.as_str()) {
            (false, ..) => Answer::status(401).with("WWW-Authenticate", "Basic realm=\"x\""),
            (_, "POST", _) => {
                Answer::status(202).with("Location", "https://store.evil.test/put?state=a%2Fb%3D")
            }
            (.., target) if target.starts_with("/v2/plain/") => {
                Answer::redirect(307, "http://plain.good.test/blob")
            }
            (.., target) if target.starts_with("/v2/down/") => {
                Answer::redirect(307, "http://r.good.test/blob")
            }
            _ => Answer::redirect(307, "https://store.evil.test/blob"),
        }
    });
    let proxy = Proxy::start(&[
        ("r.good.test:443", &server.host()),
        ("r.good.test:80", &plain.host()),
        ("store.evil.test:443", &store.host()),
        ("plain.good.test:80", &plain.host()),
    ]);
    let ca = [server.ca_pem.as_deref().unwrap(), store.ca_pem.as_deref().unwrap()];
    let place = Place::new().proxy(&proxy).ca(&ca).known_at("r.good.test");
    let registries = place.registries();
    let stream_of = |name: &str| {
        let repository = registries.repository(&reference(name));
        let mut stream = repository.blob(&digest, 5, 0, &never)?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut bytes).unwrap();
        Ok(bytes)
    };
    assert_eq!(stream_of("r.good.test/a").unwrap(), blob);
    fails(stream_of("r.good.test/plain"), &["from https", "plain.good.test"]);
    fails(stream_of("r.good.test/down"), &["from https", "http://r.good.test/blob"]);
    upload(&registries, "r.good.test/a", &blob).unwrap();
    assert_eq!(plain.count(), 0);
    let asked = store.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].target, format!("/put?state=a%2Fb%3D&digest=sha256%3A{}", digest.hex()));
    assert_eq!(asked[1].body, blob);
    for asked in asked {
        for header in ["authorization", "cookie", "referer"] {
            assert_eq!(asked.header(header), None);
        }
    }
}

#[test]
fn mirrors_see_only_their_own_credentials() {
    let mirror = Server::start(|asked| match asked.header("authorization") {
        None => Answer::status(401).with("WWW-Authenticate", "Basic realm=\"x\""),
        Some(_) => Answer::status(404),
    });
    let hub = Server::start_tls("registry-1.docker.io", |_| Answer::status(404));
    let proxy = Proxy::start(&[("registry-1.docker.io:443", &hub.host())]);
    let mirrors = format!(r#"{{"registry-mirrors":["{}"]}}"#, mirror.url("/"));
    let place = || Place::new().proxy(&proxy).ca(&[hub.ca_pem.as_deref().unwrap()]).settings(&mirrors, true);
    let known = place().known_at("https://index.docker.io/v1/");
    assert!(!has_tag(&known.registries(), "debian").unwrap());
    assert!(mirror.count() > 0 && mirror.asked().iter().all(|asked| asked.header("authorization").is_none()));
    assert!(hub.count() > 0);
    let before = mirror.count();
    assert!(!has_tag(&place().known_at(&mirror.host()).registries(), "debian").unwrap());
    let own: Vec<_> = mirror.asked().split_off(before);
    assert_eq!(own.last().unwrap().header("authorization"), Some("Basic bWU6c2VjcmV0"));
}

#[test]
fn a_missing_helper_shows_nobody_anything() {
    let registry = Registry::basic();
    let host = registry.host();
    let config = format!(
        r#"{{"credHelpers":{{"{host}":"not-there"}},"auths":{{"https://index.docker.io/v1/":{{"auth":"bWU6c2VjcmV0"}},"{host}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#
    );
    let mut place = Place::new().config(&config);
    place.options.credentials.path = "/nonexistent".into();
    fails(has_tag(&place.registries(), &registry.name("a")), &["docker-credential-not-there", "not in PATH"]);
    assert!(!registry.log().contains("Authorization"));
}

#[test]
fn headers_of_the_config_stay_with_the_registry() {
    let store = Server::start(|_| Answer::ok("hello"));
    let to = store.url("/blob");
    let server = Server::start(move |_| Answer::redirect(307, &to));
    let place = Place::new().config(r#"{"HttpHeaders":{"X-Meta-Who":"me","X-Other":"x"}}"#);
    let registries = place.registries();
    let repository = registries.repository(&reference(&format!("{}/a", server.host())));
    repository.blob(&Digest::of("hello"), 5, 0, &never).unwrap();
    let own = server.asked().pop().unwrap();
    assert_eq!((own.header("x-meta-who"), own.header("x-other")), (Some("me"), None));
    assert_eq!(store.asked()[0].header("x-meta-who"), None);
}
