//! The engine against a fake world. Waiting is by barriers and channels, never by time: the
//! limits below are only there so that a broken engine fails rather than hangs.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::fake::*;
use super::*;
use crate::image::{ChainDigest, LayerDigest};
use crate::plan::graph::{Graph, Op, VertexId};
use crate::report::{Event, Silent};

const LIMIT: Duration = Duration::from_secs(60);

fn options() -> Options {
    Options { jobs: 4, digest_jobs: 2, share: false, no_cache: true }
}

fn run(graph: &Graph, fake: &Fake) -> Result<Solved, SolveError<FakeError>> {
    solve(graph, fake, &*fake.world, &options(), &Silent, &Cancel::new())
}

fn events(graph: &Graph, fake: &Fake) -> Vec<String> {
    let heard = Heard::default();
    solve(graph, fake, &*fake.world, &options(), &heard, &Cancel::new()).unwrap();
    heard.events.into_inner().unwrap()
}

/// The files of the state after a vertex.
fn files(solved: &Solved, fake: &Fake, id: VertexId) -> Files {
    fake.world.merged(&solved.layers(id))
}

/// A signal that one thread gives and another waits for.
fn signal() -> (impl Fn() + Clone + Send + Sync + 'static, impl Fn() + Send + Sync + 'static) {
    let (sender, receiver): (Sender<()>, Receiver<()>) = channel();
    let (sender, receiver) = (Arc::new(Mutex::new(sender)), Mutex::new(receiver));
    let give = move || {
        let _ = sender.lock().unwrap().send(());
    };
    let wait = move || receiver.lock().unwrap().recv_timeout(LIMIT).expect("the signal never came");
    (give, wait)
}

/// FROM, context, two stages, a COPY between them, a WORKDIR.
fn project() -> (Graph, VertexId) {
    let mut draw = Draw::new();
    let (base, context) = (draw.image("base:2"), draw.context());
    let tools = draw.run(base, "put tools gcc");
    let source = draw.copy(tools, context, "main.c", "/main.c");
    let build = draw.run_with(source, "hash a.out", &["CC=gcc"], &[context]);
    let workdir = draw.workdir(None, "/app");
    let same = draw.workdir(workdir, "/app");
    let last = draw.copy(same, build, "a.out", "/app/a.out");
    (draw.0, last)
}

fn project_fake(world: &Arc<World>) -> Fake {
    let fake = Fake::new(world);
    fake.context.lock().unwrap().insert("main.c".into(), "int main;".into());
    fake
}

#[test]
fn a_second_solve_executes_nothing_and_starts_no_thread() {
    let world = Arc::default();
    let fake = project_fake(&world);
    let (graph, last) = project();
    let first = run(&graph, &fake).unwrap();
    assert_eq!(fake.take_executed().len(), 6);
    assert_eq!(first.layers(last).len(), 2, "the second WORKDIR changed nothing");
    assert!(first.outcome(last).why.is_some() && !first.outcome(last).cached);
    let written = world.publishes.load(SeqCst);
    assert_eq!(written, 6);

    let again = project_fake(&world);
    let second = run(&graph, &again).unwrap();
    assert_eq!(again.take_executed(), [""; 0]);
    assert_eq!(*again.threads.lock().unwrap(), [thread::current().id()].into());
    assert_eq!(world.publishes.load(SeqCst), written);
    for (v, outcome) in second.outcomes.iter().enumerate() {
        let before = &first.outcomes[v];
        assert!(outcome.cached && outcome.why.is_none());
        assert_eq!(
            (&outcome.own, outcome.chain, outcome.created_unix_ms),
            (&before.own, before.chain, before.created_unix_ms)
        );
    }
}

#[test]
fn works_through_trait_objects() {
    let world = Arc::default();
    let fake = project_fake(&world);
    let (graph, last) = project();
    let (worker, cache): (&dyn Worker<Error = FakeError>, &dyn CacheSource) = (&fake, &*world);
    let solved = solve(&graph, worker, cache, &options(), &Silent, &Cancel::new()).unwrap();
    assert_eq!(solved.layers(last).len(), 2);
    assert_eq!(probe(&graph, worker, cache, &Cancel::new())[last.0], Some(true));
}

