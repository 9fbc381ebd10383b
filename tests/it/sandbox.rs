//! What a RUN step sees, and what it cannot reach.
//!
//! The facts of `the_environment` and `mounts` are those of docker's builders.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;

use rustix::process::Pid;
use rustix::process::Signal;

use super::common::Outcome;
use super::common::TestEnv;
use super::common::Who;
use super::common::base::busybox_tar;
use super::common::env::Ids;
use super::common::not_here;
use super::common::skip;

/// What one RUN of `script` on `busybox:test` prints, `args` being options of the build.
#[track_caller]
fn in_a_step(env: &TestEnv, args: &[&str], script: &str) -> Outcome {
    env.busybox();
    let ctx = env.context().file_with_mode("script", 0o755, script);
    let ctx = ctx.file("Dockerfile", "FROM busybox:test\nCOPY script /script\nRUN sh /script\n");
    env.build(&ctx, &[&["--no-cache"], args].concat())
}

/// Builds one line on `busybox:test`.
#[track_caller]
fn run_one(env: &TestEnv, line: &str) -> Outcome {
    env.busybox();
    env.build(&env.dockerfile(&format!("FROM busybox:test\n{line}\n")), &["--no-cache"])
}

/// The process whose command line is exactly this.
fn process_with(line: &str) -> Option<Pid> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.into_iter().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let found = fs::read_to_string(entry.path().join("cmdline")).ok()?.replace('\0', " ");
        (found.trim() == line).then(|| Pid::from_raw(pid))?
    })
}

/// A `sleep` that no other test runs.
fn own_sleep(env: &TestEnv) -> String {
    let place = env.dir().file_name().unwrap().to_str().unwrap();
    format!("sleep 86{}{place:0>4}", std::process::id())
}

