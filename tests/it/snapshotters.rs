//! Layers merged by the kernel, by fuse-overlayfs and by copying: the same images come of it.

use std::path::Path;

use rustix::process::Signal;

use super::common::Context;
use super::common::Exported;
use super::common::Outcome;
use super::common::TestEnv;
use super::common::Who;
use super::common::base::Tar;
use super::common::env::run_as;
use super::common::not_here;
use super::common::skip;

/// Times that are set by steps become this one, so that layers are the same bytes.
const EPOCH: &str = "SOURCE_DATE_EPOCH=1000000000";

/// Steps that are hard to merge and to tell what they changed.
const STEPS: &str = "\
    RUN echo hi > /new; mkdir /newdir /newdir/inner; echo a > /newdir/inner/a\n\
    RUN rm -rf /d1/sub; mkdir /d1/sub; echo z > /d1/sub/only; rm /d2/h1\n\
    RUN cp -a /d1 /d1copy; mv /d2 /d2moved; mkdir /d2; touch /d2/h2\n\
    RUN ln /new /new2; echo c > /h1; ln /h1 /h2; rm /opt/l3\n\
    RUN chmod 600 /d1/f1; chown 1000:1001 /d1/f2; chown -R 1000:1001 /d1copy; chown 0:0 /opt/once\n\
    RUN mkfifo /fifo; dd if=/dev/zero of=/sparse bs=1 count=1 seek=3000000 2>&1; cat /opt/zero; chmod 0 /d1/f3\n\
    RUN rm -rf /newdir; touch /newdir\n\
    RUN rm /newdir; mkdir /newdir; touch /newdir/again; chmod 700 /tmp; mkdir -p /a/b/c; rmdir /a/b/c\n\
    RUN mv /d1 /d9 && mkdir /d1 && mv /d9/f4 /d1/f4; ln -s /nowhere /d1/link\n\
    RUN touch -d '2001-02-03 04:05:06' /etc/passwd; echo > /name-$(printf '%0240d' 0)\n\
    WORKDIR /wd/x\n\
    RUN echo here > f; chmod 711 /\n\
    COPY --from=hard:test /d1 /fromd1\n\
    RUN --mount=from=hard:test,source=/d1,target=/m cat /m/f1 && cat /fromd1/f1 > /fromd1/f2\n\
    RUN --mount=from=hard:test,source=/d1,target=/m,rw touch /m/new; rm /m/f1; ls /m; echo x >> /m/f2\n\
    RUN --mount=type=cache,target=/cc echo 1 >> /cc/x; cat /cc/x\n";

/// Imports the image that the steps are on.
fn import(env: &TestEnv) {
    env.busybox();
    let mut tar = Tar::new();
    for folder in ["opt/", "d1/", "d1/sub/", "d2/"] {
        tar = tar.dir(folder, 0o755);
    }
    for number in 0..5 {
        tar = tar.file(&format!("d1/f{number}"), 0o644, "f").file(&format!("d1/sub/g{number}"), 0o644, "g");
        tar = tar.file(&format!("d2/h{number}"), 0o644, "h");
    }
    tar = tar.file("opt/l1", 0o644, "linked").hard_link("opt/l2", "opt/l1").hard_link("opt/l3", "opt/l1");
    tar = tar
        .file("opt/zero", 0, "secret\n")
        .pax("SCHILY.xattr.user.note", b"kept")
        .file("opt/once", 0o4755, "o");
    let context = env.dockerfile("FROM busybox:test\nADD files.tar /\n").file("files.tar", tar.bytes());
    env.build(&context, &["-t", "hard:test"]);
}

fn steps<'e>(env: &'e TestEnv, steps: &str) -> Context<'e> {
    let many: String = (0..24).map(|n| format!("RUN echo {n} > /many; echo {n} > /many{n}\n")).collect();
    env.dockerfile(&format!("FROM hard:test\n{steps}{many}"))
}

/// Builds the steps in a store of their own.
fn built(who: Who, snapshotter: &str, dockerfile: &str) -> Exported {
    let env = TestEnv::new(who).unwrap();
    import(&env);
    env.export(&steps(&env, dockerfile), &["--snapshotter", snapshotter, "--build-arg", EPOCH])
}

