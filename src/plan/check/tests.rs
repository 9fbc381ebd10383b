//! Each check, told and not told, and the ways to silence them.

use std::sync::Arc;

use crate::dockerfile::parse;
use crate::dockerfile::rules::RULES;
use crate::image::Digest;
use crate::image::ImageConfig;
use crate::image::ImageId;
use crate::image::Platform;
use crate::pattern::Ignore;
use crate::plan::Base;
use crate::plan::Bases;
use crate::plan::Request;

use super::*;

fn platform() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn base(platform: &str, env: &[&str]) -> Base {
    let mut config = ImageConfig::empty(&platform.parse().unwrap());
    config.config.env = env.iter().map(|entry| (*entry).to_owned()).collect();
    Base { image: ImageId(Digest::of(config.to_bytes())), config: Arc::new(config) }
}

/// `base` sets FROM_BASE; `arm` is for another platform.
fn bases() -> Bases {
    let mut bases = Bases::new();
    bases.insert("base:1", &platform(), base("linux/amd64", &["PATH=/bin", "FROM_BASE=1"]));
    bases.insert("arm:1", &platform(), base("linux/arm64", &[]));
    bases
}

fn run(text: &str, change: impl FnOnce(&mut Request)) -> Checked {
    let mut request = Request::new(platform());
    change(&mut request);
    check(&parse(text.as_bytes()), &request, &bases(), Some(&ignore()))
}

fn ignore() -> Ignore {
    Ignore::parse(b"*.secret\nnode_modules\n").unwrap()
}

fn lines(findings: &[Diagnostic], text: &str) -> Vec<String> {
    let line = |d: &Diagnostic| d.span.map_or(0, |span| span.line(text));
    findings.iter().map(|d| format!("{} {}", line(d), d.code)).collect()
}

#[track_caller]
fn finds(text: &str, expect: &[&str]) {
    let checked = run(text, |_| {});
    assert_eq!(checked.errors, [], "{text}");
    assert_eq!(lines(&checked.findings, text), expect, "{text}");
}

#[test]
fn docker_rules() {
    finds("FROM base:1 AS Bee\n", &["1 StageNameCasing"]);
    finds("FROM base:1 as b\n", &["1 FromAsCasing"]);
    finds("FROM base:1\nRUN a \\\n\n  b\n", &["3 NoEmptyContinuation"]);
    finds("FROM base:1\nRUN a\nrun b\n", &["3 ConsistentInstructionCasing"]);
    finds("FROM base:1 AS a\nFROM base:1 AS a\n", &["2 DuplicateStageName"]);
    finds("FROM base:1 AS context\n", &["1 ReservedStageName"]);
    finds("FROM base:1\nCMD a\nENTRYPOINT b\n", &["2 JSONArgsRecommended", "3 JSONArgsRecommended"]);
    finds("FROM base:1\nMAINTAINER me\n", &["2 MaintainerDeprecated"]);
    finds("FROM base:1$x\n", &["1 UndefinedArgInFrom"]);
    finds("FROM base:1\nWORKDIR a\nWORKDIR b\n", &["2 WorkdirRelativePath"]);
    finds("FROM base:1\nWORKDIR /a\nWORKDIR b\n", &[]);
    finds("FROM base:1\nCOPY a $x\n", &["2 UndefinedVar"]);
    finds("FROM base:1\nCOPY a /$FROM_BASE$PATH\n", &[]);
    finds("FROM base:1\nCMD [\"a\"]\nCMD [\"b\"]\n", &["2 MultipleInstructionsDisallowed"]);
    finds("FROM base:1\nHEALTHCHECK NONE\nHEALTHCHECK NONE\n", &["2 MultipleInstructionsDisallowed"]);
    finds("FROM base:1\nENV a b\n", &["2 LegacyKeyValueFormat"]);
    finds("FROM arm:1\n", &["1 InvalidBaseImagePlatform"]);
    finds("FROM --platform=$TARGETPLATFORM base:1\n", &["1 RedundantTargetPlatform"]);
    finds("FROM base:1\nARG API_KEY\nENV TOKEN=1\n", &["2 SecretsUsedInArgOrEnv", "3 SecretsUsedInArgOrEnv"]);
    finds("ARG v\nFROM base:1$v\n", &[]);
    finds("FROM --platform=linux/amd64 base:1\n", &["1 FromPlatformFlagConstDisallowed"]);
    finds("FROM --platform=linux/amd64 base:1 AS for-amd64\n", &[]);
    finds("FROM --platform=$BUILDPLATFORM base:1\n", &[]);
    finds(
        "FROM base:1\nCOPY a.secret /\nADD node_modules/x /\n",
        &["2 CopyIgnoredFile", "3 CopyIgnoredFile"],
    );
    finds("FROM base:1\nCOPY . /\nCOPY a b.txt /d/\n", &[]);
    finds("FROM base:1\nEXPOSE 80/TCP\n", &["2 ExposeProtoCasing"]);
    finds("FROM base:1\nEXPOSE 80:80\n", &["2 ExposeInvalidFormat"]);
}