both! {
    fn no_step_without_a_network_finds_what_another_did_there(env) {
        env.busybox();
        let lines = "RUN ping -c 1 127.0.0.1\nRUN grep -c 'lo: *0 *0 ' /proc/net/dev && cat /proc/net/snmp\n";
        let ctx = env.dockerfile(&format!("FROM busybox:test\n{lines}"));
        env.build(&ctx, &["--no-cache", "--network", "none"]).ran("1");
    }

    /// PATH, the image's variables, the arguments in scope, HOME; nothing of the builder's.
    fn the_environment(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nENV OWN=1\nARG GIVEN\nRUN env | sort | tr '\\n' '|'\n");
        let build = env.rbuild(&["build", "--build-arg", "GIVEN=2", ctx.path()]);
        let outcome = build.var("CANARY", "leak").var("OTEL_EXPORTER", "leak").var("TRACEPARENT", "leak").ok();
        let line = outcome.both.lines().find(|l| l.contains("OWN=1|")).unwrap_or_else(|| panic!("{outcome}"));
        // The shell itself adds these.
        let of_the_shell = ["PWD=", "SHLVL=", "OLDPWD=", "_="];
        let own: Vec<&str> = line.trim().split('|')
            .filter(|v| !v.is_empty() && !of_the_shell.iter().any(|s| v.starts_with(s))).collect();
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        assert_eq!(own, ["GIVEN=2", "HOME=/root", "OWN=1", path], "{outcome}");
    }

    fn no_environment_of_the_builder_through_proc(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'; echo do''ne\n");
        let build = env.rbuild(&["build", ctx.path()]).var("CANARY", "leaked-value");
        build.ok().ran("done").lacks("leaked-value");
    }

    fn names(env) {
        let outcome = in_a_step(env, &[], "hostname; echo hosts; cat /etc/hosts; echo end\n");
        let host = "buildkitsandbox";
        let words: Vec<String> = outcome.both.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for line in [host, &format!("127.0.0.1 localhost {host}"), "::1 localhost ip6-localhost ip6-loopback"] {
            assert!(words.iter().any(|w| w.ends_with(line)), "{line}\n{outcome}");
        }
    }

    /// Own pid, ipc, uts, mount, cgroup and network namespaces.
    fn namespaces(env) {
        let kinds = ["mnt", "pid", "ipc", "uts", "cgroup", "net"];
        let script = format!("for n in {}; do echo \"ns $(readlink /proc/self/ns/$n)\"; done\n", kinds.join(" "));
        let outcome = in_a_step(env, &["--network", "none"], &script);
        for kind in kinds {
            let own = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            assert!(outcome.both.contains(&format!("ns {kind}:[")), "{outcome}");
            assert!(!outcome.both.contains(own.to_str().unwrap()), "{kind} is shared\n{outcome}");
        }
    }

    fn only_its_own_processes(env) {
        let outcome = in_a_step(env, &[], "echo \"pids $(ls /proc | grep -c '^[0-9]')\"\n");
        let count: usize = outcome.both.lines().find_map(|l| l.split_once("pids ")?.1.trim().parse().ok()).unwrap();
        assert!(count <= 6, "{outcome}");
    }

    /// Capabilities, seccomp and no_new_privs.
    fn rights(env) {
        in_a_step(env, &[], "grep -E '^(Cap|Seccomp|NoNewPrivs)' /proc/self/status | tr -d '\\t'\n")
            .ran("CapInh:0000000000000000")
            .ran("CapPrm:00000000a80425fb")
            .ran("CapEff:00000000a80425fb")
            .ran("CapBnd:00000000a80425fb")
            .ran("NoNewPrivs:0")
            .ran("Seccomp:2");
    }

    fn an_ordinary_user_of_the_step_has_no_capability(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nUSER app\nRUN grep CapEff /proc/self/status | tr -d '\\t'\n");
        env.build(&ctx, &[]).ran("CapEff:0000000000000000");
    }

    fn forbidden_system_calls(env) {
        in_a_step(env, &[], "mount -t tmpfs x /mnt 2>/dev/null || mount -t tmpfs x /tmp || echo no-mount\n\
            unshare -U true || echo no-userns\nmknod /blk b 8 0 && head -c1 /blk || echo no-disk\n\
            echo 1 > /proc/sys/kernel/core_pattern || echo no-sysctl\n")
            .ran("no-mount").ran("no-userns").ran("no-disk").ran("no-sysctl");
    }

    /// What is mounted where, with the options that matter.
    fn mounts(env) {
        let outcome = in_a_step(env, &[], "cat /proc/self/mountinfo | sed 's/^/mount: /'\n");
        // Of `id parent dev root target options ... - type source superoptions`.
        let mounts: Vec<(String, String, String)> = outcome.both.lines()
            .filter_map(|l| l.split_once("mount: ").map(|(_, m)| m))
            .map(|line| {
                let (left, right) = line.split_once(" - ").unwrap();
                let word = |text: &str, n: usize| text.split(' ').nth(n).unwrap().to_owned();
                (word(left, 4), word(right, 0), word(left, 5))
            })
            .collect();
        let check = |target: &str, kinds: &[&str], option: &str| {
            let (_, kind, options) = mounts.iter().rev().find(|(t, ..)| t == target)
                .unwrap_or_else(|| panic!("nothing is mounted at {target}\n{outcome}"));
            assert!(kinds.contains(&kind.as_str()), "{target}: {kind}");
            assert!(options.split(',').any(|o| o == option), "{target}: {option} missing in {options}");
        };
        check("/", &["overlay"], "rw");
        check("/proc", &["proc"], "rw");
        check("/proc", &["proc"], "nosuid");
        for read_only in ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"] {
            check(read_only, &["proc"], "ro");
        }
        for masked in ["/proc/acpi", "/sys/firmware"] {
            if fs::exists(masked).unwrap() {
                check(masked, &["tmpfs"], "ro");
            }
        }
        check("/sys", &["sysfs"], "ro");
        check("/dev", &["tmpfs"], "nosuid");
        check("/dev/pts", &["devpts"], "noexec");
        check("/dev/shm", &["tmpfs"], "nodev");
        check("/dev/mqueue", &["mqueue"], "nosuid");
    }

    fn masked_paths_tell_nothing(env) {
        in_a_step(env, &[], "for f in /proc/keys /proc/timer_list /proc/kcore /proc/sched_debug; do\n\
            test -e $f && test -n \"$(head -c1 $f 2>/dev/null | tr '\\0' x)\" && echo \"shown $f\"; done; echo do''ne\n")
            .ran("done").lacks("shown /proc");
    }

    fn devices(env) {
        let expect = "console|core|fd|full|mqueue|null|ptmx|pts|random|shm|stderr|stdin|stdout|tty|urandom|zero";
        let outcome = in_a_step(env, &[], "echo \"dev $(ls /dev | tr '\\n' '|')\"\nfor d in null zero full random urandom tty; do\n\
            test -c /dev/$d || echo \"no device $d\"; done\necho x > /dev/null && head -c4 /dev/zero | wc -c\n\
            df -k /dev/shm | tail -1 | awk '{print \"shm \" $2}'\n");
        let found = outcome.both.lines().find_map(|l| l.split_once("dev ").map(|(_, d)| d.trim())).unwrap().to_owned();
        let foreign: Vec<&str> = found.split('|').filter(|d| !d.is_empty() && !expect.split('|').any(|e| e == *d)).collect();
        assert!(foreign.is_empty(), "{foreign:?}\n{outcome}");
        outcome.ran("4").ran("shm 65536").lacks("no device");
    }

    /// No descriptor of the builder's is open; a working directory cannot be reached through one.
    fn no_descriptor_leaks_in(env) {
        // 3 is the folder that `ls` reads.
        run_one(env, "RUN echo fds $(ls /proc/self/fd)").ran("fds 0 1 2 3");
        for fd in 3..12 {
            let ctx = env.dockerfile(&format!(
                "FROM busybox:test\nWORKDIR /proc/self/fd/{fd}\nRUN cat etc/shadow ../../../etc/shadow && echo esc''aped\n"));
            env.try_build(&ctx, &[]).did_not_run("escaped");
        }
    }

    fn the_step_sees_the_image_and_not_the_host(env) {
        let secret = env.path("host-only");
        fs::write(&secret, "x").unwrap();
        let script = format!("test -e {} && echo lea''ked; test -e /proc/1/root{} && echo lea''ked; ls / | tr '\\n' ' '; echo do''ne\n",
            secret.display(), secret.display());
        in_a_step(env, &[], &script).ran("done").did_not_run("leaked");
    }

    /// Mount points that had to be made are not in the layer, and what a step does to them hurts nobody.
    fn mount_points_leave_nothing(env) {
        env.busybox();
        let host = env.context().file("f", "host\n");
        let ctx = env.dockerfile("FROM busybox:test\nRUN mkdir /real && ln -sf /etc/passwd /real/link; ls /new/deep/vol; true\n");
        let out = env.export(&ctx, &["-v", &format!("{}:/new/deep/vol", host.path())]);
        let mut paths = out.last_paths();
        // Directories for the kernel's file systems appear where the base has none, as docker has it.
        paths.retain(|p| !["dev", "proc", "sys"].contains(&p.as_str()));
        assert_eq!(paths, ["real", "real/link"]);
        assert_eq!(fs::read_to_string(host.at("f")).unwrap(), "host\n");
    }

    /// resolv.conf and hosts are bound in and cannot be changed; the image's own files stay.
    fn resolv_conf_and_hosts_are_not_in_the_layer(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN test -s /etc/resolv.conf && test -s /etc/hosts && test -s /etc/hostname; touch /mark\n");
        let out = env.export(&ctx, &[]);
        assert!(!out.last_paths().iter().any(|p| p.ends_with("resolv.conf") || p.ends_with("hosts")), "{:?}", out.last_paths());
    }

    fn a_volume_destination_that_is_a_link_stays_inside(env) {
        env.busybox();
        let host = env.context().file("f", "host\n");
        let ctx = env.dockerfile("FROM busybox:test\nRUN ln -s ../../../../../../../../tmp /esc\nRUN cat /tmp/f /esc/f | tr '\\n' ' '; echo do''ne\n");
        env.build(&ctx, &["-v", &format!("{}:/esc", host.path())]).has("done");
        assert!(!fs::exists("/tmp/f").unwrap());
    }

    fn no_network(env) {
        in_a_step(env, &["--network", "none"], "echo \"links $(ls /sys/class/net | tr '\\n' ' ')\"; ip route; \
            wget -T 2 -q -O- http://1.1.1.1/ || echo unreachable\n")
            .has("links lo").ran("unreachable");
    }

    fn the_hosts_network_by_consent(env) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let _ = peer.read(&mut [0; 1024]);
            peer.write_all(b"HTTP/1.0 200 OK\r\n\r\nfrom the host").unwrap();
        });
        let script = format!("wget -q -O- http://127.0.0.1:{port}/; echo\n");
        in_a_step(env, &["--network", "host"], &script).ran("from the host");
        server.join().unwrap();
    }

    /// The private network: own loopback, own resolv.conf, nothing of the host's loopback.
    fn the_hosts_loopback_is_out_of_reach(env) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = format!(
            "echo \"links $(ls /sys/class/net | tr '\\n' ' ')\"\ngrep nameserver /etc/resolv.conf\n\
             for ip in 127.0.0.1 10.0.2.2 10.0.2.3 169.254.1.1 $(ip route | awk '/default/ {{print $3}}'); do\n\
             echo hello | nc -w 2 $ip {port} && echo con''nected; done; echo do''ne\n");
        in_a_step(env, &[], &script).ran("nameserver 10.0.2.3").ran("done").did_not_run("connected");
        assert!(listener.accept().is_err(), "somebody reached the host's loopback");
    }

    fn background_processes_end_with_the_step(env) {
        env.busybox();
        let sleep = own_sleep(env);
        let ctx = env.dockerfile(&format!("FROM busybox:test\nRUN {sleep} & (setsid {sleep} &) ; echo started\n"));
        env.build(&ctx, &["--no-cache"]).ran("started");
        assert!(process_with(&sleep).is_none(), "`{sleep}` still runs");
    }

    fn a_step_killed_by_a_signal_is_told_apart(env) {
        env.busybox();
        let sleep = own_sleep(env);
        let ctx = env.dockerfile(&format!("FROM busybox:test\nRUN echo ready; exec {sleep}\n"));
        let job = env.rbuild(&["build", ctx.path()]).spawn();
        job.wait_for("ready\n");
        // It says so before `exec`, and has its last name only after it.
        let pid = loop {
            match process_with(&sleep) {
                Some(pid) => break pid,
                None => std::thread::yield_now(),
            }
        };
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
        job.finish().fails().has("SIGKILL");
    }

    /// The system call table of 32-bit programs is let through as the other is.
    #[cfg(target_arch = "x86_64")]
    fn programs_of_32_bits_run(env) {
        env.busybox();
        let ctx = env.context().file_with_mode("prog", 0o755, elf32())
            .file("Dockerfile", "FROM busybox:test\nCOPY prog /prog\nRUN /prog; echo code=$?\n");
        env.build(&ctx, &[]).ran("code=42");
    }

    /// Signals, terminal and job control of the step do not touch rbuild.
    fn output_without_a_line_end_and_binary_output(env) {
        let outcome = in_a_step(env, &[], "printf 'no end'; printf '\\033[2J\\377\\n' >&2\n");
        assert!(outcome.both.contains("no end"), "{outcome}");
    }

    /// passwd and group of the image are read inside the image, and not without limit.
    fn a_hostile_passwd(env) {
        env.busybox();
        for line in ["RUN ln -sf ../../../../../../etc/passwd /etc/passwd", "RUN rm /etc/passwd && mkfifo /etc/passwd",
                     "RUN dd if=/dev/zero of=/etc/passwd bs=1M count=3 2>/dev/null"] {
            let ctx = env.dockerfile(&format!("FROM busybox:test\n{line}\nUSER app\nRUN true\n"));
            env.try_build(&ctx, &[]).fails();
        }
    }

    fn doctor_says_what_there_is(env) {
        // Where these tests run, nothing is missing that builds need.
        env.rbuild(&["doctor"]).ok().has_all(&["kernel", "overlayfs", "seccomp", "subordinate ids", "private network"]);
    }
}

