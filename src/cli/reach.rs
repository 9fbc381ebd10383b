//! Options about the way to registries, URLs and repositories: how often it is tried, through which proxy.
//!
//! Not here: what a step sees of a network (`step_network`), reading the environment (`world`).

use std::time::Duration;

use clap::Args;

use super::config;
use super::error::CommandError;
use super::when;
use super::world::{self, World, environment_proxies};
use crate::net::{ProxySettings, RetryPolicy, show_proxy};

/// The most repetitions that can be asked for.
const MOST: u32 = 100;

/// The options.
#[derive(Debug, Default, Args)]
pub struct ReachArgs {
    /// How often a pull, push or fetch that failed is tried again, where that may help; without it 3 times
    #[arg(long, value_name = "N", help_heading = "Network options")]
    pub retry: Option<u32>,
    /// The pause before the first of these, as `2s`; each is twice as long as the one before; without it 500ms
    #[arg(long, value_name = "DURATION", help_heading = "Network options")]
    pub retry_delay: Option<String>,
    /// Reach all through this proxy, RUN steps too; `env` gives RUN steps the proxies of the environment,
    /// `none` uses none
    ///
    /// Without it, rbuild itself uses the proxies of the environment, and where that has none those of
    /// docker's config.json, which RUN steps get in any case.
    #[arg(long, value_name = "URL | env | none", help_heading = "Network options")]
    pub proxy: Option<String>,
    /// Proxies of a config file, where the environment has none.
    #[arg(skip)]
    pub configured: ProxySettings,
}

/// The proxies of RUN steps, by their upper-case names.
pub type StepProxies = Vec<(&'static str, String)>;

/// How the world is reached.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    pub retry: RetryPolicy,
    /// Whether `proxies` are all there are.
    pub only: bool,
    proxies: ProxySettings,
    /// Those of docker's config.json, which count last.
    docker: ProxySettings,
}

impl Reach {
    /// Returns the proxies to registries, given those of the environment; docker's files come after them.
    pub fn proxies(&self, environment: ProxySettings) -> ProxySettings {
        match self.only {
            true => self.proxies.clone(),
            false => environment.or(&self.proxies),
        }
    }

    /// Returns the proxies to all that is no registry.
    pub fn fetch_proxies(&self, environment: ProxySettings) -> ProxySettings {
        self.proxies(environment).or(&self.docker)
    }
}

impl ReachArgs {
    /// Tells a command's world how to reach others; returns the proxies for RUN steps by their names, and
    /// what there is to say.
    pub fn apply(&self, world: &World) -> Result<(StepProxies, Option<String>), CommandError> {
        // A file that cannot be read is an error for who needs a registry; a build may need none.
        let (docker, note) = match self.asks_docker().then(|| world.step_proxies()) {
            None => (Vec::new(), None),
            Some(Ok(found)) => (found, None),
            Some(Err(error)) => {
                (Vec::new(), Some(format!("warning: no proxies for RUN steps: {}", error.message)))
            }
        };
        let config = config::get()?;
        let completed = ReachArgs {
            retry: self.retry.or(config.build.retry.map(|count| u32::try_from(count).unwrap_or(u32::MAX))),
            retry_delay: self.retry_delay.clone().or_else(|| config.build.retry_delay.clone()),
            proxy: self.proxy.clone(),
            configured: world::configured_proxies()?,
        };
        let (reach, steps) = completed.read(&environment_proxies(), docker)?;
        world.reach(reach);
        Ok((steps, note))
    }

    fn asks_docker(&self) -> bool {
        !matches!(self.proxy.as_deref(), Some("none" | "env"))
    }

    fn read(
        &self,
        environment: &ProxySettings,
        docker: StepProxies,
    ) -> Result<(Reach, StepProxies), CommandError> {
        let retry = self.policy()?;
        match self.proxy.as_deref() {
            Some("none") => Ok((Reach { retry, only: true, ..Reach::default() }, Vec::new())),
            Some("env") => {
                let steps = environment.clone().or(&self.configured).variables();
                let reach = Reach { retry, proxies: self.configured.clone(), ..Reach::default() };
                Ok((reach, steps))
            }
            Some(proxy) => {
                let shown = |error: crate::net::NetError| {
                    CommandError::usage(format!("bad --proxy `{}`: {}", error.url(), error.problem()))
                        .hint("a proxy is written [http://]HOST:PORT, also with https, socks5 or socks5h")
                };
                show_proxy(proxy).map_err(shown)?;
                let exceptions =
                    docker.into_iter().find(|(name, _)| *name == "NO_PROXY").map(|(_, list)| list);
                let no_proxy = environment.no_proxy.clone().or_else(|| self.configured.no_proxy.clone());
                let proxies = ProxySettings {
                    http: Some(proxy.to_owned()),
                    https: Some(proxy.to_owned()),
                    all: None,
                    no_proxy: no_proxy.or(exceptions),
                };
                let steps = proxies.variables();
                Ok((Reach { retry, only: true, proxies, ..Reach::default() }, steps))
            }
            None => {
                let find = |name: &str| docker.iter().find(|(own, _)| *own == name).map(|(_, v)| v.clone());
                let of_docker = ProxySettings {
                    http: find("HTTP_PROXY"),
                    https: find("HTTPS_PROXY"),
                    all: find("ALL_PROXY"),
                    no_proxy: find("NO_PROXY"),
                };
                // The config file is rbuild's own: what it says is for steps, too, as docker's is.
                let mut steps = self.configured.variables();
                for (name, value) in docker {
                    if !steps.iter().any(|(own, _)| *own == name) {
                        steps.push((name, value));
                    }
                }
                let proxies = self.configured.clone();
                Ok((Reach { retry, only: false, proxies, docker: of_docker }, steps))
            }
        }
    }

