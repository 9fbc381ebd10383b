//! Registries: how they are reached, credentials, `login` and `logout`; the client against a real one.
//!
//! Not here: `pull` and `push`.

use std::io::{Read, Write};

use rbuild::image::{Digest, Reference};
use rbuild::net::{ProxySettings, RetryPolicy};
use rbuild::registry::{Registries, RegistryError, RegistryOptions, Repository, SettingsFile};

use super::common::http::{Answer, Asked, Body, Server};
use super::common::proxy::Proxy;
use super::common::registry::{Issued, Registry, Setup};

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

fn never() -> bool {
    false
}

fn registries() -> Registries {
    Registries::new(RegistryOptions::default())
}

fn reference(registry: &Registry, name: &str) -> Reference {
    registry.name(name).parse().unwrap()
}

/// Bytes that no compression makes small, the same for every seed.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    words.take(length).collect()
}

fn upload(repository: &Repository<'_>, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    repository.upload_blob(&digest, bytes.len() as u64, &mut |out| out.write_all(bytes), &never).unwrap();
    digest
}

fn read(repository: &Repository<'_>, digest: &Digest, size: u64, offset: u64) -> (u64, Vec<u8>) {
    let mut stream = repository.blob(digest, size, offset, &never).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    (stream.start(), bytes)
}

fn manifest(config: &[u8]) -> Vec<u8> {
    let digest = Digest::of(config);
    let size = config.len();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST_TYPE}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":{size}}},"layers":[]}}"#
    )
    .into_bytes()
}

#[test]
fn blobs_go_both_ways() {
    let registry = Registry::plain();
    let all = registries();
    let repository = all.repository(&reference(&registry, "a/b"));
    let bytes = noise(3_000_001, 1);
    let digest = Digest::of(&bytes);
    assert!(!repository.has_blob(&digest, &never).unwrap());
    assert!(repository.blob(&digest, bytes.len() as u64, 0, &never).err().unwrap().is_not_found());
    assert_eq!(upload(&repository, &bytes), digest);
    assert!(repository.has_blob(&digest, &never).unwrap());
    let size = bytes.len() as u64;
    assert!(read(&repository, &digest, size, 0) == (0, bytes.clone()));
    assert!(read(&repository, &digest, size, 1_000_000) == (1_000_000, bytes[1_000_000..].to_vec()));
    let error = repository.blob(&digest, size + 1, 0, &never).err().unwrap();
    assert!(matches!(error, RegistryError::Size { .. }), "{error}");
    let empty = upload(&repository, b"");
    assert_eq!(read(&repository, &empty, 0, 0), (0, Vec::new()));
}

#[test]
fn blobs_of_unknown_size_go_out_in_chunks() {
    let registry = Registry::plain();
    let all = registries();
    let repository = all.repository(&reference(&registry, "a"));
    let bytes = noise(3_000_001, 2);
    let (digest, size) = repository.upload_stream(&mut |out| out.write_all(&bytes), &never).unwrap();
    assert_eq!((digest, size), (Digest::of(&bytes), bytes.len() as u64));
    assert!(read(&repository, &digest, size, 0) == (0, bytes));
}

#[test]
fn blobs_are_mounted_from_other_repositories() {
    let registry = Registry::plain();
    let all = registries();
    let digest = upload(&all.repository(&reference(&registry, "from")), b"hello");
    let other = all.repository(&reference(&registry, "to"));
    assert!(other.mount_blob(&digest, "from", &never).unwrap());
    assert!(other.has_blob(&digest, &never).unwrap());
    assert!(!other.mount_blob(&Digest::of("missing"), "from", &never).unwrap());
}

