//! `rbuild parse` and `rbuild expand`: the tree, and the table of expansions.

use super::common::{TestEnv, Who};

/// Parses text from standard input.
fn tree(env: &TestEnv, text: &str) -> serde_json::Value {
    let outcome = env.rbuild(&["parse", "--format", "json", "-"]).stdin(text).ok();
    serde_json::from_str(&outcome.stdout).expect("standard output is JSON alone")
}

both! {
    fn a_tree(env) {
        let found = tree(
            env,
            "# syntax=docker/dockerfile:1\nFROM busybox AS a\n\nrun --mount=type=cache,target=/c \\\n  cat <<A\nx\nA\n",
        );
        assert_eq!(found["directives"][0]["value"], "docker/dockerfile:1");
        let run = &found["instructions"][1];
        assert_eq!((&run["name"], &run["keyword"]), (&"run".into(), &"run".into()));
        assert_eq!(run["lines"], serde_json::json!([4, 7]));
        assert_eq!(run["flags"][0]["value"], "type=cache,target=/c");
        assert_eq!(run["arguments"], "cat <<A");
        assert_eq!(run["heredocs"][0]["body"], "x\n");
    }

    fn a_file_and_its_errors(env) {
        let ctx = env.dockerfile("FROM a\nCOPY x\n").file(".dockerignore", "!\n");
        env.rbuild(&["parse", &ctx.at("Dockerfile")])
            .exits(2)
            .has_all(&["COPY requires at least two arguments", "Dockerfile:2"]);
        env.rbuild(&["parse"]).folder(ctx.path()).exits(2).has("COPY requires");
        env.rbuild(&["parse", "/no/such/file"]).exits(1).has("does not exist");
        // What stands beside the file does not matter.
        let ctx = ctx.file("good", "FROM a\n").file("good.dockerignore", "!\n");
        env.rbuild(&["parse", &ctx.at("good")]).ok().has("\"from\"");
    }

    fn an_expansion(env) {
        env.rbuild(&["expand", "--env", "a=1", "x${a}"]).ok().prints("x1\n");
        env.rbuild(&["expand", "${a}"]).ok().has("note: `a` is not set");
        env.rbuild(&["expand", "--env", "A"]).var("A", "1").fails();
        env.rbuild(&["expand", "--env", "A", "$A"]).var("A", "1").ok().prints("1\n");
        env.rbuild(&["expand", "${a:?no a}"]).exits(1).has("a: no a");
        env.rbuild(&["expand", "--escape", "`", "-e", "a=1", "`$a$a"]).ok().prints("$a1\n");
        env.rbuild(&["expand", "--heredoc", "-e", "a=1", "'$a'"]).ok().prints("'1'\n");
        env.rbuild(&["expand", "--words", "-e", "a=1 2", "$a '$a'"]).ok().prints("1\n2\n$a\n");
    }
}

