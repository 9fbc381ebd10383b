//! end-1 (is it a registry), end-2 (blobs), end-10 (blobs deleted): reads, ranges, conditions, errors.

use super::client::Connection;
use super::client::request;
use super::served::{sha256, with_registry};

const BYTES: &[u8] = b"0123456789abcdef";

#[test]
fn the_api_says_that_it_is_there() {
    with_registry(|registry| {
        let reply = registry.get("/v2/").is(200);
        assert_eq!(reply.need("docker-distribution-api-version"), "registry/2.0");
        assert!(reply.need("content-type").starts_with("application/json"));
        assert_eq!(reply.json(), serde_json::json!({}));
        if registry.is_ours() {
            assert_eq!(reply.need("x-content-type-options"), "nosniff");
        }
        let head = registry.ask("HEAD", "/v2/", &[], b"").is(200);
        assert_eq!(head.need("docker-distribution-api-version"), "registry/2.0");
        assert!([200, 301, 308].contains(&registry.get("/v2").status));
        for elsewhere in ["/v3/", "/robots.txt", "/v2x/"] {
            registry.get(elsewhere).is(404);
        }
    });
}

#[test]
fn blobs_are_read() {
    with_registry(|registry| {
        let digest = registry.blob("a/app", BYTES);
        let target = format!("/v2/a/app/blobs/{digest}");
        let whole = registry.get(&target).is(200);
        assert_eq!(whole.body, BYTES);
        let head = registry.ask("HEAD", &target, &[], b"").is(200);
        for reply in [&whole, &head] {
            assert_eq!(reply.need("content-length"), "16");
            assert_eq!(reply.need("docker-content-digest"), digest);
            assert_eq!(reply.need("content-type"), "application/octet-stream");
            assert_eq!(reply.need("accept-ranges"), "bytes");
        }
        if let Some(tag) = whole.header("etag") {
            let same = registry.ask("GET", &target, &[("If-None-Match", tag)], b"").is(304);
            assert!(same.body.is_empty());
            registry.ask("GET", &target, &[("If-None-Match", "\"other\"")], b"").is(200);
        }
        let empty = registry.blob("a/app", b"");
        let reply = registry.get(&format!("/v2/a/app/blobs/{empty}")).is(200);
        assert_eq!((reply.need("content-length"), reply.body.len()), ("0", 0));
    });
}

#[test]
fn parts_of_blobs_are_read() {
    with_registry(|registry| {
        let digest = registry.blob("a/app", BYTES);
        let target = format!("/v2/a/app/blobs/{digest}");
        let part = |range: &str, expect: &[u8], place: &str| {
            let reply = registry.ask("GET", &target, &[("Range", range)], b"").is(206);
            assert_eq!((&reply.body[..], reply.need("content-range")), (expect, place), "{range}");
            assert_eq!(reply.need("content-length"), expect.len().to_string(), "{range}");
        };
        part("bytes=0-3", b"0123", "bytes 0-3/16");
        part("bytes=4-4", b"4", "bytes 4-4/16");
        part("bytes=10-", b"abcdef", "bytes 10-15/16");
        part("bytes=-4", b"cdef", "bytes 12-15/16");
        part("bytes=-100", BYTES, "bytes 0-15/16");
        part("bytes=8-99999999999", b"89abcdef", "bytes 8-15/16");
        for beyond in ["bytes=16-", "bytes=16-20", "bytes=99999999999999999999-", "bytes=-0"] {
            let reply = registry.ask("GET", &target, &[("Range", beyond)], b"");
            // RFC 9110, 14.1.1: a position that no number holds may count as no range at all.
            if reply.status != 200 {
                let reply = reply.is(416);
                assert_eq!(reply.need("content-range"), "bytes */16", "{beyond}");
            } else {
                assert_eq!((beyond.len() > 20, &reply.body[..]), (true, BYTES), "{beyond}");
            }
        }
        // RFC 9110, 14.2: what is no range of bytes is not there, or is refused; never another part.
        for bad in [
            "bytes=",
            "bytes=x-y",
            "bytes=5-2",
            "lines=0-3",
            "bytes",
            "bytes=1-2-3",
            "bytes=--1",
            "bytes=+1-2",
        ] {
            let reply = registry.ask("GET", &target, &[("Range", bad)], b"");
            match reply.status {
                200 => assert_eq!(reply.body, BYTES, "{bad}"),
                status => assert_eq!(status, 416, "{bad}"),
            }
        }
        let many = registry.ask("GET", &target, &[("Range", "bytes=0-1,4-5")], b"");
        match many.status {
            200 => assert_eq!(many.body, BYTES),
            status => assert!(status == 206 && many.need("content-type").starts_with("multipart/byteranges")),
        }
        if let Some(tag) = registry.get(&target).header("etag") {
            let own = registry.ask("GET", &target, &[("Range", "bytes=0-1"), ("If-Range", tag)], b"").is(206);
            assert_eq!(own.body, b"01");
            let other =
                registry.ask("GET", &target, &[("Range", "bytes=0-1"), ("If-Range", "\"x\"")], b"").is(200);
            assert_eq!(other.body, BYTES);
        }
    });
}

