//! end-12 (referrers listed): what refers to a manifest, whenever either came or went.

use serde_json::{Value, json};

use super::served::{INDEX, MANIFEST, Served, bytes_of, descriptor, digest_of, sha256, with_registry};

/// Puts an artifact that is about a subject; returns its digest.
#[track_caller]
fn artifact(registry: &Served, name: &str, kind: Option<&str>, subject: &Value, note: &str) -> String {
    registry.blob(name, b"{}");
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.example.config+json", b"{}"),
        "layers": [descriptor("application/vnd.oci.empty.v1+json", b"{}")],
        "subject": subject, "annotations": {"note": note},
    });
    if let Some(kind) = kind {
        manifest["artifactType"] = json!(kind);
        manifest["config"] = descriptor("application/vnd.oci.empty.v1+json", b"{}");
    }
    let digest = digest_of(&manifest);
    let put = registry.put(name, &digest, &manifest);
    // By this a client knows that it need not keep a list itself.
    assert_eq!(put.need("oci-subject"), subject["digest"].as_str().unwrap());
    digest
}

#[track_caller]
fn list(registry: &Served, name: &str, digest: &str, query: &str) -> Value {
    let reply = registry.get(&format!("/v2/{name}/referrers/{digest}{query}")).is(200);
    assert_eq!(reply.need("content-type"), INDEX);
    let index = reply.json();
    assert_eq!((&index["schemaVersion"], &index["mediaType"]), (&json!(2), &json!(INDEX)));
    index["manifests"].clone()
}

fn digests(list: &Value) -> Vec<&str> {
    let mut digests: Vec<&str> =
        list.as_array().unwrap().iter().map(|entry| entry["digest"].as_str().unwrap()).collect();
    digests.sort_unstable();
    digests
}

fn sorted(mut digests: Vec<&str>) -> Vec<&str> {
    digests.sort_unstable();
    digests
}

#[test]
fn listed_and_chosen_by_type() {
    with_registry(|registry| {
        if !registry.is_ours() {
            return;
        }
        let image = registry.image("ref/app", "subject");
        let subject = descriptor(MANIFEST, &bytes_of(&image));
        // Referred to before it is there.
        let sbom = artifact(registry, "ref/app", Some("application/sbom+x"), &subject, "first");
        let digest = digest_of(&image);
        assert_eq!(digests(&list(registry, "ref/app", &digest, "")), [&sbom]);
        registry.put("ref/app", "1", &image);
        let signature = artifact(registry, "ref/app", Some("application/signature+x"), &subject, "second");
        let by_config = artifact(registry, "ref/app", None, &subject, "third");
        let all = list(registry, "ref/app", &digest, "");
        assert_eq!(digests(&all), sorted(vec![&sbom, &signature, &by_config]));
        for entry in all.as_array().unwrap() {
            assert_eq!(entry["mediaType"], MANIFEST);
            let bytes = registry
                .get(&format!("/v2/ref/app/manifests/{}", entry["digest"].as_str().unwrap()))
                .is(200)
                .body;
            assert_eq!(entry["size"], bytes.len());
            assert!(
                ["first", "second", "third"].iter().any(|note| entry["annotations"]["note"] == *note),
                "{entry}"
            );
        }
        let kind = |digest: &str| {
            all.as_array().unwrap().iter().find(|e| e["digest"] == digest).unwrap()["artifactType"].clone()
        };
        assert_eq!(kind(&sbom), "application/sbom+x");
        // Without a type of its own an artifact is of its config's.
        assert_eq!(kind(&by_config), "application/vnd.example.config+json");
        for (wanted, expect) in [
            ("application%2Fsbom%2Bx", vec![sbom.as_str()]),
            ("application%2Fvnd.example.config%2Bjson", vec![&by_config]),
            ("application%2Fnone", vec![]),
        ] {
            let reply =
                registry.get(&format!("/v2/ref/app/referrers/{digest}?artifactType={wanted}")).is(200);
            assert_eq!(digests(&reply.json()["manifests"]), expect, "{wanted}");
            assert_eq!(reply.need("oci-filters-applied"), "artifactType");
        }
        assert!(
            registry.get(&format!("/v2/ref/app/referrers/{digest}")).header("oci-filters-applied").is_none()
        );
        // An index can refer, too.
        let index = json!({
            "schemaVersion": 2, "mediaType": INDEX, "artifactType": "application/list+x", "subject": subject,
            "manifests": [descriptor(MANIFEST, &bytes_of(&image))],
        });
        registry.put("ref/app", "list", &index);
        let found = list(registry, "ref/app", &digest, "?artifactType=application%2Flist%2Bx");
        assert_eq!(
            (digests(&found), &found[0]["mediaType"]),
            (vec![digest_of(&index).as_str()], &json!(INDEX))
        );
        // Each repository has its own.
        assert_eq!(list(registry, "ref/other", &digest, ""), json!([]));
        // The subject may go; what refers to it stays, until it goes itself.
        registry.ask("DELETE", &format!("/v2/ref/app/manifests/{digest}"), &[], b"").is(202);
        assert_eq!(list(registry, "ref/app", &digest, "").as_array().unwrap().len(), 4);
        registry.ask("DELETE", &format!("/v2/ref/app/manifests/{sbom}"), &[], b"").is(202);
        assert!(!digests(&list(registry, "ref/app", &digest, "")).contains(&sbom.as_str()));
    });
}

#[test]
fn none_is_an_empty_list() {
    with_registry(|registry| {
        if !registry.is_ours() {
            return;
        }
        assert_eq!(list(registry, "ref/none", &sha256(b"nothing"), ""), json!([]));
        for bad in ["x", "latest", "sha256:12", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:..%2f.."] {
            registry.get(&format!("/v2/ref/none/referrers/{bad}")).fails(400, "DIGEST_INVALID");
        }
    });
}

/// A long list may come in pages; all of it is there.
#[test]
fn a_long_list_is_whole() {
    with_registry(|registry| {
        if !registry.is_ours() {
            return;
        }
        let image = registry.image("ref/many", "subject");
        let subject = descriptor(MANIFEST, &bytes_of(&image));
        let mut expect: Vec<String> = Vec::new();
        let note = "x".repeat(300_000);
        for number in 0..16 {
            expect.push(artifact(registry, "ref/many", Some("a/b"), &subject, &format!("{number}{note}")));
        }
        expect.sort_unstable();
        let (mut target, mut found) = (format!("/v2/ref/many/referrers/{}", digest_of(&image)), Vec::new());
        for _ in 0..100 {
            let reply = registry.get(&target).is(200);
            // A client need not read more of an index than of a manifest.
            assert!(reply.body.len() <= 4 << 20, "{}", reply.body.len());
            let page = reply.json()["manifests"].clone();
            found.extend(digests(&page).into_iter().map(str::to_owned));
            let Some(link) = reply.header("link") else { break };
            target = registry.place(link.strip_prefix('<').unwrap().split_once('>').unwrap().0);
        }
        found.sort_unstable();
        assert_eq!(found, expect);
    });
}
