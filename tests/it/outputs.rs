//! `-o`, `--push`, `--load`, `--metadata-file`, `--annotation`: what a build writes, read by others.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::Value;

use super::common::Context;
use super::common::TestEnv;
use super::common::Who;
use super::common::not_here;
use super::common::peers::{Docker, Podman};
use super::common::registry::Registry;
use super::common::skip;

/// A base with files that the image removes and replaces.
#[track_caller]
fn context(env: &TestEnv) -> Context<'_> {
    let base = env
        .dockerfile("FROM scratch\nCOPY d /d\nCOPY gone /gone\n")
        .file("d/old", "old")
        .file("d/kept", "kept")
        .file("gone", "x");
    env.build(&base, &["-t", "base"]);
    env.busybox();
    env.dockerfile(
        "FROM busybox:test AS tool\nFROM base\nCOPY --chmod=4755 new /d/old\nLABEL k=v\n\
         RUN --mount=from=tool,target=/t [\"/t/bin/busybox\", \"rm\", \"/gone\"]\n",
    )
    .file("new", "new")
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn names(path: &Path) -> BTreeSet<String> {
    let entries = walkdir::WalkDir::new(path).min_depth(1).into_iter().map(Result::unwrap);
    entries.map(|e| e.path().strip_prefix(path).unwrap().display().to_string()).collect()
}

fn tar_names(bytes: &[u8]) -> BTreeSet<String> {
    let mut archive = tar::Archive::new(bytes);
    let path = |entry: tar::Entry<'_, &[u8]>| entry.path().unwrap().display().to_string();
    let all = archive.entries().unwrap().map(|entry| path(entry.unwrap()));
    all.map(|path| path.trim_end_matches('/').to_owned()).filter(|path| path != ".").collect()
}

