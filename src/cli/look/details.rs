//! A container as docker's JSON: what `docker container inspect` prints (Engine API v1.41, ContainerJSON).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Seen, words};
use crate::cli::find;
use crate::cli::template::{Shape, Zero};
use crate::container::log::LogDriver;
use crate::container::{HostVolume, NetworkChoice, RestartPolicy, Settings, Status};
use crate::sandbox::network::PublishedPort;
use crate::store::Store;

/// Docker's word for a time that did not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Returns all that is known of a container; `size`: what it wrote, too.
pub fn details(store: &Store, seen: &Seen, size: bool) -> Value {
    let Seen { kept, settings, state } = seen;
    let directory = store.container_dir(&kept.id);
    let time = |time: Option<Timestamp>| time.map_or(NEVER.to_owned(), |time| time.to_string());
    let (path, args) = settings.start.args.split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
    let mut value = json!({
        "Id": kept.id.to_string(),
        "Created": kept.created.to_string(),
        "Path": path,
        "Args": args,
        "State": {
            "Status": words::state(state),
            "Running": state.is_alive(),
            "Paused": false,
            "Restarting": state.status == Status::Restarting,
            "OOMKilled": state.out_of_memory,
            "Dead": false,
            "Pid": state.pid.unwrap_or(0),
            "ExitCode": state.exit_code,
            "Error": state.error,
            "StartedAt": time(state.started),
            "FinishedAt": time(state.finished),
        },
        "Image": kept.image.map(|id| id.to_string()).unwrap_or_default(),
        "LogPath": directory.join("log").display().to_string(),
        "Name": format!("/{}", kept.name),
        "RestartCount": state.restarts,
        "Driver": "overlay",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host_config(settings),
        "GraphDriver": {
            "Name": "overlay",
            "Data": {
                "Snapshots": kept.layers.iter().map(|layer| layer.as_str()).collect::<Vec<_>>(),
                "UpperDir": store.container_layer(&kept.id).display().to_string(),
            },
        },
        "Mounts": mounts(seen),
        "Config": config(seen),
        "NetworkSettings": network(seen),
    });
    if settings.log.driver != LogDriver::JsonFile {
        value["LogPath"] = json!("");
    }
    if size {
        let own = store.container_size(&kept.id).unwrap_or(0);
        value["SizeRw"] = json!(own);
        value["SizeRootFs"] = json!(own.saturating_add(find::size(store, &kept.layers)));
    }
    value
}

fn host_config(settings: &Settings) -> Value {
    let binds: Vec<String> = settings
        .volumes
        .iter()
        .map(|volume| {
            let mode = if volume.read_only { ":ro" } else { "" };
            format!("{}:{}{mode}", volume.source.display(), volume.target.display())
        })
        .collect();
    let retries = match settings.restart {
        RestartPolicy::OnFailure(most) => most,
        _ => 0,
    };
    json!({
        "Binds": if binds.is_empty() { Value::Null } else { json!(binds) },
        "ContainerIDFile": "",
        "LogConfig": { "Type": settings.log.driver.as_str(), "Config": settings.log.options },
        "NetworkMode": match settings.network {
            NetworkChoice::Default => "default",
            NetworkChoice::None => "none",
            NetworkChoice::Host => "host",
        },
        "PortBindings": bindings(&settings.ports),
        "RestartPolicy": { "Name": settings.restart.name(), "MaximumRetryCount": retries },
        "AutoRemove": settings.auto_remove,
    })
}

/// Returns ports as docker has them: `{"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}`.
fn bindings(ports: &[PublishedPort]) -> Map<String, Value> {
    let mut map: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for port in ports {
        let inside = format!("{}/{}", port.container_port, port.protocol);
        let outside = json!({ "HostIp": port.host_address, "HostPort": port.host_port.to_string() });
        map.entry(inside).or_default().push(outside);
    }
    map.into_iter().map(|(inside, outside)| (inside, Value::Array(outside))).collect()
}

fn mounts(seen: &Seen) -> Vec<Value> {
    let bind = |volume: &HostVolume| {
        json!({
            "Type": "bind",
            "Source": volume.source.display().to_string(),
            "Destination": volume.target.display().to_string(),
            "Mode": if volume.read_only { "ro" } else { "" },
            "RW": !volume.read_only,
            "Propagation": "rprivate",
        })
    };
    seen.settings.volumes.iter().map(bind).collect()
}

/// Returns what `ps` calls the mounts of a container: names of volumes and paths of the host.
pub fn mount_names(seen: &Seen) -> impl Iterator<Item = String> {
    mounts(seen).into_iter().filter_map(|mount| {
        let name = mount.get("Name").or(mount.get("Source"))?;
        Some(name.as_str()?.to_owned())
    })
}

