//! Attacks: what a hostile image, context, archive or step tries, and what must come of it.
//!
//! Each test is one attempt to get out, to leak, to lie or to stay. What a step
//! normally sees is in `sandbox`; bad but honest input is in `bad_input`.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::common::Caged;
use super::common::Outcome;
use super::common::TestEnv;
use super::common::base::Tar;
use super::common::base::busybox_tar;

/// Builds a Dockerfile on `busybox:test`, without a network.
#[track_caller]
fn attempt(env: &TestEnv, text: &str) -> Outcome {
    env.busybox();
    env.try_build(&env.dockerfile(text), &["--no-cache", "--network", "none"])
}

/// Mode, owner and time of a file of the host.
fn looks(path: &str) -> (u32, u32, u32, i64) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.mode(), meta.uid(), meta.gid(), meta.mtime())
}

/// `busybox:test` with some names replaced by what `change` adds.
fn image_with(gone: &[&str], change: impl FnOnce(Tar) -> Tar) -> Vec<u8> {
    let mut archive = tar::Archive::new(busybox_tar());
    let mut kept = tar::Builder::new(Vec::new());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().trim_end_matches('/').to_owned();
        if gone.iter().any(|g| path == *g || path.starts_with(&format!("{g}/"))) {
            continue;
        }
        let mut header = entry.header().clone();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        header.set_cksum();
        kept.append(&header, content.as_slice()).unwrap();
    }
    let mut bytes = kept.into_inner().unwrap();
    // Without the end of the archive, so that more can follow.
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(change(Tar::new()).bytes());
    bytes
}

