//! The plain sink: numbered steps as `docker build` has always shown them.
//!
//! One stage at work: its output passes through as it comes. Several: whole
//! lines with the stage's name in front. Not here: who the writer is.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::sync::Mutex;

use super::clean::Cleaner;
use super::pause::{silence, waiting};
use super::{Event, Reporter, Step, excerpt};

/// Writes events as lines of text.
pub struct Plain<W: Write + Send> {
    terminal: bool,
    colour: bool,
    state: Mutex<State<W>>,
}

struct State<W> {
    out: W,
    /// Output of each step whose line is not finished, by step number.
    open: HashMap<usize, Line>,
    said: HashSet<String>,
}

#[derive(Default)]
struct Line {
    cleaner: Cleaner,
    text: Vec<u8>,
    /// Whether what was passed through last did not end a line.
    unfinished: bool,
}

impl<W: Write + Send> Plain<W> {
    /// Makes a sink; for a `terminal`, what a terminal would obey is removed from output.
    pub fn new(out: W, terminal: bool) -> Plain<W> {
        let state = State { out, open: HashMap::new(), said: HashSet::new() };
        Plain { terminal, colour: terminal, state: Mutex::new(state) }
    }

    /// Says whether findings are drawn in colours; without it they are on a terminal.
    pub fn colour(mut self, colour: bool) -> Plain<W> {
        self.colour = colour;
        self
    }

    /// Returns the writer.
    pub fn into_inner(self) -> W {
        self.state.into_inner().unwrap_or_else(|e| e.into_inner()).out
    }
}

fn prefix(step: &Step) -> String {
    step.stage.as_ref().map(|stage| format!("[{stage}] ")).unwrap_or_default()
}

impl<W: Write> State<W> {
    fn line(&mut self, text: &str) -> std::io::Result<()> {
        writeln!(self.out, "{text}")
    }

    fn log(&mut self, step: &Step, data: &[u8], terminal: bool) -> std::io::Result<()> {
        let line = self.open.entry(step.number).or_default();
        let data = if terminal { line.cleaner.clean(data) } else { data.to_vec() };
        let Some(&last) = data.last() else { return Ok(()) };
        if step.stage.is_none() {
            line.unfinished = last != b'\n';
            self.out.write_all(&data)?;
            return self.out.flush();
        }
        line.text.extend_from_slice(&data);
        if let Some(end) = line.text.iter().rposition(|&b| b == b'\n') {
            let rest = line.text.split_off(end + 1);
            let whole = std::mem::replace(&mut line.text, rest);
            let prefix = prefix(step);
            for text in whole.split_inclusive(|&b| b == b'\n') {
                self.out.write_all(prefix.as_bytes())?;
                self.out.write_all(text)?;
            }
            self.out.flush()?;
        }
        Ok(())
    }

    /// Says something of a step that is none of its output.
    fn aside(&mut self, step: &Step, text: &str) -> std::io::Result<()> {
        if let Some(line) = self.open.get_mut(&step.number).filter(|line| line.unfinished) {
            line.unfinished = false;
            self.out.write_all(b"\n")?;
        }
        self.line(&format!("{}{text}", prefix(step)))
    }

