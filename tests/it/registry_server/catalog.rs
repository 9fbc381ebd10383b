//! `_catalog` and `/v1/search`: which repositories there are. No part of the specification, but docker's.

use serde_json::json;

use super::served::with_registry;
use super::tags::pages;

#[test]
fn repositories_are_listed() {
    with_registry(|registry| {
        if registry.is_ours() {
            assert_eq!(registry.get("/v2/_catalog").is(200).json(), json!({"repositories": []}));
        }
        let names = ["busy", "busy/box", "busy1", "library/test", "zoo"];
        for name in ["zoo", "busy1", "busy", "library/test", "busy/box"] {
            let manifest = registry.image(name, name);
            registry.put(name, "1", &manifest);
        }
        let whole = registry.get("/v2/_catalog").is(200);
        assert!(whole.need("content-type").starts_with("application/json"));
        let all = |target: &str| pages(registry, target, "repositories");
        if registry.is_ours() {
            assert_eq!(whole.json(), json!({"repositories": names}));
            assert_eq!(
                all("/v2/_catalog?n=2"),
                [&names[..2], &names[2..4], &names[4..]].map(<[&str]>::to_vec)
            );
            assert_eq!(all("/v2/_catalog?n=2&last=busy1"), [names[3..].to_vec()]);
        }
        assert_eq!(all("/v2/_catalog?n=1").concat().len(), all("/v2/_catalog?n=1000").concat().len());
        // CVE-2023-2253: what n says is no size to reserve.
        for absurd in ["1000000000000", "18446744073709551615", "99999999999999999999999999", "-1", "x", "0"]
        {
            let reply = registry.get(&format!("/v2/_catalog?n={absurd}"));
            match reply.status {
                200 => assert!(reply.json()["repositories"].is_array()),
                status => assert_eq!(status, 400, "{absurd}"),
            }
        }
    });
}

/// The fields that docker's index has.
#[test]
fn repositories_are_searched() {
    with_registry(|registry| {
        if !registry.is_ours() {
            return;
        }
        for name in ["busy", "busy1", "library/test", "zoo"] {
            registry.put(name, "latest", &registry.image(name, name));
        }
        let names = |target: &str| -> Vec<String> {
            let reply = registry.get(target).is(200);
            assert!(reply.need("content-type").starts_with("application/json"));
            let found = reply.json();
            assert_eq!(
                found["num_results"].as_u64().unwrap() as usize,
                found["results"].as_array().unwrap().len(),
                "{found}"
            );
            found["results"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["name"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(names("/v1/search"), ["busy", "busy1", "library/test", "zoo"]);
        assert_eq!(names("/v1/search?q="), ["busy", "busy1", "library/test", "zoo"]);
        assert_eq!(names("/v1/search?q=bus&n=25"), ["busy", "busy1"]);
        assert_eq!(names("/v1/search?q=TEST"), ["library/test"]);
        assert_eq!(names("/v1/search?q=library%2Ftest"), ["library/test"]);
        assert_eq!(names("/v1/search?q=%00%ff"), Vec::<String>::new());
        let one = registry.get("/v1/search?q=zoo").is(200).json();
        assert_eq!((&one["query"], &one["page"]), (&json!("zoo"), &json!(1)));
        assert!(one["num_pages"].is_u64() && one["page_size"].is_u64());
        let found = &one["results"][0];
        assert_eq!((&found["description"], &found["star_count"]), (&json!(""), &json!(0)));
        assert_eq!((&found["is_official"], &found["is_automated"]), (&json!(false), &json!(false)));
        for absurd in ["n=99999999999999999999", "n=-1", "n=x", "page=0", "page=99999999999"] {
            let reply = registry.get(&format!("/v1/search?q=bus&{absurd}"));
            assert!(matches!(reply.status, 200 | 400), "{absurd} {reply:?}");
        }
        registry.get("/v1/_ping").is(200);
    });
}
