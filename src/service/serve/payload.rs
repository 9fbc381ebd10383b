//! What of a request's body counts: which branch or tag moved, and to which commit. Nothing else is read, least
//! of all an address. Pure.

use std::borrow::Cow;

use serde::Deserialize;

use super::names::RefName;
use crate::remote::is_commit;

/// A push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Push {
    Moved {
        reference: RefName,
        /// The commit, or the object of an annotated tag.
        commit: Option<String>,
    },
    Deleted(RefName),
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "ref")]
    reference: Option<String>,
    after: Option<String>,
    #[serde(default)]
    deleted: bool,
}

/// Reads the body of a push: the same members in what GitHub, GitLab, Gitea and Forgejo send.
pub fn push(body: &[u8], is_form: bool) -> Result<Push, String> {
    let body = json(body, is_form)?;
    let body: Body =
        serde_json::from_slice(&body).map_err(|error| format!("the body is no push: {error}"))?;
    let reference = body.reference.ok_or("the body names no `ref`")?;
    let reference = RefName::new(&reference).map_err(|why| format!("bad `ref`: {why}"))?;
    let Some(after) = body.after else { return Ok(Push::Moved { reference, commit: None }) };
    if !is_commit(&after) {
        return Err("bad `after`: a commit is 40 or 64 hexadecimal digits".to_owned());
    }
    if body.deleted || after.bytes().all(|byte| byte == b'0') {
        return Ok(Push::Deleted(reference));
    }
    Ok(Push::Moved { reference, commit: Some(after) })
}

/// Takes the JSON out of a form, where it is sent as one.
fn json(body: &[u8], is_form: bool) -> Result<Cow<'_, [u8]>, String> {
    if !is_form {
        return Ok(Cow::Borrowed(body));
    }
    let payload = url::form_urlencoded::parse(body).find(|(name, _)| name == "payload");
    Ok(payload.ok_or("the form has no `payload`")?.1.into_owned().into_bytes().into())
}

#[derive(Deserialize)]
struct Asked {
    #[serde(rename = "ref")]
    reference: Option<String>,
    source_type: Option<String>,
    source_name: Option<String>,
}

/// Reads the body of a trigger's request; `None` is all that the rules name: `{"ref": "refs/heads/main"}`, or
/// Docker Hub's `{"source_type": "Branch", "source_name": "main"}`.
pub fn asked(body: &[u8]) -> Result<Option<RefName>, String> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let asked: Asked =
        serde_json::from_slice(body).map_err(|error| format!("the body is no request: {error}"))?;
    let name = match (asked.reference, asked.source_type.as_deref(), asked.source_name) {
        (Some(whole), _, _) => RefName::new(&whole),
        (None, Some("Tag" | "tag"), Some(name)) => RefName::tag(&name),
        (None, Some("Branch" | "branch") | None, Some(name)) => RefName::branch(&name),
        (None, Some(_), Some(_)) => return Err("bad `source_type`: Branch or Tag".to_owned()),
        (None, _, None) => return Ok(None),
    };
    name.map(Some).map_err(|why| format!("bad name: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn pushes() {
        let text =
            format!(r#"{{"ref":"refs/heads/main","after":"{COMMIT}","repository":{{"clone_url":"x"}}}}"#);
        let main = RefName::branch("main").unwrap();
        let moved = Push::Moved { reference: main.clone(), commit: Some(COMMIT.to_owned()) };
        assert_eq!(push(text.as_bytes(), false), Ok(moved.clone()));
        let form: String =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("payload", &text).finish();
        assert_eq!(push(form.as_bytes(), true), Ok(moved));
        let text = format!(r#"{{"ref":"refs/heads/main","after":"{}"}}"#, "0".repeat(40));
        assert_eq!(push(text.as_bytes(), false), Ok(Push::Deleted(main)));
    }

    #[test]
    fn what_is_no_push() {
        let check = |text: &str| assert!(push(text.as_bytes(), false).is_err(), "{text}");
        check("");
        check("[]");
        check("{}");
        check(r#"{"ref":"main"}"#);
        check(r#"{"ref":"refs/heads/--upload-pack=x"}"#);
        check(r#"{"ref":"refs/heads/../x"}"#);
        check(r#"{"ref":"refs/heads/x","after":"--help"}"#);
        check(r#"{"ref":"refs/heads/x","after":"HEAD"}"#);
        check(r#"{"ref":["refs/heads/x"]}"#);
        check(&format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)));
        assert!(push(b"x=y", true).is_err());
    }

    #[test]
    fn what_is_asked_for() {
        let check = |text: &str, expect: Option<&str>| {
            let found = asked(text.as_bytes()).unwrap();
            assert_eq!(found.as_ref().map(RefName::as_str), expect, "{text}");
        };
        check("", None);
        check(" \n", None);
        check("{\"build\": true}", None);
        check(r#"{"ref":"refs/tags/v1"}"#, Some("refs/tags/v1"));
        check(r#"{"source_type":"Branch","source_name":"a/b"}"#, Some("refs/heads/a/b"));
        check(r#"{"source_type":"Tag","source_name":"v1"}"#, Some("refs/tags/v1"));
        for bad in
            ["x", r#"{"ref":"x"}"#, r#"{"source_name":"-x"}"#, r#"{"source_type":"X","source_name":"x"}"#]
        {
            assert!(asked(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
