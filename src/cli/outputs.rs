//! What a build writes: `-o`, `--push`, `--load`, `--iidfile`, `--metadata-file`, `--annotation`.
//!
//! All is read and checked before anything is built. `spec` reads one `-o`, `loaders` finds docker or
//! podman, `metadata` tells what was made. The words are BuildKit's. Not here: writing (`build`).

mod loaders;
mod metadata;
mod spec;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::annotations::Annotations;
use super::build::parse_tag;
use super::error::CommandError;
use super::resources::LOCAL_DELETE;
use super::ui;
use crate::archive::{Descriptions, ExportOptions, Format};
use crate::build::{ArchiveOutput, ArchivePlace, BuildResult, Dest, Output, PushOutput, Wanted};
use crate::content::{ManifestOptions, Packing};
use crate::image::{Platform, Reference};
use crate::layer::Compression;
use spec::{Spec, Type};

/// What a build writes.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Outputs")]
pub struct OutputArgs {
    /// Write the result: a directory for its files; or type=local, tar, oci, docker, image, registry or cacheonly
    /// with attributes, as in type=oci,dest=image.tar; `-` is a tar on standard output
    #[arg(short, long = "output", value_name = "DIR | type=TYPE[,KEY=VALUE,...]")]
    pub outputs: Vec<String>,
    /// Push the image to the registries of its names, as -o type=registry
    #[arg(long)]
    pub push: bool,
    /// Load the image into this machine's docker or podman too, as -o type=docker
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub load: Option<bool>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// Write what was made to a file, as JSON: digests, names, the manifest's descriptor
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// Annotate the image's manifest, or what TYPE says: manifest, manifest-descriptor, index
    #[arg(long = "annotation", value_name = "[TYPE:]KEY=VALUE")]
    pub annotations: Vec<String>,
}

/// What is to be written, checked.
#[derive(Debug)]
pub struct Outputs {
    pub list: Vec<Output>,
    pub notes: Vec<String>,
    /// Whether standard output is one of them.
    pub to_stdout: bool,
    /// Whether the registries that images are pushed to may be insecure.
    insecure: bool,
    platform: Platform,
}

impl Outputs {
    /// Returns the registries that may be insecure.
    pub fn insecure_hosts(&self, wanted: &[Wanted]) -> Vec<String> {
        if !self.insecure {
            return Vec::new();
        }
        let own = self.list.iter().flat_map(|output| match output {
            Output::Push(push) => push.names.clone(),
            _ => Vec::new(),
        });
        let tags = wanted.iter().flat_map(|wanted| wanted.tags.clone());
        own.chain(tags).map(|name| name.domain().to_owned()).collect()
    }
}

/// Reads what is to be written. `-o type=docker` without a file and `--load` start a program that
/// waits, so this comes before the process enters a user namespace.
pub fn read(
    args: &OutputArgs,
    allow: &[String],
    platform: Option<&str>,
    wanted: &[Wanted],
) -> Result<Outputs, CommandError> {
    let platform = match platform {
        Some(text) => text.parse().map_err(|e| CommandError::usage(format!("bad --platform: {e}")))?,
        None => Platform::host(),
    };
    let mut common = Annotations::default();
    for text in &args.annotations {
        common.add_option(text, &platform)?;
    }
    let mut notes = Vec::new();
    let mut specs = Vec::with_capacity(args.outputs.len() + 2);
    for text in &args.outputs {
        specs.push(Spec::parse(text, &mut notes)?);
    }
    let has_image = specs.iter().any(|spec| spec.kind == Type::Image);
    if args.push && !has_image {
        specs.push(Spec::of(Type::Registry, "--push"));
    }
    match args.load {
        Some(true) => specs.push(Spec::of(Type::Docker, "--load")),
        Some(false) => {
            notes.push(
                "note: --load=false has no effect: the image is put in the store in any case".to_owned(),
            );
        }
        None => {}
    }
    let mut reader =
        Reader { args, allow, common: &common, wanted, platform, notes, insecure: false, loads: false };
    let mut list = Vec::new();
    for spec in &specs {
        list.extend(reader.output(spec)?);
    }
    let annotated = |output: &Output| matches!(output, Output::Archive(_) | Output::Push(_));
    if !common.is_empty() && !list.iter().any(annotated) {
        let why = "annotations are in manifests, and no output writes one; name one with -o, or --push";
        reader.notes.push(format!("note: --annotation has no effect: {why}"));
    }
    let stdout = list.iter().filter(|output| is_stdout(output)).count();
    if stdout > 1 {
        return Err(CommandError::usage("two outputs cannot both be standard output"));
    }
    if stdout == 1 && ui::out_is_terminal() {
        return Err(CommandError::usage("an archive is not written to a terminal")
            .hint("redirect standard output, or name a file with dest=FILE"));
    }
    check_places(args, &list)?;
    // Last: what is wrong was found by now.
    if reader.loads {
        list.extend(loaders::start(&mut reader.notes).map(Output::Load));
    }
    let Reader { notes, insecure, platform, .. } = reader;
    Ok(Outputs { list, notes, to_stdout: stdout == 1, insecure, platform })
}

