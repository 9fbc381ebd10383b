//! `RUN --mount` and `RUN --security`: what steps see, what is in the key, what is left.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use super::common::Caged;
use super::common::Outcome;
use super::common::TestEnv;
use super::common::skip;

/// A secret that nothing but its reader may ever hold.
const CANARY: &str = "canary-8e1f44c0";

/// Requires that no file of the store holds the secret, as text or as base64.
#[track_caller]
fn store_has_no_canary(env: &TestEnv) {
    let mut read = 0;
    for entry in walkdir::WalkDir::new(env.store()).into_iter().flatten() {
        if !entry.file_type().is_file() {
            continue;
        }
        let bytes = fs::read(entry.path()).unwrap();
        read += 1;
        let found = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!found, "the secret is in {}", entry.path().display());
    }
    assert!(read > 10, "the store was looked at");
}

/// Requires lines that a step printed one after the other, whatever stage it is of.
#[track_caller]
fn shows(outcome: Outcome, lines: &str) -> Outcome {
    let plain = |line: &str| match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((_, rest)) => format!("{rest}\n"),
        None => format!("{line}\n"),
    };
    let text: String = outcome.both.lines().map(plain).collect();
    assert!(text.contains(&format!("\n{lines}")), "`{lines}` expected\n{outcome}");
    outcome
}

/// The paths in the store that are directories of cache mounts.
fn cache_instances(env: &TestEnv) -> usize {
    let entries = walkdir::WalkDir::new(env.store().join("v1/cache/mounts")).min_depth(2).max_depth(2);
    entries.into_iter().flatten().filter(|entry| entry.file_type().is_dir()).count()
}

