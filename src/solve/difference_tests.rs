//! What is said of differences: a table of edits and their lines.

use super::*;
use crate::image::Digest;
use crate::plan::graph::EdgeKind;
use crate::solve::fake::Draw;
use crate::solve::record::InputKind;

fn fields(list: &[(&str, Value)]) -> Fields {
    let mut fields = Fields::new();
    list.iter().for_each(|(name, value)| fields.push(name, value.clone()));
    fields
}

fn texts(list: &[&str]) -> Value {
    list.to_vec().into()
}

/// Compares two steps of one field each and returns all that differs.
fn of_field(name: &str, before: Option<Value>, now: Option<Value>) -> Vec<Difference> {
    let mut draw = Draw::new();
    let base = draw.image("base");
    let run = draw.run(base, "put f 1");
    let side = |value: Option<Value>| value.map(|value| fields(&[(name, value)])).unwrap_or_default();
    let place = Place { graph: &draw.0, vertex: run.0 };
    differences(place, (&side(now), &[]), (&side(before), &[]))
}

#[track_caller]
fn check(name: &str, before: impl Into<Option<Value>>, now: impl Into<Option<Value>>, expect: &str) {
    let found = of_field(name, before.into(), now.into());
    assert_eq!(one_line(&found), expect);
    assert!(found.iter().all(|one| !one.line.contains('\n')));
}

#[test]
fn commands() {
    let shell = |text: &str| texts(&["/bin/sh", "-c", text]);
    let check = |before: Value, now: Value, expect: &str| check("args", before, now, expect);
    check(shell("make"), shell("make all"), "command changed: make -> make all");
    check(texts(&["a", "b"]), texts(&["a", "c"]), "command changed: a b -> a c");
    let long = "apt-get update && apt-get install --yes curl";
    check(shell(long), shell(&format!("{long} jq")), "command changed: + jq");
    check(shell(&format!("{long} jq")), shell(long), "command changed: - jq");
    check(shell(long), shell(&long.replace("curl", "wget")), "command changed: curl -> wget");
    check(shell("a\nb"), shell("a\nc"), "command changed: a b -> a c");
    check(shell("a  b"), shell("a b"), "command changed: spaces or line ends");
    check(shell("x"), texts(&["/bin/bash", "-c", "x"]), "SHELL: /bin/sh -c -> /bin/bash -c");
    check(shell("x"), texts(&["x"]), "command changed: /bin/sh -c x -> x");
    let words = |word: &str| shell(&word.repeat(50));
    let expect = format!("command changed: {}... -> {}...", "ab".repeat(30), "cd".repeat(30));
    check(words("ab"), words("cd"), &expect);
    check(shell("curl http://a:hush@h/"), shell("curl http://h/"), "command changed: spaces or line ends");
}

#[test]
fn the_whole_value_is_kept_beside_the_line() {
    let found = of_field("args", Some(texts(&["sh", "-c", "a\nb"])), Some(texts(&["sh", "-c", "a\nc"])));
    assert_eq!((found[0].before.as_deref(), found[0].now.as_deref()), (Some("a\nb"), Some("a\nc")));
}

#[test]
fn variables_of_a_step() {
    let check = |before: &[&str], now: &[&str], expect: &str| check("env", texts(before), texts(now), expect);
    check(&["VERSION=1.2"], &["VERSION=1.3"], "ARG VERSION: 1.2 -> 1.3");
    check(&["A=1"], &["A=1", "B=2"], "ARG B: not set -> 2");
    check(&["A=1"], &["A="], "ARG A: 1 -> \"\"");
    check(&["A=1", "B=2"], &["A=1"], "variable B: 2 -> not set");
    check(&["A=1", "B=2"], &["B=2", "A=1"], "order of the variables changed");
    check(&["A=1", "B=1", "C=1", "D=1"], &[], {
        "variable A: 1 -> not set; variable B: 1 -> not set; variable C: 1 -> not set; 1 more"
    });
}

