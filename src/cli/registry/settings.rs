//! What `rbuild registry` is told: options, and the variables of docker's registry where those say nothing.
//!
//! A variable is honoured, or named in a warning; one that keeps somebody out in a way that is not ours is an error,
//! since without it the registry would be more open than was asked for. Not here: doing it (`registry`).

use std::path::PathBuf;

use super::ServeArgs;
use crate::cli::error::CommandError;
use crate::registry::server::TlsFiles;
use crate::sys::browser::host_of;

/// Where it listens unless told otherwise.
const LISTEN: &str = "127.0.0.1:5000";

pub const ROOT_DIRECTORY: &str = "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY";
const ADDRESS: &str = "REGISTRY_HTTP_ADDR";
const HOST: &str = "REGISTRY_HTTP_HOST";
const CERTIFICATE: &str = "REGISTRY_HTTP_TLS_CERTIFICATE";
const KEY: &str = "REGISTRY_HTTP_TLS_KEY";
const AUTH: &str = "REGISTRY_AUTH";
const HTPASSWD: &str = "REGISTRY_AUTH_HTPASSWD_PATH";
const DELETE: &str = "REGISTRY_STORAGE_DELETE_ENABLED";
const READ_ONLY: &str = "REGISTRY_STORAGE_MAINTENANCE_READONLY";
const READ_ONLY_ENABLED: &str = "REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED";

const HONOURED: [&str; 10] =
    [ROOT_DIRECTORY, ADDRESS, HOST, CERTIFICATE, KEY, AUTH, HTPASSWD, DELETE, READ_ONLY, READ_ONLY_ENABLED];

/// Starts of variables that keep somebody out, or something secret, in a way that is not ours.
const GUARDS: [&str; 3] = ["REGISTRY_AUTH_", "REGISTRY_HTTP_TLS_CLIENTCAS", "REGISTRY_HTTP_TLS_LETSENCRYPT"];
const PASSWORDS: &str = "REGISTRY_AUTH_HTPASSWD_";

/// What the registry is to do.
#[derive(Debug)]
pub struct Settings {
    pub listen: String,
    pub read_only: bool,
    pub delete: bool,
    pub htpasswd: Option<PathBuf>,
    pub anonymous_pull: bool,
    pub tls: Option<TlsFiles>,
    /// The names that it is called by.
    pub hosts: Vec<String>,
    /// What was said and is not done.
    pub notes: Vec<String>,
}

impl Settings {
    /// Reads the options, and `(name, value)` of each variable that begins with `REGISTRY_`.
    pub fn new(args: ServeArgs, variables: &[(String, String)]) -> Result<Settings, CommandError> {
        let variables = Variables(variables);
        let listen = args.listen.or_else(|| variables.get(ADDRESS).map(str::to_owned));
        let listen = listen.unwrap_or_else(|| LISTEN.to_owned());
        let tls = match (variables.file(args.tls_cert, CERTIFICATE), variables.file(args.tls_key, KEY)) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            _ => return Err(CommandError::usage("TLS takes both a certificate and its key")),
        };
        let htpasswd = variables.file(args.htpasswd, HTPASSWD);
        variables.refuse_other_guards(htpasswd.is_some())?;
        let hosts = variables.hosts(&args.allow_host, &listen)?;
        let others = variables.0.iter().filter(|(name, _)| !HONOURED.contains(&name.as_str()));
        let notes = others.map(|(name, _)| format!("{name} has no effect here")).collect();
        Ok(Settings {
            listen,
            read_only: args.read_only || variables.read_only()?,
            delete: variables.truth(DELETE)?.unwrap_or(true),
            htpasswd,
            anonymous_pull: args.anonymous_pull,
            tls,
            hosts,
            notes,
        })
    }
}

/// The variables.
struct Variables<'a>(&'a [(String, String)]);

