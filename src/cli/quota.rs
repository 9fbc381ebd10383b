//! The limits of the store, as texts say them: variables of the environment, and the config file's words.
//!
//! Not here: keeping them (`store::quota`).

use super::error::CommandError;
use super::units;
use crate::store::Quota;

/// Reads limits; `text` returns what is said of one (`max_used_space`, `min_free_space`, `reserved_space`,
/// `min_free_inodes`, `keep_days`) and where that is said.
pub fn read(text: impl Fn(&str) -> Option<(String, String)>) -> Result<Quota, CommandError> {
    let number = |name: &str, what: &str, parse: &dyn Fn(&str) -> Option<u64>| match text(name) {
        None => Ok(None),
        Some((text, place)) => parse(text.trim())
            .map(Some)
            .ok_or_else(|| CommandError::usage(format!("{place}: `{text}` is no {what}"))),
    };
    let size = |name: &str| number(name, "size, as `512MB` or `10GB`", &units::parse_size);
    let count = |name: &str| number(name, "number", &|text: &str| text.parse().ok());
    Ok(Quota {
        // No limit, as BuildKit has it.
        max_used_space: size("max_used_space")?.filter(|most| *most > 0),
        min_free_space: size("min_free_space")?,
        reserved_space: size("reserved_space")?.unwrap_or(0),
        min_free_inodes: count("min_free_inodes")?,
        keep_days: count("keep_days")?
            .filter(|days| *days > 0)
            .map(|days| u32::try_from(days).unwrap_or(u32::MAX)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let read = |said: &[(&str, &str)]| {
            read(|name| {
                let found = said.iter().find(|(known, _)| *known == name)?;
                Some((found.1.to_owned(), format!("RBUILD_{}", name.to_uppercase())))
            })
        };
        assert_eq!(read(&[]).unwrap(), Quota::default());
        let all = [
            ("max_used_space", "2k"),
            ("min_free_space", "0"),
            ("reserved_space", "1MiB"),
            ("min_free_inodes", "7"),
            ("keep_days", "30"),
        ];
        let expect = Quota {
            max_used_space: Some(2048),
            min_free_space: Some(0),
            reserved_space: 1 << 20,
            min_free_inodes: Some(7),
            keep_days: Some(30),
        };
        assert_eq!(read(&all).unwrap(), expect);
        assert_eq!(read(&[("max_used_space", "0"), ("keep_days", "0")]).unwrap(), Quota::default());
        let error = read(&[("max_used_space", "much")]).unwrap_err();
        assert_eq!(error.message, "RBUILD_MAX_USED_SPACE: `much` is no size, as `512MB` or `10GB`");
        assert!(read(&[("keep_days", "-1")]).is_err());
    }
}