#[test]
fn secrets_are_never_shown() {
    let all = |before: &[&str], now: &[&str]| {
        let found = of_field("env", Some(texts(before)), Some(texts(now)));
        (one_line(&found), format!("{found:?}"))
    };
    for (before, now, expect) in [
        (&["API_KEY=hush1"][..], &["API_KEY=hush2"][..], "ARG API_KEY changed"),
        (&[], &["TOKEN=hush3"], "ARG TOKEN: not set -> ***"),
        (&["TOKEN=hush3"], &[], "variable TOKEN: *** -> not set"),
        // Nor where one stands in another variable.
        (&["A=1"], &["A=x/hush4/y", "SECRET=hush4"], "ARG A: 1 -> x/***/y; ARG SECRET: not set -> ***"),
        (&["U=http://a:hush@h/"], &["U=http://b:hush@h/x"], "ARG U: http://h/ -> http://h/x"),
    ] {
        let (line, whole) = all(before, now);
        assert_eq!(line, expect);
        assert!(!whole.contains("hush"), "{whole}");
    }
    let mut draw = Draw::new();
    let run = draw.run(None, "put f 1");
    let side =
        |text: &str| fields(&[("args", texts(&["sh", "-c", text])), ("env", texts(&["PASSWORD=hush5"]))]);
    let place = Place { graph: &draw.0, vertex: run.0 };
    let found = differences(place, (&side("login hush5 now"), &[]), (&side("login hush5"), &[]));
    assert!(!format!("{found:?}").contains("hush5"), "{found:?}");
    // A secret of a mount is its id.
    let secret = ["secret", "npm", "", "/run/secrets/npm", "400 0:0"];
    check("mounts", None, texts(&secret), {
        "--mount type=secret,id=npm,target=/run/secrets/npm 400 0:0 added"
    });
}

#[test]
fn options_of_a_step() {
    check("user", Value::from(""), Value::from("app"), "USER: root -> app");
    check("workdir", Value::from("/a"), Value::from("/b"), "WORKDIR: /a -> /b");
    check("path", Value::from("/a"), Value::from("/b"), "WORKDIR: /a -> /b");
    check("network", Value::from("default"), Value::from("none"), "network: default -> none");
    check("security", None, Value::from("insecure"), "--security: not set -> insecure");
    check("hostname", None, Value::from("h"), "host name: not set -> h");
    check("source-date-epoch", None, Value::from(5), "SOURCE_DATE_EPOCH: not set -> 5");
    check("chown", Value::from("1"), Value::from("2:3"), "--chown: 1 -> 2:3");
    check("chmod", None, Value::from("755"), "--chmod: not set -> 755");
    check("link", Value::from(true), None, "--link: yes -> not set");
    check("destination", Value::from("/a"), Value::from("/b"), "destination: /a -> /b");
    check("op", Value::from("copy"), Value::from("add"), "instruction: COPY -> ADD");
    check("exclude", texts(&["*.o"]), texts(&["*.o", "*.a"]), "--exclude *.a added");
    check("extra-hosts", texts(&["a"]), texts(&["b"]), "--add-host: a -> b");
    check("volumes", texts(&["/v", "rw"]), texts(&["/v", "ro"]), "--volume: /v:rw -> /v:ro");
    check("of-a-later-version", None, Value::from("x"), "of-a-later-version: not set -> x");
}

#[test]
fn mounts_of_a_step() {
    let cache = ["cache", "/root/.cache"];
    let both = ["cache", "/root/.cache", "tmpfs", "", "/t"];
    check("mounts", None, texts(&cache), "--mount type=cache,target=/root/.cache added");
    check("mounts", texts(&both), texts(&cache), "--mount type=tmpfs,target=/t removed");
    check(
        "mounts",
        texts(&["bind", "ro", "/s"]),
        texts(&["bind", "rw", "/s"]),
        "--mount: type=bind,ro,target=/s -> type=bind,rw,target=/s",
    );
    check("mounts", texts(&["ssh", "a", "/s", "600 0:0"]), None, {
        "--mount type=ssh,id=a,target=/s 600 0:0 removed"
    });
    check("mounts", texts(&["later", "x"]), texts(&["later", "y"]), "--mount: later x -> later y");
    check("mounts", texts(&["secret"]), texts(&["bind"]), {
        "--mount: type=secret,id= -> type=bind,,target="
    });
}

