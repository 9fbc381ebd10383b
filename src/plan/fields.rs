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
use super::graph::NetworkMode;
use super::graph::Op;
use super::graph::RunOp;

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
        Op::Workdir(workdir) => {
            vec![text("op", "workdir"), text("path", &workdir.path), text("user", &workdir.user)]
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
        ("env", Value::List(run.env.clone())),
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
    if let Some(epoch) = run.source_date_epoch {
        fields.push(("source-date-epoch", Value::Number(epoch)));
    }
    fields
}

fn copy_fields(copy: &CopyOp) -> Fields {
    let mut fields =
        vec![text("op", if copy.add { "add" } else { "copy" }), text("destination", &copy.destination)];
    let inline: Vec<String> = sources(&copy.sources);
    if !inline.is_empty() {
        fields.push(("inline", Value::List(inline)));
    }
    if let Some(owner) = &copy.chown {
        fields.push(text("chown", owner));
    }
    if let Some(mode) = &copy.chmod {
        fields.push(text("chmod", mode));
    }
    for (name, set) in [("link", copy.link), ("parents", copy.parents), ("keep-git-dir", copy.keep_git_dir)] {
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
    if let Some(checksum) = &copy.checksum {
        fields.push(text("checksum", checksum));
    }
    fields
}

/// Returns `inline name data` for each heredoc and one `paths` for each run of paths
/// between them: a later source overwrites an earlier one, so their order counts.
fn sources(sources: &[CopySource]) -> Vec<String> {
    if sources.iter().all(|source| matches!(source, CopySource::Path(_))) {
        return Vec::new();
    }
    let mut out: Vec<String> = Vec::new();
    let mut in_paths = false;
    for source in sources {
        match source {
            CopySource::Path(_) if in_paths => {}
            CopySource::Path(_) => {
                in_paths = true;
                out.push("paths".to_owned());
            }
            CopySource::Inline { name, data } => {
                in_paths = false;
                out.extend(["inline".to_owned(), name.clone(), data.clone()]);
            }
        }
    }
    out
}
