//! Volumes: made, listed, mounted, filled, shared and removed, as docker has it.

use std::fs;

use super::common::env::is_hex;

both! {
    fn volumes_outlive_containers(env) {
        env.busybox();
        env.rbuild(&["volume", "create", "--label", "k=v", "data"]).ok().prints("data\n");
        env.rbuild(&["volume", "create", "data"]).ok().prints("data\n");
        env.run(&["-v", "data:/data", "busybox:test", "sh", "-c", "echo kept > /data/f"]).ok();
        env.run(&["-v", "data:/data:ro", "busybox:test", "cat", "/data/f"]).ok().prints("kept\n");
        env.run(&["-v", "data:/data:ro", "busybox:test", "touch", "/data/g"]).exits(1).has("Read-only");
        env.rbuild(&["volume", "ls"]).ok().prints("DRIVER    VOLUME NAME\nlocal     data\n");
        env.rbuild(&["volume", "ls", "-q", "--filter", "label=k=w"]).ok().prints("");
        env.rbuild(&["volume", "ls", "--format", "{{.Name}} {{.Labels}} {{.Links}}"]).ok().prints("data k=v 0\n");
        env.rbuild(&["volume", "inspect", "-f", "{{.Name}} {{.Driver}} {{.Scope}}", "data"]).ok().prints("data local local\n");
        env.rbuild(&["inspect", "-f", "{{.Name}} {{.Scope}} {{.Labels.k}}", "data"]).ok().prints("data local v\n");
        env.rbuild(&["inspect", "--type", "volume", "data"]).ok().has("\"Mountpoint\"");
        env.rbuild(&["inspect", "--type", "volume", "busybox:test"]).exits(1).has("get busybox:test: no such volume");
        env.rbuild(&["inspect", "--type", "image", "data"]).exits(1).has("No such image: data:latest");
        env.rbuild(&["volume", "inspect", "none"]).exits(1).has("get none: no such volume");
        env.rbuild(&["system", "df", "--format", "{{.Type}}: {{.TotalCount}} {{.Active}} {{.Size}}"]).ok().has("Local Volumes: 1 0 5B");
        env.rbuild(&["volume", "create", "a/b"]).exits(1).has("includes invalid characters for a local volume name");
        env.rbuild(&["volume", "create", "-o", "type=nfs", "nfs"]).exits(1).has("\"nfs\" is not supported");
        // A container that does not run uses it, too.
        let id = env.rbuild(&["create", "-v", "data:/d", "busybox:test", "true"]).ok().stdout.trim().to_owned();
        let busy = format!("remove data: volume is in use - [{id}]");
        env.rbuild(&["volume", "rm", "data"]).exits(1).has(&busy);
        env.rbuild(&["volume", "ls", "-q", "--filter", "dangling=true"]).ok().prints("");
        env.rbuild(&["rm", "-v", &id]).ok();
        env.rbuild(&["volume", "rm", "data"]).ok().prints("data\n");
        env.rbuild(&["volume", "rm", "data"]).exits(1).has("get data: no such volume");
        env.rbuild(&["volume", "rm", "-f", "data"]).ok();
    }

    fn volumes_are_told_of_as_docker_does(env) {
        env.rbuild(&["volume", "create", "--name", "old", "--label", "k=v"]).ok().prints("old\n");
        env.rbuild(&["volume", "create", "--name", "old", "new"]).exits(2).has("conflicting options");
        env.rbuild(&["volume", "inspect", "-f", "{{.Options}} {{.Labels}} {{.Status}}", "old"]).ok().prints("map[] map[k:v] map[]\n");
        env.rbuild(&["inspect", "-f", "{{.Options}}", "old"]).ok().prints("map[]\n");
        env.rbuild(&["volume", "ls", "--format", "{{.Label \"k\"}} {{.Availability}}"]).ok().prints("v N/A\n");
        env.rbuild(&["volume", "ls", "-q", "--format", "{{.Driver}}"]).ok().prints("local\n");
        env.rbuild(&["volume", "ls", "-q"]).ok().prints("old\n");
    }

    /// What the image has at the place goes into an empty volume, with owners and modes; once.
    fn an_empty_volume_gets_the_images_files(env) {
        env.busybox();
        let file = "FROM busybox:test\nRUN mkdir -p /srv/d && echo image > /srv/d/f && chmod 640 /srv/d/f \
            && chown 1000:1001 /srv/d /srv/d/f && chmod 2750 /srv/d && ln -s f /srv/d/l\nVOLUME /srv/d\n";
        env.build(&env.dockerfile(file), &["-t", "vol"]);
        let look = "stat -c '%u %g %a %N' /srv/d /srv/d/*; cat /srv/d/l";
        let seen = "1000 1001 2750 /srv/d\n1000 1001 640 /srv/d/f\n0 1001 777 '/srv/d/l' -> 'f'\nimage\n";
        let without_quotes = |text: &str| text.replace('\'', "");
        let shown = env.run(&["-v", "named:/srv/d", "vol", "sh", "-c", look]).ok().stdout;
        assert_eq!(without_quotes(&shown), without_quotes(seen));
        env.run(&["-v", "named:/srv/d", "vol", "rm", "/srv/d/l"]).ok();
        env.run(&["-v", "named:/srv/d", "vol", "ls", "/srv/d"]).ok().prints("f\n");
        env.run(&["-v", "bare:/srv/d:nocopy", "vol", "ls", "/srv/d"]).ok().prints("");
        env.run(&["--mount", "src=bare,dst=/srv/d,volume-nocopy", "vol", "ls", "/srv/d"]).ok().prints("");
        env.run(&["--mount", "src=named,dst=/one,volume-subpath=f,readonly", "vol", "cat", "/one"]).ok().prints("image\n");
        // `--rm` took the anonymous ones along.
        env.rbuild(&["volume", "ls", "-q"]).ok().prints("bare\nnamed\n");
        // One that stays is removed with `rm -v`, or pruned.
        env.rbuild(&["create", "--name", "c1", "vol", "true"]).ok();
        let names = env.rbuild(&["volume", "ls", "-q"]).ok().stdout;
        assert!(names.lines().any(|name| is_hex(name, 64)), "{names}");
        env.rbuild(&["rm", "-v", "c1"]).ok();
        env.rbuild(&["create", "--name", "c2", "vol", "true"]).ok();
        env.rbuild(&["volume", "prune", "-f"]).ok().prints("Total reclaimed space: 0B\n");
        env.rbuild(&["rm", "c2"]).ok();
        env.rbuild(&["volume", "prune", "-f"]).ok().has("Deleted Volumes:\n").has("Total reclaimed space: 6B");
        env.rbuild(&["volume", "ls", "-q"]).ok().prints("bare\nnamed\n");
        env.rbuild(&["volume", "prune", "-af"]).ok().has("bare\nnamed\n");
        env.rbuild(&["volume", "ls"]).ok().prints("DRIVER    VOLUME NAME\n");
    }

    fn mounts_of_the_host_and_of_others(env) {
        env.busybox();
        let dir = env.path_str("host");
        env.run(&["-v", &format!("{dir}:/h"), "busybox:test", "sh", "-c", "echo made > /h/f"]).ok();
        assert_eq!(fs::read_to_string(format!("{dir}/f")).unwrap(), "made\n");
        let relative = env.rbuild(&["run", "--rm", "-v", "./host:/h:ro,z", "busybox:test", "cat", "/h/f"]);
        relative.folder(std::path::Path::new(&dir).parent().unwrap()).ok().prints("made\n");
        env.run(&["--mount", &format!("type=bind,src={dir},dst=/h,ro"), "busybox:test", "cat", "/h/f"]).ok().prints("made\n");
        let missing = format!("{dir}/none");
        let told = format!("invalid mount config for type \"bind\": bind source path does not exist: {missing}");
        env.run(&["--mount", &format!("type=bind,src={missing},dst=/h"), "busybox:test", "true"]).exits(125).has(&told);
        env.run(&["--tmpfs", "/t:size=64k,mode=700", "busybox:test", "sh", "-c", "stat -c %a /t; df -k /t | tail -1"]).ok().has("700\n").has(" 64 ");
        env.run(&["-v", "aa:/x", "-v", "bb:/x", "busybox:test", "true"]).exits(125).has("Duplicate mount point: /x");
        env.run(&["-v", "aa:/x:huh", "busybox:test", "true"]).exits(125).has("invalid mode: huh");
        env.run(&["-v", "aa:/", "busybox:test", "true"]).exits(125).has("destination can't be '/'");
        env.rbuild(&["volume", "ls", "-q"]).ok().prints("");
        env.rbuild(&["create", "--name", "keeper", "-v", "aa:/x", "-v", "/y", "busybox:test", "true"]).ok();
        env.run(&["--volumes-from", "keeper", "busybox:test", "sh", "-c", "echo 1 > /x/f; echo 2 > /y/f"]).ok();
        env.run(&["--volumes-from", "keeper:ro", "busybox:test", "sh", "-c", "cat /x/f /y/f; touch /x/g"]).exits(1).has("1\n2\n");
        env.run(&["--volumes-from", "none", "busybox:test", "true"]).exits(125).has("No such container: none");
        // A volume of the keeper's stays for as long as it does, whoever borrowed it.
        env.rbuild(&["start", "keeper"]).ok();
        env.rbuild(&["wait", "keeper"]).ok();
        env.rbuild(&["rm", "-v", "keeper"]).ok();
        env.rbuild(&["volume", "ls", "-q"]).ok().prints("aa\n");
    }

    fn mounts_inside_of_mounts(env) {
        env.busybox();
        let dir = env.path_str("app");
        let source = format!("{dir}:/app");
        env.run(&["-v", &source, "busybox:test", "sh", "-c", "echo 1 > /app/f"]).ok();
        // What is missing is made in the outer one, as docker does, and the inner one hides nothing else.
        let script = "echo x > /app/modules/x; ls /app /app/modules";
        env.run(&["-v", &source, "-v", "/app/modules", "busybox:test", "sh", "-c", script]).ok().prints("/app:\nf\nmodules\n\n/app/modules:\nx\n");
        assert_eq!(fs::read_dir(format!("{dir}/modules")).unwrap().count(), 0);
        env.run(&["-v", "vol:/v/w", "--tmpfs", "/v/w/t/u", "-v", &format!("{dir}/f:/v/w/d/file"), "busybox:test", "sh", "-c", "cat /v/w/d/file; touch /v/w/t/u/g"]).ok().prints("1\n");
        env.run(&["-v", "vol:/v", "busybox:test", "sh", "-c", "cd /v; find . | sort"]).ok().prints(".\n./d\n./d/file\n./t\n./t/u\n");
        env.run(&["-v", &format!("{dir}:/app:ro"), "-v", "/app/none", "busybox:test", "true"]).exits(125).has("cannot make the mount point `/app/none`");
        // The way to it leads through a link that a container has put there.
        env.run(&["-v", "links:/l", "busybox:test", "ln", "-s", "../../../../etc", "/l/out"]).ok();
        env.run(&["-v", "links:/l", "-v", "/l/out/inner", "busybox:test", "ls", "-d", "/etc/inner"]).exits(125).has("cannot make the mount point");
        assert!(!fs::exists("/etc/inner").unwrap());
    }

    fn working_directories_that_are_missing(env) {
        env.busybox();
        let context = env.context().file("Dockerfile", "FROM busybox:test\nRUN mkdir -m 700 /own && chown 1000:1001 /own && ln -s /own /link\n");
        env.build(&context, &["-t", "own"]);
        env.run(&["-w", "/link/a/b", "own", "sh", "-c", "pwd -P; stat -c '%a %u:%g' /own /own/a/b"]).ok().prints("/own/a/b\n700 1000:1001\n755 0:0\n");
        env.run(&["-w", "/etc/passwd/x", "own", "true"]).exits(125).has("cannot make the working directory `/etc/passwd/x`: Not a directory");
        env.run(&["-w", "/data/sub", "-v", "vol:/data", "own", "pwd"]).ok().prints("/data/sub\n");
        env.run(&["-v", "vol:/data", "own", "ls", "/data"]).ok().prints("sub\n");
        env.run(&["-w", "/new", "--read-only", "own", "pwd"]).ok().prints("/new\n");
        // Gone when it starts again.
        env.rbuild(&["run", "--name", "again", "-w", "/w", "own", "rm", "-r", "/w"]).ok();
        env.rbuild(&["start", "-a", "again"]).ok();
    }
}
