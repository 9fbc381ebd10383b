//! `--pull` of builds: when base images are asked for at their registries.

use clap::Args;

use super::error::CommandError;
use crate::build::PullPolicy;

/// The option.
#[derive(Debug, Default, Args)]
pub struct PullArg {
    /// Ask registries for newer base images: always (true), missing (false), newer, never
    ///
    /// `newer` takes what the store has where the registry cannot be asked.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "WHEN")]
    pub pull: Option<String>,
}

impl PullArg {
    /// Returns what was asked for.
    pub fn policy(&self) -> Result<PullPolicy, CommandError> {
        match self.pull.as_deref() {
            None | Some("false" | "0" | "missing" | "ifmissing") => Ok(PullPolicy::Missing),
            Some("true" | "1" | "always") => Ok(PullPolicy::Always),
            Some("newer" | "ifnewer") => Ok(PullPolicy::Newer),
            Some("never") => Ok(PullPolicy::Never),
            Some(other) => Err(CommandError::usage(format!("bad value `{other}` of --pull"))
                .hint("it is always (or true), missing (or false), newer or never")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_and_buildahs_words_are_understood() {
        let check = |word: Option<&str>, expect: Option<PullPolicy>| {
            let found = PullArg { pull: word.map(str::to_owned) }.policy();
            assert_eq!(found.ok(), expect, "{word:?}");
        };
        check(None, Some(PullPolicy::Missing));
        check(Some("false"), Some(PullPolicy::Missing));
        check(Some("true"), Some(PullPolicy::Always));
        check(Some("newer"), Some(PullPolicy::Newer));
        check(Some("never"), Some(PullPolicy::Never));
        check(Some("perhaps"), None);
        check(Some(""), None);
    }
}