struct Reader<'a> {
    args: &'a OutputArgs,
    allow: &'a [String],
    common: &'a Annotations,
    wanted: &'a [Wanted],
    platform: Platform,
    notes: Vec<String>,
    insecure: bool,
    loads: bool,
}

impl Reader<'_> {
    fn output(&mut self, spec: &Spec) -> Result<Option<Output>, CommandError> {
        let output = match spec.kind {
            Type::CacheOnly => return Ok(None),
            Type::Local => self.local(spec)?,
            Type::Tar => {
                self.one_image(spec)?;
                self.split(spec)?;
                Output::Tar { dest: dest(spec)?.ok_or_else(|| spec.bad("it has no dest"))? }
            }
            Type::Docker if spec.get("dest").is_none() => {
                if let Some((key, _)) = spec.attributes().next() {
                    return Err(
                        spec.bad(format!("without dest the image is loaded as it is, without `{key}`"))
                    );
                }
                self.loads = true;
                return Ok(None);
            }
            Type::Oci => self.archive(spec, Format::Oci)?,
            Type::Docker => self.archive(spec, Format::Docker)?,
            Type::Image | Type::Registry => return self.image(spec),
        };
        Ok(Some(output))
    }

    fn local(&mut self, spec: &Spec) -> Result<Output, CommandError> {
        self.one_image(spec)?;
        self.split(spec)?;
        let dest = match spec.get("dest") {
            None | Some("") => return Err(spec.bad("it has no dest")),
            Some("-") => {
                return Err(spec
                    .bad("files cannot be written to standard output")
                    .hint("`-o -` writes a tar"));
            }
            Some(dest) => PathBuf::from(dest),
        };
        let delete = match spec.get("mode") {
            None | Some("copy") => false,
            Some("delete") => true,
            Some(other) => return Err(spec.bad(format!("the mode `{other}` is none of copy and delete"))),
        };
        if delete && !self.allow.iter().any(|right| right.trim() == LOCAL_DELETE) {
            check_delete(spec, &dest)?;
        }
        Ok(Output::Local { dest, delete })
    }

    fn archive(&mut self, spec: &Spec, format: Format) -> Result<Output, CommandError> {
        let is_tar = spec.flag("tar")?.unwrap_or(true);
        let place = match (is_tar, dest(spec)?) {
            (_, None) => return Err(spec.bad("it has no dest")),
            (true, Some(dest)) => ArchivePlace::Tar(dest),
            (false, Some(Dest::File(directory))) => ArchivePlace::Directory(directory),
            (false, Some(Dest::Stdout)) => {
                return Err(spec.bad("a directory cannot be written to standard output"));
            }
        };
        let default = Packing {
            // A layer that came with gzip or zstd may stay so in OCI's form; docker's are plain.
            force: format == Format::Docker,
            ..ExportOptions::of(format).packing
        };
        let (manifest, annotations) = self.described(spec)?;
        let packing = packing(spec, default)?.unwrap_or(default);
        check_types(spec, &manifest, &packing)?;
        let descriptions =
            Descriptions { manifest, index: annotations.index, descriptor: annotations.descriptor };
        Ok(Output::Archive(ArchiveOutput { format, place, names: self.names(spec)?, packing, descriptions }))
    }

    fn image(&mut self, spec: &Spec) -> Result<Option<Output>, CommandError> {
        let default_push = spec.kind == Type::Registry || self.args.push;
        let by_digest = spec.flag("push-by-digest")?.unwrap_or(false);
        let names = self.names(spec)?;
        let packing = packing(spec, Packing { compression: Compression::Gzip, level: None, force: false })?;
        let (manifest, annotations) = self.described(spec)?;
        if let Some(packing) = &packing {
            check_types(spec, &manifest, packing)?;
        }
        if !spec.flag("push")?.unwrap_or(default_push) {
            let asked = packing.is_some() || !annotations_of(spec).is_empty() || manifest.docker_types;
            if asked || by_digest {
                let why = "the image stays in the store, which has no manifest of it";
                self.notes
                    .push(format!("note: attributes of manifests have no effect in `{}`: {why}", spec.text));
            }
            return Ok((!names.is_empty()).then_some(Output::Names(names)));
        }
        if !annotations.index.is_empty() {
            return Err(spec.bad("index annotations not supported for single platform export"));
        }
        if names.is_empty() && self.wanted.iter().any(|wanted| wanted.tags.is_empty()) {
            return Err(CommandError::usage("tag is needed when pushing to registry")
                .hint("name the image with -t NAME, or name=NAME of the output"));
        }
        if by_digest && names.iter().any(|name| name.tag().is_some()) {
            let why = "can't push tagged ref by digest; write the name without a tag";
            return Err(spec.bad(why));
        }
        if spec.flag("registry.insecure")?.unwrap_or(false) {
            self.insecure = true;
        }
        let names = names.into_iter().map(Reference::with_default_tag).collect();
        let descriptor = annotations.descriptor;
        Ok(Some(Output::Push(PushOutput { names, by_digest, packing, manifest, descriptor })))
    }

    fn names(&self, spec: &Spec) -> Result<Vec<Reference>, CommandError> {
        let by_digest = spec.flag("push-by-digest")?.unwrap_or(false);
        let texts = spec.get("name").unwrap_or_default().split(',').map(str::trim);
        let mut names = Vec::new();
        for text in texts.filter(|text| !text.is_empty()) {
            let named = parse_tag(text).map_err(|error| spec.bad(error.message))?;
            // Told from one whose tag is written.
            names.push(if by_digest { text.parse().unwrap_or(named) } else { named });
        }
        if !names.is_empty() && self.wanted.len() > 1 {
            return Err(spec
                .bad("there are several targets, and it does not say whose name it is")
                .hint("name the images with -t STAGE=NAME"));
        }
        Ok(names)
    }

    fn described(&self, spec: &Spec) -> Result<(ManifestOptions, Annotations), CommandError> {
        let mut annotations = self.common.clone();
        for (key, value) in annotations_of(spec) {
            let mut own = Annotations::default();
            if !own.add_attribute(key, value, &self.platform).map_err(|why| spec.bad(why))? {
                return Err(spec.bad(format!("`{key}` is no annotation[-TYPE].KEY")));
            }
            annotations.extend(&own);
        }
        let docker_types = !spec.flag("oci-mediatypes")?.unwrap_or(true);
        if docker_types && !annotations.manifest.is_empty() {
            return Err(spec.bad("docker's manifests have no annotations; leave oci-mediatypes out"));
        }
        let manifest =
            ManifestOptions { docker_types, annotations: std::mem::take(&mut annotations.manifest) };
        Ok((manifest, annotations))
    }

    fn one_image(&self, spec: &Spec) -> Result<(), CommandError> {
        match self.wanted.len() > 1 {
            true => Err(CommandError::usage(format!(
                "-o type={} writes one image, and several targets are asked for",
                spec.kind.word()
            ))
            .hint("build the target to be written alone: its steps are cached")),
            false => Ok(()),
        }
    }

    fn split(&mut self, spec: &Spec) -> Result<(), CommandError> {
        if spec.flag("platform-split")?.unwrap_or(false) {
            let why = "an image of one platform has no folder for each";
            self.notes.push(format!("note: platform-split of -o has no effect: {why}"));
        }
        Ok(())
    }
}

