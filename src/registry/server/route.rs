//! Which endpoint a path means: names have slashes, so a path is read from its end.
//!
//! A path is cut at its slashes before anything in it is decoded: an encoded slash is a letter that no name
//! has. Not here: what the endpoints do.

use http::Method;
use percent_encoding::percent_decode_str;

use super::errors::{ApiError, Code};
use crate::store::{ContentDigest, ManifestName, RepositoryName, UploadId};

/// An endpoint (distribution-spec, "Endpoints").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/`: whether somebody is there.
    Root,
    /// `/v2/`: end-1.
    Base,
    /// `/v2/_catalog`: docker's.
    Catalog,
    /// `/v1/search`: docker's.
    Search,
    /// `/v1/_ping`: whether somebody answers searches.
    Ping,
    /// end-8.
    Tags(RepositoryName),
    /// end-3, end-7, end-9.
    Manifest(RepositoryName, ManifestName),
    /// end-2, end-10.
    Blob(RepositoryName, ContentDigest),
    /// end-4, end-11.
    Uploads(RepositoryName),
    /// end-5, end-6, end-13, end-14.
    Upload(RepositoryName, UploadId),
    /// end-12.
    Referrers(RepositoryName, ContentDigest),
}

impl Route {
    /// Returns the methods that it has.
    pub fn methods(&self) -> &'static [Method] {
        const READ: &[Method] = &[Method::GET, Method::HEAD];
        match self {
            Route::Root | Route::Base | Route::Catalog | Route::Search | Route::Ping => READ,
            Route::Tags(_) | Route::Referrers(..) => READ,
            Route::Manifest(..) => &[Method::GET, Method::HEAD, Method::PUT, Method::DELETE],
            Route::Blob(..) => &[Method::GET, Method::HEAD, Method::DELETE],
            Route::Uploads(_) => &[Method::POST],
            Route::Upload(..) => &[Method::GET, Method::HEAD, Method::PATCH, Method::PUT, Method::DELETE],
        }
    }
}

