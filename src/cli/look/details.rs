//! A container as docker's JSON: what `docker container inspect` prints (Engine API v1.41, ContainerJSON).

use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Seen, words};
use crate::cli::find;
use crate::cli::template::{Shape, Zero};
use crate::container::log::LogDriver;
use crate::container::mounts::MountPoint;
use crate::container::options::{CONTAINER_ADDRESS, NetworkMode};
use crate::container::ports::{bindings_json, exposed, ports_json};
use crate::container::{RestartPolicy, Settings, Status};
use crate::sandbox::{CgroupLimits, DEFAULT_SHM_SIZE, Limit};
use crate::store::Store;

/// Docker's word for a time that did not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Returns all that is known of a container; `size`: what it wrote, too.
pub fn details(store: &Store, seen: &Seen, size: bool) -> Value {
    let Seen { kept, settings, state, mounts } = seen;
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
            "Paused": state.status == Status::Paused,
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
        "HostConfig": host_config(settings, mounts),
        "GraphDriver": {
            "Name": "overlay",
            "Data": {
                "Snapshots": kept.layers.iter().map(|layer| layer.as_str()).collect::<Vec<_>>(),
                "UpperDir": store.container_layer(&kept.id).display().to_string(),
            },
        },
        "Mounts": mounts,
        "Config": config(seen),
        "NetworkSettings": network(seen),
    });
    if let Some(health) = &state.health {
        value["State"]["Health"] = json!(health);
    }
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

