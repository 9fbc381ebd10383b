//! Manifests and tags as they are read, put and removed: end-3, end-7, end-9.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::super::MANIFEST_LIMIT;
use super::blobs::none_matches;
use super::body::FileBody;
use super::document;
use super::documents::LARGE;
use super::errors::{ApiError, Code};
use super::query::Query;
use super::reply::{Reply, text};
use super::source::Sources;
use super::{State, blocking};
use crate::store::{
    Algorithm, ContentDigest, ManifestName, Repositories, RepositoryName, StoredManifest, TagName,
};

/// How many tags one request may give.
const MOST_TAGS: usize = 100;

/// Answers GET and HEAD.
pub fn get(
    state: &State,
    name: &RepositoryName,
    which: &ManifestName,
    headers: &HeaderMap,
) -> Result<Reply, ApiError> {
    let sources = &state.sources;
    let found = sources.manifest(name, which)?;
    let found = match found {
        Some(found) => accepted(sources, name, which, found, headers)?,
        None => return Err(unknown(sources, name, which)?),
    };
    let tag = format!("\"{}\"", found.digest);
    let reply = |status| {
        Reply::new(status)
            .header(header::ETAG, text(&tag))
            .named("docker-content-digest", &found.digest.to_string())
    };
    if none_matches(headers, &tag) {
        return Ok(reply(StatusCode::NOT_MODIFIED));
    }
    // A client that takes it slowly is not to hold it in memory.
    if found.bytes.len() > LARGE
        && let Some(part) = sources.manifest_file(name, &found.digest)?
        && part.size == found.bytes.len() as u64
    {
        let body = FileBody::new(part.file, part.start, part.start + part.size, state.buffers.clone());
        return Ok(reply(StatusCode::OK).header(header::CONTENT_TYPE, text(&found.media_type)).file(body));
    }
    Ok(reply(StatusCode::OK).bytes_of(&found.media_type, found.bytes))
}

/// Chooses what the client understands (`Accept`): by a tag only, since a digest names one document.
fn accepted(
    sources: &Sources,
    name: &RepositoryName,
    which: &ManifestName,
    found: StoredManifest,
    headers: &HeaderMap,
) -> Result<StoredManifest, ApiError> {
    let ManifestName::Tag(tag) = which else { return Ok(found) };
    if accepts(headers, &found.media_type) {
        return Ok(found);
    }
    // As docker's registry does for clients older than lists.
    if document::is_docker_list(&found.media_type)
        && let Some(child) = document::default_child(&found.bytes)
        && let Some(child) = sources.manifest(name, &ManifestName::Digest(child))?
        && accepts(headers, &child.media_type)
    {
        return Ok(child);
    }
    let kind = found.media_type;
    Err(ApiError::new(Code::ManifestUnknown)
        .because(format!("{name}:{} is of type {kind}, which the header Accept does not have", tag.as_str())))
}

/// Tells whether a media type is among those of `Accept`; none at all accept everything.
fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let values: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    values.is_empty()
        || values.iter().flat_map(|value| value.split(',')).any(|entry| {
            let mut parts = entry.split(';').map(str::trim);
            let wanted = parts.next().unwrap_or_default();
            let refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
            !refused && (wanted.eq_ignore_ascii_case(kind) || matches!(wanted, "*/*" | "application/*"))
        })
}

