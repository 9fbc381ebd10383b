//! The one way out: everything rbuild fetches over HTTP goes through [`Client`].
//!
//! `client` sends one request and follows redirects, `exchange` waits for the network, `reply`
//! is an answer and its body; `pipe` brings the bytes of a streamed body to the network; `redirect`, `retry`, `proxy` and `address` are the rules, pure;
//! `tls` finds the certificates; `error` has the words. The network code beneath is
//! asynchronous and stays in this room: what it offers blocks and looks at the caller's
//! cancellation many times a second. Nothing here reads the environment, but that the system's
//! certificates are looked for where OpenSSL would (`SSL_CERT_FILE`, `SSL_CERT_DIR`).
//! Not here: what is fetched and kept (`context`), registries.

mod address;
mod client;
mod error;
mod exchange;
mod pipe;
mod proxy;
mod redirect;
mod reply;
mod request;
mod retry;
mod tls;

#[cfg(test)]
#[path = "../../tests/it/common/http.rs"]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;

pub use address::show_url;
pub use client::{Client, ClientOptions, sleep};
pub use error::{NetError, Problem};
pub use proxy::{ProxySettings, is_on_loopback, show_proxy};
pub use reply::{BodyReader, Reply};
pub use request::{Answers, Body, Credentials, Method, Request, WriteBody};
pub use retry::{RetryListener, RetryPolicy, retry_after};
pub use tls::TlsOptions;
