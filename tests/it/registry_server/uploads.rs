//! end-4 (uploads begun, whole in one), end-5 (pieces), end-6 (ended), end-11 (mounts), end-13 (how far), end-14 (given
//! up): the ways of a blob into a repository, and going on where one broke off.

use std::time::{Duration, Instant};

use super::client::{Connection, request};
use super::served::{Served, sha256, sha512, with_digest, with_registry};

/// Reads a blob.
#[track_caller]
fn read(registry: &Served, name: &str, digest: &str) -> Vec<u8> {
    registry.get(&format!("/v2/{name}/blobs/{digest}")).is(200).body
}

/// Checks the answer to an upload that became a blob.
#[track_caller]
fn is_done(registry: &Served, reply: &super::client::Reply, name: &str, digest: &str) {
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(registry.place(reply.need("location")), format!("/v2/{name}/blobs/{digest}"));
    assert_eq!(reply.need("docker-content-digest"), digest);
    assert!(reply.body.is_empty());
}

/// Returns how far an upload is, by its Range header (`0-N`; distribution puts `0-0` for nothing, too).
#[track_caller]
fn range(reply: &super::client::Reply) -> String {
    reply.need("range").trim_start_matches("bytes=").to_owned()
}

#[test]
fn whole_after_a_beginning() {
    with_registry(|registry| {
        let begun = registry.ask("POST", "/v2/up/whole/blobs/uploads/", &[], b"").is(202);
        assert_eq!((range(&begun), begun.need("content-length")), ("0-0".to_owned(), "0"));
        assert!(!begun.need("docker-upload-uuid").is_empty());
        let place = registry.place(begun.need("location"));
        assert!(place.starts_with("/v2/up/whole/blobs/uploads/"), "{place}");
        let digest = sha256(b"whole");
        let reply = registry.ask("PUT", &with_digest(&place, &digest), &[], b"whole");
        is_done(registry, &reply, "up/whole", &digest);
        assert_eq!(read(registry, "up/whole", &digest), b"whole");
        // Without the last slash, as some clients have it.
        let other = registry.ask("POST", "/v2/up/whole/blobs/uploads", &[], b"");
        assert!([202, 301, 307, 308].contains(&other.status), "{other:?}");
    });
}

/// A registry may take the bytes at once, or answer as to any other beginning.
#[test]
fn whole_in_one_request() {
    with_registry(|registry| {
        let digest = sha256(b"at once");
        let target = with_digest("/v2/up/once/blobs/uploads/", &digest);
        let reply =
            registry.ask("POST", &target, &[("Content-Type", "application/octet-stream")], b"at once");
        if registry.is_ours() || reply.status == 201 {
            is_done(registry, &reply, "up/once", &digest);
        } else {
            let place = registry.place(reply.is(202).need("location"));
            registry.ask("PUT", &with_digest(&place, &digest), &[], b"at once").is(201);
        }
        assert_eq!(read(registry, "up/once", &digest), b"at once");
    });
}

#[test]
fn in_pieces() {
    with_registry(|registry| {
        let (pieces, digest) = ([&b"first "[..], b"second ", b"third"], sha256(b"first second third"));
        for last_with_the_end in [false, true] {
            let name = format!("up/pieces{}", u8::from(last_with_the_end));
            let mut place = registry.upload(&name);
            let mut sent = 0;
            let before = if last_with_the_end { 2 } else { 3 };
            for piece in &pieces[..before] {
                let of = format!("{sent}-{}", sent + piece.len() - 1);
                let headers = [("Content-Range", of.as_str()), ("Content-Type", "application/octet-stream")];
                let reply = registry.ask("PATCH", &place, &headers, piece).is(202);
                sent += piece.len();
                assert_eq!(range(&reply), format!("0-{}", sent - 1));
                assert!(reply.body.is_empty());
                place = registry.place(reply.need("location"));
                let status = registry.get(&place).is(204);
                assert_eq!(range(&status), format!("0-{}", sent - 1));
                place = registry.place(status.need("location"));
            }
            let of = format!("{sent}-{}", sent + pieces[2].len() - 1);
            let reply = match last_with_the_end {
                true => {
                    registry.ask("PUT", &with_digest(&place, &digest), &[("Content-Range", &of)], pieces[2])
                }
                false => registry.ask("PUT", &with_digest(&place, &digest), &[], b""),
            };
            is_done(registry, &reply, &name, &digest);
            assert_eq!(read(registry, &name, &digest), b"first second third");
            registry.get(&place).fails(404, "BLOB_UPLOAD_UNKNOWN");
        }
    });
}

