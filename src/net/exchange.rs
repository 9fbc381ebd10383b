//! The network beneath the client: made at the first request, waited for with an eye on the caller.
//!
//! One runtime of tokio on the threads of those who wait; it has no thread of its own but for names
//! that are being looked up. Not here: what is sent (`client`).

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::client::ClientOptions;
use super::tls;

/// How often cancellation is looked at.
pub const TICK: Duration = Duration::from_millis(50);

/// The HTTP client and what drives it.
pub struct Network {
    runtime: Option<Runtime>,
    pub http: reqwest::Client,
    /// Why https cannot work.
    pub no_tls: Option<String>,
}

/// Why waiting ended without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Cancelled,
    TimedOut,
}

impl Network {
    /// Reads the certificates and sets everything up; sends nothing.
    pub fn new(options: &ClientOptions) -> Result<Network, String> {
        let tls = tls::load(&options.tls).map_err(|e| e.to_string())?;
        let proxies = options.proxies.clone();
        let http = reqwest::Client::builder()
            .no_proxy()
            // One that is no proxy was refused before the request.
            .proxy(reqwest::Proxy::custom(move |url| proxies.proxy_for(url).ok().flatten()))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(options.connect_timeout)
            .user_agent(concat!("rbuild/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls.config)
            .build()
            .map_err(|e| e.to_string())?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        Ok(Network { runtime: Some(runtime), http, no_tls: tls.missing })
    }

    /// Waits for a future, at most for `limit`, and until `cancel` says so.
    ///
    /// Several threads may wait at once. Not to be called from asynchronous code.
    pub fn wait<T>(
        &self,
        limit: Duration,
        cancel: &dyn Fn() -> bool,
        future: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        self.wait_moving(limit, cancel, &|| 0, future)
    }

    /// Does [`Network::wait`], and starts `limit` again whenever `moved` returns another number.
    pub fn wait_moving<T>(
        &self,
        limit: Duration,
        cancel: &dyn Fn() -> bool,
        moved: &dyn Fn() -> u64,
        future: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        let runtime = self.runtime.as_ref().expect("it is there until it is dropped");
        runtime.block_on(async {
            let mut future = pin!(future);
            let mut started = Instant::now();
            let mut before = moved();
            loop {
                if cancel() {
                    return Err(Stop::Cancelled);
                }
                let now = moved();
                if now != before {
                    (before, started) = (now, Instant::now());
                }
                let left = limit.saturating_sub(started.elapsed());
                if left.is_zero() {
                    return Err(Stop::TimedOut);
                }
                if let Ok(result) = tokio::time::timeout(TICK.min(left), future.as_mut()).await {
                    return Ok(result);
                }
            }
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // A name that is still being looked up is not waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
