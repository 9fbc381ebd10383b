//! `/v1/search` as docker's index answers it, from the names of the repositories.
//!
//! No part of the distribution specification; `docker search HOST/TERM` and `rbuild search` ask for it. Not here:
//! where names and descriptions come from (`source`).

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::errors::ApiError;
use super::query::Query;
use super::reply::Reply;
use super::source::Sources;
use crate::report::clean::clean_text;
use crate::store::{ManifestName, Repositories, RepositoryName, StoreError};

/// The label or annotation that says in words what an image is (image-spec, annotations.md).
pub const DESCRIPTION: &str = "org.opencontainers.image.description";
/// How many results come at most; so many where it is not said.
const MOST: usize = 100;
/// The longest config that is read for its labels, in bytes.
const LARGEST_CONFIG: u64 = 1 << 20;
/// How many characters of a description are sent.
const LONGEST: usize = 500;

/// What is read of a manifest: no more than that is held of one that may be large.
#[derive(Deserialize)]
struct Manifest {
    annotations: Option<Described>,
    config: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    digest: Option<String>,
}

/// What is read of a config.
#[derive(Deserialize)]
struct Config {
    config: Option<Labelled>,
}

#[derive(Deserialize)]
struct Labelled {
    #[serde(rename = "Labels")]
    labels: Option<Described>,
}

/// Of labels or annotations, [`DESCRIPTION`].
#[derive(Deserialize)]
struct Described {
    #[serde(rename = "org.opencontainers.image.description")]
    description: Option<String>,
}

/// Answers `GET /v1/search`.
pub fn get(sources: &Sources, query: &Query) -> Result<Reply, ApiError> {
    let size = query.count(MOST)?.filter(|count| *count > 0).unwrap_or(MOST);
    let page = query.get("page").and_then(|page| page.parse::<usize>().ok()).unwrap_or(1).max(1);
    let words = query.get("q").unwrap_or_default();
    let wanted = words.to_lowercase();
    let names = sources.repositories()?;
    let found: Vec<&String> = names.iter().filter(|name| name.contains(&wanted)).collect();
    let results: Result<Vec<Value>, StoreError> = found
        .iter()
        .skip((page - 1).saturating_mul(size))
        .take(size)
        .map(|name| {
            let description = match name.parse::<RepositoryName>() {
                Ok(name) => sources.description(&name)?.unwrap_or_default(),
                Err(_) => String::new(),
            };
            let description: String = clean_text(&description).chars().take(LONGEST).collect();
            Ok(json!({
                "name": name, "description": description, "star_count": 0,
                "is_official": false, "is_automated": false, "is_trusted": false,
            }))
        })
        .collect();
    let body = json!({
        "num_results": found.len(), "num_pages": found.len().div_ceil(size), "page": page, "page_size": size,
        "query": words, "results": results?,
    });
    Ok(Reply::new(StatusCode::OK).json(body.to_string().into_bytes()))
}

/// Returns what the newest image of a repository says that it is: its manifest, else its config.
pub fn description(repositories: &Repositories, name: &RepositoryName) -> Result<Option<String>, StoreError> {
    let tags = repositories.tags(name)?.unwrap_or_default();
    let tag = tags.iter().find(|tag| tag.as_str() == "latest").or(tags.last());
    let Some(tag) = tag else { return Ok(None) };
    let Some(manifest) = repositories.manifest(name, &ManifestName::Tag(tag.clone()))? else {
        return Ok(None);
    };
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&manifest.bytes) else { return Ok(None) };
    if let Some(text) = manifest.annotations.and_then(|annotations| annotations.description) {
        return Ok(Some(text));
    }
    let Some(digest) = manifest.config.and_then(|config| config.digest?.parse().ok()) else {
        return Ok(None);
    };
    let Some(blob) = repositories.open_blob(name, &digest)?.filter(|blob| blob.size <= LARGEST_CONFIG) else {
        return Ok(None);
    };
    // What is no config of an image has no labels.
    let config = serde_json::from_reader::<_, Config>(std::io::BufReader::new(blob.file)).ok();
    Ok(config.and_then(|config| config.config?.labels?.description))
}
