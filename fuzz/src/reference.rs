//! Image references: what is shown parses to the same, and parts put together come out again.

use rbuild::image::{Digest, Reference};

use super::choices::Choices;

/// Reads the bytes both as a reference and as decisions that make one.
pub fn check(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        any_text(text);
    }
    made(&mut Choices::new(bytes));
}

fn any_text(text: &str) {
    let Ok(reference) = text.parse::<Reference>() else { return };
    let shown = reference.to_string();
    assert_eq!(shown.parse::<Reference>().as_ref(), Ok(&reference), "{text:?} is shown as {shown:?}");
    let mut full = reference.full_name();
    assert!(full.len() <= 255, "{text:?}");
    full += &reference.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
    full += &reference.digest().map(|digest| format!("@{digest}")).unwrap_or_default();
    assert_eq!(full.parse::<Reference>().as_ref(), Ok(&reference), "{text:?} is {full:?} in full");
    let plain = |c: char| c.is_ascii_graphic() && !c.is_ascii_uppercase() && c != ':';
    assert!(reference.path().chars().all(plain), "{text:?}");
    for part in reference.path().split('/').chain([reference.domain()]) {
        assert!(!matches!(part, "" | "." | ".."), "{text:?}");
        assert!(!part.starts_with('-'), "{text:?} may be taken for an option");
    }
    let tagged = reference.clone().with_default_tag();
    assert!(tagged.tag().is_some() || tagged.digest().is_some());
}

/// A reference whose parts are known, all well-formed.
fn made(choices: &mut Choices<'_>) {
    const DOMAINS: [&str; 7] =
        ["", "docker.io", "localhost", "localhost:5000", "Host", "a-b.example:443", "[fe80::1]:80"];
    const COMPONENTS: [&str; 9] =
        ["a", "library", "x1", "a.b", "a_b", "a__b", "a---b", "localhost", "docker.io"];
    const TAGS: [&str; 4] = ["latest", "1.0-rc_1", "_", "V"];
    let domain = choices.of(&DOMAINS);
    let parts: Vec<&str> = (0..1 + choices.below(3)).map(|_| choices.of(&COMPONENTS)).collect();
    let tag = choices.one_in(2).then(|| choices.of(&TAGS));
    let digest = choices.one_in(3).then(|| format!("sha256:{}", "0123456789abcdef".repeat(4)));
    let path = parts.join("/");
    let mut text = if domain.is_empty() { path.clone() } else { format!("{domain}/{path}") };
    text += &tag.map(|tag| format!(":{tag}")).unwrap_or_default();
    text += &digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
    any_text(&text);
    let reference: Reference = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(reference.tag(), tag, "{text}");
    assert_eq!(reference.digest().map(Digest::to_string), digest, "{text}");
    let host_like = parts.len() > 1 && (parts[0].contains('.') || parts[0] == "localhost");
    let expect = match domain {
        "" if host_like => (parts[0], parts[1..].join("/")),
        "" | "docker.io" => ("docker.io", path),
        other => (other, path),
    };
    let expect = match expect {
        ("docker.io", path) if !path.contains('/') => ("docker.io", format!("library/{path}")),
        other => other,
    };
    assert_eq!((reference.domain(), reference.path()), (expect.0, expect.1.as_str()), "{text}");
}
