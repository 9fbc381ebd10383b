//! What containers have changed: `diff`, `commit`, `export` and `cp`; also while they run, and against them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::common::TestEnv;
use super::common::env::is_id;

/// Changes of every kind, and a volume, whose files are not the container's.
const CHANGES: &str = "mkdir -p /new/dir && echo a > /new/dir/f && echo b >> /etc/group && rm /etc/passwd \
    && rm -r /tmp && mkdir /tmp && echo t > /tmp/t && chmod 700 /home && echo v > /vol/f && ln -s f /new/dir/l";

/// Makes a container named `cc` that has changed its files and ended.
fn changed(env: &TestEnv, options: &[&str]) {
    env.busybox();
    let file = "FROM busybox:test\nRUN mkdir -p /home /tmp && echo old > /tmp/old && echo x > /tmp/t\nENV A=1\nCMD [\"sh\"]\n";
    env.build(&env.dockerfile(file), &["-t", "base"]);
    let args = [&["run", "--name", "cc", "-v", "/vol"], options, &["base", "sh", "-c", CHANGES]].concat();
    env.rbuild(&args).ok();
}

const DIFF: &str = "C /etc\nC /etc/group\nD /etc/passwd\nC /home\nA /new\nA /new/dir\nA /new/dir/f\nA /new/dir/l\n\
    C /tmp\nD /tmp/old\nC /tmp/t\n";

/// Starts a container named `live` that goes on; waits until it has written `/ready`.
fn live(env: &TestEnv, script: &str) {
    let script = format!("{script}; touch /ready; while :; do sleep 1; done");
    env.rbuild(&["run", "-d", "--name", "live", "base", "sh", "-c", &script]).ok();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !env.rbuild(&["cp", "-q", "live:/ready", "-"]).output().stderr.is_empty() {
        assert!(std::time::Instant::now() < deadline, "the container does not get ready");
    }
}

fn tar_names(env: &TestEnv, path: &str) -> String {
    env.program("tar", &["-tf", path]).ok().stdout
}

