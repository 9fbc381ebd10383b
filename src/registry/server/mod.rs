//! The server's side of the OCI distribution specification.
//!
//! `htpasswd` knows who may come in.

mod htpasswd;

pub use htpasswd::{Htpasswd, HtpasswdError};
