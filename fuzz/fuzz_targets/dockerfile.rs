//! Fuzzes what reads foreign text: the parser, the excerpts of what it says, the lint
//! rules, expansion, file name patterns, ignore files.

#![no_main]

use libfuzzer_sys::fuzz_target;

use rbuild::dockerfile::{expand, lint, parse, parse_onbuild};
use rbuild::pattern::{Ignore, matches};
use rbuild::report::excerpt;

fuzz_target!(|data: &[u8]| {
    let parsed = parse(data);
    let findings = parsed.diagnostics.iter().cloned().chain(lint(&parsed.file, &parsed.source));
    for finding in findings {
        if let Some(span) = finding.span {
            assert!(parsed.source.get(span.start..span.end).is_some(), "{span:?}");
        }
        let text = excerpt::render(&finding, "Dockerfile", &parsed.source, false);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    }
    for instruction in &parsed.file.instructions {
        assert!(parsed.source.get(instruction.span.start..instruction.span.end).is_some());
    }
    if let Ok(ignore) = Ignore::parse(data) {
        let _ = ignore.excluded("a/b/c");
        let _ = ignore.prune("a/b");
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = parse_onbuild(text);
    let value = |name: &str| (name != "u").then(|| "a/b.c".to_owned());
    let _ = expand::expand_words(text, '\\', &value);
    let _ = expand::expand(text, '`', &value);
    let _ = expand::expand_text(text, &value);
    if let Some((pattern, name)) = text.split_once('\n') {
        let _ = matches(pattern, name);
    }
});