fn host_config(settings: &Settings, mounts: &[MountPoint]) -> Value {
    let of_host = mounts.iter().filter(|mount| mount.r#type != "tmpfs");
    let binds: Vec<String> = of_host
        .map(|mount| {
            let mode = if mount.rw { "" } else { ":ro" };
            let source = mount.name.as_deref().unwrap_or(&mount.source);
            format!("{source}:{}{mode}", mount.destination)
        })
        .collect();
    let retries = match settings.restart {
        RestartPolicy::OnFailure(most) => most,
        _ => 0,
    };
    let options = &settings.options;
    let limits = options.resources.cgroup.clone().unwrap_or_default();
    let list = |list: &[String]| if list.is_empty() { Value::Null } else { json!(list) };
    let hosts: Vec<String> =
        options.network.extra_hosts.iter().map(|host| format!("{}:{}", host.name, host.address)).collect();
    let nano_cpus = nano_cpus(&limits);
    let mut value = json!({
        "Binds": list(&binds),
        "ContainerIDFile": "",
        "LogConfig": { "Type": settings.log.driver.as_str(), "Config": settings.log.options },
        "NetworkMode": options.network.mode.to_string(),
        "PortBindings": bindings_json(&options.network.ports),
        "RestartPolicy": { "Name": settings.restart.name(), "MaximumRetryCount": retries },
        "AutoRemove": settings.auto_remove,
        "CapAdd": list(&options.rights.cap_add),
        "CapDrop": list(&options.rights.cap_drop),
        "ExtraHosts": list(&hosts),
        "GroupAdd": list(&options.rights.groups),
        "Privileged": options.rights.privileged,
        "PublishAllPorts": options.network.publish_all,
        "ReadonlyRootfs": options.files.read_only,
        "SecurityOpt": list(&options.rights.security_opt),
        "ShmSize": options.resources.shm_size.unwrap_or(DEFAULT_SHM_SIZE),
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "Memory": limits.memory.unwrap_or(0),
        "CgroupParent": limits.parent.unwrap_or_default(),
        "CpuPeriod": limits.cpu_period.unwrap_or(0),
        "CpuQuota": limits.cpu_quota.unwrap_or(0),
        "CpusetCpus": limits.cpuset_cpus.unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.unwrap_or_default(),
        "MemorySwap": limits.memory_swap.unwrap_or(0),
        "NanoCpus": nano_cpus,
        "PidsLimit": limits.pids,
        "Init": options.init.then_some(true),
        "Dns": options.network.dns.servers,
        "DnsOptions": options.network.dns.options,
        "DnsSearch": options.network.dns.search,
        "Devices": devices(&options.files.devices),
        "Ulimits": ulimits(&options.resources.ulimits),
        // What there is no other of here.
        "Links": null,
        "IpcMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "UsernsMode": "",
        "Isolation": "",
    });
    // Docker leaves out empty ones.
    if !options.files.tmpfs.is_empty() {
        let tmpfs = options.files.tmpfs.iter();
        value["Tmpfs"] =
            tmpfs.map(|(path, how)| (path.display().to_string(), json!(how.to_string()))).collect();
    }
    if !options.sysctls.is_empty() {
        value["Sysctls"] = options.sysctls.iter().map(|one| (one.name.clone(), json!(one.value))).collect();
    }
    value
}

/// Returns the processors that `--cpus` grants, in billionths; 0 where it was not given.
fn nano_cpus(limits: &CgroupLimits) -> i64 {
    match (limits.cpu_quota, limits.cpu_period) {
        (Some(quota), Some(period)) if quota > 0 && period > 0 => {
            i64::try_from(i128::from(quota) * 1_000_000_000 / i128::from(period)).unwrap_or(0)
        }
        _ => 0,
    }
}

fn devices(devices: &[(PathBuf, PathBuf)]) -> Value {
    let device = |(host, inside): &(PathBuf, PathBuf)| {
        json!({
            "PathOnHost": host.display().to_string(),
            "PathInContainer": inside.display().to_string(),
            "CgroupPermissions": "rwm",
        })
    };
    devices.iter().map(device).collect()
}

/// Returns limits as docker has them, -1 for none; null where there is not one.
fn ulimits(limits: &[Limit]) -> Value {
    let number = |limit: Option<u64>| limit.and_then(|most| i64::try_from(most).ok()).unwrap_or(-1);
    let limit = |limit: &Limit| json!({ "Name": limit.kind.to_string(), "Hard": number(limit.hard), "Soft": number(limit.soft) });
    if limits.is_empty() { Value::Null } else { limits.iter().map(limit).collect() }
}

/// Returns what `ps` calls the mounts of a container: names of volumes and paths of the host.
pub fn mount_names(seen: &Seen) -> impl Iterator<Item = String> {
    seen.mounts
        .iter()
        .map(|mount| mount.name.clone().unwrap_or_else(|| mount.source.clone()))
        .filter(|name| !name.is_empty())
}

/// Tells whether a volume of this name, or something at this place, is mounted in a container.
pub fn has_mount(seen: &Seen, wanted: &str) -> bool {
    let path = wanted.trim_end_matches('/');
    seen.mounts.iter().any(|mount| {
        mount.name.as_deref() == Some(wanted)
            || mount.destination == path
            || mount.source == path
            || mount.destination == wanted
    })
}

/// Returns docker's name of the network that a container is in.
pub fn network_name(settings: &Settings) -> String {
    match &settings.options.network.mode {
        NetworkMode::Default => "bridge".to_owned(),
        other => other.to_string(),
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
        "AttachStdin": settings.attached.stdin,
        "AttachStdout": settings.attached.stdout,
        "AttachStderr": settings.attached.stderr,
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
        ("StopSignal", json!(settings.options.stop_signal.as_ref().or(config.stop_signal.as_ref()))),
        ("Shell", json!(config.shell)),
    ] {
        if !set.is_null() {
            value[name] = set;
        }
    }
    value
}

fn network(seen: &Seen) -> Value {
    let alive = seen.state.is_alive();
    let ports = match alive {
        true => {
            let names = seen.settings.config.exposed_ports.keys().map(String::as_str);
            ports_json(&seen.state.ports, &exposed(names).unwrap_or_default())
        }
        false => json!({}),
    };
    let own = alive && seen.settings.options.network.mode == NetworkMode::Default;
    let address = if own { CONTAINER_ADDRESS.to_string() } else { String::new() };
    let name = network_name(&seen.settings);
    json!({
        "Ports": ports,
        "IPAddress": address,
        "Networks": { name: { "IPAddress": address } },
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
        ("CapAdd", Zero::List),
        ("CapDrop", Zero::List),
        ("Dns", Zero::List),
        ("DnsOptions", Zero::List),
        ("DnsSearch", Zero::List),
        ("Devices", Zero::List),
        ("ExtraHosts", Zero::List),
        ("GroupAdd", Zero::List),
        ("Links", Zero::List),
        ("SecurityOpt", Zero::List),
        ("Ulimits", Zero::List),
        ("Sysctls", Zero::Map),
        ("Tmpfs", Zero::Map),
        ("Init", Zero::Pointer),
        ("PidsLimit", Zero::Pointer),
        ("Mounts", Zero::List),
        ("ExecIDs", Zero::List),
        ("Labels", Zero::Map),
        ("Volumes", Zero::Map),
        ("ExposedPorts", Zero::Map),
        ("Ports", Zero::Map),
        ("PortBindings", Zero::Map),
        ("Networks", Zero::Map),
        ("LogConfig.Config", Zero::Map),
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
const ORDER: [&str; 86] = [
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
    "Start",
    "End",
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
    "PathOnHost",
    "PathInContainer",
    "CgroupPermissions",
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
    "Test",
    "Interval",
    "Timeout",
    "StartPeriod",
    "StartInterval",
    "Retries",
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
