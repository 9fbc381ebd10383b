//! Lists in pages: tags (end-8), and docker's `/v2/_catalog`.

use http::{StatusCode, header};
use serde_json::json;

use super::errors::{ApiError, Code};
use super::query::{Query, next_link, page};
use super::reply::Reply;
use super::source::Sources;
use crate::store::RepositoryName;

/// How many tags come at most; so many where it is not said.
const MOST_TAGS: usize = 10_000;
/// How many repositories come at most.
const MOST_REPOSITORIES: usize = 1000;
/// How many come where it is not said, as docker's registry has it.
const REPOSITORIES: usize = 100;

/// Answers `GET /v2/NAME/tags/list`.
pub fn tags(sources: &Sources, name: &RepositoryName, query: &Query) -> Result<Reply, ApiError> {
    let count = query.count(MOST_TAGS)?.unwrap_or(MOST_TAGS);
    let unknown = || ApiError::new(Code::NameUnknown).detail(json!({"name": name.as_str()}));
    let all = sources.tags(name)?.ok_or_else(unknown)?;
    let (tags, more) = page(all, query.get("last"), count);
    let body = json!({"name": name.as_str(), "tags": tags});
    Ok(listed(&format!("/v2/{name}/tags/list"), &body, count, tags.last().filter(|_| more)))
}

/// Answers `GET /v2/_catalog`.
pub fn catalog(sources: &Sources, query: &Query) -> Result<Reply, ApiError> {
    let count = query.count(MOST_REPOSITORIES)?.unwrap_or(REPOSITORIES);
    let (names, more) = page(sources.repositories()?, query.get("last"), count);
    Ok(listed("/v2/_catalog", &json!({ "repositories": names }), count, names.last().filter(|_| more)))
}

fn listed(path: &str, body: &serde_json::Value, count: usize, last: Option<&String>) -> Reply {
    let reply = Reply::new(StatusCode::OK).json(body.to_string().into_bytes());
    match last {
        Some(last) => {
            reply.header(header::LINK, next_link(path, &[("n", &count.to_string()), ("last", last)]))
        }
        None => reply,
    }
}
