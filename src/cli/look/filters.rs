//! `--filter` of `ps`: which containers are wanted. Words and meanings are docker's.

use std::collections::BTreeSet;

use jiff::Timestamp;
use regex::bytes::{Regex, RegexBuilder};

use super::{Seen, words};
use crate::cli::error::CommandError;
use crate::cli::filter::{self, Filter};
use crate::image::{ImageId, SnapshotId};
use crate::store::{Found, Store};

/// The filters there are.
pub const KNOWN: [&str; 15] = [
    "id", "name", "label", "exited", "status", "ancestor", "before", "since", "volume", "publish", "expose",
    "health", "network", "is-task", "until",
];

/// What containers must pass: one value of each filter, and every label.
#[derive(Debug, Default)]
pub struct Conditions {
    labels: Vec<Filter>,
    ids: Vec<Regex>,
    names: Vec<Regex>,
    exited: Vec<i32>,
    statuses: Vec<String>,
    ancestors: Option<Ancestors>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    volumes: Vec<String>,
    published: Option<BTreeSet<(u16, String)>>,
    exposed: Option<BTreeSet<(u16, String)>>,
    health: Vec<String>,
    networks: Vec<String>,
    tasks: Option<bool>,
}

#[derive(Debug, Default)]
struct Ancestors {
    /// The images that were named, and all that were made of them.
    images: Vec<ImageId>,
    /// All images that are here.
    known: Vec<ImageId>,
    /// Of an image that is gone, layers alone tell what it was made of.
    layers: Vec<Vec<SnapshotId>>,
}

impl Conditions {
    /// Reads the filters; images and containers that they name are looked up.
    pub fn read(store: &Store, filters: &[String]) -> Result<Conditions, CommandError> {
        let mut conditions = Conditions::default();
        for one in filter::parse(filters, &KNOWN)? {
            if one.negated && one.key != "label" {
                return Err(CommandError::usage(format!("invalid filter `{}!`", one.key))
                    .hint("only `label` is asked for by `!=`"));
            }
            conditions.add(store, one)?;
        }
        Ok(conditions)
    }

    fn add(&mut self, store: &Store, one: Filter) -> Result<(), CommandError> {
        let value = one.value.clone();
        let created = || Ok::<_, CommandError>(super::find(store, &one.value)?.kept.created);
        match one.key.as_str() {
            "label" => self.labels.push(one),
            "id" => self.ids.push(pattern(&one)?),
            "name" => self.names.push(pattern(&one)?),
            "exited" => self.exited.push(value.parse().map_err(|_| invalid(&one, "it is an exit code"))?),
            "status" => {
                let known = ["created", "restarting", "running", "removing", "paused", "exited", "dead"];
                self.statuses.push(one_of(&one, &known)?);
            }
            "health" => self.health.push(one_of(&one, &["starting", "healthy", "unhealthy", "none"])?),
            "ancestor" => self.ancestors.get_or_insert_default().add(store, &value)?,
            "before" => {
                let time = created()?;
                self.before = Some(self.before.map_or(time, |known| known.min(time)));
            }
            "until" => {
                let time = filter::until(&one)?;
                self.before = Some(self.before.map_or(time, |known| known.min(time)));
            }
            "since" => {
                let time = created()?;
                self.since = Some(self.since.map_or(time, |known| known.max(time)));
            }
            "volume" => self.volumes.push(value),
            "publish" => self.published.get_or_insert_default().extend(port_range(&one)?),
            "expose" => self.exposed.get_or_insert_default().extend(port_range(&one)?),
            "network" => self.networks.push(value),
            _ => self.tasks = Some(filter::boolean(&one)?),
        }
        Ok(())
    }

    /// Tells whether containers that do not run are wanted without being asked for by `-a`.
    pub fn ask_for_all(&self) -> bool {
        !self.statuses.is_empty()
    }