#[test]
fn uploads_that_are_not_what_they_should_be_fail() {
    let registry = Registry::plain();
    let all = registries();
    let repository = all.repository(&reference(&registry, "a"));
    let digest = Digest::of("hello");
    let error = repository.upload_blob(&digest, 5, &mut |out| out.write_all(b"jello"), &never).unwrap_err();
    assert!(error.to_string().contains("digest"), "{error}");
    for short_or_long in ["hell", "hello!"] {
        let mut write = |out: &mut dyn Write| out.write_all(short_or_long.as_bytes());
        let error = repository.upload_blob(&digest, 5, &mut write, &never).unwrap_err();
        assert!(error.into_source().is_err());
    }
    let mut write = |_: &mut dyn Write| Err(std::io::Error::other("the disk is gone"));
    let error = repository.upload_blob(&digest, 5, &mut write, &never).unwrap_err();
    assert!(rbuild::report::chain(&error).contains("the disk is gone"), "{error}");
    assert!(!repository.has_blob(&digest, &never).unwrap());
}

#[test]
fn manifests_go_both_ways() {
    let registry = Registry::plain();
    let all = registries();
    let repository = all.repository(&reference(&registry, "a"));
    upload(&repository, b"{}");
    let bytes = manifest(b"{}");
    assert!(repository.head_manifest("1", &never).unwrap().is_none());
    assert!(repository.manifest("1", &never).unwrap_err().is_not_found());
    let digest = repository.put_manifest("1", MANIFEST_TYPE, &bytes, &never).unwrap();
    assert_eq!(digest, Digest::of(&bytes));
    for which in ["1", &digest.to_string()] {
        let found = repository.manifest(which, &never).unwrap();
        assert_eq!((&found.bytes, found.media_type.as_str(), found.digest), (&bytes, MANIFEST_TYPE, digest));
        let told = repository.head_manifest(which, &never).unwrap().unwrap();
        assert_eq!((told.digest, told.size), (digest, bytes.len() as u64));
        assert_eq!(told.media_type, MANIFEST_TYPE);
    }
    repository.put_manifest("2", MANIFEST_TYPE, &bytes, &never).unwrap();
    assert_eq!(repository.tags(&never).unwrap(), ["1", "2"]);
    let error = repository.manifest("../x", &never).unwrap_err();
    assert!(error.to_string().contains("neither a tag nor a digest"), "{error}");
}

/// Tries again at once.
fn options() -> RegistryOptions {
    let none = std::time::Duration::ZERO;
    let retry = RetryPolicy { tries: 3, first_pause: none, longest_pause: none, longest_asked: none };
    RegistryOptions { retry, ..RegistryOptions::default() }
}

fn through(proxy: &Proxy) -> RegistryOptions {
    let proxies =
        ProxySettings { http: Some(proxy.url()), https: Some(proxy.url()), ..ProxySettings::default() };
    RegistryOptions { proxies, ..options() }
}

fn daemon_json(folder: &tempfile::TempDir, text: &str) -> SettingsFile {
    let path = folder.path().join("daemon.json");
    std::fs::write(&path, text).unwrap();
    SettingsFile { path, is_dockers: true, required: true }
}

fn tags(options: RegistryOptions, name: &str) -> Result<Vec<String>, RegistryError> {
    let all = Registries::new(options);
    all.repository(&name.parse().unwrap()).tags(&never)
}

#[track_caller]
fn fails<T>(result: Result<T, RegistryError>, expect: &[&str]) -> RegistryError {
    let error = match result {
        Ok(_) => panic!("it should have failed with {expect:?}"),
        Err(error) => error,
    };
    let text = rbuild::report::chain(&error);
    for expect in expect {
        assert!(text.contains(expect), "`{expect}` is not in: {text}");
    }
    error
}

