//! What a mistyped command line may have meant: commands and options of docker that this
//! version lacks, and words near to those it has.

use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::error::CommandError;
use crate::dockerfile::nearest;

/// Commands of docker that have no counterpart here.
const MISSING_COMMANDS: &[&str] = &["events", "info", "network", "swarm", "update"];

/// Options of `docker build` and `docker run` that not every command of the kind has here.
const MISSING_OPTIONS: [&str; 36] = [
    "--add-host",
    "--allow",
    "--build-context",
    "--attest",
    "--builder",
    "--cache-from",
    "--cache-to",
    "--cap-add",
    "--cap-drop",
    "--compress",
    "--cpus",
    "--cpu-shares",
    "--debug",
    "--detach",
    "--device",
    "--force-rm",
    "--hostname",
    "--isolation",
    "--memory",
    "--mount",
    "--name",
    "--no-cache-filter",
    "--platform",
    "--policy",
    "--privileged",
    "--provenance",
    "--publish-all",
    "--restart",
    "--sbom",
    "--secret",
    "--security-opt",
    "--shm-size",
    "--squash",
    "--ssh",
    "--ulimit",
    "-d",
];

/// Refuses a first word that can be neither a command nor a build context; `commands` are
/// those there are.
pub fn check_first_word(word: &str, commands: &[String]) -> Result<(), CommandError> {
    let bare = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    if !bare || word.starts_with('-') || Path::new(word).exists() {
        return Ok(());
    }
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let error =
        CommandError::usage(format!("`{word}` is no command, and the build context `{word}` does not exist"));
    Err(match word {
        "version" => error.hint("did you mean `rbuild --version`?"),
        "df" => error.hint("did you mean `rbuild system df`?"),
        "prune" => error.hint("did you mean `rbuild system prune`, `image prune` or `builder prune`?"),
        _ if MISSING_COMMANDS.contains(&word) => error.hint(format!("this version has no `{word}`")),
        _ => match nearest(word, &commands) {
            Some(near) => error.hint(format!("did you mean `rbuild {near}`?")),
            None => error.hint("`rbuild --help` lists the commands; `rbuild .` builds this directory"),
        },
    })
}

/// Draws an error of the command line's parser.
pub fn render(mut error: clap::Error) -> String {
    if error.kind() != ErrorKind::UnknownArgument {
        return error.render().to_string();
    }
    // "To pass it as a value, use `-- ...`": true, and never what was meant.
    error.remove(ContextKind::Suggested);
    let option = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) => option.clone(),
        _ => String::new(),
    };
    let name = option.split('=').next().unwrap_or_default();
    let usage = error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    if usage.contains("rbuild why") {
        error.remove(ContextKind::SuggestedArg);
        return format!(
            "{}hint: `rbuild why` takes the options that decide what is cached; leave out the others of `rbuild build`, \
             or ask with all of them: `rbuild build --dry-run ...`\n",
            error.render()
        );
    }
    if !MISSING_OPTIONS.contains(&name) {
        return error.render().to_string();
    }
    error.remove(ContextKind::SuggestedArg);
    format!("{}hint: docker has `{name}`, this command of rbuild does not\n", error.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_words() {
        let commands = ["build", "images", "import", "inspect", "load"].map(str::to_owned);
        let check = |word: &str, expect: &str| {
            let text = check_first_word(word, &commands).err().map(|e| e.text()).unwrap_or_default();
            assert!(text.contains(expect) && text.is_empty() == expect.is_empty(), "{word}: {text}");
        };
        check("bulid", "did you mean `rbuild build`?");
        check("imges", "did you mean `rbuild images`?");
        check("loda", "did you mean `rbuild load`?");
        check("prune", "did you mean `rbuild system prune`");
        check("events", "this version has no `events`");
        check("xyzzy", "rbuild --help");
        // A directory that is there, paths, options: for the build to say.
        for build in ["src", ".", "./nosuch", "a/b", "-", "-t", "--nope", "", "Nosuch"] {
            check(build, "");
        }
    }
}