    fn policy(&self) -> Result<RetryPolicy, CommandError> {
        let mut policy = RetryPolicy::default();
        if let Some(count) = self.retry {
            if count > MOST {
                return Err(CommandError::usage(format!("bad --retry `{count}`: it is at most {MOST}")));
            }
            policy.tries = count + 1;
        }
        if let Some(text) = &self.retry_delay {
            let pause = duration("--retry-delay", text)?;
            policy.first_pause = pause;
            policy.longest_pause = policy.longest_pause.max(pause);
            policy.longest_asked = policy.longest_asked.max(pause);
        }
        Ok(policy)
    }
}

/// Reads a duration that is more than none, as Go writes them.
pub fn duration(option: &str, text: &str) -> Result<Duration, CommandError> {
    let nanos = when::duration(text.trim()).filter(|nanos| *nanos > 0);
    let nanos = nanos.and_then(|nanos| u64::try_from(nanos).ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| {
        CommandError::usage(format!("bad {option} `{text}`: it is no duration"))
            .hint("a duration is written `90s`, `10m` or `1h30m`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(http: &str) -> ProxySettings {
        ProxySettings { http: Some(http.to_owned()), ..ProxySettings::default() }
    }

    type Read = (ProxySettings, StepProxies);

    fn read(proxy: Option<&str>, configured: &str, environment: &str, docker: &str) -> Read {
        let of = |text: &str| if text.is_empty() { ProxySettings::default() } else { settings(text) };
        let args =
            ReachArgs { proxy: proxy.map(str::to_owned), configured: of(configured), ..ReachArgs::default() };
        let (reach, steps) = args.read(&of(environment), of(docker).variables()).unwrap();
        (reach.fetch_proxies(of(environment)), steps)
    }

    #[test]
    fn which_proxy_is_whose() {
        let check = |found: Read, ours: &str, steps: &str| {
            assert_eq!(found.0.http.as_deref().unwrap_or_default(), ours);
            let http = found.1.iter().find(|(name, _)| *name == "HTTP_PROXY");
            assert_eq!(http.map(|(_, value)| value.as_str()).unwrap_or_default(), steps);
        };
        check(read(None, "", "", ""), "", "");
        check(read(None, "", "e", ""), "e", "");
        check(read(None, "", "e", "d"), "e", "d");
        check(read(None, "", "", "d"), "d", "d");
        check(read(None, "c", "", "d"), "c", "c");
        check(read(None, "c", "e", "d"), "e", "c");
        check(read(Some("env"), "", "e", "d"), "e", "e");
        check(read(Some("none"), "c", "e", "d"), "", "");
        check(read(Some("http://p:1"), "c", "e", "d"), "http://p:1", "http://p:1");
    }

    #[test]
    fn a_bad_proxy_is_refused_without_its_password() {
        for bad in ["ftp://u:pw@h", "http://u:pw@", "u:pw@a b"] {
            let args = ReachArgs { proxy: Some(bad.to_owned()), ..ReachArgs::default() };
            let error = args.read(&ProxySettings::default(), Vec::new()).unwrap_err().text();
            assert!(error.contains("bad --proxy") && !error.contains("pw"), "{error}");
        }
    }

    #[test]
    fn how_often_and_how_fast() {
        let policy = |retry, delay: Option<&str>| {
            ReachArgs { retry, retry_delay: delay.map(str::to_owned), ..ReachArgs::default() }.policy()
        };
        assert_eq!(policy(None, None).unwrap(), RetryPolicy::default());
        assert_eq!(policy(Some(0), None).unwrap().tries, 1);
        let slow = policy(Some(5), Some("2m")).unwrap();
        assert_eq!((slow.tries, slow.pause(1, None)), (6, Some(Duration::from_secs(120))));
        assert!(policy(Some(101), None).is_err());
        for bad in ["", "5", "-1s", "0s", "soon"] {
            assert!(policy(None, Some(bad)).is_err(), "{bad}");
        }
    }
}
