//! COPY, ADD and `.dockerignore`.

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
}