fn annotations_of(spec: &Spec) -> Vec<(&str, &str)> {
    spec.attributes().filter(|(key, _)| key.starts_with("annotation")).collect()
}

fn dest(spec: &Spec) -> Result<Option<Dest>, CommandError> {
    match spec.get("dest") {
        None => Ok(None),
        Some("") => Err(spec.bad("its dest is empty")),
        Some("-") => Ok(Some(Dest::Stdout)),
        Some(file) => Ok(Some(Dest::File(PathBuf::from(file)))),
    }
}

/// Reads how layers are packed; `None` where nothing is said of it.
fn packing(spec: &Spec, default: Packing) -> Result<Option<Packing>, CommandError> {
    let compression = match spec.get("compression") {
        None => None,
        Some("uncompressed") => Some(Compression::None),
        Some("gzip") => Some(Compression::Gzip),
        Some("zstd") => Some(Compression::Zstd),
        Some(other @ "estargz") => {
            return Err(spec
                .bad(format!("the compression `{other}` is not supported"))
                .hint("the compressions are uncompressed, gzip and zstd"));
        }
        Some(other) => {
            return Err(spec.bad(format!(
                "there is no compression `{other}`; the compressions are uncompressed, gzip and zstd"
            )));
        }
    };
    let force = spec.flag("force-compression")?;
    let kind = compression.unwrap_or(default.compression);
    let level = match spec.get("compression-level") {
        None => None,
        Some(text) => {
            let most = match kind {
                Compression::None => return Err(spec.bad("what is not compressed has no compression-level")),
                Compression::Gzip => 9,
                Compression::Zstd => 22,
            };
            let level = text.parse::<i32>().ok().filter(|level| (0..=most).contains(level));
            Some(level.ok_or_else(|| spec.bad(format!("compression-level is 0 to {most}, not `{text}`")))?)
        }
    };
    if compression.is_none() && force.is_none() && level.is_none() {
        return Ok(None);
    }
    Ok(Some(Packing { compression: kind, level, force: force.unwrap_or(false) }))
}

