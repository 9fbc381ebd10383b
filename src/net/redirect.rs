//! Where a redirect may lead.
//!
//! As curl and browsers do: only http and https, at most ten, and credentials stay with the origin
//! that they are for, as `client` sees to. From https to http is followed, as both do for what
//! carries no credentials; a request that carried some is refused there, since its path or query
//! may be as secret as they are.

use url::Url;

use super::address;
use super::error::Problem;

/// How many redirects are followed.
pub const MOST: usize = 10;

/// Tells whether a status is a redirect of a GET (RFC 9110, 15.4; 300 and 304 are none).
pub fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// Returns where the `Location` of an answer leads; `authenticated`: whether any request so far had credentials.
pub fn target(from: &Url, location: Option<&str>, authenticated: bool) -> Result<Url, Problem> {
    let refuse = |to: &str, why: &'static str| Problem::Redirect { to: address::show_url(to), why };
    let location = location.ok_or_else(|| refuse("", "it does not say where to"))?;
    let to = from.join(location).map_err(|_| refuse(location, "that is not a URL"))?;
    match (from.scheme(), to.scheme()) {
        ("https", "http") if authenticated => {
            Err(refuse(to.as_str(), "a request with credentials does not go on without TLS"))
        }
        (_, "http" | "https") => Ok(to),
        _ => Err(refuse(to.as_str(), "only http and https are fetched")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leads_where_it_may() {
        let check = |from: &str, location: &str, authenticated: bool, expect: Result<&str, &str>| {
            let found = target(&Url::parse(from).unwrap(), Some(location), authenticated);
            match (found, expect) {
                (Ok(url), Ok(expect)) => assert_eq!(url.as_str(), expect),
                (Err(problem), Err(expect)) => {
                    let text = problem.to_string();
                    assert!(text.contains(expect), "{text}");
                }
                (found, _) => panic!("{from} {location}: {found:?}"),
            }
        };
        check("https://a/b/c", "d", false, Ok("https://a/b/d"));
        check("https://a/b", "//c/d", true, Ok("https://c/d"));
        check("http://a/b", "https://a/b", true, Ok("https://a/b"));
        check("https://a/b", "http://a/b", false, Ok("http://a/b"));
        check("https://a/b", "http://a/b", true, Err("without TLS"));
        check("https://a/b", "file:///etc/passwd", false, Err("only http and https"));
        check("https://a/b", "gopher://x", false, Err("only http and https"));
        check("https://a/b", "http://[", false, Err("not a URL"));
        let from = Url::parse("http://a").unwrap();
        assert!(target(&from, None, false).unwrap_err().to_string().contains("does not say where"));
    }

    #[test]
    fn redirects_are_told_from_other_answers() {
        let all: Vec<u16> = (200..400).filter(|s| is_redirect(*s)).collect();
        assert_eq!(all, [301, 302, 303, 307, 308]);
    }
}
