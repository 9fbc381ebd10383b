//! Vertices as the engine reports them, to numbered steps as a user knows them.
//!
//! Within a stage, steps appear in the order of the file: one is shown when all
//! before it are done, and output that comes earlier waits for its step's line.
//! Steps that only change the config (CMD, ENV, ...) are done when the layers
//! under them are. Not here: drawing (`report`), what a step's id leads to
//! ([`StepBook`]).

use std::sync::{Mutex, PoisonError};

use crate::image::SnapshotId;
use crate::plan::graph::{Graph, Op, VertexId};
use crate::report::{Event, PlannedStep, Reporter, Step, Stream, Work};

/// Keeps what a step's id leads to.
pub trait StepBook: Sync {
    /// Returns the id of a step (12 hex digits) whose state is these layers, and whether it
    /// was known before. `stage` and `step` are indices into the graph.
    fn record(&self, stage: usize, step: usize, layers: &[SnapshotId]) -> (String, bool);

    /// Hears the layers of a step once more; where they are others than it was recorded with,
    /// its id leads to these from now on. Steps come in order, those below first.
    fn update(&self, stage: usize, step: usize, layers: &[SnapshotId]);
}

/// Translates a build's events.
pub struct StepReporter<'a> {
    graph: &'a Graph,
    sink: &'a dyn Reporter,
    book: &'a dyn StepBook,
    /// The number of the first step of each stage, less one.
    offsets: Vec<usize>,
    total: usize,
    /// The stage that shows a vertex's output: the first that has it.
    owners: Vec<Option<usize>>,
    /// The number of the step that does.
    numbers: Vec<Option<usize>>,
    no_cache: bool,
    state: Mutex<State>,
}

struct State {
    vertices: Vec<Progress>,
    /// The layers each vertex put on its base: the ones kept, as far as that is known.
    own: Vec<Vec<SnapshotId>>,
    /// The caches of elsewhere that knew them.
    from: Vec<Option<String>>,
    /// Why they were not cached.
    whys: Vec<Option<String>>,
    /// Whether a layer made room for another after steps on it were shown.
    replaced: bool,
    waiting: Vec<Vec<(Stream, Vec<u8>)>>,
    cursors: Vec<Cursor>,
}

#[derive(Clone, Copy, Default)]
struct Cursor {
    next: usize,
    /// Whether the line of the next step was shown already.
    begun: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Idle,
    Running,
    Done { cached: bool },
    Failed,
}

