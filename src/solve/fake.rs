//! A small world for tests of the engine: layers are maps, commands are a toy language.
//!
//! The world checks what the engine must never do: read a layer that is gone,
//! discard one that is in use by a record, publish one that is not digested.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::ThreadId;

use crate::image::{CacheKey, Digest, ImageId, LayerDigest, OpDigest, Platform, SelectionDigest, SnapshotId};
use crate::plan::graph::*;
use crate::report::{Event, Reporter, Stream};

use super::*;

/// The files of a layer or a state.
pub type Files = BTreeMap<String, String>;

/// Returns what stands for a digest of some files.
pub fn digest_of(value: &impl Debug) -> Digest {
    Digest::of(format!("{value:?}"))
}

#[derive(Clone)]
pub struct Snapshot {
    pub files: Files,
    pub kind: String,
    pub created: i64,
    pub kept: bool,
}

/// What lies on the disk of the fake; many workers share it.
#[derive(Default)]
pub struct World {
    pub snapshots: Mutex<BTreeMap<SnapshotId, Snapshot>>,
    pub records: Mutex<BTreeMap<CacheKey, Record>>,
    pub discarded: Mutex<Vec<SnapshotId>>,
    locks: Arc<(Mutex<HashSet<Digest>>, Condvar)>,
    clock: AtomicUsize,
    pub lookups: AtomicUsize,
    pub publishes: AtomicUsize,
    /// Whether the disk is full: no record can be written.
    pub full: std::sync::atomic::AtomicBool,
    /// What earlier builds knew of the vertices of a graph, the last one first.
    pub earlier: Mutex<BTreeMap<usize, Vec<Earlier>>>,
    /// Runs when somebody has to wait for a step's lock.
    pub on_contended: Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl World {
    pub fn tick(&self) -> i64 {
        self.clock.fetch_add(1, Ordering::SeqCst) as i64 + 1
    }

    pub fn commit(&self, files: Files, kind: &str) -> (SnapshotId, i64) {
        let created = self.tick();
        let id = SnapshotId::from_bits(created as u64);
        let snapshot = Snapshot { files, kind: kind.into(), created, kept: false };
        self.snapshots.lock().unwrap().insert(id.clone(), snapshot);
        (id, created)
    }

    /// The merged files of a state; panics when a layer of it is gone.
    pub fn merged(&self, layers: &[SnapshotId]) -> Files {
        let snapshots = self.snapshots.lock().unwrap();
        let layers = layers.iter().map(|id| snapshots.get(id).unwrap_or_else(|| panic!("{id} is gone")));
        layers.flat_map(|snapshot| snapshot.files.clone()).collect()
    }

    pub fn files(&self, id: &SnapshotId) -> Files {
        self.snapshots.lock().unwrap()[id].files.clone()
    }
}

struct StepGuard {
    step: Digest,
    locks: Arc<(Mutex<HashSet<Digest>>, Condvar)>,
}

impl Drop for StepGuard {
    fn drop(&mut self) {
        assert!(self.locks.0.lock().unwrap().remove(&self.step));
        self.locks.1.notify_all();
    }
}

impl CacheSource for World {
    fn has_op(&self, op: &OpDigest) -> bool {
        self.records.lock().unwrap().values().any(|record| record.op == *op)
    }

    fn lookup(&self, op: &OpDigest, key: &CacheKey) -> Option<Record> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        self.records.lock().unwrap().get(key).filter(|record| record.op == *op).cloned()
    }

    fn for_op(&self, op: &OpDigest) -> Vec<Record> {
        self.records.lock().unwrap().values().filter(|record| record.op == *op).cloned().collect()
    }

    fn earlier(&self, vertex: VertexId) -> Vec<Earlier> {
        self.earlier.lock().unwrap().get(&vertex.0).cloned().unwrap_or_default()
    }

    fn by_content(&self, content: &LayerDigest, kind: &str) -> Option<Existing> {
        let snapshots = self.snapshots.lock().unwrap();
        let equal = snapshots.iter().filter(|(_, snapshot)| {
            snapshot.kept && snapshot.kind == kind && LayerDigest(digest_of(&snapshot.files)) == *content
        });
        equal
            .min_by_key(|(_, snapshot)| snapshot.created)
            .map(|(id, snapshot)| Existing { snapshot: id.clone(), created_unix_ms: snapshot.created })
    }

