//! `rbuild check`: findings, formats, exit codes; and that it needs no store.

use super::common::{TestEnv, Who};

both! {
    fn nothing_found(env) {
        let ctx = env.dockerfile("FROM busybox:1\nCMD [\"sh\"]\n");
        env.rbuild(&["check", ctx.path()]).exits(0).has("Check complete, no warnings found.");
    }

    fn findings_have_a_page_and_an_excerpt(env) {
        let ctx = env.dockerfile("FROM busybox:1 AS Bee\nARG name\nCOPY a /$nmae\n");
        env.rbuild(&["check", ctx.path()]).exits(1).has_all(&[
            "WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/",
            "Dockerfile:1\n--------------------\n   1 | >>> FROM busybox:1 AS Bee\n",
            "WARNING: UndefinedVar - https://docs.docker.com/go/dockerfile/rule/undefined-var/",
            "did you mean `$name`?",
            "Check complete, 2 warnings have been found!",
        ]);
    }

    fn no_store_is_made(env) {
        let ctx = env.dockerfile("FROM nowhere/at-all:1\n");
        env.rbuild(&["check", ctx.path()]).exits(0).has("the platform of `nowhere/at-all:1` decide was not checked");
        env.rbuild(&["parse", &ctx.at("Dockerfile")]).ok();
        env.rbuild(&["expand", "x"]).ok();
        assert!(!env.store().exists(), "a store was made");
    }

    fn what_cannot_be_built_has_another_code(env) {
        let ctx = env.dockerfile("FROM busybox:1\nRUNX a\n");
        env.rbuild(&["check", ctx.path()])
            .exits(2)
            .has_all(&["unknown instruction: RUNX (did you mean RUN?)", "Dockerfile:2:1"]);
        let ctx = env.dockerfile("FROM busybox:1\nEXPOSE 99999\n");
        env.rbuild(&["check", ctx.path()]).exits(2).has("99999").lacks("Check complete");
        env.rbuild(&["check", "-f", "/no/such/file", ctx.path()]).exits(1).has("does not exist");
        let ctx = env.dockerfile("FROM busybox:1\n");
        env.rbuild(&["check", "--target", "nope", ctx.path()]).exits(2).has("`nope` could not be found");
    }

    fn ignored_files_are_found(env) {
        let ctx = env.dockerfile("FROM busybox:1\nCOPY secret.txt /\n").file(".dockerignore", "*.txt\n");
        env.rbuild(&["check", ctx.path()])
            .exits(1)
            .has_all(&["CopyIgnoredFile", "attempting to COPY file `secret.txt`", "line 1 of it"]);
        // Rules beside the Dockerfile count more.
        let ctx = ctx.file("Dockerfile.dockerignore", "*.md\n");
        env.rbuild(&["check", ctx.path()]).exits(0);
    }

    fn arguments_of_the_command_line_count(env) {
        let ctx = env.dockerfile("ARG tag=1\nFROM busybox:$tag AS a\nCOPY x /$u\nFROM busybox:1 AS b\n");
        env.rbuild(&["check", "--target", "b", ctx.path()]).exits(0);
        env.rbuild(&["check", "--build-arg", "tag=latest", ctx.path()]).exits(1).has("UntaggedBaseImage");
        env.rbuild(&["check", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all", ctx.path()]).exits(0);
        env.rbuild(&["check", "--build-arg", "BUILDKIT_SYNTAX=example/other", ctx.path()])
            .exits(2)
            .has("the frontend `example/other` is not supported");
        let ctx = env.dockerfile("FROM --platform=$TARGETPLATFORM busybox:1\nCOPY a /$TARGETARCH\n");
        env.rbuild(&["check", "--platform", "linux/arm64", ctx.path()]).exits(1).has("RedundantTargetPlatform");
    }

    fn findings_can_be_errors(env) {
        let ctx = env.dockerfile("# check=error=true\nFROM busybox:1 AS Bee\n");
        env.rbuild(&["check", ctx.path()])
            .exits(1)
            .has_all(&["WARNING: StageNameCasing", "lint violation found for rules: StageNameCasing"]);
    }

    fn standard_input(env) {
        env.rbuild(&["check", "-"]).stdin("FROM busybox:1\nMAINTAINER x\n").exits(1).has("MaintainerDeprecated");
        let ctx = env.dockerfile("FROM scratch\n").file(".dockerignore", "a\n");
        env.rbuild(&["check", "-f", "-", ctx.path()])
            .stdin("FROM busybox:1\nCOPY a /\n")
            .exits(1)
            .has("CopyIgnoredFile");
    }
}

/// Runs `check` with a format and gives standard output as JSON.
fn json(env: &TestEnv, text: &str, format: &str, code: i32) -> serde_json::Value {
    let ctx = env.dockerfile(text);
    let outcome = env.rbuild(&["check", "--format", format, ctx.path()]).exits(code);
    serde_json::from_str(&outcome.stdout).expect("standard output is JSON alone")
}

#[test]
fn machines_can_read_it() {
    super::common::env::run_as(Who::Root, |env| {
        let found = json(env, "FROM busybox\n", "json", 1);
        assert_eq!(found["warnings"][0]["ruleName"], "UntaggedBaseImage");
        assert_eq!(found["warnings"][0]["location"]["ranges"][0]["start"]["line"], 1);
        assert_eq!(found["sources"][0]["data"], "RlJPTSBidXN5Ym94Cg==");
        let found = json(env, "FROM busybox:1\nRUNX\n", "json", 2);
        assert!(found["buildError"]["message"].as_str().unwrap().contains("RUNX"));
        assert_eq!(found["warnings"], serde_json::json!([]));
        let found = json(env, "FROM busybox\n", "sarif", 1);
        assert_eq!(found["version"], "2.1.0");
        assert_eq!(found["runs"][0]["results"][0]["ruleId"], "UntaggedBaseImage");
        let found = json(env, "FROM busybox:1\n", "sarif", 0);
        assert_eq!(found["runs"][0]["results"], serde_json::json!([]));
    });
}

both! {
    fn build_checks_too(env) {
        let ctx = env.dockerfile("FROM busybox:1 AS Bee\n");
        env.rbuild(&["build", "--check", ctx.path()]).exits(1).has("WARNING: StageNameCasing");
        env.rbuild(&["build", "--call", "check,format=json", ctx.path()]).exits(1).has("\"ruleName\"");
        env.rbuild(&["build", "--call", "nothing", ctx.path()]).exits(2).has("`nothing` is not known");
        assert!(!env.store().exists(), "a store was made");
    }

    fn a_build_warns_of_the_same(env) {
        let ctx = env.dockerfile("FROM scratch AS Bee\nCOPY f f /d/\nCMD f\n").file("f", "");
        let built = env.build(&ctx, &[]).has_all(&["StageNameCasing", "JSONArgsRecommended"]);
        assert_eq!(built.both.matches("StageNameCasing").count(), 1);
        let ctx = env.dockerfile("# check=skip=all\nFROM scratch AS Bee\nCOPY f /\nCMD f\n").file("f", "");
        env.build(&ctx, &[]).lacks("warning");
        // What is only for who asks is not told.
        let ctx = env.dockerfile("FROM scratch\nCOPY --chmod=600 f /d/f\n").file("f", "");
        env.build(&ctx, &[]).lacks("warning");
        env.rbuild(&["check", ctx.path()]).exits(1).has("CopyChmodParents");
    }

    fn a_failed_build_warns_too(env) {
        let ctx = env.dockerfile("FROM scratch AS Bee\nCOPY missing /\n");
        let failed = env.try_build(&ctx, &[]).exits(1).has_all(&["StageNameCasing", "not found"]);
        let place = |text: &str| failed.both.find(text).expect("it is there");
        assert!(place("StageNameCasing") < place("\"/missing\": not found"), "{}", failed.both);
        env.try_build(&ctx, &["-q"]).exits(1).has("not found").lacks("StageNameCasing");
    }

    fn advice_ends_no_build(env) {
        let ctx = env.dockerfile("# check=error=true\nFROM busybox\n");
        env.rbuild(&["check", ctx.path()]).exits(1).has("UntaggedBaseImage").lacks("lint violation");
    }

    fn calls_are_described(env) {
        let ctx = env.dockerfile("FROM scratch\n");
        env.rbuild(&["build", "--call", "subrequests.describe", ctx.path()])
            .exits(0)
            .has_all(&["NAME", "check", "outline", "targets", "subrequests.describe"]);
    }

    fn a_finding_ends_a_build_that_wants_so(env) {
        let ctx = env.dockerfile("# check=error=true\nFROM scratch AS Bee\nCOPY f /\n").file("f", "");
        env.try_build(&ctx, &["-t", "never"])
            .exits(2)
            .has_all(&["StageNameCasing", "lint violation found for rules: StageNameCasing"])
            .lacks("Successfully");
        env.build(&ctx, &["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=StageNameCasing;error=true"]);
        let ctx = env.dockerfile("FROM scratch AS Bee\nCOPY f /\n").file("f", "");
        env.try_build(&ctx, &["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true"]).exits(2);
        env.try_build(&ctx, &["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=what"]).exits(2).has("DOCKERFILE_CHECK");
    }

    fn a_file_tells_its_targets(env) {
        let ctx = env.dockerfile("# base is below all\nFROM busybox AS base\nFROM base AS Last\n");
        env.rbuild(&["build", "--call=targets", ctx.path()])
            .ok()
            .prints("TARGET           DESCRIPTION\nbase             is below all\nlast (default)\n");
        let outcome = env.rbuild(&["build", "--call=targets,format=json", ctx.path()]).ok();
        let found: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(found["targets"][0]["base"], "busybox");
        assert_eq!(found["targets"][1]["default"], true);
        assert_eq!(found["targets"][1]["location"]["ranges"][0]["start"]["line"], 3);
    }

    fn a_target_tells_what_it_takes(env) {
        let ctx = env.dockerfile(
            "FROM nowhere:1 AS a\n# V is it\nARG V=1\nRUN --mount=type=secret,id=k,required x\nFROM a AS b\nARG W\n",
        );
        env.rbuild(&["build", "--call=outline", "--target=a", "--build-arg=V=2", ctx.path()])
            .ok()
            .has_all(&["TARGET:      a\n", "V           2       is it\n", "k        true\n"])
            .lacks("W");
        let outcome = env.rbuild(&["build", "--call=outline,format=json", ctx.path()]).ok();
        let found: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!((&found["args"][0]["value"], &found["args"][1]["name"]), (&"1".into(), &"W".into()));
        assert_eq!(found["secrets"][0]["required"], true);
        env.rbuild(&["build", "--call=outline", "--target=c", ctx.path()]).exits(2).has("`c` could not be found");
    }
}
