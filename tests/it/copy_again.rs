//! A COPY of a context in which little changed: files that did not are linked from the layer before,
//! and nothing that is done to one image is seen in the other.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use super::common::Context;
use super::common::TestEnv;

/// Returns, of each layer that has the path, its inode.
fn inodes(env: &TestEnv, path: &str) -> Vec<u64> {
    let layers = fs::read_dir(env.store().join("v1/snapshots")).unwrap();
    layers
        .filter_map(|layer| fs::symlink_metadata(layer.unwrap().path().join("fs").join(path)).ok())
        .map(|file| file.ino())
        .collect()
}

/// Tells whether all layers that have the path share one file; there must be `layers` of them.
#[track_caller]
fn shared(env: &TestEnv, path: &str, layers: usize) -> bool {
    let found = inodes(env, path);
    assert_eq!(found.len(), layers, "{path}: {found:?}");
    found.iter().all(|inode| *inode == found[0])
}

/// Reads an image back, byte by byte.
fn saved(env: &TestEnv, image: &str) -> Vec<u8> {
    let file = env.path_str("saved.tar");
    env.rbuild(&["save", "-o", &file, image]).ok();
    let bytes = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    bytes
}

fn files<'e>(env: &'e TestEnv, lines: &str) -> Context<'e> {
    env.busybox();
    let context = env.dockerfile(&format!("FROM busybox:test\n{lines}\n"));
    ["a", "b", "d/c", "d/e"]
        .into_iter()
        .fold(context, |context, name| context.file(&format!("files/{name}"), format!("content of {name}\n")))
}

