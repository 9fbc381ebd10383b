//! COPY, ADD and `.dockerignore`.

use std::io::Write as _;

use super::common::Context;
use super::common::Exported;
use super::common::TestEnv;
use super::common::base::Tar;

/// Builds `FROM scratch` with these lines and reads the image back.
#[track_caller]
fn copied(env: &TestEnv, ctx: Context, lines: &str) -> Exported {
    env.export(&ctx.file("Dockerfile", format!("FROM scratch\n{lines}\n")), &[])
}

/// Requires the build of these lines on `busybox:test` to fail with a text.
#[track_caller]
fn refused(env: &TestEnv, ctx: Context, line: &str, text: &str) {
    env.busybox();
    let ctx = ctx.file("Dockerfile", format!("FROM busybox:test\n{line}\n"));
    env.try_build(&ctx, &[]).fails().has(text);
}

both! {
    fn files_keep_mode_and_belong_to_root(env) {
        let ctx = env.context().file_with_mode("run.sh", 0o750, "x").file_with_mode("plain", 0o604, "y");
        let out = copied(env, ctx, "COPY run.sh plain /d/");
        let file = out.entry("d/run.sh");
        assert_eq!((file.mode, file.uid, file.gid), (0o750, 0, 0));
        assert_eq!(out.entry("d/plain").mode, 0o604);
        assert_eq!(out.entry("d").mode, 0o755);
    }

    fn a_folder_means_its_content(env) {
        let ctx = env.context().file("src/a/b", "deep").dir_with_mode("src/empty", 0o711).link("src/l", "a/b");
        let out = copied(env, ctx, "COPY src /dst");
        assert_eq!(out.entry("dst/a/b").content, b"deep");
        assert_eq!(out.entry("dst/empty").mode, 0o711);
        assert_eq!(out.entry("dst/l").link.as_deref(), Some("a/b"), "a link inside stays a link");
    }

    fn folders_merge_file_by_file(env) {
        env.busybox();
        let ctx = env.context().file("Dockerfile", "FROM busybox:test\nRUN mkdir -p /d/sub && echo old > /d/keep && chmod 700 /d\nCOPY s /d\nRUN cat /d/keep /d/new && stat -c mode=%a /d\n").file("s/new", "new\n");
        env.build(&ctx, &[]).ran("old").ran("new").ran("mode=700");
    }

    fn a_link_named_directly_is_followed(env) {
        let ctx = env.context().file("real/f", "x").link("dirlink", "real").link("filelink", "real/f");
        let out = copied(env, ctx, "COPY dirlink /d/\nCOPY filelink /f");
        assert_eq!(out.entry("d/f").content, b"x");
        assert_eq!(out.entry("f").kind, tar::EntryType::Regular);
    }

    fn wildcards(env) {
        let ctx = env.context().file("a1.txt", "").file("a2.txt", "").file("b.txt", "").file("sub/a3.txt", "");
        let out = copied(env, ctx, "COPY a?.txt nomatch* /w/\nCOPY [b-c].tx[t] /v/");
        let all: Vec<String> = (0..2).flat_map(|l| out.entries(l)).map(|e| e.path).collect();
        assert!(all.contains(&"w/a1.txt".into()) && all.contains(&"w/a2.txt".into()) && all.contains(&"v/b.txt".into()));
        assert!(!all.iter().any(|p| p.contains("a3")), "{all:?}");
    }

    fn names_with_spaces_in_json_form(env) {
        let out = copied(env, env.context().file("a b", "x"), r#"COPY ["a b", "/c d/"]"#);
        assert_eq!(out.entry("c d/a b").content, b"x");
    }

    fn a_missing_file_is_named_with_its_line(env) {
        refused(env, env.context(), "COPY missing.txt /", "not found");
        refused(env, env.context(), "COPY missing.txt /", "missing.txt");
        refused(env, env.context(), "COPY missing.txt /", "Dockerfile:2");
    }

    fn two_sources_need_a_folder(env) {
        refused(env, env.context().file("a", "").file("b", ""), "COPY a b /dst", "/dst");
    }

    fn a_folder_onto_a_file_fails(env) {
        refused(env, env.context().file("d/x", ""), "COPY d /etc/passwd", "/etc/passwd");
    }

    fn chown_by_number_and_by_name_of_the_image(env) {
        env.busybox();
        let ctx = env.context().file("f", "").file("Dockerfile",
            "FROM busybox:test\nCOPY --chown=app f /a\nCOPY --chown=1234 f /b\nCOPY --chown=7:extra f /c\n");
        let out = env.export(&ctx, &[]);
        let owner = |path| (out.entry(path).uid, out.entry(path).gid);
        assert_eq!(owner("a"), (1000, 1001));
        assert_eq!(owner("b"), (1234, 1234));
        assert_eq!(owner("c"), (7, 2000));
        refused(env, env.context().file("f", ""), "COPY --chown=nosuch f /z", "nosuch");
    }

    fn chmod_octal_and_symbolic(env) {
        let ctx = env.context().file_with_mode("f", 0o644, "").dir_with_mode("d/sub", 0o755).file("d/g", "");
        let out = copied(env, ctx, "COPY --chmod=4710 f /a\nCOPY --chmod=u=rwX,go= d /d\nCOPY --chmod=+x f /b");
        assert_eq!(out.entry("a").mode, 0o4710);
        assert_eq!(out.entry("d/sub").mode, 0o700);
        assert_eq!(out.entry("d/g").mode, 0o600);
        assert_eq!(out.entry("b").mode, 0o755);
    }

    fn copy_from_a_stage_keeps_owners(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test AS a\nRUN mkdir /o && echo x > /o/f && chown -R 5:6 /o && ln /o/f /o/g\nFROM scratch\nCOPY --from=a /o /o\n");
        let out = env.export(&ctx, &[]);
        assert_eq!((out.entry("o/f").uid, out.entry("o/f").gid), (5, 6));
        assert_eq!(out.entry("o/g").kind, tar::EntryType::Link, "hard links stay links");
    }

    fn a_destination_link_stays_inside_the_image(env) {
        env.busybox();
        let ctx = env.context().file("f", "x").file("Dockerfile",
            "FROM busybox:test\nRUN ln -s /tmp /sl && ln -s ../../../../../../tmp/up /up && mkdir /tmp/up\nCOPY f /sl/\nCOPY f /up/\nRUN cat /tmp/f /tmp/up/f && test -L /sl && echo in''side\n");
        env.build(&ctx, &[]).ran("inside");
        assert!(!std::fs::exists("/tmp/up/f").unwrap());
    }

    fn a_source_cannot_leave_the_context(env) {
        let ctx = || env.context().link("shadow", "/etc/hostname").link("up", "../../../../../../etc/hostname").file("a.txt", "mine");
        refused(env, ctx(), "COPY shadow /", "not found");
        refused(env, ctx(), "COPY up /", "not found");
        refused(env, ctx(), "COPY ../../../../../../etc/hostname /", "not found");
        let out = copied(env, ctx(), "COPY ../../a.txt /x");
        assert_eq!(out.entry("x").content, b"mine", "`..` is cut off at the context's root");
    }

    fn a_fifo_or_socket_in_the_context_does_not_hang(env) {
        let out = copied(env, env.context().file("d/f", "x").fifo("unused"), "COPY d /d");
        assert_eq!(out.entry("d/f").content, b"x");
        refused(env, env.context().fifo("the-fifo"), "COPY the-fifo /", "the-fifo");
        refused(env, env.context().socket("a-socket"), "COPY a-socket /", "a-socket");
    }

    fn hard_links_within_one_copy_stay_links(env) {
        let out = copied(env, env.context().file("d/one", "x").hard_link("d/two", "d/one"), "COPY d /d");
        let kinds = [out.entry("d/one").kind, out.entry("d/two").kind];
        assert_eq!(kinds, [tar::EntryType::Regular, tar::EntryType::Link]);
        assert_eq!(out.entry("d/two").link.as_deref(), Some("d/one"));
    }

    fn add_unpacks_local_archives(env) {
        let tar = Tar::new().dir("d/", 0o750).file("d/f", 0o640, "inside").link("d/l", "f").hard_link("d/h", "d/f").bytes();
        let zstd = zstd::encode_all(tar.as_slice(), 1).unwrap();
        let ctx = env.context().file("a.tar", &tar).file("b.any-name", &zstd).file("plain.txt", "x");
        let out = copied(env, ctx, "ADD a.tar /t/\nADD b.any-name /z\nADD plain.txt /p/\nCOPY a.tar /raw.tar");
        assert_eq!(out.entry("t/d/f").content, b"inside");
        assert_eq!((out.entry("t/d/f").mode, out.entry("t/d").mode), (0o640, 0o750));
        assert_eq!(out.entry("t/d/h").kind, tar::EntryType::Link);
        assert_eq!(out.entry("z/d/f").content, b"inside");
        assert_eq!(out.entry("p/plain.txt").content, b"x");
        assert_eq!(out.entry("raw.tar").content, tar);
    }

    fn add_of_a_hostile_archive_stays_inside(env) {
        env.busybox();
        let evil: [(&str, Vec<u8>); 6] = [
            ("up", Tar::new().file("../../../../outside", 0o644, "EVIL").bytes()),
            ("absolute", Tar::new().file("/outside", 0o644, "EVIL").bytes()),
            ("mixed", Tar::new().file("a/../../../outside", 0o644, "EVIL").bytes()),
            ("link", Tar::new().link("l", "../../../../../..").file("l/outside", 0o644, "EVIL").bytes()),
            ("hard", Tar::new().hard_link("h", "../../../../../../etc/hostname").bytes()),
            ("dot", Tar::new().link(".", "/").file("outside", 0o644, "EVIL").bytes()),
        ];
        for (name, tar) in evil {
            let ctx = env.context().file("e.tar", &tar).file("Dockerfile", "FROM busybox:test\nADD e.tar /x/\nRUN cat /x/h || true\n");
            let outcome = env.try_build(&ctx, &[]);
            let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
            assert!(host.is_empty() || !outcome.printed(host.trim()), "{name}\n{outcome}");
            for place in ["/outside", "/tmp/outside"] {
                assert!(!std::fs::exists(place).unwrap(), "{name} wrote {place}");
            }
            assert!(walkdir::WalkDir::new(env.dir()).into_iter().flatten()
                .filter(|e| e.file_name() == "outside")
                .all(|e| e.path().starts_with(env.store())), "{name} left the store");
        }
    }

    /// Whiteouts and overlayfs's own marks in an archive must not delete what is below.
    fn add_cannot_hide_files_of_the_base(env) {
        env.busybox();
        for (name, tar) in [
            ("whiteout", Tar::new().file("etc/.wh.passwd", 0o644, "").bytes()),
            ("opaque", Tar::new().file("etc/.wh..wh..opq", 0o644, "").bytes()),
            ("mark", Tar::new().pax("SCHILY.xattr.trusted.overlay.opaque", b"y").dir("etc/", 0o755).bytes()),
            ("user mark", Tar::new().pax("SCHILY.xattr.user.overlay.opaque", b"y").dir("etc/", 0o755).bytes()),
            ("device", Tar::new().entry(tar::EntryType::Char, "etc/passwd", 0o644, "", b"").bytes()),
        ] {
            let ctx = env.context().file("e.tar", &tar).file("Dockerfile", "FROM busybox:test\nADD e.tar /\nRUN grep -q app /etc/passwd && echo still-there\n");
            let outcome = env.try_build(&ctx, &["--no-cache"]);
            let fine = if outcome.code == Some(0) { outcome.printed("still-there") } else { !outcome.stderr.is_empty() };
            assert!(fine, "{name}\n{outcome}");
        }
    }

    fn dockerignore_keeps_files_out(env) {
        let ctx = env.context()
            .file(".dockerignore", "# a comment\n*.log\n!keep.log\nsub/*\n!sub/a\n**/deep\nDockerfile\n")
            .file("x.log", "").file("keep.log", "").file("sub/a", "").file("sub/b", "").file("p/q/deep", "").file("p/q/r", "");
        let out = copied(env, ctx, "COPY . /c/");
        let mut paths = out.last_paths();
        paths.retain(|p| out.entry(p).kind == tar::EntryType::Regular);
        assert_eq!(paths, ["c/.dockerignore", "c/keep.log", "c/p/q/r", "c/sub/a"]);
    }

    fn an_ignored_file_is_not_found(env) {
        refused(env, env.context().file(".dockerignore", "secret").file("secret", ""), "COPY secret /", "not found");
    }

    fn a_dockerfiles_own_ignore_file_wins(env) {
        let ctx = env.context().file("a", "").file("b", "").file(".dockerignore", "a").file("Other.dockerignore", "b")
            .file("Other", "FROM scratch\nCOPY a /\n");
        let file = ctx.at("Other");
        let out = env.export(&ctx, &["-f", &file]);
        assert_eq!(out.last_paths(), ["a"]);
    }

    fn a_link_as_the_dockerfile_shows_nothing_of_the_host(env) {
        let host = env.context().file("private", "TOP SECRET LINE\n");
        let ctx = env.context().link("Dockerfile", &host.at("private"));
        env.try_build(&ctx, &[]).fails().lacks("TOP SECRET");
    }

    fn times_are_kept_in_the_layer(env) {
        let ctx = env.context().file("f", "x");
        env.program("touch", &["-d", "@1000000000", &ctx.at("f")]).ok();
        assert_eq!(copied(env, ctx, "COPY f /f").entry("f").mtime, 1_000_000_000);
    }

    fn parents_keep_the_path(env) {
        let ctx = || env.context().dir_with_mode("a", 0o711).dir_with_mode("a/b", 0o750)
            .file("a/b/c.txt", "c").file("a/b/d.md", "d").file("a/e/f.txt", "f").file("top.txt", "t");
        let paths = |line: &str| {
            let out = copied(env, ctx(), line);
            out.last().into_iter().filter(|e| e.kind == tar::EntryType::Regular).map(|e| e.path).collect::<Vec<_>>()
        };
        assert_eq!(paths("COPY --parents a/b/c.txt top.txt /x/"), ["x/a/b/c.txt", "x/top.txt"]);
        assert_eq!(paths("COPY --parents a/./b/c.txt /x"), ["x/b/c.txt"]);
        assert_eq!(paths("COPY --parents ./a/b/./*.txt /x/"), ["x/c.txt"]);
        assert_eq!(paths("COPY --parents **/*.txt /x/"), ["x/a/b/c.txt", "x/a/e/f.txt", "x/top.txt"]);
        assert_eq!(paths("COPY --parents a/**/f.txt /"), ["a/e/f.txt"]);
        assert_eq!(paths("COPY --parents a/*/./*.txt /x/"), ["x/c.txt", "x/f.txt"]);
        assert_eq!(paths("COPY --parents --exclude=**/*.md a/b /x/"), ["x/a/b/c.txt"]);
        assert_eq!(paths("COPY --parents nothing* top.txt /x/"), ["x/top.txt"]);
        assert_eq!(paths("WORKDIR /w\nCOPY --parents a/b/c.txt ."), ["w/a/b/c.txt"]);
        let out = copied(env, ctx(), "COPY --parents a/b/c.txt /x/");
        let modes = ["x", "x/a", "x/a/b", "x/a/b/c.txt"].map(|path| out.entry(path).mode);
        assert_eq!(modes, [0o755, 0o711, 0o750, 0o644], "directories on the way are the source's");
        let out = copied(env, ctx(), "COPY --parents --chmod=700 --chown=3:4 a/b/c.txt /x/");
        for path in ["x", "x/a", "x/a/b", "x/a/b/c.txt"] {
            let entry = out.entry(path);
            assert_eq!((entry.mode, entry.uid, entry.gid), (0o700, 3, 4), "{path}");
        }
        refused(env, ctx(), "COPY --parents a/b/missing /x/", "\"/a/b/missing\": not found");
        refused(env, ctx(), "COPY --parents --exclude=*.md a/b/missing /x/", "\"/a/b/missing\": not found");
    }

    fn parents_from_a_stage_keep_owners(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test AS a\nRUN mkdir -p /o/p && echo x > /o/p/f && chown -R 5:6 /o && chmod 711 /o\n\
            FROM scratch\nCOPY --from=a --parents /o/*/f /x/\nCOPY --from=a --parents /o/./p /y/\n");
        let out = env.export(&ctx, &[]);
        let all = |path| { let e = out.entry(path); (e.mode, e.uid, e.gid) };
        assert_eq!(all("x"), (0o755, 0, 0));
        assert_eq!(all("x/o"), (0o711, 5, 6));
        assert_eq!(all("x/o/p/f"), (0o644, 5, 6));
        assert_eq!(all("y/p/f"), (0o644, 5, 6));
    }

    fn exclude_leaves_out(env) {
        let ctx = || env.context().file("d/a.txt", "").file("d/b.md", "").file("d/s/c.txt", "").file("d/s/keep.txt", "").file("top.txt", "");
        let paths = |line: &str| {
            let out = copied(env, ctx(), line);
            if out.layers.is_empty() { return Vec::new() }
            out.last().into_iter().filter(|e| e.kind == tar::EntryType::Regular).map(|e| e.path).collect::<Vec<_>>()
        };
        assert_eq!(paths("COPY --exclude=*.txt d /x"), ["x/b.md", "x/s/c.txt", "x/s/keep.txt"]);
        assert_eq!(paths("COPY --exclude=**/*.txt d /x"), ["x/b.md"]);
        assert_eq!(paths("COPY --exclude=**/*.txt --exclude=!**/keep.txt d /x"), ["x/b.md", "x/s/keep.txt"]);
        assert_eq!(paths("COPY --exclude=*.md --exclude=s d top.txt /x/"), ["x/a.txt", "x/top.txt"]);
        assert_eq!(paths("COPY --exclude=top* top.txt d/b.md /x/"), ["x/b.md"]);
        assert_eq!(paths("ADD --exclude=s/c* d /x"), ["x/a.txt", "x/b.md", "x/s/keep.txt"]);
        assert_eq!(paths("ARG P=*.md\nCOPY --exclude=$P d /x"), ["x/a.txt", "x/s/c.txt", "x/s/keep.txt"]);
        refused(env, ctx(), "COPY --exclude=[ d /x", "[");
    }

    fn link_makes_a_layer_of_its_own(env) {
        env.busybox();
        let ctx = env.context().file_with_mode("f", 0o640, "x").file("d/g", "y").file("Dockerfile",
            "FROM busybox:test\nRUN mkdir /m && chmod 711 /m && ln -s /tmp /sl && ln -s m /ml\n\
             COPY --link f /sl/\nCOPY --link --chmod=u=rwX,go= --chown=7:8 d /ml/n\nCOPY --link --chown=app f /m/f\n\
             RUN test ! -L /sl && test ! -e /tmp/f && test ! -e /m/n && echo re''placed\n");
        env.build(&ctx, &[]).ran("replaced");
        let out = env.export(&ctx, &[]);
        let all = |path| { let e = out.entry(path); (e.mode, e.uid, e.gid) };
        let layer = |wanted: &str| (0..out.layers.len()).find(|l| out.entries(*l).iter().any(|e| e.path == wanted)).unwrap();
        let paths = |wanted: &str| out.entries(layer(wanted)).into_iter().map(|e| (e.path, e.kind)).filter(|(p, _)| !p.is_empty()).collect::<Vec<_>>();
        use tar::EntryType::{Directory, Regular};
        assert_eq!(paths("sl/f"), [("sl".into(), Directory), ("sl/f".into(), Regular)]);
        assert_eq!(all("sl/f"), (0o640, 0, 0));
        assert_eq!((all("ml/n"), all("ml/n/g")), ((0o700, 7, 8), (0o600, 7, 8)));
        assert_eq!(all("ml"), (0o700, 7, 8));
        assert_eq!((all("m"), all("m/f")), ((0o755, 1000, 1001), (0o640, 1000, 1001)), "not the mode of the base's /m");
    }

    fn an_unknown_owner_fails_with_a_reason(env) {
        for owner in ["nosuch", "nosuch:app", "app:nosuch", "1:nosuch"] {
            refused(env, env.context().file("f", ""), &format!("COPY --chown={owner} f /z"), "--chown");
        }
        let ctx = env.context().file("f", "").file("Dockerfile", "FROM scratch\nCOPY --chown=root f /z\n");
        env.try_build(&ctx, &[]).fails().has("root").has("Dockerfile:2");
    }

    fn capabilities_hold_outside_of_the_namespace(env) {
        env.busybox();
        // cap_net_bind_service+ep, revision 2: linux/capability.h, struct vfs_cap_data.
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut tar = Tar::new().pax("SCHILY.xattr.security.capability", &capability).file("v2", 0o755, "x");
        // Revision 3, bound to a namespace whose root is 0 in the one that reads it.
        let mut bound = capability.to_vec();
        bound[3] = 3;
        bound.extend([0; 4]);
        tar = tar.pax("SCHILY.xattr.security.capability", &bound).file("v3", 0o755, "y");
        let ctx = env.context().file("a.tar", tar.bytes()).file_with_mode("plain", 0o755, "z").file("Dockerfile",
            "FROM busybox:test AS a\nADD a.tar /t/\nFROM a AS b\nRUN cat /t/v2\nFROM scratch\n\
             COPY --from=b /t/v2 /one\nCOPY --from=b --chown=5:6 --chmod=4755 /t /all\nCOPY plain /plain\nADD a.tar /added/\n");
        let out = env.export(&ctx, &[]);
        for path in ["one", "all/v2", "all/v3", "added/v2", "added/v3"] {
            let xattrs = out.entry(path).xattrs;
            assert_eq!(xattrs.get("security.capability").map(Vec::as_slice), Some(&capability[..]), "{path}");
        }
        assert_eq!((out.entry("all/v2").mode, out.entry("all/v2").uid), (0o4755, 5));
        assert!(out.entry("plain").xattrs.is_empty());
    }

    /// Only root can make such a file; anybody may have one, from a package.
    fn capabilities_and_attributes_of_the_context_are_kept(env) {
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let ctx = env.context().file_with_mode("tool", 0o755, "x");
        let flags = rustix::fs::XattrFlags::empty();
        if let Err(e) = rustix::fs::setxattr(ctx.at("tool"), "security.capability", &capability, flags) {
            return crate::common::not_here(&format!("security.capability cannot be set: {e}"));
        }
        rustix::fs::setxattr(ctx.at("tool"), "user.note", b"hello", flags).unwrap();
        let out = copied(env, ctx, "COPY tool /tool");
        let xattrs = out.entry("tool").xattrs;
        assert_eq!(xattrs.get("security.capability").map(Vec::as_slice), Some(&capability[..]));
        assert_eq!(xattrs.get("user.note").map(Vec::as_slice), Some(&b"hello"[..]));
    }

    fn add_unpacks_every_compression(env) {
        let tar = Tar::new().file("d/f", 0o640, "inside").bytes();
        let bzip2 = |bytes: &[u8]| {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let xz = |bytes: &[u8]| {
            let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(6)).unwrap();
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let gzip = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let packings: [(&str, &dyn Fn(&[u8]) -> Vec<u8>); 3] = [("bz2", &bzip2), ("xz", &xz), ("gz", &gzip)];
        for (name, pack) in packings {
            let (first, second) = tar.split_at(600);
            let ctx = env.context().file("a", pack(&tar)).file("parts", [pack(first), pack(second)].concat())
                .file("text", pack(b"no tar")).file("cut", &pack(&tar)[..pack(&tar).len() - 5]);
            let lines = "ADD a /a/\nADD parts /parts\nADD text /text\nADD --unpack=false a /raw\nCOPY a /copied\nADD --chown=3:4 --chmod=700 a /own/";
            let out = copied(env, ctx, lines);
            for path in ["a/d/f", "parts/d/f", "own/d/f"] {
                assert_eq!((out.entry(path).content.as_slice(), out.entry(path).mode), (&b"inside"[..], 0o640), "{name} {path}");
            }
            assert_eq!((out.entry("own/d/f").uid, out.entry("own").gid), (3, 4));
            assert_eq!(out.entry("text").content, pack(b"no tar"));
            assert_eq!((out.entry("raw").content, out.entry("copied").content), (pack(&tar), pack(&tar)));
            let ctx = env.context().file("cut", &pack(&tar)[..pack(&tar).len() - 5]).file("Dockerfile", "FROM scratch\nADD cut /x/\n");
            env.try_build(&ctx, &[]).fails().has("cannot unpack `cut`").has("Dockerfile:2");
            // The same reader serves a build context and an image to import.
            let context = Tar::new().file("Dockerfile", 0o644, "FROM scratch\nCOPY f /\n").file("f", 0o644, "x").bytes();
            env.rbuild(&["build", "-"]).stdin(pack(&context)).ok();
            env.rbuild(&["import", "-", &format!("from-{name}")]).stdin(pack(&tar)).ok();
            env.rbuild(&["import", "-", "cut"]).stdin(&pack(&tar)[..pack(&tar).len() - 5]).fails();
        }
    }

    fn sparse_files_stay_sparse(env) {
        let ctx = env.context().file("d/sparse", "");
        let file = std::fs::File::options().write(true).open(ctx.at("d/sparse")).unwrap();
        file.set_len(96 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"end", (96 << 20) - 3).unwrap();
        env.build(&ctx.file("Dockerfile", "FROM scratch\nCOPY d /d\n"), &[]);
        let found = walkdir::WalkDir::new(env.store()).into_iter().flatten().find(|e| e.file_name() == "sparse").unwrap();
        let meta = found.metadata().unwrap();
        use std::os::unix::fs::MetadataExt;
        assert_eq!(meta.len(), 96 << 20);
        assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
    }

    fn special_bits_are_kept(env) {
        let ctx = env.context().file_with_mode("setuid", 0o4755, "").file_with_mode("setgid", 0o2755, "").dir_with_mode("d/sticky", 0o1777);
        let out = copied(env, ctx, "COPY setuid setgid /x/\nCOPY d /y\nCOPY --chown=9:9 setuid /z");
        let modes = ["x/setuid", "x/setgid", "y/sticky", "z"].map(|path| out.entry(path).mode);
        assert_eq!(modes, [0o4755, 0o2755, 0o1777, 0o4755]);
    }

    fn hard_links_across_sources_of_one_copy(env) {
        let ctx = || env.context().file("a/one", "x").hard_link("b/two", "a/one").hard_link("three", "a/one").file("four", "x");
        let out = copied(env, ctx(), "COPY a b three four /d/");
        let kinds = ["one", "two", "three", "four"].map(|name| out.entry(&format!("d/{name}")).kind);
        use tar::EntryType::{Link, Regular};
        assert_eq!(kinds.iter().filter(|k| **k == Link).count(), 2, "{kinds:?}");
        assert_eq!(kinds[3], Regular);
        let out = copied(env, ctx(), "COPY three /d/\nCOPY a/one /d/");
        assert_eq!((out.entry("d/three").kind, out.entry("d/one").kind), (Regular, Regular), "two COPYs do not link");
    }

    fn directories_onto_what_is_there(env) {
        let base = |line: &str| format!("RUN mkdir -p /d/sub && chmod 700 /d && chmod 711 /d/sub && touch /file && ln -s /d /l\n{line}");
        let ctx = || env.context().file("s/sub/new", "").dir_with_mode("s/sub", 0o750).file("s/f", "").file("t", "");
        env.busybox();
        let out = |line: &str| env.export(&ctx().file("Dockerfile", format!("FROM busybox:test\n{}\n", base(line))), &[]);
        let found = out("COPY s /d");
        assert_eq!((found.entry("d").mode, found.entry("d/sub").mode), (0o700, 0o750), "its own mode stays; those inside take the source's");
        assert_eq!(out("COPY s /l").last().iter().filter(|e| e.path == "d/f").count(), 1, "a link to a directory is followed");
        assert_eq!(out("COPY t /l/").entry("d/t").content, b"");
        assert_eq!(out("COPY t /l/new/deep/").entry("d/new/deep/t").mode, 0o644);
        refused(env, ctx(), &base("COPY s /file"), "/file");
        refused(env, ctx(), &base("COPY t /file/"), "file");
        refused(env, ctx(), &base("COPY t /file/x"), "file");
        refused(env, ctx().file("u/sub", ""), &base("COPY u /d"), "sub");
    }

    fn heredocs_and_paths_together(env) {
        let ctx = env.context().file_with_mode("p", 0o600, "path");
        let out = copied(env, ctx, "ARG V=1\nCOPY p <<A <<'B' <<-C /d/\na $V\nA\nb $V\nB\n\t\tc\n\tC\nCOPY --chmod=700 --chown=3:4 <<EOF /e\nx\nEOF\nADD <<EOF /f\ny\nEOF");
        let all = |path| { let e = out.entry(path); (String::from_utf8(e.content).unwrap(), e.mode, e.uid) };
        assert_eq!(all("d/p"), ("path".into(), 0o600, 0));
        assert_eq!(all("d/A"), ("a 1\n".into(), 0o644, 0));
        assert_eq!(all("d/B"), ("b $V\n".into(), 0o644, 0));
        assert_eq!(all("d/C"), ("c\n".into(), 0o644, 0));
        assert_eq!(all("e"), ("x\n".into(), 0o700, 3));
        assert_eq!(all("f"), ("y\n".into(), 0o644, 0));
    }

    fn odd_names(env) {
        let ctx = || env.context().file("a'b\"c", "1").file("new\nline", "2").file("[x]*?", "3").file("-dash", "4").file("ünï", "5").file("tab\there", "6").file("$V", "7");
        let out = copied(env, ctx(), "COPY . /d/");
        for (name, content) in [("a'b\"c", "1"), ("new\nline", "2"), ("[x]*?", "3"), ("-dash", "4"), ("ünï", "5"), ("tab\there", "6"), ("$V", "7")] {
            assert_eq!(out.entry(&format!("d/{name}")).content, content.as_bytes(), "{name:?}");
        }
        let out = copied(env, ctx(), r#"COPY ["[[]x]\\*\\?", "-dash", "ünï", "\\$V", "/e/"]"#);
        for name in ["[x]*?", "-dash", "ünï", "$V"] {
            assert!(out.last_paths().contains(&format!("e/{name}")), "{name} {:?}", out.last_paths());
        }
    }

    fn ignore_rules_one_by_one(env) {
        let kept = |rules: &[u8]| {
            let ctx = env.context().file(".dockerignore", rules)
                .file("a.txt", "").file("b.md", "").file("#c", "").file("d/a.txt", "").file("d/e/f.log", "").file("x*y", "").file("foo", "").file("d/xfoo", "");
            let out = copied(env, ctx, "COPY . /c/");
            let mut paths: Vec<String> = out.last().into_iter().filter(|e| e.kind == tar::EntryType::Regular).map(|e| e.path[2..].to_owned()).collect();
            paths.retain(|p| p != ".dockerignore" && p != "Dockerfile");
            paths.join(" ")
        };
        let all = "#c a.txt b.md d/a.txt d/e/f.log d/xfoo foo x*y";
        let without = |gone: &[&str]| all.split(' ').filter(|p| !gone.contains(p)).collect::<Vec<_>>().join(" ");
        assert_eq!(kept(b""), all);
        assert_eq!(kept(b"*.txt"), without(&["a.txt"]));
        assert_eq!(kept(b"\xef\xbb\xbfa.txt\r\n"), without(&["a.txt"]));
        assert_eq!(kept(b"#c"), all, "a comment");
        assert_eq!(kept(b" #c"), without(&["#c"]), "only the first column begins one");
        assert_eq!(kept(b"\\#c"), without(&["#c"]));
        assert_eq!(kept(b"**foo"), without(&["foo", "d/xfoo"]), "a suffix");
        assert_eq!(kept(b"**/foo"), without(&["foo"]));
        assert_eq!(kept(b"/./d//e/../e"), without(&["d/e/f.log"]));
        assert_eq!(kept(b"[ab].*"), without(&["a.txt", "b.md"]));
        assert_eq!(kept(b"[^a].md"), without(&["b.md"]));
        assert_eq!(kept(b"x\\*y"), without(&["x*y"]));
        assert_eq!(kept(b"*\n!d/e"), "d/e/f.log", "a match of a parent counts");
        assert_eq!(kept(b"d\n!d/a.txt\n**/a.*"), without(&["a.txt", "d/a.txt", "d/e/f.log", "d/xfoo"]), "the last match wins");
        assert_eq!(kept(b"?.txt\n*/*/*.log"), without(&["a.txt", "d/e/f.log"]));
        let ctx = || env.context().file("a", "");
        refused(env, ctx().file(".dockerignore", "x\n ! \n"), "COPY a /", "line 2");
        refused(env, ctx().file(".dockerignore", "x\n\na["), "COPY a /", "line 3");
    }

    fn the_dockerfile_may_be_ignored_and_is_read(env) {
        let ctx = || env.context().file("a", "").file(".dockerignore", "Dockerfile\n.dockerignore\n");
        let out = copied(env, ctx(), "COPY . /c/");
        assert_eq!(out.last_paths(), ["c", "c/a"]);
        refused(env, ctx(), "COPY Dockerfile /", "not found");
    }
}
