//! `rbuild cache mounts`: listed, carried to another store, merged, removed; and never under a step that runs.

use std::fs;

use super::common::TestEnv;
use super::common::archive::entries_of;
use super::common::base::Tar;

const USES: &str = "FROM busybox:test\nRUN --mount=type=cache,id=deps,target=/deps,sharing=locked \
                    mkdir -p /deps/lib && echo one > /deps/lib/one && ln -s lib/one /deps/link && chmod 600 /deps/lib/one && \
                    chown 7:8 /deps/lib/one\n";

fn mounts(env: &TestEnv) -> Vec<serde_json::Value> {
    let outcome = env.rbuild(&["cache", "mounts", "ls", "--format", "json"]).ok();
    outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

both! {
    fn listed_carried_and_removed(env) {
        env.busybox();
        env.build(&env.dockerfile(USES), &[]);
        let listed = mounts(env);
        assert_eq!(listed.len(), 1);
        let one = &listed[0];
        assert_eq!((&one["Name"], &one["Size"], &one["Sharing"], &one["InUse"]), (&"deps".into(), &"4B".into(), &"locked".into(), &"false".into()));
        let table = env.rbuild(&["cache", "mounts", "ls"]).ok();
        assert!(table.stdout.starts_with("ID             NAME      SIZE      LAST USED"), "{table}");

        let file = env.path_str("deps.tar");
        env.rbuild(&["cache", "mounts", "export", "deps", "-o", &file]).ok();
        let bytes = fs::read(&file).unwrap();
        let again = env.path_str("again.tar");
        let id = one["ID"].as_str().unwrap();
        env.rbuild(&["cache", "mounts", "export", &id[..6], "-o", &again]).ok();
        assert_eq!(fs::read(&again).unwrap(), bytes);
        let entries = entries_of(&bytes);
        let found = entries.iter().find(|entry| entry.path == "lib/one").unwrap();
        assert_eq!((found.mode, found.uid, found.gid, &found.content[..]), (0o600, 7, 8, &b"one\n"[..]));
        assert_eq!(entries.iter().find(|entry| entry.path == "link").unwrap().link.as_deref(), Some("lib/one"));

        // To another store: a step there starts with it.
        let other = TestEnv::new(env.who).unwrap();
        other.busybox();
        other.rbuild(&["cache", "mounts", "import", "deps", "-"]).stdin(bytes.clone()).ok();
        let reads = other.dockerfile("FROM busybox:test\nRUN --mount=type=cache,id=deps,target=/deps cat /deps/link; stat -c %u:%g:%a /deps/lib/one; ls /deps\n");
        other.build(&reads, &[]).has("one\n7:8:600\nlib\nlink\n");
        assert_eq!(mounts(&other).len(), 1);
        other.rbuild(&["cache", "mounts", "export", "deps", "-o", &env.path_str("x")]).ok();

        // Merged, then replaced.
        let more = Tar::new().file("lib/two", 0o644, "2").file("link", 0o644, "a file now").bytes();
        other.rbuild(&["cache", "mounts", "import", "--merge", "deps"]).stdin(more).ok();
        let reads = other.dockerfile("FROM busybox:test\nRUN --mount=type=cache,id=deps,target=/deps ls /deps/lib; cat /deps/link\n");
        other.build(&reads, &["--no-cache"]).has("one\ntwo\na file now");
        other.rbuild(&["cache", "mounts", "import", "deps"]).stdin(Tar::new().file("only", 0o644, "1").bytes()).ok();
        let reads = other.dockerfile("FROM busybox:test\nRUN --mount=type=cache,id=deps,target=/deps ls -A /deps\n");
        other.build(&reads, &["--no-cache"]).has("only\n").lacks("one\n");

        assert_eq!(other.rbuild(&["__complete", "--", "cache", "mounts", "rm", ""]).ok().both, "deps\t\n");
        other.rbuild(&["cache", "mounts", "rm", "nope"]).exits(1).has("No such cache mount: nope");
        other.rbuild(&["cache", "mounts", "rm", "deps"]).ok().has("Total reclaimed space: 1B");
        assert_eq!(mounts(&other).len(), 0);
        env.rbuild(&["cache", "mounts", "rm", "--all"]).ok().has(id);
        env.rbuild(&["cache", "mounts", "export", "deps", "-o", &file]).exits(1).has("No such cache mount: deps");
    }

    /// Nothing in an archive leads out of the cache.
    fn hostile_archives(env) {
        env.busybox();
        let outside = env.path("outside");
        fs::create_dir(&outside).unwrap();
        env.give(&outside);
        let target = outside.to_str().unwrap();
        let evil = Tar::new().link("way", target).file("way/in", 0o644, "x").bytes();
        // What it says of other places means places in the cache, or is refused.
        let import = |words: &[&str], tar: &[u8]| env.rbuild(&["cache", "mounts", "import"]).args(words).stdin(tar).output();
        import(&["evil"], &evil);
        import(&["good"], &Tar::new().file("f", 0o644, "1").bytes()).ok();
        import(&["good"], &evil);
        import(&["good", "--merge"], &evil);
        import(&["up"], &Tar::new().file("../../../../escaped", 0o644, "x").file("/abs", 0o644, "y").bytes());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert!(!env.dir().join("escaped").exists() && !env.store().join("escaped").exists());
        // A step of another build left a way out: it is not gone.
        let way = format!("FROM busybox:test\nRUN --mount=type=cache,id=way,target=/c rm -rf /c/d && ln -s {target} /c/d\n");
        env.build(&env.dockerfile(&way), &[]);
        import(&["way", "--merge"], &Tar::new().file("d/in", 0o644, "x").bytes());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        import(&["junk"], b"no archive at all").fails();
        assert!(mounts(env).iter().all(|row| row["Name"] != "junk"));
    }

    fn one_in_use_is_left_alone(env) {
        env.busybox();
        let context = env.dockerfile("FROM busybox:test\nRUN --mount=type=cache,id=used,target=/c echo mine > /c/f; echo waits; sleep 600\n");
        let build = env.rbuild(&["build", "--progress=plain", context.path()]).spawn();
        build.wait_for("waits\n");
        assert_eq!(mounts(env)[0]["InUse"], "true");
        env.rbuild(&["cache", "mounts", "rm", "used"]).exits(1).has("the cache mount `used` is in use by a step that runs");
        env.rbuild(&["cache", "mounts", "rm", "--all"]).ok().has("stays").has("Total reclaimed space: 0B");
        env.rbuild(&["cache", "mounts", "import", "used"]).stdin(Tar::new().bytes()).exits(1).has("in use");
        env.rbuild(&["cache", "mounts", "export", "used"]).exits(1).has("in use");
        build.signal(rustix::process::Signal::TERM);
        build.finish();
        env.rbuild(&["cache", "mounts", "export", "used", "-o", &env.path_str("t")]).ok();
        env.rbuild(&["cache", "mounts", "rm", "used"]).ok().has("Total reclaimed space: 5B");
    }
}