fn check_types(spec: &Spec, manifest: &ManifestOptions, packing: &Packing) -> Result<(), CommandError> {
    match manifest.docker_types && packing.compression == Compression::Zstd {
        true => Err(spec.bad("docker's media types have no name for zstd; leave oci-mediatypes out")),
        false => Ok(()),
    }
}

/// Refuses to delete files elsewhere than below the working directory, as docker does.
fn check_delete(spec: &Spec, dest: &Path) -> Result<(), CommandError> {
    let here = std::env::current_dir().and_then(std::fs::canonicalize);
    let there = std::fs::canonicalize(dest);
    let is_below = match (&here, &there) {
        (Ok(here), Ok(there)) => there.starts_with(here) && there != here,
        // One that is not there yet has nothing to lose.
        (_, Err(_)) => true,
        _ => false,
    };
    match is_below {
        true => Ok(()),
        false => Err(spec
            .bad("mode=delete removes files, and the directory is not below the working directory")
            .hint(format!("if that is meant, add `--allow {LOCAL_DELETE}`"))),
    }
}

fn is_stdout(output: &Output) -> bool {
    match output {
        Output::Tar { dest } => *dest == Dest::Stdout,
        Output::Archive(archive) => archive.place == ArchivePlace::Tar(Dest::Stdout),
        _ => false,
    }
}

/// Refuses, before anything is built, what cannot be written after it.
fn check_places(args: &OutputArgs, list: &[Output]) -> Result<(), CommandError> {
    for output in list {
        match output {
            Output::Tar { dest: Dest::File(file) } => check_file(file)?,
            Output::Archive(archive) => match &archive.place {
                ArchivePlace::Tar(Dest::File(file)) => check_file(file)?,
                ArchivePlace::Directory(directory) => check_directory(directory)?,
                ArchivePlace::Tar(Dest::Stdout) => {}
            },
            Output::Local { dest, .. } => check_directory(dest)?,
            _ => {}
        }
    }
    [&args.iidfile, &args.metadata_file].into_iter().flatten().try_for_each(|file| check_file(file))
}

fn check_file(file: &Path) -> Result<(), CommandError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    if file.is_dir() {
        return Err(CommandError::usage(format!("cannot write `{}`: it is a directory", file.display())));
    }
    match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => Err(CommandError::usage(format!(
            "cannot write `{}`: there is no directory `{}`",
            file.display(),
            folder.display()
        ))),
        None => Ok(()),
    }
}

fn check_directory(directory: &Path) -> Result<(), CommandError> {
    match std::fs::metadata(directory) {
        Ok(metadata) if !metadata.is_dir() => {
            Err(CommandError::usage(format!("cannot write `{}`: it is no directory", directory.display())))
        }
        _ => Ok(()),
    }
}

/// Writes the files that tell what was made.
pub fn write_files(args: &OutputArgs, platform: &Outputs, result: &BuildResult) -> Result<(), CommandError> {
    if let Some(file) = &args.iidfile {
        let ids: Vec<String> = result.images.iter().map(|made| made.image.to_string()).collect();
        write_file(file, ids.join("\n").as_bytes())?;
    }
    if let Some(file) = &args.metadata_file {
        write_file(file, &metadata::metadata(result, &platform.platform))?;
    }
    Ok(())
}

/// Writes a small file: whole where it is one, else into what is there (a pipe).
fn write_file(file: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    let failed = |e: std::io::Error| CommandError::new(format!("cannot write `{}`: {e}", file.display()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o644);
    options.open(file).and_then(|mut file| file.write_all(bytes)).map_err(failed)
}
