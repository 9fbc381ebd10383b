//! Searching a registry for repositories, by the `/v1/search` that docker's index has.
//!
//! Not here: how what is found is shown (`cli`), answering such a search (`server`).

use serde::Deserialize;
use url::form_urlencoded::Serializer;

use super::auth::Wanted;
use super::error::RegistryError;
use super::host::{DOCKER_HUB, Endpoint};
use super::registries::Registries;
use super::settings::is_host;
use super::transport::{Ask, protocol, refused};
use crate::net::Method;

/// The server that answers searches of docker.io.
const DOCKER_HUB_INDEX: &str = "index.docker.io";
/// The longest answer that is read: a hundred results, with room.
const LONGEST: u64 = 4 * 1024 * 1024;

/// One repository that was found. All of it is the server's word: untrusted text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FoundRepository {
    pub name: String,
    #[serde(deserialize_with = "or_default")]
    pub description: String,
    #[serde(deserialize_with = "or_default")]
    pub star_count: i64,
    #[serde(deserialize_with = "or_default")]
    pub is_official: bool,
    #[serde(deserialize_with = "or_default")]
    pub is_automated: bool,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default, deserialize_with = "or_default")]
    results: Vec<FoundRepository>,
}

/// Which index is asked for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchTerm {
    /// The registry: `docker.io` or `host[:port]`.
    pub domain: String,
    /// What is searched there; empty: everything.
    pub words: String,
}

impl SearchTerm {
    /// Reads a term as docker does: what stands before the first `/` is a registry if it has a dot or a colon
    /// or is `localhost`.
    pub fn read(text: &str) -> Result<SearchTerm, RegistryError> {
        if let Some((domain, words)) = text.split_once('/')
            && (domain.contains(['.', ':']) || domain == "localhost")
            && !matches!(domain, DOCKER_HUB | DOCKER_HUB_INDEX)
        {
            return match is_host(domain) {
                true => Ok(SearchTerm { domain: domain.to_owned(), words: words.to_owned() }),
                false => Err(RegistryError::NoSuchHost { text: domain.to_owned() }),
            };
        }
        let own =
            [DOCKER_HUB, DOCKER_HUB_INDEX].iter().find_map(|host| text.strip_prefix(host)?.strip_prefix('/'));
        let words = own.unwrap_or(text);
        let words = words.strip_prefix("library/").unwrap_or(words);
        Ok(SearchTerm { domain: DOCKER_HUB.to_owned(), words: words.to_owned() })
    }
}

impl Registries {
    /// Asks for repositories; at most `limit` come, in the server's order.
    ///
    /// For docker.io the mirrors are asked first, then its index. Credentials go to the server they are for,
    /// when it asks for them.
    pub fn search(
        &self,
        term: &SearchTerm,
        limit: usize,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Vec<FoundRepository>, RegistryError> {
        let query = Serializer::new(String::new())
            .append_pair("q", &term.words)
            .append_pair("n", &limit.to_string())
            .finish();
        let path = format!("/v1/search?{query}");
        let settings = &self.known()?.settings;
        for mirror in Endpoint::mirrors(&term.domain, settings) {
            match self.search_at(&mirror, &path, limit, cancel) {
                Err(error) if error.is_cancelled() => return Err(error),
                // Whatever a mirror lacks, the index itself may have.
                Err(_) => {}
                found => return found,
            }
        }
        let home = match term.domain.as_str() {
            DOCKER_HUB => Endpoint::home(DOCKER_HUB_INDEX, settings),
            domain => Endpoint::home(domain, settings),
        };
        self.retrying(cancel, || self.search_at(&home, &path, limit, cancel))
    }

    fn search_at(
        &self,
        endpoint: &Endpoint,
        path: &str,
        limit: usize,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Vec<FoundRepository>, RegistryError> {
        let mut ask = Ask::new(Method::Get, path.to_owned()).header("Accept", "application/json");
        ask.wanted = Wanted { scopes: vec!["registry:catalog:search".to_owned()], ..Wanted::default() };
        let reply = self.ask(endpoint, &mut ask, cancel)?;
        if reply.status() != 200 {
            let what = format!("a search (/v1/search) at `{}`", endpoint.host);
            return Err(refused(endpoint, &endpoint.host, &what, reply, cancel));
        }
        let answer: Answer = serde_json::from_slice(&reply.bytes(LONGEST, cancel)?)
            .map_err(|e| protocol(endpoint, &format!("what its search found cannot be read: {e}")))?;
        let mut results = answer.results;
        results.truncate(limit);
        Ok(results)
    }
}

/// Takes `null` for what is left out.
fn or_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_of_a_term() {
        let check = |text: &str, domain: &str, words: &str| {
            let expect = SearchTerm { domain: domain.to_owned(), words: words.to_owned() };
            assert_eq!(SearchTerm::read(text).unwrap(), expect, "{text}");
        };
        check("debian", "docker.io", "debian");
        check("library/debian", "docker.io", "debian");
        check("some/one", "docker.io", "some/one");
        check("docker.io/library/debian", "docker.io", "debian");
        check("index.docker.io/some/one", "docker.io", "some/one");
        check("localhost:5000/debian", "localhost:5000", "debian");
        check("localhost/library/debian", "localhost", "library/debian");
        check("r.example.com/", "r.example.com", "");
        check("localhost:5000", "docker.io", "localhost:5000");
        check("two words", "docker.io", "two words");
        assert!(SearchTerm::read("a b.c/x").is_err() && SearchTerm::read("u:p@host/x").is_err());
    }

    #[test]
    fn answers_are_read_with_what_is_left_out() {
        let read = |text: &str| serde_json::from_str::<Answer>(text).map(|answer| answer.results);
        let found =
            read(r#"{"results":[{"name":"a","description":null,"star_count":3,"is_official":true,"x":1}]}"#);
        let expect =
            FoundRepository { name: "a".into(), star_count: 3, is_official: true, ..Default::default() };
        assert_eq!(found.unwrap(), [expect]);
        assert_eq!(read(r#"{"num_results":0,"results":null}"#).unwrap(), []);
        assert!(read("3").is_err() && read(r#"{"results":[1]}"#).is_err());
    }
}
