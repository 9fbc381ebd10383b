//! Blobs as they are read and removed: end-2, end-10. With byte ranges (RFC 9110, section 14) and entity tags.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

use super::State;
use super::body::FileBody;
use super::errors::{ApiError, Code};
use super::reply::{Reply, text};
use crate::store::{ContentDigest, OpenBlob, Repositories, RepositoryName};

/// Answers GET and HEAD.
pub fn get(
    state: &State,
    name: &RepositoryName,
    digest: &ContentDigest,
    headers: &HeaderMap,
    head: bool,
) -> Result<Reply, ApiError> {
    let (sources, buffers) = (&state.sources, &state.buffers);
    let unknown = || ApiError::new(Code::BlobUnknown).detail(json!({"digest": digest.to_string()}));
    // Who asks whether it is there will not send it; but to a registry that is only read nobody sends.
    let claim = head && !state.read_only;
    let OpenBlob { file, size } = sources.blob(name, digest, claim)?.ok_or_else(unknown)?;
    let tag = format!("\"{digest}\"");
    let reply = |status| {
        Reply::new(status)
            .header(header::ETAG, text(&tag))
            .header(header::CACHE_CONTROL, HeaderValue::from_static("max-age=31536000"))
            .header(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"))
            .named("docker-content-digest", &digest.to_string())
    };
    if none_matches(headers, &tag) {
        return Ok(reply(StatusCode::NOT_MODIFIED));
    }
    let octets = HeaderValue::from_static("application/octet-stream");
    let range = match head {
        true => Range::All,
        false => wanted_range(headers, &tag, size),
    };
    let made = match range {
        Range::All => reply(StatusCode::OK).header(header::CONTENT_TYPE, octets).file(FileBody::new(
            file,
            0,
            size,
            buffers.clone(),
        )),
        Range::Part(from, end) => reply(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_TYPE, octets)
            .header(header::CONTENT_RANGE, text(&format!("bytes {from}-{}/{size}", end - 1)))
            .file(FileBody::new(file, from, end, buffers.clone())),
        Range::None => {
            return Err(ApiError::new(Code::RangeInvalid)
                .because(format!("the blob has {size} bytes"))
                .header(header::CONTENT_RANGE, text(&format!("bytes */{size}"))));
        }
    };
    Ok(made)
}

/// Answers DELETE.
pub fn delete(
    repositories: &Repositories,
    name: &RepositoryName,
    digest: &ContentDigest,
) -> Result<Reply, ApiError> {
    match repositories.unlink_blob(name, digest)? {
        true => Ok(Reply::new(StatusCode::ACCEPTED).named("docker-content-digest", &digest.to_string())),
        false => Err(ApiError::new(Code::BlobUnknown).detail(json!({"digest": digest.to_string()}))),
    }
}

/// Tells whether the client has it already (`If-None-Match`).
pub fn none_matches(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).any(|value| {
        // Compared weakly: RFC 9110, section 13.1.2.
        value == "*" || value.strip_prefix("W/").unwrap_or(value) == tag
    })
}

/// Which bytes are wanted.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    All,
    /// From the first, up to the second, without it.
    Part(u64, u64),
    /// Such as are not there.
    None,
}

fn wanted_range(headers: &HeaderMap, tag: &str, size: u64) -> Range {
    // Of another version than there is: all of it.
    if headers.get(header::IF_RANGE).is_some_and(|value| value.as_bytes() != tag.as_bytes()) {
        return Range::All;
    }
    match headers.get(header::RANGE).and_then(|value| value.to_str().ok()) {
        Some(value) => read_range(value, size),
        None => Range::All,
    }
}

/// Reads `bytes=FROM-TO`; what is no range, or several, is passed over: RFC 9110, section 14.2.
fn read_range(text: &str, size: u64) -> Range {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // One that does not fit is beyond every end.
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let Some((from, to)) = text.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-')) else {
        return Range::All;
    };
    match (number(from), number(to)) {
        (None, Some(0)) if from.is_empty() => Range::None,
        (None, Some(_)) if from.is_empty() && size == 0 => Range::None,
        (None, Some(count)) if from.is_empty() => Range::Part(size.saturating_sub(count), size),
        (Some(from), None) if to.is_empty() && from < size => Range::Part(from, size),
        (Some(from), None) if to.is_empty() && from >= size => Range::None,
        (Some(from), Some(to)) if to < from => Range::All,
        (Some(from), Some(_)) if from >= size => Range::None,
        (Some(from), Some(to)) => Range::Part(from, to.saturating_add(1).min(size)),
        _ => Range::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_http() {
        let check = |text: &str, expect: Range| assert_eq!(read_range(text, 10), expect, "{text}");
        check("bytes=0-0", Range::Part(0, 1));
        check("bytes=2-5", Range::Part(2, 6));
        check("bytes=2-", Range::Part(2, 10));
        check("bytes=-3", Range::Part(7, 10));
        check("bytes=-30", Range::Part(0, 10));
        check("bytes=9-99999999999999999999999", Range::Part(9, 10));
        check("bytes=10-", Range::None);
        check("bytes=10-11", Range::None);
        check("bytes=99999999999999999999999-", Range::None);
        check("bytes=-0", Range::None);
        for all in
            ["bytes=5-2", "bytes=a-b", "bytes=0-1,3-4", "lines=0-1", "bytes=", "bytes=-", "bytes=+1-2", ""]
        {
            check(all, Range::All);
        }
        assert_eq!(read_range("bytes=0-", 0), Range::None);
        assert_eq!(read_range("bytes=-1", 0), Range::None);
    }

    #[test]
    fn tags_of_entities_are_compared() {
        let check = |value: &'static str, expect: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(value));
            assert_eq!(none_matches(&headers, "\"x\""), expect, "{value}");
        };
        check("\"x\"", true);
        check("\"y\", W/\"x\"", true);
        check("*", true);
        check("x", false);
        check("\"y\"", false);
    }
}
