//! `--filter key=value` of the listing commands.

use globset::{GlobBuilder, GlobMatcher};

use super::error::CommandError;

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
}