#[test]
fn default_of_an_argument_of_from() {
    let text = "ARG v\nFROM $v\n";
    let checked = run(text, |request| {
        request.build_args.insert("v".to_owned(), "base:1".to_owned());
    });
    assert_eq!(lines(&checked.findings, text), ["2 InvalidDefaultArgInFrom"]);
}

#[test]
fn descriptions_are_checked_on_request() {
    let text = "# builds it\nFROM base:1 AS b\n";
    finds(text, &[]);
    let asked = format!("# check=experimental=InvalidDefinitionDescription\n{text}");
    finds(&asked, &["3 InvalidDefinitionDescription"]);
    let all = format!("# check=skip=all;experimental=all\n{text}COPY a $x\n");
    finds(&all, &["3 InvalidDefinitionDescription"]);
}

#[test]
fn rules_of_ours() {
    finds("FROM base:1\nRUN <<E\na\nb\nE\n", &["2 RunHeredocWithoutErrexit"]);
    finds("FROM base:1\nRUN apt-get update\n", &["2 AptGetUpdateAlone"]);
    finds("FROM base:1\nRUN apt-get install x\n", &["2 AptGetInstallWithoutYes"]);
    finds("FROM base\n", &["1 UntaggedBaseImage"]);
    finds("FROM base:latest\n", &["1 UntaggedBaseImage"]);
    finds(&format!("FROM base@sha256:{}\n", "0".repeat(64)), &[]);
    finds("FROM base:1 AS b\nFROM b\n", &[]);
    finds("FROM scratch\n", &[]);
    let told = ["2 CopyChmodParents"];
    finds("FROM base:1\nCOPY --chmod=640 a /own/a\n", &told);
    finds("FROM base:1\nCOPY --chmod=0600 a b /own/\n", &told);
    finds("FROM base:1\nCOPY --chmod=750 a /own/a\n", &[]);
    finds("FROM base:1\nCOPY --chmod=640 a /etc/a\n", &[]);
    finds("FROM base:1\nCOPY --chmod=640 a /a\n", &[]);
    // What the hint names is a way out.
    finds("FROM base:1\nCOPY --chmod=u=rwX,go=rX a /own/a\n", &[]);
    finds("FROM base:1\nWORKDIR /own\nCOPY --chmod=640 a b\n", &[]);
    finds("FROM base:1\nRUN mkdir /own\nCOPY --chmod=640 a /own/\n", &[]);
    finds("FROM base:1\nRUN\n", &["2 EmptyCommand"]);
}

#[test]
fn files_say_what_they_want_to_hear() {
    let body = "FROM base:1 AS Bee\nCOPY a $x\n";
    let with = |head: &str| format!("{head}\n{body}");
    finds(&with("# check=skip=all"), &[]);
    finds(&with("# check=skip=UndefinedVar"), &["2 StageNameCasing"]);
    finds(&with("# check=skip=UndefinedVar,StageNameCasing"), &[]);
    finds(&with("# check=skip=UndefindVar"), &["1 UnknownCheckRule", "2 StageNameCasing", "3 UndefinedVar"]);
    // A comment above an instruction is for that instruction.
    finds("FROM base:1\n# check=skip=UndefinedVar\nCOPY a $x\nCOPY a $y\n", &["4 UndefinedVar"]);
    finds("FROM base:1\n# check=skip=all\n\nCOPY a $x\n", &["4 UndefinedVar"]);
    finds("FROM base:1\n# check=skp=all\nCOPY a $x\n", &["3 InvalidCheckComment", "3 UndefinedVar"]);
    finds("FROM base:1\n# check=skip=Nope\nCOPY a x\n", &["3 UnknownCheckRule"]);
    // The command line counts more than the directive.
    let text = with("# check=skip=all");
    let checked = run(&text, |request| {
        request.build_args.insert(CHECK_ARG.to_owned(), "skip=StageNameCasing".to_owned());
    });
    assert_eq!(lines(&checked.findings, &text), ["3 UndefinedVar"]);
    let checked = run(&text, |request| {
        request.build_args.insert(CHECK_ARG.to_owned(), "what".to_owned());
    });
    assert!(checked.errors[0].message.contains(CHECK_ARG), "{:?}", checked.errors);
}

