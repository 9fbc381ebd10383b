//! end-8 (tags listed): order, pages, errors.

use serde_json::{Value, json};

use super::served::{Served, with_registry};

/// Follows a list from page to page; returns what each has.
#[track_caller]
pub fn pages(registry: &Served, start: &str, key: &str) -> Vec<Vec<String>> {
    let (mut target, mut pages) = (start.to_owned(), Vec::new());
    loop {
        let reply = registry.get(&target).is(200);
        let page: Vec<String> = serde_json::from_value(reply.json()[key].clone()).unwrap();
        pages.push(page);
        assert!(pages.len() < 100, "it goes on for ever");
        let Some(link) = reply.header("link") else { return pages };
        // RFC 8288: <target>; rel="next"
        let (next, rest) = link.strip_prefix('<').and_then(|rest| rest.split_once('>')).expect(link);
        assert_eq!(rest.replace(' ', ""), ";rel=\"next\"");
        target = registry.place(next);
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn sorted_and_in_pages() {
    with_registry(|registry| {
        let manifest = registry.image("t/app", "x");
        let tags = ["1.0", "1.1", "2", "a", "a-b", "b", "latest"];
        for tag in ["b", "2", "latest", "1.1", "a-b", "1.0", "a"] {
            registry.put("t/app", tag, &manifest);
        }
        let whole = registry.get("/v2/t/app/tags/list").is(200);
        assert!(whole.need("content-type").starts_with("application/json"));
        assert_eq!(whole.json(), json!({"name": "t/app", "tags": tags}));
        assert!(whole.header("link").is_none());
        if !registry.is_ours() {
            // distribution 2.8 has no pages of tags.
            return;
        }
        let list = "/v2/t/app/tags/list";
        assert_eq!(
            pages(registry, &format!("{list}?n=3"), "tags"),
            [&tags[..3], &tags[3..6], &tags[6..]].map(strings)
        );
        assert_eq!(pages(registry, &format!("{list}?n=7"), "tags"), [strings(&tags)]);
        assert_eq!(pages(registry, &format!("{list}?n=1"), "tags").len(), 7);
        assert_eq!(pages(registry, &format!("{list}?last=a"), "tags"), [strings(&tags[4..])]);
        // What is named last need not be there.
        assert_eq!(
            pages(registry, &format!("{list}?last=a-a&n=2"), "tags"),
            [strings(&tags[4..6]), strings(&tags[6..])]
        );
        assert_eq!(pages(registry, &format!("{list}?last=zzz"), "tags"), [Vec::<String>::new()]);
        // None is none, and no next page.
        let none = registry.get(&format!("{list}?n=0")).is(200);
        assert_eq!((none.json()["tags"].clone(), none.header("link")), (json!([]), None));
        let head = registry.ask("HEAD", list, &[], b"");
        assert!(matches!(head.status, 200 | 405));
    });
}

#[test]
fn what_cannot_be_listed() {
    with_registry(|registry| {
        registry.get("/v2/t/nowhere/tags/list").fails(404, "NAME_UNKNOWN");
        registry.blob("t/empty", b"x");
        // A repository without tags has none, or is not there yet.
        let empty = registry.get("/v2/t/empty/tags/list");
        match empty.status {
            200 => assert!(matches!(empty.json()["tags"], Value::Null | Value::Array(_))),
            _ => drop(empty.fails(404, "NAME_UNKNOWN")),
        }
        if !registry.is_ours() {
            return;
        }
        let manifest = registry.image("t/app", "x");
        registry.put("t/app", "one", &manifest);
        for bad in ["-1", "x", "1.5", "%20", "0x10", "+1"] {
            let reply = registry.get(&format!("/v2/t/app/tags/list?n={bad}"));
            reply.fails(400, "PAGINATION_NUMBER_INVALID");
        }
        for absurd in ["999999999", "18446744073709551615", "99999999999999999999999999"] {
            let reply = registry.get(&format!("/v2/t/app/tags/list?n={absurd}"));
            match reply.status {
                200 => assert_eq!(reply.json()["tags"], json!(["one"])),
                _ => drop(reply.fails(400, "PAGINATION_NUMBER_INVALID")),
            }
        }
        let odd = registry.get("/v2/t/app/tags/list?last=%2e%2e%2f%00%ff&n=1");
        assert!(matches!(odd.status, 200 | 400), "{odd:?}");
    });
}
