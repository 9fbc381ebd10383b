//! What a build was asked for, in the words of the command line, without anything secret: for its record.
//!
//! Not here: the record itself (`recorder`), the request (`request`).

use super::output::Output;
use super::request::{BuildRequest, ContextFrom, DockerfileFrom, PullPolicy};
use crate::plan::graph::NetworkMode;
use crate::plan::looks_secret;
use crate::remote_cache::Mode;
use crate::report::redact;
use crate::worker::StepOptions;

/// How much of an option's value is kept, in characters.
const LONGEST_VALUE: usize = 256;

pub fn context(from: &ContextFrom) -> String {
    match from {
        ContextFrom::Directory(path) => {
            std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()
        }
        ContextFrom::Remote(address) => redact(address),
        ContextFrom::Tar(_) | ContextFrom::Nothing => "-".to_owned(),
    }
}

pub fn dockerfile(from: &DockerfileFrom) -> String {
    match from {
        DockerfileFrom::Context(name) => name.clone().unwrap_or_else(|| "Dockerfile".to_owned()),
        DockerfileFrom::File(path) => path.display().to_string(),
        DockerfileFrom::Bytes { name, .. } => name.clone(),
        DockerfileFrom::Remote(url) => redact(url),
    }
}

/// Lists what was asked for beside the Dockerfile and its context. Of secrets and agents there are ids alone,
/// of volumes where they were mounted; the value of a build argument whose name looks like a secret's is left out.
pub fn options(request: &BuildRequest) -> Vec<(String, String)> {
    let mut list = Vec::new();
    let mut add = |name: &str, value: &str| {
        let value = redact(value);
        let short = match value.char_indices().nth(LONGEST_VALUE) {
            Some((end, _)) => format!("{}…", &value[..end]),
            None => value,
        };
        list.push((name.to_owned(), short));
    };
    for wanted in &request.wanted {
        if let Some(target) = &wanted.target {
            add("--target", target);
        }
        wanted.tags.iter().for_each(|tag| add("--tag", &tag.to_string()));
    }
    if let Some(platform) = &request.platform {
        add("--platform", &platform.to_string());
    }
    let hidden = |name: &str, value: &str| match looks_secret(name) {
        true => format!("{name}=***"),
        false => format!("{name}={value}"),
    };
    request.build_args.iter().for_each(|(name, value)| add("--build-arg", &hidden(name, value)));
    request.labels.iter().for_each(|(name, value)| add("--label", &hidden(name, value)));
    request.contexts.keys().for_each(|name| add("--build-context", name));
    request.step.secrets.keys().for_each(|id| add("--secret", &format!("id={id}")));
    request.step.agents.keys().for_each(|id| add("--ssh", id));
    if request.no_cache {
        add("--no-cache", "");
    }
    request.no_cache_filter.iter().for_each(|stage| add("--no-cache-filter", stage));
    match request.pull {
        PullPolicy::Missing => {}
        PullPolicy::Always => add("--pull", "always"),
        PullPolicy::Newer => add("--pull", "newer"),
        PullPolicy::Never => add("--pull", "never"),
    }
    match request.network {
        NetworkMode::Default => {}
        NetworkMode::None => add("--network", "none"),
        NetworkMode::Host => add("--network", "host"),
    }
    let volume = |volume: &crate::worker::Volume| {
        let mode = if volume.read_only { ":ro" } else { "" };
        // Where it lies on the host is nobody's business later.
        format!("{}{mode}", volume.destination)
    };
    request.volumes.iter().for_each(|one| add("--volume", &volume(one)));
    request.cache_from.iter().for_each(|from| add("--cache-from", &from.to_string()));
    for to in &request.cache_to {
        let mode = if to.mode == Mode::Max { " (max)" } else { "" };
        add("--cache-to", &format!("{}{mode}", to.to));
    }
    limits(&request.step).into_iter().for_each(|(name, value)| add(name, &value));
    request.outputs.iter().for_each(|output| add("--output", what(output)));
    list
}

/// Lists the limits and rights of RUN steps.
fn limits(step: &StepOptions) -> Vec<(&'static str, String)> {
    let mut list = Vec::new();
    let group = step.cgroup.clone().unwrap_or_default();
    let number = |value: Option<i64>| value.map(|value| value.to_string());
    let count = |value: Option<u64>| value.map(|value| value.to_string());
    let named = [
        ("--cgroup-parent", group.parent),
        ("--memory", number(group.memory)),
        ("--memory-swap", number(group.memory_swap)),
        ("--cpu-period", count(group.cpu_period)),
        ("--cpu-quota", number(group.cpu_quota)),
        ("--cpu-shares", count(group.cpu_shares)),
        ("--cpuset-cpus", group.cpuset_cpus),
        ("--cpuset-mems", group.cpuset_mems),
        ("--pids-limit", number(group.pids)),
        ("--shm-size", count(step.shm_size)),
    ];
    list.extend(named.into_iter().filter_map(|(name, value)| Some((name, value?))));
    list.extend(step.limits.iter().map(|limit| ("--ulimit", limit.to_string())));
    let hosts = step.extra_hosts.iter().map(|(name, address)| ("--add-host", format!("{name}:{address}")));
    list.extend(hosts);
    list
}

fn what(output: &Output) -> &'static str {
    match output {
        Output::Local { .. } => "type=local",
        Output::Tar { .. } => "type=tar",
        Output::Archive(_) => "type=archive",
        Output::Names(_) => "type=image",
        Output::Push(_) => "type=registry",
        Output::Load(_) => "--load",
    }
}
