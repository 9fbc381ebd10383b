//! The name of a file that comes from a URL.

use percent_encoding::percent_decode_str;
use url::Url;

/// The name of what has none.
const UNNAMED: &str = "__unnamed__";

/// Returns the name ADD gives to what is at a URL: the last part of its path, decoded, or `__unnamed__`.
///
/// Always one component of a path: never empty, `.`, `..`, nor with a slash or NUL in it.
pub fn file_name_of_url(url: &str) -> String {
    let Ok(url) = Url::parse(url) else { return UNNAMED.to_owned() };
    let path = percent_decode_str(url.path()).decode_utf8_lossy();
    match path.trim_end_matches('/').rsplit('/').next() {
        None | Some("" | "." | "..") => UNNAMED.to_owned(),
        Some(name) if name.contains('\0') => UNNAMED.to_owned(),
        Some(name) => name.to_owned(),
    }
}

/// Tells whether a name can be that of one file.
pub fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0']) && name.len() <= 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_last_part_of_the_path() {
        let check = |url: &str, expect: &str| assert_eq!(file_name_of_url(url), expect, "{url}");
        check("https://example.com/a/b.tar.gz", "b.tar.gz");
        check("https://example.com/a/b.tar.gz?x=/y#/z", "b.tar.gz");
        check("https://example.com/dir/", "dir");
        check("https://example.com/a%20b", "a b");
        check("https://example.com/a%2Fb", "b");
        check("https://example.com", UNNAMED);
        check("https://example.com/", UNNAMED);
        check("https://example.com/?f=x", UNNAMED);
        check("https://example.com/a/%2e%2e", UNNAMED);
        check("https://example.com/a/..", UNNAMED);
        check("https://example.com/a/%2e%2e%2f", UNNAMED);
        check("https://example.com/a%00b", UNNAMED);
        check("no url", UNNAMED);
    }

    proptest::proptest! {
        #[test]
        fn is_one_component_of_a_path(path in ".{0,80}") {
            for url in [path.clone(), format!("http://h/{path}")] {
                let name = file_name_of_url(&url);
                assert!(is_file_name(&name) || name.len() > 255, "{name:?}");
            }
        }
    }
}
