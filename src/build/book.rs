//! Records of steps: written while a build goes on, made images of when asked.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::error::BuildError;
use super::steps::StepBook;
use crate::image::{ContainerConfig, Digest, ImageConfig, ImageId, SnapshotId};
use crate::plan::graph::{Graph, Op, Stage};
use crate::store::{ImageRecord, StepId, StepRecord, Store, StoreError};

/// Writes a record of every step shown, so that a step's id leads somewhere even when the
/// build fails later.
pub struct StoreBook<'a> {
    store: &'a Store,
    graph: &'a Graph,
    /// What was written of each step, by stage and step.
    written: Mutex<HashMap<(usize, usize), Written>>,
    /// The config after the step recorded last, by stage.
    configs: Mutex<HashMap<usize, Configs>>,
    /// The first failure; the build goes on without records.
    failure: Mutex<Option<StoreError>>,
}

struct Written {
    id: StepId,
    parent: Option<StepId>,
    layers: Vec<SnapshotId>,
}

/// The config of a stage as it becomes, step after step.
struct Configs {
    /// The number of steps in it.
    steps: usize,
    config: ContainerConfig,
}

impl Configs {
    /// Returns the config after a step. Steps are asked for in order, so that each change is
    /// made once; an earlier one begins again.
    fn after(&mut self, stage: &Stage, step: usize) -> ContainerConfig {
        if self.steps > step + 1 {
            *self = Configs::of(stage);
        }
        for planned in &stage.steps[self.steps..=step] {
            planned.changes.iter().for_each(|change| change.apply(&mut self.config));
        }
        self.steps = step + 1;
        self.config.clone()
    }

    fn of(stage: &Stage) -> Configs {
        Configs { steps: 0, config: stage.start.clone() }
    }
}

impl<'a> StoreBook<'a> {
    /// Makes the book of a graph.
    pub fn new(store: &'a Store, graph: &'a Graph) -> StoreBook<'a> {
        StoreBook {
            store,
            graph,
            written: Mutex::default(),
            configs: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    /// Returns the first error that kept a record from being written.
    pub fn into_failure(self) -> Option<StoreError> {
        self.failure.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, error: StoreError) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn parent(
        &self,
        written: &HashMap<(usize, usize), Written>,
        stage: usize,
        step: usize,
    ) -> Option<StepId> {
        let place = match step.checked_sub(1) {
            Some(before) => Some((stage, before)),
            None => self.below(stage),
        };
        written.get(&place?).map(|written| written.id.clone())
    }

    fn describe(
        &self,
        index: usize,
        step: usize,
        layers: &[SnapshotId],
        parent: Option<StepId>,
    ) -> StepRecord {
        let stage = &self.graph.stages[index];
        let planned = &stage.steps[step];
        let before = step.checked_sub(1).map_or(0, |before| stage.steps[before].history_len);
        let own = stage.history.get(before..planned.history_len).unwrap_or_default();
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        let config = configs.entry(index).or_insert_with(|| Configs::of(stage)).after(stage, step);
        StepRecord {
            parent,
            base: self.base(stage),
            layers: layers.to_vec(),
            platform: stage.platform.clone(),
            config,
            history: if step == 0 { None } else { own.last().map(|h| h.entry.clone()) },
        }
    }

    /// Returns the image at the bottom of a stage's chain of FROM.
    fn base(&self, stage: &Stage) -> Option<ImageId> {
        let mut next = stage.output;
        while let Some(id) = next {
            let vertex = self.graph.vertex(id);
            if let Op::Image(image) = &vertex.op {
                return Some(image.image);
            }
            next = vertex.inputs.first().and_then(|input| input.from);
        }
        None
    }

    /// Returns the last step of the stage whose state another stage starts from.
    fn below(&self, stage: usize) -> Option<(usize, usize)> {
        let from = self.graph.stages[stage].steps.first()?;
        let state = from.vertex.or(from.state)?;
        let found = self.graph.stages[..stage].iter().rposition(|other| other.output == Some(state))?;
        Some((found, self.graph.stages[found].steps.len().checked_sub(1)?))
    }
}

impl StepBook for StoreBook<'_> {
    fn record(&self, stage: usize, step: usize, layers: &[SnapshotId]) -> (String, bool) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let parent = self.parent(&written, stage, step);
        let record = self.describe(stage, step, layers, parent.clone());
        match self.store.put_step(&record) {
            Ok((id, new)) => {
                let shown = id.to_string();
                written.insert((stage, step), Written { id, parent, layers: layers.to_vec() });
                (shown, !new)
            }
            Err(error) => {
                self.note(error);
                (Digest::of(format!("{record:?}")).short(), false)
            }
        }
    }

    fn update(&self, stage: usize, step: usize, layers: &[SnapshotId]) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let parent = self.parent(&written, stage, step);
        let Some(old) = written.get(&(stage, step)) else { return };
        if old.layers == layers && old.parent == parent {
            return;
        }
        let record = self.describe(stage, step, layers, parent.clone());
        let moved = self.store.put_step(&record).and_then(|(id, _)| {
            if id != old.id {
                self.store.move_step(&old.id, &id)?;
            }
            Ok(id)
        });
        match moved {
            Ok(id) => {
                written.insert((stage, step), Written { id, parent, layers: layers.to_vec() });
            }
            Err(error) => self.note(error),
        }
    }
}

