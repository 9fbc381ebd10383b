//! The engine's worker over a store: gives each vertex what it needs, commits what it makes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::copy;
use super::error::WorkerError;
use super::mount::Mounts;
use super::parts::{Group, groups};
use super::sources::Sources;
use super::step_options::StepOptions;
use crate::context::{self, Selection, Tree};
use crate::image::{DiffId, Digest, Hasher, LayerDigest, SelectionDigest, SnapshotId};
use crate::layer::{DigestOptions, Follower, LayerDigests, Times, clamp_times, digest_layer};
use crate::plan::graph::{CopyOp, EdgeKind, Op, VertexId, WorkdirOp};
use crate::plan::{self, Entitlements};
use crate::report::{Event, Reporter};
use crate::sandbox::network::EmptyNetworks;
use crate::sandbox::{LazyLauncher, LazyNetworks};
use crate::solve::{
    self, Cancel, Fields, Imports, InputView, Layer, Log, Produced, Selected, Task, Value, View, Worker,
};
use crate::store::{CopiedFiles, Draft, SnapshotKind, SnapshotMeta, Store, StoreError, image_layer_digest};
use crate::sys::RootDir;
use crate::sys::clock::file_clock;
use crate::sys::users;

/// The most files of a selection that a record lists, to explain a later miss with.
pub(super) const LISTED_FILES: usize = 1000;

/// A directory or file of the host that RUN steps see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Absolute.
    pub host: PathBuf,
    /// Absolute, in the step.
    pub destination: String,
    pub read_only: bool,
}

/// What a worker works with.
pub struct StoreWorkerOptions<'a> {
    pub store: &'a Store,
    pub launcher: &'a LazyLauncher,
    /// Where private networks come from.
    pub networks: &'a LazyNetworks,
    /// The host's, as text.
    pub resolv_conf: String,
    pub reporter: &'a dyn Reporter,
    /// The contexts, and what is fetched.
    pub sources: &'a Sources<'a>,
    pub volumes: Vec<Volume>,
    pub ca_cert: Option<PathBuf>,
    /// What the command line gives to every RUN.
    pub step: StepOptions,
    /// What the command line consents to; asked again for every RUN, whatever the plan let pass.
    pub entitlements: Entitlements,
    /// What brings the files of layers that were found in caches of elsewhere.
    pub imports: Option<&'a dyn Imports>,
}

/// Does what vertices ask for, in a store.
pub struct StoreWorker<'a> {
    pub(super) options: StoreWorkerOptions<'a>,
    /// What COPYs select and of what, between `select` and `execute`; by the number of the group.
    selections: Mutex<HashMap<(VertexId, usize), SelectedOf>>,
    /// When RUNs ran, between `execute` and `digest`.
    runs: Mutex<HashMap<SnapshotId, RunLayer>>,
    /// What is known of the layers of COPYs, from `execute` on.
    copies: Mutex<HashMap<SnapshotId, CopyLayer>>,
    /// Digests of new layers, between `digest` and `keep`.
    digests: Mutex<HashMap<SnapshotId, LayerDigests>>,
    pub(super) mounts: Mounts,
    /// What was said already of options without effect here: once is enough.
    pub(super) noted: Mutex<BTreeSet<String>>,
    /// For steps without a network.
    pub(super) empty_networks: EmptyNetworks,
}

/// What was selected, and of which view.
type SelectedOf = (Option<View>, Arc<Selection>);

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the digest of a RUN's layer needs to know.
struct RunLayer {
    times: Times,
    /// The merged view the step ran on.
    base: RootDir,
}

/// What a COPY leaves besides its layer.
struct CopyLayer {
    /// Who has digested it while it was written, until `digest`.
    follower: Option<Follower>,
    /// The digest of what the COPY says and reads, and what the next one like it may link, until `keep`.
    name: Digest,
    files: CopiedFiles,
}

/// A layer in the making.
pub(super) struct NewLayer {
    pub draft: Draft,
    pub upper: RootDir,
    /// The merged view of what lies beneath.
    pub base: RootDir,
}

