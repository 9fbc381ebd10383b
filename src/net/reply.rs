//! An answer: its headers, and its body while it comes.

use std::io;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::{NetError, Problem, explain};
use super::exchange::{Network, Stop};

/// An answer (2xx, or another status where that was asked for), its body not read yet.
pub struct Reply {
    pub(super) network: Arc<Network>,
    pub(super) response: reqwest::Response,
    /// Where it came from after redirects, fit to be shown.
    pub(super) url: String,
    pub(super) proxy: Option<String>,
    pub(super) idle: Duration,
}

impl Reply {
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

    /// Returns all headers of that name that are text.
    pub fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.response.headers().get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// Returns the body's length as the server announced it; not of an answer to HEAD.
    pub fn content_length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// Returns the body as a stream of at most `limit` bytes; a longer one fails.
    pub fn into_reader<'a>(self, limit: u64, cancel: &'a dyn Fn() -> bool) -> BodyReader<'a> {
        let announced = self.response.content_length();
        BodyReader { reply: self, piece: Bytes::new(), announced, taken: 0, limit, cancel }
    }

    /// Hands the body over piece by piece; returns its length.
    ///
    /// Nothing beyond `limit` bytes is handed over: a longer body is an error, as is one that ends
    /// early by its Content-Length.
    pub fn copy_to(
        self,
        limit: u64,
        cancel: &dyn Fn() -> bool,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<u64, NetError> {
        let mut body = self.into_reader(limit, cancel);
        while let Some(piece) = body.next_piece()? {
            sink(&piece).map_err(|e| body.fail(Problem::Write(e)))?;
        }
        Ok(body.taken)
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

    /// Returns a small body as far as it is not longer than `limit` and comes whole.
    ///
    /// For the words of an error, which are worth no error of their own.
    pub fn bytes_up_to(self, limit: u64, cancel: &dyn Fn() -> bool) -> Vec<u8> {
        let mut body = self.into_reader(u64::MAX, cancel).take(limit);
        let mut bytes = Vec::new();
        // What came before an error is all there is.
        let _ = body.read_to_end(&mut bytes);
        bytes
    }
}

/// A body while it comes; blocks, and looks at the caller's cancellation many times a second.
///
/// Its errors are [`NetError`]s: see [`NetError::from_io`]. It fails for a body that is longer than its
/// limit, or ends early by its Content-Length; reading on after an error is an error again.
pub struct BodyReader<'a> {
    reply: Reply,
    piece: Bytes,
    announced: Option<u64>,
    taken: u64,
    limit: u64,
    cancel: &'a dyn Fn() -> bool,
}

impl BodyReader<'_> {
    /// Returns where it comes from, fit to be shown.
    pub fn url(&self) -> &str {
        &self.reply.url
    }

    /// Waits for the next piece; `None` at the end.
    fn next_piece(&mut self) -> Result<Option<Bytes>, NetError> {
        if self.announced.is_some_and(|length| length > self.limit) {
            return Err(self.fail(Problem::TooLarge(self.limit)));
        }
        let Reply { network, response, idle, .. } = &mut self.reply;
        let idle = *idle;
        let piece = match network.wait(idle, self.cancel, response.chunk()) {
            Ok(Ok(piece)) => piece,
            Ok(Err(error)) => return Err(self.fail(explain(&error, ""))),
            Err(Stop::Cancelled) => return Err(self.fail(Problem::Cancelled)),
            Err(Stop::TimedOut) => return Err(self.fail(Problem::Stalled(idle))),
        };
        match (&piece, self.announced) {
            (Some(piece), _) => self.taken += piece.len() as u64,
            (None, Some(announced)) if announced != self.taken => {
                let text = format!("{} of {announced} bytes", self.taken);
                return Err(self.fail(Problem::Interrupted(text)));
            }
            _ => {}
        }
        if self.taken > self.limit {
            return Err(self.fail(Problem::TooLarge(self.limit)));
        }
        Ok(piece)
    }

    fn fail(&self, problem: Problem) -> NetError {
        NetError::new(self.reply.url.clone(), problem).through(self.reply.proxy.clone())
    }
}

impl io::Read for BodyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.next_piece().map_err(io::Error::other)? {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
