//! `--isolation`: how RUN steps are kept apart from the machine.
//!
//! Not here: choosing (`sandbox::isolation`), when namespaces are entered (`world`).

use clap::Args;

use super::error::CommandError;
use crate::sandbox::isolation::WantedIsolation;

/// The option.
#[derive(Debug, Default, Args)]
pub struct IsolationArg {
    /// How RUN steps are isolated: default, namespaces, or chroot
    ///
    /// `default` is namespaces, and in a container that allows none, as its root, a chroot: steps then
    /// share the container's processes, network and limits. `chroot` takes root. Docker's word `default` and buildah's
    /// `oci`, `rootless` (namespaces) and `chroot` are understood. Without it: $RBUILD_ISOLATION.
    #[arg(long, value_name = "HOW")]
    pub isolation: Option<String>,
}

impl IsolationArg {
    /// Reads the word, or else `variable`.
    pub fn wanted(&self, variable: Option<String>) -> Result<WantedIsolation, CommandError> {
        let (word, from) = match (&self.isolation, variable) {
            (Some(word), _) => (word.clone(), "--isolation"),
            (None, Some(word)) => (word, "RBUILD_ISOLATION"),
            (None, None) => return Ok(WantedIsolation::Default),
        };
        word.parse().map_err(|why| CommandError::usage(format!("{from}: {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_goes_over_the_variable() {
        let check = |option: Option<&str>, variable: Option<&str>, expect: Result<WantedIsolation, &str>| {
            let arg = IsolationArg { isolation: option.map(str::to_owned) };
            let wanted = arg.wanted(variable.map(str::to_owned)).map_err(|error| error.message);
            match expect {
                Ok(expect) => assert_eq!(wanted, Ok(expect)),
                Err(text) => assert!(wanted.unwrap_err().starts_with(text)),
            }
        };
        check(None, None, Ok(WantedIsolation::Default));
        check(Some("default"), Some("chroot"), Ok(WantedIsolation::Default));
        check(None, Some("oci"), Ok(WantedIsolation::Namespaces));
        check(Some("hyperv"), None, Err("--isolation: the isolation `hyperv` does not exist on Linux"));
        check(None, Some("x"), Err("RBUILD_ISOLATION: the isolation `x`"));
    }
}
