//! What a word can be: from what clap knows of an argument, from the store, from the Dockerfile.
//!
//! An argument's value name says what its values are (`IMAGE`, `STAGE`, `BUILD`), so that a new command is
//! completed as the others are. Every error means: no words.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Arg;

use super::place::{Place, What};
use super::{Answer, Paths};
use crate::cli::world::{self, Global};
use crate::dockerfile::ast::{Dockerfile, Instruction, Kind};
use crate::store::{Store, StoreOptions};
use crate::sys::overlay::OverlayXattrs;
use crate::sys::snapshotter::Snapshotter;

/// More of a Dockerfile is not read.
const MOST_BYTES: u64 = 4 << 20;

const PLATFORMS: [&str; 9] = [
    "linux/amd64",
    "linux/arm64",
    "linux/arm/v7",
    "linux/arm/v6",
    "linux/386",
    "linux/ppc64le",
    "linux/riscv64",
    "linux/s390x",
    "linux/loong64",
];

/// Returns what the word can become; words that do not begin as it does may be among it.
pub fn of(place: &Place) -> Answer {
    match &place.what {
        What::Option => Answer { words: options(place), paths: None },
        What::Value(arg, before, value) => value_of(place, arg, before, value),
        What::Positional(arg, current) => {
            let mut answer = match arg {
                Some(arg) => value_of(place, arg, "", current),
                None => Answer::default(),
            };
            if place.path.as_slice() == ["completion"] || !place.commands.is_empty() {
                answer.words.splice(0..0, place.commands.iter().cloned());
            }
            answer
        }
    }
}

fn options(place: &Place) -> Vec<(String, String)> {
    let all = place.command.get_arguments().chain(&place.globals);
    let mut words = Vec::new();
    let mut seen = BTreeSet::new();
    for arg in all.filter(|arg| !arg.is_hide_set()) {
        let about = arg.get_help().map(ToString::to_string).unwrap_or_default();
        if let Some(long) = arg.get_long().filter(|long| seen.insert((*long).to_owned())) {
            // One that takes its value in the same word only.
            let end = if arg.is_require_equals_set() && arg.get_num_args().is_some_and(|n| n.min_values() > 0)
            {
                "="
            } else {
                ""
            };
            words.push((format!("--{long}{end}"), about));
        }
    }
    if !seen.contains("help") {
        words.push(("--help".to_owned(), "Show what the command does".to_owned()));
    }
    words
}

