//! What a server wants to see before it answers: `WWW-Authenticate` (RFC 9110, 11.6.1).
//!
//! Pure. Not here: answering it (`auth`).

/// A demand for credentials, of a kind we can meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    Basic,
    /// A token from elsewhere (distribution, "Token Authentication Specification").
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

/// Reads the values of all `WWW-Authenticate` headers; a token is preferred to a password.
pub fn read<'h>(headers: impl IntoIterator<Item = &'h str>) -> Option<Challenge> {
    let mut basic = None;
    for header in headers {
        for (scheme, parameters) in parse(header) {
            let get = |name: &str| {
                let found = parameters.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = get("realm")
            {
                return Some(Challenge::Bearer { realm, service: get("service") });
            }
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

type Parsed = (String, Vec<(String, String)>);

/// Splits a header into its challenges; what cannot be read ends it.
fn parse(header: &str) -> Vec<Parsed> {
    let mut all: Vec<Parsed> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            return all;
        }
        let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        match (value, all.last_mut()) {
            // `name=value` belongs to the challenge before it, any other word starts the next.
            (Some(value), Some((_, parameters))) => {
                let Some((value, after)) = parameter(value.trim_start_matches([' ', '\t'])) else {
                    return all;
                };
                parameters.push((word.to_owned(), value));
                rest = after;
            }
            (Some(_), None) => return all,
            (None, _) => {
                all.push((word.to_owned(), Vec::new()));
                rest = after;
            }
        }
    }
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// Reads a token or a quoted string (RFC 9110, 5.6.4).
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Slashes and colons are no part of a token, but unquoted URLs have been seen.
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
    }

    #[test]
    fn reads_what_servers_send() {
        let check = |headers: &[&str], expect: Option<Challenge>| {
            assert_eq!(read(headers.iter().copied()), expect, "{headers:?}");
        };
        check(
            &[r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#],
            bearer("https://auth.docker.io/token", Some("registry.docker.io")),
        );
        check(
            &[r#"bearer service="a, b=\"c\"" , realm = "https://a/t?x=1,2",scope="repository:a:pull,push""#],
            bearer("https://a/t?x=1,2", Some(r#"a, b="c""#)),
        );
        check(&[r#"Basic realm="x", Bearer realm="https://a/""#], bearer("https://a/", None));
        check(&[r#"Negotiate, Basic realm="x""#], Some(Challenge::Basic));
        check(&["Negotiate", "Bearer realm=https://a/t,service=s"], bearer("https://a/t", Some("s")));
        check(&["Basic"], Some(Challenge::Basic));
        check(&["Bearer"], None);
        check(&[r#"Bearer realm="https://a"#], None);
        check(&[r#"realm="https://a""#], None);
        check(&["", ",,", "=\"", "\u{e9}"], None);
        check(&[], None);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(header in ".*") {
            read([header.as_str()]);
        }
    }
}
