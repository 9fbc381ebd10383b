//! Checks of what a RUN tells its shell: ours, not BuildKit's.
//!
//! RunHeredocWithoutErrexit, AptGetInstallWithoutYes, AptGetUpdateAlone. They read the
//! shell text as a reader would (`shell`) and stay silent where they cannot tell.

use crate::report::Diagnostic;

use super::super::ast::{CommandLine, Dockerfile, Heredoc, Instruction, Kind, Run};
use super::Shells;
use super::shell::{self, Simple};

/// Programs that read a script as sh does.
const SHELLS: [&str; 7] = ["sh", "bash", "dash", "ash", "ksh", "zsh", "busybox"];

/// Checks all RUNs, those of ONBUILD too.
pub(super) fn check(file: &Dockerfile, found: &mut Vec<Diagnostic>) {
    let mut shells = Shells::default();
    for instruction in &file.instructions {
        shells.pass(instruction);
        let inner: &Instruction = match &instruction.kind {
            Kind::Onbuild(inner) => inner,
            _ => instruction,
        };
        let Kind::Run(run) = &inner.kind else { continue };
        let CommandLine::Shell(text) = &run.command else { continue };
        let shell = shells.current().map(|words| words.to_vec());
        let shell = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
        if !is_shell(&shell[0]) {
            continue;
        }
        let script = script(text, &run.heredocs);
        if let Some(script) = &script
            && !stops_on_error(&shell[1..])
        {
            errexit(inner, script, found);
        }
        let mut commands = shell::commands(text);
        if let Some(script) = &script {
            commands.extend(shell::commands(script.body));
        }
        apt(inner, run, &commands, found);
    }
}

/// A heredoc that a shell executes.
struct Script<'a> {
    heredoc: &'a Heredoc,
    body: &'a str,
}

/// Returns the heredoc that is run as a script: it stands alone, or a shell reads it.
fn script<'a>(text: &str, heredocs: &'a [Heredoc]) -> Option<Script<'a>> {
    let [heredoc] = heredocs else { return None };
    let words: Vec<&str> = text.split_whitespace().collect();
    let (before, _) = words.iter().position(|word| word.contains("<<")).map(|at| words.split_at(at))?;
    match before {
        [] => {}
        [program, options @ ..] if is_shell(program) => {
            let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
            if options.iter().any(|option| !option.starts_with('-')) || stops_on_error(&options) {
                return None;
            }
        }
        _ => return None,
    }
    if words.len() != before.len() + 1 {
        return None;
    }
    let mut body = heredoc.body.as_str();
    if let Some(rest) = body.strip_prefix("#!") {
        let (line, rest) = rest.split_once('\n').unwrap_or((rest, ""));
        let mut words = line.split_whitespace().filter(|word| !word.ends_with("/env") && *word != "-S");
        let program = words.next()?;
        let options: Vec<String> = words.map(str::to_owned).collect();
        if !is_shell(program) || stops_on_error(&options) {
            return None;
        }
        body = rest;
    }
    Some(Script { heredoc, body })
}

fn is_shell(program: &str) -> bool {
    SHELLS.contains(&program.rsplit('/').next().unwrap_or(program))
}

/// Tells whether a shell's options, or those of `set`, contain `-e`.
fn stops_on_error(options: &[String]) -> bool {
    let short = |option: &String| {
        option.strip_prefix('-').is_some_and(|letters| !letters.starts_with('-') && letters.contains('e'))
    };
    let long = |pair: &[String]| pair[0].starts_with('-') && pair[0].ends_with('o') && pair[1] == "errexit";
    options.iter().any(short) || options.windows(2).any(long)
}

/// RunHeredocWithoutErrexit.
fn errexit(instruction: &Instruction, script: &Script<'_>, found: &mut Vec<Diagnostic>) {
    let commands = shell::commands(script.body);
    if commands.iter().filter(|command| command.begins).count() < 2 {
        return;
    }
    let sets = |command: &Simple| {
        command.command().is_some_and(|(name, options)| name == "set" && stops_on_error(options))
    };
    if commands.iter().any(sets) {
        return;
    }
    let keyword = instruction.keyword.to_uppercase();
    found.push(
        Diagnostic::warning(
            "RunHeredocWithoutErrexit",
            script.heredoc.span,
            format!(
                "{keyword} with a heredoc of several commands goes on after one that fails, and takes the last \
                 one's result"
            ),
        )
        .with_hint("begin it with `set -e`"),
    );
}

/// AptGetInstallWithoutYes and AptGetUpdateAlone.
fn apt(instruction: &Instruction, run: &Run, commands: &[Simple], found: &mut Vec<Diagnostic>) {
    let mut updates = false;
    let mut uses = false;
    for command in commands {
        let Some((name @ ("apt-get" | "apt"), words)) = command.command() else { continue };
        let verb = words.iter().find(|word| !word.starts_with('-') && !word.contains("::"));
        match verb.map(String::as_str) {
            Some("update") => updates = true,
            Some(
                verb @ ("install" | "upgrade" | "dist-upgrade" | "full-upgrade" | "build-dep" | "remove"
                | "purge" | "autoremove" | "reinstall"),
            ) => {
                uses = true;
                if !command.piped && !says_yes(words) {
                    found.push(
                        Diagnostic::warning(
                            "AptGetInstallWithoutYes",
                            instruction.keyword_span,
                            format!(
                                "`{name} {verb}` asks before it does anything, and nobody can answer here"
                            ),
                        )
                        .with_hint(format!("write `{name} {verb} -y`")),
                    );
                }
            }
            _ => {}
        }
    }
    // Lists that a mount keeps are there for the next RUN.
    if updates && !uses && run.mounts.is_empty() {
        found.push(
            Diagnostic::warning(
                "AptGetUpdateAlone",
                instruction.keyword_span,
                "`apt-get update` in a RUN of its own: cached, it leaves later installs with old lists",
            )
            .with_hint("write `apt-get update && apt-get install -y ...` in one RUN"),
        );
    }
}

