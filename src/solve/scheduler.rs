//! The scheduler: runs what is not cached, in parallel, and says what every state is made of.
//!
//! One thread, the caller's, owns all state ([`Engine`]). It sends work to
//! threads and hears of it through one channel; while everything is cached it
//! starts none. The life of a vertex:
//!
//! ```text
//! Waiting -> Selecting -> (AwaitingBase) -> Locking -> Queued -> Running -> Executed -> Settled
//!                              |                                                          ^
//!                              +------------------- found in the cache -------------------+
//! ```
//!
//! *Executed*: its layer is there, so children may start on it. *Settled*: its
//! content digest and those of all beneath it are known too; only then does it
//! have a key, and only then is decided whether the new layer stays or an older
//! one of equal content does. A vertex waits for its base to settle only where
//! the cache holds a record of the same operation, which might match.
//!
//! Not here: what a key is made of (`key`), doing the work (a [`Worker`]).

use std::any::Any;
use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use crate::image::{CacheKey, ChainDigest, Digest, LayerDigest, OpDigest, SelectionDigest, SnapshotId};
use crate::plan::graph::{Graph, Input, Op, VertexId};
use crate::report::{Event, Reporter};

use super::cancel::Cancel;
use super::imports::{Imported, ImportedLayer, selection_name};
use super::key;
use super::node::{Lane, Node, Phase};
use super::outcome::{Options, Outcome, Shared, SolveError, Solved};
use super::record::{InputKey, InputKind, Record};
use super::traits::Said;
use super::traits::{
    CacheError, CacheSource, Existing, Guard, InputView, Layer, Produced, Selected, Task, View, Worker,
};
use super::why::{self, Beneath, Case};

/// Brings every vertex of a graph to a result: from the cache, or by executing it.
///
/// All records are published before it returns. On the first error nothing more is started,
/// what runs is cancelled, and that error is returned when all threads have ended; results
/// complete by then stay published. Layers of the final states may be older ones of equal
/// content than those the steps ran on.
pub fn solve<W, C>(
    graph: &Graph,
    worker: &W,
    cache: &C,
    options: &Options,
    reporter: &dyn Reporter,
    cancel: &Cancel,
) -> Result<Solved, SolveError<W::Error>>
where
    W: Worker + ?Sized,
    C: CacheSource + ?Sized,
{
    let halt = Cancel::new();
    let (sender, receiver) = channel();
    let linked = halt.clone();
    let _link = cancel.on_cancel(move || linked.cancel());
    let waker = sender.clone();
    // The owner may be asleep on the channel; nobody listens once the solve is over.
    let _wake = cancel.on_cancel(move || drop(waker.send(Message::Wake)));
    let env = Env { graph, worker, cache, reporter, cancel, halt: &halt };
    thread::scope(|scope| {
        // A bug that unwinds through here must not wait for steps that run on.
        let _raise = RaiseOnDrop(&halt);
        Engine::new(env, scope, options, sender, receiver).run()
    })
}

/// Stops what runs, whichever way the owner leaves.
struct RaiseOnDrop<'a>(&'a Cancel);

impl Drop for RaiseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What the whole solve has at hand.
struct Env<'env, W: ?Sized, C: ?Sized> {
    graph: &'env Graph,
    worker: &'env W,
    cache: &'env C,
    reporter: &'env dyn Reporter,
    /// The caller's.
    cancel: &'env Cancel,
    /// Raised by the caller's, and by the first error.
    halt: &'env Cancel,
}

impl<W: ?Sized, C: ?Sized> Clone for Env<'_, W, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W: ?Sized, C: ?Sized> Copy for Env<'_, W, C> {}

/// What threads tell the owner.
enum Message<E> {
    Fetched(usize, Result<(), E>),
    Selected(usize, Result<Vec<Selected>, E>),
    Locked(usize, Result<Box<dyn Guard>, CacheError>),
    Executed(usize, Result<Produced, E>, Duration),
    Digested(usize, Result<LayerDigest, E>),
    /// A thread ended by a bug of ours.
    Panicked(Box<dyn Any + Send>),
    /// Look at the caller's cancel flag; comes from no thread of the engine.
    Wake,
}

/// What the owner has to do next.
enum Todo {
    /// All inputs of it are there.
    Ready(usize),
    /// Its base has settled, for which it waited.
    Decide(usize),
    /// Its digest and its base's chain are known.
    Settle(usize),
}

/// A result that is kept instead of the one just made.
struct Older {
    snapshot: Option<SnapshotId>,
    created: i64,
    /// Whether the record of the very same key holds it, so that none need be written.
    same_step: bool,
}