/// What the host shares among its mounts (all of them where systemd starts it) stays mounted.
#[test]
fn mounts_of_the_host_stay() {
    super::common::env::run_as(Who::Root, |env| {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo x > /x\n");
        let folder = env.path_str("shared");
        fs::create_dir(&folder).unwrap();
        // In a mount namespace of its own: what is lost is not lost to this machine.
        let script = "mount --make-rshared /; mount -t tmpfs tmpfs \"$0\"; mkdir \"$0/inner\"\n\
                      mount -t tmpfs tmpfs \"$0/inner\"; \"$@\"; grep -q \" $0/inner \" /proc/self/mountinfo; echo still there";
        let outcome = env
            .rbuild(&["build", "--no-cache", ctx.path()])
            .behind(&["unshare", "--mount", "sh", "-ec", script, &folder])
            .ok();
        outcome.has("still there");
    });
}

/// A 32-bit x86 program, `exit(42)`, through `int 0x80`.
#[cfg(target_arch = "x86_64")]
fn elf32() -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    const HEADERS: u32 = 52 + 32;
    let code = [0xb8, 1, 0, 0, 0, 0xbb, 42, 0, 0, 0, 0xcd, 0x80];
    let size = HEADERS + code.len() as u32;
    let mut elf = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let halves = |values: &[u16]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let words = |values: &[u32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    elf.extend(halves(&[2, 3])); // an executable, for i386
    elf.extend(words(&[1, BASE + HEADERS, 52, 0, 0])); // version, entry, program headers, sections, flags
    elf.extend(halves(&[52, 32, 1, 0, 0, 0]));
    elf.extend(words(&[1, 0, BASE, BASE, size, size, 5, 0x1000])); // load it all, readable and executable
    elf.extend(code);
    elf
}