#[test]
fn independent_vertices_run_at_once_but_no_more_than_jobs() {
    let mut draw = Draw::new();
    let base = draw.image("base");
    let mut fake = Fake::default();
    let barrier = Arc::new(Barrier::new(2));
    for i in 0..6 {
        let command = format!("put f {i}");
        draw.run(base, &command);
        let barrier = barrier.clone();
        fake.on_execute(&format!("RUN {command}"), move |_| {
            barrier.wait();
        });
    }
    let options = Options { jobs: 2, digest_jobs: 1, share: false, no_cache: true };
    solve(&draw.0, &fake, &*fake.world, &options, &Silent, &Cancel::new()).unwrap();
    assert_eq!(fake.take_executed().len(), 6);
    assert_eq!(fake.peak.load(SeqCst), 2);
}

#[test]
fn equal_content_keeps_the_older_layer_and_what_follows_cached() {
    let world = Arc::default();
    let fake = Fake::new(&world);
    let draw = |env: &str| {
        let mut draw = Draw::new();
        let base = draw.image("base");
        let first = draw.run_with(base, "put f same", &[env], &[]);
        let second = draw.run(first, "hash g");
        (draw.0, first, second)
    };
    let (graph, first, second) = draw("V=1");
    let before = run(&graph, &fake).unwrap();
    fake.take_executed();

    let (graph, ..) = draw("V=2");
    let after = run(&graph, &fake).unwrap();
    assert_eq!(fake.take_executed(), ["RUN put f same"]);
    assert_eq!(after.layers(second), before.layers(second));
    let (old, new) = (before.outcome(first), after.outcome(first));
    assert_eq!(new.created_unix_ms, old.created_unix_ms);
    assert_eq!(new.why.as_deref(), Some("never built here"));
    assert!(!new.cached && after.outcome(second).cached);
    assert_eq!(world.discarded.lock().unwrap().len(), 1);

    run(&graph, &fake).unwrap();
    assert_eq!(fake.take_executed(), [""; 0], "the new key is recorded too");
}

#[test]
fn other_content_runs_the_child_even_where_it_has_a_record() {
    let world = Arc::default();
    let fake = Fake::new(&world);
    let mut draw = Draw::new();
    let base = draw.image("base");
    let first = draw.run(base, "now f");
    let second = draw.run(first, "hash g");
    *fake.now.lock().unwrap() = "1".into();
    let before = run(&draw.0, &fake).unwrap();
    fake.take_executed();
    *fake.now.lock().unwrap() = "2".into();
    draw.ignore_cache(first);
    let after = run(&draw.0, &fake).unwrap();
    assert_eq!(fake.take_executed(), ["RUN hash g", "RUN now f"]);
    assert_eq!(after.outcome(second).why.as_deref(), Some("an earlier step changed: line 1"));
    assert_ne!(files(&before, &fake, second), files(&after, &fake, second));
}

#[test]
fn a_layer_is_not_replaced_by_one_older_than_what_lies_beneath() {
    let world = Arc::default();
    let fake = Fake::new(&world);
    let mut draw = Draw::new();
    let base = draw.image("base");
    let first = draw.run(base, "now f");
    let second = draw.run(first, "put g same");
    *fake.now.lock().unwrap() = "1".into();
    let before = run(&draw.0, &fake).unwrap();
    *fake.now.lock().unwrap() = "2".into();
    draw.ignore_cache(first);
    let after = run(&draw.0, &fake).unwrap();
    assert_ne!(after.outcome(second).own, before.outcome(second).own);
    assert!(after.outcome(second).created_unix_ms > after.outcome(first).created_unix_ms);
    // Neither does a layer come to lie on itself.
    let mut draw = Draw::new();
    let base = draw.image("base");
    let one = draw.run(base, "put same 1");
    let two = draw.run_with(one, "put same 1", &["A=1"], &[]);
    let solved = run(&draw.0, &fake).unwrap();
    assert_ne!(solved.outcome(one).own, solved.outcome(two).own);
}

#[test]
fn a_layer_is_not_replaced_by_one_older_than_the_image_beneath() {
    let world = Arc::default();
    let fake = Fake::new(&world);
    let draw = |image: &str| {
        let mut draw = Draw::new();
        let base = draw.image(image);
        let step = draw.run(base, "put obj same");
        (draw.0, step)
    };
    let (graph, step) = draw("old");
    let before = run(&graph, &fake).unwrap();
    // An image of the same age: the layer on it is the one there was.
    let (graph, _) = draw("other");
    assert_eq!(run(&graph, &fake).unwrap().outcome(step).own, before.outcome(step).own);
    // What a newer image holds must not seem newer than what was made from it.
    *fake.image_created.lock().unwrap() = world.tick();
    let (graph, _) = draw("newer");
    let after = run(&graph, &fake).unwrap();
    assert_ne!(after.outcome(step).own, before.outcome(step).own);
    assert!(after.outcome(step).created_unix_ms > before.outcome(step).created_unix_ms);
}