    fn publish(&self, record: Record) -> Result<(), CacheError> {
        self.publishes.fetch_add(1, Ordering::SeqCst);
        if let Some(id) = &record.snapshot {
            let snapshot = self.snapshots.lock().unwrap().get(id).cloned().expect("published but gone");
            assert!(snapshot.kept, "published but not kept");
            assert_eq!(record.content, Some(LayerDigest(digest_of(&snapshot.files))));
        }
        assert_eq!(record.op, op_digest(&record.kind, &record.fields));
        assert_eq!(record.key, cache_key(&record.op, &record.inputs));
        if self.full.load(Ordering::SeqCst) {
            return Err("the disk is full".into());
        }
        self.records.lock().unwrap().insert(record.key, record);
        Ok(())
    }

    fn try_step_lock(&self, step: &Digest) -> Result<Option<Box<dyn Guard>>, CacheError> {
        let free = self.locks.0.lock().unwrap().insert(*step);
        Ok(free.then(|| Box::new(StepGuard { step: *step, locks: self.locks.clone() }) as Box<dyn Guard>))
    }

    fn step_lock(&self, step: &Digest, cancel: &Cancel) -> Result<Box<dyn Guard>, CacheError> {
        if let Some(tell) = &*self.on_contended.lock().unwrap() {
            tell();
        }
        let locks = self.locks.clone();
        let _hook = cancel.on_cancel(move || {
            drop(locks.0.lock().unwrap());
            locks.1.notify_all();
        });
        let mut held = self.locks.0.lock().unwrap();
        while !cancel.is_cancelled() && !held.insert(*step) {
            held = self.locks.1.wait(held).unwrap();
        }
        drop(held);
        match cancel.is_cancelled() {
            true => Err("cancelled".into()),
            false => Ok(Box::new(StepGuard { step: *step, locks: self.locks.clone() })),
        }
    }
}

#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{0}")]
pub struct FakeError(pub String);

type Hook = Box<dyn Fn(&Cancel) + Send + Sync>;

/// Does vertices in a [`World`], and counts.
#[derive(Default)]
pub struct Fake {
    pub world: Arc<World>,
    /// The files of every context.
    pub context: Mutex<Files>,
    /// What `RUN now` writes.
    pub now: Mutex<String>,
    /// When the layers of images were made.
    pub image_created: Mutex<i64>,
    /// The texts of the vertices executed.
    pub executed: Mutex<Vec<String>>,
    pub selects: AtomicUsize,
    pub digests: AtomicUsize,
    /// The threads that anything was called on.
    pub threads: Mutex<HashSet<ThreadId>>,
    pub running: AtomicUsize,
    /// What brings layers of elsewhere.
    pub imports: Option<Arc<dyn Imports + Send>>,
    pub peak: AtomicUsize,
    /// Run at the start of an execution, by the vertex's text.
    on_execute: BTreeMap<String, Hook>,
    /// Run at the start of a digest, by the vertex's text.
    on_digest: BTreeMap<String, Hook>,
}

impl Fake {
    pub fn new(world: &Arc<World>) -> Fake {
        Fake { world: world.clone(), ..Fake::default() }
    }

    pub fn on_execute(&mut self, text: &str, hook: impl Fn(&Cancel) + Send + Sync + 'static) {
        self.on_execute.insert(text.into(), Box::new(hook));
    }

    pub fn on_digest(&mut self, text: &str, hook: impl Fn(&Cancel) + Send + Sync + 'static) {
        self.on_digest.insert(text.into(), Box::new(hook));
    }

    /// Returns the texts executed since the last call, sorted.
    pub fn take_executed(&self) -> Vec<String> {
        let mut executed = std::mem::take(&mut *self.executed.lock().unwrap());
        executed.sort();
        executed
    }

    fn called(&self) {
        self.threads.lock().unwrap().insert(std::thread::current().id());
    }

    fn read(&self, view: &View) -> Files {
        match view {
            View::State(layers) => match &self.imports {
                None => self.world.merged(layers),
                Some(imports) => self.world.merged(&imports.bring(layers, &Cancel::new()).unwrap()),
            },
            View::Context(_) => self.context.lock().unwrap().clone(),
        }
    }
}