fn value_of(place: &Place, arg: &Arg, before: &str, value: &str) -> Answer {
    let possible = arg.get_possible_values();
    if !possible.is_empty() {
        let shown = possible.iter().filter(|value| !value.is_hide_set());
        let words = shown.map(|value| {
            let about = value.get_help().map(ToString::to_string).unwrap_or_default();
            (format!("{before}{}", value.get_name()), about)
        });
        return Answer { words: words.collect(), paths: None };
    }
    let name = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    let has = |word: &str| name.split(|c: char| !c.is_ascii_alphabetic()).any(|part| part == word);
    let plain = |words: Vec<(String, String)>| Answer {
        words: words.into_iter().map(|(word, about)| (format!("{before}{word}"), about)).collect(),
        paths: None,
    };
    let paths = |directories_only: bool, prefix: &str| Answer {
        words: Vec::new(),
        paths: Some(Paths { directories_only, prefix: format!("{before}{prefix}") }),
    };
    match arg.get_id().as_str() {
        "build_args" => return plain(arguments(place)),
        "secrets" => return mounted(place, "secret", before, value),
        "agents" => return plain(ids(place, "ssh", "default")),
        "contexts" => {
            return match value.split_once('=') {
                Some((name, _)) => paths(false, &format!("{name}=")),
                None => Answer::default(),
            };
        }
        "cache_from" | "cache_to" => {
            return match value.rsplit_once("src=").or_else(|| value.rsplit_once("dest=")) {
                Some((head, path)) => {
                    paths(true, &value[..head.len() + value.len() - head.len() - path.len()])
                }
                None => plain(texts(&["type=registry,ref=", "type=local,", "type=inline"])),
            };
        }
        "output" | "outputs" => {
            return match value.rsplit_once("dest=") {
                Some((_, path)) => paths(false, &value[..value.len() - path.len()]),
                None => Answer {
                    paths: Some(Paths { directories_only: true, prefix: before.to_owned() }),
                    ..plain(texts(&[
                        "type=local,dest=",
                        "type=tar,dest=",
                        "type=oci,dest=",
                        "type=docker,dest=",
                        "type=image",
                        "type=registry",
                    ]))
                },
            };
        }
        "isolation" => return plain(texts(&["default", "namespaces", "chroot"])),
        "snapshotter" => {
            let known = Snapshotter::ALL.iter().map(|snapshotter| snapshotter.as_str());
            return plain(texts(&known.chain(["auto"]).collect::<Vec<_>>()));
        }
        "volumes" if name == "VOLUME" => return plain(volumes(place)),
        "volumes" if !value.contains(':') => return paths(false, ""),
        "source" | "destination" if place.path.last().is_some_and(|word| word == "cp") => {
            return paths(false, "");
        }
        // The words of a command in a container.
        "image_and_command" if !place.positionals.is_empty() => return paths(false, ""),
        _ => {}
    }
    // A point of a build: `--at STEP|:LINE|STAGE`, `--line L`.
    if has("LINE") {
        return plain(stages(place).into_iter().chain(lines(place, ":")).collect());
    }
    if arg.get_id() == "line" {
        return plain(lines(place, ""));
    }
    if has("STAGE") && !has("NAME") {
        // Several in one word, by commas.
        let head = value.rfind(',').map_or("", |at| &value[..=at]);
        return plain(
            stages(place).into_iter().map(|(word, about)| (format!("{head}{word}"), about)).collect(),
        );
    }
    if has("PLATFORM") || name.starts_with("OS/ARCH") {
        return plain(texts(&PLATFORMS));
    }
    if has("BUILD") {
        return plain(builds(place));
    }
    if arg.get_id() == "network" && matches!(place.path.last().map(String::as_str), Some("run" | "create")) {
        let joined = containers(place).into_iter().map(|(name, about)| (format!("container:{name}"), about));
        return plain(texts(&["default", "none", "host"]).into_iter().chain(joined).collect());
    }
    // What follows the first is a command in it, or options of ps.
    if has("CONTAINER") && arg.is_trailing_var_arg_set() && !place.positionals.is_empty() {
        return paths(false, "");
    }
    if has("CACHE") {
        let ids = store(place).and_then(|store| store.kept_mount_ids().ok()).unwrap_or_default();
        return plain(ids.into_iter().map(|id| (id, String::new())).collect());
    }
    if has("SERVER") {
        let hosts: BTreeSet<String> = references(place).iter().map(|name| host(name)).collect();
        return plain(hosts.into_iter().map(|host| (host, String::new())).collect());
    }
    let path: Vec<&str> = place.path.iter().map(String::as_str).collect();
    let mut words = Vec::new();
    if has("CONTAINER") || matches!(path[..], ["inspect"] | ["container", "inspect"]) {
        words.extend(containers(place));
    }
    if ["IMAGE", "REPOSITORY", "SOURCE", "TARGET"].iter().any(|word| has(word))
        || (has("NAME") && (has("TAG") || has("ID")) && path != ["container", "inspect"])
    {
        words.extend(references(place).into_iter().map(|name| (name, String::new())));
    }
    if path == ["inspect"] {
        words.extend(volumes(place));
    }
    if !words.is_empty() {
        return plain(words);
    }
    match () {
        () if has("FILE") || (has("PATH") && has("why")) => paths(false, ""),
        () if has("DIR") || has("PATH") || has("CONTEXT") => paths(true, ""),
        () => Answer::default(),
    }
}

fn texts(words: &[&str]) -> Vec<(String, String)> {
    words.iter().map(|word| ((*word).to_owned(), String::new())).collect()
}

/// Opens the store, if there is one.
fn store(place: &Place) -> Option<Store> {
    let root = place.option("root").map(PathBuf::from);
    let snapshotter = super::super::snapshotter::SnapshotterOption { snapshotter: None };
    let global = Global { root, no_sync: true, daemon_json: None, snapshotter };
    let root = world::store_root_quietly(&global)?;
    if !Store::is_at(&root) {
        return None;
    }
    // Which of both it was made with, the store knows.
    [OverlayXattrs::Trusted, OverlayXattrs::User]
        .into_iter()
        .find_map(|xattrs| Store::open(&root, StoreOptions { xattrs, sync: false }).ok())
}

/// Lists the names of images, as people write them.
fn references(place: &Place) -> Vec<String> {
    let tags = store(place).and_then(|store| store.tags().ok()).unwrap_or_default();
    tags.into_iter().map(|(reference, _)| reference.to_string()).collect()
}

fn volumes(place: &Place) -> Vec<(String, String)> {
    let volumes = store(place).and_then(|store| store.volumes().ok()).unwrap_or_default();
    volumes.into_iter().map(|volume| (volume.name, String::new())).collect()
}