#[test]
fn files_not_selected_do_not_matter() {
    let world = Arc::default();
    let fake = project_fake(&world);
    let mut draw = Draw::new();
    let (base, context) = (draw.image("base"), draw.context());
    let built = draw.run_with(base, "put a.out 1", &[], &[context]);
    let copy = draw.copy(None, built, "a.out", "/a.out");
    run(&draw.0, &fake).unwrap();
    fake.take_executed();
    fake.context.lock().unwrap().insert("README".into(), "changed".into());
    let solved = run(&draw.0, &fake).unwrap();
    assert_eq!(fake.take_executed(), ["RUN put a.out 1"]);
    assert_eq!(solved.outcome(built).why.as_deref(), Some("README added"));
    assert!(solved.outcome(copy).cached);
}

#[test]
fn a_child_without_a_record_starts_before_its_base_is_digested() {
    let mut draw = Draw::new();
    let base = draw.image("base");
    let first = draw.run(base, "put f 1");
    let second = draw.run(first, "hash g");
    let mut fake = Fake::default();
    let (started, wait) = signal();
    fake.on_digest("RUN put f 1", move |_| wait());
    fake.on_execute("RUN hash g", move |_| started());
    let solved = run(&draw.0, &fake).unwrap();
    assert_eq!(files(&solved, &fake, second).len(), 3);
    run(&draw.0, &fake).unwrap();
    assert_eq!(fake.take_executed().len(), 2, "both were recorded");
}

#[test]
fn a_child_runs_on_the_new_layer_while_the_older_one_is_kept() {
    let world: Arc<World> = Arc::default();
    let mut draw = Draw::new();
    let base = draw.image("base");
    let first = draw.run(base, "put f 1");
    let before = run(&draw.0, &Fake::new(&world)).unwrap();

    let second = draw.run(first, "hash g");
    draw.ignore_cache(first);
    let mut fake = Fake::new(&world);
    let (started, child_started) = signal();
    let (settled, parent_settled) = signal();
    fake.on_digest("RUN put f 1", move |_| child_started());
    let looked = world.clone();
    fake.on_execute("RUN hash g", move |_| {
        started();
        parent_settled();
        // Replaced, but still read here.
        assert!(looked.discarded.lock().unwrap().is_empty());
    });
    let told = move |event: &Event| {
        if matches!(event, Event::VertexFinished { vertex: 1, .. }) {
            settled();
        }
    };
    let heard = Heard { listen: Some(Box::new(told)), ..Heard::default() };
    let solved = solve(&draw.0, &fake, &*world, &options(), &heard, &Cancel::new()).unwrap();
    assert_eq!(solved.outcome(first).own, before.outcome(first).own);
    assert_eq!(world.discarded.lock().unwrap().len(), 1);
    assert_eq!(files(&solved, &fake, second).len(), 3);
}

#[test]
fn ignoring_the_cache_runs_everything_and_writes_the_records_anew() {
    let world = Arc::default();
    let fake = project_fake(&world);
    let (mut graph, last) = project();
    let before = run(&graph, &fake).unwrap();
    assert_eq!(fake.take_executed().len(), 6);
    graph.vertices.iter_mut().for_each(|vertex| vertex.ignore_cache = true);
    let after = run(&graph, &fake).unwrap();
    assert_eq!(fake.take_executed().len(), 6);
    assert_eq!(after.layers(last), before.layers(last), "equal content keeps the older layers");
    assert_eq!(after.outcome(last).why.as_deref(), Some("--no-cache"));
    graph.vertices.iter_mut().for_each(|vertex| vertex.ignore_cache = false);
    run(&graph, &fake).unwrap();
    assert_eq!(fake.take_executed(), [""; 0]);

    let mut draw = Draw::new();
    let now = draw.run(None, "now f");
    run(&draw.0, &fake).unwrap();
    *fake.now.lock().unwrap() = "later".into();
    draw.ignore_cache(now);
    let rewritten = run(&draw.0, &fake).unwrap();
    draw.0.vertices[now.0].ignore_cache = false;
    assert_eq!(run(&draw.0, &fake).unwrap().layers(now), rewritten.layers(now));
}

