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
    name: Option<String>,
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
            None | Some("" | "." | "..") => None,
            Some(name) => Some(name.to_owned()).filter(|name| !name.contains('\0')),
        };
        Ok(HttpAddress {
            url: plain,
            host: url.host.to_owned(),
            name,
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

    /// Returns the path's last name, decoded: one component, never `.` or `..`; `None` where it has none.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the name of what ADD puts down: [`HttpAddress::name`], else `__unnamed__`, as in BuildKit.
    pub fn added_name(&self) -> &str {
        self.name().unwrap_or("__unnamed__")
    }

    /// Returns the name of a build context: [`HttpAddress::name`], else `context`, as in BuildKit.
    pub fn file_name(&self) -> &str {
        self.name().unwrap_or("context")
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