both! {
    /// Several outputs at once, each read by what knows it.
    fn all_kinds_at_once(env) {
        let ctx = context(env);
        let [dir, tar, oci, docker, layout, meta, iid] = ["dir", "t.tar", "o.tar", "d.tar", "layout", "m.json", "iid"].map(|n| env.path_str(n));
        let outputs = [
            dir.clone(),
            format!("type=tar,dest={tar}"),
            format!("type=docker,dest={docker}"),
            format!("type=oci,dest={oci},compression=zstd,compression-level=1,force-compression=true"),
            format!("type=oci,tar=false,dest={layout},annotation.own=1"),
            "type=cacheonly".to_owned(),
            "type=image,name=second:2,unpack=true".to_owned(),
        ];
        let mut args: Vec<&str> = outputs.iter().flat_map(|output| ["-o", output]).collect();
        args.extend(["--metadata-file", &meta, "--iidfile", &iid, "--annotation", "all=yes", "--annotation", "index:i=1"]);
        args.extend(["-t", "app:1"]);
        let built = env.build(&ctx, &args).has("unpack of -o has no effect");
        let id = fs::read_to_string(&iid).unwrap();
        assert_eq!(&id[7..19], built.built());
        assert_eq!(env.inspect("second:2")["Id"], id);

        // Whiteouts are resolved, modes kept; everything is the caller's own. (What RUN mounts on is there.)
        let expect: BTreeSet<String> = ["d", "d/kept", "d/old", "dev", "proc", "sys"].map(str::to_owned).into();
        assert_eq!(names(Path::new(&dir)), expect);
        let old = fs::metadata(format!("{dir}/d/old")).unwrap();
        assert_eq!(fs::read_to_string(format!("{dir}/d/old")).unwrap(), "new");
        let own = env.ids().map_or(rustix::process::geteuid().as_raw(), |ids| ids.uid);
        assert_eq!((old.mode() & 0o7777, old.uid()), (0o4755, own));
        assert_eq!(tar_names(&fs::read(&tar).unwrap()), expect);

        // Every archive has the image with its id.
        for (source, kind) in [(format!("oci-archive:{oci}:1"), "zstd"), (format!("oci:{layout}:1"), "gzip")] {
            let raw = env.program("skopeo", &["inspect", "--raw", &source]).ok().stdout;
            let manifest: Value = serde_json::from_str(&raw).unwrap();
            assert_eq!(manifest["config"]["digest"], id, "{source}");
            assert!(manifest["layers"][0]["mediaType"].as_str().unwrap().ends_with(kind), "{manifest}");
            assert_eq!(manifest["annotations"]["all"], "yes");
        }
        let to = format!("oci:{}:x", env.path_str("copied"));
        env.program("skopeo", &["copy", &format!("docker-archive:{docker}"), &to]).ok();
        let bundle = env.path_str("bundle");
        env.program("umoci", &["unpack", "--rootless", "--image", &format!("{layout}:1"), &bundle]).ok();
        let rootfs = format!("{bundle}/rootfs");
        assert_eq!(fs::read_to_string(format!("{rootfs}/d/old")).unwrap(), "new");
        assert!(!Path::new(&format!("{rootfs}/gone")).exists());

        // What is told of it is the last output that has a manifest: the directory.
        let told = json(&meta);
        let index = json(&format!("{layout}/index.json"));
        assert_eq!(told["containerimage.config.digest"], id);
        assert_eq!(told["containerimage.digest"], index["manifests"][0]["digest"]);
        assert_eq!(told["containerimage.descriptor"]["size"], index["manifests"][0]["size"]);
        assert_eq!(told["containerimage.descriptor"]["mediaType"], "application/vnd.oci.image.manifest.v1+json");
        assert_eq!(told["image.name"], "docker.io/library/app:1,docker.io/library/second:2");
        assert!(told["buildx.build.ref"].as_str().unwrap().starts_with("default/default/"));
        assert_eq!(index["annotations"]["i"], "1");
    }

    fn equal_builds_are_equal_bytes(env) {
        let files = |env: &TestEnv| {
            let ctx = env.dockerfile("FROM scratch\nCOPY a /d/a\nCOPY b /b\n").file("a", "1").file("b", "2".repeat(90_000));
            let [oci, docker, tar, level] = ["o", "d", "t", "l"].map(|name| env.path_str(name));
            let outputs = [
                format!("type=oci,dest={oci}"),
                format!("type=docker,dest={docker}"),
                format!("type=tar,dest={tar}"),
                format!("type=oci,dest={level},compression=gzip,compression-level=9,rewrite-timestamp=true"),
            ];
            let args: Vec<&str> = outputs.iter().flat_map(|output| ["-o", output]).collect();
            env.rbuild(&["build", "-t", "x"]).args(&args).args(&[ctx.path()]).var("SOURCE_DATE_EPOCH", "1000000000").ok();
            [oci, docker, tar, level].map(|file| fs::read(file).unwrap())
        };
        let first = files(env);
        assert!(first == files(env), "the same store");
        assert!(first == files(&TestEnv::new(env.who).unwrap()), "another store");
    }

    fn a_directory_is_added_to_or_replaced(env) {
        let ctx = env.dockerfile("FROM scratch\nCOPY a /a\n").file("a", "1");
        let folder = env.path("place");
        fs::create_dir_all(folder.join("out/old")).unwrap();
        for path in ["", "out", "out/old"] {
            env.give(&folder.join(path));
        }
        let out = folder.join("out");
        let run = |args: &[&str]| {
            env.rbuild(&["build"]).args(args).args(&[ctx.path()]).folder(&folder).var("SOURCE_DATE_EPOCH", "99").output()
        };
        run(&["-o", "out"]).ok();
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        assert_eq!(names(&out), own(&["a", "old"]));
        assert_eq!(fs::metadata(out.join("a")).unwrap().mtime(), 99);
        run(&["-o", "type=local,dest=out,mode=delete"]).ok();
        assert_eq!(names(&out), own(&["a"]));
        // Elsewhere only by the user's own word.
        let outside = env.path("elsewhere");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("mine"), "").unwrap();
        env.give(&outside);
        let delete = format!("type=local,dest={},mode=delete", outside.display());
        run(&["-o", &delete]).exits(2).has("--allow buildx.local.delete");
        assert_eq!(names(&outside), own(&["mine"]));
        run(&["--allow", "buildx.local.delete", "-o", &delete]).ok();
        assert_eq!(names(&outside), own(&["a"]));
    }

    fn standard_output_has_the_archive_alone(env) {
        let ctx = env.dockerfile("FROM scratch\nCOPY a /a\n").file("a", "1");
        for (output, expect) in [("-", "a"), ("type=tar,dest=-", "a"), ("type=oci,dest=-", "index.json")] {
            // Through a shell, since it is no text.
            let file = env.path_str("out");
            let line = format!("{} build -o {output} {} > {file}", env.exe().display(), ctx.path());
            let said = env.program("sh", &["-c", &line]).ok();
            assert!(said.stderr.contains("Successfully built"), "{said}");
            assert!(tar_names(&fs::read(&file).unwrap()).contains(expect), "{output}");
        }
    }

    fn what_is_wrong_is_said_before_anything_is_built(env) {
        let ctx = env.dockerfile("FROM scratch\nCOPY a /a\n").file("a", "1");
        for (args, expect) in [
            (&["-o", "type=oci,dest=x,nope=1"][..], "type=oci has no attribute `nope`; it has dest, tar, compression"),
            (&["-o", "type=zip"], "the types are local, tar, oci, docker, image, registry, cacheonly"),
            (&["-o", "type=oci,dest=x,compression=estargz"], "`estargz` is not supported"),
            (&["-o", "type=oci,dest=/no/such/x"], "there is no directory"),
            (&["--push"], "tag is needed when pushing to registry"),
            (&["--metadata-file", "/no/such/x"], "there is no directory"),
            (&["--annotation", "layer:a=b"], "no annotation type `layer`"),
            (&["--annotation", "manifest[linux/s390x]:a=b", "-o", "type=oci,dest=x"], "the build is for"),
        ] {
            env.try_build(&ctx, args).exits(2).has(expect).lacks("Step 1");
        }
        assert!(!env.store().exists());
    }

    /// `--push` with several names, by digest, and packed in another way.
    fn builds_push(env) {
        let registry = Registry::plain();
        let ctx = env.dockerfile("FROM scratch\nCOPY a /a\n").file("a", "1");
        let meta = env.path_str("meta");
        let (one, two, other) = (registry.name("x:1"), registry.name("x:2"), registry.name("y/z:1"));
        let push = ["--push", "--metadata-file", &meta, "-t", &one, "-t", &two, "-t", &other];
        env.build(&ctx, &push).has("Mounted from x").has("2: digest: sha256:");
        let told = json(&meta);
        assert_eq!(told["image.name"], format!("{one},{two},{other}"));
        let inspect = |name: &str, args: &[&str]| {
            let name = format!("docker://{name}");
            let words = [&["inspect", "--tls-verify=false"], args, &[&name]].concat();
            // It looks for credentials where only who runs the suite may.
            env.program("skopeo", &words).without_changing_user().ok().stdout
        };
        for name in [&one, &two, &other] {
            let seen: Value = serde_json::from_str(&inspect(name, &[])).unwrap();
            assert_eq!(seen["Digest"], told["containerimage.digest"], "{name}");
        }
        let silent = format!("type=image,name={},push=true,push-by-digest=true,compression=zstd", registry.name("q"));
        env.build(&ctx, &["-o", &silent, "--metadata-file", &meta, "--annotation", "a=b"]);
        let digest = json(&meta)["containerimage.digest"].as_str().unwrap().to_owned();
        let manifest: Value = serde_json::from_str(&inspect(&format!("{}@{digest}", registry.name("q")), &["--raw"])).unwrap();
        assert_eq!(manifest["annotations"]["a"], "b");
        let types = format!("type=registry,name={},oci-mediatypes=false", registry.name("old:1"));
        env.build(&ctx, &["-o", &types]);
        let old: Value = serde_json::from_str(&inspect(&registry.name("old:1"), &["--raw"])).unwrap();
        assert_eq!(old["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
        assert_eq!(old["layers"][0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    }

    /// The program that loads is who called: not root of a user namespace.
    fn the_program_that_loads_is_the_callers(env) {
        let ctx = env.dockerfile("FROM scratch\nCOPY a /a\n").file("a", "1");
        let folder = env.path("bin");
        fs::create_dir(&folder).unwrap();
        let archive = env.path_str("archive");
        let podman = folder.join("podman");
        fs::write(&podman, format!("#!/bin/sh\ncat > {archive}\necho Loaded by $(id -u): $1\n")).unwrap();
        fs::set_permissions(&podman, fs::Permissions::from_mode(0o755)).unwrap();
        let own = env.ids().map_or(rustix::process::geteuid().as_raw(), |ids| ids.uid);
        let run = |path: &str, args: &[&str]| {
            let run = env.rbuild(&["build"]).args(args).args(&[ctx.path()]);
            run.var("DOCKER_HOST", "unix:///no/such/socket").var("PATH", path).output()
        };
        let path = format!("{}:/usr/bin:/bin", folder.display());
        run(&path, &["--load", "-t", "app"]).ok().has(&format!("podman: Loaded by {own}: load"));
        assert!(tar_names(&fs::read(&archive).unwrap()).contains("manifest.json"));
        // With nobody to load it the image is in the store, and that is said.
        run("/no/such", &["-o", "type=docker", "-t", "app"]).ok().has("there is no docker that answers, and no podman");
        fs::write(&podman, "#!/bin/sh\necho it is full >&2\nexit 7\n").unwrap();
        run(&path, &["--load"]).exits(1).has("`podman load` failed: it is full");
    }
}

/// `--load` into a docker that the test starts, and into podman: the image keeps its id.
#[test]
fn docker_and_podman_get_the_image() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    if !rustix::process::geteuid().is_root() {
        return not_here("docker and podman are tried as root only");
    }
    let ctx = env.dockerfile("FROM scratch\nCOPY a /a\nCMD [\"/a\"]\n").file("a", "1");
    let load = |args: &[&str], host: &str, path: &str| {
        let run = env.rbuild(&["build", "--load", "-t", "peer.example/app:1"]).args(args).args(&[ctx.path()]);
        run.var("DOCKER_HOST", host).var("PATH", path).ok()
    };
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    // A podman with a store of its own.
    let podman = Podman::new(&env);
    let storage = env.path_str("bin");
    fs::create_dir(&storage).unwrap();
    let root = podman.run(&["info", "-f", "{{.Store.GraphRoot}}"]).ok().stdout.trim().to_owned();
    let script = format!(
        "#!/bin/sh\nexec /usr/bin/podman --root {root} --runroot {root}-run --storage-driver vfs \"$@\"\n"
    );
    let program = format!("{storage}/podman");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    load(&[], "unix:///no/such", &format!("{storage}:{path}")).has("podman: Loaded image");
    let id = env.inspect("peer.example/app:1")["Id"].as_str().unwrap().to_owned();
    podman.run(&["inspect", "-f", "{{.Id}}", "peer.example/app:1"]).ok().prints(&format!("{}\n", &id[7..]));

    let docker = match Docker::start(&env) {
        Ok(docker) => docker,
        Err(why) => return skip(&why),
    };
    let host = docker.run(&["context", "inspect", "-f", "{{.Endpoints.docker.Host}}"]).ok().stdout;
    load(&[], host.trim(), path).has("docker: Loaded image: peer.example/app:1");
    docker.run(&["inspect", "-f", "{{.Id}}", "peer.example/app:1"]).ok().prints(&format!("{id}\n"));
    docker.stop();
}