#[test]
fn the_first_error_stops_the_others_and_what_is_done_stays() {
    let world: Arc<World> = Arc::default();
    let mut draw = Draw::new();
    let base = draw.image("base");
    let done = draw.run(base, "put done 1");
    let fails = draw.run(done, "fail");
    let never = draw.run(fails, "put never 1");
    draw.run(base, "put endless 1");
    let mut fake = Fake::new(&world);
    let (started, endless_started) = signal();
    fake.on_execute("RUN put endless 1", move |cancel| {
        started();
        let (told, wait) = signal();
        let _hook = cancel.on_cancel(told);
        wait();
    });
    fake.on_execute("RUN fail", move |_| endless_started());
    let heard = Heard::default();
    let error = solve(&draw.0, &fake, &*world, &options(), &heard, &Cancel::new()).unwrap_err();
    assert!(
        matches!(&error, SolveError::Vertex { vertex, error } if *vertex == fails && error.0 == "failed"),
        "{error:?}"
    );
    let events = heard.events.into_inner().unwrap();
    assert!(events.contains(&format!("{} finished", done.0)), "{events:?}");
    assert_eq!(events.iter().filter(|event| event.ends_with("failed")).count(), 1, "{events:?}");
    assert!(!fake.take_executed().contains(&draw.0.vertex(never).text));
    let again = Fake::new(&world);
    run(&draw.0, &again).unwrap_err();
    assert!(!again.take_executed().contains(&"RUN put done 1".to_owned()), "its record was published");
}

#[test]
fn a_record_that_cannot_be_written_costs_nobody_a_layer() {
    let world: Arc<World> = Arc::default();
    let fake = Fake::new(&world);
    let draw = |content: &str, env: &str| {
        let mut draw = Draw::new();
        let base = draw.image("base");
        draw.run_with(base, &format!("put f {content}"), &[env], &[]);
        draw.0
    };
    run(&draw("same", "V=1"), &fake).unwrap();
    world.full.store(true, SeqCst);
    // Of equal content: the older layer, which others use, was just put in the new one's place.
    run(&draw("same", "V=2"), &fake).unwrap_err();
    // A new one: another build may have found it by its content already.
    run(&draw("other", "V=1"), &fake).unwrap_err();
    let snapshots = world.snapshots.lock().unwrap();
    let kept = snapshots.values().filter(|snapshot| snapshot.kept && snapshot.kind == "run");
    assert_eq!(kept.count(), 2);
    assert_eq!(world.discarded.lock().unwrap().len(), 1, "the one that the older took the place of");
}

#[test]
fn errors_of_image_and_thread_bugs_come_through() {
    let mut draw = Draw::new();
    draw.image("broken");
    let error = run(&draw.0, &Fake::default()).unwrap_err();
    assert_eq!(error.to_string(), "no such image");

    let mut draw = Draw::new();
    draw.run(None, "put f 1");
    let mut fake = Fake::default();
    fake.on_execute("RUN put f 1", |_| panic!("a bug of the worker's"));
    let fake = std::panic::AssertUnwindSafe(fake);
    let panic = std::panic::catch_unwind(|| drop(run(&draw.0, &fake))).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"a bug of the worker's"));
}

#[test]
fn cancelling_stops_what_runs_and_leaves_no_layer_behind() {
    let world: Arc<World> = Arc::default();
    let mut draw = Draw::new();
    let base = draw.image("base");
    let first = draw.run(base, "put f 1");
    let second = draw.run(first, "put g 1");
    draw.run(second, "put never 1");
    let cancel = Cancel::new();
    let mut fake = Fake::new(&world);
    let (started, second_started) = signal();
    // Executed, but not yet digested, when all ends.
    fake.on_digest("RUN put f 1", move |cancel| {
        second_started();
        cancel.cancel();
    });
    fake.on_execute("RUN put g 1", move |cancel| {
        let (told, wait) = signal();
        let _hook = cancel.on_cancel(told);
        started();
        wait();
    });
    let error = solve(&draw.0, &fake, &*world, &options(), &Silent, &cancel).unwrap_err();
    assert!(matches!(error, SolveError::Cancelled), "{error:?}");
    assert_eq!(fake.take_executed(), ["RUN put f 1", "RUN put g 1"]);
    let left = world.snapshots.lock().unwrap().values().filter(|s| s.kind == "run").count();
    assert_eq!(left, recorded(&world).len());
    // A flag that is up before it starts.
    let error = solve(&draw.0, &fake, &*world, &options(), &Silent, &cancel).unwrap_err();
    assert!(matches!(error, SolveError::Cancelled));
    assert_eq!(fake.take_executed(), [""; 0]);
}

