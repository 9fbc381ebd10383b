//! What is written to a repository: blobs and manifests (distribution-spec, "Push").
//!
//! Not here: which blobs an image needs, and in which order they go.

use std::io;
use std::io::Write;

use url::Url;

use super::error::RegistryError;
use super::host::Endpoint;
use super::repository::{Repository, digest_or_tag};
use super::transport::{Payload, Target, location};
use crate::image::{Digest, Hasher};
use crate::net::Method;

const BYTES: &str = "application/octet-stream";

impl Repository<'_> {
    /// Takes a blob over from another repository of the same registry, by its path (`library/debian`).
    ///
    /// `false`: the registry did not, and the blob must be uploaded.
    pub fn mount_blob(
        &self,
        digest: &Digest,
        from: &str,
        cancel: &dyn Fn() -> bool,
    ) -> Result<bool, RegistryError> {
        let what = format!("the blob {digest} of `{from}`");
        let home = self.home()?;
        self.registries.retrying(cancel, || {
            let query: String = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("mount", &digest.to_string())
                .append_pair("from", from)
                .finish();
            let mut ask = self.ask_to_push(Method::Post, &format!("blobs/uploads/?{query}"));
            ask.wanted.scopes.push(format!("repository:{from}:pull"));
            ask.wanted.scopes.sort();
            let reply = self.expect(&home, &mut ask, &[201, 202], &what, cancel)?;
            if reply.status() == 201 {
                return Ok(true);
            }
            // It opened an upload instead, which nobody will use; one that stays is swept by the registry.
            if let Ok(url) = location(&home, &reply) {
                let mut ask = self.ask_to_push(Method::Delete, "");
                ask.target = Target::Url(url);
                let _ = self.registries.ask(&home, &mut ask, cancel);
            }
            Ok(false)
        })
    }

    /// Uploads a blob of `size` bytes.
    ///
    /// `write` writes all of it, from the start, each time it is called: again after a connection
    /// that broke. It runs on a thread of its own, and its error ends the upload. The registry
    /// checks the digest.
    pub fn upload_blob(
        &self,
        digest: &Digest,
        size: u64,
        write: &mut (dyn FnMut(&mut dyn Write) -> io::Result<()> + Send),
        cancel: &dyn Fn() -> bool,
    ) -> Result<(), RegistryError> {
        let what = format!("the upload of the blob {digest} to `{}`", self.name);
        let home = self.home()?;
        self.registries.retrying(cancel, || {
            let url = self.start_upload(&home, &what, cancel)?;
            let mut ask = self.ask_to_push(Method::Put, "").header("Content-Type", BYTES);
            ask.target = Target::Url(with_digest(url, digest));
            ask.body = Payload::Stream { length: Some(size), write: &mut *write };
            self.expect(&home, &mut ask, &[201, 204], &what, cancel)?;
            Ok(())
        })
    }

    /// Uploads a blob whose size and digest are known only when it is written; returns both.
    ///
    /// As [`Repository::upload_blob`] else; the bytes go out in chunks while they are written.
    pub fn upload_stream(
        &self,
        write: &mut (dyn FnMut(&mut dyn Write) -> io::Result<()> + Send),
        cancel: &dyn Fn() -> bool,
    ) -> Result<(Digest, u64), RegistryError> {
        let what = format!("the upload of a blob to `{}`", self.name);
        let home = self.home()?;
        self.registries.retrying(cancel, || {
            let url = self.start_upload(&home, &what, cancel)?;
            let (mut hasher, mut size) = (Hasher::new(), 0);
            let mut counted = |out: &mut dyn Write| {
                (hasher, size) = (Hasher::new(), 0);
                write(&mut Counted { out, hasher: &mut hasher, size: &mut size })
            };
            let mut ask = self.ask_to_push(Method::Patch, "").header("Content-Type", BYTES);
            ask.target = Target::Url(url);
            ask.body = Payload::Stream { length: None, write: &mut counted };
            let reply = self.expect(&home, &mut ask, &[202], &what, cancel)?;
            let url = location(&home, &reply)?;
            drop(ask);
            let digest = hasher.finish();
            let mut ask = self.ask_to_push(Method::Put, "");
            ask.target = Target::Url(with_digest(url, &digest));
            self.expect(&home, &mut ask, &[201, 204], &what, cancel)?;
            Ok((digest, size))
        })
    }

    /// Stores a manifest under a tag or its digest, and returns its digest.
    pub fn put_manifest(
        &self,
        which: &str,
        media_type: &str,
        bytes: &[u8],
        cancel: &dyn Fn() -> bool,
    ) -> Result<Digest, RegistryError> {
        let wanted = digest_or_tag(which)?;
        let digest = Digest::of(bytes);
        let what = format!("the manifest `{which}` of `{}`", self.name);
        if wanted.is_some_and(|wanted| wanted != digest) {
            return Err(RegistryError::Digest { what, found: digest });
        }
        let home = self.home()?;
        self.registries.retrying(cancel, || {
            let mut ask = self.ask_to_push(Method::Put, &format!("manifests/{which}"));
            ask = ask.header("Content-Type", media_type);
            ask.body = Payload::Bytes(bytes);
            self.expect(&home, &mut ask, &[200, 201, 202], &what, cancel)?;
            Ok(digest)
        })
    }

    fn start_upload(
        &self,
        home: &Endpoint,
        what: &str,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Url, RegistryError> {
        let mut ask = self.ask_to_push(Method::Post, "blobs/uploads/");
        let reply = self.expect(home, &mut ask, &[202], what, cancel)?;
        location(home, &reply)
    }
}

/// Counts and digests what goes through.
struct Counted<'w> {
    out: &'w mut dyn Write,
    hasher: &'w mut Hasher,
    size: &'w mut u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        *self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Adds the digest to where an upload ends; what the server put there stays as it is.
fn with_digest(mut url: Url, digest: &Digest) -> Url {
    url.query_pairs_mut().append_pair("digest", &digest.to_string());
    url
}
