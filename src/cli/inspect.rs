//! `rbuild inspect`: a container, an image, a build step or a volume as docker's JSON.
//!
//! Not here: what a container (`look`) and a volume (`volume`) look like.

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::error::CommandError;
use super::template::{Ordered, Shape, Template, Zero, ordered};
use super::world::World;
use super::{look, ui, volume};
use crate::build::{self, BuildError};
use crate::image::{ImageConfig, Reference, SnapshotId};
use crate::store::{Found, Store, StoreError};

/// Show all that is known of a container, an image, a build step or a volume.
///
/// A name that several have is the container's, then the image's, then the volume's, unless --type says otherwise.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rbuild inspect flask\n  rbuild inspect -f '{{.State.ExitCode}}' web\n  \
    rbuild inspect -f '{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}' web\n  \
    rbuild inspect --type image -f '{{json .RootFS.Layers}}' flask\n\n\
    See also: rbuild ps, rbuild logs, rbuild history, rbuild images"
)]
pub struct InspectArgs {
    /// Names or ids of containers or images, ids of build steps, or names of volumes
    #[arg(required = true, value_name = "NAME|ID")]
    pub names: Vec<String>,
    /// Print through a Go template, or `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Only objects of this type: `container`, `image`, `volume`, or `step` for a build step
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Show how much containers wrote; images always have their size
    #[arg(short, long)]
    pub size: bool,
}

/// What may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Any,
    Container,
    Image,
    Step,
    Volume,
}

/// Something that was found, with what docker's types say of it.
struct Described {
    value: Value,
    shape: &'static Shape,
}

impl InspectArgs {
    /// Asks for images alone, unless a type was named.
    pub fn of_image(mut self) -> InspectArgs {
        self.kind.get_or_insert_with(|| "image".to_owned());
        self
    }

    /// Asks for containers alone, unless a type was named.
    pub fn of_container(mut self) -> InspectArgs {
        self.kind.get_or_insert_with(|| "container".to_owned());
        self
    }

    fn wanted(&self) -> Result<Wanted, CommandError> {
        match self.kind.as_deref() {
            None | Some("") => Ok(Wanted::Any),
            Some("container") => Ok(Wanted::Container),
            Some("image") => Ok(Wanted::Image),
            Some("step") => Ok(Wanted::Step),
            Some("volume") => Ok(Wanted::Volume),
            Some(other) => Err(CommandError::usage(format!("unknown type: \"{other}\""))
                .hint("the types this version has are: container, image, step, volume")),
        }
    }
}

/// Runs the command.
pub fn inspect(world: &World, args: InspectArgs) -> Result<(), CommandError> {
    let wanted = args.wanted()?;
    let store = world.open_store()?;
    let template = match args.format.as_deref() {
        None | Some("json" | "") => None,
        Some(text) => Some(Template::parse(text).map_err(|e| CommandError::usage(e.to_string()))?),
    };
    let mut found = Vec::new();
    let mut failed = Vec::new();
    for name in &args.names {
        match describe(&store, name, wanted, args.size) {
            Ok(described) => found.push(described),
            Err(error) => failed.push(error),
        }
    }
    if args.size && found.iter().any(|one| one.shape.order == IMAGE.order) {
        ui::note("WARNING: --size ignored for image\n");
    }
    match template {
        Some(template) => {
            for one in &found {
                ui::line(&template.render_as(&one.value, one.shape)?);
            }
        }
        None if args.format.as_deref() == Some("json") => {
            let lines: Vec<String> = found.iter().map(|one| ordered(&one.value, one.shape.order)).collect();
            ui::line(&format!("[{}]", lines.join(",")));
        }
        None => ui::line(&pretty(&found)),
    }
    let Some(last) = failed.pop() else { return Ok(()) };
    failed.iter().for_each(|error| ui::note(&error.text()));
    Err(last)
}

