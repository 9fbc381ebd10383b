//! Several targets in one build, their names, and other platforms.
//!
//! What one `--target` builds is in `testdata/cases/targets`.

use super::common::Context;
use super::common::Outcome;
use super::common::TestEnv;
use super::common::base::busybox_tar;
use super::common::env::is_id;

/// Two targets on one shared stage, and one that nobody needs.
fn family(env: &TestEnv) -> Context<'_> {
    env.busybox();
    env.dockerfile(
        "FROM busybox:test AS shared\nRUN echo shared-ran; head -c 16 /dev/urandom > /token\n\
         FROM shared AS App\nRUN echo app-ran > /who; cat /who\n\
         FROM shared AS test\nRUN echo test-ran > /who; cat /who\n\
         FROM busybox:test AS never\nRUN echo never-ran\n",
    )
}

/// How many lines a step printed are exactly this.
fn times(outcome: &Outcome, line: &str) -> usize {
    outcome.both.lines().filter(|l| l.trim().rsplit("] ").next() == Some(line)).count()
}

fn tags(env: &TestEnv) -> Vec<String> {
    let mut tags: Vec<String> = env
        .rbuild(&["images", "--format", "{{.Repository}}:{{.Tag}}"])
        .ok()
        .stdout
        .lines()
        .map(str::to_owned)
        .collect();
    tags.sort();
    tags
}

