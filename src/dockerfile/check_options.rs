//! What `# check=` says: which checks a file wants, and whether one that fails ends a build.
//!
//! `skip=A,B|all;error=true;experimental=A,B|all`, in the directive at the top of a file,
//! in a comment directly above an instruction, and in the build argument
//! BUILDKIT_DOCKERFILE_CHECK. Not here: the checks (`rules`).

use super::rules::{RULES, Rule};
use super::suggest;

/// Some checks, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chosen {
    pub all: bool,
    pub names: Vec<String>,
}

/// Which checks are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckOptions {
    pub skip: Chosen,
    pub experimental: Chosen,
    /// Whether a finding makes a build fail.
    pub error: bool,
}

impl Chosen {
    fn parse(value: &str) -> Chosen {
        match value.trim() {
            "all" => Chosen { all: true, names: Vec::new() },
            value => {
                let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                Chosen { all: false, names: names.map(str::to_owned).collect() }
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    fn merge(&mut self, other: &Chosen) {
        self.all |= other.all;
        self.names.extend(other.names.iter().cloned());
    }
}

impl CheckOptions {
    /// Reads the text after `check=`; the error is a sentence without a full stop.
    ///
    /// An option given twice counts as written last.
    pub fn parse(text: &str) -> Result<CheckOptions, String> {
        let mut options = CheckOptions::default();
        for option in text.split(';').map(str::trim).filter(|option| !option.is_empty()) {
            match option.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
                Some(("skip", value)) => options.skip = Chosen::parse(value),
                Some(("experimental", value)) => options.experimental = Chosen::parse(value),
                Some(("error", value)) => {
                    options.error = boolean(value).ok_or_else(|| {
                        format!("`error` of a check directive is `{value}`, not true or false")
                    })?;
                }
                Some((name, _)) => {
                    let near = suggest::did_you_mean(name, &["skip", "error", "experimental"]);
                    return Err(format!("unknown option of a check directive: {name}{near}"));
                }
                None => return Err(format!("`{option}` of a check directive is not of the form name=value")),
            }
        }
        Ok(options)
    }

    /// Tells whether a check is wanted.
    ///
    /// `skip=all` leaves alone what `experimental` asks for; to name a check always counts.
    pub fn wants(&self, rule: &Rule) -> bool {
        if self.skip.has(rule.name) {
            return false;
        }
        match rule.experimental {
            true => self.experimental.all || self.experimental.has(rule.name),
            false => !self.skip.all,
        }
    }

    /// Adds what a comment above an instruction says.
    pub fn merge(&mut self, other: &CheckOptions) {
        self.skip.merge(&other.skip);
        self.experimental.merge(&other.experimental);
        self.error |= other.error;
    }

    /// Returns the names that are no check's, each with the one that may be meant.
    pub fn unknown(&self) -> Vec<(String, Option<&'static str>)> {
        let known: Vec<&'static str> = RULES.iter().map(|rule| rule.name).collect();
        let named = self.skip.names.iter().chain(&self.experimental.names);
        named
            .filter(|name| !known.contains(&name.as_str()))
            .map(|name| (name.clone(), suggest::nearest(name, &known)))
            .collect()
    }
}

/// Returns the options of a comment `# check=...`, if it is one.
pub fn comment(text: &str) -> Option<Result<CheckOptions, String>> {
    let rest = text.trim_start().strip_prefix("check")?.trim_start().strip_prefix('=')?;
    Some(CheckOptions::parse(rest))
}

/// Reads a boolean as Go's `strconv.ParseBool` does.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::rule;
    use super::*;

    #[test]
    fn reads() {
        let check = |text: &str, name: &str, wanted: bool| {
            let options = CheckOptions::parse(text).unwrap();
            assert_eq!(options.wants(rule(name).unwrap()), wanted, "{text}: {name}");
        };
        check("", "UndefinedVar", true);
        check("skip=all", "UndefinedVar", false);
        check("skip=UndefinedVar", "UndefinedVar", false);
        check(" skip = StageNameCasing , UndefinedVar ; error = 1", "UndefinedVar", false);
        check("skip=StageNameCasing", "UndefinedVar", true);
        check("skip=none", "UndefinedVar", true);
        check("", "InvalidDefinitionDescription", false);
        check("experimental=all", "InvalidDefinitionDescription", true);
        check("experimental=InvalidDefinitionDescription;skip=all", "InvalidDefinitionDescription", true);
        check("experimental=all;skip=InvalidDefinitionDescription", "InvalidDefinitionDescription", false);
        check("skip=all;skip=StageNameCasing", "UndefinedVar", true);
        assert!(CheckOptions::parse("error=True").unwrap().error);
        assert!(!CheckOptions::parse("error=true;error=F").unwrap().error);
    }

    #[test]
    fn refuses() {
        let check = |text, expect: &str| {
            let error = CheckOptions::parse(text).unwrap_err();
            assert!(error.contains(expect), "{text}: {error}");
        };
        check("skp=all", "skp (did you mean skip?)");
        check("all", "not of the form");
        check("error=maybe", "`maybe`, not true or false");
    }

    #[test]
    fn names_slips() {
        let unknown = |text| CheckOptions::parse(text).unwrap().unknown();
        assert_eq!(unknown("skip=UndefinedVar,JSONArgsRecommended"), []);
        assert_eq!(unknown("skip=UndefindVar"), [("UndefindVar".to_owned(), Some("UndefinedVar"))]);
        assert_eq!(unknown("experimental=zzz"), [("zzz".to_owned(), None)]);
    }

    #[test]
    fn comments() {
        assert!(comment("checks are good").is_none());
        assert!(comment("check the rest").is_none());
        assert!(comment("check=skip=all").unwrap().unwrap().skip.all);
        assert!(comment("check = skip=all").unwrap().unwrap().skip.all);
        assert!(comment("check=nonsense").unwrap().is_err());
    }
}