/// Answers PUT.
pub async fn put(
    state: &Arc<State>,
    name: RepositoryName,
    which: ManifestName,
    query: &Query,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Reply, ApiError> {
    let mut tags = Vec::new();
    for tag in query.all("tag") {
        tags.push(tag.parse::<TagName>().map_err(|why| ApiError::new(Code::TagInvalid).because(why))?);
    }
    if tags.len() > MOST_TAGS {
        return Err(ApiError::new(Code::TagInvalid).because(format!("at most {MOST_TAGS} tags at once")));
    }
    let (bytes, held) = read_body(state, body).await?;
    let reading = state.documents.read(held.is_some()).await?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.map(str::to_owned);
    let state = state.clone();
    blocking(move || {
        let _places = (held, reading);
        let algorithm = match &which {
            ManifestName::Digest(digest) => digest.algorithm(),
            ManifestName::Tag(_) => Algorithm::Sha256,
        };
        let digest = ContentDigest::of(algorithm, &bytes);
        let given = tags.clone();
        match which {
            ManifestName::Digest(wanted) if wanted != digest => {
                return Err(ApiError::new(Code::DigestInvalid).detail(json!({
                    "digest": wanted.to_string(), "reason": format!("what came has {digest}"),
                })));
            }
            ManifestName::Digest(_) => {}
            ManifestName::Tag(tag) => tags.push(tag),
        }
        let manifest = document::read(bytes, content_type.as_deref(), digest)?;
        let mut missing = state.repositories.put_manifest(&name, &manifest, &tags)?;
        // Sorted, as document::read leaves them; there may be tens of thousands.
        let wanted = |digest: &&ContentDigest| manifest.blobs.binary_search(digest).is_ok();
        let mut adopted = false;
        for digest in missing.iter().filter(wanted) {
            adopted |= state.sources.adopt(&state.repositories, &name, digest)?;
        }
        if adopted {
            missing = state.repositories.put_manifest(&name, &manifest, &tags)?;
        }
        if !missing.is_empty() {
            let error = ApiError::new(Code::ManifestBlobUnknown);
            return Err(missing
                .iter()
                .take(100)
                .fold(error, |error, digest| error.detail(json!({"digest": digest.to_string()}))));
        }
        let digest = manifest.digest.to_string();
        let mut reply = Reply::new(StatusCode::CREATED)
            .header(header::LOCATION, text(&format!("/v2/{name}/manifests/{digest}")))
            .named("docker-content-digest", &digest);
        if let Some(subject) = &manifest.subject {
            reply = reply.named("oci-subject", &subject.to_string());
        }
        for tag in given {
            reply = reply.and_header(http::HeaderName::from_static("oci-tag"), text(tag.as_str()));
        }
        Ok(reply)
    })
    .await
}

/// Reads a body that is held in memory: CVE-2017-11468 was one without a limit. A large one has a place.
async fn read_body(
    state: &State,
    body: &mut Incoming,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), ApiError> {
    let too_large = || {
        ApiError::new(Code::ManifestInvalid)
            .status(StatusCode::PAYLOAD_TOO_LARGE)
            .because(format!("a manifest has at most {MANIFEST_LIMIT} bytes"))
            .closing()
    };
    if body.size_hint().lower() > MANIFEST_LIMIT {
        return Err(too_large());
    }
    let (mut bytes, mut place) = (Vec::new(), None);
    let stall = state.limits.stall;
    // However little it sends at a time, nobody keeps a place for good.
    let mut end = Instant::now() + stall * 2;
    loop {
        let broken = |why: &str| ApiError::new(Code::ManifestInvalid).because(why).closing();
        let left = end.saturating_duration_since(Instant::now()).min(stall);
        let frame = match timeout(left, body.frame()).await {
            Err(_) => return Err(broken("the client sent nothing, or too little, for too long")),
            Ok(None) => return Ok((bytes, place)),
            Ok(Some(Err(_))) => return Err(broken("the request ended before its body did")),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if (bytes.len() + data.len()) as u64 > MANIFEST_LIMIT {
            return Err(too_large());
        }
        if bytes.len() + data.len() > LARGE && place.is_none() {
            let waiting = Instant::now();
            place = Some(state.documents.hold().await?);
            end += waiting.elapsed();
        }
        bytes.extend_from_slice(&data);
    }
}

/// Answers DELETE: a tag alone, or a manifest with its tags.
pub fn delete(
    repositories: &Repositories,
    sources: &Sources,
    name: &RepositoryName,
    which: &ManifestName,
) -> Result<Reply, ApiError> {
    let was_there = match which {
        ManifestName::Tag(tag) => repositories.delete_tag(name, tag)?,
        ManifestName::Digest(digest) => repositories.delete_manifest(name, digest)?,
    };
    match was_there {
        true => Ok(Reply::new(StatusCode::ACCEPTED)),
        false => Err(unknown(sources, name, which)?),
    }
}

fn unknown(sources: &Sources, name: &RepositoryName, which: &ManifestName) -> Result<ApiError, ApiError> {
    if !sources.knows(name)? {
        return Ok(ApiError::new(Code::NameUnknown).detail(json!({"name": name.as_str()})));
    }
    let detail = match which {
        ManifestName::Tag(tag) => json!({"Tag": tag.as_str()}),
        ManifestName::Digest(digest) => json!({"digest": digest.to_string()}),
    };
    Ok(ApiError::new(Code::ManifestUnknown).detail(detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_is_read_as_http_has_it() {
        let check = |values: &[&'static str], expect: bool| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::ACCEPT, http::HeaderValue::from_static(value));
            }
            assert_eq!(accepts(&headers, "application/vnd.a+json"), expect, "{values:?}");
        };
        check(&[], true);
        check(&["*/*"], true);
        check(&["text/html", "application/vnd.b+json, application/vnd.a+json;q=0.5"], true);
        check(&["application/VND.A+json"], true);
        check(&["text/html"], false);
        check(&["application/vnd.a+json;q=0"], false);
        check(&["application/json"], false);
    }
}
