//! Findings as JSON: what `docker buildx build --call=check,format=json` prints.

use serde::Serialize;

use super::super::json::{Lines, Location, base64, pretty};
use super::{description, detail, url};
use crate::plan::Checked;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Results<'a> {
    warnings: Vec<Warning<'a>>,
    sources: Vec<Source<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_error: Option<BuildError>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Warning<'a> {
    rule_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Location>,
}

#[derive(Serialize)]
struct Source<'a> {
    filename: &'a str,
    language: &'static str,
    /// Base64.
    data: String,
}

#[derive(Serialize)]
struct BuildError {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Location>,
}

/// Writes all findings; of several errors the first, as BuildKit stops there.
pub(super) fn render(file: &str, source: &str, checked: &Checked) -> String {
    let lines = Lines::new(source);
    let warnings = checked.findings.iter().map(|finding| Warning {
        rule_name: finding.code,
        description: description(finding),
        url: url(finding),
        detail: detail(finding),
        location: finding.span.map(|span| Location::of(&lines, span)),
    });
    let error = checked.errors.first().or(checked.violation.as_ref());
    pretty(&Results {
        warnings: warnings.collect(),
        sources: vec![Source { filename: file, language: "Dockerfile", data: base64(source.as_bytes()) }],
        build_error: error.map(|error| BuildError {
            message: detail(error),
            location: error.span.map(|span| Location::of(&lines, span)),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::checked;
    use super::*;

    fn value(source: &str) -> serde_json::Value {
        serde_json::from_str(&render("Dockerfile", source, &checked(source))).unwrap()
    }

    #[test]
    fn has_buildkits_fields() {
        let found = value("FROM scratch AS Bee\n");
        let expect = serde_json::json!({
            "warnings": [{
                "ruleName": "StageNameCasing",
                "description": "Stage names should be lowercase",
                "url": "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/",
                "detail": "stage name `Bee` should be lowercase",
                "location": {
                    "sourceIndex": 0,
                    "ranges": [{"start": {"line": 1, "character": 16}, "end": {"line": 1, "character": 19}}],
                },
            }],
            "sources": [{"filename": "Dockerfile", "language": "Dockerfile", "data": "RlJPTSBzY3JhdGNoIEFTIEJlZQo="}],
        });
        assert_eq!(found, expect);
    }

    #[test]
    fn errors_are_there() {
        let found = value("FROM scratch\nRUNX\n");
        assert_eq!(found["buildError"]["message"], "unknown instruction: RUNX (did you mean RUN?)");
        assert_eq!(found["buildError"]["location"]["ranges"][0]["start"]["line"], 2);
        let found = value("# check=error=true\nFROM scratch AS A\n");
        let message = found["buildError"]["message"].as_str().unwrap();
        assert!(message.starts_with("lint violation found for rules: StageNameCasing"), "{message}");
    }
}
