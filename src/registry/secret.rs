//! What proves who we are to a registry; shown by nothing.
//!
//! Not here: where it is kept (`config_file`, `helper`), and to whom it goes (`auth`).

use std::fmt;

/// A registry's credentials.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    Password {
        user: String,
        password: String,
    },
    /// A refresh token, exchanged for others by the registry's token server (docker: identity token).
    Identity(String),
    /// A token for the registry itself (docker: registry token).
    Registry(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// The user name that stands for "the secret is an identity token" where there is no field for that.
pub const TOKEN_USER: &str = "<token>";

impl Secret {
    /// Makes the credentials of a user name and what is kept with it.
    pub fn of(user: String, secret: String) -> Secret {
        match user.as_str() {
            TOKEN_USER => Secret::Identity(secret),
            _ => Secret::Password { user, password: secret },
        }
    }

    /// Returns the user, where it is known.
    pub fn user(&self) -> Option<&str> {
        match self {
            Secret::Password { user, .. } => Some(user),
            _ => None,
        }
    }
}
