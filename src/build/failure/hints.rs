//! What may help a failed RUN, told from the last lines of what it said, or from why it did not start.
//!
//! Pure: a table of words that programs say, each with what to do. A hint is no verdict: one is given only
//! where the words are clear, and it says what is likely. `docs/errors.md` tells how to add one.

use crate::plan::graph::NetworkMode;
use crate::sandbox::{ExecError, ExecFailure, Exit};

/// What is known of a command that failed.
pub struct Seen<'a> {
    /// Its last lines.
    pub output: &'a str,
    pub exit: Exit,
    pub command: &'a str,
    /// As the config says it; empty is root.
    pub user: &'a str,
    pub network: NetworkMode,
    /// Its platform, where that is not this machine's.
    pub foreign: Option<String>,
    /// Whether the file system of the store was full when it ended.
    pub full: bool,
}

/// One kind of failure.
struct Rule {
    /// In lower case: a line that has one of these is such a failure.
    words: &'static [&'static str],
    /// Says what to do, given that line; `None` where it is not clear after all.
    hint: fn(&Seen, &str) -> Option<String>,
}

/// In order: what causes others comes first.
const RULES: [Rule; 22] = [
    Rule { words: &["no space left on device", "enospc", "disk quota exceeded"], hint: no_space },
    Rule {
        words: &[
            "temporary failure resolving",
            "temporary failure in name resolution",
            "could not resolve host",
            "could not resolve '",
            "bad address '",
            "name or service not known",
            "getaddrinfo enotfound",
            "getaddrinfo eai_again",
            "no such host",
            "unable to resolve host address",
            "network is unreachable",
            "enetunreach",
            "temporary error (try again later)",
        ],
        hint: no_network,
    },
    Rule {
        words: &[
            "certificate signed by unknown authority",
            "unable to get local issuer certificate",
            "unable_to_get_issuer_cert_locally",
            "self signed certificate in certificate chain",
            "self-signed certificate in certificate chain",
            "self_signed_cert_in_chain",
            "certificate_verify_failed",
            "server certificate verification failed",
            "certificate verification failed",
            "pkix path building failed",
        ],
        hint: |_, _| {
            say(
                "the step does not know who signed that certificate: give it your authority's with `--ca-cert FILE`, \
                 or install `ca-certificates` in the image",
            )
        },
    },
    Rule {
        words: &[
            "407 proxy authentication required",
            "cannot connect to proxy",
            "unable to connect to proxy",
            "tunneling socket could not be established",
            "proxyerror(",
        ],
        hint: |_, _| {
            say(
                "the proxy refused: steps see the one of `--build-arg HTTP_PROXY=...` and `--build-arg HTTPS_PROXY=...`",
            )
        },
    },
    Rule {
        words: &["connection timed out", "etimedout", "connecttimeouterror", "i/o timeout"],
        hint: |_, _| {
            say(
                "the other side did not answer; behind a proxy, name it with `--build-arg HTTP_PROXY=...` and \
                 `--build-arg HTTPS_PROXY=...`",
            )
        },
    },
    Rule {
        words: &["are you root?", "lists/partial is missing. - acquire (13: permission denied)"],
        hint: |seen, _| (!is_root(seen.user)).then(|| as_root(seen.user)),
    },
    Rule { words: &["unable to locate package", "has no installation candidate"], hint: apt_package },
    Rule {
        words: &["404  not found", "404 not found"],
        hint: |seen, line| {
            let is_apt = line.starts_with("E: Failed to fetch") || line.starts_with("Err:");
            (is_apt && !apt_updates(seen.command)).then(|| {
                "the package lists in the image may be older than what the mirror still has: write \
                 `apt-get update && apt-get install ...` in one RUN"
                    .to_owned()
            })
        },
    },
    Rule {
        words: &[
            "do you want to continue? [y/n] abort",
            "use '-y' to ",
            "is this ok [y/n]: operation aborted",
        ],
        hint: |_, _| say("nobody is there to answer: give the package manager `-y`"),
    },
    Rule {
        words: &["(no such package):"],
        hint: |seen, line| {
            let name = line.trim().split(' ').next()?;
            let knows = ["apk update", "--no-cache", "--update", " -U"]
                .iter()
                .any(|word| seen.command.contains(word));
            Some(match knows {
                true => format!("apk knows no `{name}`: look for its name in this release of the image"),
                false => format!("apk may have no list of packages: `apk add --no-cache {name}` fetches it"),
            })
        },
    },
    Rule {
        words: &["error: externally-managed-environment"],
        hint: |_, _| {
            say("this Python leaves its packages to the system: install into a virtual environment \
                 (`python3 -m venv /venv && /venv/bin/pip install ...`), or give pip `--break-system-packages`")
        },
    },
    Rule {
        words: &["detected dubious ownership in repository"],
        hint: |_, _| {
            say("git trusts only its user's own files: `COPY --chown` them to the step's user, or run \
                 `git config --global --add safe.directory DIR` first")
        },
    },
    Rule {
        words: &[
            "^m: bad interpreter",
            "\r: bad interpreter",
            "$'\\r': command not found",
            "\\r': no such file",
            "\r': no such file",
            "\r’: no such file",
        ],
        hint: |_, _| say(CR),
    },
    Rule { words: &["exec format error", "cannot execute binary file", "\x7felf"], hint: other_platform },
    Rule { words: &["sudo: not found", "sudo: command not found"], hint: no_sudo },
    Rule {
        words: &[
            "source: not found",
            "[[: not found",
            "illegal option -o pipefail",
            "bad substitution",
            "syntax error: \"(\" unexpected",
            "syntax error: redirection unexpected",
        ],
        hint: |seen, _| {
            (!seen.command.contains("bash")).then(|| {
                "that is bash, and this shell is not: write `SHELL [\"/bin/bash\", \"-c\"]` above, where the image has \
                 bash (to source a file any shell knows `. FILE`)"
                    .to_owned()
            })
        },
    },
    Rule { words: &["not found", "no such file or directory"], hint: not_found },
    Rule { words: &["permission denied"], hint: denied },
    Rule {
        words: &[
            "could not read package.json",
            "couldn't find a package.json",
            "enoent: no such file or directory, open '/package.json'",
            "npm err! enoent",
        ],
        hint: |_, line| line.contains("package.json").then(|| no_project("`package.json`")),
    },
    Rule {
        words: &["could not open requirements file"],
        hint: |_, _| Some(no_project("the requirements file")),
    },
    Rule {
        words: &[
            "go.mod file not found",
            "could not find `cargo.toml`",
            "no makefile found",
            "no targets specified and no makefile",
        ],
        hint: |_, line| {
            let names = ["go.mod", "Cargo.toml", "makefile"];
            let name = names.into_iter().find(|name| line.contains(name))?;
            Some(no_project(&format!("`{name}`")))
        },
    },
    Rule {
        words: &["read-only file system"],
        hint: |_, _| {
            say(
                "a step may not write there: files that are mounted by `--mount=type=bind` can be written with `rw` (and are \
                 not kept), /proc and /sys cannot",
            )
        },
    },
];