/// Lists the names of containers, each with its image.
fn containers(place: &Place) -> Vec<(String, String)> {
    let containers = store(place).and_then(|store| store.containers().ok()).unwrap_or_default();
    containers.into_iter().map(|listed| (listed.kept.name, listed.kept.image_name)).collect()
}

fn host(name: &str) -> String {
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host.to_owned(),
        _ => "docker.io".to_owned(),
    }
}

fn builds(place: &Place) -> Vec<(String, String)> {
    let builds = store(place).and_then(|store| store.builds().ok()).unwrap_or_default();
    let about = |started: jiff::Timestamp| {
        crate::cli::units::ago(jiff::Timestamp::now().as_second() - started.as_second())
    };
    builds.into_iter().map(|build| (build.id.clone(), about(build.started))).collect()
}

/// Reads the Dockerfile that the words before name: `-f FILE`, else that of the context, else of this directory.
fn dockerfile(place: &Place) -> Option<Dockerfile> {
    use std::io::Read;
    let context = place.positionals.first().map_or(".", String::as_str);
    let path = match place.option("file") {
        Some("-") => return None,
        Some(file) => PathBuf::from(file),
        None => Path::new(context).join("Dockerfile"),
    };
    let path = match (path.strip_prefix("~"), world::home()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    };
    // A pipe would wait for somebody to write.
    if !std::fs::metadata(&path).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    std::fs::File::open(&path).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    Some(crate::dockerfile::parse(&bytes).file)
}

fn stages(place: &Place) -> Vec<(String, String)> {
    let Some(file) = dockerfile(place) else { return Vec::new() };
    let froms = file.instructions.iter().filter_map(|instruction| match &instruction.kind {
        Kind::From(from) => Some(from),
        _ => None,
    });
    froms
        .filter_map(|from| Some((from.name.as_ref()?.text.clone(), format!("FROM {}", from.image.text))))
        .collect()
}

/// Lists the lines that instructions begin in, each with its instruction.
fn lines(place: &Place, before: &str) -> Vec<(String, String)> {
    let Some(file) = dockerfile(place) else { return Vec::new() };
    let point = |instruction: &Instruction| {
        (format!("{before}{}", instruction.lines.0), instruction.original.clone())
    };
    file.instructions.iter().map(point).collect()
}

fn arguments(place: &Place) -> Vec<(String, String)> {
    let Some(file) = dockerfile(place) else { return Vec::new() };
    let mut words: Vec<(String, String)> = Vec::new();
    for instruction in &file.instructions {
        let Kind::Arg(definitions) = &instruction.kind else { continue };
        for definition in definitions {
            let word = format!("{}=", definition.name);
            let default = definition.default.as_ref().map(|word| format!("default: {}", word.text));
            if !words.iter().any(|(known, _)| *known == word) {
                words.push((word, default.unwrap_or_default()));
            }
        }
    }
    words
}

/// Lists the ids of mounts of a kind in RUN steps; `default` where none is written.
fn ids(place: &Place, kind: &str, default: &str) -> Vec<(String, String)> {
    let Some(file) = dockerfile(place) else { return Vec::new() };
    let mut found = BTreeSet::new();
    for instruction in &file.instructions {
        for flag in instruction.flags.iter().filter(|flag| flag.name == "mount") {
            let Some(value) = &flag.value else { continue };
            let field = |name: &str| {
                value.text.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
            };
            if field("type") == Some(kind) {
                let target = || field("target").or(field("dst")).and_then(|path| path.rsplit('/').next());
                let from_target = if kind == "secret" { target() } else { None };
                found.insert(field("id").or(from_target).unwrap_or(default).to_owned());
            }
        }
    }
    found.into_iter().filter(|id| !id.is_empty()).map(|id| (id, String::new())).collect()
}

/// Completes `id=ID,src=FILE`.
fn mounted(place: &Place, kind: &str, before: &str, value: &str) -> Answer {
    if let Some((_, path)) = value.rsplit_once("src=") {
        let prefix = format!("{before}{}", &value[..value.len() - path.len()]);
        return Answer { words: Vec::new(), paths: Some(Paths { directories_only: false, prefix }) };
    }
    let ids = ids(place, kind, "");
    let words = ids.into_iter().flat_map(|(id, about)| {
        ["src", "env"].map(|from| (format!("{before}id={id},{from}="), about.clone()))
    });
    Answer { words: words.collect(), paths: None }
}
