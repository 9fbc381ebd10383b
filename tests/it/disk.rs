//! Space: `du`, limits that are kept before something is written and while a step writes, and `system reset`.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::common::base::busybox_tar;
use super::common::command::Outcome;
use super::common::env::Who;
use super::common::{Context, TestEnv};

/// A build whose first stage is a layer of three megabytes that no image has.
const BIG: &str = "FROM busybox:test AS made\nRUN head -c 3000000 /dev/zero > /big; echo {} > /n\n\
                   FROM busybox:test\nCOPY --from=made /n /n\n";

/// The first lines of a second stage that takes the layer of the first into use, and waits until it is told.
const WAITS: &str = "RUN --mount=type=cache,id=gate,target=/gate echo waits; \
                     while [ ! -e /gate/go ]; do sleep 0.05; done; wc -c /big\n";

fn big<'e>(env: &'e TestEnv, number: &str) -> Context<'e> {
    env.dockerfile(&BIG.replace("{}", number))
}

/// What `du` says of every piece.
fn du(env: &TestEnv, filters: &[&str]) -> Vec<serde_json::Value> {
    let filters: Vec<&str> = filters.iter().flat_map(|filter| ["--filter", filter]).collect();
    let outcome = env.rbuild(&["du", "--format", "json"]).args(&filters).ok();
    outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The layers of three megabytes that are there.
fn bigs(env: &TestEnv) -> Vec<String> {
    let is_big = |row: &serde_json::Value| row["Size"].as_str().unwrap().starts_with("3MB");
    let rows = du(env, &["type=regular"]).into_iter().filter(is_big);
    rows.map(|row| row["ID"].as_str().unwrap().to_owned()).collect()
}

fn meta(env: &TestEnv, layer: &str) -> PathBuf {
    env.store().join("v1/snapshots").join(layer).join("meta")
}

/// Makes all layers and images as if they had been used last an hour ago.
fn age(env: &TestEnv) {
    let past = SystemTime::now() - Duration::from_secs(3600);
    for entry in walkdir::WalkDir::new(env.store().join("v1")).max_depth(3).into_iter().map(Result::unwrap) {
        if entry.file_type().is_file()
            && (entry.file_name() == "meta" || entry.path().starts_with(env.store().join("v1/images")))
        {
            let file = fs::File::open(entry.path()).unwrap();
            file.set_modified(past).unwrap();
        }
    }
}

/// Runs a script whose store is a file system of its own.
fn on_a_disk(env: &TestEnv, options: &str, script: &str) -> Outcome {
    let tar = env.path("busybox.tar");
    fs::write(&tar, busybox_tar()).unwrap();
    let context = env.context();
    let exe = env.exe();
    let script = format!(
        "mkdir -p $RBUILD_ROOT; mount -t tmpfs -o {options} tmpfs $RBUILD_ROOT; rbuild() {{ {} \"$@\"; }}; cd {}; \
         tar={}; {script}",
        exe.display(),
        context.path(),
        tar.display()
    );
    let words = ["-m", "sh", "-ec", &script];
    match env.who {
        Who::Root => env.program("unshare", &words).output(),
        Who::User => {
            env.program("unshare", &["--user", "--map-root-user", "--map-auto"]).args(&words).output()
        }
    }
}

both! {
    fn du_tells_each_piece_and_all_together(env) {
        env.busybox();
        let context = env.dockerfile(
            "FROM busybox:test AS one\nCOPY files /files\nRUN --mount=type=cache,target=/c head -c 5000 /dev/zero > /c/x\n\
             FROM busybox:test\nRUN true\n",
        );
        let context = context.file("files/same", "x".repeat(200_000)).file("files/other", "1");
        let target = ["--target", "one", "-t", "kept"];
        env.build(&context, &target);
        context.write("files/other", "2");
        env.build(&context, &target);
        env.rbuild(&["rmi", "kept"]).ok();
        env.rbuild(&["image", "prune", "-f"]).ok();

        let outcome = env.rbuild(&["du"]).ok();
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(lines[0]), ["ID", "RECLAIMABLE", "SIZE", "LAST", "ACCESSED"], "{outcome}");
        // The file that both layers of the COPY have is there once, and counted once.
        let sizes = |rows: &[serde_json::Value]| rows.iter().map(|r| r["Size"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        let copies = du(env, &["description=copy"]);
        assert_eq!(sizes(&copies), ["200kB", "200kB"]);
        let total = |filter: &str| {
            let outcome = env.rbuild(&["du", "--filter", filter]).ok();
            let line = outcome.stdout.lines().find(|line| line.starts_with("Total:")).unwrap().to_owned();
            line.split_whitespace().nth(1).unwrap().to_owned()
        };
        assert_eq!(total("description=copy"), "200kB");
        let df = env.rbuild(&["system", "df", "--format", "{{.Type}} {{.Size}}"]).ok();
        let df = df.stdout.lines().find(|line| line.starts_with("Build Cache")).unwrap().to_owned();
        let size: f64 = df.trim_start_matches("Build Cache ").trim_end_matches("kB").parse().unwrap();
        assert!((205.0..240.0).contains(&size), "{df}");

        outcome.has("Reclaimable:").has("Total:").has("Inodes:").has("Free on disk:");
        let mount = &du(env, &["type=exec.cachemount"])[0];
        assert_eq!((&mount["Mutable"], &mount["Size"], &mount["Inodes"]), (&true.into(), &"5kB".into(), &2.into()));
        let verbose = env.rbuild(&["du", "--verbose", "--filter", "immutable", "--filter", "shared=false"]).ok();
        verbose.has_all(&["Created at:   ", "Mutable:      false\n", "Description:  layer (copy)\n", "Usage count:  1\n",
            "Last used:    ", "Type:         regular\n", "Parents:      "]).lacks("exec.cachemount");
        assert_eq!(du(env, &["unused-for=1h"]).len(), 0);
        assert_eq!(du(env, &["inuse"]).len(), 0);
        let format = env.rbuild(&["du", "--filter", "type=exec.cachemount", "--format", "{{.ID}} {{.Size}}"]).ok();
        assert!(format.stdout.ends_with(" 5kB\n"), "{format}");
        env.rbuild(&["du", "--filter", "colour=red"]).exits(2).has("colour");

        // Of two that share a file the first gives but its own bytes.
        let prune = env.rbuild(&["prune", "-f", "--filter", "description=copy", "--max-used-space", "100MB"]).ok();
        prune.prints("Total reclaimed space: 0B\n");
        let prune = env.rbuild(&["prune", "-fv", "--filter", "type=exec.cachemount"]).ok();
        prune.has("Type:         exec.cachemount\n").has("Total reclaimed space: 5.");
    }

    fn limits_of_a_prune(env) {
        env.busybox();
        for number in ["1", "2", "3"] {
            env.build(&big(env, number), &["-t", number]);
        }
        assert_eq!(bigs(env).len(), 3);
        let prune = |args: &[&str]| env.rbuild(&["prune", "-f"]).args(args).ok();
        prune(&["--min-free-space", "1kB"]).prints("Total reclaimed space: 0B\n");
        prune(&["--keep-duration", "24h"]).prints("Total reclaimed space: 0B\n");
        // What is reserved stays, whatever the other limits say.
        prune(&["--max-used-space", "1MB", "--reserved-space", "100MB"]).prints("Total reclaimed space: 0B\n");
        prune(&["--max-used-space", "1MB", "--reserved-space", "5MB"]).has("Total reclaimed space: 3.");
        assert_eq!(bigs(env).len(), 2);
        prune(&["--min-free-inodes", "999999999999", "--reserved-space", "2MB"]);
        assert_eq!(bigs(env).len(), 1);
        env.rbuild(&["builder", "prune", "-f"]).ok().has("Deleted build cache objects:\n");
        assert_eq!(bigs(env).len(), 0);
        env.run(&["3", "cat", "/n"]).ok().prints("3\n");
    }

    /// Room is made for what is to be written, of what nobody needs: the least recently used first.
    fn the_store_stays_below_its_limit(env) {
        env.busybox();
        let build = |number: &str, limit: &str| {
            env.rbuild(&["build", "-t", "app", big(env, number).path()]).var("RBUILD_MAX_USED_SPACE", limit).output()
        };
        build("1", "11MB").ok();
        let first = bigs(env);
        age(env);
        build("2", "11MB").ok();
        let second = bigs(env);
        assert_eq!(second.len(), 2);
        // A third does not fit in: when there is no room left for it, the first goes.
        let limit = format!("{}", fs_size(env) + 1_000_000);
        build("3", &limit).ok();
        let third = bigs(env);
        assert!(!third.contains(&first[0]) && third.len() == 2, "{first:?} {second:?} {third:?}");
        // The images that lost their name give theirs, too; the rest is needed.
        env.rbuild(&["images", "-q"]).ok();
        let outcome = build("4", "1kB").fails();
        let outcome = outcome.has("no room: the store `").has("it may take 1kB (max_used_space)").has("images take ");
        outcome.has("help: `rbuild du` and `rbuild images` show what takes room");
        assert_eq!(bigs(env).len(), 0);
        assert_eq!(env.rbuild(&["images", "-aq"]).ok().stdout.lines().count(), 2);
        env.run(&["app", "cat", "/n"]).ok().prints("3\n");
        // What is all cached writes nothing, and asks for no room.
        env.build(&env.dockerfile("FROM app\nENV A=1\n"), &["-t", "cached"]);
        let cached = env.dockerfile("FROM app\nENV A=1\n");
        env.rbuild(&["build", cached.path()]).var("RBUILD_MAX_USED_SPACE", "1kB").ok();
        env.rbuild(&["images"]).var("RBUILD_MAX_USED_SPACE", "much").exits(2).has("RBUILD_MAX_USED_SPACE: `much` is no size");
    }

    /// While one build waits in a step, another makes room: what the first needs stays.
    fn what_a_running_build_needs_stays(env) {
        env.busybox();
        env.build(&big(env, "needed"), &["-t", "one"]);
        let needed = bigs(env);
        env.build(&big(env, "not"), &["-t", "two"]);
        let both = bigs(env);
        assert_eq!((needed.len(), both.len()), (1, 2));
        age(env);
        let text = BIG.replace("{}", "needed").replace("FROM busybox:test\nCOPY", &format!("{WAITS}FROM busybox:test\nCOPY"));
        let text = text.replace("/n /n", "/big /big");
        let context = env.dockerfile(&text);
        let build = env.rbuild(&["build", "--progress=plain", "-t", "three", context.path()]).spawn();
        build.wait_for("waits\n");
        let other = big(env, "other");
        let refused = env.rbuild(&["build", other.path()]).var("RBUILD_MAX_USED_SPACE", "1kB").fails();
        refused.has("no room: the store `").has("in use by running builds");
        assert_eq!(bigs(env), needed);
        assert!(!meta(env, both.iter().find(|id| !needed.contains(id)).unwrap()).exists());
        let gate = walkdir::WalkDir::new(env.store().join("v1/cache/mounts")).into_iter().map(Result::unwrap);
        let gate = gate.filter(|e| e.file_type().is_dir() && e.file_name() == "0").last().unwrap();
        fs::write(gate.path().join("go"), "").unwrap();
        build.finish().ok().has("3000000 /big");
        env.run(&["three", "wc", "-c", "/big"]).ok().prints("3000000 /big\n");
    }

    /// Builds at once, each of which has to make room, look the same layers up and share them.
    fn builds_at_once_below_a_limit(env) {
        env.busybox();
        for number in ["a", "b", "c"] {
            env.build(&big(env, number), &["-t", number]);
        }
        age(env);
        let limit = format!("{}", fs_size(env) + 4_000_000);
        let contexts: Vec<_> = ["a", "1", "b", "2", "c", "3"].iter().map(|number| (number, big(env, number))).collect();
        let jobs: Vec<_> = contexts
            .iter()
            .map(|(number, context)| {
                let tag = format!("new-{number}");
                let args = ["build", "-t", &tag, context.path()];
                env.rbuild(&args).var("RBUILD_MAX_USED_SPACE", &limit).spawn()
            })
            .collect();
        let ended = jobs.into_iter().map(|job| job.finish());
        ended.filter(|outcome| !outcome.stderr.contains("no room")).for_each(|outcome| drop(outcome.ok()));
        for (number, _) in &contexts {
            let tag = format!("new-{number}");
            if env.rbuild(&["images", "-q", &tag]).ok().stdout.is_empty() {
                // It was one too many at once; alone there is room for it.
                env.rbuild(&["build", "-t", &tag, contexts.iter().find(|(n, _)| n == number).unwrap().1.path()])
                    .var("RBUILD_MAX_USED_SPACE", &limit)
                    .ok();
            }
            env.run(&[&tag, "cat", "/n"]).ok().prints(&format!("{number}\n"));
        }
        // What ended between two looks is cache that goes with the next who wants room: one that writes a few bytes.
        for context in [big(env, "last"), env.dockerfile("FROM busybox:test\nRUN echo few > /few\n")] {
            env.rbuild(&["build", "-t", "last", context.path()]).var("RBUILD_MAX_USED_SPACE", &limit).ok();
        }
        assert!(fs_size(env) <= limit.parse::<u64>().unwrap() + 100_000);
    }

    /// A container from a build step needs layers that no image has.
    fn what_a_container_needs_stays(env) {
        env.busybox();
        let outcome = env.build(&big(env, "1"), &["--target", "made"]);
        env.rbuild(&["image", "prune", "-f"]).ok();
        let (layer, step) = (bigs(env), outcome.step_ids().last().unwrap().to_string());
        assert_eq!(layer.len(), 1);
        let mut container = env.rbuild(&["run", "--rm", "-i", &step, "sh", "-c", "echo waits; read line; cat /n"]).stdin_pipe().spawn();
        container.wait_for("waits\n");
        env.rbuild(&["prune", "-af"]).ok();
        assert_eq!(bigs(env), layer);
        let other = big(env, "2");
        env.rbuild(&["build", other.path()]).var("RBUILD_MAX_USED_SPACE", "1kB").fails().has("no room: ");
        assert_eq!(bigs(env), layer);
        container.write(b"go\n");
        container.finish().ok().has("1\n");
        env.rbuild(&["prune", "-af"]).ok();
        assert!(bigs(env).is_empty());
    }

    fn what_was_not_used_for_days_goes(env) {
        env.busybox();
        env.build(&big(env, "old"), &["-t", "old"]);
        let old = bigs(env);
        let past = SystemTime::now() - Duration::from_secs(3 * 24 * 3600);
        fs::File::open(meta(env, &old[0])).unwrap().set_modified(past).unwrap();
        let new = big(env, "new");
        env.rbuild(&["build", "-t", "new", new.path()]).var("RBUILD_KEEP_DAYS", "7").ok();
        assert_eq!(bigs(env).len(), 2);
        fs::remove_file(env.store().join("v1/pruned")).unwrap();
        let newer = big(env, "newer");
        env.rbuild(&["build", "-t", "newer", newer.path()]).var("RBUILD_KEEP_DAYS", "2").ok();
        let left = bigs(env);
        assert!(left.len() == 2 && !left.contains(&old[0]), "{left:?}");
    }

    /// A step does not start where it would only break off midway.
    fn a_disk_that_is_nearly_full(env) {
        let outcome = on_a_disk(env, "size=30m", "
            rbuild import - busybox:test < $tar || echo refused
            RBUILD_MIN_FREE_SPACE=0 rbuild import - busybox:test < $tar
            printf 'FROM busybox:test\nRUN echo r''an\n' > Dockerfile
            rbuild build . || echo refused again
            RBUILD_MIN_FREE_SPACE=0 rbuild build .
        ");
        let outcome = outcome.ok().has("must stay free; images take 0B, the build cache 0B").ran("ran");
        outcome.has("refused\n").has("refused again\n").has("Successfully built");
        let outcome = on_a_disk(env, "size=200m,nr_inodes=900", "
            rbuild import - busybox:test < $tar || echo refused
            RBUILD_MIN_FREE_INODES=20 rbuild import - busybox:test < $tar
        ");
        outcome.ok().has("inodes are free on the file system of the store").has("1000 must stay free;").has("refused\n");
    }

    fn containers_on_a_disk_that_is_full(env) {
        let outcome = on_a_disk(env, "size=100m", "
            rbuild import - busybox:test < $tar
            rbuild run -d --name full busybox:test sh -c 'trap \"exit 3\" TERM; while :; do sleep 0.1; done'
            rbuild create --name other busybox:test true
            cat /dev/zero > $RBUILD_ROOT/fill || true
            rbuild run --name none busybox:test true || echo refused $?
            rbuild start other || echo not started
            rbuild exec full echo i''nside
            rbuild stop full
            rbuild ps -a --format '{{.Names}} {{.Status}}'
            rbuild rm full other
            rbuild ps -aq | wc -l
            ls $RBUILD_ROOT/v1/tmp $RBUILD_ROOT/v1/containers | wc -l
        ");
        let outcome = outcome.ok().has("refused 125\n").has("not started\n").ran("inside");
        outcome.has("full Exited (3) ").has("other Created\n").has("\n0\n").has("no space left on the device");
    }

    fn room_is_made_on_a_disk(env) {
        let outcome = on_a_disk(env, "size=140m", "
            export RBUILD_MIN_FREE_SPACE=60m
            rbuild import - busybox:test < $tar
            for n in 1 2 3 4; do
                printf 'FROM busybox:test AS made\nRUN head -c 20000000 /dev/zero > /big; echo %s > /n\nFROM busybox:test\nCOPY --from=made /n /n\n' $n > Dockerfile
                rbuild build -q .
                echo built $n, pieces: $(rbuild du --filter type=regular --format '{{.Size}}' | grep -c ^20MB)
            done
            RBUILD_MIN_FREE_SPACE=139m rbuild build --no-cache -q . || echo refused
        ");
        outcome.ok().has("built 1, pieces: 1").has("built 3, pieces: 3").has("built 4, pieces: 3").has("refused\n").has("145.8MB must stay free (min_free_space)");
    }

    /// Before the disk is full a step is stopped, and told why.
    fn a_step_that_writes_too_much(env) {
        let outcome = on_a_disk(env, "size=100m", "
            rbuild import - busybox:test < $tar
            printf 'FROM busybox:test\nRUN while head -c 1000000 /dev/zero >> /x; do usleep 10000; done; echo it is fu$(:)ll; sleep 600\n' > Dockerfile
            RBUILD_MIN_FREE_SPACE=40m rbuild build . || echo refused
            RBUILD_MAX_USED_SPACE=30m rbuild build . || echo refused again
        ");
        let outcome = outcome.ok().lacks("it is full").has("refused\n").has("refused again\n");
        outcome.has("stopped, no room is left: ").has("41.9MB must stay free (min_free_space)").has("and it may take 31.5MB (max_used_space)");
    }

    fn reset(env) {
        env.rbuild(&["system", "reset", "-f"]).ok().has("There is no store at ");
        assert!(!env.store().exists());
        env.busybox();
        // Files of other ids, and directories that nobody may enter.
        let context = env.dockerfile("FROM busybox:test\nRUN --mount=type=cache,target=/c mkdir -p /d/e /c/d && chown -R 7:7 /d /c/d && chmod 0 /d/e /d /c/d\n");
        env.build(&context, &["-t", "app"]);
        let outcome = env.rbuild(&["system", "reset"]).stdin("n\n").ok();
        outcome.has("WARNING! This will remove the store ").has("Are you sure you want to continue? [y/N]");
        env.run(&["app", "true"]).ok();

        let waits = env.dockerfile("FROM busybox:test\nRUN echo waits; sleep 600\n");
        let build = env.rbuild(&["build", "--progress=plain", waits.path()]).spawn();
        build.wait_for("waits\n");
        let outcome = env.rbuild(&["system", "reset", "-f"]).fails();
        let process = format!(", process {}", build.pid());
        outcome.has("is in use: build ").has(&process).has("nothing was removed");
        build.signal(rustix::process::Signal::TERM);
        build.finish();
        env.run(&["app", "true"]).ok();
        env.rbuild(&["system", "reset", "-f"]).ok().has("Removed ");
        assert!(!env.store().exists());

        // What is no store stays as it is.
        let other = env.path("other");
        fs::create_dir(&other).unwrap();
        env.give(&other);
        fs::write(other.join("file"), "mine").unwrap();
        let outcome = env.rbuild(&["--root", other.to_str().unwrap(), "system", "reset", "-f"]).fails();
        outcome.has("is no store of rbuild's");
        assert_eq!(fs::read_to_string(other.join("file")).unwrap(), "mine");
    }
}

/// The bytes of all files in the store.
fn fs_size(env: &TestEnv) -> u64 {
    let files = walkdir::WalkDir::new(env.store()).into_iter().map(Result::unwrap);
    files.filter(|e| e.file_type().is_file()).map(|e| e.metadata().unwrap().len()).sum()
}