/// What to do about lines that end in CR LF.
const CR: &str = "the script has the line ends of Windows: save it with LF (`dos2unix`; in git, `*.sh text eol=lf` in \
                  .gitattributes)";

fn say(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Returns what may help a command that ran and failed.
pub fn of_output(seen: &Seen) -> Option<String> {
    let lines: Vec<(&str, String)> =
        seen.output.split('\n').map(|line| (line, line.to_ascii_lowercase())).collect();
    let of_rule = |rule: &Rule| {
        let is_such = |lower: &str| rule.words.iter().any(|word| lower.contains(word));
        lines.iter().rev().filter(|(_, lower)| is_such(lower)).find_map(|(line, _)| (rule.hint)(seen, line))
    };
    let found = RULES.iter().find_map(of_rule);
    found.or_else(|| seen.full.then(|| NO_ROOM.to_owned())).or_else(|| of_exit(seen))
}

/// Returns what may help a command that could not be started; `shell` is the first word of its line.
pub fn of_exec(error: &ExecError, shell: &str) -> Option<String> {
    let program = &error.program;
    let is_shell = program == shell && program.ends_with("sh");
    Some(match &error.failure {
        ExecFailure::NotFound(_) if is_shell => format!(
            "the image has no `{program}`, which RUN starts its commands with: run them in a stage that has one and COPY \
             the result, or name the program itself: `RUN [\"/program\", \"argument\"]`"
        ),
        ExecFailure::NotInPath | ExecFailure::NotFound(_) => {
            format!("`{program}` is not in the image, or not in its PATH; this form of RUN starts no shell")
        }
        ExecFailure::PermissionDenied => executable(program),
        ExecFailure::IsDirectory => format!("`{program}` is a directory: name a program in it"),
        ExecFailure::NotExecutable => {
            "it is a program for another processor, or a script whose first line is not `#!/bin/sh` or the like".to_owned()
        }
        ExecFailure::MissingInterpreter(name) if name.ends_with("\\r") => CR.to_owned(),
        ExecFailure::MissingInterpreter(name) => format!(
            "install `{name}` in the image; of a binary it is the loader of another C library (glibc, musl)"
        ),
        _ => return None,
    })
}

/// Returns the name of the program that a shell did not find, or may not execute, where it said so last.
pub fn command_of(output: &str) -> Option<&str> {
    let name = |line: &'_ str| -> Option<(usize, usize)> {
        let ends =
            [": not found", ": command not found", ": Permission denied", ": No such file or directory"];
        let body = ends.iter().find_map(|end| line.trim_end().strip_suffix(end))?;
        let (shell, rest) = body.split_once(": ")?;
        if !shell.ends_with("sh") || shell.contains(' ') {
            return None;
        }
        // dash counts lines (`1: `), bash says so (`line 1: `).
        let name = match rest.split_once(": ") {
            Some((line, name)) if line.trim_start_matches("line ").bytes().all(|b| b.is_ascii_digit()) => {
                name
            }
            _ => rest,
        };
        let start = name.as_ptr() as usize - line.as_ptr() as usize;
        (!name.is_empty() && !name.contains(char::is_whitespace)).then_some((start, start + name.len()))
    };
    output.split('\n').rev().find_map(|line| name(line).map(|(from, to)| &line[from..to]))
}

