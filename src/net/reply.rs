//! An answer: its headers, and its body while it comes.

use std::io;
use std::time::Duration;

use super::error::{NetError, Problem, explain};
use super::exchange::{Network, Stop};

/// A good answer (2xx, or 304 where that was asked for), its body not read yet.
pub struct Reply<'c> {
    pub(super) network: &'c Network,
    pub(super) response: reqwest::Response,
    /// Where it came from after redirects, fit to be shown.
    pub(super) url: String,
    pub(super) proxy: Option<String>,
    pub(super) idle: Duration,
}

impl Reply<'_> {
    /// Returns where it came from after redirects, fit to be shown.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the status.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Tells whether what the caller has is still good (RFC 9110, 15.4.5).
    pub fn is_not_modified(&self) -> bool {
        self.status() == 304
    }

    /// Returns the first header of that name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Hands the body over piece by piece; returns its length.
    ///
    /// Nothing beyond `limit` bytes is handed over: a longer body is an error, as is one that ends
    /// early by its Content-Length.
    pub fn copy_to(
        mut self,
        limit: u64,
        cancel: &dyn Fn() -> bool,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<u64, NetError> {
        let (url, proxy) = (self.url, self.proxy);
        let fail = |problem| NetError::new(url.clone(), problem).through(proxy.clone());
        let announced = self.response.content_length();
        if announced.is_some_and(|length| length > limit) {
            return Err(fail(Problem::TooLarge(limit)));
        }
        let mut length = 0u64;
        loop {
            let piece = match self.network.wait(self.idle, cancel, self.response.chunk()) {
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) => break,
                Ok(Err(error)) => return Err(fail(explain(&error, ""))),
                Err(Stop::Cancelled) => return Err(fail(Problem::Cancelled)),
                Err(Stop::TimedOut) => return Err(fail(Problem::Stalled(self.idle))),
            };
            length += piece.len() as u64;
            if length > limit {
                return Err(fail(Problem::TooLarge(limit)));
            }
            sink(&piece).map_err(|e| fail(Problem::Write(e)))?;
        }
        match announced {
            Some(announced) if announced != length => {
                Err(fail(Problem::Interrupted(format!("{length} of {announced} bytes"))))
            }
            _ => Ok(length),
        }
    }

    /// Returns a small body whole.
    pub fn bytes(self, limit: u64, cancel: &dyn Fn() -> bool) -> Result<Vec<u8>, NetError> {
        let mut bytes = Vec::new();
        self.copy_to(limit, cancel, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }
}
