//! What stands behind the `?` of an address, and what is the same in all lists that come in pages.

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::errors::{ApiError, Code};

/// The parameters, decoded, in their order.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads them.
    pub fn new(text: Option<&str>) -> Query {
        Query(url::form_urlencoded::parse(text.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// Returns the first of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Returns all of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Reads `n`: how many entries are wanted, at most `most`; `None` where it does not say.
    ///
    /// More than `most` is no error, but never makes more: CVE-2023-2253.
    pub fn count(&self, most: usize) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.get("n") else { return Ok(None) };
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<usize>() {
            Ok(count) => Ok(Some(count.min(most))),
            // More than fits is more than `most`.
            Err(_) if digits => Ok(Some(most)),
            Err(_) => Err(ApiError::new(Code::PaginationNumberInvalid)
                .detail(serde_json::json!({"n": text.chars().take(64).collect::<String>()}))),
        }
    }
}

/// Takes one page of what is sorted; tells whether more is to come.
///
/// `last`: the page starts after it, whether it is there or not.
pub fn page<T: AsRef<str>>(
    all: impl IntoIterator<Item = T>,
    last: Option<&str>,
    count: usize,
) -> (Vec<T>, bool) {
    let mut rest = all.into_iter().filter(|entry| last.is_none_or(|last| entry.as_ref() > last));
    let page: Vec<T> = rest.by_ref().take(count).collect();
    let more = !page.is_empty() && rest.next().is_some();
    (page, more)
}

/// What needs no escape in a query.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Makes the header that leads to the next page (RFC 8288).
pub fn next_link(path: &str, parameters: &[(&str, &str)]) -> HeaderValue {
    let query: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, KEPT)))
        .collect();
    super::reply::text(&format!("<{path}?{}>; rel=\"next\"", query.join("&")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_start_after_the_last() {
        let all = ["a", "b", "c", "d"];
        assert_eq!(page(all, None, 2), (vec!["a", "b"], true));
        assert_eq!(page(all, Some("b"), 2), (vec!["c", "d"], false));
        assert_eq!(page(all, Some("bb"), 1), (vec!["c"], true));
        assert_eq!(page(all, Some("z"), 1), (vec![], false));
        assert_eq!(page(all, None, 0), (vec![], false));
    }

    #[test]
    fn counts_are_bounded() {
        let count = |text: &str| Query::new(Some(text)).count(100);
        assert_eq!(count("").unwrap(), None);
        assert_eq!(count("n=0").unwrap(), Some(0));
        assert_eq!(count("n=7&n=x").unwrap(), Some(7));
        assert_eq!(count("n=101").unwrap(), Some(100));
        assert_eq!(count("n=99999999999999999999999999").unwrap(), Some(100));
        for bad in ["n=", "n=-1", "n=x", "n=1e3", "n=0x1", "n=%00", "n= 1"] {
            assert!(count(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn links_are_escaped() {
        let link = next_link("/v2/_catalog", &[("n", "1"), ("last", "a/b>;\"&")]);
        assert_eq!(link, "</v2/_catalog?n=1&last=a/b%3E%3B%22%26>; rel=\"next\"");
    }
}