both! {
    fn unchanged_files_are_linked_and_images_stay_apart(env) {
        let context = files(env, "COPY files /app");
        env.build(&context, &["-t", "one"]);
        let before = saved(env, "one");
        context.write("files/b", "changed\n");
        env.build(&context, &["-t", "two"]);
        assert!(shared(env, "app/a", 2) && shared(env, "app/d/c", 2) && shared(env, "app/d/e", 2));
        assert!(!shared(env, "app/b", 2));
        let two = saved(env, "two");
        // A step that writes to what two layers share, in every way, on either image.
        for image in ["one", "two"] {
            let on_top = env.dockerfile(&format!(
                "FROM {image}\nRUN echo more >> /app/a && chmod 0600 /app/d/c && touch -d @5 /app/d/e && : > /app/b \
                 && ln /app/d/c /app/d/f && mv /app/d/e /app/moved\nRUN cat /app/a && test ! -s /app/b && ls -l /app/d\n"
            ));
            env.build(&on_top, &["--network", "none"]).ran("more");
        }
        // And one that may write to a mount of them.
        let mounted = env.dockerfile(
            "FROM busybox:test\nRUN --mount=type=bind,from=two,source=/app,target=/m,rw echo x > /m/a && rm /m/b \
             && chmod 0 /m/d/c\n",
        );
        env.build(&mounted, &["--network", "none"]);
        // The steps have files of their own; the two layers of the COPYs still share theirs.
        let of_c = inodes(env, "app/d/c");
        let distinct: std::collections::BTreeSet<u64> = of_c.iter().copied().collect();
        assert!(of_c.len() > 2 && distinct.len() == of_c.len() - 1, "{of_c:?}");
        assert!(saved(env, "one") == before && saved(env, "two") == two);
        // What the older image goes with, the newer one does not need.
        env.rbuild(&["rmi", "-f", "one"]).ok();
        env.rbuild(&["system", "prune", "-f"]).ok();
        assert!(saved(env, "two") == two);
        env.run(&["--network", "none", "two", "cat", "/app/a", "/app/b"]).has("content of a\nchanged\n");
    }

    fn links_are_in_no_layers_bytes(env) {
        let context = env.dockerfile("FROM scratch\nCOPY files /\nCOPY files/a files/d /d/\n");
        let context = ["a", "b", "d/c", "d/e"].into_iter().fold(context, |context, name| {
            // Times and bytes that are the same everywhere: only the path tells them apart.
            context.file(&format!("files/{name}"), "the same\n")
        });
        let old = fs::File::open(context.at("files/d")).unwrap();
        old.set_modified(std::time::UNIX_EPOCH).unwrap();
        let layers = |store: &str, args: &[&str]| {
            env.rbuild(&[&["build", "--root", store, "-t", "x"], args, &[context.path()]].concat()).ok();
            let of = ["inspect", "--root", store, "--format", "{{json .RootFS.Layers}}", "x"];
            env.rbuild(&of).ok().stdout
        };
        let (used, epoch) = (env.path_str("used"), "SOURCE_DATE_EPOCH=1000000000");
        layers(&used, &["--build-arg", epoch]);
        for round in 0..3 {
            match round {
                0 => context.write("files/b", "changed\n"),
                1 => fs::hard_link(context.at("files/d/e"), context.at("files/d/f")).unwrap(),
                // Two files that were one are two, under names that were linked.
                _ => {
                    fs::remove_file(context.at("files/d/f")).unwrap();
                    fs::rename(context.at("files/a"), context.at("files/d/f")).unwrap();
                    context.write("files/a", "the same\n");
                }
            }
            let found = layers(&used, &["--build-arg", epoch]);
            let fresh = env.path_str(&format!("fresh{round}"));
            assert_eq!(found, layers(&fresh, &["--build-arg", epoch]), "round {round}");
            assert_eq!(found, layers(&used, &["--build-arg", epoch, "--no-cache"]), "round {round}");
        }
    }

    fn what_differs_in_anything_is_copied(env) {
        let context = files(env, "COPY files /app");
        env.build(&context, &[]);
        type Change<'a> = &'a dyn Fn(&str);
        let change: [(&str, Change<'_>); 3] = [
            ("a", &|path| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap()),
            ("b", &|path| {
                let file = fs::File::options().write(true).open(path).unwrap();
                file.set_modified(std::time::UNIX_EPOCH).unwrap();
            }),
            ("d/c", &|path| fs::write(path, "content of C\n").unwrap()),
        ];
        for (name, change) in change {
            change(&context.at(&format!("files/{name}")));
        }
        env.build(&context, &[]);
        assert!(!shared(env, "app/a", 2) && !shared(env, "app/b", 2) && !shared(env, "app/d/c", 2));
        assert!(shared(env, "app/d/e", 2));
        // Two names of one file are linked with each other, not with another layer.
        fs::hard_link(context.at("files/d/e"), context.at("files/d/f")).unwrap();
        env.build(&context, &[]);
        let linked: BTreeMap<u64, usize> = inodes(env, "app/d/e").into_iter().fold(BTreeMap::new(), |mut all, inode| {
            *all.entry(inode).or_default() += 1;
            all
        });
        assert_eq!(linked.values().copied().max(), Some(2), "{linked:?}");
    }

    fn with_source_date_epoch_and_overwritten_files_too(env) {
        let lines = "COPY files other /app/";
        let context = files(env, lines).file("other/a", "covers\n").file("other/z", "z\n");
        let args = ["--build-arg", "SOURCE_DATE_EPOCH=1000"];
        env.build(&context, &[&args[..], &["-t", "one"]].concat());
        let before = saved(env, "one");
        context.write("files/b", "changed\n");
        env.build(&context, &[&args[..], &["-t", "two"]].concat());
        assert!(shared(env, "app/d/c", 2) && shared(env, "app/z", 2));
        assert!(!shared(env, "app/b", 2));
        assert!(saved(env, "one") == before);
        env.run(&["--network", "none", "two", "cat", "/app/a"]).has("covers");
    }

    fn from_another_stage_too(env) {
        let lines = "COPY files /src\nFROM scratch\nCOPY --from=0 /src /app\nCOPY --link files /linked";
        let context = files(env, lines);
        env.build(&context, &["-t", "one"]);
        let before = saved(env, "one");
        context.write("files/b", "changed\n");
        env.build(&context, &["-t", "two"]);
        assert!(shared(env, "linked/a", 2) && !shared(env, "linked/b", 2));
        assert!(shared(env, "app/a", 2) && !shared(env, "app/b", 2));
        assert!(saved(env, "one") == before);
        saved(env, "two");
    }
}