/// Tells whether apt's options answer its question, or make it ask none.
fn says_yes(words: &[String]) -> bool {
    words.iter().any(|word| match word.strip_prefix("--") {
        Some(long) => {
            matches!(long, "yes" | "assume-yes" | "simulate" | "dry-run" | "print-uris" | "force-yes")
        }
        // Two `q` imply `-y`.
        None => match word.strip_prefix('-') {
            Some(short) if !short.contains("::") && !short.contains('=') => {
                short.contains(['y', 's']) || short.matches('q').count() > 1
            }
            _ => word.to_ascii_lowercase().contains("apt::get::assume-yes"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::parse;
    use super::*;

    fn codes(text: &str) -> Vec<&'static str> {
        let parsed = parse(text.as_bytes());
        assert!(!parsed.has_errors(), "{text}");
        let mut found = Vec::new();
        check(&parsed.file, &mut found);
        found.into_iter().map(|problem| problem.code).collect()
    }

    #[test]
    fn heredocs() {
        let silent = |text: &str| assert_eq!(codes(&format!("FROM a\n{text}\n")), [""; 0], "{text}");
        let told = |text: &str| {
            assert_eq!(codes(&format!("FROM a\n{text}\n")), ["RunHeredocWithoutErrexit"], "{text}")
        };
        told("RUN <<E\na\nb\nE");
        told("RUN <<E\na; b\nE");
        told("RUN <<E\nset -ux\na\nE");
        told("RUN bash <<E\na\nb\nE");
        told("RUN <<E\n#!/bin/bash\na\nb\nE");
        told("ONBUILD RUN <<E\na\nb\nE");
        told("RUN <<E\n#!/usr/bin/env bash\na\nb\nE");
        silent("RUN <<E\na\nE");
        silent("RUN <<E\n# x\na &&\n  b\nE");
        silent("RUN <<E\na \\\n b\nE");
        silent("RUN <<E\nset -e\na\nb\nE");
        silent("RUN <<E\nset -eux\na\nb\nE");
        silent("RUN <<E\nset -o errexit\na\nb\nE");
        silent("RUN <<E\nset -euo pipefail\na\nE");
        silent("RUN bash -e <<E\na\nb\nE");
        silent("RUN <<E\n#!/bin/sh -e\na\nb\nE");
        silent("RUN <<E\n#!/usr/bin/python3\na\nb\nE");
        silent("RUN python3 <<E\na\nb\nE");
        silent("RUN cat <<E > x\na\nb\nE");
        silent("RUN <<E cat > x\na\nb\nE");
        silent("SHELL [\"/bin/bash\", \"-ec\"]\nRUN <<E\na\nb\nE");
        silent("SHELL [\"/bin/bash\", \"-o\", \"errexit\", \"-c\"]\nRUN <<E\na\nb\nE");
        silent("SHELL [\"python3\", \"-c\"]\nRUN <<E\na\nb\nE");
    }

    #[test]
    fn apt_asks() {
        let check = |text: &str, expect: &[&str]| {
            assert_eq!(codes(&format!("FROM a\nRUN {text}\n")), expect, "{text}");
        };
        let ask = ["AptGetInstallWithoutYes"];
        check("apt-get update && apt-get install x", &ask);
        check("apt install x", &ask);
        check("apt-get upgrade", &ask);
        check("apt-get -q install x", &ask);
        check("apt-get install --no-install-recommends x", &ask);
        check("<<E\nset -e\napt-get update\napt-get install x\nE", &ask);
        check("apt-get update && apt-get install -y x", &[]);
        check("apt-get -y install x", &[]);
        check("apt-get install -qqo Dpkg::Use-Pty=0 x", &[]);
        check("apt-get install -qq x", &[]);
        check("apt-get install --assume-yes x", &[]);
        check("apt-get -o APT::Get::Assume-Yes=true install x", &[]);
        check("yes | apt-get install x", &[]);
        check("echo apt-get install x", &[]);
        check("[\"apt-get\", \"install\", \"x\"]", &[]);
    }

    #[test]
    fn apt_update_alone() {
        let check = |text: &str, expect: &[&str]| {
            assert_eq!(codes(&format!("FROM a\nRUN {text}\n")), expect, "{text}");
        };
        check("apt-get update", &["AptGetUpdateAlone"]);
        check("apt-get -q update && echo x", &["AptGetUpdateAlone"]);
        check("apt-get update && apt-get install -y x", &[]);
        check("apt-get update && apt-get dist-upgrade -y", &[]);
        check("--mount=type=cache,target=/var/lib/apt apt-get update", &[]);
        check("apt-cache policy", &[]);
    }
}