#[track_caller]
fn same_layers(one: &Exported, other: &Exported) {
    let count = one.layers.len();
    assert_eq!((count, other.layers.len()), (count, count));
    for layer in 0..count {
        let (a, b) = (one.entries(layer), other.entries(layer));
        for entry in a.iter().filter(|entry| !b.contains(entry)) {
            println!("layer {layer}, one only: {} {:?} {:o}", entry.path, entry.kind, entry.mode);
        }
        for entry in b.iter().filter(|entry| !a.contains(entry)) {
            println!("layer {layer}, other only: {} {:?} {:o}", entry.path, entry.kind, entry.mode);
        }
    }
    assert_eq!(one.config["rootfs"]["diff_ids"], other.config["rootfs"]["diff_ids"]);
}

/// Tells whether fuse-overlayfs can be used here; says why where not.
pub fn fuse_works(env: &TestEnv) -> bool {
    let outcome = env.rbuild(&["doctor"]).output();
    let row = outcome.both.lines().find(|line| line.contains("snapshotter")).unwrap_or_default().to_owned();
    match row.split_once("no fuse-overlayfs: ") {
        None => true,
        Some((_, why)) if why.contains("/dev/fuse") => {
            not_here(why);
            false
        }
        Some((_, why)) => {
            skip(why);
            false
        }
    }
}

/// Runs a script of the shell where `$TOP` is an overlay file system of its own, with the store on it.
#[track_caller]
fn on_overlay(env: &TestEnv, script: &str) -> Outcome {
    let place = env.path("overlay");
    for folder in ["", "lower", "upper", "work", "top"] {
        std::fs::create_dir(place.join(folder)).unwrap();
        env.give(&place.join(folder));
    }
    let (namespaces, options): (&[&str], _) = match env.who {
        Who::Root => (&["--mount"], ""),
        Who::User => (&["--user", "--map-root-user", "--map-auto", "--mount"], ",userxattr"),
    };
    let place = place.to_str().unwrap();
    let script = format!(
        "set -e; cd {place}; mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work{options} top\n\
         export TOP={place}/top RBUILD_ROOT={place}/top/store; R={}\n{script}",
        env.exe().display()
    );
    env.program("unshare", namespaces).args(&["sh", "-c", &script]).output()
}

