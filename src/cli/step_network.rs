//! Options of `build` about names and time in RUN steps: `--dns` and the like, `--step-timeout`.
//!
//! The words are docker's where it has them. Not here: `--network` (`build`), proxies (`reach`).

use std::net::IpAddr;

use clap::Args;

use super::config;
use super::error::CommandError;
use super::reach::duration;
use super::world;
use crate::build::{DnsOptions, StepOptions};
use crate::plan::graph::NetworkMode;

/// The options.
#[derive(Debug, Default, Args)]
pub struct StepNetworkArgs {
    /// A DNS server for RUN steps, instead of this machine's
    #[arg(long, value_name = "ADDRESS", help_heading = "Network options")]
    pub dns: Vec<String>,
    /// A domain in which RUN steps look for short names; `.` for none
    #[arg(long, value_name = "DOMAIN", help_heading = "Network options")]
    pub dns_search: Vec<String>,
    /// An option of the resolver in RUN steps, as `ndots:2`: resolv.conf(5)
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION", help_heading = "Network options")]
    pub dns_option: Vec<String>,
    /// Stop a RUN step that is not done after this time, as `10m` or `90s`, and fail
    #[arg(long, value_name = "DURATION", help_heading = "Network options")]
    pub step_timeout: Option<String>,
}

impl StepNetworkArgs {
    /// Puts what was given into the options of steps; returns what there is to say about it.
    pub fn apply(&self, step: &mut StepOptions, network: NetworkMode) -> Result<Vec<String>, CommandError> {
        step.silence = world::silence();
        let config = &config::get()?.build;
        let timeout = self.step_timeout.as_deref().or(config.step_timeout.as_deref());
        step.timeout = timeout.map(|text| duration("--step-timeout", text)).transpose()?;
        step.dns = match self.dns.is_empty() {
            true => self.dns(config.dns.as_deref().unwrap_or_default())?,
            false => self.dns(&self.dns)?,
        };
        let mut notes = Vec::new();
        if step.dns.is_default() {
            return Ok(notes);
        }
        if network == NetworkMode::None {
            let options =
                "note: --dns, --dns-search and --dns-option have no effect: RUN steps have no network";
            notes.push(options.to_owned());
        }
        if network == NetworkMode::Default
            && let Some(server) = step.dns.loopback().next()
        {
            notes.push(format!(
                "warning: the DNS server {server} of --dns is on the loopback of this machine, which RUN steps in a \
                 network of their own do not reach; leave it out, and the resolver of this machine is asked for \
                 them, or build with `--network host`"
            ));
        }
        Ok(notes)
    }

    fn dns(&self, servers: &[String]) -> Result<DnsOptions, CommandError> {
        read_dns(servers, &self.dns_search, &self.dns_option)
    }
}

/// Reads `--dns`, `--dns-search` and `--dns-option`.
pub fn read_dns(
    servers: &[String],
    search: &[String],
    options: &[String],
) -> Result<DnsOptions, CommandError> {
    let server = |text: &String| {
        text.trim().parse::<IpAddr>().map_err(|_| {
            CommandError::usage(format!("bad --dns `{text}`: it is no IP address"))
                .hint("a DNS server is known by its address, as in `--dns 192.0.2.53`")
        })
    };
    let servers = servers.iter().map(server).collect::<Result<_, _>>()?;
    let search = search.iter().map(|text| domain(text)).collect::<Result<_, _>>()?;
    let options = options.iter().map(|text| option(text)).collect::<Result<_, _>>()?;
    Ok(DnsOptions { servers, search, options })
}

/// Checks a domain as docker does, but lets underscores pass, which resolvers know.
fn domain(text: &str) -> Result<String, CommandError> {
    let text = text.trim();
    let label = |label: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(fits) && !label.starts_with('-')
    };
    let bare = text.strip_suffix('.').unwrap_or(text);
    match text == "." || bare.len() <= 253 && bare.split('.').all(label) {
        true => Ok(text.to_owned()),
        false => Err(CommandError::usage(format!("bad --dns-search `{text}`: it is no domain"))),
    }
}

/// Checks an option: one word, since more would be other options, or other lines of the file.
fn option(text: &str) -> Result<String, CommandError> {
    let text = text.trim();
    match !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#' && b != b';') {
        true => Ok(text.to_owned()),
        false => {
            Err(CommandError::usage(format!("bad --dns-option `{}`: it is no word", text.escape_debug())))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn args(dns: &[&str], search: &[&str], options: &[&str]) -> StepNetworkArgs {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        StepNetworkArgs {
            dns: own(dns),
            dns_search: own(search),
            dns_option: own(options),
            step_timeout: None,
        }
    }

    fn notes(args: &StepNetworkArgs, network: NetworkMode) -> String {
        args.apply(&mut StepOptions::default(), network).map_err(|error| error.text()).unwrap().join("\n")
    }

    #[test]
    fn addresses_domains_and_options_are_checked() {
        let check =
            |args: StepNetworkArgs, good: bool| assert_eq!(args.dns(&args.dns).is_ok(), good, "{args:?}");
        check(args(&["192.0.2.1", "2001:db8::1"], &["example.com", "a_b.c.", "."], &["ndots:2"]), true);
        for bad in ["", "localhost", "192.0.2", "192.0.2.1:53", "1.1.1.1\nnameserver 2.2.2.2"] {
            check(args(&[bad], &[], &[]), false);
        }
        for bad in ["", "a b", "a..b", "-a", "a\nnameserver 1.1.1.1", &"a".repeat(64)] {
            check(args(&[], &[bad], &[]), false);
        }
        for bad in ["", "a b", "rotate\nnameserver 1.1.1.1", "#x"] {
            check(args(&[], &[], &[bad]), false);
        }
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let dns = args(&["192.0.2.1"], &[], &[]);
        assert_eq!(notes(&dns, NetworkMode::Default), "");
        assert!(notes(&dns, NetworkMode::None).contains("no effect"));
        let local = args(&["127.0.0.53"], &[], &[]);
        assert!(notes(&local, NetworkMode::Default).contains("127.0.0.53"));
        assert_eq!(notes(&local, NetworkMode::Host), "");
        assert_eq!(notes(&args(&[], &[], &[]), NetworkMode::None), "");
    }

    #[test]
    fn a_limit_of_time() {
        let limit = |text: &str| {
            let mut step = StepOptions::default();
            let args = StepNetworkArgs { step_timeout: Some(text.to_owned()), ..Default::default() };
            args.apply(&mut step, NetworkMode::Default).map(|_| step.timeout).ok().flatten()
        };
        assert_eq!(limit("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(limit("10"), None);
        assert_eq!(limit("0s"), None);
    }
}
