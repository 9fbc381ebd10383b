//! `rbuild build`: each instruction, and each option of the command line.

use std::fs;

use serde_json::Value;
use serde_json::json;

use super::common::TestEnv;
use super::common::base::Tar;
use super::common::env::is_hex;
use super::common::env::is_id;

/// Builds a Dockerfile on `busybox:test` and returns the image's config.
#[track_caller]
fn config_of(env: &TestEnv, body: &str) -> Value {
    env.busybox();
    let out = env.export(&env.dockerfile(&format!("FROM busybox:test\n{body}\n")).file("f", "x"), &[]);
    out.config.clone()
}

/// What a Dockerfile on `busybox:test` whose last line is a RUN prints.
#[track_caller]
fn run_prints(env: &TestEnv, body: &str, printed: &str) {
    env.busybox();
    let ctx = env.dockerfile(&format!("FROM busybox:test\n{body}\n"));
    env.build(&ctx, &[]).ran(printed);
}

both! {
    /// The output as docker users know it.
    fn the_output_of_a_build(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo hel''lo\nENV A=b\nCMD [\"true\"]\n");
        let outcome = env.build(&ctx, &["-t", "cookbook:hello"]);
        assert_eq!(outcome.steps(), ["FROM busybox:test", "RUN echo hel''lo", "ENV A=b", "CMD [\"true\"]"]);
        assert!(outcome.both.contains("Step 2/4 : RUN echo hel''lo"), "{outcome}");
        assert!(outcome.printed("hello"), "{outcome}");
        assert!(!outcome.step_ids().is_empty(), "{outcome}");
        assert!(is_hex(outcome.built(), 12), "{outcome}");
        let id = env.inspect("cookbook:hello")["Id"].as_str().unwrap().to_owned();
        assert!(id.contains(outcome.built()), "the ID is the image's\n{outcome}");
        outcome.has("Successfully tagged cookbook:hello");
    }

    fn the_word_build_may_be_left_out(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\n");
        env.rbuild(&["-t", "a", ctx.path()]).ok().has("Successfully tagged a:latest");
        env.rbuild(&["."]).folder(ctx.path()).ok().has("Successfully built");
    }

    /// A first word equal to a command is the command, whatever folders there are.
    fn a_folder_named_like_a_command(env) {
        env.busybox();
        let ctx = env.context().file("images/Dockerfile", "FROM busybox:test\n");
        env.rbuild(&["images"]).folder(ctx.path()).ok().has("REPOSITORY").lacks("Step");
        env.rbuild(&["./images"]).folder(ctx.path()).ok().has("Successfully built");
        env.rbuild(&["build", "images"]).folder(ctx.path()).ok().has("Successfully built");
    }

    fn a_base_from_scratch(env) {
        let ctx = env.dockerfile("FROM scratch\nCOPY f /f\n").file("f", "content");
        let out = env.export(&ctx, &[]);
        assert_eq!(out.layers.len(), 1);
        assert_eq!(out.entry("f").content, b"content");
    }

    fn every_field_of_the_config(env) {
        let config = config_of(env, r#"
            ENV A=1 B="two words"
            ENV LEG a  b
            LABEL one=1 "a key"="a value"
            EXPOSE 80 53/UDP 8000-8001
            VOLUME /data ["/x"]
            VOLUME ["/y", "/z z"]
            USER app:extra
            WORKDIR /work
            WORKDIR deeper
            SHELL ["/bin/ash", "-c"]
            STOPSIGNAL SIGUSR1
            HEALTHCHECK --interval=5s --timeout=2s --start-period=1s --retries=3 CMD test -e /ok
            ONBUILD RUN echo later
            MAINTAINER somebody <a@example.org>
            ENTRYPOINT ["/bin/echo", "x"]
            CMD shown"#);
        assert_eq!(config["author"], "somebody <a@example.org>");
        let config = &config["config"];
        let env_list = config["Env"].as_array().unwrap();
        assert!(env_list[0].as_str().unwrap().starts_with("PATH="), "{env_list:?}");
        assert_eq!(env_list[1..], [json!("A=1"), json!("B=two words"), json!("LEG=a  b")]);
        assert_eq!(config["Labels"], json!({"one": "1", "a key": "a value"}));
        let ports: Vec<&String> = config["ExposedPorts"].as_object().unwrap().keys().collect();
        assert_eq!(ports, ["53/udp", "80/tcp", "8000/tcp", "8001/tcp"]);
        let volumes = config["Volumes"].as_object().unwrap();
        assert!(volumes.contains_key("/data") && volumes.contains_key("/y") && volumes.contains_key("/z z"));
        assert_eq!(config["User"], "app:extra");
        assert_eq!(config["WorkingDir"], "/work/deeper");
        assert_eq!(config["Shell"], json!(["/bin/ash", "-c"]));
        assert_eq!(config["StopSignal"], "SIGUSR1");
        assert_eq!(config["Healthcheck"], json!({
            "Test": ["CMD-SHELL", "test -e /ok"], "Interval": 5_000_000_000u64, "Timeout": 2_000_000_000u64,
            "StartPeriod": 1_000_000_000u64, "Retries": 3
        }));
        assert_eq!(config["OnBuild"], json!(["RUN echo later"]));
        assert_eq!(config["Entrypoint"], json!(["/bin/echo", "x"]));
        assert_eq!(config["Cmd"], json!(["/bin/ash", "-c", "shown"]));
    }

    fn an_entrypoint_clears_the_bases_cmd(env) {
        env.busybox();
        env.build(&env.dockerfile("FROM busybox:test\nCMD [\"base\"]\n"), &["-t", "base"]);
        let out = env.export(&env.dockerfile("FROM base\nENTRYPOINT [\"echo\"]\n"), &[]);
        assert!(out.config["config"]["Cmd"].is_null(), "{}", out.config);
        let out = env.export(&env.dockerfile("FROM base\nCMD [\"own\"]\nENTRYPOINT [\"echo\"]\n"), &[]);
        assert_eq!(out.config["config"]["Cmd"], json!(["own"]));
    }

    fn healthcheck_none(env) {
        let config = config_of(env, "HEALTHCHECK CMD [\"true\"]\nHEALTHCHECK NONE");
        assert_eq!(config["config"]["Healthcheck"]["Test"], json!(["NONE"]));
    }

    /// One history entry for each instruction; `empty_layer` where there is no layer.
    fn history_and_layers_match(env) {
        let config = config_of(env, "ENV A=1\nARG Q\nARG R=2\nRUN true\nCOPY f /f\nWORKDIR /\nWORKDIR /w\nCMD [\"a\"]");
        let history = config["history"].as_array().unwrap();
        let own: Vec<(&str, bool)> = history[history.len() - 8..]
            .iter()
            .map(|h| (h["created_by"].as_str().unwrap(), h["empty_layer"] == true))
            .collect();
        let expect = [
            ("ENV A=1", true),
            ("ARG Q", true),
            ("ARG R=2", true),
            ("RUN |2 Q= R=2 /bin/sh -c true # buildkit", false),
            ("COPY f /f # buildkit", false),
            ("WORKDIR /", true),
            ("WORKDIR /w", false),
            ("CMD [\"a\"]", true),
        ];
        assert_eq!(own, expect);
        let layers = history.iter().filter(|h| h["empty_layer"] != true).count();
        assert_eq!(layers, config["rootfs"]["diff_ids"].as_array().unwrap().len());
    }

    fn run_in_shell_form(env) {
        run_prints(env, "RUN a=5; echo out-$((a + 1)) && echo more", "out-6");
    }

    fn run_in_exec_form_has_no_shell(env) {
        run_prints(env, "RUN [\"/bin/echo\", \"$HOME\"]", "$HOME");
    }

    fn shell_changes_the_shell_form(env) {
        run_prints(env, "SHELL [\"/bin/echo\", \"given:\"]\nRUN a   b", "given: a   b");
    }

    fn env_reaches_run_and_expands(env) {
        run_prints(env, "ENV a=1 b=${a:-old}\nENV c=$a-$b-${none:+x}\nRUN echo \"=$c=\"", "=1-old-=");
    }

    fn an_escaped_dollar_is_a_dollar(env) {
        run_prints(env, r"ENV a=\$b c='$a'
            RUN echo $a $c", "$b $a");
    }

    fn workdir_is_made_and_entered(env) {
        run_prints(env, "WORKDIR /a/b\nWORKDIR c\nRUN pwd", "/a/b/c");
    }

    fn user_decides_ids_home_and_the_owner_of_workdir(env) {
        run_prints(env, "USER app\nRUN echo $(id -u):$(id -g):$HOME", "1000:1001:/home/app");
        run_prints(env, "USER app\nWORKDIR /own\nRUN stat -c %u:%g:%a /own", "1000:1001:755");
        run_prints(env, "USER 7:8\nRUN echo $(id -u):$(id -g):$HOME", "7:8:/");
    }

    /// Supplementary groups come from /etc/group unless a group is named.
    fn supplementary_groups(env) {
        run_prints(env, "USER app\nRUN id -G", "1001 2000");
        run_prints(env, "USER app:app\nRUN id -G", "1001");
    }

    fn an_unknown_user_fails_at_run(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nUSER nosuch\nRUN true\n");
        env.try_build(&ctx, &[]).fails().has("nosuch");
        env.build(&env.dockerfile("FROM busybox:test\nUSER nosuch\n"), &[]);
    }

    fn arguments_have_defaults_and_are_not_kept(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nARG A=dflt B\nRUN echo \"A=$A B=$B\"\n");
        env.build(&ctx, &["-t", "x"]).ran("A=dflt B=");
        env.build(&ctx, &["--build-arg", "A=given", "--build-arg", "B=b"]).ran("A=given B=b");
        env.run(&["x", "sh", "-c", "echo \"A=$A\""]).ok().prints("A=\n");
    }

    fn an_argument_without_a_value_comes_from_the_environment(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nARG A=dflt\nRUN echo \"A=$A\"\n");
        let build = || env.rbuild(&["build", "--build-arg", "A", ctx.path()]);
        build().var("A", "outer").ok().ran("A=outer");
        build().ok().ran("A=dflt");
    }

    fn an_argument_nobody_declares_is_a_warning(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\n");
        env.build(&ctx, &["--build-arg", "NOBODY=1"]).has("NOBODY");
    }

    fn arguments_before_from(env) {
        env.busybox();
        let ctx = env.dockerfile("ARG BASE=nowhere\nARG TAG=test\nFROM $BASE:${TAG}\nARG TAG\nRUN echo \"tag=$TAG base=$BASE\"\n");
        env.build(&ctx, &["--build-arg", "BASE=busybox"]).ran("tag=test base=");
    }

    fn env_wins_over_an_argument_of_the_same_name(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nENV A=env\nARG A=arg\nRUN echo \"A=$A\"\n");
        env.build(&ctx, &["--build-arg", "A=given"]).ran("A=env");
    }

    fn onbuild_runs_in_the_child_and_only_there(env) {
        env.busybox();
        env.build(&env.dockerfile("FROM busybox:test\nONBUILD RUN echo from-parent\nONBUILD COPY f /f\n"), &["-t", "parent"])
            .did_not_run("from-parent");
        let child = env.dockerfile("FROM parent\nRUN cat /f\n").file("f", "own file\n");
        env.build(&child, &["-t", "child"]).ran("from-parent").ran("own file");
        assert!(env.inspect("child")["Config"]["OnBuild"].as_array().is_none_or(Vec::is_empty));
        env.build(&env.dockerfile("FROM child\nRUN echo grandchild\n"), &[]).did_not_run("from-parent");
    }

    fn comments_continuations_and_case(env) {
        run_prints(env, "# a comment\nrun echo a \\\n# inside\n  # indented\n\\\n  b \\\n\n  c", "a b c");
    }

    fn the_escape_directive(env) {
        env.busybox();
        let ctx = env.dockerfile("# escape=`\nFROM busybox:test\nRUN echo a`\n b\\\\c\n");
        env.build(&ctx, &[]).ran("a b\\c");
    }

    fn a_byte_order_mark_and_line_ends_of_windows(env) {
        env.busybox();
        let ctx = env.dockerfile("\u{feff}FROM busybox:test\r\nRUN echo win\\\r\ndows\r\n");
        env.build(&ctx, &[]).ran("windows");
    }

    fn stages_copy_from_each_other(env) {
        env.busybox();
        let ctx = env.dockerfile(
            "FROM busybox:test AS Build\nRUN echo made > /made\n\
             FROM busybox:test\nRUN echo second > /second\n\
             FROM scratch\nCOPY --from=build /made /a\nCOPY --from=1 /second /b\nCOPY --from=busybox:test /etc/group /c\n",
        );
        let out = env.export(&ctx, &[]);
        assert_eq!(out.entry("a").content, b"made\n");
        assert_eq!(out.entry("b").content, b"second\n");
        assert_eq!(out.layers.len(), 3);
    }

    fn a_stage_inherits_from_the_stage_it_is_from(env) {
        env.busybox();
        let ctx = env.dockerfile(
            "FROM busybox:test AS a\nENV K=v\nWORKDIR /w\nUSER app\nLABEL l=1\nARG G=g\n\
             FROM a\nRUN echo $K:$(pwd):$(id -u):$G\n",
        );
        env.build(&ctx, &["-t", "x"]).ran("v:/w:1000:g");
        assert_eq!(env.inspect("x")["Config"]["Labels"]["l"], "1");
    }

    /// With the stage's name in front when several are built at once, without when there is one.
    fn the_stages_name_is_in_front(env) {
        env.busybox();
        let ctx = env.dockerfile(
            "FROM busybox:test AS left\nRUN echo from-left > /l\nFROM busybox:test AS right\nRUN echo from-right > /r\n\
             FROM scratch\nCOPY --from=left /l /l\nCOPY --from=right /r /r\n",
        );
        let outcome = env.build(&ctx, &[]);
        for (stage, text) in [("left", "RUN echo from-left"), ("right", "RUN echo from-right")] {
            let line = outcome.both.lines().find(|l| l.contains("Step ") && l.contains(text));
            assert!(line.is_some_and(|l| l.split("Step ").next().unwrap().contains(stage)), "{stage}\n{outcome}");
        }
        let outcome = env.build(&ctx, &["--target", "left", "--no-cache"]);
        assert!(outcome.both.lines().any(|l| l.starts_with("Step 1/2 : ")), "{outcome}");
    }

    fn target_builds_what_it_needs_and_nothing_else(env) {
        env.busybox();
        let ctx = env.dockerfile(
            "FROM busybox:test AS one\nRUN echo in-one\nFROM nosuch/image AS never\nRUN echo in-never\n\
             FROM one AS two\nRUN echo in-two\nFROM two AS three\nRUN echo in-three\n",
        );
        env.build(&ctx, &["--target", "TWO"]).ran("in-one").ran("in-two").did_not_run("in-never").did_not_run("in-three");
        env.try_build(&ctx, &["--target", "tow"]).fails().has("tow").has("two");
    }

    fn a_label_of_the_command_line_wins(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nLABEL a=file b=file\n");
        env.build(&ctx, &["-t", "x", "--label", "a=line", "--label", "c=line"]);
        assert_eq!(env.inspect("x")["Config"]["Labels"], json!({"a": "line", "b": "file", "c": "line"}));
    }

    fn quiet_prints_the_id_alone(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo chatter\n");
        for how in [["-q", "--progress=auto"], ["--quiet", "--progress=plain"], ["--progress", "quiet"]] {
            let outcome = env.build(&ctx, &how);
            assert!(is_id(outcome.stdout.trim_end()), "{outcome}");
            assert_eq!(outcome.stderr, "");
        }
    }

    fn quiet_shows_the_output_of_a_build_that_fails(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo the re''ason; false\n");
        let outcome = env.try_build(&ctx, &["-q"]).fails();
        assert_eq!(outcome.stdout, "", "{outcome}");
        assert!(outcome.stderr.contains("the reason"), "{outcome}");
    }

    fn the_id_goes_to_a_file(env) {
        env.busybox();
        let file = env.path_str("id");
        env.build(&env.dockerfile("FROM busybox:test\n"), &["-t", "x", "--iidfile", &file]);
        let id = fs::read_to_string(&file).unwrap();
        assert!(is_id(&id), "{id:?}");
        assert_eq!(env.inspect("x")["Id"], id);
    }

    fn several_tags(env) {
        env.busybox();
        env.build(&env.dockerfile("FROM busybox:test\nCMD [\"x\"]\n"), &["-t", "a:1", "-t", "b"])
            .has_all(&["Successfully tagged a:1", "Successfully tagged b:latest"]);
        assert_eq!(env.inspect("a:1")["Id"], env.inspect("b")["Id"]);
    }

    fn a_bad_tag_fails_before_anything_runs(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo ran-anyway\n");
        env.try_build(&ctx, &["-t", "fine", "-t", "Not Fine"]).fails().has("`Not Fine`").did_not_run("ran-anyway");
    }

    fn another_dockerfile(env) {
        env.busybox();
        let other = env.context().file("sub/Other", "FROM busybox:test\nCOPY f /f\nRUN cat /f\n");
        let ctx = env.context().file("f", "of the context\n").file("in/Side", "FROM busybox:test\nRUN echo inside\n");
        env.build(&ctx, &["-f", &other.at("sub/Other")]).ran("of the context");
        env.build(&ctx, &["-f", &ctx.at("in/Side")]).ran("inside");
        env.rbuild(&["-f", "-", ctx.path()]).stdin("FROM busybox:test\nCOPY f /f\nRUN cat /f; echo piped\n").ok().ran("piped");
    }

    fn a_dockerfile_on_standard_input_has_no_context(env) {
        env.busybox();
        env.rbuild(&["-"]).stdin("FROM busybox:test\nRUN echo piped\n").ok().ran("piped");
        env.rbuild(&["-"]).stdin("FROM busybox:test\nCOPY f /\n").fails().has("f").has("not found");
    }

    /// In a private network too, whose descriptor the child then has in its hands.
    fn a_program_that_is_not_there_is_named(env) {
        env.busybox();
        env.rbuild(&["-"]).stdin("FROM busybox:test\nRUN [\"no-such-program\"]\n").fails()
            .has("executable file not found").lacks("signal").lacks("IO Safety");
    }

    fn a_tar_on_standard_input_is_the_context(env) {
        env.busybox();
        let tar = Tar::new()
            .file("Dockerfile", 0o644, "FROM busybox:test\nCOPY d /d\nRUN cat /d/f\n")
            .file("Other", 0o644, "FROM busybox:test\nRUN echo other-file\n")
            .file("d/f", 0o644, "in the tar\n")
            .bytes();
        env.rbuild(&["-"]).stdin(tar.clone()).ok().ran("in the tar");
        env.rbuild(&["-f", "Other", "-"]).stdin(tar.clone()).ok().ran("other-file");
        env.rbuild(&["-"]).stdin(zstd::encode_all(tar.as_slice(), 1).unwrap()).ok().has("Successfully built");
    }

    /// Bound in, never in a layer.
    fn a_volume_for_run_steps(env) {
        env.busybox();
        let host = env.context().file("seen", "from the host\n").dir_with_mode("out", 0o777);
        let ctx = env.dockerfile("FROM busybox:test\nRUN cat /vol/seen && echo written > /vol/out/back && echo x > /own\n");
        let volume = format!("{}:/vol", host.path());
        env.build(&ctx, &["-t", "x", "-v", &volume]).ran("from the host");
        assert_eq!(fs::read_to_string(host.at("out/back")).unwrap(), "written\n");
        env.run(&["x", "ls", "/vol"]).fails();
        env.run(&["x", "cat", "/own"]).ok().prints("x\n");

        let ctx = env.dockerfile("FROM busybox:test\nRUN touch /vol/out/no || echo read-only\n");
        env.build(&ctx, &["-v", &format!("{volume}:ro")]).ran("read-only");
        assert!(!fs::exists(host.at("out/no")).unwrap());
    }

    /// The certificate is there while RUN runs, and nowhere else.
    fn a_private_ca(env) {
        env.busybox();
        let host = env.context().file("ca.pem", "-----CANARY-----\n");
        let ctx = env.dockerfile(
            "FROM busybox:test\nRUN cat $SSL_CERT_FILE; echo $SSL_CERT_FILE; env | grep -c =$SSL_CERT_FILE\n",
        );
        let id = |args: &[&str]| env.build_id(&ctx, args);
        let with = ["--ca-cert", &host.at("ca.pem")];
        env.build(&ctx, &with).ran("-----CANARY-----").ran("/run/rbuild/ca.crt").ran("6");
        let out = env.export(&ctx, &with);
        assert!(!out.config.to_string().contains("rbuild/ca"), "{}", out.config);
        assert!(!out.last_paths().iter().any(|p| p.contains("rbuild")), "{:?}", out.last_paths());
        assert_eq!(id(&with), id(&[]), "it is in no key");
    }

    fn run_writes_are_what_the_layer_holds(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo n > /new && rm /etc/passwd && chmod 700 /tmp && ln -s new /ln\n");
        let out = env.export(&ctx, &[]);
        let paths = out.last_paths();
        for path in ["new", "ln", "tmp", "etc/.wh.passwd"] {
            assert!(paths.iter().any(|p| p == path), "{path}: {paths:?}");
        }
        assert!(!paths.iter().any(|p| p.starts_with("bin")), "{paths:?}");
        let tmp = out.last().into_iter().find(|e| e.path == "tmp").unwrap();
        assert_eq!(tmp.mode, 0o700);
        // Sorted, so that the same files give the same bytes.
        let mut sorted = paths.clone();
        sorted.sort();
        assert_eq!(paths, sorted);
    }

    fn a_failing_step_says_its_code_and_keeps_nothing(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN exit 42\nRUN echo af''ter\n");
        env.try_build(&ctx, &["-t", "never"])
            .fails()
            .has("42")
            .has("Dockerfile:2")
            .did_not_run("after")
            .lacks("Successfully");
        env.rbuild(&["inspect", "never"]).fails();
    }
}
