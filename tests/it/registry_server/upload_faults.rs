//! Uploads that are wrong: digests, lengths, sessions, names; none of them leaves anything.

use super::client::{Connection, request};
use super::served::{sha256, sha512, with_digest, with_registry};

#[test]
fn another_digest_than_was_said() {
    with_registry(|registry| {
        let (other, bytes) = (sha256(b"other"), &b"bytes"[..]);
        registry.keeps_nothing(|| {
            let place = registry.upload("bad/digest");
            registry.ask("PUT", &with_digest(&place, &other), &[], bytes).fails(400, "DIGEST_INVALID");
            if registry.is_ours() {
                registry.get(&place).fails(404, "BLOB_UPLOAD_UNKNOWN");
                let place = registry.upload("bad/digest");
                let wrong = with_digest(&place, &sha512(b"other"));
                registry.ask("PUT", &wrong, &[], bytes).fails(400, "DIGEST_INVALID");
            }
            let place = registry.upload("bad/digest");
            let reply = registry.ask("PATCH", &place, &[("Content-Range", "0-4")], bytes).is(202);
            let place = registry.place(reply.need("location"));
            registry.ask("PUT", &with_digest(&place, &other), &[], b"").fails(400, "DIGEST_INVALID");
            if registry.is_ours() {
                let once = with_digest("/v2/bad/digest/blobs/uploads/", &other);
                registry.ask("POST", &once, &[], bytes).fails(400, "DIGEST_INVALID");
            }
        });
        for digest in [other, sha256(bytes)] {
            registry.get(&format!("/v2/bad/digest/blobs/{digest}")).is(404);
        }
    });
}

#[test]
fn digests_that_are_none() {
    with_registry(|registry| {
        let place = registry.upload("bad/digest");
        let kept = registry.kept();
        registry.ask("PUT", &place, &[], b"").fails(400, "DIGEST_INVALID");
        for bad in [
            "",
            "sha256:",
            "sha256:xyz",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            "sha256:..%2f..",
            "%00",
            "%ff",
        ] {
            let sign = if place.contains('?') { '&' } else { '?' };
            let target = format!("{place}{sign}digest={bad}");
            let reply = registry.ask("PUT", &target, &[], b"some bytes");
            reply.fails(400, "DIGEST_INVALID");
        }
        if registry.is_ours() {
            registry
                .ask("POST", "/v2/bad/digest/blobs/uploads/?digest=x", &[], b"b")
                .fails(400, "DIGEST_INVALID");
            // What was no digest has not cost the upload that is there.
            registry.get(&place).is(204);
            assert_eq!(registry.kept(), kept);
            registry.ask("DELETE", &place, &[], b"").is(204);
        }
    });
}

#[test]
fn uploads_that_are_not_there() {
    with_registry(|registry| {
        let digest = sha256(b"x");
        let place = registry.upload("bad/one");
        registry.keeps_nothing(|| {
            let id = place.rsplit_once("/uploads/").unwrap().1;
            let mut targets =
                vec!["/v2/bad/one/blobs/uploads/00000000-0000-4000-8000-000000000000".to_owned()];
            if registry.is_ours() {
                // An upload is of one repository.
                targets.push(format!("/v2/bad/two/blobs/uploads/{id}"));
                for odd in ["x", "..", "%2e%2e", "..%2f..%2f..%2fetc%2fpasswd", "a%00b", &"f".repeat(5000)] {
                    targets.push(format!("/v2/bad/one/blobs/uploads/{odd}"));
                }
            }
            for target in targets {
                for method in ["GET", "PATCH", "DELETE", "PUT"] {
                    let whole = if method == "PUT" { with_digest(&target, &digest) } else { target.clone() };
                    let body: &[u8] = if matches!(method, "PUT" | "PATCH") { b"x" } else { b"" };
                    let reply = registry.ask(method, &whole, &[], body);
                    assert!(matches!(reply.status, 400 | 404 | 414), "{method} {whole}: {reply:?}");
                }
            }
        });
        registry.get(&place).is(204);
        registry.get(&format!("/v2/bad/one/blobs/{digest}")).is(404);
        registry.ask("DELETE", &place, &[], b"").is(204);
    });
}