fn is_root(user: &str) -> bool {
    matches!(user.split(':').next().unwrap_or_default(), "" | "0" | "root")
}

fn as_root(user: &str) -> String {
    format!("the step runs as the user `{user}`: put it above `USER {user}`, or `USER root` above it")
}

fn executable(name: &str) -> String {
    format!("`{name}` may not be executed: `COPY --chmod=755` it, or `RUN chmod +x` it before")
}

fn no_project(file: &str) -> String {
    format!(
        "{file} is not where the step runs: COPY it before, and see that WORKDIR is where it is copied to"
    )
}

/// What to do where the store has no room.
const NO_ROOM: &str =
    "`rbuild system prune` makes room in the store, and `--root` names another place for it";

fn no_space(seen: &Seen, line: &str) -> Option<String> {
    Some(match seen.full {
        _ if line.contains("/dev/shm") => "/dev/shm is full: `--shm-size` makes it larger".to_owned(),
        true => NO_ROOM.to_owned(),
        false => format!(
            "a file system was full while the step ran: /dev/shm grows with `--shm-size`, a `--mount=type=tmpfs` with \
             `size=`; {NO_ROOM}"
        ),
    })
}

fn no_network(seen: &Seen, _: &str) -> Option<String> {
    say(match seen.network {
        NetworkMode::None => "the step has no network, because of `--network=none`",
        _ => {
            "the step found no such host, or no way there: see the name servers in /etc/resolv.conf of this machine; \
             behind a proxy, name it with `--build-arg HTTP_PROXY=...` and `--build-arg HTTPS_PROXY=...`"
        }
    })
}

