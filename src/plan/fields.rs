//! What an operation is, field by field: the part of a cache key that the plan knows.
//!
//! In: all that says what the vertex does. Left out on purpose:
//! - of an image, its reference and platform: the image id says more;
//! - of a RUN, `env_unkeyed` (proxies do not change what a step means);
//! - of a COPY, the text of its paths: what they select is in the key by content,
//!   with the names it gets at the destination;
//! - places, lines and texts of instructions, stage names, `ignore_cache`.
//!
//! Not here: how fields are encoded and digested, and the content of inputs (`solve`).

use super::graph::CopyOp;
use super::graph::CopySource;
use super::graph::MountKind;
use super::graph::NetworkMode;
use super::graph::Op;
use super::graph::RunMount;
use super::graph::RunOp;
use super::graph::Security;

/// A value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
    Bool(bool),
    List(Vec<String>),
}

/// Names and values, in a fixed order; the first is always `op`. A field that is not
/// set is not there, so that a later version can add fields and keep old keys.
pub type Fields = Vec<(&'static str, Value)>;

/// Returns the fields of an operation.
pub fn fields(op: &Op) -> Fields {
    match op {
        Op::Image(image) => vec![text("op", "image"), text("image", image.image.to_string())],
        Op::Context(context) => vec![text("op", "context"), text("name", &context.name)],
        Op::Run(run) => run_fields(run),
        Op::Copy(copy) => copy_fields(copy),
        Op::Http(http) => vec![text("op", "http"), text("url", &http.url)],
        Op::Git(git) => vec![text("op", "git"), text("address", git.address.to_string())],
        Op::Workdir(workdir) => {
            let mut fields =
                vec![text("op", "workdir"), text("path", &workdir.path), text("user", &workdir.user)];
            fields.extend(epoch(workdir.source_date_epoch));
            fields
        }
    }
}

fn text(name: &'static str, value: impl Into<String>) -> (&'static str, Value) {
    (name, Value::Text(value.into()))
}

fn run_fields(run: &RunOp) -> Fields {
    let network = match run.network {
        NetworkMode::Default => "default",
        NetworkMode::None => "none",
        NetworkMode::Host => "host",
    };
    let mut fields = vec![
        text("op", "run"),
        ("args", Value::List(run.args.clone())),
        ("env", Value::List(run.env.iter().map(|entry| entry.to_string()).collect())),
        text("workdir", &run.workdir),
        text("user", &run.user),
        text("network", network),
    ];
    if !run.volumes.is_empty() {
        let volume = |(path, ro): &(String, bool)| [path.clone(), if *ro { "ro" } else { "rw" }.to_owned()];
        fields.push(("volumes", Value::List(run.volumes.iter().flat_map(volume).collect())));
    }
    if let Some(script) = &run.script {
        fields.push(text("script-name", &script.name));
        fields.push(text("script", &script.body));
    }
    if run.security == Security::Insecure {
        fields.push(text("security", "insecure"));
    }
    if !run.mounts.is_empty() {
        fields.push(("mounts", Value::List(run.mounts.iter().flat_map(mount).collect())));
    }
    if !run.extra_hosts.is_empty() {
        fields.push(("extra-hosts", Value::List(run.extra_hosts.clone())));
    }
    if let Some(hostname) = &run.hostname {
        fields.push(text("hostname", hostname));
    }
    fields.extend(epoch(run.source_date_epoch));
    fields
}

fn epoch(seconds: Option<i64>) -> Option<(&'static str, Value)> {
    seconds.map(|seconds| ("source-date-epoch", Value::Number(seconds)))
}

/// Returns what a command can tell of a mount by looking, less what is in it: the content of a
/// bind mount is an input of the key, that of a cache, a secret or an agent is in no key.
/// The first text says how many there are.
fn mount(mount: &RunMount) -> Vec<String> {
    let target = mount.target.as_str();
    let texts: Vec<&str> = match &mount.kind {
        MountKind::Bind { writable, .. } => vec!["bind", if *writable { "rw" } else { "ro" }, target],
        MountKind::Cache { .. } => vec!["cache", target],
        MountKind::Tmpfs { size } => {
            let size = size.map(|size| size.to_string()).unwrap_or_default();
            return vec!["tmpfs".to_owned(), size, target.to_owned()];
        }
        MountKind::Secret { id, file, env, mode, uid, gid, .. } => {
            let file = if *file { target } else { "" };
            let owner = format!("{mode:o} {uid}:{gid}");
            return ["secret", id, env.as_deref().unwrap_or_default(), file, &owner]
                .map(str::to_owned)
                .to_vec();
        }
        MountKind::Ssh { id, mode, uid, gid, .. } => {
            let owner = format!("{mode:o} {uid}:{gid}");
            return ["ssh", id, target, &owner].map(str::to_owned).to_vec();
        }
    };
    texts.into_iter().map(str::to_owned).collect()
}

fn copy_fields(copy: &CopyOp) -> Fields {
    let mut fields =
        vec![text("op", if copy.add { "add" } else { "copy" }), text("destination", &copy.destination)];
    let sources = sources(&copy.sources);
    if !sources.is_empty() {
        fields.push(("sources", Value::List(sources)));
    }
    if let Some(owner) = &copy.chown {
        fields.push(text("chown", owner));
    }
    if let Some(mode) = &copy.chmod {
        fields.push(text("chmod", mode));
    }
    for (name, set) in [("link", copy.link), ("parents", copy.parents)] {
        if set {
            fields.push((name, Value::Bool(true)));
        }
    }
    if !copy.exclude.is_empty() {
        fields.push(("exclude", Value::List(copy.exclude.clone())));
    }
    if let Some(unpack) = copy.unpack.filter(|&unpack| unpack != copy.add) {
        fields.push(("unpack", Value::Bool(unpack)));
    }
    fields.extend(epoch(copy.source_date_epoch));
    fields
}

/// Returns `inline name data` for each heredoc, `download input name` for each download and one
/// `paths` with its input for each run of paths between them: a later source overwrites an
/// earlier one, so their order counts. Paths of one input alone need not be told.
fn sources(sources: &[CopySource]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut paths_of = None;
    for source in sources {
        match source {
            CopySource::Path { input, .. } if paths_of == Some(*input) => continue,
            CopySource::Path { input, .. } => out.extend(["paths".to_owned(), input.to_string()]),
            CopySource::Download { input, name } => {
                out.extend(["download".to_owned(), input.to_string(), name.clone()]);
            }
            CopySource::Inline { name, data } => {
                out.extend(["inline".to_owned(), name.clone(), data.clone()]);
            }
        }
        paths_of = match source {
            CopySource::Path { input, .. } => Some(*input),
            _ => None,
        };
    }
    if out == ["paths", "1"] { Vec::new() } else { out }
}