/// Every file below a folder.
fn files(below: &Path) -> Vec<std::path::PathBuf> {
    let all = walkdir::WalkDir::new(below).into_iter().map(Result::unwrap);
    all.filter(|e| e.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

/// What is done to the plain image.
type Change = Box<dyn FnOnce(Tar) -> Tar>;

both! {
    /// The nodes of `/dev` and the masks of `/proc` are the host's own `/dev/null` and others.
    fn devices_of_the_host_cannot_be_changed(env) {
        let devices = ["null", "zero", "full", "random", "urandom", "tty"].map(|d| format!("/dev/{d}"));
        let before: Vec<_> = devices.iter().map(|d| looks(d)).collect();
        attempt(env, "FROM busybox:test\nRUN for d in null zero full random urandom tty; do\
            \\\n chmod 600 /dev/$d; chown 1 /dev/$d; touch -d 2001-01-01 /dev/$d; rm -f /dev/$d; done;\
            \\\n chmod 600 /proc/keys /proc/timer_list /proc/kcore; rm /proc/keys;\
            \\\n echo x > /dev/null && test $(head -c 3 /dev/zero | wc -c) = 3 && echo usa''ble\n")
            .ok().ran("usable");
        let after: Vec<_> = devices.iter().map(|d| looks(d)).collect();
        // A failure would leave the machine changed: put it back first.
        if before != after {
            for (device, (mode, uid, gid, _)) in devices.iter().zip(&before) {
                let _ = std::os::unix::fs::lchown(device, Some(*uid), Some(*gid));
                let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode & 0o7777);
                let _ = fs::set_permissions(device, permissions);
            }
        }
        assert_eq!(before, after);
    }

    /// A node of the host's disk can be made by root, and opened by nobody, wherever it is.
    fn a_disk_cannot_be_opened(env) {
        attempt(env, "FROM busybox:test\nRUN for d in / /dev /dev/shm /tmp; do for n in '1 1' '8 0' '254 0' '259 0'; do\
            \\\n rm -f $d/disk; mknod $d/disk b $n; head -c 1 $d/disk > /tmp/out && echo rea''d; \
            \\\n rm -f $d/disk; mknod $d/disk c $n; head -c 1 $d/disk > /tmp/out && echo rea''d; done; done; echo do''ne\n")
            .ran("done").did_not_run("read");
    }

    /// Names that lead through the descriptors of whoever starts the step (CVE-2024-21626).
    fn no_way_in_through_descriptors(env) {
        env.busybox();
        for fd in (3..24).step_by(4) {
            let here = format!("/proc/self/fd/{fd}");
            let run = |args: &[&str]| env.rbuild(&["run", "--rm", "--network", "none"]).args(args).output();
            run(&["-w", &here, "busybox:test", "/bin/busybox", "echo", "inside"]).fails().lacks("inside");
            let program = format!("{here}/bin/busybox");
            run(&["busybox:test", &program, "echo", "inside"]).fails().lacks("inside");
            run(&["--entrypoint", &program, "busybox:test", "echo", "inside"]).fails().lacks("inside");
        }
        let link = "FROM busybox:test\nRUN ln -s /proc/self/fd/5 /w\nWORKDIR /w\nRUN echo ins''ide\n";
        attempt(env, link).did_not_run("inside");
    }

    /// `/proc/self/exe` before exec is rbuild: nothing may write to it (CVE-2019-5736).
    fn the_program_cannot_be_overwritten(env) {
        let before = looks(env.exe().to_str().unwrap());
        attempt(env, "FROM busybox:test\nRUN for p in /proc/[0-9]*; do echo x > $p/exe; chmod 777 $p/exe; done 2>/dev/null; echo do''ne\n");
        attempt(env, "FROM busybox:test\nRUN [\"/proc/self/exe\", \"--version\"]\n");
        assert_eq!(looks(env.exe().to_str().unwrap()), before);
        env.rbuild(&["--version"]).ok();
    }

    /// What reaches the whole machine through /proc and /sys is not there or not writable.
    fn the_kernels_knobs(env) {
        let knobs = "/proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/vm/drop_caches /proc/sysrq-trigger \
            /proc/irq/default_smp_affinity /sys/kernel/uevent_helper /sys/fs/cgroup/release_agent \
            /sys/fs/cgroup/memory/release_agent /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/unified/cgroup.procs /sys/power/state";
        attempt(env, &format!("FROM busybox:test\nRUN for f in {knobs}; do\
            \\\n test -e $f && (: >> $f) && echo ope''ned $f; done 2>/dev/null; mkdir /sys/fs/cgroup/x && echo ope''ned; echo do''ne\n"))
            .ran("done").lacks("opened");
    }

    /// Names and nodes that would delete files of lower layers once they are in a layer.
    fn whiteouts_cannot_be_forged(env) {
        // The step may make the name; a layer that holds it may not be.
        attempt(env, "FROM busybox:test\nRUN touch /etc/.wh.passwd\n").fails().has(".wh.");
        attempt(env, "FROM busybox:test\nRUN mkdir /d && touch /d/.wh..wh..opq\n").fails().has(".wh.");
        attempt(env, "FROM busybox:test\nRUN rm /etc/passwd; mknod /etc/passwd c 0 0 && echo ma''de; echo do''ne\n")
            .ran("done").did_not_run("made");
        let passwd = env.context().dir("etc").file("etc/.wh.passwd", "").file("Dockerfile", "FROM busybox:test\nCOPY . /\n");
        env.try_build(&passwd, &[]).fails().has(".wh.passwd");
        let archive = Tar::new().file("etc/.wh.passwd", 0o644, b"").bytes();
        let added = env.context().file("t.tar", &archive).file("Dockerfile", "FROM busybox:test\nADD t.tar /\n");
        env.try_build(&added, &[]).fails().has(".wh.passwd");
        env.rbuild(&["import", "-", "forged:test"]).stdin(archive).fails().has(".wh.passwd");
    }

    /// overlayfs's own attributes in an archive must not hide what lies below.
    fn overlay_attributes_in_an_archive(env) {
        env.busybox();
        let mut tar = Tar::new();
        for prefix in ["user", "trusted"] {
            tar = tar.pax(&format!("SCHILY.xattr.{prefix}.overlay.opaque"), b"y").dir("etc/", 0o755);
            tar = tar.pax(&format!("SCHILY.xattr.{prefix}.overlay.redirect"), b"/bin").dir("root/", 0o755);
            tar = tar.pax(&format!("SCHILY.xattr.{prefix}.overlay.whiteout"), b"y").file("bin/sh", 0o755, b"");
        }
        let archive = tar.bytes();
        let ctx = env.context().file("t.tar", &archive)
            .file("Dockerfile", "FROM busybox:test\nADD t.tar /new/\nADD t.tar /\nRUN [\"/bin/busybox\", \"cat\", \"/etc/passwd\"]\n");
        let outcome = env.try_build(&ctx, &["--network", "none"]);
        assert!(outcome.code == Some(0) && outcome.both.contains("root:") || outcome.stderr.contains("overlay"), "{outcome}");
    }

    /// Links and nodes of an image where something is to be mounted or read.
    fn an_image_of_links(env) {
        let volume = env.context().file("f", "host\n");
        let up = "../../../../../../../../..";
        let out = env.dir().join("out");
        fs::create_dir(&out).unwrap();
        env.give(&out);
        let outside = format!("{up}{}", out.display());
        let images: Vec<(&[&str], Change)> = vec![
            (&[], Box::new(|t: Tar| t.link("proc", up))),
            (&[], Box::new(|t: Tar| t.link("proc", "/proc/self/root"))),
            (&[], Box::new(|t: Tar| t.link("proc", "/"))),
            (&[], Box::new(|t: Tar| t.link("dev", "/"))),
            (&[], Box::new(|t: Tar| t.link("dev", "proc/self/fd"))),
            (&[], Box::new(|t: Tar| t.link("sys", "proc"))),
            (&[], Box::new(move |t: Tar| t.link("run", &format!("{up}/tmp")))),
            (&[], Box::new(|t: Tar| t.link("etc/hosts", "/proc/sys/kernel/core_pattern"))),
            (&[], Box::new(|t: Tar| t.link("etc/hosts", "/dev/null"))),
            (&[], Box::new(|t: Tar| t.link("etc/resolv.conf", "/proc/self/exe"))),
            (&[], Box::new(|t: Tar| t.link("etc/resolv.conf", "resolv.conf"))),
            (&["etc"], Box::new(move |t: Tar| t.link("etc", &format!("{up}/etc")))),
            (&["etc/passwd"], Box::new(move |t: Tar| t.link("etc/passwd", &format!("{up}/etc/shadow")))),
            (&["tmp"], Box::new(move |t: Tar| t.link("tmp", &outside))),
        ];
        let ctx = env.dockerfile("ARG I=x\nFROM $I\nUSER 0\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"echo x > /etc/hosts; echo x > /etc/resolv.conf; \
            echo x > /tmp/vol/f; echo x > /proc/sys/kernel/core_pattern; cat /etc/shadow; true\"]\n");
        let pattern = fs::read("/proc/sys/kernel/core_pattern").unwrap();
        let cert = env.context().file("ca", "cert\n");
        let shadow = fs::read_to_string("/etc/passwd").unwrap();
        let own = shadow.lines().find(|l| !l.starts_with("root:") && l.contains("nologin")).unwrap_or("no such line").to_owned();
        for (number, (gone, change)) in images.into_iter().enumerate() {
            let name = format!("evil{number}:test");
            env.rbuild(&["import", "-", &name]).stdin(image_with(gone, change)).ok();
            let mount = format!("{}:/tmp/vol:ro", volume.path());
            let build = env.try_build(&ctx, &["--network", "none", "--no-cache", "--build-arg", &format!("I={name}"),
                "-v", &mount, "--ca-cert", &cert.at("ca")]);
            // Some of these cannot be started, with a message; none may panic, hang or reach out.
            if build.code != Some(0) {
                build.clone().fails();
            }
            build.lacks(&own);
            assert_eq!(fs::read(volume.at("f")).unwrap(), b"host\n");
            assert_eq!(fs::read("/proc/sys/kernel/core_pattern").unwrap(), pattern);
            assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "{number}");
        }
    }

    /// A `/proc` behind links that what is mounted later turns elsewhere: nothing of it would be masked.
    fn a_proc_behind_links_is_refused(env) {
        env.busybox();
        let probe = "RUN [\"/bin/busybox\", \"sh\", \"-c\", \"for p in /a /a/b; do test -w $p/sys/kernel/core_pattern && echo unma''sked; done; true\"]\n";
        let over = probe.replace("RUN", "RUN --mount=type=tmpfs,target=/s");
        // The mount of a step, the /dev of every step, the file system's own names.
        for (links, run) in [
            (&[("proc", "/s/l"), ("s/l", "/a/b")][..], over.as_str()),
            (&[("proc", "/s/l"), ("s/l", "/a/b"), ("dev", "/s")], probe),
            (&[("proc", "/a/self"), ("a/self", "/a")], probe),
            (&[("sys", "/s/l"), ("s/l", "/a/b")], over.as_str()),
        ] {
            let mut ctx = env.context().dir("root/a/b").dir("root/s")
                .file("Dockerfile", format!("FROM scratch\nCOPY --from=busybox:test /bin/busybox /bin/busybox\nCOPY root /\n{run}"));
            for (name, to) in links {
                ctx = ctx.link(&format!("root/{name}"), to);
            }
            env.try_build(&ctx, &["--network", "none"]).lacks("unmasked\n").fails().has("of the image is a link");
        }
    }

    /// A working directory that has to be made is where the image's links lead, and covers none.
    fn a_working_directory_behind_a_link(env) {
        env.busybox();
        let id = env.build_id(&env.dockerfile("FROM busybox:test\nRUN mkdir /real && echo kept > /real/f && ln -s ../../../real /l\n"), &["--network", "none"]);
        env.run(&["--network", "none", "-w", "/l/new", &id, "sh", "-c", "cat /l/f; ls /real"]).ok().prints("kept\nf\nnew\n");
    }

    /// A copy's destination goes through links of the image, and stays inside.
    fn destinations_stay_inside(env) {
        let up = "../../../../../../../../..";
        let out = env.dir().join("outside");
        fs::create_dir(&out).unwrap();
        env.give(&out);
        let text = format!("FROM busybox:test\nRUN ln -s {up}{0} /l && ln -s /proc/self/root{0} /m && ln -s /proc/1/cwd /n\n\
            COPY Dockerfile /l/f1\nCOPY Dockerfile /m/f2\nCOPY Dockerfile /n/f3\nWORKDIR /l/made\n", out.display());
        attempt(env, &text);
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    }

    /// Neither the certificate, nor the host's paths, nor the volume's files, nor rbuild's own
    /// environment are anywhere in the store or the image, of a build that works and one that fails.
    fn nothing_of_the_host_is_kept(env) {
        env.busybox();
        let host = env.context().file("canary-cert", "CANARY-CONTENT\n").file("volume-canary/f", "CANARY-FILE\n");
        let cert = host.at("canary-cert");
        let volume = format!("{}:/v", host.at("volume-canary"));
        let image = env.path_str("image.tar");
        for end in ["true", "false"] {
            let ctx = env.dockerfile(&format!("FROM busybox:test\nRUN cat /run/rbuild/ca.crt /v/f > /dev/shm/x && test -n \"$SSL_CERT_FILE\" && touch /ok\nRUN {end}\n"));
            let output = format!("type=oci,dest={image}");
            let build = env.rbuild(&["build", "--network", "none", "--ca-cert", &cert, "-v", &volume, "-o", &output, ctx.path()]);
            let outcome = build.var("CANARY_VARIABLE", "CANARY-VALUE").output();
            assert_eq!(outcome.code == Some(0), end == "true", "{outcome}");
        }
        if rustix::process::geteuid().is_root() {
            let mut checked = 0;
            for file in files(env.store()).into_iter().chain([image.into()]) {
                let Ok(bytes) = fs::read(&file) else { continue };
                checked += 1;
                for word in ["CANARY", "canary", "SSL_CERT_FILE="] {
                    assert!(!holds(&bytes, word), "{word} in {}", file.display());
                }
            }
            assert!(checked > 5, "the store was read");
        }
    }

    /// What a step prints and what a Dockerfile says may not drive the user's terminal.
    fn escapes_do_not_reach_the_terminal(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN printf 'a\\033[2Jb\\033]0;t\\007c\\302\\2332Jd\\2332Je\\033[6nf\\n' && echo \x1b[2J\x1b]52;c;aGk=\x07\u{9b}2J\nLABEL a=\"\x1b[2J\"\n");
        for how in ["plain", "tty"] {
            let line =
                format!("{} build --progress {how} --no-cache --network none {}", env.exe().display(), ctx.path());
            let outcome = env.program("script", &["-qec", &line, "/dev/null"]).ok();
            assert_eq!(outcome.both.contains("abcdef\r"), how == "plain", "{outcome}");
            for bad in ["\x1b[2J", "\x1b]", "\x1b[6n", "\u{9b}", "\x07"] {
                assert!(!outcome.both.contains(bad), "{bad:?}\n{outcome}");
            }
        }
        let ctx = env.dockerfile("FROM busybox:test\nF\x1b[2JOO \x1b]0;x\x07\u{9b}2J bar\n");
        let line = format!("{} build {}", env.exe().display(), ctx.path());
        let outcome = env.program("script", &["-qec", &line, "/dev/null"]).output();
        for bad in ["\x1b[2J", "\x1b]", "\u{9b}", "\x07"] {
            assert!(!outcome.both.contains(bad), "{bad:?}\n{outcome}");
        }
    }

    /// A store is nobody else's to look at: layers hold set-user-ID programs of any age.
    fn the_store_is_private(env) {
        env.busybox();
        assert_eq!(fs::metadata(env.store().join("v1")).unwrap().mode() & 0o077, 0);
    }

    /// Archives that climb, link out, or pass themselves off as something else.
    fn hostile_archives(env) {
        let out = env.dir().join("pwned");
        let up = format!("../../../../../../../../..{}", env.dir().display());
        let archives: [(Tar, bool); 6] = [
            (Tar::new().file(&format!("{up}/pwned"), 0o644, b"x"), true),
            (Tar::new().link("l", &up).file("l/pwned", 0o644, b"x"), false),
            (Tar::new().link("l", "/etc").hard_link("h", "l/shadow"), false),
            (Tar::new().hard_link("h", "../../../../../../etc/shadow"), false),
            (Tar::new().link(".", "/tmp"), false),
            (Tar::new().link("l", &format!("{up}/pwned")).hard_link("h", "l").file("h", 0o644, b"x"), true),
        ];
        for (number, (archive, good)) in archives.into_iter().enumerate() {
            let bytes = archive.bytes();
            let import = env.rbuild(&["import", "-", "hostile:test"]).stdin(bytes.clone()).output();
            assert_eq!(import.code == Some(0), good, "{number} {import}");
            let ctx = env.context().file("t.tar", &bytes).file("Dockerfile", "FROM scratch\nADD t.tar /d/\n");
            let add = env.try_build(&ctx, &[]);
            assert_eq!(add.code == Some(0), good, "{number} {add}");
            assert!(!out.exists());
        }
    }

    /// Patterns and expansions that take others forever.
    fn patterns_and_expansions_end(env) {
        env.busybox();
        let ignore = [&"*a".repeat(60), "b\n", &"**/".repeat(30), "x*y*z\n!", &"**/a*".repeat(30), "\n"].concat();
        let text = format!("FROM busybox:test\nARG v={}\nENV w=${{v//{}b/x}} x=${{v##{}b}}\n", "a".repeat(5000), "*a".repeat(9), "*a".repeat(9));
        let ctx = env.context().file(".dockerignore", ignore).file(&"a".repeat(200), "")
            .file(&["a"; 40].join("/"), "").file("Dockerfile", text + "COPY . /c\n");
        env.build(&ctx, &["--network", "none"]);
        let doubling: String = (0..12).map(|i| format!("ENV a{}={}\n", i + 1, format!("$a{i}").repeat(10))).collect();
        attempt(env, &format!("FROM busybox:test\nENV a0=xxxxxxxxxx\n{doubling}")).fails().has("longer than");
        attempt(env, &format!("FROM busybox:test\nENV a={}x{}\n", "${b:-".repeat(5000), "}".repeat(5000))).fails();
    }

    /// A thousand children that ignore every signal are gone when the step is.
    fn a_crowd_that_ignores_signals(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN trap '' INT TERM HUP; i=0; while test $i -lt 200; do (setsid sleep 86400 &); i=$((i+1)); done; echo crow''ded; while :; do sleep 86400; done\n");
        let build = Caged::start(env, &env.rbuild(&["build", "--network", "none", ctx.path()]));
        build.wait_for("crowded\n");
        build.signal(rustix::process::Signal::KILL);
        let (code, said) = build.finish();
        assert_eq!(code, 137, "{said}");
        env.try_build(&env.dockerfile("FROM busybox:test\nRUN echo nex''t\n"), &["--network", "none"]).ok().ran("next");
    }
}