struct Engine<'scope, 'env, W: Worker + ?Sized, C: CacheSource + ?Sized> {
    env: Env<'env, W, C>,
    scope: &'scope Scope<'scope, 'env>,
    sender: Sender<Message<W::Error>>,
    receiver: Receiver<Message<W::Error>>,
    nodes: Vec<Node>,
    todo: VecDeque<Todo>,
    /// Threads that have not told their end.
    in_flight: usize,
    selects: Lane,
    executes: Lane,
    digests: Lane,
    /// How many threads read a new layer that may be replaced.
    uses: HashMap<SnapshotId, usize>,
    /// Replaced layers that are still read.
    condemned: HashSet<SnapshotId>,
    stop: Option<SolveError<W::Error>>,
    panic: Option<Box<dyn Any + Send>>,
    share: bool,
    no_cache: bool,
}

impl<'scope, 'env, W, C> Engine<'scope, 'env, W, C>
where
    W: Worker + ?Sized,
    C: CacheSource + ?Sized,
{
    fn new(
        env: Env<'env, W, C>,
        scope: &'scope Scope<'scope, 'env>,
        options: &Options,
        sender: Sender<Message<W::Error>>,
        receiver: Receiver<Message<W::Error>>,
    ) -> Self {
        let vertices = &env.graph.vertices;
        let mut nodes: Vec<Node> = vertices.iter().map(Node::new).collect();
        let mut todo = VecDeque::new();
        for (v, vertex) in vertices.iter().enumerate() {
            for from in vertex.inputs.iter().filter_map(|input| input.from) {
                nodes[from.0].dependents.push(v);
            }
            if nodes[v].missing == 0 {
                todo.push_back(Todo::Ready(v));
            }
        }
        Engine {
            env,
            scope,
            sender,
            receiver,
            nodes,
            todo,
            in_flight: 0,
            selects: Lane::new(options.jobs),
            executes: Lane::new(options.jobs),
            digests: Lane::new(options.digest_jobs),
            uses: HashMap::new(),
            condemned: HashSet::new(),
            stop: None,
            panic: None,
            share: options.share,
            no_cache: options.no_cache,
        }
    }

    fn run(mut self) -> Result<Solved, SolveError<W::Error>> {
        loop {
            self.heed_cancel();
            if let Some(todo) = self.todo.pop_front() {
                self.work(todo);
                // At once, lest a slow look-up of another vertex hold it up.
                self.start_waiting();
                continue;
            }
            if self.in_flight == 0 {
                break;
            }
            let message = self.receiver.recv().expect("the engine itself holds a sender");
            self.hear(message);
            self.start_waiting();
        }
        if let Some(panic) = self.panic {
            resume_unwind(panic);
        }
        if let Some(error) = self.stop {
            // No record names them, so nobody would ever find them. What is kept may have been
            // found by its content: another build may stand on it.
            let lost = |node: &&Node| node.phase == Phase::Executed && !node.kept;
            for node in self.nodes.iter().filter(lost) {
                node.own.iter().for_each(|snapshot| self.env.worker.discard(snapshot));
            }
            return Err(error);
        }
        let tell = |v| if self.share { self.shared(v) } else { None };
        let mut shared: VecDeque<Option<Shared>> = (0..self.nodes.len()).map(tell).collect();
        let outcomes = self.nodes.into_iter().map(|node| {
            assert_eq!(node.phase, Phase::Settled, "a vertex was forgotten");
            Outcome {
                shared: shared.pop_front().flatten(),
                base: node.base.map(VertexId),
                own: node.own,
                chain: node.chain.expect("set when it settled"),
                created_unix_ms: node.created,
                cached: node.cached,
                why: node.why,
            }
        });
        Ok(Solved { outcomes: outcomes.collect() })
    }

    fn work(&mut self, todo: Todo) {
        match todo {
            Todo::Settle(v) => self.settle(v),
            // What is done is still recorded after an error; nothing new begins.
            Todo::Ready(_) | Todo::Decide(_) if self.stop.is_some() => {}
            Todo::Ready(v) => self.ready(v),
            Todo::Decide(v) if std::mem::take(&mut self.nodes[v].deferred) => self.begin(v),
            Todo::Decide(v) => self.decide(v),
        }
    }

    fn hear(&mut self, message: Message<W::Error>) {
        if matches!(message, Message::Wake) {
            return;
        }
        self.in_flight -= 1;
        match message {
            Message::Wake => {}
            Message::Panicked(panic) => {
                self.panic.get_or_insert(panic);
                self.halt(SolveError::Cancelled);
            }
            Message::Fetched(v, result) => match result {
                Err(error) => self.fail(v, error),
                Ok(()) => self.image(v, Vec::new()),
            },
            Message::Selected(v, result) => {
                self.selects.running -= 1;
                self.give_back(v);
                match result {
                    Err(error) => self.fail(v, error),
                    Ok(selected) => {
                        self.nodes[v].selected = selected;
                        self.todo.push_back(Todo::Decide(v));
                    }
                }
            }
            Message::Locked(v, result) => match result {
                Err(error) => self.fail_cache(v, error),
                Ok(guard) if self.stop.is_none() => {
                    self.nodes[v].guard = Some(guard);
                    self.nodes[v].contended = true;
                    self.decide(v);
                }
                Ok(_) => {}
            },
            Message::Executed(v, result, elapsed) => {
                self.executes.running -= 1;
                match result {
                    Err(error) => {
                        self.give_back(v);
                        self.fail(v, error);
                    }
                    Ok(produced) => {
                        self.nodes[v].elapsed = elapsed;
                        self.executed(v, produced);
                    }
                }
            }
            Message::Digested(v, result) => {
                self.digests.running -= 1;
                self.give_back(v);
                match result {
                    Err(error) => self.fail(v, error),
                    Ok(content) => {
                        self.nodes[v].content = Some(content);
                        self.nodes[v].portable_content = Some(content);
                        self.nodes[v].digested = true;
                        self.try_settle(v);
                    }
                }
            }
        }
    }

    // ---- The way of a vertex ----

    /// All its inputs are there: learns what it selects of them.
    fn ready(&mut self, v: usize) {
        let task = self.task(v);
        match &task.vertex.op {
            Op::Image(_) => match self.env.worker.image(task) {
                Ok(layers) => self.image(v, layers),
                Err(error) => self.fail(v, error),
            },
            Op::Context(_) => self.image(v, Vec::new()),
            Op::Http(_) | Op::Git(_) => {
                let Env { worker, halt, .. } = self.env;
                self.spawn(v, "fetch", move || Message::Fetched(v, worker.fetch(task, halt)));
            }
            op => {
                let fields = self.env.worker.fields(task);
                self.nodes[v].op = Some(key::op_digest(key::op_kind(op), &fields));
                self.nodes[v].fields = fields;
                self.begin(v);
            }
        }
    }

    /// Its fields are known: digests what it selects, unless a cache of elsewhere makes that needless.
    fn begin(&mut self, v: usize) {
        let task = self.task(v);
        self.nodes[v].phase = Phase::Selecting;
        if !task.vertex.inputs.iter().any(|input| input.kind.is_selected()) {
            return self.decide(v);
        }
        if !task.vertex.ignore_cache && self.reads_what_is_elsewhere(v) {
            if self.base_chain(v).is_none() {
                self.nodes[v].deferred = true;
                self.nodes[v].phase = Phase::AwaitingBase;
                return;
            }
            if let Some((imported, selected)) = self.claimed(v) {
                self.nodes[v].selected = selected;
                return self.found_elsewhere(v, imported);
            }
        }
        if self.in_flight == 0 && !task.vertex.ignore_cache && self.has_op(v) {
            // It may well be cached, and nothing else is held up meanwhile.
            let views = self.views(v);
            match select(self.env, task, &views) {
                Ok(selected) => {
                    self.nodes[v].selected = selected;
                    self.decide(v);
                }
                Err(error) => self.fail(v, error),
            }
        } else {
            self.selects.waiting.insert(v);
        }
    }

    /// Tells whether it selects of a state whose files are not all here, and a cache of elsewhere may
    /// know the result.
    fn reads_what_is_elsewhere(&self, v: usize) -> bool {
        let Some(imports) = self.env.cache.imports() else { return false };
        let absent = |input: &Input| {
            input.kind.is_selected()
                && input
                    .from
                    .is_some_and(|from| self.stack(from.0).iter().any(|layer| !imports.is_here(layer)))
        };
        self.env.graph.vertices[v].inputs.iter().any(absent) && imports.has_op(&self.op(v))
    }

    /// Finds it in a cache of elsewhere by what that says of selections, so that no files are fetched only
    /// to be digested. What is said is for this look-up alone: a step that is executed selects itself.
    fn claimed(&self, v: usize) -> Option<(Imported, Vec<Selected>)> {
        let imports = self.env.cache.imports()?;
        let task = self.task(v);
        let views = self.views(v);
        let mut selected = Vec::new();
        for (i, input) in task.vertex.inputs.iter().enumerate().filter(|(_, input)| input.kind.is_selected())
        {
            let absent = match &views[i].view {
                View::State(layers) => layers.iter().any(|layer| !imports.is_here(layer)),
                View::Context(_) => false,
            };
            selected.push(match absent {
                true => {
                    let state = self.nodes[input.from?.0].portable?;
                    let digest =
                        imports.selection(&selection_name(&state, &self.env.worker.reads(task, i)?))?;
                    Selected { digest, files: Default::default() }
                }
                // An error comes again when it is selected in earnest.
                false => self.env.worker.select(task, i, &views[i].view, self.env.halt).ok()?,
            });
        }
        let op = self.op(v);
        let key = key::cache_key(&op, &input_keys(self.env.graph, v, &selected, |_| self.base_portable(v)));
        Some((imports.lookup(&op, &key)?, selected))
    }

    /// An image's layers are given, a context has none: both are settled at once.
    fn image(&mut self, v: usize, layers: Vec<Layer>) {
        let chain = layers.iter().fold(ChainDigest::scratch(), |chain, layer| chain.with(&layer.content));
        let portable = layers.iter().fold(ChainDigest::scratch(), |chain, layer| chain.with(&layer.portable));
        let newest = layers.iter().map(|layer| layer.created_unix_ms).max();
        let node = &mut self.nodes[v];
        node.newest = newest.unwrap_or_default();
        node.own = layers.into_iter().map(|layer| layer.snapshot).collect();
        node.chain = Some(chain);
        node.portable = Some(portable);
        node.cached = true;
        node.phase = Phase::Settled;
        let snapshot = node.own.last().map(ToString::to_string);
        self.keyed(v, Some(chain.0));
        self.env.reporter.event(Event::VertexFinished { vertex: v, elapsed: Duration::ZERO, snapshot });
        self.state_is_there(v);
    }

    /// Decides what comes next for a vertex whose selections are known: a look-up, the lock,
    /// waiting for its base to settle, or execution.
    fn decide(&mut self, v: usize) {
        if self.stop.is_some() {
            return;
        }
        if self.env.graph.vertices[v].ignore_cache {
            return self.queue(v);
        }
        if self.base_chain(v).is_some() {
            // Also with the lock in hand: another may have published before it let go.
            if let Some(record) = self.lookup(v) {
                return self.found(v, record);
            }
            if let Some(imported) = self.lookup_elsewhere(v) {
                return self.found_elsewhere(v, imported);
            }
            match self.nodes[v].guard {
                Some(_) => self.queue(v),
                None => self.lock(v),
            }
        } else if self.nodes[v].guard.is_none() {
            match self.has_op(v) {
                true => self.nodes[v].phase = Phase::AwaitingBase,
                false => self.lock(v),
            }
        } else {
            let op = self.op(v);
            match self.nodes[v].contended || self.env.cache.has_op(&op) {
                true => self.nodes[v].phase = Phase::AwaitingBase,
                false => self.queue(v),
            }
        }
    }

    fn lock(&mut self, v: usize) {
        self.nodes[v].phase = Phase::Locking;
        let step = self.step(v);
        match self.env.cache.try_step_lock(&step) {
            Ok(Some(guard)) => {
                self.nodes[v].guard = Some(guard);
                self.decide(v);
            }
            Ok(None) => {
                let Env { cache, halt, reporter, .. } = self.env;
                let what = match cache.step_lock_holder(&step) {
                    Some(process) if process == std::process::id() => {
                        "for another step of this build, which does the same".to_owned()
                    }
                    Some(process) => format!("for the rbuild process {process}, which does the same step"),
                    None => "for another rbuild process, which does the same step".to_owned(),
                };
                reporter.event(Event::VertexWaits { vertex: v, what });
                self.spawn(v, "lock", move || Message::Locked(v, cache.step_lock(&step, halt)));
            }
            Err(error) => self.fail_cache(v, error),
        }
    }

    /// Returns the name of its step; that of what is no step is the chain of its layers.
    fn step(&mut self, v: usize) -> Digest {
        // From the lowest one up: a file may be deep.
        let mut unnamed = vec![v];
        while let Some(base) = self.nodes[unnamed[unnamed.len() - 1]].base
            && self.nodes[base].step.is_none()
        {
            unnamed.push(base);
        }
        for v in unnamed.into_iter().rev() {
            let node = &self.nodes[v];
            let base = match node.base {
                Some(base) => self.nodes[base].step.expect("it was named before"),
                None => ChainDigest::scratch().0,
            };
            let step = match &node.op {
                Some(op) => {
                    let selected: Vec<SelectionDigest> = node.selected.iter().map(|s| s.digest).collect();
                    key::step_digest(op, &base, &selected)
                }
                None => node.chain.expect("images and contexts are settled from the start").0,
            };
            self.nodes[v].step = Some(step);
        }
        self.nodes[v].step.expect("it was just named")
    }

    fn queue(&mut self, v: usize) {
        self.nodes[v].phase = Phase::Queued;
        self.executes.waiting.insert(v);
    }

    /// Its record was found; its base has settled.
    fn found(&mut self, v: usize, record: Record) {
        let layer = record.snapshot.zip(record.content).map(|(snapshot, content)| ImportedLayer {
            snapshot,
            content,
            portable: content,
        });
        self.cached(v, layer, record.created_unix_ms, None);
    }

    /// A cache of elsewhere has it; its base has settled.
    fn found_elsewhere(&mut self, v: usize, imported: Imported) {
        self.cached(v, imported.layer, imported.created_unix_ms, Some(imported.source));
    }

    fn cached(&mut self, v: usize, layer: Option<ImportedLayer>, created: i64, from: Option<String>) {
        let newest = self.newest_with(v, layer.as_ref().map(|layer| layer.content), created);
        let node = &mut self.nodes[v];
        node.guard = None;
        node.content = layer.as_ref().map(|layer| layer.content);
        node.portable_content = layer.as_ref().map(|layer| layer.portable);
        node.own = layer.map(|layer| layer.snapshot).into_iter().collect();
        node.digested = true;
        node.created = Some(created);
        node.newest = newest;
        node.cached = true;
        self.settled(v);
        let snapshot = self.nodes[v].own.last().map(ToString::to_string);
        self.keyed(v, self.nodes[v].key.map(|key| key.0));
        self.env.reporter.event(Event::VertexCached { vertex: v, snapshot, from });
        self.state_is_there(v);
    }

    /// All of its state is known by now: names it.
    fn settled(&mut self, v: usize) {
        let base = self.base_chain(v).expect("what it lies on has settled");
        let portable = self.base_portable(v).expect("known when the chain is");
        let node = &mut self.nodes[v];
        node.chain = Some(node.content.map_or(base, |content| base.with(&content)));
        node.portable = Some(node.portable_content.map_or(portable, |content| portable.with(&content)));
        node.phase = Phase::Settled;
    }

    fn executed(&mut self, v: usize, produced: Produced) {
        let snapshot = produced.snapshot.as_ref().map(ToString::to_string);
        self.env.reporter.event(Event::VertexCommitted { vertex: v, snapshot });
        let node = &mut self.nodes[v];
        node.phase = Phase::Executed;
        node.created = Some(produced.created_unix_ms);
        match produced.snapshot {
            Some(snapshot) => {
                node.own = vec![snapshot];
                // What it ran on is read once more: the digest compares with what lies beneath.
                match self.env.cancel.is_cancelled() {
                    true => self.give_back(v),
                    false => drop(self.digests.waiting.insert(v)),
                }
            }
            None => {
                node.digested = true;
                self.give_back(v);
                self.try_settle(v);
            }
        }
        self.state_is_there(v);
    }

    fn try_settle(&mut self, v: usize) {
        let node = &self.nodes[v];
        if node.phase == Phase::Executed && node.digested && self.base_chain(v).is_some() {
            self.todo.push_back(Todo::Settle(v));
        }
    }

    /// All digests are known: decides which layer stays, publishes, and lets go of the lock.
    fn settle(&mut self, v: usize) {
        // Its base's settling and its own digest may both have asked for it.
        if self.nodes[v].phase != Phase::Executed {
            return;
        }
        let task = self.task(v);
        let inputs = self.input_keys(v);
        let key = key::cache_key(&self.op(v), &inputs);
        self.nodes[v].key = Some(key);
        let content = self.nodes[v].content;
        let older = self.older(v, &key);
        let recorded = matches!(older, Some(Older { same_step: true, .. }));
        let made = self.nodes[v].created.expect("set when it was executed");
        let created = older.as_ref().map_or(made, |older| older.created);
        match (older, self.nodes[v].own.first().cloned()) {
            (Some(older), new) => {
                self.nodes[v].own = older.snapshot.into_iter().collect();
                // It is another's: never to be discarded, whatever fails from here on.
                self.nodes[v].kept = true;
                if let Some(new) = new {
                    self.replace(new);
                }
            }
            (None, Some(new)) => {
                // Before it is asked: where it fails the layer may be findable all the same.
                self.nodes[v].kept = true;
                if let Err(error) = self.env.worker.keep(task, &new) {
                    return self.fail(v, error);
                }
            }
            (None, None) => {}
        }
        if !recorded {
            let record = self.record(v, key, inputs, created);
            if let Err(error) = self.env.cache.publish(record) {
                return self.fail_cache(v, error);
            }
        }
        let newest = self.newest_with(v, content, created);
        let node = &mut self.nodes[v];
        node.created = Some(created);
        node.newest = newest;
        node.guard = None;
        self.settled(v);
        let node = &self.nodes[v];
        let (elapsed, snapshot) = (node.elapsed, node.own.last().map(ToString::to_string));
        self.keyed(v, Some(key.0));
        self.env.reporter.event(Event::VertexFinished { vertex: v, elapsed, snapshot });
        for d in 0..self.nodes[v].dependents.len() {
            let child = self.nodes[v].dependents[d];
            if self.nodes[child].base != Some(v) {
                continue;
            }
            match self.nodes[child].phase {
                Phase::AwaitingBase => {
                    // Twice a dependent (base and source) must not be decided twice.
                    self.nodes[child].phase = Phase::Selecting;
                    self.todo.push_back(Todo::Decide(child));
                }
                _ => self.try_settle(child),
            }
        }
    }

    /// Finds an older result of equal content to keep instead of the one just made: that of the
    /// same step, or a layer that any of its kind made.
    ///
    /// It must not be older than what it comes to lie on. Content digests leave out times that
    /// mean "now", but `make` sees them: what a later step wrote must not become older than
    /// what an earlier one did.
    fn older(&self, v: usize, key: &CacheKey) -> Option<Older> {
        let node = &self.nodes[v];
        let beneath = self.base_newest(v);
        let made = node.created.expect("set when it was executed");
        if let Some(record) = self.env.cache.lookup(&self.op(v), key)
            && record.key == *key
            && record.content == node.content
            && record.created_unix_ms <= made
            && (record.snapshot.is_none() || record.created_unix_ms >= beneath)
            && (record.snapshot.is_none() || record.snapshot.as_ref() != node.own.first())
        {
            let (snapshot, created) = (record.snapshot, record.created_unix_ms);
            return Some(Older { snapshot, created, same_step: true });
        }
        let kind = key::op_kind(&self.env.graph.vertices[v].op);
        let Existing { snapshot, created_unix_ms: created } =
            self.env.cache.by_content(&node.content?, kind)?;
        // Strictly newer than what is beneath: so it cannot be one of those layers itself.
        let fits = created > beneath && created <= made && Some(&snapshot) != node.own.first();
        fits.then_some(Older { snapshot: Some(snapshot), created, same_step: false })
    }

    /// Discards a layer that another took the place of, as soon as no thread reads it.
    fn replace(&mut self, snapshot: SnapshotId) {
        match self.uses.contains_key(&snapshot) {
            true => drop(self.condemned.insert(snapshot)),
            false => self.env.worker.discard(&snapshot),
        }
    }

    /// Tells the children that they can read its state.
    fn state_is_there(&mut self, v: usize) {
        for d in 0..self.nodes[v].dependents.len() {
            let child = self.nodes[v].dependents[d];
            self.nodes[child].missing -= 1;
            if self.nodes[child].missing == 0 {
                self.todo.push_back(Todo::Ready(child));
            }
        }
    }

    // ---- Threads ----

    /// Starts what waits and may start.
    fn start_waiting(&mut self) {
        while let Some(v) = self.executes.start() {
            self.start_execute(v);
        }
        while let Some(v) = self.digests.start() {
            let (env, task) = (self.env, self.task(v));
            let snapshot = self.nodes[v].own[0].clone();
            self.spawn(v, "digest", move || {
                Message::Digested(v, env.worker.digest(task, &snapshot, env.cancel))
            });
        }
        while let Some(v) = self.selects.start() {
            let (env, task) = (self.env, self.task(v));
            let views = self.views(v);
            self.borrow(v);
            self.spawn(v, "select", move || Message::Selected(v, select(env, task, &views)));
        }
    }

    fn start_execute(&mut self, v: usize) {
        self.list_files(v);
        let why = self.why(v);
        self.nodes[v].why = Some(why.clone());
        self.nodes[v].phase = Phase::Running;
        // Where it is known by now: a step that fails is known by it in later builds.
        let key = self.base_chain(v).map(|_| key::cache_key(&self.op(v), &self.input_keys(v)).0);
        self.keyed(v, key);
        self.env.reporter.event(Event::VertexStarted { vertex: v, why });
        let (env, task) = (self.env, self.task(v));
        let views = self.views(v);
        self.borrow(v);
        self.spawn(v, "step", move || {
            let log = |said: Said<'_>| {
                env.reporter.event(match said {
                    Said::Output(stream, data) => Event::VertexLog { vertex: v, stream, data: data.to_vec() },
                    Said::Silent { silent, running } => Event::VertexSilent { vertex: v, silent, running },
                    Said::Waits(what) => Event::VertexWaits { vertex: v, what: what.to_owned() },
                });
            };
            let start = Instant::now();
            let result = env.worker.execute(task, &views, &log, env.halt);
            Message::Executed(v, result, start.elapsed())
        });
    }

    fn spawn(&mut self, v: usize, name: &str, job: impl FnOnce() -> Message<W::Error> + Send + 'scope)
    where
        W::Error: 'scope,
    {
        let sender = self.sender.clone();
        let job = move || {
            let message = catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(Message::Panicked);
            // The owner listens until all threads have told their end.
            drop(sender.send(message));
        };
        match thread::Builder::new().name(format!("{name} {v}")).spawn_scoped(self.scope, job) {
            Ok(_) => self.in_flight += 1,
            Err(error) => self.halt(SolveError::Thread(error)),
        }
    }

    /// Notes that a thread reads the layers beneath a vertex that may yet be replaced.
    fn borrow(&mut self, v: usize) {
        let mut borrowed = Vec::new();
        for from in self.env.graph.vertices[v].inputs.iter().filter_map(|input| input.from) {
            let mut next = Some(from.0);
            // What has settled is never replaced, nor is anything beneath it.
            while let Some(u) = next.filter(|u| self.nodes[*u].chain.is_none()) {
                borrowed.extend(self.nodes[u].own.iter().cloned());
                next = self.nodes[u].base;
            }
        }
        for snapshot in &borrowed {
            *self.uses.entry(snapshot.clone()).or_default() += 1;
        }
        self.nodes[v].borrowed = borrowed;
    }

    fn give_back(&mut self, v: usize) {
        for snapshot in std::mem::take(&mut self.nodes[v].borrowed) {
            let count = self.uses.get_mut(&snapshot).expect("it was borrowed");
            *count -= 1;
            if *count == 0 {
                self.uses.remove(&snapshot);
                if self.condemned.remove(&snapshot) {
                    self.env.worker.discard(&snapshot);
                }
            }
        }
    }

    // ---- Ends ----

    fn heed_cancel(&mut self) {
        if self.env.cancel.is_cancelled() {
            let over = self.nodes.iter().all(|node| node.phase == Phase::Settled);
            if !over {
                self.halt(SolveError::Cancelled);
                for v in std::mem::take(&mut self.digests.waiting) {
                    self.give_back(v);
                }
            }
        }
    }

    fn fail(&mut self, v: usize, error: W::Error) {
        self.fail_with(v, SolveError::Vertex { vertex: VertexId(v), error });
    }

    fn fail_cache(&mut self, v: usize, error: CacheError) {
        self.fail_with(v, SolveError::Cache { vertex: VertexId(v), error });
    }

    /// A vertex failed. Errors that come of stopping are not told.
    fn fail_with(&mut self, v: usize, error: SolveError<W::Error>) {
        if self.env.cancel.is_cancelled() {
            return self.halt(SolveError::Cancelled);
        }
        if self.stop.is_none() {
            self.env.reporter.event(Event::VertexFailed { vertex: v });
        }
        self.halt(error);
    }

    /// Keeps the first error; starts nothing more, and cancels what runs.
    fn halt(&mut self, error: SolveError<W::Error>) {
        if self.stop.is_some() {
            return;
        }
        self.stop = Some(error);
        self.env.halt.cancel();
        self.selects.waiting.clear();
        self.executes.waiting.clear();
        for node in &mut self.nodes {
            if !matches!(node.phase, Phase::Running | Phase::Executed) {
                node.guard = None;
            }
        }
    }

    // ---- What is known ----

    fn task(&self, v: usize) -> Task<'env> {
        Task { id: VertexId(v), vertex: &self.env.graph.vertices[v] }
    }

    fn op(&self, v: usize) -> OpDigest {
        self.nodes[v].op.expect("set when it became ready")
    }

    fn has_op(&mut self, v: usize) -> bool {
        let op = self.op(v);
        let Env { cache, .. } = self.env;
        let anywhere = || cache.has_op(&op) || cache.imports().is_some_and(|imports| imports.has_op(&op));
        *self.nodes[v].has_op.get_or_insert_with(anywhere)
    }

    /// The digest of the state it works on, once that has settled.
    fn base_chain(&self, v: usize) -> Option<ChainDigest> {
        match self.nodes[v].base {
            Some(base) => self.nodes[base].chain,
            None => Some(ChainDigest::scratch()),
        }
    }

    /// The same as every machine knows it.
    fn base_portable(&self, v: usize) -> Option<ChainDigest> {
        match self.nodes[v].base {
            Some(base) => self.nodes[base].portable,
            None => Some(ChainDigest::scratch()),
        }
    }

    fn base_newest(&self, v: usize) -> i64 {
        self.nodes[v].base.map_or(0, |base| self.nodes[base].newest)
    }

    /// The newest time in its state; a vertex that has no layer put no time there.
    fn newest_with(&self, v: usize, content: Option<LayerDigest>, created: i64) -> i64 {
        match content {
            Some(_) => self.base_newest(v).max(created),
            None => self.base_newest(v),
        }
    }

    /// All layers of the state after a vertex, lowest first.
    fn stack(&self, v: usize) -> Vec<SnapshotId> {
        let mut layers = Vec::new();
        let mut next = Some(v);
        while let Some(v) = next {
            layers.extend(self.nodes[v].own.iter().rev().cloned());
            next = self.nodes[v].base;
        }
        layers.reverse();
        layers
    }

    fn views(&self, v: usize) -> Vec<InputView> {
        let inputs = &self.env.graph.vertices[v].inputs;
        let view = |from: Option<VertexId>| match from {
            None => View::State(Vec::new()),
            Some(from) => match self.env.graph.vertex(from).op.source_name() {
                Some(name) => View::Context(name),
                None => View::State(self.stack(from.0)),
            },
        };
        inputs.iter().map(|input| InputView { kind: input.kind, view: view(input.from) }).collect()
    }

    /// The inputs as they stand in the key: all, once its base has settled; before, only the
    /// sources and mounts.
    fn input_keys(&self, v: usize) -> Vec<InputKey> {
        input_keys(self.env.graph, v, &self.nodes[v].selected, |_| self.base_chain(v))
    }

    fn lookup(&mut self, v: usize) -> Option<Record> {
        let op = self.op(v);
        let key = key::cache_key(&op, &self.input_keys(v));
        self.nodes[v].key = Some(key);
        self.env.cache.lookup(&op, &key).filter(|record| record.key == key)
    }

    fn lookup_elsewhere(&self, v: usize) -> Option<Imported> {
        let op = self.op(v);
        self.env.cache.imports()?.lookup(&op, &key::cache_key(&op, &self.portable_inputs(v)))
    }

    fn portable_inputs(&self, v: usize) -> Vec<InputKey> {
        input_keys(self.env.graph, v, &self.nodes[v].selected, |_| self.base_portable(v))
    }

    /// What another machine may know of it.
    fn shared(&self, v: usize) -> Option<Shared> {
        let node = &self.nodes[v];
        let op = node.op?;
        let inputs = self.portable_inputs(v);
        let key = key::cache_key(&op, &inputs);
        let record = self.record(v, key, inputs, node.created?);
        let task = self.task(v);
        let mut selected = node.selected.iter();
        let mut selections = Vec::new();
        for (i, input) in task.vertex.inputs.iter().enumerate().filter(|(_, input)| input.kind.is_selected())
        {
            let digest = selected.next()?.digest;
            // Of contexts and downloads there is no state: they are always here.
            if let Some(from) = input.from
                && self.env.graph.vertex(from).op.source_name().is_none()
                && let Some(state) = self.nodes[from.0].portable
                && let Some(reads) = self.env.worker.reads(task, i)
            {
                selections.push((selection_name(&state, &reads), digest));
            }
        }
        Some(Shared { record: Record { content: node.portable_content, ..record }, selections })
    }

    fn record(&self, v: usize, key: CacheKey, inputs: Vec<InputKey>, created: i64) -> Record {
        let vertex = &self.env.graph.vertices[v];
        let (kind, node) = (key::op_kind(&vertex.op), &self.nodes[v]);
        Record {
            key,
            op: self.op(v),
            kind: kind.to_owned(),
            text: vertex.text.clone(),
            fields: node.fields.clone(),
            inputs,
            snapshot: node.own.first().cloned(),
            content: node.content,
            created_unix_ms: created,
        }
    }

    /// Tells by which names builds to come will know it.
    fn keyed(&self, v: usize, key: Option<Digest>) {
        let op = self.nodes[v].op.map(|op| op.0.hex());
        let key = key.map(|key| key.hex());
        self.env.reporter.event(Event::VertexKeyed { vertex: v, op, key });
    }

    /// Lists the files that it read, for the explanations of this build and those to come.
    fn list_files(&mut self, v: usize) {
        let task = self.task(v);
        let inputs = task.vertex.inputs.iter().enumerate().filter(|(_, input)| input.kind.is_selected());
        for ((i, _), selected) in inputs.zip(&mut self.nodes[v].selected) {
            self.env.worker.list(task, i, selected);
        }
    }

    /// Why it is executed, in one line.
    fn why(&self, v: usize) -> String {
        let inputs = self.input_keys(v);
        let op = self.op(v);
        let node = |u: usize| &self.nodes[u];
        let beneath = |u: usize| Beneath {
            runs: node(u).why.is_some(),
            key: match self.env.graph.vertices[u].op {
                Op::Image(_) => node(u).chain.map(|chain| chain.0),
                _ => node(u).key.map(|key| key.0),
            },
        };
        let case = Case {
            graph: self.env.graph,
            vertex: v,
            fields: &self.nodes[v].fields,
            op,
            key: self.base_chain(v).map(|_| key::cache_key(&op, &inputs)),
            inputs: &inputs,
            selections: true,
            runs: true,
            no_cache: self.no_cache,
            beneath: &beneath,
        };
        why::explain(&case, self.env.cache).line
    }
}

