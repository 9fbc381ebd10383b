//! `image prune`, `builder prune`, `system prune` and `system df`: room is made, and what is needed stays.

use std::fs;

use super::common::TestEnv;

/// An image `app:1` whose second stage is all it keeps; the first left a layer, and a cache mount.
fn app(env: &TestEnv) {
    env.busybox();
    env.build(&env.dockerfile(APP), &["-t", "app:1"]);
}

const APP: &str = "FROM busybox:test AS made\nRUN --mount=type=cache,target=/c head -c 300000 /dev/zero > /c/big; \
                   head -c 200000 /dev/zero > /out\nFROM busybox:test\nCOPY --from=made /out /out\n";

/// The rows of `system df`, by their first words.
fn df(env: &TestEnv, kind: &str) -> Vec<String> {
    let format = "{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}";
    let all = env.rbuild(&["system", "df", "--format", format]).ok().stdout;
    let row = all.lines().find(|line| line.starts_with(kind)).unwrap();
    row.split('|').skip(1).map(str::to_owned).collect()
}

/// The bytes of all files in the store.
fn on_disk(env: &TestEnv) -> u64 {
    let files = walkdir::WalkDir::new(env.store()).into_iter().map(Result::unwrap);
    files.filter(|e| e.file_type().is_file()).map(|e| e.metadata().unwrap().len()).sum()
}

/// What a prune says it reclaimed, in kB.
fn reclaimed(said: &str) -> f64 {
    let line = said.lines().last().unwrap();
    let size = line.strip_prefix("Total reclaimed space: ").unwrap();
    let unit = size.find(|c: char| c.is_ascii_alphabetic()).unwrap();
    let factor = match &size[unit..] {
        "B" => 0.001,
        "kB" => 1.0,
        "MB" => 1000.0,
        other => panic!("{other}"),
    };
    size[..unit].parse::<f64>().unwrap() * factor
}

