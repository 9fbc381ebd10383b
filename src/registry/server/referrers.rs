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

/// After how many descriptors, and bytes of them, a page ends that a filter leaves few in: the next one goes on.
const MOST_READ: usize = 1000;
const MOST_BYTES_READ: usize = 16 << 20;

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
    let (mut read, mut bytes_read, mut before) = (0, 0, None::<ContentDigest>);
    for digest in rest {
        if read >= MOST_READ || bytes_read > MOST_BYTES_READ {
            next = before;
            break;
        }
        read += 1;
        before = Some(digest.clone());
        let Some(found) = repositories.referrer(name, subject, &digest)? else { continue };
        bytes_read += found.descriptor.len();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Algorithm, NewManifest, Store, StoreOptions};
    use crate::sys::OverlayXattrs;

    #[test]
    fn a_filter_that_finds_little_reads_no_more_than_a_page_may() {
        let directory = tempfile::tempdir().unwrap();
        let store =
            Store::open(directory.path(), StoreOptions { xattrs: OverlayXattrs::Trusted, sync: false })
                .unwrap();
        let repositories = Repositories::open(&store).unwrap();
        let name: RepositoryName = "a".parse().unwrap();
        let subject = ContentDigest::of(Algorithm::Sha256, b"subject");
        let mut wanted = Vec::new();
        for number in 0..MOST_READ + 200 {
            let bytes = number.to_string().into_bytes();
            let kind = if number % 300 == 7 { "rare" } else { "usual" };
            let digest = ContentDigest::of(Algorithm::Sha256, &bytes);
            let descriptor =
                json!({"digest": digest.to_string(), "artifactType": kind}).to_string().into_bytes();
            if kind == "rare" {
                wanted.push(digest.to_string());
            }
            let manifest = NewManifest {
                digest,
                media_type: "application/x".into(),
                bytes,
                blobs: Vec::new(),
                manifests: Vec::new(),
                subject: Some(subject.clone()),
                descriptor,
            };
            assert!(repositories.put_manifest(&name, &manifest, &[]).unwrap().is_empty());
        }
        wanted.sort();
        let pages = |kind: &str| {
            let (mut found, mut count, mut last) = (Vec::new(), 0, String::new());
            loop {
                let query = Query::new(Some(&format!("artifactType={kind}{last}")));
                let response = get(&repositories, &name, &subject, &query).unwrap();
                let link = response.header_text("link").map(str::to_owned);
                let page: Value = serde_json::from_slice(&response.bytes().unwrap()).unwrap();
                let digests = page["manifests"].as_array().unwrap().iter();
                found.extend(digests.map(|entry| entry["digest"].as_str().unwrap().to_owned()));
                count += 1;
                let Some(link) = link else { return (found, count) };
                let next = link.split("last=").nth(1).unwrap().split(['&', '>']).next().unwrap();
                last = format!("&last={next}");
                assert!(count < 10, "{link}");
            }
        };
        assert_eq!(pages("rare"), (wanted, 2));
        // Nothing at all is told in steps, too.
        assert_eq!(pages("none"), (Vec::new(), 2));
    }
}