impl<'a> StoreWorker<'a> {
    /// Makes a worker.
    pub fn new(options: StoreWorkerOptions<'a>) -> StoreWorker<'a> {
        StoreWorker {
            options,
            selections: Mutex::default(),
            runs: Mutex::default(),
            copies: Mutex::default(),
            digests: Mutex::default(),
            mounts: Mounts::default(),
            noted: Mutex::default(),
            empty_networks: EmptyNetworks::default(),
        }
    }

    /// Writes the digests of context files for the next build; a failure costs it time only.
    pub fn save_digests(&self) {
        if let Err(error) = self.options.sources.save_digests() {
            let text = format!("warning: cannot keep the digests of context files: {error}");
            self.options.reporter.event(Event::Warning { text });
        }
    }

    /// Starts a layer on a state.
    pub(super) fn new_layer(&self, base: &[SnapshotId]) -> Result<NewLayer, WorkerError> {
        let store = self.options.store;
        let base = store.view(base)?;
        let draft = store.draft()?;
        let upper = RootDir::open(&draft.dir).map_err(|source| WorkerError::Io {
            what: format!("cannot open `{}`", draft.dir.display()),
            source,
        })?;
        Ok(NewLayer { draft, upper, base })
    }

    fn commit(&self, draft: Draft, kind: SnapshotKind) -> Result<Produced, WorkerError> {
        // Records keep milliseconds; what is compared later must be what was written.
        let now = Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap_or_default();
        let snapshot = self.options.store.commit(draft, SnapshotMeta::new(kind, now))?;
        Ok(Produced { snapshot: Some(snapshot), created_unix_ms: now.as_millisecond() })
    }

    /// Selects what a group of sources stands for, once for each view.
    ///
    /// Between `select` and `execute` a new layer of the source may have made room for an older
    /// one of equal content: the same files, but other inodes, which `copy` would take for a change.
    fn selection(
        &self,
        id: (VertexId, usize),
        op: &CopyOp,
        group: &Group,
        view: Option<&View>,
        tree: &Tree,
    ) -> Result<Arc<Selection>, WorkerError> {
        if let Some((of, found)) = locked(&self.selections).get(&id)
            && of.as_ref() == view
        {
            return Ok(found.clone());
        }
        let selection = context::select(tree, &group.sources, &copy::select_options(op))?;
        for socket in &selection.sockets {
            let text = format!("warning: the socket `{}` is not copied", socket.display());
            self.options.reporter.event(Event::Warning { text });
        }
        let selection = Arc::new(selection);
        locked(&self.selections).insert(id, (view.cloned(), selection.clone()));
        Ok(selection)
    }

    /// Brings the layers of a view here, and returns it with the ids that the disk knows them by.
    fn here(&self, view: &View, cancel: &Cancel) -> Result<View, WorkerError> {
        match (view, self.options.imports) {
            (View::State(layers), Some(imports)) => {
                let brought = imports.bring(layers, cancel).map_err(|error| match cancel.is_cancelled() {
                    true => WorkerError::Cancelled,
                    false => WorkerError::Import(error),
                });
                Ok(View::State(brought?))
            }
            _ => Ok(view.clone()),
        }
    }

    /// The same for all inputs of a vertex; a state that only lies beneath is not looked at.
    fn all_here(&self, inputs: &[InputView], cancel: &Cancel) -> Result<Vec<InputView>, WorkerError> {
        let here = |input: &InputView| {
            let view = match input.kind {
                EdgeKind::Below => View::State(Vec::new()),
                _ => self.here(&input.view, cancel)?,
            };
            Ok(InputView { kind: input.kind, view })
        };
        inputs.iter().map(here).collect()
    }

    /// Returns the tree that an input shows; the empty one for none.
    pub(super) fn tree(&self, view: Option<&View>) -> Result<Arc<Tree>, WorkerError> {
        match view {
            Some(View::Context(name)) => {
                self.options.sources.get(name).ok_or_else(|| WorkerError::NoSource(name.clone()))
            }
            Some(View::State(layers)) => Ok(Arc::new(Tree::state(self.options.store.view(layers)?))),
            None => Ok(Arc::new(Tree::state(self.options.store.view(&[])?))),
        }
    }

    fn copy(&self, task: Task<'_>, op: &CopyOp, inputs: &[InputView]) -> Result<Produced, WorkerError> {
        let layer = self.new_layer(base_of(inputs))?;
        let xattrs = self.options.store.options().xattrs;
        let groups = groups(op);
        let mut found = Vec::with_capacity(groups.len());
        for (number, group) in groups.iter().enumerate() {
            let view = group.input.and_then(|input| inputs.get(input)).map(|input| &input.view);
            let tree = self.tree(view)?;
            let selection = self.selection((task.id, number), op, group, view, &tree)?;
            found.push((tree, selection));
        }
        let parts = found.iter().zip(&groups).map(|((tree, selection), group)| copy::Part {
            selection,
            tree,
            unpack: group.unpack,
        });
        let parts: Vec<copy::Part<'_>> = parts.collect();
        let name = self.copy_name(task);
        let follower = match worth_following(&parts) {
            // Where no thread can be started the layer is read afterwards.
            true => Follower::start(&layer.upper, xattrs, times_of_copy(op)).ok(),
            false => None,
        };
        let earlier = self.options.store.earlier_copy(&name)?;
        let mut aids = copy::Aids { earlier, follower, files: CopiedFiles::default() };
        let done = copy::copy(&parts, op, &layer.base, &layer.upper, xattrs, &mut aids)?;
        // What becomes older now was announced newer; nothing does, but heredocs and special files.
        let clamped = self.clamp(&layer.upper, op.source_date_epoch)?;
        let (follower, files) = (aids.follower.filter(|_| !clamped), aids.files);
        let mut selections = locked(&self.selections);
        (0..groups.len()).for_each(|number| drop(selections.remove(&(task.id, number))));
        drop(selections);
        self.warn_left_out(done.left_out_owners, done.left_out_devices, done.left_out_xattrs);
        let produced = self.commit(layer.draft, SnapshotKind::Copy)?;
        if let Some(snapshot) = &produced.snapshot {
            locked(&self.copies).insert(snapshot.clone(), CopyLayer { follower, name, files });
        }
        Ok(produced)
    }

    /// Names a COPY by what it says and by the directories that the build reads, so that the same one
    /// is known in the next build, and others are not taken for it.
    fn copy_name(&self, task: Task<'_>) -> Digest {
        let mut hasher = Hasher::new();
        hasher.update(b"rbuild copy v1\n");
        hasher.update(solve::op_digest("copy", &self.fields(task)).0.as_bytes());
        for path in self.options.sources.directories() {
            hasher.update(&(path.len() as u64).to_le_bytes());
            hasher.update(&path);
        }
        hasher.finish()
    }

    /// Digests what each input of a COPY selects: of all its groups, in their order.
    fn select_copy(
        &self,
        task: Task<'_>,
        op: &CopyOp,
        input: usize,
        view: &View,
    ) -> Result<Selected, WorkerError> {
        let tree = self.tree(Some(view))?;
        let mut digests = Vec::new();
        let mut files = BTreeMap::new();
        let mut listed = 0;
        for (number, group) in groups(op).iter().enumerate().filter(|(_, group)| group.input == Some(input)) {
            let selection = self.selection((task.id, number), op, group, Some(view), &tree)?;
            listed += selection.file_count();
            if listed <= LISTED_FILES {
                let list = selection.listing().into_iter();
                files.extend(list.map(|file| (file.path, file.digest.to_string())));
            }
            digests.push(selection.digest);
        }
        if listed > LISTED_FILES {
            files.clear();
        }
        let digest = match digests[..] {
            [only] => only,
            _ => SelectionDigest(Digest::of(digests.iter().map(|d| d.to_string()).collect::<String>())),
        };
        Ok(Selected { digest, files })
    }

    /// Makes no file of a new layer newer than SOURCE_DATE_EPOCH, where that is set; tells whether
    /// anything but its top was.
    fn clamp(&self, upper: &RootDir, epoch: Option<i64>) -> Result<bool, WorkerError> {
        let Some(seconds) = epoch else { return Ok(false) };
        clamp_times(upper, seconds).map_err(|source| WorkerError::Io {
            what: "cannot set the times of the new layer".to_owned(),
            source,
        })
    }

    fn warn_left_out(&self, owners: u64, devices: u64, xattrs: u64) {
        let mut parts = Vec::new();
        for (count, what) in [
            (owners, "owners that this user namespace does not know (root now)"),
            (devices, "devices that may not be made here"),
            (xattrs, "attributes that may not be set here"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        if !parts.is_empty() {
            let text = format!("warning: left out of a copy: {}", parts.join(", "));
            self.options.reporter.event(Event::Warning { text });
        }
    }

    fn workdir(&self, op: &WorkdirOp, inputs: &[InputView]) -> Result<Produced, WorkerError> {
        let layer = self.new_layer(base_of(inputs))?;
        let user = users::lookup(&layer.base, &op.user)?;
        let owner = users::Owner { uid: user.uid, gid: user.gid };
        let xattrs = self.options.store.options().xattrs;
        copy::make_directory(&layer.base, &layer.upper, &op.path, owner, xattrs)?;
        self.clamp(&layer.upper, op.source_date_epoch)?;
        self.commit(layer.draft, SnapshotKind::Workdir)
    }
}

/// Tells whether enough is copied for a thread that digests it meanwhile; in tests it always is.
fn worth_following(parts: &[copy::Part<'_>]) -> bool {
    const FILES: usize = 64;
    const BYTES: u64 = 1 << 20;
    let files: usize = parts.iter().map(|part| part.selection.file_count()).sum();
    let bytes = || parts.iter().map(|part| part.selection.bytes()).sum::<u64>();
    cfg!(debug_assertions) || files >= FILES || bytes() >= BYTES
}

fn times_of_copy(op: &CopyOp) -> Times {
    match op.source_date_epoch {
        Some(_) => Times::All,
        None => Times::Ignore,
    }
}

/// Returns the layers a vertex works on; none for scratch.
pub(super) fn base_of(inputs: &[InputView]) -> &[SnapshotId] {
    match inputs.first().map(|input| &input.view) {
        Some(View::State(layers)) => layers,
        _ => &[],
    }
}

impl Worker for StoreWorker<'_> {
    type Error = WorkerError;

    fn fields(&self, task: Task<'_>) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in plan::fields::fields(&task.vertex.op) {
            let value = match value {
                plan::fields::Value::Text(text) => Value::Text(text),
                plan::fields::Value::Number(number) => Value::Number(number),
                plan::fields::Value::Bool(yes) => Value::Bool(yes),
                plan::fields::Value::List(list) => list.into(),
            };
            fields.push(name, value);
        }
        fields
    }

    fn image(&self, task: Task<'_>) -> Result<Vec<Layer>, WorkerError> {
        let Op::Image(op) = &task.vertex.op else { return Ok(Vec::new()) };
        let image = self.options.store.image(&op.image)?;
        let layer = |(snapshot, diff_id): (SnapshotId, &DiffId)| {
            // A layer that was built here is known by its content, and stays known by it in
            // the builds on top; one that came with an image has nothing but its DiffID.
            let digests = self.options.store.digests(&snapshot)?;
            let content = digests.map_or_else(|| image_layer_digest(diff_id), |d| d.content);
            let created = self.options.store.meta(&snapshot)?.map(|meta| meta.created.as_millisecond());
            let portable = image_layer_digest(diff_id);
            Ok(Layer { snapshot, content, portable, created_unix_ms: created.unwrap_or_default() })
        };
        image.layers.into_iter().zip(&image.config.rootfs.diff_ids).map(layer).collect()
    }

    fn fetch(&self, task: Task<'_>, cancel: &Cancel) -> Result<(), WorkerError> {
        self.options.sources.fetch(&task.vertex.op, cancel)
    }

    fn select(
        &self,
        task: Task<'_>,
        input: usize,
        view: &View,
        cancel: &Cancel,
    ) -> Result<Selected, WorkerError> {
        let view = &self.here(view, cancel)?;
        match &task.vertex.op {
            Op::Copy(op) => self.select_copy(task, op, input, view),
            Op::Run(op) => self.select_mount(op, input, view),
            _ => Err(StoreError::NotFound("the source of a step".to_owned()).into()),
        }
    }

    fn reads(&self, task: Task<'_>, input: usize) -> Option<Digest> {
        let mut hasher = Hasher::new();
        let mut text = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        match &task.vertex.op {
            Op::Copy(op) => {
                text("copy");
                text(if op.parents { "parents" } else { "" });
                text(&op.exclude.len().to_string());
                op.exclude.iter().for_each(|pattern| text(pattern));
                for group in groups(op).iter().filter(|group| group.input == Some(input)) {
                    text(&group.sources.len().to_string());
                    for source in &group.sources {
                        match source {
                            context::Source::Path(path) => ["path", path].map(&mut text),
                            context::Source::Inline { name, data } => {
                                text("inline");
                                [name.as_str(), data].map(&mut text)
                            }
                        };
                    }
                }
            }
            Op::Run(op) => {
                text("bind");
                text(self.bind_source(op, input)?.1);
            }
            _ => return None,
        }
        Some(hasher.finish())
    }

    fn execute(
        &self,
        task: Task<'_>,
        inputs: &[InputView],
        log: Log<'_>,
        cancel: &Cancel,
    ) -> Result<Produced, WorkerError> {
        if cancel.is_cancelled() {
            return Err(WorkerError::Cancelled);
        }
        let inputs = &self.all_here(inputs, cancel)?;
        match &task.vertex.op {
            Op::Run(op) => {
                // By the clock of files: what the step makes at once must not seem older than it.
                let from = file_clock();
                let NewLayer { mut draft, base, upper } = match self.run(op, inputs, log, cancel) {
                    // Nothing ran yet; another way of merging layers may do.
                    Err(error) if error.may_go_another_way(|why| self.options.store.overlay_failed(why)) => {
                        self.run(op, inputs, log, cancel)?
                    }
                    other => other?,
                };
                if op.source_date_epoch.is_some() {
                    self.clamp(&upper, op.source_date_epoch)?;
                    draft.changed();
                }
                let now = Timestamp::now();
                let until = (now.as_second(), now.subsec_nanosecond().unsigned_abs());
                let produced = self.commit(draft, SnapshotKind::Run)?;
                if let Some(snapshot) = &produced.snapshot {
                    let times = Times::Now { from, until };
                    locked(&self.runs).insert(snapshot.clone(), RunLayer { times, base });
                }
                Ok(produced)
            }
            Op::Copy(op) => self.copy(task, op, inputs),
            Op::Workdir(op) => self.workdir(op, inputs),
            Op::Image(_) | Op::Context(_) | Op::Http(_) | Op::Git(_) => {
                Ok(Produced { snapshot: None, created_unix_ms: 0 })
            }
        }
    }

    fn digest(&self, task: Task<'_>, snapshot: &SnapshotId, _: &Cancel) -> Result<LayerDigest, WorkerError> {
        let store = self.options.store;
        let run = locked(&self.runs).remove(snapshot);
        let times = match task.vertex.op.source_date_epoch() {
            Some(_) => Times::All,
            None => run.as_ref().map_or(Times::Ignore, |run| run.times),
        };
        let below = run.as_ref().map(|run| &run.base);
        let path = store.snapshot_dir(snapshot);
        let upper = RootDir::open(&path).map_err(|source| WorkerError::Io {
            what: format!("cannot open `{}`", path.display()),
            source,
        })?;
        let read = || digest_layer(&upper, &DigestOptions { xattrs: store.options().xattrs, times, below });
        let follower = locked(&self.copies).get_mut(snapshot).and_then(|copy| copy.follower.take());
        let digests = match follower.and_then(Follower::finish) {
            Some(digests) => {
                debug_assert_eq!(digests, read()?, "as it was digested while it was copied");
                digests
            }
            None => read()?,
        };
        let content = digests.content;
        locked(&self.digests).insert(snapshot.clone(), digests);
        Ok(content)
    }

    fn keep(&self, _: Task<'_>, snapshot: &SnapshotId) -> Result<(), WorkerError> {
        if let Some(digests) = locked(&self.digests).remove(snapshot) {
            self.options.store.set_digests(snapshot, &digests)?;
        }
        if let Some(CopyLayer { name, files, .. }) = locked(&self.copies).remove(snapshot) {
            self.options.store.set_copied(snapshot, &name, &files)?;
        }
        Ok(())
    }

    fn discard(&self, snapshot: &SnapshotId) {
        locked(&self.digests).remove(snapshot);
        drop(locked(&self.copies).remove(snapshot));
        self.options.store.discard(snapshot);
    }
}
