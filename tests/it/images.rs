//! `images`, `tag`, `rmi`, `inspect`, `history`, ids, and archives read by other tools.

use std::fs;

use super::common::Exported;
use super::common::Podman;
use super::common::TestEnv;
use super::common::Who;
use super::common::base::busybox_tar;
use super::common::env::is_hex;
use super::common::not_here;
use super::common::skip;

/// An image `app:1` with one RUN layer and all that a config can say.
#[track_caller]
fn app(env: &TestEnv) -> String {
    env.busybox();
    let ctx = env.dockerfile(
        "FROM busybox:test\nENV GREETING=hello\nRUN echo content > /made && rm -r /home\nLABEL k=v\n\
         WORKDIR /tmp\nUSER app\nEXPOSE 80\nENTRYPOINT [\"/bin/sh\", \"-c\"]\nCMD [\"echo $GREETING from $(id -un) in $(pwd); cat /made\"]\n",
    );
    env.build_id(&ctx, &["-t", "app:1"])
}

const APP_SAYS: &str = "hello from app in /tmp\ncontent\n";

both! {
    fn the_columns(env) {
        app(env);
        let outcome = env.rbuild(&["images"]).ok();
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        let titles: Vec<&str> = lines[0].split("  ").map(str::trim).filter(|t| !t.is_empty()).collect();
        assert_eq!(titles, ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], "{outcome}");
        let row: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(row[..2], ["app", "1"], "newest first\n{outcome}");
        assert!(is_hex(row[2], 12) && lines[1].contains(" ago") && lines[1].ends_with('B'), "{outcome}");
        assert_eq!(lines.len(), 3);
    }

    fn options(env) {
        let id = app(env);
        let short = &id[7..19];
        env.rbuild(&["images", "-q", "app"]).ok().prints(&format!("{short}\n"));
        env.rbuild(&["images", "-q", "--no-trunc", "app:1"]).ok().prints(&format!("{id}\n"));
        env.rbuild(&["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}", "app"]).ok().prints(&format!("app:1 {short}\n"));
        env.rbuild(&["images", "--digests"]).ok().has("DIGEST");
        env.rbuild(&["images", "-q", "--filter", "label=k=v"]).ok().prints(&format!("{short}\n"));
        env.rbuild(&["images", "-q", "--filter", "label=k=other"]).ok().prints("");
        env.rbuild(&["images", "-q", "-f", "reference=app:*"]).ok().prints(&format!("{short}\n"));
        env.rbuild(&["images", "--filter", "nonsense=1"]).fails().has("nonsense");
    }

    fn images_without_a_name(env) {
        app(env);
        env.build(&env.dockerfile("FROM app:1\nENV NEW=1\n"), &["-t", "app:1"]);
        let outcome = env.rbuild(&["images"]).ok();
        assert!(outcome.stdout.lines().any(|l| l.split_whitespace().take(2).eq(["<none>", "<none>"])), "{outcome}");
        let dangling = env.rbuild(&["images", "-q", "-f", "dangling=true"]).ok().stdout;
        assert_eq!(dangling.lines().count(), 1);
        env.rbuild(&["rmi", dangling.trim()]).ok().has("Deleted: sha256:");
    }

    fn tag_and_short_ids(env) {
        let id = app(env);
        env.rbuild(&["tag", "app:1", "other/name"]).ok().prints("");
        for name in [&id[..], &id[7..], &id[7..19], &id[7..11], "other/name", "other/name:latest"] {
            assert_eq!(env.inspect(name)["Id"], id, "{name}");
        }
        env.rbuild(&["tag", &id[7..11], "by-id:2"]).ok();
        assert_eq!(env.inspect("by-id:2")["Id"], id);
    }

    fn tagging_what_is_not_there(env) {
        app(env);
        // No tag means latest: `app` is not `app:1`.
        env.rbuild(&["tag", "app", "x"]).fails().has("No such image: app:latest");
        env.rbuild(&["tag", "app:1", "Bad/Name"]).fails().has("`Bad/Name`");
    }

    /// A step's id, as the build prints it, is as good as an image.
    fn step_ids(env) {
        env.busybox();
        let built = env.build(&env.dockerfile("FROM busybox:test\nENV A=1\nRUN echo one > /v\nRUN echo two > /v\n"), &[]);
        let ids = built.step_ids();
        let found: Vec<String> = ids.iter().map(|id| env.run(&[id, "sh", "-c", "cat /v 2>/dev/null; true"]).ok().stdout).collect();
        assert!(found.contains(&"one\n".to_owned()) && found.contains(&"two\n".to_owned()), "{found:?}\n{built}");
        let one = ids[found.iter().position(|f| f == "one\n").unwrap()];
        env.rbuild(&["inspect", one]).ok();
        env.rbuild(&["tag", one, "middle:1"]).ok();
        env.run(&["middle:1", "cat", "/v"]).ok().prints("one\n");
    }

    fn rmi_takes_names_then_the_image(env) {
        let id = app(env);
        env.rbuild(&["tag", "app:1", "app:2"]).ok();
        env.rbuild(&["rmi", "app:2"]).ok().has("Untagged: app:2").lacks("Deleted");
        env.run(&["app:1"]).ok().prints(APP_SAYS);
        env.rbuild(&["rmi", "app:1"]).ok().has("Untagged: app:1").has(&format!("Deleted: {id}"));
        env.rbuild(&["inspect", "app:1"]).fails().has("app:1");
        env.rbuild(&["rmi", "app:1"]).fails().has("No such image: app:1");
        // The base has its own name, and its layers are still there.
        env.run(&["busybox:test", "true"]).ok();
    }

    fn rmi_by_id_with_several_names_needs_force(env) {
        let id = app(env);
        env.rbuild(&["tag", "app:1", "app:2"]).ok();
        env.rbuild(&["rmi", &id[7..19]]).fails();
        env.rbuild(&["rmi", "-f", &id[7..19]]).ok().has("Untagged: app:1").has("Untagged: app:2").has("Deleted: ");
    }

    /// One image that is there and one that is not: the one goes, the other is an error.
    fn rmi_of_several(env) {
        let id = app(env);
        let outcome = env.rbuild(&["image", "rm", "--no-prune", "nosuch", "app:1", "Bad"]).exits(1);
        outcome.has("No such image: nosuch:latest").has("Untagged: app:1").has(&format!("Deleted: {id}"));
        env.rbuild(&["rmi", "-f", "nosuch"]).ok().has("No such image: nosuch:latest");
        env.rbuild(&["rmi"]).exits(2);
    }

    /// By the words of docker 20.10 with a container that runs.
    fn an_image_that_runs_is_in_use(env) {
        let id = app(env);
        let short = &id[7..19];
        let mut container = env
            .rbuild(&["run", "--rm", "-i", "--network=none", "--entrypoint=/bin/sh", "app:1", "-c", "echo up; cat"])
            .stdin_pipe()
            .spawn();
        container.wait_for("up");
        let df = env.rbuild(&["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"]).ok();
        df.has("Images 2 1").has("Containers 1 1");
        let by_name = env.rbuild(&["rmi", "app:1"]).exits(1);
        by_name.has("conflict: unable to remove repository reference \"app:1\" (must force) - container ").has(&format!("is using its referenced image {short}"));
        env.rbuild(&["rmi", "-f", short]).exits(1).has(&format!("conflict: unable to delete {short} (cannot be forced) - image is being used by running container "));
        env.rbuild(&["image", "prune", "-af"]).ok().has("untagged: busybox:test").lacks("app:1");
        env.rbuild(&["rmi", "-f", "app:1"]).ok().prints("Untagged: app:1\n");
        env.rbuild(&["image", "prune", "-f"]).ok().prints("Total reclaimed space: 0B\n");
        container.close_stdin();
        container.finish().ok();
        env.rbuild(&["image", "prune", "-f"]).ok().has(&format!("deleted: {id}"));
    }

    fn digests_are_names(env) {
        let id = app(env);
        let digest = format!("sha256:{}", "5".repeat(64));
        let full = format!("r.example/app@{digest}");
        env.rbuild(&["tag", "app:1", "r.example/app:1"]).ok();
        name(env, &full, &id);
        let outcome = env.rbuild(&["images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}"]).ok();
        outcome.has(&format!("r.example/app 1 {digest}\n")).has("app 1 <none>\n");
        let outcome = env.rbuild(&["images", "--format", "{{.Repository}} {{.Tag}}"]).ok();
        outcome.prints("app 1\nr.example/app 1\nbusybox test\n");
        let all = env.inspect(&full);
        assert_eq!((&all["Id"], &all["RepoDigests"]), (&id.clone().into(), &serde_json::json!([full])));
        assert_eq!(all["RepoTags"], serde_json::json!(["app:1", "r.example/app:1"]));
        env.rbuild(&["images", "-q", "-f", "reference=r.example/*@sha256:5*"]).ok().prints(&format!("{}\n", &id[7..19]));

        env.rbuild(&["rmi", "app:1"]).ok().prints("Untagged: app:1\n");
        let outcome = env.rbuild(&["rmi", "r.example/app:1"]).ok();
        outcome.has(&format!("Untagged: r.example/app:1\nUntagged: {full}\nDeleted: {id}\n"));

        // Pulled by digest: no tag, and dangling as docker has it.
        let id = app(env);
        name(env, &full, &id);
        env.rbuild(&["rmi", "app:1"]).ok().prints("Untagged: app:1\n");
        env.rbuild(&["images", "-f", "dangling=true", "--format", "{{.Repository}} {{.Tag}}"]).ok().prints("r.example/app <none>\n");
        env.rbuild(&["rmi", &full]).ok().has(&format!("Untagged: {full}\nDeleted: {id}\n"));
    }

    fn filters_by_time_label_and_name(env) {
        app(env);
        let names = |filters: &[&str]| {
            let filters: Vec<&str> = filters.iter().flat_map(|f| ["-f", f]).collect();
            let format = ["image", "ls", "--format", "{{.Repository}}"];
            env.rbuild(&[&format[..], &filters].concat()).ok().stdout.replace('\n', " ")
        };
        assert_eq!(names(&["until=24h"]), "");
        assert_eq!(names(&["until=0s"]), "app busybox ");
        assert_eq!(names(&["label!=k"]), "busybox ");
        assert_eq!(names(&["label=k", "label!=k=w"]), "app ");
        assert_eq!(names(&["reference=app", "reference=busy*"]), "app busybox ");
        assert_eq!(names(&["since=busybox:test"]), "app ");
        assert_eq!(names(&["before=app:1"]), "busybox ");
        env.rbuild(&["images", "-f", "until=soon"]).exits(2).has("failed to parse value as time or duration: \"soon\"");
        env.rbuild(&["images", "-f", "before=nosuch"]).exits(1).has("No such image: nosuch:latest");
    }

    fn inspect_as_dockers_types_print(env) {
        let id = app(env);
        let check = |template: &str, expect: &str| {
            env.rbuild(&["image", "inspect", "-f", template, "app:1"]).ok().prints(&format!("{expect}\n"));
        };
        check("{{.Config.Healthcheck}}|{{.Variant}}|{{.Config.Volumes}}|{{.Config.OnBuild}}", "<nil>||map[]|[]");
        check("{{json .Config.Healthcheck}} {{index .RepoTags 0}} {{.Config.Labels.nope}}", "null app:1 <no value>");
        check("{{range .Config.Cmd}}[{{.}}]{{end}}{{with .Config.Healthcheck}}x{{else}}none{{end}}", "[echo $GREETING from $(id -un) in $(pwd); cat /made]none");
        env.rbuild(&["inspect", "-f", "{{.Config.Healthcheck.Test}}", "app:1"]).fails().has("nil pointer evaluating Test");
        env.rbuild(&["inspect", "-f", "{{.Metadata.LastTagTime}}", &id]).ok().has(" +0000 UTC");
    }

    fn inspect_of_several_and_of_types(env) {
        let id = app(env);
        let outcome = env.rbuild(&["inspect", "--type", "image", "-f", "{{.Id}}", "nosuch", "app:1"]).exits(1);
        outcome.has("No such image: nosuch:latest").has(&id);
        env.rbuild(&["inspect", "nosuch"]).exits(1).has("[]\n").has("No such object: nosuch");
        let built = env.build(&env.dockerfile("FROM app:1\nENV A=1\nENV B=1\n"), &[]);
        env.rbuild(&["inspect", "--type", "image", built.step_ids()[0]]).exits(1).has("No such image");
        env.rbuild(&["inspect", "--type", "step", built.step_ids()[0]]).ok();
        env.rbuild(&["inspect", "--type", "network", "app:1"]).exits(2).has("unknown type: \"network\"");
        env.rbuild(&["inspect", "-s", "-f", "{{.Os}}", "app:1"]).ok().has("WARNING: --size ignored for image");
        let compact = env.rbuild(&["inspect", "-f", "json", "app:1"]).ok();
        assert!(compact.stdout.starts_with("[{\"Id\":\"sha256:") && compact.stdout.lines().count() == 1, "{compact}");
    }

    fn history_for_scripts(env) {
        let id = app(env);
        let outcome = env.rbuild(&["image", "history", "-q", "app:1"]).ok();
        assert_eq!(outcome.stdout.lines().next(), Some(&id[7..19]));
        assert!(outcome.stdout.lines().skip(1).all(|line| line == "<missing>"), "{outcome}");
        let row = env.rbuild(&["history", "--human=false", "--format", "{{json .}}", "app:1"]).ok();
        let row: serde_json::Value = serde_json::from_str(row.stdout.lines().last().unwrap()).unwrap();
        assert!(row["CreatedSince"].as_str().unwrap().ends_with('Z') && row["Size"].as_str().unwrap().parse::<u64>().unwrap() > 1000, "{row}");
    }

    fn groups_of_commands(env) {
        env.rbuild(&["image"]).ok().has("ls").has("prune");
        env.rbuild(&["system"]).ok().has("df");
        env.rbuild(&["builder", "--help"]).ok().has("prune");
        env.rbuild(&["image", "lss"]).exits(2).has("'ls'");
        env.rbuild(&["imag"]).exits(2).has("rbuild image");
        let ctx = env.dockerfile("FROM scratch\nCOPY f /f\n").file("f", "x");
        env.rbuild(&["image", "build", "-q", "-t", "a", ctx.path()]).ok();
        env.rbuild(&["builder", "build", "-q", "-t", "b", ctx.path()]).ok();
        env.rbuild(&["image", "tag", "a", "c"]).ok();
        env.rbuild(&["image", "list", "--format", "{{.Repository}}"]).ok().prints("a\nb\nc\n");
    }

    fn inspect_with_a_format(env) {
        let id = app(env);
        env.rbuild(&["inspect", "-f", "{{.Id}}", "app:1"]).ok().prints(&format!("{id}\n"));
        env.rbuild(&["inspect", "--format", "{{.Config.User}} {{index .Config.Labels \"k\"}}", "app:1"]).ok().prints("app v\n");
        env.rbuild(&["inspect", "-f", "{{json .Config.Cmd}}", "busybox:test"]).ok();
        env.rbuild(&["inspect", "-f", "{{.Nothing}}", "app:1"]).fails();
        let all = env.inspect("app:1");
        assert_eq!(all["RepoTags"][0], "app:1");
        assert_eq!(all["Architecture"], if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" });
        assert_eq!(all["Os"], "linux");
        assert_eq!(all["RootFS"]["Type"], "layers");
        env.rbuild(&["inspect", "nothing-like-this"]).fails().has("nothing-like-this");
    }

    fn history_shows_each_instruction(env) {
        app(env);
        let outcome = env.rbuild(&["history", "--no-trunc", "app:1"]).ok();
        let titles: Vec<&str> = outcome.stdout.lines().next().unwrap().split("  ").map(str::trim).filter(|t| !t.is_empty()).collect();
        assert_eq!(titles, ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"], "{outcome}");
        outcome.has_all(&["RUN /bin/sh -c echo content > /made", "USER app", "LABEL k=v", "0B"]);
    }

    /// Same inputs in two stores: the layers are the same bytes. (A directory that COPY makes has
    /// the time of the build.)
    fn layers_are_the_same_in_another_store(env) {
        let ctx = env.dockerfile("FROM scratch\nCOPY d/a d/b/c /\nCOPY --chmod=700 d/a /e\n").file("d/a", "x").file("d/b/c", "y");
        env.program("find", &[ctx.path(), "-exec", "touch", "-h", "-d", "@1000000000", "{}", "+"]).ok();
        let other = TestEnv::new(env.who).unwrap();
        let (a, b) = (env.export(&ctx, &[]), other.export(&ctx, &[]));
        assert_eq!(a.config["rootfs"], b.config["rootfs"]);
        assert_eq!(a.layers[0], b.layers[0]);
    }

    fn media_types_are_those_of_the_image_spec(env) {
        let out = env.export(&env.dockerfile("FROM scratch\nCOPY f /f\n").file("f", "x"), &[]);
        assert_eq!(out.manifest["schemaVersion"], 2);
        assert_eq!(out.manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
        assert_eq!(out.manifest["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
        let layer = out.manifest["layers"][0]["mediaType"].as_str().unwrap();
        assert!(layer.starts_with("application/vnd.oci.image.layer.v1.tar"), "{layer}");
        assert_eq!(out.config["os"], "linux");
    }

    /// `--root` wins over RBUILD_ROOT, which wins over the place in the home directory.
    fn where_the_store_is(env) {
        let (one, two) = (env.path_str("one"), env.path_str("two"));
        let import = |args: &[&str]| env.rbuild(&[&["import"], args, &["-", "a"]].concat()).stdin(busybox_tar());
        import(&["--root", &one]).var("RBUILD_ROOT", &two).ok();
        assert!(fs::exists(&one).unwrap() && !fs::exists(&two).unwrap());
        import(&[]).var("RBUILD_ROOT", &two).ok();
        assert!(fs::exists(&two).unwrap());
        if env.who == Who::User {
            import(&[]).without_var("RBUILD_ROOT").ok();
            assert!(fs::exists(env.dir().join("home/.local/share/rbuild")).unwrap());
        }
        assert_eq!(env.rbuild(&["images", "-q", "--root", &one]).ok().stdout.lines().count(), 1);
    }

    fn an_archive_on_standard_output(env) {
        let ctx = env.dockerfile("FROM scratch\nCOPY f /f\n").file("f", "x");
        let file = env.path_str("out.tar");
        let words = format!("exec \"$@\" > {file}");
        let exe = env.exe();
        let args = [exe.to_str().unwrap(), "build", "-o", "type=oci,dest=-", ctx.path()];
        env.program("sh", &[&["-c", &words, "sh"], &args[..]].concat()).ok();
        Exported::read(file.as_ref());
    }

    fn a_bad_output_fails_before_anything_runs(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo ran-anyway\n");
        for output in ["type=zip,dest=x", "type=oci", "type=oci,dest=/nowhere/at/all/x.tar"] {
            env.try_build(&ctx, &["--no-cache", "-o", output]).fails().lacks("Successfully");
        }
        assert!(!env.try_build(&ctx, &["--no-cache", "-o", "type=zip,dest=x"]).printed("ran-anyway"));
    }

    fn skopeo_reads_both_kinds_of_archive(env) {
        app(env);
        for (kind, transport) in [("oci", "oci-archive"), ("docker", "docker-archive")] {
            let file = archive(env, kind);
            let outcome = env.program("skopeo", &["inspect", "--config", &format!("{transport}:{file}")]).ok();
            let config: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
            assert_eq!(config["config"]["User"], "app", "{kind}");
            let copy = env.path_str("copy");
            env.program("skopeo", &["--insecure-policy", "copy", &format!("{transport}:{file}"), &format!("dir:{copy}")]).ok();
        }
    }

    fn umoci_unpacks_it(env) {
        app(env);
        let file = archive(env, "oci");
        let layout = env.path_str("layout");
        env.program("skopeo", &["--insecure-policy", "copy", &format!("oci-archive:{file}"), &format!("oci:{layout}:app")]).ok();
        let bundle = env.path_str("bundle");
        env.program("umoci", &["unpack", "--rootless", "--image", &format!("{layout}:app"), &bundle]).ok();
        assert_eq!(fs::read_to_string(format!("{bundle}/rootfs/made")).unwrap(), "content\n");
        assert!(!fs::exists(format!("{bundle}/rootfs/home")).unwrap(), "the whiteout is honoured");
    }
}

/// Gives an image a name with a digest, as a pull or a push does.
fn name(env: &TestEnv, reference: &str, id: &str) {
    use sha2::Digest as _;
    let file: String = sha2::Sha256::digest(reference).iter().map(|byte| format!("{byte:02x}")).collect();
    let path = env.store().join("v1/references").join(file);
    fs::write(&path, format!("{reference}\n{id}\n")).unwrap();
    env.give(&path);
}

/// Writes `app:1` to an archive and returns its path.
#[track_caller]
fn archive(env: &TestEnv, kind: &str) -> String {
    let file = env.path_str("image.tar");
    let ctx = env.dockerfile("FROM app:1\n");
    env.build(&ctx, &["-t", "peer.example/app:1", "-o", &format!("type={kind},dest={file}")]);
    file
}

/// An image written as `who`, loaded and run by podman, with limits that a root without
/// CAP_SYS_RESOURCE may set.
fn podman_runs_it(who: Who) {
    let env = match TestEnv::new(who) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    if !rustix::process::geteuid().is_root() {
        return not_here("podman is tried as root only");
    }
    app(&env);
    let podman = Podman::new(&env);
    let podman = |args: &[&str]| podman.run(args);
    for kind in ["oci", "docker"] {
        podman(&["load", "-i", &archive(&env, kind)]).ok();
        let image = podman(&["images", "-q"]).ok().stdout;
        let image = image.lines().next().unwrap();
        podman(&[
            "run",
            "--rm",
            "--network=none",
            "--ulimit=nofile=1024:1024",
            "--ulimit=nproc=1024:1024",
            image,
        ])
        .ok()
        .prints(APP_SAYS);
        podman(&["rmi", "-af"]).ok();
    }
}

#[test]
fn podman_runs_what_root_built() {
    podman_runs_it(Who::Root);
}

#[test]
fn podman_runs_what_a_user_built() {
    podman_runs_it(Who::User);
}