/// The files of a source or mount that a vertex selects: one path, or all for a mount.
pub fn selection(op: &Op, files: &Files) -> Files {
    match op {
        Op::Copy(copy) => {
            let CopySource::Path { path, .. } = &copy.sources[0] else { panic!("no inline sources here") };
            files.get(path).map(|content| (path.clone(), content.clone())).into_iter().collect()
        }
        _ => files.clone(),
    }
}

/// Writes the marks that a list has of files.
fn marks(files: &Files) -> Files {
    files
        .iter()
        .map(|(path, content)| (path.clone(), format!("f 644 - {} -", digest_of(content).short())))
        .collect()
}

/// What a vertex writes on `base`, with `selected` of its sources; `None` for no layer.
///
/// `RUN put F V` writes a constant, `RUN hash F` a digest of all it sees, `RUN now F` what the
/// world's clock says, `RUN fail` fails.
pub fn effect(op: &Op, base: &Files, selected: &[Files], now: &str) -> Result<Option<Files>, FakeError> {
    let one = |name: &str, content: String| Ok(Some(Files::from([(name.to_owned(), content)])));
    match op {
        Op::Run(run) => {
            let args: Vec<&str> = run.args.iter().map(String::as_str).collect();
            match args[..] {
                ["put", file, content] => one(file, content.into()),
                ["hash", file] => one(file, digest_of(&(base, selected, &run.env)).short()),
                ["now", file] => one(file, now.into()),
                ["fail"] => Err(FakeError("failed".into())),
                ref other => panic!("no command {other:?}"),
            }
        }
        Op::Copy(copy) => {
            let content: Vec<&String> = selected[0].values().collect();
            one(&copy.destination, format!("{content:?}"))
        }
        Op::Workdir(workdir) if base.contains_key(&workdir.path) => Ok(None),
        Op::Workdir(workdir) => one(&workdir.path, "dir".into()),
        Op::Image(_) | Op::Context(_) | Op::Http(_) | Op::Git(_) => panic!("not executed"),
    }
}

/// The layers of an image by its name: `base:2` has two.
pub fn image_layers(image: &ImageOp) -> Vec<Files> {
    let count: usize = image.reference.split(':').nth(1).map_or(1, |count| count.parse().unwrap());
    let layer = |i| Files::from([(format!("etc{i}"), image.reference.clone())]);
    (0..count).map(layer).collect()
}

impl Worker for Fake {
    type Error = FakeError;

    fn fields(&self, task: Task<'_>) -> Fields {
        self.called();
        let mut fields = Fields::new();
        match &task.vertex.op {
            Op::Run(run) => {
                fields.push("args", run.args.clone());
                fields.push("env", run.env.iter().map(|entry| entry.to_string()).collect::<Vec<_>>());
            }
            Op::Copy(copy) => {
                fields.push("sources", format!("{:?}", copy.sources));
                fields.push("destination", copy.destination.clone());
            }
            Op::Workdir(workdir) => fields.push("path", workdir.path.clone()),
            Op::Image(_) | Op::Context(_) | Op::Http(_) | Op::Git(_) => panic!("they have no key"),
        }
        fields
    }

    fn image(&self, task: Task<'_>) -> Result<Vec<Layer>, FakeError> {
        self.called();
        let Op::Image(image) = &task.vertex.op else { panic!("no image") };
        if image.reference == "broken" {
            return Err(FakeError("no such image".into()));
        }
        let layers = image_layers(image).into_iter().enumerate().map(|(i, files)| {
            let name = digest_of(&(&image.reference, i));
            let bits = u64::from_le_bytes(name.as_bytes()[..8].try_into().unwrap());
            let (snapshot, content) = (SnapshotId::from_bits(bits), LayerDigest(digest_of(&files)));
            let created = *self.image_created.lock().unwrap();
            let kept = Snapshot { files, kind: "image".into(), created, kept: true };
            self.world.snapshots.lock().unwrap().insert(snapshot.clone(), kept);
            Layer { snapshot, content, portable: content, created_unix_ms: created }
        });
        Ok(layers.collect())
    }

    fn fetch(&self, task: Task<'_>, _: &Cancel) -> Result<(), FakeError> {
        self.called();
        let mut executed = self.executed.lock().unwrap();
        executed.push(task.vertex.text.clone());
        Ok(())
    }

