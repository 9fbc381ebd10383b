//! Findings as SARIF 2.1.0, the format that code hosts read.
//!
//! <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>. All rules are
//! listed, so that a rule's index is the same in every run.

use serde_json::{Value, json};

use super::super::json::{Lines, pretty};
use super::detail;
use crate::dockerfile::rules::RULES;
use crate::plan::Checked;
use crate::report::Diagnostic;

/// Writes findings as results of level warning, errors as results of level error.
pub(super) fn render(file: &str, source: &str, checked: &Checked) -> String {
    let lines = Lines::new(source);
    let uri = uri(file);
    let rules: Vec<Value> = RULES
        .iter()
        .map(|rule| {
            let mut value = json!({
                "id": rule.name,
                "name": rule.name,
                "shortDescription": {"text": rule.description},
                "defaultConfiguration": {"level": "warning", "enabled": !rule.experimental},
            });
            if let Some(url) = rule.url() {
                value["helpUri"] = Value::String(url);
            }
            value
        })
        .collect();
    let errors = checked.errors.iter().chain(&checked.violation);
    let results: Vec<Value> =
        errors.chain(&checked.findings).map(|finding| result(finding, &lines, &uri)).collect();
    pretty(&json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "rbuild",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "artifacts": [{"location": {"uri": uri}}],
            "invocations": [{"executionSuccessful": checked.errors.is_empty()}],
            "results": results,
        }],
    }))
}

fn result(finding: &Diagnostic, lines: &Lines<'_>, uri: &str) -> Value {
    let mut location = json!({"artifactLocation": {"uri": uri, "index": 0}});
    if let Some(span) = finding.span {
        let (start, end) = lines.places(span);
        location["region"] = json!({
            "startLine": start.line,
            "startColumn": start.column + 1,
            "endLine": end.line,
            "endColumn": end.column + 1,
        });
    }
    let mut value = json!({
        "ruleId": finding.code,
        "level": if finding.is_error() { "error" } else { "warning" },
        "message": {"text": detail(finding)},
        "locations": [{"physicalLocation": location}],
    });
    if let Some(index) = RULES.iter().position(|rule| rule.name == finding.code) {
        value["ruleIndex"] = json!(index);
    }
    value
}

/// Writes a path as a relative or absolute reference of a URI.
fn uri(path: &str) -> String {
    let mut out = String::new();
    if path.starts_with('/') {
        out.push_str("file://");
    }
    for byte in path.trim_start_matches("./").bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::testing::checked;
    use super::*;

    fn value(source: &str) -> Value {
        serde_json::from_str(&render("a b/Dockerfile", source, &checked(source))).unwrap()
    }

    #[test]
    fn is_what_readers_expect() {
        let found = value("FROM scratch\nCOPY é $x\n");
        assert_eq!(
            (&found["version"], &found["runs"][0]["tool"]["driver"]["name"]),
            (&json!("2.1.0"), &json!("rbuild"))
        );
        let result = &found["runs"][0]["results"][0];
        assert_eq!(result["ruleId"], "UndefinedVar");
        assert_eq!(result["level"], "warning");
        assert_eq!(result["message"]["text"], "usage of undefined variable `$x`");
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "a%20b/Dockerfile");
        let region = json!({"startLine": 2, "startColumn": 8, "endLine": 2, "endColumn": 10});
        assert_eq!(place["region"], region);
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        let rule = &found["runs"][0]["tool"]["driver"]["rules"][index];
        assert_eq!(rule["id"], "UndefinedVar");
        assert!(rule["helpUri"].as_str().unwrap().ends_with("/undefined-var/"));
        assert_eq!(found["runs"][0]["invocations"][0]["executionSuccessful"], true);
    }

    #[test]
    fn errors_are_results() {
        let found = value("FROM scratch\nRUNX\n");
        let result = &found["runs"][0]["results"][0];
        assert_eq!((&result["level"], &result["ruleId"]), (&json!("error"), &json!("unknown-instruction")));
        assert_eq!(result["ruleIndex"], Value::Null);
        assert_eq!(found["runs"][0]["invocations"][0]["executionSuccessful"], false);
        assert_eq!(value("FROM scratch\n")["runs"][0]["results"], json!([]));
    }

    #[test]
    fn paths_become_uris() {
        assert_eq!(uri("/a/ü"), "file:///a/%C3%BC");
        assert_eq!(uri("./ci/Dockerfile"), "ci/Dockerfile");
    }
}
