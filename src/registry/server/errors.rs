//! The errors of the API: a status, a code of the specification, words, as the JSON that docker's clients read.
//!
//! Specification: distribution-spec, "Error Codes". Not here: when which is due.

use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::reply::Reply;
use crate::store::StoreError;

/// An error code with the words that docker's registry has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    Denied,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    RangeInvalid,
    SizeInvalid,
    TagInvalid,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unknown,
    Unsupported,
}

impl Code {
    /// Returns the code's name, its usual words, and its usual status.
    fn words(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Code::BlobUnknown => ("BLOB_UNKNOWN", "blob unknown to registry", StatusCode::NOT_FOUND),
            Code::BlobUploadInvalid => {
                ("BLOB_UPLOAD_INVALID", "blob upload invalid", StatusCode::BAD_REQUEST)
            }
            Code::BlobUploadUnknown => {
                ("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", StatusCode::NOT_FOUND)
            }
            Code::Denied => ("DENIED", "requested access to the resource is denied", StatusCode::FORBIDDEN),
            Code::DigestInvalid => {
                ("DIGEST_INVALID", "provided digest did not match uploaded content", StatusCode::BAD_REQUEST)
            }
            Code::ManifestBlobUnknown => {
                ("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", StatusCode::NOT_FOUND)
            }
            Code::ManifestInvalid => ("MANIFEST_INVALID", "manifest invalid", StatusCode::BAD_REQUEST),
            Code::ManifestUnknown => ("MANIFEST_UNKNOWN", "manifest unknown", StatusCode::NOT_FOUND),
            Code::NameInvalid => ("NAME_INVALID", "invalid repository name", StatusCode::BAD_REQUEST),
            Code::NameUnknown => {
                ("NAME_UNKNOWN", "repository name not known to registry", StatusCode::NOT_FOUND)
            }
            Code::PaginationNumberInvalid => {
                ("PAGINATION_NUMBER_INVALID", "invalid number of results requested", StatusCode::BAD_REQUEST)
            }
            Code::RangeInvalid => {
                ("RANGE_INVALID", "invalid content range", StatusCode::RANGE_NOT_SATISFIABLE)
            }
            Code::SizeInvalid => {
                ("SIZE_INVALID", "provided length did not match content length", StatusCode::BAD_REQUEST)
            }
            Code::TagInvalid => ("TAG_INVALID", "manifest tag did not match URI", StatusCode::BAD_REQUEST),
            Code::TooManyRequests => ("TOOMANYREQUESTS", "too many requests", StatusCode::TOO_MANY_REQUESTS),
            Code::Unauthorized => ("UNAUTHORIZED", "authentication required", StatusCode::UNAUTHORIZED),
            Code::Unavailable => ("UNAVAILABLE", "service unavailable", StatusCode::SERVICE_UNAVAILABLE),
            Code::Unknown => ("UNKNOWN", "unknown error", StatusCode::INTERNAL_SERVER_ERROR),
            Code::Unsupported => {
                ("UNSUPPORTED", "The operation is unsupported.", StatusCode::METHOD_NOT_ALLOWED)
            }
        }
    }
}

/// An answer that refuses.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: Code,
    /// Instead of the code's usual words.
    message: Option<String>,
    /// One entry of `errors` for each.
    details: Vec<Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What went wrong on this side: for the log, not for the client.
    pub cause: Option<String>,
    /// Whether the connection is of no more use.
    pub close: bool,
}

impl ApiError {
    /// Makes one with the code's usual status.
    pub fn new(code: Code) -> ApiError {
        let status = code.words().2;
        ApiError {
            status,
            code,
            message: None,
            details: Vec::new(),
            headers: Vec::new(),
            cause: None,
            close: false,
        }
    }

    /// Says what exactly is wrong.
    pub fn because(self, reason: impl Into<String>) -> ApiError {
        self.detail(Value::String(reason.into()))
    }

    /// Says it in other words: clients show these, and of most codes no details.
    pub fn saying(mut self, message: impl Into<String>) -> ApiError {
        self.message = Some(message.into());
        self
    }

    /// Adds a detail in the form that the code's details have.
    pub fn detail(mut self, detail: Value) -> ApiError {
        self.details.push(detail);
        self
    }

    /// Gives it another status.
    pub fn status(mut self, status: StatusCode) -> ApiError {
        self.status = status;
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> ApiError {
        self.headers.push((name, value));
        self
    }

    /// Ends the connection with the answer: what comes on it is not known.
    pub fn closing(mut self) -> ApiError {
        self.close = true;
        self
    }

    /// Makes the answer.
    pub fn reply(self) -> Reply {
        let (name, usual, _) = self.code.words();
        let message = self.message.unwrap_or_else(|| usual.to_owned());
        let entry = |detail: Value| match detail {
            Value::Null => json!({"code": name, "message": message}),
            detail => json!({"code": name, "message": message, "detail": detail}),
        };
        let errors: Vec<Value> = match self.details.is_empty() {
            true => vec![entry(Value::Null)],
            false => self.details.into_iter().map(entry).collect(),
        };
        let mut body = json!({ "errors": errors }).to_string().into_bytes();
        body.push(b'\n');
        let mut reply = Reply::new(self.status).json(body);
        for (name, value) in self.headers {
            reply = reply.header(name, value);
        }
        if self.close {
            reply = reply.header(header::CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        let code = match &error {
            StoreError::Full { .. } | StoreError::NoRoom(_) => Code::Unavailable,
            _ => Code::Unknown,
        };
        let mut told = ApiError::new(code);
        if code == Code::Unavailable {
            told = told.status(StatusCode::INSUFFICIENT_STORAGE).saying("the registry's disk is full");
        }
        // Paths of this machine are nobody else's affair.
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        told.cause = Some(text);
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_dockers_shape() {
        let reply = ApiError::new(Code::BlobUnknown).detail(json!({"digest": "x"})).reply();
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
        let body: Value = serde_json::from_slice(&reply.bytes().unwrap()).unwrap();
        let expect = json!({"errors": [
            {"code": "BLOB_UNKNOWN", "message": "blob unknown to registry", "detail": {"digest": "x"}}
        ]});
        assert_eq!(body, expect);
    }

    #[test]
    fn what_goes_wrong_here_is_not_told_there() {
        let error = ApiError::from(StoreError::NotFound("/secret/place".into()));
        assert!(error.cause.as_ref().unwrap().contains("/secret/place"));
        let bytes = error.reply().bytes().unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("secret"));
    }
}