    /// Tells whether a container passes.
    pub fn pass(&self, seen: &Seen) -> bool {
        let Seen { kept, settings, state, .. } = seen;
        let any = |patterns: &[Regex], text: &str| {
            patterns.is_empty() || patterns.iter().any(|p| p.is_match(text.as_bytes()))
        };
        let ports = || seen.ports().into_iter();
        let mut published = ports().filter_map(|p| Some((p.outside?.1, p.protocol)));
        let mut exposed = ports().map(|p| (p.inside, p.protocol));
        let health = state.health.as_ref().map_or("none", |health| health.status.name());
        let network = super::details::network_name(settings);
        any(&self.ids, kept.id.as_str())
            && (any(&self.names, &kept.name) || any(&self.names, &format!("/{}", kept.name)))
            && self.labels.iter().all(|one| filter::label(one, &settings.config.labels))
            && (self.exited.is_empty()
                || (self.exited.contains(&state.exit_code) && !state.is_alive() && state.started.is_some()))
            && (self.statuses.is_empty() || self.statuses.iter().any(|status| status == words::state(state)))
            && self.ancestors.as_ref().is_none_or(|ancestors| ancestors.have(seen))
            && self.before.is_none_or(|before| kept.created < before)
            && self.since.is_none_or(|since| kept.created > since)
            && (self.volumes.is_empty() || self.volumes.iter().any(|volume| super::details::has_mount(seen, volume)))
            && self.published.as_ref().is_none_or(|wanted| published.any(|port| wanted.contains(&port)))
            && self.exposed.as_ref().is_none_or(|wanted| exposed.any(|port| wanted.contains(&port)))
            && (self.health.is_empty() || self.health.iter().any(|wanted| wanted == health))
            && (self.networks.is_empty() || self.networks.contains(&network))
            // Nothing here is a task of a swarm.
            && self.tasks != Some(true)
    }
}

impl Ancestors {
    fn add(&mut self, store: &Store, name: &str) -> Result<(), CommandError> {
        match store.find(name) {
            Ok(Found::Image { id, .. }) => {
                self.images.push(id);
                let named = store.image(&id)?;
                let (layers, history) = (named.layers, named.config.history);
                for listed in store.images()? {
                    // Layers are not enough: an image that changes only settings has those of its base.
                    let is_made_of_it = listed.image.is_ok_and(|image| {
                        !history.is_empty()
                            && image.layers.starts_with(&layers)
                            && image.config.history.starts_with(&history)
                    });
                    self.images.extend(is_made_of_it.then_some(listed.id));
                    self.known.push(listed.id);
                }
                self.layers.extend((!layers.is_empty()).then_some(layers));
                Ok(())
            }
            Ok(Found::Step(_)) => Ok(()),
            // As docker: what is not there is nobody's ancestor.
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn have(&self, seen: &Seen) -> bool {
        match seen.kept.image {
            Some(image) if self.known.contains(&image) => self.images.contains(&image),
            _ => self.layers.iter().any(|layers| seen.kept.layers.starts_with(layers)),
        }
    }
}

fn invalid(one: &Filter, hint: &str) -> CommandError {
    CommandError::usage(format!("invalid filter '{}={}'", one.key, one.value)).hint(hint)
}

fn one_of(one: &Filter, known: &[&str]) -> Result<String, CommandError> {
    match known.contains(&one.value.as_str()) {
        true => Ok(one.value.clone()),
        false => Err(invalid(one, &format!("it is one of {}", known.join(", ")))),
    }
}

/// Makes a pattern that is found anywhere in a name.
fn pattern(one: &Filter) -> Result<Regex, CommandError> {
    // No pattern of names is large, and one that takes the machine's memory is refused. Names and ids are ASCII.
    let built = RegexBuilder::new(&one.value).size_limit(1 << 20).unicode(false).build();
    built.map_err(|_| invalid(one, "it is a part of the name, or a regular expression as `^web[0-9]+$`"))
}

/// Reads `8080`, `8080/udp`, `8000-8010` or `8000-8010/tcp`.
fn port_range(one: &Filter) -> Result<BTreeSet<(u16, String)>, CommandError> {
    let bad = || invalid(one, "a port is written PORT[/PROTOCOL] or FIRST-LAST[/PROTOCOL]");
    let (numbers, protocol) = one.value.split_once('/').unwrap_or((&one.value, "tcp"));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let (first, last): (u16, u16) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
    match first <= last && matches!(protocol, "tcp" | "udp" | "sctp") {
        true => Ok((first..=last).map(|number| (number, protocol.to_owned())).collect()),
        false => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &str) -> Filter {
        Filter { key: key.to_owned(), value: value.to_owned(), negated: false }
    }

    #[test]
    fn ports_are_read() {
        let read = |text: &str| port_range(&one("publish", text)).ok().map(|ports| ports.len());
        for (text, expect) in [
            ("80", Some(1)),
            ("80/udp", Some(1)),
            ("8000-8010/tcp", Some(11)),
            ("10-1", None),
            ("80/x", None),
            ("", None),
            ("70000", None),
        ] {
            assert_eq!(read(text), expect, "{text}");
        }
    }

    #[test]
    fn names_are_patterns() {
        let check = |value: &str, text: &str, expect: bool| {
            assert_eq!(pattern(&one("name", value)).unwrap().is_match(text.as_bytes()), expect, "{value}");
        };
        check("eb", "web1", true);
        check("^web$", "web1", false);
        check("^/web[0-9]$", "/web1", true);
        check("db|web", "web1", true);
        for bad in ["[", "(a{1000}){1000}{1000}"] {
            assert!(pattern(&one("name", bad)).is_err(), "{bad}");
        }
    }
}