/// Makes an image of a step: what it would be if the Dockerfile ended there.
pub fn image_of_step(store: &Store, id: &StepId) -> Result<ImageId, BuildError> {
    let (config, layers) = config_of_step(store, id)?;
    let record = ImageRecord { config: config.to_bytes(), manifest: None, layers };
    Ok(store.put_image(&record)?)
}

/// Returns the config and the layers of the image that a step would make; writes nothing.
pub fn config_of_step(store: &Store, id: &StepId) -> Result<(ImageConfig, Vec<SnapshotId>), BuildError> {
    let gone = || StoreError::NotFound(id.to_string());
    let last = store.step(id)?.ok_or_else(gone)?;
    let mut config = ImageConfig::empty(&last.platform);
    if let Some(base) = &last.base {
        let base = store.image(base)?.config;
        config.author = base.author;
        config.history = base.history;
    }
    let mut entries = Vec::new();
    let mut next = Some(last.clone());
    while let Some(record) = next {
        entries.extend(record.history);
        next = match record.parent {
            Some(parent) => Some(store.step(&parent)?.ok_or_else(gone)?),
            None => None,
        };
    }
    config.config = last.config;
    let mut diff_ids = Vec::new();
    let mut times = Vec::new();
    for layer in &last.layers {
        let digests = store.digests(layer)?.ok_or_else(|| BuildError::Unfinished(id.to_string()))?;
        diff_ids.push(digests.diff_id);
        times.push(store.meta(layer)?.map(|meta| meta.created.to_string()));
    }
    // Lines and layers meet from the top: the newest line with a layer is that of the topmost layer.
    let mut time = times.iter().rev();
    let mut current = time.next().cloned().flatten();
    let mut first = true;
    for entry in &mut entries {
        if !entry.empty_layer && !std::mem::take(&mut first) {
            current = time.next().cloned().flatten();
        }
        entry.created = current.clone();
    }
    entries.reverse();
    config.history.extend(entries);
    config.rootfs.diff_ids = diff_ids;
    config.created = times.last().cloned().flatten();
    Ok((config, last.layers))
}

#[cfg(test)]
mod tests {
    use super::super::testing::graph;
    use super::*;
    use crate::image::Platform;
    use crate::layer::{DigestOptions, Times, digest_layer};
    use crate::store::testing;
    use crate::sys::{OverlayXattrs, RootDir};

    fn digested(store: &Store, name: &str) -> SnapshotId {
        let layer = testing::layer(store, name, name);
        let upper = RootDir::open(&store.snapshot_dir(&layer)).unwrap();
        let options = DigestOptions { xattrs: OverlayXattrs::Trusted, times: Times::Ignore, below: None };
        store.set_digests(&layer, &digest_layer(&upper, &options).unwrap()).unwrap();
        layer
    }