impl<'a> Variables<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the file that an option names, or else the variable.
    fn file(&self, option: Option<PathBuf>, name: &str) -> Option<PathBuf> {
        option.or_else(|| self.get(name).map(PathBuf::from))
    }

    fn truth(&self, name: &str) -> Result<Option<bool>, CommandError> {
        let read = |text| {
            truth(text)
                .ok_or_else(|| CommandError::usage(format!("{name}: `{text}` is neither true nor false")))
        };
        self.get(name).map(read).transpose()
    }

    /// Docker's documentation has this one as a map, too: `{"enabled":true}`.
    fn read_only(&self) -> Result<bool, CommandError> {
        let map = self.get(READ_ONLY).map(|text| {
            map(text).ok_or_else(|| {
                CommandError::usage(format!(
                    "{READ_ONLY}: `{text}` is not of the form `{{\"enabled\":true}}`"
                ))
            })
        });
        Ok(self.truth(READ_ONLY_ENABLED)?.or(map.transpose()?).unwrap_or(false))
    }

    /// Refuses what is meant to keep somebody out, and does not here.
    fn refuse_other_guards(&self, passwords: bool) -> Result<(), CommandError> {
        let of_passwords = self
            .0
            .iter()
            .find(|(name, value)| name.starts_with(PASSWORDS) || (name == AUTH && value == "htpasswd"));
        if let (false, Some((name, _))) = (passwords, of_passwords) {
            return Err(CommandError::usage(format!("{name} is set, but no file of passwords is named"))
                .hint(format!("name it with --htpasswd or {HTPASSWD}")));
        }
        let guards = |name: &str| GUARDS.iter().any(|guard| name.starts_with(guard));
        let other = self.0.iter().find(|(name, _)| guards(name) && !name.starts_with(PASSWORDS));
        if let Some((name, _)) = other {
            return Err(CommandError::usage(format!("{name} is not known here"))
                .hint("passwords come from --htpasswd, certificates from --tls-cert and --tls-key"));
        }
        match self.get(AUTH) {
            None | Some("htpasswd" | "none") => Ok(()),
            Some(other) => {
                Err(CommandError::usage(format!("{AUTH}: `{other}` is not known here: only `htpasswd` is")))
            }
        }
    }

    /// Returns the names that it is called by.
    fn hosts(&self, allowed: &[String], listen: &str) -> Result<Vec<String>, CommandError> {
        let mut hosts = Vec::new();
        for name in allowed {
            hosts.push(host_name(name).ok_or_else(|| {
                CommandError::usage(format!("bad --allow-host `{name}`: it is no name of a host"))
            })?);
        }
        if let Some(address) = self.get(HOST) {
            let authority = address.split_once("://").map_or(address, |(_, rest)| rest);
            let name = host_name(authority.split('/').next().unwrap_or_default());
            hosts.push(name.ok_or_else(|| {
                CommandError::usage(format!("{HOST}: `{address}` is no address of a registry"))
            })?);
        }
        hosts.extend(host_name(listen));
        Ok(hosts)
    }
}

/// Reads true or false as YAML has them.
fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Reads `{"enabled": BOOL}`, or the same without braces and quotes, as YAML allows.
fn map(text: &str) -> Option<bool> {
    let text = text.trim();
    let text = text.strip_prefix('{').map_or(Some(text), |text| text.strip_suffix('}'))?;
    let (key, value) = text.split_once(':')?;
    (key.trim().trim_matches('"') == "enabled").then(|| truth(value.trim()))?
}

