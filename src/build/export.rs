//! Doing what outputs ask for: files, archives, registries, other programs.
//!
//! All images are in the store by then. Not here: reading what users wrote (`cli`), how archives and
//! registries are written to (`archive`, `registry`).

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use super::error::BuildError;
use super::loader::LoadError;
use super::output::{
    ArchiveOutput, ArchivePlace, Dest, Leaving, MadeManifest, Output, OutputResult, PushOutput,
};
use super::request::Engine;
use crate::archive::{
    self, ArchiveError, Descriptions, ExportImage, ExportOptions, Format, LocalOptions, export_described,
    export_directory,
};
use crate::image::Reference;
use crate::layer::{LeftOut, ViewOptions};
use crate::registry::{LayerState, PushRequest, push};
use crate::report::{Event, Meter, Reporter};

/// Does outputs, in their order; `epoch`: the latest time of files, in seconds since 1970.
///
/// Returns what came of each image, in their order.
pub fn write(
    engine: &Engine,
    reporter: &dyn Reporter,
    images: &[Leaving<'_>],
    outputs: &mut [Output],
    epoch: Option<i64>,
) -> Result<Vec<OutputResult>, BuildError> {
    let mut results: Vec<OutputResult> =
        images.iter().map(|image| OutputResult { manifest: None, names: whole_names(image.tags) }).collect();
    for output in outputs {
        match output {
            Output::Archive(output) => {
                let manifests = archive(engine, reporter, images, output)?;
                for ((result, image), manifest) in results.iter_mut().zip(images).zip(manifests) {
                    add_names(&mut result.names, names(&output.names, image));
                    result.manifest = Some(manifest);
                }
            }
            Output::Push(output) => {
                for (result, image) in results.iter_mut().zip(images) {
                    result.manifest = Some(push_image(engine, reporter, image, output)?);
                    add_names(&mut result.names, names(&output.names, image));
                }
            }
            Output::Names(names) => {
                for (result, image) in results.iter_mut().zip(images) {
                    for name in names.iter() {
                        engine.store.tag(name, &image.image)?;
                    }
                    add_names(&mut result.names, names);
                }
                engine.store.sync()?;
            }
            Output::Load(loader) => {
                let options = ExportOptions::of(Format::Docker);
                let all: Vec<ExportImage> = images.iter().map(|image| exported(image, &[])).collect();
                let meter = Meter::new(reporter, &format!("load into {}", loader.name), "", 0);
                let said = loader.load(|out| {
                    archive::export(engine.store, &all, &options, meter.of(out))
                        .map_err(LoadOrArchive::Archive)
                })?;
                let said = said.lines().map(str::trim).filter(|line| !line.is_empty());
                for line in said {
                    reporter.event(Event::Note { text: format!("{}: {line}", loader.name) });
                }
            }
            Output::Local { dest, delete } => {
                for image in images {
                    let options = LocalOptions { delete: *delete, latest: epoch };
                    let layers = engine.store.image(&image.image)?.layers;
                    let cancel = || engine.cancel.is_cancelled();
                    let done = archive::write_local(engine.store, &layers, dest, options, &cancel)?;
                    if done.left_out_devices > 0 {
                        let text = format!(
                            "warning: {} device nodes are left out of `{}`: only root can make them",
                            done.left_out_devices,
                            dest.display()
                        );
                        reporter.event(Event::Warning { text });
                    }
                }
            }
            Output::Tar { dest } => {
                for image in images {
                    let layers = engine.store.image(&image.image)?.layers;
                    let options = ViewOptions { latest: epoch, ..ViewOptions::default() };
                    let meter = Meter::new(reporter, &writing(dest), "", 0);
                    let write = |out: &mut dyn Write| {
                        archive::export_rootfs(engine.store, &layers, options, &mut meter.of(out))
                    };
                    let left_out = to(dest, engine.store.options().sync, write)?;
                    if left_out != LeftOut::default() {
                        let text = format!(
                            "warning: the tar lacks {} device nodes, {} owners and {} attributes that an ordinary \
                             user's store could not hold",
                            left_out.devices, left_out.owners, left_out.xattrs
                        );
                        reporter.event(Event::Warning { text });
                    }
                }
            }
        }
    }
    Ok(results)
}

/// Names the writing of an archive.
fn writing(dest: &Dest) -> String {
    match dest {
        Dest::Stdout => "write to standard output".to_owned(),
        Dest::File(path) => format!("write {}", path.display()),
    }
}

/// Writes to a file, which is there whole or not at all, or to standard output.
fn to<T>(
    dest: &Dest,
    sync: bool,
    write: impl FnOnce(&mut dyn Write) -> Result<T, ArchiveError>,
) -> Result<T, ArchiveError> {
    match dest {
        Dest::Stdout => write(&mut std::io::stdout().lock()),
        Dest::File(path) => archive::write_whole(path, 0o644, sync, |mut file| write(&mut file)),
    }
}

fn archive(
    engine: &Engine,
    reporter: &dyn Reporter,
    images: &[Leaving<'_>],
    output: &ArchiveOutput,
) -> Result<Vec<MadeManifest>, BuildError> {
    let store = engine.store;
    let options = ExportOptions { packing: output.packing };
    let all: Vec<ExportImage> = images.iter().map(|image| exported(image, &output.names)).collect();
    let descriptions: &Descriptions = &output.descriptions;
    let manifests = match &output.place {
        ArchivePlace::Directory(directory) => {
            export_directory(store, &all, &options, descriptions, directory)?
        }
        ArchivePlace::Tar(dest) => {
            let meter = Meter::new(reporter, &writing(dest), "", 0);
            let write =
                |out: &mut dyn Write| export_described(store, &all, &options, descriptions, meter.of(out));
            to(dest, store.options().sync, write)?
        }
    };
    let made = |manifest: archive::ExportedManifest| MadeManifest {
        digest: manifest.digest,
        size: manifest.size,
        media_type: manifest.media_type,
        annotations: descriptions.descriptor.clone(),
    };
    Ok(manifests.into_iter().map(made).collect())
}

/// Pushes an image under all its names: layers go to each repository once.
fn push_image(
    engine: &Engine,
    reporter: &dyn Reporter,
    image: &Leaving<'_>,
    output: &PushOutput,
) -> Result<MadeManifest, BuildError> {
    let mut repositories: BTreeMap<String, (Reference, Vec<String>)> = BTreeMap::new();
    for name in names(&output.names, image) {
        let (_, tags) = repositories.entry(name.full_name()).or_insert_with(|| (name.clone(), Vec::new()));
        if !output.by_digest {
            tags.push(name.tag().unwrap_or("latest").to_owned());
        }
    }
    let mut made = None;
    for (whole, (name, tags)) in repositories {
        let note = |text: String| reporter.event(Event::Note { text });
        note(format!("The push refers to repository [{whole}]"));
        let request = PushRequest {
            image: image.image,
            name,
            tags: tags.clone(),
            packing: output.packing,
            manifest: output.manifest.clone(),
        };
        let of: Arc<str> = format!("push {whole}").into();
        let progress = |layer: &crate::image::DiffId, state: LayerState| {
            if let Some(transfer) = state.transfer(&of, layer) {
                reporter.event(Event::Transfer(transfer));
            }
            let word = match state {
                LayerState::Preparing | LayerState::Sending { .. } => return,
                LayerState::Exists => "Layer already exists".to_owned(),
                LayerState::Mounted(from) => format!("Mounted from {from}"),
                LayerState::Pushed => "Pushed".to_owned(),
            };
            note(format!("{}: {word}", layer.0.short()));
        };
        let cancel = || engine.cancel.is_cancelled();
        let pushed = push(engine.store, engine.registries, &request, &progress, &cancel);
        reporter.event(Event::TransferEnded { of: of.clone() });
        let pushed = pushed.map_err(|error| match error.is_cancelled() {
            true => BuildError::Cancelled,
            false => BuildError::Push { name: whole.clone(), error },
        })?;
        let shown = if tags.is_empty() { vec![whole] } else { tags };
        for tag in shown {
            note(format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size));
        }
        made = Some(MadeManifest {
            digest: pushed.digest,
            size: pushed.size,
            media_type: pushed.media_type,
            annotations: output.descriptor.clone(),
        });
    }
    made.ok_or(BuildError::NothingToPush)
}

fn exported(image: &Leaving<'_>, own: &[Reference]) -> ExportImage {
    ExportImage { id: image.image, names: names(own, image).to_vec() }
}

/// Returns an output's own names, or else the image's.
fn names<'a>(own: &'a [Reference], image: &Leaving<'a>) -> &'a [Reference] {
    if own.is_empty() { image.tags } else { own }
}

fn whole_names(names: &[Reference]) -> Vec<String> {
    let whole = |name: &Reference| format!("{}:{}", name.full_name(), name.tag().unwrap_or("latest"));
    names.iter().map(whole).collect()
}

fn add_names(all: &mut Vec<String>, names: &[Reference]) {
    for name in whole_names(names) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
}

/// Lets an error of the program and one of the archive pass the same way.
enum LoadOrArchive {
    Load(LoadError),
    Archive(ArchiveError),
}

impl From<LoadError> for LoadOrArchive {
    fn from(error: LoadError) -> LoadOrArchive {
        LoadOrArchive::Load(error)
    }
}

impl From<LoadOrArchive> for BuildError {
    fn from(error: LoadOrArchive) -> BuildError {
        match error {
            LoadOrArchive::Load(error) => BuildError::Load(error),
            LoadOrArchive::Archive(error) => error.into(),
        }
    }
}
