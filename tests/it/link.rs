//! `COPY --link`: a layer that knows nothing of what is beneath, and is cached without it.
//!
//! What such a layer holds is in `testdata/cases/link`; here is when it is made anew.

use super::common::Exported;
use super::common::Outcome;
use super::common::TestEnv;

/// A line before, the COPY, and one after.
fn file(before: &str, copy: &str) -> String {
    format!("FROM busybox:test\n{before}\n{copy}\nRUN cat /l/f\n")
}

#[track_caller]
fn built(env: &TestEnv, before: &str, copy: &str, args: &[&str]) -> Outcome {
    let args = [&["-t", "made"], args].concat();
    env.build(&env.dockerfile(&file(before, copy)).file("f", "content\n"), &args)
}

/// Tells whether the COPY is cached when what is beneath it changes.
#[track_caller]
fn stays_cached(env: &TestEnv, copy: &str) -> bool {
    env.busybox();
    // Of each COPY its own, lest the content that another made be what is found.
    let step = |word: &str| format!("RUN echo {word} > /below-{}", copy.len());
    built(env, &step("one"), copy, &[]);
    let again = built(env, &step("two"), copy, &[]).ran("content");
    let shown = "cat /below* /l/f; ls -d /below* | wc -l";
    env.run(&["made", "sh", "-c", shown]).ok().prints("two\ncontent\n1\n");
    copy_is_cached(&again)
}

fn copy_is_cached(outcome: &Outcome) -> bool {
    let lines: Vec<&str> = outcome.both.lines().map(str::trim).collect();
    let copy =
        lines.iter().position(|line| line.contains(" : COPY") || line.contains(" : ADD")).expect("a COPY");
    lines[copy + 1] == "---> Using cache"
}

both! {
    fn a_changed_step_beneath_does_not_matter(env) {
        for copy in [
            "COPY --link f /l/",
            "COPY --link --chown=1:2 --chmod=640 f /l/",
            "COPY --link --chown=1 f /l/",
            "ADD --link f /l/",
            "COPY --link <<f /l/\ncontent\nf",
        ] {
            assert!(stays_cached(env, copy), "{copy}");
        }
    }

    /// Who `app` is, the base says.
    fn a_name_is_looked_up_beneath(env) {
        for copy in ["COPY f /l/", "COPY --link --chown=app f /l/", "COPY --link --chown=1:extra f /l/"] {
            assert!(!stays_cached(env, copy), "{copy}");
        }
    }

    fn a_changed_base_image_does_not_matter(env) {
        env.busybox();
        let base = |text: &str| {
            let ctx = env.dockerfile(&format!("FROM busybox:test\nRUN echo {text} > /of-base\n"));
            env.build(&ctx, &["-t", "base"]);
        };
        let ctx = env.dockerfile("FROM base\nCOPY --link f /l/\nCOPY f /plain/\n").file("f", "content\n");
        base("one");
        let first = env.export(&ctx, &[]);
        base("two");
        let outcome = env.build(&ctx, &["-t", "made"]);
        assert!(copy_is_cached(&outcome), "{outcome}");
        assert_eq!(outcome.cached(), 1, "only that of the COPY with --link\n{outcome}");
        let second = env.export(&ctx, &[]);
        let digest = |image: &Exported, layer: usize| image.config["rootfs"]["diff_ids"][layer].clone();
        assert_eq!(digest(&first, 0), digest(&second, 0), "busybox");
        assert_ne!(digest(&first, 1), digest(&second, 1), "the base's own");
        assert_eq!(digest(&first, 2), digest(&second, 2), "that of --link");
        assert_eq!(second.layers.len(), 4);
        env.run(&["made", "cat", "/of-base", "/l/f", "/plain/f"]).ok().prints("two\ncontent\ncontent\n");
        assert_eq!(env.build(&ctx, &[]).cached(), 2, "all of it");
    }

    fn what_it_copies_matters(env) {
        env.busybox();
        let text = file("RUN echo one > /below", "COPY --link f /l/");
        env.build(&env.dockerfile(&text).file("f", "old\n"), &[]);
        env.build(&env.dockerfile(&text).file("f", "new\n"), &[]).ran("new");
    }

    /// A layer of the cache on what was built this moment: each covers what is beneath it.
    fn the_order_of_layers_is_that_of_the_file(env) {
        env.busybox();
        let ctx = |word: &str| {
            env.dockerfile(&format!(
                "FROM busybox:test\nRUN mkdir /l && echo {word} > /l/f && echo {word} > /l/g\n\
                 COPY --link f /l/f\nRUN echo {word} >> /l/f\nCOPY --link f /l/h\nRUN cat /l/f /l/g /l/h\n"
            ))
            .file("f", "copied\n")
        };
        for word in ["one", "two", "one"] {
            env.build(&ctx(word), &["-t", "made"]);
            let shown = format!("copied\n{word}\n{word}\ncopied\n");
            env.run(&["made", "cat", "/l/f", "/l/g", "/l/h"]).ok().prints(&shown);
            assert_eq!(env.export(&ctx(word), &[]).layers.len(), 6, "one for each step");
        }
    }

    fn no_cache_copies_again(env) {
        env.busybox();
        built(env, "RUN echo one > /below", "COPY --link f /l/", &[]);
        let again = built(env, "RUN echo one > /below", "COPY --link f /l/", &["--no-cache"]);
        assert_eq!(again.cached(), 0, "{again}");
        assert!(copy_is_cached(&built(env, "RUN echo two > /below", "COPY --link f /l/", &[])));
    }

    /// The graph tells such an edge from one that the key depends on, and that it is cached.
    fn the_graph_shows_it(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo x > /below\nCOPY --link f /l/\nCOPY f /p/\n").file("f", "x");
        env.build(&ctx, &[]);
        let outcome = env.rbuild(&["graph", "--format=json", ctx.path()]).ok();
        let graph: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        let vertices = graph["vertices"].as_array().unwrap();
        let id = |text: &str| {
            let found = vertices.iter().find(|v| v["instruction"].as_str().is_some_and(|i| i.starts_with(text)));
            found.unwrap_or_else(|| panic!("{outcome}"))["id"].clone()
        };
        let under = |text: &str| {
            let edges = graph["edges"].as_array().unwrap().iter();
            let kinds = edges.filter(|edge| edge["to"] == id(text)).map(|edge| edge["kind"].as_str().unwrap());
            let mut kinds: Vec<&str> = kinds.collect();
            kinds.sort_unstable();
            kinds.join(" ")
        };
        assert_eq!((under("COPY --link").as_str(), under("COPY f").as_str()), ("below source", "base source"));
        assert!(vertices.iter().all(|v| v["cached"] != false), "{outcome}");
    }
}