    fn select(&self, task: Task<'_>, input: usize, view: &View, _: &Cancel) -> Result<Selected, FakeError> {
        self.called();
        self.selects.fetch_add(1, Ordering::SeqCst);
        assert!(task.vertex.inputs[input].kind.is_selected());
        let files = selection(&task.vertex.op, &self.read(view));
        Ok(Selected { digest: SelectionDigest(digest_of(&files)), files: Files::new() })
    }

    fn list(&self, task: Task<'_>, _: usize, selected: &mut Selected) {
        // What a context has is what it had: no test changes it meanwhile.
        selected.files = marks(&selection(&task.vertex.op, &self.context.lock().unwrap()));
    }

    fn reads(&self, task: Task<'_>, _: usize) -> Option<Digest> {
        match &task.vertex.op {
            Op::Copy(copy) => Some(digest_of(&copy.sources)),
            _ => Some(Digest::of("all")),
        }
    }

    fn execute(
        &self,
        task: Task<'_>,
        inputs: &[InputView],
        log: Log<'_>,
        cancel: &Cancel,
    ) -> Result<Produced, FakeError> {
        self.called();
        self.peak.fetch_max(self.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        self.executed.lock().unwrap().push(task.vertex.text.clone());
        log(Said::Output(Stream::Stdout, task.vertex.text.as_bytes()));
        let before: Vec<Files> = inputs.iter().map(|input| self.read(&input.view)).collect();
        if let Some(hook) = self.on_execute.get(&task.vertex.text) {
            hook(cancel);
        }
        // What it reads must still be there at the end.
        let after: Vec<Files> = inputs.iter().map(|input| self.read(&input.view)).collect();
        assert_eq!(before, after);
        self.running.fetch_sub(1, Ordering::SeqCst);
        if cancel.is_cancelled() {
            return Err(FakeError("interrupted".into()));
        }
        let op = &task.vertex.op;
        let sources = inputs.iter().zip(&after).filter(|(input, _)| input.kind.is_selected());
        let selected: Vec<Files> = sources.map(|(_, files)| selection(op, files)).collect();
        let now = self.now.lock().unwrap().clone();
        Ok(match effect(op, &after[0], &selected, &now)? {
            Some(files) => {
                let (snapshot, created_unix_ms) = self.world.commit(files, op_kind(op));
                Produced { snapshot: Some(snapshot), created_unix_ms }
            }
            None => Produced { snapshot: None, created_unix_ms: self.world.tick() },
        })
    }

    fn digest(&self, task: Task<'_>, id: &SnapshotId, cancel: &Cancel) -> Result<LayerDigest, FakeError> {
        self.called();
        self.digests.fetch_add(1, Ordering::SeqCst);
        if let Some(hook) = self.on_digest.get(&task.vertex.text) {
            hook(cancel);
        }
        Ok(LayerDigest(digest_of(&self.world.files(id))))
    }

    fn keep(&self, _: Task<'_>, id: &SnapshotId) -> Result<(), FakeError> {
        self.world.snapshots.lock().unwrap().get_mut(id).expect("kept but gone").kept = true;
        Ok(())
    }

    fn discard(&self, id: &SnapshotId) {
        let named = self.world.records.lock().unwrap().values().any(|r| r.snapshot.as_ref() == Some(id));
        assert!(!named, "discarded what a record names");
        let gone = self.world.snapshots.lock().unwrap().remove(id).expect("discarded twice");
        assert!(!gone.kept, "discarded what was kept");
        self.world.discarded.lock().unwrap().push(id.clone());
    }
}

type Listener = Box<dyn Fn(&Event) + Sync + Send>;

/// Keeps the events as short texts; `listen` hears them as they come.
#[derive(Default)]
pub struct Heard {
    pub events: Mutex<Vec<String>>,
    pub listen: Option<Listener>,
}

impl Reporter for Heard {
    fn event(&self, event: Event) {
        if let Some(listen) = &self.listen {
            listen(&event);
        }
        let text = match event {
            Event::VertexKeyed { .. } => return,
            Event::VertexStarted { vertex, why } => format!("{vertex} started: {why}"),
            Event::VertexCached { vertex, .. } => format!("{vertex} cached"),
            Event::VertexLog { vertex, .. } => format!("{vertex} log"),
            Event::VertexCommitted { vertex, .. } => format!("{vertex} committed"),
            Event::VertexFinished { vertex, .. } => format!("{vertex} finished"),
            Event::VertexFailed { vertex } => format!("{vertex} failed"),
            // Told as soon as it is known, which is none of the order that tests look at.
            Event::VertexWaits { .. } => return,
            other => panic!("not the engine's: {other:?}"),
        };
        self.events.lock().unwrap().push(text);
    }
}

/// Builds graphs in few words; every function returns the new vertex.
pub struct Draw(pub Graph);

impl Draw {
    pub fn new() -> Draw {
        Draw(Graph { vertices: Vec::new(), stages: Vec::new(), targets: vec![0] })
    }

