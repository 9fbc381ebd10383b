//! The same bytes again: SOURCE_DATE_EPOCH on two stores, and the cache without it.
//!
//! Not here: what is in a cache key otherwise (`cache`).

use std::fs;

use super::common::Context;
use super::common::Exported;
use super::common::TestEnv;
use super::common::Who;
use super::common::base::busybox_tar;
use super::common::skip;

const EPOCH: u64 = 1_500_000_000;

/// Every kind of step and every kind of file; `first` stands before the first FROM.
fn all_steps<'e>(env: &'e TestEnv, first: &str) -> Context<'e> {
    let body = "FROM scratch AS base\nADD bb.tar /\n\
         FROM base AS tools\n\
         RUN mkdir -p /t/d && echo tool > /t/d/f && ln -s f /t/d/l && ln /t/d/f /t/d/h && mkfifo /t/p \
         && chown 1000:1001 /t/d/f && chmod 4755 /t/d/f\n\
         FROM base\nARG SOURCE_DATE_EPOCH\nWORKDIR /w/a\nCOPY tree /tree/\nCOPY --chown=app tree/f /tree/g\n\
         COPY <<X <<Y /here/\nhello\nX\nthere\nY\n\
         RUN echo \"epoch=$SOURCE_DATE_EPOCH\" > /when && rm -rf /home && mkdir /home && rm /etc/group \
         && touch -d @500 /old && touch -d @1500000001 /new\n\
         COPY --from=tools /t /t\nCOPY --link --from=tools /t/d/f /linked/f\n\
         RUN <<X\necho script > /script\nX\n\
         USER app\nWORKDIR /tmp/own\nRUN echo mine > /tmp/mine\nLABEL a=1\nCMD [\"sh\"]\n";
    env.context()
        .file("bb.tar", busybox_tar())
        .file("tree/f", "f")
        .file("tree/d/g", "g")
        .link("tree/l", "d/g")
        .hard_link("tree/h", "tree/f")
        .file("Dockerfile", format!("{first}{body}"))
}

/// Gives all that is in a context another time.
fn touch(env: &TestEnv, context: &Context, time: u64) {
    env.program("find", &[context.path(), "-exec", "touch", "-h", "-d", &format!("@{time}"), "{}", "+"])
        .without_changing_user()
        .ok();
}

/// The archive of a build, as bytes.
#[track_caller]
fn archive(env: &TestEnv, context: &Context, kind: &str, args: &[&str], var: Option<&str>) -> Vec<u8> {
    let file = env.path_str("image.tar");
    let output = format!("type={kind},dest={file}");
    let mut cmd = env.rbuild(&["build", "-o", &output]).args(args).args(&[context.path()]);
    if let Some(value) = var {
        cmd = cmd.var("SOURCE_DATE_EPOCH", value);
    }
    cmd.ok();
    fs::read(file).unwrap()
}