both! {
    fn a_bind_mount_shows_the_context_as_copy_would_take_it(env) {
        env.busybox();
        let ctx = env.context()
            .file(".dockerignore", "hidden\n**/*.log\n")
            .file("a", "one\n").file("hidden", "h").file("d/x.log", "log").file("d/y", "why\n")
            .file("Dockerfile",
                "FROM busybox:test\n\
                 RUN --mount=target=/src find /src | sort; stat -c '%u:%g %n' /src/a; cat /src/a; ! touch /src/new\n\
                 RUN --mount=type=bind,source=d,target=/d echo d: $(ls /d); ! ls /src\n\
                 RUN --mount=source=d/y,target=/etc/y,rw cat /etc/y; echo more >> /etc/y; cat /etc/y\n\
                 RUN ls /src /d /etc/y 2>&1 | grep -c 'No such file'\n");
        let first = env.build(&ctx, &[]);
        let first = first.ran("/src/d/y").has("0:0 /src/a").ran("one").ran("d: y").has("why\nmore\n");
        for hidden in ["hidden", "x.log"] {
            assert!(!first.both.lines().any(|l| l.contains(hidden) && !l.contains("Step")), "{hidden}\n{first}");
        }
        assert_eq!(fs::read_to_string(ctx.at("d/y")).unwrap(), "why\n");
        // What does not show is not in the key; what shows is.
        ctx.write("hidden", "other");
        ctx.write("d/x.log", "other");
        let again = env.build(&ctx, &[]);
        assert_eq!(again.cached(), 4, "{again}");
        ctx.write("a", "two\n");
        let changed = env.build(&ctx, &[]);
        let changed = changed.ran("two");
        assert_eq!(changed.cached(), 3, "only the step that sees it runs\n{changed}");
    }

    fn one_mount_inside_another(env) {
        env.busybox();
        let ctx = env.context().file("a", "one\n").file("Dockerfile",
            "FROM busybox:test\n\
             RUN --mount=type=cache,target=/src/made/c --mount=target=/src,rw touch /src/made/c/x; cat /src/a; ls /src/made\n\
             RUN --mount=type=cache,target=/c,id=/src/made/c --mount=type=tmpfs,target=/c/t --mount=type=secret,id=a,target=/c/t/s ls /c; cat /c/t/s; ! ls /src\n");
        let built = env.build(&ctx, &["--secret", &format!("id=a,src={}", ctx.at("a"))]);
        shows(shows(built, "one\nc\n"), "t\nx\none\n");
        assert!(!fs::exists(ctx.at("made")).unwrap());
    }

    fn a_bind_mount_is_what_was_digested(env) {
        env.busybox();
        let ctx = env.context().file("f", "before\n").file("Dockerfile",
            "FROM busybox:test\nRUN --mount=source=f,target=/f echo after > /host/f; echo saw $(cat /f)\n");
        env.build(&ctx, &["-v", &format!("{}:/host", ctx.path())]).ran("saw before");
        assert_eq!(fs::read_to_string(ctx.at("f")).unwrap(), "after\n");
    }

    fn bind_mounts_of_stages_and_images(env) {
        env.busybox();
        let text = |extra: &str| format!(
            "FROM busybox:test AS a\nRUN mkdir /out; echo built > /out/f; chown app /out/f; ln -s /out /link; ln -s f /out/l{extra}\n\
             FROM busybox:test\n\
             RUN --mount=from=a,source=/out,target=/m echo see $(cat /m/f) $(stat -c %U /m/f); ! touch /m/n\n\
             RUN --mount=from=a,source=link,target=/m,rw touch /m/n; rm /m/f; ls /m; echo wrote\n\
             RUN --mount=from=a,source=out/l,target=/one/file cat /one/file; echo single\n\
             RUN --mount=from=busybox:test,target=/m echo image $(ls /m/bin/sh); ! ls /one\n\
             RUN --mount=from=a,target=/all cat /all/out/f; echo whole\n");
        let ctx = env.dockerfile(&text(""));
        let built = env.build(&ctx, &[]).ran("see built app").ran("image /m/bin/sh");
        shows(shows(shows(built, "l\nn\nwrote\n"), "built\nsingle\n"), "built\nwhole\n");
        // The stage is another, what is mounted of it is not: only the last step sees the difference.
        ctx.write("Dockerfile", text("; echo x > /other"));
        env.build(&ctx, &[]).did_not_run("see built app").did_not_run("wrote").did_not_run("single").ran("whole");
    }

    fn a_bind_mount_of_nothing_is_an_error_with_its_line(env) {
        env.busybox();
        for (mount, name) in [("source=nope,target=/m", "\"/nope\": not found"), ("from=a,source=no/pe,target=/m", "\"/no/pe\": not found")] {
            let ctx = env.dockerfile(&format!("FROM busybox:test AS a\nFROM busybox:test\nRUN --mount={mount} true\n"));
            env.try_build(&ctx, &[]).fails().has("failed to calculate checksum").has(name).has("Dockerfile:3:1");
        }
        let ctx = env.dockerfile("FROM busybox:test\nRUN --mount=source=secret,target=/m true\n").file("secret", "x").file(".dockerignore", "secret\n");
        env.try_build(&ctx, &[]).fails().has("\"/secret\": not found");
        let unknown = env.dockerfile("FROM busybox:test\nRUN --mount=type=bind,bind-propagation=rshared,target=/m true\n");
        env.try_build(&unknown, &[]).fails().has("unexpected key 'bind-propagation'");
    }

    fn a_cache_mount_outlives_the_build_and_is_in_no_image(env) {
        env.busybox();
        let ctx = env.dockerfile(
            "FROM busybox:test\nARG N\n\
             RUN --mount=type=cache,target=/var/c echo run $N; ls -A /var/c; touch /var/c/f$N; mkdir -p /var/c/deep/er\n\
             RUN --mount=type=cache,target=/elsewhere,id=/var/c,ro ls /elsewhere; ! touch /elsewhere/x\n\
             RUN ls -d /var/c /var /elsewhere 2>&1 | grep -c 'No such file'\n");
        env.build(&ctx, &["--build-arg", "N=1"]).ran("run 1").ran("f1").ran("3");
        // Its content is in no key.
        env.build(&ctx, &["--build-arg", "N=1"]).did_not_run("run 1");
        env.build(&ctx, &["--build-arg", "N=2"]).has("run 2\ndeep\nf1\n");
        env.build(&ctx, &["--build-arg", "N=2", "--no-cache"]).has("run 2\ndeep\nf1\nf2\n");
        assert_eq!(cache_instances(env), 1);
        let emptied = env.build(&ctx, &["--build-arg", "N=3", "--no-cache-mounts"]);
        // Once in a build: the second step sees what the first one wrote.
        let emptied = emptied.ran("run 3").has("deep\nf3\n");
        assert!(!emptied.printed("f1"), "{emptied}");
        // Images do not keep it, and their removal does not take it.
        env.build(&ctx, &["-t", "x", "--build-arg", "N=3"]);
        env.rbuild(&["rmi", "x"]).ok();
        env.build(&ctx, &["--build-arg", "N=4"]).has("run 4\ndeep\nf3\n");
    }

    fn what_makes_two_cache_mounts_one(env) {
        env.busybox();
        let ctx = env.dockerfile(
            "FROM busybox:test AS seed\nRUN mkdir -p /s/d; echo seeded > /s/d/f; chown -R app /s/d\n\
             FROM busybox:test\n\
             RUN --mount=type=cache,target=/c,id=x,mode=0750,uid=1000,gid=1001 stat -c '%a %U:%G' /c; touch /c/own\n\
             RUN --mount=type=cache,target=/c,id=x ls -A /c; echo other; stat -c '%a %U:%G' /c\n\
             RUN --mount=type=cache,target=/c,id=x,from=seed,source=/s cat /c/d/f; stat -c %U /c/d/f; echo changed > /c/d/f\n\
             RUN --mount=type=cache,target=/c,id=x,from=seed,source=s cat /c/d/f; echo again\n\
             RUN --mount=type=cache,target=/c,id=x,source=in/side echo inner > /c/i\n\
             RUN --mount=type=cache,target=/c,id=x cat /c/in/side/i\n");
        let built = env.build(&ctx, &[]);
        let mut built = built.ran("750 app:app").ran("inner");
        for lines in ["other\n755 root:root\n", "seeded\napp\n", "changed\nagain\n"] {
            built = shows(built, lines);
        }
        assert!(!built.printed("own"), "{built}");
        assert_eq!(cache_instances(env), 3);
        let file = env.dockerfile("FROM busybox:test\nRUN --mount=type=cache,target=/c,from=busybox:test,source=etc/passwd true\n");
        env.try_build(&file, &[]).fails().has("cannot start with `/etc/passwd`").has("Dockerfile:2:1");
    }

    /// One that locks lets nobody in, one that is private gets its own, whoever shares, shares.
    fn cache_mounts_of_parallel_stages(env) {
        env.busybox();
        let step = |sharing: &str, name: &str| format!(
            "FROM busybox:test AS {name}\n\
             RUN --mount=type=cache,target=/c,id={sharing},sharing={sharing} for i in $(seq 200); do n=$(cat /c/n 2>/dev/null || echo 0); echo $((n+1)) > /c/n; done; touch /out-{name}; echo count {sharing} $(cat /c/n)\n");
        let mut text: String = ["locked", "private"].iter().flat_map(|sharing| (0..4).map(move |i| step(sharing, &format!("{sharing}{i}")))).collect();
        text.push_str("FROM scratch\n");
        for sharing in ["locked", "private"] {
            for i in 0..4 {
                text.push_str(&format!("COPY --from={sharing}{i} /out-{sharing}{i} /\n"));
            }
        }
        let built = env.build(&env.dockerfile(&text), &[]);
        let built = built.ran("count locked 800");
        // However many were made: none lost an update to another.
        let counts = built.both.lines().filter_map(|l| l.split_once("count private ")?.1.trim().parse::<u32>().ok());
        assert!(counts.clone().count() == 4 && counts.clone().all(|n| n % 200 == 0), "{built}");
        // Two that meet, or neither ends.
        let meet = |me: &str, other: &str| format!(
            "FROM busybox:test AS {me}\nRUN --mount=type=cache,target=/c,id=meet touch /c/{me} /o-{me}; until test -e /c/{other}; do usleep 1000; done\n");
        let text = format!("{}{}FROM scratch\nCOPY --from=one /o-one /\nCOPY --from=two /o-two /\n", meet("one", "two"), meet("two", "one"));
        env.build(&env.dockerfile(&text), &[]);
    }

    /// Two builds lock the same caches, written in another order: both end. A third is stopped while it waits.
    fn locked_caches_of_two_builds(env) {
        env.busybox();
        let text = |a: &str, b: &str| format!(
            "FROM busybox:test\nRUN --mount=type=cache,sharing=locked,target=/{a} --mount=type=cache,sharing=locked,target=/{b} echo held {a}{b}; for i in $(seq 50); do test ! -e /x/lock || exit 9; touch /x/lock; rm /x/lock; done; echo went\n");
        let contexts = [env.dockerfile(&text("x", "y")), env.dockerfile(&text("y", "x"))];
        for _ in 0..5 {
            let jobs: Vec<_> = contexts.iter().map(|ctx| env.rbuild(&["build", "--no-cache", ctx.path()]).spawn()).collect();
            for job in jobs {
                job.finish().ok().ran("went");
            }
        }
        let holder = env.dockerfile("FROM busybox:test\nRUN --mount=type=cache,sharing=locked,target=/x echo hol''ding; sleep 86400\n");
        let holding = Caged::start(env, &env.rbuild(&["build", holder.path()]));
        holding.wait_for("holding\n");
        let waiting = Caged::start(env, &env.rbuild(&["build", "--no-cache", contexts[0].path()]));
        waiting.wait_for("Step 2/2");
        waiting.signal(Signal::INT);
        let (code, said) = waiting.finish();
        assert_eq!(code, 130, "{said}");
        holding.signal(Signal::KILL);
        holding.finish();
        // Its lock went with it.
        env.build(&contexts[0], &["--no-cache"]).ran("went");
    }

    fn a_tmpfs(env) {
        env.busybox();
        let ctx = env.dockerfile(
            "FROM busybox:test\nWORKDIR /w\n\
             RUN --mount=type=tmpfs,target=t,size=1m stat -f -c %T /w/t; stat -c %a t; ! dd if=/dev/zero of=t/f bs=1k count=2048 2>&1; ls t\n\
             RUN ls -A /w; echo empty\n");
        let built = env.build(&ctx, &[]);
        let built = built.has("tmpfs\n1777\n").has("No space left");
        assert!(built.both.contains(": empty\n") || built.printed("empty"), "{built}");
    }

    fn secrets(env) {
        env.busybox();
        let secret = env.context().file("s", CANARY);
        let given = format!("id=s,src={}", secret.at("s"));
        let sum = sha256(CANARY.as_bytes());
        let ctx = env.dockerfile(
            "FROM busybox:test\nUSER root\n\
             RUN --mount=type=secret,id=s sha256sum < /run/secrets/s; stat -c '%a %u:%g' /run/secrets/s; ! sh -c 'echo x > /run/secrets/s'\n\
             RUN --mount=type=secret,id=s,target=/etc/k,mode=0440,uid=7,gid=8 stat -c '%a %u:%g %n' /etc/k; sha256sum /etc/k\n\
             RUN --mount=type=secret,id=s,env=X printf %s $X | sha256sum; ls /run/secrets 2>&1; echo var\n\
             RUN --mount=type=secret,id=s,env=X,target=/k printf %s $X | sha256sum; sha256sum /k; echo both\n\
             RUN --mount=type=secret,id=none --mount=type=secret,id=none2,env=NONE ls /run/secrets 2>&1; echo optional ${NONE-unset}\n\
             RUN ls -d /etc/k /k /run/secrets 2>&1 | grep -c 'No such file'; echo gone\n");
        let built = env.build(&ctx, &["--secret", &given, "-t", "x"]);
        assert_eq!(built.both.matches(&sum).count(), 5, "{built}");
        let built = built.ran("400 0:0").ran("440 7:8 /etc/k").has("No such file").ran("optional unset").has("3\ngone\n");
        let told = format!("{}{}", built, env.rbuild(&["history", "--no-trunc", "x"]).ok());
        assert!(!told.contains(CANARY), "{told}");
        // The value is in no key, the id is.
        secret.write("s", "another");
        assert_eq!(env.build(&ctx, &["--secret", &given]).cached(), 7);
        assert_eq!(env.build(&ctx, &[]).cached(), 7);
        let named = |id: &str| format!("FROM busybox:test\nRUN --mount=type=secret,id={id},target=/k sha256sum /k\n");
        for id in ["s", "t"] {
            ctx.write("Dockerfile", named(id));
            env.build(&ctx, &["--secret", &format!("id={id},src={}", secret.at("s"))]).has(&sha256(b"another"));
        }
        // By variable, found by its name.
        let ctx = env.dockerfile("FROM busybox:test\nRUN --mount=type=secret,id=TOKEN,required sha256sum < /run/secrets/TOKEN\n");
        let token = |args: &[&str]| env.rbuild(&["build", "--no-cache"]).args(args).args(&[ctx.path()]).var("TOKEN", CANARY);
        token(&["--secret", "id=TOKEN"]).ok().has(&sum);
        token(&["--secret", "type=env,id=TOKEN"]).ok().has(&sum);
        store_has_no_canary(env);
    }

    fn secrets_that_are_missing_or_too_large(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN --mount=type=secret,id=s,required cat /run/secrets/s\n")
            .file("large", vec![b'x'; 512_001]);
        env.try_build(&ctx, &[]).fails().has("secret s: not found").has("Dockerfile:2:1").has("--secret id=s,src=FILE");
        env.try_build(&ctx, &["--secret", &format!("id=s,src={}", ctx.at("large"))]).exits(2).has("500 kB");
        env.try_build(&ctx, &["--secret", "id=s,src=/no/such"]).exits(2).has("/no/such");
        env.try_build(&ctx, &["--secret", "id=s,env=NOT_SET"]).exits(2).has("NOT_SET");
    }

    /// Of builds that fail and that are killed, too.
    fn no_secret_is_left_in_the_store(env) {
        env.busybox();
        let file = env.context().file("s", CANARY);
        let given = format!("id=s,src={}", file.at("s"));
        let mount = "--mount=type=secret,id=s,env=S,target=/run/secrets/s";
        let fails = env.dockerfile(&format!("FROM busybox:test\nRUN {mount} test -n \"$S\" && cat /run/secrets/s >/dev/null; exit 3\n"));
        let failed = env.try_build(&fails, &["--secret", &given]).fails();
        assert!(!failed.both.contains(CANARY), "{failed}");
        store_has_no_canary(env);
        let hangs = env.dockerfile(&format!("FROM busybox:test\nRUN {mount} echo rea''dy; sleep 86400\n"));
        for signal in [Signal::INT, Signal::KILL] {
            let job = Caged::start(env, &env.rbuild(&["build", "--secret", &given, hangs.path()]));
            job.wait_for("ready\n");
            job.signal(signal);
            job.finish();
            store_has_no_canary(env);
        }
    }

    /// A real agent, and the real ssh-add in the step.
    fn an_ssh_agent(env) {
        if !std::path::Path::new("/usr/bin/ssh-agent").exists() {
            return skip("no ssh-agent (the package openssh-client)");
        }
        env.busybox();
        let keys = env.context();
        let keygen = |name: &str, phrase: &str| {
            env.program("ssh-keygen", &["-q", "-t", "ed25519", "-N", phrase, "-C", name, "-f", &keys.at(name)]).ok();
        };
        keygen("first", "");
        keygen("second", "");
        keygen("locked", "phrase");
        let agent_dir = env.tmp().join("agent");
        let socket = agent_dir.to_str().unwrap().to_owned();
        // It ends with its shell, whose input is ours.
        let script = format!("ssh-add -q {} && echo ready; read end; ssh-add -l; kill $SSH_AGENT_PID", keys.at("first"));
        let mut agent = env.program("ssh-agent", &["-a", &socket, "sh", "-c", &script]).stdin_pipe().spawn();
        agent.wait_for("ready\n");
        let ctx = with_ssh_add(env).file("Dockerfile",
            "FROM busybox:test\nCOPY root /\n\
             RUN --mount=type=ssh ssh-add -l; stat -c '%F %a %u:%g' $SSH_AUTH_SOCK; echo at $SSH_AUTH_SOCK\n\
             RUN --mount=type=ssh,id=default,target=/s,mode=0666,uid=7,gid=8 stat -c '%a %u:%g' /s; ! ssh-add -D; ! ssh-add -x </dev/null; ssh-add -l; echo still\n\
             USER app\nRUN --mount=type=ssh,uid=1000 ssh-add -l; ls -l /proc/self/fd 2>/dev/null | grep -c socket; ls /run/buildkit | wc -l\n\
             USER root\nRUN echo after ${SSH_AUTH_SOCK-unset}; ls /run/buildkit 2>&1 | grep -c 'No such'\n");
        let build = |args: &[&str]| env.rbuild(&["build", "--no-cache"]).args(args).args(&[ctx.path()]).var("SSH_AUTH_SOCK", &socket).output();
        let built = build(&["--ssh", "default"]).ok();
        assert_eq!(built.both.matches("first (ED25519)").count(), 3, "{built}");
        let built = built.has("socket 600 0:0\nat /run/buildkit/ssh_agent.0\n").ran("666 7:8").ran("still").ran("after unset");
        // No descriptor of ours is among those of the step, and of agents there is the one socket.
        let built = shows(built, "0\n1\n");
        drop(built);
        // The caller's agent keeps its key.
        let by_path = build(&["--ssh", &format!("default={socket}")]).ok();
        assert_eq!(by_path.both.matches("first (ED25519)").count(), 3, "{by_path}");
        agent.write(b"\n");
        agent.finish().ok().has("first (ED25519)");
        // Keys: an agent of the build's own.
        let keys_given = format!("default={},{}", keys.at("first"), keys.at("second"));
        let built = build(&["--ssh", &keys_given]).ok();
        assert_eq!((built.both.matches("first (ED25519)").count(), built.both.matches("second (ED25519)").count()), (3, 3), "{built}");
        let locked = format!("default={}", keys.at("locked"));
        build(&["--ssh", &locked]).fails().has("ssh-add").has("locked").has("passphrase").has("Dockerfile:3:1");
        assert_eq!(fs::read_dir(env.tmp()).unwrap().count(), 0, "what the agents needed is gone");
    }

    fn an_ssh_agent_that_is_missing(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN --mount=type=ssh echo sock ${SSH_AUTH_SOCK-unset}; ls /run/buildkit 2>&1; true\nRUN --mount=type=ssh,id=x,required true\n");
        env.try_build(&ctx, &[]).fails().ran("sock unset").has("SSH agent x: not found").has("Dockerfile:3:1").has("--ssh x=KEY");
        env.rbuild(&["build", "--ssh", "default", ctx.path()]).without_var("SSH_AUTH_SOCK").exits(2).has("SSH_AUTH_SOCK");
        env.try_build(&ctx, &["--ssh", "x=/no/such"]).exits(2).has("/no/such");
    }

    fn rights_need_consent(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN --security=insecure grep Seccomp: /proc/self/status; grep CapEff /proc/self/status; ip link set lo down && echo free\nRUN ip link show lo | grep -c LOOPBACK,UP\n");
        env.try_build(&ctx, &[]).fails().has("security.insecure is not allowed").has("--allow security.insecure");
        env.try_build(&ctx, &["--allow", "network.host"]).fails().has("security.insecure is not allowed");
        // The network that it took down is not the next step's.
        env.build(&ctx, &["--allow", "network.host,security.insecure"]).ran("Seccomp:\t0").ran("free").ran("1");
        let ctx = env.dockerfile("FROM busybox:test\nRUN --network=host true\n");
        env.try_build(&ctx, &[]).fails().has("network.host is not allowed");
        env.build(&ctx, &["--allow", "network.host"]);
        env.try_build(&ctx, &["--allow", "nothing"]).exits(2).has("network.host, security.insecure");
    }

    fn limits_and_names_of_the_command_line(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo ran; df -k /dev/shm | tail -1 | awk '{print \"shm\", $2}'; ulimit -n; grep NoNewPrivs /proc/self/status; grep -wE 'db|gw' /etc/hosts; hostname\n");
        let limits = ["--shm-size", "1m", "--ulimit", "nofile=77:99", "--security-opt", "no-new-privileges"];
        let hosts = ["--add-host", "db=10.9.8.7"];
        env.build(&ctx, &[&limits[..], &hosts[..]].concat()).ran("shm 1024").ran("77").ran("NoNewPrivs:\t1").ran("10.9.8.7\tdb");
        // Limits and addresses are in no key, names are.
        env.build(&ctx, &hosts).did_not_run("ran");
        env.build(&ctx, &["--add-host", "db=10.0.0.1", "--shm-size", "2m", "--ulimit", "nofile=50", "--security-opt", "seccomp=unconfined"]).did_not_run("ran");
        env.build(&ctx, &["--add-host", "gw=host-gateway"]).ran("ran").ran("\tgw");
        env.build(&ctx, &["--add-host", "gw=host-gateway", "-m", "1g", "--resource", "cpu-shares=10"]).did_not_run("ran");
        env.build(&ctx, &["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=elsewhere"]).ran("ran").ran("elsewhere");
        for (bad, expect) in [("--shm-size=x", "invalid size"), ("--ulimit=nofil=1", "nofile"), ("--add-host=x", "--add-host"), ("--memory-swap=1m", "memory limit"), ("--security-opt=x", "--security-opt"), ("--resource=x=1", "--resource")] {
            env.try_build(&ctx, &[bad]).exits(2).has(expect);
        }
    }

    /// Where control groups are ours: else a warning says that the limit has no effect, once.
    fn a_memory_limit(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN true\nRUN echo started; dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null; exit 0\nRUN dd if=/dev/zero of=/dev/null bs=200M count=1\n");
        let outcome = env.try_build(&ctx, &["--memory", "32m", "--memory-swap", "32m"]);
        match outcome.code {
            Some(0) => assert_eq!(outcome.both.matches("the memory limit has no effect").count(), 1, "{outcome}"),
            _ => drop(outcome.fails().has("memory ran out").has("--memory").has("Dockerfile:4:1")),
        }
    }

    /// A source that is a link to the root, or climbs above it, shows the stage's own root.
    fn sources_never_leave_their_stage(env) {
        env.busybox();
        let host = env.context().file("mark", CANARY);
        let up = "../".repeat(20);
        let ctx = env.context().link("up", &format!("{up}{}", host.path())).link("abs", host.path()).link("root", "/").file("mine", "1").file("Dockerfile", format!(
            "FROM busybox:test AS evil\nRUN echo own > /mark; ln -s / /root-link; ln -s {up} /up; ln -s {up}{} /host; mkdir /d; ln -s ../../.. /d/l\n\
             FROM busybox:test\n\
             RUN --mount=from=evil,source=root-link,target=/m,rw cat /m/mark; echo x > /m/mark\n\
             RUN --mount=from=evil,source=up,target=/m cat /m/mark\n\
             RUN --mount=from=evil,source=d/l,target=/m cat /m/mark\n\
             RUN --mount=source=root,target=/m ls /m/mine\n\
             RUN --mount=type=cache,target=/m,from=evil,source=up cat /m/mark; echo cache\n", host.path()));
        let built = env.build(&ctx, &[]);
        assert_eq!(built.both.lines().filter(|l| l.trim_end().ends_with("own")).count(), 4, "{built}");
        shows(built.ran("/m/mine"), "own\ncache\n");
        // Links in a cache stay in it.
        ctx.write("Dockerfile", format!("FROM busybox:test\nRUN --mount=type=cache,target=/c echo own > /c/mark; ln -s / /c/root; ln -s {up} /c/up; ln -s {up}{} /c/host\n\
             RUN --mount=type=cache,target=/m,id=/c,source=root cat /m/mark\nRUN --mount=type=cache,target=/m,id=/c,source=up/../up cat /m/mark\nRUN --mount=type=cache,target=/m,id=/c,source=host ls -A /m; echo nothing\n", host.path()));
        let built = env.build(&ctx, &[]);
        assert_eq!(built.both.lines().filter(|l| l.trim_end().ends_with("own")).count(), 2, "{built}");
        assert!(!built.both.contains(CANARY) && !built.printed("mark"), "{built}");
        for source in ["from=evil,source=host", "source=up", "source=abs"] {
            ctx.write("Dockerfile", format!("FROM busybox:test AS evil\nRUN ln -s {up}{} /host\nFROM busybox:test\nRUN --mount={source},target=/m ls /m; cat /m/mark\n", host.path()));
            let outcome = env.try_build(&ctx, &[]).fails().has("not found");
            assert!(!outcome.both.contains(CANARY), "{outcome}");
        }
    }

    /// Two stages rename and link the path in a cache that others mount, again and again.
    fn a_cache_path_that_changes_under_the_mount(env) {
        env.busybox();
        let host = env.context().file("mark", CANARY);
        let up = "../".repeat(20);
        let churn = |name: &str| format!(
            "FROM busybox:test AS {name}\nRUN --mount=type=cache,target=/c,id=race i=0; while test ! -e /c/stop; do mkdir -p /c/sub /c/spare{name}; mv /c/sub /c/old{name}.$i 2>/dev/null; ln -s {up}{host} /c/sub 2>/dev/null; rm -f /c/sub; ln -s / /c/sub 2>/dev/null; rm -rf /c/sub /c/old{name}.*; i=$((i+1)); done; touch /o-{name}\n", host = host.path());
        let look = (0..12).map(|i| format!("RUN --mount=type=cache,target=/m,id=race,source=sub ls -A /m/mark /m/etc/shadow 2>/dev/null; echo {i} looked\n")).collect::<String>();
        let text = format!("{}{}FROM busybox:test AS look\n{look}FROM scratch\nCOPY --from=one /o-one /\nCOPY --from=two /o-two /\n", churn("one"), churn("two"));
        let ctx = env.dockerfile(&text);
        let churning = env.rbuild(&["build", ctx.path()]).spawn();
        let mut looked = 0;
        for _ in 0..12 {
            let outcome = env.try_build(&ctx, &["--target", "look", "--no-cache"]);
            // A path that is a link to nowhere or a file at that moment is an error, and no more.
            for leak in ["/m/mark", "/m/etc/shadow"] {
                assert!(!outcome.both.lines().any(|line| line.starts_with(leak)), "{outcome}");
            }
            looked += outcome.both.matches(" looked\n").count();
        }
        env.build(&env.dockerfile("FROM busybox:test\nRUN --mount=type=cache,target=/c,id=race touch /c/stop\n"), &[]);
        churning.finish().ok();
        assert!(looked > 0, "some mounts were made");
        assert_eq!(fs::read_to_string(host.at("mark")).unwrap(), CANARY);
    }

    /// What a step puts in the place of a mount point's parents is nothing that cleaning up follows.
    fn mount_points_replaced_by_links(env) {
        env.busybox();
        let host = env.context().file("keep", "kept").dir_with_mode("open", 0o777);
        let ctx = env.dockerfile(&format!(
            "FROM busybox:test\n\
             RUN --mount=type=cache,target=/a/b/c --mount=type=tmpfs,target=/t/u --mount=type=secret,id=s,target=/x/y mv /a /moved 2>/dev/null; ln -s {0} /a 2>/dev/null; rm -rf /x; ln -s {0} /x 2>/dev/null; rmdir /t/u /t 2>/dev/null; ln -s {0}/keep /t 2>/dev/null; umount /a/b/c 2>/dev/null; echo tried\n\
             RUN ls -d /a/b /t/u 2>&1 | grep -c 'No such file'\n", host.path()));
        env.try_build(&ctx, &["--secret", &format!("id=s,src={}", host.at("keep"))]).has("tried");
        assert_eq!(fs::read_to_string(host.at("keep")).unwrap(), "kept");
        assert_eq!(fs::read_dir(host.path()).unwrap().count(), 2);
    }

    /// A context is copied once for all steps that mount it, and nothing of it stays.
    fn nothing_is_left_of_a_mounted_context(env) {
        env.busybox();
        let ctx = env.context().file("unlikely-name", CANARY).file("Dockerfile",
            "FROM busybox:test\nRUN --mount=target=/m ls -i /m/unlikely-name; echo o''ne\nRUN --mount=target=/m ls -i /m/unlikely-name\nRUN --mount=target=/m echo rea''dy; test -e /m/end || sleep 86400\n");
        for signal in [Signal::TERM, Signal::KILL] {
            let job = Caged::start(env, &env.rbuild(&["build", "--no-cache", ctx.path()]));
            job.wait_for("ready\n");
            job.signal(signal);
            job.finish();
        }
        ctx.write("end", "");
        let built = env.build(&ctx, &["--no-cache"]);
        let inodes: Vec<&str> = built.both.lines().filter(|l| l.trim_end().ends_with(" /m/unlikely-name") && !l.contains("RUN")).collect();
        assert!(inodes.len() == 2 && inodes[0] == inodes[1], "{inodes:?}\n{built}");
        let left = walkdir::WalkDir::new(env.store()).into_iter().flatten().find(|e| e.file_name() == "unlikely-name");
        assert!(left.is_none(), "{left:?}");
    }
}

/// A context whose `root` holds ssh-add and the libraries it needs.
fn with_ssh_add(env: &TestEnv) -> super::common::Context<'_> {
    let listed = std::process::Command::new("ldd").arg("/usr/bin/ssh-add").output().unwrap().stdout;
    let listed = String::from_utf8(listed).unwrap();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    let mut ctx = env.context();
    for path in libraries.chain(["/usr/bin/ssh-add"]) {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o755;
        ctx = ctx.file_with_mode(&format!("root{path}"), mode, fs::read(path).unwrap());
    }
    ctx
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