/// Where no private network can be had, every build says once whose network is used.
fn without_a_private_network(who: Who) {
    let env = match TestEnv::new(who) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    let Some(program) =
        ["/usr/bin/slirp4netns", "/usr/local/bin/slirp4netns"].into_iter().find(|p| fs::exists(p).unwrap())
    else {
        return skip("slirp4netns is not installed");
    };
    if !rustix::process::geteuid().is_root() {
        return not_here("only root can hide a program from the command");
    }
    env.busybox();
    let exe = env.exe();
    let hidden = |args: &[&str]| {
        let mut words = vec!["--mount", "sh", "-c", "mount --bind /dev/null \"$0\"; exec \"$@\"", program];
        let become_user: Vec<String> = env.ids().map_or(Vec::new(), |ids| {
            vec![
                "setpriv".into(),
                format!("--reuid={}", ids.uid),
                format!("--regid={}", ids.gid),
                "--clear-groups".into(),
            ]
        });
        words.extend(become_user.iter().map(String::as_str));
        words.push(exe.to_str().unwrap());
        words.extend(args);
        env.program("unshare", &words).without_changing_user().output()
    };
    let ctx = env.dockerfile("FROM busybox:test\nRUN echo one\nRUN echo two\n");
    for _ in 0..2 {
        let outcome = hidden(&["build", "--no-cache", ctx.path()]).ok().ran("two");
        let said = outcome.both.lines().filter(|l| l.contains("slirp4netns is not installed")).count();
        assert_eq!(said, 1, "{outcome}");
    }
    hidden(&["build", "--no-cache", "--network=none", ctx.path()]).ok().lacks("slirp4netns");
    hidden(&["doctor"]).has("slirp4netns");
}

#[test]
fn no_private_network_as_root() {
    without_a_private_network(Who::Root);
}

#[test]
fn no_private_network_as_user() {
    without_a_private_network(Who::User);
}

/// With a single id, a build that needs more fails early and says how to get it.
#[test]
fn a_user_without_subordinate_ids() {
    // Somebody whom /etc/subuid does not know.
    let env = match TestEnv::with_ids(Ids { uid: 54_321, gid: 54_321 }) {
        Ok(env) => env,
        Err(why) => return not_here(&why),
    };
    env.rbuild(&["import", "-", "busybox:test"]).stdin(busybox_tar()).ok();
    env.build(&env.dockerfile("FROM busybox:test\nRUN echo one-id\n"), &[]).ran("one-id");
    let ctx = env.dockerfile("FROM busybox:test\nUSER app\nRUN echo other''-id\n");
    env.try_build(&ctx, &[]).fails().did_not_run("other-id").has_all(&[
        "Dockerfile:3",
        "`app`",
        "/etc/subuid",
        "usermod",
    ]);
}
