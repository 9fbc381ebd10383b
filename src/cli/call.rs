//! `build --call`: what a Dockerfile can build, what that takes, and what is wrong with it.
//!
//! As `docker buildx build --call` tells it, as text or JSON. Not here: finding it
//! (`plan::call`, `plan::check`).

use serde::Serialize;

use super::build::{BuildArgs, request};
use super::check;
use super::error::{CommandError, code};
use super::findings::Format;
use super::json::{Lines, Location, base64, pretty};
use super::{table, ui};
use crate::build::{Findings, Source};
use crate::dockerfile::rules;
use crate::plan::Bases;
use crate::plan::call::{self, Arg, Mounted, Takes, Target};
use crate::report::excerpt::printable;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Check,
    Outline,
    Targets,
    /// What can be asked for.
    Describe,
}

/// What can be asked for: the name, and what it tells.
const CALLS: [(&str, &str); 4] = [
    ("check", "What is wrong with the Dockerfile"),
    ("outline", "What the target takes: build arguments, secrets, agents and caches"),
    ("targets", "What the Dockerfile can build"),
    ("subrequests.describe", "This list"),
];

/// Reads the name of a call, with `,format=json` or `,format=text` behind it.
pub fn parse_call(text: &str) -> Result<(Call, Format), CommandError> {
    let bad = |why: String| {
        CommandError::usage(format!("bad --call `{text}`: {why}")).hint(
            "it is written check, outline, targets or subrequests.describe, and `,format=json` may follow",
        )
    };
    let mut parts = text.split(',');
    let call = match parts.next().unwrap_or_default() {
        "check" | "lint" => Call::Check,
        "outline" => Call::Outline,
        "targets" => Call::Targets,
        "subrequests.describe" => Call::Describe,
        other => return Err(bad(format!("`{other}` is not known"))),
    };
    let mut format = Format::Text;
    for part in parts {
        format = match part.split_once('=') {
            Some(("format", "text")) => Format::Text,
            Some(("format", "json")) => Format::Json,
            Some(("format", "sarif")) if call == Call::Check => Format::Sarif,
            _ => return Err(bad(format!("`{part}` is not known"))),
        };
    }
    Ok((call, format))
}

/// Runs `build --call` and `build --check`; gives the exit code.
pub fn build(args: &BuildArgs) -> Result<u8, CommandError> {
    let (call, format) = match &args.call {
        Some(text) => parse_call(text)?,
        None => (Call::Check, Format::Text),
    };
    if call == Call::Describe {
        ui::out(&describe(format));
        return Ok(0);
    }
    let source = Source::read(request(&args.context, &args.source)?).map_err(check::unreadable)?;
    Ok(run(&source, &Bases::new(), call, format))
}

/// Does what is asked for, and prints it; gives the exit code.
///
/// `bases` are the images that are known; none has to be.
pub fn run(source: &Source, bases: &Bases, call: Call, format: Format) -> u8 {
    if call == Call::Check {
        let mut checked = source.check(bases);
        // What docker's users call clean must stay so: advice is `rbuild check`'s.
        checked.findings.retain(|finding| rules::rule(finding.code).is_none_or(|rule| rule.in_build));
        return check::show(source, &checked, format);
    }
    let takes = match call {
        _ if source.parsed.has_errors() => Err(source.parsed.diagnostics.clone()),
        Call::Outline => call::takes(&source.parsed.file, &source.request, bases).map(Some),
        _ => Ok(None),
    };
    let text = match takes {
        Ok(Some(takes)) => outline(source, &takes, format),
        Ok(None) => targets(source, &call::targets(&source.parsed.file), format),
        Err(diagnostics) => {
            let findings = Findings {
                file: source.file.clone(),
                source: source.parsed.source.clone(),
                diagnostics,
                failure: None,
            };
            ui::note(&findings.render(ui::err_in_colour()));
            return code::USAGE;
        }
    };
    ui::out(&text);
    0
}

/// One call, under the field names of BuildKit's list of subrequests.
#[derive(Serialize)]
struct Described {
    #[serde(rename = "Name")]
    name: &'static str,
    #[serde(rename = "Description")]
    description: &'static str,
}

fn describe(format: Format) -> String {
    if format != Format::Text {
        return pretty(&CALLS.map(|(name, description)| Described { name, description }));
    }
    let rows = CALLS.map(|(name, description)| vec![name.to_owned(), description.to_owned()]);
    section(&["NAME", "DESCRIPTION"], rows.to_vec()).unwrap_or_default()
}

#[derive(Serialize)]
struct Outline<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<OutlineArg<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<OutlineMount<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<OutlineMount<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cache: Vec<OutlineCache<'a>>,
    sources: Vec<String>,
}

#[derive(Serialize)]
struct OutlineArg<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    location: Location,
}

#[derive(Serialize)]
struct OutlineMount<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    location: Location,
}

#[derive(Serialize)]
struct OutlineCache<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    location: Location,
}

#[derive(Serialize)]
struct Targets<'a> {
    targets: Vec<OneTarget<'a>>,
    sources: Vec<String>,
}

#[derive(Serialize)]
struct OneTarget<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    base: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<&'a str>,
    location: Location,
}

