//! `rbuild run`: one container in the foreground.

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;

use rustix::process::Signal;

use super::common::env::is_hex;

both! {
    fn the_commands_own_exit_code(env) {
        env.busybox();
        for code in [0, 1, 42, 255] {
            env.run(&["busybox:test", "sh", "-c", &format!("exit {code}")]).exits(code);
        }
    }

    fn codes_125_126_and_127(env) {
        env.busybox();
        env.run(&["--no-such-flag", "busybox:test"]).exits(125);
        env.run(&["no/such:image"]).exits(125).has("no/such:image");
        env.run(&["busybox:test", "/etc/passwd"]).exits(126).has("/etc/passwd");
        env.run(&["busybox:test", "/etc"]).exits(126);
        env.run(&["busybox:test", "no-such-program"]).exits(127).has("no-such-program");
        env.run(&["busybox:test", "/no/such/program"]).exits(127);
    }

    fn a_container_killed_by_a_signal(env) {
        env.busybox();
        env.run(&["busybox:test", "sh", "-c", "sh -c 'kill -TERM $$'; exit $?"]).exits(143);
    }

    fn nothing_to_run(env) {
        env.busybox();
        env.run(&["busybox:test"]).exits(125).has("command");
    }

    fn signals_are_passed_on(env) {
        env.busybox();
        for (signal, name) in [(Signal::TERM, "TERM"), (Signal::INT, "INT"), (Signal::HUP, "HUP"), (Signal::USR1, "USR1")] {
            let script = format!("trap 'echo got-it; exit 7' {name}; echo ready; sleep 86400 & wait");
            let job = env.rbuild(&["run", "--rm", "busybox:test", "sh", "-c", &script]).spawn();
            job.wait_for("ready\n");
            job.signal(signal);
            job.finish().exits(7).has("got-it");
        }
    }

    fn outputs_stay_apart_and_input_comes_in(env) {
        env.busybox();
        let outcome = env.rbuild(&["run", "--rm", "-i", "busybox:test", "sh", "-c", "cat; echo problem >&2"]).stdin("given\n").ok();
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("given\n", "problem\n"));
        env.rbuild(&["run", "--rm", "busybox:test", "cat"]).stdin("not given\n").ok().prints("");
    }

    fn variables(env) {
        env.busybox();
        env.build(&env.dockerfile("FROM busybox:test\nENV A=image B=image\n"), &["-t", "x"]);
        let show = ["x", "sh", "-c", "echo $A $B $C $HOME"];
        env.run(&[&["-e", "A=line", "--env", "C=new"], &show[..]].concat()).ok().prints("line image new /root\n");
        env.rbuild(&[&["run", "--rm", "-e", "C"], &show[..]].concat()).var("C", "outer").ok().prints("image image outer /root\n");
        env.rbuild(&[&["run", "--rm"], &show[..]].concat()).var("C", "outer").ok().prints("image image /root\n");
    }

    fn folder_user_and_entrypoint(env) {
        env.busybox();
        env.build(&env.dockerfile("FROM busybox:test\nWORKDIR /tmp\nUSER app\nENTRYPOINT [\"echo\", \"entry\"]\nCMD [\"cmd\"]\n"), &["-t", "x"]);
        env.run(&["x"]).ok().prints("entry cmd\n");
        env.run(&["x", "own"]).ok().prints("entry own\n");
        env.run(&["--entrypoint", "pwd", "x"]).ok().prints("/tmp\n");
        env.run(&["-w", "/etc", "--entrypoint", "pwd", "x"]).ok().prints("/etc\n");
        env.run(&["-w", "etc", "x"]).exits(125).has("the working directory 'etc' is invalid, it needs to be an absolute path");
        env.run(&["X"]).exits(125).has("must be lowercase");
        env.run(&["--entrypoint", "id", "x", "-u"]).ok().prints("1000\n");
        env.run(&["-u", "0:0", "--entrypoint", "id", "x", "-u"]).ok().prints("0\n");
        env.run(&["--user", "7:8", "--entrypoint", "sh", "x", "-c", "echo $(id -u):$(id -g)"]).ok().prints("7:8\n");
        env.run(&["-u", "nosuch", "x"]).exits(125).has("nosuch");
    }

    fn volumes(env) {
        env.busybox();
        let host = env.context().file("in", "host\n").dir_with_mode("out", 0o777);
        let volume = format!("{}:/vol", host.path());
        env.run(&["-v", &volume, "busybox:test", "sh", "-c", "cat /vol/in; echo back > /vol/out/f"]).ok().prints("host\n");
        assert_eq!(std::fs::read_to_string(host.at("out/f")).unwrap(), "back\n");
        env.run(&["-v", &format!("{volume}:ro"), "busybox:test", "touch", "/vol/out/g"]).exits(1);
        // A folder that is not there is made.
        env.run(&["-v", &format!("{}:/vol", host.at("made")), "busybox:test", "touch", "/vol/f"]).ok();
        assert!(std::fs::exists(host.at("made/f")).unwrap());
    }

    /// A running container keeps its own image, and nothing else, from being removed.
    fn images_are_removed_while_a_container_runs(env) {
        env.busybox();
        env.build(&env.dockerfile("FROM scratch\nCOPY f /unlikely-name\n").file("f", "x"), &["-t", "other"]);
        env.rbuild(&["import", env.context().file("another-name", "x").path(), "third"]).ok();
        let stored = |name: &str| walkdir::WalkDir::new(env.store()).into_iter().flatten().filter(|e| e.file_name() == name).count();
        let script = "echo rea''dy; read x; ls /etc/group";
        let mut job = env.rbuild(&["run", "--rm", "-i", "busybox:test", "sh", "-c", script]).stdin_pipe().spawn();
        job.wait_for("ready\n");
        env.rbuild(&["rmi", "third"]).ok().has("Deleted: ");
        assert_eq!((stored("another-name"), stored("unlikely-name")), (0, 1), "a record names the other one");
        env.rbuild(&["rmi", "busybox:test"]).exits(1).has("conflict: ");
        env.rbuild(&["rmi", "-f", "busybox:test"]).ok().prints("Untagged: busybox:test\n");
        job.write(b"\n");
        job.finish().ok().has("/etc/group");
    }

    fn writes_do_not_reach_the_image(env) {
        env.busybox();
        env.run(&["busybox:test", "sh", "-c", "rm /etc/group; echo x > /new; ls /new"]).ok();
        env.run(&["busybox:test", "sh", "-c", "ls /etc/group; test -e /new || echo gone"]).ok().prints("/etc/group\ngone\n");
    }

    fn the_streams_that_are_attached(env) {
        env.busybox();
        let script = "echo out; echo err >&2; exit 3";
        let run = |options: &[&str]| env.run(&[options, &["busybox:test", "sh", "-c", script]].concat()).exits(3);
        let said = |options: &[&str]| (run(options).stdout, run(options).stderr);
        assert_eq!(said(&["-a", "stdout"]), ("out\n".to_owned(), String::new()));
        assert_eq!(said(&["--attach", "STDERR"]), (String::new(), "err\n".to_owned()));
        assert_eq!(said(&["-a", "stdout", "-a", "stderr"]), ("out\n".to_owned(), "err\n".to_owned()));
        // With the input alone it runs on behind this command, whose word is its id.
        let fed = env.rbuild(&["run", "-i", "-a", "stdin", "--name", "fed", "busybox:test", "sh", "-c", "cat; exit 4"]);
        assert_eq!(fed.stdin("typed\n").ok().stdout.len(), 65);
        env.rbuild(&["wait", "fed"]).ok();
        env.rbuild(&["logs", "fed"]).ok().prints("typed\n");
        let show = "{{.Config.AttachStdin}} {{.Config.AttachStdout}} {{.Config.StdinOnce}}";
        env.rbuild(&["inspect", "-f", show, "fed"]).ok().prints("true false true\n");
        env.run(&["-a", "output", "busybox:test", "true"]).exits(125).has("stdin, stdout, stderr");
        env.run(&["-d", "-a", "stdout", "busybox:test", "true"]).exits(1).has("cannot specify both --attach and --detach");
    }

    /// As docker's client, which asks for no container then.
    fn codes_of_what_is_asked_for_wrongly(env) {
        env.rbuild(&["run"]).exits(1).has("<IMAGE>");
        env.rbuild(&["container", "run", "--rm"]).exits(1).has("<IMAGE>");
        env.rbuild(&["run", "-it", "busybox:test"]).exits(1).has("the input device is not a TTY");
        env.rbuild(&["container", "run", "--nope"]).exits(125);
    }

    /// Its own group is one of the others too, as with runc.
    fn the_groups_of_a_user(env) {
        env.busybox();
        let groups = |options: &[&str]| {
            let words = ["busybox:test", "grep", "Groups:", "/proc/self/status"];
            env.run(&[options, &words].concat()).ok().stdout.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(groups(&["-u", "7:8"]), "8");
        assert_eq!(groups(&["-u", "7:8", "--group-add", "9"]), "8 9");
    }

    /// Through `script`, which gives a terminal.
    fn a_terminal(env) {
        env.busybox();
        let exe = env.exe();
        let line = format!("{} run --rm -it busybox:test sh -c 'tty; stty size; echo $TERM; exit 5'", exe.display());
        let outcome = env.program("script", &["-qec", &line, "/dev/null"]).var("TERM", "xterm-256color").output();
        let outcome = outcome.exits(5).has("/dev/pts/");
        assert!(outcome.stdout.contains("xterm"), "{outcome}");
        env.rbuild(&["run", "--rm", "-it", "busybox:test", "tty"]).fails().has("terminal");
    }

    /// Ctrl-C at the terminal reaches the program, as a byte and then as its signal.
    fn control_c_at_the_terminal(env) {
        env.busybox();
        let exe = env.exe();
        let line = format!("{} run --rm -it busybox:test sh -c 'trap \"echo got-int; exit 9\" INT; echo ready; while :; do read x; done'", exe.display());
        let mut job = env.program("script", &["-qec", &line, "/dev/null"]).stdin_pipe().spawn();
        job.wait_for("ready\r\n");
        job.write(b"\x03");
        job.wait_for("got-int");
        job.finish().exits(9);
    }

    fn without_a_terminal_there_is_none(env) {
        env.busybox();
        env.run(&["busybox:test", "sh", "-c", "test -t 0 || test -t 1 || echo no-tty"]).ok().prints("no-tty\n");
    }

    fn networks(env) {
        env.busybox();
        let links = |mode: &str| env.run(&["--network", mode, "busybox:test", "ls", "/sys/class/net"]).ok().stdout;
        assert_eq!(links("none"), "lo\n");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            peer.write_all(b"from the host").unwrap();
        });
        let ask = format!("nc -w 5 127.0.0.1 {port} < /dev/null");
        let reach = |mode: &str| env.run(&["--network", mode, "busybox:test", "sh", "-c", &ask]);
        reach("none").fails();
        reach("default").fails();
        reach("host").ok().prints("from the host");
        server.join().unwrap();
    }

    fn a_published_port(env) {
        env.busybox();
        // Bound and released: free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let publish = format!("127.0.0.1:{port}:80");
        let script = "echo rea''dy; echo served | nc -l -p 80";
        let job = env.rbuild(&["run", "--rm", "-p", &publish, "busybox:test", "sh", "-c", script]).spawn();
        job.wait_for("ready\n");
        // `nc` listens a moment after it was started: ask until there is an answer.
        let answer = loop {
            let mut text = String::new();
            if let Ok(mut peer) = TcpStream::connect(("127.0.0.1", port)) {
                let _ = peer.write_all(b"hello\n");
                let _ = peer.read_to_string(&mut text);
            }
            if !text.is_empty() {
                break text;
            }
            std::thread::yield_now();
        };
        assert_eq!(answer, "served\n");
        job.signal(Signal::TERM);
        job.finish();
    }

    fn a_port_that_is_taken(env) {
        env.busybox();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let publish = format!("127.0.0.1:{}:80", taken.local_addr().unwrap().port());
        env.run(&["-p", &publish, "busybox:test", "echo", "ran"]).exits(125).lacks("ran\n");
        for bad in ["x:80", "80:99999", "1.2.3:1:2", ""] {
            env.run(&["-p", bad, "busybox:test", "true"]).exits(125);
        }
    }

    fn the_host_name_is_the_containers_short_id(env) {
        env.busybox();
        let name = env.run(&["busybox:test", "hostname"]).ok().stdout;
        assert!(is_hex(name.trim(), 12), "{name}");
    }

    fn rights_are_those_of_docker(env) {
        env.busybox();
        env.run(&["busybox:test", "grep", "-E", "CapBnd|CapInh|Seccomp:", "/proc/self/status"]).ok()
            .has("a80425fb").has("CapInh:\t0000000000000000").has("Seccomp:\t2");
    }
}