    /// Ends the line a step's output may have left open.
    fn finish_line(&mut self, step: &Step) -> std::io::Result<()> {
        if let Some(line) = self.open.remove(&step.number) {
            if !line.text.is_empty() {
                self.out.write_all(prefix(step).as_bytes())?;
                self.out.write_all(&line.text)?;
            }
            if line.unfinished || !line.text.is_empty() {
                self.out.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    fn once(&mut self, text: String) -> std::io::Result<()> {
        // It may quote what a registry or an archive says.
        let text = super::clean::without_codes(&super::clean::clean_text(&text));
        if self.said.insert(text.clone()) {
            self.line(&text)?;
        }
        Ok(())
    }
}

impl<W: Write + Send> Reporter for Plain<W> {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        let state = &mut *state;
        // A reader that went away (`rbuild ... | head`) must not fail the build.
        let _ = match event {
            Event::StepStarted { step } => {
                let text = super::clean::clean_text(&step.text);
                state.line(&format!("{}Step {}/{} : {text}", prefix(&step), step.number, step.total))
            }
            Event::StepMissed { step, why } => {
                let why = super::clean::without_codes(&super::clean::clean_text(&why));
                state.line(&format!("{} ---> Not cached: {why}", prefix(&step)))
            }
            Event::StepCached { step, from } => {
                let from = from.map(|name| format!(" of {}", super::clean::clean_text(&name)));
                state.line(&format!("{} ---> Using cache{}", prefix(&step), from.unwrap_or_default()))
            }
            Event::StepLog { step, data, .. } => state.log(&step, &data, self.terminal),
            Event::StepSilent { step, silent, running } => {
                state.aside(&step, &silence(&step, silent, running))
            }
            Event::StepWaits { step, what } => state.aside(&step, &waiting(&step, &what)),
            Event::StepFinished { step, id } => {
                let _ = state.finish_line(&step);
                state.line(&format!("{} ---> {id}", prefix(&step)))
            }
            Event::StepFailed { step } | Event::StepStopped { step } => state.finish_line(&step),
            Event::Pull { text } => state.line(&super::clean::clean_text(&text)),
            Event::Note { text } => state.once(text),
            Event::Warning { text } => state.once(text),
            Event::Finding { file, source, diagnostic } => {
                state.once(excerpt::render(&diagnostic, &file, &source, self.colour).trim_end().to_owned())
            }
            Event::VertexStarted { .. }
            | Event::VertexKeyed { .. }
            | Event::VertexCached { .. }
            | Event::VertexLog { .. }
            | Event::VertexSilent { .. }
            | Event::VertexWaits { .. }
            | Event::VertexCommitted { .. }
            | Event::VertexFinished { .. }
            | Event::VertexFailed { .. }
            | Event::LogFile { .. }
            | Event::Planned { .. }
            | Event::WorkStarted { .. }
            | Event::WorkEnded { .. }
            | Event::Transfer(_)
            | Event::TransferEnded { .. } => return,
        };
        let _ = state.out.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stream;
    use super::*;

    fn step(number: usize, stage: Option<&str>, text: &str) -> Step {
        Step { number, total: 3, stage: stage.map(str::to_owned), text: text.to_owned(), line: number }
    }

    fn log(step: &Step, data: &str) -> Event {
        Event::StepLog { step: step.clone(), stream: Stream::Stdout, data: data.into() }
    }

    fn check(terminal: bool, events: Vec<Event>, expect: &str) {
        let sink = Plain::new(Vec::new(), terminal);
        for event in events {
            sink.event(event);
        }
        assert_eq!(String::from_utf8(sink.into_inner()).unwrap(), expect);
    }

    #[test]
    fn one_stage_passes_output_through() {
        let run = step(2, None, "RUN make");
        check(
            false,
            vec![
                Event::StepStarted { step: run.clone() },
                log(&run, "a"),
                log(&run, "b\nc"),
                Event::StepFinished { step: run.clone(), id: "0123456789ab".into() },
                Event::StepStarted { step: step(3, None, "CMD x") },
                Event::StepCached { step: step(3, None, "CMD x"), from: None },
                Event::StepCached { step: step(3, None, "CMD x"), from: Some("host/cache".into()) },
            ],
            "Step 2/3 : RUN make\nab\nc\n ---> 0123456789ab\nStep 3/3 : CMD x\n ---> Using cache\n ---> Using cache of host/cache\n",
        );
    }

    #[test]
    fn several_stages_share_the_screen_by_lines() {
        let (a, b) = (step(1, Some("a"), "RUN a"), step(2, Some("b"), "RUN b"));
        check(
            false,
            vec![
                log(&a, "one "),
                log(&b, "two\nthr"),
                log(&a, "more\n"),
                log(&b, "ee"),
                Event::StepFailed { step: b.clone() },
            ],
            "[b] two\n[a] one more\n[b] three\n",
        );
    }

    #[test]
    fn a_step_says_why_it_is_not_cached() {
        let (one, two) = (step(2, None, "RUN x"), step(3, Some("b"), "RUN y"));
        check(
            false,
            vec![
                Event::StepStarted { step: one.clone() },
                Event::StepMissed { step: one, why: "ARG A: 1 -> \x1b[2J2".into() },
                Event::StepMissed { step: two, why: "--no-cache".into() },
            ],
            "Step 2/3 : RUN x\n ---> Not cached: ARG A: 1 -> 2\n[b]  ---> Not cached: --no-cache\n",
        );
    }

    #[test]
    fn a_terminal_is_protected() {
        let run = step(1, None, "RUN \x1b]0;x\x07evil");
        check(
            true,
            vec![Event::StepStarted { step: run.clone() }, log(&run, "\x1b[2Jx\n")],
            "Step 1/3 : RUN evil\nx\n",
        );
    }

    #[test]
    fn what_a_registry_says_is_harmless() {
        let text = || "it is `application/\x1b]0;x\x07\u{9b}2Jevil`".to_owned();
        let events = vec![
            Event::Note { text: text() },
            Event::Pull { text: text() },
            Event::Warning { text: text() + "!" },
        ];
        let shown = "it is `application/evil`";
        check(false, events, &format!("{shown}\n{shown}\n{shown}!\n"));
    }

    #[test]
    fn notes_are_said_once() {
        let note = || Event::Note { text: "n".into() };
        check(false, vec![note(), note()], "n\n");
    }
}