/// One build is in the step (or only digests its layer) while another comes to want it.
fn check_shared(while_digesting: bool) {
    let world: Arc<World> = Arc::default();
    let mut draw = Draw::new();
    let base = draw.image("base");
    let step = draw.run(base, "put f 1");
    let (contended, other_waits) = signal();
    *world.on_contended.lock().unwrap() = Some(Box::new(contended));
    let (started, first_started) = signal();
    let hook = move |_: &Cancel| {
        started();
        other_waits();
    };
    let mut first = Fake::new(&world);
    match while_digesting {
        true => first.on_digest("RUN put f 1", hook),
        false => first.on_execute("RUN put f 1", hook),
    }
    let second = Fake::new(&world);
    let (a, b) = thread::scope(|scope| {
        let a = scope.spawn(|| run(&draw.0, &first).unwrap());
        first_started();
        let b = run(&draw.0, &second).unwrap();
        (a.join().unwrap(), b)
    });
    assert_eq!(first.take_executed(), ["RUN put f 1"]);
    assert_eq!(second.take_executed(), [""; 0]);
    assert_eq!(a.layers(step), b.layers(step));
    assert!(!a.outcome(step).cached && b.outcome(step).cached);
}

#[test]
fn two_solves_at_once_share_a_step() {
    check_shared(false);
    check_shared(true);
}

#[test]
fn who_had_to_wait_looks_again_even_if_that_takes_its_bases_digest() {
    let world: Arc<World> = Arc::default();
    let mut draw = Draw::new();
    let base = draw.image("base");
    let first = draw.run(base, "put f 1");
    run(&draw.0, &Fake::new(&world)).unwrap();
    let second = draw.run(first, "hash g");
    let usual = draw.0.clone();
    draw.ignore_cache(first);

    // Another build is in the second step before this one has digested what it made of the first.
    let (contended, it_waits) = signal();
    *world.on_contended.lock().unwrap() = Some(Box::new(contended));
    let (in_step, other_is_in) = signal();
    let mut other = Fake::new(&world);
    other.on_execute("RUN hash g", move |_| {
        in_step();
        it_waits();
    });
    let (published, other_published) = signal();
    let mut fake = Fake::new(&world);
    fake.on_digest("RUN put f 1", move |_| other_published());
    let solved = thread::scope(|scope| {
        let others = scope.spawn(|| run(&usual, &other).unwrap());
        other_is_in();
        let solving = scope.spawn(|| run(&draw.0, &fake).unwrap());
        others.join().unwrap();
        published();
        solving.join().unwrap()
    });
    assert_eq!(other.take_executed(), ["RUN hash g"]);
    assert_eq!(fake.take_executed(), ["RUN put f 1"]);
    assert!(solved.outcome(second).cached);
    assert_eq!(world.discarded.lock().unwrap().len(), 1, "what the first made again");
}

/// The first step comes out as a layer that is there already; the second is under way by then.
#[test]
fn two_solves_share_a_step_whichever_of_two_equal_layers_each_stands_on() {
    let world: Arc<World> = Arc::default();
    let draw = |env: &str| {
        let mut draw = Draw::new();
        let base = draw.image("base");
        let first = draw.run_with(base, "put f same", &[env], &[]);
        draw.run(first, "hash g");
        draw.0
    };
    let mut old = Draw::new();
    let base = old.image("base");
    old.run_with(base, "put f same", &["V=1"], &[]);
    run(&old.0, &Fake::new(&world)).unwrap();

    let graph = draw("V=2");
    let (contended, other_waits) = signal();
    *world.on_contended.lock().unwrap() = Some(Box::new(contended));
    let (started, in_step) = signal();
    let (settled, first_settled) = signal();
    let mut one = Fake::new(&world);
    one.on_digest("RUN put f same", move |_| in_step());
    one.on_execute("RUN hash g", move |_| {
        started();
        other_waits();
    });
    let told = move |event: &Event| {
        if matches!(event, Event::VertexFinished { vertex: 1, .. }) {
            settled();
        }
    };
    let heard = Heard { listen: Some(Box::new(told)), ..Heard::default() };
    let other = Fake::new(&world);
    thread::scope(|scope| {
        scope.spawn(|| solve(&graph, &one, &*world, &options(), &heard, &Cancel::new()).unwrap());
        first_settled();
        run(&graph, &other).unwrap();
    });
    assert_eq!(one.take_executed(), ["RUN hash g", "RUN put f same"]);
    assert_eq!(other.take_executed(), [""; 0]);
}

