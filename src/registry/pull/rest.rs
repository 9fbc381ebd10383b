//! The rest of a blob: connections that break are opened again from where they broke.
//!
//! Not here: checking the bytes, keeping them.

use std::io::{self, Read};

use super::super::error::RegistryError;
use super::super::repository::Repository;
use super::super::stream::BlobStream;
use super::Cancelled;
use crate::image::Digest;
use crate::net::sleep;

/// After so many more bytes a broken connection counts as the first one again.
const PROGRESS: u64 = 64 * 1024;

/// The bytes of a blob from an offset to its end; nothing is asked for before it is read.
///
/// It yields exactly what is missing to the blob's size, or fails; then `failure` says why.
pub struct Rest<'a> {
    repository: &'a Repository<'a>,
    digest: Digest,
    size: u64,
    at: u64,
    stream: Option<BlobStream<'a>>,
    /// How many bytes come that are here already.
    skip: u64,
    /// How often the connection broke in a row, and where the first of these was.
    broken: u32,
    broken_at: u64,
    cancelled: Cancelled<'a>,
    pub failure: Option<RegistryError>,
}

impl<'a> Rest<'a> {
    /// Makes it for a blob of `size` bytes of which `at` are there.
    pub fn new(
        repository: &'a Repository<'a>,
        digest: Digest,
        size: u64,
        at: u64,
        cancelled: Cancelled<'a>,
    ) -> Rest<'a> {
        let (broken, broken_at) = (0, at);
        Rest {
            repository,
            digest,
            size,
            at,
            stream: None,
            skip: 0,
            broken,
            broken_at,
            cancelled,
            failure: None,
        }
    }

    /// Opens the blob at the present offset, or earlier where the server cannot do that.
    fn open(&mut self) -> Result<&mut BlobStream<'a>, RegistryError> {
        if self.stream.is_none() {
            let stream = self.repository.blob(&self.digest, self.size, self.at, self.cancelled)?;
            self.skip = self.at.saturating_sub(stream.start());
            self.stream = Some(stream);
        }
        Ok(self.stream.as_mut().expect("it was opened just now"))
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, RegistryError> {
        self.open()?;
        // What is here already comes again; that it is the same, its digest tells in the end.
        while self.skip > 0 {
            let most = usize::try_from(self.skip).unwrap_or(usize::MAX).min(buffer.len());
            let count = self.open()?.read(&mut buffer[..most]).map_err(registry_error)?;
            self.skip = self.skip.saturating_sub(count as u64);
        }
        self.open()?.read(buffer).map_err(registry_error)
    }
}

impl Read for Rest<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.size || buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let error = match self.read_some(buffer) {
                Ok(count) => {
                    self.at += count as u64;
                    return Ok(count);
                }
                Err(error) => error,
            };
            let was_open = self.stream.take().is_some();
            if self.at - self.broken_at >= PROGRESS {
                self.broken = 0;
            }
            if self.broken == 0 {
                self.broken_at = self.at;
            }
            self.broken += 1;
            // One that could not be opened was tried again by the repository itself.
            let options = &self.repository.registries.options;
            let again = was_open && error.is_transient();
            let pause = match again {
                true => options.retry.pause(self.broken, error.retry_after()),
                false => None,
            };
            if let Some(pause) = pause {
                options.listener.tell(&error, self.broken, &options.retry, pause);
            }
            match pause {
                Some(pause) if sleep(pause, self.cancelled) => {}
                _ => {
                    let error = if again { error.after(self.broken) } else { error };
                    let text = error.to_string();
                    self.failure = Some(error);
                    return Err(io::Error::other(text));
                }
            }
        }
    }
}

fn registry_error(error: io::Error) -> RegistryError {
    RegistryError::from_io(error).unwrap_or_else(|error| RegistryError::Manifest { why: error.to_string() })
}
