//! Requests that are none, or two at once (RFC 9112): refused, the connection closed, nothing kept; and the
//! registry goes on.

use super::client::{Connection, request};
use super::served::{Served, sha256, with_digest, with_registry};

/// Sends bytes that are to be refused: with an answer of one of these statuses, or by closing; in any case closed.
#[track_caller]
fn refused(registry: &Served, bytes: &[u8], statuses: &[u16]) {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    let mut connection = Connection::open(registry.host());
    connection.send(bytes).end();
    if let Some(reply) = connection.answer(false) {
        assert!(statuses.contains(&reply.status), "{shown:?}: {reply:?}");
    }
    let rest = connection.rest();
    assert!(rest.is_empty(), "{shown:?}: {}", String::from_utf8_lossy(&rest));
}

#[test]
fn lines_that_are_no_request() {
    with_registry(|registry| {
        registry.keeps_nothing(|| {
            let long = format!("GET /v2/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(300_000));
            for bad in [
                "GARBAGE\r\n\r\n",
                "GET\r\n\r\n",
                "GET /v2/\r\n\r\n",
                "GET /v2/ HTTP/9.9\r\nHost: localhost\r\n\r\n",
                "GET /v2/ HTTX/1.1\r\nHost: localhost\r\n\r\n",
                "G\0T /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "GET /v2/\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "GET  /v2/ HTTP/1.1 x\r\nHost: localhost\r\n\r\n",
                "\x16\x03\x01\x02\x00\x01\x00\x01",
                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                &long,
            ] {
                refused(registry, bad.as_bytes(), &[400, 404, 405, 414, 431, 501, 505]);
            }
        });
        registry.get("/v2/").is(200);
    });
}

#[test]
fn headers_that_are_none() {
    with_registry(|registry| {
        registry.keeps_nothing(|| {
            let many = "X-A: b\r\n".repeat(10_000);
            let large = format!("X-A: {}\r\n", "b".repeat(2_000_000));
            for bad in
                ["no colon\r\n", "A B: c\r\n", ": x\r\n", "X-A: b\0c\r\n", "X\u{e4}: b\r\n", &many, &large]
            {
                let bytes = format!("GET /v2/ HTTP/1.1\r\nHost: localhost\r\n{bad}Connection: close\r\n\r\n");
                refused(registry, bytes.as_bytes(), &[400, 431]);
            }
        });
        registry.get("/v2/").is(200);
    });
}

/// Where two readers could see two bodies, nobody reads one (request smuggling).
#[test]
fn lengths_that_are_two() {
    with_registry(|registry| {
        let digest = sha256(b"body");
        let place = registry.upload("smuggle");
        let target = with_digest(&place, &digest);
        let kept = registry.kept();
        for bad in [
            "Content-Length: 4\r\nContent-Length: 5\r\n",
            "Content-Length: 4, 5\r\n",
            "Content-Length: -4\r\n",
            "Content-Length: +4\r\n",
            "Content-Length: 4x\r\n",
            "Content-Length: 99999999999999999999999\r\n",
            "Content-Length: 0x4\r\n",
            "Transfer-Encoding: gzip\r\n",
            "Transfer-Encoding: chunked, gzip\r\n",
            "Transfer-Encoding: xchunked\r\n",
        ] {
            let bytes = format!("PUT {target} HTTP/1.1\r\nHost: localhost\r\n{bad}\r\nbody");
            refused(registry, bytes.as_bytes(), &[400, 413, 501]);
            registry.get(&format!("/v2/smuggle/blobs/{digest}")).is(404);
        }
        for bad in [
            "x\r\nbody\r\n0\r\n\r\n",
            "-4\r\nbody\r\n0\r\n\r\n",
            "4\r\nbodyxx0\r\n\r\n",
            "ffffffffffffffffff\r\nbody",
            "4;\0\r\nbody\r\n",
        ] {
            let bytes = format!(
                "PUT {target} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{bad}"
            );
            let mut connection = Connection::open(registry.host());
            connection.send(bytes).end();
            if let Some(reply) = connection.answer(false) {
                assert!((400..500).contains(&reply.status), "{bad:?} {reply:?}");
            }
            connection.rest();
            registry.get(&format!("/v2/smuggle/blobs/{digest}")).is(404);
        }
        // RFC 9112, 6.1: with both, the length does not count and the connection ends, or it is refused.
        let smuggled = "0\r\n\r\nGET /v2/smuggled/tags/list HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let both = format!(
            "PATCH {place} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{smuggled}"
        );
        let mut connection = Connection::open(registry.host());
        connection.send(both).end();
        if let Some(reply) = connection.answer(false) {
            assert!(matches!(reply.status, 202 | 400 | 404), "{reply:?}");
        }
        // A second answer would be one to what was smuggled.
        let rest = String::from_utf8_lossy(&connection.rest()).into_owned();
        assert!(!rest.contains("NAME_UNKNOWN"), "{rest}");
        assert!(registry.kept().difference(&kept).all(|path| path.starts_with(path.parent().unwrap())));
        registry.get("/v2/").is(200);
    });
}

/// Targets in every form that a client could send.
#[test]
fn odd_targets() {
    with_registry(|registry| {
        let digest = registry.blob("odd", b"x");
        registry.keeps_nothing(|| {
            for target in [
                "/v2/%",
                "/v2/%zz/tags/list",
                "/v2/odd/blobs/%",
                "/v2/odd/tags/list?n=%zz",
                "/v2/odd/tags/list?%00=%00&&&=",
                "//v2//",
                "/",
                "/v2/odd/blobs/",
                "/v2/odd/manifests/",
                "/v2/odd/manifests",
                "/v2/odd",
                "/v2//tags/list",
                "/v2/blobs/uploads/",
                "/v2/odd/blobs/uploads/a/b",
                "/../../../etc/passwd",
                "/v2/../../etc/passwd",
                "/v2/odd/../odd/tags/list",
                "/v2/%2e%2e/%2e%2e/tags/list",
                "/v2/odd%2ftags%2flist",
                "*",
            ] {
                let mut connection = Connection::open(registry.host());
                connection.send(request("GET", target, &[("Connection", "close")], b""));
                let reply = connection.answer(false).unwrap_or_else(|| panic!("no answer to {target}"));
                assert!((300..500).contains(&reply.status) || reply.status == 200, "{target} {reply:?}");
                assert!(!String::from_utf8_lossy(&reply.body).contains("root:"), "{target}");
            }
        });
        // A whole URL is as good (RFC 9112, 3.2.2).
        let whole = format!("http://{}/v2/odd/blobs/{digest}", registry.host());
        let reply = registry.get(&whole);
        assert!(matches!(reply.status, 200 | 400 | 404), "{reply:?}");
    });
}

/// A client that goes away in the middle of anything costs nobody else anything.
#[test]
fn clients_that_leave() {
    with_registry(|registry| {
        let bytes = vec![7; 4 << 20];
        let digest = registry.blob("leave", &bytes);
        let target = format!("/v2/leave/blobs/{digest}");
        for cut in [0, 1, 10, 30, 60] {
            let text = request("GET", &target, &[], b"");
            Connection::open(registry.host()).send(&text[..cut.min(text.len())]);
        }
        for _ in 0..20 {
            Connection::open(registry.host()).send(request("GET", &target, &[], b""));
        }
        assert_eq!(registry.get(&target).is(200).body, bytes);
    });
}