/// A body that ends before its length says so is nothing that came.
#[test]
fn bodies_that_break_off() {
    with_registry(|registry| {
        let digest = sha256(b"half");
        let place = registry.upload("bad/body");
        let starts = [
            // The digest is that of the half that came.
            format!(
                "PUT {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf",
                with_digest(&place, &digest)
            ),
            format!(
                "PUT {} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
                with_digest(&place, &digest)
            ),
            format!(
                "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf",
                with_digest("/v2/bad/body/blobs/uploads/", &digest)
            ),
        ];
        for start in starts {
            let mut connection = Connection::open(registry.host());
            connection.send(&start).end();
            if let Some(reply) = connection.answer(false) {
                assert!((400..500).contains(&reply.status) || reply.status == 202, "{start} {reply:?}");
            }
            connection.rest();
            registry.get(&format!("/v2/bad/body/blobs/{digest}")).is(404);
        }
        let manifest = format!(
            "PUT /v2/bad/body/manifests/1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\nContent-Length: 4000\r\n\r\n{{",
            super::served::MANIFEST
        );
        let mut connection = Connection::open(registry.host());
        connection.send(manifest).end();
        connection.answer(false);
        registry.get("/v2/bad/body/manifests/1").is(404);
    });
}

#[test]
fn names_that_are_none() {
    with_registry(|registry| {
        if !registry.is_ours() {
            // distribution has no route for these, and says 404 without more.
            return;
        }
        let (digest, zeros) = (sha256(b"x"), "0".repeat(64));
        let long = format!("{}/{}", "a".repeat(127), "b".repeat(140));
        let names = [
            "UPPER",
            "a/B",
            "-a",
            "a-",
            ".a",
            "a.",
            "a/_b",
            "a..b",
            "a___b",
            "a/-",
            "a%20b",
            "a%2Fb%2F",
            "%2e%2e",
            "a/%2e%2e/b",
            "a%00b",
            "a%0ab",
            "%c3%a4",
            "a:b",
            "a@b",
            "a/./b",
            "a/../b",
            "..",
            "a//b",
            &long,
        ];
        registry.keeps_nothing(|| {
            for name in names {
                let check = |method: &str, rest: &str, body: &[u8]| {
                    let reply = registry.ask(method, &format!("/v2/{name}/{rest}"), &[], body);
                    reply.fails_with(&[400, 404], "NAME_INVALID");
                };
                check("GET", &format!("blobs/{digest}"), b"");
                check("GET", "manifests/latest", b"");
                check("PUT", "manifests/latest", b"{}");
                check("DELETE", &format!("manifests/sha256:{zeros}"), b"");
                check("GET", "tags/list", b"");
                check("GET", &format!("referrers/{digest}"), b"");
                check("POST", "blobs/uploads/", b"");
                check("POST", &format!("blobs/uploads/?digest={digest}"), b"x");
            }
        });
        // At the limits of what is one.
        let longest = format!("{}/{}", "a".repeat(127), "b".repeat(127));
        for name in [
            "a",
            "a/b/c/d/e/f",
            "0.1_2__3-4---5",
            &longest,
            "blobs/uploads",
            "tags/list",
            "manifests/manifests",
        ] {
            let digest = registry.blob(name, b"x");
            assert_eq!(registry.get(&format!("/v2/{name}/blobs/{digest}")).is(200).body, b"x");
        }
    });
}

#[test]
fn other_methods_are_named() {
    with_registry(|registry| {
        let digest = sha256(b"x");
        let place = registry.upload("methods");
        registry.keeps_nothing(|| {
            let check = |target: &str, methods: &[&str]| {
                for method in methods {
                    let reply = registry.ask(method, target, &[], b"").is(405);
                    if registry.is_ours() {
                        let allow = reply.need("allow").to_owned();
                        assert!(!allow.split(", ").any(|allowed| allowed == *method), "{method} {allow}");
                        reply.fails(405, "UNSUPPORTED");
                    }
                }
            };
            check("/v2/", &["POST", "DELETE", "PATCH"]);
            check("/v2/methods/tags/list", &["POST", "PUT", "DELETE"]);
            check("/v2/methods/manifests/1", &["POST", "PATCH"]);
            check(&format!("/v2/methods/blobs/{digest}"), &["POST", "PUT", "PATCH"]);
            check("/v2/methods/blobs/uploads/", &["PUT", "DELETE", "PATCH"]);
            check(&place, &["POST"]);
            check("/v2/_catalog", &["POST", "DELETE"]);
            if registry.is_ours() {
                check(&format!("/v2/methods/referrers/{digest}"), &["POST", "PUT", "DELETE"]);
                check("/v1/search", &["POST"]);
            }
        });
        // One that nobody knows, and one that is none.
        for method in ["BREW", "get"] {
            let mut connection = Connection::open(registry.host());
            connection.send(request(method, "/v2/", &[("Connection", "close")], b""));
            let reply = connection.answer(false).unwrap();
            assert!(matches!(reply.status, 400 | 405 | 501), "{reply:?}");
        }
    });
}
