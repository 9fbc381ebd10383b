//! What a screen knows of a build, a pull or a push: events in, state out.
//!
//! Pure: the time is given. What is to stay on the screen is queued as [`Kept`]; what changes is drawn from
//! the state (`draw`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::super::clean::{clean_text, without_codes};
use super::super::{Event, PlannedStep, Step, Transfer, Work, excerpt};
use super::tail::Tail;

/// The rate of a transfer is that of so long.
const RATE_OVER: Duration = Duration::from_secs(3);
/// So often it is noted how far a transfer is.
const RATE_EVERY: Duration = Duration::from_millis(200);

/// The state.
#[derive(Debug, Default)]
pub struct Model {
    plan: BTreeMap<usize, PlannedStep>,
    /// Steps whose work goes on, by number.
    pub running: BTreeMap<usize, Running>,
    cached: BTreeSet<usize>,
    done: BTreeSet<usize>,
    /// Transfers by what they are a part of, then in the order they began.
    pub transfers: Vec<(Arc<str>, Vec<Moving>)>,
    said: HashSet<String>,
    log_file: Option<PathBuf>,
    kept: VecDeque<Kept>,
    colour: bool,
}

/// A step at work.
#[derive(Debug)]
pub struct Running {
    pub step: Step,
    pub since: Duration,
    /// When the work ended, where its line has still to wait for those before.
    pub ended: Option<Duration>,
    /// Why it is not cached; harmless, one line.
    pub why: Option<String>,
    pub tail: Tail,
    /// Since when it says nothing, where that is long.
    pub silent_since: Option<Duration>,
    /// What it waits for.
    pub waits: Option<String>,
}

/// A transfer that is not complete.
#[derive(Debug)]
pub struct Moving {
    pub transfer: Transfer,
    /// How far it was when, the latest last.
    marks: VecDeque<(Duration, u64)>,
}

/// What is to stay on the screen.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    Step {
        step: Step,
        end: End,
        took: Option<Duration>,
        /// Why it was not cached.
        why: Option<String>,
    },
    /// Text for people, made harmless; several lines.
    Text(String),
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Done,
    /// `from`: the cache of elsewhere, where it was one.
    Cached {
        from: Option<String>,
    },
    Failed,
    Stopped,
}

/// How many steps there are, and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub steps: usize,
    pub done: usize,
    /// Layers made and found, of those that are done.
    pub run: usize,
    pub cached: usize,
    pub running: usize,
    pub stages: usize,
    pub stages_done: usize,
}

impl Model {
    /// Makes an empty one; `colour` tells whether findings are drawn in colours.
    pub fn new(colour: bool) -> Model {
        Model { colour, ..Model::default() }
    }

    /// Returns what is to stay on the screen since the last call.
    pub fn take_kept(&mut self) -> VecDeque<Kept> {
        std::mem::take(&mut self.kept)
    }

    /// Tells whether a plan is known.
    pub fn is_planned(&self) -> bool {
        !self.plan.is_empty()
    }

    /// Counts the steps.
    pub fn counts(&self) -> Counts {
        let layers = |of: &BTreeSet<usize>| {
            of.iter().filter(|number| self.plan.get(number).is_some_and(|p| p.work == Work::Layer)).count()
        };
        let mut left: HashMap<&str, usize> = HashMap::new();
        for (number, planned) in &self.plan {
            *left.entry(&planned.stage).or_default() += usize::from(!self.done.contains(number));
        }
        let cached = layers(&self.cached);
        Counts {
            steps: self.plan.len(),
            // What ended has only its line to wait for.
            done: self.done.len() + self.running.values().filter(|running| running.ended.is_some()).count(),
            run: layers(&self.done).saturating_sub(cached),
            cached,
            running: self.running.values().filter(|running| running.ended.is_none()).count(),
            stages: left.len(),
            stages_done: left.values().filter(|left| **left == 0).count(),
        }
    }

