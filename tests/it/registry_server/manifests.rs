//! end-3 (manifests read), end-7 (written), end-9 (deleted).

use serde_json::json;

use super::served::{
    CONFIG, INDEX, LAYER, MANIFEST, bytes_of, config_of, descriptor, digest_of, sha256, sha512, with_registry,
};

#[test]
fn written_and_read() {
    with_registry(|registry| {
        let manifest = registry.image("m/app", "one");
        let (bytes, digest) = (bytes_of(&manifest), digest_of(&manifest));
        let put = registry.put("m/app", "1.0", &manifest);
        assert_eq!(put.need("docker-content-digest"), digest);
        let place = registry.place(put.need("location"));
        assert_eq!(registry.get(&place).is(200).body, bytes);
        registry.put("m/app", &digest, &manifest);
        for which in ["1.0", &digest] {
            let target = format!("/v2/m/app/manifests/{which}");
            let whole = registry.get(&target).is(200);
            assert_eq!(whole.body, bytes);
            let head = registry.ask("HEAD", &target, &[], b"").is(200);
            for reply in [&whole, &head] {
                assert_eq!(reply.need("content-type"), MANIFEST);
                assert_eq!(reply.need("content-length"), bytes.len().to_string());
                assert_eq!(reply.need("docker-content-digest"), digest);
            }
            // The client says what it can read; what is there is what it gets.
            for accept in [MANIFEST, "*/*", "application/*", &format!("{INDEX}, {MANIFEST};q=0.5")] {
                let reply = registry.ask("GET", &target, &[("Accept", accept)], b"").is(200);
                assert_eq!((reply.need("content-type"), &reply.body), (MANIFEST, &bytes), "{accept}");
            }
        }
        // A tag goes on to another image; the digest stays where it is.
        let second = registry.image("m/app", "two");
        registry.put("m/app", "1.0", &second);
        assert_eq!(
            registry.get("/v2/m/app/manifests/1.0").is(200).need("docker-content-digest"),
            digest_of(&second)
        );
        assert_eq!(registry.get(&format!("/v2/m/app/manifests/{digest}")).is(200).body, bytes);
    });
}

#[test]
fn of_other_kinds() {
    with_registry(|registry| {
        let image = registry.image("m/kinds", "child");
        let child = registry.put("m/kinds", "child", &image).need("docker-content-digest").to_owned();
        let mut entry = descriptor(MANIFEST, &bytes_of(&image));
        entry["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        registry.put("m/kinds", "index", &index);
        let reply = registry.get("/v2/m/kinds/manifests/index").is(200);
        assert_eq!((reply.need("content-type"), reply.body.clone()), (INDEX, bytes_of(&index)));
        let docker = "application/vnd.docker.distribution.manifest.v2+json";
        let config = config_of("child");
        let schema2 = json!({
            "schemaVersion": 2, "mediaType": docker,
            "config": descriptor("application/vnd.docker.container.image.v1+json", config.as_bytes()),
            "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", b"layer of child")],
        });
        registry.put("m/kinds", "docker", &schema2);
        assert_eq!(registry.get("/v2/m/kinds/manifests/docker").is(200).need("content-type"), docker);
        let list = "application/vnd.docker.distribution.manifest.list.v2+json";
        let mut entry = descriptor(docker, &bytes_of(&schema2));
        entry["platform"] = json!({"os": "linux", "architecture": "amd64"});
        registry.put(
            "m/kinds",
            "list",
            &json!({"schemaVersion": 2, "mediaType": list, "manifests": [entry]}),
        );
        assert_eq!(registry.get("/v2/m/kinds/manifests/list").is(200).need("content-type"), list);
        // Without a mediaType of its own it is what the request says.
        let mut plain = image.clone();
        plain.as_object_mut().unwrap().remove("mediaType");
        registry.put("m/kinds", "plain", &plain);
        assert_eq!(registry.get("/v2/m/kinds/manifests/plain").is(200).need("content-type"), MANIFEST);
        assert_ne!(digest_of(&plain), child);
        if registry.is_ours() {
            // An artifact has an empty config, and a type.
            registry.blob("m/kinds", b"{}");
            let artifact = json!({
                "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.example+type",
                "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
                "layers": [descriptor("application/vnd.oci.empty.v1+json", b"{}")],
            });
            registry.put("m/kinds", "artifact", &artifact);
            let long = sha512(&bytes_of(&artifact));
            let put = registry.put("m/kinds", &long, &artifact);
            assert_eq!(put.need("docker-content-digest"), long);
            assert_eq!(
                registry.get(&format!("/v2/m/kinds/manifests/{long}")).is(200).body,
                bytes_of(&artifact)
            );
        }
    });
}

