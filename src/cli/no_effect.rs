//! Options of `docker build` that have nothing to do here: each says so, in one line, and why.
//!
//! Not here: options that work.

use clap::Args;

use super::error::CommandError;

/// The options.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of docker build without effect")]
pub struct NoEffectArgs {
    /// There is no daemon that the context would be sent to
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub compress: Option<bool>,
    /// There are no intermediate containers
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub rm: Option<bool>,
    /// There are no intermediate containers
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub force_rm: Option<bool>,
    /// Content trust (Notary) is no more
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub disable_content_trust: Option<bool>,
}

impl NoEffectArgs {
    /// Returns a line for each option that was given; an error for a value that nobody has.
    pub fn notes(&self) -> Result<Vec<String>, CommandError> {
        let mut notes = Vec::new();
        let mut note = |option: &str, why: &str| notes.push(format!("note: {option} has no effect: {why}"));
        if self.compress == Some(true) {
            note("--compress", "the build context is read where it is, and sent nowhere");
        }
        if self.rm.is_some() {
            note("--rm", "steps leave no intermediate containers");
        }
        if self.force_rm.is_some() {
            note("--force-rm", "steps leave no intermediate containers, whether they fail or not");
        }
        if self.disable_content_trust.is_some() {
            note("--disable-content-trust", "images are known by their digests; Notary is not used");
        }
        Ok(notes)
    }
}

/// Build arguments of BuildKit that mean something to it and nothing here, and why.
const ARGUMENTS: [(&str, &str); 4] = [
    ("BUILDKIT_MULTI_PLATFORM", "this version makes images of one platform"),
    ("BUILDKIT_BUILD_NAME", "builds have no names"),
    ("BUILDKIT_SBOM_SCAN_CONTEXT", "this version makes no SBOM"),
    ("BUILDKIT_SBOM_SCAN_STAGE", "this version makes no SBOM"),
];

/// Returns a line for each build argument (`NAME=VALUE`) that asks for what is not done here.
pub fn arguments(build_args: &[String]) -> Vec<String> {
    let given = build_args.iter().filter_map(|text| text.split_once('='));
    given
        .filter(|(_, value)| !["", "0", "false"].contains(value))
        .filter_map(|(name, _)| ARGUMENTS.iter().find(|(known, _)| *known == name))
        .map(|(name, why)| format!("note: --build-arg {name} has no effect: {why}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: NoEffectArgs,
    }

    fn notes(words: &str) -> Result<Vec<String>, String> {
        let line = Line::try_parse_from(format!("x {words}").split_whitespace());
        line.map_err(|e| e.to_string())?.args.notes().map_err(|e| e.message)
    }

    #[test]
    fn arguments_without_effect_say_why() {
        let check = |words: &[&str], expect: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(arguments(&words), expect, "{words:?}");
        };
        check(
            &["A=1", "BUILDKIT_BUILD_NAME=n", "BUILDKIT_SANDBOX_HOSTNAME=h"],
            &["note: --build-arg BUILDKIT_BUILD_NAME has no effect: builds have no names"],
        );
        check(&["BUILDKIT_MULTI_PLATFORM=false", "BUILDKIT_BUILD_NAME"], &[]);
    }

    #[test]
    fn each_says_why() {
        assert_eq!(notes("").unwrap(), Vec::<String>::new());
        let all = "--compress --rm=false --force-rm --disable-content-trust";
        let lines = notes(all).unwrap();
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|line| line.starts_with("note: --") && line.contains(" has no effect: ")));
        assert!(notes("--compress=false").unwrap().is_empty());
        assert!(notes("--rm=perhaps").is_err());
    }
}