#[test]
fn waiting_for_another_build_takes_no_job_and_can_be_cancelled() {
    let world: Arc<World> = Arc::default();
    let mut draw = Draw::new();
    let base = draw.image("base");
    draw.run(base, "put f 1");
    let other = draw.run(base, "put g 1");
    let fake = Fake::new(&world);
    // Somebody else holds the first step's lock for ever.
    let mut fields = Fields::new();
    fields.push("args", vec!["put", "f", "1"]);
    fields.push("env", Vec::<String>::new());
    let mut alone = Draw::new();
    alone.image("base");
    let of_base = run(&alone.0, &fake).unwrap().outcome(base).chain.0;
    let step = step_digest(&op_digest("run", &fields), &of_base, &[]);
    let _held = world.try_step_lock(&step).unwrap().expect("free");
    let cancel = Cancel::new();
    let (settled, other_settled) = signal();
    let told = move |event: &Event| {
        if matches!(event, Event::VertexFinished { vertex, .. } if *vertex == other.0) {
            settled();
        }
    };
    let heard = Heard { listen: Some(Box::new(told)), ..Heard::default() };
    let one_job = Options { jobs: 1, digest_jobs: 1, share: false, no_cache: true };
    let error = thread::scope(|scope| {
        let solving = scope.spawn(|| solve(&draw.0, &fake, &*world, &one_job, &heard, &cancel));
        other_settled();
        cancel.cancel();
        solving.join().unwrap().unwrap_err()
    });
    assert!(matches!(error, SolveError::Cancelled), "{error:?}");
    assert_eq!(fake.take_executed(), ["RUN put g 1"]);
}

#[test]
fn a_diamond_joins_and_equal_work_is_done_once() {
    let world = Arc::default();
    let fake = Fake::new(&world);
    let mut draw = Draw::new();
    let base = draw.image("base");
    let top = draw.run(base, "put top 1");
    let left = draw.run(top, "hash left");
    let right = draw.run(top, "hash right");
    let joined = draw.copy(left, right, "right", "/right");
    // The base again as the source.
    let twice = draw.copy(joined, joined, "left", "/left");
    let solved = run(&draw.0, &fake).unwrap();
    let all = files(&solved, &fake, twice);
    assert_eq!(all.keys().collect::<Vec<_>>(), ["/left", "/right", "etc0", "left", "top"]);
    assert_eq!(fake.take_executed().len(), 5);

    let mut draw = Draw::new();
    let base = draw.image("base");
    let a = draw.run(base, "put same same");
    let b = draw.run(base, "put same same");
    let solved = run(&draw.0, &fake).unwrap();
    assert_eq!(fake.take_executed().len(), 1);
    assert_eq!(solved.layers(a), solved.layers(b));
}

#[test]
fn a_long_chain_costs_one_of_each_call_per_vertex() {
    const LENGTH: usize = 1000;
    let world: Arc<World> = Arc::default();
    let mut draw = Draw::new();
    let mut last = draw.image("base");
    for i in 0..LENGTH {
        last = draw.run(last, &format!("put f{i} {i}"));
    }
    let fake = Fake::new(&world);
    let solved = run(&draw.0, &fake).unwrap();
    assert_eq!(solved.layers(last).len(), LENGTH + 1);
    assert_eq!(fake.take_executed().len(), LENGTH);
    assert_eq!(fake.digests.load(SeqCst), LENGTH);
    assert_eq!(world.publishes.load(SeqCst), LENGTH);
    assert!(world.lookups.load(SeqCst) <= 3 * LENGTH);
    world.lookups.store(0, SeqCst);
    assert_eq!(run(&draw.0, &fake).unwrap().layers(last), solved.layers(last));
    assert_eq!(world.lookups.load(SeqCst), LENGTH);
}

#[test]
fn events_tell_the_whole_way() {
    let world = Arc::default();
    let fake = Fake::new(&world);
    let mut draw = Draw::new();
    let base = draw.image("base");
    draw.run(base, "put f 1");
    let expect = ["0 finished", "1 started: never built here", "1 log", "1 committed", "1 finished"];
    assert_eq!(events(&draw.0, &fake), expect);
    assert_eq!(events(&draw.0, &fake), ["0 finished", "1 cached"]);

    let kept = Mutex::new(None);
    let kept = Arc::new(kept);
    let seen = kept.clone();
    let listen = move |event: &Event| {
        if let Event::VertexCached { snapshot, .. } = event {
            *seen.lock().unwrap() = snapshot.clone();
        }
    };
    let heard = Heard { listen: Some(Box::new(listen)), ..Heard::default() };
    let solved = solve(&draw.0, &fake, &*fake.world, &options(), &heard, &Cancel::new()).unwrap();
    assert_eq!(*kept.lock().unwrap(), Some(solved.outcomes[1].own[0].to_string()));
}

