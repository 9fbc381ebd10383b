//! `rbuild context`: what a build can see, and why.

use super::common::Context;
use super::common::TestEnv;

fn sample(env: &TestEnv) -> Context<'_> {
    env.context()
        .file("Dockerfile", "FROM scratch\n")
        .file(".dockerignore", "# large\nnode_modules\n**/*.log\n!keep.log\n")
        .file("node_modules/a/b.js", "12345")
        .file("node_modules/c.js", "123")
        .file("src/main.c", "1234567890")
        .file("src/x.log", "1")
        .file("keep.log", "22")
        .link("src/l", "main.c")
}

both! {
    fn lists_what_a_build_sees_and_counts_the_rest(env) {
        let ctx = sample(env);
        let out = env.rbuild(&["context", ctx.path()]).ok();
        let rows: Vec<Vec<&str>> = out.stdout.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["SIZE", "TYPE", "PATH"]);
        let paths: Vec<&str> = rows[1..7].iter().map(|r| r[2]).collect();
        assert_eq!(paths, [".dockerignore", "Dockerfile", "keep.log", "src", "src/l", "src/main.c"]);
        assert_eq!(rows[6], ["10B", "file", "src/main.c"]);
        assert_eq!(rows[5][1], "link");
        let out = out.has("Seen: 5 files, 1 directory,").has("Left out: 3 files, 2 directories, 9B");
        out.has("line 2 of .dockerignore: `node_modules`: 2 files, 2 directories, 8B")
            .has("line 3 of .dockerignore: `**/*.log`: 1 file, 0 directories, 1B");
        assert!(!env.store().exists(), "needs no store");
    }

    fn says_which_rule_decides(env) {
        let ctx = sample(env);
        let why = |path: &str| env.rbuild(&["context", "--why", path, ctx.path()]).ok().stdout;
        assert_eq!(why("node_modules/c.js"), "`node_modules/c.js` is left out by line 2 of .dockerignore: `node_modules`\n");
        assert_eq!(why("/keep.log"), "`keep.log` is seen: taken back by line 4 of .dockerignore: `!keep.log`\n");
        assert_eq!(why("src/../src/main.c"), "`src/main.c` is seen: no rule of .dockerignore is about it\n");
        assert!(why("nowhere.log").ends_with("There is no such file in the context\n"));
        let json = env.rbuild(&["context", "--why", "src/x.log", "--format", "json", ctx.path()]).ok();
        let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(json, serde_json::json!({"path": "src/x.log", "exists": true, "seen": false,
            "rule": {"file": ".dockerignore", "line": 3, "rule": "**/*.log"}}));
    }

    fn a_dockerfiles_own_rules_are_shown(env) {
        let ctx = sample(env).file("ci/Other", "FROM scratch\n").file("ci/Other.dockerignore", "src\n");
        let out = env.rbuild(&["context", "-f", &ctx.at("ci/Other"), "--why", "src/main.c", ctx.path()]).ok();
        out.has("line 1 of ci/Other.dockerignore: `src`");
        let none = env.context().file("a", "");
        env.rbuild(&["context", none.path()]).ok().has("There is no .dockerignore");
        env.rbuild(&["context", "--why", "a", none.path()]).ok().has("there is no .dockerignore");
    }

    fn json_says_all_of_it(env) {
        let ctx = sample(env);
        let json = env.rbuild(&["context", "--format", "json", ctx.path()]).ok();
        let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(json["ignoreFile"], ".dockerignore");
        assert_eq!(json["seen"]["files"], 5);
        assert_eq!(json["leftOut"]["rules"][0]["bytes"], 8);
        assert_eq!(json["entries"].as_array().unwrap().len(), 6);
        assert_eq!(json["entries"][5], serde_json::json!({"path": "src/main.c", "type": "file", "size": 10}));
        let top = env.rbuild(&["context", "--format", "json", "--top", "1", ctx.path()]).ok();
        let top: serde_json::Value = serde_json::from_str(&top.stdout).unwrap();
        assert_eq!(top["entries"].as_array().unwrap().len(), 1);
        assert_eq!(top["entries"][0]["path"], ".dockerignore");
    }

    fn long_lists_are_cut_short(env) {
        let mut ctx = env.context();
        for number in 0..1005 {
            ctx = ctx.file(&format!("f{number:04}"), "");
        }
        let cut = env.rbuild(&["context", ctx.path()]).ok().has("... and 5 more: --all lists them");
        assert!(cut.stdout.contains("f0999") && !cut.stdout.contains("f1000"));
        let all = env.rbuild(&["context", "--all", ctx.path()]).ok();
        assert!(all.stdout.contains("f1004") && !all.stdout.contains("more:"));
    }

    /// What it lists is what `COPY . /` copies.
    fn it_says_what_copy_does(env) {
        let ctx = env.context()
            .file("Dockerfile", "FROM scratch\nCOPY . /\n")
            .file(".dockerignore", "*\n!keep\nkeep/*/drop\n!**/yes\n\\#x\n!\\#x\n[a-c]?\n")
            .file("keep/a/drop", "").file("keep/a/b", "").file("other/q/yes", "").file("other/no", "")
            .file("#x", "").file("b1", "").dir("keep/empty").dir("gone/empty");
        let json = env.rbuild(&["context", "--format", "json", ctx.path()]).ok();
        let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        let listed: Vec<&str> =
            json["entries"].as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap()).collect();
        let mut copied = env.export(&ctx, &[]).last_paths();
        copied.sort();
        let mut sorted = listed.clone();
        sorted.sort_unstable();
        assert_eq!(copied, sorted);
        assert_eq!(listed, ["#x", "keep", "keep/a", "keep/a/b", "keep/empty", "other", "other/q", "other/q/yes"]);
    }

    fn bad_contexts_and_rules_are_named(env) {
        let ctx = env.context().file(".dockerignore", "a\n!\n");
        env.rbuild(&["context", ctx.path()]).fails().has("line 2").has("`!`");
        env.rbuild(&["context", "/no/such/place"]).fails().has("does not exist");
        env.rbuild(&["context", "-"]).exits(2).has("standard input");
        env.rbuild(&["context", "--help"]).ok().has("leftOut");
    }
}
