//! The checks by name: what each is about, where it is described, when it is told.
//!
//! BuildKit's 22 under their own names, and ours. Not here: what finds them (`lint`,
//! `plan`), and which of them a file wants (`check_options`).

/// A check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub name: &'static str,
    /// One sentence, as a heading for all its findings.
    pub description: &'static str,
    /// Whether it is one of BuildKit's.
    pub docker: bool,
    /// Told only where it is asked for by name or with `experimental=all`.
    pub experimental: bool,
    /// Whether a build tells of it too; the others are for those who ask.
    pub in_build: bool,
}

impl Rule {
    /// Returns the page that describes it; ours have none.
    pub fn url(&self) -> Option<String> {
        self.docker.then(|| format!("https://docs.docker.com/go/dockerfile/rule/{}/", kebab(self.name)))
    }
}

/// Returns the check of a name, which is written as it stands here.
pub fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

const fn docker(name: &'static str, description: &'static str) -> Rule {
    Rule { name, description, docker: true, experimental: false, in_build: true }
}

const fn own(name: &'static str, in_build: bool, description: &'static str) -> Rule {
    Rule { name, description, docker: false, experimental: false, in_build }
}

/// All checks: BuildKit's in the order of its documentation, then ours.
pub const RULES: &[Rule] = &[
    docker("StageNameCasing", "Stage names should be lowercase"),
    docker("FromAsCasing", "The 'as' keyword should match the case of the 'from' keyword"),
    docker("NoEmptyContinuation", "Empty continuation lines will become errors in a future release"),
    docker(
        "ConsistentInstructionCasing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
    ),
    docker("DuplicateStageName", "Stage names should be unique"),
    docker("ReservedStageName", "Reserved words should not be used as stage names"),
    docker(
        "JSONArgsRecommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    ),
    docker(
        "MaintainerDeprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    ),
    docker("UndefinedArgInFrom", "FROM command must use declared ARGs"),
    docker(
        "WorkdirRelativePath",
        "Relative workdir without an absolute workdir declared within the build can have unexpected results \
         if the base image changes",
    ),
    docker("UndefinedVar", "Variables should be defined before their use"),
    docker(
        "MultipleInstructionsDisallowed",
        "Multiple instructions of the same type should not be used in the same stage",
    ),
    docker("LegacyKeyValueFormat", "Legacy key/value format with whitespace separator should not be used"),
    docker("InvalidBaseImagePlatform", "Base image platform does not match expected target platform"),
    docker(
        "RedundantTargetPlatform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    ),
    docker("SecretsUsedInArgOrEnv", "Sensitive data should not be used in the ARG or ENV commands"),
    docker(
        "InvalidDefaultArgInFrom",
        "Default value for global ARG results in an empty or invalid base image name",
    ),
    docker("FromPlatformFlagConstDisallowed", "FROM --platform flag should not use a constant value"),
    docker("CopyIgnoredFile", "Attempting to Copy file that is excluded by .dockerignore"),
    Rule {
        name: "InvalidDefinitionDescription",
        description: "Comment for build stage or argument should follow the format: `# <arg/stage name> \
                      <description>`",
        docker: true,
        experimental: true,
        in_build: true,
    },
    docker("ExposeProtoCasing", "Protocol in EXPOSE instruction should be lowercase"),
    docker(
        "ExposeInvalidFormat",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error \
         in a future release",
    ),
    own("EmptyCommand", true, "An instruction without a command does nothing"),
    own("FlagWithoutEffect", true, "A flag should not be given where it has no effect"),
    own(
        "RunHeredocWithoutErrexit",
        false,
        "A heredoc of several commands goes on after one that fails, unless it begins with `set -e`",
    ),
    own(
        "AptGetInstallWithoutYes",
        false,
        "apt-get asks before it installs, and nobody can answer in a build",
    ),
    own(
        "AptGetUpdateAlone",
        false,
        "apt-get update in a RUN of its own is cached, and a later install works on old lists",
    ),
    own("UntaggedBaseImage", false, "A base image without a tag, or with `latest`, changes under the build"),
    own(
        "CopyChmodParents",
        false,
        "COPY --chmod also applies to the directories it makes; without execute permission they cannot be \
         entered",
    ),
    own("UnknownCheckRule", false, "A check directive should name checks that exist"),
    own("InvalidCheckComment", true, "A check comment that cannot be read has no effect"),
];

/// Returns `JSONArgsRecommended` as `json-args-recommended`.
fn kebab(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::with_capacity(name.len() + 4);
    for (at, &c) in chars.iter().enumerate() {
        let begins = c.is_ascii_uppercase()
            && at > 0
            && (chars[at - 1].is_ascii_lowercase()
                || chars.get(at + 1).is_some_and(|next| next.is_ascii_lowercase()));
        if begins {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        let check = |name: &str, end: &str| {
            let url = rule(name).and_then(Rule::url);
            assert_eq!(url, Some(format!("https://docs.docker.com/go/dockerfile/rule/{end}/")), "{name}");
        };
        check("StageNameCasing", "stage-name-casing");
        check("FromAsCasing", "from-as-casing");
        check("JSONArgsRecommended", "json-args-recommended");
        check("SecretsUsedInArgOrEnv", "secrets-used-in-arg-or-env");
        check("UndefinedArgInFrom", "undefined-arg-in-from");
        check("FromPlatformFlagConstDisallowed", "from-platform-flag-const-disallowed");
        assert_eq!(rule("AptGetUpdateAlone").and_then(Rule::url), None);
        assert_eq!(rule("stagenamecasing"), None);
    }

    #[test]
    fn every_name_stands_once() {
        for rule in RULES {
            assert_eq!(RULES.iter().filter(|other| other.name == rule.name).count(), 1, "{}", rule.name);
        }
        assert_eq!(RULES.iter().filter(|rule| rule.docker).count(), 22);
    }
}
