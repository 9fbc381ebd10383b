//! Why steps of a fake world are not cached, and what a survey says of them before.

use std::sync::Mutex;

use super::fake::*;
use super::*;
use crate::image::{Digest, OpDigest};
use crate::plan::graph::{Graph, Op, VertexId};
use crate::report::{Event, Reporter};

/// Remembers a build as its record does.
#[derive(Default)]
struct Book(Mutex<Vec<Known>>);

/// A vertex, what it does, its result, how it ended.
type Known = (usize, Option<String>, Option<String>, EarlierEnd);

impl Reporter for Book {
    fn event(&self, event: Event) {
        let mut book = self.0.lock().unwrap();
        match event {
            Event::VertexKeyed { vertex, op, key } => {
                book.retain(|known| known.0 != vertex);
                book.push((vertex, op, key, EarlierEnd::Done));
            }
            Event::VertexFailed { vertex } => {
                book.iter_mut().filter(|known| known.0 == vertex).for_each(|k| k.3 = EarlierEnd::Failed);
            }
            _ => {}
        }
    }
}

fn options(no_cache: bool) -> Options {
    Options { jobs: 1, digest_jobs: 1, share: false, no_cache }
}

/// Builds, and lets the next build know of it.
fn build(graph: &Graph, fake: &Fake) -> Option<Solved> {
    let book = Book::default();
    let solved = solve(graph, fake, &*fake.world, &options(true), &book, &Cancel::new()).ok();
    let mut earlier = fake.world.earlier.lock().unwrap();
    for (vertex, op, key, end) in book.0.into_inner().unwrap() {
        let digest = |hex: Option<String>| hex.map(|hex| Digest::from_hex(&hex).unwrap());
        let text = graph.vertices[vertex].text.clone();
        let one = Earlier { build: "b".into(), text, op: digest(op).map(OpDigest), key: digest(key), end };
        earlier.entry(vertex).or_default().insert(0, one);
    }
    solved
}

fn why(solved: &Solved, id: VertexId) -> &str {
    solved.outcome(id).why.as_deref().unwrap_or("cached")
}

/// Tells of each vertex what a survey says.
fn survey(graph: &Graph, fake: &Fake) -> Vec<String> {
    let verdicts = super::survey(graph, fake, &*fake.world, true, &Cancel::new());
    let text = |verdict: Verdict| match verdict {
        Verdict::Here => "here".to_owned(),
        Verdict::Fetched => "fetched".to_owned(),
        Verdict::Cached => "cached".to_owned(),
        Verdict::Runs(explanation) => explanation.line,
        Verdict::Unknown { after, explanation } => {
            let after: Vec<String> = after.iter().map(|id| id.0.to_string()).collect();
            format!("after {}: {}", after.join(","), explanation.line)
        }
    };
    verdicts.into_iter().map(text).collect()
}

/// FROM, context, COPY main.c, RUN with a variable, RUN.
fn project(image: &str, env: &str, command: &str) -> (Graph, [VertexId; 3]) {
    let mut draw = Draw::new();
    let (base, context) = (draw.image(image), draw.context());
    let copy = draw.copy(base, context, "main.c", "/main.c");
    let make = draw.run_with(copy, "hash a.out", &[env], &[]);
    let last = draw.run(make, command);
    for (at, vertex) in draw.0.vertices.iter_mut().enumerate() {
        vertex.line = at + 1;
    }
    (draw.0, [copy, make, last])
}

fn fake_with(content: &str) -> Fake {
    let fake = Fake::default();
    edit(&fake, content);
    fake
}

fn edit(fake: &Fake, content: &str) {
    fake.context.lock().unwrap().insert("main.c".into(), content.into());
}

#[test]
fn every_edit_has_its_reason() {
    let check = |image: &str, env: &str, command: &str, content: &str, expect: [&str; 3]| {
        let fake = fake_with("1");
        let (graph, ids) = project("base", "V=1", "put f 1");
        let first = build(&graph, &fake).unwrap();
        assert!(ids.iter().all(|id| why(&first, *id) == "never built here"));
        edit(&fake, content);
        let (graph, ids) = project(image, env, command);
        let before = survey(&graph, &fake);
        let solved = build(&graph, &fake).unwrap();
        assert_eq!(ids.map(|id| why(&solved, id).to_owned()), expect);
        // What was certain came true.
        for (id, expect) in ids.iter().zip(expect) {
            let said = &before[id.0];
            assert!(said == expect || said.starts_with("after "), "{said}, but {expect}");
        }
    };
    let below = |line: usize| format!("an earlier step changed: line {line}");
    check("base", "V=1", "put f 1", "1", ["cached"; 3]);
    check("base", "V=1", "put f 1", "2", ["main.c changed", &below(3), &below(3)]);
    check("base", "V=2", "put f 1", "1", ["cached", "ARG V: 1 -> 2", &below(4)]);
    check("base", "V=1", "put f 2", "1", ["cached", "cached", "command changed: put f 1 -> put f 2"]);
    let image = "base image changed: base -> other";
    check("other", "V=1", "put f 1", "1", [image, image, image]);
    let both = format!("ARG V: 1 -> 2; {}", below(3));
    check("base", "V=2", "put f 1", "2", ["main.c changed", &both, &below(3)]);
}