    /// A graph on an image that is in the store, with the image's layer.
    fn on_image(store: &Store, text: &str) -> (Graph, SnapshotId) {
        let layer = digested(store, "base");
        let platform: Platform = "linux/amd64".parse().unwrap();
        let mut config = ImageConfig::empty(&platform);
        config.author = Some("somebody".to_owned());
        config.history =
            vec![crate::image::History { comment: Some("the base".to_owned()), ..Default::default() }];
        config.rootfs.diff_ids = vec![store.digests(&layer).unwrap().unwrap().diff_id];
        let record = ImageRecord { config: config.to_bytes(), manifest: None, layers: vec![layer.clone()] };
        let image = store.put_image(&record).unwrap();
        let mut graph = graph(text);
        for vertex in &mut graph.vertices {
            if let Op::Image(op) = &mut vertex.op {
                op.image = image;
            }
        }
        (graph, layer)
    }

    #[test]
    fn the_image_of_a_step_is_the_dockerfile_up_to_there() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let (graph, base) = on_image(&store, "FROM base\nENV A=1\nRUN x\nCMD [\"y\"]\nUSER app\n");
        let run = digested(&store, "run");
        let book = StoreBook::new(&store, &graph);
        let below = [base.clone()];
        let all = [base, run];
        let (first, known) = book.record(0, 0, &below);
        assert!(!known);
        book.record(0, 1, &below);
        book.record(0, 2, &all);
        let (cmd, _) = book.record(0, 3, &all);
        assert_eq!(book.record(0, 3, &all), (cmd.clone(), true), "the same again");
        assert!(book.into_failure().is_none());

        let image = store.image(&image_of_step(&store, &cmd.parse().unwrap()).unwrap()).unwrap();
        assert_eq!(image.layers, all);
        let config = image.config;
        assert_eq!(config.config.cmd, Some(vec!["y".to_owned()]));
        assert_eq!(config.config.user, "", "USER comes later");
        assert_eq!(config.author.as_deref(), Some("somebody"));
        let lines: Vec<(&str, bool)> = config
            .history
            .iter()
            .map(|h| (h.created_by.as_deref().unwrap_or_default(), h.empty_layer))
            .collect();
        assert_eq!(
            lines,
            [("", false), ("ENV A=1", true), ("RUN /bin/sh -c x # buildkit", false), ("CMD [\"y\"]", true)]
        );
        assert_eq!(config.rootfs.diff_ids.len(), 2);
        assert!(config.history[1..].iter().all(|h| h.created.is_some()));

        let image = store.image(&image_of_step(&store, &first.parse().unwrap()).unwrap()).unwrap();
        assert_eq!((image.config.history.len(), image.layers.len()), (1, 1));
    }

    #[test]
    fn ids_lead_to_the_layers_that_stayed() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let (graph, base) = on_image(&store, "FROM base\nRUN x\nRUN y\n");
        let (new, old, last) = (digested(&store, "new"), digested(&store, "old"), digested(&store, "last"));
        let book = StoreBook::new(&store, &graph);
        book.record(0, 0, std::slice::from_ref(&base));
        let (x, _) = book.record(0, 1, &[base.clone(), new.clone()]);
        let (y, _) = book.record(0, 2, &[base.clone(), new.clone(), last.clone()]);
        store.discard(&new);
        assert!(image_of_step(&store, &y.parse().unwrap()).is_err());

        book.update(0, 0, std::slice::from_ref(&base));
        book.update(0, 1, &[base.clone(), old.clone()]);
        book.update(0, 2, &[base.clone(), old.clone(), last.clone()]);
        let layers = |id: &str| store.step(&id.parse().unwrap()).unwrap().unwrap().layers;
        assert_eq!(layers(&x), [base.clone(), old.clone()]);
        assert_eq!(layers(&y), [base, old, last]);
        let (config, _) = config_of_step(&store, &y.parse().unwrap()).unwrap();
        assert_eq!(config.history.len(), 3, "the step before it moved, too");
        assert!(book.into_failure().is_none());
    }

    #[test]
    fn a_layer_that_was_not_read_makes_no_image() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let (graph, base) = on_image(&store, "FROM base\nRUN x\n");
        let book = StoreBook::new(&store, &graph);
        let (id, _) = book.record(0, 1, &[base, testing::layer(&store, "f", "f")]);
        let error = image_of_step(&store, &id.parse().unwrap()).unwrap_err();
        assert!(matches!(error, BuildError::Unfinished(_)), "{error}");
    }
}
