//! `rbuild graph`: the instruction graph, shown.

use super::common::Context;
use super::common::TestEnv;

fn two_stages(env: &TestEnv) -> Context<'_> {
    env.busybox();
    env.dockerfile(
        "FROM busybox:test AS tools\nRUN echo tool > /tool\nFROM busybox:test AS unused\nRUN echo never\n\
         FROM busybox:test\nENV A=1\nCOPY --from=tools /tool /tool\nCOPY f /f\nRUN cat /tool /f\n",
    )
    .file("f", "x")
}

both! {
    fn json_names_vertices_lines_and_edges(env) {
        let ctx = two_stages(env);
        let outcome = env.rbuild(&["graph", "--format", "json", ctx.path()]).ok();
        let graph: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        let vertices = graph["vertices"].as_array().unwrap();
        let line_of = |text: &str| {
            let found = vertices.iter().find(|v| v["instruction"].as_str().is_some_and(|i| i.starts_with(text)));
            found.unwrap_or_else(|| panic!("no vertex `{text}`\n{outcome}"))["line"].as_u64()
        };
        assert_eq!(line_of("RUN echo tool"), Some(2));
        assert_eq!(line_of("COPY --from=tools"), Some(7));
        assert_eq!(line_of("RUN cat"), Some(9));
        assert!(!outcome.stdout.contains("echo never"), "a stage nobody needs\n{outcome}");
        let metadata = |v: &serde_json::Value| v["instruction"].as_str().is_some_and(|i| i.starts_with("ENV"));
        assert!(!vertices.iter().any(metadata), "metadata makes no vertex\n{outcome}");
        let kinds: std::collections::BTreeSet<&str> =
            graph["edges"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
        assert!(kinds.len() >= 2, "the base and what is copied are told apart\n{outcome}");
    }

    fn cached_vertices_are_marked(env) {
        let ctx = two_stages(env);
        let cached = || {
            let outcome = env.rbuild(&["graph", "--format=json", ctx.path()]).ok();
            let graph: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
            graph["vertices"].as_array().unwrap().iter().filter(|v| v["cached"] == true).count()
        };
        let before = cached();
        env.build(&ctx, &[]);
        assert!(cached() > before);
    }

    fn dot_and_mermaid(env) {
        let ctx = two_stages(env);
        env.rbuild(&["graph", "--format", "dot", ctx.path()]).ok().has_all(&["digraph", "->", "RUN cat"]);
        env.rbuild(&["graph", "--format", "mermaid", ctx.path()]).ok().has_all(&["-->", "RUN cat"]);
    }

    /// The picture is whole by itself, and is XML that another program reads.
    fn svg(env) {
        let ctx = two_stages(env);
        let drawn = env.rbuild(&["graph", "--format", "svg", ctx.path()]).ok();
        drawn.clone().has_all(&["<svg ", "stage tools", "RUN cat /tool /f", "class=\"node\""]).lacks("class=\"node cached\"");
        env.build(&ctx, &[]);
        env.rbuild(&["graph", "--format", "svg", ctx.path()]).ok().has("class=\"node cached\"");
        let evil = env.dockerfile("FROM busybox:test AS a\nRUN echo '</text><script>alert(1)</script>' \"]]>\"\n");
        let drawn = env.rbuild(&["graph", "--format", "svg", evil.path()]).ok().lacks("<script");
        let checked = env.program("python3", &["-c", "import sys, xml.dom.minidom as x; x.parseString(sys.stdin.buffer.read())"]);
        checked.stdin(drawn.stdout.clone()).ok();
    }

    /// Text from a Dockerfile cannot break out of a label.
    fn quotes_in_instructions_are_escaped(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo \"a]\" ; b --> \"c\"\n");
        env.rbuild(&["graph", "--format", "dot", ctx.path()]).ok().has(r#"\"a]\""#);
        let outcome = env.rbuild(&["graph", "--format", "mermaid", ctx.path()]).ok();
        assert!(!outcome.stdout.contains("\"a]\""), "{outcome}");
    }

    fn another_file(env) {
        env.busybox();
        let ctx = env.context().file("Other", "FROM busybox:test\nRUN echo other\n");
        env.rbuild(&["graph", "-f", &ctx.at("Other"), "--format", "dot", ctx.path()]).ok().has("RUN echo other");
    }

    fn a_broken_file_fails_as_a_build_does(env) {
        let ctx = env.dockerfile("FROM scratch\nRUNX\n");
        env.rbuild(&["graph", ctx.path()]).fails().has("RUNX");
    }
}