/// Reads a path.
pub fn route(path: &str) -> Result<Route, ApiError> {
    let unknown = || {
        ApiError::new(Code::Unsupported)
            .status(http::StatusCode::NOT_FOUND)
            .because("there is no such endpoint")
    };
    match path {
        "/" => return Ok(Route::Root),
        "/v1/search" => return Ok(Route::Search),
        "/v1/_ping" => return Ok(Route::Ping),
        _ => {}
    }
    let rest = match path.strip_prefix("/v2") {
        Some("" | "/") => return Ok(Route::Base),
        Some(rest) => rest.strip_prefix('/').ok_or_else(unknown)?,
        None => return Err(unknown()),
    };
    let parts: Result<Vec<String>, _> =
        rest.split('/').map(|part| percent_decode_str(part).decode_utf8().map(Into::into)).collect();
    let parts = parts.map_err(|_| ApiError::new(Code::NameInvalid).because("the path is not UTF-8"))?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let name = |parts: &[&str]| {
        // A part with a slash in it was encoded.
        let text = match parts.iter().any(|part| part.contains('/')) {
            true => String::new(),
            false => parts.join("/"),
        };
        text.parse::<RepositoryName>().map_err(|why| ApiError::new(Code::NameInvalid).because(why))
    };
    let digest = |text: &str| {
        text.parse::<ContentDigest>().map_err(|why| ApiError::new(Code::DigestInvalid).because(why))
    };
    match parts.as_slice() {
        ["_catalog"] => Ok(Route::Catalog),
        [of @ .., "tags", "list"] => Ok(Route::Tags(name(of)?)),
        [of @ .., "manifests", reference] => {
            let of = name(of)?;
            let reference = match reference.contains(':') {
                true => ManifestName::Digest(digest(reference)?),
                false => ManifestName::Tag(
                    reference.parse().map_err(|why: &str| ApiError::new(Code::TagInvalid).because(why))?,
                ),
            };
            Ok(Route::Manifest(of, reference))
        }
        [of @ .., "blobs", "uploads"] | [of @ .., "blobs", "uploads", ""] => Ok(Route::Uploads(name(of)?)),
        [of @ .., "blobs", "uploads", id] => {
            let of = name(of)?;
            // One that is none is not known, like any other.
            let id = id.parse().map_err(|why: &str| ApiError::new(Code::BlobUploadUnknown).because(why))?;
            Ok(Route::Upload(of, id))
        }
        [of @ .., "blobs", text] => Ok(Route::Blob(name(of)?, digest(text)?)),
        [of @ .., "referrers", text] => Ok(Route::Referrers(name(of)?, digest(text)?)),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn check(path: &str, expect: &str) {
        let found = match route(&path.replace("HEX", HEX)) {
            Ok(Route::Tags(name)) => format!("tags {name}"),
            Ok(Route::Manifest(name, ManifestName::Tag(tag))) => format!("manifest {name} {}", tag.as_str()),
            Ok(Route::Manifest(name, ManifestName::Digest(_))) => format!("manifest {name} digest"),
            Ok(Route::Blob(name, _)) => format!("blob {name}"),
            Ok(Route::Uploads(name)) => format!("uploads {name}"),
            Ok(Route::Upload(name, id)) => format!("upload {name} {}", id.as_str()),
            Ok(Route::Referrers(name, _)) => format!("referrers {name}"),
            Ok(other) => format!("{other:?}"),
            Err(error) => {
                let status = error.reply().status;
                status.as_str().to_owned()
            }
        };
        assert_eq!(found, expect, "{path}");
    }

    #[test]
    fn endpoints_are_found_from_the_end() {
        check("/", "Root");
        check("/v2", "Base");
        check("/v2/", "Base");
        check("/v2/_catalog", "Catalog");
        check("/v1/search", "Search");
        check("/v1/_ping", "Ping");
        check("/v2/a/tags/list", "tags a");
        check("/v2/tags/list/tags/list", "tags tags/list");
        check("/v2/a/b/manifests/latest", "manifest a/b latest");
        check("/v2/a/manifests/sha256:HEX", "manifest a digest");
        check("/v2/a/manifests/sha256%3AHEX", "manifest a digest");
        check("/v2/a/blobs/sha256:HEX", "blob a");
        check("/v2/a/blobs/uploads/", "uploads a");
        check("/v2/a/blobs/uploads", "uploads a");
        check("/v2/a/blobs/uploads/blobs/uploads/", "uploads a/blobs/uploads");
        check(
            "/v2/a/blobs/uploads/ffffffff-ffff-4fff-a123-456789abcdef",
            "upload a ffffffff-ffff-4fff-a123-456789abcdef",
        );
        check("/v2/a/referrers/sha256:HEX", "referrers a");
    }

    #[test]
    fn no_path_leads_elsewhere() {
        for path in [
            "/v2/../tags/list",
            "/v2/%2e%2e/tags/list",
            "/v2/a%2fb/tags/list",
            "/v2/a//tags/list",
            "/v2//tags/list",
            "/v2/A/tags/list",
            "/v2/a/_manifests/tags/list",
            "/v2/a/manifests/..",
            "/v2/a/manifests/",
            "/v2/a/manifests/.x",
            "/v2/a/manifests/sha256:1",
            "/v2/a/blobs/sha256:..",
            "/v2/a/blobs/md5:00",
            "/v2/a/blobs/",
            "/v2/%ff/tags/list",
            "/v2/tags/list",
            "/v2/manifests/latest",
        ] {
            check(path, "400");
        }
        for path in [
            "/v3/",
            "/v2x",
            "/v2/a",
            "/v2/_catalog/x",
            "/etc/passwd",
            "*",
            "/v2/a/blobs/uploads/../../x",
            "/v2/a/blobs/uploads/..",
            "/v2/a/blobs/uploads/x",
        ] {
            check(path, "404");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(path in ".*") {
            let _ = route(&path);
        }
    }
}
