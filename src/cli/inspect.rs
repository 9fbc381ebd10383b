//! `rbuild inspect`: an image or a build step as docker's JSON.

use clap::Args;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::error::CommandError;
use super::template::Template;
use super::ui;
use super::world::World;
use crate::build::{self, BuildError};
use crate::image::{ImageConfig, Reference, SnapshotId};
use crate::store::{Found, Store};

/// Show all that is known of an image or a build step.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild inspect flask\n  rbuild inspect -f '{{.Config.Cmd}}' flask")]
pub struct InspectArgs {
    /// Names or ids of images, or ids of build steps
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Print through a Go template, or `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    pub format: Option<String>,
}

/// Runs the command.
pub fn inspect(world: &World, args: InspectArgs) -> Result<(), CommandError> {
    let store = world.open_store()?;
    let template = match args.format.as_deref() {
        None | Some("json") => None,
        Some(text) => Some(Template::parse(text).map_err(|e| CommandError::usage(e.to_string()))?),
    };
    let mut values = Vec::new();
    let mut missing = Vec::new();
    for name in &args.images {
        match describe(&store, name) {
            Ok(value) => values.push(value),
            Err(error) => missing.push(error),
        }
    }
    match template {
        Some(template) => {
            for value in &values {
                ui::line(&template.render(value)?);
            }
        }
        None if args.format.is_some() => values.iter().for_each(|value| ui::line(&value.to_string())),
        None => ui::line(&pretty(&Value::Array(values))),
    }
    match missing.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn describe(store: &Store, name: &str) -> Result<Value, CommandError> {
    match super::find::find(store, name)? {
        Found::Image { id, .. } => {
            let image = store.image(&id)?;
            let tags = store.names_of(&id)?;
            let mut value =
                image_value(&image.config, &tags, &image.layers, super::find::size(store, &image.layers));
            value["Id"] = json!(id.to_string());
            Ok(value)
        }
        Found::Step(id) => {
            let step = store.step(&id)?.ok_or_else(|| super::find::no_such(name))?;
            let mut config = match build::config_of_step(store, &id) {
                Ok((config, _)) => config,
                Err(BuildError::Unfinished(_)) => ImageConfig::empty(&step.platform),
                Err(error) => return Err(error.into()),
            };
            config.config = step.config.clone();
            let mut value = image_value(&config, &[], &step.layers, super::find::size(store, &step.layers));
            value["Id"] = json!(id.to_string());
            value["Parent"] = json!(step.parent.as_ref().map(ToString::to_string).unwrap_or_default());
            value["CreatedBy"] = json!(step.history.as_ref().and_then(|entry| entry.created_by.clone()));
            Ok(value)
        }
    }
}

/// Returns an image in the shape of `docker image inspect` (Engine API v1.43, ImageInspect).
fn image_value(config: &ImageConfig, tags: &[Reference], layers: &[SnapshotId], size: u64) -> Value {
    let details = &config.config;
    let or_empty = |list: &Option<Vec<String>>| list.clone().map_or(Value::Null, |l| json!(l));
    let mut container = json!({
        "Hostname": "", "Domainname": "", "User": details.user,
        "AttachStdin": false, "AttachStdout": false, "AttachStderr": false,
        "Tty": false, "OpenStdin": false, "StdinOnce": false,
        "Env": details.env, "Cmd": or_empty(&details.cmd), "Image": "",
        "Volumes": if details.volumes.is_empty() { Value::Null } else { json!(details.volumes) },
        "WorkingDir": details.working_dir, "Entrypoint": or_empty(&details.entrypoint),
        "OnBuild": if details.on_build.is_empty() { Value::Null } else { json!(details.on_build) },
        "Labels": if details.labels.is_empty() { Value::Null } else { json!(details.labels) },
    });
    if !details.exposed_ports.is_empty() {
        container["ExposedPorts"] = json!(details.exposed_ports);
    }
    if details.args_escaped {
        container["ArgsEscaped"] = json!(true);
    }
    for (name, value) in [
        ("Healthcheck", json!(details.healthcheck)),
        ("StopSignal", json!(details.stop_signal)),
        ("Shell", json!(details.shell)),
    ] {
        if !value.is_null() {
            container[name] = value;
        }
    }
    for (name, value) in &details.other {
        container[name.as_str()] = value.clone();
    }
    let comment = config.history.iter().rev().find_map(|entry| entry.comment.clone()).unwrap_or_default();
    let mut value = json!({
        "Id": "",
        "RepoTags": tags.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "RepoDigests": [],
        "Parent": "",
        "Comment": comment,
        "Created": config.created.clone().unwrap_or_default(),
        "Author": config.author.clone().unwrap_or_default(),
        "Config": container,
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": size,
        "VirtualSize": size,
        "GraphDriver": {
            "Name": "overlay",
            "Data": { "Snapshots": layers.iter().map(SnapshotId::as_str).collect::<Vec<_>>() },
        },
        "RootFS": { "Type": "layers", "Layers": config.rootfs.diff_ids },
        "Metadata": { "LastTagTime": "0001-01-01T00:00:00Z" },
    });
    if let Some(variant) = &config.variant {
        value["Variant"] = json!(variant);
    }
    value
}

/// The order of docker's names; others follow by the alphabet.
const ORDER: [&str; 40] = [
    "Id",
    "RepoTags",
    "RepoDigests",
    "Parent",
    "CreatedBy",
    "Comment",
    "Created",
    "Author",
    "Hostname",
    "Domainname",
    "User",
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "ExposedPorts",
    "Tty",
    "OpenStdin",
    "StdinOnce",
    "Env",
    "Cmd",
    "Healthcheck",
    "ArgsEscaped",
    "Image",
    "Volumes",
    "WorkingDir",
    "Entrypoint",
    "OnBuild",
    "Labels",
    "StopSignal",
    "Shell",
    "Config",
    "Architecture",
    "Variant",
    "Os",
    "Size",
    "VirtualSize",
    "GraphDriver",
    "RootFS",
    "Type",
    "Metadata",
];

/// A value whose names are written in docker's order.
struct Ordered<'a>(&'a Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(list) => serializer.collect_seq(list.iter().map(Ordered)),
            Value::Object(map) => {
                let rank = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
                let mut entries: Vec<(&String, &Value)> = map.iter().collect();
                entries.sort_by_key(|(name, _)| (rank(name), *name));
                serializer.collect_map(entries.into_iter().map(|(name, value)| (name, Ordered(value))))
            }
            other => other.serialize(serializer),
        }
    }
}

/// Draws JSON as docker does: four spaces, docker's order.
fn pretty(value: &Value) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    match Ordered(value).serialize(&mut serializer) {
        Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_in_dockers_order() {
        let value =
            json!([{ "Author": "", "RepoTags": ["a"], "Zebra": 1, "Apple": 2, "Id": "x", "Os": null }]);
        let keys: Vec<String> = pretty(&value)
            .lines()
            .filter_map(|line| Some(line.trim().split_once("\":")?.0.trim_matches('"').to_owned()))
            .collect();
        assert_eq!(keys, ["Id", "RepoTags", "Author", "Os", "Apple", "Zebra"]);
    }
}