/// Returns the host of `HOST[:PORT]`, if it is a name or an address.
fn host_name(authority: &str) -> Option<String> {
    let host = host_of(authority);
    let sign =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') || authority.starts_with('[');
    (!host.is_empty() && !authority.contains('/') && host.chars().all(sign)).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::RegistryArgs;
    use super::*;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        args: RegistryArgs,
    }

    fn settings(words: &[&str], variables: &[(&str, &str)]) -> Result<Settings, CommandError> {
        let words = Words::try_parse_from([&["rbuild"], words].concat()).unwrap();
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::new(words.args.serve, &variables)
    }

    #[test]
    fn options_win_over_variables() {
        let none = settings(&[], &[]).unwrap();
        assert_eq!((none.listen.as_str(), none.delete, none.notes.len()), (LISTEN, true, 0));
        let variables = [
            ("REGISTRY_HTTP_ADDR", ":7000"),
            ("REGISTRY_AUTH_HTPASSWD_PATH", "/users"),
            ("REGISTRY_STORAGE_DELETE_ENABLED", "false"),
            ("REGISTRY_HTTP_TLS_CERTIFICATE", "/c"),
            ("REGISTRY_HTTP_TLS_KEY", "/k"),
            ("REGISTRY_HTTP_SECRET", "x"),
        ];
        let said = settings(&[], &variables).unwrap();
        assert_eq!((said.listen.as_str(), said.delete), (":7000", false));
        assert_eq!(said.htpasswd, Some(PathBuf::from("/users")));
        assert_eq!(said.tls.unwrap().key, PathBuf::from("/k"));
        assert_eq!(said.notes, ["REGISTRY_HTTP_SECRET has no effect here"]);
        let both = settings(&["--listen", "127.0.0.1:1", "--htpasswd", "/mine"], &variables).unwrap();
        assert_eq!((both.listen.as_str(), both.htpasswd), ("127.0.0.1:1", Some(PathBuf::from("/mine"))));
    }

    #[test]
    fn names_it_is_called_by() {
        let check = |words: &[&str], variables: &[(&str, &str)], expect: &[&str]| {
            assert_eq!(settings(words, variables).unwrap().hosts, expect, "{words:?} {variables:?}");
        };
        check(&[], &[], &["127.0.0.1"]);
        check(&["--listen", "registry.lan:5000"], &[], &["registry.lan"]);
        check(
            &["--listen", ":5000", "--allow-host", "a.lan", "--allow-host=b.lan:80"],
            &[],
            &["a.lan", "b.lan"],
        );
        check(&["--listen=:1"], &[("REGISTRY_HTTP_HOST", "https://c.lan:5000/x")], &["c.lan"]);
        assert!(settings(&["--allow-host", "a b"], &[]).is_err());
        assert!(settings(&["--allow-host", "https://a"], &[]).is_err());
        assert!(settings(&[], &[("REGISTRY_HTTP_HOST", "https://")]).is_err());
    }

    #[test]
    fn nothing_is_served_more_openly_than_was_said() {
        for variables in [
            [("REGISTRY_AUTH", "htpasswd")],
            [("REGISTRY_AUTH", "token")],
            [("REGISTRY_STORAGE_DELETE_ENABLED", "maybe")],
            [("REGISTRY_HTTP_TLS_KEY", "/k")],
            [("REGISTRY_AUTH_HTPASSWD_REALM", "mine")],
            [("REGISTRY_AUTH_TOKEN_REALM", "https://auth.example/token")],
            [("REGISTRY_HTTP_TLS_CLIENTCAS_0", "/ca")],
            [("REGISTRY_HTTP_TLS_LETSENCRYPT_EMAIL", "me@example.com")],
            [(READ_ONLY, "true")],
            [(READ_ONLY, "{\"enabled\":maybe}")],
            [(READ_ONLY_ENABLED, "maybe")],
        ] {
            assert!(settings(&[], &variables).is_err(), "{variables:?}");
        }
    }

    #[test]
    fn nothing_is_taken_where_the_variables_say_so() {
        let check = |variables: &[(&str, &str)], words: &[&str], expect| {
            let said = settings(words, variables).unwrap();
            assert_eq!((said.read_only, said.notes.len()), (expect, 0), "{variables:?} {words:?}");
        };
        check(&[], &[], false);
        check(&[(READ_ONLY, "{\"enabled\":true}")], &[], true);
        check(&[(READ_ONLY, "{\"enabled\": false}")], &[], false);
        check(&[(READ_ONLY, "enabled: true")], &[], true);
        check(&[(READ_ONLY_ENABLED, "true")], &[], true);
        check(&[(READ_ONLY, "{\"enabled\":true}"), (READ_ONLY_ENABLED, "false")], &[], false);
        check(&[(READ_ONLY_ENABLED, "false")], &["--read-only"], true);
    }
}