fn describe(store: &Store, name: &str, wanted: Wanted, size: bool) -> Result<Described, CommandError> {
    if matches!(wanted, Wanted::Any | Wanted::Container) {
        match store.find_container(name) {
            Ok(kept) => {
                let value = look::details(store, &look::Seen::of(store, kept)?, size);
                return Ok(Described { value, shape: &look::SHAPE });
            }
            Err(StoreError::NoContainer(_)) if wanted == Wanted::Any => {}
            Err(error) => return Err(error.into()),
        }
    }
    if wanted == Wanted::Volume {
        return volume_named(store, name)?.ok_or_else(|| StoreError::NoVolume(name.to_owned()).into());
    }
    let found = store.find(name);
    if wanted == Wanted::Any
        && matches!(&found, Err(error) if error.is_not_found())
        && let Some(described) = volume_named(store, name)?
    {
        return Ok(described);
    }
    let missing = |error: StoreError| match (error.is_not_found(), wanted) {
        (true, Wanted::Image) => super::find::no_such(name),
        (true, Wanted::Step) => CommandError::new(format!("No such step: {name}")),
        (true, _) => CommandError::new(format!("No such object: {name}")),
        (false, _) => error.into(),
    };
    let gone = || missing(StoreError::NotFound(name.to_owned()));
    let value = match found.map_err(missing)? {
        Found::Image { .. } if wanted == Wanted::Step => return Err(gone()),
        Found::Step(_) if wanted == Wanted::Image => return Err(gone()),
        Found::Image { id, .. } => {
            let image = store.image(&id)?;
            let tags = store.names_of(&id)?;
            let mut value =
                image_value(&image.config, &tags, &image.layers, super::find::size(store, &image.layers));
            value["Id"] = json!(id.to_string());
            if let Some(time) = store.last_tag_time(&tags) {
                value["Metadata"]["LastTagTime"] = json!(time.to_string());
            }
            value
        }
        Found::Step(id) => {
            let step = store.step(&id)?.ok_or_else(gone)?;
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
            value
        }
    };
    Ok(Described { value, shape: &IMAGE })
}

/// Finds a volume; `None` where there is none of this name, or none can have it.
fn volume_named(store: &Store, name: &str) -> Result<Option<Described>, CommandError> {
    Ok(store
        .volume(name)?
        .map(|kept| Described { value: volume::value_of(store, &kept), shape: &volume::SHAPE }))
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
    let names = |wanted: &dyn Fn(&Reference) -> bool| {
        tags.iter().filter(|name| wanted(name)).map(ToString::to_string).collect::<Vec<_>>()
    };
    let comment = config.history.last().and_then(|entry| entry.comment.clone()).unwrap_or_default();
    let mut value = json!({
        "Id": "",
        "RepoTags": names(&|name| name.digest().is_none()),
        "RepoDigests": names(&|name| name.digest().is_some()),
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
    for (name, text) in [("Variant", &config.variant), ("OsVersion", &config.os_version)] {
        if let Some(text) = text {
            value[name] = json!(text);
        }
    }
    value
}

/// What docker's types say of these values: fields that print although they are left out.
static IMAGE: Shape = Shape {
    fields: &[
        ("RepoTags", Zero::List),
        ("RepoDigests", Zero::List),
        ("Env", Zero::List),
        ("Cmd", Zero::List),
        ("Entrypoint", Zero::List),
        ("OnBuild", Zero::List),
        ("Shell", Zero::List),
        ("Layers", Zero::List),
        ("Labels", Zero::Map),
        ("Volumes", Zero::Map),
        ("ExposedPorts", Zero::Map),
        ("Healthcheck", Zero::Pointer),
        ("ArgsEscaped", Zero::Bool),
        ("StopSignal", Zero::Text),
        ("StopTimeout", Zero::Pointer),
        ("Variant", Zero::Text),
        ("OsVersion", Zero::Text),
        ("Parent", Zero::Text),
        ("CreatedBy", Zero::Text),
        ("Container", Zero::Text),
        ("DockerVersion", Zero::Text),
        ("LastTagTime", Zero::Time),
    ],
    order: &ORDER,
};

/// The order of docker's names; others follow by the alphabet.
const ORDER: [&str; 41] = [
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
    "OsVersion",
    "Size",
    "VirtualSize",
    "GraphDriver",
    "RootFS",
    "Type",
    "Metadata",
];

/// Draws what was found as docker does: four spaces, docker's order.
fn pretty(found: &[Described]) -> String {
    let list: Vec<_> =
        found.iter().map(|one| Ordered { value: &one.value, order: one.shape.order }).collect();
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    match list.serialize(&mut serializer) {
        Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_in_dockers_order() {
        let value = json!({ "Author": "", "RepoTags": ["a"], "Zebra": 1, "Apple": 2, "Id": "x", "Os": null });
        let keys: Vec<String> = pretty(&[Described { value, shape: &IMAGE }])
            .lines()
            .filter_map(|line| Some(line.trim().split_once("\":")?.0.trim_matches('"').to_owned()))
            .collect();
        assert_eq!(keys, ["Id", "RepoTags", "Author", "Os", "Apple", "Zebra"]);
    }
}