#[test]
fn here_documents() {
    let inline = |text: &str| texts(&["inline", "EOF", text]);
    check("sources", inline("a"), inline("b"), "here-document EOF changed: a -> b");
    check("sources", inline("a"), texts(&["inline", "END", "a"]), "sources changed");
    check("sources", texts(&["download", "1", "a"]), texts(&["download", "1", "b"]), "sources changed");
    check("script", Value::from("#!/bin/sh\na"), Value::from("#!/bin/sh\nb"), {
        "here-document changed: #!/bin/sh a -> #!/bin/sh b"
    });
}

/// Compares two lists of files that a COPY of the context read.
#[track_caller]
fn check_files(before: &[(&str, &str)], now: &[(&str, &str)], expect: &str) {
    let mut draw = Draw::new();
    let context = draw.context();
    let copy = draw.copy(None, context, "f", "/f");
    let input = |of: &str, list: &[(&str, &str)]| InputKey {
        kind: InputKind::Source,
        digest: Digest::of(of),
        detail: String::new(),
        files: list.iter().map(|(path, mark)| (path.to_string(), mark.to_string())).collect(),
    };
    let place = Place { graph: &draw.0, vertex: copy.0 };
    let none = Fields::new();
    let found = differences(place, (&none, &[input("b", now)]), (&none, &[input("a", before)]));
    assert_eq!(one_line(&found), expect);
}

#[test]
fn files_that_were_read() {
    const A: &str = "f 644 - 1 -";
    const B: &str = "f 644 - 2 -";
    check_files(&[("src/app.py", A)], &[("src/app.py", B)], "src/app.py changed");
    check_files(&[("a", A), ("b", A), ("c", A)], &[("a", B), ("b", B), ("d", A)], "a changed (+3 more)");
    check_files(&[("a", A)], &[("a", A), ("b", B)], "b added");
    check_files(&[("a", A), ("b", B)], &[("a", A)], "b removed");
    check_files(&[("a", A)], &[("b", A)], "a renamed to b");
    check_files(&[("b", A)], &[("a", A)], "b renamed to a");
    check_files(&[("a", A)], &[("b", B)], "a removed (+1 more)");
    check_files(&[("a", A)], &[("a", "f 755 - 1 -")], "a: mode 644 -> 755");
    check_files(&[("a", "f 644 0:0 1 -")], &[("a", "f 644 5:5 1 -")], "a: owner 0:0 -> 5:5");
    check_files(&[("a", A)], &[("a", "f 644 - 1 9")], "a: attributes or hard links");
    check_files(&[("a", A)], &[("a", "l - - 1 -")], "a: file -> link");
    // The same files, in another order; lists that are not known, or of an older version.
    check_files(&[("a", A)], &[("a", A)], "files changed");
    check_files(&[], &[("a", A)], "files changed");
    check_files(&[("a", "sha256:1")], &[("a", A)], "files changed");
}

#[test]
fn where_files_come_from() {
    let mut draw = Draw::new();
    let image = draw.image("debian:12");
    let run = draw.run(image, "put f 1");
    draw.0.vertices[run.0].stage = "build".into();
    let check = |draw: &mut Draw, from, expect: &str| {
        let copy = draw.copy(None, from, "f", "/f");
        assert_eq!(Place { graph: &draw.0, vertex: copy.0 }.source(0), expect);
    };
    check(&mut draw, run, "--from=build");
    check(&mut draw, image, "--from=debian:12");
    let context = draw.context();
    check(&mut draw, context, "");
    if let Op::Context(op) = &mut draw.0.vertices[context.0].op {
        op.name = "lib".into();
    }
    check(&mut draw, context, "lib");
}

#[test]
fn inputs_that_came() {
    let mut draw = Draw::new();
    let base = draw.image("base");
    let context = draw.context();
    let run = draw.run_with(base, "put f 1", &[], &[context]);
    assert!(draw.0.vertices[run.0].inputs.iter().any(|input| input.kind == EdgeKind::Mount));
    let input = InputKey {
        kind: InputKind::Mount,
        digest: Digest::of("a"),
        detail: String::new(),
        files: Default::default(),
    };
    let place = Place { graph: &draw.0, vertex: run.0 };
    let none = Fields::new();
    let found = differences(place, (&none, &[input]), (&none, &[]));
    assert_eq!(one_line(&found), "mounts changed: 0 -> 1");
}