#[test]
fn what_needs_more_than_is_there() {
    with_registry(|registry| {
        let good = registry.image("m/parts", "here");
        let absent = descriptor(LAYER, b"never sent");
        let foreign = registry.image("m/elsewhere", "there");
        registry.put("m/elsewhere", "1", &foreign);
        registry.keeps_nothing(|| {
            let refuse = |manifest: &serde_json::Value, codes: &[&str]| {
                let kind = manifest["mediaType"].as_str().unwrap();
                let target = "/v2/m/parts/manifests/1";
                let reply = registry.ask("PUT", target, &[("Content-Type", kind)], &bytes_of(manifest));
                assert!(matches!(reply.status, 400 | 404), "{reply:?}");
                let code = reply.json()["errors"][0]["code"].clone();
                assert!(codes.iter().any(|known| code == **known), "{}", reply.json());
                reply
            };
            let unknown = ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"];
            let mut manifest = good.clone();
            manifest["layers"] = json!([absent]);
            let reply = refuse(&manifest, &unknown);
            assert!(String::from_utf8_lossy(&reply.body).contains(&sha256(b"never sent")), "it names what is missing");
            let mut manifest = good.clone();
            manifest["config"] = descriptor(CONFIG, b"never sent either");
            refuse(&manifest, &unknown);
            // What another repository has is not here.
            refuse(&foreign, &unknown);
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(MANIFEST, &bytes_of(&foreign))]});
            refuse(&index, &["MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN", "BLOB_UNKNOWN"]);
        });
        // A repository without manifests may be none yet.
        let code = registry.get("/v2/m/parts/manifests/1").is(404).json()["errors"][0]["code"].clone();
        assert!(code == "MANIFEST_UNKNOWN" || code == "NAME_UNKNOWN", "{code}");
    });
}