#[test]
fn an_image_of_the_same_name_is_another() {
    let fake = fake_with("1");
    let (graph, ids) = project("base", "V=1", "put f 1");
    build(&graph, &fake).unwrap();
    let (mut graph, _) = project("other", "V=1", "put f 1");
    graph.vertices[0].text = "FROM base".into();
    if let Op::Image(_) = &graph.vertices[0].op {
        fake.world.earlier.lock().unwrap().get_mut(&0).unwrap()[0].text = "FROM $BASE".into();
    }
    let solved = build(&graph, &fake).unwrap();
    assert_eq!(why(&solved, ids[0]), "base image changed (other)");
}

#[test]
fn the_last_build_counts_though_it_was_cached() {
    let fake = fake_with("1");
    for env in ["V=1", "V=2", "V=1"] {
        build(&project("base", env, "put f 1").0, &fake).unwrap();
    }
    let (graph, ids) = project("base", "V=3", "put f 1");
    assert_eq!(why(&build(&graph, &fake).unwrap(), ids[1]), "ARG V: 1 -> 3");
}

#[test]
fn of_several_builds_the_nearest_is_compared() {
    let fake = fake_with("1");
    for (env, content) in [("V=1", "1"), ("V=2", "2")] {
        edit(&fake, content);
        build(&project("base", env, "put f 1").0, &fake).unwrap();
    }
    // Back to the first, less one line: what the second build had besides is not the reason.
    edit(&fake, "1");
    let (graph, ids) = project("base", "V=1", "put f 2");
    let solved = build(&graph, &fake).unwrap();
    assert_eq!(why(&solved, ids[2]), "command changed: put f 1 -> put f 2");
}

#[test]
fn what_failed_is_said_to_have_failed() {
    let fake = fake_with("1");
    let (graph, ids) = project("base", "V=1", "fail");
    assert!(build(&graph, &fake).is_none());
    assert_eq!(survey(&graph, &fake)[ids[2].0], "it failed in the last build");
    let (graph, ids) = project("base", "V=1", "put f 1");
    let solved = build(&graph, &fake).unwrap();
    // Of what failed there is no record, but what it was is known.
    let text = "command changed: ";
    assert!(fake.world.earlier.lock().unwrap()[&ids[2].0].len() == 2);
    assert!(why(&solved, ids[2]).starts_with(text), "{}", why(&solved, ids[2]));
}

#[test]
fn what_was_removed_is_said_to_be_gone() {
    let fake = fake_with("1");
    let (graph, ids) = project("base", "V=1", "put f 1");
    build(&graph, &fake).unwrap();
    fake.world.records.lock().unwrap().retain(|_, record| !record.text.starts_with("COPY"));
    let solved = build(&graph, &fake).unwrap();
    assert_eq!(why(&solved, ids[0]), "its result is not in the cache any more");
    assert_eq!(why(&solved, ids[1]), "cached", "equal content");
}

#[test]
fn without_a_build_the_same_operation_on_other_files_is_compared() {
    let fake = fake_with("1");
    let (graph, ids) = project("base", "V=1", "put f 1");
    build(&graph, &fake).unwrap();
    fake.world.earlier.lock().unwrap().clear();
    edit(&fake, "2");
    assert_eq!(why(&build(&graph, &fake).unwrap(), ids[0]), "main.c changed");
    // On another instruction it is another step.
    fake.world.earlier.lock().unwrap().clear();
    let (graph, ids) = project("other", "V=1", "put f 1");
    assert_eq!(why(&build(&graph, &fake).unwrap(), ids[0]), "never built here");
}

#[test]
fn options_that_leave_the_cache_aside_are_named() {
    let fake = fake_with("1");
    let (mut graph, ids) = project("base", "V=1", "put f 1");
    graph.vertices[ids[1].0].ignore_cache = true;
    let say = |no_cache: bool| {
        let verdicts = super::survey(&graph, &fake, &*fake.world, no_cache, &Cancel::new());
        match verdicts[ids[1].0].clone() {
            Verdict::Runs(explanation) => explanation.line,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((say(true), say(false)), ("--no-cache".to_owned(), "--no-cache-filter=0".to_owned()));
}

#[test]
fn a_survey_tells_what_waits_for_what() {
    let fake = fake_with("1");
    let (graph, ids) = project("base", "V=1", "put f 1");
    let never = "never built here";
    assert_eq!(survey(&graph, &fake), ["here", "here", never, never, never]);
    build(&graph, &fake).unwrap();
    assert_eq!(survey(&graph, &fake), ["here", "here", "cached", "cached", "cached"]);
    edit(&fake, "2");
    let executed = fake.take_executed();
    assert_eq!(survey(&graph, &fake), ["here", "here", "main.c changed", "after 2: ", "after 2: "]);
    assert_eq!(fake.take_executed().len(), 0, "{executed:?} before");
    // What its own line says is known all the same.
    let (graph, _) = project("base", "V=2", "put f 1");
    let said = survey(&graph, &fake);
    assert_eq!(said[ids[1].0], "ARG V: 1 -> 2; an earlier step changed: line 3");
    // An image that is not here: nothing on it is known.
    let (graph, _) = project("broken", "V=1", "put f 1");
    assert_eq!(survey(&graph, &fake), ["fetched", "here", "after 0: ", "after 0: ", "after 0: "]);
}
