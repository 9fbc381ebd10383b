//! The address of a file on a web server.

use std::fmt;

use super::error::AddressError;
use super::url::Credentials;
use super::url::Url;
use super::url::decode;
use super::url::encode;

/// An `http://` or `https://` address that is not git's.
///
/// `Debug` and `Display` show it without user name and password.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpAddress {
    /// Without user and fragment.
    url: String,
    host: String,
    name: String,
    encrypted: bool,
    credentials: Option<Credentials>,
}

impl HttpAddress {
    pub(super) fn new(url: &Url<'_>) -> Result<HttpAddress, AddressError> {
        let mut plain = url.plain();
        if let Some(query) = url.query {
            plain.push('?');
            plain.push_str(&encode(query));
        }
        let path = decode(url.path).map_err(|why| AddressError::new(url.text, why))?;
        let name = match path.trim_end_matches('/').rsplit('/').next() {
            None | Some("" | "." | "..") => "context",
            Some(name) if name.contains('\0') => "context",
            Some(name) => name,
        };
        Ok(HttpAddress {
            url: plain,
            host: url.host.to_owned(),
            name: name.to_owned(),
            encrypted: url.scheme == "https",
            credentials: url.credentials.clone(),
        })
    }

    /// Returns the URL without user, password and fragment: for requests, keys and people.
    pub fn redacted(&self) -> &str {
        &self.url
    }

    /// Returns the user and password of the address; never to be shown or kept.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// Returns the host, with the port if one is given.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Tells whether it is `https`.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Returns the name that a file from here has if the server names none: the path's last name, decoded.
    ///
    /// One component, never `.` or `..`; `context` where the path has none, as in BuildKit.
    pub fn file_name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl fmt::Debug for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpAddress({})", self.url)
    }
}
