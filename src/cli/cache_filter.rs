//! Which pieces of the build cache a command is about: the filters of `du` and `prune`, as docker has them.

use jiff::Timestamp;

use super::error::CommandError;
use super::filter;
use crate::store::CacheFilter;

/// What is said of them in the help.
pub const HELP: &str = "Filters: until=TIME or unused-for=DURATION (last used before), id=ID, parents=ID, type=TYPE \
    (regular, exec.cachemount, source.git.checkout, source.http, internal), description=TEXT, and inuse, shared, \
    private, mutable, immutable (=BOOL)";

const KEYS: [&str; 12] = [
    "until",
    "unused-for",
    "id",
    "parents",
    "parent",
    "type",
    "description",
    "inuse",
    "shared",
    "private",
    "mutable",
    "immutable",
];

/// Reads the filters; those that say yes or no may stand alone.
pub fn parse(filters: &[String]) -> Result<CacheFilter, CommandError> {
    let whole = |text: &String| match KEYS[7..].contains(&text.as_str()) {
        true => format!("{text}=true"),
        false => text.clone(),
    };
    let filters: Vec<String> = filters.iter().map(whole).collect();
    let mut found = CacheFilter::default();
    for one in filter::parse(&filters, &KEYS)? {
        let text = |one: filter::Filter| match one.negated {
            true => Err(CommandError::usage(format!("the filter `{}` cannot be negated", one.key))),
            false => Ok(one.value),
        };
        match one.key.as_str() {
            "until" | "unused-for" => found.until = Some(earlier(found.until, filter::until(&one)?)),
            "id" => found.ids.push(text(one)?.trim_end_matches('*').to_owned()),
            "parent" | "parents" => found.parents.push(text(one)?),
            "type" => found.kinds.push(text(one)?),
            "description" => found.descriptions.push(text(one)?),
            "inuse" => found.in_use = Some(filter::boolean(&one)?),
            "private" => found.shared = Some(!filter::boolean(&one)?),
            "mutable" => found.mutable = Some(filter::boolean(&one)?),
            "immutable" => found.mutable = Some(!filter::boolean(&one)?),
            _ => found.shared = Some(filter::boolean(&one)?),
        }
    }
    Ok(found)
}

/// Returns the earlier of two times; of one where there is but one.
pub fn earlier(one: Option<Timestamp>, other: Timestamp) -> Timestamp {
    one.map_or(other, |one| one.min(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_the_cache() {
        let parse = |texts: &[&str]| parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let found = parse(&["inuse", "private=true", "mutable=false", "id=ab*", "type=regular"]).unwrap();
        assert_eq!((found.in_use, found.shared, found.mutable), (Some(true), Some(false), Some(false)));
        assert_eq!((&found.ids[..], &found.kinds[..]), (&["ab".to_owned()][..], &["regular".to_owned()][..]));
        assert_eq!(parse(&["immutable"]).unwrap().mutable, Some(false));
        assert_eq!(parse(&["description=cache mount"]).unwrap().descriptions, ["cache mount"]);
        assert!(parse(&["until=24h", "until=1h"]).unwrap().until.unwrap() < Timestamp::now());
        for bad in ["nope=1", "id", "id!=a", "until=never", "shared=perhaps"] {
            assert!(parse(&[bad]).is_err(), "{bad}");
        }
    }
}