both! {
    fn dangling_images_go_and_named_ones_with_all(env) {
        app(env);
        env.build(&env.dockerfile("FROM app:1\nLABEL keep=yes\n"), &["-t", "app:1"]);
        let outcome = env.rbuild(&["image", "prune"]).stdin("n\n").ok();
        outcome.prints("WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] ");
        assert_eq!(env.rbuild(&["images", "-q"]).ok().stdout.lines().count(), 3);

        let outcome = env.rbuild(&["image", "prune"]).stdin("y\n").ok();
        outcome.has("Deleted Images:\ndeleted: sha256:").has("\n\nTotal reclaimed space: ").lacks("untagged");
        let filtered = |filter: &str| env.rbuild(&["image", "prune", "-af", "--filter", filter]).ok();
        filtered("until=24h").prints("Total reclaimed space: 0B\n");
        filtered("label=nope").prints("Total reclaimed space: 0B\n");
        filtered("label!=keep").has("untagged: busybox:test\n").lacks("app:1");
        env.rbuild(&["image", "prune", "-af"]).ok().has("untagged: app:1\n").lacks("Are you sure");
        env.rbuild(&["images", "-q"]).ok().prints("");
        env.rbuild(&["image", "prune", "-f", "--filter", "nonsense=1"]).exits(2).has("nonsense");
    }

    /// What no image has goes, what images have stays; then all that is cached is forgotten.
    fn the_build_cache(env) {
        app(env);
        let (before, kept) = (on_disk(env), env.rbuild(&["images", "--no-trunc", "-q"]).ok().stdout);
        let outcome = env.rbuild(&["builder", "prune"]).stdin("Y\n").ok();
        let outcome = outcome.has("WARNING! This will remove all dangling build cache. Are you sure").has("Deleted build cache objects:\n");
        // Measured: what is said is what the files that are gone had.
        let freed = (before - on_disk(env)) as f64 / 1000.0;
        let said = reclaimed(&outcome.stdout);
        assert!(said > 500.0 && (said - freed).abs() < 1.0, "said {said}, freed {freed}\n{outcome}");
        assert_eq!(env.rbuild(&["images", "--no-trunc", "-q"]).ok().stdout, kept);
        env.run(&["app:1", "wc", "-c", "/out"]).ok().prints("200000 /out\n");

        // The copy is an image's layer: it was kept with its record, but its stage must run again.
        env.build(&env.dockerfile(APP), &["-t", "again"]);
        env.rbuild(&["builder", "prune", "-af"]).ok();
        assert_eq!(df(env, "Build Cache"), ["0", "0", "0B", "0B"]);
        assert_eq!(env.build(&env.dockerfile(APP), &[]).cached(), 0);
        env.run(&["app:1", "true"]).ok();
    }

    fn filters_and_limits_of_the_cache(env) {
        app(env);
        let prune = |args: &[&str]| env.rbuild(&[&["builder", "prune", "-f"], args].concat());
        prune(&["--filter", "until=24h"]).ok().prints("Total reclaimed space: 0B\n");
        prune(&["--keep-storage", "100MB"]).ok().prints("Total reclaimed space: 0B\n");
        let mounts = prune(&["--filter", "type=exec.cachemount"]).ok();
        assert_eq!(mounts.stdout.lines().filter(|line| line.len() == 12).count(), 1, "{mounts}");
        assert!((300.0..302.0).contains(&reclaimed(&mounts.stdout)), "{mounts}");
        prune(&["--max-used-space", "1kB"]).ok().has("Deleted build cache objects:");
        prune(&["--filter", "colour=red"]).exits(2).has("colour");
        prune(&["--keep-storage", "much"]).exits(2).has("much");
    }

    fn a_cache_mount_in_use_stays(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN --mount=type=cache,target=/c echo precious > /c/f; echo waits; sleep 60\n");
        let build = env.rbuild(&["build", "--progress=plain", ctx.path()]).spawn();
        build.wait_for("waits\n");
        env.rbuild(&["builder", "prune", "-af"]).ok();
        let files = walkdir::WalkDir::new(env.store().join("v1/cache/mounts")).into_iter().map(Result::unwrap);
        let found: Vec<_> = files.filter(|e| e.file_name() == "f").collect();
        assert_eq!(fs::read_to_string(found[0].path()).unwrap(), "precious\n");
        build.signal(rustix::process::Signal::TERM);
        build.finish();
        env.rbuild(&["builder", "prune", "-af"]).ok();
        assert!(!found[0].path().exists());
    }

    /// Nobody is kept waiting by a question.
    fn no_lock_is_held_while_a_user_is_asked(env) {
        app(env);
        let mut asked = env.rbuild(&["system", "prune", "-a"]).stdin_pipe().spawn();
        asked.wait_for("[y/N] ");
        env.build(&env.dockerfile("FROM busybox:test\nRUN echo meanwhile\n"), &["-t", "meanwhile"]);
        env.rbuild(&["rmi", "meanwhile"]).ok().has("Deleted: ");
        asked.write(b"y\n");
        let outcome = asked.finish().ok();
        outcome.has("untagged: app:1").has("untagged: busybox:test").has("Deleted build cache objects:\n");
        assert_eq!((df(env, "Images")[0].as_str(), df(env, "Build Cache")[0].as_str()), ("0", "0"));
        assert!(on_disk(env) < 10_000, "{}", on_disk(env));
    }

    fn system_prune(env) {
        app(env);
        let outcome = env.rbuild(&["system", "prune"]).stdin("").ok();
        outcome.has("WARNING! This will remove:\n  - all stopped containers\n  - all dangling images\n  - unused build cache\n\nAre you sure");
        let both = ["system", "prune", "-f", "--volumes", "--filter", "until=1h"];
        env.rbuild(&both).exits(1).has("The \"until\" filter is not supported with \"--volumes\"");
        env.rbuild(&["system", "prune", "-f"]).ok().has("Deleted build cache objects:\n").lacks("app:1");
        env.run(&["app:1", "true"]).ok();
        env.rbuild(&["system", "prune", "-af", "--volumes"]).ok().has("untagged: app:1");
        assert_eq!(df(env, "Images"), ["0", "0", "0B", "0B"]);
    }

    fn what_takes_space(env) {
        app(env);
        let outcome = env.rbuild(&["system", "df"]).ok();
        let titles: Vec<&str> = outcome.stdout.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(titles, ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
        let images = df(env, "Images");
        assert_eq!((&images[0], &images[1]), (&"2".to_owned(), &"0".to_owned()));
        assert!(images[3].ends_with(" (100%)"), "{images:?}");
        let verbose = env.rbuild(&["system", "df", "-v"]).ok();
        verbose.has_all(&["Images space usage:", "app ", "Build cache usage: ", "exec.cachemount", "regular"]);
        let json = env.rbuild(&["system", "df", "-v", "--format", "{{json .}}"]).ok();
        let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        let mount = json["BuildCache"].as_array().unwrap().iter().find(|row| row["CacheType"] == "exec.cachemount");
        assert_eq!(mount.unwrap()["Size"], "300kB");
        let app = json["Images"].as_array().unwrap().iter().find(|row| row["Repository"] == "app");
        assert_eq!(app.unwrap()["UniqueSize"], "200kB");
    }
}
