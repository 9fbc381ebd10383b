//! Registries: how they are reached, credentials, `login` and `logout`; the client against a real one.
//!
//! Not here: `pull` and `push`.

use std::io::{Read, Write};

use rbuild::image::{Digest, Reference};
use rbuild::registry::{Registries, RegistryError, RegistryOptions, Repository};

use super::common::registry::Registry;

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
