//! `rbuild import`: base images from tars and folders.

use std::io::Write;

use super::common::Who;
use super::common::base::Tar;
use super::common::base::busybox_tar;
use super::common::env::is_id;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

both! {
    fn standard_input_with_a_name(env) {
        let outcome = env.rbuild(&["import", "-", "busybox:test"]).stdin(busybox_tar()).ok();
        assert!(is_id(outcome.stdout.trim_end()), "the image's ID alone\n{outcome}");
        env.run(&["busybox:test", "echo", "hello"]).ok().prints("hello\n");
    }

    fn a_file_without_a_name_gives_an_untagged_image(env) {
        let ctx = env.context().file("root.tar", busybox_tar());
        let outcome = env.rbuild(&["import", &ctx.at("root.tar")]).ok();
        let id = outcome.stdout.trim_end().to_owned();
        assert!(is_id(&id), "{outcome}");
        env.run(&[&id, "echo", "hello"]).ok().prints("hello\n");
        env.rbuild(&["images"]).ok().has("<none>");
    }

    fn a_name_without_a_tag_is_latest(env) {
        env.rbuild(&["import", "-", "box"]).stdin(busybox_tar()).ok();
        env.run(&["box:latest", "true"]).ok();
    }

    fn a_folder(env) {
        let ctx = env.context().file("etc/motd", "hi\n").link("motd", "etc/motd").dir_with_mode("shut", 0o700);
        env.rbuild(&["import", ctx.path(), "folder:1"]).ok();
        let out = env.export(&env.dockerfile("FROM folder:1\n"), &[]);
        assert_eq!(out.entry("etc/motd").content, b"hi\n");
        assert_eq!(out.entry("motd").link.as_deref(), Some("etc/motd"));
        assert_eq!(out.entry("shut").mode, 0o700);
    }

    fn compressed_streams_give_the_same_layer_as_plain_ones(env) {
        let plain = Tar::new().dir("./", 0o755).file("a", 0o644, "content").bytes();
        let diff_ids = |bytes: Vec<u8>, name: &str| {
            env.rbuild(&["import", "-", name]).stdin(bytes).ok();
            env.inspect(name)["RootFS"]["Layers"].clone()
        };
        let expect = diff_ids(plain.clone(), "plain");
        assert_eq!(expect.as_array().map(Vec::len), Some(1));
        assert_eq!(diff_ids(gzip(&plain), "gzip"), expect);
        assert_eq!(diff_ids(zstd_of(&plain), "zstd"), expect);
        // What `pigz` and `cat a.gz b.gz` write: several members, one stream.
        let (head, tail) = plain.split_at(700);
        assert_eq!(diff_ids([gzip(head), gzip(tail)].concat(), "members"), expect);
        assert_eq!(diff_ids([zstd_of(head), zstd_of(tail)].concat(), "frames"), expect);
    }

    fn change_and_message(env) {
        env.rbuild(&["import", "-c", "CMD [\"echo\", \"from cmd\"]", "--change", "ENV A=b", "-m", "a word", "-", "box"])
            .stdin(busybox_tar())
            .ok();
        env.run(&["box"]).ok().prints("from cmd\n");
        env.run(&["box", "sh", "-c", "echo $A"]).ok().prints("b\n");
        env.rbuild(&["history", "box"]).ok().has("a word");
    }

    fn a_change_that_is_not_for_images_fails(env) {
        env.rbuild(&["import", "-c", "RUN true", "-", "box"]).stdin(busybox_tar()).fails().has("RUN");
        env.rbuild(&["images", "-q"]).ok().prints("");
    }

    fn importing_again_gives_the_same_layer(env) {
        env.busybox();
        let first = env.inspect("busybox:test")["RootFS"].clone();
        env.busybox();
        assert_eq!(env.inspect("busybox:test")["RootFS"], first);
    }

    /// An ordinary user cannot make device nodes; the image keeps them all the same.
    fn devices_and_foreign_owners_survive_the_round(env) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Char);
        header.set_path("dev/null").unwrap();
        header.set_mode(0o666);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_size(0);
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, &b""[..]).unwrap();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_path("far").unwrap();
        header.set_uid(1_900_000_000);
        header.set_gid(1_900_000_000);
        header.set_cksum();
        builder.append(&header, &b""[..]).unwrap();
        let bytes = builder.into_inner().unwrap();

        let outcome = env.rbuild(&["import", "-", "odd"]).stdin(bytes).ok();
        if env.who == Who::User {
            assert!(outcome.stderr.contains("device"), "one warning counts what was left out\n{outcome}");
        }
        let out = env.export(&env.dockerfile("FROM odd\n"), &[]);
        assert_eq!(out.entry("dev/null").kind, tar::EntryType::Char);
        assert_eq!(out.entry("far").uid, 1_900_000_000);
    }

    fn an_archive_that_is_none_fails_and_leaves_nothing(env) {
        for (name, bytes) in [
            ("text", b"this is no archive, and long enough to be read as one header block".repeat(20)),
            ("cut", busybox_tar()[..100_000].to_vec()),
            ("cut gzip", gzip(busybox_tar())[..50_000].to_vec()),
            ("empty", Vec::new()),
        ] {
            let outcome = env.rbuild(&["import", "-", "bad:1"]).stdin(bytes).output();
            assert!(outcome.code.is_some_and(|c| c != 0), "{name}\n{outcome}");
            env.rbuild(&["images", "-aq"]).ok().prints("");
        }
    }

    fn a_missing_file_is_named(env) {
        env.rbuild(&["import", "/nowhere/x.tar", "a"]).fails().has("/nowhere/x.tar");
    }

    fn a_bad_name_fails_before_anything_is_read(env) {
        env.rbuild(&["import", "-", "Bad Name"]).stdin(busybox_tar()).fails().has("`Bad Name`");
    }
}