impl<'a> StepReporter<'a> {
    /// Makes a translator; `image_layers` gives the layers of an image vertex.
    pub fn new(
        graph: &'a Graph,
        sink: &'a dyn Reporter,
        book: &'a dyn StepBook,
        image_layers: &dyn Fn(VertexId) -> Vec<SnapshotId>,
        no_cache: bool,
    ) -> StepReporter<'a> {
        let mut offsets = Vec::new();
        let mut total = 0;
        let mut owners = vec![None; graph.vertices.len()];
        let mut numbers = vec![None; graph.vertices.len()];
        for (index, stage) in graph.stages.iter().enumerate() {
            offsets.push(total);
            for (place, step) in stage.steps.iter().enumerate() {
                if let Some(vertex) = step.vertex {
                    owners[vertex.0].get_or_insert(index);
                    numbers[vertex.0].get_or_insert(total + place + 1);
                }
            }
            total += stage.steps.len();
        }
        let own = (0..graph.vertices.len()).map(|v| image_layers(VertexId(v))).collect();
        let state = State {
            vertices: vec![Progress::Idle; graph.vertices.len()],
            own,
            from: vec![None; graph.vertices.len()],
            whys: vec![None; graph.vertices.len()],
            replaced: false,
            waiting: vec![Vec::new(); graph.vertices.len()],
            cursors: vec![Cursor::default(); graph.stages.len()],
        };
        let state = Mutex::new(state);
        StepReporter { graph, sink, book, offsets, total, owners, numbers, no_cache, state }
    }

    /// Tells which steps there are, and shows those that need no vertex; to be called once, before the
    /// engine starts.
    pub fn begin(&self) {
        let stages = 0..self.graph.stages.len();
        let steps = stages.flat_map(|stage| self.planned(stage)).collect();
        self.sink.event(Event::Planned { steps });
        let mut state = self.lock();
        for stage in 0..self.graph.stages.len() {
            self.advance(&mut state, stage);
        }
    }

    /// Ends the steps that were stopped half-way, and makes the ids shown lead to layers that
    /// stay: some were replaced by older ones of equal content. To be called once, after the
    /// engine ended, however it ended.
    pub fn end(&self) {
        let mut state = self.lock();
        for (stage, planned) in self.graph.stages.iter().enumerate() {
            let cursor = state.cursors[stage];
            if cursor.begun && cursor.next < planned.steps.len() {
                self.sink.event(Event::StepStopped { step: self.step(stage, cursor.next) });
            }
            state.cursors[stage].begun = false;
        }
        if state.replaced {
            self.update(&state);
        }
    }

    /// Makes the ids shown lead to layers by the ids the disk knows them by, where they were shown before
    /// their files came from a cache of elsewhere. To be called after [`StepReporter::end`].
    pub fn arrived(&self, real: &dyn Fn(&SnapshotId) -> SnapshotId) {
        let mut state = self.lock();
        let before = state.own.clone();
        state.own.iter_mut().flatten().for_each(|id| *id = real(id));
        if state.own != before {
            self.update(&state);
        }
    }

    fn update(&self, state: &State) {
        for (stage, planned) in self.graph.stages.iter().enumerate() {
            for (index, step) in planned.steps.iter().enumerate() {
                self.book.update(stage, index, &self.layers(state, step.vertex.or(step.state)));
            }
        }
    }

    /// Returns the layers of a state, lowest first.
    fn layers(&self, state: &State, of: Option<VertexId>) -> Vec<SnapshotId> {
        let mut layers = Vec::new();
        let mut next = of;
        while let Some(VertexId(v)) = next {
            layers.extend(state.own[v].iter().rev().cloned());
            next = self.base(v);
        }
        layers.reverse();
        layers
    }

    fn base(&self, vertex: usize) -> Option<VertexId> {
        self.graph.vertices[vertex].inputs.first().and_then(|input| input.from)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn planned(&self, stage: usize) -> impl Iterator<Item = PlannedStep> + '_ {
        let planned = &self.graph.stages[stage];
        planned.steps.iter().enumerate().map(move |(index, step)| {
            let work = match step.vertex {
                Some(_) if index == 0 => Work::Base,
                Some(_) => Work::Layer,
                None => Work::None,
            };
            let inputs = step.vertex.map(|v| self.graph.vertices[v.0].inputs.as_slice()).unwrap_or_default();
            // Contexts have no step.
            let inputs = inputs.iter().filter_map(|input| self.numbers[input.from?.0]);
            let stage_name = planned.name.clone();
            PlannedStep {
                step: self.step(stage, index),
                stage: stage_name.clone().unwrap_or_else(|| planned.index.to_string()),
                stage_name,
                work,
                inputs: inputs.collect(),
            }
        })
    }

    /// Tells that the work for a vertex begins or ended.
    fn tell(&self, vertex: usize, event: fn(usize) -> Event) {
        if let Some(number) = self.numbers[vertex] {
            self.sink.event(event(number));
        }
    }

    /// Returns the step that shows a vertex.
    fn step_of(&self, vertex: usize) -> Option<Step> {
        let (stage, number) = (self.owners[vertex]?, self.numbers[vertex]?);
        Some(self.step(stage, number - self.offsets[stage] - 1))
    }

    /// Returns what a step looks like to a user.
    fn step(&self, stage: usize, index: usize) -> Step {
        let planned = &self.graph.stages[stage];
        let step = &planned.steps[index];
        let name = || planned.name.clone().unwrap_or_else(|| planned.index.to_string());
        Step {
            number: self.offsets[stage] + index + 1,
            total: self.total,
            stage: (self.graph.stages.len() > 1).then(name),
            text: step.text.clone(),
            line: step.line,
        }
    }

    fn done(&self, state: &mut State, vertex: usize, cached: bool, snapshot: Option<String>) {
        self.keep(state, vertex, snapshot);
        self.set(state, vertex, Progress::Done { cached });
    }

    /// Notes the layer of a vertex; that of an image was known before.
    fn keep(&self, state: &mut State, vertex: usize, snapshot: Option<String>) {
        if !matches!(self.graph.vertices[vertex].op, Op::Image(_)) {
            state.own[vertex] = snapshot.and_then(|s| SnapshotId::try_from(s).ok()).into_iter().collect();
        }
    }

    fn set(&self, state: &mut State, vertex: usize, progress: Progress) {
        state.vertices[vertex] = progress;
        for stage in 0..self.graph.stages.len() {
            self.advance(state, stage);
        }
    }

    /// Shows all that a stage can show now.
    fn advance(&self, state: &mut State, stage: usize) {
        let planned = &self.graph.stages[stage];
        while let Some(step) = planned.steps.get(state.cursors[stage].next) {
            let index = state.cursors[stage].next;
            let first = index == 0;
            let own = step.vertex.filter(|_| !first);
            let shows_output = own.is_some_and(|v| self.owners[v.0] == Some(stage));
            let under = step.vertex.or(step.state);
            // Steps on scratch that need no work wait for the first that does: `Step 1` comes first.
            let awaited = under.or_else(|| planned.steps[index..].iter().find_map(|step| step.vertex));
            if under.is_none() && awaited.is_some_and(|v| state.vertices[v.0] == Progress::Idle) {
                return;
            }
            let progress = under.map_or(Progress::Done { cached: true }, |v| state.vertices[v.0]);
            let begin = match progress {
                Progress::Idle => false,
                Progress::Running | Progress::Failed => shows_output,
                Progress::Done { .. } => true,
            };
            if !begin {
                return;
            }
            if !state.cursors[stage].begun {
                state.cursors[stage].begun = true;
                self.sink.event(Event::StepStarted { step: self.step(stage, index) });
                if let Some(why) = own.filter(|_| shows_output).and_then(|v| state.whys[v.0].clone()) {
                    self.sink.event(Event::StepMissed { step: self.step(stage, index), why });
                }
            }
            if let Some(vertex) = own.filter(|_| shows_output) {
                for (stream, data) in std::mem::take(&mut state.waiting[vertex.0]) {
                    self.sink.event(Event::StepLog { step: self.step(stage, index), stream, data });
                }
            }
            let Progress::Done { cached } = progress else {
                if progress == Progress::Failed {
                    self.sink.event(Event::StepFailed { step: self.step(stage, index) });
                    // Never shown twice: a failed step has no next one.
                    state.cursors[stage].next = planned.steps.len();
                }
                return;
            };
            let (id, known) = self.book.record(stage, index, &self.layers(state, under));
            let reused = match own {
                Some(_) => cached || !shows_output,
                None => !first && known && !self.no_cache,
            };
            if reused {
                let from = own.filter(|_| cached).and_then(|v| state.from[v.0].clone());
                self.sink.event(Event::StepCached { step: self.step(stage, index), from });
            }
            self.sink.event(Event::StepFinished { step: self.step(stage, index), id });
            state.cursors[stage] = Cursor { next: index + 1, begun: false };
        }
    }
}

