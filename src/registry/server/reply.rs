//! An answer while it is made: status, headers, body.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::body::{FileBody, ReplyBody};

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    headers: HeaderMap,
    body: ReplyBody,
}

impl Reply {
    /// Makes one without a body.
    pub fn new(status: StatusCode) -> Reply {
        Reply { status, headers: HeaderMap::new(), body: ReplyBody::Empty }
    }

    /// Sets a header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Reply {
        self.headers.insert(name, value);
        self
    }

    /// Adds a header to those of its name.
    pub fn and_header(mut self, name: HeaderName, value: HeaderValue) -> Reply {
        self.headers.append(name, value);
        self
    }

    /// Sets a header of the API's own.
    pub fn named(self, name: &'static str, value: &str) -> Reply {
        self.header(HeaderName::from_static(name), text(value))
    }

    /// Gives it a body.
    pub fn bytes_of(mut self, media_type: &str, bytes: Vec<u8>) -> Reply {
        self.headers.insert(header::CONTENT_TYPE, text(media_type));
        self.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        self.body = ReplyBody::Bytes(Some(Bytes::from(bytes)));
        self
    }

    /// Gives it a body of JSON.
    pub fn json(self, bytes: Vec<u8>) -> Reply {
        self.bytes_of("application/json; charset=utf-8", bytes)
    }

    /// Gives it a part of a file as body.
    pub fn file(mut self, body: FileBody) -> Reply {
        self.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.left()));
        self.body = ReplyBody::File(body);
        self
    }

    /// Leaves the body out, but says how long it would be: for HEAD.
    pub fn without_body(mut self) -> Reply {
        self.body = ReplyBody::Empty;
        self
    }

    /// Returns how long it says that its body is.
    pub fn length(&self) -> u64 {
        let length = self.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        length.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Returns a header.
    #[cfg(test)]
    pub fn header_text(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns a body that is in memory.
    #[cfg(test)]
    pub fn bytes(self) -> Option<Bytes> {
        match self.body {
            ReplyBody::Bytes(bytes) => bytes,
            _ => None,
        }
    }

    /// Makes what is sent; what every answer has is added here.
    pub fn into_response(mut self) -> Response<ReplyBody> {
        let has_length = self.headers.contains_key(header::CONTENT_LENGTH);
        let may_have = self.status != StatusCode::NO_CONTENT && self.status != StatusCode::NOT_MODIFIED;
        if !has_length && may_have {
            self.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
        }
        self.headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        self.headers.insert(
            HeaderName::from_static("docker-distribution-api-version"),
            HeaderValue::from_static("registry/2.0"),
        );
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// Makes a header's value; what cannot be one is left out.
pub fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}
