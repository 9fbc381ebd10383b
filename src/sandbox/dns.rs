//! What stands in `/etc/resolv.conf` of a step or container: resolv.conf(5).
//!
//! Not here: where the host's comes from (`cli`), and that it is in no layer and no key (`step`).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The address at which slirp4netns answers DNS, as the host would: slirp4netns(1).
const NAMESERVER: &str = "10.0.2.3";

/// What the user says of name resolution; what is empty is as the host has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsOptions {
    pub servers: Vec<IpAddr>,
    /// A single `.` is none at all.
    pub search: Vec<String>,
    pub options: Vec<String>,
}

/// The same for a network of one's own where the user says nothing.
pub fn private_resolv_conf(host: &str) -> String {
    DnsOptions::default().of_private(host)
}

impl DnsOptions {
    /// Tells whether the user says nothing.
    pub fn is_default(&self) -> bool {
        *self == DnsOptions::default()
    }

    /// Returns the servers that a network of one's own does not lead to.
    pub fn loopback(&self) -> impl Iterator<Item = &IpAddr> {
        self.servers.iter().filter(|server| server.is_loopback())
    }

    /// Writes the file for the network of the host, whose own servers answer there on the loopback, too.
    pub fn of_host(&self, host: &str) -> String {
        if self.is_default() {
            return host.to_owned();
        }
        let servers = lines(host, &["nameserver"]).collect();
        self.write(host, servers)
    }

    /// Writes the file for a network of one's own. The servers of the host may be on its loopback
    /// (127.0.0.53), or reached by a route that only it has: slirp4netns asks them for us.
    pub fn of_private(&self, host: &str) -> String {
        self.write(host, vec![format!("nameserver {NAMESERVER}")])
    }

    fn write(&self, host: &str, servers: Vec<String>) -> String {
        let mut text: Vec<String> = match self.servers[..] {
            [] => servers,
            _ => self.servers.iter().map(|server| format!("nameserver {server}")).collect(),
        };
        let own = |word: &str, values: &[String]| format!("{word} {}", values.join(" "));
        let none = self.search.iter().any(|domain| domain == ".");
        match self.search[..] {
            [] => text.extend(lines(host, &["search", "domain"])),
            _ if none => {}
            _ => text.push(own("search", &self.search)),
        }
        match self.options[..] {
            [] => text.extend(lines(host, &["options"])),
            _ => text.push(own("options", &self.options)),
        }
        text.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// Returns the lines of a file that begin with one of these words.
fn lines<'a>(host: &'a str, words: &'a [&str]) -> impl Iterator<Item = String> + 'a {
    let is = |line: &&str| line.split_whitespace().next().is_some_and(|word| words.contains(&word));
    host.lines().filter(is).map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str =
        "# x\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch a.b  c\noptions edns0 trust-ad\n";

    fn options(servers: &[&str], search: &[&str], options: &[&str]) -> DnsOptions {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let servers = servers.iter().map(|text| text.parse().unwrap()).collect();
        DnsOptions { servers, search: own(search), options: own(options) }
    }

    #[test]
    fn without_a_word_of_the_user() {
        let none = DnsOptions::default();
        assert_eq!(none.of_host(HOST), HOST);
        assert_eq!(none.of_private(HOST), "nameserver 10.0.2.3\nsearch a.b  c\noptions edns0 trust-ad\n");
        assert_eq!(private_resolv_conf(""), "nameserver 10.0.2.3\n");
        assert_eq!(private_resolv_conf(" domain x\nnameserver ::1\n"), "nameserver 10.0.2.3\ndomain x\n");
    }

    #[test]
    fn what_the_user_says_goes_instead() {
        let servers = options(&["192.0.2.7", "2001:db8::1"], &[], &[]);
        let expect = "nameserver 192.0.2.7\nnameserver 2001:db8::1\nsearch a.b  c\noptions edns0 trust-ad\n";
        assert_eq!(servers.of_host(HOST), expect);
        assert_eq!(servers.of_private(HOST), expect);
        let search = options(&[], &["x.example", "y"], &["ndots:2", "rotate"]);
        let rest = "search x.example y\noptions ndots:2 rotate\n";
        assert_eq!(search.of_private(HOST), format!("nameserver 10.0.2.3\n{rest}"));
        assert_eq!(search.of_host(HOST), format!("nameserver 127.0.0.53\nnameserver 192.0.2.1\n{rest}"));
        assert_eq!(options(&[], &["."], &["x"]).of_private(HOST), "nameserver 10.0.2.3\noptions x\n");
    }

    #[test]
    fn what_is_on_the_loopback() {
        let found = options(&["127.0.0.53", "192.0.2.1", "::1"], &[], &[]);
        assert_eq!(found.loopback().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.53", "::1"]);
    }
}