fn outline(source: &Source, takes: &Takes, format: Format) -> String {
    if format == Format::Text {
        return outline_text(takes);
    }
    let lines = Lines::new(&source.parsed.source);
    let arg = |arg: &'_ Arg| Location::of(&lines, arg.span);
    pretty(&Outline {
        name: takes.name.as_deref(),
        description: takes.description.as_deref(),
        args: takes
            .args
            .iter()
            .map(|a| OutlineArg {
                name: &a.name,
                description: a.description.as_deref(),
                value: a.value.as_deref(),
                location: arg(a),
            })
            .collect(),
        secrets: mounts(&takes.secrets, &lines),
        ssh: mounts(&takes.ssh, &lines),
        cache: takes
            .caches
            .iter()
            .map(|cache| OutlineCache { id: &cache.id, location: Location::of(&lines, cache.span) })
            .collect(),
        sources: vec![base64(source.parsed.source.as_bytes())],
    })
}

fn mounts<'a>(list: &'a [Mounted], lines: &Lines<'_>) -> Vec<OutlineMount<'a>> {
    list.iter()
        .map(|m| OutlineMount { name: &m.id, required: m.required, location: Location::of(lines, m.span) })
        .collect()
}

fn outline_text(takes: &Takes) -> String {
    let mut parts = Vec::new();
    if takes.name.is_some() || takes.description.is_some() {
        let mut head = format!("TARGET:      {}\n", takes.name.as_deref().unwrap_or("(default)"));
        if let Some(description) = &takes.description {
            head.push_str(&format!("DESCRIPTION: {}\n", printable(description)));
        }
        parts.push(head);
    }
    let text = |text: &Option<String>| printable(text.as_deref().unwrap_or_default());
    let args = takes.args.iter().map(|a| vec![printable(&a.name), text(&a.value), text(&a.description)]);
    parts.extend(section(&["BUILD ARG", "VALUE", "DESCRIPTION"], args.collect()));
    let row = |m: &Mounted| vec![printable(&m.id), if m.required { "true" } else { "" }.to_owned()];
    parts.extend(section(&["SECRET", "REQUIRED"], takes.secrets.iter().map(row).collect()));
    parts.extend(section(&["SSH", "REQUIRED"], takes.ssh.iter().map(row).collect()));
    let caches = takes.caches.iter().map(|cache| vec![printable(&cache.id)]);
    parts.extend(section(&["CACHE"], caches.collect()));
    parts.join("\n")
}

/// Lays out a table, if it has rows.
fn section(header: &[&str], rows: Vec<Vec<String>>) -> Option<String> {
    if rows.is_empty() {
        return None;
    }
    let mut all = vec![header.iter().map(|cell| (*cell).to_owned()).collect()];
    all.extend(rows);
    Some(trimmed(&table::layout(&all)))
}

/// Removes blanks at line ends.
fn trimmed(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn targets(source: &Source, targets: &[Target], format: Format) -> String {
    if format == Format::Text {
        let row = |t: &Target| {
            let name = t.name.clone().unwrap_or_default();
            let shown = match (t.default, name.is_empty()) {
                (true, true) => "(default)".to_owned(),
                (true, false) => format!("{name} (default)"),
                (false, _) => name,
            };
            vec![printable(&shown), printable(t.description.as_deref().unwrap_or_default())]
        };
        return section(&["TARGET", "DESCRIPTION"], targets.iter().map(row).collect()).unwrap_or_default();
    }
    let lines = Lines::new(&source.parsed.source);
    pretty(&Targets {
        targets: targets
            .iter()
            .map(|t| OneTarget {
                name: t.name.as_deref(),
                default: t.default,
                description: t.description.as_deref(),
                base: &t.base,
                platform: t.platform.as_deref(),
                location: Location::of(&lines, t.span),
            })
            .collect(),
        sources: vec![base64(source.parsed.source.as_bytes())],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Span;

    #[test]
    fn calls_are_read() {
        let check = |text: &str, expect: Option<(Call, Format)>| {
            assert_eq!(parse_call(text).ok(), expect, "{text}");
        };
        check("check", Some((Call::Check, Format::Text)));
        check("outline,format=json", Some((Call::Outline, Format::Json)));
        check("targets,format=text", Some((Call::Targets, Format::Text)));
        check("check,format=sarif", Some((Call::Check, Format::Sarif)));
        check("outline,format=sarif", None);
        check("check,format=yaml", None);
        check("subrequests.describe,format=json", Some((Call::Describe, Format::Json)));
        check("what", None);
        check("", None);
    }

    #[test]
    fn every_call_described_is_known() {
        for (name, _) in CALLS {
            assert!(parse_call(name).is_ok(), "{name}");
            assert!(describe(Format::Text).contains(name) && describe(Format::Json).contains(name), "{name}");
        }
    }

    #[test]
    fn outlines_have_tables() {
        let span = Span::default();
        let takes = Takes {
            name: Some("a".to_owned()),
            description: Some("makes it".to_owned()),
            args: vec![Arg { name: "V".to_owned(), description: None, value: Some("1".to_owned()), span }],
            secrets: vec![Mounted { id: "key".to_owned(), required: true, span }],
            ..Takes::default()
        };
        insta::assert_snapshot!(outline_text(&takes), @r"
        TARGET:      a
        DESCRIPTION: makes it

        BUILD ARG   VALUE   DESCRIPTION
        V           1

        SECRET   REQUIRED
        key      true
        ");
    }
}
