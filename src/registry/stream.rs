//! A blob while it comes.
//!
//! Not here: checking its digest, which who unpacks it does on the way.

use std::io;
use std::io::Read;

use super::error::RegistryError;
use crate::net::BodyReader;

/// The bytes of a blob from [`BlobStream::start`] on.
///
/// It yields exactly what is missing to the blob's size, or fails: with a [`RegistryError`] inside
/// the error (see [`RegistryError::from_io`]). Digests are checked by nobody here.
pub struct BlobStream<'a> {
    body: BodyReader<'a>,
    what: String,
    start: u64,
    size: u64,
    at: u64,
}

impl<'a> BlobStream<'a> {
    pub(super) fn new(body: BodyReader<'a>, what: String, start: u64, size: u64) -> BlobStream<'a> {
        BlobStream { body, what, start, size, at: start }
    }

    /// Returns the offset in the blob of the first byte: what was asked for, or 0.
    pub fn start(&self) -> u64 {
        self.start
    }
}

impl Read for BlobStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer)?;
        self.at += count as u64;
        if count == 0 && !buffer.is_empty() && self.at != self.size {
            let what = self.what.clone();
            let error = RegistryError::Short { what, expected: self.size, found: self.at };
            return Err(io::Error::other(error));
        }
        Ok(count)
    }
}