impl Reporter for StepReporter<'_> {
    fn event(&self, event: Event) {
        match event {
            // For the record of the build alone.
            Event::VertexKeyed { .. } => {}
            Event::VertexStarted { vertex, why } => {
                self.tell(vertex, |number| Event::WorkStarted { number });
                let mut state = self.lock();
                state.whys[vertex] = Some(why).filter(|why| !why.is_empty());
                self.set(&mut state, vertex, Progress::Running);
            }
            Event::VertexCached { vertex, snapshot, from } => {
                let mut state = self.lock();
                state.from[vertex] = from;
                self.done(&mut state, vertex, true, snapshot);
            }
            Event::VertexCommitted { vertex, snapshot } => {
                self.tell(vertex, |number| Event::WorkEnded { number });
                let mut state = self.lock();
                self.done(&mut state, vertex, false, snapshot);
            }
            Event::VertexFinished { vertex, snapshot, .. } => {
                let mut state = self.lock();
                // A committed step was shown already; what was kept in its place is for the book.
                if matches!(state.vertices[vertex], Progress::Done { .. }) {
                    let before = state.own[vertex].clone();
                    self.keep(&mut state, vertex, snapshot);
                    state.replaced |= state.own[vertex] != before;
                } else {
                    self.tell(vertex, |number| Event::WorkEnded { number });
                    self.done(&mut state, vertex, false, snapshot);
                }
            }
            Event::VertexSilent { vertex, silent, running } => {
                if let Some(step) = self.step_of(vertex) {
                    self.sink.event(Event::StepSilent { step, silent, running });
                }
            }
            Event::VertexWaits { vertex, what } => {
                if let Some(step) = self.step_of(vertex) {
                    self.sink.event(Event::StepWaits { step, what });
                }
            }
            Event::VertexFailed { vertex } => {
                self.tell(vertex, |number| Event::WorkEnded { number });
                let mut state = self.lock();
                self.set(&mut state, vertex, Progress::Failed);
            }
            Event::VertexLog { vertex, stream, data } => {
                let mut state = self.lock();
                let owner = self.owners[vertex].map(|stage| (stage, state.cursors[stage]));
                match owner {
                    Some((stage, cursor))
                        if cursor.begun
                            && self.graph.stages[stage].steps[cursor.next].vertex
                                == Some(VertexId(vertex)) =>
                    {
                        self.sink.event(Event::StepLog { step: self.step(stage, cursor.next), stream, data });
                    }
                    _ => state.waiting[vertex].push((stream, data)),
                }
            }
            other => self.sink.event(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::super::testing::{Screen, graph, layer};
    use super::*;

    /// The id of a step is the first digit of each of its layers, lowest first.
    #[derive(Default)]
    struct Book {
        known: bool,
        updates: Mutex<BTreeMap<(usize, usize), String>>,
    }

    fn shown(layers: &[SnapshotId]) -> String {
        layers.iter().map(|layer| &layer.as_str()[..1]).collect()
    }

    impl StepBook for Book {
        fn record(&self, _: usize, _: usize, layers: &[SnapshotId]) -> (String, bool) {
            (shown(layers), self.known)
        }

        fn update(&self, stage: usize, step: usize, layers: &[SnapshotId]) {
            self.updates.lock().unwrap().insert((stage, step), shown(layers));
        }
    }

    /// A build of a Dockerfile, whose images have one layer, `e`.
    struct Play {
        graph: Graph,
        screen: Screen,
        book: Book,
        no_cache: bool,
    }

    impl Play {
        fn of(text: &str) -> Play {
            Play { graph: graph(text), screen: Screen::default(), book: Book::default(), no_cache: false }
        }

        fn vertex(&self, text: &str) -> usize {
            self.graph.vertices.iter().position(|vertex| vertex.text == text).expect(text)
        }

        fn run(&self, script: impl FnOnce(&dyn Fn(&str, &str), &StepReporter<'_>)) {
            let images = |id: VertexId| match self.graph.vertex(id).op {
                Op::Image(_) => vec![layer('e')],
                _ => Vec::new(),
            };
            let steps = StepReporter::new(&self.graph, &self.screen, &self.book, &images, self.no_cache);
            steps.begin();
            let tell = |what: &str, text: &str| {
                let (what, detail) = what.split_once(' ').unwrap_or((what, ""));
                let vertex = self.vertex(text);
                let snapshot = || detail.chars().next().map(|digit| layer(digit).to_string());
                steps.event(match what {
                    "start" => Event::VertexStarted { vertex, why: detail.to_owned() },
                    "cached" => Event::VertexCached { vertex, snapshot: snapshot(), from: None },
                    "log" => Event::VertexLog { vertex, stream: Stream::Stdout, data: detail.into() },
                    "commit" => Event::VertexCommitted { vertex, snapshot: snapshot() },
                    "finish" => {
                        Event::VertexFinished { vertex, elapsed: Duration::ZERO, snapshot: snapshot() }
                    }
                    "fail" => Event::VertexFailed { vertex },
                    other => panic!("{other}"),
                });
            };
            script(&tell, &steps);
        }

        #[track_caller]
        fn saw(&self, expect: &[&str]) {
            assert_eq!(self.screen.take(), expect);
        }
    }

    #[test]
    fn one_stage_in_the_order_of_the_file() {
        let play = Play::of("FROM base\nENV A=1\nRUN x\nCMD [\"y\"]\n");
        play.run(|tell, steps| {
            play.saw(&[]);
            tell("finish e", "FROM base");
            play.saw(&["1/4 FROM base", "1 is e", "2/4 ENV A=1", "2 is e"]);
            tell("start", "RUN x");
            tell("log out", "RUN x");
            play.saw(&["3/4 RUN x", "3 says out"]);
            tell("commit a", "RUN x");
            play.saw(&["3 is ea", "4/4 CMD [\"y\"]", "4 is ea"]);
            tell("finish a", "RUN x");
            steps.end();
            play.saw(&[]);
        });
        assert!(play.book.updates.lock().unwrap().is_empty(), "nothing was replaced");
    }

    #[test]
    fn a_step_says_why_it_runs_once_in_the_stage_that_shows_it() {
        let play = Play::of("FROM base AS a\nRUN x\nFROM base\nRUN x\nCOPY --from=a /f /\n");
        play.run(|tell, _| {
            tell("finish e", "FROM base AS a");
            play.screen.take();
            tell("start app.py changed", "RUN x");
            play.saw(&["[a] 2/5 RUN x", "2 app.py changed"]);
            tell("commit a", "RUN x");
            tell("start never", "COPY --from=a /f /");
            let seen = play.screen.take();
            assert_eq!(seen.iter().filter(|line| line.contains("app.py")).count(), 0, "{seen:?}");
            assert!(seen.ends_with(&["5 never".to_owned()]), "{seen:?}");
        });
    }

    #[test]
    fn cached_steps_say_so() {
        let mut play = Play::of("FROM base\nRUN x\nCMD [\"y\"]\n");
        play.book.known = true;
        play.run(|tell, _| {
            tell("finish e", "FROM base");
            tell("cached a", "RUN x");
        });
        play.saw(&[
            "1/3 FROM base",
            "1 is e",
            "2/3 RUN x",
            "2 cached",
            "2 is ea",
            "3/3 CMD [\"y\"]",
            "3 cached",
            "3 is ea",
        ]);
        // With --no-cache nothing is said to be cached, although the config was known.
        play.no_cache = true;
        play.run(|tell, _| {
            tell("finish e", "FROM base");
            tell("start", "RUN x");
            tell("commit a", "RUN x");
        });
        play.saw(&["1/3 FROM base", "1 is e", "2/3 RUN x", "2 is ea", "3/3 CMD [\"y\"]", "3 is ea"]);
    }

    #[test]
    fn a_file_of_configs_alone() {
        let play = Play::of("FROM scratch\nENV A=1\nCMD [\"y\"]\n");
        play.run(|_, _| {});
        play.saw(&["1/3 FROM scratch", "1 is ", "2/3 ENV A=1", "2 is ", "3/3 CMD [\"y\"]", "3 is "]);
    }

    #[test]
    fn several_stages_and_their_names() {
        let play = Play::of(
            "FROM base AS one\nRUN x\nFROM base\nRUN z\nFROM scratch\nCOPY --from=one /f /f\nCOPY --from=1 /g /g\n",
        );
        play.run(|tell, _| {
            play.saw(&[]);
            tell("finish e", "FROM base AS one");
            play.saw(&["[one] 1/7 FROM base AS one", "1 is e", "[1] 3/7 FROM base", "3 is e"]);
            tell("start", "RUN z");
            tell("start", "RUN x");
            tell("log a", "RUN x");
            tell("log b", "RUN z");
            play.saw(&["[1] 4/7 RUN z", "[one] 2/7 RUN x", "2 says a", "4 says b"]);
            tell("commit a", "RUN x");
            // FROM scratch needs nothing, and yet is not shown before there is something to do.
            play.saw(&["2 is ea"]);
            tell("start", "COPY --from=one /f /f");
            play.saw(&["[2] 5/7 FROM scratch", "5 is ", "[2] 6/7 COPY --from=one /f /f"]);
            tell("commit c", "COPY --from=one /f /f");
            tell("commit b", "RUN z");
            play.saw(&["6 is c", "4 is eb"]);
        });
    }

    #[test]
    fn a_stage_on_a_stage_starts_with_its_layers() {
        let play = Play::of("FROM base AS one\nRUN x\nFROM one\nRUN z\n");
        play.run(|tell, _| {
            tell("finish e", "FROM base AS one");
            tell("start", "RUN x");
            tell("commit a", "RUN x");
            tell("start", "RUN z");
            tell("commit b", "RUN z");
        });
        let lines = play.screen.take();
        assert_eq!(lines[4..], ["[1] 3/4 FROM one", "3 is ea", "[1] 4/4 RUN z", "4 is eab"]);
    }

    #[test]
    fn work_that_two_stages_share_is_shown_as_it_is() {
        let play = Play::of(
            "FROM base AS one\nRUN x\nFROM base AS two\nRUN x\nFROM scratch\nCOPY --from=one /f /f\nCOPY --from=two /g /g\n",
        );
        play.run(|tell, _| {
            tell("finish e", "FROM base AS one");
            tell("start", "RUN x");
            tell("log once", "RUN x");
            tell("commit a", "RUN x");
        });
        assert_eq!(
            play.screen.take()[4..],
            ["[one] 2/7 RUN x", "2 says once", "2 is ea", "[two] 4/7 RUN x", "4 cached", "4 is ea"]
        );
    }

    #[test]
    fn what_onbuild_brought_comes_after_from() {
        let play = Play::of("FROM trigger\nENV A=1\n");
        play.run(|tell, _| {
            tell("finish e", "FROM trigger");
            tell("start", "ONBUILD RUN triggered");
            tell("commit a", "ONBUILD RUN triggered");
        });
        play.saw(&[
            "1/3 FROM trigger",
            "1 is e",
            "2/3 ONBUILD RUN triggered",
            "2 is ea",
            "3/3 ENV A=1",
            "3 is ea",
        ]);
    }

    #[test]
    fn a_failure_ends_its_stage_and_stops_the_others() {
        let play = Play::of(
            "FROM base AS one\nRUN x\nRUN never\nFROM base AS two\nRUN z\nFROM scratch\nCOPY --from=one /f /f\nCOPY --from=two /g /g\n",
        );
        play.run(|tell, steps| {
            tell("finish e", "FROM base AS one");
            tell("start", "RUN x");
            tell("start", "RUN z");
            play.screen.take();
            tell("log half", "RUN z");
            tell("fail", "RUN x");
            play.saw(&["5 says half", "2 failed"]);
            steps.end();
            play.saw(&["5 stopped"]);
            tell("log late", "RUN z");
            steps.end();
            play.saw(&[]);
        });
    }

    #[test]
    fn a_step_that_fails_at_once_is_shown_first() {
        let play = Play::of("FROM scratch\nCOPY nothing /\n");
        play.run(|tell, steps| {
            tell("fail", "COPY nothing /");
            steps.end();
        });
        play.saw(&["1/2 FROM scratch", "1 is ", "2/2 COPY nothing /", "2 failed"]);
    }

    #[test]
    fn output_waits_for_the_line_of_its_step() {
        let play = Play::of("FROM base\nRUN x\nRUN z\n");
        play.run(|tell, _| {
            tell("finish e", "FROM base");
            tell("start", "RUN z");
            tell("log early", "RUN z");
            play.saw(&["1/3 FROM base", "1 is e"]);
            tell("start", "RUN x");
            tell("commit a", "RUN x");
            play.saw(&["2/3 RUN x", "2 is ea", "3/3 RUN z", "3 says early"]);
        });
    }

    #[test]
    fn layers_that_were_replaced_are_told() {
        let play = Play::of("FROM base\nRUN x\nENV A=1\nRUN z\nRUN bad\n");
        play.run(|tell, steps| {
            tell("finish e", "FROM base");
            tell("start", "RUN x");
            tell("commit b", "RUN x");
            tell("start", "RUN z");
            tell("finish a", "RUN x");
            tell("commit c", "RUN z");
            tell("finish c", "RUN z");
            tell("fail", "RUN bad");
            steps.end();
        });
        let lines = play.screen.take();
        assert!(lines.contains(&"2 is eb".to_owned()) && lines.contains(&"4 is eac".to_owned()), "{lines:?}");
        let updates = play.book.updates.lock().unwrap();
        let ids: Vec<&str> = (0..4).map(|step| updates[&(0, step)].as_str()).collect();
        assert_eq!(ids, ["e", "ea", "ea", "eac"]);
    }
}