#[test]
fn what_is_no_manifest() {
    with_registry(|registry| {
        let good = registry.image("m/bad", "good");
        let with = |key: &str, value: serde_json::Value| {
            let mut manifest = good.clone();
            manifest[key] = value;
            bytes_of(&manifest)
        };
        let layer = descriptor(LAYER, b"layer of good");
        let bad_digest = |digest: &str| {
            let mut entry = layer.clone();
            entry["digest"] = json!(digest);
            with("layers", json!([entry]))
        };
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        registry.keeps_nothing(|| {
            let refuse = |kind: &str, bytes: &[u8]| {
                let reply = registry.ask("PUT", "/v2/m/bad/manifests/1", &[("Content-Type", kind)], bytes);
                let said = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
                assert_eq!(reply.status, 400, "{kind} {said}: {reply:?}");
                let code = reply.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned();
                assert!(
                    matches!(
                        code.as_str(),
                        "MANIFEST_INVALID" | "DIGEST_INVALID" | "UNSUPPORTED" | "SIZE_INVALID"
                    ),
                    "{code} {said}"
                );
            };
            for bytes in [
                &b""[..],
                b"{",
                b"null",
                b"[]",
                b"3",
                b"\"x\"",
                b"{}",
                b"\xff\xfe",
                deep.as_bytes(),
                b"{\"schemaVersion\":2}x",
            ] {
                refuse(MANIFEST, bytes);
            }
            refuse(MANIFEST, br#"{"schemaVersion":1,"name":"m/bad","tag":"1","fsLayers":[],"history":[]}"#);
            refuse(
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
                br#"{"schemaVersion":1,"name":"m/bad","tag":"1","fsLayers":[],"history":[]}"#,
            );
            if !registry.is_ours() {
                return;
            }
            for version in [json!(1), json!(3), json!("2"), json!(null), json!(2.5)] {
                refuse(MANIFEST, &with("schemaVersion", version));
            }
            // The same bytes must not be two things to two readers (CVE-2021-41190).
            refuse(INDEX, &bytes_of(&good));
            refuse(MANIFEST, &with("manifests", json!([])));
            refuse(MANIFEST, &with("mediaType", json!(INDEX)));
            refuse("application/vnd.docker.distribution.manifest.v2+json", &bytes_of(&good));
            for digest in [
                "",
                "x",
                "sha256:12",
                "md5:d41d8cd98f00b204e9800998ecf8427e",
                "sha256:../../../../etc/passwd",
            ] {
                refuse(MANIFEST, &bad_digest(digest));
            }
            refuse(MANIFEST, &with("layers", json!({})));
            refuse(MANIFEST, &with("layers", json!([1])));
            refuse(MANIFEST, &with("config", json!([])));
            refuse(MANIFEST, &with("subject", json!({"digest": "x"})));
            let mut size = layer.clone();
            size["size"] = json!(-1);
            refuse(MANIFEST, &with("layers", json!([size])));
        });
        registry.get("/v2/m/bad/manifests/1").is(404);
        registry.get("/v2/m/bad/tags/list");
    });
}

/// The specification asks for 4 MiB at least to be taken, and for 413 where that is too much.
#[test]
fn the_largest() {
    with_registry(|registry| {
        let mut manifest = registry.image("m/large", "large");
        let filled = |manifest: &mut serde_json::Value, size: usize| {
            manifest["annotations"] = json!({"fill": ""});
            let fill = size - bytes_of(manifest).len();
            manifest["annotations"] = json!({"fill": "x".repeat(fill)});
            assert_eq!(bytes_of(manifest).len(), size);
        };
        filled(&mut manifest, 4 << 20);
        registry.put("m/large", "most", &manifest);
        let got = registry.get("/v2/m/large/manifests/most").is(200);
        assert!(got.body == bytes_of(&manifest), "{got:?}");
        assert_eq!((got.need("content-type"), got.need("content-length")), (MANIFEST, "4194304"));
        filled(&mut manifest, (4 << 20) + 1);
        registry.keeps_nothing(|| {
            let headers = [("Content-Type", MANIFEST)];
            let reply = registry.ask("PUT", "/v2/m/large/manifests/more", &headers, &bytes_of(&manifest));
            if registry.is_ours() {
                reply.fails_with(&[413], "MANIFEST_INVALID");
                // Nor where the length is not said before.
                let mut connection = super::client::Connection::open(registry.host());
                connection.send(format!("PUT /v2/m/large/manifests/more HTTP/1.1\r\nHost: localhost\r\nContent-Type: {MANIFEST}\r\nTransfer-Encoding: chunked\r\n\r\n"));
                let bytes = bytes_of(&manifest);
                connection.send(format!("{:x}\r\n", bytes.len())).send(&bytes).send("\r\n0\r\n\r\n");
                connection.answer(false).unwrap().is(413);
            } else {
                assert!(matches!(reply.status, 400 | 413), "{reply:?}");
            }
        });
    });
}

#[test]
fn names_of_manifests_that_are_none() {
    with_registry(|registry| {
        let manifest = registry.image("m/names", "x");
        let digest = digest_of(&manifest);
        registry.put("m/names", "good", &manifest);
        registry.keeps_nothing(|| {
            let kind = [("Content-Type", MANIFEST)];
            let other = registry.ask(
                "PUT",
                &format!("/v2/m/names/manifests/{}", sha256(b"x")),
                &kind,
                &bytes_of(&manifest),
            );
            other.fails(400, "DIGEST_INVALID");
            let long = "a".repeat(129);
            for bad in [
                "-a",
                ".a",
                "a%20b",
                "a%2Fb",
                "%c3%a4",
                "a+b",
                "sha256:12",
                "sha256:xyz",
                "a:b",
                "..",
                "%2e%2e",
                "a%00",
                &long,
            ] {
                let target = format!("/v2/m/names/manifests/{bad}");
                for method in ["GET", "PUT", "DELETE"] {
                    let reply =
                        registry.ask(method, &target, &kind, if method == "PUT" { b"{}" } else { b"" });
                    assert!(matches!(reply.status, 400 | 404), "{method} {bad} {reply:?}");
                }
            }
        });
        for good in ["A", "_a", "1.2.3-rc_1", "UPPER", &"a".repeat(128)] {
            registry.put("m/names", good, &manifest);
            assert_eq!(
                registry.get(&format!("/v2/m/names/manifests/{good}")).is(200).need("docker-content-digest"),
                digest
            );
        }
        for (name, which) in [("m/names", "none"), ("m/nowhere", "good"), ("m/names", &sha256(b"x"))] {
            let target = format!("/v2/{name}/manifests/{which}");
            let reply = registry.get(&target).is(404);
            let code = reply.json()["errors"][0]["code"].clone();
            assert!(code == "MANIFEST_UNKNOWN" || code == "NAME_UNKNOWN", "{code}");
            assert!(registry.ask("HEAD", &target, &[], b"").is(404).body.is_empty());
        }
    });
}

#[test]
fn deleted() {
    with_registry(|registry| {
        let (one, two) = (registry.image("m/del", "one"), registry.image("m/del", "two"));
        for (tag, manifest) in [("1", &one), ("1.0", &one), ("2", &two)] {
            registry.put("m/del", tag, manifest);
        }
        let target = format!("/v2/m/del/manifests/{}", digest_of(&one));
        // A registry may know how to take a tag away alone.
        let untag = registry.ask("DELETE", "/v2/m/del/manifests/1.0", &[], b"");
        match registry.is_ours() {
            true => drop(untag.is(202)),
            false => assert!(matches!(untag.status, 202 | 400 | 405), "{untag:?}"),
        }
        registry.get(&target).is(200);
        let gone = registry.ask("DELETE", &target, &[], b"").is(202);
        assert!(gone.body.is_empty());
        registry.ask("DELETE", &target, &[], b"").fails(404, "MANIFEST_UNKNOWN");
        for which in [&digest_of(&one), "1", "1.0"] {
            registry.get(&format!("/v2/m/del/manifests/{which}")).fails(404, "MANIFEST_UNKNOWN");
        }
        assert_eq!(registry.get("/v2/m/del/tags/list").is(200).json()["tags"], json!(["2"]));
        registry.get("/v2/m/del/manifests/2").is(200);
        registry.put("m/del", "again", &one);
        registry.get(&target).is(200);
    });
}

/// A manifest under several tags at once, where the registry knows that (`?tag=`).
#[test]
fn several_tags_in_one_request() {
    with_registry(|registry| {
        if !registry.is_ours() {
            return;
        }
        let manifest = registry.image("m/tags", "x");
        let target = format!("/v2/m/tags/manifests/{}?tag=one&tag=two", digest_of(&manifest));
        let reply = registry.ask("PUT", &target, &[("Content-Type", MANIFEST)], &bytes_of(&manifest)).is(201);
        let tags = registry.get("/v2/m/tags/tags/list");
        // Who does not know it says so by leaving the header out.
        match reply.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("oci-tag")) {
            true => assert_eq!(tags.json()["tags"], json!(["one", "two"])),
            false => assert_ne!(tags.json()["tags"], json!(["one"])),
        }
    });
}