/// The table: word, and what it becomes, or `!` and a part of the error. `a` is `A`,
/// `e` is empty, `s` is `x y`, `p` is a path, `t` holds a star, `u` is not set.
#[rustfmt::skip]
const EXPANSIONS: &[(&str, &str)] = &[
    // Plain variables.
    ("$a", "A"), ("${a}", "A"), ("x$a-y", "xA-y"), ("x${a}y", "xAy"), ("$ab", ""), ("$u", ""), ("${u}", ""),
    ("$a$a", "AA"), ("$e", ""), ("$s", "x y"), ("$", "$"), ("a$", "a$"), ("$.", "$."), ("$-x", "x"),
    ("$1", ""), ("$@", ""), ("$*", ""), ("${1}", ""), ("$a.$a", "A.A"), ("é$a", "éA"),
    // Quotes and escapes.
    ("\\$a", "$a"), ("'$a'", "$a"), ("\"$a\"", "A"), ("\"'$a'\"", "'A'"), ("'\"$a\"'", "\"$a\""),
    ("\"\\$a\"", "$a"), ("\"\\\"\"", "\""), ("\"\\\\\"", "\\"), ("\"\\x\"", "\\x"), ("\\x", "x"),
    ("'\\x'", "\\x"), ("a'b'\"c\"", "abc"), ("\"\"", ""), ("a\\ b", "a b"), ("\\\\$a", "\\A"),
    ("'a", "!single-quote"), ("\"a", "!double-quote"), ("\"$a", "!double-quote"),
    // Default and alternative.
    ("${a:-w}", "A"), ("${a-w}", "A"), ("${e:-w}", "w"), ("${e-w}", ""), ("${u:-w}", "w"), ("${u-w}", "w"),
    ("${u:-}", ""), ("${u-}", ""), ("${a:+w}", "w"), ("${a+w}", "w"), ("${e:+w}", ""), ("${e+w}", "w"),
    ("${u:+w}", ""), ("${u+w}", ""), ("${u:-$a}", "A"), ("${u:-${v:-$a}}", "A"), ("${u:-${v-${a:+b}}}", "b"),
    ("${u:-a b}", "a b"), ("${u:-'$a'}", "$a"), ("${u:-\"$a\"}", "A"), ("${u:-\\}}", "}"), ("\"${u:-w}\"", "w"),
    ("${a:-${u:?never}}", "A"),
    // Required.
    ("${a:?m}", "A"), ("${a?m}", "A"), ("${u:?must be set}", "!u: must be set"), ("${u?m}", "!u: m"),
    ("${e:?m}", "!e: m"), ("${e?m}", ""), ("${u?}", "!u: is not allowed to be unset"),
    ("${u:?}", "!u: is not allowed to be unset"), ("${e:?}", "!e: is not allowed to be empty"),
    ("${u:?no $a}", "!u: no A"),
    // Prefix and suffix.
    ("${p#*/}", "usr/local/lib.tar.gz"), ("${p##*/}", "lib.tar.gz"), ("${p%.*}", "/usr/local/lib.tar"),
    ("${p%%.*}", "/usr/local/lib"), ("${p#/usr}", "/local/lib.tar.gz"), ("${p%.gz}", "/usr/local/lib.tar"),
    ("${p#x}", "/usr/local/lib.tar.gz"), ("${p%.?z}", "/usr/local/lib.tar"), ("${p##*}", ""), ("${p%%*}", ""),
    ("${p#*}", "/usr/local/lib.tar.gz"), ("${t#a\\*}", "c"), ("${t%\\*c}", "a"), ("${t#a\\?}", "a*c"),
    ("${p#$u}", "/usr/local/lib.tar.gz"), ("${a#$a}", ""), ("${u#x}", ""), ("${t##[ab]}", "a*c"),
    // Replacement.
    ("${p/l/L}", "/usr/Local/lib.tar.gz"), ("${p//l/L}", "/usr/LocaL/Lib.tar.gz"), ("${p/l*r/_}", "/usr/_.gz"),
    ("${p//\\//_}", "_usr_local_lib.tar.gz"), ("${p/\\/usr/}", "/local/lib.tar.gz"), ("${p//./}", "/usr/local/libtargz"),
    ("${a/A/$s}", "x y"), ("${a/${a}/w}", "w"), ("${a/x/y}", "A"), ("${u/a/b}", ""), ("${p//?/}", ""),
    ("${t/\\*/+}", "a+c"), ("${a/A/\\}}", "}"),
    // Bad forms.
    ("${}", "!bad substitution"), ("${:x}", "!bad substitution"), ("${{a}}", "!bad substitution"),
    ("${a", "!missing '}'"), ("${a:-x", "!missing '}'"), ("${a:X}", "!unsupported modifier (:X)"),
    ("${a:=x}", "!unsupported modifier (:=)"), ("${a=x}", "!unsupported modifier (=)"),
    ("${a^}", "!unsupported modifier (^)"), ("${a/x}", "!missing '/'"), ("${a#\\x}", "!invalid pattern"),
];

#[test]
fn expansions() {
    assert!(EXPANSIONS.len() >= 80);
    super::common::env::run_as(Who::Root, |env| {
        let variables = ["a=A", "e=", "s=x y", "p=/usr/local/lib.tar.gz", "t=a*c"];
        for (word, expect) in EXPANSIONS {
            let mut args = vec!["expand"];
            variables.iter().for_each(|variable| args.extend(["--env", variable]));
            args.extend(["--", word]);
            match expect.strip_prefix('!') {
                None => {
                    let outcome = env.rbuild(&args).ok();
                    assert_eq!(outcome.stdout, format!("{expect}\n"), "{word}");
                }
                Some(error) => {
                    let outcome = env.rbuild(&args).exits(1).has(error);
                    assert_eq!(outcome.stdout, "", "{word}");
                }
            }
        }
    });
}
