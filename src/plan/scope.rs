//! Build arguments before the first FROM: predefined ones, and the file's own.
//!
//! From the Dockerfile reference, "Automatic platform ARGs in the global scope"
//! and "Predefined ARGs". Arguments of a stage are `stage`'s.

use std::collections::BTreeMap;

use crate::dockerfile::ast::Instruction;
use crate::dockerfile::ast::Kind;
use crate::image::Platform;
use crate::report::Diagnostic;

use super::Request;
use super::graph::BuildArgs;
use super::stage::MAX_PLAN;
use super::stage::too_large;
use super::words;

/// The names of the proxy variables; each is also known in lower case.
pub(super) const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Arguments that steer the build and never become environment.
pub(super) const NOT_ENVIRONMENT: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// What FROM sees, and what an ARG without a default falls back to.
#[derive(Debug, Clone, Default)]
pub(super) struct Globals {
    values: BTreeMap<String, String>,
    declared: Vec<String>,
}

impl Globals {
    /// Computes them from the arguments of the build and the ARGs above the first FROM.
    pub(super) fn new(
        request: &Request,
        build_args: &BuildArgs,
        before: &[Instruction],
        escape: char,
    ) -> Result<Globals, Diagnostic> {
        let mut globals = Globals::default();
        let mut predefine = |name: String, value: &str| {
            let value = build_args.get(&name).map_or(value, String::as_str);
            globals.values.insert(name, value.to_owned());
        };
        for (prefix, platform) in [("TARGET", &request.platform), ("BUILD", &request.build_platform)] {
            for (suffix, value) in platform_parts(platform) {
                predefine(format!("{prefix}{suffix}"), &value);
            }
        }
        predefine("TARGETSTAGE".to_owned(), request.targets.last().map_or("default", String::as_str));

        let mut spent = 0;
        for instruction in before {
            let Kind::Arg(definitions) = &instruction.kind else { continue };
            for definition in definitions {
                let value = match (build_args.get(&definition.name), &definition.default) {
                    (Some(value), _) => Some(value.clone()),
                    (None, Some(default)) => {
                        let lookup = |name: &str| globals.values.get(name).cloned();
                        Some(words::plain(default, escape, &lookup)?.text)
                    }
                    (None, None) => None,
                };
                spent += value.as_ref().map_or(0, String::len);
                if spent > MAX_PLAN {
                    return Err(too_large(definition.span));
                }
                if let Some(value) = value {
                    globals.values.insert(definition.name.clone(), value);
                }
                globals.declared.push(definition.name.clone());
            }
        }
        Ok(globals)
    }

    /// Returns the value of an argument.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Tells whether a name is declared, with or without a value.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.values.contains_key(name) || self.declared.iter().any(|n| n == name)
    }

    /// Returns all names.
    pub(super) fn names(&self) -> Vec<&str> {
        self.values.keys().chain(&self.declared).map(String::as_str).collect()
    }
}

fn platform_parts(platform: &Platform) -> [(&'static str, String); 5] {
    [
        ("PLATFORM", platform.to_string()),
        ("OS", platform.os.clone()),
        ("OSVERSION", String::new()),
        ("ARCH", platform.architecture.clone()),
        ("VARIANT", platform.variant.clone().unwrap_or_default()),
    ]
}

/// Tells whether a build argument needs no ARG to be of use.
pub(super) fn is_predefined(name: &str) -> bool {
    PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
        || name.starts_with("BUILDKIT_")
        || name == "SOURCE_DATE_EPOCH"
        || name == "TARGETSTAGE"
        || ["TARGET", "BUILD"].iter().any(|prefix| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| matches!(rest, "PLATFORM" | "OS" | "OSVERSION" | "ARCH" | "VARIANT"))
        })
}

/// Returns the proxy variables of the build arguments, both spellings of each, by name.
pub(super) fn proxies(build_args: &BuildArgs) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (name, value) in build_args {
        if PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name)) {
            found.insert(name.to_ascii_uppercase(), value.clone());
            found.insert(name.to_ascii_lowercase(), value.clone());
        }
    }
    found
}

/// Tells whether a name looks as if its value were a secret, as BuildKit's check does.
pub fn looks_secret(name: &str) -> bool {
    const SECRET: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    let lower = name.to_ascii_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    has(&SECRET) && !has(&["public", "file", "version"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_secrets_and_predefined_names() {
        for (name, secret) in [
            ("API_KEY", true),
            ("GITHUB_TOKEN", true),
            ("auth", true),
            ("MONKEY", false),
            ("PUBLIC_KEY", false),
        ] {
            assert_eq!(looks_secret(name), secret, "{name}");
        }
        for (name, predefined) in [
            ("http_proxy", true),
            ("TARGETARCH", true),
            ("BUILDVARIANT", true),
            ("TARGETX", false),
            ("A", false),
        ] {
            assert_eq!(is_predefined(name), predefined, "{name}");
        }
    }
}