#[test]
fn probing_tells_what_is_cached_and_does_nothing() {
    let world: Arc<World> = Arc::default();
    let fake = project_fake(&world);
    let (mut graph, last) = project();
    let probe = |graph: &Graph| super::probe(graph, &fake, &*world, &Cancel::new());
    let none = Some(false);
    let all = Some(true);
    assert_eq!(probe(&graph), [all, None, none, none, none, none, none, none]);
    run(&graph, &fake).unwrap();
    fake.take_executed();
    let written = world.publishes.load(SeqCst);
    assert_eq!(probe(&graph), [all, None, all, all, all, all, all, all]);
    // What follows a changed file has records for other inputs: nobody knows.
    fake.context.lock().unwrap().insert("main.c".into(), "changed".into());
    assert_eq!(probe(&graph), [all, None, all, none, None, all, all, None]);
    graph.vertices[2].ignore_cache = true;
    assert_eq!(probe(&graph)[2..5], [none, None, None]);
    assert_eq!(probe(&graph)[last.0], None);
    assert_eq!(fake.take_executed(), [""; 0]);
    assert_eq!(world.publishes.load(SeqCst), written);
}

/// One vertex of a random graph; numbers choose among what there is.
#[derive(Debug, Clone)]
struct Choice {
    kind: u8,
    base: usize,
    source: usize,
    name: u8,
    value: u8,
    ignore: bool,
}

fn choices() -> impl Strategy<Value = Vec<Choice>> {
    let choice =
        (0u8..8, any::<usize>(), any::<usize>(), 0u8..3, 0u8..3, prop::bool::weighted(0.15)).prop_map(
            |(kind, base, source, name, value, ignore)| Choice { kind, base, source, name, value, ignore },
        );
    prop::collection::vec(choice, 1..14)
}

fn draw(choices: &[Choice], changed: usize, ignore: bool) -> Graph {
    let mut draw = Draw::new();
    let (context, _) = (draw.context(), draw.image("base:2"));
    for (i, choice) in choices.iter().enumerate() {
        let count = draw.0.vertices.len();
        // Not the context, which is no state; sometimes scratch.
        let base = Some(VertexId(choice.base % count)).filter(|base| base.0 != 0);
        let source = VertexId(choice.source % count);
        // A build differs from the one before in a vertex or two.
        let value = if i == changed { choice.value + 1 } else { choice.value };
        let (name, env) = (format!("f{}", choice.name), format!("V={value}"));
        let id = match choice.kind {
            0 => draw.image("other"),
            1 => draw.workdir(base, &name),
            2 | 3 => draw.copy(base, source, &name, &format!("f{value}")),
            4 => draw.run_with(base, &format!("hash {name}"), &[&env], &[source]),
            5 => draw.run_with(base, &format!("put {name} same"), &[&env], &[]),
            6 => draw.run_with(base, &format!("hash {name}"), &[&env], &[]),
            _ => draw.run(base, &format!("put {name} {value}")),
        };
        if ignore && choice.ignore && choice.kind != 0 {
            draw.ignore_cache(id);
        }
    }
    assert_eq!(context.0, 0);
    draw.0
}

/// Solves a graph one vertex after the other, with no cache: its states and their chains.
fn reference(graph: &Graph, context: &Files) -> Vec<(Files, ChainDigest)> {
    let mut states: Vec<(Files, ChainDigest)> = Vec::new();
    for vertex in &graph.vertices {
        let state = match &vertex.op {
            Op::Context(_) => (context.clone(), ChainDigest::scratch()),
            Op::Image(image) => image_layers(image).into_iter().fold(
                (Files::new(), ChainDigest::scratch()),
                |(mut files, chain), layer| {
                    let chain = chain.with(&LayerDigest(digest_of(&layer)));
                    files.extend(layer);
                    (files, chain)
                },
            ),
            op => {
                let scratch = (Files::new(), ChainDigest::scratch());
                let inputs: Vec<_> = vertex
                    .inputs
                    .iter()
                    .map(|input| input.from.map_or(&scratch, |from| &states[from.0]).clone())
                    .collect();
                let selected: Vec<Files> =
                    inputs[1..].iter().map(|(files, _)| selection(op, files)).collect();
                let (mut files, mut chain) = inputs[0].clone();
                if let Some(layer) = effect(op, &files, &selected, "").unwrap() {
                    chain = chain.with(&LayerDigest(digest_of(&layer)));
                    files.extend(layer);
                }
                (files, chain)
            }
        };
        states.push(state);
    }
    states
}

