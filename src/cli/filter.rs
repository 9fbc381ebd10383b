//! `--filter key=value` of the listing commands.

use std::collections::BTreeMap;

use globset::{GlobBuilder, GlobMatcher};
use jiff::Timestamp;

use super::error::CommandError;
use super::when;

/// One `key=value`; `!=` negates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub key: String,
    pub value: String,
    pub negated: bool,
}

/// Parses filters and refuses keys the command does not know.
pub fn parse(filters: &[String], known: &[&str]) -> Result<Vec<Filter>, CommandError> {
    let one = |text: &String| {
        let bad =
            || CommandError::usage(format!("bad filter `{text}`")).hint("filters are written KEY=VALUE");
        let (key, value) = text.split_once('=').ok_or_else(bad)?;
        let (key, negated) = key.strip_suffix('!').map_or((key, false), |key| (key, true));
        let key = key.trim().to_ascii_lowercase();
        if !known.contains(&key.as_str()) {
            return Err(CommandError::usage(format!("invalid filter `{key}`"))
                .hint(format!("the filters are: {}", known.join(", "))));
        }
        Ok(Filter { key, value: value.trim().to_owned(), negated })
    };
    filters.iter().map(one).collect()
}

/// Tells whether labels pass a `label=KEY[=VALUE]` or `label!=...`.
pub fn label(filter: &Filter, labels: &BTreeMap<String, String>) -> bool {
    let (key, value) = match filter.value.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (filter.value.as_str(), None),
    };
    let found = labels.get(key);
    found.is_some_and(|found| value.is_none_or(|value| value == found)) != filter.negated
}

/// Reads the time of an `until=...`.
pub fn until(filter: &Filter) -> Result<Timestamp, CommandError> {
    when::parse(&filter.value, Timestamp::now()).filter(|_| !filter.negated).ok_or_else(|| {
        let said = format!("failed to parse value as time or duration: \"{}\"", filter.value);
        CommandError::usage(said)
            .hint("it is a duration as `24h`, a time as `2026-01-31T12:00:00`, or seconds since 1970")
    })
}

/// Makes a matcher for a pattern of names in which `*` does not cross `/`.
pub fn glob(pattern: &str) -> Result<GlobMatcher, CommandError> {
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|e| CommandError::usage(format!("bad pattern `{pattern}`: {}", e.kind())))
}

/// Reads the booleans docker accepts in filters.
pub fn boolean(filter: &Filter) -> Result<bool, CommandError> {
    match filter.value.as_str() {
        "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(!filter.negated),
        "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(filter.negated),
        other => Err(CommandError::usage(format!("invalid value `{other}` of filter `{}`", filter.key))
            .hint("it is true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        let parse = |text: &str| parse(&[text.to_owned()], &["dangling", "label"]);
        assert_eq!(
            parse("label=a=b").ok(),
            Some(vec![Filter { key: "label".into(), value: "a=b".into(), negated: false }])
        );
        assert!(parse("label!=x").unwrap()[0].negated);
        assert!(parse("nope=1").is_err());
        assert!(parse("label").is_err());
        assert!(glob("de*").unwrap().is_match("debian") && !glob("de*").unwrap().is_match("de/x"));
        assert!(glob("[").is_err());
    }

    #[test]
    fn labels() {
        let labels = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let check = |text: &str, expect: bool| {
            let filters = parse(&[text.to_owned()], &["label"]).unwrap();
            assert_eq!(label(&filters[0], &labels), expect, "{text}");
        };
        check("label=k", true);
        check("label=k=v", true);
        check("label=k=w", false);
        check("label=x", false);
        check("label!=k", false);
        check("label!=k=w", true);
    }
}