/// As docker sends layers: one PATCH whose length nobody knows before.
#[test]
fn streamed_in_chunks_of_http() {
    with_registry(|registry| {
        let place = registry.upload("up/stream");
        let mut connection = Connection::open(registry.host());
        connection
            .send(format!("PATCH {place} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"));
        connection.send("5\r\nsome \r\n").send("6;name=value\r\nwords \r\n").send("0\r\nTrailer: x\r\n\r\n");
        let reply = connection.answer(false).unwrap().is(202);
        assert_eq!(range(&reply), "0-10");
        let digest = sha256(b"some words and more");
        let place = with_digest(&registry.place(reply.need("location")), &digest);
        connection
            .send(format!("PUT {place} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"));
        connection.send("8\r\nand more\r\n0\r\n\r\n");
        is_done(registry, &connection.answer(false).unwrap(), "up/stream", &digest);
        assert_eq!(read(registry, "up/stream", &digest), b"some words and more");
    });
}

#[test]
fn sha512_and_nothing_at_all() {
    with_registry(|registry| {
        let empty = registry.blob("up/kinds", b"");
        assert_eq!(read(registry, "up/kinds", &empty), b"");
        if !registry.is_ours() {
            return;
        }
        let digest = sha512(b"long");
        let reply = registry.ask("PUT", &with_digest(&registry.upload("up/kinds"), &digest), &[], b"long");
        is_done(registry, &reply, "up/kinds", &digest);
        assert_eq!(read(registry, "up/kinds", &digest), b"long");
        // The same bytes by another name are another blob.
        registry.get(&format!("/v2/up/kinds/blobs/{}", sha256(b"long"))).fails(404, "BLOB_UNKNOWN");
    });
}

/// Pieces come in order: one that is not the next changes nothing.
#[test]
fn gaps_and_repetitions_are_refused() {
    with_registry(|registry| {
        let mut place = registry.upload("up/order");
        let patch = |place: &str, of: &str, bytes: &[u8]| {
            registry.ask("PATCH", place, &[("Content-Range", of)], bytes)
        };
        patch(&place, "6-11", b"second").is(416);
        let reply = patch(&place, "0-5", b"first ").is(202);
        place = registry.place(reply.need("location"));
        for of in ["0-5", "7-12", "5-10", "1000-1005"] {
            let reply = patch(&place, of, b"second").is(416);
            if registry.is_ours() {
                assert_eq!(range(&reply), "0-5", "{of}");
                assert!(registry.place(reply.need("location")).starts_with("/v2/up/order/blobs/uploads/"));
            }
            assert_eq!(range(&registry.get(&place).is(204)), "0-5", "{of}");
        }
        for of in ["x-y", "6", "-", "6-", "-11", "11-6", "6-99999999999999999999999", "bytes 6-11/*x", ""] {
            let reply = patch(&place, of, b"second");
            let fine = matches!(reply.status, 400 | 416) || (of.is_empty() && reply.status == 202);
            assert!(fine, "{of:?} {reply:?}");
            assert_eq!(range(&registry.get(&place).is(204)), "0-5", "{of:?}");
        }
        // More or fewer bytes than the range says.
        for of in ["6-8", "6-100"] {
            let reply = patch(&place, of, b"second");
            assert!(matches!(reply.status, 400 | 416), "{of} {reply:?}");
            assert_eq!(range(&registry.get(&place).is(204)), "0-5", "{of}");
        }
        let digest = sha256(b"first second");
        let late =
            registry.ask("PUT", &with_digest(&place, &digest), &[("Content-Range", "7-12")], b"second");
        late.is(416);
        let reply =
            registry.ask("PUT", &with_digest(&place, &digest), &[("Content-Range", "6-11")], b"second");
        is_done(registry, &reply, "up/order", &digest);
    });
}

