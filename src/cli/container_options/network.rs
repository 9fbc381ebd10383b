//! `--network`, `-p`, `-P`, `--hostname`, `--add-host`, `--dns` and the like.

use std::net::IpAddr;

use clap::Args;

use crate::cli::error::CommandError;
use crate::cli::step_network::read_dns;
use crate::container::options::{ExtraHost, HOST_GATEWAY, NetworkMode, NetworkOptions};
use crate::container::ports::{self, ContainerPort};

/// The options.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkArgs {
    /// The container's network: default (bridge), none, host, or container:NAME, that of another container
    #[arg(long, visible_alias = "net", value_name = "MODE", default_value = "default")]
    network: String,
    /// Let connections to a port of this machine reach one of the container
    #[arg(short, long = "publish", value_name = "[[IP:]HOST:]CONTAINER[/udp]")]
    ports: Vec<String>,
    /// Publish each exposed port at a free port of this machine
    #[arg(short = 'P', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    publish_all: Option<bool>,
    /// Name a port that the container listens on, for -P
    #[arg(long, value_name = "PORT[/udp]")]
    expose: Vec<String>,
    /// The container's host name
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// Put a name and its address in /etc/hosts; `host-gateway` is this machine
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    hosts: Vec<String>,
    /// A DNS server, instead of this machine's
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// A domain in which short names are looked for; `.` for none
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// An option of the resolver, as `ndots:2`: resolv.conf(5)
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Not supported: publish a port, and reach it at `host-gateway`
    #[arg(long = "link", value_name = "CONTAINER[:ALIAS]")]
    links: Vec<String>,
}

impl NetworkArgs {
    /// Tells whether the container is to have a network of its own.
    pub fn is_private(&self) -> bool {
        self.mode().is_ok_and(|mode| mode == NetworkMode::Default)
    }

    /// Reads them.
    pub fn read(&self, notes: &mut Vec<String>) -> Result<NetworkOptions, CommandError> {
        let mode = self.mode()?;
        if let Some(link) = self.links.first() {
            let name = link.split(':').next().unwrap_or(link);
            return Err(CommandError::usage(format!(
                "--link {link} is not supported: each container has a network of its own, and none has an address in that of another"
            ))
            .hint(format!(
                "publish the port of `{name}` (`rbuild run -p 5000:5000 --name {name} ...`) and reach it at this machine's address: \
                 `--add-host {name}:host-gateway`"
            ))
            .hint(format!("or share its network: `--network container:{name}`; its ports are then at localhost")));
        }
        let publish_all = self.publish_all == Some(true);
        let mut ports = ports::parse(&self.ports).map_err(|error| CommandError::usage(error.to_string()))?;
        self.exposed()?;
        if let NetworkMode::Container(_) = mode {
            self.check_joined(publish_all)?;
        }
        let publishes = publish_all || !ports.is_empty();
        if publishes && matches!(mode, NetworkMode::Host | NetworkMode::None) {
            notes.push(format!("WARNING: Published ports are discarded when using {mode} network mode"));
            ports.clear();
        }
        let dns = read_dns(&self.dns, &self.dns_search, &self.dns_option)?;
        if mode == NetworkMode::Default
            && let Some(server) = dns.loopback().next()
        {
            notes.push(format!(
                "WARNING: Localhost DNS setting (--dns={server}) may fail in containers: the loopback of this machine is not \
                 theirs"
            ));
        }
        if let Some(name) = &self.hostname {
            check_hostname(name)?;
        }
        let extra_hosts = self.hosts.iter().map(|text| extra_host(text)).collect::<Result<_, _>>()?;
        Ok(NetworkOptions {
            publish_all: publish_all && mode == NetworkMode::Default,
            hostname: self.hostname.clone(),
            extra_hosts,
            dns,
            ports,
            publish_address: None,
            mode,
        })
    }

    /// Returns the ports of `--expose`.
    pub fn exposed(&self) -> Result<Vec<ContainerPort>, CommandError> {
        ports::exposed(self.expose.iter().map(String::as_str))
            .map_err(|error| CommandError::usage(format!("invalid --expose: {error}")))
    }

    fn mode(&self) -> Result<NetworkMode, CommandError> {
        Ok(match self.network.as_str() {
            "" | "default" | "bridge" => NetworkMode::Default,
            "none" => NetworkMode::None,
            "host" => NetworkMode::Host,
            other => match other.split_once(':') {
                Some(("container", "")) => {
                    return Err(CommandError::usage("invalid container format container:<name|id>"));
                }
                Some(("container", name)) => NetworkMode::Container(name.to_owned()),
                _ => {
                    return Err(CommandError::usage(format!("network {other} not found"))
                        .hint("there are default (or bridge), none, host, and container:NAME")
                        .hint("containers reach each other over published ports: see docs/network.md"));
                }
            },
        })
    }

    /// What belongs to a network is said by the container that it is of.
    fn check_joined(&self, publish_all: bool) -> Result<(), CommandError> {
        let conflicts = [
            (self.hostname.is_some(), "hostname and the network mode"),
            (
                !(self.dns.is_empty() && self.dns_search.is_empty() && self.dns_option.is_empty()),
                "dns and the network mode",
            ),
            (!self.hosts.is_empty(), "custom host-to-IP mapping and the network mode"),
            (publish_all || !self.ports.is_empty(), "port publishing and the container type network mode"),
            (!self.expose.is_empty(), "port exposing and the container type network mode"),
        ];
        match conflicts.iter().find(|(given, _)| *given) {
            Some((_, what)) => Err(CommandError::usage(format!("conflicting options: {what}"))),
            None => Ok(()),
        }
    }
}

fn check_hostname(name: &str) -> Result<(), CommandError> {
    let label = |label: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(fits) && !label.starts_with('-')
    };
    // 64 is what the kernel takes: sethostname(2).
    match name.len() <= 64 && name.split('.').all(label) {
        true => Ok(()),
        false => Err(CommandError::usage(format!("invalid hostname format: {name}"))),
    }
}

fn extra_host(text: &str) -> Result<ExtraHost, CommandError> {
    let bad = |why: &str| {
        CommandError::usage(format!("bad format for add-host: \"{text}\": {why}"))
            .hint("a host is written NAME:ADDRESS, as in `--add-host db:10.0.0.5`")
    };
    // Whichever comes first: an IPv6 address has colons of its own.
    let at = text.find([':', '=']).ok_or_else(|| bad("it has no address"))?;
    let (name, address) = (&text[..at], &text[at + 1..]);
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(bad("its name is none"));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address = match (bare, bare.parse::<IpAddr>()) {
        (HOST_GATEWAY, _) => HOST_GATEWAY.to_owned(),
        (_, Ok(address)) => address.to_string(),
        (_, Err(_)) => {
            return Err(CommandError::usage(format!("invalid IP address in add-host: \"{bare}\""))
                .hint("an address is expected, or `host-gateway` for this machine's"));
        }
    };
    Ok(ExtraHost { name: name.to_owned(), address })
}