    /// Takes in an event; `now` is the time since the beginning.
    pub fn event(&mut self, event: Event, now: Duration) {
        match event {
            Event::LogFile { path } => self.log_file = Some(path),
            Event::Planned { steps } => {
                self.plan = steps.iter().map(|planned| (planned.step.number, planned.clone())).collect();
                self.running.clear();
                self.cached.clear();
                self.done.clear();
            }
            Event::WorkStarted { number } => {
                if let Some(planned) = self.plan.get(&number) {
                    let step = planned.step.clone();
                    let running = self.running.entry(number).or_insert_with(|| Running::new(step, now));
                    // It waited for another that did the same, and now does it itself.
                    if running.waits.take().is_some() {
                        running.since = now;
                    }
                }
            }
            Event::WorkEnded { number } => {
                if let Some(running) = self.running.get_mut(&number) {
                    running.ended = Some(now);
                }
            }
            Event::StepStarted { step } => {
                self.running.entry(step.number).or_insert_with(|| Running::new(step, now));
            }
            Event::StepMissed { step, why } => {
                let running = self.running.entry(step.number).or_insert_with(|| Running::new(step, now));
                running.why = Some(without_codes(&clean_text(&why)).replace(['\n', '\t'], " "));
            }
            Event::StepLog { step, data, .. } => {
                let running = self.running.entry(step.number).or_insert_with(|| Running::new(step, now));
                running.tail.push(data);
                (running.silent_since, running.waits) = (None, None);
            }
            Event::StepSilent { step, silent, .. } => {
                if let Some(running) = self.running.get_mut(&step.number) {
                    running.silent_since = Some(now.saturating_sub(silent));
                    running.waits = None;
                }
            }
            Event::StepWaits { step, what } => {
                let running = self.running.entry(step.number).or_insert_with(|| Running::new(step, now));
                running.waits = Some(clean_text(&what));
            }
            Event::StepCached { step, from } => {
                self.cached.insert(step.number);
                self.running.remove(&step.number);
                self.kept.push_back(Kept::Step { step, end: End::Cached { from }, took: None, why: None });
            }
            Event::StepFinished { step, .. } => {
                self.done.insert(step.number);
                let (took, why) = self.took(&step, now);
                if !self.cached.contains(&step.number) {
                    self.kept.push_back(Kept::Step { step, end: End::Done, took, why });
                }
            }
            Event::StepFailed { step } => self.fail(step, now),
            Event::StepStopped { step } => {
                let (took, why) = self.took(&step, now);
                self.kept.push_back(Kept::Step { step, end: End::Stopped, took, why });
            }
            Event::Transfer(transfer) => self.transfer(transfer, now),
            Event::TransferEnded { of } => self.transfers.retain(|(there, _)| *there != of),
            Event::Pull { text } => self.kept.push_back(Kept::Text(clean_text(&text))),
            Event::Note { text } | Event::Warning { text } => self.once(without_codes(&clean_text(&text))),
            Event::Finding { file, source, diagnostic } => {
                let text = excerpt::render(&diagnostic, &file, &source, self.colour);
                self.once(text.trim_end().to_owned());
            }
            Event::VertexStarted { .. }
            | Event::VertexKeyed { .. }
            | Event::VertexCached { .. }
            | Event::VertexLog { .. }
            | Event::VertexSilent { .. }
            | Event::VertexWaits { .. }
            | Event::VertexCommitted { .. }
            | Event::VertexFinished { .. }
            | Event::VertexFailed { .. } => {}
        }
    }

    /// Ends a step; tells how long it worked, where it did, and why.
    fn took(&mut self, step: &Step, now: Duration) -> (Option<Duration>, Option<String>) {
        let Some(running) = self.running.remove(&step.number) else { return (None, None) };
        let works = self.plan.get(&step.number).is_none_or(|planned| planned.work == Work::Layer);
        let took = works.then(|| running.ended.unwrap_or(now).saturating_sub(running.since));
        (took, running.why)
    }

    fn fail(&mut self, step: Step, now: Duration) {
        let (text, dropped) = self.running.get(&step.number).map(|r| r.tail.all()).unwrap_or_default();
        let (took, why) = self.took(&step, now);
        self.kept.push_back(Kept::Step { step, end: End::Failed, took, why });
        if dropped > 0 {
            let place = self.log_file.as_ref().map(|path| format!(": {}", path.display()));
            let place = clean_text(&place.unwrap_or_default());
            self.kept.push_back(Kept::Text(format!("({dropped} lines before are in the log{place})")));
        }
        if !text.is_empty() {
            self.kept.push_back(Kept::Text(text));
        }
    }

    fn once(&mut self, text: String) {
        if self.said.insert(text.clone()) {
            self.kept.push_back(Kept::Text(text));
        }
    }

    fn transfer(&mut self, transfer: Transfer, now: Duration) {
        let group = match self.transfers.iter().position(|(of, _)| *of == transfer.of) {
            Some(at) => at,
            None => {
                self.transfers.push((transfer.of.clone(), Vec::new()));
                self.transfers.len() - 1
            }
        };
        let parts = &mut self.transfers[group].1;
        let at = parts.iter().position(|moving| moving.transfer.part == transfer.part);
        let at = at.unwrap_or_else(|| {
            parts.push(Moving { transfer: transfer.clone(), marks: VecDeque::new() });
            parts.len() - 1
        });
        parts[at].advance(transfer, now);
    }
}

impl Running {
    fn new(step: Step, since: Duration) -> Running {
        Running {
            step,
            since,
            ended: None,
            why: None,
            tail: Tail::default(),
            silent_since: None,
            waits: None,
        }
    }
}

impl Moving {
    fn advance(&mut self, transfer: Transfer, now: Duration) {
        if transfer.ended && transfer.done < self.transfer.total {
            self.transfer.done = self.transfer.total;
            self.transfer.ended = true;
            return;
        }
        // It began anew: its rate does, too.
        if transfer.done < self.transfer.done {
            self.marks.clear();
        }
        if self.marks.back().is_none_or(|(when, _)| now.saturating_sub(*when) >= RATE_EVERY) {
            self.marks.push_back((now, transfer.done));
        }
        while self.marks.len() > 2
            && self.marks.front().is_some_and(|(t, _)| now.saturating_sub(*t) > RATE_OVER)
        {
            self.marks.pop_front();
        }
        self.transfer = transfer;
    }

    /// Returns the bytes a second of late; 0 where it is too early to say.
    pub fn rate(&self, now: Duration) -> u64 {
        let Some((since, from)) = self.marks.front() else { return 0 };
        let seconds = now.saturating_sub(*since).as_secs_f64();
        if seconds < RATE_EVERY.as_secs_f64() {
            return 0;
        }
        (self.transfer.done.saturating_sub(*from) as f64 / seconds) as u64
    }
}
