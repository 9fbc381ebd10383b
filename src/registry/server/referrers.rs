//! What refers to a manifest: end-12. An index, in pages, with the filter `artifactType`.

use http::{HeaderName, StatusCode, header};
use serde_json::{Value, json};

use super::errors::ApiError;
use super::query::{Query, next_link};
use super::reply::{Reply, text};
use crate::store::{ContentDigest, Repositories, RepositoryName};

/// How many come at most.
const MOST: usize = 100;
/// After how many bytes of descriptors a page ends: an index is a manifest, and those have 4 MiB at most.
const MOST_BYTES: usize = 3 << 20;

/// Answers GET: a subject that is not there has none, which is no error.
pub fn get(
    repositories: &Repositories,
    name: &RepositoryName,
    subject: &ContentDigest,
    query: &Query,
) -> Result<Reply, ApiError> {
    let count = query.count(MOST)?.unwrap_or(MOST);
    let filter = query.get("artifactType").filter(|filter| !filter.is_empty());
    let last = query.get("last");
    let all = repositories.referrers(name, subject)?;
    let rest = all.into_iter().filter(|digest| last.is_none_or(|last| digest.to_string().as_str() > last));
    let (mut page, mut bytes, mut next) = (Vec::new(), 0, None::<ContentDigest>);
    for digest in rest {
        let Some(found) = repositories.referrer(name, subject, &digest)? else { continue };
        let Ok(descriptor) = serde_json::from_slice::<Value>(&found.descriptor) else { continue };
        if filter.is_some_and(|filter| descriptor["artifactType"] != filter) {
            continue;
        }
        if page.len() >= count || !page.is_empty() && bytes + found.descriptor.len() > MOST_BYTES {
            next = page.last().map(|(digest, _): &(ContentDigest, Value)| digest.clone());
            break;
        }
        bytes += found.descriptor.len();
        page.push((digest, descriptor));
    }
    let manifests: Vec<Value> = page.into_iter().map(|(_, descriptor)| descriptor).collect();
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests});
    let mut reply = Reply::new(StatusCode::OK).bytes_of(kind, index.to_string().into_bytes());
    if filter.is_some() {
        reply = reply.header(HeaderName::from_static("oci-filters-applied"), text("artifactType"));
    }
    if let Some(next) = next {
        let (count, next) = (count.to_string(), next.to_string());
        let mut parameters = vec![("n", count.as_str()), ("last", next.as_str())];
        parameters.extend(filter.map(|filter| ("artifactType", filter)));
        let path = format!("/v2/{name}/referrers/{subject}");
        reply = reply.header(header::LINK, next_link(&path, &parameters));
    }
    Ok(reply)
}