/// Says what differs rather than printing two archives.
#[track_caller]
fn same(one: &[u8], other: &[u8], what: &str) {
    if one == other {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let read = |bytes: &[u8], name: &str| {
        fs::write(dir.path().join(name), bytes).unwrap();
        Exported::read(&dir.path().join(name))
    };
    let (one, other) = (read(one, "1"), read(other, "2"));
    assert_eq!(one.config, other.config, "{what}: config");
    for layer in 0..one.layers.len() {
        let shown = |image: &Exported| {
            let entries = image.entries(layer).into_iter();
            entries.map(|e| (e.path, e.mtime, e.mode, e.uid, e.gid, e.link, e.xattrs)).collect::<Vec<_>>()
        };
        assert_eq!(shown(&one), shown(&other), "{what}: layer {layer}");
    }
    panic!("{what}: the archives differ outside of config and entries");
}

/// How a build is told the time.
const FORMS: [(&str, &[&str], Option<&str>); 3] = [
    ("", &["--build-arg", "SOURCE_DATE_EPOCH=1500000000"], None),
    ("ARG SOURCE_DATE_EPOCH=1500000000\n", &[], None),
    ("", &[], Some("1500000000")),
];

both! {
    /// No cache is shared, the files of the context are older and newer, and the clock has moved on.
    fn two_stores_give_identical_bytes(env) {
        let mut seen: Option<Vec<u8>> = None;
        for (first, args, var) in FORMS {
            let others = [TestEnv::new(env.who).unwrap(), TestEnv::new(env.who).unwrap()];
            let archives = others.each_ref().map(|other| {
                let context = all_steps(other, first);
                let time = if other.dir() == others[0].dir() { EPOCH + 1 } else { EPOCH + 100_000_000 };
                touch(other, &context, time);
                let oci = archive(other, &context, "oci", args, var);
                (oci, archive(other, &context, "docker", args, var))
            });
            let [(oci, docker), (other_oci, other_docker)] = archives;
            same(&oci, &other_oci, first);
            assert!(docker == other_docker, "type=docker {first:?} {args:?} {var:?}");
            // The forms say the same time, so they make the same image.
            match &seen {
                Some(seen) => same(seen, &oci, "another form"),
                None => seen = Some(oci),
            }
        }
    }

    /// Also what a cached build writes: its second one, and one of another order of times.
    fn the_cache_changes_no_byte(env) {
        let context = all_steps(env, "");
        let args = ["--build-arg", "SOURCE_DATE_EPOCH=1500000000"];
        touch(env, &context, EPOCH + 5);
        let first = archive(env, &context, "oci", &args, None);
        touch(env, &context, EPOCH + 50_000);
        same(&first, &archive(env, &context, "oci", &args, None), "cached");
        let no_cache = [&args[..], &["--no-cache"]].concat();
        same(&first, &archive(env, &context, "oci", &no_cache, None), "--no-cache");
    }

    fn without_it_two_cached_builds_are_the_same(env) {
        let context = all_steps(env, "");
        let first = archive(env, &context, "oci", &[], None);
        same(&first, &archive(env, &context, "oci", &[], None), "cached");
        // The control: the time of a build is in what it makes.
        let other = TestEnv::new(env.who).unwrap();
        let context = all_steps(&other, "");
        assert!(archive(&other, &context, "oci", &[], None) != first, "two stores at two times");
    }

    /// Not one time of the build is left, in files, history or config; older times stay.
    fn no_time_is_newer(env) {
        let image = env.export(&all_steps(env, ""), &["--build-arg", "SOURCE_DATE_EPOCH=1500000000"]);
        for layer in 0..image.layers.len() {
            for entry in image.entries(layer) {
                let whiteout = entry.path.contains(".wh.");
                assert!(entry.mtime <= EPOCH, "layer {layer}: {} {}", entry.path, entry.mtime);
                assert!(!whiteout || entry.mtime == 0 || entry.mtime == EPOCH, "{} {}", entry.path, entry.mtime);
            }
        }
        assert_eq!((image.entry("old").mtime, image.entry("new").mtime), (500, EPOCH));
        assert_eq!(image.entry("bin/busybox").mtime, 1_000_000_000, "of the archive");
        assert_eq!(String::from_utf8(image.entry("when").content).unwrap(), "epoch=1500000000\n");
        assert_eq!(image.config["created"], "2017-07-14T02:40:00Z");
        for line in image.config["history"].as_array().unwrap() {
            assert_eq!(line["created"], "2017-07-14T02:40:00Z", "{line}");
        }
    }

    /// One store, several times: none gets the layers of another.
    fn times_do_not_mix_in_one_store(env) {
        let build = |epoch: Option<&str>| {
            let context = all_steps(env, "");
            touch(env, &context, 1_700_000_000);
            let arg = epoch.map(|epoch| format!("SOURCE_DATE_EPOCH={epoch}"));
            let args: Vec<&str> = arg.iter().flat_map(|arg| ["--build-arg", arg.as_str()]).collect();
            env.export(&context, &args)
        };
        let times = |image: &Exported| {
            ["tree/f", "tree/g", "w/a", "here/X", "t/d/f", "linked/f", "script", "tmp/mine", "tmp/own", "new"]
                .map(|path| image.entry(path).mtime)
        };
        assert_eq!(times(&build(Some("1500000000"))), [EPOCH; 10]);
        let plain = build(None);
        assert!(times(&plain).into_iter().all(|time| time > EPOCH), "{:?}", times(&plain));
        assert_eq!(plain.entry("tree/f").mtime, 1_700_000_000, "a copy keeps the time of its source");
        assert_eq!(times(&build(Some("1400000000"))), [1_400_000_000; 10]);
        assert_eq!(times(&build(Some("1500000000"))), [EPOCH; 10], "cached");
        assert_eq!(times(&build(None)), times(&plain), "cached");
    }

    /// A step that sets the very times itself makes no layer for builds that do not ask for them, nor takes theirs.
    fn equal_files_of_other_times_are_other_layers(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo a > /a\nRUN echo b > /b\n");
        let mtime = |args: &[&str]| env.export(&ctx, args).entry("b").mtime;
        let plain = mtime(&[]);
        let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1500000000", "--no-cache"];
        assert_eq!(mtime(&epoch), EPOCH);
        assert!(mtime(&["--no-cache"]) >= plain);
        assert_eq!(mtime(&epoch), EPOCH);
        assert_eq!(mtime(&epoch[..2]), EPOCH);
    }

    fn zero_and_empty(env) {
        let ctx = env.dockerfile("FROM scratch\nCOPY f /f\n").file("f", "x");
        touch(env, &ctx, 1_700_000_000);
        let zero = env.export(&ctx, &["--build-arg", "SOURCE_DATE_EPOCH=0"]);
        assert_eq!((zero.entry("f").mtime, zero.config["created"].as_str()), (0, Some("1970-01-01T00:00:00Z")));
        assert_eq!(env.export(&ctx, &["--build-arg", "SOURCE_DATE_EPOCH="]).entry("f").mtime, 1_700_000_000);
        for bad in ["soon", "1.5", "99999999999999999999"] {
            env.try_build(&ctx, &["--build-arg", &format!("SOURCE_DATE_EPOCH={bad}")]).fails().has("SOURCE_DATE_EPOCH");
        }
    }
}

/// Who builds is not in the image.
#[test]
fn root_and_an_ordinary_user_give_identical_bytes() {
    let archives: Vec<Vec<u8>> = match [Who::Root, Who::User].map(TestEnv::new) {
        [Ok(root), Ok(user)] => [root, user]
            .iter()
            .map(|env| {
                let context = all_steps(env, "ARG SOURCE_DATE_EPOCH=1500000000\n");
                touch(env, &context, EPOCH + 1);
                archive(env, &context, "oci", &[], None)
            })
            .collect(),
        [Err(why), _] | [_, Err(why)] => return skip(&why),
    };
    same(&archives[0], &archives[1], "root and user");
}