fn check(graph: &Graph, fake: &Fake, solved: &Solved) {
    let context = fake.context.lock().unwrap().clone();
    for (v, (files, chain)) in reference(graph, &context).into_iter().enumerate() {
        assert_eq!(solved.outcomes[v].chain, chain, "{v}");
        if !matches!(graph.vertices[v].op, Op::Context(_)) {
            assert_eq!(fake.world.merged(&solved.layers(VertexId(v))), files, "{v}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever the cache holds, the result is that of a build without one.
    #[test]
    fn equals_a_sequential_build_without_a_cache(
        choices in choices(), changes in prop::collection::vec(0usize..16, 1..4), jobs in 1usize..5
    ) {
        let world: Arc<World> = Arc::default();
        let fake = Fake::new(&world);
        let options = Options { jobs, digest_jobs: jobs, share: false, no_cache: true };
        for (turn, change) in changes.into_iter().enumerate() {
            fake.context.lock().unwrap().insert("f1".into(), (turn / 2).to_string());
            let graph = draw(&choices, change, turn > 0);
            let solved = solve(&graph, &fake, &*world, &options, &Silent, &Cancel::new()).unwrap();
            check(&graph, &fake, &solved);
            let left: usize = world.snapshots.lock().unwrap().values().filter(|s| !s.kept).count();
            prop_assert_eq!(left, 0, "a layer is neither kept nor discarded");
            fake.take_executed();
            let graph = draw(&choices, change, false);
            let again = run(&graph, &fake).unwrap();
            check(&graph, &fake, &again);
            prop_assert_eq!(fake.take_executed(), Vec::<String>::new());
        }
    }

    /// Nor does it matter who else builds at the same time, in the same store.
    #[test]
    fn builds_at_once_do_not_disturb_each_other(choices in choices(), a in 0usize..16, b in 0usize..16) {
        let world: Arc<World> = Arc::default();
        let graphs = [draw(&choices, a, false), draw(&choices, b, true), draw(&choices, a, false)];
        thread::scope(|scope| {
            for graph in &graphs {
                let fake = Fake::new(&world);
                scope.spawn(move || check(graph, &fake, &run(graph, &fake).unwrap()));
            }
        });
    }

    /// An error anywhere ends the solve, and nothing half-done stays.
    #[test]
    fn ends_on_an_error_anywhere(choices in choices(), at in 0usize..16) {
        let world: Arc<World> = Arc::default();
        let fake = Fake::new(&world);
        let mut graph = draw(&choices, 99, false);
        let runs = graph.vertices.iter_mut().filter_map(|vertex| match &mut vertex.op {
            Op::Run(run) => Some(run),
            _ => None,
        });
        let mut runs: Vec<_> = runs.collect();
        let count = runs.len();
        prop_assume!(count > 0);
        runs[at % count].args = vec!["fail".into()];
        let error = run(&graph, &fake).unwrap_err();
        prop_assert!(matches!(error, SolveError::Vertex { .. }), "{:?}", error);
        let left: usize = world.snapshots.lock().unwrap().values().filter(|s| !s.kept).count();
        prop_assert_eq!(left, 0);
    }
}

/// A layer that knows nothing of what is beneath stays cached on another base, in its own place.
#[test]
fn a_linked_copy_does_not_depend_on_what_is_beneath() {
    let world = Arc::default();
    let fake = project_fake(&world);
    let graph = |base: &str, step: &str| {
        let mut draw = Draw::new();
        let (base, context) = (draw.image(base), draw.context());
        let below = draw.run(base, step);
        let link = draw.copy_link(below, context, "main.c", "/linked");
        let last = draw.copy(link, context, "main.c", "/plain");
        (draw.0, [below, link, last])
    };
    let (one, [_, link, last]) = graph("base:1", "put f one");
    let first = run(&one, &fake).unwrap();
    fake.take_executed();
    for (base, step) in [("base:1", "put f two"), ("base:2", "put f two")] {
        let (other, ids) = graph(base, step);
        let solved = run(&other, &fake).unwrap();
        let cached = ids.map(|id| solved.outcome(id).cached);
        assert_eq!(cached, [false, true, false], "{base} {step}");
        assert_eq!(solved.outcome(link).own, first.outcome(link).own);
        assert_ne!(solved.outcome(link).chain, first.outcome(link).chain, "the state is another");
        let layers = solved.layers(last);
        assert_eq!(layers[layers.len() - 2], first.outcome(link).own[0]);
        assert_eq!(
            files(&solved, &fake, last).len(),
            files(&first, &fake, last).len() + usize::from(base == "base:2")
        );
        assert_eq!(fake.take_executed().len(), 2);
        let all = probe(&other, &fake, &*world, &Cancel::new());
        assert_eq!(ids.map(|id| all[id.0]), [Some(true); 3]);
    }
}