both! {
    fn shared_steps_run_once(env) {
        let ctx = family(env);
        let iid = env.path_str("iid");
        let args = ["--target", "app", "--target", "TEST", "-t", "app=a:1", "-t", "test=t", "--iidfile", &iid];
        let outcome = env.build(&ctx, &args).ran("app-ran").ran("test-ran").did_not_run("never-ran");
        assert_eq!(times(&outcome, "shared-ran"), 1, "{outcome}");
        let token = |image: &str| env.run(&[image, "od", "-x", "/token"]).ok().stdout;
        assert_eq!(token("a:1"), token("t"));
        env.run(&["a:1", "cat", "/who"]).ok().prints("app-ran\n");
        env.run(&["t", "cat", "/who"]).ok().prints("test-ran\n");

        let said: Vec<&str> = outcome.stdout.lines().filter(|line| line.starts_with("Successfully")).collect();
        assert_eq!((said.len(), said[1], said[3]), (4, "Successfully tagged a:1", "Successfully tagged t:latest"));
        let written = std::fs::read_to_string(&iid).unwrap();
        let ids: Vec<&str> = written.lines().collect();
        assert_eq!(ids, ["a:1", "t"].map(|name| env.inspect(name)["Id"].as_str().unwrap().to_owned()));
        assert_ne!(ids[0], ids[1]);
        // The second time, everything is cached, and what is printed with -q is the ids.
        let again = env.build(&ctx, &["-q", "--target", "app", "--target", "test"]);
        assert_eq!(again.stdout.lines().collect::<Vec<_>>(), ids);
        assert!(ids.iter().all(|id| is_id(id)));
    }

    fn one_target_twice_is_one_image(env) {
        let ctx = family(env);
        let outcome = env.build(&ctx, &["-q", "--target", "app", "--target", "APP", "-t", "x", "-t", "y"]);
        assert_eq!(outcome.stdout.lines().count(), 1, "{outcome}");
        assert_eq!(env.inspect("x")["Id"], env.inspect("y")["Id"]);
    }

    fn a_target_beneath_another(env) {
        let ctx = family(env);
        let outcome = env.build(&ctx, &["--target", "shared", "--target", "app", "-t", "shared=s", "-t", "app=a"]);
        assert_eq!(times(&outcome, "shared-ran"), 1, "{outcome}");
        let layers = |name: &str| env.inspect(name)["RootFS"]["Layers"].as_array().unwrap().clone();
        assert_eq!(layers("s"), layers("a")[..2]);
    }

    fn labels_go_to_the_targets_only(env) {
        let ctx = family(env);
        let plain = env.build_id(&ctx, &["--target", "shared"]);
        env.build(&ctx, &["--target", "app", "--target", "test", "-t", "app=a", "-t", "test=t", "--label", "k=v"]);
        for name in ["a", "t"] {
            assert_eq!(env.inspect(name)["Config"]["Labels"]["k"], "v", "{name}");
        }
        assert!(env.inspect(&plain)["Config"]["Labels"]["k"].is_null());
    }

    /// One fails, and no image is named, also none that was ready before.
    fn one_failure_is_all_of_it(env) {
        env.busybox();
        let ctx = env.dockerfile(
            "FROM busybox:test AS good\nRUN echo fine > /f\nFROM busybox:test AS bad\nCOPY --from=good /f /f\nRUN exit 3\n",
        );
        let iid = env.path_str("iid");
        let args = ["--target", "good", "--target", "bad", "-t", "good=g", "-t", "bad=b", "--iidfile", &iid];
        env.try_build(&ctx, &args).fails().has("RUN exit 3").lacks("Successfully");
        assert_eq!(tags(env), ["busybox:test"]);
        assert!(!std::path::Path::new(&iid).exists());
        // The good one is in the cache all the same.
        let outcome = env.build(&ctx, &["--target", "good", "-t", "g"]);
        assert_eq!(outcome.cached(), 1, "{outcome}");
    }

    fn no_cache_filter_names_stages(env) {
        let ctx = family(env);
        let targets = ["--target", "app", "--target", "test"];
        let with = |filter: &[&str]| env.build(&ctx, &[&targets, filter].concat());
        with(&[]);
        let outcome = with(&["--no-cache-filter", "app"]).did_not_run("shared-ran").did_not_run("test-ran");
        assert_eq!(times(&outcome, "app-ran"), 1, "{outcome}");
        let outcome = with(&["--no-cache-filter", "APP,test"]).did_not_run("shared-ran");
        assert_eq!((times(&outcome, "app-ran"), times(&outcome, "test-ran")), (1, 1), "{outcome}");
        with(&["--no-cache-filter", "never"]).did_not_run("shared-ran").did_not_run("app-ran").did_not_run("test-ran");
        with(&["--no-cache"]).ran("shared-ran").ran("app-ran").ran("test-ran");
    }

    fn targetstage_is_the_target(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test AS one\nARG TARGETSTAGE\nRUN echo stage=$TARGETSTAGE\nFROM one AS two\n");
        env.build(&ctx, &["--target", "one"]).ran("stage=one");
        env.build(&ctx, &["--target", "two"]).ran("stage=two");
        env.build(&ctx, &[]).ran("stage=default");
    }

    fn wrong_names_are_refused_before_anything_runs(env) {
        let ctx = family(env);
        for (args, why) in [
            (&["--target", "appp"][..], "did you mean"),
            (&["--target", "app", "--target", "nope"], "nope"),
            (&["--target", "app", "--target", "test", "-t", "x"], "does not say whose name"),
            (&["--target", "app", "-t", "test=x"], "is no target"),
            (&["--target", "app", "-t", "app="], "invalid reference"),
            (&["-t", "scratch"], "scratch"),
            (&["-t", "scratch:latest"], "scratch"),
            (&["--target", "app", "-t", "app=scratch"], "scratch"),
        ] {
            env.try_build(&ctx, args).exits(2).has(why).lacks("shared-ran");
        }
        env.rbuild(&["tag", "busybox:test", "scratch"]).fails().has("scratch");
        env.rbuild(&["import", "-", "scratch"]).stdin(busybox_tar()).fails().has("scratch");
        assert_eq!(tags(env), ["busybox:test"]);
        env.rbuild(&["tag", "busybox:test", "example.com/scratch"]).ok();
    }

    /// Nothing of it runs here, so it is made here; what would have to run says what is missing.
    fn another_platform(env) {
        env.busybox();
        let scratch = env.dockerfile(
            "FROM scratch\nARG TARGETPLATFORM TARGETVARIANT\nCOPY f /f\nWORKDIR /w\nLABEL p=$TARGETPLATFORM v=$TARGETVARIANT\n",
        ).file("f", "x");
        let image = env.export(&scratch, &["--platform", "linux/arm/v7"]);
        let said = ["os", "architecture", "variant"].map(|key| image.config[key].as_str().unwrap().to_owned());
        assert_eq!(said, ["linux", "arm", "v7"]);
        let labels = &image.config["config"]["Labels"];
        assert_eq!((labels["p"].as_str(), labels["v"].as_str()), (Some("linux/arm/v7"), Some("v7")));
        assert_eq!(image.last_paths(), ["w"]);

        let other = if cfg!(target_arch = "x86_64") { "linux/riscv64" } else { "linux/amd64" };
        let base = env.dockerfile("FROM busybox:test\nCOPY f /f\n").file("f", "x");
        env.try_build(&base, &["--platform", other]).fails().has_all(&["busybox:test", other]);
        env.try_build(&base, &["--platform", "pear/os"]).fails().has("pear");
        env.try_build(&base, &["--platform", "linux/"]).exits(2).has("--platform");
    }

    /// A program of another machine: the kernel cannot start it, and the step says why.
    fn a_program_of_another_machine(env) {
        let mut elf = vec![0u8; 64];
        elf[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
        // A type, EXEC, and a machine, IA-64, that no emulator is registered for.
        elf[16..20].copy_from_slice(&[2, 0, 50, 0]);
        let ctx = env.context().file_with_mode("prog", 0o755, &elf)
            .file("Dockerfile", "FROM scratch\nCOPY prog /prog\nRUN [\"/prog\"]\n");
        env.try_build(&ctx, &[]).fails().has_all(&["/prog", "RUN"]);
    }
}
