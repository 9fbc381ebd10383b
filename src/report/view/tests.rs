//! What the view shows, on terminals of many sizes.

use insta::assert_snapshot;

use super::super::{Diagnostic, PlannedStep, Step, Stream, Transfer, Work};
use super::*;

#[path = "../../../tests/it/common/terminal.rs"]
mod terminal;
use terminal::Terminal;

const PLAIN: Style = Style { colour: false, signs: Signs::Unicode };

fn step(number: usize, stage: Option<&str>, text: &str) -> Step {
    Step { number, total: 9, stage: stage.map(str::to_owned), text: text.to_owned(), line: number }
}

fn plan(steps: &[Step]) -> Event {
    let planned = |step: &Step| PlannedStep {
        step: step.clone(),
        stage: step.stage.clone().unwrap_or_default(),
        stage_name: step.stage.clone(),
        work: match step.text.split(' ').next() {
            Some("FROM") => Work::Base,
            Some("ENV" | "CMD") => Work::None,
            _ => Work::Layer,
        },
        inputs: Vec::new(),
    };
    Event::Planned { steps: steps.iter().map(planned).collect() }
}

fn log(step: &Step, text: &str) -> Event {
    Event::StepLog { step: step.clone(), stream: Stream::Stdout, data: text.as_bytes().to_vec() }
}

fn done(step: &Step) -> Event {
    Event::StepFinished { step: step.clone(), id: "0123456789ab".into() }
}

fn part(of: &str, part: &str, done: u64, total: u64) -> Event {
    Event::Transfer(Transfer { of: of.into(), part: part.to_owned(), done, total, ended: done == total })
}

/// A view of which the test has the time.
struct Play {
    model: Model,
    painter: Painter,
    terminal: Terminal,
    size: Size,
    now: Duration,
}

impl Play {
    fn new(columns: usize, rows: usize) -> Play {
        let (model, painter) = (Model::new(false), Painter::default());
        let size = Size { columns, rows };
        Play { model, painter, terminal: Terminal::new(columns, rows), size, now: Duration::ZERO }
    }

    /// Has events happen, a second after the last ones, and draws.
    fn at(&mut self, events: Vec<Event>) -> &mut Play {
        self.now += Duration::from_secs(1);
        events.into_iter().for_each(|event| self.model.event(event, self.now));
        let live = draw::live(&self.model, self.now, self.size, PLAIN);
        for line in &live {
            assert!(line.width() < self.size.columns, "{}", line.text());
        }
        assert!(live.len() < self.size.rows.max(2), "{live:?}");
        self.draw(live)
    }

    fn draw(&mut self, live: Vec<super::super::line::Line>) -> &mut Play {
        let width = self.size.columns - 1;
        let kept: Vec<String> =
            self.model.take_kept().iter().flat_map(|kept| draw::kept(kept, width, PLAIN)).collect();
        let frame = self.painter.frame(&kept, live, self.size, PLAIN);
        self.terminal.write(&frame);
        self
    }

    fn end(&mut self) -> &mut Play {
        self.draw(Vec::new())
    }

    fn resize(&mut self, columns: usize, rows: usize) -> &mut Play {
        self.size = Size { columns, rows };
        self.terminal.resize(columns, rows);
        self
    }

    fn shown(&self) -> String {
        self.terminal.lines().join("\n")
    }
}

/// Two stages at work, a base pulled before.
fn busy(play: &mut Play) {
    let steps = [
        step(1, Some("build"), "FROM debian:12 AS build"),
        step(2, Some("build"), "COPY . /src"),
        step(3, Some("build"), "RUN make -j8 all"),
        step(4, Some("1"), "FROM debian:12"),
        step(5, Some("1"), "ENV A=1"),
        step(6, Some("1"), "RUN apt-get install --yes --no-install-recommends python3 ca-certificates"),
        step(7, Some("1"), "COPY --from=build /app /app"),
    ];
    let [from, copy, make, from2, env, apt, _] = &steps;
    play.at(vec![
        plan(&steps),
        Event::StepStarted { step: from.clone() },
        done(from),
        done(from2),
        done(env),
    ]);
    play.at(vec![
        Event::StepStarted { step: copy.clone() },
        Event::StepCached { step: copy.clone(), from: None },
        done(copy),
        Event::WorkStarted { number: 3 },
        Event::StepStarted { step: make.clone() },
        Event::WorkStarted { number: 6 },
        Event::StepStarted { step: apt.clone() },
    ]);
    play.at(vec![log(make, "cc -c a.c\ncc -c b.c\n\x1b[31mcc\x1b[0m -c c"), log(apt, "Get:1 python3\r\n")]);
}