    fn add(&mut self, text: String, op: Op, inputs: Vec<(EdgeKind, Option<VertexId>)>) -> VertexId {
        let inputs = inputs.into_iter().map(|(kind, from)| Input { kind, from }).collect();
        let stage = "0".to_owned();
        let span = crate::report::Span::default();
        self.0.vertices.push(Vertex { op, inputs, text, span, line: 1, stage, ignore_cache: false });
        VertexId(self.0.vertices.len() - 1)
    }

    pub fn image(&mut self, reference: &str) -> VertexId {
        let image = ImageId(Digest::of(reference));
        let platform: Platform = "linux/amd64".parse().unwrap();
        let op = Op::Image(ImageOp { reference: reference.into(), platform, image });
        self.add(format!("FROM {reference}"), op, vec![])
    }

    pub fn context(&mut self) -> VertexId {
        self.add("context".into(), Op::Context(ContextOp { name: "context".into() }), vec![])
    }

    pub fn run(&mut self, base: impl Into<Option<VertexId>>, command: &str) -> VertexId {
        self.run_with(base, command, &[], &[])
    }

    pub fn run_with(
        &mut self,
        base: impl Into<Option<VertexId>>,
        command: &str,
        env: &[&str],
        mounts: &[VertexId],
    ) -> VertexId {
        let op = Op::Run(RunOp {
            args: command.split(' ').map(Into::into).collect(),
            env: env.iter().map(|&variable| variable.into()).collect(),
            env_unkeyed: vec![],
            workdir: "/".into(),
            user: String::new(),
            network: NetworkMode::Default,
            security: Security::Sandbox,
            mounts: vec![],
            extra_hosts: vec![],
            hostname: None,
            volumes: vec![],
            script: None,
            source_date_epoch: None,
        });
        let mut inputs = vec![(EdgeKind::Base, base.into())];
        inputs.extend(mounts.iter().map(|mount| (EdgeKind::Mount, Some(*mount))));
        self.add(format!("RUN {command}"), op, inputs)
    }

    pub fn copy(
        &mut self,
        base: impl Into<Option<VertexId>>,
        from: VertexId,
        path: &str,
        to: &str,
    ) -> VertexId {
        let op = Op::Copy(CopyOp {
            add: false,
            sources: vec![CopySource::Path { input: 1, path: path.into() }],
            destination: to.into(),
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            exclude: vec![],
            unpack: None,
            source_date_epoch: None,
        });
        let inputs = vec![(EdgeKind::Base, base.into()), (EdgeKind::Source, Some(from))];
        self.add(format!("COPY {path} {to}"), op, inputs)
    }

    /// A COPY whose key does not depend on what is beneath.
    pub fn copy_link(&mut self, base: VertexId, from: VertexId, path: &str, to: &str) -> VertexId {
        let id = self.copy(base, from, path, to);
        let vertex = &mut self.0.vertices[id.0];
        vertex.text = vertex.text.replacen("COPY", "COPY --link", 1);
        vertex.inputs[0].kind = EdgeKind::Below;
        if let Op::Copy(op) = &mut vertex.op {
            op.link = true;
        }
        id
    }

    pub fn workdir(&mut self, base: impl Into<Option<VertexId>>, path: &str) -> VertexId {
        let op = Op::Workdir(WorkdirOp { path: path.into(), user: String::new(), source_date_epoch: None });
        self.add(format!("WORKDIR {path}"), op, vec![(EdgeKind::Base, base.into())])
    }

    pub fn ignore_cache(&mut self, id: VertexId) {
        self.0.vertices[id.0].ignore_cache = true;
    }
}

/// Returns the ids of all snapshots that records name.
pub fn recorded(world: &World) -> BTreeSet<SnapshotId> {
    world.records.lock().unwrap().values().filter_map(|record| record.snapshot.clone()).collect()
}