both! {
    fn a_copied_root_gives_the_layers_that_overlayfs_gives(env) {
        same_layers(&built(env.who, "overlay", STEPS), &built(env.who, "copy", STEPS));
    }

    fn fuse_overlayfs_gives_the_layers_that_overlayfs_gives(env) {
        if fuse_works(env) {
            // Where one of several names of a file goes, it has another one in the layer, too.
            let steps = STEPS.replace("; rm /opt/l3", "");
            same_layers(&built(env.who, "overlay", &steps), &built(env.who, "fuse-overlayfs", &steps));
        }
    }

    fn a_store_on_overlayfs_is_built_in(env) {
        import(env);
        let ctx = env.dockerfile(&format!("FROM hard:test\n{STEPS}"));
        let (plain, image, out) = (env.path_str("plain"), env.path_str("hard"), env.path_str("out"));
        let options = format!("--build-arg {EPOCH} -q -o type=oci,dest");
        env.build(&ctx, &["--build-arg", EPOCH, "-o", &format!("type=oci,dest={plain}")]);
        env.rbuild(&["save", "-o", &image, "hard:test"]).ok();
        let done = on_overlay(env, &format!(
            "$R load -i {image}\n\
             if $R --snapshotter overlay build {0}; then exit 1; fi\n\
             $R --snapshotter copy build {options}={out} {0}\n\
             $R --snapshotter auto build --no-cache -t again {0}\n\
             $R build {0} | grep -c 'Using cache'\n\
             $R run --rm again sh -c 'ls /d1; cat /wd/x/f; echo changed > /wd/x/f; ls /d2; ls /newdir'\n\
             $R run --rm again cat f\n\
             $R save -o saved again; $R rmi -f again; $R load -i saved\n\
             $R run --rm again ls /d9\n\
             $R doctor\n\
             test -z \"$(ls top/store/v1/tmp)\"; echo end of it\n", ctx.path())).ok();
        let done = done.has("cannot use the snapshotter `overlay`: the store `").has("is itself on overlayfs")
            .has("f4\nlink\nhere\nh2\nagain\nhere\n").has("\n16\n").has("\nend of it");
        let said = done.both.lines().filter(|line| line.starts_with("warning: ")).count();
        assert_eq!(said, 1, "once in a build that runs something, and not where it was asked for\n{done}");
        same_layers(&Exported::read(Path::new(&plain)), &Exported::read(Path::new(&out)));
    }

    fn two_builds_share_a_store_and_copy_each_for_itself(env) {
        env.busybox();
        let text = |word: &str| format!(
            "FROM busybox:test AS a\nRUN echo {word} > /a\nFROM a AS b\nRUN echo b{word} > /b; cat /a\n\
             FROM a\nRUN echo c{word} > /c; ! ls /b\nCOPY --from=b /b /\nRUN echo $(cat /a /b /c)\n");
        let contexts = ["one", "two"].map(|word| (word, env.dockerfile(&text(word))));
        let jobs = contexts.each_ref().map(|(_, ctx)| {
            env.rbuild(&["--snapshotter", "copy", "build", ctx.path()]).spawn()
        });
        for (job, (word, _)) in jobs.into_iter().zip(&contexts) {
            job.finish().ok().ran(&format!("{word} b{word} c{word}"));
        }
    }

    fn a_container_on_a_copied_root_leaves_nothing(env) {
        env.busybox();
        let ran = env.rbuild(&["--snapshotter", "copy", "run", "--rm", "busybox:test"])
            .args(&["sh", "-c", "echo x > /new; rm /etc/group; cat /new; ! ls /etc/group"]).ok();
        ran.has("x\n");
        env.run(&["busybox:test", "sh", "-c", "cat /etc/group; ! ls /new"]).ok().has("root:x:0:");
        assert_eq!(std::fs::read_dir(env.store().join("v1/tmp")).unwrap().count(), 0);
    }

    fn an_unknown_snapshotter_is_refused(env) {
        let outcome = env.rbuild(&["images"]).var("RBUILD_SNAPSHOTTER", "zfs").fails();
        outcome.has("unknown snapshotter `zfs`").has("overlay, fuse-overlayfs, copy, and auto");
        env.rbuild(&["--snapshotter", "auto", "images"]).var("RBUILD_SNAPSHOTTER", "zfs").ok();
    }
}

/// The processes of fuse-overlayfs that work in a store.
fn programs(store: &Path) -> usize {
    let of = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).ok();
    let words = std::fs::read_dir("/proc").unwrap().flatten().filter_map(of);
    let store = store.to_str().unwrap();
    words
        .map(|words| String::from_utf8_lossy(&words).into_owned())
        .filter(|words| words.contains("fuse-overlayfs") && words.contains(&format!("upperdir={store}")))
        .count()
}

#[test]
fn fuse_overlayfs_ends_with_a_build_that_is_killed() {
    run_as(Who::Root, |env| {
        if !fuse_works(env) {
            return;
        }
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo up; sleep 1000\n");
        let job = env.rbuild(&["--snapshotter", "fuse-overlayfs", "build", ctx.path()]).spawn();
        job.wait_for("\nup\n");
        assert_eq!(programs(env.store()), 1);
        job.signal(Signal::KILL);
        job.finish();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while programs(env.store()) > 0 {
            assert!(std::time::Instant::now() < deadline, "fuse-overlayfs is left behind");
            std::thread::yield_now();
        }
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        assert!(!mounts.contains(env.store().to_str().unwrap()), "{mounts}");
        let again = env.dockerfile("FROM busybox:test\nRUN echo fine\n");
        env.build(&again, &["--snapshotter", "fuse-overlayfs"]).ran("fine");
    });
}