/// A connection that breaks leaves an upload that says how far it is, and goes on from there.
#[test]
fn a_broken_connection_is_gone_on_from() {
    with_registry(|registry| {
        let bytes: Vec<u8> = (0..300_000u32).flat_map(|n| n.to_le_bytes()).collect();
        let place = registry.upload("up/broken");
        let mut connection = Connection::open(registry.host());
        connection.send(format!(
            "PATCH {place} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
            bytes.len()
        ));
        connection.send(&bytes[..700_000]).end();
        // Whatever it answers to half a body, or if it does.
        drop(connection);
        let started = Instant::now();
        // Until whoever wrote has let go.
        let (at, mut place) = loop {
            let status = registry.get(&place).is(204);
            let end: usize = range(&status).split_once('-').unwrap().1.parse().unwrap();
            let at = if end == 0 { 0 } else { end + 1 };
            assert!(at <= 700_000, "{at}");
            let of = format!("{at}-{}", at + 9);
            let next = registry.place(status.need("location"));
            let reply = registry.ask("PATCH", &next, &[("Content-Range", &of)], &bytes[at..at + 10]);
            if reply.status == 202 {
                break (at + 10, registry.place(reply.need("location")));
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{reply:?}");
        };
        let reply = registry.ask("PATCH", &place, &[], &bytes[at..1_000_000]).is(202);
        assert_eq!(range(&reply), "0-999999");
        place = registry.place(reply.need("location"));
        let digest = sha256(&bytes);
        registry.ask("PUT", &with_digest(&place, &digest), &[], &bytes[1_000_000..]).is(201);
        assert_eq!(read(registry, "up/broken", &digest), bytes);
    });
}

#[test]
fn uploads_are_given_up() {
    with_registry(|registry| {
        registry.keeps_nothing(|| {
            let place = registry.upload("up/cancel");
            registry.ask("PATCH", &place, &[("Content-Range", "0-3")], b"data").is(202);
            registry.ask("DELETE", &place, &[], b"").is(204);
            for method in ["GET", "DELETE", "PATCH", "PUT"] {
                let target =
                    if method == "PUT" { with_digest(&place, &sha256(b"data")) } else { place.clone() };
                registry.ask(method, &target, &[], b"").fails(404, "BLOB_UPLOAD_UNKNOWN");
            }
        });
    });
}

#[test]
fn blobs_are_mounted() {
    with_registry(|registry| {
        let digest = registry.blob("mount/from", b"mounted");
        let mount = |digest: &str, from: &str| {
            let query = format!("mount={}{from}", digest.replace(':', "%3A"));
            registry.ask("POST", &format!("/v2/mount/to/blobs/uploads/?{query}"), &[], b"")
        };
        // What cannot be mounted is an upload as any other.
        let unknown = sha256(b"never sent");
        for (digest, from) in [
            (unknown.as_str(), "&from=mount%2Ffrom"),
            (&digest, "&from=no/such/repository"),
            (&digest, "&from=mount/to"),
        ] {
            let reply = mount(digest, from).is(202);
            let place = registry.place(reply.need("location"));
            assert!(place.starts_with("/v2/mount/to/blobs/uploads/"));
            registry.ask("DELETE", &place, &[], b"").is(204);
        }
        registry.get(&format!("/v2/mount/to/blobs/{digest}")).is(404);
        registry.keeps_nothing(|| {
            for (digest, from) in [("sha256:12", "&from=mount/from"), (&digest, "&from=NOT/A/NAME")] {
                let reply = mount(digest, from);
                match reply.status {
                    202 => drop(
                        registry.ask("DELETE", &registry.place(reply.need("location")), &[], b"").is(204),
                    ),
                    status => assert_eq!(status, 400),
                }
            }
        });
        is_done(registry, &mount(&digest, "&from=mount/from"), "mount/to", &digest);
        assert_eq!(read(registry, "mount/to", &digest), b"mounted");
        // Without a source the registry may look itself.
        assert!([201, 202].contains(&mount(&digest, "").status));
    });
}

/// RFC 9110, 10.1.1: who asks first is told to go on, or what is wrong before the bytes are sent.
#[test]
fn who_waits_for_100_is_told() {
    with_registry(|registry| {
        let digest = sha256(b"patient");
        let place = with_digest(&registry.upload("up/expect"), &digest);
        let expects = [("Expect", "100-continue"), ("Content-Length", "7")];
        let head = |target: &str| {
            let text = request("GET", target, &expects, b"");
            [b"PUT".as_slice(), &text[3..]].concat()
        };
        let mut connection = Connection::open(registry.host());
        connection.send(head(&place));
        connection.answer(false).unwrap().is(100);
        connection.send("patient");
        is_done(registry, &connection.answer(false).unwrap(), "up/expect", &digest);
        let unknown =
            with_digest("/v2/up/expect/blobs/uploads/00000000-0000-4000-8000-000000000000", &digest);
        let mut connection = Connection::open(registry.host());
        connection.send(head(&unknown));
        connection.answer(false).unwrap().is(404);
    });
}