#[test]
fn a_finding_can_be_an_error() {
    let violation = |text: &str| run(text, |_| {}).violation.map(|d| d.message);
    assert_eq!(violation("FROM base:1 AS Bee\n"), None);
    assert_eq!(violation("# check=error=true\nFROM base:1\n"), None);
    // What a build does not tell does not end one.
    finds("# check=error=true\nFROM base\n", &["2 UntaggedBaseImage"]);
    assert_eq!(violation("# check=error=true\nFROM base\n"), None);
    assert_eq!(
        violation("# check=error=true\nFROM base:1 AS Bee\nCOPY a $x\n").as_deref(),
        Some("lint violation found for rules: StageNameCasing, UndefinedVar")
    );
    assert_eq!(violation("# check=error=true;skip=StageNameCasing\nFROM base:1 AS Bee\n"), None);
    assert_eq!(
        violation("FROM base:1 AS Bee\n# check=error=true\nCOPY a $x\n").as_deref(),
        Some("lint violation found for rules: UndefinedVar")
    );
}

#[test]
fn unknown_bases_are_assumed() {
    let text = "FROM other:1 AS a\nARG version\nCOPY x $HOME_OF_IT\nCOPY y /$versoin\nFROM a\nENV z=$deep\n";
    let checked = run(text, |_| {});
    assert_eq!(lines(&checked.findings, text), ["4 UndefinedVar"]);
    let unknown: Vec<&str> = checked.unknown.iter().map(|need| need.reference.as_str()).collect();
    assert_eq!(unknown, ["other:1"]);
    assert_eq!(checked.errors, []);
    // On nothing, nothing can be set.
    finds("FROM scratch\nENV z=$deep\n", &["2 UndefinedVar"]);
}

#[test]
fn every_stage_is_checked_unless_there_is_a_target() {
    let text = "FROM base:1 AS a\nCOPY x $u\nFROM base:1 AS b\nCOPY x $v\nFROM a AS c\nCOPY x $w\n";
    finds(text, &["2 UndefinedVar", "4 UndefinedVar", "6 UndefinedVar"]);
    let checked = run(text, |request| request.targets = vec!["c".to_owned()]);
    assert_eq!(lines(&checked.findings, text), ["2 UndefinedVar", "6 UndefinedVar"]);
}

#[test]
fn what_cannot_be_built_is_an_error() {
    let errors = |text: &str| lines(&run(text, |_| {}).errors, text);
    assert_eq!(errors("FROM base:1\nRUNX a\n"), ["2 unknown-instruction"]);
    assert_eq!(errors("FROM base:1\nEXPOSE 99999\nENV a=${b\n"), ["2 invalid-port", "3 bad-substitution"]);
    assert_eq!(errors("FROM base:1 AS a\nEXPOSE x\nFROM base:1\n"), ["2 invalid-port"]);
    assert_eq!(errors("FROM $no\nFROM base:1\n"), ["1 blank-base"]);
    // Consent to run without a net is not the file's matter.
    assert_eq!(errors("FROM base:1\nRUN --network=host a\n"), [""; 0]);
    let checked = run("FROM base:1\n", |request| request.targets = vec!["x".to_owned()]);
    assert_eq!(lines(&checked.errors, ""), ["0 unknown-target"]);
}

#[test]
fn a_build_tells_less() {
    let text = "FROM base:1 AS Bee\nRUN apt-get update\nCOPY a.secret $x\n";
    let parsed = parse(text.as_bytes());
    let mut request = Request::new(platform());
    request.build_args.insert("unused".to_owned(), "1".to_owned());
    let lowered = crate::plan::lower(&parsed.file, &request, &bases()).unwrap();
    let told = warnings(&parsed, &request, Some(&ignore()), &lowered).unwrap();
    assert_eq!(
        lines(&told.list, text),
        ["1 StageNameCasing", "3 CopyIgnoredFile", "3 UndefinedVar", "0 UnconsumedBuildArg"]
    );
    assert_eq!(told.violation, None);
}

#[test]
fn every_finding_has_a_rule() {
    let text = "# check=experimental=all;skip=What\n# x\nARG a\nfrom base AS Context\nRUN <<E\na\nb\nE\nWORKDIR b\n\
                MAINTAINER c\nEXPOSE 1:1/TCP\nRUN \\\n\n apt-get install $z\nENV KEY $z\nCMD d\nCMD e\n";
    let checked = run(text, |_| {});
    assert!(checked.findings.len() > 12, "{:?}", checked.findings);
    for finding in checked.findings {
        assert!(RULES.iter().any(|rule| rule.name == finding.code), "{}", finding.code);
    }
}