both! {
    fn diff_is_dockers(env) {
        changed(env, &[]);
        env.rbuild(&["diff", "cc"]).ok().prints(DIFF);
        env.rbuild(&["container", "diff", "cc"]).ok().prints(DIFF);
        env.rbuild(&["diff", "none"]).exits(1).has("No such container: none");
        // What was touched counts, whatever it holds.
        env.rbuild(&["run", "--name", "tt", "base", "touch", "/etc/group"]).ok();
        env.rbuild(&["diff", "tt"]).ok().prints("C /etc\nC /etc/group\n");
        env.rbuild(&["create", "--name", "nn", "base"]).ok();
        env.rbuild(&["diff", "nn"]).ok().prints("");
        live(env, "echo x > /etc/live");
        env.rbuild(&["diff", "live"]).ok().prints("C /etc\nA /etc/live\nA /ready\n");
        env.rbuild(&["rm", "-f", "live", "cc", "tt", "nn"]).ok();
    }

    /// The other snapshotters tell the same of a container that has ended.
    fn diff_and_commit_without_overlay(env) {
        changed(env, &["--snapshotter", "copy"]);
        env.rbuild(&["diff", "--snapshotter", "copy", "cc"]).output();
        env.rbuild(&["diff", "cc"]).ok().prints(DIFF);
        let id = env.rbuild(&["commit", "cc", "made:1"]).ok().stdout;
        assert!(is_id(id.trim()), "{id}");
        env.run(&["made:1", "cat", "/new/dir/l", "/tmp/t"]).ok().prints("a\nt\n");
        env.rbuild(&["rm", "-v", "cc"]).ok();
    }

    fn commit_makes_an_image(env) {
        changed(env, &["-e", "B=2", "-w", "/etc"]);
        let id = env.rbuild(&["commit", "-a", "Ann", "-m", "why", "cc", "made:1"]).ok().stdout.trim().to_owned();
        assert!(is_id(&id), "{id}");
        let (base, made) = (env.inspect("base"), env.inspect("made:1"));
        let layers = |image: &serde_json::Value| image["RootFS"]["Layers"].as_array().unwrap().clone();
        assert_eq!(layers(&made)[..layers(&base).len()], layers(&base)[..]);
        assert_eq!(layers(&made).len(), layers(&base).len() + 1);
        assert_eq!((made["Author"].as_str(), made["Comment"].as_str()), (Some("Ann"), Some("why")));
        assert_eq!(made["Config"]["WorkingDir"], "/etc");
        assert_eq!(made["Config"]["Cmd"], serde_json::json!(["sh", "-c", CHANGES]));
        let env_of = made["Config"]["Env"].as_array().unwrap();
        assert!(env_of.contains(&"A=1".into()) && env_of.contains(&"B=2".into()), "{env_of:?}");
        env.rbuild(&["history", "--no-trunc", "made:1"]).ok().has("sh -c mkdir -p /new/dir").has("why");
        // The same container is the same image; its files are not the image's.
        assert_eq!(env.rbuild(&["commit", "-a", "Ann", "-m", "why", "cc"]).ok().stdout.trim(), id);
        env.run(&["made:1", "sh", "-c", "cat /new/dir/f /tmp/t; ls /tmp; test ! -e /etc/passwd && test ! -e /vol/f"]).ok().prints("a\nt\nt\n");
        env.rbuild(&["commit", "-c", "CMD [\"echo\", \"hi\"]", "-c", "ENV A=$A-2", "-c", "USER 1000", "cc", "made:2"]).ok();
        env.run(&["made:2"]).ok().prints("hi\n");
        env.run(&["made:2", "sh", "-c", "echo $A; id -u"]).ok().prints("1-2\n1000\n");
        // The comment is this image's, not that of what is beneath it.
        assert_eq!(env.inspect("made:2")["Comment"], "");
        env.rbuild(&["commit", "-c", "RUN x", "cc", "made:3"]).exits(2).has("`RUN` cannot be used");
        env.rbuild(&["commit", "cc", "Bad Name"]).exits(2);
        env.rbuild(&["commit", "none"]).exits(1).has("No such container: none");
        // Without a change there is no layer.
        env.rbuild(&["create", "--name", "nn", "base"]).ok();
        env.rbuild(&["commit", "nn", "same"]).ok();
        assert_eq!(layers(&env.inspect("same")), layers(&base));
        env.rbuild(&["rm", "-v", "cc", "nn"]).ok();
    }

    /// A container is held still for as long as its files are read, and goes on then.
    fn commit_of_one_that_runs(env) {
        changed(env, &[]);
        live(env, "(while :; do for f in a b c d; do date +%N > /$f; done; done) & echo one > /one");
        for pause in ["--pause=true", "--pause=true", "-p"] {
            env.rbuild(&["commit", pause, "live", "made"]).ok();
            env.run(&["made", "cat", "/one"]).ok().prints("one\n");
        }
        let before = env.rbuild(&["cp", "live:/a", "-"]).ok().stdout;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while env.rbuild(&["cp", "live:/a", "-"]).output().stdout == before {
            assert!(std::time::Instant::now() < deadline, "it does not go on");
        }
        env.rbuild(&["rm", "-f", "live", "cc"]).ok();
    }

    fn export_writes_the_merged_files(env) {
        changed(env, &[]);
        let file = env.path_str("c.tar");
        env.rbuild(&["export", "-o", &file, "cc"]).ok().prints("");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        let names = tar_names(env, &file);
        assert!(names.contains("new/dir/l\n") && names.contains("tmp/t\n"), "{names}");
        for gone in ["etc/passwd", "tmp/old", "vol/f", ".wh."] {
            assert!(!names.contains(gone), "{gone} in {names}");
        }
        env.rbuild(&["import", &file, "flat"]).ok();
        env.run(&["flat", "cat", "/new/dir/f"]).ok().prints("a\n");
        live(env, "echo x > /live");
        env.rbuild(&["export", "-o", &file, "live"]).ok();
        let names = tar_names(env, &file);
        assert!(names.contains("live\n") && names.contains("ready\n") && !names.contains("proc/1"), "{names}");
        // Images are exported as before.
        env.rbuild(&["export", "-o", &file, "base"]).ok();
        assert!(tar_names(env, &file).contains("tmp/old\n"));
        env.rbuild(&["rm", "-fv", "live", "cc"]).ok();
    }

    fn cp_moves_files_both_ways(env) {
        changed(env, &[]);
        let host = env.path_str("host");
        fs::create_dir(&host).unwrap();
        env.give(Path::new(&host));
        let at = |name: &str| format!("{host}/{name}");
        live(env, "mkdir /d && echo live > /d/f && chown 1000:1001 /d/f && chmod 4755 /d/f");
        for (container, text) in [("cc:/new/dir", "a\n"), ("live:/d", "live\n")] {
            let name = container.rsplit('/').next().unwrap();
            env.rbuild(&["cp", container, &host]).ok().has("Successfully copied");
            assert_eq!(fs::read_to_string(at(&format!("{name}/f"))).unwrap(), text);
            env.rbuild(&["cp", "-q", &format!("{container}/."), &at(&format!("{name}-2"))]).ok();
            assert_eq!(fs::read_to_string(at(&format!("{name}-2/f"))).unwrap(), text);
        }
        // Out of it: the caller's, and without rights of its own.
        let copied = fs::metadata(at("d/f")).unwrap();
        let own = env.ids().map_or(0, |ids| ids.uid);
        assert_eq!((copied.uid(), copied.mode() & 0o7777), (own, 0o755));
        fs::write(at("in"), "in\n").unwrap();
        fs::create_dir_all(at("tree/sub")).unwrap();
        fs::write(at("tree/sub/g"), "g\n").unwrap();
        for container in ["live", "cc"] {
            env.rbuild(&["cp", &at("in"), &format!("{container}:/etc/given")]).ok();
            env.rbuild(&["cp", "-q", &at("tree"), &format!("{container}:/opt")]).ok();
            env.rbuild(&["cp", "-q", &at("tree/."), &format!("{container}:/opt")]).ok();
            let tar = env.rbuild(&["cp", &format!("{container}:/opt"), "-"]).ok();
            assert!(tar.stdout.contains("opt/sub/g"), "{container}");
            env.rbuild(&["cp", &at("none"), &format!("{container}:/")]).exits(1).has("No such file or directory");
            env.rbuild(&["cp", &format!("{container}:/none"), &host]).exits(1).has(&format!("No such container:path: {container}:/none"));
            env.rbuild(&["cp", &at("tree"), &format!("{container}:/etc/given")]).exits(1).has("cannot copy directory");
            env.rbuild(&["cp", &at("in"), &format!("{container}:/none/")]).exits(1).has("no such directory");
        }
        // As tar and docker write what is in a directory: who strips one name keeps the others.
        env.rbuild(&["cp", "live:/opt/.", "-"]).ok().has("./sub/g");
        env.rbuild(&["cp", "", "live:/"]).exits(2).has("source can not be empty");
        env.rbuild(&["cp", "live:/etc/given", ""]).exits(2).has("destination can not be empty");
        env.rbuild(&["cp", "a", "b"]).exits(2).has("must specify at least one container source");
        env.rbuild(&["cp", "cc:/a", "live:/b"]).exits(2).has("copying between containers is not supported");
        env.rbuild(&["commit", "live", "made"]).ok();
        env.run(&["made", "sh", "-c", "cat /etc/given /opt/sub/g; stat -c %u:%g /etc/given"]).ok().prints("in\ng\n0:0\n");
        // What was copied into one that did not run is there when it does, and in its volumes.
        env.rbuild(&["cp", &at("in"), "cc:/vol/in"]).ok();
        env.rbuild(&["cp", "cc:/vol", &at("vol")]).ok();
        assert_eq!(fs::read_to_string(at("vol/in")).unwrap() + &fs::read_to_string(at("vol/f")).unwrap(), "in\nv\n");
        env.rbuild(&["commit", "-c", "CMD [\"cat\", \"/etc/given\"]", "cc", "late"]).ok();
        env.run(&["late"]).ok().prints("in\n");
        let tar = env.path_str("t.tar");
        env.program("tar", &["-czf", &tar, "-C", &at("tree"), "."]).ok();
        env.rbuild(&["cp", "-", "live:/home"]).stdin_file(&tar).ok();
        env.rbuild(&["cp", "live:/home/sub/g", &at("back")]).ok();
        assert_eq!(fs::read_to_string(at("back")).unwrap(), "g\n");
        env.rbuild(&["rm", "-fv", "live", "cc"]).ok();
    }

    /// A container that swaps a directory and a link, again and again, leads nobody anywhere.
    fn a_container_that_swaps_names(env) {
        changed(env, &[]);
        let host = env.path_str("host");
        fs::create_dir(&host).unwrap();
        env.give(Path::new(&host));
        let secret = env.path_str("secret");
        fs::write(&secret, "of the host").unwrap();
        let outside = Path::new(&secret).parent().unwrap().to_str().unwrap().to_owned();
        let swap = format!(
            "mkdir /real && echo inside > /real/secret && ln -s {outside} /lnk && mkdir /x && echo inside > /x/secret; \
             (while :; do mv /x /y; ln -s {outside} /x; rm /x; mv /y /x; done) &"
        );
        live(env, &swap.replace(" &", " & true"));
        fs::write(format!("{host}/in"), "written").unwrap();
        for round in 0..12 {
            let to = format!("{host}/out{round}");
            // Any of these may fail, for the name is gone or a link; none may be led astray.
            env.rbuild(&["cp", "-q", "live:/x/secret", &to]).output();
            env.rbuild(&["cp", "-qL", "live:/x", &format!("{to}.d")]).output();
            env.rbuild(&["cp", "-q", &format!("{host}/in"), "live:/x/secret"]).output();
            if round % 4 == 0 {
                env.rbuild(&["export", "-o", &format!("{to}.tar"), "live"]).output();
                env.rbuild(&["commit", "live", "made"]).output();
            }
        }
        assert_eq!(fs::read_to_string(&secret).unwrap(), "of the host");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "nothing was written there");
        for entry in walkdir::WalkDir::new(&host).into_iter().map(Result::unwrap) {
            if entry.file_type().is_file() {
                let bytes = fs::read(entry.path()).unwrap();
                let found = bytes.windows(11).any(|window| window == b"of the host");
                assert!(!found, "{} holds what is outside", entry.path().display());
            }
        }
        env.rbuild(&["rm", "-fv", "live", "cc"]).ok();
    }
}
