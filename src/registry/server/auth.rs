//! Who may do what: basic authentication (RFC 7617) by the users of a file, pulls for all where that is said.
//!
//! Not here: the file (`htpasswd`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, header};
use tokio::sync::Semaphore;

use super::errors::{ApiError, Code};
use super::htpasswd::Htpasswd;

/// How many passwords are looked at at once; the others wait without a thread.
const AT_ONCE: usize = 8;

/// Who may come in.
#[derive(Debug)]
pub struct Auth {
    users: std::sync::Arc<Htpasswd>,
    /// Whether who shows no password may pull.
    anonymous_pull: bool,
    gate: Semaphore,
}

impl Auth {
    /// Lets in the users of a file.
    pub fn new(users: Htpasswd, anonymous_pull: bool) -> Auth {
        Auth { users: std::sync::Arc::new(users), anonymous_pull, gate: Semaphore::new(AT_ONCE) }
    }

    /// Returns the user's name, `None` for who has none and needs none.
    pub async fn check(&self, method: &Method, headers: &HeaderMap) -> Result<Option<String>, ApiError> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            let reads = *method == Method::GET || *method == Method::HEAD;
            return if self.anonymous_pull && reads { Ok(None) } else { Err(refused()) };
        };
        let (user, password) = credentials(value).ok_or_else(refused)?;
        // Who is known does not wait behind those who guess.
        let (users, name, secret) = (self.users.clone(), user.clone(), password.clone());
        let known = tokio::task::spawn_blocking(move || users.remembers(&name, &secret)).await;
        if known.unwrap_or(false) {
            return Ok(Some(user));
        }
        let _turn = self.gate.acquire().await.map_err(|_| refused())?;
        let (users, name) = (self.users.clone(), user.clone());
        // Takes as long as bcrypt does.
        let right = tokio::task::spawn_blocking(move || users.check(&name, &password)).await;
        if right.unwrap_or(false) { Ok(Some(user)) } else { Err(refused()) }
    }
}

fn refused() -> ApiError {
    ApiError::new(Code::Unauthorized).header(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Basic realm=\"rbuild registry\", charset=\"UTF-8\""),
    )
}

/// Reads `Basic BASE64(USER:PASSWORD)`.
fn credentials(value: &HeaderValue) -> Option<(String, String)> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_as_rfc_7617_has_them() {
        let check = |text: &'static str, expect: Option<(&str, &str)>| {
            let expect = expect.map(|(user, password)| (user.to_owned(), password.to_owned()));
            assert_eq!(credentials(&HeaderValue::from_static(text)), expect, "{text}");
        };
        check("Basic bWU6c2VjcmV0", Some(("me", "secret")));
        check("basic bWU6YTpi", Some(("me", "a:b")));
        check("Basic Og==", Some(("", "")));
        for bad in ["", "Basic", "Basic !", "Bearer bWU6c2VjcmV0", "Basic bWU=", "Basic //79"] {
            check(bad, None);
        }
    }

    #[test]
    fn who_is_known_does_not_wait_behind_those_who_guess() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        std::fs::write(&path, format!("me:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
        let auth = Auth::new(Htpasswd::open(&path).unwrap(), false);
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic bWU6c2VjcmV0"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let ask = || auth.check(&Method::GET, &headers);
            assert!(matches!(ask().await, Ok(Some(user)) if user == "me"));
            // All turns are taken by those who guess.
            let _taken = auth.gate.acquire_many(AT_ONCE as u32).await.unwrap();
            let again = tokio::time::timeout(std::time::Duration::from_secs(30), ask()).await;
            assert!(matches!(again, Ok(Ok(Some(user))) if user == "me"));
        });
    }
}