#[test]
fn without_tls_only_where_that_is_set() {
    let registry = Registry::plain();
    let proxy = Proxy::start(&[("r.test:5000", registry.host())]);
    let folder = tempfile::tempdir().unwrap();
    let expect = ["r.test:5000", "speaks http, not https", "insecure-registries", "/etc/docker/daemon.json"];
    fails(tags(through(&proxy), "r.test:5000/a"), &expect);
    let mut allowed = through(&proxy);
    allowed.settings.push(daemon_json(&folder, r#"{"insecure-registries":["r.test:5000"]}"#));
    assert!(fails(tags(allowed, "r.test:5000/a"), &["not found"]).is_not_found());
}

#[test]
fn certificates_are_checked_but_where_that_is_set() {
    let registry = Registry::start(&Setup { tls: Some(&["r.test"]), ..Setup::default() });
    let proxy = Proxy::start(&[("r.test:443", registry.host()), ("other.test:443", registry.host())]);
    let folder = tempfile::tempdir().unwrap();
    fails(tags(through(&proxy), "r.test/a"), &["authority", "certs.d/r.test", "insecure-registries"]);
    let ca = registry.ca_pem.as_deref().unwrap();
    std::fs::create_dir_all(folder.path().join("certs.d/r.test")).unwrap();
    std::fs::write(folder.path().join("certs.d/r.test/ca.crt"), ca).unwrap();
    let mut with_ca = through(&proxy);
    with_ca.certificate_folders.push(folder.path().join("certs.d"));
    assert!(fails(tags(with_ca.clone(), "r.test/a"), &["not found"]).is_not_found());
    // The folder is for its host alone.
    fails(tags(with_ca, "other.test/a"), &["other.test", "insecure-registries"]);
    let mut insecure = through(&proxy);
    insecure.settings.push(daemon_json(&folder, r#"{"insecure-registries":["other.test"]}"#));
    assert!(fails(tags(insecure, "other.test/a"), &["not found"]).is_not_found());
    // This machine's registries are insecure by default, with TLS too.
    assert!(fails(tags(options(), &registry.name("a")), &["not found"]).is_not_found());
}

#[test]
fn certificates_are_shown_to_who_wants_them() {
    let own = Issued::new(&["client"]);
    let setup = Setup { tls: Some(&["r.test"]), client_ca: Some(&own.authority), ..Setup::default() };
    let registry = Registry::start(&setup);
    let proxy = Proxy::start(&[("r.test:443", registry.host())]);
    let folder = tempfile::tempdir().unwrap();
    let certificates = folder.path().join("r.test");
    std::fs::create_dir(&certificates).unwrap();
    std::fs::write(certificates.join("ca.crt"), registry.ca_pem.as_deref().unwrap()).unwrap();
    let with = || RegistryOptions { certificate_folders: vec![folder.path().to_owned()], ..through(&proxy) };
    assert!(!fails(tags(with(), "r.test/a"), &["r.test"]).is_not_found());
    std::fs::write(certificates.join("me.cert"), &own.certificate).unwrap();
    std::fs::write(certificates.join("me.key"), &own.key).unwrap();
    assert!(fails(tags(with(), "r.test/a"), &["not found"]).is_not_found());
}

#[test]
fn mirrors_are_read_first_and_never_written() {
    let (first, second, hub) = (Registry::plain(), Registry::plain(), Registry::plain());
    let bytes = manifest(b"{}");
    for registry in [&second, &hub] {
        let all = registries();
        let repository = all.repository(&reference(registry, "library/debian"));
        upload(&repository, b"{}");
        repository.put_manifest("latest", MANIFEST_TYPE, &bytes, &never).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        r#"{{"registry-mirrors":["http://{}","http://{}"],"insecure-registries":["registry-1.docker.io"]}}"#,
        first.host(),
        second.host()
    );
    let proxy = Proxy::start(&[("registry-1.docker.io:80", hub.host())]);
    let mut options = through(&proxy);
    options.settings.push(daemon_json(&folder, &text));
    let all = Registries::new(options);
    let repository = all.repository(&"debian".parse().unwrap());
    assert_eq!(repository.manifest("latest", &never).unwrap().bytes, bytes);
    assert!(proxy.seen().is_empty(), "the second mirror has it: {:?}", proxy.seen());
    let blob = upload(&repository, b"new");
    assert!(registries().repository(&reference(&hub, "library/debian")).has_blob(&blob, &never).unwrap());
    assert!(!registries().repository(&reference(&first, "library/debian")).has_blob(&blob, &never).unwrap());
    assert_eq!(read(&repository, &blob, 3, 0), (0, b"new".to_vec()), "no mirror has it, the registry does");
}

/// What a server that answers so does to a read of a manifest.
fn manifest_from(
    answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    which: &str,
) -> (RegistryError, usize) {
    let server = Server::start(answer);
    let all = Registries::new(options());
    let name = format!("{}/a", server.host());
    let error = all.repository(&name.parse().unwrap()).manifest(which, &never).unwrap_err();
    // The first try of all is TLS, which the server takes for a request it cannot read.
    let asked = server.asked().iter().filter(|asked| asked.method == "GET").count();
    (error, asked)
}

#[test]
fn errors_of_servers_are_told_apart() {
    let check = |status: u16, body: &'static str, times: usize, expect: &[&str]| {
        let answer = move |_: &Asked| Answer { status, ..Answer::ok(body).with("Retry-After", "0") };
        let (error, asked) = manifest_from(answer, "latest");
        assert_eq!(asked, times, "{error}");
        fails::<()>(Err(error), expect);
    };
    let denied = r#"{"errors":[{"code":"DENIED","message":"no \u001b[31maccess\nfor you"}]}"#;
    check(401, "", 1, &["was denied", "rbuild login 127.0.0.1:"]);
    check(403, denied, 1, &["was denied", "denied: no access for you"]);
    check(
        404,
        r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#,
        1,
        &["`latest`", "not found", "manifest unknown"],
    );
    check(404, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#, 1, &["not found", "name unknown"]);
    check(429, "", 3, &["too many requests", "try again later"]);
    check(500, "<html>", 3, &["answered 500"]);
    check(503, "", 3, &["answered 503"]);
    check(418, "", 1, &["answered 418"]);
    let endless = |_: &Asked| Answer { status: 500, ..Answer::bad(Body::Endless) };
    fails::<()>(Err(manifest_from(endless, "latest").0), &["answered 500"]);
}

#[test]
fn manifests_that_are_not_what_they_seem_are_refused() {
    let check = |answer: fn() -> Answer, which: &str, expect: &[&str]| {
        let (error, asked) = manifest_from(move |_| answer(), which);
        assert_eq!(asked, 1);
        fails::<()>(Err(error), expect);
    };
    let other = Digest::of("other").to_string();
    let liar = || {
        let told = Digest::of("other").to_string();
        Answer::ok(r#"{"layers":[],"config":{}}"#).with("Docker-Content-Digest", &told)
    };
    check(liar, &other, &["other bytes than its digest says"]);
    let both = || Answer::ok(r#"{"layers":[],"manifests":[]}"#).with("Content-Type", MANIFEST_TYPE);
    check(both, "latest", &["a manifest and an index at once"]);
    let index = || Answer::ok(r#"{"manifests":[]}"#).with("Content-Type", MANIFEST_TYPE);
    check(index, "latest", &["called a manifest, but is an index"]);
    check(|| Answer::bad(Body::Endless), "latest", &["larger than"]);
    check(|| Answer::ok(vec![b' '; 5 << 20]), "latest", &["larger than"]);
}

#[test]
fn blobs_of_other_lengths_are_refused() {
    let check = |answer: fn() -> Answer, expect: &str| {
        let server = Server::start(move |_| answer());
        let all = Registries::new(options());
        let repository = all.repository(&format!("{}/a", server.host()).parse().unwrap());
        let found = repository.blob(&Digest::of("hello"), 5, 0, &never).and_then(|mut stream| {
            let mut bytes = Vec::new();
            let read = stream.read_to_end(&mut bytes);
            assert!(bytes.len() <= 5);
            read.map_err(|error| RegistryError::from_io(error).unwrap())
        });
        fails(found, &[expect])
    };
    check(|| Answer::ok("hell"), "was announced with 5 bytes, but the server sends 4");
    check(|| Answer::ok("hello!"), "but the server sends 6");
    check(|| Answer::bad(Body::Endless), "larger than 5 bytes");
    assert!(check(|| Answer::bad(Body::Short(b"he".to_vec(), 5)), "broke").is_transient());
    check(|| Answer { status: 206, ..Answer::ok("hello") }, "another part");
}

#[test]
fn what_is_cancelled_ends() {
    let server = Server::start(|_| Answer::bad(Body::Silent));
    let all = Registries::new(options());
    let name = format!("{}/a", server.host()).parse().unwrap();
    let error = all.repository(&name).tags(&|| server.count() > 0).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
}
