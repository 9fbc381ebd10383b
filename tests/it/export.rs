//! `export`: the files of an image or a step as a plain tar; and `import` of it, and from URLs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use super::common::TestEnv;
use super::common::Who;
use super::common::archive::{Entry, entries_of};
use super::common::base::{Tar, busybox_tar};
use super::common::env::is_id;
use super::common::http::{Answer, Body, Files, Server};

/// Exports, and returns the entries by path.
#[track_caller]
fn export(env: &TestEnv, image: &str) -> BTreeMap<String, Entry> {
    entries_of(&exported(env, image)).into_iter().map(|entry| (entry.path.clone(), entry)).collect()
}

#[track_caller]
fn exported(env: &TestEnv, image: &str) -> Vec<u8> {
    let file = env.path_str("rootfs.tar");
    env.rbuild(&["export", "-o", &file, image]).ok().prints("");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    fs::read(file).unwrap()
}

both! {
    fn layers_are_merged(env) {
        env.busybox();
        let ctx = env.dockerfile(
            "FROM busybox:test\nRUN mkdir /d /o && echo one > /d/a && ln /d/a /d/b && ln -s a /d/l && echo gone > /d/g && echo o > /o/o\n\
             RUN rm /d/g && rm -r /o && mkdir /o && echo new > /o/new && rm -r /home\n\
             RUN chown 7:8 /d/a && chmod 4750 /d/a && touch -d @1000000000 /d/a /d\n",
        );
        let built = env.build(&ctx, &["-t", "app:1"]);
        let files = export(env, "app:1");
        let paths: Vec<&str> = files.keys().map(String::as_str).filter(|p| p.starts_with(['d', 'o', 'h']) && *p != "dev").collect();
        assert_eq!(paths, ["d", "d/a", "d/b", "d/l", "o", "o/new"]);
        let a = &files["d/a"];
        assert_eq!((a.uid, a.gid, a.mode, a.mtime, a.content.as_slice()), (7, 8, 0o4750, 1_000_000_000, &b"one\n"[..]));
        assert_eq!(files["d"].mtime, 1_000_000_000);
        assert_eq!(files["d/l"].link.as_deref(), Some("a"));
        assert_eq!(files["etc/passwd"].kind, tar::EntryType::Regular);
        assert!(exported(env, "app:1") == exported(env, "app:1"), "the same bytes each time");
        // A step is as good as an image.
        let ids = built.step_ids();
        let steps: Vec<_> = ids.iter().map(|id| export(env, id)).collect();
        assert!(steps.iter().any(|files| files.contains_key("d/g")), "{ids:?}");
        // A second name of one file in one layer stays one.
        let first = steps.iter().find(|files| files.contains_key("d/g")).unwrap();
        assert_eq!(first["d/b"].link.as_deref(), Some("d/a"), "{:?}", first["d/b"]);
        env.rbuild(&["export", "app:2"]).fails().has("No such container: app:2");
    }

    /// Devices, owners and attributes: what an ordinary user's disk lacks is in the tar all the same.
    fn what_goes_in_comes_out(env) {
        let mut device = tar::Header::new_gnu();
        device.set_entry_type(tar::EntryType::Char);
        device.set_path("dev/null").unwrap();
        device.set_mode(0o666);
        device.set_uid(0);
        device.set_gid(5);
        device.set_size(0);
        device.set_mtime(0);
        device.set_device_major(1).unwrap();
        device.set_device_minor(3).unwrap();
        device.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&device, &b""[..]).unwrap();
        device.set_entry_type(tar::EntryType::Regular);
        device.set_path("far").unwrap();
        device.set_mode(0o4755);
        device.set_uid(1_900_000_000);
        device.set_cksum();
        builder.append_pax_extensions([("SCHILY.xattr.user.note", &b"kept"[..])]).unwrap();
        builder.append(&device, &b""[..]).unwrap();
        let odd = builder.into_inner().unwrap();
        env.rbuild(&["import", "-", "odd"]).stdin(odd).ok();
        let ctx = env.dockerfile("FROM odd\nCOPY f /dev/zz\nCOPY f /aa\n").file("f", "x");
        env.build(&ctx, &["-t", "odd:2"]);
        let file = env.path_str("odd.tar");
        let outcome = env.rbuild(&["export", "-o", &file, "odd:2"]).ok();
        assert_eq!(outcome.stderr, "", "nothing is lost\n{outcome}");
        let order: Vec<String> = entries_of(&fs::read(&file).unwrap()).into_iter().map(|e| e.path).collect();
        assert_eq!(order, ["aa", "dev", "dev/null", "dev/zz", "far"]);
        let files = export(env, "odd:2");
        let null = &files["dev/null"];
        assert_eq!((null.kind, null.mode, null.gid), (tar::EntryType::Char, 0o666, 5));
        let far = &files["far"];
        assert_eq!((far.uid, far.mode, far.xattrs.get("user.note").map(Vec::as_slice)), (1_900_000_000, 0o4755, Some(&b"kept"[..])));
        // And in again, and out again.
        let once = exported(env, "odd:2");
        env.rbuild(&["import", "-", "odd:3"]).stdin(once.clone()).ok();
        assert!(exported(env, "odd:3") == once);
        // What a later layer deletes or covers is not brought back.
        let ctx = env.dockerfile("FROM odd\nCOPY f /dev/null\n").file("f", "x");
        env.build(&ctx, &["-t", "odd:4"]);
        assert_eq!(export(env, "odd:4")["dev/null"].content, b"x");
    }

    fn through_a_pipe_and_back(env) {
        env.busybox();
        let exe = env.exe();
        let words = format!("{0} export busybox:test | {0} import -c 'CMD [\"echo\", \"flat\"]' - flat:1", exe.display());
        env.program("sh", &["-c", &words]).ok();
        env.run(&["flat:1"]).ok().prints("flat\n");
        assert!(exported(env, "busybox:test") == exported(env, "flat:1"));
    }

    fn import_from_a_url(env) {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(busybox_tar()).unwrap();
        let files = Files::start(&[("/root.tar.gz", &gzip.finish().unwrap()), ("/text", b"not a tar")]);
        let url = files.url("/root.tar.gz");
        let outcome = env.rbuild(&["import", "--platform", "linux/arm64", &url, "web:1"]).ok();
        assert!(is_id(outcome.stdout.trim_end()), "the ID alone on standard output\n{outcome}");
        assert!(outcome.stderr.contains(&format!("Downloading from {url}")), "{outcome}");
        env.rbuild(&["history", "web:1"]).ok().has(&format!("Imported from {url}"));
        assert_eq!(env.inspect("web:1")["Architecture"], "arm64");
        assert_eq!(export(env, "web:1")["etc/passwd"].mode, 0o644);
        env.rbuild(&["import", &files.url("/nothing"), "web:2"]).fails().has("404");
        env.rbuild(&["import", &files.url("/text"), "web:2"]).fails().has("not a tar");
        // A password is used, and told nobody.
        let secret = url.replace("http://", "http://me:hunter2@");
        env.rbuild(&["import", &secret, "web:3"]).ok().lacks("hunter2");
        env.rbuild(&["history", "--no-trunc", "web:3"]).ok().lacks("hunter2");
        env.rbuild(&["inspect", "web:2"]).fails();
    }

    /// The tar is whole, but the server said that there was more.
    fn a_download_that_ends_early_gives_no_image(env) {
        let tar = Tar::new().file("a", 0o644, "x").bytes();
        let length = tar.len() as u64 + 10_000;
        let server = Server::start(move |_| Answer::bad(Body::Short(tar.clone(), length)));
        env.rbuild(&["import", &server.url("/a.tar"), "web:1"]).fails().has("cannot");
        env.rbuild(&["images", "-aq"]).ok().prints("");
    }
}

#[test]
fn nothing_is_written_of_what_cannot_be_exported() {
    let Ok(env) = TestEnv::new(Who::Root) else { return };
    env.busybox();
    let folder = env.path("out");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("rootfs.tar");
    fs::write(&file, "before").unwrap();
    let image = env.inspect("busybox:test");
    assert!(image["Id"].is_string());
    let snapshots: Vec<_> = fs::read_dir(env.store().join("v1/snapshots")).unwrap().collect();
    fs::write(snapshots[0].as_ref().unwrap().path().join("fs/.wh.bad"), "").unwrap();
    env.rbuild(&["export", "-o", file.to_str().unwrap(), "busybox:test"]).fails().has(".wh.");
    assert_eq!(fs::read(&file).unwrap(), b"before");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}