#[test]
fn blobs_that_are_not_there() {
    with_registry(|registry| {
        let digest = registry.blob("a/app", BYTES);
        let unknown = sha256(b"never sent");
        for method in ["GET", "HEAD", "DELETE"] {
            // A blob is of its repositories alone.
            for (name, digest) in [("a/app", &unknown), ("b/app", &digest), ("a", &digest)] {
                let reply = registry.ask(method, &format!("/v2/{name}/blobs/{digest}"), &[], b"").is(404);
                if method != "HEAD" {
                    let code = reply.json()["errors"][0]["code"].clone();
                    assert!(code == "BLOB_UNKNOWN" || code == "NAME_UNKNOWN", "{code}");
                }
            }
        }
        let ranged =
            registry.ask("GET", &format!("/v2/a/app/blobs/{unknown}"), &[("Range", "bytes=0-1")], b"");
        ranged.fails(404, "BLOB_UNKNOWN");
        let upper = digest.replace("sha256:", "sha256:A").to_uppercase();
        for bad in [
            "sha256:",
            "sha256:12",
            "sha256",
            "x",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &upper,
            &format!("{digest}00"),
            &digest.replace("sha256", "sha512"),
            &digest.replace("sha256", "SHA256"),
            "sha256:..%2F..%2Fetc%2Fpasswd",
        ] {
            for method in ["GET", "DELETE"] {
                let reply = registry
                    .keeps_nothing(|| registry.ask(method, &format!("/v2/a/app/blobs/{bad}"), &[], b""));
                match registry.is_ours() {
                    true => drop(reply.fails(400, "DIGEST_INVALID")),
                    false => assert!(matches!(reply.status, 400 | 404), "{bad} {reply:?}"),
                }
            }
        }
        assert_eq!(registry.get(&format!("/v2/a/app/blobs/{digest}")).is(200).body, BYTES);
    });
}

#[test]
fn blobs_are_deleted_from_one_repository() {
    with_registry(|registry| {
        let digest = registry.blob("del/one", BYTES);
        registry.blob("del/two", BYTES);
        let target = format!("/v2/del/one/blobs/{digest}");
        let gone = registry.ask("DELETE", &target, &[], b"").is(202);
        assert!(gone.body.is_empty());
        registry.get(&target).fails(404, "BLOB_UNKNOWN");
        registry.ask("DELETE", &target, &[], b"").fails(404, "BLOB_UNKNOWN");
        assert_eq!(registry.get(&format!("/v2/del/two/blobs/{digest}")).is(200).body, BYTES);
        registry.blob("del/one", BYTES);
        assert_eq!(registry.get(&target).is(200).body, BYTES);
    });
}

/// RFC 9112, 9.3.2: answers come in the order of the requests.
#[test]
fn requests_of_one_connection_are_answered_in_order() {
    with_registry(|registry| {
        let digest = registry.blob("a/app", BYTES);
        let target = format!("/v2/a/app/blobs/{digest}");
        let mut connection = Connection::open(registry.host());
        let first = request("GET", &target, &[], b"");
        let second = request("HEAD", &target, &[], b"");
        let third = request("GET", "/v2/a/app/blobs/x", &[], b"");
        let last = request("GET", &target, &[("Range", "bytes=1-2"), ("Connection", "close")], b"");
        connection.send([first, second, third, last].concat());
        assert_eq!(connection.answer(false).unwrap().is(200).body, BYTES);
        connection.answer(true).unwrap().is(200);
        assert!(matches!(connection.answer(false).unwrap().status, 400 | 404));
        assert_eq!(connection.answer(false).unwrap().is(206).body, b"12");
        assert!(connection.rest().is_empty());
    });
}
