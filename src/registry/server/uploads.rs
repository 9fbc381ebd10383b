//! Uploads: end-4, end-5, end-6, end-11, end-13, end-14. In one request, in chunks, streamed, resumed.
//!
//! Where an upload stands is told by `Range`, `0-LAST`; of an empty one `0-0`, as docker's registry does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode, header};
use hyper::body::{Body, Incoming};
use serde_json::json;

use super::errors::{ApiError, Code};
use super::query::Query;
use super::receive::receive;
use super::reply::{Reply, text};
use super::{State, blocking};
use crate::store::{
    ContentDigest, FinishedUpload, OpenUpload, Repositories, RepositoryName, Upload, UploadId,
};

/// How long a request waits for another one with the same upload: a client that lost its connection comes
/// back before the server knows.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers POST: starts an upload, mounts a blob, or takes one whole.
pub async fn start(
    state: &Arc<State>,
    name: RepositoryName,
    query: &Query,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Reply, ApiError> {
    if let (Some(Ok(digest)), Some(Ok(from))) = (
        query.get("mount").map(str::parse::<ContentDigest>),
        query.get("from").map(str::parse::<RepositoryName>),
    ) {
        let (of, to, which) = (state.clone(), name.clone(), digest.clone());
        if blocking(move || Ok(of.repositories.mount_blob(&from, &to, &which)?)).await? {
            return Ok(created(&name, &digest));
        }
    }
    let digest = digest_in(query)?;
    if let Some(digest) = &digest {
        // Told before anything is sent.
        content_range(headers, body.size_hint().exact(), 0, digest_location(&name, digest))?;
    }
    let (of, to) = (state.clone(), name.clone());
    let id = blocking(move || Ok(of.repositories.start_upload(&to)?)).await?;
    let Some(digest) = digest else { return Ok(standing(StatusCode::ACCEPTED, &name, &id, 0)) };
    let mut upload = open(state, &name, &id).await?;
    upload.expect(digest.algorithm());
    match receive(upload, body, None, state.limits.stall).await {
        Ok(upload) => finish(upload, name, digest).await,
        Err(error) => {
            let of = state.clone();
            // Nobody knows its id.
            blocking(move || cancel_now(&of.repositories, &name, &id)).await?;
            Err(error)
        }
    }
}

/// Answers GET and HEAD: how far it is.
pub fn status(repositories: &Repositories, name: &RepositoryName, id: &UploadId) -> Result<Reply, ApiError> {
    let size = repositories.upload_size(name, id)?.ok_or_else(|| unknown(id))?;
    Ok(standing(StatusCode::NO_CONTENT, name, id, size))
}

/// Answers PATCH: adds a chunk, or a stream.
pub async fn append(
    state: &Arc<State>,
    name: RepositoryName,
    id: UploadId,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Reply, ApiError> {
    let upload = open(state, &name, &id).await?;
    let upload = add(state, upload, &name, &id, headers, body).await?;
    Ok(standing(StatusCode::ACCEPTED, &name, &id, upload.size()))
}

/// Answers PUT: adds the rest, if there is one, and makes a blob of it.
pub async fn complete(
    state: &Arc<State>,
    name: RepositoryName,
    id: UploadId,
    query: &Query,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Reply, ApiError> {
    let missing = || ApiError::new(Code::DigestInvalid).because("the parameter `digest` is missing");
    let digest = digest_in(query)?.ok_or_else(missing)?;
    let mut upload = open(state, &name, &id).await?;
    upload.expect(digest.algorithm());
    let upload = add(state, upload, &name, &id, headers, body).await?;
    finish(upload, name, digest).await
}

/// Answers DELETE.
pub async fn cancel(state: &Arc<State>, name: RepositoryName, id: UploadId) -> Result<Reply, ApiError> {
    let upload = open(state, &name, &id).await?;
    blocking(move || Ok(upload.cancel()?)).await?;
    Ok(Reply::new(StatusCode::NO_CONTENT).named("docker-upload-uuid", id.as_str()))
}

fn cancel_now(
    repositories: &Arc<Repositories>,
    name: &RepositoryName,
    id: &UploadId,
) -> Result<(), ApiError> {
    match repositories.upload(name, id)? {
        OpenUpload::Open(upload) => Ok(upload.cancel()?),
        OpenUpload::Busy | OpenUpload::Unknown => Ok(()),
    }
}

/// Adds a body where it belongs; where it is not as long as it says, nothing of it is kept.
async fn add(
    state: &State,
    upload: Upload,
    name: &RepositoryName,
    id: &UploadId,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Upload, ApiError> {
    let before = upload.size();
    let place = location(name, id);
    let expected = content_range(headers, body.size_hint().exact(), before, place)
        .map_err(|error| error.header(header::RANGE, range(before)).named_upload(id))?;
    let mut upload = receive(upload, body, expected, state.limits.stall).await?;
    let came = upload.size() - before;
    if expected.is_some_and(|expected| expected != came) {
        blocking(move || Ok(upload.truncate(before)?)).await?;
        return Err(ApiError::new(Code::SizeInvalid).because(format!("{came} bytes came")));
    }
    Ok(upload)
}

/// Reads `Content-Range`; returns how many bytes it announces. An error where they do not begin at `at`.
fn content_range(
    headers: &HeaderMap,
    length: Option<u64>,
    at: u64,
    place: String,
) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let refuse =
        |why: String| ApiError::new(Code::RangeInvalid).because(why).header(header::LOCATION, text(&place));
    let bounds = value.to_str().ok().and_then(read_content_range);
    let Some((from, to)) = bounds else { return Err(refuse("a Content-Range is FROM-TO".to_owned())) };
    if from != at {
        return Err(refuse(format!("the next byte is {at}, not {from}")));
    }
    let announced = (to - from).saturating_add(1);
    if length.is_some_and(|length| length != announced) {
        return Err(
            ApiError::new(Code::SizeInvalid).because("Content-Range and Content-Length do not say the same")
        );
    }
    Ok(Some(announced))
}

/// Reads `FROM-TO`; also as HTTP writes it, `bytes FROM-TO/SIZE`.
fn read_content_range(value: &str) -> Option<(u64, u64)> {
    let value = value.strip_prefix("bytes").map_or(value, |rest| rest.trim_start_matches([' ', '=']));
    let (value, size) = value.split_once('/').unwrap_or((value, "*"));
    if size != "*" && (size.is_empty() || !size.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let (from, to) = value.trim().split_once('-')?;
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let (from, to) = (number(from)?, number(to)?);
    (from <= to).then_some((from, to))
}

async fn open(state: &Arc<State>, name: &RepositoryName, id: &UploadId) -> Result<Upload, ApiError> {
    let started = Instant::now();
    loop {
        let (of, to, which) = (state.clone(), name.clone(), id.clone());
        match blocking(move || Ok(of.repositories.upload(&to, &which)?)).await? {
            OpenUpload::Open(upload) => return Ok(upload),
            OpenUpload::Unknown => return Err(unknown(id)),
            OpenUpload::Busy if started.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            OpenUpload::Busy => {
                return Err(ApiError::new(Code::BlobUploadInvalid)
                    .status(StatusCode::CONFLICT)
                    .because("another request is writing to this upload"));
            }
        }
    }
}

async fn finish(upload: Upload, name: RepositoryName, digest: ContentDigest) -> Result<Reply, ApiError> {
    let wanted = digest.clone();
    match blocking(move || Ok(upload.finish(&wanted)?)).await? {
        FinishedUpload::Done => Ok(created(&name, &digest)),
        FinishedUpload::WrongDigest(found) => Err(ApiError::new(Code::DigestInvalid).detail(json!({
            "digest": digest.to_string(), "reason": format!("what was uploaded has {found}; it is gone"),
        }))),
    }
}

/// Reads the parameter `digest`; two that differ are refused.
fn digest_in(query: &Query) -> Result<Option<ContentDigest>, ApiError> {
    let mut all = query.all("digest");
    let Some(first) = all.next() else { return Ok(None) };
    if all.any(|other| other != first) {
        return Err(ApiError::new(Code::DigestInvalid).because("there are several digests"));
    }
    first.parse().map(Some).map_err(|why: String| ApiError::new(Code::DigestInvalid).because(why))
}

fn unknown(id: &UploadId) -> ApiError {
    ApiError::new(Code::BlobUploadUnknown).detail(json!({"uuid": id.as_str()}))
}

fn location(name: &RepositoryName, id: &UploadId) -> String {
    format!("/v2/{name}/blobs/uploads/{}", id.as_str())
}

fn digest_location(name: &RepositoryName, digest: &ContentDigest) -> String {
    format!("/v2/{name}/blobs/{digest}")
}

fn range(size: u64) -> http::HeaderValue {
    text(&format!("0-{}", size.saturating_sub(1)))
}

fn standing(status: StatusCode, name: &RepositoryName, id: &UploadId, size: u64) -> Reply {
    Reply::new(status)
        .header(header::LOCATION, text(&location(name, id)))
        .header(header::RANGE, range(size))
        .named("docker-upload-uuid", id.as_str())
}

fn created(name: &RepositoryName, digest: &ContentDigest) -> Reply {
    Reply::new(StatusCode::CREATED)
        .header(header::LOCATION, text(&digest_location(name, digest)))
        .named("docker-content-digest", &digest.to_string())
}

impl ApiError {
    fn named_upload(self, id: &UploadId) -> ApiError {
        self.header(http::HeaderName::from_static("docker-upload-uuid"), text(id.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        let check = |text: &str, expect: Option<(u64, u64)>| {
            assert_eq!(read_content_range(text), expect, "{text}");
        };
        check("0-0", Some((0, 0)));
        check("5-9", Some((5, 9)));
        check("bytes 5-9/10", Some((5, 9)));
        check("bytes 5-9/*", Some((5, 9)));
        check("bytes 5-9/*x", None);
        check("5-9/", None);
        check("bytes 5-9/10", Some((5, 9)));
        check("bytes=5-9", Some((5, 9)));
        for bad in ["", "-", "5-", "-5", "9-5", "a-b", "+1-2", "0-99999999999999999999", "0 - 1", "0--1"] {
            check(bad, None);
        }
    }
}