/// Puts together the inputs of a key; leaves out a base whose chain is not known.
pub(super) fn input_keys(
    graph: &Graph,
    v: usize,
    selected: &[Selected],
    chain: impl Fn(Option<VertexId>) -> Option<ChainDigest>,
) -> Vec<InputKey> {
    let mut selected = selected.iter();
    let inputs = graph.vertices[v].inputs.iter();
    let keys = inputs.filter_map(|input| {
        let detail = input_detail(graph, input.from);
        let kind = InputKind::of(input.kind)?;
        let (digest, files) = match kind {
            InputKind::Base => (chain(input.from)?.0, Default::default()),
            InputKind::Source | InputKind::Mount => {
                let selected = selected.next().expect("one for each source and mount");
                (selected.digest.0, selected.files.clone())
            }
        };
        Some(InputKey { kind, digest, detail, files })
    });
    keys.collect()
}

/// Says for people what an input is.
pub(super) fn input_detail(graph: &Graph, from: Option<VertexId>) -> String {
    match from.map(|from| graph.vertex(from)) {
        None => "scratch".to_owned(),
        Some(vertex) => match &vertex.op {
            Op::Context(context) => context.name.clone(),
            _ => vertex.text.clone(),
        },
    }
}

/// Digests what a vertex selects of its sources and mounts.
fn select<W, C>(env: Env<'_, W, C>, task: Task<'_>, views: &[InputView]) -> Result<Vec<Selected>, W::Error>
where
    W: Worker + ?Sized,
    C: CacheSource + ?Sized,
{
    let inputs = views.iter().enumerate().filter(|(_, input)| input.kind.is_selected());
    inputs.map(|(i, input)| env.worker.select(task, i, &input.view, env.halt)).collect()
}