/// Tells whether a volume of this name, or something at this place, is mounted in a container.
pub fn has_mount(seen: &Seen, wanted: &str) -> bool {
    let path = wanted.trim_end_matches('/');
    mounts(seen).iter().any(|mount| {
        mount["Name"] == wanted
            || mount["Destination"] == path
            || mount["Source"] == path
            || mount["Destination"] == wanted
    })
}

/// Returns docker's name of the network that a container is in.
pub fn network_name(settings: &Settings) -> &'static str {
    match settings.network {
        NetworkChoice::Default => "bridge",
        NetworkChoice::None => "none",
        NetworkChoice::Host => "host",
    }
}

fn config(seen: &Seen) -> Value {
    let Seen { kept, settings, .. } = seen;
    let config = &settings.config;
    let list = |list: &Option<Vec<String>>| list.clone().map_or(Value::Null, |list| json!(list));
    let mut value = json!({
        "Hostname": settings.hostname,
        "Domainname": "",
        "User": settings.start.user,
        "AttachStdin": settings.stdin_once,
        "Tty": settings.terminal,
        "OpenStdin": settings.open_stdin,
        "StdinOnce": settings.stdin_once,
        "Env": settings.start.env,
        "Cmd": list(&config.cmd),
        "Image": kept.image_name,
        "Volumes": if config.volumes.is_empty() { Value::Null } else { json!(config.volumes) },
        "WorkingDir": settings.start.workdir,
        "Entrypoint": list(&config.entrypoint),
        "OnBuild": if config.on_build.is_empty() { Value::Null } else { json!(config.on_build) },
        "Labels": config.labels,
        "StopTimeout": settings.stop_timeout_s,
    });
    if !config.exposed_ports.is_empty() {
        value["ExposedPorts"] = json!(config.exposed_ports);
    }
    for (name, set) in [
        ("Healthcheck", json!(config.healthcheck)),
        ("StopSignal", json!(config.stop_signal)),
        ("Shell", json!(config.shell)),
    ] {
        if !set.is_null() {
            value[name] = set;
        }
    }
    value
}

fn network(seen: &Seen) -> Value {
    let mut ports = Map::new();
    if seen.state.is_alive() {
        ports = bindings(&seen.state.ports);
        for exposed in seen.settings.config.exposed_ports.keys() {
            let name = if exposed.contains('/') { exposed.clone() } else { format!("{exposed}/tcp") };
            ports.entry(name).or_insert(Value::Null);
        }
    }
    let name = network_name(&seen.settings);
    json!({
        "Ports": ports,
        "IPAddress": "",
        "Networks": { name: { "IPAddress": "" } },
    })
}

/// What docker's types say of a container: fields that print although they are left out.
pub static SHAPE: Shape = Shape {
    fields: &[
        ("Args", Zero::List),
        ("Env", Zero::List),
        ("Cmd", Zero::List),
        ("Entrypoint", Zero::List),
        ("OnBuild", Zero::List),
        ("Shell", Zero::List),
        ("Binds", Zero::List),
        ("Mounts", Zero::List),
        ("ExecIDs", Zero::List),
        ("Labels", Zero::Map),
        ("Volumes", Zero::Map),
        ("ExposedPorts", Zero::Map),
        ("Ports", Zero::Map),
        ("PortBindings", Zero::Map),
        ("Networks", Zero::Map),
        ("Config", Zero::Map),
        ("Health", Zero::Pointer),
        ("Healthcheck", Zero::Pointer),
        ("StopTimeout", Zero::Pointer),
        ("SizeRw", Zero::Pointer),
        ("SizeRootFs", Zero::Pointer),
        ("StopSignal", Zero::Text),
    ],
    order: &ORDER,
};

/// The order of docker's names; others follow by the alphabet.
const ORDER: [&str; 75] = [
    "Id",
    "Created",
    "Path",
    "Args",
    "State",
    "Status",
    "Running",
    "Paused",
    "Restarting",
    "OOMKilled",
    "Dead",
    "Pid",
    "ExitCode",
    "Error",
    "StartedAt",
    "FinishedAt",
    "Health",
    "FailingStreak",
    "Log",
    "Image",
    "LogPath",
    "Name",
    "RestartCount",
    "Driver",
    "Platform",
    "MountLabel",
    "ProcessLabel",
    "AppArmorProfile",
    "ExecIDs",
    "HostConfig",
    "Binds",
    "ContainerIDFile",
    "LogConfig",
    "NetworkMode",
    "PortBindings",
    "RestartPolicy",
    "MaximumRetryCount",
    "AutoRemove",
    "GraphDriver",
    "SizeRw",
    "SizeRootFs",
    "Mounts",
    "Type",
    "Source",
    "Destination",
    "Mode",
    "RW",
    "Propagation",
    "Config",
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
    "Volumes",
    "WorkingDir",
    "Entrypoint",
    "OnBuild",
    "Labels",
    "StopSignal",
    "StopTimeout",
    "Shell",
    "NetworkSettings",
    "Ports",
    "IPAddress",
    "Networks",
    "Data",
];