fn apt_updates(command: &str) -> bool {
    ["apt-get update", "apt update", "aptitude update"].iter().any(|words| command.contains(words))
}

fn apt_package(seen: &Seen, line: &str) -> Option<String> {
    let name = match line.split_once("Unable to locate package ") {
        Some((_, name)) => name.trim(),
        None => line.split('\'').nth(1).unwrap_or("the package"),
    };
    Some(match apt_updates(seen.command) {
        false => format!(
            "write `apt-get update && apt-get install -y {name}` in one RUN: images have no package lists"
        ),
        true => format!(
            "apt knows no `{name}`: it may have another name in this release, or be in a part (contrib, universe) or a \
             repository that is not enabled"
        ),
    })
}

fn other_platform(seen: &Seen, _: &str) -> Option<String> {
    Some(match &seen.foreign {
        Some(platform) => format!(
            "the image is for {platform}, and this machine can run such programs only through an interpreter \
             (`rbuild doctor` lists those there are): install qemu-user-static with binfmt-support"
        ),
        None => "a program was made for another processor than the image: see for which platform it was downloaded or \
                 copied"
            .to_owned(),
    })
}

fn no_sudo(seen: &Seen, _: &str) -> Option<String> {
    Some(match is_root(seen.user) {
        true => "the step is root already: leave `sudo` out".to_owned(),
        false => format!("leave `sudo` out, and {}", as_root(seen.user)),
    })
}

fn not_found(seen: &Seen, line: &str) -> Option<String> {
    let Exit::Code(127) = seen.exit else { return None };
    let unrunnable =
        || line.trim_end().strip_suffix(": cannot execute: required file not found")?.rsplit(' ').next();
    let name = command_of(line).or_else(unrunnable)?;
    Some(match name.contains('/') {
        true => format!(
            "`{name}` is not there; where it is, the interpreter in its first line is not, or that line ends in CR (the \
             line ends of Windows), or its C library is another than the image's"
        ),
        false => format!("`{name}` is not in the image, or not in its PATH: install it in a RUN before"),
    })
}

fn denied(seen: &Seen, line: &str) -> Option<String> {
    match (seen.exit, command_of(line)) {
        (Exit::Code(126), Some(name)) => Some(executable(name)),
        _ if !is_root(seen.user) => Some(format!(
            "the step runs as the user `{user}`, who may not write everywhere: `COPY --chown={user}` what it is to \
             change, or put the step above `USER {user}`",
            user = seen.user
        )),
        _ => None,
    }
}

/// Reads the codes by which shells tell of signals: 128 and the number.
fn of_exit(seen: &Seen) -> Option<String> {
    let Exit::Code(code @ 129..=192) = seen.exit else { return None };
    let signal = nix::sys::signal::Signal::try_from(code - 128).ok()?;
    let what = match signal {
        nix::sys::signal::Signal::SIGKILL => {
            ": where nobody sent it, memory ran out; let the step do less at once, or give the machine more"
        }
        nix::sys::signal::Signal::SIGSEGV | nix::sys::signal::Signal::SIGBUS => ": a program crashed",
        nix::sys::signal::Signal::SIGABRT => ": a program gave up",
        nix::sys::signal::Signal::SIGILL => ": a program uses an instruction that this processor lacks",
        _ => "",
    };
    Some(format!("{code} is how a shell says that a process was ended by {}{what}", signal.as_str()))
}

#[cfg(test)]
mod tests;