#[test]
fn steps_at_work_are_below_those_that_are_done() {
    let mut play = Play::new(72, 24);
    busy(&mut play);
    assert_snapshot!(play.shown(), @r###"
    ✓ [build] 1/9 FROM debian:12 AS build
    ✓ [1] 4/9 FROM debian:12
    ✓ [1] 5/9 ENV A=1
    = [build] 2/9 COPY . /src                                        cached
    > [build] 3/9 RUN make -j8 all                                     1.0s
       cc -c a.c
       cc -c b.c
       cc -c c
    > [1] 6/9 RUN apt-get install --yes --no-install-recommends pytho… 1.0s
       Get:1 python3
    3.0s  4/7 steps done, 1 cached, 2 running, 1 to do, 0/2 stages
    "###);
    let make = step(3, Some("build"), "RUN make -j8 all");
    play.at(vec![Event::WorkEnded { number: 3 }, done(&make)]);
    assert_snapshot!(play.shown(), @r###"
    ✓ [build] 1/9 FROM debian:12 AS build
    ✓ [1] 4/9 FROM debian:12
    ✓ [1] 5/9 ENV A=1
    = [build] 2/9 COPY . /src                                        cached
    ✓ [build] 3/9 RUN make -j8 all                                     2.0s
    > [1] 6/9 RUN apt-get install --yes --no-install-recommends pytho… 2.0s
       Get:1 python3
    4.0s  5/7 steps done, 1 cached, 1 running, 1 to do, 1/2 stages
    "###);
    let apt = step(6, Some("1"), "RUN apt-get install --yes --no-install-recommends python3 ca-certificates");
    play.at(vec![log(&apt, "E: no such package\n"), Event::StepFailed { step: apt }]).end();
    assert_snapshot!(play.shown(), @r###"
    ✓ [build] 1/9 FROM debian:12 AS build
    ✓ [1] 4/9 FROM debian:12
    ✓ [1] 5/9 ENV A=1
    = [build] 2/9 COPY . /src                                        cached
    ✓ [build] 3/9 RUN make -j8 all                                     2.0s
    ✗ [1] 6/9 RUN apt-get install --yes --no-install-recommends pytho… 3.0s
    Get:1 python3
    E: no such package
    "###);
    assert_eq!(play.terminal.cursor().1, 0);
}

#[test]
fn a_narrow_terminal_is_enough() {
    let mut play = Play::new(20, 8);
    busy(&mut play);
    assert_snapshot!(play.shown(), @r###"
    ✓ [build] 1/9 FROM…
    ✓ [1] 4/9 FROM deb…
    ✓ [1] 5/9 ENV A=1
    = [build] 2… cached
    > [build] 3/9… 1.0s
     cc -c b.c
     cc -c c
    > [1] 6/9 RUN… 1.0s
     Get:1 python3
    3.0s  4/7 1 cached
    "###);
    // The smallest of all.
    for (columns, rows) in [(8, 3), (2, 2), (1, 1), (300, 2)] {
        let mut play = Play::new(columns.max(2), rows);
        busy(&mut play);
        play.end();
    }
}

#[test]
fn wide_characters_are_cut_where_they_end() {
    let mut play = Play::new(30, 8);
    let run = step(1, None, "RUN echo \u{4f60}\u{597d}\u{4f60}\u{597d}\u{4f60}\u{597d}\u{4f60}\u{597d}");
    play.at(vec![plan(std::slice::from_ref(&run)), Event::StepStarted { step: run.clone() }]);
    play.at(vec![log(&run, "e\u{301}e\u{301} \u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\n")]);
    assert_snapshot!(play.shown(), @r###"
    > 1/9 RUN echo 你好你好… 1.0s
     éé 😀😀😀😀😀😀😀😀😀😀😀😀…
    2.0s  0/1 0 cached 1 running
    "###);
}

#[test]
fn output_cannot_break_the_screen() {
    let mut play = Play::new(40, 10);
    let run = step(1, None, "RUN \x1b[2Jevil \u{202e}txt");
    play.at(vec![plan(std::slice::from_ref(&run)), Event::StepStarted { step: run.clone() }]);
    play.at(vec![log(
        &run,
        "\x1b[10;10Hhere\x1b[2J\x1b]0;title\x07\x1b[?1049h\n\x1bc\u{9b}3Amore\x08\x08\n",
    )]);
    // The terminal of the test panics at what it must not get.
    assert_snapshot!(play.shown(), @r###"
    > 1/9 RUN ␛[2Jevil �txt            1.0s
     here
     more
    2.0s  0/1 0 cached 1 running 0 to do
    "###);
    play.at(vec![Event::StepFailed { step: run }]).end();
    assert_snapshot!(play.shown(), @r###"
    ✗ 1/9 RUN ␛[2Jevil �txt            2.0s
    here
    more
    "###);
}

#[test]
fn many_steps_share_the_screen() {
    let steps: Vec<Step> = (1..=9).map(|n| step(n, None, &format!("RUN job {n}"))).collect();
    let mut play = Play::new(60, 7);
    play.at(vec![plan(&steps)]);
    play.at((1..=9).map(|number| Event::WorkStarted { number }).collect());
    assert_snapshot!(play.shown(), @r###"
    > 1/9 RUN job 1                                        0.0s
    > 2/9 RUN job 2                                        0.0s
    > 3/9 RUN job 3                                        0.0s
    > 4/9 RUN job 4                                        0.0s
      5 more steps
    2.0s  0/9 steps done, 0 cached, 9 running, 0 to do
    "###);
    // Work that ended waits for its line; the output of those that go on has room.
    play.at((1..=7).map(|number| Event::WorkEnded { number }).collect());
    play.at(vec![log(&steps[7], "1\n2\n3\n"), log(&steps[8], "4\n")]);
    assert_snapshot!(play.shown(), @r###"
    > 8/9 RUN job 8                                        2.0s
       3
    > 9/9 RUN job 9                                        2.0s
       4
    4.0s  7/9 steps done, 0 cached, 2 running, 0 to do
    "###);
}

#[test]
fn transfers_show_bytes_and_rate() {
    let mut play = Play::new(80, 12);
    play.at(vec![
        Event::Pull { text: "12: Pulling from library/debian".into() },
        part("pull debian:12", "3f2a9c1d8e07", 0, 40_000_000),
        part("pull debian:12", "aaaaaaaaaaaa", 0, 1_000),
    ]);
    play.at(vec![
        part("pull debian:12", "3f2a9c1d8e07", 10_000_000, 40_000_000),
        part("pull debian:12", "aaaaaaaaaaaa", 1_000, 1_000),
    ]);
    assert_snapshot!(play.shown(), @r###"
    12: Pulling from library/debian
    > pull debian:12                                         10.0MB/40.0MB 10.0MB/s
       3f2a9c1d8e07 [=====>              ]                   10.0MB/40.0MB 10.0MB/s
    2.0s
    "###);
    play.at(vec![Event::TransferEnded { of: "pull debian:12".into() }]);
    play.at(vec![part("push a", "bbbbbbbbbbbb", 5, 0)]);
    assert_snapshot!(play.shown(), @r###"
    12: Pulling from library/debian
    > push a                                                                     5B
    4.0s
    "###);
}

#[test]
fn lines_wrapped_by_a_smaller_window_are_drawn_over() {
    for (columns, rows) in [(33, 24), (20, 9), (100, 24), (72, 10)] {
        let mut play = Play::new(72, 24);
        busy(&mut play);
        play.resize(columns, rows);
        play.at(vec![]).end();
        let shown = play.shown();
        // Of what scrolled off the screen nobody can take anything back.
        let changeable = if rows > 9 { shown.clone() } else { play.terminal.screen().concat() };
        assert!(!changeable.contains("running") && !changeable.contains('>'), "{columns}x{rows}:\n{shown}");
        assert!(shown.contains("[build] 1/9 FROM debian:12 AS build"), "{columns}x{rows}:\n{shown}");
    }
}

#[test]
fn warnings_and_notes_stay_and_are_said_once() {
    let mut play = Play::new(60, 10);
    let finding = || Event::Finding {
        file: "Dockerfile".into(),
        source: "FROM a\nfoo\n".into(),
        diagnostic: Diagnostic::warning("code", crate::report::Span::new(7, 10), "odd"),
    };
    let note = || Event::Note { text: "note \x1b[2J".into() };
    play.at(vec![note(), finding(), note(), finding()]).end();
    assert_snapshot!(play.shown(), @r###"
    note
    warning[code]: odd
     --> Dockerfile:2:1
      |
    2 | foo
      | ^^^
    "###);
}

#[test]
fn the_log_is_named_where_output_is_left_out() {
    let mut play = Play::new(60, 10);
    let run = step(1, None, "RUN seq");
    play.at(vec![
        Event::LogFile { path: "/store/builds/1/log".into() },
        plan(std::slice::from_ref(&run)),
        Event::StepStarted { step: run.clone() },
    ]);
    play.at((0..400_000).map(|n| log(&run, &format!("{n}\n"))).collect());
    play.at(vec![Event::StepFailed { step: run }]).end();
    let lines = play.terminal.lines();
    let left_out: usize = lines[1].trim_start_matches('(').split(' ').next().unwrap().parse().unwrap();
    assert!(lines[1].ends_with("lines before are in the log: /store/builds/1/log)"), "{}", lines[1]);
    assert_eq!(lines[2], left_out.to_string());
    assert_eq!(lines.last().unwrap(), "399999");
}

#[test]
fn counts_are_of_layers() {
    let mut play = Play::new(60, 10);
    let steps =
        [step(1, None, "FROM a"), step(2, None, "ENV A=1"), step(3, None, "RUN x"), step(4, None, "RUN y")];
    let cached = |step: &Step| Event::StepCached { step: step.clone(), from: None };
    play.at(vec![plan(&steps), done(&steps[0]), cached(&steps[1]), done(&steps[1])]);
    play.at(vec![cached(&steps[2]), done(&steps[2]), done(&steps[3])]);
    let Counts { steps, done, run, cached, .. } = play.model.counts();
    assert_eq!((steps, done, run, cached), (4, 4, 1, 1));
}

/// A screen that is gone, or whose bytes the test reads.
struct Fake(Arc<Mutex<Vec<u8>>>, bool);

impl Screen for Fake {
    fn size(&self) -> Option<Size> {
        None
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        locked(&self.0).extend_from_slice(bytes);
        if self.1 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

#[test]
fn a_view_that_ends_has_shown_all_and_left_nothing() {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let view = View::new(Box::new(Fake(bytes.clone(), false)), Style { colour: true, signs: Signs::Ascii });
    let run = step(1, None, "RUN x");
    view.event(plan(std::slice::from_ref(&run)));
    view.event(Event::StepStarted { step: run.clone() });
    view.event(log(&run, "out\n"));
    view.event(done(&run));
    let (counts, _) = view.end();
    view.end();
    drop(view);
    assert_eq!(counts.run, 1);
    let mut terminal = Terminal::new(80, 24);
    terminal.write(&locked(&bytes));
    let lines = terminal.lines();
    assert!(lines.len() == 1 && lines[0].starts_with("+ 1/9 RUN x") && terminal.colours() > 0, "{lines:?}");
}

#[test]
fn a_view_that_is_paused_leaves_the_terminal_to_others() {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let view = View::new(Box::new(Fake(bytes.clone(), false)), PLAIN);
    let (first, run) = (step(1, None, "FROM base"), step(2, None, "RUN x"));
    view.event(plan(&[first.clone(), run.clone()]));
    view.event(done(&first));
    view.event(Event::WorkStarted { number: 2 });
    view.event(Event::StepStarted { step: run.clone() });
    view.shared.draw(Duration::ZERO);
    view.pause();
    view.event(log(&run, "late\n"));
    locked(&bytes).extend_from_slice(b"of others\r\n");
    view.resume();
    view.event(done(&run));
    view.end();
    let mut terminal = Terminal::new(80, 24);
    terminal.write(&locked(&bytes));
    let lines: Vec<String> = terminal.lines().iter().map(|line| line.chars().take(11).collect()).collect();
    assert_eq!(lines, ["✓ 1/9 FROM ", "of others", "✓ 2/9 RUN x"]);
}

#[test]
fn a_terminal_that_is_gone_stops_nothing() {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let view = View::new(Box::new(Fake(bytes, true)), PLAIN);
    let run = step(1, None, "RUN x");
    view.event(Event::StepStarted { step: run.clone() });
    view.event(done(&run));
    view.end();
}

/// A screen that panics at its second frame.
struct Broken(usize);

impl Screen for Broken {
    fn size(&self) -> Option<Size> {
        Some(Size { columns: 40, rows: 10 })
    }

    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        self.0 += 1;
        assert!(self.0 < 2, "this panic is meant");
        Ok(())
    }
}

#[test]
fn a_mistake_in_a_drawing_costs_the_drawing_alone() {
    let view = View::new(Box::new(Broken(0)), PLAIN);
    let steps = [step(1, None, "FROM a"), step(2, None, "RUN x")];
    view.event(plan(&steps));
    view.shared.draw_or_not(Duration::from_millis(1));
    for step in &steps {
        view.event(Event::WorkStarted { number: step.number });
        view.shared.draw_or_not(Duration::from_millis(2));
        view.event(done(step));
    }
    view.event(Event::Note { text: "still here".into() });
    let (counts, _) = view.end();
    assert_eq!((counts.steps, counts.done), (2, 2));
    assert!(locked(&view.shared.canvas).gone);
}

#[test]
fn silence_and_waiting_stand_at_the_step() {
    let mut play = Play::new(60, 12);
    let run = step(2, None, "RUN make");
    let what = "for the rbuild process 7, which does the same step".to_owned();
    play.at(vec![
        plan(&[step(1, None, "FROM a"), run.clone()]),
        Event::StepWaits { step: run.clone(), what: what.clone() },
    ]);
    let lines = play.terminal.lines();
    assert!(lines.contains(&format!("   waits {what}")), "{lines:?}");
    play.at(vec![Event::WorkStarted { number: 2 }]);
    assert!(!play.shown().contains("waits"), "{}", play.shown());
    let (silent, running) = (Duration::from_secs(60), Duration::from_secs(60));
    play.now += silent;
    play.at(vec![Event::StepSilent { step: run.clone(), silent, running }]);
    assert!(
        play.shown().contains("> 2/9 RUN make                   no output for 1m00s  1m01s"),
        "{}",
        play.shown()
    );
    play.at(Vec::new());
    assert!(play.shown().contains("no output for 1m01s  1m02s"), "{}", play.shown());
    play.at(vec![log(&run, "word\n")]);
    assert!(!play.shown().contains("no output for"), "{}", play.shown());
}

#[test]
fn why_a_step_is_not_cached_is_below_it() {
    let show = |columns: usize| {
        let mut play = Play::new(columns, 12);
        let run = step(2, None, "RUN make");
        play.at(vec![
            plan(std::slice::from_ref(&run)),
            Event::StepStarted { step: run.clone() },
            Event::StepMissed { step: run.clone(), why: "src/\x1b[2Jmain.c changed (+12 more)".into() },
            log(&run, "cc main.c\n"),
        ]);
        let live = play.shown();
        play.at(vec![done(&run)]).end();
        (live, play.shown())
    };
    let (live, kept) = show(60);
    assert_snapshot!(live, @r"
    > 2/9 RUN make                                         0.0s
       not cached: src/main.c changed (+12 more)
       cc main.c
    1.0s  0/1 steps done, 0 cached, 1 running, 0 to do
    ");
    assert_snapshot!(kept, @r"
    ✓ 2/9 RUN make                                         1.0s
       not cached: src/main.c changed (+12 more)
    ");
    assert_snapshot!(show(30).1, @r"
    ✓ 2/9 RUN make           1.0s
     src/main.c changed (+12 mor…
    ");
}
